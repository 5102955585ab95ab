"""Conduit's endpoints on each back end, sync and async; the contract on its repositories, the twins on its articles."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sqlrepo import BaseUnitOfWork, InvalidValueError, exists, fields, not_, via
from sqlrepo.sqlalchemy import AsyncDatabase
from sqlrepo.testing import Harness, RepositoryContract, TwinContract, query_budget
from tests.applications.conduit import (
    Article,
    ArticlePage,
    ArticleQuery,
    Articles,
    ArticleView,
    AsyncConduit,
    Base,
    Comment,
    CommentQuery,
    Comments,
    CommentView,
    Conduit,
    Favourite,
    Favourites,
    Follow,
    Follows,
    User,
    Users,
)
from tests.applications.conftest import KINDS

DAY = datetime(2024, 2, 28, 12, tzinfo=UTC)
PEOPLE = ["ann", "bob", "cleo", "dan"]
#: slug, author, tags, days after the first
ARTICLES = [
    ("trees", "ann", ["nature", "long"], 0),
    ("rivers", "bob", ["nature"], 1),
    ("taxes", "bob", [], 1),
    ("stars", "cleo", ["long", "night"], 2),
]
NEWEST_FIRST = ["stars", "taxes", "rivers", "trees"]
FAVOURITES = [("trees", "bob"), ("trees", "cleo"), ("stars", "ann")]
FOLLOWS = [("ann", "bob"), ("ann", "cleo"), ("bob", "ann")]

a, c = fields(Article), fields(Comment)


@pytest.fixture
def base():
    return Base


def make_user(name):
    return User(username=name, email=f"{name}@example.org")


def make_articles(users):
    return [
        Article(slug=slug, title=slug.title(), author_id=users[author], tags=tags, created_at=DAY + timedelta(days))
        for slug, author, tags, days in ARTICLES
    ]


@pytest.fixture
def users(db):
    """Ids by name, of a store filled with what is above."""
    with Conduit(db) as conduit:
        users = {user.username: user.id for user in conduit.users.add_many(map(make_user, PEOPLE))}
        articles = {article.slug: article.id for article in conduit.articles.add_many(make_articles(users))}
        conduit.follows.add_many([Follow(follower_id=users[one], followed_id=users[other]) for one, other in FOLLOWS])
        conduit.favourites.add_many(
            [Favourite(article_id=articles[slug], user_id=users[name]) for slug, name in FAVOURITES]
        )
        conduit.comments.add_many(
            [
                Comment(article_id=articles["trees"], author_id=users[name], body=f"{name}'s", created_at=DAY)
                for name in ("cleo", "bob")
            ]
        )
    return users


@pytest.fixture
def conduit(db, users):
    with Conduit(db, context=users["ann"]) as conduit:
        yield conduit


def slugs(articles):
    return [article.slug for article in articles]


class TestLists:
    def test_by_tag_author_and_who_favourited(self, conduit):
        def found(**filters):
            return slugs(conduit.articles.find(ArticleQuery(**filters)))

        assert found() == NEWEST_FIRST
        assert found(tags__eq="nature") == ["rivers", "trees"]
        assert found(author_id__username="bob") == ["taxes", "rivers"]
        assert found(favourited_by="bob") == ["trees"]
        assert found(favourited_by="dan") == found(author_id__username="nobody") == []
        assert found(order_by="author_id__username,-id") == ["trees", "taxes", "rivers", "stars"]
        assert found(tags__eq="long", author_id__username="ann", favourited_by="cleo") == ["trees"]

    def test_the_feed_is_of_those_who_are_followed(self, conduit, users):
        def feed(name):
            return slugs(conduit.articles.find(ArticleQuery(feed_of=users[name])))

        assert feed("ann") == ["stars", "taxes", "rivers"]
        assert feed("bob") == ["trees"]
        assert feed("dan") == []

    def test_negations_keep_the_rest(self, conduit):
        liked = exists(Favourite, lambda f: f.article_id == a.id)
        assert slugs(conduit.articles.find(not_(liked), order_by="slug")) == ["rivers", "taxes"]
        assert slugs(conduit.articles.find(not_(exists(a.tags)))) == ["taxes"]
        assert slugs(conduit.articles.find(not_(via(a.author_id, User).username == "bob"), order_by="slug")) == [
            "stars",
            "trees",
        ]

    def test_pages_and_cursors(self, conduit):
        first = conduit.articles.page(ArticleQuery(limit=3), with_total=True)
        assert (slugs(first.items), first.has_next, first.total) == (NEWEST_FIRST[:3], True, 4)
        feed = ArticleQuery(limit=2, feed_of=conduit.context)
        first = conduit.articles.scroll(feed)
        second = conduit.articles.scroll(feed, after=first.next)
        assert [slugs(page.items) for page in (first, second)] == [NEWEST_FIRST[:2], NEWEST_FIRST[2:3]]
        assert conduit.articles.scroll(feed, before=second.previous).items == first.items

    def test_comments_by_article_and_their_authors_names(self, conduit):
        def bodies(**filters):
            return [comment.body for comment in conduit.comments.find(CommentQuery(**filters))]

        assert bodies(article_id__slug="trees") == ["cleo's", "bob's"]
        assert bodies(article_id__slug="trees", order_by="author_id__username,id") == ["bob's", "cleo's"]
        assert bodies(author_id__username_in=["bob", "dan"]) == ["bob's"]
        assert bodies(article_id__slug="stars") == []

    def test_comments_in_the_order_of_names_by_cursor(self, conduit):
        query = CommentQuery(order_by="author_id__username,id", limit=1)
        first = conduit.comments.scroll(query)
        second = conduit.comments.scroll(query, after=first.next)
        back = conduit.comments.scroll(query, before=second.previous)
        assert [page.items[0].body for page in (first, second, back)] == ["bob's", "cleo's", "bob's"]
        assert second.next is None


class TestViews:
    def test_a_list_shows_authors_tags_counts_and_flags(self, conduit):
        with query_budget(6):  # articles, tags, authors, who is followed, counts, favourites
            page = conduit.articles.page(ArticleQuery(), into=ArticleView).items
        assert slugs(page) == NEWEST_FIRST
        assert [(one.author.username, one.author.following) for one in page] == [
            ("cleo", True),
            ("bob", True),
            ("bob", True),
            ("ann", False),
        ]
        assert [one.tags for one in page] == [["long", "night"], [], ["nature"], ["nature", "long"]]
        assert [(one.favourites__count, one.favourited) for one in page] == [
            (1, True),
            (0, False),
            (0, False),
            (2, False),
        ]

    def test_answers_have_the_names_of_the_api(self, conduit):
        answer = conduit.articles.one(slug="stars", into=ArticleView).model_dump(by_alias=True)
        assert answer["tagList"] == ["long", "night"]
        assert answer["favoritesCount"] == 1
        assert answer["author"] == {"username": "cleo", "image": None, "following": True}

    def test_nobody_known_has_no_flags(self, db, users):
        with Conduit(db) as conduit:
            page = conduit.articles.find(ArticleQuery(), into=ArticleView)
        assert [(one.favourited, one.author.following) for one in page] == [(False, False)] * 4

    def test_pages_and_cursors_go_on_as_without_a_view(self, conduit):
        query = ArticleQuery(limit=3)
        first = conduit.articles.scroll(query, into=ArticleView)
        second = conduit.articles.scroll(query, after=first.next, into=ArticleView)
        assert slugs(first.items + second.items) == NEWEST_FIRST
        assert first.next == conduit.articles.scroll(query).next

    def test_an_article_shows_comments_with_their_authors(self, conduit):
        shown = conduit.articles.one(slug="trees", into=ArticlePage)
        assert [(one.body, one.author.username, one.author.following) for one in shown.comments] == [
            ("cleo's", "cleo", True),
            ("bob's", "bob", True),
        ]
        assert conduit.articles.one(slug="stars", into=ArticlePage).comments == []

    def test_comments_by_themselves(self, conduit):
        query = CommentQuery(article_id__slug="trees", order_by="author_id__username,id")
        with query_budget(3):
            found = conduit.comments.find(query, into=CommentView)
        assert [(one.author.username, one.author.following) for one in found] == [("bob", True), ("cleo", True)]


class TestWriting:
    def test_tags_keep_their_order_and_count_as_a_change(self, conduit):
        trees = conduit.articles.one(slug="trees")
        changed = conduit.articles.update(trees.model_copy(update={"tags": ["new", "long", "nature"]}))
        assert conduit.articles.get(trees.id) == changed
        assert (changed.tags, changed.version) == (["new", "long", "nature"], 2)

    def test_a_tag_is_given_once(self, conduit):
        trees = conduit.articles.one(slug="trees")
        with pytest.raises(InvalidValueError, match=r"tags\[1\]"):
            conduit.articles.patch(trees.id, {"tags": ["long", "long"]})

    def test_what_belongs_to_an_article_goes_with_it(self, conduit):
        conduit.articles.delete_where(slug="trees")
        assert conduit.comments.count() == 0
        assert conduit.favourites.count() == 1

    def test_favouriting_twice_is_favouriting_once(self, conduit, users):
        mark = Favourite(article_id=conduit.articles.one(slug="taxes").id, user_id=users["ann"])
        with query_budget(3):
            conduit.favourites.save(mark)
        conduit.favourites.save(mark)
        assert slugs(conduit.articles.find(ArticleQuery(favourited_by="ann"))) == ["stars", "taxes"]


class TestAsync:
    def test_the_same_calls_are_awaited(self, async_db):
        asyncio.run(use(async_db()))


async def use(db):
    async with AsyncConduit(db) as conduit:
        users = {user.username: user.id for user in await conduit.users.add_many(map(make_user, PEOPLE))}
        articles = {one.slug: one.id for one in await conduit.articles.add_many(make_articles(users))}
        await conduit.follows.add(Follow(follower_id=users["ann"], followed_id=users["bob"]))
        await conduit.favourites.add_many(
            Favourite(article_id=articles[slug], user_id=users[name]) for slug, name in FAVOURITES
        )
        await conduit.articles.patch(articles["trees"], {"tags": ["tall", "nature"]})
    async with AsyncConduit(db, context=users["ann"]) as conduit:
        feed = await conduit.articles.page(ArticleQuery(feed_of=users["ann"]), with_total=True, into=ArticleView)
        assert (slugs(feed.items), feed.total) == (["taxes", "rivers"], 2)
        assert feed.items[0].author.following
        assert slugs(await conduit.articles.find(ArticleQuery(favourited_by="bob"))) == ["trees"]
        trees = await conduit.articles.one(slug="trees", into=ArticlePage)
        assert (trees.tags, trees.favourites__count, trees.comments) == (["tall", "nature"], 2, [])
        streamed = [one.slug async for one in conduit.articles.stream(order_by="slug", into=ArticleView)]
        assert streamed == ["rivers", "stars", "taxes", "trees"]
        authors = await conduit.articles.counts(via(a.author_id, User).username)
        assert authors == {"ann": 1, "bob": 2, "cleo": 1}
    if isinstance(db, AsyncDatabase):
        await db.dispose()


def at(n):
    return DAY + timedelta(days=n % 4)


class Contract:
    @pytest.fixture
    def harness(self, db):
        with Conduit(db) as conduit:
            users = conduit.users.add_many(make_user(f"user {n}") for n in range(16)) if self.refers else []
            if self.refers > 1:
                conduit.articles.add_many(
                    Article(slug=f"slug {n}", title="t", author_id=users[0].id, created_at=DAY) for n in range(16)
                )
        return Harness(open=lambda: self.alone(db), make=self.make, change=self.change)

    refers = 1  # to users; 2: to articles too


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestUsers(Contract, RepositoryContract[User, int]):
    alone, refers = Users, 0
    make = staticmethod(lambda n: User(username=f"u{n}", email=f"{n}@example.org", image=f"{n}.png" if n % 2 else None))
    change = staticmethod(lambda user: user.model_copy(update={"bio": "changed"}))


class TestArticles(Contract, RepositoryContract[Article, int]):
    alone = Articles
    make = staticmethod(
        lambda n: Article(
            slug=f"s{n}", title=f"Title {n % 3}", author_id=n, tags=["b", "a", "c"][: n % 4], created_at=at(n)
        )
    )
    change = staticmethod(lambda article: article.model_copy(update={"title": "changed"}))


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestComments(Contract, RepositoryContract[Comment, int]):
    alone, refers = Comments, 2
    make = staticmethod(lambda n: Comment(article_id=n, author_id=n % 3 + 1, body=f"{n}", created_at=at(n)))
    change = staticmethod(lambda comment: comment.model_copy(update={"body": "changed"}))


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestFavourites(Contract, RepositoryContract[Favourite, tuple[int, int]]):
    alone, refers = Favourites, 2
    make = staticmethod(lambda n: Favourite(article_id=n, user_id=n % 3 + 1))
    change = staticmethod(lambda favourite: favourite)


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestFollows(Contract, RepositoryContract[Follow, tuple[int, int]]):
    alone = Follows
    make = staticmethod(lambda n: Follow(follower_id=n, followed_id=n % 3 + 1))
    change = staticmethod(lambda follow: follow)


class Press(BaseUnitOfWork):
    users: Users
    articles: Articles
    favourites: Favourites


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
class TestPressTwins(TwinContract):
    unit = Press
    queries = {"articles": ArticleQuery}
    programs = 6

    @pytest.fixture
    def database(self, db):
        return db

"""Conduit's articles (the RealWorld specification): by tag, author, who favourited them, and the feed of the followed.

On every backend, with the counts and flags that a list of articles shows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, HasMany, QueryObject, Where, exists, fields, via
from sqlrepo.testing import query_budget
from tests.units.domain import database


class User(BaseModel):
    id: int | None = None
    username: str


class Article(BaseModel):
    id: int | None = None
    slug: str
    author_id: int
    tag_list: frozenset[str] = frozenset()
    version: int = 1


class Favorite(BaseModel):
    user_id: int
    article_id: int


class Follow(BaseModel):
    follower_id: int
    followed_id: int


a = fields(Article)


def favorited_by(article: Article, name: str) -> bool:
    return exists(Favorite, lambda one: (one.article_id == article.id) & (via(one.user_id, User).username == name))


def in_feed_of(article: Article, user: int) -> bool:
    return exists(Follow, lambda one: (one.followed_id == article.author_id) & (one.follower_id == user))


class ArticleQuery(QueryObject[Article]):
    tag: Annotated[str | None, Where(lambda article, tag: exists(article.tag_list, lambda one: one == tag))] = None
    author_id__username: str | None = None
    favorited: Annotated[str | None, Where(favorited_by)] = None
    feed_of: Annotated[int | None, Where(in_feed_of)] = None
    order_by: Literal["-id", "author_id__username,-id"] = "-id"
    limit: int = 20
    offset: int = 0


class Profile(BaseModel):
    username: str


class ArticleView(BaseModel):
    slug: str
    author: Profile
    tag_list: frozenset[str]
    favorites__count: int
    favorited: Annotated[
        bool,
        Where(lambda article, me: exists(Favorite, lambda one: (one.article_id == article.id) & (one.user_id == me))),
    ]


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(60)}


class UserRow(Base):
    __tablename__ = "conduit_user"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)


class ArticleRow(Base):
    __tablename__ = "conduit_article"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(UserRow.id))
    version: Mapped[int]
    favorites: Mapped[list[FavoriteRow]] = relationship()


class TagRow(Base):
    __tablename__ = "conduit_tag"
    article_id: Mapped[int] = mapped_column(sa.ForeignKey(ArticleRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


class FavoriteRow(Base):
    __tablename__ = "conduit_favorite"
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(UserRow.id), primary_key=True)
    article_id: Mapped[int] = mapped_column(sa.ForeignKey(ArticleRow.id, ondelete="CASCADE"), primary_key=True)


class FollowRow(Base):
    __tablename__ = "conduit_follow"
    follower_id: Mapped[int] = mapped_column(sa.ForeignKey(UserRow.id), primary_key=True)
    followed_id: Mapped[int] = mapped_column(sa.ForeignKey(UserRow.id), primary_key=True)


class Users(BaseRepository[User, int]):
    model = UserRow


class Articles(BaseRepository[Article, int]):
    model = ArticleRow
    version = "version"
    parts = {"tag_list": HasMany(TagRow, value="name")}


class Favorites(BaseRepository[Favorite, tuple[int, int]]):
    model = FavoriteRow


class Follows(BaseRepository[Follow, tuple[int, int]]):
    model = FollowRow


class Conduit(BaseUnitOfWork[int]):
    users: Users
    articles: Articles
    favorites: Favorites
    follows: Follows


JAKE, ANNA, CARL = 1, 2, 3
ON_A_SERVER = [pytest.param(name, marks=pytest.mark.repeats) for name in ("postgresql", "mariadb")]


@pytest.fixture(params=["memory", "sqlite", *ON_A_SERVER])
def conduit(request):
    db = database(request.param, Base)
    with Conduit(db) as unit:
        unit.users.add_many(User(username=name) for name in ("jake", "anna", "carl"))
        unit.articles.add_many(
            [
                Article(slug="dragons", author_id=JAKE, tag_list={"dragons", "training"}),
                Article(slug="knights", author_id=ANNA, tag_list={"training"}),
                Article(slug="castles", author_id=ANNA),
                Article(slug="moats", author_id=CARL, tag_list={"castles"}),
            ]
        )
        unit.favorites.add_many(
            Favorite(user_id=user, article_id=article) for user, article in ((1, 2), (3, 2), (2, 1), (3, 4))
        )
        unit.follows.add_many(
            [
                Follow(follower_id=JAKE, followed_id=ANNA),
                Follow(follower_id=CARL, followed_id=ANNA),
                Follow(follower_id=CARL, followed_id=JAKE),
            ]
        )
    with Conduit(db, context=JAKE) as unit:
        yield unit
    db.dispose()


@pytest.mark.parametrize(
    ("query", "slugs"),
    [
        (ArticleQuery(), ["moats", "castles", "knights", "dragons"]),
        (ArticleQuery(tag="training"), ["knights", "dragons"]),
        (ArticleQuery(tag="nothing"), []),
        (ArticleQuery(author_id__username="anna"), ["castles", "knights"]),
        (ArticleQuery(favorited="carl"), ["moats", "knights"]),
        (ArticleQuery(favorited="anna", tag="dragons"), ["dragons"]),
        (ArticleQuery(feed_of=JAKE), ["castles", "knights"]),
        (ArticleQuery(feed_of=CARL, limit=2), ["castles", "knights"]),
        (ArticleQuery(feed_of=CARL, limit=2, offset=2), ["dragons"]),
        (ArticleQuery(feed_of=ANNA), []),
        (ArticleQuery(order_by="author_id__username,-id"), ["castles", "knights", "moats", "dragons"]),
    ],
)
def test_articles_are_found(conduit, query, slugs):
    assert [article.slug for article in conduit.articles.page(query).items] == slugs
    assert [article.slug for article in conduit.articles.page(query, into=ArticleView).items] == slugs


def test_filter_takes_two_statements_with_the_tags(conduit):
    with query_budget(2):
        [article] = conduit.articles.find(ArticleQuery(favorited="anna", tag="dragons"))
    assert article.tag_list == {"dragons", "training"}


def test_list_counts_and_flags_favorites(conduit):
    views = conduit.articles.page(ArticleQuery(), into=ArticleView).items

    assert {view.slug: (view.favorites__count, view.favorited) for view in views} == {
        "moats": (1, False),
        "castles": (0, False),
        "knights": (2, True),
        "dragons": (1, False),
    }
    assert [view.author.username for view in views] == ["carl", "anna", "anna", "jake"]
    assert views[3].tag_list == {"dragons", "training"}


def test_list_costs_the_same_however_long(conduit):
    with query_budget(99) as short:
        conduit.articles.page(ArticleQuery(limit=1), into=ArticleView)
    with query_budget(short.count):
        conduit.articles.page(ArticleQuery(), into=ArticleView)


def test_favoriting_is_one_row(conduit):
    castles = conduit.articles.one(slug="castles")
    with query_budget(1):
        conduit.favorites.add(Favorite(user_id=JAKE, article_id=castles.id))
    assert conduit.articles.get(castles.id, into=ArticleView).favorites__count == 1
    conduit.favorites.delete((JAKE, castles.id))
    assert conduit.articles.get(castles.id, into=ArticleView).favorited is False

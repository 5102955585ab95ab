"""Conduit, the RealWorld application: articles with tags, comments and favourites, and users who follow each other."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    QueryObject,
    Where,
    exists,
    via,
)
from sqlrepo.sqlalchemy.types import Instant

# -- domain


class User(BaseModel):
    id: int | None = None
    username: str
    email: str
    bio: str = ""
    image: str | None = None


class Follow(BaseModel, frozen=True):
    follower_id: int
    followed_id: int


class Article(BaseModel):
    id: int | None = None
    slug: str
    title: str
    description: str = ""
    body: str = ""
    author_id: int
    tags: list[str] = []
    created_at: datetime
    version: int = 1


class Favourite(BaseModel, frozen=True):
    article_id: int
    user_id: int


class Comment(BaseModel):
    id: int | None = None
    article_id: int
    author_id: int
    body: str
    created_at: datetime


# -- storage


class Base(DeclarativeBase):
    type_annotation_map = {str: String(200), datetime: Instant()}


class UserRow(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str] = mapped_column(unique=True)
    bio: Mapped[str]
    image: Mapped[str | None]


class FollowRow(Base):
    __tablename__ = "follows"
    follower_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    followed_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)


class ArticleRow(Base):
    __tablename__ = "articles"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    description: Mapped[str]
    body: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    version: Mapped[int]
    comments: Mapped[list["CommentRow"]] = relationship(order_by="CommentRow.created_at")
    favourites: Mapped[list["FavouriteRow"]] = relationship()


class TagRow(Base):
    __tablename__ = "article_tags"
    article_id: Mapped[int] = mapped_column(ForeignKey("articles.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]


class FavouriteRow(Base):
    __tablename__ = "favourites"
    article_id: Mapped[int] = mapped_column(ForeignKey("articles.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)


class CommentRow(Base):
    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    article_id: Mapped[int] = mapped_column(ForeignKey("articles.id", ondelete="CASCADE"))
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    body: Mapped[str]
    created_at: Mapped[datetime]


TAGS = {"tags": HasMany(TagRow, value="name", order="position")}


class Users(BaseRepository[User, int]):
    model = UserRow


class Follows(BaseRepository[Follow, tuple[int, int]]):
    model = FollowRow


class Articles(BaseRepository[Article, int]):
    model = ArticleRow
    version = "version"
    parts = TAGS


class Favourites(BaseRepository[Favourite, tuple[int, int]]):
    model = FavouriteRow


class Comments(BaseRepository[Comment, int]):
    model = CommentRow


class Conduit(BaseUnitOfWork[int | None]):
    """Its context is the id of the user who asks; None if that is nobody known."""

    users: Users
    follows: Follows
    articles: Articles
    favourites: Favourites
    comments: Comments


# -- what may be asked


class ArticleQuery(QueryObject[Article]):
    tags__eq: str | None = None
    author_id__username: str | None = None
    favourited_by: Annotated[
        str | None,
        Where(
            lambda a, name: exists(
                Favourite, lambda f: (f.article_id == a.id) & (via(f.user_id, User).username == name)
            )
        ),
    ] = None
    feed_of: Annotated[
        int | None,
        Where(lambda a, me: exists(Follow, lambda f: (f.followed_id == a.author_id) & (f.follower_id == me))),
    ] = None
    order_by: Literal["-created_at,-id", "author_id__username,-id"] = "-created_at,-id"
    limit: int = 20
    offset: int = 0


class CommentQuery(QueryObject[Comment]):
    article_id__slug: str | None = None
    author_id__username_in: list[str] | None = None
    order_by: Literal["id", "author_id__username,id"] = "id"
    limit: int = 20


# -- what is shown


class Profile(BaseModel):
    username: str
    image: str | None
    following: Annotated[
        bool, Where(lambda u, me: exists(Follow, lambda f: (f.followed_id == u.id) & (f.follower_id == me)))
    ]


class ArticleView(BaseModel):
    slug: str
    title: str
    created_at: datetime
    tags: list[str] = Field(serialization_alias="tagList")
    author: Profile
    favourites__count: int = Field(serialization_alias="favoritesCount")
    favourited: Annotated[
        bool, Where(lambda a, me: exists(Favourite, lambda f: (f.article_id == a.id) & (f.user_id == me)))
    ]


class CommentView(BaseModel):
    id: int
    body: str
    author: Profile


class ArticlePage(ArticleView):
    body: str
    comments: list[CommentView]


# -- the same, asynchronously


class AsyncUsers(AsyncBaseRepository[User, int]):
    model = UserRow


class AsyncFollows(AsyncBaseRepository[Follow, tuple[int, int]]):
    model = FollowRow


class AsyncArticles(AsyncBaseRepository[Article, int]):
    model = ArticleRow
    version = "version"
    parts = TAGS


class AsyncFavourites(AsyncBaseRepository[Favourite, tuple[int, int]]):
    model = FavouriteRow


class AsyncComments(AsyncBaseRepository[Comment, int]):
    model = CommentRow


class AsyncConduit(AsyncBaseUnitOfWork[Any]):
    users: AsyncUsers
    follows: AsyncFollows
    articles: AsyncArticles
    favourites: AsyncFavourites
    comments: AsyncComments

"""The domain of the help desk: its entities, query objects, views and a summary."""

from datetime import datetime
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, Field

from sqlrepo import QueryObject, Summary, Where, exists, fields, icontains, via

Status: TypeAlias = Literal["open", "waiting", "closed"]


class Caller(NamedTuple):
    """Who asks: the context of each unit of work."""

    tenant_id: int
    user_id: int


class Owned(BaseModel):
    """The base class of entities that belong to a tenant; clients do not see which."""

    tenant_id: int = Field(exclude=True)


class Entity(Owned):
    id: int | None = None


class Team(Entity):
    name: str


class User(Entity):
    team_id: int
    name: str


class Project(Entity):
    team_id: int
    name: str


class Tag(Entity):
    name: str


class Ticket(Entity):
    project_id: int
    assignee_id: int | None = None
    title: str
    body: str = ""
    status: Status = "open"
    priority: int = 0
    created_at: datetime
    deleted: bool = Field(default=False, exclude=True)
    tag_ids: frozenset[int] = frozenset()
    version: int = 1


class Comment(Entity):
    ticket_id: int
    author_id: int
    body: str
    created_at: datetime


class Star(Owned):
    ticket_id: int
    user_id: int


owned, e, t, c = fields(Owned), fields(Entity), fields(Ticket), fields(Comment)


# -- query objects


class TicketFilters(QueryObject[Ticket]):
    status: Status | None = None
    project_id: int | None = None
    assignee: Annotated[str | None, Where(lambda t, name: via(t.assignee_id, User).name == name)] = None
    tag: Annotated[str | None, Where(lambda t, name: exists(t.tag_ids, lambda key: via(key, Tag).name == name))] = None
    text: Annotated[str | None, Where(lambda t, text: icontains(t.title, text) | icontains(t.body, text))] = None


class TicketQuery(TicketFilters):
    order_by: Literal["-created_at", "created_at", "-priority", "title", "project_id__name"] = "-created_at"
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0)


# -- views and summaries


class Brief(BaseModel):
    id: int
    name: str


class CommentView(BaseModel):
    id: int
    body: str
    created_at: datetime
    author: Brief | None


class TicketBrief(BaseModel):
    id: int
    title: str
    status: str
    priority: int
    created_at: datetime
    version: int
    project: Brief | None
    assignee: Brief | None
    tags: list[Brief]
    starred: Annotated[
        bool,
        Where(lambda t, me: exists(Star, lambda star: (star.ticket_id == t.id) & (star.user_id == me.user_id))),
    ]


class TicketListItem(TicketBrief):
    comments__count: int = Field(serialization_alias="comment_count")


class TicketDetail(TicketBrief):
    body: str
    comments: list[CommentView]


class ByProject(Summary[Ticket]):
    project_id: int
    project_id__name: str | None = Field(serialization_alias="project")
    count: int
    priority_max: int | None

"""The help desk over HTTP."""

import os
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from fastapi import APIRouter, FastAPI, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from examples.helpdesk.domain import (
    ByProject,
    Caller,
    Comment,
    Star,
    Status,
    Ticket,
    TicketDetail,
    TicketFilters,
    TicketListItem,
    TicketQuery,
    c,
    t,
)
from examples.helpdesk.storage import HelpDesk
from sqlrepo import Page
from sqlrepo.fastapi import IfMatch, etag, filters, install, override, provide
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase

Store: TypeAlias = AsyncDatabase | InMemoryDatabase


class NewTicket(BaseModel):
    model_config = ConfigDict(extra="forbid")
    project_id: int
    assignee_id: int | None = None
    title: str = Field(min_length=1)
    body: str = ""
    priority: int = 0
    tag_ids: frozenset[int] = Field(default=frozenset(), max_length=20)


class TicketChanges(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field(default="", min_length=1)
    status: Status = "open"
    assignee_id: int | None = None
    tag_ids: frozenset[int] = Field(default=frozenset(), max_length=20)
    version: int | None = None


class CommentBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    body: str = Field(min_length=1)


def database() -> Store:
    url = os.environ.get("DATABASE_URL") or "sqlite+aiosqlite:///helpdesk.db"
    return InMemoryDatabase() if url.startswith("memory:") else AsyncDatabase(url)


def get_caller(x_tenant: Annotated[int, Header()], x_user: Annotated[int, Header()]) -> Caller:
    """Return who asks; a real application would read a token."""
    return Caller(x_tenant, x_user)


Writing = Annotated[HelpDesk, provide(HelpDesk, database, context=get_caller)]
Reading = Annotated[HelpDesk, provide(HelpDesk, database, context=get_caller, read_only=True)]

router = APIRouter()


@router.get("/tickets")
async def list_tickets(query: Annotated[TicketQuery, filters(TicketQuery)], desk: Reading) -> Page[TicketListItem]:
    return await desk.tickets.page(query, with_total=True, into=TicketListItem)


@router.get("/tickets/facets")
async def count_by_status(query: Annotated[TicketFilters, filters(TicketFilters)], desk: Reading) -> dict[Status, int]:
    return await desk.tickets.counts(t.status, query)


@router.get("/tickets/{id}")
async def show_ticket(id: int, desk: Reading, response: Response) -> TicketDetail:
    ticket = await desk.tickets.get(id, into=TicketDetail)
    response.headers["ETag"] = etag(ticket.version)
    return ticket


@router.post("/tickets", status_code=201)
async def create_ticket(new: NewTicket, desk: Writing) -> Ticket:
    await desk.projects.require(new.project_id)
    await desk.users.require(new.assignee_id)
    await desk.tags.require(*new.tag_ids)
    return await desk.tickets.add(
        Ticket(**new.model_dump(), tenant_id=desk.context.tenant_id, created_at=datetime.now(UTC))
    )


@router.patch("/tickets/{id}")
async def change_ticket(id: int, changes: TicketChanges, desk: Writing, match: IfMatch, response: Response) -> Ticket:
    given = changes.model_dump(exclude_unset=True)
    if match.tags is not None:
        given["version"] = max((int(tag) for tag in match.tags if tag.isdecimal()), default=0)
    await desk.users.require(given.get("assignee_id"))
    await desk.tags.require(*given.get("tag_ids", ()))
    ticket = await desk.tickets.patch(id, given)
    response.headers["ETag"] = etag(ticket.version)
    return ticket


@router.delete("/tickets/{id}", status_code=204)
async def delete_ticket(id: int, desk: Writing) -> None:
    await desk.tickets.hide(id)


@router.put("/tickets/{id}/star", status_code=204)
async def star_ticket(id: int, desk: Writing) -> None:
    await desk.tickets.require(id)
    star = Star(ticket_id=id, user_id=desk.context.user_id, tenant_id=desk.context.tenant_id)
    await desk.stars.upsert(star, on=("ticket_id", "user_id"), update=())


@router.delete("/tickets/{id}/star", status_code=204)
async def unstar_ticket(id: int, desk: Writing) -> None:
    await desk.tickets.require(id)
    await desk.stars.delete_where(ticket_id=id, user_id=desk.context.user_id)


@router.post("/tickets/{id}/comments", status_code=201)
async def add_comment(id: int, new: CommentBody, desk: Writing) -> Comment:
    await desk.tickets.require(id)
    caller = desk.context
    return await desk.comments.add(
        Comment(
            tenant_id=caller.tenant_id,
            ticket_id=id,
            author_id=caller.user_id,
            body=new.body,
            created_at=datetime.now(UTC),
        )
    )


@router.patch("/tickets/{id}/comments/{comment_id}")
async def change_comment(id: int, comment_id: int, changes: CommentBody, desk: Writing) -> Comment:
    await desk.tickets.require(id)
    mine = (c.id == comment_id) & (c.ticket_id == id) & (c.author_id == desk.context.user_id)
    await desk.comments.update_where(mine, set_=changes.model_dump())
    return await desk.comments.one(mine)


@router.get("/projects/summary")
async def summarize_projects(desk: Reading) -> list[ByProject]:
    return await desk.tickets.summarize(ByProject)


def create_app(db: Store | None = None) -> FastAPI:
    """Return the application; over a store of its own where one is given, as tests do."""
    app = FastAPI(title="Help desk")
    app.include_router(router)
    install(app, db or database)
    if db is not None:
        override(app, Writing, db)
        override(app, Reading, db)
    return app

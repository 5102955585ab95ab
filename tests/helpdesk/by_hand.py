"""The help desk of `examples/helpdesk` as one writes it with SQLAlchemy and FastAPI alone, to compare the two.

The same tables, the same requests, the same answers. As its documentation recommends: loader criteria for tenants and
deleted rows, eager loading, `version_id_col`, counts in the SELECT that they belong to.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, and_, delete, event, exists, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import ORMExecuteState, Session, joinedload, selectinload, with_loader_criteria
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.exc import StaleDataError

from examples.helpdesk.tables import (
    CommentRow,
    ProjectRow,
    StarRow,
    TagRow,
    TeamRow,
    TicketRow,
    UserRow,
)

# -- domain


class ProjectBrief(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str


class UserBrief(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str


class TagBrief(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str


class CommentView(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    body: str
    created_at: datetime
    author: UserBrief | None


class TicketListItem(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str
    status: str
    priority: int
    created_at: datetime
    version: int
    project: ProjectBrief | None
    assignee: UserBrief | None
    tags: list[TagBrief]
    comment_count: int
    starred: bool


class TicketPage(BaseModel):
    items: list[TicketListItem]
    has_next: bool
    total: int


class TicketDetail(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    title: str
    body: str
    status: str
    priority: int
    created_at: datetime
    version: int
    project: ProjectBrief | None
    assignee: UserBrief | None
    tags: list[TagBrief]
    comments: list[CommentView]
    starred: bool


class TicketOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    project_id: int
    assignee_id: int | None
    title: str
    body: str
    status: str
    priority: int
    created_at: datetime
    tag_ids: list[int]
    version: int


class CommentOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    ticket_id: int
    author_id: int
    body: str
    created_at: datetime


class ProjectSummary(BaseModel):
    project_id: int
    project: str | None
    count: int
    priority_max: int | None


Status = Literal["open", "waiting", "closed"]


class NewTicket(BaseModel):
    model_config = ConfigDict(extra="forbid")
    project_id: int
    assignee_id: int | None = None
    title: str = Field(min_length=1, max_length=200)
    body: str = Field(default="", max_length=4000)
    priority: int = 0
    tag_ids: set[int] = Field(default=set(), max_length=20)


class TicketChanges(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str = Field(default="", min_length=1, max_length=200)
    status: Status = "open"
    assignee_id: int | None = None
    tag_ids: set[int] = Field(default=set(), max_length=20)
    version: int | None = None


class CommentBody(BaseModel):
    model_config = ConfigDict(extra="forbid")
    body: str = Field(min_length=1, max_length=4000)


class TicketFilters(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Status | None = None
    project_id: int | None = None
    assignee: str | None = None
    tag: str | None = None
    text: str | None = None


class TicketQuery(TicketFilters):
    order_by: Literal["-created_at", "created_at", "-priority", "title", "project_id__name"] = "-created_at"
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0)


class Caller(NamedTuple):
    tenant_id: int
    user_id: int


# -- storage


class TenantSession(Session):
    """Has a listener of its own: one of all sessions would be that of every application in the process."""


@event.listens_for(TenantSession, "do_orm_execute")
def _confine(state: ORMExecuteState) -> None:
    """Let no SELECT see another tenant's rows, or deleted tickets."""
    tenant_id = state.session.info.get("tenant_id")
    if tenant_id is None or not state.is_select or state.is_column_load or state.is_relationship_load:
        return
    of_tenant = [
        with_loader_criteria(row, lambda one: one.tenant_id == tenant_id, include_aliases=True)
        for row in (TeamRow, UserRow, ProjectRow, TagRow, CommentRow, StarRow)
    ]
    live = with_loader_criteria(
        TicketRow, lambda one: and_(one.tenant_id == tenant_id, one.deleted.is_(False)), include_aliases=True
    )
    state.statement = state.statement.options(*of_tenant, live)


_ORDERS: dict[str, Any] = {
    "-created_at": [TicketRow.created_at.desc(), TicketRow.id.desc()],
    "created_at": [TicketRow.created_at, TicketRow.id],
    "-priority": [TicketRow.priority.desc(), TicketRow.id.desc()],
    "title": [TicketRow.title, TicketRow.id],
}


def _filter(statement: Select[Any], filters: TicketFilters) -> Select[Any]:
    if filters.status is not None:
        statement = statement.where(TicketRow.status == filters.status)
    if filters.project_id is not None:
        statement = statement.where(TicketRow.project_id == filters.project_id)
    if filters.assignee is not None:
        statement = statement.where(TicketRow.assignee.has(UserRow.name == filters.assignee))
    if filters.tag is not None:
        statement = statement.where(TicketRow.tags.any(TagRow.name == filters.tag))
    if filters.text is not None:
        statement = statement.where(
            or_(
                TicketRow.title.icontains(filters.text, autoescape=True),
                TicketRow.body.icontains(filters.text, autoescape=True),
            )
        )
    return statement


def _starred(caller: Caller) -> Any:
    return (
        exists()
        .where(StarRow.ticket_id == TicketRow.id, StarRow.user_id == caller.user_id)
        .correlate(TicketRow)
        .label("starred")
    )


async def find_tickets(session: AsyncSession, query: TicketQuery, caller: Caller) -> TicketPage:
    comment_count = (
        select(func.count(CommentRow.id))
        .where(CommentRow.ticket_id == TicketRow.id)
        .correlate(TicketRow)
        .scalar_subquery()
    )
    statement = _filter(select(TicketRow, comment_count.label("comment_count"), _starred(caller)), query).options(
        joinedload(TicketRow.project), joinedload(TicketRow.assignee), selectinload(TicketRow.tags)
    )
    if query.order_by == "project_id__name":
        statement = statement.join(TicketRow.project).order_by(ProjectRow.name, TicketRow.id)
    else:
        statement = statement.order_by(*_ORDERS[query.order_by])
    rows = (await session.execute(statement.limit(query.limit + 1).offset(query.offset))).all()
    total = await session.scalar(_filter(select(func.count(TicketRow.id)), query))
    items = [
        TicketListItem(
            id=ticket.id,
            title=ticket.title,
            status=ticket.status,
            priority=ticket.priority,
            created_at=ticket.created_at,
            version=ticket.version,
            project=ProjectBrief.model_validate(ticket.project),
            assignee=ticket.assignee and UserBrief.model_validate(ticket.assignee),
            tags=[TagBrief.model_validate(tag) for tag in ticket.tags],
            comment_count=comments,
            starred=starred,
        )
        for ticket, comments, starred in rows[: query.limit]
    ]
    return TicketPage(items=items, has_next=len(rows) > query.limit, total=total or 0)


async def get_ticket(session: AsyncSession, id: int) -> TicketRow:
    """Return a ticket with its tags, to be changed."""
    statement = select(TicketRow).where(TicketRow.id == id).options(selectinload(TicketRow.tags))
    ticket = await session.scalar(statement)
    if ticket is None:
        raise HTTPException(404)
    return ticket


async def _require(session: AsyncSession, row: type[ProjectRow | UserRow], id: int) -> None:
    if await session.scalar(select(row.id).where(row.id == id)) is None:
        raise HTTPException(404)


async def _get_tags(session: AsyncSession, ids: set[int]) -> list[TagRow]:
    if not ids:
        return []
    tags = list(await session.scalars(select(TagRow).where(TagRow.id.in_(ids)).order_by(TagRow.id)))
    if len(tags) < len(ids):
        raise HTTPException(404)
    return tags


def _show(ticket: TicketRow) -> TicketOut:
    columns = {name: getattr(ticket, name) for name in TicketOut.model_fields if name != "tag_ids"}
    return TicketOut(**columns, tag_ids=sorted(tag.id for tag in ticket.tags))


# -- HTTP


def get_caller(x_tenant: Annotated[int, Header()], x_user: Annotated[int, Header()]) -> Caller:
    return Caller(x_tenant, x_user)


CallerDep = Annotated[Caller, Depends(get_caller)]


async def get_session(request: Request, caller: CallerDep) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions(info={"tenant_id": caller.tenant_id}) as session, session.begin():
        yield session


# Its scope ends the transaction before the response is sent.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]

router = APIRouter()


@router.get("/tickets")
async def list_tickets(query: Annotated[TicketQuery, Query()], session: SessionDep, caller: CallerDep) -> TicketPage:
    return await find_tickets(session, query, caller)


@router.get("/tickets/facets")
async def count_by_status(filters: Annotated[TicketFilters, Query()], session: SessionDep) -> dict[str, int]:
    statement = _filter(select(TicketRow.status, func.count()), filters).group_by(TicketRow.status)
    return dict((await session.execute(statement)).all())


@router.get("/tickets/{id}")
async def show_ticket(id: int, session: SessionDep, caller: CallerDep, response: Response) -> TicketDetail:
    statement = (
        select(TicketRow, _starred(caller))
        .where(TicketRow.id == id)
        .options(
            joinedload(TicketRow.project),
            joinedload(TicketRow.assignee),
            selectinload(TicketRow.tags),
            selectinload(TicketRow.comments).joinedload(CommentRow.author),
        )
    )
    found = (await session.execute(statement)).one_or_none()
    if found is None:
        raise HTTPException(404)
    ticket, starred = found
    response.headers["ETag"] = f'"{ticket.version}"'
    columns = {name: getattr(ticket, name) for name in TicketDetail.model_fields if name != "starred"}
    return TicketDetail.model_validate({**columns, "starred": starred})


@router.post("/tickets", status_code=201)
async def create_ticket(new: NewTicket, session: SessionDep, caller: CallerDep) -> TicketOut:
    await _require(session, ProjectRow, new.project_id)
    if new.assignee_id is not None:
        await _require(session, UserRow, new.assignee_id)
    ticket = TicketRow(
        **new.model_dump(exclude={"tag_ids"}),
        tenant_id=caller.tenant_id,
        status="open",
        created_at=datetime.now(UTC),
        deleted=False,
        tags=await _get_tags(session, new.tag_ids),
    )
    session.add(ticket)
    await session.flush()
    return _show(ticket)


@router.patch("/tickets/{id}")
async def change_ticket(
    id: int,
    changes: TicketChanges,
    session: SessionDep,
    response: Response,
    if_match: Annotated[str | None, Header()] = None,
) -> TicketOut:
    ticket = await get_ticket(session, id)
    if if_match is not None and if_match != f'"{ticket.version}"':
        raise HTTPException(412)
    if changes.version is not None and changes.version != ticket.version:
        raise HTTPException(409)
    given = changes.model_dump(exclude_unset=True, exclude={"version"})
    if given.get("assignee_id") is not None:
        await _require(session, UserRow, given["assignee_id"])
    if "tag_ids" in given:
        ticket.tags = await _get_tags(session, given.pop("tag_ids"))
    for name, value in given.items():
        setattr(ticket, name, value)
    flag_modified(ticket, "status")  # so that a change of the tags alone is counted as well
    await session.flush()
    response.headers["ETag"] = f'"{ticket.version}"'
    return _show(ticket)


@router.delete("/tickets/{id}", status_code=204)
async def delete_ticket(id: int, session: SessionDep) -> None:
    ticket = await session.scalar(select(TicketRow).where(TicketRow.id == id))
    if ticket is None:
        raise HTTPException(404)
    ticket.deleted = True


@router.put("/tickets/{id}/star", status_code=204)
async def star_ticket(id: int, session: SessionDep, caller: CallerDep) -> None:
    await _require(session, TicketRow, id)
    found = select(StarRow).where(StarRow.ticket_id == id, StarRow.user_id == caller.user_id)
    if await session.scalar(found) is None:
        session.add(StarRow(ticket_id=id, user_id=caller.user_id, tenant_id=caller.tenant_id))


@router.delete("/tickets/{id}/star", status_code=204)
async def unstar_ticket(id: int, session: SessionDep, caller: CallerDep) -> None:
    await _require(session, TicketRow, id)
    await session.execute(delete(StarRow).where(StarRow.ticket_id == id, StarRow.user_id == caller.user_id))


@router.post("/tickets/{id}/comments", status_code=201)
async def add_comment(id: int, new: CommentBody, session: SessionDep, caller: CallerDep) -> CommentOut:
    await _require(session, TicketRow, id)
    comment = CommentRow(
        ticket_id=id,
        author_id=caller.user_id,
        tenant_id=caller.tenant_id,
        body=new.body,
        created_at=datetime.now(UTC),
    )
    session.add(comment)
    await session.flush()
    return CommentOut.model_validate(comment)


@router.patch("/tickets/{id}/comments/{comment_id}")
async def change_comment(
    id: int, comment_id: int, changes: CommentBody, session: SessionDep, caller: CallerDep
) -> CommentOut:
    await _require(session, TicketRow, id)
    statement = select(CommentRow).where(
        CommentRow.id == comment_id, CommentRow.ticket_id == id, CommentRow.author_id == caller.user_id
    )
    comment = await session.scalar(statement)
    if comment is None:
        raise HTTPException(404)
    comment.body = changes.body
    await session.flush()
    return CommentOut.model_validate(comment)


@router.get("/projects/summary")
async def summarize_projects(session: SessionDep) -> list[ProjectSummary]:
    statement = (
        select(TicketRow.project_id, ProjectRow.name, func.count(), func.max(TicketRow.priority))
        .join(TicketRow.project)
        .group_by(TicketRow.project_id, ProjectRow.name)
        .order_by(TicketRow.project_id)
    )
    return [
        ProjectSummary(project_id=key, project=name, count=count, priority_max=highest)
        for key, name, count, highest in await session.execute(statement)
    ]


async def _conflict(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "conflict"}, 409)


def create_app(engine: AsyncEngine) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(title="Help desk", lifespan=lifespan)
    app.state.sessions = async_sessionmaker(engine, sync_session_class=TenantSession, expire_on_commit=False)
    app.include_router(router)
    app.add_exception_handler(IntegrityError, _conflict)
    app.add_exception_handler(StaleDataError, _conflict)
    return app

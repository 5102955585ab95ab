"""Both help desks, ours and the one by hand, each over its stores, with the same rows in them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import sqlalchemy as sa
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import create_async_engine

from examples.helpdesk import app as ours
from examples.helpdesk.domain import Caller, Comment, Project, Star, Tag, Team, Ticket, User
from examples.helpdesk.storage import HelpDesk
from examples.helpdesk.tables import Base
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.databases import servers
from tests.helpdesk import by_hand

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ACME, OTHER = Caller(1, 1), Caller(2, 4)


class Desk:
    """One of the two applications, and what is sent to its store."""

    def __init__(self, send: Callable[..., httpx.Response], sent: list[str]) -> None:
        self._send = send
        self.sent = sent

    def ask(self, method: str, path: str, caller: Caller = ACME, **options: Any) -> httpx.Response:
        headers = {"x-tenant": str(caller.tenant_id), "x-user": str(caller.user_id), **options.pop("headers", {})}
        self.sent.clear()
        return self._send(method, path, headers=headers, **options)


async def fill(db: AsyncDatabase | InMemoryDatabase) -> None:
    """Store two tenants: three people, two projects, three tags and six tickets here, one of each there."""
    async with HelpDesk(db, context=ACME) as desk:
        await desk.teams.add_many([Team(tenant_id=1, name="Support"), Team(tenant_id=1, name="Network")])
        await desk.users.add_many([User(tenant_id=1, team_id=1 + n // 2, name=name) for n, name in enumerate("ABC")])
        await desk.projects.add_many([Project(tenant_id=1, team_id=1, name=name) for name in ("Web", "Mail")])
        await desk.tags.add_many([Tag(tenant_id=1, name=name) for name in ("red", "green", "blue")])
        await desk.tickets.add_many(_tickets())
        await desk.comments.add_many(
            Comment(tenant_id=1, ticket_id=ticket, author_id=1 + n % 3, body=f"comment {n}", created_at=NOON)
            for n, ticket in enumerate((1, 1, 1, 2, 4))
        )
        await desk.stars.add_many(
            [
                Star(ticket_id=1, user_id=1, tenant_id=1),
                Star(ticket_id=1, user_id=2, tenant_id=1),
                Star(ticket_id=3, user_id=2, tenant_id=1),
            ]
        )
        await desk.tickets.hide(6)
    async with HelpDesk(db, context=OTHER) as desk:
        await desk.teams.add(Team(tenant_id=2, name="Support"))
        await desk.users.add(User(tenant_id=2, team_id=3, name="A"))
        await desk.projects.add(Project(tenant_id=2, team_id=3, name="Web"))
        await desk.tags.add(Tag(tenant_id=2, name="red"))
        await desk.tickets.add(
            Ticket(tenant_id=2, project_id=3, assignee_id=4, title="secret", created_at=NOON, tag_ids={4}, priority=99)
        )
        await desk.comments.add(Comment(tenant_id=2, ticket_id=7, author_id=4, body="secret", created_at=NOON))
        await desk.stars.add(Star(ticket_id=7, user_id=4, tenant_id=2))


def _tickets() -> Iterator[Ticket]:
    tags = [{1}, {1, 2}, {3}, set(), {2}, {1}]
    statuses = ["open", "open", "closed", "waiting", "open", "open"]
    for n in range(6):
        yield Ticket(
            tenant_id=1,
            project_id=1 + n % 2,
            assignee_id=None if n == 3 else 1 + n % 3,
            title=f"ticket {'cafe' if n in (1, 4) else 'tea'} {n + 1}",
            body="100% broken" if n == 2 else "works",
            status=statuses[n],
            priority=n % 3,
            created_at=NOON + timedelta(minutes=n // 2),
            tag_ids=tags[n],
        )


def _url(kind: str, directory: Any, variant: str) -> Any:
    if kind == "postgresql":
        return servers.emptied("postgresql", Base, variant).set(drivername="postgresql+asyncpg")
    url = f"sqlite+aiosqlite:///{directory}/desk.db"
    engine = sa.create_engine(f"sqlite:///{directory}/desk.db")
    Base.metadata.create_all(engine)
    engine.dispose()
    return url


@contextmanager
def opened(application: str, kind: str, directory: Any, variant: str = "") -> Iterator[Desk]:
    """Open an application over a store of a kind, filled."""
    sent: list[str] = []
    db = InMemoryDatabase() if kind == "memory" else AsyncDatabase(_url(kind, directory, variant))
    asyncio.run(_fill_and_leave(db))
    if application == "by hand":
        assert isinstance(db, AsyncDatabase)
        app = by_hand.create_app(create_async_engine(db.engine.url))
    else:
        app = ours.create_app(db)
    with _listening(sent), _asking(app) as send:
        yield Desk(send, sent)


async def _fill_and_leave(db: AsyncDatabase | InMemoryDatabase) -> None:
    await fill(db)
    if isinstance(db, AsyncDatabase):
        await db.dispose()  # its connections belong to this loop


@contextmanager
def _listening(sent: list[str]) -> Iterator[None]:
    """Note what is sent through any engine: read-only units have one of their own."""

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


@contextmanager
def _asking(app: FastAPI) -> Iterator[Callable[..., httpx.Response]]:
    """Send requests to the application in this process, within its lifespan."""
    transport = httpx.ASGITransport(app=app)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(httpx.AsyncClient(transport=transport, base_url="http://desk")) as client,
    ):
        yield lambda method, path, **options: portal.call(partial(client.request, method, path, **options))

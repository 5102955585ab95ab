"""The contract on the repositories, and memory against databases on random programs over all of them."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from examples.helpdesk.app import Store
from examples.helpdesk.domain import Caller, Comment, Project, Tag, Team, Ticket, TicketFilters, TicketQuery, User
from examples.helpdesk.storage import HelpDesk
from examples.helpdesk.tables import Base
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from sqlrepo.testing import Harness, RepositoryContract, TwinContract

ME = Caller(tenant_id=1, user_id=1)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


async def make_tables(db: AsyncDatabase) -> None:
    """Make the tables, empty."""
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    await db.dispose()  # its connections belong to this event loop


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store with nothing in it."""
    if request.param == "memory":
        return InMemoryDatabase()
    url = make_url(f"sqlite+aiosqlite:///{tmp_path.as_posix()}/desk.db")
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("helpdesk_postgresql_url")).set(drivername="postgresql+asyncpg")
    db = AsyncDatabase(url)
    asyncio.run(make_tables(db))
    return db


async def fill(store: Store) -> None:
    """Store what tickets and comments refer to."""
    async with HelpDesk(store, context=ME) as desk:
        await desk.teams.add(Team(tenant_id=1, name="Support"))
        await desk.users.add_many(User(tenant_id=1, team_id=1, name=name) for name in "AB")
        await desk.projects.add_many(Project(tenant_id=1, team_id=1, name=name) for name in ("Web", "Mail"))
        await desk.tags.add_many(Tag(tenant_id=1, name=name) for name in ("red", "green", "blue"))


def make_ticket(n: int) -> Ticket:
    """Return the n-th ticket."""
    return Ticket(
        tenant_id=1,
        project_id=1 + n % 2,
        assignee_id=(None, 1, 2)[n % 3],
        title=f"ticket {n}",
        status=("open", "waiting", "closed")[n % 3],
        priority=n % 3,
        created_at=NOON + timedelta(days=n),
        tag_ids=frozenset({1 + n % 3, 1 + n % 2}),
    )


def make_comment(n: int) -> Comment:
    """Return the n-th comment."""
    return Comment(tenant_id=1, ticket_id=1 + n % 2, author_id=1 + n % 2, body=f"comment {n}", created_at=NOON)


class Filled:
    """A harness over the store."""

    make: Any
    change: Any

    @pytest.fixture
    def harness(self, store: Store) -> Iterator[Harness[Any, Any]]:
        """Fill the store, but for the contract's own entities."""
        asyncio.run(self.prepare(store))
        dispose = store.dispose if isinstance(store, AsyncDatabase) else None
        harness = Harness.from_async(
            open=lambda: HelpDesk(store, context=ME), make=type(self).make, change=type(self).change, dispose=dispose
        )
        yield harness
        harness.close()

    async def prepare(self, store: Store) -> None:
        """Store what the entities refer to."""
        await fill(store)
        if isinstance(store, AsyncDatabase):
            await store.dispose()


class TestTickets(Filled, RepositoryContract[Ticket, int]):
    make = staticmethod(make_ticket)
    change = staticmethod(lambda ticket: ticket.model_copy(update={"title": f"{ticket.title}, changed"}))


class TestComments(Filled, RepositoryContract[Comment, int]):
    make = staticmethod(make_comment)
    change = staticmethod(lambda comment: comment.model_copy(update={"body": f"{comment.body}, changed"}))

    async def prepare(self, store: Store) -> None:
        await fill(store)
        async with HelpDesk(store, context=ME) as desk:
            await desk.tickets.add_many(make_ticket(n) for n in (1, 2))
        if isinstance(store, AsyncDatabase):
            await store.dispose()


class TestHelpDeskTwins(TwinContract):
    unit = HelpDesk
    queries = {"tickets": (TicketQuery, TicketFilters)}
    context = ME
    may_empty = True  # the contract leaves rows in it

    @pytest.fixture(params=["sqlite", "postgresql"])
    def database(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncDatabase:
        """A database of the test's own."""
        if request.param == "sqlite":
            return AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path.as_posix()}/twins.db")
        url = make_url(request.getfixturevalue("helpdesk_postgresql_url")).set(drivername="postgresql+asyncpg")
        return AsyncDatabase(url)

"""One database per test, for async units: memory, or a driver of a database."""

import asyncio

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.asynchronous.domain import Base
from tests.databases import servers

# The last one's server is the first one's too.
SERVED = ["postgresql+asyncpg", "mariadb+asyncmy", pytest.param("postgresql+psycopg", marks=pytest.mark.repeats)]


@pytest.fixture
def loop():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["memory", "aiosqlite", *SERVED])
def db(request, loop, tmp_path):
    if request.param == "memory":
        yield InMemoryDatabase()
        return
    if request.param == "aiosqlite":
        made = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/async.db")
        loop.run(tables(made))
    else:
        made = AsyncDatabase(servers.emptied(request.param, Base))
    yield made
    assert made.engine.pool.checkedout() == 0
    loop.run(made.dispose())


async def tables(db):
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

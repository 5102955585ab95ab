"""One database per test, for async units: memory, or a driver of a database."""

import asyncio

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.asynchronous.domain import Base
from tests.databases import servers

DRIVERS = {
    "asyncpg": ("postgresql", "postgresql+asyncpg"),
    "psycopg": ("postgresql", "postgresql+psycopg"),
    "asyncmy": ("mariadb", "mysql+asyncmy"),
}


@pytest.fixture
def loop():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["memory", "aiosqlite", *DRIVERS])
def db(request, loop, tmp_path):
    if request.param == "memory":
        yield InMemoryDatabase()
        return
    if request.param == "aiosqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/async.db"
    else:
        server, driver = DRIVERS[request.param]
        url = servers.made_for_tests(server, "async").set(drivername=driver)
    made = AsyncDatabase(url)
    loop.run(tables(made))
    yield made
    assert made.engine.pool.checkedout() == 0
    loop.run(made.dispose())


async def tables(db):
    async with db.engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)

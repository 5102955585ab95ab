"""The stores the web edge is tried on."""

import asyncio
from contextlib import ExitStack, contextmanager

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers
from tests.web.domain import Base, Prompt

SYNC = ["sqlite", "postgresql"]
ASYNC = ["aiosqlite", "asyncpg", "asyncmy"]

_SERVED = {
    "postgresql": ("postgresql", Base, "psycopg"),
    "asyncpg": ("postgresql", Base, "asyncpg"),
    "mariadb": ("mariadb", Prompt, "pymysql"),
    "asyncmy": ("mariadb", Prompt, "asyncmy"),
}


def url_of(name, directory):
    """The URL of an empty database with our tables."""
    if name in _SERVED:
        server, base, driver = _SERVED[name]
        url = servers.emptied(server, base)
        return url.set(drivername=f"{url.get_backend_name()}+{driver}")
    path = f"{directory.as_posix()}/web.db"
    made = Database(f"sqlite:///{path}")
    Base.metadata.create_all(made.engine)
    made.dispose()
    return f"sqlite:///{path}" if name == "sqlite" else f"sqlite+aiosqlite:///{path}"


def made(name, directory):
    """A database, sync or async as its name says."""
    if name == "memory":
        return InMemoryDatabase()
    url = url_of(name, directory)
    return AsyncDatabase(url) if name in ASYNC else Database(url)


@pytest.fixture
def open_store(tmp_path):
    """Makes stores by name."""
    with ExitStack() as ending:
        yield lambda name: ending.enter_context(opened(name, tmp_path))


@contextmanager
def opened(name, directory):
    """A store by name; at the end none of its connections may have been kept."""
    store = made(name, directory)
    yield store
    assert in_use(store) == 0, "a connection was leaked"
    if isinstance(store, AsyncDatabase):
        asyncio.run(store.dispose())
    else:
        store.dispose()


@pytest.fixture(params=[*SYNC, "mariadb"])
def sync_db(request, open_store):
    """A database of each synchronous driver."""
    return open_store(request.param)


@pytest.fixture(params=ASYNC)
def async_db(request, open_store):
    """A database of each asynchronous driver."""
    return open_store(request.param)


@pytest.fixture(params=["memory", *SYNC], scope="module")
def store(request, tmp_path_factory):
    """Memory, and a database of each synchronous driver; one for all tests of a module."""
    with opened(request.param, tmp_path_factory.mktemp("web")) as given:
        yield given


def in_use(db):
    """How many connections a database has given out."""
    if isinstance(db, InMemoryDatabase):
        return 0
    engines = {db._engines.writing, db._engines.reading}
    return sum(engine.pool.checkedout() for engine in engines)

"""The databases of the web tests."""

import asyncio
from contextlib import ExitStack, contextmanager

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers
from tests.web.domain import Base, Prompt

SYNC = ["sqlite", "postgresql"]
ASYNC = ["aiosqlite", "asyncpg", "mariadb+asyncmy", "mysql+asyncmy"]


def repeats(*names):
    return [pytest.param(name, marks=pytest.mark.repeats) for name in names]


def make_url(name, directory, base, prompt):
    """The URL of an empty database with our tables; on MariaDB and MySQL those without deferred foreign keys."""
    if name in ("postgresql", "asyncpg"):
        return servers.emptied("postgresql+asyncpg" if name == "asyncpg" else "postgresql+psycopg", base)
    if name.startswith(("mariadb", "mysql")):
        return servers.emptied(name, prompt)
    path = f"{directory.as_posix()}/web.db"
    made = Database(f"sqlite:///{path}")
    base.metadata.create_all(made.engine)
    made.dispose()
    return f"sqlite:///{path}" if name == "sqlite" else f"sqlite+aiosqlite:///{path}"


@contextmanager
def opened(name, directory, base=Base, prompt=Prompt):
    """A database by name; none of its connections may be in use at the end."""
    if name == "memory":
        yield InMemoryDatabase()
        return
    url = make_url(name, directory, base, prompt)
    db = AsyncDatabase(url) if name in ASYNC else Database(url)
    yield db
    assert in_use(db) == 0, "a connection was leaked"
    if isinstance(db, AsyncDatabase):
        asyncio.run(db.dispose())
    else:
        db.dispose()


@pytest.fixture
def open_store(tmp_path):
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(opened(name, tmp_path))


@pytest.fixture(params=["sqlite", "postgresql", *repeats("mariadb")])
def sync_db(request, open_store):
    """A database of each synchronous driver."""
    return open_store(request.param)


@pytest.fixture(params=["aiosqlite", "asyncpg", *repeats("mariadb+asyncmy")])
def async_db(request, open_store):
    """A database of each asynchronous driver."""
    return open_store(request.param)


@pytest.fixture(params=["memory", "sqlite", *repeats("postgresql")], scope="module")
def store(request, tmp_path_factory):
    """Memory, and a database of each synchronous driver; one for all tests of a module."""
    with opened(request.param, tmp_path_factory.mktemp("web")) as given:
        yield given


def in_use(db):
    if isinstance(db, InMemoryDatabase):
        return 0
    engines = getattr(db, "source", db)._engines  # an AsyncDatabase has a synchronous one beneath
    engines = {engines.writing, engines.reading}
    return sum(engine.pool.checkedout() for engine in engines)

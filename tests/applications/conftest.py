"""Where the applications run; SQLite's database is a file, so that several units can be open at once."""

import pytest
import sqlalchemy as sa

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers

KINDS = ["memory", "sqlite", *(pytest.param(name, marks=pytest.mark.repeats) for name in servers.KINDS)]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def db(kind, tmp_path, base):
    """A database with the tables of the test module's application, empty."""
    made = connect(kind, tmp_path, base)
    yield made
    made.dispose()


@pytest.fixture
def async_db(kind, tmp_path, base):
    """A function that makes a database for async units, for it belongs to the event loop that uses it."""
    if kind == "memory":
        return InMemoryDatabase
    connect(kind, tmp_path, base).dispose()
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}.get(kind, "asyncmy")
    return lambda: AsyncDatabase(servers.through(driver, url_of(kind, tmp_path, base)))


def connect(kind, folder, base):
    if kind == "memory":
        return InMemoryDatabase()
    made = Database(url_of(kind, folder, base))
    if kind == "sqlite":
        base.metadata.create_all(made.engine)
    return made


def url_of(kind, folder, base):
    if kind == "sqlite":
        return sa.make_url(f"sqlite:///{folder}/application.db")
    return servers.emptied(kind, base, base.__module__.rpartition(".")[2])

"""The databases that the contract runs on."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import event

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.contract.entities import Base
from tests.databases import servers

NUMBERS = count()
# One shape of entity is checked on each server by test_pairs.py; on the other shapes a server repeats that.
ON_A_SERVER = [pytest.param(name, marks=pytest.mark.repeats) for name in servers.KINDS]


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all files; one for each test would cost more than the tests."""
    return tmp_path_factory.mktemp("contract")


def disable_fsync(connection, _):
    connection.execute("PRAGMA synchronous = OFF")  # no test cuts the power


@pytest.fixture(params=["memory", "sqlite", *ON_A_SERVER])
def database(request: pytest.FixtureRequest, directory: Path) -> Iterator[Database | InMemoryDatabase]:
    if request.param == "memory":
        yield InMemoryDatabase()
        return
    name, _, variant = request.param.partition("-")
    if name in servers.KINDS:
        database = Database(servers.emptied(name, Base, variant))
        yield database
        database.dispose()
        return
    path = "" if request.param == "sqlite" else f"/{directory.as_posix()}/{next(NUMBERS)}.db"
    database = Database(f"sqlite://{path}")
    event.listen(database.engine, "connect", disable_fsync)
    Base.metadata.create_all(database.engine, checkfirst=False)
    yield database
    database.dispose()

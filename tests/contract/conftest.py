"""The databases that our own use of the contract runs on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.contract.entities import Base


@pytest.fixture(params=["memory", "sqlite", "sqlite-file"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database | InMemoryDatabase]:
    """An empty database with all tables: memory, SQLite in memory, SQLite in a file."""
    if request.param == "memory":
        yield InMemoryDatabase()
        return
    database = Database("sqlite://" if request.param == "sqlite" else f"sqlite:///{tmp_path.as_posix()}/house.db")
    Base.metadata.create_all(database.engine)
    yield database
    database.dispose()

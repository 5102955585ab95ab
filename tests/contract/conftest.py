"""The stores that our own use of the contract runs on."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Capabilities
from tests.contract.entities import Base


class Store(NamedTuple):
    database: Database | InMemoryDatabase
    capabilities: Capabilities


@pytest.fixture(params=["memory", "sqlite", "sqlite-file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store with all tables: memory, SQLite in memory, SQLite in a file."""
    if request.param == "memory":
        yield Store(InMemoryDatabase(), Capabilities.of("memory"))
        return
    url = "sqlite://" if request.param == "sqlite" else f"sqlite:///{tmp_path.as_posix()}/house.db"
    database = Database(url)
    Base.metadata.create_all(database.engine)
    yield Store(database, Capabilities.of(url))
    database.dispose()

"""One database per test: memory or SQLite, with the tables of `domain`."""

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.units.domain import Base, create, database


@pytest.fixture(params=["memory", "sqlite"])
def backend(request):
    return request.param


@pytest.fixture
def db(backend):
    """A database of the test's own; SQLite's lives on one connection."""
    made = database(backend)
    yield made
    made.dispose()


@pytest.fixture
def empty(backend):
    """A function that makes a database with the tables of a test's own base class."""
    made = []

    def make(base):
        made.append(database(backend, base))
        return made[-1]

    yield make
    for one in made:
        one.dispose()


@pytest.fixture
def sqlite():
    made = database("sqlite")
    yield made
    made.dispose()


@pytest.fixture
def shared(backend, tmp_path):
    """A database that several units can be open on at once: memory, or a file."""
    made = create(InMemoryDatabase() if backend == "memory" else Database(f"sqlite:///{tmp_path}/shared.db"), Base)
    yield made
    made.dispose()


@pytest.fixture
def file(tmp_path):
    made = create(Database(f"sqlite:///{tmp_path}/shared.db"))
    yield made
    made.dispose()

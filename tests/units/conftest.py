"""One database per test, with the tables of `domain`: memory, SQLite, or one on a server, where tables are emptied."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.units.domain import Base, create, database

ON_A_DATABASE = ("backend", "engine", "filled", "specimens", "stored")  # fixtures whose parameter is a kind of database


def bounded(examples):
    """As many Hypothesis examples, the same ones in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def pytest_collection_modifyitems(items):
    """A unit test that runs in memory or on SQLite only repeats itself on a server."""
    cases = [item for item in items if item.path.parent == Path(__file__).parent and hasattr(item, "callspec")]
    served = {item for item in cases if kinds_of(item) & servers.KINDS.keys()}
    elsewhere = {(item.path, item.originalname) for item in cases if item not in served}
    for item in served:
        if (item.path, item.originalname) in elsewhere:
            item.add_marker("repeats")


def kinds_of(item):
    return {str(value).partition("-")[0] for name, value in item.callspec.params.items() if name in ON_A_DATABASE}


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
def backend(request):
    return request.param


@pytest.fixture
def db(backend):
    """A database of the test's own; SQLite's lives on one connection."""
    made = database(backend)
    yield made
    made.dispose()


@pytest.fixture
def other(backend):
    """A database of the test's own beside `db`, on a server the same, emptied."""
    made = database(backend)
    yield made
    made.dispose()


@pytest.fixture
def empty(backend):
    """A function that makes a database with the tables of a test's own base class."""
    made = []

    def make(base):
        if backend in servers.KINDS:
            made.append((create(Database(servers.made_for_tests(backend, "own")), base), base))
        else:
            made.append((database(backend, base), None))
        return made[-1][0]

    yield make
    for one, base in made:
        if base is not None:
            base.metadata.drop_all(one.engine)
        one.dispose()


@pytest.fixture
def sqlite():
    made = database("sqlite")
    yield made
    made.dispose()


@pytest.fixture
def shared(backend, tmp_path):
    """A database that several units can be open on at once: memory, or a file."""
    if backend in servers.KINDS:
        made = database(backend)
    else:
        made = create(InMemoryDatabase() if backend == "memory" else Database(f"sqlite:///{tmp_path}/shared.db"), Base)
    yield made
    made.dispose()


@pytest.fixture
def file(tmp_path):
    made = create(Database(f"sqlite:///{tmp_path}/shared.db"))
    yield made
    made.dispose()

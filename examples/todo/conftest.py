"""The stores that the tests run on: memory, and databases whose tables the migrations have made."""

from collections.abc import Iterator

import pytest

from examples.todo.migrations import upgrade
from examples.todo.storage import Store, TodoUnit, storage


@pytest.fixture(scope="session", params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of the tests' own, its tables made once."""
    match request.param:
        case "memory":
            url = "memory://"
        case "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('todo').as_posix()}/todo.db"
        case _:
            url = request.getfixturevalue("postgresql_url")
    upgrade(url)
    return url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The same, with nothing in it."""
    db = storage(url)
    with TodoUnit(db) as unit:
        unit.todos.delete_where(everything=True)
    yield db
    db.dispose()

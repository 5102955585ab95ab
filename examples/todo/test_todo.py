"""The to-do repository keeps the contract, on memory and on SQLite; about as much as any user has to write."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.todo.domain import Todo
from examples.todo.storage import TodoUnit, storage
from sqlrepo.testing import Harness, RepositoryContract


class TestTodos(RepositoryContract[Todo, int]):
    @pytest.fixture(params=["memory://", "sqlite:///{}/todo.db"], ids=["memory", "sqlite"])
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness[Todo, int]]:
        db = storage(request.param.format(tmp_path.as_posix()))
        yield Harness(
            open=lambda: TodoUnit(db),
            make=lambda n: Todo(key=f"k{n}", value=f"thing {n}", done=n % 2 == 0, priority=n % 3),
            change=lambda todo: todo.model_copy(update={"value": f"{todo.value}, changed"}),
        )
        db.dispose()

    def test_change_writes_the_given_fields_alone(self, harness: Harness[Todo, int]) -> None:
        with harness.open() as unit:
            assert isinstance(unit, TodoUnit)  # for the type checker: a harness may also open a repository alone
            stored = unit.todos.add(harness.make(1))
            assert unit.todos.change(stored.key, {"done": True}) == stored.model_copy(update={"done": True})
            assert unit.todos.change(stored.key, {}) == unit.todos.by_key(stored.key)

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

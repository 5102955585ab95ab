"""The to-do repository keeps the contract on every store; about as much as any user has to write."""

import pytest

from examples.todo.domain import Todo
from examples.todo.storage import Store, TodoUnit
from sqlrepo.testing import Harness, RepositoryContract


class TestTodos(RepositoryContract[Todo, int]):
    @pytest.fixture
    def harness(self, store: Store) -> Harness[Todo, int]:
        return Harness(
            open=lambda: TodoUnit(store),
            make=lambda n: Todo(key=f"k{n}", value=f"thing {n}", done=n % 2 == 0, priority=n % 3),
            change=lambda todo: todo.model_copy(update={"value": f"{todo.value}, changed"}),
        )


def test_change_writes_the_given_fields_alone(store: Store) -> None:
    with TodoUnit(store) as unit:
        stored = unit.todos.add(Todo(key="milk", value="two litres"))
        assert unit.todos.change("milk", {"done": True}) == stored.model_copy(update={"done": True})
        assert unit.todos.change("milk", {}) == unit.todos.by_key("milk")

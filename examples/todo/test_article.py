"""What the article tests of its repository and its unit of work, on every store."""

import pytest

from examples.todo.domain import Todo, TodoQuery, t
from examples.todo.storage import Store, TodoUnit
from sqlrepo import CheckViolationError, InvalidValueError, NotFoundError, UniqueViolationError

MILK = Todo(key="milk", value="two litres", priority=2)
SHAKE = Todo(key="Milk shake", value="vanilla")
TAX = Todo(key="tax return", value="100% of the receipts", done=True, priority=5)
SOY = Todo(key="soy milk", value="two packs", priority=2)


def keys(todos: list[Todo]) -> list[str]:
    return [todo.key for todo in todos]


# -- storing


def test_stored_is_read_back(store: Store) -> None:
    with TodoUnit(store) as unit:
        stored = unit.todos.add(MILK)
    assert stored == MILK.model_copy(update={"id": stored.id})
    with TodoUnit(store) as unit:
        assert unit.todos.by_key("milk") == unit.todos.get(stored.id or 0) == stored


def test_what_is_not_there_is_not_found(store: Store) -> None:
    with TodoUnit(store) as unit, pytest.raises(NotFoundError):
        unit.todos.by_key("milk")


# -- what the table refuses


def test_key_is_unique(store: Store) -> None:
    with TodoUnit(store) as unit:
        unit.todos.add(MILK)
    with pytest.raises(UniqueViolationError) as refused, TodoUnit(store) as unit:
        unit.todos.add(Todo(key="milk", value="again"))
    assert refused.value.fields == ("key",)
    with TodoUnit(store) as unit:
        assert [todo.value for todo in unit.todos.find()] == ["two litres"]


@pytest.mark.parametrize(("field", "longest"), [("key", 100), ("value", 1000)])
def test_value_may_be_so_long_and_no_longer(store: Store, field: str, longest: int) -> None:
    with TodoUnit(store) as unit:
        unit.todos.add(MILK.model_copy(update={field: "x" * longest}))
        with pytest.raises(InvalidValueError) as refused:
            unit.todos.add(SOY.model_copy(update={field: "x" * (longest + 1)}))
        assert refused.value.field == field
        assert unit.todos.count() == 1


def test_key_is_not_empty(store: Store) -> None:
    with pytest.raises(CheckViolationError) as refused, TodoUnit(store) as unit:
        unit.todos.add(Todo(key="", value="x"))
    assert refused.value.constraint == "ck_todo_key_not_empty"


# -- filters


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param(TodoQuery(), ["tax return", "milk", "soy milk", "Milk shake"], id="none"),
        pytest.param(TodoQuery(key_contains="milk"), ["milk", "soy milk"], id="key"),
        pytest.param(TodoQuery(value_contains="two"), ["milk", "soy milk"], id="value"),
        pytest.param(TodoQuery(value_contains="0%"), ["tax return"], id="value with a wildcard"),
        pytest.param(TodoQuery(done=True), ["tax return"], id="done"),
        pytest.param(TodoQuery(done=False), ["milk", "soy milk", "Milk shake"], id="not done"),
        pytest.param(TodoQuery(key_contains="milk", value_contains="packs", done=False), ["soy milk"], id="combined"),
        pytest.param(TodoQuery(key_contains="milk", done=True), [], id="combined, and nothing fits"),
        pytest.param(TodoQuery(limit=2), ["tax return", "milk"], id="limit"),
        pytest.param(TodoQuery(done=False, limit=1), ["milk"], id="limit of what fits"),
        pytest.param(TodoQuery(limit=0), [], id="limit of nothing"),
        pytest.param(TodoQuery(limit=2, offset=2), ["soy milk", "Milk shake"], id="limit and offset"),
    ],
)
def test_query_finds_what_it_says(store: Store, query: TodoQuery, found: list[str]) -> None:
    with TodoUnit(store) as unit:
        unit.todos.add_many([MILK, SHAKE, TAX, SOY])
        assert keys(unit.todos.find(query)) == found


def test_exact_key_finds_one(store: Store) -> None:
    with TodoUnit(store) as unit:
        unit.todos.add_many([MILK, SHAKE, SOY])
        assert keys(unit.todos.find(t.key == "milk")) == keys(unit.todos.find(key="milk")) == ["milk"]


# -- the unit of work


def test_unit_commits_when_it_is_left(store: Store) -> None:
    with TodoUnit(store) as unit:
        unit.todos.add_many([MILK, SOY])
    with TodoUnit(store) as unit:
        assert keys(unit.todos.find()) == ["milk", "soy milk"]


def test_exception_rolls_everything_back(store: Store) -> None:
    with pytest.raises(RuntimeError), TodoUnit(store) as unit:
        unit.todos.add_many([MILK, SOY])
        raise RuntimeError
    with TodoUnit(store) as unit:
        assert unit.todos.count() == 0


def test_unit_can_be_rolled_back_by_hand(store: Store) -> None:
    with TodoUnit(store) as unit:
        unit.todos.add(MILK)
        unit.rollback()
        unit.todos.add(SOY)
    with TodoUnit(store) as unit:
        assert keys(unit.todos.find()) == ["soy milk"]

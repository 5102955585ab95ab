"""Several writers upsert the same rows at once: each row is created once, and no write is lost."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlrepo import TransactionConflictError, retry
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import Shop, Todo

WRITERS, ROUNDS, KEYS = 8, 12, 3


def race(work):
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(work, range(WRITERS)))


@pytest.mark.parametrize("update", [None, (), ("value",)])
def test_each_row_is_created_once(shared, update):
    def upsert(todo):
        return retry(lambda: Shop(shared), lambda shop: shop.todos.upsert(todo, on="key", update=update), attempts=60)

    def write(writer):
        return [upsert(Todo(key=f"k{number % KEYS}", value=f"{writer}")) for number in range(ROUNDS)]

    upserted = [one for some in race(write) for one in some]
    created = Counter(one.entity.key for one in upserted if one.created)
    assert created == {f"k{number}": 1 for number in range(KEYS)}
    assert len({one.entity.id for one in upserted}) == KEYS
    with Shop(shared) as shop:
        assert sorted(todo.key for todo in shop.todos.find()) == sorted(created)


def test_batches_in_opposite_orders_all_get_through(shared):
    def write(writer):
        todos = [Todo(key=f"k{number}", value=f"{writer}") for number in range(KEYS)]
        batch = todos[:: 1 if writer % 2 else -1]
        return retry(lambda: Shop(shared), lambda shop: shop.todos.upsert_many(batch, on="key"), attempts=60)

    assert all(len(batch) == KEYS for batch in race(write))
    with Shop(shared) as shop:
        found = shop.todos.find()
    assert len(found) == KEYS
    assert len({todo.value for todo in found}) == 1


def test_the_first_to_commit_wins_in_memory():
    db = InMemoryDatabase()
    shop = Shop(db)

    def upsert_while_another_does():
        with shop:
            shop.todos.upsert(Todo(key="a"), on="key")
            with Shop(db) as first:
                first.todos.upsert(Todo(key="a"), on="key")

    with pytest.raises(TransactionConflictError):
        upsert_while_another_does()
    with shop:
        assert not shop.todos.upsert(Todo(key="a"), on="key").created

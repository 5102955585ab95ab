"""Transactions of memory: units open at once, the first committer of a row wins, and what is undone leaves no trace."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace

import pytest

from sqlrepo import (
    NotFoundError,
    StaleEntityError,
    TransactionConflictError,
    UniqueViolationError,
    UnsupportedError,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.units.domain import (
    Account,
    Accounts,
    Bank,
    Shop,
    Tag,
    Tags,
    Todo,
    Todos,
    create,
    database,
    leave_by,
    todo,
)


@pytest.fixture
def memory():
    return InMemoryDatabase()


def seeded(db, *keys):
    with Shop(db) as shop:
        return shop.todos.add_many([Todo(key=key) for key in keys])


def keys(db):
    return [one.key for one in Todos(db).find()]


def conflicting(unit):
    with pytest.raises(TransactionConflictError) as caught:
        unit.__exit__(None, None, None)
    assert caught.value.retryable


def entered(db):
    unit = Shop(db)
    return unit.__enter__()


@pytest.mark.parametrize(
    "write",
    [
        lambda shop, one: shop.todos.update(one.model_copy(update={"value": "second"})),
        lambda shop, one: shop.todos.patch(one.id, {"value": "second"}),
        lambda shop, one: shop.todos.save(one.model_copy(update={"value": "second"})),
        lambda shop, one: shop.todos.delete(one.id),
        lambda shop, one: shop.todos.update_where(todo.key == "a", set_={"value": "second"}),
        lambda shop, one: shop.todos.delete_where(todo.key == "a"),
    ],
)
def test_the_first_committer_of_a_row_wins(memory, write):
    (one,) = seeded(memory, "a")
    first, second = entered(memory), entered(memory)
    first.todos.patch(one.id, {"value": "first"})
    write(second, one)
    second.todos.add(Todo(key="lost, too"))
    first.__exit__(None, None, None)
    conflicting(second)

    assert [(one.key, one.value) for one in Todos(memory).find()] == [("a", "first")]
    with second:
        second.todos.patch(one.id, {"value": "again"})
    assert Todos(memory).get(one.id).value == "again"


def test_a_unit_that_only_reads_never_conflicts(memory):
    (one,) = seeded(memory, "a")
    first, second = entered(memory), entered(memory)
    assert second.todos.get(one.id) == one
    first.todos.delete(one.id)
    first.__exit__(None, None, None)

    assert second.todos.get_or_none(one.id) is None
    second.__exit__(None, None, None)


def test_uniques_are_looked_at_again_at_the_commit(memory):
    first, second = entered(memory), entered(memory)
    first.todos.add(Todo(key="same"))
    second.todos.add(Todo(key="same"))
    second.tags.add(Tag(owner="a", name="b"))
    first.__exit__(None, None, None)
    with pytest.raises(UniqueViolationError) as caught:
        second.__exit__(None, None, None)

    assert caught.value.fields == ("key",)
    assert Todos(memory).count() == 1
    assert Tags(memory).count() == 0


def test_a_value_that_was_freed_meanwhile_may_be_taken(memory):
    (one,) = seeded(memory, "a")
    first, second = entered(memory), entered(memory)
    first.todos.patch(one.id, {"key": "b"})
    first.__exit__(None, None, None)
    second.todos.add(Todo(key="a"))
    second.__exit__(None, None, None)

    assert sorted(keys(memory)) == ["a", "b"]


def test_a_value_taken_by_a_commit_is_seen_at_the_next_statement(memory):
    first, second = entered(memory), entered(memory)
    second.todos.count()
    first.todos.add(Todo(key="a"))
    first.__exit__(None, None, None)
    with pytest.raises(UniqueViolationError), second.savepoint():
        second.todos.add(Todo(key="a"))
    second.__exit__(None, None, None)


def test_a_row_changed_and_changed_back_in_one_unit_conflicts_with_nobody_s_values(memory):
    a, b = seeded(memory, "a", "b")
    with Shop(memory) as shop:
        shop.todos.patch(a.id, {"key": "x"})
        shop.todos.patch(b.id, {"key": "a"})
        shop.todos.patch(b.id, {"key": "b"})
        shop.todos.patch(a.id, {"key": "a"})
    with Shop(memory) as shop, pytest.raises(UniqueViolationError), shop.savepoint():
        shop.todos.add(Todo(key="a"))

    assert keys(memory) == ["a", "b"]


def test_a_swap_of_unique_values_is_committed_whole(memory):
    a, b = seeded(memory, "a", "b")
    with Shop(memory) as shop:
        shop.todos.patch(a.id, {"key": "x"})
        shop.todos.patch(b.id, {"key": "a"})
        shop.todos.patch(a.id, {"key": "b"})
    with Shop(memory) as shop:
        for key in "ab":
            with pytest.raises(UniqueViolationError), shop.savepoint():
                shop.todos.add(Todo(key=key))
        shop.todos.add(Todo(key="x"))

    assert keys(memory) == ["b", "a", "x"]


def test_what_was_rolled_back_leaves_no_trace_but_a_gap(memory):
    (first,) = seeded(memory, "a")
    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(memory), lambda shop: shop.todos.add_many([Todo(key="b"), Todo(key="c")]))
    (second,) = seeded(memory, "b")

    assert second.id == first.id + 3
    assert keys(memory) == ["a", "b"]


# -- threads


def hammered(db, write, threads=4, rounds=25):
    """Let threads count up until each has succeeded so often, and tell how often they had to try."""
    tries = []

    def work(number):
        pause = random.Random(number)
        for _ in range(rounds):
            for _ in range(500):
                tries.append(number)
                try:
                    write(db)
                    break
                except (StaleEntityError, TransactionConflictError):
                    time.sleep(pause.random() / 2000)
            else:
                raise AssertionError("never succeeded")

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return len(tries)


def count_up(db):
    with Bank(db) as bank:
        one = bank.accounts.get(1)
        bank.accounts.update(replace(one, balance=one.balance + 1))


def test_a_counter_with_a_version_loses_no_write(shared):
    with Bank(shared) as bank:
        bank.accounts.add(Account("a"))
    assert hammered(shared, count_up) >= 100

    assert (Accounts(shared).get(1).balance, Accounts(shared).get(1).version) == (100, 101)


def test_threads_that_add_get_different_keys(shared):
    def write(number):
        with Shop(shared) as shop:
            return [one.id for one in shop.todos.add_many([Todo(key=f"{number}.{i}") for i in range(5)])]

    with ThreadPoolExecutor(4) as pool:
        ids = [one for batch in pool.map(write, range(20)) for one in batch]

    assert len(set(ids)) == 100 == Todos(shared).count()


def test_of_threads_that_add_the_same_key_one_succeeds(memory):
    together = threading.Barrier(4)

    def write(_):
        together.wait(5)
        try:
            with Shop(memory) as shop:
                shop.todos.add(Todo(key="same"))
        except UniqueViolationError:
            return 0
        return 1

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 1
    assert keys(memory) == ["same"]


def test_a_commit_is_seen_whole_or_not_at_all(memory):
    seeded(memory, "a", "b")
    done = threading.Event()

    def write():
        for number in range(200):
            with Shop(memory) as shop:
                shop.todos.update_where(everything=True, set_={"priority": number})
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            assert len({one.priority for one in Todos(memory).find()}) == 1
        writing.result(5)


@pytest.mark.parametrize("lock", ["update", "skip", "nowait"])
def test_a_locked_row_that_somebody_else_wrote_is_a_conflict(memory, lock):
    (one,) = seeded(memory, "a")
    first, second = entered(memory), entered(memory)
    first.todos.get(one.id, lock=lock)
    second.todos.patch(one.id, {"value": "second"})
    second.__exit__(None, None, None)

    conflicting(first)
    assert Todos(memory).get(one.id).value == "second"


def test_a_locked_row_may_be_written_by_who_locked_it(memory):
    (one,) = seeded(memory, "a")
    with Shop(memory) as shop:
        shop.todos.find(lock="update")
        shop.todos.patch(one.id, {"value": "own"})
        shop.todos.find(lock="update")
        shop.todos.delete(one.id)

    assert keys(memory) == []


# -- lost updates


def patching(**changes):
    return lambda shop, one: shop.todos.patch(one.id, changes)


def updating(**changes):
    return lambda shop, one: shop.todos.update(one.model_copy(update=changes))


def saving(shop, one):
    shop.todos.save(one.model_copy(update={"value": "2"}))


def upserting(shop, one):
    shop.todos.upsert(one.model_copy(update={"value": "2"}), on="id")


def upserting_and_patching(shop, one):
    upserting(shop, one)
    shop.todos.patch(one.id, {"priority": 7})


def deleting(shop, one):
    shop.todos.delete(one.id)


def setting(criterion, **values):
    return lambda shop, one: shop.todos.update_where(criterion, set_=values)


def twice(shop, one):
    shop.todos.patch(one.id, {"value": "2"})
    with pytest.raises(KeyError):
        leave_by(KeyError(), shop.savepoint(), lambda _: shop.todos.patch(one.id, {"priority": 7}))
    shop.todos.update_where(todo.value == "2", set_={"done": True})


def replaced(shop, one):
    shop.todos.delete(one.id)
    shop.todos.add(one.model_copy(update={"value": "2"}))


# What each pair of writes leaves of a row ("", 0, False), as value, priority, done.
LATER_WRITE_WINS = {
    "patch of another field": (patching(value="1"), patching(priority=2), ("1", 2, False)),
    "patch of the same field": (patching(value="1"), patching(value="2"), ("2", 0, False)),
    "whole entity": (patching(value="1", priority=1), updating(priority=2), ("", 2, False)),
    "whole entity with the same values": (patching(value="1"), updating(), ("", 0, False)),
    "delete": (patching(value="1"), deleting, None),
    "delete, then insert": (patching(value="1"), replaced, ("2", 0, False)),
    "condition that holds": (patching(value="1"), setting(todo.priority == 0, done=True), ("1", 0, True)),
    "condition that no longer holds": (patching(priority=1), setting(todo.priority == 0, done=True), ("", 1, False)),
    "delete by a condition": (
        patching(priority=1),
        lambda shop, one: shop.todos.delete_where(todo.priority == 0),
        ("", 1, False),
    ),
    "several statements": (patching(priority=1), twice, ("2", 1, True)),
    "set form on a deleted row": (deleting, setting(todo.priority == 0, done=True), None),
    "patch of a deleted row": (deleting, patching(value="2"), NotFoundError),
    "whole entity on a deleted row": (deleting, updating(value="2"), NotFoundError),
    "delete of a deleted row": (deleting, deleting, NotFoundError),
    "save of a deleted row": (deleting, saving, ("2", 0, False)),
    "upsert of a deleted row": (deleting, upserting, ("2", 0, False)),
    "upsert and patch of a deleted row": (deleting, upserting_and_patching, ("2", 7, False)),
    "unique value that is taken": (
        lambda shop, one: shop.todos.add(Todo(key="b")),
        patching(key="b"),
        UniqueViolationError,
    ),
}


@pytest.fixture
def lossy(backend, tmp_path):
    """A database that lets the later of two writes win."""
    if backend not in ("memory", "sqlite"):
        made = database(backend)
    else:
        file = f"sqlite:///{tmp_path}/lossy.db"
        made = create(InMemoryDatabase(lost_updates="allow") if backend == "memory" else Database(file))
    yield made
    made.dispose()


def written_at_once(db, unit, first, second):
    """Write in two units, of which the first commits first; the second waits in between, or has written already."""
    committed = threading.Event()

    def write():
        with unit(db) as shop:
            second(shop)
            assert committed.wait(10)

    with ThreadPoolExecutor(1) as pool:
        with unit(db) as shop:
            first(shop)
            writing = pool.submit(write)
            time.sleep(0.1)  # on a database the second waits
        committed.set()
        writing.result(10)


@pytest.mark.parametrize("case", LATER_WRITE_WINS)
def test_the_later_write_wins_as_on_databases_if_lost_updates_are_allowed(lossy, case):
    first, second, expected = LATER_WRITE_WINS[case]
    (one,) = seeded(lossy, "a")
    ending = pytest.raises(expected) if isinstance(expected, type) else nullcontext()
    with ending:
        written_at_once(lossy, Shop, lambda shop: first(shop, one), lambda shop: second(shop, one))

    if not isinstance(expected, type):
        found = Todos(lossy).get_or_none(one.id)
        assert (found and (found.value, found.priority, found.done)) == expected


def with_version(bank):
    bank.accounts.patch(1, {"balance": 2, "version": 1})


def without_version(bank):
    bank.accounts.patch(1, {"name": "b"})


@pytest.mark.parametrize(
    ("second", "expected"), [(with_version, StaleEntityError), (without_version, Account("b", 1, 1, 3))]
)
def test_a_version_is_compared_and_counted_if_lost_updates_are_allowed(lossy, second, expected):
    with Bank(lossy) as bank:
        bank.accounts.add(Account("a"))
    ending = pytest.raises(expected) if isinstance(expected, type) else nullcontext()
    with ending as caught:
        written_at_once(lossy, Bank, lambda bank: bank.accounts.patch(1, {"balance": 1}), second)

    if isinstance(expected, type):
        assert (caught.value.entity, caught.value.key, caught.value.version) == (Account, 1, 1)
    else:
        assert Accounts(lossy).get(1) == expected


def test_a_locked_row_is_a_conflict_even_if_lost_updates_are_allowed():
    memory = InMemoryDatabase(lost_updates="allow")
    (one,) = seeded(memory, "a")
    first, second = entered(memory), entered(memory)
    first.todos.get(one.id, lock="update")
    first.todos.patch(one.id, {"value": "first"})
    second.todos.patch(one.id, {"value": "second"})
    second.__exit__(None, None, None)

    conflicting(first)


def conflict(unit, write):
    first, second = unit
    write(first)
    write(second)
    first.__exit__(None, None, None)
    with pytest.raises(TransactionConflictError) as caught:
        second.__exit__(None, None, None)
    return str(caught.value)


def test_a_conflict_over_a_table_without_version_says_what_a_database_would_do(memory):
    (one,) = seeded(memory, "a")
    text = conflict((entered(memory), entered(memory)), lambda shop: shop.todos.patch(one.id, {"value": "new"}))

    for words in ("READ COMMITTED", "lost in silence", "version column", "lock='update'", "lost_updates='allow'"):
        assert words in text


def test_a_conflict_over_a_table_with_a_version_says_nothing_of_lost_updates(memory):
    with Bank(memory) as bank:
        bank.accounts.add(Account("a"))
    units = tuple(Bank(memory).__enter__() for _ in range(2))

    assert "lost" not in conflict(units, lambda bank: bank.accounts.patch(1, {"name": "b"}))


@pytest.mark.parametrize("wrong", ["yes", None, True, ["allow"]])
def test_lost_updates_are_refused_or_allowed(wrong):
    with pytest.raises(UnsupportedError, match='lost_updates is "refuse" or "allow"'):
        InMemoryDatabase(lost_updates=wrong)

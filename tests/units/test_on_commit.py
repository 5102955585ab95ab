"""What waits for the commit runs after it, in order, once the connection is back, and undoes nothing."""

import pytest

from sqlrepo import RepositoryError, TransactionAbortedError, UniqueViolationError, UnsupportedError, retry
from tests.units.domain import Shop, Todo, Todos, connections_out


def test_callbacks_run_in_order_after_the_commit_and_once(db):
    seen = []
    with Shop(db) as shop:
        shop.on_commit(lambda: seen.append(("first", connections_out(db), Todos(db).count())))
        shop.todos.add(Todo(key="a"))
        shop.on_commit(lambda: seen.append(("second", connections_out(db), Todos(db).count())))
        assert seen == []
    with shop:
        pass

    assert seen == [("first", 0, 1), ("second", 0, 1)]


def test_callbacks_do_not_run_when_the_unit_was_aborted(db):
    seen = []
    with pytest.raises(TransactionAbortedError):
        leave_aborted(db, seen)

    assert seen == []


def leave_aborted(db, seen):
    with Shop(db) as shop:
        shop.on_commit(lambda: seen.append(1))
        with pytest.raises(UniqueViolationError):
            shop.todos.add_many([Todo(key="a"), Todo(key="a")])


def commit_with(db, *callbacks):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        for callback in callbacks:
            shop.on_commit(callback)


def test_a_callback_may_use_the_database_and_the_same_unit(db):
    shop = Shop(db)

    def again():
        with shop:
            shop.todos.add(Todo(key="b"))

    with shop:
        shop.todos.add(Todo(key="a"))
        shop.on_commit(again)

    assert [one.key for one in Todos(db).find()] == ["a", "b"]


def test_a_callback_of_an_early_commit_may_write_in_the_next_transaction(db):
    with Shop(db) as shop:
        shop.on_commit(lambda: shop.todos.add(Todo(key="b")))
        shop.commit()

    assert Todos(db).count() == 1


def test_an_exception_group_leaves_an_unit_that_can_be_entered_again(db):
    shop = Shop(db)

    def once():
        with shop:
            shop.todos.add(Todo(key="a"))
            shop.on_commit(lambda: 1 / 0)

    with pytest.raises(ExceptionGroup):
        once()
    with shop:
        assert shop.todos.count() == 1


def test_an_interrupt_in_a_callback_is_not_swallowed(db):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        commit_with(db, interrupt)
    assert Todos(db).count() == 1


async def later():
    """What only an async unit may wait for."""


def test_an_async_callback_is_refused_on_a_sync_unit(db):
    with Shop(db) as shop, pytest.raises(Exception, match="async") as caught:
        shop.on_commit(later)

    assert type(caught.value).__module__.startswith("sqlrepo")


def test_what_cannot_be_called_is_refused(db):
    with Shop(db) as shop:
        for given in (None, 3, "print"):
            with pytest.raises((TypeError, RepositoryError)):
                shop.on_commit(given)
        shop.todos.add(Todo(key="a"))

    assert Todos(db).count() == 1


def test_a_callback_that_turns_out_to_be_async_is_reported(db):
    async def send():
        """Never awaited."""

    with pytest.raises(ExceptionGroup) as caught, Shop(db) as shop:  # noqa: PT012  # raised on leaving
        shop.todos.add(Todo(key="a"))
        shop.on_commit(lambda: send())  # noqa: PLW0108  # a plain function that gives something to await
    assert [type(error) for error in caught.value.exceptions] == [UnsupportedError]
    assert Shop(db).todos.unit.is_open is False
    assert Todos(db).count() == 1


def test_retry_takes_no_async_function(db):
    async def work(_):
        """Never awaited."""

    with pytest.raises(UnsupportedError):
        retry(lambda: Shop(db), work)

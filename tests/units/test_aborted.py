"""After a refused statement nothing goes on, on every backend, until it is rolled back; savepoints undo exactly."""

import pytest
from sqlalchemy.exc import OperationalError

from sqlrepo import (
    ReadOnlyError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    UnitStateError,
)
from tests.units.domain import Lab, Shop, Tag, Tags, Todo, Todos, connections_out, leave_by, todo


def refuse(shop):
    with pytest.raises(UniqueViolationError) as caught:
        shop.todos.add_many([Todo(key="twice"), Todo(key="twice")])
    return caught.value


def keys(db):
    return [one.key for one in Todos(db).find()]


def test_every_call_after_a_refused_statement_is_refused(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        first = refuse(shop)
        for call in (
            shop.todos.find,
            lambda: shop.todos.get(1),
            lambda: shop.todos.get_many([1]),
            lambda: shop.todos.add(Todo(key="b")),
            lambda: shop.todos.update_where(todo.done, set_={"value": "v"}),
            shop.tags.count,
            lambda: Tags(shop).add(Tag(owner="a", name="b")),
            lambda: shop.savepoint().__enter__(),
            lambda: shop.on_commit(print),
        ):
            with pytest.raises(TransactionAbortedError) as caught:
                call()
            assert caught.value.__cause__ is first
            assert caught.value.retryable is False
        shop.rollback()
        shop.todos.add(Todo(key="c"))

    assert keys(db) == ["c"]


def test_committing_while_aborted_rolls_back_and_says_so(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        first = refuse(shop)
        with pytest.raises(TransactionAbortedError) as caught:
            shop.commit()
        assert caught.value.__cause__ is first
        assert connections_out(db) == 0
        assert shop.todos.count() == 0  # it is rolled back, so the unit goes on
        shop.todos.add(Todo(key="b"))

    assert keys(db) == ["b"]


def test_leaving_by_another_exception_raises_that_one(db):
    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(db), refuse)

    assert keys(db) == []


def test_the_refused_statement_s_own_error_leaves_the_unit(db):
    def work(shop):
        shop.todos.add(Todo(key="a"))
        shop.todos.add(Todo(key="a"))

    with pytest.raises(UniqueViolationError) as caught:
        leave_by(KeyError("never"), Shop(db), work)
    assert not hasattr(caught.value, "__notes__")
    assert keys(db) == []


def test_a_joined_repository_s_with_left_by_an_exception_aborts_the_unit(db):
    with Shop(db) as shop:
        with pytest.raises(KeyError):
            leave_by(KeyError(), shop.todos, lambda todos: todos.add(Todo(key="a")))
        with pytest.raises(TransactionAbortedError) as caught:
            shop.tags.count()
        assert isinstance(caught.value.__cause__, KeyError)
        shop.rollback()
    with Shop(db) as shop:
        with pytest.raises(KeyError), shop.savepoint():
            leave_by(KeyError(), shop.todos, lambda todos: todos.add(Todo(key="a")))
        shop.todos.add(Todo(key="b"))

    assert keys(db) == ["b"]


# -- savepoints


def test_a_savepoint_undoes_exactly_what_happened_in_it(db):
    with Lab(db) as lab:
        lab.todos.add_many([Todo(id=1, key="a"), Todo(id=2, key="b"), Todo(id=3, key="c")])
        lab.tags.add(Tag(owner="a", name="b"))
        before = (lab.todos.find(), lab.tags.find())

        def work(_):
            lab.todos.update(Todo(id=1, key="x", value="v"))
            lab.todos.delete(2)
            lab.todos.add(Todo(id=2, key="a"))
            lab.todos.delete(3)
            lab.todos.add(Todo(id=9, key="b"))
            lab.todos.update_where(everything=True, set_={"priority": 5})
            lab.tags.delete(("a", "b"))
            lab.tags.add(Tag(owner="a", name="b", weight=7))
            lab.tags.save(Tag(owner="c", name="d"))

        with pytest.raises(KeyError):
            leave_by(KeyError(), lab.savepoint(), work)
        assert (lab.todos.find(), lab.tags.find()) == before
        lab.todos.update(Todo(id=3, key="x"))  # uniques are as they were, too
        with pytest.raises(UniqueViolationError), lab.savepoint():
            lab.todos.add(Todo(key="a"))

    assert keys(db) == ["a", "b", "x"]


def test_a_refused_statement_in_the_outer_is_not_cured_by_an_inner_rollback(db):
    def work(shop):
        refuse(shop)
        with shop.savepoint():
            pass

    with Shop(db) as shop:
        with pytest.raises(TransactionAbortedError), shop.savepoint():
            work(shop)
        assert shop.todos.count() == 0


def test_a_conflict_aborts_through_savepoints(db):
    def conflict(_):
        raise TransactionConflictError("lost")

    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        with pytest.raises(TransactionConflictError), shop.savepoint():
            shop._work.run(conflict)
        with pytest.raises(TransactionAbortedError) as caught:
            shop.todos.count()
        assert isinstance(caught.value.__cause__, TransactionConflictError)
        shop.rollback()
        assert shop.todos.count() == 0


def test_a_savepoint_left_by_an_exception_that_leaves_the_unit_too_is_gone(db):
    shop = Shop(db)

    def work(shop):
        with shop.savepoint(), shop.savepoint():
            shop.todos.add(Todo(key="a"))
            raise KeyError

    with pytest.raises(KeyError):
        leave_by(ValueError("never"), shop, work)
    with shop, shop.savepoint():
        assert shop.todos.count() == 0


def test_savepoints_left_out_of_order_are_refused(db):
    def work(shop):
        outer, inner = shop.savepoint(), shop.savepoint()
        outer.__enter__()
        shop.todos.add(Todo(key="a"))
        inner.__enter__()
        outer.__exit__(None, None, None)
        inner.__exit__(None, None, None)

    with pytest.raises(UnitStateError):
        leave_by(KeyError("never"), Shop(db), work)
    assert keys(db) == []
    assert connections_out(db) == 0


def test_a_savepoint_left_by_an_exception_takes_those_inside_it_along(db):
    with Shop(db) as shop:
        outer, inner = shop.savepoint(), shop.savepoint()
        outer.__enter__()
        inner.__enter__()
        shop.todos.add(Todo(key="a"))
        error = KeyError()
        for left in (outer, inner):
            assert not left.__exit__(KeyError, error, None)
        shop.todos.add(Todo(key="b"))
    assert keys(db) == ["b"]


# -- read-only units


def test_a_write_in_a_read_only_unit_is_refused_and_does_not_abort(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(id=1, key="a"))
    with Shop(db, read_only=True) as shop:
        for call in (
            lambda: shop.todos.add(Todo(key="b")),
            lambda: shop.todos.update(Todo(id=1, key="b")),
            lambda: shop.todos.save(Todo(id=1, key="b")),
            lambda: shop.todos.patch(1, {"key": "b"}),
            lambda: shop.todos.delete(1),
            lambda: shop.todos.remove(Todo(id=1, key="a")),
            lambda: shop.todos.delete_where(everything=True),
            lambda: shop.todos.update_where(everything=True, set_={"value": "v"}),
            lambda: shop.todos.add_many([]),
        ):
            with pytest.raises(ReadOnlyError):
                call()
        with shop.savepoint():
            assert shop.todos.count() == 1
        with pytest.raises(KeyError):
            leave_by(KeyError(), shop.savepoint(), lambda _: shop.todos.count())
        assert shop.todos.get(1).key == "a"

    assert keys(db) == ["a"]
    assert connections_out(db) == 0


def test_a_read_only_unit_is_read_only_on_the_connection_too(sqlite):
    with Shop(sqlite, read_only=True) as shop:
        with pytest.raises(OperationalError):
            shop.connection.exec_driver_sql("INSERT INTO tag VALUES ('a', 'b', 1)")
        with pytest.raises(TransactionAbortedError) as caught:
            shop.todos.count()
        assert isinstance(caught.value.__cause__, ReadOnlyError)
        shop.rollback()
    assert Tags(sqlite).count() == 0

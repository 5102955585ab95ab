"""`.session` and `.connection` on SQLite take part in the unit; in memory there are none."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from sqlrepo import BaseUnitOfWork, ReadOnlyError, TransactionAbortedError, UniqueViolationError, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import Shop, Tag, TagRow, Tags, Todo, TodoRow, Todos, connections_out, leave_by


def row(key, **values):
    return TodoRow(key=key, **{"value": "", "done": False, "priority": 0, **values})


def keys(db):
    return [one.key for one in Todos(db).find()]


def test_memory_has_neither():
    with Shop(InMemoryDatabase()) as shop:
        for ask in (
            lambda: shop.session,
            lambda: shop.connection,
            lambda: shop.todos.session,
            lambda: shop.todos.connection,
        ):
            with pytest.raises(UnsupportedError):
                ask()
        shop.todos.add(Todo(key="a"))
        assert shop.todos.count() == 1


def test_there_is_one_session_per_transaction(sqlite):
    with Shop(sqlite) as shop:
        first = shop.session
        assert shop.session is first is shop.todos.session
        assert shop.connection is shop.todos.connection is first.connection()
        shop.commit()
        assert shop.session is not first
    assert connections_out(sqlite) == 0


def test_pending_objects_are_flushed_before_a_statement_and_committed_with_the_unit(sqlite):
    with Shop(sqlite) as shop:
        shop.session.add(row("a"))
        assert [one.key for one in shop.todos.find()] == ["a"]
        shop.session.add(row("b"))
        assert shop.todos.count() == 2
        shop.session.add(row("c"))
        shop.todos.update_where(everything=True, set_={"priority": 5})
        shop.session.add(row("d"))

    assert [(one.key, one.priority) for one in Todos(sqlite).find()] == [("a", 5), ("b", 5), ("c", 5), ("d", 0)]


def test_changed_and_deleted_objects_are_flushed_too(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add_many([Todo(key="a"), Todo(key="b")])
        first, second = shop.session.scalars(sa.select(TodoRow).order_by(TodoRow.id)).all()
        first.value = "v"
        shop.session.delete(second)
        assert [(one.key, one.value) for one in shop.todos.find()] == [("a", "v")]

    assert keys(sqlite) == ["a"]


def test_objects_see_what_the_repository_wrote(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(id=1, key="a"))
        mapped = shop.session.get(TodoRow, 1)
        assert mapped.value == ""
        shop.todos.patch(1, {"value": "v"})
        assert mapped.value == "v"
        shop.todos.delete(1)
        assert shop.session.get(TodoRow, 1) is None


def test_an_exception_rolls_the_session_back(sqlite):
    def work(shop):
        shop.session.add(row("a"))
        shop.session.flush()
        shop.session.add(row("b"))

    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(sqlite), work)
    assert keys(sqlite) == []
    assert connections_out(sqlite) == 0


def test_an_early_commit_takes_pending_objects_along(sqlite):
    with Shop(sqlite) as shop:
        shop.session.add(row("a"))
        shop.commit()
        assert keys(sqlite) == ["a"]
        shop.session.add(row("b"))
        shop.rollback()

    assert keys(sqlite) == ["a"]


def test_a_commit_of_the_session_flushes_and_leaves_the_commit_to_the_unit(sqlite):
    def work(shop):
        shop.session.add(row("a"))
        shop.session.commit()
        assert shop.todos.count() == 1
        shop.session.add(row("b"))
        shop.session.commit()

    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(sqlite), work)
    assert keys(sqlite) == []
    with Shop(sqlite) as shop:
        work(shop)
    assert keys(sqlite) == ["a", "b"]


@pytest.mark.parametrize("end", [lambda shop: shop.session.rollback(), lambda shop: shop.connection.close()])
def test_ending_the_session_or_connection_loses_the_transaction(sqlite, end):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        end(shop)
        with pytest.raises(TransactionAbortedError):
            shop.todos.add(Todo(key="b"))
        shop.rollback()
        shop.todos.add(Todo(key="c"))

    assert keys(sqlite) == ["c"]
    assert connections_out(sqlite) == 0


def test_leaving_after_a_rollback_of_the_session_says_that_all_is_lost(sqlite):
    with pytest.raises(TransactionAbortedError):
        roll_back_and_leave(sqlite)
    assert keys(sqlite) == []


def roll_back_and_leave(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        shop.session.rollback()


def test_a_refused_statement_of_the_session_aborts_the_unit(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        shop.session.add(row("a"))
        with pytest.raises(IntegrityError):
            shop.session.flush()
        with pytest.raises(TransactionAbortedError) as caught:
            shop.todos.count()
        assert isinstance(caught.value.__cause__, UniqueViolationError)
        assert caught.value.__cause__.fields == ("key",)
        shop.rollback()
    with pytest.raises(TransactionAbortedError):
        swallow_and_leave(sqlite)
    assert keys(sqlite) == []


def swallow_and_leave(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        with pytest.raises(IntegrityError):
            shop.connection.execute(sa.insert(TodoRow).values(key="a", value="", done=False, priority=0))


def test_a_refused_flush_is_reported_as_the_library_s_error(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        shop.session.add(row("a"))
        with pytest.raises(UniqueViolationError) as caught:
            shop.todos.count()
        assert caught.value.fields == ("key",)
        shop.rollback()


def test_a_refused_flush_at_the_commit_stores_nothing(sqlite):
    with pytest.raises(UniqueViolationError):
        flush_late(sqlite)
    assert keys(sqlite) == []
    assert connections_out(sqlite) == 0


def flush_late(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        shop.session.add(row("a"))


def test_a_savepoint_of_the_user_s_own_clears_a_refused_statement(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        with pytest.raises(IntegrityError), shop.session.begin_nested():
            shop.session.add(row("a"))
        shop.todos.add(Todo(key="b"))
        with pytest.raises(IntegrityError), shop.connection.begin_nested():
            shop.connection.execute(sa.insert(TodoRow).values(key="a", value="", done=False, priority=0))
        shop.todos.add(Todo(key="c"))

    assert keys(sqlite) == ["a", "b", "c"]


def test_a_savepoint_of_the_user_s_own_that_is_released_keeps_the_abort(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        nested = shop.connection.begin_nested()
        with pytest.raises(IntegrityError):
            shop.connection.execute(sa.insert(TodoRow).values(key="a", value="", done=False, priority=0))
        nested.commit()
        with pytest.raises(TransactionAbortedError):
            shop.todos.count()
        shop.rollback()


def test_savepoints_of_the_unit_and_the_user_s_nest(sqlite):
    with Shop(sqlite) as shop:
        with shop.savepoint():
            shop.todos.add(Todo(key="a"))
            with pytest.raises(KeyError):
                leave_by(KeyError(), shop.session.begin_nested(), lambda _: shop.todos.add(Todo(key="b")))
            with shop.session.begin_nested():
                shop.session.add(row("c"))
                with pytest.raises(UniqueViolationError), shop.savepoint():
                    shop.todos.add(Todo(key="a"))
            shop.todos.add(Todo(key="d"))
        shop.todos.add(Todo(key="e"))

    assert sorted(keys(sqlite)) == ["a", "c", "d", "e"]


def test_a_savepoint_undoes_what_the_session_did_in_it(sqlite):
    with Shop(sqlite) as shop:
        shop.session.add(row("a"))

        def work(_):
            shop.session.add(row("b"))
            shop.session.flush()
            shop.session.add(row("c"))

        with pytest.raises(KeyError):
            leave_by(KeyError(), shop.savepoint(), work)
        shop.session.add(row("d"))
        assert [one.key for one in shop.todos.find()] == ["a", "d"]
        assert shop.session.scalars(sa.select(TodoRow.key).order_by(TodoRow.id)).all() == ["a", "d"]

    assert keys(sqlite) == ["a", "d"]


def test_a_finder_in_sql_sees_the_unit_s_writes(sqlite):
    class Counting(Todos):
        def longest(self):
            return self.session.scalar(sa.select(sa.func.max(sa.func.length(TodoRow.key))))

    class Store(BaseUnitOfWork):
        todos: Counting

    with Store(sqlite) as store:
        store.todos.add_many([Todo(key="a"), Todo(key="bcd")])
        assert store.todos.longest() == 3


def test_a_session_is_closed_with_the_unit(sqlite):
    with Shop(sqlite) as shop:
        session = shop.session
        session.add(row("a"))
        session.flush()
        mapped = session.scalars(sa.select(TodoRow)).one()
    assert mapped not in session
    with Shop(sqlite) as shop:
        shop.tags.add(Tag(owner="a", name="b"))
        assert shop.session.get(TagRow, ("a", "b")).weight == 0
    assert Tags(sqlite).count() == 1


def test_objects_from_before_a_savepoint_stay_in_the_session(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(id=1, key="a"))
        loaded, added = shop.session.get(TodoRow, 1), row("b")
        shop.session.add(added)
        with pytest.raises(KeyError):
            leave_by(KeyError(), shop.savepoint(), lambda _: shop.todos.patch(1, {"priority": 9}))
        assert loaded.priority == 0
        loaded.value = added.value = "changed afterwards"

    assert [(one.key, one.value) for one in Todos(sqlite).find()] == [
        ("a", "changed afterwards"), ("b", "changed afterwards")]  # fmt: skip


def test_a_refused_flush_at_the_end_of_a_savepoint_undoes_it(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        with pytest.raises(UniqueViolationError), shop.savepoint():
            shop.session.add_all([row("b"), row("a")])
        shop.todos.add(Todo(key="c"))

    assert keys(sqlite) == ["a", "c"]


def test_a_write_of_the_session_in_a_read_only_unit_stores_nothing(sqlite):
    with pytest.raises(ReadOnlyError):
        add_read_only(sqlite)
    with Shop(sqlite) as shop:
        shop.session.add(row("b"))
    assert keys(sqlite) == ["b"]
    assert connections_out(sqlite) == 0


def add_read_only(db):
    with Shop(db, read_only=True) as shop:
        shop.session.add(row("a"))


def test_closing_the_session_leaves_the_unit_alone(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        shop.session.close()
        shop.todos.add(Todo(key="b"))
        shop.session.add(row("c"))

    assert keys(sqlite) == ["a", "b", "c"]


def test_the_session_lives_on_after_a_savepoint_undid_a_refused_flush(sqlite):
    with Shop(sqlite) as shop:
        shop.todos.add(Todo(key="a"))
        for session_first in (False, True):
            if session_first:
                assert shop.session.get(TodoRow, 1).key == "a"
            with pytest.raises(UniqueViolationError), shop.savepoint():
                shop.session.add(row("a"))
        with shop.savepoint():
            shop.session.add(row("b"))
        with shop.session.begin_nested():
            shop.session.add(row("c"))
        shop.session.add(row("d"))

    assert keys(sqlite) == ["a", "b", "c", "d"]

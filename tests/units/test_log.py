"""What units tell under the logger `sqlrepo`: beginning, end, abort, connections held for nothing; never a value."""

import logging
from contextlib import nullcontext

import pytest
import sqlalchemy as sa

from sqlrepo import BaseUnitOfWork, UniqueViolationError, UnitStateError
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import fail_next
from tests.clock import clock
from tests.units.domain import Shop, Todo, TodoRow, Todos, leave_by

__all__ = ["clock"]


@pytest.fixture
def told(caplog):
    """What was told, at a level or all of it."""
    caplog.set_level(logging.DEBUG, "sqlrepo")

    def lines(level=None):
        records = [record for record in caplog.records if record.name == "sqlrepo"]
        return [record.getMessage() for record in records if level in (None, record.levelno)]

    return lines


def words(lines, *wanted):
    """Which of some words the lines have, in the order of the lines."""
    return [word for line in lines for word in wanted if word in line]


ENDS = ("began", "aborted by UniqueViolationError", "committed", "rolled back", "could not commit")


def test_beginning_and_end(db, told):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="s3cret"))
        shop.commit()
        shop.todos.add(Todo(key="s3cret 2"))
        shop.rollback()
    assert words(told(), *ENDS) == ["began", "committed", "rolled back", "committed"]
    assert all(line.startswith("Shop ") for line in told(logging.DEBUG))
    assert not any("s3cret" in line or "todo" in line.lower() for line in told())


def test_log_lines_name_each_unit(db, told):
    with Shop(db, read_only=True), Shop(db, read_only=True):
        pass
    begun = [line for line in told() if "began" in line]
    assert len(set(begun)) == 2


def test_an_error_is_logged_by_its_class(db, told):
    with pytest.raises(KeyError):
        leave_by(KeyError("s3cret"), Shop(db), lambda shop: shop.todos.count())
    assert words(told(), *ENDS) == ["began", "rolled back"]
    assert "KeyError" in told()[-1]
    assert "s3cret" not in told()[-1]


def test_an_abort_is_logged_once(db, told):
    with pytest.raises(UniqueViolationError), Shop(db) as shop:
        shop.todos.add_many([Todo(key="s3cret"), Todo(key="s3cret")])
    assert words(told(), *ENDS) == ["began", "aborted by UniqueViolationError", "rolled back"]
    assert not any("s3cret" in line for line in told())


def test_a_savepoint_that_is_rolled_back_ends_no_unit(db, told):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        with pytest.raises(UniqueViolationError), shop.savepoint():
            shop.todos.add(Todo(key="a"))
    assert words(told(), *ENDS) == ["began", "aborted by UniqueViolationError", "committed"]


def test_a_commit_that_fails_is_logged(db, told):
    error = UniqueViolationError(None)
    with pytest.raises(UniqueViolationError), fail_next("commit", error), Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
    assert words(told(), *ENDS) == ["began", "could not commit"]


def test_a_repository_alone_is_logged_by_its_name(db, told):
    Todos(db).count()
    assert words(told(), *ENDS) == ["began", "committed"]
    assert all(line.startswith("Todos ") for line in told())


def test_messages_name_what_the_application_has(db):
    with pytest.raises(UnitStateError, match="Todos"):
        Todos(db).unit.commit()


def test_messages_distinguish_too_early_from_too_late(db):
    shop = Shop(db)
    with pytest.raises(UnitStateError, match="enter it first"):
        shop.todos.count()
    with shop:
        pass
    with pytest.raises(UnitStateError, match="left already"):
        shop.todos.count()


# -- connections held for nothing


def test_a_connection_held_between_two_calls_is_a_warning(db, clock, told):
    with Shop(db) as shop:
        clock.sleep(5)  # none is held yet
        shop.todos.count()
        clock.sleep(0.9)
        shop.todos.count()
        assert told(logging.WARNING) == []
        clock.sleep(1.5)
        shop.todos.count()
        [warning] = told(logging.WARNING)
    assert warning.startswith("Shop ")
    assert "1.5 s" in warning
    assert len(told(logging.WARNING)) == 1


def leave_after(unit, clock, *, failing):
    with unit:
        unit.todos.count()
        clock.sleep(2)
        if failing:
            raise KeyError


@pytest.mark.parametrize("failing", [False, True], ids=["commit", "rollback"])
def test_one_held_until_the_end_is_a_warning(db, clock, told, failing):
    with pytest.raises(KeyError) if failing else nullcontext():
        leave_after(Shop(db), clock, failing=failing)
    assert len(told(logging.WARNING)) == 1


def test_a_transaction_that_was_ended_holds_none(db, clock, told):
    with Shop(db) as shop:
        shop.todos.count()
        shop.commit()
        clock.sleep(60)
        shop.todos.count()
        shop.rollback()
        clock.sleep(60)
    assert told(logging.WARNING) == []


def test_a_class_says_what_is_too_long(db, clock, told):
    class Patient(BaseUnitOfWork):
        todos: Todos
        idle_warning = float("inf")

    class Hasty(Patient):
        idle_warning = 0.1

    for unit in (Patient, Hasty):
        with unit(db) as shop:
            shop.todos.count()
            clock.sleep(0.5)
    [warning] = told(logging.WARNING)
    assert warning.startswith("Hasty ")


def test_a_stream_that_is_read_slowly_holds_a_connection(db, clock, told):
    with Shop(db) as shop:
        shop.todos.add_many([Todo(key=f"{number}") for number in range(1500)])
        for number, _ in enumerate(shop.todos.stream()):
            if number == 500:
                clock.sleep(2)
    assert len(told(logging.WARNING)) == 1


def test_statements_of_a_session_are_queries(sqlite, clock, told):
    with Shop(sqlite) as shop:
        session = shop.session
        for _ in range(5):
            clock.sleep(0.9)
            session.scalar(sa.select(sa.func.count()).select_from(TodoRow))
    assert told(logging.WARNING) == []


def test_a_joined_session_holds_what_the_application_holds(clock, told):
    db = Database("sqlite://")
    TodoRow.metadata.create_all(db.engine)
    with sa.orm.Session(db.engine) as session:
        shop = Shop(session)
        shop.todos.count()
        clock.sleep(60)
        shop.todos.add(Todo(key="s3cret"))
        with pytest.raises(UniqueViolationError):
            shop.todos.add(Todo(key="s3cret"))
    db.dispose()
    assert told(logging.WARNING) == []
    assert words(told(), *ENDS) == ["aborted by UniqueViolationError"]

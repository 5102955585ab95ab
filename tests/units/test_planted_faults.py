"""A planted failure does to a unit of work what the backend's own would do, and leaves nothing behind."""

import gc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import get_args

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from sqlrepo import (
    CheckViolationError,
    DatabaseUnavailableError,
    LockTimeoutError,
    ProgrammingError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    retry,
)
from sqlrepo.core import unit
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory.driver import MemoryDriver
from sqlrepo.testing import FaultNotMetError, fail_next, probes, query_budget
from sqlrepo.testing.probes import Verb
from tests.units.domain import Shop, Todo, TodoRow, Todos, create, todo

# One call for every primitive that a unit can fail in; each needs the row of the key "there".
STATEMENTS = {
    "fetch": lambda shop: shop.todos.find(),
    "count": lambda shop: shop.todos.count(),
    "group": lambda shop: shop.todos.counts(todo.done),
    "insert": lambda shop: shop.todos.add(Todo(key="more")),
    "update": lambda shop: shop.todos.update_where(everything=True, set_={"value": "changed"}),
    "upsert": lambda shop: shop.todos.upsert(Todo(key="there", value="changed"), on="key"),
    "delete": lambda shop: shop.todos.delete_where(everything=True),
}
TRANSACTIONS = {"begin", "commit", "rollback", "savepoint", "release", "rollback_to"}

statements = pytest.mark.parametrize("verb", list(STATEMENTS))
on_databases = pytest.mark.parametrize("backend", ["sqlite", "postgresql", "mariadb"], indirect=True)


@pytest.fixture(autouse=True)
def nothing_left(db):
    """Nothing is armed after a test, and every connection is given back."""
    with Todos(db) as todos:
        todos.add(Todo(key="there"))
    yield
    assert not probes.is_active()
    if not isinstance(db, InMemoryDatabase):
        assert db.engine.pool.checkedout() == 0


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    pauses = []
    monkeypatch.setattr(unit.time, "sleep", pauses.append)
    return pauses


def add(key, shop):
    return shop.todos.add(Todo(key=key))


def work(db, *calls, **options):
    with Shop(db, **options) as shop:
        for call in calls:
            call(shop)


def keys(db):
    return [row.key for row in Todos(db).find(order_by="id")]


def survived(shop, call):
    with pytest.raises(LockTimeoutError) as caught:
        call(shop)
    return caught.value


def aborted_by(error, shop):
    with pytest.raises(TransactionAbortedError) as caught:
        shop.todos.count()
    assert caught.value.__cause__ is error


def in_savepoint(*calls):
    def call(shop):
        with shop.savepoint():
            for one in calls:
                one(shop)

    return call


def raising(error):
    def call(_):
        raise error

    return call


def test_every_verb_is_tried_here():
    assert set(get_args(Verb)) == {*STATEMENTS, *TRANSACTIONS}


# -- statements


@statements
def test_a_statement_fails_with_the_error_and_nothing_is_kept(db, verb):
    with fail_next(verb, LockTimeoutError("planted")) as fault, pytest.raises(LockTimeoutError) as caught:
        work(db, *([partial(add, "first")] if verb != "insert" else []), STATEMENTS[verb])
    assert caught.value is fault.error
    assert fault.met
    assert [(row.key, row.value) for row in Todos(db).find()] == [("there", "")]


@statements
def test_it_fails_once(db, verb):
    with fail_next(verb, LockTimeoutError):
        with pytest.raises(LockTimeoutError):
            work(db, STATEMENTS[verb])
        work(db, STATEMENTS[verb])


@statements
def test_a_failed_statement_is_not_sent(db, verb):
    with query_budget(0), fail_next(verb, LockTimeoutError), pytest.raises(LockTimeoutError):
        work(db, STATEMENTS[verb])


@statements
def test_a_failed_statement_aborts_the_unit(db, verb):
    fault = fail_next(verb, LockTimeoutError)
    with pytest.raises(TransactionAbortedError) as caught:
        work(db, lambda shop: survived(shop, STATEMENTS[verb]), STATEMENTS["fetch"])
    assert caught.value.__cause__ is fault.error


@statements
def test_a_unit_that_swallows_the_failure_is_not_committed(db, verb):
    fault = fail_next(verb, LockTimeoutError)
    with pytest.raises(TransactionAbortedError) as caught:
        work(db, lambda shop: survived(shop, STATEMENTS[verb]))
    assert caught.value.__cause__ is fault.error


@statements
def test_a_savepoint_heals_it(db, verb):
    with fail_next(verb, LockTimeoutError):
        work(db, lambda shop: survived(shop, in_savepoint(STATEMENTS[verb])), partial(add, "after"))
    assert keys(db) == ["there", "after"]


@pytest.mark.parametrize(
    "error", [TransactionConflictError(), DatabaseUnavailableError("lost"), OSError("no error of ours")]
)
@statements
def test_what_ends_a_transaction_goes_through_savepoints(db, verb, error):
    def swallowing(shop):
        with pytest.raises(type(error)):
            in_savepoint(partial(add, "inside") if verb != "insert" else STATEMENTS["count"], STATEMENTS[verb])(shop)

    with fail_next(verb, error), pytest.raises(TransactionAbortedError) as caught:
        work(db, swallowing, STATEMENTS["fetch"])
    assert caught.value.__cause__ is error
    assert keys(db) == ["there"]


def test_a_repository_alone_meets_it_too(db):
    with fail_next("fetch", LockTimeoutError), pytest.raises(LockTimeoutError):
        Todos(db).find()
    assert keys(db) == ["there"]


def test_a_constraint_keeps_its_fields(db):
    with fail_next("insert", UniqueViolationError("uq", ["key"])), pytest.raises(UniqueViolationError) as caught:
        work(db, partial(add, "x"))
    assert (caught.value.constraint, caught.value.fields) == ("uq", ("key",))


# -- begin


def test_a_unit_that_cannot_begin_may_try_again(db):
    with fail_next("begin", DatabaseUnavailableError("planted")), Shop(db) as shop:
        with pytest.raises(DatabaseUnavailableError):
            shop.todos.count()
        add("after", shop)
    assert keys(db) == ["there", "after"]


def test_a_unit_that_sends_nothing_does_not_begin(db):
    with pytest.raises(FaultNotMetError) as caught, fail_next("begin", LockTimeoutError), Shop(db):
        pass
    assert (caught.value.verb, type(caught.value.error)) == ("begin", LockTimeoutError)


# -- savepoints


def test_a_savepoint_that_cannot_be_set_aborts_the_unit(db):
    with fail_next("savepoint", LockTimeoutError) as fault, pytest.raises(TransactionAbortedError) as caught:
        work(db, lambda shop: survived(shop, in_savepoint()), STATEMENTS["fetch"])
    assert caught.value.__cause__ is fault.error


def test_a_savepoint_that_cannot_be_released_aborts_the_unit(db):
    with fail_next("release", LockTimeoutError) as fault, Shop(db) as shop:
        survived(shop, in_savepoint(partial(add, "inside")))
        aborted_by(fault.error, shop)
        shop.rollback()
        add("after", shop)
    assert keys(db) == ["there", "after"]


def test_a_savepoint_that_cannot_be_undone_aborts_the_unit_and_the_first_error_counts(db):
    first = LockTimeoutError("first")
    with fail_next("rollback_to", CheckViolationError("second")) as fault, Shop(db) as shop:
        assert survived(shop, in_savepoint(partial(add, "inside"), raising(first))) is first
        aborted_by(fault.error, shop)
        shop.rollback()
        add("after", shop)
    assert len(first.__notes__) == 1
    assert keys(db) == ["there", "after"]


@pytest.mark.parametrize("verb", ["savepoint", "release", "rollback_to"])
def test_a_savepoint_around_it_heals_a_savepoint_that_fails(db, verb):
    last = [raising(LockTimeoutError("first"))] if verb == "rollback_to" else []
    faults = []

    def plant(_):
        faults.append(fail_next(verb, LockTimeoutError))

    with Shop(db) as shop:
        add("before", shop)
        survived(shop, in_savepoint(partial(add, "around"), plant, in_savepoint(partial(add, "inside"), *last)))
        add("after", shop)
    assert faults[0].met
    assert keys(db) == ["there", "before", "after"]


@on_databases
@pytest.mark.parametrize("verb", ["savepoint", "release", "rollback_to"])
def test_it_does_what_a_savepoint_does_that_the_server_refuses(db, verb, monkeypatch):
    def outcome(shop):
        last = [raising(KeyError())] if verb == "rollback_to" else []
        with pytest.raises(KeyError if last else ProgrammingError) as caught:
            in_savepoint(partial(add, "inside"), *last)(shop)
        with pytest.raises(TransactionAbortedError) as aborted:
            shop.todos.count()
        shop.rollback()
        return len(getattr(caught.value, "__notes__", ())), type(aborted.value.__cause__), shop.todos.count()

    def refused(connection, name):
        connection.exec_driver_sql("SELEKT")

    name = {"savepoint": "savepoint", "release": "release_savepoint", "rollback_to": "rollback_to_savepoint"}[verb]
    with fail_next(verb, ProgrammingError("planted")), Shop(db) as shop:
        planted = outcome(shop)
    with Shop(db) as shop, monkeypatch.context() as patched:
        patched.setattr(db.engine.dialect, f"do_{name}", refused)
        assert outcome(shop) == planted == (int(verb == "rollback_to"), ProgrammingError, 1)


# -- commit


@pytest.mark.parametrize("error", [TransactionConflictError(), UniqueViolationError("uq"), KeyboardInterrupt()])
def test_a_commit_that_fails_leaves_nothing_and_gives_the_connection_back(db, error):
    called = []
    with fail_next("commit", error), pytest.raises(type(error)) as caught:
        work(db, partial(add, "lost"), lambda shop: shop.on_commit(lambda: called.append(True)))
    assert caught.value is error
    assert (keys(db), called) == (["there"], [])


def test_a_unit_whose_commit_failed_can_be_entered_again(db):
    shop = Shop(db)
    with fail_next("commit", TransactionConflictError), pytest.raises(TransactionConflictError), shop:
        add("lost", shop)
    with shop:
        add("kept", shop)
    assert keys(db) == ["there", "kept"]


def test_an_early_commit_that_fails_leaves_the_unit_open(db):
    called = []
    with fail_next("commit", TransactionConflictError), Shop(db) as shop:
        add("lost", shop)
        shop.on_commit(lambda: called.append("lost"))
        with pytest.raises(TransactionConflictError):
            shop.commit()
        add("kept", shop)
        shop.on_commit(lambda: called.append("kept"))
    assert (keys(db), called) == (["there", "kept"], ["kept"])


def test_a_retry_does_nothing_twice(db, slept):
    tries, called = [], []

    def one(shop):
        tries.append(True)
        shop.on_commit(lambda: called.append(True))
        return add("once", shop)

    with fail_next("commit", TransactionConflictError):
        stored = retry(lambda: Shop(db), one)
    assert (len(tries), len(called), len(slept)) == (2, 1, 1)
    assert Todos(db).get(stored.id).key == "once"
    assert keys(db) == ["there", "once"]


def test_a_connection_lost_in_commit_is_not_tried_again(db, slept):
    error = DatabaseUnavailableError("planted")
    assert error.retryable
    with fail_next("commit", error), pytest.raises(DatabaseUnavailableError) as caught:
        retry(lambda: Shop(db), partial(add, "unknown"))
    assert not caught.value.retryable
    assert caught.value.__cause__ is error
    assert slept == []


@on_databases
def test_what_waits_in_a_session_is_lost_with_the_commit(db):
    def pending(shop):
        shop.session.add(TodoRow(key="pending", value="", done=False, priority=0))

    with fail_next("commit", TransactionConflictError), pytest.raises(TransactionConflictError):
        work(db, pending)
    assert keys(db) == ["there"]


def test_a_second_failure_is_a_note_of_the_first(db):
    first = LockTimeoutError("first")
    with fail_next("rollback", KeyError("second")), fail_next("fetch", first), pytest.raises(LockTimeoutError):
        work(db, STATEMENTS["fetch"])
    assert len(first.__notes__) == 1


def test_what_fails_in_undoing_a_failed_commit_is_a_note_of_it(monkeypatch):
    db, first = create(InMemoryDatabase()), TransactionConflictError("first")
    monkeypatch.setattr(MemoryDriver, "rollback", raising(KeyError("second")))
    with fail_next("commit", first, on=db), pytest.raises(TransactionConflictError) as caught:
        work(db, partial(add, "x"))
    assert caught.value is first
    assert len(first.__notes__) == 1


# -- rollback


def test_a_rollback_that_fails_undoes_and_gives_the_connection_back(db):
    with fail_next("rollback", DatabaseUnavailableError("planted")), Shop(db) as shop:
        add("undone", shop)
        with pytest.raises(DatabaseUnavailableError):
            shop.rollback()
        add("kept", shop)
    assert keys(db) == ["there", "kept"]


# -- planting


def test_a_fault_that_nothing_meets_is_a_failure_and_is_gone(db):
    with pytest.raises(FaultNotMetError) as caught, fail_next("delete", LockTimeoutError):
        Todos(db).find()
    assert isinstance(caught.value, AssertionError)
    work(db, STATEMENTS["delete"])


def test_an_error_of_the_block_is_the_one_that_is_raised(db):
    with pytest.raises(KeyError), fail_next("delete", LockTimeoutError):
        raise KeyError
    work(db, STATEMENTS["delete"])


def test_a_plain_call_arms_and_can_be_taken_back(db):
    fault = fail_next("fetch", LockTimeoutError)
    other = fail_next("fetch", CheckViolationError("planted"))
    fault.disarm()
    with pytest.raises(CheckViolationError):
        Todos(db).find()
    assert (fault.met, other.met) == (False, True)
    assert keys(db) == ["there"]


def test_faults_are_met_in_the_order_they_were_planted(db, slept):
    errors = [TransactionConflictError(str(number)) for number in range(3)]
    faults = [fail_next("commit", error) for error in errors]
    with pytest.raises(TransactionConflictError) as caught:
        retry(lambda: Shop(db), partial(add, "never"))
    assert caught.value is errors[2]
    assert all(fault.met for fault in faults)


def test_a_fault_is_for_one_database_where_it_says_so(db):
    other = create(InMemoryDatabase())
    with fail_next("insert", LockTimeoutError, on=other):
        work(db, partial(add, "kept"))
        with pytest.raises(LockTimeoutError):
            work(other, partial(add, "lost"))
    assert (keys(db), keys(other)) == (["there", "kept"], [])


def test_one_of_many_threads_meets_it(shared):
    def one(number):
        try:
            work(shared, partial(add, str(number)))
        except TransactionConflictError:
            return 1
        return 0

    with fail_next("commit", TransactionConflictError, on=shared), ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, range(12))) == 1
    assert Todos(shared).count() == 11 + keys(shared).count("there")


@on_databases
def test_a_unit_that_joined_a_session_meets_statements_and_no_commit(db):
    with Session(db.engine) as session:
        shop = Shop(session)
        with fail_next("insert", LockTimeoutError, on=db), pytest.raises(LockTimeoutError), shop:
            add("lost", shop)
        add("kept", shop)
        fault = fail_next("commit", LockTimeoutError, on=db)
        session.commit()
        fault.disarm()
    assert not fault.met
    assert keys(db) == ["there", "kept"]


@on_databases
def test_statements_of_a_session_meet_none(db):
    with pytest.raises(FaultNotMetError), fail_next("fetch", LockTimeoutError), Shop(db) as shop:
        assert shop.session.scalars(sa.select(TodoRow.key)).all() == ["there"]


@pytest.mark.parametrize(("verb", "meant"), [("comit", "commit"), ("select", "delete"), ("rollback-to", "rollback_to")])
def test_an_unknown_verb_is_answered_with_the_nearest(verb, meant):
    with pytest.raises(ValueError, match=f"'{meant}'"):
        fail_next(verb, LockTimeoutError)


@pytest.mark.parametrize("error", ["no exception", Todo(key="x"), int, None])
def test_only_exceptions_can_be_planted(error):
    with pytest.raises(TypeError):
        fail_next("commit", error)


def test_an_error_that_needs_arguments_is_planted_with_them():
    with pytest.raises(TypeError):
        fail_next("commit", DatabaseUnavailableError)


def test_a_fault_that_is_over_keeps_nothing_alive(db):
    with fail_next("fetch", LockTimeoutError), pytest.raises(LockTimeoutError):
        Todos(db).find()
    gc.collect()
    assert not probes.is_active()

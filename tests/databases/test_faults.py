"""What goes wrong on a server, made to go wrong: each its own error, the unit rolled back, no connection kept."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sqlrepo import (
    DatabaseUnavailableError,
    ForeignKeyViolationError,
    InvalidValueError,
    LockTimeoutError,
    NotNullViolationError,
    ProgrammingError,
    ReadOnlyError,
    StatementTimeoutError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    retry,
)
from sqlrepo.sqlalchemy import Database
from tests.databases.domain import Attic, Owner, Thing, ThingRow, Things, thing


def codes(db):
    return {one.code for one in Things(db).find()}


def leaking_nothing(error):
    """Whether a message keeps the driver's text, and so the values of rows, to itself."""
    return "secret" not in str(error) and "secret" not in repr(error)


@pytest.fixture
def attic(db):
    with Attic(db) as attic:
        attic.owners.add(Owner(id=1, name="ann"))
        attic.things.add(Thing(id=1, code="a", owner=1, first=1, second=1))
    return db


# -- constraints


@pytest.mark.parametrize(
    "statement", [sa.insert(ThingRow).values(size=1, weight=1), sa.update(ThingRow).values(code=None)]
)
def test_a_violation_through_the_session_is_raised_when_the_unit_ends(attic, statement):
    with pytest.raises(TransactionAbortedError) as aborted, Attic(attic) as unit, pytest.raises(sa.exc.DBAPIError):
        unit.session.execute(statement)
    found = aborted.value.__cause__
    assert (type(found), found.constraint, found.fields) == (NotNullViolationError, None, ("code",))
    assert codes(attic) == {"a"}


def test_a_row_that_is_referred_to_is_kept(attic):
    with pytest.raises(ForeignKeyViolationError) as caught, Attic(attic) as unit:
        unit.owners.delete(1)
    assert caught.value.constraint == "fk_owner"


def test_a_savepoint_heals_a_violation(attic):
    with Attic(attic) as unit:
        with pytest.raises(UniqueViolationError), unit.savepoint():
            unit.things.add_many([Thing(code="b"), Thing(code="a")])
        unit.things.add(Thing(code="c"))

    assert codes(attic) == {"a", "c"}


def test_a_deferred_constraint_is_refused_at_commit(attic, kind):
    if kind != "postgresql":
        pytest.skip("MariaDB and MySQL have no deferred constraints")
    with attic.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE thing ALTER CONSTRAINT fk_owner DEFERRABLE INITIALLY DEFERRED")
    try:
        with pytest.raises(ForeignKeyViolationError) as caught, Attic(attic) as unit:
            unit.things.add(Thing(code="b", owner=9))
        assert caught.value.constraint == "fk_owner"
        assert codes(attic) == {"a"}
    finally:
        with attic.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE thing ALTER CONSTRAINT fk_owner NOT DEFERRABLE")


# -- values and statements that only the server refuses


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE thing SET note = 'secret that is much too long'", InvalidValueError),
        ("UPDATE thing SET size = 99999999999", InvalidValueError),
        ("SELECT * FROM nowhere", ProgrammingError),
        ("SELECT nothing FROM thing", ProgrammingError),
        ("SELEKT 1", ProgrammingError),
    ],
)  # fmt: skip
def test_an_error_of_the_user_s_own_statement_is_translated(attic, statement, error):
    with pytest.raises(TransactionAbortedError) as aborted, Attic(attic) as unit:
        unit.things.add(Thing(code="z"))
        with pytest.raises(sa.exc.DBAPIError):
            unit.connection.exec_driver_sql(statement)
        with pytest.raises(TransactionAbortedError):
            unit.things.count()
    assert type(aborted.value.__cause__) is error
    assert leaking_nothing(aborted.value)
    assert codes(attic) == {"a"}


# -- locks and conflicts


def in_two_threads(*work):
    with ThreadPoolExecutor(len(work)) as pool:
        return [future.exception(30) or future.result() for future in [pool.submit(one) for one in work]]


def seeded(db, *names):
    with Attic(db) as unit:
        unit.things.add_many([Thing(code=name) for name in names])


@pytest.mark.parametrize("nested", [False, True])
def test_a_deadlock_ends_one_unit_and_all_of_it(db, nested):
    seeded(db, "a", "b")
    both = threading.Barrier(2)

    def write(first, second):
        with Attic(db) as unit:
            unit.things.add(Thing(code=f"by {first}"))
            unit.things.update_where(thing.code == first, set_={"size": 7})
            both.wait(10)
            if not nested:
                unit.things.update_where(thing.code == second, set_={"size": 7})
                return
            try:
                with unit.savepoint():
                    unit.things.update_where(thing.code == second, set_={"size": 7})
            except TransactionConflictError:
                with pytest.raises(TransactionAbortedError):
                    unit.things.add(Thing(code="half the work"))
                raise

    results = in_two_threads(lambda: write("a", "b"), lambda: write("b", "a"))

    [lost] = [one for one in results if one is not None]
    assert type(lost) is TransactionConflictError
    assert lost.retryable
    assert len(codes(db)) == 3
    assert "half the work" not in codes(db)


def test_retry_survives_a_deadlock_and_does_nothing_twice(db):
    seeded(db, "a", "b")
    both = threading.Barrier(2)

    def write(first, second):
        tries = []

        def work(unit):
            tries.append(1)
            unit.things.add(Thing(code=f"by {first}"))
            unit.things.update_where(thing.code == first, set_={"note": f"{len(tries)}"})
            if len(tries) == 1:
                both.wait(10)
            unit.things.update_where(thing.code == second, set_={"size": 7})

        retry(lambda: Attic(db), work)
        return len(tries)

    assert sorted(in_two_threads(lambda: write("a", "b"), lambda: write("b", "a"))) == [1, 2]
    assert codes(db) == {"a", "b", "by a", "by b"}


def test_retry_survives_a_serialization_failure(opened):
    db = opened(isolation="SERIALIZABLE")
    seeded(db, "a", "b")
    both = threading.Barrier(2)

    def write(changed):
        tries = []

        def work(unit):
            tries.append(1)
            size = sum(one.size for one in unit.things.find())
            if len(tries) == 1:
                both.wait(10)
            unit.things.update_where(thing.code == changed, set_={"size": size})

        return retry(lambda: Attic(db), work, attempts=5)

    assert in_two_threads(lambda: write("a"), lambda: write("b")) == [None, None]
    assert sorted(one.size for one in Things(db).find()) == [2, 3]


def test_retry_survives_a_lost_connection(db, kind):
    tries = []

    def work(unit):
        tries.append(1)
        unit.things.add(Thing(code="a"))
        if len(tries) == 1:
            killed(db, kind, unit.connection)()
        unit.things.add(Thing(code="b"))

    retry(lambda: Attic(db), work)
    assert (len(tries), codes(db)) == (2, {"a", "b"})


def test_retry_survives_a_lock_timeout(opened, kind):
    db = impatient(opened(), kind)
    seeded(db, "a")
    holder, tries = Attic(db), []

    def work(unit):
        tries.append(1)
        if len(tries) == 2:
            holder.commit()
        unit.things.patch(1, {"size": 9})

    with holder:
        holder.things.get(1, lock="update")
        retry(lambda: Attic(db), work)
    assert (len(tries), Things(db).get(1).size) == (2, 9)


def test_a_conflict_cannot_be_swallowed(db):
    seeded(db, "a", "b")
    both = threading.Barrier(2)

    def write(first, second):
        with Attic(db) as unit:
            unit.things.update_where(thing.code == first, set_={"size": 7})
            both.wait(10)
            try:
                with unit.savepoint():
                    unit.things.update_where(thing.code == second, set_={"size": 7})
            except TransactionConflictError:
                pass

    results = in_two_threads(lambda: write("a", "b"), lambda: write("b", "a"))

    [lost] = [one for one in results if one is not None]
    assert type(lost) is TransactionAbortedError
    assert type(lost.__cause__) is TransactionConflictError
    assert lost.retryable


def test_units_that_cannot_have_been_one_after_the_other_conflict(opened, kind):
    db = opened(isolation="SERIALIZABLE")
    assert "rereads_committed" in db.missing_capabilities
    seeded(db, "a", "b")
    both = threading.Barrier(2)

    def write(changed):
        with Attic(db) as unit:
            size = sum(one.size for one in unit.things.find())
            both.wait(10)
            unit.things.update_where(thing.code == changed, set_={"size": size})

    [lost] = [one for one in in_two_threads(lambda: write("a"), lambda: write("b")) if one is not None]
    assert type(lost) is TransactionConflictError
    assert lost.retryable


def impatient(db, kind):
    """Make a database's connections wait for locks no longer than a second."""
    statement = "SET lock_timeout = 300" if kind == "postgresql" else "SET innodb_lock_wait_timeout = 1"

    def connected(connection, _):
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        connection.commit()

    event.listen(db.engine, "connect", connected)
    return db


def test_a_lock_that_does_not_come_in_time_can_be_tried_for_again(opened, kind):
    db = impatient(opened(), kind)
    seeded(db, "a")
    with Attic(db) as first:
        first.things.get(1, lock="update")
        with Attic(db) as second:
            second.things.add(Thing(code="kept"))
            with pytest.raises(LockTimeoutError) as caught, second.savepoint():
                second.things.patch(1, {"size": 9})
            assert caught.value.retryable
    assert codes(db) == {"a", "kept"}


def test_locked_rows_are_skipped_or_refused_at_once(opened, kind):
    db = impatient(opened(), kind)
    seeded(db, "a", "b")
    with Attic(db) as first:
        first.things.get(1, lock="update")
        with Attic(db) as second:
            assert [one.code for one in second.things.find(lock="skip")] == ["b"]
            assert second.things.get_or_none(1, lock="skip") is None
            assert second.things.get(2, lock="nowait").code == "b"
            assert second.things.get(1).code == "a"
            with pytest.raises(LockTimeoutError), second.savepoint():
                second.things.get(1, lock="nowait")
            second.things.patch(2, {"size": 5})


def test_a_lock_is_waited_for(db):
    seeded(db, "a")
    waiting = threading.Event()

    def second():
        with Attic(db) as unit:
            waiting.set()
            return unit.things.get(1, lock="update").size

    with ThreadPoolExecutor(1) as pool:
        with Attic(db) as unit:
            unit.things.get(1, lock="update")
            late = pool.submit(second)
            waiting.wait(5)
            unit.things.patch(1, {"size": 42})
        assert late.result(10) == 42


def test_a_statement_that_runs_too_long_is_ended(db, kind):
    rows = "information_schema.columns"
    limit, slow = {
        "postgresql": ("SET LOCAL statement_timeout = 100", "SELECT pg_sleep(5)"),
        # SLEEP() itself returns quietly when its time is over; a scan does not.
        "mariadb": ("SET max_statement_time = 0.1", "SELECT count(*) FROM seq_1_to_1000000 a JOIN seq_1_to_1000000 b"),
        "mysql": ("SET max_execution_time = 100", f"SELECT count(*) FROM {rows} a JOIN {rows} b JOIN {rows} c"),
    }[kind]
    with pytest.raises(TransactionAbortedError) as caught, Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        unit.connection.exec_driver_sql(limit)
        with pytest.raises(sa.exc.DBAPIError):
            unit.connection.exec_driver_sql(slow)
    assert type(caught.value.__cause__) is StatementTimeoutError
    assert codes(db) == set()


def test_a_read_only_unit_is_read_only_on_the_server_too(attic):
    def write(unit):
        unit.connection.exec_driver_sql("UPDATE thing SET size = 2")

    with pytest.raises(TransactionAbortedError) as caught, Attic(attic, read_only=True) as unit:
        unit.things.count()
        with pytest.raises(sa.exc.DBAPIError):
            write(unit)
    assert type(caught.value.__cause__) is ReadOnlyError
    with pytest.raises(ReadOnlyError), Attic(attic, read_only=True) as unit:
        unit.things.delete(1)
    with Attic(attic, read_only=True) as unit, unit.savepoint():
        assert unit.things.get(1).size == 1


# -- connections


def killed(db, kind, connection):
    mine = "pg_backend_pid()" if kind == "postgresql" else "connection_id()"
    number = connection.exec_driver_sql(f"SELECT {mine}").scalar_one()

    def kill():
        with sa.create_engine(db.engine.url, poolclass=sa.NullPool).connect() as other:
            end = "SELECT pg_terminate_backend({})" if kind == "postgresql" else "KILL {}"
            other.exec_driver_sql(end.format(number))

    return kill


@pytest.mark.parametrize("nested", [False, True])
def test_a_connection_lost_amid_a_unit_ends_it(db, kind, nested):
    with pytest.raises(DatabaseUnavailableError) as caught, Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        killed(db, kind, unit.connection)()
        if nested:
            with unit.savepoint():
                unit.things.add(Thing(code="b"))
        else:
            unit.things.add(Thing(code="b"))
    assert caught.value.retryable
    assert codes(db) == set()  # and the next unit gets a connection that works


def test_a_lost_connection_cannot_be_swallowed(db, kind):
    with pytest.raises(TransactionAbortedError) as caught, Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        killed(db, kind, unit.connection)()
        with pytest.raises(DatabaseUnavailableError):
            unit.things.count()
        with pytest.raises(TransactionAbortedError):
            unit.things.count()
    assert caught.value.retryable
    assert codes(db) == set()


def test_a_connection_lost_before_commit_leaves_the_outcome_unknown(db, kind):
    with pytest.raises(DatabaseUnavailableError) as caught, Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        killed(db, kind, unit.connection)()
    assert not caught.value.retryable
    assert codes(db) == set()


def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(db, kind):
    called = []

    def commit(connection):
        called.append(1)
        kill()

    with pytest.raises(DatabaseUnavailableError) as caught, Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        unit.on_commit(lambda: called.append("never"))
        kill = killed(db, kind, unit.connection)
        event.listen(db.engine, "commit", commit, once=True)
    assert not caught.value.retryable
    assert called == [1]
    assert codes(db) == set()


def test_a_connection_that_died_in_the_pool_is_replaced(db, kind):
    with Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        kill = killed(db, kind, unit.connection)
    kill()
    with Attic(db) as unit:
        unit.things.add(Thing(code="b"))
    assert codes(db) == {"a", "b"}


@contextmanager
def nobody_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]  # taken, and nobody listens


@pytest.mark.parametrize("read_only", [False, True])
def test_a_server_that_refuses_connections_is_unavailable(url, read_only):
    with nobody_there() as port:
        db = Database(url.set(port=port))
        with pytest.raises(DatabaseUnavailableError) as caught, Attic(db, read_only=read_only) as unit:
            unit.things.count()
        assert caught.value.retryable
        db.dispose()


def test_a_missing_database_is_unavailable(url):
    db = Database(url.set(database="sqlrepo_test_missing"))
    with pytest.raises(DatabaseUnavailableError), Attic(db) as unit:
        unit.things.count()
    db.dispose()


def test_a_wrong_password_is_unavailable_and_not_worth_trying_again(url, kind):
    db = Database(url.set(username="sqlrepo_nobody", password="secret"))
    with pytest.raises(DatabaseUnavailableError) as caught, Attic(db) as unit:
        unit.things.count()
    assert leaking_nothing(caught.value)
    if kind != "postgresql":  # PostgreSQL's drivers have no code for what the server says at the door
        assert not caught.value.retryable
    db.dispose()


def test_a_pool_that_has_none_left_is_unavailable(url):
    engine = sa.create_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.1, isolation_level="READ COMMITTED")
    db = Database(engine)
    with Attic(db) as first:
        first.things.count()
        with pytest.raises(DatabaseUnavailableError) as caught, Attic(db) as second:
            second.things.count()
        assert caught.value.retryable
        assert first.things.count() == 0
    assert engine.pool.checkedout() == 0
    engine.dispose()

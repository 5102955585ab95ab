"""Whatever goes wrong in a unit: nothing is stored, the connection is given back, the first error is the one raised."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sqlrepo import (
    ForeignKeyViolationError,
    NotFoundError,
    RepositoryError,
    TransactionAbortedError,
    UniqueViolationError,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.units.domain import Shop, Tag, Tags, Todo, Todos, connections_out, leave_by


def nothing_happened(db):
    return Todos(db).count() == Tags(db).count() == connections_out(db) == 0


def write(shop):
    shop.todos.add(Todo(key="a"))
    shop.tags.add(Tag(owner="a", name="b"))


@pytest.mark.parametrize(
    "error", [KeyError("k"), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), NotFoundError(Todo, 1)]
)
def test_an_exception_in_the_middle_stores_nothing(db, error):
    with pytest.raises(type(error)) as caught:
        leave_by(error, Shop(db), write)

    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert nothing_happened(db)


def test_a_keyboard_interrupt_in_a_call_stores_nothing(db):
    def interrupt(shop):
        write(shop)

        def work(_):
            raise KeyboardInterrupt

        shop._work.run(work)

    with pytest.raises(KeyboardInterrupt):
        leave_by(KeyError(), Shop(db), interrupt)
    assert nothing_happened(db)


def test_a_keyboard_interrupt_while_the_database_works_stores_nothing(file):
    def interrupt(*_):
        raise KeyboardInterrupt

    event.listen(file.engine, "after_cursor_execute", interrupt, once=True)
    with pytest.raises(KeyboardInterrupt):
        leave_by(KeyError(), Shop(file), write)
    assert nothing_happened(file)


def test_an_interrupted_call_that_is_caught_aborts(db):
    def work(_):
        raise KeyboardInterrupt

    with pytest.raises(TransactionAbortedError):
        swallow(db, lambda shop: shop._work.run(work), KeyboardInterrupt)
    assert nothing_happened(db)


def swallow(db, call, error):
    """Write, catch the error of a call, and leave normally."""
    with Shop(db) as shop:
        write(shop)
        with pytest.raises(error):
            call(shop)


def test_an_entity_that_cannot_be_built_loses_nothing_else(db):
    class Wrong(Todos):
        def to_domain(self, row):
            raise ZeroDivisionError

    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        with pytest.raises(ZeroDivisionError):
            Wrong(shop).find()
        with pytest.raises(ZeroDivisionError):
            Wrong(shop).add(Todo(key="b"))

    assert Todos(db).count() == 2  # reading back failed, in the program's own code; nothing was refused


# -- two errors


class Refusing:
    """What a driver refuses on request."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def __call__(self, db, verb, error):
        target = (
            "sqlrepo.sqlalchemy.driver.SQLAlchemyDriver"
            if isinstance(db, Database)
            else "sqlrepo.memory.driver.MemoryDriver"
        )
        owner, _, name = target.rpartition(".")
        cls = getattr(__import__(owner, fromlist=[name]), name)
        genuine = getattr(cls, verb)

        def refuse(driver, *arguments):
            genuine(driver, *arguments)
            raise error

        self._monkeypatch.setattr(cls, verb, refuse)


@pytest.fixture
def refusing(monkeypatch):
    return Refusing(monkeypatch)


def test_a_savepoint_that_cannot_be_rolled_back_aborts_and_is_a_note(db, refusing):
    first = KeyError("first")
    refusing(db, "rollback_to", RuntimeError("second"))

    def work(shop):
        write(shop)
        with pytest.raises(KeyError) as caught:
            leave_by(first, shop.savepoint(), lambda _: shop.todos.add(Todo(key="b")))
        assert caught.value is first
        shop.todos.count()

    with pytest.raises(TransactionAbortedError):
        leave_by(KeyError("never"), Shop(db), work)
    assert "RuntimeError" in first.__notes__[0]
    assert nothing_happened(db)


def test_a_rollback_the_connection_refuses_is_a_note(sqlite):
    first = KeyError("first")

    def refuse(_):
        raise RuntimeError("second")

    event.listen(sqlite.engine, "rollback", refuse, once=True)
    with pytest.raises(KeyError) as caught:
        leave_by(first, Shop(sqlite), write)
    assert caught.value is first
    assert first.__notes__
    assert nothing_happened(sqlite)


# -- commit


@pytest.fixture
def family(sqlite):
    """SQLite with a foreign key that is looked at when the transaction is committed."""
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql(
            "CREATE TABLE child (id INTEGER PRIMARY KEY, parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
    return sqlite


def orphan(shop):
    shop.connection.execute(sa.text("INSERT INTO child (parent) VALUES (7)"))


def test_a_commit_that_fails_stores_nothing_and_leaves_the_connection_usable(family):
    for _ in range(2):
        called = []
        with pytest.raises(ForeignKeyViolationError) as caught:
            commit_orphan(family, called)
        assert caught.value.__cause__ is not None
        assert called == []
        assert nothing_happened(family)
    with Shop(family) as shop:
        write(shop)
    assert Todos(family).count() == 1
    with family.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM child").scalar() == 0


def commit_orphan(db, called):
    with Shop(db) as shop:
        write(shop)
        orphan(shop)
        shop.on_commit(lambda: called.append(1))


def test_a_commit_that_is_interrupted_gives_the_connection_back(sqlite):
    def interrupt(_):
        raise KeyboardInterrupt

    event.listen(sqlite.engine, "commit", interrupt, once=True)
    with pytest.raises(KeyboardInterrupt), Shop(sqlite) as shop:
        write(shop)
    assert nothing_happened(sqlite)


def test_a_commit_memory_refuses_stores_nothing(monkeypatch):
    db = InMemoryDatabase()
    monkeypatch.setattr("sqlrepo.memory.tables.Changes.verify", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError), Shop(db) as shop:
        write(shop)
    monkeypatch.undo()
    assert nothing_happened(db)


# -- no database


def test_a_database_that_cannot_be_reached_is_unavailable(tmp_path):
    db = Database(f"sqlite:///{tmp_path}/missing/there.db")
    shop = Shop(db)
    with pytest.raises(RepositoryError) as caught:
        leave_by(KeyError(), shop, lambda shop: shop.todos.count())

    assert type(caught.value).__name__ == "DatabaseUnavailableError"
    assert caught.value.retryable
    assert caught.value.__cause__ is not None
    assert connections_out(db) == 0
    with pytest.raises(type(caught.value)):
        Todos(db).count()


def test_a_missing_table_is_a_query_error_without_values(tmp_path):
    db = Database(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(RepositoryError) as caught:
        Todos(db).find(key="secret")

    assert type(caught.value).__name__ == "ProgrammingError"
    assert "secret" not in str(caught.value)
    assert connections_out(db) == 0
    db.dispose()


def test_messages_hold_no_values_of_rows(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="secret"))
        with pytest.raises(UniqueViolationError) as caught:
            shop.todos.add(Todo(key="secret"))
        assert "secret" not in str(caught.value)
        assert "secret" not in repr(caught.value)
        with pytest.raises(TransactionAbortedError) as aborted:
            shop.todos.count()
        assert "secret" not in str(aborted.value)
        shop.rollback()

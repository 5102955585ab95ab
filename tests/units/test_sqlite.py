"""SQLite: threads and writers, how many statements a call costs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import event

from sqlrepo import LockTimeoutError, ReadOnlyError, TransactionAbortedError
from sqlrepo.sqlalchemy import Database
from tests.units.domain import Shop, Tag, Tags, Todo, Todos, connections_out, create, leave_by, todo


def keys(db):
    return [one.key for one in Todos(db).find()]


def enforce_foreign_keys(connection, _):
    connection.execute("PRAGMA foreign_keys = ON")


@pytest.fixture
def sent(sqlite):
    """The statements that go to the database, savepoints and BEGIN included."""
    statements = []
    Todos(sqlite).count()
    event.listen(sqlite.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    return statements


# -- statements


def test_a_unit_takes_no_savepoint_unasked(sqlite, sent):
    with Shop(sqlite) as shop:
        shop.todos.add_many([Todo(key="a"), Todo(key="b")])
        shop.todos.save(Todo(key="c"))
        shop.todos.update(Todo(id=1, key="x"))
        shop.todos.patch(1, {"value": "v"})
        shop.todos.update_where(todo.done, set_={"value": "v"})
        shop.todos.delete_where(todo.done)
        shop.todos.delete(1)

    assert [statement for statement in sent if "SAVEPOINT" in statement] == []


def test_a_unit_that_does_nothing_sends_nothing(sqlite, sent):
    with Shop(sqlite):
        pass

    assert sent == []


def test_a_repository_alone_reads_with_one_statement_in_a_plain_transaction(sqlite, sent):
    Todos(sqlite).find()

    assert sent[0] == "BEGIN"
    assert len(sent) == 2


class Key(BaseModel):
    key: str


def test_a_smaller_model_reads_its_columns_only(sqlite, sent):
    Todos(sqlite).find(into=Key)

    assert "key" in sent[-1]
    assert "value" not in sent[-1]


def test_a_unit_that_may_write_takes_the_lock_at_once(sqlite, sent):
    with Shop(sqlite) as shop:
        shop.todos.count()
    with Shop(sqlite, read_only=True) as shop:
        shop.todos.count()

    assert [statement for statement in sent if statement.startswith("BEGIN")] == ["BEGIN IMMEDIATE", "BEGIN"]


# -- many at once


def test_threads_share_an_in_memory_database(sqlite):
    def write(number):
        with Shop(sqlite) as shop:
            shop.todos.add(Todo(key=f"{number}"))
            shop.tags.add(Tag(owner="t", name=f"{number}", weight=shop.todos.count()))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(30)))

    assert Todos(sqlite).count() == 30
    assert sorted(one.weight for one in Tags(sqlite).find()) == list(range(1, 31))
    assert connections_out(sqlite) == 0


def test_a_unit_on_an_in_memory_database_waits_for_the_one_before(sqlite):
    entered = threading.Event()

    def other():
        entered.set()
        with Shop(sqlite) as shop:
            return shop.todos.count()

    with ThreadPoolExecutor(1) as pool:
        with Shop(sqlite) as shop:
            shop.todos.add(Todo(key="a"))
            waiting = pool.submit(other)
            entered.wait(5)
        assert waiting.result(5) == 1


def test_two_writers_of_a_file_lose_nothing(file):
    with Shop(file) as shop:
        shop.tags.add(Tag(owner="t", name="count"))

    def count_up(_):
        with Shop(file) as shop:
            tag = shop.tags.get(("t", "count"))
            shop.tags.update(tag.model_copy(update={"weight": tag.weight + 1}))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(count_up, range(20)))

    assert Tags(file).get(("t", "count")).weight == 20


def test_a_second_writer_that_waits_too_long_gets_a_lock_timeout(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/busy.db", connect_args={"timeout": 0.05})
    event.listen(engine, "connect", enforce_foreign_keys)
    db = create(Database(engine))
    with Shop(db) as first:
        first.todos.add(Todo(key="a"))
        with pytest.raises(LockTimeoutError) as caught:
            leave_by(KeyError("never"), Shop(db), lambda shop: shop.todos.count())
        assert caught.value.retryable
        first.todos.add(Todo(key="b"))

    assert keys(db) == ["a", "b"]
    assert connections_out(db) == 0
    db.dispose()


def test_readers_of_a_file_are_not_kept_waiting_by_a_writer(file):
    with Shop(file) as shop:
        shop.todos.add(Todo(key="a"))
        assert keys(file) == []
    assert keys(file) == ["a"]


def test_readers_of_a_file_cannot_write(file):
    with Shop(file) as shop:
        shop.todos.add(Todo(key="a"))
    reader = Shop(file, read_only=True)
    reader.__enter__()
    with pytest.raises(sa.exc.OperationalError):
        reader.connection.exec_driver_sql("DELETE FROM todo")
    assert file.engine.pool.checkedout() == 0  # readers have a pool of their own
    with pytest.raises(TransactionAbortedError) as caught:
        reader.__exit__(None, None, None)
    assert type(caught.value.__cause__) is ReadOnlyError
    assert keys(file) == ["a"]

"""Who may call a unit of work, and when; what a repository alone does."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlrepo import TransactionAbortedError, UnitStateError, UnsupportedError
from sqlrepo.memory import InMemoryUnitOfWork
from sqlrepo.sqlalchemy import Database
from tests.units.domain import Shop, Tag, Tags, Todo, Todos, connections_out, leave_by, todo


def reason(call):
    with pytest.raises(UnitStateError) as caught:
        call()
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.retryable is False
    return caught.value.reason


# -- when


def test_a_call_before_and_after_with_is_refused(db):
    shop = Shop(db)
    calls = [
        shop.todos.find,
        shop.todos.count,
        lambda: shop.todos.get(1),
        lambda: shop.todos.add(Todo(key="a")),
        lambda: shop.todos.delete_where(todo.done),
        shop.commit,
        shop.rollback,
        lambda: shop.savepoint().__enter__(),
        lambda: shop.on_commit(print),
        shop.todos.__enter__,
        lambda: shop.session,
        lambda: shop.connection,
    ]

    assert {reason(call) for call in calls} == {"not_open"}
    with shop:
        shop.todos.add(Todo(key="a"))
    assert {reason(call) for call in calls} == {"not_open"}
    assert connections_out(db) == 0
    assert Todos(db).count() == 1


def test_leaving_a_unit_that_was_not_entered_changes_nothing(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
    shop.__exit__(None, None, None)

    assert Todos(db).count() == 1
    assert connections_out(db) == 0


def test_a_unit_connects_at_its_first_statement(db):
    with Shop(db) as shop:
        assert connections_out(db) == 0
        shop.todos.count()
        assert connections_out(db) == isinstance(db, Database)
        shop.commit()
        assert connections_out(db) == 0
        shop.todos.add(Todo(key="a"))
        shop.rollback()
        assert connections_out(db) == 0
    with Shop(db):
        pass
    assert Todos(db).count() == 0


# -- who


def overlapping(unit, call):
    """Make a call from another thread while this one is inside one, and give what it raised or returned."""

    def other():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(call).exception()

    return unit._work.run(lambda _: other())


def test_a_call_during_another_is_busy_and_loses_nothing(db):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        for call in (
            shop.todos.count,
            lambda: shop.todos.add(Todo(key="b")),
            shop.commit,
            shop.rollback,
            lambda: shop.savepoint().__enter__(),
            lambda: shop.on_commit(print),
            lambda: shop._work.unwrap("connection"),
            shop.__enter__,
        ):
            error = overlapping(shop, call)
            assert isinstance(error, UnitStateError), call
            assert error.reason == "busy"
        shop.todos.add(Todo(key="c"))

    assert [one.key for one in Todos(db).find()] == ["a", "c"]
    assert connections_out(db) == 0


def test_leaving_while_another_thread_calls_waits_for_it_and_rolls_back(db):
    shop, inside, leave = Shop(db), threading.Event(), threading.Event()
    shop.__enter__()
    shop.todos.add(Todo(key="a"))

    def slow():
        inside.set()
        leave.wait(5)

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(shop._work.run, lambda _: slow())
        inside.wait(5)
        threading.Timer(0.05, leave.set).start()
        assert reason(lambda: shop.__exit__(None, None, None)) == "busy"
        call.result(5)

    assert Todos(db).count() == 0
    assert connections_out(db) == 0
    with shop:
        shop.todos.add(Todo(key="b"))
    assert Todos(db).count() == 1


def test_leaving_a_savepoint_while_another_thread_calls_loses_the_transaction_not_the_error(db):
    first, inside, leave = KeyError("first"), threading.Event(), threading.Event()

    def slow(_):
        inside.set()
        leave.wait(5)

    with Shop(db) as shop, ThreadPoolExecutor(1) as pool:

        def work(_):
            shop.todos.add(Todo(key="a"))
            pool.submit(shop._work.run, slow)
            inside.wait(5)

        try:
            with pytest.raises(KeyError) as caught:
                leave_by(first, shop.savepoint(), work)
        finally:
            leave.set()
            pool.shutdown()
        assert caught.value is first
        with pytest.raises(TransactionAbortedError):
            shop.todos.count()
        shop.rollback()
        shop.todos.add(Todo(key="b"))

    assert [one.key for one in Todos(db).find()] == ["b"]
    assert connections_out(db) == 0


def test_a_unit_may_be_handed_to_another_thread(db):
    def write(shop, key):
        return shop.todos.add(Todo(key=key))

    with Shop(db) as shop, ThreadPoolExecutor(2) as pool:
        for key in "abc":
            pool.submit(write, shop, key).result()
        with shop.savepoint():
            pool.submit(write, shop, "d").result()

    assert Todos(db).count() == 4


def test_a_call_from_within_a_call_of_the_same_thread_is_busy(db):
    class Nosy(Todos):
        def to_domain(self, row):
            self.count()
            return super().to_domain(row)

    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        assert shop._work.run(lambda _: reason(shop.todos.count)) == "busy"
    assert Nosy(db).find() == Todos(db).find()  # entities are built after the statement


# -- alone


def test_a_repository_alone_reads_in_short_units_and_writes_inside_with(db):
    todos = Todos(db)
    for call in (
        lambda: todos.add(Todo(key="a")),
        lambda: todos.add_many([Todo(key="a")]),
        lambda: todos.update(Todo(id=1, key="a")),
        lambda: todos.save(Todo(key="a")),
        lambda: todos.patch(1, {"value": "v"}),
        lambda: todos.delete(1),
        lambda: todos.remove(Todo(id=1, key="a")),
        lambda: todos.delete_where(todo.done),
        lambda: todos.update_where(todo.done, set_={"value": "v"}),
    ):
        assert reason(call) == "write_outside"
    with todos:
        todos.add(Todo(key="a"))
        assert todos.count() == 1
    assert [one.key for one in todos.find()] == ["a"]
    assert todos.get(1).key == "a"
    assert connections_out(db) == 0


def test_a_repository_alone_owns_one_transaction(db):
    todos = Todos(db)
    with pytest.raises(KeyError):
        leave_by(KeyError(), todos, lambda todos: todos.add(Todo(key="a")))
    assert todos.count() == 0
    with todos:
        todos.add(Todo(key="b"))
        assert reason(todos.__enter__) == "already_open"
    assert todos.count() == 1
    assert connections_out(db) == 0


def test_a_repository_s_with_inside_a_unit_joins_it(db):

    def joined(shop):
        with shop.todos as todos:
            todos.add(Todo(key="a"))

    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(db), joined)
    assert Todos(db).count() == 0
    with Shop(db) as shop, shop.todos, shop.tags:
        shop.todos.add(Todo(key="a"))
        shop.tags.add(Tag(owner="a", name="b"))
    assert (Todos(db).count(), Tags(db).count()) == (1, 1)


def test_an_error_after_a_unit_was_left_does_not_abort_its_next_transaction(db):
    shop = Shop(db)
    with shop:
        shop.todos.__enter__()
    shop.todos.__exit__(KeyError, KeyError(), None)
    with shop:
        shop.todos.add(Todo(key="a"))
    assert Todos(db).count() == 1


def test_repositories_of_one_unit_share_its_transaction(db):
    with Shop(db) as shop:
        assert shop.todos is shop.todos
        assert shop.todos.unit is shop
        other = Todos(shop)
        other.add(Todo(key="a"))
        assert shop.todos.count() == 1
        shop.rollback()
        assert other.count() == 0


def test_the_context_reaches_every_repository(db):
    assert Shop(db, context={"tenant": 1}).todos.context == {"tenant": 1}
    assert Shop(db).todos.context is None
    assert Todos(db, context="me").context == "me"


# -- sources


def test_what_is_no_source_is_refused(sqlite):
    for source in (None, "sqlite://", object(), sqlite.engine, Shop, 3):
        with pytest.raises(UnsupportedError):
            Shop(source)
        with pytest.raises((UnsupportedError, AttributeError, TypeError)):
            Todos(source)


def test_memory_bases_refuse_a_database(sqlite):
    class Fake(InMemoryUnitOfWork):
        todos: Todos

    with pytest.raises(UnsupportedError):
        Fake(sqlite)
    fake = Fake()
    with fake:
        fake.todos.add(Todo(key="a"))
    with fake:
        assert fake.todos.count() == 1
    with Fake() as other:
        assert other.todos.count() == 0


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "mssql://host/name", "oracle://host/name"])
def test_urls_that_are_not_supported_are_refused(url):
    with pytest.raises(UnsupportedError):
        Database(url)


def test_isolation_is_not_for_sqlite():
    with pytest.raises(UnsupportedError):
        Database("sqlite://", isolation="READ UNCOMMITTED")

"""What goes wrong on a server, made to go wrong on each async driver: its own error, and what can be tried again is."""

import asyncio
import socket

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from sqlrepo import (
    DatabaseUnavailableError,
    LockTimeoutError,
    ReadOnlyError,
    StatementTimeoutError,
    TransactionAbortedError,
    TransactionConflictError,
    retry_async,
)
from sqlrepo.sqlalchemy import AsyncDatabase, AsyncSQLAlchemyUnitOfWork
from tests.asynchronous.conftest import SERVED
from tests.asynchronous.domain import AsyncNotes, Note, note

pytestmark = pytest.mark.parametrize("db", SERVED, indirect=True)


class Book(AsyncSQLAlchemyUnitOfWork):
    notes: AsyncNotes


def is_postgresql(db):
    return db.engine.dialect.name == "postgresql"


async def seeded(db):
    async with Book(db) as book:
        await book.notes.add_many([Note(key="a"), Note(key="b")])


async def total(db):
    return sum(one.value for one in await AsyncNotes(db).find())


class Meeting:
    """Lets two wait for each other the first time; who comes again goes on."""

    def __init__(self):
        self._barrier, self._left = asyncio.Barrier(2), 2

    async def wait(self):
        if self._left:
            self._left -= 1
            async with asyncio.timeout(10):
                await self._barrier.wait()


async def add(book, key):
    one = await book.notes.by_key(key)
    await book.notes.patch(one.id, {"value": one.value + 1})


async def outcomes(*work):
    return await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.parametrize("again", [False, True])
def test_a_deadlock_ends_one_unit_and_can_be_tried_again(db, loop, again):
    meeting = Meeting()

    def crossing(first, second):
        async def work(book):
            await book.notes.add(Note(key=f"by {first}"))
            await add(book, first)
            await meeting.wait()
            await add(book, second)

        return retry_async(lambda: Book(db), work, attempts=3 if again else 1)

    async def work():
        await seeded(db)
        lost = [one for one in await outcomes(crossing("a", "b"), crossing("b", "a")) if one is not None]
        if again:
            assert lost == []
            assert await total(db) == 4
            assert await AsyncNotes(db).count() == 4
        else:
            assert [type(one) for one in lost] == [TransactionConflictError]
            assert lost[0].retryable
            assert await total(db) == 2
            assert await AsyncNotes(db).count() == 3

    loop.run(work())


@pytest.mark.parametrize("again", [False, True])
def test_what_cannot_have_been_one_after_the_other_conflicts(db, loop, again):
    meeting = Meeting()
    strict = AsyncDatabase(db.engine.url, isolation="SERIALIZABLE")

    def changing(key):
        async def work(book):
            size = sum(one.value for one in await book.notes.find())
            await meeting.wait()
            await book.notes.update_where(note.key == key, set_={"value": size + 1})

        return retry_async(lambda: Book(strict), work, attempts=5 if again else 1)

    async def work():
        await seeded(db)
        lost = [one for one in await outcomes(changing("a"), changing("b")) if one is not None]
        if again:
            assert lost == []
            assert sorted(one.value for one in await AsyncNotes(db).find()) == [1, 2]
        else:
            assert [type(one) for one in lost] == [TransactionConflictError]
        assert strict.engine.pool.checkedout() == 0
        await strict.dispose()

    loop.run(work())


@pytest.mark.parametrize("again", [False, True])
def test_a_lock_that_does_not_come_in_time_can_be_tried_for_again(db, loop, again):
    async def work():
        await seeded(db)
        impatient = "SET LOCAL lock_timeout = 100" if is_postgresql(db) else "SET innodb_lock_wait_timeout = 1"
        tries = []

        async with Book(db) as holder:
            await add(holder, "a")

            async def write(book):
                tries.append(1)
                await (await book.connection()).exec_driver_sql(impatient)
                if len(tries) == 2:
                    await holder.commit()
                await book.notes.update_where(note.key == "a", set_={"value": 5})

            if again:
                await retry_async(lambda: Book(db), write, attempts=3)
            else:
                with pytest.raises(LockTimeoutError) as caught:
                    await retry_async(lambda: Book(db), write, attempts=1)
                assert caught.value.retryable
        assert await total(db) == (5 if again else 1)
        assert len(tries) == (2 if again else 1)

    loop.run(work())


def test_a_statement_that_runs_too_long_is_ended(db, loop):
    limit, slow = (
        ("SET LOCAL statement_timeout = 100", "SELECT pg_sleep(5)")
        if is_postgresql(db)
        else ("SET max_statement_time = 0.1", "SELECT count(*) FROM seq_1_to_1000000 a JOIN seq_1_to_1000000 b")
    )

    async def work():
        with pytest.raises(TransactionAbortedError) as caught:
            async with Book(db) as book:
                await book.notes.add(Note(key="a"))
                await book.session.execute(sa.text(limit))
                with pytest.raises(sa.exc.DBAPIError):
                    await book.session.execute(sa.text(slow))
        assert type(caught.value.__cause__) is StatementTimeoutError
        assert await AsyncNotes(db).count() == 0

    loop.run(work())


async def killing(db, book):
    """Tell how to end a unit's connection from another one."""
    mine = "pg_backend_pid()" if is_postgresql(db) else "connection_id()"
    number = (await book.session.execute(sa.text(f"SELECT {mine}"))).scalar_one()
    end = "SELECT pg_terminate_backend({})" if is_postgresql(db) else "KILL {}"

    async def kill():
        other = create_async_engine(db.engine.url, poolclass=sa.NullPool)
        async with other.connect() as connection:
            await connection.exec_driver_sql(end.format(number))

    return kill


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_a_connection_lost_amid_a_unit_ends_it_and_can_be_tried_again(db, loop, again, nested):
    async def work():
        tries = []

        async def write(book):
            tries.append(1)
            await book.notes.add(Note(key="a"))
            if len(tries) == 1:
                await (await killing(db, book))()
            if nested:
                async with book.savepoint():
                    await book.notes.add(Note(key="b"))
            else:
                await book.notes.add(Note(key="b"))

        if again:
            await retry_async(lambda: Book(db), write)
        else:
            with pytest.raises(DatabaseUnavailableError) as caught:
                await retry_async(lambda: Book(db), write, attempts=1)
            assert caught.value.retryable
        assert await AsyncNotes(db).count() == (2 if again else 0)

    loop.run(work())


@pytest.mark.parametrize("during", [False, True])
def test_a_connection_lost_at_commit_leaves_the_outcome_unknown(db, loop, during):
    async def work():
        tries, called = [], []

        async def write(book):
            tries.append(1)
            await book.notes.add(Note(key="a"))
            book.on_commit(lambda: called.append("never"))
            kill = await killing(db, book)
            if not during:
                await kill()
                return
            event.listen(db.engine.sync_engine, "commit", lambda _: sa.util.await_only(kill()), once=True)

        with pytest.raises(DatabaseUnavailableError) as caught:
            await retry_async(lambda: Book(db), write)
        assert not caught.value.retryable
        assert (tries, called) == ([1], [])
        assert await AsyncNotes(db).count() == 0

    loop.run(work())


def test_a_server_that_refuses_connections_is_unavailable(db, loop):
    async def work():
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
            nobody = AsyncDatabase(db.engine.url.set(port=unused.getsockname()[1]))
            with pytest.raises(DatabaseUnavailableError) as caught:
                async with Book(nobody) as book:
                    await book.notes.count()
            assert caught.value.retryable
            await nobody.dispose()

    loop.run(work())


def test_a_missing_database_is_unavailable(db, loop):
    async def work():
        missing = AsyncDatabase(db.engine.url.set(database="sqlrepo_test_missing"))
        with pytest.raises(DatabaseUnavailableError):
            await AsyncNotes(missing).count()
        await missing.dispose()

    loop.run(work())


def test_a_wrong_password_is_unavailable_and_not_shown(db, loop):
    async def work():
        stranger = AsyncDatabase(db.engine.url.set(username="sqlrepo_nobody", password="secret"))
        with pytest.raises(DatabaseUnavailableError) as caught:
            await AsyncNotes(stranger).count()
        assert "secret" not in str(caught.value)
        assert caught.value.retryable == (db.engine.driver == "psycopg")  # which gives no code of what it was told
        await stranger.dispose()

    loop.run(work())


@pytest.mark.parametrize("again", [False, True])
def test_a_pool_that_has_none_left_is_unavailable(db, loop, again):
    async def work():
        engine = create_async_engine(
            db.engine.url, pool_size=1, max_overflow=0, pool_timeout=0.1, isolation_level="READ COMMITTED"
        )
        one = AsyncDatabase(engine)
        tries = []
        async with Book(one) as first:
            await first.notes.count()

            def made():
                tries.append(1)
                return Book(one)

            async def write(book):
                if len(tries) == 2:
                    await first.commit()
                await book.notes.add(Note(key="a"))

            if again:
                await retry_async(made, write)
            else:
                with pytest.raises(DatabaseUnavailableError) as caught:
                    await retry_async(made, write, attempts=1)
                assert caught.value.retryable
        assert await AsyncNotes(db).count() == int(again)
        assert engine.pool.checkedout() == 0
        await engine.dispose()

    loop.run(work())


def test_a_read_only_unit_is_read_only_on_the_server_too(db, loop):
    async def work():
        await seeded(db)
        with pytest.raises(TransactionAbortedError) as caught:
            async with Book(db, read_only=True) as book:
                with pytest.raises(sa.exc.DBAPIError):
                    await book.session.execute(sa.text("UPDATE note SET value = 7"))
        assert type(caught.value.__cause__) is ReadOnlyError
        assert await total(db) == 0

    loop.run(work())

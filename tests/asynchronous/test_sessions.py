"""An async unit shows an AsyncSession of its own, and joins one of the application's."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from sqlrepo import (
    InvalidLiteralError,
    QueryObject,
    TransactionAbortedError,
    UniqueViolationError,
    UnitStateError,
    UnsupportedError,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, AsyncSQLAlchemyRepository, AsyncSQLAlchemyUnitOfWork, Database, events
from tests.asynchronous.conftest import SERVED
from tests.asynchronous.domain import AsyncBook, AsyncNotes, Book, Note, NoteRow


class Finders(AsyncSQLAlchemyRepository[Note, int]):
    model = NoteRow
    version = "version"

    async def in_sql(self):
        return list(await self.session.scalars(sa.select(NoteRow.key).order_by(NoteRow.key)))


class Shelf(AsyncSQLAlchemyUnitOfWork):
    sync = Book
    notes: Finders


def row(key):
    return NoteRow(key=key, value=0, version=1)


async def keys(db):
    return sorted(one.key for one in await AsyncNotes(db).find())


pytestmark = pytest.mark.parametrize("db", ["aiosqlite", *SERVED], indirect=True)


@pytest.fixture
def sql(db):
    yield db
    assert not events._LISTENERS


# -- a session of the unit's


def test_memory_has_none(db, loop):
    async def work():
        async with Shelf(InMemoryDatabase()) as shelf:
            with pytest.raises(UnsupportedError, match="memory has no session"):
                _ = shelf.session
            with pytest.raises(UnsupportedError):
                await shelf.notes.in_sql()
            assert await shelf.notes.count() == 0

    loop.run(work())


def test_statements_of_both_are_one_transaction(sql, loop):
    async def work():
        async with Shelf(sql) as shelf:
            assert isinstance(shelf.session, AsyncSession)
            assert shelf.session is shelf.session is shelf.notes.session
            shelf.session.add(row("a"))
            await shelf.notes.add(Note(key="b"))
            assert await shelf.notes.in_sql() == ["a", "b"]
            assert (await shelf.connection()).sync_connection is (await shelf.session.connection()).sync_connection
        assert await keys(sql) == ["a", "b"]
        with pytest.raises(KeyError):
            async with Shelf(sql) as shelf:
                shelf.session.add(row("c"))
                await shelf.session.flush()
                raise KeyError
        assert await keys(sql) == ["a", "b"]

    loop.run(work())


def test_what_was_added_before_any_statement_is_committed(sql, loop):
    async def work():
        async with Shelf(sql) as shelf:
            shelf.session.add(row("a"))
        async with Shelf(sql) as shelf:
            shelf.session.add(row("b"))
            assert await shelf.notes.count() == 2
            await shelf.commit()
            shelf.session.add(row("c"))
            await shelf.rollback()
        assert await keys(sql) == ["a", "b"]

    loop.run(work())


def test_an_unused_session_costs_no_connection(sql, loop):
    async def work():
        async with Shelf(sql) as shelf:
            assert not shelf.session.new
            assert sql.engine.pool.checkedout() == 0

    loop.run(work())


def test_a_sync_unit_beneath_has_the_same_session(sql, loop):
    async def work():
        async with Shelf(sql) as shelf:
            shelf.session.add(row("a"))
            assert await shelf.run(lambda book: book._work.unwrap("session") is shelf.session.sync_session)
        async with Shelf(sql) as shelf:
            assert await shelf.run(lambda book: book._work.unwrap("session")) is shelf.session.sync_session
        assert await keys(sql) == ["a"]

    loop.run(work())


def test_a_session_ends_with_its_transaction(sql, loop):
    async def work():
        shelf = Shelf(sql)
        async with shelf:
            old = shelf.session
            await old.execute(sa.select(NoteRow))
            await shelf.commit()
            assert shelf.session is not old
            with pytest.raises(UnitStateError):
                await old.execute(sa.select(NoteRow))
        with pytest.raises(UnitStateError):
            _ = shelf.session

    loop.run(work())


def test_savepoints_of_the_session_count(sql, loop):
    async def work():
        async with Shelf(sql) as shelf:
            await shelf.notes.add(Note(key="a"))
            nested = await shelf.session.begin_nested()
            with pytest.raises(UniqueViolationError):
                await shelf.notes.add(Note(key="a"))
            with pytest.raises(TransactionAbortedError):
                await shelf.notes.count()
            await nested.rollback()
            await shelf.notes.add(Note(key="b"))
        assert await keys(sql) == ["a", "b"]

    loop.run(work())


# -- a session of the application's


def test_the_session_commits_and_rolls_back(sql, loop):
    async def work():
        async with AsyncSession(sql.engine) as session:
            book = AsyncBook(session)
            await book.notes.add(Note(key="a"))
            session.add(row("b"))
            assert await book.notes.count() == 2
            await session.commit()
            await book.notes.add(Note(key="c"))
            await session.rollback()
            with pytest.raises(UnsupportedError):
                await book.commit()
        assert await keys(sql) == ["a", "b"]
        assert sql.engine.pool.checkedout() == 0

    loop.run(work())


def test_with_is_a_savepoint(sql, loop):
    async def work():
        async with async_sessionmaker(sql.engine).begin() as session:
            book = AsyncBook(session)
            async with book:
                await book.notes.add(Note(key="a"))
            with pytest.raises(UniqueViolationError):
                async with book:
                    await book.notes.add(Note(key="a"))
            async with AsyncNotes(session) as notes:
                await notes.add(Note(key="b"))
            await book.run(lambda sync: sync.notes.add(Note(key="c")))
        assert await keys(sql) == ["a", "b", "c"]

    loop.run(work())


def test_a_session_whose_unit_is_aborted_does_not_pretend_to_commit(sql, loop):
    async def work():
        async with AsyncSession(sql.engine) as session:
            book = AsyncBook(session)
            await book.notes.add(Note(key="a"))
            with pytest.raises(UniqueViolationError):
                await book.notes.add(Note(key="a"))
            with pytest.raises(TransactionAbortedError):
                await session.commit()
            await session.rollback()
        assert await keys(sql) == []

    loop.run(work())


def test_callbacks_wait_for_the_sessions_commit(sql, loop):
    called = []

    async def later():
        called.append(await keys(sql))

    async def work():
        async with AsyncSession(sql.engine) as session:
            book = AsyncBook(session)
            book.on_commit(later)
            await book.notes.add(Note(key="a"))
            book.on_commit(lambda: called.append("plain"))
            assert called == []
            await session.commit()
            assert called == [["a"], "plain"]
            book.on_commit(later)
            await session.rollback()
            await session.commit()
            assert len(called) == 2

    loop.run(work())


def test_its_own_session_is_the_one_it_has_joined(sql, loop):
    async def work():
        async with AsyncSession(sql.engine) as session:
            assert Shelf(session).session is session is Finders(session).session
            session.add(row("a"))
            assert await Finders(session).in_sql() == ["a"]

    loop.run(work())


def test_a_connection_is_joined(sql, loop):
    async def work():
        async with sql.engine.connect() as connection:
            shelf = Shelf(connection)
            await shelf.notes.add(Note(key="a"))
            shelf.session.add(row("b"))
            assert await shelf.notes.in_sql() == ["a", "b"]
            with pytest.raises(UnsupportedError):
                shelf.on_commit(work)
            await connection.commit()
            await shelf.notes.add(Note(key="c"))
            await connection.rollback()
        assert await keys(sql) == ["a", "b"]

    loop.run(work())


def test_a_scoped_session_is_joined(sql, loop):
    async def work():
        scoped = async_scoped_session(async_sessionmaker(sql.engine), scopefunc=lambda: 1)
        await AsyncBook(scoped).notes.add(Note(key="a"))
        await scoped.commit()
        await scoped.remove()
        assert await keys(sql) == ["a"]

    loop.run(work())


def test_cursors_are_signed_with_the_key_of_the_database_on_the_engine(sql, loop):
    class Query(QueryObject[Note]):
        limit: int = 1

    async def work():
        async with AsyncBook(sql) as book:
            await book.notes.add_many([Note(key="a"), Note(key="b")])
        unsigned = (await AsyncNotes(sql).scroll(Query())).next
        signing = AsyncNotes(AsyncDatabase(sql.engine, cursor_key="k" * 16))
        cursor = (await signing.scroll(Query())).next
        async with AsyncSession(sql.engine) as session:
            assert (await Finders(session).scroll(Query())).next == cursor != unsigned
        assert [one.key for one in (await signing.scroll(Query(), after=cursor)).items] == ["b"]
        with pytest.raises(InvalidLiteralError):
            await signing.scroll(Query(), after=unsigned)

    loop.run(work())


def test_each_kind_of_unit_has_its_kind_of_session(sql, loop):
    async def work():
        session = AsyncSession(sql.engine)
        with pytest.raises(UnsupportedError, match="async unit"):
            Book(session)
        with pytest.raises(UnsupportedError, match="sync unit"):
            AsyncBook(Session())
        with pytest.raises(UnsupportedError, match="not been started"):
            AsyncBook(sql.engine.connect())
        await session.close()

    loop.run(work())


# -- on an engine of the application's


def test_an_engine_of_the_applications_undoes_what_it_should(tmp_path, loop, sql):
    async def work():
        engine = create_async_engine(sql.engine.url)
        theirs = AsyncDatabase(engine)
        assert theirs.engine is engine
        async with AsyncSession(engine) as session:
            book = AsyncBook(session)
            async with book:
                await book.notes.add(Note(key="a"))
            await session.rollback()
            assert await book.notes.count() == 0
        with pytest.raises(ZeroDivisionError):
            async with AsyncBook(theirs) as book:
                async with book.savepoint():
                    await book.notes.add(Note(key="b"))
                raise ZeroDivisionError
        assert await AsyncNotes(sql).count() == 0
        await engine.dispose()

    loop.run(work())


def test_what_is_no_engine_of_the_kind_is_refused(sql, loop):
    with pytest.raises(UnsupportedError):
        Database(sql.engine)
    with pytest.raises(UnsupportedError):
        Database(sql.engine.sync_engine)
    with pytest.raises(UnsupportedError):
        AsyncDatabase(sql.engine.sync_engine)
    with pytest.raises(UnsupportedError):
        AsyncDatabase(None)
    assert sql.engine is sql.engine

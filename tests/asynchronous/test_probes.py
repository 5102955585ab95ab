"""Faults and budgets reach async units as they reach sync ones, in every task and in a web framework's threads."""

import asyncio

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from sqlrepo import DatabaseUnavailableError, LockTimeoutError, TransactionAbortedError, TransactionConflictError
from sqlrepo import retry_async as retry
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncSQLAlchemyUnitOfWork, Database
from sqlrepo.testing import FaultNotMetError, QueryBudgetError, fail_next, probes, query_budget
from tests.asynchronous.conftest import SERVED
from tests.asynchronous.domain import AsyncBook, AsyncNotes, Base, Book, Note, Notes


class SQLBook(AsyncSQLAlchemyUnitOfWork):
    notes: AsyncNotes


@pytest.fixture(autouse=True)
def closed():
    yield
    assert not probes.is_active()


async def keys(db):
    return [one.key for one in await AsyncNotes(db).find(order_by="id")]


def test_a_commit_that_fails_leaves_nothing_and_a_retry_does_nothing_twice(db, loop):
    tries, called = [], []

    async def tell():
        called.append(True)

    async def add(book):
        tries.append(True)
        book.on_commit(tell)
        await book.notes.add(Note(key="once"))

    async def work():
        with fail_next("commit", TransactionConflictError()), pytest.raises(TransactionConflictError):
            async with AsyncBook(db) as book:
                await add(book)
        assert (await keys(db), called) == ([], [])
        with fail_next("commit", TransactionConflictError, on=db):
            await retry(lambda: AsyncBook(db), add)
        assert (await keys(db), called, len(tries)) == (["once"], [True], 3)

    loop.run(work())


@pytest.mark.parametrize("error", [LockTimeoutError("x"), DatabaseUnavailableError("x"), asyncio.CancelledError()])
def test_a_statement_that_fails_aborts(db, loop, error):
    async def work():
        with fail_next("insert", error), pytest.raises(TransactionAbortedError) as caught:
            async with AsyncBook(db) as book:
                with pytest.raises(type(error)):
                    await book.notes.add(Note(key="a"))
                await book.notes.count()
        assert caught.value.__cause__ is error
        assert await keys(db) == []

    loop.run(work())


def test_a_savepoint_heals(db, loop):
    async def work():
        async with AsyncBook(db) as book:
            with fail_next("update", LockTimeoutError):
                stored = await book.notes.add(Note(key="a"))
                with pytest.raises(LockTimeoutError):
                    async with book.savepoint():
                        await book.notes.update(stored)
            await book.run(lambda book: book.notes.add(Note(key="b")))
        assert await keys(db) == ["a", "b"]

    loop.run(work())


def test_a_fault_that_nothing_meets_is_a_failure(db, loop):
    async def work():
        with pytest.raises(FaultNotMetError), fail_next("delete", LockTimeoutError):
            await keys(db)

    loop.run(work())


def test_all_tasks_count(db, loop):
    async def work():
        with query_budget(4, on=db) as spent, query_budget(0, on=InMemoryDatabase()):
            await asyncio.gather(*[AsyncNotes(db).count() for _ in range(3)])
            async with AsyncBook(db) as book:
                await book.run(lambda book: book.notes.count())
                async with book.savepoint():
                    pass
        assert spent.count == 4

    loop.run(work())


def test_operations_cost_what_they_cost_sync_units(db, loop):
    async def work():
        async with AsyncBook(db) as book:
            with query_budget(1) as adding:
                stored = await book.notes.add_many([Note(key="a"), Note(key="b")])
            with query_budget(2) as updating:
                await book.notes.update(stored[0])
            with query_budget(1) as streaming:
                assert len([one async for one in book.notes.stream()]) == 2
            with pytest.raises(QueryBudgetError), query_budget(0):
                await book.notes.delete(stored[1].id)
        assert (adding.count, updating.count, streaming.count) == (1, 2, 1)

    loop.run(work())


@pytest.mark.parametrize("db", ["aiosqlite", *SERVED], indirect=True)
def test_what_an_async_session_sends_counts(db, loop):
    async def work():
        with query_budget(2, on=db) as spent:
            async with SQLBook(db) as book:
                await book.session.execute(sa.text("SELECT 1"))
                async with book.session.begin_nested():
                    await book.notes.count()
        assert spent.count == 2
        assert spent.statements[0] == "SELECT 1"

    loop.run(work())


@pytest.mark.parametrize("made", [InMemoryDatabase, lambda: Database("sqlite://")], ids=["memory", "sqlite"])
def test_a_handler_in_a_thread_pool_counts_and_meets_faults(loop, made):
    db, app = made(), FastAPI()
    if isinstance(db, Database):
        Base.metadata.create_all(db.engine)

    @app.post("/notes/{key}")
    def add(key: str) -> int:
        with Book(db) as book:
            return book.notes.add(Note(key=key)).value

    async def work():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://book") as client:
            with query_budget(1) as spent:
                assert (await client.post("/notes/a")).status_code == 200
            with fail_next("commit", TransactionConflictError):
                assert (await client.post("/notes/b")).status_code == 500
        assert spent.count == 1

    loop.run(work())
    assert [one.key for one in Notes(db).find()] == ["a"]
    db.dispose()

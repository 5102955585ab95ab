"""Async repositories say their scope by a plain method, and keep to it like sync ones."""

import pytest

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    InvalidValueError,
    NotFoundError,
    QueryError,
    UniqueViolationError,
)
from tests.asynchronous.domain import AsyncNotes, Note, NoteRow, note


class Own(AsyncNotes):
    def scope(self) -> bool:
        return note.value == self.context


class Leaving(Own):
    def write_scope(self) -> bool:
        return super(Own, self).scope()


class Book(AsyncBaseUnitOfWork[int]):
    everything: AsyncNotes
    own: Own
    leaving: Leaving


async def filled(db):
    async with Book(db, context=0) as book:
        await book.everything.add_many([Note(key="mine", value=1), Note(key="theirs", value=2)])
        return {one.key: one for one in await book.everything.find()}


def test_reads_and_writes_keep_to_the_scope(loop, db):
    async def work():
        rows = await filled(db)
        mine, theirs = rows["mine"], rows["theirs"]
        async with Book(db, context=1) as book:
            assert [one async for one in book.own.stream()] == await book.own.find() == [mine]
            assert (await book.own.count(), await book.own.exists(key="theirs")) == (1, False)
            for call in (
                book.own.get(theirs.id),
                book.own.patch(theirs.id, {"key": "x"}),
                book.own.delete(theirs.id),
                book.own.update(theirs.model_copy(update={"value": 1})),
            ):
                with pytest.raises(NotFoundError):
                    await call
            for call in (book.own.add(Note(key="new", value=2)), book.own.patch(mine.id, {"value": 2})):
                with pytest.raises(InvalidValueError) as caught:
                    await call
                assert caught.value.field == "value"
            with pytest.raises(UniqueViolationError):
                async with book.savepoint():
                    await book.own.upsert(Note(key="theirs", value=1), on="key")
            assert await book.own.delete_where(everything=True) == 1
            assert await book.everything.find() == [theirs]

    loop.run(work())


def test_a_row_may_leave_where_it_stays_enough(loop, db):
    async def work():
        rows = await filled(db)
        async with Book(db, context=1) as book:
            assert (await book.leaving.patch(rows["mine"].id, {"value": 5})).value == 5
            assert await book.leaving.find() == []

    loop.run(work())


def test_an_error_names_the_repository_not_its_body(loop, db):
    class Wrong(AsyncBaseRepository[Note, int]):
        model = NoteRow
        version = "version"

        def scope(self) -> bool:
            return True

    async def work():
        async with Book(db, context=1) as book:
            with pytest.raises(QueryError, match="Wrong"):
                await Wrong(book).find()

    loop.run(work())

"""The skin gives every call to the body, and adds nothing."""

import inspect
import typing

import pytest
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    AsyncRepository,
    AsyncUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    QueryError,
    Repository,
    UnitOfWork,
    UnsupportedError,
)
from sqlrepo.memory import AsyncInMemoryRepository, AsyncInMemoryUnitOfWork, InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.asynchronous.domain import AsyncBook, AsyncNotes, Book, Note, NoteRow, Notes


def public(cls):
    return {name: member for name, member in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


# What only one of the two has, and why.

ONLY_ASYNC = {"run"}  # calls a function with the sync unit


@pytest.mark.parametrize(
    ("sync", "skin", "left_out"),
    [
        (BaseRepository, AsyncBaseRepository, {"chunks"}),  # the async stream reads them
        (Repository, AsyncRepository, set()),
        (BaseUnitOfWork, AsyncBaseUnitOfWork, set()),
        (UnitOfWork, AsyncUnitOfWork, set()),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_both_have_the_same_methods_with_the_same_parameters(sync, skin, left_out):
    assert set(public(sync)) - left_out == set(public(skin)) - ONLY_ASYNC
    for name, method in public(skin).items():
        if name in ONLY_ASYNC or typing.get_overloads(method):  # which are compared below
            continue
        ours, theirs = (inspect.signature(one) for one in (method, public(sync)[name]))
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name
        if name not in {"stream", "savepoint"}:
            assert ours.return_annotation == theirs.return_annotation, name


def test_both_have_the_same_overloads():
    found = [name for name, method in public(AsyncBaseRepository).items() if typing.get_overloads(method)]
    assert {"find", "get", "page", "stream"} < set(found)
    for name in found:
        both = (getattr(cls, name) for cls in (AsyncBaseRepository, BaseRepository))
        ours, theirs = ([inspect.signature(one) for one in typing.get_overloads(method)] for method in both)
        assert [one.parameters for one in ours] == [one.parameters for one in theirs], name
        returned = [one.return_annotation.removeprefix("Async") for one in ours]
        assert returned == [one.return_annotation for one in theirs], name


def test_what_waits_is_awaited():
    for name, method in public(AsyncBaseRepository).items():
        is_plain = name in {"stream", "to_domain", "to_row", "scope", "write_scope"}
        assert inspect.iscoroutinefunction(method) is not is_plain, name


def test_plain_functions_work_on_the_same_transaction(db, loop):
    def service(book):
        book.notes.add(Note(key="sync"))
        with book.savepoint():
            return book.notes.by_key("sync")

    async def work():
        async with AsyncBook(db) as book:
            await book.notes.add(Note(key="async"))
            stored = await book.run(service)
            assert await book.notes.get(stored.id) == stored
        assert await AsyncNotes(db).count() == 2
        with pytest.raises(KeyError):
            async with AsyncBook(db) as book:
                await book.run(lambda beneath: beneath.notes.add(Note(key="never")))
                raise KeyError
        assert await AsyncNotes(db).count() == 2

    loop.run(work())


@pytest.mark.parametrize(
    "build",
    [
        lambda: Book(AsyncDatabase("sqlite+aiosqlite://")),
        lambda: Notes(AsyncDatabase("sqlite+aiosqlite://")),
        lambda: AsyncBook(Database("sqlite://")),
        lambda: AsyncNotes(Database("sqlite://")),
        lambda: AsyncNotes("sqlite+aiosqlite://user:secret@/"),
        lambda: AsyncDatabase("sqlite://"),
        lambda: AsyncDatabase("postgresql+pg8000://host/db"),
        lambda: Database("sqlite+aiosqlite://"),
        lambda: type("Mixed", (AsyncBaseUnitOfWork,), {"__annotations__": {"notes": Notes}})(InMemoryDatabase()),
        lambda: type("Mixed", (BaseUnitOfWork,), {"__annotations__": {"notes": AsyncNotes}})(InMemoryDatabase()),
    ],
)
def test_sync_and_async_do_not_mix(build):
    with pytest.raises(UnsupportedError) as caught:
        build()
    assert "secret" not in str(caught.value)


def test_memory_bases_have_a_store_of_their_own(loop):
    class OwnNotes(AsyncInMemoryRepository[Note, int]):
        model = NoteRow

    class OwnBook(AsyncInMemoryUnitOfWork):
        notes: OwnNotes

    async def work():
        async with OwnBook() as book:
            await book.notes.add(Note(key="a", version=1))
            assert await book.notes.count() == 1
        async with OwnNotes() as notes:
            assert await notes.count() == 0

    loop.run(work())


class Gallery(DeclarativeBase): ...


class PaintingRow(Gallery):
    __tablename__ = "painting"
    id: Mapped[int] = mapped_column(primary_key=True)
    work: Mapped[str]


class Painting(BaseModel):
    id: int | None = None
    work: str


class Paintings(AsyncInMemoryRepository[Painting, int]):
    model = PaintingRow


def test_no_parameter_on_the_way_to_the_body_takes_the_name_of_a_field(loop):
    async def work():
        async with Paintings() as paintings:
            stored = await paintings.add(Painting(work="Guernica"))
            assert await paintings.one(work="Guernica") == stored
            assert await paintings.find(work="Guernica") == [stored]
            assert await paintings.update_where(work="Guernica", set_={"work": "Las Meninas"}) == 1
            assert await paintings.delete_where(work="Las Meninas") == 1

    loop.run(work())


class Quota(BaseModel):
    id: int
    limit: int | None = None
    order_by: int | None = None
    everything: bool | None = None
    self: int = 0


class QuotaRow(Gallery):
    __tablename__ = "quota"
    id: Mapped[int] = mapped_column(primary_key=True)
    limit: Mapped[int | None]
    order_by: Mapped[int | None]
    everything: Mapped[bool | None]
    self: Mapped[int]


class Quotas(AsyncInMemoryRepository[Quota, int]):
    model = QuotaRow


def test_an_option_that_is_also_a_field_is_refused_whatever_its_value(loop):
    async def work():
        async with Quotas() as quotas:
            await quotas.add(Quota(id=1))
            assert await quotas.count(limit=None, order_by=None, everything=None, self=0) == 1
            assert [one.id async for one in quotas.stream()] == [1]
            assert (await quotas.first()).id == 1
            for call in (
                lambda: quotas.find(limit=None),
                lambda: quotas.first(order_by=None),
                lambda: quotas.delete_where(id=1, everything=False),
                lambda: quotas.update_where(id=1, set_={"self": 1}, everything=False),
            ):
                with pytest.raises(QueryError, match="for the field write"):
                    await call()
            with pytest.raises(QueryError, match="for the field write"):
                quotas.stream(order_by=None)
            assert await quotas.update_where(id=1, set_={"self": 1}) == await quotas.delete_where(id=1) == 1

    loop.run(work())

"""What memory can be told by hand, and what it refuses when a repository is built, by name."""

from contextlib import suppress
from dataclasses import dataclass, make_dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    InvalidValueError,
    MappingError,
    NotNullViolationError,
    QueryObject,
    StaleEntityError,
    UniqueViolationError,
    UnsupportedError,
    fields,
)
from sqlrepo.memory import Column, InMemoryDatabase, InMemoryRepository, Kind, Schema, Unique, ValueType
from tests.units.domain import Todo, Todos, create, own_base

# -- a table described by hand


@dataclass(frozen=True)
class Book:
    title: str
    author: str | None = None
    shelf: str = "a"
    place: int = 0
    id: int | None = None
    version: int | None = None


class Books(InMemoryRepository[Book, int]):
    schema = Schema(
        "book",
        (
            Column("id", ValueType(Kind.INTEGER, int, low=-(2**31), high=2**31 - 1), generated=True),
            Column("title", ValueType(Kind.TEXT, str, length=10)),
            Column("author", ValueType(Kind.TEXT, str), nullable=True),
            Column("shelf", ValueType(Kind.TEXT, str), default=lambda _: "default"),
            Column("place", ValueType(Kind.INTEGER, int, low=0, high=9), onupdate=lambda _: 9),
            Column("version", ValueType(Kind.INTEGER, int)),
        ),
        ("id",),
        uniques=(Unique(("title",), "book_title"), Unique(("author", "shelf"))),
        version="version",
    )


class BookQuery(QueryObject[Book]):
    title_startswith: str | None = None
    limit: int = 2


book = fields(Book)


def test_a_schema_by_hand_is_obeyed():
    with Books() as books:
        stored = books.add(Book("one", "ann"))
        assert stored == Book("one", "ann", "a", 0, 1, 1) == books.get(1)
        with pytest.raises(InvalidValueError) as wrong:
            books.add(Book("much too long"))
        assert wrong.value.field == "title"
        with pytest.raises(InvalidValueError):
            books.add(Book("two", place=10))
        with pytest.raises(UniqueViolationError) as taken, books.unit.savepoint():
            books.add(Book("one"))
        assert (taken.value.constraint, taken.value.fields) == ("book_title", ("title",))
        with pytest.raises(UniqueViolationError) as taken, books.unit.savepoint():
            books.add(Book("two", "ann"))
        assert (taken.value.constraint, taken.value.fields) == (None, ("author", "shelf"))
        with pytest.raises(NotNullViolationError), books.unit.savepoint():
            books.patch(1, {"title": None})
        assert books.update(stored) == Book("one", "ann", "a", 9, 1, 2)
        with pytest.raises(StaleEntityError):
            books.remove(stored)
        books.add_many([Book("two"), Book("three")])  # NULLs under a unique do not meet
        assert [one.title for one in books.page(BookQuery(title_startswith="t")).items] == ["two", "three"]
        assert books.find(order_by=book.author)[0].author is None


def test_a_repository_without_a_database_has_a_store_of_its_own():
    with Books() as one, Books() as other:
        one.add(Book("a"))
        assert other.count() == 0
    shared = InMemoryDatabase()
    with Books(shared) as one:
        one.add(Book("a"))
    assert Books(shared).count() == 1


def test_a_schema_by_hand_cannot_be_kept_in_a_database(sqlite):
    class Kept(BaseRepository[Book, int]):
        schema = Books.schema

    with pytest.raises((UnsupportedError, MappingError)):
        Kept(sqlite)
    with pytest.raises(UnsupportedError):
        Books(sqlite)
    assert Kept(InMemoryDatabase()).count() == 0


def test_a_unit_takes_a_repository_of_memory_alone():
    class Library(BaseUnitOfWork):
        books: Books

    with Library(InMemoryDatabase()) as library:
        assert library.books.add(Book("a")).id == 1


# -- refused


def refused(*columns, args=()):
    """The message for a table whose columns all have a field."""
    base = own_base()

    body = {"__tablename__": "odd", "id": mapped_column(sa.Integer, primary_key=True), "__table_args__": args}
    row = type("Row", (base,), body | {column.name: column for column in columns})

    names = ["id", *(column.name for column in columns)]
    Entity = make_dataclass("Entity", [(name, Any, None) for name in names])  # noqa: N806

    class Odd(BaseRepository[Entity, int]):
        model = row

    class OddUnit(BaseUnitOfWork):
        odd: Odd

    for build in (Odd, lambda db: OddUnit(db).odd):
        with pytest.raises(UnsupportedError) as caught:
            build(InMemoryDatabase())
    return str(caught.value)


class Unknown(sa.types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self):
        return "UNKNOWN"


@pytest.mark.parametrize(
    "column",
    [
        sa.Column("bad", sa.Integer, server_default=sa.text("1 + 6"), nullable=True),
        sa.Column("bad", sa.Integer, sa.Computed("id + 1")),
        sa.Column("bad", sa.DateTime, default=sa.func.random()),
        sa.Column("bad", sa.DateTime, onupdate=sa.func.random(), nullable=True),
        sa.Column("bad", sa.Integer, sa.Sequence("numbers"), nullable=True),
        sa.Column("bad", sa.BINARY(3), nullable=True),
        sa.Column("bad", sa.Interval, nullable=True),
        sa.Column("bad", sa.Numeric(asdecimal=False), nullable=True),
        sa.Column("bad", sa.ARRAY(sa.Integer), nullable=True),
        sa.Column("bad", sa.Time(timezone=True), nullable=True),
        sa.Column("bad", Unknown(), nullable=True),
        sa.Column("bad", sa.PickleType, nullable=True),
        sa.Column("bad", sa.String(20, collation="NOCASE"), nullable=True),
        sa.Column("bad", sa.Integer, sqlite_on_conflict_not_null="REPLACE"),
    ],
    ids=lambda column: type(column.type).__name__,
)
def test_a_column_memory_cannot_keep_is_refused_by_name(column):
    message = refused(sa.Column("fine", sa.Integer, nullable=True), column)

    assert "odd" in message
    assert "bad" in message
    assert "fine" not in message


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ((sa.ForeignKeyConstraint(["fine"], ["odd.id"], ondelete="SET DEFAULT"),), "fine"),
        ((sa.ForeignKeyConstraint(["fine"], ["odd.id"], onupdate="SET DEFAULT"),), "fine"),
        ((sa.ForeignKeyConstraint(["fine"], ["odd.id"], match="FULL"),), "fine"),
        ((sa.ForeignKeyConstraint(["id"], ["odd.fine"]),), "fine"),
        ((sa.CheckConstraint("fine + 1 > 0", name="positive"),), "positive"),
        ((sa.CheckConstraint("fine + 1 > 0"),), "fine"),
        ((sa.UniqueConstraint("fine", name="only", sqlite_on_conflict="IGNORE"),), "only"),
        ((sa.Index("partial", "fine", unique=True, sqlite_where=sa.text("fine + 1 > 0")),), "partial"),
        (
            (
                sa.Index(
                    "twofold",
                    "fine",
                    unique=True,
                    sqlite_where=sa.text("fine > 0"),
                    postgresql_where=sa.text("fine > 1"),
                ),
            ),
            "twofold",
        ),
        ((sa.Index("prefix", "fine", unique=True, mysql_length=3),), "prefix"),
        ((sa.Index("functional", sa.text("abs(fine)"), unique=True),), "functional"),
        ((sa.UniqueConstraint("fine", name="nothing_twice", postgresql_nulls_not_distinct=True),), "NULLs are equal"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_constraint_memory_cannot_keep_is_refused_by_name(args, name):
    message = refused(sa.Column("fine", sa.Integer, nullable=True), args=args)

    assert "odd" in message
    assert name in message


def test_everything_that_is_refused_is_named_at_once():
    message = refused(
        sa.Column("one", sa.BINARY(3), nullable=True),
        sa.Column("two", sa.Interval, nullable=True),
        args=(sa.CheckConstraint("id + 1 > 0", name="positive"),),
    )

    assert all(name in message for name in ("one", "two", "positive"))


def test_what_memory_refuses_works_on_a_database(sqlite):
    class EventRow(own_base()):
        __tablename__ = "event"
        id: Mapped[int] = mapped_column(primary_key=True)
        at: Mapped[datetime] = mapped_column(server_default=sa.func.now())
        code: Mapped[str] = mapped_column(sa.CHAR(3))
        lasts: Mapped[timedelta] = mapped_column(sa.Interval, default=timedelta(1))
        price: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))
        twice: Mapped[int] = mapped_column(sa.Computed("id * 2"))

    class Event(BaseModel):
        id: int | None = None
        at: datetime | None = None
        code: str
        lasts: timedelta | None = None
        price: Decimal = Decimal("1.50")
        twice: int | None = None

    class Events(BaseRepository[Event, int]):
        model = EventRow

    create(sqlite, EventRow)
    with Events(sqlite) as events:
        stored = events.add(Event(code="abc", twice=77))
        assert stored.at is not None
        assert (stored.id, stored.twice, stored.lasts) == (1, 2, timedelta(1))
        assert events.update(stored.model_copy(update={"twice": 5, "code": "abd"})).twice == 2
        assert events.get(1).code == "abd"


# -- names


def test_two_tables_of_one_name_are_a_mapping_error():
    class OtherRow(own_base()):
        __tablename__ = "todo"
        id: Mapped[int] = mapped_column(primary_key=True)
        key: Mapped[str]

    class Other(BaseModel):
        id: int | None = None
        key: str

    class Others(BaseRepository[Other, int]):
        model = OtherRow

    db = InMemoryDatabase()
    Todos(db)
    with pytest.raises(MappingError, match="todo"):
        Others(db)
    assert Todos(db).count() == 0
    assert Others(InMemoryDatabase()).count() == 0


def test_tables_that_differ_in_their_constraints_only_are_different():
    class Row(own_base()):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    class UniqueRow(type("Again", (DeclarativeBase,), {})):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(unique=True)

    class Title(BaseModel):
        id: int | None = None
        title: str

    def keep(row):
        class Titles(BaseRepository[Title, int]):
            model = row

        return Titles

    db = InMemoryDatabase()
    keep(Row)(db)
    with pytest.raises(MappingError):
        keep(UniqueRow)(db)


def test_two_mapped_classes_of_one_table_share_its_rows():
    class Again(BaseRepository[Todo, int]):
        model = Todos.model
        fold = "ascii"

    db = InMemoryDatabase()
    with Again(db) as again:
        again.add(Todo(key="a"))
    assert Todos(db).count() == 1


def test_tables_of_one_name_in_two_schemas_are_two_tables():
    def keep(namespace):
        class NoteRow(own_base()):
            __tablename__ = "note"
            __table_args__ = {"schema": namespace}
            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str]

        class Note(BaseModel):
            id: int | None = None
            text: str

        class Notes(BaseRepository[Note, int]):
            model = NoteRow

        return Notes, Note

    db = InMemoryDatabase()
    (one, note), (other, _) = keep("a"), keep("b")
    with one(db) as notes:
        notes.add(note(text="x"))
    assert (one(db).count(), other(db).count()) == (1, 0)


def test_what_a_unit_adds_and_deletes_is_nobody_elses():
    db = InMemoryDatabase()
    first = Todos(db)
    with first:
        first.add(Todo(id=7, key="mine"))
        first.delete(7)
        with Todos(db) as second:
            second.add(Todo(id=7, key="theirs"))
        assert first.get(7).key == "theirs"
    assert Todos(db).get(7).key == "theirs"


def test_what_a_savepoint_undid_conflicts_with_nobody():
    db = InMemoryDatabase()
    with Todos(db) as todos:
        todos.add(Todo(id=1, key="a"))
    with Todos(db) as first:
        with suppress(KeyError), first.unit.savepoint():
            first.patch(1, {"value": "undone"})
            raise KeyError
        with Todos(db) as second:
            second.patch(1, {"value": "theirs"})
        first.add(Todo(key="b"))
    assert Todos(db).get(1).value == "theirs"


def test_an_undone_second_addition_leaves_the_first_one_to_conflict():
    db = InMemoryDatabase()
    first = Todos(db)
    first.__enter__()
    first.add(Todo(id=7, key="mine"))
    with suppress(KeyError), first.unit.savepoint():
        first.delete(7)
        with suppress(KeyError), first.unit.savepoint():
            first.add(Todo(id=7, key="again"))
            raise KeyError
        raise KeyError
    with Todos(db) as second:
        second.add(Todo(id=7, key="theirs"))
    with pytest.raises(UniqueViolationError):
        first.__exit__(None, None, None)
    assert Todos(db).get(7).key == "theirs"

"""Columns that fill themselves: defaults, stamps of updates, versions, generated keys."""

from dataclasses import dataclass
from itertools import count

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    InvalidValueError,
    MappingError,
    NotFoundError,
    NotNullViolationError,
    QueryError,
    StaleEntityError,
    TransactionAbortedError,
    fields,
)
from tests.units.domain import Account, Bank, Shop, Todo, own_base

Base = own_base()


ticks = count(100)


class NoteRow(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))
    state: Mapped[str] = mapped_column(sa.String(20), default="new")
    made: Mapped[int] = mapped_column(default=lambda: next(ticks))
    seen: Mapped[int] = mapped_column(default=lambda: next(ticks), onupdate=lambda: next(ticks))
    title: Mapped[str] = mapped_column(default=lambda context: context.get_current_parameters()["text"].title())
    mood: Mapped[str | None] = mapped_column(default="calm")
    by: Mapped[str | None] = mapped_column(onupdate="someone")


class Note(BaseModel):
    id: int | None = None
    text: str
    state: str | None = None
    made: int | None = None
    seen: int | None = None
    title: str | None = None
    mood: str | None = None
    by: str | None = None


class Notes(BaseRepository[Note, int]):
    model = NoteRow


class Line(BaseModel):
    """What is left when everything that fills itself is left out."""

    text: str


class Lines(BaseRepository[Line, int]):
    model = NoteRow


note = fields(Note)


@pytest.fixture
def notes(empty):
    with Notes(empty(Base)) as notes:
        yield notes


def test_none_lets_a_default_fire_where_a_value_is_needed_and_is_null_elsewhere(notes):
    stored = notes.add(Note(text="buy milk"))

    assert (stored.state, stored.title, stored.mood, stored.by) == ("new", "Buy Milk", None, None)
    assert isinstance(stored.made, int)
    assert stored.seen > stored.made
    assert notes.get(stored.id) == stored


def test_what_the_entity_leaves_out_gets_its_default_null_or_not(notes):
    Lines(notes.unit).add_many([Line(text="a"), Line(text="b")])

    assert [(one.state, one.title, one.mood, one.by) for one in notes.find()] == [
        ("new", "A", "calm", None), ("new", "B", "calm", None)]  # fmt: skip
    assert len({one.made for one in notes.find()}) == 2


def test_a_given_value_wins_over_the_default(notes):
    given = Note(id=7, text="a", state="old", made=1, seen=2, title="T", mood="", by="me")

    assert notes.add(given) == given


def test_an_update_stamps_and_does_not_take_the_stamp_from_the_entity(notes):
    stored = notes.add(Note(text="a", by="me"))
    written = notes.update(stored.model_copy(update={"text": "b", "seen": 1, "by": "you"}))

    assert written.text == "b"
    assert written.seen > stored.seen
    assert written.by == "someone"
    assert written.made == stored.made
    assert notes.save(written).seen > written.seen


def test_a_patch_stamps_unless_it_says_so_itself(notes):
    stored = notes.add(Note(text="a"))

    assert notes.patch(stored.id, {"text": "b"}).by == "someone"
    assert notes.patch(stored.id, {"by": "me"}).by == "me"
    assert notes.patch(stored.id, {"by": None}).by is None
    assert notes.patch(stored.id, {"seen": 5}).seen == 5


def test_a_set_form_stamps_too(notes):
    notes.add(Note(text="a", seen=1))

    assert notes.update_where(note.text == "a", set_={"state": "old"}) == 1
    assert notes.one(text="a").seen > 1
    assert notes.update_where(note.text == "a", set_={"seen": 3}) == 1
    assert notes.one(text="a").seen == 3


def test_an_empty_patch_changes_nothing(notes):
    stored = notes.add(Note(text="a"))

    assert notes.patch(stored.id, {}) == stored
    assert notes.get(stored.id) == stored
    with pytest.raises(NotFoundError):
        notes.patch(99, {})


def test_a_default_is_checked_like_any_value(empty):
    class Row(own_base()):
        __tablename__ = "row"
        id: Mapped[int] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(sa.String(2), default="long")

    class One(BaseModel):
        id: int | None = None

    class Rows(BaseRepository[One, int]):
        model = Row

    with Rows(empty(Row)) as rows, pytest.raises(InvalidValueError) as caught:
        rows.add(One())
    assert caught.value.field == "code"


@pytest.mark.parametrize(
    "write",
    [
        lambda todos: todos.add(Todo.model_construct(key=None, value="", done=False, priority=0, id=None, due=None)),
        lambda todos: todos.patch(1, {"key": None}),
        lambda todos: todos.update_where(everything=True, set_={"key": None}),
    ],
)
def test_none_where_a_value_is_needed_is_a_not_null_violation_that_aborts(db, write):
    with Shop(db) as shop:
        shop.todos.add(Todo(id=1, key="a"))
        with pytest.raises(NotNullViolationError) as caught:
            write(shop.todos)
        assert caught.value.fields == ("key",)
        with pytest.raises(TransactionAbortedError):
            shop.todos.count()
        shop.rollback()


# -- versions


def test_an_entity_without_a_version_is_written_over_unconditionally(db):
    with Bank(db) as bank:
        stored = bank.accounts.add(Account("a"))
        bank.accounts.update(stored)

        assert bank.accounts.update(Account("a", 5, stored.id, None)).version == 3
        bank.accounts.delete(stored.id)


def test_a_version_cannot_be_set(db):
    with Bank(db) as bank:
        bank.accounts.add(Account("a"))
        with pytest.raises(QueryError):
            bank.accounts.update_where(everything=True, set_={"version": 9})
        assert bank.accounts.get(1).version == 1


def test_the_version_may_be_named_by_the_repository_and_left_out_of_the_entity(empty):
    class DocRow(own_base()):
        __tablename__ = "doc"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        revision: Mapped[int]

    @dataclass
    class Doc:
        text: str
        id: int | None = None
        rev: int | None = None

    @dataclass
    class Plain:
        text: str
        id: int | None = None

    class Docs(BaseRepository[Doc, int]):
        model = DocRow
        columns = {"rev": "revision"}
        version = "rev"

    class Plains(BaseRepository[Plain, int]):
        model = DocRow
        version = "revision"

    with Docs(empty(DocRow)) as docs:
        stored = docs.add(Doc("a"))
        assert stored == Doc("a", 1, 1)
        Plains(docs.unit).update(Plain("b", 1))
        with pytest.raises(StaleEntityError):
            docs.update(stored)
        assert docs.get(1) == Doc("b", 1, 2)
        Plains(docs.unit).add(Plain("c"))
        assert docs.get(2).rev == 1


@dataclass
class Sheet:
    name: str
    id: int | None = None
    rev: int | None = None


@dataclass
class OldSheet:
    name: str
    id: int | None = None


class SheetRow(Base):
    __tablename__ = "sheet"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    rev: Mapped[int | None] = mapped_column(sa.SmallInteger)


class Sheets(BaseRepository[Sheet, int]):
    model = SheetRow
    version = "rev"


class OldSheets(BaseRepository[OldSheet, int]):
    model = SheetRow


WRITES = {
    "update": lambda sheets, read: sheets.update(read),
    "save": lambda sheets, read: sheets.save(read),
    "patch": lambda sheets, read: sheets.patch(read.id, {"name": "b", "rev": read.rev}),
    "remove": lambda sheets, read: sheets.remove(read),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_null_is_the_version_of_a_row_that_is_older_than_its_version_column(empty, write):
    with Sheets(empty(Base)) as sheets:
        key = OldSheets(sheets.unit).add(OldSheet("a")).id
        read = sheets.get(key)
        assert read == Sheet("a", key, None)
        assert sheets.update(read).rev == 1
        with pytest.raises(StaleEntityError) as caught:
            write(sheets, read)
        assert (caught.value.key, caught.value.version) == (key, None)
        assert sheets.get(key).rev == 1
        write(sheets, sheets.get(key))
        assert [sheet.rev for sheet in sheets.find()] == ([] if write is WRITES["remove"] else [2])


@pytest.mark.parametrize(
    "write",
    [
        lambda sheets, key: sheets.patch(key, {"name": "b"}),
        lambda sheets, key: sheets.update_where(fields(Sheet).id == key, set_={"name": "b"}),
        lambda sheets, key: sheets.upsert(Sheet("b", key), on="id"),
        lambda sheets, key: sheets.save(Sheet("b", key)),
    ],
)
def test_every_write_counts_from_null(empty, write):
    with Sheets(empty(Base)) as sheets:
        key = OldSheets(sheets.unit).add(OldSheet("a")).id
        write(sheets, key)
        assert sheets.find() == [Sheet("b", key, 1)]
        sheets.patch(key, {"name": "c"})
        assert sheets.find() == [Sheet("c", key, 2)]


def test_a_row_that_is_older_than_its_version_column_is_removed(empty):
    with Sheets(empty(Base)) as sheets:
        key = OldSheets(sheets.unit).add(OldSheet("a")).id
        sheets.remove(sheets.get(key))
        with pytest.raises(NotFoundError):
            sheets.update(Sheet("a", key))


@pytest.mark.parametrize("generator", [False, lambda old: (old or 0) + 1, lambda old: (old or 0) + 10])
def test_a_generator_of_versions_is_refused_where_the_class_is_defined(generator):
    class CountedRow(own_base()):
        __tablename__ = "counted"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        rev: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": rev, "version_id_generator": generator}

    with pytest.raises(MappingError, match="version_id_generator"):

        class Counted(BaseRepository[OldSheet, int]):
            model = CountedRow


# -- generated keys


def test_a_generated_key_may_be_negative_but_not_zero(db):
    with Shop(db) as shop:
        assert shop.todos.add(Todo(id=-5, key="a")).id == -5
        with pytest.raises(InvalidValueError):
            shop.todos.save(Todo(id=0, key="b"))

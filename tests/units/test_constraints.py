"""What a refused row says: the class of the error, the constraint's name in the metadata, the entity's fields."""

from datetime import date
from typing import ClassVar
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    CheckViolationError,
    InvalidLiteralError,
    NotNullViolationError,
    QueryError,
    TransactionAbortedError,
    UniqueViolationError,
    desc,
    fields,
    startswith,
)
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import TodoRow, connections_out, create, own_base


class Base(DeclarativeBase):
    metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s"})
    type_annotation_map = {str: sa.String(60)}


class SeatRow(Base):
    """Uniques of every kind: a column's, a named one over two, an index, under names that need quotes."""

    __tablename__ = "seat row"
    __table_args__ = (
        sa.UniqueConstraint("hall.name", "select", name="one_seat"),
        sa.Index("one_label", "label", unique=True),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    hall: Mapped[str] = mapped_column("hall.name", sa.String(9))
    number: Mapped[int] = mapped_column("select")
    label: Mapped[str | None] = mapped_column(sa.String(9))
    order: Mapped[str | None] = mapped_column(sa.String(9), unique=True)


class Seat(BaseModel):
    id: int | None = None
    room: str
    number: int
    label: str | None = None
    order: str | None = None


class Seats(BaseRepository[Seat, int]):
    model = SeatRow
    columns: ClassVar[dict[str, str]] = {"room": "hall"}


class Hall(BaseUnitOfWork):
    seats: Seats


@pytest.fixture
def hall(empty):
    with Hall(empty(Base)) as hall:
        hall.seats.add(Seat(id=1, room="a", number=1, label="x", order="first"))
        yield hall


@pytest.mark.parametrize(
    ("seat", "constraint", "names"),
    [
        (Seat(id=1, room="b", number=1), "pk_seat row", ("id",)),
        (Seat(room="a", number=1), "one_seat", ("room", "number")),
        (Seat(room="b", number=1, label="x"), "one_label", ("label",)),
        (Seat(room="b", number=1, order="first"), None, ("order",)),
    ],
)
def test_a_unique_violation_names_constraint_and_fields(hall, seat, constraint, names):
    with pytest.raises(UniqueViolationError) as caught, hall.savepoint():
        hall.seats.add(seat)

    assert (caught.value.constraint, caught.value.fields) == (constraint, names)
    assert caught.value.retryable is False


def test_updates_and_set_forms_violate_uniques_too(hall):
    other = hall.seats.add(Seat(room="a", number=2, label="y"))
    for write, name in (
        (lambda: hall.seats.update(other.model_copy(update={"number": 1})), "one_seat"),
        (lambda: hall.seats.save(other.model_copy(update={"number": 1})), "one_seat"),
        (lambda: hall.seats.patch(other.id, {"label": "x"}), "one_label"),
        (lambda: hall.seats.update_where(everything=True, set_={"label": "z"}), "one_label"),
    ):
        with pytest.raises(UniqueViolationError) as caught, hall.savepoint():
            write()
        assert caught.value.constraint == name
    assert hall.seats.get(other.id) == other


def test_nulls_under_a_composite_unique_do_not_meet(empty):
    class PairRow(own_base()):
        __tablename__ = "pair"
        __table_args__ = (sa.UniqueConstraint("left", "right"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        left: Mapped[str | None]
        right: Mapped[str | None]

    class Pair(BaseModel):
        id: int | None = None
        left: str | None = None
        right: str | None = None

    class Pairs(BaseRepository[Pair, int]):
        model = PairRow

    with Pairs(empty(PairRow)) as pairs:
        pairs.add_many([Pair(), Pair(), Pair(left="a"), Pair(left="a"), Pair(right="b"), Pair(right="b")])
        pairs.add(Pair(left="a", right="b"))
        with pytest.raises(UniqueViolationError) as caught, pairs.unit.savepoint():
            pairs.patch(3, {"right": "b"})
        assert (caught.value.constraint, caught.value.fields) == (None, ("left", "right"))


# -- what SQLite refuses, and memory refuses to keep


class ParentRow(Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)


class ChildRow(Base):
    __tablename__ = "child"
    __table_args__ = (sa.CheckConstraint("size > 0", name="positive"), sa.CheckConstraint("size < 100"))
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("parent.id"))
    size: Mapped[int | None]


class Parent(BaseModel):
    id: int | None = None


class Child(BaseModel):
    id: int | None = None
    parent_id: int | None = None
    size: int | None = None


class Parents(BaseRepository[Parent, int]):
    model = ParentRow


class Children(BaseRepository[Child, int]):
    model = ChildRow


class Family(BaseUnitOfWork):
    parents: Parents
    children: Children


@pytest.fixture
def family(sqlite):
    with Family(create(sqlite, Base)) as family:
        family.parents.add(Parent(id=1))
        yield family
    assert connections_out(sqlite) == 0


def test_a_check_violation_carries_the_name_in_the_metadata(family):
    family.children.add(Child(size=None))
    for size, name in ((0, "positive"), (100, None)):
        with pytest.raises(CheckViolationError) as caught, family.savepoint():
            family.children.add(Child(size=size))
        assert caught.value.constraint == name


def test_a_not_null_violation_of_the_user_s_own_sql_carries_the_field(family):
    with pytest.raises(sa.exc.IntegrityError):
        family._work.unwrap("connection").exec_driver_sql('INSERT INTO "seat row" ("hall.name") VALUES (\'a\')')
    with pytest.raises(TransactionAbortedError) as aborted:
        family.children.count()
    assert isinstance(aborted.value.__cause__, NotNullViolationError)
    family.rollback()


# -- keys


class WordRow(Base):
    __tablename__ = "word"
    word: Mapped[str] = mapped_column(sa.String(5), primary_key=True)
    id: Mapped[UUID | None] = mapped_column(default=uuid4)
    p0: Mapped[int | None]
    q0: Mapped[str | None]
    v0: Mapped[int | None]
    limit_: Mapped[int | None]


class Word(BaseModel):
    word: str
    id: UUID | None = None
    p0: int | None = None
    q0: str | None = None
    v0: int | None = None
    limit_: int | None = None


class Words(BaseRepository[Word, str]):
    model = WordRow


w = fields(Word)


def test_a_text_may_be_the_key(empty):
    with Words(empty(Base)) as words:
        words.add_many([Word(word="b"), Word(word=""), Word(word="B")])

        assert [one.word for one in words.find()] == ["", "B", "b"]
        assert words.get("").word == ""
        assert words.get_or_none("c") is None
        for key in ("x" * 6, "\0", ("a",), b"a"):
            with pytest.raises(InvalidLiteralError):
                words.get(key)
        with pytest.raises(QueryError):
            words.patch("b", {"word": "c"})
        with pytest.raises(NotNullViolationError) as caught, words.unit.savepoint():
            words.add(Word.model_construct(**{**dict(Word(word="a")), "word": None}))
        assert caught.value.fields == ("word",)


def test_columns_named_like_our_parameters_are_not_mixed_up_with_them(empty):
    with Words(empty(Base)) as words:
        words.add(Word(word="a", p0=1, q0="ab", v0=2, limit_=3))
        asked = (w.p0 == 1) & startswith(w.q0, "a") & (w.v0 == 2) & (w.limit_ == 3)

        assert words.find(asked, order_by=desc(w.p0), limit=1)[0].word == "a"
        assert words.update_where(asked, set_={"p0": 5, "q0": "x", "v0": 6, "limit_": 7}) == 1
        assert words.one(p0=5) == words.patch("a", {"v0": 6})
        assert words.update(Word(word="a", v0=8)) == Word(word="a", v0=8)
        assert words.exists(v0=8)


def test_a_key_that_python_makes_is_given_back(empty):
    class ItemRow(own_base()):
        __tablename__ = "item"
        id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
        name: Mapped[str]

    class Item(BaseModel):
        id: UUID | None = None
        name: str

    class Items(BaseRepository[Item, UUID]):
        model = ItemRow

    with Items(empty(ItemRow)) as items:
        stored = items.add_many([Item(name="a"), Item(id=UUID(int=7), name="b"), Item(name="c")])
        assert [one.name for one in stored] == ["a", "b", "c"]
        assert items.get_many([one.id for one in stored]) == stored
        assert items.save(Item(name="d")).id is not None
        assert items.save(Item(id=UUID(int=7), name="e")).name == "e"
        assert items.count() == 4


def test_a_constraint_found_violated_by_commit_names_the_fields_too():
    class Renamed(BaseModel):
        id: int | None = None
        code: str
        value: str = ""
        done: bool = False
        priority: int = 0
        due: date | None = None

    class Codes(BaseRepository[Renamed, int]):
        model = TodoRow
        columns: ClassVar = {"code": "key"}

    first = Codes(InMemoryDatabase())
    first.__enter__()
    first.add(Renamed(code="a"))
    with Codes(first.unit._work.source) as second:
        second.add(Renamed(code="a"))
    with pytest.raises(UniqueViolationError) as caught:
        first.__exit__(None, None, None)
    assert (caught.value.fields, caught.value.table) == (("code",), "todo")

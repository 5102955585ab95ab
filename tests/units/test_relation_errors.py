"""Bad input about parts and related rows: a clear error that says what to write, and nothing half stored."""

import contextlib
import types

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    CheckViolationError,
    HasMany,
    InvalidValueError,
    MappingError,
    NotFoundError,
    NotNullViolationError,
    QueryError,
    QueryObject,
    TransactionAbortedError,
    UniqueViolationError,
)
from sqlrepo.testing import query_budget
from tests.units.domain import database


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class CaseRow(Base):
    __tablename__ = "case_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(
        order_by="LineRow.position", cascade="all, delete-orphan", foreign_keys="LineRow.case_id"
    )
    friends: Mapped[list["LineRow"]] = relationship(foreign_keys="LineRow.other_id", viewonly=True)
    loose: Mapped[list["LooseRow"]] = relationship()
    leaving: Mapped[list["LeavingRow"]] = relationship(cascade="all, delete-orphan")


class LineRow(Base):
    __tablename__ = "line_of_case"
    __table_args__ = (
        sa.UniqueConstraint("case_id", "sku", name="one_sku"),
        sa.CheckConstraint("qty > 0", name="qty_is_positive"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"))
    other_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"))
    sku: Mapped[str]
    qty: Mapped[int]
    position: Mapped[int]


class LooseRow(Base):
    __tablename__ = "loose_of_case"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"))


class LeavingRow(Base):
    __tablename__ = "leaving_of_case"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="SET NULL"))


class TagRow(Base):
    __tablename__ = "tag_of_case"
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


class Line(BaseModel):
    id: int | None = None
    sku: str | None  # the column is NOT NULL
    qty: int = 1


class Case(BaseModel):
    id: int | None = None
    title: str
    lines: list[Line] = []
    tags: frozenset[str] = frozenset()
    version: int = 1


class Loose(BaseModel):
    id: int | None = None


class Cases(BaseRepository[Case, int]):
    model = CaseRow
    version = "version"
    parts = {"tags": HasMany(TagRow, value="name")}


class Office(BaseUnitOfWork):
    cases: Cases


@pytest.fixture
def db(backend):
    made = database(backend, Base)
    yield made
    made.dispose()


def changed(entity, **values):
    return entity.model_copy(update=values)


# -- declarations


class WithLoose(BaseModel):
    id: int | None = None
    title: str
    loose: list[Loose] = []
    version: int = 1


class WithLeaving(BaseModel):
    id: int | None = None
    title: str
    leaving: list[Loose] = []
    version: int = 1


class WithMore(BaseModel):
    id: int | None = None
    title: str
    more: list[Line] = []
    version: int = 1


class WithUnknown(BaseModel):
    id: int | None = None
    title: str
    linse: list[Line] = []
    version: int = 1


class WithScalar(BaseModel):
    id: int | None = None
    titel: str
    version: int = 1


@pytest.mark.parametrize(
    ("entity", "parts", "words"),
    [
        (WithLoose, {}, ["'loose'", "delete-orphan"]),
        (WithLoose, {"loose": HasMany()}, ["'loose'", "delete-orphan"]),
        (WithLeaving, {}, ["'leaving'", "SET NULL", "CASCADE"]),
        (WithMore, {"more": HasMany(LineRow)}, ["'more'", "2 foreign keys", "by="]),
        (WithMore, {"more": HasMany(LineRow, by="case")}, ["'more'", "'case'", "'case_id'"]),
        (WithUnknown, {}, ["'linse'", "'lines'", "parts", "to_domain"]),
        (WithScalar, {}, ["'titel'", "'title'", "to_domain"]),
    ],
)
def test_a_declaration_that_does_not_fit_says_what_to_write(entity, parts, words):
    with pytest.raises(MappingError) as caught:
        types.new_class(
            "Refused",
            (BaseRepository[entity, int],),
            exec_body=lambda body: body.update(model=CaseRow, version="version", parts=parts),
        ).definition()
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)


# -- writes


def case(**values):
    return Case(**{"title": "t", "lines": [Line(sku="a"), Line(sku="b")], "tags": frozenset("xy"), **values})


WRONG = {
    "unique": (lambda case: [*case.lines, Line(sku="a")], UniqueViolationError, {("lines.case_id", "lines.sku"), ()}),
    "check": (lambda case: [*case.lines, Line(sku="c", qty=0)], CheckViolationError, {(), ("lines.qty",)}),
    "null": (lambda case: [Line(sku=None)], NotNullViolationError, {("lines.sku",)}),
    "unique on update": (
        lambda case: [case.lines[0], changed(case.lines[1], sku="a")],
        UniqueViolationError,
        {("lines.case_id", "lines.sku"), ()},
    ),
    "check on update": (
        lambda case: [changed(case.lines[0], qty=-1), case.lines[1]],
        CheckViolationError,
        {(), ("lines.qty",)},
    ),
    "stolen": (lambda case: [Line(id=10_000, sku="z")], InvalidValueError, "lines[0].id"),
    "too long": (lambda case: [*case.lines, Line(sku="s" * 31)], InvalidValueError, "lines[2].sku"),
    "too great": (lambda case: [Line(sku="s", qty=2**70)], InvalidValueError, "lines[0].qty"),
    "no line": (lambda case: [case], InvalidValueError, "lines[0].Line"),
    "no collection": (lambda case: "ab", InvalidValueError, "lines"),
    "none": (lambda case: None, InvalidValueError, "lines"),
    "of none": (lambda case: [None], InvalidValueError, "lines[0].Line"),
}
EARLY = {"too long", "too great", "no line", "no collection", "none", "of none"}  # before any statement
WRITES = {
    "update": lambda cases, one: cases.update(one),
    "save": lambda cases, one: cases.save(one),
    "patch": lambda cases, one: cases.patch(one.id, {"title": one.title, "lines": one.lines}),
    "upsert": lambda cases, one: cases.upsert(one, on="id"),
    "upsert_many": lambda cases, one: cases.upsert_many([case(id=900, lines=[]), one], on="id"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("write", WRITES)
def test_a_wrong_child_aborts_the_whole_unit_even_if_the_error_is_swallowed(db, write, wrong):
    with Office(db) as office:
        stored = office.cases.add(case())
    make, error, place = WRONG[wrong]
    half = changed(stored, title="half", lines=make(stored))
    unit = Office(db)
    unit.__enter__()
    with pytest.raises(error) as caught:
        WRITES[write](unit.cases, half)
    if error is InvalidValueError:
        assert caught.value.field == place
    else:
        assert caught.value.fields in place
    if wrong in EARLY:
        unit.__exit__(None, None, None)
    else:
        with pytest.raises(TransactionAbortedError):
            unit.__exit__(None, None, None)
    with Office(db) as office:
        assert office.cases.find() == [stored]


@pytest.mark.parametrize("wrong", ["unique", "check", "null"])
def test_a_wrong_child_of_a_new_entity_stores_nothing(db, wrong):
    make, error, place = WRONG[wrong]
    new = case(lines=make(case(lines=[Line(sku="a")])))
    for write in (lambda cases: cases.add(new), lambda cases: cases.add_many([case(), new])):
        unit = Office(db)
        unit.__enter__()
        with pytest.raises(error) as caught:
            write(unit.cases)
        assert caught.value.fields in place
        with pytest.raises(TransactionAbortedError) if wrong not in EARLY else contextlib.nullcontext():
            unit.__exit__(None, None, None)
        with Office(db) as office:
            assert office.cases.find() == []


def test_ten_thousand_children_take_as_many_statements_as_their_chunks(db):
    many = [Line(sku=f"{number}") for number in range(10_000)]
    with Office(db) as office:
        office.cases.count()
        stored = office.cases.add(case(lines=many, tags=frozenset()))
    assert [line.sku for line in stored.lines] == [line.sku for line in many]
    with Office(db) as office:
        office.cases.count()
        with query_budget(3):
            assert office.cases.get(stored.id) == stored
        wanted = [changed(line, qty=2) for line in stored.lines[5000:]] + [
            Line(sku=f"n{number}") for number in range(9)
        ]
        with query_budget(2 + 3 + 10 + 3):
            written = office.cases.update(changed(stored, lines=wanted))
        assert [line.sku for line in written.lines] == [line.sku for line in wanted]
        assert office.cases.get(stored.id) == written


def test_an_entity_that_is_gone_takes_no_children(db):
    with Office(db) as office:
        stored = office.cases.add(case())
        office.cases.delete(stored.id)
    for write in (lambda cases: cases.update(stored), lambda cases: cases.patch(stored.id, {"lines": stored.lines})):
        with pytest.raises(NotFoundError), Office(db) as office:
            write(office.cases)
    with Office(db) as office:
        assert office.cases.find() == []


# -- names in queries


def test_unknown_paths_are_refused_when_the_class_is_defined_with_the_nearest_name():
    for name, words in [
        ("lines__skw", ["'skw'", "sku"]),
        ("lines__qty_gte", ["qty_ge"]),
        ("tags__exact", ["tags", "only an operator"]),
        ("lnes__sku", ["'lnes__sku'", "lines"]),
        ("lines", ["its children", "lines__"]),
        ("tags", ["its children", "tags__"]),
    ]:
        with pytest.raises(QueryError) as caught:
            types.new_class(
                "Query",
                (QueryObject[Case],),
                exec_body=lambda body, name=name: body.update({"__annotations__": {name: str | None}, name: None}),
            )
        missing = [word for word in [f"Query.{name}", *words] if word not in str(caught.value)]
        assert not missing, str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tags__equals", ["'name'", "tag_of_case", "no foreign key", "'iequals'"]),
        ("title__contians", ["'title'", "no foreign key", "'contains'"]),
        ("lines__sku__lenght", ["'sku'", "line_of_case", "no foreign key"]),
    ],
)
def test_paths_through_what_is_no_key_are_refused_at_first_meeting(db, name, words):
    query = types.new_class(
        "Query",
        (QueryObject[Case],),
        exec_body=lambda body: body.update({"__annotations__": {name: str | None}, name: None}),
    )
    with Office(db) as office:
        office.cases.count()
        for given in (query(), query(**{name: "a"})):
            with query_budget(0), pytest.raises(QueryError) as caught:
                office.cases.find(given)
            missing = [word for word in [f"Query.{name}", *words] if word not in str(caught.value)]
            assert not missing, str(caught.value)

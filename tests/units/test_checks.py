"""Checks: which are understood, how they are asked, and what stands in for those that are not, on every backend."""

import sys
from datetime import date
from decimal import Decimal
from enum import Enum
from types import new_class
from typing import ClassVar

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, CheckViolationError, MappingError, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy.types import Exact, Member
from sqlrepo.tables.reflection import refusals
from tests.units.domain import database, own_base


class Base(DeclarativeBase): ...


class Grade(Enum):
    LOW = 2
    HIGH = 1


class WareRow(Base):
    """One check of every operator, each named after what it forbids."""

    __tablename__ = "ware"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int | None] = mapped_column("ware_size")
    least: Mapped[int | None] = mapped_column()
    price: Mapped[Decimal | None] = mapped_column(Exact(10, 2))
    made: Mapped[date | None] = mapped_column()
    sold: Mapped[bool | None] = mapped_column()
    name: Mapped[str | None] = mapped_column(sa.String(9))
    grade: Mapped[Grade | None] = mapped_column(Member(Grade))

    __table_args__ = (
        sa.CheckConstraint(size > 0, name="size_positive"),
        sa.CheckConstraint(sa.literal(1000) >= size, name="size_small"),
        sa.CheckConstraint(size >= least, name="size_enough"),
        sa.CheckConstraint(size != 13, name="size_lucky"),
        sa.CheckConstraint(sa.not_(size.in_([7, 8])), name="size_listed"),
        sa.CheckConstraint(made.between(date(2000, 1, 1), date(2030, 1, 1)), name="made_lately"),
        sa.CheckConstraint(sa.or_(sold.is_(None), sa.not_(sold), size.is_not(None)), name="sold_has_size"),
        sa.CheckConstraint(name != "", name="name_given"),
        sa.CheckConstraint(sa.and_(grade == Grade.HIGH, size < 50) | grade.in_([Grade.LOW]), name="grade_fits"),
    )


class Ware(BaseModel):
    id: int | None = None
    size: int | None = None
    least: int | None = None
    price: Decimal | None = None
    made: date | None = None
    sold: bool | None = None
    name: str | None = None
    grade: Grade | None = None


class Wares(BaseRepository[Ware, int]):
    model = WareRow


@pytest.fixture
def wares(backend):
    made = database(backend, Base)
    with Wares(made) as wares:
        yield wares
    made.dispose()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"size": 0}, "size_positive"),
        ({"size": 1001}, "size_small"),
        ({"size": 3, "least": 4}, "size_enough"),
        ({"size": 13}, "size_lucky"),
        ({"size": 7}, "size_listed"),
        ({"made": date(1999, 12, 31)}, "made_lately"),
        ({"made": date(2030, 1, 2)}, "made_lately"),
        ({"sold": True}, "sold_has_size"),
        ({"name": ""}, "name_given"),
        ({"grade": Grade.HIGH, "size": 50}, "grade_fits"),
    ],
)
def test_a_check_that_is_false_is_violated(wares, values, name):
    stored = wares.add(Ware())
    for write in (
        lambda: wares.add(Ware(**values)),
        lambda: wares.update(stored.model_copy(update=values)),
        lambda: wares.update_where(everything=True, set_=values),
        lambda: wares.upsert(Ware(id=stored.id, **values), on="id"),
    ):
        with pytest.raises(CheckViolationError) as caught, wares.unit.savepoint():
            write()
        assert (caught.value.constraint, caught.value.fields) == (name, ())
    assert wares.find() == [stored]


def test_a_check_that_is_true_or_unknown_passes(wares):
    given = [
        Ware(id=1),
        Ware(id=2, size=1, least=1, made=date(2000, 1, 1), sold=True, name="a", grade=Grade.HIGH),
        Ware(id=3, least=9, sold=False, grade=Grade.LOW),
        Ware(id=4, grade=Grade.HIGH),
        Ware(id=5, size=1000),
    ]

    assert wares.add_many(given) == given


# -- what memory cannot read


def kept(check, **options):
    """A repository of a table with one check."""

    class PointRow(own_base()):
        __tablename__ = "point"
        id: Mapped[int] = mapped_column(primary_key=True)
        across: Mapped[int | None] = mapped_column("x")
        label: Mapped[str | None] = mapped_column(sa.String(9))
        __table_args__ = (check,)

    class Point(BaseModel):
        id: int | None = None
        horizontal: int | None = None
        label: str | None = None

    body = {"model": PointRow, "columns": {"horizontal": "across"}, **options}
    return (
        new_class("Points", (BaseRepository[Point, int],), exec_body=lambda space: space.update(body)),
        Point,
        PointRow,
    )


TEXT = "x + 0 > 0 AND length(label) < 3"


@pytest.mark.parametrize(
    "condition",
    [
        "x + 1 > 0",
        sa.text("x > y"),
        "x > 0 OR random() > 0.5",
        "label < 'b'",
        "label = 5",
        "x = 0.5",
        "x = NULL",
        "x > 99999999999",
        "x IS TRUE",
        "label IN ('a', label)",
        "label = ANY (ARRAY['a', lower(label)])",
        "label::numeric(5, 2) = 1",
        "lower(label) = 'É'",
        "upper(x) = '1'",
        "label LIKE 'a%'",
        "json_valid(label)",
        "x BETWEEN 1 AND",
        sa.func.abs(sa.column("x")) < 3,
        sa.column("x") + 1 > 0,
        sa.column("label").like("a%"),
        sa.column("label") < "b",
        sa.column("x") == "a",
        sa.column("x") < sa.column("label"),
        sa.and_(sa.column("x") > 0, sa.text("x < 9 + 1")),
        sa.literal_column("x") > 0,
        sa.column("x").is_distinct_from(3),
        sa.column("x").is_(sa.true()),
    ],
    ids=str,
)
def test_a_check_memory_cannot_read_is_refused_by_name(condition):
    points, _, _ = kept(sa.CheckConstraint(condition, name="odd_one"))

    with pytest.raises(UnsupportedError) as caught:
        points(InMemoryDatabase())
    assert all(name in str(caught.value) for name in ("point", "odd_one"))


def test_a_function_stands_in_for_a_check_written_as_text(empty):
    seen = []

    def asked(row):
        seen.append(dict(row))
        if row["horizontal"] is None or row["label"] is None:
            return None
        return row["across"] > 0 and len(row["label"]) < 3

    points, point, base = kept(sa.CheckConstraint(TEXT, name="odd_one"), memory_checks={"odd_one": asked})
    db = empty(base)
    with points(db) as repository:
        repository.add_many([point(id=1, horizontal=1, label="ab"), point(id=2)])
        for wrong in (point(horizontal=0, label="a"), point(horizontal=1, label="abc")):
            with pytest.raises(CheckViolationError) as caught, repository.unit.savepoint():
                repository.add(wrong)
            assert caught.value.constraint == "odd_one"
    again = points(db)
    assert again.count() == 2
    if isinstance(db, InMemoryDatabase):
        assert seen[0] == {"id": 1, "across": 1, "horizontal": 1, "label": "ab"}
    else:
        assert seen == []


@pytest.mark.parametrize("name", ["another_one", ""])
def test_a_function_for_no_check_of_the_table_is_a_mapping_error(name):
    points, _, _ = kept(sa.CheckConstraint(TEXT, name="odd_one"), memory_checks={name: lambda _: True})

    with pytest.raises(MappingError):
        points(InMemoryDatabase())


def test_two_repositories_of_a_table_ask_the_same_function_or_differ():
    check, asked = sa.CheckConstraint(TEXT, name="odd_one"), lambda _: True
    points, _, _ = kept(check, memory_checks={"odd_one": asked})
    same = type("Same", (points,), {})
    other = type("Other", (points,), {"memory_checks": {"odd_one": lambda _: False}})
    db = InMemoryDatabase()

    points(db)
    points(db)
    same(db)
    with pytest.raises(MappingError):
        other(db)


def test_checks_make_tables_differ():
    def repository(limit):
        return kept(sa.CheckConstraint(sa.column("x") < limit, name="odd_one"))[0]

    db = InMemoryDatabase()
    repository(1)(db)
    repository(1)(db)
    with pytest.raises(MappingError):
        repository(2)(db)


class Labelled(BaseModel):
    id: int | None = None
    on: bool = False


def test_checks_that_come_with_a_type_need_no_function(empty):
    class FlagRow(own_base()):
        __tablename__ = "flag"
        id: Mapped[int] = mapped_column(primary_key=True)
        on: Mapped[bool] = mapped_column(sa.Boolean(create_constraint=True, name="on_or_off"))

    class Flags(BaseRepository[Labelled, int]):
        model: ClassVar = FlagRow

    with Flags(empty(FlagRow)) as flags:
        assert flags.add(Labelled(on=True)).on is True


class Slim(DeclarativeBase): ...


class SlimRow(Slim):
    """Of a check that is given to a column, which the table itself does not list."""

    __tablename__ = "slim"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(sa.CheckConstraint("size > 0", name="slim_size"))


class SlimOne(BaseModel):
    id: int | None = None
    size: int


class SlimOnes(BaseRepository[SlimOne, int]):
    model = SlimRow


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])  # MariaDB does not take a name there
def test_a_check_that_is_given_to_a_column_is_kept_too(backend):
    made = database(backend, Slim)
    with pytest.raises(CheckViolationError) as caught, SlimOnes(made) as ones:
        ones.add(SlimOne(size=0))
    assert caught.value.constraint == "slim_size"
    with SlimOnes(made) as ones:
        assert ones.add(SlimOne(size=1)).size == 1
    made.dispose()


# -- checks written as text


class Texts(DeclarativeBase): ...


class PartRow(Texts):
    __tablename__ = "text_part"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int | None]
    least: Mapped[int | None]
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    made: Mapped[date | None]
    label: Mapped[str | None] = mapped_column(sa.String(9))
    grade: Mapped[Grade | None] = mapped_column(Member(Grade))

    __table_args__ = (
        sa.CheckConstraint("size BETWEEN -5 AND 50", name="part_size"),
        sa.CheckConstraint("least <= Size OR (least IS NULL)", name="part_least"),
        sa.CheckConstraint("price >= 0.00 AND NOT (price = 1.5 AND size <> 4)", name="part_price"),
        sa.CheckConstraint("made > '1999-12-31'", name="part_made"),
        sa.CheckConstraint("upper(label) IN ('AB', 'N/A', 'IT''S') OR length(label) > 5", name="part_label"),
        sa.CheckConstraint("grade = 'LOW' OR size IS NOT NULL", name="part_grade"),
    )


class Part(BaseModel):
    id: int | None = None
    size: int | None = None
    least: int | None = None
    price: Decimal | None = None
    made: date | None = None
    label: str | None = None
    grade: Grade | None = None


class Parts(BaseRepository[Part, int]):
    model = PartRow


@pytest.fixture
def parts(backend):
    made = database(backend, Texts)
    with Parts(made) as parts:
        yield parts
    made.dispose()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"size": -6}, "part_size"),
        ({"size": 51}, "part_size"),
        ({"size": 3, "least": 4}, "part_least"),
        ({"price": Decimal("-0.01")}, "part_price"),
        ({"price": Decimal("1.50"), "size": 3}, "part_price"),
        ({"made": date(1999, 12, 31)}, "part_made"),
        ({"label": "abc"}, "part_label"),
        ({"label": ""}, "part_label"),
        ({"label": "éé"}, "part_label"),  # MariaDB's length counts bytes
        ({"grade": Grade.HIGH}, "part_grade"),
    ],
)
def test_a_check_written_as_text_is_violated_as_in_the_database(parts, values, name):
    with pytest.raises(CheckViolationError) as caught, parts.unit.savepoint():
        parts.add(Part(**values))
    assert caught.value.constraint == name


def test_a_check_written_as_text_passes_as_in_the_database(parts):
    given = [
        Part(id=1),
        Part(id=2, size=-5, least=-5, price=Decimal("0.00"), made=date(2000, 1, 1), label="aB", grade=Grade.HIGH),
        Part(id=3, size=4, price=Decimal("1.50"), label="it's", grade=Grade.LOW),
        Part(id=4, label="ééééé6"),
    ]

    assert parts.add_many(given) == given


@pytest.mark.parametrize(
    ("text", "passes", "fails"),
    [
        ("((x)::numeric > 0.0)", 1, 0),
        ("`x` <> 3 and (`x` is not null)", 1, 3),
        ("[x]>=(0) AND ([x]<=(1))", 1, 2),
        ("x = ANY (ARRAY[1, 2])", 2, 3),
        ("x <> ALL (ARRAY[1, 2])", 3, 2),
        ("point.x > 1::smallint", 2, 1),
        ("(x IS NULL) <> (label IS NULL) AND x < 9", 1, 9),
    ],
)
def test_the_spellings_of_reflection_are_read(text, passes, fails):
    points, point, _ = kept(sa.CheckConstraint(text, name="odd_one"))

    with points(InMemoryDatabase()) as repository:
        assert repository.add(point(horizontal=passes)).id == 1
        with pytest.raises(CheckViolationError), repository.unit.savepoint():
            repository.add(point(horizontal=fails))


@pytest.mark.parametrize(
    ("text", "passes", "fails"),
    [
        ("(label)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])", "b", "c"),
        ("upper((label)::text) = ANY (ARRAY['M'::text, 'F'::text])", "m", "x"),
        ("octet_length(`label`) < 3", "é", "éé"),
        ("length(`label`) < 3", "é", "éé"),
        ("length(label) < 3", "éé", "ééé"),
    ],
)
def test_functions_and_lists_of_texts_are_read(text, passes, fails):
    points, point, _ = kept(sa.CheckConstraint(text, name="odd_one"))

    with points(InMemoryDatabase()) as repository:
        assert repository.add(point(label=passes)).id == 1
        with pytest.raises(CheckViolationError), repository.unit.savepoint():
            repository.add(point(label=fails))


def test_json_columns_are_always_valid():
    class Row(own_base()):
        __tablename__ = "document"
        __table_args__ = (sa.CheckConstraint("json_valid(`body`)", name="valid"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        body = mapped_column(sa.JSON(none_as_null=True))

    assert list(refusals(Row.__table__)) == []


def test_without_a_parser_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlglot", None)
    points, _, _ = kept(sa.CheckConstraint("x > 0", name="odd_one"))

    with pytest.raises(UnsupportedError, match=r"odd_one.*pip install sqlglot"):
        points(InMemoryDatabase())

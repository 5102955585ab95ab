"""What the database fills in by itself: literals are read, for everything else a function of the user's stands in."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import new_class
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, InvalidValueError, MappingError, NotNullViolationError, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy.types import Exact, Instant, LocalDateTime, Member
from tests.units.domain import database, own_base, tables_of


class Base(DeclarativeBase): ...


class Shade(Enum):
    DARK = 1
    PALE = 2


class Shouted(sa.types.TypeDecorator):
    """Kept in capitals, and given and read in small letters only."""

    impl = sa.String(9)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        if value is not None and not value.islower():
            raise ValueError(value)
        return None if value is None else value.upper()

    def process_result_value(self, value, dialect):
        return None if value is None else value.lower()


class PlainRow(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(server_default="5")
    below: Mapped[int] = mapped_column(server_default=sa.text("-5"))
    ratio: Mapped[float] = mapped_column(sa.Double, server_default=sa.text("0.25"))
    price: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2), server_default="1.5")
    text: Mapped[str] = mapped_column(sa.String(20), server_default="it's 100%")
    quoted: Mapped[str] = mapped_column(sa.String(20), server_default=sa.text("'it''s'"))
    empty: Mapped[str] = mapped_column(sa.String(20), server_default="")
    void: Mapped[str | None] = mapped_column(sa.String(20), server_default=sa.text("NULL"))
    on: Mapped[bool] = mapped_column(server_default=sa.true())
    off: Mapped[bool] = mapped_column(server_default=sa.text("false"))
    flag: Mapped[bool] = mapped_column(server_default="1")
    day: Mapped[date] = mapped_column(server_default="2024-02-29")
    shade: Mapped[Shade] = mapped_column(Member(Shade), server_default="PALE")
    shout: Mapped[str] = mapped_column(Shouted, server_default="LOUD")
    both: Mapped[int] = mapped_column(default=1, server_default="2")


class Plain(BaseModel):
    id: int | None = None
    count: int | None = None
    below: int | None = None
    ratio: float | None = None
    price: Decimal | None = None
    text: str | None = None
    quoted: str | None = None
    empty: str | None = None
    void: str | None = "given"
    on: bool | None = None
    off: bool | None = None
    flag: bool | None = None
    day: date | None = None
    shade: Shade | None = None
    shout: str | None = None
    both: int | None = None


class Plains(BaseRepository[Plain, int]):
    model = PlainRow


class Short(BaseModel):
    id: int


class Shorts(BaseRepository[Short, int]):
    model = PlainRow


FILLED = Plain(
    id=1, count=5, below=-5, ratio=0.25, price=Decimal("1.50"), text="it's 100%", quoted="it's", empty="", void=None,
    on=True, off=False, flag=True, day=date(2024, 2, 29), shade=Shade.PALE, shout="loud", both=1,
)  # fmt: skip


db = tables_of(Base)


def test_a_literal_is_filled_in_as_the_database_does(db):
    with Plains(db) as plains:
        assert plains.add(Plain(id=1, void=None)) == FILLED
        assert plains.find(shout="loud", day=FILLED.day, on=True, shade=Shade.PALE, count=5) == [FILLED]
        given = Plain(**{**dict(FILLED), "id": 2, "count": 0, "text": "x", "on": False, "shade": Shade.DARK})
        assert plains.add(given) == given
        assert plains.update(given.model_copy(update={"count": 3})).count == 3
        with pytest.raises(NotNullViolationError), plains.unit.savepoint():
            plains.patch(1, {"count": None})
    with Shorts(db) as shorts:
        shorts.add(Short(id=3))
        shorts.upsert(Short(id=4), on="id")
    assert Plains(db).get_many([3, 4]) == [FILLED.model_copy(update={"id": number}) for number in (3, 4)]


# -- what only the database can compute


class EventRow(Base):
    __tablename__ = "event_by_server"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    twice: Mapped[int] = mapped_column("double_size", sa.Computed("size * 2", persisted=True))
    label: Mapped[str] = mapped_column(sa.String(20), default=sa.func.lower("NEW"))
    begun: Mapped[int] = mapped_column(server_default=sa.text("(1 + 1)"))
    touched: Mapped[int | None] = mapped_column(onupdate=sa.text("3 + 4"))


class Event(BaseModel):
    id: int | None = None
    size: int
    double: int | None = None
    label: str | None = None
    begun: int | None = None
    touched: int | None = None


class Events(BaseRepository[Event, int]):
    model = EventRow
    columns = {"double": "twice"}
    memory_defaults = {
        "double": lambda row: row["size"] * 2,
        "label": "new",
        "begun": lambda _: 2,
        "touched": lambda _: 7,
    }


def test_functions_stand_in_for_what_the_database_computes(db):
    with Events(db) as events:
        first = events.add(Event(size=3, double=100))
        assert first == Event(id=1, size=3, double=6, label="new", begun=2, touched=None)
        given = events.add(Event(size=1, label="own", begun=9, touched=1))
        assert (given.label, given.begun, given.touched, given.double) == ("own", 9, 1, 2)

        changed = events.update(first.model_copy(update={"size": 5, "double": 1, "touched": 2}))
        assert changed == Event(id=1, size=5, double=10, label="new", begun=2, touched=7)
        assert events.patch(1, {"touched": 1}).touched == 1
        assert events.patch(1, {"size": 6}) == Event(id=1, size=6, double=12, label="new", begun=2, touched=7)
        assert events.update_where(everything=True, set_={"size": 2}) == 2
        assert [one.double for one in events.find()] == [4, 4]
        events.update_where(everything=True, set_={"touched": 0})
        upserted = events.upsert(Event(id=1, size=8), on="id").entity
        assert (upserted.double, upserted.touched) == (16, 7)
        assert events.upsert(Event(id=1, size=8, touched=3), on="id", update=["touched"]).entity.touched == 3
        assert events.upsert(Event(id=1, size=8), on="id", update=[]).entity.touched == 3
        assert events.find(double=16)[0].id == 1


def test_two_repositories_of_a_table_may_be_the_same():
    db = InMemoryDatabase()
    with Events(db) as events:
        events.add(Event(size=1))
    new_class("Again", (Events,))(db)

    assert Events(db).count() == 1


# -- refused


def kept(column, *, defaults=None):
    """Make a repository of a table with one column besides its key, called "odd"."""

    class Row(own_base()):
        __tablename__ = "single"
        id: Mapped[int] = mapped_column(primary_key=True)
        odd = mapped_column(*column[:1], nullable=column[2] if len(column) > 2 else False, **column[1])

    class Single(BaseModel):
        id: int | None = None
        odd: Any = None

    class Singles(BaseRepository[Single, int]):
        model = Row
        memory_defaults = defaults or {}

    return Singles, Single


@pytest.mark.parametrize(
    "column",
    [
        (sa.Integer, {"server_default": "x"}),
        (sa.Integer, {"server_default": "1.5"}),
        (sa.Integer, {"server_default": "99999999999"}),
        (sa.Integer, {"server_default": sa.text("1 + 1")}),
        (sa.Integer, {"server_default": sa.text("'1_0'")}),
        (sa.Integer, {"server_default": sa.text("NULL")}),
        (sa.Boolean, {"server_default": "true"}),
        (sa.Boolean, {"server_default": "2"}),
        (sa.String(3), {"server_default": "long"}),
        (sa.String(30), {"server_default": sa.text("CURRENT_USER")}),
        (sa.String(30), {"server_default": sa.text("5")}),
        (sa.String(30), {"server_default": sa.text(r"'a\b'")}),
        (sa.Date, {"server_default": "20240229"}),
        (sa.DateTime, {"server_default": "2024-02-29 00:00:00"}),
        (sa.DateTime, {"server_default": sa.text("now() + interval '1 day'")}),
        (sa.DateTime, {"server_default": sa.func.now(), "onupdate": sa.text("'2024-02-29 00:00:00'")}),
        (sa.DateTime, {"server_default": sa.func.now(), "server_onupdate": sa.FetchedValue()}),
        (sa.String(30), {"server_default": "", "server_onupdate": sa.FetchedValue()}),
        (sa.String(30), {"server_onupdate": sa.FetchedValue()}),
        (sa.Date, {"server_default": sa.func.now()}),
        (sa.String(30), {"server_default": sa.func.now()}),
        (sa.String(2), {"server_default": sa.text("'abc'::character varying(2)")}),
        (Exact(10, 2), {"server_default": "1.50"}),
        (sa.Enum(Shade), {"server_default": "GREEN"}),
        (sa.Integer, {"server_default": sa.FetchedValue()}),
        (sa.Integer, {"server_onupdate": sa.FetchedValue(), "default": 1}),
        (sa.Integer, {"default": sa.func.abs(-3)}),
        (sa.Integer, {"default": 3, "onupdate": sa.func.abs(-3)}),
    ],
    ids=lambda column: f"{column[0]}-{next(iter(column[1].values()))}",
)
def test_what_is_no_literal_is_refused_until_a_function_stands_in(column):
    repository, entity = kept(column)
    with pytest.raises(UnsupportedError) as caught:
        repository(InMemoryDatabase())
    assert all(name in str(caught.value) for name in ("single", "odd"))

    repository, entity = kept((*column, True), defaults={"odd": lambda _: None})
    with repository(InMemoryDatabase()) as singles:
        assert singles.add(entity()).id == 1


def test_what_a_function_gives_is_checked_like_any_value():
    now = (Instant(), {"server_default": sa.text("now() + interval '1 day'")})
    for wrong in (lambda _: "x", lambda _: datetime(2024, 1, 1)):  # noqa: DTZ001  # one without zone, on purpose
        repository, entity = kept(now, defaults={"odd": wrong})
        single = repository(InMemoryDatabase())
        with single, pytest.raises(InvalidValueError) as caught, single.unit.savepoint():
            single.add(entity())
        assert caught.value.field == "odd"
    repository, entity = kept(now, defaults={"odd": lambda _: None})
    with repository(InMemoryDatabase()) as singles:
        with pytest.raises(NotNullViolationError) as missing, singles.unit.savepoint():
            singles.add(entity())
        assert missing.value.fields == ("odd",)
    repository, entity = kept(now, defaults={"odd": lambda _: datetime.now(UTC)})
    with repository(InMemoryDatabase()) as singles:
        assert singles.add(entity()).id == 1


@pytest.mark.parametrize(
    ("column", "defaults"),
    [
        ((sa.Integer, {"server_default": sa.func.abs(1)}), {"even": 1}),
        ((sa.Integer, {"server_default": sa.func.abs(1)}), {"odd": "x"}),
        ((sa.Integer, {"default": 1}), {"odd": 1}),
        ((sa.Integer, {}, True), {"odd": 1}),
    ],
)
def test_a_default_for_nothing_is_a_mapping_error(column, defaults):
    with pytest.raises(MappingError):
        kept(column, defaults=defaults)


# -- functions that memory has too

SPELLINGS = {
    sa.DateTime(timezone=True): (
        "now()", "CURRENT_TIMESTAMP", "current_timestamp", "current_timestamp(6)", "LOCALTIMESTAMP", "(now())",
        "statement_timestamp()", "transaction_timestamp()", "clock_timestamp()", "timezone('utc'::text, now())",
        "(now() AT TIME ZONE 'utc'::text)", "(datetime('now'))", "('now'::text)::timestamp with time zone",
    ),
    sa.Date(): ("CURRENT_DATE", "('now'::text)::date", "curdate()", "(date('now'))"),
    sa.Uuid(): (
        "gen_random_uuid()", "uuid_generate_v4()", "public.uuid_generate_v1()", "uuid()", "uuidv4()", "uuidv7()",
    ),
    sa.String(36): ("uuid()", "(gen_random_uuid())::text"),
}  # fmt: skip
CASTS = [
    (sa.String(9), "'it''s'::character varying", "it's"),
    (sa.String(9), "('x'::character varying)::text", "x"),
    (sa.Enum("G", "PG"), "'G'::mpaa_rating", "G"),
    (sa.Numeric(5, 2), "(0)::numeric", Decimal(0)),
    (sa.Numeric(5, 2), "0.00", Decimal(0)),
    (sa.Integer(), "'-1'::integer", -1),
    (sa.Boolean(), "true", True),
    (sa.JSON(none_as_null=True), "'{\"a\": [1]}'::jsonb", {"a": [1]}),
    (sa.Date(), "'2024-02-29'::date", date(2024, 2, 29)),
]


@pytest.mark.parametrize(
    ("type_", "text"), [(type_, text) for type_, texts in SPELLINGS.items() for text in texts], ids=str
)
def test_the_clock_and_uuids_are_read_in_every_spelling(type_, text):
    repository, entity = kept((type_, {"server_default": sa.text(text)}))

    with repository(InMemoryDatabase()) as singles:
        first, other = singles.add(entity()).odd, singles.add(entity()).odd
    assert isinstance(first, str if type_.python_type is str else type_.python_type)
    assert first != other or type_.python_type is not UUID
    if isinstance(first, datetime):
        assert datetime.now(UTC) - first < timedelta(minutes=1)


@pytest.mark.parametrize(("type_", "text", "value"), CASTS, ids=str)
def test_a_literal_is_read_through_its_casts(type_, text, value):
    repository, entity = kept((type_, {"server_default": sa.text(text)}))

    with repository(InMemoryDatabase()) as singles:
        assert singles.add(entity()).odd == value


def test_a_cast_that_cuts_a_text_off_is_refused():
    repository, _ = kept((sa.String(9), {"server_default": sa.text("'abcdef'::character varying(3)")}))

    with pytest.raises(UnsupportedError, match="odd"), repository(InMemoryDatabase()) as singles:
        singles.find()


class Clocks(DeclarativeBase): ...


class StampedRow(Clocks):
    __tablename__ = "stamped"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(9))
    made: Mapped[datetime] = mapped_column(LocalDateTime(), server_default=sa.func.now())
    at: Mapped[datetime] = mapped_column(Instant(), server_default=sa.func.now())
    day: Mapped[date] = mapped_column(server_default=sa.func.current_date())
    changed: Mapped[datetime] = mapped_column(sa.DateTime, default=sa.func.now(), onupdate=sa.func.now())


class Stamped(BaseModel):
    id: int | None = None
    name: str
    made: datetime | None = None
    at: datetime | None = None
    day: date | None = None
    changed: datetime | None = None


class Stampeds(BaseRepository[Stamped, int]):
    model = StampedRow


def test_the_clock_of_the_database_and_memory_s_give_the_same_kinds(backend):
    made = database(backend, Clocks)
    with Stampeds(made) as stamped:
        stored = stamped.add(Stamped(name="a"))
        assert stored.at.tzinfo is UTC
        assert stored.made.tzinfo is stored.changed.tzinfo is None
        assert type(stored.day) is date
        old = stored.model_copy(update={"changed": datetime(2000, 1, 1), "made": datetime(2000, 1, 1)})  # noqa: DTZ001
        after = stamped.update(old)
        assert (after.changed.year, after.made.year) == (stored.changed.year, 2000)
        assert stamped.find(at=stored.at) == [after]
    made.dispose()

"""Column types of the user's own: what goes in comes out, is compared and sorted the same on every backend."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal, NewType
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from sqlrepo import (
    BaseRepository,
    InvalidValueError,
    QueryError,
    UniqueViolationError,
    contains,
    desc,
    fields,
    icontains,
    in_,
    is_null,
    not_in,
    startswith,
)
from sqlrepo.sqlalchemy.types import Duration, Exact
from tests.units.domain import own_base

Base = own_base()


class Lowered(TypeDecorator):
    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.lower()


class Negated(TypeDecorator):
    """An integer kept with the other sign, so that it sorts the other way round."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else -value

    def process_result_value(self, value, dialect):
        return None if value is None else -value


@dataclass(frozen=True)
class Money:
    cents: int
    currency: str


class Priced(TypeDecorator):
    impl = sa.String(20)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else f"{value.currency}{value.cents:08}"

    def process_result_value(self, value, dialect):
        return None if value is None else Money(int(value[3:]), value[:3])


class Never(TypeDecorator):
    """Text that has no NULL: None is the empty text."""

    impl = sa.String(60)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return "" if value is None else value

    def process_result_value(self, value, dialect):
        return value or None


class Level(IntEnum):
    LOW = 10
    HIGH = 2


class Mood(StrEnum):
    SAD = "z"
    GLAD = "a"


class Plain(Enum):
    ONE = "b"
    TWO = "a"


class ThingRow(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(Lowered(10), unique=True)
    rank: Mapped[int | None] = mapped_column(Negated)
    price: Mapped[Any | None] = mapped_column(Priced)
    level: Mapped[Level | None] = mapped_column(sa.Enum(Level, native_enum=False))
    mood: Mapped[Mood | None] = mapped_column(
        sa.Enum(Mood, native_enum=False, values_callable=lambda members: [one.value for one in members])
    )
    plain: Mapped[Plain | None] = mapped_column(sa.Enum(Plain, native_enum=False))
    state: Mapped[str | None] = mapped_column(sa.Enum("on", "off", native_enum=False, name="state"))
    data: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))
    code: Mapped[UUID | None] = mapped_column(sa.Uuid)


UserName = NewType("UserName", str)


class Thing(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    id: int | None = None
    name: UserName | None = None
    rank: int | None = None
    price: Money | None = None
    level: Level | None = None
    mood: Mood | None = None
    plain: Plain | None = None
    state: Literal["on", "off"] | None = None
    data: Any = None
    code: UUID | None = None


class Things(BaseRepository[Thing, int]):
    model = ThingRow


t = fields(Thing)


@pytest.fixture
def things(empty):
    with Things(empty(Base)) as things:
        yield things


def ids(found):
    return [one.id for one in found]


def test_a_value_comes_back_as_the_type_gives_it(things):
    stored = things.add(Thing(name="MiXed", rank=3, price=Money(150, "EUR"), data={"a": [1, None]}, code=UUID(int=5)))

    assert stored.name == "mixed"
    assert stored == things.get(stored.id)
    assert (stored.rank, stored.price, stored.data, stored.code) == (
        3,
        Money(150, "EUR"),
        {"a": [1, None]},
        UUID(int=5),
    )


def test_literals_go_through_the_type_too(things):
    things.add_many([Thing(name="Ab", rank=1), Thing(name="Cd", rank=2), Thing()])

    assert ids(things.find(t.name == "AB")) == ids(things.find(t.name == "ab")) == [1]
    assert ids(things.find(in_(t.name, ["CD", None]))) == [2, 3]
    assert ids(things.find(not_in(t.rank, [1]))) == [2]
    assert ids(things.find(rank=2)) == [2]
    assert ids(things.find(startswith(t.name, "A"))) == ids(things.find(startswith(t.name, "a"))) == [1]
    assert ids(things.find(contains(t.name, "D"))) == [2]
    assert ids(things.find(icontains(t.name, "D"))) == [2]


def test_stored_values_decide_order_and_uniqueness(things):
    things.add_many([Thing(name="b", rank=1), Thing(name="A", rank=5), Thing(name="c", rank=3)])

    assert [one.rank for one in things.find(order_by=t.rank)] == [5, 3, 1]
    assert [one.rank for one in things.find(order_by=desc(t.rank))] == [1, 3, 5]
    assert [one.rank for one in things.find(t.rank < 3)] == [5]  # compared as it is stored
    assert [one.name for one in things.find(order_by=t.name)] == ["a", "b", "c"]
    with pytest.raises(UniqueViolationError), things.unit.savepoint():
        things.add(Thing(name="B"))


def test_a_type_with_limits_beneath_is_checked(things):
    for field, value in (("name", "x" * 11), ("rank", 2**31 + 1), ("rank", 2**40)):
        with pytest.raises(InvalidValueError) as caught:
            things.add(Thing(**{field: value}))
        assert caught.value.field == field


def test_a_value_the_type_stumbles_over_is_an_invalid_value(things):
    for field, value in (("name", 5), ("rank", "x"), ("price", "EUR1"), ("data", {1, 2}), ("data", float("nan"))):
        with pytest.raises(InvalidValueError) as caught:
            things.add(Thing.model_construct(**{**dict(Thing()), field: value}))
        assert caught.value.field == field


def test_a_value_object_is_compared_whole(things):
    things.add_many([Thing(price=Money(5, "EUR")), Thing(price=Money(100, "EUR"))])

    assert ids(things.find(price=Money(100, "EUR"))) == [2]
    assert things.count(is_null(t.price)) == 0
    for call in (lambda: things.find(order_by=t.price), lambda: things.find(t.price < Money(9, "EUR"))):
        with pytest.raises(QueryError):
            call()


def test_enumerations_are_kept_by_name_or_as_the_column_says(things):
    members = [
        Thing(level=level, mood=mood, plain=plain) for level, mood, plain in zip(Level, Mood, Plain, strict=True)
    ]
    things.add_many([*members, Thing()])

    assert [one.level for one in things.find(order_by=t.level)] == [None, Level.HIGH, Level.LOW]
    assert [one.mood for one in things.find(order_by=t.mood)] == [None, Mood.GLAD, Mood.SAD]
    assert [one.plain for one in things.find(order_by=t.plain)] == [None, Plain.ONE, Plain.TWO]
    assert ids(things.find(level=Level.HIGH)) == ids(things.find(in_(t.mood, [Mood.GLAD]))) == [2]
    assert ids(things.find(t.level != Level.HIGH)) == [1]
    for wrong in (Mood.SAD, 2, "HIGH"):
        with pytest.raises(QueryError):
            things.find(t.level == wrong)


def test_a_text_enumeration_takes_its_texts_only(things):
    things.add(Thing(state="on"))

    assert things.count(t.state == "on") == 1
    with pytest.raises(InvalidValueError):
        things.add(Thing.model_construct(**{**dict(Thing()), "state": "broken"}))
    with pytest.raises(QueryError):
        things.count(t.state == "broken")


def test_json_is_opaque(things):
    for value in ([], {}, "text", 1.5, True, {"é": [1, {"b": None}]}):
        assert things.get(things.add(Thing(data=value)).id).data == value
    things.add(Thing())

    assert things.count(is_null(t.data)) == 1
    for call in (lambda: things.find(t.data == {}), lambda: things.find(order_by="data"), lambda: things.find(data=[])):
        with pytest.raises(QueryError):
            call()


def test_patches_and_set_forms_go_through_the_type(things):
    things.add(Thing(name="a", rank=1))

    assert things.patch(1, {"name": "UP"}).name == "up"
    things.update_where(t.name == "Up", set_={"rank": 9, "price": Money(1, "USD")})
    assert (things.get(1).rank, things.get(1).price) == (9, Money(1, "USD"))


def test_a_type_that_knows_no_null_is_the_same_everywhere(empty):
    class NoteRow(own_base()):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str | None] = mapped_column(Never)

    class Note(BaseModel):
        id: int | None = None
        text: str | None = None

    class Notes(BaseRepository[Note, int]):
        model = NoteRow

    n = fields(Note)
    with Notes(empty(NoteRow)) as notes:
        notes.add_many([Note(), Note(text="a"), Note(text="")])
        assert [one.text for one in notes.find()] == [None, "a", None]
        assert notes.count(is_null(n.text)) == 0  # nothing stored is NULL
        assert [one.id for one in notes.find(order_by=desc(n.text))] == [2, 3, 1]


def test_a_decimal_is_exact_on_every_backend(empty):
    class SumRow(own_base()):
        __tablename__ = "sum"
        id: Mapped[int] = mapped_column(primary_key=True)
        exact: Mapped[Decimal] = mapped_column(Exact(18, 6))
        numeric: Mapped[Decimal] = mapped_column(sa.Numeric(12, 3))

    class Sum(BaseModel):
        id: int | None = None
        exact: Decimal
        numeric: Decimal = Decimal(0)

    class Sums(BaseRepository[Sum, int]):
        model = SumRow

    s = fields(Sum)
    values = [
        Decimal(text) for text in ("999999999999.999999", "-999999999999.999999", "0.000001", "-0.000001", "0", "1.1")
    ]
    with Sums(empty(SumRow)) as sums:
        for value in values:
            assert sums.add(Sum(exact=value)).exact == value
        for text in ("0.001", "-0.001", "999999999.999", "123456789.123", "0.1", "2.675"):
            stored = sums.get(sums.add(Sum(exact=Decimal(0), numeric=Decimal(text))).id)
            assert (stored.numeric, stored.numeric.as_tuple().exponent) == (Decimal(text), -3)
            assert sums.exists(s.numeric == Decimal(text), id=stored.id)
        assert [one.exact for one in sums.find(s.exact != 0, order_by=s.exact)] == sorted(
            value for value in values if value
        )


def test_portable_types_take_only_what_they_can_keep():
    for precision, scale in ((19, 2), (5, 6), (5, -1)):
        with pytest.raises(ValueError, match=r".*"):
            Exact(precision, scale)


def test_durations_and_times_of_day_sort_by_length(empty):
    class LapRow(own_base()):
        __tablename__ = "lap"
        id: Mapped[int] = mapped_column(primary_key=True)
        time: Mapped[timedelta] = mapped_column(Duration)
        at: Mapped[datetime | None]

    class Lap(BaseModel):
        id: int | None = None
        time: timedelta

    class Laps(BaseRepository[Lap, int]):
        model = LapRow

    laps_in_order = [
        timedelta(days=-9),
        timedelta(microseconds=-1),
        timedelta(0),
        timedelta(seconds=100),
        timedelta(days=10),
    ]
    with Laps(empty(LapRow)) as laps:
        laps.add_many([Lap(time=time) for time in laps_in_order[::-1]])
        assert [one.time for one in laps.find(order_by=fields(Lap).time)] == laps_in_order
        assert laps.count(fields(Lap).time < timedelta(0)) == 2

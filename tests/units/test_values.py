"""Values are checked before any backend sees them, in entities and in filters alike."""

import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from uuid import UUID

import pytest

from sqlrepo import InvalidLiteralError, InvalidValueError, in_, matches
from tests.units.domain import Colour, Lab, Specimen, Specimens, Tag, Todo, Todos, specimen, todo

NAIVE = datetime(2024, 1, 1, 12)  # noqa: DTZ001  # a naive datetime is the point
AWARE = datetime(2024, 1, 1, 12, tzinfo=UTC)


def unchecked(**values):
    """A specimen as a careless caller makes it, past Pydantic's own checks."""
    return Specimen.model_construct(**{"id": 1, **dict.fromkeys(Specimen.model_fields.keys() - {"id"}), **values})


class Many(IntEnum):
    ONE = 1


class Name(StrEnum):
    ANN = "ann"


def spoken(given):
    """The part of a case that can stand in its name."""
    return given if isinstance(given, str) and given in Specimen.model_fields else ""


BAD = [
    ("id", "1"),
    ("id", True),
    ("text", 5),
    ("text", b"a"),
    ("text", "a\0b"),
    ("text", "\ud800"),
    ("text", "a\udfffb"),
    ("text", "x" * 13),
    ("text", "😀" * 13),
    ("number", True),
    ("number", 1.0),
    ("number", "1"),
    ("number", Decimal(1)),
    ("number", 2**31),
    ("number", -(2**31) - 1),
    ("rank", 2**15),
    ("rank", -(2**15) - 1),
    ("big", 2**63),
    ("big", -(2**63) - 1),
    ("big", 10**40),
    ("flag", 1),
    ("flag", "true"),
    ("colour", "RED"),
    ("colour", 3),
    ("uid", "0" * 32),
    ("uid", 7),
    ("amount", 1.5),
    ("amount", "1.5"),
    ("amount", True),
    ("amount", Decimal("NaN")),
    ("amount", Decimal("sNaN")),
    ("amount", Decimal("Infinity")),
    ("amount", Decimal("1.005")),
    ("amount", Decimal("1e8")),
    ("amount", Decimal("1e-30")),
    ("amount", Decimal("1e1000000")),
    ("ratio", math.nan),
    ("ratio", math.inf),
    ("ratio", -math.inf),
    ("ratio", True),
    ("ratio", Decimal(1)),
    ("ratio", 10**400),
    ("day", NAIVE),
    ("day", AWARE),
    ("day", "2024-01-01"),
    ("clock", time(1, tzinfo=UTC)),
    ("clock", NAIVE),
    ("local", AWARE),
    ("local", date(2024, 1, 1)),
    ("moment", NAIVE),
    ("moment", datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
    ("moment", datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))),
    ("zoned", NAIVE),
    ("span", 3),
    ("blob", "a"),
    ("blob", bytearray(b"a")),
    ("blob", b"x" * 9),
]


@pytest.mark.parametrize(("field", "value"), BAD, ids=spoken)
def test_a_wrong_value_is_refused_when_written(db, field, value):
    with Lab(db) as lab:
        lab.specimens.add(Specimen(id=1 if field != "id" else 7, text="kept"))
        for write in (
            lambda: lab.specimens.add(unchecked(**{"id": 2, field: value})),
            lambda: lab.specimens.add_many([Specimen(id=3), unchecked(**{"id": 4, field: value})]),
            lambda: lab.specimens.save(unchecked(**{"id": 1, field: value})),
            lambda: lab.specimens.update(unchecked(**{"id": 1, field: value})),
        ):
            with pytest.raises(InvalidValueError) as caught:
                write()
            assert caught.value.field == field
            assert caught.value.retryable is False
        assert lab.specimens.count() == 1  # what was refused before it was sent does not abort

    assert [one.text for one in Specimens(db).find()] == ["kept"]


@pytest.mark.parametrize(("field", "value"), BAD[2:], ids=spoken)
def test_a_wrong_value_is_refused_in_changes(db, field, value):
    with Lab(db) as lab:
        lab.specimens.add(Specimen(id=1, text="kept"))
        for write in (
            lambda: lab.specimens.patch(1, {field: value}),
            lambda: lab.specimens.update_where(specimen.id == 1, set_={field: value}),
        ):
            with pytest.raises(InvalidValueError) as caught:
                write()
            assert caught.value.field == field

    assert Specimens(db).get(1).text == "kept"


@pytest.mark.parametrize(("field", "value"), BAD, ids=spoken)
def test_a_wrong_value_is_refused_in_filters(db, field, value):
    specimens = Specimens(db)
    for ask in (
        lambda: specimens.find(getattr(specimen, field) == value),
        lambda: specimens.find(in_(getattr(specimen, field), [value])),
        lambda: specimens.count(**{field: value}),
    ):
        with pytest.raises(InvalidLiteralError) as caught:
            ask()
        assert caught.value.field == field


@pytest.mark.parametrize("key", ["1", True, 1.0, None, (1,), 2**31, b"1", Todo(key="a")])
def test_a_wrong_key_is_refused(db, key):
    with Lab(db) as lab:
        for call in (lab.todos.get, lab.todos.get_or_none, lab.todos.delete, lambda one: lab.todos.get_many([1, one])):
            with pytest.raises(InvalidLiteralError):
                call(key)
        with pytest.raises(InvalidLiteralError):
            lab.todos.patch(key, {"value": "v"})


@pytest.mark.parametrize("key", ["ab", ("a",), ("a", "b", "c"), ("a", 1), ("a", None), ["a", "b"], None, 1, {"a": "b"}])
def test_a_wrong_composite_key_is_refused(db, key):
    with Lab(db) as lab:
        lab.tags.add(Tag(owner="a", name="b"))
        for call in (lab.tags.get, lab.tags.get_or_none, lab.tags.delete, lambda one: lab.tags.get_many([one])):
            with pytest.raises(InvalidLiteralError):
                call(key)


def test_zero_is_no_generated_key(db):
    with Lab(db) as lab, pytest.raises(InvalidValueError) as caught:
        lab.todos.add(Todo(id=0, key="a"))

    assert caught.value.field == "id"


def test_an_entity_of_another_class_is_refused(db):
    with Lab(db) as lab:
        for write in (lab.todos.add, lab.todos.update, lab.todos.save, lab.todos.remove):
            for given in (Tag(owner="a", name="b"), {"key": "a"}, None, Todo):
                with pytest.raises(InvalidValueError):
                    write(given)


def test_limits_count_code_points_and_are_inclusive(db):
    extremes = {
        "text": "😀" * 12, "number": 2**31 - 1, "rank": -(2**15), "big": -(2**63), "amount": Decimal("-99999999.99"),
        "ratio": 1.7976931348623157e308, "day": date.max, "clock": time.max, "local": datetime.min,  # noqa: DTZ901
        "moment": datetime.max.replace(tzinfo=UTC), "zoned": datetime.min.replace(tzinfo=UTC),
        "span": timedelta(days=100_000_000, microseconds=1), "blob": bytes(range(248, 256)),
        "uid": UUID(int=2**128 - 1), "colour": Colour.BLUE, "flag": False, "other": "\ud7ff\ue000\U0010ffff ",
    }  # fmt: skip
    with Lab(db) as lab:
        stored = lab.specimens.add(Specimen(id=1, **extremes))

    read = Specimens(db).get(1)
    assert stored == read == Specimen(id=1, **extremes)
    assert [one.id for one in Specimens(db).find(**extremes)] == [1]
    assert all(matches(getattr(specimen, name) == value, read) for name, value in extremes.items())


def test_values_come_back_in_their_one_form(db):
    given = Specimen(
        id=1, ratio=-0.0, amount=Decimal("1.5"), moment=datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
        zoned=datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    )  # fmt: skip
    with Lab(db) as lab:
        stored = lab.specimens.add(given)

    for one in (stored, Specimens(db).get(1)):
        assert math.copysign(1, one.ratio) == 1
        assert str(one.amount) == "1.50"
        assert (one.moment, one.moment.tzinfo) == (given.moment, UTC)
        assert (one.zoned, one.zoned.tzinfo) == (given.zoned, UTC)


def test_an_int_is_a_float_and_a_decimal_where_nothing_is_lost(db):
    with Lab(db) as lab:
        stored = lab.specimens.add(unchecked(ratio=3, amount=4))

    assert (stored.ratio, type(stored.ratio)) == (3.0, float)
    assert (stored.amount, type(stored.amount)) == (Decimal(4), Decimal)
    assert Specimens(db).count((specimen.ratio == 3) & (specimen.amount == 4)) == 1


def test_members_of_scalar_enumerations_are_stored_as_plain_scalars(db):
    with Lab(db) as lab:
        stored = lab.specimens.add(unchecked(number=Many.ONE, text=Name.ANN))

    for one in (stored, Specimens(db).get(1)):
        assert (type(one.number), type(one.text)) == (int, str)
    assert Specimens(db).count((specimen.number == Many.ONE) & (specimen.text == Name.ANN)) == 1


def test_a_filter_longer_than_the_column_is_refused_at_the_call(db):
    with pytest.raises(InvalidLiteralError) as caught:
        Todos(db).find(todo.key == "x" * 21)

    assert caught.value.field == "key"

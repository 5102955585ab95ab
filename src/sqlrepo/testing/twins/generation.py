"""Makes whole programs: units of work one after another, with savepoints, rollbacks and rivals."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from random import Random
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

from pydantic import ValidationError

from sqlrepo import MappingError, QueryError, QueryObject
from sqlrepo.memory import Kind, ValueType
from sqlrepo.testing.twins.model import (
    Apply,
    Call,
    End,
    Field,
    Fresh,
    Infix,
    KeyOf,
    Leaving,
    Make,
    Meanwhile,
    Part,
    Place,
    Program,
    Savepoint,
    Step,
    Subject,
    Table,
    Unit,
    Walk,
    made,
)

T = TypeVar("T")


class Dice:
    """The choices of one program.

    Args:
        seed: what they depend on.
        given: entities of the user's strategies, by repository.
    """

    def __init__(self, seed: int, given: Mapping[str, Sequence[Any]]) -> None:
        self._random = Random(seed)  # noqa: S311  # no secret depends on it
        self._given = given

    def upto(self, most: int) -> int:
        """A number from 0."""
        return self._random.randrange(most + 1)

    def once_in(self, times: int) -> bool:
        """Yes, once in so many times."""
        return self._random.randrange(times) == 0

    def of(self, choices: Sequence[T]) -> T:
        """One of several."""
        return self._random.choice(choices)

    def several(self, make: Callable[[Dice], T], most: int, least: int = 0) -> list[T]:
        """A list of things that are made."""
        return [make(self) for _ in range(self._random.randint(least, most))]

    def given(self, repository: str) -> Any:
        """An entity of the user's strategy."""
        return self.of(self._given[repository])


# What an index of MariaDB takes; a longer text at the limit would make most tables refuse their own edge.
_LONG = 255

# Cases, accents, trailing blanks, wildcards, quotes, letters with odd lower cases, code points that UTF-16 missorts.
_TEXTS = ("a", "b", "A", "a ", "", "ab", "%", "a_b", "\\", "a%", "i", "İ", "é", "É", "ß", "\uffff", "\U00010000", "'\"")
# What common validators of texts ask for.
_SHAPED = ("abc", "abcdef", "ABC", "1", "12", "a@example.org", "https://example.org/", "2024-02-29", "a-b")
_INTEGERS = (1, 2, 0, -1, 3, 5, 10, 100, 2**53 + 1, 1000, 2024)
_FLOATS = (0.0, 1.5, 1.0, -0.0, 0.1, 0.1 + 0.2, -1.5, 9007199254740993.0, 5e-324, -1e300, 100.0)
_MOMENTS = (
    datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001  # of a column without zone; the others get one below
    datetime(2024, 2, 29, 12, 30, 0, 1),  # noqa: DTZ001
    datetime(2024, 1, 1),  # noqa: DTZ001
    datetime(1999, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001
    datetime(2, 1, 1),  # noqa: DTZ001
)
_PLAIN: Mapping[Kind, tuple[Any, ...]] = {
    Kind.BOOLEAN: (True, False),
    Kind.FLOAT: _FLOATS,
    Kind.DATE: (date(2024, 2, 29), date(2024, 3, 1), date(1999, 12, 31), date.min, date.max),
    Kind.TIME: (time(12), time(0), time(0, 0, 0, 1), time(12, 0, 1), time.max),
    Kind.DURATION: (
        timedelta(hours=1),
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(microseconds=-1),
        timedelta(days=40_000),
    ),
    Kind.UUID: tuple(UUID(int=number) for number in (1, 2**127, 0, 0x00112233445566778899AABBCCDDEEFF, 2**128 - 1)),
    Kind.OPAQUE: ({"a": 1}, {}, [1, 2.5, "x"], "text", 1.5, {"a": {"b": [None, True]}}),
}


def values(limits: ValueType) -> list[Any]:
    """Values that a column can hold, the plainest first."""
    found = list(_of_kind(limits))
    return [value for index, value in enumerate(found) if _fits(limits, value) and not _among(value, found[:index])]


def misfits(limits: ValueType) -> list[Any]:
    """Values that a column cannot hold."""
    found: list[Any] = [object] if limits.kind is Kind.OPAQUE else [b"x" if limits.kind is Kind.TEXT else "x"]
    match limits.kind:
        case Kind.TEXT:
            found = ["a\0", "\ud800", *(["a" * (limits.length + 1)] if limits.length else []), 1]
        case Kind.INTEGER:
            found = [*([limits.high + 1] if limits.high is not None else []), True, 1.0]
        case Kind.FLOAT:
            found = [float("nan"), float("inf"), "1"]
        case Kind.DECIMAL:
            found = [Decimal("NaN"), Decimal(10) ** 40, Decimal(1).scaleb(-40), 1.5]
        case Kind.BYTES:
            found = [*([b"a" * (limits.length + 1)] if limits.length else []), "a"]
        case Kind.DATETIME:
            found = [_MOMENTS[0] if limits.aware else _MOMENTS[0].replace(tzinfo=UTC), date(2024, 1, 1)]
        case Kind.DATE:
            found = [_MOMENTS[0], "2024-01-01"]
        case Kind.TIME:
            found = [time(12, tzinfo=UTC)]
        case Kind.OPAQUE:
            found = []
        case _:
            pass
    return [value for value in found if not _fits(limits, value)]


def _of_kind(limits: ValueType) -> Iterable[Any]:
    match limits.kind:
        case Kind.TEXT:
            return [*(limits.labels or ()), *_TEXTS, *_SHAPED, *_long(limits, "a"), *_lines(limits)]
        case Kind.BYTES:
            edge = [b"\xff" * limits.length] if limits.length and limits.length <= _LONG else []
            return [b"a", b"", b"\0", b"A", b"a ", b"\x80", b"\0\0", *edge]
        case Kind.INTEGER:
            return [*_INTEGERS, *(one for one in (limits.low, limits.high) if one is not None)]
        case Kind.DECIMAL:
            return _decimals(limits)
        case Kind.DATETIME:
            return _MOMENTS if limits.aware is False else _aware()
        case Kind.ENUM:
            members: Any = limits.python
            return list(limits.labels or members)
        case _:
            return _PLAIN[limits.kind]


def _long(limits: ValueType, character: str) -> list[str]:
    return [character * limits.length] if limits.length and limits.length <= _LONG else []


def _lines(limits: ValueType) -> list[str]:
    return ["two\nlines"] if not limits.length or limits.length > _LONG else []


def _decimals(limits: ValueType) -> list[Decimal]:
    scale, precision = limits.scale or 0, limits.precision or 10
    quantum = Decimal(1).scaleb(-scale)
    most = Decimal(10) ** (precision - scale) - quantum
    return [Decimal(1), Decimal(0), Decimal("1.5"), quantum, -quantum, Decimal("-0"), Decimal(10), most, -most]


def _aware() -> list[datetime]:
    there = timezone(timedelta(hours=2))
    return [*(moment.replace(tzinfo=UTC) for moment in _MOMENTS), _MOMENTS[0].replace(tzinfo=there)]


def _fits(limits: ValueType, value: Any) -> bool:
    try:
        limits.check(value)
    except ValueError:
        return False
    return True


def _among(value: Any, others: Iterable[Any]) -> bool:
    """Whether a value is there already, written the same way: 0.0 is another than -0.0, and 1 than True."""
    return any(type(value) is type(other) and repr(value) == repr(other) for other in others)


# How many of a column's values are the usual ones of a program, how much more often they are taken than each of the
# others, and how many choices of usual values there are.
_USUAL = 3
_OFTEN = 10
_SELDOM = 12
_TURNS = 10

# Any row of a program, and more than there ever are.
_MOST_ROWS = 7

_NO_ROW = -1


class Rows:
    """What entities of one table are made of.

    Args:
        table: the table.

    Raises:
        MappingError: no entity can be made of the usual values; the class wants values of its own.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        #: The plainest entity's values; nothing is known of entities that a strategy makes.
        self._base: dict[str, Any] = {}
        if table.entities is None:
            self._base = self._first()
        self.valid: dict[str, list[Any]] = {place.name: self._accepted(place, values) for place in table.places}
        self._bad = {place.name: bad for place in table.places if (bad := self._refused(place))}
        self._turn = 0
        self._weighted = {
            place.name: [self._weigh(place, turn) for turn in range(_TURNS)] for place in table.places if not place.of
        }

    @property
    def plain(self) -> Mapping[str, Any]:
        """The plainest values, by field; none of keys that are generated."""
        return {name: value for name, value in self._base.items() if not self.table.by_name[name].of}

    def turn(self, dice: Dice) -> None:
        """Choose other values for the usual ones, so that any two of a column meet in some programs."""
        self._turn = dice.upto(_TURNS - 1)

    def entity(self, dice: Dice, *, existing: bool = False, sound: bool = False) -> Make:
        """An entity.

        Args:
            dice: what chooses.
            existing: whether it is to be, most often, one whose row is there.
            sound: whether all its values are such that its columns take them.
        """
        if self.table.entities is not None:
            given = dice.given(self.table.name)
            plain = {place.name: getattr(given, place.name) for place in self.table.places}
        else:
            plain = {name: dice.of(weighted[self._turn]) for name, weighted in self._weighted.items()}
            if self._bad and not sound and dice.once_in(_SELDOM):
                spoilt = dice.of(tuple(self._bad))
                plain[spoilt] = dice.of(self._bad[spoilt])
        return Make(self.table.entity, self._whole(plain) | self._keys(dice, existing=existing))

    def changes(self, dice: Dice, *, version: bool) -> dict[str, Any]:
        """Values for some fields of a row, none of them of the key."""
        fixed = {*self.table.schema.key, *(() if version else (self.table.schema.version,))}
        free = [place for place in self.table.places if place.column.name not in fixed and not place.column.computed]
        if not free:
            return {}
        chosen = dice.several(lambda dice: dice.of(free), 2, 1)
        return {place.name: self.value(dice, place) for place in chosen}

    def value(self, dice: Dice, place: Place) -> Any:
        """A value for a field, which its column may refuse."""
        if place.of is not None:
            return self._reference(dice, place)
        if self.table.entities is not None:
            return self._sample(dice, place)
        bad = self._bad.get(place.name) if dice.once_in(_SELDOM) else None
        return dice.of(bad or self._weighted[place.name][self._turn])

    def key(self, dice: Dice) -> Any:
        """A key, most often of a row that is there."""
        index = dice.upto(_MOST_ROWS)
        otherwise = tuple(_NO_ROW if place.of else self._sample(dice, place) for place in self.table.key)
        whole: Any = otherwise[0] if len(otherwise) == 1 else otherwise
        if self.table.generated is None and dice.once_in(4):
            return whole
        return KeyOf(self.table.name, index, None, whole)

    def literal(self, dice: Dice, place: Place) -> Any:
        """A value that a query asks for."""
        if place.of is not None:
            return _NO_ROW if dice.once_in(10) else self._key_of(dice, place, _NO_ROW)
        return self._sample(dice, place)

    def _sample(self, dice: Dice, place: Place) -> Any:
        """A value that entities have in a field."""
        if self.table.entities is not None:
            return getattr(dice.given(self.table.name), place.name)
        known = [value for value in self.valid[place.name] if value is not None] or values(place.column.type)
        return dice.of(_usual(known, self._turn) * 3 + known)

    def refused(self, place: Place) -> list[Any]:
        """Values a field cannot be asked for."""
        return misfits(place.column.type)

    # -- keys and references

    def _keys(self, dice: Dice, *, existing: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for place in self.table.places:
            if place.of == self.table.name and place.column.generated:
                found[place.name] = self._own(dice, place, existing=existing)
            elif place.of is not None:
                found[place.name] = self._reference(dice, place)
        if existing and self.table.generated is None and self.table.key and not dice.once_in(4):
            index = dice.upto(_MOST_ROWS)
            for part, place in enumerate(self.table.key):
                otherwise = found.get(place.name, self._sample(dice, place))
                found[place.name] = KeyOf(self.table.name, index, part, otherwise)
        return found

    def _own(self, dice: Dice, place: Place, *, existing: bool) -> Any:
        """The value of a generated key: none, one that is taken, one that nobody has."""
        missing = None if self._takes(place.name, None) else _NO_ROW
        if existing and not dice.once_in(10):
            return self._key_of(dice, place, missing)
        if not dice.once_in(4) and missing is None:
            return None
        return self._key_of(dice, place, missing) if dice.once_in(3) else Fresh(self.table.name, missing and 1)

    def _reference(self, dice: Dice, place: Place) -> Any:
        if dice.once_in(10):  # a row that is not there
            return _NO_ROW
        if dice.once_in(4) and self._takes(place.name, None):
            return None
        return self._key_of(dice, place, None if self._takes(place.name, None) else _NO_ROW)

    def _key_of(self, dice: Dice, place: Place, otherwise: Any) -> KeyOf:
        return KeyOf(place.of or self.table.name, dice.upto(_MOST_ROWS), self._part(place), otherwise)

    def _part(self, place: Place) -> int:
        """Where in the key of the row referred to the generated column stands; keys of several are rare."""
        return self.table.generated or 0 if place.of == self.table.name and place.column.generated else 0

    # -- what the entity's class accepts

    def _first(self) -> dict[str, Any]:
        """The plainest entity that can be made."""
        chosen: dict[str, Any] = {}
        for place in self.table.places:
            found = [1] if place.of else [value for value in _candidates(place) if _alone(place, value)]
            if not found and not place.spec.optional:
                raise self._wants(place.name)
            chosen[place.name] = found[0] if found else None
        try:
            made(self.table.entity, chosen)
        except (TypeError, ValueError) as error:
            raise self._wants(f"all fields together ({type(error).__name__})") from error
        return chosen

    def _wants(self, what: str) -> MappingError:
        name = self.table.name
        return MappingError(
            f"no {self.table.entity.__name__} can be made of the usual values because of {what}; "
            f"give a strategy: entities = {{{name!r}: st.builds({self.table.entity.__name__}, ...)}}"
        )

    def _accepted(self, place: Place, candidates: Callable[[Any], list[Any]]) -> list[Any]:
        if place.of is not None:
            return []
        given = candidates(place.column.type)
        if candidates is values:
            given = [*_candidates(place), *([None] if self._takes(place.name, None) else [])]
        return [value for value in given if self._takes(place.name, value)]

    def _takes(self, name: str, value: Any) -> bool:
        """Whether an entity can be made with a value of one field."""
        if not self._base:
            return value is not None or bool(self.table.by_name[name].spec.optional)
        try:
            made(self.table.entity, {**self._base, name: value})
        except (TypeError, ValueError):
            return False
        return True

    def _whole(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """An entity's values that go together; those that its class refuses beside the others are left out."""
        if not self._base:
            return dict(chosen)
        whole = dict(self._base)
        try:
            made(self.table.entity, {**whole, **chosen})
        except (TypeError, ValueError):
            for name, value in chosen.items():
                try:
                    made(self.table.entity, {**whole, name: value})
                except (TypeError, ValueError):
                    continue
                whole[name] = value
            return whole
        return {**whole, **chosen}

    def _weigh(self, place: Place, turn: int) -> list[Any]:
        """A field's values, each as often as it is to come."""
        valid = self.valid[place.name]
        if place.column.name == self.table.schema.version:
            return [None, 1, 2, 3] if None in valid else [1, 2, 3]
        plain = [value for value in valid if value is not None]
        times = _USUAL * _OFTEN // 2 if place.column.nullable else 1 if place.column.fills_itself else 0
        return [*(_usual(plain, turn) * _OFTEN), *plain, *([None] * times if None in valid else [])] or [None]

    def _refused(self, place: Place) -> list[Any]:
        """Values that the entity's class takes and the table does not."""
        if place.of is not None:
            return []
        missing = [None] * (not place.column.fills_itself and self._takes(place.name, None))
        return [*missing, *self._accepted(place, misfits)]


def _usual(values: list[Any], turn: int) -> list[Any]:
    """The usual ones of some values."""
    return [values[(turn * _USUAL + index) % len(values)] for index in range(min(_USUAL, len(values)))]


def _candidates(place: Place) -> list[Any]:
    """The values to try a field with: its column's, and the members of an enumeration that the class names."""
    members: list[Any] = list(getattr(place.spec.type.python, "__members__", {}).values())
    return [*members, *values(place.column.type)]


def _alone(place: Place, value: Any) -> bool:
    """Whether the entity's class takes a value of a field, as far as the field alone tells."""
    try:
        place.spec.accept(value)
    except ValueError:
        return False
    return True


_ORDERED = ("==", "!=", "<", "<=", ">", ">=")
_TEXT = ("contains", "startswith", "endswith")
_FOLDED = ("icontains", "istartswith", "iendswith", "iequals")
_DEPTH = 3


class Questions:
    """What may be asked of one table.

    Args:
        rows: its values.
        folds: whether the database can ignore case as the repository says.
    """

    def __init__(self, rows: Rows, *, folds: bool) -> None:
        self._rows = rows
        self.table = rows.table
        self._folds = folds
        self._asked = [place for place in self.table.places if place.matters]

    def criterion(self, dice: Dice, depth: int = _DEPTH) -> Any:
        """A tree of criteria."""
        form = dice.of(("leaf", "leaf", "leaf", "not_", "&", "|")) if depth else "leaf"
        if form == "leaf":
            return self._leaf(dice)
        if form == "not_":
            return Apply(form, (self.criterion(dice, depth - 1),))
        return Infix(self.criterion(dice, depth - 1), form, self.criterion(dice, depth - 1))

    def battery(self, dice: Dice) -> list[Any]:
        """Every operator that fits a field, with one value."""
        if not self._asked:
            return []
        place = dice.of(self._asked)
        field, value = self._field(place), self._rows.literal(dice, place)
        asked: list[Any] = [Infix(field, operator, value) for operator in _ORDERED]
        asked += [Apply(function, (field, [value, *none])) for function in ("in_", "not_in") for none in ([], [None])]
        if self._is_text(place):
            text = value or ""
            parts = dict.fromkeys((text, text[:1], text[1:]))
            matching = [Apply(function, (field, part)) for function in self._matches() for part in parts]
            asked += [*matching, *(Apply("not_", (one,)) for one in matching[::3])]
        return asked

    def equals(self, dice: Dice) -> dict[str, Any]:
        """Keyword equality."""
        place = dice.of(self._asked or self.table.places)
        if not place.matters:
            return {}
        return {place.name: None if dice.once_in(6) else self._rows.literal(dice, place)}

    def order(self, dice: Dice) -> Any:
        """An order, in one of its spellings."""
        sortable = [place for place in self._asked if place.kind.ordered]
        if not sortable:
            return None
        chosen = dice.several(lambda dice: (dice.of(sortable), dice.once_in(2)), 3, 1)
        if dice.once_in(2):
            return ",".join(f"{'-' if down else ''}{place.name}" for place, down in chosen)
        sorts = tuple(Apply("desc" if down else "asc", (self._field(place),)) for place, down in chosen)
        return sorts[0] if len(sorts) == 1 else sorts

    def query(self, dice: Dice, *, limit: bool = False) -> Make | None:
        """A query object; with a limit, where one is needed. None where the user gave no class that can say so."""
        classes = [one for one in self.table.queries if not limit or "limit" in one.model_fields]
        if not classes:
            return None
        cls = dice.of(classes)
        chosen = {
            name: self._filter(dice, cls, name)
            for name, info in cls.model_fields.items()
            if info.is_required() or (limit and name == "limit") or dice.once_in(3)
        }
        whole = _whole(cls, chosen)
        return Make(cls, whole) if _takes(cls, whole) else None

    def part(self, dice: Dice) -> Part:
        """A class with some of the fields."""
        names = [place.name for place in self.table.places]
        return Part(tuple(dict.fromkeys(dice.several(lambda dice: dice.of(names), 3, 1))))

    # -- criteria

    def _field(self, place: Place) -> Field:
        return Field(self.table.name, place.name)

    def _leaf(self, dice: Dice) -> Any:
        if not self._asked or dice.once_in(12):
            return Apply("is_null", (self._field(dice.of(self.table.places)),))
        place = dice.of(self._asked)
        makers: list[Callable[[Dice, Place], Any]]
        makers = [self._compared, self._compared, self._among, self._between, self._against]
        if self._is_text(place):
            makers += [self._matching, self._matching, self._matching]
        if place.spec.type.kind is Kind.BOOLEAN:
            makers.append(lambda _, flag: self._field(flag))
        return dice.of(makers)(dice, place)

    def _is_text(self, place: Place) -> bool:
        return place.kind is Kind.TEXT and place.spec.type.kind is Kind.TEXT and place.column.type.plain

    def _matches(self) -> tuple[str, ...]:
        return _TEXT + _FOLDED if self._folds else _TEXT

    def _compared(self, dice: Dice, place: Place) -> Any:
        operator = dice.of(_ORDERED)
        refused = self._rows.refused(place) if dice.once_in(24) else []
        if refused and place.of is None:
            return Infix(self._field(place), operator, dice.of(refused))
        if operator in ("==", "!=") and dice.once_in(6):
            return Infix(self._field(place), operator, None)
        return Infix(self._field(place), operator, self._rows.literal(dice, place))

    def _among(self, dice: Dice, place: Place) -> Any:
        several = [*self._literals(dice, place), *([None] if dice.once_in(4) else [])]
        return Apply(dice.of(("in_", "not_in")), (self._field(place), several))

    def _between(self, dice: Dice, place: Place) -> Any:
        return Apply("between", (self._field(place), self._rows.literal(dice, place), self._rows.literal(dice, place)))

    def _literals(self, dice: Dice, place: Place) -> list[Any]:
        return dice.several(lambda dice: self._rows.literal(dice, place), 3)

    def _against(self, dice: Dice, place: Place) -> Any:
        alike = [
            other
            for other in self._asked
            if other.spec.type.kind is place.spec.type.kind and other.of == place.of and other is not place
        ]
        if not alike:
            return self._compared(dice, place)
        return Infix(self._field(place), dice.of(_ORDERED), self._field(dice.of(alike)))

    def _matching(self, dice: Dice, place: Place) -> Any:
        operator = dice.of(self._matches())
        text = self._rows.literal(dice, place) or ""
        cut = text[: dice.upto(2)] if dice.once_in(2) else text
        return Apply(operator, (self._field(place), cut))

    # -- query objects

    def _filter(self, dice: Dice, cls: type[QueryObject[Any]], name: str) -> Any:
        annotation: Any = cls.model_fields[name].annotation
        if name == "limit":
            return dice.upto(4)
        if name == "offset":
            return dice.upto(3)
        if name == "order_by":
            return dice.of(list(_choices(annotation)) or [None])
        place = self._meant(name, annotation)
        if place is None:
            return dice.of([*_choices(annotation), *_plain_values(annotation)] or [None])
        return self._shaped(dice, place, annotation)

    def _meant(self, name: str, annotation: Any) -> Place | None:
        """The field whose values a filter is tried with: the one it is named after, or one of its type."""
        named = [place for place in self._asked if name == place.name or name.startswith(f"{place.name}_")]
        if named:
            return max(named, key=lambda place: len(place.name))
        scalars = _scalars(annotation)
        return next((place for place in self._asked if place.of is None and place.spec.type.python in scalars), None)

    def _shaped(self, dice: Dice, place: Place, annotation: Any) -> Any:
        origins = {get_origin(part) or part for part in _alternatives(annotation)}
        if origins & {list, set, frozenset}:
            return self._literals(dice, place)
        if tuple in origins:
            return (self._rows.literal(dice, place), self._rows.literal(dice, place))
        if bool in origins and place.spec.type.kind is not Kind.BOOLEAN:
            return dice.once_in(2)
        return self._rows.literal(dice, place)


def _whole(cls: type[QueryObject[Any]], chosen: dict[str, Any]) -> dict[str, Any]:
    """What of the filters a query object takes; keys of rows stand for themselves."""
    kept: dict[str, Any] = {}
    required = {name: value for name, value in chosen.items() if cls.model_fields[name].is_required()}
    for name, value in {**required, **chosen}.items():
        if _takes(cls, {**required, **kept, name: value}):
            kept[name] = value
    return kept


def _takes(cls: type[QueryObject[Any]], values: dict[str, Any]) -> bool:
    plain = {name: _plain(value) for name, value in values.items()}
    try:
        made(cls, plain)
    except (ValidationError, QueryError):
        return False
    return True


def _plain(value: Any) -> Any:
    """A value as it might be when the program runs."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return 1 if isinstance(value, KeyOf) else value


def _alternatives(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [annotation]


def _scalars(annotation: Any) -> list[Any]:
    """The classes that a filter's values are of, those in a list as well."""
    found: list[Any] = []
    for part in _alternatives(annotation):
        inner: Sequence[Any] = get_args(part)
        found += [one for arg in inner for one in _scalars(arg)] if inner else [part]
    return found


def _plain_values(annotation: Any) -> Iterable[Any]:
    """What a filter is tried with whose values are those of no field."""
    for part in _scalars(annotation):
        yield from {bool: (True, False), int: (0, 1, 2), str: ("a", "", "b"), float: (0.0, 1.5)}.get(part, ())


def _choices(annotation: Any) -> Iterable[Any]:
    """The orders that a query object lets its caller choose."""
    for part in _alternatives(annotation):
        if get_origin(part) is Literal:
            yield from get_args(part)
        elif get_origin(part) in (list, tuple):
            yield from ([choice] for arg in get_args(part) for choice in _choices(arg))
        elif isinstance(part, type) and issubclass(part, Enum):
            yield from part


class Calls:
    """The calls of one repository.

    Args:
        rows: its values.
        questions: what may be asked of it.
        fresh: whether the database never gives a generated key out again.
    """

    def __init__(self, rows: Rows, questions: Questions, *, fresh: bool) -> None:
        self._fresh = fresh
        self.rows = rows
        self.table = rows.table
        self._questions = questions
        self._targets = self._unique_fields()
        #: What reads, and what writes, each as often as it is listed.
        self.reads: list[Callable[[Dice], Call | Walk]]
        self.reads = [*[self._find] * 5, self._one, self._first, self._counted, self._counted, self._stream]
        self.writes = [*[self._add] * 4, *[self._add_many] * 2, self._update_where, self._delete_where]
        if self.table.key:
            self.reads += [self._get, self._get, self._get_many]
            self.writes += [*[self._patch] * 3, self._delete]
        if self.table.queries:
            self.reads += [self._page, self._page, self._walk, self._walk]
        if self.table.tells_rows:
            self.writes += [*[self._update] * 3, self._save, self._save, self._remove]
        if self._targets:
            self.writes += [self._upsert, self._upsert, self._upsert_many]

    def seed(self, dice: Dice) -> Call:
        """Rows to begin with."""
        made = partial(self.rows.entity, sound=True)
        if dice.once_in(4):
            return self._call("add_many", self._unmixed(dice.several(made, 4, 2)))
        return self._call("add", made(dice))

    def survey(self, dice: Dice) -> list[Call]:
        """All that can be asked of one field, each in the same order."""
        order = self._questions.order(dice)
        return [self._call("find", criterion, order_by=order) for criterion in self._questions.battery(dice)]

    def read(self, dice: Dice) -> Call | Walk:
        """A call that reads."""
        return dice.of(self.reads)(dice)

    def write(self, dice: Dice) -> Call:
        """A call that writes."""
        return dice.of(self.writes)(dice)

    # -- reading

    def _call(self, method: str, *arguments: Any, **options: Any) -> Call:
        return Call(self.table.name, method, arguments, options)

    def _asked(self, dice: Dice) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        """Criteria, keywords, and whether a query object is among the criteria."""
        kinds = dice.of(("criterion", "criterion", "criterion", "", "query", "both", "equals"))
        given = [self._questions.criterion(dice)] if kinds in ("criterion", "both") else []
        asked = self._questions.query(dice) if kinds in ("query", "both") else None
        given += [] if asked is None else [asked]
        return tuple(given), self._questions.equals(dice) if kinds == "equals" else {}, asked is not None

    def _find(self, dice: Dice) -> Call:
        given, options, queried = self._asked(dice)
        if not queried or dice.once_in(10):  # what is said twice is refused
            options |= {"order_by": self._questions.order(dice)} if dice.once_in(2) else {}
            options |= {"limit": dice.upto(4)} if dice.once_in(3) else {}
            options |= {"offset": dice.upto(3)} if dice.once_in(4) else {}
        if dice.once_in(6):
            options["into"] = self._questions.part(dice)
        return self._call("find", *given, **options)

    def _one(self, dice: Dice) -> Call:
        given, options, _ = self._asked(dice)
        return self._call(dice.of(("one", "one_or_none")), *given, **options)

    def _first(self, dice: Dice) -> Call:
        given, options, queried = self._asked(dice)
        if not queried and dice.once_in(2):
            options["order_by"] = self._questions.order(dice)
        return self._call("first", *given, **options)

    def _counted(self, dice: Dice) -> Call:
        given, options, _ = self._asked(dice)
        return self._call(dice.of(("count", "exists")), *given, **options)

    def _stream(self, dice: Dice) -> Call:
        given, options, queried = self._asked(dice)
        if not queried and dice.once_in(2):
            options["order_by"] = self._questions.order(dice)
        return self._call("stream", *given, **options)

    def _get(self, dice: Dice) -> Call:
        return self._call(dice.of(("get", "get_or_none")), self.rows.key(dice))

    def _get_many(self, dice: Dice) -> Call:
        return self._call("get_many", dice.several(self.rows.key, 4))

    def _page(self, dice: Dice) -> Call:
        query = self._questions.query(dice, limit=True)
        if query is None:
            return self._find(dice)
        return self._call("page", query, with_total=dice.once_in(2))

    def _walk(self, dice: Dice) -> Call | Walk:
        query = self._questions.query(dice, limit=True)
        if query is None:
            return self._find(dice)
        limited = {**query.values, "limit": 1 + dice.upto(2)}
        limited.pop("offset", None)
        moves = dice.several(_move, 5, 1)
        return Walk(self.table.name, Make(query.cls, limited), tuple(moves))

    # -- writing

    def _add(self, dice: Dice) -> Call:
        return self._call("add", self.rows.entity(dice))

    def _add_many(self, dice: Dice) -> Call:
        entities = dice.several(self.rows.entity, 4, 0 if dice.once_in(6) else 2)
        return self._call("add_many", self._unmixed(entities))

    def _unmixed(self, entities: list[Make]) -> list[Make]:
        """A batch in which no row may be numbered like one that is given the key of a deleted one."""
        generated = next((place.name for place in self.table.key if place.column.generated), "")
        if self._fresh or all(entity.values.get(generated) is not None for entity in entities):
            return entities
        return [
            Make(one.cls, {name: None if name == generated else value for name, value in one.values.items()})
            for one in entities
        ]

    def _update(self, dice: Dice) -> Call:
        return self._call("update", self.rows.entity(dice, existing=True))

    def _save(self, dice: Dice) -> Call:
        return self._call("save", self.rows.entity(dice, existing=dice.once_in(2)))

    def _remove(self, dice: Dice) -> Call:
        return self._call("remove", self.rows.entity(dice, existing=True))

    def _upsert(self, dice: Dice) -> Call:
        entity = self.rows.entity(dice, existing=dice.once_in(2))
        return self._call("upsert", entity, **self._target(dice))

    def _upsert_many(self, dice: Dice) -> Call:
        entities = dice.several(lambda dice: self.rows.entity(dice, existing=dice.once_in(2)), 3)
        return self._call("upsert_many", self._unmixed(entities), **self._target(dice))

    def _target(self, dice: Dice) -> Mapping[str, Any]:
        on = dice.of(self._targets)
        options: dict[str, Any] = {"on": on[0] if len(on) == 1 else on}
        if dice.once_in(3):
            free = [place.name for place in self.table.places if place.name not in on and self._free(place.column.name)]
            options["update"] = dice.several(lambda dice: dice.of(free), 2) if free else []
        return options

    def _free(self, column: str) -> bool:
        return column not in (*self.table.schema.key, self.table.schema.version)

    def _patch(self, dice: Dice) -> Call:
        changes = {} if dice.once_in(10) else self.rows.changes(dice, version=True)
        return self._call("patch", self.rows.key(dice), changes)

    def _delete(self, dice: Dice) -> Call:
        return self._call("delete", self.rows.key(dice))

    def _update_where(self, dice: Dice) -> Call:
        return self._set_form(dice, "update_where", set_=self.rows.changes(dice, version=False))

    def _delete_where(self, dice: Dice) -> Call:
        return self._set_form(dice, "delete_where")

    def _set_form(self, dice: Dice, method: str, **options: Any) -> Call:
        if dice.once_in(8):
            return self._call(method, everything=True, **options)
        return self._call(method, self._questions.criterion(dice), **options)

    def _unique_fields(self) -> list[tuple[str, ...]]:
        """What an upsert may agree in."""
        return [fields for _, fields in self.table.uniques if all(name in self.table.by_name for name in fields)]


def _move(dice: Dice) -> Literal["after", "before"]:
    return "before" if dice.once_in(4) else "after"


_LEAVINGS: tuple[Leaving, ...] = ("end", "end", "end", "first error", "exception")
_STEPS = ("read", "read", "read", "read", "write", "write", "saved", "saved", "end", "nested")
_NESTED = 2


class Programs:
    """What programs of one unit of work are made of.

    Args:
        subject: the unit.
        lacks: the capabilities that the database does not have.
    """

    def __init__(self, subject: Subject, missing: frozenset[str]) -> None:
        self._lacks = missing
        self._calls = [self._of(Rows(table)) for table in subject.tables.values()]
        versioned = subject.versioned if "concurrent_writers" not in missing else ()
        self._versioned = [calls for calls in self._calls if calls.table.name in versioned]

    def _of(self, rows: Rows) -> Calls:
        folds = "unicode_fold" not in self._lacks or getattr(rows.table.repository, "fold", "") == "ascii"
        return Calls(rows, Questions(rows, folds=folds), fresh="fresh_keys" not in self._lacks)

    @property
    def plain(self) -> Mapping[type, Mapping[str, Any]]:
        """The plainest values of entities, by their classes."""
        return {calls.table.entity: calls.rows.plain for calls in self._calls}

    def program(self, dice: Dice) -> Program:
        """A program that begins with some rows."""
        for calls in self._calls:
            calls.rows.turn(dice)
        return (self._seeded(dice), *dice.several(self._unit, 6, 1), self._surveyed(dice))

    # -- units

    def _seeded(self, dice: Dice) -> Unit:
        wanted = [call for calls in self._calls for call in dice.several(calls.seed, 8, 2)]
        return Unit(tuple(Savepoint((call,), "first error") for call in wanted))

    def _unit(self, dice: Dice) -> Unit:
        if dice.once_in(10):
            return Unit(self._steps(dice, _NESTED, 6), "end", read_only=True)
        first = self._rivals(dice) if self._versioned and dice.once_in(4) else ()
        return Unit((*first, *self._steps(dice, 0, 12)), dice.of(_LEAVINGS))

    def _surveyed(self, dice: Dice) -> Unit:
        """What a program ends with: questions about all that it left."""
        chosen = dice.several(lambda dice: dice.of(self._calls), 4, 1)
        return Unit(tuple(call for calls in chosen for call in calls.survey(dice)), read_only=True)

    def _rivals(self, dice: Dice) -> tuple[Step, ...]:
        """Reads, and then another unit that writes what was read."""
        reads = dice.several(lambda dice: dice.of(self._versioned).read(dice), 2, 1)
        calls = dice.several(lambda dice: dice.of(self._versioned).write(dice), 3, 1)
        steps = tuple(Savepoint((call,), "first error") for call in calls)
        return (*reads, Meanwhile(Unit(steps, dice.of(_LEAVINGS))))

    # -- steps

    def _steps(self, dice: Dice, depth: int, most: int) -> tuple[Step, ...]:
        return tuple(dice.several(lambda dice: self._step(dice, depth), most))

    def _step(self, dice: Dice, depth: int) -> Step:
        calls = dice.of(self._calls)
        match dice.of(_STEPS[: -2 if depth >= _NESTED else None]):
            case "read":
                return calls.read(dice)
            case "write":
                return calls.write(dice)
            case "saved":
                return Savepoint((calls.write(dice),), "first error")
            case "end":
                return End(dice.of(("commit", "rollback")))
            case _:
                return Savepoint(self._steps(dice, depth + 1, 6), dice.of(_LEAVINGS))

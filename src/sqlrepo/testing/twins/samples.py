"""Sample values for columns, and entities made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from random import Random
from sys import float_info
from typing import Any, Literal, TypeVar, get_args, get_origin
from uuid import UUID

from sqlrepo import MappingError
from sqlrepo.memory import Kind, ValueType
from sqlrepo.testing.subject import FieldInfo
from sqlrepo.testing.twins.model import Children, FreshKey, KeyOf, New, Table, can_construct, construct, stand_in
from sqlrepo.testing.twins.parts import Edited, Kept, Several, Stored, StoredChild, only

T = TypeVar("T")

# -- choices

# The number of different selections of common values.
_SELECTIONS = 10


class Choices:
    """The random choices of one program after another, each decided by its seed."""

    def __init__(self) -> None:
        self._random = Random(0)  # noqa: S311  # no secret depends on it
        self._entities: Mapping[str, Sequence[Any]] = {}
        #: Which values of each column are common, so that any two of them meet in some programs.
        self.selection = 0

    def restart(self, seed: int, entities: Mapping[str, Sequence[Any]]) -> None:
        """Begin a program; `entities` are those of the user's strategies, by repository."""
        self._random.seed(seed)
        self._entities = entities
        self.selection = self.up_to(_SELECTIONS - 1)

    def up_to(self, most: int) -> int:
        return self._random.randrange(most + 1)

    def one_in(self, times: int) -> bool:
        return self._random.randrange(times) == 0

    def of(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def several(self, make: Callable[[], T], most: int, least: int = 0) -> list[T]:
        return [make() for _ in range(self._random.randint(least, most))]

    def some_of(self, options: Sequence[T], most: int, least: int = 0) -> list[T]:
        return self.several(lambda: self.of(options), most, least)

    def entity(self, repository: str) -> Any:
        return self.of(self._entities[repository])


# -- values of columns

# The longest text that an index of MariaDB holds; with longer ones most tables would refuse their own limit.
_LONG = 255

# Cases, accents, trailing blanks, wildcards, quotes, letters with odd lower cases, code points that UTF-16 missorts.
_TEXTS = ("a", "b", "A", "a ", "", "ab", "%", "a_b", "\\", "a%", "i", "İ", "é", "É", "ß", "\uffff", "\U00010000", "'\"")
# Texts that common validators accept.
_FORMATTED = ("abc", "abcdef", "ABC", "1", "12", "a@example.org", "https://example.org/", "2024-02-29", "a-b")
_ISO = ("2024-02-29 12:30", "2024-02-29 12:30:00.000001", "2024-01-01", "1999-12-31 23:59:59.999999", "0002-01-01")
_MOMENTS = tuple(map(datetime.fromisoformat, (*_ISO, "0001-01-01", "9999-12-31 23:59:59.999999")))
_MICROSECONDS = (3_600_000_000, 0, 1, -1, 3_456_000_000_000_000, 2**63 - 1, -(2**63))
_ENDS = (float_info.max, -float_info.max, float_info.min)
_BY_KIND: Mapping[Kind, tuple[Any, ...]] = {
    Kind.BOOLEAN: (True, False),
    Kind.FLOAT: (0.0, 1.5, 1.0, -0.0, 0.1, 0.1 + 0.2, -1.5, 9007199254740993.0, 5e-324, -1e300, 100.0, *_ENDS),
    Kind.DATE: (date(2024, 2, 29), date(2024, 3, 1), date(1999, 12, 31), date.min, date.max),
    Kind.TIME: (time(12), time(0), time(0, 0, 0, 1), time(12, 0, 1), time.max),
    Kind.DURATION: tuple(timedelta(microseconds=one) for one in _MICROSECONDS),
    Kind.UUID: tuple(UUID(int=number) for number in (1, 2**127, 0, 0x00112233445566778899AABBCCDDEEFF, 2**128 - 1)),
    Kind.OPAQUE: ({"a": 1}, {}, [1, 2.5, "x"], "text", 1.5, {"a": {"b": [None, True]}}),
}


def sample_values(limits: ValueType) -> list[Any]:
    """List different values that a column can hold, the plainest first."""
    found: dict[tuple[type, str], Any] = {}
    for value in _candidates(limits):
        if _fits(limits, value):
            found.setdefault((type(value), repr(value)), value)  # 0.0 is another value than -0.0, and 1 than True
    return list(found.values())


def invalid_values(limits: ValueType) -> list[Any]:
    """List values that a column cannot hold."""
    match limits.kind:
        case Kind.TEXT:
            found: list[Any] = ["a\0", "\ud800", *(["a" * (limits.length + 1)] if limits.length else []), 1]
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
            found = ["x"]
    return [value for value in found if not _fits(limits, value)]


def _candidates(limits: ValueType) -> Iterable[Any]:
    indexable = limits.length if limits.length and limits.length <= _LONG else None
    match limits.kind:
        case Kind.TEXT:
            edges = ["a" * indexable, "\U0010ffff" * indexable] if indexable else ["two\nlines"]
            return [*(limits.labels or ()), *_TEXTS, *_FORMATTED, *edges]
        case Kind.BYTES:
            return [b"a", b"", b"\0", b"A", b"a ", b"\x80", b"\0\0", *([b"\xff" * indexable] if indexable else [])]
        case Kind.INTEGER:
            return [1, 2, 0, -1, 3, 5, 10, 100, 2**53 + 1, 1000, 2024, *filter(None, (limits.low, limits.high))]
        case Kind.DECIMAL:
            scale, precision = limits.scale or 0, limits.precision or 10
            quantum = Decimal(1).scaleb(-scale)
            most = Decimal(10) ** (precision - scale) - quantum
            return [Decimal(1), Decimal(0), Decimal("1.5"), quantum, -quantum, Decimal("-0"), Decimal(10), most, -most]
        case Kind.DATETIME:
            return _MOMENTS if limits.aware is False else _aware()
        case Kind.ENUM:
            members: Any = limits.python
            return list(limits.labels or members)
        case _:
            return _BY_KIND[limits.kind]


def _aware() -> list[datetime]:
    east = timezone(timedelta(hours=2))
    return [*(moment.replace(tzinfo=UTC) for moment in _MOMENTS), _MOMENTS[0].replace(tzinfo=east)]


def _fits(limits: ValueType, value: Any) -> bool:
    try:
        limits.check(value)
    except ValueError:
        return False
    return True


# -- entities

# The number of a column's values that are common in a program, and how much more often they are chosen.
_COMMON = 3
_OFTEN = 10
# One entity in so many has an invalid value.
_SELDOM = 12

_TEN_DIGITS = 10**10

# The most children of one entity that are made at once.
_MOST_CHILDREN = 4

# More rows than a program creates in most tables, so that any of them is chosen.
_MOST_ROWS = 7
_NO_ROW = -1


class EntityGenerator:
    """Generates the entities of one table, their values and their keys.

    Raises:
        MappingError: the entity's class accepts none of the sample values, so it needs a strategy.
    """

    def __init__(self, table: Table, choices: Choices, *, all_digits: bool = True) -> None:
        self.table = table
        # The fields whose decimals the database keeps only if they are short.
        self._short = frozenset() if all_digits else table.schema.wide_decimals
        self._pick = choices
        self._children = {
            name: ChildGenerator(one, choices, all_digits=all_digits) for name, one in table.children.items()
        }
        # What a strategy of the user's puts into entities is not known here.
        self._plainest = {} if table.strategy is not None else self._find_plainest()
        own = [field for field in table.fields if field.origin is None]
        self._valid = {field.name: self._keep_accepted(field, [*self._samples_of(field), None]) for field in own}
        self._invalid = {field.name: found for field in own if (found := self._refused_by_table(field))}

    @property
    def plainest(self) -> Mapping[str, Any]:
        """The plainest value of each field that holds no generated key."""
        known = self.table.by_name
        return self.table.nest(
            {name: value for name, value in self._plainest.items() if name not in known or known[name].origin is None}
        )

    @property
    def children(self) -> Mapping[str, ChildGenerator]:
        """The generators of children, by part."""
        return self._children

    def written(self, *, by_version: bool = True) -> New | Edited:
        """Generate an entity to write over a stored one; by its version, an old state may be one's source."""
        new = self.entity(existing=True)
        if not self.table.key or not (self._children or self.table.objects) or self._pick.one_in(4):
            return new
        old = by_version and self.table.schema.version is not None and self._pick.one_in(5)
        stored = Stored(self.table.name, self._pick.up_to(_MOST_ROWS), not old)
        changes = self.changes(version=False) if self._pick.one_in(3) else {}
        names = [name for name in self._children if self._pick.up_to(2)]
        return Edited(stored, {**changes, **{name: self._children[name].edit(stored) for name in names}}, new)

    def entity(self, *, existing: bool = False, valid: bool = False) -> New:
        """Generate an entity: mostly of an existing row if `existing`, with values its table accepts if `valid`."""
        if self.table.strategy is not None:
            given, tops = self._pick.entity(self.table.name), [one.name for one in self.table.own_fields]
            names = [*tops, *self.table.objects, *self.table.children]
            return New(self.table.entity, {one: getattr(given, one) for one in names} | self._keys(existing=existing))
        values = {name: self._pick.of(self._weigh(self.table.by_name[name])) for name in self._valid}
        if self._invalid and not valid and self._pick.one_in(_SELDOM):
            name = self._pick.of(tuple(self._invalid))
            values[name] = self._pick.of(self._invalid[name])
        absent = [one for one, optional in self.table.objects.items() if optional and self._pick.one_in(3)]
        values |= dict.fromkeys(absent)
        values |= {name: children.several(valid=valid) for name, children in self._children.items()}
        return New(self.table.entity, self.table.nest(self._compatible(values) | self._keys(existing=existing)))

    def changes(self, *, version: bool, of: Stored | StoredChild | None = None) -> dict[str, Any]:
        """Generate values for some fields outside the key, and for the parts of a stored row."""
        fixed = {*self.table.schema.key, *(() if version else (self.table.schema.version,))}
        free = [one for one in self.table.own_fields if one.column.name not in fixed and not one.column.computed]
        makers = {one.name: partial(self._value, one) for one in free}
        makers |= {name: partial(self._object, name) for name in self.table.objects}
        if of is not None:
            makers |= {name: partial(one.edit, of) for name, one in self._children.items()}
        chosen = self._pick.some_of(list(makers), 2, 1) if makers else []
        return {name: makers[name]() for name in chosen}

    def _object(self, name: str) -> Any:
        """Generate a value object, or None where that is allowed."""
        if self.table.objects[name] and self._pick.one_in(4):
            return None
        if self.table.strategy is not None:
            return getattr(self._pick.entity(self.table.name), name)
        inside = [one for one in self.table.fields if one.path.startswith(f"{name}.")]
        return self.table.nest({one.name: self._value(one) for one in inside})[name]

    def key(self) -> Any:
        """Generate a key, mostly that of an existing row."""
        index = self._pick.up_to(_MOST_ROWS)
        otherwise = tuple(_NO_ROW if field.origin else self._sample(field) for field in self.table.key)
        whole: Any = otherwise[0] if len(otherwise) == 1 else otherwise
        if self.table.generated is None and self._pick.one_in(4):
            return whole
        return KeyOf(self.table.name, index, None, whole)

    def literal(self, field: FieldInfo) -> Any:
        """Generate a value that a query compares a field with."""
        if field.origin is not None:
            return _NO_ROW if self._pick.one_in(10) else self._key_of(field, _NO_ROW)
        return self._sample(field)

    def invalid_literals(self, field: FieldInfo) -> list[Any]:
        """List values that a query cannot compare a field with."""
        return [] if field.origin else invalid_values(field.column.type)

    def _value(self, field: FieldInfo) -> Any:
        if field.origin is not None:
            return self._reference(field)
        if self.table.strategy is not None:
            return self._sample(field)
        invalid = self._invalid.get(field.name) if self._pick.one_in(_SELDOM) else None
        return self._pick.of(invalid or self._weigh(field))

    def _sample(self, field: FieldInfo) -> Any:
        if self.table.strategy is not None:
            return field.get(self._pick.entity(self.table.name))
        valid = [value for value in self._valid[field.name] if value is not None] or sample_values(field.column.type)
        return self._pick.of(self._common(valid) * 3 + valid)

    def _common(self, values: list[Any]) -> list[Any]:
        first = self._pick.selection * _COMMON
        return [values[(first + index) % len(values)] for index in range(min(_COMMON, len(values)))]

    # -- keys and references

    def _keys(self, *, existing: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for field in self.table.fields:
            if self._is_own_key(field):
                found[field.name] = self._own_key(field, existing=existing)
            elif field.origin is not None:
                found[field.name] = self._reference(field)
        if existing and self.table.generated is None and self.table.key and not self._pick.one_in(4):
            index = self._pick.up_to(_MOST_ROWS)
            for part, field in enumerate(self.table.key):
                otherwise = found[field.name] if field.name in found else self._sample(field)
                found[field.name] = KeyOf(self.table.name, index, part, otherwise)
        return found

    def _is_own_key(self, field: FieldInfo) -> bool:
        return field.origin == self.table.name and field.column.generated

    def _own_key(self, field: FieldInfo, *, existing: bool) -> Any:
        """Choose a generated key: none, that of a row, or one that no row has."""
        missing = None if self._accepts(field.name, None) else _NO_ROW
        if existing and not self._pick.one_in(10):
            return self._key_of(field, missing)
        if not self._pick.one_in(4) and missing is None:
            return None
        return self._key_of(field, missing) if self._pick.one_in(3) else FreshKey(self.table.name, missing and 1)

    def _reference(self, field: FieldInfo) -> Any:
        if self._pick.one_in(10):
            return _NO_ROW
        optional = self._accepts(field.name, None)
        if self._pick.one_in(4) and optional:
            return None
        return self._key_of(field, None if optional else _NO_ROW)

    def _key_of(self, field: FieldInfo, otherwise: Any) -> KeyOf:
        # Other references are taken to be to the first column of a key.
        part = self.table.generated or 0 if self._is_own_key(field) else 0
        return KeyOf(field.origin or self.table.name, self._pick.up_to(_MOST_ROWS), part, otherwise)

    # -- what the entity's class accepts

    def _find_plainest(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for field in self.table.fields:
            found = [1] if field.origin else [value for value in _samples_of(field) if field.accepts(value)]
            if not found and not field.spec.optional:
                raise self._needs_strategy(f"field {field.name!r}")
            chosen[field.name] = found[0] if found else None
        empty, single = (
            {name: one.plainest_children(count) for name, one in self._children.items()} for count in (0, 1)
        )
        if self._can_construct({**chosen, **empty}):
            return chosen | empty
        try:
            construct(self.table.entity, stand_in(self.table.nest({**chosen, **single})))
        except (TypeError, ValueError) as error:
            raise self._needs_strategy(f"its fields together ({type(error).__name__})") from error
        return chosen | single

    def _needs_strategy(self, part: str) -> MappingError:
        name, entity = self.table.name, self.table.entity.__name__
        return MappingError(
            f"{entity} accepts none of the sample values for {part}; "
            f"provide a Hypothesis strategy: entities = {{{name!r}: st.builds({entity}, ...)}}"
        )

    def _samples_of(self, field: FieldInfo) -> list[Any]:
        found = _samples_of(field)
        return [one for one in found if _is_short(one)] if field.column.name in self._short else found

    def _keep_accepted(self, field: FieldInfo, values: Iterable[Any]) -> list[Any]:
        return [value for value in values if self._accepts(field.name, value)]

    def _accepts(self, name: str, value: Any) -> bool:
        """Return True if the entity's class accepts a value in one field."""
        if not self._plainest:
            return value is not None or bool(self.table.by_name[name].spec.optional)
        return self._can_construct({**self._plainest, name: value})

    def _can_construct(self, values: Mapping[str, Any]) -> bool:
        try:
            return can_construct(self.table.entity, self.table.nest(values))
        except (TypeError, ValueError):  # a value object refuses its own
            return False

    def _compatible(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Complete an entity's values, and leave out those that its class refuses beside the others."""
        whole = {**self._plainest, **values}
        if not self._plainest or self._can_construct(whole):
            return whole
        whole = dict(self._plainest)
        for name, value in values.items():
            if self._can_construct({**whole, name: value}):
                whole[name] = value
        return whole

    def _weigh(self, field: FieldInfo) -> list[Any]:
        """List a field's values, each as often as its probability asks for."""
        valid = self._valid[field.name]
        if field.column.name == self.table.schema.version:
            return [None, 1, 2, 3] if None in valid else [1, 2, 3]
        plain = [value for value in valid if value is not None]
        nulls = _COMMON * _OFTEN // 2 if field.column.nullable else 1 if field.column.fills_itself else 0
        return [*(self._common(plain) * _OFTEN), *plain, *([None] * nulls if None in valid else [])] or [None]

    def _refused_by_table(self, field: FieldInfo) -> list[Any]:
        """List values that the entity's class accepts and the table refuses."""
        missing = [] if field.column.fills_itself else [None]
        found = self._keep_accepted(field, [*missing, *invalid_values(field.column.type)])
        short = field.column.name in self._short  # the entity's class may make a decimal of a float
        return [one for one in found if not short or not isinstance(one, float)]


class ChildGenerator(EntityGenerator):
    """Generates the children of one part, and edits of the stored ones."""

    def __init__(self, table: Children, choices: Choices, *, all_digits: bool = True) -> None:
        super().__init__(table, choices, all_digits=all_digits)
        self.part = table.part
        self._collect = only if table.part.single else table.part.collect
        self._most = 1 if table.part.single else _MOST_CHILDREN
        given = {*table.part.supplied, table.part.order}
        groups = [table.schema.key, *(one.columns for one in table.schema.uniques)]
        own = [[name for name in columns if name not in given] for columns in groups if given & {*columns}]
        #: The fields in which no two children of an entity may agree.
        self._different = [list(map(table.mapper.field, names)) for names in own if names]

    def child(self, *, valid: bool = False) -> Any:
        """Generate a new child."""
        made = self.entity(valid=valid)
        return made.values["value"] if self.part.plain else made

    def several(self, *, valid: bool = False) -> Several:
        """Generate all children of an entity."""
        made = self._pick.several(partial(self.child, valid=valid), self._most, int(self.part.required))
        return Several(self._collect, tuple(made if self._pick.one_in(10) else self._distinct(made)))

    def plainest_children(self, count: int) -> Several:
        child = self._plainest["value"] if self.part.plain else New(self.table.entity, self.table.nest(self._plainest))
        return Several(self._collect, (child,) * max(count, int(self.part.required)))

    def edit(self, stored: Stored | StoredChild) -> Several:
        """Generate what becomes of the children of an entity: kept, changed, moved, gone, and new ones."""
        places = [place for place in range(self._most + 1) if not self._pick.one_in(5)]
        if self._pick.one_in(3):
            places = sorted(places, key=lambda _: self._pick.up_to(9))
        items: list[Any] = [Kept(stored, self.part.name, place, self._changes(stored, place)) for place in places]
        if self._pick.one_in(12):  # another entity's, or one twice
            items.append(
                Kept(self._other(stored) if self._pick.one_in(2) else stored, self.part.name, self._pick.up_to(1))
            )
        for child in self._distinct(self._pick.several(self.child, 2)):
            items.insert(self._pick.up_to(len(items)) if self._pick.one_in(2) else 0, child)
        if self.part.single and (items or self.part.required) and self._pick.one_in(3):
            items.insert(0, self.child())
        return Several(self._collect, () if self._pick.one_in(12) and not self.part.required else tuple(items))

    def _other(self, stored: Stored | StoredChild) -> Stored | StoredChild:
        """Choose another row, or another child of the same."""
        if isinstance(stored, Stored):
            return replace(stored, index=self._pick.up_to(_MOST_ROWS))
        return replace(stored, place=self._pick.up_to(_MOST_CHILDREN))

    def _changes(self, stored: Stored | StoredChild, place: int) -> dict[str, Any]:
        child = StoredChild(stored, self.part.name, place)
        return self.changes(version=False, of=child) if not self.part.plain and self._pick.one_in(4) else {}

    def _distinct(self, children: list[Any]) -> list[Any]:
        """Leave out children that a unique constraint refuses beside those before them."""
        kept: list[Any] = []
        for one in children:
            alike = [
                [self._values(one, names) == self._values(other, names) for other in kept] for names in self._different
            ]
            if not any(map(any, alike)):
                kept.append(one)
        return kept

    def _values(self, child: Any, names: Sequence[str]) -> list[Any]:
        return [child if self.part.plain else child.values.get(name) for name in names]

    def _own_key(self, field: FieldInfo, *, existing: bool) -> Any:  # noqa: ARG002  # a new child has no key
        return None

    def _reference(self, field: FieldInfo) -> Any:
        return None if field.column.name in self.part.supplied else super()._reference(field)


def _is_short(number: Any) -> bool:
    """Return True for a decimal that also SQLite keeps, and MariaDB in ten digits without a point."""
    return bool(number == number // 1 and abs(number) < _TEN_DIGITS)


def _samples_of(field: FieldInfo) -> list[Any]:
    """List the members of the entity's enumeration or Literal, if any, and the column's sample values.

    Of a column with a type decorator they are also the field's, because the column's are of the class that is stored.
    """
    members: list[Any] = list(getattr(field.spec.type.python, "__members__", {}).values())
    named = (one for one in (field.spec.annotation, *get_args(field.spec.annotation)) if get_origin(one) is Literal)
    members += [value for one in named for value in get_args(one)]
    type_ = field.column.type
    own = [one for one in sample_values(field.spec.type) if _fits(type_, one)] if type_.bind is not None else []
    return [*members, *own, *sample_values(type_)]

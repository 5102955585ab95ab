"""What a generated program is: units of work one after another, and the steps in them."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, cast

import sqlrepo
from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, MappingError, QueryError, QueryObject
from sqlrepo import fields as fields_of
from sqlrepo.memory import Column, ForeignKey, InMemoryDatabase, Kind, Schema

# How far above all known ones a key lies that is given where keys are generated.
_GAP = 100


@dataclass(frozen=True, slots=True)
class Met:
    """A row that both sides have told of.

    Attributes:
        number: counts the rows of its table by the order of their creation.
        keys: its key on each side.
    """

    number: int
    keys: tuple[tuple[Any, ...], tuple[Any, ...]]


Mark: TypeAlias = tuple[list[Met], tuple[dict[Any, int], dict[Any, int]]]


class Keys:
    """The rows of one table that a program has met.

    Args:
        generated: where in a key the generated column stands; None where the table has none.
        fresh: whether the database never gives a generated key out again.
        top: the highest generated key the table is known to have had.
    """

    def __init__(self, generated: int | None, *, fresh: bool, top: int = 0) -> None:
        self.generated = generated
        self.rows: list[Met] = []
        self._fresh = fresh
        self._numbers: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        self._count = 0
        self.top = top

    def meet(self, keys: tuple[tuple[Any, ...], tuple[Any, ...]]) -> Met | None:
        """Note a row that was written; None where it is known already."""
        told = [self._told(key) for key in keys]
        if self.generated is not None:
            self.top = max(self.top, *told)
        if told[0] in self._numbers[0]:
            return None
        self._count += 1
        met = Met(self._count, keys)
        self._numbers[0][told[0]] = met.number
        if told[1] in self._numbers[1] and self._fresh:
            return met  # the database has given a key out again, which is a difference: it stays the other row's
        if self.generated is not None:
            self._forget_from(told[1])
        self._numbers[1][told[1]] = met.number
        self.rows.append(met)
        return met

    def mark(self) -> Mark:
        """What is known now."""
        return list(self.rows), (dict(self._numbers[0]), dict(self._numbers[1]))

    def undo(self, mark: Mark) -> None:
        """Forget the rows that were met since; their keys may come again where a rollback takes them back."""
        if not self._fresh:
            self.rows, self._numbers = list(mark[0]), (dict(mark[1][0]), dict(mark[1][1]))

    def keep(self, living: set[tuple[Any, ...] | None]) -> None:
        """Name no rows any more but those that are there on memory."""
        self.rows = [met for met in self.rows if met.keys[0] in living]

    def forget(self, place: int, value: Any) -> None:
        """Forget rows that are gone for sure: a new one has got a key that theirs refers to."""
        self.rows = [met for met in self.rows if met.keys[1][place] != value]

    def at(self, index: int) -> Met | None:
        """One of the rows, whatever the index; None where there is none yet."""
        return self.rows[index % len(self.rows)] if self.rows else None

    def number(self, side: int, value: Any) -> int | None:
        """The number of the row whose generated key a side calls so."""
        return self._numbers[side].get(value)

    def above(self) -> int | None:
        """A key higher than any that was met or given before; none where none was."""
        if not self.top:
            return None
        self.top += _GAP
        return self.top

    def _told(self, key: tuple[Any, ...]) -> Any:
        return key if self.generated is None else key[self.generated]

    def _forget_from(self, value: Any) -> None:
        """Forget rows that are gone for sure: the database counts on from the highest key that is left."""
        while self.rows and self._told(self.rows[-1].keys[1]) >= value:
            self.rows.pop()


_INFIX: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": operator.and_,
    "|": operator.or_,
}


class Side:
    """One of the two stores, as arguments see it.

    Args:
        index: 0 for memory, 1 for the database.
        keys: the rows that were met, by repository.
        entities: the entity classes, by repository.
        given: the numbers that stand for fresh keys, the same ones on both sides.
    """

    def __init__(
        self, index: int, keys: Mapping[str, Keys], entities: Mapping[str, type], given: dict[Fresh, int | None]
    ) -> None:
        self.index = index
        self.keys = keys
        self.fields: dict[str, Any] = {name: sqlrepo.fields(entity) for name, entity in entities.items()}
        self.given = given


class Names(Protocol):
    """What a script calls things."""

    def key(self, node: KeyOf) -> str:
        """The key of a row that was met."""
        ...

    def fresh(self, node: Fresh) -> str:
        """A key that no row has had."""
        ...

    def use(self, name: type | str) -> str:
        """The name of a class, or of a function of the library's, which the script must import."""
        ...


class Node(Protocol):
    """An argument that is no plain value."""

    def build(self, side: Side) -> Any:
        """What it is on one side."""
        ...

    def code(self, names: Names) -> str:
        """What it is in a script."""
        ...


@dataclass(frozen=True, slots=True)
class KeyOf:
    """The key of a row that was met, or one column of it.

    Attributes:
        repository: the row's.
        index: which of the rows that were met by then, counted round.
        part: which column of the key; None for the key as `get` takes it.
        otherwise: what it is where no row was met.
    """

    repository: str
    index: int
    part: int | None
    otherwise: Any

    def build(self, side: Side) -> Any:
        """The key on this side."""
        met = side.keys[self.repository].at(self.index)
        if met is None:
            return build(self.otherwise, side)
        key = met.keys[side.index]
        if self.part is None:
            return key[0] if len(key) == 1 else key
        return key[self.part]

    def code(self, names: Names) -> str:
        """The attribute of the variable that holds the row."""
        return names.key(self)


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """A key that is given where keys are generated, higher than all before; one such object is one key.

    Attributes:
        repository: whose.
        otherwise: what it is before any key is known, so that nobody knows what is high.
    """

    repository: str
    otherwise: int | None

    def build(self, side: Side) -> int | None:
        """The same key on both sides."""
        if self not in side.given:
            side.given[self] = side.keys[self.repository].above() or self.otherwise
        return side.given[self]

    def code(self, names: Names) -> str:
        """The number that it was."""
        return names.fresh(self)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an entity, as criteria name it."""

    repository: str
    name: str

    def build(self, side: Side) -> Any:
        """The field."""
        return getattr(side.fields[self.repository], self.name)

    def code(self, names: Names) -> str:
        """The field of the object that the script's head makes."""
        return f"{names.use(f'fields:{self.repository}')}.{self.name}"


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of the library's, such as ``in_`` or ``not_``, and what it is given."""

    function: str
    arguments: tuple[Any, ...]

    def build(self, side: Side) -> Any:
        """What it gives."""
        return getattr(sqlrepo, self.function)(*build(self.arguments, side))

    def code(self, names: Names) -> str:
        """The call."""
        return f"{names.use(self.function)}({', '.join(code(one, names) for one in self.arguments)})"


@dataclass(frozen=True, slots=True)
class Infix:
    """Two operands and what stands between them."""

    left: Any
    operator: str
    right: Any

    def build(self, side: Side) -> Any:
        """The criterion."""
        return _INFIX[self.operator](build(self.left, side), build(self.right, side))

    def code(self, names: Names) -> str:
        """The expression, in parentheses."""
        return f"({code(self.left, names)} {self.operator} {code(self.right, names)})"


@dataclass(frozen=True, slots=True)
class Make:
    """An object of a class of the user's, by its fields: an entity, a query object."""

    cls: Any
    values: Mapping[str, Any]

    def build(self, side: Side) -> Any:
        """A new object."""
        return made(self.cls, {name: build(value, side) for name, value in self.values.items()})

    def code(self, names: Names) -> str:
        """The call of the class."""
        given = ", ".join(f"{_parameter(self.cls, name)}={code(value, names)}" for name, value in self.values.items())
        return f"{names.use(self.cls)}({given})"


@dataclass(frozen=True, slots=True)
class Part:
    """A class with some fields of an entity, for ``into=``."""

    names: tuple[str, ...]

    def build(self, _: Side) -> Any:
        """The class."""
        return dataclasses.make_dataclass("Part", self.names)

    def code(self, names: Names) -> str:
        """What makes it."""
        return f"{names.use('make_dataclass')}('Part', {list(self.names)!r})"


def made(cls: Any, values: Mapping[str, Any]) -> Any:
    """Build an object of its fields' values, whatever kind of class it is."""
    return cls(**{_parameter(cls, name): value for name, value in values.items()})


def _parameter(cls: Any, field: str) -> str:
    """What the constructor calls a field."""
    for one in getattr(cls, "__attrs_attrs__", ()):
        if one.name == field:
            return str(one.alias)
    if cls.__dict__.get("model_fields") or hasattr(cls, "model_fields"):
        info = cls.model_fields[field]
        if info.alias and not cls.model_config.get("populate_by_name") and not cls.model_config.get("validate_by_name"):
            return str(info.alias)
    return field


def build(given: Any, side: Side) -> Any:
    """What an argument is on one side."""
    match given:
        case list():
            return [build(one, side) for one in given]
        case tuple():
            return tuple(build(one, side) for one in given)
        case dict():
            return {name: build(one, side) for name, one in given.items()}
        case KeyOf() | Fresh() | Field() | Apply() | Infix() | Make() | Part():
            return given.build(side)
        case _:
            return given


def code(given: Any, names: Names) -> str:
    """How an argument is written."""
    match given:
        case list():
            return f"[{', '.join(code(one, names) for one in given)}]"
        case tuple():
            return f"({', '.join(code(one, names) for one in given)}{',' if len(given) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{name!r}: {code(one, names)}' for name, one in given.items())}}}"
        case KeyOf() | Fresh() | Field() | Apply() | Infix() | Make() | Part():
            return given.code(names)
        case Enum():
            return f"{names.use(type(given))}.{given.name}"
        case float() if not math.isfinite(given):
            return f"float('{given}')"
        case str():
            return ascii(given)
        case _:
            return repr(given)


@dataclass(frozen=True, slots=True)
class Place:
    """A field of an entity and the column it is kept in.

    Attributes:
        name: the field.
        column: the column.
        spec: the field, as the entity's class describes it.
        of: the repository whose generated keys it holds, its own included; None where it holds none.
    """

    name: str
    column: Column
    spec: Any
    of: str | None

    @property
    def kind(self) -> Kind:
        """What sort of value it holds."""
        return self.column.type.kind

    @property
    def matters(self) -> bool:
        """Whether queries can ask for more than whether it is NULL."""
        return self.kind is not Kind.OPAQUE and self.spec.type.kind is not Kind.OPAQUE


@dataclass(frozen=True)
class Table:
    """A repository of the unit, and what it keeps.

    Attributes:
        name: what the unit calls it.
        repository: its class.
        places: the entity's fields.
        queries: the query objects that ask for it.
        entities: a strategy of the user's for its entities, if any.
    """

    name: str
    repository: type[Any]
    places: tuple[Place, ...]
    queries: tuple[type[QueryObject[Any]], ...] = ()
    entities: Any = None

    @cached_property
    def schema(self) -> Schema:
        """The table."""
        return cast("Schema", self.repository.definition().schema)

    @cached_property
    def entity(self) -> type[Any]:
        """The entity's class."""
        return cast("type[Any]", self.repository.definition().mapper.entity)

    @cached_property
    def by_column(self) -> Mapping[str, Place]:
        """The fields, by column."""
        return {place.column.name: place for place in self.places}

    @cached_property
    def by_name(self) -> Mapping[str, Place]:
        """The fields, by name."""
        return {place.name: place for place in self.places}

    @cached_property
    def key(self) -> tuple[Place, ...]:
        """The fields of the key; empty where the entity does not carry it."""
        found = [self.by_column.get(name) for name in self.schema.key]
        return () if None in found else tuple(place for place in found if place)

    @cached_property
    def natural_key(self) -> tuple[str, ...]:
        """The columns that tell an entity's row."""
        return tuple(self.repository.definition().natural_key)

    @cached_property
    def tells_rows(self) -> bool:
        """Whether an entity tells which row it is of."""
        return all(name in self.by_column for name in self.natural_key)

    @cached_property
    def generated(self) -> int | None:
        """Where in the key the generated column stands."""
        return self.schema.key.index(self.schema.generated) if self.schema.generated in self.schema.key else None

    @cached_property
    def uniques(self) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
        """The names and fields of the key and the unique constraints."""
        known = [(self.schema.key_name, self.schema.key), *((one.name, one.columns) for one in self.schema.uniques)]
        field = self.repository.definition().mapper.field
        return tuple((name, tuple(map(field, columns))) for name, columns in known)

    @cached_property
    def foreign_keys(self) -> tuple[tuple[ForeignKey, tuple[str, ...]], ...]:
        """The foreign keys whose columns are all fields, each with these."""
        field = self.repository.definition().mapper.field
        known = [one for one in self.schema.foreign_keys if all(name in self.by_column for name in one.columns)]
        return tuple((one, tuple(map(field, one.columns))) for one in known)

    @cached_property
    def refers_to_itself(self) -> bool:
        """Whether rows of it refer to others of it."""
        return any(one.table == self.schema.place for one in self.schema.foreign_keys)

    def key_of(self, entity: Any) -> tuple[Any, ...] | None:
        """The key of a stored entity."""
        return tuple(getattr(entity, place.name) for place in self.key) if self.key else None


class Subject:
    """A unit of work class.

    Args:
        unit: the class.
        queries: query objects, by repository.
        entities: strategies of the user's, by repository.

    Raises:
        MappingError: it declares no repository, or not the ones that are named.
    """

    def __init__(
        self, unit: type[Any], queries: Mapping[str, Any] | None = None, entities: Mapping[str, Any] | None = None
    ) -> None:
        self.unit = unit
        self.asynchronous = issubclass(unit, AsyncBaseUnitOfWork)
        found = _declared(unit)
        for name in {**(queries or {}), **(entities or {})}:
            if name not in found:
                raise MappingError(f"{unit.__name__} declares no repository {name!r}; there are {', '.join(found)}")
        origins = _Origins(found)
        self.tables: Mapping[str, Table] = {
            name: Table(
                name,
                repository,
                tuple(_places(name, repository, origins)),
                _several((queries or {}).get(name, ())),
                (entities or {}).get(name),
            )
            for name, repository in found.items()
        }

    def parent(self, key: ForeignKey) -> tuple[Table, tuple[str, ...]] | None:
        """The repository that a foreign key refers to, and its fields; None where the unit has none."""
        for table in self.tables.values():
            fields = {place.column.column: place.name for place in table.places}
            if table.schema.place == key.table and all(name in fields for name in key.targets):
                return table, tuple(fields[name] for name in key.targets)
        return None

    @property
    def versioned(self) -> tuple[str, ...]:
        """The repositories whose tables count writes."""
        return tuple(name for name, table in self.tables.items() if table.schema.version is not None)


def _declared(unit: type[Any]) -> dict[str, type[Any]]:
    made = unit(InMemoryDatabase())
    names = dict.fromkeys(name for base in unit.__mro__ for name in vars(base).get("__annotations__", {}))
    found: dict[str, type[Any]] = {}
    for name in names:
        try:
            value = getattr(made, name, None)
        except MappingError:  # an annotation that only type checkers can resolve declares nothing
            continue
        if isinstance(value, BaseRepository | AsyncBaseRepository):
            found[name] = type(value)
    if not found:
        raise MappingError(f"{unit.__name__} declares no repository")
    return found


def _several(given: Any) -> tuple[type[QueryObject[Any]], ...]:
    return tuple(given) if isinstance(given, Sequence) else (given,)


def _places(name: str, repository: type[Any], origins: _Origins) -> list[Place]:
    mapper = repository.definition().mapper
    places: list[Place] = []
    for column in mapper.schema.columns:
        if not mapper.has_field(column.name):
            continue
        field = mapper.field(column.name)
        try:
            spec = getattr(fields_of(mapper.entity), field).spec
        except QueryError:
            continue
        places.append(Place(field, column, spec, origins.of(name, column.name)))
    return places


class _Origins:
    """Where generated keys come from: a column's own table, or the one its foreign key refers to."""

    def __init__(self, repositories: Mapping[str, type[Any]]) -> None:
        self._schemas = {name: repository.definition().schema for name, repository in repositories.items()}

    def of(self, name: str, column: str, seen: frozenset[tuple[str, str]] = frozenset()) -> str | None:
        """The repository whose generated key is in a column of another."""
        if self._schemas[name].generated == column:
            return name
        for target, referred in self._references(name, column):
            if (target, referred) not in seen:
                return self.of(target, referred, seen | {(target, referred)})
        return None

    def _references(self, name: str, column: str) -> list[tuple[str, str]]:
        """The repositories and columns that a column refers to."""
        found: list[tuple[str, str]] = []
        for key in self._schemas[name].foreign_keys:
            if column in key.columns:
                referred = key.targets[key.columns.index(column)]
                found += [
                    (other, named.name)
                    for other, schema in self._schemas.items()
                    for named in schema.columns
                    if schema.place == key.table and named.column == referred
                ]
        return found


#: How a block is left: at its end, by an exception there, or by the first error that a step of it raises.
Leaving: TypeAlias = Literal["end", "exception", "first error"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a repository; arguments may be nodes."""

    repository: str
    method: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Walk:
    """Pages by cursor: the first, and from each to the next or back to the previous one."""

    repository: str
    query: Any
    moves: tuple[Literal["after", "before"], ...]


@dataclass(frozen=True, slots=True)
class End:
    """The end of a transaction before the end of its unit."""

    how: Literal["commit", "rollback"]


@dataclass(frozen=True, slots=True)
class Savepoint:
    """Steps inside a savepoint."""

    steps: tuple[Step, ...]
    leaving: Leaving = "end"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work."""

    steps: tuple[Step, ...]
    leaving: Leaving = "end"
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Another unit of work, begun and ended while one is open that has not written yet."""

    unit: Unit


Step: TypeAlias = Call | Walk | End | Savepoint | Meanwhile
Program: TypeAlias = tuple[Unit, ...]

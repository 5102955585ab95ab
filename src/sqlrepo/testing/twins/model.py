"""The unit of work under test, and the programs that are run on it."""

from __future__ import annotations

import math
import operator
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Annotated, Any, Literal, Protocol, TypeAlias, Union, cast, get_args, get_origin

from pydantic import TypeAdapter

import sqlrepo
from sqlrepo import AsyncBaseUnitOfWork, MappingError, QueryObject
from sqlrepo.memory import Column, ForeignKey, InMemoryDatabase, Part, RowFunction, Schema
from sqlrepo.testing.subject import FieldInfo, UnderTest, declared_repositories

# -- the unit of work under test

# What of a mapped column makes values.
_MAKERS = ("default", "onupdate")


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key whose columns are all fields, and its target, if the unit has a repository for that."""

    key: ForeignKey
    fields: tuple[str, ...]
    parent: Table | None
    targets: tuple[str, ...]


class Table(UnderTest[Any]):
    """A repository of the unit, its query objects and the user's strategy for its entities, if any."""

    #: Set by the unit once all its tables are known.
    references: tuple[Reference, ...] = ()
    #: The tables that refer to this one, the field that does so, and what it refers to.
    referrers: tuple[tuple[Table, tuple[str, ...], tuple[str, ...]], ...] = ()
    #: The fields that the repository changes on purpose, and those that are set whatever the entity says.
    normalises: frozenset[str] = frozenset()
    generated_fields: frozenset[str] = frozenset()

    def __init__(
        self,
        name: str,
        repository: type[Any],
        schemas: Mapping[str, Schema],
        queries: type[QueryObject[Any]] | Sequence[type[QueryObject[Any]]],
        strategy: Any,
    ) -> None:
        super().__init__(repository)
        self.name = name
        #: True if the repository changes values on their way, so that entities do not hold what rows do.
        self.converts = bool(repository.definition().custom_load)
        self.queries = tuple(queries) if isinstance(queries, Sequence) else (queries,)
        self.strategy = strategy
        self._schemas = schemas

        self.children: Mapping[str, Children] = {name: Children(self, part) for name, part in self.parts.items()}

    def _describe(self, column: Column) -> FieldInfo | None:
        found = super()._describe(column) or self._describe_inside(column)
        return found and replace(found, origin=_origin(self._schemas, self.name, column.name))

    def _describe_inside(self, column: Column) -> FieldInfo | None:
        """Describe the field of a value object, which `__` separates from the object's field, as in criteria."""
        path = self.mapper.field(column.name)
        if not self.mapper.has_field(column.name) or "." not in path:
            return None
        name = path.replace(".", "__")
        return FieldInfo(name, column, getattr(sqlrepo.fields(self.entity), name), path=path)

    @cached_property
    def objects(self) -> Mapping[str, bool]:
        """The fields that hold value objects, and if they may be None."""
        names = dict.fromkeys(one.path.partition(".")[0] for one in self.fields if one.path)
        return {name: getattr(sqlrepo.fields(self.entity), name).spec.optional for name in names}

    @property
    def own_fields(self) -> list[FieldInfo]:
        """The fields with a column, without those inside value objects."""
        return [one for one in self.fields if not one.path]

    def nest(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Put the values of value objects' fields into objects; an object that is None stays so."""
        known = self.by_name
        return _nest(
            self.entity, {(known[name].path if name in known else "") or name: values[name] for name in values}
        )

    @cached_property
    def generated(self) -> int | None:
        """The position of the generated column in the key."""
        return self.schema.key.index(self.schema.generated) if self.schema.generated in self.schema.key else None

    @cached_property
    def uniques(self) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
        """The names and fields of the key and the unique constraints."""
        key = ((self.schema.key_name, tuple(one.name for one in self.key)),) if self.key else ()
        return key + self.unique_constraints

    @cached_property
    def made_columns(self) -> Mapping[str, Literal["once", "again"]]:
        """The columns whose values are made at the moment of writing, once or again in each update."""
        found: dict[str, Literal["once", "again"]] = {}
        mapped: Any = getattr(self.schema.model, "__mapper__", None)
        for column in self.schema.columns:
            declared = mapped.columns.get(column.name) if mapped else None
            by_function = [getattr(getattr(declared, name, None), "is_callable", False) for name in _MAKERS]
            if column.server_onupdate or by_function[1]:
                found[column.name] = "again"
            elif by_function[0] or (column.server_default and isinstance(column.memory_default, RowFunction)):
                found[column.name] = "once"
        return found

    def made(self, name: str) -> Literal["once", "again"] | None:
        """Tell when the value of a field is made; None if the caller alone decides it."""
        return self.made_columns.get(self.by_name[name].column.name)

    @property
    def refers_to_itself(self) -> bool:
        return any(one.table == self.schema.full_name for one in self.schema.foreign_keys)

    def key_of(self, entity: Any) -> tuple[Any, ...] | None:
        return tuple(getattr(entity, one.name) for one in self.key) if self.key else None

    def values_of(self, entity: Any) -> dict[str, Any]:
        """Return the values of fields and parts; children in sets, which have no order, in one of their values."""
        found = {one.name: one.get(entity) for one in self.fields}
        for name, table in self.children.items():
            found[name] = table.in_order(tuple(map(table.values_of, table.of(entity))))
        return found


class Children(Table):
    """The table of a part, whose entities are the children; they may have parts of their own."""

    def __init__(self, owner: Table, part: Part) -> None:
        self.name = f"{owner.name}.{part.name}"
        self.part = part
        self.repository, self._schemas = owner.repository, owner._schemas  # noqa: SLF001  # a table too
        self.mapper, self.schema, self.entity = part.mapper, part.schema, part.mapper.entity
        self.natural_key, self.parts = (), {one.name: one for one in part.parts}
        self.converts, self.queries, self.strategy = False, (), None
        self.children = {name: Children(self, one) for name, one in self.parts.items()}

    @property
    def is_set(self) -> bool:
        return self.part.collect in (set, frozenset)

    def of(self, entity: Any) -> list[Any]:
        """List an entity's children, plain values as objects that hold them."""
        return self.part.wrap(getattr(entity, self.part.name))

    def in_order(self, forms: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(sorted(forms, key=repr)) if self.is_set else forms

    def all(self) -> Iterator[Children]:
        """Yield this table and those of the children's parts."""
        yield self
        for one in self.children.values():
            yield from one.all()


def _nest(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in values.items() if "." not in name}
    inside: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        first, _, rest = path.partition(".")
        if first not in found:
            inside.setdefault(first, {})[rest] = value
    for name, own in inside.items():
        members = alternatives(getattr(cast(Any, sqlrepo.fields(cls)), name).spec.annotation)
        nested = next(one for one in members if one is not type(None))
        found[name] = New(nested, _nest(nested, own))
    return found


def alternatives(annotation: Any) -> list[Any]:
    """List the members of a union."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in alternatives(member)]
    return [annotation]


class UnitUnderTest:
    """A unit of work class and its tables; all else is given by repository.

    Raises:
        MappingError: the class declares no repository, or none of a given name, or an entity lacks a field.
    """

    def __init__(
        self,
        unit: type[Any],
        queries: Mapping[str, Any] | None = None,
        strategies: Mapping[str, Any] | None = None,
        *,
        normalises: Mapping[str, Collection[str]] | None = None,
        generated: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.unit = unit
        self.is_async = issubclass(unit, AsyncBaseUnitOfWork)
        found = _repositories(unit)
        queries, strategies = queries or {}, strategies or {}
        normalises, generated = normalises or {}, generated or {}
        for name in {**queries, **strategies, **normalises, **generated}:
            if name not in found:
                raise MappingError(f"{unit.__name__} declares no repository {name!r}, only {', '.join(found)}")
        schemas = _schemas(found)
        self.tables: Mapping[str, Table] = {
            name: Table(name, repository, schemas, queries.get(name, ()), strategies.get(name))
            for name, repository in found.items()
        }
        for table in self.tables.values():
            keys = [one for one in table.schema.foreign_keys if set(one.columns) <= set(table.by_column)]
            table.references = tuple(self._reference(table, key) for key in keys)
            for one in table.references:
                if one.parent is not None and len(one.fields) == 1:
                    one.parent.referrers = (*one.parent.referrers, (table, one.fields, one.targets))
            table.normalises = _named(table, "normalises", normalises)
            table.generated_fields = _named(table, "generated", generated)

    @property
    def children(self) -> Mapping[str, Children]:
        """The tables of all parts, by the name of the repository and that of the part."""
        found = (one for table in self.tables.values() for part in table.children.values() for one in part.all())
        return {one.name: one for one in found}

    def _reference(self, table: Table, key: ForeignKey) -> Reference:
        fields = tuple(map(table.mapper.field, key.columns))
        for parent in self.tables.values():
            names = {one.column.column: one.name for one in parent.fields}
            if parent.schema.full_name == key.table and all(target in names for target in key.targets):
                return Reference(key, fields, parent, tuple(names[target] for target in key.targets))
        return Reference(key, fields, None, ())


def _repositories(unit: type[Any]) -> dict[str, type[Any]]:
    found = {name: type(one) for name, one in declared_repositories(unit(InMemoryDatabase())).items()}
    if not found:
        raise MappingError(f"{unit.__name__} declares no repository; annotate one, such as `todos: Todos`")
    return found


def _schemas(repositories: Mapping[str, type[Any]]) -> Mapping[str, Schema]:
    """Return the tables of repositories and, behind them, those of their parts."""
    definitions = {name: repository.definition() for name, repository in repositories.items()}
    own = {name: one.schema for name, one in definitions.items()}
    return {**own, **{name: one for each, it in definitions.items() for name, one in _inner(each, it.aggregate.parts)}}


def _inner(name: str, parts: Sequence[Part]) -> Iterator[tuple[str, Schema]]:
    for part in parts:
        yield f"{name}.{part.name}", part.schema
        yield from _inner(f"{name}.{part.name}", part.parts)


def _named(table: Table, option: str, given: Mapping[str, Collection[str]]) -> frozenset[str]:
    for name in (names := frozenset(given.get(table.name, ()))):
        if name not in table.by_name:
            raise MappingError(f"`{option}`: {table.entity.__name__} has no field {name!r} with a column of its own")
    return names


def _origin(
    schemas: Mapping[str, Schema], name: str, column: str, seen: frozenset[tuple[str, str]] = frozenset()
) -> str | None:
    """Find the repository whose generated key a column holds: its own, or one that foreign keys lead to."""
    if schemas[name].generated == column:
        return name
    for key in schemas[name].foreign_keys:
        target = dict(zip(key.columns, key.targets, strict=True)).get(column)
        for other, schema in schemas.items():
            for one in schema.columns if schema.full_name == key.table else ():
                if one.column == target and (other, one.name) not in seen:
                    return _origin(schemas, other, one.name, seen | {(other, one.name)})
    return None


# -- the rows that a program creates

# The distance from the highest key seen to a key that a program chooses itself.
_GAP = 100


@dataclass(frozen=True, slots=True)
class KnownRow:
    """A row that both sides have created: its number in order of creation, its key on each side, and as it was then."""

    number: int
    keys: tuple[tuple[Any, ...], tuple[Any, ...]]
    entities: tuple[Any, Any] = (None, None)


Snapshot: TypeAlias = tuple[list[KnownRow], tuple[dict[Any, int], dict[Any, int]]]


class KeyMap:
    """Pairs the keys of one table's rows in memory with their keys in the database.

    `highest` holds the highest generated key by repository and outlives programs, as the database's counters do.
    """

    def __init__(self, table: Table, highest: dict[str, int], *, fresh_keys: bool) -> None:
        self.rows: list[KnownRow] = []
        self._table = table
        self._highest = highest
        self._fresh_keys = fresh_keys
        self._numbers: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        self._count = 0
        self._chosen: dict[FreshKey, int | None] = {}

    def add(self, keys: tuple[tuple[Any, ...], tuple[Any, ...]], entities: Any = None) -> KnownRow | None:
        """Add a row that was written; return None if it is known already. A child has no entities to be chosen by."""
        memory, database = map(self._identifier, keys)
        if self._table.generated is not None:
            self._highest[self._table.name] = max(self._highest.get(self._table.name, 0), memory, database)
        if memory in self._numbers[0]:
            return None
        self._count += 1
        row = KnownRow(self._count, keys, entities or (None, None))
        self._numbers[0][memory] = row.number
        if database in self._numbers[1] and self._fresh_keys:
            return row  # the database has reused a key, which is a difference: the key stays the other row's
        if self._table.generated is not None:
            # The database counts on from the highest key that is left, so the rows from there on are gone.
            while self.rows and self._identifier(self.rows[-1].keys[1]) >= database:
                self.rows.pop()
        # A row that is gone and one that has its key again are the same to what still holds that key.
        self._numbers[0][memory] = self._numbers[1].setdefault(database, row.number)
        self.rows += [row] if entities else []
        return row

    def snapshot(self) -> Snapshot:
        return list(self.rows), (dict(self._numbers[0]), dict(self._numbers[1]))

    def restore(self, snapshot: Snapshot) -> None:
        """Forget the rows added since a snapshot if the database may reuse their keys after a rollback."""
        if not self._fresh_keys:
            self.rows, self._numbers = snapshot

    def at(self, index: int) -> KnownRow | None:
        """Return one of the rows for any index, counted round; None if there is no row yet."""
        return self.rows[index % len(self.rows)] if self.rows else None

    def number(self, side: int, value: Any) -> int | None:
        return self._numbers[side].get(value)

    def choose(self, key: FreshKey) -> int | None:
        """Return a key higher than all others, and always the same one for a node."""
        if key not in self._chosen:
            if highest := self._highest.get(self._table.name):
                self._highest[self._table.name] = highest + _GAP
            self._chosen[key] = highest + _GAP if highest else key.otherwise
        return self._chosen[key]

    def _identifier(self, key: tuple[Any, ...]) -> Any:
        return key if self._table.generated is None else key[self._table.generated]


# Two clocks that are read for the same row are at most so far apart: they may be in different zones.
_CLOCKS_APART = timedelta(days=1)


class MadeValues:
    """Pairs the values that were made for one row in memory and in the database.

    A value that is made once is that value for ever: one that a later answer has in its place is a difference.
    """

    def __init__(self) -> None:
        self._tokens: dict[tuple[str, str, int, str], str] = {}

    def pair(self, table: Table, name: str, values: tuple[Any, Any]) -> None:
        """Note what was made for a new row, if it is of the same kind on both sides.

        Clocks may be read twice at the same moment. Other values are different for each row, or they are constants,
        which must be equal.
        """
        keys = [(table.name, name, side, repr(value)) for side, value in enumerate(values)]
        clock = isinstance(values[0], date)
        if not _are_of_one_kind(*values) or (not clock and values[0] == values[1]):
            return
        known = [self._tokens[key] for key in keys if key in self._tokens]
        token = f"made {len(self._tokens)}" if clock or not known else ""
        for key, one in list(self._tokens.items()):
            if one in known:
                self._tokens[key] = token
        self._tokens.update(dict.fromkeys(keys, token))

    def form(self, side: int, table: Table, name: str, value: Any) -> Any:
        """Return what is compared of a value; None if it is the value itself."""
        if name in table.generated_fields:
            return kind_of(value)
        if table.made(name) == "again":
            if not isinstance(value, date):
                return kind_of(value)
            now = datetime.now(UTC)
            today = now.replace(tzinfo=None) if getattr(value, "tzinfo", None) is None else now
            return (*kind_of(value), "now") if _are_of_one_kind(value, today) else None
        return self._tokens.get((table.name, name, side, repr(value)))


def kind_of(value: Any) -> tuple[str, ...]:
    """Name the type of a value, and say if a moment has a zone."""
    aware = isinstance(value, datetime) and value.tzinfo is not None
    return ("a value of the kind", type(value).__name__, *(["aware"] if aware else []))


def _are_of_one_kind(one: Any, other: Any) -> bool:
    """Return True for two values of one kind, which for moments are close to each other."""
    if isinstance(one, date) and not isinstance(one, datetime) and isinstance(other, datetime):
        other = other.date()
    if kind_of(one) != kind_of(other):
        return False
    return not isinstance(one, date) or abs(one - other) <= _CLOCKS_APART


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two stores as arguments see it: 0 is memory, 1 the database."""

    index: int
    keys: Mapping[str, KeyMap]
    tables: Mapping[str, Table]
    #: Reads an entity again; returns the one that was created if it is gone, or None.
    current: Callable[[str, KnownRow], Any] = lambda _, row: row
    #: The child that a condition is about.
    child: Any = None


# -- arguments of calls


class Names(Protocol):
    """Names objects in a script."""

    def key(self, node: KeyOf) -> str: ...
    def row(self, repository: str, index: int, *, now: bool) -> str | None: ...
    def fresh_key(self, node: FreshKey) -> str: ...
    def fields(self, repository: str) -> str: ...
    def import_name(self, name: type | Callable[..., Any] | str) -> str: ...


class Node(ABC):
    """An argument that is built for each side when the program runs."""

    __slots__ = ()

    @abstractmethod
    def build(self, side: Side) -> Any: ...

    @abstractmethod
    def to_code(self, names: Names) -> str: ...

    def stand_in(self) -> Any:
        """Return what a class is tried with before there are any rows."""
        return 1


@dataclass(frozen=True, slots=True)
class KeyOf(Node):
    """The key of the index-th known row, or one part of that key; `otherwise` if no row is known yet."""

    repository: str
    index: int
    part: int | None
    otherwise: Any

    def build(self, side: Side) -> Any:
        row = side.keys[self.repository].at(self.index)
        if row is None:
            return build(self.otherwise, side)
        key = row.keys[side.index]
        if self.part is None:
            return key[0] if len(key) == 1 else key
        return key[self.part]

    def to_code(self, names: Names) -> str:
        return names.key(self)


@dataclass(frozen=True, slots=True, eq=False)
class FreshKey(Node):
    """A key higher than all generated ones; `otherwise` if none is known yet."""

    repository: str
    otherwise: int | None

    def build(self, side: Side) -> int | None:
        return side.keys[self.repository].choose(self)

    def to_code(self, names: Names) -> str:
        return names.fresh_key(self)


@dataclass(frozen=True, slots=True)
class FieldRef(Node):
    """A field of an entity in a criterion."""

    repository: str
    name: str

    def build(self, side: Side) -> Any:
        return side.tables[self.repository].by_name[self.name].expression

    def to_code(self, names: Names) -> str:
        return f"{names.fields(self.repository)}.{self.name}"


_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": operator.and_,
    "|": operator.or_,
}


@dataclass(frozen=True, slots=True)
class Operation(Node):
    """An operator or one of the library's functions, such as `in_` or `not_`, and its arguments."""

    name: str
    arguments: tuple[Any, ...]

    def build(self, side: Side) -> Any:
        function = _OPERATORS.get(self.name) or getattr(sqlrepo, self.name)
        return function(*build(self.arguments, side))

    def to_code(self, names: Names) -> str:
        arguments = [to_code(one, names) for one in self.arguments]
        if self.name in _OPERATORS:
            return f"({f' {self.name} '.join(arguments)})"
        return f"{names.import_name(self.name)}({', '.join(arguments)})"


@dataclass(frozen=True, slots=True)
class New(Node):
    """A new entity or query object, by the values of its fields."""

    cls: Any
    values: Mapping[str, Any]

    def build(self, side: Side) -> Any:
        values = build(self.values, side)
        try:
            return construct(self.cls, values)
        except (TypeError, ValueError) as error:
            raise NotConstructedError from error

    def to_code(self, names: Names) -> str:
        cls = names.import_name(self.cls)
        if _takes_names(self.cls, self.values):
            return (
                f"{names.import_name('TypeAdapter')}({cls}).validate_python({to_code(self.values, names)}, {_BY_NAME})"
            )
        given = (f"{_parameter(self.cls, name)}={to_code(value, names)}" for name, value in self.values.items())
        return f"{cls}({', '.join(given)})"


class NotConstructedError(Exception):
    """A class refuses the values of its fields, with the keys that one side has."""


def construct(cls: Any, values: Mapping[str, Any]) -> Any:
    """Construct an object from the values of its fields, whatever the kind of class and the names that clients use."""
    if _takes_names(cls, values):
        return TypeAdapter(cls).validate_python(dict(values), by_alias=False, by_name=True)
    return cls(**{_parameter(cls, name): value for name, value in values.items()})


def can_construct(cls: Any, values: Mapping[str, Any]) -> bool:
    """Return True if a class accepts the values together; 1 stands for keys."""
    try:
        construct(cls, stand_in(values))
    except (TypeError, ValueError):
        return False
    return True


def stand_in(value: Any) -> Any:
    """Replace keys by 1, and nodes by what they make."""
    match value:
        case list():
            return list(map(stand_in, value))
        case tuple():
            return tuple(map(stand_in, value))
        case dict():
            return {name: stand_in(one) for name, one in value.items()}
        case New(cls, values):
            return construct(cls, stand_in(values))
        case Node():
            return value.stand_in()
        case _:
            return value


# Makes Pydantic take the names of fields, not their aliases.
_BY_NAME = "by_alias=False, by_name=True"


def _takes_names(cls: Any, values: Mapping[str, Any]) -> bool:
    """Return True if clients call a field otherwise than Python does, so that only Pydantic can be given its name."""
    known = {} if hasattr(cls, "__mapper__") else getattr(cls, "__pydantic_fields__", {})
    return any(known[name].validation_alias not in (None, name) for name in values if name in known)


def _parameter(cls: Any, name: str) -> str:
    """Return what the constructor calls a field."""
    own = [str(one.alias) for one in getattr(cls, "__attrs_attrs__", ()) if one.name == name]
    return own[0] if own else name


def build(value: Any, side: Side) -> Any:
    """Build an argument for one side."""
    match value:
        case list():
            return [build(one, side) for one in value]
        case tuple():
            return tuple(build(one, side) for one in value)
        case dict():
            return {name: build(one, side) for name, one in value.items()}
        case Node():
            return value.build(side)
        case _:
            return value


def to_code(value: Any, names: Names) -> str:
    """Write an argument as Python."""
    match value:
        case list():
            return f"[{', '.join(to_code(one, names) for one in value)}]"
        case tuple():
            return f"({', '.join(to_code(one, names) for one in value)}{',' if len(value) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{name!r}: {to_code(one, names)}' for name, one in value.items())}}}"
        case Node():
            return value.to_code(names)
        case Enum():
            return f"{names.import_name(type(value))}.{value.name}"
        case float() if not math.isfinite(value):
            return f"float('{value}')"
        case str():
            return ascii(value)
        case _:
            return repr(value)


# -- programs

#: How a block ends: normally, by an exception of the program, or by the first error that one of its steps raises.
Ending: TypeAlias = Literal["normal", "exception", "first error"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a repository."""

    repository: str
    method: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


Move: TypeAlias = Literal["after", "before"]


@dataclass(frozen=True, slots=True)
class Scroll:
    """Pages by cursor: the first, and from each the next or the previous one."""

    repository: str
    query: Any
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """The entities that a criterion matches in Python."""

    repository: str
    criterion: Any


@dataclass(frozen=True, slots=True)
class Orphans:
    """The number of children that have no owner, which should be none."""

    repository: str
    part: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of a transaction before the end of its unit."""

    how: Literal["commit", "rollback"]


@dataclass(frozen=True, slots=True)
class Savepoint:
    steps: tuple[Step, ...]
    ending: Ending = "normal"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of work; as a step, it begins and ends while the outer one is open and has written nothing."""

    steps: tuple[Step, ...]
    ending: Ending = "normal"
    read_only: bool = False


Question: TypeAlias = Call | Scroll | Matching | Orphans
Step: TypeAlias = Call | Scroll | End | Orphans | Savepoint | Unit
Program: TypeAlias = tuple[Unit, ...]

"""The unit of work under test: its repositories, and what their tables and entities say.

Knows definitions. Must not know stores, programs or Hypothesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, MappingError, QueryError, QueryObject
from sqlrepo import fields as fields_of
from sqlrepo.memory import Column, ForeignKey, InMemoryDatabase, Kind, Schema

__all__ = ["Place", "Subject", "Table"]


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
    def identity(self) -> tuple[str, ...]:
        """The columns that tell an entity's row."""
        return tuple(self.repository.definition().identity)

    @cached_property
    def tells_rows(self) -> bool:
        """Whether an entity tells which row it is of."""
        return all(name in self.by_column for name in self.identity)

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

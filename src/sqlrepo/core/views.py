"""Views: read models with some of an entity's fields, planned once for each repository class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from sqlrepo.core.aggregates import Found
from sqlrepo.core.definition import RepositoryConfig
from sqlrepo.driver import Driver, Lock
from sqlrepo.errors import QueryError
from sqlrepo.language.entities import NO_ENTITY, EntityField, describe, is_entity, value_object
from sqlrepo.tables.mapper import Hydrator, Mapper
from sqlrepo.tables.schema import Row

Kind: TypeAlias = type[RepositoryConfig[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one view is read from one table."""

    columns: tuple[str, ...]
    build: Hydrator[Any]


@lru_cache(maxsize=1024)
def _plan(kind: Kind, view: type) -> Plan:
    if not is_entity(view):
        raise QueryError(f"into= takes an entity class; {view!r} is {NO_ENTITY}")
    mapper = kind.definition().mapper
    columns = tuple(column for field in describe(view).values() for column in _own_columns(mapper, field))
    return Plan(columns, mapper.make_hydrator(view, columns))


def _own_columns(mapper: Mapper[Any], field: EntityField) -> list[str]:
    """Return the columns of a field, or of what a view names of a value object."""
    name, nested = field.name, value_object(field.annotation)
    if name in mapper.names or nested is None or field.optional:  # None where all columns of the object are NULL
        return [column.name for column in mapper.columns(name)]
    inner = (replace(one, name=f"{name}.{one.name}") for one in describe(nested).values())
    return [column for one in inner for column in _own_columns(mapper, one)]


class View:
    """A view as one call reads it; it also selects the columns that the call itself needs."""

    def __init__(self, kind: Any, view: type, names: Iterable[str]) -> None:
        plan = _plan(kind, view)
        self.columns = tuple(dict.fromkeys((*plan.columns, *names)))
        self.build = plan.build

    def load(self, _driver: Driver, rows: list[Row], _lock: Lock | None = None) -> Found:
        """Read what a view nests of rows."""
        return Found(rows)

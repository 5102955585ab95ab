"""Which rows a repository keeps to, whatever is asked of it: the one place where that is added to what a call asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, cast

from sqlrepo.driver import Condition, Driver, Fetch, Upsert
from sqlrepo.errors import InvalidValueError, ProgrammingError, QueryError, RepositoryError
from sqlrepo.language.criteria import (
    EVERYTHING,
    And,
    CompareFields,
    Criterion,
    Leaf,
    as_criterion,
    map_leaves,
    matches_all,
)
from sqlrepo.language.predicate import Predicate, compile_predicate, parametrize
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import Row, Schema

Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """A repository's scope, for one call.

    Attributes:
        mapper: the entity and its table.
        rows: what every row answers that the call sees, changes or adds.
        stays: what a row of them must answer once it is changed.
    """

    mapper: Mapper[Any]
    rows: Criterion = EVERYTHING
    write_scope: Criterion = EVERYTHING

    def within(self, driver: Driver) -> Driver:
        """A driver that knows no other rows."""
        everything = matches_all(self.rows) and matches_all(self.write_scope)
        return driver if everything else cast(Driver, ScopedDriver(driver, self))

    def admit(self, rows: Iterable[Values]) -> None:
        """Refuse new rows that are known to be outside before they are stored.

        Raises:
            InvalidValueError: a value puts one there.
        """
        for row in rows:
            if (refused := self.refusal(row)) is not None:
                raise refused

    def refusal(self, row: Values) -> InvalidValueError | None:
        """Why a new row cannot be stored, as far as it is known before it is."""
        return self._refusal((part for part in _parts(self.rows) if _columns(part) <= row.keys()), row)

    def keep(self, changes: Values) -> bool:
        """Refuse changes that are known to take rows outside; tell whether no others do.

        Raises:
            InvalidValueError: a value takes them there.
        """
        touched = [part for part in _parts(self.write_scope) if _columns(part) & {*changes, *self._moving}]
        known = [part for part in touched if _columns(part) <= changes.keys()]
        if (refused := self._refusal(known, changes)) is not None:
            raise refused
        return len(known) == len(touched)

    @property
    def _moving(self) -> Iterable[str]:
        """The columns that change with whatever is changed."""
        schema = self.mapper.schema
        return (c.name for c in schema.columns if c.computed or c.server_onupdate or c.name == schema.version)

    def check(self, demanded: Criterion, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Refuse rows that were stored already, which aborts.

        Raises:
            InvalidValueError: one is outside.
        """
        for row in rows:
            if (refused := self._refusal(_parts(demanded), dict(zip(columns, row, strict=True)))) is not None:
                raise refused

    def _refusal(self, parts: Iterable[Criterion], values: Values) -> InvalidValueError | None:
        for part in parts:
            names = _columns(part)
            read = {name: self.mapper.schema.by_name[name].type.store(values[name]) for name in names}
            shape, params = parametrize(self.mapper.to_stored(part))
            if not _predicate(shape)(read, params):
                name = min(names, default=self.mapper.schema.key[0])
                return InvalidValueError(self.mapper.field(name), "puts the row outside the repository's scope")
        return None


def evaluate_scope(mapper: Mapper[Any], name: str, scope: Callable[[], bool]) -> Criterion:
    """Ask a repository for what its rows must answer, in terms of columns.

    Raises:
        ProgrammingError: what it says is no criterion, or it cannot say it.
    """
    try:
        return map_leaves(as_criterion(scope()), mapper.bind)
    except Exception as error:
        if isinstance(error, RepositoryError) and not isinstance(error, QueryError):
            raise  # a scope that asks the database meets what any call does
        reason = str(error) if isinstance(error, QueryError) else type(error).__name__
        raise ProgrammingError(f"{name} gives no criterion: {reason}") from error


class ScopedDriver:
    """A driver beneath which there are no rows outside a scope."""

    def __init__(self, beneath: Driver, scope: Scope) -> None:
        self.beneath = beneath
        self._scope = scope
        self._rows = Condition(*parametrize(scope.rows))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        return self.beneath.fetch(schema, replace(request, where=request.where.and_also(self._rows)))

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        return self.beneath.count(schema, where.and_also(self._rows), limit)

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        stored = self.beneath.insert(schema, columns, rows, returning)
        self._scope.check(self._scope.rows, returning, stored)
        return stored

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        return self.beneath.update(schema, columns, values, where.and_also(self._rows))

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        row, created = self.beneath.upsert(schema, replace(request, scope=self._rows), returning)
        self._scope.check(self._scope.rows if created else self._scope.write_scope, returning, [row])
        return row, created

    def delete(self, schema: Schema, where: Condition) -> int:
        return self.beneath.delete(schema, where.and_also(self._rows))

    def read_back(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows that the call has changed, wherever they are now."""
        rows = self.beneath.fetch(schema, request)
        self._scope.check(self._scope.write_scope, request.columns, rows)
        return rows


def read_back(driver: Driver, schema: Schema, request: Fetch) -> list[Row]:
    """Read rows that the call has just changed, which may have left the scope if they were allowed to."""
    return driver.read_back(schema, request) if isinstance(driver, ScopedDriver) else driver.fetch(schema, request)


def _parts(criterion: Criterion) -> list[Criterion]:
    """What must hold all together."""
    if not isinstance(criterion, And):
        return [criterion]
    return [each for part in criterion.parts for each in _parts(part)]


def _columns(criterion: Criterion) -> frozenset[str]:
    found: set[str] = set()

    def collect(leaf: Leaf) -> Leaf:
        found.add(leaf.ref.name)
        if isinstance(leaf, CompareFields):
            found.add(leaf.other.name)
        return leaf

    map_leaves(criterion, collect)
    return frozenset(found)


@lru_cache(maxsize=256)
def _predicate(shape: Criterion) -> Predicate:
    return compile_predicate(shape, lambda ref: f"r[{ref.name!r}]")

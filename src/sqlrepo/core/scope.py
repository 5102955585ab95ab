"""The scope of a repository: a criterion that is added to every call, and that written rows must meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias, cast

from sqlrepo.core.selection import condition, key_chunks
from sqlrepo.driver import Condition, Driver, Fetch, Group, Upsert
from sqlrepo.errors import InvalidValueError, ProgrammingError, QueryError, RepositoryError
from sqlrepo.language.criteria import (
    EVERYTHING,
    And,
    Criterion,
    as_criterion,
    conjuncts,
    is_related,
    map_leaves,
    matches_all,
)
from sqlrepo.language.predicate import Predicate, compile_predicate, parametrize
from sqlrepo.tables.mapper import Mapper, Reaches
from sqlrepo.tables.schema import Row, Schema, columns_of

Values: TypeAlias = Mapping[str, Any]


class _Test(NamedTuple):
    names: frozenset[str]  # the columns that are read
    holds: Predicate
    params: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """A repository's scope, as evaluated for one call."""

    mapper: Mapper[Any]
    rows: Criterion = EVERYTHING  # met by every row that the call reads, changes or inserts
    write_scope: Criterion = EVERYTHING  # met by changed rows
    parts: Mapping[Schema, Criterion] = field(default_factory=dict)  # met by the children that are read

    def confine(self, driver: Driver) -> Driver:
        everything = matches_all(self.rows) and matches_all(self.write_scope) and not self.parts
        return driver if everything else cast(Driver, ScopedDriver(driver, self))

    def check_new(self, rows: Iterable[Values]) -> None:
        """Raise `InvalidValueError` for a row that is outside, as far as its values are known before it is stored."""
        tests = self._tests(_plain(self.rows))
        for row in rows:
            violation = self._find_violation([test for test in tests if test.names <= row.keys()], row)
            if violation is not None:
                raise violation

    def find_violation(self, row: Values) -> InvalidValueError | None:
        """Return the error for a new row that is outside, as far as its values are known."""
        return self._find_violation(
            self._tests(part for part in _plain(self.rows) if columns_of(part) <= row.keys()), row
        )

    def check_changes(self, changes: Values) -> bool:
        """Raise `InvalidValueError` if the changes take rows outside; False if that depends on other columns."""
        touched = [part for part in conjuncts(self.write_scope) if columns_of(part) & {*changes, *self._self_changing}]
        known = [part for part in touched if columns_of(part) <= changes.keys() and not is_related(part)]
        if (violation := self._find_violation(self._tests(known), changes)) is not None:
            raise violation
        return len(known) == len(touched)

    @property
    def _self_changing(self) -> Iterable[str]:
        """The columns that change with every change of the row."""
        schema = self.mapper.schema
        return (c.name for c in schema.columns if c.computed or c.server_onupdate or c.name == schema.version)

    def check_stored(self, driver: Driver, criteria: Iterable[Criterion], rows: Sequence[Values]) -> None:
        """Raise `InvalidValueError` for a stored row that does not meet all criteria, which aborts.

        What depends on rows of other tables, or on unknown columns, is checked by counting the rows that meet it.
        """
        known, unknown = list[Criterion](), list[Criterion]()
        for part in criteria if rows else ():
            (known if not is_related(part) and columns_of(part) <= rows[0].keys() else unknown).append(part)
        tests = self._tests(known)
        for row in rows:
            violation = self._find_violation(tests, row)
            if violation is not None:
                raise violation
        if unknown:
            mapper = self.mapper.require_key()
            keys = {tuple(row[name] for name in mapper.schema.key) for row in rows}
            found = (And((chunk, *unknown)) for chunk in key_chunks(mapper, keys))
            if sum(driver.count(mapper.schema, condition(one)) for one in found) < len(keys):
                raise self._outside(columns_of(unknown[0]))

    def _tests(self, parts: Iterable[Criterion]) -> list[_Test]:
        """Compile criteria, once for all rows of a call."""
        split = [(columns_of(part), *parametrize(self.mapper.to_stored(part))) for part in parts]
        return [_Test(names, _predicate(shape), params) for names, shape, params in split]

    def _find_violation(self, tests: Iterable[_Test], values: Values) -> InvalidValueError | None:
        for names, holds, params in tests:
            read = {name: self.mapper.schema.by_name[name].type.store(values[name]) for name in names}
            if not holds(read, params):
                return self._outside(names)
        return None

    def _outside(self, names: Iterable[str]) -> InvalidValueError:
        name = min(names, default=next(iter(self.mapper.schema.by_name)))
        return InvalidValueError(self.mapper.field(name), "puts the row outside the repository's scope")


def evaluate_scope(
    mapper: Mapper[Any], name: str, scope: Callable[[], bool], relations: Callable[[], Reaches]
) -> Criterion:
    """Return the criterion of a scope method, bound to columns."""
    try:
        return map_leaves(as_criterion(scope()), partial(mapper.bind, relations=relations))
    except Exception as error:
        if isinstance(error, RepositoryError) and not isinstance(error, QueryError):
            raise  # a scope may query the database; its errors are those of any call
        reason = str(error) if isinstance(error, QueryError) else type(error).__name__
        raise ProgrammingError(f"{name} returned no criterion: {reason}") from error


def unscoped(driver: Driver) -> Driver:
    """Return the driver that hides no rows."""
    return driver.beneath if isinstance(driver, ScopedDriver) else driver


class ScopedDriver:
    """A driver that hides the rows outside a scope."""

    def __init__(self, beneath: Driver, scope: Scope) -> None:
        self.beneath = beneath
        self._scope = scope
        self._rows = Condition(*parametrize(scope.rows))
        self._readable = {schema: condition(rows) for schema, rows in scope.parts.items()}
        self._readable[scope.mapper.schema] = self._rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        return self.beneath.fetch(schema, replace(request, where=request.where.and_also(self._rows_of(schema))))

    def fetch_all(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows, hidden ones too; each ends with False if it is hidden, and with True or nothing if not."""
        where = request.where.and_also(self._rows_of(schema))
        if where is request.where or not isinstance(where.shape, And):
            return self.beneath.fetch(schema, request)
        *parts, mark = where.shape.parts
        request = replace(request, where=replace(where, shape=And(tuple(parts))), lookups=(mark,))
        return self.beneath.fetch(schema, request)

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        return self.beneath.count(schema, where.and_also(self._rows_of(schema)), limit)

    def group(self, schema: Schema, request: Group) -> list[Row]:
        return self.beneath.group(schema, replace(request, where=request.where.and_also(self._rows_of(schema))))

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        stored = self.beneath.insert(schema, columns, rows, returning)
        if schema is self._scope.mapper.schema:
            self._check(self._scope.rows, returning, stored)
        return stored

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        return self.beneath.update(schema, columns, values, where.and_also(self._rows_of(schema)))

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        row, created = self.beneath.upsert(schema, replace(request, scope=self._rows), returning)
        self._check(self._scope.rows if created else self._scope.write_scope, returning, [row])
        return row, created

    def delete(self, schema: Schema, where: Condition) -> int:
        return self.beneath.delete(schema, where.and_also(self._rows_of(schema)))

    def _rows_of(self, schema: Schema) -> Condition:
        return self._readable.get(schema, Condition())

    def fetch_changed(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows that the call has changed; the write scope may have let them leave the scope."""
        rows = self.beneath.fetch(schema, request)
        self._check(self._scope.write_scope, request.columns, rows)
        return rows

    def _check(self, criterion: Criterion, columns: Sequence[str], rows: Sequence[Row]) -> None:
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        self._scope.check_stored(self.beneath, conjuncts(criterion), named)

    def check_children(self, mapper: Mapper[Any], rows: Sequence[Values], changed: Sequence[str] | None = None) -> None:
        """Raise `InvalidValueError` for a written child that the scope of its table hides, which aborts.

        Where only some columns have changed, the others still meet the scope.
        """
        criteria = conjuncts(self._scope.parts.get(mapper.schema, EVERYTHING))
        touched = (one for one in criteria if changed is None or is_related(one) or columns_of(one) & {*changed})
        Scope(mapper).check_stored(self.beneath, touched, rows)


def _plain(criterion: Criterion) -> list[Criterion]:
    """Return the criteria that must all hold, and that one row decides."""
    return [part for part in conjuncts(criterion) if not is_related(part)]


@lru_cache(maxsize=256)
def _predicate(shape: Criterion) -> Predicate:
    return compile_predicate(shape, lambda ref, row: f"{row}[{ref.name!r}]")

"""Writing where it is not known, and does not matter, whether the row is there.

Knows what tells that it is, and what of it is written over. Must not know how a backend keeps others from coming
between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sqlrepo._base.selection import condition
from sqlrepo._base.writing import Writing
from sqlrepo.driver import Driver, Row, Upsert
from sqlrepo.errors import InvalidValueError, QueryError
from sqlrepo.upserted import Upserted

__all__ = ["Upserting"]

T = TypeVar("T")
K = TypeVar("K")


class Upserting(Writing[T, K], Generic[T, K]):
    """Adding entities, or writing them over what has their key or unique values."""

    def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that agrees with it in a unique constraint; atomic.

        The version is not compared, but counted. (PostgreSQL's ``INSERT ... ON CONFLICT DO UPDATE``.)

        Args:
            entity: what is written. Where a field of ``on`` is None, no row agrees with it.
            on: the fields of the key, or of a declared unique constraint.
            update: the fields of a row that is there already which are written. By default all but the key, ``on``,
                the version, and what the entity leaves to a default; none where it is empty.

        Returns:
            the entity as it is stored now, and whether its row is new.

        Raises:
            ConstraintError: the table refuses it; another unique constraint than ``on`` is no reason to update.
            QueryError: ``on`` is no unique constraint, or ``update`` names what cannot be written.
        """
        [(row, created)] = self._upserted([entity], on, update)
        return Upserted(self._stored([row])[0], created)

    def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Insert entities or write them over their rows, all or none; see `upsert`.

        Returns:
            them as they are stored now, in their order. Of several that agree in ``on`` only the last is written, and
            stands for all of them. They are sent in the order of these values, so that two batches never wait for
            each other.
        """
        return self._stored([row for row, _ in self._upserted(entities, on, update)])

    def _upserted(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None
    ) -> list[tuple[Row, bool]]:
        target = self._target(on)
        chosen = None if update is None else self._chosen(update, target)
        requests = [self._asked(self._dump(entity), target, chosen) for entity in entities]
        scope = self._scope()
        scope.admit(request.row for request in requests)
        last = {request.agrees_in or index: index for index, request in enumerate(requests)}

        def work(driver: Driver) -> list[tuple[Row, bool]]:
            order = sorted(last.values(), key=lambda index: repr(requests[index].agrees_in))
            stored = {index: self._send(driver, requests[index]) for index in order}
            return [stored[last[request.agrees_in or index]] for index, request in enumerate(requests)]

        return self._write(work, scope)

    def _send(self, driver: Driver, request: Upsert) -> tuple[Row, bool]:
        if request.agrees_in is None:
            return self._insert(driver, [request.row])[0], True
        return driver.upsert(self._schema, request, self._mapper.selected)

    def _asked(self, values: Mapping[str, Any], target: tuple[str, ...], chosen: frozenset[str] | None) -> Upsert:
        row = self._foreseen(lambda: self._mapper.inserted(values))
        told = {name: row.get(name) for name in target}
        for name, value in told.items():
            if value is None and not (column := self._schema.by_name[name]).nullable and not column.generated:
                raise InvalidValueError(self._mapper.field(name), "is left to the database, so it tells no row")
        agrees = None if None in told.values() else tuple(told.values())
        where = condition(self._keyed({name: value for name, value in told.items() if value is not None}))
        return Upsert(row, target, where, self._overwritten(values, target, chosen), agrees)

    def _overwritten(
        self, values: Mapping[str, Any], target: tuple[str, ...], chosen: frozenset[str] | None
    ) -> dict[str, Any]:
        """What is written over a row that is there."""
        given = {name: value for name, value in values.items() if not self._waits(name, value)}
        if chosen is None:
            fixed = {*target, *self._schema.key}
            changes = {name: value for name, value in given.items() if name not in fixed}
        else:
            changes = {name: value for name, value in given.items() if name in chosen}
        if not changes:
            return {}
        return self._foreseen(lambda: self._mapper.updated(changes, explicit=chosen is not None))

    def _target(self, on: str | Sequence[str]) -> tuple[str, ...]:
        """The columns of a unique constraint, in its own order."""
        named = {self._mapper.column(name).name for name in _names(on)}
        known = [self._schema.key, *(unique.columns for unique in self._schema.uniques)]
        for columns in known:
            if named and set(columns) == named:
                return columns
        listed = ", ".join(f"({', '.join(map(self._mapper.field, columns))})" for columns in known)
        raise QueryError(f"on={on!r} is neither the key nor a unique constraint; there are {listed}")

    def _chosen(self, update: Iterable[str], target: tuple[str, ...]) -> frozenset[str]:
        columns = [self._mapper.column(name) for name in _names(update)]
        for column in columns:
            if column.computed or column.name in {*target, *self._schema.key, self._schema.version}:
                raise QueryError(f"update={self._mapper.field(column.name)!r}: an upsert does not change that")
        return frozenset(column.name for column in columns)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)

"""Whether a write violates a constraint, where a database names another one than memory.

Knows what a call would write and what is there. Must not know backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from sqlrepo.memory import ForeignKey
from sqlrepo.testing.twins.answers import Returned, attempt
from sqlrepo.testing.twins.nodes import Side, build
from sqlrepo.testing.twins.steps import Call
from sqlrepo.testing.twins.subject import Subject, Table

__all__ = ["Writes"]

_ENTITY = ("add", "update", "save", "upsert", "remove")
_OVER_ITS_OWN = ("update", "save")
_ENTITIES = ("add_many", "upsert_many")
_CHANGES = ("patch", "update_where")
_DELETING = ("delete", "remove", "delete_where")
_SETS = ("update_where", "delete_where")


class Writes:
    """A call of memory's side, and what is stored before it; looked at only where there are several constraints.

    Args:
        subject: the unit of work under test.
        table: the repository's.
        call: the call.
        unit: memory's unit of work.
        side: memory's side.
    """

    def __init__(self, subject: Subject, table: Table, call: Call, unit: Any, side: Side) -> None:
        self._subject = subject
        self._table = table
        self._call = call
        self._side = side
        several = len(table.uniques) + len(table.foreign_keys) > 1
        writes = call.method in (*_ENTITY, *_ENTITIES, *_CHANGES)
        names = {table.name, *(parent[0].name for parent in self._parents)} if several and writes else ()
        self._before = {name: _stored(getattr(unit, name)) for name in names}

    def violate(self, constraint: str | None, fields: tuple[str, ...]) -> bool:
        """Whether rows would agree in the unique constraint that is named so."""
        if (constraint, fields) not in self._table.uniques:
            return False
        before = [self._values(entity) for entity in self._before.get(self._table.name, ())]
        return any(_agree(one, other, fields) for one, other in self._pairs(before))

    def dangle(self, table: str | None, constraint: str | None, fields: tuple[str, ...]) -> bool:
        """Whether rows would refer to none by the foreign key that is named so, or be left with none by a deletion."""
        if self._call.method in _DELETING:
            return any(
                (one.schema.name, key.name, named) == (table, constraint, fields)
                and key.table == self._table.schema.place
                for one in self._subject.tables.values()
                for key, named in one.foreign_keys
            )
        return any(
            self._is_open(key, fields)
            for key, named in self._table.foreign_keys
            if (key.name, named) == (constraint, fields)
        )

    def dangle_anywhere(self) -> bool:
        """Whether rows would refer to none by some foreign key, for databases that do not name it."""
        return any(self._is_open(key, named) for key, named in self._table.foreign_keys)

    @property
    def is_of_several_rows(self) -> bool:
        """Whether the call may write more than one row."""
        return self._call.method in (*_ENTITIES, *_SETS)

    @property
    def counts_cascades(self) -> bool:
        """Whether the call counts rows that a cascade of its own may reach."""
        itself = (key for key, _ in self._table.foreign_keys if key.table == self._table.schema.place)
        return self._call.method == "delete_where" and any(key.on_delete == "CASCADE" for key in itself)

    @property
    def _parents(self) -> list[tuple[Table, tuple[str, ...]]]:
        found = [self._subject.parent(key) for key, _ in self._table.foreign_keys]
        return [one for one in found if one is not None]

    def _is_open(self, key: ForeignKey, fields: tuple[str, ...]) -> bool:
        parent = self._subject.parent(key)
        there = set() if parent is None else {_of(entity, parent[1]) for entity in self._before.get(parent[0].name, ())}
        given = [tuple(row.get(name) for name in fields) for row in self._written()]
        return any(None not in values and values not in there for values in given)

    def _written(self) -> list[dict[str, Any]]:
        """What rows would hold afterwards."""
        if self._call.method in _CHANGES:
            changes = build(self._changes(), self._side)
            return [{**self._values(entity), **changes} for entity in self._before.get(self._table.name, ())]
        given = build(self._call.arguments[0], self._side)
        return [self._values(one) for one in (given if self._call.method in _ENTITIES else [given])]

    def _pairs(self, before: list[dict[str, Any]]) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The rows of which two may come to agree."""
        if self._call.method in _CHANGES:
            changes = build(self._changes(), self._side)
            for one, other in permutations(before, 2):
                yield {**one, **changes}, other
                yield {**one, **changes}, {**other, **changes}
            return
        written = self._written()
        own = [place.name for place in self._table.key] if self._call.method in _OVER_ITS_OWN else []
        yield from ((new, old) for new in written for old in before if not own or not _agree(new, old, own))
        yield from combinations(written, 2)

    def _changes(self) -> dict[str, Any]:
        given = self._call.options["set_"] if self._call.method == "update_where" else self._call.arguments[1]
        return dict(given)

    def _values(self, entity: Any) -> dict[str, Any]:
        return {place.name: getattr(entity, place.name) for place in self._table.places}


def _stored(repository: Any) -> Sequence[Any]:
    found = attempt(repository.find)
    return found.value if isinstance(found, Returned) else ()


def _of(entity: Any, fields: Iterable[str]) -> tuple[Any, ...]:
    return tuple(getattr(entity, name) for name in fields)


def _agree(one: Mapping[str, Any], other: Mapping[str, Any], fields: Iterable[str]) -> bool:
    return all(one.get(name) is not None and one.get(name) == other.get(name) for name in fields)

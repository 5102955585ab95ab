"""Whether a write violates a unique constraint, where a database names another one than memory.

Knows what a call would write and what is there. Must not know backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from sqlrepo.testing.twins.answers import Returned, attempt
from sqlrepo.testing.twins.nodes import Side, build
from sqlrepo.testing.twins.steps import Call
from sqlrepo.testing.twins.subject import Table

__all__ = ["Writes"]

_ENTITY = ("add", "update", "save", "upsert", "remove")
_OVER_ITS_OWN = ("update", "save")
_ENTITIES = ("add_many", "upsert_many")
_CHANGES = ("patch", "update_where")


class Writes:
    """A call of memory's side, and what is stored before it; looked at only where there are several constraints.

    Args:
        table: the repository's.
        call: the call.
        unit: memory's unit of work.
        side: memory's side.
    """

    def __init__(self, table: Table, call: Call, unit: Any, side: Side) -> None:
        self._table = table
        self._call = call
        self._side = side
        self._before: Sequence[Any] = ()
        if len(table.uniques) > 1 and call.method in (*_ENTITY, *_ENTITIES, *_CHANGES):
            found = attempt(lambda: getattr(unit, table.name).find())
            self._before = found.value if isinstance(found, Returned) else ()

    def violate(self, constraint: str | None, fields: tuple[str, ...]) -> bool:
        """Whether rows would agree in the constraint that is named so."""
        if (constraint, fields) not in self._table.uniques:
            return False
        before = [self._values(entity) for entity in self._before]
        return any(_agree(one, other, fields) for one, other in self._pairs(before))

    def _pairs(self, before: list[dict[str, Any]]) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The rows of which two may come to agree."""
        if self._call.method in _CHANGES:
            changes = build(self._changes(), self._side)
            for one, other in permutations(before, 2):
                yield {**one, **changes}, other
                yield {**one, **changes}, {**other, **changes}
            return
        given = build(self._call.arguments[0], self._side)
        written = [self._values(one) for one in (given if self._call.method in _ENTITIES else [given])]
        own = [place.name for place in self._table.key] if self._call.method in _OVER_ITS_OWN else []
        yield from ((new, old) for new in written for old in before if not own or not _agree(new, old, own))
        yield from combinations(written, 2)

    def _changes(self) -> dict[str, Any]:
        given = self._call.options["set_"] if self._call.method == "update_where" else self._call.arguments[1]
        return dict(given)

    def _values(self, entity: Any) -> dict[str, Any]:
        return {place.name: getattr(entity, place.name) for place in self._table.places}


def _agree(one: Mapping[str, Any], other: Mapping[str, Any], fields: Iterable[str]) -> bool:
    return all(one.get(name) is not None and one.get(name) == other.get(name) for name in fields)

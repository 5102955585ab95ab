"""What a database that looks at references row by row refuses, and memory, which looks when a statement ends, does not.

Knows rows of one table that refer to each other. Must not know how steps are run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlrepo.testing.twins.answers import Returned, attempt
from sqlrepo.testing.twins.nodes import Side, build
from sqlrepo.testing.twins.steps import Call
from sqlrepo.testing.twins.subject import Subject, Table

__all__ = ["is_refused_row_by_row"]

_BATCHES = ("add_many", "upsert_many")
_KEEPING = ("NO ACTION", "RESTRICT")


def is_refused_row_by_row(subject: Subject, table: Table, call: Call, unit: Any, side: Side) -> bool:
    """Whether a call depends on when references are looked at; neither side is then asked.

    Args:
        subject: the unit of work under test.
        table: the repository's.
        call: the call.
        unit: memory's unit of work.
        side: memory's side.
    """
    own = list(_own(subject, table))
    if call.method in _BATCHES:
        rows = list(build(call.arguments[0], side))
        return any(_refers_forwards(rows, fields, targets) for fields, targets, _ in own)
    keeping = [(fields, targets) for fields, targets, action in own if action in _KEEPING]
    if call.method == "delete_where":
        return bool(keeping)
    if call.method in ("delete", "remove") and keeping:
        found = attempt(getattr(unit, table.name).find)
        stored = found.value if isinstance(found, Returned) else ()
        return any(_of(row, fields) == _of(row, targets) for row in stored for fields, targets in keeping)
    return False


def _own(subject: Subject, table: Table) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], str]]:
    """The foreign keys to the table itself: the fields, what they refer to, and what a deletion does."""
    for key, fields in table.foreign_keys:
        parent = subject.parent(key)
        if parent is not None and parent[0] is table:
            yield fields, parent[1], key.on_delete


def _refers_forwards(rows: Sequence[Any], fields: Iterable[str], targets: Iterable[str]) -> bool:
    """Whether a row of a batch refers to one behind it."""
    return any(
        _of(row, fields) in [_of(later, targets) for later in rows[place + 1 :]] for place, row in enumerate(rows)
    )


def _of(row: Any, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)

"""Foreign keys: which rows refer to which, and what becomes of them.

Knows one write at a time: what it changed, and what that demands of rows elsewhere. Must not know criteria, nor when
transactions begin and end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from sqlrepo.driver import Row
from sqlrepo.errors import ForeignKeyViolationError, NotNullViolationError, TransactionConflictError
from sqlrepo.memory.changes import Changes
from sqlrepo.memory.table import Key, Reference, Table

__all__ = ["Statement", "verify"]

Find: TypeAlias = Callable[[Table], Changes]


class Statement:
    """One write, and what is to be looked at in its end.

    Args:
        changes: gives the transaction's changes of a table.
    """

    def __init__(self, changes: Find) -> None:
        self._changes = changes
        self._open: list[tuple[Reference, Key]] = []

    def insert(self, table: Table, row: Row) -> None:
        """Write a new row."""
        self._changes(table).insert(row)
        self._demand(table, row)

    def replace(self, table: Table, key: Key, row: Row) -> None:
        """Write a row over another, and over what refers to its old values."""
        changes = self._changes(table)
        before = changes.row(key) if table.referred else None
        changes.replace(key, row)
        self._demand(table, row)
        if before is not None:
            self._follow(table, before, row)

    def delete(self, table: Table, keys: Iterable[Key]) -> int:
        """Delete rows, then deal with what refers to them, and tell how many there were."""
        changes = self._changes(table)
        gone = [row for key in keys if (row := changes.row(key)) is not None]
        for row in gone:
            changes.delete(table.key(row))
        for row in gone:
            self._follow(table, row, None)
        return len(gone)

    def finish(self) -> None:
        """Look at what a statement may leave open until its end.

        Raises:
            ForeignKeyViolationError: a row refers to none.
        """
        for reference, values in self._open:
            if not _has(self._changes, reference, values) and _referring(self._changes, reference, values):
                raise _violation(reference)

    def _demand(self, table: Table, row: Row) -> None:
        for reference in table.references:
            if not reference.rule.deferred and (values := reference.values(row)) is not None:
                self._open.append((reference, values))

    def _follow(self, table: Table, before: Row, after: Row | None) -> None:
        """Do to the rows that refer to one what their foreign key says."""
        for reference in table.referred:
            old = reference.targets(before)
            if old is None or (after is not None and reference.targets(after) == old):
                continue
            if children := _referring(self._changes, reference, old):
                self._act(reference, children, old, after)

    def _act(self, reference: Reference, children: Iterable[Key], old: Key, after: Row | None) -> None:
        match reference.action(after):
            case "NO ACTION":
                if not reference.rule.deferred:
                    self._open.append((reference, old))
            case "RESTRICT":
                raise _violation(reference)
            case "SET NULL":
                self._rewrite(reference, children, None)
            case "CASCADE" if after is not None:
                self._rewrite(reference, children, reference.targets(after))
            case "CASCADE":
                self.delete(reference.child, children)

    def _rewrite(self, reference: Reference, children: Iterable[Key], values: Key | None) -> None:
        """Let rows refer to other values, or to none; no database counts their versions for it."""
        child = reference.child
        for key in children:
            if (row := self._changes(child).row(key)) is not None:
                if values is None:
                    _refuse_null(child, reference.rule.columns)
                self.replace(child, key, child.rules.computed(reference.pointed(row, values)))


def _refuse_null(table: Table, columns: Iterable[str]) -> None:
    for column in columns:
        if not table.schema.by_name[column].nullable:
            raise NotNullViolationError(None, (column,), table=table.schema.name)


def verify(all_changes: Iterable[Changes], find: Find) -> None:
    """Look at foreign keys once more when a transaction ends: others may have committed meanwhile.

    Raises:
        ForeignKeyViolationError: a row refers to none.
        TransactionConflictError: others committed rows that this transaction would have changed, had it seen them.
    """
    for changes in tuple(all_changes):
        for reference in changes.table.references:
            for row in changes.written.values():
                values = None if row is None else reference.values(row)
                if values is not None and not _has(find, reference, values):
                    raise _violation(reference)
        for reference in changes.table.referred:
            _verify_left(changes, reference, find)


def _verify_left(changes: Changes, reference: Reference, find: Find) -> None:
    """What this transaction took away must not be referred to by now."""
    for key, row in changes.written.items():
        seen = changes.seen(key)
        old = None if seen is None else reference.targets(seen)
        if old is None or _has(find, reference, old):
            continue
        if _referring(find, reference, old):
            if reference.action(row) in ("CASCADE", "SET NULL"):
                raise TransactionConflictError(
                    f"another transaction refers to a row of {changes.table.schema.name} that this one took away"
                )
            raise _violation(reference)


def _has(find: Find, reference: Reference, values: Key) -> bool:
    """Whether there is a row to refer to; in a table that no repository keeps there is none."""
    parent = reference.parent
    return parent is not None and find(parent).has(reference.unique, reference.ordered(values))


def _referring(find: Find, reference: Reference, values: Key) -> list[Key]:
    return find(reference.child).referring(reference.number, values)


def _violation(reference: Reference) -> ForeignKeyViolationError:
    """A foreign key is violated, by a row that refers to none or because one is referred to."""
    error = ForeignKeyViolationError(reference.rule.name, reference.rule.columns, table=reference.child.schema.name)
    if reference.parent is None:
        error.add_note(f"no repository on this memory keeps entities in {reference.rule.table[1]}, so it has no rows")
    return error

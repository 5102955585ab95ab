"""Tables in memory: rows that were committed, and what one transaction changed of them.

Knows keys, unique constraints and numbering. Must not know criteria or units of work.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from threading import RLock
from typing import Any, TypeAlias

from sqlrepo.driver import Row
from sqlrepo.errors import TransactionConflictError, UniqueViolationError
from sqlrepo.schema import Schema, Unique

__all__ = ["Changes", "Key", "Table", "Tables"]

Key: TypeAlias = tuple[Any, ...]


class _Absent(Enum):
    """What stands for a row of which nothing is noted; None is a deleted one."""

    ABSENT = 0


_ABSENT = _Absent.ABSENT


class Table:
    """The committed rows of one table, in the form that is compared and sorted.

    Attributes:
        schema: what the rows obey.
        rows: them, by key.
        uniques: the constraints, the key first.
        indexes: for each of them, the key of the row that has the values.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows: dict[Key, Row] = {}
        self.uniques = (Unique(schema.key, schema.key_name), *schema.uniques)
        self.indexes: list[dict[Key, Key]] = [{} for _ in self.uniques]
        self._places = [[schema.positions[name] for name in unique.columns] for unique in self.uniques]
        self._last = 0

    def key(self, row: Row) -> Key:
        """A row's key."""
        return tuple(row[place] for place in self._places[0])

    def unique_values(self, row: Row) -> list[Key | None]:
        """A row's values of each unique constraint; None where a NULL among them makes it agree with no other."""
        values = [tuple(row[place] for place in places) for places in self._places]
        return [None if None in value else value for value in values]

    def numbered(self, given: int | None) -> int:
        """The next number of a generated key, or the given one, which later numbers will be behind.

        Numbers are never taken back, so that a rollback leaves a gap.
        """
        self._last = max(self._last, given) if given is not None else self._last + 1
        return self._last if given is None else given


class Tables:
    """The tables of one database.

    Attributes:
        lock: held while a statement, or a commit, reads or writes them.
        by_place: the tables, by schema and name.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.by_place: dict[tuple[str | None, str], Table] = {}


class Changes:
    """What one transaction did to a table: rows written and deleted, seen by nobody else.

    Attributes:
        table: the table.
        written: the rows by key; None for a deleted one.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.written: dict[Key, Row | None] = {}
        self._seen: dict[Key, Row | None] = {}
        self._locked: dict[Key, Row] = {}
        self._upserted: set[tuple[int, Key]] = set()
        self._indexes: list[dict[Key, Key]] = [{} for _ in table.uniques]
        self._undo: list[tuple[Key, Row | _Absent | None, Row | _Absent | None]] = []

    def rows(self) -> Iterable[Row]:
        """What the transaction sees: rows committed by now, and its own over them."""
        if not self.written:
            return list(self.table.rows.values())
        others = [row for key, row in self.table.rows.items() if key not in self.written]
        return [*others, *(row for row in self.written.values() if row is not None)]

    def row(self, key: Key) -> Row | None:
        """The row with a key, as the transaction sees it."""
        return self.written[key] if key in self.written else self.table.rows.get(key)

    def insert(self, row: Row) -> None:
        """Write a new row.

        Raises:
            UniqueViolationError: another row that the transaction sees has its key, or values it must not share.
        """
        self._check(row, None)
        self._put(self.table.key(row), row)

    def replace(self, key: Key, row: Row) -> None:
        """Write a row over the one with the same key."""
        self._check(row, key)
        self._put(key, row)

    def delete(self, key: Key) -> None:
        """Delete a row."""
        self._put(key, None)

    def touch(self, rows: Iterable[Row]) -> None:
        """Demand that rows are still as they are now when the transaction ends."""
        for row in rows:
            if self.table.rows.get(key := self.table.key(row)) is row:
                self._locked.setdefault(key, row)

    def expect_others(self, columns: tuple[str, ...], values: Key) -> None:
        """Take it for a conflict, no violation, if others commit a row with the values of one that was upserted."""
        number = next(number for number, unique in enumerate(self.table.uniques) if unique.columns == columns)
        self._upserted.add((number, values))

    def mark(self) -> int:
        """How far the changes have come, for `undo`."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back what was done since a mark."""
        while len(self._undo) > mark:
            key, *before = self._undo.pop()
            self._unindex(key)
            for kept, value in zip((self.written, self._seen), before, strict=True):
                if value is _ABSENT:
                    kept.pop(key, None)
                else:
                    kept[key] = value
            self._index(key)

    def verify(self) -> None:
        """Compare with what others committed meanwhile.

        Raises:
            TransactionConflictError: somebody else wrote a row that this transaction wrote too, or locked.
            UniqueViolationError: somebody else's row has values that one of these must not share.
        """
        if any(self.table.rows.get(key) is not locked for key, locked in self._locked.items()):
            raise self._conflict()
        for key, row in self.written.items():
            seen, now = self._seen[key], self.table.rows.get(key)
            if now is not seen and seen is not None:
                raise self._conflict()
            if row is not None:
                number = 0 if now is not seen else self._clash(row, key)
                if number is not None:
                    raise self._lost(number, row)

    def apply(self) -> None:
        """Make the changes the table's."""
        table = self.table
        for key in self.written:
            if (old := table.rows.pop(key, None)) is not None:
                for index, value in zip(table.indexes, table.unique_values(old), strict=True):
                    if value is not None:
                        index.pop(value, None)
        for key, row in self.written.items():
            if row is not None:
                table.rows[key] = row
                for index, value in zip(table.indexes, table.unique_values(row), strict=True):
                    if value is not None:
                        index[value] = key

    def _check(self, row: Row, own: Key | None) -> None:
        if (number := self._clash(row, own)) is not None:
            raise self._violation(number)

    def _clash(self, row: Row, own: Key | None) -> int | None:
        """Look for another row that has values this one must not share; constraints in order of declaration."""
        for number, value in enumerate(self.table.unique_values(row)):
            if value is None:
                continue
            committed = self.table.indexes[number].get(value)
            holder = committed if committed not in self.written else None
            if {holder, self._indexes[number].get(value)} - {None, own}:
                return number
        return None

    def _lost(self, number: int, row: Row) -> TransactionConflictError | UniqueViolationError:
        """What it is that somebody else was first to commit a row with the same values."""
        upserted = (number, self.table.unique_values(row)[number]) in self._upserted
        return self._conflict() if upserted else self._violation(number)

    def _conflict(self) -> TransactionConflictError:
        return TransactionConflictError(f"another transaction changed the same row of {self.table.schema.name}")

    def _violation(self, number: int) -> UniqueViolationError:
        unique = self.table.uniques[number]
        return UniqueViolationError(unique.name, unique.columns, table=self.table.schema.name)

    def _put(self, key: Key, row: Row | None) -> None:
        self._undo.append((key, self.written.get(key, _ABSENT), self._seen.get(key, _ABSENT)))
        seen = self._seen.setdefault(key, self.table.rows.get(key))
        self._unindex(key)
        if row is None and seen is None:
            self.written.pop(key, None)  # it was this transaction's own, so there is nothing to delete
        else:
            self.written[key] = row
        self._index(key)

    def _index(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            for index, value in zip(self._indexes, self.table.unique_values(row), strict=True):
                if value is not None:
                    index[value] = key

    def _unindex(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            for index, value in zip(self._indexes, self.table.unique_values(row), strict=True):
                if value is not None and index.get(value) == key:
                    del index[value]

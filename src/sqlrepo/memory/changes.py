"""What one transaction changed of a table in memory.

Knows keys and unique constraints, over what others have committed by now. Must not know criteria or units of work.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from sqlrepo.driver import Row
from sqlrepo.errors import TransactionConflictError, UniqueViolationError
from sqlrepo.memory.table import Key, Referring, Table

__all__ = ["Changes"]


class _Absent(Enum):
    """What stands for a row of which nothing is noted; None is a deleted one."""

    ABSENT = 0


_ABSENT = _Absent.ABSENT


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
        self._referring: list[Referring] = [{} for _ in table.references]
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
            CheckViolationError: a check is false of it.
            UniqueViolationError: another row that the transaction sees has its key, or values it must not share.
        """
        self._check(row, None)
        self._put(self.table.key(row), row)

    def replace(self, key: Key, row: Row) -> None:
        """Write a row over another; only a foreign key that is part of the key ever changes it."""
        self._check(row, key)
        own = self.table.key(row)
        if own != key:
            self._put(key, None)
        self._put(own, row)

    def delete(self, key: Key) -> None:
        """Delete a row."""
        self._put(key, None)

    def has(self, number: int, values: Key) -> bool:
        """Whether the transaction sees a row that has the values of a unique constraint."""
        committed = self.table.indexes[number].get(values)
        return (committed is not None and committed not in self.written) or values in self._indexes[number]

    def referring(self, number: int, values: Key) -> list[Key]:
        """The rows that refer to values by one of the foreign keys, as the transaction sees them."""
        committed = self.table.referring[number].get(values, ())
        return sorted(
            {key for key in committed if key not in self.written} | self._referring[number].get(values, set())
        )

    def seen(self, key: Key) -> Row | None:
        """What was committed of a row when the transaction first wrote it."""
        return self._seen.get(key)

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
        for key in self.written:
            self.table.take(key)
        for key, row in self.written.items():
            if row is not None:
                self.table.put(key, row)

    def _check(self, row: Row, own: Key | None) -> None:
        self.table.rules.check(row)
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
            for reference in self.table.references:
                reference.note(self._referring, key, row)

    def _unindex(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            for index, value in zip(self._indexes, self.table.unique_values(row), strict=True):
                if value is not None and index.get(value) == key:
                    del index[value]
            for reference in self.table.references:
                reference.forget(self._referring, key, row)

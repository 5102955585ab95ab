"""Which row of one side is which of the other: generated keys differ, and are compared by the order of creation.

Knows keys. Must not know steps or stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Keys", "Mark", "Met"]

# How far above all known ones a key lies that is given where keys are generated.
_GAP = 100


@dataclass(frozen=True, slots=True)
class Met:
    """A row that both sides have told of.

    Attributes:
        number: counts the rows of its table by the order of their creation.
        keys: its key on each side.
    """

    number: int
    keys: tuple[tuple[Any, ...], tuple[Any, ...]]


Mark: TypeAlias = tuple[list[Met], tuple[dict[Any, int], dict[Any, int]]]


class Keys:
    """The rows of one table that a program has met.

    Args:
        generated: where in a key the generated column stands; None where the table has none.
        fresh: whether the database never gives a generated key out again.
        top: the highest generated key the table is known to have had.
    """

    def __init__(self, generated: int | None, *, fresh: bool, top: int = 0) -> None:
        self.generated = generated
        self.rows: list[Met] = []
        self._fresh = fresh
        self._numbers: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        self._count = 0
        self.top = top

    def meet(self, keys: tuple[tuple[Any, ...], tuple[Any, ...]]) -> Met | None:
        """Note a row that was written; None where it is known already."""
        told = [self._told(key) for key in keys]
        if self.generated is not None:
            self.top = max(self.top, *told)
        if told[0] in self._numbers[0]:
            return None
        self._count += 1
        met = Met(self._count, keys)
        self._numbers[0][told[0]] = met.number
        if told[1] in self._numbers[1] and self._fresh:
            return met  # the database has given a key out again, which is a difference: it stays the other row's
        if self.generated is not None:
            self._forget_from(told[1])
        self._numbers[1][told[1]] = met.number
        self.rows.append(met)
        return met

    def mark(self) -> Mark:
        """What is known now."""
        return list(self.rows), (dict(self._numbers[0]), dict(self._numbers[1]))

    def undo(self, mark: Mark) -> None:
        """Forget the rows that were met since; their keys may come again where a rollback takes them back."""
        if not self._fresh:
            self.rows, self._numbers = list(mark[0]), (dict(mark[1][0]), dict(mark[1][1]))

    def keep(self, living: set[tuple[Any, ...] | None]) -> None:
        """Name no rows any more but those that are there on memory."""
        self.rows = [met for met in self.rows if met.keys[0] in living]

    def forget(self, place: int, value: Any) -> None:
        """Forget rows that are gone for sure: a new one has got a key that theirs refers to."""
        self.rows = [met for met in self.rows if met.keys[1][place] != value]

    def at(self, index: int) -> Met | None:
        """One of the rows, whatever the index; None where there is none yet."""
        return self.rows[index % len(self.rows)] if self.rows else None

    def number(self, side: int, value: Any) -> int | None:
        """The number of the row whose generated key a side calls so."""
        return self._numbers[side].get(value)

    def above(self) -> int | None:
        """A key higher than any that was met or given before; none where none was."""
        if not self.top:
            return None
        self.top += _GAP
        return self.top

    def _told(self, key: tuple[Any, ...]) -> Any:
        return key if self.generated is None else key[self.generated]

    def _forget_from(self, value: Any) -> None:
        """Forget rows that are gone for sure: the database counts on from the highest key that is left."""
        while self.rows and self._told(self.rows[-1].keys[1]) >= value:
            self.rows.pop()

"""Makes whole programs: units of work one after another, with savepoints, rollbacks and rivals.

Knows how steps nest. Must not know what the calls are about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlrepo.testing.twins.calls import Calls
from sqlrepo.testing.twins.dice import Dice
from sqlrepo.testing.twins.questions import Questions
from sqlrepo.testing.twins.rows import Rows
from sqlrepo.testing.twins.steps import End, Leaving, Meanwhile, Program, Savepoint, Step, Unit
from sqlrepo.testing.twins.subject import Subject

__all__ = ["Programs"]

_LEAVINGS: tuple[Leaving, ...] = ("end", "end", "end", "first error", "exception")
_STEPS = ("read", "read", "read", "read", "write", "write", "saved", "saved", "end", "nested")
_NESTED = 2


class Programs:
    """What programs of one unit of work are made of.

    Args:
        subject: the unit.
        lacks: the capabilities that the database does not have.
    """

    def __init__(self, subject: Subject, lacks: frozenset[str]) -> None:
        self._lacks = lacks
        self._calls = [self._of(Rows(table)) for table in subject.tables.values()]
        versioned = subject.versioned if "concurrent_writers" not in lacks else ()
        self._versioned = [calls for calls in self._calls if calls.table.name in versioned]

    def _of(self, rows: Rows) -> Calls:
        folds = "unicode_fold" not in self._lacks or getattr(rows.table.repository, "fold", "") == "ascii"
        return Calls(rows, Questions(rows, folds=folds), fresh="fresh_keys" not in self._lacks)

    @property
    def plain(self) -> Mapping[type, Mapping[str, Any]]:
        """The plainest values of entities, by their classes."""
        return {calls.table.entity: calls.rows.plain for calls in self._calls}

    def program(self, dice: Dice) -> Program:
        """A program that begins with some rows."""
        for calls in self._calls:
            calls.rows.turn(dice)
        return (self._seeded(dice), *dice.several(self._unit, 6, 1), self._surveyed(dice))

    # -- units

    def _seeded(self, dice: Dice) -> Unit:
        wanted = [call for calls in self._calls for call in dice.several(calls.seed, 8, 2)]
        return Unit(tuple(Savepoint((call,), "first error") for call in wanted))

    def _unit(self, dice: Dice) -> Unit:
        if dice.once_in(10):
            return Unit(self._steps(dice, _NESTED, 6), "end", read_only=True)
        first = self._rivals(dice) if self._versioned and dice.once_in(4) else ()
        return Unit((*first, *self._steps(dice, 0, 12)), dice.of(_LEAVINGS))

    def _surveyed(self, dice: Dice) -> Unit:
        """What a program ends with: questions about all that it left."""
        chosen = dice.several(lambda dice: dice.of(self._calls), 4, 1)
        return Unit(tuple(call for calls in chosen for call in calls.survey(dice)), read_only=True)

    def _rivals(self, dice: Dice) -> tuple[Step, ...]:
        """Reads, and then another unit that writes what was read."""
        reads = dice.several(lambda dice: dice.of(self._versioned).read(dice), 2, 1)
        calls = dice.several(lambda dice: dice.of(self._versioned).write(dice), 3, 1)
        steps = tuple(Savepoint((call,), "first error") for call in calls)
        return (*reads, Meanwhile(Unit(steps, dice.of(_LEAVINGS))))

    # -- steps

    def _steps(self, dice: Dice, depth: int, most: int) -> tuple[Step, ...]:
        return tuple(dice.several(lambda dice: self._step(dice, depth), most))

    def _step(self, dice: Dice, depth: int) -> Step:
        calls = dice.of(self._calls)
        match dice.of(_STEPS[: -2 if depth >= _NESTED else None]):
            case "read":
                return calls.read(dice)
            case "write":
                return calls.write(dice)
            case "saved":
                return Savepoint((calls.write(dice),), "first error")
            case "end":
                return End(dice.of(("commit", "rollback")))
            case _:
                return Savepoint(self._steps(dice, depth + 1, 6), dice.of(_LEAVINGS))

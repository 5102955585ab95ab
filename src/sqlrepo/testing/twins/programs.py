"""Strategies for whole programs: units of work one after another, with savepoints, rollbacks and rivals.

Knows how steps nest. Must not know what the calls are about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from sqlrepo.testing.twins.calls import Calls
from sqlrepo.testing.twins.questions import Questions
from sqlrepo.testing.twins.rows import Draw, Rows
from sqlrepo.testing.twins.steps import Call, End, Meanwhile, Program, Savepoint, Step, Unit, Walk
from sqlrepo.testing.twins.subject import Subject

__all__ = ["programs"]

_LEAVINGS = st.sampled_from(("end", "end", "end", "first error", "exception"))
_NESTED = 2


class Programs:
    """What programs of one unit of work are made of.

    Args:
        subject: the unit.
        lacks: the capabilities that the database does not have.
    """

    def __init__(self, subject: Subject, lacks: frozenset[str]) -> None:
        folds = "unicode_fold" not in lacks
        self._calls = [self._of(Rows(table), folds) for table in subject.tables.values()]
        versioned = subject.versioned if "concurrent_writers" not in lacks else ()
        self._versioned = [calls for calls in self._calls if calls.table.name in versioned]

    def _of(self, rows: Rows, folds: bool) -> Calls:
        return Calls(rows, Questions(rows, folds=folds or getattr(rows.table.repository, "fold", "") == "ascii"))

    def program(self, draw: Draw) -> Program:
        """A program that begins with some rows."""
        return (self._seeded(draw), *(self._unit(draw) for _ in range(draw(st.integers(1, 4)))))

    # -- units

    def _seeded(self, draw: Draw) -> Unit:
        wanted = [calls.seed(draw) for calls in self._calls for _ in range(draw(st.integers(0, 4)))]
        return Unit(tuple(Savepoint((call,), "first error") for call in wanted))

    def _unit(self, draw: Draw) -> Unit:
        choice = draw(st.integers(0, 9))
        if choice == 9:  # noqa: PLR2004
            return Unit(tuple(self._step(draw, _NESTED) for _ in range(draw(st.integers(1, 4)))), "end", read_only=True)
        first = self._rivals(draw) if choice in (7, 8) and self._versioned else ()
        steps = [self._step(draw, 0) for _ in range(draw(st.integers(1, 8)))]
        return Unit((*first, *steps), draw(_LEAVINGS))

    def _rivals(self, draw: Draw) -> tuple[Step, ...]:
        """Reads, and then another unit that writes what was read."""
        reads = [draw(st.sampled_from(self._versioned)).read(draw) for _ in range(draw(st.integers(1, 2)))]
        calls = [draw(st.sampled_from(self._versioned)).write(draw) for _ in range(draw(st.integers(1, 3)))]
        steps = tuple(Savepoint((call,), "first error") for call in calls)
        return (*reads, Meanwhile(Unit(steps, draw(_LEAVINGS))))

    # -- steps

    def _step(self, draw: Draw, depth: int) -> Step:
        choice = draw(st.integers(0, 15))
        calls = draw(st.sampled_from(self._calls))
        if choice < 7:  # noqa: PLR2004
            return calls.read(draw)
        if choice < 10 or depth >= _NESTED:  # noqa: PLR2004
            return calls.write(draw)
        if choice < 13:  # noqa: PLR2004
            return Savepoint((calls.write(draw),), "first error")
        if choice == 13:  # noqa: PLR2004
            return End(draw(st.sampled_from(("commit", "rollback"))))
        steps = tuple(self._step(draw, depth + 1) for _ in range(draw(st.integers(0, 4))))
        return Savepoint(steps, draw(_LEAVINGS))


def programs(subject: Subject, lacks: frozenset[str]) -> st.SearchStrategy[Program]:
    """Programs over all repositories of a unit.

    Args:
        subject: the unit.
        lacks: the capabilities that the database does not have.
    """
    source = Programs(subject, lacks)

    @st.composite
    def generated(draw: Any) -> Program:
        return source.program(draw)

    return generated()

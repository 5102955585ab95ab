"""Runs many programs, makes the one that fails short, and tells it as a script.

Knows how many, and what is enough. Must not know what programs are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from sqlrepo.testing.twins.dice import Dice
from sqlrepo.testing.twins.play import Difference, Play, Tally
from sqlrepo.testing.twins.programs import Programs
from sqlrepo.testing.twins.reduce import reduced
from sqlrepo.testing.twins.script import Script
from sqlrepo.testing.twins.steps import Program
from sqlrepo.testing.twins.stores import Stores
from sqlrepo.testing.twins.subject import Subject

__all__ = ["Effort", "Exploration", "PartedError", "UselessError"]

# Of a hundred calls so many must answer, or the programs show nothing but errors.
_ENOUGH = 20

# Numbers that programs begin with, and how many entities each has of a strategy of the user's.
_MOST = 2**62
_SAMPLES = 10

# Programs are long, and a database takes its time.
_UNCHECKED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


class PartedError(AssertionError):
    """Memory and the database part; the text is the script that shows it."""


class UselessError(AssertionError):
    """The programs do nothing, so they show nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is tried.

    Attributes:
        programs: how many programs are made at once.
        operations: rounds of them follow until so many calls were made,
        seconds: or so much time has passed.
        seed: what the programs depend on; None for other ones each time.
        shrink: whether a program that fails is made as short as can be.
    """

    programs: int = 50
    operations: int = 0
    seconds: float = 900
    seed: int | None = 0
    shrink: bool = True


class Exploration:
    """The programs that are run on one database.

    Args:
        subject: the unit of work.
        stores: memory and the database.
        effort: how much is tried.
    """

    def __init__(self, subject: Subject, stores: Stores, effort: Effort) -> None:
        self._subject = subject
        self._stores = stores
        self._effort = effort
        self._lacks = stores.lacks()
        self._programs = Programs(subject, self._lacks)
        self._given = {
            name: st.lists(table.entities, min_size=_SAMPLES, max_size=_SAMPLES)
            for name, table in subject.tables.items()
            if table.entities is not None
        }
        self.tally = Tally()

    def __str__(self) -> str:
        return f"{self._stores.name}: {self.tally.operations} operations, 0 differences, seed {self._effort.seed}"

    def run(self) -> None:
        """Run programs.

        Raises:
            PartedError: memory and the database part.
            UselessError: hardly a call was answered, or found anything.
        """
        rounds = 0
        end = monotonic() + self._effort.seconds
        while not rounds or (self.tally.operations < self._effort.operations and monotonic() < end):
            before = self.tally.operations
            if (failed := self._round(rounds)) is not None:
                raise PartedError(self._told(self._shortest(failed) if self._effort.shrink else failed))
            rounds += 1
            if self.tally.operations == before:
                break
        self._require_use()

    def check(self, program: Program) -> None:
        """Run one program.

        Raises:
            Difference: memory and the database part.
        """
        self._stores.renew()
        Play(self._subject, self._stores, self._lacks, self.tally).program(program)

    def _round(self, number: int) -> Program | None:
        """Run some programs, and give the first one that fails."""
        effort, failed = self._effort, list[Program]()

        @settings(
            max_examples=effort.programs,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=_UNCHECKED,
        )
        @given(st.integers(0, _MOST), st.fixed_dictionaries(self._given))
        def agree(start: int, given: Mapping[str, Sequence[Any]]) -> None:
            program = self._programs.program(Dice(start, given))
            try:
                self.check(program)
            except Difference:
                failed.append(program)
                raise

        try:
            (agree if effort.seed is None else seeded(effort.seed + number)(agree))()
        except Difference:
            return failed[-1]
        return None

    def _shortest(self, program: Program) -> Program:
        return reduced(program, self._fails, self._programs.plain)

    def _fails(self, program: Program) -> bool:
        try:
            self.check(program)
        except Difference:
            return True
        return False

    def _told(self, program: Program) -> str:
        """The script of a program that fails, written while it runs once more."""
        script = Script(self._subject)
        self._stores.renew()
        try:
            Play(self._subject, self._stores, self._lacks, Tally(), script).program(program)
        except Difference as found:
            text = script.written(found.answers, self._stores.name, self._stores.url)
            return f"memory and {self._stores.name} part at the last step of this program:\n\n{text}"
        return f"memory and {self._stores.name} parted once, and not again, in {program!r}"

    def _require_use(self) -> None:
        tally = self.tally
        useful = tally.found and tally.stored and tally.answered * 100 >= tally.operations * _ENOUGH
        if not useful:
            raise UselessError(
                f"the programs show nothing: of {tally.operations} operations {tally.answered} answered, {tally.found} "
                f"with something, and {tally.stored} rows were stored; give `entities`, strategies for what the tables "
                "take"
            )

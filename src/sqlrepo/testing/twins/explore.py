"""Runs many programs: Hypothesis makes them, shrinks the one that fails, and the script of it is the failure's text.

Knows how many, and what is enough. Must not know what programs are.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from sqlrepo.testing.twins.play import Difference, Play, Tally
from sqlrepo.testing.twins.programs import programs
from sqlrepo.testing.twins.reduce import reduced
from sqlrepo.testing.twins.script import Script
from sqlrepo.testing.twins.steps import Program
from sqlrepo.testing.twins.stores import Stores
from sqlrepo.testing.twins.subject import Subject

__all__ = ["Effort", "Exploration"]

# Of a hundred calls so many must answer, or the programs show nothing but errors.
_ENOUGH = 20


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


@dataclass(frozen=True, slots=True, repr=False)
class _Example:
    """A program whose text Hypothesis need not write; the script is what is shown."""

    program: Program


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
        self.tally = Tally()

    def __str__(self) -> str:
        return f"{self._stores.name}: {self.tally.operations} operations, 0 differences, seed {self._effort.seed}"

    def run(self) -> None:
        """Run programs.

        Raises:
            AssertionError: memory and the database part, which the text shows; or the programs do nothing.
        """
        rounds = 0
        end = monotonic() + self._effort.seconds
        while not rounds or (self.tally.operations < self._effort.operations and monotonic() < end):
            before = self.tally.operations
            if (failed := self._round(rounds)) is not None:
                raise AssertionError(self._told(reduced(failed, self._fails) if self._effort.shrink else failed))
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
        """Run some programs, and give the one that fails."""
        failed: list[Program] = []

        @settings(
            max_examples=self._effort.programs,
            phases=[Phase.generate, *([Phase.shrink] if self._effort.shrink else [])],
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=tuple(HealthCheck.__members__.values()),
        )
        @given(programs(self._subject, self._lacks).map(_Example))
        def agree(example: _Example) -> None:
            try:
                self.check(example.program)
            except Difference:
                failed.append(example.program)
                raise

        try:
            (agree if self._effort.seed is None else seeded(self._effort.seed + number)(agree))()
        except Difference:
            return failed[-1]
        return None

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
        assert useful, (
            f"the programs show nothing: of {tally.operations} operations {tally.answered} answered, {tally.found} "
            f"with something, and {tally.stored} rows were stored; give strategies for entities that the tables take"
        )

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
from sqlrepo.testing.twins.reduce import reduced, size
from sqlrepo.testing.twins.script import Script
from sqlrepo.testing.twins.steps import Program
from sqlrepo.testing.twins.stores import Stores
from sqlrepo.testing.twins.subject import Subject

__all__ = ["Effort", "Exploration", "PartedError", "UselessError"]

# Of a hundred calls so many must answer, or the programs show nothing but errors.
_ENOUGH = 20

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
        shrink: so many seconds Hypothesis may make a program shorter that fails, before what is left is tried step by
            step; 0 for neither.
    """

    programs: int = 50
    operations: int = 0
    seconds: float = 900
    seed: int | None = 0
    shrink: float = 10


class _Example:
    """A program whose text Hypothesis need not write; the script is what is shown."""

    __slots__ = ("program",)

    def __init__(self, program: Program) -> None:
        self.program = program

    def __repr__(self) -> str:
        return f"{size(self.program)} steps"


class _EnoughError(BaseException):
    """Hypothesis has shrunk for long enough; it lets pass what is no `Exception`."""


class _Failed:
    """The programs that failed.

    Args:
        seconds: how long Hypothesis may make the first one shorter.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None
        self.shortest: Program | None = None

    def note(self, program: Program) -> None:
        """Keep a program if it is the shortest."""
        self._end = self._end or monotonic() + self._seconds
        if self.shortest is None or size(program) <= size(self.shortest):
            self.shortest = program

    def require_time(self) -> None:
        """Go on as long as there is time.

        Raises:
            _EnoughError: there is none left.
        """
        if self._seconds and self._end is not None and monotonic() > self._end:
            raise _EnoughError


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
            PartedError: memory and the database part.
            UselessError: hardly a call was answered, or found anything.
        """
        rounds = 0
        end = monotonic() + self._effort.seconds
        while not rounds or (self.tally.operations < self._effort.operations and monotonic() < end):
            before = self.tally.operations
            if (failed := self._round(rounds)) is not None:
                raise PartedError(self._told(reduced(failed, self._fails) if self._effort.shrink else failed))
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
        """Run some programs, and give the one that fails; of those that Hypothesis made of it the shortest."""
        effort, failed = self._effort, _Failed(self._effort.shrink)

        @settings(
            max_examples=effort.programs,
            phases=[Phase.generate, *([Phase.shrink] if effort.shrink else [])],
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=_UNCHECKED,
        )
        @given(programs(self._subject, self._lacks).map(_Example))
        def agree(example: _Example) -> None:
            failed.require_time()
            try:
                self.check(example.program)
            except Difference:
                failed.note(example.program)
                raise

        try:
            (agree if effort.seed is None else seeded(effort.seed + number)(agree))()
        except (Difference, _EnoughError):
            return failed.shortest
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
        if not useful:
            raise UselessError(
                f"the programs show nothing: of {tally.operations} operations {tally.answered} answered, {tally.found} "
                f"with something, and {tally.stored} rows were stored; give `entities`, strategies for what the tables "
                "take"
            )

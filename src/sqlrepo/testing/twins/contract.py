"""The twin as a class to derive from: random programs on memory and on your database must come to the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing.twins.comparison import Difference, Play, Tally
from sqlrepo.testing.twins.generation import Dice, Programs
from sqlrepo.testing.twins.model import Program, Subject
from sqlrepo.testing.twins.report import Script, reduced
from sqlrepo.testing.twins.stores import Stores

# Of a hundred calls so many must answer, or the programs show nothing but errors.
_ENOUGH = 20

# Numbers that programs begin with, and how many entities each has of a strategy of the user's.
_MOST = 2**62
_SAMPLES = 10

# Programs are long, and a database takes its time.
_UNCHECKED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


class DivergenceError(AssertionError):
    """Memory and the database part; the text is the script that shows it."""


class NothingExercisedError(AssertionError):
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
        self._lacks = stores.missing()
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
                raise DivergenceError(self._told(self._shortest(failed) if self._effort.shrink else failed))
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
            raise NothingExercisedError(
                f"the programs show nothing: of {tally.operations} operations {tally.answered} answered, {tally.found} "
                f"with something, and {tally.stored} rows were stored; give `entities`, strategies for what the tables "
                "take"
            )


#: The property of a test's report that holds what was run.
TWINS = "sqlrepo_twins"

#: What a profile tries; the class or the environment chooses one.
PROFILES: Mapping[str, Effort] = {
    "quick": Effort(programs=40),
    "thorough": Effort(programs=500, operations=100_000),
}


class _NotCollected:
    """``__test__`` of the contract itself; its subclasses have none, so pytest judges them by their names."""

    def __get__(self, instance: object, owner: type) -> bool:
        if owner.__module__ == __name__:
            return False
        raise AttributeError("__test__")


class TwinContract:
    """Random programs over a unit of work, run on memory and on a database, which must agree in all they come to.

    ::

        class TestShopTwins(TwinContract):
            unit = Shop
            queries = {"todos": TodoQuery}
            url = "postgresql+psycopg://postgres@localhost/shop_twins"

    Each program is several units of work: calls of all repositories, savepoints, early ends, exceptions, writes that
    the tables refuse. Results, order, errors and what is stored at last are compared; generated keys by the order of
    their creation. A program that fails is made as short as can be and printed as Python.

    The database must be the test's own: tables that are missing are made, **and all rows in the unit's tables are
    deleted**, again and again. It is refused if there are any at first, unless you say `may_empty`.

    Attributes:
        unit: a subclass of `BaseUnitOfWork` or `AsyncBaseUnitOfWork`, whose annotations declare repositories.
        queries: query objects, or tuples of several, by repository.
        entities: Hypothesis strategies for entities, by repository, where the usual values do not do.
        url: the database; override the fixture `database` instead where it is not known before.
        context: what the units are given.
        profile: ``quick`` or ``thorough``; by default what the environment's ``SQLREPO_TWINS`` says, or ``quick``.
        programs: how many programs are made; the profile's number by default.
        operations: how many calls there must be at least; the profile's number by default.
        seed: what the programs depend on; None for other ones in each run.
        may_empty: whether rows that are there at first may be deleted.
    """

    __test__: Any = _NotCollected()

    unit: ClassVar[type[Any]]
    queries: ClassVar[Mapping[str, Any]] = {}
    entities: ClassVar[Mapping[str, Any]] = {}
    url: ClassVar[Any] = None
    context: ClassVar[Any] = None
    profile: ClassVar[Literal["quick", "thorough"] | None] = None
    programs: ClassVar[int | None] = None
    operations: ClassVar[int | None] = None
    seed: ClassVar[int | None] = 0
    may_empty: ClassVar[bool] = False

    @pytest.fixture
    def database(self) -> Any:
        """The database: a `Database`, for async units an `AsyncDatabase`; override it to give one of your own."""
        if self.url is None:
            raise TypeError(f"{type(self).__name__} needs a url, or a fixture `database`")
        return (AsyncDatabase if Subject(self.unit).asynchronous else Database)(self.url)

    @pytest.fixture
    def exploration(self, database: Any) -> Iterator[Exploration]:
        """The programs to run, over tables that are there and empty."""
        subject = Subject(self.unit, self.queries, self.entities)
        stores = Stores(subject, database, self.context)
        try:
            stores.create()
            if not self.may_empty:
                stores.refuse_rows()
            yield Exploration(subject, stores, self.effort())
            stores.renew()
        finally:
            stores.close()

    def effort(self) -> Effort:
        """How much is tried."""
        profile = PROFILES[self.profile or os.environ.get("SQLREPO_TWINS") or "quick"]
        return Effort(
            programs=self.programs or profile.programs,
            operations=profile.operations if self.operations is None else self.operations,
            seed=self.seed,
        )

    def test_memory_and_the_database_agree(
        self, exploration: Exploration, record_property: Callable[[str, object], None]
    ) -> None:
        """Run the programs."""
        __tracebackhide__ = True
        exploration.run()
        record_property(TWINS, str(exploration))

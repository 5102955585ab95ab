"""The twins as a test class: random programs must have equal outcomes in memory and on your database."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sqlrepo.testing.harness import NotCollected
from sqlrepo.testing.twins.comparison import Difference, Runner, Tally
from sqlrepo.testing.twins.generation import ProgramGenerator
from sqlrepo.testing.twins.model import Program, UnitUnderTest
from sqlrepo.testing.twins.report import Report, reduce_program
from sqlrepo.testing.twins.stores import Stores, connect

# The percentage of calls that must return, or the programs would show nothing but errors.
_ENOUGH = 20

# A query object that was used so often should have been used with each of its fields.
_USED_OFTEN = 50

# No seed of a program is as high; and the number of entities that each gets from a strategy of the user's.
_HIGHEST_SEED = 2**62
_SAMPLES = 10

# Programs are long, and a database takes its time.
_UNCHECKED = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


class DivergenceError(AssertionError):
    """Memory and the database give different outcomes; the message is a script that shows it."""


class NothingExercisedError(AssertionError):
    """The programs prove nothing, or nothing about a filter: hardly a call returned, or it was never used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many programs a run tries: `programs` at a time until `operations` calls or `seconds` are reached."""

    programs: int = 50
    operations: int = 0
    seconds: float = 900
    #: None for different programs each time.
    seed: int | None = 0
    #: False to report a failing program as it is, without reducing it.
    reduce: bool = True


class Run:
    """A run of random programs in memory and on a database."""

    def __init__(self, stores: Stores, effort: Effort) -> None:
        self._stores = stores
        self._effort = effort
        self._programs = ProgramGenerator(stores.subject, stores.missing)
        self._strategies = {
            name: st.lists(table.strategy, min_size=_SAMPLES, max_size=_SAMPLES)
            for name, table in stores.subject.tables.items()
            if table.strategy is not None
        }
        self.tally = Tally()

    def __str__(self) -> str:
        done = f"{self._stores.name}: {self.tally.operations} operations, 0 differences, seed {self._effort.seed}"
        return f"{done}; never used: {', '.join(self.unused)}" if self.unused else done

    @property
    def unused(self) -> dict[str, int]:
        """The fields of query objects that no program has given a value, and how often each class was used."""
        classes = [cls for table in self._stores.subject.tables.values() for cls in table.queries]
        filters, queries = self.tally.filters, self.tally.queries
        found = {f"{cls.__name__}.{name}": (cls, name) for cls in classes for name in cls.model_fields}
        return {text: queries[cls] for text, (cls, name) in found.items() if not filters[cls, name]}

    def execute(self) -> None:
        """Run programs until there are enough.

        Raises:
            DivergenceError: memory and the database differ.
            NothingExercisedError: the programs prove nothing.
        """
        rounds = 0
        end = monotonic() + self._effort.seconds
        while not rounds or (not self._is_enough and self._effort.operations and monotonic() < end):
            before = self.tally.operations
            if (failed := self._find_difference(rounds)) is not None:
                raise DivergenceError(self._report(*failed)) from None
            rounds += 1
            if self.tally.operations == before:
                break
        self._require_use()

    @property
    def _is_enough(self) -> bool:
        return 0 < self._effort.operations <= self.tally.operations

    def _find_difference(self, number: int) -> tuple[Program, int] | None:
        """Run one round of programs; return the one that fails, if any, and the relation that does not hold."""
        effort, failed = self._effort, list[tuple[Program, int]]()
        # Not drawn by Hypothesis, which prefers constants of the modules that the process happens to have loaded.
        seeds = Random() if effort.seed is None else Random(effort.seed + number)  # noqa: S311  # programs, no secrets

        @settings(
            max_examples=effort.programs,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=_UNCHECKED,
        )
        @given(st.integers(0, _HIGHEST_SEED), st.fixed_dictionaries(self._strategies))
        def agree(_: int, entities: Mapping[str, Sequence[Any]]) -> None:
            if failed or self._is_enough:
                return
            program = self._programs.program(seeds.randrange(_HIGHEST_SEED), entities)
            if (found := self._difference(program)) is not None:
                failed.append((program, found.number))

        (agree if effort.seed is None else seed(effort.seed + number)(agree))()
        return failed[0] if failed else None

    def _difference(self, program: Program, relation: int | None = None) -> Difference | None:
        self._stores.reset()
        try:
            Runner(self._stores, self.tally, relation).run(program)
        except Difference as found:
            return found
        return None

    def _report(self, program: Program, relation: int) -> str:
        """Write the script of a failing program while it runs once more."""

        def fails(shorter: Program) -> bool:
            return self._difference(shorter, relation) is not None

        if self._effort.reduce:
            program = reduce_program(program, fails, self._programs.plainest)
        report = Report(self._stores, relation)
        self._stores.reset()
        try:
            report.run(program)
        except Difference as found:
            return report.script(found)
        return f"memory and {self._stores.name} differed once, but not when the program ran again: {program!r}"

    def _require_use(self) -> None:
        tally = self.tally
        if not tally.found or not tally.stored or tally.returned * 100 < tally.operations * _ENOUGH:
            raise NothingExercisedError(
                f"the programs prove nothing: of {tally.operations} calls {tally.returned} returned, {tally.found} "
                f"found something, and {tally.stored} rows were stored; set `entities` to Hypothesis strategies for "
                "entities that the tables accept"
            )
        if unused := self.unused:
            message = (
                f"the programs never used {', '.join(unused)}, so nothing is known of how memory and the database "
                "compare there; if the class accepts no sample value, give the field examples, as in "
                "`Field(None, examples=['A-1'])`, or set `entities` to a strategy, whose values filters take as well"
            )
            if max(unused.values()) >= _USED_OFTEN:
                raise NothingExercisedError(message)
            warnings.warn(message, stacklevel=2)


#: The property of a test's report that says what was run.
TWINS = "sqlrepo_twins"

#: The class or the environment chooses one.
PROFILES: Mapping[str, Effort] = {
    "quick": Effort(programs=40),
    "thorough": Effort(programs=500, operations=100_000),
}


class TwinContract:
    """Test that random programs over a unit of work have equal outcomes in memory and on a database.

    ::

        class TestShopTwins(TwinContract):
            unit = Shop
            queries = {"todos": TodoQuery}
            url = "postgresql+psycopg://postgres@localhost/shop_twins"

    Each program is several units of work: calls of all repositories, savepoints, early ends, exceptions, and writes
    that the tables refuse. Results, order, errors and the final contents are compared; generated keys by the order in
    which their rows were created. A failing program is reduced and printed as a Python script.

    The database must be the test's own: missing tables are created, **and all rows in the unit's tables are deleted**,
    again and again. The test refuses to start if there are any rows, unless you set `may_empty`.

    Attributes:
        unit: a subclass of `BaseUnitOfWork` or `AsyncBaseUnitOfWork`, whose annotations declare repositories.
        queries: a query object class, or a tuple of several, by repository.
        entities: Hypothesis strategies for entities, by repository, where a class accepts none of the sample values.
        normalises: the fields that a repository changes on purpose, such as a name in lower case, by repository. All
            others must come back from a write as they were given.
        generated: the fields that are set whatever the entity says, by a trigger or by `to_row`, by repository. Only
            their types are compared. Defaults, `onupdate` and generated keys are known from the table.
        url: the database; override the fixture `database` instead if the address is not known in advance.
        context: the `context` of the units.
        profile: ``quick`` or ``thorough``; by default the value of the environment variable ``SQLREPO_TWINS``, or
            ``quick``.
        programs: the number of programs in a round; the profile's number by default.
        operations: the number of calls that rounds are repeated for; the profile's number by default.
        seed: decides the programs; None for different ones in each run.
        may_empty: True if rows that exist at the start may be deleted.
    """

    __test__: Any = NotCollected()

    unit: ClassVar[type[Any]]
    queries: ClassVar[Mapping[str, Any]] = {}
    entities: ClassVar[Mapping[str, Any]] = {}
    normalises: ClassVar[Mapping[str, Collection[str]]] = {}
    generated: ClassVar[Mapping[str, Collection[str]]] = {}
    url: ClassVar[Any] = None
    context: ClassVar[Any] = None
    profile: ClassVar[Literal["quick", "thorough"] | None] = None
    programs: ClassVar[int | None] = None
    operations: ClassVar[int | None] = None
    seed: ClassVar[int | None] = 0
    may_empty: ClassVar[bool] = False

    @pytest.fixture
    def database(self) -> Any:
        """Connect to `url`; override it to return a `Database`, or for async units an `AsyncDatabase`, of your own."""
        if self.url is None:
            raise TypeError(f"{type(self).__name__} has no database: set `url`, or override the fixture `database`")
        return connect(self.unit, self.url)

    @pytest.fixture
    def run(self, database: Any) -> Iterator[Run]:
        """Prepare a run on empty tables."""
        named = {"normalises": self.normalises, "generated": self.generated}
        subject = UnitUnderTest(self.unit, self.queries, self.entities, **named)
        stores = Stores(subject, database, self.context, type(self))
        try:
            stores.create_tables()
            if not self.may_empty:
                stores.require_empty()
            yield Run(stores, self.effort())
            stores.reset()
        finally:
            stores.close()

    def effort(self) -> Effort:
        """Combine the profile with the numbers that the class sets."""
        profile = PROFILES[self.profile or os.environ.get("SQLREPO_TWINS") or "quick"]
        return Effort(
            programs=self.programs or profile.programs,
            operations=profile.operations if self.operations is None else self.operations,
            seed=self.seed,
        )

    def test_memory_and_the_database_agree(self, run: Run, record_property: Callable[[str, object], None]) -> None:
        """Run the programs."""
        script = None
        try:
            run.execute()
        except DivergenceError as difference:
            script = str(difference)
        if script is not None:
            pytest.fail(script, pytrace=False)  # prints the script and nothing else
        record_property(TWINS, str(run))

"""What tests plant in units of work, and what they count of them: failures, and statements.

Knows which probes are open, in the whole process. Must not know units or backends; they ask here, and report here.
"""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Literal, Self, TypeAlias, TypeVar, cast, get_args

from sqlrepo.driver import AsyncSource, Source, is_source
from sqlrepo.errors import nearest
from sqlrepo.forks import ForkSafeLock

__all__ = [
    "FaultNotMetError",
    "PlantedFault",
    "QueryBudget",
    "QueryBudgetError",
    "Verb",
    "active",
    "counting",
    "fail_next",
    "planted",
    "query_budget",
    "sent",
]

#: What a unit of work asks of its backend, by the names of `Driver`; "begin" is the source's.
Verb: TypeAlias = Literal[
    "begin",
    "fetch",
    "count",
    "insert",
    "update",
    "upsert",
    "delete",
    "savepoint",
    "release",
    "rollback_to",
    "commit",
    "rollback",
]


_VERBS: tuple[Verb, ...] = get_args(Verb)

# A message that lists more statements than this is not read.
_SHOWN = 30


class QueryBudgetError(AssertionError):
    """More statements were sent than a test allows.

    Attributes:
        limit: how many were allowed.
        count: how many were sent.
        statements: they, in order; without the values.
    """

    def __init__(self, limit: int, statements: tuple[str, ...]) -> None:
        super().__init__(limit, statements)
        self.limit = limit
        self.count = len(statements)
        self.statements = statements

    def __str__(self) -> str:
        shown = self.statements[:_SHOWN]
        lines = [f"\n  {number}. {statement}" for number, statement in enumerate(shown, start=1)]
        more = "\n  ..." if self.count > _SHOWN else ""
        return f"{self.count} statements were sent, {self.limit} are allowed:{''.join(lines)}{more}"


class FaultNotMetError(AssertionError):
    """A failure was planted that nothing met.

    Attributes:
        verb: what was to fail.
        error: what it was to fail with.
    """

    def __init__(self, verb: Verb, error: BaseException) -> None:
        super().__init__(verb, error)
        self.verb = verb
        self.error = error

    def __str__(self) -> str:
        return f"no {self.verb} met the planted {type(self.error).__name__}"


P = TypeVar("P")


class _Opened(Generic[P]):
    """The probes that are open; threads open and close them, and units read them without waiting for a lock."""

    __slots__ = ("guard", "probes")

    def __init__(self) -> None:
        self.guard = ForkSafeLock()
        self.probes: tuple[P, ...] = ()

    def open(self, probe: P) -> None:
        with self.guard.lock:
            if probe in self.probes:
                raise RuntimeError(f"this {type(probe).__name__} is open already")
            self.probes = (*self.probes, probe)

    def close(self, probe: P) -> None:
        with self.guard.lock:
            self.probes = tuple(one for one in self.probes if one is not probe)


class QueryBudget:
    """How many statements may be sent, and which were; made by `query_budget`.

    Attributes:
        limit: how many may be.
    """

    def __init__(self, limit: int, on: Source | None) -> None:
        self.limit = limit
        self._on = on
        self._statements: list[str] = []

    @property
    def statements(self) -> tuple[str, ...]:
        """What was sent inside the block, in order; without the values."""
        return tuple(self._statements)

    @property
    def count(self) -> int:
        """How many statements were sent."""
        return len(self._statements)

    def __enter__(self) -> Self:
        _BUDGETS.open(self)
        self._statements.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _BUDGETS.close(self)
        if error is None and self.count > self.limit:
            raise QueryBudgetError(self.limit, self.statements)

    def spend(self, statement: str, sources: tuple[Source, ...]) -> None:
        """Count a statement, if it went where the budget is for."""
        if any(_covers(self._on, source) for source in sources):
            self._statements.append(statement)


class PlantedFault:
    """A failure that waits for the next of something; made by `fail_next`.

    Attributes:
        verb: what fails.
        error: what it fails with.
        met: whether it has happened.
    """

    def __init__(self, verb: Verb, error: BaseException, on: Source | None) -> None:
        self.verb: Verb = verb
        self.error = error
        self.met = False
        self._on = on

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.disarm()
        if error is None and not self.met:
            raise FaultNotMetError(self.verb, self.error)

    def disarm(self) -> None:
        """Take the failure away, if nothing has met it."""
        _FAULTS.close(self)

    def waits_for(self, verb: Verb, source: Source) -> bool:
        """Whether this is what it waits for."""
        return verb == self.verb and _covers(self._on, source)


_BUDGETS: _Opened[QueryBudget] = _Opened()
_FAULTS: _Opened[PlantedFault] = _Opened()


# -- for tests


def query_budget(limit: int, *, on: Source | AsyncSource | None = None) -> QueryBudget:
    """Let a block send so many statements and no more, and tell which it sent.

    ``with query_budget(3): ...``. What repositories and units of work send counts, whichever thread or task they run
    in, and on a database what is sent through their ``.session`` and ``.connection``. What begins and ends transactions
    and savepoints does not, nor pings, nor what the library asks of a server or a table once. One execution for many
    rows is one, in however many batches it is sent; and one that the database refuses is one. On a database real
    statements are counted, on memory what stands for them ("fetch todo"). The numbers are the same but for these:

    - an upsert is one on memory and PostgreSQL; on SQLite and MariaDB one where it inserts, and where it does not two,
      or three if it changes anything;
    - a given value of a generated key is one more on PostgreSQL, which moves the key's sequence.

    Args:
        limit: how many there may be.
        on: counts what goes to this database only; other tests may use others at the same time.

    Returns:
        a context manager, whose ``count`` and ``statements`` tell what was sent.

    Raises:
        QueryBudgetError: there were more, said on leaving the block normally.
    """
    if limit < 0:
        raise ValueError(f"a budget of {limit} statements; there is none below 0")
    return QueryBudget(limit, _beneath(on))


def fail_next(
    verb: Verb, error: BaseException | type[BaseException], *, on: Source | AsyncSource | None = None
) -> PlantedFault:
    """Let the next of something that a unit of work asks of its backend fail, once, instead of being sent.

    All follows as if the backend had refused it: a failed statement aborts the unit of work, a failed commit undoes
    everything, gives the connection back and drops the callbacks. It is armed by the call. As a context manager it also
    sees to it that the failure was met: ``with fail_next("commit", TransactionConflictError()): ...``.

    Args:
        verb: "begin", "commit", "rollback"; "savepoint", "release", "rollback_to" for savepoints; "fetch" and "count"
            for what reads, "insert", "update", "upsert", "delete" for what writes. Several faults for one verb are met
            in the order they were planted. What goes through ``.session`` meets none.
        error: an exception or its class. A `DatabaseUnavailableError` at "commit" arrives as one that is not
            retryable, as any does there: nobody knows whether the commit took effect.
        on: fails on this database only.

    Returns:
        the planted fault, armed; ``disarm()`` takes it away.

    Raises:
        ValueError: there is no such verb.
        FaultNotMetError: nothing met it, said on leaving its block normally.
    """
    if verb not in _VERBS:
        raise ValueError(f"nothing is called {verb!r}{nearest(str(verb), _VERBS)}")
    made = cast("object", error if isinstance(error, BaseException) else error())
    if not isinstance(made, BaseException):
        raise TypeError(f"{made!r} is no exception, so nothing can fail with it")
    fault = PlantedFault(verb, made, _beneath(on))
    _FAULTS.open(fault)
    return fault


# -- for units of work and backends


def active() -> bool:
    """Whether any probe is open."""
    return bool(_FAULTS.probes or _BUDGETS.probes)


def counting() -> bool:
    """Whether anybody counts statements."""
    return bool(_BUDGETS.probes)


def sent(statement: str, *sources: Source) -> None:
    """Report a statement that is being sent."""
    for budget in _BUDGETS.probes:
        budget.spend(statement, sources)


def planted(verb: Verb, source: Source) -> BaseException | None:
    """Meet the fault that was planted first, if one waits here; it is met once."""
    with _FAULTS.guard.lock:
        fault = next((one for one in _FAULTS.probes if one.waits_for(verb, source)), None)
        if fault is None:
            return None
        _FAULTS.probes = tuple(one for one in _FAULTS.probes if one is not fault)
        fault.met = True
        return fault.error


def _beneath(on: Source | AsyncSource | None) -> Source | None:
    """The synchronous source, by which units know where they are."""
    found = on.source if isinstance(on, AsyncSource) else on
    if found is not None and not is_source(found):
        raise TypeError(f"on={on!r} is no Database, AsyncDatabase or InMemoryDatabase")
    return cast("Source | None", found)


def _covers(on: Source | None, source: Source) -> bool:
    return on is None or _place(on) is _place(source)


def _place(source: Source) -> object:
    """What two sources share that are the same database: units that join a session have one of their own."""
    return getattr(source, "engine", source)

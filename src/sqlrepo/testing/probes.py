"""Test tools for units of work: failures on demand, and limits on the number of statements."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Self, TypeAlias, TypeVar, cast, get_args

from sqlrepo import DatabaseUnavailableError
from sqlrepo.driver import PROBES, AsyncSource, Driver, Source, Transaction, is_source
from sqlrepo.errors import add_failure_note, make_commit_lost_error, nearest

_Statement: TypeAlias = Literal["fetch", "count", "group", "insert", "update", "upsert", "delete"]

#: A method of `Driver`, or "begin", which is a method of sources.
Verb: TypeAlias = Literal[_Statement, "begin", "savepoint", "release", "rollback_to", "commit", "rollback"]

_STATEMENTS: tuple[str, ...] = get_args(_Statement)
_VERBS: tuple[str, ...] = get_args(Verb)

# Nobody reads a message that lists more statements than this.
_SHOWN = 30


class QueryBudgetError(AssertionError):
    """Reports that more statements were sent than a test allows.

    Attributes:
        limit: the number of statements allowed.
        count: the number of statements sent.
        statements: the statements in order, without their values.
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
    """Reports a planted failure that never occurred.

    Attributes:
        verb: the operation that should have failed.
        error: the error that it should have raised.
    """

    def __init__(self, verb: Verb, error: BaseException) -> None:
        super().__init__(verb, error)
        self.verb = verb
        self.error = error

    def __str__(self) -> str:
        return f"nothing called {self.verb!r}, so the planted {type(self.error).__name__} was never raised"


T = TypeVar("T")


class QueryBudget:
    """Counts the statements that a block sends; `query_budget` makes it.

    Attributes:
        limit: the number of statements allowed.
    """

    def __init__(self, limit: int, on: Source | None) -> None:
        self.limit = limit
        self._on = on
        self._statements: list[str] = []

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements sent inside the block, in order, without their values."""
        return tuple(self._statements)

    @property
    def count(self) -> int:
        """The number of statements sent."""
        return len(self._statements)

    def __enter__(self) -> Self:
        if self in _BUDGETS:
            raise RuntimeError("this query budget is open already; make one for each block")
        self._statements.clear()
        _BUDGETS.append(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        _remove(_BUDGETS, self)
        if error is None and self.count > self.limit:
            raise QueryBudgetError(self.limit, self.statements)

    def _record(self, statement: str, sources: Sequence[Source]) -> None:
        if any(_covers(self._on, source) for source in sources):
            self._statements.append(statement)


class PlantedFault:
    """An error that the next matching operation raises; `fail_next` makes it.

    Attributes:
        verb: the operation that fails.
        error: the error that it raises.
        met: True once it was raised.
    """

    def __init__(self, verb: Verb, error: BaseException, on: Source | None) -> None:
        self.verb: Verb = verb
        self.error = error
        self.met = False
        self._on = on

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.disarm()
        if error is None and not self.met:
            raise FaultNotMetError(self.verb, self.error)

    def disarm(self) -> None:
        """Remove the fault if nothing has met it."""
        _remove(_FAULTS, self)

    def _matches(self, verb: str, source: Source) -> bool:
        return verb == self.verb and _covers(self._on, source)


# The probes that are open. Each use is one operation on a list or on a copy, so threads need no lock.
_BUDGETS: list[QueryBudget] = []
_FAULTS: list[PlantedFault] = []
_CALLS: list[Callable[[], None]] = []


def _remove(probes: list[T], probe: T) -> bool:
    """Remove a probe; return False if another thread or its own end removed it first."""
    try:
        probes.remove(probe)
    except ValueError:
        return False
    return True


def query_budget(limit: int, *, on: Source | AsyncSource | None = None) -> QueryBudget:
    """Limit the number of statements that a block may send, and list those it sent.

    ``with query_budget(3): ...`` counts what repositories and units of work send, in any thread or task, and on a
    database also what is sent through their ``.session`` and ``.connection``. It does not count statements that begin
    or end a transaction or a savepoint, pings, or what the library asks once about a server or a table. An execution
    for many rows counts once, in however many batches it is sent; so does one that the database refuses. In memory,
    each operation on a table counts once ("fetch todo"). The numbers agree on all backends, with these exceptions:

    - an upsert counts once in memory and on PostgreSQL; on SQLite and MariaDB once if it inserts, twice if it changes
      nothing, and three times otherwise;
    - on PostgreSQL, inserting a given value of a generated key takes one more, to move the key's sequence.

    Args:
        limit: the number of statements allowed.
        on: the database to count on; all databases by default.

    Returns:
        a context manager, with the statements sent in ``count`` and ``statements``.

    Raises:
        QueryBudgetError: when the block ends normally and has sent more.
    """
    if limit < 0:
        raise ValueError(f"query_budget({limit}) cannot be kept; give 0 or more")
    return QueryBudget(limit, _sync_source(on))


def fail_next(
    verb: Verb, error: BaseException | type[BaseException], *, on: Source | AsyncSource | None = None
) -> PlantedFault:
    """Make the next operation of one kind raise an error, once, instead of reaching the backend.

    What follows is what follows an error of the backend: a failed statement aborts the unit of work; a failed commit
    undoes everything, returns the connection and drops the callbacks. The call itself arms the fault. Used as a context
    manager, the fault must also be met: ``with fail_next("commit", TransactionConflictError()): ...``.

    Args:
        verb: "begin", "commit", "rollback"; "savepoint", "release" or "rollback_to" for savepoints; "fetch", "count"
            or "group" for reads; "insert", "update", "upsert" or "delete" for writes. Several faults for one verb are
            met in the order of their planting. Statements sent through ``.session`` meet none.
        error: an exception or its class. At "commit", a `DatabaseUnavailableError` arrives as one that is not
            retryable, as a real one does: nobody knows whether the commit took effect.
        on: the database to fail on; any by default.

    Returns:
        the armed fault; its ``disarm()`` removes it.

    Raises:
        ValueError: there is no such verb.
        FaultNotMetError: when its block ends normally and nothing met the fault.
    """
    if verb not in _VERBS:
        raise ValueError(f"fail_next() has no verb {verb!r}{nearest(str(verb), _VERBS)}")
    raised = cast("object", error if isinstance(error, BaseException) else error())
    if not isinstance(raised, BaseException):
        raise TypeError(f"fail_next({verb!r}, ...) needs an exception or an exception class, got {error!r}")
    fault = PlantedFault(verb, raised, _sync_source(on))
    _FAULTS.append(fault)
    return fault


def _sync_source(on: Source | AsyncSource | None) -> Source | None:
    """The synchronous source, which drivers are given also for async units."""
    found = on.source if isinstance(on, AsyncSource) else on
    if found is not None and not is_source(found):
        raise TypeError(f"on= needs a Database, AsyncDatabase or InMemoryDatabase, got {on!r}")
    return cast("Source | None", found)


def _covers(on: Source | None, source: Source) -> bool:
    """Compare databases; units that join a session have a source of their own, on the same engine."""
    return on is None or getattr(on, "engine", on) is getattr(source, "engine", source)


@contextmanager
def call_during(work: Callable[[], None]) -> Generator[None]:
    """Call a function in the middle of the next operation, and check that there was one."""
    _CALLS.append(work)
    try:
        yield
    finally:
        waiting = _remove(_CALLS, work)
    assert not waiting, "no operation reached a driver"


def is_active() -> bool:
    """Return True if any test tool waits for an operation."""
    return bool(_FAULTS or _BUDGETS or _CALLS)


def _take_fault(verb: str, source: Source) -> BaseException | None:
    """Remove the fault that was planted first for an operation, so that it is met once."""
    for fault in tuple(_FAULTS):
        if fault._matches(verb, source) and _remove(_FAULTS, fault):  # noqa: SLF001  # of this file
            fault.met = True
            return fault.error
    return None


class _Probe:
    """What faults and budgets need of the seam; the one entry that this module adds to `PROBES`."""

    @property
    def counts_statements(self) -> bool:
        return bool(_BUDGETS)

    def before_begin(self, source: Source) -> None:
        if (error := _take_fault("begin", source)) is not None:
            raise error

    def wrap(self, driver: Driver, source: Source, transaction: Transaction) -> Driver:
        return cast("Driver", ProbedDriver(driver, source, transaction)) if is_active() else driver

    def statement_sent(self, statement: str, sources: Sequence[Source]) -> None:
        for budget in tuple(_BUDGETS):
            budget._record(statement, sources)  # noqa: SLF001  # of this file


_PROBE = _Probe()
PROBES.append(_PROBE)


class ProbedDriver:
    """A driver whose operations meet planted faults and are counted."""

    def __init__(self, driver: Driver, source: Source, transaction: Transaction) -> None:
        self._driver = driver
        self._source = source
        self._transaction = transaction

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        verb = name.removesuffix("_each")
        return partial(self._call, verb, found) if verb in _VERBS else found

    def _call(self, verb: str, operation: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        for work in tuple(_CALLS):
            if _remove(_CALLS, work):
                work()
        if (error := _take_fault(verb, self._source)) is not None:
            self._fail(verb, error, *arguments)
            raise error
        if verb in _STATEMENTS and not self._driver.reports_statements:
            _PROBE.statement_sent(f"{verb} {arguments[0].name}", [self._source])
        return operation(*arguments, **options)

    def _fail(self, verb: str, error: BaseException, *arguments: Any) -> None:
        """Do what a backend does before it raises the error of an operation."""
        match verb:
            case "commit":
                self._fail_commit(error)
            case "rollback":
                self._driver.rollback()
            case "release":  # engines announce the end of a savepoint before they send it
                self._transaction.close_savepoint(*arguments)
            case "rollback_to":
                self._transaction.roll_back_savepoint(*arguments)
            case _:
                pass
        if verb not in ("commit", "rollback"):
            self._transaction.fail(error)

    def _fail_commit(self, error: BaseException) -> None:
        try:
            self._driver.rollback()
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            add_failure_note(error, second, "undoing the failed commit")
        if isinstance(error, DatabaseUnavailableError):
            raise make_commit_lost_error() from error

"""What a backend must be able to do: a handful of primitives on flat rows of one table."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from sqlrepo.errors import (
    DatabaseUnavailableError,
    RepositoryError,
    TransactionAbortedError,
    TransactionConflictError,
    UnsupportedError,
)
from sqlrepo.language.criteria import EVERYTHING, And, Compare, Criterion, Leaf, Match, OneOf, Param, map_leaves
from sqlrepo.language.fields import Sort
from sqlrepo.tables.schema import Row, Schema

Callback: TypeAlias = Callable[[], Any]

R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

_FAILED = "an on_commit callback failed; the transaction is committed"

# After these the server has ended the transaction itself, savepoints and all.
_FATAL = (TransactionConflictError, DatabaseUnavailableError)


@dataclass(slots=True)
class _Level:
    """What happened since a savepoint was set; the lowest level is the transaction itself."""

    savepoint: str
    callbacks: list[Callback] = field(default_factory=list)
    failure: BaseException | None = None


class Attached(Protocol):
    """What the user was given of a transaction before it had a connection: a session that has yet to take part."""

    @property
    def has_pending(self) -> bool:
        """Whether it has something to send."""
        ...

    def join(self, driver: Any) -> None:
        """Take part; once more does nothing."""
        ...


class Transaction:
    """The state of one transaction.

    Args:
        of: the unit of work, as the log calls it.

    Attributes:
        fatal: what ended the transaction for good, whatever savepoints there are.
        attached: the session that the user was given, if any.
        answered: when its connection answered last, in seconds of the monotonic clock; None as long as it has none.
    """

    __slots__ = ("_levels", "_of", "answered", "attached", "fatal")

    def __init__(self, of: object = "a transaction that was joined") -> None:
        self._of = of
        self._levels = [_Level("")]
        self.fatal: BaseException | None = None
        self.attached: Attached | None = None
        self.answered: float | None = None

    @property
    def failure(self) -> BaseException | None:
        """The first error that aborts the transaction and was not rolled back."""
        return self.fatal or next((level.failure for level in self._levels if level.failure), None)

    @property
    def depth(self) -> int:
        """How many savepoints are open."""
        return len(self._levels) - 1

    @property
    def innermost(self) -> str:
        """The name of the savepoint set last, empty where there is none."""
        return self._levels[-1].savepoint

    def fail(self, error: BaseException) -> None:
        """Note a refused statement; the first one counts.

        An error that is none of the library's leaves the state of the connection unknown, so it is fatal too.
        """
        if self.failure is not None:
            return
        self._log_abort(error)
        if isinstance(error, _FATAL) or not isinstance(error, RepositoryError):
            self.fatal = error
        else:
            self._levels[-1].failure = error

    def doom(self, error: BaseException) -> None:
        """Abort without a refused statement; a savepoint set before can still be rolled back to."""
        if self.failure is None:
            self._log_abort(error)
            self._levels[-1].failure = error

    def check(self) -> None:
        """Refuse to go on in an aborted transaction.

        Raises:
            TransactionAbortedError: from the error that aborted it.
        """
        if (failure := self.failure) is not None:
            raise TransactionAbortedError from failure

    def lose(self, error: BaseException) -> None:
        """Note that the transaction cannot go on, and no savepoint of it can be rolled back to."""
        if self.failure is None:
            self._log_abort(error)
        self.fatal = self.failure or error
        del self._levels[1:]

    def has_savepoint(self, savepoint: str) -> bool:
        """Whether a savepoint was set in it, and is still there."""
        return any(level.savepoint == savepoint for level in self._levels)

    def restart(self) -> None:
        """Forget all that happened; what ended it for good stays."""
        self._levels = [_Level("")]

    def open_savepoint(self, name: str) -> None:
        """Note a new savepoint."""
        self._levels.append(_Level(name))

    def close_savepoint(self, name: str) -> None:
        """Note that what happened since a savepoint, and in those above it, now belongs to the level below."""
        for level in self._above(name):
            self._levels[-1].callbacks += level.callbacks
            self._levels[-1].failure = self._levels[-1].failure or level.failure

    def roll_back_savepoint(self, name: str) -> None:
        """Forget what happened since a savepoint, and in those above it."""
        self._above(name)

    def on_commit(self, callback: Callback) -> None:
        """Keep a callback, dropped with the savepoint it was registered in."""
        self._levels[-1].callbacks.append(callback)

    @property
    def callbacks(self) -> list[Callback]:
        """What is to be called after the commit, in order of registration."""
        return [callback for level in self._levels for callback in level.callbacks]

    def _log_abort(self, error: BaseException) -> None:
        _log.debug("%s is aborted by %s", self._of, type(error).__name__)

    def _above(self, name: str) -> list[_Level]:
        """Take away the levels from a savepoint upwards."""
        names = [level.savepoint for level in self._levels]
        if name not in names:
            return []
        index = names.index(name)
        taken, self._levels[index:] = self._levels[index:], []
        return taken


def run_callbacks(callbacks: Iterable[Callback]) -> None:
    """Call what waited for the commit, all of it.

    Raises:
        ExceptionGroup: what any of them raised.
    """
    failures: list[Exception] = []
    for callback in callbacks:
        try:
            refuse_awaitable(callback())
        except Exception as error:  # noqa: BLE001  # one callback must not stop the others; all are raised below
            failures.append(log_callback_error(error))
    if failures:
        raise make_callbacks_error(failures)


def is_async(callback: Callback) -> bool:
    """Whether calling it gives something to await; an object may have an async ``__call__``."""
    return any(map(inspect.iscoroutinefunction, (callback, getattr(callback, "__call__", None))))  # noqa: B004


def refuse_awaitable(result: R) -> R:
    """Give what a function gave, unless it has yet to be awaited: then nothing has happened.

    Raises:
        UnsupportedError: the function is an async one.
    """
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()  # or Python warns of it somewhere else
    raise UnsupportedError("an async function was given to a sync unit of work, or to run(); nobody awaits it there")


def log_callback_error(error: Exception) -> Exception:
    """Log what a callback raised, while it is being handled."""
    _log.exception(_FAILED)
    return error


def make_callbacks_error(failures: list[Exception]) -> ExceptionGroup[Exception]:
    """Bring together what callbacks raised."""
    return ExceptionGroup(_FAILED, failures)


Lock: TypeAlias = Literal["update", "skip", "nowait"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Which rows: a criterion whose literals are parameters, and the parameters.

    Attributes:
        shape: equal for all requests that differ in their values only, so that its compiled form can be kept.
        params: the literals, by the numbers the shape gives them.
    """

    shape: Criterion = EVERYTHING
    params: tuple[Any, ...] = ()

    def and_also(self, other: Condition) -> Condition:
        """The rows that another condition chooses as well."""
        if other.shape == EVERYTHING:
            return self
        parts = self.shape.parts if isinstance(self.shape, And) else (self.shape,)
        return Condition(And((*parts, _renumbered(other.shape, len(self.params)))), (*self.params, *other.params))


def _renumbered(shape: Criterion, start: int) -> Criterion:
    """A shape whose parameters come after others."""

    def later(leaf: Leaf) -> Leaf:
        match leaf:
            case Compare(_, _, Param(index)):
                return replace(leaf, value=Param(start + index))
            case OneOf(_, Param(index)):
                return replace(leaf, values=Param(start + index))
            case Match(_, _, Param(index)):
                return replace(leaf, text=Param(start + index))
            case _:
                return leaf

    return map_leaves(shape, later)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Which columns of which rows, in which order.

    Attributes:
        columns: their names, in the order the rows are to have them.
        where: which rows.
        order: empty where the caller does not care.
        limit: at most so many rows; None for all.
        offset: so many rows are left out first.
        lock: whether other transactions are kept from writing the rows; where one has locked a row already, "update"
            waits, "skip" leaves the row out, "nowait" raises `LockTimeoutError`.
    """

    columns: tuple[str, ...]
    where: Condition = Condition()
    order: tuple[Sort, ...] = ()
    limit: int | None = None
    offset: int = 0
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """One row that is inserted, or written over another.

    Attributes:
        row: the new one, by column.
        on: the columns of the key or unique constraint in which it may agree with another.
        where: the row that it agrees with.
        changes: what of that row is written; empty for nothing.
        conflict_values: the values of ``on``; None where it agrees with no row because one of them is NULL.
        scope: which rows may be written over; the new one violates the constraint where it agrees with another.
    """

    row: Mapping[str, Any]
    on: tuple[str, ...]
    where: Condition
    changes: Mapping[str, Any]
    conflict_values: tuple[Any, ...] | None
    scope: Condition = Condition()

    @property
    def target(self) -> Condition:
        """The row that it agrees with, if that may be written over."""
        return self.where.and_also(self.scope)


class Driver(Protocol):
    """A backend's connection within one transaction. Every failure is raised as an error of `sqlrepo.errors`."""

    @property
    def reports_statements(self) -> bool:
        """Whether it reports each statement to `sqlrepo.probes`; else one is counted for each primitive."""
        ...

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows, aware datetimes in UTC; NULL sorts before everything."""
        ...

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        """Count rows, no further than to ``limit``."""
        ...

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert rows, all or none, and give what was stored, in their order; columns not named fill themselves."""
        ...

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        """Change rows, counting the schema's version up, and tell how many."""
        ...

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert a row or change the one it agrees with, whoever writes at the same time; tell whether it is new."""
        ...

    def delete(self, schema: Schema, where: Condition) -> int:
        """Delete rows and tell how many."""
        ...

    def savepoint(self) -> str:
        """Set a savepoint and give its name."""
        ...

    def release(self, savepoint: str) -> None:
        """Let a savepoint go, keeping what was done since."""
        ...

    def rollback_to(self, savepoint: str) -> None:
        """Undo what was done since a savepoint, and let it go; nothing where it is gone already."""
        ...

    def commit(self) -> None:
        """Make everything permanent and give the connection back."""
        ...

    def rollback(self) -> None:
        """Undo everything and give the connection back."""
        ...

    def native(self, kind: str) -> Any:
        """Give the backend's own ``"session"`` or ``"connection"``, or raise `UnsupportedError`."""
        ...


def is_source(given: object) -> bool:
    """Whether units can get their transactions from something; `isinstance` would ask a server what it lacks."""
    return all(callable(getattr(type(given), verb, None)) for verb in ("adopt", "begin"))


class Source(Protocol):
    """Where units of work get their transactions from: a `Database`, an `InMemoryDatabase`."""

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities the backend does not have, by the names of `sqlrepo.testing.Capabilities`."""
        ...

    def adopt(self, schema: Schema) -> None:
        """Take notice of a table, once per repository class.

        Raises:
            MappingError: the backend knows another table of that name.
            UnsupportedError: the backend cannot behave as the table demands; names column and reason.
        """
        ...

    def begin(self, transaction: Transaction, *, read_only: bool) -> Driver:
        """Open a connection and a transaction on it, whose savepoints and failures are reported to ``transaction``."""
        ...


class Joinable(Protocol):
    """What has a transaction of the application's own, to take part in: a session, or a connection."""

    def begin_nested(self) -> Any:
        """Set a savepoint."""
        ...

    def rollback(self) -> Any:
        """Undo everything."""
        ...


class Joined(Protocol):
    """A transaction of the application's own that a unit takes part in, and neither begins nor ends."""

    @property
    def source(self) -> Source:
        """The database it is on."""
        ...

    @property
    def transaction(self) -> Transaction:
        """What is known of it; another one once it has ended."""
        ...

    def adopt(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        """Take notice of a table.

        Raises:
            MappingError: it is on another database than the unit's other tables; or rows that are written past the
                ORM would escape a listener of the application's, and the repository does not say that they may.
        """
        ...

    def driver(self) -> Driver:
        """Give the connection its statements go to."""
        ...

    def on_commit(self, callback: Callback) -> None:
        """Call a function after its commit.

        Raises:
            UnsupportedError: nobody tells of it.
        """
        ...


@runtime_checkable
class AsyncSource(Protocol):
    """Where asynchronous units of work get their transactions from: an `AsyncDatabase`, an `InMemoryDatabase`."""

    @property
    def source(self) -> Source | Joinable:
        """What the synchronous bodies get theirs from; to be used inside `call` only."""
        ...

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous body, whose waiting for the database is awaited."""
        ...

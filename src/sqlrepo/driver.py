"""The seam between the portable half and a back end: what a back end must do, and the state of a transaction."""

# The methods of a protocol have no body; mypy looks after the functions.
# pyright: reportReturnType=false

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from sqlrepo.errors import (
    DatabaseUnavailableError,
    RepositoryError,
    TransactionAbortedError,
    TransactionConflictError,
    UnsupportedError,
)
from sqlrepo.language.criteria import (
    DEEP,
    EVERYTHING,
    And,
    Compare,
    Criterion,
    Exists,
    Leaf,
    Match,
    OneOf,
    Param,
    Ref,
    map_inner,
    map_leaves,
)
from sqlrepo.language.fields import Sort
from sqlrepo.language.results import CursorKeys
from sqlrepo.language.values import Kind, ValueType
from sqlrepo.tables.schema import Column, Row, Schema, column_of

Callback: TypeAlias = Callable[[], Any]
Lock: TypeAlias = Literal["update", "skip", "nowait"]

R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

# -- what a back end must do


class Source(Protocol):
    """Gives units of work their transactions: a `Database` or an `InMemoryDatabase`."""

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The fields of `sqlrepo.testing.Capabilities` that are False for this back end."""

    @property
    def cursor_keys(self) -> CursorKeys:
        """What signs the cursors of `scroll`."""

    def register_table(self, schema: Schema) -> None:
        """Register a table, once per repository class.

        MappingError if a different table of that name is registered, UnsupportedError if the back end cannot behave as
        the table requires.
        """

    def begin(self, transaction: Transaction, *, read_only: bool) -> Driver:
        """Connect and begin; the driver reports savepoints and failures to ``transaction``."""


class Driver(Protocol):
    """A connection within one transaction; all failures are raised as errors of `sqlrepo.errors`.

    Rows are flat tuples of one table. A count is the number of rows written.
    """

    @property
    def reports_statements(self) -> bool:
        """True if the driver reports statements to `PROBES` itself; otherwise each call counts as one."""

    @property
    def cascades(self) -> bool:
        """True if ON DELETE CASCADE is obeyed, which an application's SQLite engine may not do."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Let the reads within see one moment, where the isolation of the database does not decide what they see."""

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows: aware datetimes in UTC, NULL before every value."""

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        """Count rows, stopping at ``limit``."""

    def group(self, schema: Schema, request: Group) -> list[Row]:
        """Read the keys and measures of groups of rows."""

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert all rows or none, and return the stored rows in the same order; other columns take their defaults."""

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        """Change rows, and increment the schema's version column."""

    def update_each(self, schema: Schema, columns: Sequence[str], rows: Sequence[tuple[Row, Row]]) -> None:
        """Change rows that exist, each to values of its own; given are the key and the values of each."""

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert a row or change the one it conflicts with, also under concurrency; True if the row is new."""

    def delete(self, schema: Schema, where: Condition) -> int: ...

    def savepoint(self) -> str:
        """Set a savepoint and return its name."""

    def release(self, savepoint: str) -> None: ...

    def rollback_to(self, savepoint: str) -> None:
        """Undo everything since a savepoint and release it; does nothing if it no longer exists."""

    def commit(self) -> None:
        """Commit and return the connection."""

    def rollback(self) -> None:
        """Roll back and return the connection."""

    def unwrap(self, kind: str) -> Any:
        """Return the back end's own ``"session"`` or ``"connection"``, or raise `UnsupportedError`."""


class Probe(Protocol):
    """A test tool that sees what units of work ask of their backends."""

    @property
    def counts_statements(self) -> bool: ...

    def before_begin(self, source: Source) -> None:
        """Raise an error if the transaction shall not begin."""

    def wrap(self, driver: Driver, source: Source, transaction: Transaction) -> Driver:
        """Wrap a driver for its next use, or return it as it is."""

    def statement_sent(self, statement: str, sources: Sequence[Source]) -> None:
        """Count a statement for the databases of the units that share its connection."""


#: The test tools in use; empty in production, `sqlrepo.testing.probes` adds one.
PROBES: list[Probe] = []


class Joined(Protocol):
    """The application's transaction, which a unit joins but neither begins nor ends."""

    @property
    def source(self) -> Source: ...

    @property
    def transaction(self) -> Transaction:
        """The current transaction's state; a new object after it ends."""

    def register_table(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        """Register a table; MappingError if it is in another database than the unit's other tables.

        Also if ORM listeners would miss the writes, and the repository does not set ``bypass_orm_events``.
        """

    def driver(self) -> Driver: ...

    def on_commit(self, callback: Callback) -> None:
        """Call a function after the application's commit; UnsupportedError if the commit cannot be observed."""


class Joinable(Protocol):
    """An application's session or connection, whose transaction a unit can join."""

    def begin_nested(self) -> Any: ...

    def rollback(self) -> Any: ...


@runtime_checkable
class AsyncSource(Protocol):
    """Gives asynchronous units of work their transactions: an `AsyncDatabase` or an `InMemoryDatabase`."""

    @property
    def source(self) -> Source | Joinable:
        """The source for synchronous bodies; use it inside `call` only."""

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous body, awaiting the database where the body would block."""


def is_source(given: object) -> bool:
    # isinstance() would read `missing_capabilities`, which may ask a server.
    kind = type(given)
    return callable(getattr(kind, "register_table", None)) and callable(getattr(kind, "begin", None))


# -- requests


#: What becomes of a call whose row is not there.
Missing: TypeAlias = Exception | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Condition:
    """A criterion in two parts: its shape, by which compiled forms are cached, and the values of its parameters.

    Attributes:
        missing: for calls that need their row, a function that returns the error, or the values of a row to insert; its
            argument is True if the row exists and does not match. For memory, where a commit may find the row changed.
    """

    shape: Criterion = EVERYTHING
    params: tuple[Any, ...] = ()
    missing: Callable[[bool], Missing] | None = field(default=None, compare=False)

    def and_also(self, other: Condition) -> Condition:
        if other.shape == EVERYTHING:
            return self
        parts = self.shape.parts if isinstance(self.shape, And) else (self.shape,)
        shape = And((*parts, _renumber(other.shape, len(self.params))))
        return Condition(shape, (*self.params, *other.params), self.missing)


def _renumber(shape: Criterion, start: int) -> Criterion:
    def shift(leaf: Leaf) -> Leaf:
        if leaf.ref.via is not None or isinstance(leaf, DEEP):
            leaf = map_inner(leaf, shift)
        match leaf:
            case Compare(_, _, Param(index)):
                return replace(leaf, value=Param(start + index))
            case OneOf(_, Param(index)):
                return replace(leaf, values=Param(start + index))
            case Match(_, _, Param(index)):
                return replace(leaf, text=Param(start + index))
            case _:
                return leaf

    return map_leaves(shape, shift)


class Measure(NamedTuple):
    """One number about a group: of its rows, or of the values of a column that are not NULL."""

    function: Literal["count", "sum", "min", "max", "count_distinct"]
    ref: Ref | None = None  # None: count rows
    part: Any = None  # whose children have the column; they are folded for each row first, then over the rows
    where: Criterion = EVERYTHING  # met by the children that are measured; its literals are among those of the group
    of: Exists | None = None  # as a lookup: the group is the rows that belong to the row


#: What a statement reads beside columns: a column of a row elsewhere, whether a criterion is true, rows folded.
Lookup: TypeAlias = Ref | Criterion | Measure


@dataclass(frozen=True, slots=True)
class Fetch:
    """Some columns of some rows."""

    columns: tuple[str, ...]
    where: Condition = Condition()
    order: tuple[Sort, ...] = ()  # empty: any order
    limit: int | None = None
    offset: int = 0
    lookups: tuple[Lookup, ...] = ()  # at the end of each row; their literals are among those of ``where``
    # Keeps other transactions from writing the rows. For rows that are locked already, "update" waits, "skip" leaves
    # them out and "nowait" raises LockTimeoutError.
    lock: Lock | None = None

    def result(self, schema: Schema) -> Schema:
        """Return the table that the rows are, with columns named "0", "1" and so on."""
        return _result(schema, tuple(Ref(object, name) for name in self.columns), self.lookups)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows with equal keys as one, with its measures; without keys all rows, also if there are none.

    NULL is a key like any other. Of nothing the count is 0, and anything else is NULL. Sums are exact, and may be
    larger than any column holds. ``having`` and ``order`` refer to the columns of ``result``, which are named "0", "1"
    and so on.
    """

    keys: tuple[Ref, ...]
    measures: tuple[Measure, ...]
    where: Condition = Condition()
    having: Condition = Condition()
    order: tuple[Sort, ...] = ()  # empty: any order
    limit: int | None = None
    offset: int = 0

    def result(self, schema: Schema) -> Schema:
        """Return the table that the groups are: keys, then measures."""
        return _result(schema, self.keys, self.measures)


@lru_cache(maxsize=1024)
def _result(schema: Schema, keys: tuple[Ref, ...], values: tuple[Lookup, ...]) -> Schema:
    types = [type_of(schema, one) for one in (*keys, *values)]
    columns = tuple(Column(str(at), type_, nullable=True) for at, type_ in enumerate(types))
    return Schema(schema.name, columns, tuple(column.name for column in columns[: len(keys)]))


def type_of(schema: Schema, value: Lookup) -> ValueType:
    """Return the type of what a statement reads from rows of a table."""
    if isinstance(value, Ref):
        return column_of(schema, value).type
    return _type_of(schema, value) if isinstance(value, Measure) else ValueType(Kind.BOOLEAN, bool)


def _type_of(schema: Schema, measure: Measure) -> ValueType:
    whole = ValueType(Kind.INTEGER, int, low=-(2**63), high=2**63 - 1)
    if measure.ref is None or measure.function in ("count", "count_distinct"):
        return whole
    far = measure.part if measure.of is None else measure.of.mapper
    type_ = column_of(schema if far is None else far.schema, measure.ref).type
    if measure.function != "sum" or type_.kind is Kind.FLOAT:
        return type_
    return whole if type_.kind is Kind.INTEGER else ValueType(Kind.DECIMAL, Decimal, scale=type_.scale)


@dataclass(frozen=True, slots=True)
class Upsert:
    """One row to insert, or to write over the row it conflicts with."""

    row: Mapping[str, Any]
    on: tuple[str, ...]  # the columns of a key or unique constraint
    where: Condition  # selects the conflicting row
    changes: Mapping[str, Any]  # written to the conflicting row
    conflict_values: tuple[Any, ...] | None  # of `on`; None if one is NULL, so that no row can conflict
    scope: Condition = Condition()  # a conflicting row outside is not changed: the constraint is violated

    @property
    def target(self) -> Condition:
        return self.where.and_also(self.scope)


# -- the state of a transaction

# After these errors the server has ended the transaction, savepoints included.
_FATAL = (TransactionConflictError, DatabaseUnavailableError)


class Attached(Protocol):
    """A session given to the user before the transaction had a connection."""

    @property
    def has_pending(self) -> bool:
        """True if the session has changes to flush."""

    def join(self, driver: Any) -> None:
        """Join the driver's transaction, unless it has joined already."""


@dataclass(slots=True)
class _Level:
    """What happened since a savepoint was set; the lowest level is the transaction itself."""

    savepoint: str
    callbacks: list[Callback] = field(default_factory=list)
    failure: BaseException | None = None


class Transaction:
    """The state of one transaction: savepoints, callbacks and the error that aborted it.

    Attributes:
        fatal: the error that ended the transaction for good, whatever savepoints there are.
        attached: the session given to the user, if any.
        answered: when the connection last answered, on the monotonic clock; None before it connects.
    """

    __slots__ = ("_levels", "_unit", "answered", "attached", "fatal")

    def __init__(self, unit: object = "a transaction that was joined") -> None:
        self._unit = unit  # for the log
        self._levels = [_Level("")]
        self.fatal: BaseException | None = None
        self.attached: Attached | None = None
        self.answered: float | None = None

    @property
    def failure(self) -> BaseException | None:
        """The first error that aborts the transaction and was not rolled back."""
        if self.fatal is not None:
            return self.fatal
        return next((level.failure for level in self._levels if level.failure is not None), None)

    @property
    def depth(self) -> int:
        """The number of open savepoints."""
        return len(self._levels) - 1

    @property
    def innermost(self) -> str:
        """The name of the innermost savepoint; empty if there is none."""
        return self._levels[-1].savepoint

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks to run after the commit, in order of registration."""
        return [callback for level in self._levels for callback in level.callbacks]

    def on_commit(self, callback: Callback) -> None:
        """Keep a callback; a rollback of the current savepoint drops it."""
        self._levels[-1].callbacks.append(callback)

    def check(self) -> None:
        """Raise `TransactionAbortedError`, with the cause, if the transaction is aborted."""
        if self.fatal is None and len(self._levels) == 1 and self._levels[0].failure is None:
            return  # each call passes here several times
        if (failure := self.failure) is not None:
            raise TransactionAbortedError from failure

    def fail(self, error: BaseException) -> None:
        """Record a refused statement; only the first counts.

        An error that is not the library's leaves the connection in an unknown state, so it is fatal too.
        """
        if self.failure is not None:
            return
        self._log_abort(error)
        if isinstance(error, _FATAL) or not isinstance(error, RepositoryError):
            self.fatal = error
        else:
            self._levels[-1].failure = error

    def mark_rollback_only(self, error: BaseException) -> None:
        """Abort without a refused statement; a rollback to an earlier savepoint still helps."""
        if self.failure is None:
            self._log_abort(error)
            self._levels[-1].failure = error

    def lose(self, error: BaseException) -> None:
        """Record that the transaction is gone, with all its savepoints."""
        if self.failure is None:
            self._log_abort(error)
        self.fatal = self.failure or error
        del self._levels[1:]

    def restart(self) -> None:
        """Forget everything except a fatal error."""
        self._levels = [_Level("")]

    def has_savepoint(self, savepoint: str) -> bool:
        return any(level.savepoint == savepoint for level in self._levels)

    def open_savepoint(self, name: str) -> None:
        self._levels.append(_Level(name))

    def close_savepoint(self, name: str) -> None:
        """Move what happened since a savepoint to the level below it."""
        for level in self._pop_to(name):
            self._levels[-1].callbacks += level.callbacks
            self._levels[-1].failure = self._levels[-1].failure or level.failure

    def roll_back_savepoint(self, name: str) -> None:
        """Forget what happened since a savepoint."""
        self._pop_to(name)

    def _pop_to(self, name: str) -> list[_Level]:
        names = [level.savepoint for level in self._levels]
        if name not in names:
            return []
        index = names.index(name)
        taken, self._levels[index:] = self._levels[index:], []
        return taken

    def _log_abort(self, error: BaseException) -> None:
        _log.debug("%s is aborted by %s", self._unit, type(error).__name__)


# -- callbacks

_CALLBACK_FAILED = "an on_commit callback failed; the transaction is committed"


def run_callbacks(callbacks: Iterable[Callback]) -> None:
    """Run all callbacks; their errors are raised together, as an ExceptionGroup, at the end."""
    failures: list[Exception] = []
    for callback in callbacks:
        try:
            refuse_awaitable(callback())
        except Exception as error:  # noqa: BLE001  # one callback must not stop the others; all are raised below
            failures.append(log_callback_error(error))
    if failures:
        raise make_callbacks_error(failures)


def log_callback_error(error: Exception) -> Exception:
    """Log the error being handled, and return it."""
    _log.exception(_CALLBACK_FAILED)
    return error


def make_callbacks_error(failures: list[Exception]) -> ExceptionGroup[Exception]:
    return ExceptionGroup(_CALLBACK_FAILED, failures)


def is_async(callback: Callback) -> bool:
    """Return True for an async function, or an object with an async ``__call__``."""
    return any(map(inspect.iscoroutinefunction, (callback, getattr(callback, "__call__", None))))  # noqa: B004


def refuse_awaitable(result: R) -> R:
    """Return a function's result, or raise `UnsupportedError` if the function was async and has not run yet."""
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()  # otherwise Python warns that it was never awaited
    raise UnsupportedError(
        "an async function was passed to a synchronous unit of work or to run(), which do not await it; pass a "
        "synchronous function, or use an async unit"
    )

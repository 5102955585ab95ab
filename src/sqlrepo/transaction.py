"""One transaction as a unit of work sees it: its savepoints, what aborted it, what is to be done once it is committed.

Knows the aborted rule, which is PostgreSQL's: after a refused statement nothing goes on until the transaction, or a
savepoint set before it, is rolled back. Must not know how a backend does any of it; backends report here.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlrepo.errors import (
    DatabaseUnavailableError,
    RepositoryError,
    TransactionAbortedError,
    TransactionConflictError,
    UnsupportedError,
)

__all__ = ["Attached", "Callback", "Transaction", "call_all", "callbacks_failed", "is_async", "logged", "settled"]

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
    def waits(self) -> bool:
        """Whether it has something to send."""
        ...

    def take_part(self, driver: Any) -> None:
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

    def knows(self, savepoint: str) -> bool:
        """Whether a savepoint was set in it, and is still there."""
        return any(level.savepoint == savepoint for level in self._levels)

    def restart(self) -> None:
        """Forget all that happened; what ended it for good stays."""
        self._levels = [_Level("")]

    def savepoint_set(self, name: str) -> None:
        """Note a new savepoint."""
        self._levels.append(_Level(name))

    def savepoint_released(self, name: str) -> None:
        """Note that what happened since a savepoint, and in those above it, now belongs to the level below."""
        for level in self._above(name):
            self._levels[-1].callbacks += level.callbacks
            self._levels[-1].failure = self._levels[-1].failure or level.failure

    def savepoint_rolled_back(self, name: str) -> None:
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


def call_all(callbacks: Iterable[Callback]) -> None:
    """Call what waited for the commit, all of it.

    Raises:
        ExceptionGroup: what any of them raised.
    """
    failures: list[Exception] = []
    for callback in callbacks:
        try:
            settled(callback())
        except Exception as error:  # noqa: BLE001  # one callback must not stop the others; all are raised below
            failures.append(logged(error))
    if failures:
        raise callbacks_failed(failures)


def is_async(callback: Callback) -> bool:
    """Whether calling it gives something to await; an object may have an async ``__call__``."""
    return any(map(inspect.iscoroutinefunction, (callback, getattr(callback, "__call__", None))))  # noqa: B004


def settled(result: R) -> R:
    """Give what a function gave, unless it has yet to be awaited: then nothing has happened.

    Raises:
        UnsupportedError: the function is an async one.
    """
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()  # or Python warns of it somewhere else
    raise UnsupportedError("an async function was given to a sync unit of work, or to run(); nobody awaits it there")


def logged(error: Exception) -> Exception:
    """Log what a callback raised, while it is being handled."""
    _log.exception(_FAILED)
    return error


def callbacks_failed(failures: list[Exception]) -> ExceptionGroup[Exception]:
    """Bring together what callbacks raised."""
    return ExceptionGroup(_FAILED, failures)

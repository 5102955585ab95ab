"""The unit of work: who owns the transaction, when it begins, and how it ends."""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

from typing_extensions import TypeVar

from sqlrepo.core.definition import Declarations, local_names
from sqlrepo.core.related import Kinds
from sqlrepo.core.summaries import summarizing
from sqlrepo.core.work import Work
from sqlrepo.driver import Callback, Joinable, Source, is_async, refuse_awaitable
from sqlrepo.errors import RepositoryError, UnsupportedError
from sqlrepo.language.query import QueryObject, entity_of
from sqlrepo.language.summaries import Summary, entity_of_summary

_log = logging.getLogger("sqlrepo")

C = TypeVar("C", default=None)
R = TypeVar("R")

_NOTHING: Any = None  # the context of a unit that is given none


class DeclaresRepositories:
    """The declarations of sync and async units of work: annotated repositories, created at first use."""

    #: The seconds a unit may hold a connection between two calls; more is logged as a warning.
    idle_warning: ClassVar[float] = 1.0

    _declarations: ClassVar[Declarations] = Declarations(object, {})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declarations = Declarations(cls, local_names(inspect.currentframe()))

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *self._declarations.repositories}

    if not TYPE_CHECKING:  # or type checkers would accept every misspelt attribute

        def __getattr__(self, name: str) -> Any:
            repository = self.__dict__[name] = self._declarations.find(name)(self)
            return repository

    @classmethod
    def _check_model(cls, model: type[QueryObject[Any] | Summary[Any]]) -> None:
        """Raise `QueryError` if a query object or summary of one of the entities does not fit its repository."""
        kinds = list(cls._declarations.repositories.values())
        entity = entity_of_summary(model) if issubclass(model, Summary) else entity_of(model)
        if issubclass(entity, Summary):  # which a query object chooses among
            cls._check_model(entity)
        for kind in (one for one in kinds if issubclass(one.definition().mapper.entity, entity)):
            if issubclass(model, Summary):
                summarizing((kind, *(one for one in kinds if one is not kind)), model)
            else:
                Kinds(kinds).check_paths(kind.definition().mapper, model)

    @classmethod
    def _register(cls, work: Work, *, asynchronous: bool) -> None:
        """Register the tables of the declared repositories, which must be sync or async as the unit is."""
        repositories = cls._declarations.repositories.values()
        for repository in repositories:
            if hasattr(repository, "__aenter__") is not asynchronous:
                kind, needed = ("a sync", "async") if asynchronous else ("an async", "sync")
                raise UnsupportedError(
                    f"{cls.__name__} declares {repository.__name__}, {kind} repository; declare {needed} ones"
                )
        work.register_tables(cls, repositories)


class BaseUnitOfWork(DeclaresRepositories, Generic[C]):
    """The base of units of work: everything inside ``with`` is committed together, or not at all.

    Annotations declare the repositories: ``class Shop(BaseUnitOfWork): todos: Todos``. A unit connects at its first
    statement, commits on a clean exit and rolls back on any exception; it may be entered again afterwards. It serves
    one call at a time. (Martin Fowler, Patterns of Enterprise Application Architecture: Unit of Work.)

    Args:
        source: a `Database` or an `InMemoryDatabase`; or a SQLAlchemy session or connection of your application, which
            the unit joins: it is open from the start, ``with`` is a savepoint, and your application commits.
        read_only: whether a write raises `ReadOnlyError`; such a unit takes no write lock.
        context: your application's data about the request (tenant, user, clock), for the repositories to read.

    Attributes:
        idle_warning: the seconds a unit may hold a connection between two calls; more is logged as a warning.

    Raises:
        UnsupportedError: the source is not one of these, or cannot keep one of the tables.
    """

    def __init__(self, source: Source | Joinable, *, read_only: bool = False, context: C = _NOTHING) -> None:
        self._work = Work(type(self), source, read_only=read_only)
        self.context = context
        self._register(self._work, asynchronous=False)

    @property
    def is_open(self) -> bool:
        """Return True inside ``with``, or if the unit has joined a session."""
        return self._work.is_open

    def __enter__(self) -> Self:
        self._work.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._work.exit(kind, error, traceback)

    def commit(self) -> None:
        """Commit now and give the connection back; the next statement begins another transaction.

        Raises:
            TransactionAbortedError: an earlier error aborted the transaction; it is rolled back.
            UnitStateError: the unit is not open, or a savepoint is.
        """
        self._work.commit()

    def rollback(self) -> None:
        """Undo everything since the last commit and give the connection back; the unit stays open."""
        self._work.rollback()

    def savepoint(self) -> AbstractContextManager[None]:
        """Return a context manager that undoes its block after an exception, without ending the transaction.

        Raises:
            TransactionAbortedError: the block ends normally after a failed statement; the block is rolled back.
        """
        return self._work.savepoint()

    def on_commit(self, callback: Callback) -> None:
        """Call a function after the commit, once the connection is given back; in order of registration.

        A rollback of the savepoint or transaction in which it was registered drops it. An error in a callback undoes
        nothing and does not stop the others: it is logged, and raised in an `ExceptionGroup` when all have run.
        """
        if not callable(callback):
            raise TypeError(f"on_commit takes a function to call, not {type(callback).__name__}")
        if is_async(callback):
            raise UnsupportedError("an async callback needs an async unit of work")
        self._work.add_callback(callback)


U = TypeVar("U", bound=BaseUnitOfWork[Any])

_FIRST_PAUSE = 0.02  # seconds
_LONGEST_PAUSE = 1.0


def retry(make: Callable[[], U], work: Callable[[U], R], *, attempts: int = 3) -> R:
    """Run a function in a unit of work, and run it again after a retryable error.

    Each attempt gets a unit of its own, commit included, so nothing of a failed attempt is left. Side effects outside
    the unit happen again; leave them to `on_commit`. The pauses grow and are jittered, so that two units in conflict
    do not meet again. ("Full jitter": Marc Brooker, AWS Architecture Blog.)

    Args:
        make: makes the unit of work, ``lambda: Shop(db)``.
        work: the function, which takes the open unit.
        attempts: the largest number of attempts.

    Returns:
        The result of ``work`` in the attempt that was committed.

    Raises:
        RepositoryError: an error that is not retryable, or the last attempt's.
        UnsupportedError: ``work`` is an async function; see `retry_async`.
    """
    pauses = make_pauses(attempts)
    while True:
        try:
            with make() as unit:
                return refuse_awaitable(work(unit))
        except RepositoryError as error:
            pause = next_pause(pauses, error)
            if pause is None:
                raise
            time.sleep(pause)


def make_pauses(attempts: int) -> Iterator[float]:
    """Make the pauses between attempts, in seconds."""
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; pass 1 or more")
    longest = (min(_FIRST_PAUSE * 2**number, _LONGEST_PAUSE) for number in range(attempts - 1))
    return (random.uniform(0, seconds) for seconds in longest)  # noqa: S311  # no secret


def next_pause(pauses: Iterator[float], error: RepositoryError) -> float | None:
    """Return the pause before the next attempt; None if there is none, and the error must be raised."""
    pause = next(pauses, None) if error.retryable else None
    if pause is not None:
        _log.debug("the unit of work is run again in %.3f s: %s", pause, type(error).__name__)
    return pause

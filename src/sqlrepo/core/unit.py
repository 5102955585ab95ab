"""The unit of work: who owns the transaction, when it begins, and how it ends."""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from itertools import count
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, cast

from typing_extensions import TypeVar

from sqlrepo.core.definition import Declarations, RepositoryConfig, surrounding_names
from sqlrepo.driver import (
    AsyncSource,
    Callback,
    Driver,
    Joinable,
    Joined,
    Source,
    Transaction,
    is_async,
    is_source,
    refuse_awaitable,
    run_callbacks,
)
from sqlrepo.errors import (
    ConstraintError,
    ReadOnlyError,
    RepositoryError,
    UnitStateError,
    UnsupportedError,
    add_failure_note,
)
from sqlrepo.forks import check_pid, process
from sqlrepo.probed import ProbedDriver
from sqlrepo.probes import active, planted

_log = logging.getLogger("sqlrepo")

_NUMBERS = count(1)


class Journal:
    """What one unit is told to do; as a text, the unit's name.

    Args:
        unit: the name of its class, as the application knows it.
        patience: the seconds it may hold a connection between two calls before that is worth a warning.

    Attributes:
        unit: the same.
        patience: the same.
    """

    __slots__ = ("_began", "_number", "patience", "unit")

    def __init__(self, unit: str, patience: float) -> None:
        self.unit = unit
        self.patience = patience
        self._number = next(_NUMBERS)  # units of one class run side by side
        self._began = 0.0

    def __str__(self) -> str:
        return f"{self.unit} {self._number}"

    def began(self) -> None:
        """The unit was entered."""
        self._began = monotonic()
        _log.debug("%s began", self)

    def committed(self) -> None:
        """What it did is committed."""
        _log.debug("%s committed after %.3f s", self, self._age)

    def rolled_back(self, error: BaseException | None = None) -> None:
        """What it did is undone; because of an error, if there was one."""
        why = f" because of {type(error).__name__}" if error is not None else ""
        _log.debug("%s rolled back after %.3f s%s", self, self._age, why)

    def failed(self, error: BaseException) -> None:
        """COMMIT failed; what it did is undone, if the server could still be told."""
        _log.debug("%s could not commit after %.3f s because of %s", self, self._age, type(error).__name__)

    def asked(self, transaction: Transaction) -> None:
        """A call begins, or the end: warn if the connection was held for nothing until now."""
        if transaction.answered is None:
            return
        idle = monotonic() - transaction.answered
        if idle > self.patience:
            _log.warning(
                "%s held a connection for %.1f s without a query; end the transaction, by commit() say, before what "
                "takes long elsewhere",
                self,
                idle,
            )

    @property
    def has_begun(self) -> bool:
        """Whether the unit was entered, once at least."""
        return self._began > 0

    @property
    def _age(self) -> float:
        return monotonic() - self._began


class Course:
    """What becomes of a unit's statements: a transaction begun by the first, committed or undone with all of them.

    Args:
        source: where transactions are from; or the application's own that the unit takes part in.
        journal: where it is told.
        read_only: whether nothing is written.

    Attributes:
        journal: the same.
        transaction: the one of now, which may not have begun.
    """

    def __init__(self, source: Source | Joined, journal: Journal, *, read_only: bool) -> None:
        self._given = source
        self._joined = None if is_source(source) else cast(Joined, source)
        self._read_only = read_only
        self._driver: Driver | None = None
        self.journal = journal
        self.transaction = Transaction(journal)

    @property
    def source(self) -> Source:
        """Where its transactions are from; the database beneath, where it takes part in one."""
        return cast(Source, self._given) if self._joined is None else self._joined.source

    def begin(self) -> None:
        """Begin; a connection is taken at the first statement."""
        self.transaction = Transaction(self.journal)
        self.journal.began()

    def asked(self) -> None:
        """A call begins."""
        if self._joined is not None:
            self.transaction = self._joined.transaction
        else:
            self.journal.asked(self.transaction)

    def answered(self) -> None:
        """A call has ended; until the next one a connection would be held for nothing."""
        if self._driver is not None:
            self.transaction.answered = monotonic()

    def started(self) -> Driver:
        """The driver, connected at the first statement of a transaction.

        Raises:
            TransactionAbortedError: an earlier error aborted the transaction.
        """
        self.transaction.check()
        if self._joined is not None:
            self._driver = self._joined.driver()
        elif self._driver is None:
            self._driver = self._begun()
        if self.transaction.attached is not None:
            self.transaction.attached.join(self._driver)
        return self._probed(self._driver)

    def commit(self, field_of: Callable[[str | None], Callable[[str], str]]) -> list[Callback]:
        """Commit, or undo what is aborted and say so.

        Args:
            field_of: what columns of a table are called in its entities.

        Returns:
            what is to be called now.

        Raises:
            TransactionAbortedError: an earlier error aborted the transaction; it is rolled back.
        """
        transaction = self.transaction
        try:
            transaction.check()
            if transaction.attached and transaction.attached.has_pending:
                self.started()
        except BaseException as error:
            self.undo(error)
            raise
        driver = self._taken()
        try:
            if driver is not None:
                driver.commit()
        except BaseException as error:
            if isinstance(error, ConstraintError):
                error.fields = tuple(map(field_of(error.table), error.fields))
            self.journal.failed(error)
            raise
        self.journal.committed()
        return transaction.callbacks

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        self._undone(None)

    def undo(self, error: BaseException) -> None:
        """Roll back because of an error, which stays the one that is raised."""
        try:
            self._undone(error)
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            add_failure_note(error, second, "rolling back")

    def forget(self) -> None:
        """Let the transaction be: it goes on in the process that this one was forked from."""
        self._driver, self.transaction = None, Transaction(self.journal)

    def roll_back_to(self, savepoint: str, transaction: Transaction, error: BaseException) -> None:
        """Undo what was done since a savepoint because of an error, if its transaction is still there."""
        if self._driver is None or transaction is not self.transaction:
            return
        if transaction.fatal is not None:
            transaction.roll_back_savepoint(savepoint)  # the server has ended it with the whole transaction
            return
        try:
            self._probed(self._driver).rollback_to(savepoint)
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            transaction.fail(second)
            add_failure_note(error, second, "rolling back to the savepoint")

    def leave_savepoint(self, savepoint: str) -> None:
        """Keep what was done since a savepoint.

        Raises:
            TransactionAbortedError: a statement was refused since; what is inside is rolled back.
            UnitStateError: it is not the innermost.
        """
        transaction = self.transaction
        try:
            self._require_innermost(savepoint)
            self.started().release(savepoint)
        except BaseException as error:
            self.roll_back_to(savepoint, transaction, error)
            raise

    def _require_innermost(self, savepoint: str) -> None:
        if self.transaction.innermost != savepoint:
            raise UnitStateError("already_open", "leave savepoints in the opposite order of setting them")

    def _begun(self) -> Driver:
        if active() and (error := planted("begin", self.source)) is not None:
            raise error
        return self.source.begin(self.transaction, read_only=self._read_only)

    def _undone(self, error: BaseException | None) -> None:
        driver = self._taken()
        try:
            if driver is not None:
                driver.rollback()
        finally:
            self.journal.rolled_back(error)

    def _taken(self) -> Driver | None:
        """The driver of the transaction that ends now."""
        driver, self._driver, self.transaction = self._driver, None, Transaction(self.journal)
        return None if driver is None else self._probed(driver)

    def _probed(self, driver: Driver) -> Driver:
        return ProbedDriver(driver, self.source, self.transaction) if active() else driver


def joined(given: Any, unit: str) -> Joined | None:
    """Make of what a unit is given what it joins; None of a `Database` or an `InMemoryDatabase`.

    Raises:
        UnsupportedError: it is neither, or for async units.
    """
    if is_source(given):
        return None
    found = _join("sqlrepo.sqlalchemy.joined", "join", given)
    if found is None:
        raise UnsupportedError(
            f"{unit} needs a Database, an InMemoryDatabase, or a Session or Connection to join, got "
            f"{type(given).__name__}; make one Database(url) per process and give it to every unit"
        )
    return cast(Joined, found)


def joined_async(given: Any, unit: str) -> AsyncSource:
    """Make of what an async unit is given what it gets its transactions from.

    Raises:
        UnsupportedError: it is nothing of the sort, or for sync units.
    """
    found = given if isinstance(given, AsyncSource) else _join("sqlrepo.sqlalchemy.aio", "join_async", given)
    if found is None:
        raise UnsupportedError(
            f"{unit} needs an AsyncDatabase, an InMemoryDatabase, or an AsyncSession or AsyncConnection to join, got "
            f"{type(given).__name__}"
        )
    return cast(AsyncSource, found)


def _join(module: str, how: str, given: Any) -> Any:
    """Ask the twin that knows sessions; its import is late because only who has a session has SQLAlchemy."""
    if not callable(getattr(given, "begin_nested", None)):
        return None
    return getattr(import_module(module), how)(given)


C = TypeVar("C", default=None)
R = TypeVar("R")

_NOTHING: Any = None  # the context of a unit that is given none


class BaseUnitOfWork(Generic[C]):
    """The base of units of work: all that happens inside ``with`` is committed together, or not at all.

    Annotations declare the repositories: ``class Shop(BaseUnitOfWork): todos: Todos``. A unit connects at its first
    statement, commits on a clean exit and rolls back on any exception; it may be entered again afterwards. It serves
    one call at a time. (Martin Fowler, Patterns of Enterprise Application Architecture: Unit of Work.)

    Args:
        source: a `Database` or an `InMemoryDatabase`; or a SQLAlchemy session or connection of the application's, which
            the unit joins. It is open from the start then, ``with`` is a savepoint, and the application commits.
        read_only: whether a write raises `ReadOnlyError`; such a unit takes no write lock.
        context: what the application knows (tenant, user, clock), for its repositories to read.

    Attributes:
        idle_warning: the seconds a unit may hold a connection between two calls; more is logged as a warning.

    Raises:
        UnsupportedError: the source is none, or cannot keep one of the tables.
    """

    idle_warning: ClassVar[float] = 1.0

    _declarations: ClassVar[Declarations] = Declarations(object, {})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declarations = Declarations(cls, surrounding_names(inspect.currentframe()))

    def __init__(self, source: Source | Joinable, *, read_only: bool = False, context: C = _NOTHING) -> None:
        self._joined = joined(source, type(self).__name__)
        self._read_only = read_only
        self.context = context
        self._process = process()
        self._inherited = False
        self._call = Lock()
        self._open = self._joined is not None
        self._nested: AbstractContextManager[None] | None = None
        self._leaving: BaseException | None = None
        #: What is done with the callbacks once the transaction is committed and the connection given back.
        self.after_commit: Callable[[list[Callback]], None] = run_callbacks
        journal = Journal(type(self).__name__, self.idle_warning)
        self._course = Course(self._joined or cast("Source", source), journal, read_only=read_only)
        self._field_names: dict[str | None, Callable[[str], str]] = {}
        for repository in self._declarations.repositories.values():
            if hasattr(repository, "__aenter__"):
                raise UnsupportedError(f"{repository.__name__} is an async repository; this unit of work is a sync one")
            self.adopt(repository)

    # -- repositories

    if not TYPE_CHECKING:  # or every misspelt attribute would be one

        def __getattr__(self, name: str) -> Any:
            built = self._declarations.named(name)(self)
            self.__dict__[name] = built
            return built

    # -- begin and end

    def __enter__(self) -> Self:
        if self._joined is not None:
            self._enter_joined()
            return self
        check_pid()
        with self._calling():
            if self._open:
                raise UnitStateError("already_open", f"{self._name} is open; use savepoint() to nest")
            self._open, self._inherited = True, False
            self._course.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._nested is not None:
            nested, self._nested = self._nested, None
            nested.__exit__(kind, error, traceback)
            return
        self._heed_fork()
        if self._inherited:
            if error is None:
                self._require_open()
            return
        if not self._call.acquire(blocking=False):
            self._left_while_busy(error)
            return
        callbacks: list[Callback] = []
        try:
            self._course.asked()
            if error is None:
                callbacks = self._course.commit(self.field_of)
            else:
                self._course.undo(error)
        finally:
            self._open = False
            self._call.release()
        self.after_commit(callbacks)

    def commit(self) -> None:
        """Commit now and give the connection back; the next statement begins another transaction.

        Raises:
            TransactionAbortedError: an earlier error aborted the transaction; it is rolled back.
            UnitStateError: the unit is not open, or a savepoint is.
        """
        with self._calling():
            self._require_outermost()
            callbacks = self._course.commit(self.field_of)
        self.after_commit(callbacks)

    def rollback(self) -> None:
        """Undo everything since the last commit and give the connection back; the unit stays open."""
        with self._calling():
            self._require_outermost()
            self._course.rollback()

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Nest: what happens inside is undone by an exception, without ending the transaction.

        Raises:
            TransactionAbortedError: on leaving normally after a refused statement; what is inside is rolled back.
        """
        with self._calling():
            name = self._started().savepoint()
            transaction = self._course.transaction
        try:
            yield
        except BaseException as error:
            try:
                with self._calling():
                    self._course.roll_back_to(name, transaction, error)
            except UnitStateError as busy:
                transaction.lose(error)
                add_failure_note(error, busy, "rolling back to the savepoint")
            raise
        with self._calling():
            if transaction is self._course.transaction:
                self._require_open()
                self._course.leave_savepoint(name)

    def on_commit(self, callback: Callback) -> None:
        """Call a function after the commit, once the connection is given back; in order of registration.

        It is dropped with the savepoint or the transaction it was registered in. One that raises undoes nothing and
        does not stop the others: it is logged, and raised in an `ExceptionGroup` when all have run.
        """
        if not callable(callback):
            raise TypeError(f"on_commit takes a function to call, not {type(callback).__name__}")
        if is_async(callback):
            raise UnsupportedError("an async callback needs an async unit of work")
        self.register(callback)

    # -- for repositories and async units

    def register(self, callback: Callback) -> None:
        """Keep a callback for the commit, of whatever kind it is."""
        with self._calling():
            transaction = self.current()
            (self._joined or transaction).on_commit(callback)

    def run(self, work: Callable[[Driver], R], *, write: bool = False) -> R:
        """Run the statements of one call; any failure of theirs aborts the transaction.

        Raises:
            UnitStateError: the unit is not open, or busy.
            TransactionAbortedError: an earlier error aborted the transaction.
            ReadOnlyError: a write in a read-only unit.
        """
        with self._calling():
            if write and self._read_only:
                self.current()
                raise ReadOnlyError(f"{self._name} was made with read_only=True")
            driver = self._started()
            try:
                return work(driver)
            except UnsupportedError:
                raise  # nothing was sent
            except BaseException as error:
                self._course.transaction.fail(error)
                raise

    def native(self, kind: Literal["session", "connection"]) -> Any:
        """Give the backend's own session or connection, begun.

        Raises:
            UnsupportedError: the backend has none.
        """
        with self._calling():
            return self._started().native(kind)

    def current(self) -> Transaction:
        """The transaction of now, which may not have begun.

        Raises:
            UnitStateError: the unit is not open.
            TransactionAbortedError: an earlier error aborted it.
        """
        self._require_open()
        self._course.transaction.check()
        return self._course.transaction

    def adopt(self, repository: type[RepositoryConfig[Any]]) -> None:
        """Take notice of a repository class's table.

        Raises:
            MappingError: it does not go with the others; or the ORM of a session that is joined would do what a
                repository does not.
            UnsupportedError: the backend cannot keep it.
        """
        definition = repository.definition()
        schema = definition.schema
        self._field_names.setdefault(schema.name, definition.mapper.field)
        if self._joined is None:
            self.source.adopt(schema)
        else:
            self._joined.adopt(schema, bypass_orm_events=repository.bypass_orm_events)

    def introduce(self, table: str, field_of: Callable[[str], str]) -> None:
        """Learn what a repository calls the columns of its table, for a constraint that COMMIT finds violated."""
        self._field_names[table] = field_of

    def field_of(self, table: str | None) -> Callable[[str], str]:
        """What gives the field of a column, where one of the unit's repositories keeps entities in the table."""
        return self._field_names.get(table, str)

    def doom(self, error: BaseException) -> None:
        """Abort the transaction because of an error that no statement met."""
        self._course.transaction.doom(error)

    def stand_for(self, kind: type[Any]) -> None:
        """Be called by the name of the async unit, or of the repository alone, that the application has."""
        journal = self._course.journal
        journal.unit, journal.patience = kind.__name__, getattr(kind, "idle_warning", journal.patience)

    @property
    def source(self) -> Source:
        """What the unit was made on; the database beneath, where it joined a session."""
        return self._course.source

    @property
    def _name(self) -> str:
        return self._course.journal.unit

    @property
    def is_open(self) -> bool:
        """Whether the unit is inside its ``with``, or has joined a session."""
        return self._open and self._process == process()

    # -- the machinery

    @contextmanager
    def _calling(self) -> Generator[None]:
        """Serve one call at a time, whoever calls."""
        self._heed_fork()
        if not self._call.acquire(blocking=False):
            raise _busy(self._name)
        try:
            self._course.asked()
            yield
        finally:
            self._course.answered()
            self._call.release()
            self._settle()

    def _heed_fork(self) -> None:
        """Let go, in a child of a fork, of what the unit had open: the transaction goes on in the parent.

        Raises:
            UnitStateError: it has joined a session, which is the parent's too.
        """
        if self._process == process():
            return
        if self._joined is not None:
            raise UnitStateError("not_open", "it joined a session before the process forked; join one of this process")
        self._process, self._inherited = process(), self._open
        self._call, self._open, self._leaving = Lock(), False, None
        self._course.forget()

    def _left_while_busy(self, error: BaseException | None) -> None:
        """Leave while another thread's or task's call is running: nothing is committed, and that call ends the unit."""
        busy = _busy(self._name)
        self._leaving = error or busy
        self._settle()
        if error is None:
            raise busy
        add_failure_note(error, busy, "leaving the unit of work")

    def _settle(self) -> None:
        """Roll back a unit that was left while a call was running; whichever of the two comes last does it."""
        while self._leaving is not None and self._call.acquire(blocking=False):
            try:
                self._end_left()
            finally:
                self._call.release()

    def _end_left(self) -> None:
        reason, self._leaving = self._leaving, None
        if reason is not None:
            self._course.undo(reason)
            self._open = False

    def _require_open(self) -> None:
        if self._inherited:
            raise UnitStateError("not_open", "it was opened before the process forked, and ends there; open one here")
        if not self._open:
            left = "it was left already; what comes after its `with` needs a unit of its own"
            early = f"enter it first: `with {self._name}(...) as unit:`"
            raise UnitStateError("not_open", left if self._course.journal.has_begun else early)

    def _require_outermost(self) -> None:
        self._require_open()
        if self._joined is not None:
            raise UnsupportedError(
                f"{self._name} joined a session or connection, which the application commits or rolls back"
            )
        if self._course.transaction.depth:
            raise UnitStateError("already_open", "a savepoint is open; leave it before ending the transaction")

    def _started(self) -> Driver:
        """The driver, connected at the first statement of a transaction."""
        self._require_open()
        return self._course.started()

    def _enter_joined(self) -> None:
        """Nest in the transaction that the unit has joined."""
        if self._nested is not None:
            raise UnitStateError("already_open", f"{self._name} is open; use savepoint() to nest")
        nested = self.savepoint()
        nested.__enter__()
        self._nested = nested


def _busy(name: str) -> UnitStateError:
    return UnitStateError("busy", f"{name} is running another call; give each thread or task its own")


U = TypeVar("U", bound=BaseUnitOfWork[Any])


_FIRST_PAUSE = 0.02  # seconds
_LONGEST_PAUSE = 1.0


def retry(make: Callable[[], U], work: Callable[[U], R], *, attempts: int = 3) -> R:
    """Do something in a unit of work, and do all of it again after an error that says it may help.

    Each attempt gets a unit of its own, commit included, so nothing of a failed one is left. What the function does
    outside the unit it does again as well; leave that to `on_commit`. The pauses between grow and are jittered
    ("full jitter", Marc Brooker, AWS Architecture Blog), so that those who met do not meet again.

    Args:
        make: makes the unit of work, ``lambda: Shop(db)``.
        work: what is done in it, given the open unit.
        attempts: how often it is tried at most.

    Returns:
        what ``work`` gave in the attempt that was committed.

    Raises:
        RepositoryError: one that is not retryable, or the last attempt's.
        UnsupportedError: ``work`` is an async function; see `retry_async`.
    """
    for pause in pauses(attempts):
        try:
            with make() as unit:
                return refuse_awaitable(work(unit))
        except RepositoryError as error:
            if not worth_another(error, pause):
                raise
            time.sleep(pause)
    with make() as unit:
        return refuse_awaitable(work(unit))


def worth_another(error: RepositoryError, pause: float) -> bool:
    """Whether to try again after an error, which is then logged."""
    if error.retryable:
        _log.debug("the unit of work is run again in %.3f s: %s", pause, type(error).__name__)
    return error.retryable


def pauses(attempts: int) -> Iterator[float]:
    """The seconds to wait between so many attempts; nothing follows the last."""
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; there is one at least")
    for number in range(attempts - 1):
        yield random.uniform(0, min(_FIRST_PAUSE * 2**number, _LONGEST_PAUSE))  # noqa: S311  # no secret

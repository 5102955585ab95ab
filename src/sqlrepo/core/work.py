"""The transaction of a unit of work, and the calls that share it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from itertools import count
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlrepo import forks
from sqlrepo.core.definition import RepositoryConfig
from sqlrepo.driver import PROBES, AsyncSource, Callback, Driver, Joined, Source, Transaction, is_source, run_callbacks
from sqlrepo.errors import ConstraintError, ReadOnlyError, UnitStateError, UnsupportedError, add_failure_note
from sqlrepo.tables.mapper import Mapper

R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

_NUMBERS = count(1)

# The classes of units and repositories whose tables a source knows.
_REGISTERED: WeakKeyDictionary[Source, WeakSet[type[Any]]] = WeakKeyDictionary()


class UnitLog:
    """The log lines of one unit of work; as a text, the unit's name and number."""

    __slots__ = ("_entered", "_number", "idle_warning", "name")

    def __init__(self) -> None:
        self.name = ""
        self.idle_warning = 1.0  # seconds
        self._number = next(_NUMBERS)  # units of one class run side by side
        self._entered = 0.0

    def __str__(self) -> str:
        return f"{self.name} {self._number}"

    def log_entered(self) -> None:
        self._entered = monotonic()
        _log.debug("%s began", self)

    def log_committed(self) -> None:
        _log.debug("%s committed after %.3f s", self, self._age)

    def log_rolled_back(self, error: BaseException | None) -> None:
        why = f" because of {type(error).__name__}" if error is not None else ""
        _log.debug("%s rolled back after %.3f s%s", self, self._age, why)

    def log_failed_commit(self, error: BaseException) -> None:
        _log.debug("%s could not commit after %.3f s because of %s", self, self._age, type(error).__name__)

    def warn_if_idle(self, answered: float) -> None:
        """Warn of a connection that was held for nothing since its last answer."""
        idle = monotonic() - answered
        if idle > self.idle_warning:
            _log.warning(
                "%s held a connection for %.1f s without a query; end the transaction, with commit() for example, "
                "before slow work elsewhere",
                self,
                idle,
            )

    @property
    def was_entered(self) -> bool:
        return self._entered > 0

    @property
    def _age(self) -> float:
        return monotonic() - self._entered


class Work:
    """The transaction of one unit of work, and the calls that share it: what repositories and back ends need of a unit.

    The transaction begins with the first statement. It serves one call at a time, is given up in a child of a fork,
    and may be the application's own, which the unit has joined and neither begins nor ends.
    """

    def __init__(self, kind: type[Any], given: object, *, read_only: bool) -> None:
        self._joined = _join_sync(given, kind.__name__)
        self._given = given
        self._read_only = read_only
        self._log = UnitLog()
        self.label(kind)
        self._process = forks.pid
        self._inherited = False  # open in the process that this one was forked from
        self._call = Lock()
        self._open = self._joined is not None
        self._nested: AbstractContextManager[None] | None = None
        self._leaving: BaseException | None = None
        self._driver: Driver | None = None
        self._transaction = Transaction(self._log)
        self._declared: tuple[type[RepositoryConfig[Any]], ...] = ()
        self._mappers: dict[str, Mapper[Any]] = {}
        #: Takes the callbacks once the transaction is committed and its connection given back.
        self.after_commit: Callable[[list[Callback]], None] = run_callbacks

    @property
    def source(self) -> Source:
        """The source of its transactions; the database beneath a session that it joined."""
        return cast(Source, self._given) if self._joined is None else self._joined.source

    @property
    def is_open(self) -> bool:
        return self._open and self._process == forks.pid

    def label(self, kind: type[Any]) -> None:
        """Take the name of the class that the application knows: of the async unit, or of a repository alone."""
        self._log.name = kind.__name__
        self._log.idle_warning = getattr(kind, "idle_warning", self._log.idle_warning)

    # -- tables

    def register_tables(self, kind: type[Any], repositories: Iterable[type[RepositoryConfig[Any]]]) -> None:
        """Register the tables of a class of units or repositories with the source, once for each source.

        Raises:
            MappingError: a table does not go with the others, or rows would bypass the ORM of a joined session.
            UnsupportedError: the back end cannot keep a table.
        """
        self._declared = (*self._declared, *repositories)
        if self._joined is not None:  # a listener may have been added to its session since
            for repository in repositories:
                schema = repository.definition().schema
                self._joined.register_table(schema, bypass_orm_events=repository.bypass_orm_events)
            return
        registered = _REGISTERED.setdefault(self.source, WeakSet())
        if kind not in registered:
            for repository in repositories:
                self.source.register_table(repository.definition().schema)
            registered.add(kind)

    def add_mapper(self, mapper: Mapper[Any]) -> None:
        """Let the errors of a commit name the fields of a repository's entity."""
        self._mappers[mapper.schema.name] = mapper

    def name_fields(self, error: ConstraintError, mapper: Mapper[Any] | None = None) -> None:
        """Replace columns by fields in a constraint error: back ends know columns only.

        The mapper is that of the repository called; a cascade, or the commit, may violate a constraint of another
        repository's table.
        """
        if mapper is None or error.table not in (None, mapper.schema.name):
            mapper = self._mappers.get(error.table or "") or self._declared_mapper(error.table)
        if mapper is not None:
            error.fields = tuple(map(mapper.field, error.fields))

    def _declared_mapper(self, table: str | None) -> Mapper[Any] | None:
        mappers = (repository.definition().mapper for repository in self._declared)
        return next((mapper for mapper in mappers if mapper.schema.name == table), None)

    # -- begin and end

    def enter(self) -> None:
        if self._joined is not None:
            self._enter_joined()
            return
        forks.check_pid()
        self._begin_call()
        try:
            if self._open:
                raise self._already_open()
            self._open, self._inherited = True, False
            self._log.log_entered()
        finally:
            self._end_call()

    def exit(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._nested is not None:
            nested, self._nested = self._nested, None
            nested.__exit__(kind, error, traceback)
            return
        if self._process != forks.pid:
            self._give_up_in_child()
        if self._inherited:
            if error is None:
                self._require_open()
            return
        if not self._call.acquire(blocking=False):
            self._leave_while_busy(error)
            return
        callbacks: list[Callback] = []
        try:
            self._see_transaction()
            if error is None:
                callbacks = self._commit()
            else:
                self._undo(error)
        finally:
            self._open = False
            self._call.release()
        self.after_commit(callbacks)

    def commit(self) -> None:
        with self._calling():
            self._require_outermost()
            callbacks = self._commit()
        self.after_commit(callbacks)

    def rollback(self) -> None:
        with self._calling():
            self._require_outermost()
            self._roll_back(None)

    @contextmanager
    def savepoint(self) -> Generator[None]:
        with self._calling():
            name = self._start().savepoint()
            transaction = self._transaction
        try:
            yield
        except BaseException as error:
            try:
                with self._calling():
                    self._roll_back_to(name, transaction, error)
            except UnitStateError as busy:
                transaction.lose(error)
                add_failure_note(error, busy, "rolling back to the savepoint")
            raise
        with self._calling():
            if transaction is self._transaction:
                self._require_open()
                self._leave_savepoint(name)

    # -- calls

    def run(self, work: Callable[[Driver], R], *, write: bool = False) -> R:
        """Run the statements of one call; a failure aborts the transaction.

        Raises:
            UnitStateError: the unit is not open, or busy.
            TransactionAbortedError: an earlier error aborted the transaction.
            ReadOnlyError: a write in a read-only unit.
        """
        self._begin_call()
        try:
            if write and self._read_only:
                self.require_transaction()
                raise ReadOnlyError(f"{self._log.name} was made with read_only=True")
            driver = self._start()
            try:
                return work(driver)
            except UnsupportedError:
                raise  # nothing was sent
            except BaseException as error:
                self._transaction.fail(error)
                raise
        finally:
            self._end_call()

    def unwrap(self, kind: Literal["session", "connection"]) -> Any:
        """Return the back end's own session or connection, begun.

        Raises:
            UnsupportedError: the back end has none.
        """
        with self._calling():
            return self._start().unwrap(kind)

    def add_callback(self, callback: Callback) -> None:
        """Keep a function, sync or async, to be called after the commit."""
        with self._calling():
            transaction = self.require_transaction()
            (self._joined or transaction).on_commit(callback)

    def mark_rollback_only(self, error: BaseException) -> None:
        """Abort the transaction because of an error that no statement raised."""
        self._transaction.mark_rollback_only(error)

    def require_transaction(self) -> Transaction:
        """Return the transaction, which may not have begun.

        Raises:
            UnitStateError: the unit is not open.
            TransactionAbortedError: an earlier error aborted the transaction.
        """
        self._require_open()
        self._transaction.check()
        return self._transaction

    @contextmanager
    def _calling(self) -> Generator[None]:
        """Serve one call at a time, whoever calls."""
        self._begin_call()
        try:
            yield
        finally:
            self._end_call()

    def _begin_call(self) -> None:
        if self._process != forks.pid:
            self._give_up_in_child()
        if not self._call.acquire(blocking=False):
            raise self._busy()
        try:
            self._see_transaction()
        except BaseException:
            self._end_call()
            raise

    def _end_call(self) -> None:
        if self._driver is not None:
            self._transaction.answered = monotonic()
        self._call.release()
        if self._leaving is not None:
            self._end_if_left()

    def _see_transaction(self) -> None:
        """Look at the transaction as it is now: the application may have begun another, or held this one idle."""
        if self._joined is not None:
            self._transaction = self._joined.transaction
        elif self._transaction.answered is not None:
            self._log.warn_if_idle(self._transaction.answered)

    def _give_up_in_child(self) -> None:
        """Give up, in a child of a fork, what the unit had open: the transaction goes on in the parent.

        Raises:
            UnitStateError: the unit has joined a session, which is the parent's too.
        """
        if self._joined is not None:
            raise UnitStateError("not_open", "it joined a session before the process forked; join one of this process")
        self._process, self._inherited = forks.pid, self._open
        self._call, self._open, self._leaving = Lock(), False, None
        self._driver, self._transaction = None, Transaction(self._log)

    def _leave_while_busy(self, error: BaseException | None) -> None:
        """Leave while another thread's or task's call is running: nothing is committed, and that call ends the unit."""
        busy = self._busy()
        self._leaving = error or busy
        self._end_if_left()
        if error is None:
            raise busy
        add_failure_note(error, busy, "leaving the unit of work")

    def _end_if_left(self) -> None:
        """Roll back a unit that was left while a call was running; the later of the two does it."""
        while self._leaving is not None and self._call.acquire(blocking=False):
            try:
                self._end_left()
            finally:
                self._call.release()

    def _end_left(self) -> None:
        reason, self._leaving = self._leaving, None
        if reason is not None:
            self._undo(reason)
            self._open = False

    def _enter_joined(self) -> None:
        """Nest in the transaction that the unit has joined."""
        if self._nested is not None:
            raise self._already_open()
        nested = self.savepoint()
        nested.__enter__()
        self._nested = nested

    def _require_open(self) -> None:
        if self._inherited:
            raise UnitStateError("not_open", "it was opened before the process forked, and ends there; open one here")
        if not self._open:
            left = "it was left already; what comes after its `with` needs a unit of its own"
            early = f"enter it first: `with {self._log.name}(...) as unit:`"
            raise UnitStateError("not_open", left if self._log.was_entered else early)

    def _require_outermost(self) -> None:
        self._require_open()
        if self._joined is not None:
            raise UnsupportedError(
                f"{self._log.name} joined a session or connection, which the application commits or rolls back"
            )
        if self._transaction.depth:
            raise UnitStateError("already_open", "a savepoint is open; leave it before ending the transaction")

    def _require_innermost(self, savepoint: str) -> None:
        if self._transaction.innermost != savepoint:
            raise UnitStateError("already_open", "leave savepoints in the opposite order of setting them")

    def _already_open(self) -> UnitStateError:
        return UnitStateError("already_open", f"{self._log.name} is open; use savepoint() to nest")

    def _busy(self) -> UnitStateError:
        return UnitStateError("busy", f"{self._log.name} is running another call; give each thread or task its own")

    # -- the transaction

    def _start(self) -> Driver:
        """Return the driver, connected at the first statement of a transaction."""
        self._require_open()
        self._transaction.check()
        if self._joined is not None:
            self._driver = self._joined.driver()
        elif self._driver is None:
            self._driver = self._begin()
        if self._transaction.attached is not None:
            self._transaction.attached.join(self._driver)
        return self._probed(self._driver) if PROBES else self._driver

    def _begin(self) -> Driver:
        for probe in PROBES:
            probe.before_begin(self.source)
        return self.source.begin(self._transaction, read_only=self._read_only)

    def _commit(self) -> list[Callback]:
        """Commit and return the callbacks; roll back an aborted transaction and raise."""
        transaction = self._transaction
        try:
            transaction.check()
            if transaction.attached and transaction.attached.has_pending:
                self._start()
        except BaseException as error:
            self._undo(error)
            raise
        driver = self._take_driver()
        try:
            if driver is not None:
                driver.commit()
        except BaseException as error:
            if isinstance(error, ConstraintError):
                self.name_fields(error)
            self._log.log_failed_commit(error)
            raise
        self._log.log_committed()
        return transaction.callbacks

    def _undo(self, error: BaseException) -> None:
        """Roll back because of an error, which stays the one that is raised."""
        try:
            self._roll_back(error)
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            add_failure_note(error, second, "rolling back")

    def _roll_back(self, error: BaseException | None) -> None:
        driver = self._take_driver()
        try:
            if driver is not None:
                driver.rollback()
        finally:
            self._log.log_rolled_back(error)

    def _roll_back_to(self, savepoint: str, transaction: Transaction, error: BaseException) -> None:
        """Undo what was done since a savepoint because of an error, if its transaction is still open."""
        if self._driver is None or transaction is not self._transaction:
            return
        if transaction.fatal is not None:
            transaction.roll_back_savepoint(savepoint)  # the server has ended it with the whole transaction
            return
        try:
            self._probed(self._driver).rollback_to(savepoint)
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            transaction.fail(second)
            add_failure_note(error, second, "rolling back to the savepoint")

    def _leave_savepoint(self, savepoint: str) -> None:
        """Keep what was done since a savepoint, or undo it where that is refused."""
        transaction = self._transaction
        try:
            self._require_innermost(savepoint)
            self._start().release(savepoint)
        except BaseException as error:
            self._roll_back_to(savepoint, transaction, error)
            raise

    def _take_driver(self) -> Driver | None:
        """Return the driver of the transaction that ends now; the next statement begins another."""
        driver, self._driver, self._transaction = self._driver, None, Transaction(self._log)
        return self._probed(driver) if PROBES and driver is not None else driver

    def _probed(self, driver: Driver) -> Driver:
        for probe in PROBES:
            driver = probe.wrap(driver, self.source, self._transaction)
        return driver


def _join_sync(given: Any, unit: str) -> Joined | None:
    """Join a session or connection; None for a `Database` or an `InMemoryDatabase`.

    Raises:
        UnsupportedError: it is something else, or for async units.
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


def to_async_source(given: Any, unit: str) -> AsyncSource:
    """Return the source of an async unit's transactions: the one given, or one made of a session to join.

    Raises:
        UnsupportedError: it is something else, or for sync units.
    """
    found = given if isinstance(given, AsyncSource) else _join("sqlrepo.sqlalchemy.aio", "join_async", given)
    if found is None:
        raise UnsupportedError(
            f"{unit} needs an AsyncDatabase, an InMemoryDatabase, or an AsyncSession or AsyncConnection to join, got "
            f"{type(given).__name__}"
        )
    return cast(AsyncSource, found)


def _join(module: str, function: str, given: Any) -> Any:
    """Ask the twin that knows sessions; its import is late because only who has a session has SQLAlchemy."""
    if not callable(getattr(given, "begin_nested", None)):
        return None
    return getattr(import_module(module), function)(given)

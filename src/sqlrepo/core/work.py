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
from typing import Any, Literal, NoReturn, TypeVar, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlrepo import forks
from sqlrepo.core.definition import RepositoryConfig
from sqlrepo.driver import PROBES, AsyncSource, Callback, Driver, Joined, Source, Transaction, is_source, run_callbacks
from sqlrepo.errors import (
    ConstraintError,
    InvalidValueError,
    MappingError,
    ReadOnlyError,
    UnitStateError,
    UnsupportedError,
    add_failure_note,
)
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import Schema

R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

_NUMBERS = count(1)

# The classes of units and repositories whose tables a source knows.
_REGISTERED: WeakKeyDictionary[Source, WeakSet[type[Any]]] = WeakKeyDictionary()


class UnitLog:
    """The log lines of one unit of work, which begin with its name and number."""

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

    def log_ended(self, outcome: str, error: BaseException | None = None) -> None:
        why = f" because of {type(error).__name__}" if error is not None else ""
        _log.debug("%s %s after %.3f s%s", self, outcome, monotonic() - self._entered, why)

    def warn_if_idle(self, answered: float) -> None:
        """Warn if the connection has not been used for long since its last answer."""
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


class Work:
    """The transaction of one unit of work, which begins with the first statement and serves one call at a time.

    A child of a fork abandons the transaction. If the unit has joined the application's transaction, the unit neither
    begins nor ends it.
    """

    def __init__(self, kind: type[Any], given: object, *, read_only: bool) -> None:
        self._joined = _join_sync(given, kind.__name__)
        self._given = given
        self._read_only = read_only
        self._log = UnitLog()
        self.label(kind)
        self._process = forks.pid  # that used the unit last
        self._opened_in = None if self._joined is None else self._process  # the process in which the unit was entered
        self._call = Lock()
        self._nested: AbstractContextManager[None] | None = None
        self._leaving: BaseException | None = None  # the unit was left with this error while a call was running
        self._driver: Driver | None = None
        self._transaction = Transaction(self._log)
        self._declared: tuple[type[RepositoryConfig[Any]], ...] = ()
        self._refused: dict[type[RepositoryConfig[Any]], UnsupportedError] = {}
        self._mappers: dict[str, Mapper[Any]] = {}
        self.after_commit: Callable[[list[Callback]], None] = run_callbacks  # called without a connection

    @property
    def source(self) -> Source:
        """The source of the transactions; for a joined session, the database beneath."""
        return cast(Source, self._given) if self._joined is None else self._joined.source

    @property
    def is_open(self) -> bool:
        return self._opened_in == forks.pid

    def label(self, kind: type[Any]) -> None:
        """Take the name and options of the class that the user defined: an async unit, or a repository alone."""
        self._log.name = kind.__name__
        self._log.idle_warning = getattr(kind, "idle_warning", self._log.idle_warning)

    # -- tables

    def register_tables(self, kind: type[Any], repositories: Iterable[type[RepositoryConfig[Any]]]) -> None:
        """Register the tables of a class of units or repositories with the source, once for each source.

        A table that the source cannot keep is refused when its repository is used; see `require_kept`.
        """
        self._declared = (*self._declared, *repositories)
        if self._joined is not None:  # each time: its session may have new listeners
            for repository in repositories:
                for schema in repository.definition().schemas:
                    self._joined.register_table(schema, bypass_orm_events=repository.bypass_orm_events)
            return
        registered = _REGISTERED.setdefault(self.source, WeakSet())
        if kind not in registered:
            for repository in repositories:
                try:
                    for schema in repository.definition().schemas:
                        self.source.register_table(schema)
                except UnsupportedError as error:
                    self._refused[repository] = error
            if not self._refused:
                registered.add(kind)

    def require_kept(self, repository: type[RepositoryConfig[Any]]) -> None:
        """Raise an error with all reasons of all tables if the source cannot keep the repository's table."""
        if repository not in self._declared:  # a repository that the class of the unit does not declare
            self.register_tables(repository, [repository])
        if repository in self._refused:
            raise UnsupportedError("\n".join(dict.fromkeys(map(str, self._refused.values()))))

    def register_table(self, schema: Schema) -> None:
        """Register a table that a view reads, which no repository of the unit may be over."""
        if self._joined is not None:
            self._joined.register_table(schema, bypass_orm_events=True)
        elif schema.model is not None and schema.model not in _REGISTERED[self.source]:
            self.source.register_table(schema)
            _REGISTERED[self.source].add(schema.model)

    def add_mapper(self, mapper: Mapper[Any]) -> None:
        """Add a mapper by which errors of a commit name fields."""
        self._mappers[mapper.schema.name] = mapper

    def name_fields(self, error: ConstraintError | InvalidValueError, mapper: Mapper[Any] | None = None) -> None:
        """Replace columns, as the back end names them, by fields.

        A cascade, or the commit, may violate a constraint of another table than the mapper's.
        """
        if mapper is None or error.table not in (None, mapper.schema.name):
            mapper = self._mappers.get(error.table or "") or self._declared_mapper(error.table)
        if mapper is None:
            any(one.definition().aggregate.name_fields(error) for one in self._declared)
            return
        if isinstance(error, ConstraintError):
            error.fields = tuple(map(mapper.field, error.fields))
        elif error.table is not None and error.field is not None:  # else the field is known already
            error.field = mapper.field(error.field)

    def _declared_mapper(self, table: str | None) -> Mapper[Any] | None:
        mappers = (repository.definition().mapper for repository in self._declared)
        return next((mapper for mapper in mappers if mapper.schema.name == table), None)

    # -- begin and end

    def enter(self) -> None:
        if self._joined is not None:
            if self._nested is not None:
                raise self._already_open()
            nested = self.savepoint()
            nested.__enter__()
            self._nested = nested
            return
        forks.check_pid()
        self._begin_call()
        try:
            if self._opened_in == self._process:
                raise self._already_open()
            self._opened_in = self._process
            self._transaction = Transaction(self._log)  # the last one may have been marked after the unit was left
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
            self._abandon_in_child()
        if self._is_inherited:
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
            self._opened_in = None
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
        """Run the statements of one call; a failure aborts the transaction."""
        self._begin_call()
        try:
            if write and self._read_only:
                self.require_transaction()
                raise ReadOnlyError(f"{self._log.name} is read-only; write in a unit without read_only=True")
            driver = self._start()
            try:
                if write:
                    return work(driver)
                with driver.snapshot():
                    return work(driver)
            except BaseException as error:
                harmless = UnsupportedError if write else (UnsupportedError, MappingError)
                if not isinstance(error, harmless):  # nothing was sent, or what was read cannot be loaded
                    self._transaction.fail(error)
                raise
        finally:
            self._end_call()

    def unwrap(self, kind: Literal["session", "connection"]) -> Any:
        """Return the back end's own session or connection, begun."""
        with self._calling():
            return self._start().unwrap(kind)

    def add_callback(self, callback: Callback) -> None:
        with self._calling():
            transaction = self.require_transaction()
            (self._joined or transaction).on_commit(callback)

    def mark_rollback_only(self, error: BaseException) -> None:
        """Abort the transaction because of an error outside its statements."""
        self._transaction.mark_rollback_only(error)

    def require_transaction(self) -> Transaction:
        """Return the transaction, begun or not; raise if the unit is not open, or the transaction aborted."""
        self._require_open()
        self._transaction.check()
        return self._transaction

    @contextmanager
    def _calling(self) -> Generator[None]:
        self._begin_call()
        try:
            yield
        finally:
            self._end_call()

    def _begin_call(self) -> None:
        if self._process != forks.pid:
            self._abandon_in_child()
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
        """Take the application's current transaction, or warn if the unit's own was idle."""
        if self._joined is not None:
            self._transaction = self._joined.transaction
        elif self._transaction.answered is not None:
            self._log.warn_if_idle(self._transaction.answered)

    def _abandon_in_child(self) -> None:
        """Forget the open transaction in a child of a fork; it continues in the parent."""
        if self._joined is not None:
            raise UnitStateError("not_open", "the unit joined a session before the process forked; join another one")
        self._process, self._call, self._leaving = forks.pid, Lock(), None
        self._driver, self._transaction = None, Transaction(self._log)

    def _leave_while_busy(self, error: BaseException | None) -> None:
        """Leave while a call is running in another thread or task, which then rolls back."""
        busy = self._busy()
        self._leaving = error or busy
        self._end_if_left()
        if error is None:
            raise busy
        add_failure_note(error, busy, "leaving the unit of work")

    def _end_if_left(self) -> None:
        """Roll back a unit that was left while a call was running, unless the call is still running."""
        while self._leaving is not None and self._call.acquire(blocking=False):
            try:
                self._end_left()
            finally:
                self._call.release()

    def _end_left(self) -> None:
        error, self._leaving = self._leaving, None
        if error is not None:  # otherwise another thread was faster
            self._undo(error)
            self._opened_in = None

    @property
    def _is_inherited(self) -> bool:
        """Return True if the unit was entered in the process that this one was forked from."""
        return self._opened_in not in (None, self._process)

    def _require_open(self) -> None:
        if self._opened_in == self._process:
            return
        if self._is_inherited:
            reason = "the unit was entered before the process forked; open another one in this process"
        elif self._log.was_entered:
            reason = "the unit was left already; open another one for the code after its `with`"
        else:
            reason = f"enter it first: `with {self._log.name}(...) as unit:`"
        raise UnitStateError("not_open", reason)

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
            raise UnitStateError("already_open", "a savepoint inside this one is open; leave that one first")

    def _already_open(self) -> UnitStateError:
        return UnitStateError("already_open", f"{self._log.name} is already open; use savepoint() to nest")

    def _busy(self) -> UnitStateError:
        return UnitStateError("busy", f"{self._log.name} is running another call; give each thread or task its own")

    # -- the transaction

    def _start(self) -> Driver:
        """Return the driver, which connects at the first statement of a transaction."""
        self._require_open()
        self._transaction.check()
        if self._joined is not None:
            self._driver = self._joined.driver()
        elif self._driver is None:
            self._driver = self._begin()
        if self._transaction.attached is not None:
            self._transaction.attached.join(self._driver)
        return self._add_probes(self._driver) if PROBES else self._driver

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
            self._log.log_ended("could not commit", error)
            raise
        self._log.log_ended("committed")
        return transaction.callbacks

    def _undo(self, error: BaseException) -> None:
        """Roll back because of an error, whatever happens on the way."""
        try:
            self._roll_back(error)
        except Exception as second:  # noqa: BLE001  # the first error is raised
            add_failure_note(error, second, "rolling back")

    def _roll_back(self, error: BaseException | None) -> None:
        driver = self._take_driver()
        try:
            if driver is not None:
                driver.rollback()
        finally:
            self._log.log_ended("rolled back", error)

    def _roll_back_to(self, savepoint: str, transaction: Transaction, error: BaseException) -> None:
        """Roll back to a savepoint because of an error, if its transaction is still open."""
        if self._driver is None or transaction is not self._transaction:
            return
        if transaction.fatal is not None:
            transaction.roll_back_savepoint(savepoint)  # the server has ended it with the whole transaction
            return
        try:
            self._add_probes(self._driver).rollback_to(savepoint)
        except Exception as second:  # noqa: BLE001  # the first error is raised
            transaction.fail(second)
            add_failure_note(error, second, "rolling back to the savepoint")

    def _leave_savepoint(self, savepoint: str) -> None:
        """Release a savepoint, or roll back to it if that fails."""
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
        return self._add_probes(driver) if PROBES and driver is not None else driver

    def _add_probes(self, driver: Driver) -> Driver:
        for probe in PROBES:
            driver = probe.wrap(driver, self.source, self._transaction)
        return driver


def _join_sync(given: Any, unit: str) -> Joined | None:
    """Join a session or connection; None for a `Database` or an `InMemoryDatabase`."""
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
    """Return the source given, or make one of a session to join."""
    found = given if isinstance(given, AsyncSource) else _join("sqlrepo.sqlalchemy.aio", "join_async", given)
    if found is None:
        raise UnsupportedError(
            f"{unit} needs an AsyncDatabase, an InMemoryDatabase, or an AsyncSession or AsyncConnection to join, got "
            f"{type(given).__name__}"
        )
    return cast(AsyncSource, found)


def _join(module: str, function: str, given: Any) -> Any:
    """Call the function of a module that imports SQLAlchemy, which is installed if there is a session."""
    if not callable(getattr(given, "begin_nested", None)):
        return None
    return getattr(import_module(module), function)(given)


def raise_error(error: Exception, _: Driver) -> NoReturn:
    """Stand for a call whose error is found before a statement is sent."""
    raise error

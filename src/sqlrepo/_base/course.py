"""The transactions of a unit of work, one after another.

Knows when one begins, how it is ended, and that of two errors the first is raised. Must not know who may call, nor any
backend.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import cast

from sqlrepo._base.journal import Journal
from sqlrepo.driver import Driver, Joined, Source, is_source
from sqlrepo.errors import ConstraintError, UnitStateError, noted
from sqlrepo.probed import ProbedDriver
from sqlrepo.probes import active, planted
from sqlrepo.transaction import Callback, Transaction

__all__ = ["Course"]


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
            self.transaction.attached.take_part(self._driver)
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
            if transaction.attached and transaction.attached.waits:
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
            noted(error, second, "rolling back")

    def forget(self) -> None:
        """Let the transaction be: it goes on in the process that this one was forked from."""
        self._driver, self.transaction = None, Transaction(self.journal)

    def roll_back_to(self, savepoint: str, transaction: Transaction, error: BaseException) -> None:
        """Undo what was done since a savepoint because of an error, if its transaction is still there."""
        if self._driver is None or transaction is not self.transaction:
            return
        if transaction.fatal is not None:
            transaction.savepoint_rolled_back(savepoint)  # the server has ended it with the whole transaction
            return
        try:
            self._probed(self._driver).rollback_to(savepoint)
        except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
            transaction.fail(second)
            noted(error, second, "rolling back to the savepoint")

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

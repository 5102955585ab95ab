"""The session that user code gets inside a unit of work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.orm import Session, SessionTransaction

from sqlrepo.errors import UnitStateError


class TakesSession(Protocol):
    def attach(self, session: Session) -> Connection: ...


class UnitSession(Session):
    """A session on a unit of work's connection, in the unit's transaction.

    Its ``commit()`` only flushes, and the unit commits. Its ``rollback()`` rolls back the whole unit. Its
    ``begin_nested()`` sets a savepoint for the unit's repositories too, at once; a plain session would set it with its
    own next statement.
    """

    def __init__(self, start: Callable[[], object]) -> None:
        super().__init__(join_transaction_mode="rollback_only")
        self._start = start  # begins the unit's transaction, which calls join()
        self._connected: Connection | None = None

    @property
    def has_pending(self) -> bool:
        """True if there are changes to flush."""
        return any((self.new, self.dirty, self.deleted))

    def join(self, driver: TakesSession) -> None:
        if self._connected is None:
            self._connected = driver.attach(self)

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        if self._connected is None:
            self._start()
        if self._connected is None:
            raise UnitStateError(
                "not_open", "this session belongs to a transaction that has ended; take the session of an open unit"
            )
        return self._connected

    def leave(self) -> None:
        self.close()
        self._connected, self._start = None, _nothing

    def begin_nested(self) -> SessionTransaction:
        nested = super().begin_nested()
        self.connection()  # sets the savepoint now
        return nested

    def rollback(self) -> None:
        if not self.in_transaction():
            self.connection()
        super().rollback()


def _nothing() -> None:
    pass

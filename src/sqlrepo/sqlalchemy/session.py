"""The session that user code gets inside a unit of work.

Knows that the unit owns the transaction. Must not know repositories.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.orm import Session, SessionTransaction

from sqlrepo.errors import UnitStateError

__all__ = ["UnitSession"]


class TakesSession(Protocol):
    """A driver, as far as a session needs one."""

    def attach(self, session: Session) -> Connection:
        """Let a session take part, and give the connection."""
        ...


class UnitSession(Session):
    """A session on a unit of work's connection.

    Its ``commit()`` flushes and leaves the committing to the unit; its ``rollback()`` ends the whole unit; its
    ``begin_nested()`` sets a savepoint for the unit's repositories too. A plain session would begin both with its own
    next statement only, and not know of theirs.

    Args:
        start: begins the unit's transaction, in which the session then takes part.
    """

    def __init__(self, start: Callable[[], object]) -> None:
        super().__init__(join_transaction_mode="rollback_only")
        self._start = start
        self._connected: Connection | None = None

    @property
    def has_pending(self) -> bool:
        """Whether there is something to flush."""
        return any((self.new, self.dirty, self.deleted))

    def join(self, driver: TakesSession) -> None:
        """Use the connection of the unit's transaction."""
        if self._connected is None:
            self._connected = driver.attach(self)

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        """Give the unit's connection, whatever it is for."""
        if self._connected is None:
            self._start()
        if self._connected is None:
            raise UnitStateError("not_open", "this session belongs to a transaction that has ended")
        return self._connected

    def leave(self) -> None:
        """End with the transaction."""
        self.close()
        self._connected, self._start = None, _nothing

    def begin_nested(self) -> SessionTransaction:
        """Set a savepoint now."""
        nested = super().begin_nested()
        self.connection()
        return nested

    def rollback(self) -> None:
        """Roll back the unit's transaction, or the savepoint where one is open."""
        if not self.in_transaction():
            self.connection()
        super().rollback()


def _nothing() -> None:
    """There is nothing to begin any more."""

"""The session that user code gets inside a unit of work.

Knows that the unit owns the transaction. Must not know repositories.
"""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.orm import Session, SessionTransaction

__all__ = ["UnitSession"]


class UnitSession(Session):
    """A session on a unit of work's connection.

    Its ``commit()`` flushes and leaves the committing to the unit; its ``rollback()`` ends the whole unit; its
    ``begin_nested()`` sets a savepoint for the unit's repositories too. A plain session would begin both with its own
    next statement only, and not know of theirs.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(bind=connection, join_transaction_mode="rollback_only")

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

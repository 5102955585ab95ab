"""One transaction on a database.

Knows the primitives as statements on one connection, and the Session that user code may ask for beside them. Must not
know entities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.orm import Session, SessionTransaction

from sqlrepo.driver import Condition, Fetch, Row
from sqlrepo.errors import DatabaseUnavailableError, RepositoryError, UnitStateError, noted
from sqlrepo.schema import Schema
from sqlrepo.sqlalchemy.faults import translated
from sqlrepo.sqlalchemy.session import UnitSession
from sqlrepo.transaction import Transaction

if TYPE_CHECKING:
    from sqlrepo.sqlalchemy.database import Database

__all__ = ["SQLAlchemyDriver"]

R = TypeVar("R")


class SQLAlchemyDriver:
    """A connection of a `Database` within one transaction.

    Args:
        database: where the connection is from.
        connection: it, begun by the database.
        transaction: where failures and savepoints are reported.
        read_only: whether the unit writes nothing.
        guarded: whether the server refuses writes on this connection.
    """

    def __init__(
        self,
        database: Database,
        connection: sa.Connection,
        transaction: Transaction,
        *,
        read_only: bool,
        guarded: bool = False,
    ) -> None:
        self._database = database
        self._connection = connection
        self._transaction = transaction
        self._read_only = read_only
        self._guarded_by_server = guarded
        self._session: UnitSession | None = None
        self._savepoints: dict[str, sa.NestedTransaction | SessionTransaction] = {}
        self._count = 0
        self._noted: list[RepositoryError] = []
        self._ending = False
        self._forbidden = False

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows."""
        self._study(schema)
        statement, parameters = self._database.compiler.select(schema, request)
        return self._rows(schema, request.columns, self._execute(statement, parameters))

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        """Count rows."""
        self._study(schema)
        statement, parameters = self._database.compiler.count(schema, where, limit)
        return int(self._execute(statement, parameters).scalar_one())

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert rows; sorted RETURNING gives them back in their order."""
        names = self._database.compiler.parameter_names(schema, columns)
        values = [dict(zip(names, row, strict=True)) for row in rows]
        many = len(rows) > 1
        statement = self._database.compiler.insert(schema, tuple(returning), many=many)
        stored = self._rows(schema, returning, self._execute(statement, values if many else values[0]))
        if schema.generated in columns:
            place = columns.index(schema.generated)
            given = [row[place] for row in rows]
            self._guarded(lambda: self._database.dialect.after_insert(self._connection, schema, given))
        self._expire()
        return stored

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        """Change rows."""
        self._study(schema)
        return self._write(*self._database.compiler.update(schema, columns, values, where))

    def delete(self, schema: Schema, where: Condition) -> int:
        """Delete rows."""
        self._study(schema)
        return self._write(*self._database.compiler.delete(schema, where))

    def savepoint(self) -> str:
        """Set a savepoint; a read-only transaction has nothing to undo and sends none."""
        if self._read_only:
            self._transaction.savepoint_set(f"read_only_{self._transaction.depth}")
            return self._transaction.innermost
        if self._session is None:
            nested: sa.NestedTransaction | SessionTransaction = self._guarded(self._connection.begin_nested)
        else:
            nested = self._guarded(self._session.begin_nested)  # so that its objects go back with the rows
        self._savepoints[self._transaction.innermost] = nested  # the engine has reported it
        return self._transaction.innermost

    def release(self, savepoint: str) -> None:
        """Let a savepoint go."""
        if savepoint not in self._savepoints:
            self._transaction.savepoint_released(savepoint)
            return
        self._flush()
        for nested in self._taken(savepoint):
            self._guarded(nested.commit)

    def rollback_to(self, savepoint: str) -> None:
        """Undo what was done since a savepoint."""
        if savepoint not in self._savepoints:
            self._transaction.savepoint_rolled_back(savepoint)
            return
        for nested in self._taken(savepoint):
            self._undo(nested)

    def _undo(self, nested: sa.NestedTransaction | SessionTransaction) -> None:
        if isinstance(nested, SessionTransaction):
            self._guarded(nested.rollback)  # the session needs to hear of it even where a failed flush has done it
            return
        if self._session is not None:
            # It was made inside, joined this savepoint, and holds nothing from before.
            self._guarded(partial(Session.rollback, self._session))
            self._session.expunge_all()
        if nested.is_active:
            self._guarded(nested.rollback)

    def commit(self) -> None:
        """Commit; where that fails, roll back."""
        try:
            self._flush()
            self._transaction.check()
            self._ending = True
            self._committed()
        except BaseException as error:
            try:
                self._abandon()
            except Exception as second:  # noqa: BLE001  # whatever it is, the first error is the one to be raised
                noted(error, second, "undoing the failed commit")
            raise
        self._give_back()

    def rollback(self) -> None:
        """Roll back."""
        self._ending = True
        try:
            self._guarded(self._connection.rollback)
        finally:
            self._give_back()

    def native(self, kind: str) -> Any:
        """Give the session or the connection, for statements of the user's own."""
        if self._read_only and not (self._guarded_by_server or self._forbidden):
            self._database.dialect.forbid_writes(self._connection, forbidden=True)
            self._forbidden = True
        if kind == "connection":
            return self._connection
        if self._session is None:
            self._session = UnitSession(self._connection)
        return self._session

    # -- what the engine reports, whoever sent the statement

    @property
    def survives_interrupts(self) -> bool:
        """Whether the connection is still whole after an interrupt amid a statement."""
        return self._database.dialect.survives_interrupts

    def failed(self, error: BaseException, table: str | None) -> None:
        """Note a statement the database refused."""
        known = translated(error, self._database.tables, table)
        if known is not None:
            self._noted.append(known)
        self._transaction.fail(known or error)

    def heard(self, event: str, savepoint: str | None) -> None:
        """Note what happened to the transaction's savepoints, and an end of it that was not the unit's."""
        if event == "savepoint":
            self._count += 1  # SQLAlchemy numbers them so, and says the name when it is used only
            self._transaction.savepoint_set(savepoint or f"sa_savepoint_{self._count}")
        elif event == "release_savepoint" and savepoint:
            self._transaction.savepoint_released(savepoint)
        elif event == "rollback_savepoint" and savepoint:
            self._transaction.savepoint_rolled_back(savepoint)
        elif event in ("commit", "rollback") and not self._ending:
            hint = f"{event} was called on .session or .connection; the unit of work ends its transaction itself"
            self._transaction.lose(UnitStateError("not_open", hint))

    # -- the machinery

    def _committed(self) -> None:
        try:
            self._guarded(self._connection.commit)
        except DatabaseUnavailableError as error:
            lost = "the connection was lost during COMMIT; nobody knows whether it took effect"
            raise DatabaseUnavailableError(lost, retryable=False) from error

    def _study(self, schema: Schema) -> None:
        """Let the dialect look at a table before the first statement on it is written."""
        self._guarded(lambda: self._database.dialect.study(self._connection, schema))

    def _execute(self, statement: sa.Executable, parameters: Any) -> sa.CursorResult[Any]:
        self._flush()
        return self._guarded(lambda: self._connection.execute(statement, parameters))

    def _rows(self, schema: Schema, columns: Sequence[str], result: sa.CursorResult[Any]) -> list[Row]:
        """Flat rows; a database that keeps no zone gives datetimes without one, which are in UTC all the same."""
        rows = [tuple(row) for row in result.all()]
        zoned = [place for place, name in enumerate(columns) if schema.by_name[name].type.aware]
        return [_in_utc(row, zoned) for row in rows] if zoned else rows

    def _write(self, statement: sa.Executable, parameters: Any) -> int:
        count = self._execute(statement, parameters).rowcount
        self._expire()
        return count

    def _guarded(self, call: Callable[[], R]) -> R:
        """Call into SQLAlchemy and turn what it raises into the library's errors."""
        self._noted.clear()
        try:
            return call()
        except (exc.SQLAlchemyError, UnicodeEncodeError, OverflowError, LookupError) as error:
            known = next(iter(self._noted), None) or translated(error, self._database.tables)
            if known is None:
                raise
            raise known from error

    def _taken(self, savepoint: str) -> list[sa.NestedTransaction | SessionTransaction]:
        """Take a savepoint away, and before it those set after it, which end when it does."""
        names = list(self._savepoints)
        return [self._savepoints.pop(name) for name in reversed(names[names.index(savepoint) :])]

    def _flush(self) -> None:
        """Send what waits in the user's session, so that statements see it."""
        session = self._session
        if session is not None and any((session.new, session.dirty, session.deleted)):
            self._guarded(session.flush)

    def _expire(self) -> None:
        """Make the user's session read again what a statement may have changed."""
        if self._session is not None:
            self._session.expire_all()

    def _abandon(self) -> None:
        """After a failed COMMIT: nothing may stay open on a connection that others will use."""
        self._ending = True
        try:
            self._database.dialect.after_failed_commit(self._connection)
            self._connection.rollback()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        try:
            if self._session is not None:
                self._session.close()
            if self._forbidden and not self._connection.invalidated:
                self._database.dialect.forbid_writes(self._connection, forbidden=False)
        finally:
            self._connection.close()


def _in_utc(row: Row, places: Sequence[int]) -> Row:
    values = list(row)
    for place in places:
        moment = values[place]
        if moment is not None:
            values[place] = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return tuple(values)

"""One transaction on a database.

Knows the primitives as statements on one connection, and the Session that user code may ask for beside them. Must not
know entities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session, SessionTransaction

from sqlrepo.driver import Condition, Fetch, Transaction, Upsert
from sqlrepo.errors import (
    DatabaseUnavailableError,
    RepositoryError,
    UniqueViolationError,
    UnitStateError,
    add_failure_note,
    make_commit_lost_error,
)
from sqlrepo.language.values import Kind
from sqlrepo.sqlalchemy.errors import Place, translated
from sqlrepo.sqlalchemy.events import unsubscribe
from sqlrepo.sqlalchemy.session import UnitSession
from sqlrepo.tables.schema import Row, Schema

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

    Attributes:
        reports_statements: the engine tells what is sent; see `hooks`.
    """

    reports_statements = True

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
        self._session: Session | None = None
        self._savepoints: dict[str, sa.NestedTransaction | SessionTransaction] = {}
        self._count = 0
        self._noted: list[RepositoryError] = []
        self._ending = False
        self._forbidden = False
        self._interrupted = False

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows."""
        self._study(schema)
        statement, parameters = self._database.compiler.select(schema, request)
        return _zoned(schema, request.columns, self._execute(statement, parameters).all())

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
        found = self._execute(statement, values if many else values[0]).all()
        stored = _floats(schema, returning, _zoned(schema, returning, found))
        if schema.generated in columns:
            place = columns.index(schema.generated)
            self._numbered(schema, [row[place] for row in rows])
        self._expire()
        return stored

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert or change a row, in the way that is safe on the database."""
        match self._database.dialect.upsert:
            case "native":
                return self._upsert(schema, request, returning)
            case "insert_first":
                return self._insert_or_update(schema, request, returning)

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
            self._transaction.open_savepoint(f"read_only_{self._transaction.depth}")
            return self._transaction.innermost
        depth = self._transaction.depth
        try:
            nested = self._guarded(self._begin_nested)
        except BaseException:
            if self._transaction.depth > depth:  # the engine has reported what was then refused
                self._transaction.close_savepoint(self._transaction.innermost)
            raise
        self._savepoints[self._transaction.innermost] = nested  # the engine has reported it
        return self._transaction.innermost

    def release(self, savepoint: str) -> None:
        """Let a savepoint go."""
        if savepoint not in self._savepoints:
            self._transaction.close_savepoint(savepoint)
            return
        self._flush()
        for nested in self._taken(savepoint):
            self._guarded(nested.commit)

    def rollback_to(self, savepoint: str) -> None:
        """Undo what was done since a savepoint."""
        if savepoint not in self._savepoints:
            self._transaction.roll_back_savepoint(savepoint)
            return
        for nested in self._taken(savepoint):
            self._undo(nested)

    def _begin_nested(self) -> sa.NestedTransaction | SessionTransaction:
        if self._session is None:
            return self._connection.begin_nested()
        return self._session.begin_nested()  # so that its objects go back with the rows

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
                add_failure_note(error, second, "undoing the failed commit")
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
            made = UnitSession(lambda: None)
            made.join(self)
            self._transaction.attached = made
        return self._session

    def attach(self, session: Session) -> sa.Connection:
        """Let a session take part, and give the connection."""
        self._session = session
        return cast(sa.Connection, self.native("connection"))

    # -- what the engine reports, whoever sent the statement

    @property
    def source(self) -> Database:
        """The database the connection is from."""
        return self._database

    @property
    def survives_interrupts(self) -> bool:
        """Whether the connection is still whole after an interrupt amid a statement."""
        return self._database.dialect.survives_interrupts

    def failed(self, error: BaseException, table: Place | None) -> None:
        """Note a statement the database refused, or that was interrupted."""
        self._interrupted = self._interrupted or not isinstance(error, Exception)
        known = translated(error, self._database.tables, table)
        if known is not None:
            self._noted.append(known)
        self._transaction.fail(known or error)

    def on_event(self, event: str, savepoint: str | None) -> None:
        """Note what happened to the transaction's savepoints, and an end of it that was not the unit's."""
        if event == "savepoint":
            self._count += 1  # SQLAlchemy numbers them so, and says the name when it is used only
            self._transaction.open_savepoint(savepoint or f"sa_savepoint_{self._count}")
        elif event == "release_savepoint" and savepoint:
            self._transaction.close_savepoint(savepoint)
        elif event == "rollback_savepoint" and savepoint:
            self._transaction.roll_back_savepoint(savepoint)
        elif event in ("commit", "rollback") and not self._ending:
            hint = f"{event} was called on .session or .connection; the unit of work ends its transaction itself"
            self._transaction.lose(UnitStateError("not_open", hint))

    def answered(self) -> None:
        """Note that the connection is idle from now on."""
        self._transaction.answered = monotonic()

    # -- upserts

    def _upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """One statement, which also tells whether the row is new."""
        statement, parameters = self._database.compiler.upsert(schema, request, tuple(returning))
        found = self._execute(statement, parameters).one_or_none()
        if found is None:  # the row that is there is out of scope: it is met as by any insert
            return self.insert(schema, tuple(request.row), [tuple(request.row.values())], returning)[0], True
        if schema.generated is not None and schema.generated in request.row:
            self._numbered(schema, [request.row[schema.generated]])
        self._expire()
        return _zoned(schema, returning, [found[:-1]])[0], found[-1]

    def _insert_or_update(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert, and where the row is there already, change it.

        A locking look for a row that is not there would lock the gap, and deadlock with others that do the same.
        """
        for last in (False, False, True):
            savepoint = self.savepoint()
            try:
                [row] = self.insert(schema, tuple(request.row), [tuple(request.row.values())], returning)
                self.release(savepoint)
            except UniqueViolationError as violation:
                self.rollback_to(savepoint)
                found = self._changed(schema, request, returning)
                if found is not None:
                    return found, False
                if last or set(violation.fields) != set(request.on):
                    raise
            except BaseException:
                if self._transaction.fatal is None:
                    self.rollback_to(savepoint)
                raise
            else:
                return row, True
        raise AssertionError  # the last round returns or raises

    def _changed(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> Row | None:
        changes = request.changes
        if changes and not self.update(schema, tuple(changes), tuple(changes.values()), request.target):
            return None
        where = request.where if changes else request.target
        return next(iter(self.fetch(schema, Fetch(tuple(returning), where))), None)

    # -- the machinery

    def _numbered(self, schema: Schema, given: Sequence[Any]) -> None:
        """Let the database know of numbers that rows were given."""
        self._guarded(lambda: self._database.dialect.after_insert(self._connection, schema, given))

    def _committed(self) -> None:
        try:
            self._guarded(self._connection.commit)
        except DatabaseUnavailableError as error:
            raise make_commit_lost_error() from error

    def _study(self, schema: Schema) -> None:
        """Let the dialect look at a table before the first statement on it is written."""
        self._guarded(lambda: self._database.dialect.inspect_table(self._connection, schema))

    def _execute(self, statement: sa.Executable, parameters: Any) -> sa.CursorResult[Any]:
        self._flush()
        return self._guarded(lambda: self._connection.execute(statement, parameters))

    def _write(self, statement: sa.Executable, parameters: Any) -> int:
        count = self._execute(statement, parameters).rowcount
        self._expire()
        return count

    def _guarded(self, call: Callable[[], R]) -> R:
        """Call into SQLAlchemy and turn what it raises into the library's errors."""
        self._noted.clear()
        try:
            return call()
        except Exception as error:
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
        unsubscribe(self._connection, self)
        try:
            if isinstance(self._session, UnitSession):
                self._session.leave()
            if self._forbidden and not self._connection.invalidated:
                self._database.dialect.forbid_writes(self._connection, forbidden=False)
            if self._interrupted:
                self._database.dialect.after_interrupt(self._connection)
        finally:
            self._connection.close()


def _zoned(schema: Schema, columns: Sequence[str], found: Sequence[Sequence[Any]]) -> list[Row]:
    """Flat rows; a database that keeps no zone gives datetimes without one, which are in UTC all the same."""
    rows = [tuple(row) for row in found]
    zoned = [place for place, name in enumerate(columns) if schema.by_name[name].type.aware]
    return [_in_utc(row, zoned) for row in rows] if zoned else rows


def _in_utc(row: Row, places: Sequence[int]) -> Row:
    values = list(row)
    for place in places:
        moment = values[place]
        if moment is not None:
            values[place] = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return tuple(values)


def _floats(schema: Schema, columns: Sequence[str], rows: list[Row]) -> list[Row]:
    """Flat rows as inserting gives them: SQLite's RETURNING tells a float without fraction as an integer."""
    types = [schema.by_name[name].type for name in columns]
    places = {place for place, type_ in enumerate(types) if type_.kind is Kind.FLOAT and type_.result is None}
    if not places:
        return rows
    return [
        tuple(float(value) if place in places and value is not None else value for place, value in enumerate(row))
        for row in rows
    ]

"""A driver's primitives as SQL statements on one connection, within one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import QueryableAttribute, Session, SessionTransaction

from sqlrepo.driver import Condition, Fetch, Group, Lookup, Measure, Transaction, Upsert
from sqlrepo.errors import (
    DatabaseUnavailableError,
    ForeignKeyViolationError,
    InvalidValueError,
    QueryError,
    RepositoryError,
    UniqueViolationError,
    UnitStateError,
    add_failure_note,
    make_commit_lost_error,
    make_passed_over_error,
    make_unreadable_error,
)
from sqlrepo.language.criteria import And, Compare, OneOf, Param, Ref, matches_all
from sqlrepo.language.fields import Sort
from sqlrepo.language.values import Kind
from sqlrepo.sqlalchemy.compiler import compared_columns, write_order
from sqlrepo.sqlalchemy.dialects.base import BYTES_PER_CHARACTER, Triggers
from sqlrepo.sqlalchemy.errors import raise_translated, translate
from sqlrepo.sqlalchemy.events import UNCOUNTED, unsubscribe
from sqlrepo.sqlalchemy.session import UnitSession
from sqlrepo.sqlalchemy.translator import scribe_with_values
from sqlrepo.tables.reflection import mapper_of, sql_columns, table_of
from sqlrepo.tables.schema import Row, Schema, TableName

if TYPE_CHECKING:
    from sqlrepo.sqlalchemy.database import Database

_PAGE = 1000  # rows of an INSERT, as SQLAlchemy has it
_REST_OF_ROW = 1000  # bytes of a row in an INSERT besides its texts, estimated generously

P = ParamSpec("P")
R = TypeVar("R")


class SQLAlchemyDriver:
    """A connection of a `Database` within one transaction."""

    reports_statements = True  # see `events`
    snapshot = nullcontext

    def __init__(
        self,
        database: Database,
        connection: sa.Connection,
        transaction: Transaction,
        *,
        read_only: bool,
        guarded: bool = False,  # the server refuses writes on this connection
    ) -> None:
        self._database = database
        self._connection = connection
        self._transaction = transaction
        self._read_only = read_only
        self._guarded_by_server = guarded
        self._session: Session | None = None
        self._savepoints: dict[str, sa.NestedTransaction | SessionTransaction] = {}
        self._count = 0
        self._reported: list[RepositoryError] = []
        self._ending = False
        self._writes_forbidden = False
        self._interrupted = False
        self._changed: Callable[[], Mapping[str, str]] = dict

    @property
    def cascades(self) -> bool:
        return self._call(self._database.dialect.cascades, self._connection)

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
            for far in {one.schema for one in map(_mapper_of_lookup, request.lookups) if one is not None}:
                self._inspect_table(far)
        statement, parameters = self._database.compiler.select(schema, request)
        rows = self._execute(statement, parameters).all()
        if not request.lookups:
            return _with_utc(schema, request.columns, rows)
        measures = {at for at, one in enumerate(request.lookups, len(request.columns)) if isinstance(one, Measure)}
        return _with_types(request.result(schema), rows, measures)

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        statement, parameters = self._database.compiler.count(schema, where, limit)
        return int(self._execute(statement, parameters).scalar_one())

    def group(self, schema: Schema, request: Group) -> list[Row]:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        statement, parameters = self._database.compiler.group(schema, request)
        rows = self._execute(statement, parameters).all()
        return _with_types(request.result(schema), rows, set(range(len(request.keys) + len(request.measures))))

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        if len(rows) > 1 and _changes_keys(schema, columns, rows):
            return [self.insert(schema, columns, [row], returning)[0] for row in rows]
        self._check_decimals(schema, columns, rows)
        if not self._database.dialect.returns_inserted:
            return self._insert_plainly(schema, columns, rows, returning)
        values, many = self._insert_values(schema, columns, rows), len(rows) > 1
        statement = self._database.compiler.insert(schema, tuple(returning), many=many)
        changing = self._triggers(schema).changing
        if many and (size := self._rows_per_statement(rows)) < _PAGE:
            statement = statement.execution_options(insertmanyvalues_page_size=size)
        found = self._execute_insert(schema, statement, values if many else values[0])
        if len(found) != len(rows):
            raise make_passed_over_error(schema.name)
        stored = _with_floats(schema, returning, _with_utc(schema, returning, found))
        if schema.generated in columns:
            position = columns.index(schema.generated)
            self._after_insert(schema, [row[position] for row in rows])
        elif schema.generated is not None and not self._database.dialect.limits_keys:
            stored = self._with_valid_keys(schema, columns, rows, returning, stored)
        self._expire()
        return self._read_again(schema, returning, _pick(schema.key, returning, stored)) if changing else stored

    def _insert_plainly(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert where INSERT returns no rows but the first generated key, from which those of a statement follow.

        The rows are read again, by their keys, only if the database stores what cannot be known.
        """
        self._inspect_table(schema)
        changing = self._triggers(schema).changing  # the keys too, so that each row needs a statement
        given = [column for column in (schema.generated,) if column is not None and column not in columns]
        names = (*columns, *given)
        known = not changing and self._database.compiler.keeps(schema, names, returning)
        if not known and not (schema.key and {*schema.key} <= {*names}):
            lost = [one for one in schema.key or returning if one not in names]
            raise make_unreadable_error(schema.name, lost or returning)
        statement = self._database.compiler.insert(schema, (), many=False)
        values, numbers = self._insert_values(schema, columns, rows), list[Row]()
        size = 1 if changing else self._rows_per_statement(rows)
        for start in range(0, len(rows), size):
            page = values[start : start + size]
            result = self._execute_generating(schema, statement, page if len(page) > 1 else page[0], given)
            step = self._key_step() if given and len(page) > 1 else 1
            statement = statement.execution_options(**{UNCOUNTED: True})  # the pages that follow
            numbers += [(result.lastrowid + step * index,) if given else () for index in range(len(page))]
        self._expire()
        written = [(*row, *number) for row, number in zip(rows, numbers, strict=True)]
        if not known:
            return self._read_again(schema, returning, _pick(schema.key, names, written))
        return _pick(returning, names, [_as_stored(schema, names, row) for row in written])

    def _execute_generating(
        self, schema: Schema, statement: sa.Executable, values: Any, given: Sequence[str]
    ) -> sa.CursorResult[Any]:
        try:
            return self._execute(statement, values)
        except ForeignKeyViolationError as violation:  # which MySQL 9 checks first, and all others last
            for row in values if isinstance(values, list) else [values]:
                self._check_unique(schema, row, violation)
            raise
        except UniqueViolationError as violation:
            if not {*given}.intersection(violation.fields):
                raise
            # Behind the last number of its type, MySQL gives out the last one again.
            raise InvalidValueError(given[0], "is out of range", table=schema.name) from violation

    def _check_unique(self, schema: Schema, parameters: Mapping[str, Any], cause: Exception) -> None:
        """Raise the violation of a key or unique constraint by a row that the database has refused."""
        for unique in schema.constraints:
            names = self._database.compiler.parameter_names(schema, unique.columns)
            values = tuple(parameters.get(name) for name in names)
            shape = And(tuple(Compare(Ref(object, name), "==", Param(at)) for at, name in enumerate(unique.columns)))
            if None not in values and self.count(schema, Condition(shape, values), 1):
                raise UniqueViolationError(unique.name, unique.columns, table=schema.name) from cause

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        if self._database.dialect.has_upsert:
            return self._upsert_natively(schema, request, returning)
        return self._insert_or_update(schema, request, returning)

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        self._check_decimals(schema, columns, [values])
        self._changed = partial(self._database.compiler.changed_columns, schema, columns)
        count = self._write(*self._database.compiler.update(schema, columns, values, where))
        return count or self._check_missing(schema, where)

    def update_each(self, schema: Schema, columns: Sequence[str], rows: Sequence[tuple[Row, Row]]) -> None:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        statement, parameters = self._database.compiler.update_each(schema, columns, rows)
        self._execute(statement, parameters if len(rows) > 1 else parameters[0])
        self._expire()

    def delete(self, schema: Schema, where: Condition) -> int:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        count = self._write(*self._database.compiler.delete(schema, where))
        return count or self._check_missing(schema, where)

    # -- statements of the application

    def begin_statement(self, schema: Schema, where: Condition, order: Sequence[Sort]) -> sa.Select[Any]:
        if self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        columns, statement = compared_columns(schema), sa.select(schema.model)
        scribe = scribe_with_values(where, self._database.dialect)
        if not matches_all(where.shape):
            statement = statement.where(scribe.clause(where.shape, columns))
        return statement.order_by(*write_order(schema, scribe, columns, order))

    def fetch_statement(
        self, schema: Schema, names: Sequence[str], given: sa.Select[Any], page: tuple[int, int] | None = None
    ) -> list[Row]:
        """Read columns of a statement's first element; those of a page in its order, and then that of the key."""
        columns, others = split_elements(schema, names, given)
        read = map(self._database.dialect.read, columns)
        statement: sa.Select[*tuple[Any, ...]] = given.with_only_columns(*read, *others, maintain_column_froms=True)
        if page is not None:
            keys = (columns[names.index(name)] for name in schema.key)
            statement = statement.order_by(*keys).limit(page[0]).offset(page[1])
        return _with_utc(schema, names, [row[: len(names)] for row in self._execute(statement, {})])

    def count_statement(self, statement: sa.Select[Any]) -> int:
        counted = sa.select(sa.func.count()).select_from(statement.order_by(None).subquery())
        return int(self._execute(counted, {}).scalar_one())

    def savepoint(self) -> str:
        if self._read_only:  # there is nothing to undo
            self._transaction.open_savepoint(f"read_only_{self._transaction.depth}")
            return self._transaction.innermost
        depth = self._transaction.depth
        try:
            nested = self._call(self._begin_nested)
        except BaseException:
            if self._transaction.depth > depth:  # the engine reports a savepoint before the server refuses it
                self._transaction.close_savepoint(self._transaction.innermost)
            raise
        self._savepoints[self._transaction.innermost] = nested  # whose name came with the engine's event
        return self._transaction.innermost

    def release(self, savepoint: str) -> None:
        if savepoint not in self._savepoints:
            self._transaction.close_savepoint(savepoint)
            return
        self._flush()
        for nested in self._pop_savepoints(savepoint):
            self._call(nested.commit)

    def rollback_to(self, savepoint: str) -> None:
        if savepoint not in self._savepoints:
            self._transaction.roll_back_savepoint(savepoint)
            return
        for nested in self._pop_savepoints(savepoint):
            self._undo(nested)

    def _begin_nested(self) -> sa.NestedTransaction | SessionTransaction:
        if self._session is None:
            return self._connection.begin_nested()
        return self._session.begin_nested()  # so that its objects go back with the rows

    def _undo(self, nested: sa.NestedTransaction | SessionTransaction) -> None:
        if isinstance(nested, SessionTransaction):
            self._call(nested.rollback)  # even if a failed flush has rolled back: the session must know
            return
        if self._session is not None:
            # The session was made within this savepoint, so it holds no objects from before.
            self._call(Session.rollback, self._session)
            self._session.expunge_all()
        if nested.is_active:
            self._call(nested.rollback)

    def commit(self) -> None:
        try:
            self._flush()
            self._transaction.check()
            self._ending = True
            self._commit()
        except BaseException as error:
            try:
                self._discard()
            except Exception as second:  # noqa: BLE001  # the first error is raised, with a note of this one
                add_failure_note(error, second, "undoing the failed commit")
            raise
        self._give_back()

    def rollback(self) -> None:
        self._ending = True
        try:
            self._call(self._connection.rollback)
        finally:
            self._give_back()

    def unwrap(self, kind: str) -> Any:
        if self._read_only and not (self._guarded_by_server or self._writes_forbidden):
            self._database.dialect.forbid_writes(self._connection, forbidden=True)
            self._writes_forbidden = True
        if kind == "SQL":
            return self
        if kind == "connection":
            return self._connection
        if self._session is None:
            made = UnitSession(lambda: None)
            made.join(self)
            self._transaction.attached = made
        return self._session

    def attach(self, session: Session) -> sa.Connection:
        """Share the transaction with a session."""
        self._session = session
        return cast(sa.Connection, self.unwrap("connection"))

    # -- events of the engine, whoever sent the statement

    @property
    def source(self) -> Database:
        return self._database

    @property
    def survives_interrupts(self) -> bool:
        return self._database.dialect.survives_interrupts

    def on_error(self, error: BaseException, table: TableName | None, longest: tuple[int, str]) -> None:
        self._interrupted = self._interrupted or not isinstance(error, Exception)
        known = translate(error, self._database.tables, table, self._find_too_long(*longest))
        if known is not None:
            self._reported.append(known)
        self._transaction.fail(known or error)

    def _find_too_long(self, length: int, parameter: str) -> str | None:
        """Return the column of a parameter that alone may be longer than a statement."""
        limit = self._database.dialect.longest_statement
        if limit is None or length * BYTES_PER_CHARACTER < limit:
            return None
        return self._changed().get(parameter, parameter)

    def on_event(self, event: str, savepoint: str | None) -> None:
        if event == "savepoint":
            self._count += 1  # as SQLAlchemy numbers savepoints; its event has no name yet
            self._transaction.open_savepoint(savepoint or f"sa_savepoint_{self._count}")
        elif event == "release_savepoint" and savepoint:
            self._transaction.close_savepoint(savepoint)
        elif event == "rollback_savepoint" and savepoint:
            self._transaction.roll_back_savepoint(savepoint)
        elif event in ("commit", "rollback") and not self._ending:
            hint = f"{event} was called on .session or .connection; let the unit of work end its transaction"
            self._transaction.lose(UnitStateError("not_open", hint))

    def on_answer(self) -> None:
        self._transaction.answered = monotonic()

    # -- upserts

    def _upsert_natively(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        statement, parameters = self._database.compiler.upsert(schema, request, tuple(returning))
        changing = self._triggers(schema).changing
        found = self._execute(statement, parameters).one_or_none()
        if found is None and matches_all(request.scope.shape):
            raise make_passed_over_error(schema.name)
        if found is None:  # the existing row is out of scope, so an insert raises the violation
            return self.insert(schema, tuple(request.row), [tuple(request.row.values())], returning)[0], True
        if schema.generated is not None and schema.generated in request.row:
            self._after_insert(schema, [request.row[schema.generated]])
        self._expire()
        stored = _with_utc(schema, returning, [found[:-1]])
        if changing:
            stored = self._read_again(schema, returning, _pick(schema.key, returning, stored))
        return stored[0], found[-1]

    def _insert_or_update(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert, and update if the row exists already.

        Looking for the row first, with a lock, would lock the gap where it is missing, and two such units deadlock.
        """
        for last in (False, False, True):
            savepoint = self.savepoint()
            try:
                [row] = self.insert(schema, tuple(request.row), [tuple(request.row.values())], returning)
                self.release(savepoint)
            except UniqueViolationError as violation:
                self.rollback_to(savepoint)
                found = self._update_existing(schema, request, returning)
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

    def _update_existing(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> Row | None:
        changes = request.changes
        if changes and not self.update(schema, tuple(changes), tuple(changes.values()), request.target):
            return None
        where = request.where if changes else request.target
        return next(iter(self.fetch(schema, Fetch(tuple(returning), where))), None)

    # -- triggers and generated keys

    def _triggers(self, schema: Schema) -> Triggers:
        return self._call(self._database.dialect.triggers, self._connection, schema)

    def _execute_insert(self, schema: Schema, statement: sa.Executable, values: Any) -> Sequence[sa.Row[Any]]:
        try:
            return self._execute(statement, values).all()
        except InvalidRequestError as error:
            if "sentinel" not in str(error):  # by which SQLAlchemy sorts the rows of a batch
                raise
            raise make_passed_over_error(schema.name) from error

    def _insert_values(self, schema: Schema, columns: Sequence[str], rows: Sequence[Row]) -> list[dict[str, Any]]:
        names = self._database.compiler.parameter_names(schema, columns)
        bound = (self._database.compiler.parameter_values(schema, columns, row) for row in rows)
        return [dict(zip(names, row, strict=True)) for row in bound]

    def _rows_per_statement(self, rows: Sequence[Row]) -> int:
        """Return how many rows of a batch fit in one statement."""
        limit = self._database.dialect.longest_statement
        if limit is None:
            return _PAGE
        longest = max(sum(map(_measure, row)) for row in rows)
        return min(max(limit // (BYTES_PER_CHARACTER * longest + _REST_OF_ROW), 1), _PAGE)

    def _check_missing(self, schema: Schema, where: Condition) -> int:
        """Return 0, the number of rows written, unless there are rows, which a trigger must have passed over."""
        if self._triggers(schema).refusing and self.count(schema, where, 1):
            raise make_passed_over_error(schema.name)
        return 0

    def _read_again(self, schema: Schema, returning: Sequence[str], keys: list[Row]) -> list[Row]:
        """Read new rows, in which the database may have changed or filled in something, in the order of their keys."""
        shape = And(tuple(OneOf(Ref(object, name), Param(index)) for index, name in enumerate(schema.key)))
        found: dict[Row, Row] = {}
        for start in range(0, len(keys), _PAGE):
            where = Condition(shape, tuple(zip(*keys[start : start + _PAGE], strict=True)))
            rows = self.fetch(schema, Fetch(tuple(returning), where))
            found.update(zip(_pick(schema.key, returning, rows), rows, strict=True))
        if len(keys) == 1:  # which its type may have changed
            found = dict(zip(keys, found.values(), strict=False))
        if not found.keys() >= {*keys}:
            raise make_passed_over_error(schema.name)
        return [found[key] for key in keys]

    def _with_valid_keys(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str], stored: list[Row]
    ) -> list[Row]:
        """Take back rows whose generated keys are not valid: SQLite counts from the largest key, whatever it is."""
        assert schema.generated is not None
        keys = [key for row in stored if isinstance(key := row[returning.index(schema.generated)], int)]
        try:
            schema.check_generated(max(keys, default=1))
            if min(keys, default=1) > 0:
                return stored
        except InvalidValueError:
            self._remove(schema, keys)
            raise
        self._remove(schema, keys)  # no older key is positive, so these are free
        numbered = [(*row, number) for number, row in enumerate(rows, 1)]
        return self.insert(schema, (*columns, schema.generated), numbered, returning)

    def _remove(self, schema: Schema, keys: Sequence[int]) -> None:
        [name] = schema.key  # SQLite generates no part of a composite key
        for key in keys:
            self.delete(schema, Condition(Compare(Ref(object, name), "==", Param(0)), (key,)))

    def _check_decimals(self, schema: Schema, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Refuse decimals that the database would round without an error."""
        chosen = schema.wide_decimals.intersection(columns)
        if chosen and self._database.dialect.inspects_tables:
            self._inspect_table(schema)
        for name in chosen:
            column, position = sql_columns(schema)[name], columns.index(name)
            for row in rows:
                value = schema.by_name[name].type.store(row[position])
                if value is not None and (reason := self._database.dialect.rounds(column, value)):
                    raise InvalidValueError(name, reason, table=schema.name)

    # -- calls into SQLAlchemy

    def _after_insert(self, schema: Schema, keys: Sequence[Any]) -> None:
        self._call(self._database.dialect.after_insert, self._connection, schema, keys)

    def _commit(self) -> None:
        try:
            self._call(self._connection.commit)
        except DatabaseUnavailableError as error:
            raise make_commit_lost_error() from error

    def _key_step(self) -> int:
        return self._call(self._database.dialect.key_step, self._connection)

    def _inspect_table(self, schema: Schema) -> None:
        self._call(self._database.dialect.inspect_table, self._connection, schema)

    def _execute(self, statement: sa.Executable, parameters: Any) -> sa.CursorResult[Any]:
        self._flush()
        return self._call(self._connection.execute, statement, parameters)

    def _write(self, statement: sa.Executable, parameters: Any) -> int:
        count = self._execute(statement, parameters).rowcount
        self._expire()
        return count

    def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function, and translate what it raises."""
        self._reported.clear()
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # raised below, translated if it can be
            raise_translated(error, self._database.tables, next(iter(self._reported), None))

    def _pop_savepoints(self, savepoint: str) -> list[sa.NestedTransaction | SessionTransaction]:
        """Remove a savepoint and those set after it, which end first."""
        names = list(self._savepoints)
        return [self._savepoints.pop(name) for name in reversed(names[names.index(savepoint) :])]

    def _flush(self) -> None:
        """Flush the user's session, so that statements see its changes."""
        session = self._session
        if session is not None and any((session.new, session.dirty, session.deleted)):
            self._call(session.flush)

    def _expire(self) -> None:
        """Expire the objects of the user's session, which a statement may have changed."""
        if self._session is not None:
            self._session.expire_all()

    def _discard(self) -> None:
        """Clean up after a failed COMMIT: other units will use the connection."""
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
            if self._writes_forbidden and not self._connection.invalidated:
                self._database.dialect.forbid_writes(self._connection, forbidden=False)
            if self._interrupted:
                self._database.dialect.after_interrupt(self._connection)
        finally:
            self._connection.close()


def _changes_keys(schema: Schema, columns: Sequence[str], rows: Sequence[Row]) -> bool:
    """Return True if a type stores another key than a given one, by which SQLAlchemy finds the rows of a batch."""
    types = [(index, schema.by_name[name].type) for index, name in enumerate(columns) if name in schema.key]
    changing = [(index, type_) for index, type_ in types if type_.bind is not None]
    return any(type_.load(type_.store(row[index])) != row[index] for index, type_ in changing for row in rows)


def _pick(names: Sequence[str], columns: Sequence[str], rows: Iterable[Row]) -> list[Row]:
    """Return the values of some columns of each row."""
    places = [columns.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in rows]


def _as_stored(schema: Schema, names: Sequence[str], row: Row) -> Row:
    types = (schema.by_name[name].type for name in names)
    return tuple(one.load(one.store(value)) for one, value in zip(types, row, strict=True))


def _measure(value: Any) -> int:
    """Return about how long a value is in a statement; numbers and times are short."""
    if isinstance(value, str | bytes):
        return len(value)
    return len(ascii(value)) if isinstance(value, dict | list | BaseModel) else 0  # JSON escapes other characters


def split_elements(schema: Schema, names: Sequence[str], given: object) -> tuple[list[Any], list[Any]]:
    """Return the columns of a statement's first element, which may be an alias, and the other elements."""
    described: list[Any] = given.column_descriptions if isinstance(given, sa.Select) else []
    first = described[0] if described else {"name": type(given).__name__, "expr": None}
    mapped, own, entity = mapper_of(schema), sql_columns(schema), first.get("entity")
    whole = first["expr"] is entity or isinstance(first["expr"], QueryableAttribute)
    origin: Any = getattr(first["expr"], "table", None)
    if mapped is not None and entity is not None and whole and sa.inspect(entity).mapper is mapped:
        columns = [getattr(entity, mapped.get_property_by_column(own[name]).key) for name in names]
    elif entity is None and origin is not None and origin.is_derived_from(table_of(schema)):
        columns = [origin.corresponding_column(own[name]) for name in names]
    else:
        raise QueryError(
            "load() and load_page() take a SELECT whose first element is "
            f"{getattr(schema.model, '__name__', schema.name)}, as select() gives it, not {first['name']}"
        )
    chosen = {id(one) for one in (entity, *columns)}
    return columns, [one["expr"] for one in described if id(one["expr"]) not in chosen]


def _with_utc(schema: Schema, columns: Sequence[str], found: Sequence[Sequence[Any]]) -> list[Row]:
    """Set UTC on aware datetimes, which a database without time zones returns naive."""
    rows = list(map(tuple, found))
    if not schema.aware:
        return rows
    return _convert(rows, {index for index, name in enumerate(columns) if name in schema.aware}, _to_utc)


def _to_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _with_floats(schema: Schema, columns: Sequence[str], rows: list[Row]) -> list[Row]:
    """Make floats of integers: SQLite's RETURNING gives a float without fraction as an integer."""
    return _convert(rows, _plain(schema, columns, Kind.FLOAT), float)


def _with_types(result: Schema, found: Sequence[Sequence[Any]], measures: set[int]) -> list[Row]:
    """Return rows of a result with numbers as they are in Python: sums are decimals to some servers."""
    names = tuple(result.by_name)
    rows = _convert(_with_utc(result, names, found), measures & _plain(result, names, Kind.FLOAT), float)
    return _convert(rows, measures & _plain(result, names, Kind.INTEGER), int)


def _mapper_of_lookup(value: Lookup) -> Any:
    if isinstance(value, Ref):
        return value.via and value.via.mapper
    return value.of.mapper if isinstance(value, Measure) and value.of is not None else None


def _plain(schema: Schema, columns: Sequence[str], kind: Kind) -> set[int]:
    types = [schema.by_name[name].type for name in columns]
    return {index for index, type_ in enumerate(types) if type_.kind is kind and type_.result is None}


def _convert(rows: list[Row], indexes: set[int], convert: Callable[[Any], Any]) -> list[Row]:
    """Convert the values at some indexes of each row, except NULL."""
    if not indexes:
        return rows
    converted: list[Row] = []
    for row in rows:
        values = list(row)
        for index in indexes:
            if values[index] is not None:
                values[index] = convert(values[index])
        converted.append(tuple(values))
    return converted

"""Translation of drivers' exceptions into the errors of the library, with the names of the metadata."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.errors import (
    CheckViolationError,
    ConstraintError,
    DatabaseUnavailableError,
    ForeignKeyViolationError,
    InvalidValueError,
    LockTimeoutError,
    NotNullViolationError,
    ProgrammingError,
    ReadOnlyError,
    RepositoryError,
    StatementTimeoutError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    UnsupportedError,
)
from sqlrepo.tables.reflection import table_of
from sqlrepo.tables.schema import Schema, TableName, Unique


class TableNames:
    """The columns and constraints of one table, by the names that servers and entities give them."""

    def __init__(self, table: sa.Table, schema: Schema | None = None) -> None:
        known = schema.columns if schema else ()
        self._fields = {column.name: column.key for column in table.columns}
        self._fields |= {column.column or column.name: column.name for column in known}
        constraints = sorted(table.constraints, key=_declaration_order)
        self._key = self._unique(table.primary_key)
        self._uniques = [self._key]
        self._uniques += [self._unique(one) for one in constraints if isinstance(one, sa.UniqueConstraint)]
        self._uniques += [self._unique(one) for one in table.indexes if one.unique]
        self._foreign = [self._unique(one) for one in constraints if isinstance(one, sa.ForeignKeyConstraint)]
        constraints += [one for column in table.columns for one in column.constraints]
        checks = [one for one in constraints if isinstance(one, sa.CheckConstraint)]
        self._checks = frozenset(str(one.name) for one in checks if one.name)
        self._checks |= {one.name for one in schema.checks if one.name} if schema else set()  # those of domains too
        self.table = table.name
        generated = schema.by_name[schema.generated] if schema and schema.generated else None
        self.generated = generated and (generated.column or generated.name)

    def field(self, column: str | None) -> str | None:
        """Return the field of a column; None if the table has no such column."""
        return self._fields.get(column or "")

    def fields(self, columns: Iterable[str]) -> tuple[str, ...]:
        """Return the fields of columns."""
        return tuple(self._fields.get(column, column) for column in columns)

    def unique(self, name: str | None, columns: Sequence[str] = ()) -> Unique | None:
        """Find the unique constraint or index that a server names, or whose columns it names."""
        fields = set(self.fields(columns))
        return (
            next((one for one in self._uniques if name and one.name == name), None)
            or next((one for one in self._uniques if fields and set(one.columns) == fields), None)
            or next((one for one in self._uniques if name and name in self._generated_names(one)), None)
        )

    def foreign_key(self, name: str | None, columns: Sequence[str] = ()) -> Unique | None:
        """Find the foreign key that a server names, or whose columns it names."""
        fields = self.fields(columns)
        generated = {f"{self.table}_{'_'.join(self._column_names(one))}_fkey": one for one in self._foreign}
        return (
            next((one for one in self._foreign if name and one.name == name), None)
            or next((one for one in self._foreign if fields and one.columns == fields), None)
            or generated.get(name or "")
        )

    def check(self, name: str | None) -> str | None:
        """Return the name of a check if the metadata has it."""
        return name if name in self._checks else None

    def _unique(self, given: Any) -> Unique:
        plain = all(isinstance(column, sa.Column) for column in getattr(given, "expressions", given.columns))
        name = str(given.name) if isinstance(given.name, str) else None
        return Unique(self.fields(column.name for column in given.columns) if plain else (), name)

    def _column_names(self, unique: Unique) -> tuple[str, ...]:
        columns = {field: column for column, field in self._fields.items()}
        return tuple(columns[field] for field in unique.columns)

    def _generated_names(self, unique: Unique) -> Iterable[str]:
        """Return the names that PostgreSQL, MySQL and MariaDB give to a constraint without a name."""
        if unique is self._key:
            return (f"{self.table}_pkey", "PRIMARY")
        if unique.name is not None:
            return ()
        stored = self._column_names(unique)
        alike = [one for one in self._uniques[1:] if one.name is None and self._column_names(one)[:1] == stored[:1]]
        number = alike.index(unique)
        return (f"{self.table}_{'_'.join(stored)}_key", f"{stored[0]}_{number + 1}" if number else stored[0])


class KnownTables:
    """The tables of a database's repositories, and the other tables in their metadata."""

    def __init__(self) -> None:
        self._schemas: dict[TableName, Schema] = {}
        self._names: dict[TableName, TableNames] = {}

    def register(self, schema: Schema) -> bool:
        """Add a table; return True if it is new."""
        new = self._schemas.get(schema.full_name) is not schema
        self._schemas[schema.full_name] = schema
        return new

    def find(self, name: str | None, namespace: str | None = None) -> TableNames | None:
        """Find a table as a server names it, which also names the default schema; metadata does not."""
        alike = [known for known in self._all() if known[1] == name]
        rank = {namespace: 0, None: 1}
        found = min(alike, key=lambda known: rank.get(known[0], 2), default=None)
        return None if found is None else self._names_of(found)

    def with_unique(self, name: str | None) -> TableNames | None:
        """Find the table that has a unique constraint or index of this name, if there is exactly one."""
        found = [names for names in map(self._names_of, self._schemas) if name and names.unique(name) is not None]
        return found[0] if len(found) == 1 else None

    def with_check(self, name: str, written: TableName | None) -> TableNames | None:
        """Find the table with a check of this name: the one that was written, or one that a cascade has reached."""
        own = self.find(written[1], written[0]) if written else None
        found = [names for names in map(self._names_of, self._schemas) if names.check(name)]
        return own if (own and own.check(name)) or len(found) != 1 else found[0]

    def _all(self) -> dict[TableName, sa.Table]:
        own = {name: table_of(schema) for name, schema in self._schemas.items()}
        others = (table for one in own.values() for table in one.metadata.tables.values())
        return own | {(table.schema, table.name): table for table in others}

    def _names_of(self, name: TableName) -> TableNames:
        if name not in self._names:
            self._names[name] = TableNames(self._all()[name], self._schemas.get(name))
        return self._names[name]


def _declaration_order(constraint: Any) -> int:
    """Return a sort key: servers check constraints, and number generated names, in the order of declaration."""
    order: int = constraint._creation_order  # noqa: SLF001  # which has no public name
    return order


Make: TypeAlias = Callable[[], RepositoryError]


def translate(
    error: BaseException, tables: KnownTables, table: TableName | None = None, too_long: str | None = None
) -> RepositoryError | None:
    """Translate an exception of SQLAlchemy or a driver; None if it does not come from the database.

    ``table`` is the one that the statement wrote to, because not every server names it. ``too_long`` is the column
    whose value may have made the statement too long.
    """
    if isinstance(error, RepositoryError):
        return error
    original = error.orig if isinstance(error, exc.StatementError) and error.orig is not None else error
    if isinstance(original, sqlite3.Error):
        return _sqlite(original, tables, table)
    if (number := _mysql_number(original)) is not None:
        return _mysql(number, str(original.args[-1]), tables, table, too_long)
    if (state := _sqlstate(original)) is not None:
        return _postgresql(state, original, tables, table)
    return _without_code(error, original)


def raise_translated(error: BaseException, tables: KnownTables, known: RepositoryError | None = None) -> NoReturn:
    """Raise the translation of an exception from it, or the exception itself if there is no translation."""
    known = known or translate(error, tables)
    if known is None or known is error:
        raise error
    raise known from error


def is_broken(original: BaseException) -> bool:
    """Return True if the driver can no longer follow the server, so the connection cannot be used any more.

    asyncpg raises this if the server has ended an idle connection and the end has not been read yet. SQLAlchemy does
    not recognise it as a driver's error.
    """
    return type(original).__name__ == "InternalClientError"


def _without_code(error: BaseException, original: BaseException) -> RepositoryError | None:
    """Translate what a driver or the pool raises by itself, without an answer of the server."""
    if isinstance(error, exc.TimeoutError):
        return DatabaseUnavailableError(
            "no pooled connection became free in time; make units shorter, or the pool larger (SQLite in memory has "
            "one connection, and so one unit at a time)"
        )
    if isinstance(original, UnicodeEncodeError | OverflowError | LookupError):
        return InvalidValueError(None, f"a value cannot be sent to the database ({type(original).__name__})")
    if isinstance(original, OSError):
        return DatabaseUnavailableError(_UNREACHABLE)
    if is_broken(original):
        return DatabaseUnavailableError(_LOST)
    names = {base.__name__ for base in type(original).__mro__}
    if "DatabaseError" not in names and "InterfaceError" not in names:
        if not isinstance(error, exc.StatementError):
            return None
        return ProgrammingError(
            f"a parameter's column type raised {type(original).__name__}; the statement was not sent"
        )
    if "DataError" in names:
        return InvalidValueError(None, "a value cannot be sent to the database")
    if "ProgrammingError" in names or "NotSupportedError" in names:
        return ProgrammingError("the driver does not understand the statement")
    return DatabaseUnavailableError("the connection failed or could not be opened")


# -- errors that several servers report, each with its own code

_UNREACHABLE = "the database cannot be reached; check the URL, and that the server is running"
_LOST = "the connection to the database was lost"


def _unavailable(reason: str) -> Make:
    return partial(DatabaseUnavailableError, reason)


def _misconfigured(reason: str) -> Make:
    return partial(DatabaseUnavailableError, reason, retryable=False)


def _invalid(reason: str) -> Make:
    return partial(InvalidValueError, None, reason)


_too_long = _invalid("is too long")
_out_of_range = _invalid("is out of range")
_unfit = _invalid("cannot hold a value of this type")
_too_large = _invalid("the value is larger than the database accepts")
_computed = _invalid("is computed by the database")


def _with_field(error: RepositoryError, names: TableNames | None, column: str | None) -> RepositoryError:
    """Add the field to the error of an invalid value, if its column is known."""
    field = names.field(column) if names else None
    if names is None or field is None or not isinstance(error, InvalidValueError):
        return error
    return InvalidValueError(field, error.reason, table=names.table)


_deadlock = partial(TransactionConflictError, "deadlock with another transaction; retry the unit")
_serialization = partial(
    TransactionConflictError, "another transaction changed rows that this one had read; retry the unit"
)
_lock_timeout = partial(LockTimeoutError, "another transaction holds a lock, and did not release it in time")
_statement_timeout = partial(StatementTimeoutError, "the statement ran for too long or was cancelled")
_read_only = partial(ReadOnlyError, "the database accepts no writes on this connection")
_bad_statement = partial(
    ProgrammingError, "the database cannot run the statement; check that its tables and columns exist"
)
_forbidden = partial(ProgrammingError, "the database user has no permission for this statement")


# -- constraints


def _unique(names: TableNames | None, server: str | None, columns: Sequence[str] = ()) -> UniqueViolationError:
    if names is None:
        return UniqueViolationError(None)
    if (found := names.unique(server, columns)) is not None:
        return UniqueViolationError(found.name, found.columns, table=names.table)
    covered = [names.field(column) for column in columns]  # or expressions, of an index or an exclusion
    return UniqueViolationError(None, () if None in covered else names.fields(columns), table=names.table)


def _foreign_key(names: TableNames | None, server: str | None, columns: Sequence[str]) -> ForeignKeyViolationError:
    found = names.foreign_key(server, columns) if names else None
    if names is None or found is None:
        return ForeignKeyViolationError(None)
    return ForeignKeyViolationError(found.name, found.columns, table=names.table)


def _check(names: TableNames | None, server: str | None) -> CheckViolationError:
    return CheckViolationError(names.check(server), table=names.table) if names else CheckViolationError(None)


def _not_null(names: TableNames | None, columns: Sequence[str]) -> NotNullViolationError:
    return (
        NotNullViolationError(None, names.fields(columns), table=names.table) if names else NotNullViolationError(None)
    )


# -- SQLite reports an error's name


def _sqlite(error: sqlite3.Error, tables: KnownTables, table: TableName | None) -> RepositoryError:
    name: str = getattr(error, "sqlite_errorname", "")  # which errors of the sqlite3 module itself lack
    text = str(error)
    if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"):
        if index := re.search(r"index '([^']+)'", text):
            return UniqueViolationError(index[1])
        names, columns = _failed_columns(text, tables)
        return _unique(names, None, columns)
    if name == "SQLITE_CONSTRAINT_NOTNULL":
        names, columns = _failed_columns(text, tables)
        return _not_null(names, columns)
    if name == "SQLITE_CONSTRAINT_CHECK":
        server = text.partition(": ")[2]
        return _check(tables.with_check(server, table), server)
    if name in ("SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER"):
        # SQLite names neither constraint nor columns, and refuses by a trigger of its own where the action is RESTRICT.
        return ForeignKeyViolationError(None) if "FOREIGN KEY constraint failed" in text else CheckViolationError(None)
    if name == "SQLITE_ERROR" and (found := re.search(r"generated column \"(.+)\"$", text)):
        names = tables.find(table[1], table[0]) if table else None
        return _with_field(_computed(), names, found[1])
    known = next((make for prefix, make in _SQLITE.items() if name.startswith(prefix)), None)
    return known() if known else DatabaseUnavailableError(f"SQLite reports {name or 'an error'}", retryable=False)


def _failed_columns(text: str, tables: KnownTables) -> tuple[TableNames | None, tuple[str, ...]]:
    """Read the columns in ``... failed: todo.key, todo.owner``, where each name may contain a dot."""
    places = text.partition(": ")[2]
    dots = [index for index, character in enumerate(places) if character == "."]
    table = next((places[:dot] for dot in dots if tables.find(places[:dot])), places.partition(".")[0])
    return tables.find(table), tuple(places.removeprefix(f"{table}.").split(f", {table}."))


# By the beginning of the name; the first match counts.
_SQLITE: Mapping[str, Make] = {
    "SQLITE_BUSY_SNAPSHOT": _serialization,
    "SQLITE_BUSY": _lock_timeout,
    "SQLITE_LOCKED": _lock_timeout,
    "SQLITE_INTERRUPT": _statement_timeout,
    "SQLITE_READONLY": _read_only,
    "SQLITE_CANTOPEN": _unavailable("the database file cannot be opened"),
    "SQLITE_MISMATCH": _unfit,
    "SQLITE_CONSTRAINT_DATATYPE": _unfit,
    "SQLITE_TOOBIG": _too_large,
    "SQLITE_ERROR": _bad_statement,
}


# -- PostgreSQL reports a code of five characters, which begins with its class


def _sqlstate(original: BaseException) -> str | None:
    for one in (original, original.__cause__):
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str):
            return state
    return None


def _postgresql(state: str, original: BaseException, tables: KnownTables, table: TableName | None) -> RepositoryError:
    names = tables.find(_detail(original, "table_name"), _detail(original, "schema_name"))
    server = _detail(original, "constraint_name")
    if state in ("23505", "23P01"):
        return _unique(names, server, _key_columns(original))
    if state in ("23503", "23001"):
        return _foreign_key(names, server, ())
    if state == "23502":
        column = _detail(original, "column_name")
        return _not_null(names, (column,) if column else ())
    if state == "23514":  # a domain belongs to no table
        return _check(names or tables.with_check(server or "", table), server)
    known = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    if known is None:
        return ProgrammingError(f"the database refused the statement (PostgreSQL reports {state})")
    names = names or (tables.find(table[1], table[0]) if table else None)
    found = re.search(r'column "([^"]+)"', str(original))
    generated = names.generated if names and state == _SEQUENCE_ENDED else None
    return _with_field(known(), names, generated or (found[1] if found else None))


def _detail(original: BaseException, name: str) -> str | None:
    """Read a detail of the error: psycopg has a `diag`; asyncpg's own exception is the cause of SQLAlchemy's."""
    diag = getattr(original, "diag", None)
    for source in (diag, original.__cause__, original):
        found = getattr(source, name, None)
        if isinstance(found, str):
            return found
    return None


def _key_columns(original: BaseException) -> tuple[str, ...]:
    """Read the columns in ``Key (owner, name)=(...) already exists.``, which a server may be set not to send."""
    detail = _detail(original, "message_detail") or _detail(original, "detail") or ""
    found = re.match(r"Key \((.*?)\)=\(", detail)
    return tuple(column.strip('"') for column in found[1].split(", ")) if found else ()


_SEQUENCE_ENDED = "2200H"

_POSTGRESQL: Mapping[str, Make] = {
    "08": _unavailable(_LOST),
    "22": _unfit,
    "22001": _too_long,
    "22003": _out_of_range,
    _SEQUENCE_ENDED: _out_of_range,
    "22008": _out_of_range,
    "23": partial(ConstraintError, None),
    "25006": _read_only,
    "25P02": TransactionAbortedError,  # the application's own statement failed before a unit joined
    "25P03": _unavailable(_LOST),
    "28": _misconfigured("the database refuses this user or password; check the URL"),
    "3D000": _misconfigured("there is no such database; check the URL"),
    "40": _serialization,
    "40P01": _deadlock,
    "42": _bad_statement,
    "42501": _forbidden,
    "428C9": _computed,
    "53": _unavailable("the database has run out of connections, memory or disk space"),
    "54": _too_large,
    "55P03": _lock_timeout,
    "57014": _statement_timeout,
    "57": _unavailable(_LOST),
    "58": _misconfigured("the database reports a system error"),
    "F0": _misconfigured("the database reports a configuration error"),
    "P0001": partial(CheckViolationError, None),
    "XX": _misconfigured("the database reports an internal error"),
}


# -- MySQL and MariaDB report a number


def _mysql_number(original: BaseException) -> int | None:
    """Read the number of an error of one of their drivers; each driver has a class MySQLError."""
    if not any(base.__name__ == "MySQLError" for base in type(original).__mro__):
        return None
    return original.args[0] if original.args and isinstance(original.args[0], int) else None


_COLUMN = r".*column (?:`[^`]*`\.)*['`]([^'`]+)['`]"  # the last one, because the text may contain the value
_SEQUENCE_FAILED = 1467
PACKET_TOO_LARGE = 1153


def _mysql_unique(text: str, tables: KnownTables, names: TableNames | None) -> UniqueViolationError:
    # The text begins with the value, which may contain anything.
    found = re.search(r".* for key '(.+)'$", text, re.DOTALL)
    owner, _, server = found[1].rpartition(".") if found else ("", "", None)  # MySQL names the table too
    if names is None or (owner and names.table != owner):
        names = tables.find(owner) or names or tables.with_unique(server)
    return _unique(names, server)


def _mysql(
    number: int, text: str, tables: KnownTables, table: TableName | None, too_long: str | None
) -> RepositoryError:
    names = tables.find(table[1], table[0]) if table else None
    if number in (1062, 1586, 1169):
        return _mysql_unique(text, tables, names)
    if number in (1048, 1364):
        found = re.search(r"'([^']+)'", text)
        return _not_null(names, (found[1],) if found else ())
    if number in (1216, 1217, 1451, 1452):
        found = re.search(r"`([^`]+)`\.`([^`]+)`, CONSTRAINT `([^`]+)` FOREIGN KEY \(([^)]+)\)", text)
        if found is None:
            return ForeignKeyViolationError(None)
        return _foreign_key(tables.find(found[2], found[1]), found[3], found[4].strip("`").split("`, `"))
    if number in (4025, 3819):
        found = re.search(r"CONSTRAINT `([^`]+)` failed for `([^`]*)`\.`([^`]+)`", text)
        if found is None and (found := re.search(r"constraint '(.+)' is violated", text)):
            return _check(tables.with_check(found[1], table), found[1])
        return _check(tables.find(found[3], found[2]) if found else names, found[1] if found else None)
    make = _MYSQL.get(number)
    error = make() if make else ProgrammingError(f"the database refused the statement (it reports error {number})")
    if number == PACKET_TOO_LARGE:
        return _with_field(error, names, too_long)
    found = re.search(_COLUMN, text, re.DOTALL)
    generated = names.generated if names and number == _SEQUENCE_FAILED else None
    return _with_field(error, names, generated or (found[1] if found else None))


_CASCADE = "MySQL cannot cascade through so many rows of one table; delete the rows below first, from the leaves"
_MYSQL: Mapping[int, Make] = {
    **dict.fromkeys(
        (0, 1053, 1077, 1079, 1080, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055, 4031), _unavailable(_LOST)
    ),
    **dict.fromkeys((1040, 1203, 1226), _unavailable("the database has no free connection")),
    **dict.fromkeys((2002, 2003, 2005), _unavailable(_UNREACHABLE)),
    **dict.fromkeys((1044, 1045, 1698), _misconfigured("the database refuses this user or password; check the URL")),
    1049: _misconfigured("there is no such database; check the URL"),
    **dict.fromkeys((1213, 1479), _deadlock),
    1020: _serialization,
    **dict.fromkeys((1205, 3572), _lock_timeout),
    **dict.fromkeys((1317, 1969, 3024), _statement_timeout),
    **dict.fromkeys((1290, 1792, 1836), _read_only),
    **dict.fromkeys((1054, 1055, 1064, 1109, 1146, 1051, 1267, 1305, 1327), _bad_statement),
    **dict.fromkeys((1142, 1143, 1227, 1370), _forbidden),
    **dict.fromkeys((167, 1264, 1467, 1690, 1411), _out_of_range),
    1406: _too_long,
    **dict.fromkeys((1265, 1292, 1366), _unfit),
    **dict.fromkeys((PACKET_TOO_LARGE, 1105), _too_large),
    **dict.fromkeys((1906, 3105), _computed),
    1644: partial(CheckViolationError, None),
    **dict.fromkeys((3008, 6575), partial(UnsupportedError, _CASCADE)),
    1022: partial(UniqueViolationError, None),
}

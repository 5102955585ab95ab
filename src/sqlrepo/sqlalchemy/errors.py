"""What drivers' exceptions mean."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

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
)
from sqlrepo.tables.schema import Schema, Unique

#: A table's schema, None for the default one, and its name.
Place: TypeAlias = tuple[str | None, str]


class TableNames:
    """The names in one table, as fields and metadata have them.

    Args:
        table: the table.
        schema: its description, where a repository keeps entities in it; it says what its class calls the columns.

    Attributes:
        table: the table's name.
    """

    def __init__(self, table: sa.Table, schema: Schema | None = None) -> None:
        known = schema.columns if schema else ()
        self._fields = {column.name: column.key for column in table.columns}
        self._fields |= {column.column or column.name: column.name for column in known}
        constraints = sorted(table.constraints, key=_declared)
        self._key = self._unique(table.primary_key)
        self._uniques = [self._key]
        self._uniques += [self._unique(one) for one in constraints if isinstance(one, sa.UniqueConstraint)]
        self._uniques += [self._unique(one) for one in table.indexes if one.unique]
        self._foreign = [self._unique(one) for one in constraints if isinstance(one, sa.ForeignKeyConstraint)]
        constraints += [one for column in table.columns for one in column.constraints]
        checks = [one for one in constraints if isinstance(one, sa.CheckConstraint)]
        self._checks = frozenset(str(one.name) for one in checks if one.name)
        self.table = table.name

    def fields(self, columns: Iterable[str]) -> tuple[str, ...]:
        """What the mapped class calls columns."""
        return tuple(self._fields.get(column, column) for column in columns)

    def unique(self, name: str | None, columns: Sequence[str] = ()) -> Unique | None:
        """The unique constraint or index that a server speaks of by name, or by its columns."""
        fields = set(self.fields(columns))
        return (
            next((one for one in self._uniques if name and one.name == name), None)
            or next((one for one in self._uniques if fields and set(one.columns) == fields), None)
            or next((one for one in self._uniques if name and name in self._made_up(one)), None)
        )

    def foreign_key(self, name: str | None, columns: Sequence[str] = ()) -> Unique | None:
        """The foreign key that a server speaks of, name and columns of it."""
        fields = self.fields(columns)
        made_up = {f"{self.table}_{'_'.join(self._stored(one))}_fkey": one for one in self._foreign}
        return (
            next((one for one in self._foreign if name and one.name == name), None)
            or next((one for one in self._foreign if fields and one.columns == fields), None)
            or made_up.get(name or "")
        )

    def check(self, name: str | None) -> str | None:
        """A check's name, if the metadata has it."""
        return name if name in self._checks else None

    def _unique(self, given: Any) -> Unique:
        plain = all(isinstance(column, sa.Column) for column in getattr(given, "expressions", given.columns))
        name = str(given.name) if isinstance(given.name, str) else None
        return Unique(self.fields(column.name for column in given.columns) if plain else (), name)

    def _stored(self, unique: Unique) -> tuple[str, ...]:
        columns = {field: column for column, field in self._fields.items()}
        return tuple(columns[field] for field in unique.columns)

    def _made_up(self, unique: Unique) -> Iterable[str]:
        """What PostgreSQL and MariaDB call a constraint that has no name."""
        if unique is self._key:
            return (f"{self.table}_pkey", "PRIMARY")
        if unique.name is not None:
            return ()
        stored = self._stored(unique)
        alike = [one for one in self._uniques[1:] if one.name is None and self._stored(one)[:1] == stored[:1]]
        number = alike.index(unique)
        return (f"{self.table}_{'_'.join(stored)}_key", f"{stored[0]}_{number + 1}" if number else stored[0])


class Tables:
    """The tables that repositories keep entities in, and those declared beside them."""

    def __init__(self) -> None:
        self._schemas: dict[Place, Schema] = {}
        self._names: dict[Place, TableNames] = {}

    def adopt(self, schema: Schema) -> bool:
        """Take notice of a table, and tell whether it is a new one."""
        new = self._schemas.get(schema.place) is not schema
        self._schemas[schema.place] = schema
        return new

    def named(self, name: str | None, namespace: str | None = None) -> TableNames | None:
        """The names in a table, None for one that nobody declared.

        Args:
            name: what the server calls it.
            namespace: the schema it is in, where that is known; a server names the default one too, metadata does not.
        """
        alike = [place for place in self._places() if place[1] == name]
        rank = {namespace: 0, None: 1}
        place = min(alike, key=lambda place: rank.get(place[0], 2), default=None)
        return None if place is None else self._at(place)

    def with_unique(self, name: str | None) -> TableNames | None:
        """The only table that has a unique constraint or index of a name."""
        found = [names for names in map(self._at, self._schemas) if name and names.unique(name) is not None]
        return found[0] if len(found) == 1 else None

    def with_check(self, name: str, place: Place | None) -> TableNames | None:
        """The table that has a check of a name: the one a statement is about, or one that a cascade has reached."""
        own = self.named(place[1], place[0]) if place else None
        found = [names for names in map(self._at, self._schemas) if names.check(name)]
        return own if (own and own.check(name)) or len(found) != 1 else found[0]

    def _places(self) -> dict[Place, sa.Table]:
        """All tables there are: those of repositories, and the others of their metadata."""
        own = {place: _table(schema) for place, schema in self._schemas.items()}
        beside = (table for one in own.values() for table in one.metadata.tables.values())
        return own | {(table.schema, table.name): table for table in beside}

    def _at(self, place: Place) -> TableNames:
        if place not in self._names:
            self._names[place] = TableNames(self._places()[place], self._schemas.get(place))
        return self._names[place]


def _table(schema: Schema) -> sa.Table:
    return cast(sa.Table, sa.inspect(schema.model).local_table)


def _declared(constraint: Any) -> int:
    """When a constraint was declared, which is the order servers look at them, and number names in."""
    order: int = constraint._creation_order  # noqa: SLF001
    return order


Make: TypeAlias = Callable[[], RepositoryError]

_COLUMN = "a column"


def translated(error: BaseException, tables: Tables, table: Place | None = None) -> RepositoryError | None:
    """Tell which of the library's errors a failure is.

    Args:
        error: what SQLAlchemy or the driver raised.
        tables: finds the names a message speaks of.
        table: the table the statement was about, where it is known; not every server says.

    Returns:
        the error, without cause; None for one that says nothing about the database (a fault of the program's).
    """
    if isinstance(error, RepositoryError):
        return error
    original = error.orig if isinstance(error, exc.StatementError) and error.orig is not None else error
    if isinstance(original, sqlite3.Error):
        return _sqlite(original, tables, table)
    if (number := _number(original)) is not None:
        return _mariadb(number, str(original.args[-1]), tables, table)
    if (state := _sqlstate(original)) is not None:
        return _postgresql(state, original, tables)
    return _without_code(error, original)


def is_broken(original: BaseException) -> bool:
    """Whether a driver has lost its place in what the server says, so that the connection is of no more use.

    SQLAlchemy does not take it for an error of the driver's. asyncpg raises it where the server ended the connection
    while nobody listened, and the end itself has not been read yet.
    """
    return type(original).__name__ == "InternalClientError"


def _without_code(error: BaseException, original: BaseException) -> RepositoryError | None:
    """What drivers find themselves, before or instead of the server."""
    if isinstance(error, exc.TimeoutError):
        reason = "no connection of the pool became free in time (an in-memory SQLite has one, for one unit at a time)"
        return DatabaseUnavailableError(reason)
    if isinstance(original, UnicodeEncodeError | OverflowError | LookupError):
        return InvalidValueError("a parameter", f"cannot be sent to the database ({type(original).__name__})")
    if isinstance(original, OSError):
        return DatabaseUnavailableError(_UNREACHABLE)
    if is_broken(original):
        return DatabaseUnavailableError(_LOST)
    names = {base.__name__ for base in type(original).__mro__}
    if "DatabaseError" not in names and "InterfaceError" not in names:
        return None
    if "DataError" in names:
        return InvalidValueError("a parameter", "cannot be sent to the database")
    if "ProgrammingError" in names or "NotSupportedError" in names:
        return ProgrammingError("the driver does not understand the statement")
    return DatabaseUnavailableError("the connection failed, or could not be made")


# -- what many servers say in their own way

_UNREACHABLE = "the database cannot be reached"
_LOST = "the connection to the database was lost"


def _unavailable(reason: str) -> Make:
    return lambda: DatabaseUnavailableError(reason)


def _misconfigured(reason: str) -> Make:
    return lambda: DatabaseUnavailableError(reason, retryable=False)


def _invalid(reason: str) -> Make:
    return lambda: InvalidValueError(_COLUMN, reason)


_too_long, _out_of_range = _invalid("is too long"), _invalid("is out of range")
_unfit, _too_large = (
    _invalid("cannot hold a value of this type"),
    _invalid("the value is larger than the database takes"),
)
_computed = _invalid("is computed by the database")


def _deadlock() -> RepositoryError:
    return TransactionConflictError(
        "this transaction and another waited for each other, and this one was chosen to end"
    )


def _serialization() -> RepositoryError:
    return TransactionConflictError("another transaction wrote what this one had read")


def _lock_timeout() -> RepositoryError:
    return LockTimeoutError("another transaction held a lock for too long, or at all where none is waited for")


def _statement_timeout() -> RepositoryError:
    return StatementTimeoutError("the statement ran for too long, or was cancelled")


def _read_only() -> RepositoryError:
    return ReadOnlyError("the database takes no writes on this connection")


def _misunderstood() -> RepositoryError:
    return ProgrammingError("the database does not understand the statement: is a table or column missing?")


def _forbidden() -> RepositoryError:
    return ProgrammingError("the database user has no permission for this statement")


def _refused_by_trigger() -> RepositoryError:
    return CheckViolationError(None)


# -- constraints


def _unique(names: TableNames | None, server: str | None, columns: Sequence[str] = ()) -> UniqueViolationError:
    if names is None:
        return UniqueViolationError(None, columns)
    if (found := names.unique(server, columns)) is not None:
        return UniqueViolationError(found.name, found.columns, table=names.table)
    return UniqueViolationError(None, names.fields(columns), table=names.table)


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


# -- SQLite: names of errors


def _sqlite(error: sqlite3.Error, tables: Tables, table: Place | None) -> RepositoryError:
    name: str = getattr(error, "sqlite_errorname", "")  # some errors of the module itself have none
    text = str(error)
    if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"):
        if index := re.search(r"index '([^']+)'", text):
            return UniqueViolationError(index[1])
        names, columns = _named_columns(text, tables)
        return _unique(names, None, columns)
    if name == "SQLITE_CONSTRAINT_NOTNULL":
        names, columns = _named_columns(text, tables)
        return _not_null(names, columns)
    if name == "SQLITE_CONSTRAINT_CHECK":
        server = text.partition(": ")[2]
        return _check(tables.with_check(server, table), server)
    if name in ("SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER"):
        return ForeignKeyViolationError(None)  # SQLite names neither constraint nor columns
    if name == "SQLITE_ERROR" and "generated column" in text:
        return _computed()
    known = next((make for prefix, make in _SQLITE.items() if name.startswith(prefix)), None)
    return known() if known else DatabaseUnavailableError(f"SQLite reports {name or 'an error'}", retryable=False)


def _named_columns(text: str, tables: Tables) -> tuple[TableNames | None, tuple[str, ...]]:
    """Read ``... failed: todo.key, todo.owner``; any name may hold a dot."""
    places = text.partition(": ")[2]
    dots = [index for index, character in enumerate(places) if character == "."]
    table = next((places[:dot] for dot in dots if tables.named(places[:dot])), places.partition(".")[0])
    return tables.named(table), tuple(places.removeprefix(f"{table}.").split(f", {table}."))


# A longer name stands before its beginning.
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
    "SQLITE_ERROR": _misunderstood,
}


# -- PostgreSQL: five characters, of which two are the class


def _sqlstate(original: BaseException) -> str | None:
    for one in (original, original.__cause__):
        state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
        if isinstance(state, str):
            return state
    return None


def _postgresql(state: str, original: BaseException, tables: Tables) -> RepositoryError:
    names = tables.named(_said(original, "table_name"), _said(original, "schema_name"))
    server = _said(original, "constraint_name")
    if state in ("23505", "23P01"):
        return _unique(names, server, _key_columns(original))
    if state in ("23503", "23001"):
        return _foreign_key(names, server, ())
    if state == "23502":
        column = _said(original, "column_name")
        return _not_null(names, (column,) if column else ())
    if state == "23514":
        return _check(names, server)
    known = _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2])
    return known() if known else ProgrammingError(f"the database refused the statement (PostgreSQL reports {state})")


def _said(original: BaseException, what: str) -> str | None:
    """A detail of the error: psycopg has a `diag`; asyncpg's own exception stands behind SQLAlchemy's."""
    diag = getattr(original, "diag", None)
    for source in (diag, original.__cause__, original):
        found = getattr(source, what, None)
        if isinstance(found, str):
            return found
    return None


def _key_columns(original: BaseException) -> tuple[str, ...]:
    """Read ``Key (owner, name)=(...) already exists.``, which a server may keep for itself."""
    detail = _said(original, "message_detail") or _said(original, "detail") or ""
    found = re.match(r"Key \((.*?)\)=\(", detail)
    return tuple(column.strip('"') for column in found[1].split(", ")) if found else ()


_POSTGRESQL: Mapping[str, Make] = {
    "08": _unavailable(_LOST),
    "22": _unfit,
    "22001": _too_long,
    "22003": _out_of_range,
    "22008": _out_of_range,
    "23": lambda: ConstraintError(None),
    "25006": _read_only,
    "25P02": TransactionAbortedError,  # the application's own statement was refused, before a unit joined
    "25P03": _unavailable(_LOST),
    "28": _misconfigured("the database refuses this user or password"),
    "3D000": _misconfigured("there is no such database"),
    "40": _serialization,
    "40P01": _deadlock,
    "42": _misunderstood,
    "42501": _forbidden,
    "428C9": _computed,
    "53": _unavailable("the database has no room for this: connections, memory or disk"),
    "54": _too_large,
    "55P03": _lock_timeout,
    "57014": _statement_timeout,
    "57": _unavailable(_LOST),
    "58": _misconfigured("the database reports an error of its system"),
    "F0": _misconfigured("the database reports an error of its configuration"),
    "P0001": _refused_by_trigger,
    "XX": _misconfigured("the database reports an internal error"),
}


# -- MariaDB: numbers


def _number(original: BaseException) -> int | None:
    """The number, if a driver of MariaDB's raised this; all of them have a class of that name."""
    if not any(base.__name__ == "MySQLError" for base in type(original).__mro__):
        return None
    return original.args[0] if original.args and isinstance(original.args[0], int) else None


_AT_ROW = r"for column (?:`[^`]*`\.)*['`]([^'`]+)['`] at row"


def _mariadb(number: int, text: str, tables: Tables, table: Place | None) -> RepositoryError:
    names = tables.named(table[1], table[0]) if table else None
    if number in (1062, 1586, 1169):
        # The value comes first, and may hold anything.
        found = re.search(r".* for key '(.+)'$", text, re.DOTALL)
        server = found[1].rpartition(".")[2] if found else None
        return _unique(names or tables.with_unique(server), server)
    if number in (1048, 1364):
        found = re.search(r"'([^']+)'", text)
        return _not_null(names, (found[1],) if found else ())
    if number in (1216, 1217, 1451, 1452):
        found = re.search(r"`([^`]+)`\.`([^`]+)`, CONSTRAINT `([^`]+)` FOREIGN KEY \(([^)]+)\)", text)
        if found is None:
            return ForeignKeyViolationError(None)
        return _foreign_key(tables.named(found[2], found[1]), found[3], found[4].strip("`").split("`, `"))
    if number in (4025, 3819):
        found = re.search(r"CONSTRAINT `([^`]+)` failed for `([^`]*)`\.`([^`]+)`", text)
        return _check(tables.named(found[3], found[2]) if found else names, found[1] if found else None)
    make = _MARIADB.get(number)
    error = make() if make else ProgrammingError(f"the database refused the statement (MariaDB reports {number})")
    if names and isinstance(error, InvalidValueError) and (found := re.search(_AT_ROW, text)):
        return InvalidValueError(names.fields((found[1],))[0], error.reason)
    return error


_MARIADB: Mapping[int, Make] = {
    **dict.fromkeys(
        (0, 1053, 1077, 1079, 1080, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055), _unavailable(_LOST)
    ),
    **dict.fromkeys((1040, 1203, 1226), _unavailable("the database has no connection to spare")),
    **dict.fromkeys((2002, 2003, 2005), _unavailable(_UNREACHABLE)),
    **dict.fromkeys((1044, 1045, 1698), _misconfigured("the database refuses this user or password")),
    1049: _misconfigured("there is no such database"),
    **dict.fromkeys((1213, 1479), _deadlock),
    1020: _serialization,
    1205: _lock_timeout,
    **dict.fromkeys((1317, 1969, 3024), _statement_timeout),
    **dict.fromkeys((1290, 1792, 1836), _read_only),
    **dict.fromkeys((1054, 1064, 1109, 1146, 1051, 1267, 1305, 1327), _misunderstood),
    **dict.fromkeys((1142, 1143, 1227, 1370), _forbidden),
    **dict.fromkeys((167, 1264, 1467, 1690, 1411), _out_of_range),
    1406: _too_long,
    **dict.fromkeys((1265, 1292, 1366), _unfit),
    **dict.fromkeys((1153, 1105), _too_large),
    **dict.fromkeys((1906, 3105), _computed),
    1644: _refused_by_trigger,
    1022: lambda: UniqueViolationError(None),
}

"""What a driver's exceptions mean.

Knows error codes, and the names in a table's metadata. Must not pass on a driver's text: it holds values of rows.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping

from sqlalchemy import exc

from sqlrepo.errors import (
    CheckViolationError,
    DatabaseUnavailableError,
    ForeignKeyViolationError,
    InvalidValueError,
    LockTimeoutError,
    NotNullViolationError,
    QueryError,
    ReadOnlyError,
    RepositoryError,
    StatementTimeoutError,
    TransactionConflictError,
    UniqueViolationError,
)
from sqlrepo.schema import Schema, Unique

__all__ = ["translated"]

#: Finds the description of a table by its name.
Schemas = Callable[[str], Schema | None]


def translated(error: BaseException, schemas: Schemas) -> RepositoryError | None:
    """Tell which of the library's errors a failure is.

    Args:
        error: what SQLAlchemy or the driver raised.
        schemas: finds the table a message names.

    Returns:
        the error, without cause; None for one that says nothing about the database (a fault of the program's).
    """
    if isinstance(error, RepositoryError):
        return error
    original = error.orig if isinstance(error, exc.StatementError) and error.orig is not None else error
    if isinstance(original, sqlite3.Error):
        return _sqlite(original, schemas)
    if isinstance(original, UnicodeEncodeError | OverflowError | LookupError):
        return InvalidValueError("a parameter", f"cannot be sent to the database ({type(original).__name__})")
    if isinstance(error, exc.TimeoutError):
        reason = "no connection of the pool became free in time (an in-memory SQLite has one, for one unit at a time)"
        return DatabaseUnavailableError(reason)
    return None


def _sqlite(error: sqlite3.Error, schemas: Schemas) -> RepositoryError:
    name: str = getattr(error, "sqlite_errorname", "")  # some errors of the module itself have none
    text = str(error)
    if name in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID"):
        return _unique(text, schemas)
    if name == "SQLITE_CONSTRAINT_NOTNULL":
        schema, columns = _named_columns(text, schemas)
        return NotNullViolationError(None, columns if schema else ())
    if name == "SQLITE_CONSTRAINT_CHECK":
        return CheckViolationError(_declared_check(text.partition(": ")[2]))
    if name in ("SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_TRIGGER"):
        return ForeignKeyViolationError(None)  # SQLite names neither constraint nor columns
    if name == "SQLITE_ERROR" and "generated column" in text:
        return InvalidValueError("a column", "is computed by the database")
    known = next((make for prefix, make in _BY_CODE.items() if name.startswith(prefix)), None)
    return known(name) if known else DatabaseUnavailableError(f"SQLite reports {name or 'an error'}", retryable=False)


# A longer name stands before its beginning.
_BY_CODE: Mapping[str, Callable[[str], RepositoryError]] = {
    "SQLITE_BUSY_SNAPSHOT": lambda _: TransactionConflictError(
        "another transaction wrote after this one began to read"
    ),
    "SQLITE_BUSY": lambda _: LockTimeoutError("another connection held the database's write lock for too long"),
    "SQLITE_LOCKED": lambda _: LockTimeoutError("another connection held a table's lock for too long"),
    "SQLITE_INTERRUPT": lambda _: StatementTimeoutError("the statement was interrupted"),
    "SQLITE_READONLY": lambda _: ReadOnlyError("the database is open for reading only"),
    "SQLITE_CANTOPEN": lambda _: DatabaseUnavailableError("the database file cannot be opened"),
    "SQLITE_MISMATCH": lambda _: InvalidValueError("a column", "cannot hold a value of this type"),
    "SQLITE_CONSTRAINT_DATATYPE": lambda _: InvalidValueError("a column", "cannot hold a value of this type"),
    "SQLITE_TOOBIG": lambda _: InvalidValueError("a column", "the value is larger than the database takes"),
    "SQLITE_ERROR": lambda _: QueryError(
        "the database does not understand the statement: is a table or column missing?"
    ),
}


def _unique(text: str, schemas: Schemas) -> UniqueViolationError:
    if index := re.search(r"index '([^']+)'", text):
        return UniqueViolationError(index[1])
    schema, columns = _named_columns(text, schemas)
    if schema is None:
        return UniqueViolationError(None, columns)
    declared = (Unique(schema.key, schema.key_name), *schema.uniques)
    for unique in declared:
        if set(unique.columns) == set(columns):
            return UniqueViolationError(unique.name, unique.columns, table=schema.name)
    return UniqueViolationError(None, columns)


def _named_columns(text: str, schemas: Schemas) -> tuple[Schema | None, tuple[str, ...]]:
    """Read ``... failed: todo.key, todo.owner``, giving columns the names entities use; any name may hold a dot."""
    places = text.partition(": ")[2]
    dots = [index for index, character in enumerate(places) if character == "."]
    table = next((places[:dot] for dot in dots if schemas(places[:dot])), places.partition(".")[0])
    schema = schemas(table)
    known = {column.column or column.name: column.name for column in schema.columns} if schema else {}
    stored = places.removeprefix(f"{table}.").split(f", {table}.")
    return schema, tuple(known.get(column, column) for column in stored)


def _declared_check(name: str) -> str | None:
    """A check's name if the metadata has it; SQLite reports the text of one without a name."""
    return name if re.fullmatch(r"\w+", name) else None

"""The audit: what of an application's tables is not portable, what happens there, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.errors import DatabaseUnavailableError, MappingError, UnsupportedError, nearest
from sqlrepo.sqlalchemy.audit.rules import Finding
from sqlrepo.sqlalchemy.audit.server import UNASKED, Server, ask, findings_of
from sqlrepo.sqlalchemy.dialects import dialect_of

__all__ = ["DIALECTS", "Finding", "audit"]


#: The databases that can be named. MariaDB is known by two names, because URLs and table options have both.
DIALECTS = ("sqlite", "postgresql", "mariadb", "mysql")


def audit(tables: sa.MetaData | type[Any], database: str | sa.Engine | sa.Connection) -> tuple[Finding, ...]:
    """Tell what of some tables is not portable.

    Args:
        tables: a declarative base class, or metadata; its tables need not exist.
        database: a name: sqlite, postgresql, mariadb or mysql; then what the tables say of themselves is judged, and
            what they leave to the database is taken to be as it usually is. Or a URL, an engine or a connection of a
            real database, which is asked for the collations it has, and changed in nothing.

    Returns:
        What was found, by table; nothing for tables of portable types.

    Raises:
        MappingError: there is no metadata, or there are no tables in it.
        UnsupportedError: the database is not known to this library, or its driver is none for synchronous use.
        DatabaseUnavailableError: it cannot be reached.
    """
    known = _metadata(tables)
    sql, server = _judged(database)
    return tuple(found for table in known.sorted_tables for found in findings_of(table, sql, server))


def _metadata(tables: Any) -> sa.MetaData:
    found = tables if isinstance(tables, sa.MetaData) else getattr(tables, "metadata", None)
    if not isinstance(found, sa.MetaData):
        raise MappingError(f"{getattr(tables, '__name__', tables)!r} is neither metadata nor a base class that has it")
    if not found.tables:
        raise MappingError("there are no tables in this metadata; import the modules that define them first")
    return found


def _judged(database: str | sa.Engine | sa.Connection) -> tuple[sa.Dialect, Server]:
    if isinstance(database, sa.Connection):
        dialect_of(database.dialect).inspect_server(database, foreign=False)
        return database.dialect, ask(database)
    if isinstance(database, sa.Engine):
        return _connected(database)
    if "://" not in database:
        return _named(database), UNASKED
    url = _parsed(database)
    _require_file(url)
    from sqlrepo.sqlalchemy.database import Engines  # noqa: PLC0415  # which warns with the help of this package

    engines = Engines(url, ping=False)
    try:
        return _connected(engines.reading)
    finally:
        engines.dispose()


def _connected(engine: sa.Engine) -> tuple[sa.Dialect, Server]:
    try:
        with engine.connect() as connection:
            return _judged(connection.execution_options(sqlrepo_read_only=True))  # or SQLite's would begin to write
    except exc.DBAPIError as error:
        raise DatabaseUnavailableError("the database cannot be reached, or its catalogue not read") from error


def _parsed(given: str) -> sa.URL:
    try:
        return sa.make_url(given)
    except (exc.ArgumentError, ValueError):
        raise UnsupportedError("that is no URL of SQLAlchemy's: dialect+driver://user@host/name") from None


def _require_file(url: sa.URL) -> None:
    """SQLite would make a file that is not there."""
    name = url.database or ":memory:"
    if url.get_backend_name() == "sqlite" and not name.startswith((":memory:", "file:")) and not Path(name).exists():
        raise DatabaseUnavailableError(f"there is no file {name}")


def _named(name: str) -> sa.Dialect:
    if name not in DIALECTS:
        raise UnsupportedError(f"{name!r} is none of {', '.join(DIALECTS)}{nearest(name, DIALECTS)}")
    return sa.make_url(f"{name}://").get_dialect()()

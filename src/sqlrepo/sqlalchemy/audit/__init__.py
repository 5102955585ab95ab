"""The audit: what in an application's tables is not portable, what happens there, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.errors import DatabaseUnavailableError, MappingError, UnsupportedError, nearest
from sqlrepo.sqlalchemy.audit.rules import LOST_UPDATE, NO_CASCADE, Finding, findings_of
from sqlrepo.sqlalchemy.audit.server import UNKNOWN, Server, read_collations
from sqlrepo.sqlalchemy.connecting import check_url, load_dialect, make_engine
from sqlrepo.sqlalchemy.dialects import dialect_of
from sqlrepo.sqlalchemy.dialects.base import is_first, log
from sqlrepo.tables.reflection import table_of
from sqlrepo.tables.schema import Schema

_DIALECTS = ("sqlite", "postgresql", "mariadb", "mysql")


def audit(tables: sa.MetaData | type[Any], database: str | sa.Engine | sa.Connection) -> tuple[Finding, ...]:
    """Find what in some tables is not portable.

    Args:
        tables: a declarative base class, or metadata. The tables need not exist in the database.
        database: one of the names sqlite, postgresql, mariadb and mysql, to judge the tables by their declaration
            alone; columns without a collation are then assumed to have the database's usual default. Or the URL,
            engine or connection of a real database, whose collations are read, and which is not changed.

    Returns:
        the findings, by table; empty if all types are portable.

    Raises:
        MappingError: ``tables`` has no metadata, or its metadata has no tables.
        UnsupportedError: the database is not known to this library, or its driver is asynchronous.
        DatabaseUnavailableError: the database cannot be reached.
    """
    metadata = _metadata(tables)
    dialect, server = _ask(database)
    return tuple(found for table in metadata.sorted_tables for found in findings_of(table, dialect, server))


def log_once(engine: sa.Engine, schema: Schema) -> None:
    """Log which parts of a table are not portable, once per table and kind of database.

    Findings that depend on the database's default collation are left out, because no database was asked. So are a
    missing version, which many tables do without, and a missing cascade.
    """
    table = table_of(schema)
    dialect = dialect_of(engine.dialect)
    if not is_first(table, dialect.name):
        return
    findings = findings_of(table, dialect.types, UNKNOWN, without=[LOST_UPDATE, NO_CASCADE])
    found = [one for one in findings if not one.assumed]
    if found:
        places = dict.fromkeys(one.place or one.what for one in found)  # each once, in their order
        log.warning(
            "%r: table %s is not portable (%s); run `python -m sqlrepo audit` to see what happens and what to do",
            engine.url,
            schema.name,
            ", ".join(places),
        )


def find_short_keys(tables: Any) -> list[str]:
    """Return the tables that generate keys of 32 bits or less and take given ones, of which the last may be chosen."""
    found = [(table, table.autoincrement_column) for table in _metadata(tables).sorted_tables]
    return [
        table.fullname
        for table, column in found
        if column is not None
        and not isinstance(column.type, sa.BigInteger)
        and not (column.identity is not None and column.identity.always)
    ]


def _metadata(tables: Any) -> sa.MetaData:
    found = tables if isinstance(tables, sa.MetaData) else getattr(tables, "metadata", None)
    if not isinstance(found, sa.MetaData):
        name = getattr(tables, "__name__", repr(tables))
        raise MappingError(f"{name} is neither metadata nor a declarative base class; pass one of those")
    if not found.tables:
        raise MappingError("this metadata has no tables; import the modules that define them first")
    return found


def _ask(database: str | sa.Engine | sa.Connection) -> tuple[sa.Dialect, Server]:
    if isinstance(database, sa.Connection):
        dialect_of(database.dialect).inspect_server(database, foreign=False)
        return database.dialect, read_collations(database)
    if isinstance(database, sa.Engine):
        return _ask_engine(database)
    if "://" not in database:
        return _load_named(database), UNKNOWN
    engine = _reading_engine(check_url(database, asynchronous=False))
    try:
        return _ask_engine(engine)
    finally:
        engine.dispose()


def _ask_engine(engine: sa.Engine) -> tuple[sa.Dialect, Server]:
    try:
        with engine.connect() as connection:
            # Without the option, SQLite's connections would begin a writing transaction.
            return _ask(connection.execution_options(sqlrepo_read_only=True))
    except exc.DBAPIError as error:
        raise DatabaseUnavailableError("the database cannot be reached, or its catalogue cannot be read") from error


def _reading_engine(url: sa.URL) -> sa.Engine:
    dialect, name = dialect_of(load_dialect(url)), url.database or ":memory:"
    if dialect.name == "sqlite" and not name.startswith((":memory:", "file:")) and not Path(name).exists():
        raise DatabaseUnavailableError(f"there is no file {name}")  # SQLite would make one
    return dialect.make_reader(url, ping=False, make=make_engine) or make_engine(url)


def _load_named(name: str) -> sa.Dialect:
    if name not in _DIALECTS:
        raise UnsupportedError(f"{name!r} is not a known database{nearest(name, _DIALECTS)}")
    return sa.make_url(f"{name}://").get_dialect()()

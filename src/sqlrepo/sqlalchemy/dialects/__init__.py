"""The databases that are known, each in a module of its own."""

from __future__ import annotations

import sqlalchemy as sa

from sqlrepo.errors import UnsupportedError, nearest
from sqlrepo.sqlalchemy.dialects.base import Dialect
from sqlrepo.sqlalchemy.dialects.mariadb import MariaDB
from sqlrepo.sqlalchemy.dialects.postgresql import PostgreSQL
from sqlrepo.sqlalchemy.dialects.sqlite import SQLite

__all__ = ["Dialect", "MariaDB", "PostgreSQL", "SQLite", "dialect_of"]

_KNOWN: dict[str, type[Dialect]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mysql": MariaDB,
    "mariadb": MariaDB,
}


_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


def dialect_of(sql: sa.Dialect, isolation: str | None = None) -> Dialect:
    """What is known of the database that SQLAlchemy speaks a dialect to.

    Args:
        sql: SQLAlchemy's dialect; an engine has one.
        isolation: another isolation level than the database's usual one.

    Raises:
        UnsupportedError: the database, or the level, is not known to this library.
    """
    if sql.name not in _KNOWN:
        raise UnsupportedError(f"{sql.name} is not supported; there are sqlite, postgresql, mariadb, and memory")
    if isolation not in (None, *_LEVELS):
        # AUTOCOMMIT is none: nothing could be rolled back.
        raise UnsupportedError(f"isolation {isolation!r} is none of {', '.join(_LEVELS)}{nearest(isolation, _LEVELS)}")
    return _KNOWN[sql.name](sql, isolation)

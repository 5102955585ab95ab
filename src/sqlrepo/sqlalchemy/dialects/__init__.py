"""The supported databases, each in a module of its own."""

from __future__ import annotations

import sqlalchemy as sa

from sqlrepo.errors import UnsupportedError, nearest
from sqlrepo.sqlalchemy.dialects.base import Dialect
from sqlrepo.sqlalchemy.dialects.mysql import MySQL
from sqlrepo.sqlalchemy.dialects.postgresql import PostgreSQL
from sqlrepo.sqlalchemy.dialects.sqlite import SQLite

_KNOWN: dict[str, type[Dialect]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "mariadb": MySQL,
}


_LEVELS = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


def dialect_of(sql: sa.Dialect, isolation: str | None = None) -> Dialect:
    """Make the dialect for a dialect of SQLAlchemy; raises UnsupportedError for an unknown database or level."""
    if sql.name not in _KNOWN:
        raise UnsupportedError(f"{sql.name} is not supported; use sqlite, postgresql, mysql or mariadb")
    if isolation not in (None, *_LEVELS):  # AUTOCOMMIT is not a level: nothing could be rolled back
        raise UnsupportedError(f"unknown isolation level {isolation!r}{nearest(isolation, _LEVELS)}")
    return _KNOWN[sql.name](sql, isolation)

"""What is particular to a database: how its connections are set up, and the few pieces of SQL that differ.

Knows SQLite. Must not know repositories or units of work.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, assert_never

from sqlalchemy import ColumnElement, Connection, Engine, and_, event, func, literal
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry, Pool, QueuePool, SingletonThreadPool, StaticPool

from sqlrepo.criteria import Match
from sqlrepo.errors import UnsupportedError
from sqlrepo.values import fold_unicode

__all__ = ["SQLite", "dialect_of"]

_BUSY_SECONDS = 30
_PREPARED = "sqlrepo_prepared"

# SQLite sorts every blob behind every text, so this is an upper bound no text reaches.
_ABOVE_ALL_TEXT = b""


class SQLite:
    """SQLite through the sqlite3 module."""

    name = "sqlite"
    # One writer at a time, which sees the database as it was when it began; numbers of deleted rows come again.
    lacks = frozenset({"concurrent_writers", "rereads_committed", "conflict_at_commit", "fresh_keys"})

    def __init__(self) -> None:
        self._examined = False

    def engine_options(self, url: URL) -> dict[str, Any]:
        """Options of `create_engine`; an in-memory database is one connection, handed to one unit at a time."""
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS}}
        if _in_memory(url):
            options |= {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
            options["connect_args"]["check_same_thread"] = False
        return options

    def set_up(self, engine: Engine) -> None:
        """Make an engine of ours behave: real transactions, foreign keys, a log that lets readers read."""
        event.listen(engine, "connect", self._connected)
        event.listen(engine, "begin", self._begun)

    def _connected(self, connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; see `_begun`
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        self._prepare(connection, entry.info)

    def _begun(self, connection: Connection) -> None:
        # A deferred transaction that reads first and writes later fails at once beside another writer; see SQLite's
        # documentation of SQLITE_BUSY. So whoever may write takes the lock at the beginning, and waits for it.
        mode = "" if connection.get_execution_options().get("sqlrepo_read_only") else " IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN{mode}")

    def begin(self, connection: Connection, *, read_only: bool) -> None:
        """Begin a transaction, also on an engine of somebody else's, which may not send BEGIN."""
        pooled = connection.connection
        if _PREPARED not in pooled.info:
            self._prepare(pooled.dbapi_connection, pooled.info)
            if not self._examined:
                self._examine(pooled.dbapi_connection, connection.engine.pool)
        connection.execution_options(sqlrepo_read_only=read_only)
        connection.begin()
        if not getattr(pooled.dbapi_connection, "in_transaction", True):
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    def _prepare(self, connection: Any, info: dict[str, Any]) -> None:
        connection.create_function("sqlrepo_fold", 1, _fold, deterministic=True)
        info[_PREPARED] = True

    def _examine(self, connection: Any, pool: Pool) -> None:
        """Name what an engine of the application's lacks, once."""
        self._examined = True
        if isinstance(pool, StaticPool | SingletonThreadPool):
            warnings.warn(
                f"this engine's {type(pool).__name__} gives one connection to several units of work, whose "
                "transactions then mix; give Database the URL instead",
                RuntimeWarning,
                stacklevel=2,
            )
        if not connection.execute("PRAGMA foreign_keys").fetchone()[0]:
            warnings.warn(
                "this engine does not enforce foreign keys (PRAGMA foreign_keys = ON); give Database the URL instead, "
                "or set it when the engine connects",
                RuntimeWarning,
                stacklevel=2,
            )

    def forbid_writes(self, connection: Connection, *, forbidden: bool) -> None:
        """Make the connection itself refuse writes, or take them again."""
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if forbidden else 'OFF'}")

    def after_failed_commit(self, connection: Connection) -> None:
        """Undo what a refused COMMIT leaves open, and SQLAlchemy believes ended."""
        connection.connection.dbapi_connection.rollback()  # type: ignore[union-attr]  # it is checked out

    def ascending(self, column: ColumnElement[Any], *, nullable: bool) -> ColumnElement[Any]:
        """Smallest first; NULL is the smallest here anyway."""
        return column.asc()

    def descending(self, column: ColumnElement[Any], *, nullable: bool) -> ColumnElement[Any]:
        """Largest first."""
        return column.desc()

    def match(
        self,
        node: Match,
        column: ColumnElement[Any],
        text: Callable[[Callable[[str], Any] | None], ColumnElement[Any]],
        *,
        plain: bool,
    ) -> ColumnElement[bool]:
        """Compare text by code point, or folded; LIKE would ignore the case of A to Z, and knows wildcards.

        Args:
            node: the criterion.
            column: what is searched.
            text: gives the parameter, after a function was applied to it where one is given.
            plain: whether the column keeps text as it is, so that a prefix is a range.
        """
        subject = self._folded(node, column)
        needle = text(None)
        match node.kind:
            case "contains":
                return func.instr(subject, needle) > literal(0)
            case "equals":
                return subject == needle
            case "startswith" if plain and node.case == "exact":
                return and_(column >= needle, column < text(_successor))
            case "startswith":
                return func.substr(subject, 1, func.length(needle)) == needle
            case "endswith":
                start = func.length(subject) - func.length(needle) + 1
                return func.substr(subject, start) == needle
            case _:
                assert_never(node.kind)

    def _folded(self, node: Match, column: ColumnElement[Any]) -> ColumnElement[Any]:
        if node.case == "exact":
            return column
        return func.lower(column) if node.case == "ascii" else func.sqlrepo_fold(column, type_=column.type)


def dialect_of(engine: Engine) -> SQLite:
    """The dialect of an engine.

    Raises:
        UnsupportedError: this library does not know the database yet.
    """
    if engine.dialect.name != "sqlite":
        raise UnsupportedError(f"{engine.dialect.name} is not supported yet; there are sqlite and memory")
    return SQLite()


def _in_memory(url: URL) -> bool:
    name = url.database or ":memory:"
    return ":memory:" in name or "mode=memory" in name or url.query.get("mode") == "memory"


def _fold(text: object) -> object:
    return fold_unicode(text) if isinstance(text, str) else text


def _successor(prefix: str) -> str | bytes:
    """The smallest text behind every text with a prefix; surrogates are no characters and are passed over."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return _ABOVE_ALL_TEXT
    following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1
    return stem[:-1] + chr(following)

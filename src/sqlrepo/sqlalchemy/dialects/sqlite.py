"""SQLite: explicit BEGIN, foreign keys, WAL, and functions instead of LIKE."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, assert_never

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Double,
    Engine,
    Integer,
    Numeric,
    Text,
    and_,
    cast,
    event,
    func,
    literal,
    literal_column,
    text,
    type_coerce,
)
from sqlalchemy import Dialect as SQLDialect
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, QueuePool, SingletonThreadPool, StaticPool
from sqlalchemy.types import TypeDecorator

from sqlrepo.errors import ProgrammingError, UnsupportedError
from sqlrepo.language.criteria import Match
from sqlrepo.language.values import EXACT, fold_unicode
from sqlrepo.sqlalchemy.connecting import close_all
from sqlrepo.sqlalchemy.dialects.base import AnyColumn, Dialect, Needle, Triggers, successor
from sqlrepo.sqlalchemy.events import UNCOUNTED
from sqlrepo.tables.reflection import table_of
from sqlrepo.tables.schema import Schema

_BUSY_SECONDS = 30
_HALF, _LOW = 32, 2**32 - 1  # bits, and the number that has all of the lower ones
_READ_DIGITS = 10  # that SQLAlchemy reads of a NUMERIC without scale
_PREPARED = "sqlrepo_prepared"

_EMPTY = (
    "the process forked, and an in-memory database is not shared: this process has its own, which is empty; use a file "
    "to share data between processes"
)
_UNLOCKED = (
    "the process forked while a connection to this file was in use, so SQLite's locks are gone, and commits of this "
    "process may be lost; fork while no unit of work is open"
)

_FOREIGN_KEYS = text("PRAGMA foreign_keys").execution_options(**{UNCOUNTED: True})

_OBJECTS = """
    SELECT type, sql FROM {}.sqlite_master WHERE lower(tbl_name) = lower(:name) AND type <> 'index'
    UNION ALL SELECT type, sql FROM sqlite_temp_master WHERE lower(tbl_name) = lower(:name) AND type <> 'index'
"""
_WRITES_VIEW = re.compile(r"\bINSTEAD\s+OF\s+INSERT\b", re.IGNORECASE)

# SQLite sorts every blob behind every text, so this is an upper bound no text reaches.
_ABOVE_ALL_TEXT = b""


class SQLite(Dialect):
    """SQLite through the sqlite3 module."""

    name = "sqlite"
    usual_isolation = "SERIALIZABLE"
    asks_server = False
    # No native upsert: ON CONFLICT does not tell insert from update.
    survives_interrupts = True  # and dropping the connection would drop an in-memory database
    limits_keys = False

    def __init__(self, sql: SQLDialect, isolation: str | None = None) -> None:
        if isolation not in (None, "SERIALIZABLE"):
            raise UnsupportedError(f"SQLite has no isolation level {isolation}; it is always SERIALIZABLE")
        super().__init__(sql, isolation)
        self._in_memory = False
        self._unlocked: set[Engine] = set()
        self._forked: str | None = None

    # -- engines

    @property
    def missing_capabilities(self) -> frozenset[str]:
        return frozenset(
            {
                "concurrent_writers",
                "rereads_committed",
                "conflict_at_commit",
                "fresh_keys",
                "row_locks",
                "fk_error_details",
                "references_at_end",
            }
        )

    def engine_options(self, url: URL, *, ping: bool) -> dict[str, Any]:
        """Return options; an in-memory database has one connection, which one unit at a time can use."""
        options: dict[str, Any] = {"connect_args": {"timeout": _BUSY_SECONDS}}
        if _in_memory(url):
            pool = AsyncAdaptedQueuePool if url.get_dialect().is_async else QueuePool
            options |= {"poolclass": pool, "pool_size": 1, "max_overflow": 0}
            options["connect_args"]["check_same_thread"] = False
        return options

    def set_up(self, engine: Engine) -> None:
        self._in_memory = _in_memory(engine.url)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "begin", self._on_begin)

    def reader_options(self, url: URL, *, ping: bool) -> dict[str, Any] | None:
        """Return options; read-only units have transactions, because BEGIN costs no round trip."""
        return None if _in_memory(url) else self.engine_options(url, ping=ping)

    def set_up_reader(self, engine: Engine) -> None:
        event.listen(engine, "connect", self._on_reader_connect)
        event.listen(engine, "begin", self._on_begin)

    def _on_connect(self, connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver sends no BEGIN; `_on_begin` does
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA journal_mode = WAL")
        self._prepare(connection, entry.info)

    def _on_reader_connect(self, connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA query_only = ON")
        self._prepare(connection, entry.info)

    def _on_begin(self, connection: Connection) -> None:
        # A transaction that takes the write lock later than its first read fails at once if another one holds it (see
        # SQLITE_BUSY in SQLite's documentation). IMMEDIATE takes the lock, or waits for it, at the beginning.
        mode = "" if connection.get_execution_options().get("sqlrepo_read_only") else " IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN{mode}")

    # -- forks

    def before_fork(self, engine: Engine) -> None:
        """Close connections to a file: a child that inherits an open one believes it has the parent's locks.

        The parent's last connection would then delete the WAL of the children, with their commits.
        """
        if isinstance(engine.pool, QueuePool) and not _in_memory(engine.url):
            self._unlocked.add(engine)
            if engine.pool.checkedout() == 0:  # one open connection would keep the locks of all
                if engine.pool.checkedin():
                    close_all(engine)
                self._unlocked.discard(engine)

    def after_fork(self, engine: Engine) -> None:
        """Prepare the warning that the next unit logs."""
        super().after_fork(engine)
        if _in_memory(engine.url):
            self._forked = _EMPTY
        elif engine in self._unlocked:
            self._forked = _UNLOCKED
        self.inspected = False

    # -- connections

    def begin(self, connection: Connection, *, read_only: bool) -> None:
        """Begin a transaction, for which `_on_begin` sends BEGIN."""
        connection.execution_options(sqlrepo_read_only=read_only)
        connection.begin()

    def begin_foreign(self, connection: Connection, *, read_only: bool) -> None:
        """Begin a transaction, and send BEGIN if the engine has no hook that does."""
        self._prepare_foreign(connection)
        self.begin(connection, read_only=read_only)
        if not _has_begun(connection):
            connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    def join(self, connection: Connection) -> None:
        """Join, and send BEGIN if the driver has not: else releasing a savepoint would commit."""
        self._prepare_foreign(connection)
        if not _has_begun(connection):
            connection.exec_driver_sql("BEGIN")

    def _prepare_foreign(self, connection: Connection) -> None:
        pooled = connection.connection
        if _PREPARED not in pooled.info:
            self._prepare(pooled.dbapi_connection, pooled.info)

    def _prepare(self, connection: Any, info: dict[str, Any]) -> None:
        connection.create_function("sqlrepo_fold", 1, _fold, deterministic=True)
        connection.create_function("sqlrepo_high", 2, _high_half, deterministic=True)
        connection.create_function("sqlrepo_low", 2, _low_half, deterministic=True)
        info[_PREPARED] = True

    def cascades(self, connection: Connection) -> bool:
        return bool(connection.execute(_FOREIGN_KEYS).scalar_one())

    def _inspect(self, connection: Connection) -> Sequence[str]:
        return () if self._forked is None else (self._forked,)

    def _engine_problems(self, connection: Connection) -> Iterator[str]:
        pool = connection.engine.pool
        if isinstance(pool, StaticPool | SingletonThreadPool):
            yield (
                f"this engine's {type(pool).__name__} shares one connection between units of work, so their "
                "transactions mix; give Database the URL instead"
            )
        if not self.cascades(connection):
            yield (
                "this engine does not enforce foreign keys; give Database the URL instead, or send PRAGMA "
                "foreign_keys = ON when it connects"
            )

    def _read_triggers(self, connection: Connection, schema: Schema) -> Triggers | None:
        """Look for triggers, and for a view that no trigger makes writable, for which RETURNING feigns a row."""
        table = table_of(schema)
        namespace = self.sql.identifier_preparer.quote(connection.schema_for_object(table) or "main")
        statement = text(_OBJECTS.format(namespace)).execution_options(**{UNCOUNTED: True})
        found = connection.execute(statement, {"name": table.name}).all()
        triggers = [sql for kind, sql in found if kind == "trigger"]
        if any(kind == "view" for kind, _ in found) and not any(map(_WRITES_VIEW.search, triggers)):
            raise ProgrammingError(f"{table.name} is a view, which takes no rows; write to the table beneath")
        return Triggers(changing=bool(triggers), refusing=bool(triggers)) if found else None

    def forbid_writes(self, connection: Connection, *, forbidden: bool) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if forbidden else 'OFF'}")

    def after_failed_commit(self, connection: Connection) -> None:
        """Roll back the transaction that a refused COMMIT leaves open, though SQLAlchemy believes it has ended."""
        connection.connection.dbapi_connection.rollback()  # type: ignore[union-attr]  # it is checked out

    def after_interrupt(self, connection: Connection) -> None:
        """Discard an asynchronous connection: SQLAlchemy 2.0 leaves its statement open, so it could not commit."""
        if self.sql.is_async and not self._in_memory:
            connection.invalidate()

    # -- statements

    def rounds(self, column: AnyColumn, value: Decimal) -> str | None:
        """Refuse a decimal that does not come back from a 64-bit float as SQLAlchemy writes and reads it."""
        type_: Any = self.stored_type(column)
        if not isinstance(type_, Numeric):
            return None
        exact = value == Decimal(f"{float(value):.{_digits_read(type_)}f}")
        return None if exact else "is not exact as a 64-bit float, which SQLite stores; use types.Exact"

    def exact(self, column: AnyColumn) -> AnyColumn:
        """Return the column: SQLite compares by code point."""
        return column

    def addends(self, column: AnyColumn) -> list[AnyColumn]:
        """Split numbers in two halves, because SQLite adds up to 64 bits only, and floats inexactly."""
        stored: Any = self.stored_type(column)
        if isinstance(stored, Integer):
            number = type_coerce(column, BigInteger())
            return [number.bitwise_rshift(_HALF), number.bitwise_and(_LOW)]
        if isinstance(stored, Numeric) and stored.asdecimal:
            digits = literal(_digits_read(stored))
            return [func.sqlrepo_high(column, digits), func.sqlrepo_low(column, digits)]
        return [column]

    def total(self, sums: list[AnyColumn], column: AnyColumn) -> tuple[AnyColumn, AnyColumn]:
        stored: Any = self.stored_type(column)
        if len(sums) == 1:
            return super().total(sums, column)
        high, low = sums
        read = cast(high, Text()).op("||")(literal_column("':'")).op("||")(cast(low, Text()))
        carried = high + low.bitwise_rshift(_HALF)
        number = carried * literal_column(str(_LOW + 1)) + low.bitwise_and(_LOW)  # beyond 64 bits a float
        if isinstance(stored, Integer):
            scale = getattr(column.type, "scale", None)
            compared = type_coerce(number, BigInteger() if scale is None else column.type)
        else:
            scale = _digits_read(stored)
            compared = type_coerce(number / literal_column(f"1e{scale}", Double()), Numeric())
        return type_coerce(read, _Sum(scale)), compared

    def match(self, node: Match, column: AnyColumn, text: Needle, *, plain: bool) -> AnyColumn:
        """Search by functions: LIKE ignores the case of A to Z and has wildcards."""
        subject = self._fold_column(node, column)
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

    def _fold_column(self, node: Match, column: AnyColumn) -> AnyColumn:
        if node.case == "exact":
            return column
        return func.lower(column) if node.case == "ascii" else func.sqlrepo_fold(column, type_=column.type)


def _has_begun(connection: Connection) -> bool:
    """Ask the driver itself, because SQLAlchemy's adapter for aiosqlite has no such property."""
    driver: Any = connection.connection.driver_connection
    return bool(driver.in_transaction)


def _in_memory(url: URL) -> bool:
    name = url.database or ":memory:"
    return ":memory:" in name or "mode=memory" in name or url.query.get("mode") == "memory"


def _fold(text: object) -> object:
    return fold_unicode(text) if isinstance(text, str) else text


def _digits_read(type_: Any) -> int:
    """Return how many digits after the point SQLAlchemy reads of a float."""
    given = (type_.decimal_return_scale, type_.scale, _READ_DIGITS)
    return next(one for one in given if one is not None)


def _high_half(value: Any, digits: int) -> int | None:
    return None if value is None else _scale(value, digits) >> _HALF


def _low_half(value: Any, digits: int) -> int | None:
    return None if value is None else _scale(value, digits) & _LOW


def _scale(value: float, digits: int) -> int:
    return int(f"{value:.{digits}f}".replace(".", ""))


class _Sum(TypeDecorator[Any]):
    """Puts the halves of a sum together again: an int, or with a scale a decimal."""

    impl = Text
    cache_ok = True

    def __init__(self, scale: int | None) -> None:
        super().__init__()
        self.scale = scale

    def process_result_value(self, value: str | None, dialect: SQLDialect) -> int | Decimal | None:
        if value is None:
            return None
        high, low = map(int, value.split(":"))
        whole = (high << _HALF) + low
        return whole if self.scale is None else Decimal(whole).scaleb(-self.scale, EXACT)


def _successor(prefix: str) -> str | bytes:
    following = successor(prefix)
    return _ABOVE_ALL_TEXT if following is None else following

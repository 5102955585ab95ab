"""What differs from database to database, with defaults for what most of them do."""

from __future__ import annotations

import logging
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlrepo.errors import UnsupportedError
from sqlrepo.forks import ForkSafeLock, leak
from sqlrepo.language.criteria import Match, Operator
from sqlrepo.tables.schema import Schema, TableName

log = logging.getLogger("sqlrepo")

AnyColumn: TypeAlias = sa.ColumnElement[Any]
#: Makes the bind parameter of the searched text, after applying a function to the text if there is one.
Needle: TypeAlias = Callable[[Callable[[str], Any] | None], AnyColumn]

#: `connecting.make_engine`, or a function that makes an asynchronous engine and returns the engine beneath.
MakeEngine: TypeAlias = Callable[..., sa.Engine]

BYTES_PER_CHARACTER = 4  # at most, on the wire
READ_COMMITTED = "READ COMMITTED"

_GUARD = ForkSafeLock()
_SEEN: WeakKeyDictionary[sa.Engine | sa.Table, set[Hashable]] = WeakKeyDictionary()

_COMPARE: Mapping[Operator, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Triggers(NamedTuple):
    """What the triggers of a table may do without an error."""

    changing: bool  # change new rows after INSERT has returned them
    refusing: bool  # pass over a row that is to be written


class Dialect(ABC):
    """One kind of database: its settings, its connections and the SQL that is particular to it."""

    name: str
    usual_isolation: ClassVar[str] = READ_COMMITTED
    returns_inserted: bool = True  # INSERT returns the rows as they are stored
    has_upsert: ClassVar[bool] = False  # one statement that also returns whether it inserted
    survives_interrupts: ClassVar[bool] = False  # a connection can be used after an interrupt during a statement
    inspects_tables: ClassVar[bool] = False  # the SQL of statements depends on properties of their table
    asks_server: ClassVar[bool] = True  # its missing capabilities depend on the server
    reads_changed_table: ClassVar[bool] = True  # a statement that changes a table may read it in a subquery
    limits_keys: ClassVar[bool] = True  # generated keys are positive, and end with the range of their column

    def __init__(self, sql: sa.Dialect, isolation: str | None = None) -> None:
        self.sql = self.types = sql  # `types` is asked for the types of columns
        self.isolation = isolation
        self.inspected = False
        self.longest_statement: int | None = None  # in bytes, parameters included, where the server has a limit
        self.no_unicode_fold: str | None = None  # the reason, if the server cannot fold case by Unicode
        self._triggers: dict[TableName, Triggers] = {}

    # -- engines

    @property
    @abstractmethod
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities that the database lacks, as `sqlrepo.testing.Capabilities` names them."""

    def engine_options(self, url: sa.URL, *, ping: bool) -> dict[str, Any]:
        """Return options for the engine of units that may write."""
        return {"pool_pre_ping": ping, "isolation_level": self.isolation or READ_COMMITTED}

    def set_up(self, engine: sa.Engine) -> None:
        """Configure connections of the writing engine."""

    def reader_options(self, url: sa.URL, *, ping: bool) -> dict[str, Any] | None:
        """Return options for the engine of read-only units; None if they use the writing engine.

        At READ COMMITTED their statements need no transaction, and cost one round trip each. At another isolation
        level they have a transaction.
        """
        usual = self.isolation in (None, READ_COMMITTED)
        return {"pool_pre_ping": ping, "isolation_level": "AUTOCOMMIT" if usual else self.isolation}

    def set_up_reader(self, engine: sa.Engine) -> None:
        """Make the server refuse writes on connections of the reading engine."""

    def make_reader(self, url: sa.URL, *, ping: bool, make: MakeEngine) -> sa.Engine | None:
        """Make the engine of read-only units; None if they use the writing engine."""
        options = self.reader_options(url, ping=ping)
        if options is None:
            return None
        engine = make(url, **options)
        self.set_up_reader(engine)
        return engine

    # -- forks

    def before_fork(self, engine: sa.Engine) -> None:
        """Close connections that must not be open when the process forks."""

    def after_fork(self, engine: sa.Engine) -> None:
        """Give the engine a new pool in the child, which neither uses nor closes the parent's connections."""
        leak(engine.pool)
        engine.dispose(close=False)

    # -- connections

    def inspect_server(self, connection: sa.Connection, *, foreign: bool) -> None:
        """Inspect the server once, and log what it lacks, or what the application's engine lacks."""
        if self.inspected:
            return
        begun = connection.in_transaction()
        for problem in (*self._inspect(connection), *(self._engine_problems(connection) if foreign else ())):
            if is_first(connection.engine, problem):
                log.warning("%r: %s", connection.engine.url, problem)
        if connection.in_transaction() and not begun:
            connection.rollback()
        self.inspected = True

    def begin(self, connection: sa.Connection, *, read_only: bool) -> None:
        """Begin a unit's transaction on a connection of our own engine."""
        connection.begin()

    def begin_foreign(self, connection: sa.Connection, *, read_only: bool) -> None:
        """Begin a unit's transaction on a connection of the application's engine, whose settings stay as they are."""
        if _autocommits(connection):
            connection.execution_options(isolation_level=self.isolation or READ_COMMITTED)  # until it is returned
        connection.begin()

    def join(self, connection: sa.Connection) -> None:
        """Join the application's transaction on a connection of the application."""
        if _autocommits(connection):
            raise UnsupportedError(
                "this connection is in autocommit mode, so there is no transaction to join; begin one, or set an "
                "isolation level"
            )

    def cascades(self, connection: sa.Connection) -> bool:
        """Return True if foreign keys are enforced on a connection."""
        return True

    def _inspect(self, connection: sa.Connection) -> Iterable[str]:
        """Read the server's properties; return what it lacks."""
        return ()

    def _engine_problems(self, connection: sa.Connection) -> Iterable[str]:
        """Return what the application's engine lacks."""
        if _autocommits(connection):
            return ("this engine is in autocommit mode; units of work set READ COMMITTED on their connections",)
        level = connection.get_isolation_level()
        if level == (self.isolation or READ_COMMITTED):
            return ()
        return (f"this engine's isolation is {level}, not {READ_COMMITTED}; set it, or give Database the URL instead",)

    def inspect_table(self, connection: sa.Connection, schema: Schema) -> None:
        """Read a table's properties that the SQL of statements on it depends on."""

    def triggers(self, connection: sa.Connection, schema: Schema) -> Triggers:
        """Return what triggers of a table may do, which is read once; `ProgrammingError` for a view without rows."""
        if schema.full_name not in self._triggers:
            found = self._read_triggers(connection, schema)
            if found is None:  # the table does not exist yet
                return Triggers(changing=False, refusing=False)
            self._triggers[schema.full_name] = found
        return self._triggers[schema.full_name]

    def _read_triggers(self, connection: sa.Connection, schema: Schema) -> Triggers | None:
        return Triggers(changing=False, refusing=False)

    @abstractmethod
    def forbid_writes(self, connection: sa.Connection, *, forbidden: bool) -> None:
        """Make a connection of the writing engine refuse writes during a unit, and accept them again after it."""

    def after_failed_commit(self, connection: sa.Connection) -> None:
        """Discard a connection whose COMMIT failed, so that no other unit finds its transaction open."""
        connection.invalidate()

    def after_interrupt(self, connection: sa.Connection) -> None:
        """Clean up after an interrupted statement, when its transaction is over."""

    def after_insert(self, connection: sa.Connection, schema: Schema, given: Sequence[int]) -> None:
        """Keep the database from generating key numbers that were inserted explicitly."""

    def key_step(self, connection: sa.Connection) -> int:
        """Return the distance between the generated keys of one statement, where INSERT returns only the first."""
        return 1

    # -- statements

    def keeps(self, column: AnyColumn) -> bool:
        """Return True if a value that was checked comes back as it is, where INSERT returns no rows."""
        return False

    def read(self, column: AnyColumn) -> AnyColumn:
        """Return an expression for the column's value as every database gives it."""
        return column

    def rounds(self, column: AnyColumn, value: Decimal) -> str | None:
        """Return why the database would store another decimal, without an error, or None."""
        return None

    def writes_json_null(self, column: AnyColumn) -> bool:
        """Return True if SQLAlchemy would write the text null for None."""
        type_: Any = column.type.dialect_impl(self.types)
        return isinstance(type_, sa.JSON) and not type_.none_as_null

    def is_null(self, column: AnyColumn) -> AnyColumn:
        """Ask for NULL, and for JSON's null, which others may have written and which is read as None too."""
        null = column.is_(sa.null())
        return sa.or_(null, sa.cast(column, sa.Text()) == "null") if self.writes_json_null(column) else null

    @abstractmethod
    def exact(self, column: AnyColumn) -> AnyColumn:
        """Return an expression for the column that compares and sorts by code point."""

    def compare(self, column: AnyColumn, op: Operator, value: AnyColumn) -> AnyColumn:
        return compare(column if op in ("==", "!=") else self.exact(column), op, value)

    def compare_columns(self, left: AnyColumn, op: Operator, right: AnyColumn) -> AnyColumn:
        return compare(self.exact(left), op, self.exact(right))

    def one_of(self, column: AnyColumn, values: sa.BindParameter[Any]) -> AnyColumn:
        return column.in_(values)

    def order(self, column: AnyColumn, descending: bool, *, nullable: bool) -> AnyColumn:
        """Order by a column with NULL as the smallest value, which most databases do by themselves."""
        exact = self.exact(column)
        return exact.desc() if descending else exact.asc()

    def key(self, column: AnyColumn) -> AnyColumn:
        """Return the column as values that group by code point."""
        return self.read(column)

    def extreme(self, function: str, column: AnyColumn) -> AnyColumn:
        """Return the smallest or largest value, by code point."""
        return sa.type_coerce(getattr(sa.func, function)(self.exact(column)), column.type)

    def addends(self, column: AnyColumn) -> list[AnyColumn]:
        """Return numbers whose sums make up that of the column."""
        return [column]

    def total(self, sums: list[AnyColumn], column: AnyColumn) -> tuple[AnyColumn, AnyColumn]:
        """Return the column's exact sum as it is read, and as it is compared."""
        stored: Any = self.stored_type(column)
        whole = sa.BigInteger() if isinstance(stored, sa.Integer) else sa.Numeric()
        made = sa.type_coerce(sums[0], stored if isinstance(stored, sa.Float) else whole)
        return made, made

    @abstractmethod
    def match(self, node: Match, column: AnyColumn, text: Needle, *, plain: bool) -> AnyColumn:
        """Search text by code point or with case folded, without wildcards.

        With ``plain``, the column stores text unchanged: a pattern may be built around the text before it is sent.
        """

    # -- for subclasses

    def stored_type(self, column: AnyColumn) -> TypeEngine[Any]:
        """Return the column's type on this database, beneath variants and type decorators."""
        found: Any = column.type.dialect_impl(self.types)
        while isinstance(found, TypeDecorator | DOMAIN):
            found = found.data_type if isinstance(found, DOMAIN) else found.impl
        return cast("TypeEngine[Any]", found)

    def require_unicode_fold(self) -> None:
        if self.no_unicode_fold is not None:
            raise UnsupportedError(f'{self.no_unicode_fold}; set `fold = "ascii"` on the repository')


def with_operators(column: AnyColumn) -> AnyColumn:
    """Return a column as one of a type whose operators SQLAlchemy knows: a domain's as the type beneath."""
    type_: Any = column.type
    while isinstance(type_, DOMAIN):
        type_ = type_.data_type
    type_ = sa.BigInteger() if isinstance(type_, mysql.YEAR | mysql.BIT) else type_
    return column if type_ is column.type else sa.type_coerce(column, type_)


def is_first(owner: sa.Engine | sa.Table, topic: Hashable) -> bool:
    """Return True the first time for an engine or a table and a topic, however many databases are made on it."""
    root: sa.Engine | sa.Table = getattr(owner, "_proxied", owner)
    with _GUARD.lock:
        seen = _SEEN.setdefault(root, set())
        is_new = topic not in seen
        seen.add(topic)
    return is_new


def _autocommits(connection: sa.Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    ask = getattr(driver, "get_autocommit", None)  # PyMySQL and its kin; the others have an attribute
    return (ask() if callable(ask) else getattr(driver, "autocommit", False)) is True


def compare(left: AnyColumn, op: Operator, right: AnyColumn) -> AnyColumn:
    return cast(AnyColumn, _COMPARE[op](left, right))


def successor(prefix: str) -> str | None:
    """Return the smallest text greater than all texts with a prefix; None if there is none. Skips surrogates."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1
    return stem[:-1] + chr(following)

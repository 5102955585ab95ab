"""What is particular to a database, and what a database does that has nothing particular."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias, cast
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlrepo.errors import UnsupportedError
from sqlrepo.forks import ForkSafeLock, leak
from sqlrepo.language.criteria import Match, Operator
from sqlrepo.tables.schema import Schema

log = logging.getLogger("sqlrepo")

AnyColumn: TypeAlias = sa.ColumnElement[Any]
#: Gives the parameter that holds the searched text, after a function was applied to it where one is given.
Needle: TypeAlias = Callable[[Callable[[str], Any] | None], AnyColumn]

UpsertWay: TypeAlias = Literal["native", "insert_first"]

READ_COMMITTED = "READ COMMITTED"

_GUARD = ForkSafeLock()
_SAID: WeakKeyDictionary[sa.Engine, set[str]] = WeakKeyDictionary()

_COMPARE: Mapping[Operator, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


class Dialect(ABC):
    """One database, as the rest of the package sees it.

    Args:
        sql: SQLAlchemy's dialect, which says how a type is kept.
        isolation: another isolation level than the usual one.

    Attributes:
        upsert: how a row is inserted or changed, whoever writes at the same time: in one statement that also tells
            which of the two it did, or by an INSERT that shows whether an UPDATE is needed.
        survives_interrupts: whether a connection is still whole after an interrupt amid a statement.
        asks_server: whether something must be learnt of the server before it is known what it lacks.
        examined: whether it is learnt.
    """

    name: ClassVar[str]
    upsert: ClassVar[UpsertWay]
    survives_interrupts: ClassVar[bool] = False
    asks_server: ClassVar[bool] = True

    def __init__(self, sql: sa.Dialect, isolation: str | None = None) -> None:
        self.sql = sql
        self.isolation = isolation
        self.examined = False
        #: Why a server does not fold by Unicode; None where it does.
        self.no_unicode_fold: str | None = None

    # -- engines

    @property
    @abstractmethod
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities it does not have, by the names of `sqlrepo.testing.Capabilities`."""

    def engine_options(self, url: sa.URL, *, ping: bool) -> dict[str, Any]:
        """Options of `create_engine` for the engine of units that may write."""
        return {"pool_pre_ping": ping, "isolation_level": self.isolation or READ_COMMITTED}

    def set_up(self, engine: sa.Engine) -> None:  # noqa: B027  # most have nothing to do
        """Make that engine's connections behave."""

    def reader_options(self, url: sa.URL, *, ping: bool) -> dict[str, Any] | None:
        """Options of `create_engine` for the engine of read-only units; None where they use the other one.

        Their statements stand alone (which is what READ COMMITTED gives each of them anyway), and so cost one round
        trip; where another isolation was asked for, they have a transaction of it.
        """
        usual = self.isolation in (None, READ_COMMITTED)
        return {"pool_pre_ping": ping, "isolation_level": "AUTOCOMMIT" if usual else self.isolation}

    def set_up_reader(self, engine: sa.Engine) -> None:  # noqa: B027  # most have nothing to do
        """Make the server refuse writes on that engine's connections."""

    # -- forks

    def before_fork(self, engine: sa.Engine) -> None:  # noqa: B027  # most have nothing to do
        """Close what must not be open when the process forks."""

    def after_fork(self, engine: sa.Engine) -> None:
        """Give an engine a new pool in the child; the parent's connections are neither used nor closed there."""
        leak(engine.pool)
        engine.dispose(close=False)

    # -- connections

    def inspect_server(self, connection: sa.Connection, *, foreign: bool) -> None:
        """Look at the server once, and say what it, or the application's engine, lacks."""
        if self.examined:
            return
        begun = connection.in_transaction()
        for lack in (*self._server(connection), *(self._engine(connection) if foreign else ())):
            _say(connection.engine, lack)
        if connection.in_transaction() and not begun:
            connection.rollback()
        self.examined = True

    def begin(self, connection: sa.Connection, *, read_only: bool) -> None:
        """Begin a unit on a connection of ours."""
        connection.begin()

    def begin_foreign(self, connection: sa.Connection, *, read_only: bool) -> None:
        """Begin a unit on a connection of an engine that the application made, which stays as it is."""
        if _autocommits(connection):
            connection.execution_options(
                isolation_level=self.isolation or READ_COMMITTED
            )  # this connection's, this once
        connection.begin()

    def join(self, connection: sa.Connection) -> None:
        """Take part in what the application does on a connection of its own.

        Raises:
            UnsupportedError: there is no transaction to take part in.
        """
        if _autocommits(connection):
            raise UnsupportedError("this connection commits each statement, so there is no transaction to join")

    def _server(self, connection: sa.Connection) -> Sequence[str]:
        """Learn what must be known of the server; give what it lacks."""
        return ()

    def _engine(self, connection: sa.Connection) -> Sequence[str]:
        """What an engine of the application's lacks."""
        if _autocommits(connection):
            return ("this engine commits each statement; units of work set READ COMMITTED on their connections",)
        level = connection.get_isolation_level()
        if level == (self.isolation or READ_COMMITTED):
            return ()
        return (f"this engine's isolation is {level}, not {READ_COMMITTED}; give Database the URL instead, or set it",)

    def inspect_table(self, connection: sa.Connection, schema: Schema) -> None:  # noqa: B027  # most have nothing to do
        """Learn what must be known of a table before statements on it are written."""

    @abstractmethod
    def forbid_writes(self, connection: sa.Connection, *, forbidden: bool) -> None:
        """Make a connection of the writing engine refuse writes within a unit, or take them again after it."""

    def after_failed_commit(self, connection: sa.Connection) -> None:
        """Leave nothing open that others might find: a connection that did not commit is thrown away."""
        connection.invalidate()

    def after_interrupt(self, connection: sa.Connection) -> None:  # noqa: B027  # most have nothing to do
        """Leave nothing behind of a statement that was interrupted, once its transaction is over."""

    def after_insert(self, connection: sa.Connection, schema: Schema, given: Sequence[int]) -> None:  # noqa: B027  # most have nothing to do
        """Keep numbers that rows were given for a generated key from being given out again."""

    # -- statements

    @abstractmethod
    def exact(self, column: AnyColumn) -> AnyColumn:
        """A column as something that compares and sorts by code point; itself where it does, or holds no text."""

    def compare(self, column: AnyColumn, op: Operator, value: AnyColumn) -> AnyColumn:
        """Compare a column with a parameter."""
        return compare(column if op in ("==", "!=") else self.exact(column), op, value)

    def compare_columns(self, left: AnyColumn, op: Operator, right: AnyColumn) -> AnyColumn:
        """Compare two columns."""
        return compare(self.exact(left), op, self.exact(right))

    def one_of(self, column: AnyColumn, values: sa.BindParameter[Any]) -> AnyColumn:
        """Tell whether a column has one of the values of a parameter."""
        return column.in_(values)

    def ascending(self, column: AnyColumn, *, nullable: bool) -> AnyColumn:
        """Smallest first; NULL is smaller than everything, on most databases anyway."""
        return self.exact(column).asc()

    def descending(self, column: AnyColumn, *, nullable: bool) -> AnyColumn:
        """Largest first."""
        return self.exact(column).desc()

    @abstractmethod
    def match(self, node: Match, column: AnyColumn, text: Needle, *, plain: bool) -> AnyColumn:
        """Compare text by code point, or folded, every character standing for itself.

        Args:
            node: the criterion.
            column: what is searched.
            text: gives the parameter.
            plain: whether the column keeps text as it is, so that a text can be put together with others before it is
                sent, and a prefix is a range.
        """

    # -- for those that derive

    def kept_as(self, column: AnyColumn) -> TypeEngine[Any]:
        """The type beneath a column, variants and decorators taken off."""
        found = column.type.dialect_impl(self.sql)
        while isinstance(found, TypeDecorator):
            found = cast("TypeEngine[Any]", found.impl)
        return found

    def require_unicode_fold(self) -> None:
        """Refuse to fold by Unicode where the server cannot.

        Raises:
            UnsupportedError: it cannot; says what to do.
        """
        if self.no_unicode_fold is not None:
            raise UnsupportedError(f'{self.no_unicode_fold}; set `fold = "ascii"` on the repository')


def _say(engine: sa.Engine, lack: str) -> None:
    """Log what a server or an engine lacks, once for each engine, however many databases are made on it."""
    root: sa.Engine = getattr(engine, "_proxied", engine)
    with _GUARD.lock:
        said = _SAID.setdefault(root, set())
        if lack in said:
            return
        said.add(lack)
    log.warning("%r: %s", engine.url, lack)


def _autocommits(connection: sa.Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    ask = getattr(driver, "get_autocommit", None)  # PyMySQL and its kin; the others have an attribute
    return (ask() if callable(ask) else getattr(driver, "autocommit", False)) is True


def compare(left: AnyColumn, op: Operator, right: AnyColumn) -> AnyColumn:
    """Compare as the database does."""
    return cast(AnyColumn, _COMPARE[op](left, right))


def successor(prefix: str) -> str | None:
    """The smallest text behind every text with a prefix, None where there is none; surrogates are no characters."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return None
    following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1
    return stem[:-1] + chr(following)

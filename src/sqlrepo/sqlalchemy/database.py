"""A database behind units of work: its engines, and transactions on them."""

from __future__ import annotations

from typing import Self
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.driver import Transaction
from sqlrepo.errors import DatabaseUnavailableError
from sqlrepo.forks import ForkAware, ForkSafeLock, at_fork, check_pid
from sqlrepo.language.results import CursorKey, CursorKeys
from sqlrepo.sqlalchemy.audit import log_once
from sqlrepo.sqlalchemy.compiler import Compiler
from sqlrepo.sqlalchemy.connecting import check_engine, check_url, load_dialect, make_engine
from sqlrepo.sqlalchemy.dialects import dialect_of
from sqlrepo.sqlalchemy.dialects.base import MakeEngine
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver
from sqlrepo.sqlalchemy.errors import KnownTables, raise_translated, translate
from sqlrepo.sqlalchemy.events import listen, subscribe, unsubscribe
from sqlrepo.tables.reflection import table_of
from sqlrepo.tables.schema import Schema

# The keys of the last database made with any on an engine. A session on the engine has no other way to name them.
_KEYS: WeakKeyDictionary[sa.Engine, CursorKeys] = WeakKeyDictionary()


def cursor_keys_of(engine: sa.Engine) -> CursorKeys:
    """Return the keys that sessions on an engine use."""
    return _KEYS.get(_root(engine), CursorKeys())


def _root(engine: sa.Engine) -> sa.Engine:
    """Return the engine beneath one with other options."""
    root: sa.Engine = getattr(engine, "_proxied", engine)
    return root


class Engines(ForkAware):
    """The engines of one database: one for units that may write, and one for read-only units."""

    def __init__(
        self,
        given: str | sa.URL | sa.Engine,
        *,
        ping: bool = True,
        isolation: str | None = None,
        cursor_key: CursorKey | None = None,
        asynchronous: bool = False,
        make: MakeEngine = make_engine,
    ) -> None:
        self._cursor_keys = CursorKeys(cursor_key)
        self._ping = ping
        self._make = make
        self._guard = ForkSafeLock()
        self._reading: sa.Engine | None = None
        self.foreign = isinstance(given, sa.Engine)  # made by the application, so its settings stay as they are
        if isinstance(given, sa.Engine):
            self.writing = check_engine(given, asynchronous=asynchronous)
            self.dialect = dialect_of(given.dialect, isolation)
        else:
            url = check_url(given, asynchronous=asynchronous)
            bare = dialect_of(load_dialect(url), isolation)
            self.writing = make(url, **bare.engine_options(url, ping=ping))
            self.dialect = dialect_of(self.writing.dialect, isolation)
            self.dialect.set_up(self.writing)
        self._watch(self.writing)
        at_fork(self)

    @property
    def cursor_keys(self) -> CursorKeys:
        """What signs the cursors of `scroll`."""
        return self._cursor_keys

    def engine(self, *, read_only: bool) -> sa.Engine:
        """Return the engine of a unit."""
        check_pid()
        return self.reading if read_only else self.writing

    @property
    def reading(self) -> sa.Engine:
        """The engine of read-only units, made on first use; the writing engine if the database has no second one."""
        with self._guard.lock:
            if self._reading is None:
                self._reading = self._make_reader() or self.writing
            return self._reading

    def dispose(self) -> None:
        """Close all pooled connections."""
        for engine in self._made_engines():
            engine.dispose()

    def before_fork(self) -> None:
        """Close the connections that must not be open when the process forks."""
        for engine in self._made_engines():
            self.dialect.before_fork(engine)

    def after_fork(self) -> None:
        """Give the child pools of its own."""
        for engine in self._made_engines():
            self.dialect.after_fork(engine)

    def _made_engines(self) -> set[sa.Engine]:
        return {self.writing} if self._reading is None else {self.writing, self._reading}

    def _make_reader(self) -> sa.Engine | None:
        engine = None if self.foreign else self.dialect.make_reader(self.writing.url, ping=self._ping, make=self._make)
        if engine is not None:
            self._watch(engine)
        return engine

    def _watch(self, engine: sa.Engine) -> None:
        listen(engine)
        if self._cursor_keys:
            _KEYS[_root(engine)] = self._cursor_keys


class Database:
    """Connect units of work to a database. Make one per process and share it.

    Supported are SQLite, PostgreSQL, MySQL (8.0.17 or later) and MariaDB (10.10 or later; from 10.5 with
    ``fold = "ascii"``). Read-only units have connections of their own, on which the server refuses writes.

    Args:
        url: a SQLAlchemy URL that names the driver, or an engine of your application. Such an engine keeps its
            settings; what it lacks is logged once as a warning, in the log ``sqlrepo``.
        ping: test each connection before use, at the price of one round trip. SQLite's connections need no test.
        isolation: the isolation level, if not the default, which is READ COMMITTED, and SERIALIZABLE for SQLite.
        cursor_key: a secret of 16 bytes or more that signs the cursors of `scroll`, so that clients cannot make
            their own; or several, of which the first signs and all are accepted. Units that join a session on the
            engine use it too.

    Raises:
        UnsupportedError: the database is not known to this library, or its driver is not installed.
        ValueError: a ``cursor_key`` is too short, or there is none in the sequence.
    """

    def __init__(
        self,
        url: str | sa.URL | sa.Engine,
        *,
        ping: bool = True,
        isolation: str | None = None,
        cursor_key: CursorKey | None = None,
    ) -> None:
        self._use(Engines(url, ping=ping, isolation=isolation, cursor_key=cursor_key))

    @classmethod
    def from_engines(cls, engines: Engines) -> Self:
        """Make a database of engines that exist already, those of an asynchronous driver for example.

        Args:
            engines: the writing and the reading engine.
        """
        made = cls.__new__(cls)
        made._use(engines)  # noqa: SLF001  # of this class
        return made

    def _use(self, engines: Engines) -> None:
        self._engines = engines
        self.dialect = engines.dialect
        self.compiler = Compiler(self.dialect)
        self.tables = KnownTables()

    @property
    def engine(self) -> sa.Engine:
        """The engine for units that may write; create your tables with it."""
        return self._engines.engine(read_only=False)

    @property
    def cursor_keys(self) -> CursorKeys:
        """What signs the cursors of `scroll`."""
        return self._engines.cursor_keys

    def __repr__(self) -> str:
        return f"Database({self.engine.url!r})"  # which hides the password

    @property
    def max_connections(self) -> int | None:
        """The number of units that can have a connection at once; None if there is no limit."""
        pool = self._engines.writing.pool
        if isinstance(pool, sa.StaticPool):
            return 1
        if not isinstance(pool, sa.QueuePool):
            return None
        overflow: int = vars(pool)["_max_overflow"]  # which has no public name
        return pool.size() + overflow if pool.size() and overflow >= 0 else None

    @property
    def pool_timeout(self) -> float | None:
        """The number of seconds that a unit waits for a free connection; None if it never has to wait."""
        pool = self._engines.writing.pool
        return pool.timeout() if isinstance(pool, sa.QueuePool) else None

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities that the database lacks, as `sqlrepo.testing.Capabilities` names them.

        The server is asked once, at first use.

        Raises:
            DatabaseUnavailableError: the server cannot be reached.
        """
        if self.dialect.asks_server and not self.dialect.inspected:
            with self._connect(self.engine) as connection:
                self.dialect.inspect_server(connection, foreign=self._engines.foreign)
        return self.dialect.missing_capabilities

    @property
    def isolation(self) -> str:
        """The kind of database and the isolation level of units, such as "postgresql READ COMMITTED"."""
        return f"{self.dialect.name} {self.dialect.isolation or self.dialect.usual_isolation}"

    def register_table(self, schema: Schema) -> None:
        """Register a table; the parts of it that are not portable are logged once.

        Raises:
            MappingError: the table has no mapped class.
        """
        table_of(schema)  # which refuses a table that was declared by hand
        if self.tables.register(schema):
            log_once(self.engine, schema)

    def begin(self, transaction: Transaction, *, read_only: bool) -> SQLAlchemyDriver:
        """Take a connection from the pool and begin a transaction on it.

        Args:
            transaction: the state of the unit's transaction, to which savepoints and failures are reported.
            read_only: True for a connection on which the server refuses writes.

        Raises:
            DatabaseUnavailableError: the database cannot be reached, or the pool has no free connection in time.
        """
        engine = self._engines.engine(read_only=read_only)
        connection = self._connect(engine)
        guarded = read_only and engine is not self._engines.writing
        driver = SQLAlchemyDriver(self, connection, transaction, read_only=read_only, guarded=guarded)
        begin = self.dialect.begin_foreign if self._engines.foreign else self.dialect.begin
        try:
            self.dialect.inspect_server(connection, foreign=self._engines.foreign)
            subscribe(connection, driver)
            begin(connection, read_only=read_only)
        except BaseException as error:  # noqa: BLE001  # raised below, translated if it can be
            unsubscribe(connection, driver)
            connection.close()
            raise_translated(error, self.tables)
        return driver

    def dispose(self) -> None:
        """Close all pooled connections; the database can be used again afterwards."""
        self._engines.dispose()

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        try:
            return engine.connect()
        except Exception as error:
            known = translate(error, self.tables)
            if known is None and isinstance(error, exc.SQLAlchemyError):
                known = DatabaseUnavailableError("the database cannot be reached")
            if known is None:
                raise
            raise known from error

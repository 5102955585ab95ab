"""A database through SQLAlchemy: one engine, one pool, the right settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.driver import Transaction
from sqlrepo.errors import DatabaseUnavailableError, MappingError, UnsupportedError
from sqlrepo.forks import ForkAware, ForkSafeLock, at_fork, check_pid
from sqlrepo.sqlalchemy.audit.server import warn_once
from sqlrepo.sqlalchemy.compiler import Compiler
from sqlrepo.sqlalchemy.dialects import dialect_of
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver
from sqlrepo.sqlalchemy.errors import Tables, translated
from sqlrepo.sqlalchemy.events import listen, subscribe, unsubscribe
from sqlrepo.tables.schema import Schema

#: `create_engine`, or something that makes an asynchronous engine and gives the one beneath.
MakeEngine: TypeAlias = Callable[..., sa.Engine]

_RENAMED = {"postgres": "postgresql"}  # as it is often given
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_ASYNC_DRIVERS = {"postgresql": "asyncpg", "mysql": "asyncmy", "mariadb": "asyncmy", "sqlite": "aiosqlite"}
_EXTRAS = ("aiosqlite", "asyncmy", "asyncpg", "psycopg", "pymysql")


class Engines(ForkAware):
    """The engines of one database.

    Args:
        given: a URL, or an engine the application has already, which then serves all units and stays as it is.
        ping: whether a connection is tried before it is given out.
        isolation: another isolation level than the database's usual one.
        asynchronous: whether the driver has to be an asynchronous one, or must not be.
        make: makes an engine from URL and options.

    Attributes:
        dialect: what is particular to the database.
        writing: the engine of units that may write.
        foreign: whether it is the application's.

    Raises:
        UnsupportedError: the database, its driver or the isolation is not known, or the driver not installed.
    """

    def __init__(
        self,
        given: str | sa.URL | sa.Engine,
        *,
        ping: bool = True,
        isolation: str | None = None,
        asynchronous: bool = False,
        make: MakeEngine = sa.create_engine,
    ) -> None:
        self._ping = ping
        self._make = make
        self._guard = ForkSafeLock()
        self._reading: sa.Engine | None = None
        self.foreign = isinstance(given, sa.Engine)
        if isinstance(given, sa.Engine):
            self.writing = _of_kind(given, asynchronous)
            self.dialect = dialect_of(given.dialect, isolation)
        else:
            url = _checked(_url(given), asynchronous)
            bare = dialect_of(_sql_dialect(url), isolation)
            self.writing = make(url, **bare.engine_options(url, ping=ping))
            self.dialect = dialect_of(self.writing.dialect, isolation)
            self.dialect.set_up(self.writing)
        listen(self.writing)
        at_fork(self)

    def engine(self, *, read_only: bool) -> sa.Engine:
        """The engine of a unit."""
        check_pid()
        return self.reading if read_only else self.writing

    @property
    def reading(self) -> sa.Engine:
        """The engine of read-only units, made when first asked for; the other one where there is no second."""
        with self._guard.lock:
            if self._reading is None:
                self._reading = self._reader()
            return self._reading

    @property
    def max_connections(self) -> int | None:
        """How many connections the pool of units that may write gives out at once; None where nothing limits it."""
        pool = self.writing.pool
        if isinstance(pool, sa.StaticPool):
            return 1
        if not isinstance(pool, sa.QueuePool):
            return None
        overflow: int = vars(pool)["_max_overflow"]  # which has no public name
        return pool.size() + overflow if pool.size() and overflow >= 0 else None

    @property
    def pool_timeout(self) -> float | None:
        """For how many seconds the pool lets a unit wait for a connection; None where it does not wait."""
        pool = self.writing.pool
        return pool.timeout() if isinstance(pool, sa.QueuePool) else None

    def dispose(self) -> None:
        """Close the pools' connections; they fill again when needed."""
        for engine in self._made():
            engine.dispose()

    def before_fork(self) -> None:
        """Close the connections that must not be open when the process forks."""
        for engine in self._made():
            self.dialect.before_fork(engine)

    def after_fork(self) -> None:
        """Give the child pools of its own."""
        for engine in self._made():
            self.dialect.after_fork(engine)

    def _made(self) -> set[sa.Engine]:
        return {self.writing} if self._reading is None else {self.writing, self._reading}

    def _reader(self) -> sa.Engine:
        url = self.writing.url
        options = None if self.foreign else self.dialect.reader_options(url, ping=self._ping)
        if options is None:
            return self.writing
        engine = self._make(url, **options)
        self.dialect.set_up_reader(engine)
        listen(engine)
        return engine


def _url(given: object) -> sa.URL:
    if not isinstance(given, str | sa.URL):
        raise UnsupportedError(f"Database takes a URL or an Engine, not {type(given).__name__}")
    try:
        return sa.make_url(given)
    except exc.ArgumentError:
        wanted = "database+driver://user:password@host/name"
        raise UnsupportedError(f"this is no URL of a database; write {wanted}") from None  # it may hold a password


def _of_kind(engine: sa.Engine, asynchronous: bool) -> sa.Engine:
    if engine.dialect.is_async is not asynchronous:
        kind, other = ("an async", "AsyncDatabase") if not asynchronous else ("a sync", "Database")
        raise UnsupportedError(f"this is {kind} engine, for {other}")
    return engine


def _checked(url: sa.URL, asynchronous: bool) -> sa.URL:
    """Refuse what SQLAlchemy would take to mean something else, or fail at later."""
    name = _RENAMED.get(url.get_backend_name(), url.get_backend_name())
    drivers = _ASYNC_DRIVERS if asynchronous else _DRIVERS
    if "+" not in url.drivername and name in drivers:
        raise UnsupportedError(f"{url.drivername}:// does not say which driver; write {name}+{drivers[name]}://")
    if asynchronous is not _sql_dialect(url).is_async and not _either(url):
        kind, other = ("an async", "AsyncDatabase") if not asynchronous else ("a sync", "Database")
        raise UnsupportedError(f"{url.drivername} is {kind} driver, for {other}")
    return url


def _either(url: sa.URL) -> bool:
    """Whether the driver is both, as psycopg 3 is."""
    return url.get_driver_name() == "psycopg"


def _sql_dialect(url: sa.URL) -> sa.Dialect:
    """SQLAlchemy's dialect of a URL, with its driver loaded.

    Raises:
        UnsupportedError: there is none, or the driver is not installed.
    """
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except exc.NoSuchModuleError:
        raise UnsupportedError(f"{url.drivername} is no database and driver that SQLAlchemy knows") from None
    except ImportError as error:
        driver = url.get_driver_name()
        package = f'"sqlrepo-uow[{driver}]"' if driver in _EXTRAS else driver
        raise UnsupportedError(f"the driver {driver} is not installed; pip install {package}") from error
    return dialect()


class Database:
    """Where units of work get their connections: make one per process and share it.

    SQLite, PostgreSQL and MariaDB (10.10 or later; from 10.5 with ``fold = "ascii"``). Read-only units have connections
    of their own, on which the server refuses writes.

    Args:
        url: a SQLAlchemy URL that says the driver; or an engine the application has already, which is used as it is.
            What it lacks is a warning in the log ``sqlrepo``, once.
        ping: whether a connection is tried before it is given out, at the price of one round trip; SQLite needs none.
        isolation: another isolation level than the usual one, which is READ COMMITTED, and SERIALIZABLE on SQLite.

    Raises:
        UnsupportedError: the database is not known to this library, or its driver is not installed.
    """

    def __init__(self, url: str | sa.URL | sa.Engine, *, ping: bool = True, isolation: str | None = None) -> None:
        self._use(Engines(url, ping=ping, isolation=isolation))

    @classmethod
    def over(cls, engines: Engines) -> Self:
        """Make one over engines that are there, of an asynchronous driver say."""
        made = cls.__new__(cls)
        made._use(engines)  # noqa: SLF001  # of this very class
        return made

    def _use(self, engines: Engines) -> None:
        self._engines = engines
        self.dialect = engines.dialect
        self.compiler = Compiler(self.dialect)
        self.tables = Tables()

    @property
    def engine(self) -> sa.Engine:
        """The engine of units that may write; tables are made with it."""
        return self._engines.engine(read_only=False)

    def __repr__(self) -> str:
        return f"Database({self.engine.url!r})"  # a password is not shown

    @property
    def max_connections(self) -> int | None:
        """How many units can have a connection at once; None where nothing limits it."""
        return self._engines.max_connections

    @property
    def pool_timeout(self) -> float | None:
        """For how many seconds a unit waits for a connection; None where it never has to."""
        return self._engines.pool_timeout

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities it does not have, by the names of `sqlrepo.testing.Capabilities`; a server is asked once.

        Raises:
            DatabaseUnavailableError: it cannot be.
        """
        if self.dialect.asks_server and not self.dialect.examined:
            with self._connected(self.engine) as connection:
                self.dialect.inspect_server(connection, foreign=self._engines.foreign)
        return self.dialect.missing_capabilities

    def adopt(self, schema: Schema) -> None:
        """Take notice of a table; what of it is not portable is one line in the log, once.

        Raises:
            MappingError: it has no mapped class.
        """
        if schema.model is None:
            raise MappingError(f"table {schema.name} has no mapped class, so it can be kept in memory only")
        if self.tables.adopt(schema):
            warn_once(self.engine, schema)

    def begin(self, transaction: Transaction, *, read_only: bool) -> SQLAlchemyDriver:
        """Take a connection from the pool and begin.

        Raises:
            DatabaseUnavailableError: there is none to be had.
        """
        engine = self._engines.engine(read_only=read_only)
        connection = self._connected(engine)
        guarded = read_only and engine is not self._engines.writing
        driver = SQLAlchemyDriver(self, connection, transaction, read_only=read_only, guarded=guarded)
        begin = self.dialect.begin_foreign if self._engines.foreign else self.dialect.begin
        try:
            self.dialect.inspect_server(connection, foreign=self._engines.foreign)
            subscribe(connection, driver)
            begin(connection, read_only=read_only)
        except BaseException as error:
            unsubscribe(connection, driver)
            connection.close()
            known = translated(error, self.tables)
            if known is None or known is error:
                raise
            raise known from error
        return driver

    def dispose(self) -> None:
        """Close the pools' connections; the database can be used again afterwards."""
        self._engines.dispose()

    def _connected(self, engine: sa.Engine) -> sa.Connection:
        try:
            return engine.connect()
        except Exception as error:
            known = translated(error, self.tables)
            if known is None and isinstance(error, exc.SQLAlchemyError):
                known = DatabaseUnavailableError("the database cannot be reached")
            if known is None:
                raise
            raise known from error

"""A database through SQLAlchemy: one engine, one pool, the right settings.

Knows how connections are made and given out. Must not know what is done on them.
"""

from __future__ import annotations

from typing import Self

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.errors import DatabaseUnavailableError, MappingError
from sqlrepo.schema import Schema
from sqlrepo.sqlalchemy.auditing.notice import warn_once
from sqlrepo.sqlalchemy.compiler import Compiler
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver
from sqlrepo.sqlalchemy.engines import Engines
from sqlrepo.sqlalchemy.faults import translated
from sqlrepo.sqlalchemy.hooks import attend, dismiss
from sqlrepo.sqlalchemy.tables import Tables
from sqlrepo.transaction import Transaction

__all__ = ["Database"]


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
    def capacity(self) -> int | None:
        """How many units can have a connection at once; None where nothing limits it."""
        return self._engines.capacity

    @property
    def patience(self) -> float | None:
        """For how many seconds a unit waits for a connection; None where it never has to."""
        return self._engines.patience

    @property
    def lacks(self) -> frozenset[str]:
        """The capabilities it does not have, by the names of `sqlrepo.testing.Capabilities`; a server is asked once.

        Raises:
            DatabaseUnavailableError: it cannot be.
        """
        if self.dialect.asks_server and not self.dialect.examined:
            with self._connected(self.engine) as connection:
                self.dialect.examine(connection, foreign=self._engines.foreign)
        return self.dialect.lacks

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
        begin = self.dialect.borrow if self._engines.foreign else self.dialect.begin
        try:
            self.dialect.examine(connection, foreign=self._engines.foreign)
            attend(connection, driver)
            begin(connection, read_only=read_only)
        except BaseException as error:
            dismiss(connection, driver)
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

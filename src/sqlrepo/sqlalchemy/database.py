"""A database through SQLAlchemy: one engine, one pool, the right settings.

Knows how connections are made and given out. Must not know what is done on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event, exc

from sqlrepo.errors import DatabaseUnavailableError, MappingError, UnsupportedError
from sqlrepo.schema import Schema
from sqlrepo.sqlalchemy.compiler import Compiler
from sqlrepo.sqlalchemy.dialects import SQLite, dialect_of
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver
from sqlrepo.sqlalchemy.errors import translated
from sqlrepo.transaction import Transaction

__all__ = ["Database"]


class Database:
    """Where units of work get their connections: make one per process and share it.

    Args:
        url: a SQLAlchemy URL; or an engine the application has already, which is used as it is.
        ping: whether a connection is tried before it is given out, at the price of one round trip; SQLite needs none.
        isolation: another isolation level than the database's usual one.

    Raises:
        UnsupportedError: the database, or its driver, is not known to this library.
    """

    def __init__(self, url: str | sa.URL | sa.Engine, *, ping: bool = True, isolation: str | None = None) -> None:
        if isolation is not None:
            raise UnsupportedError("isolation: SQLite is serializable, and no other database is supported yet")
        self.engine = url if isinstance(url, sa.Engine) else _engine(sa.make_url(url))
        self.dialect = dialect_of(self.engine)
        self.compiler = Compiler(self.dialect)
        self._schemas: dict[str, Schema] = {}
        self._drivers: WeakKeyDictionary[sa.Connection, SQLAlchemyDriver] = WeakKeyDictionary()
        if not isinstance(url, sa.Engine):
            self.dialect.set_up(self.engine)
        self._listen()

    def __repr__(self) -> str:
        return f"Database({self.engine.url!r})"  # a password is not shown

    @property
    def lacks(self) -> frozenset[str]:
        """The capabilities it does not have, by the names of `sqlrepo.testing.Capabilities`."""
        return self.dialect.lacks

    def adopt(self, schema: Schema) -> None:
        """Take notice of a table.

        Raises:
            MappingError: it has no mapped class.
        """
        if schema.model is None:
            raise MappingError(f"table {schema.name} has no mapped class, so it can be kept in memory only")
        self._schemas[schema.name] = schema

    def begin(self, transaction: Transaction, *, read_only: bool) -> SQLAlchemyDriver:
        """Take a connection from the pool and begin.

        Raises:
            DatabaseUnavailableError: there is none to be had.
        """
        connection = self._connected()
        driver = SQLAlchemyDriver(self, connection, transaction, read_only=read_only)
        self._drivers[connection] = driver
        try:
            self.dialect.begin(connection, read_only=read_only)
        except BaseException as error:
            connection.close()
            known = translated(error, self.schema_named)
            if known is None:
                raise
            raise known from error
        return driver

    def dispose(self) -> None:
        """Close the pool's connections; the database can be used again afterwards."""
        self.engine.dispose()

    def schema_named(self, name: str) -> Schema | None:
        """The description of a table, by its name."""
        return self._schemas.get(name)

    def _connected(self) -> sa.Connection:
        try:
            return self.engine.connect()
        except exc.SQLAlchemyError as error:
            known = translated(error, self.schema_named) or DatabaseUnavailableError("the database cannot be reached")
            raise known from error

    def _listen(self) -> None:
        """Hear of failures and savepoints on the units' connections, also of those that user code causes."""
        for name in ("commit", "rollback", "savepoint", "release_savepoint", "rollback_savepoint"):
            event.listen(self.engine, name, self._reporting(name))

        def failed(context: sa.ExceptionContext) -> None:
            if not isinstance(context.original_exception, Exception):
                # An interrupt leaves SQLite's connection whole; dropping it would drop an in-memory database.
                context.is_disconnect = False
            if (driver := self._of(context.connection)) is not None:
                driver.failed(context.original_exception)

        event.listen(self.engine, "handle_error", failed)

    def _reporting(self, name: str) -> Callable[..., None]:
        """What tells a unit's driver of an event on its connection."""

        def report(connection: sa.Connection, savepoint: str | None = None, _: Any = None) -> None:
            if (driver := self._of(connection)) is not None:
                driver.heard(name, savepoint)

        return report

    def _of(self, connection: sa.Connection | None) -> SQLAlchemyDriver | None:
        return None if connection is None else self._drivers.get(connection)


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        raise UnsupportedError(f"{url.get_backend_name()} is not supported yet; there are sqlite and memory")
    if url.get_dialect().is_async:
        raise UnsupportedError(f"{url.drivername} is an async driver, which this Database does not take")
    return sa.create_engine(url, **SQLite().engine_options(url))

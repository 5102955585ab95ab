"""The two stores that a program runs on: a new memory each time, and the database, emptied.

Knows how units are opened on them and how tables are made and emptied. Must not know programs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from sqlrepo import UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.testing.harness import Portal, sync_proxy
from sqlrepo.testing.twins.model import Subject

__all__ = ["NotEmptyError", "Stores"]

R = TypeVar("R")


class NotEmptyError(Exception):
    """The tables hold rows of somebody else's, which would be deleted."""


class Stores:
    """Memory, and a database.

    Args:
        subject: the unit of work.
        database: a `Database`; an `AsyncDatabase` for async units.
        context: what the units are given.
    """

    def __init__(self, subject: Subject, database: Any, context: Any = None) -> None:
        self._subject = subject
        self.database = database
        self._context = context
        self._portal = Portal() if subject.asynchronous else None
        self._tables = list(_tables(subject))
        self.memory = InMemoryDatabase()
        #: The highest generated key that each table has had, which the database counts on from.
        self.tops: dict[str, int] = {}

    @property
    def name(self) -> str:
        """The database's, by dialect and driver."""
        return str(self.database.engine.url.drivername)

    @property
    def url(self) -> str:
        """Where the database is, as a script needs it."""
        return str(self.database.engine.url.render_as_string(hide_password=False))

    def missing(self) -> frozenset[str]:
        """The capabilities that the database does not have."""
        if self._portal is None:
            return frozenset(self.database.missing_capabilities)

        async def asked() -> frozenset[str]:
            return frozenset(await self.database.call(lambda: self.database.source.missing_capabilities))

        return self._portal.run(asked())

    def open(self, side: int, *, read_only: bool = False) -> Any:
        """Make a unit of work on memory, which is side 0, or on the database."""
        store = self.database if side else self.memory
        unit = self._subject.unit(store, read_only=read_only, context=self._context)
        return unit if self._portal is None else sync_proxy(unit, self._portal)

    def create(self) -> None:
        """Make the tables that are missing.

        Raises:
            UnsupportedError: a table has no mapped class, so it can be kept in memory only.
        """

        def make(connection: Any) -> None:
            for table in self._tables:
                table.create(connection, checkfirst=True)

        self._on_engine(make)

    def refuse_rows(self) -> None:
        """Look whether the tables are empty, as they must be.

        Raises:
            NotEmptyError: one is not.
        """

        def look(connection: Any) -> list[str]:
            return [table.name for table in self._tables if connection.execute(table.select().limit(1)).first()]

        if found := self._on_engine(look):
            raise NotEmptyError(
                f"there are rows in {', '.join(found)}; the twins empty their tables, so they want a database of "
                "their own. If these rows may go, say `may_empty = True`"
            )

    def renew(self) -> None:
        """Take a new memory, and empty the database's tables."""
        self.memory = InMemoryDatabase()
        self._on_engine(self._emptied)

    def close(self) -> None:
        """Give up the connections, and the event loop where there is one."""
        if self._portal is None:
            self.database.dispose()
            return
        self._portal.run(self.database.dispose())
        self._portal.close()

    def _emptied(self, connection: Any) -> None:
        unchecked = connection.dialect.name in ("mysql", "mariadb")  # rows that refer to each other, one by one
        if unchecked:
            connection.exec_driver_sql("SET foreign_key_checks = 0")
        for table in reversed(self._tables):
            connection.execute(table.delete())
        if unchecked:
            connection.exec_driver_sql("SET foreign_key_checks = 1")

    def _on_engine(self, work: Callable[[Any], R]) -> R:
        if self._portal is None:
            with self.database.engine.begin() as connection:
                return work(connection)
        return self._portal.run(self._on_async_engine(work))

    def _on_async_engine(self, work: Callable[[Any], R]) -> Coroutine[Any, Any, R]:
        async def run() -> R:
            async with self.database.engine.begin() as connection:
                result: R = await connection.run_sync(work)
                return result

        return run()


def _tables(subject: Subject) -> Iterable[Any]:
    """The tables of the repositories and those they refer to, those that are referred to first."""
    wanted: dict[Any, None] = {}
    for table in subject.tables.values():
        model = table.schema.model
        if model is None:
            raise UnsupportedError(f"table {table.schema.name} has no mapped class, so it is in memory only")
        _collect(model.__mapper__.local_table, wanted)
    metadata = next(iter(wanted)).metadata
    ordered = [table for table in metadata.sorted_tables if table in wanted]
    return [*ordered, *(table for table in wanted if table not in ordered)]


def _collect(table: Any, wanted: dict[Any, None]) -> None:
    if table not in wanted:
        wanted[table] = None
        for key in table.foreign_keys:
            _collect(key.column.table, wanted)

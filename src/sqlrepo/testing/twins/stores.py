"""The two stores that programs run on: memory, new for each program, and the database, emptied."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from sqlrepo import AsyncBaseUnitOfWork, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing.harness import Portal, sync_proxy
from sqlrepo.testing.twins.model import UnitUnderTest

R = TypeVar("R")

# What only PostgreSQL does as memory does it: it keeps each digit of any NUMERIC, and checks in the order of names.
ALL_DIGITS, CHECKS_BY_NAME = "all_digits", "checks_by_name"


class NotEmptyError(Exception):
    """The tables hold rows, which the twins would delete."""


def connect(unit: type[Any], url: Any) -> Any:
    """Create a `Database`, or for async units an `AsyncDatabase`."""
    return (AsyncDatabase if issubclass(unit, AsyncBaseUnitOfWork) else Database)(url)


class Stores:
    """Memory and a database, an `AsyncDatabase` for async units; `context` is what units are created with."""

    def __init__(
        self, subject: UnitUnderTest, database: Any, context: Any = None, owner: type[Any] | None = None
    ) -> None:
        self.subject = subject
        self.database = database
        self.memory = InMemoryDatabase(lost_updates="allow")
        #: The highest generated key that each table has had; the database counts on from there.
        self.highest_keys: dict[str, int] = {}
        self.context = context
        #: The class with an attribute `context`, if it comes from there.
        self.owner = owner
        self._portal = Portal() if subject.is_async else None
        self._tables = _referenced_first(subject)

    @property
    def name(self) -> str:
        """The database's dialect and driver."""
        return str(self.database.engine.url.drivername)

    @property
    def url(self) -> str:
        """The database's address, complete enough to connect."""
        return str(self.database.engine.url.render_as_string(hide_password=False))

    @cached_property
    def missing(self) -> frozenset[str]:
        """The capabilities that the database does not have, and what else it does in a way of its own."""
        own = () if self.database.engine.dialect.name == "postgresql" else (ALL_DIGITS, CHECKS_BY_NAME)
        if self._portal is None:
            return frozenset((*self.database.missing_capabilities, *own))
        found = self.database.call(lambda: self.database.source.missing_capabilities)
        return frozenset((*self._portal.run(found), *own))

    def open(self, side: int, *, read_only: bool = False) -> Any:
        """Create a unit of work in memory, which is side 0, or on the database."""
        store = self.database if side else self.memory
        unit = self.subject.unit(store, read_only=read_only, context=self.context)
        return unit if self._portal is None else sync_proxy(unit, self._portal)

    def create_tables(self) -> None:
        """Create the tables that do not exist."""

        def create(connection: Any) -> None:
            for metadata in dict.fromkeys(table.metadata for table in self._tables):
                metadata.create_all(connection, [table for table in self._tables if table.metadata is metadata])

        self._on_engine(create)

    def require_empty(self) -> None:
        """Refuse to go on if a table holds rows.

        Raises:
            NotEmptyError: one does.
        """

        def find(connection: Any) -> list[str]:
            return [table.name for table in self._tables if connection.execute(table.select().limit(1)).first()]

        if found := self._on_engine(find):
            raise NotEmptyError(
                f"there are rows in {', '.join(found)}, which this test would delete; "
                "give it a database of its own, or set `may_empty = True` if the rows may go"
            )

    def reset(self) -> None:
        """Take a new memory and empty the database's tables."""
        self.memory = InMemoryDatabase(lost_updates="allow")
        self._on_engine(self._delete_rows)

    def close(self) -> None:
        """Close the connections, and the event loop if there is one."""
        if self._portal is None:
            self.database.dispose()
            return
        self._portal.run(self.database.dispose())
        self._portal.close()

    def _delete_rows(self, connection: Any) -> None:
        unchecked = connection.dialect.name in ("mysql", "mariadb")  # checks references row by row
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

        async def run() -> R:
            async with self.database.engine.begin() as connection:
                result: R = await connection.run_sync(work)
                return result

        return self._portal.run(run())


def _referenced_first(subject: UnitUnderTest) -> list[Any]:
    """List the tables of the repositories, each after those that it refers to, which are listed too.

    Raises:
        UnsupportedError: a table has no mapped class, so only memory can keep it.
    """
    wanted: dict[Any, None] = {}
    for table in subject.tables.values():
        parts = [one.part for part in table.children.values() for one in part.all()]
        links = [part.through.schema for part in parts if part.through]
        for schema in (table.schema, *(part.schema for part in parts), *links):
            if schema.model is None:
                raise UnsupportedError(f"table {schema.name} has no mapped class, so no database can keep it")
            mapped = getattr(schema.model, "__mapper__", None)
            _collect(schema.model if mapped is None else mapped.local_table, wanted)
    ordered = [table for table in next(iter(wanted)).metadata.sorted_tables if table in wanted]
    return [*ordered, *(table for table in wanted if table not in ordered)]


def _collect(table: Any, wanted: dict[Any, None]) -> None:
    if table not in wanted:
        wanted[table] = None
        for key in table.foreign_keys:
            _collect(key.column.table, wanted)

"""A database in memory: tables, and transactions on them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import TypeVar as TypeVarWithDefault

from sqlrepo.core.aio import AsyncBaseRepository, AsyncBaseUnitOfWork
from sqlrepo.core.repository import BaseRepository
from sqlrepo.core.unit import BaseUnitOfWork
from sqlrepo.driver import Transaction
from sqlrepo.errors import MappingError, UnsupportedError
from sqlrepo.memory.driver import MemoryDriver
from sqlrepo.memory.tables import Table, Tables
from sqlrepo.tables.schema import Refusal, Schema

R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

_COPIED = (
    "the process forked, and each process has a copy of its own since; none of them sees what another stores, which "
    "takes a database outside of them"
)


class InMemoryDatabase:
    """Where units of work keep their rows when there is no database.

    Real transactions at read committed: own writes are visible, others' after their commit, and of two that write the
    same row the second to commit gets a retryable `TransactionConflictError`. Threads and tasks may share it.
    """

    def __init__(self) -> None:
        self._tables = Tables()

    def __repr__(self) -> str:
        return f"InMemoryDatabase({', '.join(name for _, name in self._tables.by_place)})"

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities it does not have, by the names of `sqlrepo.testing.Capabilities`."""
        return frozenset({"row_locks"})

    @property
    def max_connections(self) -> None:
        """How many units can be in a transaction at once: as many as there are."""

    @property
    def pool_timeout(self) -> None:
        """For how many seconds a unit waits for a connection: there is none to wait for."""

    def adopt(self, schema: Schema) -> None:
        """Take notice of a table.

        Raises:
            UnsupportedError: memory cannot behave as the table demands; names each column with the reason.
            MappingError: another table of that name is known.
        """
        with self._tables.lock:
            known = self._tables.by_place.get(schema.place)
            if reasons := [_told(refusal) for refusal in schema.refusals]:
                raise UnsupportedError(f"memory cannot keep table {schema.name}: {'; '.join(reasons)}")
            if known is None:
                self._tables.add(Table(schema))
            elif _shape(known.schema) != _shape(schema):
                raise MappingError(f"there is another table {schema.name} with other columns or constraints")

    def begin(self, transaction: Transaction, *, read_only: bool) -> MemoryDriver:
        """Begin a transaction; in a child of a fork, say once that its rows are its own."""
        if self._tables.copied:
            self._tables.copied = False
            _log.warning("%r: %s", self, _COPIED)
        return MemoryDriver(self._tables, transaction)

    @property
    def source(self) -> InMemoryDatabase:
        """Itself: what asynchronous units use as well."""
        return self

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous body; nothing in it waits."""
        return work()

    def dispose(self) -> None:
        """Do nothing; there is no connection to close, and the rows stay."""


def _shape(schema: Schema) -> tuple[object, ...]:
    """What two descriptions of one table must agree on."""
    return (schema.columns, schema.key, schema.uniques, schema.foreign_keys, schema.checks)


def _told(refusal: Refusal) -> str:
    return f"column {refusal.column}: {refusal.reason}" if refusal.column else refusal.reason


T = TypeVar("T")
K = TypeVar("K")
C = TypeVarWithDefault("C", default=None)

_NOTHING: Any = None


class InMemoryUnitOfWork(BaseUnitOfWork[C]):
    """A unit of work on memory; each has a store of its own unless one is given."""

    def __init__(
        self, source: InMemoryDatabase | None = None, *, read_only: bool = False, context: C = _NOTHING
    ) -> None:
        super().__init__(_memory(type(self), source), read_only=read_only, context=context)


class InMemoryRepository(BaseRepository[T, K]):
    """A repository on memory; each has a store of its own unless one is given."""

    def __init__(self, source: InMemoryDatabase | BaseUnitOfWork[Any] | None = None, *, context: Any = None) -> None:
        given = source if isinstance(source, BaseUnitOfWork) else _memory(type(self), source)
        super().__init__(given, context=context)


class AsyncInMemoryUnitOfWork(AsyncBaseUnitOfWork[C]):
    """An async unit of work on memory; each has a store of its own unless one is given."""

    def __init__(
        self, source: InMemoryDatabase | None = None, *, read_only: bool = False, context: C = _NOTHING
    ) -> None:
        super().__init__(_memory(type(self), source), read_only=read_only, context=context)


class AsyncInMemoryRepository(AsyncBaseRepository[T, K]):
    """An async repository on memory; each has a store of its own unless one is given."""

    def __init__(
        self, source: InMemoryDatabase | AsyncBaseUnitOfWork[Any] | None = None, *, context: Any = None
    ) -> None:
        given = source if isinstance(source, AsyncBaseUnitOfWork) else _memory(type(self), source)
        super().__init__(given, context=context)


def _memory(cls: type, source: Any) -> InMemoryDatabase:
    if source is not None and not isinstance(source, InMemoryDatabase):
        raise UnsupportedError(f"{cls.__name__} runs on memory only, not on {type(source).__name__}")
    return InMemoryDatabase() if source is None else source

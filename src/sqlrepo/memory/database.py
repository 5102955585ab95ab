"""`InMemoryDatabase`, and the units of work and repositories that run in memory only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from typing_extensions import TypeVar as TypeVarWithDefault

from sqlrepo.core.aio import AsyncBaseRepository, AsyncBaseUnitOfWork
from sqlrepo.core.repository import BaseRepository
from sqlrepo.core.unit import BaseUnitOfWork
from sqlrepo.driver import Transaction
from sqlrepo.errors import MappingError, UnsupportedError
from sqlrepo.language.results import CursorKey, CursorKeys
from sqlrepo.memory.driver import MemoryDriver
from sqlrepo.memory.tables import Table, Tables
from sqlrepo.tables.schema import Refusal, Schema

R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

_COPIED = (
    "the process forked, and a database in memory is not shared: each process now has its own copy; use a `Database` "
    "to share rows between processes"
)


class InMemoryDatabase:
    """Store the rows of units of work in memory.

    Transactions are real, at read committed: a unit sees its own writes, and those of other units after their commit.
    If two units write the same row, the second to commit gets a retryable `TransactionConflictError`. Threads and
    tasks may share one database.

    Args:
        lost_updates: ``"allow"`` to let the second to commit win, as on PostgreSQL and MariaDB at READ COMMITTED: its
            changes are applied to the row that the first has committed.
        cursor_key: signs the cursors of `scroll`, as for `sqlrepo.sqlalchemy.Database`.

    Raises:
        UnsupportedError: ``lost_updates`` has another value.
        ValueError: a ``cursor_key`` is shorter than 16 bytes, or there is none in the sequence.
    """

    def __init__(
        self, *, lost_updates: Literal["refuse", "allow"] = "refuse", cursor_key: CursorKey | None = None
    ) -> None:
        given: object = lost_updates
        if given not in ("refuse", "allow"):
            raise UnsupportedError(f'lost_updates is "refuse" or "allow", not {given!r}')
        self._tables = Tables(allow_lost_updates=lost_updates == "allow")
        self._cursor_keys = CursorKeys(cursor_key)

    def __repr__(self) -> str:
        return f"InMemoryDatabase({', '.join(name for _, name in self._tables.by_name)})"

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities that memory lacks, as `sqlrepo.testing.Capabilities` names them."""
        return frozenset({"row_locks", "conflict_at_commit"} if self._tables.allow_lost_updates else {"row_locks"})

    @property
    def cursor_keys(self) -> CursorKeys:
        """What signs the cursors of `scroll`."""
        return self._cursor_keys

    @property
    def isolation(self) -> str:
        """The isolation of units, as `sqlrepo.testing.Capabilities` names it."""
        return "memory, lost updates allowed" if self._tables.allow_lost_updates else "memory"

    @property
    def max_connections(self) -> None:
        """The number of units that can be open at once: None, because there is no limit."""

    @property
    def pool_timeout(self) -> None:
        """The number of seconds that a unit waits for a connection: None, because it never has to wait."""

    def register_table(self, schema: Schema) -> None:
        """Register a table.

        Raises:
            UnsupportedError: memory cannot behave as the table declares; the message names each column and reason.
            MappingError: a different table of this name is registered already.
        """
        with self._tables.lock:
            known = self._tables.by_name.get(schema.full_name)
            if reasons := [_describe(refusal) for refusal in schema.refusals]:
                raise UnsupportedError(f"table {schema.name} cannot be kept in memory: {'; '.join(reasons)}")
            if known is None:
                self._tables.add(Table(schema))
            elif _shape(known.declared) != _shape(schema):
                raise MappingError(
                    f"this database has a table {schema.name} with other columns or constraints; use one model for both"
                )

    def begin(self, transaction: Transaction, *, read_only: bool) -> MemoryDriver:
        """Begin a transaction; in a forked child, log once that its rows are its own.

        Args:
            transaction: the state of the unit's transaction, to which savepoints are reported.
            read_only: of no effect here; the unit refuses writes.
        """
        if self._tables.copied:
            self._tables.copied = False
            _log.warning("%r: %s", self, _COPIED)
        return MemoryDriver(self._tables, transaction)

    @property
    def source(self) -> InMemoryDatabase:
        """This database, which asynchronous units use as well."""
        return self

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous function; it never waits."""
        return work()

    def dispose(self) -> None:
        """Do nothing: there are no connections to close, and the rows stay."""


def _shape(schema: Schema) -> tuple[object, ...]:
    """Return the parts in which two descriptions of one table must agree."""
    return (schema.columns, schema.constraints, schema.indexes, schema.foreign_keys, schema.checks)


def _describe(refusal: Refusal) -> str:
    return f"column {refusal.column}: {refusal.reason}" if refusal.column else refusal.reason


T = TypeVar("T")
K = TypeVar("K")
C = TypeVarWithDefault("C", default=None)

_NOTHING: Any = None


class InMemoryUnitOfWork(BaseUnitOfWork[C]):
    """Run a unit of work in memory, in a database of its own by default."""

    def __init__(
        self, source: InMemoryDatabase | None = None, *, read_only: bool = False, context: C = _NOTHING
    ) -> None:
        super().__init__(_memory(type(self), source), read_only=read_only, context=context)


class InMemoryRepository(BaseRepository[T, K]):
    """Run a repository in memory, in a database of its own by default."""

    def __init__(self, source: InMemoryDatabase | BaseUnitOfWork[Any] | None = None, *, context: Any = None) -> None:
        given = source if isinstance(source, BaseUnitOfWork) else _memory(type(self), source)
        super().__init__(given, context=context)


class AsyncInMemoryUnitOfWork(AsyncBaseUnitOfWork[C]):
    """Run an async unit of work in memory, in a database of its own by default."""

    def __init__(
        self, source: InMemoryDatabase | None = None, *, read_only: bool = False, context: C = _NOTHING
    ) -> None:
        super().__init__(_memory(type(self), source), read_only=read_only, context=context)


class AsyncInMemoryRepository(AsyncBaseRepository[T, K]):
    """Run an async repository in memory, in a database of its own by default."""

    def __init__(
        self, source: InMemoryDatabase | AsyncBaseUnitOfWork[Any] | None = None, *, context: Any = None
    ) -> None:
        given = source if isinstance(source, AsyncBaseUnitOfWork) else _memory(type(self), source)
        super().__init__(given, context=context)


def _memory(cls: type, source: Any) -> InMemoryDatabase:
    if source is not None and not isinstance(source, InMemoryDatabase):
        raise UnsupportedError(
            f"{cls.__name__} runs in memory only, not on {type(source).__name__}; derive it from the base class instead"
        )
    return InMemoryDatabase() if source is None else source

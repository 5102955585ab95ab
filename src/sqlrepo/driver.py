"""What a backend must be able to do: a handful of primitives on flat rows of one table.

Knows the shape of a request. Must not know entities: by the time a request arrives here every name is a column of the
schema, every value has been checked, every literal has become a parameter (the idea is go-cloud's portable type over
driver, and Ecto's Repo over Adapter).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from sqlrepo.criteria import EVERYTHING, And, Compare, Criterion, Leaf, Match, OneOf, Param, rebuilt
from sqlrepo.order import Sort
from sqlrepo.schema import Schema
from sqlrepo.transaction import Callback, Transaction

__all__ = [
    "AsyncSource",
    "Condition",
    "Driver",
    "Fetch",
    "Joinable",
    "Joined",
    "Lock",
    "Row",
    "Source",
    "Upsert",
    "is_source",
]

Lock: TypeAlias = Literal["update", "skip", "nowait"]
Row: TypeAlias = tuple[Any, ...]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Condition:
    """Which rows: a criterion whose literals are parameters, and the parameters.

    Attributes:
        shape: equal for all requests that differ in their values only, so that its compiled form can be kept.
        params: the literals, by the numbers the shape gives them.
    """

    shape: Criterion = EVERYTHING
    params: tuple[Any, ...] = ()

    def narrowed(self, other: Condition) -> Condition:
        """The rows that another condition chooses as well."""
        if other.shape == EVERYTHING:
            return self
        parts = self.shape.parts if isinstance(self.shape, And) else (self.shape,)
        return Condition(And((*parts, _renumbered(other.shape, len(self.params)))), (*self.params, *other.params))


def _renumbered(shape: Criterion, start: int) -> Criterion:
    """A shape whose parameters come after others."""

    def later(leaf: Leaf) -> Leaf:
        match leaf:
            case Compare(_, _, Param(index)):
                return replace(leaf, value=Param(start + index))
            case OneOf(_, Param(index)):
                return replace(leaf, values=Param(start + index))
            case Match(_, _, Param(index)):
                return replace(leaf, text=Param(start + index))
            case _:
                return leaf

    return rebuilt(shape, later)


@dataclass(frozen=True, slots=True)
class Fetch:
    """Which columns of which rows, in which order.

    Attributes:
        columns: their names, in the order the rows are to have them.
        where: which rows.
        order: empty where the caller does not care.
        limit: at most so many rows; None for all.
        offset: so many rows are left out first.
        lock: whether other transactions are kept from writing the rows; where one has locked a row already, "update"
            waits, "skip" leaves the row out, "nowait" raises `LockTimeoutError`.
    """

    columns: tuple[str, ...]
    where: Condition = Condition()
    order: tuple[Sort, ...] = ()
    limit: int | None = None
    offset: int = 0
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class Upsert:
    """One row that is inserted, or written over another.

    Attributes:
        row: the new one, by column.
        on: the columns of the key or unique constraint in which it may agree with another.
        where: the row that it agrees with.
        changes: what of that row is written; empty for nothing.
        agrees_in: the values of ``on``; None where it agrees with no row because one of them is NULL.
        scope: which rows may be written over; the new one violates the constraint where it agrees with another.
    """

    row: Mapping[str, Any]
    on: tuple[str, ...]
    where: Condition
    changes: Mapping[str, Any]
    agrees_in: tuple[Any, ...] | None
    scope: Condition = Condition()

    @property
    def target(self) -> Condition:
        """The row that it agrees with, if that may be written over."""
        return self.where.narrowed(self.scope)


class Driver(Protocol):
    """A backend's connection within one transaction. Every failure is raised as an error of `sqlrepo.errors`."""

    @property
    def reports_statements(self) -> bool:
        """Whether it reports each statement to `sqlrepo.probes`; else one is counted for each primitive."""
        ...

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows, aware datetimes in UTC; NULL sorts before everything."""
        ...

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        """Count rows, no further than to ``limit``."""
        ...

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert rows, all or none, and give what was stored, in their order; columns not named fill themselves."""
        ...

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        """Change rows, counting the schema's version up, and tell how many."""
        ...

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert a row or change the one it agrees with, whoever writes at the same time; tell whether it is new."""
        ...

    def delete(self, schema: Schema, where: Condition) -> int:
        """Delete rows and tell how many."""
        ...

    def savepoint(self) -> str:
        """Set a savepoint and give its name."""
        ...

    def release(self, savepoint: str) -> None:
        """Let a savepoint go, keeping what was done since."""
        ...

    def rollback_to(self, savepoint: str) -> None:
        """Undo what was done since a savepoint, and let it go; nothing where it is gone already."""
        ...

    def commit(self) -> None:
        """Make everything permanent and give the connection back."""
        ...

    def rollback(self) -> None:
        """Undo everything and give the connection back."""
        ...

    def native(self, kind: str) -> Any:
        """Give the backend's own ``"session"`` or ``"connection"``, or raise `UnsupportedError`."""
        ...


def is_source(given: object) -> bool:
    """Whether units can get their transactions from something; `isinstance` would ask a server what it lacks."""
    return all(callable(getattr(type(given), verb, None)) for verb in ("adopt", "begin"))


class Source(Protocol):
    """Where units of work get their transactions from: a `Database`, an `InMemoryDatabase`."""

    @property
    def lacks(self) -> frozenset[str]:
        """The capabilities the backend does not have, by the names of `sqlrepo.testing.Capabilities`."""
        ...

    def adopt(self, schema: Schema) -> None:
        """Take notice of a table, once per repository class.

        Raises:
            MappingError: the backend knows another table of that name.
            UnsupportedError: the backend cannot behave as the table demands; names column and reason.
        """
        ...

    def begin(self, transaction: Transaction, *, read_only: bool) -> Driver:
        """Open a connection and a transaction on it, whose savepoints and failures are reported to ``transaction``."""
        ...


class Joinable(Protocol):
    """What has a transaction of the application's own, to take part in: a session, or a connection."""

    def begin_nested(self) -> Any:
        """Set a savepoint."""
        ...

    def rollback(self) -> Any:
        """Undo everything."""
        ...


class Joined(Protocol):
    """A transaction of the application's own that a unit takes part in, and neither begins nor ends."""

    @property
    def source(self) -> Source:
        """The database it is on."""
        ...

    @property
    def transaction(self) -> Transaction:
        """What is known of it; another one once it has ended."""
        ...

    def adopt(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        """Take notice of a table.

        Raises:
            MappingError: it is on another database than the unit's other tables; or rows that are written past the
                ORM would escape a listener of the application's, and the repository does not say that they may.
        """
        ...

    def driver(self) -> Driver:
        """Give the connection its statements go to."""
        ...

    def on_commit(self, callback: Callback) -> None:
        """Call a function after its commit.

        Raises:
            UnsupportedError: nobody tells of it.
        """
        ...


@runtime_checkable
class AsyncSource(Protocol):
    """Where asynchronous units of work get their transactions from: an `AsyncDatabase`, an `InMemoryDatabase`."""

    @property
    def source(self) -> Source | Joinable:
        """What the synchronous bodies get theirs from; to be used inside `call` only."""
        ...

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous body, whose waiting for the database is awaited."""
        ...

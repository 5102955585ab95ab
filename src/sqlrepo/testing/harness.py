"""What a user gives the contract: how to open the store under test, how to make entities, what the backend cannot do.

Knows the shape of these only. Must not know the cases.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Protocol, Self

from typing_extensions import TypeVar

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork
from sqlrepo.testing.awaited import Portal, awaited

__all__ = ["Capabilities", "Harness"]

T = TypeVar("T", default=Any)
K = TypeVar("K", default=Any)


def _nothing() -> None:
    """There is nothing to close."""


class Lacking(Protocol):
    """What says of itself which capabilities it does not have."""

    @property
    def lacks(self) -> frozenset[str]:
        """Their names."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond what every backend must.

    All are on by default; backends name what they lack. One that is off changes what its cases demand, as said below;
    no case is left out for it.

    Attributes:
        concurrent_writers: two units of work over one store may have written at the same time, and both commit. Off:
            the second one waits for the first to end, or is refused with a retryable error (SQLite: one writer).
        rereads_committed: a unit that reads again sees what others committed meanwhile. Off: it sees what it saw, or
            nobody can commit meanwhile.
        conflict_at_commit: of two units that write the same row, the second to commit gets a retryable
            `TransactionConflictError`. Off: the second one to write waits for the first, or is refused at once.
        fresh_keys: a generated key is never given out twice. Off: it may come again once its row is deleted.
        row_locks: `lock=` makes other units wait for the row, skip it or fail at once. Off: it is accepted, and the row
            is as safe: nobody else writes meanwhile (SQLite), or the unit gets a retryable conflict (memory).
        unicode_fold: `icontains` and its family fold by Unicode. Off: they raise `UnsupportedError` unless the
            repository says ``fold = "ascii"``.
        references_at_end: foreign keys are looked at when a statement ends, so rows of one call may refer to each other
            in any order, and a set form counts all rows it was about, also those that a cascade reached first. Off:
            rows are looked at one by one (MariaDB; SQLite, to which SQLAlchemy sends batches so).
        fk_error_details: a `ForeignKeyViolationError` names constraint, fields and table. Off: it names none (SQLite).
    """

    concurrent_writers: bool = True
    rereads_committed: bool = True
    conflict_at_commit: bool = True
    fresh_keys: bool = True
    row_locks: bool = True
    unicode_fold: bool = True
    fk_error_details: bool = True
    references_at_end: bool = True

    @classmethod
    def of(cls, source: Lacking) -> Self:
        """What a `Database` or an `InMemoryDatabase` says of itself."""
        return replace(cls(), **dict.fromkeys(source.lacks, False))

    @property
    def off(self) -> tuple[str, ...]:
        """The names of those that are switched off."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness(Generic[T, K]):
    """What the contract needs to know of one store; any object with these members will do.

    Attributes:
        open: gives a context manager over this test's store that yields a unit of work or a repository; both kinds
            are such context managers themselves: ``open=lambda: Shop(db)``. The store is empty of the entity at
            first, and may hold what the entity refers to. Cases open several at once, from other threads too.
        make: gives the n-th entity, n from 1 to 15: valid, not stored yet, and different from the others in key
            and uniques. An entity must stay valid with a field's value taken from another, or with None where both
            the class and the table allow it.
        change: gives the entity with some field altered that is neither its key nor its version.
        capabilities: what the backend can do; None for what it says of itself.
        close: ends what the harness began.
    """

    open: Callable[[], AbstractContextManager[BaseUnitOfWork[Any] | BaseRepository[T, K]]]
    make: Callable[[int], T]
    change: Callable[[T], T]
    capabilities: Capabilities | None = None
    close: Callable[[], None] = _nothing

    @classmethod
    def from_async(
        cls,
        *,
        open: Callable[[], AsyncBaseUnitOfWork[Any] | AsyncBaseRepository[T, K]],  # as the attribute
        make: Callable[[int], T],
        change: Callable[[T], T],
        capabilities: Capabilities | None = None,
        dispose: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> Harness[T, K]:
        """Make a harness of an asynchronous store; the cases stay as they are, and no plugin for asyncio is needed.

        Args:
            open: gives an async unit of work or repository: ``lambda: Shop(db)``. It is used on an event loop of the
                harness's own.
            make: as above.
            change: as above.
            capabilities: as above.
            dispose: what is awaited at last, ``db.dispose``; `close` does it, and ends the loop. Call it in the
                fixture, after the ``yield``.
        """
        portal = Portal()

        def close() -> None:
            if dispose is not None:
                portal.run(dispose())
            portal.close()

        return cls(
            open=lambda: awaited(open(), portal), make=make, change=change, capabilities=capabilities, close=close
        )

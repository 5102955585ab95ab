"""What callers type against: a repository and a unit of work, whoever implements them.

Knows signatures. Must not know any implementation; a hand-written stand-in matches as well as ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from sqlrepo.driver import Lock
from sqlrepo.language.fields import OrderBy
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorPage, Page, Upserted

__all__ = ["AsyncRepository", "AsyncUnitOfWork", "Lock", "Repository", "UnitOfWork"]

T = TypeVar("T")
S = TypeVar("S")
K_contra = TypeVar("K_contra", contravariant=True)


class Repository(Protocol[T, K_contra]):
    """A collection of entities of one class, by key and by criteria; see `BaseRepository` for each method.

    In a protocol of one's own, repositories are properties:
    ``@property`` / ``def todos(self) -> Repository[Todo, int]: ...``
    """

    def get(self, id: K_contra, *, lock: Lock | None = None) -> T:
        """Get the entity with a key."""
        ...

    def get_or_none(self, id: K_contra, *, lock: Lock | None = None) -> T | None:
        """Get the entity with a key, or None."""
        ...

    def get_many(self, ids: Iterable[K_contra]) -> list[T]:
        """Get the entities with these keys, in their order."""
        ...

    def one(self, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Find the only entity that answers."""
        ...

    def one_or_none(self, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Find the only entity that answers, or None."""
        ...

    def first(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> T | None:
        """Find the first entity in an order, or None."""
        ...

    @overload
    def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: None = None,
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[T]: ...
    @overload
    def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: type[S],
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[S]: ...

    def count(self, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that answer."""
        ...

    def exists(self, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Tell whether any entity answers."""
        ...

    def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Give a page by offset."""
        ...

    def scroll(self, query: QueryObject[T], *, after: str | None = None, before: str | None = None) -> CursorPage[T]:
        """Give a page by position."""
        ...

    def stream(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> Iterator[T]:
        """Go through the entities that answer, in chunks."""
        ...

    def add(self, entity: T) -> T:
        """Insert an entity."""
        ...

    def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert entities, all or none."""
        ...

    def update(self, entity: T) -> T:
        """Write all of an entity over its row."""
        ...

    def patch(self, id: K_contra, changes: Any) -> T:
        """Write some fields of the row with a key."""
        ...

    def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row."""
        ...

    def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that agrees with it in a unique constraint."""
        ...

    def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Insert entities or write them over their rows, all or none."""
        ...

    def delete(self, id: K_contra) -> None:
        """Delete the entity with a key."""
        ...

    def remove(self, entity: T) -> None:
        """Delete an entity's row, if it is at the entity's version."""
        ...

    def update_where(self, *criteria: bool, set_: Mapping[str, Any], everything: bool = False) -> int:
        """Set fields of all entities that answer."""
        ...

    def delete_where(self, *criteria: bool, everything: bool = False) -> int:
        """Delete all entities that answer."""
        ...


class UnitOfWork(Protocol):
    """Who owns a transaction; see `BaseUnitOfWork` for each method."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit on a clean exit, else roll back."""
        ...

    def commit(self) -> None:
        """Commit now."""
        ...

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Nest."""
        ...

    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call a function after the commit."""
        ...


class AsyncRepository(Protocol[T, K_contra]):
    """A collection of entities of one class, by key and by criteria; see `AsyncBaseRepository` for each method.

    In a protocol of one's own, repositories are properties:
    ``@property`` / ``def todos(self) -> Repository[Todo, int]: ...``
    """

    async def get(self, id: K_contra, *, lock: Lock | None = None) -> T:
        """Get the entity with a key."""
        ...

    async def get_or_none(self, id: K_contra, *, lock: Lock | None = None) -> T | None:
        """Get the entity with a key, or None."""
        ...

    async def get_many(self, ids: Iterable[K_contra]) -> list[T]:
        """Get the entities with these keys, in their order."""
        ...

    async def one(self, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Find the only entity that answers."""
        ...

    async def one_or_none(self, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Find the only entity that answers, or None."""
        ...

    async def first(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> T | None:
        """Find the first entity in an order, or None."""
        ...

    @overload
    async def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: None = None,
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[T]: ...
    @overload
    async def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: type[S],
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[S]: ...

    async def count(self, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that answer."""
        ...

    async def exists(self, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Tell whether any entity answers."""
        ...

    async def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Give a page by offset."""
        ...

    async def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None
    ) -> CursorPage[T]:
        """Give a page by position."""
        ...

    def stream(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> AsyncIterator[T]:
        """Go through the entities that answer, in chunks."""
        ...

    async def add(self, entity: T) -> T:
        """Insert an entity."""
        ...

    async def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert entities, all or none."""
        ...

    async def update(self, entity: T) -> T:
        """Write all of an entity over its row."""
        ...

    async def patch(self, id: K_contra, changes: Any) -> T:
        """Write some fields of the row with a key."""
        ...

    async def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row."""
        ...

    async def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that agrees with it in a unique constraint."""
        ...

    async def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Insert entities or write them over their rows, all or none."""
        ...

    async def delete(self, id: K_contra) -> None:
        """Delete the entity with a key."""
        ...

    async def remove(self, entity: T) -> None:
        """Delete an entity's row, if it is at the entity's version."""
        ...

    async def update_where(self, *criteria: bool, set_: Mapping[str, Any], everything: bool = False) -> int:
        """Set fields of all entities that answer."""
        ...

    async def delete_where(self, *criteria: bool, everything: bool = False) -> int:
        """Delete all entities that answer."""
        ...


class AsyncUnitOfWork(Protocol):
    """Who owns a transaction; see `AsyncBaseUnitOfWork` for each method."""

    async def __aenter__(self) -> Self:
        """Begin."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit on a clean exit, else roll back."""
        ...

    async def commit(self) -> None:
        """Commit now."""
        ...

    async def rollback(self) -> None:
        """Undo everything since the last commit."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Nest."""
        ...

    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call a function, or await an async one, after the commit."""
        ...

"""Protocols that callers can type against instead of the base classes."""

# The methods of a protocol have no body.
# pyright: reportReturnType=false

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

from sqlrepo.driver import Lock
from sqlrepo.language.fields import OrderBy
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorPage, Page, Upserted

T = TypeVar("T")
S = TypeVar("S")
K_contra = TypeVar("K_contra", contravariant=True)


class Repository(Protocol[T, K_contra]):
    """A collection of entities of one class, found by key or by criteria; `BaseRepository` documents each method.

    The Repository of Eric Evans's *Domain-Driven Design*. Your own protocols declare repositories as properties:
    ``@property`` / ``def todos(self) -> Repository[Todo, int]: ...``
    """

    def get(self, id: K_contra, *, lock: Lock | None = None) -> T:
        """Return the entity with a key, or raise `NotFoundError`."""

    def get_or_none(self, id: K_contra, *, lock: Lock | None = None) -> T | None:
        """Return the entity with a key, or None."""

    def get_many(self, ids: Iterable[K_contra]) -> list[T]:
        """Return the entities with these keys, in the order of the keys."""

    def one(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Return the only matching entity, or raise `NotFoundError` or `MultipleFoundError`."""

    def one_or_none(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Return the only matching entity, or None."""

    def first(self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> T | None:
        """Return the first matching entity, or None."""

    @overload
    def find(
        self,
        /,
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
        /,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: type[S],
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[S]: ...

    def count(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the matching entities."""

    def exists(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Return True if any entity matches."""

    def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Return a page of the result, selected by limit and offset."""

    def scroll(self, query: QueryObject[T], *, after: str | None = None, before: str | None = None) -> CursorPage[T]:
        """Return a page of the result, selected by a cursor."""

    def stream(self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> Iterator[T]:
        """Iterate over the matching entities, reading them in chunks."""

    def add(self, entity: T) -> T:
        """Insert an entity and return it as stored."""

    def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert all entities or none."""

    def update(self, entity: T) -> T:
        """Write all fields of an entity over its row."""

    def patch(self, id: K_contra, changes: Any) -> T:
        """Write some fields of the row with a key."""

    def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row."""

    def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that conflicts with it in a unique constraint."""

    def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Upsert all entities or none."""

    def delete(self, id: K_contra) -> None:
        """Delete the entity with a key."""

    def remove(self, entity: T) -> None:
        """Delete the row of an entity, if their versions agree."""

    def update_where(self, /, *criteria: bool, set_: Mapping[str, Any], everything: bool = False, **equals: Any) -> int:
        """Set fields of all matching entities, and return their number."""

    def delete_where(self, /, *criteria: bool, everything: bool = False, **equals: Any) -> int:
        """Delete all matching entities, and return their number."""


class UnitOfWork(Protocol):
    """The owner of one transaction; `BaseUnitOfWork` documents each method.

    The Unit of Work of Martin Fowler's *Patterns of Enterprise Application Architecture*.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def commit(self) -> None:
        """Commit now."""

    def rollback(self) -> None:
        """Undo everything since the last commit."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Begin a nested transaction, which is undone alone if its block raises."""

    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call a function after the commit."""


class AsyncRepository(Protocol[T, K_contra]):
    """A collection of entities of one class, found by key or by criteria; `AsyncBaseRepository` documents each method.

    The Repository of Eric Evans's *Domain-Driven Design*. Your own protocols declare repositories as properties:
    ``@property`` / ``def todos(self) -> AsyncRepository[Todo, int]: ...``
    """

    async def get(self, id: K_contra, *, lock: Lock | None = None) -> T:
        """Return the entity with a key, or raise `NotFoundError`."""

    async def get_or_none(self, id: K_contra, *, lock: Lock | None = None) -> T | None:
        """Return the entity with a key, or None."""

    async def get_many(self, ids: Iterable[K_contra]) -> list[T]:
        """Return the entities with these keys, in the order of the keys."""

    async def one(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Return the only matching entity, or raise `NotFoundError` or `MultipleFoundError`."""

    async def one_or_none(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Return the only matching entity, or None."""

    async def first(self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> T | None:
        """Return the first matching entity, or None."""

    @overload
    async def find(
        self,
        /,
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
        /,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: type[S],
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[S]: ...

    async def count(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the matching entities."""

    async def exists(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Return True if any entity matches."""

    async def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Return a page of the result, selected by limit and offset."""

    async def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None
    ) -> CursorPage[T]:
        """Return a page of the result, selected by a cursor."""

    def stream(self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> AsyncIterator[T]:
        """Iterate over the matching entities, reading them in chunks."""

    async def add(self, entity: T) -> T:
        """Insert an entity and return it as stored."""

    async def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert all entities or none."""

    async def update(self, entity: T) -> T:
        """Write all fields of an entity over its row."""

    async def patch(self, id: K_contra, changes: Any) -> T:
        """Write some fields of the row with a key."""

    async def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row."""

    async def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that conflicts with it in a unique constraint."""

    async def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Upsert all entities or none."""

    async def delete(self, id: K_contra) -> None:
        """Delete the entity with a key."""

    async def remove(self, entity: T) -> None:
        """Delete the row of an entity, if their versions agree."""

    async def update_where(
        self, /, *criteria: bool, set_: Mapping[str, Any], everything: bool = False, **equals: Any
    ) -> int:
        """Set fields of all matching entities, and return their number."""

    async def delete_where(self, /, *criteria: bool, everything: bool = False, **equals: Any) -> int:
        """Delete all matching entities, and return their number."""


class AsyncUnitOfWork(Protocol):
    """The owner of one transaction; `AsyncBaseUnitOfWork` documents each method.

    The Unit of Work of Martin Fowler's *Patterns of Enterprise Application Architecture*.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    async def commit(self) -> None:
        """Commit now."""

    async def rollback(self) -> None:
        """Undo everything since the last commit."""

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Begin a nested transaction, which is undone alone if its block raises."""

    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call a function, or await an async one, after the commit."""

"""The asynchronous repository: each method awaits the synchronous one's.

Knows how a call gets to the body. Must not know what any call means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from sqlrepo._aio.unit import AsyncBaseUnitOfWork
from sqlrepo._base.definition import Declarative, Definition
from sqlrepo._base.repository import BaseRepository
from sqlrepo._base.unit import BaseUnitOfWork
from sqlrepo.driver import AsyncSource, Joinable, Lock
from sqlrepo.mapping import Record
from sqlrepo.order import OrderBy
from sqlrepo.page import CursorPage, Page
from sqlrepo.query import QueryObject
from sqlrepo.upserted import Upserted

__all__ = ["AsyncBaseRepository"]

T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S")
R = TypeVar("R")


class _Body(BaseRepository[T, K]):
    """The synchronous repository beneath; what the class says, its skin says."""

    def __init__(self, skin: AsyncBaseRepository[T, K], unit: BaseUnitOfWork[Any], *, alone: bool) -> None:
        self._skin = skin
        super().__init__(unit)
        if alone:
            unit.adopt(type(skin))
            unit.stand_for(type(skin))
            self._source = unit.source

    def definition(self) -> Definition[T]:  # type: ignore[override]  # asked of the object only
        return type(self._skin).definition()

    def to_domain(self, row: Record) -> T:
        return self._skin.to_domain(row)

    def to_row(self, entity: T) -> Mapping[str, Any]:
        return self._skin.to_row(entity)

    def scope(self) -> bool:
        return self._skin.scope()

    def stays(self) -> bool:
        return self._skin.stays()

    @property
    def _kind(self) -> type[Any]:
        return type(self._skin)


class AsyncBaseRepository(Declarative[T], Generic[T, K]):
    """The base of asynchronous repositories: `BaseRepository`, awaited; it says the same of entity and table.

    Args:
        source: the async unit of work it takes part in; or an `AsyncDatabase` or `InMemoryDatabase`, on which it then
            stands alone.
        context: what the application knows, where it stands alone.
    """

    def __init__(self, source: AsyncSource | Joinable | AsyncBaseUnitOfWork[Any], *, context: Any = None) -> None:
        self._alone = not isinstance(source, AsyncBaseUnitOfWork)
        self._unit = source if isinstance(source, AsyncBaseUnitOfWork) else AsyncBaseUnitOfWork(source, context=context)
        self._body: BaseRepository[T, K] = _Body(self, self._unit.beneath, alone=self._alone)

    @property
    def unit(self) -> AsyncBaseUnitOfWork[Any]:
        """The unit of work the repository takes part in; its own where it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """What the application gave the unit of work to know."""
        return self._body.context

    async def __aenter__(self) -> Self:
        await (self._unit.__aenter__() if self._alone else self._call(self._body.__enter__))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._alone:
            await self._unit.__aexit__(kind, error, traceback)
        else:
            await self._call(self._body.__exit__, kind, error, traceback)

    # -- reading

    async def get(self, id: K, *, lock: Lock | None = None) -> T:
        """Get the entity with a key; see `BaseRepository.get`."""
        return await self._call(self._body.get, id, lock=lock)

    async def get_or_none(self, id: K, *, lock: Lock | None = None) -> T | None:
        """Get the entity with a key, or None."""
        return await self._call(self._body.get_or_none, id, lock=lock)

    async def get_many(self, ids: Iterable[K]) -> list[T]:
        """Get the entities with these keys, in their order; keys without an entity are passed over."""
        return await self._call(self._body.get_many, ids)

    async def one(self, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Find the only entity that answers."""
        return await self._call(self._body.one, *criteria, **equals)

    async def one_or_none(self, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Find the only entity that answers, or None."""
        return await self._call(self._body.one_or_none, *criteria, **equals)

    async def first(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> T | None:
        """Find the first entity in an order, or None."""
        return await self._call(self._body.first, *criteria, order_by=order_by, **equals)

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
    async def find(self, *criteria: bool | QueryObject[T], **asked: Any) -> list[Any]:
        """Find the entities that answer; see `BaseRepository.find`."""
        return await self._call(self._body.find, *criteria, **asked)

    async def count(self, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that answer; a query object's limit and offset do not matter."""
        return await self._call(self._body.count, *criteria, **equals)

    async def exists(self, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Tell whether any entity answers."""
        return await self._call(self._body.exists, *criteria, **equals)

    async def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Give a page by the query object's limit and offset."""
        return await self._call(self._body.page, query, with_total=with_total)

    async def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None
    ) -> CursorPage[T]:
        """Give a page by position."""
        return await self._call(self._body.scroll, query, after=after, before=before)

    def stream(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> AsyncIterator[T]:
        """Go through the entities that answer, however many, in chunks of bounded size."""
        return self._streamed(self._body.chunks(*criteria, order_by=order_by, **equals))

    # -- writing

    async def add(self, entity: T) -> T:
        """Insert an entity and give it as it was stored, generated values included."""
        return await self._call(self._body.add, entity)

    async def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert entities, all or none, and give them as they were stored, in their order."""
        return await self._call(self._body.add_many, entities)

    async def update(self, entity: T) -> T:
        """Write all of an entity over its row and give it as it is stored."""
        return await self._call(self._body.update, entity)

    async def patch(self, id: K, changes: Any) -> T:
        """Write some fields of the row with a key and give the entity as it is stored."""
        return await self._call(self._body.patch, id, changes)

    async def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row where there is one; atomic."""
        return await self._call(self._body.save, entity)

    async def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that agrees with it in a unique constraint; atomic."""
        return await self._call(self._body.upsert, entity, on, update)

    async def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Insert entities or write them over their rows, all or none, and give them as they are stored, in order."""
        return await self._call(self._body.upsert_many, entities, on, update)

    async def delete(self, id: K) -> None:
        """Delete the entity with a key."""
        return await self._call(self._body.delete, id)

    async def remove(self, entity: T) -> None:
        """Delete an entity's row, if it is at the entity's version."""
        return await self._call(self._body.remove, entity)

    async def update_where(self, *criteria: bool, set_: Mapping[str, Any], everything: bool = False) -> int:
        """Set fields of all entities that answer, and tell how many."""
        return await self._call(self._body.update_where, *criteria, set_=set_, everything=everything)

    async def delete_where(self, *criteria: bool, everything: bool = False) -> int:
        """Delete all entities that answer, and tell how many."""
        return await self._call(self._body.delete_where, *criteria, everything=everything)

    # -- the way to the body

    async def _call(self, work: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        return await self._unit.call(work, *args, **kwargs)

    async def _streamed(self, chunks: Iterator[list[T]]) -> AsyncIterator[T]:
        done: list[T] = []  # stands for the end; a greenlet cannot be left by StopIteration
        while (chunk := await self._call(_next, chunks, done)) is not done:
            for entity in chunk:
                yield entity


def _next(chunks: Iterator[list[T]], done: list[T]) -> list[T]:
    return next(chunks, done)

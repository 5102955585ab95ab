"""The asynchronous repository: each method awaits the synchronous one's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, Self, cast, overload

from typing_extensions import TypeVar

from sqlrepo.core.definition import Definition, RepositoryConfig
from sqlrepo.core.repository import BaseRepository
from sqlrepo.core.unit import BaseUnitOfWork, DeclaresRepositories, pauses, worth_another
from sqlrepo.core.work import Work, to_async_source
from sqlrepo.driver import (
    AsyncSource,
    Callback,
    Joinable,
    Lock,
    Source,
    is_async,
    log_callback_error,
    make_callbacks_error,
    refuse_awaitable,
)
from sqlrepo.errors import RepositoryError
from sqlrepo.language.fields import OrderBy
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorPage, Page, Upserted
from sqlrepo.tables.mapper import Record

C = TypeVar("C", default=None)
R = TypeVar("R")
U_co = TypeVar("U_co", bound=BaseUnitOfWork[Any], covariant=True)
P = ParamSpec("P")

_NOTHING: Any = None  # the context of a unit that is given none


class _NamesSync(Protocol[U_co]):
    """An async unit that names a sync one."""

    @property
    def sync(self) -> type[U_co]: ...

    @property
    def _work(self) -> AsyncWork: ...


class AsyncWork:
    """The sync unit of work inside an async one; its calls are run by the source, which awaits the database."""

    def __init__(self, source: AsyncSource, sync_unit: BaseUnitOfWork[Any]) -> None:
        self.source = source
        self.sync_unit = sync_unit
        self._callbacks: list[Callback] = []
        self.sync_work.after_commit = self._callbacks.extend

    @property
    def sync_work(self) -> Work:
        """Return what repositories and back ends need of the sync unit."""
        return self.sync_unit._work

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a synchronous body."""
        return await self.source.call(partial(work, *args, **kwargs))

    def add_callback(self, callback: Callback) -> None:
        """Keep a function, sync or async, to be called after the commit."""
        to_sync = getattr(self.source, "to_sync_callback", None)  # a session that is joined calls them itself
        if to_sync and callable(callback):
            callback = to_sync(callback)
        (self.sync_work.add_callback if is_async(callback) else self.sync_unit.on_commit)(callback)

    async def end(self, end: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """End the transaction and call the callbacks; a cancellation waits for both, and is raised then."""
        await _shielded(self._end(partial(end, *args, **kwargs)))

    async def _end(self, end: Callable[[], object]) -> None:
        await self.run(end)
        callbacks = self._callbacks.copy()
        self._callbacks.clear()
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                # A plain one may use the sync unit, and return an awaitable.
                result = callback() if is_async(callback) else await self.run(callback)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001  # one callback must not stop the others; all are raised below
                failures.append(log_callback_error(error))
        if failures:
            raise make_callbacks_error(failures)


class AsyncBaseUnitOfWork(DeclaresRepositories, Generic[C]):
    """The base of asynchronous units of work: `BaseUnitOfWork`, awaited.

    ``async with`` commits on a clean exit and rolls back on any exception, cancellation included. A unit serves one
    task at a time. It may name a synchronous one, ``sync = Shop``, which `run` then gives to plain functions.

    Args:
        source: an `AsyncDatabase` or an `InMemoryDatabase`; or an `AsyncSession` or `AsyncConnection` of your
            application, which the unit joins; see `BaseUnitOfWork`.
        read_only: whether a write raises `ReadOnlyError`; such a unit takes no write lock.
        context: your application's data about the request (tenant, user, clock), for the repositories to read.

    Attributes:
        idle_warning: as in `BaseUnitOfWork`.

    Raises:
        UnsupportedError: the source is not one for async units, or cannot keep one of the tables.
    """

    def __init__(self, source: AsyncSource | Joinable, *, read_only: bool = False, context: C = _NOTHING) -> None:
        found = to_async_source(source, type(self).__name__)
        kind: type[BaseUnitOfWork[Any]] = getattr(type(self), "sync", BaseUnitOfWork)
        self._work = AsyncWork(found, kind(found.source, read_only=read_only, context=context))
        self._work.sync_work.label(type(self))
        self._register(self._work.sync_work, asynchronous=True)

    @property
    def context(self) -> C:
        """Your application's data about the request, as given to the unit."""
        return cast(C, self._work.sync_unit.context)

    @property
    def is_open(self) -> bool:
        """Return True inside ``async with``, or where the unit has joined a session."""
        return self._work.sync_unit.is_open

    async def __aenter__(self) -> Self:
        await self._work.run(self._work.sync_unit.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._work.end(self._work.sync_unit.__exit__, kind, error, traceback)

    async def commit(self) -> None:
        """Commit now and give the connection back; the next statement begins another transaction."""
        await self._work.end(self._work.sync_unit.commit)

    async def rollback(self) -> None:
        """Undo everything since the last commit and give the connection back; the unit stays open."""
        await self._work.end(self._work.sync_unit.rollback)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """Nest: what happens inside is undone by an exception, without ending the transaction."""
        nested = self._work.sync_unit.savepoint()
        await self._work.run(nested.__enter__)
        try:
            yield
        except BaseException as error:
            await _shielded(self._work.run(nested.__exit__, type(error), error, error.__traceback__))
            raise
        await self._work.run(nested.__exit__, None, None, None)

    def on_commit(self, callback: Callback) -> None:
        """Call a function, or await an async one, after the commit; see `BaseUnitOfWork.on_commit`."""
        self._work.add_callback(callback)

    async def run(self: _NamesSync[U_co], work: Callable[[U_co], R]) -> R:
        """Call a plain function (a finder, a service) with the synchronous unit, on this one's connection.

        Args:
            work: takes the unit that ``sync`` names; it must not block for anything but the unit.

        Raises:
            UnsupportedError: it is an async function.
        """
        unit = cast(U_co, self._work.sync_unit)
        return refuse_awaitable(await self._work.run(work, unit))


@overload
def source_of(unit: BaseUnitOfWork[Any]) -> Source: ...
@overload
def source_of(unit: AsyncBaseUnitOfWork[Any]) -> AsyncSource: ...
def source_of(unit: BaseUnitOfWork[Any] | AsyncBaseUnitOfWork[Any]) -> Source | AsyncSource:
    """Return the source a unit of work was made on, for another unit: one of a background task, for example.

    Args:
        unit: a unit of work; where it joined a synchronous session or connection, the source is the database beneath.
    """
    return unit._work.source


async def _shielded(work: Awaitable[R]) -> R:
    """Let something end however often its task is cancelled; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        raise


U = TypeVar("U", bound=AsyncBaseUnitOfWork[Any])


async def retry_async(make: Callable[[], U], work: Callable[[U], Awaitable[R]], *, attempts: int = 3) -> R:
    """Do something in an async unit of work, and all of it again after an error that says it may help; see `retry`.

    Args:
        make: makes the unit of work, ``lambda: Shop(db)``.
        work: what is done in it, an async function of the open unit.
        attempts: how often it is tried at most.

    Returns:
        what ``work`` gave in the attempt that was committed.

    Raises:
        RepositoryError: one that is not retryable, or the last attempt's.
    """
    for pause in pauses(attempts):
        try:
            async with make() as unit:
                return await work(unit)
        except RepositoryError as error:
            if not worth_another(error, pause):
                raise
            await asyncio.sleep(pause)
    async with make() as unit:
        return await work(unit)


T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S")


class _Body(BaseRepository[T, K]):
    """The synchronous repository beneath; what the class says, its skin says."""

    def __init__(self, skin: AsyncBaseRepository[T, K], unit: BaseUnitOfWork[Any], *, alone: bool) -> None:
        self._skin = skin
        super().__init__(unit)
        if alone:
            self._stand_alone(type(skin))

    def definition(self) -> Definition[T]:  # type: ignore[override]  # asked of the object only
        return type(self._skin).definition()

    def to_domain(self, row: Record) -> T:
        return self._skin.to_domain(row)

    def to_row(self, entity: T) -> Mapping[str, Any]:
        return self._skin.to_row(entity)

    def scope(self) -> bool:
        return self._skin.scope()

    def write_scope(self) -> bool:
        return self._skin.write_scope()

    def chunks(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> Iterator[list[T]]:
        """Iterate as `stream` does, over lists of entities."""
        return self._chunks(self._select(criteria, equals, order_by=order_by), self._evaluate_scope())

    @property
    def _kind(self) -> type[Any]:
        return type(self._skin)


class AsyncBaseRepository(RepositoryConfig[T], Generic[T, K]):
    """The base of asynchronous repositories: `BaseRepository`, awaited; it says the same of entity and table.

    Args:
        source: the async unit of work it takes part in; or an `AsyncDatabase` or `InMemoryDatabase`, on which it then
            stands alone.
        context: what the application knows, where it stands alone.
    """

    def __init__(self, source: AsyncSource | Joinable | AsyncBaseUnitOfWork[Any], *, context: Any = None) -> None:
        self._alone = not isinstance(source, AsyncBaseUnitOfWork)
        self._unit = source if isinstance(source, AsyncBaseUnitOfWork) else AsyncBaseUnitOfWork(source, context=context)
        self._body = _Body[T, K](self, self._unit._work.sync_unit, alone=self._alone)

    @property
    def unit(self) -> AsyncBaseUnitOfWork[Any]:
        """The unit of work the repository takes part in; its own where it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """What the application gave the unit of work to know."""
        return self._body.context

    async def missing_capabilities(self) -> frozenset[str]:
        """Return the names of the `sqlrepo.testing.Capabilities` that the back end does not have.

        Raises:
            DatabaseUnavailableError: a server has to be asked, and cannot be reached.
        """
        return await self._call(self._body.missing_capabilities)

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

    async def update_where(
        self, *criteria: bool, set_: Mapping[str, Any], everything: bool = False, **equals: Any
    ) -> int:
        """Set fields of all entities that match, and return their number; see `BaseRepository.update_where`."""
        return await self._call(self._body.update_where, *criteria, set_=set_, everything=everything, **equals)

    async def delete_where(self, *criteria: bool, everything: bool = False, **equals: Any) -> int:
        """Delete all entities that match, and return their number; see `BaseRepository.delete_where`."""
        return await self._call(self._body.delete_where, *criteria, everything=everything, **equals)

    # -- the way to the body

    async def _call(self, work: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        return await self._unit._work.run(work, *args, **kwargs)

    async def _streamed(self, chunks: Iterator[list[T]]) -> AsyncIterator[T]:
        done: list[T] = []  # stands for the end; a greenlet cannot be left by StopIteration
        while (chunk := await self._call(_next, chunks, done)) is not done:
            for entity in chunk:
                yield entity


def _next(chunks: Iterator[list[T]], done: list[T]) -> list[T]:
    return next(chunks, done)

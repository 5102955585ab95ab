"""Asynchronous units of work and repositories: each method awaits the synchronous one."""

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
from sqlrepo.core.selection import NOT_GIVEN
from sqlrepo.core.unit import BaseUnitOfWork, DeclaresRepositories, make_pauses, next_pause
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
from sqlrepo.language.summaries import Summary
from sqlrepo.tables.mapper import Record

C = TypeVar("C", default=None)
R = TypeVar("R")
U_co = TypeVar("U_co", bound=BaseUnitOfWork[Any], covariant=True)
P = ParamSpec("P")

_NOTHING: Any = None  # the context of a unit that is given none


class _HasSync(Protocol[U_co]):
    """An async unit that declares its sync unit."""

    @property
    def sync(self) -> type[U_co]: ...

    @property
    def _work(self) -> _AsyncWork: ...


class _AsyncWork:
    """The sync unit of work inside an async one, whose calls are run by the source."""

    def __init__(self, source: AsyncSource, sync_unit: BaseUnitOfWork[Any]) -> None:
        self.source = source
        self.sync_unit = sync_unit
        self._callbacks: list[Callback] = []
        self.sync_work.after_commit = self._callbacks.extend

    @property
    def sync_work(self) -> Work:
        return self.sync_unit._work

    async def run(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.source.call(partial(work, *args, **kwargs))

    def add_callback(self, callback: Callback) -> None:
        to_sync = getattr(self.source, "to_sync_callback", None)  # a joined session calls callbacks itself
        if to_sync and callable(callback):
            callback = to_sync(callback)
        (self.sync_work.add_callback if is_async(callback) else self.sync_unit.on_commit)(callback)

    async def end(self, end: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """End the transaction and run the callbacks; a cancellation is raised after both."""
        await _shielded(self._end(partial(end, *args, **kwargs)))

    async def _end(self, end: Callable[[], object]) -> None:
        await self.run(end)
        callbacks = self._callbacks.copy()
        self._callbacks.clear()
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                # A plain function may use the sync unit, and return an awaitable.
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
    task at a time. A class may declare a synchronous unit, ``sync = Shop``, which `run` passes to plain functions.

    Args:
        source: an `AsyncDatabase` or an `InMemoryDatabase`; or an `AsyncSession` or `AsyncConnection` of your
            application, which the unit joins; see `BaseUnitOfWork`.
        read_only: whether a write raises `ReadOnlyError`; such a unit takes no write lock.
        context: your application's data about the request (tenant, user, clock), for the repositories to read.

    Raises:
        UnsupportedError: the source is not for async units, or cannot keep one of the tables.
    """

    def __init__(self, source: AsyncSource | Joinable, *, read_only: bool = False, context: C = _NOTHING) -> None:
        found = to_async_source(source, type(self).__name__)
        kind: type[BaseUnitOfWork[Any]] = getattr(type(self), "sync", BaseUnitOfWork)
        self._work = _AsyncWork(found, kind(found.source, read_only=read_only, context=context))
        self._work.sync_work.label(type(self))
        self._register(self._work.sync_work, asynchronous=True)

    @property
    def context(self) -> C:
        """See `BaseUnitOfWork`."""
        return cast(C, self._work.sync_unit.context)

    @property
    def is_open(self) -> bool:
        """Return True inside ``async with``, or if the unit has joined a session."""
        return self._work.sync_unit.is_open

    async def __aenter__(self) -> Self:
        await self._work.run(self._work.sync_unit.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._work.end(self._work.sync_unit.__exit__, kind, error, traceback)

    async def commit(self) -> None:
        """See `BaseUnitOfWork.commit`."""
        await self._work.end(self._work.sync_unit.commit)

    async def rollback(self) -> None:
        """See `BaseUnitOfWork.rollback`."""
        await self._work.end(self._work.sync_unit.rollback)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """See `BaseUnitOfWork.savepoint`."""
        nested = self._work.sync_unit.savepoint()
        await self._work.run(nested.__enter__)
        try:
            yield
        except BaseException as error:
            await _shielded(self._work.run(nested.__exit__, type(error), error, error.__traceback__))
            raise
        await self._work.run(nested.__exit__, None, None, None)

    def on_commit(self, callback: Callback) -> None:
        """Call or await a function after the commit; see `BaseUnitOfWork.on_commit`."""
        self._work.add_callback(callback)

    async def run(self: _HasSync[U_co], work: Callable[[U_co], R]) -> R:
        """Call a plain function, such as a service, with the synchronous unit, on the same connection.

        Args:
            work: takes the unit that ``sync`` declares; must not block except in the unit's methods.

        Raises:
            UnsupportedError: ``work`` is an async function.
        """
        unit = cast(U_co, self._work.sync_unit)
        return refuse_awaitable(await self._work.run(work, unit))


@overload
def source_of(unit: BaseUnitOfWork[Any]) -> Source: ...
@overload
def source_of(unit: AsyncBaseUnitOfWork[Any]) -> AsyncSource: ...
def source_of(unit: BaseUnitOfWork[Any] | AsyncBaseUnitOfWork[Any]) -> Source | AsyncSource:
    """Return the source of a unit of work, for another unit: that of a background task, for example.

    Args:
        unit: a unit of work; if it joined a synchronous session or connection, the source is the database beneath.
    """
    return unit._work.source


async def _shielded(work: Awaitable[R]) -> R:
    """Finish the work however often the task is cancelled, then raise the cancellation."""
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
    """Run an async function in a unit of work, and run it again after a retryable error; see `retry`.

    Args:
        make: makes the unit of work, ``lambda: Shop(db)``.
        work: the function, which takes the open unit.
        attempts: the largest number of attempts.

    Returns:
        The result of ``work`` in the attempt that was committed.

    Raises:
        RepositoryError: an error that is not retryable, or the last attempt's.
    """
    pauses = make_pauses(attempts)
    while True:
        try:
            async with make() as unit:
                return await work(unit)
        except RepositoryError as error:
            pause = next_pause(pauses, error)
            if pause is None:
                raise
            await asyncio.sleep(pause)


T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S")
V = TypeVar("V")
G = TypeVar("G", bound=Summary[Any])


class _Body(BaseRepository[T, K]):
    """The synchronous repository beneath an async one, which has the declarations."""

    def __init__(self, outer: AsyncBaseRepository[T, K], unit: BaseUnitOfWork[Any], *, alone: bool) -> None:
        self._outer = outer
        super().__init__(unit)
        if alone:
            self._stand_alone(type(outer))

    def definition(self) -> Definition[T]:  # type: ignore[override]  # called on the object only
        return type(self._outer).definition()

    def to_domain(self, row: Record) -> T:
        return self._outer.to_domain(row)

    def to_row(self, entity: T) -> Mapping[str, Any]:
        return self._outer.to_row(entity)

    def scope(self) -> bool:
        return self._outer.scope()

    def write_scope(self) -> bool:
        return self._outer.write_scope()

    @property
    def _units(self) -> tuple[DeclaresRepositories, ...]:
        return (self._outer.unit, self._unit)

    @property
    def _kind(self) -> type[Any]:
        return type(self._outer)


class AsyncBaseRepository(RepositoryConfig[T], Generic[T, K]):
    """The base of asynchronous repositories: `BaseRepository`, awaited, with the same declarations.

    Args:
        source: the async unit of work to take part in; or an `AsyncDatabase` or `InMemoryDatabase`, for a repository
            alone.
        context: your application's data for a repository alone.
    """

    def __init__(self, source: AsyncSource | Joinable | AsyncBaseUnitOfWork[Any], *, context: Any = None) -> None:
        self._alone = not isinstance(source, AsyncBaseUnitOfWork)
        self._unit = source if isinstance(source, AsyncBaseUnitOfWork) else AsyncBaseUnitOfWork(source, context=context)
        self._body = _Body[T, K](self, self._unit._work.sync_unit, alone=self._alone)

    @property
    def unit(self) -> AsyncBaseUnitOfWork[Any]:
        """The unit of work that the repository takes part in; its own if it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """Your application's data, as given to the unit of work."""
        return self._body.context

    async def missing_capabilities(self) -> frozenset[str]:
        """See `BaseRepository.missing_capabilities`."""
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

    @overload
    async def get(self, id: K, *, into: None = None, lock: Lock | None = None) -> T: ...
    @overload
    async def get(self, id: K, *, into: type[S], lock: Lock | None = None) -> S: ...
    async def get(self, id: K, *, into: type[Any] | None = None, lock: Lock | None = None) -> Any:
        """See `BaseRepository.get`."""
        return await self._call(self._body.get, id, into=into, lock=lock)

    @overload
    async def get_or_none(self, id: K, *, into: None = None, lock: Lock | None = None) -> T | None: ...
    @overload
    async def get_or_none(self, id: K, *, into: type[S], lock: Lock | None = None) -> S | None: ...
    async def get_or_none(self, id: K, *, into: type[Any] | None = None, lock: Lock | None = None) -> Any:
        """See `BaseRepository.get_or_none`."""
        return await self._call(self._body.get_or_none, id, into=into, lock=lock)

    @overload
    async def get_many(self, ids: Iterable[K], *, into: None = None) -> list[T]: ...
    @overload
    async def get_many(self, ids: Iterable[K], *, into: type[S]) -> list[S]: ...
    async def get_many(self, ids: Iterable[K], *, into: type[Any] | None = None) -> list[Any]:
        """See `BaseRepository.get_many`."""
        return await self._call(self._body.get_many, ids, into=into)

    @overload
    async def one(self, /, *criteria: bool | QueryObject[T], into: None = None, **equals: Any) -> T: ...
    @overload
    async def one(self, /, *criteria: bool | QueryObject[T], into: type[S], **equals: Any) -> S: ...
    async def one(self, /, *criteria: bool | QueryObject[T], **options: Any) -> Any:
        """See `BaseRepository.one`."""
        return await self._call(self._body.one, *criteria, **options)

    @overload
    async def one_or_none(self, /, *criteria: bool | QueryObject[T], into: None = None, **equals: Any) -> T | None: ...
    @overload
    async def one_or_none(self, /, *criteria: bool | QueryObject[T], into: type[S], **equals: Any) -> S | None: ...
    async def one_or_none(self, /, *criteria: bool | QueryObject[T], **options: Any) -> Any:
        """See `BaseRepository.one_or_none`."""
        return await self._call(self._body.one_or_none, *criteria, **options)

    @overload
    async def first(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: None = None, **equals: Any
    ) -> T | None: ...
    @overload
    async def first(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: type[S], **equals: Any
    ) -> S | None: ...
    async def first(self, /, *criteria: bool | QueryObject[T], **options: Any) -> Any:
        """See `BaseRepository.first`."""
        return await self._call(self._body.first, *criteria, **options)

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
    async def find(self, /, *criteria: bool | QueryObject[T], **options: Any) -> list[Any]:
        """See `BaseRepository.find`."""
        return await self._call(self._body.find, *criteria, **options)

    async def count(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """See `BaseRepository.count`."""
        return await self._call(self._body.count, *criteria, **equals)

    async def exists(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """See `BaseRepository.exists`."""
        return await self._call(self._body.exists, *criteria, **equals)

    @overload
    async def page(self, query: QueryObject[T], *, with_total: bool = False, into: None = None) -> Page[T]: ...
    @overload
    async def page(self, query: QueryObject[T], *, with_total: bool = False, into: type[S]) -> Page[S]: ...
    async def page(self, query: QueryObject[T], **options: Any) -> Page[Any]:
        """See `BaseRepository.page`."""
        return await self._call(self._body.page, query, **options)

    @overload
    async def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None, into: None = None
    ) -> CursorPage[T]: ...
    @overload
    async def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None, into: type[S]
    ) -> CursorPage[S]: ...
    async def scroll(self, query: QueryObject[T], **options: Any) -> CursorPage[Any]:
        """See `BaseRepository.scroll`."""
        return await self._call(self._body.scroll, query, **options)

    @overload
    def stream(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: None = None, **equals: Any
    ) -> AsyncIterator[T]: ...
    @overload
    def stream(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: type[S], **equals: Any
    ) -> AsyncIterator[S]: ...
    def stream(self, /, *criteria: bool | QueryObject[T], **options: Any) -> AsyncIterator[Any]:
        """See `BaseRepository.stream`."""
        return self._stream_chunks(self._body.chunks(*criteria, **options))

    async def summarize(
        self,
        summary: type[G],
        /,
        *criteria: bool | QueryObject[T],
        having: QueryObject[G] | None = None,
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[G]:
        """See `BaseRepository.summarize`."""
        return await self._call(
            self._body.summarize, summary, *criteria, having=having, order_by=order_by, limit=limit, offset=offset
        )

    async def counts(self, field: V, /, *criteria: bool | QueryObject[T]) -> dict[V, int]:
        """See `BaseRepository.counts`."""
        return await self._call(self._body.counts, field, *criteria)

    async def distinct(self, field: V, /, *criteria: bool | QueryObject[T]) -> list[V]:
        """See `BaseRepository.distinct`."""
        return await self._call(self._body.distinct, field, *criteria)

    # -- writing

    async def add(self, entity: T) -> T:
        """See `BaseRepository.add`."""
        return await self._call(self._body.add, entity)

    async def add_many(self, entities: Iterable[T]) -> list[T]:
        """See `BaseRepository.add_many`."""
        return await self._call(self._body.add_many, entities)

    async def update(self, entity: T) -> T:
        """See `BaseRepository.update`."""
        return await self._call(self._body.update, entity)

    async def patch(self, id: K, changes: Any) -> T:
        """See `BaseRepository.patch`."""
        return await self._call(self._body.patch, id, changes)

    async def save(self, entity: T) -> T:
        """See `BaseRepository.save`."""
        return await self._call(self._body.save, entity)

    async def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """See `BaseRepository.upsert`."""
        return await self._call(self._body.upsert, entity, on, update)

    async def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """See `BaseRepository.upsert_many`."""
        return await self._call(self._body.upsert_many, entities, on, update)

    async def delete(self, id: K) -> None:
        """See `BaseRepository.delete`."""
        return await self._call(self._body.delete, id)

    async def remove(self, entity: T) -> None:
        """See `BaseRepository.remove`."""
        return await self._call(self._body.remove, entity)

    async def update_where(
        self, /, *criteria: bool, set_: Mapping[str, Any], everything: bool = NOT_GIVEN, **equals: Any
    ) -> int:
        """See `BaseRepository.update_where`."""
        return await self._call(self._body.update_where, *criteria, set_=set_, everything=everything, **equals)

    async def delete_where(self, /, *criteria: bool, everything: bool = NOT_GIVEN, **equals: Any) -> int:
        """See `BaseRepository.delete_where`."""
        return await self._call(self._body.delete_where, *criteria, everything=everything, **equals)

    # -- the way to the body

    # Positional only, because an entity may have a field called `work`.
    async def _call(self, work: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
        return await self._unit._work.run(work, *args, **kwargs)

    async def _stream_chunks(self, chunks: Iterator[list[T]]) -> AsyncIterator[T]:
        # An explicit end, because a greenlet cannot be left by StopIteration.
        while (chunk := await self._call(partial(next, chunks, None))) is not None:
            for entity in chunk:
                yield entity

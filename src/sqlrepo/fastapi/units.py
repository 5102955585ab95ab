"""Units of work as FastAPI dependencies: begun before an endpoint, committed before its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from inspect import Parameter, Signature, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from sys import exc_info
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, Union, get_args
from weakref import WeakKeyDictionary

import fastapi
from anyio import CancelScope
from anyio.lowlevel import checkpoint
from fastapi import Depends, FastAPI, params

from sqlrepo import AsyncBaseUnitOfWork, BaseUnitOfWork, DatabaseUnavailableError, UnsupportedError
from sqlrepo.forks import ForkAware, ForkSafeLock, at_fork

if TYPE_CHECKING:
    from sqlrepo.memory import InMemoryDatabase
    from sqlrepo.sqlalchemy import AsyncDatabase, Database


Store: TypeAlias = Union["Database", "AsyncDatabase", "InMemoryDatabase"]

#: What an application gives for one.
Given: TypeAlias = Union[Store, Callable[[], Store]]  # noqa: UP007  # quoted names know no |

_MADE: WeakKeyDictionary[Callable[[], Store], Store] = WeakKeyDictionary()
_GUARD = ForkSafeLock()


def checked(given: Given) -> Given:
    """Refuse what is no database, and no plain function either.

    Raises:
        UnsupportedError: it is neither.
    """
    asynchronous = any(test(given) for test in (iscoroutinefunction, isasyncgenfunction, isgeneratorfunction))
    if asynchronous or not (callable(given) or _is_store(given)):
        raise UnsupportedError(
            f"{given!r} is neither a Database, an AsyncDatabase or an InMemoryDatabase, nor a plain function that "
            "returns one"
        )
    return given


def found(given: Given) -> Store | None:
    """The database, if it has been made already."""
    if not callable(given):
        return given
    return _MADE.get(given)


async def resolved(given: Given) -> Store:
    """The database; a function is called at first use, once in the process, and in a thread, for it may block.

    Raises:
        UnsupportedError: the function returned something else.
    """
    store = found(given)
    return store if store is not None else await asyncio.to_thread(_make, given)


def _make(given: Given) -> Store:
    assert callable(given)
    with _GUARD.lock:
        if given not in _MADE:
            made = given()
            if not _is_store(made):
                raise UnsupportedError(f"{given!r} returned {type(made).__name__}, which is no database")
            _MADE[given] = made
        return _MADE[given]


def _is_store(given: object) -> bool:
    return all(hasattr(type(given), name) for name in ("max_connections", "pool_timeout", "dispose"))


R = TypeVar("R")

# Threads where nothing limits the connections; as many as FastAPI has for endpoints.
_THREADS = 40


class Limiter:
    """Who may have a connection of one database, in one event loop.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        max_connections = store.max_connections
        self._turns = None if max_connections is None else asyncio.Semaphore(max_connections)
        self._patience = store.pool_timeout
        # A unit holds a turn and ends in one thread, so with as many threads as turns no end ever waits for one. The
        # threads are not those of the endpoints, which may all be waiting for a connection that an end gives back.
        self._threads = ThreadPoolExecutor(max_connections or _THREADS, "sqlrepo")

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Wait for a turn, and have it.

        Raises:
            DatabaseUnavailableError: there was none for as long as the pool would have waited.
        """
        if self._turns is None:
            yield
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailableError("all connections are in use") from error
        try:
            yield
        finally:
            self._turns.release()

    async def run(self, work: Callable[[], R]) -> R:
        """Run something that blocks in a thread, to its end however often the task is cancelled."""
        # Not anyio's threads: they let the event loop run something else first, which may be an endpoint that blocks
        # it until the very transaction ends that this thread is to commit.
        loop = asyncio.get_running_loop()
        return await shielded(loop.run_in_executor(self._threads, partial(copy_context().run, work)))


class _Limiters(ForkAware):
    """The limiters of each event loop, which may live on in a child; the threads of its limiters do not."""

    def __init__(self) -> None:
        self.by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Store, Limiter]]
        self.after_fork()
        at_fork(self)

    def after_fork(self) -> None:
        self.by_loop = WeakKeyDictionary()


_LIMITERS = _Limiters()


def limiter_of(store: Store) -> Limiter:
    """The gate of a database in the event loop that runs."""
    with _GUARD.lock:
        gates = _LIMITERS.by_loop.setdefault(running_loop(), WeakKeyDictionary())
        if store not in gates:
            gates[store] = Limiter(store)
        return gates[store]


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs.

    Raises:
        UnsupportedError: it is none of asyncio's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedError("sqlrepo.fastapi needs asyncio's event loop; trio's cannot run units of work") from None


async def shielded(work: Awaitable[R]) -> R:
    """Let something end however often its task is cancelled; a cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):  # a scope that is cancelled would wake the task again and again
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
    if cancelled is None:
        return task.result()
    if (failure := task.exception()) is not None:
        cancelled.add_note(f"what was waited for failed as well: {type(failure).__name__}: {failure}")
    raise cancelled


class Dependency:
    """A dependency that is what it was made of.

    Args:
        parts: what tells it from others.
        parameters: what FastAPI gives it when it is called.
    """

    def __init__(self, *parts: object, parameters: Sequence[Parameter] = ()) -> None:
        self._parts = (type(self), *parts)
        self._hash = hash(self._parts)
        self.__signature__ = Signature(list(parameters))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dependency) and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash


def dependency_in(alias: Any) -> Dependency | None:
    """The dependency of this library that an ``Annotated`` alias names."""
    marks: tuple[Any, ...] = get_args(getattr(alias, "__value__", alias))[1:]
    for mark in marks:
        dependency: object = getattr(mark, "dependency", None)
        if isinstance(dependency, Dependency):
            return dependency
    return None


def require_scopes() -> None:
    """Refuse a FastAPI that ends every dependency after the answer.

    Raises:
        UnsupportedError: it is older than 0.121.
    """
    if "scope" not in signature(params.Depends).parameters:
        raise UnsupportedError(
            f"FastAPI {fastapi.__version__} commits after it has answered; sqlrepo.fastapi needs 0.121 or later"
        )


AnyUnit: TypeAlias = BaseUnitOfWork[Any] | AsyncBaseUnitOfWork[Any]
U = TypeVar("U", bound=AnyUnit)
T = TypeVar("T")

_END: Any = object()


def provide(
    unit: type[AnyUnit], db: Given, *, read_only: bool = False, context: Callable[..., Any] | None = None
) -> Any:
    """Make the dependency that gives endpoints a unit of work.

    ``ShopDep = Annotated[Shop, provide(Shop, db)]`` is what endpoints are annotated with: one alias for each class.
    Each request has its own. It is open when the endpoint begins; it is committed before the answer is sent, or rolled
    back where the endpoint raised. No more requests have one at a time than the database has connections.

    Args:
        unit: the class of the units.
        db: a `Database`, an `AsyncDatabase` or an `InMemoryDatabase`; or a function without arguments that returns one,
            called once, at first use.
        read_only: whether a write raises `ReadOnlyError`.
        context: a FastAPI dependency, whose value becomes the unit's context.

    Raises:
        UnsupportedError: ``unit`` is no class of units, or ``db`` nothing of the sort.
    """
    return Depends(Provided(unit, db, read_only=read_only, context=context), scope="function")


def provide_stream(unit: type[AnyUnit], db: Given, *, context: Callable[..., Any] | None = None) -> Any:
    """Make the dependency that gives endpoints a way to stream.

    ``ShopStream = Annotated[Stream[Shop], provide_stream(Shop, db)]`` is what endpoints are annotated with.
    The unit of a stream is read-only, its own, and opened when the answer has begun; see `Stream`.
    """
    return Depends(ProvidedStream(unit, db, read_only=True, context=context), scope="request")


def override(app: FastAPI, alias: Any, db: Given) -> None:
    """Let an application use another database wherever an alias stands: ``override(app, ShopDep, InMemoryDatabase())``.

    ``app.dependency_overrides`` is where it is kept, and can be cleared.

    Args:
        app: the application.
        alias: ``Annotated[Shop, provide(Shop, db)]``, or the same with `provide_stream`.
        db: as in `provide`.

    Raises:
        UnsupportedError: the alias has none of our dependencies, or the database is not one for its units.
    """
    provided = dependency_in(alias)
    if not isinstance(provided, Provided):
        raise UnsupportedError(f"{alias!r} is no Annotated[..., provide(...)]")
    instead = provided.over(db)
    if (store := found(db)) is not None:
        instead.made(store)  # which a store that cannot keep the tables refuses, here rather than in a request
    app.dependency_overrides[provided] = instead


class Provided(Dependency):
    """The dependency that `provide` makes."""

    def __init__(
        self, unit: type[AnyUnit], db: Given, *, read_only: bool, context: Callable[..., Any] | None = None
    ) -> None:
        _require_unit(unit)
        super().__init__(unit, checked(db), read_only, context, parameters=_parameters(context))
        self.unit, self.db, self.read_only, self.context = unit, db, read_only, context
        if (store := found(db)) is not None:
            _require_fit(unit, store)

    def __repr__(self) -> str:
        return f"provide({self.unit.__name__}, {self.db!r})"

    async def __call__(self, context: Any = None) -> AsyncGenerator[Any]:
        """Have a unit while an endpoint runs."""
        async with self.opened(context) as (unit, _):
            yield unit

    def over(self, db: Given) -> Provided:
        """The same with another database."""
        return type(self)(self.unit, db, read_only=self.read_only, context=self.context)

    def made(self, store: Store, context: Any = None) -> AnyUnit:
        """A unit, not entered yet."""
        source: Any = store  # whether sync and async fit is for the unit to say
        return self.unit(source, read_only=self.read_only, context=context)

    @asynccontextmanager
    async def opened(self, context: Any) -> AsyncGenerator[tuple[Any, Limiter]]:
        """Have a turn, and a unit in it."""
        running_loop()
        store = await resolved(self.db)
        limiter = limiter_of(store)
        async with limiter.slot(), _entered(self.made(store, context), limiter) as unit:
            yield unit, limiter


class Stream(Generic[U]):
    """What opens a read-only unit of work for as long as an answer is streamed.

    Calling it gives what a `StreamingResponse` iterates over:
    ``StreamingResponse(stream(lambda shop: map(line, shop.todos.stream())))``.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[tuple[U, Limiter]]]) -> None:
        self._opened = opened
        self._begun: list[AsyncGenerator[Any]] = []

    def __call__(self, read: Callable[[U], Iterable[T] | AsyncIterable[T]]) -> AsyncGenerator[T]:
        """Read and hand on, piece by piece.

        Args:
            read: given the unit, tells what to send; a generator, of an async unit an async one.
        """
        begun = self._read(read)
        self._begun.append(begun)
        return begun

    async def close(self) -> None:
        """End what was begun, also where the client went away in the middle."""
        for begun in self._begun:
            await begun.aclose()

    async def _read(self, read: Callable[[U], Iterable[T] | AsyncIterable[T]]) -> AsyncGenerator[T]:
        async with self._opened() as (unit, limiter):
            pieces = read(unit)
            given = pieces if isinstance(pieces, AsyncIterable) else _in_threads(pieces, limiter)
            async with aclosing(given) if isinstance(given, AsyncGenerator) else nullcontext():
                async for piece in given:
                    yield piece
                    await checkpoint()  # else nothing here may ever wait, and so never hear that the client is gone


class ProvidedStream(Provided):
    """The dependency that `provide_stream` makes."""

    async def __call__(self, context: Any = None) -> AsyncGenerator[Any]:
        """Give what opens a unit later."""
        stream = Stream[Any](partial(self.opened, context))
        try:
            yield stream
        finally:
            await shielded(stream.close())


def _require_unit(unit: Any) -> None:
    if not (isinstance(unit, type) and issubclass(unit, BaseUnitOfWork | AsyncBaseUnitOfWork)):
        raise UnsupportedError(f"{unit!r} is no class of units of work")


def _require_fit(unit: type[AnyUnit], store: Store) -> None:
    """Refuse a sync unit on an async database, and the reverse.

    No unit is made for it: where an alias is defined, the repositories may still be missing.
    """
    verb = "begin" if issubclass(unit, BaseUnitOfWork) else "call"
    if not hasattr(store, verb):
        raise UnsupportedError(
            f"{unit.__name__} is not for an {type(store).__name__}; sync goes with sync, async with async"
        )


def _parameters(context: Callable[..., Any] | None) -> list[Parameter]:
    if context is None:
        return []
    return [Parameter("context", Parameter.KEYWORD_ONLY, default=Depends(context))]


@asynccontextmanager
async def _entered(unit: AnyUnit, limiter: Limiter) -> AsyncGenerator[AnyUnit]:
    """Enter a unit, and leave it to the end whoever cancels; a sync one in threads."""
    given = await (limiter.run(unit.__enter__) if isinstance(unit, BaseUnitOfWork) else unit.__aenter__())
    try:
        yield given
    except BaseException:
        await _left(unit, limiter, *exc_info())
        raise
    with suppress(ExceptionGroup):  # of callbacks after the commit: they are logged, and what was asked for is done
        await _left(unit, limiter)


async def _left(unit: AnyUnit, limiter: Limiter, kind: Any = None, error: Any = None, traceback: Any = None) -> None:
    if isinstance(unit, BaseUnitOfWork):
        await limiter.run(partial(unit.__exit__, kind, error, traceback))
    else:
        await shielded(unit.__aexit__(kind, error, traceback))


async def _in_threads(pieces: Iterable[T], limiter: Limiter) -> AsyncGenerator[T]:
    """Iterate over something that blocks."""
    iterator = iter(pieces)
    while (piece := await limiter.run(partial(next, iterator, _END))) is not _END:
        yield piece

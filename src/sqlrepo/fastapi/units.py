"""Units of work as FastAPI dependencies: opened before an endpoint runs, committed before its response is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from contextvars import copy_context
from functools import partial
from inspect import Parameter, Signature, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from sys import exc_info
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias, TypeVar, Union, get_args
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

# Tests with the oldest and the newest FastAPI prove that scope="function" ends a dependency before the response.
if "scope" not in signature(params.Depends).parameters:
    raise UnsupportedError(
        f"FastAPI {fastapi.__version__} would report a failed COMMIT as success; install FastAPI 0.121 or later"
    )

AnyDatabase: TypeAlias = Union["Database", "AsyncDatabase", "InMemoryDatabase"]
DatabaseOrFactory: TypeAlias = Union[AnyDatabase, Callable[[], AnyDatabase]]  # noqa: UP007  # quoted names know no |
AnyUnit: TypeAlias = BaseUnitOfWork[Any] | AsyncBaseUnitOfWork[Any]

U = TypeVar("U", bound=AnyUnit)
T = TypeVar("T")
R = TypeVar("R")

_END: Any = object()


def provide(
    unit: type[AnyUnit], db: DatabaseOrFactory, *, read_only: bool = False, context: Callable[..., Any] | None = None
) -> Any:
    """Return a dependency that gives an endpoint an open unit of work.

    Annotate endpoints with one alias per unit class: ``ShopDep = Annotated[Shop, provide(Shop, db)]``. Every request
    gets a unit of its own. The unit is committed before the response is sent, or rolled back if the endpoint raised.
    A request waits for a free connection before its unit opens.

    Args:
        unit: the unit class.
        db: a `Database`, an `AsyncDatabase` or an `InMemoryDatabase`; or a function without arguments that returns
            one, called once, at first use.
        read_only: make every write raise `ReadOnlyError`.
        context: a FastAPI dependency whose value becomes the unit's ``context``.

    Raises:
        UnsupportedError: ``unit`` is not a unit class, or ``db`` is not a database it can use.
    """
    return Depends(UnitDependency(unit, db, read_only=read_only, context=context), scope="function")


def provide_stream(unit: type[AnyUnit], db: DatabaseOrFactory, *, context: Callable[..., Any] | None = None) -> Any:
    """Return a dependency that lets an endpoint stream from the database.

    Annotate endpoints with ``ShopStream = Annotated[Stream[Shop], provide_stream(Shop, db)]``. Every stream has a
    read-only unit of its own, open from the beginning of the response to its end.

    Args:
        unit: the unit class.
        db: as in `provide`.
        context: as in `provide`.

    Raises:
        UnsupportedError: as in `provide`.
    """
    return Depends(StreamDependency(unit, db, read_only=True, context=context), scope="request")


def override(app: FastAPI, alias: Any, db: DatabaseOrFactory) -> None:
    """Replace the database of an alias in an application: ``override(app, ShopDep, InMemoryDatabase())``.

    The replacement is stored in ``app.dependency_overrides``; clear that to undo it. Applications that are mounted
    into this one have overrides of their own.

    Args:
        app: the application.
        alias: an ``Annotated`` type with `provide` or `provide_stream`.
        db: as in `provide`.

    Raises:
        UnsupportedError: the alias contains neither `provide` nor `provide_stream`, or its unit cannot use ``db``.
    """
    dependency = _find_dependency(alias)
    if dependency is None:
        raise UnsupportedError(f"{alias!r} is not an Annotated[..., provide(...)] alias; pass the alias itself")
    replacement = dependency.with_database(db)
    if (database := get_made_database(db)) is not None:
        replacement.make_unit(database)  # fails here, not in a request, if the database cannot hold the tables
    app.dependency_overrides[dependency] = replacement


class Stream(Generic[U]):
    """Opens a read-only unit of work for as long as a response is streamed.

    Call it to get the content of a `StreamingResponse`:
    ``StreamingResponse(stream(lambda shop: map(line, shop.todos.stream())))``.
    """

    def __init__(self, open_unit: Callable[[], AbstractAsyncContextManager[U]], db: DatabaseOrFactory) -> None:
        self._open_unit = open_unit
        self._db = db
        self._started: list[AsyncGenerator[Any]] = []

    def __call__(self, read: Callable[[U], Iterable[T] | AsyncIterable[T]]) -> AsyncGenerator[T]:
        """Return an iterator over the values that ``read`` produces.

        Args:
            read: a function from the unit to an iterable; for an async unit, an async iterable.
        """
        started = self._read(read)
        self._started.append(started)
        return started

    async def close(self) -> None:
        """Close the unit of every stream, including those whose client disconnected."""
        for started in self._started:
            await started.aclose()

    async def _read(self, read: Callable[[U], Iterable[T] | AsyncIterable[T]]) -> AsyncGenerator[T]:
        async with self._open_unit() as unit:
            values = read(unit)
            limiter = get_limiter(await get_database(self._db))
            source = values if isinstance(values, AsyncIterable) else _iterate_in_threads(values, limiter)
            async with aclosing(source) if isinstance(source, AsyncGenerator) else nullcontext():
                async for value in source:
                    yield value
                    await checkpoint()  # a loop that never waits would never notice that the client disconnected


# -- dependencies


class Dependency(tuple[object, ...]):  # noqa: SLOT001  # a tuple cannot have slots, and FastAPI reads `__signature__`
    """A callable dependency, the tuple of its parts: FastAPI runs equal ones once, and can override them."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        return super().__new__(cls, (cls, *args, *kwargs.values()))

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.__signature__ = Signature(list(parameters))


class UnitDependency(Dependency):
    def __init__(
        self, unit: type[AnyUnit], db: DatabaseOrFactory, *, read_only: bool, context: Callable[..., Any] | None
    ) -> None:
        _require_unit(unit)
        depends = [] if context is None else [Parameter("context", Parameter.KEYWORD_ONLY, default=Depends(context))]
        super().__init__(depends)
        self.unit, self.db, self.read_only, self.context = unit, require_database(db), read_only, context
        if (database := get_made_database(db)) is not None:
            _require_matching_database(unit, database)

    def __repr__(self) -> str:
        return f"provide({self.unit.__name__}, {self.db!r})"

    async def __call__(self, context: Any = None) -> AsyncGenerator[Any]:
        """Open a unit once there is a connection for it, and end it even if the request is cancelled."""
        require_asyncio()
        database = await get_database(self.db)
        limiter = get_limiter(database)
        async with limiter.slot():
            unit = self.make_unit(database, context)
            if isinstance(unit, BaseUnitOfWork):
                await limiter.run(unit.__enter__)
            else:
                await unit.__aenter__()
            try:
                yield unit
            except BaseException:
                await _leave(unit, limiter, *exc_info())
                raise
            with suppress(ExceptionGroup):  # of on_commit callbacks: they are logged, and the commit has succeeded
                await _leave(unit, limiter)

    def with_database(self, db: DatabaseOrFactory) -> UnitDependency:
        return type(self)(self.unit, db, read_only=self.read_only, context=self.context)

    def make_unit(self, database: AnyDatabase, context: Any = None) -> AnyUnit:
        source: Any = database  # the unit itself refuses a sync database where it needs an async one
        return self.unit(source, read_only=self.read_only, context=context)


class StreamDependency(UnitDependency):
    async def __call__(self, context: Any = None) -> AsyncGenerator[Any]:
        stream = Stream[Any](partial(asynccontextmanager(super().__call__), context), self.db)
        try:
            yield stream
        finally:
            await run_shielded(stream.close())


def _find_dependency(alias: Any) -> UnitDependency | None:
    marks: tuple[Any, ...] = get_args(getattr(alias, "__value__", alias))[1:]
    dependencies = (getattr(mark, "dependency", None) for mark in marks)
    return next((each for each in dependencies if isinstance(each, UnitDependency)), None)


def _require_unit(unit: Any) -> None:
    if not (isinstance(unit, type) and issubclass(unit, BaseUnitOfWork | AsyncBaseUnitOfWork)):
        raise UnsupportedError(f"{unit!r} is not a unit class; pass a subclass of BaseUnitOfWork")


def _require_matching_database(unit: type[AnyUnit], database: AnyDatabase) -> None:
    # A unit would refuse too, but cannot be made yet: where an alias is defined, repository classes may be missing.
    verb = "begin" if issubclass(unit, BaseUnitOfWork) else "call"
    if not hasattr(database, verb):
        raise UnsupportedError(
            f"{unit.__name__} cannot use {type(database).__name__}; a sync unit needs a sync database, and an async "
            "unit an async one"
        )


def _leave(unit: AnyUnit, limiter: Limiter, *error: Any) -> Awaitable[None]:
    ending = error or (None, None, None)
    if isinstance(unit, BaseUnitOfWork):
        return limiter.run(partial(unit.__exit__, *ending))
    return run_shielded(unit.__aexit__(*ending))


async def _iterate_in_threads(values: Iterable[T], limiter: Limiter) -> AsyncGenerator[T]:
    iterator = iter(values)
    while (value := await limiter.run(partial(next, iterator, _END))) is not _END:
        yield value


# -- databases, and functions that return one

_LOCK = ForkSafeLock()
_MADE: WeakKeyDictionary[Callable[[], AnyDatabase], AnyDatabase] = WeakKeyDictionary()


def require_database(db: DatabaseOrFactory) -> DatabaseOrFactory:
    asynchronous = any(test(db) for test in (iscoroutinefunction, isasyncgenfunction, isgeneratorfunction))
    if asynchronous or not (callable(db) or _is_database(db)):
        raise UnsupportedError(
            f"{db!r} is not a database; pass a Database, AsyncDatabase or InMemoryDatabase, or a plain function that "
            "returns one"
        )
    return db


def get_made_database(db: DatabaseOrFactory) -> AnyDatabase | None:
    """Return the database, or None if its function has not been called yet."""
    return _MADE.get(db) if callable(db) else db


async def get_database(db: DatabaseOrFactory) -> AnyDatabase:
    """Return the database; the first call of its function runs in a thread, because it may block."""
    database = _MADE.get(db) if callable(db) else db
    return database if database is not None else await asyncio.to_thread(_make_database, db)


def _make_database(factory: DatabaseOrFactory) -> AnyDatabase:
    assert callable(factory)
    with _LOCK.lock:
        if factory not in _MADE:
            database = factory()
            if not _is_database(database):
                raise UnsupportedError(f"{factory!r} returned {database!r}, which is not a database")
            _MADE[factory] = database
        return _MADE[factory]


def _is_database(value: object) -> bool:
    return all(hasattr(type(value), name) for name in ("max_connections", "pool_timeout", "dispose"))


# -- limits on connections

# Threads of a database without a limit of connections; FastAPI runs as many endpoints at a time.
_THREADS = 40


class Limiter:
    """Limits the open units of an event loop to the connections of their database, and runs sync ones in threads."""

    def __init__(self, database: AnyDatabase) -> None:
        slots = database.max_connections
        self._slots = None if slots is None else asyncio.Semaphore(slots)
        self._timeout = database.pool_timeout
        # One thread for each slot, so that ending a unit never waits for a thread. FastAPI's own threads may all be
        # running endpoints that wait for the connection.
        self._threads = ThreadPoolExecutor(slots or _THREADS, "sqlrepo")

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        if self._slots is None:
            yield
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailableError("no connection became free in time; make units shorter") from error
        try:
            yield
        finally:
            self._slots.release()

    def run(self, work: Callable[[], R]) -> Awaitable[R]:
        # Handing work to anyio's threads lets the event loop run another endpoint first, which may block the loop until
        # the transaction ends that the thread should commit.
        loop = asyncio.get_running_loop()
        return run_shielded(loop.run_in_executor(self._threads, partial(copy_context().run, work)))


class _Limiters(ForkAware):
    """The limiters of each event loop. A forked child may go on with a loop, but has none of its limiters' threads."""

    def __init__(self) -> None:
        self.by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[AnyDatabase, Limiter]]
        self.after_fork()
        at_fork(self)

    def after_fork(self) -> None:
        self.by_loop = WeakKeyDictionary()


_LIMITERS = _Limiters()


def get_limiter(database: AnyDatabase) -> Limiter:
    with _LOCK.lock:
        limiters = _LIMITERS.by_loop.setdefault(asyncio.get_running_loop(), WeakKeyDictionary())
        if database not in limiters:
            limiters[database] = Limiter(database)
        return limiters[database]


def require_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UnsupportedError(
            "sqlrepo.fastapi runs on asyncio's event loop only; start the server without trio"
        ) from None


async def run_shielded(work: Awaitable[R]) -> R:
    """Await something to its end even if the task is cancelled, and raise the cancellation afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):  # a cancelled scope would wake the task again and again
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
    if cancelled is None:
        return task.result()
    if (failure := task.exception()) is not None:
        cancelled.add_note(f"the shielded work failed as well: {type(failure).__name__}")
    raise cancelled

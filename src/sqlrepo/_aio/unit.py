"""The asynchronous unit of work.

Knows how the calls of a synchronous one are awaited. Must not decide anything that one decides.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, Protocol, Self, cast

from typing_extensions import TypeVar

from sqlrepo._base.declarations import Declarations, surrounding_names
from sqlrepo._base.joining import joined_async
from sqlrepo._base.unit import BaseUnitOfWork
from sqlrepo.driver import AsyncSource, Joinable
from sqlrepo.errors import UnsupportedError
from sqlrepo.transaction import Callback, callbacks_failed, is_async, logged, settled

__all__ = ["AsyncBaseUnitOfWork"]

C = TypeVar("C", default=None)
R = TypeVar("R")
U_co = TypeVar("U_co", bound=BaseUnitOfWork[Any], covariant=True)
P = ParamSpec("P")

_NOTHING: Any = None  # the context of a unit that is given none


class _NamesSync(Protocol[U_co]):
    """An async unit that names a sync one."""

    @property
    def sync(self) -> type[U_co]:
        """The class of the sync one."""
        ...

    async def call(self, work: Callable[..., R], *args: Any) -> R:
        """Run a synchronous body."""
        ...

    @property
    def beneath(self) -> BaseUnitOfWork[Any]:
        """The sync one itself."""
        ...


class AsyncBaseUnitOfWork(Generic[C]):
    """The base of asynchronous units of work: `BaseUnitOfWork`, awaited.

    ``async with`` commits on a clean exit and rolls back on any exception, cancellation included. A unit serves one
    task at a time. It may name a synchronous one, ``sync = Shop``, which `run` then gives to plain functions.

    Args:
        source: an `AsyncDatabase` or an `InMemoryDatabase`; or an `AsyncSession` or `AsyncConnection` of the
            application's, which the unit joins; see `BaseUnitOfWork`.
        read_only: whether a write raises `ReadOnlyError`; such a unit takes no write lock.
        context: what the application knows (tenant, user, clock), for its repositories to read.

    Attributes:
        idle_warning: as in `BaseUnitOfWork`.

    Raises:
        UnsupportedError: the source is none for async units, or cannot keep one of the tables.
    """

    idle_warning: ClassVar[float] = BaseUnitOfWork.idle_warning

    _declarations: ClassVar[Declarations] = Declarations(object, {})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._declarations = Declarations(cls, surrounding_names(inspect.currentframe()))

    def __init__(self, source: AsyncSource | Joinable, *, read_only: bool = False, context: C = _NOTHING) -> None:
        self._source = joined_async(source, type(self).__name__)
        made: type[BaseUnitOfWork[Any]] = getattr(type(self), "sync", BaseUnitOfWork)
        #: The synchronous unit, whose statements must be sent inside `call`.
        self.beneath = made(self._source.source, read_only=read_only, context=context)
        self.beneath.stand_for(type(self))
        self._waiting: list[Callback] = []
        self.beneath.after_commit = self._waiting.extend
        for repository in self._declarations.repositories.values():
            if not hasattr(repository, "__aenter__"):
                raise UnsupportedError(f"{repository.__name__} is a sync repository; async units declare async ones")
            self.beneath.adopt(repository)

    if not TYPE_CHECKING:  # or every misspelt attribute would be one

        def __getattr__(self, name: str) -> Any:
            built = self._declarations.named(name)(self)
            self.__dict__[name] = built
            return built

    @property
    def context(self) -> C:
        """What the application gave the unit to know."""
        return cast(C, self.beneath.context)

    @property
    def source(self) -> AsyncSource:
        """What the unit was made on."""
        return self._source

    @property
    def is_open(self) -> bool:
        """Whether the unit is inside its ``async with``."""
        return self.beneath.is_open

    async def __aenter__(self) -> Self:
        await self.call(self.beneath.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._ended(self.beneath.__exit__, kind, error, traceback)

    async def commit(self) -> None:
        """Commit now and give the connection back; the next statement begins another transaction."""
        await self._ended(self.beneath.commit)

    async def rollback(self) -> None:
        """Undo everything since the last commit and give the connection back; the unit stays open."""
        await self._ended(self.beneath.rollback)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """Nest: what happens inside is undone by an exception, without ending the transaction."""
        nested = self.beneath.savepoint()
        await self.call(nested.__enter__)
        try:
            yield
        except BaseException as error:
            await _shielded(self.call(nested.__exit__, type(error), error, error.__traceback__))
            raise
        await self.call(nested.__exit__, None, None, None)

    def on_commit(self, callback: Callback) -> None:
        """Call a function, or await an async one, after the commit; see `BaseUnitOfWork.on_commit`."""
        awaited = getattr(self._source, "awaited", None)  # a session that is joined calls them itself
        if awaited and callable(callback):
            callback = awaited(callback)
        (self.beneath.register if is_async(callback) else self.beneath.on_commit)(callback)

    async def run(self: _NamesSync[U_co], work: Callable[[U_co], R]) -> R:
        """Give the synchronous unit, on this one's connection, to a plain function: finders, services and all.

        Args:
            work: takes the unit that ``sync`` names; it must not block for anything but the unit.

        Raises:
            UnsupportedError: it is an async function.
        """
        return settled(await self.call(work, self.beneath))

    # -- for repositories

    async def call(self, work: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run a call of a synchronous body; its waiting for the database is awaited."""
        return await self._source.call(partial(work, *args, **kwargs))

    # -- the machinery

    async def _ended(self, end: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """End a transaction and call what waited for its commit; a cancellation waits for both, and is raised then."""
        await _shielded(self._end(partial(end, *args, **kwargs)))

    async def _end(self, end: Callable[[], object]) -> None:
        await self.call(end)
        callbacks = self._waiting.copy()
        self._waiting.clear()
        failures: list[Exception] = []
        for callback in callbacks:
            try:
                # A plain one may use the sync unit, and give something to await.
                result = callback() if is_async(callback) else await self.call(callback)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:  # noqa: BLE001  # one callback must not stop the others; all are raised below
                failures.append(logged(error))
        if failures:
            raise callbacks_failed(failures)


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

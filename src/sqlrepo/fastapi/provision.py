"""Units of work as FastAPI dependencies: begun before an endpoint, committed before its answer.

Knows how a unit is entered and left around a request, or around a stream. Must not know what is answered.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from functools import partial
from inspect import Parameter
from sys import exc_info
from typing import Any, Generic, TypeAlias, TypeVar

from anyio.lowlevel import checkpoint
from fastapi import Depends, FastAPI

from sqlrepo import AsyncBaseUnitOfWork, BaseUnitOfWork, UnsupportedError
from sqlrepo.fastapi.dependency import Dependency, dependency_in
from sqlrepo.fastapi.gate import Gate, gate_of, running_loop, shielded
from sqlrepo.fastapi.stores import Given, Store, checked, found, resolved

__all__ = ["Provided", "Stream", "override", "provide", "provide_stream"]

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
    async def opened(self, context: Any) -> AsyncGenerator[tuple[Any, Gate]]:
        """Have a turn, and a unit in it."""
        running_loop()
        store = await resolved(self.db)
        gate = gate_of(store)
        async with gate.turn(), _entered(self.made(store, context), gate) as unit:
            yield unit, gate


class Stream(Generic[U]):
    """What opens a read-only unit of work for as long as an answer is streamed.

    Calling it gives what a `StreamingResponse` iterates over:
    ``StreamingResponse(stream(lambda shop: map(line, shop.todos.stream())))``.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[tuple[U, Gate]]]) -> None:
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
        async with self._opened() as (unit, gate):
            pieces = read(unit)
            given = pieces if isinstance(pieces, AsyncIterable) else _in_threads(pieces, gate)
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
async def _entered(unit: AnyUnit, gate: Gate) -> AsyncGenerator[AnyUnit]:
    """Enter a unit, and leave it to the end whoever cancels; a sync one in threads."""
    given = await (gate.run(unit.__enter__) if isinstance(unit, BaseUnitOfWork) else unit.__aenter__())
    try:
        yield given
    except BaseException:
        await _left(unit, gate, *exc_info())
        raise
    with suppress(ExceptionGroup):  # of callbacks after the commit: they are logged, and what was asked for is done
        await _left(unit, gate)


async def _left(unit: AnyUnit, gate: Gate, kind: Any = None, error: Any = None, traceback: Any = None) -> None:
    if isinstance(unit, BaseUnitOfWork):
        await gate.run(partial(unit.__exit__, kind, error, traceback))
    else:
        await shielded(unit.__aexit__(kind, error, traceback))


async def _in_threads(pieces: Iterable[T], gate: Gate) -> AsyncGenerator[T]:
    """Iterate over something that blocks."""
    iterator = iter(pieces)
    while (piece := await gate.run(partial(next, iterator, _END))) is not _END:
        yield piece

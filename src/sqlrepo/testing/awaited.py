"""Asynchronous repositories and units as the cases use them: each call waits until the awaited one has ended.

Knows how a call gets to an event loop and back. Must not know the cases.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork

__all__ = ["AwaitedRepository", "AwaitedUnit", "Portal", "awaited"]

R = TypeVar("R")


class Portal:
    """An event loop in a thread of its own, so that units in several threads share one, as an application's do."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run something on the loop and wait for it; from inside the loop only what does not wait can be run."""
        if threading.current_thread() is not self._thread:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        try:
            work.send(None)
        except StopIteration as end:
            result: R = end.value
            return result
        raise RuntimeError("a call from inside a call would wait for itself")

    def close(self) -> None:
        """End the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(frozen=True, slots=True)
class AskedSource:
    """What an async unit was made on, as far as cases ask it; a server may have to be looked at for the answer."""

    asked: AsyncBaseUnitOfWork[Any]
    portal: Portal

    @property
    def lacks(self) -> frozenset[str]:
        """The capabilities the backend does not have."""
        return self.portal.run(self.asked.call(lambda: self.asked.beneath.source.lacks))


class AwaitedUnit(BaseUnitOfWork[Any]):
    """An async unit of work, waited for."""

    def __init__(self, skin: AsyncBaseUnitOfWork[Any], portal: Portal) -> None:
        self.skin = skin
        self.portal = portal
        super().__init__(skin.source.source, context=skin.context)

    def __getattr__(self, name: str) -> Any:
        return awaited(getattr(self.skin, name), self.portal)

    @property
    def source(self) -> Any:
        """What the async unit was made on, to be asked for what it lacks."""
        return AskedSource(self.skin, self.portal)

    @property
    def is_open(self) -> bool:
        """Whether the async unit is."""
        return self.skin.is_open

    def __enter__(self) -> Self:
        self.portal.run(self.skin.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.portal.run(self.skin.__aexit__(kind, error, traceback))

    def commit(self) -> None:
        """Commit now."""
        self.portal.run(self.skin.commit())

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        self.portal.run(self.skin.rollback())

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Nest."""
        nested = self.skin.savepoint()
        self.portal.run(_entered(nested))
        try:
            yield
        except BaseException as error:
            self.portal.run(_left(nested, error))
            raise
        self.portal.run(_left(nested, None))

    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call a function after the commit; in a thread, because it may use units of this kind itself."""

        async def called() -> None:
            await asyncio.to_thread(callback)

        given: object = callback
        self.skin.on_commit(called if callable(given) else callback)

    def run(self, work: Callable[..., R], *, write: bool = False) -> R:
        """Run the statements of one call."""
        result: Any = self.portal.run(self.skin.call(self.skin.beneath.run, work, write=write))
        return cast(R, result)

    def reader(self) -> AwaitedUnit:
        """A read-only unit on the same source."""
        return AwaitedUnit(AsyncBaseUnitOfWork(self.skin.source, read_only=True, context=self.context), self.portal)


async def _entered(nested: Any) -> None:
    await nested.__aenter__()


async def _left(nested: Any, error: BaseException | None) -> None:
    kind, traceback = (None, None) if error is None else (type(error), error.__traceback__)
    await nested.__aexit__(kind, error, traceback)


class AwaitedRepository(BaseRepository[Any, Any]):
    """An async repository, waited for; `awaited` makes a class of it for each class of repositories."""

    def __init__(self, skin: AsyncBaseRepository[Any, Any], portal: Portal) -> None:
        self.skin = skin
        self.portal = portal
        self._awaited = AwaitedUnit(skin.unit, portal)

    @property
    def unit(self) -> AwaitedUnit:
        """The unit of work it takes part in."""
        return self._awaited

    @property
    def context(self) -> Any:
        """What the application gave the unit to know."""
        return self.skin.context

    def __enter__(self) -> Self:
        self.portal.run(self.skin.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.portal.run(self.skin.__aexit__(kind, error, traceback))

    def to_row(self, entity: Any) -> Mapping[str, Any]:
        """What the async repository reads of an entity."""
        return self.skin.to_row(entity)

    def stream(self, *criteria: Any, **asked: Any) -> Iterator[Any]:
        """Go through the entities that answer."""
        return self._streamed(self.skin.stream(*criteria, **asked))

    def _streamed(self, stream: Any) -> Iterator[Any]:
        while (entity := self.portal.run(_next(stream))) is not stream:
            yield entity

    def reader(self) -> AwaitedRepository:
        """The same repository in a read-only unit."""
        unit = self.unit.reader()
        found = awaited(type(self.skin)(unit.skin), self.portal)
        assert isinstance(found, AwaitedRepository)
        return found


async def _next(stream: Any) -> Any:
    """The next entity; the stream itself at its end."""
    return await anext(stream, stream)


def _waiting(name: str) -> Callable[..., Any]:
    def call(self: AwaitedRepository, *args: Any, **kwargs: Any) -> Any:
        return self.portal.run(getattr(self.skin, name)(*args, **kwargs))

    return call


for _name, _ in inspect.getmembers(AsyncBaseRepository, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(AwaitedRepository, _name, _waiting(_name))


def awaited(given: Any, portal: Portal) -> Any:
    """What is asynchronous, waited for; anything else as it is."""
    if isinstance(given, AsyncBaseUnitOfWork):
        return AwaitedUnit(given, portal)
    if not isinstance(given, AsyncBaseRepository):
        return given
    kind = type(given)
    members = {"definition": kind.definition}
    return type(kind.__name__, (AwaitedRepository,), members)(given, portal)

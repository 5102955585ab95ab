"""What a user gives the contract: a way to open the store under test, to make entities, and what it cannot do."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, replace
from functools import wraps
from types import TracebackType
from typing import Any, Generic, Protocol, Self, cast

import pytest
from typing_extensions import TypeVar

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork

F = TypeVar("F", bound=Callable[..., Any])


class NotApplicableError(Exception):
    """The entity, or the harness, lacks what a case needs; reported as skipped, with clause and reason."""


def clause(number: str) -> Callable[[F], F]:
    """Say which clause a case checks; a failure then names it."""

    def cite(case: F) -> F:
        @wraps(case)
        def checked(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            try:
                case(*args, **kwargs)
            except NotApplicableError as lack:
                pytest.skip(f"clause {number} is not checked: {lack}")
            except BaseException as error:
                error.add_note(f"This is clause {number} of sqlrepo's contract.")
                raise

        checked.__dict__["clause"] = number
        return cast(F, checked)

    return cite


def clause_of(case: object) -> str | None:
    """The number of the clause a function checks; None where it is no case."""
    return getattr(case, "clause", None)


def deliberate(reason: str) -> Callable[[F], F]:
    """Let a method of your test class take the place of a case; without this mark that is refused.

    Args:
        reason: why the case as it is does not fit; it is reported.
    """

    def mark(case: F) -> F:
        case.__dict__["deliberate"] = reason
        return case

    return mark


def is_deliberate(case: object) -> bool:
    """Whether a method may take the place of a case."""
    return bool(getattr(case, "deliberate", None))


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
    def missing_capabilities(self) -> frozenset[str]:
        """The capabilities the backend does not have."""
        return self.portal.run(self.asked.call(lambda: self.asked.beneath.source.missing_capabilities))


class SyncUnitProxy(BaseUnitOfWork[Any]):
    """An async unit of work, waited for."""

    def __init__(self, skin: AsyncBaseUnitOfWork[Any], portal: Portal) -> None:
        self.skin = skin
        self.portal = portal
        super().__init__(skin.source.source, context=skin.context)

    def __getattr__(self, name: str) -> Any:
        return sync_proxy(getattr(self.skin, name), self.portal)

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

    def reader(self) -> SyncUnitProxy:
        """A read-only unit on the same source."""
        return SyncUnitProxy(AsyncBaseUnitOfWork(self.skin.source, read_only=True, context=self.context), self.portal)


async def _entered(nested: Any) -> None:
    await nested.__aenter__()


async def _left(nested: Any, error: BaseException | None) -> None:
    kind, traceback = (None, None) if error is None else (type(error), error.__traceback__)
    await nested.__aexit__(kind, error, traceback)


class SyncRepositoryProxy(BaseRepository[Any, Any]):
    """An async repository, waited for; `sync_proxy` makes a class of it for each class of repositories."""

    def __init__(self, skin: AsyncBaseRepository[Any, Any], portal: Portal) -> None:
        self.skin = skin
        self.portal = portal
        self._awaited = SyncUnitProxy(skin.unit, portal)

    @property
    def unit(self) -> SyncUnitProxy:
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

    def reader(self) -> SyncRepositoryProxy:
        """The same repository in a read-only unit."""
        unit = self.unit.reader()
        found = sync_proxy(type(self.skin)(unit.skin), self.portal)
        assert isinstance(found, SyncRepositoryProxy)
        return found


async def _next(stream: Any) -> Any:
    """The next entity; the stream itself at its end."""
    return await anext(stream, stream)


def _waiting(name: str) -> Callable[..., Any]:
    def call(self: SyncRepositoryProxy, *args: Any, **kwargs: Any) -> Any:
        return self.portal.run(getattr(self.skin, name)(*args, **kwargs))

    return call


for _name, _ in inspect.getmembers(AsyncBaseRepository, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        setattr(SyncRepositoryProxy, _name, _waiting(_name))


def sync_proxy(given: Any, portal: Portal) -> Any:
    """What is asynchronous, waited for; anything else as it is."""
    if isinstance(given, AsyncBaseUnitOfWork):
        return SyncUnitProxy(given, portal)
    if not isinstance(given, AsyncBaseRepository):
        return given
    kind = type(given)
    members = {"definition": kind.definition}
    return type(kind.__name__, (SyncRepositoryProxy,), members)(given, portal)


T = TypeVar("T", default=Any)
K = TypeVar("K", default=Any)


def _nothing() -> None:
    """There is nothing to close."""


class Lacking(Protocol):
    """What says of itself which capabilities it does not have."""

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """Their names."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond what every backend must.

    All are on by default; backends name what they lack. One that is off changes what its cases demand, as said below;
    no case is left out for it.

    Attributes:
        concurrent_writers: two units of work over one store may have written at the same time, and both commit. Off:
            the second one waits for the first to end, or is refused with a retryable error (SQLite: one writer).
        rereads_committed: a unit that reads again sees what others committed meanwhile. Off: it sees what it saw, or
            nobody can commit meanwhile.
        conflict_at_commit: of two units that write the same row, the second to commit gets a retryable
            `TransactionConflictError`. Off: the second one to write waits for the first, or is refused at once.
        fresh_keys: a generated key is never given out twice. Off: it may come again once its row is deleted.
        row_locks: `lock=` makes other units wait for the row, skip it or fail at once. Off: it is accepted, and the row
            is as safe: nobody else writes meanwhile (SQLite), or the unit gets a retryable conflict (memory).
        unicode_fold: `icontains` and its family fold by Unicode. Off: they raise `UnsupportedError` unless the
            repository says ``fold = "ascii"``.
        references_at_end: foreign keys are looked at when a statement ends, so rows of one call may refer to each other
            in any order, and a set form counts all rows it was about, also those that a cascade reached first. Off:
            rows are looked at one by one (MariaDB; SQLite, to which SQLAlchemy sends batches so).
        fk_error_details: a `ForeignKeyViolationError` names constraint, fields and table. Off: it names none (SQLite).
    """

    concurrent_writers: bool = True
    rereads_committed: bool = True
    conflict_at_commit: bool = True
    fresh_keys: bool = True
    row_locks: bool = True
    unicode_fold: bool = True
    fk_error_details: bool = True
    references_at_end: bool = True

    @classmethod
    def of(cls, source: Lacking) -> Self:
        """What a `Database` or an `InMemoryDatabase` says of itself."""
        return replace(cls(), **dict.fromkeys(source.missing_capabilities, False))

    @property
    def off(self) -> tuple[str, ...]:
        """The names of those that are switched off."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness(Generic[T, K]):
    """What the contract needs to know of one store; any object with these members will do.

    Attributes:
        open: gives a context manager over this test's store that yields a unit of work or a repository; both kinds
            are such context managers themselves: ``open=lambda: Shop(db)``. The store is empty of the entity at
            first, and may hold what the entity refers to. Cases open several at once, from other threads too.
        make: gives the n-th entity, n from 1 to 15: valid, not stored yet, and different from the others in key
            and uniques. An entity must stay valid with a field's value taken from another, or with None where both
            the class and the table allow it.
        change: gives the entity with some field altered that is neither its key nor its version.
        capabilities: what the backend can do; None for what it says of itself.
        close: ends what the harness began.
    """

    open: Callable[[], AbstractContextManager[BaseUnitOfWork[Any] | BaseRepository[T, K]]]
    make: Callable[[int], T]
    change: Callable[[T], T]
    capabilities: Capabilities | None = None
    close: Callable[[], None] = _nothing

    @classmethod
    def from_async(
        cls,
        *,
        open: Callable[[], AsyncBaseUnitOfWork[Any] | AsyncBaseRepository[T, K]],  # as the attribute
        make: Callable[[int], T],
        change: Callable[[T], T],
        capabilities: Capabilities | None = None,
        dispose: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> Harness[T, K]:
        """Make a harness of an asynchronous store; the cases stay as they are, and no plugin for asyncio is needed.

        Args:
            open: gives an async unit of work or repository: ``lambda: Shop(db)``. It is used on an event loop of the
                harness's own.
            make: as above.
            change: as above.
            capabilities: as above.
            dispose: what is awaited at last, ``db.dispose``; `close` does it, and ends the loop. Call it in the
                fixture, after the ``yield``.
        """
        portal = Portal()

        def close() -> None:
            if dispose is not None:
                portal.run(dispose())
            portal.close()

        return cls(
            open=lambda: sync_proxy(open(), portal), make=make, change=change, capabilities=capabilities, close=close
        )

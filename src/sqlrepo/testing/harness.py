"""Harnesses, which open a store and make its entities; clauses of cases; sync proxies of async stores."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import wraps
from types import TracebackType
from typing import Any, Generic, NoReturn, Protocol, Self, cast

import pytest
from typing_extensions import TypeVar

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, QueryError

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
T = TypeVar("T", default=Any)
K = TypeVar("K", default=Any)

# The property of a test's report that names what clause 6.21 could not prove, one finding a line.
UNPROVED = "sqlrepo_unproved"


# -- clauses


class NotApplicableError(Exception):
    """The entity or the harness lacks what a case needs; the case is skipped, with clause and reason."""


# Where to look if a clause fails, by section of the contract.
_LOOK_AT = {
    "1": "the harness: `open` must give an empty store, `make(n)` valid distinct entities, `change` a changed copy",
    "2": "methods that the repository overrides, its `to_domain`, and the columns of its key",
    "3": "column types and collations (the database evaluates criteria), and methods that the repository overrides",
    "4": "the collation of text columns, and the repository's `fold`",
    "5": "the collation of text columns, and the reading methods that the repository overrides",
    "6": "the repository's `to_row`, `to_domain` and overridden methods; defaults, triggers and types of the columns "
    "(the harness names what they change on purpose: `normalises`, `generated`)",
    "7": "`to_row` and `to_domain`: they must copy what can be changed, and keep no entity",
    "8": "the constraints and column types of the table: does it have all that its mapped class declares?",
    "9": "the version: its column, `version` or `version_id_col`, and whether `to_domain` passes it on",
    "10": "code that commits or rolls back by itself: overridden methods, listeners, `open` of the harness",
    "11": "code that commits, rolls back or sets savepoints by itself, and the tables' storage engine",
    "12": "code that swallows errors: overridden methods, listeners",
    "13": "code that commits or rolls back by itself, and calls of `on_commit`",
    "14": "the isolation level of the engine, and the `capabilities` of the harness",
    "15": "methods that the repository overrides without calling `super()`",
    "16": "`parts`, the children's table and its foreign key, and methods that the repository overrides",
    "17": "column types and collations of the children's table",
}


def clause(number: str) -> Callable[[F], F]:
    """Mark a case with the clause it checks; a failure then names the clause and where to look."""

    def mark(case: F) -> F:
        @wraps(case)
        def run(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            try:
                case(*args, **kwargs)
            except NotApplicableError as lack:
                skip_case(number, lack)
            except BaseException as error:
                if isinstance(error, QueryError) and error.option is not None:
                    skip_case(number, NotApplicableError(f"the call's option {error.option!r} is also a field"))
                error.add_note(_explain(number, case))
                raise

        run.__dict__["clause"] = number
        return cast(F, run)

    return mark


def skip_case(number: str, lack: NotApplicableError) -> NoReturn:
    """Skip a case; the plugin collects the reasons."""
    pytest.skip(f"clause {number} is not checked: {lack}")


def _explain(number: str, case: Callable[..., Any]) -> str:
    return (
        f"This is clause {number} of sqlrepo's contract ({case.__name__}); docs/contract.md says what it promises.\n"
        f"Look at {_LOOK_AT[number.partition('.')[0]]}."
    )


def clause_of(case: object) -> str | None:
    """Return the number of the clause that a function checks; None if it is not a case."""
    return getattr(case, "clause", None)


def deliberate(reason: str) -> Callable[[F], F]:
    """Allow a method of your test class to replace a case; without this mark, defining the class fails.

    Args:
        reason: why the case does not fit.
    """

    def mark(case: F) -> F:
        case.__dict__["deliberate"] = reason
        return case

    return mark


def is_deliberate(case: object) -> bool:
    """Return True if a method may replace a case."""
    return bool(getattr(case, "deliberate", None))


class NotCollected:
    """The `__test__` of a contract, which keeps pytest from collecting the contract itself but not its subclasses."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._contract = owner

    def __get__(self, instance: object, owner: type) -> bool:
        if owner is self._contract:
            return False
        raise AttributeError("__test__")


# -- async stores


class Portal:
    """An event loop in a thread of its own, shared by the units of several threads as in an application."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the loop and wait for it; a call from the loop itself must end without waiting."""
        if threading.current_thread() is not self._thread:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        try:
            work.send(None)
        except StopIteration as end:
            result: R = end.value
            return result
        raise RuntimeError("a call inside another call of the same unit would wait for itself")

    def close(self) -> None:
        """Stop the loop and wait for its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncProxy:
    """An async unit of work, repository or savepoint whose methods wait for their results."""

    def __init__(self, target: Any, portal: Portal) -> None:
        self.target = target
        self.portal = portal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if not inspect.ismethod(found):
            return sync_proxy(found, self.portal)
        return lambda *args, **kwargs: sync_proxy(found(*args, **kwargs), self.portal)

    def __enter__(self) -> Self:
        self.portal.run(self.target.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        ended: bool | None = self.portal.run(self.target.__aexit__(kind, error, traceback))
        return ended

    def on_commit(self, callback: Callable[[], Any]) -> None:
        """Call a function after the commit, in a thread, because it may open units itself."""

        async def call() -> None:
            await asyncio.to_thread(callback)

        given: object = callback
        self.target.on_commit(call if callable(given) else callback)


def sync_proxy(given: Any, portal: Portal) -> Any:
    """Await a coroutine, and wrap other async objects in a proxy; return anything else unchanged."""
    if inspect.iscoroutine(given):
        return sync_proxy(portal.run(given), portal)
    if hasattr(type(given), "__aenter__"):
        return SyncProxy(given, portal)
    return _iterate(given, portal) if hasattr(type(given), "__anext__") else given


def _iterate(stream: Any, portal: Portal) -> Iterator[Any]:
    async def step() -> Any:
        return await anext(stream, stream)

    while (entity := portal.run(step())) is not stream:
        yield entity


# -- harnesses


class Source(Protocol):
    """A `Database`, an `InMemoryDatabase`."""

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The names of the capabilities that the backend lacks."""
        ...


def _do_nothing() -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Lists what a backend can do beyond what every backend must do.

    All are on by default; backends report what they lack. Switching one off changes what its cases demand, as described
    below; it never leaves a case out.

    Attributes:
        concurrent_writers: two units of work over one store may both have written, and both commit. Off: the second
            waits for the first to end, or gets a retryable error (SQLite: one writer).
        rereads_committed: a unit that reads again sees what others have committed meanwhile. Off: it sees what it saw
            before, or nobody can commit meanwhile.
        conflict_at_commit: if two units write the same row, the second to commit gets a retryable
            `TransactionConflictError`. Off: the second to write waits for the first, or gets an error at once; without
            `row_locks` nobody waits, and the second to commit wins (memory that allows lost updates).
        fresh_keys: a generated key is never used again. Off: it may be, once its row is deleted.
        row_locks: `lock=` makes other units wait for the row, skip it or fail at once. Off: it is accepted, and the row
            is as safe: nobody else writes meanwhile (SQLite), or the unit gets a retryable conflict (memory).
        unicode_fold: `icontains` and its family fold case by Unicode. Off: they raise `UnsupportedError` unless the
            repository sets ``fold = "ascii"``.
        references_at_end: foreign keys are checked when a statement ends. Rows of one call may then refer to each other
            in any order, and a set form also counts matching rows that a cascade reached first. Off: rows are checked
            one by one (MariaDB; SQLite, to which SQLAlchemy sends the rows of a batch singly).
        fk_error_details: a `ForeignKeyViolationError` names constraint, fields and table. Off: it names none (SQLite).
        isolation: what clauses 14.7 to 14.19 demand: "postgresql REPEATABLE READ", say, or "READ COMMITTED" for what
            every database promises at that level. By default what the backend reports.
    """

    concurrent_writers: bool = True
    rereads_committed: bool = True
    conflict_at_commit: bool = True
    fresh_keys: bool = True
    row_locks: bool = True
    unicode_fold: bool = True
    fk_error_details: bool = True
    references_at_end: bool = True
    isolation: str = ""

    @classmethod
    def of(cls, source: Source) -> Self:
        """Read the capabilities that a `Database` or an `InMemoryDatabase` reports."""
        lacking: dict[str, Any] = dict.fromkeys(source.missing_capabilities, False)
        return cls(isolation=isolation_of(source), **lacking)

    @property
    def off(self) -> tuple[str, ...]:
        """The names of the capabilities that are switched off."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is False)


def isolation_of(source: object) -> str:
    """Return the isolation that a backend reports; empty if it reports none."""
    return str(getattr(source, "isolation", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness(Generic[T, K]):
    """Describes one store to the contract; any object with these members will do.

    Attributes:
        open: returns a context manager over this test's store that yields a unit of work or a repository; both are such
            context managers themselves: ``open=lambda: Shop(db)``. At first the store has no entity of this class; it
            may hold rows that the entity refers to. Cases open several at once, also from other threads.
        make: returns the n-th entity, n from 1 to 15: valid, not stored yet, and different from the others in key and
            uniques. An entity must stay valid with a field's value taken from another, or with None where both the
            class and the table allow it.
        change: returns the entity with some field changed that is neither its key nor its version.
        normalises: fields that the repository changes on purpose, such as a name in lower case. For these the contract
            demands only that a stored value stays the same when it is read, written and read again.
        generated: fields that are set for the caller, whatever the entity says, by a trigger for example. Generated
            keys, defaults, computed columns, ``onupdate`` and the version are known from the table.
        capabilities: what the backend can do; by default what the backend reports.
        close: releases the resources of the harness.
    """

    open: Callable[[], AbstractContextManager[BaseUnitOfWork[Any] | BaseRepository[T, K]]]
    make: Callable[[int], T]
    change: Callable[[T], T]
    normalises: Collection[str] = ()
    generated: Collection[str] = ()
    capabilities: Capabilities | None = None
    close: Callable[[], None] = _do_nothing

    @classmethod
    def from_async(
        cls,
        *,
        open: Callable[[], AsyncBaseUnitOfWork[Any] | AsyncBaseRepository[T, K]],  # as the attribute
        make: Callable[[int], T],
        change: Callable[[T], T],
        normalises: Collection[str] = (),
        generated: Collection[str] = (),
        capabilities: Capabilities | None = None,
        dispose: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> Harness[T, K]:
        """Make a harness of an async store; the cases stay synchronous and need no asyncio plugin.

        Args:
            open: returns an async unit of work or repository: ``lambda: Shop(db)``. The harness uses it on an event
                loop of its own.
            make: as in `Harness`.
            change: as in `Harness`.
            normalises: as in `Harness`.
            generated: as in `Harness`.
            capabilities: as in `Harness`.
            dispose: awaited by `close`, before the loop ends: ``db.dispose``. Call `close` in the fixture, after the
                ``yield``.
        """
        portal = Portal()

        def close() -> None:
            if dispose is not None:
                portal.run(dispose())
            portal.close()

        return cls(
            open=lambda: sync_proxy(open(), portal),
            make=make,
            change=change,
            normalises=normalises,
            generated=generated,
            capabilities=capabilities,
            close=close,
        )

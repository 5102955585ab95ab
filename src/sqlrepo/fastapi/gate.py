"""The turns of a database: no more requests have a unit of work than there are connections.

Knows capacity, waiting, threads and cancellation. Must not know requests, nor what a unit of work does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

from anyio import CancelScope

from sqlrepo import DatabaseUnavailableError, UnsupportedError
from sqlrepo.fastapi.stores import Store
from sqlrepo.forks import Guard, tell

__all__ = ["Gate", "gate_of", "running_loop", "shielded"]

R = TypeVar("R")

# Threads where nothing limits the connections; as many as FastAPI has for endpoints.
_THREADS = 40


class Gate:
    """Who may have a connection of one database, in one event loop.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        capacity = store.capacity
        self._turns = None if capacity is None else asyncio.Semaphore(capacity)
        self._patience = store.patience
        # A unit holds a turn and ends in one thread, so with as many threads as turns no end ever waits for one. The
        # threads are not those of the endpoints, which may all be waiting for a connection that an end gives back.
        self._threads = ThreadPoolExecutor(capacity or _THREADS, "sqlrepo")

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
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


_GATES: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakKeyDictionary[Store, Gate]] = WeakKeyDictionary()
_GUARD = Guard()
tell(child=_GATES.clear)  # an event loop may live on in a child; the threads of its gates do not


def gate_of(store: Store) -> Gate:
    """The gate of a database in the event loop that runs."""
    with _GUARD.lock:
        gates = _GATES.setdefault(running_loop(), WeakKeyDictionary())
        if store not in gates:
            gates[store] = Gate(store)
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

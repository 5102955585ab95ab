"""Connecting on an asynchronous driver, being cancelled meanwhile, and closing from outside its event loop.

Knows which drivers leave something behind then, and how they connect. Must not know engines or units of work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from operator import attrgetter
from threading import Thread
from typing import Any, cast

import sqlalchemy as sa

__all__ = ["cancel_safe_options", "close_all"]

# Where a driver's own function is that connects. asyncpg leaves an error that nobody retrieves, psycopg a connection
# that nobody closes; the others clean up.
_CONNECT = {"asyncpg": "asyncpg:connect", "psycopg": "psycopg:AsyncConnection.connect"}

# How long the closing of an asynchronous driver's connections may take, in seconds.
_CLOSING = 5.0

# How long a cancellation waits for a server that is about to answer, in seconds.
_PATIENCE = 1.0


def cancel_safe_options(url: sa.URL) -> dict[str, Any]:
    """Give the options of `create_async_engine` that keep a cancellation from leaving half a connection behind.

    Args:
        url: says the driver.
    """
    name = url.get_driver_name()
    if name not in _CONNECT:
        return {}

    async def connected(*args: Any, **options: Any) -> Any:
        return await _connected(_function(_CONNECT[name])(*args, **options))

    return {"connect_args": {"async_creator_fn": connected}}


def close_all(engine: sa.Engine) -> None:
    """Close what an engine's pool has, and wait for that; from anywhere, also on an asynchronous driver.

    Raises:
        TimeoutError: an asynchronous driver took too long.
    """
    if not engine.dialect.is_async:
        engine.dispose()
        return
    from sqlalchemy.util import greenlet_spawn  # noqa: PLC0415  # needs greenlet

    # In an event loop of its own: the one that runs, if any, cannot be waited for here.
    thread = Thread(target=lambda: asyncio.run(greenlet_spawn(engine.dispose)), daemon=True)
    thread.start()
    thread.join(_CLOSING)
    if thread.is_alive():
        raise TimeoutError(f"connections of {engine!r} could not be closed in {_CLOSING} s")


def _function(place: str) -> Callable[..., Awaitable[Any]]:
    module, _, path = place.partition(":")
    return cast("Callable[..., Awaitable[Any]]", attrgetter(path)(import_module(module)))


async def _connected(connecting: Awaitable[Any]) -> Any:
    """Wait for a connection; where that is cancelled, close it as soon as it is there."""
    task = asyncio.ensure_future(connecting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_PATIENCE)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            await task.result().close()
        raise

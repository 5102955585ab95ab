"""URLs and drivers: which are accepted, and how connections of asynchronous drivers are opened and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module
from operator import attrgetter
from threading import Thread
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import exc

from sqlrepo.errors import UnsupportedError

_RENAMED = {"postgres": "postgresql"}  # a common misspelling
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_ASYNC_DRIVERS = {"postgresql": "asyncpg", "mysql": "asyncmy", "mariadb": "asyncmy", "sqlite": "aiosqlite"}
_EXTRAS = ("aiosqlite", "asyncmy", "asyncpg", "psycopg", "pymysql")

# The drivers' own connect functions. If one is cancelled, asyncpg leaves an error that nobody retrieves, and psycopg a
# connection that nobody closes; the other drivers clean up.
_CONNECT = {"asyncpg": "asyncpg:connect", "psycopg": "psycopg:AsyncConnection.connect"}

_CLOSE_TIMEOUT = 5.0  # seconds
_CANCEL_TIMEOUT = 1.0  # seconds that a cancellation waits for a server that is about to answer


def check_url(given: object, *, asynchronous: bool) -> sa.URL:
    """Parse a URL, and refuse one that SQLAlchemy would misread, or fail on later."""
    if not isinstance(given, str | sa.URL):
        raise UnsupportedError(f"Database takes a URL or an Engine, not {type(given).__name__}")
    try:
        url = sa.make_url(given)
    except (exc.ArgumentError, ValueError):
        form = "database+driver://user:password@host/name"
        raise UnsupportedError(f"this is not a database URL; write {form}") from None  # it may hold a password
    name = _RENAMED.get(url.get_backend_name(), url.get_backend_name())
    drivers = _ASYNC_DRIVERS if asynchronous else _DRIVERS
    if "+" not in url.drivername and name in drivers:
        raise UnsupportedError(f"{url.drivername}:// names no driver; write {name}+{drivers[name]}://")
    if load_dialect(url).is_async is not asynchronous and url.get_driver_name() != "psycopg":  # which is both
        raise UnsupportedError(f"{url.drivername} is {_other_kind(asynchronous)}")
    return url


def check_engine(engine: sa.Engine, *, asynchronous: bool) -> sa.Engine:
    if engine.dialect.is_async is not asynchronous:
        raise UnsupportedError(f"this engine has {_other_kind(asynchronous)}")
    return engine


def _other_kind(asynchronous: bool) -> str:
    return "a sync driver; use Database" if asynchronous else "an async driver; use AsyncDatabase"


def load_dialect(url: sa.URL) -> sa.Dialect:
    """Return SQLAlchemy's dialect for a URL, and load its driver."""
    try:
        dialect = url.get_dialect()
        dialect.import_dbapi()
    except exc.NoSuchModuleError:
        raise UnsupportedError(f"SQLAlchemy knows no database and driver called {url.drivername}") from None
    except ImportError as error:
        driver = url.get_driver_name()
        package = f'"sqlrepo-uow[{driver}]"' if driver in _EXTRAS else driver
        raise UnsupportedError(f"the driver {driver} is not installed; pip install {package}") from error
    return dialect()


def make_engine(url: sa.URL, **options: Any) -> sa.Engine:
    """Make an engine whose errors and log do not show the values of parameters."""
    return sa.create_engine(url, hide_parameters=True, **options)


def cancel_safe_options(url: sa.URL) -> dict[str, Any]:
    """Return options for `create_async_engine` with which a cancelled connect leaves nothing behind."""
    name = url.get_driver_name()
    if name not in _CONNECT:
        return {}

    async def connect(*args: Any, **options: Any) -> Any:
        module, _, path = _CONNECT[name].partition(":")
        driver_connect = cast("Callable[..., Awaitable[Any]]", attrgetter(path)(import_module(module)))
        return await await_connection(driver_connect(*args, **options))

    return {"connect_args": {"async_creator_fn": connect}}


async def await_connection(connecting: Awaitable[Any]) -> Any:
    """Await a connection; if cancelled, close the connection as soon as it is open."""
    task = asyncio.ensure_future(connecting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_CANCEL_TIMEOUT)
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            await task.result().close()
        raise


def close_all(engine: sa.Engine) -> None:
    """Close the connections in an engine's pool and wait until they are closed, also for an asynchronous driver."""
    if not engine.dialect.is_async:
        engine.dispose()
        return
    from sqlalchemy.util import greenlet_spawn  # noqa: PLC0415  # needs greenlet

    # In an event loop of its own: a loop that is running cannot be waited for here.
    thread = Thread(target=lambda: asyncio.run(greenlet_spawn(engine.dispose)), daemon=True)
    thread.start()
    thread.join(_CLOSE_TIMEOUT)
    if thread.is_alive():
        raise TimeoutError(f"the connections of {engine!r} could not be closed within {_CLOSE_TIMEOUT} s")

"""A database through SQLAlchemy's asynchronous drivers.

Knows how a synchronous body waits for one: in a greenlet, as SQLAlchemy's own asyncio layer does. Must not know what
the body does.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from sqlrepo.errors import UnsupportedError
from sqlrepo.sqlalchemy.database import Database
from sqlrepo.sqlalchemy.engines import Engines

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["AsyncDatabase"]

R = TypeVar("R")


class AsyncDatabase:
    """Where async units of work get their connections: make one per process and share it. See `Database`.

    Args:
        url: a SQLAlchemy URL that says an async driver; or an async engine the application has already, which is used
            as it is.
        ping: whether a connection is tried before it is given out, at the price of one round trip.
        isolation: another isolation level than the usual one.

    Raises:
        UnsupportedError: the database is not known to this library, or its driver or greenlet is not installed.
    """

    def __init__(self, url: str | sa.URL | AsyncEngine, *, ping: bool = True, isolation: str | None = None) -> None:
        made = url if isinstance(url, str | sa.URL) else url.sync_engine
        _require_greenlet()
        self._engines = Engines(made, ping=ping, isolation=isolation, asynchronous=True, make=_make)
        self._source = Database.over(self._engines)

    def __repr__(self) -> str:
        return f"Async{self._source!r}"

    @property
    def engine(self) -> AsyncEngine:
        """The engine of units that may write; tables are made with it."""
        from sqlalchemy.ext.asyncio import AsyncEngine

        return AsyncEngine(self._engines.writing)

    @property
    def source(self) -> Database:
        """What the synchronous bodies get their connections from; to be used inside `call` only."""
        return self._source

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous body in a greenlet; its waiting for the database is awaited."""
        from sqlalchemy.util import greenlet_spawn

        return await greenlet_spawn(work)

    async def dispose(self) -> None:
        """Close the pools' connections; the database can be used again afterwards."""
        await self.call(self._engines.dispose)


def _make(url: sa.URL, **options: Any) -> sa.Engine:
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **options).sync_engine


def _require_greenlet() -> None:
    if find_spec("greenlet") is None:  # which SQLAlchemy would miss at the first statement
        raise UnsupportedError('async units need greenlet; pip install "sqlrepo-uow[asyncio]"')

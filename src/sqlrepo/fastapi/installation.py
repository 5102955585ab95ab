"""What an application gets once: the end of its databases, the answers to errors, the check of its routes.

Knows the application's life. Must not know requests.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any

from fastapi import FastAPI

from sqlrepo import RepositoryError
from sqlrepo.fastapi.problems import answer
from sqlrepo.fastapi.stores import Given, checked, found

__all__ = ["install"]


def install(app: FastAPI, *dbs: Given) -> None:
    """Let an application check its routes when it starts, answer errors as problems, and close its databases.

    Problems are bodies as RFC 9457 has them. A handler that the application has for an error of the library, or adds later, goes before ours.

    Args:
        app: the application.
        dbs: what `provide` is given: databases, or functions that return one and are called at first use.

    Raises:
        UnsupportedError: one of them is no database.
    """
    given = [checked(db) for db in dbs]
    app.exception_handlers.setdefault(RepositoryError, answer)
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any]:
        async with AsyncExitStack() as ending:
            for db in given:
                ending.push_async_callback(_dispose, db)
            yield await ending.enter_async_context(before(app))

    app.router.lifespan_context = lifespan


async def _dispose(given: Given) -> None:
    """Close a database's connections, if it has been made."""
    store = found(given)
    if store is not None and isawaitable(closing := store.dispose()):
        await closing

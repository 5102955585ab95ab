"""What an application gets once: the end of its databases, the answers to errors, the check of its routes.

Knows the application's life. Must not know requests.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any

from fastapi import FastAPI

from sqlrepo import RepositoryError
from sqlrepo.fastapi.aftermath import Aftermath
from sqlrepo.fastapi.etags import PreconditionError
from sqlrepo.fastapi.gate import running_loop
from sqlrepo.fastapi.logs import RequestContext, add_route
from sqlrepo.fastapi.order import require_order
from sqlrepo.fastapi.problems import answer, answer_precondition
from sqlrepo.fastapi.routes import check_routes
from sqlrepo.fastapi.stores import Given, checked, found
from sqlrepo.fastapi.validation import document_problems

__all__ = ["install"]


def install(app: FastAPI, *dbs: Given) -> None:
    """Let an application check its routes when it starts, answer errors as problems, and close its databases.

    Problems are bodies as RFC 9457 has them. A handler that the application has for an error of the library, or adds
    later, goes before ours. What the library logs while a request runs names its route. Nothing is served by an
    application with a route that `check_routes` refuses.

    Args:
        app: the application.
        dbs: what `provide` is given: databases, or functions that return one and are called at first use.

    Raises:
        UnsupportedError: one of them is no database.
    """
    given = [checked(db) for db in dbs]
    for kind, handler in ((RepositoryError, answer), (PreconditionError, answer_precondition)):
        app.exception_handlers.setdefault(kind, handler)
    document_problems(app)
    app.add_middleware(Aftermath)
    app.add_middleware(RequestContext)
    logging.getLogger("sqlrepo").addFilter(add_route)
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any]:
        async with AsyncExitStack() as ending:
            running_loop()
            await require_order()
            check_routes(app)
            for db in given:
                ending.push_async_callback(_dispose, db)
            yield await ending.enter_async_context(before(app))

    app.router.lifespan_context = lifespan


async def _dispose(given: Given) -> None:
    """Close a database's connections, if it has been made."""
    store = found(given)
    if store is not None and isawaitable(closing := store.dispose()):
        await closing

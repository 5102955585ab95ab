"""The route of the request, in what the library logs meanwhile.

Knows which request runs, and what its route is called. Must not know what is logged.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from sqlrepo.fastapi.parameters import Place, places

__all__ = ["RequestContext", "add_route"]


@dataclass(slots=True)
class _Request:
    """A request that runs.

    Attributes:
        scope: what ASGI tells of it; its route is there once it is found.
        app: the outermost application that knows us.
        path: what was asked for.
        named: the route, once somebody has asked.
    """

    scope: Scope
    app: FastAPI
    path: str
    named: str | None = None

    def route(self) -> str | None:
        """Its route's methods, path with the names of its parameters and never their values, and endpoint."""
        if self.named is None and "route" in self.scope:
            endpoint = self.scope.get("endpoint")
            self.named = f"{self._place()}, {getattr(endpoint, '__qualname__', endpoint)}"
        return self.named

    def _place(self) -> Place | Any:
        """Where the route stands; of several places, the one whose path is the request's."""
        route = self.scope["route"]
        here = [place for place in places(self.app) if place.route is route]
        fitting = [place for place in here if compile_path(place.path)[0].match(self.path)]
        return next(iter(fitting or here), route)


_RUNNING: ContextVar[_Request | None] = ContextVar("sqlrepo_request", default=None)


class RequestContext:
    """A middleware that notes the request as long as it runs, its threads, tasks and streams included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; one that an application passes on to a mounted one is noted already."""
        running = _RUNNING.get()
        if running is not None and running.scope is scope:
            await self._app(scope, receive, send)
            return
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        token = _RUNNING.set(_Request(scope, scope["app"], path))
        try:
            await self._app(scope, receive, send)
        finally:
            _RUNNING.reset(token)


def add_route(record: logging.LogRecord) -> bool:
    """Add the route to a record of the log, to its message and as ``record.route``; a filter that keeps all records."""
    running = _RUNNING.get()
    if running is not None and (route := running.route()) is not None and not hasattr(record, "route"):
        record.route = route
        record.msg, record.args = "%s [%s]", (record.getMessage(), route)
    return True

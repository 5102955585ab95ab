"""Whether FastAPI ends a dependency before it answers: tried, not assumed, for it has changed three times.

Knows a request as ASGI has it. Must not know units of work.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import fastapi
from fastapi import Depends, FastAPI

from sqlrepo import UnsupportedError

__all__ = ["require_order"]

_REQUEST = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "root_path": "",
    "headers": [],
}


async def require_order() -> None:
    """Send a request through an application that notes what happens when.

    Raises:
        UnsupportedError: the answer is sent first.
    """
    seen: list[str] = []

    async def dependency() -> AsyncGenerator[None]:
        yield
        seen.append("ended")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        seen.append(message["type"])

    app = FastAPI(openapi_url=None)
    app.add_api_route("/", lambda: None, dependencies=[Depends(dependency, scope="function")])
    await app(dict(_REQUEST), receive, send)
    if seen[0] != "ended":
        raise UnsupportedError(f"FastAPI {fastapi.__version__} answers before it commits; use another version")

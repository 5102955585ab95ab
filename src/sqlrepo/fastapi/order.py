"""Whether FastAPI ends a dependency before it answers: tried, not assumed, for it has changed three times.

Knows a request as ASGI has it. Must not know units of work.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Any

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

    # As a parameter: among the dependencies of a route, FastAPI 0.121 forgets the scope.
    async def endpoint(_: Annotated[None, Depends(dependency, scope="function")]) -> None: ...

    app = FastAPI(openapi_url=None)
    app.get("/")(endpoint)
    await app(dict(_REQUEST), receive, send)
    if seen[0] != "ended":
        raise UnsupportedError(f"FastAPI {fastapi.__version__} answers before it commits; use another version")

"""Serves the to-dos on this machine: on PORT, or on a port that is free."""

import os
import socket
from contextlib import suppress

import uvicorn

from examples.todo.app import create_app
from examples.todo.migrations import upgrade
from examples.todo.storage import database_url


def main() -> None:
    """Serves until it is told to stop."""
    # Here, because this is one process on one machine. Several would run into each other, and one that serves requests
    # should not have the right to change tables: there whoever deploys runs `alembic upgrade head` once, before.
    upgrade(database_url())
    app = create_app()
    with _bound(int(os.environ.get("PORT", "0"))) as listener:
        port = listener.getsockname()[1]
        print(f"The to-dos are on http://127.0.0.1:{port}/docs (Ctrl+C ends).", flush=True)
        with suppress(KeyboardInterrupt):  # the server has ended in good order by then
            uvicorn.Server(uvicorn.Config(app)).run(sockets=[listener])


def _bound(port: int) -> socket.socket:
    # Bound here and handed over: the number printed is the number served, with no moment between for another program.
    # asyncio sends small answers at once (TCP_NODELAY) only on a socket that says it is TCP; else each waits 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere the option means that two servers may share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener


if __name__ == "__main__":
    main()

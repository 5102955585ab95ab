"""Serves the to-dos on this machine: on PORT, or on a port that is free."""

import os
import socket

import uvicorn

from examples.todo.app import create_app


def main() -> None:
    """Serves until it is told to stop."""
    app = create_app()
    # Bound here and handed over: the number printed is the number served, with no moment between for another program.
    with socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "0")))) as listener:
        port = listener.getsockname()[1]
        print(f"The to-dos are on http://127.0.0.1:{port}/docs (Ctrl+C ends).", flush=True)
        uvicorn.Server(uvicorn.Config(app)).run(sockets=[listener])


if __name__ == "__main__":
    main()

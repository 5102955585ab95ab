"""What goes wrong once an answer has begun, when it is too late for another one: the log says what to write instead.

Knows what runs after a request's unit has ended. Must not know what is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, TypeAlias

from sqlrepo import UnitStateError

__all__ = ["Aftermath"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Aftermath:
    """The middleware that explains a unit used after its request; the error goes on to the server, which logs it.

    Args:
        app: what it stands around.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Let a request go by, and look at what it raises."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if scope["type"] == "http":
                _explain(error, scope.get("endpoint"))
            raise


def _explain(error: BaseException, endpoint: Any) -> None:
    name = getattr(endpoint, "__qualname__", endpoint)
    for each in _chain(error):
        if isinstance(each, UnitStateError) and each.reason == "not_open":
            each.add_note(
                f"the unit that provide() gave {name} ended when it returned, before its answer was sent; "
                "to stream, take provide_stream(); for work after the answer, open a unit of its own there, and let "
                "on_commit() of the request's unit begin it"
            )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what it is a group of; each once."""
    seen, waiting = {id(error)}, [error]
    while waiting:
        yield (each := waiting.pop())
        inner = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        for beneath in (each.__cause__, each.__context__, *inner):
            if beneath is not None and id(beneath) not in seen:
                seen.add(id(beneath))
                waiting.append(beneath)

"""What an application gets once: the end of its databases, the answers to errors, the check of its routes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import isasyncgenfunction, isawaitable, isgeneratorfunction, unwrap
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

import fastapi
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_return_annotation, get_typed_signature
from fastapi.responses import StreamingResponse
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from sqlrepo import AsyncBaseUnitOfWork, BaseUnitOfWork, QueryObject, RepositoryError, UnitStateError, UnsupportedError
from sqlrepo.fastapi.answers import PreconditionError, answer, answer_precondition, document_problems
from sqlrepo.fastapi.queries import Place, keys_of, models_in, places, query_keys
from sqlrepo.fastapi.units import Given, Provided, ProvidedStream, checked, found, running_loop

Reason: TypeAlias = Literal[
    "request_order", "generator", "streaming", "websocket", "twice", "bare_depends", "bare_query"
]

_WHY: dict[Reason, str] = {
    "request_order": "ends after the answer was sent, so a COMMIT that fails is answered as success; use provide(), or "
    'Depends(..., scope="function")',
    "generator": "is closed when this generator begins to run; use provide_stream(), or open a unit inside",
    "streaming": "is closed when the answer is streamed; use provide_stream(), or open a unit inside the generator",
    "websocket": "holds a connection, and keeps what it writes to itself, for as long as the socket is open; open a "
    "unit for each message",
    "twice": "are more than one unit of one database in a request, which do not see each other's writes and wait for "
    "each other's connections; use one alias",
    "bare_depends": "in a bare Depends() loses lists and refuses nothing; write Annotated[Q, filters(Q)]",
    "bare_query": "in a bare Query() refuses the route's other query parameters; write Annotated[Q, filters(Q)]",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a route is refused.

    Attributes:
        route: its methods and path.
        reason: what is wrong.
        name: of what.
    """

    route: str
    reason: Reason
    name: str

    def __str__(self) -> str:
        return f"{self.route}: {self.name} {_WHY[self.reason]}"


class RouteError(UnsupportedError):
    """Routes that would lose data or filters in silence.

    Attributes:
        refusals: which, and why.
    """

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__(self.refusals)

    def __str__(self) -> str:
        return "\n".join(map(str, self.refusals))


def check_routes(app: FastAPI) -> None:
    """Refuse routes that would lose data or filters; `install` does it when the application starts.

    Raises:
        RouteError: names each of them, with the reason.
    """
    if refusals := [refusal for place in places(app) for refusal in _refusals(place)]:
        raise RouteError(refusals)


@dataclass(frozen=True, slots=True)
class _Use:
    """A dependency where it is used."""

    above: Dependant
    here: Dependant

    @property
    def call(self) -> Any:
        return self.here.call

    @property
    def late(self) -> bool:
        """Whether it is ended after the answer."""
        return self.here.scope != "function" and _generates(self.call)

    @property
    def opens_unit(self) -> bool:
        """Whether it gives a unit that is open: ours, or one of a dependency with ``yield`` of the application's."""
        if isinstance(self.call, Provided):
            return not isinstance(self.call, ProvidedStream)
        return _generates(self.call) and any(map(_is_unit, self._given()))

    def _given(self) -> Iterator[Any]:
        """What it is said to give, where it is used and where it is defined."""
        assert self.above.call is not None
        if self.here.name is not None:
            annotation = get_typed_signature(self.above.call).parameters[self.here.name].annotation
            yield get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        yield from get_args(get_typed_return_annotation(self.call))[:1]

    def __str__(self) -> str:
        return repr(self.call) if isinstance(self.call, Provided) else str(getattr(self.call, "__name__", self.call))


def _refusals(place: Place) -> Iterator[Refusal]:
    uses = list(_uses(place.dependant))
    units = [use for use in uses if use.opens_unit]
    found_wrong: tuple[tuple[Reason, list[str]], ...] = (
        ("request_order", [str(use) for use in units if use.late and not place.is_websocket]),
        ("generator", [str(use) for use in units if _generates(place.endpoint)]),
        ("streaming", [str(use) for use in units if _streams(place)]),
        ("websocket", [str(use) for use in units if place.is_websocket]),
        ("twice", list(_twice(units))),
        ("bare_depends", [use.call.__name__ for use in uses if _is_query(use.call)]),
        ("bare_query", list(_bare(place, uses))),
    )
    for reason, names in found_wrong:
        yield from (Refusal(str(place), reason, name) for name in dict.fromkeys(names))


def _uses(dependant: Dependant) -> Iterator[_Use]:
    for below in dependant.dependencies:
        yield _Use(dependant, below)
        yield from _uses(below)


def _twice(units: list[_Use]) -> Iterator[str]:
    """Units of one database; one dependency used in several places is one, unless it is told not to be."""
    kept = {use.call: use for use in units if use.here.use_cache}
    provided = [use for use in [*kept.values(), *(use for use in units if not use.here.use_cache)] if _ours(use)]
    counted = Counter(_database(use.call) for use in provided)
    for database, count in counted.items():
        if count > 1:
            yield ", ".join(str(use) for use in provided if _database(use.call) == database)


def _ours(use: _Use) -> bool:
    return isinstance(use.call, Provided)


def _database(provided: Provided) -> object:
    return found(provided.db) or provided.db


def _bare(place: Place, uses: list[_Use]) -> Iterator[str]:
    """Query objects that refuse whatever else the route reads from the query."""
    everything = set(query_keys(place.dependant, {}))
    for dependant in (place.dependant, *(use.here for use in uses)):
        for field in dependant.query_params:
            strict = [m for m in models_in(field) if _is_query(m) and m.model_config.get("extra") == "forbid"]
            if strict and everything - set(keys_of(field)):
                yield strict[0].__name__


def _streams(place: Place) -> bool:
    declared: tuple[Any, ...] = (
        getattr(place.effective, "response_class", None),
        get_typed_return_annotation(place.endpoint),
    )
    return any(isinstance(kind, type) and issubclass(kind, StreamingResponse) for kind in declared)


def _generates(call: Callable[..., Any] | None) -> bool:
    plain = unwrap(call) if call is not None else call
    candidates = (plain, getattr(plain, "__call__", None))  # noqa: B004  # what it is, not whether
    return any(isgeneratorfunction(each) or isasyncgenfunction(each) for each in candidates)


def _is_unit(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, BaseUnitOfWork | AsyncBaseUnitOfWork)


def _is_query(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, QueryObject)


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

"""What `install` adds to an application: error responses, a check of the routes, log context, an orderly end."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from inspect import isasyncgenfunction, isawaitable, isgeneratorfunction, unwrap
from typing import Annotated, Any, Literal, TypeAlias, cast, get_args, get_origin

from fastapi import FastAPI, HTTPException
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_return_annotation, get_typed_signature
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from sqlrepo import (
    AsyncBaseUnitOfWork,
    BaseUnitOfWork,
    CursorPage,
    DatabaseUnavailableError,
    NotFoundError,
    Page,
    QueryObject,
    RepositoryError,
    Summary,
    UnitStateError,
    UnsupportedError,
)
from sqlrepo.fastapi.answers import (
    CONFLICTS,
    PROBLEM_SCHEMA,
    PreconditionError,
    Problem,
    answer_error,
    answer_precondition,
    problems,
    read_match,
    validation_problem,
)
from sqlrepo.fastapi.queries import (
    AppRoute,
    FilterDependency,
    iter_dependants,
    iter_routes,
    models_of,
    parameter_keys,
    query_keys,
)
from sqlrepo.fastapi.units import (
    DatabaseOrFactory,
    StreamDependency,
    UnitDependency,
    get_made_database,
    require_asyncio,
    require_database,
)


def install(app: FastAPI, *dbs: DatabaseOrFactory) -> None:
    """Add error responses, a check of the routes, log context and the closing of databases to an application.

    The library's errors become problem responses (RFC 9457), unless the application has a handler for them, and each
    route's documentation shows those that it may respond with. The application does not start if `check_routes` refuses
    a route. Log records name the route of their request.

    Args:
        app: the application.
        dbs: databases, or functions that return one, as given to `provide`.

    Raises:
        UnsupportedError: one of ``dbs`` is not a database.
    """
    databases = [require_database(db) for db in dbs]
    for kind, handler in ((RepositoryError, answer_error), (PreconditionError, answer_precondition)):
        app.exception_handlers.setdefault(kind, handler)
    _document_problems(app)
    app.add_middleware(RequestContext)
    logging.getLogger("sqlrepo").addFilter(_add_route)
    lifespan_of_app = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any]:
        async with AsyncExitStack() as stack:
            require_asyncio()
            check_routes(app)
            for db in databases:
                stack.push_async_callback(_dispose, db)
            yield await stack.enter_async_context(lifespan_of_app(app))

    app.router.lifespan_context = lifespan


async def _dispose(db: DatabaseOrFactory) -> None:
    database = get_made_database(db)
    if database is not None and isawaitable(closing := database.dispose()):
        await closing


def check_routes(app: FastAPI) -> None:
    """Refuse routes that would lose writes or ignore filters; `install` calls this when the application starts.

    Args:
        app: the application.

    Raises:
        RouteError: lists every refused route with the reason.
        QueryError: a query object, or a summary in a response, does not fit the route's unit.
    """
    if refusals := [refusal for route in iter_routes(app) for refusal in _find_refusals(route)]:
        raise RouteError(refusals)
    for route in iter_routes(app):
        _check_models(route)


def _check_models(route: AppRoute) -> None:
    dependants = list(iter_dependants(route.dependant, {}))
    calls = [one.call for each in dependants for one in (each, *each.dependencies)]
    fields = [field for each in dependants for field in each.query_params]
    models: set[Any] = {*_find_summaries(getattr(route.effective, "response_model", None), [])}
    models |= {one.query for one in calls if isinstance(one, FilterDependency)}
    models |= {model for field in fields for model in models_of(field) if issubclass(model, QueryObject)}
    for unit in {one.unit for one in calls if isinstance(one, UnitDependency)}:
        for model in models:
            unit._check_model(model)


def _find_summaries(annotation: Any, seen: list[Any]) -> Iterator[Any]:
    """Yield the summaries in a response."""
    if annotation in seen:
        return
    seen.append(annotation)
    if _is_subclass(annotation, Summary):
        yield annotation
    fields = annotation.model_fields.values() if _is_subclass(annotation, BaseModel) else ()
    for part in (*get_args(annotation), *(field.annotation for field in fields)):
        yield from _find_summaries(part, seen)


Reason: TypeAlias = Literal[
    "request_order", "generator", "streaming", "websocket", "twice", "bare_depends", "bare_query"
]

_REASONS: dict[Reason, str] = {
    "request_order": "commits after the response was sent, so a failed COMMIT would be reported as success; use "
    'provide(), or Depends(..., scope="function")',
    "generator": "is closed before this generator runs; use provide_stream(), or open a unit inside the generator",
    "streaming": "is closed before the response is streamed; use provide_stream(), or open a unit inside the generator",
    "websocket": "would hold a connection and commit nothing until the socket closes; open a unit for each message",
    "twice": "are separate units of one database: they do not see each other's writes, and wait for each other's "
    "connections; use one alias",
    "bare_depends": "in a bare Depends() loses list values and accepts unknown parameters; write "
    "Annotated[Q, filters(Q)]",
    "bare_query": "in a bare Query() rejects the other query parameters of the route; write Annotated[Q, filters(Q)]",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a route is refused.

    Attributes:
        route: its methods and path.
        reason: a short code for the cause.
        name: the dependency or query object concerned.
    """

    route: str
    reason: Reason
    name: str

    def __str__(self) -> str:
        return f"{self.route}: {self.name} {_REASONS[self.reason]}"


class RouteError(UnsupportedError):
    """Routes of an application would lose writes or ignore filters.

    Attributes:
        refusals: one for each route and cause.
    """

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__(self.refusals)

    def __str__(self) -> str:
        return "\n".join(map(str, self.refusals))


# -- the check of the routes


@dataclass(frozen=True, slots=True)
class _Use:
    """A dependency, and the function that declares it."""

    above: Dependant
    here: Dependant

    @property
    def call(self) -> Any:
        return self.here.call

    @property
    def ends_late(self) -> bool:
        return self.here.scope != "function" and _is_generator(self.call)

    @property
    def opens_unit(self) -> bool:
        """Return True if the dependency yields an open unit: one of `provide`, or of the application."""
        if isinstance(self.call, UnitDependency):
            return not isinstance(self.call, StreamDependency)
        return _is_generator(self.call) and any(_is_subclass(kind, _UNITS) for kind in self._types())

    def _types(self) -> Iterator[Any]:
        """Yield the type of the value where it is used and where it is defined."""
        assert self.above.call is not None
        if self.here.name is not None:
            annotation = get_typed_signature(self.above.call).parameters[self.here.name].annotation
            yield get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        yield from get_args(get_typed_return_annotation(self.call))[:1]

    def __str__(self) -> str:
        return str(getattr(self.call, "__name__", self.call))


_UNITS = (BaseUnitOfWork, AsyncBaseUnitOfWork)


def _find_uses(dependants: Iterable[Dependant]) -> list[_Use]:
    return [_Use(above, here) for above in dependants for here in above.dependencies]


def _find_refusals(route: AppRoute) -> Iterator[Refusal]:
    dependants = list(iter_dependants(route.dependant, {}))
    uses = _find_uses(dependants)
    units = [use for use in uses if use.opens_unit]
    names = list(map(str, units))
    refused: dict[Reason, Iterable[str]] = {
        "request_order": [str(use) for use in units if use.ends_late and not route.is_websocket],
        "generator": names if _is_generator(route.endpoint) else [],
        "streaming": names if _is_streaming(route) else [],
        "websocket": names if route.is_websocket else [],
        "twice": _find_doubles(units),
        "bare_depends": [use.call.__name__ for use in uses if _is_subclass(use.call, QueryObject)],
        "bare_query": _find_bare_queries(route, dependants),
    }
    for reason, found in refused.items():
        yield from (Refusal(str(route), reason, name) for name in dict.fromkeys(found))


def _find_doubles(units: list[_Use]) -> Iterator[str]:
    """Yield the units that share a database; FastAPI makes one of equal dependencies, except without `use_cache`."""
    provided = [use for use in units if isinstance(use.call, UnitDependency)]
    cached = {use.call: use for use in provided if use.here.use_cache}
    separate = [*cached.values(), *(use for use in provided if not use.here.use_cache)]
    databases = [get_made_database(use.call.db) or use.call.db for use in separate]
    for database, count in Counter(databases).items():
        if count > 1:
            yield ", ".join(str(use) for use, other in zip(separate, databases, strict=True) if other == database)


def _find_bare_queries(route: AppRoute, dependants: list[Dependant]) -> Iterator[str]:
    """Yield query objects that reject other query parameters of the route."""
    keys = set(query_keys(route.dependant, {}))
    for field in (field for each in dependants for field in each.query_params):
        for model in models_of(field):
            forbids = issubclass(model, QueryObject) and model.model_config.get("extra") == "forbid"
            if forbids and keys - set(parameter_keys(field)):
                yield model.__name__


def _is_streaming(route: AppRoute) -> bool:
    declared = getattr(route.effective, "response_class", None), get_typed_return_annotation(route.endpoint)
    return any(_is_subclass(kind, StreamingResponse) for kind in declared)


def _is_generator(call: Callable[..., Any] | None) -> bool:
    plain = unwrap(call) if call is not None else call
    candidates = (plain, getattr(plain, "__call__", None))  # noqa: B004  # the method itself
    return any(isgeneratorfunction(each) or isasyncgenfunction(each) for each in candidates)


def _is_subclass(value: Any, kinds: Any) -> bool:
    return isinstance(value, type) and issubclass(value, kinds)


# -- the OpenAPI document

_SCHEMAS = "#/components/schemas/"
_OF_FASTAPI = ("HTTPValidationError", "ValidationError")  # the first refers to the second
# How FastAPI answers a body that is no text or too deep to parse, which it does not document.
_MALFORMED_BODY = {"application/json": {"schema": {"type": "object", "properties": {"detail": {"type": "string"}}}}}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_COLLECTIONS = (Page, CursorPage, list, tuple, set, frozenset, Sequence)


def _document_problems(app: FastAPI) -> None:
    """Show in an application's OpenAPI document which problems each route may respond with."""
    make_document = app.openapi

    def openapi() -> dict[str, Any]:
        document = make_document()
        for route in iter_routes(app):
            if not route.prefix and not route.is_websocket:  # a mounted application has a document of its own
                item = document.get("paths", {}).get(route.effective.path_format, {})
                for operation in filter(None, (item.get(method.lower()) for method in route.effective.methods)):
                    _add_problems(app, route, operation)
        _share_problem_schema(document)
        return document

    cast(Any, app).openapi = openapi  # as FastAPI documents; type checkers refuse to assign to a method


def _add_problems(app: FastAPI, route: AppRoute, operation: dict[str, Any]) -> None:
    """Add the problems that a route does not document itself, by their status or a range of it."""
    responses = operation.get("responses", {})
    possible = problems(*_find_statuses(app, route), 422)
    invalid = possible.pop(422)
    if possible and "requestBody" in operation and _find_handler(app, HTTPException) is http_exception_handler:
        malformed = possible.get(400, {"description": HTTPStatus.BAD_REQUEST.phrase, "content": {}})
        possible[400] = {**malformed, "content": malformed["content"] | _MALFORMED_BODY}
    content = responses.get("422", {}).get("content", {})
    if content.get("application/json", {}).get("schema", {}).get("$ref") == f"{_SCHEMAS}{_OF_FASTAPI[0]}":
        if app.exception_handlers.get(RequestValidationError) is validation_problem:
            responses["422"] = invalid
        elif not {404, 503}.isdisjoint(possible):  # the unit checks values too
            content.update(invalid["content"])
    for status, response in possible.items():
        if responses.keys().isdisjoint((str(status), f"{str(status)[0]}XX", "default")):
            responses[str(status)] = response


def _find_statuses(app: FastAPI, route: AppRoute) -> Iterator[int]:
    """Yield the statuses that a route's dependencies lead to, where the application has no handlers of its own."""
    dependants = list(iter_dependants(route.dependant, {}))
    uses = _find_uses(dependants)
    if any(use.call is read_match for use in uses) and _is_answered(app, PreconditionError):
        yield from (400, 412)
    units = [use.call for use in uses if use.opens_unit]
    if not units:
        return
    safe = route.effective.methods <= _SAFE_METHODS
    kind = get_origin(route.effective.response_model) or route.effective.response_model
    named = any(each.path_params for each in dependants)
    if _is_answered(app, NotFoundError) and not (safe and kind in _COLLECTIONS and not named):
        yield 404
    writing = not (safe or all(getattr(unit, "read_only", False) for unit in units))
    if writing and any(_is_answered(app, error) for error in CONFLICTS):
        yield 409
    if _is_answered(app, DatabaseUnavailableError):
        yield 503


def _is_answered(app: FastAPI, error: type[Exception]) -> bool:
    return _find_handler(app, error) in (answer_error, answer_precondition)


def _find_handler(app: FastAPI, error: type[Exception]) -> Any:
    return next(app.exception_handlers[base] for base in error.__mro__ if base in app.exception_handlers)


def _share_problem_schema(document: dict[str, Any]) -> None:
    """Make the schema of problems one component, and remove the schemas of FastAPI's errors if they are unused."""
    schemas: dict[str, Any] = document.get("components", {}).get("schemas", {})
    name = Problem.__name__
    if schemas.get(name, PROBLEM_SCHEMA) != PROBLEM_SCHEMA:  # a model of the application; FastAPI makes the same name
        name = f"{Problem.__module__}.{name}".replace(".", "__")
    for part in document.keys() & {"paths", "webhooks"}:
        document[part] = _refer_to(f"{_SCHEMAS}{name}", document[part])
    if f'"{_SCHEMAS}{name}"' in json.dumps(document):
        document.setdefault("components", {}).setdefault("schemas", schemas)[name] = dict(PROBLEM_SCHEMA)
    for unused in _OF_FASTAPI:
        if f'"{_SCHEMAS}{unused}"' not in json.dumps(document):
            schemas.pop(unused, None)


def _refer_to(reference: str, node: Any) -> Any:
    """Copy a part of a document with references in place of the schema of problems."""
    if node == PROBLEM_SCHEMA:
        return {"$ref": reference}
    if isinstance(node, dict):
        return {key: _refer_to(reference, each) for key, each in node.items()}
    return [_refer_to(reference, each) for each in node] if isinstance(node, list) else node


# -- the running request


class RequestContext:
    """Middleware that gives log records the route, and explains in an error why a unit was already closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        running = _RUNNING.get()
        if running is not None and running.scope is scope:  # the outer application's middleware has seen it
            await self._app(scope, receive, send)
            return
        token = _RUNNING.set(_Request(scope))
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if scope["type"] == "http":
                _add_closed_unit_hint(error, scope.get("endpoint"))
            raise
        finally:
            _RUNNING.reset(token)


class _Request:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        # A mounted application changes both while the request runs.
        self._app: FastAPI = scope["app"]
        self._path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        self._route: str | None = None

    def describe_route(self) -> str | None:
        """Return the route's methods, path and endpoint, without the client's values."""
        if self._route is None and "route" in self.scope:
            route, endpoint = self.scope["route"], self.scope.get("endpoint")
            here = [each for each in iter_routes(self._app) if each.route is route]
            matching = [each for each in here if compile_path(each.path)[0].match(self._path)]
            name = getattr(endpoint, "__qualname__", endpoint)
            self._route = f"{next(iter(matching or here), route)}, {name}"
        return self._route


_RUNNING: ContextVar[_Request | None] = ContextVar("sqlrepo_request", default=None)


def _add_route(record: logging.LogRecord) -> bool:
    """Add the route to a log record's message and as ``record.route``; keep every record."""
    running = _RUNNING.get()
    if running is not None and not hasattr(record, "route") and (route := running.describe_route()) is not None:
        record.route = route
        record.msg, record.args = "%s [%s]", (record.getMessage(), route)
    return True


def _add_closed_unit_hint(error: BaseException, endpoint: Any) -> None:
    name = getattr(endpoint, "__qualname__", endpoint)
    for each in _iter_related(error):
        if isinstance(each, UnitStateError) and each.reason == "not_open":
            each.add_note(
                f"The unit that provide() gave to {name} was closed when {name} returned, before the response was "
                "sent. To stream, use provide_stream(). For work after the response, open a new unit there, and start "
                "the work from on_commit() of the request's unit."
            )


def _iter_related(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, its causes and contexts, and the members of groups, each once."""
    seen, waiting = {id(error)}, [error]
    while waiting:
        yield (each := waiting.pop())
        inner = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        for related in (each.__cause__, each.__context__, *inner):
            if related is not None and id(related) not in seen:
                seen.add(id(related))
                waiting.append(related)

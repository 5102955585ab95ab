"""Query objects as query parameters, and links between pages."""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl, urlencode
from weakref import WeakKeyDictionary

from fastapi import Depends, FastAPI, Query, Request, Response, routing
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyQuery
from pydantic import AliasChoices, BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sqlrepo import CursorPage, Page, QueryObject, UnsupportedError
from sqlrepo.fastapi.units import Dependency

P = TypeVar("P", bound=Page[Any] | CursorPage[Any])

_Change: TypeAlias = Mapping[str, str | None]

_AFTER, _BEFORE = "after", "before"


def filters(query: type[QueryObject[Any]]) -> Any:
    """Return a dependency that reads a query object from the query parameters of a request.

    Annotate endpoints with ``Annotated[TodoQuery, filters(TodoQuery)]``. Every filter is a documented parameter. A
    parameter that nothing at the route declares gets a 422 response. A route may have several query objects, and other
    parameters beside them.

    Args:
        query: the class of the query object.

    Raises:
        UnsupportedError: ``query`` is not a class of query objects.
    """
    _require_query(query)
    return Depends(FilterDependency(query))


def _require_query(query: Any) -> None:
    if not (isinstance(query, type) and issubclass(query, QueryObject)):
        raise UnsupportedError(f"{query!r} is not a class of query objects; pass a subclass of QueryObject")


class PageLinks:
    """Writes the ``Link`` header that leads from a page to the first, the next and the previous one.

    ``return links(shop.todos.page(query), query)``. Links to a `CursorPage` use the query parameters ``after`` and
    ``before``, links to a `Page` the query object's ``offset``. They are relative, so they work behind any proxy.
    """

    def __init__(self, request: Request, response: Response) -> None:
        self._sent = parse_qsl(request.url.query, keep_blank_values=True)
        self._response = response

    def __call__(self, page: P, query: QueryObject[Any]) -> P:
        """Write the header and return the page.

        Args:
            page: a page from the repository.
            query: the query object of the page.
        """
        changes = _link_cursors(page) if isinstance(page, CursorPage) else _link_offsets(page, query)
        links = (f'<{self._address(change)}>; rel="{relation}"' for relation, change in changes)
        if header := ", ".join(links):
            self._response.headers["Link"] = header
        return page

    def _address(self, change: _Change) -> str:
        kept = [(key, value) for key, value in self._sent if key not in change]
        return "?" + urlencode([*kept, *((key, value) for key, value in change.items() if value is not None)])


# A function, because FastAPI 0.121 cannot resolve the postponed annotations of a class.
async def _links(request: Request, response: Response) -> PageLinks:
    return PageLinks(request, response)


#: Writes the ``Link`` header of a page: ``links: Links``.
Links: TypeAlias = Annotated[PageLinks, Depends(_links)]


def _link_cursors(page: CursorPage[Any]) -> Iterator[tuple[str, _Change]]:
    yield "first", {_AFTER: None, _BEFORE: None}
    if page.next is not None:
        yield "next", {_AFTER: page.next, _BEFORE: None}
    if page.previous is not None:
        yield "prev", {_AFTER: None, _BEFORE: page.previous}


def _link_offsets(page: Page[Any], query: QueryObject[Any]) -> Iterator[tuple[str, _Change]]:
    info = type(query).model_fields.get("offset")
    limit: int | None = getattr(query, "limit", None)
    if info is None or not limit:
        return
    key, offset = field_keys("offset", info)[0], int(getattr(query, "offset", None) or 0)
    yield "first", {key: None}
    if page.has_next:
        yield "next", {key: str(offset + limit)}
    if offset:
        yield "prev", {key: str(offset - limit) if offset > limit else None}


# -- the dependency

_SEQUENCES = (list, tuple, set, frozenset, deque, abc.Sequence, abc.Set)
_REQUEST = "_request"  # cannot be a field of a model


class FilterDependency(Dependency):
    def __init__(self, query: type[QueryObject[Any]]) -> None:
        query.model_rebuild()
        self.query = query
        self._strict = query.model_config.get("extra") == "forbid"
        fields = query.model_fields.items()
        self._fields = [(field_keys(name, info), _is_sequence(info)) for name, info in fields]
        self.keys = {key for keys, _ in self._fields for key in keys}  # OpenAPI documents one key for a field
        request = Parameter(_REQUEST, Parameter.KEYWORD_ONLY, annotation=Request)
        super().__init__([request, *(_to_parameter(name, info) for name, info in fields)])

    async def __call__(self, **values: Any) -> QueryObject[Any]:
        """Read the query object once FastAPI has validated its parameters one by one."""
        request: Request = values[_REQUEST]
        if self._strict and (unknown := request.query_params.keys() - _get_declared_keys(request)):
            raise RequestValidationError([_forbid(request, key) for key in request.query_params if key in unknown])
        try:
            return self.query.model_validate(self._read(request))
        except ValidationError as error:
            wrong = [{**each, "loc": ("query", *each["loc"])} for each in error.errors(include_url=False)]
            raise RequestValidationError(wrong) from error

    def _read(self, request: Request) -> dict[str, Any]:
        """Return the client's values; other fields stay unset."""
        sent: dict[str, Any] = {}
        params = request.query_params
        for keys, several in self._fields:
            for key in keys:
                if key in params:
                    sent[key] = params.getlist(key) if several else params[key]
                    break
        return sent


def _forbid(request: Request, key: str) -> dict[str, Any]:
    message = "Extra inputs are not permitted"  # the message of Pydantic
    return {"type": "extra_forbidden", "loc": ("query", key), "msg": message, "input": request.query_params[key]}


def _to_parameter(name: str, info: FieldInfo) -> Parameter:
    default = Parameter.empty if info.is_required() else info.get_default(call_default_factory=True)
    documented: Any = Query(
        alias=next(iter(field_keys(name, info)), name),
        title=info.title,
        description=info.description,
        examples=info.examples,
        deprecated=info.deprecated if isinstance(info.deprecated, bool | str) else None,
    )
    kind: Any = Annotated[info.annotation, *info.metadata, documented]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _is_sequence(info: FieldInfo) -> bool:
    return any(get_origin(part) in _SEQUENCES or part in _SEQUENCES for part in _union_members(info.annotation))


# -- which keys a route declares

Overrides: TypeAlias = Mapping[Callable[..., Any], Callable[..., Any]]

# Routes have no hash. Storing a route beside its keys keeps its id from being reused; tests change the overrides.
_DECLARED: WeakKeyDictionary[FastAPI, dict[int, tuple[Any, Overrides, frozenset[str]]]] = WeakKeyDictionary()


def _get_declared_keys(request: Request) -> frozenset[str]:
    """Return the keys a request's route declares, wherever in the application the route is included."""
    app: FastAPI = request.app
    route, overrides, known = request.scope["route"], app.dependency_overrides, _DECLARED.setdefault(app, {})
    if id(route) not in known or known[id(route)][1] != overrides:
        known[id(route)] = route, dict(overrides), _find_declared_keys(app, route)
    return known[id(route)][2]


def _find_declared_keys(app: FastAPI, route: Any) -> frozenset[str]:
    dependants = [each.dependant for each in iter_routes(app) if each.route is route]
    return frozenset(key for dependant in dependants for key in query_keys(dependant, app.dependency_overrides))


def query_keys(dependant: Dependant, overrides: Overrides) -> Iterator[str]:
    """Yield the keys that an endpoint and its dependencies read from the query."""
    for each in iter_dependants(dependant, overrides):
        for field in each.query_params:
            yield from parameter_keys(field)
        if isinstance(each.call, APIKeyQuery):
            yield each.call.model.name
        elif isinstance(each.call, FilterDependency):
            yield from each.call.keys


# FastAPI's own get_flat_params knows neither overrides nor which key belongs to which model.
def iter_dependants(dependant: Dependant, overrides: Overrides) -> Iterator[Dependant]:
    """Yield a dependant and all below it, replaced where overridden."""
    yield dependant
    for below in dependant.dependencies:
        other = overrides.get(below.call) if below.call else None
        yield from iter_dependants(get_dependant(path=below.path or "", call=other) if other else below, overrides)


def parameter_keys(field: Any) -> Iterator[str]:
    """Yield the keys of one parameter; a model has keys for each field."""
    models = models_of(field)
    if not models:
        yield from field_keys(field.alias, field.field_info)
    for model in models:
        for name, info in model.model_fields.items():
            yield from field_keys(name, info)


def models_of(field: Any) -> list[type[BaseModel]]:
    parts = _union_members(field.field_info.annotation)
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def field_keys(name: str, info: FieldInfo) -> list[str]:
    alias = info.validation_alias or info.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    return [choice for choice in choices if isinstance(choice, str)]


def _union_members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _union_members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for member in get_args(annotation) for part in _union_members(member)]
    return [annotation]


# -- the routes of an application

# In newer versions, only this function knows what the routers above a route add to it.
_iter_contexts: Callable[[Any], Iterator[Any]] = getattr(routing, "iter_route_contexts", iter)


@dataclass(frozen=True, slots=True)
class AppRoute:
    route: Any  # as its author made it
    effective: Any  # with what its routers add
    prefix: str  # of the mounted application it belongs to

    @property
    def dependant(self) -> Dependant:
        dependant: Dependant = self.effective.dependant
        return dependant

    @property
    def endpoint(self) -> Callable[..., Any]:
        endpoint: Callable[..., Any] = self.effective.endpoint
        return endpoint

    @property
    def path(self) -> str:
        return f"{self.prefix}{self.effective.path}"

    @property
    def is_websocket(self) -> bool:
        return isinstance(self.route, routing.APIWebSocketRoute)

    def __str__(self) -> str:
        methods = "WEBSOCKET" if self.is_websocket else ",".join(sorted(self.effective.methods))
        return f"{methods} {self.path}"


def iter_routes(app: FastAPI, prefix: str = "") -> Iterator[AppRoute]:
    """Yield the routes that have dependencies, those of mounted applications included."""
    for route in _iter_contexts(app.routes):
        original: Any = getattr(route, "original_route", route)
        mounted = getattr(original, "app", None)
        if isinstance(mounted, FastAPI):
            yield from iter_routes(mounted, prefix + original.path)
        elif getattr(route, "dependant", None) is not None:
            yield AppRoute(original, route, prefix)

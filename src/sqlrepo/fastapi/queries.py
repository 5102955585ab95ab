"""Query objects as query parameters: each filter is one, and what a route does not declare is refused."""

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

# Since routers keep their place in an application, what stands at a route is only known together with its routers.
_CONTEXTS: Callable[[Any], Iterator[Any]] | None = getattr(routing, "iter_route_contexts", None)

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """A route where an application has it.

    Attributes:
        route: the route itself, as the application's author made it.
        effective: the same with what the routers above it add.
        prefix: where the application itself is mounted.
    """

    route: Any
    effective: Any
    prefix: str = ""

    @property
    def dependant(self) -> Dependant:
        """What FastAPI has read of the endpoint and its dependencies."""
        found: Dependant = self.effective.dependant
        return found

    @property
    def endpoint(self) -> Callable[..., Any]:
        """The function."""
        found: Callable[..., Any] = self.effective.endpoint
        return found

    @property
    def path(self) -> str:
        """What is asked for, with the names of its parameters."""
        return f"{self.prefix}{self.effective.path}"

    @property
    def is_websocket(self) -> bool:
        """Whether a connection stays open there, instead of being answered."""
        return isinstance(self.route, routing.APIWebSocketRoute)

    def __str__(self) -> str:
        methods = "WEBSOCKET" if self.is_websocket else ",".join(sorted(self.effective.methods))
        return f"{methods} {self.path}"


def places(app: FastAPI, prefix: str = "") -> Iterator[Place]:
    """All routes that have dependencies, mounted applications' too."""
    for route in _CONTEXTS(app.routes) if _CONTEXTS else app.routes:
        original: Any = getattr(route, "original_route", route)
        mounted = getattr(original, "app", None)
        if isinstance(mounted, FastAPI):
            yield from places(mounted, prefix + original.path)
        elif getattr(route, "dependant", None) is not None:
            yield Place(original, route, prefix)


def query_keys(dependant: Dependant, overrides: Overrides) -> Iterator[str]:
    """The keys that an endpoint or any of its dependencies reads from the query."""
    for field in dependant.query_params:
        yield from keys_of(field)
    if isinstance(dependant.call, APIKeyQuery):
        yield dependant.call.model.name
    for below in dependant.dependencies:
        other = overrides.get(below.call) if below.call else None
        yield from query_keys(get_dependant(path=below.path or "", call=other) if other else below, overrides)


def keys_of(field: Any) -> Iterator[str]:
    """The keys one parameter is read from; a model has one for each field."""
    models = models_in(field)
    if not models:
        yield from names_of(field.alias, field.field_info)
    for model in models:
        for name, info in model.model_fields.items():
            yield from names_of(name, info)


def names_of(name: str, info: FieldInfo) -> Iterator[str]:
    """What a field is called in a query."""
    alias = info.validation_alias or info.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    yield from (choice for choice in choices if isinstance(choice, str))


def models_in(field: Any) -> list[type[BaseModel]]:
    """The models a parameter is read into; none where it is a plain one."""
    parts = alternatives(field.field_info.annotation)
    return [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, each without what it is annotated with."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for member in get_args(annotation) for part in alternatives(member)]
    return [annotation]


P = TypeVar("P", bound=Page[Any] | CursorPage[Any])

_Change: TypeAlias = Mapping[str, str | None]

_AFTER, _BEFORE = "after", "before"


class PageLinks:
    """Says in an answer's header where the first, the next and the previous page are.

    ``return links(shop.todos.page(query), query)``. A page by position is asked for with the query parameters ``after``
    and ``before``. Addresses are relative to that of the request, so they are right behind every proxy.
    """

    def __init__(self, request: Request, response: Response) -> None:
        self._sent = parse_qsl(request.url.query, keep_blank_values=True)
        self._response = response

    def __call__(self, page: P, query: QueryObject[Any]) -> P:
        """Write the header, and give the page back.

        Args:
            page: what the repository gave.
            query: what it was asked with.
        """
        changes = _by_position(page) if isinstance(page, CursorPage) else _by_offset(page, query)
        links = (f'<{self._address(change)}>; rel="{relation}"' for relation, change in changes)
        if header := ", ".join(links):
            self._response.headers["Link"] = header
        return page

    def _address(self, change: _Change) -> str:
        kept = [(key, value) for key, value in self._sent if key not in change]
        return "?" + urlencode([*kept, *((key, value) for key, value in change.items() if value is not None)])


# A function, because FastAPI 0.121 does not find what the postponed annotations of a class mean.
async def _links(request: Request, response: Response) -> PageLinks:
    return PageLinks(request, response)


#: What writes the header: ``links: Links``.
Links: TypeAlias = Annotated[PageLinks, Depends(_links)]


def _by_position(page: CursorPage[Any]) -> Iterator[tuple[str, _Change]]:
    yield "first", {_AFTER: None, _BEFORE: None}
    if page.next is not None:
        yield "next", {_AFTER: page.next, _BEFORE: None}
    if page.previous is not None:
        yield "prev", {_AFTER: None, _BEFORE: page.previous}


def _by_offset(page: Page[Any], query: QueryObject[Any]) -> Iterator[tuple[str, _Change]]:
    info = type(query).model_fields.get("offset")
    limit: int | None = getattr(query, "limit", None)
    if info is None or not limit:
        return
    key, offset = next(names_of("offset", info)), int(getattr(query, "offset", None) or 0)
    yield "first", {key: None}
    if page.has_next:
        yield "next", {key: str(offset + limit)}
    if offset:
        yield "prev", {key: str(max(0, offset - limit)) if offset > limit else None}


_SEQUENCES = (list, tuple, set, frozenset, deque, abc.Sequence, abc.Set)
_REQUEST = "_request"  # no field of a model is called so

# A route cannot be a key itself, for it has no hash; kept beside its keys, its place in memory stays its own.
_DECLARED: WeakKeyDictionary[FastAPI, dict[int, tuple[Any, frozenset[str]]]] = WeakKeyDictionary()


def filters(query: type[QueryObject[Any]]) -> Any:
    """Make the dependency that reads a query object.

    ``query: Annotated[TodoQuery, filters(TodoQuery)]`` is how an endpoint asks for one.
    The filters are read from the query as ``Query()`` reads a model, and documented one by one. A key that neither the
    query object nor anything else at the route declares is answered 422. Several may stand at one route, beside other
    parameters.

    Args:
        query: the class of the query object.

    Raises:
        UnsupportedError: it is none.
    """
    _require_query(query)
    return Depends(_Filters(query))


class _Filters(Dependency):
    """The dependency that `filters` makes."""

    def __init__(self, query: type[QueryObject[Any]]) -> None:
        self._query = query
        asked = Parameter(_REQUEST, Parameter.KEYWORD_ONLY, annotation=Request)
        super().__init__(query, parameters=[asked, *_parameters(query)])

    @property
    def keys(self) -> frozenset[str]:
        """What it reads: of a field with several names all, though one of them is documented."""
        fields = self._query.model_fields.items()
        return frozenset(key for name, info in fields for key in names_of(name, info))

    async def __call__(self, **given: Any) -> QueryObject[Any]:
        """Read the query object from a request whose parameters are right one by one."""
        request: Request = given[_REQUEST]
        if self._query.model_config.get("extra") == "forbid" and (unknown := list(_unknown(request))):
            raise RequestValidationError(unknown)
        try:
            return self._query.model_validate(_sent(self._query, request))
        except ValidationError as error:
            wrong = [{**each, "loc": ("query", *each["loc"])} for each in error.errors(include_url=False)]
            raise RequestValidationError(wrong) from error


def _require_query(query: Any) -> None:
    if not (isinstance(query, type) and issubclass(query, QueryObject)):
        raise UnsupportedError(f"{query!r} is no class of query objects")


def _parameters(query: type[QueryObject[Any]]) -> Iterator[Parameter]:
    query.model_rebuild()
    for name, info in query.model_fields.items():
        default = Parameter.empty if info.is_required() else info.get_default(call_default_factory=True)
        kind: Any = Annotated[info.annotation, *info.metadata, _documented(name, info)]
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _documented(name: str, info: FieldInfo) -> Any:
    return Query(
        alias=next(names_of(name, info), name),
        title=info.title,
        description=info.description,
        examples=info.examples,
        deprecated=info.deprecated if isinstance(info.deprecated, bool | str) else None,
    )


def _sent(query: type[QueryObject[Any]], request: Request) -> dict[str, Any]:
    """What a client sent for a query object's fields; the others stay unset."""
    sent: dict[str, Any] = {}
    for name, info in query.model_fields.items():
        for key in names_of(name, info):
            if key in request.query_params:
                several = any(get_origin(part) in _SEQUENCES or part in _SEQUENCES for part in _parts(info))
                sent[key] = request.query_params.getlist(key) if several else request.query_params[key]
                break
    return sent


def _parts(info: FieldInfo) -> list[Any]:
    return alternatives(info.annotation)


def _unknown(request: Request) -> Iterator[dict[str, Any]]:
    declared = _declared(request)
    for key in request.query_params:
        if key not in declared:
            message = "Extra inputs are not permitted"
            yield {
                "type": "extra_forbidden",
                "loc": ("query", key),
                "msg": message,
                "input": request.query_params[key],
            }


def _declared(request: Request) -> frozenset[str]:
    """The keys a route knows; where it stands in an application more than once, those of all its places."""
    app: FastAPI = request.app
    route = request.scope["route"]
    if app.dependency_overrides:  # of a test; they come and go
        return _read(app, route)
    known = _DECLARED.setdefault(app, {})
    if id(route) not in known:
        known[id(route)] = route, _read(app, route)
    return known[id(route)][1]


def _read(app: FastAPI, route: Any) -> frozenset[str]:
    here = [place.dependant for place in places(app) if place.route is route]
    documented = frozenset(key for dependant in here for key in query_keys(dependant, app.dependency_overrides))
    return documented.union(*(filters.keys for dependant in here for filters in _filters_at(dependant)))


def _filters_at(dependant: Dependant) -> Iterator[_Filters]:
    if isinstance(dependant.call, _Filters):
        yield dependant.call
    for below in dependant.dependencies:
        yield from _filters_at(below)

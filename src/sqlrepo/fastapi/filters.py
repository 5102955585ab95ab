"""Query objects as query parameters: each filter is one, and what a route does not declare is refused.

Knows how FastAPI reads a query. Must not know what a filter means.
"""

from __future__ import annotations

from collections import abc, deque
from collections.abc import Iterator
from inspect import Parameter
from typing import Annotated, Any, get_origin
from weakref import WeakKeyDictionary

from fastapi import Depends, FastAPI, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sqlrepo import QueryObject, UnsupportedError
from sqlrepo.fastapi.dependency import Dependency
from sqlrepo.fastapi.parameters import alternatives, names_of, places, query_keys

__all__ = ["filters"]

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

"""The query parameters of a route, those of its dependencies included.

Knows where FastAPI keeps what it has read of a route. Must not know query objects, nor units of work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant
from fastapi.security import APIKeyQuery
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

__all__ = ["Place", "alternatives", "keys_of", "models_in", "names_of", "places", "query_keys"]

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

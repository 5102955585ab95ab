"""The routes of an application, checked before it serves: what would lose data or filters is refused by name.

Knows how FastAPI orders the ends of dependencies and of answers. Must not know what any endpoint does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from inspect import isasyncgenfunction, isgeneratorfunction, unwrap
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_return_annotation, get_typed_signature
from fastapi.responses import StreamingResponse

from sqlrepo import AsyncBaseUnitOfWork, BaseUnitOfWork, QueryObject, UnsupportedError
from sqlrepo.fastapi.parameters import Place, keys_of, models_in, places, query_keys
from sqlrepo.fastapi.provision import Provided, ProvidedStream
from sqlrepo.fastapi.stores import found

__all__ = ["Reason", "Refusal", "RouteError", "check_routes"]

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

"""Strategies for what is asked: criteria, query objects, orders.

Knows which operators fit which fields. Must not know calls that write.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import ValidationError

from sqlrepo import QueryError, QueryObject
from sqlrepo.memory import Kind
from sqlrepo.testing.twins.nodes import Apply, Field, Infix, KeyOf, Make, Part, made
from sqlrepo.testing.twins.rows import Draw, Rows
from sqlrepo.testing.twins.subject import Place

__all__ = ["Questions"]

_ORDERED = ("==", "!=", "<", "<=", ">", ">=")
_TEXT = ("contains", "startswith", "endswith")
_FOLDED = ("icontains", "istartswith", "iendswith", "iequals")
_DEPTH = 3


class Questions:
    """What may be asked of one table.

    Args:
        rows: its values.
        folds: whether the database can ignore case as the repository says.
    """

    def __init__(self, rows: Rows, *, folds: bool) -> None:
        self._rows = rows
        self.table = rows.table
        self._folds = folds
        self._asked = [place for place in self.table.places if place.matters]

    def criterion(self, draw: Draw, depth: int = _DEPTH) -> Any:
        """A tree of criteria."""
        choice = draw(st.integers(0, 9)) if depth else 0
        if choice < 6:  # noqa: PLR2004  # six times of ten
            return self._leaf(draw)
        if choice == 6:  # noqa: PLR2004
            return Apply("not_", (self.criterion(draw, depth - 1),))
        between = "&" if choice == 7 else "|"  # noqa: PLR2004
        return Infix(self.criterion(draw, depth - 1), between, self.criterion(draw, depth - 1))

    def equals(self, draw: Draw) -> dict[str, Any]:
        """Keyword equality."""
        place = draw(st.sampled_from(self._asked or self.table.places))
        if not place.matters:
            return {}
        return {place.name: draw(st.none()) if draw(st.integers(0, 5)) == 5 else self._rows.literal(draw, place)}  # noqa: PLR2004

    def order(self, draw: Draw) -> Any:
        """An order, in one of its spellings."""
        sortable = [place for place in self._asked if place.kind.ordered]
        if not sortable:
            return None
        chosen = draw(st.lists(st.tuples(st.sampled_from(sortable), st.booleans()), min_size=1, max_size=3))
        if draw(st.booleans()):
            return ",".join(f"{'-' if down else ''}{place.name}" for place, down in chosen)
        sorts = tuple(Apply("desc" if down else "asc", (self._field(place),)) for place, down in chosen)
        return sorts[0] if len(sorts) == 1 else sorts

    def query(self, draw: Draw, *, limit: bool = False) -> Make | None:
        """A query object; with a limit, where one is needed. None where the user gave no class that can say so."""
        classes = [one for one in self.table.queries if not limit or "limit" in one.model_fields]
        if not classes:
            return None
        cls = draw(st.sampled_from(classes))
        chosen = {
            name: self._filter(draw, cls, name)
            for name, info in cls.model_fields.items()
            if info.is_required() or (limit and name == "limit") or draw(st.integers(0, 2)) == 0
        }
        return Make(cls, _whole(cls, chosen))

    def part(self, draw: Draw) -> Part:
        """A class with some of the fields."""
        names = [place.name for place in self.table.places]
        return Part(tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))))

    # -- criteria

    def _field(self, place: Place) -> Field:
        return Field(self.table.name, place.name)

    def _leaf(self, draw: Draw) -> Any:
        if not self._asked or draw(st.integers(0, 11)) == 11:  # noqa: PLR2004
            return Apply("is_null", (self._field(draw(st.sampled_from(self.table.places))),))
        place = draw(st.sampled_from(self._asked))
        makers = [self._compared, self._compared, self._among, self._between, self._against]
        if place.kind is Kind.TEXT and place.spec.type.kind is Kind.TEXT and place.column.type.plain:
            makers += [self._matching, self._matching, self._matching]
        if place.spec.type.kind is Kind.BOOLEAN:
            makers.append(lambda _, place: self._field(place))
        return draw(st.sampled_from(makers))(draw, place)

    def _compared(self, draw: Draw, place: Place) -> Any:
        operator = draw(st.sampled_from(_ORDERED))
        choice = draw(st.integers(0, 23))
        refused = self._rows.refused(place) if choice == 23 else []  # noqa: PLR2004
        if refused and place.of is None:
            return Infix(self._field(place), operator, draw(st.sampled_from(refused)))
        if choice in (1, 2) and operator in ("==", "!="):
            return Infix(self._field(place), operator, None)
        return Infix(self._field(place), operator, self._rows.literal(draw, place))

    def _among(self, draw: Draw, place: Place) -> Any:
        several = [self._rows.literal(draw, place) for _ in range(draw(st.integers(0, 3)))]
        if draw(st.integers(0, 3)) == 3:  # noqa: PLR2004
            several.append(None)
        return Apply(draw(st.sampled_from(("in_", "not_in"))), (self._field(place), several))

    def _between(self, draw: Draw, place: Place) -> Any:
        return Apply("between", (self._field(place), self._rows.literal(draw, place), self._rows.literal(draw, place)))

    def _against(self, draw: Draw, place: Place) -> Any:
        alike = [
            other
            for other in self._asked
            if other.spec.type.kind is place.spec.type.kind and other.of == place.of and other is not place
        ]
        if not alike:
            return self._compared(draw, place)
        return Infix(self._field(place), draw(st.sampled_from(_ORDERED)), self._field(draw(st.sampled_from(alike))))

    def _matching(self, draw: Draw, place: Place) -> Any:
        operator = draw(st.sampled_from(_TEXT + _FOLDED if self._folds else _TEXT))
        text = self._rows.literal(draw, place)
        cut = text[: draw(st.integers(0, 2))] if draw(st.booleans()) else text
        return Apply(operator, (self._field(place), cut))

    # -- query objects

    def _filter(self, draw: Draw, cls: type[QueryObject[Any]], name: str) -> Any:
        annotation = cls.model_fields[name].annotation
        if name == "limit":
            return draw(st.integers(0, 4))
        if name == "offset":
            return draw(st.integers(0, 3))
        if name == "order_by":
            return draw(st.sampled_from(list(_choices(annotation)) or [None]))
        place = self._meant(name, annotation)
        if place is None:
            return draw(st.from_type(annotation))
        return self._shaped(draw, place, annotation)

    def _meant(self, name: str, annotation: Any) -> Place | None:
        """The field whose values a filter is tried with: the one it is named after, or one of its type."""
        named = [place for place in self._asked if name == place.name or name.startswith(f"{place.name}_")]
        if named:
            return max(named, key=lambda place: len(place.name))
        scalars = _scalars(annotation)
        return next((place for place in self._asked if place.of is None and place.spec.type.python in scalars), None)

    def _shaped(self, draw: Draw, place: Place, annotation: Any) -> Any:
        origins = {get_origin(part) or part for part in _alternatives(annotation)}
        if origins & {list, set, frozenset}:
            return [self._rows.literal(draw, place) for _ in range(draw(st.integers(0, 3)))]
        if tuple in origins:
            return (self._rows.literal(draw, place), self._rows.literal(draw, place))
        if bool in origins and place.spec.type.kind is not Kind.BOOLEAN:
            return draw(st.booleans())
        return self._rows.literal(draw, place)


def _whole(cls: type[QueryObject[Any]], chosen: dict[str, Any]) -> dict[str, Any]:
    """What of the filters a query object takes; keys of rows stand for themselves."""
    kept: dict[str, Any] = {}
    required = {name: value for name, value in chosen.items() if cls.model_fields[name].is_required()}
    for name, value in {**required, **chosen}.items():
        if _takes(cls, {**required, **kept, name: value}):
            kept[name] = value
    return kept


def _takes(cls: type[QueryObject[Any]], values: dict[str, Any]) -> bool:
    plain = {name: _plain(value) for name, value in values.items()}
    try:
        made(cls, plain)
    except (ValidationError, QueryError):
        return False
    return True


def _plain(value: Any) -> Any:
    """A value as it might be when the program runs."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, tuple):
        return tuple(_plain(one) for one in value)
    return 1 if isinstance(value, KeyOf) else value


def _alternatives(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [annotation]


def _scalars(annotation: Any) -> list[Any]:
    """The classes that a filter's values are of, those in a list as well."""
    found: list[Any] = []
    for part in _alternatives(annotation):
        inner: Sequence[Any] = get_args(part)
        found += [one for arg in inner for one in _scalars(arg)] if inner else [part]
    return found


def _choices(annotation: Any) -> Iterable[Any]:
    """The orders that a query object lets its caller choose."""
    for part in _alternatives(annotation):
        if get_origin(part) is Literal:
            yield from get_args(part)
        elif get_origin(part) in (list, tuple):
            yield from ([choice] for arg in get_args(part) for choice in _choices(arg))
        elif isinstance(part, type) and issubclass(part, Enum):
            yield from part

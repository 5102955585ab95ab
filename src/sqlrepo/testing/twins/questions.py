"""Makes what is asked: criteria, query objects, orders.

Knows which operators fit which fields. Must not know calls that write.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from sqlrepo import QueryError, QueryObject
from sqlrepo.memory import Kind
from sqlrepo.testing.twins.dice import Dice
from sqlrepo.testing.twins.nodes import Apply, Field, Infix, KeyOf, Make, Part, made
from sqlrepo.testing.twins.rows import Rows
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

    def criterion(self, dice: Dice, depth: int = _DEPTH) -> Any:
        """A tree of criteria."""
        form = dice.of(("leaf", "leaf", "leaf", "not_", "&", "|")) if depth else "leaf"
        if form == "leaf":
            return self._leaf(dice)
        if form == "not_":
            return Apply(form, (self.criterion(dice, depth - 1),))
        return Infix(self.criterion(dice, depth - 1), form, self.criterion(dice, depth - 1))

    def battery(self, dice: Dice) -> list[Any]:
        """Every operator that fits a field, with one value."""
        if not self._asked:
            return []
        place = dice.of(self._asked)
        field, value = self._field(place), self._rows.literal(dice, place)
        asked: list[Any] = [Infix(field, operator, value) for operator in _ORDERED]
        asked += [Apply(function, (field, [value, *none])) for function in ("in_", "not_in") for none in ([], [None])]
        if self._is_text(place):
            text = value or ""
            parts = dict.fromkeys((text, text[:1], text[1:]))
            matching = [Apply(function, (field, part)) for function in self._matches() for part in parts]
            asked += [*matching, *(Apply("not_", (one,)) for one in matching[::3])]
        return asked

    def equals(self, dice: Dice) -> dict[str, Any]:
        """Keyword equality."""
        place = dice.of(self._asked or self.table.places)
        if not place.matters:
            return {}
        return {place.name: None if dice.once_in(6) else self._rows.literal(dice, place)}

    def order(self, dice: Dice) -> Any:
        """An order, in one of its spellings."""
        sortable = [place for place in self._asked if place.kind.ordered]
        if not sortable:
            return None
        chosen = dice.several(lambda dice: (dice.of(sortable), dice.once_in(2)), 3, 1)
        if dice.once_in(2):
            return ",".join(f"{'-' if down else ''}{place.name}" for place, down in chosen)
        sorts = tuple(Apply("desc" if down else "asc", (self._field(place),)) for place, down in chosen)
        return sorts[0] if len(sorts) == 1 else sorts

    def query(self, dice: Dice, *, limit: bool = False) -> Make | None:
        """A query object; with a limit, where one is needed. None where the user gave no class that can say so."""
        classes = [one for one in self.table.queries if not limit or "limit" in one.model_fields]
        if not classes:
            return None
        cls = dice.of(classes)
        chosen = {
            name: self._filter(dice, cls, name)
            for name, info in cls.model_fields.items()
            if info.is_required() or (limit and name == "limit") or dice.once_in(3)
        }
        whole = _whole(cls, chosen)
        return Make(cls, whole) if _takes(cls, whole) else None

    def part(self, dice: Dice) -> Part:
        """A class with some of the fields."""
        names = [place.name for place in self.table.places]
        return Part(tuple(dict.fromkeys(dice.several(lambda dice: dice.of(names), 3, 1))))

    # -- criteria

    def _field(self, place: Place) -> Field:
        return Field(self.table.name, place.name)

    def _leaf(self, dice: Dice) -> Any:
        if not self._asked or dice.once_in(12):
            return Apply("is_null", (self._field(dice.of(self.table.places)),))
        place = dice.of(self._asked)
        makers: list[Callable[[Dice, Place], Any]]
        makers = [self._compared, self._compared, self._among, self._between, self._against]
        if self._is_text(place):
            makers += [self._matching, self._matching, self._matching]
        if place.spec.type.kind is Kind.BOOLEAN:
            makers.append(lambda _, flag: self._field(flag))
        return dice.of(makers)(dice, place)

    def _is_text(self, place: Place) -> bool:
        return place.kind is Kind.TEXT and place.spec.type.kind is Kind.TEXT and place.column.type.plain

    def _matches(self) -> tuple[str, ...]:
        return _TEXT + _FOLDED if self._folds else _TEXT

    def _compared(self, dice: Dice, place: Place) -> Any:
        operator = dice.of(_ORDERED)
        refused = self._rows.refused(place) if dice.once_in(24) else []
        if refused and place.of is None:
            return Infix(self._field(place), operator, dice.of(refused))
        if operator in ("==", "!=") and dice.once_in(6):
            return Infix(self._field(place), operator, None)
        return Infix(self._field(place), operator, self._rows.literal(dice, place))

    def _among(self, dice: Dice, place: Place) -> Any:
        several = [*self._literals(dice, place), *([None] if dice.once_in(4) else [])]
        return Apply(dice.of(("in_", "not_in")), (self._field(place), several))

    def _between(self, dice: Dice, place: Place) -> Any:
        return Apply("between", (self._field(place), self._rows.literal(dice, place), self._rows.literal(dice, place)))

    def _literals(self, dice: Dice, place: Place) -> list[Any]:
        return dice.several(lambda dice: self._rows.literal(dice, place), 3)

    def _against(self, dice: Dice, place: Place) -> Any:
        alike = [
            other
            for other in self._asked
            if other.spec.type.kind is place.spec.type.kind and other.of == place.of and other is not place
        ]
        if not alike:
            return self._compared(dice, place)
        return Infix(self._field(place), dice.of(_ORDERED), self._field(dice.of(alike)))

    def _matching(self, dice: Dice, place: Place) -> Any:
        operator = dice.of(self._matches())
        text = self._rows.literal(dice, place) or ""
        cut = text[: dice.upto(2)] if dice.once_in(2) else text
        return Apply(operator, (self._field(place), cut))

    # -- query objects

    def _filter(self, dice: Dice, cls: type[QueryObject[Any]], name: str) -> Any:
        annotation: Any = cls.model_fields[name].annotation
        if name == "limit":
            return dice.upto(4)
        if name == "offset":
            return dice.upto(3)
        if name == "order_by":
            return dice.of(list(_choices(annotation)) or [None])
        place = self._meant(name, annotation)
        if place is None:
            return dice.of([*_choices(annotation), *_plain_values(annotation)] or [None])
        return self._shaped(dice, place, annotation)

    def _meant(self, name: str, annotation: Any) -> Place | None:
        """The field whose values a filter is tried with: the one it is named after, or one of its type."""
        named = [place for place in self._asked if name == place.name or name.startswith(f"{place.name}_")]
        if named:
            return max(named, key=lambda place: len(place.name))
        scalars = _scalars(annotation)
        return next((place for place in self._asked if place.of is None and place.spec.type.python in scalars), None)

    def _shaped(self, dice: Dice, place: Place, annotation: Any) -> Any:
        origins = {get_origin(part) or part for part in _alternatives(annotation)}
        if origins & {list, set, frozenset}:
            return self._literals(dice, place)
        if tuple in origins:
            return (self._rows.literal(dice, place), self._rows.literal(dice, place))
        if bool in origins and place.spec.type.kind is not Kind.BOOLEAN:
            return dice.once_in(2)
        return self._rows.literal(dice, place)


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


def _plain_values(annotation: Any) -> Iterable[Any]:
    """What a filter is tried with whose values are those of no field."""
    for part in _scalars(annotation):
        yield from {bool: (True, False), int: (0, 1, 2), str: ("a", "", "b"), float: (0.0, 1.5)}.get(part, ())


def _choices(annotation: Any) -> Iterable[Any]:
    """The orders that a query object lets its caller choose."""
    for part in _alternatives(annotation):
        if get_origin(part) is Literal:
            yield from get_args(part)
        elif get_origin(part) in (list, tuple):
            yield from ([choice] for arg in get_args(part) for choice in _choices(arg))
        elif isinstance(part, type) and issubclass(part, Enum):
            yield from part

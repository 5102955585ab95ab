"""Which fields of the entity the cases may play with.

Knows the description of the table and the fields of the entity. Must not know stores, nor what the cases check.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

from pydantic import create_model

from sqlrepo import QueryError, QueryObject, fields
from sqlrepo.testing.clause import NotApplicableError

__all__ = ["Place", "Places"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A field of the entity and the column it is kept in.

    Attributes:
        name: the field.
        column: the column, as the repository's table describes it.
        spec: the field, as the entity's class describes it.
        fixed: whether the cases leave it alone: key, uniques, foreign keys, version, what the table fills in by itself
            on update.
        values: different values that the first entities of the harness have in it, in order, never None.
    """

    name: str
    column: Any
    spec: Any
    fixed: bool
    values: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """What sort of value it holds, by the name of the Python class."""
        return str(self.column.type.kind.value)

    @property
    def optional(self) -> bool:
        """Whether both the table and the class allow None."""
        return bool(self.column.nullable and self.spec.optional)

    @property
    def plain(self) -> bool:
        """Whether its values are stored as they are, so that Python compares and sorts them as the store does."""
        return bool(self.column.type.plain) and self.kind == self.spec.type.kind.value != "object"


class Places(Generic[T]):
    """The fields of an entity, looked up by what a case needs.

    Args:
        definition: what the repository class says of itself.
        made: makes the entities whose values are looked at.
        change: alters an entity.
    """

    def __init__(self, definition: Any, made: Callable[[], Sequence[T]], change: Callable[[T], T]) -> None:
        self.mapper = definition.mapper
        self.schema = definition.schema
        self.entity: type[T] = self.mapper.entity
        self._made = made
        self._change = change

    @cached_property
    def places(self) -> list[Place]:
        """The entity's fields that are kept in a column of their own."""
        made = self._made()
        changed = list(map(self._change, made))
        found = [self._place(column, made, changed) for column in self.schema.columns]
        return [place for place in found if place is not None]

    def _place(self, column: Any, made: Sequence[T], changed: Sequence[T]) -> Place | None:
        name = self.mapper.field(column.name)
        try:
            if self.mapper.column(name) is not column:
                return None
        except QueryError:
            return None
        bound = {other for one in (*self.schema.uniques, *self.schema.foreign_keys) for other in one.columns}
        known = {*self.schema.key, *bound, self.schema.version}
        fixed = column.name in known or bool(column.onupdate or column.computed)
        spec = getattr(cast(Any, fields(self.entity)), name).spec
        values = _distinct(getattr(entity, name) for entity in made)
        if len(values) == 1:  # what `change` makes of it is another one
            values = _distinct([*values, *(getattr(entity, name) for entity in changed)])
        return Place(name, column, spec, fixed, tuple(values))

    def place(self, column: str) -> Place | None:
        """The field that is kept in a column."""
        return next((place for place in self.places if place.column.name == column), None)

    def field(self, place: Place) -> Any:
        """A field, for use in criteria."""
        return getattr(fields(self.entity), place.name)

    def lacks(self, what: str) -> NoReturn:
        """Report that a case needs what the entity does not have."""
        raise NotApplicableError(f"{self.entity.__name__} has {what}")

    def compared(self, *kinds: str) -> Place:
        """A field that can be compared and sorted, one with many values and no other meaning before others."""
        found = [place for place in self.places if place.plain and (not kinds or place.kind in kinds) and place.values]
        if not found:
            self.lacks(f"no field of type {' or '.join(kinds) or 'str, int, date, ...'} that is stored as it is")
        return max(found, key=lambda place: (not place.fixed, place.kind != "bool", len(place.values)))

    def free(self) -> Place:
        """A field that any row may have any value in."""
        found = [place for place in self.places if place.plain and not place.fixed and len(place.values) > 1]
        if not found:
            self.lacks("no field besides keys and uniques that can be compared, with two values or more")
        return max(found, key=lambda place: (place.kind != "bool", len(place.values)))

    def optional(self) -> Place:
        """A field that any row may have any value in, and None."""
        found = [place for place in self.places if place.plain and place.optional and not place.fixed]
        found = [place for place in found if len(place.values) > 1]
        if not found:
            self.lacks("no field that may be None, besides uniques, and can be compared, with two values or more")
        return max(found, key=lambda place: (place.kind != "bool", len(place.values)))

    def version(self) -> Place:
        """The field that counts writes."""
        if self.schema.version is None:
            self.lacks("no version")
        return self.place(self.schema.version) or self.lacks("no field for its version")

    def uniques(self) -> Iterator[tuple[str | None, tuple[str, ...]]]:
        """The unique constraints besides the key whose columns are all fields: their names, and the fields."""
        for unique in self.schema.uniques:
            if all(self.place(column) is not None for column in unique.columns):
                yield unique.name, tuple(map(self.mapper.field, unique.columns))

    def query(self, **options: Any) -> QueryObject[T]:
        """Make a query object over the entity.

        Args:
            options: ``limit``, ``offset``, ``order_by``; or a filter and its value, such as ``priority__ge=3``.
        """
        types: dict[str, Any] = {"limit": int, "offset": int}
        if "order_by" in options:
            types["order_by"] = Literal[options["order_by"]]
        definitions = {name: (types[name] if name in types else self._filtered(name), ...) for name in options}
        base = cast(Any, QueryObject)[self.entity]
        model = create_model(f"{self.entity.__name__}Query", __base__=base, **cast(Any, definitions))
        return cast("QueryObject[T]", model(**options))

    def _filtered(self, name: str) -> Any:
        field, _, operator = name.rpartition("__")
        python: Any = next(place.spec.type.python for place in self.places if place.name == (field or name))
        return list.__class_getitem__(python) if operator in ("in", "not_in") else python


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Leave out None and repetitions, in order where there is one."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    try:
        return sorted(found)
    except TypeError:
        return found

"""Arguments that are about the parts of aggregates: edits of stored entities, and criteria about their children."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

import sqlrepo
from sqlrepo.memory import Part
from sqlrepo.testing.subject import copy_with, count_rows
from sqlrepo.testing.twins.model import Names, New, Node, NotConstructedError, Side, build, construct, stand_in, to_code

# -- what scripts call


def edited(entity: Any, changes: Mapping[str, Any]) -> Any:
    """Copy an entity or a child with other values."""
    if isinstance(entity, BaseModel):  # which checks them
        return construct(type(entity), {**dict(entity), **changes})
    return copy_with(entity, changes)


def kept(children: Any, place: int, changes: Mapping[str, Any] | None = None) -> list[Any]:
    """Return the child at a place, maybe with other values, as a list, which is empty beyond the end."""
    if not isinstance(children, Collection) or isinstance(children, str):  # a single child
        children = [] if children is None else [children]
    in_order = children if isinstance(children, list | tuple) else sorted(children, key=_by_number)
    found = list(in_order)[place : place + 1]
    return [edited(child, changes) for child in found] if changes else found


def _by_number(child: Any) -> list[Any]:
    """Sort as the generated keys count, which differ by side."""
    return [(int(one), "") if one.isdigit() else (0, one) for one in re.split(r"(\d+)", repr(child))]


def only(children: Sequence[Any]) -> Any:
    """Return the first child, or None."""
    return children[0] if children else None


def orphans(repository: Any, path: str) -> int:
    """Count the rows of a part's table that are no child of an entity, such as those of ``batches.allocations``."""
    owners, parts, tables = repository.find(), repository.definition().aggregate.parts, list[Part]()
    for name in path.split("."):
        part = next(one for one in parts if one.name == name)
        owners = [child for owner in owners for child in part.wrap(getattr(owner, name))]
        parts, tables = part.parts, [part, part.through] if part.through else [part]
    return sum(abs(count_rows(repository, one) - len(owners)) for one in tables)


# -- edits


@dataclass(frozen=True, slots=True)
class Stored(Node):
    """The index-th known row's entity, as it is now or as it was created; None if no row is known yet."""

    repository: str
    index: int
    now: bool = True

    def build(self, side: Side) -> Any:
        row = side.keys[self.repository].at(self.index)
        current = None if row is None else side.current(self.repository, row)
        return current if row is None or current is None or self.now else row.entities[side.index]

    def to_code(self, names: Names) -> str:
        return names.row(self.repository, self.index, now=self.now) or "None"


@dataclass(frozen=True, slots=True)
class StoredChild(Node):
    """A child of a stored entity; None if there is none at the place."""

    entity: Stored | StoredChild
    part: str
    place: int

    def build(self, side: Side) -> Any:
        return only(kept(getattr(self.entity.build(side), self.part, None), self.place))

    def to_code(self, names: Names) -> str:
        children = f"getattr({self.entity.to_code(names)}, {self.part!r}, None)"
        return f"{names.import_name(only)}({names.import_name(kept)}({children}, {self.place}))"


@dataclass(frozen=True, slots=True)
class Edited(Node):
    """A stored entity with other values; another one if no row is known yet."""

    entity: Stored
    changes: Mapping[str, Any]
    otherwise: New

    def build(self, side: Side) -> Any:
        stored = self.entity.build(side)
        if stored is None:
            return self.otherwise.build(side)
        try:
            return edited(stored, build(dict(self.changes), side))
        except (TypeError, ValueError) as error:
            raise NotConstructedError from error

    def to_code(self, names: Names) -> str:
        entity = self.entity.to_code(names)
        if entity == "None":
            return self.otherwise.to_code(names)
        return f"{names.import_name(edited)}({entity}, {to_code(dict(self.changes), names)})"


@dataclass(frozen=True, slots=True)
class Kept(Node):
    """A child of a stored entity, maybe with other values; a list without it if there is none at the place."""

    entity: Stored | StoredChild
    part: str
    place: int
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def build(self, side: Side) -> Any:
        stored = self.entity.build(side)
        try:
            return kept(getattr(stored, self.part, None), self.place, build(self.changes, side))
        except (TypeError, ValueError) as error:
            raise NotConstructedError from error

    def to_code(self, names: Names) -> str:
        changes = f", {to_code(dict(self.changes), names)}" if self.changes else ""
        children = f"getattr({self.entity.to_code(names)}, {self.part!r}, None)"
        return f"{names.import_name(kept)}({children}, {self.place}{changes})"


@dataclass(frozen=True, slots=True)
class Several(Node):
    """The children of one entity: kept ones, new ones and plain values, in a collection."""

    collect: Callable[[Any], Any]
    items: tuple[Any, ...]

    def build(self, side: Side) -> Any:
        found: list[Any] = []
        for one in self.items:
            found += one.build(side) if isinstance(one, Kept) else [build(one, side)]
        return self.collect(found)

    def to_code(self, names: Names) -> str:
        given = [f"{'*' if isinstance(one, Kept) else ''}{to_code(one, names)}" for one in self.items]
        listed = f"[{', '.join(given)}]"
        return listed if self.collect is list else f"{names.import_name(self.collect)}({listed})"

    def stand_in(self) -> Any:
        return self.collect(stand_in([one for one in self.items if not isinstance(one, Kept)]))


# -- criteria


@dataclass(frozen=True, slots=True)
class Attribute(Node):
    """A part or a value object of an entity in a criterion."""

    repository: str
    name: str

    def build(self, side: Side) -> Any:
        return getattr(sqlrepo.fields(side.tables[self.repository].entity), self.name)

    def to_code(self, names: Names) -> str:
        return f"{names.fields(self.repository)}.{self.name}"


@dataclass(frozen=True, slots=True)
class OfChild(Node):
    """A field of the child that a condition is about, or the child itself, if it is a plain value."""

    name: str

    def build(self, side: Side) -> Any:
        return getattr(side.child, self.name) if self.name else side.child

    def to_code(self, names: Names) -> str:  # noqa: ARG002  # it has no other name
        return f"child.{self.name}" if self.name else "child"


@dataclass(frozen=True, slots=True)
class Holds(Node):
    """A condition on a child."""

    criterion: Any

    def build(self, side: Side) -> Any:
        return lambda child: build(self.criterion, replace(side, child=child))

    def to_code(self, names: Names) -> str:
        return f"lambda child: {to_code(self.criterion, names)}"

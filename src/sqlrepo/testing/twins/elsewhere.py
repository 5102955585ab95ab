"""What programs ask about other repositories' rows: filters and orders through a key, nested views, summaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass
from functools import lru_cache
from types import new_class
from typing import Any, TypeAlias

import sqlrepo
from sqlrepo import Summary
from sqlrepo.memory import Kind
from sqlrepo.testing.subject import FieldInfo
from sqlrepo.testing.twins.model import FieldRef, Names, Node, Operation, Side, Table, to_code
from sqlrepo.testing.twins.parts import Holds, OfChild
from sqlrepo.testing.twins.samples import Choices, sample_values

# -- nodes


@dataclass(frozen=True, slots=True)
class FarRef(Node):
    """A field of the row that a key refers to, in a criterion or an order."""

    key: FieldRef
    entity: type
    name: str

    def build(self, side: Side) -> Any:
        return getattr(sqlrepo.via(self.key.build(side), self.entity), self.name)

    def to_code(self, names: Names) -> str:
        return f"{names.import_name('via')}({to_code(self.key, names)}, {names.import_name(self.entity)}).{self.name}"


@dataclass(frozen=True, slots=True)
class Entity(Node):
    """An entity class, whose rows `exists` asks for."""

    entity: type

    def build(self, side: Side) -> Any:  # noqa: ARG002  # it is the same class on both sides
        return self.entity

    def to_code(self, names: Names) -> str:
        return names.import_name(self.entity)


#: A name, and for a nested view "one" or "many" and what it consists of.
Member: TypeAlias = tuple[str, str, tuple[Any, ...]]


@lru_cache(maxsize=256)
def view(repository: str, members: tuple[Member, ...]) -> type:
    """Make a view of some fields, and of views nested in it; it tells the repository whose rows it shows."""
    fields = [(name, _type_of(form, inner)) for name, form, inner in members]
    return make_dataclass("Projection", fields, namespace={"repository": repository})


def _type_of(form: str, inner: tuple[Any, ...]) -> Any:
    nested: Any = view(*inner) if inner else Any
    return {"one": nested | None, "many": list.__class_getitem__(nested), "count": int}.get(form, Any)


@lru_cache(maxsize=256)
def summary(entity: Any, hints: tuple[tuple[str, type, bool], ...]) -> type[Summary[Any]]:
    """Make a summary of names and types, of which some may be None."""
    types = {name: kind | None if optional else kind for name, kind, optional in hints}
    namespace = {"__module__": __name__, "__annotations__": types}
    made: type[Summary[Any]] = new_class("Groups", (Summary[entity],), exec_body=lambda body: body.update(namespace))
    return made


@dataclass(frozen=True, slots=True)
class Made(Node):
    """A class that a function makes for both sides."""

    make: Callable[..., type]
    subject: Any
    members: tuple[Any, ...]

    def build(self, side: Side) -> Any:  # noqa: ARG002  # it is the same class on both sides
        return self.make(self.subject, self.members)

    def to_code(self, names: Names) -> str:
        given = self.subject if isinstance(self.subject, type) else None
        subject = repr(self.subject) if given is None else names.import_name(given)
        return f"{names.import_name(self.make)}({subject}, {_code(self.members, names)})"


def _code(value: Any, names: Names) -> str:
    if isinstance(value, tuple):
        return "(" + "".join(f"{_code(one, names)}, " for one in value) + ")"
    return names.import_name(value) if isinstance(value, type) else repr(value)


# -- what they are generated from


def is_plain(field: FieldInfo) -> bool:
    """Return True for a field that both sides store and compare unchanged, whatever rows there are."""
    type_ = field.column.type
    own = field.origin is None and not field.made and not field.path and type_.bind is None
    inexact = type_.kind in (Kind.FLOAT, Kind.BOOLEAN) or (type_.kind is Kind.DECIMAL and type_.precision is None)
    return own and field.plain and type_.kind.ordered and not inexact


def _fields(table: Table) -> list[FieldInfo]:
    named = [one for one in table.fields if is_plain(one) and one.name.isidentifier()]
    known = [one for one in named if not table.made(one.name) and one.name not in table.generated_fields]
    return [] if table.converts else known


class Elsewhere:
    """Generates what one table's repository asks about rows of others, and views and summaries of its own."""

    def __init__(self, table: Table, choices: Choices) -> None:
        self._table, self._pick = table, choices
        self._links = [
            (one.fields[0], one.parent)
            for one in table.references
            if len(one.fields) == 1 and one.parent is not None and "." not in one.fields[0] and _fields(one.parent)
        ]

    def criterion(self) -> Any:
        """Compare a field of the row that a key leads to, or ask for rows that refer to this one; None if neither."""
        forms = [*([self._through_key] if self._links else []), *([self._referring] if self._table.referrers else [])]
        return self._pick.of(forms)() if forms else None

    def order(self) -> Any:
        """Order by a field of the row that a key leads to; None if there is no key."""
        return Operation(self._pick.of(("asc", "desc")), (self._far()[0],)) if self._links else None

    def _far(self) -> tuple[FarRef, FieldInfo]:
        name, far = self._pick.of(self._links)
        field = self._pick.of(_fields(far))
        return FarRef(FieldRef(self._table.name, name), far.entity, field.name), field

    def _through_key(self) -> Any:
        ref, field = self._far()
        if self._pick.one_in(5):
            return Operation("is_null", (ref,))
        return self._compare(ref, field)

    def _compare(self, ref: Any, field: FieldInfo) -> Any:
        values = sample_values(field.column.type)[:5]
        return Operation(self._pick.of(("==", "!=", "<", ">=")), (ref, self._pick.of(values)))

    def _referring(self) -> Any:
        other, fields, targets = self._pick.of(self._table.referrers)
        condition: Any = Operation("==", (OfChild(fields[0]), FieldRef(self._table.name, targets[0])))
        known = _fields(other)
        if known and self._pick.one_in(2):
            field = self._pick.of(known)
            condition = Operation("&", (condition, self._compare(OfChild(field.name), field)))
        return Operation("exists", (Entity(other.entity), Holds(condition)))

    # -- views and summaries

    def view(self) -> Made:
        """Generate a view with what the row refers to and, through relationships, what refers to it."""
        return Made(view, self._table.name, self._members(self._table, 2))

    def _members(self, table: Table, depth: int) -> tuple[Member, ...]:
        names = [one.name for one in table.own_fields]
        members: list[Member] = [(name, "", ()) for name in dict.fromkeys(self._pick.some_of(names, 3, 1))]
        for one in table.references if depth else ():
            name = one.fields[0].removesuffix("_id")
            if len(one.fields) == 1 and one.parent is not None and name not in (*names, *table.objects, one.fields[0]):
                members.append((name, "one", (one.parent.name, self._members(one.parent, depth - 1))))
        for name, far in _many(table).items() if depth else ():
            members += [(f"{name}__count", "count", ())] if self._pick.one_in(2) else []
            members.append((name, "many", (far.name, self._members(far, depth - 1))))
        return tuple({name: (name, form, inner) for name, form, inner in members}.values())

    def summary(self) -> tuple[str, tuple[Any, ...]]:
        """Generate a method that sums up, and its first arguments."""
        known = _fields(self._table)
        if known and self._pick.one_in(3):
            return self._pick.of(("counts", "distinct")), (FieldRef(self._table.name, self._pick.of(known).name),)
        hints: dict[str, tuple[type, bool]] = {}
        for one in self._pick.some_of(known, 2) if known else ():
            hints[one.name] = one.spec.type.python, True
        if self._links and self._pick.one_in(2):
            ref, field = self._far()
            hints[f"{ref.key.name}__{field.name}"] = field.spec.type.python, True
        for one in known:
            if one.name not in hints and one.kind in (Kind.INTEGER, Kind.TEXT, Kind.DATE):
                hints[f"{one.name}_{self._pick.of(('min', 'max'))}"] = one.spec.type.python, True
        given = tuple((name, *one) for name, one in {"count": (int, False), **hints}.items())
        return "summarize", (Made(summary, self._table.entity, given),)


def _many(table: Table) -> Mapping[str, Table]:
    """Return the relationships that lead to many rows of another table of the unit, by name."""
    mapped = getattr(table.schema.model, "__mapper__", None)
    found = {name: one for name, one in mapped.relationships.items() if one.uselist} if mapped is not None else {}
    by_name = {other.schema.full_name[1]: other for other, _, _ in table.referrers if not other.made_columns}
    return {
        name: by_name[one.target.name]
        for name, one in found.items()
        if one.target.name in by_name and one.secondary is None and name not in (*table.parts, *table.by_name)
    }

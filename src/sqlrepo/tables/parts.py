"""The parts of an aggregate: children that belong to one entity and are kept in tables of their own."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlrepo.errors import MappingError, nearest
from sqlrepo.language.entities import ValueOfPart, child_class, collection_of, describe, is_mapped, value_object
from sqlrepo.language.fields import Sort
from sqlrepo.language.values import Kind
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import ForeignKey, Schema


@dataclass(frozen=True, slots=True)
class HasMany:
    """Declares the children of a field that holds a list, tuple, set or frozenset of them.

    In ``parts``, where the mapped class has no relationship of the field's name with ``delete-orphan``, or does not say
    enough. (Eric Evans, Domain-Driven Design: Aggregate.)

    Attributes:
        model: the children's mapped class or Table; by default the relationship's target.
        order: an integer column that the children lack, which holds their positions in the collection.
        by: a column of the foreign key to the owner, if the table has several.
        value: the field that holds the value, for children that are plain values.
        columns: the column of each field of a child whose column has another name.
    """

    model: Any = None
    order: str | None = field(default=None, kw_only=True)
    by: str | None = field(default=None, kw_only=True)
    value: str | None = field(default=None, kw_only=True)
    columns: Mapping[str, str] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Declares a value object that is kept in columns of its owner's table.

    In ``parts``, where the columns' names do not begin with the field's name and ``_``. (Evans: Value Object; Martin
    Fowler, Patterns of Enterprise Application Architecture: Embedded Value.)

    Attributes:
        prefix: what the columns' names begin with; by default the field's name and ``_``.
    """

    prefix: str | None = None


def embedded_columns(
    entity: type, schema: Schema, columns: Mapping[str, str], parts: Mapping[str, HasMany | Embedded]
) -> Mapping[str, str]:
    """Return the column of each field of an embedded value object, by path: ``{"ship_to.city": "ship_to_city"}``."""
    found: dict[str, str] = {}
    for name, field_ in describe(entity).items():
        nested, declared = value_object(field_.annotation), parts.get(name)
        if nested is None and isinstance(declared, Embedded):
            raise MappingError(f"part {name!r} of {entity.__name__} is {field_.annotation}, not a value object")
        if nested is None or columns.get(name, name) in schema.by_name or has_owned_children(schema.model, name):
            continue
        prefix = declared.prefix if isinstance(declared, Embedded) else None
        own = _composite(schema, name, nested) or _flatten(nested, f"{name}_" if prefix is None else prefix)
        if declared is None and not set(own.values()) & set(schema.by_name):
            continue
        if field_.optional and all(one.optional for one in describe(nested).values()):
            raise MappingError(
                f"{name!r} of {entity.__name__} may be None, and so may every field of {nested.__name__}, so NULL in "
                "all columns has two meanings; make the field or one of its fields required"
            )
        found |= {f"{name}.{path}": column for path, column in own.items()}
    return found


def _flatten(nested: type, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field_ in describe(nested).items():
        inner = value_object(field_.annotation)
        deeper = {} if inner is None else _flatten(inner, f"{prefix}{name}_")
        found |= {f"{name}.{path}": column for path, column in deeper.items()} or {name: f"{prefix}{name}"}
    return found


def _composite(schema: Schema, name: str, nested: type) -> dict[str, str]:
    """Return the columns of a ``composite()`` of this name, in the order of the class's fields."""
    mapper = getattr(schema.model, "__mapper__", None)
    found = mapper.get_property(name) if mapper is not None and mapper.has_property(name) else None
    keys = [one.key for one in getattr(found, "props", ())]
    return dict(zip(describe(nested), keys, strict=False)) if keys else {}


@dataclass(frozen=True, eq=False)
class Part:
    """One collection of children, read and checked; also what links its `Exists` to the children's table."""

    name: str  # the field
    mapper: Mapper[Any]  # of a child
    owner: tuple[str, ...]  # the child's columns that refer to the owner
    targets: tuple[str, ...]  # the owner's columns
    cascades: bool  # the database deletes the children with their owner
    order: str | None  # the column of positions
    sort: tuple[Sort, ...]  # in which children are read
    collect: Callable[[Iterable[Any]], Any]
    plain: bool  # the children are plain values

    @property
    def schema(self) -> Schema:
        return self.mapper.schema

    @property
    def key(self) -> tuple[str, ...]:
        """The columns by which a child is recognized; empty if children are values."""
        own = tuple(name for name in self.schema.key if name not in self.owner)
        return own if own and all(map(self.mapper.has_field, own)) else ()

    @property
    def refreshes(self) -> bool:
        """True if the database computes a column that an update of a child changes."""
        columns = (self.schema.by_name[name] for name in self.mapper.selected)
        return any(column.computed or column.server_onupdate for column in columns)

    def unwrap(self, children: Sequence[Any]) -> Any:
        return self.collect(child.value for child in children) if self.plain else self.collect(children)

    def wrap(self, collection: Iterable[Any]) -> list[Any]:
        return [self.mapper.entity(child) for child in collection] if self.plain else list(collection)


def has_owned_children(model: Any, name: str) -> bool:
    """Return True if a mapped class has a relationship of this name with ``delete-orphan``; configures no mapper."""
    mapper = getattr(model, "__mapper__", None)
    if mapper is None or not mapper.has_property(name):
        return False
    found = mapper.get_property(name)
    cascade = getattr(found, "cascade", None) if hasattr(found, "direction") or hasattr(found, "uselist") else None
    return bool(cascade is not None and cascade.delete_orphan)


def declared_parts(
    entity: type, schema: Schema, columns: Mapping[str, str], parts: Mapping[str, HasMany | Embedded]
) -> Mapping[str, HasMany]:
    """Return the declaration of each collection, by field; `MappingError` if one does not fit its field."""
    _verify_names(entity, schema, columns, parts)
    if is_mapped(entity):
        if parts:
            raise MappingError(f"{entity.__name__} is a mapped class, which cannot have parts; use a domain class")
        return {}
    found: dict[str, HasMany] = {}
    for name in describe(entity):
        declared = parts.get(name, HasMany() if has_owned_children(schema.model, name) else None)
        if isinstance(declared, HasMany) and columns.get(name, name) not in schema.by_name:
            found[name] = declared
    for name, declared in found.items():
        if child_class(entity, name) is None:
            raise MappingError(
                f"field {name!r} of {entity.__name__} is {describe(entity)[name].annotation}; children are a list, "
                "tuple, set or frozenset of entities or plain values"
            )
        if declared.model is None and not has_owned_children(schema.model, name):
            raise MappingError(
                f"`parts` does not say where the children of {name!r} are kept: name the model in HasMany, or declare "
                f"a relationship {name!r} with cascade='all, delete-orphan'"
            )
    return found


def _verify_names(entity: type, schema: Schema, columns: Mapping[str, str], parts: Iterable[str]) -> None:
    for name in parts:
        if name not in describe(entity):
            raise MappingError(f"`parts` names {name!r}, which is not a field{nearest(name, describe(entity))}")
        if columns.get(name, name) in schema.by_name:
            raise MappingError(f"`parts` names {name!r}, which is a column of table {schema.name}")


def read_part(owner: Mapper[Any], name: str, declared: HasMany, read_schema: Callable[[Any], Schema]) -> Part:
    """Resolve a declaration: the table of the children, the foreign key to their owner, and their order."""
    relationship = None if declared.model is not None else owner.schema.model.__mapper__.relationships[name]
    schema = read_schema(declared.model if relationship is None else relationship.mapper.class_)
    if schema.full_name == owner.schema.full_name:
        raise MappingError(f"part {name!r} of {owner.entity.__name__} is kept in the owner's own table")
    key = _find_foreign_key(owner.schema, name, declared, schema, relationship)
    _verify_foreign_key(owner, name, schema, key, relationship)
    entity: type = owner.entity
    child = child_class(entity, name)
    assert child is not None
    columns = dict(declared.columns)
    plain = issubclass(child, ValueOfPart)
    if declared.value is not None and not plain:
        raise MappingError(f"part {name!r} holds entities of {child.__name__}, so HasMany(value=...) does not fit")
    if plain:
        columns["value"] = _value_column(name, declared, schema, key)
    given = {columns.get(one, one) for one in describe(child)}
    sorted_by = tuple(_relationship_order(relationship, schema)) if relationship is not None else ()
    order = _order_column(name, declared, schema, {*given, *key.columns}, sorted_by)
    supplied = {*key.columns, *((order,) if order else ())}
    schema = replace(schema, used=frozenset({*given, *supplied} & schema.by_name.keys()))
    mapper: Mapper[Any] = Mapper(child, schema, columns, supplied=supplied)
    first = ((order, False),) if order else sorted_by
    sort = [Sort(mapper.ref(column), descending) for column, descending in first]
    sort += [one for one in mapper.key_order if one.ref not in {each.ref for each in sort}]
    kind, _ = collection_of(describe(owner.entity)[name].annotation) or (list, None)
    return Part(
        name, mapper, key.columns, _targets(owner, key), key.on_delete == "CASCADE", order, tuple(sort), kind, plain
    )


def _find_foreign_key(owner: Schema, name: str, declared: HasMany, schema: Schema, relationship: Any) -> ForeignKey:
    found = [key for key in schema.foreign_keys if key.table == owner.full_name]
    by = declared.by
    if by is None and relationship is not None:
        remote = {column.key for _, column in relationship.local_remote_pairs}
        found = [
            key for key in found if {(schema.by_name[one].column or one) for one in key.columns} == remote
        ] or found
    if by is not None:
        found = [key for key in found if by in key.columns]
    if len(found) == 1:
        return found[0]
    reason = (
        f"has {len(found)} foreign keys to {owner.name}; name a column of the right one in HasMany(by=...)"
        if found
        else f"has no foreign key to {owner.name}{f' with column {by!r}' if by else ''}"
    )
    raise MappingError(f"part {name!r}: table {schema.name} {reason}")


def _targets(owner: Mapper[Any], key: ForeignKey) -> tuple[str, ...]:
    names = {column.column or column.name: column.name for column in owner.schema.columns}
    return tuple(names.get(target, target) for target in key.targets)


def _verify_foreign_key(owner: Mapper[Any], name: str, schema: Schema, key: ForeignKey, relationship: Any) -> None:
    if relationship is not None and len(list(_conditions(relationship.primaryjoin))) != len(key.columns):
        raise MappingError(
            f"the primaryjoin of relationship {name!r} says more than the foreign key of {schema.name}; a part holds "
            "all children of its owner in a table, so keep these in a table of their own"
        )
    if key.on_delete == "SET NULL":
        raise MappingError(
            f"the foreign key of {schema.name} to {owner.schema.name} is ON DELETE SET NULL, which leaves children of "
            f"part {name!r} without an owner; make it CASCADE"
        )
    for target in _targets(owner, key):
        if target not in owner.selected:
            raise MappingError(
                f"the foreign key of {schema.name}, which keeps part {name!r}, refers to column {target!r} of "
                f"{owner.schema.name}, for which {owner.entity.__name__} has no field"
            )


def _conditions(clause: Any) -> Iterator[Any]:
    """Yield what a join's AND combines."""
    if getattr(clause, "operator", None) is not operator.and_:
        yield clause
        return
    for one in clause.clauses:
        yield from _conditions(one)


def refuse_shared(parts: Sequence[Part]) -> None:
    """Raise `MappingError` if two parts would take each other's children for their own."""
    known: dict[Any, Part] = {}
    for part in parts:
        other = known.setdefault((part.schema.full_name, part.owner), part)
        if other is not part:
            raise MappingError(
                f"parts {other.name!r} and {part.name!r} would share the rows of table {part.schema.name}, and each "
                "delete the other's; keep them in two tables, or name two foreign keys in HasMany(by=...)"
            )


def _value_column(name: str, declared: HasMany, schema: Schema, key: ForeignKey) -> str:
    if declared.value is None:
        others = [one.name for one in schema.columns if one.name not in {*key.columns, *schema.key}]
        hint = f", such as {others[0]!r}" if others else ""
        raise MappingError(f"part {name!r} holds plain values: name their column in HasMany(value=...){hint}")
    if declared.value not in schema.by_name:
        raise MappingError(
            f"part {name!r}: table {schema.name} has no column {declared.value!r}"
            f"{nearest(declared.value, schema.by_name)}"
        )
    return declared.value


def _relationship_order(relationship: Any, schema: Schema) -> Iterator[tuple[str, bool]]:
    names = {column: name for name, column in schema.model.__mapper__.columns.items()}
    for one in relationship.order_by or ():
        column = getattr(one, "element", one)
        if column not in names:
            raise MappingError(f"the order_by of relationship {relationship.key!r} is not a list of columns")
        yield names[column], getattr(getattr(one, "modifier", None), "__name__", "") == "desc_op"


def _order_column(
    name: str, declared: HasMany, schema: Schema, given: set[str], sorted_by: Sequence[tuple[str, bool]]
) -> str | None:
    """Return the column of positions: an integer that the child lacks."""
    if declared.order is None:
        if len(sorted_by) != 1 or sorted_by[0][1] or sorted_by[0][0] in {*given, schema.generated}:
            return None
        only = schema.by_name[sorted_by[0][0]]
        return only.name if only.type.kind is Kind.INTEGER else None
    column = schema.by_name.get(declared.order)
    if column is None or column.type.kind is not Kind.INTEGER or column.name in given:
        raise MappingError(
            f"part {name!r}: order={declared.order!r} must be an integer column of table {schema.name} that the "
            f"children do not have as a field{nearest(declared.order, schema.by_name)}"
        )
    return column.name

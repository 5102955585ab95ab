"""The parts of an aggregate: children that belong to one entity and are kept in tables of their own."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeAlias

from sqlrepo.errors import MappingError, nearest
from sqlrepo.language.entities import (
    EntityField,
    ValueOfPart,
    child_class,
    collection_of,
    describe,
    field_at,
    is_mapped,
    objects_in,
    value_object,
)
from sqlrepo.language.fields import Sort
from sqlrepo.language.values import Kind
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import ForeignKey, Schema, TableName


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
        through: an association table between the owner and the children; its rows are the owner's too.
        columns: the column of each field of a child whose column has another name.
        parts: the parts of a child, as in a repository.
        memory_defaults: what memory uses for values that the database would compute, as in a repository.
    """

    model: Any = None
    order: str | None = field(default=None, kw_only=True)
    by: str | None = field(default=None, kw_only=True)
    value: str | None = field(default=None, kw_only=True)
    through: Any = field(default=None, kw_only=True)
    columns: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    parts: Mapping[str, Declared] = field(default_factory=dict, kw_only=True)
    memory_defaults: Mapping[str, Any] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True, slots=True)
class HasOne:
    """Declares the single child of a field, which is kept in a table of its own, one row for an owner at most.

    In ``parts``, where the mapped class has no relationship of the field's name with ``uselist=False`` and
    ``delete-orphan``. (Evans: Aggregate; Martin Fowler, Patterns of Enterprise Application Architecture: Dependent
    Mapping.)

    Attributes:
        model: the child's mapped class or Table; by default the relationship's target.
        by: a column of the foreign key to the owner, if the table has several.
        columns: the column of each field of the child whose column has another name.
        parts: the parts of the child, as in a repository.
        memory_defaults: what memory uses for values that the database would compute, as in a repository.
    """

    model: Any = None
    by: str | None = field(default=None, kw_only=True)
    columns: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    parts: Mapping[str, Declared] = field(default_factory=dict, kw_only=True)
    memory_defaults: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    order: ClassVar[None] = None
    value: ClassVar[None] = None
    through: ClassVar[None] = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """Declares a value object that is kept in columns of its owner's table.

    In ``parts``, where the columns' names do not begin with the field's name and ``_``. (Evans: Value Object; Martin
    Fowler, Patterns of Enterprise Application Architecture: Embedded Value.)

    Attributes:
        prefix: what the columns' names begin with; by default the field's name and ``_``.
    """

    prefix: str | None = None


InTable: TypeAlias = HasMany | HasOne
Declared: TypeAlias = HasMany | HasOne | Embedded
ReadSchema: TypeAlias = Callable[[Any, InTable], Schema]  # of a mapped class or Table
Collect: TypeAlias = Callable[[Iterable[Any]], Any]


def embedded_columns(
    entity: type,
    schema: Schema,
    columns: Mapping[str, str],
    parts: Mapping[str, Declared],
    *,
    custom_dump: bool = False,  # the repository overrides to_row, which may store None in another way
) -> Mapping[str, str]:
    """Return the column of each field of an embedded value object, by path: ``{"ship_to.city": "ship_to_city"}``."""
    found: dict[str, str] = {}
    for name, field_ in describe(entity).items():
        nested, declared = value_object(field_.annotation), parts.get(name)
        if nested is None and isinstance(declared, Embedded):
            raise MappingError(f"part {name!r} of {entity.__name__} is {field_.annotation}, not a value object")
        in_table = isinstance(declared, HasOne) or has_owned_children(schema.model, name)
        if nested is None or columns.get(name, name) in schema.by_name or in_table:
            continue
        prefix = declared.prefix if isinstance(declared, Embedded) else None
        own = _composite(schema, name, nested) or _flatten(nested, f"{name}_" if prefix is None else prefix)
        if declared is None and not set(own.values()) & set(schema.by_name):
            continue
        found |= {f"{name}.{path}": column for path, column in own.items()}
    for name in objects_in(found):
        if field_at(entity, name).optional:
            kept = [schema.by_name.get(column) for path, column in found.items() if path.startswith(f"{name}.")]
            needed = [one.name for one in kept if one and not (one.fills_itself or custom_dump)]
            _verify_optional(f"{name!r} of {entity.__name__}", field_at(entity, name), schema.name, needed)
    return found


def _verify_optional(what: str, field_: EntityField, table: str, needed: Sequence[str]) -> None:
    """Check that a value object that is None can be stored, which is NULL in all its columns, and read again."""
    nested = value_object(field_.annotation)
    if nested is not None and all(one.optional for one in describe(nested).values()):
        raise MappingError(
            f"{what} may be None, and so may every field of {nested.__name__}, so NULL in all columns has two "
            "meanings; make the field or one of its fields required"
        )
    if needed:
        raise MappingError(
            f"{what} may be None, which is NULL in all its columns, but {', '.join(needed)} of table {table} cannot be "
            "NULL; make the columns nullable, or the field required"
        )


def _flatten(nested: type, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field_ in describe(nested).items():
        inner = value_object(field_.annotation)
        deeper = {} if inner is None else _flatten(inner, f"{prefix}{name}_")
        found |= {f"{name}.{path}": column for path, column in deeper.items()} or {name: f"{prefix}{name}"}
    return found


def _composite(schema: Schema, name: str, nested: type) -> dict[str, str]:
    """Return the columns of a ``composite()`` of this name, in the order of the class's fields."""
    keys = [one.key for one in getattr(_property(schema.model, name), "props", ())]
    return dict(zip(describe(nested), keys, strict=False)) if keys else {}


@dataclass(frozen=True, eq=False)
class Part:
    """The children of one field, read and checked; also what links its `Exists` to the children's table."""

    name: str  # the field
    path: str  # the same from the root: ``batches.allocations``
    mapper: Mapper[Any]  # of a child
    owner: tuple[str, ...]  # the child's columns that refer to the owner; its key, if there is a table in between
    targets: tuple[str, ...]  # the owner's columns, or those of the table in between
    cascades: bool  # the database deletes the children with their owner, and the children's parts with them
    order: str | None  # the column of positions
    sort: tuple[Sort, ...]  # in which children are read
    collect: Collect
    single: bool  # there is one child at most
    required: bool  # a single child must be there
    through: Part | None  # the rows of the table between the owner and the children
    parts: tuple[Part, ...]  # of a child

    @property
    def schema(self) -> Schema:
        return self.mapper.schema

    @property
    def plain(self) -> bool:
        """True if the children are plain values."""
        return issubclass(self.mapper.entity, ValueOfPart)

    @property
    def supplied(self) -> tuple[str, ...]:
        """The child's columns that the owner gives."""
        return () if self.through else self.owner

    @property
    def key(self) -> tuple[str, ...]:
        """The columns by which a child is recognized; empty if children are values."""
        own = tuple(name for name in self.schema.key if name not in self.supplied)
        return own if own and all(map(self.mapper.has_field, own)) else ()

    @property
    def distinct(self) -> tuple[str, ...]:
        """The key, or else all columns that databases compare: PostgreSQL, for one, compares no JSON."""
        compared = (name for name in self.mapper.selected if self.schema.by_name[name].type.kind is not Kind.OPAQUE)
        return self.schema.key or tuple(compared)

    @property
    def refreshes(self) -> bool:
        """True if the database computes a column that an update of a child changes."""
        columns = (self.schema.by_name[name] for name in self.mapper.selected)
        return any(column.computed or column.server_onupdate for column in columns)

    def unwrap(self, children: Sequence[Any]) -> Any:
        if self.single:
            return children[0] if children else None
        return self.collect(child.value for child in children) if self.plain else self.collect(children)

    def wrap(self, given: Any) -> list[Any]:
        if self.single:
            return [] if given is None else [given]
        given = given.values() if isinstance(given, Mapping) else given  # a mapped class's collection by key
        return [self.mapper.entity(child) for child in given] if self.plain else list(given)


def all_parts(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield parts, the tables that lie between, and the parts of children."""
    for part in parts:
        yield from (part, *((part.through,) if part.through else ()), *all_parts(part.parts))


def has_owned_children(model: Any, name: str) -> bool:
    """Return True if a mapped class has a relationship of this name with ``delete-orphan``; configures no mapper."""
    return bool(getattr(getattr(_property(model, name), "cascade", None), "delete_orphan", False))


def _property(model: Any, name: str) -> Any:
    mapper = getattr(model, "__mapper__", None)
    return mapper.get_property(name) if mapper is not None and mapper.has_property(name) else None


def declared_parts(
    entity: type, schema: Schema, columns: Mapping[str, str], parts: Mapping[str, Declared]
) -> Mapping[str, InTable]:
    """Return the declaration of each part in a table of its own; `MappingError` if one does not fit its field."""
    if is_mapped(entity):
        return _listed_parts(entity, parts)
    _verify_names(entity, schema, columns, parts)
    found: dict[str, InTable] = {}
    for name, field_ in describe(entity).items():
        declared = parts.get(name)
        if declared is None and has_owned_children(schema.model, name):
            declared = HasMany() if value_object(field_.annotation) is None else HasOne()
        if isinstance(declared, InTable) and columns.get(name, name) not in schema.by_name:
            found[name] = declared
    for name, declared in found.items():
        if _child_of(entity, name, declared) is None:
            annotation = describe(entity)[name].annotation
            what = "annotated with a name that is unknown at module level" if annotation is Any else annotation
            raise MappingError(
                f"field {name!r} of {entity.__name__} is {what}; children are a list, tuple, set or frozenset of "
                "entities or plain values, and HasOne declares a single entity"
            )
        if declared.model is None and not has_owned_children(schema.model, name):
            raise MappingError(
                f"`parts` does not say where the children of {name!r} are kept: name the model in "
                f"{type(declared).__name__}, or declare a relationship {name!r} with cascade='all, delete-orphan'"
            )
    return found


def _listed_parts(entity: type, parts: Mapping[str, Declared]) -> Mapping[str, InTable]:
    """Return the parts of a mapped class, which are the relationships that its repository lists."""
    found = {name: one for name, one in parts.items() if isinstance(one, InTable) and one.model is None}
    for name in parts:
        if name not in found or not has_owned_children(entity, name):
            raise MappingError(
                f"`parts` names {name!r}; a part of {entity.__name__}, a mapped class, is a relationship with "
                f"cascade='all, delete-orphan', listed as {{{name!r}: HasMany()}} or HasOne()"
            )
    return found


def _child_of(entity: type, name: str, declared: InTable) -> type | None:
    if isinstance(declared, HasMany) or is_mapped(entity):
        return child_class(entity, name)
    return value_object(describe(entity)[name].annotation)


def _verify_names(entity: type, schema: Schema, columns: Mapping[str, str], parts: Mapping[str, Any]) -> None:
    for name, declared in parts.items():
        if not isinstance(declared, HasMany | HasOne | Embedded):
            raise MappingError(f"`parts` gives {declared!r} for {name!r}; use HasMany, HasOne or Embedded")
        if name not in describe(entity):
            raise MappingError(f"`parts` names {name!r}, which is not a field{nearest(name, describe(entity))}")
        if columns.get(name, name) in schema.by_name:
            raise MappingError(f"`parts` names {name!r}, which is a column of table {schema.name}")


def read_parts(
    owner: Mapper[Any],
    declared: Mapping[str, InTable],
    read_schema: ReadSchema,
    above: Mapping[TableName, str] = MappingProxyType({}),
) -> tuple[Part, ...]:
    """Resolve declarations, and those of the children's own parts; tell the owner's mapper of them."""
    parts = tuple(_read_part(owner, name, one, read_schema, above) for name, one in declared.items())
    owner.links.update({part.name: part for part in parts})
    owner.singles = frozenset(part.name for part in parts if part.single)
    _refuse_shared(parts)
    return parts


def _read_part(
    owner: Mapper[Any],
    name: str,
    declared: InTable,
    read_schema: ReadSchema,
    above: Mapping[TableName, str],  # the tables of the owner's owners, and the fields that lead from there
) -> Part:
    """Find the table of the children, how they refer to their owner, their order and their parts."""
    entity: type = owner.entity
    relationship = None if declared.model is not None else owner.schema.model.__mapper__.relationships[name]
    schema = read_schema(declared.model if relationship is None else relationship.mapper.class_, declared)
    above = {**above, owner.schema.full_name: name}
    path = ".".join(above.values())
    if schema.full_name in above:
        raise MappingError(
            f"part {path!r} is kept in table {schema.name}, which keeps one of its owners: parts cannot form a cycle"
        )
    between = declared.through if relationship is None else relationship.secondary
    if between is None:
        join = _find_join(owner, path, declared, schema, relationship)
    else:
        join = _find_join_through(owner, path, declared, schema, read_schema(between, HasOne()))
        join = join._replace(relationship=relationship)
    child = _child_of(entity, name, declared)
    assert child is not None
    shape = _shape_of(entity, name, declared, join)
    mapper, order, sort, inner = _map_children(child, path, declared, join)
    parts = read_parts(mapper, inner, read_schema, above)
    cascades = join.cascades and all(part.cascades for part in parts)
    return Part(name, path, mapper, join.columns, join.targets, cascades, order, sort, *shape, join.through, parts)


def _shape_of(entity: type, name: str, declared: InTable, join: _Join) -> tuple[Collect, bool, bool]:
    """Return what collects the children, whether there is one at most, and whether it must be there."""
    single = isinstance(declared, HasOne) if join.relationship is None else not join.relationship.uselist
    if single and not any(set(one.columns) <= set(join.columns) for one in join.schema.constraints):
        raise MappingError(
            f"part {name!r} holds one child, but {', '.join(join.columns)} is not unique in table {join.schema.name}, "
            "so an owner may have several; add a unique constraint"
        )
    if is_mapped(entity):
        return list, single, False
    field_ = describe(entity)[name]
    kind, _ = collection_of(field_.annotation) or (list, None)
    return kind, single, single and not field_.optional


class _Join(NamedTuple):
    """How children refer to their owner."""

    schema: Schema  # of the children
    relationship: Any
    columns: tuple[str, ...]
    targets: tuple[str, ...]
    cascades: bool
    through: Part | None = None

    @property
    def order_by(self) -> tuple[tuple[str, bool], ...]:
        return () if self.relationship is None else tuple(_relationship_order(self.relationship, self.schema))

    @property
    def reverse(self) -> set[str]:
        """The relationships that lead from the children back to their owner."""
        if (own := self.relationship) is None:
            return set()
        return {
            one.key
            for one in own.mapper.relationships
            if own.key == one.back_populates or own.back_populates == one.key
        }


def _find_join(owner: Mapper[Any], name: str, declared: InTable, schema: Schema, relationship: Any) -> _Join:
    key = _find_foreign_key(owner.schema, name, declared, schema, relationship)
    if relationship is not None and len(list(conditions_of(relationship.primaryjoin))) != len(key.columns):
        raise MappingError(
            f"the primaryjoin of relationship {name!r} says more than the foreign key of {schema.name}; a part holds "
            "all children of its owner in a table, so keep these in a table of their own"
        )
    if key.on_delete in ("SET NULL", "SET DEFAULT"):
        left = "without an owner" if key.on_delete == "SET NULL" else "to another owner"
        raise MappingError(
            f"the foreign key of {schema.name} to {owner.schema.name} is ON DELETE {key.on_delete}, which leaves "
            f"children of part {name!r} {left}; make it CASCADE"
        )
    names = {column.column or column.name: column.name for column in owner.schema.columns}
    targets = tuple(names.get(target, target) for target in key.targets)
    if lost := [target for target in targets if target not in owner.selected]:
        raise MappingError(
            f"the foreign key of {schema.name}, which keeps part {name!r}, refers to column {lost[0]!r} of "
            f"{owner.schema.name}, for which {owner.entity.__name__} has no field"
        )
    return _Join(schema, relationship, key.columns, targets, key.on_delete == "CASCADE")


def _find_join_through(owner: Mapper[Any], name: str, declared: InTable, schema: Schema, between: Schema) -> _Join:
    """Join children by the rows of a table in between, which are read as plain values: the children's keys."""
    near = _find_join(owner, name, declared, between, None)
    far = [one for one in between.foreign_keys if one.table == schema.full_name and one.columns != near.columns]
    if len(far) != 1 or len(far[0].columns) != 1 or len(schema.key) != 1:
        raise MappingError(
            f"part {name!r}: table {between.name} needs one foreign key to {schema.name}, which has a key of one column"
        )
    [value] = far[0].columns
    child = make_dataclass(f"{between.name}.{name}", [("value", between.by_name[value].type.python)], slots=True)
    used = replace(between, used=frozenset({value, *near.columns}))
    mapper: Mapper[Any] = Mapper(child, used, {"value": value}, supplied=near.columns)
    sort, owners = mapper.key_order, (near.columns, near.targets)
    link = Part(name, name, mapper, *owners, near.cascades, None, sort, list, False, False, None, ())
    return _Join(schema, None, schema.key, (value,), False, link)


def _map_children(
    child: type, name: str, declared: InTable, join: _Join
) -> tuple[Mapper[Any], str | None, tuple[Sort, ...], Mapping[str, InTable]]:
    """Return the mapper of the children, the column of positions, the order in which they are read, their parts."""
    columns, schema = dict(declared.columns), join.schema
    plain = issubclass(child, ValueOfPart)
    if declared.value is not None and not plain:
        raise MappingError(f"part {name!r} holds entities of {child.__name__}, so HasMany(value=...) does not fit")
    foreign = () if join.through else join.columns
    if plain:
        columns["value"] = _value_column(name, declared, schema, foreign)
    embedded = {} if plain else embedded_columns(child, schema, columns, declared.parts)
    parts: Mapping[str, InTable] = {} if plain else declared_parts(child, schema, columns, declared.parts)
    given = {*(columns.get(one, one) for one in describe(child)), *embedded.values()}
    order = _order_column(name, declared, schema, {*given, *foreign}, join.order_by)
    supplied = {*foreign, *((order,) if order else ())}
    schema = replace(schema, used=frozenset({*given, *supplied} & schema.by_name.keys()))
    mapper: Mapper[Any] = Mapper(child, schema, columns, parts=parts, supplied=supplied, embedded=embedded)
    mapper.reverse = join.reverse
    first = ((order, False),) if order else join.order_by
    sort = [Sort(mapper.ref(column), descending) for column, descending in first]
    sort += [one for one in mapper.key_order if one.ref not in {each.ref for each in sort}]
    return mapper, order, tuple(sort), parts


def _find_foreign_key(owner: Schema, name: str, declared: InTable, schema: Schema, relationship: Any) -> ForeignKey:
    found, by = [key for key in schema.foreign_keys if key.table == owner.full_name], declared.by
    if by is not None:
        _require_column(name, schema, by)
        found = [key for key in found if by in key.columns]
    elif relationship is not None:
        remote = {column.key for _, column in relationship.local_remote_pairs}
        exact = [key for key in found if {schema.by_name[one].column or one for one in key.columns} == remote]
        found = exact or found
    if len(found) == 1:
        return found[0]
    reason = (
        f"has {len(found)} foreign keys to {owner.name}; name a column of the right one in HasMany(by=...)"
        if found
        else f"has no foreign key to {owner.name}{f' with column {by!r}' if by else ''}"
    )
    raise MappingError(f"part {name!r}: table {schema.name} {reason}")


def conditions_of(clause: Any) -> Iterator[Any]:
    """Yield what a join's AND combines."""
    if getattr(clause, "operator", None) is not operator.and_:
        yield clause
        return
    for one in clause.clauses:
        yield from conditions_of(one)


def _refuse_shared(parts: Iterable[Part]) -> None:
    """Raise `MappingError` if two parts would take each other's children for their own."""
    known: dict[Any, Part] = {}
    for part in all_parts(parts):
        other = known.setdefault((part.schema.full_name, part.supplied or part), part)
        if other is not part:
            raise MappingError(
                f"parts {other.name!r} and {part.name!r} would share the rows of table {part.schema.name}, and each "
                "delete the other's; keep them in two tables, or name two foreign keys in HasMany(by=...)"
            )


def _value_column(name: str, declared: InTable, schema: Schema, foreign: Iterable[str]) -> str:
    if declared.value is None:
        others = [one.name for one in schema.columns if one.name not in {*foreign, *schema.key}]
        hint = f", such as {others[0]!r}" if others else ""
        raise MappingError(f"part {name!r} holds plain values: name their column in HasMany(value=...){hint}")
    return _require_column(name, schema, declared.value)


def _require_column(name: str, schema: Schema, column: str) -> str:
    if column not in schema.by_name:
        raise MappingError(
            f"part {name!r}: table {schema.name} has no column {column!r}{nearest(column, schema.by_name)}"
        )
    return column


def _relationship_order(relationship: Any, schema: Schema) -> Iterator[tuple[str, bool]]:
    names = {column: name for name, column in schema.model.__mapper__.columns.items()}
    for one in relationship.order_by or ():
        column = getattr(one, "element", one)
        if column not in names:
            raise MappingError(f"the order_by of relationship {relationship.key!r} is not a list of columns")
        yield names[column], getattr(getattr(one, "modifier", None), "__name__", "") == "desc_op"


def _order_column(
    name: str, declared: InTable, schema: Schema, given: set[str], sorted_by: Sequence[tuple[str, bool]]
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
            f"children do not have as a field{'' if column else nearest(declared.order, schema.by_name)}"
        )
    return column.name

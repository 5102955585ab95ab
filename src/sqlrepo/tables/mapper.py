"""The mapping between an entity class and a table: names, values, keys and criteria."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from sqlrepo.errors import (
    InvalidLiteralError,
    InvalidValueError,
    MappingError,
    NotNullViolationError,
    QueryError,
    nearest,
)
from sqlrepo.language.criteria import (
    EVERYTHING,
    Among,
    And,
    Compare,
    CompareFields,
    Criterion,
    Exists,
    IsNull,
    Leaf,
    Match,
    Not,
    OneOf,
    Or,
    Path,
    Ref,
    Via,
    map_leaves,
    map_refs,
    matches_all,
)
from sqlrepo.language.entities import (
    EntityField,
    ValueOfPart,
    child_class,
    describe,
    field_at,
    fields_outside_init,
    is_mapped,
    is_validating_model,
    make_constructor,
    objects_in,
    read_fields,
    refuse_unkept,
    value_at,
    value_object,
)
from sqlrepo.language.fields import Sort, find_sort_ref, reroot
from sqlrepo.language.query import open_path, refuse_operator
from sqlrepo.language.values import UUID_TEXT, Kind, WrongValueError
from sqlrepo.tables.schema import Column, Row, Schema, column_of

T = TypeVar("T")

Fold: TypeAlias = Literal["unicode", "ascii"]


class Reaches(Protocol):
    """What the criteria of a repository may reach through its unit of work."""

    def of_entity(self, entity: type) -> tuple[Mapper[Any], Criterion]: ...

    def entity_of_key(self, schema: Schema, column: str) -> type: ...

    def scope_of(self, schema: Schema, /) -> Criterion: ...


class Record(dict[str, Any]):
    """A row as passed to `to_domain`: values by column name, as items or attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name!r}{nearest(name, self)}") from None


class Mapper(Generic[T]):
    """Maps one entity class to one table; `MappingError` if they do not match."""

    reverse: Collection[str] = ()  # the relationships of a mapped child that lead back to its owner
    singles: Collection[str] = ()  # the parts of one child at most, once they are read

    def __init__(
        self,
        entity: type[T],
        schema: Schema,
        columns: Mapping[str, str],  # of fields that have another name than their column
        *,
        fold: Fold = "unicode",
        custom_load: bool = False,  # the repository overrides to_domain
        custom_dump: bool = False,  # the repository overrides to_row
        parts: Iterable[str] = (),  # the fields that are kept in other tables
        supplied: Iterable[str] = (),  # the columns of a child that its owner gives
        embedded: Mapping[str, str] | None = None,  # the columns of value objects, by path
    ) -> None:
        self.entity = entity
        self.schema = schema
        self._fold: Fold = fold
        self._renamed = columns
        self._converts = custom_load or custom_dump
        self._custom_dump = custom_dump
        self.links: dict[str, Any] = dict.fromkeys(parts)  # the parts, by field, once they are read
        self._supplied = frozenset(supplied)
        self._named = _name_columns(entity, columns, embedded or {})
        self._objects = objects_in(embedded or ())
        self._columns = {name: schema.by_name[one] for name, one in self._named.items() if one in schema.by_name}
        self._fields = {column.name: name for name, column in self._columns.items()}
        self._verify(custom_load, custom_dump)
        kept = set(schema.by_name) if custom_load else {*self._fields, *schema.key, *self._supplied}
        # The columns to fetch, in schema order.
        self.selected: tuple[str, ...] = tuple(column.name for column in schema.columns if column.name in kept)
        self.load: Hydrator[T] = self.make_hydrator(entity)  # from rows of the selected columns

    @cached_property
    def key_order(self) -> tuple[Sort, ...]:
        """The order by the key, or else by all fields, so that only equal rows come in any order."""
        fields = (column.name for column in self._columns.values() if column.type.kind.ordered)
        return tuple(Sort(self.ref(name)) for name in self.schema.key or fields)

    def _verify(self, custom_load: bool, custom_dump: bool) -> None:
        self._verify_names()
        if not (custom_load and custom_dump):
            self._verify_fields()
        if not custom_dump:
            self._verify_types()
            self._verify_columns()

    def _verify_names(self) -> None:
        for name, column in self._renamed.items():
            for given, known, what in (
                (name, describe(self.entity), f"not a field of {self.entity.__name__}"),
                (column, self.schema.by_name, f"not a column of table {self.schema.name}"),
            ):
                if given not in known:
                    raise MappingError(f"`columns` names {given!r}, which is {what}{nearest(given, known)}")
        for name, kept in self._columns.items():
            if (other := self._fields[kept.name]) != name:
                raise MappingError(f"fields {name!r} and {other!r} are both mapped to column {kept.name!r}")

    def _verify_fields(self) -> None:
        for name in self._named:
            if name not in self._columns and name not in self.links:
                raise MappingError(
                    f"field {name!r} of {self.entity.__name__} has no column in table {self.schema.name}"
                    f"{self._without_column(name)}, or override to_domain and to_row"
                )
        for name in fields_outside_init(self.entity):
            if self._renamed.get(name, name) in self.schema.by_name:
                raise MappingError(
                    f"field {name!r} of {self.entity.__name__} has init=False, so no row can set it; "
                    "let __init__ take it, or override to_domain and to_row"
                )

    def _without_column(self, name: str) -> str:
        """Say what to do with a field that is neither a column nor a part."""
        known, mapped = set(self.schema.by_name), getattr(self.schema.model, "__mapper__", None)
        if mapped is not None and mapped.has_property(name) and hasattr(mapped.get_property(name), "viewonly"):
            return (
                ", and the relationship of that name is a reference: hold the key instead, nest the rows in a view, "
                "give the relationship cascade='all, delete-orphan' if they belong to this entity alone"
            )
        entity: type = self.entity
        if "." in name or not (child_class(entity, name) or value_object(describe(entity)[name].annotation)):
            return f"{nearest(name, known)}; rename it in `columns`"
        if mapped is not None:  # its relationships, none of which is configured for that
            known |= {one for one in dir(self.schema.model) if mapped.has_property(one)}
        return f"{nearest(name, known)}; say in `parts` where it is kept, nest it in a view instead"

    def _verify_types(self) -> None:
        for name, column in self._columns.items():
            field = field_at(self.entity, name)
            if not column.type.accepts(field.type):
                raise MappingError(
                    f"field {name!r} is {field.annotation}, which column {column.name!r} of table {self.schema.name} "
                    f"({column.type.kind.value}) cannot hold; override to_domain and to_row to convert"
                )

    def _verify_columns(self) -> None:
        for column in self.schema.columns:
            given = column.name in self._supplied or column.name == self.schema.version
            if not (column.name in self._fields or column.fills_itself or given):
                raise MappingError(
                    f"column {column.name!r} of table {self.schema.name} is required, and {self.entity.__name__} lacks "
                    "the field; add it, give the column a default, or override to_row; to read some columns only, pass "
                    "a view as `into=` to the repository of the whole entity"
                )

    # -- names

    @property
    def names(self) -> frozenset[str]:
        """The fields that have a column."""
        return frozenset(self._columns)

    def column(self, name: str) -> Column:
        """Return a field's column, or raise `QueryError` if there is none."""
        if name in self._columns:
            return self._columns[name]
        what = f"{self.entity.__name__}.{name} is"
        if name in self.links:
            how = "name one of its fields" if name in self.singles else "only exists() and every() ask about it"
            raise QueryError(f"{what} kept in a table of its own, so {how}")
        if nested := self._paths(name):
            raise QueryError(f"{what} a value object; name one of its fields, such as {nested[0].replace('.', '__')}")
        raise QueryError(f"{self.entity.__name__} has no field {name!r}{nearest(name, self._columns)}")

    def columns(self, name: str) -> list[Column]:
        """Return the column of a field, or those of a value object."""
        return [self.column(path) for path in self._written(name) or [name]]

    def _written(self, name: str) -> list[str]:
        whole, inside, _ = name.partition(".")
        if inside:
            raise QueryError(f"{name!r} is inside a value object, which is set as a whole; name {whole!r}")
        return self._paths(name)

    def _paths(self, name: str) -> list[str]:
        """Return the paths of a value object's fields; none for another field."""
        return [path for path in self._columns if path.startswith(f"{name}.")]

    def field(self, column: str) -> str:
        """Return a column's field, or else the column's own name."""
        return self._fields.get(column, column)

    def has_field(self, column: str) -> bool:
        return column in self._fields

    @property
    def has_key(self) -> bool:
        """True if the entity has a field for every primary key column."""
        return bool(self.schema.key) and all(column in self._fields for column in self.schema.key)

    # -- rows to entities

    def make_hydrator(self, model: type[Any], columns: Iterable[str] | None = None) -> Hydrator[Any]:
        """Return a builder of entities of a class from rows of some columns, by default the selected ones."""
        return Hydrator(model, self.schema, tuple(columns or self.selected), self._fields)

    def to_records(self, rows: Sequence[Row], parts: Sequence[Mapping[str, Any]] = ()) -> list[Record]:
        records = [Record(zip(self.selected, row, strict=False)) for row in rows]  # the order's lookups may follow
        for index, more in enumerate(parts):
            records[index].update(more)
        return records

    def to_entity(self, record: Mapping[str, Any]) -> T:
        """Build one entity as `to_domain` does by default."""
        parts = {name: record[name] for name in self.links}
        return self.load([tuple(record[name] for name in self.selected)], [parts])[0]

    # -- entities to rows

    def to_values(self, entity: T) -> dict[str, Any]:
        """Return an entity's values by column, unchecked."""
        if not isinstance(entity, self.entity):
            raise InvalidValueError(self.entity.__name__, f"expected an instance, got {type(entity).__name__}")
        self._check_objects(self._objects, partial(value_at, entity))
        values = {self._columns[name].name: value for name, value in read_fields(entity, self._columns).items()}
        if not self.links:
            return values
        return {**values, **read_fields(entity, self._given_parts(entity))}

    def _given_parts(self, entity: T) -> list[str]:
        loaded = vars(entity) if is_mapped(self.entity) else self.links  # what is not loaded is left as it is
        return [name for name in self.links if name in loaded]

    def check_given(self, entity: T, parts: Collection[str]) -> None:
        """Refuse what was given with an entity and would not be kept.

        A `to_row` of the repository's own decides about columns, but must return all parts.
        """
        if not self._custom_dump:
            refuse_unkept(entity, self.entity, {*self.links, *self.reverse})
        elif lost := [name for name in self._given_parts(entity) if name not in parts]:
            raise MappingError(
                f"to_row leaves out part {lost[0]!r} of {self.entity.__name__}, whose children would be lost; "
                f"return them under {lost[0]!r} too, as super().to_row() does"
            )

    def _check_objects(self, names: Iterable[str], read: Callable[[str], Any]) -> None:
        """Check the class of value objects, and that they were given nothing that no column keeps."""
        for name in names:
            field, outer = field_at(self.entity, name), name.rpartition(".")[0]
            kept, given = value_object(field.annotation), read(name)
            if (outer and read(outer) is None) or kept is None or (given is None and field.optional):
                continue
            if not isinstance(given, kept):
                raise InvalidValueError(name, f"expected {kept.__name__}, got {type(given).__name__}")
            try:
                refuse_unkept(given, kept)
            except InvalidValueError as error:
                error.field = f"{name}.{error.field}"
                raise

    def check_row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check a row's values by column; `to_row` may have named columns that do not exist."""
        for name in values:
            if name not in self.schema.by_name:
                known = {*self.schema.by_name, *self.links}
                raise MappingError(f"table {self.schema.name} has no column {name!r}{nearest(name, known)}")
        return {name: self.check_value(self.schema.by_name[name], value) for name, value in values.items()}

    def check_value(self, column: Column, value: Any) -> Any:
        try:
            checked = column.check(value)
        except WrongValueError as wrong:
            raise InvalidValueError(self.field(column.name), str(wrong)) from wrong.__cause__
        if column.stores_null(checked):
            raise NotNullViolationError(None, (column.name,))
        return checked

    def check_assignment(self, column: Column, value: Any) -> Any:
        """Check a value that is set without an entity: against its column, and as the entity would check it."""
        value, name = self.check_value(column, value), self.field(column.name)
        unset = value is None and ("." in name or not column.nullable)
        if self._converts or name not in self._columns or unset:
            return value
        return self.check_value(column, self._accept(name, value))

    def check_part(self, name: str, children: Any) -> None:
        """Check children that are set without their entity as it would check them."""
        if not (self._converts or is_mapped(self.entity)):
            self._accept(name, children)

    def _accept(self, name: str, value: Any) -> Any:
        try:
            return field_at(self.entity, name).accept(value)
        except WrongValueError as wrong:
            raise InvalidValueError(name, str(wrong)) from None

    def check_assigned(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check values that are set by field, and return them by column."""
        columns = {self.column(name): value for name, value in self._flatten(values)}
        for column in columns:
            if column.name in self.schema.key or column.computed:
                raise QueryError(f"{self.field(column.name)} cannot be set, as part of the key or computed")
        return {column.name: self.check_assignment(column, value) for column, value in columns.items()}

    def _flatten(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield values by path, those of value objects one by one."""
        for name, value in values.items():
            paths = self._written(name)
            if not paths:
                yield name, value
                continue
            read = partial(_read_inside, name, value)
            self._check_objects([one for one in self._objects if f"{one}.".startswith(f"{name}.")], read)
            yield from ((path, read(path)) for path in paths)

    def find_given_number(self, row: Mapping[str, Any]) -> InvalidValueError | None:
        """Return the error of a new row with a number that only the database may generate."""
        given = next((one.name for one in self.schema.columns if one.always and one.name in row), None)
        return None if given is None else InvalidValueError(self.field(given), "is always generated; leave it None")

    def complete_insert(self, values: Mapping[str, Any], *, may_exist: bool = False) -> dict[str, Any]:
        """Add defaults to a new row, and omit columns that the database fills in.

        None is NULL in a nullable column, and means the default in any other. The key of a row that may exist may
        be given, although the database generates it.
        """
        row = {
            column.name: values[column.name]
            for column in self.schema.columns
            if column.name in values and not column.computed and (values[column.name] is not None or column.nullable)
        }
        for column in self.schema.columns:
            if column.name == self.schema.version:
                row[column.name] = 1
            elif column.name in row or column.computed:
                continue
            elif column.default:
                row[column.name] = self.check_value(column, column.default(row))
            elif not column.fills_itself:
                raise NotNullViolationError(None, (column.name,))
        if not may_exist and (error := self.find_given_number(row)):
            raise error
        return {name: row[name] for name in self.schema.by_name if name in row}

    def complete_update(self, values: Mapping[str, Any], *, explicit: bool) -> dict[str, Any]:
        """Add ``onupdate`` values to changes, by column; an explicit change wins over the column's ``onupdate``."""
        row = {}
        for column in self.schema.columns:
            name = column.name
            if column.computed or name == self.schema.version:
                continue
            if name in values and (explicit or not (column.onupdate or column.server_onupdate)):
                if values[name] is None and not column.nullable:
                    raise NotNullViolationError(None, (name,))
                row[name] = values[name]
        for column in self.schema.columns:
            if column.onupdate and column.name not in row:
                row[column.name] = self.check_value(column, column.onupdate(row))
        return row

    def complete_upsert(
        self, values: Mapping[str, Any], target: tuple[str, ...], chosen: frozenset[str] | None
    ) -> dict[str, Any]:
        """Return the values to write over a conflicting row: the chosen ones, else all but the key and the target."""
        given = {name: value for name, value in values.items() if not self.schema.by_name[name].defaults(value)}
        fixed = {*target, *self.schema.key}
        changes = {name: given[name] for name in given if (name not in fixed if chosen is None else name in chosen)}
        return self.complete_update(changes, explicit=chosen is not None) if changes else {}

    # -- keys

    def require_key(self) -> Mapper[T]:
        """Return this mapper, or raise `MappingError` if the table has no key, for calls that need one."""
        if not self.schema.key:
            raise MappingError(
                f"table {self.schema.name} has no primary key, so this call cannot tell its rows apart; use find, "
                "page, count, add, update_where and delete_where, or map a class with a primary_key to the table"
            )
        return self

    def parse_key(self, id: Any) -> dict[str, Any]:
        """Check a key, one value or a tuple, and return it by column."""
        self.require_key()
        columns = self.schema.key
        values = (id,) if len(columns) == 1 else id
        if not isinstance(values, tuple) or len(values) != len(columns):
            raise InvalidLiteralError("key", f"expected a tuple ({', '.join(columns)}), got {type(id).__name__}")
        for name, value in zip(columns, values, strict=True):
            if value is None:
                raise InvalidLiteralError(self.field(name), "cannot be None, as part of the key")
        return {name: self._literal(self.ref(name), value) for name, value in zip(columns, values, strict=True)}

    def key_of(self, row: Row) -> Any:
        """Return the key of a row of the selected columns, in the form that `parse_key` accepts."""
        values = tuple(row[self.selected.index(name)] for name in self.schema.key)
        return values[0] if len(values) == 1 else values

    # -- criteria

    def bind(self, leaf: Leaf, relations: Callable[[], Reaches]) -> Criterion:
        """Replace the field of a criterion by its column, and check the literal against the column.

        A value equals NULL if the column's type stores it as NULL.
        """
        if self.singles and not isinstance(leaf, Exists):
            leaf = map_refs(leaf, partial(self._lead, relations=relations))
        if isinstance(leaf, Exists | Path | CompareFields) or leaf.ref.via is not None:
            return self._bind_related(leaf, relations)
        if isinstance(leaf, IsNull) and (missing := self._is_missing(leaf.ref, relations)):
            return missing[0]
        ref = self.bind_ref(leaf.ref, relations)
        if self.schema.by_name[ref.name].type.kind is Kind.OPAQUE and not isinstance(leaf, IsNull):
            raise QueryError(f"{leaf.ref} has a column type that only is_null() supports")
        match leaf:
            case Compare(_, op, value):
                self._refuse_order_of_labels(ref, op)
                literal = self._literal(ref, value)
                if op in ("==", "!=") and self._is_null(ref, literal):
                    return IsNull(ref) if op == "==" else Not(IsNull(ref))
                return Compare(ref, op, literal)
            case OneOf(_, values):
                literals = tuple(self._literal(ref, value) for value in values)
                given = tuple(value for value in literals if not self._is_null(ref, value))
                return OneOf(ref, given) if given == literals else Or((OneOf(ref, given), IsNull(ref)))
            case Match(_, kind, text, case):
                self._refuse_text_of_uuid(ref)
                return Match(ref, kind, self._literal(ref, text, part=True), "exact" if case == "exact" else self._fold)
            case IsNull() | Among():
                return IsNull(ref)

    def _bind_related(self, leaf: Leaf, relations: Callable[[], Reaches]) -> Criterion:
        """Bind a leaf that may speak of several fields or rows."""
        match leaf:
            case Exists():
                return self._bind_exists(leaf, relations)
            case Path(ref, rest):
                try:
                    target = self._find_target(ref, relations)
                except QueryError as error:
                    raise QueryError(f"{error}{refuse_operator(rest)}") from None
                return map_leaves(open_path(leaf, target), partial(self.bind, relations=relations))
            case CompareFields(ref, op, other):
                left, right = self.bind_ref(ref, relations), self.bind_ref(other, relations)
                refuse_unlike(column_of(self.schema, left), column_of(self.schema, right))
                return CompareFields(left, op, right)
            case _:
                way = self._bind_via(leaf.ref, relations)
                try:
                    bound = way.mapper.bind(map_refs(leaf, lambda ref: replace(ref, via=None)), relations)
                except InvalidLiteralError as wrong:
                    raise InvalidLiteralError(_path(leaf.ref) or wrong.field, wrong.reason) from None
                return map_leaves(bound, lambda one: map_refs(one, partial(reroot, change=partial(replace, via=way))))

    def _is_missing(self, ref: Ref, relations: Callable[[], Reaches]) -> list[Criterion]:
        """Return the criterion that there is no value object or single child; none for a field with a column."""
        if ref.name in self.singles:
            return [Not(self._bind_exists(Exists(ref, EVERYTHING), relations))]
        paths = self._paths(ref.name)
        return [And(tuple(IsNull(self.ref(self.column(path).name)) for path in paths))] if paths else []

    def _is_null(self, ref: Ref, value: Any) -> bool:
        """Return True if a column stores a value as NULL."""
        bind = self.schema.by_name[ref.name].type.bind
        return bind is not None and bind(value) is None

    def _lead(self, ref: Ref, relations: Callable[[], Reaches]) -> Ref:
        """Turn the field of a single child into one of the row that refers to this one."""
        name, _, rest = ref.name.partition(".")
        if name not in self.singles or not rest or ref.via or not issubclass(self.entity, ref.entity):
            return ref
        part = self.links[name]
        if len(part.targets) != 1:
            raise QueryError(f"{ref} is kept by a foreign key of {len(part.targets)} columns, so no filter reaches it")
        scope = relations().scope_of(part.schema)
        way = Via(self.ref(part.targets[0]), part.mapper, part.owner[0], None if matches_all(scope) else scope)
        return Ref(part.mapper.entity, rest, via=way, row=ref.row)

    def _bind_exists(self, leaf: Exists, relations: Callable[[], Reaches]) -> Exists:
        name, _, rest = leaf.ref.name.partition(".")
        if name in self.singles and rest:  # the children of a single child
            inner = replace(leaf, ref=Ref(self.links[name].mapper.entity, rest))
            return self._bind_exists(Exists(Ref(self.entity, name), inner), relations)
        through: Any = None  # the table in between
        if leaf.root is not None:
            mapper, scope = relations().of_entity(leaf.root)
            near = tuple(self.bind_ref(ref, relations) for ref in leaf.near)
            far = tuple(mapper.bind_ref(ref, relations) for ref in leaf.far)
            for one, other in zip(near, far, strict=True):
                refuse_unlike(column_of(self.schema, one), column_of(mapper.schema, other))
        else:
            part = self.links.get(leaf.ref.name)
            if part is None or not issubclass(self.entity, leaf.ref.entity):
                raise QueryError(
                    f"a repository of {self.entity.__name__} has no part {leaf.ref.entity.__name__}.{leaf.ref}"
                )
            mapper, scope = part.mapper, relations().scope_of(part.schema)
            through = part.through
            around = through.mapper if through else self
            near, far = tuple(map(around.ref, part.targets)), tuple(map(mapper.ref, part.owner))
        where = self._bind_inside(leaf, mapper, relations)
        where = where if matches_all(scope) else And((where, scope))
        bound = replace(leaf, ref=near[0] if leaf.root else leaf.ref, near=near, far=far, mapper=mapper, where=where)
        if through is None:
            return bound
        near, far = tuple(map(self.ref, through.targets)), tuple(map(through.mapper.ref, through.owner))
        where = And((bound, relations().scope_of(through.schema)))
        return replace(bound, near=near, far=far, mapper=through.mapper, where=where)

    def _bind_inside(self, leaf: Exists, mapper: Mapper[Any], relations: Callable[[], Reaches]) -> Criterion:
        """Bind the condition on the other row; an error about a value names the way to its field."""
        try:
            return map_leaves(leaf.where, partial(mapper.bind, relations=relations))
        except InvalidLiteralError as wrong:
            around = leaf.root.__name__ if leaf.root else leaf.ref.name
            inside = "" if issubclass(mapper.entity, ValueOfPart) else f".{wrong.field}"
            raise InvalidLiteralError(f"{around}{inside}", wrong.reason) from None

    def _find_target(self, ref: Ref, relations: Callable[[], Reaches]) -> type:
        """Return the entity class to which a key leads by its foreign key."""
        key = self.bind_ref(ref, relations)
        return relations().entity_of_key(self.schema if key.via is None else key.via.mapper.schema, key.name)

    def _bind_via(self, ref: Ref, relations: Callable[[], Reaches]) -> Via:
        """Bind the way to another row: its table's key, or what a foreign key refers to, and its scope."""
        assert ref.via is not None
        if ref.via.mapper is not None:  # that of a single child
            return ref.via
        key = self.bind_ref(ref.via.key, relations)
        schema = self.schema if key.via is None else key.via.mapper.schema
        mapper, scope = relations().of_entity(ref.entity)
        columns = {column.column or column.name: column.name for column in mapper.schema.columns}
        targets = [
            one.targets
            for one in schema.foreign_keys
            if one.columns == (key.name,) and one.table == mapper.schema.full_name
        ]
        elsewhere = {one.table for one in schema.foreign_keys if one.columns == (key.name,)}
        shared = {one.table for one in mapper.schema.foreign_keys if one.columns == mapper.schema.key}
        if elsewhere and not targets and not elsewhere & shared:  # nor is its key that of a table in common
            raise QueryError(
                f"{key.name!r} of table {schema.name} refers to table {min(elsewhere)[1]}, but "
                f"{ref.entity.__name__} is kept in {mapper.schema.name}; name the entity that it refers to"
            )
        names = tuple(columns.get(name, name) for name in targets[0]) if targets else mapper.schema.key
        if len(names) != 1:
            raise QueryError(f"{ref.entity.__name__} has a key of {len(names)} columns, so via() cannot follow {key}")
        refuse_unlike(column_of(schema, key), mapper.schema.by_name[names[0]])
        return Via(key, mapper, names[0], None if matches_all(scope) else scope)

    def _refuse_text_of_uuid(self, ref: Ref) -> None:
        # Each database stores another text of a UUID, or none.
        if self.schema.by_name[ref.name].type.form == UUID_TEXT:
            raise QueryError(f"{self.field(ref.name)} has a UUID column, which cannot be searched as text")

    def _refuse_order_of_labels(self, ref: Ref, op: str) -> None:
        # An IntEnum stored by name would compare as text here, and as a number everywhere else.
        type_ = self.schema.by_name[ref.name].type
        if op in ("==", "!=") or type_.kind is not Kind.ENUM or not issubclass(type_.python, str | int):
            return
        if any(member != label for member, label in (type_.labels or {}).items()):
            raise QueryError(f"{self.field(ref.name)} is stored by its members' names, which sort differently")

    def bind_ref(self, ref: Ref, relations: Callable[[], Reaches]) -> Ref:
        """Replace a field by its column."""
        ref = self._lead(ref, relations) if self.singles else ref
        if ref.via is not None:
            way = self._bind_via(ref, relations)
            inner = way.mapper.bind_ref(replace(ref, via=None), relations)
            return reroot(inner, partial(replace, via=way))
        if not issubclass(self.entity, ref.entity):
            raise QueryError(f"a repository of {self.entity.__name__} cannot query {ref.entity.__name__}.{ref.name}")
        return Ref(self.entity, self.column(ref.name).name)

    def ref(self, column: str) -> Ref:
        """Return the reference to a column that bound criteria and orders use."""
        return Ref(self.entity, column)

    def bind_sort(self, sort: Sort, relations: Callable[[], Reaches]) -> Sort:
        """Replace the field of a sort key by its column."""
        ref = self.bind_ref(self.open_sort(sort.ref, relations), relations)
        if not column_of(self.schema, ref).type.kind.ordered:
            raise QueryError(f"{sort.ref} has a column type without an order")
        return Sort(ref, sort.descending)

    def open_sort(self, ref: Ref, relations: Callable[[], Reaches]) -> Ref:
        """Find the class to which a text such as ``customer_id__name`` leads."""
        if (way := ref.via) is None or ref.entity is not object:
            return ref
        inner = find_sort_ref(self._find_target(way.key, relations), ref.name)
        return self.open_sort(reroot(inner, lambda one: replace(one, via=way)), relations)

    def to_text(self, criterion: Criterion) -> str:
        """Print a bound criterion identically in every process."""
        return str(self.to_stored(criterion))

    def to_stored(self, criterion: Criterion) -> Criterion:
        """Replace the literals of a bound criterion by their stored forms."""

        def store(leaf: Leaf) -> Leaf:
            leaf = map_refs(leaf, self.to_stored_ref)
            if isinstance(leaf, Exists):
                return replace(leaf, where=leaf.mapper.to_stored(leaf.where))
            type_ = column_of(self.schema, leaf.ref).type
            match leaf:
                case Compare(ref, op, value):
                    return Compare(ref, op, type_.store(value))
                case OneOf(ref, values):
                    return OneOf(ref, tuple(map(type_.store, values)))
                case Match(ref, kind, text, case):
                    return Match(ref, kind, type_.store(text), case)
                case CompareFields() | IsNull() | Among() | Path():
                    return leaf

        return map_leaves(criterion, store)

    def to_stored_ref(self, ref: Ref) -> Ref:
        if (way := ref.via) is None:
            return ref
        scope = None if way.scope is None else way.mapper.to_stored(way.scope)
        return replace(ref, via=replace(way, key=self.to_stored_ref(way.key), scope=scope))

    def _literal(self, ref: Ref, value: Any, *, part: bool = False) -> Any:
        type_ = self.schema.by_name[ref.name].type
        if type_.charset or (part and type_.padded):  # databases compare with texts that the column cannot hold
            type_ = replace(type_, charset="", octets=None, padded=type_.padded and not part)
        try:
            return type_.check(value)
        except WrongValueError as wrong:
            raise InvalidLiteralError(self.field(ref.name), str(wrong)) from wrong.__cause__


def refuse_unlike(left: Column, right: Column) -> None:
    """Refuse to compare columns that SQLite, for example, stores as integers of different meaning."""
    if not left.type.compares_with(right.type):
        raise QueryError(
            f"{left.name} and {right.name} have columns of different types, so their stored values cannot be compared"
        )


def _read_inside(name: str, given: Any, path: str) -> Any:
    """Return what a path that begins with the name of a value object leads to, in that object."""
    return given if path == name else value_at(given, path.removeprefix(f"{name}."))


def _name_columns(entity: type, columns: Mapping[str, str], embedded: Mapping[str, str]) -> Mapping[str, str]:
    """Return the column that each field should have, those of value objects by path."""
    objects = {path.partition(".")[0] for path in embedded}
    return {name: columns.get(name, name) for name in describe(entity) if name not in objects} | dict(embedded)


class Hydrator(Generic[T]):
    """Builds entities of one class from rows of some columns."""

    def __init__(self, model: type[T], schema: Schema, columns: Sequence[str], fields: Mapping[str, str]) -> None:
        known = describe(model)
        self._model = model
        self._schema = schema
        self._columns = tuple(columns)
        named = [(fields.get(column, column), position) for position, column in enumerate(columns)]
        self._given = [(name, position) for name, position in named if name in known]
        self._objects = [one for name in known if (one := _make_nested(known[name], schema, columns, named))]
        listed: Any = list.__class_getitem__(model)  # the class is known only at run time
        self._adapter: TypeAdapter[list[Any]] | None = TypeAdapter(listed) if is_validating_model(model) else None
        self._make = make_constructor(model)
        # Enumerations whose members the column stores as plain text or numbers.
        self._members = [
            (name, known[name].type.python)
            for name, position in self._given
            if known[name].type.kind is Kind.ENUM and schema.by_name[columns[position]].type.kind is not Kind.ENUM
        ]

    def __call__(self, rows: Sequence[Row], parts: Sequence[Mapping[str, Any]] = ()) -> list[T]:
        """Build an entity of each row; `MappingError` names table, key and reason if the class refuses one."""
        values: list[Mapping[str, Any]] = [{name: row[position] for name, position in self._given} for row in rows]
        for nested in self._objects:
            objects = nested.build(rows)
            values = [{**value, nested.name: one} for value, one in zip(values, objects, strict=True)]
        if parts:
            values = [{**value, **more} for value, more in zip(values, parts, strict=True)]
        if self._members:
            values = [{**value, **self._members_of(value, row)} for value, row in zip(values, rows, strict=True)]
        if self._adapter is None:
            return [self._build(value, row) for value, row in zip(values, rows, strict=True)]
        try:
            return self._adapter.validate_python(values, by_alias=False, by_name=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            index, *path = first["loc"]
            where = ".".join(map(str, path)) or "the whole row"
            raise self._error(rows[int(index)], f"{where}: {first['type']}") from error

    def _build(self, value: Mapping[str, Any], row: Row) -> Any:
        try:
            return self._make(value)
        except (TypeError, ValueError) as error:
            raise self._error(row, f"its class raises {type(error).__name__}") from error

    def _members_of(self, value: Mapping[str, Any], row: Row) -> dict[str, Any]:
        try:
            return {name: enum(value[name]) for name, enum in self._members if value[name] is not None}
        except ValueError as error:
            raise self._error(row, "a value is not a member of its enumeration") from error

    def _error(self, row: Row, why: str) -> MappingError:
        what = f"a row of table {self._schema.name} cannot be loaded as {self._model.__name__}"
        error = MappingError(f"{what}: {why}; its key is the error's `key`")
        error.key = tuple(row[self._columns.index(name)] for name in self._schema.key if name in self._columns)
        return error


class _NestedHydrator:
    """Builds the value objects of one field."""

    def __init__(self, name: str, hydrator: Hydrator[Any], positions: Sequence[int], *, optional: bool) -> None:
        self.name = name
        self._hydrator = hydrator
        self._positions = positions
        self._optional = optional

    def build(self, rows: Sequence[Row]) -> list[Any]:
        """Build the object of each row; None where the field may be None and all columns are NULL."""
        values = [tuple(row[position] for position in self._positions) for row in rows]
        there = [not self._optional or any(one is not None for one in row) for row in values]
        built = iter(self._hydrator([row for row, is_there in zip(values, there, strict=True) if is_there]))
        return [next(built) if is_there else None for is_there in there]


def _make_nested(
    field: EntityField, schema: Schema, columns: Sequence[str], named: Iterable[tuple[str, int]]
) -> _NestedHydrator | None:
    """Return a builder for a field that is kept in columns of its own, if it is."""
    prefix, model = f"{field.name}.", value_object(field.annotation)
    own = {at: name.removeprefix(prefix) for name, at in named if name.startswith(prefix)}
    if model is None or not own:
        return None
    fields = {columns[at]: path for at, path in own.items()}
    hydrator: Hydrator[Any] = Hydrator(model, schema, tuple(fields), fields)
    return _NestedHydrator(field.name, hydrator, tuple(own), optional=field.optional)


def _path(ref: Ref) -> str:
    """Name a field behind keys, as in ``customer_id.name``; nothing for one of a single child."""
    if ref.via is None:
        return ref.name
    before = "" if ref.via.mapper else _path(ref.via.key)
    return before and f"{before}.{ref.name}"

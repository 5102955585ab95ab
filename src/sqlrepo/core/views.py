"""Views: read models that nest rows of other tables, planned once and read by few statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from keyword import iskeyword
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast, get_args

from sqlrepo.core.aggregates import Found
from sqlrepo.core.definition import RepositoryConfig
from sqlrepo.core.related import all_kinds
from sqlrepo.core.scope import ScopedDriver
from sqlrepo.core.selection import condition, key_chunks
from sqlrepo.driver import Condition, Driver, Fetch, Group, Lock, Measure
from sqlrepo.errors import MappingError, QueryError, nearest
from sqlrepo.language.criteria import Criterion, Exists, as_criterion, map_leaves, matches_all
from sqlrepo.language.entities import (
    NO_ENTITY,
    EntityField,
    ValueOfPart,
    child_class,
    collection_of,
    describe,
    is_entity,
    is_validating_model,
    value_object,
)
from sqlrepo.language.fields import Sort, fields
from sqlrepo.language.query import Where
from sqlrepo.language.values import Kind, ValueType
from sqlrepo.tables.mapper import Hydrator, Mapper
from sqlrepo.tables.parts import Part, conditions_of
from sqlrepo.tables.schema import Row, Schema, TableName

if TYPE_CHECKING:
    from sqlrepo.core.reading import Readable

Repository: TypeAlias = type[RepositoryConfig[Any]]
AnyMapper: TypeAlias = Mapper[Any]
Names: TypeAlias = tuple[str, ...]  # of columns


# -- plans


class Through(NamedTuple):
    """The association table of a many-to-many relation."""

    mapper: AnyMapper
    near: Names  # its columns that refer to the rows of the view
    far: Names  # and to the nested rows


class Relation(NamedTuple):
    """How the rows of a view lead to those of another table: by equal values of some columns."""

    near: Names
    mapper: AnyMapper  # of the other table
    far: Names
    many: bool
    certain: bool  # each row leads to one, unless a scope hides it
    sort: tuple[Sort, ...] = ()
    through: Through | None = None
    part: Part | None = None

    @property
    def mappers(self) -> list[AnyMapper]:
        """The tables whose scopes hide rows; a part has its aggregate's."""
        if self.part is not None:
            return []
        return [self.mapper] if self.through is None else [self.mapper, self.through.mapper]


class Nested(NamedTuple):
    """A field of a view that holds views of related rows."""

    name: str
    near: Names
    relation: Relation
    plan: Plan
    collect: Callable[[Iterable[Any]], Any] | None  # None for a single row
    optional: bool

    def gather(self, children: list[Any]) -> Any:
        """Return what the field holds."""
        if self.collect is not None:
            plain = self.relation.part is not None and self.relation.part.plain
            return self.collect(child.value for child in children) if plain else self.collect(children)
        if not (children or self.optional):
            table = self.relation.mapper.schema.name
            raise MappingError(f"a row refers to no row of table {table}, but {self.name!r} of its view cannot be None")
        return children[0] if children else None


class Fold(NamedTuple):
    """A field of a view that counts related rows, or folds a column of theirs."""

    name: str
    near: Names
    relation: Relation
    measure: Measure
    nothing: int | None  # where there are no rows


class Flag(NamedTuple):
    """A field of a view that tells whether a row matches."""

    name: str
    near: Names
    where: Where
    nothing: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one view is read from one table."""

    mapper: AnyMapper
    columns: Names
    build: Hydrator[Any]
    more: tuple[Nested | Fold | Flag, ...]  # what takes statements of its own

    def walk(self) -> Iterator[tuple[AnyMapper, Nested | Fold | Flag]]:
        """Yield all fields that take statements, with the table whose row has them."""
        for one in self.more:
            yield self.mapper, one
            if isinstance(one, Nested):
                yield from one.plan.walk()

    def read(self, names: Sequence[str], rows: Iterable[Row]) -> list[Row]:
        """Return some columns of rows."""
        places = [self.columns.index(name) for name in names]
        return list(map(itemgetter(*places), rows)) if len(places) > 1 else [(row[places[0]],) for row in rows]


class _Planner:
    """Makes the plans of views for the repositories of one unit."""

    def __init__(self, repositories: Sequence[Repository]) -> None:
        self._repositories = {one.definition().schema.full_name: one for one in reversed(repositories)}

    def plan(self, mapper: AnyMapper, view: Any, extra: Iterable[str] = (), within: tuple[type, ...] = ()) -> Plan:
        if not is_entity(view):
            raise QueryError(f"into= takes an entity class; {view!r} is {NO_ENTITY}")
        if view in within:
            raise QueryError(f"{' nests '.join(one.__name__ for one in (*within, view))}, and so on without end")
        own: list[str] = []
        more: list[Nested | Fold | Flag] = []
        for name, field in describe(view).items():
            try:
                columns = [] if name in self._references(mapper) else _own_columns(mapper, field)
                own += columns
                if not columns:
                    more.append(self._read(mapper, view, field, within))
            except QueryError as error:
                raise QueryError(f"{view.__name__}.{name}: {error}") from None
        selected = tuple(dict.fromkeys(chain(own, *(one.near for one in more), extra)))
        return Plan(mapper, selected, mapper.make_hydrator(view, selected), tuple(more))

    def _read(self, mapper: AnyMapper, view: Any, field: EntityField, within: tuple[type, ...]) -> Nested | Fold | Flag:
        """Find out what a field holds that has no column."""
        name = field.name
        marks = view.model_fields[name].metadata if is_validating_model(view) else get_args(field.annotation)[1:]
        if (mark := next((one for one in marks if isinstance(one, Where)), None)) is not None:
            return Flag(name, mapper.require_key().schema.key, mark)
        prefix, _, rest = name.partition("__")
        if (relation := self._relation(mapper, prefix)) is not None:
            return _fold(relation, field, rest) if rest else self._nest(relation, view, field, within)
        known = {*mapper.names, *mapper.links, *_relationships(mapper.schema), *self._references(mapper)}
        raise QueryError(
            f"{mapper.entity.__name__} has no field {name!r}{nearest(name, sorted(known))}; a view names fields and "
            "parts of the entity, relationships of the mapped class, and what a foreign key refers to: by the column "
            f"{name}_id, or by another that `references` of the repository names"
        )

    def _nest(self, relation: Relation, view: Any, field: EntityField, within: tuple[type, ...]) -> Nested:
        collection, plain = collection_of(field.annotation), relation.part is not None and relation.part.plain
        child = child_class(view, field.name) if collection else value_object(field.annotation)
        if child is None or relation.many is (collection is None) or plain is not issubclass(child, ValueOfPart):
            many = f"list, tuple, set or frozenset of {'plain values' if plain else 'views'}"
            needed = many if relation.many else "view, or a view | None"
            raise QueryError(f"is annotated {field.annotation}, but needs a {needed}")
        if not (relation.many or field.optional):
            self._require_certain(relation, child)
        sorted_by = (one.ref.name for one in relation.sort) if relation.through else ()
        plan = self.plan(relation.mapper, child, (*relation.far, *sorted_by), (*within, view))
        return Nested(field.name, relation.near, relation, plan, collection and collection[0], field.optional)

    def _require_certain(self, relation: Relation, child: type) -> None:
        """Refuse a field that cannot be None, where there may be no row, or a scope may hide it."""
        repository = self._repositories.get(relation.mapper.schema.full_name, RepositoryConfig)
        scoped = relation.part is None and repository.scope is not RepositoryConfig.scope
        if scoped or not relation.certain:
            why = f"the scope of {repository.__name__} may hide the row" if scoped else "there may be no row"
            raise QueryError(f"cannot be None, but {why}; annotate {child.__name__} | None")

    # -- relations

    def _references(self, mapper: AnyMapper) -> Mapping[str, str]:
        return self._repositories.get(mapper.schema.full_name, RepositoryConfig).references

    def _relation(self, mapper: AnyMapper, name: str) -> Relation | None:
        if (part := mapper.links.get(name)) is not None:
            return _of_part(part, certain=not describe(mapper.entity)[name].optional)
        known = {} if name in self._references(mapper) else _relationships(mapper.schema)
        return self._of_relationship(mapper, known[name]) if name in known else self._of_key(mapper, name)

    def _of_relationship(self, mapper: AnyMapper, given: Any) -> Relation:
        """Read a relationship of a mapped class."""
        far, joins = self._mapper_of(given.mapper.class_), (given.primaryjoin, given.secondaryjoin)
        if sum(1 for one in joins if one is not None for _ in conditions_of(one)) != len(given.local_remote_pairs):
            raise QueryError(
                f"the join of relationship {given.key!r} says more than its foreign key, so it cannot be nested; nest "
                "one without conditions, or give the table a repository with a scope"
            )
        first = list(_sorts(given, far))
        order = (*first, *(one for one in far.key_order if one.ref not in {each.ref for each in first}))
        if given.secondary is None:
            pairs = given.local_remote_pairs
            near, remote = _names(mapper, (one for one, _ in pairs)), _names(far, (one for _, one in pairs))
            to_one = given.direction.name == "MANYTOONE"
            if not (to_one or given.uselist or {*remote} in [{*one.columns} for one in far.schema.constraints]):
                raise QueryError(f"several rows may follow relationship {given.key!r}: no unique constraint forbids it")
            return Relation(near, far, remote, given.uselist, to_one and not {*near} & mapper.schema.nullable, order)
        middle, pairs = self._mapper_of(given.secondary), given.synchronize_pairs
        others = given.secondary_synchronize_pairs
        near, remote = _names(mapper, (one for one, _ in pairs)), _names(far, (one for one, _ in others))
        through = Through(middle, _names(middle, (one for _, one in pairs)), _names(middle, (one for _, one in others)))
        return Relation(near, far, remote, given.uselist, False, order, through)

    def _of_key(self, mapper: AnyMapper, name: str) -> Relation | None:
        """Read a foreign key: of the column ``<name>_id``, unless `references` names another."""
        given, schema = self._references(mapper).get(name, f"{name}_id"), mapper.schema
        column = mapper.column(given).name if given in mapper.names else given
        keys = sorted((one for one in schema.foreign_keys if column in one.columns), key=lambda one: len(one.columns))
        if not keys:
            if name in self._references(mapper):
                raise QueryError(f"`references` names {given!r}, which is no foreign key of table {schema.name}")
            return None
        far = self._mapper_at(schema, keys[0].table)
        names = {one.column or one.name: one.name for one in far.schema.columns}
        targets = tuple(names[target] for target in keys[0].targets)
        return Relation(keys[0].columns, far, targets, False, not {*keys[0].columns} & schema.nullable)

    def _mapper_at(self, schema: Schema, table: TableName) -> AnyMapper:
        """Return the mapper of a table that another refers to."""
        if table in self._repositories:
            return self._repositories[table].definition().mapper
        from sqlrepo.tables.reflection import model_of

        return self._mapper_of(model_of(schema, table))

    def _mapper_of(self, model: Any) -> AnyMapper:
        """Return the mapper of a mapped class or Table."""
        from sqlrepo.tables.reflection import schema_of

        schema = schema_of(model)
        if (repository := self._repositories.get(schema.full_name)) is not None:
            return repository.definition().mapper
        elsewhere = (one.definition().schema for one in all_kinds() if one.model is model)  # as memory knows the table
        return _bare_mapper(next(elsewhere, schema))


def _own_columns(mapper: AnyMapper, field: EntityField) -> list[str]:
    """Return the columns of a field, or of what a view names of a value object; none if it is kept elsewhere."""
    name, nested = field.name, value_object(field.annotation)
    if name in mapper.names:
        return [mapper.column(name).name]
    if any(path.startswith(f"{name}.") for path in mapper.names):
        if nested is None or field.optional:  # which is None where all its columns are NULL
            return [column.name for column in mapper.columns(name)]
        inner = (replace(one, name=f"{name}.{one.name}") for one in describe(nested).values())
        return [column for one in inner for column in _own_columns(mapper, one)]
    if "." in name:
        mapper.column(name)  # which raises
    free = name in mapper.schema.by_name and not mapper.has_field(name) and name not in mapper.schema.unknown
    return [name] if free else []


def _of_part(part: Part, *, certain: bool) -> Relation:
    between = part.through
    through = None if between is None else Through(between.mapper, between.owner, part.targets)
    near = part.targets if between is None else between.targets
    return Relation(near, part.mapper, part.owner, not part.single, certain, part.sort, through, part)


def _fold(relation: Relation, view: EntityField, rest: str) -> Fold:
    """Read the name of a count or fold, which follows the relation's and ``__``."""
    field, _, function = ("", "", rest) if rest == "count" else rest.rpartition("_")
    if function not in ("count", "sum", "min", "max") or bool(field) is (rest == "count"):
        raise QueryError("a view counts by __count, and folds by __<field>_sum, _min, _max or _count")
    column = relation.mapper.column(field.rstrip("_")) if field else None
    if column is not None and not _fits(function, column.type):
        raise QueryError(f"{function} does not fit {field!r}, whose column holds {column.type.kind.value}")
    if relation.through is None:
        ref = None if column is None else relation.mapper.ref(column.name)
        if function != "count" and not view.optional:
            raise QueryError("may be None, because there may be no rows; add `| None` to its type")
        measure, nothing = Measure(cast(Any, function), ref), 0 if function == "count" else None
        return Fold(view.name, relation.near, relation, measure, nothing)
    if field or len(relation.through.far) > 1:
        raise QueryError("only __count fits what an association table leads to, by a key of one column")
    far = relation.through.mapper.ref(*relation.through.far)
    return Fold(view.name, relation.near, relation, Measure("count_distinct", far), 0)


def _fits(function: str, type_: ValueType) -> bool:
    """Return True if all databases fold values of a type alike."""
    if function == "sum":
        return type_.kind in (Kind.INTEGER, Kind.DECIMAL) and type_.plain
    return type_.kind.ordered and (function == "count" or type_.kind is not Kind.BOOLEAN)


def _relationships(schema: Schema) -> Mapping[str, Any]:
    """Return the relationships of a mapped class by name, which configures all mappers."""
    mapper = getattr(schema.model, "__mapper__", None)
    return {} if mapper is None else dict(mapper.relationships.items())


def _names(mapper: AnyMapper, columns: Iterable[Any]) -> Names:
    """Return the names of a table's columns in its schema."""
    from sqlrepo.tables.reflection import sql_columns

    names, given = {column: name for name, column in sql_columns(mapper.schema).items()}, list(columns)
    if not {*given} <= names.keys():
        raise QueryError(f"a relationship joins or orders by more than columns of table {mapper.schema.name}")
    return tuple(names[column] for column in given)


def _sorts(relationship: Any, mapper: AnyMapper) -> Iterator[Sort]:
    """Read the ``order_by`` of a relationship."""
    for one in relationship.order_by or ():
        how = getattr(getattr(one, "modifier", None), "__name__", "asc_op")
        (name,) = _names(mapper, [getattr(one, "element", one) if how in ("asc_op", "desc_op") else one])
        yield Sort(mapper.ref(name), how == "desc_op")


@lru_cache(maxsize=1024)
def _bare_mapper(schema: Schema) -> AnyMapper:
    """Return the mapper of a table that the unit has no repository of; its fields are the columns."""
    named = {one.name: one.type.python for one in schema.columns if one.name not in schema.unknown}
    usable = [(name, python) for name, python in named.items() if name.isidentifier() and not iskeyword(name)]
    return Mapper(make_dataclass(schema.name, usable), schema, {}, custom_load=True, custom_dump=True)


@lru_cache(maxsize=1024)
def _plan(repositories: Any, view: Any) -> Plan:
    return _Planner(repositories).plan(repositories[0].definition().mapper, view)


# -- reading


class View:
    """A view as one call reads it: scopes and flags are evaluated before any statement."""

    def __init__(self, repository: Readable[Any, Any], view: type, names: Iterable[str]) -> None:
        relations = repository._relations
        kinds: Any = tuple(relations.kinds)
        self._plan = _plan(kinds, view)
        self._scopes: dict[TableName, Criterion] = {}
        self._flags: dict[tuple[AnyMapper, Flag], Condition] = {}
        self.columns = tuple(dict.fromkeys((*self._plan.columns, *names)))  # those that the call needs come last
        self.build = self._plan.build
        for mapper, one in self._plan.walk():
            if isinstance(one, Flag):
                given = as_criterion(one.where.criterion(fields(mapper.entity), repository.context))
                self._flags[mapper, one] = condition(
                    map_leaves(given, partial(mapper.bind, relations=lambda: relations))
                )
                continue
            for schema in (each.schema for each in one.relation.mappers):
                if schema.full_name not in self._scopes:
                    repository._work.register_table(schema)
                    self._scopes[schema.full_name] = relations.scope_of(schema)

    def load(self, driver: Driver, rows: list[Row], lock: Lock | None = None) -> Found:
        """Read what a view nests: one statement for each relation, count and flag, and 500 keys."""
        return self._load(driver.beneath if isinstance(driver, ScopedDriver) else driver, self._plan, rows, lock)

    def _load(self, driver: Driver, plan: Plan, rows: list[Row], lock: Lock | None) -> Found:
        read: dict[str, list[Any]] = {}
        for one in plan.more if rows else ():
            owners = plan.read(one.near, rows)
            keys = [key for key in dict.fromkeys(owners) if None not in key]
            if isinstance(one, Nested):
                found = self._nest(driver, one, keys, lock)
                read[one.name] = [one.gather(found.get(owner, [])) for owner in owners]
            else:
                folded = (
                    self._fold(driver, one, keys) if isinstance(one, Fold) else self._match(driver, plan, one, keys)
                )
                read[one.name] = [folded.get(owner, one.nothing) for owner in owners]
        return Found(rows, [dict(zip(read, each, strict=True)) for each in zip(*read.values(), strict=True)])

    def _nest(self, driver: Driver, one: Nested, keys: list[Row], lock: Lock | None) -> dict[Row, list[Any]]:
        """Read the views that a field holds, by the values of the near columns."""
        relation, inner = one.relation, one.plan
        lock = "update" if lock and relation.part else None
        owners: dict[Row, dict[Row, None]] = {}  # by what the association table leads to
        if (middle := relation.through) is not None:
            request = Fetch((*middle.far, *middle.near), self._where(relation, middle.mapper), lock=lock)
            for pair in _fetch(driver, middle.mapper, middle.near, keys, request):
                owners.setdefault(pair[: len(middle.far)], {})[pair[len(middle.far) :]] = None
            keys = [key for key in owners if None not in key]
        order = relation.sort if middle is None else ()  # which several statements cannot give
        request = Fetch(inner.columns, self._where(relation, relation.mapper), order, lock=lock)
        rows = _fetch(driver, relation.mapper, relation.far, keys, request)
        if middle is not None:
            rows = _sorted(inner, relation.sort, rows)
        found: dict[Row, list[Any]] = {}
        built = inner.build(*self._load(driver, inner, rows, lock))
        for key, child in zip(inner.read(relation.far, rows), built, strict=True):
            for owner in (key,) if middle is None else owners[key]:
                found.setdefault(owner, []).append(child)
        return found

    def _fold(self, driver: Driver, one: Fold, keys: list[Row]) -> dict[Row, Any]:
        """Count or fold related rows, by the values of the near columns."""
        relation = one.relation
        mapper, names, _ = relation.through or (relation.mapper, relation.far, None)
        group, where = Group(tuple(map(mapper.ref, names)), (one.measure,)), self._where(relation, mapper)
        if relation.through is not None and relation.part is None:  # which lead to rows within their scope
            scope, near = self._scopes[relation.mapper.schema.full_name], tuple(map(mapper.ref, relation.through.far))
            far = tuple(map(relation.mapper.ref, relation.far))
            leads = Exists(near[0], scope, near=near, far=far, mapper=relation.mapper)
            where = where if matches_all(scope) else where.and_also(condition(leads))
        chunks = (condition(chunk).and_also(where) for chunk in key_chunks(mapper, keys, names))
        rows = (driver.group(mapper.schema, replace(group, where=chunk)) for chunk in chunks)
        return {row[:-1]: row[-1] for row in chain.from_iterable(rows)}

    def _match(self, driver: Driver, plan: Plan, one: Flag, keys: list[Row]) -> dict[Row, Any]:
        """Find the rows that match, by key."""
        request = Fetch(one.near, self._flags[plan.mapper, one])
        return dict.fromkeys(_fetch(driver, plan.mapper, one.near, keys, request), True)

    def _where(self, relation: Relation, mapper: AnyMapper) -> Condition:
        return Condition() if relation.part else condition(self._scopes[mapper.schema.full_name])


def _fetch(driver: Driver, mapper: AnyMapper, names: Names, keys: Sequence[Row], request: Fetch) -> list[Row]:
    """Read the rows that have some keys, in chunks small enough for one statement each."""
    chunks = (condition(chunk).and_also(request.where) for chunk in key_chunks(mapper, keys, names))
    return [row for chunk in chunks for row in driver.fetch(mapper.schema, replace(request, where=chunk))]


def _sorted(plan: Plan, order: Sequence[Sort], rows: list[Row]) -> list[Row]:
    """Sort rows as databases do: NULL is smaller than every value."""

    def key_of(sort: Sort) -> Callable[[Row], Any]:
        place, store = plan.columns.index(sort.ref.name), plan.mapper.schema.by_name[sort.ref.name].type.store
        return lambda row: (False, None) if row[place] is None else (True, store(row[place]))

    for sort in reversed(order):
        rows = sorted(rows, key=key_of(sort), reverse=sort.descending)
    return rows

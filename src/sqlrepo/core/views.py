"""Views: read models that nest rows of other tables, planned once and read by few statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from functools import lru_cache, partial
from itertools import chain
from keyword import iskeyword
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, cast, get_args

from sqlrepo.core.aggregates import Found
from sqlrepo.core.definition import SCOPED, RepositoryConfig
from sqlrepo.core.related import Call, all_kinds
from sqlrepo.core.scope import ScopedDriver
from sqlrepo.core.selection import Literals, condition, key_chunks
from sqlrepo.core.summaries import check_sums
from sqlrepo.driver import Driver, Fetch, Lock, Lookup, Measure
from sqlrepo.errors import MappingError, QueryError, nearest
from sqlrepo.language.criteria import (
    Criterion,
    Exists,
    Leaf,
    Ref,
    Via,
    all_of,
    map_leaves,
    map_refs,
    matches_all,
)
from sqlrepo.language.entities import (
    EntityField,
    ValueOfPart,
    child_class,
    collection_of,
    describe,
    is_validating_model,
    require_entity,
    value_object,
)
from sqlrepo.language.fields import Sort
from sqlrepo.language.query import Where
from sqlrepo.language.values import Kind, ValueType
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.parts import Part, conditions_of
from sqlrepo.tables.schema import Row, Schema, TableName

Repository: TypeAlias = type[RepositoryConfig[Any]]
AnyMapper: TypeAlias = Mapper[Any]
Names: TypeAlias = tuple[str, ...]  # of columns
Build: TypeAlias = Callable[[Sequence[Row], Sequence[Mapping[str, Any]]], list[Any]]


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
        """The tables whose scopes hide rows."""
        return [self.mapper] if self.through is None else [self.mapper, self.through.mapper]


class Nested(NamedTuple):
    """A field of a view that holds views of related rows.

    Those behind an association table are one step further: each of its rows has, as a field, a list of pairs, of the
    place in the order of a row behind it and the view of that row.
    """

    name: str
    near: Names
    relation: Relation
    plan: Plan
    collect: Callable[[Iterable[Any]], Any] | None = None  # None for a single row
    optional: bool = True
    ranked: bool = False  # behind an association table

    @property
    def inline(self) -> bool:
        """True if the statement of the rows around reads it, by a unique key."""
        relation = self.relation
        if relation.many or relation.part is not None or len(relation.far) > 1:
            return False
        return relation.mapper.schema.is_unique(*relation.far)

    def gather(self, found: Mapping[Row, list[Any]], keys: list[Row]) -> list[Any]:
        """Return what the field holds of each row, from the views by what leads to them."""
        if self.collect is not None:
            return [self.collect(found.get(key, ())) for key in keys]
        if not (self.optional or found.keys() >= {*keys}):
            table = self.relation.mapper.schema.name
            raise MappingError(f"a row refers to no row of table {table}, but {self.name!r} of its view cannot be None")
        return [found[key][0] if key in found else None for key in keys]


class Fold(NamedTuple):
    """A field of a view that counts related rows, or folds a column of theirs."""

    name: str
    near: Names
    relation: Relation
    measure: Measure


class Flag(NamedTuple):
    """A field of a view that tells whether a row matches."""

    name: str
    near: Names
    where: Where
    view: type


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one view is read from one table."""

    mapper: AnyMapper
    columns: Names
    build: Build
    more: tuple[Nested | Fold | Flag, ...]  # what the table's columns do not hold

    def walk(self) -> Iterator[tuple[AnyMapper, Nested | Fold | Flag]]:
        """Yield all fields that columns do not hold, with the table whose row has them."""
        for one in self.more:
            yield self.mapper, one
            if isinstance(one, Nested):
                yield from one.plan.walk()

    @property
    def width(self) -> int:
        """The number of values that a row has."""
        return len(self.columns) + self.looked_up

    @property
    def looked_up(self) -> int:
        """The number of them that follow the columns."""
        return sum(one.plan.width * one.inline if isinstance(one, Nested) else 1 for one in self.more)

    def read(self, names: Sequence[str], rows: Iterable[Row]) -> list[Row]:
        """Return some columns of rows."""
        places = [self.columns.index(name) for name in names]
        return list(map(itemgetter(*places), rows)) if len(places) > 1 else [(row[places[0]],) for row in rows]


class _Planner:
    """Makes the plans of views for the repositories of one unit."""

    def __init__(self, repositories: Sequence[Repository]) -> None:
        self._repositories = {one.definition().schema.full_name: one for one in reversed(repositories)}
        self._scoped = {one.definition().schema.full_name: one for one in repositories if one in SCOPED}

    def plan(self, mapper: AnyMapper, view: Any, extra: Iterable[str] = (), within: tuple[type, ...] = ()) -> Plan:
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
        selected = tuple(dict.fromkeys(chain(own, *(one.near for one in more), extra))) or mapper.selected[:1]
        return Plan(mapper, selected, mapper.make_hydrator(view, selected), tuple(more))

    def _read(self, mapper: AnyMapper, view: Any, field: EntityField, within: tuple[type, ...]) -> Nested | Fold | Flag:
        """Find out what a field holds that has no column."""
        name = field.name
        marks = view.model_fields[name].metadata if is_validating_model(view) else get_args(field.annotation)[1:]
        if (mark := next((one for one in marks if isinstance(one, Where)), None)) is not None:
            return Flag(name, mapper.require_key().schema.key, mark, view)
        prefix, _, rest = name.partition("__")
        if (relation := self._relation(mapper, prefix)) is not None:
            return _fold(relation, field, rest) if rest else self._nest(relation, view, field, within)
        known = {*mapper.names, *mapper.links, *_relationships(mapper.schema), *self._references(mapper)}
        raise QueryError(
            f"{mapper.entity.__name__} has no field {prefix!r}{nearest(prefix, known)} (a view names fields and parts "
            "of the entity, relationships of the mapped class, and what a foreign key refers to: by the column "
            f"{prefix}_id, or by another that `references` of the repository names)"
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
        through, within = relation.through, (*within, view)
        collect: Callable[[Iterable[Any]], Any] | None = collection and collection[0]
        if collect is not None and plain:
            collect = partial(_collect_values, collect)
        if through is None:
            plan = self.plan(relation.mapper, child, relation.far, within)
            return Nested(field.name, relation.near, relation, plan, collect, field.optional)
        behind = self.plan(relation.mapper, child, (*relation.far, *(one.ref.name for one in relation.sort)), within)
        far = relation._replace(near=through.far, many=False, through=None)

        def build(rows: Sequence[Row], parts: Sequence[Mapping[str, Any]]) -> list[Any]:
            return list(zip(_ranks(behind, relation.sort, rows), behind.build(rows, parts), strict=True))

        plan = Plan(
            through.mapper,
            (*through.near, *through.far),
            lambda _, parts: [each[""] for each in parts],
            (Nested("", through.far, far, replace(behind, build=build), list),),
        )
        near = relation._replace(mapper=through.mapper, far=through.near, sort=(), through=None)
        return Nested(field.name, near.near, near, plan, collect, field.optional, ranked=True)

    def _require_certain(self, relation: Relation, child: type) -> None:
        """Refuse a field that cannot be None, where there may be no row, or a scope may hide it."""
        scoped = self._scoped.get(relation.mapper.schema.full_name)
        if scoped or not relation.certain:
            why = f"the scope of {scoped.__name__} may hide the row" if scoped else "there may be no row"
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
            _require_single(given, to_one or far.schema.is_unique(*remote))
            return Relation(near, far, remote, given.uselist, to_one and not {*near} & mapper.schema.nullable, order)
        middle, pairs = self._mapper_of(given.secondary), given.synchronize_pairs
        others = given.secondary_synchronize_pairs
        near, remote = _names(mapper, (one for one, _ in pairs)), _names(far, (one for one, _ in others))
        through = Through(middle, _names(middle, (one for _, one in pairs)), _names(middle, (one for _, one in others)))
        _require_single(given, middle.schema.is_unique(*through.near) and far.schema.is_unique(*remote))
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
        measure = Measure(cast(Any, function), ref)
        return Fold(view.name, relation.near, relation, measure)
    if field or len(relation.through.far) > 1:
        raise QueryError("only __count fits what an association table leads to, by a key of one column")
    far = relation.through.mapper.ref(*relation.through.far)
    return Fold(view.name, relation.near, relation, Measure("count_distinct", far))


def _fits(function: str, type_: ValueType) -> bool:
    """Return True if all databases fold values of a type alike."""
    if function == "sum":
        return type_.kind in (Kind.INTEGER, Kind.DECIMAL) and type_.plain
    return type_.kind.ordered and (function == "count" or type_.kind is not Kind.BOOLEAN)


def _relationships(schema: Schema) -> Mapping[str, Any]:
    """Return the relationships of a mapped class by name, which configures all mappers."""
    mapper = getattr(schema.model, "__mapper__", None)
    return {} if mapper is None else dict(mapper.relationships.items())


def _require_single(relationship: Any, unique: bool) -> None:
    if not (relationship.uselist or unique):
        why = "no unique constraint forbids it"
        raise QueryError(f"several rows may follow relationship {relationship.key!r}: {why}")


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

    def __init__(self, call: Call, view: type, names: Iterable[str] = ()) -> None:
        repository = call.repository
        require_entity(view, "into= takes the class of a view")
        self._plan = _plan(tuple(call.kinds), view)
        self._scopes: dict[TableName, Criterion] = {}
        self._flags: dict[tuple[AnyMapper, Flag], Criterion] = {}
        self.columns = tuple(dict.fromkeys((*self._plan.columns, *names)))  # those that the call needs come last
        self.build = self._plan.build
        for mapper, one in self._plan.walk():
            if isinstance(one, Flag):
                given = one.where.make(one.view, one.name, mapper.entity, repository.context)
                self._flags[mapper, one] = map_leaves(given, partial(mapper.bind, relations=lambda: call))
                continue
            for schema in (each.schema for each in one.relation.mappers):
                if schema.full_name not in self._scopes:
                    repository._work.register_table(schema)
                    self._scopes[schema.full_name] = call.scope_of(schema)

    def extend(self, request: Fetch) -> Fetch:
        """Let the statement of the rows read what single rows elsewhere hold, counts, folds and flags."""
        return self._extend(self._plan, request)

    def load(self, driver: Driver, rows: list[Row], lock: Lock | None = None) -> Found:
        """Read what else a view nests: one statement for each relation, and 500 keys."""
        return self._load(driver.beneath if isinstance(driver, ScopedDriver) else driver, self._plan, rows, lock)

    def _load(self, driver: Driver, plan: Plan, rows: list[Row], lock: Lock | None) -> Found:
        read: dict[str, list[Any]] = {}
        at = len(rows[0]) - plan.looked_up if rows else 0
        for one in plan.more if rows else ():
            if not isinstance(one, Nested):
                read[one.name], at = check_sums(one.name, [row[at] for row in rows]), at + 1
                continue
            if one.inline:
                end = at + one.plan.width
                inner, at = [row[at:end] for row in rows], end
                keys = one.plan.read(one.relation.far, inner)
                inner = [row for key, row in dict(zip(keys, inner, strict=True)).items() if None not in key]
            else:
                keys = plan.read(one.near, rows)
                inner = self._fetch(driver, one, [key for key in dict.fromkeys(keys) if None not in key], lock)
            found = self._build(driver, one, inner, lock)
            read[one.name] = one.gather(found, keys)
        return Found(rows, [dict(zip(read, each, strict=True)) for each in zip(*read.values(), strict=True)])

    def _fetch(self, driver: Driver, one: Nested, keys: Sequence[Row], lock: Lock | None) -> list[Row]:
        """Read the rows that a field's key leads to, in chunks small enough for one statement each."""
        relation, mapper = one.relation, one.relation.mapper
        lock = "update" if lock and relation.part else None
        scope, rows = condition(self._scope(mapper)), list[Row]()
        for chunk in key_chunks(mapper, keys, relation.far):
            request = Fetch(one.plan.columns, condition(chunk).and_also(scope), relation.sort, lock=lock)
            rows += driver.fetch(mapper.schema, self._extend(one.plan, request))
        return rows

    def _build(self, driver: Driver, one: Nested, rows: list[Row], lock: Lock | None) -> dict[Row, list[Any]]:
        """Build the views of rows, by what leads to them; an association may hold a pair twice."""
        built = one.plan.build(*self._load(driver, one.plan, rows, lock))
        views: Iterable[tuple[Row, Any]] = zip(one.plan.read(one.relation.far, rows), built, strict=True)
        if one.ranked:
            ranked = {(rank, key): view for key, pairs in views for rank, view in pairs}
            views = ((key, ranked[rank, key]) for rank, key in sorted(ranked, key=itemgetter(0)))
        found: dict[Row, list[Any]] = {}
        for key, view in views:
            found.setdefault(key, []).append(view)
        return found

    # -- what a statement reads beside columns

    def _extend(self, plan: Plan, request: Fetch) -> Fetch:
        literals = Literals(request.where.params)
        lookups = (*request.lookups, *self._lookups(plan, literals))
        return replace(request, where=replace(request.where, params=literals.params), lookups=lookups)

    def _lookups(self, plan: Plan, literals: Literals, via: Via | None = None) -> Iterator[Lookup]:
        """Yield the values that follow the columns of a row, or all those of one that ``via`` leads to."""
        yield from () if via is None else (replace(plan.mapper.ref(name), via=via) for name in plan.columns)
        for one in plan.more:
            if isinstance(one, Flag):
                yield _behind(via, literals.add(self._flags[plan.mapper, one]))
            elif isinstance(one, Fold):
                yield one.measure._replace(of=cast(Exists, _behind(via, literals.add(self._related(plan, one)))))
            elif one.inline:
                key = replace(plan.mapper.ref(*one.near), via=via)
                yield from self._lookups(one.plan, literals, self._way(one, key, literals))

    def _way(self, one: Nested, key: Ref, literals: Literals) -> Via:
        mapper = one.relation.mapper
        scope = literals.add(self._scope(mapper))
        return Via(key, mapper, one.relation.far[0], None if matches_all(scope) else scope)

    def _related(self, plan: Plan, one: Fold) -> Exists:
        """Return what related rows a count or fold is of."""
        relation = one.relation
        mapper, names, leads = relation.through or (relation.mapper, relation.far, ())
        where = [self._scope(mapper)]
        scope = self._scope(relation.mapper)
        if leads and not (relation.part and matches_all(scope)):  # to rows within their scope
            where.append(_exists(mapper, leads, relation.mapper, relation.far, scope))
        return _exists(plan.mapper, one.near, mapper, names, all_of(where))

    def _scope(self, mapper: AnyMapper) -> Criterion:
        return self._scopes[mapper.schema.full_name]


def _exists(mapper: AnyMapper, near: Names, other: AnyMapper, far: Names, where: Criterion) -> Exists:
    refs = tuple(map(mapper.ref, near))
    return Exists(refs[0], where, near=refs, far=tuple(map(other.ref, far)), mapper=other)


def _behind(via: Via | None, criterion: Criterion) -> Criterion:
    """Let a criterion speak of the row behind a key."""

    def start(ref: Ref) -> Ref:
        return replace(ref, via=via if ref.via is None else replace(ref.via, key=start(ref.via.key)))

    def change(leaf: Leaf) -> Leaf:
        if isinstance(leaf, Exists):
            return replace(leaf, near=tuple(map(start, leaf.near)))
        return map_refs(leaf, start)

    return criterion if via is None else map_leaves(criterion, change)


def _collect_values(collect: Callable[[Iterable[Any]], Any], children: Iterable[Any]) -> Any:
    return collect(child.value for child in children)


def _ranks(plan: Plan, order: Sequence[Sort], rows: Sequence[Row]) -> list[int]:
    """Return the place of each row in an order, as databases sort: NULL is smaller than every value."""

    def key_of(sort: Sort) -> Callable[[int], Any]:
        place, store = plan.columns.index(sort.ref.name), plan.mapper.schema.by_name[sort.ref.name].type.store
        return lambda at: (False, None) if (value := rows[at][place]) is None else (True, store(value))

    found = list(range(len(rows)))
    for sort in reversed(order):
        found.sort(key=key_of(sort), reverse=sort.descending)
    return sorted(found, key=found.__getitem__)

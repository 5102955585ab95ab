"""Generates programs: queries, calls, and units of work with savepoints, rollbacks and concurrent units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Literal, TypeAlias, get_args, get_origin

from sqlrepo import QueryObject
from sqlrepo.memory import Kind
from sqlrepo.testing.subject import FieldInfo
from sqlrepo.testing.twins.elsewhere import Elsewhere, Made, view
from sqlrepo.testing.twins.model import (
    Call,
    End,
    Ending,
    FieldRef,
    KeyOf,
    New,
    Operation,
    Program,
    Savepoint,
    Scroll,
    Step,
    Table,
    Unit,
    UnitUnderTest,
    alternatives,
    can_construct,
)
from sqlrepo.testing.twins.parts import Attribute, Holds, OfChild, Stored
from sqlrepo.testing.twins.samples import ChildGenerator, Choices, EntityGenerator
from sqlrepo.testing.twins.stores import ALL_DIGITS

# -- queries

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
_EXACT = ("contains", "startswith", "endswith")
_FOLDED = ("icontains", "istartswith", "iendswith", "iequals")
# What may follow a field's name and `__` beside a field of the row that it refers to.
_SUFFIXES = ("eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "between", "is_null", *_EXACT, *_FOLDED)
_DEPTH = 3
_MOST = {"limit": 4, "offset": 3}
_CLOCKS = (Kind.DATE, Kind.DATETIME)
# The generators of the unit's repositories, by their tables, as foreign keys name them.
TableName: TypeAlias = tuple[str | None, str]
Queries: TypeAlias = "dict[TableName, QueryGenerator]"
# What some calls take as an option and others as a field.
_OPTIONS = ("order_by", "limit", "offset", "into", "lock", "set_", "everything", "with_total")


class QueryGenerator:
    """Generates criteria, orders and query objects for one table; those of others know what is asked of their rows."""

    def __init__(self, entities: EntityGenerator, choices: Choices, others: Queries, *, folds: bool) -> None:
        self.table = entities.table
        self._entities = entities
        self._pick = choices
        self._others = others
        # Databases that cannot ignore case as the repository says raise an error.
        self._matches = _EXACT + _FOLDED if folds else _EXACT
        self._named = [field for field in self.table.fields if field.has_operators]
        # How values that differ by side compare with others is known of clocks only, and of these with given moments.
        self._fields = [one for one in self._named if not self._is_made(one) or one.kind in _CLOCKS]
        self.elsewhere = Elsewhere(self.table, choices)
        children = entities.children.items()
        self._children = {name: ChildQueries(one, choices, others, folds=folds) for name, one in children}

    @property
    def _many(self) -> list[str]:
        """The parts that exists() and every() ask about."""
        return [name for name, one in self.table.children.items() if not one.part.single]

    def criterion(self, depth: int = _DEPTH) -> Any:
        """Generate a tree of criteria."""
        form = self._pick.of(("leaf", "leaf", "leaf", "not_", "&", "|")) if depth else "leaf"
        if form == "leaf":
            return self._leaf()
        if form == "not_":
            return Operation(form, (self.criterion(depth - 1),))
        return Operation(form, (self.criterion(depth - 1), self.criterion(depth - 1)))

    def all_operators(self) -> list[Any]:
        """Apply each operator that fits a field, all with the same value."""
        if not self._fields:
            return []
        field = self._pick.of(self._fields)
        value = self._entities.literal(field)
        found = [self._apply(operator, field, value) for operator in _COMPARISONS]
        found += [self._apply(name, field, [value, *null]) for name in ("in_", "not_in") for null in ([], [None])]
        if _is_text(field):
            text = value or ""
            parts = dict.fromkeys((text, text[:1], text[1:]))
            matching = [self._apply(name, field, part) for name in self._matches for part in parts]
            found += [*matching, *(Operation("not_", (one,)) for one in matching[::3])]
        return found

    def equality(self) -> dict[str, Any]:
        """Generate a keyword such as `done=True`."""
        field = self._pick.of(self._fields or self.table.fields)
        if not field.has_operators:
            return {}
        return {field.name: None if self._pick.one_in(6) else self._entities.literal(field)}

    def named_like_options(self) -> list[dict[str, Any]]:
        """Generate a keyword for each field that has the name of an option, such as `limit=2`."""
        return [{one.name: self._entities.literal(one)} for one in self._fields if one.name in _OPTIONS]

    def order(self) -> Any:
        """Generate an order, in one of its spellings."""
        sortable = [field for field in self._fields if field.kind.ordered]
        if not sortable:
            return None
        chosen = self._pick.several(lambda: (self._pick.of(sortable), self._pick.one_in(2)), 3, 1)
        if self._pick.one_in(2):
            return ",".join(f"{'-' if descending else ''}{field.name}" for field, descending in chosen)
        sorts = [self._apply("desc" if descending else "asc", field) for field, descending in chosen]
        return sorts[0] if len(sorts) == 1 else tuple(sorts)

    def query(self, *, limit: bool = False) -> New | None:
        """Generate a query object, with a limit if asked for; None if no class of the user's has one."""
        classes = [one for one in self.table.queries if not limit or "limit" in one.model_fields]
        if not classes:
            return None
        cls = self._pick.of(classes)
        return self._query(cls, lambda name: (limit and name == "limit") or self._pick.one_in(3))

    def each_filter(self) -> list[New]:
        """Use each field of each query object class, alone or beside those that are required."""
        found = [self._query(cls, name.__eq__) for cls in self.table.queries for name in cls.model_fields]
        return [one for one in found if one is not None]

    def _query(self, cls: type[QueryObject[Any]], wanted: Callable[[str], bool]) -> New | None:
        """Generate values for some fields and those that are required, as far as the class accepts them together."""
        fields = cls.model_fields.items()
        chosen = {name: self._filter(cls, name) for name, info in fields if info.is_required() or wanted(name)}
        required = {name: value for name, value in chosen.items() if cls.model_fields[name].is_required()}
        values: dict[str, Any] = {}
        for name, value in {**required, **chosen}.items():
            if can_construct(cls, {**required, **values, name: value}):
                values[name] = value
        return New(cls, values) if can_construct(cls, values) else None

    def projection(self) -> Made:
        """Generate a class with some of the fields."""
        chosen = self._pick.some_of([one.name for one in self.table.own_fields], 3, 1)
        return Made(view, self.table.name, tuple((name, "", ()) for name in dict.fromkeys(chosen)))

    def _is_made(self, field: FieldInfo) -> bool:
        return bool(self.table.made(field.name)) or field.name in self.table.generated_fields

    # -- criteria without parts

    def _ref(self, field: FieldInfo) -> Any:
        return FieldRef(self.table.name, field.name)

    def _apply(self, name: str, field: FieldInfo, *arguments: Any) -> Operation:
        return Operation(name, (self._ref(field), *arguments))

    def _leaf(self) -> Any:
        if self._many and self._pick.one_in(3):
            return self._of_children()
        if self.table.objects and self._pick.one_in(12):
            return Operation("is_null", (self._attribute(self._pick.of(list(self.table.objects))),))
        if not self._fields or self._pick.one_in(12):
            return self._apply("is_null", self._pick.of(self.table.fields))
        field = self._pick.of(self._fields)
        makers: list[Callable[[FieldInfo], Any]]
        makers = [self._comparison, self._comparison, self._membership, self._range, self._field_comparison]
        if _is_text(field):
            makers += [self._match] * 3
        if field.spec.type.kind is Kind.BOOLEAN:
            makers.append(self._ref)
        return self._pick.of(makers)(field)

    def _of_children(self) -> Any:
        """Ask if there are children, if one meets a condition, or if all do."""
        name = self._pick.of(self._many)
        quantifier = self._pick.of(("exists", "exists", "every"))
        condition = Holds(self._children[name].criterion(1))
        plain = quantifier == "exists" and self._pick.one_in(5)
        return Operation(quantifier, (self._attribute(name), *(() if plain else (condition,))))

    def _attribute(self, name: str) -> Any:
        return Attribute(self.table.name, name)

    def _comparison(self, field: FieldInfo) -> Any:
        operator = self._pick.of(_COMPARISONS)
        invalid = self._entities.invalid_literals(field) if self._pick.one_in(24) else []
        if invalid:
            return self._apply(operator, field, self._pick.of(invalid))
        null = operator in ("==", "!=") and self._pick.one_in(6)
        return self._apply(operator, field, None if null else self._entities.literal(field))

    def _membership(self, field: FieldInfo) -> Any:
        values = [*self._literals(field), *([None] if self._pick.one_in(4) else [])]
        return self._apply(self._pick.of(("in_", "not_in")), field, values)

    def _range(self, field: FieldInfo) -> Any:
        return self._apply("between", field, *self._pair(field))

    def _field_comparison(self, field: FieldInfo) -> Any:
        kind, others = field.spec.type.kind, [one for one in self._fields if one is not field]
        alike = [one for one in others if one.spec.type.kind is kind and one.origin == field.origin]
        alike = [one for one in alike if not self._is_made(one)]
        if not alike or self._is_made(field):
            return self._comparison(field)
        return self._apply(self._pick.of(_COMPARISONS), field, self._ref(self._pick.of(alike)))

    def _match(self, field: FieldInfo) -> Any:
        text = self._entities.literal(field) or ""
        part = text[: self._pick.up_to(2)] if self._pick.one_in(2) else text
        return self._apply(self._pick.of(self._matches), field, part)

    def _literals(self, field: FieldInfo) -> list[Any]:
        return self._pick.several(lambda: self._entities.literal(field), 3)

    def _pair(self, field: FieldInfo) -> tuple[Any, Any]:
        return self._entities.literal(field), self._entities.literal(field)

    # -- query objects

    def _filter(self, cls: type[QueryObject[Any]], name: str) -> Any:
        annotation, examples = cls.model_fields[name].annotation, cls.model_fields[name].examples
        if examples:
            return self._pick.of(examples)
        if name in _MOST:
            return self._pick.up_to(_MOST[name])
        if name == "order_by":
            return self._of_type(annotation, None)
        return self.value_of_filter(name, annotation)

    def value_of_filter(self, name: str, annotation: Any) -> Any:
        """Generate a value for a filter of a name and type; the name may be a path to children and other rows."""
        prefix, _, rest = name.partition("__")
        if rest and prefix in self._children:
            return self._children[prefix].value_of_filter(rest, annotation)
        key, path = self._key_in_path(name)
        if key is None:
            return self._of_type(annotation, self._filtered_field(name, annotation))
        far = next((self._others[table] for table in self._targets(key) if table in self._others), None)
        return self._of_type(annotation, None) if far is None else far.value_of_filter(path, annotation)

    def _of_type(self, annotation: Any, field: FieldInfo | None) -> Any:
        """Generate a value of a type, which is compared with a field if there is one."""
        origins = {get_origin(one) or one for one in alternatives(annotation)}
        if field is None:
            values = [*_literals(annotation), *_values_of_scalars(annotation)] or [None]
            make = partial(self._pick.of, values)
        elif bool in origins and field.spec.type.kind is not Kind.BOOLEAN:
            make = partial(self._pick.of, (True, False))
        else:
            make = partial(self._entities.literal, field)
        if origins & {list, set, frozenset}:
            return self._pick.several(make, 3)
        return (make(), make()) if tuple in origins else make()

    def _key_in_path(self, name: str) -> tuple[FieldInfo | None, str]:
        """Return the key by which a filter asks about another row, and the rest of its name."""
        prefix, _, rest = name.partition("__")
        key = None if name in self.table.by_name else self.table.by_name.get(prefix)
        return (key, rest) if key is not None and rest not in _SUFFIXES and self._targets(key) else (None, "")

    def _targets(self, key: FieldInfo) -> list[TableName]:
        """List the tables that a field alone refers to."""
        return [one.table for one in self.table.schema.foreign_keys if one.columns == (key.column.name,)]

    def _filtered_field(self, name: str, annotation: Any) -> FieldInfo | None:
        """Return the field that a filter is named after, or one of its type."""
        named = [field for field in self._named if name == field.name or name.startswith(f"{field.name}_")]
        if named:
            return max(named, key=lambda field: len(field.name))
        scalars = _scalars(annotation)
        return next((one for one in self._named if one.origin is None and one.spec.type.python in scalars), None)


class ChildQueries(QueryGenerator):
    """Generates conditions on the children of one part."""

    def __init__(self, entities: ChildGenerator, choices: Choices, others: Queries, *, folds: bool) -> None:
        super().__init__(entities, choices, others, folds=folds)
        self._plain = entities.part.plain

    def _ref(self, field: FieldInfo) -> Any:
        return OfChild("" if self._plain else field.name)

    def _attribute(self, name: str) -> Any:
        return OfChild(name)

    def _key_in_path(self, name: str) -> tuple[FieldInfo | None, str]:
        value = self._named[0] if self._plain and name not in _SUFFIXES else None
        return (value, name) if value is not None and self._targets(value) else super()._key_in_path(name)

    def _filtered_field(self, name: str, annotation: Any) -> FieldInfo | None:
        return self._named[0] if self._plain else super()._filtered_field(name, annotation)


def _is_text(field: FieldInfo) -> bool:
    return field.kind is Kind.TEXT and field.spec.type.kind is Kind.TEXT and field.column.type.plain


def _scalars(annotation: Any) -> list[Any]:
    """List the classes of a filter's values, including those in a list."""
    found: list[Any] = []
    for part in alternatives(annotation):
        inner: Sequence[Any] = get_args(part)
        found += [one for arg in inner for one in _scalars(arg)] if inner else [part]
    return found


def _values_of_scalars(annotation: Any) -> Iterable[Any]:
    for part in _scalars(annotation):
        yield from {bool: (True, False), int: (0, 1, 2), str: ("a", "", "b"), float: (0.0, 1.5)}.get(part, ())


def _literals(annotation: Any) -> Iterator[Any]:
    """List the values that an annotation names, as orders do."""
    for part in alternatives(annotation):
        if get_origin(part) is Literal:
            yield from get_args(part)
        elif get_origin(part) in (list, tuple):
            yield from (value for arg in get_args(part) for value in _literals(arg))
        elif isinstance(part, type) and issubclass(part, Enum):
            yield from part


# -- calls

# Methods that take fields by keyword, first those with the fewest options.
_SELECTING = (("count", "exists", "one", "one_or_none"), ("find", "first", "stream"))


class CallGenerator:
    """Generates the calls of one repository."""

    def __init__(self, table: Table, choices: Choices, missing: frozenset[str], others: Queries) -> None:
        folds = "unicode_fold" not in missing or getattr(table.repository, "fold", "") == "ascii"
        self.table = table
        self.entities = EntityGenerator(table, choices, all_digits=ALL_DIGITS not in missing)
        self._queries = others[table.schema.full_name] = QueryGenerator(self.entities, choices, others, folds=folds)
        self._pick = choices
        self._fresh_keys = "fresh_keys" not in missing
        # The fields that an upsert may compare.
        self._targets = [fields for _, fields in table.uniques]
        # Each call is chosen as often as it is listed.
        select, entity, by_key, where = self._select, self._entity, self._by_key, self._where
        self._reads: list[Callable[[], Call | Scroll]]
        self._writes: list[Callable[[], Call]]
        self._reads = [*[self._find] * 5, partial(select, "one", "one_or_none"), partial(select, "first", ordered=True)]
        self._reads += [*[partial(select, "count", "exists")] * 2, partial(select, "stream", ordered=True)]
        self._writes = [*[partial(entity, "add")] * 4, *[self._add_many] * 2]
        self._writes += [partial(where, "update_where"), partial(where, "delete_where")]
        if table.key:
            self._reads += [*[partial(by_key, "get", "get_or_none")] * 2, self._get_many]
            self._writes += [*[self._patch] * 3, partial(by_key, "delete")]
        if table.queries:
            self._reads += [*[self._page] * 2, *[self._scroll] * 2]
        if table.identifies_rows:
            self._writes += [*[partial(entity, "update", existing=1)] * 3, *[partial(entity, "save", existing=2)] * 2]
            self._writes.append(partial(entity, "remove", existing=1))
        if self._targets:
            self._writes += [*[self._upsert] * 2, self._upsert_many]

    def initial_rows(self) -> Call:
        make = partial(self.entities.entity, valid=True)
        if self._pick.one_in(4):
            return self._call("add_many", self._equally_keyed(self._pick.several(make, 4, 2)))
        return self._call("add", make())

    def all_operators(self) -> list[Call]:
        """Apply each operator that fits a field, with the same order."""
        order = self._queries.order()
        return [self._call("find", criterion, order_by=order) for criterion in self._queries.all_operators()]

    def each_filter(self) -> list[Call]:
        queries = self._queries.each_filter()
        return [self._call("page" if "limit" in one.cls.model_fields else "find", one) for one in queries]

    def options(self) -> list[Call]:
        """Give a keyword that is a field and an option to calls that know the option, and to others."""
        given = self._queries.named_like_options()
        return [self._call(self._pick.of(methods), **one) for one in given for methods in _SELECTING]

    def elsewhere(self) -> list[Call]:
        """Ask about the rows of other repositories, and for views and sums."""
        other, sums = self._queries.elsewhere, [self._sum_up() for _ in range(2)]
        found = [
            self._call("find", order_by=order, into=self._queries.projection())
            for _ in range(2)
            if (order := other.order()) is not None
        ]
        for _ in range(4):
            if (criterion := other.criterion()) is not None:
                both = criterion, Operation("not_", (criterion,))
                found += [self._call("find", one, into=self._queries.projection()) for one in both]
        return [*found, *sums, self._call("find", into=other.view())]

    def read(self) -> Call | Scroll:
        return self._pick.of(self._reads)()

    def write(self) -> Call:
        return self._pick.of(self._writes)()

    def _call(self, method: str, *arguments: Any, **options: Any) -> Call:
        return Call(self.table.name, method, arguments, options)

    # -- reading

    def _select(self, *methods: str, ordered: bool = False) -> Call:
        """Generate a call with criteria, a query object, keywords or nothing."""
        form = self._pick.of(("criterion", "criterion", "criterion", "", "query", "both", "equality"))
        given = [self._queries.criterion()] if form in ("criterion", "both") else []
        query = self._queries.query() if form in ("query", "both") else None
        given += [] if query is None else [query]
        options = self._queries.equality() if form == "equality" else {}
        if ordered and query is None and self._pick.one_in(2):
            options["order_by"] = self._queries.order()
        return self._call(self._pick.of(methods), *given, **options)

    def _find(self) -> Call:
        call = self._select("find")
        options = dict(call.options)
        queried = bool(call.arguments) and isinstance(call.arguments[-1], New)
        if not queried or self._pick.one_in(10):  # a query object that has these options refuses them
            options |= {"order_by": self._queries.order()} if self._pick.one_in(2) else {}
            options |= {name: self._pick.up_to(most) for name, most in _MOST.items() if self._pick.one_in(3)}
        if self._pick.one_in(6):
            options["into"] = self._queries.projection()
        return self._call("find", *call.arguments, **options)

    def _sum_up(self) -> Call:
        method, given = self._queries.elsewhere.summary()
        return self._call(method, *given, *([self._queries.criterion()] if self._pick.one_in(2) else []))

    def _by_key(self, *methods: str) -> Call:
        return self._call(self._pick.of(methods), self.entities.key())

    def _get_many(self) -> Call:
        return self._call("get_many", self._pick.several(self.entities.key, 4))

    def _page(self) -> Call:
        query = self._queries.query(limit=True)
        return self._find() if query is None else self._call("page", query, with_total=self._pick.one_in(2))

    def _scroll(self) -> Call | Scroll:
        query = self._queries.query(limit=True)
        if query is None:
            return self._find()
        values = {name: value for name, value in query.values.items() if name != "offset"}
        short = {**values, "limit": 1 + self._pick.up_to(2)}
        accepted = next((one for one in (short, values) if can_construct(query.cls, one)), query.values)
        return Scroll(self.table.name, New(query.cls, accepted), tuple(self._pick.several(self._move, 5, 1)))

    def _move(self) -> Literal["after", "before"]:
        return "before" if self._pick.one_in(4) else "after"

    # -- writing

    def _entity(self, method: str, *, existing: int = 0) -> Call:
        """Generate a call with an entity, one in so many of which exists already; none for 0."""
        if existing and self._pick.one_in(existing):
            return self._call(method, self.entities.written())
        return self._call(method, self.entities.entity())

    def _add_many(self) -> Call:
        entities = self._pick.several(self.entities.entity, 4, 0 if self._pick.one_in(6) else 2)
        return self._call("add_many", self._equally_keyed(entities))

    def _equally_keyed(self, entities: list[New]) -> list[New]:
        """Let the database generate all keys of a batch if it might generate one that the batch contains."""
        generated = next((field.name for field in self.table.key if field.column.generated), "")
        if self._fresh_keys or all(entity.values.get(generated) is not None for entity in entities):
            return entities
        return [New(one.cls, {**one.values, generated: None}) if generated in one.values else one for one in entities]

    def _upsert(self) -> Call:
        given = self.entities.written(by_version=False) if self._pick.one_in(2) else self.entities.entity()
        return self._call("upsert", given, **self._target())

    def _upsert_many(self) -> Call:
        entities = self._pick.several(self._maybe_existing, 3)
        return self._call("upsert_many", self._equally_keyed(entities), **self._target())

    def _maybe_existing(self) -> New:
        return self.entities.entity(existing=self._pick.one_in(2))

    def _target(self) -> Mapping[str, Any]:
        on = self._pick.of(self._targets)
        options: dict[str, Any] = {"on": on[0] if len(on) == 1 else on}
        if self._pick.one_in(3):
            fixed = (*self.table.schema.key, self.table.schema.version)
            free = [one.name for one in self.table.own_fields if one.name not in on and one.column.name not in fixed]
            free += [*self.table.objects, *self.table.children]
            options["update"] = self._pick.some_of(free, 2) if free else []
        return options

    def _patch(self) -> Call:
        key = self.entities.key()
        of = Stored(self.table.name, key.index) if isinstance(key, KeyOf) else None
        changes = {} if self._pick.one_in(10) else self.entities.changes(version=True, of=of)
        return self._call("patch", key, changes)

    def _where(self, method: str) -> Call:
        options = {"set_": self.entities.changes(version=False)} if method == "update_where" else {}
        if self._pick.one_in(8):
            return self._call(method, everything=True, **options)
        return self._call(method, self._queries.criterion(), **options)


# -- programs

_ENDINGS: tuple[Ending, ...] = ("normal", "normal", "normal", "first error", "exception")
_STEPS = ("read", "read", "read", "read", "write", "write", "safe write", "safe write", "end", "savepoint")
_DEEPEST = 2


class ProgramGenerator:
    """Generates the programs of one unit of work."""

    def __init__(self, subject: UnitUnderTest, missing: frozenset[str]) -> None:
        self._pick = Choices()
        others: Queries = {}
        self._calls = [CallGenerator(table, self._pick, missing, others) for table in subject.tables.values()]
        self._concurrent = self._calls if "concurrent_writers" not in missing else []

    @property
    def plainest(self) -> Mapping[type, Mapping[str, Any]]:
        """The plainest values of entities, by class."""
        return {calls.table.entity: calls.entities.plainest for calls in self._calls}

    def program(self, seed: int, entities: Mapping[str, Sequence[Any]]) -> Program:
        """Generate a program; `entities` are those of the user's strategies, by repository."""
        self._pick.restart(seed, entities)
        return (self._first_unit(), *self._pick.several(self._unit, 6, 1), self._last_unit())

    # -- units

    def _first_unit(self) -> Unit:
        """Store some rows."""
        made = [call for calls in self._calls for call in self._pick.several(calls.initial_rows, 8, 2)]
        return Unit(tuple(map(_safe, made)))

    def _unit(self) -> Unit:
        if self._pick.one_in(10):
            return Unit(self._steps(_DEEPEST, 6), read_only=True)
        first = self._concurrent_unit() if self._concurrent and self._pick.one_in(4) else ()
        return Unit((*first, *self._steps(0, 12)), self._pick.of(_ENDINGS))

    def _last_unit(self) -> Unit:
        """Query all that the program left."""
        chosen = self._pick.some_of(self._calls, 4, 1)
        asked = [call for calls in chosen for call in calls.all_operators()]
        asked += [call for calls in self._calls for call in (*calls.each_filter(), *calls.options())]
        asked += [call for calls in self._calls for call in calls.elsewhere()]
        return Unit(tuple(asked), read_only=True)

    def _concurrent_unit(self) -> tuple[Step, ...]:
        """Read, and then let another unit write what was read."""
        reads = [calls.read() for calls in self._pick.some_of(self._concurrent, 2, 1)]
        writes = [_safe(calls.write()) for calls in self._pick.some_of(self._concurrent, 3, 1)]
        return (*reads, Unit(tuple(writes), self._pick.of(_ENDINGS)))

    # -- steps

    def _steps(self, depth: int, most: int) -> tuple[Step, ...]:
        return tuple(self._pick.several(lambda: self._step(depth), most))

    def _step(self, depth: int) -> Step:
        calls = self._pick.of(self._calls)
        match self._pick.of(_STEPS[: -2 if depth >= _DEEPEST else None]):
            case "read":
                return calls.read()
            case "write":
                return calls.write()
            case "safe write":
                return _safe(calls.write())
            case "end":
                return End(self._pick.of(("commit", "rollback")))
            case _:
                return Savepoint(self._steps(depth + 1, 6), self._pick.of(_ENDINGS))


def _safe(call: Call) -> Savepoint:
    """Put a call into a savepoint of its own, which an error rolls back."""
    return Savepoint((call,), "first error")

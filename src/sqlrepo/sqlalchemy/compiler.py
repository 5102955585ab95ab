"""SQL statements for requests: one statement per shape, whose parameters are filled in at each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, assert_never, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

from sqlrepo.driver import Condition, Fetch, Group, Lock, Lookup, Measure, Upsert
from sqlrepo.language.criteria import (
    Among,
    And,
    Compare,
    CompareFields,
    Criterion,
    Exists,
    IsNull,
    IsTrue,
    Leaf,
    Match,
    Not,
    OneOf,
    Or,
    Param,
    Path,
    Ref,
    Via,
    matches_all,
)
from sqlrepo.language.fields import Sort
from sqlrepo.sqlalchemy.dialects.base import Dialect, with_operators
from sqlrepo.sqlalchemy.events import AT_ONCE
from sqlrepo.tables.reflection import sql_columns, table_of
from sqlrepo.tables.schema import Schema


class PerDialect(sa.ColumnElement[Any]):
    """One of several expressions, by the name of the dialect that the statement is compiled for."""

    __visit_name__ = "sqlrepo_per_dialect"
    _traverse_internals = [  # noqa: RUF012  # what SQLAlchemy copies, compares and makes cache keys of
        ("names", InternalTraversal.dp_plain_obj),
        ("choices", InternalTraversal.dp_clauseelement_list),
    ]

    def __init__(self, choices: Mapping[str, sa.ColumnElement[Any]]) -> None:
        self.names = tuple(choices)
        self.choices = list(choices.values())
        self.type = self.choices[0].type

    @property
    def _from_objects(self) -> list[Any]:
        return self.choices[0]._from_objects  # noqa: SLF001  # the tables, which all choices share


@compiles(PerDialect)
def _compile_choice(element: PerDialect, compiler: Any, **options: Any) -> str:
    name = "mariadb" if getattr(compiler.dialect, "is_mariadb", False) else compiler.dialect.name
    index = element.names.index(name) if name in element.names else 0
    return str(compiler.process(element.choices[index], **options))


Columns: TypeAlias = Mapping[str, sa.ColumnElement[Any]]
Change: TypeAlias = Callable[[Any], Any]


class Bind(Protocol):
    """Makes the bind parameter of a literal, whose value is first changed, or expanded to several parameters."""

    def __call__(
        self, param: Param, type_: Any, change: Change | None = None, *, expanding: bool = False
    ) -> sa.BindParameter[Any]: ...


Parameters: TypeAlias = dict[str, Any]
# The index of each parameter's literal, and what changes it.
Sources: TypeAlias = dict[str, tuple[int, Change | None]]

# In one statement; SQLite and MariaDB take about 60. Further values come from subqueries.
_JOINS = 50

# Names of parameters, which must differ from those of columns in an UPDATE.
_LITERAL, _CHANGED, _VALUE, _HAVING, _LIMIT, _OFFSET = (
    f"sqlrepo_{name}" for name in ("p", "q", "v", "h", "limit", "offset")
)


class Scribe(NamedTuple):
    """Writes the criteria of one statement."""

    bind: Bind
    dialect: Dialect
    table: Any = None  # that the statement changes, where such a statement may not read its own table
    joined: Mapping[Via, Columns] = MappingProxyType({})  # the rows elsewhere that the statement joins

    def clause(self, shape: Criterion, columns: Columns, *, wanted: bool = True) -> sa.ColumnElement[bool]:
        """Write a criterion; if ``wanted``, it is all the same whether the criterion is false or unknown."""
        match shape:
            case And(parts):
                return sa.and_(sa.true(), *(self.clause(part, columns, wanted=wanted) for part in parts))
            case Or(parts):
                return sa.or_(sa.false(), *(self.clause(part, columns, wanted=wanted) for part in parts))
            case Not(part):
                return sa.not_(self.clause(part, columns, wanted=False))
            case IsTrue(part):
                return sa.func.coalesce(self.clause(part, columns), sa.false())
            case Exists():
                return self._exists(shape, columns)
            case _:
                return self._leaf(shape, columns, wanted=wanted)

    def _leaf(self, leaf: Leaf, columns: Columns, *, wanted: bool) -> sa.ColumnElement[bool]:
        column, way = self._reach(leaf.ref, columns)
        other = None
        if isinstance(leaf, CompareFields):
            other, more = self._reach(leaf.other, columns)
            way = (*way, *more)
        if not way:
            return self._compare(leaf, column, other)
        if isinstance(leaf, IsNull):
            return sa.not_(self.select(way, sa.literal(1), sa.not_(self.dialect.is_null(column))).exists())
        clause = self._compare(leaf, column, other)
        if wanted:
            return self.select(way, sa.literal(1), clause).exists()
        return cast("sa.ColumnElement[bool]", self.select(way, clause).scalar_subquery())  # NULL without a row

    def _compare(self, leaf: Leaf, column: Any, other: Any) -> sa.ColumnElement[bool]:
        match leaf:
            case IsNull():
                return self.dialect.is_null(column)
            case Compare(_, op, value):
                return self.dialect.compare(column, op, self.bind(value, column.type))
            case CompareFields(_, op, _):
                return self.dialect.compare_columns(column, op, other)
            case OneOf(_, values):
                return self.dialect.one_of(column, self.bind(values, column.type, expanding=True))
            case Match(text=text):
                plain = not isinstance(column.type, sa.types.TypeDecorator)

                def needle(change: Change | None) -> sa.ColumnElement[Any]:
                    return self.bind(text, column.type if change is None else sa.types.NULLTYPE, change)

                return self.dialect.match(leaf, column, needle, plain=plain)
            case Exists() | Among() | Path():
                raise AssertionError  # a whole clause, memory's, and what binding replaces
            case _:
                assert_never(leaf)

    def _exists(self, node: Exists, columns: Columns) -> sa.ColumnElement[bool]:
        """Write EXISTS over the other table: unlike a join it never multiplies rows, unlike COUNT it ends early."""
        return self.select(self.related(node, columns)[1], sa.literal(1)).exists()

    def related(self, node: Exists, columns: Columns) -> tuple[Columns, Way]:
        """Return the columns of the rows elsewhere that belong to a row, and the tables that lead to them."""
        table, named = self.alias(node.mapper.schema)
        way: Way = ((table, self.clause(node.where, named)),)
        for near, far in zip(node.near, node.far, strict=True):
            (left, before), (right, behind) = self._reach(near, columns), self._reach(far, named)
            way = (*way, *before, *behind, (table, right == left))
        return named, way

    def value(self, ref: Ref, columns: Columns) -> sa.ColumnElement[Any]:
        """Write the value of a reference: a column, or a subquery that gives NULL where there is no row."""
        column, way = self._reach(ref, columns)
        return self.select(way, self.dialect.read(column)).scalar_subquery() if way else column

    def _reach(self, ref: Ref, columns: Columns) -> tuple[sa.ColumnElement[Any], Way]:
        """Return a column, and the tables that lead to it with their conditions."""
        if (via := ref.via) is None:
            return columns[ref.name], ()
        if via in self.joined:
            return self.joined[via][ref.name], ()
        key, way = self._reach(via.key, columns)
        table, named, clause = self._behind(via, key)
        return named[ref.name], (*way, (table, clause))

    def _behind(self, via: Via, key: sa.ColumnElement[Any]) -> tuple[Any, Columns, sa.ColumnElement[bool]]:
        table, named = self.alias(via.mapper.schema)
        scope = sa.true() if via.scope is None else self.clause(via.scope, named)
        return table, named, sa.and_(named[via.column] == key, scope)

    def join(self, found: Any, values: Iterable[Lookup], columns: Columns) -> tuple[Scribe, Any]:
        """Join the rows elsewhere to which values lead, of which there is one at most for each row."""
        joined: dict[Via, Columns] = {}
        scribe = self._replace(joined=joined)
        for via in (via for one in values if isinstance(one, Ref) for via in _ways(one)):
            key, way = scribe._reach(via.key, columns)  # noqa: SLF001
            if not (via in joined or way or len(joined) == _JOINS) and via.mapper.schema.is_unique(via.column):
                table, named, clause = scribe._behind(via, key)  # noqa: SLF001
                found, joined[via] = found.outerjoin(table, clause), named
        return scribe, found

    def alias(self, schema: Schema) -> tuple[Any, Columns]:
        table: Any = table_of(schema)
        read = table.alias() if table is not self.table else sa.select(table).distinct().subquery()
        return read, {name: with_operators(read.columns[column.key]) for name, column in sql_columns(schema).items()}

    @staticmethod
    def select(way: Way, value: Any, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
        """Select from tables that are joined one by one: a planner tries all orders of those in a list with commas."""
        first, *others = tables = dict.fromkeys(table for table, _ in way)
        found = first
        for table in others:
            found = found.join(table, sa.and_(*(one for at, one in way if at is table)))
        chosen = sa.select(value).select_from(found).where(*(one for at, one in way if at is first), *where)
        return chosen.correlate_except(*tables)


def _ways(ref: Ref) -> Iterator[Via]:
    if ref.via is not None:
        yield from _ways(ref.via.key)
        yield ref.via


# Tables to read in a subquery, each with what its rows must meet.
Way: TypeAlias = tuple[tuple[Any, sa.ColumnElement[bool]], ...]


def _belongs(scribe: Scribe, part: Any, named: Columns, columns: Columns) -> list[sa.ColumnElement[bool]]:
    """Write that a child belongs to the row around it, by a foreign key or through a table in between."""
    if part.through is None:
        return [named[name] == columns[at] for name, at in zip(part.owner, part.targets, strict=True)]
    between, own = scribe.alias(part.through.schema)
    links = [named[name] == own[at] for name, at in zip(part.owner, part.targets, strict=True)]
    chosen = sa.select(sa.literal(1)).select_from(between).where(*links, *_belongs(scribe, part.through, own, columns))
    return [chosen.correlate_except(between).exists()]


def _limit(statement: sa.Select[Any], limited: bool, skipping: bool) -> sa.Select[Any]:
    if limited:
        statement = statement.limit(sa.bindparam(_LIMIT, type_=sa.BigInteger))
    return statement.offset(sa.bindparam(_OFFSET, type_=sa.BigInteger)) if skipping else statement


def compared_columns(schema: Schema) -> Columns:
    """Return the table's columns as conditions and orders compare them."""
    return {name: with_operators(column) for name, column in sql_columns(schema).items()}


def write_order(schema: Schema, scribe: Scribe, columns: Columns, order: Sequence[Sort]) -> list[sa.ColumnElement[Any]]:
    return [
        scribe.dialect.order(
            scribe.value(one.ref, columns),
            one.descending,
            nullable=one.ref.via is not None or one.ref.name in schema.nullable,
        )
        for one in order
    ]


class Compiler:
    """Writes the statements for one database, and caches them by shape."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        # Caches of this instance, so that they are freed with the database.
        self._columns = lru_cache(maxsize=256)(sql_columns)
        self._compared = lru_cache(maxsize=256)(compared_columns)
        self._json_nulls = lru_cache(maxsize=256)(self._find_json_nulls)
        self._where = lru_cache(maxsize=1024)(self._write_where)
        self._select = lru_cache(maxsize=1024)(self._write_select)
        self._count = lru_cache(maxsize=1024)(self._write_count)
        self._group = lru_cache(maxsize=1024)(self._write_group)
        self._update = lru_cache(maxsize=1024)(self._write_update)
        self._delete = lru_cache(maxsize=1024)(self._write_delete)
        self._upsert = lru_cache(maxsize=256)(self._write_upsert)
        self.insert = lru_cache(maxsize=256)(self._write_insert)

    def select(self, schema: Schema, request: Fetch) -> tuple[sa.Executable, Parameters]:
        limited, skipping = request.limit is not None, request.offset > 0
        where, order = request.where, request.order
        statement, sources = self._select(
            schema, request.columns, where.shape, order, limited, skipping, request.lock, request.lookups
        )
        parameters = self._parameters(schema, where, sources)
        if limited:
            parameters[_LIMIT] = request.limit
        if skipping:
            parameters[_OFFSET] = request.offset
        return statement, parameters

    def group(self, schema: Schema, request: Group) -> tuple[sa.Executable, Parameters]:
        where, having = Condition(request.where.shape), Condition(request.having.shape)
        limit = None if request.limit is None else 1
        shape = replace(request, where=where, having=having, limit=limit, offset=min(request.offset, 1))
        statement, sources, above = self._group(schema, shape)
        parameters = self._parameters(schema, request.where, sources)
        parameters |= self._parameters(schema, request.having, above)
        return statement, {**parameters, _LIMIT: request.limit, _OFFSET: request.offset}

    def count(self, schema: Schema, where: Condition, limit: int | None) -> tuple[sa.Executable, Parameters]:
        parameters = self._parameters(schema, where)
        if limit is not None:
            parameters[_LIMIT] = limit
        return self._count(schema, where.shape, limit is not None), parameters

    def update(
        self, schema: Schema, columns: Sequence[str], values: Sequence[Any], where: Condition
    ) -> tuple[sa.Executable, Parameters]:
        parameters = self._parameters(schema, where)
        bound = self.parameter_values(schema, columns, values)
        parameters |= {f"{_VALUE}{index}": value for index, value in enumerate(bound)}
        return self._update(schema, tuple(columns), where.shape), parameters

    def update_each(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    ) -> tuple[sa.Executable, list[Parameters]]:
        """Write an UPDATE by key, and the parameters of each row."""
        own = (f"{_LITERAL}{index}" for index in range(len(schema.key)))
        names = [*own, *(f"{_VALUE}{index}" for index in range(len(columns)))]
        shape = And(tuple(Compare(Ref(object, name), "==", Param(at)) for at, name in enumerate(schema.key)))
        bound = [(*key, *self.parameter_values(schema, columns, row)) for key, row in rows]
        return self._update(schema, tuple(columns), shape), [dict(zip(names, row, strict=True)) for row in bound]

    def upsert(self, schema: Schema, request: Upsert, returning: tuple[str, ...]) -> tuple[sa.Executable, Parameters]:
        """Write an upsert that returns one more column, which is true if the row is new."""
        names = self.parameter_names(schema, tuple(request.row))
        row, changes = (self.parameter_values(schema, one, one.values()) for one in (request.row, request.changes))
        parameters: Parameters = dict(zip(names, row, strict=True))
        parameters |= {f"{_VALUE}{index}": value for index, value in enumerate(changes)}
        parameters |= self._parameters(schema, request.scope)
        return self._upsert(schema, request.on, tuple(request.changes), request.scope.shape, returning), parameters

    def delete(self, schema: Schema, where: Condition) -> tuple[sa.Executable, Parameters]:
        return self._delete(schema, where.shape), self._parameters(schema, where)

    def keeps(self, schema: Schema, names: Sequence[str], returning: Sequence[str]) -> bool:
        """Return True if the returned values are those that are written: nothing is filled in, rounded or cut."""
        return {*returning} <= {*names} and all(self._dialect.keeps(self._columns(schema)[name]) for name in returning)

    def parameter_names(self, schema: Schema, columns: Sequence[str]) -> list[str]:
        """Return the names of INSERT's parameters."""
        return [self._columns(schema)[name].key for name in columns]

    def parameter_values(self, schema: Schema, columns: Iterable[str], values: Iterable[Any]) -> Iterable[Any]:
        """Return values as parameters: None is NULL, and not the text null of JSON."""
        if not (nulls := self._json_nulls(schema)):
            return values
        return [
            sa.null() if value is None and name in nulls else value for name, value in zip(columns, values, strict=True)
        ]

    def _find_json_nulls(self, schema: Schema) -> frozenset[str]:
        columns = self._columns(schema).items()
        return frozenset(name for name, column in columns if self._dialect.writes_json_null(column))

    def changed_columns(self, schema: Schema, columns: Sequence[str]) -> dict[str, str]:
        """Return the columns that UPDATE's parameters change."""
        return {f"{_VALUE}{index}": name for index, name in enumerate(self.parameter_names(schema, columns))}

    def _parameters(self, schema: Schema, where: Condition, sources: Sources | None = None) -> Parameters:
        if sources is None:
            _, sources = self._where(schema, where.shape)
        return {
            name: where.params[index] if change is None else change(where.params[index])
            for name, (index, change) in sources.items()
        }

    def _write_where(
        self, schema: Schema, shape: Criterion, *, changes: bool = False
    ) -> tuple[sa.ColumnElement[bool], Sources]:
        scribe, sources = self._scribe(table_of(schema) if changes and not self._dialect.reads_changed_table else None)
        return scribe.clause(shape, self._compared(schema)), sources

    def _scribe(self, table: Any = None, prefix: str = "") -> tuple[Scribe, Sources]:
        sources: Sources = {}

        def bind(
            param: Param, type_: Any, change: Change | None = None, *, expanding: bool = False
        ) -> sa.BindParameter[Any]:
            name = f"{prefix}{_LITERAL if change is None else _CHANGED}{param.index}"
            sources[name] = (param.index, change)
            return sa.bindparam(name, type_=type_, expanding=expanding)

        return Scribe(bind, self._dialect, table), sources

    def _write_select(  # noqa: PLR0917  # the arguments are the key of the cache
        self,
        schema: Schema,
        names: tuple[str, ...],
        shape: Criterion,
        order: tuple[Sort, ...],
        limited: bool,
        skipping: bool,
        lock: Lock | None,
        lookups: tuple[Lookup, ...],
    ) -> tuple[sa.Executable, Sources]:
        columns, compared = self._columns(schema), self._compared(schema)
        found, (scribe, sources) = table_of(schema), self._scribe()
        if lock is None:  # PostgreSQL locks no rows that may be missing
            scribe, found = scribe.join(found, lookups, compared)
        chosen = [self._dialect.read(columns[name]) for name in names]
        values = (self._look_up(scribe, one, compared) for one in lookups)
        statement: sa.Select[Any] = sa.select(*chosen, *values).select_from(found)
        clause, before = self._where(schema, shape)
        statement = statement.where(clause).order_by(*write_order(schema, scribe, compared, order))
        statement = _limit(statement, limited, skipping)
        if lock is not None:
            statement = statement.with_for_update(nowait=lock == "nowait", skip_locked=lock == "skip")
        return statement, before | sources

    def _look_up(self, scribe: Scribe, value: Lookup, columns: Columns) -> sa.ColumnElement[Any]:
        if isinstance(value, Ref):
            written = scribe.value(value, columns)
            return self._dialect.read(written) if value.via in scribe.joined else written
        if not isinstance(value, Measure):
            return scribe.clause(IsTrue(value), columns)
        assert value.of is not None
        named, way = scribe.related(value.of, columns)
        addends = [] if value.ref is None else self._addends(value, named[value.ref.name])
        folded, _ = self._fold(value.of.mapper.schema, value, addends)
        return scribe.select(way, folded).scalar_subquery()

    def _write_group(self, schema: Schema, request: Group) -> tuple[sa.Executable, Sources, Sources]:
        """Group a subquery of keys and measured values, in which a part's children are folded already."""
        columns, (scribe, sources) = self._compared(schema), self._scribe()
        chosen = [self._dialect.key(scribe.value(ref, columns)) for ref in request.keys]
        measured = [self._measured(scribe, columns, measure) for measure in request.measures]
        named = [one.label(f"v{at}") for at, one in enumerate(chain(chosen, *measured))]
        rows = sa.select(*named or [sa.literal(1).label("v")]).select_from(table_of(schema))
        clause, before = self._where(schema, request.where.shape)
        inner = rows.where(clause).subquery("found")
        found = iter(inner.columns)
        grouped: list[sa.ColumnElement[Any]] = [next(found) for _ in chosen]
        both = [(key, key) for key in grouped]
        for measure, own in zip(request.measures, measured, strict=True):
            both.append(self._fold(schema, measure, [next(found) for _ in own]))
        compared = {str(at): one for at, (_, one) in enumerate(both)}
        above, having = self._scribe(prefix=_HAVING)
        statement = sa.select(*(one for one, _ in both)).select_from(inner).group_by(*grouped)
        if not matches_all(request.having.shape):
            statement = statement.having(above.clause(request.having.shape, compared))
        order = [self._dialect.order(compared[one.ref.name], one.descending, nullable=True) for one in request.order]
        statement = _limit(statement.order_by(*order), request.limit is not None, request.offset > 0)
        return statement, before | sources, having

    def _measured(self, scribe: Scribe, columns: Columns, measure: Measure) -> list[sa.ColumnElement[Any]]:
        """Return what a row contributes to a measure: values, or subqueries that fold those of its children."""
        ref, part = measure.ref, measure.part
        if part is None:
            return [] if ref is None else self._addends(measure, scribe.value(ref, columns))
        children, named = scribe.alias(part.schema)
        joined = _belongs(scribe, part, named, columns)
        values = [None] if ref is None else self._addends(measure, named[ref.name])
        folded = [sa.func.count() if one is None else self._apply(measure.function, one) for one in values]
        chosen = [sa.select(one).select_from(children) for one in folded]
        return [one.where(*joined, scribe.clause(measure.where, named)).scalar_subquery() for one in chosen]

    def _addends(self, measure: Measure, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
        return self._dialect.addends(column) if measure.function == "sum" else [self._dialect.read(column)]

    def _apply(self, function: str, value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        match function:
            case "min" | "max":
                return self._dialect.extreme(function, value)
            case "count_distinct":
                return sa.func.count(sa.distinct(self._dialect.key(value)))
            case _:
                return sa.func.count(value) if function == "count" else sa.func.sum(value)

    def _fold(
        self, schema: Schema, measure: Measure, values: list[sa.ColumnElement[Any]]
    ) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
        """Fold what the rows contribute; once to be read, and once to be compared."""
        if measure.function == "sum" and measure.ref is not None:
            via = measure.ref.via
            kept = schema if via is None else via.mapper.schema
            column = self._compared(kept if measure.part is None else measure.part.schema)[measure.ref.name]
            return self._dialect.total([sa.func.sum(one) for one in values], column)
        if measure.function == "count" and measure.part is not None:
            made: sa.ColumnElement[Any] = sa.type_coerce(sa.func.coalesce(sa.func.sum(values[0]), 0), sa.BigInteger())
        else:
            made = self._apply(measure.function, values[0]) if values else sa.func.count()
        return made, made

    def _write_count(self, schema: Schema, shape: Criterion, limited: bool) -> sa.Executable:
        columns = self._columns(schema)
        where = self._where(schema, shape)[0]
        table = table_of(schema)
        if not limited:
            return sa.select(sa.func.count()).select_from(table).where(where)
        found = (
            sa.select(columns[next(iter(schema.key or schema.by_name))])
            .where(where)
            .limit(sa.bindparam(_LIMIT, type_=sa.BigInteger))
        )
        return sa.select(sa.func.count()).select_from(found.subquery())

    def _write_insert(self, schema: Schema, returning: tuple[str, ...], *, many: bool) -> sa.Executable:
        if not self._dialect.returns_inserted:
            return sa.insert(table_of(schema)).inline().execution_options(**{AT_ONCE: True})
        columns = self._columns(schema)
        chosen = [self._dialect.read(columns[name]) for name in returning]
        return sa.insert(table_of(schema)).returning(*chosen, sort_by_parameter_order=many)

    def _write_update(self, schema: Schema, names: tuple[str, ...], shape: Criterion) -> sa.Executable:
        return (
            sa.update(table_of(schema))
            .where(self._where(schema, shape, changes=True)[0])
            .values(self._changes(schema, names))
        )

    def _write_upsert(
        self,
        schema: Schema,
        on: tuple[str, ...],
        names: tuple[str, ...],
        scope: Criterion,
        returning: tuple[str, ...],
    ) -> sa.Executable:
        columns = self._columns(schema)
        target = [columns[name] for name in on]
        # DO NOTHING would return no row, so an upsert without changes sets a column to itself.
        changes = (
            {**_sql_onupdates(columns, names), **self._changes(schema, names)} if names else {target[0]: target[0]}
        )
        where = None if matches_all(scope) else self._where(schema, scope)[0]
        insert = postgresql.insert(table_of(schema))
        statement = insert.on_conflict_do_update(index_elements=target, set_=changes, where=where)
        chosen = [self._dialect.read(columns[name]) for name in returning]
        return statement.returning(*chosen, sa.literal_column("xmax = 0", sa.Boolean))

    def _changes(self, schema: Schema, names: Sequence[str]) -> dict[Any, Any]:
        columns = self._columns(schema)
        values: dict[Any, Any] = {
            columns[name]: sa.bindparam(f"{_VALUE}{index}", type_=columns[name].type)
            for index, name in enumerate(names)
        }
        if schema.version is not None:
            version = columns[schema.version]  # NULL in rows that are older than a nullable column
            values[version] = (sa.func.coalesce(version, 0) if schema.version in schema.nullable else version) + 1
        return values

    def _write_delete(self, schema: Schema, shape: Criterion) -> sa.Executable:
        return sa.delete(table_of(schema)).where(self._where(schema, shape, changes=True)[0])


def _sql_onupdates(columns: Mapping[str, Any], names: Sequence[str]) -> dict[Any, Any]:
    """Return the columns with SQL in ``onupdate``, which SQLAlchemy adds to UPDATE but not to ON CONFLICT."""
    given = {column: column.onupdate for name, column in columns.items() if name not in names}
    return {column: one.arg for column, one in given.items() if one is not None and one.is_clause_element}

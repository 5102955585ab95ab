"""SQL statements for requests: one statement per shape, whose parameters are filled in at each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol, TypeAlias, assert_never

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

from sqlrepo.driver import Condition, Fetch, Group, Lock, Measure, Upsert
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
    Ref,
    matches_all,
)
from sqlrepo.language.fields import Sort
from sqlrepo.sqlalchemy.dialects.base import Dialect, with_operators
from sqlrepo.tables.parts import Part
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
    name = {"mariadb": "mysql"}.get(compiler.dialect.name, compiler.dialect.name)
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

# Names of parameters, which must differ from those of columns in an UPDATE.
_LITERAL, _CHANGED, _VALUE, _HAVING, _LIMIT, _OFFSET = (
    f"sqlrepo_{name}" for name in ("p", "q", "v", "h", "limit", "offset")
)


def where_clause(shape: Criterion, columns: Columns, bind: Bind, dialect: Dialect) -> sa.ColumnElement[bool]:
    match shape:
        case And(parts):
            return sa.and_(sa.true(), *(where_clause(part, columns, bind, dialect) for part in parts))
        case Or(parts):
            return sa.or_(sa.false(), *(where_clause(part, columns, bind, dialect) for part in parts))
        case Not(part):
            return sa.not_(where_clause(part, columns, bind, dialect))
        case IsTrue(part):
            return sa.func.coalesce(where_clause(part, columns, bind, dialect), sa.false())
        case Exists():
            return _exists(shape, columns, bind, dialect)
        case _:
            return _leaf_clause(shape, columns, bind, dialect)


def _leaf_clause(leaf: Leaf, columns: Columns, bind: Bind, dialect: Dialect) -> sa.ColumnElement[bool]:
    column = columns[leaf.ref.name]
    match leaf:
        case IsNull():
            return dialect.is_null(column)
        case Compare(_, op, value):
            return dialect.compare(column, op, bind(value, column.type))
        case CompareFields(_, op, other):
            return dialect.compare_columns(column, op, columns[other.name])
        case OneOf(_, values):
            return dialect.one_of(column, bind(values, column.type, expanding=True))
        case Match():
            plain = not isinstance(column.type, sa.types.TypeDecorator)

            def needle(change: Change | None) -> sa.ColumnElement[Any]:
                return bind(leaf.text, column.type if change is None else sa.types.NULLTYPE, change)

            return dialect.match(leaf, column, needle, plain=plain)
        case Exists() | Among():
            raise AssertionError  # a whole clause, and memory's
        case _:
            assert_never(leaf)


def _exists(node: Exists, columns: Columns, bind: Bind, dialect: Dialect) -> sa.ColumnElement[bool]:
    """Write EXISTS over the children's table: unlike a join it never multiplies rows, unlike COUNT it ends early."""
    children, named, joined = _children(node.link, columns)
    return (
        sa.select(sa.literal(1))
        .select_from(children)
        .where(*joined, where_clause(node.where, named, bind, dialect))
        .exists()
    )


def _children(part: Part, columns: Columns) -> tuple[sa.FromClause, Columns, list[sa.ColumnElement[bool]]]:
    """Return the children's table, its columns, and the conditions that a child belongs to the row around it."""
    own = sql_columns(part.schema)
    children = table_of(part.schema).alias()
    named = {name: with_operators(children.columns[column.key]) for name, column in own.items()}
    return children, named, [named[name] == columns[at] for name, at in zip(part.owner, part.targets, strict=True)]


def _limit(statement: sa.Select[Any], limited: bool, skipping: bool) -> sa.Select[Any]:
    if limited:
        statement = statement.limit(sa.bindparam(_LIMIT, type_=sa.BigInteger))
    return statement.offset(sa.bindparam(_OFFSET, type_=sa.BigInteger)) if skipping else statement


def compared_columns(schema: Schema) -> Columns:
    """Return the table's columns as conditions and orders compare them."""
    return {name: with_operators(column) for name, column in sql_columns(schema).items()}


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
        statement = self._select(
            schema, request.columns, request.where.shape, request.order, limited, skipping, request.lock
        )
        parameters = self._parameters(schema, request.where)
        if limited:
            parameters[_LIMIT] = request.limit
        if skipping:
            parameters[_OFFSET] = request.offset
        return statement, parameters

    def group(self, schema: Schema, request: Group) -> tuple[sa.Executable, Parameters]:
        where, having = Condition(request.where.shape), Condition(request.having.shape)
        limit = None if request.limit is None else 1
        shape = replace(request, where=where, having=having, limit=limit, offset=min(request.offset, 1))
        statement, sources = self._group(schema, shape)
        parameters = self._parameters(schema, request.where) | self._parameters(schema, request.having, sources)
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

    def _write_where(self, schema: Schema, shape: Criterion) -> tuple[sa.ColumnElement[bool], Sources]:
        return self._write_clause(shape, self._compared(schema))

    def _write_clause(
        self, shape: Criterion, columns: Columns, prefix: str = ""
    ) -> tuple[sa.ColumnElement[bool], Sources]:
        sources: Sources = {}

        def bind(
            param: Param, type_: Any, change: Change | None = None, *, expanding: bool = False
        ) -> sa.BindParameter[Any]:
            name = f"{prefix}{_LITERAL if change is None else _CHANGED}{param.index}"
            sources[name] = (param.index, change)
            return sa.bindparam(name, type_=type_, expanding=expanding)

        return where_clause(shape, columns, bind, self._dialect), sources

    def _write_select(  # noqa: PLR0917  # the arguments are the key of the cache
        self,
        schema: Schema,
        names: tuple[str, ...],
        shape: Criterion,
        order: tuple[Sort, ...],
        limited: bool,
        skipping: bool,
        lock: Lock | None,
    ) -> sa.Executable:
        columns = self._columns(schema)
        statement = sa.select(*(self._dialect.read(columns[name]) for name in names))
        statement = statement.where(self._where(schema, shape)[0]).order_by(
            *self.order(schema, self._compared(schema), order)
        )
        statement = _limit(statement, limited, skipping)
        if lock is None:
            return statement
        return statement.with_for_update(nowait=lock == "nowait", skip_locked=lock == "skip")

    def order(self, schema: Schema, columns: Columns, order: Sequence[Sort]) -> list[sa.ColumnElement[Any]]:
        return [
            self._dialect.order(columns[one.ref.name], one.descending, nullable=one.ref.name in schema.nullable)
            for one in order
        ]

    def _write_group(self, schema: Schema, request: Group) -> tuple[sa.Executable, Sources]:
        """Group a subquery of keys and measured values, in which a part's children are folded already."""
        columns = self._compared(schema)
        chosen = [self._dialect.key(columns[ref.name]) for ref in request.keys]
        measured = [self._measured(columns, measure) for measure in request.measures]
        named = [one.label(f"v{at}") for at, one in enumerate(chain(chosen, *measured))]
        rows = sa.select(*named or [sa.literal(1).label("v")]).select_from(table_of(schema))
        inner = rows.where(self._where(schema, request.where.shape)[0]).subquery("found")
        found = iter(inner.columns)
        grouped: list[sa.ColumnElement[Any]] = [next(found) for _ in chosen]
        both = [(key, key) for key in grouped]
        for measure, own in zip(request.measures, measured, strict=True):
            both.append(self._fold(schema, measure, [next(found) for _ in own]))
        compared = {str(at): one for at, (_, one) in enumerate(both)}
        clause, sources = self._write_clause(request.having.shape, compared, _HAVING)
        statement = sa.select(*(one for one, _ in both)).select_from(inner).group_by(*grouped)
        if not matches_all(request.having.shape):
            statement = statement.having(clause)
        order = [self._dialect.order(compared[one.ref.name], one.descending, nullable=True) for one in request.order]
        return _limit(statement.order_by(*order), request.limit is not None, request.offset > 0), sources

    def _measured(self, columns: Columns, measure: Measure) -> list[sa.ColumnElement[Any]]:
        """Return what a row contributes to a measure: values, or subqueries that fold those of its children."""
        if measure.part is None:
            column = None if measure.ref is None else self._dialect.read(columns[measure.ref.name])
            return [] if column is None else self._addends(measure, column)
        children, named, joined = _children(measure.part, columns)
        folded: list[sa.ColumnElement[Any]]
        if measure.ref is None:
            folded = [sa.func.count()]
        else:
            values = self._addends(measure, self._dialect.read(named[measure.ref.name]))
            folded = [self._apply(measure.function, one) for one in values]
        return [sa.select(one).select_from(children).where(*joined).scalar_subquery() for one in folded]

    def _addends(self, measure: Measure, column: sa.ColumnElement[Any]) -> list[sa.ColumnElement[Any]]:
        return self._dialect.addends(column) if measure.function == "sum" else [column]

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
            kept = schema if measure.part is None else measure.part.schema
            column = self._compared(kept)[measure.ref.name]
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
        columns = self._columns(schema)
        chosen = [self._dialect.read(columns[name]) for name in returning]
        return sa.insert(table_of(schema)).returning(*chosen, sort_by_parameter_order=many)

    def _write_update(self, schema: Schema, names: tuple[str, ...], shape: Criterion) -> sa.Executable:
        return sa.update(table_of(schema)).where(self._where(schema, shape)[0]).values(self._changes(schema, names))

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
        return sa.delete(table_of(schema)).where(self._where(schema, shape)[0])


def _sql_onupdates(columns: Mapping[str, Any], names: Sequence[str]) -> dict[Any, Any]:
    """Return the columns with SQL in ``onupdate``, which SQLAlchemy adds to UPDATE but not to ON CONFLICT."""
    given = {column: column.onupdate for name, column in columns.items() if name not in names}
    return {column: one.arg for column, one in given.items() if one is not None and one.is_clause_element}

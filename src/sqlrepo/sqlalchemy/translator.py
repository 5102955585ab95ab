"""`apply_query`: a query object applied to a SELECT of your own."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.selectable import GenerativeSelect

from sqlrepo.core.selection import select
from sqlrepo.driver import Condition
from sqlrepo.errors import MappingError, QueryError
from sqlrepo.language.criteria import Param
from sqlrepo.language.query import QueryObject, entity_of
from sqlrepo.sqlalchemy.compiler import Change, Columns, Compiler, PerDialect, compared_columns, where_clause
from sqlrepo.sqlalchemy.dialects import dialect_of
from sqlrepo.sqlalchemy.dialects.base import Dialect
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.reflection import schema_of

S = TypeVar("S", bound=GenerativeSelect)

# The statement is written before there is a connection, so for every database and without knowledge of the server.
_DIALECTS = tuple(dialect_of(module.dialect()) for module in (sqlite, postgresql, mysql))


def apply_query(statement: S, query: QueryObject[Any]) -> S:
    """Add the filters, order, limit and offset of a query object to a SELECT.

    Args:
        statement: ``select(TodoRow)`` for example, which may have joins and conditions of its own. The query is
            applied to the first mapped class that it selects.
        query: the filters, order, limit and offset. The key is appended to the order.

    Returns:
        a new statement.

    Raises:
        QueryError: the statement selects no mapped class, or has a limit already; or the class has no column for a
            field of the query.
    """
    if not isinstance(cast(object, statement), sa.Select):
        raise QueryError(f"apply_query takes a SELECT, not {type(statement).__name__}")
    selected = cast(Any, statement)
    entities = (one.get("entity") for one in selected.column_descriptions)
    model = next((entity for entity in entities if isinstance(entity, type)), None)
    if model is None:
        raise QueryError("apply_query needs a SELECT of a mapped class, such as select(TodoRow)")
    try:
        mapper: Mapper[Any] = Mapper(entity_of(query), schema_of(model), {}, custom_load=True, custom_dump=True)
    except MappingError as error:
        raise QueryError(str(error)) from error
    selection = select(mapper, (query,), {})
    if selection.limit is not None and selected._limit_clause is not None:  # noqa: SLF001  # which has no public name
        raise QueryError(f"limit is given twice: by the statement and by {type(query).__name__}")
    columns = compared_columns(mapper.schema)
    choices = {one.sql.name: where_with_values(selection.where, columns, one) for one in _DIALECTS}
    result = selected.where(PerDialect(choices))
    orders = [Compiler(one).order(mapper.schema, columns, selection.order) for one in _DIALECTS]
    for keys in zip(*orders, strict=True):
        result = result.order_by(PerDialect({one.sql.name: key for one, key in zip(_DIALECTS, keys, strict=True)}))
    result = result if selection.limit is None else result.limit(selection.limit)
    return cast(S, result.offset(selection.offset) if selection.offset else result)


def where_with_values(where: Condition, columns: Columns, dialect: Dialect) -> sa.ColumnElement[bool]:
    """Write a condition with the values of its parameters."""

    def bind(
        param: Param, type_: Any, change: Change | None = None, *, expanding: bool = False
    ) -> sa.BindParameter[Any]:
        value = where.params[param.index]
        value = value if change is None else change(value)
        return sa.bindparam(None, value, type_=type_, expanding=expanding, unique=True)

    return where_clause(where.shape, columns, bind, dialect)

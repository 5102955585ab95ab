"""The translator alone: a query object applied to a SELECT of the user's own.

Knows how a statement says which mapped class it selects. Must not know repositories or units of work.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.selectable import GenerativeSelect

from sqlrepo._base.selection import select
from sqlrepo.criteria import Param
from sqlrepo.errors import MappingError, QueryError
from sqlrepo.mapped import schema_of
from sqlrepo.mapping import Mapper
from sqlrepo.query import QueryObject, entity_of
from sqlrepo.sqlalchemy.compiler import Compiler, columns_of, where_clause
from sqlrepo.sqlalchemy.dialects import SQLite

__all__ = ["apply_query"]

S = TypeVar("S", bound=GenerativeSelect)


def apply_query(statement: S, query: QueryObject[Any]) -> S:
    """Narrow, order and limit a SELECT as a query object says.

    Args:
        statement: ``select(TodoRow)``, with joins and conditions of its own if need be; its first mapped class is the
            one the query is about.
        query: filters, order, limit and offset; the key is appended to the order.

    Returns:
        a new statement.

    Raises:
        QueryError: the statement selects no mapped class, or the query asks for a field it has no column for.
    """
    chosen = cast(Any, statement)
    described = (found.get("entity") for found in chosen.column_descriptions)
    model = next((entity for entity in described if isinstance(entity, type)), None)
    if model is None:
        raise QueryError("apply_query needs a SELECT of a mapped class")
    try:
        mapper: Mapper[Any] = Mapper(entity_of(query), schema_of(model), {}, custom_load=True, custom_dump=True)
    except MappingError as error:
        raise QueryError(str(error)) from error
    selection = select(mapper, (query,), {})
    where, dialect, columns = selection.where, SQLite(sqlite.dialect()), columns_of(mapper.schema)

    def bind(param: Param, type_: Any, change: Any) -> sa.BindParameter[Any]:
        value = where.params[param.index]
        if isinstance(value, tuple):
            return sa.bindparam(None, value, type_=type_, expanding=True, unique=True)
        return sa.bindparam(None, value if change is None else change(value), type_=type_, unique=True)

    narrowed = chosen.where(where_clause(where.shape, columns, bind, dialect))
    narrowed = narrowed.order_by(*Compiler(dialect).order(mapper.schema, columns, selection.order))
    narrowed = narrowed if selection.limit is None else narrowed.limit(selection.limit)
    return cast(S, narrowed.offset(selection.offset) if selection.offset else narrowed)

"""The translator alone: a query object applied to a SELECT of the user's own.

Knows how a statement says which mapped class it selects. Must not know repositories or units of work.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.selectable import GenerativeSelect

from sqlrepo.core.selection import Selection, select
from sqlrepo.errors import MappingError, QueryError
from sqlrepo.language.criteria import Param
from sqlrepo.language.query import QueryObject, entity_of
from sqlrepo.sqlalchemy.compiler import Columns, Compiler, PerDialect, columns_of, where_clause
from sqlrepo.sqlalchemy.dialects import Dialect, dialect_of
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.reflection import schema_of
from sqlrepo.tables.schema import Schema

__all__ = ["apply_query"]

S = TypeVar("S", bound=GenerativeSelect)

# Nothing is known of the server: the statement is written before there is a connection.
_DIALECTS = tuple(dialect_of(module.dialect()) for module in (sqlite, postgresql, mysql))


def apply_query(statement: S, query: QueryObject[Any]) -> S:
    """Narrow, order and limit a SELECT as a query object says.

    Args:
        statement: ``select(TodoRow)``, with joins and conditions of its own if need be; its first mapped class is the
            one the query is about.
        query: filters, order, limit and offset; the key is appended to the order.

    Returns:
        a new statement.

    Raises:
        QueryError: the statement selects no mapped class or has a limit already, or the query asks for a field it has
            no column for.
    """
    if not isinstance(cast(object, statement), sa.Select):
        raise QueryError(f"apply_query takes a SELECT, not {type(statement).__name__}")
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
    if selection.limit is not None and chosen._limit_clause is not None:  # noqa: SLF001  # it has no public name
        raise QueryError(f"limit is given twice: by the statement and by {type(query).__name__}")
    columns = columns_of(mapper.schema)
    written = [_Written(selection, mapper.schema, columns, dialect) for dialect in _DIALECTS]
    narrowed = chosen.where(PerDialect({one.name: one.where for one in written}))
    for place in range(len(selection.order)):
        narrowed = narrowed.order_by(PerDialect({one.name: one.order[place] for one in written}))
    narrowed = narrowed if selection.limit is None else narrowed.limit(selection.limit)
    return cast(S, narrowed.offset(selection.offset) if selection.offset else narrowed)


class _Written:
    """A question as one database is asked it."""

    def __init__(self, selection: Selection, schema: Schema, columns: Columns, dialect: Dialect) -> None:
        where = selection.where

        def bind(param: Param, type_: Any, change: Any) -> sa.BindParameter[Any]:
            value = where.params[param.index]
            if isinstance(value, tuple):
                return sa.bindparam(None, value, type_=type_, expanding=True, unique=True)
            return sa.bindparam(None, value if change is None else change(value), type_=type_, unique=True)

        self.name = dialect.sql.name
        self.where = where_clause(where.shape, columns, bind, dialect)
        self.order = Compiler(dialect).order(schema, columns, selection.order)

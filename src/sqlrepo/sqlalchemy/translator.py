"""`apply_query`: a query object applied to a SELECT of your own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.selectable import GenerativeSelect

from sqlrepo.core.related import Kinds
from sqlrepo.core.selection import select
from sqlrepo.driver import Condition
from sqlrepo.errors import MappingError, QueryError
from sqlrepo.language.criteria import Param
from sqlrepo.language.query import QueryObject, entity_of
from sqlrepo.sqlalchemy.compiler import Change, PerDialect, Scribe, compared_columns, write_order
from sqlrepo.sqlalchemy.dialects import dialect_of
from sqlrepo.sqlalchemy.dialects.base import Dialect
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.reflection import schema_of

S = TypeVar("S", bound=GenerativeSelect)

# The statement is written before there is a connection, so for every database and without knowledge of the server.
_BARE: tuple[Any, ...] = (sqlite.dialect, postgresql.dialect, mysql.dialect)
_DIALECTS = (*(dialect_of(one()) for one in _BARE), dialect_of(_BARE[-1](is_mariadb=True)))


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
        alone = _Alone(Mapper(entity_of(type(query)), schema_of(model), {}, custom_load=True, custom_dump=True))
    except MappingError as error:
        raise QueryError(str(error)) from error
    selection = select(alone, (query,), {})
    if selection.limit is not None and selected._limit_clause is not None:  # noqa: SLF001  # which has no public name
        raise QueryError(f"limit is given twice: by the statement and by {type(query).__name__}")
    schema, where = alone._mapper.schema, selection.where
    columns = compared_columns(schema)
    scribes = [scribe_with_values(where, one) for one in _DIALECTS]
    result = selected.where(PerDialect({one.dialect.name: one.clause(where.shape, columns) for one in scribes}))
    orders = [write_order(schema, one, columns, selection.order) for one in scribes]
    for keys in zip(*orders, strict=True):
        result = result.order_by(PerDialect({one.name: key for one, key in zip(_DIALECTS, keys, strict=True)}))
    result = result if selection.limit is None else result.limit(selection.limit)
    return cast(S, result.offset(selection.offset) if selection.offset else result)


@dataclass
class _Alone:
    """A mapper without a repository, and so without a unit of work."""

    _mapper: Mapper[Any]

    @property
    def _relations(self) -> Kinds:
        raise QueryError(
            "apply_query cannot filter across tables, because it does not know their scopes; use a repository"
        )


def scribe_with_values(where: Condition, dialect: Dialect) -> Scribe:
    """Make a scribe that writes the values of a condition's parameters."""

    def bind(
        param: Param, type_: Any, change: Change | None = None, *, expanding: bool = False
    ) -> sa.BindParameter[Any]:
        value = where.params[param.index]
        value = value if change is None else change(value)
        return sa.bindparam(None, value, type_=type_, expanding=expanding, unique=True)

    return Scribe(bind, dialect)

"""The mapped class behind the description of a table."""

from __future__ import annotations

from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.orm import Mapper

from sqlrepo.errors import MappingError
from sqlrepo.tables.schema import Schema


def mapper_of(schema: Schema) -> Mapper[Any]:
    """Return SQLAlchemy's mapper of a table; raises MappingError if the table was declared by hand."""
    if schema.model is None:
        raise MappingError(f"table {schema.name} has no mapped class, so it can only be kept in memory")
    return cast("Mapper[Any]", sa.inspect(schema.model))


def table_of(schema: Schema) -> sa.Table:
    return cast(sa.Table, mapper_of(schema).local_table)

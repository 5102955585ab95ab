"""Rows to objects.

Knows a class and which of its fields each value of a row is. Must not know where rows come from, nor how objects become
rows again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sqlrepo.driver import Row
from sqlrepo.entities import describe, is_model, maker
from sqlrepo.errors import MappingError
from sqlrepo.schema import Schema
from sqlrepo.values import Kind

__all__ = ["Builder"]


class Builder:
    """Builds objects of one class from rows.

    Args:
        model: an entity class, whose fields are columns.
        schema: the table.
        columns: what the rows hold, in their order.
        fields: the fields of columns that are called otherwise.
    """

    def __init__(self, model: type[Any], schema: Schema, columns: Sequence[str], fields: Mapping[str, str]) -> None:
        known = describe(model)
        self._model = model
        self._schema = schema
        self._columns = tuple(columns)
        named = [(fields.get(column, column), place) for place, column in enumerate(columns)]
        self._given = [(name, place) for name, place in named if name in known]
        listed: Any = list.__class_getitem__(model)  # a class known when the program runs only
        self._adapter: TypeAdapter[list[Any]] | None = TypeAdapter(listed) if is_model(model) else None
        self._make = maker(model)
        # Members of an enumeration whose values the column keeps as plain text or number.
        self._members = [
            (name, known[name].type.python)
            for name, place in self._given
            if known[name].type.kind is Kind.ENUM and schema.by_name[columns[place]].type.kind is not Kind.ENUM
        ]

    def __call__(self, rows: Sequence[Row]) -> list[Any]:
        """Build an object of each row.

        Raises:
            MappingError: the class refuses one; names table, key and reason.
        """
        values = [{name: row[place] for name, place in self._given} for row in rows]
        if self._members:
            values = [value | self._members_of(value, row) for value, row in zip(values, rows, strict=True)]
        if self._adapter is None:
            return [self._made(value, row) for value, row in zip(values, rows, strict=True)]
        try:
            return self._adapter.validate_python(values, by_alias=False, by_name=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            index, *place = first["loc"]
            where = ".".join(map(str, place)) or "the whole row"
            raise self._misfit(rows[int(index)], f"{where}: {first['type']}") from error

    def _made(self, value: Mapping[str, Any], row: Row) -> Any:
        """Build one object, of a class that checks its values itself if it does."""
        try:
            return self._make(value)
        except (TypeError, ValueError) as error:
            raise self._misfit(row, f"its class raises {type(error).__name__}") from error

    def _members_of(self, value: Mapping[str, Any], row: Row) -> dict[str, Any]:
        """The members of enumerations that stored values stand for."""
        try:
            return {name: enum(value[name]) for name, enum in self._members if value[name] is not None}
        except ValueError as error:
            raise self._misfit(row, "a value is no member of its enumeration") from error

    def _misfit(self, row: Row, why: str) -> MappingError:
        """What is wrong with a row; no value of it but the key."""
        key = [row[self._columns.index(name)] for name in self._schema.key if name in self._columns]
        return MappingError(f"row {key} of table {self._schema.name} is no {self._model.__name__}: {why}")

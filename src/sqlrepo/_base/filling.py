"""What a repository class supplies in the place of what only a database can compute.

Knows names of columns and of constraints. Must not know when they are filled in or asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sqlrepo.errors import MappingError, nearest
from sqlrepo.schema import Check, Column, Constant, OfRow, Schema
from sqlrepo.values import WrongValueError

__all__ = ["supplied"]


def supplied(
    schema: Schema,
    fields: Mapping[str, str],
    defaults: Mapping[str, Any],
    checks: Mapping[str, Callable[[Mapping[str, Any]], bool | None]],
) -> Schema:
    """Add to a table what the user says memory shall do in the database's place.

    Args:
        schema: the table.
        fields: the column of each field that has another name.
        defaults: values, or functions of the row, by field.
        checks: functions of the row, by the name of the check.

    Raises:
        MappingError: a name is unknown, or the database does nothing there to stand in for.
    """
    if defaults:
        given = {_filled(schema, fields.get(name, name)): value for name, value in defaults.items()}
        schema = replace(schema, columns=tuple(_standing_in(one, given, fields) for one in schema.columns))
    if checks:
        for name in checks:
            _refuse_unknown(schema, name)
        schema = replace(schema, checks=tuple(_asked(check, checks, fields) for check in schema.checks))
    return schema


def _filled(schema: Schema, name: str) -> str:
    if name not in schema.by_name:
        raise MappingError(
            f"`memory_defaults` names {name!r}, which is no column of table {schema.name}"
            f"{nearest(name, schema.by_name)}"
        )
    if schema.by_name[name].filled_by_database is None:
        raise MappingError(f"`memory_defaults` names {name!r}, which table {schema.name} does not fill in by itself")
    return name


def _standing_in(column: Column, given: Mapping[str, Any], fields: Mapping[str, str]) -> Column:
    if column.name not in given:
        return column
    value = given[column.name]
    if callable(value):
        return replace(column, stands_in=OfRow(value, fields))
    try:
        return replace(column, stands_in=Constant(column.type.store(column.check(value))))
    except WrongValueError as wrong:
        raise MappingError(f"the value that `memory_defaults` gives {column.name!r} {wrong}") from wrong


def _refuse_unknown(schema: Schema, name: str) -> None:
    known = [check.name for check in schema.checks if check.name]
    if name not in known:
        raise MappingError(
            f"`memory_checks` names {name!r}, which is no check of table {schema.name}{nearest(name, known)}"
        )


def _asked(check: Check, given: Mapping[str, Any], fields: Mapping[str, str]) -> Check:
    function = given.get(check.name or "")
    return check if function is None else replace(check, test=OfRow(function, fields))

"""Server defaults, read as values that memory can fill in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from sqlrepo.language.values import Kind, ValueType, WrongValueError
from sqlrepo.tables.schema import ConstantDefault

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_QUOTED = re.compile(r"'((?:[^'\\]|'')*)'")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def read_default(column: sa.Column[Any], type_: ValueType) -> ConstantDefault | None:
    """Read a server default as a stored value; None if it is not a literal, or differs between databases."""
    given = getattr(column.server_default, "arg", None)
    if isinstance(given, sa.True_ | sa.False_):
        return _parse_bare("true" if isinstance(given, sa.True_) else "false", type_)
    if isinstance(given, str):
        return _parse_quoted(given, type_) if _is_portable(column.type, type_) else None
    if not isinstance(given, sa.TextClause | sa.Null):
        return None
    text = "NULL" if isinstance(given, sa.Null) else given.text.strip()
    if text.upper() == "NULL":
        return ConstantDefault(None) if column.nullable else None
    if not _is_portable(column.type, type_):
        return None
    if quoted := _QUOTED.fullmatch(text):
        return _parse_quoted(quoted[1].replace("''", "'"), type_)
    return _parse_bare(text.lower(), type_)


def _is_portable(given: Any, type_: ValueType) -> bool:
    # True if a literal means the same to all databases, because they store such values alike.
    return type_.kind not in (Kind.DECIMAL, Kind.FLOAT) or not hasattr(given, "value_type")


def _parse_bare(text: str, type_: ValueType) -> ConstantDefault | None:
    if type_.kind is Kind.BOOLEAN:
        return ConstantDefault(_BOOLEANS[text]) if text in _BOOLEANS else None
    return _parse_literal(text, type_) if type_.kind in _NUMBERS else None


def _parse_quoted(text: str, type_: ValueType) -> ConstantDefault | None:
    if type_.kind is Kind.BOOLEAN:
        return ConstantDefault(text == "1") if text in ("0", "1") else None  # SQLite would store 'true' as text
    return _parse_literal(text, type_)


def _parse_literal(text: str, type_: ValueType) -> ConstantDefault | None:
    if type_.kind is Kind.ENUM:
        return ConstantDefault(text) if type_.labels and text in type_.labels.values() else None
    if type_.kind not in _PARSERS or (type_.kind in _NUMBERS and not _NUMBER.fullmatch(text)):
        return None
    bare = replace(type_, bind=None, result=None)  # a server default bypasses the user's functions
    try:
        return ConstantDefault(bare.check(_PARSERS[type_.kind](text)))
    except (ValueError, WrongValueError):
        return None


def _parse_date(text: str) -> date:
    found = date.fromisoformat(text)
    if found.isoformat() != text:  # SQLite stores the text as written
        raise ValueError(text)
    return found


_NUMBERS: Mapping[Kind, Callable[[str], Any]] = {Kind.INTEGER: int, Kind.FLOAT: float, Kind.DECIMAL: Decimal}
_PARSERS: Mapping[Kind, Callable[[str], Any]] = {**_NUMBERS, Kind.TEXT: str, Kind.DATE: _parse_date}

"""Reads the server defaults that are literals.

Knows what a literal of SQL means to a column. Must not know expressions: what they give only the database can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from sqlrepo.schema import Constant
from sqlrepo.values import Kind, ValueType, WrongValueError

__all__ = ["constant"]

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_QUOTED = re.compile(r"'((?:[^'\\]|'')*)'")
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def constant(column: sa.Column[Any], type_: ValueType) -> Constant | None:
    """Read a column's server default as rows will keep it; None where it is no literal, or not the same everywhere."""
    given = getattr(column.server_default, "arg", None)
    if isinstance(given, sa.True_ | sa.False_):
        return _bare("true" if isinstance(given, sa.True_) else "false", type_)
    if isinstance(given, str):
        return _quoted(given, type_) if _alike(column.type, type_) else None
    if not isinstance(given, sa.TextClause | sa.Null):
        return None
    text = "NULL" if isinstance(given, sa.Null) else given.text.strip()
    if text.upper() == "NULL":
        return Constant(None) if column.nullable else None
    if not _alike(column.type, type_):
        return None
    if quoted := _QUOTED.fullmatch(text):
        return _quoted(quoted[1].replace("''", "'"), type_)
    return _bare(text.lower(), type_)


def _alike(given: Any, type_: ValueType) -> bool:
    """Whether all databases keep such values in the same way, so that a literal means the same to them."""
    return type_.kind not in (Kind.DECIMAL, Kind.FLOAT) or not hasattr(given, "value_type")


def _bare(text: str, type_: ValueType) -> Constant | None:
    if type_.kind is Kind.BOOLEAN:
        return Constant(_TRUTHS[text]) if text in _TRUTHS else None
    return _read(text, type_) if type_.kind in _NUMBERS else None


def _quoted(text: str, type_: ValueType) -> Constant | None:
    if type_.kind is Kind.BOOLEAN:
        return Constant(text == "1") if text in ("0", "1") else None  # SQLite would keep 'true' as a text
    return _read(text, type_)


def _read(text: str, type_: ValueType) -> Constant | None:
    if type_.kind is Kind.ENUM:
        return Constant(text) if type_.labels and text in type_.labels.values() else None
    if type_.kind not in _READERS or (type_.kind in _NUMBERS and not _NUMBER.fullmatch(text)):
        return None
    bare = replace(type_, bind=None, result=None)  # the database's own values do not pass the user's functions
    try:
        return Constant(bare.check(_READERS[type_.kind](text)))
    except (ValueError, WrongValueError):
        return None


def _date(text: str) -> date:
    found = date.fromisoformat(text)
    if found.isoformat() != text:  # SQLite keeps the text as it is written
        raise ValueError(text)
    return found


_NUMBERS: Mapping[Kind, Callable[[str], Any]] = {Kind.INTEGER: int, Kind.FLOAT: float, Kind.DECIMAL: Decimal}
_READERS: Mapping[Kind, Callable[[str], Any]] = {**_NUMBERS, Kind.TEXT: str, Kind.DATE: _date}

"""Server defaults, read as values that memory can fill in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from secrets import randbits
from time import time_ns
from typing import Any
from uuid import UUID, uuid1, uuid4

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from sqlrepo.language.values import Kind, ValueType, WrongValueError
from sqlrepo.tables.schema import ConstantDefault, RowFunction

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_QUOTED = re.compile(r"'((?:[^'\\]|'')*)'")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
# PostgreSQL shows each literal with a cast: 'x'::character varying, (0)::numeric(5,2), '{}'::text[].
_CAST = re.compile(
    r"(?P<literal>'(?:[^']|'')*'|[-+\w.]+|\(.*\))\s*::\s*[a-z_\"][\w .\"]*(?:\((?P<length>\d+)[\d, ]*\))?(?:\[\])*",
    re.IGNORECASE | re.DOTALL,
)
# One of the kinds whose literals differ between databases, as only PostgreSQL shows it.
_OWN_CAST = re.compile(r"'([^']*)'::(timestamp|time|uuid)(?: without time zone)?")
_ON_UPDATE = re.compile(r"\s+on\s+update\s+", re.IGNORECASE)


def domains_of(type_: Any) -> list[postgresql.DOMAIN]:
    """Return the domains of a column on PostgreSQL, the outermost first; one may be made of another."""
    found: list[postgresql.DOMAIN] = []
    type_ = getattr(type_, "_variant_mapping", {}).get("postgresql", type_)
    while isinstance(type_, postgresql.DOMAIN):
        found.append(type_)
        type_ = type_.data_type
    return found


def read_default(column: sa.Column[Any], type_: ValueType) -> ConstantDefault | RowFunction | None:
    """Read what the database fills in; None if it is unreadable, or an update fills in something else than an insert.

    A literal is read as a stored value.
    """
    sources = [_inserted(column), _updated(column)]
    found = [_read(given, column, type_) for given in sources if given is not None]
    return found[0] if found and all(one == found[0] for one in found) else None


def updates_itself(column: sa.Column[Any]) -> bool:
    """Return True for MariaDB's ON UPDATE, which is written, and reflected, as a part of the default."""
    given = getattr(column.server_default, "arg", None)
    return isinstance(given, sa.TextClause) and _ON_UPDATE.search(given.text) is not None


def _inserted(column: sa.Column[Any]) -> Any:
    given: Any = column.default
    if given is None:
        of_domains = (one.default for one in domains_of(column.type) if one.default is not None)
        return getattr(column.server_default, "arg", next(of_domains, None))
    return given.arg if getattr(given, "is_clause_element", False) else None


def _updated(column: sa.Column[Any]) -> Any:
    given: Any = column.onupdate
    if given is not None:
        return given.arg if getattr(given, "is_clause_element", False) else None
    if column.server_onupdate is not None:
        return column.server_onupdate  # unreadable: the database, or a trigger, does what only it knows
    return _inserted(column) if updates_itself(column) else None


def _read(given: Any, column: sa.Column[Any], type_: ValueType) -> ConstantDefault | RowFunction | None:
    if isinstance(given, sa.True_ | sa.False_):
        return parse_bare("true" if isinstance(given, sa.True_) else "false", type_)
    if isinstance(given, str):
        return _parse_quoted(given, type_) if _is_portable(column.type, type_) else None
    if not isinstance(given, sa.ClauseElement):
        return None
    text = _text_of(given)
    if (made := _read_function(text, column.type, type_)) is not None:
        return made
    return _read_literal(text, column, type_) if isinstance(given, sa.TextClause | sa.Null) else None


def _read_literal(text: str, column: sa.Column[Any], type_: ValueType) -> ConstantDefault | None:
    if own := _OWN_CAST.fullmatch(text.strip("()")):
        return parse_cast(own[1], own[2], type_)
    text = _strip(text)
    if text.upper() == "NULL":
        return ConstantDefault(None) if column.nullable else None
    if isinstance(column.type, sa.JSON):
        return _parse_json(text, type_)
    if not _is_portable(column.type, type_):
        return None
    if quoted := _QUOTED.fullmatch(text):
        return _parse_quoted(quoted[1].replace("''", "'"), type_)
    return parse_bare(text.lower(), type_)


def _text_of(given: sa.ClauseElement) -> str:
    if isinstance(given, sa.TextClause):
        inserted, *updated = _ON_UPDATE.split(given.text.strip())
        return inserted if not updated or updated == [inserted] else ""
    try:
        return str(given.compile(compile_kwargs={"literal_binds": True}))
    except exc.CompileError:
        return ""


def _strip(text: str) -> str:
    """Remove casts and parentheses around a literal; a cast that would cut it off stays."""
    while True:
        cast = _CAST.fullmatch(text)
        if cast and (cast["length"] is None or not (text[0] == "'" and len(cast["literal"]) - 2 > int(cast["length"]))):
            text = cast["literal"]
        elif text.startswith("(") and text.endswith(")"):
            text = text[1:-1].strip()
        else:
            return text


# -- functions

_MICROSECONDS = 6  # digits
_NOW = (
    "now()", "current_timestamp", "current_timestamp()", "localtimestamp", "localtimestamp()", "sysdate()",
    "statement_timestamp()", "transaction_timestamp()", "clock_timestamp()", "utc_timestamp()", "datetime('now')",
    "timezone('utc',now())", "now()attimezone'utc'", "current_timestampattimezone'utc'",
)  # fmt: skip
_TODAY = ("current_date", "current_date()", "curdate()", "date('now')")
_UUID7_STEP = 245  # nanoseconds, of which twelve bits make a millisecond
_latest = [0]


def uuid7() -> UUID:
    """Make a UUID as PostgreSQL does: later ones of a process are larger."""
    _latest[0] = now = max(time_ns(), _latest[0] + _UUID7_STEP)
    milliseconds, rest = divmod(now, 1_000_000)
    return UUID(int=milliseconds << 80 | 7 << 76 | rest * 4096 // 1_000_000 << 64 | 2 << 62 | randbits(62))


_UUIDS: Mapping[str, Callable[[], UUID]] = {
    "gen_random_uuid()": uuid4,
    "uuid_generate_v4()": uuid4,
    "uuidv4()": uuid4,
    "uuidv7()": uuid7,
    "uuid_generate_v1()": uuid1,
    "uuid_generate_v1mc()": uuid1,
    "uuid()": uuid1,
}


def _made_by(make: Callable[[], Any]) -> RowFunction:
    return RowFunction(lambda _: make())


def _now(*, aware: bool, rounded: bool) -> datetime:
    now = datetime.now(UTC)
    now = now.replace(microsecond=0) if rounded else now
    return now if aware else now.replace(tzinfo=None)


# One function each, because tables are the same only if their functions are.
_UUID_FUNCTIONS = {make: _made_by(make) for make in (uuid1, uuid4, uuid7)}
_UUID_TEXTS = {
    uuid1: _made_by(lambda: str(uuid1())),
    uuid4: _made_by(lambda: str(uuid4())),
    uuid7: _made_by(lambda: str(uuid7())),
}
_TODAY_FUNCTION = _made_by(lambda: datetime.now(UTC).date())
_NOW_FUNCTIONS = {
    (aware, rounded): _made_by(partial(_now, aware=aware, rounded=rounded))
    for aware in (True, False)
    for rounded in (True, False)
}


def _read_function(text: str, given: Any, type_: ValueType) -> RowFunction | None:
    """Read a call of the clock or of a maker of UUIDs."""
    called = re.sub(r"\s+|::text|^\w+\.(?=\w+\()", "", text.lower())
    called = re.sub(r"\(\d\)", "()", called)
    while called.startswith("(") and called.endswith(")") and "'now')::" not in called:
        called = called[1:-1]
    if type_.bind is not None:
        return None  # the database's value bypasses the user's functions
    if type_.kind is Kind.DATETIME and (called in _NOW or called.startswith("('now')::timestamp")):
        digits = getattr(given, "fsp", None) if hasattr(given, "fsp") else getattr(given, "precision", None) or 6
        return _NOW_FUNCTIONS[bool(type_.aware), digits != _MICROSECONDS]
    if type_.kind is Kind.DATE and (called in _TODAY or called == "('now')::date"):
        return _TODAY_FUNCTION
    if called in _UUIDS and type_.kind in (Kind.UUID, Kind.TEXT):
        return (_UUID_FUNCTIONS if type_.kind is Kind.UUID else _UUID_TEXTS)[_UUIDS[called]]
    return None


# -- literals


def _is_portable(given: Any, type_: ValueType) -> bool:
    # True if a literal means the same to all databases, because they store such values alike.
    return type_.kind not in (Kind.DECIMAL, Kind.FLOAT) or not hasattr(given, "value_type")


def parse_bare(text: str, type_: ValueType) -> ConstantDefault | None:
    if type_.kind is Kind.BOOLEAN:
        return ConstantDefault(_BOOLEANS[text]) if text in _BOOLEANS else None
    return parse_literal(text, type_) if type_.kind in _NUMBERS else None


def _parse_quoted(text: str, type_: ValueType) -> ConstantDefault | None:
    if type_.kind is Kind.BOOLEAN:
        return ConstantDefault(text == "1") if text in ("0", "1") else None  # SQLite would store 'true' as text
    return parse_literal(text, type_)


def _parse_json(text: str, type_: ValueType) -> ConstantDefault | None:
    try:
        return ConstantDefault(type_.store(json.loads(text.strip("'").replace("''", "'"))))
    except ValueError:
        return None


def parse_literal(text: str, type_: ValueType) -> ConstantDefault | None:
    if type_.kind is Kind.ENUM:
        return ConstantDefault(text) if type_.labels and text in type_.labels.values() else None
    if type_.kind not in _PARSERS or (type_.kind in _NUMBERS and not _NUMBER.fullmatch(text)):
        return None
    return _parse(text, _PARSERS[type_.kind], type_)


def parse_cast(text: str, cast: str, type_: ValueType) -> ConstantDefault | None:
    """Read a literal that PostgreSQL casts to the column's type; without the cast, databases differ about it."""
    parse = _OWN_PARSERS.get((type_.kind, cast.lower()))
    return _parse(text, parse, type_) if parse and not type_.aware else None


def _parse(text: str, parse: Callable[[str], Any], type_: ValueType) -> ConstantDefault | None:
    bare = replace(type_, bind=None, result=None)  # a server default bypasses the user's functions
    try:
        return ConstantDefault(bare.check(parse(text)))
    except (ValueError, WrongValueError):
        return None


def _parse_date(text: str) -> date:
    found = date.fromisoformat(text)
    if found.isoformat() != text:  # SQLite stores the text as written
        raise ValueError(text)
    return found


_NUMBERS: Mapping[Kind, Callable[[str], Any]] = {Kind.INTEGER: int, Kind.FLOAT: float, Kind.DECIMAL: Decimal}
_PARSERS: Mapping[Kind, Callable[[str], Any]] = {**_NUMBERS, Kind.TEXT: str, Kind.DATE: _parse_date}
_OWN_PARSERS: Mapping[tuple[Kind, str], Callable[[str], Any]] = {
    (Kind.DATETIME, "timestamp"): datetime.fromisoformat,
    (Kind.TIME, "time"): time.fromisoformat,
    (Kind.UUID, "uuid"): UUID,
}
# The kinds whose literals need no quotes.
BARE = (Kind.BOOLEAN, *_NUMBERS)

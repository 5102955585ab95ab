"""Which values a column is tried with: few, so that rows meet and tie, and those that databases disagree about.

Knows kinds of values and their limits. Must not know entities or Hypothesis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlrepo.memory import Kind, ValueType

__all__ = ["misfits", "values"]

# What an index of MariaDB takes; a longer text at the limit would make most tables refuse their own edge.
_LONG = 255

# Cases, accents, trailing blanks, wildcards, quotes, letters with odd lower cases, code points that UTF-16 missorts.
_TEXTS = ("a", "b", "A", "a ", "", "ab", "%", "a_b", "\\", "a%", "i", "İ", "é", "É", "ß", "\uffff", "\U00010000", "'\"")
# What common validators of texts ask for.
_SHAPED = ("abc", "abcdef", "ABC", "1", "12", "a@example.org", "https://example.org/", "2024-02-29", "a-b")
_INTEGERS = (1, 2, 0, -1, 3, 5, 10, 100, 2**53 + 1, 1000, 2024)
_FLOATS = (0.0, 1.5, 1.0, -0.0, 0.1, 0.1 + 0.2, -1.5, 9007199254740993.0, 5e-324, -1e300, 100.0)
_MOMENTS = (
    datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001  # of a column without zone; the others get one below
    datetime(2024, 2, 29, 12, 30, 0, 1),  # noqa: DTZ001
    datetime(2024, 1, 1),  # noqa: DTZ001
    datetime(1999, 12, 31, 23, 59, 59, 999_999),  # noqa: DTZ001
    datetime(2, 1, 1),  # noqa: DTZ001
)
_PLAIN: Mapping[Kind, tuple[Any, ...]] = {
    Kind.BOOLEAN: (True, False),
    Kind.FLOAT: _FLOATS,
    Kind.DATE: (date(2024, 2, 29), date(2024, 3, 1), date(1999, 12, 31), date.min, date.max),
    Kind.TIME: (time(12), time(0), time(0, 0, 0, 1), time(12, 0, 1), time.max),
    Kind.DURATION: (
        timedelta(hours=1),
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(microseconds=-1),
        timedelta(days=40_000),
    ),
    Kind.UUID: tuple(UUID(int=number) for number in (1, 2**127, 0, 0x00112233445566778899AABBCCDDEEFF, 2**128 - 1)),
    Kind.OPAQUE: ({"a": 1}, {}, [1, 2.5, "x"], "text", 1.5, {"a": {"b": [None, True]}}),
}


def values(limits: ValueType) -> list[Any]:
    """Values that a column can hold, the plainest first."""
    found = list(_of_kind(limits))
    return [value for index, value in enumerate(found) if _fits(limits, value) and not _among(value, found[:index])]


def misfits(limits: ValueType) -> list[Any]:
    """Values that a column cannot hold."""
    found: list[Any] = [object] if limits.kind is Kind.OPAQUE else [b"x" if limits.kind is Kind.TEXT else "x"]
    match limits.kind:
        case Kind.TEXT:
            found = ["a\0", "\ud800", *(["a" * (limits.length + 1)] if limits.length else []), 1]
        case Kind.INTEGER:
            found = [*([limits.high + 1] if limits.high is not None else []), True, 1.0]
        case Kind.FLOAT:
            found = [float("nan"), float("inf"), "1"]
        case Kind.DECIMAL:
            found = [Decimal("NaN"), Decimal(10) ** 40, Decimal(1).scaleb(-40), 1.5]
        case Kind.BYTES:
            found = [*([b"a" * (limits.length + 1)] if limits.length else []), "a"]
        case Kind.DATETIME:
            found = [_MOMENTS[0] if limits.aware else _MOMENTS[0].replace(tzinfo=UTC), date(2024, 1, 1)]
        case Kind.DATE:
            found = [_MOMENTS[0], "2024-01-01"]
        case Kind.TIME:
            found = [time(12, tzinfo=UTC)]
        case Kind.OPAQUE:
            found = []
        case _:
            pass
    return [value for value in found if not _fits(limits, value)]


def _of_kind(limits: ValueType) -> Iterable[Any]:
    match limits.kind:
        case Kind.TEXT:
            return [*(limits.labels or ()), *_TEXTS, *_SHAPED, *_long(limits, "a"), *_lines(limits)]
        case Kind.BYTES:
            edge = [b"\xff" * limits.length] if limits.length and limits.length <= _LONG else []
            return [b"a", b"", b"\0", b"A", b"a ", b"\x80", b"\0\0", *edge]
        case Kind.INTEGER:
            return [*_INTEGERS, *(one for one in (limits.low, limits.high) if one is not None)]
        case Kind.DECIMAL:
            return _decimals(limits)
        case Kind.DATETIME:
            return _MOMENTS if limits.aware is False else _aware()
        case Kind.ENUM:
            members: Any = limits.python
            return list(limits.labels or members)
        case _:
            return _PLAIN[limits.kind]


def _long(limits: ValueType, character: str) -> list[str]:
    return [character * limits.length] if limits.length and limits.length <= _LONG else []


def _lines(limits: ValueType) -> list[str]:
    return ["two\nlines"] if not limits.length or limits.length > _LONG else []


def _decimals(limits: ValueType) -> list[Decimal]:
    scale, precision = limits.scale or 0, limits.precision or 10
    quantum = Decimal(1).scaleb(-scale)
    most = Decimal(10) ** (precision - scale) - quantum
    return [Decimal(1), Decimal(0), Decimal("1.5"), quantum, -quantum, Decimal("-0"), Decimal(10), most, -most]


def _aware() -> list[datetime]:
    there = timezone(timedelta(hours=2))
    return [*(moment.replace(tzinfo=UTC) for moment in _MOMENTS), _MOMENTS[0].replace(tzinfo=there)]


def _fits(limits: ValueType, value: Any) -> bool:
    try:
        limits.check(value)
    except ValueError:
        return False
    return True


def _among(value: Any, others: Iterable[Any]) -> bool:
    """Whether a value is there already, written the same way: 0.0 is another than -0.0, and 1 than True."""
    return any(type(value) is type(other) and repr(value) == repr(other) for other in others)

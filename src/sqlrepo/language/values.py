"""Scalar types, their limits, and the strict check that every value passes on the way to a back end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from enum import Enum
from typing import Any
from uuid import UUID

JSON_FORM = "json"  # the form of JSON columns

# Quantises decimals without ever rounding for lack of precision.
EXACT = Context(prec=10_000)

# MariaDB's character sets that lack characters, as Python knows them.
_WITHOUT_SUPPLEMENTARY = ("utf8", "utf8mb3")
_CODECS = {"latin1": "cp1252", "ascii": "ascii"}
CHARSETS = (*_WITHOUT_SUPPLEMENTARY, *_CODECS)

# The digits of PostgreSQL's NUMERIC without precision, before and after the point.
_MOST_DIGITS, _MOST_FRACTION = 131_072, 16_383

# The form of UUIDs whose values are texts.
UUID_TEXT = "uuid"

_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_ASCII_UPPER = {lower: upper for upper, lower in _ASCII_LOWER.items()}


class Kind(Enum):
    """The kind of a scalar, which decides the operators it supports."""

    BOOLEAN = "bool"
    INTEGER = "int"
    FLOAT = "float"
    DECIMAL = "Decimal"
    TEXT = "str"
    BYTES = "bytes"
    DATETIME = "datetime"
    DATE = "date"
    TIME = "time"
    DURATION = "timedelta"
    UUID = "UUID"
    ENUM = "Enum"
    OPAQUE = "object"

    @property
    def ordered(self) -> bool:
        """True if every back end orders such values alike."""
        return self is not Kind.OPAQUE


class WrongValueError(ValueError):
    """A value does not fit its type; the message never contains the value."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """A kind of scalar with the limits of the column or field that holds it."""

    kind: Kind
    python: type = object  # the class of the entity's value
    length: int | None = None  # at most so many characters, or bytes
    low: int | None = None  # the range of an integer, or of a duration in microseconds
    high: int | None = None
    precision: int | None = None  # digits of a decimal in all, and after the point; a value is never rounded to them
    scale: int | None = None
    aware: bool | None = None  # True: datetimes have a zone, and are stored in UTC; False: they have none; None: either
    labels: Mapping[Any, str] | None = field(default=None, hash=False)  # the stored text of each enumeration member
    bind: Callable[[Any], Any] | None = None  # a TypeDecorator's two functions; the limits hold for the bound value
    result: Callable[[Any], Any] | None = None
    octets: int | None = None  # at most so many bytes of text
    charset: str = ""  # MariaDB's character set, if it lacks characters
    collation: str = ""  # MariaDB's, if it treats different texts as equal: in a key or check, but not in a query
    padded: bool = False  # CHAR: databases add or remove blanks at the end, so no value may have any
    form: str = ""  # an unusual stored form, if any; columns of different forms do not compare

    def check(self, value: Any) -> Any:
        """Return a value, other than None, as every back end will hold it; convert it only if nothing is lost."""
        if self.bind is None:
            return _CHECKS[self.kind](self, value)
        try:
            stored = self.bind(value)
        except WrongValueError:
            raise
        except Exception as error:
            raise WrongValueError(f"its column type raised {type(error).__name__}") from error
        if stored is not None:
            self.check_stored(stored)
        return value

    def check_stored(self, stored: Any) -> Any:
        # `python` is the entity's class, which says nothing about the stored form of an opaque value.
        return stored if self.kind is Kind.OPAQUE else _CHECKS[self.kind](self, stored)

    def accepts(self, other: ValueType) -> bool:
        """Return False if no value of another type can pass the check; for opaque types that is unknown."""
        kinds = (other.kind, self.kind)
        if self.kind is Kind.OPAQUE and self.python is not object:
            return other.python in (object, self.python)
        if self.bind is not None or Kind.OPAQUE in kinds or other.kind is self.kind:
            return True
        if other.kind is Kind.ENUM:
            return kind_of(self.python) in (Kind.TEXT, Kind.INTEGER) and issubclass(other.python, self.python)
        return kinds in ((Kind.INTEGER, Kind.FLOAT), (Kind.INTEGER, Kind.DECIMAL))

    def compares_with(self, other: ValueType) -> bool:
        """Return True if stored values of both types compare as the values do, on every back end."""
        alike = (self.kind, self.aware, self.scale, self.form) == (other.kind, other.aware, other.scale, other.form)
        return alike and self.labels == other.labels

    def store(self, value: Any) -> Any:
        """Convert a checked value to its stored form, by which rows compare and sort."""
        if value is None and self.bind is None:
            return None
        if self.bind is not None:
            value = self.bind(value)
            return value if value is None else self.check_stored(value)
        return self.labels[value] if self.kind is Kind.ENUM and self.labels else value

    def load(self, stored: Any) -> Any:
        """Convert a stored value to the entity's value."""
        if self.result is not None:
            return self.result(stored)
        if stored is not None and self.kind is Kind.ENUM and self.labels:
            return next(member for member, label in self.labels.items() if label == stored)
        return stored

    @property
    def plain(self) -> bool:
        """True if values are stored as they are."""
        return self.bind is None and self.result is None and self.kind is not Kind.ENUM


def _wrong_class(expected: str, value: Any) -> WrongValueError:
    return WrongValueError(f"expected {expected}, got {type(value).__name__}")


def _instance(limits: ValueType, value: Any) -> Any:
    if not isinstance(value, limits.python):
        raise _wrong_class(limits.python.__name__, value)
    return value


def _boolean(_: ValueType, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_class("bool", value)
    return value


def _integer(limits: ValueType, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_class("int", value)
    number, low, high = int(value), limits.low, limits.high
    if (low is not None and number < low) or (high is not None and number > high):
        raise WrongValueError(f"out of range, {low} to {high}")
    return number


def _float(_: ValueType, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_class("float", value)
    try:
        number = float(value)
    except OverflowError:
        raise WrongValueError("out of range of a 64-bit float") from None
    if not math.isfinite(number):
        raise WrongValueError("NaN and infinity cannot be stored")
    return number + 0.0  # only PostgreSQL keeps the sign of -0.0


def _decimal(limits: ValueType, value: Any) -> Decimal:
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        raise _wrong_class("Decimal", value)
    number = Decimal(value)
    if not number.is_finite():
        raise WrongValueError("NaN and infinity cannot be stored")
    if limits.precision is None or limits.scale is None:
        return _unbounded(number)
    misfit = WrongValueError(f"needs more than {limits.precision} digits, {limits.scale} of them after the point")
    if number and number.adjusted() >= limits.precision - limits.scale:
        raise misfit
    quantised = number.quantize(Decimal(1).scaleb(-limits.scale), context=EXACT)
    if quantised != number:
        raise misfit
    return quantised or abs(quantised)


def _unbounded(number: Decimal) -> Decimal:
    """Return a decimal as PostgreSQL's NUMERIC writes it: without exponent, and no zero has a sign."""
    exponent = number.as_tuple().exponent
    if number.adjusted() >= _MOST_DIGITS or (isinstance(exponent, int) and -exponent > _MOST_FRACTION):
        raise WrongValueError(f"needs more than {_MOST_DIGITS} digits, or {_MOST_FRACTION} of them after the point")
    plain = Decimal(f"{number:f}")
    return plain or abs(plain)


def _text(limits: ValueType, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_class("str", value)
    text = str.__str__(value)  # the plain str of a StrEnum member, which drivers bind differently
    if limits.form == UUID_TEXT:
        return _uuid_text(text)
    if "\0" in text:
        raise WrongValueError("contains the character NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise WrongValueError("contains an unpaired surrogate") from None
    if limits.length is not None and len(text) > limits.length:
        raise WrongValueError(f"too long, {len(text)} of at most {limits.length} characters")
    if limits.charset or limits.octets:
        _check_octets(limits, text)
    if limits.padded and text.endswith(" "):
        raise WrongValueError("ends with a blank, which CHAR does not keep")
    if limits.labels is not None and text not in limits.labels:
        raise WrongValueError(f"not one of {', '.join(limits.labels)}")
    return text


def _check_octets(limits: ValueType, text: str) -> None:
    try:
        octets = len(text.encode(_CODECS.get(limits.charset, "utf-8")))
    except UnicodeEncodeError:
        octets = -1
    if octets < 0 or (limits.charset in _WITHOUT_SUPPLEMENTARY and max(text, default="") > "\uffff"):
        raise WrongValueError(f"contains a character that the character set {limits.charset} lacks")
    if limits.octets is not None and octets > limits.octets:
        raise WrongValueError(f"too long, {octets} of at most {limits.octets} bytes")


def _uuid_text(text: str) -> str:
    """Return the one text of a UUID that databases give back, of the several that they accept."""
    try:
        return str(UUID(text))
    except ValueError:
        raise WrongValueError("not a UUID") from None


def _bytes(limits: ValueType, value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _wrong_class("bytes", value)
    if limits.length is not None and len(value) > limits.length:
        raise WrongValueError(f"too long, {len(value)} of at most {limits.length} bytes")
    return value


def _datetime(limits: ValueType, value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise _wrong_class("datetime", value)
    aware = value.utcoffset() is not None
    if limits.aware is True and not aware:
        raise WrongValueError("the datetime needs a time zone")
    if limits.aware is False and aware:
        raise WrongValueError("the datetime must not have a time zone")
    try:
        return value.astimezone(UTC) if limits.aware else value
    except OverflowError:
        raise WrongValueError("out of range when converted to UTC") from None


def _date(_: ValueType, value: Any) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise _wrong_class("date", value)
    return value


def _time(_: ValueType, value: Any) -> time:
    if not isinstance(value, time):
        raise _wrong_class("time", value)
    if value.tzinfo is not None:
        raise WrongValueError("the time must not have a time zone, which no database stores")
    return value


def _duration(limits: ValueType, value: Any) -> timedelta:
    span: timedelta = _instance(limits, value)
    if limits.low is not None and limits.high is not None:
        lowest, highest = timedelta(microseconds=limits.low), timedelta(microseconds=limits.high)
        if not lowest <= span <= highest:
            raise WrongValueError(f"out of range, {lowest} to {highest}")
    return span


def _enum(limits: ValueType, value: Any) -> Any:
    _instance(limits, value)
    if limits.labels is not None and value not in limits.labels:
        raise WrongValueError(f"the column does not store this member of {limits.python.__name__}")
    return value


# A subclass comes before its base: bool is an int, datetime a date.
_KINDS: tuple[tuple[type, Kind, Callable[[ValueType, Any], Any]], ...] = (
    (Enum, Kind.ENUM, _enum),
    (bool, Kind.BOOLEAN, _boolean),
    (int, Kind.INTEGER, _integer),
    (float, Kind.FLOAT, _float),
    (Decimal, Kind.DECIMAL, _decimal),
    (str, Kind.TEXT, _text),
    (bytes, Kind.BYTES, _bytes),
    (datetime, Kind.DATETIME, _datetime),
    (date, Kind.DATE, _date),
    (time, Kind.TIME, _time),
    (timedelta, Kind.DURATION, _duration),
    (UUID, Kind.UUID, _instance),
    (object, Kind.OPAQUE, _instance),
)
_CHECKS = {kind: check for _, kind, check in _KINDS}


def fraction_of(number: Decimal) -> str:
    """Return a decimal's digits after the point, without zeros at the end."""
    return f"{number:f}".partition(".")[2].rstrip("0")


def kind_of(python: type) -> Kind:
    return next(kind for base, kind, _ in _KINDS if issubclass(python, base))


def fold_ascii(text: str) -> str:
    """Lower A to Z and nothing else, the one fold that all servers share."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def raise_ascii(text: str) -> str:
    """Raise a to z and nothing else, as `fold_ascii` lowers."""
    return text.upper() if text.isascii() else text.translate(_ASCII_UPPER)


def fold_unicode(text: str) -> str:
    """Lower each character by Unicode's simple mapping, as PostgreSQL's C.utf8 and MariaDB's uca1400 do.

    ``str.lower`` may lower one character to several, and a final sigma depending on its neighbours; no server does.
    """
    if text.isascii():
        return text.lower()
    return "".join(map(_lower_one, text))


def _lower_one(character: str) -> str:
    if character == "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}":
        return "i"
    lowered = character.lower()
    return lowered if len(lowered) == 1 else character

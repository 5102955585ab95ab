"""Column types that mean the same on every database.

Knows which SQL type of which database keeps a value exactly. Must not know repositories.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any, get_origin

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy import BigInteger, DateTime, Dialect, Double, LargeBinary, Numeric, String, Time, Uuid
from sqlalchemy import Text as PlainText
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from sqlrepo.language.values import Kind, ValueType, WrongValueError

__all__ = [
    "BigKey",
    "Bytes",
    "Duration",
    "Exact",
    "Float64",
    "Instant",
    "Json",
    "LocalDateTime",
    "Member",
    "Text",
    "TimeOfDay",
    "UniqueId",
]

_MYSQL = ("mysql", "mariadb")
_CODE_POINTS = "utf8mb4_nopad_bin"
_MOST_DIGITS = 18  # what a 64-bit integer holds
_MICROSECOND = timedelta(microseconds=1)


def Text(length: int | None = None) -> String:  # noqa: N802  # stands where a type's name does
    """Text that compares and sorts by code point, case, accents and trailing spaces included.

    Args:
        length: most characters; None for any number.
    """
    if length is None:
        return (
            PlainText()
            .with_variant(postgresql.TEXT(collation="C"), "postgresql")
            .with_variant(mysql.LONGTEXT(charset="utf8mb4", collation=_CODE_POINTS), *_MYSQL)
        )
    return (
        String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation=_CODE_POINTS), *_MYSQL)
    )


def Bytes(length: int | None = None) -> LargeBinary:  # noqa: N802
    """Bytes.

    Args:
        length: most bytes; None for any number.
    """
    large = mysql.LONGBLOB() if length is None else mysql.VARBINARY(length)
    return LargeBinary(length).with_variant(large, *_MYSQL)


def Member(members: type[Enum], *, length: int | None = None) -> sa.Enum:  # noqa: N802
    """A member of an enumeration, kept, compared and sorted by its name.

    Args:
        members: the enumeration.
        length: most characters of a name, where later members may have longer ones than today's.
    """
    lengths = {} if length is None else {"length": length}
    return sa.Enum(members, native_enum=False, validate_strings=True, **lengths)


def BigKey() -> BigInteger:  # noqa: N802
    """A generated key of 64 bits, which SQLite numbers only if it is called INTEGER."""
    return BigInteger().with_variant(sa.Integer(), "sqlite")


def LocalDateTime() -> DateTime:  # noqa: N802
    """A date and time without zone, to the microsecond."""
    return DateTime().with_variant(mysql.DATETIME(fsp=6), *_MYSQL)


def TimeOfDay() -> Time:  # noqa: N802
    """A time without zone, to the microsecond."""
    return Time().with_variant(mysql.TIME(fsp=6), *_MYSQL)


def Float64() -> Double[float]:  # noqa: N802
    """A 64-bit float, which FLOAT is not on MariaDB."""
    return Double()


def UniqueId() -> Uuid[Any]:  # noqa: N802
    """A UUID that sorts by its digits; MariaDB's own type sorts by swapped segments and refuses some values."""
    return Uuid().with_variant(Uuid(native_uuid=False), *_MYSQL)


class Exact(TypeDecorator[Decimal]):
    """A decimal of a fixed number of digits, exact on SQLite too, which has none (it keeps the scaled integer).

    Args:
        precision: most digits, 18 at most.
        scale: digits after the point; values that need more are refused, not rounded.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        if not 0 <= scale <= precision <= _MOST_DIGITS:
            raise ValueError("precision is 18 digits at most, and scale no more than precision")
        super().__init__(precision, scale)
        self.precision = precision
        self.scale = scale

    @property
    def value_type(self) -> ValueType:
        """What it holds."""
        return ValueType(Kind.DECIMAL, Decimal, precision=self.precision, scale=self.scale, form="scaled")

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """A big integer on SQLite, NUMERIC elsewhere."""
        return dialect.type_descriptor(
            BigInteger() if dialect.name == "sqlite" else Numeric(self.precision, self.scale)
        )

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Scale on SQLite."""
        return int(value.scaleb(self.scale)) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Scale back on SQLite."""
        return Decimal(value).scaleb(-self.scale) if value is not None and dialect.name == "sqlite" else value


class Instant(TypeDecorator[datetime]):
    """A moment: takes datetimes of any zone, gives them back in UTC, to the microsecond."""

    impl = DateTime
    cache_ok = True

    @property
    def value_type(self) -> ValueType:
        """What it holds."""
        return ValueType(Kind.DATETIME, datetime, aware=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """With a zone where the database keeps one, to the microsecond everywhere."""
        if dialect.name in _MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC, without zone where the database keeps none."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("an Instant needs a zone")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Duration(TypeDecorator[timedelta]):
    """A length of time, exact to the microsecond and of any size (kept as microseconds)."""

    impl = BigInteger
    cache_ok = True

    @property
    def value_type(self) -> ValueType:
        """What it holds."""
        return ValueType(Kind.DURATION, timedelta)

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """To microseconds."""
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:
        """From microseconds."""
        return None if value is None else value * _MICROSECOND


class _JSONText(UserDefinedType[str]):
    """PostgreSQL's json as the text it keeps; some of its drivers would parse it, each in its own way.

    Args:
        read_by: the type that reads the text.
    """

    cache_ok = True

    def __init__(self, read_by: TypeEngine[Any]) -> None:
        self.read_by = read_by

    def get_col_spec(self, **_: Any) -> str:
        """Not jsonb, which changes numbers."""
        return "JSON"

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """What is read of it."""
        return sa.type_coerce(sa.cast(colexpr, PlainText), self.read_by)


class Json(TypeDecorator[Any]):
    """A Pydantic model, or anything else Pydantic can write as JSON and read again; None is NULL.

    A value that would not come back equal is refused: a tuple where any JSON may stand, a secret, NaN. Columns of it
    can be asked for NULL and nothing else.

    Args:
        model: the class of the values, or another type, ``list[Address]`` say; plain JSON values where it is left out.
    """

    impl = PlainText
    cache_ok = True

    def __init__(self, model: Any = Any) -> None:
        super().__init__()
        self.model = model

    def __repr__(self) -> str:
        if self.model is Any:
            return "Json()"
        plain = isinstance(self.model, type) and get_origin(self.model) is None
        return f"Json({self.model.__name__ if plain else repr(self.model)})"

    @property
    def value_type(self) -> ValueType:
        """What it holds."""
        found = get_origin(self.model) or self.model
        python = found if isinstance(found, type) and found is not Any else object
        return ValueType(Kind.OPAQUE, python, bind=self._checked, result=self._loaded)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text of any length; PostgreSQL's json is text that is known to be JSON."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_JSONText(self))
        return dialect.type_descriptor(Text().dialect_impl(dialect))

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write it."""
        return None if value is None else self._dumped(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read it."""
        return self._loaded(value)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.model)  # not before it is needed: the model may not be complete yet

    def _checked(self, value: Any) -> str | None:
        if value is None:
            return None
        text = self._dumped(value)
        if self._loaded(text) != value:
            raise WrongValueError("would not come back equal from JSON")
        return text

    def _dumped(self, value: Any) -> str:
        return self._adapter.dump_json(value, by_alias=False, round_trip=True, warnings="error").decode()

    def _loaded(self, text: str | None) -> Any:
        return None if text is None else self._adapter.validate_json(text, by_alias=False, by_name=True)

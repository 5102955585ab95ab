"""Portable column types: each stores and compares its values alike in every database."""

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
from sqlalchemy.ext.compiler import compiles
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
#: The collations that compare by code point, trailing blanks included.
CODE_POINTS = {"mariadb": "utf8mb4_nopad_bin", "mysql": "utf8mb4_0900_bin"}
_MAX_DIGITS = 18  # what a 64-bit integer holds
_MICROSECOND = timedelta(microseconds=1)


class MySQLVarchar(mysql.VARCHAR):
    """VARCHAR in the collation that compares by code point: a URL of MySQL may lead to MariaDB, which has another."""


class MySQLText(mysql.LONGTEXT):
    """LONGTEXT in the collation that compares by code point; see `MySQLVarchar`."""


@compiles(MySQLVarchar)
@compiles(MySQLText)
def _compile_text(type_: Any, compiler: Any, **options: Any) -> str:
    name = "mariadb" if getattr(compiler.dialect, "is_mariadb", False) else "mysql"
    text = {"charset": "utf8mb4", "collation": CODE_POINTS[name]}
    plain = mysql.LONGTEXT(**text) if type_.length is None else mysql.VARCHAR(type_.length, **text)
    return str(compiler.process(plain, **options))


def Text(length: int | None = None) -> String:  # noqa: N802  # used like a type's name
    """Make a type for text that compares and sorts by code point, so case, accents and trailing spaces count.

    Args:
        length: the maximum number of characters; None for no limit.
    """
    if length is None:
        return (
            PlainText()
            .with_variant(postgresql.TEXT(collation="C"), "postgresql")
            .with_variant(MySQLText(charset="utf8mb4", collation=CODE_POINTS["mysql"]), *_MYSQL)
        )
    return (
        String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(MySQLVarchar(length, charset="utf8mb4", collation=CODE_POINTS["mysql"]), *_MYSQL)
    )


def Bytes(length: int | None = None) -> LargeBinary:  # noqa: N802
    """Make a type for bytes.

    Args:
        length: the maximum number of bytes; None for no limit.
    """
    large = mysql.LONGBLOB() if length is None else mysql.VARBINARY(length)
    return LargeBinary(length).with_variant(large, *_MYSQL)


def Member(members: type[Enum], *, length: int | None = None) -> sa.Enum:  # noqa: N802
    """Make a type for members of an enum, which are stored, compared and sorted by name.

    Args:
        members: the enum.
        length: the maximum length of a name in characters; the longest current name by default.
    """
    lengths = {} if length is None else {"length": length}
    return sa.Enum(members, native_enum=False, validate_strings=True, **lengths)


def BigKey() -> BigInteger:  # noqa: N802
    """Make a type for generated 64-bit keys: BIGINT, but INTEGER in SQLite, which generates no others."""
    return BigInteger().with_variant(sa.Integer(), "sqlite")


def LocalDateTime() -> DateTime:  # noqa: N802
    """Make a type for a date and time without time zone, with microseconds."""
    return DateTime().with_variant(mysql.DATETIME(fsp=6), *_MYSQL)


def TimeOfDay() -> Time:  # noqa: N802
    """Make a type for a time without time zone, with microseconds."""
    return Time().with_variant(mysql.TIME(fsp=6), *_MYSQL)


def Float64() -> Double[float]:  # noqa: N802
    """Make a type for 64-bit floats; MariaDB's FLOAT has 32 bits."""
    return Double()


def UniqueId() -> Uuid[Any]:  # noqa: N802
    """Make a type for UUIDs that sort by their digits, which MariaDB's own UUID type does not."""
    return Uuid().with_variant(Uuid(native_uuid=False), *_MYSQL)


class Exact(TypeDecorator[Decimal]):
    """Store a decimal exactly, with a fixed number of digits; SQLite, which has no decimals, stores a scaled integer.

    Args:
        precision: the maximum number of digits, up to 18.
        scale: the number of digits after the point. Values with more are refused, not rounded.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int, scale: int) -> None:
        if not 0 <= scale <= precision <= _MAX_DIGITS:
            raise ValueError("precision must be at most 18 digits, and scale at most the precision")
        super().__init__(precision, scale)
        self.precision = precision
        self.scale = scale

    @property
    def value_type(self) -> ValueType:
        """The type of the values."""
        return ValueType(Kind.DECIMAL, Decimal, precision=self.precision, scale=self.scale, form="scaled")

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return BIGINT for SQLite, NUMERIC for other databases."""
        return dialect.type_descriptor(
            BigInteger() if dialect.name == "sqlite" else Numeric(self.precision, self.scale)
        )

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Scale the value to an integer for SQLite."""
        return int(value.scaleb(self.scale)) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Scale the integer of SQLite back."""
        return Decimal(value).scaleb(-self.scale) if value is not None and dialect.name == "sqlite" else value


class Instant(TypeDecorator[datetime]):
    """Store a moment with microseconds: takes datetimes with any time zone, and returns them in UTC."""

    impl = DateTime
    cache_ok = True

    @property
    def value_type(self) -> ValueType:
        """The type of the values."""
        return ValueType(Kind.DATETIME, datetime, aware=True)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return a type with time zone for PostgreSQL, without for other databases."""
        if dialect.name in _MYSQL:
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC, and drop the time zone if the database stores none."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError("an Instant needs a datetime with time zone")
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Set or convert the time zone to UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Duration(TypeDecorator[timedelta]):
    """Store a timedelta exactly, as a 64-bit number of microseconds: up to 292,000 years either way."""

    impl = BigInteger
    cache_ok = True

    @property
    def value_type(self) -> ValueType:
        """The type of the values."""
        return ValueType(Kind.DURATION, timedelta, low=-(2**63), high=2**63 - 1)

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """Convert to microseconds."""
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:
        """Convert from microseconds."""
        return None if value is None else value * _MICROSECOND


class _JSONText(UserDefinedType[str]):
    """PostgreSQL's json, read as text: some drivers would parse the JSON, each in its own way."""

    cache_ok = True

    def __init__(self, read_by: TypeEngine[Any]) -> None:
        self.read_by = read_by

    def get_col_spec(self, **_: Any) -> str:
        return "JSON"  # jsonb changes numbers

    def column_expression(self, colexpr: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.type_coerce(sa.cast(colexpr, PlainText), self.read_by)


class Json(TypeDecorator[Any]):
    """Store a Pydantic model as JSON, or any value that Pydantic can write as JSON and read again; None is NULL.

    Values that JSON would change are refused, such as NaN, a secret, or a tuple in ``Json()``. The only criterion on
    such a column is `is_null`.

    Args:
        model: the class of the values, or another type such as ``list[Address]``; any JSON value by default.
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
        """The type of the values."""
        found = get_origin(self.model) or self.model
        python = found if isinstance(found, type) and found is not Any else object
        return ValueType(Kind.OPAQUE, python, bind=self._check, result=self._load)

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return JSON for PostgreSQL, text of any length for other databases."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_JSONText(self))
        return dialect.type_descriptor(Text().dialect_impl(dialect))

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Write the value as JSON."""
        return None if value is None else self._dump(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Read the value from JSON."""
        return self._load(value)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.model)  # at first use, because the model may not be complete earlier

    def _check(self, value: Any) -> str | None:
        if value is None:
            return None
        text = self._dump(value)
        if self._load(text) != value:
            raise WrongValueError("would not come back equal from JSON")
        return text

    def _dump(self, value: Any) -> str:
        return self._adapter.dump_json(value, by_alias=False, round_trip=True, warnings="error").decode()

    def _load(self, text: str | None) -> Any:
        return None if text is None else self._adapter.validate_json(text, by_alias=False, by_name=True)

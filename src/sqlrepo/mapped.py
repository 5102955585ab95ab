"""Reads a mapped class into a `Schema`.

Imports SQLAlchemy only when a mapped class is given, like the modules that read the parts for it. Must not touch
relationships, nor the targets of foreign keys before constraints are asked for: they may be defined later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlrepo.constraints import checks, foreign_keys, name_of, uniques, unkept
from sqlrepo.errors import MappingError, UnsupportedError
from sqlrepo.literals import constant
from sqlrepo.schema import Column, Default, Refusal, Schema
from sqlrepo.values import Kind, ValueType, WrongValueError

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["BY_CODE_POINT", "is_mapped", "refusals", "schema_of"]

_KNOWN: WeakKeyDictionary[type, Schema] = WeakKeyDictionary()

_INT16, _INT32, _INT64 = ((-(2**bits), 2**bits - 1) for bits in (15, 31, 63))

# SQLite keeps NUMERIC in a 64-bit float, which is exact to 15 digits.
_EXACT_DIGITS = 15

#: The collations that compare by code point, of all databases.
BY_CODE_POINT = ("BINARY", "C", "POSIX", "ucs_basic", "utf8mb4_nopad_bin", "utf8mb4_0900_bin")


def is_mapped(model: object) -> bool:
    """Whether SQLAlchemy has mapped the class by now."""
    from sqlalchemy import inspect

    return isinstance(model, type) and inspect(model, raiseerr=False) is not None


def schema_of(model: type, *, complete: bool = True) -> Schema:
    """Describe the table of a mapped class.

    Args:
        model: the mapped class.
        complete: whether constraints are read too, and the result kept; columns alone can be read while other classes
            are still being defined.

    Raises:
        MappingError: the class is not mapped to one table.
    """
    import sqlalchemy as sa

    if model in _KNOWN:
        return _KNOWN[model]
    mapper: Any = sa.inspect(model, raiseerr=False)
    if mapper is None:
        raise MappingError(f"{getattr(model, '__name__', model)!r} is no mapped class")
    table = mapper.local_table
    if not isinstance(table, sa.Table):
        raise MappingError(f"{model.__name__} is not mapped to one table")
    if (mapper.inherits is not None and not mapper.concrete) or mapper.polymorphic_on is not None:
        raise MappingError(
            f"{model.__name__} is part of an inheritance of mapped classes, so table {table.name} holds rows of "
            "several; map the rows of one class to a table of their own"
        )
    names = {column: key for key, column in mapper.columns.items() if getattr(column, "table", None) is table}
    schema = replace(_described(table, names), version=names.get(mapper.version_id_col), model=model)
    if complete:
        schema = _KNOWN[model] = _completed(schema, table, names, mapper.columns)
    return schema


def refusals(table: sa.Table) -> Iterator[Refusal]:
    """Why memory refuses a table, whether or not a class is mapped to it."""
    if not table.primary_key.columns:
        return iter([Refusal("", "table", "it has no primary key")])
    names = {column: column.name for column in table.columns}
    return _completed(_described(table, names), table, names, table.columns).refusals


def _described(table: sa.Table, names: Mapping[Any, str]) -> Schema:
    """A table's columns and key, by the names a class gives them."""
    return Schema(
        name=table.name,
        namespace=table.schema,
        columns=tuple(_column(names[column], column) for column in table.columns if column in names),
        key=tuple(names[column] for column in table.primary_key.columns),
        key_name=name_of(table.primary_key),
    )


def _completed(schema: Schema, table: sa.Table, names: Mapping[Any, str], mapped: Any) -> Schema:
    """Add the constraints, and what memory cannot keep."""
    return replace(
        schema,
        uniques=tuple(uniques(table, names)),
        foreign_keys=tuple(foreign_keys(table, names)),
        checks=tuple(checks(table, names, schema)),
        refused=tuple(unkept(mapped, table)),
    )


def _column(name: str, column: sa.Column[Any]) -> Column:
    import sqlalchemy as sa

    value_type, refused = _value_type(column.type)
    generated = column is column.table.autoincrement_column and (
        column.default is None or isinstance(column.default, sa.Sequence)
    )
    default, onupdate = _python_default(column.default), _python_default(column.onupdate)
    return Column(
        name=name,
        type=value_type,
        nullable=bool(column.nullable),
        generated=generated,
        default=default,
        onupdate=onupdate,
        server_default=column.server_default is not None or (column.default is not None and default is None),
        computed=column.computed is not None,
        server_onupdate=column.server_onupdate is not None or (column.onupdate is not None and onupdate is None),
        stands_in=constant(column, value_type) if column.default is None else None,
        column=column.name,
        refused=refused,
    )


class _Context:
    """What a context-sensitive default may ask: the values of the row so far."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get_current_parameters(self, **_: bool) -> dict[str, Any]:
        """The row's other values, by column."""
        return dict(self._values)

    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"a default asks its context for {name!r}; get_current_parameters() is what there is")


def _python_default(default: Any) -> Default | None:
    """A default that Python computes, as a function of the row's values."""
    if default is None:
        return None
    if getattr(default, "is_callable", False):
        call: Callable[[Any], Any] = default.arg
        return lambda values: call(_Context(values))
    if getattr(default, "is_scalar", False):
        return lambda _: default.arg
    return None


# -- types


def _value_type(type_: Any) -> tuple[ValueType, str | None]:
    """Tell what a column type holds, and why memory refuses it if it does."""
    if isinstance(portable := getattr(type_, "value_type", None), ValueType):
        return portable, None
    for base, read in _readers():
        if isinstance(type_, base):
            found = read(type_)
            return found if isinstance(found, tuple) else (found, None)
    return ValueType(Kind.OPAQUE), f"its type {type_!r} has no portable meaning"


def _decorated(type_: sa.types.TypeDecorator[Any]) -> tuple[ValueType, str | None]:
    """A user's own type: the limits are those of the type beneath, its two functions run as they are."""
    import sqlalchemy as sa
    from sqlalchemy.engine.default import DefaultDialect

    below, refused = _value_type(type_.impl_instance)
    bare, base, own = DefaultDialect(), sa.types.TypeDecorator, type(type_)
    bind = result = None
    if own.process_bind_param is not base.process_bind_param:
        bind = lambda value: type_.process_bind_param(value, bare)  # noqa: E731
    if own.process_result_value is not base.process_result_value:
        result = lambda stored: type_.process_result_value(stored, bare)  # noqa: E731
    if own.bind_processor is not base.bind_processor or own.result_processor is not base.result_processor:
        refused = refused or "its type works on the driver's values, which memory has none of"
    form = below.form if bind is None and result is None else f"{own.__module__}.{type_!r}"
    return replace(below, bind=bind, result=result, form=form), refused


def _readers() -> Iterator[tuple[type, Callable[[Any], ValueType | tuple[ValueType, str | None]]]]:
    """The types SQLAlchemy ships, a subclass before its base."""
    import sqlalchemy as sa

    yield sa.Interval, lambda _: (ValueType(Kind.DURATION, timedelta), "intervals lose range; use types.Duration")
    yield sa.PickleType, lambda _: (ValueType(Kind.OPAQUE), "pickles have no portable meaning")
    yield sa.types.TypeDecorator, _decorated
    yield sa.Boolean, lambda _: ValueType(Kind.BOOLEAN, bool)
    yield sa.SmallInteger, lambda _: ValueType(Kind.INTEGER, int, low=_INT16[0], high=_INT16[1])
    yield sa.BigInteger, lambda _: ValueType(Kind.INTEGER, int, low=_INT64[0], high=_INT64[1])
    yield sa.Integer, lambda _: ValueType(Kind.INTEGER, int, low=_INT32[0], high=_INT32[1])
    yield sa.Enum, _enum
    yield sa.CHAR, lambda t: (ValueType(Kind.TEXT, str, length=t.length), "CHAR pads or trims by database; use VARCHAR")
    yield sa.String, _string
    yield sa.Uuid, lambda t: ValueType(Kind.UUID, UUID) if t.as_uuid else ValueType(Kind.TEXT, str, length=36)
    yield sa.Float, lambda t: _decimal(t) if t.asdecimal else ValueType(Kind.FLOAT, float)
    yield sa.Numeric, lambda t: _decimal(t) if t.asdecimal else ValueType(Kind.FLOAT, float)
    yield sa.LargeBinary, lambda t: ValueType(Kind.BYTES, bytes, length=t.length)
    yield sa.VARBINARY, lambda t: ValueType(Kind.BYTES, bytes, length=t.length)
    yield sa.DateTime, lambda t: ValueType(Kind.DATETIME, datetime, aware=bool(t.timezone))
    yield sa.Date, lambda _: ValueType(Kind.DATE, date)
    yield sa.Time, _time
    yield sa.JSON, _json


def _time(type_: Any) -> ValueType | tuple[ValueType, str]:
    found = ValueType(Kind.TIME, time)
    return (found, "a time's zone is dropped by every database") if type_.timezone else found


def _string(type_: Any) -> ValueType | tuple[ValueType, str]:
    found = ValueType(Kind.TEXT, str, length=type_.length)
    if type_.collation is None or type_.collation in BY_CODE_POINT:
        return found  # which collation None is, on a database, is the audit's to judge
    return found, f"collation {type_.collation} compares text otherwise than by code point"


def _enum(type_: Any) -> ValueType:
    if type_.enum_class is None:
        return ValueType(Kind.TEXT, str, labels={text: text for text in type_.enums})
    named = type_.enum_class.__members__
    canonical = [member for name, member in named.items() if member.name == name]
    members = canonical if len(canonical) == len(type_.enums) else list(named.values())
    labels: dict[Any, str] = {}
    for member, label in zip(members, type_.enums, strict=False):
        labels.setdefault(member, label)  # of an alias's two labels SQLAlchemy writes the first
    return ValueType(Kind.ENUM, type_.enum_class, labels=labels)


def _decimal(type_: Any) -> ValueType | tuple[ValueType, str]:
    found = ValueType(Kind.DECIMAL, Decimal, precision=type_.precision, scale=type_.scale)
    if type_.precision is None or type_.scale is None:
        return found, "NUMERIC without precision and scale rounds on MariaDB; give both"
    if type_.precision > _EXACT_DIGITS:
        return found, f"NUMERIC of more than {_EXACT_DIGITS} digits is not exact on SQLite; use types.Exact"
    return found


def _json(type_: Any) -> tuple[ValueType, str] | ValueType:
    def dumped(value: Any) -> str | None:
        try:
            return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise WrongValueError(f"is no JSON: {error}") from None

    def loaded(stored: str | None) -> Any:
        return None if stored is None else json.loads(stored)

    found = ValueType(Kind.OPAQUE, bind=dumped, result=loaded)
    return found if type_.none_as_null else (found, "JSON keeps None as the text null; give none_as_null=True")

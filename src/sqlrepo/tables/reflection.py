"""Reflection of a mapped class into a `Schema`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, cast, get_args
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import Mapper

from sqlrepo.errors import MappingError, UnsupportedError
from sqlrepo.language.criteria import EVERYTHING, Ref
from sqlrepo.language.values import JSON_FORM, Kind, ValueType, WrongValueError
from sqlrepo.tables.conditions import UnreadableError, read_criterion, read_part
from sqlrepo.tables.defaults import read_default, updates_itself
from sqlrepo.tables.schema import Action, Check, Column, Default, ForeignKey, Refusal, Schema, Unique, UniqueIndex

# The collations of all databases that compare by code point.
BY_CODE_POINT = ("BINARY", "C", "POSIX", "ucs_basic", "utf8mb4_nopad_bin", "utf8mb4_0900_bin")

_KNOWN: WeakKeyDictionary[type, Schema] = WeakKeyDictionary()


def is_mapped(model: object) -> bool:
    return isinstance(model, type) and sa.inspect(model, raiseerr=False) is not None


def schema_of(model: type, *, complete: bool = True) -> Schema:
    """Describe the table of a mapped class.

    Columns alone, without constraints, can be read while other classes are still being defined.
    """
    if model in _KNOWN:
        return _KNOWN[model]
    mapper: Any = sa.inspect(model, raiseerr=False)
    if mapper is None:
        raise MappingError(f"{getattr(model, '__name__', model)!r} is not a mapped class")
    table = mapper.local_table
    if not isinstance(table, sa.Table):
        raise MappingError(f"{model.__name__} is not mapped to one table")
    if (mapper.inherits is not None and not mapper.concrete) or mapper.polymorphic_on is not None:
        raise MappingError(
            f"{model.__name__} inherits or is inherited, so table {table.name} holds rows of several mapped classes; "
            "map each class to a table of its own"
        )
    if mapper.version_id_col is not None and not _counts_by_one(mapper.version_id_generator):
        raise MappingError(
            f"{model.__name__} has a version_id_generator; a repository counts versions by one, so leave it out"
        )
    names = {column: key for key, column in mapper.columns.items() if getattr(column, "table", None) is table}
    schema = replace(_describe(table, names), version=names.get(mapper.version_id_col), model=model)
    if complete:
        schema = _KNOWN[model] = _complete(schema, table, names, mapper.columns)
    return schema


def _counts_by_one(generator: Any) -> bool:
    """Return True for the generator that SQLAlchemy sets if the mapping names none."""
    return getattr(generator, "__module__", None) == Mapper.__module__


def mapper_of(schema: Schema) -> Mapper[Any]:
    """Return SQLAlchemy's mapper of a table; raises MappingError if the table was declared by hand."""
    if schema.model is None:
        raise MappingError(f"table {schema.name} has no mapped class, so it can only be kept in memory")
    return cast("Mapper[Any]", sa.inspect(schema.model))


def table_of(schema: Schema) -> sa.Table:
    return cast(sa.Table, mapper_of(schema).local_table)


def refusals(table: sa.Table) -> Iterator[Refusal]:
    """Return the reasons why memory refuses a table, mapped or not.

    As for an entity with a field for each column whose type memory can keep.
    """
    if not table.primary_key.columns:
        return iter([Refusal("", "table", "it has no primary key")])
    names = {column: column.name for column in table.columns}
    schema = _complete(_describe(table, names), table, names, table.columns)
    return replace(schema, used=frozenset(one.name for one in schema.columns if not one.refused)).refusals


def left_out(table: sa.Table) -> Iterator[Refusal]:
    """Return the reasons why memory leaves columns of a table NULL, and refuses entities with a field for them."""
    refused = {refusal.column for refusal in refusals(table)}
    columns = (_read_column(column.name, column) for column in table.columns)
    return (Refusal(one.name, "field", one.refused) for one in columns if one.refused and one.name not in refused)


def _describe(table: sa.Table, names: Mapping[Any, str]) -> Schema:
    return Schema(
        name=table.name,
        namespace=table.schema,
        columns=tuple(_read_column(names[column], column) for column in table.columns if column in names),
        key=tuple(names[column] for column in table.primary_key.columns),
        key_name=_name_of(table.primary_key),
    )


def _complete(schema: Schema, table: sa.Table, names: Mapping[Any, str], mapped: Any) -> Schema:
    return replace(
        schema,
        uniques=tuple(_read_uniques(table, names)),
        indexes=tuple(_read_indexes(table, names, schema)),
        foreign_keys=tuple(_read_foreign_keys(table, names)),
        checks=tuple(_read_checks(table, names, schema)),
        refused=tuple(_unsupported(mapped, table)),
    )


# -- columns


def _read_column(name: str, column: sa.Column[Any]) -> Column:
    value_type, refused = _read_type(column.type)
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
        server_onupdate=column.server_onupdate is not None
        or (column.onupdate is not None and onupdate is None)
        or updates_itself(column),
        memory_default=read_default(column, value_type),
        column=column.name,
        refused=refused,
    )


class _Context:
    """The execution context of a context-sensitive default: the row's values so far."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get_current_parameters(self, **_: bool) -> dict[str, Any]:
        return dict(self._values)

    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"a default uses its context's {name!r}; only get_current_parameters() is supported")


def _python_default(default: Any) -> Default | None:
    if default is None:
        return None
    if getattr(default, "is_callable", False):
        call: Callable[[Any], Any] = default.arg
        return lambda values: call(_Context(values))
    if getattr(default, "is_scalar", False):
        return lambda _: default.arg
    return None


# -- types

_INT16, _INT32, _INT64 = ((-(2**bits), 2**bits - 1) for bits in (15, 31, 63))

# SQLite stores NUMERIC in a 64-bit float, which is exact to 15 digits.
_EXACT_DIGITS = 15


def _read_type(type_: Any) -> tuple[ValueType, str | None]:
    """Return the value type of a column type, and the reason why memory refuses it, if any."""
    if isinstance(portable := getattr(type_, "value_type", None), ValueType):
        return portable, None
    for base, read in _type_readers():
        if isinstance(type_, base):
            found = read(type_)
            return found if isinstance(found, tuple) else (found, None)
    return ValueType(Kind.OPAQUE), f"its type {type_!r} has no portable meaning"


def _decorator(type_: sa.types.TypeDecorator[Any]) -> tuple[ValueType, str | None]:
    # The limits are those of the implementation type; the user's two functions run unchanged.
    below, refused = _read_type(type_.impl_instance)
    bare, base, own = DefaultDialect(), sa.types.TypeDecorator, type(type_)
    bind = result = None
    if own.process_bind_param is not base.process_bind_param:
        bind = lambda value: type_.process_bind_param(value, bare)  # noqa: E731
    if own.process_result_value is not base.process_result_value:
        result = lambda stored: type_.process_result_value(stored, bare)  # noqa: E731
    if own.bind_processor is not base.bind_processor or own.result_processor is not base.result_processor:
        refused = refused or "its type processes the driver's values, which memory does not have"
    form = below.form if bind is None and result is None else f"{own.__module__}.{type_!r}"
    return replace(below, bind=bind, result=result, form=form), refused


def _type_readers() -> Iterator[tuple[type, Callable[[Any], ValueType | tuple[ValueType, str | None]]]]:
    # SQLAlchemy's types, each subclass before its base.

    yield (
        sa.Interval,
        lambda _: (
            ValueType(Kind.DURATION, timedelta),
            "Interval has a smaller range on some databases; use types.Duration",
        ),
    )
    yield sa.PickleType, lambda _: (ValueType(Kind.OPAQUE), "pickles have no portable meaning")
    yield sa.types.TypeDecorator, _decorator
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
    yield sa.ARRAY, _array


def _time(type_: Any) -> ValueType | tuple[ValueType, str]:
    found = ValueType(Kind.TIME, time)
    return (found, "every database drops a time's zone; use a time without one") if type_.timezone else found


def _string(type_: Any) -> ValueType | tuple[ValueType, str]:
    found = ValueType(Kind.TEXT, str, length=type_.length)
    if type_.collation is None or type_.collation in BY_CODE_POINT:
        return found  # the audit judges a database's default collation
    return found, f"collation {type_.collation} does not compare text by code point"


def _enum(type_: Any) -> ValueType:
    if type_.enum_class is None:
        return ValueType(Kind.TEXT, str, labels={text: text for text in type_.enums})
    named = type_.enum_class.__members__
    canonical = [member for name, member in named.items() if member.name == name]
    members = canonical if len(canonical) == len(type_.enums) else list(named.values())
    labels: dict[Any, str] = {}
    for member, label in zip(members, type_.enums, strict=False):
        labels.setdefault(member, label)  # of two labels of an alias, SQLAlchemy writes the first
    return ValueType(Kind.ENUM, type_.enum_class, labels=labels)


def _decimal(type_: Any) -> ValueType | tuple[ValueType, str]:
    found = ValueType(Kind.DECIMAL, Decimal, precision=type_.precision, scale=type_.scale)
    if type_.precision is None or type_.scale is None:
        return found, "NUMERIC without precision and scale rounds on MariaDB; set both"
    if type_.precision > _EXACT_DIGITS:
        return found, f"NUMERIC of more than {_EXACT_DIGITS} digits is not exact on SQLite; use types.Exact"
    return found


def _array(type_: Any) -> tuple[ValueType, str]:
    item, _ = _read_type(type_.item_type)

    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, list | tuple):
            raise WrongValueError(f"expected list, got {type(value).__name__}")  # SQLAlchemy stores a text's letters
        for one in () if value is None or item.kind is Kind.OPAQUE else value:
            if one is not None:
                check(one) if isinstance(one, list | tuple) else item.check(one)
        return value

    return ValueType(Kind.OPAQUE, bind=check), f"its type {type_!r} has no portable meaning"


def _json(type_: Any) -> tuple[ValueType, str] | ValueType:
    def dump(value: Any) -> str | None:
        try:
            return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise WrongValueError(f"is not valid JSON: {error}") from None

    def load(stored: str | None) -> Any:
        return None if stored is None else json.loads(stored)

    found = ValueType(Kind.OPAQUE, bind=dump, result=load, form=JSON_FORM)
    return found if type_.none_as_null else (found, "JSON stores None as the text null; set none_as_null=True")


# -- constraints

_ACTIONS: Final = frozenset(get_args(Action))


def _name_of(constraint: Any) -> str | None:
    return str(constraint.name) if isinstance(constraint.name, str) else None


def _read_uniques(table: sa.Table, names: Mapping[Any, str]) -> Iterator[Unique]:
    # In the order in which PostgreSQL and MariaDB check them.
    for constraint in _in_order(table, sa.UniqueConstraint):
        yield Unique(tuple(names[column] for column in constraint.columns), _name_of(constraint))
    for index in table.indexes:
        if index.unique and not _is_special(index):
            yield Unique(tuple(names[column] for column in index.columns), _name_of(index))


def _read_indexes(table: sa.Table, names: Mapping[Any, str], schema: Schema) -> Iterator[UniqueIndex]:
    renamed = {column.name: key for column, key in names.items()}
    for index in table.indexes:
        if index.unique and _is_special(index):
            yield _read_index(index, renamed, schema)


def _read_index(index: sa.Index, renamed: Mapping[str, str], schema: Schema) -> UniqueIndex:
    name = _name_of(index)
    parts: tuple[Ref, ...] = ()
    try:
        parts = tuple(read_part(part, renamed, schema) for part in index.expressions)
        if prefixes := [key for key, value in index.dialect_kwargs.items() if key.endswith("_length") and value]:
            return UniqueIndex(name, parts, refused=f"{prefixes[0]} compares the beginnings of values")
        found = [read_criterion(_as_text(given), renamed, schema) for given in _conditions(index)] or [EVERYTHING]
    except UnreadableError as unreadable:
        return UniqueIndex(name, parts, refused=str(unreadable))
    same = all(condition == found[0] for condition in found)
    return UniqueIndex(name, parts, found[0], refused=None if same else "its conditions differ")


def _conditions(index: sa.Index) -> list[Any]:
    return [given for key, given in index.dialect_kwargs.items() if key.endswith("_where") and given is not None]


def _as_text(given: Any) -> Any:
    return sa.text(given) if isinstance(given, str) else given


def _read_foreign_keys(table: sa.Table, names: Mapping[Any, str]) -> Iterator[ForeignKey]:
    for constraint in _in_order(table, sa.ForeignKeyConstraint):
        if _unportable(constraint) or not all(column in names for column in constraint.columns):
            continue
        targets = [_target(element) for element in constraint.elements]
        yield ForeignKey(
            columns=tuple(names[column] for column in constraint.columns),
            table=targets[0][:2],
            targets=tuple(target[2] for target in targets),
            name=_name_of(constraint),
            on_delete=_action(constraint.ondelete),
            on_update=_action(constraint.onupdate),
            deferred=(constraint.initially or "").upper() == "DEFERRED",
        )


def _read_checks(table: sa.Table, names: Mapping[Any, str], schema: Schema) -> Iterator[Check]:
    for constraint in _in_order(table, sa.CheckConstraint):
        if getattr(constraint, "_type_bound", False):
            continue  # made by a Boolean or Enum type, whose values cannot violate it
        text, criterion, refused = str(constraint.sqltext), None, None
        try:
            criterion = read_criterion(constraint.sqltext, {column.name: key for column, key in names.items()}, schema)
        except UnreadableError as unreadable:
            refused = str(unreadable)
        yield Check(_name_of(constraint), criterion, text=text, refused=refused)


def _unsupported(columns: Any, table: sa.Table) -> Iterator[str]:
    """Yield what memory cannot reproduce of the table as a whole."""
    yield from _conflict_options(table)
    for constraint in _in_order(table, sa.ForeignKeyConstraint):
        if reason := _unportable(constraint):
            yield f"foreign key ({', '.join(constraint.column_keys)}): {reason}"
    parts: tuple[Any, ...] = (*table.constraints, *table.indexes)
    for part in parts:
        if part.dialect_kwargs.get("postgresql_nulls_not_distinct"):
            yield f"{part.name or type(part).__name__}, for which NULLs are equal"
    mapped = set(columns.values())
    for column in table.columns:
        if column not in mapped:
            yield f"column {column.name}, which the class does not map"


def _in_order(table: sa.Table, kind: type[Any]) -> Iterable[Any]:
    # In the order of declaration, as in SQLAlchemy's DDL; the public sets have no order. A check declared on a column
    # is not among those of the table.
    everywhere = (*table.constraints, *(one for column in table.columns for one in column.constraints))
    found = [constraint for constraint in everywhere if isinstance(constraint, kind)]
    return sorted(found, key=lambda constraint: constraint._creation_order)  # noqa: SLF001


def _is_special(index: sa.Index) -> bool:
    # A partial or functional index, or one over the beginnings of values.
    lengths = any(value for key, value in index.dialect_kwargs.items() if key.endswith("_length"))
    return bool(_conditions(index)) or lengths or not all(isinstance(column, sa.Column) for column in index.expressions)


def _conflict_options(table: sa.Table) -> Iterator[str]:
    """Yield SQLite's options to replace or skip a row instead of raising an error."""
    for part in (*table.columns, *table.constraints):
        for option, value in part.dialect_kwargs.items():
            if option.startswith("sqlite_on_conflict") and value is not None:
                yield f"{option} of {part.name or type(part).__name__}"


def _unportable(constraint: sa.ForeignKeyConstraint) -> str | None:
    for option, action in (("ON DELETE", constraint.ondelete), ("ON UPDATE", constraint.onupdate)):
        if action is not None and action.upper() not in _ACTIONS:
            return f"{option} {action} differs between databases"
    if constraint.match not in (None, "SIMPLE"):
        return f"MATCH {constraint.match} differs between databases"
    return None


def _action(given: str | None) -> Action:
    return cast(Action, (given or "NO ACTION").upper())


def _target(element: sa.ForeignKey) -> tuple[str | None, str, str]:
    """Return namespace, table and column of a foreign key's target, which need not be described anywhere."""
    try:
        column = element.column
    except NoReferenceError:
        *space, table, name = element.target_fullname.split(".")
        return ".".join(space) or None, table, name
    return column.table.schema, column.table.name, column.name

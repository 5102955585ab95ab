"""Reflection of a mapped class into a `Schema`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast, get_args
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import NoReferenceError
from sqlalchemy.orm import Mapper

from sqlrepo.errors import MappingError, UnsupportedError
from sqlrepo.language.criteria import EVERYTHING, Ref
from sqlrepo.language.values import CHARSETS, JSON_FORM, UUID_TEXT, Kind, ValueType, WrongValueError
from sqlrepo.tables.conditions import UnreadableError, read_criterion, read_part
from sqlrepo.tables.defaults import domains_of, read_default, updates_itself
from sqlrepo.tables.schema import (
    Action,
    Check,
    Column,
    Default,
    ForeignKey,
    Refusal,
    Schema,
    TableName,
    Unique,
    UniqueIndex,
)

# The collations of all databases that compare by code point.
BY_CODE_POINT = ("BINARY", "C", "POSIX", "ucs_basic", "utf8mb4_nopad_bin", "utf8mb4_0900_bin")

_KNOWN: WeakKeyDictionary[type[Any] | sa.Table, Schema] = WeakKeyDictionary()


def has_table(model: object) -> bool:
    """Return True if a model has a table by now; MappingError if it is nothing that ever has one."""
    if not isinstance(model, type | sa.Table):
        raise MappingError(f"`model` is of class {type(model).__name__}; declare a mapped class or a Table")
    return isinstance(model, sa.Table) or sa.inspect(model, raiseerr=False) is not None


def schema_of(model: type[Any] | sa.Table, *, complete: bool = True) -> Schema:
    """Describe a table, or that of a mapped class.

    Columns alone, without constraints, can be read while other classes are still being defined.
    """
    if model in _KNOWN:
        return _KNOWN[model]
    table, mapped, version, key = (model, model.columns, None, ()) if isinstance(model, sa.Table) else _mapped(model)
    names = {column: name for name, column in mapped.items() if getattr(column, "table", None) is table}
    schema = replace(_describe(table, names), version=names.get(version), model=model)
    if not schema.key and key:
        schema = replace(schema, key=tuple(names[column] for column in key), enforces_key=False)
    if complete:
        schema = _KNOWN[model] = _complete(schema, table, names, mapped)
    return schema


def _mapped(model: type[Any]) -> tuple[sa.Table, Any, Any, tuple[Any, ...]]:
    """Return a mapped class's table, its columns by attribute, and its version and key columns."""
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
    return table, mapper.columns, mapper.version_id_col, mapper.primary_key


def _counts_by_one(generator: Any) -> bool:
    """Return True for the generator that SQLAlchemy sets if the mapping names none."""
    return getattr(generator, "__module__", None) == Mapper.__module__


def mapper_of(schema: Schema) -> Mapper[Any] | None:
    """Return SQLAlchemy's mapper of a table, if there is one; MappingError if the table was declared by hand."""
    if schema.model is None:
        raise MappingError(f"table {schema.name} has no mapped class, so it can only be kept in memory")
    return None if isinstance(schema.model, sa.Table) else cast("Mapper[Any]", sa.inspect(schema.model))


def table_of(schema: Schema) -> sa.Table:
    return cast(sa.Table, getattr(mapper_of(schema), "local_table", schema.model))


def model_of(schema: Schema, name: TableName) -> Any:
    """Return the mapped class, or else the Table, of another table of the same MetaData."""
    mapper, known = mapper_of(schema), table_of(schema).metadata.tables
    table = known.get(".".join(filter(None, name)))
    if table is None:
        raise MappingError(f"table {schema.name} refers to table {name[1]}, which its MetaData does not have")
    mapped = () if mapper is None else mapper.registry.mappers
    return next((one.class_ for one in mapped if one.local_table is table), table)


def sql_columns(schema: Schema) -> Mapping[str, sa.Column[Any]]:
    """Return the table's columns by their names in the schema."""
    columns: Any = (mapper_of(schema) or schema.model).columns
    return {name: columns[name] for name in schema.by_name}


def refusals(table: sa.Table) -> Iterator[Refusal]:
    """Return the reasons why memory refuses a table, mapped or not.

    As for an entity with a field for each column whose type memory can keep.
    """
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
    always = column.identity is not None and bool(column.identity.always)
    default, onupdate = _python_default(column.default), _python_default(column.onupdate)
    domains = domains_of(column.type)
    return Column(
        name=name,
        type=value_type,
        nullable=bool(column.nullable) and not any(one.not_null for one in domains),
        generated=generated,
        default=default,
        onupdate=onupdate,
        server_default=column.server_default is not None
        or (column.default is not None and default is None)
        or any(one.default is not None for one in domains),
        computed=column.computed is not None or (always and not column.primary_key),
        always=always and generated,
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

_FLOAT64_PRECISION = 25  # PostgreSQL's FLOAT(25) and above has 64 bits
_MICROSECONDS = 6  # digits

_BITS: Mapping[type, int] = {
    mysql.TINYINT: 8,
    sa.SmallInteger: 16,
    sa.SMALLINT: 16,
    mysql.SMALLINT: 16,
    mysql.MEDIUMINT: 24,
    sa.Integer: 32,
    sa.INTEGER: 32,
    mysql.INTEGER: 32,
    sa.BigInteger: 64,
    sa.BIGINT: 64,
    mysql.BIGINT: 64,
}

_OCTETS: Mapping[type, int] = {
    mysql.TINYTEXT: 2**8 - 1,
    mysql.TEXT: 2**16 - 1,
    mysql.MEDIUMTEXT: 2**24 - 1,
    mysql.LONGTEXT: 2**32 - 1,
}

_Read: TypeAlias = Callable[[Any], "tuple[ValueType, str | None]"]


class _PostgreSQL(DefaultDialect):
    """PostgreSQL's name, by which type decorators choose what they store; memory behaves as PostgreSQL does."""

    name = "postgresql"


def _read_type(type_: Any) -> tuple[ValueType, str | None]:
    """Return the value type of a column type, and the reason why memory refuses it, if any."""
    if isinstance(portable := getattr(type_, "value_type", None), ValueType):
        return portable, _overridden(type_)
    known = next((one for one in type(type_).__mro__ if one in TYPES), None)
    if known is None:
        return ValueType(Kind.OPAQUE), f"its type {type_!r} has no portable meaning"
    read, flags = TYPES[known]
    found, refused = read(type_)
    if known is not sa.types.TypeDecorator:
        refused = refused or _unknown(type_, known, flags)
        variants = {name: _read_type(one) for name, one in type_._variant_mapping.items()}  # noqa: SLF001  # not public
        refused = refused or (variants["postgresql"][1] if "postgresql" in variants else None)
        found = replace(found, padded=found.padded or any(one.padded for one, _ in variants.values()))
    return found, refused


def _overridden(type_: Any) -> str | None:
    """Return what a subclass of a portable type overrides, if anything."""
    own = type(type_)
    portable = next(one for one in own.__mro__ if "value_type" in vars(one))
    names = ("process_bind_param", "process_result_value", "load_dialect_impl", *_BEYOND_MEMORY)
    changed = [name for name in names if getattr(own, name, None) is not getattr(portable, name, None)]
    return f"its type {type_!r} overrides {changed[0]} of {portable.__name__}" if changed else None


def _unknown(type_: Any, known: type, flags: str) -> str | None:
    """Return what memory does not know of a type: its class, or an option that is not the default."""
    if type(type_) is not known:
        return f"its type {type_!r} is unknown, although it derives from {known.__name__}"
    defaults = vars(known("", sa.Integer) if known is postgresql.DOMAIN else known())
    for name, value in vars(type_).items():
        is_option = not name.startswith("_") or name in ("_storage_format", "_reg")  # SQLite's
        if is_option and name not in (*flags.split(), *_ANY_TYPE) and value != defaults.get(name):
            return f"its type {type_!r} has the unknown option {name.lstrip('_')}"
    return None


# Attributes that SQLAlchemy keeps with a type, and that do not change what is stored.
_ANY_TYPE = ("dispatch", "should_evaluate_none")


def _decorator(type_: sa.types.TypeDecorator[Any]) -> tuple[ValueType, str | None]:
    # The limits are those of the type beneath; the user's two functions run unchanged.
    bare, base, own = DefaultDialect(), sa.types.TypeDecorator, type(type_)
    beneath, served = _beneath(type_, bare), _beneath(type_, _PostgreSQL())
    below, refused = _read_type(beneath)
    if not all(getattr(one, "none_as_null", True) for one in (beneath, served)):
        refused = refused or "JSON beneath a type decorator stores None as the text null; set none_as_null=True"
    bind = result = None
    if own.process_bind_param is not base.process_bind_param:
        bind = lambda value: type_.process_bind_param(value, bare)  # noqa: E731
    if own.process_result_value is not base.process_result_value:
        result = lambda stored: type_.process_result_value(stored, bare)  # noqa: E731
    refused = refused or _read_type(served)[1]
    if domains_of(served):
        refused = refused or "a domain beneath a type decorator is not checked; put it on the column itself"
    for name, what in _BEYOND_MEMORY.items():
        if getattr(own, name) is not getattr(base, name):
            refused = refused or f"its type {what}"
    form = below.form if bind is None and result is None else f"{own.__module__}.{type_!r}"
    return replace(below, bind=bind, result=result, form=form), refused


def _beneath(type_: sa.types.TypeDecorator[Any], dialect: DefaultDialect) -> Any:
    """Return the type beneath a decorator; the declared one if the user's function knows its own databases only."""
    try:
        return type_.load_dialect_impl(dialect)
    except LookupError:
        return type_.impl_instance


# What a type decorator may override that memory cannot run.
_BEYOND_MEMORY = {
    "bind_processor": "processes the driver's values, which memory does not have",
    "result_processor": "processes the driver's values, which memory does not have",
    "bind_expression": "writes values by an SQL expression; convert them in process_bind_param",
    "column_expression": "reads values by an SQL expression; convert them in process_result_value",
    "comparator_factory": "compares by operators of its own",
}


def _plain(kind: Kind, python: type) -> _Read:
    return lambda _: (ValueType(kind, python), None)


def _refused(kind: Kind, python: type, reason: str) -> _Read:
    return lambda type_: (ValueType(kind, python, length=getattr(type_, "length", None)), reason)


def _integer(type_: Any) -> tuple[ValueType, str | None]:
    bits = next(_BITS[one] for one in type(type_).__mro__ if one in _BITS)
    if getattr(type_, "unsigned", False) or getattr(type_, "zerofill", False):
        return ValueType(Kind.INTEGER, int, low=0, high=2**bits - 1), None
    return ValueType(Kind.INTEGER, int, low=-(2 ** (bits - 1)), high=2 ** (bits - 1) - 1), None


def _year(type_: Any) -> tuple[ValueType, str | None]:
    short = "YEAR(2) gives years back without their century" if type_.display_width == len("99") else None
    return ValueType(Kind.INTEGER, int, low=1901, high=2155), short


def _bits(type_: Any) -> tuple[ValueType, str | None]:
    return ValueType(Kind.INTEGER, int, low=0, high=2 ** (type_.length or 1) - 1), None


def _string(type_: Any) -> tuple[ValueType, str | None]:
    collation = type_.collation or ""
    charset = getattr(type_, "charset", None) or collation.partition("_")[0]
    if getattr(type_, "national", False):  # overrides the character set that is given
        charset = "utf8mb3"
    octets = next((_OCTETS[one] for one in type(type_).__mro__ if one in _OCTETS), None)
    found = ValueType(Kind.TEXT, str, type_.length, octets=octets, charset=charset if charset in CHARSETS else "")
    if collation in ("", "default", *BY_CODE_POINT):  # PostgreSQL reflects "default" beneath domains
        return found, None  # the audit judges a database's default collation
    if charset in ("utf8mb4", *CHARSETS):  # on MariaDB, where repositories compare and sort exactly
        return replace(found, collation=collation), None
    return found, f"collation {collation} does not compare text by code point"


def _char(type_: Any) -> tuple[ValueType, str | None]:
    found, refused = _string(type_)
    return replace(found, length=type_.length or 1, padded=True), refused


def _enum(type_: Any) -> tuple[ValueType, str | None]:
    if type_.enum_class is None:
        return ValueType(Kind.TEXT, str, labels={text: text for text in type_.enums}), None
    named = type_.enum_class.__members__
    canonical = [member for name, member in named.items() if member.name == name]
    members = canonical if len(canonical) == len(type_.enums) else list(named.values())
    labels: dict[Any, str] = {}
    for member, label in zip(members, type_.enums, strict=False):
        labels.setdefault(member, label)  # of two labels of an alias, SQLAlchemy writes the first
    return ValueType(Kind.ENUM, type_.enum_class, labels=labels), None


def _uuid(type_: Any) -> tuple[ValueType, str | None]:
    return ValueType(Kind.UUID, UUID) if type_.as_uuid else ValueType(Kind.TEXT, str, form=UUID_TEXT), None


def _float(type_: Any) -> tuple[ValueType, str | None]:
    if type_.asdecimal:
        return _numeric(type_)[0], "a float that is read as a Decimal is rounded; use types.Exact"
    found, precision = ValueType(Kind.FLOAT, float), type_.precision
    if isinstance(type_, sa.REAL | mysql.FLOAT) or (precision or _FLOAT64_PRECISION) < _FLOAT64_PRECISION:
        return found, "it has 32 bits, so what was written is not found again; use types.Float64"
    return found, None


def _numeric(type_: Any) -> tuple[ValueType, str | None]:
    if not type_.asdecimal:
        return ValueType(Kind.FLOAT, float), "NUMERIC rounds floats to its digits; use types.Float64"
    if type_.precision is None:
        return ValueType(Kind.DECIMAL, Decimal), None  # any digits, as in PostgreSQL
    return ValueType(Kind.DECIMAL, Decimal, precision=type_.precision, scale=type_.scale or 0), None


def _bytes(type_: Any) -> tuple[ValueType, str | None]:
    limits: Mapping[type, int] = {mysql.TINYBLOB: 2**8 - 1, mysql.MEDIUMBLOB: 2**24 - 1}
    return ValueType(Kind.BYTES, bytes, length=type_.length or limits.get(type(type_))), None


def _datetime(type_: Any) -> tuple[ValueType, str | None]:
    return ValueType(Kind.DATETIME, datetime, aware=bool(type_.timezone)), _rounding(type_)


def _time(type_: Any) -> tuple[ValueType, str | None]:
    dropped = "every database drops a time's zone; use a time without one" if type_.timezone else None
    return ValueType(Kind.TIME, time), dropped or _rounding(type_)


def _rounding(type_: Any) -> str | None:
    if getattr(type_, "precision", None) in (None, _MICROSECONDS):
        return None
    return f"PostgreSQL rounds it to {type_.precision} digits of a second; leave out the precision"


def _array(type_: Any) -> tuple[ValueType, str | None]:
    item, _ = _read_type(type_.item_type)

    def check(value: Any) -> Any:
        if value is not None and not isinstance(value, list | tuple):
            raise WrongValueError(f"expected list, got {type(value).__name__}")  # SQLAlchemy stores a text's letters
        for one in () if value is None or item.kind is Kind.OPAQUE else value:
            if one is not None:
                check(one) if isinstance(one, list | tuple) else item.check(one)
        return value

    return ValueType(Kind.OPAQUE, bind=check), f"its type {type_!r} has no portable meaning"


def _json(_: Any) -> tuple[ValueType, str | None]:
    def dump(value: Any) -> str | None:
        try:
            return None if value is None else json.dumps(value, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise WrongValueError(f"is not valid JSON: {error}") from None

    def load(stored: str | None) -> Any:
        return None if stored is None else json.loads(stored)

    return ValueType(Kind.OPAQUE, bind=dump, result=load, form=JSON_FORM), None


def _domain(type_: Any) -> tuple[ValueType, str | None]:
    """Read the type beneath a domain; what the domain checks is read with the table's checks."""
    beneath = type_.data_type
    found, refused = _read_type(beneath)
    if type_.collation not in (None, "default", *BY_CODE_POINT):
        refused = refused or f"collation {type_.collation} does not compare text by code point"
    if found.kind is Kind.OPAQUE or not found.plain or found.form:
        refused = refused or f"SQLAlchemy does not convert values of a domain over {beneath!r}"
    rounds = found.kind is Kind.DECIMAL or isinstance(beneath, postgresql.TIMESTAMP | postgresql.TIME)
    if rounds and beneath.precision is None:
        refused = refused or "reflection loses the digits that a domain rounds to; declare the type beneath with them"
    if isinstance(beneath, sa.CHAR) and beneath.length is None:
        found = replace(found, length=None)  # which reflection loses too, but PostgreSQL refuses what is longer
    return found, refused


_TEXT_FLAGS = "length collation charset ascii unicode national"
_ENUM_FLAGS = (
    "native_enum create_constraint values_callable enum_class enums validate_strings length name schema metadata "
    "create_type inherit_schema collation charset"
)
_DOMAIN_FLAGS = (
    "data_type default collation collation_schema constraint_name not_null check create_type name schema metadata "
    "inherit_schema"
)
_INTERVAL = "Interval has a smaller range on some databases; use types.Duration"

# The types that memory knows, by their exact classes; those that it refuses are here for the sake of their remedy.
# The flags are those that the function reads, and those without effect on values.
_ROWS: Final[tuple[tuple[tuple[type, ...], _Read, str], ...]] = (
    ((sa.types.TypeDecorator,), _decorator, ""),
    ((sa.Boolean, sa.BOOLEAN), _plain(Kind.BOOLEAN, bool), "create_constraint name"),
    (tuple(_BITS), _integer, "unsigned zerofill display_width"),
    ((mysql.YEAR,), _year, "display_width"),
    ((mysql.BIT,), _bits, "length"),
    ((sa.Enum, postgresql.ENUM, mysql.ENUM), _enum, _ENUM_FLAGS),
    ((sa.CHAR, sa.NCHAR, mysql.CHAR, mysql.NCHAR), _char, _TEXT_FLAGS),
    ((sa.String, sa.VARCHAR, sa.Text, sa.TEXT, sa.CLOB), _string, _TEXT_FLAGS),
    ((sa.Unicode, sa.UnicodeText, sa.NVARCHAR), _string, _TEXT_FLAGS),
    ((mysql.VARCHAR, mysql.NVARCHAR), _string, _TEXT_FLAGS),
    ((mysql.TINYTEXT, mysql.TEXT, mysql.MEDIUMTEXT, mysql.LONGTEXT), _string, _TEXT_FLAGS),
    ((sa.Uuid, sa.UUID), _uuid, "as_uuid native_uuid"),
    ((sa.Float, sa.FLOAT, sa.REAL, mysql.FLOAT), _float, "precision asdecimal"),
    ((sa.Double, sa.DOUBLE, sa.DOUBLE_PRECISION, mysql.DOUBLE), _float, "precision asdecimal"),
    ((sa.Numeric, sa.NUMERIC, sa.DECIMAL, mysql.NUMERIC, mysql.DECIMAL), _numeric, "precision scale asdecimal"),
    ((sa.LargeBinary, sa.BLOB, sa.VARBINARY, postgresql.BYTEA), _bytes, "length"),
    ((mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB), _bytes, "length"),
    ((sa.DateTime, sa.DATETIME, sa.TIMESTAMP, sqlite.DATETIME), _datetime, "timezone"),
    ((postgresql.TIMESTAMP, mysql.DATETIME, mysql.TIMESTAMP), _datetime, "timezone precision fsp"),
    ((sa.Date, sa.DATE, sqlite.DATE), _plain(Kind.DATE, date), ""),
    ((sa.Time, sa.TIME, sqlite.TIME, postgresql.TIME, mysql.TIME), _time, "timezone precision fsp"),
    ((sa.JSON, postgresql.JSON, postgresql.JSONB, mysql.JSON), _json, "none_as_null astext_type"),
    ((sa.ARRAY, postgresql.ARRAY), _array, ""),
    ((postgresql.DOMAIN,), _domain, _DOMAIN_FLAGS),
    ((sa.Interval,), _refused(Kind.DURATION, timedelta, _INTERVAL), "impl native second_precision day_precision"),
    ((sa.PickleType,), _refused(Kind.OPAQUE, object, "pickles have no portable meaning"), ""),
)
TYPES: Final[dict[type, tuple[_Read, str]]] = {one: (read, flags) for ones, read, flags in _ROWS for one in ones}


# -- constraints

_ACTIONS: Final = frozenset(get_args(Action)) - {"SET DEFAULT"}


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
        for part in parts:
            if collation := schema.by_name[part.name].type.collation:
                return UniqueIndex(name, parts, refused=f"it compares {part} by the collation {collation}")
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
        if not all(column in names for column in constraint.columns):
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
    for column, name in names.items():
        for domain in reversed(domains_of(column.type)):  # which PostgreSQL checks before the table's own
            if domain.check is not None:
                own = domain.constraint_name or f"{domain.name}_check"
                yield _read_check(own, domain.check, {"VALUE": name}, schema)
    renamed = {column.name: key for column, key in names.items()}
    # PostgreSQL checks in the order of names; where there is none, it makes one that begins with the table's.
    own_checks = _in_order(table, sa.CheckConstraint)
    for constraint in sorted(own_checks, key=lambda one: _name_of(one) or f"{table.name}_"):
        if getattr(constraint, "_type_bound", False):
            continue  # made by a Boolean or Enum type, whose values cannot violate it
        yield _read_check(_name_of(constraint), constraint.sqltext, renamed, schema)


def _read_check(name: str | None, condition: Any, names: Mapping[str, str], schema: Schema) -> Check:
    try:
        return Check(name, read_criterion(condition, names, schema), text=str(condition))
    except UnreadableError as unreadable:
        return Check(name, text=str(condition), refused=str(unreadable))


# Options of each database that do not change which rows a table accepts, by what they belong to.
HARMLESS: Final[Mapping[type, Mapping[str, str]]] = {
    sa.Table: {
        "postgresql": "ignore_search_path tablespace using with with_oids",
        "sqlite": "autoincrement strict with_rowid",
        "mysql": "auto_increment avg_row_length character_set charset checksum collate comment default_character_set "
        "default_charset default_collate encrypted engine key_block_size page_checksum page_compressed row_format "
        "stats_auto_recalc stats_persistent stats_sample_pages tablespace",
    },
    sa.Column: {},
    sa.PrimaryKeyConstraint: {"postgresql": "include", "mysql": "using"},
    sa.UniqueConstraint: {"postgresql": "include"},
    sa.ForeignKeyConstraint: {"postgresql": "not_valid"},
    sa.CheckConstraint: {"postgresql": "not_valid"},
    sa.Index: {"postgresql": "concurrently include tablespace using with", "mysql": "using"},
}
_DATABASES = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mysql"}
# What an identity or a sequence has besides options that limit or repeat its numbers.
_NUMBERING = (
    "start increment minvalue nominvalue nomaxvalue cache order always column dialect_options dispatch for_update "
    "metadata name optional schema"
)


def _unsupported(columns: Any, table: sa.Table) -> Iterator[str]:
    """Yield what memory cannot reproduce of the table as a whole."""
    uniques = [index for index in table.indexes if index.unique]  # the others change no rows
    for part in (table, *table.columns, *_in_order(table, sa.Constraint), *uniques):
        yield from (f"{reason} of {_label(part)}" for reason in _unknown_options(part))
    for constraint in _in_order(table, sa.Constraint):
        if reason := _unsupported_constraint(constraint):
            yield f"{_label(constraint)}: {reason}"
    for part in (*_in_order(table, sa.Constraint), *uniques):
        yield from _unequal_texts(part)
    for column in table.columns:
        yield from (f"{reason} of the numbers of column {column.name}" for reason in _unknown_numbering(column))
    mapped = set(columns.values())
    for column in table.columns:
        if column not in mapped:
            yield f"column {column.name}, which the class does not map"


def _unequal_texts(part: Any) -> Iterator[str]:
    """Yield the columns of a key, unique index or foreign key where MariaDB treats different texts as equal."""
    for column in () if isinstance(part, sa.CheckConstraint) else part.columns:
        if collation := _read_type(column.type)[0].collation:
            yield f"collation {collation} of column {column.name}, which treats texts as equal, of {_label(part)}"


def _unknown_options(part: Any) -> Iterator[str]:
    """Yield the options that a database gives a meaning unknown to memory."""
    known: Mapping[str, str] = next((options for kind, options in HARMLESS.items() if isinstance(part, kind)), {})
    for option, value in part.dialect_kwargs.items():
        prefix, _, name = option.lower().replace(" ", "_").partition("_")  # "default charset" is reflected with a blank
        database = _DATABASES.get(prefix)
        is_given = isinstance(value, sa.ClauseElement) or bool(value)
        if not is_given or database is None or name in ("where", "length"):
            continue  # an index with a condition, or over the beginnings of values, is read as such
        if name not in known.get(database, "").split():
            yield f"{option}{' (NULLs are equal)' if name == 'nulls_not_distinct' else ''}"
    if getattr(part, "_ddl_if", None) is not None:
        yield "ddl_if"
    yield from (f"the prefix {one}" for one in getattr(part, "_prefixes", ()) if one.upper() != "UNLOGGED")


def _unsupported_constraint(constraint: Any) -> str | None:
    if type(constraint) not in HARMLESS:
        return f"memory does not know constraints of the class {type(constraint).__name__}"
    if isinstance(constraint, sa.ForeignKeyConstraint):
        return _unportable(constraint)
    if isinstance(constraint, sa.CheckConstraint) or (constraint.deferrable, constraint.initially) == (None, None):
        return None
    return "memory checks keys and unique constraints at once; leave out deferrable and initially"


def _unknown_numbering(column: sa.Column[Any]) -> Iterator[str]:
    """Yield the options of an identity or a sequence that limit or repeat its numbers; memory counts from 1."""
    numbers = column.identity or (column.default if isinstance(column.default, sa.Sequence) else None)
    high = _read_type(column.type)[0].high
    for name, value in vars(numbers).items() if numbers is not None else ():
        known = name in _NUMBERING.split() or name.startswith("_")
        if name == "maxvalue" and value is not None and high is not None:
            known = value >= high  # the end of the type, which databases report as the maximum
        if (not known and value) or (name == "increment" and (value or 0) < 0):
            yield f"{name}={value}"


def _label(part: Any) -> str:
    kinds = {sa.Table: "the table", sa.Column: "column", sa.ForeignKeyConstraint: "foreign key"}
    kind = next((text for one, text in kinds.items() if isinstance(part, one)), type(part).__name__)
    columns = ", ".join(column.name for column in getattr(part, "columns", ()))
    return kind if isinstance(part, sa.Table) else f"{kind} {part.name or f'({columns})'}"


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

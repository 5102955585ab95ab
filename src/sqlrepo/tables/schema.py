"""The description of one table, neutral between back ends: columns, key, constraints and defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlrepo.errors import InvalidValueError, MappingError
from sqlrepo.language.criteria import EVERYTHING, Criterion, Ref, find_leaves, own_refs
from sqlrepo.language.values import Kind, ValueType, WrongValueError

EXACT_DIGITS = 15  # of a decimal in SQLite, which stores a 64-bit float

# The database's schema, None for the default one, and the name.
TableName: TypeAlias = tuple[str | None, str]
# One value per column, in the order of the schema's columns.
Row: TypeAlias = tuple[Any, ...]
Default: TypeAlias = Callable[[Mapping[str, Any]], Any]
Action: TypeAlias = Literal["NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"]


@dataclass(frozen=True, slots=True)
class ConstantDefault:
    """A literal default, filled in by the database."""

    stored: Any  # the value as stored in the row


@dataclass(frozen=True, slots=True)
class RowFunction:
    """A user's function of a row's values, in memory's place of an expression that only the database can compute.

    The values are named as in the mapped class, and as in the entity where ``fields`` maps a field to a column of
    another name.
    """

    function: Callable[[Mapping[str, Any]], Any]
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        renamed = {name: values[column] for name, column in self.fields.items() if column in values}
        return self.function({**values, **renamed})


class Refusal(NamedTuple):
    """A reason why memory refuses a table."""

    column: str  # empty if the reason concerns the whole table
    # The column's type, the source of its values, or the table; "field" if only an entity with that field is refused.
    aspect: Literal["type", "value", "field", "table"]
    reason: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str  # in the mapped class
    type: ValueType
    nullable: bool = False
    generated: bool = False  # numbered by the back end: an autoincrementing key
    always: bool = False  # the database refuses a given number: GENERATED ALWAYS
    # Functions of the new row's other values, and of the other changes: called before the values are sent.
    default: Default | None = field(default=None, compare=False)
    onupdate: Default | None = field(default=None, compare=False)
    server_default: bool = False
    computed: bool = False  # by the database, which accepts no value
    server_onupdate: bool = False
    memory_default: ConstantDefault | RowFunction | None = None  # for what the database would fill in
    column: str = ""  # its name in the database
    refused: str | None = None  # why memory cannot behave as the database would

    def check(self, value: Any) -> Any:
        """Return a value as every back end will hold it; None passes, even in a column that is not nullable."""
        if value is None:
            return None
        if self.generated and value == 0:
            # MariaDB would store the next number, and the driver report 0.
            raise WrongValueError("0 is not valid in a generated key")
        return self.type.check(value)

    def defaults(self, value: Any) -> bool:
        """Return True for a None that stands for the column's default, which does not change an existing row."""
        return value is None and not self.nullable and self.fills_itself

    def stores_null(self, value: Any) -> bool:
        """Return True if the column's type makes NULL of a value, and the column takes none."""
        converts = value is not None and not self.nullable and self.type.bind is not None
        return converts and self.type.store(value) is None

    @property
    def fills_itself(self) -> bool:
        """True if a new row may omit the column."""
        return self.nullable or self.generated or self.computed or self.server_default or self.default is not None

    @property
    def fills_unasked(self) -> bool:
        """True if what is stored may differ from what is given, without a value or in spite of it."""
        return self.computed or (self.fills_itself and not self.nullable) or self.onupdate is not None

    @property
    def refusal(self) -> Refusal | None:
        """The reason why memory cannot keep the column, if any."""
        if self.refused:
            return Refusal(self.name, "type", self.refused)
        if self.memory_default is None and (reason := self.filled_by_database):
            return Refusal(self.name, "value", f"{reason}; put a function into `memory_defaults`")
        return None

    @property
    def filled_by_database(self) -> str | None:
        """The reason why only the database can compute a value; None if there is none."""
        if self.generated:
            return None
        if self.computed:
            return "it is computed by the database"
        if self.server_default and self.default is None:
            return "its default is filled in by the database"
        return "its onupdate is computed by the database" if self.server_onupdate else None


@dataclass(frozen=True, slots=True)
class Unique:
    """Columns on which no two rows agree, unless one of the values is NULL."""

    columns: tuple[str, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index over some rows only, or over functions of columns."""

    name: str | None
    parts: tuple[Ref, ...] = ()
    condition: Criterion = EVERYTHING  # of the rows in the index
    function: RowFunction | None = None  # the user's, in place of both: the values, or None for a row outside
    refused: str | None = None  # why the SQL cannot be read

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns as databases name them in an error: none if one is under a function."""
        return () if any(part.function for part in self.parts) else tuple(part.name for part in self.parts)

    @property
    def refusal(self) -> str:
        return f"unique index {self.name}: {self.refused}; put a function into `memory_uniques`"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns whose values, unless one is NULL, must exist in a row of another table, or of the same table."""

    columns: tuple[str, ...]
    table: TableName
    targets: tuple[str, ...]  # columns of that table, by their names in the database
    name: str | None = None
    on_delete: Action = "NO ACTION"
    on_update: Action = "NO ACTION"
    deferred: bool = False  # checked when the transaction ends


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that must not be false for any row; unknown passes."""

    name: str | None
    criterion: Criterion | None = None
    test: RowFunction | None = None  # a user's function, in place of the criterion
    text: str = ""  # the SQL
    refused: str | None = None  # why the SQL cannot be read as a criterion

    @property
    def refusal(self) -> str:
        reason = self.refused or "its condition is unknown"
        hint = (
            "put a function into `memory_checks`" if self.name else "name it, and put a function into `memory_checks`"
        )
        return f"check {self.name or self.text}: {reason}; {hint}"


@dataclass(frozen=True, eq=False)
class Schema:
    """One table; invalid column names raise `MappingError`."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]  # empty if the table has none
    uniques: tuple[Unique, ...] = ()  # besides the key
    indexes: tuple[UniqueIndex, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[Check, ...] = ()
    namespace: str | None = None  # the database's schema; None for the default one
    key_name: str | None = None  # of the primary key constraint
    enforces_key: bool = True  # False if only the mapped class declares the key
    version: str | None = None  # the column that counts a row's writes
    refused: tuple[str, ...] = ()  # what memory cannot reproduce
    model: Any = field(default=None, repr=False)  # the mapped class or Table, for back ends that need it
    used: frozenset[str] | None = None  # the columns that the repository reads or writes; None for all

    def __post_init__(self) -> None:
        if not self.key and self.generated:
            raise MappingError(f"table {self.name} has a generated column, but no primary key")
        named = {*self.key, *(name for one in self.uniques for name in one.columns)}
        named |= {name for one in self.foreign_keys for name in one.columns}
        named |= {self.version} if self.version else set()
        if unknown := named - set(self.by_name):
            raise MappingError(f"table {self.name} has no column {', '.join(sorted(unknown))}")

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        return MappingProxyType({column.name: column for column in self.columns})

    @cached_property
    def positions(self) -> Mapping[str, int]:
        return MappingProxyType({column.name: index for index, column in enumerate(self.columns)})

    @cached_property
    def generated(self) -> str | None:
        """The column that the back end numbers, if any."""
        return next((column.name for column in self.columns if column.generated), None)

    def version_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the version to compare, by column, or nothing.

        NULL is the version of a row that is older than its version column; a column that cannot be NULL has none.
        """
        name = self.version
        if name is None or name not in values or (values[name] is None and name not in self.nullable):
            return {}
        return {name: values[name]}

    def check_generated(self, key: int) -> None:
        """Refuse a generated key that the column would not hold if it were given."""
        assert self.generated is not None
        high = self.by_name[self.generated].type.high
        if high is not None and key > high:
            raise InvalidValueError(self.generated, f"the next key is out of range, 1 to {high}", table=self.name)

    @cached_property
    def nullable(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns if column.nullable)

    @cached_property
    def aware(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns if column.type.aware)

    @cached_property
    def wide_decimals(self) -> frozenset[str]:
        """The columns with more digits than every database holds."""
        decimals = (one for one in self.columns if one.type.kind is Kind.DECIMAL and not one.type.form)
        return frozenset(one.name for one in decimals if (one.type.precision or EXACT_DIGITS + 1) > EXACT_DIGITS)

    @cached_property
    def unknown(self) -> frozenset[str]:
        """The columns that memory leaves NULL, because it cannot keep them and nothing asks for their values."""
        if self.used is None:
            return frozenset()
        asked = {*self.used, *self.key, self.version, *(name for one in self.uniques for name in one.columns)}
        asked |= {name for one in self.foreign_keys for name in one.columns}
        conditions = [one.criterion for one in self.checks if one.criterion is not None]
        asked |= {name for one in (*conditions, *(one.condition for one in self.indexes)) for name in columns_of(one)}
        asked |= {part.name for one in self.indexes for part in one.parts}
        unkept = (column for column in self.columns if column.refusal and column.fills_itself)
        return frozenset(column.name for column in unkept) - asked

    @property
    def refusals(self) -> Iterator[Refusal]:
        """The reasons why memory cannot behave as the database would."""
        for reason in self.refused:
            yield Refusal("", "table", reason)
        yield from (one.refusal for one in self.columns if one.refusal and one.name not in self.unknown)
        for check in self.checks:
            if check.test is None and check.criterion is None:
                yield Refusal("", "table", check.refusal)
        for index in self.indexes:
            if index.function is None and index.refused:
                yield Refusal("", "table", index.refusal)

    @property
    def constraints(self) -> tuple[Unique, ...]:
        """The key, if the table enforces one, and the other unique constraints."""
        return (Unique(self.key, self.key_name), *self.uniques) if self.key and self.enforces_key else self.uniques

    def is_unique(self, *columns: str) -> bool:
        """Return True if no two rows have the same values in some columns."""
        return any({*columns}.issuperset(one.columns) for one in self.constraints)

    @property
    def full_name(self) -> TableName:
        return (self.namespace, self.name)


def column_of(schema: Schema, ref: Ref) -> Column:
    """Return the column of a bound reference to a row of a table, or to one that the row refers to."""
    return (schema if ref.via is None else ref.via.mapper.schema).by_name[ref.name]


def columns_of(criterion: Criterion) -> frozenset[str]:
    """Return the columns of the row itself that a criterion compares."""
    return frozenset(ref.name for leaf in find_leaves(criterion) for ref in own_refs(leaf))

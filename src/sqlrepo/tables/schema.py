"""The neutral description of one table: columns, key, constraints, defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlrepo.errors import MappingError
from sqlrepo.language.criteria import Criterion
from sqlrepo.language.values import ValueType, WrongValueError

#: A row: one value a column, in the order of the schema's columns.
Row: TypeAlias = tuple[Any, ...]
Default: TypeAlias = Callable[[Mapping[str, Any]], Any]
Action: TypeAlias = Literal["NO ACTION", "RESTRICT", "CASCADE", "SET NULL"]


@dataclass(frozen=True, slots=True)
class ConstantDefault:
    """A literal that the database fills in by itself.

    Attributes:
        stored: it, as rows keep it.
    """

    stored: Any


@dataclass(frozen=True, slots=True)
class RowFunction:
    """A function of the user's that stands in for what only the database can compute.

    Attributes:
        function: given a row's values by the mapped class's names, and by the entity's where they differ.
        fields: the column of each field that has another name.
    """

    function: Callable[[Mapping[str, Any]], Any]
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Ask the function."""
        renamed = {name: values[column] for name, column in self.fields.items() if column in values}
        return self.function({**values, **renamed})


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: its name in the mapped class, which is the one entities use.
        type: what it can hold.
        nullable: whether NULL is allowed.
        generated: whether the backend numbers it (an autoincrementing key).
        default: makes the value of a new row that gives none, from the row's other values; None where there is none.
        onupdate: makes the value of an updated row that gives none, from the other changes.
        server_default: whether the database fills it in by itself.
        computed: whether the database computes it and takes no value.
        server_onupdate: whether the database changes it by itself in an update that does not.
        stands_in: what memory puts where the database would fill it in; None where nobody has said.
        column: its name in the database.
        refused: why memory cannot behave as the database would; None where it can.
    """

    name: str
    type: ValueType
    nullable: bool = False
    generated: bool = False
    default: Default | None = None
    onupdate: Default | None = None
    server_default: bool = False
    computed: bool = False
    server_onupdate: bool = False
    memory_default: ConstantDefault | RowFunction | None = None
    column: str = ""
    refused: str | None = None

    def check(self, value: Any) -> Any:
        """Return the value as every backend will hold it.

        Args:
            value: None stands for NULL and passes; whether NULL is allowed is the table's question.

        Raises:
            WrongValueError: the column cannot hold it.
        """
        if value is None:
            return None
        if self.generated and value == 0:
            # MariaDB would take 0 for "the next number" while the driver reports 0.
            raise WrongValueError("0 is no generated key")
        return self.type.check(value)

    @property
    def fills_itself(self) -> bool:
        """Whether a new row may leave it out."""
        return self.nullable or self.generated or self.computed or self.server_default or self.default is not None

    @property
    def filled_by_database(self) -> str | None:
        """What of it only the database can compute, None where nothing is."""
        if self.generated:
            return None
        if self.computed:
            return "it is computed by the database"
        if self.server_default and self.default is None:
            return "its default is filled in by the database"
        return "its onupdate is computed by the database" if self.server_onupdate else None


@dataclass(frozen=True, slots=True)
class Unique:
    """A set of columns no two rows agree on; rows with a NULL among them agree with none.

    Attributes:
        columns: their names, in the constraint's order.
        name: the constraint's name in the metadata, None where it has none.
    """

    columns: tuple[str, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns whose values, unless one is NULL, must be those of a row of another table, or of the same.

    Attributes:
        columns: their names, in the constraint's order.
        table: the place of the table they refer to: the name of its database schema, and its own.
        targets: what they refer to there, by the columns' names in the database.
        name: the constraint's name in the metadata, None where it has none.
        on_delete: what becomes of them when the row they refer to is deleted.
        on_update: what becomes of them when its values change.
        deferred: whether it is looked at when the transaction ends, not when the statement does.
    """

    columns: tuple[str, ...]
    table: tuple[str | None, str]
    targets: tuple[str, ...]
    name: str | None = None
    on_delete: Action = "NO ACTION"
    on_update: Action = "NO ACTION"
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """What must not be false of any row; unknown passes.

    Attributes:
        name: the constraint's name in the metadata, None where it has none.
        criterion: it, over the names of the columns.
        test: a function of the user's in its place.
        text: how it was written.
        refused: why it cannot be said as a criterion.
    """

    name: str | None
    criterion: Criterion | None = None
    test: RowFunction | None = None
    text: str = ""
    refused: str | None = None

    @property
    def refusal(self) -> str:
        """What memory says of it, where it is neither a criterion nor a function."""
        reason = self.refused or "nobody has said what it asks"
        hint = "`memory_checks` can stand in for it" if self.name else "give it a name, and `memory_checks`"
        return f"check {self.name or self.text}: {reason}; {hint}"


class Refusal(NamedTuple):
    """Why memory refuses a table.

    Attributes:
        column: the column it is about, empty where it is about the table as a whole.
        aspect: whether the column's type is to blame, or how its values are made.
        reason: why.
    """

    column: str
    aspect: Literal["type", "value", "table"]
    reason: str


@dataclass(frozen=True, eq=False)
class Schema:
    """One table.

    Attributes:
        name: the table's name.
        columns: in the order rows have them.
        key: the primary key's columns.
        uniques: unique constraints and indexes besides the key.
        foreign_keys: in the order of their declaration.
        checks: in the order of their declaration.
        namespace: the name of the database schema that holds the table, None for the default one.
        key_name: the primary key constraint's name in the metadata.
        version: the column that counts a row's writes.
        refused: what memory cannot reproduce of the table, each with its reason.
        model: the mapped class behind the description, for backends that need it; opaque here.

    Raises:
        MappingError: the key, a constraint or the version names a column that is not there.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    uniques: tuple[Unique, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[Check, ...] = ()
    namespace: str | None = None
    key_name: str | None = None
    version: str | None = None
    refused: tuple[str, ...] = ()
    model: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.key:
            raise MappingError(f"table {self.name} has no primary key")
        named = {*self.key, *(name for one in self.uniques for name in one.columns)}
        named |= {name for one in self.foreign_keys for name in one.columns}
        named |= {self.version} if self.version else set()
        if unknown := named - set(self.by_name):
            raise MappingError(f"table {self.name} has no column {', '.join(sorted(unknown))}")

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """The columns by name."""
        return MappingProxyType({column.name: column for column in self.columns})

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Where in a row each column stands."""
        return MappingProxyType({column.name: index for index, column in enumerate(self.columns)})

    @cached_property
    def generated(self) -> str | None:
        """The column the backend numbers, None where there is none."""
        return next((column.name for column in self.columns if column.generated), None)

    @cached_property
    def nullable(self) -> frozenset[str]:
        """The columns that may be NULL."""
        return frozenset(column.name for column in self.columns if column.nullable)

    @property
    def refusals(self) -> Iterator[Refusal]:
        """What memory would get wrong."""
        for reason in self.refused:
            yield Refusal("", "table", reason)
        for column in self.columns:
            if column.refused:
                yield Refusal(column.name, "type", column.refused)
            elif column.memory_default is None and (reason := column.filled_by_database or ""):
                yield Refusal(column.name, "value", f"{reason}; `memory_defaults` can stand in for it")
        for check in self.checks:
            if check.test is None and check.criterion is None:
                yield Refusal("", "table", check.refusal)

    @property
    def place(self) -> tuple[str | None, str]:
        """What tells tables of one database apart."""
        return (self.namespace, self.name)

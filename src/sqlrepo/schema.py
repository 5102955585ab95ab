"""The neutral description of one table: columns, key, constraints, defaults.

Knows what a table demands of its rows. Must not know where the description came from, nor any backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

from sqlrepo.errors import MappingError
from sqlrepo.values import ValueType, WrongValueError

__all__ = ["Column", "Schema", "Unique"]

Default: TypeAlias = Callable[[Mapping[str, Any]], Any]


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


@dataclass(frozen=True, slots=True)
class Unique:
    """A set of columns no two rows agree on; rows with a NULL among them agree with none.

    Attributes:
        columns: their names, in the constraint's order.
        name: the constraint's name in the metadata, None where it has none.
    """

    columns: tuple[str, ...]
    name: str | None = None


@dataclass(frozen=True, eq=False)
class Schema:
    """One table.

    Attributes:
        name: the table's name.
        columns: in the order rows have them.
        key: the primary key's columns.
        uniques: unique constraints and indexes besides the key.
        namespace: the name of the database schema that holds the table, None for the default one.
        key_name: the primary key constraint's name in the metadata.
        version: the column that counts a row's writes.
        refused: what memory cannot reproduce of the table, each with its reason.
        model: the mapped class behind the description, for backends that need it; opaque here.

    Raises:
        MappingError: the key, a unique constraint or the version names a column that is not there.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    uniques: tuple[Unique, ...] = ()
    namespace: str | None = None
    key_name: str | None = None
    version: str | None = None
    refused: tuple[str, ...] = ()
    model: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.key:
            raise MappingError(f"table {self.name} has no primary key")
        named = {*self.key, *(name for unique in self.uniques for name in unique.columns)}
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
    def place(self) -> tuple[str | None, str]:
        """What tells tables of one database apart."""
        return (self.namespace, self.name)

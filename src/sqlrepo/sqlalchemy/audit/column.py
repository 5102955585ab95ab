"""One column of a table, as one database stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import TypeDecorator

from sqlrepo.sqlalchemy.types import CODE_POINTS
from sqlrepo.tables.reflection import BY_CODE_POINT

MARIADB = frozenset({"mariadb"})
MYSQL = MARIADB | {"mysql"}

# The capacity of MySQL's text and binary types that are declared without a length.
_CAPACITIES: Mapping[str, str] = {
    "TINYTEXT": "255 bytes",
    "TEXT": "65,535 bytes",
    "MEDIUMTEXT": "16 MB",
    "TINYBLOB": "255 bytes",
    "BLOB": "65,535 bytes",
    "MEDIUMBLOB": "16 MB",
}


def server_name(dialect: sa.Dialect) -> str:
    """Return the name of the database, which is MariaDB too if it was found behind a URL of MySQL."""
    return "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name


@dataclass(frozen=True, slots=True)
class Collation:
    """How a column's text compares."""

    name: str = ""  # empty for the database's default, if the database was not asked
    charset: str = ""  # empty if the column has none of its own
    nondeterministic: bool = False  # PostgreSQL's word for a collation that treats different texts as equal

    @property
    def exact(self) -> bool:
        return self.name in BY_CODE_POINT


@dataclass(frozen=True)
class ColumnInfo:
    """A column's type and collation on one database."""

    column: sa.Column[Any]
    dialect: sa.Dialect
    reported: Collation | None  # by the database; None if no database was asked, or it lacks the column
    default: Collation

    @property
    def place(self) -> str:
        return self.column.name

    @property
    def what(self) -> str:
        return self.ddl or repr(self.column.type)

    @cached_property
    def outer_type(self) -> Any:
        try:
            return self.column.type.dialect_impl(self.dialect)
        except (TypeError, AttributeError):  # SQLAlchemy cannot adapt mysql.SET and, in 2.0, mysql.ENUM
            return self.column.type

    @cached_property
    def type(self) -> Any:
        """The type beneath type decorators."""
        found = self.outer_type
        while isinstance(found, TypeDecorator | DOMAIN):
            found = found.data_type if isinstance(found, DOMAIN) else found.impl
        return found

    @cached_property
    def ddl(self) -> str:
        """The type in CREATE TABLE; empty if the database has none for it."""
        try:
            return str(self.column.type.compile(dialect=self.dialect))
        except (exc.CompileError, TypeError, AttributeError):  # of a type of another database
            return ""

    @cached_property
    def type_name(self) -> str:
        return self.ddl.partition("(")[0].partition(" ")[0].upper()

    @property
    def has_length(self) -> bool:
        return "(" in self.ddl

    @property
    def capacity(self) -> str | None:
        """The size limit of a type of MySQL or MariaDB without a declared length."""
        return None if self.has_length else _CAPACITIES.get(self.type_name)

    @property
    def is_text(self) -> bool:
        return isinstance(self.type, sa.String) and not isinstance(self.type, sa.Enum)

    @property
    def is_native_enum(self) -> bool:
        return isinstance(self.type, sa.Enum) and self.type.native_enum

    @property
    def is_interval(self) -> bool:
        return isinstance(self.outer_type, sa.Interval)

    @cached_property
    def collation(self) -> Collation:
        """The collation that the database reports, else the declared one, else the database's default."""
        if self.reported is not None:
            return self.reported
        declared = Collation(_attribute(self.type, "collation"), _attribute(self.type, "charset"))
        if declared == Collation():
            declared = Collation(self._table_option("collate"), self._table_option("charset", "default_charset"))
        return self.default if declared == Collation() else declared

    @property
    def collation_name(self) -> str:
        return f"Collation {self.collation.name}" if self.collation.name else "The database's default collation"

    @property
    def merges_texts(self) -> bool:
        """True if the column, and constraints over it, treat some different texts as equal."""
        if self.dialect.name == "postgresql":
            return self.collation.nondeterministic
        if self.dialect.name == "sqlite":  # whose default is exact
            return bool(self.collation.name) and not self.collation.exact
        return not self.collation.exact

    @property
    def text_remedy(self) -> str:
        if self.dialect.name == "sqlite":
            return "Declare no collation, which means BINARY; icontains and its family ignore case where you need that."
        length = getattr(self.type, "length", None) or ""
        if self.dialect.name == "postgresql":
            return f'types.Text({length}), which is COLLATE "C".'
        collation = CODE_POINTS[server_name(self.dialect)]
        if length or self.type_name == "CHAR" or not self.ddl:
            return f"types.Text({length or '<length>'}), which is VARCHAR … COLLATE {collation}."
        return f"types.Text(), which is LONGTEXT COLLATE {collation}."

    def _table_option(self, *names: str) -> str:
        options = self.column.table.kwargs
        return next((str(value) for name in names if (value := options.get(f"{self.dialect.name}_{name}"))), "")


def _attribute(type_: Any, name: str) -> str:
    return str(getattr(type_, name, None) or "")

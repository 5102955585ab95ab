"""A column as one database keeps it: its type there, as the database is told it, and how its text compares.

Knows SQLAlchemy's types. Must not know what is portable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlrepo.mapped import BY_CODE_POINT
from sqlrepo.sqlalchemy.auditing.finding import Finding

__all__ = ["Collation", "Kept", "Place", "called", "key_columns"]

#: A table's schema and name.
Place: TypeAlias = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Collation:
    """How a column's text compares.

    Attributes:
        name: what the database calls it; empty where it is the database's own, which was not asked.
        charset: the characters it can hold, where that is the column's own matter.
        exact: whether it compares by code point.
        merges: whether PostgreSQL was told that it takes different texts for equal, which is rare there.
    """

    name: str = ""
    charset: str = ""
    exact: bool = False
    merges: bool = False

    @classmethod
    def named(cls, name: str, charset: str = "", *, merges: bool = False) -> Collation:
        """The collation of a name."""
        return cls(name, charset, name in BY_CODE_POINT, merges)

    @property
    def known(self) -> bool:
        """Whether it was declared, or asked for."""
        return bool(self.name)


@dataclass(frozen=True)
class Kept:
    """One column of one table on one database.

    Attributes:
        column: it.
        sql: SQLAlchemy's dialect of the database.
        asked: its collation as a real database told it; None where it has no such column, or was not asked.
        default: the collation of the database.
    """

    column: sa.Column[Any]
    sql: sa.Dialect
    asked: Collation | None
    default: Collation

    @cached_property
    def outer(self) -> TypeEngine[Any]:
        """Its type on the database, decorators included."""
        return self.column.type.dialect_impl(self.sql)

    @cached_property
    def type(self) -> TypeEngine[Any]:
        """The type beneath decorators."""
        found = self.outer
        while isinstance(found, TypeDecorator):
            found = cast("TypeEngine[Any]", found.impl)
        return found

    @cached_property
    def ddl(self) -> str:
        """What CREATE TABLE says; empty where it cannot be said."""
        try:
            return str(self.column.type.compile(dialect=self.sql))
        except exc.CompileError:
            return ""

    @cached_property
    def word(self) -> str:
        """The type's name in it."""
        return self.ddl.partition("(")[0].partition(" ")[0].upper()

    @cached_property
    def is_text(self) -> bool:
        """Whether it holds text that a collation compares; the labels of an enumeration are a matter of their own."""
        return isinstance(self.type, sa.String) and not isinstance(self.type, sa.Enum)

    @cached_property
    def collation(self) -> Collation:
        """How its text compares: as the database said, or as is declared; by the database's own where nothing is."""
        if self.asked is not None:
            return self.asked
        declared = Collation.named(_said(self.type, "collation"), _said(self.type, "charset"))
        if declared == Collation():
            declared = Collation.named(self._option("collate"), self._option("charset", "default_charset"))
        return self.default if declared == Collation() else declared

    @property
    def merges(self) -> bool:
        """Whether different texts are equal to the column, and to constraints over it."""
        match self.sql.name:
            case "postgresql":
                return self.collation.merges
            case "sqlite":
                return self.collation.known and not self.collation.exact
            case _:
                return not self.collation.exact

    def _option(self, *names: str) -> str:
        """An option of the table, for this database."""
        known = self.column.table.kwargs
        found = (known.get(f"{self.sql.name}_{name}") for name in names)
        return str(next((one for one in found if one), ""))

    def finding(self, rule: str, effect: str, remedy: str, *, what: str = "") -> Finding:
        """Something that was found of it."""
        table = called(self.column.table)
        return Finding(rule, table, self.column.name, what or self.ddl or repr(self.column.type), effect, remedy, True)

    def assumed(self, finding: Finding) -> Finding:
        """The same, known to depend on the database's own collation where that is unknown."""
        return finding if self.collation.known else replace(finding, assumed=True)


def _said(type_: TypeEngine[Any], what: str) -> str:
    return str(getattr(type_, what, None) or "")


def called(table: sa.Table) -> str:
    """A table's name, behind its schema where it has one."""
    return table.fullname


def key_columns(part: sa.Constraint | sa.Index) -> tuple[sa.Column[Any], ...]:
    """The plain columns of a constraint or an index."""
    known = part.expressions if isinstance(part, sa.Index) else getattr(part, "columns", ())
    return tuple(one for one in known if isinstance(one, sa.Column))

"""What becomes of keys, unique constraints, foreign keys and checks on one database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.types import TypeDecorator, TypeEngine

from sqlrepo.tables.reflection import BY_CODE_POINT


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in a table that is not portable.

    Attributes:
        rule: what sort of thing it is, a word that stays the same: ``"unique-collation"``.
        table: the table, behind its schema where it has one.
        place: the column, constraint or index; empty where it is the table as a whole.
        what: what is declared there, as the database would be told.
        effect: what happens.
        remedy: what to do about it.
        column: whether the place is a column.
        assumed: whether it depends on how the database was made, which was not asked.
    """

    rule: str
    table: str
    place: str
    what: str
    effect: str
    remedy: str
    column: bool = False
    assumed: bool = False

    def __str__(self) -> str:
        """A paragraph."""
        where = ".".join(filter(None, (self.table, self.place)))
        what = f" {self.what}" if self.what else ""
        return f"{where}:{what} [{self.rule}]\n  {self.effect}\n  Remedy: {self.remedy}"


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


# How much its text and binary types of no declared length hold.
_SMALL: Mapping[str, str] = {
    "TINYTEXT": "255 bytes",
    "TEXT": "65,535 bytes",
    "MEDIUMTEXT": "16 MB",
    "TINYBLOB": "255 bytes",
    "BLOB": "65,535 bytes",
    "MEDIUMBLOB": "16 MB",
}
_NARROW: Mapping[str, str] = {"TINYINT": "8 bits", "MEDIUMINT": "24 bits"}
_DOUBLE_FROM = 25  # digits that FLOAT is asked for


def findings(kept: Kept) -> Iterator[Finding]:
    """What is wrong with a column there."""
    for rule in (_texts, _sizes, _numbers, _times, _others):
        yield from rule(kept)


def _texts(kept: Kept) -> Iterator[Finding]:
    collation = kept.collation
    if isinstance(kept.type, sa.Enum):
        yield from _labels(kept)
    if not kept.is_text:
        return
    if not kept.ddl:
        yield kept.finding(
            "text-length", "MariaDB has no VARCHAR without a length, so the table cannot be made.", _text_remedy(kept)
        )
    if kept.word == "CHAR":
        yield kept.finding("char", "Trailing blanks are gone when the text is read.", _text_remedy(kept))
    if collation.charset not in ("", "utf8mb4"):
        yield kept.finding(
            "charset",
            f"The character set {collation.charset} does not hold all characters; others are refused when they are "
            "written.",
            _text_remedy(kept),
        )
    if not collation.exact:
        yield kept.assumed(kept.finding("collation", _compares(kept), _text_remedy(kept)))


def _compares(kept: Kept) -> str:
    whose = (
        f"Its collation {kept.collation.name} compares otherwise than by code point: case, accents or trailing blanks."
        if kept.collation.known
        else "It has the database's collation, by default one for which 'a', 'A', 'á' and 'a ' are equal."
    )
    return (
        f"{whose} Repositories make comparisons and orders exact in each query; the price is that an index on the "
        "column finds rows but gives no order. Statements of your own compare as the collation does."
    )


def _text_remedy(kept: Kept) -> str:
    length: Any = getattr(kept.type, "length", None)
    if kept.word == "CHAR" or not kept.ddl or length:
        return f"types.Text({length or '<length>'}), which is VARCHAR … COLLATE utf8mb4_nopad_bin."
    return "types.Text(), which is LONGTEXT COLLATE utf8mb4_nopad_bin."


def _labels(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if kind.native_enum:
        yield kept.finding(
            "native-enum",
            "ENUM sorts by declaration; repositories sort by text all the same, without an index. Statements of your "
            "own sort otherwise, and a new member needs ALTER TABLE.",
            "types.Member(…), which keeps the name as text.",
        )
    alike = {label.casefold().rstrip() for label in kind.enums}
    if len(alike) < len(kind.enums) and not kept.collation.exact:
        yield kept.assumed(
            kept.finding(
                "enum-labels",
                "Labels that differ in case or trailing blanks only are one label for its collation.",
                "Names that differ in more than that.",
            )
        )


def _sizes(kept: Kept) -> Iterator[Finding]:
    if kept.word in _SMALL and "(" not in kept.ddl:
        text = isinstance(kept.type, sa.String)
        yield kept.finding(
            "short-text" if text else "short-bytes",
            f"It holds {_SMALL[kept.word]} and refuses more, which memory and other databases take.",
            _text_remedy(kept) if text else "types.Bytes(), which is LONGBLOB.",
        )
    if kept.word == "BINARY":
        yield kept.finding(
            "padded-bytes", "Short values come back filled up with zero bytes.", "types.Bytes(<length>), VARBINARY."
        )


def _numbers(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if kept.word == "FLOAT" and (kind.precision or 0) < _DOUBLE_FROM:
        yield kept.finding(
            "float32",
            "FLOAT has 32 bits: 1/3 comes back as 0.333333, is not found by ==, and 1e300 is refused.",
            "types.Float64().",
        )
    if kept.word in ("NUMERIC", "DECIMAL") and "(" not in kept.ddl:
        yield kept.finding(
            "numeric", "It is DECIMAL(10, 0): 1.5 becomes 2, without an error.", "types.Exact(<precision>, <scale>)."
        )
    if kept.word in _NARROW or "UNSIGNED" in kept.ddl:
        limits = "takes no negative numbers" if "UNSIGNED" in kept.ddl else f"has {_NARROW[kept.word]}"
        yield kept.finding(
            "integer-range",
            f"It {limits}; a number that does not fit is found by the database alone, not before the statement.",
            "SmallInteger, Integer or BigInteger.",
        )


def _times(kept: Kept) -> Iterator[Finding]:
    if isinstance(kept.outer, sa.Interval):
        yield kept.finding(
            "interval", "It is kept as a date since 1970, which loses range and microseconds.", "types.Duration()."
        )
        return
    if kept.word == "TIMESTAMP":
        yield kept.finding(
            "timestamp",
            "TIMESTAMP ends in 2038 and is converted between the zones of sessions.",
            "types.Instant(), or types.LocalDateTime().",
        )
    if kept.word in ("DATETIME", "TIME", "TIMESTAMP") and getattr(kept.type, "fsp", None) != 6:  # noqa: PLR2004  # digits of a microsecond
        yield kept.finding(
            "microseconds",
            "Microseconds are cut off, so that == does not find what was written.",
            "types.TimeOfDay()." if kept.word == "TIME" else "types.LocalDateTime(), or types.Instant() with a zone.",
        )
    if isinstance(kept.type, sa.DateTime) and kept.type.timezone:
        yield kept.finding(
            "zone",
            "The zone is not kept. Repositories write UTC and read UTC; other statements read a date without zone.",
            "types.Instant(), which does the same for every statement.",
        )


def _others(kept: Kept) -> Iterator[Finding]:
    if kept.word == "UUID" or (isinstance(kept.type, sa.Uuid) and kept.type.native_uuid):
        yield kept.finding(
            "native-uuid",
            "MariaDB's UUID sorts by swapped segments and refuses some values. (SQLAlchemy 2.0 makes CHAR(32) of it "
            "through mysql+…://, 2.1 UUID on MariaDB.)",
            "types.UniqueId().",
        )


_ROUNDED = re.compile(r"TIME(STAMP)?\([0-5]\)")
# bits that FLOAT is asked for


def postgresql_findings(kept: Kept) -> Iterator[Finding]:
    """What is wrong with a column there."""
    for rule in (_postgresql_texts, _postgresql_others):
        yield from rule(kept)


def _postgresql_texts(kept: Kept) -> Iterator[Finding]:
    if not kept.is_text:
        return
    length: Any = getattr(kept.type, "length", None)
    remedy = f'types.Text({length or ""}), which is COLLATE "C".'
    if kept.word == "CHAR":
        yield kept.finding("char", "Short texts come back filled up with blanks.", remedy)
    if kept.merges:
        yield kept.finding(
            "collation",
            f"The collation {kept.collation.name} takes different texts for equal, and repositories compare with it "
            "too: == and in_ answer otherwise than on memory.",
            remedy,
        )
    elif not kept.collation.exact:
        whose = f"the collation {kept.collation.name}" if kept.collation.known else "the database's collation"
        yield kept.assumed(
            kept.finding(
                "collation",
                f'It sorts by {whose}, as a dictionary may. Repositories write COLLATE "C" where order matters, so an '
                "index on the column serves equality but gives no order. Statements of your own sort by the collation.",
                remedy,
            )
        )


def _postgresql_others(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if isinstance(kept.type, sa.Enum) and kept.type.native_enum:
        yield kept.finding(
            "native-enum",
            "The type sorts by declaration; repositories sort by text all the same, without an index. Statements of "
            "your own sort otherwise, and a new member needs ALTER TYPE.",
            "types.Member(…), which keeps the name as text.",
        )
    if kept.word == "REAL" or (kept.word == "FLOAT" and 0 < (kind.precision or 0) < _DOUBLE_FROM):
        yield kept.finding(
            "float32", "It has 32 bits: 1/3 is not found by ==, and 1e300 is refused.", "types.Float64()."
        )
    if _ROUNDED.match(kept.ddl):
        yield kept.finding(
            "microseconds",
            "Seconds are rounded, so that == does not find what was written.",
            "types.TimeOfDay()." if kept.word == "TIME" else "types.LocalDateTime(), or types.Instant().",
        )


_EXACT_DIGITS = 15  # of a 64-bit float


def sqlite_findings(kept: Kept) -> Iterator[Finding]:
    """What is wrong with a column there."""
    for rule in (_sqlite_texts, _sqlite_numbers, _sqlite_times, _keys, _json):
        yield from rule(kept)


def _sqlite_texts(kept: Kept) -> Iterator[Finding]:
    # Nothing declared is BINARY here, whatever the database.
    if kept.is_text and kept.collation.known and not kept.collation.exact:
        yield kept.finding(
            "collation",
            f"{kept.collation.name} takes different texts for equal, and repositories compare with it too: ==, in_ and "
            "orders answer otherwise than on memory.",
            "No collation, which is BINARY; icontains and its family ignore case where that is wanted.",
        )


def _sqlite_numbers(kept: Kept) -> Iterator[Finding]:
    kind: Any = kept.type
    if kept.word not in ("NUMERIC", "DECIMAL"):
        return
    if kind.precision is None or kind.scale is None:
        yield kept.finding(
            "numeric", "It is kept as a 64-bit float, which rounds.", "types.Exact(<precision>, <scale>)."
        )
    elif kind.precision > _EXACT_DIGITS:
        yield kept.finding(
            "numeric",
            f"It is kept as a 64-bit float, exact to {_EXACT_DIGITS} digits: 9007199254740993 comes back as …992.",
            f"types.Exact({min(kind.precision, 18)}, {kind.scale}), up to 18 digits.",
        )


def _sqlite_times(kept: Kept) -> Iterator[Finding]:
    if isinstance(kept.outer, sa.Interval):
        yield kept.finding("interval", "It is kept as a date since 1970, which loses range.", "types.Duration().")
    elif isinstance(kept.type, sa.DateTime) and kept.type.timezone:
        yield kept.finding(
            "zone",
            "The zone is not kept. Repositories write UTC and read UTC; other statements read a date without zone.",
            "types.Instant(), which does the same for every statement.",
        )


def _keys(kept: Kept) -> Iterator[Finding]:
    numbered = kept.column is kept.column.table.autoincrement_column
    if numbered and isinstance(kept.type, sa.Integer) and kept.word != "INTEGER":
        yield kept.finding(
            "big-key",
            "SQLite numbers a key only if its type is called INTEGER: a row without one is refused (NOT NULL).",
            "types.BigKey(), BIGINT elsewhere.",
        )


def _json(kept: Kept) -> Iterator[Finding]:
    if isinstance(kept.type, sa.JSON):
        yield kept.finding(
            "json-number",
            "A column called JSON is numeric for SQLite: a document that is nothing but 1.0 comes back as 1.",
            "types.Json(), which is TEXT there.",
        )


_MARIADB = ("mysql", "mariadb")


def constraints_findings(table: sa.Table, sql: sa.Dialect, columns: Mapping[sa.Column[Any], Kept]) -> Iterator[Finding]:
    """What is wrong with a table besides its columns."""
    for part in _unique_parts(table):
        yield from _collated(part, sql, columns)
    for index in sorted(table.indexes, key=lambda one: str(one.name)):
        yield from _partial(index, sql)
    for foreign_key in sorted(table.foreign_key_constraints, key=lambda one: list(one.column_keys)):
        yield from _actions(foreign_key, sql)
    for constraint in table.constraints:
        yield from _deferred(constraint, sql)
    if sql.name in _MARIADB:
        yield from _checks(table)
        yield from _engine(table, sql)
    if sql.name != "postgresql":
        yield from _numbering(table)


def _unique_parts(table: sa.Table) -> Iterator[sa.Constraint | sa.Index]:
    uniques = [one for one in table.constraints if isinstance(one, sa.UniqueConstraint)]
    uniques.sort(key=lambda one: [column.name for column in one.columns])
    yield table.primary_key
    yield from uniques
    yield from sorted((one for one in table.indexes if one.unique), key=lambda one: str(one.name))


def _found(part: Any, rule: str, what: str, effect: str, remedy: str) -> Finding:
    names = ", ".join(column.name for column in key_columns(part))
    name = str(part.name) if isinstance(part.name, str) else f"({names})"
    return Finding(rule, called(part.table), name, what, effect, remedy)


def _collated(
    part: sa.Constraint | sa.Index, sql: sa.Dialect, columns: Mapping[sa.Column[Any], Kept]
) -> Iterator[Finding]:
    for column in key_columns(part):
        kept = columns[column]
        if not kept.is_text or not kept.merges:
            continue
        known = kept.collation.name or "the database's own collation"
        yield kept.assumed(
            _found(
                part,
                "unique-collation",
                f"{'primary key' if isinstance(part, sa.PrimaryKeyConstraint) else 'unique'} over {column.name}",
                f"Texts that differ only in case, accents or trailing blanks may be one value for {known}: a row is "
                "refused that memory and other databases take. No query can repair that.",
                "types.Text(<length>) for the column."
                if sql.name in _MARIADB
                else "A column without that collation; types.Text(<length>) is one.",
            )
        )


def _partial(index: sa.Index, sql: sa.Dialect) -> Iterator[Finding]:
    conditions = {key.removesuffix("_where") for key, value in index.dialect_kwargs.items() if _is_where(key, value)}
    if index.unique and conditions and sql.name not in conditions:
        yield _found(
            index,
            "partial-unique",
            f"unique index with a condition for {', '.join(sorted(conditions))}",
            f"{sql.name} is not told the condition, and makes the index unique over all rows.",
            "MariaDB has no partial index: keep such rows in a table of their own."
            if sql.name in _MARIADB
            else f"The same condition as {sql.name}_where.",
        )


def _is_where(key: str, value: Any) -> bool:
    return key.endswith("_where") and value is not None


def _actions(foreign_key: sa.ForeignKeyConstraint, sql: sa.Dialect) -> Iterator[Finding]:
    actions = {"ON DELETE": foreign_key.ondelete, "ON UPDATE": foreign_key.onupdate}
    for event, given in actions.items():
        action = (given or "").upper()
        what = f"foreign key, {event} {action}"
        if action == "SET DEFAULT" and sql.name in _MARIADB:
            yield _found(
                foreign_key, "set-default", what, "MariaDB does RESTRICT instead, and does not say so.", "RESTRICT."
            )
        if action == "SET NULL" and not all(column.nullable for column in foreign_key.columns):
            yield _found(
                foreign_key,
                "set-null",
                what,
                "MariaDB refuses to make the table: the column is NOT NULL."
                if sql.name in _MARIADB
                else "The column is NOT NULL, so the parent's statement is refused whenever there is a child.",
                "A nullable column, or RESTRICT.",
            )


def _deferred(constraint: sa.Constraint, sql: sa.Dialect) -> Iterator[Finding]:
    foreign = isinstance(constraint, sa.ForeignKeyConstraint)
    said = constraint.deferrable is not None or constraint.initially is not None
    if not said or not isinstance(constraint, sa.ForeignKeyConstraint | sa.UniqueConstraint):
        return
    if sql.name in _MARIADB or (sql.name == "sqlite" and not foreign):
        effect = f"{sql.name} has no such thing: CREATE TABLE is a syntax error."
        yield _found(constraint, "deferrable", "deferrable", effect, "A constraint that is checked at once.")
    elif (constraint.initially or "").upper() == "DEFERRED":
        effect = "A violation is found at COMMIT, not at the statement, and nowhere else so."
        yield _found(constraint, "deferred", "initially deferred", effect, "A constraint that is checked at once.")


def _checks(table: sa.Table) -> Iterator[Finding]:
    for column in table.columns:
        for check in column.constraints:
            if isinstance(check, sa.CheckConstraint) and isinstance(check.name, str):
                yield Finding(
                    "column-check",
                    called(table),
                    str(check.name),
                    f"named check of column {column.name}",
                    "MariaDB knows no name there: CREATE TABLE is a syntax error.",
                    "The same check in __table_args__, of the table.",
                )


def _engine(table: sa.Table, sql: sa.Dialect) -> Iterator[Finding]:
    engine = str(table.kwargs.get(f"{sql.name}_engine") or "InnoDB")
    if engine.lower() != "innodb":
        yield Finding(
            "engine",
            called(table),
            "",
            f"ENGINE={engine}",
            "It has no transactions, or no foreign keys: what a unit of work rolls back stays written.",
            "InnoDB.",
        )


def _numbering(table: sa.Table) -> Iterator[Finding]:
    for column in table.columns:
        options = column.identity
        if options is not None and {options.start, options.increment} - {None, 1}:
            yield Finding(
                "numbering",
                called(table),
                column.name,
                f"Identity(start={options.start}, increment={options.increment})",
                "PostgreSQL alone counts so; here numbers begin at 1.",
                "Nothing in an application that depends on the numbers.",
                column=True,
            )

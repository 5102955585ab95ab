"""The rules of the audit: one row for each thing that is not portable."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import sqlalchemy as sa

from sqlrepo.core.definition import Definition, RepositoryConfig, type_arguments
from sqlrepo.errors import MappingError
from sqlrepo.sqlalchemy.audit.column import MARIADB, MYSQL, ColumnInfo, server_name
from sqlrepo.sqlalchemy.audit.server import Server
from sqlrepo.tables.parts import all_parts
from sqlrepo.tables.reflection import left_out, refusals
from sqlrepo.tables.schema import EXACT_DIGITS, Refusal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in a table that is not portable.

    Attributes:
        rule: the rule's code, which never changes: ``"unique-collation"``.
        table: the table's name, with its schema if it has one.
        place: the column, constraint or index; empty if the finding is about the whole table.
        what: the declaration, as it stands in CREATE TABLE.
        effect: what happens on this database.
        remedy: what to do about it.
        column: True if ``place`` is a column.
        assumed: True if it depends on the database's default collation, and no database was asked for that.
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
        where = ".".join(filter(None, (self.table, self.place)))
        what = f" {self.what}" if self.what else ""
        return f"{where}:{what} [{self.rule}]\n  {self.effect}\n  Remedy: {self.remedy}"


@dataclass(frozen=True)
class TableInfo:
    """A table on one database."""

    table: sa.Table
    database: str
    columns: Mapping[Any, ColumnInfo]


@dataclass(frozen=True, slots=True)
class Part:
    """A constraint, an index or the table itself, where a rule applies."""

    place: str
    what: str
    column: ColumnInfo | None = None


Spot: TypeAlias = ColumnInfo | Part
Find: TypeAlias = Callable[[TableInfo], Iterable[Spot]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is not portable: where, what happens there, and what to do about it.

    ``effect`` and ``remedy`` are templates, in which ``{0}`` is what ``find`` found.
    """

    code: str
    databases: frozenset[str]
    find: Find
    effect: str
    remedy: str
    by_collation: bool = False  # only assumed where the collation is not known


def findings_of(
    table: sa.Table, dialect: sa.Dialect, server: Server, *, without: Collection[str] = ()
) -> Iterator[Finding]:
    """Find what is not portable in a table: its columns one by one, then its constraints and indexes."""
    columns = {one: ColumnInfo(one, dialect, server.collation(one), server.default) for one in table.columns}
    info = TableInfo(table, dialect.name, columns)
    rules = [rule for rule in RULES if server_name(dialect) in rule.databases and rule.code not in without]
    found = [_finding(rule, info, spot) for rule in rules for spot in rule.find(info)]
    refused = [*refusals(table), *left_out(table)]
    for column in columns.values():
        own = [one for one in found if one.column and one.place == column.place]
        yield from _with_refusals(own, [one for one in refused if one.column == column.place], column)
    yield from (one for one in found if not one.column)
    for refusal in refused:
        if refusal.aspect == "table":
            effect = "The table cannot be kept in memory."
            yield Finding("memory-table", table.fullname, "", refusal.reason, effect, _MEMORY_REMEDIES["table"])


def _finding(rule: Rule, info: TableInfo, spot: Spot) -> Finding:
    column = spot if isinstance(spot, ColumnInfo) else spot.column
    return Finding(
        rule.code,
        info.table.fullname,
        spot.place,
        spot.what,
        rule.effect.format(spot),
        rule.remedy.format(spot),
        column=isinstance(spot, ColumnInfo),
        assumed=rule.by_collation and column is not None and not column.collation.name,
    )


def _with_refusals(found: list[Finding], refused: list[Refusal], column: ColumnInfo) -> list[Finding]:
    """Add what memory refuses of a column; a type that already has a finding gets no second one."""
    for refusal in refused:
        effect = f"{_MEMORY_EFFECTS.get(refusal.aspect, 'The column cannot be kept in memory')}: {refusal.reason}."
        if refusal.aspect in ("type", "field") and found:
            found[0] = replace(found[0], effect=f"{found[0].effect} {effect}")
            continue
        table, remedy = column.column.table.fullname, _MEMORY_REMEDIES[refusal.aspect]
        found.append(Finding(f"memory-{refusal.aspect}", table, column.place, column.what, effect, remedy, column=True))
    return found


_MEMORY_EFFECTS = {"field": "Memory leaves the column NULL, and refuses an entity with a field for it"}
_MEMORY_REMEDIES = {
    "type": "One of sqlrepo.sqlalchemy.types.",
    "field": "One of sqlrepo.sqlalchemy.types, if an entity needs the column.",
    "value": "A default that Python computes: default=, onupdate=.",
    "table": "Test this table on a database instead of in memory.",
}


# -- where rules apply

_FLOAT64_PRECISION = 25  # FLOAT(25) and above has 64 bits
_MICROSECONDS = 6  # digits
_NUMERIC = ("NUMERIC", "DECIMAL")
_ROUNDED_TIME = re.compile(r"TIME(STAMP)?\([0-5]\)")


def _columns(test: Callable[[ColumnInfo], bool]) -> Find:
    return lambda table: filter(test, table.columns.values())


def _has_clashing_labels(column: ColumnInfo) -> bool:
    labels = column.type.enums if isinstance(column.type, sa.Enum) else ()
    return len({label.casefold().rstrip() for label in labels}) < len(labels) and not column.collation.exact


def _is_float32(column: ColumnInfo) -> bool:
    if column.dialect.name == "postgresql" and column.type_name == "REAL":
        return True
    unspecified = _FLOAT64_PRECISION if column.dialect.name == "postgresql" else 0
    return column.type_name == "FLOAT" and (column.type.precision or unspecified) < _FLOAT64_PRECISION


def _rounds_in_sqlite(column: ColumnInfo) -> bool:
    if column.type_name not in _NUMERIC:
        return False
    precision, scale = column.type.precision, column.type.scale
    return precision is None or scale is None or precision > EXACT_DIGITS


def _has_odd_range(column: ColumnInfo) -> bool:
    return column.type_name in ("TINYINT", "MEDIUMINT") or "UNSIGNED" in column.ddl


def _drops_microseconds(column: ColumnInfo) -> bool:
    if column.is_interval or column.type_name not in ("DATETIME", "TIME", "TIMESTAMP"):
        return False
    return getattr(column.type, "fsp", None) != _MICROSECONDS


def _loses_zone(column: ColumnInfo) -> bool:
    return isinstance(column.type, sa.DateTime) and column.type.timezone


def _is_native_uuid(column: ColumnInfo) -> bool:
    return column.type_name == "UUID" or (isinstance(column.type, sa.Uuid) and column.type.native_uuid)


def _is_unnumbered_key(column: ColumnInfo) -> bool:
    generated = column.column is column.column.table.autoincrement_column
    return generated and isinstance(column.type, sa.Integer) and column.type_name != "INTEGER"


def _counts_otherwise(column: ColumnInfo) -> bool:
    identity = column.column.identity
    return identity is not None and bool({identity.start, identity.increment} - {None, 1})


def _merging_uniques(table: TableInfo) -> Iterator[Part]:
    uniques = [one for one in table.table.constraints if isinstance(one, sa.UniqueConstraint)]
    indexes = [one for one in table.table.indexes if one.unique]
    for part in (table.table.primary_key, *sorted(uniques, key=_name), *sorted(indexes, key=_name)):
        kind = "primary key" if isinstance(part, sa.PrimaryKeyConstraint) else "unique"
        for column in (table.columns[one] for one in _plain_columns(part)):
            if column.is_text and column.merges_texts:
                yield Part(_name(part), f"{kind} over {column.place}", column)


def _total_indexes(table: TableInfo) -> Iterator[Part]:
    """Unique indexes with a condition for other databases only."""
    for index in sorted(table.table.indexes, key=_name):
        options = index.dialect_kwargs.items()
        others = {key.removesuffix("_where") for key, value in options if key.endswith("_where") and value is not None}
        if index.unique and others and table.database not in others:
            yield Part(_name(index), f"unique index with a condition for {', '.join(sorted(others))}")


def _actions(action: str, test: Callable[[sa.ForeignKeyConstraint], bool] = lambda _: True) -> Find:
    def find(table: TableInfo) -> Iterator[Part]:
        for key in sorted(table.table.foreign_key_constraints, key=_name):
            for event, declared in (("ON DELETE", key.ondelete), ("ON UPDATE", key.onupdate)):
                if (declared or "").upper() == action and test(key):
                    yield Part(_name(key), f"foreign key, {event} {action}")

    return find


def _deferrable(what: str, test: Callable[[sa.Constraint], bool], *kinds: type[sa.Constraint]) -> Find:
    def find(table: TableInfo) -> Iterator[Part]:
        for constraint in sorted(table.table.constraints, key=_name):
            if isinstance(constraint, kinds) and test(constraint):
                yield Part(_name(constraint), what)

    return find


def _is_deferrable(constraint: sa.Constraint) -> bool:
    return constraint.deferrable is not None or constraint.initially is not None


def _is_deferred(constraint: sa.Constraint) -> bool:
    return (constraint.initially or "").upper() == "DEFERRED"


def _named_column_checks(table: TableInfo) -> Iterator[Part]:
    for column in table.table.columns:
        for check in column.constraints:
            if isinstance(check, sa.CheckConstraint) and isinstance(check.name, str):
                yield Part(str(check.name), f"named check of column {column.name}")


def _other_engine(table: TableInfo) -> Iterator[Part]:
    engine = str(table.table.kwargs.get(f"{table.database}_engine") or "InnoDB")
    if engine.lower() != "innodb":
        yield Part("", f"ENGINE={engine}")


def _unversioned(table: TableInfo) -> Iterator[Part]:
    """Find a table that imported repositories write, none with a version; its ``info`` may allow that."""
    if table.table.info.get("lost_updates") != "allow":
        found = [_version_of(kind) for kind in _repositories() if _table_of(kind) is table.table]
        if found and not any(found):
            yield Part("", "no version column")


def _version_of(kind: type[RepositoryConfig[Any]]) -> str | None:
    found = _definition_of(kind)
    return kind.version if found is None else found.schema.version


def _definition_of(kind: type[RepositoryConfig[Any]]) -> Definition[Any] | None:
    try:
        return kind.definition()
    except MappingError:  # of a class that cannot be used: its own first use raises the error
        return None


def _uncascaded(table: TableInfo) -> Iterator[Part]:
    """Find the foreign keys by which the parts of imported repositories refer to their owners."""
    near = [kind for kind in _repositories() if getattr(_table_of(kind), "metadata", None) is table.table.metadata]
    found = [part for kind in near if (known := _definition_of(kind)) for part in all_parts(known.aggregate.parts)]
    names = (table.table.schema, table.table.name)
    keys = [(part.owner, key) for part in found if part.schema.full_name == names for key in part.schema.foreign_keys]
    for columns in dict.fromkeys(owner for owner, key in keys if owner == key.columns and key.on_delete != "CASCADE"):
        yield Part(f"({', '.join(columns)})", "FOREIGN KEY without ON DELETE CASCADE")


def _repositories(base: type[RepositoryConfig[Any]] = RepositoryConfig) -> Iterator[type[RepositoryConfig[Any]]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _repositories(kind)


def _table_of(kind: type[RepositoryConfig[Any]]) -> sa.Table | None:
    """Return the table of a repository class; None if it is abstract, or has no mapped class."""
    model = type_arguments(kind, RepositoryConfig)[0] if kind.model is None else kind.model
    return model if isinstance(model, sa.Table) else getattr(sa.inspect(model, raiseerr=False), "local_table", None)


def _name(part: Any) -> str:
    names = ", ".join(column.name for column in _plain_columns(part))
    return str(part.name) if isinstance(part.name, str) else f"({names})"


def _plain_columns(part: Any) -> list[sa.Column[Any]]:
    found = part.expressions if isinstance(part, sa.Index) else getattr(part, "columns", ())
    return [one for one in found if isinstance(one, sa.Column)]


# -- the rules

_POSTGRESQL, _SQLITE = frozenset({"postgresql"}), frozenset({"sqlite"})
_SERVERS = _POSTGRESQL | MYSQL
_TEXT = "{0.text_remedy}"
_TIME = "types.TimeOfDay(), types.LocalDateTime(), or types.Instant() for a time zone."
_AT_COMMIT = "A violation is found at COMMIT; other databases find it at the statement."
_AT_ONCE = "A constraint that is checked at once."

LOST_UPDATE = "lost-update"
NO_CASCADE = "no-cascade"

RULES = (
    Rule(
        "native-enum",
        _SERVERS,
        _columns(lambda c: c.is_native_enum),
        "The database sorts members as declared, and repositories by name, without an index. A new member needs ALTER "
        "TABLE (MySQL, MariaDB) or ALTER TYPE (PostgreSQL).",
        "types.Member(…), which stores the name as text.",
    ),
    Rule(
        "enum-labels",
        MYSQL,
        _columns(_has_clashing_labels),
        "Labels that differ only in case or trailing blanks are equal in this collation.",
        "Names that differ in more than that.",
        by_collation=True,
    ),
    Rule(
        "text-length",
        MYSQL,
        _columns(lambda c: c.is_text and not c.ddl),
        "MySQL and MariaDB have no VARCHAR without a length, so CREATE TABLE fails.",
        _TEXT,
    ),
    Rule(
        "char",
        _SERVERS,
        _columns(lambda c: c.is_text and c.type_name == "CHAR"),
        "MySQL and MariaDB drop blanks at the end, and PostgreSQL fills short texts up with blanks. Repositories give "
        "texts without them, and refuse a text that ends with a blank; your own statements read what the database has.",
        _TEXT,
    ),
    Rule(
        "charset",
        MYSQL,
        _columns(lambda c: c.is_text and c.collation.charset not in ("", "utf8mb4")),
        "The character set {0.collation.charset} lacks most characters; writing one of those fails.",
        _TEXT,
    ),
    Rule(
        "collation",
        MYSQL,
        _columns(lambda c: c.is_text and not c.collation.exact),
        "{0.collation_name} does not compare by code point: most treat 'a', 'A', 'á' and 'a ' as equal. Repositories "
        "compare and sort exactly, but an index then gives no order. Your own statements compare by the collation.",
        _TEXT,
        by_collation=True,
    ),
    Rule(
        "collation",
        _POSTGRESQL | _SQLITE,
        _columns(lambda c: c.is_text and c.merges_texts),
        "{0.collation_name} treats different texts as equal, and repositories compare with it: == and in_ (in SQLite "
        "orders too) give other results than in memory.",
        _TEXT,
    ),
    Rule(
        "collation",
        _POSTGRESQL,
        _columns(lambda c: c.is_text and not c.merges_texts and not c.collation.exact),
        '{0.collation_name} may sort as a dictionary does. Repositories sort by COLLATE "C", so an index gives no '
        "order. Your own statements sort by the collation.",
        _TEXT,
        by_collation=True,
    ),
    Rule(
        "short-text",
        MYSQL,
        _columns(lambda c: c.capacity is not None and isinstance(c.type, sa.String)),
        "The column holds {0.capacity}. Longer texts are refused, unlike in memory and in other databases.",
        _TEXT,
    ),
    Rule(
        "short-bytes",
        MYSQL,
        _columns(lambda c: c.capacity is not None and not isinstance(c.type, sa.String)),
        "The column holds {0.capacity}. Longer values are refused, unlike in memory and in other databases.",
        "types.Bytes(), which is LONGBLOB.",
    ),
    Rule(
        "padded-bytes",
        MYSQL,
        _columns(lambda c: c.type_name == "BINARY"),
        "Short values come back filled up with zero bytes.",
        "types.Bytes(<length>), which is VARBINARY.",
    ),
    Rule(
        "float32",
        _SERVERS,
        _columns(_is_float32),
        "The column has 32 bits: 1/3 comes back as 0.333333, is not found by ==, and 1e300 is refused.",
        "types.Float64().",
    ),
    Rule(
        "numeric",
        MYSQL,
        _columns(lambda c: c.type_name in _NUMERIC and not c.has_length),
        "The column is DECIMAL(10, 0): 1.5 becomes 2, without an error. Repositories refuse such values.",
        "types.Exact(<precision>, <scale>).",
    ),
    Rule(
        "numeric",
        _SQLITE,
        _columns(_rounds_in_sqlite),
        "SQLite stores a 64-bit float, which is exact to 15 digits: 9007199254740993 comes back as 9007199254740992. "
        "Repositories refuse values that would change.",
        "types.Exact(<precision>, <scale>), which is exact to 18 digits.",
    ),
    Rule(
        "integer-range",
        MYSQL,
        _columns(_has_odd_range),
        "This is not the range of a portable integer. In a variant, numbers that do not fit are found by the database "
        "alone.",
        "SmallInteger, Integer or BigInteger.",
    ),
    Rule(
        "interval",
        MYSQL | _SQLITE,
        _columns(lambda c: c.is_interval),
        "The interval is stored as a date after 1970, which loses range (and microseconds in MySQL and MariaDB).",
        "types.Duration().",
    ),
    Rule(
        "timestamp",
        MYSQL,
        _columns(lambda c: c.type_name == "TIMESTAMP" and not c.is_interval),
        "TIMESTAMP ends in 2038, and is converted to the time zone of the session.",
        "types.Instant() or types.LocalDateTime().",
    ),
    Rule(
        "microseconds",
        MYSQL,
        _columns(_drops_microseconds),
        "Microseconds are cut off (MySQL rounds to seconds), so == does not find the value that was written.",
        _TIME,
    ),
    Rule(
        "microseconds",
        _POSTGRESQL,
        _columns(lambda c: _ROUNDED_TIME.match(c.ddl) is not None),
        "Fractions of a second are rounded, so == does not find the value that was written.",
        _TIME,
    ),
    Rule(
        "zone",
        MYSQL | _SQLITE,
        _columns(_loses_zone),
        "The time zone is not stored. Repositories write and read UTC; your own statements read a date without zone.",
        "types.Instant(), which gives UTC to every statement.",
    ),
    Rule(
        "native-uuid",
        MARIADB,
        _columns(_is_native_uuid),
        "MariaDB's UUID sorts by swapped segments and refuses some values. Repositories sort by the digits, without an "
        "index; your own statements do not. (For mysql+…:// URLs, SQLAlchemy 2.0 makes the column CHAR(32), "
        "and 2.1 makes it UUID.)",
        "types.UniqueId().",
    ),
    Rule(
        "native-uuid",
        MYSQL - MARIADB,
        _columns(lambda c: c.type_name == "UUID"),
        "MySQL has no type UUID: CREATE TABLE is a syntax error.",
        "types.UniqueId().",
    ),
    Rule(
        "native-uuid",
        _SQLITE,
        _columns(lambda c: c.type_name == "UUID"),
        "SQLite takes a column of type UUID for a number: a UUID of digits alone is stored as a number, and cannot be "
        "read.",
        "types.UniqueId().",
    ),
    Rule(
        "big-key",
        _SQLITE,
        _columns(_is_unnumbered_key),
        "SQLite generates keys only for a column of type INTEGER: a row without a key is refused (NOT NULL).",
        "types.BigKey(), which is BIGINT on other databases.",
    ),
    Rule(
        "json-number",
        _SQLITE,
        _columns(lambda c: isinstance(c.type, sa.JSON)),
        "SQLite takes a column of type JSON for a number: a document that is just 1.0 comes back as 1.",
        "types.Json(), which is TEXT in SQLite.",
    ),
    Rule(
        "numbering",
        MYSQL | _SQLITE,
        _columns(_counts_otherwise),
        "Only PostgreSQL counts by Identity(start={0.column.identity.start}, increment={0.column.identity.increment}); "
        "here numbers begin at 1.",
        "Code that does not depend on the numbers.",
    ),
    Rule(
        "unique-collation",
        _SERVERS | _SQLITE,
        _merging_uniques,
        "{0.column.collation_name} may treat texts as equal that differ in case, accents or trailing blanks. Such rows "
        "are refused, unlike in memory and in other databases; no query can make up for that.",
        "A column that compares exactly: types.Text(<length>).",
        by_collation=True,
    ),
    Rule(
        "partial-unique",
        MYSQL,
        _total_indexes,
        "MySQL and MariaDB have no partial indexes, so the index is unique over all rows.",
        "A table of their own for the rows that the condition selects.",
    ),
    Rule(
        "partial-unique",
        _POSTGRESQL | _SQLITE,
        _total_indexes,
        "The index has no condition for this database, so it is unique over all rows.",
        "The condition for this database too: postgresql_where=, sqlite_where=.",
    ),
    Rule(
        "set-default",
        MYSQL,
        _actions("SET DEFAULT"),
        "MySQL and MariaDB do RESTRICT instead, without an error.",
        "RESTRICT.",
    ),
    Rule(
        "set-null",
        _SERVERS | _SQLITE,
        _actions("SET NULL", lambda key: not all(column.nullable for column in key.columns)),
        "The column is NOT NULL. MySQL and MariaDB refuse CREATE TABLE; other databases refuse to delete or change a "
        "parent that has children.",
        "A nullable column, or RESTRICT.",
    ),
    Rule(
        "deferrable",
        MYSQL,
        _deferrable("deferrable", _is_deferrable, sa.ForeignKeyConstraint, sa.UniqueConstraint),
        "MySQL and MariaDB have no deferrable constraints: CREATE TABLE is a syntax error.",
        _AT_ONCE,
    ),
    Rule(
        "deferrable",
        _SQLITE,
        _deferrable("deferrable", _is_deferrable, sa.UniqueConstraint),
        "SQLite has no deferrable unique constraints: CREATE TABLE is a syntax error.",
        _AT_ONCE,
    ),
    Rule(
        "deferred",
        _POSTGRESQL,
        _deferrable("initially deferred", _is_deferred, sa.ForeignKeyConstraint, sa.UniqueConstraint),
        _AT_COMMIT,
        _AT_ONCE,
    ),
    Rule(
        "deferred",
        _SQLITE,
        _deferrable("initially deferred", _is_deferred, sa.ForeignKeyConstraint),
        _AT_COMMIT,
        _AT_ONCE,
    ),
    Rule(
        "column-check",
        MARIADB,
        _named_column_checks,
        "In MariaDB a check of a column has no name: CREATE TABLE is a syntax error.",
        "The same check in __table_args__, as a check of the table.",
    ),
    Rule(
        "engine",
        MYSQL,
        _other_engine,
        "The storage engine has no transactions, or no foreign keys: what a unit of work rolls back stays written.",
        "InnoDB.",
    ),
    Rule(
        LOST_UPDATE,
        _SERVERS,
        _unversioned,
        "At READ COMMITTED, if two units read a row and both write it, the second overwrites the first without an "
        "error. In memory the second gets a retryable conflict.",
        'A version column, named by the repository\'s `version`. If rows are always read with lock="update", or the '
        'last write may win, set info={{"lost_updates": "allow"}} on the table.',
    ),
    Rule(
        NO_CASCADE,
        _SERVERS | _SQLITE,
        _uncascaded,
        "The children are a part of an aggregate. Its repository deletes them before their owner, one more statement "
        "for each part; a delete outside the repository is refused as long as there are children.",
        'ondelete="CASCADE".',
    ),
)

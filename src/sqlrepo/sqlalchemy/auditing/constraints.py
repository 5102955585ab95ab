"""What becomes of keys, unique constraints, foreign keys and checks on one database.

Knows what each database makes of them. Must not know column types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from sqlrepo.sqlalchemy.auditing.finding import Finding
from sqlrepo.sqlalchemy.auditing.kept import Kept, called, key_columns

__all__ = ["findings"]

_MARIADB = ("mysql", "mariadb")


def findings(table: sa.Table, sql: sa.Dialect, columns: Mapping[sa.Column[Any], Kept]) -> Iterator[Finding]:
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

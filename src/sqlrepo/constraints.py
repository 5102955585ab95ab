"""Reads the constraints of a table: uniques, foreign keys, checks, and what memory cannot keep of them.

Knows SQLAlchemy's tables and their expressions. Must not know mapped classes beyond the names they give columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast, get_args

import sqlalchemy as sa
from sqlalchemy.exc import NoReferenceError

from sqlrepo.conditions import UnreadableError, criterion_of
from sqlrepo.schema import Action, Check, ForeignKey, Schema, Unique

__all__ = ["checks", "foreign_keys", "name_of", "uniques", "unkept"]

_ACTIONS: Final = frozenset(get_args(Action))


def name_of(constraint: Any) -> str | None:
    """A constraint's name in the metadata, None where it has none."""
    return str(constraint.name) if isinstance(constraint.name, str) else None


def uniques(table: sa.Table, names: Mapping[Any, str]) -> Iterator[Unique]:
    """The unique constraints and indexes, in the order in which PostgreSQL and MariaDB look at them."""
    for constraint in _declared(table, sa.UniqueConstraint):
        yield Unique(tuple(names[column] for column in constraint.columns), name_of(constraint))
    for index in table.indexes:
        if index.unique and not _is_special(index):
            yield Unique(tuple(names[column] for column in index.columns), name_of(index))


def foreign_keys(table: sa.Table, names: Mapping[Any, str]) -> Iterator[ForeignKey]:
    """The foreign keys that every backend can keep."""
    for constraint in _declared(table, sa.ForeignKeyConstraint):
        if _unportable(constraint) or not all(column in names for column in constraint.columns):
            continue
        targets = [_target(element) for element in constraint.elements]
        yield ForeignKey(
            columns=tuple(names[column] for column in constraint.columns),
            table=targets[0][:2],
            targets=tuple(target[2] for target in targets),
            name=name_of(constraint),
            on_delete=_action(constraint.ondelete),
            on_update=_action(constraint.onupdate),
            deferred=(constraint.initially or "").upper() == "DEFERRED",
        )


def checks(table: sa.Table, names: Mapping[Any, str], schema: Schema) -> Iterator[Check]:
    """The checks, each as a criterion or with the reason why it is none."""
    for constraint in _declared(table, sa.CheckConstraint):
        if getattr(constraint, "_type_bound", False):
            continue  # of a Boolean or an Enum: no value that passes the column's type violates it
        text, criterion, refused = str(constraint.sqltext), None, None
        try:
            criterion = criterion_of(constraint.sqltext, {column.name: key for column, key in names.items()}, schema)
        except UnreadableError as unreadable:
            refused = str(unreadable)
        yield Check(name_of(constraint), criterion, text=text, refused=refused)


def unkept(columns: Any, table: sa.Table) -> Iterator[str]:
    """What memory cannot keep of the table as a whole, of whose columns some are mapped."""
    yield from _conflict_options(table)
    for constraint in _declared(table, sa.ForeignKeyConstraint):
        if reason := _unportable(constraint):
            yield f"foreign key ({', '.join(constraint.column_keys)}): {reason}"
    for index in table.indexes:
        if index.unique and _is_special(index):
            yield f"partial or functional unique index {index.name}"
    parts: tuple[Any, ...] = (*table.constraints, *table.indexes)
    for part in parts:
        if part.dialect_kwargs.get("postgresql_nulls_not_distinct"):
            yield f"{part.name or type(part).__name__}, for which NULLs are equal"
    mapped = set(columns.values())
    for column in table.columns:
        if column not in mapped:
            yield f"column {column.name}, which the class does not map"


def _declared(table: sa.Table, kind: type[Any]) -> Iterable[Any]:
    """The constraints of a kind in order of declaration; SQLAlchemy's own DDL is sorted so, the public sets are not.

    A check that was given to a column is the column's only.
    """
    everywhere = (*table.constraints, *(one for column in table.columns for one in column.constraints))
    found = [constraint for constraint in everywhere if isinstance(constraint, kind)]
    return sorted(found, key=lambda constraint: constraint._creation_order)  # noqa: SLF001


def _is_special(index: sa.Index) -> bool:
    """Whether a unique index is about some rows only, or about values computed from them."""
    partial = any(value is not None for key, value in index.dialect_kwargs.items() if key.endswith("_where"))
    return partial or not all(isinstance(column, sa.Column) for column in index.expressions)


def _conflict_options(table: sa.Table) -> Iterator[str]:
    """Where SQLite is told to replace or to pass over a row instead of refusing another one."""
    for part in (*table.columns, *table.constraints):
        for option, value in part.dialect_kwargs.items():
            if option.startswith("sqlite_on_conflict") and value is not None:
                yield f"{option} of {part.name or type(part).__name__}"


def _unportable(constraint: sa.ForeignKeyConstraint) -> str | None:
    for option, action in (("ON DELETE", constraint.ondelete), ("ON UPDATE", constraint.onupdate)):
        if action is not None and action.upper() not in _ACTIONS:
            return f"{option} {action} is not the same on every database"
    if constraint.match not in (None, "SIMPLE"):
        return f"MATCH {constraint.match} is not the same on every database"
    return None


def _action(given: str | None) -> Action:
    return cast(Action, (given or "NO ACTION").upper())


def _target(element: sa.ForeignKey) -> tuple[str | None, str, str]:
    """What a foreign key's column refers to; a table that is nowhere described is known by its written name."""
    try:
        column = element.column
    except NoReferenceError:
        *space, table, name = element.target_fullname.split(".")
        return ".".join(space) or None, table, name
    return column.table.schema, column.table.name, column.name

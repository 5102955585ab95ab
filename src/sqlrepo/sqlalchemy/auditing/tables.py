"""All that is found of one table.

Knows the order in which it is looked at. Must not know where tables come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import sqlalchemy as sa

from sqlrepo.mapped import refusals
from sqlrepo.schema import Refusal
from sqlrepo.sqlalchemy.auditing import constraints, mariadb, postgresql, sqlite
from sqlrepo.sqlalchemy.auditing.finding import Finding
from sqlrepo.sqlalchemy.auditing.kept import Kept, called
from sqlrepo.sqlalchemy.auditing.server import Server

__all__ = ["findings_of"]

_COLUMNS: Mapping[str, Callable[[Kept], Iterator[Finding]]] = {
    "sqlite": sqlite.findings,
    "postgresql": postgresql.findings,
    "mysql": mariadb.findings,
    "mariadb": mariadb.findings,
}

# What to do about what memory refuses; its reasons often say more.
_REMEDIES = {
    "type": "One of sqlrepo.sqlalchemy.types.",
    "value": "A default that Python computes: default=, onupdate=.",
    "table": "Tests of this table on a database, not on memory.",
}


def findings_of(table: sa.Table, sql: sa.Dialect, server: Server) -> Iterator[Finding]:
    """What is not portable in a table on a database: its columns one by one, then the rest."""
    columns = {one: Kept(one, sql, server.collation(one), server.default) for one in table.columns}
    refused = list(refusals(table))
    for kept in columns.values():
        found = list(_COLUMNS[sql.name](kept))
        of_it = [one for one in refused if one.column == kept.column.name]
        yield from _told(found, of_it, kept)
    yield from constraints.findings(table, sql, columns)
    for refusal in refused:
        if refusal.aspect == "table":
            yield Finding("memory-table", called(table), "", refusal.reason, "Memory refuses it.", _REMEDIES["table"])


def _told(found: list[Finding], refused: list[Refusal], kept: Kept) -> Iterator[Finding]:
    """What was found of a column, and what memory says of it, which may be the same thing."""
    for refusal in refused:
        if refusal.aspect == "type" and found:
            found[0] = replace(found[0], effect=f"{found[0].effect} Memory refuses the column: {refusal.reason}.")
        else:
            effect = f"Memory refuses the column: {refusal.reason}."
            found.append(kept.finding(f"memory-{refusal.aspect}", effect, _REMEDIES[refusal.aspect]))
    yield from found

"""What a real database tells about the collations of its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from sqlrepo.forks import ForkSafeLock
from sqlrepo.sqlalchemy.audit.rules import (
    Collation,
    Finding,
    Kept,
    called,
    constraints_findings,
    findings,
    postgresql_findings,
    sqlite_findings,
)
from sqlrepo.sqlalchemy.dialects.base import log
from sqlrepo.tables.reflection import refusals
from sqlrepo.tables.schema import Refusal, Schema

_ColumnPlace: TypeAlias = tuple[str, str, str]

_MARIADB_DEFAULT = sa.text("SELECT database(), @@collation_database, @@character_set_database")
_MARIADB_COLUMNS = sa.text("""
    SELECT table_schema, table_name, column_name, collation_name, character_set_name
    FROM information_schema.columns
    WHERE collation_name IS NOT NULL
    AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys')
""")
_POSTGRESQL_DEFAULT = sa.text("""
    SELECT current_schema(), datlocprovider, datcollate, to_jsonb(pg_database)->>'daticulocale',
        to_jsonb(pg_database)->>'datlocale'
    FROM pg_database WHERE datname = current_database()
""")
_POSTGRESQL_COLUMNS = sa.text("""
    SELECT nspname, relname, attname, collname, collisdeterministic
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p')
    AND nspname NOT IN ('pg_catalog', 'information_schema')
""")


@dataclass(frozen=True)
class Server:
    """One database's collations.

    Attributes:
        schema: where tables without a schema of their own are.
        default: of columns that have none of their own.
        columns: of those it has.
    """

    schema: str = ""
    default: Collation = field(default_factory=Collation)
    columns: Mapping[_ColumnPlace, Collation] = field(default_factory=dict)

    def collation(self, column: sa.Column[Any]) -> Collation | None:
        """A column's; None where the database has no such column."""
        table = column.table
        return self.columns.get((table.schema or self.schema, table.name, column.name))


#: A database that was not asked.
UNASKED = Server()


def ask(connection: sa.Connection) -> Server:
    """Ask a database for the collations of all its columns."""
    return _ASKED[connection.dialect.name](connection)


def _mariadb(connection: sa.Connection) -> Server:
    schema, name, charset = connection.execute(_MARIADB_DEFAULT).one()
    columns = {
        (namespace, table, column): Collation.named(collation, its)
        for namespace, table, column, collation, its in connection.execute(_MARIADB_COLUMNS)
    }
    return Server(schema, Collation.named(name, charset), columns)


def _postgresql(connection: sa.Connection) -> Server:
    schema, provider, libc, icu, builtin = connection.execute(_POSTGRESQL_DEFAULT).one()
    default = Collation.named(libc if provider == "c" else (builtin or icu or provider))
    columns = {
        (namespace, table, column): default
        if collation == "default"
        else Collation.named(collation, merges=not deterministic)
        for namespace, table, column, collation, deterministic in connection.execute(_POSTGRESQL_COLUMNS)
    }
    return Server(schema, default, columns)


def _sqlite(connection: sa.Connection) -> Server:
    return Server("main", Collation.named("BINARY"), dict(_sqlite_columns(connection)))


def _sqlite_columns(connection: sa.Connection) -> Iterator[tuple[_ColumnPlace, Collation]]:
    """Each text column's; no catalogue holds it, but a column of a query has that of the column it is made of."""
    inspector, quote = sa.inspect(connection), connection.dialect.identifier_preparer.quote
    for table in inspector.get_table_names():
        for column in inspector.get_columns(table):
            if isinstance(column["type"], sa.String):
                source = f"SELECT {quote(column['name'])} AS value FROM {quote(table)} WHERE 0 UNION ALL SELECT 'a'"  # noqa: S608  # quoted
                compared = f"SELECT value = 'A', value = 'a ' FROM ({source})"  # noqa: S608  # the same
                nocase, trimmed = connection.exec_driver_sql(compared).one()
                name = "NOCASE" if nocase else "RTRIM" if trimmed else "BINARY"
                yield ("main", table, column["name"]), Collation.named(name)


_ASKED: Mapping[str, Callable[[sa.Connection], Server]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mariadb,
    "mariadb": _mariadb,
}


_COLUMNS: Mapping[str, Callable[[Kept], Iterator[Finding]]] = {
    "sqlite": sqlite_findings,
    "postgresql": postgresql_findings,
    "mysql": findings,
    "mariadb": findings,
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
    yield from constraints_findings(table, sql, columns)
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


_GUARD = ForkSafeLock()
_SEEN: WeakKeyDictionary[sa.Engine, set[tuple[str | None, str]]] = WeakKeyDictionary()


def warn_once(engine: sa.Engine, schema: Schema) -> None:
    """Log which parts of a table are not portable, once per table and engine.

    What depends on the database's own collation is left out: no database was asked.
    """
    with _GUARD.lock:
        seen = _SEEN.setdefault(engine, set())
        if schema.place in seen:
            return
        seen.add(schema.place)
    table = cast(sa.Table, sa.inspect(schema.model).local_table)
    found = [one for one in findings_of(table, engine.dialect, UNASKED) if not one.assumed]
    if found:
        places = dict.fromkeys(one.place or one.what for one in found)  # each once, in their order
        log.warning(
            "%r: table %s is not portable in %s; `python -m sqlrepo audit` tells what happens there, and the remedy",
            engine.url,
            schema.name,
            ", ".join(places),
        )

"""The collations of a real database, read from its catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import sqlalchemy as sa

from sqlrepo.sqlalchemy.audit.column import Collation

_ColumnName: TypeAlias = tuple[str, str, str]

_MYSQL_DEFAULT = sa.text("SELECT database(), @@collation_database, @@character_set_database")
_MYSQL_COLUMNS = sa.text("""
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
    """The collations of a database."""

    schema: str = ""  # of tables that name none
    default: Collation = field(default_factory=Collation)
    columns: Mapping[_ColumnName, Collation] = field(default_factory=dict)

    def collation(self, column: sa.Column[Any]) -> Collation | None:
        """Return a column's collation; None if the database has no such column."""
        table = column.table
        return self.columns.get((table.schema or self.schema, table.name, column.name))


#: A database that was not asked.
UNKNOWN = Server()


def _mysql(connection: sa.Connection) -> Server:
    schema, default, default_charset = connection.execute(_MYSQL_DEFAULT).one()
    columns = {
        (namespace, table, column): Collation(collation, charset)
        for namespace, table, column, collation, charset in connection.execute(_MYSQL_COLUMNS)
    }
    return Server(schema, Collation(default, default_charset), columns)


def _postgresql(connection: sa.Connection) -> Server:
    schema, provider, libc, icu, builtin = connection.execute(_POSTGRESQL_DEFAULT).one()
    default = Collation(libc if provider == "c" else (builtin or icu or provider))
    columns = {
        (namespace, table, column): default
        if collation == "default"
        else Collation(collation, nondeterministic=not deterministic)
        for namespace, table, column, collation, deterministic in connection.execute(_POSTGRESQL_COLUMNS)
    }
    return Server(schema, default, columns)


def _sqlite(connection: sa.Connection) -> Server:
    return Server("main", Collation("BINARY"), dict(_sqlite_columns(connection)))


def _sqlite_columns(connection: sa.Connection) -> Iterator[tuple[_ColumnName, Collation]]:
    """Find collations by comparing: no catalogue has them, but a query's column keeps that of its source."""
    inspector, quote = sa.inspect(connection), connection.dialect.identifier_preparer.quote
    for table in inspector.get_table_names():
        for column in inspector.get_columns(table):
            if isinstance(column["type"], sa.String):
                source = f"SELECT {quote(column['name'])} AS value FROM {quote(table)} WHERE 0 UNION ALL SELECT 'a'"  # noqa: S608  # quoted
                compared = f"SELECT value = 'A', value = 'a ' FROM ({source})"  # noqa: S608  # made of the line above
                nocase, trimmed = connection.exec_driver_sql(compared).one()
                name = "NOCASE" if nocase else "RTRIM" if trimmed else "BINARY"
                yield ("main", table, column["name"]), Collation(name)


_READERS: Mapping[str, Callable[[sa.Connection], Server]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
}


def read_collations(connection: sa.Connection) -> Server:
    return _READERS[connection.dialect.name](connection)

"""PostgreSQL: NULL in orders, collation "C", and sequences that keep up with explicit keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, assert_never

import sqlalchemy as sa
from sqlalchemy import event, func, literal
from sqlalchemy.exc import CompileError

from sqlrepo.language.criteria import Match, MatchKind, Operator
from sqlrepo.sqlalchemy.dialects.base import (
    READ_COMMITTED,
    AnyColumn,
    Dialect,
    Needle,
    Triggers,
    compare,
    with_operators,
)
from sqlrepo.sqlalchemy.events import UNCOUNTED
from sqlrepo.tables.reflection import sql_columns, table_of
from sqlrepo.tables.schema import Schema

_BY_CODE_POINT = frozenset({"C", "POSIX"})

# Collations that fold like `fold_unicode`: character by character, and I with dot to i.
_UNICODE_FOLDS = ("C.utf8", "C.UTF-8", "pg_c_utf8", "en_US.utf8", "en_US.UTF-8")

_CHAR = re.compile(r"N?CHAR\b")

_ESCAPE = "\\"
_ESCAPED = str.maketrans({character: _ESCAPE + character for character in f"%_{_ESCAPE}"})

_SERVER = sa.text("""
    SELECT datcollate, datlocprovider, ARRAY(
        SELECT collname FROM pg_collation
        WHERE collencoding IN (-1, encoding) AND collnamespace = 'pg_catalog'::regnamespace)
    FROM pg_database WHERE datname = current_database()
""")

# The bits of tgtype: 2 is BEFORE, 4 is INSERT, and 16 is UPDATE, as an upsert may do.
_TRIGGERS = sa.text("""
    SELECT coalesce(bool_or(tgtype & 2 = 0 AND tgtype & 20 > 0), false), relhasrules OR count(tgtype) > 0
    FROM pg_class LEFT JOIN pg_trigger ON tgrelid = pg_class.oid AND NOT tgisinternal
    WHERE pg_class.oid = to_regclass(:name) GROUP BY relhasrules
""").execution_options(**{UNCOUNTED: True})

# Moves a sequence forwards only, and only if the user has the privilege.
_ADVANCE = """
    SELECT setval(numbers.sequence, :given) FROM (SELECT {sequence} AS sequence) AS numbers
    JOIN pg_sequence ON seqrelid = numbers.sequence
    WHERE coalesce(pg_sequence_last_value(numbers.sequence), seqstart - seqincrement) < :given
    AND seqincrement > 0 AND :given <= seqmax AND has_sequence_privilege(numbers.sequence, 'UPDATE')
"""


class PostgreSQL(Dialect):
    """PostgreSQL through psycopg 3 or asyncpg."""

    name = "postgresql"
    has_upsert = True

    def __init__(self, sql: sa.Dialect, isolation: str | None = None) -> None:
        super().__init__(sql, isolation)
        self._sorts_by_code_point = False
        self._unicode_fold = _UNICODE_FOLDS[0]
        self._advances: dict[tuple[Schema, str], sa.TextClause] = {}

    # -- engines

    @property
    def missing_capabilities(self) -> frozenset[str]:
        # Concurrent writers of a row wait; above READ COMMITTED a unit reads one snapshot.
        known = {"conflict_at_commit"}
        known |= set() if self.isolation in (None, READ_COMMITTED) else {"rereads_committed"}
        return frozenset(known if self.no_unicode_fold is None else known | {"unicode_fold"})

    def set_up_reader(self, engine: sa.Engine) -> None:
        """Make transactions read-only by default, single statements included."""
        event.listen(engine, "connect", _set_read_only)

    # -- connections

    def _inspect(self, connection: sa.Connection) -> Sequence[str]:
        collation, provider, known = connection.execute(_SERVER).one()
        self._sorts_by_code_point = provider == "c" and collation in _BY_CODE_POINT
        fold = next((name for name in _UNICODE_FOLDS if name in known), None)
        if fold is not None:
            self._unicode_fold = fold
            return ()
        wanted = " or ".join(_UNICODE_FOLDS)
        self.no_unicode_fold = f"the server cannot fold case by Unicode, because it has no collation {wanted}"
        return (f'{self.no_unicode_fold}; for icontains and its family, set `fold = "ascii"` on the repository',)

    def forbid_writes(self, connection: sa.Connection, *, forbidden: bool) -> None:
        if forbidden:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def after_insert(self, connection: sa.Connection, schema: Schema, given: Sequence[int]) -> None:
        """Move the key's sequence behind the explicit numbers."""
        assert schema.generated is not None
        column = sql_columns(schema)[schema.generated]
        own = column.default if isinstance(column.default, sa.Sequence) else None
        name = self._full_name(connection, table_of(schema) if own is None else own)
        if (schema, name) not in self._advances:
            self._advances[schema, name] = _advance_statement(name, column.name if own is None else None)
        connection.execute(self._advances[schema, name], {"given": max(given)})

    def _read_triggers(self, connection: sa.Connection, schema: Schema) -> Triggers | None:
        found = connection.execute(_TRIGGERS, {"name": self._full_name(connection, table_of(schema))}).one_or_none()
        return Triggers(*found) if found else None

    def _full_name(self, connection: sa.Connection, item: sa.Table | sa.Sequence) -> str:
        """Return the name with its schema, which schema_translate_map may have changed."""
        preparer = self.sql.identifier_preparer
        namespace, name = connection.schema_for_object(item), preparer.quote(item.name)
        return f"{preparer.quote_schema(namespace)}.{name}" if namespace else name

    # -- statements

    def read(self, column: AnyColumn) -> AnyColumn:
        """Return CHAR as text, because the server fills it up with blanks and drops them only in a cast."""
        column = with_operators(column)
        try:
            is_char = _CHAR.match(column.type.compile(dialect=self.sql)) is not None
        except CompileError:  # of another database's type
            is_char = False
        return sa.type_coerce(sa.cast(column, sa.Text()), column.type) if is_char else column

    def exact(self, column: AnyColumn) -> AnyColumn:
        """Return text in collation "C"; members of a native enum as text, not in the order of their declaration."""
        stored = self.stored_type(column)
        if isinstance(stored, sa.Enum) and stored.native_enum:
            return sa.cast(column, sa.Text()).collate("C")
        if not isinstance(stored, sa.String) or stored.collation in _BY_CODE_POINT:
            return column
        if stored.collation is None and self._sorts_by_code_point:
            return column
        return column.collate("C")

    def compare(self, column: AnyColumn, op: Operator, value: AnyColumn) -> AnyColumn:
        """Compare; in PostgreSQL the equality of texts does not depend on the collation."""
        if op in ("==", "!="):
            return compare(column, op, value)
        stored = self.stored_type(column)
        native = isinstance(stored, sa.Enum) and stored.native_enum
        return compare(self.exact(column), op, sa.cast(value, sa.Text()) if native else value)

    def order(self, column: AnyColumn, descending: bool, *, nullable: bool) -> AnyColumn:
        """Order by a column; NULLS FIRST is not written if there are none, because plain indexes do not serve it."""
        order = super().order(column, descending, nullable=nullable)
        if not nullable:
            return order
        return order.nulls_last() if descending else order.nulls_first()

    def extreme(self, function: str, column: AnyColumn) -> AnyColumn:
        """Compare what this server's min and max do not take, or order otherwise, as text."""
        stored, apply = self.stored_type(column), getattr(func, function)
        if isinstance(stored, sa.LargeBinary):
            return func.decode(apply(func.encode(column, "hex").collate("C")), "hex", type_=column.type)
        if isinstance(stored, sa.Uuid) or (isinstance(stored, sa.Enum) and stored.native_enum):
            return sa.cast(apply(sa.cast(column, sa.Text()).collate("C")), column.type)
        return super().extreme(function, column)

    def match(self, node: Match, column: AnyColumn, text: Needle, *, plain: bool) -> AnyColumn:
        """Search with LIKE, which can use an index; by functions if no pattern can be built from the text."""
        subject = self._fold_column(node, column)
        if node.kind == "equals":
            return subject == text(None)
        return _like(node.kind, subject, text) if plain else _by_function(node.kind, subject, text(None))

    def _fold_column(self, node: Match, column: AnyColumn) -> AnyColumn:
        column = self.read(column)
        if node.case == "exact":
            return column
        if node.case == "ascii":
            return func.lower(column.collate("C"), type_=column.type)
        self.require_unicode_fold()
        # A parameter of a column in "C" has that collation too, and the server does not choose between two collations.
        return func.lower(column.collate(self._unicode_fold), type_=column.type).collate("C")


def _advance_statement(name: str, column: str | None) -> sa.TextClause:
    """Write the statement that moves a sequence: the named one, or that of a column of the named table."""
    if column is None:
        return sa.text(_ADVANCE.format(sequence="CAST(:name AS regclass)")).bindparams(name=name)
    sequence = "CAST(pg_get_serial_sequence(:name, :column) AS regclass)"
    return sa.text(_ADVANCE.format(sequence=sequence)).bindparams(name=name, column=column)


def _set_read_only(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    cursor.close()
    connection.commit()


def _like(kind: MatchKind, subject: AnyColumn, text: Needle) -> AnyColumn:
    before, after = kind != "startswith", kind != "endswith"

    def pattern(given: str) -> str:
        return f"{'%' * before}{given.translate(_ESCAPED)}{'%' * after}"

    return subject.like(text(pattern), escape=_ESCAPE)


def _by_function(kind: MatchKind, subject: AnyColumn, needle: AnyColumn) -> AnyColumn:
    match kind:
        case "contains":
            return func.strpos(subject, needle) > literal(0)
        case "startswith":
            return func.starts_with(subject, needle)
        case "endswith":
            return func.right(subject, func.length(needle)) == needle
        case "equals":
            return subject == needle
        case _:
            assert_never(kind)

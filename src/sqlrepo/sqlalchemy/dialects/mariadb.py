"""MariaDB: text that compares exactly whatever its column's collation is.

Knows the server's collations. Must not know drivers beyond what SQLAlchemy makes equal of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, assert_never

import sqlalchemy as sa
from sqlalchemy import event, func, literal

from sqlrepo.errors import UnsupportedError
from sqlrepo.language.criteria import Match, Operator
from sqlrepo.sqlalchemy.dialects.base import (
    READ_COMMITTED,
    AnyColumn,
    Dialect,
    Needle,
    UpsertWay,
    compare,
    successor,
)
from sqlrepo.sqlalchemy.events import UNCOUNTED
from sqlrepo.tables.schema import Schema

__all__ = ["MariaDB"]

_EXACT = "utf8mb4_nopad_bin"
_UNICODE_FOLD = "utf8mb4_uca1400_ai_ci"  # its LOWER knows today's Unicode; the older ones know that of 2003
_FIRST_WITH_FOLD = (10, 10)

_COLUMNS = sa.text("""
    SELECT column_name, character_set_name, collation_name FROM information_schema.columns
    WHERE table_schema = coalesce(:namespace, database()) AND table_name = :name
""").execution_options(**{UNCOUNTED: True})


class MariaDB(Dialect):
    """MariaDB through PyMySQL or asyncmy; a URL may begin with ``mysql`` or ``mariadb``."""

    name: ClassVar[str] = "mariadb"
    upsert: ClassVar[UpsertWay] = "insert_first"  # ON DUPLICATE KEY fires on any key, and does not tell

    def __init__(self, sql: sa.Dialect, isolation: str | None = None) -> None:
        super().__init__(sql, isolation)
        self._collations: dict[tuple[str | None, str], dict[str, tuple[str, str]]] = {}

    # -- engines

    @property
    def missing_capabilities(self) -> frozenset[str]:
        """The second to write a row waits; references are looked at row by row; other isolation reads what was."""
        known = {"conflict_at_commit", "references_at_end"}
        known |= set() if self.isolation in (None, READ_COMMITTED, "READ UNCOMMITTED") else {"rereads_committed"}
        return frozenset(known if self.no_unicode_fold is None else known | {"unicode_fold"})

    def set_up(self, engine: sa.Engine) -> None:
        """Refuse values that do not fit, whatever the server's own mode is."""
        event.listen(engine, "connect", _connected)
        _mend(engine)

    def set_up_reader(self, engine: sa.Engine) -> None:
        """Make transactions read-only, single statements included."""
        event.listen(engine, "connect", _connected_for_reading)
        _mend(engine)
        if self.isolation in (None, READ_COMMITTED):
            # Statements that stand alone need no end; PyMySQL would send one all the same, a round trip each.
            dialect: Any = engine.dialect
            dialect.do_commit = dialect.do_rollback = _nothing

    # -- connections

    def begin_foreign(self, connection: sa.Connection, *, read_only: bool) -> None:
        """Begin a transaction; a read-only one has to be begun as one."""
        super().begin_foreign(connection, read_only=read_only)
        if read_only:
            connection.exec_driver_sql("START TRANSACTION READ ONLY")

    def _server(self, connection: sa.Connection) -> Sequence[str]:
        server: Any = connection.dialect  # the one that has connected
        if not server.is_mariadb:
            raise UnsupportedError("this server is MySQL, which cannot give back the rows it inserts; use MariaDB")
        version = tuple(server.server_version_info[:2])
        if version >= _FIRST_WITH_FOLD:
            return ()
        self.no_unicode_fold = f"MariaDB {'.'.join(map(str, version))} cannot fold text by Unicode, 10.10 can"
        return (f'{self.no_unicode_fold}; icontains and its family need `fold = "ascii"` on the repository',)

    def _engine(self, connection: sa.Connection) -> Sequence[str]:
        (mode,) = connection.exec_driver_sql("SELECT @@SESSION.sql_mode").one()
        known = super()._engine(connection)
        if "STRICT_" in mode:
            return known
        return (*known, "this engine's connections cut values that do not fit; set sql_mode = STRICT_TRANS_TABLES")

    def inspect_table(self, connection: sa.Connection, schema: Schema) -> None:
        """Learn the collations of a table's columns, which a mapped class need not tell."""
        if schema.place in self._collations:
            return
        # The application may have translated the schema to another.
        namespace = connection.schema_for_object(sa.inspect(schema.model).local_table)
        found = connection.execute(_COLUMNS, {"namespace": namespace, "name": schema.name})
        known = {name: (charset, collation) for name, charset, collation in found}
        if known:  # or there is no such table yet
            self._collations[schema.place] = known

    def forbid_writes(self, connection: sa.Connection, *, forbidden: bool) -> None:
        """Nothing is left to do: the transaction was begun so."""

    # -- statements

    def exact(self, column: AnyColumn) -> AnyColumn:
        """Text in a collation that takes every difference for one."""
        if not self._is_text(column) or self._collation(column) == _EXACT:
            return column
        return _converted(column, type_=column.type).collate(_EXACT)

    def compare(self, column: AnyColumn, op: Operator, value: AnyColumn) -> AnyColumn:
        """Compare; equality twice, so that the column's own index is used, which finds too much."""
        exact = compare(self.exact(column), op, value)
        return sa.and_(column == value, exact) if op == "==" and self._finds_too_much(column) else exact

    def one_of(self, column: AnyColumn, values: sa.BindParameter[Any]) -> AnyColumn:
        """The same for several values."""
        exact = self.exact(column).in_(values)
        return sa.and_(column.in_(values), exact) if self._finds_too_much(column) else exact

    def match(self, node: Match, column: AnyColumn, text: Needle, *, plain: bool) -> AnyColumn:
        """Compare by functions.

        LIKE passes over characters above U+FFFF where it searches an index for a prefix, so that a prefix is a range.
        """
        subject, needle = self._folded(node, column), text(None)
        match node.kind:
            case "contains":
                return func.instr(subject, needle) > literal(0)
            case "equals" if node.case == "exact":
                return self.compare(column, "==", needle)
            case "equals":
                return subject == needle
            case "startswith" if plain and subject is column:
                above = text(successor)
                return sa.and_(column >= needle, sa.or_(column < above, above.is_(None)))
            case "startswith":
                return func.left(subject, func.char_length(needle)) == needle
            case "endswith":
                return func.right(subject, func.char_length(needle)) == needle
            case _:
                assert_never(node.kind)

    def _folded(self, node: Match, column: AnyColumn) -> AnyColumn:
        if node.case == "exact":
            return self.exact(column)
        if node.case == "ascii":
            # Only the character set ascii has a LOWER that knows A to Z and nothing else.
            octets = sa.cast(_converted(column), sa.LargeBinary())
            lowered = sa.cast(func.lower(_converted(octets, "ascii")), sa.LargeBinary())
            return _converted(lowered).collate(_EXACT)
        self.require_unicode_fold()
        return func.lower(_converted(column).collate(_UNICODE_FOLD), type_=column.type).collate(_EXACT)

    def _is_text(self, column: AnyColumn) -> bool:
        return isinstance(self.kept_as(column), sa.String)

    def _finds_too_much(self, column: AnyColumn) -> bool:
        """Whether the column's own equality holds of all texts that are equal, and of others."""
        return self._is_text(column) and self._collation(column) != _EXACT and self._charset(column) == "utf8mb4"

    def _collation(self, column: AnyColumn) -> str | None:
        return self._kept(column)[1] or getattr(self.kept_as(column), "collation", None)

    def _charset(self, column: AnyColumn) -> str | None:
        return self._kept(column)[0] or getattr(self.kept_as(column), "charset", None)

    def _kept(self, column: AnyColumn) -> tuple[str | None, str | None]:
        """Character set and collation as the server told them."""
        table = getattr(column, "table", None)
        if not isinstance(table, sa.Table) or not isinstance(column, sa.Column):
            return None, None
        return self._collations.get((table.schema, table.name), {}).get(column.name, (None, None))


def _mend(engine: sa.Engine) -> None:
    """Let asyncmy be pinged: early releases of SQLAlchemy 2.0 ask PyMySQL how, whose later ones want no argument."""
    dialect: Any = engine.dialect
    if dialect.driver == "asyncmy":
        dialect.do_ping = _pinged


def _pinged(connection: Any) -> bool:
    connection.ping(False)
    return True


def _connected(connection: Any, _: Any) -> None:
    _execute(connection, "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_TRANS_TABLES')")


def _connected_for_reading(connection: Any, _: Any) -> None:
    _execute(connection, "SET SESSION TRANSACTION READ ONLY")


def _nothing(_: Any) -> None:
    """Send nothing."""


def _execute(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()


def _converted(text: AnyColumn, charset: str = "utf8mb4", type_: Any = None) -> AnyColumn:
    return func.convert(text.op("USING")(sa.literal_column(charset)), type_=type_ or sa.String())

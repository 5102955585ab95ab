"""MySQL and MariaDB: comparing text by code point, whatever the collation of its column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, assert_never
from weakref import WeakMethod

import sqlalchemy as sa
from sqlalchemy import event, func, literal
from sqlalchemy.types import TypeDecorator

from sqlrepo.errors import UnsupportedError
from sqlrepo.language.criteria import Match, Operator
from sqlrepo.language.values import fraction_of
from sqlrepo.sqlalchemy.dialects.base import (
    BYTES_PER_CHARACTER,
    READ_COMMITTED,
    AnyColumn,
    Dialect,
    Needle,
    Triggers,
    compare,
    successor,
)
from sqlrepo.sqlalchemy.errors import PACKET_TOO_LARGE
from sqlrepo.sqlalchemy.events import UNCOUNTED
from sqlrepo.sqlalchemy.types import CODE_POINTS
from sqlrepo.tables.reflection import table_of
from sqlrepo.tables.schema import Schema, TableName

_UNICODE_FOLD = "utf8mb4_uca1400_ai_ci"  # whose LOWER knows current Unicode; MariaDB's older ones know that of 2003
_FIRST_WITH_FOLD = (10, 10)
_FIRST_MYSQL = (8, 0, 17)
# Letters that need more bytes in lower case, where MySQL's LOWER cuts off the end of the text.
_GROWING = ("\N{LATIN CAPITAL LETTER A WITH STROKE}", "\N{LATIN CAPITAL LETTER T WITH DIAGONAL STROKE}")

_COLUMNS = sa.text("""
    SELECT column_name, character_set_name, collation_name, numeric_scale, data_type, datetime_precision
    FROM information_schema.columns WHERE table_schema = coalesce(:namespace, database()) AND table_name = :name
""").execution_options(**{UNCOUNTED: True})
_UNKNOWN = (None,) * 5

# A trigger before INSERT may set any column; the other ones cannot change rows of their own table.
_TRIGGERS = sa.text("""
    SELECT count(*) > 0 FROM information_schema.triggers WHERE action_timing = 'BEFORE'
    AND event_manipulation = 'INSERT' AND event_object_table = :name
    AND event_object_schema = coalesce(:namespace, database())
""").execution_options(**{UNCOUNTED: True})

# The types of MySQL that give back what was written, if the value is valid.
_KEPT = (
    *("tinyint", "smallint", "mediumint", "int", "bigint", "date", "varbinary"),
    *("varchar", "tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob"),
)
_STEP_OF_SESSION = sa.text("SELECT @@SESSION.auto_increment_increment").execution_options(**{UNCOUNTED: True})
_MICROSECONDS = 6
_STEP = "sqlrepo_step"


class MySQL(Dialect):
    """MySQL or MariaDB through PyMySQL or asyncmy. A URL that begins with ``mysql`` may lead to either of them."""

    inspects_tables: ClassVar[bool] = True
    reads_changed_table: ClassVar[bool] = False
    # No native upsert: ON DUPLICATE KEY reacts to any key, and does not tell insert from update.

    def __init__(self, sql: sa.Dialect, isolation: str | None = None) -> None:
        super().__init__(sql, isolation)
        self._meet(sql)
        # The character set, collation, scale, type and digits of seconds of each column.
        self._properties: dict[TableName, dict[str, tuple[Any, ...]]] = {}

    # -- engines

    @property
    def missing_capabilities(self) -> frozenset[str]:
        # Concurrent writers of a row wait, and foreign keys are checked row by row.
        known = {"conflict_at_commit", "references_at_end"}
        known |= set() if self.isolation in (None, READ_COMMITTED, "READ UNCOMMITTED") else {"rereads_committed"}
        return frozenset(known if self.no_unicode_fold is None else known | {"unicode_fold"})

    def set_up(self, engine: sa.Engine) -> None:
        """Make the server refuse values that do not fit, whatever its default mode."""
        event.listen(engine, "connect", _set_strict)
        event.listen(engine, "connect", self._limit_statements)
        _fix_ping(engine)

    def set_up_reader(self, engine: sa.Engine) -> None:
        """Make transactions read-only, single statements included."""
        event.listen(engine, "connect", _set_read_only)
        event.listen(engine, "connect", self._limit_statements)
        _fix_ping(engine)
        if self.isolation in (None, READ_COMMITTED):
            # A statement without a transaction needs no COMMIT; PyMySQL would send one, at a round trip each.
            dialect: Any = engine.dialect
            dialect.do_commit = dialect.do_rollback = _send_nothing

    def _limit_statements(self, connection: Any, _: Any) -> None:
        """Make a connection refuse statements that are too long for the server, which would close it instead.

        Some clients see the server's error, some only the end of the connection. No error names the cause.
        """
        raw = getattr(connection, "driver_connection", connection)  # which asynchronous drivers wrap
        limit = self.longest_statement = _read_limit(connection)
        send = WeakMethod(raw.query)
        driver: Any = self.sql.dbapi or self.sql.import_dbapi()  # the audit's reader was made without one
        refuse: Any = driver.DataError
        encoding = getattr(raw, "encoding", "utf-8")

        def query(sql: Any, *args: Any, **kwargs: Any) -> Any:
            if len(sql) * BYTES_PER_CHARACTER >= limit:
                sql = sql.encode(encoding, "surrogateescape") if isinstance(sql, str) else sql
                if len(sql) + 1 >= limit:  # the command is one byte
                    raise refuse(PACKET_TOO_LARGE, "the statement is longer than max_allowed_packet")
            sending: Any = send()  # the connection holds this function, so it is alive
            return sending(sql, *args, **kwargs)

        raw.query = query

    # -- connections

    def begin_foreign(self, connection: sa.Connection, *, read_only: bool) -> None:
        super().begin_foreign(connection, read_only=read_only)
        if read_only:
            connection.exec_driver_sql("START TRANSACTION READ ONLY")

    def _meet(self, server: Any) -> None:
        """Tell the two servers apart; a dialect of SQLAlchemy knows which one it has as soon as it has connected."""
        self.name = "mariadb" if server.is_mariadb else "mysql"
        self.returns_inserted = server.is_mariadb
        self._exact = CODE_POINTS[self.name]
        # The engine's own would keep what a type said before the engine knew its server.
        self.types = type(server)(is_mariadb=server.is_mariadb)

    def _inspect(self, connection: sa.Connection) -> Sequence[str]:
        server: Any = connection.dialect
        self._meet(server)
        version = tuple(server.server_version_info)
        if self.name == "mysql" and version < _FIRST_MYSQL:
            raise UnsupportedError(
                f"this server is MySQL {'.'.join(map(str, version))}, which has no checks or no collation "
                f"{self._exact}; use MySQL 8.0.17 or later"
            )
        version = version[:2]
        if self.name == "mysql" or version >= _FIRST_WITH_FOLD:
            return ()
        self.no_unicode_fold = f"MariaDB {'.'.join(map(str, version))} cannot fold case by Unicode (10.10 can)"
        return (f'{self.no_unicode_fold}; for icontains and its family, set `fold = "ascii"` on the repository',)

    def _engine_problems(self, connection: sa.Connection) -> Iterable[str]:
        (mode,) = connection.exec_driver_sql("SELECT @@SESSION.sql_mode").one()
        problems = super()._engine_problems(connection)
        if "STRICT_" in mode:
            return problems
        return (*problems, "this engine's connections truncate values that do not fit; set STRICT_TRANS_TABLES")

    def inspect_table(self, connection: sa.Connection, schema: Schema) -> None:
        """Read properties of a table's columns that a mapped class need not declare."""
        if schema.full_name in self._properties:
            return
        namespace = connection.schema_for_object(table_of(schema))  # which honours schema_translate_map
        found = connection.execute(_COLUMNS, {"namespace": namespace, "name": schema.name})
        known = {name: tuple(properties) for name, *properties in found}
        if known:  # else the table does not exist yet
            self._properties[schema.full_name] = known

    def _read_triggers(self, connection: sa.Connection, schema: Schema) -> Triggers | None:
        if self.returns_inserted:  # as its triggers have made them
            return super()._read_triggers(connection, schema)
        namespace = connection.schema_for_object(table_of(schema))
        found = connection.execute(_TRIGGERS, {"namespace": namespace, "name": schema.name}).scalar_one()
        return Triggers(changing=bool(found), refusing=False)

    def key_step(self, connection: sa.Connection) -> int:
        """Return the distance of the keys of one statement, which is the number of servers where several write."""
        if _STEP not in connection.info:  # which lives as long as the connection to the server
            connection.info[_STEP] = connection.execute(_STEP_OF_SESSION).scalar_one()
        return int(connection.info[_STEP])

    def forbid_writes(self, connection: sa.Connection, *, forbidden: bool) -> None:
        """Do nothing: the transaction was begun as a read-only one."""

    # -- statements

    def rounds(self, column: AnyColumn, value: Decimal) -> str | None:
        """Refuse digits after the point that the column drops: it has none if it was declared without scale."""
        scale = self._server_properties(column)[2] or 0
        return f"needs more than {scale} digits after the point" if len(fraction_of(value)) > scale else None

    def keeps(self, column: AnyColumn) -> bool:
        """Trust the type that the server reports, not the declared one."""
        if isinstance(column.type, TypeDecorator) and not hasattr(column.type, "value_type"):
            return False
        stored: Any = self.stored_type(column)
        _, _, scale, type_, digits = self._server_properties(column)
        match type_:
            case "decimal":
                return isinstance(stored, sa.Numeric) and stored.precision is not None and stored.scale == scale
            case "double":
                return isinstance(stored, sa.Float)
            case "char":
                return isinstance(stored, sa.CHAR | sa.Uuid)
            case "datetime" | "time":
                return bool(digits == _MICROSECONDS)
            case "json":  # which is written in another form; without a key it cannot be read again
                return not column.table.primary_key.columns
            case _:
                return type_ in _KEPT

    def exact(self, column: AnyColumn) -> AnyColumn:
        """Return text in an exact collation; UUIDs as text, because MariaDB sorts them by swapped segments."""
        if self._is_uuid(column):
            return _convert(column).collate(self._exact)
        if not self._is_text(column) or self._collation(column) == self._exact:
            return column
        return _convert(column, type_=column.type).collate(self._exact)

    def key(self, column: AnyColumn) -> AnyColumn:
        return sa.type_coerce(self.exact(column), column.type) if self._is_text(column) else column

    def compare(self, column: AnyColumn, op: Operator, value: AnyColumn) -> AnyColumn:
        """Compare; equality in both collations, because the column's index only serves its own."""
        if op in ("==", "!=") and self._is_uuid(column):
            return compare(column, op, value)
        exact = compare(self.exact(column), op, value)
        return sa.and_(column == value, exact) if op == "==" and self._is_broader(column) else exact

    def one_of(self, column: AnyColumn, values: sa.BindParameter[Any]) -> AnyColumn:
        if self._is_uuid(column):
            return column.in_(values)
        exact = self.exact(column).in_(values)
        return sa.and_(column.in_(values), exact) if self._is_broader(column) else exact

    def match(self, node: Match, column: AnyColumn, text: Needle, *, plain: bool) -> AnyColumn:
        """Search by functions, and for a prefix by range: with an index, LIKE misses characters above U+FFFF."""
        subject, needle = self._fold_column(node, column), text(None)
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

    def _fold_column(self, node: Match, column: AnyColumn) -> AnyColumn:
        if node.case == "exact":
            return self.exact(column)
        if node.case == "ascii":
            # LOWER changes A to Z and nothing else only in the character set ascii.
            octets = sa.cast(_convert(column), sa.LargeBinary())
            lowered = sa.cast(func.lower(_convert(octets, "ascii")), sa.LargeBinary())
            return _convert(lowered).collate(self._exact)
        self.require_unicode_fold()
        if self.name == "mariadb":
            return func.lower(_convert(column).collate(_UNICODE_FOLD), type_=column.type).collate(self._exact)
        text: AnyColumn = _convert(column).collate(self._exact)
        for letter in _GROWING:
            text = func.replace(text, sa.literal(letter), sa.literal(letter.lower()))
        return func.lower(text, type_=column.type)

    def _is_text(self, column: AnyColumn) -> bool:
        return isinstance(self.stored_type(column), sa.String)

    def _is_uuid(self, column: AnyColumn) -> bool:
        stored = self.stored_type(column)
        native = isinstance(stored, sa.UUID) or (isinstance(stored, sa.Uuid) and stored.native_uuid)
        return native and self.name == "mariadb"

    def _is_broader(self, column: AnyColumn) -> bool:
        """Return True if the column's own collation treats all equal texts as equal, and others too."""
        return self._is_text(column) and self._collation(column) != self._exact and self._charset(column) == "utf8mb4"

    def _collation(self, column: AnyColumn) -> str | None:
        return self._server_properties(column)[1] or getattr(self.stored_type(column), "collation", None)

    def _charset(self, column: AnyColumn) -> str | None:
        return self._server_properties(column)[0] or getattr(self.stored_type(column), "charset", None)

    def _server_properties(self, column: AnyColumn) -> tuple[Any, ...]:
        """Return what the server reported of a column."""
        table = getattr(column, "table", None)
        if not isinstance(table, sa.Table) or not isinstance(column, sa.Column):
            return _UNKNOWN
        return self._properties.get((table.schema, table.name), {}).get(column.name, _UNKNOWN)


def _fix_ping(engine: sa.Engine) -> None:
    """Let asyncmy ping, although early releases of SQLAlchemy 2.0 pass it the argument that only PyMySQL needs."""
    dialect: Any = engine.dialect
    if dialect.driver == "asyncmy":
        dialect.do_ping = _ping


def _ping(connection: Any) -> bool:
    connection.ping(False)
    return True


def _set_strict(connection: Any, _: Any) -> None:
    _execute(connection, "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_TRANS_TABLES')")


def _read_limit(connection: Any) -> int:
    cursor = connection.cursor()
    cursor.execute("SELECT @@SESSION.max_allowed_packet")
    (limit,) = cursor.fetchone()
    cursor.close()
    return int(limit)


def _set_read_only(connection: Any, _: Any) -> None:
    _execute(connection, "SET SESSION TRANSACTION READ ONLY")


def _send_nothing(_: Any) -> None:
    pass


def _execute(connection: Any, statement: str) -> None:
    cursor = connection.cursor()
    cursor.execute(statement)
    cursor.close()


def _convert(text: AnyColumn, charset: str = "utf8mb4", type_: Any = None) -> AnyColumn:
    return func.convert(text.op("USING")(sa.literal_column(charset)), type_=type_ or sa.String())

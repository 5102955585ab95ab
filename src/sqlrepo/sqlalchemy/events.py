"""Events of SQLAlchemy's engines, passed on to the units whose connections they are about."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy import event

from sqlrepo.driver import PROBES, Source
from sqlrepo.forks import ForkAware, at_fork, leak
from sqlrepo.sqlalchemy.errors import is_broken
from sqlrepo.tables.schema import TableName

#: An execution option of the library's own statements, which no query budget counts.
UNCOUNTED = "sqlrepo_uncounted"

#: An execution option of an INSERT whose rows must be sent as one statement, so that their keys are consecutive.
AT_ONCE = "sqlrepo_at_once"

# Statements that begin, end or configure transactions.
_FRAME = re.compile(
    r"\s*(BEGIN|START TRANSACTION|SET TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA query_only)\b", re.IGNORECASE
)

_PARAMETER = re.compile(r"%\((.+?)\)s")


class Listener(Protocol):
    """A unit's driver, which follows the events on its connection."""

    @property
    def source(self) -> Source: ...

    @property
    def survives_interrupts(self) -> bool: ...  # the connection can be used after an interrupt during a statement

    def on_error(self, error: BaseException, table: TableName | None, longest: tuple[int, str]) -> None:
        """Record that a statement, which may write to a table, has failed; with its longest parameter."""

    def on_event(self, event: str, savepoint: str | None) -> None:
        """Record that the transaction has ended, or that a savepoint was set, released or rolled back."""

    def on_answer(self) -> None:
        """Record that a statement has succeeded."""


_ENGINES: WeakSet[sa.Engine] = WeakSet()
_LISTENERS: WeakKeyDictionary[sa.Connection, tuple[Listener, ...]] = WeakKeyDictionary()


def listen(engine: sa.Engine) -> None:
    """Listen to the events of an engine, once however many databases are made on it."""
    root: sa.Engine = getattr(engine, "_proxied", engine)  # an engine with other options reports to both
    if root in _ENGINES:
        return
    _ENGINES.add(root)
    for name in ("commit", "rollback", "savepoint", "release_savepoint", "rollback_savepoint"):
        event.listen(root, name, _make_reporter(name))
    event.listen(root, "handle_error", _on_error)
    event.listen(root, "before_cursor_execute", _on_send)
    event.listen(root, "after_cursor_execute", _on_answer)
    event.listen(root, "do_executemany", _insert_at_once)


def subscribe(connection: sa.Connection, listener: Listener) -> None:
    """Pass the events on a connection to a listener; until `unsubscribe`, the two keep each other alive."""
    _LISTENERS[connection] = (*_LISTENERS.get(connection, ()), listener)


def unsubscribe(connection: sa.Connection, listener: Listener) -> None:
    left = list(_LISTENERS.pop(connection, ()))
    if listener in left:
        left.remove(listener)
    if left:
        _LISTENERS[connection] = tuple(left)


class _OpenConnections(ForkAware):
    """The connections that units have open."""

    def after_fork(self) -> None:
        """Keep the child from using, ending or collecting connections of the parent.

        The pool would roll back a connection before it is collected, and the transaction is the parent's.
        """
        for connection in tuple(_LISTENERS):
            if connection.closed or connection.invalidated:
                continue
            pooled: Any = connection.connection
            record = pooled._connection_record  # noqa: SLF001  # which has no public name
            leak(pooled, record, pooled.dbapi_connection)
            pooled.dbapi_connection = record.dbapi_connection = None
            connection.invalidate()  # so that SQLAlchemy refuses to use it


_OPEN = _OpenConnections()
at_fork(_OPEN)


def _make_reporter(name: str) -> Callable[..., None]:
    def report(connection: sa.Connection, savepoint: str | None = None, _: Any = None) -> None:
        for listener in _LISTENERS.get(connection, ()):
            listener.on_event(name, savepoint)

    return report


def _on_send(connection: sa.Connection, _: Any, statement: str, *more: Any) -> None:
    if not PROBES or not (probes := [probe for probe in PROBES if probe.counts_statements]):
        return
    _, context, _ = more
    sources = [listener.source for listener in _LISTENERS.get(connection, ())]
    if sources and UNCOUNTED not in context.execution_options and not _FRAME.match(statement):
        context.execution_options = context.execution_options.union({UNCOUNTED: True})  # the batches that follow
        for probe in probes:
            probe.statement_sent(context.statement, sources)


def _on_answer(connection: sa.Connection, *_: Any) -> None:
    for listener in _LISTENERS.get(connection, ()):
        listener.on_answer()


def _insert_at_once(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Write the values of all rows into one statement; drivers would split it, or send each row by itself."""
    if AT_ONCE not in context.execution_options:
        return False
    start, _, row = statement.rpartition(" VALUES ")
    named = _PARAMETER.findall(row)
    values = [one[name] for one in parameters for name in named] if named else chain.from_iterable(parameters)
    rows = ", ".join([_PARAMETER.sub("%s", row)] * len(parameters))
    cursor.execute(f"{start} VALUES {rows}", tuple(values))
    return True


def _on_error(context: sa.ExceptionContext) -> None:
    listeners = () if context.connection is None else _LISTENERS.get(context.connection, ())
    if listeners and is_broken(context.original_exception):
        context.is_disconnect = True  # so that the pool does not take it back
    for listener in listeners:
        if listener.survives_interrupts and not isinstance(context.original_exception, Exception):
            context.is_disconnect = False
        listener.on_error(context.original_exception, _table_of(context), _longest_of(context))


def _table_of(context: sa.ExceptionContext) -> TableName | None:
    """Return the table that a statement writes to."""
    statement = getattr(getattr(context.execution_context, "compiled", None), "statement", None)
    table = getattr(statement, "table", None)
    return (table.schema, table.name) if isinstance(table, sa.Table) else None


def _longest_of(context: sa.ExceptionContext) -> tuple[int, str]:
    """Return the length and the name of a statement's longest parameter."""
    rows = getattr(context.execution_context, "compiled_parameters", None) or ()
    sized = ((len(value), name) for row in rows for name, value in row.items() if isinstance(value, str | bytes))
    return max(sized, default=(0, ""))

"""What engines report of units' connections, whoever sent the statement."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy import event

from sqlrepo.driver import Source
from sqlrepo.forks import ForkAware, at_fork, leak
from sqlrepo.probes import counting, sent
from sqlrepo.sqlalchemy.errors import Place, is_broken

#: An option of statements that are the library's own business, and in no one's budget.
UNCOUNTED = "sqlrepo_uncounted"

# What begins, ends and sets up transactions.
_FRAME = re.compile(
    r"\s*(BEGIN|START TRANSACTION|SET TRANSACTION|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|PRAGMA query_only)\b", re.IGNORECASE
)


class Listener(Protocol):
    """A unit's driver, as far as its connection is concerned."""

    @property
    def source(self) -> Source:
        """The database the connection is from."""
        ...

    @property
    def survives_interrupts(self) -> bool:
        """Whether the connection is still whole after an interrupt amid a statement."""
        ...

    def failed(self, error: BaseException, table: Place | None) -> None:
        """A statement was refused."""
        ...

    def on_event(self, event: str, savepoint: str | None) -> None:
        """Something happened to the transaction or a savepoint of it."""
        ...

    def answered(self) -> None:
        """A statement was answered."""
        ...


_HEARD: WeakSet[sa.Engine] = WeakSet()
_LISTENERS: WeakKeyDictionary[sa.Connection, tuple[Listener, ...]] = WeakKeyDictionary()


def listen(engine: sa.Engine) -> None:
    """Hear of what happens on an engine's connections; once, however many databases are made on it."""
    root: sa.Engine = getattr(engine, "_proxied", engine)  # an engine with other options reports to both
    if root in _HEARD:
        return
    _HEARD.add(root)
    for name in ("commit", "rollback", "savepoint", "release_savepoint", "rollback_savepoint"):
        event.listen(root, name, _reporting(name))
    event.listen(root, "handle_error", _failed)
    event.listen(root, "before_cursor_execute", _sending)
    event.listen(root, "after_cursor_execute", _answered)


def subscribe(connection: sa.Connection, listener: Listener) -> None:
    """Tell a listener of what happens on a connection, until it is dismissed."""
    _LISTENERS[connection] = (*_LISTENERS.get(connection, ()), listener)


def unsubscribe(connection: sa.Connection, listener: Listener) -> None:
    """Tell a listener no more; as long as it is told, it and the connection keep each other alive."""
    left = tuple(one for one in _LISTENERS.get(connection, ()) if one is not listener)
    if left:
        _LISTENERS[connection] = left
    else:
        _LISTENERS.pop(connection, None)


class _OpenConnections(ForkAware):
    """The connections that units have open."""

    def after_fork(self) -> None:
        """Keep the child from using, ending or collecting them.

        A connection that is collected is rolled back first, for the pool; the transaction is the parent's.
        """
        for connection in tuple(_LISTENERS):
            if connection.closed or connection.invalidated:
                continue
            pooled: Any = connection.connection
            record = pooled._connection_record  # noqa: SLF001  # which has no public name
            leak(pooled, record, pooled.dbapi_connection)
            pooled.dbapi_connection = record.dbapi_connection = None
            connection.invalidate()  # so SQLAlchemy says so, whoever asks; its pool knows nothing of this one any more


_OPEN = _OpenConnections()
at_fork(_OPEN)


def _reporting(name: str) -> Callable[..., None]:
    def report(connection: sa.Connection, savepoint: str | None = None, _: Any = None) -> None:
        for listener in _LISTENERS.get(connection, ()):
            listener.on_event(name, savepoint)

    return report


def _sending(connection: sa.Connection, _: Any, statement: str, *more: Any) -> None:
    if not counting():
        return
    _, context, _ = more
    sources = [listener.source for listener in _LISTENERS.get(connection, ())]
    if sources and UNCOUNTED not in context.execution_options and not _FRAME.match(statement):
        context.execution_options = context.execution_options.union({UNCOUNTED: True})  # the batches that follow
        sent(context.statement, *sources)


def _answered(connection: sa.Connection, *_: Any) -> None:
    for listener in _LISTENERS.get(connection, ()):
        listener.answered()


def _failed(context: sa.ExceptionContext) -> None:
    listeners = () if context.connection is None else _LISTENERS.get(context.connection, ())
    if listeners and is_broken(context.original_exception):
        context.is_disconnect = True  # or the pool would take it back
    for listener in listeners:
        if listener.survives_interrupts and not isinstance(context.original_exception, Exception):
            context.is_disconnect = False
        listener.failed(context.original_exception, _table_of(context))


def _table_of(context: sa.ExceptionContext) -> Place | None:
    """The table a statement writes to."""
    statement = getattr(getattr(context.execution_context, "compiled", None), "statement", None)
    table = getattr(statement, "table", None)
    return (table.schema, table.name) if isinstance(table, sa.Table) else None

"""Joining the transaction of a session or connection of the application."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import isfunction
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.orm import Mapper, Session, SessionTransaction, scoped_session

from sqlrepo.driver import Callback, Driver, Transaction, run_callbacks
from sqlrepo.errors import MappingError, UnitStateError, UnsupportedError
from sqlrepo.language.results import CursorKeys
from sqlrepo.sqlalchemy.aio import is_async
from sqlrepo.sqlalchemy.database import Database, Engines, cursor_keys_of
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver
from sqlrepo.sqlalchemy.errors import raise_translated
from sqlrepo.sqlalchemy.events import subscribe, unsubscribe
from sqlrepo.sqlalchemy.session import UnitSession
from sqlrepo.tables.reflection import mapper_of, table_of
from sqlrepo.tables.schema import Schema

_SESSION_EVENTS = (
    "do_orm_execute", "before_flush", "after_flush", "after_flush_postexec", "after_bulk_update", "after_bulk_delete",
    "pending_to_persistent", "persistent_to_deleted", "loaded_as_persistent",
)  # fmt: skip
_INSTANCE_EVENTS = ("load", "refresh")
_MAPPER_EVENTS = ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete")


def bypassed_hooks(session: Session, mapper: Mapper[Any] | None) -> Iterator[str]:
    """Describe the application's ORM hooks that would not run for rows of a repository."""
    for name, listener in _listeners(session.dispatch, _SESSION_EVENTS):
        yield f"a {name} listener of the session ({_name(listener)})"
    if mapper is None:
        return
    for name, listener in _listeners(mapper.dispatch, _MAPPER_EVENTS):
        yield f"a {name} listener ({_name(listener)})"
    for name, listener in _listeners(mapper.class_manager.dispatch, _INSTANCE_EVENTS):
        yield f"a {name} listener ({_name(listener)})"
    yield from (f"@validates({name!r})" for name in mapper.validators)
    for column in mapper.columns.keys() - mapper.validators.keys():
        for _, listener in _listeners(mapper.class_manager[column].dispatch, ("set",)):
            yield f"a set listener of {column} ({_name(listener)})"


def _listeners(dispatch: Any, events: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yield the application's listeners; SQLAlchemy's own keep composites and mutable values up to date."""
    for event_name in events:
        for listener in map(_unwrap, getattr(dispatch, event_name)):
            if not str(getattr(listener, "__module__", "")).startswith("sqlalchemy."):
                yield event_name, listener


def _unwrap(listener: Any) -> Any:
    # SQLAlchemy wraps some listeners in a function, where `fn` is the listener.
    if not isfunction(listener) or listener.__closure__ is None:
        return listener
    cells = dict(zip(listener.__code__.co_freevars, listener.__closure__, strict=True))
    return cells["fn"].cell_contents if "fn" in cells else listener


def _name(given: Any) -> str:
    return str(getattr(given, "__qualname__", None) or getattr(given, "name", type(given).__qualname__))


# The key under which a session stores its `SharedSession`s, and an engine its `Database`, so that they live as long.
_KEY = "sqlrepo_joined"


def join(given: Any) -> JoinedSession | JoinedConnection | None:
    """Join a session or a connection; None if it is neither, UnsupportedError if it is asynchronous."""
    if isinstance(given, scoped_session):
        return JoinedSession(given())
    if isinstance(given, Session):
        return JoinedSession(given)
    if isinstance(given, sa.Connection):
        return JoinedConnection(given)
    if is_async(given):
        raise UnsupportedError(f"{type(given).__name__} is asynchronous; use an async unit of work or repository")
    return None


class JoinedSession:
    """A session of the application as one unit sees it: of the session's databases, a unit uses one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shared: SharedSession | None = None

    @property
    def source(self) -> Database:
        return self._state.database

    @property
    def transaction(self) -> Transaction:
        return self._state.transaction

    def register_table(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        mapper = mapper_of(schema)
        found = sorted(set(bypassed_hooks(self._session, mapper)))
        if found and not bypass_orm_events:
            raise MappingError(
                f"{_name(schema.model)} has ORM hooks that do not run for a repository's reads and writes: "
                f"{', '.join(found)}. If that is fine, set `bypass_orm_events = True` on the repository"
            )
        shared = SharedSession.of(self._session, schema)
        if self._shared is not None and shared is not self._shared:
            raise MappingError(
                f"table {schema.name} is in another database than the unit's other tables; use one unit per database"
            )
        self._shared = shared
        shared.database.register_table(schema)

    def driver(self) -> Driver:
        return self._state.driver()

    def on_commit(self, callback: Callback) -> None:
        if not self._session.in_transaction():
            self._session.begin()  # as its first statement would, so that a rollback has an event
        self._state.transaction.on_commit(callback)

    @property
    def _state(self) -> SharedSession:
        if self._shared is None:
            self._shared = SharedSession.of(self._session, None)
        return self._shared


class SharedSession:
    """The state that all units share that have joined a session, for one of its databases."""

    @classmethod
    def of(cls, session: Session, schema: Schema | None) -> SharedSession:
        """Find or make the state for the database of a table."""
        # With a statement that writes, a session that chooses by statement does not choose a replica.
        arguments = {} if schema is None else {"mapper": mapper_of(schema), "clause": sa.update(table_of(schema))}
        try:
            engine: sa.Engine = session.get_bind(**cast(Any, arguments)).engine
        except exc.UnboundExecutionError as error:
            what = "" if schema is None else f" for {_name(schema.model)}"
            raise UnsupportedError(f"the session has no database{what}; give it a bind") from error
        known: dict[sa.Engine, SharedSession] = session.info.setdefault(_KEY, {})
        if engine not in known:
            known[engine] = cls(session, _database(engine), arguments)
        return known[engine]

    def __init__(self, session: Session, database: Database, arguments: dict[str, Any]) -> None:
        self._session = session
        self._arguments = arguments
        self._driver: JoinedDriver | None = None
        self._committed = False
        self.database = database
        self.transaction = Transaction()
        for nested in reversed(list(_nested_transactions(session))):
            self.transaction.open_savepoint(_name_of(nested))
        event.listen(session, "after_transaction_create", self._on_create)
        event.listen(session, "before_commit", self._before_commit)
        event.listen(session, "after_commit", self._after_commit)
        event.listen(session, "after_transaction_end", self._on_end)

    def connection(self) -> sa.Connection:
        """Return the session's connection, on which the session first sets its innermost savepoint."""
        return self._session.connection(bind_arguments=dict(self._arguments))

    def driver(self) -> JoinedDriver:
        connection = _connect(self.connection, self.database)
        if self._driver is None:
            self._driver = JoinedDriver(self.database, connection, self.transaction, self._session, self.connection)
        return self._driver

    # A session sets a savepoint no earlier than its next statement; callbacks registered meanwhile belong to it too.

    def _on_create(self, _: Session, begun: SessionTransaction) -> None:
        if begun.nested:
            self.transaction.open_savepoint(_name_of(begun))

    def _before_commit(self, session: Session) -> None:
        """Refuse to commit an aborted transaction, which PostgreSQL would roll back without an error."""
        if self.transaction.fatal is not None or not session.in_nested_transaction():
            self.transaction.check()

    def _after_commit(self, session: Session) -> None:
        nested = session.get_nested_transaction()
        if nested is not None:
            self.transaction.close_savepoint(_name_of(nested))
        self._committed = nested is None

    def _on_end(self, _: Session, ended: SessionTransaction) -> None:
        if ended.nested:
            self.transaction.roll_back_savepoint(_name_of(ended))  # does nothing after `_after_commit`
        if ended.parent is not None:
            return
        transaction, committed, driver = self.transaction, self._committed, self._driver
        self.transaction, self._committed, self._driver = Transaction(), False, None
        if driver is not None:
            driver.leave()
        if committed:
            run_callbacks(transaction.callbacks)


class JoinedConnection:
    """A connection of the application as one unit sees it."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._database = _database(connection.engine)
        self._driver: JoinedDriver | None = None
        self._transaction = Transaction()

    @property
    def source(self) -> Database:
        return self._database

    @property
    def transaction(self) -> Transaction:
        if self._driver is not None and self._driver.ended:
            self._driver, self._transaction = None, Transaction()
        return self._transaction

    def register_table(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        self._database.register_table(schema)

    def driver(self) -> Driver:
        transaction = self.transaction
        if self._driver is None:
            self._driver = JoinedDriver(self._database, self._connection, transaction, None, lambda: self._connection)
        return self._driver

    def on_commit(self, callback: Callback) -> None:
        raise UnsupportedError("on_commit is not possible on a joined Connection; join a Session to use it")


class JoinedDriver(SQLAlchemyDriver):
    """A connection of the application, within a transaction that the application begins and ends."""

    def __init__(
        self,
        database: Database,
        connection: sa.Connection,
        transaction: Transaction,
        session: Session | None,  # whose connection it is
        connect: Callable[[], sa.Connection],  # lets the session set its innermost savepoint
    ) -> None:
        super().__init__(database, connection, transaction, read_only=False)
        self._session = session
        self._connect = connect
        self._count: int = getattr(connection, "_Connection__savepoint_seq", 0)  # earlier savepoints are numbered too
        self._ends_with_session = session is not None
        self.ended = False
        self._call(self._join)

    def on_event(self, event: str, savepoint: str | None) -> None:
        if event == "rollback_savepoint" and not self._transaction.has_savepoint(savepoint or ""):
            if self._session is None or not any(_nested_transactions(self._session)):
                self._transaction.restart()  # a savepoint set before the unit joined: all of the unit's work is undone
        elif event not in ("commit", "rollback"):
            super().on_event(event, savepoint)
        elif not self._ends_with_session:
            if event == "commit":
                self._flush()  # the unit's own session, of which the connection's owner knows nothing
            self.leave()

    def leave(self) -> None:
        self.ended = True
        unsubscribe(self._connection, self)
        if isinstance(self._session, UnitSession) and not self._ends_with_session:
            self._session.leave()

    def _join(self) -> None:
        if not self._connection.in_transaction():
            self._connection.begin()  # as its first statement would, so that a rollback has an event
        self._database.dialect.inspect_server(self._connection, foreign=True)
        self._database.dialect.join(self._connection)
        subscribe(self._connection, self)

    def _begin_nested(self) -> sa.NestedTransaction | SessionTransaction:
        nested = super()._begin_nested()
        self._connect()
        return nested

    def _flush(self) -> None:
        self._connect()
        super()._flush()


def _nested_transactions(session: Session) -> Iterator[SessionTransaction]:
    """Yield the session's savepoints from the innermost, including those it has not set yet."""
    nested = session.get_nested_transaction()
    while nested is not None and nested.nested:
        yield nested
        nested = nested.parent


def _name_of(nested: SessionTransaction) -> str:
    return f"session_{id(nested)}"


def _connect(connect: Callable[[], sa.Connection], database: Database) -> sa.Connection:
    try:
        return connect()
    except exc.InvalidRequestError as error:  # raised by the session itself
        reason: Literal["busy", "not_open"] = "busy" if error.code == "isce" else "not_open"
        raise UnitStateError(reason, "the joined session cannot be used; the cause says why") from error
    except Exception as error:  # noqa: BLE001  # raised below, translated if it can be
        raise_translated(error, database.tables)


class _JoinedEngines(Engines):
    """The engine of a session or connection, whose cursors are those of the `Database` made on the engine."""

    @property
    def cursor_keys(self) -> CursorKeys:
        return cursor_keys_of(self.writing)


def _database(engine: sa.Engine) -> Database:
    if _KEY not in engine.__dict__:
        engine.__dict__[_KEY] = Database.from_engines(_JoinedEngines(engine, asynchronous=engine.dialect.is_async))
    return cast(Database, engine.__dict__[_KEY])

"""Taking part in a session or connection that the application has already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from inspect import getclosurevars, isfunction
from typing import Any, Literal, cast

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.orm import Mapper, Session, SessionTransaction, scoped_session

from sqlrepo.driver import Callback, Driver, Transaction, run_callbacks
from sqlrepo.errors import MappingError, UnitStateError, UnsupportedError
from sqlrepo.sqlalchemy.aio import is_async
from sqlrepo.sqlalchemy.database import Database, Engines
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver
from sqlrepo.sqlalchemy.errors import translated
from sqlrepo.sqlalchemy.events import subscribe, unsubscribe
from sqlrepo.sqlalchemy.session import UnitSession
from sqlrepo.tables.schema import Schema

_SESSION_EVENTS = (
    *(
        "do_orm_execute",
        "before_flush",
        "after_flush",
        "after_flush_postexec",
        "after_bulk_update",
        "after_bulk_delete",
    ),
    *("pending_to_persistent", "persistent_to_deleted", "loaded_as_persistent"),
)
_INSTANCE_EVENTS = ("load", "refresh")
_MAPPER_EVENTS = ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete")


def bypassed(session: Session, mapper: Mapper[Any]) -> Iterator[str]:
    """What the ORM would do for the application, and rows that pass it by would not see."""
    for name, listener in _heard(session.dispatch, _SESSION_EVENTS):
        yield f"a {name} listener of the session ({_name(listener)})"
    for name, listener in _heard(mapper.dispatch, _MAPPER_EVENTS):
        yield f"a {name} listener ({_name(listener)})"
    for name, listener in _heard(mapper.class_manager.dispatch, _INSTANCE_EVENTS):
        if _is_theirs(listener):
            yield f"a {name} listener ({_name(listener)})"
    yield from (f"@validates({name!r})" for name in mapper.validators)
    for column in mapper.columns.keys() - mapper.validators.keys():
        for _, listener in _heard(mapper.class_manager[column].dispatch, ("set",)):
            if _is_theirs(listener):
                yield f"a set listener of {column} ({_name(listener)})"


def _heard(dispatch: Any, events: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The listeners to events, as they were given to SQLAlchemy, which wraps some of them."""
    for event_name in events:
        for listener in getattr(dispatch, event_name):
            yield (
                event_name,
                getclosurevars(listener).nonlocals.get("fn", listener) if isfunction(listener) else listener,
            )


def _is_theirs(listener: Any) -> bool:
    """Whether a listener is the application's; SQLAlchemy's extensions have some, and wrap those of others."""
    return not str(getattr(listener, "__module__", "")).startswith("sqlalchemy.")


def _name(listener: Any) -> str:
    return str(getattr(listener, "__qualname__", type(listener).__qualname__))


# Where a session keeps what units share that have joined it, and an engine what is known of it: it goes with them.
_KEPT = "sqlrepo_joined"


def join(given: Any) -> JoinedSession | JoinedConnection | None:
    """Join a session or a connection; None where it is neither.

    Raises:
        UnsupportedError: it is an asynchronous one.
    """
    if isinstance(given, scoped_session):
        return JoinedSession(given())
    if isinstance(given, Session):
        return JoinedSession(given)
    if isinstance(given, sa.Connection):
        return JoinedConnection(given)
    if is_async(given):
        raise UnsupportedError(f"{type(given).__name__} is joined by async units of work and repositories")
    return None


class JoinedSession:
    """A session that units take part in; it may have several databases, of which a unit uses one.

    Args:
        session: the application's.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mapper: Mapper[Any] | None = None
        self._shared: SharedSession | None = None

    @property
    def source(self) -> Database:
        """The database that the unit's tables are on."""
        return self._part.database

    @property
    def transaction(self) -> Transaction:
        """What is known of the session's transaction."""
        return self._part.transaction

    def adopt(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        """Take notice of a table.

        Raises:
            MappingError: it is on another database than the unit's other tables; or rows that are written past the
                ORM would escape a listener of the application's.
        """
        if schema.model is None:
            raise MappingError(f"table {schema.name} has no mapped class, so it can be kept in memory only")
        mapper: Mapper[Any] = sa.inspect(schema.model)
        found = sorted(set(bypassed(self._session, mapper)))
        if found and not bypass_orm_events:
            raise MappingError(
                f"{schema.model.__name__} has what a repository would bypass: {', '.join(found)}. Rows are read and "
                "written past the ORM; say `bypass_orm_events = True` on the repository if that is right for it"
            )
        shared = SharedSession.of(self._session, mapper)
        if self._shared is not None and shared is not self._shared:
            raise MappingError(f"table {schema.name} is on another database than the unit's other tables")
        self._shared = shared
        shared.database.adopt(schema)

    def driver(self) -> Driver:
        """Give the session's connection, with all that its transaction has done."""
        return self._part.driver()

    def on_commit(self, callback: Callback) -> None:
        """Call a function after the session's commit."""
        if not self._session.in_transaction():
            self._session.begin()  # as its first statement would; or a rollback would have nothing to tell of
        self._part.transaction.on_commit(callback)

    @property
    def _part(self) -> SharedSession:
        if self._shared is None:
            self._shared = SharedSession.of(self._session, None)
        return self._shared


class SharedSession:
    """What all units know that have joined a session, on one of its databases.

    Attributes:
        database: it.
        transaction: what is known of the session's transaction.
    """

    @classmethod
    def of(cls, session: Session, mapper: Mapper[Any] | None) -> SharedSession:
        """Give the one on the database that a class is mapped to.

        Raises:
            UnsupportedError: the session does not say which.
        """
        # A session that chooses by statement shall choose the database that takes writes.
        arguments = (
            {} if mapper is None else {"mapper": mapper, "clause": sa.update(cast(sa.Table, mapper.local_table))}
        )
        try:
            engine: sa.Engine = session.get_bind(**cast(Any, arguments)).engine
        except exc.UnboundExecutionError as error:
            which = "it is" if mapper is None else f"{mapper.class_.__name__} is"
            raise UnsupportedError(f"the session does not say on which database {which}; give it a bind") from error
        kept: dict[sa.Engine, SharedSession] = session.info.setdefault(_KEPT, {})
        if engine not in kept:
            kept[engine] = cls(session, _database(engine), arguments)
        return kept[engine]

    def __init__(self, session: Session, database: Database, arguments: dict[str, Any]) -> None:
        self._session = session
        self._arguments = arguments
        self._driver: JoinedDriver | None = None
        self._committed = False
        self.database = database
        self.transaction = Transaction()
        for nested in reversed(list(_nested(session))):
            self.transaction.open_savepoint(_announced(nested))
        event.listen(session, "after_transaction_create", self._begun)
        event.listen(session, "before_commit", self._ending)
        event.listen(session, "after_commit", self._ended)
        event.listen(session, "after_transaction_end", self._over)

    def connection(self) -> sa.Connection:
        """The session's connection, in its innermost savepoint."""
        return self._session.connection(bind_arguments=dict(self._arguments))

    def driver(self) -> JoinedDriver:
        """The driver on the session's connection of now."""
        connection = _reached(self.connection, self.database)
        if self._driver is None:
            self._driver = JoinedDriver(self.database, connection, self.transaction, self._session, self.connection)
        return self._driver

    # A session announces a savepoint, and sets it with its next statement; what is registered meanwhile goes with it.

    def _begun(self, _: Session, begun: SessionTransaction) -> None:
        if begun.nested:
            self.transaction.open_savepoint(_announced(begun))

    def _ending(self, session: Session) -> None:
        """Refuse to commit what PostgreSQL would report committed, and drop."""
        if self.transaction.fatal is not None or not session.in_nested_transaction():
            self.transaction.check()

    def _ended(self, session: Session) -> None:
        nested = session.get_nested_transaction()
        if nested is not None:
            self.transaction.close_savepoint(_announced(nested))
        self._committed = nested is None

    def _over(self, _: Session, ended: SessionTransaction) -> None:
        if ended.nested:
            self.transaction.roll_back_savepoint(_announced(ended))  # unless it was kept, as `_ended` has heard
        if ended.parent is not None:
            return
        transaction, committed, driver = self.transaction, self._committed, self._driver
        self.transaction, self._committed, self._driver = Transaction(), False, None
        if driver is not None:
            driver.leave()
        if committed:
            run_callbacks(transaction.callbacks)


class JoinedConnection:
    """A connection that units take part in.

    Args:
        connection: the application's.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._database = _database(connection.engine)
        self._driver: JoinedDriver | None = None
        self._transaction = Transaction()

    @property
    def source(self) -> Database:
        """The database it is a connection of."""
        return self._database

    @property
    def transaction(self) -> Transaction:
        """What is known of the connection's transaction."""
        if self._driver is not None and self._driver.over:
            self._driver, self._transaction = None, Transaction()
        return self._transaction

    def adopt(self, schema: Schema, *, bypass_orm_events: bool) -> None:
        """Take notice of a table; there is no ORM here that could be bypassed."""
        self._database.adopt(schema)

    def driver(self) -> Driver:
        """Give the connection."""
        transaction = self.transaction
        if self._driver is None:
            self._driver = JoinedDriver(self._database, self._connection, transaction, None, lambda: self._connection)
        return self._driver

    def on_commit(self, callback: Callback) -> None:
        """Refuse: a connection does not tell that it has committed."""
        raise UnsupportedError("a connection does not tell that it has committed; join a Session to use on_commit")


class JoinedDriver(SQLAlchemyDriver):
    """A connection of the application's, within a transaction of the application's.

    Args:
        database: what is known of the connection's engine.
        connection: it.
        transaction: where failures and savepoints are reported.
        session: whose connection it is, if it is a session's.
        reach: gives the connection again, with a savepoint on it that the session has announced only.

    Attributes:
        over: whether the application has ended it.
    """

    def __init__(
        self,
        database: Database,
        connection: sa.Connection,
        transaction: Transaction,
        session: Session | None,
        reach: Callable[[], sa.Connection],
    ) -> None:
        super().__init__(database, connection, transaction, read_only=False)
        self._session = session
        self._reach = reach
        self._count: int = getattr(connection, "_Connection__savepoint_seq", 0)  # savepoints of before have numbers too
        self._ends_with_session = session is not None
        self.over = False
        self._guarded(self._join)

    def on_event(self, event: str, savepoint: str | None) -> None:
        """Note what happened to savepoints; the end is the application's to choose."""
        if event == "rollback_savepoint" and not self._transaction.has_savepoint(savepoint or ""):
            if self._session is None or not any(_nested(self._session)):
                self._transaction.restart()  # it was set before the unit had joined, so all of the unit's is undone
        elif event not in ("commit", "rollback"):
            super().on_event(event, savepoint)
        elif not self._ends_with_session:
            if event == "commit":
                self._flush()  # what waits in a session that the connection's owner knows nothing of
            self.leave()

    def leave(self) -> None:
        """Take no part any more."""
        self.over = True
        unsubscribe(self._connection, self)
        if isinstance(self._session, UnitSession) and not self._ends_with_session:
            self._session.leave()

    def _join(self) -> None:
        if not self._connection.in_transaction():
            self._connection.begin()  # as its first statement would; or a rollback would have nothing to tell of
        self._database.dialect.inspect_server(self._connection, foreign=True)
        self._database.dialect.join(self._connection)
        subscribe(self._connection, self)

    def _begin_nested(self) -> sa.NestedTransaction | SessionTransaction:
        nested = super()._begin_nested()
        self._reach()
        return nested

    def _flush(self) -> None:
        self._reach()
        super()._flush()


def _nested(session: Session) -> Iterator[SessionTransaction]:
    """The session's savepoints, those it has announced only included; the innermost first."""
    nested = session.get_nested_transaction()
    while nested is not None and nested.nested:
        yield nested
        nested = nested.parent


def _announced(nested: SessionTransaction) -> str:
    return f"announced_{id(nested)}"


def _reached(reach: Callable[[], sa.Connection], database: Database) -> sa.Connection:
    try:
        return reach()
    except exc.InvalidRequestError as error:  # what the session itself refuses
        reason: Literal["busy", "not_open"] = "busy" if error.code == "isce" else "not_open"
        raise UnitStateError(reason, "the session that was joined says why, as the cause") from error
    except Exception as error:
        known = translated(error, database.tables)
        if known is None:
            raise
        raise known from error


def _database(engine: sa.Engine) -> Database:
    if _KEPT not in engine.__dict__:
        engine.__dict__[_KEPT] = Database.over(Engines(engine, asynchronous=engine.dialect.is_async))
    return cast(Database, engine.__dict__[_KEPT])

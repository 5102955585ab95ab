"""Databases with asynchronous drivers, and units and repositories with their own SQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session
from typing_extensions import TypeVar as TypeVarWithDefault

from sqlrepo.core.aggregates import Found
from sqlrepo.core.aio import AsyncBaseRepository, AsyncBaseUnitOfWork
from sqlrepo.core.repository import BaseRepository
from sqlrepo.core.selection import NOT_GIVEN, select
from sqlrepo.core.unit import BaseUnitOfWork
from sqlrepo.driver import Callback, Driver
from sqlrepo.errors import UnsupportedError
from sqlrepo.language.fields import OrderBy
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorKey, Page
from sqlrepo.sqlalchemy.connecting import cancel_safe_options
from sqlrepo.sqlalchemy.database import Database, Engines
from sqlrepo.sqlalchemy.driver import SQLAlchemyDriver, split_elements
from sqlrepo.sqlalchemy.session import UnitSession

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession


R = TypeVar("R")

# The key under which a session stores the asynchronous session over it.
_ASYNC_SESSION = "sqlrepo_async"


class AsyncDatabase:
    """Connect async units of work to a database. Make one per process and share it; see `Database`.

    Args:
        url: a SQLAlchemy URL that names an async driver, or an async engine of your application, whose settings stay
            as they are.
        ping: test each connection before use, at the price of one round trip.
        isolation: the isolation level, if not the default.
        cursor_key: signs the cursors of `scroll`, as for `Database`.

    Raises:
        UnsupportedError: the database is not known to this library, or its driver or greenlet is not installed.
        ValueError: a ``cursor_key`` is too short, or there is none in the sequence.
    """

    def __init__(
        self,
        url: str | sa.URL | AsyncEngine,
        *,
        ping: bool = True,
        isolation: str | None = None,
        cursor_key: CursorKey | None = None,
    ) -> None:
        given: Any = url
        _require_greenlet()
        made = given if isinstance(given, str | sa.URL) else getattr(given, "sync_engine", None)
        if made is None:
            raise UnsupportedError(f"AsyncDatabase takes a URL or an AsyncEngine, not {type(given).__name__}")
        self._engine: AsyncEngine | None = None if isinstance(given, str | sa.URL) else given
        engines = Engines(made, ping=ping, isolation=isolation, cursor_key=cursor_key, asynchronous=True, make=_make)
        self._source = Database.from_engines(engines)

    def __repr__(self) -> str:
        return f"Async{self._source!r}"

    @property
    def engine(self) -> AsyncEngine:
        """The engine for units that may write; create your tables with it."""
        from sqlalchemy.ext.asyncio import AsyncEngine

        if self._engine is None:
            self._engine = AsyncEngine(self._source.engine)
        return self._engine

    @property
    def max_connections(self) -> int | None:
        """The number of units that can have a connection at once; None if there is no limit."""
        return self._source.max_connections

    @property
    def pool_timeout(self) -> float | None:
        """The number of seconds that a unit waits for a free connection; None if it never has to wait."""
        return self._source.pool_timeout

    @property
    def source(self) -> Database:
        """The synchronous database beneath; use it inside `call` only."""
        return self._source

    @property
    def isolation(self) -> str:
        """The isolation of units; see `Database.isolation`."""
        return self._source.isolation

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous function in a greenlet, and await its calls to the database."""
        return await _spawn(work)

    async def dispose(self) -> None:
        """Close all pooled connections; the database can be used again afterwards."""
        await self.call(self._source.dispose)


class JoinedAwaitable:
    """An asynchronous session or connection of the application, whose transaction async units join."""

    def __init__(self, given: AsyncSession | AsyncConnection) -> None:
        self.given = given

    @property
    def source(self) -> Session | sa.Connection:
        """The synchronous session or connection beneath; use it inside `call` only."""
        found: Session | sa.Connection | None = getattr(self.given, "sync_session", None)
        found = found or getattr(self.given, "sync_connection", None)
        if found is None:
            raise UnsupportedError("this AsyncConnection has not been started; await it, or use `async with`")
        return found

    async def call(self, work: Callable[[], R]) -> R:
        """Run a synchronous function in a greenlet, and await its calls to the database."""
        return await _spawn(work)

    def to_sync_callback(self, callback: Callable[[], Any]) -> Callback:
        """Wrap a callback that may be async: a session ends its transaction, and calls callbacks, in a greenlet."""
        from sqlalchemy.util import await_only

        def call() -> Any:
            result = callback()
            return await_only(result) if isawaitable(result) else result

        return call


def session_of(unit: AsyncBaseUnitOfWork[Any]) -> AsyncSession:
    """Return the session of an async unit's transaction, which connects at its first statement."""
    from sqlalchemy.ext.asyncio import AsyncSession

    source, work = unit._work.source, unit._work.sync_work
    if isinstance(source, JoinedAwaitable) and isinstance(source.given, AsyncSession):
        return source.given
    if not isinstance(source, AsyncDatabase | JoinedAwaitable):
        return cast(AsyncSession, work.unwrap("session"))  # which memory refuses
    transaction = work.require_transaction()
    if transaction.attached is None:
        transaction.attached = UnitSession(lambda: work.run(lambda _: None))
    beneath = cast(UnitSession, transaction.attached)
    if _ASYNC_SESSION not in beneath.info:
        beneath.info[_ASYNC_SESSION] = AsyncSession(sync_session_class=cast(Any, lambda **_: beneath))
    return cast(AsyncSession, beneath.info[_ASYNC_SESSION])


def join_async(given: Any) -> JoinedAwaitable | None:
    """Join an asynchronous session or connection; None if it is neither, UnsupportedError if it is synchronous."""
    if is_async(given):
        scoped = not hasattr(given, "sync_session") and not hasattr(given, "sync_connection")
        return JoinedAwaitable(given() if scoped else given)
    if isinstance(given, Session | sa.Connection | scoped_session):
        raise UnsupportedError(f"{type(given).__name__} is synchronous; use a sync unit of work or repository")
    return None


def is_async(given: object) -> bool:
    """Return True for an asynchronous session or connection; compares names, because the classes need greenlet."""
    names = ("AsyncSession", "AsyncConnection", "async_scoped_session")
    bases = type(given).__mro__
    return any(base.__name__ in names and base.__module__.startswith("sqlalchemy.") for base in bases)


async def _spawn(work: Callable[[], R]) -> R:
    from sqlalchemy.util import greenlet_spawn

    return await greenlet_spawn(work)


def _make(url: sa.URL, **options: Any) -> sa.Engine:
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, hide_parameters=True, **cancel_safe_options(url), **options).sync_engine


def _require_greenlet() -> None:
    if find_spec("greenlet") is None:  # which SQLAlchemy would miss at the first statement
        raise UnsupportedError('async units need greenlet; pip install "sqlrepo-uow[asyncio]"')


T = TypeVar("T")
K = TypeVar("K")
C = TypeVarWithDefault("C", default=None)


class SQLAlchemyRepository(BaseRepository[T, K], Generic[T, K]):
    """A repository that can run its own SQL beside the common methods."""

    @property
    def session(self) -> Session:
        """A session on the unit of work's connection; the unit commits, not the session.

        Raises:
            UnsupportedError: the repository runs in memory.
        """
        return cast(Session, self.unit._work.unwrap("session"))

    @property
    def connection(self) -> Connection:
        """The unit of work's connection, in its transaction.

        Raises:
            UnsupportedError: the repository runs in memory.
        """
        return cast(Connection, self.unit._work.unwrap("connection"))

    def select(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = NOT_GIVEN, **equals: Any
    ) -> sa.Select[Any]:
        """Begin a statement of your own: a SELECT of the mapped class, or of a `Table`'s columns, within the scope.

        Args:
            criteria: as in `find`; a query object's limit and offset are ignored.
            order_by: as in `find`; by default the statement has no order.
            equals: fields and the values they must have; None is NULL.

        Raises:
            UnsupportedError: the repository runs in memory.
        """
        if self._config.ambiguous:
            self._config.refuse_ambiguous("select", order_by=order_by)
        call = self._begin()
        selection = select(call, criteria, equals, order_by=order_by)
        request = selection.and_also(call.scope.rows).fetch(self._mapper.selected, None)
        given = (order_by, *(getattr(one, "order_by", None) for one in criteria if isinstance(one, QueryObject)))
        order = request.order if any(one is not None and one is not NOT_GIVEN for one in given) else ()
        return self._read(call, lambda driver: _sql(driver).begin_statement(self._schema, request.where, order))

    def load(self, statement: sa.Select[Any]) -> list[T]:
        """Run a statement, such as one begun by `select`, and return its entities, parts included.

        Args:
            statement: its first element is the mapped class, an alias of it, or a column of the table.

        Raises:
            QueryError: the first element is something else.
            UnsupportedError: the repository runs in memory.
        """
        split_elements(self._schema, (), statement)  # checks it

        def work(driver: Driver) -> Found:
            rows = _sql(driver).fetch_statement(self._schema, self._mapper.selected, statement)
            return self._aggregate.load(driver, rows)

        return self._load(self._read(self._begin(), work))

    def load_page(self, statement: sa.Select[Any], limit: int, offset: int = 0, *, with_total: bool = False) -> Page[T]:
        """Return a page of a statement's entities, in the order of the statement and then of the key; see `load`."""
        split_elements(self._schema, (), statement)
        self._mapper.require_key()
        call = self._begin()
        select(call, (), {}, limit=limit, offset=offset)  # checks both

        def work(driver: Driver) -> tuple[Found, bool, int | None]:
            sql, page = _sql(driver), (limit + 1, offset)
            rows = sql.fetch_statement(self._schema, self._mapper.selected, statement, page)
            total = sql.count_statement(statement) if with_total else None
            return self._aggregate.load(driver, rows[:limit]), len(rows) > limit, total

        found, more, total = self._read(call, work)
        return Page(self._load(found), more, total)


class SQLAlchemyUnitOfWork(BaseUnitOfWork[C]):
    """A unit of work with public access to its session and connection."""

    @property
    def session(self) -> Session:
        """A session on the unit's connection; the unit commits, not the session."""
        return cast(Session, self._work.unwrap("session"))

    @property
    def connection(self) -> Connection:
        """The unit's connection, in its transaction."""
        return cast(Connection, self._work.unwrap("connection"))


# Its methods need no more of `self` than the repository beneath an async one has.
_Sync: Any = SQLAlchemyRepository


def _sql(driver: Driver) -> SQLAlchemyDriver:
    return cast(SQLAlchemyDriver, driver.unwrap("SQL"))


class AsyncSQLAlchemyRepository(AsyncBaseRepository[T, K], Generic[T, K]):
    """An async repository that can run its own SQL beside the common methods."""

    @property
    def session(self) -> AsyncSession:
        """A session on the unit of work's connection; the unit commits, not the session.

        Raises:
            UnsupportedError: the repository runs in memory.
        """
        return session_of(self.unit)

    async def connection(self) -> AsyncConnection:
        """Return the unit of work's connection, in its transaction; connects if need be."""
        return await self.session.connection()

    async def select(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = NOT_GIVEN, **equals: Any
    ) -> sa.Select[Any]:
        """See `SQLAlchemyRepository.select`."""
        return await self._call(partial(_Sync.select, self._body), *criteria, order_by=order_by, **equals)

    async def load(self, statement: sa.Select[Any]) -> list[T]:
        """See `SQLAlchemyRepository.load`."""
        return await self._call(_Sync.load, self._body, statement)

    async def load_page(
        self, statement: sa.Select[Any], limit: int, offset: int = 0, *, with_total: bool = False
    ) -> Page[T]:
        """See `SQLAlchemyRepository.load_page`."""
        return await self._call(_Sync.load_page, self._body, statement, limit, offset, with_total=with_total)


class AsyncSQLAlchemyUnitOfWork(AsyncBaseUnitOfWork[C]):
    """An async unit of work with public access to its session and connection."""

    @property
    def session(self) -> AsyncSession:
        """A session on the unit's connection; the unit commits, not the session."""
        return session_of(self)

    async def connection(self) -> AsyncConnection:
        """Return the unit's connection, in its transaction; connects if need be."""
        return await self.session.connection()

"""The bases for people who write SQL in their repositories.

Knows only how `.session` and `.connection` are asked for. Must not add anything else: a repository that does not use
them runs on memory too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from typing_extensions import TypeVar as TypeVarWithDefault

from sqlrepo._aio.repository import AsyncBaseRepository
from sqlrepo._aio.unit import AsyncBaseUnitOfWork
from sqlrepo._base.repository import BaseRepository
from sqlrepo._base.unit import BaseUnitOfWork
from sqlrepo.sqlalchemy.aio import session_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

__all__ = ["AsyncSQLAlchemyRepository", "AsyncSQLAlchemyUnitOfWork", "SQLAlchemyRepository", "SQLAlchemyUnitOfWork"]

T = TypeVar("T")
K = TypeVar("K")
C = TypeVarWithDefault("C", default=None)


class SQLAlchemyRepository(BaseRepository[T, K], Generic[T, K]):
    """A repository with SQL of its own beside the common methods."""

    @property
    def session(self) -> Session:
        """A session on the unit of work's connection; the unit commits, not the session.

        Raises:
            UnsupportedError: the repository runs on memory.
        """
        return cast(Session, self.unit.native("session"))

    @property
    def connection(self) -> Connection:
        """The unit of work's connection, begun.

        Raises:
            UnsupportedError: the repository runs on memory.
        """
        return cast(Connection, self.unit.native("connection"))


class SQLAlchemyUnitOfWork(BaseUnitOfWork[C]):
    """A unit of work that shows its session and connection."""

    @property
    def session(self) -> Session:
        """A session on the unit's connection; the unit commits, not the session."""
        return cast(Session, self.native("session"))

    @property
    def connection(self) -> Connection:
        """The unit's connection, begun."""
        return cast(Connection, self.native("connection"))


class AsyncSQLAlchemyRepository(AsyncBaseRepository[T, K], Generic[T, K]):
    """An async repository with SQL of its own beside the common methods."""

    @property
    def session(self) -> AsyncSession:
        """A session on the unit of work's connection; the unit commits, not the session.

        Raises:
            UnsupportedError: the repository runs on memory.
        """
        return session_of(self.unit)

    async def connection(self) -> AsyncConnection:
        """Give the unit of work's connection, begun; a method, because it may have to be waited for."""
        return await self.session.connection()


class AsyncSQLAlchemyUnitOfWork(AsyncBaseUnitOfWork[C]):
    """An async unit of work that shows its session and connection."""

    @property
    def session(self) -> AsyncSession:
        """A session on the unit's connection; the unit commits, not the session."""
        return session_of(self)

    async def connection(self) -> AsyncConnection:
        """Give the unit's connection, begun."""
        return await self.session.connection()

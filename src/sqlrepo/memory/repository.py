"""The bases with a store of their own, for tests and programs that need no database.

Knows only that a source may be left out. Must not know how the store works.
"""

from __future__ import annotations

from typing import Any, TypeVar

from typing_extensions import TypeVar as TypeVarWithDefault

from sqlrepo._aio.repository import AsyncBaseRepository
from sqlrepo._aio.unit import AsyncBaseUnitOfWork
from sqlrepo._base.repository import BaseRepository
from sqlrepo._base.unit import BaseUnitOfWork
from sqlrepo.errors import UnsupportedError
from sqlrepo.memory.database import InMemoryDatabase

__all__ = ["AsyncInMemoryRepository", "AsyncInMemoryUnitOfWork", "InMemoryRepository", "InMemoryUnitOfWork"]

T = TypeVar("T")
K = TypeVar("K")
C = TypeVarWithDefault("C", default=None)

_NOTHING: Any = None


class InMemoryUnitOfWork(BaseUnitOfWork[C]):
    """A unit of work on memory; each has a store of its own unless one is given."""

    def __init__(
        self, source: InMemoryDatabase | None = None, *, read_only: bool = False, context: C = _NOTHING
    ) -> None:
        super().__init__(_memory(type(self), source), read_only=read_only, context=context)


class InMemoryRepository(BaseRepository[T, K]):
    """A repository on memory; each has a store of its own unless one is given."""

    def __init__(self, source: InMemoryDatabase | BaseUnitOfWork[Any] | None = None, *, context: Any = None) -> None:
        given = source if isinstance(source, BaseUnitOfWork) else _memory(type(self), source)
        super().__init__(given, context=context)


class AsyncInMemoryUnitOfWork(AsyncBaseUnitOfWork[C]):
    """An async unit of work on memory; each has a store of its own unless one is given."""

    def __init__(
        self, source: InMemoryDatabase | None = None, *, read_only: bool = False, context: C = _NOTHING
    ) -> None:
        super().__init__(_memory(type(self), source), read_only=read_only, context=context)


class AsyncInMemoryRepository(AsyncBaseRepository[T, K]):
    """An async repository on memory; each has a store of its own unless one is given."""

    def __init__(
        self, source: InMemoryDatabase | AsyncBaseUnitOfWork[Any] | None = None, *, context: Any = None
    ) -> None:
        given = source if isinstance(source, AsyncBaseUnitOfWork) else _memory(type(self), source)
        super().__init__(given, context=context)


def _memory(cls: type, source: Any) -> InMemoryDatabase:
    if source is not None and not isinstance(source, InMemoryDatabase):
        raise UnsupportedError(f"{cls.__name__} runs on memory only, not on {type(source).__name__}")
    return InMemoryDatabase() if source is None else source

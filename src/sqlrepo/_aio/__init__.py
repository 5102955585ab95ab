"""The asynchronous skin over the portable half: the same methods, awaited."""

from sqlrepo._aio.repository import AsyncBaseRepository
from sqlrepo._aio.retrying import retry_async
from sqlrepo._aio.unit import AsyncBaseUnitOfWork

__all__ = ["AsyncBaseRepository", "AsyncBaseUnitOfWork", "retry_async"]

"""Running a whole asynchronous unit of work again after an error that may not come twice.

Knows how to wait without holding up the loop. Must not know which pauses: those are `_base.retrying`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlrepo._aio.unit import AsyncBaseUnitOfWork
from sqlrepo._base.retrying import pauses, worth_another
from sqlrepo.errors import RepositoryError

__all__ = ["retry_async"]

U = TypeVar("U", bound=AsyncBaseUnitOfWork[Any])
R = TypeVar("R")


async def retry_async(make: Callable[[], U], work: Callable[[U], Awaitable[R]], *, attempts: int = 3) -> R:
    """Do something in an async unit of work, and all of it again after an error that says it may help; see `retry`.

    Args:
        make: makes the unit of work, ``lambda: Shop(db)``.
        work: what is done in it, an async function of the open unit.
        attempts: how often it is tried at most.

    Returns:
        what ``work`` gave in the attempt that was committed.

    Raises:
        RepositoryError: one that is not retryable, or the last attempt's.
    """
    for pause in pauses(attempts):
        try:
            async with make() as unit:
                return await work(unit)
        except RepositoryError as error:
            if not worth_another(error, pause):
                raise
            await asyncio.sleep(pause)
    async with make() as unit:
        return await work(unit)

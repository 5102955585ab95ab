"""Running a whole unit of work again after an error that may not come twice.

Knows which errors those are, and how long to wait. Must not know what the unit does.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlrepo._base.unit import BaseUnitOfWork
from sqlrepo.errors import RepositoryError
from sqlrepo.transaction import settled

__all__ = ["pauses", "retry", "worth_another"]

U = TypeVar("U", bound=BaseUnitOfWork[Any])
R = TypeVar("R")

_log = logging.getLogger("sqlrepo")

_FIRST_PAUSE = 0.02  # seconds
_LONGEST_PAUSE = 1.0


def retry(make: Callable[[], U], work: Callable[[U], R], *, attempts: int = 3) -> R:
    """Do something in a unit of work, and do all of it again after an error that says it may help.

    Each attempt gets a unit of its own, commit included, so nothing of a failed one is left. What the function does
    outside the unit it does again as well; leave that to `on_commit`. The pauses between grow and are jittered
    ("full jitter", Marc Brooker, AWS Architecture Blog), so that those who met do not meet again.

    Args:
        make: makes the unit of work, ``lambda: Shop(db)``.
        work: what is done in it, given the open unit.
        attempts: how often it is tried at most.

    Returns:
        what ``work`` gave in the attempt that was committed.

    Raises:
        RepositoryError: one that is not retryable, or the last attempt's.
        UnsupportedError: ``work`` is an async function; see `retry_async`.
    """
    for pause in pauses(attempts):
        try:
            with make() as unit:
                return settled(work(unit))
        except RepositoryError as error:
            if not worth_another(error, pause):
                raise
            time.sleep(pause)
    with make() as unit:
        return settled(work(unit))


def worth_another(error: RepositoryError, pause: float) -> bool:
    """Whether to try again after an error, which is then logged."""
    if error.retryable:
        _log.debug("the unit of work is run again in %.3f s: %s", pause, type(error).__name__)
    return error.retryable


def pauses(attempts: int) -> Iterator[float]:
    """The seconds to wait between so many attempts; nothing follows the last."""
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; there is one at least")
    for number in range(attempts - 1):
        yield random.uniform(0, min(_FIRST_PAUSE * 2**number, _LONGEST_PAUSE))  # noqa: S311  # no secret

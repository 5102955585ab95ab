"""Another unit of work beside the case's own.

Knows threads and how long to wait. Must not know what either unit does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from sqlrepo import RepositoryError

__all__ = ["Rival"]

R = TypeVar("R")

# How long a unit is given that can go on, and one that is expected to wait for another, in seconds.
_SOON = 5.0
_A_WHILE = 0.1


class Rival(Generic[R]):
    """Another unit of work, in another thread.

    Args:
        submit: starts it.
    """

    def __init__(self, submit: Callable[[], Future[R]]) -> None:
        self._submit = submit
        self._future: Future[R] | None = None

    def start(self, *, free: bool) -> bool:
        """Start it, and give it time.

        Args:
            free: whether the backend's capabilities say that it need not wait for the caller's unit.

        Returns:
            whether it has ended.
        """
        self._future = self._submit()
        return not wait([self._future], _SOON if free else _A_WHILE).not_done

    def held_back(self) -> bool:
        """Whether it waits, or was refused so that it may try again."""
        if self._future is None or not self._future.done():
            return True
        return isinstance(self.error, RepositoryError) and self.error.retryable

    @property
    def error(self) -> BaseException | None:
        """What it ended with, once it has ended."""
        assert self._future is not None, "it was not started"
        return self._future.exception()

    @property
    def result(self) -> R:
        """What it gave, once it has ended."""
        assert self._future is not None, "it was not started"
        return self._future.result()

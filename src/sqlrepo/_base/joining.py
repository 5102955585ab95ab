"""Taking part in a transaction that the application has already.

Knows what a session or a connection looks like from outside. Must not know SQLAlchemy: what joins one is looked for
only when one is given.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from sqlrepo.driver import AsyncSource, Joined, is_source
from sqlrepo.errors import UnsupportedError

__all__ = ["joined", "joined_async"]


def joined(given: Any, unit: str) -> Joined | None:
    """Make of what a unit is given what it joins; None of a `Database` or an `InMemoryDatabase`.

    Raises:
        UnsupportedError: it is neither, or for async units.
    """
    if is_source(given):
        return None
    found = _join("sqlrepo.sqlalchemy.joined", "join", given)
    if found is None:
        raise UnsupportedError(
            f"{unit} needs a Database, an InMemoryDatabase, or a Session or Connection to join, got "
            f"{type(given).__name__}; make one Database(url) per process and give it to every unit"
        )
    return cast(Joined, found)


def joined_async(given: Any, unit: str) -> AsyncSource:
    """Make of what an async unit is given what it gets its transactions from.

    Raises:
        UnsupportedError: it is nothing of the sort, or for sync units.
    """
    found = given if isinstance(given, AsyncSource) else _join("sqlrepo.sqlalchemy.aio", "join_async", given)
    if found is None:
        raise UnsupportedError(
            f"{unit} needs an AsyncDatabase, an InMemoryDatabase, or an AsyncSession or AsyncConnection to join, got "
            f"{type(given).__name__}"
        )
    return cast(AsyncSource, found)


def _join(module: str, how: str, given: Any) -> Any:
    """Ask the twin that knows sessions; its import is late because only who has a session has SQLAlchemy."""
    if not callable(getattr(given, "begin_nested", None)):
        return None
    return getattr(import_module(module), how)(given)

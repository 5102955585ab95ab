"""The databases an application gives: each itself, or a function that makes it.

Knows that such a function is called once. Must not know what a database is used for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, TypeAlias, Union
from weakref import WeakKeyDictionary

from sqlrepo import UnsupportedError
from sqlrepo.forks import Guard

if TYPE_CHECKING:
    from sqlrepo.memory import InMemoryDatabase
    from sqlrepo.sqlalchemy import AsyncDatabase, Database

__all__ = ["Given", "Store", "checked", "found", "resolved"]

Store: TypeAlias = Union["Database", "AsyncDatabase", "InMemoryDatabase"]

#: What an application gives for one.
Given: TypeAlias = Union[Store, Callable[[], Store]]  # noqa: UP007  # quoted names know no |

_MADE: WeakKeyDictionary[Callable[[], Store], Store] = WeakKeyDictionary()
_GUARD = Guard()


def checked(given: Given) -> Given:
    """Refuse what is no database, and no plain function either.

    Raises:
        UnsupportedError: it is neither.
    """
    asynchronous = any(test(given) for test in (iscoroutinefunction, isasyncgenfunction, isgeneratorfunction))
    if asynchronous or not (callable(given) or _is_store(given)):
        raise UnsupportedError(
            f"{given!r} is neither a Database, an AsyncDatabase or an InMemoryDatabase, nor a plain function that "
            "returns one"
        )
    return given


def found(given: Given) -> Store | None:
    """The database, if it has been made already."""
    if not callable(given):
        return given
    return _MADE.get(given)


async def resolved(given: Given) -> Store:
    """The database; a function is called at first use, once in the process, and in a thread, for it may block.

    Raises:
        UnsupportedError: the function returned something else.
    """
    store = found(given)
    return store if store is not None else await asyncio.to_thread(_make, given)


def _make(given: Given) -> Store:
    assert callable(given)
    with _GUARD.lock:
        if given not in _MADE:
            made = given()
            if not _is_store(made):
                raise UnsupportedError(f"{given!r} returned {type(made).__name__}, which is no database")
            _MADE[given] = made
        return _MADE[given]


def _is_store(given: object) -> bool:
    return all(hasattr(type(given), name) for name in ("capacity", "patience", "dispose"))

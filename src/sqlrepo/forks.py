"""Notification of objects when the process forks, and the parent's objects that a child must not collect."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from itertools import count
from threading import Lock, get_ident
from typing import Any, cast
from weakref import WeakValueDictionary


class ForkAware:
    """An object that must act when the process forks: it has connections, locks or rows."""

    __slots__ = ("__weakref__",)

    def before_fork(self) -> None:
        """Prepare for a fork, in the process that is about to fork."""

    def after_fork_in_parent(self) -> None:
        """Resume in the process that forked."""

    def after_fork(self) -> None:
        """Start over in the child, before anything else happens there."""


# Weak, in order of registration. `valuerefs()` copies in one step, whatever other threads register meanwhile.
_OWNERS: WeakValueDictionary[int, ForkAware] = WeakValueDictionary()
_NUMBERS = count()

# By thread, the owners that are prepared for its fork; owners registered since have nothing to resume.
_PREPARED: dict[int, list[ForkAware]] = {}

# The process id as of the last fork that was noticed.
pid = os.getpid()
_pid_lock = Lock()


def at_fork(owner: ForkAware) -> None:
    """Call an owner's methods whenever the process forks, for as long as the owner lives."""
    _OWNERS[next(_NUMBERS)] = owner


def check_pid() -> None:
    """Notice a fork that bypassed Python: servers written in C, such as uWSGI, call fork(2) themselves."""
    if os.getpid() == pid:
        return
    with _pid_lock:  # other threads of the child wait until every owner has started over
        if os.getpid() != pid:
            _start_over()


class ForkSafeLock(ForkAware):
    """A lock that is replaced in a child, where the thread that held it does not exist.

    Use ``with guard.lock:``, which releases the lock it acquired even if the process forks in between.
    """

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.after_fork()
        at_fork(self)

    def after_fork(self) -> None:
        self.lock = Lock()


class _Anchor(tzinfo):
    """Holds objects beyond the interpreter's exit.

    A module's list is emptied then, and connections in it would be closed. The garbage collector does not traverse
    datetimes, so a cycle through one is never collected.
    """

    def __init__(self) -> None:
        self.objects: list[object] = []
        self._cycle = datetime.min.replace(tzinfo=self)


_LEAKED: list[object] = cast(Any, _Anchor)().objects  # a checker takes tzinfo for abstract


def leak(*objects: object) -> None:
    """Never collect the parent's objects in a child, not even at exit: to collect a connection is to close it."""
    _LEAKED.extend(objects)


def _prepare() -> None:
    owners = _PREPARED[get_ident()] = _owners()
    _call_all(owner.before_fork for owner in owners)


def _resume() -> None:
    _call_all(owner.after_fork_in_parent for owner in _PREPARED.pop(get_ident(), ()))


def _start_over() -> None:
    global pid  # noqa: PLW0603  # there is one process
    _PREPARED.clear()
    try:
        _call_all(owner.after_fork for owner in _owners())
    finally:
        pid = os.getpid()


def _owners() -> list[ForkAware]:
    return [owner for reference in _OWNERS.valuerefs() if (owner := reference()) is not None]


def _call_all(calls: Iterable[Callable[[], None]]) -> None:
    failures: list[Exception] = []
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # the other owners are called too; all errors are raised below
            failures.append(error)
    if failures:
        raise ExceptionGroup("the process forked, and some objects could not prepare or resume", failures)


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(before=_prepare, after_in_parent=_resume, after_in_child=_start_over)

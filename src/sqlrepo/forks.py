"""Forks of the process: who is told of one, and what a child leaves alone.

Knows how Python tells of a fork, and how one is noticed where it does not. Must not know what is told: connections,
locks, rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from inspect import ismethod
from threading import Lock
from typing import TypeAlias
from weakref import WeakMethod

__all__ = ["ForkSafeLock", "at_fork", "check_pid", "leak", "process"]

Call: TypeAlias = Callable[[], object]


class _Told:
    """What is called at one moment of a fork; a method only as long as its object lives."""

    def __init__(self) -> None:
        self._kept: list[Callable[[], Call | None]] = []

    def add(self, call: Call) -> None:
        self._kept.append(WeakMethod(call, self._kept.remove) if ismethod(call) else lambda: call)

    def __call__(self) -> None:
        _call_all(call for kept in tuple(self._kept) if (call := kept()) is not None)


_BEFORE, _PARENT, _CHILD = _Told(), _Told(), _Told()
_HEEDING = Lock()
_process = os.getpid()


def at_fork(*, before: Call | None = None, parent: Call | None = None, child: Call | None = None) -> None:
    """Call something whenever the process forks, a method as long as its object lives.

    Args:
        before: in the process that forks, before it does.
        parent: there, afterwards.
        child: in the new process, before anything else happens in it.
    """
    for told, call in ((_BEFORE, before), (_PARENT, parent), (_CHILD, child)):
        if call is not None:
            told.add(call)


def process() -> int:
    """The number of this process, by which a child tells what is its own."""
    return _process


def check_pid() -> None:
    """Notice a fork that Python was not told of: a server written in C may fork by itself, as uWSGI does."""
    if os.getpid() == _process:
        return
    with _HEEDING:  # others wait until everything has been told
        if os.getpid() != _process:
            _forked()


def leak(*things: object) -> None:
    """Keep what is the parent's from ever being collected in a child, even when the child ends.

    To collect a connection is to end it, and the server would take that for the parent's word.
    """
    from ctypes import py_object, pythonapi  # noqa: PLC0415  # for those only who fork

    for thing in things:
        pythonapi.Py_IncRef(py_object(thing))


class ForkSafeLock:
    """Has a lock, which in a child is another one: who held it when the process forked is not there to release it.

    Attributes:
        lock: what is held, by ``with guard.lock``.
    """

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self._renew()
        at_fork(child=self._renew)

    def _renew(self) -> None:
        self.lock = Lock()


def _forked() -> None:
    global _process  # noqa: PLW0603  # there is one process
    try:
        _CHILD()
    finally:
        _process = os.getpid()


def _call_all(calls: Iterable[Call]) -> None:
    """Call all of them, also where one raises."""
    failures: list[Exception] = []
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # the others must hear of the fork too; all are raised below
            failures.append(error)
    if failures:
        raise ExceptionGroup("the process forked, and not all of it took notice", failures)


if hasattr(os, "register_at_fork"):  # Windows knows no forks
    os.register_at_fork(before=_BEFORE, after_in_parent=_PARENT, after_in_child=_forked)

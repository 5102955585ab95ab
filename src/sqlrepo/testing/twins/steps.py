"""What a generated program is: units of work one after another, and the steps in them.

Knows the shape of programs. Must not know how they are generated, run or printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["Call", "End", "Leaving", "Meanwhile", "Program", "Savepoint", "Step", "Unit", "Walk"]

#: How a block is left: at its end, by an exception there, or by the first error that a step of it raises.
Leaving: TypeAlias = Literal["end", "exception", "first error"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a repository; arguments may be nodes."""

    repository: str
    method: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Walk:
    """Pages by cursor: the first, and from each to the next or back to the previous one."""

    repository: str
    query: Any
    moves: tuple[Literal["after", "before"], ...]


@dataclass(frozen=True, slots=True)
class End:
    """The end of a transaction before the end of its unit."""

    how: Literal["commit", "rollback"]


@dataclass(frozen=True, slots=True)
class Savepoint:
    """Steps inside a savepoint."""

    steps: tuple[Step, ...]
    leaving: Leaving = "end"


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work."""

    steps: tuple[Step, ...]
    leaving: Leaving = "end"
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Another unit of work, begun and ended while one is open that has not written yet."""

    unit: Unit


Step: TypeAlias = Call | Walk | End | Savepoint | Meanwhile
Program: TypeAlias = tuple[Unit, ...]

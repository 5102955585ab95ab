"""The choices that programs are made of; the same number makes the same ones.

Knows chance. Must not know what is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeVar

__all__ = ["Dice"]

T = TypeVar("T")


class Dice:
    """The choices of one program.

    Args:
        seed: what they depend on.
        given: entities of the user's strategies, by repository.
    """

    def __init__(self, seed: int, given: Mapping[str, Sequence[Any]]) -> None:
        self._random = Random(seed)  # noqa: S311  # no secret depends on it
        self._given = given

    def upto(self, most: int) -> int:
        """A number from 0."""
        return self._random.randrange(most + 1)

    def once_in(self, times: int) -> bool:
        """Yes, once in so many times."""
        return self._random.randrange(times) == 0

    def of(self, choices: Sequence[T]) -> T:
        """One of several."""
        return self._random.choice(choices)

    def several(self, make: Callable[[Dice], T], most: int, least: int = 0) -> list[T]:
        """A list of things that are made."""
        return [make(self) for _ in range(self._random.randint(least, most))]

    def given(self, repository: str) -> Any:
        """An entity of the user's strategy."""
        return self.of(self._given[repository])

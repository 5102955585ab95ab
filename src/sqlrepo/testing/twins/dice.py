"""Choices that Hypothesis makes, in the few forms that programs need; each shrinks to its first.

Knows Hypothesis. Must not know what is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st

__all__ = ["Dice", "strategy_of"]

T = TypeVar("T")


class Dice:
    """The choices of one example.

    Args:
        draw: what Hypothesis gives a composite strategy.
    """

    __slots__ = ("draw",)

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw

    def upto(self, most: int) -> int:
        """A number from 0."""
        number: int = self.draw(_numbers(most))
        return number

    def once_in(self, times: int) -> bool:
        """Yes, once in so many times."""
        return self.upto(times - 1) == times - 1

    def of(self, choices: Sequence[T]) -> T:
        """One of several."""
        return choices[self.upto(len(choices) - 1)]

    def several(self, make: Callable[[Dice], T], most: int, least: int = 0) -> list[T]:
        """A list, whose items Hypothesis can take away one by one."""
        made: list[T] = self.draw(st.lists(strategy_of(make), min_size=least, max_size=most))
        return made


@cache
def _numbers(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)


def strategy_of(make: Callable[[Dice], T]) -> st.SearchStrategy[T]:
    """What makes something of choices, as a strategy."""

    @st.composite
    def made(draw: Any) -> T:
        return make(Dice(draw))

    return made()

"""Shorter programs: what Hypothesis leaves, with steps taken away that do not matter.

Knows the shape of programs. Must not know how they are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from sqlrepo.testing.twins.steps import Meanwhile, Program, Savepoint, Step, Unit

__all__ = ["reduced"]

B = TypeVar("B", Unit, Savepoint)

# So many programs are tried at most; a short one is worth a few seconds, and not more.
_TRIES = 400


def reduced(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The shortest program found that fails, by taking away one thing after another.

    Args:
        program: one that fails.
        fails: runs a program.
    """
    tries = _TRIES
    candidates = _shorter_programs(program)
    while tries and (candidate := next(candidates, None)) is not None:
        tries -= 1
        if fails(candidate):
            program, candidates = candidate, _shorter_programs(candidate)
    return program


def _shorter_programs(program: Program) -> Iterator[Program]:
    for index, unit in enumerate(program):
        yield program[:index] + program[index + 1 :]
        yield from (program[:index] + (one,) + program[index + 1 :] for one in _shorter_blocks(unit))


def _shorter_blocks(block: B) -> Iterator[B]:
    if block.leaving != "end":
        yield replace(block, leaving="end")
    yield from (replace(block, steps=steps) for steps in _shorter_steps(block.steps))


def _shorter_steps(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for index, step in enumerate(steps):
        before, after = steps[:index], steps[index + 1 :]
        yield before + after
        match step:
            case Savepoint():
                yield before + step.steps + after
                yield from ((*before, one, *after) for one in _shorter_blocks(step))
            case Meanwhile(unit):
                yield from ((*before, Meanwhile(one), *after) for one in _shorter_blocks(unit))
            case _:
                pass

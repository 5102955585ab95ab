"""Shorter programs: what Hypothesis leaves, with steps taken away that do not matter.

Knows the shape of programs. Must not know how they are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from sqlrepo.testing.twins.nodes import Apply, Infix
from sqlrepo.testing.twins.steps import Call, Meanwhile, Program, Savepoint, Step, Unit

__all__ = ["reduced", "size"]

# What a call can do without.
_OPTIONAL = ("order_by", "limit", "offset", "into", "with_total", "update")
_ASKING = ("find", "first", "one", "one_or_none", "count", "exists", "stream")

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
        yield from ((*program[:index], one, *program[index + 1 :]) for one in _shorter_blocks(unit))


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
            case Call():
                yield from ((*before, one, *after) for one in _shorter_calls(step))
            case _:
                pass


def _shorter_calls(call: Call) -> Iterator[Call]:
    """The same call, asked or given less."""
    for name in call.options:
        if name in _OPTIONAL:
            yield replace(call, options={key: value for key, value in call.options.items() if key != name})
    if call.method in _ASKING:
        for index in range(len(call.arguments)):
            yield replace(call, arguments=call.arguments[:index] + call.arguments[index + 1 :])
    for index, argument in enumerate(call.arguments):
        for simpler in _simpler(argument):
            yield replace(call, arguments=(*call.arguments[:index], simpler, *call.arguments[index + 1 :]))


def _simpler(argument: Any) -> Iterator[Any]:
    match argument:
        case list():
            yield from (argument[:index] + argument[index + 1 :] for index in range(len(argument)))
        case Infix(left, "&" | "|", right):
            yield from (left, right)
            yield from (replace(argument, left=one) for one in _simpler(left))
            yield from (replace(argument, right=one) for one in _simpler(right))
        case Apply("not_", (part,)):
            yield from (part, *(Apply("not_", (one,)) for one in _simpler(part)))
        case _:
            pass


def size(program: Program) -> int:
    """How much there is of a program."""
    return sum(_weight(unit) for unit in program)


def _weight(step: Step | Unit) -> int:
    match step:
        case Unit(steps) | Savepoint(steps):
            return 1 + sum(map(_weight, steps))
        case Meanwhile(unit):
            return 1 + _weight(unit)
        case _:
            return 1

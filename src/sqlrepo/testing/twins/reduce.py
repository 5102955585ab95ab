"""Shorter programs: one that fails, without what does not matter.

Knows the shape of programs. Must not know how they are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from sqlrepo.testing.twins.nodes import Apply, Fresh, Infix, KeyOf, Make, made
from sqlrepo.testing.twins.steps import Call, Meanwhile, Program, Savepoint, Step, Unit

__all__ = ["reduced"]

# What a call can do without.
_OPTIONAL = ("order_by", "limit", "offset", "into", "with_total", "update")
_ASKING = ("find", "first", "one", "one_or_none", "count", "exists", "stream")

B = TypeVar("B", Unit, Savepoint)
T = TypeVar("T")

# So many programs are tried at most, for so many seconds; a short one is worth no more.
_TRIES = 1_000
_SECONDS = 20

_FEW = 3

Plain: TypeAlias = Mapping[type, Mapping[str, Any]]


def reduced(program: Program, fails: Callable[[Program], bool], plain: Plain) -> Program:
    """The shortest program found that fails, by taking away one thing after another.

    Args:
        program: one that fails.
        fails: runs a program.
        plain: the values of entities that are tried in the place of others.
    """
    tries, end = _TRIES, monotonic() + _SECONDS
    shorter = _Shorter(plain)
    candidates = shorter.programs(program)
    while tries and monotonic() < end and (candidate := next(candidates, None)) is not None:
        tries -= 1
        if fails(candidate):
            program, candidates = candidate, shorter.programs(candidate)
    return program


class _Shorter:
    """What can be left out.

    Args:
        plain: the values of entities that are tried in the place of others.
    """

    def __init__(self, plain: Plain) -> None:
        self._plain = plain

    def programs(self, program: Program) -> Iterator[Program]:
        """Programs that are a little shorter, those first that are so by much."""
        yield from _halves(program)
        for index in range(len(program)):
            yield program[:index] + program[index + 1 :]
        for index, unit in enumerate(program):
            yield from ((*program[:index], one, *program[index + 1 :]) for one in self._blocks(unit))

    def _blocks(self, block: B) -> Iterator[B]:
        if block.leaving != "end":
            yield replace(block, leaving="end")
        yield from (replace(block, steps=steps) for steps in self._steps(block.steps))

    def _steps(self, steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
        yield from _halves(steps)
        for index, step in enumerate(steps):
            before, after = steps[:index], steps[index + 1 :]
            yield before + after
            match step:
                case Savepoint():
                    yield before + step.steps + after
                    yield from ((*before, one, *after) for one in self._blocks(step))
                case Meanwhile(unit):
                    yield from ((*before, Meanwhile(one), *after) for one in self._blocks(unit))
                case Call():
                    yield from ((*before, one, *after) for one in self._calls(step))
                case _:
                    pass

    def _calls(self, call: Call) -> Iterator[Call]:
        """The same call, asked or given less."""
        for name in call.options:
            if name in _OPTIONAL:
                yield replace(call, options={key: value for key, value in call.options.items() if key != name})
        if call.method in _ASKING:
            for index in range(len(call.arguments)):
                yield replace(call, arguments=call.arguments[:index] + call.arguments[index + 1 :])
        for index, argument in enumerate(call.arguments):
            for simpler in self._simpler(argument):
                yield replace(call, arguments=(*call.arguments[:index], simpler, *call.arguments[index + 1 :]))

    def _simpler(self, argument: Any) -> Iterator[Any]:
        match argument:
            case list():
                yield from (argument[:index] + argument[index + 1 :] for index in range(len(argument)))
                for index, one in enumerate(argument):
                    yield from ([*argument[:index], other, *argument[index + 1 :]] for other in self._simpler(one))
            case Make(cls, values):
                for name, value in self._plain.get(cls, {}).items():
                    if values.get(name) != value and _can_be_made(cls, {**values, name: value}):
                        yield Make(cls, {**values, name: value})
            case Infix(left, "&" | "|", right):
                yield from (left, right)
                yield from (replace(argument, left=one) for one in self._simpler(left))
                yield from (replace(argument, right=one) for one in self._simpler(right))
            case Apply("not_", (part,)):
                yield from (part, *(Apply("not_", (one,)) for one in self._simpler(part)))
            case _:
                pass


def _can_be_made(cls: Any, values: Mapping[str, Any]) -> bool:
    """Whether a class takes values that go together; keys of rows stand for themselves."""
    plain = {name: 1 if isinstance(value, KeyOf | Fresh) else value for name, value in values.items()}
    try:
        made(cls, plain)
    except (TypeError, ValueError):
        return False
    return True


def _halves(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """The first half and the second, where there are enough for it to matter."""
    if len(items) > _FEW:
        yield items[: len(items) // 2]
        yield items[len(items) // 2 :]

"""Reduces a program that shows a difference, and reports it as a Python script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias, TypeVar, cast

from sqlrepo.testing.twins.comparison import Difference, Runner, Tally
from sqlrepo.testing.twins.model import (
    Call,
    End,
    FreshKey,
    KeyOf,
    KnownRow,
    Matching,
    New,
    Operation,
    Orphans,
    Program,
    Question,
    Savepoint,
    Scroll,
    Step,
    Table,
    Unit,
    can_construct,
    to_code,
)
from sqlrepo.testing.twins.outcomes import Outcomes, PendingCall, Raised, describe
from sqlrepo.testing.twins.parts import Edited, Several, orphans
from sqlrepo.testing.twins.stores import Stores

# -- reduction

# What a call can do without.
_OPTIONAL = ("order_by", "limit", "offset", "into", "with_total", "update")
_WITH_CRITERIA = ("find", "first", "one", "one_or_none", "count", "exists", "stream")

# At most so many programs are tried, for so many seconds; a shorter program is not worth more.
_TRIES = 1_000
_SECONDS = 20

# Sequences of up to so many items are not halved.
_FEW = 3

B = TypeVar("B", Unit, Savepoint)
T = TypeVar("T")
Plainest: TypeAlias = Mapping[type, Mapping[str, Any]]


def reduce_program(program: Program, fails: Callable[[Program], bool], plainest: Plainest) -> Program:
    """Find a short program that still fails; `plainest` holds the values to try in entities, by class."""
    tries, end = _TRIES, monotonic() + _SECONDS
    reducer = _Reducer(plainest)
    candidates = reducer.programs(program)
    while tries and monotonic() < end and (candidate := next(candidates, None)) is not None:
        tries -= 1
        if fails(candidate):
            program, candidates = candidate, reducer.programs(candidate)
    return program


class _Reducer:
    """Lists programs that are a little shorter or plainer than another, beginning with the shortest."""

    def __init__(self, plainest: Plainest) -> None:
        self._plainest = plainest

    def programs(self, program: Program) -> Iterator[Program]:
        yield from _halves(program)
        yield from _without_one(program)
        yield from _with_one_replaced(program, self._blocks)

    def _blocks(self, block: B) -> Iterator[B]:
        if block.ending != "normal":
            yield replace(block, ending="normal")
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
                case Unit():
                    yield from ((*before, one, *after) for one in self._blocks(step))
                case Call():
                    yield from ((*before, one, *after) for one in self._calls(step))
                case _:
                    pass

    def _calls(self, call: Call) -> Iterator[Call]:
        for name in call.options:
            if name in _OPTIONAL:
                yield replace(call, options={key: value for key, value in call.options.items() if key != name})
        if call.method in _WITH_CRITERIA:
            yield from (replace(call, arguments=fewer) for fewer in _without_one(call.arguments))
        yield from (replace(call, arguments=plainer) for plainer in _with_one_replaced(call.arguments, self._values))

    def _values(self, value: Any) -> Iterator[Any]:
        match value:
            case list():
                yield from map(list, _without_one(tuple(value)))
                yield from map(list, _with_one_replaced(tuple(value), self._values))
            case Edited(_, changes):
                yield from (replace(value, changes=fewer) for fewer in self._fewer(changes))
            case Several(_, items):
                yield from (replace(value, items=fewer) for fewer in _without_one(items))
                yield from (replace(value, items=plainer) for plainer in _with_one_replaced(items, self._values))
            case dict():
                yield from self._fewer(cast("dict[str, Any]", value))
            case New(cls, values):
                for name, one in values.items():
                    yield from (New(cls, {**values, name: plainer}) for plainer in self._several(one))
                for name, plain in self._plainest.get(cls, {}).items():
                    if values.get(name) != plain and can_construct(cls, {**values, name: plain}):
                        yield New(cls, {**values, name: plain})
            case Operation("&" | "|" | "not_" as name, parts):
                yield from parts
                yield from (Operation(name, plainer) for plainer in _with_one_replaced(parts, self._values))
            case _:
                pass

    def _several(self, value: Any) -> Iterator[Any]:
        return self._values(value) if isinstance(value, Several | New) else iter(())

    def _fewer(self, changes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """List changes of fewer fields, but at least of one, and plainer ones."""
        for name, one in changes.items():
            if len(changes) > 1:
                yield {other: value for other, value in changes.items() if other != name}
            yield from ({**changes, name: plainer} for plainer in self._several(one))


def _halves(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    if len(items) > _FEW:
        yield items[: len(items) // 2]
        yield items[len(items) // 2 :]


def _without_one(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    yield from (items[:index] + items[index + 1 :] for index in range(len(items)))


def _with_one_replaced(items: tuple[T, ...], plainer: Callable[[T], Iterable[T]]) -> Iterator[tuple[T, ...]]:
    for index, item in enumerate(items):
        yield from ((*items[:index], one, *items[index + 1 :]) for one in plainer(item))


# -- the script

_MODULES = {
    "suppress": "contextlib",
    "TypeAdapter": "pydantic",
    "compare": "sqlrepo.testing.twins",
    "scroll": "sqlrepo.testing.twins.comparison",
    "ProgramError": "sqlrepo.testing.twins.comparison",
}

_STANDARD = {
    "datetime.": "import datetime",
    "Decimal(": "from decimal import Decimal",
    "UUID(": "from uuid import UUID",
}

_SCRIPT = """
# {title}
# Run this file to see both outcomes. It deletes all rows in the tables of {unit}.
{imports}


{program}


{compare}({unit}, {url!r}, program{context})
"""


@dataclass(slots=True)
class _Line:
    """A call or an end; `created` holds variables for new rows and their positions in the result."""

    text: str
    method: str
    created: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    raised: bool | None = None


@dataclass(slots=True)
class _Block:
    """A unit of work or a savepoint, and its lines."""

    head: str
    stops: bool
    inside: list[_Line | _Block] = field(default_factory=list["_Line | _Block"])
    raises: bool = False
    raised: bool | None = None


class Report(Runner):
    """Runs a program and writes it as a script meanwhile."""

    def __init__(self, stores: Stores, relation: int | None = None) -> None:
        super().__init__(stores, Tally(), relation)
        self._program = _Block("", stops=False)
        self._open = [self._program]
        self._unit_names: list[str] = []
        self._latest: _Line | _Block = self._program
        self._imports: set[tuple[str, str]] = set()
        self._entities: set[str] = set()
        self._variables: dict[tuple[str, int], str] = {}
        self._comments: list[str] = []
        self._asked: list[str] = []

    # -- while the program runs

    def _block(self, block: Unit | Savepoint, managers: Sequence[Any]) -> bool:
        if isinstance(block, Unit):
            name = f"unit_{len(self._unit_names) + 1}" if self._unit_names else "unit"
            head = f"open_unit({'read_only=True' if block.read_only else ''}) as {name}"
        else:
            name = self._unit_names[-1]
            head = f"{name}.savepoint()"
        self._unit_names.append(name)
        added = _Block(f"with {head}:", stops=block.ending == "first error")
        self._add(added)
        self._open.append(added)
        raised = super()._block(block, managers)
        self._unit_names.pop()
        self._open.pop().raised = raised
        return raised

    def _steps(self, block: Unit | Savepoint) -> list[BaseException]:
        errors = super()._steps(block)
        self._latest = self._open[-1]
        self._open[-1].raises = block.ending == "exception"
        return errors

    def _perform(self, step: Call | Scroll | End | Orphans, pending: PendingCall | None = None) -> Outcomes:
        line = _Line(self._text(step), getattr(step, "method", ""))
        self._add(line)
        outcomes = super()._perform(step, pending)
        line.raised = isinstance(outcomes[0], Raised)
        return outcomes

    def _note_row(self, table: Table, position: int, row: KnownRow) -> None:
        name = self._variables[(table.name, row.number)] = f"{table.name}_{row.number}"
        assert isinstance(self._latest, _Line), "calls create rows"
        self._latest.created.append((name, position))
        super()._note_row(table, position, row)

    def _add(self, added: _Line | _Block) -> None:
        self._open[-1].inside.append(added)
        self._latest = added

    def _text(self, step: Question | End) -> str:
        unit = self._unit_names[-1]
        match step:
            case End(how):
                return f"{unit}.{how}()"
            case Orphans(name, part):
                return f"{self.import_name(orphans)}({unit}.{name}, {part!r})"
            case Scroll(name, query, moves):
                return f"{self.import_name('scroll')}({unit}.{name}, {to_code(query, self)}, {moves!r})"
            case Matching(name, criterion):
                test = f"{self.import_name('matches')}({to_code(criterion, self)}, one)"
                return f"[one for one in {unit}.{name}.find() if {test}]"
            case Call(name, method, arguments, options):
                given = [to_code(one, self) for one in arguments]
                given += [f"{key}={to_code(one, self)}" for key, one in options.items()]
                call = f"{unit}.{name}.{method}({', '.join(given)})"
                return f"list({call})" if method == "stream" else call

    # -- names that arguments ask for

    def key(self, node: KeyOf) -> str:
        row = self._keys[node.repository].at(node.index)
        if row is None:
            return to_code(node.otherwise, self)
        variable = self._variables[(node.repository, row.number)]
        parts = [f"{variable}.{one.name}" for one in self._tables[node.repository].key]
        if node.part is not None:
            return parts[node.part]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"

    def row(self, repository: str, index: int, *, now: bool) -> str | None:
        row = self._keys[repository].at(index)
        if row is None or self._current(1, repository, row) is None:
            return None
        variable = self._variables[(repository, row.number)]
        key = self.key(KeyOf(repository, index, None, None))
        return f"({self._unit_names[-1]}.{repository}.get_or_none({key}) or {variable})" if now else variable

    def fresh_key(self, node: FreshKey) -> str:
        return str(self._keys[node.repository].choose(node))

    def fields(self, repository: str) -> str:
        self._entities.add(repository)
        return f"{repository}_fields"

    def import_name(self, name: type | Callable[..., Any] | str) -> str:
        if isinstance(name, type):
            self._imports.add((name.__module__, name.__qualname__.partition(".")[0]))
            return name.__qualname__
        if callable(name):
            self._imports.add((name.__module__, name.__name__))
            return name.__name__
        self._imports.add((_MODULES.get(name, "sqlrepo"), name))
        return name

    # -- the whole

    def script(self, found: Difference) -> str:
        """Write the script, which prints the outcomes of the last step in memory and on the database."""
        sides = ("memory", self._stores.name)
        title, names = f"Memory and {sides[1]} give different outcomes in the last step.", sides
        if found.broken is not None:
            title, names = f"In {sides[found.side]}, this does not hold: {found.broken.name}.", ("expected", "found")
            self._asked = [self._text(step) for step in found.broken.steps]
        width = len(max(names, key=len)) + 1
        named = zip(names, found.outcomes, strict=True)
        self._comments = [f"# {name + ':':{width}} {describe(outcome)}" for name, outcome in named]
        body = list(self._body(self._program))
        fields = [
            f"{name}_fields = {self.import_name('fields')}({self.import_name(self._tables[name].entity)})"
            for name in sorted(self._entities)
        ]
        program = "\n".join([*fields, "def program(open_unit):", *_indent(body)])
        stores, url = self._stores, self._stores.url
        unit, compare = self.import_name(stores.subject.unit), self.import_name("compare")
        context = "" if stores.context is None else f", context={self._context()}"
        return _SCRIPT.format(
            title=title,
            unit=unit,
            program=program,
            compare=compare,
            url=url,
            context=context,
            imports="\n".join(self._import_lines(program + context)),
        ).lstrip()

    def _context(self) -> str:
        """Name the context as the test class has it, or write it as Python."""
        owner = self._stores.owner
        return to_code(self._stores.context, self) if owner is None else f"{self.import_name(owner)}.context"

    def _import_lines(self, program: str) -> Iterator[str]:
        modules: dict[str, list[str]] = {}
        for module, name in sorted(self._imports):
            modules.setdefault(_importable(module), []).append(name)
        roots = dict.fromkeys(filter(None, map(_root, {module for module, _ in self._imports})))
        if roots:
            yield "import sys"
            yield from (f"sys.path.insert(0, {root!r})" for root in roots)
        yield from (line for text, line in _STANDARD.items() if text in program)
        yield from (f"from {one} import {', '.join(names)}" for one, names in modules.items() if one != "builtins")

    def _body(self, block: _Block) -> Iterator[str]:
        for one in block.inside:
            yield from self._block_lines(one) if isinstance(one, _Block) else self._call_lines(one, block)
        if block.raises:
            yield f"raise {self.import_name('ProgramError')}"
        elif not block.inside:
            yield "pass"

    def _call_lines(self, line: _Line, block: _Block) -> Iterator[str]:
        if line is self._latest:
            yield from (*self._comments, *(f"print({text})" for text in self._asked or [line.text]))
        elif line.raised and not block.stops:
            yield from (f"with {self._suppress('RepositoryError')}:", f"    {line.text}")
        elif not line.created:
            yield line.text
        elif line.method.endswith("_many"):
            yield f"rows = {line.text}"
            yield from (f"{name} = rows[{position}]" for name, position in line.created)
        else:
            [(name, _)] = line.created
            yield f"{name} = ({line.text}).entity" if line.method == "upsert" else f"{name} = {line.text}"

    def _block_lines(self, block: _Block) -> Iterator[str]:
        lines = [block.head, *_indent(self._body(block))]
        if block is self._latest:
            yield from (*self._comments, *lines)
        elif block.raised:
            yield from (f"with {self._suppress('RepositoryError', 'ProgramError')}:", *_indent(lines))
        else:
            yield from lines

    def _suppress(self, *errors: str) -> str:
        return f"{self.import_name('suppress')}({', '.join(map(self.import_name, errors))})"


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _importable(module: str) -> str:
    """Return the name by which another process imports a module."""
    return Path(str(sys.modules[module].__file__)).stem if module == "__main__" else module


def _root(module: str) -> str | None:
    """Return the directory that a module is imported from, unless Python knows it."""
    found = getattr(sys.modules.get(module), "__file__", None)
    if found is None or module.partition(".")[0] in (*sys.stdlib_module_names - {"__main__"}, "sqlrepo"):
        return None
    root = Path(found).parents[module.count(".") + (Path(found).name == "__init__.py")]
    return None if root.name in ("site-packages", "dist-packages") else str(root)

"""Writes the program that is run as Python that can be pasted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from sqlrepo.testing.twins.comparison import Answer, Raised, Watcher
from sqlrepo.testing.twins.model import (
    Apply,
    Call,
    End,
    Fresh,
    Infix,
    KeyOf,
    Keys,
    Leaving,
    Make,
    Meanwhile,
    Met,
    Program,
    Savepoint,
    Side,
    Step,
    Subject,
    Table,
    Unit,
    Walk,
    code,
    made,
)

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


_MODULES = {"make_dataclass": "dataclasses", "suppress": "contextlib", "contextmanager": "contextlib"}

_SHOWN = '''
class Left(Exception):
    """What a block is left by on purpose."""


@contextmanager
def shown():
    """Print how a block ends."""
    try:
        yield
    except (RepositoryError, Left) as error:
        print(type(error).__name__, vars(error))
    else:
        print("no error")
'''

_WALK = '''
{async}def walk(repository, query, moves):
    """Page by page, forwards and backwards."""
    pages = [{await}repository.scroll(query)]
    for move in moves:
        cursor = pages[-1].next if move == "after" else pages[-1].previous
        pages.append({await}repository.scroll(query, **({{move: cursor}} if cursor else {{}})))
    return [(page.items, page.has_previous, page.has_next) for page in pages]
'''

_COLLECT = '''
async def collect(stream):
    """All that a stream gives."""
    return [one async for one in stream]
'''


@dataclass(slots=True)
class _Line:
    """A call, or the end of a transaction."""

    text: str
    new: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    raised: bool | None = None


@dataclass(slots=True)
class _Block:
    """A unit of work or a savepoint, and what is inside."""

    head: str
    stops: bool
    inside: list[_Line | _Block] = field(default_factory=list["_Line | _Block"])
    leaving: Leaving = "end"
    raised: bool | None = None


class Script(Watcher):
    """A program as it is written while it runs.

    Args:
        subject: the unit of work.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._await, self._async = ("await ", "async ") if subject.asynchronous else ("", "")
        self._whole = _Block("", stops=False)
        self._open = [self._whole]
        self._units: list[str] = []
        self._focus: _Line | _Block = self._whole
        self._imports: set[tuple[str, str]] = set()
        self._fields: set[str] = set()
        self._rows: dict[tuple[str, int], str] = {}
        self.keys: Mapping[str, Keys] = {}
        self.side: Side | None = None

    # -- while the program runs

    def step(self, step: Call | Walk | End) -> None:
        """Write a call."""
        self._add(_Line(self._text(step)))

    def done(self, *, raised: bool) -> None:
        """Note what came of it."""
        self._focus.raised = raised

    def met(self, table: Table, place: int | None, met: Met) -> None:
        """Keep a row that is new in a variable."""
        name = f"{table.name}_{met.number}"
        self._rows[(table.name, met.number)] = name
        assert isinstance(self._focus, _Line), "rows are met by calls"
        suffix = ".entity" if f".{table.name}.upsert(" in self._focus.text else "" if place is None else f"[{place}]"
        self._focus.new.append((name, suffix))

    def opened(self, block: Unit | Savepoint | Meanwhile) -> None:
        """Write the head of a block."""
        inner = block.unit if isinstance(block, Meanwhile) else block
        if isinstance(inner, Unit):
            name = f"unit_{len(self._units) + 1}" if self._units else "unit"
            self._units.append(name)
            head = f"open_unit({'read_only=True' if inner.read_only else ''}) as {name}"
        else:
            self._units.append(self._units[-1])
            head = f"{self._units[-1]}.savepoint()"
        made = _Block(f"{self._async}with {head}:", stops=inner.leaving == "first error")
        self._add(made)
        self._open.append(made)

    def leaving(self, leaving: Leaving) -> None:
        """Note how the innermost block is left."""
        self._focus = self._open[-1]
        self._open[-1].leaving = leaving

    def closed(self, *, raised: bool) -> None:
        """Note what came of it."""
        self._units.pop()
        self._open.pop().raised = raised

    def _add(self, made: _Line | _Block) -> None:
        self._open[-1].inside.append(made)
        self._focus = made

    def _text(self, step: Call | Walk | End) -> str:
        match step:
            case End(how):
                return f"{self._await}{self._units[-1]}.{how}()"
            case Walk(name, query, moves):
                self._imports.add(("", "walk"))
                return f"{self._await}walk({self._units[-1]}.{name}, {code(query, self)}, {moves!r})"
            case Call(name, method, arguments, options):
                given = [code(one, self) for one in arguments]
                given += [f"{key}={code(one, self)}" for key, one in options.items()]
                call = f"{self._units[-1]}.{name}.{method}({', '.join(given)})"
                return self._streamed(call) if method == "stream" else f"{self._await}{call}"

    def _streamed(self, call: str) -> str:
        if not self._await:
            return f"list({call})"
        self._imports.add(("", "collect"))
        return f"await collect({call})"

    # -- names, as nodes ask for them

    def key(self, node: KeyOf) -> str:
        """The key of a row that was met."""
        met = self.keys[node.repository].at(node.index)
        if met is None:
            return code(node.otherwise, self)
        variable = self._rows[(node.repository, met.number)]
        parts = [f"{variable}.{place.name}" for place in self._subject.tables[node.repository].key]
        if node.part is not None:
            return parts[node.part]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"

    def fresh(self, node: Fresh) -> str:
        """A key that no row has had."""
        assert self.side is not None, "a script is written while a program runs"
        return str(node.build(self.side))

    def use(self, name: type | str) -> str:
        """The name of a class, or of a function of the library's, which the script must import."""
        if isinstance(name, type):
            self._imports.add((name.__module__, name.__qualname__.partition(".")[0]))
            return name.__qualname__
        if name.startswith("fields:"):
            repository = name.removeprefix("fields:")
            self._fields.add(repository)
            return f"{repository}_fields"
        self._imports.add((_MODULES.get(name, "sqlrepo"), name))
        return name

    # -- the whole

    def written(self, answers: tuple[Answer, Answer], database: str, url: str) -> str:
        """The script; it prints what the last step comes to on memory and on the database.

        Args:
            answers: what it came to.
            database: the database's name.
            url: where it is.
        """
        for name in ("suppress", "contextmanager", "RepositoryError"):
            self.use(name)
        told = (f"# {name}: {_told(one)}" for name, one in zip(("memory", database), answers, strict=True))
        program = [f"{self._async}def program(open_unit):", *_indented(self._inside(self._whole, tuple(told)))]
        main = list(self._main(url))
        fields = [f"{name}_fields = {self.use('fields')}({self._entity(name)})" for name in sorted(self._fields)]
        helpers = [_WALK.format_map({"async": self._async, "await": self._await})] * (("", "walk") in self._imports)
        helpers += [_COLLECT] * (("", "collect") in self._imports)
        parts = ["\n".join(self._head()), "\n".join(fields), _SHOWN, *helpers, "\n".join(program), "\n".join(main)]
        return "\n\n\n".join(part.strip() for part in parts if part.strip()) + "\n"

    def _entity(self, repository: str) -> str:
        return self.use(self._subject.tables[repository].entity)

    def _inside(self, block: _Block, told: tuple[str, ...]) -> Iterator[str]:
        for one in block.inside:
            yield from self._block(one, told) if isinstance(one, _Block) else self._line(one, block, told)
        if block.leaving == "exception" and block.raised is not False:
            yield "raise Left"
        if not block.inside and block.leaving != "exception":
            yield "pass"

    def _line(self, line: _Line, block: _Block, told: tuple[str, ...]) -> Iterator[str]:
        if line is self._focus:
            yield from (*told, "with shown():", f"    print({line.text})")
        elif line.raised and not block.stops:
            yield from ("with suppress(RepositoryError):", f"    {line.text}")
        elif not line.new:
            yield line.text
        elif len(line.new) == 1 and not line.new[0][1].startswith("["):
            [(name, suffix)] = line.new
            yield f"{name} = {f'({line.text})' if suffix and self._await else line.text}{suffix}"
        else:
            yield f"rows = {line.text}"
            yield from (f"{name} = rows{suffix}" for name, suffix in line.new)

    def _block(self, block: _Block, told: tuple[str, ...]) -> Iterator[str]:
        lines = [block.head, *_indented(self._inside(block, told))]
        if block is self._focus:
            yield from (*told, "with shown():", *_indented(lines))
        elif block.raised is False:
            yield from lines
        else:
            yield from ("with suppress(RepositoryError, Left):", *_indented(lines))

    def _head(self) -> Iterator[str]:
        yield from ("import datetime", "from decimal import Decimal", "from uuid import UUID", "")
        modules: dict[str, list[str]] = {}
        for module, name in sorted(self._imports):
            modules.setdefault(module, []).append(name)
        for module, names in modules.items():
            if module not in ("", "builtins"):
                yield f"from {module} import {', '.join(names)}"

    def _main(self, url: str) -> Iterator[str]:
        unit, database = self._subject.unit, "AsyncDatabase" if self._async else "Database"
        self.use(unit)
        self._imports |= {("sqlrepo.memory", "InMemoryDatabase"), ("sqlrepo.sqlalchemy", database)}
        models = [self.use(table.schema.model) for table in reversed(list(self._subject.tables.values()))]
        tables = "[" + ", ".join(f"{model}.__mapper__.local_table" for model in models) + "]"
        yield from ("def prepare(connection):", '    """Make the tables, and empty them: they are the twins\' own."""')
        yield from (f"    for table in {tables}:", "        table.metadata.create_all(connection)")
        yield from ("        connection.execute(table.delete())", "", "")
        yield f"{self._async}def main():"
        yield f"    memory, database = InMemoryDatabase(), {database}({url!r})"
        yield f"    {self._async}with database.engine.begin() as connection:"
        yield "        await connection.run_sync(prepare)" if self._async else "        prepare(connection)"
        for store in ("memory", "database"):
            yield f"    print('{store}:')"
            yield f"    {self._await}program(lambda **options: {unit.__qualname__}({store}, **options))"
        yield f"    {self._await}database.dispose()"
        yield ""
        yield ""
        if self._async:
            self._imports.add(("asyncio", "run"))
        yield "if __name__ == '__main__':"
        yield "    run(main())" if self._async else "    main()"


def _indented(lines: Iterator[str] | Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _told(answer: Answer) -> str:
    """An answer on one line."""
    if isinstance(answer, Raised):
        return f"raises {type(answer.error).__name__} {vars(answer.error)!r}".replace("\n", " ")
    return ascii(answer.value)

"""Reduces a program that shows a difference, and reports it as a Python script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from sqlrepo.testing.twins.comparison import Outcome, Outcomes, PendingCall, Raised, Runner, Tally
from sqlrepo.testing.twins.model import (
    Call,
    End,
    FreshKey,
    KeyOf,
    KnownRow,
    New,
    Operation,
    Program,
    Savepoint,
    Scroll,
    Step,
    Table,
    Unit,
    can_construct,
    to_code,
)
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
            case New(cls, values):
                for name, plain in self._plainest.get(cls, {}).items():
                    if values.get(name) != plain and can_construct(cls, {**values, name: plain}):
                        yield New(cls, {**values, name: plain})
            case Operation("&" | "|" | "not_" as name, parts):
                yield from parts
                yield from (Operation(name, plainer) for plainer in _with_one_replaced(parts, self._values))
            case _:
                pass


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

_MODULES = {"make_dataclass": "dataclasses", "suppress": "contextlib", "contextmanager": "contextlib"}

_STANDARD = {
    "datetime.": "import datetime",
    "Decimal(": "from decimal import Decimal",
    "UUID(": "from uuid import UUID",
}

_HEAD = '''
"""Memory and {database} differ in the step that is marked below.

Run this file to see both outcomes. It first deletes all rows in the tables of {unit}.
"""

{imports}
'''

_HELPERS = '''
class ProgramError(Exception):
    """The error by which the program leaves a block."""


@contextmanager
def report():
    """Print the error that a block raises, if any."""
    try:
        yield
    except (RepositoryError, ProgramError) as error:
        print("raises", type(error).__name__, vars(error))
    else:
        print("raises nothing")
'''

_OPTIONAL_HELPERS = {
    "scroll": '''
{async_}def scroll(repository, query, moves):
    """Scroll through pages, forwards and backwards."""
    pages = [{await_}repository.scroll(query)]
    for move in moves:
        cursor = pages[-1].next if move == "after" else pages[-1].previous
        pages.append({await_}repository.scroll(query, **({{move: cursor}} if cursor else {{}})))
    return [(page.items, page.has_previous, page.has_next) for page in pages]
''',
    "collect": '''
async def collect(stream):
    """Collect all that a stream yields."""
    return [one async for one in stream]
''',
}

_MAIN = '''
def prepare(connection):
    """Create the tables if they do not exist, and delete all their rows."""
    for table in [{tables}]:
        table.metadata.create_all(connection)
        connection.execute(table.delete())


{async_}def main():
    memory, database = InMemoryDatabase(lost_updates="allow"), {database}({url!r})
    {async_}with database.engine.begin() as connection:
        {prepare}
    print("memory:")
    {await_}program(lambda **options: {unit}(memory, **options))
    print("database:")
    {await_}program(lambda **options: {unit}(database, **options))
    {await_}database.dispose()


if __name__ == "__main__":
    {main}
'''


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

    def __init__(self, stores: Stores) -> None:
        super().__init__(stores, Tally())
        self._await, self._async = ("await ", "async ") if stores.subject.is_async else ("", "")
        self._program = _Block("", stops=False)
        self._open = [self._program]
        self._unit_names: list[str] = []
        self._current: _Line | _Block = self._program
        self._imports: set[tuple[str, str]] = set()
        self._entities: set[str] = set()
        self._helpers: set[str] = set()
        self._variables: dict[tuple[str, int], str] = {}
        self._comments: list[str] = []

    # -- while the program runs

    def _block(self, block: Unit | Savepoint, managers: Sequence[Any]) -> bool:
        if isinstance(block, Unit):
            name = f"unit_{len(self._unit_names) + 1}" if self._unit_names else "unit"
            head = f"open_unit({'read_only=True' if block.read_only else ''}) as {name}"
        else:
            name = self._unit_names[-1]
            head = f"{name}.savepoint()"
        self._unit_names.append(name)
        added = _Block(f"{self._async}with {head}:", stops=block.ending == "first error")
        self._add(added)
        self._open.append(added)
        raised = super()._block(block, managers)
        self._unit_names.pop()
        self._open.pop().raised = raised
        return raised

    def _steps(self, block: Unit | Savepoint) -> list[BaseException]:
        errors = super()._steps(block)
        self._current = self._open[-1]
        self._open[-1].raises = block.ending == "exception"
        return errors

    def _perform(self, step: Call | Scroll | End, pending: PendingCall | None = None) -> Outcomes:
        line = _Line(self._text(step), getattr(step, "method", ""))
        self._add(line)
        outcomes = super()._perform(step, pending)
        line.raised = isinstance(outcomes[0], Raised)
        return outcomes

    def _note_row(self, table: Table, position: int, row: KnownRow) -> None:
        name = self._variables[(table.name, row.number)] = f"{table.name}_{row.number}"
        assert isinstance(self._current, _Line), "calls create rows"
        self._current.created.append((name, position))
        super()._note_row(table, position, row)

    def _add(self, added: _Line | _Block) -> None:
        self._open[-1].inside.append(added)
        self._current = added

    def _text(self, step: Call | Scroll | End) -> str:
        unit = self._unit_names[-1]
        match step:
            case End(how):
                return f"{self._await}{unit}.{how}()"
            case Scroll(name, query, moves):
                return f"{self._await}{self._helper('scroll')}({unit}.{name}, {to_code(query, self)}, {moves!r})"
            case Call(name, method, arguments, options):
                given = [to_code(one, self) for one in arguments]
                given += [f"{key}={to_code(one, self)}" for key, one in options.items()]
                call = f"{unit}.{name}.{method}({', '.join(given)})"
                if method != "stream":
                    return f"{self._await}{call}"
                return f"await {self._helper('collect')}({call})" if self._await else f"list({call})"

    def _helper(self, name: str) -> str:
        self._helpers.add(name)
        return name

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

    def fresh_key(self, node: FreshKey) -> str:
        return str(self._keys[node.repository].choose(node))

    def fields(self, repository: str) -> str:
        self._entities.add(repository)
        return f"{repository}_fields"

    def import_name(self, name: type | str) -> str:
        if isinstance(name, type):
            self._imports.add((name.__module__, name.__qualname__.partition(".")[0]))
            return name.__qualname__
        self._imports.add((_MODULES.get(name, "sqlrepo"), name))
        return name

    # -- the whole

    def script(self, outcomes: Outcomes) -> str:
        """Write the script, which prints the last step's outcomes in memory and on the database."""
        database = self._stores.name
        width = len(max("memory", database, key=len)) + 1
        named = zip(("memory", database), outcomes, strict=True)
        self._comments = [f"# {name + ':':{width}} {_on_one_line(outcome)}" for name, outcome in named]
        lines = [f"{self._async}def program(open_unit):", *_indent(self._body(self._program))]
        program = "\n".join(lines)
        main = self._main()
        fields = [
            f"{name}_fields = {self.import_name('fields')}({self.import_name(self._tables[name].entity)})"
            for name in sorted(self._entities)
        ]
        used = [text for name, text in _OPTIONAL_HELPERS.items() if name in self._helpers]
        helpers = [text.format(async_=self._async, await_=self._await) for text in used]
        parts = [self._head(database, program), "\n".join(fields), _HELPERS, *helpers, program, main]
        return "\n\n\n".join(part.strip() for part in parts if part.strip()) + "\n"

    def _body(self, block: _Block) -> Iterator[str]:
        for one in block.inside:
            yield from self._block_lines(one) if isinstance(one, _Block) else self._call_lines(one, block)
        if block.raises:
            yield "raise ProgramError"
        elif not block.inside:
            yield "pass"

    def _call_lines(self, line: _Line, block: _Block) -> Iterator[str]:
        if line is self._current:
            yield from (*self._comments, "with report():", f"    print({line.text})")
        elif line.raised and not block.stops:
            yield from ("with suppress(RepositoryError):", f"    {line.text}")
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
        if block is self._current:
            yield from (*self._comments, "with report():", *_indent(lines))
        elif block.raised is False:
            yield from lines
        else:
            yield from ("with suppress(RepositoryError, ProgramError):", *_indent(lines))

    def _head(self, database: str, program: str) -> str:
        needed = (line for text, line in _STANDARD.items() if text in program)
        for name in ("suppress", "contextmanager", "RepositoryError"):
            self.import_name(name)
        modules: dict[str, list[str]] = {}
        for module, name in sorted(self._imports):
            modules.setdefault(module, []).append(name)
        imports = (f"from {one} import {', '.join(names)}" for one, names in modules.items() if one != "builtins")
        unit = self._stores.subject.unit.__qualname__
        return _HEAD.format(database=database, unit=unit, imports="\n".join((*needed, *imports)))

    def _main(self) -> str:
        database = "AsyncDatabase" if self._await else "Database"
        self._imports |= {("sqlrepo.memory", "InMemoryDatabase"), ("sqlrepo.sqlalchemy", database)}
        if self._await:
            self._imports.add(("asyncio", "run"))
        models = [self.import_name(table.schema.model) for table in reversed([*self._tables.values()])]
        return _MAIN.format(
            tables=", ".join(f"{model}.__mapper__.local_table" for model in models),
            async_=self._async,
            await_=self._await,
            database=database,
            url=self._stores.url,
            prepare="await connection.run_sync(prepare)" if self._await else "prepare(connection)",
            unit=self.import_name(self._stores.subject.unit),
            main="run(main())" if self._await else "main()",
        )


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _on_one_line(outcome: Outcome) -> str:
    if isinstance(outcome, Raised):
        return f"raises {type(outcome.error).__name__} {vars(outcome.error)!r}".replace("\n", " ")
    return ascii(outcome.value)

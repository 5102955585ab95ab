"""Runs a program on both sides, step by step, and compares what each step comes to.

Knows how steps nest and how blocks are left. Must not know how programs are generated or printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

from sqlrepo import ForeignKeyViolationError, RepositoryError, UniqueViolationError, UnitStateError
from sqlrepo.testing.twins.answers import Answer, LeftError, Raised, Reader, Returned, attempt, is_which
from sqlrepo.testing.twins.keys import Keys, Mark, Met
from sqlrepo.testing.twins.nodes import Fresh, Side, build
from sqlrepo.testing.twins.rowwise import is_refused_row_by_row
from sqlrepo.testing.twins.steps import Call, End, Leaving, Meanwhile, Program, Savepoint, Step, Unit, Walk
from sqlrepo.testing.twins.stores import Stores
from sqlrepo.testing.twins.subject import Subject, Table
from sqlrepo.testing.twins.violations import Writes

__all__ = ["Difference", "Play", "Tally", "Watcher"]

Pair: TypeAlias = tuple[Answer, Answer]

#: The calls that give back rows which may be new.
CREATING = ("add", "add_many", "save", "upsert", "upsert_many")


class Difference(Exception):  # noqa: N818  # what is looked for
    """The two sides part.

    Attributes:
        answers: what memory and the database came to.
    """

    def __init__(self, answers: Pair) -> None:
        super().__init__(answers)
        self.answers = answers


class Watcher:
    """Who is told of each step; this one does not listen."""

    keys: Mapping[str, Keys] = MappingProxyType({})
    side: Side | None = None

    def step(self, step: Call | Walk | End) -> None:
        """A call is to be made, or a transaction ended."""

    def done(self, *, raised: bool) -> None:
        """It was, with the same result on both sides."""

    def met(self, table: Table, place: int | None, met: Met) -> None:
        """The call being made gave a row that is new; where in its result, where there are several."""

    def opened(self, block: Unit | Savepoint | Meanwhile) -> None:
        """A block is to be entered."""

    def leaving(self, leaving: Leaving) -> None:
        """The innermost block is to be left."""

    def closed(self, *, raised: bool) -> None:
        """It was, or could not be entered, with the same result on both sides."""


@dataclass(slots=True)
class Tally:
    """What programs did, as far as it shows whether they tell anything."""

    operations: int = 0
    answered: int = 0
    stored: int = 0
    found: int = 0


class Play:
    """One run of a program.

    Args:
        subject: the unit of work.
        stores: where it runs.
        lacks: the capabilities that the database does not have.
        tally: what is counted.
        watcher: who is told.
    """

    def __init__(
        self, subject: Subject, stores: Stores, lacks: frozenset[str], tally: Tally, watcher: Watcher | None = None
    ) -> None:
        self._subject = subject
        self._stores = stores
        self._tally = tally
        self._watcher = watcher or Watcher()
        self._lacks = lacks
        self._fresh = fresh = "fresh_keys" not in lacks
        tops = stores.tops
        self.keys = {
            name: Keys(table.generated, fresh=fresh, top=tops.get(name, 0)) for name, table in subject.tables.items()
        }
        entities = {name: table.entity for name, table in subject.tables.items()}
        given: dict[Fresh, int | None] = {}
        self.sides = tuple(Side(index, self.keys, entities, given) for index in (0, 1))
        self._readers = tuple(Reader(index, self.keys, lacks) for index in (0, 1))
        self._units: list[tuple[Any, Any]] = []
        self._marks: list[dict[str, Mark]] = []
        self._watcher.keys, self._watcher.side = self.keys, self.sides[0]

    def program(self, program: Program) -> None:
        """Run a program, and compare what is stored at its end.

        Raises:
            Difference: a step came to something else on the database than on memory.
        """
        try:
            for unit in program:
                self._unit(unit)
            self._unit(Unit(tuple(Call(name, "find") for name in self._subject.tables)))
        finally:
            self._stores.tops.update({name: keys.top for name, keys in self.keys.items()})

    # -- blocks

    def _unit(self, unit: Unit, told: Unit | Meanwhile | None = None) -> None:
        units = tuple(self._stores.open(side, read_only=unit.read_only) for side in (0, 1))
        self._units.append((units[0], units[1]))
        try:
            self._block(told or unit, units, unit.steps, unit.leaving)
        finally:
            self._units.pop()

    def _block(self, block: Any, managers: Sequence[Any], steps: Sequence[Step], leaving: Leaving) -> None:
        self._watcher.opened(block)
        entered = self._compared(lambda side: _nothing(managers[side].__enter__()))
        if isinstance(entered[0], Raised):
            self._watcher.closed(raised=True)
            return
        self._marks.append(self._mark())
        try:
            errors = self._steps(steps, stop=leaving == "first error")
            self._watcher.leaving(leaving)
            if leaving == "exception":
                errors = (LeftError(), LeftError())
        except BaseException as error:
            for manager in managers:
                attempt(partial(_leave, manager, error))
            raise
        left = self._compared(lambda side: _leave(managers[side], errors and errors[side]))
        undone = errors is not None or isinstance(left[0], Raised)
        self._undo(self._marks.pop(), undone=undone)
        self._watcher.closed(raised=undone)

    def _mark(self) -> dict[str, Mark]:
        return {name: keys.mark() for name, keys in self.keys.items()}

    def _undo(self, mark: dict[str, Mark], *, undone: bool) -> None:
        """Forget the rows of a block that was rolled back."""
        for name, keys in self.keys.items():
            if undone:
                keys.undo(mark[name])

    def _ended(self, how: str, answer: Answer) -> None:
        """Note that a transaction ended before its unit; inside a savepoint it cannot."""
        if isinstance(answer, Raised) and isinstance(answer.error, UnitStateError):
            return
        self._undo(self._marks.pop(), undone=how == "rollback" or isinstance(answer, Raised))
        self._marks.append(self._mark())

    def _steps(self, steps: Sequence[Step], *, stop: bool) -> tuple[BaseException, BaseException] | None:
        """Take steps; stop at the first that raises, if told so, and give what it raised."""
        for step in steps:
            answers = self._step(step)
            if stop and answers and isinstance(answers[0], Raised) and isinstance(answers[1], Raised):
                return answers[0].error, answers[1].error
        return None

    # -- steps

    def _step(self, step: Step) -> Pair | None:
        match step:
            case Savepoint(steps, leaving):
                managers = [unit.savepoint() for unit in self._units[-1]]
                self._block(step, managers, steps, leaving)
                return None
            case Meanwhile(unit):
                self._unit(unit, step)
                return None
            case Call() if self._depends(step):
                return None
            case Call() | Walk() | End():
                return self._call(step)

    def _call(self, step: Call | Walk | End) -> Pair:
        table = None if isinstance(step, End) else self._subject.tables[step.repository]
        if table and isinstance(step, Call) and step.method in CREATING:
            self._prune(table)
        writes = self._writes(table, step) if table and isinstance(step, Call) else None
        self._watcher.step(step)
        answers = self._compared(lambda side: self._answer(step, side), step, table, writes)
        self._watcher.done(raised=isinstance(answers[0], Raised))
        if isinstance(step, End):
            self._ended(step.how, answers[0])
        self._count(step, answers[0])
        return answers

    def _answer(self, step: Call | Walk | End, side: int) -> Any:
        unit = self._units[-1][side]
        match step:
            case End(how):
                return getattr(unit, how)()
            case Call(name, method, arguments, options):
                given, named = build(arguments, self.sides[side]), build(dict(options), self.sides[side])
                result = getattr(getattr(unit, name), method)(*given, **named)
                return list(result) if method == "stream" else result
            case Walk(name, query, moves):
                return _walked(getattr(unit, name), build(query, self.sides[side]), moves)

    def _compared(
        self,
        work: Callable[[int], Any],
        step: Call | Walk | End | None = None,
        table: Table | None = None,
        writes: Writes | None = None,
    ) -> Pair:
        memory, database = attempt(lambda: work(0)), attempt(lambda: work(1))
        if isinstance(step, Call) and step.method in CREATING and table is not None:
            self._meet(table, memory, database)
        forms = [reader.form(one, table) for reader, one in zip(self._readers, (memory, database), strict=True)]
        if (forms[0] != forms[1] and not self._may(forms, database, writes)) or _is_foreign(memory):
            raise Difference((memory, database))
        return memory, database

    def _may(self, forms: Sequence[Any], database: Answer, writes: Writes | None) -> bool:
        """Whether the database may answer otherwise: of several violated constraints it may name another.

        Where it looks at rows one by one, that may be one of another kind, which memory would have met in a later row;
        and a row that a cascade reached first is then counted by nobody.
        """
        if writes is None:
            return False
        one_by_one = "references_at_end" in self._lacks and writes.is_of_several_rows
        if one_by_one and writes.counts_cascades and all(form[0] == "returned" for form in forms):
            memory, count = (int(form[1][1]) for form in forms)
            return 0 < count <= memory
        if not isinstance(database, Raised) or not is_which(forms, of_any_kind=one_by_one):
            return False
        match database.error:
            case UniqueViolationError() as error:
                return writes.violate(error.constraint, error.fields)
            case ForeignKeyViolationError() if "fk_error_details" in self._lacks:
                return writes.dangle_anywhere()
            case ForeignKeyViolationError() as error:
                return writes.dangle(error.table, error.constraint, error.fields)
            case _:
                return False

    def _depends(self, call: Call) -> bool:
        """Whether a call depends on what the database declares otherwise, so that the sides would part for good."""
        table = self._subject.tables[call.repository]
        if "references_at_end" not in self._lacks or not table.refers_to_itself:
            return False
        return is_refused_row_by_row(self._subject, table, call, self._units[-1][0], self.sides[0])

    def _writes(self, table: Table, call: Call) -> Writes:
        return Writes(self._subject, table, call, self._units[-1][0], self.sides[0])

    def _prune(self, table: Table) -> None:
        """Refer to living rows only, where the row that is being made might get the key of a dead one."""
        if self._fresh or not table.refers_to_itself:
            return
        found = attempt(lambda: getattr(self._units[-1][0], table.name).find())
        if isinstance(found, Returned):
            self.keys[table.name].keep({table.key_of(entity) for entity in found.value})

    # -- what is noted

    def _meet(self, table: Table, *answers: Answer) -> None:
        results = [_rows(answer.value) for answer in answers if isinstance(answer, Returned)]
        if len(results) < len(answers):
            return
        self._tally.stored += len(results[0])
        for place, (memory, database) in enumerate(zip(*results, strict=False)):
            keys = table.key_of(memory), table.key_of(database)
            if keys[0] and keys[1] and (met := self.keys[table.name].meet((keys[0], keys[1]))):
                several = isinstance(answers[0], Returned) and isinstance(answers[0].value, list)
                self._watcher.met(table, place if several else None, met)
                self._outlive(table, met.keys[1])

    def _outlive(self, table: Table, key: tuple[Any, ...]) -> None:
        """Forget what referred to a row whose key a new one has got."""
        if self._fresh or table.generated is None:
            return
        for other in self._subject.tables.values():
            for place, one in enumerate(other.key):
                if one.of == table.name != other.name:
                    self.keys[other.name].forget(place, key[table.generated])

    def _count(self, step: Call | Walk | End, answer: Answer) -> None:
        self._tally.operations += 1
        if isinstance(answer, Returned):
            self._tally.answered += 1
            self._tally.found += not isinstance(step, End) and _is_something(answer.value)


def _is_something(value: Any) -> bool:
    return bool(value.items) if hasattr(value, "items") and not isinstance(value, dict) else bool(value)


def _rows(value: Any) -> list[Any]:
    """The entities that a writing call gave."""
    if isinstance(value, list):
        return value
    return [value.entity if hasattr(value, "created") and hasattr(value, "entity") else value]


def _is_foreign(answer: Answer) -> bool:
    """Whether it raised what no call may raise, whatever the other side does."""
    return isinstance(answer, Raised) and not isinstance(answer.error, RepositoryError | LeftError)


def _nothing(_: Any) -> None:
    """Compare nothing of what entering a block gives."""


def _leave(manager: Any, error: BaseException | None) -> None:
    """Leave a block; an error that comes out as it went in is no answer."""
    kind, traceback = (None, None) if error is None else (type(error), error.__traceback__)
    try:
        manager.__exit__(kind, error, traceback)
    except BaseException as left:
        if left is not error:
            raise


def _walked(repository: Any, query: Any, moves: Sequence[str]) -> list[Any]:
    """Pages by cursor; a move where there is no page goes back to the first one."""
    pages = [repository.scroll(query)]
    for move in moves:
        cursor = pages[-1].next if move == "after" else pages[-1].previous
        pages.append(repository.scroll(query, **({move: cursor} if cursor else {})))
    return pages

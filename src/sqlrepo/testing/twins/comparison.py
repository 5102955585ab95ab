"""Runs a program on both sides, step by step, and compares what each step comes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import combinations, permutations
from types import MappingProxyType
from typing import Any, TypeAlias

from sqlrepo import (
    CheckViolationError,
    ConstraintError,
    CursorPage,
    ForeignKeyViolationError,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    Page,
    RepositoryError,
    StaleEntityError,
    TransactionAbortedError,
    UniqueViolationError,
    UnitStateError,
    Upserted,
)
from sqlrepo.memory import ForeignKey
from sqlrepo.testing.twins.model import (
    Call,
    End,
    Fresh,
    Keys,
    Leaving,
    Mark,
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
    build,
)
from sqlrepo.testing.twins.stores import Stores

#: What is compared: nested tuples, in which generated keys are numbers of rows.
Form: TypeAlias = Any


# The violations of which memory may meet one in a later row of a batch, where a database looks at rows one by one.
_LOOKED_AT_BY_ROW = (CheckViolationError, ForeignKeyViolationError, UniqueViolationError)


class LeftError(Exception):
    """What a generated program leaves a block by on purpose."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A call returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """A call raised."""

    error: BaseException


Answer: TypeAlias = Returned | Raised


def attempt(work: Callable[[], Any]) -> Answer:
    """Do something and give what it came to."""
    try:
        return Returned(work())
    except Exception as error:  # noqa: BLE001  # whatever it is, the other side must raise it too
        return Raised(error)


class Reader:
    """Reads the answers of one side.

    Args:
        side: 0 for memory, 1 for the database.
        keys: the rows that were met, by repository.
        lacks: the capabilities that the database does not have.
    """

    def __init__(self, side: int, keys: Mapping[str, Keys], missing: frozenset[str]) -> None:
        self._side = side
        self._keys = keys
        self._lacks = missing

    def form(self, answer: Answer, table: Table | None) -> Form:
        """What is compared of an answer to a step about a table."""
        if isinstance(answer, Raised):
            return ("raised", type(answer.error).__name__, *self._error(answer.error, table))
        return ("returned", self._value(answer.value, table))

    def _value(self, value: Any, table: Table | None) -> Form:
        match value:
            case list() | tuple():
                return tuple(self._value(one, table) for one in value)
            case Page(items, has_next, total):
                return ("Page", self._value(items, table), has_next, total)
            case CursorPage(items):
                return ("CursorPage", self._value(items, table), value.has_previous, value.has_next)
            case Upserted(entity, created):
                return ("Upserted", self._value(entity, table), created)
            case _ if table is not None and isinstance(value, table.entity):
                return self._entity(value, table, [place.name for place in table.places])
            case _ if table is not None and is_dataclass(value) and type(value).__name__ == "Part":
                return self._entity(value, table, [one.name for one in fields(value)])
            case _:
                return scalar(value)

    def _entity(self, entity: Any, table: Table, names: Sequence[str]) -> Form:
        named = ((name, self.field(table, name, getattr(entity, name))) for name in names)
        return (type(entity).__name__, *named)

    def field(self, table: Table, name: str, value: Any) -> Form:
        """A field's value, or the number of the row whose key it is."""
        place = table.by_name.get(name)
        if place is None or place.of is None or value is None:
            return scalar(value)
        number = self._keys[place.of].number(self._side, value)
        return scalar(value) if number is None else f"row {number}"

    def _key(self, key: Any, table: Table | None) -> Form:
        """A key in an error; printed criteria hold keys of one side, so their text is not compared."""
        if table is None or (isinstance(key, str) and any(place.of for place in table.places)):
            return "criteria" if isinstance(key, str) else scalar(key)
        names = [place.name for place in table.key]
        values = key if isinstance(key, tuple) else (key,)
        if len(names) != len(values):
            return scalar(key)
        return tuple(self.field(table, name, value) for name, value in zip(names, values, strict=True))

    def _cause(self, error: BaseException | None) -> Form:
        """What aborted a unit; where rows are looked at one by one, that may be another kind of violation."""
        one_by_one = "references_at_end" in self._lacks and isinstance(error, _LOOKED_AT_BY_ROW)
        return "a violation" if one_by_one else type(error).__name__

    def _error(self, error: BaseException, table: Table | None) -> tuple[Form, ...]:
        match error:
            case ForeignKeyViolationError() if "fk_error_details" in self._lacks:
                return ()
            case ConstraintError():
                return (error.constraint, error.fields, error.table)
            case NotFoundError():
                return (error.entity.__name__, self._key(error.key, table))
            case StaleEntityError():
                return (error.entity.__name__, self._key(error.key, table), error.version)
            case MultipleFoundError():
                return (error.entity.__name__,)
            case InvalidValueError():
                return (error.field, error.reason)
            case UnitStateError():
                return (error.reason,)
            case TransactionAbortedError():
                return (self._cause(error.__cause__), error.retryable)
            case RepositoryError():
                return (error.retryable,)
            case _:
                return ()


def scalar(value: Any) -> Form:
    """A value as it must be on both sides: of the same type, and written the same way."""
    return value if value is None or type(value) is str else (type(value).__name__, repr(value))


def is_which(forms: Sequence[Form], *, of_any_kind: bool) -> bool:
    """Whether two answers differ at most in which of several violated constraints is named."""
    kinds = {kind.__name__ for kind in _LOOKED_AT_BY_ROW}
    raised = {form[1] if form[0] == "raised" else "" for form in forms}
    return raised <= kinds and (of_any_kind or len(raised) == 1)


_ENTITY = ("add", "update", "save", "upsert", "remove")
_OVER_ITS_OWN = ("update", "save")
_ENTITIES = ("add_many", "upsert_many")
_CHANGES = ("patch", "update_where")
_DELETING = ("delete", "remove", "delete_where")
_SETS = ("update_where", "delete_where")


class Writes:
    """A call of memory's side, and what is stored before it; looked at only where there are several constraints.

    Args:
        subject: the unit of work under test.
        table: the repository's.
        call: the call.
        unit: memory's unit of work.
        side: memory's side.
    """

    def __init__(self, subject: Subject, table: Table, call: Call, unit: Any, side: Side) -> None:
        self._subject = subject
        self._table = table
        self._call = call
        self._side = side
        several = len(table.uniques) + len(table.foreign_keys) > 1
        writes = call.method in (*_ENTITY, *_ENTITIES, *_CHANGES)
        names = {table.name, *(parent[0].name for parent in self._parents)} if several and writes else ()
        self._before = {name: _stored(getattr(unit, name)) for name in names}

    def violate(self, constraint: str | None, fields: tuple[str, ...]) -> bool:
        """Whether rows would agree in the unique constraint that is named so."""
        if (constraint, fields) not in self._table.uniques:
            return False
        before = [self._values(entity) for entity in self._before.get(self._table.name, ())]
        return any(_agree(one, other, fields) for one, other in self._pairs(before))

    def dangle(self, table: str | None, constraint: str | None, fields: tuple[str, ...]) -> bool:
        """Whether rows would refer to none by the foreign key that is named so, or be left with none by a deletion."""
        if self._call.method in _DELETING:
            return any(
                (one.schema.name, key.name, named) == (table, constraint, fields)
                and key.table == self._table.schema.place
                for one in self._subject.tables.values()
                for key, named in one.foreign_keys
            )
        return any(
            self._is_open(key, fields)
            for key, named in self._table.foreign_keys
            if (key.name, named) == (constraint, fields)
        )

    def dangle_anywhere(self) -> bool:
        """Whether rows would refer to none by some foreign key, for databases that do not name it."""
        return any(self._is_open(key, named) for key, named in self._table.foreign_keys)

    @property
    def is_of_several_rows(self) -> bool:
        """Whether the call may write more than one row."""
        return self._call.method in (*_ENTITIES, *_SETS)

    @property
    def counts_cascades(self) -> bool:
        """Whether the call counts rows that a cascade of its own may reach."""
        itself = (key for key, _ in self._table.foreign_keys if key.table == self._table.schema.place)
        return self._call.method == "delete_where" and any(key.on_delete == "CASCADE" for key in itself)

    @property
    def _parents(self) -> list[tuple[Table, tuple[str, ...]]]:
        found = [self._subject.parent(key) for key, _ in self._table.foreign_keys]
        return [one for one in found if one is not None]

    def _is_open(self, key: ForeignKey, fields: tuple[str, ...]) -> bool:
        parent = self._subject.parent(key)
        there = set() if parent is None else {_of(entity, parent[1]) for entity in self._before.get(parent[0].name, ())}
        given = [tuple(row.get(name) for name in fields) for row in self._written()]
        return any(None not in values and values not in there for values in given)

    def _written(self) -> list[dict[str, Any]]:
        """What rows would hold afterwards."""
        if self._call.method in _CHANGES:
            changes = build(self._changes(), self._side)
            return [{**self._values(entity), **changes} for entity in self._before.get(self._table.name, ())]
        given = build(self._call.arguments[0], self._side)
        return [self._values(one) for one in (given if self._call.method in _ENTITIES else [given])]

    def _pairs(self, before: list[dict[str, Any]]) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """The rows of which two may come to agree."""
        if self._call.method in _CHANGES:
            changes = build(self._changes(), self._side)
            for one, other in permutations(before, 2):
                yield {**one, **changes}, other
                yield {**one, **changes}, {**other, **changes}
            return
        written = self._written()
        own = [place.name for place in self._table.key] if self._call.method in _OVER_ITS_OWN else []
        yield from ((new, old) for new in written for old in before if not own or not _agree(new, old, own))
        yield from combinations(written, 2)

    def _changes(self) -> dict[str, Any]:
        given = self._call.options["set_"] if self._call.method == "update_where" else self._call.arguments[1]
        return dict(given)

    def _values(self, entity: Any) -> dict[str, Any]:
        return {place.name: getattr(entity, place.name) for place in self._table.places}


def _stored(repository: Any) -> Sequence[Any]:
    found = attempt(repository.find)
    return found.value if isinstance(found, Returned) else ()


def _of(entity: Any, fields: Iterable[str]) -> tuple[Any, ...]:
    return tuple(getattr(entity, name) for name in fields)


def _agree(one: Mapping[str, Any], other: Mapping[str, Any], fields: Iterable[str]) -> bool:
    return all(one.get(name) is not None and one.get(name) == other.get(name) for name in fields)


_BATCHES = ("add_many", "upsert_many")
_KEEPING = ("NO ACTION", "RESTRICT")


def is_refused_row_by_row(subject: Subject, table: Table, call: Call, unit: Any, side: Side) -> bool:
    """Whether a call depends on when references are looked at; neither side is then asked.

    Args:
        subject: the unit of work under test.
        table: the repository's.
        call: the call.
        unit: memory's unit of work.
        side: memory's side.
    """
    own = list(_own(subject, table))
    if call.method in _BATCHES:
        rows = list(build(call.arguments[0], side))
        return any(_refers_forwards(rows, fields, targets) for fields, targets, _ in own)
    keeping = [(fields, targets) for fields, targets, action in own if action in _KEEPING]
    if call.method == "delete_where":
        return bool(keeping)
    if call.method in ("delete", "remove") and keeping:
        found = attempt(getattr(unit, table.name).find)
        stored = found.value if isinstance(found, Returned) else ()
        return any(
            _rowwise_of(row, fields) == _rowwise_of(row, targets) for row in stored for fields, targets in keeping
        )
    return False


def _own(subject: Subject, table: Table) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], str]]:
    """The foreign keys to the table itself: the fields, what they refer to, and what a deletion does."""
    for key, names in table.foreign_keys:
        parent = subject.parent(key)
        if parent is not None and parent[0] is table:
            yield names, parent[1], key.on_delete


def _refers_forwards(rows: Sequence[Any], fields: Iterable[str], targets: Iterable[str]) -> bool:
    """Whether a row of a batch refers to one behind it."""
    return any(
        _rowwise_of(row, fields) in [_rowwise_of(later, targets) for later in rows[place + 1 :]]
        for place, row in enumerate(rows)
    )


def _rowwise_of(row: Any, names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in names)


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
        self, subject: Subject, stores: Stores, missing: frozenset[str], tally: Tally, watcher: Watcher | None = None
    ) -> None:
        self._subject = subject
        self._stores = stores
        self._tally = tally
        self._watcher = watcher or Watcher()
        self._lacks = missing
        self._fresh = fresh = "fresh_keys" not in missing
        tops = stores.tops
        self.keys = {
            name: Keys(table.generated, fresh=fresh, top=tops.get(name, 0)) for name, table in subject.tables.items()
        }
        entities = {name: table.entity for name, table in subject.tables.items()}
        given: dict[Fresh, int | None] = {}
        self.sides = tuple(Side(index, self.keys, entities, given) for index in (0, 1))
        self._readers = tuple(Reader(index, self.keys, missing) for index in (0, 1))
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

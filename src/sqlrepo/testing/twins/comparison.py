"""Runs a program in memory and on the database, step by step, and compares the outcomes."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlrepo import (
    CursorPage,
    MultipleFoundError,
    NotFoundError,
    Page,
    RepositoryError,
    UnitStateError,
    Upserted,
    matches,
)
from sqlrepo.testing.twins.model import (
    Call,
    End,
    KeyMap,
    KeyOf,
    KnownRow,
    MadeValues,
    Matching,
    New,
    NotConstructedError,
    Orphans,
    Program,
    Question,
    Savepoint,
    Scroll,
    Side,
    Snapshot,
    Step,
    Table,
    Unit,
    UnitUnderTest,
    build,
)
from sqlrepo.testing.twins.outcomes import (
    BATCHES,
    INSERTS,
    ORDERED,
    UPDATES,
    WRITES,
    Form,
    Normalizer,
    Outcome,
    Outcomes,
    PendingCall,
    Raised,
    Returned,
    attempt,
    children_of,
    describe,
    find_all,
    in_any_order,
)
from sqlrepo.testing.twins.parts import orphans
from sqlrepo.testing.twins.relations import OPTIONS, READING, BrokenRelation, Relation, Relations, require
from sqlrepo.testing.twins.stores import Stores, connect


class Difference(Exception):  # noqa: N818  # finding one is the purpose
    """Memory and the database differ, or one side contradicts itself; `outcomes` holds both answers.

    For a contradiction, they are the answer that was expected and the one given, `broken` says why, and `number` chose
    the relation.
    """

    def __init__(
        self, outcomes: Outcomes, broken: BrokenRelation | None = None, number: int = -1, side: int = 0
    ) -> None:
        super().__init__(outcomes)
        self.outcomes = outcomes
        self.broken = broken
        self.number = number
        self.side = side


class ProgramError(Exception):
    """The exception by which a program leaves a block."""


def compare(unit: type[Any], url: Any, program: Callable[..., Any], *, context: Any = None) -> None:
    """Run a program in memory and on a database, whose tables are emptied first, and print what happens.

    Args:
        unit: a class of units of work; those of an async one are given to the program with methods that wait.
        url: the database.
        program: a function of another function, which opens units of work.
        context: the `context` of the units.
    """
    stores = Stores(UnitUnderTest(unit), connect(unit, url), context)
    stores.create_tables()
    stores.reset()
    for side, name in enumerate(("memory", "database")):
        sys.stdout.write(f"{name}:\n")
        ended = attempt(partial(program, partial(stores.open, side)))
        sys.stdout.write(f"{describe(ended) if isinstance(ended, Raised) else 'raises nothing'}\n")
    stores.close()


# -- what writes must keep


@dataclass(frozen=True, slots=True)
class Writing:
    """A call that returns the rows that it writes, what it is given on each side, and the rows known before."""

    call: Call
    table: Table
    given: Sequence[list[Any]]
    known: frozenset[Any]
    before: Sequence[Any] = (None, None)

    def relations(self, side: int, returned: Sequence[Any], found: Sequence[Any]) -> Iterator[Relation]:
        """The rows that a call returns hold what they were given, and are found as they were returned."""
        table, method = self.table, self.call.method
        version = table.by_column.get(table.schema.version or "")
        if method in ("add", "add_many", *UPDATES):
            for one, entity in zip(self.given[side], returned, strict=True):
                values, stored = _both(table, one, entity, updated=method in UPDATES)
                if method == "update" and version is not None and version.get(one) is not None:
                    values[version.name], stored[version.name] = version.get(one) + 1, version.get(entity)
                yield f"{method} keeps what it is given", (self.call,), values, stored
        if method == "patch" and self.before[side] is not None:
            left = _left(table, self.before[side], dict(self.call.arguments[1]))
            now = {name: table.values_of(returned[0])[name] for name in left}
            if version is not None and self.call.arguments[1].keys() - {version.name}:
                left[version.name], now[version.name] = version.get(self.before[side]) + 1, version.get(returned[0])
            yield "patch leaves what it is not given", (self.call,), left, now
        if table.key:
            known = {table.key_of(one): table.values_of(one) for one in found}
            given = {key: table.values_of(one) for one in returned if (key := table.key_of(one)) in known}
            again = {key: known[key] for key in given}
            yield f"find has what {method} returned", (self.call, Call(table.name, "find")), given, again


def _own_values(table: Table, entity: Any, *, updated: bool) -> dict[str, Any]:
    """The values that must come back as they were given: not what the store fills in, nor what changes on purpose."""
    found: dict[str, Any] = {}
    for one in table.fields:
        value = one.get(entity)
        rewritten = updated and bool(one.column.onupdate or one.column.server_onupdate)
        changed = one.name in table.normalises | table.generated_fields
        if not (one.made or rewritten or changed or one.column.defaults(value)):
            by_type = one.column.type.bind is not None and not table.converts
            found[one.name] = one.column.type.load(one.column.type.store(value)) if by_type else value
    return found


def _left(table: Table, entity: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an entity that changes of other fields and parts leave."""
    made = {one.name for one in table.fields if one.made or one.column.onupdate or one.column.server_onupdate}
    fixed = {*made, *table.generated_fields}
    return {
        name: value
        for name, value in table.values_of(entity).items()
        if name not in fixed and name not in changes and name.partition("__")[0] not in changes
    }


def _both(table: Table, given: Any, stored: Any, *, updated: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values that must agree of an entity as given and as stored, those of its children among them."""
    own = _own_values(table, given, updated=updated)
    found = {name: table.by_name[name].get(stored) for name in own}
    return own | _tree(table, given), found | _tree(table, stored)


def _tree(table: Table, entity: Any) -> dict[str, Any]:
    """Return the children of an entity, as far as the store keeps their values and order."""
    found: dict[str, Any] = {}
    for name, part in table.children.items():
        fixed = [one for one in part.fields if not (one.made or one.column.fills_itself or one.column.onupdate)]
        own = [one for one in fixed if one.column.name not in part.part.supplied]
        children = [{one.name: one.get(child) for one in own} | _tree(part, child) for child in part.of(entity)]
        found[name] = children if part.part.order and not part.is_set else sorted(children, key=repr)
    return found


def _identity(table: Table, entity: Any) -> tuple[Any, ...]:
    return tuple(getattr(entity, name, None) for name in table.natural_key)


# -- the run of a program


@dataclass(slots=True)
class Tally:
    """Counts what programs did."""

    operations: int = 0
    asked: int = 0
    returned: int = 0
    stored: int = 0
    found: int = 0
    #: How often each query object class was used, with each of its fields.
    queries: Counter[type] = field(default_factory=Counter[type])
    filters: Counter[tuple[type, str]] = field(default_factory=Counter[tuple[type, str]])


class Runner:
    """Runs one program; `relation` chooses the relations that are checked: all in turn if None, none if negative."""

    def __init__(self, stores: Stores, tally: Tally, relation: int | None = None) -> None:
        self._stores = stores
        self._relation = relation
        self._tables = stores.subject.tables
        self._tally = tally
        self._fresh_keys = "fresh_keys" not in stores.missing
        self._keys = {
            name: KeyMap(table, stores.highest_keys, fresh_keys=self._fresh_keys)
            for name, table in {**self._tables, **stores.subject.children}.items()
        }
        for name, part in stores.subject.children.items():  # a repository of the same table knows the same keys
            self._keys[name] = next(
                (
                    self._keys[one]
                    for one, table in self._tables.items()
                    if table.schema.full_name == part.schema.full_name
                ),
                self._keys[name],
            )
        self._sides = [Side(index, self._keys, self._tables, partial(self._current, index)) for index in (0, 1)]
        self._read: dict[tuple[int, str, int], Any] = {}
        self._made = MadeValues()
        self._normalizers = [Normalizer(side, stores.missing, self._made) for side in self._sides]
        self._units: list[list[Any]] = []
        self._snapshots: list[dict[str, Snapshot]] = []

    def run(self, program: Program) -> None:
        """Run a program, and compare at its end what is stored.

        Raises:
            Difference: a step had different outcomes.
        """
        left = [Orphans(*one.name.split(".", 1)) for one in self._stores.subject.children.values()]
        for unit in (*program, Unit((*(Call(name, "find") for name in self._tables), *left))):
            self._unit(unit)

    def _current(self, index: int, repository: str, row: KnownRow) -> Any:
        """Read a known row's entity again, once a step; if it is gone, return it as it was created.

        But not if children with its children's keys may exist by now.
        """
        place = (index, repository, row.number)
        if place not in self._read:
            key = row.keys[index]
            opened = getattr(self._units[-1][index], repository)
            found = attempt(lambda: opened.get_or_none(key[0] if len(key) == 1 else key))
            gone = row.entities[index] if self._fresh_keys else None
            self._read[place] = (isinstance(found, Returned) and found.value) or gone
        return self._read[place]

    # -- blocks

    def _unit(self, unit: Unit) -> None:
        units = [self._stores.open(side, read_only=unit.read_only) for side in (0, 1)]
        self._units.append(units)
        try:
            self._block(unit, units)
        finally:
            self._units.pop()

    def _block(self, block: Unit | Savepoint, managers: Sequence[Any]) -> bool:
        """Run a block; return True if it raised an error, or could not be entered."""
        entered = self._compare(lambda side: _enter(managers[side]))
        if isinstance(entered[0], Raised):
            return True
        self._push_snapshot()
        try:
            errors = self._steps(block)
        except BaseException as error:
            for manager in managers:
                attempt(partial(_leave, manager, error))
            raise
        left = self._compare(lambda side: _leave(managers[side], errors[side] if errors else None))
        raised = bool(errors) or isinstance(left[0], Raised)
        self._pop_snapshot(rolled_back=raised)
        return raised

    def _steps(self, block: Unit | Savepoint) -> list[BaseException]:
        """Take the steps; return the errors by which the block ends, if any."""
        for step in block.steps:
            outcomes = self._step(step)
            errors = [one.error for one in outcomes or () if isinstance(one, Raised)]
            if block.ending == "first error" and len(errors) == len(self._sides):
                return errors
        return [ProgramError(), ProgramError()] if block.ending == "exception" else []

    def _push_snapshot(self) -> None:
        self._snapshots.append({name: keys.snapshot() for name, keys in self._keys.items()})

    def _pop_snapshot(self, *, rolled_back: bool) -> None:
        """End a block or transaction, and forget its rows if it was rolled back."""
        for name, snapshot in self._snapshots.pop().items():
            if rolled_back:
                self._keys[name].restore(snapshot)

    # -- steps

    def _step(self, step: Step) -> Outcomes | None:
        self._read.clear()
        match step:
            case Savepoint():
                self._block(step, [unit.savepoint() for unit in self._units[-1]])
            case Unit():
                self._unit(step)
            case Call() | Scroll() if not all(_can_be_built(step, side) for side in self._sides):
                return None
            case Call():
                return self._call(step)
            case Scroll() | End() | Orphans():
                return self._perform(step)
        return None

    def _call(self, call: Call) -> Outcomes | None:
        table = self._tables[call.repository]
        pending = PendingCall(call, table, self._units[-1][0], self._sides[0], self._stores.missing)
        if pending.depends_on_row_order():
            return None
        if call.method in INSERTS and table.refers_to_itself and not self._fresh_keys:
            self._forget_deleted(table)
        return self._perform(call, pending)

    def _forget_deleted(self, table: Table) -> None:
        """Forget deleted rows, because a new one may get their key."""
        found = find_all(self._units[-1][0], table.name)
        if found is not None:
            living, keys = set(map(table.key_of, found)), self._keys[table.name]
            keys.rows = [row for row in keys.rows if row.keys[0] in living]

    def _perform(self, step: Call | Scroll | End | Orphans, pending: PendingCall | None = None) -> Outcomes:
        writing = self._prepare(step) if isinstance(step, Call) and step.method in WRITES else None
        outcomes = self._compare(lambda side: self._outcome(step, side), step, pending, writing)
        if isinstance(step, End):
            self._note_end(step, outcomes[0])
        elif isinstance(step, Orphans):
            self._require_none(step, outcomes)
        elif writing is not None:
            self._require_kept(writing, outcomes)
        elif isinstance(step, Scroll) or (step.method in READING and "into" not in step.options):
            self._require_relations(step, outcomes)
        self._count(step, outcomes[0])
        return outcomes

    def _prepare(self, call: Call) -> Writing:
        """Note what a call is given, and which rows there are if it may make values for new ones."""
        table, given = self._tables[call.repository], list[list[Any]]()
        for side in self._sides:
            first = build(call.arguments[0], side)
            given.append(first if call.method in BATCHES else [first])
        rows = find_all(self._units[-1][0], table.name) if table.made_columns and call.method in INSERTS else None
        key, before = call.arguments[0], (None, None)
        row = self._keys[key.repository].at(key.index) if call.method == "patch" and isinstance(key, KeyOf) else None
        if row is not None:
            before = tuple(self._current(side.index, table.name, row) for side in self._sides)
        return Writing(call, table, given, frozenset(_identity(table, one) for one in rows or ()), before)

    def _require_none(self, step: Orphans, outcomes: Outcomes) -> None:
        for index, outcome in enumerate(outcomes):
            if outcome != Returned(0):
                broken = BrokenRelation(
                    "no child is left without its owner", (step,), 0, getattr(outcome, "value", outcome)
                )
                raise Difference((Returned(0), outcome), broken, 0, index)

    def _require_kept(self, writing: Writing, outcomes: Outcomes) -> None:
        """Check on each side that the rows which a call returns hold what they were given, and are found again."""
        for index, outcome in enumerate(outcomes):
            if (self._relation is not None and self._relation < 0) or isinstance(outcome, Raised):
                continue
            rows = _entities(outcome.value)
            found = attempt(partial(self._outcome, Call(writing.table.name, "find"), index))
            try:
                require(writing.relations(index, rows, found.value if isinstance(found, Returned) else ()))
            except BrokenRelation as broken:
                raise Difference((Returned(broken.expected), Returned(broken.answer)), broken, 0, index) from None

    def _require_relations(self, step: Call | Scroll, outcomes: Outcomes) -> None:
        """Ask each side the questions whose answers must fit its outcome."""
        table, number = self._tables[step.repository], self._tally.asked if self._relation is None else self._relation
        self._tally.asked += 1
        for index, (outcome, normalizer) in enumerate(zip(outcomes, self._normalizers, strict=True)):
            if number < 0 or _is_refused(outcome):
                continue

            def ask(other: Question, index: int = index, normalizer: Normalizer = normalizer) -> Any:
                return normalizer.answer(attempt(lambda: self._outcome(other, index)), table)

            try:
                Relations(step, table, self._sides[index], ask).require(normalizer.answer(outcome, table), number)
            except BrokenRelation as broken:
                raise Difference((Returned(broken.expected), Returned(broken.answer)), broken, number, index) from None

    def _outcome(self, step: Question | End | Orphans, index: int) -> Any:
        unit, side = self._units[-1][index], self._sides[index]
        match step:
            case End(how):
                return getattr(unit, how)()
            case Call(name, method, arguments, options):
                result = getattr(getattr(unit, name), method)(*build(arguments, side), **build(dict(options), side))
                return list(result) if method == "stream" else result
            case Orphans(name, part):
                return orphans(getattr(unit, name), part)
            case Scroll(name, query, moves):
                return scroll(getattr(unit, name), build(query, side), moves)
            case Matching(name, criterion):
                criterion = build(criterion, side)
                return [one for one in getattr(unit, name).find() if matches(criterion, one)]

    def _compare(
        self,
        work: Callable[[int], Any],
        step: Call | Scroll | End | Orphans | None = None,
        pending: PendingCall | None = None,
        writing: Writing | None = None,
    ) -> Outcomes:
        memory, database = attempt(lambda: work(0)), attempt(lambda: work(1))
        table = self._tables[step.repository] if isinstance(step, Call | Scroll) else None
        if table is not None and table.children and isinstance(step, Call) and step.method in WRITES:
            self._note_children(table, memory, database)
        if isinstance(step, Call) and step.method in INSERTS:
            self._note_rows(self._tables[step.repository], memory, database)
            if writing is not None:
                self._note_made(writing, memory, database)
        forms = [self._normalizers[0].form(memory, table), self._normalizers[1].form(database, table)]
        if isinstance(step, Call | Scroll) and (whole := self._order_differs(step)) is not None:
            forms = [in_any_order(form, whole=whole) for form in forms]
        others = all(map(self._names_deferred, forms)) if pending is None else pending.allows(forms, database)
        allowed = forms[0] == forms[1] or others
        if not allowed or _is_foreign(memory):
            raise Difference((memory, database))
        return memory, database

    def _names_deferred(self, form: Form) -> bool:
        """Return True for a violation that a COMMIT found, of which the database may name another than memory."""
        deferred = [
            ((table.schema.name,), (key.name,))
            for table in self._tables.values()
            for key in table.schema.foreign_keys
            if key.deferred
        ]
        return form[1] == "ForeignKeyViolationError" and (form[4:], form[2:3]) in deferred

    def _order_differs(self, step: Call | Scroll) -> bool | None:
        """Return None if the order is the same on both sides; else True for all rows, and False for some of them."""
        table, method = self._tables[step.repository], getattr(step, "method", "scroll")
        made = table.made_columns
        if not made or method not in ORDERED:
            return None
        given = step.arguments if isinstance(step, Call) else (step.query,)
        queries = [build(one, self._sides[0]) for one in given if isinstance(one, New)]
        asked = [{name: getattr(one, name, None) for name in OPTIONS} for one in queries]
        asked.append(dict(getattr(step, "options", {})))
        names = {name for one in asked for name in re.findall(r"\w+", repr(one.get("order_by")))}
        columns = {*table.schema.key, *(field.column.name for field in table.fields if field.name in names)}
        whole = method in ("find", "stream") and not any(one.get("limit") or one.get("offset") for one in asked)
        return whole if columns & set(made) else None

    # -- what is noted of outcomes

    def _note_end(self, step: End, outcome: Outcome) -> None:
        """Note the end of a transaction, which is refused inside a savepoint."""
        if isinstance(outcome, Raised) and isinstance(outcome.error, UnitStateError):
            return
        self._pop_snapshot(rolled_back=step.how == "rollback" or isinstance(outcome, Raised))
        self._push_snapshot()

    def _note_rows(self, table: Table, memory: Outcome, database: Outcome) -> None:
        if not isinstance(memory, Returned) or not isinstance(database, Returned):
            return
        rows = [_entities(memory.value), _entities(database.value)]
        self._tally.stored += len(rows[0])
        for position, pair in enumerate(zip(*rows, strict=False)):
            keys = table.key_of(pair[0]), table.key_of(pair[1])
            if keys[0] and keys[1] and (row := self._keys[table.name].add((keys[0], keys[1]), pair)):
                self._note_row(table, position, row)

    def _note_children(self, table: Table, memory: Outcome, database: Outcome) -> None:
        """Pair the generated keys of the children that a write returned."""
        if not isinstance(memory, Returned) or not isinstance(database, Returned):
            return
        for pair in zip(_entities(memory.value), _entities(database.value), strict=False):
            for (part, first), (_, second) in zip(*(children_of(table, one) for one in pair), strict=False):
                for children in zip(first, second, strict=False):
                    keys = part.key_of(children[0]), part.key_of(children[1])
                    if part.generated is not None and keys[0] and keys[1]:
                        self._keys[part.name].add((keys[0], keys[1]))

    def _note_made(self, writing: Writing, memory: Outcome, database: Outcome) -> None:
        """Pair the values that were made for new rows."""
        if not isinstance(memory, Returned) or not isinstance(database, Returned):
            return
        table, always = writing.table, writing.call.method in ("add", "add_many")
        for given, *pair in zip(writing.given[0], _entities(memory.value), _entities(database.value), strict=False):
            if always or _identity(table, pair[0]) not in writing.known:
                for one in table.fields:
                    if table.made(one.name) and one.get(given) is None:
                        self._made.pair(table, one.name, (one.get(pair[0]), one.get(pair[1])))

    def _note_row(self, table: Table, position: int, row: KnownRow) -> None:  # noqa: ARG002  # reports need the position
        """Forget the rows that referred to a deleted row with the new row's key."""
        if self._fresh_keys or table.generated is None:
            return
        reused = row.keys[1][table.generated]
        for other in self._tables.values():
            for part, one in enumerate(other.key):
                if one.origin == table.name != other.name:
                    keys = self._keys[other.name]
                    keys.rows = [row for row in keys.rows if row.keys[1][part] != reused]

    def _count(self, step: Call | Scroll | End | Orphans, outcome: Outcome) -> None:
        self._tally.operations += 1
        for one in (step.query,) if isinstance(step, Scroll) else getattr(step, "arguments", ()):
            if isinstance(one, New) and one.cls in self._tables[getattr(step, "repository", "")].queries:
                self._tally.queries[one.cls] += 1
                self._tally.filters.update((one.cls, name) for name, value in one.values.items() if value is not None)
        if isinstance(outcome, Returned):
            self._tally.returned += 1
            value = outcome.value
            found = value.items if isinstance(value, Page | CursorPage) else value
            self._tally.found += not isinstance(step, End) and bool(found)


def _can_be_built(step: Call | Scroll, side: Side) -> bool:
    """Return False if a class of the user's refuses its values beside a side's keys, so that no call can be made."""
    try:
        build(step.query if isinstance(step, Scroll) else (step.arguments, dict(step.options)), side)
    except NotConstructedError:
        return False
    except RepositoryError:  # an outcome of the step
        return True
    return True


def _entities(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value.entity if isinstance(value, Upserted) else value]


def _is_foreign(outcome: Outcome) -> bool:
    """Return True if a call raised an error that no call may raise."""
    return isinstance(outcome, Raised) and not isinstance(outcome.error, RepositoryError | ProgramError)


def _is_refused(outcome: Outcome) -> bool:
    """Return True if a step found no answer; that there is no row, or several, is one."""
    return isinstance(outcome, Raised) and not isinstance(outcome.error, NotFoundError | MultipleFoundError)


def _enter(manager: Any) -> None:
    manager.__enter__()


def _leave(manager: Any, error: BaseException | None) -> None:
    """Leave a block; the error that it is left by is not an outcome."""
    kind, traceback = (None, None) if error is None else (type(error), error.__traceback__)
    try:
        manager.__exit__(kind, error, traceback)
    except BaseException as left:
        if left is not error:
            raise


def scroll(repository: Any, query: Any, moves: Sequence[str]) -> list[Any]:
    """Scroll through pages; a move beyond the ends goes to the first page."""
    pages = [repository.scroll(query)]
    for move in moves:
        cursor = pages[-1].next if move == "after" else pages[-1].previous
        pages.append(repository.scroll(query, **({move: cursor} if cursor else {})))
    return pages

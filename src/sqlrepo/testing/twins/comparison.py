"""Runs a program in memory and on the database, step by step, and compares the outcomes."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import MAX_PREC, Context, Decimal
from functools import partial
from itertools import combinations, permutations
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
    matches,
)
from sqlrepo.testing.twins.model import (
    Call,
    End,
    KeyMap,
    KnownRow,
    MadeValues,
    Matching,
    New,
    NotConstructedError,
    Program,
    Question,
    Reference,
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
from sqlrepo.testing.twins.relations import OPTIONS, READING, BrokenRelation, Relation, Relations, require
from sqlrepo.testing.twins.stores import CHECKS_BY_NAME, Stores, connect

# -- outcomes

#: What is compared of an outcome: nested tuples with the numbers of rows in place of generated keys.
Form: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class Returned:
    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    error: BaseException


Outcome: TypeAlias = Returned | Raised
Outcomes: TypeAlias = tuple[Outcome, Outcome]


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


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an answer, compared by its form."""

    form: Form
    entity: Any = field(compare=False)

    def __repr__(self) -> str:
        return repr(self.entity)


class ProgramError(Exception):
    """The exception by which a program leaves a block."""


def describe(outcome: Outcome) -> str:
    """Write an outcome in one line."""
    if isinstance(outcome, Raised):
        return f"raises {type(outcome.error).__name__} {vars(outcome.error)!r}".replace("\n", " ")
    return ascii(outcome.value)


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


def attempt(work: Callable[[], Any]) -> Outcome:
    try:
        return Returned(work())
    except Exception as error:  # noqa: BLE001  # whatever it is, the other side must raise it too
        return Raised(error)


# Where the database checks row by row, memory may find another of these violations in a later row.
_VIOLATIONS = (CheckViolationError, ForeignKeyViolationError, UniqueViolationError)

# What is compared of an error, by its first class here.
_DATA: Mapping[type[BaseException], tuple[str, ...]] = {
    ConstraintError: ("constraint", "fields", "table"),
    NotFoundError: ("entity", "key"),
    StaleEntityError: ("entity", "key", "version"),
    MultipleFoundError: ("entity",),
    InvalidValueError: ("field", "reason"),
    UnitStateError: ("reason",),
    TransactionAbortedError: ("__cause__", "retryable"),
    RepositoryError: ("retryable",),
}


class Normalizer:
    """Turns the outcomes of one side into forms that can be compared."""

    def __init__(self, side: Side, missing: frozenset[str], made: MadeValues) -> None:
        self._side = side
        self._missing = missing
        self._made = made

    def form(self, outcome: Outcome, table: Table | None) -> Form:
        if isinstance(outcome, Raised):
            return ("raised", type(outcome.error).__name__, *self._error(outcome.error, table))
        return ("returned", self._value(outcome.value, table))

    def answer(self, outcome: Outcome, table: Table) -> Any:
        """Return what relations compare of an outcome."""
        match outcome:
            case Raised(error):
                return type(error).__name__
            case Returned(list() as values):
                return [self.answer(Returned(one), table) for one in values]
            case Returned(Page(items, has_next, total)):
                return self.answer(Returned(items), table), has_next, total
            case Returned(CursorPage(items) as page):
                return self.answer(Returned(items), table), page.has_previous, page.has_next
            case Returned(value):
                return Row(_exact(value, table), value) if isinstance(value, table.entity) else value

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
                return self._entity(value, table, table.by_name)
            case _ if table is not None and is_dataclass(value) and type(value).__name__ == "Projection":
                return self._entity(value, table, [one.name for one in fields(value)])
            case _:
                return _scalar(value)

    def _entity(self, entity: Any, table: Table, names: Iterable[str]) -> Form:
        return (type(entity).__name__, *((name, self._field(table, name, getattr(entity, name))) for name in names))

    def _field(self, table: Table, name: str, value: Any) -> Form:
        """Return a field's value, or what stands for it if it was made at the moment of writing."""
        field = table.by_name.get(name)
        if field is None or value is None:
            return _scalar(value)
        if isinstance(value, Decimal) and field.column.type.precision is None:
            return _scalar(value.normalize(_ALL_DIGITS))  # SQLite does not keep zeros at the end
        if field.origin is None:
            return self._made.form(self._side.index, table, name, value) or _scalar(value)
        number = self._side.keys[field.origin].number(self._side.index, value)
        return _scalar(value) if number is None else f"row {number}"

    def _error(self, error: BaseException, table: Table | None) -> tuple[Form, ...]:
        if isinstance(error, ForeignKeyViolationError) and "fk_error_details" in self._missing:
            return ()
        names = next((names for kind, names in _DATA.items() if isinstance(error, kind)), ())
        return tuple(self._datum(name, getattr(error, name), table) for name in names)

    def _datum(self, name: str, value: Any, table: Table | None) -> Form:
        match name:
            case "entity":
                return value.__name__
            case "key":
                return self._key(value, table)
            case "__cause__":
                one_by_one = "references_at_end" in self._missing and isinstance(value, _VIOLATIONS)
                return "a violation" if one_by_one else type(value).__name__
            case _:
                return value

    def _key(self, key: Any, table: Table | None) -> Form:
        """Normalize an error's key; where it is the text of criteria, that may contain keys of one side."""
        if table is None or (isinstance(key, str) and any(one.origin or table.made(one.name) for one in table.fields)):
            return "criteria" if isinstance(key, str) else _scalar(key)
        values = key if isinstance(key, tuple) else (key,)
        if len(table.key) != len(values):
            return _scalar(key)
        return tuple(self._field(table, field.name, value) for field, value in zip(table.key, values, strict=True))


def _exact(entity: Any, table: Table) -> Form:
    """Return all that one side's answers must agree in."""
    return tuple((name, _scalar(value)) for name, value in table.values_of(entity).items())


def in_any_order(form: Form, *, whole: bool) -> Form:
    """Return what two results have in common whose orders differ: their rows, or the number of rows in each part."""
    if form[0] == "raised":
        return form
    return ("returned", tuple(sorted(form[1], key=repr)) if whole else _sizes(form[1]))


def _sizes(form: Form) -> Form:
    match form:
        case ("Page" | "CursorPage", items, *rest):
            return (len(items), *rest)
        case (("CursorPage", *_), *_):
            return tuple(map(_sizes, form))
        case _:
            return None if form is None else len(form)


_ALL_DIGITS = Context(prec=MAX_PREC)


def _scalar(value: Any) -> Form:
    """Keep a value's type and spelling, which must be equal on both sides."""
    return value if value is None or type(value) is str else (type(value).__name__, repr(value))


# -- differences that are allowed

_BATCHES = ("add_many", "upsert_many")
# The calls that return rows which may be new.
_INSERTS = ("add", "save", "upsert", *_BATCHES)
_UPDATES = ("update", "save")
_CHANGES = ("patch", "update_where")
_DELETES = ("delete", "remove", "delete_where")
# The calls that return the rows that they write.
_WRITES = (*_INSERTS, "update", "patch")
# The calls whose result depends on the order of rows.
_ORDERED = ("find", "stream", "first", "page", "scroll")


class PendingCall:
    """A call that may violate several constraints, of which the database may name another than memory."""

    def __init__(self, call: Call, table: Table, unit: Any, side: Side, missing: frozenset[str]) -> None:
        self._call = call
        self._table = table
        self._unit = unit
        self._side = side
        self._one_by_one = "references_at_end" in missing
        self._by_declaration = CHECKS_BY_NAME in missing
        self._details = "fk_error_details" not in missing
        parents = {reference.parent.name for reference in table.references if reference.parent is not None}
        writes = call.method in (*_INSERTS, "update", *_CHANGES)
        several = len(table.uniques) + len(table.references) > 1
        self._before = {name: self._rows(name) for name in ({table.name} | parents if several and writes else ())}

    def depends_on_row_order(self) -> bool:
        """Return True if the outcome depends on when references are checked; such a call is left out."""
        if not self._one_by_one or not self._table.refers_to_itself:
            return False
        own = [one for one in self._table.references if one.parent is self._table]
        if self._call.method in _BATCHES:
            pairs = list(combinations(self._rows_to_write(), 2))
            return any(_values(row, one.fields) == _values(later, one.targets) for row, later in pairs for one in own)
        keeping = [one for one in own if one.key.on_delete in ("NO ACTION", "RESTRICT")]
        if self._call.method in ("delete", "remove") and keeping:
            rows = self._rows(self._table.name)
            return any(_values(row, one.fields) == _values(row, one.targets) for row in rows for one in keeping)
        return self._call.method == "delete_where" and bool(keeping)

    def allows(self, forms: Sequence[Form], database: Outcome) -> bool:
        """Return True if the database may give this outcome in place of memory's."""
        one_by_one = self._one_by_one and self._call.method in (*_BATCHES, "update_where", "delete_where")
        if one_by_one and self._counts_cascades and all(form[0] == "returned" for form in forms):
            memory, count = (int(form[1][1]) for form in forms)
            return 0 < count <= memory  # rows that a cascade reached first are not counted
        # References from other tables are checked before or after the table's own constraints.
        tables = {one for form in forms if form[1] == "ForeignKeyViolationError" for one in form[4:]}
        elsewhere = bool(tables - {self._table.schema.name})
        kinds = {form[1] if form[0] == "raised" else "" for form in forms}
        if not kinds <= {kind.__name__ for kind in _VIOLATIONS} or not (one_by_one or elsewhere or len(kinds) == 1):
            return False
        match database:
            case Raised(UniqueViolationError() as error):
                return self._violates(error.constraint, error.fields)
            case Raised(ForeignKeyViolationError() as error):
                return self._breaks(error)
            case Raised(CheckViolationError() as error) if self._by_declaration and len(kinds) == 1:
                return error.constraint in {check.name for check in self._table.schema.checks}
            case _:
                return False

    @property
    def _counts_cascades(self) -> bool:
        keys = [one.key for one in self._table.references if one.key.table == self._table.schema.full_name]
        return self._call.method == "delete_where" and any(key.on_delete == "CASCADE" for key in keys)

    def _violates(self, constraint: str | None, names: tuple[str, ...]) -> bool:
        """Return True if two rows would agree in a unique constraint."""
        known = (constraint, names) in self._table.uniques
        return known and any(self._agree(one, other, names) for one, other in self._pairs())

    def _breaks(self, error: ForeignKeyViolationError) -> bool:
        """Return True if rows would lack the row they refer to, or lose it by a deletion."""
        named = (error.constraint, error.fields)
        if self._call.method not in _DELETES and (not self._details or error.table == self._table.schema.name):
            own = self._table.references
            return any(self._dangles(one) for one in own if not self._details or (one.key.name, one.fields) == named)
        pairs = [(table.schema.name, one) for table in self._side.tables.values() for one in table.references]
        expected = (error.table, *named, self._table.schema.full_name)
        return any((name, one.key.name, one.fields, one.key.table) == expected for name, one in pairs)

    def _dangles(self, reference: Reference) -> bool:
        """Return True if rows would refer to none."""
        parent = reference.parent
        known = [_values(row, reference.targets) for row in self._before.get(parent.name, ())] if parent else []
        given = [_values(row, reference.fields) for row in self._rows_to_write()]
        return any(None not in values and values not in known for values in given)

    def _rows_to_write(self) -> list[dict[str, Any]]:
        """List the rows that the call would write."""
        if self._call.method in _CHANGES:
            return [{**row, **self._changes} for row in self._before.get(self._table.name, ())]
        given = build(self._call.arguments[0], self._side)
        return [self._table.values_of(one) for one in (given if self._call.method in _BATCHES else [given])]

    def _pairs(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """List the rows of which two may come to agree."""
        before = self._before.get(self._table.name, ())
        if self._call.method in _CHANGES:
            for one, other in permutations(before, 2):
                yield {**one, **self._changes}, other
                yield {**one, **self._changes}, {**other, **self._changes}
            return
        written = self._rows_to_write()
        own = [field.name for field in self._table.key] if self._call.method in _UPDATES else []
        yield from ((new, old) for new in written for old in before if not own or not self._agree(new, old, own))
        yield from combinations(written, 2)

    def _agree(self, one: Mapping[str, Any], other: Mapping[str, Any], names: Iterable[str]) -> bool:
        """Return True if rows agree in what is stored of some fields, and none is NULL."""
        types = [(name, self._table.by_name[name].column.type) for name in names]
        stored = [(type_.store(one.get(name)), type_.store(other.get(name))) for name, type_ in types]
        return all(left is not None and left == right for left, right in stored)

    @property
    def _changes(self) -> dict[str, Any]:
        given = self._call.options["set_"] if self._call.method == "update_where" else self._call.arguments[1]
        return dict(build(given, self._side))

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return [self._side.tables[name].values_of(entity) for entity in _find_all(self._unit, name) or ()]


def _find_all(unit: Any, repository: str) -> list[Any] | None:
    """Find a repository's entities; None if it cannot be asked."""
    found = attempt(lambda: getattr(unit, repository).find())
    return found.value if isinstance(found, Returned) else None


def _values(row: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)


# -- what writes must keep


@dataclass(frozen=True, slots=True)
class Writing:
    """A call that returns the rows that it writes, what it is given on each side, and the rows known before."""

    call: Call
    table: Table
    given: Sequence[list[Any]]
    known: frozenset[Any]

    def relations(self, side: int, returned: Sequence[Any], found: Sequence[Any]) -> Iterator[Relation]:
        """The rows that a call returns hold what they were given, and are found as they were returned."""
        table, method = self.table, self.call.method
        if method in ("add", "add_many", *_UPDATES):
            for one, entity in zip(self.given[side], returned, strict=True):
                values = _own_values(table, one, updated=method in _UPDATES)
                yield f"{method} keeps what it is given", (self.call,), values, _stored(table, entity, values)
        if table.key:
            known = {table.key_of(one): table.values_of(one) for one in found}
            last = {key: table.values_of(one) for one in returned if (key := table.key_of(one)) in known}
            again = {key: known[key] for key in last}
            yield f"find has what {method} returned", (self.call, Call(table.name, "find")), last, again


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


def _stored(table: Table, entity: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: table.by_name[name].get(entity) for name in names}


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
            for name, table in self._tables.items()
        }
        self._sides = [Side(index, self._keys, self._tables) for index in (0, 1)]
        self._made = MadeValues()
        self._normalizers = [Normalizer(side, stores.missing, self._made) for side in self._sides]
        self._units: list[list[Any]] = []
        self._snapshots: list[dict[str, Snapshot]] = []

    def run(self, program: Program) -> None:
        """Run a program, and compare at its end what is stored.

        Raises:
            Difference: a step had different outcomes.
        """
        for unit in (*program, Unit(tuple(Call(name, "find") for name in self._tables))):
            self._unit(unit)

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
        match step:
            case Savepoint():
                self._block(step, [unit.savepoint() for unit in self._units[-1]])
            case Unit():
                self._unit(step)
            case Call() | Scroll() if not all(_can_be_built(step, side) for side in self._sides):
                return None
            case Call():
                return self._call(step)
            case Scroll() | End():
                return self._perform(step)
        return None

    def _call(self, call: Call) -> Outcomes | None:
        table = self._tables[call.repository]
        pending = PendingCall(call, table, self._units[-1][0], self._sides[0], self._stores.missing)
        if pending.depends_on_row_order():
            return None
        if call.method in _INSERTS and table.refers_to_itself and not self._fresh_keys:
            self._forget_deleted(table)
        return self._perform(call, pending)

    def _forget_deleted(self, table: Table) -> None:
        """Forget deleted rows, because a new one may get their key."""
        found = _find_all(self._units[-1][0], table.name)
        if found is not None:
            living, keys = set(map(table.key_of, found)), self._keys[table.name]
            keys.rows = [row for row in keys.rows if row.keys[0] in living]

    def _perform(self, step: Call | Scroll | End, pending: PendingCall | None = None) -> Outcomes:
        writing = self._prepare(step) if isinstance(step, Call) and step.method in _WRITES else None
        outcomes = self._compare(lambda side: self._outcome(step, side), step, pending, writing)
        if isinstance(step, End):
            self._note_end(step, outcomes[0])
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
            given.append(first if call.method in _BATCHES else [first])
        rows = _find_all(self._units[-1][0], table.name) if table.made_columns and call.method in _INSERTS else None
        return Writing(call, table, given, frozenset(_identity(table, one) for one in rows or ()))

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

    def _outcome(self, step: Question | End, index: int) -> Any:
        unit, side = self._units[-1][index], self._sides[index]
        match step:
            case End(how):
                return getattr(unit, how)()
            case Call(name, method, arguments, options):
                result = getattr(getattr(unit, name), method)(*build(arguments, side), **build(dict(options), side))
                return list(result) if method == "stream" else result
            case Scroll(name, query, moves):
                return scroll(getattr(unit, name), build(query, side), moves)
            case Matching(name, criterion):
                criterion = build(criterion, side)
                return [one for one in getattr(unit, name).find() if matches(criterion, one)]

    def _compare(
        self,
        work: Callable[[int], Any],
        step: Call | Scroll | End | None = None,
        pending: PendingCall | None = None,
        writing: Writing | None = None,
    ) -> Outcomes:
        memory, database = attempt(lambda: work(0)), attempt(lambda: work(1))
        table = self._tables[step.repository] if isinstance(step, Call | Scroll) else None
        if isinstance(step, Call) and step.method in _INSERTS:
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
        if not made or method not in _ORDERED:
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
            if keys[0] and keys[1] and (row := self._keys[table.name].add((keys[0], keys[1]))):
                self._note_row(table, position, row)

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

    def _count(self, step: Call | Scroll | End, outcome: Outcome) -> None:
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

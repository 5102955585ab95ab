"""The outcomes of a step in memory and on the database: what is compared of them, and which differences are allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from decimal import MAX_PREC, Context, Decimal
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
)
from sqlrepo.testing.twins.model import Call, Children, MadeValues, Reference, Side, Table, build
from sqlrepo.testing.twins.stores import CHECKS_BY_NAME

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


@dataclass(frozen=True, slots=True)
class Row:
    """A row of an answer, compared by its form."""

    form: Form
    entity: Any = field(compare=False)

    def __repr__(self) -> str:
        return repr(self.entity)


def describe(outcome: Outcome) -> str:
    """Write an outcome in one line."""
    if isinstance(outcome, Raised):
        return f"raises {type(outcome.error).__name__} {vars(outcome.error)!r}".replace("\n", " ")
    return ascii(outcome.value)


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
                return (*self._entity(value, table, table.by_name), *self._children(value, table))
            case _ if table is not None and _is_projection(value):
                shown = self._side.tables.get(getattr(value, "repository", ""), table)
                return self._entity(value, shown, [one.name for one in fields(value)])
            case _:
                return _scalar(value)

    def _entity(self, entity: Any, table: Table, names: Iterable[str]) -> Form:
        known = table.by_name
        values = ((name, known[name].get(entity) if name in known else getattr(entity, name)) for name in names)
        return (type(entity).__name__, *((name, self._shown(table, name, value)) for name, value in values))

    def _shown(self, table: Table, name: str, value: Any) -> Form:
        """Return a field's value, or the views that are nested in one."""
        nested = _is_projection(value) or (isinstance(value, list) and name not in table.by_name)
        return self._value(value, table) if nested else self._field(table, name, value)

    def _children(self, entity: Any, table: Table) -> Iterator[Form]:
        """Yield the name of each part and what is compared of its children, and of the value objects if there are."""
        yield from ((name, getattr(entity, name) is None) for name in table.objects)
        for name, part in table.children.items():
            forms = tuple(self._value(child, part) for child in part.of(entity))
            yield name, type(getattr(entity, name)).__name__, part.in_order(forms)

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


def _is_projection(value: Any) -> bool:
    return is_dataclass(value) and type(value).__name__ == "Projection"


def _exact(entity: Any, table: Table) -> Form:
    """Return all that one side's answers must agree in."""
    return tuple((name, _scalar(value)) for name, value in table.values_of(entity).items())


def children_of(table: Table, entity: Any) -> Iterator[tuple[Children, list[Any]]]:
    """Yield the table of each part and the children of an entity, and then those of each child."""
    for part in table.children.values():
        children = part.of(entity)
        yield part, children
        for child in children:
            yield from children_of(part, child)


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

BATCHES = ("add_many", "upsert_many")
# The calls that return rows which may be new.
INSERTS = ("add", "save", "upsert", *BATCHES)
UPDATES = ("update", "save")
_CHANGES = ("patch", "update_where")
_DELETES = ("delete", "remove", "delete_where")
# The calls that return the rows that they write.
WRITES = (*INSERTS, "update", "patch")
# The calls whose result depends on the order of rows.
ORDERED = ("find", "stream", "first", "page", "scroll")


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
        writes = call.method in (*INSERTS, "update", *_CHANGES)
        several = len(table.uniques) + len(table.references) > 1
        inner = [one.part for part in table.children.values() for one in part.all()]
        self._tables_of_parts = {one.schema.name for part in inner for one in (part, part.through or part)}
        self._before = {name: self._rows(name) for name in ({table.name} | parents if several and writes else ())}

    def depends_on_row_order(self) -> bool:
        """Return True if the outcome depends on when references are checked; such a call is left out."""
        if not self._one_by_one or not self._table.refers_to_itself:
            return False
        own = [one for one in self._table.references if one.parent is self._table]
        if self._call.method in BATCHES:
            pairs = list(combinations(self._rows_to_write(), 2))
            return any(_values(row, one.fields) == _values(later, one.targets) for row, later in pairs for one in own)
        keeping = [one for one in own if one.key.on_delete in ("NO ACTION", "RESTRICT")]
        if self._call.method in ("delete", "remove") and keeping:
            rows = self._rows(self._table.name)
            return any(_values(row, one.fields) == _values(row, one.targets) for row in rows for one in keeping)
        return self._call.method == "delete_where" and bool(keeping)

    def allows(self, forms: Sequence[Form], database: Outcome) -> bool:
        """Return True if the database may give this outcome in place of memory's."""
        one_by_one = self._one_by_one and self._call.method in (*BATCHES, "update_where", "delete_where")
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
            case Raised(ConstraintError() as error) if error.table in self._tables_of_parts:
                return True  # children may violate several constraints, of which each database may find another
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
        return [self._table.values_of(one) for one in (given if self._call.method in BATCHES else [given])]

    def _pairs(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """List the rows of which two may come to agree."""
        before = self._before.get(self._table.name, ())
        if self._call.method in _CHANGES:
            for one, other in permutations(before, 2):
                yield {**one, **self._changes}, other
                yield {**one, **self._changes}, {**other, **self._changes}
            return
        written = self._rows_to_write()
        own = [field.name for field in self._table.key] if self._call.method in UPDATES else []
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
        return [self._side.tables[name].values_of(entity) for entity in find_all(self._unit, name) or ()]


def find_all(unit: Any, repository: str) -> list[Any] | None:
    """Find a repository's entities; None if it cannot be asked."""
    found = attempt(lambda: getattr(unit, repository).find())
    return found.value if isinstance(found, Returned) else None


def _values(row: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in names)

"""Relations between the answers of one side, which find the faults that both sides share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from random import Random
from types import new_class
from typing import Annotated, Any, TypeAlias

from sqlrepo import QueryObject, Where
from sqlrepo.memory import Kind
from sqlrepo.testing.subject import FieldInfo
from sqlrepo.testing.twins.elsewhere import FarRef, Made, summary
from sqlrepo.testing.twins.model import (
    Call,
    FieldRef,
    Matching,
    Move,
    Names,
    New,
    Node,
    Operation,
    Question,
    Scroll,
    Side,
    Table,
    build,
    to_code,
)
from sqlrepo.testing.twins.parts import Attribute, Holds, OfChild

#: A name, the steps whose answers it is about, the expected answer and the one that was found.
Relation: TypeAlias = tuple[str, Sequence[Question], Any, Any]

#: The calls that ask a question.
READING = ("find", "first", "one", "one_or_none", "count", "exists", "stream", "page")

# The options of a query.
OPTIONS = ("order_by", "limit", "offset")

# More rows than a program stores.
_EVERYTHING = 1_000_000

# The number of pages that a result is divided into.
_PAGES = 3

# How often relations are about something else than the step asked for.
_OTHERWISE = 0.5

# Larger sums are refused as larger than 64 bits.
_LARGE = 2**62

# The first questions are all examined, and then one of so many.
_ALL = 100
_SHARE = 8


class BrokenRelation(Exception):  # noqa: N818  # finding one is the purpose
    """Two ways to ask one question have different answers on one side."""

    def __init__(self, name: str, steps: Sequence[Question], expected: Any, answer: Any) -> None:
        super().__init__(name)
        self.name = name
        self.steps = steps
        self.expected = expected
        self.answer = answer


# -- what is asked


@lru_cache
def _query_class(entity: Any) -> type[QueryObject[Any]]:
    hints = {
        "where": Annotated[Any, Where(lambda _, criterion: criterion)],
        "order_by": None,
        "limit": int,
        "offset": int,
    }
    defaults = {"where": None, "order_by": None, "limit": 1, "offset": 0}
    namespace = {"__module__": __name__, "__annotations__": hints, **defaults}
    query: type[QueryObject[Any]] = new_class(
        "Query", (QueryObject[entity],), exec_body=lambda body: body.update(namespace)
    )
    return query


def query(entity: type, where: Any, order_by: Any, *, limit: int, offset: int = 0) -> QueryObject[Any]:
    """Make a query object of any criterion and order."""
    return _query_class(entity).model_construct(where=where, order_by=order_by, limit=limit, offset=offset)


@dataclass(frozen=True, slots=True)
class AnyQuery(Node):
    """A query object with any criterion and order, so that each can be asked for in pages."""

    entity: type
    where: Any
    order: Any
    limit: int
    offset: int = 0

    def build(self, side: Side) -> Any:
        where, order = build((self.where, self.order), side)
        return query(self.entity, where, order, limit=self.limit, offset=self.offset)

    def to_code(self, names: Names) -> str:
        function = names.import_name(query)
        given = ", ".join(to_code(one, names) for one in (self.where, self.order))
        return f"{function}({names.import_name(self.entity)}, {given}, limit={self.limit}, offset={self.offset})"


@dataclass(frozen=True, slots=True)
class CriteriaOf(Node):
    """The filters of a query object."""

    query: New

    def build(self, side: Side) -> Any:
        return self.query.build(side).criteria

    def to_code(self, names: Names) -> str:
        return f"{self.query.to_code(names)}.criteria"


# A field of a row, one of a child, and one of the row that a key refers to.
_REFS = (FieldRef, OfChild, FarRef)


def _combine(operator: str, parts: Sequence[Any]) -> Any:
    return reduce(lambda left, right: Operation(operator, (left, right)), parts)


def _negate(criterion: Any) -> Operation:
    return Operation("not_", (criterion,))


def _split(criterion: Any, operator: str) -> list[Any]:
    """List the parts that an operator, or a list of values, combines."""
    match criterion:
        case Operation("in_" | "not_in" as name, (field, values)) if name == ("in_" if operator == "|" else "not_in"):
            return [Operation("==" if operator == "|" else "!=", (field, value)) for value in values]
        case Operation(name, parts) if name == operator:
            return [part for one in parts for part in _split(one, operator)]
        case _:
            return [criterion]


def _unknown(criterion: Any) -> Any:
    """Write the criterion that another one is unknown, because of NULL; None if it never is."""
    if isinstance(criterion, _REFS):  # a boolean field alone
        return Operation("is_null", (criterion,))
    parts = criterion.arguments
    match criterion.name:
        case "not_":
            return _unknown(parts[0])
        case "&" | "|" as operator:
            possible = [_unknown(part) for part in parts]
            decided = [part if operator == "&" else Operation("not_", (part,)) for part in parts]
            open_ = [
                one if null is None else Operation("|", (one, null))
                for one, null in zip(decided, possible, strict=True)
            ]
            some = [one for one in possible if one is not None]
            return _combine("&", [*open_, _combine("|", some)]) if some else None
        case "is_null" | "exists" | "every":
            return None
        case _ if any(one is None or (isinstance(one, list) and (not one or None in one)) for one in parts):
            return None
        case _:
            refs = [one for one in parts if isinstance(one, _REFS)]
            return _combine("|", [Operation("is_null", (ref,)) for ref in refs])


def _cases(criterion: Any) -> list[Any]:
    """A criterion, when it is unknown if it can be, and its negation: each row matches one of them."""
    return [one for one in (criterion, _unknown(criterion), _negate(criterion)) if one is not None]


def _quantified(criterion: Any) -> Iterator[Operation]:
    """Yield each `every` that a criterion contains."""
    if isinstance(criterion, Operation):
        if criterion.name == "every":
            yield criterion
        for part in criterion.arguments:
            yield from _quantified(part)


def _reverse(order: Any) -> Any:
    match order:
        case str():
            return ",".join(f"-{one.strip()}".removeprefix("--") for one in order.split(","))
        case Operation(name, parts):
            return Operation("asc" if name == "desc" else "desc", parts)
        case _:
            return [_reverse(one) for one in order or ()]


def _fields_of(criterion: Any) -> Iterator[str]:
    match criterion:
        case FieldRef(_, name) | OfChild(name):
            yield name
        case Operation(_, parts):  # those of a condition on children are theirs
            yield from (name for part in parts if not isinstance(part, Holds) for name in _fields_of(part))
        case _:
            pass


# -- what must hold


class Relations:
    """A reading step, and what its answer has to do with those of other steps on the same side.

    `ask` takes such a step and returns its answer: a row, rows, a number, the name of an error; for a page the rows, if
    there are more, and the total; for each page by cursor the rows, and if there are more before and after.
    """

    def __init__(self, step: Call | Scroll, table: Table, side: Side, ask: Callable[[Question], Any]) -> None:
        self._step = step
        self._method = "scroll" if isinstance(step, Scroll) else step.method
        self._table = table
        self._ask = ask
        given = (step.query,) if isinstance(step, Scroll) else step.arguments
        options = {} if isinstance(step, Scroll) else step.options
        query = next((build(one, side) for one in given if isinstance(one, New)), None)
        # A keyword that is also a field is none of the options; page takes no fields.
        equals = {} if self._method == "page" else {name: options[name] for name in options if name in table.by_name}
        chosen = {name: value for name, value in options.items() if name not in equals}
        self._options = {name: getattr(query, name, None) for name in OPTIONS} | chosen
        self._order = self._options["order_by"]
        parts = [Operation("==", (FieldRef(table.name, name), value)) for name, value in equals.items()]
        self._parts = [*(CriteriaOf(one) if isinstance(one, New) else one for one in given), *parts]

    def require(self, answer: Any, number: int) -> None:
        """Ask other questions, and check that the answer fits theirs.

        The number of the question chooses some, because all of them cost as much as thirty steps. Half of the time they
        are about a field and its values in place of what was asked. Of many questions only a share is examined.

        Raises:
            BrokenRelation: one answer does not fit.
        """
        if number > _ALL and number % _SHARE:
            return
        number = number if number <= _ALL else number // _SHARE
        if isinstance(self._rows(), str):  # there is a row that no entity can hold
            return
        require(self._own(answer))
        of_criteria = (self._cases, self._three, self._operands, self._matches)
        of_rows = (self._pages, self._scroll, self._methods, self._scroll)
        group, random = (*of_criteria, *of_rows)[number % 8], Random(number)  # noqa: S311  # no secret depends on it
        otherwise = random.random() < _OTHERWISE
        if group in of_rows:
            self._parts = [] if otherwise else self._parts
            self._order = self._choose_order(random) if otherwise else self._order or self._choose_order(random)
        elif otherwise or not self._parts:
            self._parts = self._choose_criterion(random)
        require(self._every())
        require(group())

    def _choose_field(self, random: Random) -> FieldInfo | None:
        """Choose a field that sorts, preferably one that may be NULL."""
        sortable = [one for one in self._table.fields if one.has_operators and one.kind.ordered]
        nullable = [one for one in sortable if one.column.nullable]
        return random.choice(random.choice((nullable, sortable)) or sortable) if sortable else None

    def _choose_order(self, random: Random) -> str | None:
        field = self._choose_field(random)
        return None if field is None else random.choice(("", "-")) + field.name

    def _choose_criterion(self, random: Random) -> list[Any]:
        """Compare a field with values that it has, or one of children with a value of theirs."""
        if any(not one.part.single for one in self._table.children.values()) and random.random() < _OTHERWISE:
            return self._choose_condition(random)
        field = self._choose_field(random)
        if field is None or field.origin is not None or self._table.converts:
            return []
        known = list({row.form: value for row in self._rows() if (value := field.get(row.entity)) is not None}.values())
        operator = random.choice(("in_", "not_in", "==", "!="))
        several = random.choice((known, known, []))
        given = several if operator in ("in_", "not_in") else random.choice(known or [None])
        return [Operation(operator, (FieldRef(self._table.name, field.name), given))]

    def _choose_condition(self, random: Random) -> list[Any]:
        """Compare a field of children with a value of theirs; what is NULL tells most about `every`."""
        rows = [row.entity for row in self._rows()]
        known: list[tuple[Node, Node, list[Any]]] = []
        unknown = list(known)
        for name, part in self._table.children.items():
            children = [] if part.part.single else [child for row in rows for child in part.of(row)]
            for field in (one for one in part.fields if one.has_operators and one.origin is None):
                values = [value for child in children if (value := field.get(child)) is not None]
                if values and field.column.type.bind is None:
                    found = Attribute(self._table.name, name), OfChild("" if part.part.plain else field.name), values
                    (known if len(values) == len(children) else unknown).append(found)
        if not (known or unknown):
            return []
        many, child, values = random.choice(random.choice((known, unknown)) or known or unknown)
        condition = Operation(random.choice(("==", "!=")), (child, random.choice(values)))
        return [Operation(random.choice(("exists", "every")), (many, Holds(condition)))]

    # -- steps

    @property
    def _where(self) -> Any:
        return _combine("&", self._parts) if self._parts else None

    @property
    def _whole(self) -> Call:
        """All rows that match, in their order."""
        return self._in_order(self._order)

    def _in_order(self, order: Any) -> Call:
        if "order_by" in self._table.by_name:  # a field too, so that no call takes it as a keyword
            return self._find(AnyQuery(self._table.entity, self._where, order, _EVERYTHING))
        return Call(self._table.name, "find", tuple(self._parts), {"order_by": order})

    def _find(self, *where: Any) -> Call:
        return Call(self._table.name, "find", where)

    def _rows(self, *where: Any) -> Any:
        return self._ask(self._find(*where))

    def _query(self, limit: int, offset: int = 0) -> AnyQuery:
        return AnyQuery(self._table.entity, self._where, self._order, limit, offset)

    # -- relations

    def _own(self, answer: Any) -> Iterator[Relation]:
        """The answer follows from all rows that match."""
        rows, limit, offset = self._ask(self._whole), self._options["limit"], self._options["offset"] or 0
        page = rows[offset:][:limit]
        total = len(rows) if self._options.get("with_total") else None
        expected = {
            **_answers(rows),
            "find": page,
            "first": next(iter(page), None),
            "page": (page, len(rows) > offset + len(page), total),
            "scroll": _scrolled(rows, limit or 1, getattr(self._step, "moves", ())),
        }
        yield f"{self._method} agrees with find", (self._whole, self._step), expected[self._method], answer

    def _methods(self) -> Iterator[Relation]:
        """Other methods, and the reverse order, give the same rows."""
        rows = self._ask(self._whole)
        if self._order:
            step = self._in_order(_reverse(self._order))
            yield "the reverse order gives the same rows", (self._whole, step), rows[::-1], self._ask(step)
        for method, answer in _answers(rows).items():
            step = Call(self._table.name, method, (self._query(2),))
            yield f"{method} agrees with find", (self._whole, step), answer, self._ask(step)

        yield from self._counts()
        yield from self._sums()

    def _counts(self) -> Iterator[Relation]:
        """Facets count the rows that match, by each value of a field."""
        plain = [one for one in self._table.own_fields if _is_summable(one) and one.origin is None]
        if plain and not self._table.converts:
            field, whole = plain[0], self._find(*self._parts)
            counted = Counter(field.get(row.entity) for row in self._ask(whole))
            step = Call(self._table.name, "counts", (FieldRef(self._table.name, field.name), *self._parts))
            yield "counts() has each row once", (whole, step), dict(counted), self._ask(step)

    def _sums(self) -> Iterator[Relation]:
        """Totals are those of the rows that match and of their children, each counted once."""
        rows = [row.entity for row in self._ask(self._find(*self._parts))]
        values = {
            one.name: (one, [one.get(row) for row in rows]) for one in self._table.own_fields if _is_summable(one)
        }
        for name, part in self._table.children.items():
            children = [] if part.part.single else [child for row in rows for child in part.of(row)]
            fields = [] if part.part.single or part.part.plain else filter(_is_summable, part.fields)
            values |= {f"{name}__{one.name}": (one, [one.get(child) for child in children]) for one in fields}
        sums = {
            name: sum(known) if (known := [one for one in each if one is not None]) else None
            for name, (_, each) in values.items()
        }
        kept = {name: one for name, one in sums.items() if one is None or abs(one) < _LARGE}
        if kept and not self._table.converts:
            hints = [(f"{name}_sum", values[name][0].spec.type.python, True) for name in kept]
            node = Made(summary, self._table.entity, (("count", int, False), *hints))
            made = node.make(node.subject, node.members)
            expected = made(**{"count": len(rows), **{f"{name}_sum": one for name, one in kept.items()}})
            step = Call(self._table.name, "summarize", (node, *self._parts))
            yield "sums count each row and child once", (self._find(*self._parts), step), [expected], self._ask(step)

    @property
    def _written(self) -> list[Any]:
        """The criteria of which is known when they are unknown: what a type stores as NULL, only the type knows."""
        known = self._table.by_name
        written = [one for one in self._parts if isinstance(one, Operation)]
        return [one for one in written if all(known[name].column.type.bind is None for name in _fields_of(one))]

    def _cases(self) -> Iterator[Relation]:
        """A row matches a criterion, its negation, or neither because of NULL (ternary logic partitioning)."""
        if written := self._written:
            steps = [self._find(one) for one in _cases(_combine("&", written))]
            answers, everything = [self._ask(one) for one in steps], self._rows()
            counts = [sum(row in answer for answer in answers) for row in everything]
            yield "p, not p and p unknown have each row once", (self._find(), *steps), [1] * len(everything), counts

    def _every(self) -> Iterator[Relation]:
        """`every` leaves out the entities with a child for which the condition is false or unknown."""
        for one in _quantified(self._where):
            many, condition = one.arguments
            known = self._table.children[many.name].by_name
            names = {name or "value" for name in _fields_of(condition.criterion)}
            if all(known[name].column.type.bind is None for name in names & known.keys()):
                failing = _combine("|", _cases(condition.criterion)[1:])
                steps = self._find(one), self._find(_negate(Operation("exists", (many, Holds(failing)))))
                yield "every() is true where no child fails", steps, *map(self._ask, steps)

    def _three(self) -> Iterator[Relation]:
        """The three of them combined have all rows, in any order."""
        if written := self._written:
            first, *others = _cases(_combine("&", written))
            for parts in ([first, first, *others], [*others[::-1], first, first]):
                step = self._find(_combine("|", parts))
                yield "p, not p or p unknown have all rows", (self._find(), step), self._rows(), self._ask(step)

    def _operands(self) -> Iterator[Relation]:
        """The parts of a criterion explain it, in any order, and their negations its negation (De Morgan)."""
        for operator, other, needed in (("&", "|", all), ("|", "&", any)):
            parts = _split(self._where, operator)
            if parts == [self._where]:
                continue
            steps = [self._find(part) for part in parts]
            answers = [self._ask(step) for step in steps]
            rows = [row for row in self._rows() if needed(row in answer for answer in answers)]
            wholes = [self._where, *([_combine(operator, [parts[-1], *parts[::-1]])] if parts else [])]
            for step in map(self._find, wholes):
                yield f"{operator} combines the rows of its parts", (*steps, step), rows, self._ask(step)
            if parts:
                whole = self._find(_negate(self._where))
                step = self._find(_combine(other, list(map(_negate, parts))))
                yield "a negation is that of the parts", (whole, step), self._ask(whole), self._ask(step)

    def _matches(self) -> Iterator[Relation]:
        """Criteria match entities in Python as rows, unless the mapping or a type changes values."""
        known = self._table.by_name
        types = [known[name].column.type for name in (set(_fields_of(self._where)) or known)]
        if "Holds(" in repr(self._where):
            inner = [one for part in self._table.children.values() for one in part.all()]
            types += [field.column.type for part in inner for field in part.fields]
        folds = self._table.repository.fold == "ascii" and re.search("'i[^n_]", repr(self._where))
        plain = not self._table.converts and all(one.bind is None and one.result is None for one in types)
        if self._where is not None and plain and not folds:
            whole, step = self._find(self._where), Matching(self._table.name, self._where)
            if (found := self._ask(step)) != "QueryError":  # of rows elsewhere, an entity knows nothing
                yield "matches() agrees with find", (whole, step), self._ask(whole), found

    def _pages(self) -> Iterator[Relation]:
        """Pages of any size have together the same rows in the same order."""
        rows = self._ask(self._whole)
        for size in _sizes(rows):
            starts = range(0, len(rows) + size + 1, size)
            steps = [Call(self._table.name, "page", (self._query(size, one),), {"with_total": True}) for one in starts]
            pages = [(rows[one:][:size], one + size < len(rows), len(rows)) for one in starts]
            yield "pages are find in parts", (self._whole, *steps), pages, [self._ask(step) for step in steps]

    def _scroll(self) -> Iterator[Relation]:
        """Pages by cursor, forwards and then backwards, have the same rows in the same order."""
        rows = self._ask(self._whole)
        for size in _sizes(rows):
            turns = -(-len(rows) // size) - 1
            forwards: list[Move] = ["after"] * turns
            backwards: list[Move] = ["before"] * turns
            step = Scroll(self._table.name, self._query(size), (*forwards, *backwards))
            pages = _scrolled(rows, size, step.moves)
            yield "pages by cursor are find in parts", (self._whole, step), pages, self._ask(step)


def _is_summable(field: FieldInfo) -> bool:
    """Return True for a number whose sum is exact, and known in Python from the entities' values."""
    exact = field.kind is Kind.INTEGER or (field.kind is Kind.DECIMAL and field.column.type.precision is not None)
    return exact and field.column.type.plain and field.spec.type.kind is field.kind and field.column.type.bind is None


def require(relations: Iterable[Relation]) -> None:
    """Raise BrokenRelation for the first relation that does not hold."""
    for name, steps, expected, found in relations:
        if expected != found:
            raise BrokenRelation(name, steps, expected, found)


def _answers(rows: Sequence[Any]) -> dict[str, Any]:
    """What methods answer if these rows match."""
    only = rows[0] if len(rows) == 1 else "MultipleFoundError" if rows else None
    answers = {"count": len(rows), "exists": bool(rows), "first": rows[0] if rows else None, "stream": rows}
    return {**answers, "one": only or "NotFoundError", "one_or_none": only}


def _scrolled(rows: Sequence[Any], limit: int, moves: Sequence[str]) -> list[Any]:
    """List the pages that a scroll through these rows shows."""
    starts = [0]
    for move in moves:
        start = starts[-1] + (limit if move == "after" else -limit)
        starts.append(start if 0 <= start < len(rows) else 0)
    return [(rows[one:][:limit], one > 0, one + limit < len(rows)) for one in starts]


def _sizes(rows: Sequence[Any]) -> set[int]:
    """Choose sizes of pages: one that divides the rows, and one that holds them exactly."""
    return {max(1, len(rows) // _PAGES), max(1, len(rows))}

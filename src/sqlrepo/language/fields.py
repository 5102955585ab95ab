"""Fields of an entity class, and the operators and orders that are written with them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar, cast, overload

from sqlrepo.errors import InvalidLiteralError, QueryError, nearest
from sqlrepo.language.criteria import (
    EVERYTHING,
    MAX_ROWS,
    NOTHING,
    And,
    Case,
    Combinable,
    Compare,
    CompareFields,
    Criterion,
    Exists,
    IsNull,
    IsTrue,
    Match,
    MatchKind,
    Not,
    Operator,
    Or,
    Ref,
    Via,
    all_of,
    as_criterion,
    conjuncts,
    find_leaves,
    one_of,
    own_refs,
)
from sqlrepo.language.entities import (
    EntityField,
    ValueOfPart,
    child_class,
    describe,
    is_mapped,
    require_entity,
    value_object,
)
from sqlrepo.language.values import Kind, ValueType, WrongValueError

# A type checker takes a field for its value, so an order may be any object.
OrderBy: TypeAlias = object

T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M")


# -- what users write


def fields(entity: type[T]) -> T:
    """Return the fields of an entity class, for use in criteria and orders.

    With ``t = fields(Todo)``, ``(t.priority >= 3) & not_(t.done)`` is a criterion: comparisons build a Specification
    (Evans and Fowler) instead of a truth value.

    Args:
        entity: a Pydantic model, dataclass, attrs class or mapped class, frozen and slotted ones included.

    Returns:
        An object typed as the entity, so that a type checker verifies field names and comparisons.

    Raises:
        QueryError: on use of the result, for an unknown field, a value of the wrong type or an unsuitable operator.
    """
    return cast(T, Fields(entity))


def some(field: V | None) -> V:
    """Declare to the type checker that an optional field may be compared, as in ``some(t.due) <= today``."""
    return cast(V, _field(field))


def not_(criterion: bool) -> bool:
    """Negate a criterion or a bool field; a row for which the criterion is unknown, because of NULL, still fails."""
    return cast(bool, Not(as_criterion(criterion)))


def in_(field: V | None, values: Iterable[V | None]) -> bool:
    """Match a field that equals one of some values; None among them matches NULL, and no values match nothing."""
    subject, given = _field(field), _to_values(values)
    if not subject.spec.type.kind.ordered:
        raise QueryError(f"in_() does not fit {subject!r}, which is {type_name(subject.spec)}")
    return cast(bool, one_of(subject.ref, [None if value is None else subject.literal(value) for value in given]))


def not_in(field: V | None, values: Iterable[V | None]) -> bool:
    """Match a field that equals none of some values; NULL matches only if there are no values."""
    return cast(bool, Not(as_criterion(in_(field, values))))


def between(field: V | None, low: V, high: V) -> bool:
    """Match a field from ``low`` to ``high``, both included."""
    subject: Any = _field(field)
    return cast(bool, And((subject >= low, subject <= high)))


def is_null(field: object) -> bool:
    """Match a field that is NULL."""
    return cast(bool, IsNull(_field(field).ref))


def contains(field: str | None, text: str) -> bool:
    """Match a field that contains a text; case matters, and no character is a wildcard."""
    return _match(field, "contains", text)


def startswith(field: str | None, text: str) -> bool:
    """Match a field that begins with a text; case matters."""
    return _match(field, "startswith", text)


def endswith(field: str | None, text: str) -> bool:
    """Match a field that ends with a text; case matters."""
    return _match(field, "endswith", text)


def icontains(field: str | None, text: str) -> bool:
    """Match a field that contains a text in any case; the repository's ``fold`` says how case is folded."""
    return _match(field, "contains", text, "folded")


def istartswith(field: str | None, text: str) -> bool:
    """Match a field that begins with a text in any case."""
    return _match(field, "startswith", text, "folded")


def iendswith(field: str | None, text: str) -> bool:
    """Match a field that ends with a text in any case."""
    return _match(field, "endswith", text, "folded")


def iequals(field: str | None, text: str) -> bool:
    """Match a field that equals a text in any case."""
    return _match(field, "equals", text, "folded")


def via(key: object, entity: type[M]) -> M:
    """Return the fields of the row that a key refers to: ``via(o.customer_id, Customer).country == "NO"``.

    All of them are NULL where the key is, where it refers to no row, and where that row is outside the scope of its
    repository in the unit of work.

    Args:
        key: a field that holds another entity's key, or that of a row found by `via`.
        entity: the class of that entity; the unit of work has a repository of it.

    Raises:
        QueryError: the key is not a field, or the entity no class of entities.
    """
    ref = _field(key).ref
    require_entity(entity, "via() takes a key and the class of the entity that it refers to")
    return cast(M, Fields(entity, Via(ref), ref.row))


@overload
def exists(many: list[V] | tuple[V, ...] | AbstractSet[V], where: Callable[[V], bool] | None = None) -> bool: ...
@overload
def exists(many: type[M], where: Callable[[M], bool]) -> bool: ...
def exists(many: object, where: Callable[[Any], bool] | None = None) -> bool:
    """Match a row that has at least one child, or one for which a condition is true.

    ``exists(o.lines, lambda line: (line.qty > 3) & startswith(line.sku, "x"))`` speaks of one and the same line.
    ``exists(Comment, lambda c: (c.ticket_id == t.id) & (c.author_id == me))`` asks for rows of another repository.

    Args:
        many: a field that holds children, entities or plain values in a table of their own; or an entity class.
        where: a function of the child's fields, or of the plain value, that returns a criterion. Of an entity class it
            relates the rows to the outer row with ``==``.

    Raises:
        QueryError: the field is not a collection of children, or the condition uses the outer row in another way.
    """
    return cast(bool, _exists(many, where, lambda criterion: criterion))


@overload
def every(many: list[V] | tuple[V, ...] | AbstractSet[V], where: Callable[[V], bool]) -> bool: ...
@overload
def every(many: type[M], where: Callable[[M], bool]) -> bool: ...
def every(many: object, where: Callable[[Any], bool]) -> bool:
    """Match a row for all of whose children a condition is true, or that has none; unknown, because of NULL, fails.

    ``every(Comment, lambda c: (c.ticket_id == t.id) & c.approved)``: all comments on the ticket are approved.
    """
    if where is None:
        raise QueryError("every() needs a condition; to match rows without children write not_(exists(...))")
    return cast(bool, Not(_exists(many, where, lambda criterion: Not(IsTrue(criterion)))))


def asc(field: object) -> Sort:
    """Sort by a field, smallest value first; NULL comes before every value."""
    return Sort(_orderable(field).ref)


def desc(field: object) -> Sort:
    """Sort by a field, largest value first; NULL comes after every value."""
    return Sort(_orderable(field).ref, descending=True)


# -- fields


class Field(Combinable):
    """A field of an entity class; its comparisons build criteria."""

    __slots__ = ("ref", "spec")

    def __init__(self, ref: Ref, spec: EntityField) -> None:
        self.ref = ref
        self.spec = spec

    def criterion(self) -> Criterion:
        """Return the criterion that a bool field is by itself."""
        if self.spec.type.kind is not Kind.BOOLEAN:
            raise QueryError(f"{self!r} is not a bool field, so it is not a criterion; compare it with a value")
        return Compare(self.ref, "==", True)

    def __str__(self) -> str:
        return str(self.ref)

    def __repr__(self) -> str:
        return f"{self.ref.entity.__name__}.{self.ref.name}"

    def __hash__(self) -> int:
        return hash(self.ref)

    def __eq__(self, other: object) -> Criterion:  # type: ignore[override]  # a criterion, which is the point
        return self._compare("==", other)

    def __ne__(self, other: object) -> Criterion:  # type: ignore[override]  # a criterion, which is the point
        return self._compare("!=", other)

    def __lt__(self, other: object) -> Criterion:
        return self._compare("<", other)

    def __le__(self, other: object) -> Criterion:
        return self._compare("<=", other)

    def __gt__(self, other: object) -> Criterion:
        return self._compare(">", other)

    def __ge__(self, other: object) -> Criterion:
        return self._compare(">=", other)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # inspect, copy and debuggers ask any object for these
        if value_object(self.spec.annotation) is not None:
            inner = find_field(self.ref.entity, f"{self.ref.name}__{name}".replace(".", "__"))
            return Field(replace(inner.ref, via=self.ref.via, row=self.ref.row), inner.spec)
        raise NoAttributeError(
            f"{self!r} has no attribute {name!r}; "
            + (
                "operators are functions, such as icontains(), and via() follows a key"
                if child_class(self.ref.entity, self.ref.name) is None
                else "ask about its children with exists() or every(), whose lambda takes one child"
            )
        )

    def _compare(self, op: Operator, other: object) -> Criterion:
        if op not in ("==", "!=") and not self.spec.type.kind.ordered:
            raise QueryError(f"{op} does not fit {self!r}, which is {type_name(self.spec)} and has no order")
        if isinstance(other, Field):
            if other.spec.type.kind is not self.spec.type.kind:
                raise QueryError(f"{self!r} and {other!r} have different types, so they cannot be compared")
            return CompareFields(self.ref, op, other.ref)
        if other is None:
            if op == "==":
                return IsNull(self.ref)
            if op == "!=":
                return Not(IsNull(self.ref))
            raise QueryError(f"{self!r} {op} None is never true; write is_null({self})")
        return Compare(self.ref, op, self.literal(other))

    def literal(self, value: object) -> Any:
        """Check a value against the field's type, so that a mistake is reported where the expression is written."""
        try:
            return self.spec.type.check(value)
        except WrongValueError as wrong:
            raise InvalidLiteralError(self.ref.name, str(wrong)) from None


class NoAttributeError(QueryError, AttributeError):
    """A field is used like its value, as in ``t.key.lower()``; also an `AttributeError`, so that `hasattr` works."""


class Fields:
    """The fields of an entity class, as attributes."""

    __slots__ = ("_entity", "_row", "_via")

    def __init__(self, entity: type, via: Via | None = None, row: int = 0) -> None:
        self._entity = entity
        self._via = via
        self._row = row

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__"):
            raise AttributeError(name)
        found = find_field(self._entity, name)
        return Field(replace(found.ref, via=self._via, row=self._row), found.spec)


def find_field(entity: type, name: str) -> Field:
    """Return a field, or that of a nested value object (``ship_to__city``), or raise `QueryError` with the nearest."""
    known = describe(entity)
    first, _, rest = name.partition("__")
    nested = value_object(known[first].annotation) if rest and name not in known and first in known else None
    if nested is not None:
        inner = find_field(nested, rest)
        return Field(Ref(entity, f"{first}.{inner.ref.name}"), inner.spec)
    if name not in known and is_mapped(entity) and child_class(entity, name) is not None:
        return Field(Ref(entity, name), EntityField(name, ValueType(Kind.OPAQUE, object), True, "a relationship"))
    if name not in known:
        raise QueryError(f"{entity.__name__} has no field {name!r}{nearest(name, known)}")
    return Field(Ref(entity, name), known[name])


def parse_keywords(entity: type, values: Mapping[str, Any]) -> list[Criterion]:
    """Convert keywords, as in ``find(done=True, key=None)``, to criteria."""
    return [find_field(entity, name) == value for name, value in values.items()]


def _field(given: object) -> Field:
    if not isinstance(given, Field):
        raise QueryError(f"expected a field, such as fields(Todo).key, not {type(given).__name__}")
    return given


def _to_values(values: object) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable) or isinstance(values, Combinable):
        raise QueryError(f"in_() and not_in() take a collection of values, not {type(values).__name__}")
    return tuple(values)


# How many lambdas of exists() and every() are being called, one inside the other.
_DEPTH: ContextVar[int] = ContextVar("depth", default=0)


def _exists(given: object, where: Callable[[Any], object] | None, change: Callable[[Criterion], Criterion]) -> Exists:
    if (depth := _DEPTH.get() + 1) > MAX_ROWS:
        raise QueryError(f"exists() and every() are nested deeper than {MAX_ROWS} levels")
    if isinstance(given, type):
        if where is None:
            raise QueryError(_UNJOINED.format(given.__name__))
        near, far, rest = _split(given, _call(where, Fields(given, None, depth), depth), depth)
        return Exists(near[0], change(rest), given, near, far)
    subject = _field(given)
    child = child_class(subject.ref.entity, subject.ref.name)
    if child is None:
        raise QueryError(f"{subject!r} is {type_name(subject.spec)}, not a collection of children")
    if subject.ref.via is not None:
        of, key = subject.ref.entity.__name__, subject.ref.via.key
        raise QueryError(
            f"via() leads to single values, not to the children in {subject!r}; relate the two rows with "
            f"exists({of}, lambda one: (one.id == {key}) & exists(one.{subject.ref.name}, ...))"
        )
    if where is None:
        return Exists(subject.ref, EVERYTHING)
    row: Any = Fields(child, None, depth)
    condition = _call(where, row.value if issubclass(child, ValueOfPart) else row, depth)
    for leaf in find_leaves(condition):
        if any(ref.row != depth for ref in own_refs(leaf)):
            raise QueryError(f"{leaf} does not use a child of {subject!r}; write it outside the lambda")
    return Exists(subject.ref, change(condition))


def _call(where: Callable[[Any], object], row: object, depth: int) -> Criterion:
    if not callable(where):
        raise QueryError(
            f"{where} is not a function; write the condition as `lambda one: ...` of the other row's fields"
        )
    token = _DEPTH.set(depth)
    try:
        return as_criterion(where(row))
    finally:
        _DEPTH.reset(token)


_UNJOINED = (
    "exists() and every() of {0} must relate its rows to the outer row, by == with one of the outer row's fields: "
    "exists({0}, lambda one: one.owner_id == fields(Owner).id)"
)


def _split(root: type, condition: Criterion, depth: int) -> tuple[tuple[Ref, ...], tuple[Ref, ...], Criterion]:
    """Part a condition on another root's rows: the fields that join them to the row around, and what is left."""
    joined: list[tuple[Ref, Ref]] = []
    rest: list[Criterion] = []
    for part in conjuncts(condition):
        if isinstance(part, CompareFields) and part.op == "==" and {part.ref.row, part.other.row} == {depth - 1, depth}:
            joined.append((part.ref, part.other) if part.ref.row < depth else (part.other, part.ref))
        elif any(ref.row != depth for leaf in find_leaves(part) for ref in own_refs(leaf)):
            raise QueryError(
                f"{part} uses a row other than one of {root.__name__}; a condition may use the outer row, the one "
                "directly around, only in == comparisons that relate the two rows; write the rest outside the lambda"
            )
        else:
            rest.append(part)
    if not joined:
        raise QueryError(_UNJOINED.format(root.__name__))
    near, far = zip(*joined, strict=True)
    return near, far, all_of(rest) if rest else EVERYTHING


def _match(given: object, kind: MatchKind, text: object, case: Case = "exact") -> bool:
    subject = _field(given)
    operator = kind if case == "exact" else f"i{kind}"
    if subject.spec.type.kind is not Kind.TEXT:
        raise QueryError(f"{operator} does not fit {subject!r}, which is {type_name(subject.spec)}, not text")
    return cast(bool, Match(subject.ref, kind, subject.literal(text), case))


def type_name(spec: EntityField) -> str:
    """Return a field's type for an error message."""
    return getattr(spec.annotation, "__name__", None) or str(spec.annotation)


# -- orders


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of an order."""

    ref: Ref
    descending: bool = False

    def __str__(self) -> str:
        return f"-{self.ref}" if self.descending else str(self.ref)


def parse_order(entity: type, order_by: OrderBy) -> tuple[Sort, ...]:
    """Parse fields, `asc`/`desc` of fields, or strings such as ``"-priority,key"``; one or a sequence of them.

    A repeated field is dropped, since it cannot change the order.
    """
    chosen: dict[Ref, Sort] = {}
    for sort in _sorts(entity, order_by):
        chosen.setdefault(sort.ref, sort)
    return tuple(chosen.values())


def _sorts(entity: type, order_by: OrderBy) -> Iterable[Sort]:
    if order_by is None:
        return ()
    if isinstance(order_by, Sort):
        return (order_by,)
    if isinstance(order_by, Field):
        return (asc(order_by),)
    if isinstance(order_by, str):
        return [_parse_sort(entity, part.strip()) for part in order_by.split(",")]
    if isinstance(order_by, Sequence):
        return [sort for part in order_by for sort in _sorts(entity, part)]
    raise QueryError(
        f"{type(order_by).__name__} is not an order; give fields, asc() or desc() of them, or text like '-priority,key'"
    )


def _parse_sort(entity: type, text: str) -> Sort:
    name = text.removeprefix("-")
    return Sort(find_sort_ref(entity, name), descending=name != text)


def find_sort_ref(entity: type, name: str) -> Ref:
    """Return what a sort key refers to; one that leads through a key, without its target's class until it is bound."""
    known = describe(entity)
    first, _, rest = name.partition("__")
    if rest and name not in known and first in known and child_class(entity, first) is not None:
        raise QueryError(f"{first} holds any number of children, so {name!r} is not a single value to sort by")
    if not rest or name in known or first not in known:
        return _orderable(find_field(entity, name)).ref
    if (nested := value_object(known[first].annotation)) is None:
        return Ref(object, rest, via=Via(Ref(entity, first)))
    return reroot(find_sort_ref(nested, rest), lambda ref: Ref(entity, f"{first}.{ref.name}"))


def reroot(ref: Ref, change: Callable[[Ref], Ref]) -> Ref:
    """Change the row's own field from which a reference starts."""
    if ref.via is None:
        return change(ref)
    return replace(ref, via=replace(ref.via, key=reroot(ref.via.key, change)))


def _orderable(field: object) -> Field:
    if not isinstance(field, Field):
        raise QueryError(f"an order consists of fields, such as fields(Todo).key, not of {type(field).__name__}")
    if not field.spec.type.kind.ordered:
        raise QueryError(f"{field!r} has no order, because it is {type_name(field.spec)}")
    return field


def reverse_order(order: Iterable[Sort]) -> tuple[Sort, ...]:
    """Reverse every key, to read the result from its end."""
    return tuple(Sort(sort.ref, not sort.descending) for sort in order)


def after_position(order: Sequence[Sort], position: Sequence[tuple[Any, bool]], nullable: Container[str]) -> Criterion:
    """Match the rows after a position: past it by the first key, or tied there and after it by the others.

    The position has a value for each key, and whether it is stored as NULL. The keys together distinguish any two rows;
    ``nullable`` are those that may be NULL. An index can serve the outer condition on the first key: the keyset or
    "seek" method of Markus Winand's *SQL Performance Explained*.
    """
    (sort, *others), ((value, is_null), *values) = order, position
    may_be_null = sort.ref.via is not None or sort.ref.name in nullable
    past = _beyond(sort, value, is_null, may_be_null, strictly=True)
    if not others:
        return past
    return And(
        (
            _beyond(sort, value, is_null, may_be_null, strictly=False),
            Or((past, after_position(others, values, nullable))),
        )
    )


def _beyond(sort: Sort, value: Any, is_null: bool, may_be_null: bool, *, strictly: bool) -> Criterion:
    null = IsNull(sort.ref)
    if is_null:
        if sort.descending:
            return NOTHING if strictly else null
        return Not(null) if strictly else EVERYTHING
    if not sort.descending:
        return Compare(sort.ref, ">" if strictly else ">=", value)
    smaller = Compare(sort.ref, "<" if strictly else "<=", value)
    return Or((smaller, null)) if may_be_null else smaller

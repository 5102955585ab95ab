"""Fields of an entity class and the operators on them: the language in which criteria are written."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from sqlrepo.errors import InvalidLiteralError, QueryError, nearest
from sqlrepo.language.criteria import (
    EVERYTHING,
    NOTHING,
    And,
    Case,
    Combinable,
    Compare,
    CompareFields,
    Criterion,
    IsNull,
    Match,
    MatchKind,
    Not,
    OneOf,
    Operator,
    Or,
    Ref,
    as_criterion,
)
from sqlrepo.language.entities import EntityField, describe
from sqlrepo.language.values import Kind, WrongValueError

T = TypeVar("T")
V = TypeVar("V")


class Field(Combinable):
    """A field of an entity, as `fields(T).name` gives it; its operators build criteria."""

    __slots__ = ("ref", "spec")

    def __init__(self, ref: Ref, spec: EntityField) -> None:
        self.ref = ref
        self.spec = spec

    def criterion(self) -> Criterion:
        """A bool field is a criterion by itself."""
        if self.spec.type.kind is not Kind.BOOLEAN:
            raise QueryError(f"{self!r} is no bool field, so it is no criterion by itself; compare it with a value")
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
            raise AttributeError(name)  # what inspect, copy and debuggers ask of any object
        raise NoAttributeError(f"{self!r} has no attribute {name!r}; operators on a field are functions of sqlrepo")

    def _compare(self, op: Operator, other: object) -> Criterion:
        if op not in ("==", "!=") and not self.spec.type.kind.ordered:
            raise QueryError(f"{self!r} has no order: {op} does not fit {_annotation(self.spec)}")
        if isinstance(other, Field):
            if other.spec.type.kind is not self.spec.type.kind:
                raise QueryError(f"{self!r} and {other!r} are of different types")
            return CompareFields(self.ref, op, other.ref)
        if other is None:
            if op == "==":
                return IsNull(self.ref)
            if op == "!=":
                return Not(IsNull(self.ref))
            raise QueryError(f"{self!r} {op} None is never true; ask is_null({self})")
        return Compare(self.ref, op, self.literal(other))

    def literal(self, value: object) -> Any:
        """Check a value against the field's type, so that a slip is told where the expression is written."""
        try:
            return self.spec.type.check(value)
        except WrongValueError as wrong:
            raise InvalidLiteralError(self.ref.name, str(wrong)) from None


class NoAttributeError(QueryError, AttributeError):
    """A field is treated like its value, ``t.key.lower()``; an `AttributeError` too, so that `hasattr` can ask."""


class Fields:
    """The fields of an entity class, by attribute."""

    __slots__ = ("_entity",)

    def __init__(self, entity: type) -> None:
        self._entity = entity

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__"):
            raise AttributeError(name)
        return find_field(self._entity, name)


def find_field(entity: type, name: str) -> Field:
    """Look up a field of an entity class.

    Raises:
        QueryError: there is none; the message holds the nearest name.
    """
    known = describe(entity)
    if name not in known:
        raise QueryError(f"{entity.__name__} has no field {name!r}{nearest(name, known)}")
    return Field(Ref(entity, name), known[name])


def fields(entity: type[T]) -> T:
    """Give the names that criteria are written with.

    With ``t = fields(Todo)``, ``(t.priority >= 3) & not_(t.done)`` is a criterion.

    Args:
        entity: a Pydantic model, dataclass, attrs class or mapped class; frozen and slotted ones too.

    Returns:
        an object typed as the entity, so that a type checker verifies names and comparisons.
    """
    return cast(T, Fields(entity))


def some(field: V | None) -> V:
    """Tell the type checker that an optional field may be compared: ``some(t.due) <= today`` (NULL never matches)."""
    return cast(V, _field(field))


def not_(criterion: bool) -> bool:
    """Negate a criterion or a bool field; what is unknown because of NULL stays excluded."""
    return cast(bool, Not(as_criterion(criterion)))


def in_(field: V | None, values: Iterable[V | None]) -> bool:
    """Among these values; None among them asks for NULL too; no values match nothing."""
    subject, given = _field(field), _several(values)
    if not subject.spec.type.kind.ordered:
        raise QueryError(f"in_() does not fit {subject!r}, which is {_annotation(subject.spec)}")
    literals = tuple(dict.fromkeys(subject.literal(value) for value in given if value is not None))
    parts: list[Criterion] = [OneOf(subject.ref, literals)] if literals else []
    if any(value is None for value in given):
        parts.append(IsNull(subject.ref))
    return cast(bool, parts[0] if len(parts) == 1 else Or(tuple(parts)))


def not_in(field: V | None, values: Iterable[V | None]) -> bool:
    """Not among these values; None among them excludes NULL by name; no values exclude nothing."""
    return cast(bool, Not(as_criterion(in_(field, values))))


def between(field: V | None, low: V, high: V) -> bool:
    """From low to high, both included."""
    subject: Any = _field(field)
    return cast(bool, And((subject >= low, subject <= high)))


def is_null(field: object) -> bool:
    """Without a value."""
    return cast(bool, IsNull(_field(field).ref))


def contains(field: str | None, text: str) -> bool:
    """Hold this text somewhere, case and all; no character of it is a wildcard."""
    return _match(field, "contains", text)


def startswith(field: str | None, text: str) -> bool:
    """Begin with this text, case and all."""
    return _match(field, "startswith", text)


def endswith(field: str | None, text: str) -> bool:
    """End with this text, case and all."""
    return _match(field, "endswith", text)


def icontains(field: str | None, text: str) -> bool:
    """Hold this text somewhere, without regard to case (the repository's ``fold``)."""
    return _match(field, "contains", text, "folded")


def istartswith(field: str | None, text: str) -> bool:
    """Begin with this text, without regard to case."""
    return _match(field, "startswith", text, "folded")


def iendswith(field: str | None, text: str) -> bool:
    """End with this text, without regard to case."""
    return _match(field, "endswith", text, "folded")


def iequals(field: str | None, text: str) -> bool:
    """Be this text, without regard to case."""
    return _match(field, "equals", text, "folded")


def parse_keywords(entity: type, values: Mapping[str, Any]) -> list[Criterion]:
    """Read keyword equality, ``find(done=True, key=None)``."""
    return [find_field(entity, name) == value for name, value in values.items()]


def _field(given: object) -> Field:
    if not isinstance(given, Field):
        raise QueryError(f"a field is needed here, such as fields(Todo).key, not {type(given).__name__}")
    return given


def _several(values: object) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable) or isinstance(values, Combinable):
        raise QueryError(f"in_() and not_in() take several values, not {type(values).__name__}")
    return tuple(values)


def _match(given: object, kind: MatchKind, text: object, case: Case = "exact") -> bool:
    subject = _field(given)
    operator = kind if case == "exact" else f"i{kind}"
    if subject.spec.type.kind is not Kind.TEXT:
        raise QueryError(f"{operator} does not fit {subject!r}, which is {_annotation(subject.spec)} and no text")
    return cast(bool, Match(subject.ref, kind, subject.literal(text), case))


def _annotation(spec: EntityField) -> str:
    return getattr(spec.annotation, "__name__", None) or str(spec.annotation)


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of an order."""

    ref: Ref
    descending: bool = False

    def __str__(self) -> str:
        return f"-{self.ref}" if self.descending else str(self.ref)


# A field is typed as its value, so an order may be any object to a type checker.
OrderBy: TypeAlias = object


def asc(field: object) -> Sort:
    """Sort by a field, smallest first, NULL before everything."""
    return Sort(_orderable(field).ref)


def desc(field: object) -> Sort:
    """Sort by a field, largest first, NULL after everything."""
    return Sort(_orderable(field).ref, descending=True)


def parse_order(entity: type, order_by: OrderBy) -> tuple[Sort, ...]:
    """Read an order: fields, `asc`/`desc` of them, or strings like ``"-priority,key"``; one or a sequence.

    A field named again changes nothing and is left out.

    Raises:
        QueryError: an unknown field, one that has no order, or something that is no order.
    """
    chosen: dict[Ref, Sort] = {}
    for sort in _each(entity, order_by):
        chosen.setdefault(sort.ref, sort)
    return tuple(chosen.values())


def _each(entity: type, order_by: OrderBy) -> Iterable[Sort]:
    if order_by is None:
        return ()
    if isinstance(order_by, Sort):
        return (order_by,)
    if isinstance(order_by, Field):
        return (asc(order_by),)
    if isinstance(order_by, str):
        return [_from_text(entity, part.strip()) for part in order_by.split(",")]
    if isinstance(order_by, Sequence):
        return [sort for part in order_by for sort in _each(entity, part)]
    raise QueryError(f"{type(order_by).__name__} is no order; give fields, asc() or desc() of them, or '-priority,key'")


def _from_text(entity: type, text: str) -> Sort:
    name = text.removeprefix("-")
    return Sort(_orderable(find_field(entity, name)).ref, descending=name != text)


def _orderable(field: object) -> Field:
    if not isinstance(field, Field):
        raise QueryError(f"an order is by fields, such as fields(Todo).key, not by {type(field).__name__}")
    if not field.spec.type.kind.ordered:
        raise QueryError(f"{field!r} has no order")
    return field


def reverse_order(order: Iterable[Sort]) -> tuple[Sort, ...]:
    """The same order, read from its end."""
    return tuple(Sort(sort.ref, not sort.descending) for sort in order)


def after_position(order: Sequence[Sort], position: Sequence[Any], nullable: Container[str]) -> Criterion:
    """The rows that come after a position: past it on the first key, or tied there and after it on the rest.

    Right under ties, NULLs and mixed directions; the outer condition on the first key is what an index can use
    (the keyset or "seek" method of Markus Winand).

    Args:
        order: the keys; together they tell any two rows apart.
        position: a row's values of them.
        nullable: the names of the keys that may be NULL.
    """
    (sort, *others), (value, *values) = order, position
    may_be_null = sort.ref.name in nullable
    past = _beyond(sort, value, may_be_null, strictly=True)
    if not others:
        return past
    return And(
        (_beyond(sort, value, may_be_null, strictly=False), Or((past, after_position(others, values, nullable))))
    )


def _beyond(sort: Sort, value: Any, may_be_null: bool, *, strictly: bool) -> Criterion:
    null = IsNull(sort.ref)
    if value is None:
        if sort.descending:
            return NOTHING if strictly else null
        return Not(null) if strictly else EVERYTHING
    if not sort.descending:
        return Compare(sort.ref, ">" if strictly else ">=", value)
    smaller = Compare(sort.ref, "<" if strictly else "<=", value)
    return Or((smaller, null)) if may_be_null else smaller

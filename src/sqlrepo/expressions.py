"""Fields of an entity class and the operators on them: the language in which criteria are written.

Knows which operator fits which type, and tells a slip where the expression is written. Must not know tables or
backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from sqlrepo.criteria import (
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
from sqlrepo.entities import EntityField, describe
from sqlrepo.errors import InvalidLiteralError, QueryError, nearest
from sqlrepo.values import Kind, WrongValueError

__all__ = [
    "Field",
    "Fields",
    "between",
    "contains",
    "endswith",
    "equals",
    "field_named",
    "fields",
    "icontains",
    "iendswith",
    "iequals",
    "in_",
    "is_null",
    "istartswith",
    "not_",
    "not_in",
    "some",
    "startswith",
]

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
        return field_named(self._entity, name)


def field_named(entity: type, name: str) -> Field:
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


def equals(entity: type, values: Mapping[str, Any]) -> list[Criterion]:
    """Read keyword equality, ``find(done=True, key=None)``."""
    return [field_named(entity, name) == value for name, value in values.items()]


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

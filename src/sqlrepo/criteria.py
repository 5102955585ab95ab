"""Criteria: what a caller asks of rows, as frozen values that print themselves.

Knows fields of entities and the operators that fit their types. Must not know tables, backends or how a criterion is
evaluated. The union is closed, so that a compiler that forgets a node is a type error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar, cast

from typing_extensions import assert_never

from sqlrepo.entities import EntityField, describe
from sqlrepo.errors import InvalidLiteralError, QueryError, nearest
from sqlrepo.values import Kind, WrongValueError

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "And",
    "Compare",
    "CompareFields",
    "Criterion",
    "Field",
    "Fields",
    "IsNull",
    "Leaf",
    "Match",
    "Not",
    "OneOf",
    "Or",
    "Param",
    "Ref",
    "as_criterion",
    "between",
    "conjunction",
    "contains",
    "endswith",
    "equals",
    "field_named",
    "fields",
    "icontains",
    "iendswith",
    "iequals",
    "in_",
    "is_everything",
    "is_null",
    "istartswith",
    "not_",
    "not_in",
    "rebuilt",
    "some",
    "startswith",
]

T = TypeVar("T")
V = TypeVar("V")

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
MatchKind: TypeAlias = Literal["contains", "startswith", "endswith", "equals"]
Case: TypeAlias = Literal["exact", "folded", "ascii", "unicode"]

# Deeper trees overflow the stack of a recursive SQL compiler somewhere above 100 levels.
MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Ref:
    """A field named inside a criterion: which class it belongs to and what it is called there."""

    entity: type
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Param:
    """The place of a literal in a criterion's shape; queries of one shape share their compiled form."""

    index: int


class _Combinable:
    """What criteria and bool fields share: `&` and `|` combine, everything that would ask for truth refuses."""

    __slots__ = ()

    def __and__(self, other: object) -> And:
        return And((*_parts(And, self), *_parts(And, other)))

    def __or__(self, other: object) -> Or:
        return Or((*_parts(Or, self), *_parts(Or, other)))

    def __rand__(self, other: object) -> And:
        return And((*_parts(And, other), *_parts(And, self)))

    def __ror__(self, other: object) -> Or:
        return Or((*_parts(Or, other), *_parts(Or, self)))

    def __bool__(self) -> bool:
        raise QueryError(
            f"{self} has no truth value of its own; combine criteria with &, | and not_(), "
            "ask for membership with in_() and for a range with between()"
        )

    def __invert__(self) -> Not:
        raise QueryError(f"write not_({self}) instead of ~")

    def __contains__(self, item: object) -> bool:
        raise QueryError("`in` cannot make a criterion; write in_(field, values) or contains(field, text)")

    def __iter__(self) -> Any:
        raise QueryError(f"{self} cannot be iterated")


@dataclass(frozen=True, slots=True)
class Compare(_Combinable):
    """A field against a value that is not None; unknown where the field is NULL."""

    ref: Ref
    op: Operator
    value: Any

    def __str__(self) -> str:
        return f"{self.ref} {self.op} {_shown(self.value)}"


@dataclass(frozen=True, slots=True)
class CompareFields(_Combinable):
    """A field against another one of the same row; unknown where either is NULL."""

    ref: Ref
    op: Operator
    other: Ref

    def __str__(self) -> str:
        return f"{self.ref} {self.op} {self.other}"


@dataclass(frozen=True, slots=True)
class OneOf(_Combinable):
    """A field among values, none of them None; unknown where the field is NULL. Never empty: that is NOTHING."""

    ref: Ref
    values: Any

    def __str__(self) -> str:
        return f"in_({self.ref}, {_shown(self.values)})"


@dataclass(frozen=True, slots=True)
class Match(_Combinable):
    """A text field against a text: every character of it stands for itself.

    Which fold "folded" means is the repository's choice; a criterion bound to a table says "ascii" or "unicode".
    """

    ref: Ref
    kind: MatchKind
    text: Any
    case: Case = "exact"

    def __str__(self) -> str:
        return f"{'' if self.case == 'exact' else 'i'}{self.kind}({self.ref}, {_shown(self.text)})"


@dataclass(frozen=True, slots=True)
class IsNull(_Combinable):
    """A field without a value; always true or false, never unknown."""

    ref: Ref

    def __str__(self) -> str:
        return f"is_null({self.ref})"


@dataclass(frozen=True, slots=True)
class And(_Combinable):
    """All of the parts; true where there are none."""

    parts: tuple[Criterion, ...]

    def __str__(self) -> str:
        return " & ".join(f"({part})" for part in self.parts) if self.parts else "everything"


@dataclass(frozen=True, slots=True)
class Or(_Combinable):
    """Any of the parts; false where there are none."""

    parts: tuple[Criterion, ...]

    def __str__(self) -> str:
        return " | ".join(f"({part})" for part in self.parts) if self.parts else "nothing"


@dataclass(frozen=True, slots=True)
class Not(_Combinable):
    """The opposite; unknown stays unknown."""

    part: Criterion

    def __str__(self) -> str:
        return f"not_({self.part})"


Leaf: TypeAlias = Compare | CompareFields | OneOf | Match | IsNull
Criterion: TypeAlias = Leaf | And | Or | Not

EVERYTHING = And(())
NOTHING = Or(())


class Field(_Combinable):
    """A field of an entity, as `fields(T).name` gives it; its operators build criteria."""

    __slots__ = ("ref", "spec")

    def __init__(self, ref: Ref, spec: EntityField) -> None:
        self.ref = ref
        self.spec = spec

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
        raise QueryError(f"{self!r} has no attribute {name!r}; operators on a field are functions of sqlrepo")

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
    """Give the fields of an entity class for use in criteria: ``t = fields(Todo); t.priority >= 3``.

    Args:
        entity: a Pydantic model or dataclass, frozen and slotted ones too.

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


def equals(entity: type, values: dict[str, Any]) -> list[Criterion]:
    """Read keyword equality, ``find(done=True, key=None)``."""
    return [field_named(entity, name) == value for name, value in values.items()]


def conjunction(criteria: Iterable[object]) -> Criterion:
    """Combine criteria so that all must hold."""
    parts = tuple(as_criterion(criterion) for criterion in criteria)
    return parts[0] if len(parts) == 1 else And(parts)


def as_criterion(given: object) -> Criterion:
    """Accept a criterion or a bool field.

    Raises:
        QueryError: it is something else; a plain bool is what `and`, `or`, `not` and `in` leave behind.
    """
    if isinstance(given, Field):
        if given.spec.type.kind is not Kind.BOOLEAN:
            raise QueryError(f"{given!r} is no bool field, so it is no criterion by itself; compare it with a value")
        return Compare(given.ref, "==", True)
    if isinstance(given, _Combinable):
        return cast("Criterion", given)
    if isinstance(given, bool):
        raise QueryError(
            f"a plain {given} is no criterion; `and`, `or`, `not`, `in` and comparisons of plain values make one, "
            "use &, |, not_() and in_() on fields(...)"
        )
    raise QueryError(f"{type(given).__name__} is no criterion; write one with fields(...), keywords or a QueryObject")


def rebuilt(criterion: Criterion, leaf: Callable[[Leaf], Criterion], depth: int = 0) -> Criterion:
    """Rebuild a criterion with every leaf replaced by ``leaf(node)``.

    Raises:
        QueryError: it is nested deeper than every backend can follow.
    """
    if depth > MAX_DEPTH:
        raise QueryError(f"criteria are nested deeper than {MAX_DEPTH} levels; use in_() for long alternatives")
    match criterion:
        case And(parts) | Or(parts):
            return replace(criterion, parts=tuple(rebuilt(part, leaf, depth + 1) for part in parts))
        case Not(part):
            return Not(rebuilt(part, leaf, depth + 1))
        case Compare() | CompareFields() | OneOf() | Match() | IsNull():
            return leaf(criterion)
        case _:
            assert_never(criterion)


def is_everything(criterion: Criterion) -> bool:
    """Whether a criterion is true of every row, whatever is in it."""
    match criterion:
        case And(parts):
            return all(map(is_everything, parts))
        case Or(parts):
            return any(map(is_everything, parts))
        case Not(part):
            return _is_nothing(part)
        case _:
            return False


def _is_nothing(criterion: Criterion) -> bool:
    match criterion:
        case And(parts):
            return any(map(_is_nothing, parts))
        case Or(parts):
            return all(map(_is_nothing, parts))
        case Not(part):
            return is_everything(part)
        case _:
            return False


def _parts(kind: type[And | Or], given: object) -> tuple[Criterion, ...]:
    """What a criterion adds to a chain of `&` or `|`, which stays flat however long it grows."""
    criterion = as_criterion(given)
    return criterion.parts if isinstance(criterion, And | Or) and type(criterion) is kind else (criterion,)


def _field(given: object) -> Field:
    if not isinstance(given, Field):
        raise QueryError(f"a field is needed here, such as fields(Todo).key, not {type(given).__name__}")
    return given


def _several(values: object) -> tuple[Any, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable) or isinstance(values, _Combinable):
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


def _shown(value: object) -> str:
    return f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)



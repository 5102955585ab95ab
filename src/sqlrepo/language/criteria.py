"""Criteria: what a caller asks of rows, as frozen values that combine and print themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, assert_never, cast

from sqlrepo.errors import InvalidLiteralError, QueryError

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
MatchKind: TypeAlias = Literal["contains", "startswith", "endswith", "equals"]
Case: TypeAlias = Literal["exact", "folded", "ascii", "unicode"]

# Deeper trees overflow the stack of a recursive SQL compiler somewhere above 100 levels; SQLite takes a chain of 1,000
# terms for as many levels; asyncpg sends at most 32,767 parameters.
MAX_DEPTH = 50
MAX_LEAVES = 500
MAX_VALUES = 30_000


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


class Combinable:
    """What criteria and bool fields share: `&` and `|` combine, everything that would ask for truth refuses."""

    __slots__ = ()

    def criterion(self) -> Criterion:
        """What it is as a criterion."""
        return cast("Criterion", self)

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
class Compare(Combinable):
    """A field against a value that is not None; unknown where the field is NULL."""

    ref: Ref
    op: Operator
    value: Any

    def __str__(self) -> str:
        return f"{self.ref} {self.op} {_shown(self.value)}"


@dataclass(frozen=True, slots=True)
class CompareFields(Combinable):
    """A field against another one of the same row; unknown where either is NULL."""

    ref: Ref
    op: Operator
    other: Ref

    def __str__(self) -> str:
        return f"{self.ref} {self.op} {self.other}"


@dataclass(frozen=True, slots=True)
class OneOf(Combinable):
    """A field among values, none of them None; unknown where the field is NULL. Never empty: that is NOTHING."""

    ref: Ref
    values: Any

    def __str__(self) -> str:
        return f"in_({self.ref}, {_shown(self.values)})"


@dataclass(frozen=True, slots=True)
class Match(Combinable):
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
class IsNull(Combinable):
    """A field without a value; always true or false, never unknown."""

    ref: Ref

    def __str__(self) -> str:
        return f"is_null({self.ref})"


@dataclass(frozen=True, slots=True)
class And(Combinable):
    """All of the parts; true where there are none."""

    parts: tuple[Criterion, ...]

    def __str__(self) -> str:
        return " & ".join(f"({part})" for part in self.parts) if self.parts else "everything"


@dataclass(frozen=True, slots=True)
class Or(Combinable):
    """Any of the parts; false where there are none."""

    parts: tuple[Criterion, ...]

    def __str__(self) -> str:
        return " | ".join(f"({part})" for part in self.parts) if self.parts else "nothing"


@dataclass(frozen=True, slots=True)
class Not(Combinable):
    """The opposite; unknown stays unknown."""

    part: Criterion

    def __str__(self) -> str:
        return f"not_({self.part})"


Leaf: TypeAlias = Compare | CompareFields | OneOf | Match | IsNull
Criterion: TypeAlias = Leaf | And | Or | Not

EVERYTHING = And(())
NOTHING = Or(())


def all_of(criteria: Iterable[object]) -> Criterion:
    """Combine criteria so that all must hold."""
    parts = tuple(as_criterion(criterion) for criterion in criteria)
    return parts[0] if len(parts) == 1 else And(parts)


def as_criterion(given: object) -> Criterion:
    """Accept a criterion or a bool field.

    Raises:
        QueryError: it is something else; a plain bool is what `and`, `or`, `not` and `in` leave behind.
    """
    if isinstance(given, Combinable):
        return given.criterion()
    if isinstance(given, bool):
        raise QueryError(
            f"a plain {given} is no criterion; `and`, `or`, `not`, `in` and comparisons of plain values make one, "
            "use &, |, not_() and in_() on fields(...)"
        )
    if hasattr(given, "__clause_element__"):
        raise QueryError("a column of SQLAlchemy's is no criterion; write fields(...).name, which runs on memory too")
    raise QueryError(f"{type(given).__name__} is no criterion; write one with fields(...), keywords or a QueryObject")


def map_leaves(criterion: Criterion, leaf: Callable[[Leaf], Criterion]) -> Criterion:
    """Rebuild a criterion with every leaf replaced by ``leaf(node)``.

    Raises:
        QueryError: it is deeper or longer than every backend can follow.
        InvalidLiteralError: it asks for more values than that.
    """
    leaves = values = 0

    def visit(node: Criterion, depth: int) -> Criterion:
        nonlocal leaves, values
        if depth > MAX_DEPTH:
            raise QueryError(f"criteria are nested deeper than {MAX_DEPTH} levels")
        match node:
            case And(parts) | Or(parts):
                return replace(node, parts=tuple(visit(part, depth + 1) for part in parts))
            case Not(part):
                return Not(visit(part, depth + 1))
            case Compare() | CompareFields() | OneOf() | Match() | IsNull():
                leaves += 1
                values += len(node.values) if isinstance(node, OneOf) and isinstance(node.values, tuple) else 1
                if leaves > MAX_LEAVES:
                    raise QueryError(
                        f"criteria have more than {MAX_LEAVES} comparisons; write alternatives of one field with in_()"
                    )
                if values > MAX_VALUES:
                    raise InvalidLiteralError(
                        node.ref.name, f"a query has at most {MAX_VALUES} values; ask for more in several queries"
                    )
                return leaf(node)
            case _:
                assert_never(node)

    return visit(criterion, 0)


def matches_all(criterion: Criterion) -> bool:
    """Whether a criterion is true of every row, whatever is in it."""
    match criterion:
        case And(parts):
            return all(map(matches_all, parts))
        case Or(parts):
            return any(map(matches_all, parts))
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
            return matches_all(part)
        case _:
            return False


def _parts(kind: type[And | Or], given: object) -> tuple[Criterion, ...]:
    """What a criterion adds to a chain of `&` or `|`, which stays flat however long it grows."""
    criterion = as_criterion(given)
    return criterion.parts if isinstance(criterion, And | Or) and type(criterion) is kind else (criterion,)


def _shown(value: object) -> str:
    return f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)

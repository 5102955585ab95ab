"""Criteria: conditions on rows, as frozen values that can be combined and printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, assert_never, cast

from sqlrepo.errors import InvalidLiteralError, QueryError

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
MatchKind: TypeAlias = Literal["contains", "startswith", "endswith", "equals"]
Case: TypeAlias = Literal["exact", "folded", "ascii", "unicode"]

# Recursive SQL compilers overflow the stack somewhere above 100 levels, SQLite counts each term of a chain as a level
# and allows 1,000, and asyncpg sends at most 32,767 parameters.
# SQLite's parser takes about ten conditions on other rows, one inside the other.
MAX_DEPTH = 50
MAX_ROWS = 6
MAX_LEAVES = 500
MAX_VALUES = 30_000


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a field of an entity class."""

    entity: type
    name: str
    function: str = ""  # of SQL, as in a table's checks: "lower", "upper", "length" or "octet_length"
    via: Via | None = None  # the way to a row of another table, if the field is not the row's own
    row: int = 0  # until the criterion is bound: the outermost row, or that of a lambda, numbered by depth

    def __str__(self) -> str:
        name = f"{self.function}({self.name})" if self.function else self.name
        return name if self.via is None else f"{self.via}.{name}"


@dataclass(frozen=True, slots=True)
class Param:
    """Stands for a literal, by its number; criteria that differ only in literals share a compiled form."""

    index: int


@dataclass(frozen=True, slots=True)
class Via:
    """The way through a key to the row of another table that it refers to; all fields are NULL where there is none."""

    key: Ref
    mapper: Any = None  # of that row, once the criterion is bound
    column: str = ""  # that the key refers to
    scope: Criterion | None = None  # met by the row
    rows: Param | None = None  # the values by key, which memory puts in the place of the scope

    def __str__(self) -> str:
        return f"via({self.key})" if self.scope is None else f"via({self.key}, {self.scope})"


class Combinable:
    """The base of criteria and fields: `&` and `|` combine; operators that would need a truth value raise."""

    __slots__ = ()

    def criterion(self) -> Criterion:
        return cast("Criterion", self)

    def __and__(self, other: object) -> And:
        return And(_join(And, self, other))

    def __or__(self, other: object) -> Or:
        return Or(_join(Or, self, other))

    def __rand__(self, other: object) -> And:
        return And(_join(And, other, self))

    def __ror__(self, other: object) -> Or:
        return Or(_join(Or, other, self))

    def __bool__(self) -> bool:
        raise QueryError(
            f"{self} has no truth value: instead of `and`, `or`, `not` write &, |, not_(); instead of `in`, in_(); "
            "instead of a chained comparison, between()"
        )

    def __invert__(self) -> Not:
        raise QueryError(f"~ does not negate a criterion; write not_({self})")

    def __contains__(self, item: object) -> bool:
        raise QueryError("`in` does not make a criterion; write in_(field, values) or contains(field, text)")

    def __iter__(self) -> Any:
        raise QueryError(f"{self} cannot be iterated; it is a field or criterion, not a value")


@dataclass(frozen=True, slots=True)
class Compare(Combinable):
    """A field against a value other than None; unknown if the field is NULL."""

    ref: Ref
    op: Operator
    value: Any

    def __str__(self) -> str:
        return f"{self.ref} {self.op} {_format(self.value)}"


@dataclass(frozen=True, slots=True)
class CompareFields(Combinable):
    """A field against another field of the row; unknown if either is NULL."""

    ref: Ref
    op: Operator
    other: Ref

    def __str__(self) -> str:
        return f"{self.ref} {self.op} {self.other}"


@dataclass(frozen=True, slots=True)
class OneOf(Combinable):
    """A field among values other than None; unknown if the field is NULL. Never empty; NOTHING is used instead."""

    ref: Ref
    values: Any

    def __str__(self) -> str:
        return f"in_({self.ref}, {_format(self.values)})"


@dataclass(frozen=True, slots=True)
class Match(Combinable):
    """A text field against a text without wildcards.

    The case "folded" follows the repository's ``fold``; binding the criterion to a table turns it into "ascii" or
    "unicode".
    """

    ref: Ref
    kind: MatchKind
    text: Any
    case: Case = "exact"

    def __str__(self) -> str:
        return f"{'' if self.case == 'exact' else 'i'}{self.kind}({self.ref}, {_format(self.text)})"


@dataclass(frozen=True, slots=True)
class IsNull(Combinable):
    """A field that is NULL; never unknown."""

    ref: Ref

    def __str__(self) -> str:
        return f"is_null({self.ref})"


@dataclass(frozen=True, slots=True)
class Exists(Combinable):
    """At least one row of another table that refers to this one, and for which a condition is true; never unknown.

    Either a child, among those that a field holds, or a row of another root.
    """

    ref: Ref  # the field that holds the children; of another root, the first of ``near``
    where: Criterion  # over the fields of the other row
    root: type | None = None  # the entity class of the other root
    near: tuple[Ref, ...] = ()  # this row's columns that the other row's are equal to; of children once bound
    far: tuple[Ref, ...] = ()
    mapper: Any = None  # of the other row, once bound

    def __str__(self) -> str:
        pairs = zip(self.far, self.near, strict=True)
        joined = "" if self.root is None else ", ".join(f"{far} == {near}" for far, near in pairs)
        many = str(self.ref) if self.root is None else f"{self.root.__name__}, {joined}"
        return f"exists({many})" if self.where == EVERYTHING else f"exists({many}, {self.where})"


@dataclass(frozen=True, slots=True)
class Path(Combinable):
    """A filter of a query object that leads through a key; binding tells what the rest of its name means."""

    ref: Ref  # the key
    rest: str  # the name behind it: "name_contains"
    value: Any
    annotation: Any

    def __str__(self) -> str:
        return f"{self.ref}__{self.rest}({_format(self.value)})"


@dataclass(frozen=True, slots=True)
class Among(Combinable):
    """Columns whose values together are among some rows'; never unknown. Memory puts it in the place of `Exists`."""

    refs: tuple[Ref, ...]
    rows: Param

    @property
    def ref(self) -> Ref:
        return self.refs[0]


@dataclass(frozen=True, slots=True)
class IsTrue(Combinable):
    """A criterion that is true; false if it is false or unknown."""

    part: Criterion

    def __str__(self) -> str:
        return f"is_true({self.part})"


@dataclass(frozen=True, slots=True)
class And(Combinable):
    """All parts; true if there are none."""

    parts: tuple[Criterion, ...]

    def __str__(self) -> str:
        return " & ".join(f"({part})" for part in self.parts) if self.parts else "everything"


@dataclass(frozen=True, slots=True)
class Or(Combinable):
    """Any part; false if there are none."""

    parts: tuple[Criterion, ...]

    def __str__(self) -> str:
        return " | ".join(f"({part})" for part in self.parts) if self.parts else "nothing"


@dataclass(frozen=True, slots=True)
class Not(Combinable):
    """The negation; unknown stays unknown."""

    part: Criterion

    def __str__(self) -> str:
        return f"not_({self.part})"


Leaf: TypeAlias = Compare | CompareFields | OneOf | Match | IsNull | Exists | Among | Path
Criterion: TypeAlias = Leaf | And | Or | Not | IsTrue

EVERYTHING = And(())
NOTHING = Or(())


def one_of(ref: Ref, values: Iterable[Any]) -> Criterion:
    """Match any of some values; None among them matches NULL, and no values match nothing."""
    different = dict.fromkeys(values)
    literals = tuple(value for value in different if value is not None)
    parts: list[Criterion] = [OneOf(ref, literals)] if literals else []
    if None in different:
        parts.append(IsNull(ref))
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def all_of(criteria: Iterable[object]) -> Criterion:
    parts = tuple(map(as_criterion, criteria))
    return parts[0] if len(parts) == 1 else And(parts)


def as_criterion(given: object) -> Criterion:
    """Accept a criterion or a bool field; refuse anything else, above all a plain bool."""
    if isinstance(given, Combinable):
        return given.criterion()
    if isinstance(given, bool):
        raise QueryError(
            f"{given} is a bool, not a criterion; it comes from `and`, `or`, `not`, `in` or a comparison of plain "
            "values: write &, |, not_() and in_() on fields(...)"
        )
    if hasattr(given, "__clause_element__"):
        raise QueryError(
            f"{given} is a SQLAlchemy expression, not a criterion; write fields(...).name, which works in memory too"
        )
    raise QueryError(
        f"{type(given).__name__} is not a criterion; write one with fields(...), keywords or a QueryObject"
    )


def map_leaves(criterion: Criterion, leaf: Callable[[Leaf], Criterion]) -> Criterion:
    """Rebuild a criterion with every leaf replaced by ``leaf(node)``, within the limits of all back ends."""
    leaves = values = 0

    def visit(node: Criterion, depth: int) -> Criterion:
        nonlocal leaves, values
        if depth > MAX_DEPTH:
            raise QueryError(f"criteria are nested deeper than {MAX_DEPTH} levels")
        match node:
            case And(parts) | Or(parts):
                return replace(node, parts=tuple(visit(part, depth + 1) for part in parts))
            case Not(part) | IsTrue(part):
                return replace(node, part=visit(part, depth + 1))
            case Compare() | CompareFields() | OneOf() | Match() | IsNull() | Exists() | Among() | Path():
                leaves += _count_leaves(node) if isinstance(node, Exists) else 1
                values += len(node.values) if isinstance(node, OneOf) and isinstance(node.values, tuple) else 1
                if leaves > MAX_LEAVES or values > MAX_VALUES:
                    raise _make_size_error(node, leaves)
                return leaf(node)
            case _:
                assert_never(node)

    return visit(criterion, 0)


#: The leaves that may have another row's criteria inside, as any whose ``ref.via`` is not None.
DEEP = (CompareFields, Exists)


def map_inner(node: Leaf, leaf: Callable[[Leaf], Criterion]) -> Leaf:
    """Rebuild the criteria on other rows inside a leaf as `map_leaves` does."""

    def visit(ref: Ref) -> Ref:
        if (via := ref.via) is None:
            return ref
        scope = None if via.scope is None else map_leaves(via.scope, leaf)
        return replace(ref, via=replace(via, key=visit(via.key), scope=scope))

    node = map_refs(node, visit)
    return replace(node, where=map_leaves(node.where, leaf)) if isinstance(node, Exists) else node


def map_refs(node: Leaf, change: Callable[[Ref], Ref]) -> Leaf:
    """Replace the references of a leaf; not those inside the condition of an `Exists`, which are another row's."""
    match node:
        case CompareFields(ref, _, other):
            return replace(node, ref=change(ref), other=change(other))
        case Exists(near=near, far=far):
            return replace(node, ref=change(node.ref), near=tuple(map(change, near)), far=tuple(map(change, far)))
        case Among(refs):
            return replace(node, refs=tuple(map(change, refs)))
        case _:
            return replace(node, ref=change(node.ref))


def refs_of(node: Leaf) -> tuple[Ref, ...]:
    """Return what a leaf says about the row, and about rows to which the row leads."""
    match node:
        case CompareFields(ref, _, other):
            return (ref, other)
        case Exists(near=near) if near:
            return near
        case Among(refs):
            return refs
        case _:
            return (node.ref,)


def own_refs(node: Leaf) -> list[Ref]:
    """Return the row's own fields that a leaf speaks of: of a way through keys the first key."""
    return [_start(ref) for ref in refs_of(node)]


def _start(ref: Ref) -> Ref:
    return ref if ref.via is None else _start(ref.via.key)


def is_related(criterion: Criterion) -> bool:
    """Return True if a criterion depends on rows of other tables."""
    return any(isinstance(leaf, Exists) or any(ref.via for ref in refs_of(leaf)) for leaf in find_leaves(criterion))


def find_leaves(criterion: Criterion) -> list[Leaf]:
    """Return the leaves of a criterion, without those inside an `Exists`."""
    found: list[Leaf] = []

    def collect(node: Leaf) -> Leaf:
        found.append(node)
        return node

    map_leaves(criterion, collect)
    return found


def conjuncts(criterion: Criterion) -> list[Criterion]:
    """Return the criteria that must all hold."""
    if not isinstance(criterion, And):
        return [criterion]
    return [each for part in criterion.parts for each in conjuncts(part)]


def _count_leaves(node: Criterion) -> int:
    match node:
        case And(parts) | Or(parts):
            return sum(map(_count_leaves, parts))
        case Not(part) | IsTrue(part):
            return _count_leaves(part)
        case Exists():
            return 1 + _count_leaves(node.where)
        case _:
            return 1


def _make_size_error(node: Leaf, leaves: int) -> QueryError:
    if leaves > MAX_LEAVES:
        return _make_length_error()
    return InvalidLiteralError(node.ref.name, f"a query has at most {MAX_VALUES} values; split it into several queries")


def _make_length_error() -> QueryError:
    return QueryError(f"criteria have more than {MAX_LEAVES} comparisons; write alternatives of one field with in_()")


def matches_all(criterion: Criterion) -> bool:
    """Return True if a criterion is true for any row, by its structure alone."""
    return _is_always(criterion, True)


def _is_always(node: Criterion, value: bool) -> bool:
    match node:
        case Not(part):
            return _is_always(part, not value)
        case And(parts) | Or(parts):
            every = isinstance(node, And) is value
            return (all if every else any)(_is_always(part, value) for part in parts)
        case _:
            return False


def _join(kind: type[And | Or], left: object, right: object) -> tuple[Criterion, ...]:
    """Return the parts of a chain; one that no call would run is refused here, before a loop makes it longer."""
    parts = (*_parts(kind, left), *_parts(kind, right))
    if len(parts) > MAX_LEAVES:
        raise _make_length_error()
    return parts


def _parts(kind: type[And | Or], given: object) -> tuple[Criterion, ...]:
    # A chain of & or | stays flat, however long it grows.
    criterion = as_criterion(given)
    return criterion.parts if isinstance(criterion, And | Or) and type(criterion) is kind else (criterion,)


def _format(value: object) -> str:
    return f"[{', '.join(map(repr, value))}]" if isinstance(value, tuple) else repr(value)

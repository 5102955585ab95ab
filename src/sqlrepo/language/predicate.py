"""Criteria as Python predicates."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, assert_never, cast

from sqlrepo.errors import QueryError
from sqlrepo.language.criteria import (
    And,
    Case,
    Compare,
    CompareFields,
    Criterion,
    IsNull,
    Leaf,
    Match,
    Not,
    OneOf,
    Operator,
    Or,
    Param,
    Ref,
    as_criterion,
    map_leaves,
)
from sqlrepo.language.entities import describe
from sqlrepo.language.values import Kind, fold_ascii, fold_unicode

Predicate: TypeAlias = Callable[[Any, tuple[Any, ...]], bool]
Reader: TypeAlias = Callable[[Ref], str]

_OPPOSITE: dict[Operator, Operator] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_NAMES = {"fold_ascii": fold_ascii, "fold_unicode": fold_unicode}


def compile_predicate(shape: Criterion, read: Reader) -> Predicate:
    """Compile a criterion whose literals are `Param`s.

    Args:
        shape: the criterion.
        read: gives the Python expression that reads a field of the row ``r``.

    Returns:
        a function of a row and the parameters, true where the criterion is.
    """
    source = f"lambda r, p: {_source(shape, read, True)}"
    return cast(Predicate, eval(source, dict(_NAMES)))  # noqa: S307  # of positions and operators, never of values


def _source(node: Criterion, read: Reader, wanted: bool) -> str:
    match node:
        case Not(part):
            return _source(part, read, not wanted)
        case And(parts) | Or(parts):
            every = isinstance(node, And) is wanted
            sources = [f"({_source(part, read, wanted)})" for part in parts]
            return (" and " if every else " or ").join(sources) or str(every)
        case IsNull(ref):
            return f"{read(ref)} is {'' if wanted else 'not '}None"
        case Compare(ref, op, value):
            return _known([read(ref)], "{} " + (op if wanted else _OPPOSITE[op]) + " " + _param(value))
        case CompareFields(ref, op, other):
            return _known([read(ref), read(other)], "{} " + (op if wanted else _OPPOSITE[op]) + " {}")
        case OneOf(ref, values):
            return _known([read(ref)], "{} " + ("in " if wanted else "not in ") + _param(values))
        case Match():
            return _known([read(node.ref)], ("" if wanted else "not ") + _text_test(node))
        case _:
            assert_never(node)


def _known(sources: list[str], test: str) -> str:
    return " and ".join([*(f"{source} is not None" for source in sources), test.format(*sources)])


def _text_test(node: Match) -> str:
    subject = "{}" if node.case == "exact" else f"fold_{'ascii' if node.case == 'ascii' else 'unicode'}({{}})"
    match node.kind:
        case "contains":
            return f"({_param(node.text)} in {subject})"
        case "equals":
            return f"({subject} == {_param(node.text)})"
        case "startswith" | "endswith":
            return f"{subject}.{node.kind}({_param(node.text)})"
        case _:
            assert_never(node.kind)


def _param(value: Any) -> str:
    assert isinstance(value, Param)
    return f"p[{value.index}]"


def parametrize(criterion: Criterion) -> tuple[Criterion, tuple[Any, ...]]:
    """Part a criterion into its shape and its literals.

    Returns:
        the criterion with a `Param` in place of each literal, and the literals in the order of their numbers.
    """
    literals: list[Any] = []

    def place(literal: Any) -> Param:
        literals.append(literal)
        return Param(len(literals) - 1)

    def leaf(node: Leaf) -> Criterion:
        match node:
            case Compare(ref, op, value):
                return Compare(ref, op, place(value))
            case OneOf(ref, values):
                return OneOf(ref, place(values))
            case Match(ref, kind, text, case):
                return Match(ref, kind, place(fold(text, case)), case)
            case CompareFields() | IsNull():
                return node
            case _:
                assert_never(node)

    return map_leaves(criterion, leaf), tuple(literals)


def fold(text: str, case: Case) -> str:
    """Fold a text that is searched for the way the searched one will be."""
    return text if case == "exact" else fold_ascii(text) if case == "ascii" else fold_unicode(text)


class HasCriteria(Protocol):
    """A query object."""

    @property
    def criteria(self) -> bool:
        """Its filters, as one criterion."""
        ...


def matches(criterion: bool | HasCriteria, entity: object) -> bool:
    """Evaluate a criterion on one entity, as every backend would on its row.

    Args:
        criterion: an expression over ``fields(T)``, or a `QueryObject`, whose limit and offset do not matter.
        entity: an instance of the class the criterion is about.

    Returns:
        True where it is true; False where it is false or unknown.

    Raises:
        QueryError: the criterion is about another class.
    """

    def labelled(leaf: Leaf) -> Leaf:
        if not isinstance(entity, leaf.ref.entity):
            raise QueryError(f"{leaf.ref.entity.__name__}.{leaf.ref} is asked of a {type(entity).__name__}")
        return _labelled(leaf)

    shape, params = parametrize(map_leaves(as_criterion(getattr(criterion, "criteria", criterion)), labelled))
    try:
        return _on_entities(shape)(entity, params)
    except TypeError as error:  # values no column holds side by side: a datetime with zone and one without
        raise QueryError(f"{criterion} compares values that have no order ({error})") from error


@lru_cache(maxsize=256)
def _on_entities(shape: Criterion) -> Predicate:
    return compile_predicate(shape, _read_attribute)


def _read_attribute(ref: Ref) -> str:
    if _by_name(ref):
        return f"(r.{ref.name} and r.{ref.name}.name)"  # members compare and sort by name, as they are stored
    return f"r.{ref.name}"


def _by_name(ref: Ref) -> bool:
    """Whether a field holds members of an enumeration that are no texts or numbers themselves."""
    type_ = describe(ref.entity)[ref.name].type
    return type_.kind is Kind.ENUM and not issubclass(type_.python, str | int)


def _labelled(node: Leaf) -> Leaf:
    """Put the name of an enumeration's member in the member's place."""
    if not _by_name(node.ref):
        return node
    match node:
        case Compare(ref, op, value):
            return Compare(ref, op, value.name)
        case OneOf(ref, values):
            return OneOf(ref, tuple(value.name for value in values))
        case CompareFields() | Match() | IsNull():
            return node
        case _:
            assert_never(node)

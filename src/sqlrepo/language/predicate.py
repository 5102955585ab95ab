"""Evaluation of criteria in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, assert_never, cast

from sqlrepo.errors import QueryError
from sqlrepo.language.criteria import (
    DEEP,
    Among,
    And,
    Case,
    Compare,
    CompareFields,
    Criterion,
    Exists,
    IsNull,
    IsTrue,
    Leaf,
    Match,
    Not,
    OneOf,
    Operator,
    Or,
    Param,
    Path,
    Ref,
    as_criterion,
    map_inner,
    map_leaves,
)
from sqlrepo.language.entities import ValueOfPart, field_at
from sqlrepo.language.values import Kind, fold_ascii, fold_unicode, raise_ascii

Predicate: TypeAlias = Callable[[Any, tuple[Any, ...]], bool]
# Gives the Python expression for a field of the row that a variable holds.
Reader: TypeAlias = Callable[[Ref, str], str]

_OPPOSITE: dict[Operator, Operator] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
# SQL's functions of a text; how letters beyond A to Z change depends on a database's locale.
FUNCTIONS: Mapping[str, Callable[[str], Any]] = {
    "lower": fold_ascii,
    "upper": raise_ascii,
    "length": len,
    "octet_length": lambda text: len(text.encode()),
}
_NAMES = {"fold_ascii": fold_ascii, "fold_unicode": fold_unicode, **FUNCTIONS}


class HasCriteria(Protocol):
    """A query object."""

    @property
    def criteria(self) -> bool: ...


def matches(criterion: bool | HasCriteria, entity: object) -> bool:
    """Evaluate a criterion on one entity, as every back end would on its row.

    Args:
        criterion: an expression over ``fields(T)``, or a `QueryObject`, of which only the filters count.
        entity: an instance of the class that the criterion refers to.

    Returns:
        True if the criterion is true; False if it is false, or unknown because of NULL.

    Raises:
        QueryError: the criterion refers to another class.
    """

    def label(leaf: Leaf) -> Leaf:
        labelled = _label(leaf)
        if not isinstance(entity, leaf.ref.entity):
            raise QueryError(
                f"the criterion is on {leaf.ref.entity.__name__}.{leaf.ref}, not on {type(entity).__name__}"
            )
        return labelled

    shape, params = parametrize(map_leaves(as_criterion(getattr(criterion, "criteria", criterion)), label))
    try:
        return _on_entities(shape)(entity, params)
    except TypeError as error:  # values that no column holds together: datetimes with and without a zone
        raise QueryError(f"{criterion} compares values that have no order ({error})") from error


def compile_predicate(shape: Criterion, read: Reader) -> Predicate:
    """Compile a criterion whose literals are `Param`s to a function of a row and the parameters."""
    source = f"lambda r, p: {_source(shape, read, True)}"
    return cast(Predicate, eval(source, dict(_NAMES)))  # noqa: S307  # made of positions and operators, never of values


def _source(node: Criterion, read: Reader, wanted: bool, row: str = "r") -> str:
    match node:
        case Not(part):
            return _source(part, read, not wanted, row)
        case And(parts) | Or(parts):
            every = isinstance(node, And) is wanted
            sources = [f"({_source(part, read, wanted, row)})" for part in parts]
            return (" and " if every else " or ").join(sources) or str(every)
        case IsTrue(part):
            return ("" if wanted else "not ") + f"({_source(part, read, True, row)})"
        case IsNull(ref):
            return f"{read(ref, row)} is {'' if wanted else 'not '}None"
        case Exists(ref, where):
            child = f"{row}c"
            test = f"any({_source(where, read, True, child)} for {child} in {read(ref, row)} or ())"
            return test if wanted else f"not {test}"
        case Among(refs, rows):
            values = "".join(f"{read(ref, row)}, " for ref in refs)
            return f"({values}) {'in' if wanted else 'not in'} {_param(rows)}"
        case Compare() | CompareFields() | OneOf() | Match():
            return _comparison(node, read, wanted, row)
        case Path():
            raise AssertionError  # binding has replaced it
        case _:
            assert_never(node)


def _comparison(node: Compare | CompareFields | OneOf | Match, read: Reader, wanted: bool, row: str) -> str:
    sources = [read(node.ref, row)]
    match node:
        case Compare(ref, op, value):
            sources.append(_param(value))
            test = f"{_call(ref)} {op if wanted else _OPPOSITE[op]} {_param(value)}"
        case CompareFields(ref, op, other):
            sources.append(read(other, row))
            test = f"{_call(ref)} {op if wanted else _OPPOSITE[op]} {_call(other)}"
        case OneOf(ref, values):
            known = "" if wanted else f"None not in {_param(values)} and "
            test = f"{known}{_call(ref)} {'in' if wanted else 'not in'} {_param(values)}"
        case Match():
            sources.append(_param(node.text))
            test = ("" if wanted else "not ") + _text_test(node)
        case _:
            assert_never(node)
    return _guard_nulls(sources, test)


def _guard_nulls(sources: list[str], test: str) -> str:
    """Make a test false if a field is NULL, or a value that a type decorator stores as NULL."""
    return " and ".join([*(f"{source} is not None" for source in sources), test.format(*sources)])


def _call(ref: Ref) -> str:
    return f"{ref.function}({{}})" if ref.function else "{}"


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


def parametrize(criterion: Criterion, before: Iterable[Any] = ()) -> tuple[Criterion, tuple[Any, ...]]:
    """Split a criterion into its shape, with a `Param` in place of each literal, and the literals by number.

    They are numbered after those ``before``, of other criteria in the same statement, and returned with them.
    """
    literals = list(before)

    def number(literal: Any) -> Param:
        literals.append(literal)
        return Param(len(literals) - 1)

    def leaf(node: Leaf) -> Criterion:
        if node.ref.via is not None or isinstance(node, DEEP):
            node = map_inner(node, leaf)
        match node:
            case Compare(ref, op, value):
                return Compare(ref, op, number(value))
            case OneOf(ref, values):
                return OneOf(ref, number(values))
            case Match(ref, kind, text, case):
                return Match(ref, kind, number(fold(text, case)), case)
            case CompareFields() | IsNull() | Among() | Exists() | Path():
                return node
            case _:
                assert_never(node)

    return map_leaves(criterion, leaf), tuple(literals)


def fold(text: str, case: Case) -> str:
    return text if case == "exact" else fold_ascii(text) if case == "ascii" else fold_unicode(text)


@lru_cache(maxsize=256)
def _on_entities(shape: Criterion) -> Predicate:
    return compile_predicate(shape, _read_attribute)


def _read_attribute(ref: Ref, row: str) -> str:
    first, *path = ref.name.split(".")
    value = row if issubclass(ref.entity, ValueOfPart) else f"{row}.{first}"
    for name in path:
        value = f"({value} if {value} is None else {value}.{name})"
    if _is_compared_by_name(ref):
        return f"({value} and {value}.name)"  # members are stored, compared and sorted by name
    return value


def _is_compared_by_name(ref: Ref) -> bool:
    """Return True if a field holds members of an enumeration that are neither text nor numbers."""
    type_ = field_at(ref.entity, ref.name).type
    return type_.kind is Kind.ENUM and not issubclass(type_.python, str | int)


def _label(node: Leaf) -> Leaf:
    """Replace members of an enumeration by their names; refuse what is not in the entity."""
    refs = (node.ref, node.other) if isinstance(node, CompareFields) else (node.ref,)
    if isinstance(node, Path) or (isinstance(node, Exists) and node.root) or any(ref.via for ref in refs):
        raise QueryError(
            f"matches() evaluates one entity, but {node} depends on rows of other tables; use a repository"
        )
    if isinstance(node, Exists):
        return map_inner(node, _label)
    if not _is_compared_by_name(node.ref):
        return node
    match node:
        case Compare(ref, op, value):
            return Compare(ref, op, value.name)
        case OneOf(ref, values):
            return OneOf(ref, tuple(value.name for value in values))
        case CompareFields() | Match() | IsNull() | Among():
            return node
        case _:
            assert_never(node)

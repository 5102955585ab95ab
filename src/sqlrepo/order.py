"""Orders: by which fields, in which direction, with the key appended so that no two rows are equal.

Knows that NULL is smaller than everything, on every backend, and what comes after a position in an order. Must not
know how a backend sorts.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlrepo.criteria import EVERYTHING, NOTHING, And, Compare, Criterion, IsNull, Not, Or, Ref
from sqlrepo.errors import QueryError
from sqlrepo.expressions import Field, field_named

__all__ = ["OrderBy", "Sort", "after", "asc", "desc", "reversed_order", "sorts"]


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


def sorts(entity: type, order_by: OrderBy) -> tuple[Sort, ...]:
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
    return Sort(_orderable(field_named(entity, name)).ref, descending=name != text)


def _orderable(field: object) -> Field:
    if not isinstance(field, Field):
        raise QueryError(f"an order is by fields, such as fields(Todo).key, not by {type(field).__name__}")
    if not field.spec.type.kind.ordered:
        raise QueryError(f"{field!r} has no order")
    return field


def reversed_order(order: Iterable[Sort]) -> tuple[Sort, ...]:
    """The same order, read from its end."""
    return tuple(Sort(sort.ref, not sort.descending) for sort in order)


def after(order: Sequence[Sort], position: Sequence[Any], nullable: Container[str]) -> Criterion:
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
    return And((_beyond(sort, value, may_be_null, strictly=False), Or((past, after(others, values, nullable)))))


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

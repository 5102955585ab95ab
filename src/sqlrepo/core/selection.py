"""What one call asks: its criteria, order and limits, brought together and bound to the columns of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlrepo.driver import Condition
from sqlrepo.errors import InvalidLiteralError, QueryError
from sqlrepo.language.criteria import And, Criterion, all_of, as_criterion, map_leaves
from sqlrepo.language.fields import OrderBy, Sort, parse_keywords, parse_order
from sqlrepo.language.predicate import parametrize
from sqlrepo.language.query import QueryObject, entity_of
from sqlrepo.tables.mapper import Mapper

# Limit, offset and the one row more that tells whether there is a next page add up to a 64-bit integer.
_MOST_ROWS = 2**62 - 1


@dataclass(frozen=True, slots=True)
class Selection:
    """A call's question, in terms of columns.

    Attributes:
        criterion: which rows, literals in place.
        order: with the key appended; no two rows are equal in it.
        limit: at most so many rows, None for all.
        offset: so many are left out first.
    """

    criterion: Criterion
    order: tuple[Sort, ...]
    limit: int | None
    offset: int

    @property
    def where(self) -> Condition:
        """Which rows, as a backend takes it."""
        return condition(self.criterion)

    def and_also(self, criterion: Criterion) -> Selection:
        """The same question with one more criterion, already bound to columns."""
        return replace(self, criterion=And((self.criterion, criterion)))


def condition(criterion: Criterion) -> Condition:
    """Part a criterion over columns into shape and parameters."""
    return Condition(*parametrize(criterion))


def select(
    mapper: Mapper[Any],
    asked: Iterable[object],
    named: Mapping[str, Any],
    *,
    order_by: OrderBy = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Selection:
    """Bring together what a call was given.

    Args:
        mapper: the entity and its table.
        asked: criteria, at most one query object among them.
        named: keyword equality.
        order_by: the call's own order, if any.
        limit: the call's own limit, if any.
        offset: the call's own offset, if any.

    Raises:
        QueryError: two query objects, something said twice, an unknown field, ...
        InvalidLiteralError: a negative limit or offset, or one that no database can count to.
    """
    given = tuple(asked)
    queries = [one for one in given if isinstance(one, QueryObject)]
    if len(queries) > 1:
        raise QueryError("two query objects in one call; combine their .criteria instead")
    if queries:
        if not issubclass(mapper.entity, entity_of(queries[0])):
            raise QueryError(f"{type(queries[0]).__name__} is not about {mapper.entity.__name__}")
        order_by = _once("order_by", queries[0], order_by)
        limit = _once("limit", queries[0], limit)
        offset = _once("offset", queries[0], offset)
    criterion = all_of(
        [
            *(as_criterion(one.criteria if isinstance(one, QueryObject) else one) for one in given),
            *parse_keywords(mapper.entity, named),
        ]
    )
    return Selection(
        map_leaves(criterion, mapper.bind),
        _order(mapper, order_by),
        _rows("limit", limit),
        _rows("offset", offset) or 0,
    )


def require_position(limit: int, offset: int, after: str | None, before: str | None) -> None:
    """Refuse what gives no page by position.

    Raises:
        InvalidLiteralError: no row, an offset, or both ways at once.
    """
    if limit < 1:
        raise InvalidLiteralError("limit", "a page by position has one row at least")
    if offset:
        raise InvalidLiteralError("offset", "a page by position begins at a cursor")
    if after is not None and before is not None:
        raise InvalidLiteralError("before", "a page is either after or before a cursor")


def _once(option: str, query: QueryObject[Any], given: Any) -> Any:
    """An option said by the query object or by the call, not by both."""
    own = getattr(query, option, None)
    if own is not None and given is not None:
        raise QueryError(f"{option} is given twice: by {type(query).__name__} and by the call")
    return given if own is None else own


def _rows(name: str, number: Any) -> int | None:
    if number is None:
        return None
    if not isinstance(number, int) or isinstance(number, bool):
        raise QueryError(f"{name} is a number of rows, not {type(number).__name__}")
    if not 0 <= number <= _MOST_ROWS:
        raise InvalidLiteralError(name, f"cannot be {'negative' if number < 0 else 'so large'}")
    return number


def _order(mapper: Mapper[Any], order_by: OrderBy) -> tuple[Sort, ...]:
    """Bind an order to columns and append the key, in the direction of the last sort key."""
    order = [mapper.bind_sort(sort) for sort in parse_order(mapper.entity, order_by)]
    descending = order[-1].descending if order else False
    present = {sort.ref.name for sort in order}
    return (*order, *(Sort(mapper.ref(name), descending) for name in mapper.schema.key if name not in present))

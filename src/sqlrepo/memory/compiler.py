"""Requests as functions over lists of rows.

Knows criteria over columns, orders with NULL smallest, limits. Must not know transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlrepo.driver import Condition
from sqlrepo.language.criteria import And, Compare, Criterion, Leaf, Match, OneOf, Param, map_leaves
from sqlrepo.language.fields import Sort
from sqlrepo.language.predicate import Predicate, compile_predicate
from sqlrepo.tables.schema import Row, Schema

__all__ = ["Filter", "compiled", "ordered", "projection"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A criterion over the rows of one table.

    Attributes:
        test: true of a row and the parameters where the criterion is.
        stores: turns the parameters into what rows keep; a parameter it does not name is kept as it is.
        key: the numbers of the parameters that give the whole key, where the criterion asks for one row.
    """

    test: Predicate
    stores: tuple[tuple[int, Callable[[Any], Any]], ...]
    key: tuple[int, ...] | None

    def params(self, where: Condition) -> tuple[Any, ...]:
        """The parameters in the form that rows keep."""
        if not self.stores:
            return where.params
        params = list(where.params)
        for index, store in self.stores:
            params[index] = store(params[index])
        return tuple(params)

    def choose(self, rows: Iterable[Row], params: tuple[Any, ...]) -> list[Row]:
        """The rows the criterion is true of."""
        test = self.test
        return [row for row in rows if test(row, params)]


@lru_cache(maxsize=1024)
def compiled(schema: Schema, shape: Criterion) -> Filter:
    """Compile a criterion's shape, once for all queries of that shape."""
    stores: list[tuple[int, Callable[[Any], Any]]] = []

    def collect(leaf: Leaf) -> Leaf:
        type_ = schema.by_name[leaf.ref.name].type
        match leaf:
            case Compare(_, _, Param(index)) if not type_.plain:
                stores.append((index, type_.store))
            case Match(_, _, Param(index)) if not type_.plain:
                stores.append((index, type_.store))
            case OneOf(_, Param(index)):
                stores.append((index, lambda values: frozenset(map(type_.store, values))))
            case _:
                pass
        return leaf

    map_leaves(shape, collect)
    test = compile_predicate(shape, lambda ref: f"r[{schema.positions[ref.name]}]")
    return Filter(test, tuple(stores), _whole_key(schema, shape))


def _whole_key(schema: Schema, shape: Criterion) -> tuple[int, ...] | None:
    asked: dict[str, int] = {}
    for part in shape.parts if isinstance(shape, And) else (shape,):
        if isinstance(part, Compare) and part.op == "==":
            asked[part.ref.name] = part.value.index
    return tuple(asked[name] for name in schema.key) if all(name in asked for name in schema.key) else None


def ordered(schema: Schema, rows: list[Row], order: Iterable[Sort]) -> list[Row]:
    """Sort rows; NULL is smaller than everything."""
    for sort in reversed(tuple(order)):  # sorting is stable, so the most important key comes last
        place = schema.positions[sort.ref.name]
        rows.sort(
            key=_nulls_smallest(place) if sort.ref.name in schema.nullable else itemgetter(place),
            reverse=sort.descending,
        )
    return rows


def _nulls_smallest(place: int) -> Callable[[Row], Any]:
    return lambda row: (row[place] is not None, row[place])


@lru_cache(maxsize=1024)
def projection(schema: Schema, columns: tuple[str, ...]) -> Callable[[Row], Row]:
    """What gives some columns of a row, as entities see them."""
    places = [schema.positions[name] for name in columns]
    loads = [schema.by_name[name].type for name in columns]
    if all(type_.plain for type_ in loads):
        return itemgetter(*places) if len(places) > 1 else lambda row: tuple(row[place] for place in places)
    return lambda row: tuple(type_.load(row[place]) for place, type_ in zip(places, loads, strict=True))

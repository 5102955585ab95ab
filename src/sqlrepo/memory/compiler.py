"""Filters, orders and projections as functions over lists of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import localcontext
from functools import lru_cache, partial
from itertools import islice
from operator import itemgetter
from typing import Any, TypeAlias

from sqlrepo.driver import Condition, Group, Measure
from sqlrepo.language.criteria import (
    EVERYTHING,
    Among,
    And,
    Compare,
    Criterion,
    Exists,
    Leaf,
    Match,
    OneOf,
    Param,
    Ref,
    Via,
    is_related,
    map_leaves,
    map_refs,
)
from sqlrepo.language.fields import Sort
from sqlrepo.language.predicate import Predicate, compile_predicate
from sqlrepo.language.values import EXACT, Kind, ValueType
from sqlrepo.tables.schema import Row, Schema, column_of


@dataclass(frozen=True, slots=True)
class Filter:
    """A criterion over the rows of one table."""

    test: Predicate
    stores: tuple[tuple[int, Callable[[Any], Any]], ...]  # functions that convert parameters to stored values
    key: tuple[int, ...] | None  # the numbers of the parameters that hold the key, if the criterion names one row

    def params(self, where: Condition) -> tuple[Any, ...]:
        """Return the parameters as stored values."""
        if not self.stores:
            return where.params
        params = list(where.params)
        for index, store in self.stores:
            params[index] = store(params[index])
        return tuple(params)

    def choose(self, rows: Iterable[Row], params: tuple[Any, ...]) -> list[Row]:
        test = self.test
        return [row for row in rows if test(row, params)]


@lru_cache(maxsize=1024)
def compile_filter(schema: Schema, shape: Criterion) -> Filter:
    """Compile the shape of a criterion, once for all queries of that shape."""
    stores: list[tuple[int, Callable[[Any], Any]]] = []

    def collect(leaf: Leaf) -> Leaf:
        type_ = ValueType(Kind.OPAQUE) if leaf.ref.function else column_of(schema, leaf.ref).type
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
    test = compile_predicate(shape, partial(_read, schema))
    return Filter(test, tuple(stores), _find_key(schema, shape))


def _read(schema: Schema, ref: Ref, row: str) -> str:
    if ref.via is None:
        return f"{row}[{schema.positions[ref.name]}]"
    assert ref.via.rows is not None
    return f"p[{ref.via.rows.index}].get({_read(schema, ref.via.key, row)})"


Find: TypeAlias = Callable[[Any, Condition], Iterable[Row]]


def with_owners(where: Condition, find: Find) -> Condition:
    """Look once for the rows of other tables that a condition asks about: ``find`` returns those that meet another.

    Each `Exists` becomes the keys of the owners of matching rows, and each way through a key the values by key.
    """
    if not _is_related(where.shape):
        return where
    params = list(where.params)

    def replace_leaf(leaf: Leaf) -> Leaf:
        if not isinstance(leaf, Exists):
            return map_refs(leaf, lambda ref: look_up(ref, params, find))
        rows = find(leaf.mapper.schema, Condition(leaf.where, tuple(params)))
        far = [make_reader(leaf.mapper.schema, ref, params, find) for ref in leaf.far]
        owners = {tuple(read(row) for read in far) for row in rows}
        params.append(frozenset(owner for owner in owners if None not in owner))
        found = Param(len(params) - 1)
        return Among(tuple(look_up(ref, params, find) for ref in leaf.near), found)

    return Condition(map_leaves(where.shape, replace_leaf), tuple(params), where.missing)


def look_up(ref: Ref, params: list[Any], find: Find) -> Ref:
    """Append the values to which a reference leads through a key, by that key, to the parameters."""
    if (via := ref.via) is None or via.rows is not None:
        return ref
    key, positions = look_up(via.key, params, find), via.mapper.schema.positions
    rows = find(via.mapper.schema, Condition(EVERYTHING if via.scope is None else via.scope, tuple(params)))
    values = {row[positions[via.column]]: row[positions[ref.name]] for row in rows}
    values.pop(None, None)
    params.append(values)
    return replace(ref, via=replace(via, key=key, scope=None, rows=Param(len(params) - 1)))


def make_far_reader(
    schema: Schema, ref: Ref, rows: Callable[[Via], Callable[[Any], Row | None]]
) -> Callable[[Row], Any]:
    """Make such a function from one that returns the row behind a key."""
    if ref.via is None:
        return itemgetter(schema.positions[ref.name])
    key, find, place = (
        make_far_reader(schema, ref.via.key, rows),
        rows(ref.via),
        ref.via.mapper.schema.positions[ref.name],
    )
    return lambda row: None if (far := find(key(row))) is None else far[place]


def make_reader(schema: Schema, ref: Ref, params: Sequence[Any], find: Find) -> Callable[[Row], Any]:
    """Make a function that returns the stored value of a reference in a row."""
    if ref.via is None:
        return itemgetter(schema.positions[ref.name])
    known = list(params)
    found = look_up(ref, known, find)
    assert found.via is not None
    assert found.via.rows is not None
    values, key = known[found.via.rows.index], make_reader(schema, ref.via.key, params, find)
    return lambda row: values.get(key(row))


_is_related = lru_cache(maxsize=1024)(is_related)


def _find_key(schema: Schema, shape: Criterion) -> tuple[int, ...] | None:
    equal: dict[str, int] = {}
    for part in shape.parts if isinstance(shape, And) else (shape,):
        if isinstance(part, Compare) and part.op == "==" and not (part.ref.function or part.ref.via):
            equal[part.ref.name] = part.value.index
    return tuple(equal[name] for name in schema.key) if schema.key and equal.keys() >= set(schema.key) else None


def sort_rows(schema: Schema, rows: list[Row], order: Iterable[Sort], reader: Callable[[Ref], Any]) -> list[Row]:
    """Sort rows in place, by the values that ``reader(ref)(row)`` returns; NULL is smaller than every value."""
    for sort in reversed(tuple(order)):  # sorting is stable, so the most important key comes last
        read = reader(sort.ref)
        nullable = sort.ref.via is not None or sort.ref.name in schema.nullable
        rows.sort(key=_nulls_first(read) if nullable else read, reverse=sort.descending)
    return rows


def _nulls_first(read: Callable[[Row], Any]) -> Callable[[Row], Any]:
    def key(row: Row) -> Any:
        value = read(row)
        return value is not None, value

    return key


@lru_cache(maxsize=1024)
def make_projection(schema: Schema, columns: tuple[str, ...]) -> Callable[[Row], Row]:
    """Make a function that returns some columns of a row, with their values as entities have them."""
    positions = [schema.positions[name] for name in columns]
    types = [schema.by_name[name].type for name in columns]
    if all(type_.plain for type_ in types):
        return itemgetter(*positions) if len(positions) > 1 else lambda row: tuple(row[index] for index in positions)
    return lambda row: tuple(type_.load(row[index]) for index, type_ in zip(positions, types, strict=True))


# -- groups


Children: TypeAlias = Mapping[tuple[Any, Criterion], Sequence[Row]]
Reader: TypeAlias = Callable[[Ref], Callable[[Row], Any]]


def group_rows(schema: Schema, request: Group, rows: Sequence[Row], children: Children, reader: Reader) -> list[Row]:
    """Return the groups that a request asks for; ``children`` are those of the parts that it measures."""
    reads, result = [reader(ref) for ref in request.keys], request.result(schema)
    members: dict[Row, list[int]] = {} if reads else {(): []}
    for number, row in enumerate(rows):
        members.setdefault(tuple(read(row) for read in reads), []).append(number)
    columns = [(_outer(one), _measured(schema, one, rows, children, reader)) for one in request.measures]
    groups = [
        (*key, *(_fold(function, [values[number] for number in numbers]) for function, values in columns))
        for key, numbers in members.items()
    ]
    having = compile_filter(result, request.having.shape)
    chosen = having.choose(groups, having.params(request.having))
    sort_rows(result, chosen, request.order, lambda ref: itemgetter(result.positions[ref.name]))
    stop = None if request.limit is None else request.offset + request.limit
    return list(map(make_projection(result, tuple(result.by_name)), islice(chosen, request.offset, stop)))


def _outer(measure: Measure) -> str:
    return "total" if measure.part is not None and measure.function == "count" else measure.function


def _measured(schema: Schema, measure: Measure, rows: Sequence[Row], children: Children, reader: Reader) -> list[Any]:
    """Return what each row contributes to a measure: a value, or one folded from those of its children."""
    part, ref = measure.part, measure.ref
    if part is None:
        return [1] * len(rows) if ref is None else list(map(reader(ref), rows))
    owners_of, near = _owners(part, children), part.through or part
    values: dict[Row, list[Any]] = {}
    for child in children[part, measure.where]:
        for owner in owners_of(child):
            values.setdefault(owner, []).append(1 if ref is None else child[part.schema.positions[ref.name]])
    key = make_key(schema, near.targets)
    return [_fold(measure.function, values.get(key(row), ())) for row in rows]


def _owners(part: Any, children: Children) -> Callable[[Row], Iterable[Row]]:
    """Make a function that returns what refers to the owners of a child: one, or several through a table in between."""
    key, between = make_key(part.schema, part.owner), part.through
    if between is None:
        return lambda child: (key(child),)
    owners: dict[Row, set[Row]] = {}
    near, far = make_key(between.schema, between.owner), make_key(between.schema, part.targets)
    for row in children[between, EVERYTHING]:
        owners.setdefault(far(row), set()).add(near(row))
    return lambda child: owners.get(key(child), ())


def fold_related(
    measure: Measure, rows: Iterable[Row], near: Sequence[Callable[[Row], Any]], far: Sequence[Callable[[Row], Any]]
) -> Callable[[Row], Any]:
    """Make a function that folds those of some rows which belong to a row."""
    assert measure.of is not None
    place = None if measure.ref is None else measure.of.mapper.schema.positions[measure.ref.name]
    values: dict[Row, list[Any]] = {}
    for one in rows:
        values.setdefault(tuple(read(one) for read in far), []).append(1 if place is None else one[place])
    folded = {owner: _fold(measure.function, found) for owner, found in values.items() if None not in owner}
    nothing = _fold(measure.function, ())
    return lambda row: folded.get(tuple(read(row) for read in near), nothing)


def make_key(schema: Schema, columns: Iterable[str]) -> Callable[[Row], Row]:
    places = [schema.positions[name] for name in columns]
    return lambda row: tuple(row[place] for place in places)


def _fold(function: str, values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    if function in ("count", "count_distinct"):
        return len(known if function == "count" else set(known))
    if not known:
        return 0 if function == "total" else None
    if function in ("min", "max"):
        return min(known) if function == "min" else max(known)
    with localcontext(EXACT):
        return sum(known)

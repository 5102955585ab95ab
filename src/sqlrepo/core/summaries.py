"""How a repository summarizes: what it asks the driver for, and what is computed above the back ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

from sqlrepo.core.definition import names_of
from sqlrepo.core.related import Kind as Repository
from sqlrepo.core.related import Kinds
from sqlrepo.core.selection import HasMapper, Literals, Selection, select
from sqlrepo.driver import Group, Measure
from sqlrepo.errors import QueryError, UnsupportedError
from sqlrepo.language.criteria import EVERYTHING, Ref
from sqlrepo.language.entities import field_at
from sqlrepo.language.fields import OrderBy, Sort, asc
from sqlrepo.language.predicate import compile_predicate, parametrize
from sqlrepo.language.query import QueryObject
from sqlrepo.language.summaries import (
    NUMBERS,
    Reading,
    Summary,
    beyond,
    check_kind,
    entity_of_summary,
    is_measure,
    readings_of,
    require_optional,
)
from sqlrepo.language.values import EXACT, Kind, ValueType
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import Column, Row, column_of, columns_of

_MORE_DIGITS = 4  # after the point, of an average


class _Average(NamedTuple):
    sum: int  # the positions of the sum and the count
    number: int
    digits: int | None  # after the point; None for a float


@dataclass(frozen=True, slots=True)
class Summarizing:
    """One summary of one repository: its fields as columns of a `Group`, and the averages behind them."""

    _mapper: Mapper[Any]  # of the summary
    keys: tuple[Ref, ...]  # of the entity, not bound
    measures: tuple[Measure, ...]
    averages: tuple[_Average, ...]

    @property
    def _relations(self) -> Kinds:
        return Kinds(())

    def select(
        self, having: QueryObject[Any] | None, order_by: OrderBy, limit: int | None, offset: int | None
    ) -> Selection:
        given = () if having is None else (having,)
        return select(self, given, {}, order_by=order_by, limit=limit, offset=offset)

    def request(self, repository: HasMapper, criteria: Iterable[object], selection: Selection) -> Group:
        """Return the group to ask the driver for; `load` applies a selection by averages."""
        group = bind_group(repository, criteria, self.keys, self.measures)
        if self._selects_averages(selection):
            return group
        limit, offset = selection.limit, selection.offset
        return replace(group, having=selection.where, order=selection.order, limit=limit, offset=offset)

    def load(self, rows: Sequence[Row], selection: Selection) -> list[Any]:
        whole = [(*row, *(_divide(row, average) for average in self.averages)) for row in rows]
        if self._selects_averages(selection):
            whole = self._choose(whole, selection)
        columns = [int(name) for name in self._mapper.selected]
        for at in columns:
            check_sums(self._mapper.field(str(at)), [row[at] for row in whole])
        return self._mapper.load([tuple(row[at] for at in columns) for row in whole])

    def _selects_averages(self, selection: Selection) -> bool:
        named = {*columns_of(selection.criterion), *(sort.ref.name for sort in selection.order)}
        return any(int(name) >= len(self.keys) + len(self.measures) for name in named)

    def _choose(self, rows: Sequence[Row], selection: Selection) -> list[Row]:
        types = [column.type for column in self._mapper.schema.columns]
        pairs = [([type_.store(one) for type_, one in zip(types, row, strict=True)], row) for row in rows]
        shape, params = parametrize(self._mapper.to_stored(selection.criterion))
        holds = compile_predicate(shape, lambda ref, row: f"{row}[{ref.name}]")
        pairs = [(stored, row) for stored, row in pairs if holds(stored, params)]
        for sort in reversed(selection.order):
            _sort_by(pairs, int(sort.ref.name), sort.descending)
        stop = None if selection.limit is None else selection.offset + selection.limit
        return [row for _, row in pairs[selection.offset : stop]]


def check_sums(name: str, values: list[Any]) -> list[Any]:
    """Refuse, on every back end, the sums that some databases cannot compare."""
    if any(isinstance(one, int) and not -(2**63) <= one < 2**63 for one in values):
        raise UnsupportedError(f"{name}: a sum is larger than a 64-bit integer")
    return values


def _sort_by(pairs: list[tuple[list[Any], Row]], at: int, descending: bool) -> None:
    pairs.sort(key=lambda pair: (pair[0][at] is not None, pair[0][at]), reverse=descending)


def _divide(row: Row, average: _Average) -> Any:
    total, count, digits = row[average.sum], row[average.number], average.digits
    if total is None or digits is None:
        return None if total is None else total / count
    return Decimal(round(Fraction(total) * 10**digits / count)).scaleb(-digits, EXACT)  # half to even


@lru_cache(maxsize=1024)
def summarizing(kinds: tuple[Repository, ...], summary: type[Summary[Any]]) -> Summarizing:
    """Read a summary's fields as columns, and check them against the table, for the first of a unit's repositories."""
    mapper, relations = kinds[0].definition().mapper, lambda: Kinds(kinds)
    if not issubclass(mapper.entity, entity_of_summary(summary)):
        raise QueryError(f"{summary.__name__} does not summarize {mapper.entity.__name__}")
    if not summary.model_fields:
        raise QueryError(f"{summary.__name__} has no field; name group keys and measures, such as `count: int`")
    keys: dict[str, Ref] = {}
    measures: dict[str, Measure] = {}  # by field; the two of an average by names that are no fields
    averages: dict[str, ValueType] = {}
    for name, given in readings_of(summary).items():
        try:
            reading, part, type_ = _resolve(kinds, summary, name, given)
        except QueryError as error:
            hint = f" ({beyond(mapper.entity)})" if given.ref and not given.spec and is_measure(name) else ""
            raise QueryError(f"{summary.__name__}.{name}: {error}{hint}") from None
        if reading.function == "avg":
            averages[name] = type_
            measures |= {f"{name} {one}": Measure(cast(Any, one), reading.ref) for one in ("sum", "count")}
        elif reading.function:
            measures[name] = Measure(cast(Any, reading.function), reading.ref, part)
        else:
            keys[name] = cast(Ref, reading.ref)
    places = {name: at for at, name in enumerate([*keys, *measures, *averages])}
    schema = Group(*_bind(mapper, relations, keys.values(), measures.values())).result(mapper.schema)
    more = [Column(str(places[name]), type_, nullable=True) for name, type_ in averages.items()]
    columns = {name: str(places[name]) for name in summary.model_fields if name in places}
    made: Mapper[Any] = Mapper(summary, replace(schema, columns=(*schema.columns, *more)), columns)
    divisions = (_Average(places[f"{name} sum"], places[f"{name} count"], one.scale) for name, one in averages.items())
    return Summarizing(made, tuple(keys.values()), tuple(measures.values()), tuple(divisions))


def _resolve(
    kinds: tuple[Repository, ...], cls: type[Summary[Any]], name: str, given: Reading
) -> tuple[Reading, Any, Any]:
    """Return the reading with the field to which a key leads, the measured part, and the type of the column."""
    mapper, relations, part = kinds[0].definition().mapper, lambda: Kinds(kinds), None
    if given.many is not None:
        if (part := mapper.links.get(given.many.name)) is None:
            raise QueryError(f"a repository of {mapper.entity.__name__} has no part {given.many}")
        mapper = part.mapper
    if given.ref is None:
        return given, part, None
    ref = mapper.open_sort(given.ref, relations)
    reading = given._replace(ref=ref, spec=given.spec or field_at(ref.entity, ref.name))
    check_kind(cls, name, reading)
    bound = mapper.bind_ref(ref, relations)
    column, certain = column_of(mapper.schema, bound), "count" in reading.function
    type_ = _check(reading, column.type, names_of(kinds[0].approximate))
    if not certain and (column.nullable or bound.via):
        require_optional(cls, name, f"column {column.name!r} is nullable" if column.nullable else "there may be no row")
    return reading, part, type_


def _check(reading: Reading, type_: ValueType, approximate: Sequence[str]) -> ValueType:
    """Refuse a column that does not suit the function; return its type, or that of an average."""
    path, function = reading.path, reading.function
    if not type_.kind.ordered:
        raise QueryError(f"the column of {path} has values that cannot be compared")
    if function not in ("sum", "avg"):
        return type_
    if type_.kind not in NUMBERS or not type_.plain:
        raise QueryError(f"the column of {path} has a type that cannot be summed")
    if type_.kind is Kind.FLOAT and path not in approximate:
        raise QueryError(
            f"the sum of floats depends on the order in which they are added, so store {path} as a decimal; or, if an "
            f"approximate sum is enough, declare `approximate = ({path!r},)` in the repository"
        )
    if type_.kind is Kind.FLOAT:
        return ValueType(Kind.FLOAT, float)
    if function == "avg" and type_.kind is Kind.DECIMAL and type_.scale is None:
        raise QueryError(f"the column of {path} has no scale to round an average to; declare Numeric(precision, scale)")
    return ValueType(Kind.DECIMAL, Decimal, scale=(type_.scale or 0) + _MORE_DIGITS)


def bind_group(
    repository: HasMapper, criteria: Iterable[object], keys: Iterable[Ref], measures: Iterable[Measure]
) -> Group:
    """Bind what a group refers to, with the scopes of the rows to which it leads."""
    where = select(repository, criteria, {}).where
    literals = Literals(where.params)
    relations = partial(getattr, repository, "_relations")
    found, measured = _bind(repository._mapper, relations, keys, measures)
    parts = dict.fromkeys(one.part for one in measured if one.part)
    scopes = {part: literals.add(relations().scope_of(part.schema)) for part in parts}
    bound = [
        one._replace(ref=one.ref and literals.bind(one.ref), where=scopes.get(one.part, EVERYTHING)) for one in measured
    ]
    return Group(tuple(map(literals.bind, found)), tuple(bound), replace(where, params=literals.params))


def _bind(
    mapper: Mapper[Any], relations: Callable[[], Kinds], keys: Iterable[Ref], measures: Iterable[Measure]
) -> tuple[tuple[Ref, ...], tuple[Measure, ...]]:
    def bind(one: Measure) -> Measure:
        return one._replace(ref=one.ref and (one.part.mapper if one.part else mapper).bind_ref(one.ref, relations))

    return tuple(mapper.bind_ref(one, relations) for one in keys), tuple(map(bind, measures))


# -- the values of one field


def count_by(repository: HasMapper, field: object, criteria: Iterable[object]) -> Group:
    """Return the group that counts rows by the values of a field."""
    group = bind_group(repository, criteria, (asc(field).ref,), (Measure("count"),))
    return replace(group, order=(Sort(Ref(object, "0")),))


def load_counts(field: Any, rows: Sequence[Row]) -> dict[Any, int]:
    """Return the numbers of rows by value, as the entity has it: its column may hold a member's plain text."""
    python = field.spec.type.python
    return {python(key) if issubclass(python, Enum) and key is not None else key: count for key, count in rows}

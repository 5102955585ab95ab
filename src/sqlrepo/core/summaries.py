"""How a repository summarizes: what it asks the driver for, and what is computed above the back ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from sqlrepo.core.related import Kinds
from sqlrepo.core.selection import HasMapper, Selection, condition, select
from sqlrepo.driver import Group, Measure
from sqlrepo.errors import QueryError, UnsupportedError
from sqlrepo.language.criteria import EVERYTHING, And, IsNull, Ref, find_leaves
from sqlrepo.language.entities import field_at
from sqlrepo.language.fields import OrderBy, Sort, asc
from sqlrepo.language.predicate import compile_predicate, parametrize
from sqlrepo.language.query import QueryObject
from sqlrepo.language.summaries import Reading, Summary, check_kind, entity_of_summary, readings_of, require_optional
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
        return replace(
            group, having=selection.where, order=selection.order, limit=selection.limit, offset=selection.offset
        )

    def load(self, rows: Sequence[Row], selection: Selection) -> list[Any]:
        whole = [(*row, *(_divide(row, average) for average in self.averages)) for row in rows]
        if self._selects_averages(selection):
            whole = self._choose(whole, selection)
        self._check_sums(whole)
        return self._mapper.load([tuple(row[int(name)] for name in self._mapper.selected) for row in whole])

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

    def _check_sums(self, rows: Sequence[Row]) -> None:
        """Refuse what some databases cannot add up, on every back end."""
        for at, measure in enumerate(self.measures, len(self.keys)):
            if measure.function != "sum" or not self._mapper.has_field(str(at)):
                continue
            for row in rows:
                if isinstance(row[at], int) and not -(2**63) <= row[at] < 2**63:
                    raise UnsupportedError(f"{self._mapper.field(str(at))}: a sum is larger than a 64-bit integer")


def _sort_by(pairs: list[tuple[list[Any], Row]], at: int, descending: bool) -> None:
    pairs.sort(key=lambda pair: (pair[0][at] is not None, pair[0][at]), reverse=descending)


def _divide(row: Row, average: _Average) -> Any:
    total, count, digits = row[average.sum], row[average.number], average.digits
    if total is None or digits is None:
        return None if total is None else total / count
    return Decimal(round(Fraction(total) * 10**digits / count)).scaleb(-digits, EXACT)  # half to even


_KNOWN: WeakKeyDictionary[Mapper[Any], dict[type, Summarizing]] = WeakKeyDictionary()


def summarizing(repository: HasMapper, summary: type[Summary[Any]], approximate: Sequence[str]) -> Summarizing:
    """Read a summary's fields as columns, and check them against the table, once for a repository class."""
    known = _KNOWN.setdefault(repository._mapper, {})
    if summary not in known:
        known[summary] = _read(repository, summary, approximate)
    return known[summary]


def _read(repository: HasMapper, summary: type[Summary[Any]], approximate: Sequence[str]) -> Summarizing:
    mapper: Mapper[Any] = repository._mapper
    if not issubclass(mapper.entity, entity_of_summary(summary)):
        raise QueryError(f"{summary.__name__} does not summarize {mapper.entity.__name__}")
    keys: dict[str, Ref] = {}
    measures: dict[str, Measure] = {}  # by field; the two of an average by names that are no fields
    averages: dict[str, int | None] = {}
    for name, given in readings_of(summary).items():
        try:
            reading, part, column = _resolve(repository, given)
            check_kind(summary, name, reading)
            digits = None if column is None else _check(reading, column.type, approximate)
        except QueryError as error:
            raise QueryError(f"{summary.__name__}.{name}: {error}") from None
        function, ref = reading.function, reading.ref
        if column is not None and column.nullable and "count" not in function:
            require_optional(summary, name, f"column {column.name!r} is nullable")
        if ref is not None and not function:
            keys[name] = ref
        elif function == "avg":
            averages[name] = digits
            measures |= {f"{name} sum": Measure("sum", ref), f"{name} count": Measure("count", ref)}
        else:
            measures[name] = Measure(cast(Any, function), ref, part)
    return _plan(repository, summary, keys, measures, averages)


def _plan(
    repository: HasMapper,
    summary: type[Summary[Any]],
    keys: Mapping[str, Ref],
    measures: Mapping[str, Measure],
    averages: Mapping[str, int | None],
) -> Summarizing:
    places = {name: at for at, name in enumerate([*keys, *measures, *averages])}
    divisions = tuple(_Average(places[f"{name} sum"], places[f"{name} count"], averages[name]) for name in averages)
    group = bind_group(repository, (), tuple(keys.values()), tuple(measures.values()))
    schema = group.result(repository._mapper.schema)
    more = [Column(str(places[name]), _type_of_average(digits), nullable=True) for name, digits in averages.items()]
    columns = {name: str(at) for name, at in places.items() if name in summary.model_fields}
    made: Mapper[Any] = Mapper(summary, replace(schema, columns=(*schema.columns, *more)), columns)
    return Summarizing(made, tuple(keys.values()), tuple(measures.values()), divisions)


def _resolve(repository: HasMapper, reading: Reading) -> tuple[Reading, Any, Column | None]:
    """Return the reading with the field to which a key leads, the measured part, and the column."""
    mapper, part = repository._mapper, None
    relations = partial(getattr, repository, "_relations")
    if reading.many is not None:
        part = mapper.links.get(reading.many.name)
        if part is None:
            raise QueryError(f"a repository of {mapper.entity.__name__} has no part {reading.many}")
        mapper = part.mapper
    if reading.ref is None:
        return reading, part, None
    ref = mapper.open_sort(reading.ref, relations)
    column = column_of(mapper.schema, mapper.bind_ref(ref, relations))
    spec = reading.spec or field_at(ref.entity, ref.name)
    return reading._replace(ref=ref, spec=spec), part, replace(column, nullable=column.nullable or ref.via is not None)


def _check(reading: Reading, type_: ValueType, approximate: Sequence[str]) -> int | None:
    """Refuse a column that does not suit the function; return the digits of an average after the point."""
    path, function = reading.path, reading.function
    if not type_.kind.ordered:
        raise QueryError(f"the column of {path} has values that cannot be compared")
    if function not in ("sum", "avg"):
        return None
    if type_.kind not in (Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT) or not type_.plain:
        raise QueryError(f"the column of {path} has a type that cannot be summed")
    if type_.kind is Kind.FLOAT and path not in approximate:
        raise QueryError(
            f"the sum of floats depends on the order in which they are added, so store {path} as a decimal; or, if an "
            f"approximate sum is enough, declare `approximate = ({path!r},)` in the repository"
        )
    if function == "avg" and type_.kind is Kind.DECIMAL and type_.scale is None:
        raise QueryError(f"the column of {path} has no scale to round an average to; declare Numeric(precision, scale)")
    return None if type_.kind is Kind.FLOAT else (type_.scale or 0) + _MORE_DIGITS


def _type_of_average(digits: int | None) -> ValueType:
    return ValueType(Kind.FLOAT, float) if digits is None else ValueType(Kind.DECIMAL, Decimal, scale=digits)


def bind_group(
    repository: HasMapper, criteria: Iterable[object], keys: Sequence[Ref], measures: Sequence[Measure]
) -> Group:
    """Bind what a group refers to, with the scopes of the rows to which it leads."""
    mapper, relations = repository._mapper, partial(getattr, repository, "_relations")
    bound = [
        one.ref and (one.part.mapper if one.part else mapper).bind_ref(one.ref, relations)
        for one in (*map(partial(Measure, "count"), keys), *measures)
    ]
    parts = list(dict.fromkeys(one.part for one in measures if one.part is not None))
    # The literals in all scopes are numbered together.
    marks = And(tuple(IsNull(ref) for ref in bound if ref is not None))
    scopes = And(tuple(relations().scope_of(part.schema) for part in parts))
    where = condition(And((select(repository, criteria, {}).criterion, marks, scopes)))
    shape, marks, scopes = cast(Any, where.shape).parts
    refs, found = (leaf.ref for leaf in find_leaves(marks)), dict(zip(parts, scopes.parts, strict=True))
    numbered = [ref and next(refs) for ref in bound]
    measured = [
        one._replace(ref=ref, where=found.get(one.part, EVERYTHING))
        for one, ref in zip(measures, numbered[len(keys) :], strict=True)
    ]
    return Group(tuple(ref for ref in numbered[: len(keys)] if ref), tuple(measured), replace(where, shape=shape))


# -- the values of one field


def count_by(repository: HasMapper, field: object, criteria: Iterable[object]) -> Group:
    """Return the group that counts rows by the values of a field."""
    group = bind_group(repository, criteria, (asc(field).ref,), (Measure("count"),))
    return replace(group, order=(Sort(Ref(object, "0")),))


def load_counts(field: Any, rows: Sequence[Row]) -> dict[Any, int]:
    """Return the numbers of rows by value, as the entity has it: its column may hold a member's plain text."""
    python = field.spec.type.python
    return {python(key) if issubclass(python, Enum) and key is not None else key: count for key, count in rows}

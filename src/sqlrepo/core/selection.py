"""What one call asks for: its criteria, order and limits, combined and bound to the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args

from sqlrepo.driver import Condition, Fetch, Lock
from sqlrepo.errors import InvalidLiteralError, QueryError
from sqlrepo.language.criteria import (
    And,
    Compare,
    Criterion,
    IsNull,
    OneOf,
    Or,
    Ref,
    all_of,
    map_leaves,
    matches_all,
)
from sqlrepo.language.fields import OrderBy, Sort, after_position, parse_keywords, parse_order
from sqlrepo.language.predicate import parametrize
from sqlrepo.language.query import OPTIONS, PATHS, QueryObject, entity_of
from sqlrepo.language.results import CursorCodec, CursorKeys
from sqlrepo.tables.mapper import Mapper, Reaches
from sqlrepo.tables.schema import Row, Schema, column_of

if TYPE_CHECKING:
    from sqlrepo.core.related import Kinds

# Limit, offset and the one row more that shows whether there is a next page add up to a 64-bit integer.
_MOST_ROWS = 2**62 - 1

# Well below the parameters of one statement, or the alternatives of one criterion, that any database accepts.
_KEYS_AT_ONCE = 500


class _NotGiven:
    def __bool__(self) -> bool:
        return False


#: The default of an option whose name may also be a field's, where None would be a value of the field.
NOT_GIVEN: Any = _NotGiven()

#: The options of calls that also take fields by keyword.
CALL_OPTIONS = frozenset({*OPTIONS, "into", "lock", "set_", "everything"})


def ambiguous_option(call: str, entity: type, name: str) -> QueryError:
    """Make the error of an option whose name is also a field's, in a call that takes fields by keyword."""
    of, annotation = entity.__name__, f"Literal['{name}', '-{name}']" if name == "order_by" else "int"
    other = (
        f"pass a query object, of `class Query(QueryObject[{of}]): {name}: {annotation}`"
        if name in OPTIONS
        else f"rename the field to `{name}_`, with `columns = {{'{name}_': '{name}'}}` in the repository"
    )
    error = QueryError(
        f"{name} is an option of {call}() and a field of {of}; for the field write `fields({of}).{name} == value`, "
        f"for the option {other}"
    )
    error.option = name
    return error


@dataclass(frozen=True, slots=True)
class Selection:
    """The query of one call, in terms of columns."""

    criterion: Criterion  # with its literals
    limit: int | None
    offset: int
    order: tuple[Sort, ...]  # with the key appended, so that no two rows are equal in it
    lookups: tuple[Ref, ...]  # what the order takes from other tables' rows

    @property
    def where(self) -> Condition:
        return condition(self.criterion)

    def fetch(self, columns: tuple[str, ...], limit: int | None, offset: int = 0, lock: Lock | None = None) -> Fetch:
        where = condition(self.criterion)
        if not self.lookups:
            return Fetch(columns, where, self.order, limit, offset, lock=lock)
        literals = Literals(where.params)
        refs = tuple(map(literals.bind, self.lookups))
        numbered = dict(zip(self.lookups, refs, strict=True))
        order = tuple(Sort(numbered.get(one.ref, one.ref), one.descending) for one in self.order)
        return Fetch(columns, replace(where, params=literals.params), order, limit, offset, refs, lock)

    @property
    def names(self) -> list[str]:
        """The row's own columns in the order, which cursors and streams go on from."""
        return [sort.ref.name for sort in self.order if sort.ref.via is None]

    def position(self, columns: Sequence[str], row: Row) -> list[Any]:
        """Return the values of the order in a row of some columns, which ends with those of other tables."""
        looked_up = iter(row[len(columns) :])
        return [row[columns.index(one.ref.name)] if one.ref.via is None else next(looked_up) for one in self.order]

    def and_also(self, criterion: Criterion) -> Selection:
        """Add a criterion that is bound to columns already."""
        return replace(self, criterion=And((self.criterion, criterion)))


class Literals:
    """The literals of one statement, by number."""

    def __init__(self, params: tuple[Any, ...]) -> None:
        self.params = params

    def add(self, criterion: Criterion) -> Criterion:
        """Add the literals of a criterion, and return its shape."""
        shape, self.params = parametrize(criterion, self.params)
        return shape

    def bind(self, ref: Ref) -> Ref:
        """Add the literals in the scopes of the rows to which a reference leads."""
        return cast(IsNull, self.add(IsNull(ref))).ref


def after_row(schema: Schema, order: Sequence[Sort], values: Sequence[Any]) -> Criterion:
    """Match the rows after one, by its values in entities; where it has NULL is up to the types."""
    stores = [column_of(schema, sort.ref).type.bind for sort in order]
    nulls = [(value if store is None else store(value)) is None for store, value in zip(stores, values, strict=True)]
    return after_position(order, list(zip(values, nulls, strict=True)), schema.nullable)


def condition(criterion: Criterion) -> Condition:
    """Split a bound criterion into shape and parameters."""
    return Condition(*parametrize(criterion))


class HasMapper(Protocol):
    """A repository, or what stands for one."""

    @property
    def _mapper(self) -> Mapper[Any]: ...

    @property
    def _relations(self) -> Kinds: ...


def select(
    repository: HasMapper,
    criteria: Iterable[object],  # at most one query object among them
    equals: Mapping[str, Any],
    *,
    order_by: OrderBy = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Selection:
    """Combine the arguments of a call.

    Raises:
        QueryError: two query objects, an option given twice, or an unknown field.
        InvalidLiteralError: a negative limit or offset, or one that no database can count to.
    """
    mapper: Mapper[Any] = repository._mapper
    relations = partial(getattr, repository, "_relations")
    parts: list[object] = []
    options: Mapping[str, Any] = {"order_by": order_by, "limit": limit, "offset": offset}
    query: QueryObject[Any] | None = None
    for given in criteria:
        if not isinstance(given, QueryObject):
            parts.append(given)
            continue
        if query is not None:
            raise QueryError("a call takes one query object; combine the .criteria of several with &")
        query = given
        options = _merge_options(repository, query, options)
        parts.append(query.criteria)
    parts += parse_keywords(mapper.entity, equals) if equals else ()
    return Selection(
        map_leaves(all_of(parts), partial(mapper.bind, relations=relations)),
        _check_count("limit", options["limit"], None),
        _check_count("offset", options["offset"], 0),
        *_order(mapper, options["order_by"], relations),
    )


def select_targets(
    repository: HasMapper, criteria: Iterable[object], equals: Mapping[str, Any], *, everything: bool
) -> Condition:
    """Combine the criteria of a set form, which must say ``everything`` if they match all rows.

    Raises:
        QueryError: a query object among the criteria, or criteria that match all rows without ``everything``.
    """
    given = tuple(criteria)
    if any(isinstance(criterion, QueryObject) for criterion in given):
        raise QueryError("update_where and delete_where take criteria only; pass the query object's .criteria")
    selection = select(repository, given, equals)
    if matches_all(selection.criterion) and not everything:
        raise QueryError("the criteria match all rows; pass everything=True if you mean all rows")
    return selection.where


def values_equal(mapper: Mapper[Any], values: Mapping[str, Any]) -> Criterion:
    """Build the criterion that some columns have these values; None is NULL."""
    refs = [(mapper.ref(name), value) for name, value in values.items()]
    return And(tuple(IsNull(ref) if value is None else Compare(ref, "==", value) for ref, value in refs))


def key_chunks(
    mapper: Mapper[Any], keys: Iterable[tuple[Any, ...]], names: Sequence[str] = (), comparisons: int = 250
) -> Iterator[Criterion]:
    """Build criteria for many keys, or values of other columns, each small enough for one statement.

    A criterion about several columns has no more than some ``comparisons``.
    """
    names, keys = names or mapper.schema.key, list(keys)
    size = _KEYS_AT_ONCE if len(names) == 1 else comparisons // len(names) or 1
    for start in range(0, len(keys), size):
        chunk = keys[start : start + size]
        if len(names) == 1:
            yield OneOf(mapper.ref(names[0]), tuple(value for (value,) in chunk))
        else:
            yield Or(tuple(values_equal(mapper, dict(zip(names, key, strict=True))) for key in chunk))


def make_cursor_codec(mapper: Mapper[Any], selection: Selection, scope: Criterion, keys: CursorKeys) -> CursorCodec:
    """Make the codec of a query's cursors, which are invalid in another table, order or scope."""
    columns = [(column_of(mapper.schema, sort.ref), sort.ref.via is not None) for sort in selection.order]
    asked = selection.criterion if matches_all(scope) else And((selection.criterion, scope))
    order = [Sort(mapper.to_stored_ref(sort.ref), sort.descending) for sort in selection.order]
    query = f"{mapper.schema.full_name}:{mapper.to_text(asked)}:{','.join(map(str, order))}"
    types = [one.type for one, _ in columns]
    nullable = [looked_up or one.nullable or one.type.bind is not None for one, looked_up in columns]
    return CursorCodec(keys, query, types, nullable)


def require_limit(query: QueryObject[Any], selection: Selection) -> int:
    if selection.limit is None:
        raise QueryError(f"{type(query).__name__} has no limit; a page needs one")
    return selection.limit


def require_position(limit: int, offset: int, after: str | None, before: str | None) -> None:
    """Refuse options that do not fit a page by position."""
    if limit < 1:
        raise InvalidLiteralError("limit", "must be 1 or more in scroll()")
    if offset:
        raise InvalidLiteralError("offset", "does not fit scroll(), which begins at a cursor; pass after=")
    if after is not None and before is not None:
        raise InvalidLiteralError("before", "cannot be combined with `after`")


def check_lock(lock: Lock | None) -> None:
    if lock not in (None, *get_args(Lock)):
        raise QueryError(f"lock is {lock!r}; it can be {', '.join(get_args(Lock))}")


def _merge_options(repository: HasMapper, query: QueryObject[Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check that a query object fits, and return each option as it or the call gives it; both may not."""
    mapper: Mapper[Any] = repository._mapper
    if not issubclass(mapper.entity, entity_of(type(query))):
        raise QueryError(f"{type(query).__name__} does not query {mapper.entity.__name__}")
    if type(query) in PATHS:
        repository._relations.check_paths(mapper, type(query))
    merged = dict(given)
    for option, value in given.items():
        own = getattr(query, option, None)
        if own is not None and value is not None and value is not NOT_GIVEN:
            raise QueryError(f"{option} is given twice: by {type(query).__name__} and by the call")
        merged[option] = value if own is None else own
    return merged


def _check_count(name: str, number: Any, default: Any) -> Any:
    if number is None or number is NOT_GIVEN:
        return default
    if not isinstance(number, int) or isinstance(number, bool):
        raise QueryError(f"{name} must be a number of rows, not {type(number).__name__}")
    if not 0 <= number <= _MOST_ROWS:
        raise InvalidLiteralError(name, "cannot be negative" if number < 0 else f"cannot exceed {_MOST_ROWS}")
    return number


def _order(
    mapper: Mapper[Any], order_by: OrderBy, relations: Callable[[], Reaches]
) -> tuple[tuple[Sort, ...], tuple[Ref, ...]]:
    """Bind an order to columns and append the key, in the direction of the last sort key."""
    if order_by is None or order_by is NOT_GIVEN:
        return mapper.key_order, ()
    order = [mapper.bind_sort(sort, relations) for sort in parse_order(mapper.entity, order_by)]
    descending = order[-1].descending if order else False
    present = {sort.ref for sort in order}
    keys = [replace(sort, descending=descending) for sort in mapper.key_order if sort.ref not in present]
    return (*order, *keys), tuple(sort.ref for sort in order if sort.ref.via is not None)

"""Reading and writing the parts of aggregates, which are kept in tables of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

from sqlrepo.core.selection import condition, key_chunks, values_equal
from sqlrepo.driver import Condition, Driver, Fetch, Lock
from sqlrepo.errors import ConstraintError, InvalidValueError
from sqlrepo.language.criteria import Criterion, OneOf, Or
from sqlrepo.language.fields import Sort
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.parts import Part
from sqlrepo.tables.schema import Row, Schema, columns_of

# A child's values by column, checked, without those that its owner gives.
Child: TypeAlias = Mapping[str, Any]
# The children of one owner, by part.
Children: TypeAlias = Mapping[str, Sequence[Child]]

_OWNERS_AT_ONCE = 500


class Found(NamedTuple):
    """Rows, and for each the parts that were read with it."""

    rows: list[Row]
    parts: Sequence[Mapping[str, Any]] = ()


class Aggregate:
    """The parts of the entities of one repository."""

    def __init__(self, mapper: Mapper[Any], parts: Sequence[Part]) -> None:
        self._mapper = mapper
        self.parts = tuple(parts)
        self.columns = mapper.selected

    # -- from an entity

    def split(self, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Part an entity's values from its children."""
        links = self._mapper.links
        if not links:
            return values, {}
        return {name: values[name] for name in values if name not in links}, {
            name: values[name] for name in links if name in values
        }

    def dump(self, given: Mapping[str, Any]) -> Children:
        """Check the children of an entity before anything is sent; errors name the place."""
        return {part.name: _dump(part, given[part.name]) for part in self.parts if part.name in given}

    # -- reading

    def load(self, driver: Driver, rows: list[Row], lock: Lock | None = None) -> Found:
        """Read the parts of rows: one statement for each part and 500 owners.

        Parts of locked rows are read with a lock too: a plain read may be older than the rows (REPEATABLE READ).
        """
        if not (self.parts and rows):
            return Found(rows)
        read = {part.name: self._read(driver, part, rows, lock and "update") for part in self.parts}
        return Found(rows, [{name: by_row[index] for name, by_row in read.items()} for index in range(len(rows))])

    def _read(self, driver: Driver, part: Part, rows: Sequence[Row], lock: Lock | None = None) -> list[Any]:
        owners = [self._owner(part, row) for row in rows]
        found: dict[Row, list[Row]] = {owner: [] for owner in owners}
        places = [part.mapper.selected.index(name) for name in part.owner]
        for where in _belonging(part, list(found)):
            for row in driver.fetch(part.schema, Fetch(part.mapper.selected, where, part.sort, lock=lock)):
                found[tuple(row[place] for place in places)].append(row)
        return _build(part, [found[owner] for owner in owners])

    def _owner(self, part: Part, row: Row) -> Row:
        return tuple(row[self._mapper.selected.index(name)] for name in part.targets)

    # -- writing

    def insert(self, driver: Driver, rows: Sequence[Mapping[str, Any]], given: Sequence[Children]) -> Found:
        """Insert rows and their children."""
        return self.complete(driver, insert_rows(driver, self._mapper, rows), given)

    def complete(self, driver: Driver, rows: list[Row], given: Sequence[Children]) -> Found:
        """Insert the children of new rows, those of a part in one statement for each set of columns."""
        if not self.parts:
            return Found(rows)
        built = {part.name: self._insert(driver, part, rows, given) for part in self.parts}
        return Found(rows, [{name: by_row[index] for name, by_row in built.items()} for index in range(len(rows))])

    def _insert(self, driver: Driver, part: Part, rows: Sequence[Row], given: Sequence[Children]) -> list[Any]:
        batches = [
            [
                (index, _with_owner(part, child, self._owner(part, row), index + 1))
                for index, child in enumerate(children.get(part.name, ()))
            ]
            for row, children in zip(rows, given, strict=True)
        ]
        stored = iter(_insert(driver, part, [child for batch in batches for child in batch]))
        return _build(part, [_as_read(part, [next(stored) for _ in batch]) for batch in batches])

    def replace(self, driver: Driver, row: Row, given: Children) -> Found:
        """Write the children of a stored row over those that are there; parts that are not given are read."""
        parts = {
            part.name: _build(part, [_Difference(driver, part, self._owner(part, row), given[part.name]).write()])[0]
            if part.name in given
            else self._read(driver, part, [row], "update")[0]
            for part in self.parts
        }
        return Found([row], [parts] if self.parts else ())

    def delete(self, driver: Driver, where: Condition) -> int:
        """Delete rows, after the children that the database does not delete with their owner; return their number."""
        remaining = [part for part in self.parts if not part.cascades]
        if remaining:
            schema, selected = self._mapper.require_key().schema, self._mapper.selected
            rows = driver.fetch(schema, Fetch(selected, where, lock="update"))
            for part in remaining:
                for belonging in _belonging(part, [self._owner(part, row) for row in rows]):
                    driver.delete(part.schema, belonging)
            if rows:  # by key, for the condition may be about children that are gone now
                keys = [tuple(row[selected.index(name)] for name in schema.key) for row in rows]
                return sum(driver.delete(schema, condition(chunk)) for chunk in key_chunks(self._mapper, keys))
        return driver.delete(self._mapper.schema, where)

    def name_fields(self, error: ConstraintError | InvalidValueError) -> bool:
        """Replace columns of a part's table by fields, such as ``lines.sku``; False if it is no part's table."""
        found = [part for part in self.parts if error.table == part.schema.name]
        if not found:
            return False
        if isinstance(error, ConstraintError):
            columns = set(error.fields)
            part = next((one for one in found if columns & set(one.owner)), found[0])
            error.fields = _paths(part, error.fields)
        elif error.field is not None:
            error.field = _path(found[0], error.field)
        return True


def insert_rows(driver: Driver, mapper: Mapper[Any], rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Insert rows, those with the same columns in one statement, and return them in their order."""
    batches: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        batches.setdefault(tuple(row), []).append(index)
    stored: dict[int, Row] = {}
    for columns, indexes in batches.items():
        values = [tuple(rows[index].values()) for index in indexes]
        returned = driver.insert(mapper.schema, columns, values, mapper.selected)
        stored.update(zip(indexes, returned, strict=True))
    return [stored[index] for index in range(len(rows))]


# -- children to rows


def _dump(part: Part, given: Any) -> list[Child]:
    if not isinstance(given, list | tuple | set | frozenset):
        raise InvalidValueError(part.name, f"expected a collection, got {type(given).__name__}")
    children: list[Child] = []
    seen: set[Any] = set()
    for index, child in enumerate(part.wrap(given)):
        with _placed(part, index):
            values = part.mapper.check_row(part.mapper.to_values(child))
            part.mapper.check_given(child)
        once = part.plain and part.collect in (set, frozenset)
        names = [part.mapper.column("value").name] if once else part.key
        key = _stored_values(part.schema, values, names)
        if names and key in seen and None not in key:
            if once:
                continue
            raise InvalidValueError(_place(part, index, part.mapper.field(names[0])), "is another child's key as well")
        seen.add(key)
        children.append(values)
    return children


@contextmanager
def _placed(part: Part, index: int) -> Generator[None]:
    """Make the errors of one child name its place, and those of a constraint the part."""
    try:
        yield
    except InvalidValueError as error:
        error.field = _place(part, index, None if part.plain else error.field)
        raise
    except ConstraintError as error:
        error.fields = _paths(part, error.fields)
        raise


def _place(part: Part, index: int, field: str | None) -> str:
    return f"{part.name}[{index}]" + (f".{field}" if field else "")


def _path(part: Part, column: str) -> str:
    return part.name if part.plain else f"{part.name}.{part.mapper.field(column)}"


def _paths(part: Part, columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_path(part, column) for column in columns))


def _with_owner(part: Part, child: Child, owner: Row, position: int | None) -> dict[str, Any]:
    """Return a child's values with its owner's key, and its position where the table keeps one."""
    for name, value in zip(part.owner, owner, strict=True):
        if child.get(name) not in (None, value):
            raise InvalidValueError(
                f"{part.name}.{part.mapper.field(name)}",
                "refers to another owner; leave it None, or give this one's key",
            )
    values = {**child, **dict(zip(part.owner, owner, strict=True))}
    if part.order is not None and position is not None:
        values[part.order] = position
    return values


def _insert(driver: Driver, part: Part, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Row]:
    """Insert rows, given with their places in their collections."""
    complete: list[Mapping[str, Any]] = []
    for index, values in rows:
        with _placed(part, index):
            complete.append(part.mapper.complete_insert(values))
    return insert_rows(driver, part.mapper, complete) if complete else []


# -- rows to children


def _build(part: Part, groups: Sequence[Sequence[Row]]) -> list[Any]:
    """Build the collections of several owners from the rows of their children."""
    children = iter(part.mapper.load([row for group in groups for row in group]))
    return [part.unwrap([next(children) for _ in group]) for group in groups]


def _belongs(part: Part, owners: Sequence[Row]) -> Criterion:
    """Match the children of some owners."""
    refs = [part.mapper.ref(name) for name in part.owner]
    if len(refs) == 1:
        return OneOf(refs[0], tuple(value for (value,) in owners))
    each = [values_equal(part.mapper, dict(zip(part.owner, owner, strict=True))) for owner in owners]
    return each[0] if len(each) == 1 else Or(tuple(each))


def _belonging(part: Part, owners: Sequence[Row]) -> Iterator[Condition]:
    """Match the children of many owners, in conditions that are each small enough for one statement."""
    size = _OWNERS_AT_ONCE // len(part.owner)
    for start in range(0, len(owners), size):
        yield condition(_belongs(part, owners[start : start + size]))


# -- the difference between stored and given children


class _Difference:
    """What turns the stored children of one owner into the given ones."""

    def __init__(self, driver: Driver, part: Part, owner: Row, children: Sequence[Child]) -> None:
        self._driver = driver
        self._part = part
        self._owner = owner
        self._children = children
        mine, *more = self._asked()
        rows = self._fetch(mine)
        self._stored = [row for row in rows if tuple(row[name] for name in part.owner) == owner]
        keys = {self._key(row) for row in chain(rows, *map(self._fetch, more))}
        self._taken = keys - {self._key(row) for row in self._stored}

    def _fetch(self, wanted: Criterion) -> list[dict[str, Any]]:
        part = self._part
        request = Fetch(part.mapper.selected, condition(wanted), part.sort, lock="update")
        return [dict(zip(request.columns, row, strict=True)) for row in self._driver.fetch(part.schema, request)]

    def write(self) -> list[Row]:
        """Delete the children that are gone, update the changed, insert the new, and return the rows of all.

        In the order of the children, or where no column keeps it, in that in which they are read.
        """
        old = self._match()
        positions = _positions(self._part, self._stored, old)
        changes = [self._changes(index, row, positions[index]) for index, row in enumerate(old)]
        old = self._to_keep(old, changes)
        kept = {id(row) for row in old if row is not None}
        self._delete([row for row in self._stored if id(row) not in kept])
        changed = [(row, change) for row, change in zip(old, changes, strict=True) if row and change]
        self._update(changed)
        new = [
            (index, _with_owner(self._part, child, self._owner, positions[index]))
            for index, child in enumerate(self._children)
            if old[index] is None
        ]
        inserted = iter(_insert(self._driver, self._part, new))
        selected = self._part.mapper.selected
        if changed and self._part.refreshes:
            return [tuple(row.values()) for row in self._fetch(_belongs(self._part, [self._owner]))]
        rows = [
            next(inserted) if row is None else tuple({**row, **change}[name] for name in selected)
            for row, change in zip(old, changes, strict=True)
        ]
        return _as_read(self._part, rows)

    def _asked(self) -> list[Criterion]:
        """The children that are stored, and those with the given keys, whoever owns them."""
        part, mine = self._part, _belongs(self._part, [self._owner])
        names = part.schema.key
        if not part.key or part.schema.generated in part.key or set(part.owner) <= set(names):
            return [mine]  # nobody gives keys, or they differ from owner to owner
        given = (_with_owner(part, child, self._owner, None) for child in self._children)
        keys = {tuple(child[name] for name in names) for child in given}
        chunks = list(key_chunks(part.mapper, [key for key in keys if None not in key]))
        return [Or((mine, *chunks[:1])), *chunks[1:]]

    def _key(self, row: Mapping[str, Any]) -> Row:
        return self._value(row, self._part.key)

    # -- who is who

    def _match(self) -> list[Mapping[str, Any] | None]:
        """Return the stored row of each child; None for a new one."""
        if not self._part.key:
            return self._match_values()
        stored = {self._key(row): row for row in self._stored}
        generated = self._part.schema.generated
        for index, child in enumerate(self._children):
            key = self._key(child)
            lost = generated in self._part.key and child[generated] is not None
            if key not in stored and (lost or key in self._taken):
                field = self._part.mapper.field(self._part.key[0])
                raise InvalidValueError(
                    _place(self._part, index, field),
                    f"is not the key of one of the {self._part.name} that are stored; leave it None for a new one",
                )
        return [stored.get(self._key(child)) for child in self._children]

    def _match_values(self) -> list[Mapping[str, Any] | None]:
        """Find for each child an equal row, and each row for one child only."""
        names = list(self._children[0]) if self._children else []
        free: dict[Any, list[Mapping[str, Any]]] = {}
        for row in reversed(self._stored):
            free.setdefault(self._value(row, names), []).append(row)
        found = [free.get(self._value(child, names), []) for child in self._children]
        return [rows.pop() if rows else None for rows in found]

    def _to_keep(
        self, old: list[Mapping[str, Any] | None], changes: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any] | None]:
        """Return the rows that stay: without a key, or if it holds the position, no row can change but by a new one.

        A row without a key that equals one that goes is deleted with it.
        """
        names = self._part.mapper.selected
        if self._part.schema.key and self._part.order not in self._part.schema.key:
            return old
        kept = {id(row) for row, change in zip(old, changes, strict=True) if not change}
        gone = {self._value(row, names) for row in self._stored if id(row) not in kept}
        return [None if row is None or self._value(row, names) in gone else row for row in old]

    def _value(self, values: Mapping[str, Any], names: Iterable[str]) -> Row:
        return _stored_values(self._part.schema, values, names)

    # -- statements

    def _delete(self, rows: Sequence[Mapping[str, Any]]) -> None:
        names = self._part.schema.key or self._part.mapper.selected
        keys = {self._value(row, names): tuple(row[name] for name in names) for row in rows}
        for chunk in key_chunks(self._part.mapper, keys.values(), names):
            self._driver.delete(self._part.schema, condition(chunk))

    def _changes(self, index: int, row: Mapping[str, Any] | None, position: int | None) -> Mapping[str, Any]:
        """Return the values of a stored child that change, as they will be stored."""
        if row is None:
            return {}
        mapper, fixed = self._part.mapper, {*self._part.schema.key, *self._part.owner} - {self._part.order}
        given = _with_owner(self._part, self._children[index], self._owner, position)
        columns = {name: mapper.schema.by_name[name] for name in given if name not in fixed}
        changes = {
            name: given[name]
            for name, column in columns.items()
            if not (column.computed or name == mapper.schema.version or column.defaults(given[name]))
            and self._value(given, [name]) != self._value(row, [name])
        }
        if not changes:
            return {}
        with _placed(self._part, index):
            changes = mapper.complete_update(changes, explicit=False)
        types = {name: mapper.schema.by_name[name].type for name in changes}  # with those that change by themselves
        stored = {name: types[name].load(types[name].store(value)) for name, value in changes.items()}
        version = mapper.schema.version
        return {**stored, version: (row[version] or 0) + 1} if version in mapper.selected else stored

    def _update(self, changed: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
        schema = self._part.schema
        names = dict.fromkeys(name for _, change in changed for name in change if name != schema.version)
        if not changed:
            return
        rows = [{**row, **change} for row, change in changed]
        keyed = [(tuple(row[name] for name in schema.key), tuple(row[name] for name in names)) for row in rows]
        self._driver.update_each(schema, tuple(names), keyed)


def _positions(
    part: Part, stored: Sequence[Mapping[str, Any]], old: Sequence[Mapping[str, Any] | None]
) -> Sequence[int | None]:
    """Number children so that no number of another child is used again, whatever the order of the statements.

    The longest run of children that are in order keeps its numbers. Those before it take numbers below all, if the
    column may hold them; the others, and all behind them, take numbers above all.
    """
    if part.order is None:
        return [None] * len(old)
    column = part.schema.by_name[part.order].type
    taken = {row[part.order] for row in stored if row[part.order] is not None}
    had = [None if row is None else row[part.order] for row in old]
    kept = _longest_increasing(had)
    above = max(taken, default=0) + 1
    start = kept[0] if kept else 0
    low = min(taken, default=1) - start
    if start and ((column.low is not None and low < column.low) or _is_checked(part, part.order)):
        kept, start = [], 0
    in_run = set(kept)
    end = next((index for index in range(start, len(had)) if index not in in_run), len(had))
    tail = range(above, above + len(had) - end)
    if tail and column.high is not None and tail[-1] > column.high:  # no numbers are left above: take free ones
        free = list(islice((number for number in range(1, column.high + 1) if number not in taken), len(had)))
        if len(free) < len(had):
            raise InvalidValueError(part.name, f"holds more children than column {part.order!r} has numbers for")
        return free
    return [*(low + index for index in range(start)), *had[start:end], *tail]


def _is_checked(part: Part, column: str) -> bool:
    return any(one.criterion is None or column in columns_of(one.criterion) for one in part.schema.checks)


def _longest_increasing(numbers: Sequence[int | None]) -> list[int]:
    """Return the indexes of the longest increasing run, gaps allowed (patience sorting)."""
    ends: list[int] = []  # the index of the smallest last number of a run of each length
    before: dict[int, int | None] = {}
    for index, number in enumerate(numbers):
        if number is None:
            continue
        length = bisect_left(ends, number, key=lambda end: numbers[end] or 0)
        before[index] = ends[length - 1] if length else None
        ends[length:] = [index, *ends[length + 1 :]]
    run: list[int] = []
    last = ends[-1] if ends else None
    while last is not None:
        run.append(last)
        last = before[last]
    return run[::-1]


def _as_read(part: Part, rows: list[Row]) -> list[Row]:
    """Return rows in the order in which they are read, which may not be the given; NULL is smaller than every value."""
    if part.order:
        return rows

    def key_of(sort: Sort) -> Callable[[Row], Any]:
        place, store = part.mapper.selected.index(sort.ref.name), part.schema.by_name[sort.ref.name].type.store
        return lambda row: (False, None) if row[place] is None else (True, store(row[place]))

    for sort in reversed(part.sort):
        rows = sorted(rows, key=key_of(sort), reverse=sort.descending)
    return rows


def _stored_values(schema: Schema, values: Mapping[str, Any], names: Iterable[str]) -> Row:
    """Return what rows store, by which they are equal."""
    return tuple(_hashable(schema.by_name[name].type.store(values[name])) for name in names)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(one)) for key, one in value.items())
    if isinstance(value, set | frozenset):
        return frozenset(map(_hashable, value))
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return (type(value), repr(value)) if isinstance(value, bool | float) else value  # True and 1.0 equal 1

"""Reading and writing the parts of aggregates, which are kept in tables of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

from sqlrepo.core.selection import condition, key_chunks, values_equal
from sqlrepo.driver import Condition, Driver, Fetch
from sqlrepo.errors import ConstraintError, InvalidValueError
from sqlrepo.language.criteria import Criterion, OneOf, Or
from sqlrepo.language.fields import Sort
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.parts import Part
from sqlrepo.tables.schema import Row, columns_of

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

    def load(self, driver: Driver, rows: list[Row]) -> Found:
        """Read the parts of rows: one statement for each part and 500 owners."""
        if not (self.parts and rows):
            return Found(rows)
        read = {part.name: self._read(driver, part, rows) for part in self.parts}
        return Found(rows, [{name: by_row[index] for name, by_row in read.items()} for index in range(len(rows))])

    def _read(self, driver: Driver, part: Part, rows: Sequence[Row]) -> list[Any]:
        owners = [self._owner(part, row) for row in rows]
        found: dict[Row, list[Row]] = {owner: [] for owner in owners}
        places = [part.mapper.selected.index(name) for name in part.owner]
        different = list(found)
        for start in range(0, len(different), _OWNERS_AT_ONCE):
            where = condition(_belongs(part, different[start : start + _OWNERS_AT_ONCE]))
            for row in driver.fetch(part.schema, Fetch(part.mapper.selected, where, part.sort)):
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
                _with_owner(part, child, self._owner(part, row), number)
                for number, child in enumerate(children.get(part.name, ()), 1)
            ]
            for row, children in zip(rows, given, strict=True)
        ]
        stored = iter(_insert(driver, part, [child for batch in batches for child in batch]))
        return _build(part, [[next(stored) for _ in batch] for batch in batches])

    def replace(self, driver: Driver, row: Row, given: Children) -> Found:
        """Write the children of a stored row over those that are there; parts that are not given are read."""
        parts = {
            part.name: _build(part, [_Difference(driver, part, self._owner(part, row), given[part.name]).write()])[0]
            if part.name in given
            else self._read(driver, part, [row])[0]
            for part in self.parts
        }
        return Found([row], [parts] if self.parts else ())

    def delete(self, driver: Driver, where: Condition) -> int:
        """Delete rows, after the children that the database does not delete with their owner; return their number."""
        remaining = [part for part in self.parts if not part.cascades]
        if remaining:
            schema, selected = self._mapper.schema, self._mapper.selected
            rows = driver.fetch(schema, Fetch(selected, where, lock="update"))
            for part in remaining:
                owners = [self._owner(part, row) for row in rows]
                for start in range(0, len(owners), _OWNERS_AT_ONCE):
                    driver.delete(part.schema, condition(_belongs(part, owners[start : start + _OWNERS_AT_ONCE])))
        return driver.delete(self._mapper.schema, where)

    def name_fields(self, error: ConstraintError | InvalidValueError) -> bool:
        """Replace columns of a part's table by fields, such as ``lines.sku``; False if it is no part's table."""
        for part in self.parts:
            if error.table != part.schema.name:
                continue
            if isinstance(error, ConstraintError):
                error.fields = tuple(_path(part, column) for column in error.fields)
            elif error.field is not None:
                error.field = _path(part, error.field)
            return True
        return False


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
        key = tuple(values.get(name) for name in part.key)
        if key and None not in key and key in seen:
            raise InvalidValueError(_place(part, index, part.key[0]), "is the key of another child as well")
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
        error.fields = tuple(_path(part, column) for column in error.fields)
        raise


def _place(part: Part, index: int, field: str | None) -> str:
    return f"{part.name}[{index}]" + (f".{field}" if field else "")


def _path(part: Part, column: str) -> str:
    return part.name if part.plain else f"{part.name}.{part.mapper.field(column)}"


def _with_owner(part: Part, child: Child, owner: Row, position: int | None) -> dict[str, Any]:
    """Return a child's values with its owner's key, and its position where the table keeps one."""
    values = {**child, **dict(zip(part.owner, owner, strict=True))}
    if part.order is not None and position is not None:
        values[part.order] = position
    return values


def _insert(driver: Driver, part: Part, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    complete: list[Mapping[str, Any]] = []
    for index, values in enumerate(rows):
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


# -- the difference between stored and given children


class _Difference:
    """What turns the stored children of one owner into the given ones."""

    def __init__(self, driver: Driver, part: Part, owner: Row, children: Sequence[Child]) -> None:
        self._driver = driver
        self._part = part
        self._owner = owner
        self._children = children
        selected = part.mapper.selected
        found = driver.fetch(part.schema, Fetch(selected, condition(self._asked()), part.sort, lock="update"))
        rows = [dict(zip(selected, row, strict=True)) for row in found]
        self._stored = [row for row in rows if tuple(row[name] for name in part.owner) == owner]
        self._taken = {self._key(row) for row in rows} - {self._key(row) for row in self._stored}

    def write(self) -> list[Row]:
        """Delete the children that are gone, update the changed, insert the new, and return the rows of all.

        In the order of the children, or where no column keeps it, in that in which they are read.
        """
        old = self._match()
        positions = _positions(self._part, self._stored, old)
        kept = {id(row) for row in old if row is not None}
        self._delete([row for row in self._stored if id(row) not in kept])
        changes = [self._changes(index, row, positions[index]) for index, row in enumerate(old)]
        self._update([(row, change) for row, change in zip(old, changes, strict=True) if row and change])
        pairs = zip(self._children, positions, old, strict=True)
        new = [_with_owner(self._part, child, self._owner, number) for child, number, row in pairs if row is None]
        inserted = iter(_insert(self._driver, self._part, new))
        selected = self._part.mapper.selected
        rows = [
            next(inserted) if row is None else tuple({**row, **change}[name] for name in selected)
            for row, change in zip(old, changes, strict=True)
        ]
        return rows if self._part.order else _sorted(self._part, rows)

    def _asked(self) -> Criterion:
        """The children that are stored, and those with the given keys, whoever owns them."""
        part, mine = self._part, _belongs(self._part, [self._owner])
        if not part.key or set(part.owner) & set(part.schema.key):
            return mine  # keys differ from owner to owner
        given = {tuple(child.get(name) for name in part.schema.key) for child in self._children}
        chunks = key_chunks(part.mapper, [key for key in given if None not in key])
        return Or((mine, *chunks))

    def _key(self, row: Mapping[str, Any]) -> Row:
        return tuple(row.get(name) for name in self._part.key)

    # -- who is who

    def _match(self) -> list[Mapping[str, Any] | None]:
        """Return the stored row of each child; None for a new one."""
        if not self._part.key:
            return self._match_values()
        stored = {self._key(row): row for row in self._stored}
        generated = self._part.schema.generated
        for index, child in enumerate(self._children):
            key = self._key(child)
            lost = generated in self._part.key and None not in key
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

    def _value(self, values: Mapping[str, Any], names: Iterable[str]) -> Any:
        by_name = self._part.schema.by_name
        return tuple(_hashable(by_name[name].type.store(values[name])) for name in names)

    # -- statements

    def _delete(self, rows: Sequence[Mapping[str, Any]]) -> None:
        mapper = self._part.mapper
        keys = [tuple(row[name] for name in mapper.schema.key) for row in rows]
        for chunk in key_chunks(mapper, keys) if mapper.schema.key else ():
            self._driver.delete(mapper.schema, condition(chunk))
        for row in rows if not mapper.schema.key else ():
            self._driver.delete(mapper.schema, condition(values_equal(mapper, row)))

    def _changes(self, index: int, row: Mapping[str, Any] | None, position: int | None) -> Mapping[str, Any]:
        """Return the values of a stored child that change, as they will be stored."""
        if row is None:
            return {}
        mapper, fixed = self._part.mapper, {*self._part.schema.key, *self._part.owner}
        given = _with_owner(self._part, self._children[index], self._owner, position)
        columns = {name: mapper.schema.by_name[name] for name in given if name not in fixed}
        changes = {
            name: given[name]
            for name, column in columns.items()
            if not (column.computed or name == mapper.schema.version or column.defaults(given[name]))
            and column.type.store(given[name]) != column.type.store(row[name])
        }
        if not changes:
            return {}
        with _placed(self._part, index):
            changes = mapper.complete_update(changes, explicit=False)
        stored = {name: columns[name].type.load(columns[name].type.store(value)) for name, value in changes.items()}
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
    column = part.schema.by_name[part.order]
    taken = [row[part.order] for row in stored if row[part.order] is not None]
    had = [None if row is None else row[part.order] for row in old]
    kept = _longest_increasing(had)
    above = max(taken, default=0) + 1
    start = kept[0] if kept else 0
    low = min(taken, default=1) - start
    if start and ((column.type.low is not None and low < column.type.low) or _is_checked(part, part.order)):
        kept, start = [], 0
    end = next((index for index in range(start, len(had)) if index not in set(kept)), len(had))
    tail = range(above, above + len(had) - end)
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


def _sorted(part: Part, rows: list[Row]) -> list[Row]:
    """Return rows in the order in which they are read; NULL is smaller than every value."""

    def key_of(sort: Sort) -> Callable[[Row], Any]:
        place, store = part.mapper.selected.index(sort.ref.name), part.schema.by_name[sort.ref.name].type.store
        return lambda row: (False, None) if row[place] is None else (True, store(row[place]))

    for sort in reversed(part.sort):
        rows = sorted(rows, key=key_of(sort), reverse=sort.descending)
    return rows


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(one)) for key, one in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | set) else value

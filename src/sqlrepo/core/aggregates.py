"""Reading and writing the parts of aggregates, which are kept in tables of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple, TypeAlias

from sqlrepo.core.scope import ScopedDriver
from sqlrepo.core.selection import condition, key_chunks, values_equal
from sqlrepo.driver import Condition, Driver, Fetch, Lock
from sqlrepo.errors import ConstraintError, InvalidValueError, MappingError
from sqlrepo.language.criteria import Criterion, OneOf, Or
from sqlrepo.language.entities import is_mapped
from sqlrepo.language.fields import Sort
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.parts import Part, all_parts
from sqlrepo.tables.schema import Row, Schema, columns_of

# The children of one owner, by part.
Children: TypeAlias = "Mapping[str, Sequence[Child]]"
# A stored child: its row, and the parts to be written for it.
Stored: TypeAlias = tuple[Row, Children]

_OWNERS_AT_ONCE = 500


class Child(NamedTuple):
    """A child to be stored, checked."""

    values: Mapping[str, Any]  # by column, without those that its owner gives
    parts: Children
    place: str  # in the entity: ``lines[2]``


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
        return _split(self._mapper, values)

    def dump(self, given: Mapping[str, Any]) -> Children:
        """Check the children of an entity before anything is sent; errors name the place."""
        return _dump_parts(self.parts, given)

    # -- reading

    def load(self, driver: Driver, rows: list[Row], lock: Lock | None = None) -> Found:
        """Read the parts of rows: one statement for each part and 500 owners, two through a table in between.

        Parts of locked rows are read with a lock too: a plain read may be older than the rows (REPEATABLE READ).
        """
        return self._attach(driver, rows, [{}] * len(rows), lock=lock and "update") if self.parts else Found(rows)

    # -- writing

    def insert(self, driver: Driver, rows: Sequence[Mapping[str, Any]], given: Sequence[Children]) -> Found:
        """Insert rows and their children."""
        return self.complete(driver, insert_rows(driver, self._mapper, rows), given)

    def complete(self, driver: Driver, rows: list[Row], given: Sequence[Children]) -> Found:
        """Insert the children of new rows, those of a part in one statement for each set of columns."""
        return self._attach(driver, rows, given, new=True) if self.parts else Found(rows)

    def replace(self, driver: Driver, row: Row, given: Children) -> Found:
        """Write the children of a stored row over those that are there; parts that are not given are read."""
        return self._attach(driver, [row], [given], lock="update") if self.parts else Found([row])

    def _attach(self, driver: Driver, rows: list[Row], given: Sequence[Children], **how: Any) -> Found:
        return Found(rows, _attach(driver, self._mapper, self.parts, rows, given, **how))

    def delete(self, driver: Driver, where: Condition) -> int:
        """Delete rows, after the children that the database does not delete with their owner; return their number."""
        if not _left_behind(driver, self.parts):
            return driver.delete(self._mapper.schema, where)
        schema, selected = self._mapper.require_key().schema, self._mapper.selected
        rows = driver.fetch(schema, Fetch(selected, where, lock="update"))
        _delete_parts(driver, self._mapper, self.parts, rows)
        if not rows:
            return driver.delete(schema, where)
        # by key, for the condition may be about children that are gone now
        keys = [tuple(row[selected.index(name)] for name in schema.key) for row in rows]
        return sum(driver.delete(schema, condition(chunk)) for chunk in key_chunks(self._mapper, keys))

    def name_fields(self, error: ConstraintError | InvalidValueError) -> bool:
        """Replace columns of a part's table by fields, such as ``lines.sku``; False if it is no part's table."""
        found = [part for part in all_parts(self.parts) if error.table == part.schema.name]
        if not found:
            return False
        if isinstance(error, ConstraintError):
            columns = set(error.fields)
            part = next((one for one in found if columns & set(one.owner)), found[0])
            error.fields = _paths(part, error.fields)
        elif error.field is not None:
            error.field = _path(found[0], error.field)
        return True


def _attach(
    driver: Driver,
    mapper: Mapper[Any],
    parts: Sequence[Part],
    rows: Sequence[Row],
    given: Sequence[Children],
    *,
    new: bool = False,
    lock: Lock | None = None,
) -> list[dict[str, Any]]:
    """Write the parts that are given with rows, read the others, and return those of each row.

    Each level is written as a whole, and then the parts of its rows. Rows that are ``new`` have no children yet.
    """
    attached: list[dict[str, Any]] = [{} for _ in rows]
    for part in parts if rows else ():
        groups = _write_or_read(driver, mapper, part, rows, given, new=new, lock=lock)
        inner, children = [row for group in groups for row, _ in group], [one for group in groups for _, one in group]
        more = _attach(driver, part.mapper, part.parts, inner, children, new=new, lock=lock) if part.parts else ()
        entities = iter(part.mapper.load(inner, more))
        for row, group, built in zip(rows, groups, attached, strict=True):
            if part.required and not group:
                raise _make_missing_error(mapper, part, row)
            built[part.name] = part.unwrap([next(entities) for _ in group])
    return attached


def _write_or_read(
    driver: Driver,
    mapper: Mapper[Any],
    part: Part,
    rows: Sequence[Row],
    given: Sequence[Children],
    *,
    new: bool,
    lock: Lock | None,
) -> list[list[Stored]]:
    owners = [_owner(mapper, part, row) for row in rows]
    written = [index for index, children in enumerate(given) if new or part.name in children]
    read = [index for index, children in enumerate(given) if not (new or part.name in children)]
    groups: dict[int, list[Stored]] = {}
    if read:
        found, _ = _fetch(driver, part, [owners[index] for index in read], lock)
        groups.update(zip(read, ([(row, {}) for row in group] for group in found), strict=True))
    if written:
        pairs = [(owners[index], given[index].get(part.name, ())) for index in written]
        groups.update(zip(written, _Difference(driver, part, pairs, new=new).write(), strict=True))
    return [groups[index] for index in range(len(rows))]


def _make_missing_error(mapper: Mapper[Any], part: Part, row: Row) -> MappingError:
    error = MappingError(
        f"a row of table {mapper.schema.name} has no row in table {part.schema.name}, so {part.path!r} would be None, "
        "which its class does not allow; its key is the error's `key`"
    )
    error.key = tuple(row[mapper.selected.index(name)] for name in mapper.schema.key)
    return error


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


def _split(mapper: Mapper[Any], values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    links = mapper.links
    if not links:
        return values, {}
    return {name: values[name] for name in values if name not in links}, {
        name: values[name] for name in links if name in values
    }


def _dump_parts(parts: Iterable[Part], given: Mapping[str, Any], prefix: str = "") -> Children:
    return {part.name: _dump(part, given[part.name], prefix + part.name) for part in parts if part.name in given}


def _dump(part: Part, given: Any, place: str) -> list[Child]:
    if part.required and given is None:
        raise InvalidValueError(place, "cannot be None")
    if not (part.single or isinstance(given, list | tuple | set | frozenset) or is_mapped(part.mapper.entity)):
        raise InvalidValueError(place, f"expected a collection, got {type(given).__name__}")
    children: list[Child] = []
    seen: set[Any] = set()
    for index, child in enumerate(part.wrap(given)):
        at = place if part.single else f"{place}[{index}]"
        with _placed(part, at):
            values, more = _split(part.mapper, part.mapper.to_values(child))
            values = part.mapper.check_row(values)
            part.mapper.check_given(child)
        once = part.plain and part.collect in (set, frozenset)
        names = [part.mapper.column("value").name] if once else part.key
        key = _stored_values(part.schema, values, names)
        if names and key in seen and None not in key:
            if once:
                continue
            raise InvalidValueError(f"{at}.{part.mapper.field(names[0])}", "is another child's key as well")
        seen.add(key)
        children.append(Child(values, _dump_parts(part.parts, more, f"{at}."), at))
    return children


@contextmanager
def _placed(part: Part, place: str) -> Generator[None]:
    """Make the errors of one child name its place, and those of a constraint the part."""
    try:
        yield
    except InvalidValueError as error:
        error.field = f"{place}.{error.field}" if error.field and not part.plain else place
        raise
    except ConstraintError as error:
        error.fields = _paths(part, error.fields)
        raise


def _path(part: Part, column: str) -> str:
    return part.path if part.plain else f"{part.path}.{part.mapper.field(column)}"


def _paths(part: Part, columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_path(part, column) for column in columns))


# -- rows to children


def _owner(mapper: Mapper[Any], part: Part, row: Row) -> Row:
    """Return the values of an owner's row to which its children refer."""
    targets = part.through.targets if part.through else part.targets
    return tuple(row[mapper.selected.index(name)] for name in targets)


def _fetch(
    driver: Driver, part: Part, owners: Sequence[Row], lock: Lock | None = None, keys: Sequence[Row] = ()
) -> tuple[list[list[Row]], list[Row]]:
    """Return the children of each owner, and rows of others that have one of some keys."""
    if part.through is None:
        return _fetch_rows(driver, part, owners, lock, keys)
    links, _ = _fetch(driver, part.through, owners, lock)
    place = part.through.mapper.selected.index(part.targets[0])
    groups = [list(dict.fromkeys((row[place],) for row in group)) for group in links]
    mine = dict.fromkeys(chain(*groups))
    wanted = list(mine | dict.fromkeys(keys))
    rows = dict(zip(wanted, _fetch_rows(driver, part, wanted, lock)[0], strict=True))
    others = [row for key in wanted if key not in mine for row in rows[key]]
    sorted_ = (_sort(part, [(row, {}) for key in group for row in rows[key]]) for group in groups)
    return [[row for row, _ in group] for group in sorted_], others


def _fetch_rows(
    driver: Driver, part: Part, owners: Sequence[Row], lock: Lock | None, keys: Sequence[Row] = ()
) -> tuple[list[list[Row]], list[Row]]:
    found: dict[Row, list[Row]] = {owner: [] for owner in owners}
    others: list[Row] = []
    rows: list[Row] = []
    for where in _belonging(part, list(found), keys):
        rows += driver.fetch(part.schema, Fetch(part.mapper.selected, where, part.sort, lock=lock))
    if keys:  # a row may be found by its owner, and by its key in another statement
        rows = list(dict(zip(_values_of(part, part.schema.key, rows), rows, strict=True)).values())
    for row, owner in zip(rows, _values_of(part, part.owner, rows), strict=True):
        found.get(owner, others).append(row)
    return [found[owner] for owner in owners], others


def _belonging(part: Part, owners: Sequence[Row], keys: Sequence[Row] = ()) -> Iterator[Condition]:
    """Match the children of owners, and rows with some keys, in conditions small enough for one statement each."""
    size = _OWNERS_AT_ONCE // len(part.owner)
    chunks = (_belongs(part, owners[start : start + size]) for start in range(0, len(owners), size))
    for pair in zip_longest(chunks, key_chunks(part.mapper, keys) if keys else ()):
        each = tuple(one for one in pair if one is not None)
        yield condition(each[0] if len(each) == 1 else Or(each))


def _belongs(part: Part, owners: Sequence[Row]) -> Criterion:
    refs = [part.mapper.ref(name) for name in part.owner]
    if len(refs) == 1:
        return OneOf(refs[0], tuple(value for (value,) in owners))
    each = [values_equal(part.mapper, dict(zip(part.owner, owner, strict=True))) for owner in owners]
    return each[0] if len(each) == 1 else Or(tuple(each))


def _sort(part: Part, stored: list[Stored]) -> list[Stored]:
    """Return children in the order in which they are read; NULL is smaller than every value."""

    def key_of(sort: Sort) -> Callable[[Stored], Any]:
        place, store = part.mapper.selected.index(sort.ref.name), part.schema.by_name[sort.ref.name].type.store
        return lambda one: (False, None) if one[0][place] is None else (True, store(one[0][place]))

    for sort in reversed(part.sort):
        stored = sorted(stored, key=key_of(sort), reverse=sort.descending)
    return stored


# -- deleting


def _delete_parts(driver: Driver, mapper: Mapper[Any], parts: Iterable[Part], rows: Sequence[Row]) -> None:
    """Delete the parts of rows that the database does not delete with them, the innermost first."""
    for part in _left_behind(driver, parts) if rows else ():
        owners = [_owner(mapper, part, row) for row in rows]
        if part.through or _left_behind(driver, part.parts):
            groups, _ = _fetch(driver, part, owners, "update")
            _delete_rows(driver, part, list(chain(*groups)))
        else:
            for where in _belonging(part, owners):
                driver.delete(part.schema, where)


def _left_behind(driver: Driver, parts: Iterable[Part]) -> list[Part]:
    return [part for part in parts if not (part.cascades and driver.cascades)]


def _delete_rows(driver: Driver, part: Part, rows: Sequence[Row], moved: Sequence[Row] = ()) -> None:
    """Delete children after their parts, and what leads to them; also what leads to those that have moved."""
    _delete_parts(driver, part.mapper, part.parts, rows)
    if part.through is not None:
        _delete_by(driver, part.through, part.targets, _values_of(part, part.owner, [*rows, *moved]))
    _delete_by(driver, part, part.distinct, _values_of(part, part.distinct, rows))


def _delete_by(driver: Driver, part: Part, names: Sequence[str], values: Iterable[Row]) -> None:
    stored = {_stored_values(part.schema, dict(zip(names, each, strict=True)), names): each for each in values}
    for chunk in key_chunks(part.mapper, stored.values(), names):
        driver.delete(part.schema, condition(chunk))


def _values_of(part: Part, names: Sequence[str], rows: Iterable[Row]) -> list[Row]:
    places = [part.mapper.selected.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in rows]


# -- the difference between stored and given children


@dataclass(slots=True, eq=False)
class _Item:
    """A given child, and what becomes of it."""

    owner: Row
    child: Child
    old: Mapping[str, Any] | None = None  # the stored row
    moved: bool = False  # from another owner of the same level
    position: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    new: Row = ()  # the row as it is written

    def values(self, part: Part) -> dict[str, Any]:
        """Return the child's values with its owner's key, and its position where the table keeps one."""
        given = dict(zip(part.supplied, self.owner, strict=True)) if part.supplied else {}
        for name, value in given.items():
            if self.child.values.get(name) not in (None, value):
                raise InvalidValueError(
                    f"{part.path}.{part.mapper.field(name)}",
                    "refers to another owner; leave it None, or give this one's key",
                )
        values = {**self.child.values, **given}
        if part.order is not None and self.position is not None:
            values[part.order] = self.position
        return values


class _Difference:
    """What turns the stored children of some owners, none if those are new, into the given ones."""

    def __init__(self, driver: Driver, part: Part, given: Sequence[tuple[Row, Sequence[Child]]], *, new: bool) -> None:
        self._driver = driver
        self._part = part
        self._groups = [[_Item(owner, child) for child in children] for owner, children in given]
        self._items = list(chain(*self._groups))
        owners = [owner for owner, _ in given]
        groups, others = (
            ([[] for _ in given], []) if new else _fetch(driver, part, owners, "update", self._given_keys())
        )
        self._stored = [list(map(self._named, rows)) for rows in groups]
        self._taken = {self._key(self._named(row)) for row in others}

    def write(self) -> list[list[Stored]]:
        """Delete the children that are gone, update the changed, insert the new, and return those of each owner.

        In the order of the children, or where no column keeps it, in that in which they are read.
        """
        part = self._part
        (self._match_keys if part.key else self._match_values)()
        for items, rows in zip(self._groups, self._stored, strict=True):
            positions = _positions(part, rows, [None if item.moved else item.old for item in items])
            for item, position in zip(items, positions, strict=True):
                item.position = position
        for item in self._items:
            item.changes = self._changes(item)
        self._give_up_rows()
        kept = {id(item.old) for item in self._items}
        gone = [tuple(row.values()) for row in chain(*self._stored) if id(row) not in kept]
        _delete_rows(
            self._driver, part, gone, [tuple(item.old.values()) for item in self._items if item.old and item.moved]
        )
        self._update([item for item in self._items if item.changes])
        self._insert([item for item in self._items if item.old is None])
        self._link([item for item in self._items if item.old is None or item.moved])
        groups = [[(item.new, item.child.parts) for item in items] for items in self._groups]
        return groups if part.order else [_sort(part, group) for group in groups]

    def _given_keys(self) -> list[Row]:
        """Return the keys that the application has made, which may be another owner's."""
        part, names = self._part, self._part.schema.key
        if not part.key or part.schema.generated in part.key or (part.supplied and {*part.supplied} <= {*names}):
            return []  # nobody gives keys, or they differ from owner to owner
        keys = (tuple(item.values(part).get(name) for name in names) for item in self._items)
        return [key for key in dict.fromkeys(keys) if None not in key]

    def _named(self, row: Row) -> dict[str, Any]:
        return dict(zip(self._part.mapper.selected, row, strict=True))

    def _key(self, values: Mapping[str, Any]) -> Row:
        return self._value(values, self._part.schema.key)

    def _value(self, values: Mapping[str, Any], names: Iterable[str]) -> Row:
        return _stored_values(self._part.schema, values, names)

    # -- who is who

    def _match_keys(self) -> None:
        """Find the stored row of each child; a key that the database generates must be one of those."""
        part, generated = self._part, self._part.schema.generated
        stored = {self._key(row): (row, at) for at, rows in enumerate(self._stored) for row in rows}
        used: set[Row] = set()
        for at, items in enumerate(self._groups):
            for item in items:
                key = self._key(item.values(part))
                lost = generated in part.key and item.child.values.get(generated or "") is not None
                why = "is another child's key as well" if key in used else None
                if key not in stored and (lost or key in self._taken):
                    why = f"is not the key of one of the {part.name} that are stored; leave it None for a new one"
                if why:
                    raise InvalidValueError(f"{item.child.place}.{part.mapper.field(part.key[0])}", why)
                if key in stored:
                    used.add(key)
                    item.old, owner = stored[key]
                    item.moved = owner != at

    def _match_values(self) -> None:
        """Find for each child an equal row, and each row for one child only; a single child is its owner's."""
        for items, rows in zip(self._groups, self._stored, strict=True):
            names = list(items[0].child.values) if items and not self._part.single else []
            free: dict[Any, list[Mapping[str, Any]]] = {}
            for row in reversed(rows):
                free.setdefault(self._value(row, names), []).append(row)
            for item in items:
                equal = free.get(self._value(item.child.values, names))
                item.old = equal.pop() if equal else None

    def _give_up_rows(self) -> None:
        """Replace rows that cannot change: those of tables without a key, or with positions in it.

        A row without a key that equals one that goes is deleted with it.
        """
        part = self._part
        if part.schema.key and part.order not in part.schema.key:
            return
        kept = {id(item.old) for item in self._items if not item.changes}
        gone = {self._value(row, part.distinct) for row in chain(*self._stored) if id(row) not in kept}
        for item in self._items:
            if item.old is not None and self._value(item.old, part.distinct) in gone:
                item.old, item.changes = None, {}

    # -- statements

    def _changes(self, item: _Item) -> Mapping[str, Any]:
        """Return the values of a stored child that change, as they will be stored."""
        if item.old is None:
            return {}
        part, mapper, old = self._part, self._part.mapper, item.old
        given = item.values(part)
        fixed = {*part.schema.key} - {part.order}
        columns = {name: mapper.schema.by_name[name] for name in given if name not in fixed}
        changes = {
            name: given[name]
            for name, column in columns.items()
            if not (column.computed or name == mapper.schema.version or column.defaults(given[name]))
            and self._value(given, [name]) != self._value(old, [name])
        }
        item.new = tuple(old.values())
        if not changes:
            return {}
        with _placed(part, item.child.place):
            changes = mapper.complete_update(changes, explicit=False)
        types = {name: mapper.schema.by_name[name].type for name in changes}  # with those that change by themselves
        stored = {name: types[name].load(types[name].store(value)) for name, value in changes.items()}
        version = mapper.schema.version
        if version in mapper.selected:
            stored[version] = (old[version] or 0) + 1
        item.new = tuple({**old, **stored}[name] for name in mapper.selected)
        return stored

    def _update(self, items: Sequence[_Item]) -> None:
        mapper, schema = self._part.mapper, self._part.schema
        if not items:
            return
        names = dict.fromkeys(name for item in items for name in item.changes if name != schema.version)
        rows = [{**(item.old or {}), **item.changes} for item in items]
        keyed = [(tuple(row[name] for name in schema.key), tuple(row[name] for name in names)) for row in rows]
        self._driver.update_each(schema, tuple(names), keyed)
        self._check_scope(items)
        if not self._part.refreshes:
            return
        for chunk in key_chunks(mapper, [key for key, _ in keyed]):
            fresh = self._driver.fetch(schema, Fetch(mapper.selected, condition(chunk)))
            by_key = {self._key(self._named(row)): row for row in fresh}
            for item in items:
                item.new = by_key.get(self._key(self._named(item.new)), item.new)

    def _insert(self, items: Sequence[_Item]) -> None:
        complete: list[Mapping[str, Any]] = []
        for item in items:
            with _placed(self._part, item.child.place):
                complete.append(self._part.mapper.complete_insert(item.values(self._part)))
        for item, row in zip(items, insert_rows(self._driver, self._part.mapper, complete), strict=True):
            item.new = row
        self._check_scope(items)

    def _check_scope(self, items: Sequence[_Item]) -> None:
        """Refuse children that nobody would see again."""
        if not isinstance(self._driver, ScopedDriver):
            return
        try:
            self._driver.check_children(self._part.mapper, [item.new for item in items])
        except InvalidValueError:
            for item in items:
                with _placed(self._part, item.child.place):
                    self._driver.check_children(self._part.mapper, [item.new])
            raise

    def _link(self, items: Sequence[_Item]) -> None:
        """Insert the rows of the table between owners and children."""
        part, through = self._part, self._part.through
        if through is not None:
            keys = _values_of(part, part.owner, [item.new for item in items])
            names = (*through.owner, *part.targets)
            rows = [dict(zip(names, (*item.owner, *key), strict=True)) for item, key in zip(items, keys, strict=True)]
            insert_rows(self._driver, through.mapper, [through.mapper.complete_insert(row) for row in rows])


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


def _stored_values(schema: Schema, values: Mapping[str, Any], names: Iterable[str]) -> Row:
    """Return what rows store, by which they are equal."""
    return tuple(_hashable(schema.by_name[name].type.store(values.get(name))) for name in names)


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return frozenset((key, _hashable(one)) for key, one in value.items())
    if isinstance(value, set | frozenset):
        return frozenset(map(_hashable, value))
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return (type(value), repr(value)) if isinstance(value, bool | float) else value  # True and 1.0 equal 1

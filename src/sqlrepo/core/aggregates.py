"""Reading and writing the parts of aggregates, which are kept in tables of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple, TypeAlias, TypeVar

from sqlrepo.core.scope import ScopedDriver, unscoped
from sqlrepo.core.selection import condition, key_chunks
from sqlrepo.driver import Condition, Driver, Fetch, Lock
from sqlrepo.errors import ConstraintError, InvalidValueError, MappingError, UnsupportedError
from sqlrepo.language.criteria import Or
from sqlrepo.language.entities import is_mapped
from sqlrepo.language.fields import Sort
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.parts import Part, all_parts
from sqlrepo.tables.schema import Row, Schema, columns_of

X = TypeVar("X")
R = TypeVar("R")

# The children of one owner, by part.
Children: TypeAlias = "Mapping[str, Sequence[Child]]"
# A stored child: its row, and the parts to be written for it.
Stored: TypeAlias = tuple[Row, Children]
# The last index of an increasing run, and the run before it.
_Run: TypeAlias = "tuple[int, _Run | None]"


class Child(NamedTuple):
    """A child to be stored, checked."""

    values: Mapping[str, Any]  # by column, without those that its owner gives
    parts: Children
    place: str  # in the entity: ``lines[2]``


class How(NamedTuple):
    """How the parts of rows are read or written."""

    driver: Driver
    lock: Lock | None = None
    new: bool = False  # the rows have no children yet
    again: bool = False  # they were stored before, and their children keep their keys


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

    def split(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Part an entity's values from its children."""
        return _split(self._mapper, values)

    def dump(self, given: Mapping[str, Any]) -> Children:
        """Check the children of an entity before anything is sent; errors name the place."""
        return _dump_parts(self.parts, given)

    def dump_assigned(self, given: Mapping[str, Any]) -> Children:
        """Check children that are set without their entity, as it would check them too."""
        dumped = self.dump(given)
        for part in self.parts:
            if part.name in dumped:
                children = given[part.name]
                self._mapper.check_part(part.name, children if part.single else part.collect(children))
        return dumped

    # -- reading

    def load(self, driver: Driver, rows: list[Row], lock: Lock | None = None) -> Found:
        """Read the parts of rows: one statement for each part and 500 owners, two through a table in between.

        Parts of locked rows are read with a lock too: a plain read may be older than the rows (REPEATABLE READ).
        """
        return self._attach(How(driver, lock and "update"), rows, [{}] * len(rows))

    # -- writing

    def complete(self, driver: Driver, rows: list[Row], given: Sequence[Children], *, again: bool = False) -> Found:
        """Insert the children of new rows, those of a part in one statement for each set of columns.

        The children of rows that were stored before keep their keys ``again``.
        """
        with after_a_statement():
            return self._attach(How(driver, new=True, again=again), rows, given)

    def replace(self, driver: Driver, row: Row, given: Children) -> Found:
        """Write the children of a stored row over those that are there; parts that are not given are read."""
        with after_a_statement():
            return self._attach(How(driver, "update"), [row], [given])

    def _attach(self, how: How, rows: list[Row], given: Sequence[Children]) -> Found:
        return Found(rows, _attach(how, self._mapper, self.parts, rows, given) if self.parts else ())

    def delete(self, driver: Driver, where: Condition) -> int:
        """Delete rows, after the children that the database does not delete with their owner; return their number."""
        if not _left_behind(driver, self.parts):
            return driver.delete(self._mapper.schema, where)
        schema, selected = self._mapper.require_key().schema, self._mapper.selected
        rows = driver.fetch(schema, Fetch(selected, where, lock="update"))
        if not rows:
            return driver.delete(schema, where)
        with after_a_statement():
            _delete_parts(driver, self._mapper, self.parts, rows)
            # by key, for the condition may be about children that are gone now
            keys = _values_of(self._mapper, schema.key, rows)
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
            error.field = _at(found[0], found[0].path, error.field)
        return True


@contextmanager
def after_a_statement() -> Generator[None]:
    """Let an error that is harmless before a call's first statement abort the unit."""
    try:
        yield
    except UnsupportedError as error:
        error.halfway = True
        raise


def in_turn(send: Callable[[X], R], each: Iterable[X]) -> list[R]:
    """Send something for each; what is unsupported for one aborts the unit if another was sent before."""
    done: list[R] = []
    for one in each:
        with after_a_statement() if done else nullcontext():
            done.append(send(one))
    return done


def _attach(
    how: How, mapper: Mapper[Any], parts: Sequence[Part], rows: Sequence[Row], given: Sequence[Children]
) -> list[dict[str, Any]]:
    """Write the parts that are given with rows, read the others, and return those of each row.

    Each level is written as a whole, and then the parts of its rows.
    """
    attached: list[dict[str, Any]] = [{} for _ in rows]
    for part in parts if rows else ():
        owners = _owners(mapper, part, rows)
        groups: list[list[Stored]] = [[] for _ in rows]
        found: list[list[Stored]]
        for written in (False, True):
            chosen = [at for at, one in enumerate(given) if (how.new or part.name in one) is written]
            theirs = [owners[at] for at in chosen]
            if written and chosen:
                wanted = [given[at].get(part.name, ()) for at in chosen]
                found = _Difference(how, part, theirs, wanted).write()
            else:
                found = [[(row, {}) for row in group] for group in _fetch(how.driver, part, theirs, how.lock)[0]]
            for at, group in zip(chosen, found, strict=True):
                groups[at] = group
        inner, children = [row for group in groups for row, _ in group], [one for group in groups for _, one in group]
        more = _attach(how, part.mapper, part.parts, inner, children)
        entities = iter(part.mapper.load(inner, more if part.parts else ()))
        for row, group, built in zip(rows, groups, attached, strict=True):
            if part.required and not group:
                raise _make_missing_error(mapper, part, row)
            built[part.name] = part.unwrap([next(entities) for _ in group])
    return attached


def _make_missing_error(mapper: Mapper[Any], part: Part, row: Row) -> MappingError:
    error = MappingError(
        f"a row of table {mapper.schema.name} has no row in table {part.schema.name}, so {part.path!r} would be None, "
        "which its class does not allow; its key is the error's `key`"
    )
    [error.key] = _values_of(mapper, mapper.schema.key, [row])
    return error


def insert_rows(driver: Driver, mapper: Mapper[Any], rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Insert rows, those with the same columns in one statement, and return them in their order."""
    batches: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        batches.setdefault(tuple(row), []).append(index)

    def send(columns: tuple[str, ...]) -> list[Row]:
        values = [tuple(rows[index].values()) for index in batches[columns]]
        return driver.insert(mapper.schema, columns, values, mapper.selected)

    stored = dict(zip(chain(*batches.values()), chain(*in_turn(send, batches)), strict=True))
    return [stored[index] for index in range(len(rows))]


# -- children to rows


def _split(mapper: Mapper[Any], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own = {name: value for name, value in values.items() if name not in mapper.links}
    return own, {name: values[name] for name in mapper.links if name in values}


def _dump_parts(parts: Iterable[Part], given: Mapping[str, Any], prefix: str = "") -> Children:
    return {part.name: _dump(part, given[part.name], prefix + part.name) for part in parts if part.name in given}


def _dump(part: Part, given: Any, place: str) -> list[Child]:
    kind = part.mapper.entity
    if part.required and given is None:
        raise InvalidValueError(place, "cannot be None")
    if not (part.single or isinstance(given, list | tuple | set | frozenset) or is_mapped(kind)):
        raise InvalidValueError(place, f"expected a collection, got {type(given).__name__}")
    once = part.plain and part.collect in (set, frozenset)
    names = [part.mapper.column("value").name] if once else part.key
    children: list[Child] = []
    seen: set[Row] = set()
    for index, child in enumerate(part.wrap(given)):
        at = place if part.single else f"{place}[{index}]"
        if not isinstance(child, kind):
            raise InvalidValueError(at, f"expected {kind.__name__}, got {type(child).__name__}")
        with _placed(part, at):
            values, more = _split(part.mapper, part.mapper.to_values(child))
            values = part.mapper.check_row(values)
            if part.plain and None in values.values() and not part.mapper.column("value").fills_itself:
                raise InvalidValueError(None, "cannot be None")
            part.mapper.check_given(child, more)
        key = _stored_values(part.schema, values, names)
        if not (names and key in seen and None not in key):
            children.append(Child(values, _dump_parts(part.parts, more, f"{at}."), at))
        elif not once:
            raise InvalidValueError(_at(part, at, names[0]), "is another child's key as well")
        seen.add(key)
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
        if part.plain:  # the only child's column whose type may make NULL of it
            raise InvalidValueError(place, "is stored as NULL, which its column cannot be") from error
        error.fields = _paths(part, error.fields)
        raise


def _at(part: Part, place: str, column: str) -> str:
    return place if part.plain else f"{place}.{part.mapper.field(column)}"


def _paths(part: Part, columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_at(part, part.path, column) for column in columns))


# -- rows to children


def _values_of(mapper: Mapper[Any], names: Iterable[str], rows: Iterable[Row]) -> list[Row]:
    places = [mapper.selected.index(name) for name in names]
    return [tuple(row[place] for place in places) for row in rows]


def _owners(mapper: Mapper[Any], part: Part, rows: Iterable[Row]) -> list[Row]:
    """Return the values of owners' rows to which their children refer."""
    return _values_of(mapper, (part.through or part).targets, rows)


def _fetch(
    driver: Driver, part: Part, owners: Iterable[Row], lock: Lock | None = None, keys: Sequence[Row] | None = None
) -> tuple[list[list[Row]], list[Row]]:
    """Return the children of each owner, and rows of others that have one of some keys.

    With keys, were there none, also the children that the scope of their table hides, whose rows end with False.
    """
    if part.through is None:
        return _fetch_rows(driver, part, owners, lock, keys)
    links, _ = _fetch(driver, part.through, owners, lock)
    mine = [dict.fromkeys(_values_of(part.through.mapper, part.targets, group)) for group in links]
    own = dict.fromkeys(chain(*mine))
    wanted = own | dict.fromkeys(keys or ())
    found = dict(zip(wanted, _fetch_rows(driver, part, wanted, lock, None if keys is None else ())[0], strict=True))
    groups = [_sort(part, [(row, {}) for key in group for row in found[key]]) for group in mine]
    others = [row for key in wanted if key not in own for row in found[key]]
    return [[row for row, _ in group] for group in groups], others


def _fetch_rows(
    driver: Driver, part: Part, owners: Iterable[Row], lock: Lock | None, keys: Sequence[Row] | None
) -> tuple[list[list[Row]], list[Row]]:
    fetch = driver.fetch_all if keys is not None and isinstance(driver, ScopedDriver) else driver.fetch
    found: dict[Row, list[Row]] = {owner: [] for owner in owners}
    others: list[Row] = []
    rows: list[Row] = []
    for where in _belonging(part, found, keys or ()):
        rows += fetch(part.schema, Fetch(part.mapper.selected, where, part.sort, lock=lock))
    if keys:  # a row may be found by its owner, and by its key in another statement
        rows = list(dict(zip(_values_of(part.mapper, part.schema.key, rows), rows, strict=True)).values())
    for row, owner in zip(rows, _values_of(part.mapper, part.owner, rows), strict=True):
        found.get(owner, others).append(row)
    return [found[owner] for owner in owners], others


def _belonging(part: Part, owners: Iterable[Row], keys: Sequence[Row] = ()) -> Iterator[Condition]:
    """Match the children of owners, and rows with some keys, in conditions small enough for one statement each."""
    by_owner = key_chunks(part.mapper, owners, part.owner, 250 if keys else 500)
    for pair in zip_longest(by_owner, key_chunks(part.mapper, keys) if keys else ()):
        each = tuple(one for one in pair if one is not None)
        yield condition(each[0] if len(each) == 1 else Or(each))


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
    """Delete the parts of rows that the database does not delete with them, hidden ones too, the innermost first."""
    driver = unscoped(driver)
    for part in _left_behind(driver, parts) if rows else ():
        owners = _owners(mapper, part, rows)
        if part.through or _left_behind(driver, part.parts):
            _delete_rows(driver, part, list(chain(*_fetch(driver, part, owners, "update")[0])))
        else:
            for where in _belonging(part, owners):
                driver.delete(part.schema, where)


def _left_behind(driver: Driver, parts: Iterable[Part]) -> list[Part]:
    return [part for part in parts if not (part.cascades and driver.cascades)]


def _delete_rows(driver: Driver, part: Part, rows: Sequence[Row], moved: Sequence[Row] = ()) -> None:
    """Delete children after their parts, and what leads to them; also what leads to those that have moved."""
    _delete_parts(driver, part.mapper, part.parts, rows)
    if part.through is not None:
        keys = _values_of(part.mapper, part.owner, [*rows, *moved])
        _delete_by(unscoped(driver), part.through, part.targets, keys)
    _delete_by(driver, part, part.distinct, _values_of(part.mapper, part.distinct, rows))


def _delete_by(driver: Driver, part: Part, names: Sequence[str], values: Iterable[Row]) -> None:
    for chunk in key_chunks(part.mapper, dict.fromkeys(values), names):
        driver.delete(part.schema, condition(chunk))


# -- the difference between stored and given children


@dataclass(slots=True, eq=False)
class _Item:
    """A given child, and what becomes of it."""

    owner: Row
    child: Child
    values: dict[str, Any]  # the child's, with its owner's key, and its position where the table keeps one
    old: Mapping[str, Any] | None = None  # the stored row
    moved: bool = False  # from another owner of the same level
    changes: Mapping[str, Any] = field(default_factory=dict)
    new: Row = ()  # the row as it is written


class _Difference:
    """What turns the stored children of some owners, none if those are new, into the given ones."""

    def __init__(self, how: How, part: Part, owners: Sequence[Row], given: Sequence[Sequence[Child]]) -> None:
        self._driver = how.driver
        self._part = part
        self._again = how.again
        self._groups = [
            [_Item(owner, child, _with_owner(part, owner, child)) for child in children]
            for owner, children in zip(owners, given, strict=True)
        ]
        self._items = list(chain(*self._groups))
        keys, width = self._given_keys(), len(part.mapper.selected)
        groups: list[list[Row]] = [[] for _ in owners]
        others: list[Row] = []
        if not how.new:
            groups, others = _fetch(how.driver, part, owners, "update", keys if keys or part.order else None)
        self._stored = [[self._named(row) for row in rows if all(row[width:])] for rows in groups]
        self._hidden = [[self._named(row) for row in rows if not all(row[width:])] for rows in groups]
        self._taken = {self._key(row) for row in chain(map(self._named, others), *self._hidden)}

    def write(self) -> list[list[Stored]]:
        """Delete the children that are gone, update the changed, insert the new, and return those of each owner.

        In the order of the children, or where no column keeps it, in that in which they are read.
        """
        part, driver = self._part, self._driver
        (self._match_keys if part.key else self._match_values)()
        if part.order is not None:
            self._number(part.order)
        for item in self._items:
            self._find_changes(item)
        self._give_up_rows()
        kept = {id(item.old) for item in self._items}
        gone = [tuple(row.values()) for row in chain(*self._stored) if id(row) not in kept]
        moved = [tuple(item.old.values()) for item in self._items if item.old and item.moved]
        _delete_rows(driver, part, gone, moved)
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
        keys = (tuple(item.values.get(name) for name in names) for item in self._items)
        return [key for key in dict.fromkeys(keys) if None not in key]

    def _named(self, row: Row) -> dict[str, Any]:
        return dict(zip(self._part.mapper.selected, row, strict=False))

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
                key = self._key(item.values)
                why = "is another child's key as well" if key in used else None
                if key in stored:
                    used.add(key)
                    item.old, owner = stored[key]
                    item.moved = owner != at
                elif generated in part.key and not self._again and item.values.get(generated or "") is not None:
                    why = f"is not the key of one of the {part.name} that are stored; leave it None for a new one"
                elif key in self._taken:
                    why = f"is the key of another row, not of one of the {part.name} that are stored"
                if why:
                    name = generated if generated in part.key else part.key[0]
                    raise InvalidValueError(_at(part, item.child.place, name or ""), why)

    def _match_values(self) -> None:
        """Find for each child an equal row, and each row for one child only; a single child is its owner's."""
        for items, rows in zip(self._groups, self._stored, strict=True):
            names = list(items[0].child.values) if items and not self._part.single else []
            free: dict[Row, list[Mapping[str, Any]]] = {}
            for row in reversed(rows):
                free.setdefault(self._value(row, names), []).append(row)
            for item in items:
                equal = free.get(self._value(item.values, names))
                item.old = equal.pop() if equal else None

    def _number(self, column: str) -> None:
        """Give children their positions."""
        for items, *rows in zip(self._groups, self._stored, self._hidden, strict=True):
            taken = {row[column] for row in chain(*rows)} - {None}
            had = [None if item.old is None or item.moved else item.old[column] for item in items]
            numbers = _positions(self._part, taken, had)
            if numbers is None:
                place = items[0].child.place.rpartition("[")[0]
                raise InvalidValueError(place, f"holds more children than column {column!r} has numbers for")
            for item, number in zip(items, numbers, strict=True):
                item.values[column] = number

    def _find_changes(self, item: _Item) -> None:
        """Find the values of a stored child that change, as they will be stored."""
        if item.old is None:
            return
        part, mapper, old = self._part, self._part.mapper, item.old
        columns, version = part.schema.by_name, part.schema.version
        fixed = {*part.schema.key, version} - {part.order}
        changes = {
            name: value
            for name, value in item.values.items()
            if not (name in fixed or columns[name].computed or columns[name].defaults(value))
            and self._value(item.values, [name]) != self._value(old, [name])
        }
        item.new = tuple(old.values())
        if not changes:
            return
        with _placed(part, item.child.place):
            changes = mapper.complete_update(changes, explicit=False)
        types = {name: columns[name].type for name in changes}  # with those that change by themselves
        item.changes = {name: types[name].load(types[name].store(value)) for name, value in changes.items()}
        counted = {version: (old[version] or 0) + 1} if version in mapper.selected else {}
        item.new = tuple({**old, **item.changes, **counted}[name] for name in mapper.selected)

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

    def _update(self, items: Sequence[_Item]) -> None:
        mapper, schema = self._part.mapper, self._part.schema
        if not items:
            return
        names = tuple(dict.fromkeys(chain(*(item.changes for item in items))))
        rows = [{**(item.old or {}), **item.changes} for item in items]
        keyed = [(tuple(row[name] for name in schema.key), tuple(row[name] for name in names)) for row in rows]
        self._driver.update_each(schema, names, keyed)
        self._check_scope(items, rows, names)
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
                complete.append(self._part.mapper.complete_insert(item.values))
        for item, row in zip(items, insert_rows(self._driver, self._part.mapper, complete), strict=True):
            item.new = row
        self._check_scope(items, complete)

    def _check_scope(
        self, items: Sequence[_Item], written: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None
    ) -> None:
        """Refuse children that nobody would see again."""
        if not isinstance(self._driver, ScopedDriver):
            return
        rows = [{**values, **self._named(item.new)} for item, values in zip(items, written, strict=True)]
        try:
            self._driver.check_children(self._part.mapper, rows, names)
        except InvalidValueError:
            for item, row in zip(items, rows, strict=True):
                with _placed(self._part, item.child.place):
                    self._driver.check_children(self._part.mapper, [row], names)
            raise

    def _link(self, items: Sequence[_Item]) -> None:
        """Insert the rows of the table between owners and children."""
        part, through = self._part, self._part.through
        if through is None:
            return
        rows: list[Mapping[str, Any]] = []
        names = (*through.owner, *part.targets)
        for item, key in zip(items, _values_of(part.mapper, part.owner, [item.new for item in items]), strict=True):
            with _placed(through, item.child.place):
                rows.append(through.mapper.complete_insert(dict(zip(names, (*item.owner, *key), strict=True))))
        insert_rows(self._driver, through.mapper, rows)


def _with_owner(part: Part, owner: Row, child: Child) -> dict[str, Any]:
    """Return a child's values with its owner's key."""
    given = dict(zip(part.supplied, owner, strict=True)) if part.supplied else {}
    for name, value in given.items():
        if child.values.get(name) not in (None, value):
            why = "refers to another owner; leave it None, or give this one's key"
            raise InvalidValueError(_at(part, child.place, name), why)
    return {**child.values, **given}


def _positions(part: Part, taken: set[int], had: Sequence[int | None]) -> Sequence[int] | None:
    """Number children so that no number of another child is used again, whatever the order of the statements.

    The longest run of children that are in order keeps its numbers. Those before it take numbers below all, if the
    column may hold them; the others, and all behind them, take numbers above all. None if there are too few numbers.
    """
    assert part.order is not None
    column, kept = part.schema.by_name[part.order].type, _longest_increasing(had)
    start, above = kept[0] if kept else 0, max(taken, default=0) + 1
    low = min(taken, default=1) - start
    checked = any(one.criterion is None or part.order in columns_of(one.criterion) for one in part.schema.checks)
    if start and (checked or (column.low is not None and low < column.low)):
        kept, start = [], 0
    in_run = set(kept)
    end = next((index for index in range(start, len(had)) if index not in in_run), len(had))
    tail = range(above, above + len(had) - end)
    if tail and column.high is not None and tail[-1] > column.high:  # no numbers are left above: take free ones
        free = list(islice((number for number in range(1, column.high + 1) if number not in taken), len(had)))
        return free if len(free) == len(had) else None
    return [*range(low, low + start), *(number or 0 for number in had[start:end]), *tail]


def _longest_increasing(numbers: Sequence[int | None]) -> list[int]:
    """Return the indexes of the longest increasing run, gaps allowed (patience sorting)."""
    runs: list[_Run] = []  # of each length the one whose last number is the smallest
    for index, number in enumerate(numbers):
        if number is not None:
            length = bisect_left(runs, number, key=lambda run: numbers[run[0]] or 0)
            runs[length : length + 1] = [(index, runs[length - 1] if length else None)]
    found: list[int] = []
    run = runs[-1] if runs else None
    while run is not None:
        index, run = run
        found.append(index)
    return found[::-1]


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

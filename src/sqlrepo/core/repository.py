"""The repository: every public method, once, for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, get_args, overload

from sqlrepo.core.definition import RepositoryConfig
from sqlrepo.core.scope import Scope, evaluated, read_back
from sqlrepo.core.selection import Selection, condition, require_position, select
from sqlrepo.core.unit import BaseUnitOfWork
from sqlrepo.driver import Driver, Fetch, Joinable, Lock, Source, Upsert
from sqlrepo.errors import (
    ConstraintError,
    InvalidValueError,
    MappingError,
    MultipleFoundError,
    NotFoundError,
    QueryError,
    StaleEntityError,
    UnitStateError,
)
from sqlrepo.language.criteria import And, Compare, Criterion, OneOf, Or, matches_all
from sqlrepo.language.entities import read_changes
from sqlrepo.language.fields import OrderBy, after_position, reverse_order
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorPage, Page, Upserted, decode_cursor, encode_cursor
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import Row, Schema

T = TypeVar("T")
R = TypeVar("R")


class Participant(RepositoryConfig[T], Generic[T]):
    """What reading and writing have in common."""

    def __init__(self, source: Source | Joinable | BaseUnitOfWork[Any], *, context: Any = None) -> None:
        if isinstance(source, BaseUnitOfWork):
            self._unit: BaseUnitOfWork[Any] = source
            self._source: Source | None = None
        else:
            self._unit = self._own(source, context=context)
            self._unit._work.register_tables(type(self), [type(self)])
            self._source = self._unit._work.source
        self._work = self._unit._work
        self._mapper: Mapper[T] = self.definition().mapper
        self._unscoped = Scope(self._mapper)
        self._work.add_mapper(self._mapper)

    @property
    def unit(self) -> BaseUnitOfWork[Any]:
        """The unit of work the repository takes part in; its own where it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """What the application gave the unit of work to know."""
        return self._unit.context

    def missing_capabilities(self) -> frozenset[str]:
        """Return the names of the `sqlrepo.testing.Capabilities` that the back end does not have.

        Raises:
            DatabaseUnavailableError: a server has to be asked, and cannot be reached.
        """
        return self._work.source.missing_capabilities

    def __enter__(self) -> Self:
        if self._source is not None:
            self._unit.__enter__()
        elif not self._unit.is_open:
            raise UnitStateError("not_open", "enter the unit of work this repository belongs to first")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._source is not None:
            self._unit.__exit__(kind, error, traceback)
        elif error is not None:
            self._work.mark_rollback_only(error)

    def _own(self, source: Source | Joinable, **options: Any) -> BaseUnitOfWork[Any]:
        unit = BaseUnitOfWork[Any](source, **options)
        unit._work.label(self._kind)
        return unit

    # -- calls

    def _read(self, work: Callable[[Driver], R], scope: Scope | None = None) -> R:
        """Run the statements of a reading call; alone and outside ``with``, in a transaction of their own."""
        work = self._within(scope, work)
        if self._source is not None and not self._unit.is_open:
            with self._own(self._source, read_only=True) as unit:
                return unit._work.run(work)
        return self._work.run(work)

    def _write(self, work: Callable[[Driver], R], scope: Scope | None = None) -> R:
        """Run the statements of a writing call."""
        work = self._within(scope, work)
        if self._source is not None and not self._unit.is_open:
            raise UnitStateError(
                "write_outside", f"write inside `with {self._name}(...) as repository:`, or in a unit of work"
            )
        try:
            return self._work.run(work, write=True)
        except ConstraintError as error:
            self._work.name_fields(error, self._mapper)
            raise

    def _foreseen(self, prepare: Callable[[], R]) -> R:
        """Complete values before they are sent; a constraint that can be foreseen aborts like one that is met."""
        try:
            return prepare()
        except ConstraintError as error:
            self._write(_raising(error))
            raise

    def _scope(self) -> Scope:
        """The rows there are for a call, to be asked for once in each.

        Raises:
            QueryError: the repository does not say which.
        """
        definition = self.definition()
        if not definition.scoped:
            return self._unscoped
        rows = evaluated(self._mapper, f"{self._name}.scope()", self.scope)
        if not definition.lets_leave:
            return Scope(self._mapper, rows, rows)
        return Scope(self._mapper, rows, evaluated(self._mapper, f"{self._name}.write_scope()", self.write_scope))

    def _within(self, scope: Scope | None, work: Callable[[Driver], R]) -> Callable[[Driver], R]:
        """Statements that know no rows outside the scope; the call's own, where it has asked for it already."""
        kept = scope or self._scope()
        return work if kept is self._unscoped else lambda driver: work(kept.within(driver))

    @property
    def _kind(self) -> type[Any]:
        """The class that the application has."""
        return type(self)

    @property
    def _name(self) -> str:
        return self._kind.__name__

    # -- questions

    @property
    def _schema(self) -> Schema:
        return self._mapper.schema

    def _select(
        self,
        criteria: Iterable[object],
        equals: Mapping[str, Any],
        *,
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Selection:
        return select(self._mapper, criteria, equals, order_by=order_by, limit=limit, offset=offset)

    def _keyed(self, values: Mapping[str, Any]) -> Criterion:
        return And(tuple(Compare(self._mapper.ref(name), "==", value) for name, value in values.items()))

    # -- entities

    def _load(self, rows: Sequence[Row]) -> list[T]:
        if self.definition().custom_load:
            return [self.to_domain(record) for record in self._mapper.to_records(rows)]
        return self._mapper.load(rows)


def _raising(error: Exception) -> Callable[[Driver], None]:
    """Stand in for the statement that would have met an error."""

    def work(_: Driver) -> None:
        raise error

    return work


K = TypeVar("K")
S = TypeVar("S")

# Well below what any database takes as parameters of one statement, or as alternatives of one criterion.
_KEYS_AT_ONCE = 500
_COMPOSITE_KEYS_AT_ONCE = 50

# What a stream holds in memory at once.
_ROWS_AT_ONCE = 1_000


class Reading(Participant[T], Generic[T, K]):
    """Getting entities by key and finding them by criteria."""

    # -- reading by key

    def get(self, id: K, *, lock: Lock | None = None) -> T:
        """Get the entity with a key.

        Args:
            id: the key; a tuple, in the key's order, for a composite one.
            lock: keep other units from writing the row until this one ends; where one has it locked already, "update"
                waits, "skip" takes it for not there, "nowait" raises `LockTimeoutError`. What has no locks on rows
                (capability ``row_locks``: SQLite, memory) is as safe in other ways, and takes the three for one.

        Raises:
            NotFoundError: there is none.
            ReadOnlyError: a lock in a read-only unit.
        """
        found = self.get_or_none(id, lock=lock)
        if found is None:
            raise NotFoundError(self._mapper.entity, id)
        return found

    def get_or_none(self, id: K, *, lock: Lock | None = None) -> T | None:
        """Get the entity with a key, or None."""
        where = condition(self._keyed(self._mapper.parse_key(id)))
        rows = self._answer(Fetch(self._mapper.selected, where, lock=lock))
        return self._load(rows)[0] if rows else None

    def get_many(self, ids: Iterable[K]) -> list[T]:
        """Get the entities with these keys, in their order; keys without an entity are passed over."""
        keys = [tuple(self._mapper.parse_key(one).values()) for one in ids]
        requests = [Fetch(self._mapper.selected, condition(chunk)) for chunk in self._chunks(list(dict.fromkeys(keys)))]
        rows = self._read(lambda driver: [row for request in requests for row in driver.fetch(self._schema, request)])
        places = [self._mapper.selected.index(name) for name in self._schema.key]
        by_key = dict(zip((tuple(row[place] for place in places) for row in rows), self._load(rows), strict=True))
        return [by_key[key] for key in keys if key in by_key]

    # -- reading by criteria

    def one(self, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Find the only entity that answers.

        Raises:
            NotFoundError: there is none.
            MultipleFoundError: there is more than one.
        """
        selection = self._select(criteria, equals)
        found = self._only(selection)
        if found is None:
            raise NotFoundError(self._mapper.entity, str(selection.criterion))
        return found

    def one_or_none(self, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Find the only entity that answers, or None.

        Raises:
            MultipleFoundError: there is more than one.
        """
        return self._only(self._select(criteria, equals))

    def first(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> T | None:
        """Find the first entity in an order, or None."""
        selection = self._select(criteria, equals, order_by=order_by)
        limit = 1 if selection.limit is None else min(selection.limit, 1)
        found = self._load(self._answer(self._request(selection, limit=limit, offset=selection.offset)))
        return found[0] if found else None

    @overload
    def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: None = None,
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[T]: ...
    @overload
    def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: type[S],
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[S]: ...
    def find(
        self,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
        into: type[Any] | None = None,
        lock: Lock | None = None,
        **equals: Any,
    ) -> list[Any]:
        """Find the entities that answer.

        Args:
            criteria: expressions over `fields`, and at most one query object.
            order_by: fields, `asc` or `desc` of them, or ``"-priority,key"``; the key is always appended.
            limit: at most so many.
            offset: leave out so many first.
            into: a Pydantic model or dataclass whose fields are some of the entity's; only they are selected.
            lock: as in `get`.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the question cannot be meant.
        """
        selection = self._select(criteria, equals, order_by=order_by, limit=limit, offset=offset)
        request = self._request(selection, limit=selection.limit, offset=selection.offset, lock=lock)
        if into is None:
            return self._load(self._answer(request))
        columns, build = self.definition().projection(into)
        return build(self._answer(replace(request, columns=columns)))

    def count(self, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that answer; a query object's limit and offset do not matter."""
        where = self._select(criteria, equals).where
        return self._read(lambda driver: driver.count(self._schema, where))

    def exists(self, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Tell whether any entity answers."""
        where = self._select(criteria, equals).where
        return self._read(lambda driver: driver.count(self._schema, where, limit=1)) > 0

    def stream(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> Iterator[T]:
        """Go through the entities that answer, however many, in chunks of bounded size.

        Each chunk is a statement that begins where the one before ended, so other statements, savepoints and an early
        ``break`` are safe between them; it is no snapshot: what others commit ahead of the position is met. A query
        object's limit and offset do not matter.

        Args:
            criteria: expressions over `fields`, and at most one query object.
            order_by: as in `find`.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the question cannot be meant; said at the call, not at the first entity.
        """
        return chain.from_iterable(self.chunks(*criteria, order_by=order_by, **equals))

    def chunks(self, *criteria: bool | QueryObject[T], order_by: OrderBy = None, **equals: Any) -> Iterator[list[T]]:
        """Go through the entities that answer as `stream` does, a list of them at a time."""
        return self._chunked(self._select(criteria, equals, order_by=order_by), self._scope())

    def _chunked(self, selection: Selection, scope: Scope) -> Iterator[list[T]]:
        size, rest = _ROWS_AT_ONCE, selection
        places = [self._mapper.selected.index(sort.ref.name) for sort in selection.order]
        while True:
            request = Fetch(self._mapper.selected, rest.where, rest.order, size)
            rows = self._read(partial(_fetched, self._schema, request), scope)
            yield self._load(rows)
            if len(rows) < size:
                return
            position = [rows[-1][place] for place in places]
            rest = selection.and_also(after_position(selection.order, position, self._schema.nullable))

    def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Give a page by the query object's limit and offset.

        Args:
            query: must have a limit.
            with_total: whether to count all that answer, for a second statement where the page does not tell.
        """
        selection = self._select((query,), {})
        limit = _limit_of(query, selection)
        request = self._request(selection, limit=limit + 1, offset=selection.offset)

        def work(driver: Driver) -> tuple[list[Row], int | None]:
            rows = driver.fetch(self._schema, request)
            whole = len(rows) <= limit and (rows or not selection.offset)
            if not with_total:
                return rows, None
            return rows, selection.offset + len(rows) if whole else driver.count(self._schema, selection.where)

        rows, total = self._read(work)
        return Page(self._load(rows[:limit]), len(rows) > limit, total)

    def scroll(self, query: QueryObject[T], *, after: str | None = None, before: str | None = None) -> CursorPage[T]:
        """Give a page by position: right under ties and NULLs, and as cheap at the end as at the beginning.

        Args:
            query: must have a limit, of one row at least, and no offset.
            after: the ``next`` of the page before.
            before: the ``previous`` of the page behind.

        Raises:
            QueryError: the query has no limit.
            InvalidLiteralError: the cursor belongs to another query, or both are given; the limit is zero, or there is
                an offset.
        """
        selection, scope = self._select((query,), {}), self._scope()
        limit = _limit_of(query, selection)
        require_position(limit, selection.offset, after, before)
        backwards, cursor = before is not None, after if before is None else before
        types = [self._schema.by_name[sort.ref.name].type for sort in selection.order]
        asked = selection.criterion if matches_all(scope.rows) else And((selection.criterion, scope.rows))
        question = f"{self._schema.name}:{self._mapper.to_text(asked)}:{','.join(map(str, selection.order))}"
        order = reverse_order(selection.order) if backwards else selection.order
        if cursor is not None:
            position = decode_cursor(question, types, cursor, "before" if backwards else "after")
            selection = selection.and_also(after_position(order, position, self._schema.nullable))
        request = Fetch(self._mapper.selected, selection.where, order, limit + 1)
        rows = self._read(lambda driver: driver.fetch(self._schema, request), scope)
        more, rows = len(rows) > limit, rows[:limit]
        rows = rows[::-1] if backwards else rows
        places = [self._mapper.selected.index(sort.ref.name) for sort in selection.order]
        ends = [encode_cursor(question, types, [row[place] for place in places]) for row in (rows[:1] + rows[-1:])]
        return CursorPage(
            self._load(rows),
            next=ends[-1] if rows and (backwards or more) else None,
            previous=ends[0] if rows and (more if backwards else cursor is not None) else None,
        )

    # -- the way down

    def _request(self, selection: Selection, *, limit: int | None, offset: int = 0, lock: Lock | None = None) -> Fetch:
        return Fetch(self._mapper.selected, selection.where, selection.order, limit, offset, lock)

    def _answer(self, request: Fetch) -> list[Row]:
        """Read; with a lock it is a write's beginning, and needs a unit that may write."""
        _known_lock(request.lock)
        call = self._read if request.lock is None else self._write
        return call(lambda driver: driver.fetch(self._schema, request))

    def _only(self, selection: Selection) -> T | None:
        rows = self._answer(self._request(selection, limit=2))
        if len(rows) > 1:
            raise MultipleFoundError(self._mapper.entity, str(selection.criterion))
        return self._load(rows)[0] if rows else None

    def _chunks(self, keys: Sequence[tuple[Any, ...]]) -> Iterator[Criterion]:
        """Criteria for many keys, each small enough for one statement."""
        names = self._schema.key
        size = _KEYS_AT_ONCE if len(names) == 1 else _COMPOSITE_KEYS_AT_ONCE
        for start in range(0, len(keys), size):
            chunk = keys[start : start + size]
            if len(names) == 1:
                yield OneOf(self._mapper.ref(names[0]), tuple(value for (value,) in chunk))
            else:
                yield Or(tuple(self._keyed(dict(zip(names, key, strict=True))) for key in chunk))


def _known_lock(lock: Lock | None) -> None:
    if lock not in (None, *get_args(Lock)):
        raise QueryError(f"lock is {lock!r}; there are {', '.join(get_args(Lock))}")


def _fetched(schema: Schema, request: Fetch, driver: Driver) -> list[Row]:
    return driver.fetch(schema, request)


def _limit_of(query: QueryObject[Any], selection: Selection) -> int:
    if selection.limit is None:
        raise QueryError(f"{type(query).__name__} has no limit, so its pages have no size")
    return selection.limit


class Writing(Participant[T], Generic[T, K]):
    """Adding, changing and deleting entities."""

    def add(self, entity: T) -> T:
        """Insert an entity and give it as it was stored, generated values included.

        Raises:
            ConstraintError: the table refuses it.
            InvalidValueError: a column cannot hold a value, or the row would be outside the repository's scope.
        """
        return self.add_many([entity])[0]

    def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert entities, all or none, and give them as they were stored, in their order."""
        values = [self._dump(entity) for entity in entities]
        rows = self._foreseen(lambda: [self._mapper.complete_insert(value) for value in values])
        scope = self._scope()
        scope.admit(rows)
        return self._stored(self._write(lambda driver: self._insert(driver, rows), scope))

    def update(self, entity: T) -> T:
        """Write all of an entity over its row and give it as it is stored.

        What counts and stamps writes (the version, columns with ``onupdate``) is not taken from the entity.

        Raises:
            NotFoundError: there is no such row.
            StaleEntityError: the row is at another version than the entity.
        """
        values = self._dump(entity)
        identity = self._told(self._identity(values))
        changes = self._changes(values)
        return self._changed(identity, changes, values.get(self._schema.version or ""))

    def patch(self, id: K, changes: Any) -> T:
        """Write some fields of the row with a key and give the entity as it is stored.

        Args:
            id: the key.
            changes: a Pydantic model, whose set fields count, or a mapping; None clears. A version in it is compared.

        Raises:
            NotFoundError: there is no such row.
            StaleEntityError: the row is at another version than the changes say.
            QueryError: a field is unknown, or part of the key.
        """
        values = self._assigned(read_changes(changes))
        expected = values.pop(self._schema.version or "", None)
        row = self._foreseen(lambda: self._mapper.complete_update(values, explicit=True)) if values else {}
        return self._changed(self._mapper.parse_key(id), row, expected)

    def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row where there is one; atomic."""
        values = self._dump(entity)
        identity = self._identity(values)
        if None in identity.values():
            return self.add(entity)
        row = self._foreseen(lambda: self._mapper.complete_insert(values))
        changes = self._changes({name: value for name, value in values.items() if not self._waits(name, value)})
        expected = values.get(self._schema.version or "")
        scope = self._scope()
        scope.keep(changes)
        outside = scope.refusal(row)

        def work(driver: Driver) -> list[Row] | Exception:
            found = self._apply(driver, identity, changes, expected)
            if found:
                return found
            if self._exists(driver, identity):
                return StaleEntityError(self._mapper.entity, _plain(identity), expected)
            return outside or self._insert(driver, [row])

        stored = self._write(work, scope)
        if isinstance(stored, Exception):
            raise stored
        return self._stored(stored)[0]

    def delete(self, id: K) -> None:
        """Delete the entity with a key.

        Raises:
            NotFoundError: there is none.
        """
        where = condition(self._keyed(self._mapper.parse_key(id)))
        if not self._write(lambda driver: driver.delete(self._schema, where)):
            raise NotFoundError(self._mapper.entity, id)

    def remove(self, entity: T) -> None:
        """Delete an entity's row, if it is at the entity's version.

        Raises:
            NotFoundError: there is no such row.
            StaleEntityError: the row is at another version than the entity.
        """
        values = self._dump(entity)
        identity = self._told(self._identity(values))
        expected = values.get(self._schema.version or "")
        where = condition(self._keyed(self._versioned(identity, expected)))

        def work(driver: Driver) -> tuple[int, bool]:
            count = driver.delete(self._schema, where)
            return count, count > 0 or self._exists(driver, identity)

        count, exists = self._write(work)
        if not count:
            raise self._gone(identity, expected, exists)

    def update_where(self, *criteria: bool, set_: Mapping[str, Any], everything: bool = False) -> int:
        """Set fields of all entities that answer, and tell how many.

        Args:
            criteria: which; none is refused unless ``everything`` says so.
            set_: values by field; expressions over the row are not part of the language.
            everything: whether all entities are meant.
        """
        where = self._targets(criteria, everything).where
        values = self._assigned(read_changes(set_))
        if self._schema.version in values:
            raise QueryError("the version counts itself; it cannot be set")
        if not values:
            raise QueryError("set_ names no field")
        row = self._foreseen(lambda: self._mapper.complete_update(values, explicit=True))
        scope = self._scope()
        if not scope.keep(row):
            raise QueryError("whether rows stay in the scope depends on what is not set; patch them one by one")
        return self._write(lambda driver: driver.update(self._schema, tuple(row), tuple(row.values()), where), scope)

    def delete_where(self, *criteria: bool, everything: bool = False) -> int:
        """Delete all entities that answer, and tell how many; no criterion is refused unless ``everything`` says so."""
        where = self._targets(criteria, everything).where
        return self._write(lambda driver: driver.delete(self._schema, where))

    # -- entities and rows

    def _targets(self, criteria: Sequence[object], everything: bool) -> Selection:
        """The rows of a set form."""
        if any(isinstance(criterion, QueryObject) for criterion in criteria):
            raise QueryError("set forms take criteria only; give the query object's .criteria")
        selection = self._select(criteria, {})
        if matches_all(selection.criterion) is not everything:
            raise QueryError(
                "everything=True contradicts the criteria"
                if everything
                else "no criterion was given; say everything=True if all rows are meant"
            )
        return selection

    def _dump(self, entity: T) -> dict[str, Any]:
        return self._mapper.check_row(self.to_row(entity))

    def _assigned(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check assignments to fields, by column."""
        columns = {self._mapper.column(name): value for name, value in values.items()}
        for column in columns:
            if column.name in self._schema.key or column.computed:
                raise QueryError(f"{self._mapper.field(column.name)} is part of the key or computed; it cannot be set")
        return {column.name: self._mapper.check_assignment(column, value) for column, value in columns.items()}

    def _changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a full update writes: all but what identifies the row."""
        fixed = {*self.definition().natural_key, *self._schema.key}
        changes = {name: value for name, value in values.items() if name not in fixed}
        return self._foreseen(lambda: self._mapper.complete_update(changes, explicit=False))

    def _waits(self, name: str, value: Any) -> bool:
        """Whether a None stands for "the default fires", which is nothing to write over a row that exists."""
        column = self._schema.by_name[name]
        return value is None and not column.nullable and column.fills_itself

    def _identity(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that tell an entity's row; None where they are not known yet."""
        columns = self.definition().natural_key
        if missing := [name for name in columns if name not in values and not self._mapper.has_field(name)]:
            raise MappingError(
                f"{self._mapper.entity.__name__} has no {', '.join(missing)}, so it identifies no row; "
                "declare `natural_key`, the fields of a unique constraint"
            )
        return {name: values.get(name) for name in columns}

    def _told(self, identity: dict[str, Any]) -> dict[str, Any]:
        for name, value in identity.items():
            if value is None:
                raise InvalidValueError(self._mapper.field(name), "is None, so it tells no row; add() the entity first")
        return identity

    def _versioned(self, identity: Mapping[str, Any], expected: Any) -> dict[str, Any]:
        if self._schema.version is None or expected is None:
            return dict(identity)
        return {**identity, self._schema.version: expected}

    def _insert(self, driver: Driver, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Insert rows, those of the same columns together, and give them in the order they came."""
        batches: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(rows):
            batches.setdefault(tuple(row), []).append(index)
        stored: dict[int, Row] = {}
        for columns, indexes in batches.items():
            values = [tuple(rows[index].values()) for index in indexes]
            returned = driver.insert(self._schema, columns, values, self._mapper.selected)
            stored.update(zip(indexes, returned, strict=True))
        return [stored[index] for index in range(len(rows))]

    def _apply(
        self, driver: Driver, identity: Mapping[str, Any], changes: Mapping[str, Any], expected: Any
    ) -> list[Row]:
        """Change one row and read it back; nothing where there is none, or not at the expected version."""
        where = condition(self._keyed(self._versioned(identity, expected)))
        if changes and not driver.update(self._schema, tuple(changes), tuple(changes.values()), where):
            return []
        if not changes:
            return driver.fetch(self._schema, Fetch(self._mapper.selected, where))
        seen = condition(self._keyed(identity))
        return read_back(driver, self._schema, Fetch(self._mapper.selected, seen))

    def _stored(self, rows: Sequence[Row]) -> list[T]:
        """Build the entities of rows just written; a row that no entity can be read from must not be committed."""
        try:
            return self._load(rows)
        except MappingError as error:
            self._work.mark_rollback_only(error)
            raise

    def _exists(self, driver: Driver, identity: Mapping[str, Any]) -> bool:
        return driver.count(self._schema, condition(self._keyed(identity)), limit=1) > 0

    def _changed(self, identity: Mapping[str, Any], changes: Mapping[str, Any], expected: Any) -> T:
        """Change one row, or say why it cannot be."""
        scope = self._scope()
        scope.keep(changes)

        def work(driver: Driver) -> tuple[list[Row], bool]:
            rows = self._apply(driver, identity, changes, expected)
            return rows, bool(rows) or (expected is not None and self._exists(driver, identity))

        rows, exists = self._write(work, scope)
        if not rows:
            raise self._gone(identity, expected, exists)
        return self._stored(rows)[0]

    def _gone(self, identity: Mapping[str, Any], expected: Any, exists: bool) -> Exception:
        if exists:
            return StaleEntityError(self._mapper.entity, _plain(identity), expected)
        return NotFoundError(self._mapper.entity, _plain(identity))


def _plain(identity: Mapping[str, Any]) -> Any:
    """An identity as callers write it: a value, or a tuple of several."""
    values = tuple(identity.values())
    return values[0] if len(values) == 1 else values


class Upserting(Writing[T, K], Generic[T, K]):
    """Adding entities, or writing them over what has their key or unique values."""

    def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or write it over the row that agrees with it in a unique constraint; atomic.

        The version is not compared, but counted. (PostgreSQL's ``INSERT ... ON CONFLICT DO UPDATE``.)

        Args:
            entity: what is written. Where a field of ``on`` is None, no row agrees with it.
            on: the fields of the key, or of a declared unique constraint.
            update: the fields of a row that is there already which are written. By default all but the key, ``on``,
                the version, and what the entity leaves to a default; none where it is empty.

        Returns:
            the entity as it is stored now, and whether its row is new.

        Raises:
            ConstraintError: the table refuses it; another unique constraint than ``on`` is no reason to update.
            QueryError: ``on`` is no unique constraint, or ``update`` names what cannot be written.
        """
        [(row, created)] = self._upserted([entity], on, update)
        return Upserted(self._stored([row])[0], created)

    def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Insert entities or write them over their rows, all or none; see `upsert`.

        Returns:
            them as they are stored now, in their order. Of several that agree in ``on`` only the last is written, and
            stands for all of them. They are sent in the order of these values, so that two batches never wait for
            each other.
        """
        return self._stored([row for row, _ in self._upserted(entities, on, update)])

    def _upserted(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None
    ) -> list[tuple[Row, bool]]:
        target = self._target(on)
        chosen = None if update is None else self._chosen(update, target)
        requests = [self._asked(self._dump(entity), target, chosen) for entity in entities]
        scope = self._scope()
        scope.admit(request.row for request in requests)
        last = {request.conflict_values or index: index for index, request in enumerate(requests)}

        def work(driver: Driver) -> list[tuple[Row, bool]]:
            order = sorted(last.values(), key=lambda index: repr(requests[index].conflict_values))
            stored = {index: self._send(driver, requests[index]) for index in order}
            return [stored[last[request.conflict_values or index]] for index, request in enumerate(requests)]

        return self._write(work, scope)

    def _send(self, driver: Driver, request: Upsert) -> tuple[Row, bool]:
        if request.conflict_values is None:
            return self._insert(driver, [request.row])[0], True
        return driver.upsert(self._schema, request, self._mapper.selected)

    def _asked(self, values: Mapping[str, Any], target: tuple[str, ...], chosen: frozenset[str] | None) -> Upsert:
        row = self._foreseen(lambda: self._mapper.complete_insert(values))
        told = {name: row.get(name) for name in target}
        for name, value in told.items():
            if value is None and not (column := self._schema.by_name[name]).nullable and not column.generated:
                raise InvalidValueError(self._mapper.field(name), "is left to the database, so it tells no row")
        agrees = None if None in told.values() else tuple(told.values())
        where = condition(self._keyed({name: value for name, value in told.items() if value is not None}))
        return Upsert(row, target, where, self._overwritten(values, target, chosen), agrees)

    def _overwritten(
        self, values: Mapping[str, Any], target: tuple[str, ...], chosen: frozenset[str] | None
    ) -> dict[str, Any]:
        """What is written over a row that is there."""
        given = {name: value for name, value in values.items() if not self._waits(name, value)}
        if chosen is None:
            fixed = {*target, *self._schema.key}
            changes = {name: value for name, value in given.items() if name not in fixed}
        else:
            changes = {name: value for name, value in given.items() if name in chosen}
        if not changes:
            return {}
        return self._foreseen(lambda: self._mapper.complete_update(changes, explicit=chosen is not None))

    def _target(self, on: str | Sequence[str]) -> tuple[str, ...]:
        """The columns of a unique constraint, in its own order."""
        named = {self._mapper.column(name).name for name in _names(on)}
        known = [self._schema.key, *(unique.columns for unique in self._schema.uniques)]
        for columns in known:
            if named and set(columns) == named:
                return columns
        listed = ", ".join(f"({', '.join(map(self._mapper.field, columns))})" for columns in known)
        raise QueryError(f"on={on!r} is neither the key nor a unique constraint; there are {listed}")

    def _chosen(self, update: Iterable[str], target: tuple[str, ...]) -> frozenset[str]:
        columns = [self._mapper.column(name) for name in _names(update)]
        for column in columns:
            if column.computed or column.name in {*target, *self._schema.key, self._schema.version}:
                raise QueryError(f"update={self._mapper.field(column.name)!r}: an upsert does not change that")
        return frozenset(column.name for column in columns)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


class BaseRepository(Reading[T, K], Upserting[T, K], Generic[T, K]):
    """The base of repositories: a collection of entities of one class, kept in one table.

    ``class Todos(BaseRepository[Todo, int]): model = TodoRow`` runs on a database and on memory alike. Entities are
    values: what is stored is returned, arguments are never changed, and there is no identity map. (Martin Fowler,
    Patterns of Enterprise Application Architecture: Repository.)

    Args:
        source: a `Database`, an `InMemoryDatabase`, a session or connection to join, or the unit of work to take part
            in. Alone, a repository reads in
            short transactions of its own, and writes inside ``with repository:``.
        context: what the application knows; a unit of work's own wins.

    Raises:
        MappingError: entity and table do not fit.
        UnsupportedError: the source cannot keep the table.
    """

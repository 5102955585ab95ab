"""The repository: every public method, once, for every backend.

Knows what a call means: what is checked before anything is sent, what is not found, what comes next. Must not know any
backend; below it there are only the primitives of `driver`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, cast, overload

from typing_extensions import Self

from sqlrepo._unit import BaseUnitOfWork
from sqlrepo.criteria import And, Compare, Criterion, OneOf, Or, is_everything
from sqlrepo.definition import Declarative
from sqlrepo.driver import Driver, Fetch, Row, Source
from sqlrepo.entities import set_fields
from sqlrepo.errors import (
    ConstraintError,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    QueryError,
    StaleEntityError,
    UnitStateError,
    UnsupportedError,
)
from sqlrepo.mapping import Mapper
from sqlrepo.order import OrderBy, after as rows_after, reversed_order
from sqlrepo.page import CursorPage, Page, decoded, encoded
from sqlrepo.query import QueryObject
from sqlrepo.schema import Schema
from sqlrepo.selection import Selection, condition, select

__all__ = ["BaseRepository", "Lock"]

T = TypeVar("T")
K = TypeVar("K")
S = TypeVar("S")
R = TypeVar("R")

Lock: TypeAlias = Literal["update", "skip", "nowait"]

# Well below what any database takes as parameters of one statement, or as alternatives of one criterion.
_KEYS_AT_ONCE = 500
_COMPOSITE_KEYS_AT_ONCE = 50


class BaseRepository(Declarative[T], Generic[T, K]):
    """The base of repositories: a collection of entities of one class, kept in one table.

    ``class Todos(BaseRepository[Todo, int]): model = TodoRow`` runs on a database and on memory alike. Entities are
    values: what is stored is returned, arguments are never changed, and there is no identity map. (Martin Fowler,
    Patterns of Enterprise Application Architecture: Repository.)

    Args:
        source: a `Database`, an `InMemoryDatabase`, or the unit of work to take part in. Alone, a repository reads in
            short transactions of its own, and writes inside ``with repository:``.
        context: what the application knows; a unit of work's own wins.

    Raises:
        MappingError: entity and table do not fit.
        UnsupportedError: the source cannot keep the table.
    """

    def __init__(self, source: Source | BaseUnitOfWork[Any], *, context: Any = None) -> None:
        if isinstance(source, BaseUnitOfWork):
            self._unit: BaseUnitOfWork[Any] = source
            self._source: Source | None = None
        else:
            self._unit = BaseUnitOfWork(source, context=context)
            self._source = source
            source.adopt(self.definition().schema)
        self._mapper: Mapper[T] = self.definition().mapper

    @property
    def unit(self) -> BaseUnitOfWork[Any]:
        """The unit of work the repository takes part in; its own where it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """What the application gave the unit of work to know."""
        return self._unit.context

    # -- one transaction

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
            self._unit.doom(error)

    # -- reading by key

    def get(self, id: K, *, lock: Lock | None = None) -> T:
        """Get the entity with a key.

        Args:
            id: the key; a tuple, in the key's order, for a composite one.
            lock: not supported yet.

        Raises:
            NotFoundError: there is none.
        """
        found = self.get_or_none(id, lock=lock)
        if found is None:
            raise NotFoundError(self._mapper.entity, id)
        return found

    def get_or_none(self, id: K, *, lock: Lock | None = None) -> T | None:
        """Get the entity with a key, or None."""
        _refuse_lock(lock)
        rows = self._fetch_where(self._keyed(self._mapper.key_values(id)))
        return self._load(rows)[0] if rows else None

    def get_many(self, ids: Iterable[K]) -> list[T]:
        """Get the entities with these keys, in their order; keys without an entity are passed over."""
        keys = [tuple(self._mapper.key_values(id).values()) for id in ids]
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
        if selection.limit == 0:
            return None
        found = self._load(self._fetch(selection, limit=1, offset=selection.offset))
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
            into: a smaller model whose fields are selected instead of the whole entity.
            lock: not supported yet.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the question cannot be meant.
        """
        _refuse_lock(lock)
        selection = self._select(criteria, equals, order_by=order_by, limit=limit, offset=offset)
        if into is None:
            return self._load(self._fetch(selection, limit=selection.limit, offset=selection.offset))
        columns, build = self.definition().projection(into)
        return build(self._fetch(selection, limit=selection.limit, offset=selection.offset, columns=columns))

    def count(self, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that answer; a query object's limit and offset do not matter."""
        where = self._select(criteria, equals).where
        return self._read(lambda driver: driver.count(self._schema, where))

    def exists(self, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Tell whether any entity answers."""
        where = self._select(criteria, equals).where
        return self._read(lambda driver: driver.count(self._schema, where, limit=1)) > 0

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
            QueryError: the cursor belongs to another query, or both are given.
        """
        selection = self._select((query,), {})
        limit = _limit_of(query, selection)
        if limit < 1 or selection.offset or (after is not None and before is not None):
            raise QueryError("scroll takes a limit of one at least, no offset, and one of `after` and `before`")
        backwards, cursor = before is not None, after if before is None else before
        types = [self._schema.by_name[sort.ref.name].type for sort in selection.order]
        question = f"{self._schema.name}:{self._mapper.printed(selection.criterion)}:{','.join(map(str, selection.order))}"
        order = reversed_order(selection.order) if backwards else selection.order
        if cursor is not None:
            position = decoded(question, types, cursor)
            selection = selection.narrowed(rows_after(order, position, self._schema.nullable))
        request = Fetch(self._mapper.selected, selection.where, order, limit + 1)
        rows = self._read(lambda driver: driver.fetch(self._schema, request))
        more, rows = len(rows) > limit, rows[:limit]
        rows = rows[::-1] if backwards else rows
        places = [self._mapper.selected.index(sort.ref.name) for sort in selection.order]
        ends = [encoded(question, types, [row[place] for place in places]) for row in (rows[:1] + rows[-1:])]
        return CursorPage(
            self._load(rows),
            next=ends[-1] if rows and (backwards or more) else None,
            previous=ends[0] if rows and (more if backwards else cursor is not None) else None,
        )

    # -- writing

    def add(self, entity: T) -> T:
        """Insert an entity and give it as it was stored, generated values included.

        Raises:
            ConstraintError: the table refuses it.
            InvalidValueError: a column cannot hold a value.
        """
        return self.add_many([entity])[0]

    def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert entities, all or none, and give them as they were stored, in their order."""
        values = [self._dump(entity) for entity in entities]
        rows = self._foreseen(lambda: [self._mapper.inserted(value) for value in values])
        stored = self._write(lambda driver: self._insert(driver, rows)) if rows else []
        return self._load(stored)

    def update(self, entity: T) -> T:
        """Write all of an entity over its row and give it as it is stored.

        What counts and stamps writes (the version, columns with ``onupdate``) is not taken from the entity.

        Raises:
            NotFoundError: there is no such row.
            StaleEntityError: the row is at another version than the entity.
        """
        values = self._dump(entity)
        identity = self._identity(values)
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
        values = self._assigned(set_fields(changes))
        expected = values.pop(self._schema.version or "", None)
        row = self._foreseen(lambda: self._mapper.updated(values, explicit=True)) if values else {}
        return self._changed(self._mapper.key_values(id), row, expected)

    def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row where there is one; atomic."""
        values = self._dump(entity)
        names = self._identity_columns()
        if any(values.get(name) is None for name in names):
            return self.add(entity)
        identity = {name: values[name] for name in names}
        changes = self._changes(values)
        row = self._foreseen(lambda: self._mapper.inserted(values))
        expected = values.get(self._schema.version or "")

        def work(driver: Driver) -> list[Row]:
            found = self._apply(driver, identity, changes, expected)
            if found or self._exists(driver, identity):
                return found
            return self._insert(driver, [row])

        stored = self._write(work)
        if not stored:
            raise StaleEntityError(self._mapper.entity, _plain(identity), expected)
        return self._load(stored)[0]

    def delete(self, id: K) -> None:
        """Delete the entity with a key.

        Raises:
            NotFoundError: there is none.
        """
        where = condition(self._keyed(self._mapper.key_values(id)))
        if not self._write(lambda driver: driver.delete(self._schema, where)):
            raise NotFoundError(self._mapper.entity, id)

    def remove(self, entity: T) -> None:
        """Delete an entity's row, if it is at the entity's version.

        Raises:
            NotFoundError: there is no such row.
            StaleEntityError: the row is at another version than the entity.
        """
        values = self._dump(entity)
        identity = self._identity(values)
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
        values = self._assigned(set_)
        if self._schema.version in values:
            raise QueryError("the version counts itself; it cannot be set")
        if not values:
            raise QueryError("set_ names no field")
        row = self._foreseen(lambda: self._mapper.updated(values, explicit=True))
        return self._write(lambda driver: driver.update(self._schema, tuple(row), tuple(row.values()), where))

    def delete_where(self, *criteria: bool, everything: bool = False) -> int:
        """Delete all entities that answer, and tell how many; no criterion is refused unless ``everything`` says so."""
        where = self._targets(criteria, everything).where
        return self._write(lambda driver: driver.delete(self._schema, where))

    # -- the way down

    @property
    def _schema(self) -> Schema:
        return self._mapper.schema

    def _read(self, work: Callable[[Driver], R]) -> R:
        """Run the statements of a reading call; alone and outside ``with``, in a transaction of their own."""
        if self._source is not None and not self._unit.is_open:
            with BaseUnitOfWork[Any](self._source, read_only=True) as unit:
                return unit.run(work)
        return self._unit.run(work)

    def _write(self, work: Callable[[Driver], R]) -> R:
        """Run the statements of a writing call."""
        if self._source is not None and not self._unit.is_open:
            name = type(self).__name__
            raise UnitStateError("write_outside", f"write inside `with {name}(...) as repository:`, or in a unit of work")
        try:
            return self._unit.run(work, write=True)
        except ConstraintError as error:
            error.fields = tuple(map(self._mapper.field, error.fields))  # below, columns are all there is
            raise

    def _foreseen(self, prepare: Callable[[], R]) -> R:
        """Complete values before they are sent; a constraint that can be foreseen aborts like one that is met."""
        try:
            return prepare()
        except ConstraintError as error:
            self._write(_raising(error))
            raise

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

    def _request(
        self, selection: Selection, *, limit: int | None, offset: int = 0, columns: Sequence[str] | None = None
    ) -> Fetch:
        return Fetch(tuple(columns or self._mapper.selected), selection.where, selection.order, limit, offset)

    def _fetch(
        self, selection: Selection, *, limit: int | None, offset: int = 0, columns: Sequence[str] | None = None
    ) -> list[Row]:
        request = self._request(selection, limit=limit, offset=offset, columns=columns)
        return self._read(lambda driver: driver.fetch(self._schema, request))

    def _fetch_where(self, criterion: Criterion) -> list[Row]:
        request = Fetch(self._mapper.selected, condition(criterion))
        return self._read(lambda driver: driver.fetch(self._schema, request))

    def _only(self, selection: Selection) -> T | None:
        rows = self._fetch(selection, limit=2)
        if len(rows) > 1:
            raise MultipleFoundError(self._mapper.entity, str(selection.criterion))
        return self._load(rows)[0] if rows else None

    def _targets(self, criteria: Sequence[object], everything: bool) -> Selection:
        """The rows of a set form."""
        if any(isinstance(criterion, QueryObject) for criterion in criteria):
            raise QueryError("set forms take criteria only; give the query object's .criteria")
        selection = self._select(criteria, {})
        if is_everything(selection.criterion) is not everything:
            raise QueryError(
                "everything=True contradicts the criteria"
                if everything
                else "no criterion was given; say everything=True if all rows are meant"
            )
        return selection

    # -- entities and rows

    def _load(self, rows: Sequence[Row]) -> list[T]:
        if self.definition().custom_load:
            return [self.to_domain(record) for record in self._mapper.records(rows)]
        return self._mapper.load(rows)

    def _dump(self, entity: T) -> dict[str, Any]:
        return self._mapper.dump(self.to_row(entity))

    def _assigned(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check assignments to fields, by column."""
        columns = {self._mapper.column(name): value for name, value in values.items()}
        for column in columns:
            if column.name in self._schema.key or column.computed:
                raise QueryError(f"{self._mapper.field(column.name)} is part of the key or computed; it cannot be set")
        return {column.name: self._mapper.checked(column, value) for column, value in columns.items()}

    def _changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a full update writes: all but what identifies the row."""
        fixed = {*self._identity_columns(), *self._schema.key}
        changes = {name: value for name, value in values.items() if name not in fixed}
        return self._foreseen(lambda: self._mapper.updated(changes, explicit=False))

    def _identity_columns(self) -> tuple[str, ...]:
        return self.definition().identity

    def _identity(self, values: Mapping[str, Any]) -> dict[str, Any]:
        identity = {name: values.get(name) for name in self._identity_columns()}
        for name, value in identity.items():
            if value is None:
                raise InvalidValueError(self._mapper.field(name), "is None, so it tells no row; add() the entity first")
        return identity

    # -- rows and primitives

    def _keyed(self, values: Mapping[str, Any]) -> Criterion:
        return And(tuple(Compare(self._mapper.ref(name), "==", value) for name, value in values.items()))

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
        seen = condition(self._keyed(identity)) if changes else where
        return driver.fetch(self._schema, Fetch(self._mapper.selected, seen))

    def _exists(self, driver: Driver, identity: Mapping[str, Any]) -> bool:
        return driver.count(self._schema, condition(self._keyed(identity)), limit=1) > 0

    def _changed(self, identity: Mapping[str, Any], changes: Mapping[str, Any], expected: Any) -> T:
        """Change one row, or say why it cannot be."""

        def work(driver: Driver) -> tuple[list[Row], bool]:
            rows = self._apply(driver, identity, changes, expected)
            return rows, bool(rows) or (expected is not None and self._exists(driver, identity))

        rows, exists = self._write(work)
        if not rows:
            raise self._gone(identity, expected, exists)
        return self._load(rows)[0]

    def _gone(self, identity: Mapping[str, Any], expected: Any, exists: bool) -> Exception:
        if exists:
            return StaleEntityError(self._mapper.entity, _plain(identity), expected)
        return NotFoundError(self._mapper.entity, _plain(identity))


def _plain(identity: Mapping[str, Any]) -> Any:
    """An identity as callers write it: a value, or a tuple of several."""
    values = tuple(identity.values())
    return values[0] if len(values) == 1 else values


def _raising(error: Exception) -> Callable[[Driver], Any]:
    def work(_: Driver) -> None:
        raise error

    return work


def _refuse_lock(lock: Lock | None) -> None:
    if lock is not None:
        raise UnsupportedError(f"lock={lock!r}: row locks are not supported yet")


def _limit_of(query: QueryObject[Any], selection: Selection) -> int:
    if selection.limit is None:
        raise QueryError(f"{type(query).__name__} has no limit, so its pages have no size")
    return selection.limit

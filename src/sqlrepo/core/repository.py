"""The repository: every public method, once, for every back end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from sqlrepo.core.aggregates import Children, Found, insert_rows
from sqlrepo.core.definition import Definition, RepositoryConfig, names_of
from sqlrepo.core.scope import Scope, ScopedDriver, evaluate_scope
from sqlrepo.core.selection import (
    NOT_GIVEN,
    Selection,
    after_row,
    check_lock,
    condition,
    key_chunks,
    make_cursor_codec,
    require_limit,
    require_position,
    select,
    select_targets,
    values_equal,
)
from sqlrepo.core.unit import BaseUnitOfWork
from sqlrepo.core.work import raise_error
from sqlrepo.driver import Condition, Driver, Fetch, Joinable, Lock, Missing, Source, Upsert
from sqlrepo.errors import (
    ConstraintError,
    InvalidValueError,
    MappingError,
    MultipleFoundError,
    NotFoundError,
    QueryError,
    StaleEntityError,
    TransactionConflictError,
    UnitStateError,
)
from sqlrepo.language.entities import read_changes
from sqlrepo.language.fields import OrderBy, reverse_order
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorPage, Page, Upserted
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.schema import Row

T = TypeVar("T")
K = TypeVar("K")
R = TypeVar("R")
S = TypeVar("S")

# What a stream holds in memory at once.
_ROWS_AT_ONCE = 1_000


class BaseRepository(RepositoryConfig[T], Generic[T, K]):
    """The base of repositories: a collection of entities of one class, kept in one table.

    ``class Todos(BaseRepository[Todo, int]): model = TodoRow`` works in a database and in memory. Entities are
    values: each method returns what is stored and never changes its argument, and there is no identity map.
    (Martin Fowler, Patterns of Enterprise Application Architecture: Repository.)

    Args:
        source: a `Database`, an `InMemoryDatabase`, a session or connection to join, or the unit of work to take part
            in. A repository alone reads in short transactions of its own, and writes inside ``with repository:``.
        context: your application's data for a repository alone; one in a unit of work has the unit's.

    Raises:
        MappingError: entity and table do not fit.
        UnsupportedError: the source cannot keep the table.
    """

    def __init__(self, source: Source | Joinable | BaseUnitOfWork[Any], *, context: Any = None) -> None:
        self._source: Source | None = None  # of a repository alone
        if isinstance(source, BaseUnitOfWork):
            self._unit: BaseUnitOfWork[Any] = source
        else:
            self._unit = BaseUnitOfWork[Any](source, context=context)
            self._stand_alone(type(self))
        self._work = self._unit._work
        self._work.require_kept(self._kind)
        self._config: Definition[T] = self.definition()
        self._mapper: Mapper[T] = self._config.mapper
        self._schema = self._mapper.schema
        self._aggregate = self._config.aggregate
        self._unscoped = Scope(self._mapper)
        self._work.add_mapper(self._mapper)

    @property
    def unit(self) -> BaseUnitOfWork[Any]:
        """The unit of work that the repository takes part in; its own if it stands alone."""
        return self._unit

    @property
    def context(self) -> Any:
        """Your application's data, as given to the unit of work."""
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
            raise UnitStateError(
                "not_open", f"{self._name} belongs to a unit of work that is not open; enter the unit first"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._source is not None:
            self._unit.__exit__(kind, error, traceback)
        elif error is not None:
            self._work.mark_rollback_only(error)

    # -- reading by key

    def get(self, id: K, *, lock: Lock | None = None) -> T:
        """Return the entity with a key.

        Args:
            id: the key; a tuple, in the order of the key columns, for a composite key.
            lock: keeps other units from writing the row until this one ends. If another unit has locked the row
                already, "update" waits, "skip" treats the row as missing and "nowait" raises `LockTimeoutError`. Back
                ends without row locks (capability ``row_locks``: SQLite, memory) accept all three, and are as safe.

        Raises:
            NotFoundError: no row has the key.
            ReadOnlyError: a lock in a read-only unit.
        """
        found = self.get_or_none(id, lock=lock)
        if found is None:
            raise NotFoundError(self._mapper.entity, id)
        return found

    def get_or_none(self, id: K, *, lock: Lock | None = None) -> T | None:
        """Return the entity with a key, or None."""
        where = self._where_key(self._mapper.parse_key(id))
        found = self._load(self._fetch(Fetch(self._mapper.selected, where, lock=lock)))
        return found[0] if found else None

    def get_many(self, ids: Iterable[K]) -> list[T]:
        """Return the entities with some keys, in the order of the keys; keys without an entity are skipped."""
        keys = [tuple(self._mapper.parse_key(one).values()) for one in ids]
        requests = [
            Fetch(self._mapper.selected, condition(chunk)) for chunk in key_chunks(self._mapper, dict.fromkeys(keys))
        ]

        def work(driver: Driver) -> Found:
            rows = [row for request in requests for row in driver.fetch(self._schema, request)]
            return self._aggregate.load(driver, rows)

        found = self._read(work)
        places = [self._mapper.selected.index(name) for name in self._schema.key]
        stored = (tuple(row[place] for place in places) for row in found.rows)
        by_key = dict(zip(stored, self._load(found), strict=True))
        return [by_key[key] for key in keys if key in by_key]

    # -- reading by criteria

    def one(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> T:
        """Return the only entity that matches.

        Raises:
            NotFoundError: no entity matches.
            MultipleFoundError: several entities match.
        """
        selection = select(self._mapper, criteria, equals)
        found = self._find_only(selection)
        if found is None:
            raise NotFoundError(self._mapper.entity, str(selection.criterion))
        return found

    def one_or_none(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> T | None:
        """Return the only entity that matches, or None.

        Raises:
            MultipleFoundError: several entities match.
        """
        return self._find_only(select(self._mapper, criteria, equals))

    def first(self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = NOT_GIVEN, **equals: Any) -> T | None:
        """Return the first matching entity in an order, or None."""
        if self._config.ambiguous:
            self._config.refuse_ambiguous("first", order_by=order_by)
        selection = select(self._mapper, criteria, equals, order_by=order_by)
        limit = 1 if selection.limit is None else min(selection.limit, 1)
        found = self._load(self._fetch(self._request(selection, limit=limit, offset=selection.offset)))
        return found[0] if found else None

    @overload
    def find(
        self,
        /,
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
        /,
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
        /,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = NOT_GIVEN,
        limit: int | None = NOT_GIVEN,
        offset: int | None = NOT_GIVEN,
        into: type[Any] | None = NOT_GIVEN,
        lock: Lock | None = NOT_GIVEN,
        **equals: Any,
    ) -> list[Any]:
        """Return the entities that match.

        Args:
            criteria: expressions over `fields`, and at most one query object.
            order_by: fields, `asc` or `desc` of them, or ``"-priority,key"``; the key is always appended.
            limit: the largest number of entities to return.
            offset: the number of entities to skip first.
            into: a Pydantic model or dataclass with some of the entity's fields; only their columns are selected.
            lock: as in `get`.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the query is ambiguous or contradictory; a field has the name of an option that is given.
        """
        if self._config.ambiguous:
            self._config.refuse_ambiguous("find", order_by=order_by, limit=limit, offset=offset, into=into, lock=lock)
        selection = select(self._mapper, criteria, equals, order_by=order_by, limit=limit, offset=offset)
        lock = None if lock is NOT_GIVEN else lock
        request = self._request(selection, limit=selection.limit, offset=selection.offset, lock=lock)
        if into is None or into is NOT_GIVEN:
            return self._load(self._fetch(request))
        columns, build = self._config.projection(into)
        return build(self._fetch(replace(request, columns=columns), whole=False).rows)

    def count(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that match; a query object's limit and offset are ignored."""
        where = select(self._mapper, criteria, equals).where
        return self._read(lambda driver: driver.count(self._schema, where))

    def exists(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Return True if any entity matches."""
        where = select(self._mapper, criteria, equals).where
        return self._read(lambda driver: driver.count(self._schema, where, limit=1)) > 0

    def stream(self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = NOT_GIVEN, **equals: Any) -> Iterator[T]:
        """Iterate over the entities that match, however many, in chunks of bounded size.

        Each chunk is a statement that begins after the last row of the chunk before, so other statements, savepoints
        and an early ``break`` are safe in between. It is not a snapshot: rows committed by other transactions after the
        current position are included. A query object's limit and offset are ignored.

        Args:
            criteria: expressions over `fields`, and at most one query object.
            order_by: as in `find`.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the query is ambiguous or contradictory; raised by the call, not at the first entity.
        """
        return chain.from_iterable(self.chunks(*criteria, order_by=order_by, **equals))

    def chunks(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = NOT_GIVEN, **equals: Any
    ) -> Iterator[list[T]]:
        """Iterate as `stream` does, over lists of entities."""
        if self._config.ambiguous:
            self._config.refuse_ambiguous("stream", order_by=order_by)
        self._mapper.require_key()
        # The arguments are checked, and the scope evaluated, before the first chunk is read.
        return self._read_chunks(select(self._mapper, criteria, equals, order_by=order_by), self._evaluate_scope())

    # -- pages

    def page(self, query: QueryObject[T], *, with_total: bool = False) -> Page[T]:
        """Return a page by the query object's limit and offset.

        Args:
            query: must have a limit.
            with_total: True to count all matching entities, with a second statement unless the page is the last one.
        """
        selection = select(self._mapper, (query,), {})
        limit = require_limit(query, selection)
        request = self._request(selection, limit=limit + 1, offset=selection.offset)

        def work(driver: Driver) -> tuple[Found, bool, int | None]:
            rows = driver.fetch(self._schema, request)
            more, total = len(rows) > limit, None
            if with_total:
                whole = not more and (rows or not selection.offset)
                total = selection.offset + len(rows) if whole else driver.count(self._schema, selection.where)
            return self._aggregate.load(driver, rows[:limit]), more, total

        found, more, total = self._read(work)
        return Page(self._load(found), more, total)

    def scroll(self, query: QueryObject[T], *, after: str | None = None, before: str | None = None) -> CursorPage[T]:
        """Return a page by position: exact with ties and NULLs, and as cheap at the end as at the beginning.

        Args:
            query: must have a limit, of one row at least, and no offset.
            after: the ``next`` cursor of the page before.
            before: the ``previous`` cursor of the page after.

        Raises:
            QueryError: the query has no limit.
            InvalidLiteralError: the cursor belongs to another query, or both cursors are given; the limit is zero, or
                there is an offset.
        """
        selection, scope = select(self._mapper.require_key(), (query,), {}), self._evaluate_scope()
        limit = require_limit(query, selection)
        require_position(limit, selection.offset, after, before)
        backwards, cursor = before is not None, after if before is None else before
        cursors = make_cursor_codec(self._mapper, selection, scope.rows, self._work.source.cursor_keys)
        order = reverse_order(selection.order) if backwards else selection.order
        if cursor is not None:
            position = cursors.decode(cursor, "before" if backwards else "after")
            selection = selection.and_also(after_row(self._schema, order, position))
        request = Fetch(self._mapper.selected, selection.where, order, limit + 1)

        def work(driver: Driver) -> tuple[Found, bool]:
            rows = driver.fetch(self._schema, request)
            page = rows[:limit]
            return self._aggregate.load(driver, page[::-1] if backwards else page), len(rows) > limit

        found, more = self._read(work, scope)
        rows = found.rows
        places = self._places(selection)
        ends = [cursors.encode([row[place] for place in places]) for row in (rows[:1] + rows[-1:])]
        return CursorPage(
            self._load(found),
            next=ends[-1] if rows and (backwards or more) else None,
            previous=ends[0] if rows and (more if backwards else cursor is not None) else None,
        )

    # -- writing

    def add(self, entity: T) -> T:
        """Insert an entity and return it as stored, with generated values.

        Raises:
            ConstraintError: the row violates a constraint.
            InvalidValueError: a column cannot hold a value, no column keeps what was given (an extra value, a
                relationship), or the row would be outside the repository's scope.
        """
        return self.add_many([entity])[0]

    def add_many(self, entities: Iterable[T]) -> list[T]:
        """Insert entities, all or none, and return them as stored, in their order."""
        dumped = [self._dump_whole(entity) for entity in entities]
        rows = self._complete(lambda: [self._mapper.complete_insert(values) for values, _ in dumped])
        scope = self._evaluate_scope()
        scope.check_new(rows)
        return self._load_written(
            self._write(lambda driver: self._aggregate.insert(driver, rows, [each for _, each in dumped]), scope)
        )

    def update(self, entity: T) -> T:
        """Replace an entity's row and return the entity as stored.

        The version and columns with ``onupdate`` are not taken from the entity.

        Raises:
            NotFoundError: the row does not exist.
            StaleEntityError: the row has another version than the entity.
        """
        values, children = self._dump_whole(entity)
        key = self._config.require_key(values)
        changes = self._complete_changes(values)
        return self._change(key, changes, self._schema.version_of(values), children)

    def patch(self, id: K, changes: Any) -> T:
        """Change some fields of the row with a key and return the entity as stored.

        Args:
            id: the key.
            changes: a Pydantic model, of which only the set fields count, or a mapping; None sets NULL. A version is
                compared with the row's.

        Raises:
            NotFoundError: the row does not exist.
            StaleEntityError: the row has another version than the changes.
            QueryError: a field is unknown, or part of the key.
        """
        values, parts = self._aggregate.split(read_changes(changes))
        values, children = self._mapper.check_assigned(values), self._aggregate.dump(parts)
        version = self._schema.version_of(values)
        values.pop(self._schema.version or "", None)
        row = self._complete(lambda: self._mapper.complete_update(values, explicit=True)) if values else {}
        return self._change(self._mapper.parse_key(id), row, version, children)

    def save(self, entity: T) -> T:
        """Insert an entity, or replace its row if there is one; atomic."""
        values, children = self._dump_whole(entity)
        key = self._config.key_values(values)
        if None in key.values():
            return self.add(entity)
        row = self._complete(lambda: self._mapper.complete_insert(values, may_exist=True))
        changes = self._complete_changes(
            {name: value for name, value in values.items() if not self._schema.by_name[name].defaults(value)}
        )
        version = self._schema.version_of(values)
        scope = self._evaluate_scope()
        scope.check_changes(changes)
        refused = self._mapper.find_given_number(row) or scope.find_violation(row)

        def work(driver: Driver) -> Found | Exception:
            if found := self._apply(driver, key, changes, version, counted=bool(children), absent=refused or row):
                return self._aggregate.replace(driver, found[0], children)
            if self._exists(driver, key):
                return self._missing(key, version, exists=True)
            return refused or self._aggregate.insert(driver, [row], [children])

        stored = self._write(work, scope)
        if isinstance(stored, Exception):
            raise stored
        return self._load_written(stored)[0]

    def delete(self, id: K) -> None:
        """Delete the entity with a key.

        Raises:
            NotFoundError: no row has the key.
        """
        error = NotFoundError(self._mapper.entity, id)
        where = replace(self._where_key(self._mapper.parse_key(id)), missing=lambda _: error)
        if not self._write(lambda driver: self._aggregate.delete(driver, where)):
            raise error

    def remove(self, entity: T) -> None:
        """Delete an entity's row, if it has the entity's version.

        Raises:
            NotFoundError: the row does not exist.
            StaleEntityError: the row has another version than the entity.
        """
        values = self._dump(entity)
        key = self._config.require_key(values)
        version = self._schema.version_of(values)
        where = self._where_version(key, version)

        def work(driver: Driver) -> tuple[int, bool]:
            count = self._aggregate.delete(driver, where)
            return count, count > 0 or self._exists(driver, key)

        count, exists = self._write(work)
        if not count:
            raise self._missing(key, version, exists)

    # -- upserts

    def upsert(self, entity: T, on: str | Sequence[str], update: Iterable[str] | None = None) -> Upserted[T]:
        """Insert an entity, or change the row that has its values in a unique constraint; atomic.

        The version is counted up, but not compared. (PostgreSQL's ``INSERT ... ON CONFLICT DO UPDATE``.)

        Args:
            entity: the entity to write; it is inserted if one of its fields in ``on`` is None.
            on: the fields of the key, or of a declared unique constraint.
            update: the fields to change in an existing row; an empty sequence changes none. By default all but the
                key, ``on``, the version, and those that the entity leaves to a default.

        Returns:
            The entity as stored, and whether its row is new.

        Raises:
            ConstraintError: the row violates a constraint, such as another unique one than ``on``.
            QueryError: ``on`` is not a unique constraint, or ``update`` names a field that cannot be changed.
        """
        found, [created] = self._upsert_rows([entity], on, update)
        return Upserted(self._load_written(found)[0], created)

    def upsert_many(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None = None
    ) -> list[T]:
        """Insert entities or change their rows, all or none; see `upsert`.

        Rows are sent in the order of their values in ``on``, so that two batches never wait for each other.

        Returns:
            The entities as stored, in their order. Of several with the same values in ``on`` only the last is written,
            and is returned for each of them.
        """
        return self._load_written(self._upsert_rows(entities, on, update)[0])

    # -- set forms

    def update_where(
        self, /, *criteria: bool, set_: Mapping[str, Any], everything: bool = NOT_GIVEN, **equals: Any
    ) -> int:
        """Set fields of all entities that match, and return their number.

        Args:
            criteria: expressions over `fields`; a query object is passed as its ``.criteria``.
            set_: values by field; expressions over the row are not supported.
            everything: must be True if the criteria may match all entities, and if there are none.
            equals: fields and the values they must have, as in `find`.

        Raises:
            QueryError: the criteria match everything and ``everything`` is False, or ``set_`` cannot be set.
        """
        if self._config.ambiguous:
            self._config.refuse_ambiguous("update_where", everything=everything, set_=set_)
        where = select_targets(self._mapper, criteria, equals, everything=everything)
        values = self._mapper.check_assigned(read_changes(set_))
        if self._schema.version in values:
            raise QueryError(
                f"{self._mapper.field(self._schema.version)} is the version, which every write sets; leave it out"
            )
        if not values:
            raise QueryError("update_where sets nothing; name at least one field")
        row = self._complete(lambda: self._mapper.complete_update(values, explicit=True))
        scope = self._evaluate_scope()
        if not scope.check_changes(row):
            raise QueryError("the scope depends on fields that set_ does not name; patch the entities one by one")
        return self._write(lambda driver: driver.update(self._schema, tuple(row), tuple(row.values()), where), scope)

    def delete_where(self, /, *criteria: bool, everything: bool = NOT_GIVEN, **equals: Any) -> int:
        """Delete all entities that match, and return their number.

        Args:
            criteria: expressions over `fields`; a query object is passed as its ``.criteria``.
            everything: must be True if the criteria may match all entities, and if there are none.
            equals: fields and the values they must have, as in `find`.

        Raises:
            QueryError: the criteria match everything and ``everything`` is False.
        """
        if self._config.ambiguous:
            self._config.refuse_ambiguous("delete_where", everything=everything)
        where = select_targets(self._mapper, criteria, equals, everything=everything)
        return self._write(lambda driver: self._aggregate.delete(driver, where))

    # -- calls

    def _read(self, work: Callable[[Driver], R], scope: Scope | None = None) -> R:
        """Run the statements of a reading call; alone and outside ``with``, in a transaction of their own."""
        work = self._scoped(work, scope)
        if self._source is None or self._unit.is_open:
            return self._work.run(work)
        unit = BaseUnitOfWork[Any](self._source, read_only=True)
        unit._work.label(self._kind)
        with unit:
            return unit._work.run(work)

    def _write(self, work: Callable[[Driver], R], scope: Scope | None = None) -> R:
        """Run the statements of a writing call."""
        work = self._scoped(work, scope)
        if self._source is not None and not self._unit.is_open:
            raise UnitStateError(
                "write_outside", f"{self._name} cannot write outside `with`; enter it, or use it in a unit of work"
            )
        try:
            return self._work.run(work, write=True)
        except (ConstraintError, InvalidValueError) as error:
            if not self._aggregate.name_fields(error):
                self._work.name_fields(error, self._mapper)
            raise

    def _complete(self, complete: Callable[[], R]) -> R:
        """Complete values before they are sent; a violation found here aborts the transaction as a statement's does."""
        try:
            return complete()
        except ConstraintError as error:
            self._write(partial(raise_error, error))
            raise

    def _evaluate_scope(self) -> Scope:
        """Evaluate the scope, once in each call; `ProgrammingError` if the methods return no criterion."""
        if not self._config.has_scope:
            return self._unscoped
        rows = evaluate_scope(self._mapper, f"{self._name}.scope()", self.scope)
        if not self._config.has_write_scope:
            return Scope(self._mapper, rows, rows)
        return Scope(self._mapper, rows, evaluate_scope(self._mapper, f"{self._name}.write_scope()", self.write_scope))

    def _scoped(self, work: Callable[[Driver], R], scope: Scope | None) -> Callable[[Driver], R]:
        """Confine statements to the scope: the one given, where the call has evaluated it already."""
        scope = scope or self._evaluate_scope()
        return work if scope is self._unscoped else lambda driver: work(scope.confine(driver))

    def _stand_alone(self, kind: type[Any]) -> None:
        work = self._unit._work
        work.register_tables(kind, [kind])
        work.require_kept(kind)
        work.label(kind)
        self._source = work.source

    @property
    def _kind(self) -> type[Any]:
        """The class that the application has defined."""
        return type(self)

    @property
    def _name(self) -> str:
        return self._kind.__name__

    # -- requests

    def _request(self, selection: Selection, *, limit: int | None, offset: int = 0, lock: Lock | None = None) -> Fetch:
        return Fetch(self._mapper.selected, selection.where, selection.order, limit, offset, lock)

    def _fetch(self, request: Fetch, scope: Scope | None = None, *, whole: bool = True) -> Found:
        """Read rows, with their parts if ``whole``; a lock makes this a write, which needs a unit that may write."""
        check_lock(request.lock)
        call = self._read if request.lock is None else self._write

        def work(driver: Driver) -> Found:
            rows = driver.fetch(self._schema, request)
            return self._aggregate.load(driver, rows, request.lock) if whole else Found(rows)

        return call(work, scope)

    def _find_only(self, selection: Selection) -> T | None:
        found = self._fetch(self._request(selection, limit=2))
        if len(found.rows) > 1:
            raise MultipleFoundError(self._mapper.entity, str(selection.criterion))
        return self._load(found)[0] if found.rows else None

    def _read_chunks(self, selection: Selection, scope: Scope) -> Iterator[list[T]]:
        places = self._places(selection)
        rest = selection
        while True:
            found = self._fetch(self._request(rest, limit=_ROWS_AT_ONCE), scope)
            yield self._load(found)
            if len(found.rows) < _ROWS_AT_ONCE:
                return
            position = [found.rows[-1][place] for place in places]
            # From the first selection, or each chunk's statement would be longer than the one before.
            rest = selection.and_also(after_row(self._schema, selection.order, position))

    def _places(self, selection: Selection) -> list[int]:
        return [self._mapper.selected.index(sort.ref.name) for sort in selection.order]

    def _where_key(self, values: Mapping[str, Any]) -> Condition:
        return condition(values_equal(self._mapper, values))

    # -- entities and rows

    def _load(self, found: Found) -> list[T]:
        if self._config.custom_load:
            return [self.to_domain(record) for record in self._mapper.to_records(*found)]
        return self._mapper.load(*found)

    def _load_written(self, found: Found) -> list[T]:
        """Load rows just written; if they cannot be loaded they must not be committed."""
        try:
            return self._load(found)
        except MappingError as error:
            self._work.mark_rollback_only(error)
            raise

    def _dump(self, entity: T) -> dict[str, Any]:
        """Return an entity's values by column, checked."""
        return self._mapper.check_row(self._aggregate.split(self.to_row(entity))[0])

    def _dump_whole(self, entity: T) -> tuple[dict[str, Any], Children]:
        """Return an entity's values and children to be stored; what nothing keeps raises `InvalidValueError`."""
        values, children = self._aggregate.split(self.to_row(entity))
        row = self._mapper.check_row(values)
        self._mapper.check_given(entity)
        return row, self._aggregate.dump(children)

    def _complete_changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that a full update writes: all but the key's."""
        fixed = {*self._config.natural_key, *self._schema.key}
        changes = {name: value for name, value in values.items() if name not in fixed}
        return self._complete(lambda: self._mapper.complete_update(changes, explicit=False))

    def _where_version(self, key: Mapping[str, Any], version: Mapping[str, Any], absent: Missing = None) -> Condition:
        """Select a row that must be there, unless another may be inserted, and have the version if there is one."""
        where, error = self._where_key({**key, **version}), partial(self._missing, key, version)
        return replace(where, missing=lambda exists: (not exists and absent) or error(exists and bool(version)))

    def _apply(
        self,
        driver: Driver,
        key: Mapping[str, Any],
        changes: Mapping[str, Any],
        version: Mapping[str, Any],
        *,
        counted: bool,  # although no column changes
        absent: Missing = None,
    ) -> list[Row]:
        """Change one row and read it back; return no row if it is missing, or has another version."""
        where = self._where_version(key, version, absent)
        if not (changes or (counted and self._schema.version)):
            return driver.fetch(self._schema, Fetch(self._mapper.selected, where, lock="update" if counted else None))
        if not driver.update(self._schema, tuple(changes), tuple(changes.values()), where):
            return []
        fetch = driver.fetch_changed if isinstance(driver, ScopedDriver) else driver.fetch
        return fetch(self._schema, Fetch(self._mapper.selected, self._where_key(key)))

    def _exists(self, driver: Driver, key: Mapping[str, Any]) -> bool:
        return driver.count(self._schema, self._where_key(key), limit=1) > 0

    def _change(
        self, key: Mapping[str, Any], changes: Mapping[str, Any], version: Mapping[str, Any], children: Children
    ) -> T:
        """Change one row and its children, and load them, or raise the reason why the row could not be changed."""
        scope = self._evaluate_scope()
        scope.check_changes(changes)

        def work(driver: Driver) -> Found | bool:
            if rows := self._apply(driver, key, changes, version, counted=bool(children)):
                return self._aggregate.replace(driver, rows[0], children)
            return bool(version) and self._exists(driver, key)

        found = self._write(work, scope)
        if isinstance(found, bool):
            raise self._missing(key, version, found)
        return self._load_written(found)[0]

    def _missing(self, key: Mapping[str, Any], version: Mapping[str, Any], exists: bool) -> Exception:
        """Return the error for a row that is not there, or not at the expected version."""
        plain: Any = tuple(key.values()) if len(key) != 1 else next(iter(key.values()))
        entity, expected = self._mapper.entity, next(iter(version.values()), None)
        return StaleEntityError(entity, plain, expected) if exists else NotFoundError(entity, plain)

    # -- upserts, row by row

    def _upsert_rows(
        self, entities: Iterable[T], on: str | Sequence[str], update: Iterable[str] | None
    ) -> tuple[Found, list[bool]]:
        target = self._config.conflict_target(on)
        names = None if update is None else set(names_of(update))
        chosen = None if names is None else self._config.updatable(names - self._mapper.links.keys(), target)
        dumped = [self._dump_whole(entity) for entity in entities]
        requests = [self._upsert_request(values, target, chosen) for values, _ in dumped]
        scope = self._evaluate_scope()
        scope.check_new(request.row for request in requests)
        last = {request.conflict_values or index: index for index, request in enumerate(requests)}

        def send(driver: Driver, index: int) -> tuple[Found, bool]:
            row, created = self._send_upsert(driver, requests[index])
            if created:
                return self._aggregate.complete(driver, [row], [dumped[index][1]]), True
            given = {name: one for name, one in dumped[index][1].items() if names is None or name in names}
            if given and not requests[index].changes:
                key = self._mapper.parse_key(self._mapper.key_of(row))
                [row] = self._apply(driver, key, {}, {}, counted=True)
            return self._aggregate.replace(driver, row, given), False

        def work(driver: Driver) -> tuple[Found, list[bool]]:
            order = sorted(last.values(), key=lambda index: repr(requests[index].conflict_values))
            stored = {index: send(driver, index) for index in order}
            each = [stored[last[request.conflict_values or index]] for index, request in enumerate(requests)]
            parts = [one for found, _ in each for one in found.parts]
            return Found([found.rows[0] for found, _ in each], parts), [created for _, created in each]

        return self._write(work, scope)

    def _send_upsert(self, driver: Driver, request: Upsert) -> tuple[Row, bool]:
        if request.conflict_values is None:
            return insert_rows(driver, self._mapper, [request.row])[0], True
        return driver.upsert(self._schema, request, self._mapper.selected)

    def _upsert_request(
        self, values: Mapping[str, Any], target: tuple[str, ...], chosen: frozenset[str] | None
    ) -> Upsert:
        row = self._complete(lambda: self._mapper.complete_insert(values))
        found = {name: row.get(name) for name in target}
        for name, value in found.items():
            if value is None and not (column := self._schema.by_name[name]).nullable and not column.generated:
                raise InvalidValueError(
                    self._mapper.field(name), "is left to the database; give a value, so that the row can be found"
                )
        conflict = None if None in found.values() else tuple(found.values())
        where = self._where_key({name: value for name, value in found.items() if value is not None})
        lost = f"another transaction took away the row of {self._schema.name} that an upsert changed; retry the unit"
        new = row if set(target) == set(self._schema.key) else None
        where = replace(where, missing=lambda exists: (not exists and new) or TransactionConflictError(lost))
        changes = self._complete(lambda: self._mapper.complete_upsert(values, target, chosen))
        return Upsert(row, target, where, changes, conflict)

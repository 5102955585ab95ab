"""The calls of a repository that read, and how its calls run in a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, overload

from sqlrepo.core.aggregates import Aggregate, Found
from sqlrepo.core.definition import Definition, RepositoryConfig
from sqlrepo.core.related import Call
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
    values_equal,
)
from sqlrepo.core.summaries import count_by, load_counts, summarizing
from sqlrepo.core.unit import BaseUnitOfWork, DeclaresRepositories
from sqlrepo.core.views import View
from sqlrepo.driver import Condition, Driver, Fetch, Joinable, Lock, Source
from sqlrepo.errors import (
    ConstraintError,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    UnitStateError,
    UnsupportedError,
)
from sqlrepo.language.fields import OrderBy, reverse_order
from sqlrepo.language.query import QueryObject
from sqlrepo.language.results import CursorPage, Page
from sqlrepo.language.summaries import Summary
from sqlrepo.tables.mapper import Mapper

T = TypeVar("T")
K = TypeVar("K")
R = TypeVar("R")
S = TypeVar("S")
V = TypeVar("V")
G = TypeVar("G", bound=Summary[Any])

# What reads the rest of each row, and builds entities or the views of them.
Reader: TypeAlias = Aggregate | View
Into: TypeAlias = type[Any] | None

# What a stream holds in memory at once.
_ROWS_AT_ONCE = 1_000


class Readable(RepositoryConfig[T], Generic[T, K]):
    """The half of a repository that reads; `BaseRepository` adds the half that writes."""

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

    @overload
    def get(self, id: K, *, into: None = None, lock: Lock | None = None) -> T: ...
    @overload
    def get(self, id: K, *, into: type[S], lock: Lock | None = None) -> S: ...
    def get(self, id: K, *, into: Into = None, lock: Lock | None = None) -> Any:
        """Return the entity with a key.

        Args:
            id: the key; a tuple, in the order of the key columns, for a composite key.
            into: a view to return in place of the entity, as in `find`.
            lock: keeps other units from writing the row until this one ends. If another unit has locked the row
                already, "update" waits, "skip" treats the row as missing and "nowait" raises `LockTimeoutError`. Back
                ends without row locks (capability ``row_locks``: SQLite, memory) accept all three, and are as safe.

        Raises:
            NotFoundError: no row has the key.
            ReadOnlyError: a lock in a read-only unit.
        """
        # An application's own get_or_none may know no `into`.
        found = self.get_or_none(id, lock=lock) if into is None else self.get_or_none(id, into=into, lock=lock)
        if found is None:
            raise NotFoundError(self._mapper.entity, id)
        return found

    @overload
    def get_or_none(self, id: K, *, into: None = None, lock: Lock | None = None) -> T | None: ...
    @overload
    def get_or_none(self, id: K, *, into: type[S], lock: Lock | None = None) -> S | None: ...
    def get_or_none(self, id: K, *, into: Into = None, lock: Lock | None = None) -> Any:
        """Return the entity with a key, or None."""
        where = self._where_key(self._mapper.parse_key(id))
        call = self._begin()
        reader = View(call, into) if into else self._aggregate
        found = self._load(self._fetch(call, Fetch(reader.columns, where, lock=lock), reader), reader)
        return found[0] if found else None

    @overload
    def get_many(self, ids: Iterable[K], *, into: None = None) -> list[T]: ...
    @overload
    def get_many(self, ids: Iterable[K], *, into: type[S]) -> list[S]: ...
    def get_many(self, ids: Iterable[K], *, into: Into = None) -> list[Any]:
        """Return the entities with some keys, in the order of the keys; keys without an entity are skipped."""
        keys = [tuple(self._mapper.parse_key(one).values()) for one in ids]
        call = self._begin()
        reader = View(call, into, self._schema.key) if into else self._aggregate
        requests = [Fetch(reader.columns, condition(chunk)) for chunk in key_chunks(self._mapper, dict.fromkeys(keys))]
        if isinstance(reader, View):
            requests = list(map(reader.extend, requests))

        def work(driver: Driver) -> Found:
            rows = [row for request in requests for row in driver.fetch(self._schema, request)]
            return reader.load(driver, rows)

        found = self._read(call, work)
        places = [reader.columns.index(name) for name in self._schema.key]
        stored = (tuple(row[place] for place in places) for row in found.rows)
        by_key = dict(zip(stored, self._load(found, reader), strict=True))
        return [by_key[key] for key in keys if key in by_key]

    # -- reading by criteria

    @overload
    def one(self, /, *criteria: bool | QueryObject[T], into: None = None, **equals: Any) -> T: ...
    @overload
    def one(self, /, *criteria: bool | QueryObject[T], into: type[S], **equals: Any) -> S: ...
    def one(self, /, *criteria: bool | QueryObject[T], into: Into = NOT_GIVEN, **equals: Any) -> Any:
        """Return the only entity that matches.

        Raises:
            NotFoundError: no entity matches.
            MultipleFoundError: several entities match.
        """
        call = self._begin()
        selection = select(call, criteria, equals)
        found = self._find_only(call, "one", selection, into)
        if found is None:
            raise NotFoundError(self._mapper.entity, str(selection.criterion))
        return found

    @overload
    def one_or_none(self, /, *criteria: bool | QueryObject[T], into: None = None, **equals: Any) -> T | None: ...
    @overload
    def one_or_none(self, /, *criteria: bool | QueryObject[T], into: type[S], **equals: Any) -> S | None: ...
    def one_or_none(self, /, *criteria: bool | QueryObject[T], into: Into = NOT_GIVEN, **equals: Any) -> Any:
        """Return the only entity that matches, or None.

        Raises:
            MultipleFoundError: several entities match.
        """
        call = self._begin()
        return self._find_only(call, "one_or_none", select(call, criteria, equals), into)

    @overload
    def first(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: None = None, **equals: Any
    ) -> T | None: ...
    @overload
    def first(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: type[S], **equals: Any
    ) -> S | None: ...
    def first(
        self,
        /,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = NOT_GIVEN,
        into: Into = NOT_GIVEN,
        **equals: Any,
    ) -> Any:
        """Return the first matching entity in an order, or None."""
        if self._config.ambiguous:
            self._config.refuse_ambiguous("first", order_by=order_by, into=into)
        call = self._begin()
        selection = select(call, criteria, equals, order_by=order_by)
        limit = 1 if selection.limit is None else min(selection.limit, 1)
        reader = View(call, into) if into else self._aggregate
        request = selection.fetch(reader.columns, limit, selection.offset)
        found = self._load(self._fetch(call, request, reader), reader)
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
        into: Into = NOT_GIVEN,
        lock: Lock | None = NOT_GIVEN,
        **equals: Any,
    ) -> list[Any]:
        """Return the entities that match.

        Args:
            criteria: expressions over `fields`, and at most one query object.
            order_by: fields, `asc` or `desc` of them, or ``"-priority,key"``; the key is always appended.
            limit: the largest number of entities to return.
            offset: the number of entities to skip first.
            into: a view: a Pydantic model, dataclass or attrs class with some of the entity's fields, and views of
                related rows, which take one statement for each relation to many. Only what it names is selected.
            lock: as in `get`.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the query is ambiguous or contradictory; a field has the name of an option that is given.
        """
        if self._config.ambiguous:
            self._config.refuse_ambiguous("find", order_by=order_by, limit=limit, offset=offset, into=into, lock=lock)
        call = self._begin()
        selection = select(call, criteria, equals, order_by=order_by, limit=limit, offset=offset)
        lock = None if lock is NOT_GIVEN else lock
        reader = View(call, into) if into else self._aggregate
        request = selection.fetch(reader.columns, selection.limit, selection.offset, lock)
        return self._load(self._fetch(call, request, reader), reader)

    def count(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> int:
        """Count the entities that match; a query object's limit and offset are ignored."""
        call = self._begin()
        where = select(call, criteria, equals).where
        return self._read(call, lambda driver: driver.count(self._schema, where))

    def exists(self, /, *criteria: bool | QueryObject[T], **equals: Any) -> bool:
        """Return True if any entity matches."""
        call = self._begin()
        where = select(call, criteria, equals).where
        return self._read(call, lambda driver: driver.count(self._schema, where, limit=1)) > 0

    @overload
    def stream(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: None = None, **equals: Any
    ) -> Iterator[T]: ...
    @overload
    def stream(
        self, /, *criteria: bool | QueryObject[T], order_by: OrderBy = None, into: type[S], **equals: Any
    ) -> Iterator[S]: ...
    def stream(
        self,
        /,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = NOT_GIVEN,
        into: Into = NOT_GIVEN,
        **equals: Any,
    ) -> Iterator[Any]:
        """Iterate over the entities that match, however many, in chunks of bounded size.

        Each chunk is a statement that begins after the last row of the chunk before, so other statements, savepoints
        and an early ``break`` are safe in between. It is not a snapshot: rows committed by other transactions after the
        current position are included. A query object's limit and offset are ignored.

        Args:
            criteria: expressions over `fields`, and at most one query object.
            order_by: as in `find`.
            into: as in `find`.
            equals: fields and the values they must have; None is NULL.

        Raises:
            QueryError: the query is ambiguous or contradictory; raised by the call, not at the first entity.
        """
        return chain.from_iterable(self.chunks(*criteria, order_by=order_by, into=into, **equals))

    def chunks(
        self,
        /,
        *criteria: bool | QueryObject[T],
        order_by: OrderBy = NOT_GIVEN,
        into: Into = NOT_GIVEN,
        **equals: Any,
    ) -> Iterator[list[Any]]:
        """Iterate as `stream` does, over lists of entities."""
        if self._config.ambiguous:
            self._config.refuse_ambiguous("stream", order_by=order_by, into=into)
        self._mapper.require_key()
        call = self._begin()
        selection = select(call, criteria, equals, order_by=order_by)
        _ = call.scope  # evaluated, as the arguments are checked, before the first chunk is read
        return self._read_chunks(call, selection, View(call, into, selection.names) if into else self._aggregate)

    # -- summaries

    def summarize(
        self,
        summary: type[G],
        /,
        *criteria: bool | QueryObject[T],
        having: QueryObject[G] | None = None,
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[G]:
        """Return the groups of the entities that match, with their measures; without a group key exactly one.

        Sums are exact. An average is a sum divided by a count, rounded half to even, with four digits more than the
        column has after the point.

        Args:
            summary: a `Summary` of this repository's entity class.
            criteria: expressions over `fields`, and at most one query object, whose order and limit are ignored.
            having: the groups to return, as a `QueryObject` of the summary.
            order_by: fields of the summary, as in `find`; the group keys are always appended.
            limit: the largest number of groups to return.
            offset: the number of groups to skip first.

        Raises:
            QueryError: the summary does not fit the repository, or the query is ambiguous or contradictory.
            UnsupportedError: a sum of integers is larger than 64 bits.
        """
        call = self._begin()
        made = summarizing(tuple(call.kinds), summary)
        selection = made.select(having, order_by, limit, offset)
        request = made.request(call, criteria, selection)
        return made.load(self._read(call, lambda driver: driver.group(self._schema, request)), selection)

    def counts(self, field: V, /, *criteria: bool | QueryObject[T]) -> dict[V, int]:
        """Count the entities that match by the values of a field, the smallest value first; None is a value."""
        call = self._begin()
        request = count_by(call, field, criteria)
        return load_counts(field, self._read(call, lambda driver: driver.group(self._schema, request)))

    def distinct(self, field: V, /, *criteria: bool | QueryObject[T]) -> list[V]:
        """Return the different values of a field among the entities that match, in their order; None comes first."""
        return list(self.counts(field, *criteria))

    # -- pages

    @overload
    def page(self, query: QueryObject[T], *, with_total: bool = False, into: None = None) -> Page[T]: ...
    @overload
    def page(self, query: QueryObject[T], *, with_total: bool = False, into: type[S]) -> Page[S]: ...
    def page(self, query: QueryObject[T], *, with_total: bool = False, into: Into = None) -> Page[Any]:
        """Return a page by the query object's limit and offset.

        Args:
            query: must have a limit.
            with_total: True to count all matching entities, with a second statement unless the page is the last one.
            into: a view to return in place of the entity, as in `find`.
        """
        call = self._begin()
        selection = select(call, (query,), {})
        limit = require_limit(query, selection)
        reader = View(call, into) if into else self._aggregate
        request = selection.fetch(reader.columns, limit + 1, selection.offset)
        if isinstance(reader, View):
            request = reader.extend(request)

        def work(driver: Driver) -> tuple[Found, bool, int | None]:
            rows = driver.fetch(self._schema, request)
            more, total = len(rows) > limit, None
            if with_total:
                whole = not more and (rows or not selection.offset)
                total = selection.offset + len(rows) if whole else driver.count(self._schema, selection.where)
            return reader.load(driver, rows[:limit]), more, total

        found, more, total = self._read(call, work)
        return Page(self._load(found, reader), more, total)

    @overload
    def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None, into: None = None
    ) -> CursorPage[T]: ...
    @overload
    def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None, into: type[S]
    ) -> CursorPage[S]: ...
    def scroll(
        self, query: QueryObject[T], *, after: str | None = None, before: str | None = None, into: Into = None
    ) -> CursorPage[Any]:
        """Return a page by position: exact with ties and NULLs, and as cheap at the end as at the beginning.

        Args:
            query: must have a limit, of one row at least, and no offset.
            after: the ``next`` cursor of the page before.
            before: the ``previous`` cursor of the page after.
            into: a view to return in place of the entity, as in `find`.

        Raises:
            QueryError: the query has no limit.
            InvalidLiteralError: the cursor belongs to another query, or both cursors are given; the limit is zero, or
                there is an offset.
        """
        self._mapper.require_key()
        call = self._begin()
        selection = select(call, (query,), {})
        require_position(limit := require_limit(query, selection), selection.offset, after, before)
        backwards, cursor = before is not None, after if before is None else before
        cursors = make_cursor_codec(self._mapper, selection, call.scope.rows, self._work.source.cursor_keys)
        order = reverse_order(selection.order) if backwards else selection.order
        if cursor is not None:
            position = cursors.decode(cursor, "before" if backwards else "after")
            selection = selection.and_also(after_row(self._schema, order, position))
        reader = View(call, into, selection.names) if into else self._aggregate
        request = replace(selection, order=order).fetch(reader.columns, limit + 1)
        if isinstance(reader, View):
            request = reader.extend(request)

        def work(driver: Driver) -> tuple[Found, bool]:
            rows = driver.fetch(self._schema, request)
            return reader.load(driver, rows[:limit][:: -1 if backwards else 1]), len(rows) > limit

        found, more = self._read(call, work)
        rows = found.rows
        ends = [cursors.encode(selection.position(reader.columns, row)) for row in (rows[:1] + rows[-1:])]
        return CursorPage(
            self._load(found, reader),
            next=ends[-1] if rows and (backwards or more) else None,
            previous=ends[0] if rows and (more if backwards else cursor is not None) else None,
        )

    # -- calls

    def _begin(self) -> Call:
        return Call(self, self._mapper)

    def _read(self, call: Call, work: Callable[[Driver], R]) -> R:
        """Run the statements of a reading call; alone and outside ``with``, in a transaction of their own."""
        work = self._scoped(call, work)
        if self._source is None or self._unit.is_open:
            return self._work.run(work)
        unit = BaseUnitOfWork[Any](self._source, read_only=True)
        unit._work.label(self._kind)
        with unit:
            return unit._work.run(work)

    def _write(self, call: Call, work: Callable[[Driver], R]) -> R:
        """Run the statements of a writing call."""
        work = self._scoped(call, work)
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
        except UnsupportedError as error:
            if error.halfway:
                self._work.mark_rollback_only(error)
            raise

    def _scoped(self, call: Call, work: Callable[[Driver], R]) -> Callable[[Driver], R]:
        """Confine statements to the scope of their call."""
        if not (self._config.has_scope or self._aggregate.parts):
            return work
        scope = call.scope
        return lambda driver: work(scope.confine(driver))

    def _stand_alone(self, kind: type[Any]) -> None:
        work = self._unit._work
        work.register_tables(kind, [kind])
        work.require_kept(kind)
        work.label(kind)
        self._source = work.source

    @property
    def _units(self) -> tuple[DeclaresRepositories, ...]:
        """The units whose repositories this one may reach."""
        return (self._unit,)

    @property
    def _kind(self) -> type[Any]:
        """The class that the application has defined."""
        return type(self)

    @property
    def _name(self) -> str:
        return self._kind.__name__

    # -- requests

    def _fetch(self, call: Call, request: Fetch, reader: Reader) -> Found:
        """Read rows, and what belongs to them; a lock makes this a write, which needs a unit that may write."""
        check_lock(request.lock)
        if isinstance(reader, View):
            request = reader.extend(request)
        run = self._read if request.lock is None else self._write
        return run(call, lambda driver: reader.load(driver, driver.fetch(self._schema, request), request.lock))

    def _find_only(self, call: Call, name: str, selection: Selection, into: Into) -> Any:
        if self._config.ambiguous:
            self._config.refuse_ambiguous(name, into=into)
        reader = View(call, into) if into else self._aggregate
        found = self._fetch(call, selection.fetch(reader.columns, 2), reader)
        if len(found.rows) > 1:
            raise MultipleFoundError(self._mapper.entity, str(selection.criterion))
        return self._load(found, reader)[0] if found.rows else None

    def _read_chunks(self, call: Call, selection: Selection, reader: Reader) -> Iterator[list[Any]]:
        rest = selection
        while True:
            found = self._fetch(call, rest.fetch(reader.columns, _ROWS_AT_ONCE), reader)
            yield self._load(found, reader)
            if len(found.rows) < _ROWS_AT_ONCE:
                return
            position = selection.position(reader.columns, found.rows[-1])
            # From the first selection, or each chunk's statement would be longer than the one before.
            rest = selection.and_also(after_row(self._schema, selection.order, position))

    def _where_key(self, values: Mapping[str, Any]) -> Condition:
        return condition(values_equal(self._mapper, values))

    # -- entities and rows

    def _load(self, found: Found, reader: Reader | None = None) -> list[Any]:
        if isinstance(reader, View):
            return reader.build(*found)
        if self._config.custom_load:
            return [self.to_domain(record) for record in self._mapper.to_records(*found)]
        return self._mapper.load(*found)

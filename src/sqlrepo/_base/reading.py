"""The reading half of a repository.

Knows what a question means: what is not found, what comes next. Must not know how rows are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar, get_args, overload

from sqlrepo._base.participant import Participant
from sqlrepo._base.scope import Scope
from sqlrepo._base.selection import Selection, condition, require_position
from sqlrepo.criteria import And, Criterion, OneOf, Or, is_everything
from sqlrepo.driver import Driver, Fetch, Lock, Row
from sqlrepo.errors import MultipleFoundError, NotFoundError, QueryError
from sqlrepo.order import OrderBy, reversed_order
from sqlrepo.order import after as rows_after
from sqlrepo.page import CursorPage, Page, decoded, encoded
from sqlrepo.query import QueryObject
from sqlrepo.schema import Schema

__all__ = ["Reading"]

T = TypeVar("T")
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
        where = condition(self._keyed(self._mapper.key_values(id)))
        rows = self._answer(Fetch(self._mapper.selected, where, lock=lock))
        return self._load(rows)[0] if rows else None

    def get_many(self, ids: Iterable[K]) -> list[T]:
        """Get the entities with these keys, in their order; keys without an entity are passed over."""
        keys = [tuple(self._mapper.key_values(one).values()) for one in ids]
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
            rest = selection.narrowed(rows_after(selection.order, position, self._schema.nullable))

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
        asked = selection.criterion if is_everything(scope.rows) else And((selection.criterion, scope.rows))
        question = f"{self._schema.name}:{self._mapper.printed(asked)}:{','.join(map(str, selection.order))}"
        order = reversed_order(selection.order) if backwards else selection.order
        if cursor is not None:
            position = decoded(question, types, cursor, "before" if backwards else "after")
            selection = selection.narrowed(rows_after(order, position, self._schema.nullable))
        request = Fetch(self._mapper.selected, selection.where, order, limit + 1)
        rows = self._read(lambda driver: driver.fetch(self._schema, request), scope)
        more, rows = len(rows) > limit, rows[:limit]
        rows = rows[::-1] if backwards else rows
        places = [self._mapper.selected.index(sort.ref.name) for sort in selection.order]
        ends = [encoded(question, types, [row[place] for place in places]) for row in (rows[:1] + rows[-1:])]
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

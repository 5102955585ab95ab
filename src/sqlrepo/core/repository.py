"""The repository: every public method once, for every back end; those that read are in `reading`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

from sqlrepo.core.aggregates import Children, Found, in_turn, insert_rows
from sqlrepo.core.definition import names_of
from sqlrepo.core.reading import Readable
from sqlrepo.core.scope import ScopedDriver
from sqlrepo.core.selection import (
    NOT_GIVEN,
    select_targets,
)
from sqlrepo.core.work import raise_error
from sqlrepo.driver import Condition, Driver, Fetch, Missing, Upsert
from sqlrepo.errors import (
    ConstraintError,
    InvalidValueError,
    MappingError,
    NotFoundError,
    QueryError,
    StaleEntityError,
    TransactionConflictError,
)
from sqlrepo.language.entities import read_changes
from sqlrepo.language.results import Upserted
from sqlrepo.tables.schema import Row

T = TypeVar("T")
K = TypeVar("K")
R = TypeVar("R")


class BaseRepository(Readable[T, K], Generic[T, K]):
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
        call, children = self._begin(), [each for _, each in dumped]
        call.scope.check_new(rows)

        def work(driver: Driver) -> Found:
            return self._aggregate.complete(driver, insert_rows(driver, self._mapper, rows), children)

        return self._load_written(self._write(call, work))

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
        values, children = self._mapper.check_assigned(values), self._aggregate.dump_assigned(parts)
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
        call = self._begin()
        call.scope.check_changes(changes)
        refused = self._mapper.find_given_number(row) or call.scope.find_violation(row)

        def work(driver: Driver) -> Found | Exception:
            if found := self._apply(driver, key, changes, version, counted=bool(children), absent=refused or row):
                return self._aggregate.replace(driver, found[0], children)
            if self._exists(driver, key):
                return self._missing(key, version, exists=True)
            if refused:
                return refused
            stored = insert_rows(driver, self._mapper, [row])
            return self._aggregate.complete(driver, stored, [children], again=True)

        stored = self._write(call, work)
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
        if not self._write(self._begin(), lambda driver: self._aggregate.delete(driver, where)):
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

        count, exists = self._write(self._begin(), work)
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
        call = self._begin()
        where = select_targets(call, criteria, equals, everything=everything)
        values = self._mapper.check_assigned(read_changes(set_))
        if self._schema.version in values:
            raise QueryError(
                f"{self._mapper.field(self._schema.version)} is the version, which every write sets; leave it out"
            )
        if not values:
            raise QueryError("update_where sets nothing; name at least one field")
        row = self._complete(lambda: self._mapper.complete_update(values, explicit=True))
        if not call.scope.check_changes(row):
            raise QueryError("the scope depends on fields that set_ does not name; patch the entities one by one")
        return self._write(call, lambda driver: driver.update(self._schema, tuple(row), tuple(row.values()), where))

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
        call = self._begin()
        where = select_targets(call, criteria, equals, everything=everything)
        return self._write(call, lambda driver: self._aggregate.delete(driver, where))

    # -- entities and rows

    def _complete(self, complete: Callable[[], R]) -> R:
        """Complete values before they are sent; a violation found here aborts the transaction as a statement's does."""
        try:
            return complete()
        except ConstraintError as error:
            self._write(self._begin(), partial(raise_error, error))
            raise

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
        self._mapper.check_given(entity, children)
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
        call = self._begin()
        call.scope.check_changes(changes)

        def work(driver: Driver) -> Found | bool:
            if rows := self._apply(driver, key, changes, version, counted=bool(children)):
                return self._aggregate.replace(driver, rows[0], children)
            return bool(version) and self._exists(driver, key)

        found = self._write(call, work)
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
        call = self._begin()
        call.scope.check_new(request.row for request in requests)
        last = {request.conflict_values or index: index for index, request in enumerate(requests)}

        def send(driver: Driver, index: int) -> tuple[Found, bool]:
            row, created = self._send_upsert(driver, requests[index])
            if created:
                return self._aggregate.complete(driver, [row], [dumped[index][1]], again=True), True
            given = {name: one for name, one in dumped[index][1].items() if names is None or name in names}
            if given and not requests[index].changes:
                key = self._mapper.parse_key(self._mapper.key_of(row))
                [row] = self._apply(driver, key, {}, {}, counted=True)
            return self._aggregate.replace(driver, row, given), False

        def work(driver: Driver) -> tuple[Found, list[bool]]:
            order = sorted(last.values(), key=lambda index: repr(requests[index].conflict_values))
            stored = dict(zip(order, in_turn(partial(send, driver), order), strict=True))
            each = [stored[last[request.conflict_values or index]] for index, request in enumerate(requests)]
            parts = [one for found, _ in each for one in found.parts]
            return Found([found.rows[0] for found, _ in each], parts), [created for _, created in each]

        return self._write(call, work)

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

"""The writing half of a repository.

Knows what a write means: which columns it touches, which row it is about, what it says when there is none. Must not
know how rows are found by criteria.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sqlrepo._base.participant import Participant
from sqlrepo._base.scope import read_back
from sqlrepo._base.selection import Selection, condition
from sqlrepo.criteria import is_everything
from sqlrepo.driver import Driver, Fetch, Row
from sqlrepo.entities import set_fields
from sqlrepo.errors import InvalidValueError, MappingError, NotFoundError, QueryError, StaleEntityError
from sqlrepo.query import QueryObject

__all__ = ["Writing"]

T = TypeVar("T")
K = TypeVar("K")


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
        rows = self._foreseen(lambda: [self._mapper.inserted(value) for value in values])
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
        values = self._assigned(set_fields(changes))
        expected = values.pop(self._schema.version or "", None)
        row = self._foreseen(lambda: self._mapper.updated(values, explicit=True)) if values else {}
        return self._changed(self._mapper.key_values(id), row, expected)

    def save(self, entity: T) -> T:
        """Insert an entity, or write it over its row where there is one; atomic."""
        values = self._dump(entity)
        identity = self._identity(values)
        if None in identity.values():
            return self.add(entity)
        row = self._foreseen(lambda: self._mapper.inserted(values))
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
        values = self._assigned(set_fields(set_))
        if self._schema.version in values:
            raise QueryError("the version counts itself; it cannot be set")
        if not values:
            raise QueryError("set_ names no field")
        row = self._foreseen(lambda: self._mapper.updated(values, explicit=True))
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
        if is_everything(selection.criterion) is not everything:
            raise QueryError(
                "everything=True contradicts the criteria"
                if everything
                else "no criterion was given; say everything=True if all rows are meant"
            )
        return selection

    def _dump(self, entity: T) -> dict[str, Any]:
        return self._mapper.dump(self.to_row(entity))

    def _assigned(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Check assignments to fields, by column."""
        columns = {self._mapper.column(name): value for name, value in values.items()}
        for column in columns:
            if column.name in self._schema.key or column.computed:
                raise QueryError(f"{self._mapper.field(column.name)} is part of the key or computed; it cannot be set")
        return {column.name: self._mapper.assigned(column, value) for column, value in columns.items()}

    def _changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a full update writes: all but what identifies the row."""
        fixed = {*self.definition().identity, *self._schema.key}
        changes = {name: value for name, value in values.items() if name not in fixed}
        return self._foreseen(lambda: self._mapper.updated(changes, explicit=False))

    def _waits(self, name: str, value: Any) -> bool:
        """Whether a None stands for "the default fires", which is nothing to write over a row that exists."""
        column = self._schema.by_name[name]
        return value is None and not column.nullable and column.fills_itself

    def _identity(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that tell an entity's row; None where they are not known yet."""
        columns = self.definition().identity
        if missing := [name for name in columns if name not in values and not self._mapper.has_field(name)]:
            raise MappingError(
                f"{self._mapper.entity.__name__} has no {', '.join(missing)}, so it tells no row; declare `identity`, "
                "the fields of a unique constraint"
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
            self._unit.doom(error)
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

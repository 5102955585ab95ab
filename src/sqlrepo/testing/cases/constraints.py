"""What the table refuses, and what the error says about it."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from sqlrepo import (
    BaseRepository,
    InvalidValueError,
    NotNullViolationError,
    RepositoryError,
    UniqueViolationError,
)
from sqlrepo.testing.clause import clause
from sqlrepo.testing.places import Place
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


class ConstraintCases(Cases[T, K]):
    """Section 8."""

    @clause("8.1")
    def test_unique_is_enforced_on_add(self, subject: Subject[T, K]) -> None:
        """Add an entity that agrees with a stored one in each unique constraint."""
        [stored] = subject.store(subject.make(1))
        for name, fields in self._uniques(subject, stored):
            double = subject.copied(subject.harness.make(2), {field: getattr(stored, field) for field in fields})
            with subject.open() as repository:
                with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                    repository.add(double)
                assert (caught.value.constraint, caught.value.fields) == (name, fields)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("8.2")
    def test_key_is_unique(self, subject: Subject[T, K]) -> None:
        """Add an entity with the key of a stored one."""
        [stored] = subject.store(subject.make(1))
        subject.key(stored)
        fields = tuple(map(subject.mapper.field, subject.schema.key))
        double = subject.copied(subject.harness.make(2), {field: getattr(stored, field) for field in fields})
        with subject.open() as repository:
            with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                repository.add(double)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
        assert (caught.value.constraint, caught.value.fields) == (subject.schema.key_name, fields)

    @clause("8.3")
    def test_unique_is_enforced_on_change(self, subject: Subject[T, K]) -> None:
        """Give one row the values of another, by update and by update_where; its own values are no violation."""
        stored = subject.store(subject.make(2))
        for name, fields in self._uniques(subject, stored[0]):
            taken = {field: getattr(stored[0], field) for field in fields}
            with subject.open() as repository:
                with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                    repository.update_where(subject.is_(stored[1]), set_=taken)
                assert (caught.value.constraint, caught.value.fields) == (name, fields)
                if not set(fields) & set(subject.identity):
                    with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                        repository.update(subject.copied(stored[1], taken))
                    assert (caught.value.constraint, caught.value.fields) == (name, fields)
                assert repository.update_where(subject.is_(stored[0]), set_=taken) == 1

    @clause("8.4")
    def test_nulls_are_never_equal(self, subject: Subject[T, K]) -> None:
        """Add several entities with None in a unique constraint."""
        optional = {place.name for place in subject.places if place.optional}
        found = [(fields, set(fields) & optional) for _, fields in subject.uniques() if set(fields) & optional]
        if not found:
            subject.lacks("no unique constraint over a field that may be None")
        one, *others = subject.make(3)
        for fields, empty in found:
            shared = {field: None if field in empty else getattr(one, field) for field in fields}
            with subject.open() as repository:
                repository.add_many([subject.copied(entity, shared) for entity in (one, *others)])
                assert repository.count() == 3
                repository.unit.rollback()

    @clause("8.5")
    def test_freed_values_can_be_used_again(self, subject: Subject[T, K]) -> None:
        """Remove an entity and add another with its unique values, in one unit."""
        [stored] = subject.store(subject.make(1))
        double = subject.clash(subject.harness.make(2), stored)
        with subject.open() as repository:
            repository.remove(stored)
            added = repository.add(double)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([added])

    @clause("8.6")
    def test_batch_is_stored_whole_or_not_at_all(self, subject: Subject[T, K]) -> None:
        """Add several entities, the last of which is refused."""
        [stored] = subject.store(subject.make(1))
        batch = [*subject.make(3, start=2), subject.clash(subject.harness.make(5), stored)]
        with subject.open() as repository:
            with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                repository.add_many(batch)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("8.7")
    def test_none_is_refused_where_a_value_is_needed(self, subject: Subject[T, K]) -> None:
        """Set every such field to None, on a new row and on a stored one."""
        needed = [place for place in self._settable(subject) if not place.column.nullable]
        if not needed:
            subject.lacks("no field besides its key that must have a value")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for place in needed:
                self._refused(repository, subject.is_(stored), place, None, NotNullViolationError)
                if not place.column.fills_itself:
                    double = subject.copied(subject.harness.make(2), {place.name: None})
                    with pytest.raises(NotNullViolationError) as caught, repository.unit.savepoint():
                        repository.add(double)
                    assert caught.value.fields == (place.name,)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.8")
    def test_too_long_text_is_refused(self, subject: Subject[T, K]) -> None:
        """Give every text field of limited length one character too many, and as many as it holds."""
        limited = [place for place in self._settable(subject) if place.kind == "str" and place.column.type.length]
        limited = [place for place in limited if place.plain and place.column.type.labels is None]
        if not limited:
            subject.lacks("no text field of limited length besides its key")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for place in limited:
                longest = "é" * place.column.type.length
                self._refused(repository, subject.is_(stored), place, longest + "é")
                assert repository.update_where(subject.is_(stored), set_={place.name: longest}) == 1
                if place.name not in subject.identity:
                    assert repository.count(subject.field(place) == longest) == 1
                repository.unit.rollback()

    @clause("8.9")
    def test_number_out_of_range_is_refused(self, subject: Subject[T, K]) -> None:
        """Give every integer field a number beyond what its column holds."""
        limited = [place for place in self._settable(subject) if place.kind == "int" and place.column.type.high]
        if not limited:
            subject.lacks("no integer field besides its key and version")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for place in limited:
                for wrong in (place.column.type.low - 1, place.column.type.high + 1):
                    self._refused(repository, subject.is_(stored), place, wrong)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.10")
    def test_value_that_cannot_be_held_is_refused(self, subject: Subject[T, K]) -> None:
        """Give fields what they cannot hold; a text, the character NUL and half a surrogate pair."""
        places = [place for place in self._settable(subject) if place.plain]
        if not places:
            subject.lacks("no field besides its key that is stored as it is")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for place in places:
                text = place.kind == "str"
                for value in (object(), b"0" if text else "0", *(("a\0b", "\ud800") if text else ())):
                    self._refused(repository, subject.is_(stored), place, value)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.11")
    def test_rows_of_one_unit_are_held_to_uniques(self, subject: Subject[T, K]) -> None:
        """Add entities that agree in a unique constraint: in one call, and in two calls of one unit."""
        one, other = subject.make(2)
        stored = subject.store(subject.make(1, start=3))[0]
        pairs = [
            (name, fields, subject.copied(other, {field: getattr(one, field) for field in fields}))
            for name, fields in self._uniques(subject, stored)
            if None not in [getattr(one, field) for field in fields]
        ]
        for name, fields, double in pairs:
            with subject.open() as repository:
                with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                    repository.add_many([one, double])
                assert (caught.value.constraint, caught.value.fields) == (name, fields)
                repository.add(one)
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    repository.add(double)
                assert repository.count() == 2
                repository.unit.rollback()

    def _uniques(self, subject: Subject[T, K], stored: T) -> list[tuple[str | None, tuple[str, ...]]]:
        """The unique constraints in which an entity could agree with another."""
        found = [one for one in subject.uniques() if None not in [getattr(stored, field) for field in one[1]]]
        return found or subject.lacks("no unique constraint besides its key")

    def _settable(self, subject: Subject[T, K]) -> list[Place]:
        """The fields that a set form may set."""
        referring = {name for one in subject.schema.foreign_keys for name in one.columns}
        fixed = {*subject.schema.key, *referring, subject.schema.version}
        return [place for place in subject.places if not (place.column.name in fixed or place.column.computed)]

    def _refused(
        self,
        repository: BaseRepository[T, K],
        target: bool,
        place: Place,
        value: Any,
        error: type[RepositoryError] = InvalidValueError,
    ) -> None:
        """Try to set a field of a row, in a savepoint."""
        with pytest.raises(error) as caught, repository.unit.savepoint():
            repository.update_where(target, set_={place.name: value})
        named = getattr(caught.value, "field", None) or getattr(caught.value, "fields", None)
        assert named in (place.name, (place.name,))

"""Writing: what is stored, what is left alone, and how many rows a call says it changed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

import pytest
from pydantic import create_model

from sqlrepo import (
    BaseRepository,
    CheckViolationError,
    ForeignKeyViolationError,
    InvalidValueError,
    NotFoundError,
    NotNullViolationError,
    QueryError,
    RepositoryError,
    StaleEntityError,
    UniqueViolationError,
    not_,
)
from sqlrepo.testing.harness import clause
from sqlrepo.testing.subject import Cases, Place, Subject

T = TypeVar("T")
K = TypeVar("K")


class UpsertCases(Cases[T, K]):
    """The upserts of section 6, and of section 9."""

    @clause("6.17")
    def test_upsert_inserts_or_writes_over(self, subject: Subject[T, K]) -> None:
        """Upsert an entity that is new, and again after a change, beside another row."""
        on = subject.agreeing()
        with subject.open() as repository:
            [other] = repository.add_many(subject.make(1, start=2))
            first = repository.upsert(subject.harness.make(1), on)
            second = repository.upsert(subject.change(first.entity), on)
        assert (first.created, second.created) == (True, False)
        subject.check_kept(first.entity, subject.harness.make(1))
        subject.check_kept(second.entity, subject.change(first.entity))
        assert subject.identities([second.entity]) == subject.identities([first.entity])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([other, second.entity])

    @clause("6.18")
    def test_upsert_writes_only_what_it_is_told(self, subject: Subject[T, K]) -> None:
        """Upsert with one field to be written, and with none."""
        on, place = subject.agreeing(), subject.free()
        low, high = place.values[0], place.values[-1]
        [stored] = subject.spread(place, [low])
        changed = subject.copied(subject.change(stored), {place.name: high})
        with subject.open() as repository:
            nothing = repository.upsert(changed, on, update=())
            assert subject.seen(nothing.entity) == subject.seen(stored)
            one = repository.upsert(changed, on, update=[place.name])
        assert (nothing.created, one.created) == (False, False)
        subject.check_kept(one.entity, subject.copied(stored, {place.name: high}))
        assert subject.seen(subject.all()) == subject.seen([one.entity])

    @clause("6.19")
    def test_upsert_many_keeps_the_order(self, subject: Subject[T, K]) -> None:
        """Upsert several entities, some of which are there, and one of them twice."""
        on = subject.agreeing()
        [there] = subject.store(subject.make(1, start=2))
        made = [subject.harness.make(3), subject.change(there), subject.harness.make(1)]
        with subject.open() as repository:
            stored = repository.upsert_many([there, *made], on)
            assert repository.upsert_many([], on) == []
        assert subject.seen(stored[0]) == subject.seen(stored[2])
        for entity, given in zip(stored[1:], made, strict=True):
            subject.check_kept(entity, given)
        assert subject.in_any_order(subject.all()) == subject.in_any_order(stored[1:])

    @clause("6.20")
    def test_upsert_wants_a_unique_constraint(self, subject: Subject[T, K]) -> None:
        """Upsert on a field that several rows may agree in."""
        place = subject.free()
        with subject.open() as repository:
            for wrong in (place.name, (), "no_such_field"):
                with pytest.raises(QueryError):
                    repository.upsert(subject.harness.make(1), wrong)
            assert repository.count() == 0

    @clause("8.12")
    def test_upsert_is_held_to_other_constraints(self, subject: Subject[T, K]) -> None:
        """Upsert by one unique constraint what another row's values of a second one stand against."""
        on = subject.agreeing()
        other, stored = subject.harness.make(2), subject.store(subject.make(1))[0]
        others = [one for one in subject.uniques() if set(one[1]) != set(on) and not {*one[1]} & {*on}]
        others = [one for one in others if None not in [getattr(stored, field) for field in one[1]]]
        if not others:
            subject.lacks("no second unique constraint")
        for name, fields in others:
            clash = subject.copied(other, {field: getattr(stored, field) for field in fields})
            with subject.open() as repository:
                with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                    repository.upsert(clash, on)
                assert (caught.value.constraint, caught.value.fields) == (name, fields)
                assert subject.seen(repository.find()) == subject.seen([stored])

    @clause("9.6")
    def test_upsert_counts_but_does_not_compare(self, subject: Subject[T, K]) -> None:
        """Upsert an entity whose row has been written since."""
        on, name = subject.agreeing(), subject.version().name
        [old] = subject.store(subject.make(1))
        new = subject.run(lambda repository: repository.update(subject.change(old)))
        upserted = subject.run(lambda repository: repository.upsert(subject.change(old), on))
        assert not upserted.created
        assert getattr(upserted.entity, name) == getattr(new, name) + 1


def _spoil(subject: Subject[T, Any], entity: T) -> None:
    """Change an entity in place, whether or not its class allows it."""
    for name, value in _values(subject, subject.change(entity)).items():
        object.__setattr__(entity, name, value)


def _values(subject: Subject[T, Any], entity: T) -> dict[str, Any]:
    return {place.name: getattr(entity, place.name) for place in subject.places}


class ValueCases(Cases[T, K]):
    """Section 7."""

    @clause("7.1")
    def test_arguments_stay_as_they_are(self, subject: Subject[T, K]) -> None:
        """Write entities in every way, and look at them afterwards."""
        made = subject.make(3)
        with subject.open() as repository:
            self._unchanged(subject, repository.add, made[0])
            [stored] = repository.add_many([made[1]])
            if not subject.tells_rows:
                return
            self._unchanged(subject, repository.save, made[2])
            self._unchanged(subject, repository.update, subject.change(stored))
            self._unchanged(subject, repository.remove, repository.one(subject.is_(stored)))

    @clause("7.2")
    def test_argument_is_not_what_is_stored(self, subject: Subject[T, K]) -> None:
        """Change an entity after it was added, and after it was updated."""
        made = subject.harness.make(1)
        with subject.open() as repository:
            stored = copy.deepcopy(repository.add(made))
            _spoil(subject, made)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
            changed = subject.change(stored)
            updated = copy.deepcopy(repository.update(changed))
            _spoil(subject, changed)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([updated])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([updated])

    @clause("7.3")
    def test_result_is_not_what_is_stored(self, subject: Subject[T, K]) -> None:
        """Change what add, find and one gave."""
        with subject.open() as repository:
            result = repository.add(subject.harness.make(1))
            stored = copy.deepcopy(result)
            for number in range(3):
                _spoil(subject, [result, repository.one(), repository.find()[0]][number])
                assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("7.4")
    def test_reading_twice_gives_two_objects(self, subject: Subject[T, K]) -> None:
        """Read the same row twice in one unit."""
        subject.store(subject.make(1))

        def read(repository: BaseRepository[T, K]) -> tuple[T, T]:
            return repository.one(), repository.one()

        first, second = subject.run(read)
        assert first is not second
        assert subject.seen(first) == subject.seen(second)

    def _unchanged(self, subject: Subject[T, K], call: Callable[[T], object], entity: T) -> None:
        before = copy.deepcopy(_values(subject, entity))
        call(entity)
        assert _values(subject, entity) == before


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
                if not set(fields) & set(subject.natural_key):
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
                if place.name not in subject.natural_key:
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


# Of values that no row is likely to have, one for each kind that keys are made of.
_MISSING: Mapping[str, Callable[[Place], Any]] = {
    "int": lambda place: place.column.type.high or 2**31 - 1,
    "str": lambda place: "~" * min(place.column.type.length or 9, 9),
    "UUID": lambda _: UUID(int=2**128 - 1),
}

# How far from its number a value is that makes a comparison false.
_BEYOND: Mapping[str, int] = {">": 0, ">=": -1, "<": 0, "<=": 1, "!=": 0, "==": 1}


class ReferenceCases(Cases[T, K]):
    """The rest of section 8."""

    @clause("8.13")
    def test_row_refers_to_one_that_is_there(self, subject: Subject[T, K]) -> None:
        """Refer to a row that is not there, in a new row and in a stored one."""
        found = list(_referring(subject))
        if not found:
            subject.lacks("no field that refers to another row")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for name, place in found:
                expected = (name, (place.name,)) if subject.capabilities.fk_error_details else (None, ())
                for write in _writes(subject, repository, stored, place, _MISSING[place.kind](place)):
                    with pytest.raises(ForeignKeyViolationError) as caught, repository.unit.savepoint():
                        write()
                    assert (caught.value.constraint, caught.value.fields) == expected
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.14")
    def test_check_is_enforced(self, subject: Subject[T, K]) -> None:
        """Give a number beyond what a check compares it with, in a new row and in a stored one."""
        found = list(_checked(subject))
        if not found:
            subject.lacks("no field whose number a check compares with another")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for names, place, wrong in found:
                for write in _writes(subject, repository, stored, place, wrong):
                    with pytest.raises(CheckViolationError) as caught, repository.unit.savepoint():
                        write()
                    assert caught.value.constraint in names
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.15")
    def test_rows_of_one_call_refer_to_each_other(self, subject: Subject[T, K]) -> None:
        """Add a row together with the one it refers to, which comes after it."""
        place = _of_itself(subject)
        name = subject.mapper.field(subject.schema.key[0])
        made, keys = subject.make(2), [subject.key(one) for one in subject.store(subject.make(2))]
        subject.run(lambda repository: repository.delete_where(everything=True))
        first = subject.copied(made[0], {name: keys[0], place.name: keys[1]})
        second = subject.copied(made[1], {name: keys[1]})
        with subject.open() as repository:
            if subject.capabilities.references_at_end:
                assert len(repository.add_many([first, second])) == 2
            else:
                with pytest.raises(ForeignKeyViolationError), repository.unit.savepoint():
                    repository.add_many([first, second])
                assert len(repository.add_many([second, first])) == 2


def _of_itself(subject: Subject[T, K]) -> Place:
    """A field that refers to the key of another row of its own table."""
    schema = subject.schema
    key = tuple(schema.by_name[name].column for name in schema.key)
    own = {one.columns for one in schema.foreign_keys if (one.table, one.targets) == (schema.place, key)}
    found = (place for _, place in _referring(subject) if (place.column.name,) in own)
    return next(found, None) or subject.lacks("no field that refers to the key of its own table")


def _writes(
    subject: Subject[T, K], repository: BaseRepository[T, K], stored: T, place: Place, value: Any
) -> Iterator[Callable[[], object]]:
    """The ways to write a value."""
    double = subject.copied(subject.harness.make(2), {place.name: value})
    yield lambda: repository.add(double)
    if subject.tells_rows and place.column.name not in subject.schema.key:
        yield lambda: repository.update_where(subject.is_(stored), set_={place.name: value})


def _referring(subject: Subject[T, K]) -> Iterator[tuple[str | None, Place]]:
    """The foreign keys of one field each, which are looked at at once."""
    checked = {name for check in subject.schema.checks for name in _compared(check)}
    for one in subject.schema.foreign_keys:
        place = subject.place(one.columns[0])
        alone = len(one.columns) == 1 and not one.deferred and one.columns[0] not in checked
        if place is not None and alone and place.plain and place.kind in _MISSING:
            yield one.name, place


def _checked(subject: Subject[T, K]) -> Iterator[tuple[set[str | None], Place, int]]:
    """The fields whose number is compared by a check, all such checks, and a number that one of them refuses."""
    for check in subject.schema.checks:
        for name in _compared(check):
            place = subject.place(name)
            if place is None or place.fixed or place.kind != "int":
                continue
            wrong = check.criterion.value + _BEYOND[check.criterion.op]
            if _accepts(place, wrong):
                yield {one.name for one in subject.schema.checks if name in _compared(one)}, place, wrong


def _compared(check: Any) -> tuple[str, ...]:
    """The column that a check compares with a value, if that is all it does."""
    plain = hasattr(check.criterion, "op") and hasattr(check.criterion, "value")
    return (check.criterion.ref.name,) if plain else ()


def _accepts(place: Place, value: int) -> bool:
    """Whether the entity, and the column's type, would take a value, so that the check is what refuses it."""
    try:
        place.column.check(value)
        place.spec.accept(value)
    except ValueError:
        return False
    return True


def _outdated(subject: Subject[T, K]) -> tuple[T, T]:
    """Commit an entity and a change of it; give it as it was, and as it is."""
    subject.version()
    [old] = subject.store(subject.make(1))
    return old, subject.run(lambda repository: repository.update(subject.change(old)))


class VersionCases(Cases[T, K]):
    """Section 9."""

    @clause("9.1")
    def test_every_write_counts(self, subject: Subject[T, K]) -> None:
        """Write a row in every way; the caller's own number is not taken over."""
        name = subject.version().name
        place = subject.free()
        [stored] = subject.store(subject.make(1))
        versions = [getattr(stored, name)]

        def noted(entity: T) -> None:
            assert subject.in_any_order(subject.all()) == subject.in_any_order([entity])
            versions.append(getattr(entity, name))

        noted(subject.run(lambda repository: repository.update(stored)))
        noted(subject.run(lambda repository: repository.save(subject.all()[0])))
        subject.run(lambda repository: repository.update_where(subject.is_(stored), set_={place.name: place.values[0]}))
        noted(subject.all()[0])
        if subject.mapper.has_key:
            changes = {place.name: place.values[-1]}
            noted(subject.run(lambda repository: repository.patch(subject.key(stored), changes)))
        assert versions == list(range(versions[0], versions[0] + len(versions)))

    @clause("9.2")
    def test_outdated_entity_is_not_written(self, subject: Subject[T, K]) -> None:
        """Update, save and remove what somebody else has written since; the unit goes on."""
        old, new = _outdated(subject)
        with subject.open() as repository:
            for call in (repository.update, repository.save, repository.remove):
                with pytest.raises(StaleEntityError) as caught:
                    call(old)
                assert caught.value.entity is subject.entity
                assert caught.value.version == getattr(old, subject.version().name)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([new])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([new])

    @clause("9.3")
    def test_patch_compares_the_version_it_is_given(self, subject: Subject[T, K]) -> None:
        """Patch with the old version, with the new one, and without."""
        name, place = subject.version().name, subject.free()
        old, new = _outdated(subject)
        key, change = subject.key(old), {place.name: place.values[0]}
        with subject.open() as repository:
            with pytest.raises(StaleEntityError):
                repository.patch(key, {**change, name: getattr(old, name)})
            assert subject.seen(repository.get(key)) == subject.seen(new)
            patched = repository.patch(key, {**change, name: getattr(new, name)})
            assert getattr(repository.patch(key, change), name) > getattr(patched, name) > getattr(new, name)

    @clause("9.4")
    def test_delete_and_set_forms_do_not_compare(self, subject: Subject[T, K]) -> None:
        """Set and delete by criteria that hold no version."""
        place = subject.free()
        old, _ = _outdated(subject)
        with subject.open() as repository:
            assert repository.update_where(subject.is_(old), set_={place.name: place.values[0]}) == 1
            assert repository.delete_where(subject.is_(old)) == 1
        assert subject.all() == []

    @clause("9.5")
    def test_writer_between_reading_and_writing_is_noticed(self, subject: Subject[T, K]) -> None:
        """Read in one unit, write in a second one, and write what was read in a third."""
        subject.version()
        subject.store(subject.make(1))

        def read(repository: BaseRepository[T, K]) -> T:
            return repository.one()

        first, second = subject.run(read), subject.run(read)
        written = subject.run(lambda repository: repository.update(subject.change(first)))
        with pytest.raises(StaleEntityError), subject.open() as repository:
            repository.update(second)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([written])


class WritingCases(Cases[T, K]):
    """Section 6."""

    @clause("6.1")
    def test_add_gives_what_is_stored(self, subject: Subject[T, K]) -> None:
        """Add an entity, and compare the argument, the result and what is read back."""
        made = subject.harness.make(1)
        with subject.open() as repository:
            stored = repository.add(made)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
        subject.check_kept(stored, made)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("6.2")
    def test_add_many_keeps_the_order(self, subject: Subject[T, K]) -> None:
        """Add several entities, backwards."""
        made = subject.make(5)[::-1]
        with subject.open() as repository:
            stored = repository.add_many(made)
            assert repository.add_many([]) == []
        assert len(stored) == len(made)
        for entity, given in zip(stored, made, strict=True):
            subject.check_kept(entity, given)
        found = subject.all()
        assert len(found) == 5
        assert all(subject.seen(entity) in subject.seen(found) for entity in stored)

    @clause("6.3")
    def test_generated_keys_differ(self, subject: Subject[T, K]) -> None:
        """Add entities without a key, at once and one after another."""
        made = self._keyless(subject)
        stored = subject.store(made[:3]) + [one for entity in made[3:] for one in subject.store([entity])]
        keys = [subject.key(entity) for entity in stored]
        assert len(set(keys)) == len(keys)
        assert None not in keys

    @clause("6.4")
    def test_deleted_keys_come_again_only_where_declared(self, subject: Subject[T, K]) -> None:
        """Delete the newest row and add another one, which must not be taken for it."""
        one, other = self._keyless(subject)[:2]
        [stored] = subject.store([one])
        subject.run(lambda repository: repository.remove(stored))
        [again] = subject.store([other])
        if subject.capabilities.fresh_keys:
            assert subject.key(again) != subject.key(stored)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([again])

    @clause("6.5")
    def test_given_key_is_kept(self, subject: Subject[T, K]) -> None:
        """Add an entity with a key of the caller's where keys are generated; later ones do not collide."""
        one, two, three = self._keyless(subject)[:3]
        name = subject.mapper.field(cast(str, subject.schema.generated))
        [first] = subject.store([one])
        wanted = getattr(first, name) + 5
        [given] = subject.store([subject.copied(two, {name: wanted})])
        [later] = subject.store([three])
        assert getattr(given, name) == wanted
        assert len({getattr(entity, name) for entity in (first, given, later)}) == 3

    @clause("6.6")
    def test_update_writes_the_whole_entity(self, subject: Subject[T, K]) -> None:
        """Update one of three entities."""
        stored = subject.store(subject.make(3))
        changed = subject.change(stored[1])
        with subject.open() as repository:
            result = repository.update(changed)
            assert subject.seen(repository.one(subject.is_(changed))) == subject.seen(result)
        subject.check_kept(result, changed)
        assert subject.seen(_like(subject, stored)) == subject.seen([stored[0], result, stored[2]])

    @clause("6.7")
    def test_writing_what_is_gone_is_not_found(self, subject: Subject[T, K]) -> None:
        """Update and remove an entity whose row is gone; nothing appears."""
        gone = subject.gone()
        with subject.open() as repository:
            for call in (repository.update, repository.remove):
                with pytest.raises(NotFoundError) as caught:
                    call(gone)
                assert caught.value.entity is subject.entity
            assert repository.find() == []

    @clause("6.7")
    def test_key_that_is_gone_is_not_found(self, subject: Subject[T, K]) -> None:
        """Patch and delete by the key of a row that is gone."""
        gone = subject.gone()
        key, place = subject.key(gone), subject.free()
        with subject.open() as repository:
            with pytest.raises(NotFoundError) as caught:
                repository.patch(key, {place.name: place.values[0]})
            with pytest.raises(NotFoundError):
                repository.delete(key)
            assert repository.find() == []
        assert (caught.value.entity, caught.value.key) == (subject.entity, key)

    @clause("6.8")
    def test_patch_writes_only_what_is_given(self, subject: Subject[T, K]) -> None:
        """Patch one field by a mapping and by a partial model."""
        place = subject.free()
        low, high = place.values[0], place.values[-1]
        stored = subject.spread(place, [low, low])
        key = subject.key(stored[1])
        model = create_model("Changes", **cast(Any, {place.name: (Any, None), "left_out": (int, 1)}))
        for value, changes in ((high, {place.name: high}), (low, model(**{place.name: low}))):
            with subject.open() as repository:
                result = repository.patch(key, changes)
                assert subject.seen(repository.get(key)) == subject.seen(result)
            assert getattr(result, place.name) == value
            subject.check_kept(result, subject.copied(stored[1], {place.name: value}))
        other = subject.run(lambda repository: repository.one(subject.is_(stored[0])))
        assert subject.seen(other) == subject.seen(stored[0])

    @clause("6.9")
    def test_patch_with_none_clears(self, subject: Subject[T, K]) -> None:
        """Patch a field to None, explicitly."""
        place = subject.optional()
        [stored] = subject.spread(place, [place.values[0]])
        result = subject.run(lambda repository: repository.patch(subject.key(stored), {place.name: None}))
        assert getattr(result, place.name) is None
        assert subject.in_any_order(subject.all()) == subject.in_any_order([result])

    @clause("6.10")
    def test_save_inserts_or_updates(self, subject: Subject[T, K]) -> None:
        """Save an entity that is new, and again after a change."""
        if not subject.tells_rows:
            subject.lacks("neither its key nor a `natural_key` in its place")
        with subject.open() as repository:
            stored = repository.save(subject.harness.make(1))
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
            result = repository.save(subject.change(stored))
        assert subject.in_any_order(subject.all()) == subject.in_any_order([result])
        subject.check_kept(result, subject.change(stored))

    @clause("6.11")
    def test_delete_deletes_one_row(self, subject: Subject[T, K]) -> None:
        """Delete one of three entities by key."""
        stored = subject.store(subject.make(3))
        key = subject.key(stored[1])
        with subject.open() as repository:
            repository.delete(key)
            assert repository.get_or_none(key) is None
        assert subject.seen(_like(subject, stored)) == subject.seen([stored[0], stored[2]])

    @clause("6.11")
    def test_remove_deletes_one_row(self, subject: Subject[T, K]) -> None:
        """Remove one of three entities."""
        stored = subject.store(subject.make(3))
        missing = subject.is_(stored[1])
        with subject.open() as repository:
            repository.remove(stored[1])
            assert not repository.exists(missing)
        assert subject.seen(_like(subject, stored)) == subject.seen([stored[0], stored[2]])

    @clause("6.12")
    def test_delete_where_deletes_what_answers(self, subject: Subject[T, K]) -> None:
        """Delete all but one, then none."""
        stored = subject.store(subject.make(4))
        with subject.open() as repository:
            assert repository.delete_where(not_(subject.is_(stored[2]))) == 3
            assert repository.delete_where(not_(subject.is_(stored[2]))) == 0
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored[2]])

    @clause("6.13")
    def test_update_where_changes_what_answers(self, subject: Subject[T, K]) -> None:
        """Set a field of all but one; rows that hold the value already count too."""
        place = subject.free()
        low, high = place.values[0], place.values[-1]
        stored = subject.spread(place, [low, low, high])
        with subject.open() as repository:
            assert repository.update_where(not_(subject.is_(stored[0])), set_={place.name: high}) == 2
            assert repository.update_where(subject.field(place) > high, set_={place.name: low}) == 0
        found = _like(subject, stored)
        assert [getattr(entity, place.name) for entity in found] == [low, high, high]
        assert subject.seen(found[0]) == subject.seen(stored[0])

    @clause("6.14")
    def test_set_forms_want_to_be_told_which_rows(self, subject: Subject[T, K]) -> None:
        """Delete without a criterion, with a contradiction, and with everything=True."""
        stored = subject.store(subject.make(3))
        with subject.open() as repository:
            refused: tuple[Callable[[], object], ...] = (
                repository.delete_where,
                lambda: repository.delete_where(subject.is_(stored[0]), everything=True),
                lambda: repository.delete_where(cast(Any, subject.query(limit=1))),
                lambda: repository.update_where(subject.is_(stored[0]), set_={}),
            )
            for wrong in refused:
                with pytest.raises(QueryError):
                    wrong()
            assert repository.count() == 3
            assert repository.delete_where(everything=True) == 3
        assert subject.all() == []

    @clause("6.15")
    def test_none_is_written_like_any_value(self, subject: Subject[T, K]) -> None:
        """Take every value away that may be None, by update and by save."""
        places = [place for place in subject.places if place.optional and not place.fixed and place.plain]
        places = [place for place in places if place.column.nullable and place.name not in subject.natural_key]
        if not places or any(place.column.onupdate for place in places):
            subject.lacks("no field that may be None")
        stored = subject.store(subject.make(2))
        subject.identities(stored)
        nothing = {place.name: None for place in places}
        for write, entity in zip(("update", "save"), stored, strict=True):
            with subject.open() as repository:
                result = getattr(repository, write)(subject.copied(entity, nothing))
                assert {name: getattr(result, name) for name in nothing} == nothing
        for place in places:
            assert self._count(subject, {place.name: None}) == 2

    @clause("6.16")
    def test_patch_of_nothing_writes_nothing(self, subject: Subject[T, K]) -> None:
        """Patch with an empty mapping."""
        [stored] = subject.store(subject.make(1))
        key = subject.key(stored)
        assert subject.seen(subject.run(lambda repository: repository.patch(key, {}))) == subject.seen(stored)
        assert subject.seen(subject.all()) == subject.seen([stored])

    def _count(self, subject: Subject[T, K], values: dict[str, Any]) -> int:
        return subject.run(lambda repository: repository.count(**values))

    def _keyless(self, subject: Subject[T, K]) -> list[T]:
        """Entities whose keys the store will generate."""
        made = subject.make(5)
        generated = subject.schema.generated
        if generated is None or not subject.mapper.has_key:
            subject.lacks("no generated key")
        name = subject.mapper.field(generated)
        return [subject.copied(entity, {name: None}) for entity in made]


def _like(subject: Subject[T, Any], entities: list[T]) -> list[T]:
    """What is stored, in the order of these entities."""
    order = subject.identities(entities)
    return sorted(subject.all(), key=lambda entity: order.index(subject.identities([entity])[0]))

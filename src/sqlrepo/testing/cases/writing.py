"""Cases of sections 6 to 9 of the contract: writing, values, constraints and versions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import pytest
from pydantic import create_model

from sqlrepo import (
    BaseRepository,
    CheckViolationError,
    ConstraintError,
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
from sqlrepo.memory import Kind
from sqlrepo.testing.harness import clause
from sqlrepo.testing.subject import FieldInfo, Subject, check_raises, values_of

T = TypeVar("T")


def _spoil(subject: Subject[T], entity: T) -> None:
    """Change an entity in place, whether or not its class allows it."""
    for name, value in subject.values(subject.change(entity)).items():
        object.__setattr__(entity, name, value)


# A value that no row has, for each kind of key.
_MISSING: Mapping[Kind, Callable[[FieldInfo], Any]] = {
    Kind.INTEGER: lambda field: field.column.type.high or 2**31 - 1,
    Kind.TEXT: lambda field: "~" * min(field.column.type.length or 9, 9),
    Kind.UUID: lambda _: UUID(int=2**128 - 1),
}


# The distance from a number to one for which a comparison is false.
_BEYOND: Mapping[str, int] = {">": 0, ">=": -1, "<": 0, "<=": 1, "!=": 0, "==": 1}


def _self_reference(subject: Subject[T]) -> FieldInfo:
    """Find a field that refers to the key of its own table."""
    schema = subject.schema
    key = tuple(schema.by_name[name].column for name in schema.key)
    own = {one.columns for one in schema.foreign_keys if (one.table, one.targets) == (schema.full_name, key)}
    found = (field for _, field in _references(subject) if (field.column.name,) in own)
    return next(found, None) or subject.not_applicable("no field that refers to the key of its own table")


def _writes(
    subject: Subject[T], repository: BaseRepository[T, Any], stored: T, field: FieldInfo, value: Any
) -> Iterator[Callable[[], object]]:
    """Make calls that write a value in every way."""
    double = subject.copy_with(subject.make(2), {field.name: value})
    yield lambda: repository.add(double)
    if subject.identifies_rows and field.column.name not in subject.schema.key:
        yield lambda: repository.update_where(subject.is_(stored), set_={field.name: value})


def _references(subject: Subject[T]) -> Iterator[tuple[str | None, FieldInfo]]:
    """Find foreign keys of one field, which are checked before anything else."""
    checked = {name for check in subject.schema.checks for name in _compared_column(check)}
    for one in subject.schema.foreign_keys:
        field = subject.by_column.get(one.columns[0])
        alone = len(one.columns) == 1 and not one.deferred and one.columns[0] not in checked
        if field is not None and alone and field.plain and field.kind in _MISSING:
            yield one.name, field


def _checks(subject: Subject[T]) -> Iterator[tuple[set[str | None], FieldInfo, int]]:
    """Find fields with checks on their number: the names of the checks, the field, and a number they forbid."""
    for check in subject.schema.checks:
        for name in _compared_column(check):
            field = subject.by_column.get(name)
            if field is None or field.fixed or field.kind is not Kind.INTEGER:
                continue
            criterion: Any = check.criterion
            wrong = criterion.value + _BEYOND[criterion.op]
            if _is_accepted(field, wrong):
                yield {one.name for one in subject.schema.checks if name in _compared_column(one)}, field, wrong


def _compared_column(check: Any) -> tuple[str, ...]:
    """Return the column that a check compares with a value, if it does nothing else."""
    plain = hasattr(check.criterion, "op") and hasattr(check.criterion, "value")
    return (check.criterion.ref.name,) if plain else ()


def _is_accepted(field: FieldInfo, value: int) -> bool:
    """Return True if both the column's type and the entity allow a value, so that only the check forbids it."""
    try:
        field.column.check(value)
        field.spec.accept(value)
    except ValueError:
        return False
    return True


def _store_outdated(subject: Subject[T]) -> tuple[T, T]:
    """Commit an entity and a change of it; return both."""
    subject.version_field()
    old = subject.store_one()
    return old, subject.update(subject.change(old))


@contextmanager
def _violates(
    repository: BaseRepository[T, Any], error: type[ConstraintError], constraint: str | None, fields: tuple[str, ...]
) -> Generator[None]:
    """Expect the violation of a constraint, in a savepoint."""
    with pytest.raises(error) as caught, repository.unit.savepoint():
        yield
    assert (caught.value.constraint, caught.value.fields) == (constraint, fields)


def _check_unchanged(subject: Subject[T], call: Callable[[T], object], entity: T) -> None:
    before = copy.deepcopy(subject.values(entity))
    call(entity)
    assert subject.values(entity) == before


def _uniques_of(subject: Subject[T], stored: T) -> list[tuple[str | None, tuple[str, ...]]]:
    """Find the unique constraints in which an entity has values."""
    found = [one for one in subject.unique_constraints if None not in values_of(stored, one[1]).values()]
    return found or subject.not_applicable("no unique constraint besides its key")


def _settable_fields(subject: Subject[T]) -> list[FieldInfo]:
    """Find the fields that `update_where` may set."""
    referring = {name for one in subject.schema.foreign_keys for name in one.columns}
    fixed = {*subject.schema.key, *referring, subject.schema.version}
    return [field for field in subject.fields if not (field.column.name in fixed or field.column.computed)]


def _check_refused(
    repository: BaseRepository[T, Any],
    target: bool,
    field: FieldInfo,
    value: Any,
    error: type[RepositoryError] = InvalidValueError,
) -> None:
    """Expect an error of `update_where` that names the field."""
    with pytest.raises(error) as caught, repository.unit.savepoint():
        repository.update_where(target, set_={field.name: value})
    named = getattr(caught.value, "field", None) or getattr(caught.value, "fields", None)
    assert named in (field.name, (field.name,))


def _make_keyless(subject: Subject[T]) -> list[T]:
    """Make entities whose keys the store will generate."""
    made = subject.make_many(5)
    generated = subject.schema.generated
    if generated is None or not subject.mapper.has_key:
        subject.not_applicable("no generated key")
    name = subject.mapper.field(generated)
    return [subject.copy_with(entity, {name: None}) for entity in made]


class WritingCases(Generic[T]):
    """Checks writing, values, constraints and versions."""

    # -- 6: writing

    @clause("6.1")
    def test_add_gives_what_is_stored(self, subject: Subject[T]) -> None:
        """Compare the arguments, the results and the stored entities."""
        made = subject.pair
        with subject.open() as repository:
            stored = [repository.add(one) for one in made]
        subject.check_written(stored, made)

    @clause("6.2")
    def test_add_many_keeps_the_order(self, subject: Subject[T]) -> None:
        """Add several entities, backwards."""
        made = [*subject.pair, *subject.make_many(3, start=3)][::-1]
        with subject.open() as repository:
            stored = repository.add_many(made)
            assert repository.add_many([]) == []
        subject.check_written(stored, made)

    @clause("6.3")
    def test_generated_keys_differ(self, subject: Subject[T]) -> None:
        """Add entities without a key, at once and one after another."""
        made = _make_keyless(subject)
        stored = subject.store(made[:3]) + [one for entity in made[3:] for one in subject.store([entity])]
        keys = [subject.key_of(entity) for entity in stored]
        assert len(set(keys)) == len(keys)
        assert None not in keys

    @clause("6.4")
    def test_deleted_keys_come_again_only_if_declared(self, subject: Subject[T]) -> None:
        """Delete the newest row and add another one."""
        one, other = _make_keyless(subject)[:2]
        [stored] = subject.store([one])
        subject.remove(stored)
        [again] = subject.store([other])
        if subject.capabilities.fresh_keys:
            assert subject.key_of(again) != subject.key_of(stored)
        subject.check_stored([again])

    @clause("6.5")
    def test_given_key_is_kept(self, subject: Subject[T]) -> None:
        """Give a key where keys are generated; later ones do not collide."""
        one, two, three = _make_keyless(subject)[:3]
        name = subject.mapper.field(cast(str, subject.schema.generated))
        [first] = subject.store([one])
        wanted = getattr(first, name) + 5
        [given] = subject.store([subject.copy_with(two, {name: wanted})])
        [later] = subject.store([three])
        assert getattr(given, name) == wanted
        assert len({getattr(entity, name) for entity in (first, given, later)}) == 3

    @clause("6.6")
    def test_update_writes_the_whole_entity(self, subject: Subject[T]) -> None:
        """Update every field of one of three entities, and again."""
        first, second = subject.pair
        result, *others = subject.store([first, *subject.make_many(2, start=3)])
        for source in (second, first):
            changed = subject.rewrite(result, source)
            with subject.open() as repository:
                result = repository.update(changed)
                subject.check(repository.one(subject.is_(changed)), result)
            subject.check_written([result], [changed], beside=others, updated=True)

    @clause("6.7")
    def test_what_was_deleted_is_not_found(self, subject: Subject[T]) -> None:
        """Update, remove, patch and delete a row that is gone; nothing appears."""
        gone = subject.store_and_remove()
        with subject.open() as repository:
            for call in (repository.update, repository.remove):
                with pytest.raises(NotFoundError) as caught:
                    call(gone)
                assert caught.value.entity is subject.entity
            assert repository.find() == []
            key, field = subject.key_of(gone), subject.free_field()
            with pytest.raises(NotFoundError) as caught:
                repository.patch(key, {field.name: field.low})
            with pytest.raises(NotFoundError):
                repository.delete(key)
            assert repository.find() == []
        assert (caught.value.entity, caught.value.key) == (subject.entity, key)

    @clause("6.8")
    def test_patch_writes_only_the_given_fields(self, subject: Subject[T]) -> None:
        """Patch all fields and one field, by a mapping and by a partial model."""
        again, everything = map(subject.settable, subject.pair)
        name = min(everything, key=lambda name: (subject.by_name[name].fixed, everything[name] == again.get(name)))
        result, other = subject.store([subject.pair[0], subject.make(3)])
        model = create_model("Changes", **cast(Any, {name: (Any, None), "left_out": (int, 1)}))
        one = {name: everything[name]}
        for values, changes in ((everything, everything), (again, again), (one, model(**one))):
            expected = subject.copy_with(result, values)
            with subject.open() as repository:
                result = repository.patch(subject.key_of(result), changes)
                subject.check(repository.get(subject.key_of(result)), result)
            subject.check_written([result], [expected], beside=[other], updated=True)

    @clause("6.9")
    def test_patch_with_none_clears(self, subject: Subject[T]) -> None:
        """Patch a field to None, explicitly."""
        field = subject.optional_field()
        [stored] = subject.store_values(field, [field.low])
        result = subject.run(lambda repository: repository.patch(subject.key_of(stored), {field.name: None}))
        assert field.get(result) is None
        subject.check_stored([result])

    @clause("6.10")
    def test_save_inserts_or_updates(self, subject: Subject[T]) -> None:
        """Save an entity that is new, and again with every field changed, twice."""
        first, second = subject.pair
        subject.natural_keys([first])
        result = subject.run(lambda repository: repository.save(first))
        subject.check_written([result], [first])
        for source in (second, first):
            changed = subject.rewrite(result, source)
            result = subject.run(lambda repository: repository.save(changed))  # noqa: B023  # used in this round only
            subject.check_written([result], [changed], updated=True)

    @clause("6.11")
    def test_delete_and_remove_delete_one_row(self, subject: Subject[T]) -> None:
        """Delete one of three entities by key, and remove another."""
        first, second, third = subject.store_new(3)
        missing = subject.is_(second)
        with subject.open() as repository:
            repository.remove(second)
            assert not repository.exists(missing)
        subject.check_stored([first, third])
        with subject.open() as repository:
            repository.delete(subject.key_of(third))
            assert repository.get_or_none(subject.key_of(third)) is None
        subject.check_stored([first])

    @clause("6.12")
    def test_delete_where_deletes_matching_rows(self, subject: Subject[T]) -> None:
        """Delete all but one, then none, then the last by keyword equality."""
        stored = subject.store_new(4)
        with subject.open() as repository:
            assert repository.delete_where(not_(subject.is_(stored[2]))) == 3
            assert repository.delete_where(not_(subject.is_(stored[2]))) == 0
        subject.check_stored([stored[2]])
        [values] = subject.natural_keys([stored[2]])
        with subject.open() as repository:
            assert repository.delete_where(**dict(zip(subject.natural_key, values, strict=True))) == 1
        subject.check_stored([])

    @clause("6.13")
    def test_update_where_changes_matching_rows(self, subject: Subject[T]) -> None:
        """Set all fields of one row, and one of all but one; rows that have the value already count too."""
        for source in subject.pair[::-1]:
            values, [own] = subject.settable(source), subject.store([subject.pair[0]])
            with subject.open() as repository:
                assert repository.update_where(subject.is_(own), set_=values) == 1
            subject.check_written(subject.find_all(), [subject.copy_with(own, values)], updated=True)
            subject.remove(subject.find_all()[0])
        field = subject.free_field()
        low, high = field.low, field.high
        stored = subject.store_values(field, [low, low, high])
        with subject.open() as repository:
            assert repository.update_where(not_(subject.is_(stored[0])), set_={field.name: high}) == 2
            assert repository.update_where(field.expression > high, set_={field.name: low}) == 0
            found = [repository.one(subject.is_(entity)) for entity in stored]
        assert [field.get(entity) for entity in found] == [low, high, high]
        subject.check(found[0], stored[0])

    @clause("6.14")
    def test_set_forms_need_a_criterion(self, subject: Subject[T]) -> None:
        """Delete without a criterion, and with everything=True beside a criterion and alone."""
        stored = subject.store_new(3)
        with subject.open() as repository:
            refused: tuple[Callable[[], object], ...] = (
                repository.delete_where,
                lambda: repository.delete_where(cast(Any, subject.query(limit=1))),
                lambda: repository.update_where(subject.is_(stored[0]), set_={}),
            )
            check_raises(QueryError, *refused)
            assert repository.count() == 3
            assert repository.delete_where(subject.is_(stored[0]), everything=True) == 1
            assert repository.delete_where(everything=True) == 2
        assert subject.find_all() == []

    @clause("6.15")
    def test_none_is_written_like_any_value(self, subject: Subject[T]) -> None:
        """Set every optional field to None, by update, by save and by upsert."""
        chosen = [field for field in subject.fields if field.optional and not field.fixed and field.plain]
        chosen = [field for field in chosen if field.column.nullable and field.name not in subject.natural_key]
        if not chosen or any(field.column.onupdate for field in chosen):
            subject.not_applicable("no field that may be None")
        stored, on = subject.store_new(3), subject.natural_key
        subject.natural_keys(stored)
        nothing = {field.name: None for field in chosen}
        with subject.open() as repository:
            upsert: Callable[[Any], Any] = lambda entity: repository.upsert(entity, on).entity  # noqa: E731
            writes = (repository.update, repository.save, upsert)
            for write, entity in zip(writes, stored, strict=True):
                result = write(subject.copy_with(entity, nothing))
                assert {name: getattr(result, name) for name in nothing} == nothing
        with subject.open() as repository:
            assert [repository.count(**{name: None}) for name in nothing] == [3] * len(nothing)

    @clause("6.16")
    def test_patch_of_nothing_writes_nothing(self, subject: Subject[T]) -> None:
        """Patch with an empty mapping."""
        stored = subject.store_one()
        key = subject.key_of(stored)
        subject.check(subject.run(lambda repository: repository.patch(key, {})), stored)
        subject.check(subject.find_all(), [stored])

    @clause("6.17")
    def test_upsert_inserts_or_updates(self, subject: Subject[T]) -> None:
        """Upsert an entity that is new, and again with all other fields changed, twice, beside another row."""
        on, (first, second), other = subject.upsert_target(), subject.pair, subject.store_one(3)
        result = subject.run(lambda repository: repository.upsert(first, on))
        assert result.created
        subject.check_written([result.entity], [first], beside=[other])
        for source in (second, first):
            changed = subject.rewrite(result.entity, source, keep=on)
            result = subject.run(lambda repository: repository.upsert(changed, on))  # noqa: B023  # as above
            assert not result.created
            subject.check_written([result.entity], [changed], beside=[other], updated=True)

    @clause("6.18")
    def test_upsert_writes_only_the_named_fields(self, subject: Subject[T]) -> None:
        """Upsert with one field to be written, and with none."""
        on, field, (_, second) = subject.upsert_target(), subject.free_field(), subject.pair
        [stored] = subject.store_values(field, [field.low])
        changed = subject.copy_with(subject.rewrite(stored, second, keep=on), {field.name: field.high})
        with subject.open() as repository:
            nothing = repository.upsert(changed, on, update=())
            subject.check(nothing.entity, stored)
            one = repository.upsert(changed, on, update=[field.name])
        assert (nothing.created, one.created) == (False, False)
        subject.check_written([one.entity], [subject.copy_with(stored, {field.name: field.high})], updated=True)

    @clause("6.19")
    def test_upsert_many_keeps_the_order(self, subject: Subject[T]) -> None:
        """Upsert several entities, some of them stored, and one twice."""
        on, (first, second) = subject.upsert_target(), subject.pair
        there = subject.store([first])[0]
        made = [subject.make(4), subject.rewrite(there, second, keep=on), subject.make(3)]
        with subject.open() as repository:
            stored = repository.upsert_many([there, *made], on)
            assert repository.upsert_many([], on) == []
        subject.check(stored[0], stored[2])
        subject.check_written(stored[1:], made, updated=True)

    @clause("6.20")
    def test_upsert_needs_a_unique_constraint(self, subject: Subject[T]) -> None:
        """Upsert on a field that is not unique."""
        field = subject.free_field()
        with subject.open() as repository:
            for wrong in (field.name, (), "no_such_field"):
                with pytest.raises(QueryError):
                    repository.upsert(subject.make(1), wrong)
            assert repository.count() == 0

    @clause("6.21")
    def test_every_value_comes_back_as_given(self, subject: Subject[T]) -> None:
        """Add an entity with each value that a field can have, None and the empty text among them."""
        tried = subject.try_values(subject.fields, lambda _, given, found: subject.check_kept(found, given))
        subject.record_unproved(tried)

    @clause("6.22")
    def test_what_was_read_can_be_written_and_read_again(self, subject: Subject[T]) -> None:
        """Write what was read, or add it again where entities do not identify their rows."""

        def check(repository: BaseRepository[T, Any], _: T, found: T) -> None:
            if subject.identifies_rows:
                repository.update(found)
            else:
                repository.delete_where(everything=True)
                repository.add(found)
            subject.check_kept(repository.one(), found, again=True, updated=True)

        subject.try_values([field for field in subject.fields if field.name in subject.normalised], check)

    # -- 7: values: entities are copies

    @clause("7.1")
    def test_arguments_are_not_changed(self, subject: Subject[T]) -> None:
        """Write entities in every way and look at them afterwards."""
        made = subject.make_many(3)
        with subject.open() as repository:
            _check_unchanged(subject, repository.add, made[0])
            [stored] = repository.add_many([made[1]])
            if not subject.identifies_rows:
                return
            _check_unchanged(subject, repository.save, made[2])
            _check_unchanged(subject, repository.update, subject.change(stored))
            _check_unchanged(subject, repository.remove, repository.one(subject.is_(stored)))

    @clause("7.2")
    def test_argument_is_not_kept(self, subject: Subject[T]) -> None:
        """Change an entity after it was added, and after it was updated."""
        made = subject.make(1)
        with subject.open() as repository:
            stored = copy.deepcopy(repository.add(made))
            _spoil(subject, made)
            subject.check_found(repository, [stored])
            changed = subject.change(stored)
            updated = copy.deepcopy(repository.update(changed))
            _spoil(subject, changed)
            subject.check_found(repository, [updated])
        subject.check_stored([updated])

    @clause("7.3")
    def test_result_is_not_kept(self, subject: Subject[T]) -> None:
        """Change the results of add, find and one."""
        with subject.open() as repository:
            result = repository.add(subject.make(1))
            stored = copy.deepcopy(result)
            for number in range(3):
                _spoil(subject, [result, repository.one(), repository.find()[0]][number])
                subject.check_found(repository, [stored])
        subject.check_stored([stored])

    @clause("7.4")
    def test_reading_twice_gives_two_objects(self, subject: Subject[T]) -> None:
        """Read the same row twice in one unit."""
        subject.store_new(1)

        def read(repository: BaseRepository[T, Any]) -> tuple[T, T]:
            return repository.one(), repository.one()

        first, second = subject.run(read)
        assert first is not second
        subject.check(first, second)

    # -- 8: constraints

    @clause("8.1")
    def test_unique_is_enforced_on_add(self, subject: Subject[T]) -> None:
        """Add an entity with the unique values of a stored one."""
        stored = subject.store_one()
        for name, fields in _uniques_of(subject, stored):
            double = subject.copy_values(subject.make(2), stored, fields)
            with subject.open() as repository, _violates(repository, UniqueViolationError, name, fields):
                repository.add(double)
        subject.check_stored([stored])

    @clause("8.2")
    def test_key_is_unique(self, subject: Subject[T]) -> None:
        """Add an entity with the key of a stored one."""
        stored = subject.store_one()
        subject.key_of(stored)
        fields = tuple(map(subject.mapper.field, subject.schema.key))
        double = subject.copy_values(subject.make(2), stored, fields)
        with subject.open() as repository:
            with _violates(repository, UniqueViolationError, subject.schema.key_name, fields):
                repository.add(double)
            subject.check_found(repository, [stored])

    @clause("8.3")
    def test_unique_is_enforced_on_change(self, subject: Subject[T]) -> None:
        """Give a row the unique values of another, and its own."""
        stored = subject.store_new(2)
        for name, fields in _uniques_of(subject, stored[0]):
            taken = values_of(stored[0], fields)
            with subject.open() as repository:
                with _violates(repository, UniqueViolationError, name, fields):
                    repository.update_where(subject.is_(stored[1]), set_=taken)
                if not set(fields) & set(subject.natural_key):
                    with _violates(repository, UniqueViolationError, name, fields):
                        repository.update(subject.copy_with(stored[1], taken))
                assert repository.update_where(subject.is_(stored[0]), set_=taken) == 1

    @clause("8.4")
    def test_nulls_are_never_equal(self, subject: Subject[T]) -> None:
        """Add several entities with None in a unique constraint."""
        optional = {field.name for field in subject.fields if field.optional}
        found = [(fields, set(fields) & optional) for _, fields in subject.unique_constraints if set(fields) & optional]
        subject.require(found, "no unique constraint over a field that may be None")
        one, *others = subject.make_many(3)
        for fields, empty in found:
            shared = {**values_of(one, fields), **dict.fromkeys(empty)}
            with subject.open() as repository:
                repository.add_many([subject.copy_with(entity, shared) for entity in (one, *others)])
                assert repository.count() == 3
                repository.unit.rollback()

    @clause("8.5")
    def test_freed_values_can_be_used_again(self, subject: Subject[T]) -> None:
        """Remove an entity and add one with its unique values, in one unit."""
        stored = subject.store_one()
        double = subject.copy_uniques(subject.make(2), stored)
        with subject.open() as repository:
            repository.remove(stored)
            added = repository.add(double)
        subject.check_stored([added])

    @clause("8.6")
    def test_batch_is_stored_whole_or_not_at_all(self, subject: Subject[T]) -> None:
        """Add several entities, the last of which is refused."""
        stored = subject.store_one()
        batch = [*subject.make_many(3, start=2), subject.copy_uniques(subject.make(5), stored)]
        with subject.open() as repository:
            with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                repository.add_many(batch)
            subject.check_found(repository, [stored])
        subject.check_stored([stored])

    @clause("8.7")
    def test_none_is_refused_if_a_value_is_required(self, subject: Subject[T]) -> None:
        """Set every such field to None, on a new row and on a stored one."""
        needed = [field for field in _settable_fields(subject) if not field.column.nullable]
        subject.require(needed, "no field besides its key that must have a value")
        stored = subject.store_one()
        with subject.open() as repository:
            for field in needed:
                _check_refused(repository, subject.is_(stored), field, None, NotNullViolationError)
                if not field.column.fills_itself:
                    double = subject.copy_with(subject.make(2), {field.name: None})
                    with pytest.raises(NotNullViolationError) as caught, repository.unit.savepoint():
                        repository.add(double)
                    assert caught.value.fields == (field.name,)
            subject.check_found(repository, [stored])

    @clause("8.8")
    def test_too_long_text_is_refused(self, subject: Subject[T]) -> None:
        """Give text fields one character too many, and as many as they hold."""
        limited = [field for field in _settable_fields(subject) if field.kind is Kind.TEXT and field.column.type.length]
        limited = [field for field in limited if field.plain and field.column.type.labels is None]
        limited = [field for field in limited if field.takes_any_text]
        subject.require(limited, "no text field of limited length besides its key")
        stored = subject.store_one()
        with subject.open() as repository:
            for field in limited:
                longest = "é" * (field.column.type.length or 0)
                _check_refused(repository, subject.is_(stored), field, longest + "é")
                assert repository.update_where(subject.is_(stored), set_={field.name: longest}) == 1
                if field.name not in subject.natural_key:
                    assert repository.count(field.expression == longest) == 1
                repository.unit.rollback()

    @clause("8.9")
    def test_number_out_of_range_is_refused(self, subject: Subject[T]) -> None:
        """Give integer fields numbers beyond the range of their columns."""
        limited = [
            field for field in _settable_fields(subject) if field.kind is Kind.INTEGER and field.column.type.high
        ]
        subject.require(limited, "no integer field besides its key and version")
        stored = subject.store_one()
        with subject.open() as repository:
            for field in limited:
                low, high = cast("tuple[int, int]", (field.column.type.low, field.column.type.high))
                for wrong in (low - 1, high + 1):
                    _check_refused(repository, subject.is_(stored), field, wrong)
            subject.check_found(repository, [stored])

    @clause("8.10")
    def test_invalid_value_is_refused(self, subject: Subject[T]) -> None:
        """Give fields values of another type; texts, NUL and half a surrogate pair."""
        chosen = [field for field in _settable_fields(subject) if field.plain]
        subject.require(chosen, "no field besides its key that is stored as it is")
        stored = subject.store_one()
        with subject.open() as repository:
            for field in chosen:
                text = field.kind is Kind.TEXT
                for value in (object(), b"0" if text else "0", *(("a\0b", "\ud800") if text else ())):
                    _check_refused(repository, subject.is_(stored), field, value)
            subject.check_found(repository, [stored])

    @clause("8.11")
    def test_uniques_hold_inside_one_unit(self, subject: Subject[T]) -> None:
        """Add entities with equal unique values in one call, and in two."""
        one, other = subject.make_many(2)
        stored = subject.store_new(1, start=3)[0]
        pairs = [
            (name, fields, subject.copy_values(other, one, fields))
            for name, fields in _uniques_of(subject, stored)
            if None not in values_of(one, fields).values()
        ]
        for name, fields, double in pairs:
            with subject.open() as repository:
                with _violates(repository, UniqueViolationError, name, fields):
                    repository.add_many([one, double])
                repository.add(one)
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    repository.add(double)
                assert repository.count() == 2
                repository.unit.rollback()

    @clause("8.12")
    def test_upsert_obeys_other_constraints(self, subject: Subject[T]) -> None:
        """Upsert on one unique constraint an entity that violates another."""
        on = subject.upsert_target()
        other, stored = subject.make(2), subject.store_one()
        others = [one for one in subject.unique_constraints if set(one[1]) != set(on) and not {*one[1]} & {*on}]
        others = [one for one in others if None not in values_of(stored, one[1]).values()]
        subject.require(others, "no second unique constraint")
        for name, fields in others:
            clash = subject.copy_values(other, stored, fields)
            with subject.open() as repository:
                with _violates(repository, UniqueViolationError, name, fields):
                    repository.upsert(clash, on)
                subject.check(repository.find(), [stored])

    @clause("8.13")
    def test_foreign_key_is_enforced(self, subject: Subject[T]) -> None:
        """Refer to a missing row, in a new row and in a stored one."""
        found = subject.require(list(_references(subject)), "no field that refers to another row")
        stored = subject.store_one()
        with subject.open() as repository:
            for name, field in found:
                expected: Any = (name, (field.name,)) if subject.capabilities.fk_error_details else (None, ())
                for write in _writes(subject, repository, stored, field, _MISSING[field.kind](field)):
                    with _violates(repository, ForeignKeyViolationError, *expected):
                        write()
            subject.check_found(repository, [stored])

    @clause("8.14")
    def test_check_is_enforced(self, subject: Subject[T]) -> None:
        """Give a number that a check forbids, in a new row and in a stored one."""
        found = subject.require(list(_checks(subject)), "no field whose number a check compares with another")
        stored = subject.store_one()
        with subject.open() as repository:
            for names, field, wrong in found:
                for write in _writes(subject, repository, stored, field, wrong):
                    with pytest.raises(CheckViolationError) as caught, repository.unit.savepoint():
                        write()
                    assert caught.value.constraint in names
            subject.check_found(repository, [stored])

    @clause("8.15")
    def test_rows_of_one_call_refer_to_each_other(self, subject: Subject[T]) -> None:
        """Add a row in one call with the row it refers to, which comes second."""
        field = _self_reference(subject)
        name = subject.mapper.field(subject.schema.key[0])
        made, keys = subject.make_many(2), [subject.key_of(one) for one in subject.store_new(2)]
        subject.run(lambda repository: repository.delete_where(everything=True))
        first = subject.copy_with(made[0], {name: keys[0], field.name: keys[1]})
        second = subject.copy_with(made[1], {name: keys[1]})
        with subject.open() as repository:
            if subject.capabilities.references_at_end:
                assert len(repository.add_many([first, second])) == 2
            else:
                with pytest.raises(ForeignKeyViolationError), repository.unit.savepoint():
                    repository.add_many([first, second])
                assert len(repository.add_many([second, first])) == 2

    # -- 9: versions

    @clause("9.1")
    def test_every_write_counts(self, subject: Subject[T]) -> None:
        """Write a row in every way; the caller's number is ignored."""
        name = subject.version_field().name
        field = subject.free_field()
        stored = subject.store_one()
        versions = [getattr(stored, name)]

        def check_and_note(entity: T) -> None:
            subject.check_stored([entity])
            versions.append(getattr(entity, name))

        check_and_note(subject.update(stored))
        check_and_note(subject.run(lambda repository: repository.save(subject.find_all()[0])))
        subject.run(lambda repository: repository.update_where(subject.is_(stored), set_={field.name: field.low}))
        check_and_note(subject.find_all()[0])
        if subject.mapper.has_key:
            changes = {field.name: field.high}
            check_and_note(subject.run(lambda repository: repository.patch(subject.key_of(stored), changes)))
        assert versions == list(range(versions[0], versions[0] + len(versions)))

    @clause("9.2")
    def test_outdated_entity_is_not_written(self, subject: Subject[T]) -> None:
        """Update, save and remove an entity written since; the unit goes on."""
        old, new = _store_outdated(subject)
        with subject.open() as repository:
            for call in (repository.update, repository.save, repository.remove):
                with pytest.raises(StaleEntityError) as caught:
                    call(old)
                assert caught.value.entity is subject.entity
                assert caught.value.version == getattr(old, subject.version_field().name)
            subject.check_found(repository, [new])
        subject.check_stored([new])

    @clause("9.3")
    def test_patch_compares_the_version_it_is_given(self, subject: Subject[T]) -> None:
        """Patch with the old version, with the new one, and without."""
        name, field = subject.version_field().name, subject.free_field()
        old, new = _store_outdated(subject)
        key, change = subject.key_of(old), {field.name: field.low}
        with subject.open() as repository:
            with pytest.raises(StaleEntityError):
                repository.patch(key, {**change, name: getattr(old, name)})
            subject.check(repository.get(key), new)
            patched = repository.patch(key, {**change, name: getattr(new, name)})
            assert getattr(repository.patch(key, change), name) > getattr(patched, name) > getattr(new, name)

    @clause("9.4")
    def test_delete_and_set_forms_do_not_compare(self, subject: Subject[T]) -> None:
        """Set and delete by criteria."""
        field = subject.free_field()
        old, _ = _store_outdated(subject)
        with subject.open() as repository:
            assert repository.update_where(subject.is_(old), set_={field.name: field.low}) == 1
            assert repository.delete_where(subject.is_(old)) == 1
        assert subject.find_all() == []

    @clause("9.5")
    def test_concurrent_write_is_noticed(self, subject: Subject[T]) -> None:
        """Read twice, write in a second unit, then in a third."""
        subject.version_field()
        subject.store_new(1)

        def read(repository: BaseRepository[T, Any]) -> T:
            return repository.one()

        first, second = subject.run(read), subject.run(read)
        written = subject.update(subject.change(first))
        with pytest.raises(StaleEntityError), subject.open() as repository:
            repository.update(second)
        subject.check_stored([written])

    @clause("9.6")
    def test_upsert_counts_but_does_not_compare(self, subject: Subject[T]) -> None:
        """Upsert an entity whose row has been written since."""
        on, name = subject.upsert_target(), subject.version_field().name
        old = subject.store_one()
        new = subject.update(subject.change(old))
        upserted = subject.run(lambda repository: repository.upsert(subject.change(old), on))
        assert not upserted.created
        assert getattr(upserted.entity, name) == getattr(new, name) + 1

"""Writing: what is stored, what is left alone, and how many rows a call says it changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from pydantic import create_model

from sqlrepo import NotFoundError, QueryError, not_
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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
            subject.lacks("neither its key nor an `identity` in its place")
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
        places = [place for place in places if place.column.nullable and place.name not in subject.identity]
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

"""Versions: who wrote last is known, and nobody overwrites what they have not seen."""

from __future__ import annotations

from typing import TypeVar

import pytest

from sqlrepo import BaseRepository, StaleEntityError
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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

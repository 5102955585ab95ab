"""Entities are values: neither an argument nor a result is tied to what is stored."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from sqlrepo import BaseRepository
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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

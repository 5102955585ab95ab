"""Two units of work at once: what each sees of the other, and what happens when both write.

Where a backend lets only one of them write at a time, the second waits or is refused; that is checked just as well.
"""

from __future__ import annotations

from typing import TypeVar

import pytest

from sqlrepo import (
    BaseRepository,
    RepositoryError,
    StaleEntityError,
    TransactionConflictError,
    UniqueViolationError,
)
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import AppError, Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


class IsolationCases(Cases[T, K]):
    """Section 14."""

    @clause("14.1")
    def test_uncommitted_writes_are_not_seen_by_others(self, subject: Subject[T, K]) -> None:
        """Look from another unit at what is rolled back in the end."""
        stored = subject.store(subject.make(2))
        with (
            subject.another(lambda repository: repository.find()) as other,
            pytest.raises(AppError),
            subject.open() as repository,
        ):
            subject.upset(repository, stored)
            other.start(free=subject.capabilities.concurrent_writers)
            raise AppError
        assert subject.in_any_order(other.result) == subject.in_any_order(stored)

    @clause("14.2")
    def test_two_units_write_at_once(self, subject: Subject[T, K]) -> None:
        """Insert in two units, the second of which commits first; or waits, where the backend has one writer."""
        able = subject.capabilities.concurrent_writers
        made = subject.make(2)
        with subject.another(lambda repository: repository.add(made[1])) as other, subject.open() as repository:
            first = repository.add(made[0])
            ended = other.start(free=able)
            if able:
                assert ended, "the second writer waited; declare Capabilities(concurrent_writers=False)"
            else:
                assert other.held_back(), "the second writer did not wait; declare concurrent_writers"
        second = subject.run(lambda repository: repository.add(made[1])) if other.error else other.result
        found = subject.seen(subject.all())
        assert len(found) == 2
        assert all(entity in found for entity in subject.seen([first, second]))

    @clause("14.3")
    def test_reading_again_sees_commits_only_where_declared(self, subject: Subject[T, K]) -> None:
        """Read, let another unit commit if it can, and read again."""
        able = subject.capabilities.rereads_committed
        made = subject.make(2)
        subject.store(made[:1])
        with subject.another(lambda repository: repository.add(made[1])) as other, subject.open() as repository:
            before = repository.find()
            other.start(free=able)
            again = repository.find()
            assert len(again) - len(before) == int(able), f"rereads_committed is declared to be {able}"
        assert len(subject.all()) == (1 if other.error else 2)

    @clause("14.4")
    def test_two_units_write_the_same_row(self, subject: Subject[T, K]) -> None:
        """Change a row in two units: the second to commit is refused, or the second to write waits."""
        able = subject.capabilities.conflict_at_commit
        place = subject.free()
        low, high = place.values[0], place.values[-1]
        [stored] = subject.spread(place, [low])

        def write(repository: BaseRepository[T, K]) -> T:
            repository.update_where(subject.is_(stored), set_={place.name: high})
            return repository.one()

        with subject.another(write) as other:

            def overtaken() -> None:
                with subject.open() as repository:
                    repository.update(subject.change(stored))
                    ended = other.start(free=able)
                    if able:
                        assert ended, "the second writer waited; declare Capabilities(conflict_at_commit=False)"
                    else:
                        assert other.held_back(), "the second writer did not wait; declare conflict_at_commit"

            if able:
                with pytest.raises(TransactionConflictError) as caught:
                    overtaken()
                assert caught.value.retryable
            else:
                overtaken()
        [found] = subject.all()
        expected = getattr(subject.change(stored), place.name) if other.error else high
        assert getattr(found, place.name) == expected

    @clause("14.5")
    def test_version_is_compared_with_what_others_committed(self, subject: Subject[T, K]) -> None:
        """Read in two units and write in both: one of them loses, whichever way the backend tells it."""
        subject.version()
        able = subject.capabilities.concurrent_writers and subject.capabilities.conflict_at_commit
        [stored] = subject.store(subject.make(1))

        def write(repository: BaseRepository[T, K]) -> T:
            return repository.update(subject.change(stored))

        with subject.another(write) as other:
            losers: list[BaseException] = []
            try:
                with subject.open() as repository:
                    read = repository.one()
                    other.start(free=able)
                    repository.update(subject.change(read))
            except (StaleEntityError, TransactionConflictError) as error:
                losers.append(error)
        losers += [other.error] if other.error else []
        assert len(losers) == 1
        assert isinstance(losers[0], StaleEntityError | TransactionConflictError)
        version = subject.version().name
        assert getattr(subject.all()[0], version) == getattr(stored, version) + 1

    @clause("14.6")
    def test_two_units_insert_the_same_values(self, subject: Subject[T, K]) -> None:
        """Insert entities that agree in a unique constraint in two units: one of them is stored."""
        able = subject.capabilities.concurrent_writers and subject.capabilities.conflict_at_commit
        [model] = subject.store(subject.make(1))
        one, two = (subject.clash(entity, model) for entity in subject.make(2, start=2))
        subject.run(lambda repository: repository.remove(model))
        with subject.another(lambda repository: repository.add(two)) as other:
            failed: list[BaseException] = []
            try:
                with subject.open() as repository:
                    repository.add(one)
                    other.start(free=able)
            except RepositoryError as error:
                failed.append(error)
        failed += [other.error] if other.error else []
        assert len(failed) == 1
        assert isinstance(failed[0], UniqueViolationError | TransactionConflictError)
        assert len(subject.all()) == 1

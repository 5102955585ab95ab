"""Units of work: all or nothing, and in which states they may be used."""

from __future__ import annotations

from typing import TypeVar

import pytest

from sqlrepo import ReadOnlyError, TransactionAbortedError, UnitStateError
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import AppError, Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


class _Cancellation(BaseException):
    """What ends a program or a task in the middle."""


class UnitCases(Cases[T, K]):
    """Section 10."""

    @clause("10.1")
    def test_commit_is_seen_by_later_units(self, subject: Subject[T, K]) -> None:
        """Insert, update and delete in one unit, and look from another."""
        stored = subject.store(subject.make(3))
        with subject.open() as repository:
            subject.upset(repository, stored)
            expected = repository.find()
        assert subject.in_any_order(subject.all()) == subject.in_any_order(expected)
        assert subject.seen(expected) != subject.seen(stored)

    @clause("10.2")
    def test_own_writes_are_seen(self, subject: Subject[T, K]) -> None:
        """Read what this unit wrote and did not commit."""
        with subject.open() as repository:
            stored = repository.add_many(subject.make(2))
            assert repository.count() == 2
            assert subject.in_any_order(repository.find()) == subject.in_any_order(stored)
            changed = repository.update(subject.change(stored[0]))
            assert subject.seen(repository.one(subject.is_(changed))) == subject.seen(changed)
            repository.remove(stored[1])
            assert subject.in_any_order(repository.find()) == subject.in_any_order([changed])

    @clause("10.3")
    def test_exception_undoes_everything(self, subject: Subject[T, K]) -> None:
        """Leave a unit by an exception of the application's."""
        self._undone(subject, AppError())

    @clause("10.3")
    def test_cancellation_undoes_everything(self, subject: Subject[T, K]) -> None:
        """Leave a unit by an exception that ends the task or the program."""
        self._undone(subject, _Cancellation())

    @clause("10.4")
    def test_early_commit_stays(self, subject: Subject[T, K]) -> None:
        """Commit in the middle, go on, and fail."""
        made = subject.make(2)
        with pytest.raises(AppError), subject.open() as repository:
            repository.add(made[0])
            repository.unit.commit()
            repository.add(made[1])
            raise AppError
        [kept] = subject.all()
        subject.check_kept(kept, made[0])

    @clause("10.5")
    def test_early_rollback_undoes_and_goes_on(self, subject: Subject[T, K]) -> None:
        """Roll back in the middle and go on."""
        stored = subject.store(subject.make(3))
        with subject.open() as repository:
            subject.upset(repository, stored)
            repository.unit.rollback()
            assert subject.in_any_order(repository.find()) == subject.in_any_order(stored)
            added = repository.add(subject.harness.make(8))
        found = subject.all()
        assert len(found) == 4
        assert subject.seen(added) in subject.seen(found)

    @clause("10.6")
    def test_unit_can_be_entered_again(self, subject: Subject[T, K]) -> None:
        """Use a unit a second time after a commit, and a third time after a failure."""
        made = subject.make(3)
        with subject.open() as repository:
            repository.add(made[0])
        with pytest.raises(AppError), repository.unit:
            repository.add(made[1])
            raise AppError
        with repository.unit:
            assert repository.count() == 1
            repository.add(made[2])
        assert len(subject.all()) == 2

    @clause("10.7")
    def test_open_unit_cannot_be_entered(self, subject: Subject[T, K]) -> None:
        """Enter a unit that is open; it stays open and usable."""
        with subject.open() as repository:
            repository.add(subject.harness.make(1))
            with pytest.raises(UnitStateError) as caught:
                repository.unit.__enter__()
            assert caught.value.reason == "already_open"
            assert repository.count() == 1
        assert len(subject.all()) == 1

    @clause("10.8")
    def test_nothing_is_written_outside(self, subject: Subject[T, K]) -> None:
        """Write, commit and ask for callbacks after the end."""
        with subject.open() as repository:
            unit = repository.unit
        for call, reason in (
            (lambda: repository.add(subject.harness.make(1)), "write_outside" if subject.alone else "not_open"),
            (unit.commit, "not_open"),
            (unit.rollback, "not_open"),
            (lambda: unit.on_commit(list), "not_open"),
            (lambda: unit.savepoint().__enter__(), "not_open"),
        ):
            with pytest.raises(UnitStateError) as caught:
                call()
            assert caught.value.reason == reason
        assert subject.all() == []

    @clause("10.9")
    def test_reading_outside_is_for_repositories_alone(self, subject: Subject[T, K]) -> None:
        """Read after the end of the unit."""
        stored = subject.store(subject.make(2))
        with subject.open() as repository:
            assert repository.count() == 2
        if subject.alone:
            assert subject.in_any_order(repository.find()) == subject.in_any_order(stored)
            return
        with pytest.raises(UnitStateError) as caught:
            repository.find()
        assert caught.value.reason == "not_open"

    @clause("10.10")
    def test_read_only_unit_refuses_to_write(self, subject: Subject[T, K]) -> None:
        """Try every write in a read-only unit, and read on."""
        stored = subject.store(subject.make(2))
        with subject.open_read_only() as repository:
            for write in (
                lambda: repository.add(subject.harness.make(3)),
                lambda: repository.add_many(subject.make(2, start=3)),
                lambda: repository.update(subject.change(stored[0])),
                lambda: repository.save(subject.change(stored[0])),
                lambda: repository.remove(stored[0]),
                lambda: repository.delete_where(subject.is_(stored[0])),
            ):
                with pytest.raises(ReadOnlyError):
                    write()
            assert subject.in_any_order(repository.find()) == subject.in_any_order(stored)
        assert subject.in_any_order(subject.all()) == subject.in_any_order(stored)

    @clause("10.11")
    def test_repository_left_by_an_exception_dooms_its_unit(self, subject: Subject[T, K]) -> None:
        """Catch an exception outside of a repository's own ``with``, inside the unit's."""
        if subject.alone:
            with subject.open() as repository, pytest.raises(UnitStateError), repository:
                pass
            return
        error = AppError()
        with pytest.raises(TransactionAbortedError) as caught, subject.open() as repository:  # noqa: SIM117
            with pytest.raises(AppError), repository:
                repository.add(subject.harness.make(1))
                raise error
        assert caught.value.__cause__ is error
        assert subject.all() == []

    @clause("10.12")
    def test_empty_unit_does_nothing(self, subject: Subject[T, K]) -> None:
        """Open units that do nothing, or end early what has not begun."""
        with subject.open():
            pass
        with subject.open() as repository:
            repository.unit.rollback()
            repository.unit.commit()
        assert subject.all() == []

    def _undone(self, subject: Subject[T, K], error: BaseException) -> None:
        stored = subject.store(subject.make(3))
        with pytest.raises(type(error)) as caught, subject.open() as repository:
            subject.upset(repository, stored)
            raise error
        assert caught.value is error
        assert subject.in_any_order(subject.all()) == subject.in_any_order(stored)

    @clause("10.13")
    def test_calls_do_not_overlap(self, subject: Subject[T, K]) -> None:
        """Call a repository, and its unit of work, while a call of the unit is running."""
        with subject.open() as repository:
            repository.add(subject.harness.make(1))

            calls = (repository.count, repository.exists, lambda: repository.add(subject.harness.make(2)))

            def overlap(_: object) -> None:
                for call in calls:
                    with pytest.raises(UnitStateError) as caught:
                        call()
                    assert caught.value.reason == "busy"

            repository.unit.run(overlap)
        assert len(subject.all()) == 1

"""Savepoints, and what aborts a unit of work unless one was set before."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import pytest

from sqlrepo import (
    InvalidLiteralError,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    NotNullViolationError,
    QueryError,
    TransactionAbortedError,
    UniqueViolationError,
    UnitStateError,
)
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import AppError, Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


class SavepointCases(Cases[T, K]):
    """Sections 11 and 12."""

    @clause("11.1")
    def test_savepoint_undoes_its_own_and_nothing_else(self, subject: Subject[T, K]) -> None:
        """Write before, inside and after a savepoint that is left by an exception."""
        made = subject.make(5)
        stored = subject.store(made[:2])
        with subject.open() as repository:
            before = repository.add(made[2])
            with pytest.raises(AppError), repository.unit.savepoint():
                subject.upset(repository, stored)
                raise AppError
            assert subject.in_any_order(repository.find()) == subject.in_any_order([*stored, before])
            after = repository.add(made[4])
        found = subject.seen(subject.all())
        assert len(found) == 4
        assert all(entity in found for entity in subject.seen([*stored, before, after]))

    @clause("11.2")
    def test_savepoint_left_normally_keeps_its_writes(self, subject: Subject[T, K]) -> None:
        """Write inside a savepoint and leave it."""
        with subject.open() as repository:
            with repository.unit.savepoint():
                stored = repository.add(subject.harness.make(1))
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("11.2")
    def test_unit_undoes_what_a_savepoint_kept(self, subject: Subject[T, K]) -> None:
        """Leave a savepoint normally, and the unit by an exception."""
        with pytest.raises(AppError), subject.open() as repository:
            with repository.unit.savepoint():
                repository.add(subject.harness.make(1))
            raise AppError
        assert subject.all() == []

    @clause("11.3")
    def test_savepoints_nest(self, subject: Subject[T, K]) -> None:
        """Undo an inner savepoint alone, and an outer one together with what its inner one kept."""
        made = subject.make(5)
        with subject.open() as repository:
            unit = repository.unit
            with unit.savepoint():
                outer = repository.add(made[0])
                with pytest.raises(AppError), unit.savepoint():
                    repository.add(made[1])
                    raise AppError
                assert subject.in_any_order(repository.find()) == subject.in_any_order([outer])
            with pytest.raises(AppError), unit.savepoint():
                repository.add(made[2])
                with unit.savepoint():
                    repository.add(made[3])
                raise AppError
            assert subject.in_any_order(repository.find()) == subject.in_any_order([outer])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([outer])

    @clause("11.4")
    def test_transaction_does_not_end_inside_a_savepoint(self, subject: Subject[T, K]) -> None:
        """Commit and roll back early while a savepoint is open."""
        with subject.open() as repository:
            unit = repository.unit
            with unit.savepoint():
                stored = repository.add(subject.harness.make(1))
                for call in (unit.commit, unit.rollback):
                    with pytest.raises(UnitStateError) as caught:
                        call()
                    assert caught.value.reason == "already_open"
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("12.1")
    def test_refused_statement_aborts_the_unit(self, subject: Subject[T, K]) -> None:
        """Catch a violation outside a savepoint, and go on reading and writing; roll back, and go on."""
        [stored] = subject.store(subject.make(1))
        double = subject.clash(subject.harness.make(2), stored)
        with subject.open() as repository:
            repository.add(subject.harness.make(3))
            with pytest.raises(UniqueViolationError) as first:
                repository.add(double)
            for call in (repository.find, repository.count, lambda: repository.add(subject.harness.make(4))):
                with pytest.raises(TransactionAbortedError) as caught:
                    call()
                assert caught.value.__cause__ is first.value
            repository.unit.rollback()
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("12.2")
    def test_aborted_unit_stores_nothing(self, subject: Subject[T, K]) -> None:
        """Catch a violation, and leave the unit as if nothing had happened."""
        [stored] = subject.store(subject.make(1))
        double = subject.clash(subject.harness.make(2), stored)
        with pytest.raises(TransactionAbortedError) as caught, subject.open() as repository:
            repository.add(subject.harness.make(3))
            with pytest.raises(UniqueViolationError):
                repository.add(double)
        assert isinstance(caught.value.__cause__, UniqueViolationError)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("12.2")
    def test_aborted_unit_cannot_be_committed(self, subject: Subject[T, K]) -> None:
        """Catch a violation and commit early."""
        [stored] = subject.store(subject.make(1))
        double = subject.clash(subject.harness.make(2), stored)
        with subject.open() as repository:
            repository.add(subject.harness.make(3))
            with pytest.raises(UniqueViolationError):
                repository.add(double)
            with pytest.raises(TransactionAbortedError):
                repository.unit.commit()
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

    @clause("12.3")
    def test_savepoint_rolled_back_heals(self, subject: Subject[T, K]) -> None:
        """Catch a violation outside the savepoint it happened in, twice, and go on."""
        made = subject.make(5)
        [stored] = subject.store(made[:1])
        double = subject.clash(made[1], stored)
        with subject.open() as repository:
            before = repository.add(made[2])
            for _ in range(2):
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    repository.add(made[3])
                    repository.add(double)
            after = repository.add(made[4])
        found = subject.seen(subject.all())
        assert len(found) == 3
        assert all(entity in found for entity in subject.seen([stored, before, after]))

    @clause("12.4")
    def test_violation_caught_inside_a_savepoint_aborts_it(self, subject: Subject[T, K]) -> None:
        """Catch a violation inside a savepoint and leave that normally; it is undone, and the unit goes on."""
        [stored] = subject.store(subject.make(1))
        double = subject.clash(subject.harness.make(2), stored)
        with subject.open() as repository:
            with pytest.raises(TransactionAbortedError), repository.unit.savepoint():
                repository.add(subject.harness.make(3))
                with pytest.raises(UniqueViolationError):
                    repository.add(double)
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])
            repository.add(subject.harness.make(4))
        assert len(subject.all()) == 2

    @clause("12.5")
    def test_refusals_before_a_statement_do_not_abort(self, subject: Subject[T, K]) -> None:
        """Ask what cannot be meant, and for what is not there."""
        stored = subject.store(subject.make(2))
        gone, wrong = subject.gone(), {subject.free().name: object()}
        with subject.open() as repository:
            changed = repository.update(subject.change(stored[0]))
            for error, call in (
                (QueryError, lambda: repository.find(limit=-1)),
                (QueryError, repository.delete_where),
                (InvalidLiteralError, lambda: repository.get_or_none(cast(Any, object()))),
                (InvalidValueError, lambda: repository.update_where(subject.is_(stored[0]), set_=wrong)),
                (NotFoundError, lambda: repository.update(gone)),
                (NotFoundError, lambda: repository.remove(gone)),
                (NotFoundError, lambda: repository.one(subject.is_(gone))),
                (MultipleFoundError, repository.one),
            ):
                with pytest.raises(error):
                    call()
            assert repository.count() == 2
        assert subject.seen(changed) in subject.seen(subject.all())

    @clause("12.6")
    def test_foreseen_violation_aborts_too(self, subject: Subject[T, K]) -> None:
        """Leave out a value that the table needs, which no backend has to be asked about."""
        found = [place for place in subject.places if not (place.fixed or place.column.nullable)]
        if not found:
            subject.lacks("no field besides keys and uniques that must have a value")
        [stored] = subject.store(subject.make(1))
        with pytest.raises(TransactionAbortedError), subject.open() as repository:
            repository.add(subject.harness.make(2))
            with pytest.raises(NotNullViolationError) as first:
                repository.update_where(subject.is_(stored), set_={found[0].name: None})
            with pytest.raises(TransactionAbortedError) as caught:
                repository.count()
            assert caught.value.__cause__ is first.value
        assert subject.in_any_order(subject.all()) == subject.in_any_order([stored])

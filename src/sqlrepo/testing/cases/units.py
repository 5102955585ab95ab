"""Units of work: all or nothing, and in which states they may be used."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import pytest

from sqlrepo import (
    BaseRepository,
    InvalidLiteralError,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    NotNullViolationError,
    QueryError,
    ReadOnlyError,
    RepositoryError,
    StaleEntityError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    UnitStateError,
)
from sqlrepo.testing.harness import clause
from sqlrepo.testing.subject import AppError, Cases, Place, Subject, scoped

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


class _Recorder(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@contextmanager
def _logged() -> Generator[list[logging.LogRecord]]:
    """Collect what the library logs."""
    handler, logger = _Recorder(), logging.getLogger("sqlrepo")
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)


class CallbackCases(Cases[T, K]):
    """Section 13."""

    @clause("13.1")
    def test_callbacks_run_after_the_commit_in_order(self, subject: Subject[T, K]) -> None:
        """Register callbacks around and inside a savepoint; the first looks into the store."""
        calls: list[object] = []
        with subject.open() as repository:
            unit = repository.unit
            stored = repository.add(subject.harness.make(1))
            unit.on_commit(lambda: calls.append(subject.seen(subject.all())))
            with unit.savepoint():
                unit.on_commit(lambda: calls.append("second"))
            unit.on_commit(lambda: calls.append("third"))
            assert calls == []
        assert calls == [subject.seen([stored]), "second", "third"]

    @clause("13.2")
    def test_callbacks_of_an_early_commit_run_once(self, subject: Subject[T, K]) -> None:
        """Register a callback before an early commit and one after it."""
        calls: list[str] = []
        with subject.open() as repository:
            repository.add(subject.harness.make(1))
            repository.unit.on_commit(lambda: calls.append("early"))
            repository.unit.commit()
            assert calls == ["early"]
            repository.unit.on_commit(lambda: calls.append("late"))
        assert calls == ["early", "late"]

    @clause("13.3")
    def test_callbacks_are_dropped_with_the_transaction(self, subject: Subject[T, K]) -> None:
        """Register callbacks before a failure, before an early rollback, and in a unit that is then used again."""
        calls: list[str] = []
        with pytest.raises(AppError), subject.open() as repository:
            repository.add(subject.harness.make(1))
            repository.unit.on_commit(lambda: calls.append("failed"))
            raise AppError
        with repository.unit:
            repository.unit.on_commit(lambda: calls.append("rolled back"))
            repository.unit.rollback()
            repository.unit.on_commit(lambda: calls.append("kept"))
        assert calls == ["kept"]

    @clause("13.4")
    def test_callbacks_are_dropped_with_the_savepoint(self, subject: Subject[T, K]) -> None:
        """Register callbacks inside a savepoint that is undone, one of them deeper."""
        calls: list[str] = []
        with subject.open() as repository:
            unit = repository.unit
            unit.on_commit(lambda: calls.append("before"))
            with pytest.raises(AppError), unit.savepoint():
                unit.on_commit(lambda: calls.append("inside"))
                with unit.savepoint():
                    unit.on_commit(lambda: calls.append("deeper"))
                raise AppError
            unit.on_commit(lambda: calls.append("after"))
        assert calls == ["before", "after"]

    @clause("13.5")
    def test_failing_callback_undoes_nothing_and_stops_none(self, subject: Subject[T, K]) -> None:
        """Register two callbacks that raise, and one between them that does not."""
        calls: list[str] = []
        raised = [AppError("one"), AppError("two")]

        def failing(error: Exception) -> None:
            raise error

        with _logged() as records, pytest.raises(ExceptionGroup) as caught, subject.open() as repository:
            repository.add(subject.harness.make(1))
            repository.unit.on_commit(lambda: failing(raised[0]))
            repository.unit.on_commit(lambda: calls.append("between"))
            repository.unit.on_commit(lambda: failing(raised[1]))
        assert list(caught.value.exceptions) == raised
        assert calls == ["between"]
        if logging.getLogger("sqlrepo").isEnabledFor(logging.ERROR):
            assert [record.exc_info[1] for record in records if record.exc_info] == raised
        assert len(subject.all()) == 1


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


@dataclass(frozen=True, slots=True)
class _Parted(Generic[T]):
    """Rows of two scopes.

    Attributes:
        place: the field that parts them.
        low: its value in one.
        high: its value in the other.
        inside: the rows of the one.
        outside: the rows of the other; they are the second and the fourth that were made.
    """

    place: Place
    low: Any
    high: Any
    inside: list[T]
    outside: list[T]


def _parted(subject: Subject[T, K]) -> _Parted[T]:
    place = subject.free()
    low, high = place.values[0], place.values[-1]
    stored = subject.spread(place, [low, high, low, high])
    return _Parted(place, low, high, stored[::2], stored[1::2])


def _scope(subject: Subject[T, K], parted: _Parted[T]) -> Any:
    return subject.field(parted.place) == parted.low


class ScopeCases(Cases[T, K]):
    """Section 15, on a class that is derived from the repository's, with a scope over one of the entity's fields."""

    @clause("15.1")
    def test_no_row_outside_is_read(self, subject: Subject[T, K]) -> None:
        """Read in every way that gives several rows, with a criterion that asks for others."""
        parted = _parted(subject)
        others = subject.field(parted.place) == parted.high
        expected = subject.in_any_order(parted.inside)
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            assert subject.in_any_order(within.find()) == expected
            assert subject.in_any_order(within.find(others | (subject.field(parted.place) == parted.low))) == expected
            assert subject.in_any_order(within.stream()) == expected
            assert subject.in_any_order(within.page(subject.query(limit=9)).items) == expected
            assert subject.in_any_order(within.scroll(subject.query(limit=9)).items) == expected
            assert subject.seen(within.first()) in subject.seen(parted.inside)
            assert (within.find(others), list(within.stream(others)), within.first(others)) == ([], [], None)
            if subject.mapper.has_key:
                keys = list(map(subject.key, [*parted.outside, *parted.inside]))
                assert subject.in_any_order(within.get_many(keys)) == expected

    @clause("15.2")
    def test_no_row_outside_is_counted(self, subject: Subject[T, K]) -> None:
        """Count, ask whether there are any, and ask for a total."""
        parted = _parted(subject)
        others = subject.field(parted.place) == parted.high
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            assert (within.count(), within.count(others)) == (len(parted.inside), 0)
            assert (within.exists(), within.exists(others)) == (True, False)
            page = within.page(subject.query(limit=1), with_total=True)
            assert (page.has_next, page.total) == (True, len(parted.inside))
            last = within.page(subject.query(limit=1, offset=1), with_total=True)
            assert (last.has_next, last.total) == (False, len(parted.inside))

    @clause("15.3")
    def test_a_row_outside_is_not_found(self, subject: Subject[T, K]) -> None:
        """Read, change and delete a row of another scope by its key, by a criterion and as an entity."""
        parted = _parted(subject)
        foreign, own = parted.outside[0], parted.inside[0]
        subject.identities([foreign])
        entity = subject.copied(subject.change(foreign), {parted.place.name: parted.low})
        version = subject.schema.version and subject.place(subject.schema.version)
        stale = [subject.copied(entity, {version.name: getattr(entity, version.name) + 7})] if version else []
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [lambda: within.one(subject.is_(foreign))]
            for one in (entity, *stale):
                calls += [partial(within.update, one), partial(within.remove, one)]
            if subject.mapper.has_key:
                key, changes = subject.key(foreign), {parted.place.name: parted.low}
                assert within.get_or_none(key) is None
                calls += [lambda: within.get(key), lambda: within.delete(key)]
                calls += [lambda: within.patch(key, changes), lambda: within.patch(key, {})]
            for call in calls:
                with pytest.raises(NotFoundError):
                    call()
            assert within.one_or_none(subject.is_(foreign)) is None
            assert subject.seen(within.one(subject.is_(own))) == subject.seen(own)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([*parted.inside, *parted.outside])

    @clause("15.4")
    def test_set_forms_leave_what_is_outside(self, subject: Subject[T, K]) -> None:
        """Change and delete what a criterion asks for of another scope, and everything."""
        parted = _parted(subject)
        others, setting = subject.field(parted.place) == parted.high, {parted.place.name: parted.low}
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            assert (within.update_where(others, set_=setting), within.delete_where(others)) == (0, 0)
            assert within.update_where(everything=True, set_=setting) == len(parted.inside)
            assert subject.in_any_order(repository.find(others)) == subject.in_any_order(parted.outside)
            assert within.delete_where(everything=True) == len(parted.inside)
        assert subject.in_any_order(subject.all()) == subject.in_any_order(parted.outside)

    @clause("15.5")
    def test_a_new_row_must_be_inside(self, subject: Subject[T, K]) -> None:
        """Add rows of another scope in every way, alone and among others; the unit goes on."""
        parted = _parted(subject)
        fine, wrong = (
            subject.copied(subject.harness.make(number), {parted.place.name: value})
            for number, value in ((6, parted.low), (7, parted.high))
        )
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [lambda: within.add(wrong), lambda: within.add_many([fine, wrong])]
            if subject.tells_rows:
                calls.append(lambda: within.save(wrong))
            for call in calls:
                with pytest.raises(InvalidValueError) as caught:
                    call()
                assert caught.value.field == parted.place.name
                assert repository.count() == len([*parted.inside, *parted.outside])
            stored = within.add(fine)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([*parted.inside, *parted.outside, stored])

    @clause("15.6")
    def test_a_row_outside_is_not_written_over(self, subject: Subject[T, K]) -> None:
        """Upsert what agrees with a row of another scope, and save over one."""
        parted, on = _parted(subject), subject.agreeing()
        foreign = subject.copied(subject.harness.make(2), {parted.place.name: parted.low})
        own = subject.copied(subject.harness.make(1), {parted.place.name: parted.low})
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [
                lambda: within.upsert(foreign, on),
                lambda: within.upsert(foreign, on, update=()),
                lambda: within.upsert_many([foreign], on),
            ]
            if subject.tells_rows:
                calls.append(lambda: within.save(subject.copied(parted.outside[0], {parted.place.name: parted.low})))
            for call in calls:
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    call()
            assert subject.in_any_order(repository.find()) == subject.in_any_order([*parted.inside, *parted.outside])
            assert not within.upsert(own, on).created

    @clause("15.7")
    def test_a_change_takes_no_row_outside(self, subject: Subject[T, K]) -> None:
        """Give a row another scope's value in every way; and once more where the repository lets rows leave."""
        parted = _parted(subject)
        own = parted.inside[0]
        subject.identities([own])
        wrong, setting = subject.copied(own, {parted.place.name: parted.high}), {parted.place.name: parted.high}
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [lambda: within.update(wrong), lambda: within.save(wrong)]
            calls += [lambda: within.update_where(subject.is_(own), set_=setting)]
            if subject.mapper.has_key:
                calls.append(lambda: within.patch(subject.key(own), setting))
            for call in calls:
                with pytest.raises(InvalidValueError) as caught:
                    call()
                assert caught.value.field == parted.place.name
            assert subject.in_any_order(within.find()) == subject.in_any_order(parted.inside)
            leaving = scoped(repository, _scope(subject, parted), leaving=True)
            assert getattr(leaving.update(wrong), parted.place.name) == parted.high
            assert subject.in_any_order(leaving.find()) == subject.in_any_order(parted.inside[1:])

    @clause("15.8")
    def test_a_cursor_is_of_its_scope(self, subject: Subject[T, K]) -> None:
        """Go on in another scope where a page of one ended."""
        parted, query = _parted(subject), subject.query(limit=1)
        with subject.open() as repository:
            within = scoped(repository, _scope(subject, parted))
            other = scoped(repository, subject.field(parted.place) == parted.high)
            page = within.scroll(query)
            for foreign in (other, repository):
                with pytest.raises(QueryError):
                    foreign.scroll(query, after=page.next)
            last = within.scroll(query, after=page.next)
        assert subject.in_any_order([*page.items, *last.items]) == subject.in_any_order(parted.inside)

    @clause("15.9")
    def test_what_is_no_scope_is_an_error(self, subject: Subject[T, K]) -> None:
        """Ask a repository whose scope is a plain bool, and one that gives none; the unit goes on."""
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            another = subject.harness.make(2)
            for wrong in (True, None):
                within = scoped(repository, wrong)
                for call in (within.find, within.count, partial(within.add, another)):
                    with pytest.raises(QueryError):
                        call()
            assert subject.seen(repository.find()) == subject.seen([stored])


class SettingCases(Cases[T, K]):
    """Section 1."""

    @clause("1.1")
    def test_store_is_empty_at_first(self, subject: Subject[T, K]) -> None:
        """Look into the store before anything is written."""
        assert subject.all() == [], "the harness must give a store without entities of this class"

    @clause("1.2")
    def test_made_entities_are_valid_and_distinct(self, subject: Subject[T, K]) -> None:
        """Store what the harness makes."""
        subject.store(subject.make(12))
        assert len(subject.all()) == 12, "make(n) must give entities that can all be stored"

    @clause("1.2")
    def test_making_again_gives_the_same(self, subject: Subject[T, K]) -> None:
        """Make an entity twice."""
        assert subject.seen(subject.harness.make(3)) == subject.seen(subject.harness.make(3))

    @clause("1.3")
    def test_change_alters_something_but_not_the_key(self, subject: Subject[T, K]) -> None:
        """Change a stored entity."""
        [stored] = subject.store(subject.make(1))
        if all(place.column.name in (*subject.schema.key, subject.schema.version) for place in subject.places):
            subject.lacks("no field besides its key")
        before = copy.deepcopy(stored)
        changed = subject.harness.change(stored)
        assert subject.seen(stored) == subject.seen(before), "change(entity) must not change its argument"
        assert subject.kept(changed) != subject.kept(stored), "change(entity) must alter a field that is stored"
        assert subject.identities([changed]) == subject.identities([stored]), "change(entity) must keep the key"


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

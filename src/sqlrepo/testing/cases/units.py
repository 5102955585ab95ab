"""Cases of sections 10 to 15 of the contract: units of work, isolation and scopes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from logging.handlers import BufferingHandler
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
from sqlrepo.testing.probes import call_during
from sqlrepo.testing.subject import AppError, Subject, check_raises, scoped

T = TypeVar("T")


@contextmanager
def _record_log() -> Generator[list[logging.LogRecord]]:
    handler, logger = BufferingHandler(1000), logging.getLogger("sqlrepo")
    logger.addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logger.removeHandler(handler)


class _Scopes(Generic[T]):
    """Two rows inside a scope over one field, and two outside, which are the second and the fourth made."""

    def __init__(self, subject: Subject[T]) -> None:
        self.field = subject.free_field()
        self.low, self.high = self.field.low, self.field.high
        self.inner, self.outer = {self.field.name: self.low}, {self.field.name: self.high}
        self.all = subject.store_values(self.field, [self.low, self.high, self.low, self.high])
        self.inside, self.outside = self.all[::2], self.all[1::2]
        self.others = self.field.expression == self.high

    def narrow(self, repository: BaseRepository[T, Any], *, leaving: bool = False) -> Any:
        """Make a repository that sees the rows inside."""
        return scoped(repository, self.field.expression == self.low, leaving=leaving)


class _Cancellation(BaseException):
    """Ends a program or a task, as KeyboardInterrupt and CancelledError do."""


def _check_undone(subject: Subject[T], error: BaseException) -> None:
    stored = subject.store_new(3)
    with pytest.raises(type(error)) as caught, subject.open() as repository:
        subject.write(repository, stored)
        raise error
    assert caught.value is error
    subject.check_stored(stored)


def _check_state_errors(reason: str, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(UnitStateError) as caught:
            call()
        assert caught.value.reason == reason


def _race(
    subject: Subject[T],
    first: Callable[[BaseRepository[T, Any], Callable[[], object]], None],
    second: Callable[[BaseRepository[T, Any]], object],
) -> BaseException:
    """Run two units of which one must fail, and return its error; the first one starts the second."""
    able = subject.capabilities.concurrent_writers and subject.capabilities.conflict_at_commit
    errors: list[BaseException] = []
    with subject.concurrently(second) as other:
        try:
            with subject.open() as repository:
                first(repository, lambda: other.start(free=able))
        except RepositoryError as error:
            errors.append(error)
    errors += [other.error] if other.error else []
    assert len(errors) == 1, "one of the two units must fail"
    return errors[0]


class UnitCases(Generic[T]):
    """Checks units of work, isolation and scopes."""

    # -- 10: units of work

    @clause("10.1")
    def test_commit_is_seen_by_later_units(self, subject: Subject[T]) -> None:
        """Insert, update and delete in one unit, and look from another."""
        stored = subject.store_new(3)
        with subject.open() as repository:
            subject.write(repository, stored)
            expected = repository.find()
        subject.check_stored(expected)
        assert subject.to_values(expected) != subject.to_values(stored)

    @clause("10.2")
    def test_own_writes_are_seen(self, subject: Subject[T]) -> None:
        """Read what this unit wrote and did not commit."""
        with subject.open() as repository:
            stored = repository.add_many(subject.make_many(2))
            assert repository.count() == 2
            subject.check_found(repository, stored)
            changed = repository.update(subject.change(stored[0]))
            subject.check(repository.one(subject.is_(changed)), changed)
            repository.remove(stored[1])
            subject.check_found(repository, [changed])

    @clause("10.3")
    def test_exception_undoes_everything(self, subject: Subject[T]) -> None:
        """Leave a unit by an exception."""
        _check_undone(subject, AppError())

    @clause("10.3")
    def test_cancellation_undoes_everything(self, subject: Subject[T]) -> None:
        """Leave a unit by an exception that ends the task or the program."""
        _check_undone(subject, _Cancellation())

    @clause("10.4")
    def test_early_commit_stays(self, subject: Subject[T]) -> None:
        """Commit in the middle, go on, and fail."""
        made = subject.make_many(2)
        with pytest.raises(AppError), subject.open() as repository:
            repository.add(made[0])
            repository.unit.commit()
            repository.add(made[1])
            raise AppError
        [kept] = subject.find_all()
        subject.check_kept(kept, made[0])

    @clause("10.5")
    def test_early_rollback_undoes_and_goes_on(self, subject: Subject[T]) -> None:
        """Roll back in the middle and go on."""
        stored = subject.store_new(3)
        with subject.open() as repository:
            subject.write(repository, stored)
            repository.unit.rollback()
            subject.check_found(repository, stored)
            added = repository.add(subject.make(8))
        subject.check_stored([*stored, added])

    @clause("10.6")
    def test_unit_can_be_entered_again(self, subject: Subject[T]) -> None:
        """Use a unit a second time after a commit, and a third time after a failure."""
        made = subject.make_many(3)
        with subject.open() as repository:
            repository.add(made[0])
        with pytest.raises(AppError), repository.unit:
            repository.add(made[1])
            raise AppError
        with repository.unit:
            assert repository.count() == 1
            repository.add(made[2])
        assert len(subject.find_all()) == 2

    @clause("10.7")
    def test_open_unit_cannot_be_entered(self, subject: Subject[T]) -> None:
        """Enter a unit that is open; it stays open and usable."""
        with subject.open() as repository:
            repository.add(subject.make(1))
            _check_state_errors("already_open", repository.unit.__enter__)
            assert repository.count() == 1
        assert len(subject.find_all()) == 1

    @clause("10.8")
    def test_nothing_is_written_outside(self, subject: Subject[T]) -> None:
        """Write, commit and ask for callbacks after the end."""
        with subject.open() as repository:
            unit = repository.unit
        writing = "write_outside" if subject.alone else "not_open"
        _check_state_errors(writing, lambda: repository.add(subject.make(1)))
        _check_state_errors("not_open", unit.commit, unit.rollback, lambda: unit.on_commit(list))
        _check_state_errors("not_open", lambda: unit.savepoint().__enter__())
        assert subject.find_all() == []

    @clause("10.9")
    def test_only_a_repository_alone_reads_outside(self, subject: Subject[T]) -> None:
        """Read after the end of the unit."""
        stored = subject.store_new(2)
        with subject.open() as repository:
            assert repository.count() == 2
        if subject.alone:
            subject.check_found(repository, stored)
            return
        _check_state_errors("not_open", repository.find)

    @clause("10.10")
    def test_read_only_unit_refuses_to_write(self, subject: Subject[T]) -> None:
        """Try every write in a read-only unit, and read on."""
        stored = subject.store_new(2)
        with subject.open_read_only() as repository:
            check_raises(
                ReadOnlyError,
                lambda: repository.add(subject.make(3)),
                lambda: repository.add_many(subject.make_many(2, start=3)),
                lambda: repository.update(subject.change(stored[0])),
                lambda: repository.save(subject.change(stored[0])),
                lambda: repository.remove(stored[0]),
                lambda: repository.delete_where(subject.is_(stored[0])),
            )
            subject.check_found(repository, stored)
        subject.check_stored(stored)

    @clause("10.11")
    def test_repository_left_by_an_exception_aborts_its_unit(self, subject: Subject[T]) -> None:
        """Catch an exception outside of a repository's own ``with``, inside the unit's."""
        if subject.alone:
            with subject.open() as repository, pytest.raises(UnitStateError), repository:
                pass
            return
        error = AppError()
        with pytest.raises(TransactionAbortedError) as caught, subject.open() as repository:  # noqa: SIM117
            with pytest.raises(AppError), repository:
                repository.add(subject.make(1))
                raise error
        assert caught.value.__cause__ is error
        assert subject.find_all() == []

    @clause("10.12")
    def test_empty_unit_does_nothing(self, subject: Subject[T]) -> None:
        """Open units that do nothing, or end at once."""
        with subject.open():
            pass
        with subject.open() as repository:
            repository.unit.rollback()
            repository.unit.commit()
        assert subject.find_all() == []

    @clause("10.13")
    def test_calls_do_not_overlap(self, subject: Subject[T]) -> None:
        """Call a repository, and its unit of work, while a call of the unit is running."""
        with subject.open() as repository:
            repository.add(subject.make(1))
            calls = (repository.count, repository.exists, lambda: repository.add(subject.make(2)))

            with call_during(lambda: _check_state_errors("busy", *calls)):
                repository.find()
        assert len(subject.find_all()) == 1

    # -- 11: savepoints

    @clause("11.1")
    def test_savepoint_undoes_only_its_own_writes(self, subject: Subject[T]) -> None:
        """Write before, inside and after a savepoint left by an exception."""
        made = subject.make_many(5)
        stored = subject.store(made[:2])
        with subject.open() as repository:
            before = repository.add(made[2])
            with pytest.raises(AppError), repository.unit.savepoint():
                subject.write(repository, stored)
                raise AppError
            subject.check_found(repository, [*stored, before])
            after = repository.add(made[4])
        subject.check_stored([*stored, before, after])

    @clause("11.2")
    def test_savepoint_left_normally_keeps_its_writes(self, subject: Subject[T]) -> None:
        """Write inside a savepoint and leave it."""
        with subject.open() as repository:
            with repository.unit.savepoint():
                stored = repository.add(subject.make(1))
            subject.check_found(repository, [stored])
        subject.check_stored([stored])

    @clause("11.2")
    def test_unit_undoes_what_a_savepoint_kept(self, subject: Subject[T]) -> None:
        """Leave a savepoint normally, and the unit by an exception."""
        with pytest.raises(AppError), subject.open() as repository:
            with repository.unit.savepoint():
                repository.add(subject.make(1))
            raise AppError
        assert subject.find_all() == []

    @clause("11.3")
    def test_savepoints_nest(self, subject: Subject[T]) -> None:
        """Undo an inner savepoint alone, and an outer one with its inner one."""
        made = subject.make_many(5)
        with subject.open() as repository:
            unit = repository.unit
            with unit.savepoint():
                outer = repository.add(made[0])
                with pytest.raises(AppError), unit.savepoint():
                    repository.add(made[1])
                    raise AppError
                subject.check_found(repository, [outer])
            with pytest.raises(AppError), unit.savepoint():
                repository.add(made[2])
                with unit.savepoint():
                    repository.add(made[3])
                raise AppError
            subject.check_found(repository, [outer])
        subject.check_stored([outer])

    @clause("11.4")
    def test_transaction_does_not_end_inside_a_savepoint(self, subject: Subject[T]) -> None:
        """Commit and roll back early while a savepoint is open."""
        with subject.open() as repository:
            unit = repository.unit
            with unit.savepoint():
                stored = repository.add(subject.make(1))
                _check_state_errors("already_open", unit.commit, unit.rollback)
        subject.check_stored([stored])

    # -- 12: aborted transactions

    @clause("12.1")
    def test_refused_statement_aborts_the_unit(self, subject: Subject[T]) -> None:
        """Catch a violation outside a savepoint and go on; roll back and go on."""
        stored, double = subject.store_clash()
        with subject.open() as repository:
            repository.add(subject.make(3))
            with pytest.raises(UniqueViolationError) as first:
                repository.add(double)
            for call in (repository.find, repository.count, lambda: repository.add(subject.make(4))):
                with pytest.raises(TransactionAbortedError) as caught:
                    call()
                assert caught.value.__cause__ is first.value
            repository.unit.rollback()
            subject.check_found(repository, [stored])

    @clause("12.2")
    def test_aborted_unit_stores_nothing(self, subject: Subject[T]) -> None:
        """Catch a violation, and leave the unit as if nothing had happened."""
        stored, double = subject.store_clash()
        with pytest.raises(TransactionAbortedError) as caught, subject.open() as repository:
            repository.add(subject.make(3))
            with pytest.raises(UniqueViolationError):
                repository.add(double)
        assert isinstance(caught.value.__cause__, UniqueViolationError)
        subject.check_stored([stored])

    @clause("12.2")
    def test_aborted_unit_cannot_be_committed(self, subject: Subject[T]) -> None:
        """Catch a violation and commit early."""
        stored, double = subject.store_clash()
        with subject.open() as repository:
            repository.add(subject.make(3))
            with pytest.raises(UniqueViolationError):
                repository.add(double)
            with pytest.raises(TransactionAbortedError):
                repository.unit.commit()
        subject.check_stored([stored])

    @clause("12.3")
    def test_savepoint_rollback_recovers(self, subject: Subject[T]) -> None:
        """Catch a violation outside the savepoint it happened in, twice, and go on."""
        made = subject.make_many(5)
        [stored] = subject.store(made[:1])
        double = subject.copy_uniques(made[1], stored)
        with subject.open() as repository:
            before = repository.add(made[2])
            for _ in range(2):
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    repository.add(made[3])
                    repository.add(double)
            after = repository.add(made[4])
        subject.check_stored([stored, before, after])

    @clause("12.4")
    def test_violation_caught_inside_a_savepoint_aborts_it(self, subject: Subject[T]) -> None:
        """Catch a violation inside a savepoint and leave it; it is undone."""
        stored, double = subject.store_clash()
        with subject.open() as repository:
            with pytest.raises(TransactionAbortedError), repository.unit.savepoint():
                repository.add(subject.make(3))
                with pytest.raises(UniqueViolationError):
                    repository.add(double)
            subject.check_found(repository, [stored])
            repository.add(subject.make(4))
        assert len(subject.find_all()) == 2

    @clause("12.5")
    def test_refusals_before_a_statement_do_not_abort(self, subject: Subject[T]) -> None:
        """Send invalid queries and values, and ask for missing rows."""
        stored = subject.store_new(2)
        gone, wrong = subject.store_and_remove(), {subject.free_field().name: object()}
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
        assert subject.to_values(changed) in subject.to_values(subject.find_all())

    @clause("12.6")
    def test_violation_found_before_sending_aborts_too(self, subject: Subject[T]) -> None:
        """Set a required field to None, which is refused without a statement."""
        needed = [field for field in subject.fields if not (field.fixed or field.column.nullable)]
        field, *_ = subject.require(needed, "no field besides keys and uniques that must have a value")
        stored = subject.store_one()
        with pytest.raises(TransactionAbortedError), subject.open() as repository:
            repository.add(subject.make(2))
            with pytest.raises(NotNullViolationError) as first:
                repository.update_where(subject.is_(stored), set_={field.name: None})
            with pytest.raises(TransactionAbortedError) as caught:
                repository.count()
            assert caught.value.__cause__ is first.value
        subject.check_stored([stored])

    # -- 13: callbacks

    @clause("13.1")
    def test_callbacks_run_after_the_commit_in_order(self, subject: Subject[T]) -> None:
        """Register callbacks around and inside a savepoint; the first looks into the store."""
        calls: list[object] = []
        with subject.open() as repository:
            unit = repository.unit
            stored = repository.add(subject.make(1))
            unit.on_commit(lambda: calls.append(subject.to_values(subject.find_all())))
            with unit.savepoint():
                unit.on_commit(lambda: calls.append("second"))
            unit.on_commit(lambda: calls.append("third"))
            assert calls == []
        assert calls == [subject.to_values([stored]), "second", "third"]

    @clause("13.2")
    def test_callbacks_of_an_early_commit_run_once(self, subject: Subject[T]) -> None:
        """Register a callback before an early commit and one after it."""
        calls: list[str] = []
        with subject.open() as repository:
            repository.add(subject.make(1))
            repository.unit.on_commit(lambda: calls.append("early"))
            repository.unit.commit()
            assert calls == ["early"]
            repository.unit.on_commit(lambda: calls.append("late"))
        assert calls == ["early", "late"]

    @clause("13.3")
    def test_callbacks_are_dropped_with_the_transaction(self, subject: Subject[T]) -> None:
        """Register callbacks before a failure and before an early rollback."""
        calls: list[str] = []
        with pytest.raises(AppError), subject.open() as repository:
            repository.add(subject.make(1))
            repository.unit.on_commit(lambda: calls.append("failed"))
            raise AppError
        with repository.unit:
            repository.unit.on_commit(lambda: calls.append("rolled back"))
            repository.unit.rollback()
            repository.unit.on_commit(lambda: calls.append("kept"))
        assert calls == ["kept"]

    @clause("13.4")
    def test_callbacks_are_dropped_with_the_savepoint(self, subject: Subject[T]) -> None:
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
    def test_failing_callback_stops_nothing(self, subject: Subject[T]) -> None:
        """Register two callbacks that raise, and one between them that does not."""
        calls: list[str] = []
        raised = [AppError("one"), AppError("two")]

        def failing(error: Exception) -> None:
            raise error

        with _record_log() as records, pytest.raises(ExceptionGroup) as caught, subject.open() as repository:
            repository.add(subject.make(1))
            repository.unit.on_commit(lambda: failing(raised[0]))
            repository.unit.on_commit(lambda: calls.append("between"))
            repository.unit.on_commit(lambda: failing(raised[1]))
        assert list(caught.value.exceptions) == raised
        assert calls == ["between"]
        if logging.getLogger("sqlrepo").isEnabledFor(logging.ERROR):
            assert [record.exc_info[1] for record in records if record.exc_info] == raised
        assert len(subject.find_all()) == 1

    # -- 14: isolation

    @clause("14.1")
    def test_uncommitted_writes_are_not_seen_by_others(self, subject: Subject[T]) -> None:
        """Read while another unit has written and not committed."""
        stored = subject.store_new(2)
        with (
            subject.concurrently(lambda repository: repository.find()) as other,
            pytest.raises(AppError),
            subject.open() as repository,
        ):
            subject.write(repository, stored)
            other.start(free=subject.capabilities.concurrent_writers)
            raise AppError
        subject.check_any_order(other.result, stored)

    @clause("14.2")
    def test_two_units_write_at_once(self, subject: Subject[T]) -> None:
        """Insert in two units; the second commits first, or waits for the one writer."""
        able = subject.capabilities.concurrent_writers
        made = subject.make_many(2)
        with subject.concurrently(lambda repository: repository.add(made[1])) as other, subject.open() as repository:
            first = repository.add(made[0])
            other.start_as_declared("concurrent_writers", able=able)
        second = subject.run(lambda repository: repository.add(made[1])) if other.error else other.result
        subject.check_stored([first, second])

    @clause("14.3")
    def test_reading_again_sees_commits_only_if_declared(self, subject: Subject[T]) -> None:
        """Read, let another unit commit if it can, and read again."""
        able = subject.capabilities.rereads_committed
        made = subject.make_many(2)
        subject.store(made[:1])
        with subject.concurrently(lambda repository: repository.add(made[1])) as other, subject.open() as repository:
            before = repository.find()
            other.start(free=able)
            again = repository.find()
            assert len(again) - len(before) == int(able), f"rereads_committed is declared to be {able}"
        assert len(subject.find_all()) == (1 if other.error else 2)

    @clause("14.4")
    def test_two_units_write_the_same_row(self, subject: Subject[T]) -> None:
        """Change a row in two units: the second to commit fails or wins, or the second to write waits."""
        able = subject.capabilities.conflict_at_commit
        waits = subject.capabilities.row_locks or not subject.capabilities.concurrent_writers
        field = subject.free_field()
        [stored] = subject.store_values(field, [field.low])

        def write(repository: BaseRepository[T, Any]) -> T:
            repository.update_where(subject.is_(stored), set_={field.name: field.high})
            return repository.one()

        stale = [StaleEntityError] if subject.schema.version and not waits else []
        ending: Any = pytest.raises(TransactionConflictError) if able else suppress(*stale)
        with subject.concurrently(write) as other, ending as caught, subject.open() as repository:
            repository.update(subject.change(stored))
            other.start_as_declared("conflict_at_commit", able=able or not waits)
        assert not able or caught.value.retryable
        [found] = subject.find_all()
        is_first = other.error or not (able or waits or stale)
        expected = field.get(subject.change(stored)) if is_first else field.high
        assert field.get(found) == expected

    @clause("14.5")
    def test_version_is_compared_with_what_others_committed(self, subject: Subject[T]) -> None:
        """Read and write in two units: one of them fails."""
        subject.version_field()
        stored = subject.store_one()

        def write(repository: BaseRepository[T, Any], start: Callable[[], object]) -> None:
            read = repository.one()
            start()
            repository.update(subject.change(read))

        loser = _race(subject, write, lambda repository: repository.update(subject.change(stored)))
        assert isinstance(loser, StaleEntityError | TransactionConflictError)
        version = subject.version_field().name
        assert getattr(subject.find_all()[0], version) == getattr(stored, version) + 1

    @clause("14.6")
    def test_two_units_insert_the_same_values(self, subject: Subject[T]) -> None:
        """Insert equal unique values in two units: one of them fails."""
        model = subject.store_one()
        one, two = (subject.copy_uniques(entity, model) for entity in subject.make_many(2, start=2))
        subject.remove(model)

        def write(repository: BaseRepository[T, Any], start: Callable[[], object]) -> None:
            repository.add(one)
            start()

        loser = _race(subject, write, lambda repository: repository.add(two))
        assert isinstance(loser, UniqueViolationError | TransactionConflictError)
        assert len(subject.find_all()) == 1

    # -- 15: scopes

    @clause("15.1")
    def test_row_outside_is_not_read(self, subject: Subject[T]) -> None:
        """Read several rows in every way, also by a criterion for rows outside."""
        scopes = _Scopes(subject)
        expected = scopes.inside
        with subject.open() as repository:
            within = scopes.narrow(repository)
            subject.check_found(within, expected)
            subject.check_any_order(within.find(scopes.others | (scopes.field.expression == scopes.low)), expected)
            subject.check_any_order(within.stream(), expected)
            subject.check_any_order(within.page(subject.query(limit=9)).items, expected)
            subject.check_any_order(within.scroll(subject.query(limit=9)).items, expected)
            assert subject.to_values(within.first()) in subject.to_values(scopes.inside)
            assert (within.find(scopes.others), list(within.stream(scopes.others))) == ([], [])
            assert within.first(scopes.others) is None
            if subject.mapper.has_key:
                subject.check_any_order(within.get_many(map(subject.key_of, scopes.all)), expected)

    @clause("15.2")
    def test_row_outside_is_not_counted(self, subject: Subject[T]) -> None:
        """Count, ask whether there are any, and ask for a total."""
        scopes = _Scopes(subject)
        with subject.open() as repository:
            within = scopes.narrow(repository)
            assert (within.count(), within.count(scopes.others)) == (len(scopes.inside), 0)
            assert (within.exists(), within.exists(scopes.others)) == (True, False)
            page = within.page(subject.query(limit=1), with_total=True)
            assert (page.has_next, page.total) == (True, len(scopes.inside))
            last = within.page(subject.query(limit=1, offset=1), with_total=True)
            assert (last.has_next, last.total) == (False, len(scopes.inside))

    @clause("15.3")
    def test_row_outside_is_not_found(self, subject: Subject[T]) -> None:
        """Read, change and delete a row of another scope by its key, by a criterion and as an entity."""
        scopes = _Scopes(subject)
        foreign, own = scopes.outside[0], scopes.inside[0]
        subject.natural_keys([foreign])
        entity = subject.copy_with(subject.change(foreign), scopes.inner)
        version = subject.schema.version and subject.by_column.get(subject.schema.version)
        stale = [subject.copy_with(entity, {version.name: version.get(entity) + 7})] if version else []
        with subject.open() as repository:
            within = scopes.narrow(repository)
            calls: list[Callable[[], object]] = [lambda: within.one(subject.is_(foreign))]
            for one in (entity, *stale):
                calls += [partial(within.update, one), partial(within.remove, one)]
            if subject.mapper.has_key:
                key = subject.key_of(foreign)
                assert within.get_or_none(key) is None
                calls += [lambda: within.get(key), lambda: within.delete(key)]
                calls += [lambda: within.patch(key, scopes.inner), lambda: within.patch(key, {})]
            check_raises(NotFoundError, *calls)
            assert within.one_or_none(subject.is_(foreign)) is None
            subject.check(within.one(subject.is_(own)), own)
        subject.check_stored(scopes.all)

    @clause("15.4")
    def test_set_forms_leave_rows_outside(self, subject: Subject[T]) -> None:
        """Change and delete by a criterion for rows outside, and everything."""
        scopes = _Scopes(subject)
        with subject.open() as repository:
            within = scopes.narrow(repository)
            assert (within.update_where(scopes.others, set_=scopes.inner), within.delete_where(scopes.others)) == (0, 0)
            assert within.update_where(everything=True, set_=scopes.inner) == len(scopes.inside)
            subject.check_any_order(repository.find(scopes.others), scopes.outside)
            assert within.delete_where(everything=True) == len(scopes.inside)
        subject.check_stored(scopes.outside)

    @clause("15.5")
    def test_new_row_must_be_inside(self, subject: Subject[T]) -> None:
        """Add rows of another scope in every way; the unit goes on."""
        scopes = _Scopes(subject)
        fine = subject.copy_with(subject.make(6), scopes.inner)
        wrong = subject.copy_with(subject.make(7), scopes.outer)
        with subject.open() as repository:
            within = scopes.narrow(repository)
            calls: list[Callable[[], object]] = [lambda: within.add(wrong), lambda: within.add_many([fine, wrong])]
            if subject.identifies_rows:
                calls.append(lambda: within.save(wrong))
            for call in calls:
                with pytest.raises(InvalidValueError) as caught:
                    call()
                assert caught.value.field == scopes.field.name
                assert repository.count() == len(scopes.all)
            stored = within.add(fine)
        subject.check_stored([*scopes.all, stored])

    @clause("15.6")
    def test_row_outside_is_not_overwritten(self, subject: Subject[T]) -> None:
        """Upsert and save entities with the unique values of rows outside."""
        scopes, on = _Scopes(subject), subject.upsert_target()
        foreign = subject.copy_with(subject.make(2), scopes.inner)
        own = subject.copy_with(subject.make(1), scopes.inner)
        with subject.open() as repository:
            within = scopes.narrow(repository)
            calls: list[Callable[[], object]] = [
                lambda: within.upsert(foreign, on),
                lambda: within.upsert(foreign, on, update=()),
                lambda: within.upsert_many([foreign], on),
            ]
            if subject.identifies_rows:
                calls.append(lambda: within.save(subject.copy_with(scopes.outside[0], scopes.inner)))
            for call in calls:
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    call()
            subject.check_found(repository, scopes.all)
            assert not within.upsert(own, on).created

    @clause("15.7")
    def test_change_takes_no_row_outside(self, subject: Subject[T]) -> None:
        """Give a row another scope's value in every way; and in a repository that lets rows leave."""
        scopes = _Scopes(subject)
        own = scopes.inside[0]
        subject.natural_keys([own])
        wrong = subject.copy_with(own, scopes.outer)
        with subject.open() as repository:
            within = scopes.narrow(repository)
            calls: list[Callable[[], object]] = [lambda: within.update(wrong), lambda: within.save(wrong)]
            calls += [lambda: within.update_where(subject.is_(own), set_=scopes.outer)]
            if subject.mapper.has_key:
                calls.append(lambda: within.patch(subject.key_of(own), scopes.outer))
            for call in calls:
                with pytest.raises(InvalidValueError) as caught:
                    call()
                assert caught.value.field == scopes.field.name
            subject.check_found(within, scopes.inside)
            leaving = scopes.narrow(repository, leaving=True)
            assert scopes.field.get(leaving.update(wrong)) == scopes.high
            subject.check_found(leaving, scopes.inside[1:])

    @clause("15.8")
    def test_cursor_of_another_scope_is_refused(self, subject: Subject[T]) -> None:
        """Use a cursor in another scope."""
        scopes, query = _Scopes(subject), subject.query(limit=1)
        with subject.open() as repository:
            within = scopes.narrow(repository)
            other = scoped(repository, scopes.others)
            page = within.scroll(query)
            for foreign in (other, repository):
                with pytest.raises(QueryError):
                    foreign.scroll(query, after=page.next)
            last = within.scroll(query, after=page.next)
        subject.check_any_order([*page.items, *last.items], scopes.inside)

    @clause("15.9")
    def test_invalid_scope_is_refused(self, subject: Subject[T]) -> None:
        """Use scopes that are True and None; the unit goes on."""
        stored = subject.store_one()
        with subject.open() as repository:
            another = subject.make(2)
            for wrong in (True, None):
                within = scoped(repository, wrong)
                check_raises(QueryError, within.find, within.count, partial(within.add, another))
            subject.check(repository.find(), [stored])

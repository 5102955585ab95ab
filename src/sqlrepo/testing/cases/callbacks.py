"""What waits for the commit."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import AppError, Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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

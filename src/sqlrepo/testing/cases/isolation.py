"""Cases of section 14 of the contract that show which anomalies concurrent units allow, after Kleppmann's Hermitage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from sqlrepo import BaseRepository, RepositoryError
from sqlrepo.testing.harness import NotApplicableError, clause
from sqlrepo.testing.subject import AppError, Subject

T = TypeVar("T")

# Seconds to wait for a step that can go on, for one that another unit may hold back, for one on a database with a
# single writer, and for the end of all units.
_SOON, _MAYBE, _ONE_WRITER, _END = 5.0, 1.0, 0.05, 60.0

#: The anomalies in the order of the clauses 14.7 to 14.19.
ANOMALIES: tuple[str, ...] = (
    "G0", "G1a", "G1b", "G1c", "OTV", "PMP", "PMP-write", "P4",
    "G-single", "G-single-predicate", "G-single-write", "G2-item", "G2",
)  # fmt: skip

#: What each isolation answers, by the name that backends report: an anomaly is "possible", or does not occur ("no"), or
#: a unit gets a retryable "error" instead. Where several answers are right, the usual one comes first.
ANSWERS: dict[str, dict[str, str]] = {
    name: dict(zip(ANOMALIES, answers.split(), strict=True))
    for name, answers in {
        "memory": f"error no no no error possible error error {'possible ' * 5}",
        "memory, lost updates allowed": f"{'no ' * 5} {'possible ' * 8}",
        "sqlite SERIALIZABLE": "no/error " * 13,
        "postgresql READ UNCOMMITTED": f"{'no ' * 5} {'possible ' * 8}",
        "postgresql READ COMMITTED": f"{'no ' * 5} {'possible ' * 8}",
        "postgresql REPEATABLE READ": "error no no no error no error error no no error possible possible",
        "postgresql SERIALIZABLE": "error no no error error no error error no no error error error",
        "mariadb READ UNCOMMITTED": f"no {'possible ' * 5} no {'possible ' * 6}",
        "mariadb READ COMMITTED": f"{'no ' * 5} possible no {'possible ' * 6}",
        # The errors come with innodb_snapshot_isolation, which is usual from 11.6.2.
        "mariadb REPEATABLE READ": (
            "no/error no no no no/error no possible/error possible/error no no possible/error possible possible"
        ),
        "mariadb SERIALIZABLE": f"no no no error no no error error no no {'error ' * 3}",
        "mysql READ UNCOMMITTED": f"no {'possible ' * 5} no {'possible ' * 6}",
        "mysql READ COMMITTED": f"{'no ' * 5} possible no {'possible ' * 6}",
        "mysql REPEATABLE READ": f"{'no ' * 6} possible possible no no possible possible possible",
        "mysql SERIALIZABLE": "no no no error no no no/error error no no no/error error error",
        # What every database promises, for a harness of your own.
        "READ UNCOMMITTED": f"no/error {'no/error/possible ' * 12}",
        "READ COMMITTED": f"{'no/error ' * 4} {'no/error/possible ' * 9}",
        "REPEATABLE READ": f"{'no/error ' * 4} {'no/error/possible ' * 4} no/error {'no/error/possible ' * 4}",
        "SERIALIZABLE": "no/error " * 13,
    }.items()
}


class _Unit(Generic[T]):
    """A unit of work in a thread, which does one step after the other."""

    def __init__(self, subject: Subject[T]) -> None:
        self.error: BaseException | None = None
        self._subject = subject
        self._one_writer = not subject.capabilities.concurrent_writers
        self._steps: SimpleQueue[tuple[Callable[[BaseRepository[T, Any]], Any], Future[Any]] | None] = SimpleQueue()
        self._last: Future[Any] = Future()
        self._last.set_result(None)
        self._ended: Future[None] = Future()
        Thread(target=self._run, daemon=True).start()

    def do(self, step: Callable[[BaseRepository[T, Any]], Any], *, waits: bool = False) -> Future[Any]:
        """Do a step and wait until it is done, or for a while if another unit may hold it back."""
        behind, self._last = self._last, Future()
        self._steps.put((step, self._last))
        if behind.done():
            self._wait_for(self._last, waits=waits)
        return self._last

    def commit(self) -> None:
        self._steps.put(None)
        if self._last.done():
            self._wait_for(self._ended)

    def join(self) -> None:
        assert not wait([self._ended], _END).not_done, "a unit of work still waits after all others have ended"

    def _wait_for(self, done: Future[Any], *, waits: bool = False) -> None:
        patience = _ONE_WRITER if self._one_writer else _MAYBE if waits else _SOON
        wait([done, self._ended], patience, FIRST_COMPLETED)

    def _run(self) -> None:
        try:
            with self._subject.open() as repository:
                for step, done in iter(self._steps.get, None):
                    done.set_result(step(repository))
        except AppError:
            pass
        except BaseException as error:  # noqa: BLE001  # examined at the end of the case
            self.error = error
        finally:
            self._ended.set_result(None)


class _Play(Generic[T]):
    """Two rows with the lower of two values, the units that work on them, and what becomes of that."""

    def __init__(self, subject: Subject[T], units: int = 2) -> None:
        self._subject = subject
        self._field = subject.free_field()
        self.low, self.high = self._field.low, self._field.high
        self._rows = subject.store_values(self._field, [self.low, self.low])
        self._units = [_Unit(subject) for _ in range(units)]

    def __iter__(self) -> Any:
        return iter(self._units)

    def write(self, unit: _Unit[T], row: int, value: Any, *, waits: bool = False) -> None:
        """Write the value of a row, without comparing a version."""
        where, values = self._is(row), {self._field.name: value}
        unit.do(lambda repository: repository.update_where(where, set_=values), waits=waits)

    def read(self, unit: _Unit[T], row: int, *, waits: bool = False) -> Future[Any]:
        where = self._is(row)
        return unit.do(lambda repository: [self._field.get(one) for one in repository.find(where)], waits=waits)

    def count(self, unit: _Unit[T], value: Any, *, waits: bool = False) -> Future[Any]:
        """Count the rows with a value."""
        return unit.do(lambda repository: repository.count(self._field.expression == value), waits=waits)

    def delete(self, unit: _Unit[T], value: Any, *, waits: bool = False) -> Future[Any]:
        """Delete the rows with a value."""
        return unit.do(lambda repository: repository.delete_where(self._field.expression == value), waits=waits)

    def insert(self, unit: _Unit[T], number: int, value: Any, *, waits: bool = False) -> None:
        entity = self._subject.copy_with(self._subject.make(number), {self._field.name: value})
        unit.do(lambda repository: repository.add(entity), waits=waits)

    def check(self, anomaly: str, is_seen: Callable[[], bool]) -> None:
        """Compare what happened with what the isolation answers."""
        for unit in self._units:
            unit.join()
        errors = [unit.error for unit in self._units if unit.error is not None]
        for error in errors:
            if not (isinstance(error, RepositoryError) and error.retryable):
                raise error
        found = "error" if errors else "possible" if is_seen() else "no"
        isolation = self._subject.isolation
        assert isolation in ANSWERS, f"isolation {isolation!r} is unknown; declare one of {', '.join(ANSWERS)}"
        declared = ANSWERS[isolation][anomaly]
        if any(not part.cascades for part in self._subject.parts.values()):
            declared += "/no"  # owners are locked before their children are deleted
        assert found in declared.split("/"), (
            f"{anomaly}: the answer is {found!r}, and {isolation} declares {declared!r}; see Capabilities.isolation"
        )

    def _is(self, row: int) -> bool:
        try:
            return self._subject.is_(self._rows[row])
        except NotApplicableError:
            for unit in self._units:
                unit.commit()
                unit.join()
            raise

    def stored(self) -> list[Any]:
        """Return the values of all rows, in the order of their keys."""
        return [self._field.get(one) for one in self._subject.find_all()]


class IsolationCases(Generic[T]):
    """Checks what the isolation of concurrent units prevents."""

    @clause("14.7")
    def test_two_units_write_two_rows(self, subject: Subject[T]) -> None:
        """G0, a dirty write: after both units, each row has the value of another one."""
        play = _Play(subject)
        one, two = play
        play.write(one, 0, play.high)
        play.write(two, 0, play.low, waits=True)
        play.write(one, 1, play.high)
        one.commit()
        play.write(two, 1, play.low)
        two.commit()
        play.check("G0", lambda: len(set(play.stored())) > 1)

    @clause("14.8")
    def test_aborted_write_is_read(self, subject: Subject[T]) -> None:
        """G1a, a dirty read: a unit reads what another then rolls back."""
        play = _Play(subject)
        one, two = play
        play.write(one, 0, play.high)
        seen = play.read(two, 0, waits=True)
        one.do(_fail)
        two.commit()
        play.check("G1a", lambda: seen.result() == [play.high])

    @clause("14.9")
    def test_intermediate_write_is_read(self, subject: Subject[T]) -> None:
        """G1b: a unit reads a value that another writes over before it commits."""
        play = _Play(subject)
        one, two = play
        play.write(one, 0, play.high)
        seen = play.read(two, 0, waits=True)
        play.write(one, 0, play.low)
        one.commit()
        two.commit()
        play.check("G1b", lambda: seen.result() == [play.high])

    @clause("14.10")
    def test_two_units_read_what_the_other_writes(self, subject: Subject[T]) -> None:
        """G1c: each of two units reads what the other has written, so each precedes the other."""
        play = _Play(subject)
        one, two = play
        play.write(one, 0, play.high)
        play.write(two, 1, play.high)
        seen = [play.read(one, 1, waits=True), play.read(two, 0, waits=True)]
        one.commit()
        two.commit()
        play.check("G1c", lambda: all(each.result() == [play.high] for each in seen))

    @clause("14.11")
    def test_observed_unit_vanishes(self, subject: Subject[T]) -> None:
        """OTV: a reader sees that one of a unit's writes is overwritten, and then its other write, not overwritten."""
        play = _Play(subject, units=3)
        one, two, reader = play
        play.write(one, 0, play.high)
        play.write(one, 1, play.high)
        play.write(two, 0, play.low, waits=True)
        one.commit()
        first = play.read(reader, 0, waits=True)
        second = play.read(reader, 1, waits=True)
        play.write(two, 1, play.low)
        two.commit()
        reader.commit()
        play.check("OTV", lambda: (first.result(), second.result()) == ([play.low], [play.high]))

    @clause("14.12")
    def test_phantom_appears(self, subject: Subject[T]) -> None:
        """PMP, a phantom: a criterion finds a row that it did not find before."""
        play = _Play(subject)
        one, two = play
        before = play.count(one, play.high)
        play.insert(two, 3, play.high, waits=True)
        two.commit()
        again = play.count(one, play.high)
        one.commit()
        play.check("PMP", lambda: before.result() != again.result())

    @clause("14.13")
    def test_write_misses_a_row_that_matches(self, subject: Subject[T]) -> None:
        """PMP for writes: a set form waits for another unit, and passes over a row that then matches."""
        play = _Play(subject)
        one, two = play
        play.count(two, play.low)
        play.write(one, 0, play.high, waits=True)
        play.insert(one, 3, play.low, waits=True)
        deleted = play.delete(two, play.low, waits=True)
        one.commit()
        left = play.count(two, play.low)
        two.commit()
        play.check("PMP-write", lambda: bool(deleted.result() and left.result()))

    @clause("14.14")
    def test_update_is_lost(self, subject: Subject[T]) -> None:
        """P4, a lost update: two units read a row and then both write it."""
        play = _Play(subject)
        one, two = play
        seen = [play.read(unit, 0) for unit in play]
        play.write(one, 0, play.high, waits=True)
        play.write(two, 0, play.high, waits=True)
        one.commit()
        two.commit()
        play.check("P4", lambda: all(each.result() == [play.low] for each in seen))

    @clause("14.15")
    def test_reads_of_two_rows_are_skewed(self, subject: Subject[T]) -> None:
        """G-single, read skew: one row is read before and one after another unit has written both."""
        play = _Play(subject)
        one, two = play
        first = play.read(one, 0)
        play.write(two, 0, play.high, waits=True)
        play.write(two, 1, play.high, waits=True)
        two.commit()
        second = play.read(one, 1)
        one.commit()
        play.check("G-single", lambda: (first.result(), second.result()) == ([play.low], [play.high]))

    @clause("14.16")
    def test_reads_by_criteria_are_skewed(self, subject: Subject[T]) -> None:
        """G-single by criteria: a row is found by its value before, and by another value after a change."""
        play = _Play(subject)
        one, two = play
        before = play.count(one, play.low)
        play.write(two, 0, play.high, waits=True)
        two.commit()
        after = play.count(one, play.high)
        one.commit()
        play.check("G-single-predicate", lambda: (before.result(), after.result()) == (2, 1))

    @clause("14.17")
    def test_read_and_write_are_skewed(self, subject: Subject[T]) -> None:
        """G-single with a write: a unit reads rows, and does not find them when it deletes by their value."""
        play = _Play(subject)
        one, two = play
        first = play.read(one, 0)
        play.write(two, 0, play.high, waits=True)
        play.write(two, 1, play.high, waits=True)
        two.commit()
        deleted = play.delete(one, play.low, waits=True)
        one.commit()
        play.check("G-single-write", lambda: (first.result(), deleted.result()) == ([play.low], 0))

    @clause("14.18")
    def test_writes_are_skewed(self, subject: Subject[T]) -> None:
        """G2-item, write skew: two units read two rows, and each writes another one."""
        play = _Play(subject)
        one, two = play
        seen = [play.read(unit, row) for unit in play for row in (0, 1)]
        play.write(one, 0, play.high, waits=True)
        play.write(two, 1, play.high, waits=True)
        one.commit()
        two.commit()
        play.check("G2-item", lambda: all(each.result() == [play.low] for each in seen))

    @clause("14.19")
    def test_inserts_are_skewed(self, subject: Subject[T]) -> None:
        """G2: two units look for a value, find none, and both insert it."""
        play = _Play(subject)
        one, two = play
        seen = [play.count(unit, play.high) for unit in play]
        play.insert(one, 3, play.high, waits=True)
        play.insert(two, 4, play.high, waits=True)
        one.commit()
        two.commit()
        play.check("G2", lambda: all(each.result() == 0 for each in seen))


def _fail(_: object) -> None:
    raise AppError

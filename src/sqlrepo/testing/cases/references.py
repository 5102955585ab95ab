"""What a row must refer to, and what must not be false of it, as far as the entity's own table tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from uuid import UUID

import pytest

from sqlrepo import BaseRepository, CheckViolationError, ForeignKeyViolationError
from sqlrepo.testing.clause import clause
from sqlrepo.testing.places import Place
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")

# Of values that no row is likely to have, one for each kind that keys are made of.
_MISSING: Mapping[str, Callable[[Place], Any]] = {
    "int": lambda place: place.column.type.high or 2**31 - 1,
    "str": lambda place: "~" * min(place.column.type.length or 9, 9),
    "UUID": lambda _: UUID(int=2**128 - 1),
}

# How far from its number a value is that makes a comparison false.
_BEYOND: Mapping[str, int] = {">": 0, ">=": -1, "<": 0, "<=": 1, "!=": 0, "==": 1}


class ReferenceCases(Cases[T, K]):
    """The rest of section 8."""

    @clause("8.13")
    def test_row_refers_to_one_that_is_there(self, subject: Subject[T, K]) -> None:
        """Refer to a row that is not there, in a new row and in a stored one."""
        found = list(_referring(subject))
        if not found:
            subject.lacks("no field that refers to another row")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for name, place in found:
                expected = (name, (place.name,)) if subject.capabilities.fk_error_details else (None, ())
                for write in _writes(subject, repository, stored, place, _MISSING[place.kind](place)):
                    with pytest.raises(ForeignKeyViolationError) as caught, repository.unit.savepoint():
                        write()
                    assert (caught.value.constraint, caught.value.fields) == expected
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.14")
    def test_check_is_enforced(self, subject: Subject[T, K]) -> None:
        """Give a number beyond what a check compares it with, in a new row and in a stored one."""
        found = list(_checked(subject))
        if not found:
            subject.lacks("no field whose number a check compares with another")
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            for names, place, wrong in found:
                for write in _writes(subject, repository, stored, place, wrong):
                    with pytest.raises(CheckViolationError) as caught, repository.unit.savepoint():
                        write()
                    assert caught.value.constraint in names
            assert subject.in_any_order(repository.find()) == subject.in_any_order([stored])

    @clause("8.15")
    def test_rows_of_one_call_refer_to_each_other(self, subject: Subject[T, K]) -> None:
        """Add a row together with the one it refers to, which comes after it."""
        place = _of_itself(subject)
        name = subject.mapper.field(subject.schema.key[0])
        made, keys = subject.make(2), [subject.key(one) for one in subject.store(subject.make(2))]
        subject.run(lambda repository: repository.delete_where(everything=True))
        first = subject.copied(made[0], {name: keys[0], place.name: keys[1]})
        second = subject.copied(made[1], {name: keys[1]})
        with subject.open() as repository:
            if subject.capabilities.references_at_end:
                assert len(repository.add_many([first, second])) == 2
            else:
                with pytest.raises(ForeignKeyViolationError), repository.unit.savepoint():
                    repository.add_many([first, second])
                assert len(repository.add_many([second, first])) == 2


def _of_itself(subject: Subject[T, K]) -> Place:
    """A field that refers to the key of another row of its own table."""
    schema = subject.schema
    key = tuple(schema.by_name[name].column for name in schema.key)
    own = {one.columns for one in schema.foreign_keys if (one.table, one.targets) == (schema.place, key)}
    found = (place for _, place in _referring(subject) if (place.column.name,) in own)
    return next(found, None) or subject.lacks("no field that refers to the key of its own table")


def _writes(
    subject: Subject[T, K], repository: BaseRepository[T, K], stored: T, place: Place, value: Any
) -> Iterator[Callable[[], object]]:
    """The ways to write a value."""
    double = subject.copied(subject.harness.make(2), {place.name: value})
    yield lambda: repository.add(double)
    if subject.tells_rows and place.column.name not in subject.schema.key:
        yield lambda: repository.update_where(subject.is_(stored), set_={place.name: value})


def _referring(subject: Subject[T, K]) -> Iterator[tuple[str | None, Place]]:
    """The foreign keys of one field each, which are looked at at once."""
    checked = {name for check in subject.schema.checks for name in _compared(check)}
    for one in subject.schema.foreign_keys:
        place = subject.place(one.columns[0])
        alone = len(one.columns) == 1 and not one.deferred and one.columns[0] not in checked
        if place is not None and alone and place.plain and place.kind in _MISSING:
            yield one.name, place


def _checked(subject: Subject[T, K]) -> Iterator[tuple[set[str | None], Place, int]]:
    """The fields whose number is compared by a check, all such checks, and a number that one of them refuses."""
    for check in subject.schema.checks:
        for name in _compared(check):
            place = subject.place(name)
            if place is None or place.fixed or place.kind != "int":
                continue
            wrong = check.criterion.value + _BEYOND[check.criterion.op]
            if _accepts(place, wrong):
                yield {one.name for one in subject.schema.checks if name in _compared(one)}, place, wrong


def _compared(check: Any) -> tuple[str, ...]:
    """The column that a check compares with a value, if that is all it does."""
    plain = hasattr(check.criterion, "op") and hasattr(check.criterion, "value")
    return (check.criterion.ref.name,) if plain else ()


def _accepts(place: Place, value: int) -> bool:
    """Whether the entity, and the column's type, would take a value, so that the check is what refuses it."""
    try:
        place.column.check(value)
        place.spec.accept(value)
    except ValueError:
        return False
    return True

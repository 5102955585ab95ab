"""Cases of sections 16 and 17 of the contract: aggregates, and filters on their children."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar, cast

import pytest

from sqlrepo import (
    InvalidValueError,
    NotFoundError,
    StaleEntityError,
    TransactionAbortedError,
    every,
    exists,
    fields,
    matches,
    not_,
)
from sqlrepo.memory import Part
from sqlrepo.testing.harness import clause
from sqlrepo.testing.probes import query_budget
from sqlrepo.testing.subject import Subject, count_rows

T = TypeVar("T")

# As many as a harness makes.
_MADE = 15


class _Parts(Generic[T]):
    """The parts of the subject's entities, and edits of their children."""

    def __init__(self, subject: Subject[T]) -> None:
        self._subject = subject
        self.parts = subject.require(list(subject.parts.values()), "no parts")

    def store(self, part: Part, *, least: int = 2) -> T:
        """Commit an entity with some children at least."""
        made = [one for one in self._subject.make_many(_MADE) if len(self.children(part, one)) >= least]
        return self._subject.store(self._subject.require(made, f"no entity with {least} children in {part.name}")[:1])[
            0
        ]

    def store_two(self) -> tuple[Part, T, T]:
        """Commit two entities that each have a child with a key of its own, which another entity's child lacks."""
        stolen = [part for part in self.parts if part.key and not set(part.owner) <= set(part.schema.key)]
        part = self._subject.require(stolen, "no children with a key of their own")[0]
        made = [one for one in self._subject.make_many(_MADE) if self.children(part, one)]
        if len(made) < len(("mine", "yours")):
            self._subject.not_applicable(f"no two entities with children in {part.name}")
        first, second = self._subject.store(made[:2])
        return part, first, second

    def children(self, part: Part, entity: T) -> list[Any]:
        return list(getattr(entity, part.name))

    def replace(self, part: Part, entity: T, children: Sequence[Any]) -> T:
        return self._subject.copy_with(copy.deepcopy(entity), {part.name: part.collect(children)})

    def edits(self, part: Part) -> list[Callable[[T], T]]:
        """Return functions that copy an entity with a child less, one more, or the children in another order."""

        def remove(entity: T) -> T:
            return self.replace(part, entity, self.children(part, entity)[1:])

        def add(entity: T) -> T:
            return self.replace(part, entity, [*self.fresh(part, entity), *self.children(part, entity)])

        def move(entity: T) -> T:
            return self.replace(part, entity, self.children(part, entity)[::-1])

        return [remove, add, *([move] if part.order else [])]

    def fresh(self, part: Part, entity: T) -> list[Any]:
        """Return a child that is not stored, and not among the entity's."""
        there = self.children(part, entity)
        made = (child for one in self._subject.make_many(_MADE) for child in self.children(part, one))
        return [next((child for child in made if child not in there), None) or self._no_other(part)]

    def _no_other(self, part: Part) -> Any:
        self._subject.not_applicable(f"the same children in {part.name} of all entities")

    def count(self, part: Part) -> int:
        """Count the rows of the children's table, whoever owns them."""
        with self._subject.open() as repository:
            return count_rows(repository, part)


def _key(subject: Subject[T], entity: T) -> bool:
    return subject.is_(entity)


class AggregateCases(Generic[T]):
    """Sections 16 and 17 of the contract."""

    @clause("16.1")
    def test_aggregates_are_stored_and_read_whole(self, subject: Subject[T]) -> None:
        """Every reading call returns the children that were given."""
        _Parts(subject)
        given = subject.make_many(6)
        stored = subject.store(given)
        subject.check_written(stored, given)
        with subject.open() as repository:
            one = stored[0]
            subject.check(repository.one(_key(subject, one)), one)
            subject.check(repository.first(_key(subject, one)), one)
            subject.check_any_order(repository.stream(), stored)
            if subject.mapper.has_key:
                subject.check(repository.get(subject.key_of(one)), one)
                subject.check(repository.get_many(map(subject.key_of, stored)), stored)

    @clause("16.2")
    def test_every_edit_of_the_children_is_stored(self, subject: Subject[T]) -> None:
        """Children are removed, added and, where a column keeps their order, moved."""
        parts = _Parts(subject)
        for part in parts.parts:
            stored = parts.store(part)
            for edit in parts.edits(part):
                given = edit(subject.find_one(stored))
                result = subject.update(given)
                subject.check_kept(result, given, updated=True)
                subject.check(subject.find_one(stored), result)
            subject.remove(subject.find_one(stored))

    @clause("16.3")
    def test_the_version_counts_changes_of_children(self, subject: Subject[T]) -> None:
        """An update or patch that only changes children counts the version up by one."""
        parts, version = _Parts(subject), subject.version_field()
        for part in parts.parts:
            stored = parts.store(part)
            for edit in parts.edits(part):
                now = subject.find_one(stored)
                updated = subject.update(edit(now))
                assert version.get(updated) == version.get(now) + 1, f"{part.name}: update did not count"
            if subject.mapper.has_key:
                now = subject.find_one(stored)
                changes = {part.name: getattr(parts.edits(part)[0](now), part.name)}
                patched = subject.run(partial(_patch, subject.key_of(stored), changes))
                assert version.get(patched) == version.get(now) + 1, f"{part.name}: patch did not count"
            subject.remove(subject.find_one(stored))

    @clause("16.4")
    def test_of_two_stale_roots_one_wins(self, subject: Subject[T]) -> None:
        """A change of children by a stale entity raises `StaleEntityError` and stores nothing."""
        parts = _Parts(subject)
        subject.version_field()
        for part in parts.parts:
            stored = parts.store(part)
            first, second = (edit(stored) for edit in parts.edits(part)[:2])
            winner = subject.update(first)
            with pytest.raises(StaleEntityError):
                subject.update(second)
            subject.check(subject.find_one(stored), winner)
            subject.remove(winner)

    @clause("16.5")
    def test_children_are_not_stolen(self, subject: Subject[T]) -> None:
        """Another entity's child is refused, with the place."""
        parts = _Parts(subject)
        part, first, second = parts.store_two()
        stolen = parts.replace(part, first, [*parts.children(part, first), *parts.children(part, second)[:1]])
        with pytest.raises(InvalidValueError) as caught:
            subject.update(stolen)
        place = f"{part.name}[{len(parts.children(part, first))}]"
        assert (caught.value.field or "").startswith(place), f"the error names {caught.value.field}, not {place}"
        subject.check_stored([first, second])

    @clause("16.6")
    def test_half_an_aggregate_is_never_committed(self, subject: Subject[T]) -> None:
        """What is found after the first statement aborts the unit, even if the error is caught."""
        parts = _Parts(subject)
        part, first, second = parts.store_two()
        changed = subject.copy_values(subject.change(first), first, [part.name])
        stolen = parts.replace(part, changed, parts.children(part, second)[:1])
        with pytest.raises(TransactionAbortedError), subject.open() as repository, suppress(InvalidValueError):
            repository.update(stolen)
        subject.check_stored([first, second])

    @clause("16.7")
    def test_filters_and_limits_are_about_roots(self, subject: Subject[T]) -> None:
        """A filter on children thins no collection, and a limit counts entities."""
        parts = _Parts(subject)
        stored = subject.store_new(6)
        with subject.open() as repository:
            for part in parts.parts:
                having = [one for one in stored if parts.children(part, one)]
                subject.check_any_order(repository.find(exists(getattr(fields(subject.entity), part.name))), having)
            subject.check(repository.find(limit=4), repository.find()[:4])

    @clause("16.8")
    def test_no_child_outlives_its_owner(self, subject: Subject[T]) -> None:
        """Each way to delete an entity deletes its children."""
        parts = _Parts(subject)
        for part in parts.parts:
            for delete in (_delete_where, _remove, _delete):
                stored = parts.store(part)
                assert parts.count(part), f"{part.name}: no row was stored"
                subject.run(partial(delete, subject, stored))
                assert parts.count(part) == 0, f"{part.name}: {delete.__name__[1:]} left children behind"
                with subject.open() as repository, pytest.raises(NotFoundError):
                    repository.one(_key(subject, stored))

    @clause("16.9")
    def test_statements_do_not_grow_with_the_number_of_roots(self, subject: Subject[T]) -> None:
        """Reading takes one statement, and one for each part."""
        parts = _Parts(subject)
        stored = subject.store_new(_MADE)
        with subject.open() as repository:
            repository.count()
            with query_budget(1 + len(parts.parts)):
                assert len(repository.find()) == len(stored)

    @clause("17.1")
    def test_filters_on_children_agree_with_matches(self, subject: Subject[T]) -> None:
        """`exists` and `every` choose the entities for which `matches` is true."""
        parts = _Parts(subject)
        stored = subject.store_new(_MADE)
        with subject.open() as repository:
            for part in parts.parts:
                many = getattr(fields(subject.entity), part.name)
                for criterion in (exists(many), not_(exists(many)), *_about_children(parts, part, many, stored)):
                    expected = [one for one in stored if matches(criterion, one)]
                    subject.check_any_order(repository.find(criterion), expected)
                    assert repository.count(criterion) == len(expected), f"count({criterion})"


def _about_children(parts: _Parts[Any], part: Part, many: Any, stored: Sequence[Any]) -> list[bool]:
    """Make criteria from values that children have."""
    found: list[bool] = []
    children = [child for one in stored for child in part.wrap(parts.children(part, one))][:4]
    for child in children:
        for name in part.mapper.names:
            value = getattr(child, name)
            if not part.mapper.column(name).type.kind.ordered:
                continue

            def holds(row: Any, name: str = name, value: Any = value) -> bool:
                return cast(bool, (row if part.plain else getattr(row, name)) == value)

            found += [exists(many, holds), every(many, holds), not_(every(many, holds))]
    return found


def _patch(key: Any, changes: Any, repository: Any) -> Any:
    return repository.patch(key, changes)


def _delete_where(subject: Subject[Any], stored: Any, repository: Any) -> None:
    repository.delete_where(subject.is_(stored))


def _remove(_: Subject[Any], stored: Any, repository: Any) -> None:
    repository.remove(stored)


def _delete(subject: Subject[Any], stored: Any, repository: Any) -> None:
    repository.delete(subject.key_of(stored)) if subject.mapper.has_key else repository.remove(stored)

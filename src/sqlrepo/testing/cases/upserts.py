"""Upserts: what is there is written over, what is not is inserted, and the caller is told which."""

from __future__ import annotations

from typing import TypeVar

import pytest

from sqlrepo import QueryError, UniqueViolationError
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


class UpsertCases(Cases[T, K]):
    """The upserts of section 6, and of section 9."""

    @clause("6.17")
    def test_upsert_inserts_or_writes_over(self, subject: Subject[T, K]) -> None:
        """Upsert an entity that is new, and again after a change, beside another row."""
        on = subject.agreeing()
        with subject.open() as repository:
            [other] = repository.add_many(subject.make(1, start=2))
            first = repository.upsert(subject.harness.make(1), on)
            second = repository.upsert(subject.change(first.entity), on)
        assert (first.created, second.created) == (True, False)
        subject.check_kept(first.entity, subject.harness.make(1))
        subject.check_kept(second.entity, subject.change(first.entity))
        assert subject.identities([second.entity]) == subject.identities([first.entity])
        assert subject.in_any_order(subject.all()) == subject.in_any_order([other, second.entity])

    @clause("6.18")
    def test_upsert_writes_only_what_it_is_told(self, subject: Subject[T, K]) -> None:
        """Upsert with one field to be written, and with none."""
        on, place = subject.agreeing(), subject.free()
        low, high = place.values[0], place.values[-1]
        [stored] = subject.spread(place, [low])
        changed = subject.copied(subject.change(stored), {place.name: high})
        with subject.open() as repository:
            nothing = repository.upsert(changed, on, update=())
            assert subject.seen(nothing.entity) == subject.seen(stored)
            one = repository.upsert(changed, on, update=[place.name])
        assert (nothing.created, one.created) == (False, False)
        subject.check_kept(one.entity, subject.copied(stored, {place.name: high}))
        assert subject.seen(subject.all()) == subject.seen([one.entity])

    @clause("6.19")
    def test_upsert_many_keeps_the_order(self, subject: Subject[T, K]) -> None:
        """Upsert several entities, some of which are there, and one of them twice."""
        on = subject.agreeing()
        [there] = subject.store(subject.make(1, start=2))
        made = [subject.harness.make(3), subject.change(there), subject.harness.make(1)]
        with subject.open() as repository:
            stored = repository.upsert_many([there, *made], on)
            assert repository.upsert_many([], on) == []
        assert subject.seen(stored[0]) == subject.seen(stored[2])
        for entity, given in zip(stored[1:], made, strict=True):
            subject.check_kept(entity, given)
        assert subject.in_any_order(subject.all()) == subject.in_any_order(stored[1:])

    @clause("6.20")
    def test_upsert_wants_a_unique_constraint(self, subject: Subject[T, K]) -> None:
        """Upsert on a field that several rows may agree in."""
        place = subject.free()
        with subject.open() as repository:
            for wrong in (place.name, (), "no_such_field"):
                with pytest.raises(QueryError):
                    repository.upsert(subject.harness.make(1), wrong)
            assert repository.count() == 0

    @clause("8.12")
    def test_upsert_is_held_to_other_constraints(self, subject: Subject[T, K]) -> None:
        """Upsert by one unique constraint what another row's values of a second one stand against."""
        on = subject.agreeing()
        other, stored = subject.harness.make(2), subject.store(subject.make(1))[0]
        others = [one for one in subject.uniques() if set(one[1]) != set(on) and not {*one[1]} & {*on}]
        others = [one for one in others if None not in [getattr(stored, field) for field in one[1]]]
        if not others:
            subject.lacks("no second unique constraint")
        for name, fields in others:
            clash = subject.copied(other, {field: getattr(stored, field) for field in fields})
            with subject.open() as repository:
                with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
                    repository.upsert(clash, on)
                assert (caught.value.constraint, caught.value.fields) == (name, fields)
                assert subject.seen(repository.find()) == subject.seen([stored])

    @clause("9.6")
    def test_upsert_counts_but_does_not_compare(self, subject: Subject[T, K]) -> None:
        """Upsert an entity whose row has been written since."""
        on, name = subject.agreeing(), subject.version().name
        [old] = subject.store(subject.make(1))
        new = subject.run(lambda repository: repository.update(subject.change(old)))
        upserted = subject.run(lambda repository: repository.upsert(subject.change(old), on))
        assert not upserted.created
        assert getattr(upserted.entity, name) == getattr(new, name) + 1

"""Scope: what a repository keeps to cannot be forgotten by a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import pytest

from sqlrepo import InvalidValueError, NotFoundError, QueryError, UniqueViolationError
from sqlrepo.testing.clause import clause
from sqlrepo.testing.narrowed import narrowed
from sqlrepo.testing.places import Place
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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
            scoped = narrowed(repository, _scope(subject, parted))
            assert subject.in_any_order(scoped.find()) == expected
            assert subject.in_any_order(scoped.find(others | (subject.field(parted.place) == parted.low))) == expected
            assert subject.in_any_order(scoped.stream()) == expected
            assert subject.in_any_order(scoped.page(subject.query(limit=9)).items) == expected
            assert subject.in_any_order(scoped.scroll(subject.query(limit=9)).items) == expected
            assert subject.seen(scoped.first()) in subject.seen(parted.inside)
            assert (scoped.find(others), list(scoped.stream(others)), scoped.first(others)) == ([], [], None)
            if subject.mapper.has_key:
                keys = list(map(subject.key, [*parted.outside, *parted.inside]))
                assert subject.in_any_order(scoped.get_many(keys)) == expected

    @clause("15.2")
    def test_no_row_outside_is_counted(self, subject: Subject[T, K]) -> None:
        """Count, ask whether there are any, and ask for a total."""
        parted = _parted(subject)
        others = subject.field(parted.place) == parted.high
        with subject.open() as repository:
            scoped = narrowed(repository, _scope(subject, parted))
            assert (scoped.count(), scoped.count(others)) == (len(parted.inside), 0)
            assert (scoped.exists(), scoped.exists(others)) == (True, False)
            page = scoped.page(subject.query(limit=1), with_total=True)
            assert (page.has_next, page.total) == (True, len(parted.inside))
            last = scoped.page(subject.query(limit=1, offset=1), with_total=True)
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
            scoped = narrowed(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [lambda: scoped.one(subject.is_(foreign))]
            for one in (entity, *stale):
                calls += [partial(scoped.update, one), partial(scoped.remove, one)]
            if subject.mapper.has_key:
                key, changes = subject.key(foreign), {parted.place.name: parted.low}
                assert scoped.get_or_none(key) is None
                calls += [lambda: scoped.get(key), lambda: scoped.delete(key)]
                calls += [lambda: scoped.patch(key, changes), lambda: scoped.patch(key, {})]
            for call in calls:
                with pytest.raises(NotFoundError):
                    call()
            assert scoped.one_or_none(subject.is_(foreign)) is None
            assert subject.seen(scoped.one(subject.is_(own))) == subject.seen(own)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([*parted.inside, *parted.outside])

    @clause("15.4")
    def test_set_forms_leave_what_is_outside(self, subject: Subject[T, K]) -> None:
        """Change and delete what a criterion asks for of another scope, and everything."""
        parted = _parted(subject)
        others, setting = subject.field(parted.place) == parted.high, {parted.place.name: parted.low}
        with subject.open() as repository:
            scoped = narrowed(repository, _scope(subject, parted))
            assert (scoped.update_where(others, set_=setting), scoped.delete_where(others)) == (0, 0)
            assert scoped.update_where(everything=True, set_=setting) == len(parted.inside)
            assert subject.in_any_order(repository.find(others)) == subject.in_any_order(parted.outside)
            assert scoped.delete_where(everything=True) == len(parted.inside)
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
            scoped = narrowed(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [lambda: scoped.add(wrong), lambda: scoped.add_many([fine, wrong])]
            if subject.tells_rows:
                calls.append(lambda: scoped.save(wrong))
            for call in calls:
                with pytest.raises(InvalidValueError) as caught:
                    call()
                assert caught.value.field == parted.place.name
                assert repository.count() == len([*parted.inside, *parted.outside])
            stored = scoped.add(fine)
        assert subject.in_any_order(subject.all()) == subject.in_any_order([*parted.inside, *parted.outside, stored])

    @clause("15.6")
    def test_a_row_outside_is_not_written_over(self, subject: Subject[T, K]) -> None:
        """Upsert what agrees with a row of another scope, and save over one."""
        parted, on = _parted(subject), subject.agreeing()
        foreign = subject.copied(subject.harness.make(2), {parted.place.name: parted.low})
        own = subject.copied(subject.harness.make(1), {parted.place.name: parted.low})
        with subject.open() as repository:
            scoped = narrowed(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [
                lambda: scoped.upsert(foreign, on),
                lambda: scoped.upsert(foreign, on, update=()),
                lambda: scoped.upsert_many([foreign], on),
            ]
            if subject.tells_rows:
                calls.append(lambda: scoped.save(subject.copied(parted.outside[0], {parted.place.name: parted.low})))
            for call in calls:
                with pytest.raises(UniqueViolationError), repository.unit.savepoint():
                    call()
            assert subject.in_any_order(repository.find()) == subject.in_any_order([*parted.inside, *parted.outside])
            assert not scoped.upsert(own, on).created

    @clause("15.7")
    def test_a_change_takes_no_row_outside(self, subject: Subject[T, K]) -> None:
        """Give a row another scope's value in every way; and once more where the repository lets rows leave."""
        parted = _parted(subject)
        own = parted.inside[0]
        subject.identities([own])
        wrong, setting = subject.copied(own, {parted.place.name: parted.high}), {parted.place.name: parted.high}
        with subject.open() as repository:
            scoped = narrowed(repository, _scope(subject, parted))
            calls: list[Callable[[], object]] = [lambda: scoped.update(wrong), lambda: scoped.save(wrong)]
            calls += [lambda: scoped.update_where(subject.is_(own), set_=setting)]
            if subject.mapper.has_key:
                calls.append(lambda: scoped.patch(subject.key(own), setting))
            for call in calls:
                with pytest.raises(InvalidValueError) as caught:
                    call()
                assert caught.value.field == parted.place.name
            assert subject.in_any_order(scoped.find()) == subject.in_any_order(parted.inside)
            leaving = narrowed(repository, _scope(subject, parted), leaving=True)
            assert getattr(leaving.update(wrong), parted.place.name) == parted.high
            assert subject.in_any_order(leaving.find()) == subject.in_any_order(parted.inside[1:])

    @clause("15.8")
    def test_a_cursor_is_of_its_scope(self, subject: Subject[T, K]) -> None:
        """Go on in another scope where a page of one ended."""
        parted, query = _parted(subject), subject.query(limit=1)
        with subject.open() as repository:
            scoped = narrowed(repository, _scope(subject, parted))
            other = narrowed(repository, subject.field(parted.place) == parted.high)
            page = scoped.scroll(query)
            for foreign in (other, repository):
                with pytest.raises(QueryError):
                    foreign.scroll(query, after=page.next)
            last = scoped.scroll(query, after=page.next)
        assert subject.in_any_order([*page.items, *last.items]) == subject.in_any_order(parted.inside)

    @clause("15.9")
    def test_what_is_no_scope_is_an_error(self, subject: Subject[T, K]) -> None:
        """Ask a repository whose scope is a plain bool, and one that gives none; the unit goes on."""
        [stored] = subject.store(subject.make(1))
        with subject.open() as repository:
            another = subject.harness.make(2)
            for wrong in (True, None):
                scoped = narrowed(repository, wrong)
                for call in (scoped.find, scoped.count, partial(scoped.add, another)):
                    with pytest.raises(QueryError):
                        call()
            assert subject.seen(repository.find()) == subject.seen([stored])

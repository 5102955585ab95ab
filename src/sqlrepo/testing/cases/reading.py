"""Reading by key, and the calls that say how many they expect."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import pytest
from pydantic import create_model

from sqlrepo import InvalidLiteralError, MultipleFoundError, NotFoundError, not_
from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


class ReadingCases(Cases[T, K]):
    """Section 2."""

    @clause("2.1")
    def test_get_gives_the_stored_entity(self, subject: Subject[T, K]) -> None:
        """Read each of several entities by its key."""
        stored = subject.store(subject.make(3))
        with subject.open() as repository:
            assert subject.seen([repository.get(subject.key(entity)) for entity in stored]) == subject.seen(stored)
            assert subject.seen(repository.get_or_none(subject.key(stored[1]))) == subject.seen(stored[1])

    @clause("2.2")
    def test_get_of_a_missing_key_is_not_found(self, subject: Subject[T, K]) -> None:
        """Read by the key of an entity that is gone."""
        key = subject.key(subject.gone())
        with subject.open() as repository:
            with pytest.raises(NotFoundError) as caught:
                repository.get(key)
            assert repository.get_or_none(key) is None
        assert (caught.value.entity, caught.value.key) == (subject.entity, key)

    @clause("2.3")
    def test_get_many_keeps_the_order_of_the_keys(self, subject: Subject[T, K]) -> None:
        """Read several keys, backwards, one of them missing."""
        stored = subject.store(subject.make(4))
        missing = subject.key(subject.gone())
        wanted = [stored[3], stored[0], stored[2]]
        first, *rest = [subject.key(entity) for entity in wanted]
        with subject.open() as repository:
            assert subject.seen(repository.get_many([first, missing, *rest])) == subject.seen(wanted)
            assert repository.get_many([]) == []

    @clause("2.4")
    def test_what_is_no_key_is_refused(self, subject: Subject[T, K]) -> None:
        """Read by None and by an object that no column holds."""
        with subject.open() as repository:
            for wrong in (None, object(), ()):
                with pytest.raises(InvalidLiteralError):
                    repository.get_or_none(cast(Any, wrong))
            assert repository.find() == []

    @clause("2.5")
    def test_one_gives_the_only_one(self, subject: Subject[T, K]) -> None:
        """Ask for the only entity that answers."""
        stored = subject.store(subject.make(3))
        with subject.open() as repository:
            assert subject.seen(repository.one(subject.is_(stored[1]))) == subject.seen(stored[1])
            assert subject.seen(repository.one_or_none(subject.is_(stored[2]))) == subject.seen(stored[2])

    @clause("2.6")
    def test_one_of_none_is_not_found(self, subject: Subject[T, K]) -> None:
        """Ask for the only entity where there is none."""
        gone = subject.gone()
        with subject.open() as repository:
            with pytest.raises(NotFoundError) as caught:
                repository.one(subject.is_(gone))
            assert repository.one_or_none(subject.is_(gone)) is None
        assert caught.value.entity is subject.entity

    @clause("2.6")
    def test_one_of_several_is_refused(self, subject: Subject[T, K]) -> None:
        """Ask for the only entity where there are three."""
        stored = subject.store(subject.make(3))
        with subject.open() as repository:
            for ask in (repository.one, repository.one_or_none):
                with pytest.raises(MultipleFoundError) as caught:
                    ask()
                assert caught.value.entity is subject.entity
                with pytest.raises(MultipleFoundError):
                    ask(not_(subject.is_(stored[0])))

    @clause("2.7")
    def test_first_gives_the_first_in_order(self, subject: Subject[T, K]) -> None:
        """Ask for the first of all, of some, and of none."""
        stored = subject.store(subject.make(3))
        gone = subject.gone()
        with subject.open() as repository:
            everything = repository.find()
            assert subject.seen(repository.first()) == subject.seen(everything[0])
            assert subject.seen(repository.first(subject.is_(stored[1]))) == subject.seen(stored[1])
            assert repository.first(subject.is_(gone)) is None

    @clause("2.8")
    def test_into_gives_only_the_fields_asked_for(self, subject: Subject[T, K]) -> None:
        """Select one field into a model of its own."""
        place = subject.compared()
        stored = subject.store(subject.make(3))
        model = create_model("Summary", **cast(Any, {place.name: (place.spec.annotation, ...)}))
        with subject.open() as repository:
            found = repository.find(into=model)
            whole = repository.find()
        assert [one.model_dump() for one in found] == [{place.name: getattr(one, place.name)} for one in whole]
        assert len(found) == len(stored)

    @clause("2.9")
    def test_empty_store_says_so(self, subject: Subject[T, K]) -> None:
        """Ask an empty store everything that needs no entity."""
        with subject.open() as repository:
            assert (repository.find(), repository.first(), repository.one_or_none()) == ([], None, None)
            assert (repository.count(), repository.exists()) == (0, False)
            assert (repository.delete_where(everything=True), repository.get_many([])) == (0, [])

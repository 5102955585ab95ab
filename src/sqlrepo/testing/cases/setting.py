"""What the harness promises to the cases, checked first: most failures begin there."""

from __future__ import annotations

import copy
from typing import TypeVar

from sqlrepo.testing.clause import clause
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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

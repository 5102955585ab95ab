"""Text: compared by code point, searched with case and without wildcards, or without regard to case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from sqlrepo import UnsupportedError, contains, endswith, icontains, iendswith, iequals, istartswith, startswith
from sqlrepo.testing.clause import clause
from sqlrepo.testing.places import Place
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")

_EXACT: tuple[tuple[Callable[[Any, str], bool], Callable[[str, str], bool]], ...] = (
    (contains, lambda text, part: part in text),
    (startswith, str.startswith),
    (endswith, str.endswith),
)


def _folds(subject: Subject[T, K]) -> bool:
    """Whether case can be ignored as the repository wants it to be."""
    with subject.open() as repository:
        return subject.capabilities.unicode_fold or repository.fold == "ascii"


def _stored_texts(subject: Subject[T, K]) -> tuple[Place, list[str]]:
    """Commit entities; give a text field, and the texts in it that are not empty."""
    place = subject.compared("str")
    stored = subject.store_samples()
    texts = [text for entity in stored if (text := getattr(entity, place.name))]
    return (place, texts) if texts else subject.lacks("no text")


def _cased(subject: Subject[T, K], texts: list[str]) -> str:
    """A text in which upper and lower case can be told apart, and every fold agrees."""
    text = next((text for text in texts if text.isascii() and text != text.swapcase()), None)
    return text or subject.lacks(f"no text with a letter from A to Z in {', '.join(map(repr, texts[:3]))}")


class TextCases(Cases[T, K]):
    """Section 4."""

    @clause("4.1")
    def test_parts_of_text_are_found(self, subject: Subject[T, K]) -> None:
        """Search for the beginning, the end, the middle and the whole of a text, and for nothing."""
        place, texts = _stored_texts(subject)
        half = len(texts[0]) // 2
        self._check(subject, place, [texts[0], texts[0][:half], texts[0][half:], texts[0][1:-1], texts[-1][-1:], ""])

    @clause("4.2")
    def test_no_character_is_a_wildcard(self, subject: Subject[T, K]) -> None:
        """Search for texts that would find something if they were patterns."""
        place, texts = _stored_texts(subject)
        first, last = texts[0][0], texts[0][-1]
        patterns = ["%", "_", "*", "?", "\\", f"{first}%", f"%{last}", "_" * len(texts[0]), f"{first}*", f"{first}.*"]
        self._check(subject, place, [*patterns, texts[0] + "\\", f"[{first}]", f"{first}\\%"])

    @clause("4.3")
    def test_case_matters(self, subject: Subject[T, K]) -> None:
        """Search for a text in the other case."""
        place, texts = _stored_texts(subject)
        self._check(subject, place, [_cased(subject, texts).swapcase()])

    @clause("4.4")
    def test_case_does_not_matter_where_it_is_ignored(self, subject: Subject[T, K]) -> None:
        """Search for a text, its beginning and its end in the other case."""
        place, texts = _stored_texts(subject)
        text, field = _cased(subject, texts).swapcase(), subject.field(place)
        if not _folds(subject):
            with pytest.raises(UnsupportedError), subject.open() as repository:
                repository.find(icontains(field, text))
            return
        with subject.open() as repository:
            for search, part, holds in (
                (icontains, text[1:] or text, lambda own, part: part in own),
                (istartswith, text[:2], str.startswith),
                (iendswith, text[-2:], str.endswith),
                (iequals, text, str.__eq__),
                (icontains, "%", lambda own, part: part in own),
            ):
                found = repository.find(search(field, part))
                everything = [entity for entity in repository.find() if getattr(entity, place.name) is not None]
                expected = [one for one in everything if holds(getattr(one, place.name).lower(), part.lower())]
                assert subject.seen(found) == subject.seen(expected), f"{search.__name__}({place.name}, {part!r})"

    @clause("4.5")
    def test_null_is_found_by_no_search(self, subject: Subject[T, K]) -> None:
        """Search for the empty text, which every text holds."""
        place = next(
            (one for one in subject.places if one.plain and one.optional and one.kind == "str" and one.values), None
        )
        if place is None or place.fixed:
            subject.lacks("no text field that may be None")
        subject.spread(place, [place.values[0], None, place.values[-1]])
        searches = [contains, startswith, endswith]
        searches += [icontains, istartswith, iendswith] if _folds(subject) else []
        with subject.open() as repository:
            for search in searches:
                assert repository.count(search(subject.field(place), "")) == 2, search.__name__

    def _check(self, subject: Subject[T, K], place: Place, needles: list[str]) -> None:
        with subject.open() as repository:
            everything = [entity for entity in repository.find() if getattr(entity, place.name) is not None]
            for needle in needles:
                for search, holds in _EXACT:
                    expected = [entity for entity in everything if holds(getattr(entity, place.name), needle)]
                    found = repository.find(search(subject.field(place), needle))
                    assert subject.seen(found) == subject.seen(expected), f"{search.__name__}({place.name}, {needle!r})"

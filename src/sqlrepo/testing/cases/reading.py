"""Reading by key, and the calls that say how many they expect."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar, cast

import pytest
from pydantic import create_model

from sqlrepo import (
    BaseRepository,
    InvalidLiteralError,
    MultipleFoundError,
    NotFoundError,
    QueryError,
    UnsupportedError,
    asc,
    between,
    contains,
    desc,
    endswith,
    fields,
    icontains,
    iendswith,
    iequals,
    in_,
    is_null,
    istartswith,
    matches,
    not_,
    not_in,
    some,
    startswith,
)
from sqlrepo.testing.harness import clause
from sqlrepo.testing.subject import Cases, Place, Subject

T = TypeVar("T")
K = TypeVar("K")

_Test: TypeAlias = Callable[[Any], bool]

_COMPARISONS: tuple[Callable[[Any, Any], Any], ...] = (
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
)  # fmt: skip


def _check(
    subject: Subject[T, K], repository: BaseRepository[T, K], criterion: bool, holds: Callable[[T], bool]
) -> None:
    """Compare what a criterion finds with the entities of which a Python function says that it holds."""
    expected = [entity for entity in repository.find() if holds(entity)]
    found = repository.find(criterion)
    assert subject.seen(found) == subject.seen(expected), f"find({criterion})"
    assert repository.count(criterion) == len(expected), f"count({criterion})"
    assert repository.exists(criterion) is bool(expected), f"exists({criterion})"


def _of(place: Place, test: _Test) -> Callable[[Any], bool]:
    """A test of an entity's value in a field."""
    return lambda entity: test(getattr(entity, place.name))


def _known(test: _Test) -> _Test:
    """A test that no NULL passes."""
    return lambda own: own is not None and test(own)


def _against(compare: Callable[[Any, Any], Any], value: Any) -> _Test:
    """A comparison with a value, unknown of NULL."""
    return _known(lambda own: compare(own, value))


def _between_fields(compare: Callable[[Any, Any], Any], left: Place, right: Place) -> Callable[[Any], bool]:
    """A comparison of two fields, unknown where either is NULL."""

    def holds(entity: Any) -> bool:
        one, other = getattr(entity, left.name), getattr(entity, right.name)
        return None not in (one, other) and bool(compare(one, other))

    return holds


def _missing_from(values: list[Any]) -> _Test:
    return lambda own: own not in values


def _with_nulls(subject: Subject[T, K]) -> tuple[Place, Any, Any]:
    """Commit entities with and without a value in an optional field; give the field and two values of it."""
    place = subject.optional()
    low, high = place.values[0], place.values[-1]
    subject.spread(place, [high, None, low, None, high])
    return place, low, high


class CriteriaCases(Cases[T, K]):
    """Section 3."""

    @clause("3.1")
    def test_comparisons_compare(self, subject: Subject[T, K]) -> None:
        """Compare every field that is stored as it is with a value from the middle."""
        subject.store_samples()
        places = [place for place in subject.places if place.plain and place.values] or [subject.compared()]
        with subject.open() as repository:
            for place in places:
                value, field = place.values[len(place.values) // 2], subject.field(place)
                for compare in _COMPARISONS:
                    _check(subject, repository, compare(field, value), _of(place, _against(compare, value)))

    @clause("3.2")
    def test_between_includes_both_ends(self, subject: Subject[T, K]) -> None:
        """Ask for a range whose ends are values of rows."""
        place = subject.compared()
        subject.store_samples()
        low, high = place.values[len(place.values) // 3], place.values[-1]
        with subject.open() as repository:
            criterion = between(subject.field(place), low, high)
            _check(subject, repository, criterion, _of(place, _known(lambda own: low <= own <= high)))

    @clause("3.3")
    def test_comparison_with_null_is_unknown(self, subject: Subject[T, K]) -> None:
        """Compare a field that some rows have no value in, and negate the comparison."""
        place, value, _ = _with_nulls(subject)
        field = some(subject.field(place))
        with subject.open() as repository:
            for compare in _COMPARISONS:
                _check(subject, repository, compare(field, value), _of(place, _against(compare, value)))

    @clause("3.4")
    def test_not_excludes_null(self, subject: Subject[T, K]) -> None:
        """Negate what is unknown."""
        place, low, high = _with_nulls(subject)
        field = some(subject.field(place))
        with subject.open() as repository:
            for criterion, holds in (
                (not_(field == low), lambda own: own != low),
                (not_(field < high), lambda own: own >= high),
                (not_((field == low) | (field > high)), lambda own: own != low and own <= high),
                (not_(not_(field == low)), lambda own: own == low),
                (not_(in_(field, [low])), lambda own: own != low),
                (not_in(field, [low]), lambda own: own != low),
            ):
                _check(subject, repository, criterion, _of(place, _known(holds)))

    @clause("3.5")
    def test_unknown_gives_way_to_what_decides(self, subject: Subject[T, K]) -> None:
        """Combine what is unknown with what is true or false whatever the field holds."""
        place, low, _ = _with_nulls(subject)
        field = subject.field(place)
        null = is_null(field)
        with subject.open() as repository:
            for criterion, holds in (
                ((field == low) | null, lambda own: own is None or own == low),
                (not_((field == low) & not_(null)), lambda own: own is None or own != low),
                ((field == low) & null, lambda _: False),
                (not_((field == low) | null), lambda own: own is not None and own != low),
            ):
                _check(subject, repository, criterion, _of(place, holds))

    @clause("3.6")
    def test_none_is_null(self, subject: Subject[T, K]) -> None:
        """Ask for None in every spelling."""
        place, _, _ = _with_nulls(subject)
        field = subject.field(place)
        with subject.open() as repository:
            for criterion in (field == None, is_null(field), in_(field, [None])):  # noqa: E711  # a criterion
                _check(subject, repository, criterion, _of(place, lambda own: own is None))
            for criterion in (field != None, not_(is_null(field)), not_in(field, [None])):  # noqa: E711
                _check(subject, repository, criterion, _of(place, lambda own: own is not None))
            assert repository.count(**{place.name: None}) == 2

    @clause("3.7")
    def test_in_asks_for_one_of_several(self, subject: Subject[T, K]) -> None:
        """Ask for two values, and for none."""
        place = subject.compared()
        subject.store_samples()
        field, wanted = subject.field(place), [place.values[0], place.values[-1]]
        with subject.open() as repository:
            _check(subject, repository, in_(field, wanted), _of(place, lambda own: own in wanted))
            _check(subject, repository, in_(field, []), lambda _: False)
            _check(subject, repository, not_in(field, []), lambda _: True)
            _check(subject, repository, not_in(field, wanted), _of(place, _known(lambda own: own not in wanted)))

    @clause("3.8")
    def test_none_among_values_asks_for_null(self, subject: Subject[T, K]) -> None:
        """Give None among the values of in_ and not_in."""
        place, low, high = _with_nulls(subject)
        field = subject.field(place)
        with subject.open() as repository:
            for wanted in ([low, None], [None], [None, low, high]):
                _check(subject, repository, in_(field, wanted), _of(place, wanted.__contains__))
                _check(subject, repository, not_(in_(field, wanted)), _of(place, _missing_from(wanted)))
                _check(subject, repository, not_in(field, wanted), _of(place, _missing_from(wanted)))

    @clause("3.9")
    def test_spellings_ask_the_same(self, subject: Subject[T, K]) -> None:
        """Ask by expression, keyword and query object, and by two at once."""
        place = subject.compared()
        subject.store_samples()
        value = place.values[0]
        with subject.open() as repository:
            expected = repository.find(subject.field(place) == value)
            assert len(expected) > 0
            for found in (
                repository.find(**{place.name: value}),
                repository.find(subject.query(**{f"{place.name}__eq": value})),
                repository.find(subject.query(**{f"{place.name}__in": [value]})),
                repository.find(subject.query(**{f"{place.name}__le": value}), subject.field(place) >= value),
            ):
                assert subject.seen(found) == subject.seen(expected)

    @clause("3.10")
    def test_several_criteria_must_all_hold(self, subject: Subject[T, K]) -> None:
        """Give criteria one by one, joined, and by keyword beside an expression."""
        stored = subject.store(subject.make(4))
        one, other = subject.is_(stored[0]), subject.is_(stored[1])
        with subject.open() as repository:
            assert repository.find(one, other) == []
            assert subject.seen(repository.find(one, not_(other))) == subject.seen([stored[0]])
            both = subject.identities(stored[:2])
            _check(subject, repository, one | other, lambda entity: subject.identities([entity])[0] in both)
            equal: dict[str, Any] = {subject.natural_key[0]: getattr(stored[0], subject.natural_key[0])}
            assert repository.find(other, one, **equal) == []
            assert subject.seen(repository.find(one, **equal)) == subject.seen([stored[0]])

    @clause("3.11")
    def test_bool_field_is_a_criterion(self, subject: Subject[T, K]) -> None:
        """Use a bool field by itself and negated."""
        place = subject.compared("bool")
        subject.store_samples()
        field = subject.field(place)
        with subject.open() as repository:
            _check(subject, repository, field, _of(place, lambda own: own is True))
            _check(subject, repository, not_(field), _of(place, lambda own: own is False))

    @clause("3.12")
    def test_fields_compare_with_each_other(self, subject: Subject[T, K]) -> None:
        """Compare every field with itself and with the next one of its type."""
        subject.store_samples()
        places = [place for place in subject.places if place.plain and place.values] or [subject.compared()]
        alike = [[place for place in places if place.kind == kind] for kind in {place.kind for place in places}]
        pairs = [pair for group in alike for pair in [*zip(group, group, strict=True), *pairwise(group)]]
        with subject.open() as repository:
            for left, right in pairs:
                for compare in _COMPARISONS:
                    criterion = compare(subject.field(left), subject.field(right))
                    _check(subject, repository, criterion, _between_fields(compare, left, right))

    @clause("3.13")
    def test_matches_agrees_with_find(self, subject: Subject[T, K]) -> None:
        """Evaluate criteria in Python, on the entities that were found."""
        place = subject.compared()
        subject.store_samples()
        value, field = place.values[len(place.values) // 2], subject.field(place)
        with subject.open() as repository:
            for criterion in (
                field >= value,
                not_(field == value),
                in_(field, [value, place.values[0]]),
                is_null(field),
            ):
                _check(subject, repository, criterion, partial(matches, criterion))

    @clause("3.14")
    def test_what_cannot_be_meant_is_refused(self, subject: Subject[T, K]) -> None:
        """Ask with plain bools, unknown fields and values of another type; the unit goes on."""
        stored = subject.store(subject.make(2))
        named = cast(Any, fields(subject.entity))
        with subject.open() as repository:
            unknown: dict[str, Any] = {"no such field": 1}
            for wrong in (
                lambda: repository.find(True),
                lambda: repository.count(cast(Any, stored[0])),
                lambda: repository.find(**unknown),
                lambda: repository.find(named.no_such_field == 1),
                lambda: repository.find(order_by="no_such_field"),
                lambda: bool(subject.is_(stored[0])),
                lambda: repository.find(subject.query(limit=1), subject.query(limit=1)),
            ):
                with pytest.raises(QueryError):
                    wrong()
            assert len(repository.find()) == 2

    @clause("3.15")
    def test_value_of_another_type_is_refused(self, subject: Subject[T, K]) -> None:
        """Compare with a value that the field cannot hold."""
        place = subject.compared()
        with subject.open() as repository:
            with pytest.raises(InvalidLiteralError) as caught:
                repository.find(subject.field(place) == object())
            equal: dict[str, Any] = {place.name: object()}
            with pytest.raises(InvalidLiteralError):
                repository.find(**equal)
            assert repository.find() == []
        assert caught.value.field == place.name


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


def _sorted(everything: list[T], place: Place, *, descending: bool) -> list[T]:
    """Sort what is in the order of the keys: NULL smallest, ties by key in the same direction."""
    ranked = sorted(everything, key=lambda entity: _rank(getattr(entity, place.name)))
    return ranked[::-1] if descending else ranked


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


class OrderCases(Cases[T, K]):
    """Section 5."""

    @clause("5.1")
    def test_without_order_the_key_decides(self, subject: Subject[T, K]) -> None:
        """Store entities backwards and find them."""
        subject.store(subject.make(5)[::-1])
        found = subject.all()
        keys = [subject.key(entity) for entity in found]
        assert keys == sorted(keys, key=lambda key: cast(Any, key))

    @clause("5.2")
    def test_order_follows_a_field(self, subject: Subject[T, K]) -> None:
        """Sort by every field that can be, in both directions and in both spellings."""
        subject.store_samples()
        places = [place for place in subject.places if place.plain and place.values] or [subject.compared()]
        with subject.open() as repository:
            everything = repository.find()
            for place in places:
                field = subject.field(place)
                up, down = (_sorted(everything, place, descending=descending) for descending in (False, True))
                for order, expected in (
                    (field, up), (asc(field), up), (place.name, up), (desc(field), down), (f"-{place.name}", down),
                ):  # fmt: skip
                    assert subject.seen(repository.find(order_by=order)) == subject.seen(expected), str(order)

    @clause("5.3")
    def test_null_is_smaller_than_everything(self, subject: Subject[T, K]) -> None:
        """Sort by a field that some rows have no value in."""
        place = subject.optional()
        subject.spread(place, [place.values[-1], None, place.values[0], None])
        with subject.open() as repository:
            up = [getattr(entity, place.name) for entity in repository.find(order_by=place.name)]
            down = [getattr(entity, place.name) for entity in repository.find(order_by=f"-{place.name}")]
        assert up == [None, None, place.values[0], place.values[-1]]
        assert down == [place.values[-1], place.values[0], None, None]

    @clause("5.4")
    def test_ties_are_in_the_order_of_the_key(self, subject: Subject[T, K]) -> None:
        """Sort by a field in which rows agree; the key follows the direction of the last sort key."""
        place, _ = subject.ties()
        with subject.open() as repository:
            everything = repository.find()
            for order, descending in ((place.name, False), (f"-{place.name}", True)):
                found = repository.find(order_by=order)
                assert subject.seen(found) == subject.seen(_sorted(everything, place, descending=descending)), order

    @clause("5.5")
    def test_limit_and_offset_count_after_filter_and_order(self, subject: Subject[T, K]) -> None:
        """Take a part of what a criterion leaves, in an order."""
        place, stored = subject.ties()
        criterion = not_(subject.is_(stored[0]))
        with subject.open() as repository:
            whole = repository.find(criterion, order_by=f"-{place.name}")
            for limit, offset in ((2, 0), (2, 1), (3, 4), (100, 5), (1, 100), (0, 0), (None, 2)):
                found = repository.find(criterion, order_by=f"-{place.name}", limit=limit, offset=offset)
                expected = whole[offset:] if limit is None else whole[offset : offset + limit]
                assert subject.seen(found) == subject.seen(expected), f"limit={limit}, offset={offset}"
            assert subject.seen(repository.first(criterion, order_by=f"-{place.name}")) == subject.seen(whole[0])

    @clause("5.5")
    def test_limit_counts_what_the_filter_leaves(self, subject: Subject[T, K]) -> None:
        """Ask for one entity, which is the last in the order of the keys."""
        subject.store(subject.make(4))
        with subject.open() as repository:
            last = repository.find()[-1]
            assert subject.seen(repository.find(subject.is_(last), limit=1)) == subject.seen([last])
            assert subject.seen(repository.first(subject.is_(last))) == subject.seen(last)

    @clause("5.6")
    def test_impossible_limits_are_refused(self, subject: Subject[T, K]) -> None:
        """Give negative numbers, and a limit twice."""
        with subject.open() as repository:
            for limit, offset in ((-1, None), (None, -1), (True, None)):
                with pytest.raises(QueryError):
                    repository.find(limit=limit, offset=offset)
            with pytest.raises(QueryError):
                repository.find(subject.query(limit=1), limit=2)
            with pytest.raises(QueryError):
                repository.page(subject.query(offset=1))

    @clause("5.7")
    def test_count_ignores_limit_and_offset(self, subject: Subject[T, K]) -> None:
        """Count with a query object that has both."""
        subject.store(subject.make(4))
        with subject.open() as repository:
            assert repository.count(subject.query(limit=1, offset=2)) == 4
            assert repository.exists(subject.query(limit=0)) is True
            assert len(repository.find(subject.query(limit=1, offset=2))) == 1

    @clause("5.8")
    def test_page_knows_whether_there_is_more(self, subject: Subject[T, K]) -> None:
        """Go through pages of two, with totals, and past the end."""
        subject.store(subject.make(5))
        with subject.open() as repository:
            whole = repository.find()
            for offset, more in ((0, True), (2, True), (3, False), (4, False), (9, False)):
                page = repository.page(subject.query(limit=2, offset=offset), with_total=True)
                assert subject.seen(page.items) == subject.seen(whole[offset : offset + 2])
                assert (page.has_next, page.total) == (more, 5), f"offset={offset}"
            assert repository.page(subject.query(limit=2)).total is None

    @clause("5.9")
    def test_scroll_meets_every_row_once(self, subject: Subject[T, K]) -> None:
        """Scroll over ties and NULLs in both directions of the order, with pages of every size."""
        place, _ = subject.ties()
        with subject.open() as repository:
            for order in (place.name, f"-{place.name}"):
                whole = repository.find(order_by=order)
                for limit in (1, 2, 3, len(whole), len(whole) + 1):
                    pages = self._scrolled(subject, repository, limit, order)
                    assert subject.seen([entity for page in pages for entity in page]) == subject.seen(whole), order
                    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)

    @clause("5.10")
    def test_scroll_goes_back_the_way_it_came(self, subject: Subject[T, K]) -> None:
        """Scroll to the end and back again."""
        place, _ = subject.ties()
        with subject.open() as repository:
            for order in (place.name, f"-{place.name}"):
                query = subject.query(limit=2, order_by=order)
                page, there = repository.scroll(query), []
                assert page.previous is None
                while page.next is not None:
                    there.append(subject.seen(page.items))
                    page = repository.scroll(query, after=page.next)
                back = []
                while page.previous is not None:
                    page = repository.scroll(query, before=page.previous)
                    back.append(subject.seen(page.items))
                assert back == there[::-1], order

    @clause("5.11")
    def test_cursor_of_another_query_is_refused(self, subject: Subject[T, K]) -> None:
        """Use a cursor with another order, and one that was changed."""
        place, _ = subject.ties()
        with subject.open() as repository:
            cursor = repository.scroll(subject.query(limit=2, order_by=place.name)).next
            assert cursor is not None
            for order, text in ((f"-{place.name}", cursor), (place.name, cursor[:-2]), (place.name, "")):
                with pytest.raises(QueryError):
                    repository.scroll(subject.query(limit=2, order_by=order), after=text)

    @clause("5.12")
    def test_stream_gives_what_find_gives(self, subject: Subject[T, K]) -> None:
        """Stream in several orders, with other calls in between, and leave a stream early."""
        place, _ = subject.ties()
        with subject.open() as repository:
            for order in (None, place.name, f"-{place.name}"):
                streamed = []
                for entity in repository.stream(order_by=order):
                    with repository.unit.savepoint():
                        assert repository.exists()
                    streamed.append(subject.seen(entity))
                assert streamed == subject.seen(repository.find(order_by=order)), order
            assert len(list(repository.stream(subject.query(limit=1, order_by=place.name)))) == 7
            assert subject.seen(next(iter(repository.stream()))) == subject.seen(repository.first())
            with pytest.raises(QueryError):
                repository.stream(order_by="no_such_field")

    def _scrolled(
        self, subject: Subject[T, K], repository: BaseRepository[T, K], limit: int, order: str
    ) -> list[list[T]]:
        query = subject.query(limit=limit, order_by=order)
        page = repository.scroll(query)
        pages = [page.items]
        while page.next is not None:
            page = repository.scroll(query, after=page.next)
            pages.append(page.items)
        return pages


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

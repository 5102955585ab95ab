"""What criteria find, three-valued logic included; Python says what is expected of the entities that are stored."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar, cast

import pytest

from sqlrepo import (
    BaseRepository,
    InvalidLiteralError,
    QueryError,
    between,
    fields,
    in_,
    is_null,
    matches,
    not_,
    not_in,
    some,
)
from sqlrepo.testing.clause import clause
from sqlrepo.testing.places import Place
from sqlrepo.testing.subject import Cases, Subject

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
            equal: dict[str, Any] = {subject.identity[0]: getattr(stored[0], subject.identity[0])}
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

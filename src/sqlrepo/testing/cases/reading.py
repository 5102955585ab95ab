"""Cases of sections 1 to 5 of the contract: the harness, and reading."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, Generic, TypeVar, cast

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
from sqlrepo.memory import Kind
from sqlrepo.testing.harness import clause
from sqlrepo.testing.subject import FieldInfo, Subject, check_raises, values_of

T = TypeVar("T")


_COMPARISONS: tuple[Callable[[Any, Any], Any], ...] = (
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge,
)  # fmt: skip


def _plain_fields(subject: Subject[T]) -> list[FieldInfo]:
    return [field for field in subject.fields if field.plain and field.values] or [subject.comparable_field()]


def _flip(compare: Callable[[Any, Any], Any], right: Any, left: Any) -> Any:
    return compare(left, right)


def _is_other(values: list[Any], value: Any) -> bool:
    return value not in values


class _Criteria(Generic[T]):
    """Checks criteria in one unit of work, against Python functions that say for which rows they hold."""

    def __init__(self, subject: Subject[T], repository: BaseRepository[T, Any]) -> None:
        self._subject = subject
        self._repository = repository

    def check(self, criterion: bool, holds: Callable[[T], bool]) -> None:
        """Check a criterion; the function takes an entity."""
        repository = self._repository
        expected = [entity for entity in repository.find() if holds(entity)]
        self._subject.check(repository.find(criterion), expected, f"find({criterion})")
        assert repository.count(criterion) == len(expected), f"count({criterion})"
        assert repository.exists(criterion) is bool(expected), f"exists({criterion})"

    def check_on(
        self, field: FieldInfo, criterion: bool, holds: Callable[[Any], object], *, of_null: bool = False
    ) -> None:
        """Check a criterion on one field; the function takes a value that is not None."""

        def of_entity(entity: T) -> bool:
            value = field.get(entity)
            return of_null if value is None else bool(holds(value))

        self.check(criterion, of_entity)

    def check_comparisons(self, field: FieldInfo, value: Any) -> None:
        """Compare a field with a value in every way."""
        for compare in _COMPARISONS:
            self.check_on(field, compare(field.expression, value), partial(_flip, compare, value))


@contextmanager
def _criteria(subject: Subject[T]) -> Generator[_Criteria[T]]:
    with subject.open() as repository:
        yield _Criteria(subject, repository)


def _between_fields(compare: Callable[[Any, Any], Any], left: FieldInfo, right: FieldInfo) -> Callable[[Any], bool]:
    """Make a comparison of two fields, unknown if either is NULL."""

    def holds(entity: Any) -> bool:
        one, other = getattr(entity, left.name), getattr(entity, right.name)
        return None not in (one, other) and bool(compare(one, other))

    return holds


def _store_nulls(subject: Subject[T]) -> tuple[FieldInfo, Any, Any]:
    """Commit entities with and without a value in an optional field; return the field and two of its values."""
    field = subject.optional_field()
    subject.store_values(field, [field.high, None, field.low, None, field.high])
    return field, field.low, field.high


_EXACT: tuple[tuple[Callable[[Any, str], bool], Callable[[str, str], bool]], ...] = (
    (contains, lambda text, part: part in text),
    (startswith, str.startswith),
    (endswith, str.endswith),
)


def _can_fold(subject: Subject[T]) -> bool:
    """Return True if searches can ignore case as the repository wants."""
    with subject.open() as repository:
        return subject.capabilities.unicode_fold or repository.fold == "ascii"


def _store_texts(subject: Subject[T]) -> tuple[FieldInfo, list[str]]:
    """Commit entities; return a text field and the texts in it that are not empty."""
    field = subject.comparable_field(Kind.TEXT)
    stored = subject.store_samples()
    texts = [text for entity in stored if (text := field.get(entity))]
    return (field, texts) if texts else subject.not_applicable("no text")


def _find_cased(subject: Subject[T], texts: list[str]) -> str:
    """Find a text that has a letter with another case, the same one in every fold."""
    text = next((text for text in texts if text.isascii() and text != text.swapcase()), None)
    return text or subject.not_applicable(f"no text with a letter from A to Z in {', '.join(map(repr, texts[:3]))}")


def _sort(everything: list[T], field: FieldInfo, *, descending: bool) -> list[T]:
    """Sort entities that come in the order of their keys: NULL smallest, ties by key in the same direction."""
    ranked = sorted(everything, key=lambda entity: _rank(field.get(entity)))
    return ranked[::-1] if descending else ranked


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


def _check_searches(subject: Subject[T], field: FieldInfo, needles: list[str]) -> None:
    with subject.open() as repository:
        everything = [entity for entity in repository.find() if field.get(entity) is not None]
        for needle in needles:
            for search, holds in _EXACT:
                expected = [entity for entity in everything if holds(field.get(entity), needle)]
                found = repository.find(search(field.expression, needle))
                subject.check(found, expected, f"{search.__name__}({field.name}, {needle!r})")


def _scroll_through(subject: Subject[T], repository: BaseRepository[T, Any], limit: int, order: str) -> list[list[T]]:
    query = subject.query(limit=limit, order_by=order)
    page = repository.scroll(query)
    pages = [page.items]
    while page.next is not None:
        page = repository.scroll(query, after=page.next)
        pages.append(page.items)
    return pages


class ReadingCases(Generic[T]):
    """Checks the harness, and reading."""

    # -- 1: the harness

    @clause("1.1")
    def test_store_is_empty_at_first(self, subject: Subject[T]) -> None:
        """Look into the store before anything is written."""
        assert subject.find_all() == [], "the harness must give a store without entities of this class"

    @clause("1.2")
    def test_made_entities_are_valid_and_distinct(self, subject: Subject[T]) -> None:
        """Store what the harness makes."""
        subject.store_new(12)
        assert len(subject.find_all()) == 12, "make(n) must give entities that can all be stored"

    @clause("1.2")
    def test_making_again_gives_the_same(self, subject: Subject[T]) -> None:
        """Make an entity twice."""
        subject.check(subject.make(3), subject.make(3))

    @clause("1.3")
    def test_change_alters_something_but_not_the_key(self, subject: Subject[T]) -> None:
        """Change a stored entity."""
        stored = subject.store_one()
        if all(field.column.name in (*subject.schema.key, subject.schema.version) for field in subject.fields):
            subject.not_applicable("no field besides its key")
        before = copy.deepcopy(stored)
        changed = subject.harness.change(stored)
        subject.check(stored, before, "change(entity) must not change its argument")
        assert subject.own_values(changed) != subject.own_values(stored), "change(entity) must alter a stored field"
        assert subject.natural_keys([changed]) == subject.natural_keys([stored]), "change(entity) must keep the key"

    # -- 2: reading by key, and calls that say how many entities they expect

    @clause("2.1")
    def test_get_gives_the_stored_entity(self, subject: Subject[T]) -> None:
        """Read each of several entities by its key."""
        stored = subject.store_new(3)
        with subject.open() as repository:
            subject.check([repository.get(subject.key_of(entity)) for entity in stored], stored)
            subject.check(repository.get_or_none(subject.key_of(stored[1])), stored[1])

    @clause("2.2")
    def test_get_of_a_missing_key_is_not_found(self, subject: Subject[T]) -> None:
        """Read by the key of an entity that is gone."""
        key = subject.key_of(subject.store_and_remove())
        with subject.open() as repository:
            with pytest.raises(NotFoundError) as caught:
                repository.get(key)
            assert repository.get_or_none(key) is None
        assert (caught.value.entity, caught.value.key) == (subject.entity, key)

    @clause("2.3")
    def test_get_many_keeps_the_order_of_the_keys(self, subject: Subject[T]) -> None:
        """Read several keys, backwards, one of them missing."""
        stored = subject.store_new(4)
        missing = subject.key_of(subject.store_and_remove())
        wanted = [stored[3], stored[0], stored[2]]
        first, *rest = [subject.key_of(entity) for entity in wanted]
        with subject.open() as repository:
            subject.check(repository.get_many([first, missing, *rest]), wanted)
            assert repository.get_many([]) == []

    @clause("2.4")
    def test_invalid_key_is_refused(self, subject: Subject[T]) -> None:
        """Read by None, an object and an empty tuple."""
        with subject.open() as repository:
            for wrong in (None, object(), ()):
                with pytest.raises(InvalidLiteralError):
                    repository.get_or_none(cast(Any, wrong))
            assert repository.find() == []

    @clause("2.5")
    def test_one_gives_the_only_one(self, subject: Subject[T]) -> None:
        """Ask for the only matching entity."""
        stored = subject.store_new(3)
        with subject.open() as repository:
            subject.check(repository.one(subject.is_(stored[1])), stored[1])
            subject.check(repository.one_or_none(subject.is_(stored[2])), stored[2])

    @clause("2.6")
    def test_one_of_none_is_not_found(self, subject: Subject[T]) -> None:
        """Ask for the only matching entity where none matches."""
        gone = subject.store_and_remove()
        with subject.open() as repository:
            with pytest.raises(NotFoundError) as caught:
                repository.one(subject.is_(gone))
            assert repository.one_or_none(subject.is_(gone)) is None
        assert caught.value.entity is subject.entity

    @clause("2.6")
    def test_one_of_several_is_refused(self, subject: Subject[T]) -> None:
        """Ask for the only matching entity where three match."""
        stored = subject.store_new(3)
        with subject.open() as repository:
            for ask in (repository.one, repository.one_or_none):
                with pytest.raises(MultipleFoundError) as caught:
                    ask()
                assert caught.value.entity is subject.entity
                with pytest.raises(MultipleFoundError):
                    ask(not_(subject.is_(stored[0])))

    @clause("2.7")
    def test_first_gives_the_first_in_order(self, subject: Subject[T]) -> None:
        """Ask for the first of all, of some, and of none."""
        stored = subject.store_new(3)
        gone = subject.store_and_remove()
        with subject.open() as repository:
            everything = repository.find()
            subject.check(repository.first(), everything[0])
            subject.check(repository.first(subject.is_(stored[1])), stored[1])
            assert repository.first(subject.is_(gone)) is None

    @clause("2.8")
    def test_into_gives_only_the_fields_asked_for(self, subject: Subject[T]) -> None:
        """Select one field into a model of its own."""
        field = subject.comparable_field()
        stored = subject.store_new(3)
        model = create_model("Summary", **cast(Any, {field.name: (field.spec.annotation, ...)}))
        with subject.open() as repository:
            found = repository.find(into=model)
            whole = repository.find()
        assert [one.model_dump() for one in found] == [{field.name: field.get(one)} for one in whole]
        assert len(found) == len(stored)

    @clause("2.9")
    def test_empty_store_gives_empty_results(self, subject: Subject[T]) -> None:
        """Make every call that needs no entity."""
        with subject.open() as repository:
            assert (repository.find(), repository.first(), repository.one_or_none()) == ([], None, None)
            assert (repository.count(), repository.exists()) == (0, False)
            assert (repository.delete_where(everything=True), repository.get_many([])) == (0, [])

    # -- 3: criteria

    @clause("3.1")
    def test_comparisons_agree_with_python(self, subject: Subject[T]) -> None:
        """Compare every plain field with a value from the middle."""
        subject.store_samples()
        with _criteria(subject) as criteria:
            for field in _plain_fields(subject):
                criteria.check_comparisons(field, field.values[len(field.values) // 2])

    @clause("3.2")
    def test_between_includes_both_ends(self, subject: Subject[T]) -> None:
        """Ask for a range whose ends are values of rows."""
        field = subject.comparable_field()
        subject.store_samples()
        low, high = field.values[len(field.values) // 3], field.high
        with _criteria(subject) as criteria:
            criteria.check_on(field, between(field.expression, low, high), lambda own: low <= own <= high)

    @clause("3.3")
    def test_comparison_with_null_is_unknown(self, subject: Subject[T]) -> None:
        """Compare a field that is NULL in some rows."""
        field, value, _ = _store_nulls(subject)
        with _criteria(subject) as criteria:
            criteria.check_comparisons(field, value)

    @clause("3.4")
    def test_not_excludes_null(self, subject: Subject[T]) -> None:
        """Negate comparisons of a field that is NULL in some rows."""
        field, low, high = _store_nulls(subject)
        named = some(field.expression)
        with _criteria(subject) as criteria:
            for criterion, holds in (
                (not_(named == low), lambda own: own != low),
                (not_(named < high), lambda own: own >= high),
                (not_((named == low) | (named > high)), lambda own: own != low and own <= high),
                (not_(not_(named == low)), lambda own: own == low),
                (not_(in_(named, [low])), lambda own: own != low),
                (not_in(named, [low]), lambda own: own != low),
            ):
                criteria.check_on(field, criterion, holds)

    @clause("3.5")
    def test_unknown_yields_to_a_decisive_operand(self, subject: Subject[T]) -> None:
        """Combine an unknown comparison with criteria that are true or false for NULL."""
        field, low, _ = _store_nulls(subject)
        named = field.expression
        null = is_null(named)
        with _criteria(subject) as criteria:
            criteria.check_on(field, (named == low) | null, lambda own: own == low, of_null=True)
            criteria.check_on(field, not_((named == low) & not_(null)), lambda own: own != low, of_null=True)
            criteria.check_on(field, (named == low) & null, lambda _: False)
            criteria.check_on(field, not_((named == low) | null), lambda own: own != low)

    @clause("3.6")
    def test_none_is_null(self, subject: Subject[T]) -> None:
        """Ask for None in every spelling."""
        field, _, _ = _store_nulls(subject)
        named = field.expression
        with _criteria(subject) as criteria:
            for criterion in (named == None, is_null(named), in_(named, [None])):  # noqa: E711  # a criterion
                criteria.check_on(field, criterion, lambda _: False, of_null=True)
            for criterion in (named != None, not_(is_null(named)), not_in(named, [None])):  # noqa: E711
                criteria.check_on(field, criterion, lambda _: True)
        assert subject.run(lambda repository: repository.count(**{field.name: None})) == 2

    @clause("3.7")
    def test_in_asks_for_one_of_several(self, subject: Subject[T]) -> None:
        """Ask for two values, and for none."""
        field = subject.comparable_field()
        subject.store_samples()
        named, wanted = field.expression, [field.low, field.high]
        with _criteria(subject) as criteria:
            criteria.check_on(field, in_(named, wanted), wanted.__contains__)
            criteria.check_on(field, in_(named, []), lambda _: False)
            criteria.check_on(field, not_in(named, []), lambda _: True, of_null=True)
            criteria.check_on(field, not_in(named, wanted), lambda own: own not in wanted)

    @clause("3.8")
    def test_none_among_values_asks_for_null(self, subject: Subject[T]) -> None:
        """Give None among the values of in_ and not_in."""
        field, low, high = _store_nulls(subject)
        with _criteria(subject) as criteria:
            for wanted in ([low, None], [None], [None, low, high]):
                found = in_(field.expression, wanted)
                criteria.check_on(field, found, wanted.__contains__, of_null=True)
                for others in (not_(found), not_in(field.expression, wanted)):
                    criteria.check_on(field, others, partial(_is_other, wanted))

    @clause("3.9")
    def test_spellings_are_equivalent(self, subject: Subject[T]) -> None:
        """Ask by expression, keyword and query object, and by two at once."""
        field = subject.comparable_field()
        subject.store_samples()
        value = field.low
        with subject.open() as repository:
            expected = repository.find(field.expression == value)
            assert len(expected) > 0
            for found in (
                repository.find(**{field.name: value}),
                repository.find(subject.query(**{f"{field.name}__eq": value})),
                repository.find(subject.query(**{f"{field.name}__in": [value]})),
                repository.find(subject.query(**{f"{field.name}__le": value}), field.expression >= value),
            ):
                subject.check(found, expected)

    @clause("3.10")
    def test_several_criteria_must_all_hold(self, subject: Subject[T]) -> None:
        """Give criteria one by one, joined, and by keyword beside an expression."""
        stored = subject.store_new(4)
        one, other = subject.is_(stored[0]), subject.is_(stored[1])
        both = subject.natural_keys(stored[:2])
        equal: dict[str, Any] = values_of(stored[0], subject.natural_key[:1])
        with subject.open() as repository:
            assert repository.find(one, other) == []
            subject.check(repository.find(one, not_(other)), [stored[0]])
            assert repository.find(other, one, **equal) == []
            subject.check(repository.find(one, **equal), [stored[0]])
        with _criteria(subject) as criteria:
            criteria.check(one | other, lambda entity: subject.natural_keys([entity])[0] in both)

    @clause("3.11")
    def test_bool_field_is_a_criterion(self, subject: Subject[T]) -> None:
        """Use a bool field by itself and negated."""
        field = subject.comparable_field(Kind.BOOLEAN)
        subject.store_samples()
        with _criteria(subject) as criteria:
            criteria.check_on(field, field.expression, lambda own: own is True)
            criteria.check_on(field, not_(field.expression), lambda own: own is False)

    @clause("3.12")
    def test_fields_compare_with_each_other(self, subject: Subject[T]) -> None:
        """Compare every field with itself and with the next one of its type."""
        subject.store_samples()
        found = _plain_fields(subject)
        alike = [[field for field in found if field.kind is kind] for kind in {field.kind for field in found}]
        pairs = [pair for group in alike for pair in [*zip(group, group, strict=True), *pairwise(group)]]
        with _criteria(subject) as criteria:
            for left, right in pairs:
                for compare in _COMPARISONS:
                    criterion = compare(left.expression, right.expression)
                    criteria.check(criterion, _between_fields(compare, left, right))

    @clause("3.13")
    def test_matches_agrees_with_find(self, subject: Subject[T]) -> None:
        """Evaluate criteria in Python, on the entities that were found."""
        field = subject.comparable_field()
        subject.store_samples()
        value, named = field.values[len(field.values) // 2], field.expression
        with _criteria(subject) as criteria:
            for criterion in (
                named >= value,
                not_(named == value),
                in_(named, [value, field.low]),
                is_null(named),
            ):
                criteria.check(criterion, partial(matches, criterion))

    @clause("3.14")
    def test_ambiguous_or_contradictory_query_is_refused(self, subject: Subject[T]) -> None:
        """Ask with plain bools, unknown fields and two limits; the unit goes on."""
        stored = subject.store_new(2)
        named = cast(Any, fields(subject.entity))
        with subject.open() as repository:
            unknown: dict[str, Any] = {"no such field": 1}
            check_raises(
                QueryError,
                lambda: repository.find(True),
                lambda: repository.count(cast(Any, stored[0])),
                lambda: repository.find(**unknown),
                lambda: repository.find(named.no_such_field == 1),
                lambda: repository.find(order_by="no_such_field"),
                lambda: bool(subject.is_(stored[0])),
                lambda: repository.find(subject.query(limit=1), subject.query(limit=1)),
            )
            assert len(repository.find()) == 2

    @clause("3.15")
    def test_value_of_another_type_is_refused(self, subject: Subject[T]) -> None:
        """Compare with a value that the field cannot hold."""
        field = subject.comparable_field()
        with subject.open() as repository:
            with pytest.raises(InvalidLiteralError) as caught:
                repository.find(field.expression == object())
            equal: dict[str, Any] = {field.name: object()}
            with pytest.raises(InvalidLiteralError):
                repository.find(**equal)
            assert repository.find() == []
        assert caught.value.field == field.name

    # -- 4: text

    @clause("4.1")
    def test_parts_of_text_are_found(self, subject: Subject[T]) -> None:
        """Search for parts of a text, for all of it, and for nothing."""
        field, texts = _store_texts(subject)
        half = len(texts[0]) // 2
        _check_searches(
            subject, field, [texts[0], texts[0][:half], texts[0][half:], texts[0][1:-1], texts[-1][-1:], ""]
        )

    @clause("4.2")
    def test_no_character_is_a_wildcard(self, subject: Subject[T]) -> None:
        """Search for texts that would find something if they were patterns."""
        field, texts = _store_texts(subject)
        first, last = texts[0][0], texts[0][-1]
        patterns = ["%", "_", "*", "?", "\\", f"{first}%", f"%{last}", "_" * len(texts[0]), f"{first}*", f"{first}.*"]
        _check_searches(subject, field, [*patterns, texts[0] + "\\", f"[{first}]", f"{first}\\%"])

    @clause("4.3")
    def test_case_matters(self, subject: Subject[T]) -> None:
        """Search for a text in the other case."""
        field, texts = _store_texts(subject)
        _check_searches(subject, field, [_find_cased(subject, texts).swapcase()])

    @clause("4.4")
    def test_case_can_be_ignored(self, subject: Subject[T]) -> None:
        """Search for a text, its beginning and its end in the other case."""
        field, texts = _store_texts(subject)
        text = _find_cased(subject, texts).swapcase()
        if not _can_fold(subject):
            with pytest.raises(UnsupportedError), subject.open() as repository:
                repository.find(icontains(field.expression, text))
            return
        with subject.open() as repository:
            for search, part, holds in (
                (icontains, text[1:] or text, lambda own, part: part in own),
                (istartswith, text[:2], str.startswith),
                (iendswith, text[-2:], str.endswith),
                (iequals, text, str.__eq__),
                (icontains, "%", lambda own, part: part in own),
            ):
                found = repository.find(search(field.expression, part))
                everything = [entity for entity in repository.find() if field.get(entity) is not None]
                expected = [one for one in everything if holds(field.get(one).lower(), part.lower())]
                subject.check(found, expected, f"{search.__name__}({field.name}, {part!r})")

    @clause("4.5")
    def test_null_is_found_by_no_search(self, subject: Subject[T]) -> None:
        """Search for the empty text, which every text holds."""
        texts = [one for one in subject.fields if one.kind is Kind.TEXT and one.plain]
        field = next((one for one in texts if one.optional and one.values), None)
        if field is None or field.fixed:
            subject.not_applicable("no text field that may be None")
        subject.store_values(field, [field.low, None, field.high])
        searches = [contains, startswith, endswith]
        searches += [icontains, istartswith, iendswith] if _can_fold(subject) else []
        with subject.open() as repository:
            for search in searches:
                assert repository.count(search(field.expression, "")) == 2, search.__name__

    # -- 5: order, limits, pages, cursors and streams

    @clause("5.1")
    def test_without_order_the_key_decides(self, subject: Subject[T]) -> None:
        """Store entities backwards and find them."""
        subject.store(subject.make_many(5)[::-1])
        found = subject.find_all()
        keys = [subject.key_of(entity) for entity in found]
        assert keys == sorted(keys)

    @clause("5.2")
    def test_order_follows_a_field(self, subject: Subject[T]) -> None:
        """Sort by every plain field, in both directions and spellings."""
        subject.store_samples()
        with subject.open() as repository:
            everything = repository.find()
            for field in _plain_fields(subject):
                named = field.expression
                for order in (named, asc(named), field.name):
                    expected = _sort(everything, field, descending=False)
                    subject.check(repository.find(order_by=order), expected, str(order))
                for order in (desc(named), f"-{field.name}"):
                    expected = _sort(everything, field, descending=True)
                    subject.check(repository.find(order_by=order), expected, str(order))

    @clause("5.3")
    def test_null_is_smaller_than_everything(self, subject: Subject[T]) -> None:
        """Sort by a field that is NULL in some rows."""
        field = subject.optional_field()
        subject.store_values(field, [field.high, None, field.low, None])
        with subject.open() as repository:
            up = [field.get(entity) for entity in repository.find(order_by=field.name)]
            down = [field.get(entity) for entity in repository.find(order_by=f"-{field.name}")]
        assert up == [None, None, field.low, field.high]
        assert down == [field.high, field.low, None, None]

    @clause("5.4")
    def test_ties_are_in_the_order_of_the_key(self, subject: Subject[T]) -> None:
        """Sort by a field with equal values; the key takes the same direction."""
        field, _ = subject.store_ties()
        with subject.open() as repository:
            everything = repository.find()
            for order, descending in ((field.name, False), (f"-{field.name}", True)):
                found = repository.find(order_by=order)
                subject.check(found, _sort(everything, field, descending=descending), order)

    @clause("5.5")
    def test_limit_and_offset_count_after_filter_and_order(self, subject: Subject[T]) -> None:
        """Take a part of the matching rows, in an order."""
        field, stored = subject.store_ties()
        criterion = not_(subject.is_(stored[0]))
        with subject.open() as repository:
            whole = repository.find(criterion, order_by=f"-{field.name}")
            for limit, offset in ((2, 0), (2, 1), (3, 4), (100, 5), (1, 100), (0, 0), (None, 2)):
                found = repository.find(criterion, order_by=f"-{field.name}", limit=limit, offset=offset)
                expected = whole[offset:] if limit is None else whole[offset : offset + limit]
                subject.check(found, expected, f"limit={limit}, offset={offset}")
            subject.check(repository.first(criterion, order_by=f"-{field.name}"), whole[0])

    @clause("5.5")
    def test_limit_counts_what_the_filter_leaves(self, subject: Subject[T]) -> None:
        """Ask for one entity, which is the last in the order of the keys."""
        subject.store_new(4)
        with subject.open() as repository:
            last = repository.find()[-1]
            subject.check(repository.find(subject.is_(last), limit=1), [last])
            subject.check(repository.first(subject.is_(last)), last)

    @clause("5.6")
    def test_impossible_limits_are_refused(self, subject: Subject[T]) -> None:
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
    def test_count_ignores_limit_and_offset(self, subject: Subject[T]) -> None:
        """Count with a query object that has both."""
        subject.store_new(4)
        with subject.open() as repository:
            assert repository.count(subject.query(limit=1, offset=2)) == 4
            assert repository.exists(subject.query(limit=0)) is True
            assert len(repository.find(subject.query(limit=1, offset=2))) == 1

    @clause("5.8")
    def test_page_tells_if_there_is_more(self, subject: Subject[T]) -> None:
        """Go through pages of two, with totals, and past the end."""
        subject.store_new(5)
        with subject.open() as repository:
            whole = repository.find()
            for offset, more in ((0, True), (2, True), (3, False), (4, False), (9, False)):
                page = repository.page(subject.query(limit=2, offset=offset), with_total=True)
                subject.check(page.items, whole[offset : offset + 2])
                assert (page.has_next, page.total) == (more, 5), f"offset={offset}"
            assert repository.page(subject.query(limit=2)).total is None

    @clause("5.9")
    def test_scroll_gives_every_row_once(self, subject: Subject[T]) -> None:
        """Scroll over ties and NULLs in both directions, with pages of every size."""
        field, _ = subject.store_ties()
        with subject.open() as repository:
            for order in (field.name, f"-{field.name}"):
                whole = repository.find(order_by=order)
                for limit in (1, 2, 3, len(whole), len(whole) + 1):
                    pages = _scroll_through(subject, repository, limit, order)
                    subject.check([entity for page in pages for entity in page], whole, order)
                    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)

    @clause("5.10")
    def test_scroll_goes_back_the_way_it_came(self, subject: Subject[T]) -> None:
        """Scroll to the end and back again."""
        field, _ = subject.store_ties()
        with subject.open() as repository:
            for order in (field.name, f"-{field.name}"):
                query = subject.query(limit=2, order_by=order)
                page, there = repository.scroll(query), []
                assert page.previous is None
                while page.next is not None:
                    there.append(subject.to_values(page.items))
                    page = repository.scroll(query, after=page.next)
                back = []
                while page.previous is not None:
                    page = repository.scroll(query, before=page.previous)
                    back.append(subject.to_values(page.items))
                assert back == there[::-1], order

    @clause("5.11")
    def test_cursor_of_another_query_is_refused(self, subject: Subject[T]) -> None:
        """Use a cursor with another order, and damaged cursors."""
        field, _ = subject.store_ties()
        with subject.open() as repository:
            cursor = repository.scroll(subject.query(limit=2, order_by=field.name)).next
            assert cursor is not None
            for order, text in ((f"-{field.name}", cursor), (field.name, cursor[:-2]), (field.name, "")):
                with pytest.raises(QueryError):
                    repository.scroll(subject.query(limit=2, order_by=order), after=text)

    @clause("5.12")
    def test_stream_gives_what_find_gives(self, subject: Subject[T]) -> None:
        """Stream in several orders, with other calls between, and leave one early."""
        field, _ = subject.store_ties()
        with subject.open() as repository:
            for order in (None, field.name, f"-{field.name}"):
                streamed = []
                for entity in repository.stream(order_by=order):
                    with repository.unit.savepoint():
                        assert repository.exists()
                    streamed.append(subject.to_values(entity))
                assert streamed == subject.to_values(repository.find(order_by=order)), order
            assert len(list(repository.stream(subject.query(limit=1, order_by=field.name)))) == 7
            subject.check(next(iter(repository.stream())), repository.first())
            with pytest.raises(QueryError):
                repository.stream(order_by="no_such_field")

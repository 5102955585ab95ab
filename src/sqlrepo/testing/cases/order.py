"""Orders, limits and pages."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import pytest

from sqlrepo import BaseRepository, QueryError, asc, desc, not_
from sqlrepo.testing.clause import clause
from sqlrepo.testing.places import Place
from sqlrepo.testing.subject import Cases, Subject

T = TypeVar("T")
K = TypeVar("K")


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

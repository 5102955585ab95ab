"""Summaries of async repositories, on every driver."""

from decimal import Decimal

from sqlrepo import QueryObject, Summary
from sqlrepo.testing import query_budget
from tests.asynchronous.domain import AsyncBook, Note, note


class ByValue(Summary[Note]):
    value: int
    count: int
    id_count_distinct: int
    version_avg: Decimal
    value_sum: int


class Several(QueryObject[ByValue]):
    count_ge: int | None = None


def test_groups_counts_and_values_are_awaited(db, loop):
    async def work():
        async with AsyncBook(db) as book:
            for key, value in {"a": 2, "b": 1, "c": 2, "d": 3}.items():
                await book.notes.add(Note(key=key, value=value))
            with query_budget(3):
                groups = await book.notes.summarize(
                    ByValue, note.key < "d", having=Several(count_ge=2), order_by="-count"
                )
                counts = await book.notes.counts(note.value, note.key > "a")
                values = await book.notes.distinct(note.value)
            return groups, counts, values

    groups, counts, values = loop.run(work())
    assert groups == [ByValue(value=2, count=2, id_count_distinct=2, version_avg=Decimal(1), value_sum=4)]
    assert list(counts.items()) == [(1, 1), (2, 1), (3, 1)]
    assert values == [1, 2, 3]

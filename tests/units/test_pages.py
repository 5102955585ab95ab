"""Orders with NULL smallest and the key behind them, pages by offset, and pages by position."""

import base64
from contextlib import suppress
from datetime import date
from itertools import pairwise
from typing import Literal

import pytest
from pydantic import Field

from sqlrepo import Page, QueryError, QueryObject, UnitStateError, asc, desc
from sqlrepo.core import repository
from tests.units.domain import (
    Account,
    Bank,
    Lab,
    Shop,
    Specimen,
    Tag,
    Todo,
    TodoQuery,
    Todos,
    connections_out,
    database,
    tag,
    todo,
)
from tests.units.samples import OTHERS, TEXTS

DUES = [date(2024, 1, 2), None, date(2024, 1, 1), None, date(2024, 1, 2), None, date(2024, 1, 1)]


@pytest.fixture
def todos(db):
    with Shop(db) as shop:
        shop.todos.add_many(
            [Todo(key=f"k{6 - i}", due=due, priority=i % 3, done=i % 2 == 0) for i, due in enumerate(DUES)]
        )
    return Todos(db)


def smallest_null(value):
    return (value is not None, value or date.min)


@pytest.mark.parametrize(
    ("order_by", "key", "reverse"),
    [
        (None, lambda one: one.id, False),
        ("due", lambda one: (smallest_null(one.due), one.id), False),
        ("-due", lambda one: (smallest_null(one.due), one.id), True),
        (todo.due, lambda one: (smallest_null(one.due), one.id), False),
        (asc(todo.due), lambda one: (smallest_null(one.due), one.id), False),
        (desc(todo.due), lambda one: (smallest_null(one.due), one.id), True),
        ("priority,due", lambda one: (one.priority, smallest_null(one.due), one.id), False),
        ("priority, -priority", lambda one: (one.priority, one.id), False),
        ("-priority,-due", lambda one: (one.priority, smallest_null(one.due), one.id), True),
        ((todo.priority, "due"), lambda one: (one.priority, smallest_null(one.due), one.id), False),
        (("priority", "due,key"), lambda one: (one.priority, smallest_null(one.due), one.key), False),
        ("-id", lambda one: one.id, True),
        ("done,-key", lambda one: (one.done, [-ord(c) for c in one.key]), False),
        ("-priority,key", lambda one: (-one.priority, one.key), False),
        ((), lambda one: one.id, False),
    ],
)
def test_null_is_smallest_and_the_key_decides_ties(todos, order_by, key, reverse):
    expected = sorted(todos.find(), key=key, reverse=reverse)

    assert todos.find(order_by=order_by) == expected
    assert todos.first(order_by=order_by) == expected[0]
    assert todos.find(order_by=order_by, limit=2, offset=3) == expected[3:5]


def test_a_composite_key_is_appended_whole(db):
    with Shop(db) as shop:
        shop.tags.add_many([Tag(owner=owner, name=name) for owner in "ba" for name in "yx"])

        assert [(one.owner, one.name) for one in shop.tags.find()] == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
        assert [(one.owner, one.name) for one in shop.tags.find(order_by=desc(tag.weight))] == [
            ("b", "y"), ("b", "x"), ("a", "y"), ("a", "x")]  # fmt: skip
        assert [one.name for one in shop.tags.find(order_by=tag.name)] == ["x", "x", "y", "y"]


# -- by offset


@pytest.mark.parametrize("limit", [0, 1, 3, 7, 8])
@pytest.mark.parametrize("offset", [0, 1, 6, 7, 9])
def test_pages_are_slices_that_know_what_follows(todos, limit, offset):
    everything = todos.find(order_by="-due,priority")
    query = TodoQuery(limit=limit, offset=offset, order_by="-due,priority")

    expected = everything[offset : offset + limit]
    assert todos.page(query) == Page(expected, has_next=len(everything) > offset + limit, total=None)
    assert todos.page(query, with_total=True) == Page(expected, has_next=len(everything) > offset + limit, total=7)


# -- by position


def walk(repository, query):
    pages, cursor = [], None
    while True:
        pages.append(repository.scroll(query, after=cursor))
        cursor = pages[-1].next
        if cursor is None:
            return pages


@pytest.mark.parametrize("order_by", [None, "priority", "-priority", "due", "-due", "-due,priority", "key"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_scrolling_visits_every_row_once_and_in_order(todos, order_by, limit):
    query = TodoQuery(order_by=order_by, limit=limit)
    pages = walk(todos, query)

    assert [one for page in pages for one in page.items] == todos.find(order_by=order_by)
    assert [page.has_next for page in pages] == [True] * (len(pages) - 1) + [False]
    assert [page.has_previous for page in pages] == [False] + [True] * (len(pages) - 1)
    for before, after in pairwise(pages):
        assert todos.scroll(query, before=after.previous).items == before.items


def test_a_cursor_survives_the_deletion_of_its_row(todos, db):
    query = TodoQuery(order_by="-priority", limit=3)
    page = todos.scroll(query)
    expected = todos.find(order_by="-priority")[3:]
    with Shop(db) as shop:
        shop.todos.delete(page.items[-1].id)

    assert todos.scroll(query, after=page.next).items == expected[:3]


def test_a_foreign_cursor_is_refused(todos, db):
    query = TodoQuery(order_by="due", limit=2)
    cursor = todos.scroll(query).next
    with Bank(db) as bank:
        bank.accounts.add_many([Account("a"), Account("b"), Account("c")])

    for other in (
        TodoQuery(order_by="-due", limit=2),
        TodoQuery(order_by="key", limit=2),
        TodoQuery(limit=2),
        TodoQuery(order_by="due", limit=2, done=True),
        TodoQuery(order_by="due", limit=2, key_contains="k"),
    ):
        with pytest.raises(QueryError):
            todos.scroll(other, after=cursor)
        with pytest.raises(QueryError):
            todos.scroll(other, before=cursor)


def test_a_damaged_cursor_is_refused(todos):
    query = TodoQuery(order_by="due", limit=2)
    cursor = todos.scroll(query).next
    body = base64.urlsafe_b64encode(b'[null,"1 OR 1=1"]').decode()

    for damaged in (
        "", " ", "x", "nonsense", "é", "\ud800", "\0", "=" * 8, "9" * 5000, body,
        cursor[:-1], cursor[1:], cursor + "A", cursor + "\n", cursor[::-1], cursor.swapcase(), cursor[:16] + body,
        cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB"),
    ):  # fmt: skip
        for argument in ("after", "before"):
            with pytest.raises(QueryError):
                todos.scroll(query, **{argument: damaged})


@pytest.mark.parametrize("cursor", [1, b"abc", ["a"], 1.5, object()])
def test_a_cursor_that_is_no_text_is_refused(todos, cursor):
    with pytest.raises(QueryError):
        todos.scroll(TodoQuery(limit=2), after=cursor)


NAMES = [name for name in Specimen.model_fields if name not in ("id", "other", "rank")]


class SpecimenQuery(QueryObject[Specimen]):
    order_by: Literal[*NAMES, *(f"-{name}" for name in NAMES)]  # type: ignore[valid-type]
    limit: int = Field(default=2)


def test_scrolling_works_over_every_type(db):
    with Lab(db) as lab:
        columns = {"text": TEXTS[1:8] + TEXTS[-3:], **OTHERS}
        lab.specimens.add_many(
            Specimen(id=row, **{name: values[(row * 3) % len(values)] for name, values in columns.items()})
            for row in range(9)
        )
        for name in NAMES:
            for order_by in (name, f"-{name}"):
                everything = lab.specimens.find(order_by=order_by)
                query = SpecimenQuery(order_by=order_by)
                assert [one for page in walk(lab.specimens, query) for one in page.items] == everything


def test_cursors_of_one_backend_fit_the_other():
    pages = []
    for db in map(database, ["memory", "sqlite"]):
        with Shop(db) as shop:
            shop.todos.add_many([Todo(key=key) for key in "abc"])
            pages.append(shop.todos.scroll(TodoQuery(order_by="-due", limit=2)))
        db.dispose()

    assert pages[0] == pages[1]


# -- streams


@pytest.mark.parametrize("order", [None, "due", "-due", "-due,priority", "key"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_stream_meets_every_entity_once_over_ties_and_nulls(db, order, size, monkeypatch):
    monkeypatch.setattr(repository, "_ROWS_AT_ONCE", size)
    with Shop(db) as shop:
        days = [None, date(2024, 1, 1), date(2024, 1, 1), None, date(2024, 1, 2), None, date(2024, 1, 1)]
        shop.todos.add_many(Todo(key=f"k{n}", due=day, priority=n % 2) for n, day in enumerate(days))
        assert list(shop.todos.stream(order_by=order)) == shop.todos.find(order_by=order)
        assert list(shop.todos.stream(done=True)) == []


def test_the_statements_of_a_stream_do_not_grow_from_chunk_to_chunk(db, monkeypatch):
    monkeypatch.setattr(repository, "_ROWS_AT_ONCE", 1)
    with Shop(db) as shop:
        shop.todos.add_many(Todo(key=f"k{n:03}") for n in range(220))
        assert [one.key for one in shop.todos.stream(order_by="due,key")] == [f"k{n:03}" for n in range(220)]


def test_a_stream_goes_on_over_what_happens_between_its_chunks(db, monkeypatch):
    monkeypatch.setattr(repository, "_ROWS_AT_ONCE", 2)
    with Shop(db) as shop:
        shop.todos.add_many(Todo(key=f"k{n}") for n in range(5))
        seen = []
        for one in shop.todos.stream(order_by="key"):
            seen.append(one.key)
            shop.todos.delete(one.id)
            if one.key == "k1":
                with suppress(KeyError), shop.savepoint():
                    shop.todos.add(Todo(key="never"))
                    raise KeyError
                shop.todos.add(Todo(key="k9"))
                shop.commit()
        assert seen == ["k0", "k1", "k2", "k3", "k4", "k9"]
        assert shop.todos.count() == 0


def test_a_stream_of_a_repository_alone_holds_no_connection_between_chunks(db, monkeypatch):
    monkeypatch.setattr(repository, "_ROWS_AT_ONCE", 2)
    with Todos(db) as todos:
        todos.add_many(Todo(key=f"k{n}") for n in range(5))
    for _ in Todos(db).stream():
        assert connections_out(db) == 0


def test_a_stream_is_questioned_at_the_call(db):
    with pytest.raises(QueryError):
        Todos(db).stream(order_by="nonsense")
    with Shop(db) as shop:
        stream = shop.todos.stream()
    with pytest.raises(UnitStateError):
        next(stream)

"""Orders with NULL smallest and the key behind them, pages by offset, and pages by position."""

import base64
import json
import math
import string
import traceback
from contextlib import suppress
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Literal

import pytest
from pydantic import Field
from sqlalchemy.orm import Session

from sqlrepo import InvalidLiteralError, Page, QueryError, QueryObject, UnitStateError, asc, desc
from sqlrepo.core import reading
from sqlrepo.core.selection import make_cursor_codec, select
from sqlrepo.language.results import CursorCodec, CursorKeys
from sqlrepo.language.values import Kind, ValueType
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.sqlalchemy.database import Engines
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
    create,
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


@pytest.mark.parametrize("cursor", [1, b"abc", ["a"], 1.5, object(), True])
def test_a_cursor_that_is_no_text_is_refused(todos, cursor):
    with pytest.raises(InvalidLiteralError):
        todos.scroll(TodoQuery(limit=2), after=cursor)


def codec(repository, query):
    call = repository._begin()
    return make_cursor_codec(repository._mapper, select(call, (query,), {}), call.scope.rows, CursorKeys())


def forged(codec, body):
    """A cursor with any body, as a client without the key can make it."""
    message = codec.query.encode() + b"\0" + body
    return base64.urlsafe_b64encode(codec.keys.sign(message) + body).decode().rstrip("=")


def test_a_cursor_with_any_character_changed_is_refused(todos):
    query = TodoQuery(order_by="due", limit=2)
    cursor = todos.scroll(query, after=todos.scroll(query).next).next
    changed = {
        cursor[:place] + other + cursor[place + 1 :]
        for place in range(len(cursor))
        for other in ("A", "B", "9", "-", "+", "=", " ", "\n", "\0", "é", "\ud800", "")
    }
    # Base64 ends in bits that mean nothing: each of these may decode to the same bytes.
    changed |= {cursor[:-1] + other for other in string.ascii_letters + string.digits + "-_+/"}
    changed |= {"", "=" * 8, "9" * 5000, "A" * 2_000_000, cursor + "=", cursor + "A", cursor[::-1], cursor.swapcase()}
    for one in changed - {cursor}:
        with pytest.raises(InvalidLiteralError):
            todos.scroll(query, **{"after" if len(one) % 2 else "before": one})


NAMES = [name for name in Specimen.model_fields if name not in ("id", "other", "rank")]


class SpecimenQuery(QueryObject[Specimen]):
    order_by: Literal[*NAMES, *(f"-{name}" for name in NAMES)]  # type: ignore[valid-type]
    limit: int = Field(default=2)


# Forged by a client that knows the query: what is not JSON, and values that fit some columns and not others.
BODIES = [
    b"", b"null", b"{}", b'{"a":1,"b":2}', b'"ab"', b"[", b"\xff", b"[1]", b"[1,1,1]", b"[" * 9_000, b"[NaN,1]",
    b"[" * 90_000 + b"]" * 90_000, b"[" + b"9" * 5_000 + b",1]",
]  # fmt: skip
FORGED = [
    True, False, None, 0, 1.0, 1.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, math.nan, math.inf, -math.inf,
    "", "a", "x" * 13, "x" * 70_000, "\0", "\ud800", "😀" * 12, [], ["a"], [0, [1], 2], {"a": 1}, "1", "1.555",
    "1E+999999", "1E-999999", "NaN", "sNaN", "Infinity", "100000000", "00" * 9, "0g", "0001-01-01",
    "10000-01-01", "2024-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "2024-01-01T00:00:00",
    "12:00", "12:00+01:00", "RED", "Colour.RED", "00112233445566778899aabbccddeeff", 10**19, 10**20,
    999_999_999 * 86_400 * 10**6,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_cursor_passes_its_columns_checks_or_is_refused(db, name):
    with Lab(db) as lab:
        for order_by, values in ((name, ((one, 1) for one in FORGED)), (f"-{name}", ((None, one) for one in FORGED))):
            lab.specimens.add(Specimen(id=len(order_by)))
            query = SpecimenQuery(order_by=order_by)
            codecs = codec(lab.specimens, query)
            accepted = 0
            for body in [*BODIES, *(json.dumps(each).encode() for each in values)]:
                with suppress(InvalidLiteralError):  # and nothing else, before any statement is sent
                    lab.specimens.scroll(query, after=forged(codecs, body))
                    accepted += 1
            assert 0 < accepted < 25
        assert lab.specimens.count() == 2


@pytest.mark.parametrize(
    ("type_", "bodies"),
    [
        (ValueType(Kind.TEXT, str), ['"a"', '{"a": 1}', "[null]", "[1]", json.dumps(["a" * 1_000_000])]),
        (ValueType(Kind.DECIMAL, Decimal), ["[true]", "[1]", "[[0, [1], 2]]"]),
        (ValueType(Kind.DURATION, timedelta), ["[true]", "[1.5]", '["1"]']),
        (ValueType(Kind.TEXT, str, length=6, bind=str.lower, result=str), ["[1]", '["1234567"]', "[null]"]),
    ],
)
def test_a_cursor_holds_one_value_for_each_column_in_its_stored_form(type_, bodies):
    codecs = CursorCodec(CursorKeys(), "query", [type_], [False])
    for body in bodies:
        with pytest.raises(InvalidLiteralError):
            codecs.decode(forged(codecs, body.encode()), "after")


def test_a_column_types_own_functions_may_raise_anything():
    def refuse(value):
        raise StopIteration(value) if value == "stop" else KeyError(value)

    codecs = CursorCodec(CursorKeys(), "query", [ValueType(Kind.TEXT, str, bind=str.lower, result=refuse)], [False])
    for value in ("stop", "s3cret"):
        with pytest.raises(InvalidLiteralError) as refused:
            codecs.decode(forged(codecs, json.dumps([value]).encode()), "after")
        assert value not in "".join(traceback.format_exception(refused.value))


def test_a_forged_cursor_stays_within_the_scope(db):
    class Own(Todos):
        def scope(self) -> bool:
            return todo.priority == 1

    with Shop(db) as shop:
        shop.todos.add_many([Todo(key=f"k{n}", priority=n % 2) for n in range(6)])
        own, query = Own(shop), TodoQuery(order_by="key", limit=9)
        for position in (["", 0], ["k0", 0], ["zzz", 9]):
            cursor = forged(codec(own, query), json.dumps(position).encode())
            for direction in ("after", "before"):
                assert {one.priority for one in own.scroll(query, **{direction: cursor}).items} <= {1}
        with pytest.raises(InvalidLiteralError):
            own.scroll(query, after=forged(codec(shop.todos, query), b'["",0]'))


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


# -- signed cursors

KEYS = [b"k" * 16, "clé" * 8, bytes(range(32))]


def fill(db):
    with Shop(db) as shop:
        shop.todos.add_many([Todo(key=key) for key in "abc"])
    return db


def signed(kind, key):
    """A database of a kind with a key, in each way there is; the rows are added."""
    if kind == "memory":
        return fill(InMemoryDatabase(cursor_key=key))
    if kind == "url":
        return fill(create(Database("sqlite://", cursor_key=key)))
    if kind == "engine":
        return fill(create(Database(Database("sqlite://").engine, cursor_key=key)))
    return fill(create(Database.from_engines(Engines("sqlite://", cursor_key=key))))


@pytest.mark.parametrize("kind", ["memory", "url", "engine", "from_engines"])
def test_a_signed_cursor_needs_a_known_key(kind):
    query = TodoQuery(limit=1)
    cursors = {str(key): Todos(signed(kind, key)).scroll(query).next for key in [None, *KEYS]}
    assert len(set(cursors.values())) == 4
    for keys in (KEYS, KEYS[:2], [KEYS[2], KEYS[0]], (KEYS[1],)):
        todos = Todos(signed(kind, keys))
        assert todos.scroll(query).next == cursors[str(keys[0])]  # the first signs
        for key in [None, *KEYS]:
            if key in keys:
                assert [one.key for one in todos.scroll(query, after=cursors[str(key)]).items] == ["b"]
                continue
            with pytest.raises(InvalidLiteralError):
                todos.scroll(query, after=cursors[str(key)])
    with pytest.raises(InvalidLiteralError):
        Todos(signed(kind, None)).scroll(query, after=cursors[str(KEYS[0])])


def test_units_that_join_sign_as_the_database_on_their_engine(tmp_path):
    query = TodoQuery(limit=1)
    for number, connect in enumerate((lambda session: session, lambda session: session.connection())):
        plain = fill(create(Database(f"sqlite:///{tmp_path}/{number}.db")))
        unsigned = Todos(plain).scroll(query).next
        with Session(plain.engine.execution_options(other=True)) as session:
            joined = Todos(connect(session))
            assert joined.scroll(query).next == unsigned
            signing = Database(plain.engine, cursor_key=KEYS[0])
            cursor = joined.scroll(query).next
            with pytest.raises(InvalidLiteralError):
                joined.scroll(query, after=unsigned)
        assert cursor == Todos(signing).scroll(query).next != unsigned
        assert Todos(plain).scroll(query).next == unsigned  # a database without a key has none
        plain.dispose()


def test_sessions_of_a_signing_database_sign_too(tmp_path):
    db, query = fill(create(Database(f"sqlite:///{tmp_path}/a.db", cursor_key=KEYS[0]))), TodoQuery(limit=1)
    expected = Todos(db).scroll(query)
    with Session(db.engine) as session:
        assert Todos(session).scroll(query) == expected
    with Shop(db, read_only=True) as shop:
        assert Todos(shop.session).scroll(query) == expected
    db.dispose()


@pytest.mark.parametrize("make", [InMemoryDatabase, lambda **key: Database("sqlite://", **key)])
@pytest.mark.parametrize("keys", ["", b"", [], (), "s3cret" * 2, [b"k" * 16, b"s3cret"], 5, ["k" * 16, None]])
def test_a_key_that_signs_nothing_is_refused_and_never_shown(make, keys):
    with pytest.raises((ValueError, TypeError)) as refused:
        make(cursor_key=keys)
    assert "s3cret" not in "".join(traceback.format_exception(refused.value))
    db = make(cursor_key=["s3cret" * 9])
    assert not any("s3cret" in text for text in (repr(db), str(db), repr(db.cursor_keys), repr(vars(db))))


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
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", size)
    with Shop(db) as shop:
        days = [None, date(2024, 1, 1), date(2024, 1, 1), None, date(2024, 1, 2), None, date(2024, 1, 1)]
        shop.todos.add_many(Todo(key=f"k{n}", due=day, priority=n % 2) for n, day in enumerate(days))
        assert list(shop.todos.stream(order_by=order)) == shop.todos.find(order_by=order)
        assert list(shop.todos.stream(done=True)) == []


def test_the_statements_of_a_stream_do_not_grow_from_chunk_to_chunk(db, monkeypatch):
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 1)
    with Shop(db) as shop:
        shop.todos.add_many(Todo(key=f"k{n:03}") for n in range(220))
        assert [one.key for one in shop.todos.stream(order_by="due,key")] == [f"k{n:03}" for n in range(220)]


def test_a_stream_goes_on_over_what_happens_between_its_chunks(db, monkeypatch):
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 2)
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
    monkeypatch.setattr(reading, "_ROWS_AT_ONCE", 2)
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

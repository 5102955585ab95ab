"""What each call of a repository means, in memory and on SQLite."""

import inspect
import re
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, field_validator
from pydantic import Field as PydanticField
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    InvalidValueError,
    MappingError,
    QueryError,
    QueryObject,
    ReadOnlyError,
    TransactionAbortedError,
    UnitStateError,
    fields,
    in_,
    not_,
    not_in,
)
from sqlrepo.core.selection import CALL_OPTIONS
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy.types import Exact
from tests.units.domain import Shop, Tag, Todo, TodoQuery, TodoRow, Todos, own_base, todo


@pytest.fixture
def shop(db):
    with Shop(db) as shop:
        yield shop


def keys(found):
    return [one.key for one in found]


# -- by key


def test_get_many_keeps_the_order_of_the_keys_and_passes_over_the_missing(shop):
    stored = shop.todos.add_many([Todo(key=key) for key in "abc"])
    a, b, c = (one.id for one in stored)

    assert keys(shop.todos.get_many([c, 99, a])) == ["c", "a"]
    assert keys(shop.todos.get_many([b, a, b])) == ["b", "a", "b"]
    assert keys(shop.todos.get_many(iter([a]))) == ["a"]
    assert shop.todos.get_many([]) == []


def test_get_many_takes_more_keys_than_a_statement_can(shop):
    stored = shop.todos.add_many([Todo(key=str(i)) for i in range(1200)])
    ids = [one.id for one in stored][::-1]

    assert shop.todos.get_many(ids) == stored[::-1]
    assert shop.todos.count(in_(todo.id, ids)) == 1200


def test_many_composite_keys(shop):
    tags = shop.tags.add_many([Tag(owner=str(i % 7), name=str(i)) for i in range(300)])

    assert shop.tags.get_many([(one.owner, one.name) for one in tags]) == tags


# -- by criteria


LOCKS = ["update", "skip", "nowait"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_locked_row_is_read_like_any_other(shop, lock):
    shop.todos.add(Todo(key="a"))

    assert shop.todos.get(1, lock=lock).key == "a"
    assert shop.todos.get_or_none(9, lock=lock) is None
    assert keys(shop.todos.find(key="a", order_by="key", limit=1, lock=lock)) == ["a"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_unit_that_may_not_write_locks_nothing(db, lock):
    with Shop(db, read_only=True) as shop:
        for call in (lambda: shop.todos.get(1, lock=lock), lambda: shop.todos.find(lock=lock)):
            with pytest.raises(ReadOnlyError):
                call()
    with pytest.raises(UnitStateError):
        Todos(db).find(lock=lock)


def test_an_unknown_lock_is_refused(shop):
    with pytest.raises(QueryError):
        shop.todos.get(1, lock="share")


# -- writing


def test_what_was_never_stored_cannot_be_written_over(shop):
    for call in (shop.todos.update, shop.todos.remove):
        with pytest.raises(Exception, match="id") as caught:
            call(Todo(key="a"))
        assert type(caught.value).__module__.startswith("sqlrepo")
    assert shop.todos.count() == 0


class Foreign(BaseModel):
    colour: str = "red"


@pytest.mark.parametrize(
    "changes",
    [{"vlaue": "v"}, {"id": 5}, {"value": "v", "nope": 1}, Foreign(colour="blue"), None, 3, "value", [("value", 1)]],
)
def test_senseless_changes_are_refused(shop, changes):
    stored = shop.todos.add(Todo(key="a"))
    with pytest.raises((QueryError, TypeError)):
        shop.todos.patch(stored.id, changes)
    assert shop.todos.find() == [stored]


NO_CRITERION = [
    (),
    (TodoQuery().criteria,),
    (not_in(todo.key, []),),
    (not_(in_(todo.key, [])),),
    (TodoQuery().criteria, not_in(todo.key, [])),
    (todo.done | not_in(todo.key, []),),
]


@pytest.mark.parametrize("criteria", NO_CRITERION)
def test_a_set_form_without_criterion_is_refused(shop, criteria):
    shop.todos.add_many([Todo(key="a"), Todo(key="b", done=True)])
    with pytest.raises(QueryError):
        shop.todos.delete_where(*criteria)
    with pytest.raises(QueryError):
        shop.todos.update_where(*criteria, set_={"value": "v"})
    assert shop.todos.count(value="") == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda todos: todos.delete_where(TodoQuery(done=True)),
        lambda todos: todos.update_where(TodoQuery(done=True), set_={"value": "v"}),
        lambda todos: todos.update_where(todo.done, set_={}),
        lambda todos: todos.update_where(todo.done, set_=None),
        lambda todos: todos.update_where(todo.done, set_=["value"]),
        lambda todos: todos.update_where(todo.done, set_={"nope": 1}),
        lambda todos: todos.update_where(todo.done, set_={"id": 1}),
        lambda todos: todos.update_where(todo.done, set_={"priority": todo.priority}),
        lambda todos: todos.update_where(todo.done, set_={"value": todo.key}),
    ],
)
def test_a_senseless_set_form_is_refused(shop, call):
    shop.todos.add_many([Todo(key="a"), Todo(key="b", done=True)])
    with pytest.raises((QueryError, InvalidValueError)):
        call(shop.todos)
    assert shop.todos.count(value="") == 2


def test_set_forms_take_keyword_equality(shop):
    shop.todos.add_many([Todo(key="a"), Todo(key="b"), Todo(key="c", done=True)])

    assert shop.todos.update_where(key="a", set_={"value": "v"}) == 1
    assert shop.todos.delete_where(not_(todo.done), value="") == 1
    assert shop.todos.delete_where(done=True, everything=True) == 1
    assert [one.value for one in shop.todos.find()] == ["v"]
    with pytest.raises(QueryError):
        shop.todos.delete_where(nope=1)


def test_a_set_form_that_matches_nothing_by_its_criteria_touches_nothing(shop):
    shop.todos.add(Todo(key="a"))

    assert shop.todos.delete_where(in_(todo.key, [])) == 0
    assert shop.todos.update_where(todo.key == None, set_={"value": "v"}) == 0  # noqa: E711


def test_what_is_saved_new_lets_defaults_fire(empty):
    class NoteRow(own_base()):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        text: Mapped[str] = mapped_column(sa.String(20))
        mark: Mapped[str] = mapped_column(sa.String(20), default="plain")

    @dataclass
    class Note:
        id: int
        text: str
        mark: str | None = None

    class Notes(BaseRepository[Note, int]):
        model = NoteRow

    with Notes(empty(NoteRow)) as notes:
        assert notes.save(Note(1, "a")) == Note(1, "a", "plain")
        notes.patch(1, {"mark": "red"})
        assert notes.save(Note(1, "b")) == Note(1, "b", "red")  # there is a row, so no default fires


class Score(BaseModel):
    id: int | None = None
    points: int = PydanticField(ge=0)
    mood: Literal["good", "bad"] = "good"
    owner: str


def scores(empty):
    class ScoreRow(own_base()):
        __tablename__ = "score"
        id: Mapped[int] = mapped_column(primary_key=True)
        points: Mapped[int]
        mood: Mapped[str] = mapped_column(sa.String(20))
        owner: Mapped[str | None] = mapped_column(sa.String(20))

    class Scores(BaseRepository[Score, int]):
        model = ScoreRow

    return Scores(empty(ScoreRow))


@pytest.mark.parametrize("changes", [{"points": -1}, {"mood": "sad"}, {"owner": None}])
def test_what_no_entity_could_be_read_with_is_not_stored(empty, changes):
    with scores(empty) as repository:
        stored = repository.add(Score(points=1, owner="a"))
        for write in (
            lambda: repository.patch(stored.id, changes),
            lambda: repository.update_where(set_=changes, everything=True),
        ):
            with pytest.raises(InvalidValueError) as caught:
                write()
            assert caught.value.field == next(iter(changes))
        assert repository.get(stored.id) == stored
        assert repository.patch(stored.id, {"points": 0, "mood": "bad"}).mood == "bad"


def test_a_written_row_that_cannot_be_read_back_is_not_committed(db):
    class Strict(Todo):
        @field_validator("value")
        @classmethod
        def odd(cls, value):
            if value == "even":
                raise ValueError("even")
            return value

    class Stricts(BaseRepository[Strict, int]):
        model = TodoRow

    with Stricts(db) as stricts:
        stored = stricts.add(Strict(key="a"))
    with pytest.raises(TransactionAbortedError), Stricts(db) as stricts, suppress(MappingError):
        stricts.patch(stored.id, {"value": "even"})
    assert Stricts(db).get(stored.id) == stored


def test_columns_that_are_kept_differently_do_not_compare(empty):
    class PriceRow(own_base()):
        __tablename__ = "price"
        id: Mapped[int] = mapped_column(primary_key=True)
        net: Mapped[Decimal] = mapped_column(Exact(10, 2))
        fine: Mapped[Decimal] = mapped_column(Exact(10, 4))
        plain: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))
        gross: Mapped[Decimal] = mapped_column(Exact(12, 2))

    @dataclass
    class Price:
        id: int
        net: Decimal
        fine: Decimal
        plain: Decimal
        gross: Decimal

    class Prices(BaseRepository[Price, int]):
        model = PriceRow

    p = fields(Price)
    with Prices(empty(PriceRow)) as prices:
        prices.add(Price(1, Decimal(2), Decimal(1), Decimal(1), Decimal(3)))
        assert prices.count(p.net < p.gross) == 1
        for criterion in (p.net > p.fine, p.net > p.plain):
            with pytest.raises(QueryError):
                prices.count(criterion)


def test_a_projection_is_a_model(shop):
    with pytest.raises(QueryError):
        shop.todos.find(into=int)


def test_first_of_nothing_needs_an_open_unit_too(db):
    shop = Shop(db)
    with pytest.raises(UnitStateError):
        shop.todos.first(TodoQuery(limit=0))
    with shop:
        shop.todos.add(Todo(key="a"))
        assert shop.todos.first(TodoQuery(limit=0)) is None


# -- a keyword that is a field and an option

OPTIONS = {
    "one": {"into"},
    "one_or_none": {"into"},
    "first": {"order_by", "into"},
    "find": {"order_by", "limit", "offset", "into", "lock"},
    "stream": {"order_by", "into"},
    "chunks": {"order_by", "into"},
    "update_where": {"set_", "everything"},
    "delete_where": {"everything"},
}


class Quota(BaseModel):
    id: int | None = None
    limit: int | None = 0
    offset: int = 0
    order_by: int = 0
    into: int = 0
    lock: int = 0
    set_: int = 0
    everything: int = 0
    after: int = 0
    with_total: int = 0
    self: int = 0


class QuotaRow(own_base()):
    __tablename__ = "quota"
    id: Mapped[int] = mapped_column(primary_key=True)
    limit: Mapped[int | None]
    offset: Mapped[int]
    order_by: Mapped[int]
    into: Mapped[int]
    lock: Mapped[int]
    set_: Mapped[int]
    everything: Mapped[int]
    after: Mapped[int]
    with_total: Mapped[int]
    self: Mapped[int]


class Quotas(BaseRepository[Quota, int]):
    model = QuotaRow


class QuotaPage(QueryObject[Quota]):
    limit: int | None = None
    limit_eq: int | None = None
    limit_gt: int | None = None
    order_by: Literal["order_by", "-order_by"] | None = None


@pytest.fixture
def quotas():
    with Quotas(InMemoryDatabase()) as quotas:  # the calls are above the back ends
        quotas.add_many([Quota(**dict.fromkeys(Quota.model_fields, n) | {"id": n}) for n in (1, 2, 3)])
        yield quotas


def test_every_option_of_a_call_that_takes_fields_by_keyword_is_known():
    found = {}
    for name, method in inspect.getmembers(BaseRepository, inspect.isfunction):
        parameters = inspect.signature(method).parameters.values()
        if not name.startswith("_") and any(one.kind is one.VAR_KEYWORD for one in parameters):
            found[name] = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}

    assert {name: options for name, options in found.items() if options} == OPTIONS
    assert set().union(*OPTIONS.values()) == CALL_OPTIONS


@pytest.mark.parametrize(("call", "option"), [(call, option) for call in OPTIONS for option in sorted(OPTIONS[call])])
@pytest.mark.parametrize("value", [2, None, False])
def test_an_option_that_is_also_a_field_is_refused_whatever_its_value(quotas, call, option, value):
    others = {"set_": {"after": 9}} if call == "update_where" and option != "set_" else {}
    with pytest.raises(QueryError) as caught:
        getattr(quotas, call)(fields(Quota).id == 2, **others | {option: value})

    assert f"`fields(Quota).{option} == value`" in str(caught.value)
    assert quotas.count(after=9) == 0
    assert quotas.count() == 3


@pytest.mark.parametrize("name", sorted({*CALL_OPTIONS, "after", "with_total", "self"}))
def test_a_field_called_like_an_option_of_another_call_filters(quotas, name):
    equal = {name: 2}

    assert (quotas.count(**equal), quotas.exists(**equal)) == (1, True)
    if name not in OPTIONS["one"]:
        assert quotas.one(**equal).id == quotas.one_or_none(**equal).id == 2
    assert [one.id for one in quotas.find(getattr(fields(Quota), name) == 2)] == [2]
    if name not in OPTIONS["find"]:
        assert [one.id for one in quotas.find(**equal)] == [2]
    if name not in OPTIONS["delete_where"]:
        assert quotas.delete_where(**equal) == 1


def test_the_option_is_spelled_as_the_error_says(quotas):
    with pytest.raises(QueryError) as caught:
        quotas.find(limit=2)
    (source,) = re.findall(r"`class (.*)`", str(caught.value))
    names = {"Quota": Quota, "QueryObject": QueryObject, "Literal": Literal}
    exec(f"class {source}", names)

    assert [one.id for one in quotas.find(names["Query"](limit=2))] == [1, 2]
    with pytest.raises(QueryError, match="for the option") as caught:
        quotas.stream(order_by="-limit")
    (source,) = re.findall(r"`class (.*)`", str(caught.value))
    exec(f"class {source}", names)
    assert [one.id for one in quotas.stream(names["Query"](order_by="-order_by"))] == [3, 2, 1]
    with pytest.raises(QueryError, match=re.escape("`lock_`, with `columns = {'lock_': 'lock'}`")):
        quotas.find(lock="update")


def test_a_query_object_spells_a_field_called_limit_with_a_suffix(quotas):
    assert [one.id for one in quotas.find(QuotaPage(limit=2))] == [1, 2]
    assert [one.id for one in quotas.find(QuotaPage(limit_eq=2))] == [2]
    assert [one.id for one in quotas.find(QuotaPage(limit_gt=1, limit=1, order_by="-order_by"))] == [3]


def test_calls_that_take_no_fields_have_their_options_whatever_the_fields(quotas):
    page = quotas.page(QuotaPage(limit=1), with_total=True)
    rest = quotas.scroll(QuotaPage(limit=2), after=quotas.scroll(QuotaPage(limit=2)).next)

    assert (page.total, [one.id for one in rest.items]) == (3, [3])
    assert quotas.get(2, lock="update").id == 2


def test_a_field_under_another_column_is_as_ambiguous_and_one_that_is_renamed_is_not():
    class Renamed(BaseModel):
        id: int | None = None
        limit_: int
        offset: int

    class Renameds(BaseRepository[Renamed, int]):
        model = QuotaRow
        columns = {"limit_": "limit", "offset": "after"}

        def to_row(self, entity):
            return {**dict.fromkeys(Quota.model_fields, 0), "id": entity.id, "limit": entity.limit_, "after": 5}

    with Renameds(InMemoryDatabase()) as repository:
        repository.add_many([Renamed(limit_=n, offset=n) for n in (1, 2)])
        assert [one.limit_ for one in repository.find(limit=1, limit_=2)] == [2]
        with pytest.raises(QueryError, match="offset is an option"):
            repository.find(offset=1)

"""What each call of a repository means, on memory and on SQLite."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Literal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, field_validator
from pydantic import Field as PydanticField
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    InvalidValueError,
    MappingError,
    MultipleFoundError,
    NotFoundError,
    QueryError,
    ReadOnlyError,
    TransactionAbortedError,
    UniqueViolationError,
    UnitStateError,
    desc,
    fields,
    in_,
    not_,
    not_in,
)
from sqlrepo.sqlalchemy.types import Exact
from tests.units.domain import Lab, Shop, Specimen, Tag, Todo, TodoQuery, TodoRow, Todos, todo


@pytest.fixture
def shop(db):
    with Shop(db) as shop:
        yield shop


def keys(found):
    return [one.key for one in found]


# -- by key


def test_get_gives_the_entity_or_says_which_key_has_none(shop):
    stored = shop.todos.add(Todo(key="a", due=date(2024, 1, 1)))

    assert shop.todos.get(stored.id) == stored == shop.todos.get_or_none(stored.id)
    assert shop.todos.get_or_none(99) is None
    with pytest.raises(NotFoundError) as caught:
        shop.todos.get(99)
    assert (caught.value.entity, caught.value.key) == (Todo, 99)


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


def test_composite_keys(shop):
    tags = shop.tags.add_many(
        [Tag(owner=owner, name=name, weight=i) for i, (owner, name) in enumerate(["ax", "ay", "bx"])]
    )

    assert shop.tags.get(("a", "y")) == tags[1]
    assert shop.tags.get_many([("b", "x"), ("b", "y"), ("a", "x")]) == [tags[2], tags[0]]
    assert shop.tags.patch(("a", "y"), {"weight": 9}).weight == 9
    assert shop.tags.update(Tag(owner="a", name="x", weight=8)) == shop.tags.get(("a", "x"))
    assert shop.tags.save(Tag(owner="c", name="z")) == shop.tags.save(Tag(owner="c", name="z"))
    shop.tags.delete(("b", "x"))
    shop.tags.remove(tags[0])
    assert [(one.owner, one.name) for one in shop.tags.find()] == [("a", "y"), ("c", "z")]
    with pytest.raises(NotFoundError) as caught:
        shop.tags.get(("b", "x"))
    assert caught.value.key == ("b", "x")
    with pytest.raises(NotFoundError) as caught:
        shop.tags.update(Tag(owner="n", name="n"))
    assert caught.value.key == ("n", "n")


def test_many_composite_keys(shop):
    tags = shop.tags.add_many([Tag(owner=str(i % 7), name=str(i)) for i in range(300)])

    assert shop.tags.get_many([(one.owner, one.name) for one in tags]) == tags


# -- by criteria


def test_one_wants_exactly_one(shop):
    shop.todos.add_many([Todo(key="a"), Todo(key="b"), Todo(key="c", priority=1)])

    assert shop.todos.one(priority=1).key == "c" == shop.todos.one_or_none(todo.priority > 0).key
    assert shop.todos.one_or_none(key="z") is None
    with pytest.raises(NotFoundError) as missing:
        shop.todos.one(key="z")
    assert missing.value.entity is Todo
    for call in (shop.todos.one, shop.todos.one_or_none):
        with pytest.raises(MultipleFoundError) as several:
            call(priority=0)
        assert several.value.entity is Todo
        assert several.value.retryable is False
    assert shop.todos.by_key("b").key == "b"
    assert shop.todos.count() == 3


def test_first_is_the_first_of_the_order(shop):
    shop.todos.add_many([Todo(key="a", priority=1), Todo(key="b", priority=2)])

    assert shop.todos.first(order_by=desc(todo.priority)).key == "b"
    assert shop.todos.first(todo.priority < 2, order_by="-key").key == "a"
    assert shop.todos.first(key="z") is None


def test_exists_and_count(shop):
    shop.todos.add_many([Todo(key="a"), Todo(key="b", done=True)])

    assert (shop.todos.count(), shop.todos.count(todo.done), shop.todos.count(done=False, key="b")) == (2, 1, 0)
    assert shop.todos.exists()
    assert shop.todos.exists(not_(todo.done))
    assert not shop.todos.exists(key="z")


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


def test_add_many_gives_what_was_stored_in_order(shop):
    stored = shop.todos.add_many(Todo(key=key) for key in "cab")

    assert keys(stored) == ["c", "a", "b"]
    assert shop.todos.get_many([one.id for one in stored]) == stored
    assert shop.todos.add_many([]) == []


def test_add_many_is_all_or_nothing(db):
    with Shop(db) as shop:
        with pytest.raises(UniqueViolationError) as caught, shop.savepoint():
            shop.todos.add_many([Todo(key="a"), Todo(key="b"), Todo(id=9, key="c"), Todo(key="a")])
        assert caught.value.fields == ("key",)
        assert shop.todos.count() == 0
        shop.todos.add(Todo(key="a"))

    assert keys(Todos(db).find()) == ["a"]


def test_a_taken_primary_key_is_a_unique_violation_of_it(shop):
    shop.todos.add(Todo(id=5, key="a"))
    with pytest.raises(UniqueViolationError) as caught, shop.savepoint():
        shop.todos.add(Todo(id=5, key="b"))

    assert caught.value.fields == ("id",)
    with pytest.raises(UniqueViolationError) as caught, shop.savepoint():
        shop.todos.update(shop.todos.add(Todo(key="b")).model_copy(update={"key": "a"}))
    assert caught.value.fields == ("key",)
    assert caught.value.constraint is None
    shop.tags.add(Tag(owner="a", name="b"))
    with pytest.raises(UniqueViolationError) as caught, shop.savepoint():
        shop.tags.add(Tag(owner="a", name="b"))
    assert caught.value.fields == ("owner", "name")


def test_an_update_writes_everything_over(shop):
    stored = shop.todos.add(Todo(key="a", value="v", due=date(2024, 1, 1), priority=3))

    assert shop.todos.update(Todo(id=stored.id, key="b")) == Todo(id=stored.id, key="b") == shop.todos.get(stored.id)


def test_what_is_gone_cannot_be_written(shop):
    gone = Todo(id=99, key="a")
    for call, key in (
        (lambda: shop.todos.update(gone), 99),
        (lambda: shop.todos.patch(99, {"value": "v"}), 99),
        (lambda: shop.todos.delete(99), 99),
        (lambda: shop.todos.remove(gone), 99),
    ):
        with pytest.raises(NotFoundError) as caught:
            call()
        assert (caught.value.entity, caught.value.key) == (Todo, key)
    assert shop.todos.count() == 0  # and the unit goes on


def test_what_was_never_stored_cannot_be_written_over(shop):
    for call in (shop.todos.update, shop.todos.remove):
        with pytest.raises(Exception, match="id") as caught:
            call(Todo(key="a"))
        assert type(caught.value).__module__.startswith("sqlrepo")
    assert shop.todos.count() == 0


class TodoChanges(BaseModel):
    value: str | None = None
    due: date | None = None
    priority: int | None = None


class Foreign(BaseModel):
    colour: str = "red"


def test_a_patch_writes_what_was_set_and_nothing_else(shop):
    stored = shop.todos.add(Todo(key="a", value="v", due=date(2024, 1, 1), priority=3))

    assert shop.todos.patch(stored.id, TodoChanges(priority=4)) == stored.model_copy(update={"priority": 4})
    assert shop.todos.patch(stored.id, TodoChanges(due=None)).due is None
    assert shop.todos.patch(stored.id, {"value": "w"}).value == "w"
    assert shop.todos.patch(stored.id, TodoChanges()).value == "w"


@pytest.mark.parametrize(
    "changes",
    [{"vlaue": "v"}, {"id": 5}, {"value": "v", "nope": 1}, Foreign(colour="blue"), None, 3, "value", [("value", 1)]],
)
def test_senseless_changes_are_refused(shop, changes):
    stored = shop.todos.add(Todo(key="a"))
    with pytest.raises((QueryError, TypeError)):
        shop.todos.patch(stored.id, changes)
    assert shop.todos.find() == [stored]


def test_save_inserts_or_writes_over(shop):
    first = shop.todos.save(Todo(key="a"))
    assert first.id is not None
    assert shop.todos.save(first.model_copy(update={"value": "v"})).value == "v"
    assert shop.todos.save(Todo(id=40, key="b")).id == 40
    assert shop.todos.add(Todo(key="c")).id > 40
    assert keys(shop.todos.find(order_by="key")) == ["a", "b", "c"]


def test_set_forms_count_what_they_touch(shop):
    shop.todos.add_many([Todo(key=key, priority=i) for i, key in enumerate("abcd")])

    assert shop.todos.update_where(todo.priority > 1, set_={"value": "v", "done": True}) == 2
    assert shop.todos.update_where(todo.priority > 1, set_={"done": True}) == 2
    assert shop.todos.update_where(todo.key == "z", set_={"done": True}) == 0
    assert shop.todos.delete_where(todo.done, todo.priority > 2) == 1
    assert shop.todos.update_where(everything=True, set_={"priority": 7}) == 3
    assert shop.todos.delete_where(TodoQuery(done=True).criteria) == 1
    assert shop.todos.delete_where(everything=True) == 2
    assert shop.todos.count() == 0


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
        lambda todos: todos.delete_where(todo.done, everything=True),
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


def test_a_set_form_that_matches_nothing_by_its_criteria_touches_nothing(shop):
    shop.todos.add(Todo(key="a"))

    assert shop.todos.delete_where(in_(todo.key, [])) == 0
    assert shop.todos.update_where(todo.key == None, set_={"value": "v"}) == 0  # noqa: E711


def test_values_swap_within_one_unit(shop):
    a, b = shop.todos.add_many([Todo(key="a"), Todo(key="b")])
    shop.todos.patch(a.id, {"key": "x"})
    shop.todos.patch(b.id, {"key": "a"})
    shop.todos.patch(a.id, {"key": "b"})
    shop.todos.delete(a.id)
    shop.todos.add(Todo(id=a.id, key="b"))

    assert keys(shop.todos.find()) == ["b", "a"]


def test_many_nulls_under_a_unique_are_fine(db):
    with Lab(db) as lab:
        lab.specimens.add_many([Specimen(id=1), Specimen(id=2)])
        assert lab.specimens.count(text=None) == 2


def test_what_is_saved_new_lets_defaults_fire(empty):
    class Own(DeclarativeBase):
        pass

    class NoteRow(Own):
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

    with Notes(empty(Own)) as notes:
        assert notes.save(Note(1, "a")) == Note(1, "a", "plain")
        notes.patch(1, {"mark": "red"})
        assert notes.save(Note(1, "b")) == Note(1, "b", "red")  # there is a row, so no default fires


class Score(BaseModel):
    id: int | None = None
    points: int = PydanticField(ge=0)
    mood: Literal["good", "bad"] = "good"
    owner: str


def scores(empty):
    class Own(DeclarativeBase):
        pass

    class ScoreRow(Own):
        __tablename__ = "score"
        id: Mapped[int] = mapped_column(primary_key=True)
        points: Mapped[int]
        mood: Mapped[str] = mapped_column(sa.String(20))
        owner: Mapped[str | None] = mapped_column(sa.String(20))

    class Scores(BaseRepository[Score, int]):
        model = ScoreRow

    return Scores(empty(Own))


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
    class Own(DeclarativeBase):
        pass

    class PriceRow(Own):
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
    with Prices(empty(Own)) as prices:
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

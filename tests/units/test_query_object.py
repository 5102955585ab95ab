"""A query object is checked when its class is defined, and says exactly what it holds when it is used."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Generic, Literal, Optional, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, ValidationError

from sqlrepo import BaseRepository, InvalidLiteralError, QueryError, QueryObject, Where, icontains, matches, not_
from tests.units.domain import Colour, Shop, Specimen, Todo, TodoQuery, TodoRow, Todos, todo

T = TypeVar("T")


def define(entity, **annotations):
    """Define a query object over an entity with these fields, each without a default."""
    return type("Defined", (QueryObject[entity],), {"__annotations__": annotations, "__module__": __name__})


class Nested(BaseModel):
    low: int


@dataclass
class NestedData:
    low: int


# -- refused when defined


@pytest.mark.parametrize(
    ("name", "annotation", "meant"),
    [
        ("prioritty", int | None, "priority"),
        ("key_contain", str | None, "key_contains"),
        ("key_icontain", str | None, "key_icontains"),
        ("due_isnull", bool | None, "due_is_null"),
        ("kye_contains", str | None, "key_contains"),
        ("priority_beetween", tuple[int, int] | None, "priority_between"),
    ],
)
def test_the_error_of_an_unknown_filter_holds_the_nearest_name(name, annotation, meant):
    with pytest.raises(QueryError, match=f"'{meant}'"):
        define(Todo, **{name: annotation})


@pytest.mark.parametrize(
    ("name", "annotation"),
    [
        ("priority_contains", str | None),
        ("done_icontains", str | None),
        ("due_startswith", str | None),
        ("priority_iequals", str | None),
        ("priority", str | None),
        ("priority", float | None),
        ("key", int | None),
        ("done", int | None),
        ("due", str | None),
        ("priority_in", int | None),
        ("priority_in", list[str] | None),
        ("priority_not_in", str | None),
        ("priority_between", int | None),
        ("priority_between", tuple[int, int, int] | None),
        ("priority_between", tuple[int, str] | None),
        ("due_is_null", int | None),
        ("due_is_null", date | None),
        ("key_contains", bytes | None),
        ("limit", str),
        ("offset", float),
    ],
)
def test_a_filter_that_does_not_fit_its_field_is_refused(name, annotation):
    with pytest.raises(QueryError):
        define(Todo, **{name: annotation})


@pytest.mark.parametrize("name", ["tags_in", "tags_not_in", "tags_lt"])
def test_values_without_order_are_not_searched_in_a_collection(name):
    class Tagged(BaseModel):
        tags: list[str]

    with pytest.raises(QueryError):
        define(Tagged, **{name: list[list[str]] | None})


@pytest.mark.parametrize(
    "annotation",
    [Nested, Nested | None, list[Nested], Annotated[Nested | None, Field()], NestedData | None, dict[str, Nested]],
)
def test_a_nested_model_is_refused(annotation):
    for name in ("priority", "priority_in", "key"):
        with pytest.raises(QueryError):
            define(Todo, **{name: annotation})


@pytest.mark.parametrize(
    "annotation", [str, str | None, Literal["pritority"], Literal["priority", "-nope"], int, Literal["priority", 3]]
)
def test_an_open_or_unknown_order_is_refused(annotation):
    with pytest.raises(QueryError):
        define(Todo, order_by=annotation)


class Odd(BaseModel):
    price: int
    price_in: int
    name: str
    name_not: str


def test_an_ambiguous_name_is_refused_and_spelt_with_two_underscores():
    class Ambiguous(BaseModel):
        id: int = 0
        a: int
        a_not: int

    with pytest.raises(QueryError, match="a__not_in"):
        define(Ambiguous, a_not_in=list[int] | None)

    chosen = define(Ambiguous, a__not_in=list[int] | None, a_not__in=list[int] | None)
    assert matches(chosen(a__not_in=[1], a_not__in=[5]).criteria, Ambiguous(a=2, a_not=5))
    assert not matches(chosen(a__not_in=[2], a_not__in=[5]).criteria, Ambiguous(a=2, a_not=5))


def test_a_name_that_is_a_field_and_a_field_with_operator_is_ambiguous():
    with pytest.raises(QueryError, match="price__in"):
        define(Odd, price_in=int | None)


class Child(BaseModel):
    x: int
    y: int


class Parent(BaseModel):
    exists: list[Child] = []
    exists__y: int = 0
    exists__z: int = 0
    in_: int = 0
    eq: int = 0


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("exists__x", "exists(exists, x == 3)"),
        ("exists__x__ge", "exists(exists, x >= 3)"),
        ("exists__z", "exists__z == 3"),
        ("exists__z_ge", "exists__z >= 3"),
        ("exists__z__ge", "exists__z >= 3"),
        ("in_", "in_ == 3"),
        ("in__ge", "in_ >= 3"),
        ("eq_eq", "eq == 3"),
    ],
)
def test_a_field_may_be_named_like_an_operator_or_a_path(name, wanted):
    assert str(define(Parent, **{name: int | None})(**{name: 3}).criteria) == wanted


def test_a_name_that_is_a_field_and_a_path_is_ambiguous():
    with pytest.raises(QueryError, match=r"'exists__y' or a field in 'exists'"):
        define(Parent, exists__y=int | None)


@pytest.mark.parametrize(
    ("function", "error", "words"),
    [
        (lambda t, _: t.inn_ == 1, QueryError, "^Defined.own: .*mean 'in_'"),
        (lambda t, _: True, QueryError, "^Defined.own: True is a bool"),
        (lambda t, _: (t.eq == 1) and (t.eq == 2), QueryError, "^Defined.own: .*truth value"),
        (lambda t, value: t.eq == value, InvalidLiteralError, "^own: expected int"),
        (lambda t, _: 1 / 0, ZeroDivisionError, "division"),
    ],
)
def test_an_error_inside_a_custom_filter_names_the_filter(function, error, words):
    query = define(Parent, own=Annotated[str | None, Where(function)])
    with pytest.raises(error, match=words) as caught:
        query(own="x").criteria  # noqa: B018
    assert type(caught.value) is error
    if error is ZeroDivisionError:
        assert caught.value.__notes__ == [f"raised by the function of {query.__name__}.own"]


def test_a_custom_filter_is_a_function():
    with pytest.raises(QueryError, match="takes a function of two arguments, not bool"):
        Where(True)


def test_the_reserved_names_are_filtered_with_a_suffix():
    class Quota(BaseModel):
        limit: int
        criteria: str
        order_by: str

    query = define(Quota, limit_eq=int | None, criteria_eq=str | None, order_by_eq=str | None)

    assert matches(
        query(limit_eq=3, criteria_eq="c", order_by_eq="o").criteria, Quota(limit=3, criteria="c", order_by="o")
    )
    assert not matches(
        query(limit_eq=4, criteria_eq=None, order_by_eq=None).criteria, Quota(limit=3, criteria="c", order_by="o")
    )


# -- accepted


@pytest.mark.parametrize(
    ("entity", "name", "annotation"),
    [
        (Todo, "priority", Optional[int]),  # noqa: UP045  # the old spelling means the same
        (Todo, "priority_in", tuple[int, ...] | None),
        (Todo, "priority_in", set[int] | None),
        (Todo, "priority_in", frozenset[int] | None),
        (Todo, "priority_in", list[Annotated[int, Field(ge=0)]] | None),
        (Todo, "key", Literal["a", "b"] | None),
        (Todo, "key_contains", Annotated[str, Field(max_length=3)] | None),
        (Todo, "due_between", tuple[date, date] | None),
        (Specimen, "colour_in", list[Colour] | None),
        (Specimen, "uid", UUID | None),
        (Specimen, "amount_ge", Decimal | None),
        (Specimen, "amount_ge", int | None),
        (Specimen, "ratio_lt", int | None),
        (Specimen, "number_in", list[int | None] | None),
    ],
)
def test_a_filter_that_fits_is_accepted(entity, name, annotation):
    assert define(entity, **{name: annotation})


def test_an_order_may_be_an_enumeration_of_texts():
    class Order(StrEnum):
        OLDEST = "id"
        URGENT = "-priority,key"

    class Query(QueryObject[Todo]):
        order_by: Order = Order.URGENT

    assert Query().order_by is Order.URGENT


def test_a_given_filter_is_never_dropped(db):
    with Shop(db) as shop:
        shop.todos.add_many([Todo(key="a"), Todo(key="b", done=True)])

        assert shop.todos.count(TodoQuery(done=False)) == 1
        assert shop.todos.count(TodoQuery(priority_ge=0)) == 2
        assert shop.todos.count(TodoQuery(key_in=[])) == 0
        assert shop.todos.count(TodoQuery(key_contains="")) == 2
        assert shop.todos.find(TodoQuery(limit=0)) == []


def test_a_custom_filter_builds_its_own_criterion(db):
    with Shop(db) as shop:
        shop.todos.add_many([Todo(key="ab"), Todo(key="x", value="abc"), Todo(key="y", value="c")])

        assert [one.key for one in shop.todos.find(TodoQuery(text="ab"), order_by="key")] == ["ab", "x"]


def test_a_custom_filter_that_makes_a_plain_bool_is_refused(db):
    class Query(QueryObject[Todo]):
        text: Annotated[str | None, Where(lambda t, v: v in ("a", "b"))] = None

    with pytest.raises(QueryError):
        Todos(db).find(Query(text="a"))


def test_a_forward_reference_is_resolved_at_first_use(db):
    class Late(QueryObject[Todo]):
        key_in: "list[Name] | None" = None  # noqa: F821

    globals()["Name"] = str
    try:
        assert Todos(db).count(Late(key_in=["a"])) == 0
    finally:
        del globals()["Name"]


def test_unknown_arguments_and_wrong_values_are_refused_by_pydantic():
    for bad in ({"prioritty": 1}, {"priority_ge": "x"}, {"limit": -1}, {"order_by": "nope"}):
        with pytest.raises(ValidationError):
            TodoQuery(**bad)


def test_a_query_object_cannot_be_changed():
    with pytest.raises(ValidationError):
        TodoQuery().limit = 5


@pytest.mark.parametrize(
    "call",
    [
        lambda todos: todos.find(TodoQuery(limit=1), limit=1),
        lambda todos: todos.find(TodoQuery(order_by="priority"), order_by="key"),
        lambda todos: todos.find(TodoQuery(offset=1), offset=1),
        lambda todos: todos.first(TodoQuery(order_by="priority"), order_by="key"),
        lambda todos: todos.find(TodoQuery(), TodoQuery()),
        lambda todos: todos.count(TodoQuery(done=True), TodoQuery()),
        lambda todos: todos.page(TodoQuery()),
        lambda todos: todos.scroll(TodoQuery()),
        lambda todos: todos.scroll(TodoQuery(limit=0)),
        lambda todos: todos.scroll(TodoQuery(limit=2, offset=1)),
        lambda todos: todos.find(limit=-1),
        lambda todos: todos.find(offset=-1),
        lambda todos: todos.find(limit=True),
        lambda todos: todos.find(offset=False),
        lambda todos: todos.find(limit=1.0),
        lambda todos: todos.find(limit="1"),
        lambda todos: todos.find(limit=2**70),
        lambda todos: todos.find(order_by="nope"),
        lambda todos: todos.find(order_by=3),
        lambda todos: todos.find(order_by=todo.priority > 3),
        lambda todos: todos.find(order_by=""),
        lambda todos: todos.find(order_by="--priority"),
    ],
)
def test_contradictory_or_senseless_options_are_refused(db, call):
    with pytest.raises(QueryError):
        call(Todos(db))


def test_a_query_object_stands_beside_criteria_and_keywords(db):
    with Shop(db) as shop:
        shop.todos.add_many([Todo(key=key, priority=i, done=i > 1) for i, key in enumerate("abcd")])

        found = shop.todos.find(TodoQuery(priority_ge=1), not_(todo.key == "c"), done=True)
        assert [one.key for one in found] == ["d"]
        assert [one.key for one in shop.todos.find(TodoQuery(priority_ge=2).criteria | (todo.key == "a"))] == [
            "a",
            "c",
            "d",
        ]


def test_generic_and_inherited_query_objects_know_their_entity(db):
    class Paged(QueryObject[T], Generic[T]):
        limit: int = 2

    class Query(Paged[Todo]):
        key_icontains: str | None = None

    class Narrower(Query):
        done: bool = False

    with Shop(db) as shop:
        shop.todos.add_many([Todo(key=key, done=key == "A2") for key in ("A1", "a3", "A2", "b")])

        assert [one.key for one in shop.todos.find(Query(key_icontains="A"))] == ["A1", "a3"]
        assert [one.key for one in shop.todos.find(Narrower(key_icontains="a", limit=5))] == ["A1", "a3"]
    with pytest.raises(QueryError):
        type("Bad", (Paged[Todo],), {"__annotations__": {"nope": int | None}, "__module__": __name__})


def test_the_fold_is_the_choice_of_the_repository(db):
    class Folded(BaseRepository[Todo, int]):
        model = TodoRow
        fold = "ascii"

    with Shop(db) as shop:
        shop.todos.add_many([Todo(key="É"), Todo(key="é"), Todo(key="A")])

    assert [one.key for one in Todos(db).find(icontains(todo.key, "é"))] == ["É", "é"]
    assert [one.key for one in Folded(db).find(icontains(todo.key, "é"))] == ["é"]
    assert [one.key for one in Folded(db).find(icontains(todo.key, "a"))] == ["A"]

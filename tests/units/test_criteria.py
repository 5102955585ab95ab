"""What Python would silently do to an expression over fields is refused, and what is left prints itself."""

import copy
import math
import operator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from pydantic import BaseModel

from sqlrepo import (
    InvalidLiteralError,
    InvalidValueError,
    QueryError,
    between,
    contains,
    endswith,
    fields,
    icontains,
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
from tests.units.domain import (
    Account,
    Colour,
    Shop,
    Specimen,
    Tag,
    Todo,
    TodoQuery,
    Todos,
    account,
    specimen,
    tag,
    todo,
)


@pytest.mark.parametrize(
    "slip",
    [
        lambda: (todo.priority > 1) and todo.done,
        lambda: (todo.priority > 1) or todo.done,
        lambda: not (todo.priority > 1),
        lambda: not todo.done,
        lambda: todo.done and (todo.priority > 1),
        lambda: todo.key in ["a", "b"],
        lambda: "a" in todo.key,
        lambda: 1 < todo.priority < 5,
        lambda: bool(not_(todo.done)),
        lambda: bool(in_(todo.key, [])),
        lambda: ~(todo.priority > 1),
        lambda: ~todo.done,
        lambda: list(todo.key),
        lambda: 1 if todo.priority == 1 else 2,
    ],
    ids=["and", "or", "not", "not field", "field and", "in list", "in field", "chained", "bool not_", "bool in_",
         "invert", "invert field", "iterate", "if"],
)  # fmt: skip
def test_python_s_own_logic_is_refused(slip):
    with pytest.raises(QueryError):
        slip()


@pytest.mark.parametrize("plain", [True, False])
def test_a_plain_bool_is_no_criterion(db, plain):
    todos = Todos(db)

    for call in (
        lambda: todos.find(plain),
        lambda: todos.count(todo.done, plain),
        lambda: todos.one(plain),
        lambda: todos.find(plain & (todo.priority > 1)),
        lambda: todos.find((todo.priority > 1) | plain),
        lambda: not_(plain),
        lambda: matches(plain, Todo(key="a")),
    ):
        with pytest.raises(QueryError):
            call()


@pytest.mark.parametrize("plain", [True, False])
def test_a_plain_bool_deletes_nothing(db, plain):
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
        for call in (shop.todos.delete_where, lambda given: shop.todos.update_where(given, set_={"priority": 9})):
            with pytest.raises(QueryError):
                call(plain)

    assert [one.priority for one in Todos(db).find()] == [0]


def test_what_is_no_criterion_is_refused(db):
    for given in (1, "done", None, object(), todo.priority, [todo.priority > 1], Todo(key="a")):
        with pytest.raises(QueryError):
            Todos(db).find(given)


def test_fields_can_be_probed_like_any_object():
    assert not hasattr(todo.priority, "__name__")
    assert copy.copy(todo.priority).ref == todo.priority.ref


def test_the_error_of_an_unknown_field_holds_the_nearest_name(db):
    for call in (lambda: todo.pririty, lambda: Todos(db).find(pririty=1), lambda: Todos(db).find(order_by="-pririty")):
        with pytest.raises(QueryError, match="'priority'"):
            call()


def test_a_query_error_is_a_value_error():
    with pytest.raises(ValueError, match="'priority'"):
        _ = todo.priorty


def test_a_literal_error_carries_the_field_and_is_a_query_error_too():
    with pytest.raises(InvalidLiteralError) as caught:
        _ = todo.priority == "3"

    assert caught.value.field == "priority"
    assert isinstance(caught.value, InvalidValueError)
    assert isinstance(caught.value, QueryError)


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        (lambda: todo.priority == True, "priority"),  # noqa: E712
        (lambda: todo.priority >= 1.5, "priority"),
        (lambda: todo.priority == "1", "priority"),
        (lambda: todo.done == 1, "done"),
        (lambda: todo.key == b"a", "key"),
        (lambda: todo.key == 1, "key"),
        (lambda: todo.key == "a\0b", "key"),
        (lambda: contains(todo.key, "\ud800"), "key"),
        (lambda: some(todo.due) == datetime(2020, 1, 1), "due"),  # noqa: DTZ001
        (lambda: some(todo.due) <= "2020-01-01", "due"),
        (lambda: in_(specimen.ratio, [math.nan]), "ratio"),
        (lambda: some(specimen.ratio) < math.inf, "ratio"),
        (lambda: some(specimen.ratio) == Decimal(1), "ratio"),
        (lambda: some(specimen.amount) == Decimal("NaN"), "amount"),
        (lambda: some(specimen.amount) == 1.5, "amount"),
        (lambda: some(specimen.colour) == "RED", "colour"),
        (lambda: some(specimen.uid) == "0" * 32, "uid"),
        (lambda: some(specimen.span) == 3, "span"),
        (lambda: some(specimen.blob) == "a", "blob"),
        (lambda: in_(todo.priority, [1, "2"]), "priority"),
        (lambda: not_in(todo.key, ["a", 2]), "key"),
        (lambda: between(todo.priority, 1, "9"), "priority"),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_is_written(expression, field):
    with pytest.raises(InvalidLiteralError) as caught:
        expression()

    assert caught.value.field == field


@pytest.mark.parametrize(
    "expression",
    [
        lambda: contains(todo.priority, "1"),
        lambda: startswith(todo.due, "2"),
        lambda: icontains(specimen.colour, "r"),
        lambda: iequals(todo.done, "true"),
        lambda: endswith(specimen.blob, "a"),
        lambda: istartswith(specimen.uid, "a"),
        lambda: todo.priority == todo.key,
        lambda: todo.priority < None,
        lambda: between(todo.priority, None, 3),
        lambda: in_(todo.key, "abc"),
        lambda: in_(todo.priority, 3),
        lambda: not_in(todo.key, todo.value),
        lambda: in_("key", ["a"]),
        lambda: is_null("key"),
        lambda: is_null(todo.priority > 1),
        lambda: not_(todo.priority),
        lambda: contains("key", "a"),
        lambda: some(3),
        lambda: todo.key.lower,
        lambda: todo.key.startswith("a"),
        lambda: todo.priority + 1 > 2,
    ],
)
def test_an_operator_that_does_not_fit_is_refused(expression):
    with pytest.raises((QueryError, TypeError)):
        expression()


def test_fields_of_what_is_no_entity_are_refused():
    class Nothing:
        a: int

    with pytest.raises(Exception, match="Nothing") as caught:
        _ = fields(Nothing).a
    assert type(caught.value).__module__.startswith("sqlrepo")


def test_a_criterion_about_another_class_is_refused(db):
    for call in (
        lambda: Todos(db).find(tag.weight > 1),
        lambda: Todos(db).find(order_by=tag.weight),
        lambda: Todos(db).count(not_(account.balance == 1)),
    ):
        with pytest.raises(QueryError):
            call()


def test_deep_nesting_is_refused_and_long_chains_are_not(db):
    deep = todo.priority > 0
    for level in range(200):
        deep = not_(deep & (todo.priority > level))
    with pytest.raises(QueryError):
        Todos(db).find(deep)

    long = todo.priority == 0
    for value in range(1, 400):
        long = long | (todo.priority == value)
    assert Todos(db).find(long) == []


@pytest.mark.parametrize("combine", [operator.and_, operator.or_, lambda chain, one: one | chain])
def test_a_chain_that_no_call_would_run_is_refused_when_it_becomes_too_long(combine):
    chains = [todo.priority == 0]

    def lengthen():
        for value in range(5_000):
            chains[0] = combine(chains[0], todo.priority == value)

    with pytest.raises(QueryError, match="more than 500 comparisons"):
        lengthen()
    assert len(chains[0].parts) == 500


@pytest.mark.parametrize("nest", [not_, lambda one: not_(one & (todo.priority > 0))])
def test_criteria_nested_however_deep_are_refused_and_never_overflow_the_stack(db, nest):
    deep = todo.priority > 0
    for _ in range(50_000):
        deep = nest(deep)
    with Todos(db) as todos:
        for call in (
            lambda: matches(deep, Todo(key="a")),
            lambda: todos.find(deep),
            lambda: todos.count(deep | deep),
            lambda: todos.delete_where(deep),
        ):
            with pytest.raises(QueryError, match="nested deeper than 50"):
                call()


@pytest.mark.parametrize(
    ("criterion", "printed"),
    [
        (todo.priority >= 3, "priority >= 3"),
        (todo.key == None, "is_null(key)"),  # noqa: E711
        (todo.key != None, "not_(is_null(key))"),  # noqa: E711
        ((todo.priority >= 3) & not_(todo.done), "(priority >= 3) & (not_(done == True))"),
        ((todo.key == "a") | (todo.key == "b"), "(key == 'a') | (key == 'b')"),
        (contains(todo.key, "50%"), "contains(key, '50%')"),
        (icontains(todo.key, "É"), "icontains(key, 'É')"),
        (in_(todo.priority, [1, 2]), "in_(priority, [1, 2])"),
        (todo.key == todo.value, "key == value"),
        (some(todo.due) > date(2020, 1, 1), "due > datetime.date(2020, 1, 1)"),
    ],
)
def test_criteria_print_themselves(criterion, printed):
    assert str(criterion) == printed


def test_criteria_are_values():
    assert (todo.priority > 3) is not (todo.priority > 3)
    assert {todo.priority > 3, fields(Todo).priority > 3} == {todo.priority > 3}
    assert hash(in_(todo.key, ["a"])) == hash(in_(todo.key, ["a"]))


def test_fields_work_on_frozen_and_slotted_dataclasses():
    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int | None = None

    p = fields(Point)

    assert matches((p.x > 1) & is_null(p.y), Point(2))
    assert not matches(some(p.y) < 5, Point(2))
    assert matches(account.balance >= 0, Account("a"))


def test_matches_compares_aware_datetimes_as_instants():
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)

    assert matches(specimen.moment == noon, Specimen(id=1, moment=noon))
    assert matches(specimen.colour == Colour.RED, Specimen(id=1, colour=Colour.RED))


def test_fields_of_the_class_s_base_fit_its_repository(db):
    class Wide(Todo): ...

    with pytest.raises(QueryError):
        Todos(db).find(fields(Wide).priority == 1)


def test_matches_takes_a_query_object():
    query = TodoQuery(priority_ge=2, done=False, limit=0, offset=9)

    assert matches(query, Todo(key="a", priority=2))
    assert not matches(query, Todo(key="a", priority=1))
    assert matches(TodoQuery(), Todo(key="a"))


def test_matches_refuses_another_class():
    for other in (Tag(owner="a", name="b"), None, {"key": "a"}, Account("a")):
        with pytest.raises(QueryError):
            matches(todo.key == "a", other)
        with pytest.raises(QueryError):
            matches(todo.priority > 1, other)


def test_matches_refuses_values_that_have_no_order():
    class Moment(BaseModel):
        start: datetime
        end: datetime

    moment, noon = fields(Moment), datetime(2020, 1, 1, 12, tzinfo=UTC)
    with pytest.raises(QueryError):
        matches(moment.start < moment.end, Moment(start=noon.replace(tzinfo=None), end=noon))


def test_in_needs_a_field_that_compares():
    class Bag(BaseModel):
        things: dict[str, int]

    with pytest.raises(QueryError):
        in_(fields(Bag).things, [{"a": 1}])

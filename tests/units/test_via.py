"""Criteria and orders that follow a key to another root's row, on every backend."""

from itertools import chain
from typing import Annotated, Literal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, create_model
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    InvalidLiteralError,
    QueryError,
    QueryObject,
    Where,
    asc,
    contains,
    desc,
    exists,
    fields,
    icontains,
    in_,
    is_null,
    matches,
    not_,
    not_in,
    some,
    via,
)
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import database, own_base
from tests.units.related import (
    Base,
    Comment,
    Country,
    Customer,
    Employee,
    Label,
    Order,
    Orders,
    Shop,
    fill,
)


@pytest.fixture
def shop(backend):
    db = database(backend, Base)
    with Shop(db) as shop:
        fill(shop)
        yield shop
    db.dispose()


NamedBase = own_base()
o = fields(Order)
customer = via(o.customer_id, Customer)
country = via(customer.country, Country)


def numbers(found):
    return [order.number for order in found]


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        (customer.name == "ann", [1, 3, 5]),
        (customer.name != "ann", [2, 6]),
        (not_(customer.name == "ann"), [2, 6]),
        (not_(not_(customer.name == "ann")), [1, 3, 5]),
        (customer.country == "NO", [1, 5, 6]),
        (not_(customer.country == "NO"), [2]),
        (some(customer.grade) >= 2, [1, 5, 6]),
        (not_(some(customer.grade) >= 2), [3]),
        (in_(customer.name, ["Bob", "dan"]), [2, 6]),
        (not_in(customer.name, ["Bob", "dan"]), [1, 3, 5]),
        (in_(customer.grade, [1, None]), [2, 3, 4]),
        (is_null(customer.grade), [2, 4]),
        (not_(is_null(customer.grade)), [1, 3, 5, 6]),
        (customer.grade == None, [2, 4]),  # noqa: E711
        (contains(customer.name, "n"), [1, 3, 5, 6]),
        (icontains(customer.name, "B"), [2]),
        (not_(icontains(customer.name, "B")), [1, 3, 5, 6]),
        (customer.address.city == "Malmö", [2]),
        (country.name == "Norway", [1, 5, 6]),
        (not_(country.name == "Norway"), [2]),
        (is_null(country.name), [3, 4]),
        (customer.id == o.customer_id, [1, 2, 3, 5, 6]),
        (some(customer.grade) == o.number, []),
        (some(customer.grade) < o.number, [3, 5, 6]),
        (not_(some(customer.grade) < o.number), [1]),
        (customer.country == country.code, [1, 2, 5, 6]),
        (not_((customer.name == "ann") | (o.number == 4)), [2, 6]),
        ((customer.name == "ann") | (o.number == 4), [1, 3, 4, 5]),
        (customer.id == 1, None),
    ],
)
def test_fields_of_the_row_behind_a_key_are_nullable_and_three_valued(shop, criterion, wanted):
    if wanted is None:  # a key of the other row is none of this one
        first = shop.customers.first(order_by="id")
        criterion, wanted = customer.id == first.id, [1, 5]
    assert numbers(shop.orders.find(criterion, order_by="number")) == wanted
    assert shop.orders.count(criterion) == len(wanted)
    assert shop.orders.exists(criterion) is bool(wanted)


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (customer.name, [4, 2, 1, 3, 5, 6]),
        (desc(customer.name), [6, 5, 3, 1, 2, 4]),
        ("-customer_id__id", [6, 3, 2, 5, 1, 4]),
        ([asc(customer.grade), desc(o.number)], [4, 2, 3, 6, 5, 1]),
        ([country.name, o.number], [3, 4, 1, 5, 6, 2]),
        ("customer_id__name,-number", [4, 2, 5, 3, 1, 6]),
        ("-customer_id__country__name,number", [2, 1, 5, 6, 3, 4]),
        ("customer_id__address__city,-customer_id__grade,number", [4, 2, 1, 5, 6, 3]),
    ],
)
def test_rows_are_sorted_by_the_row_behind_a_key(shop, order, wanted):
    assert numbers(shop.orders.find(order_by=order)) == wanted
    assert numbers(shop.orders.stream(order_by=order)) == wanted
    assert numbers([shop.orders.first(order_by=order)]) == wanted[:1]
    assert numbers(shop.orders.find(order_by=order, limit=2, offset=1)) == wanted[1:3]


ORDERS = Literal[
    "customer_id__name",
    "-customer_id__name",
    "customer_id__grade,-number",
    "-customer_id__country__name,customer_id__grade",
    "-customer_id__grade,-customer_id__address__city",
]


class Sorted(QueryObject[Order]):
    customer_id__name_ne: str | None = None
    order_by: ORDERS = "customer_id__name"
    limit: int = 1


@pytest.mark.parametrize("limit", [1, 2, 4])
@pytest.mark.parametrize("order", ORDERS.__args__)
def test_pages_by_position_are_exact_with_ties_and_missing_rows_in_both_directions(shop, order, limit, monkeypatch):
    query = Sorted(order_by=order, limit=limit)
    whole = numbers(shop.orders.find(order_by=order))
    pages, cursor = [], None
    while True:
        page = shop.orders.scroll(query, after=cursor)
        pages.append(numbers(page.items))
        cursor = page.next
        if cursor is None:
            break
    assert list(chain.from_iterable(pages)) == whole
    cursor, back = page.previous, []
    while cursor is not None:
        page = shop.orders.scroll(query, before=cursor)
        back.insert(0, numbers(page.items))
        cursor = page.previous
    assert list(chain.from_iterable(back)) == whole[: len(whole) - len(pages[-1])]
    monkeypatch.setattr("sqlrepo.core.reading._ROWS_AT_ONCE", limit)
    assert numbers(shop.orders.stream(order_by=order)) == whole


def test_cursors_of_another_order_or_filter_are_refused(shop):
    cursor = shop.orders.scroll(Sorted()).next
    for other in (Sorted(order_by="-customer_id__name"), Sorted(customer_id__name_ne="x")):
        with pytest.raises(InvalidLiteralError, match="belongs to another query"):
            shop.orders.scroll(other, after=cursor)


def test_a_literal_is_checked_by_the_column_behind_the_key(shop):
    long, many = "x" * 61, 2**70
    for criterion, field in (
        (customer.name == long, "customer_id.name"),
        (OrderQuery(customer_id__country__name=long).criteria, "customer_id.country.name"),
        (customer.address.city == long, "customer_id.address.city"),
        (exists(o.lines, lambda line: line.qty == many), "lines.qty"),
        (exists(o.lines, lambda line: via(line.label_id, Label).name == long), "lines.label_id.name"),
        (exists(o.label_ids, lambda one: one == many), "label_ids"),
        (exists(Comment, lambda one: (one.order_id == o.id) & (one.author_id == many)), "Comment.author_id"),
    ):
        with pytest.raises(InvalidLiteralError) as caught:
            shop.orders.find(criterion)
        assert caught.value.field == field
    with pytest.raises(InvalidLiteralError):
        _ = customer.name == 3


class OrderQuery(QueryObject[Order]):
    customer_id__name: str | None = None
    customer_id__name_contains: str | None = None
    customer_id__grade__is_null: bool | None = None
    customer_id__address__city_in: list[str] | None = None
    customer_id__country__name: str | None = None
    label_ids__name: str | None = None
    label_ids__in: list[int] | None = None
    lines__qty_ge: int | None = None
    lines__label_id__name: str | None = None
    lines__label_id__name_ne: str | None = None
    order_by: Literal["customer_id__name,-number"] | None = None
    limit: int = 10


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"customer_id__name": "ann"}, [1, 3, 5]),
        ({"customer_id__name_contains": "n", "customer_id__name": "dan"}, [6]),
        ({"customer_id__grade__is_null": True}, [2, 4]),
        ({"customer_id__grade__is_null": False}, [1, 3, 5, 6]),
        ({"customer_id__address__city_in": ["Malmö", "Rome"]}, [2]),
        ({"customer_id__country__name": "Norway"}, [1, 5, 6]),
        ({"label_ids__name": "urgent"}, [2, 5]),
        ({"lines__label_id__name": "urgent"}, [1, 4]),
        ({"lines__label_id__name": "urgent", "lines__qty_ge": 2}, [1]),
        ({"lines__label_id__name_ne": "urgent", "lines__qty_ge": 2}, [4]),
    ],
)
def test_query_objects_lead_through_keys(shop, filters, wanted):
    assert numbers(shop.orders.find(OrderQuery(**filters), order_by="number")) == wanted
    page = shop.orders.page(OrderQuery(**filters, order_by="customer_id__name,-number"), with_total=True)
    assert (sorted(numbers(page.items)), page.total) == (wanted, len(wanted))
    assert numbers(shop.orders.find(OrderQuery(**filters).criteria, order_by="number")) == wanted


@pytest.mark.parametrize(
    ("name", "annotation", "match"),
    [
        ("customer_id__nam", str, "Customer has no field 'nam'; did you mean 'name'"),
        ("customer_id__name_contain", str, "did you mean 'name_contains'"),
        ("customer_id__grade_contains", str, "does not fit"),
        ("customer_id__grade_ge", str, "is annotated"),
        ("customer_id__country__nam", str, "did you mean 'name'"),
        ("number__name", str, "'number' of table related_order is no foreign key"),
        ("label_ids__colour", str, "Label has no field 'colour'"),
        ("lines__label_id__nam", str, "did you mean 'name'"),
        ("order_by", Literal["customer_id__nam"], "did you mean 'name'"),
        ("order_by", Literal["customer_id__address"], "has no order"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_any_statement(name, annotation, match):
    made = type("Wrong", (QueryObject[Order],), {"__annotations__": {name: annotation | None}, name: None})
    db = database("memory", Base)
    with Shop(db) as shop, pytest.raises(QueryError, match=rf"Wrong.{name}: .*{match}"):
        shop.orders.find(made())


def test_what_is_no_path_is_refused_when_the_class_is_defined():
    for name, match in (("number__gte", "did you mean 'number_ge'"), ("label_ids__isnull", "plain values")):
        with pytest.raises(QueryError, match=match):
            type("Wrong", (QueryObject[Order],), {"__annotations__": {name: int | None}, name: None})


def test_rows_elsewhere_are_not_in_an_entity():
    order = Order(number=1, customer_id=1)
    for criterion in (customer.name == "ann", o.number == some(customer.grade), OrderQuery(customer_id__name="ann")):
        with pytest.raises(QueryError, match="use a repository"):
            matches(criterion, order)


def test_what_is_no_key_of_an_entity_is_refused(shop):
    with pytest.raises(QueryError, match="expected a field"):
        via(3, Customer)
    with pytest.raises(QueryError, match="columns of different types"):
        shop.orders.find(via(o.number, Country).name == "x")
    with pytest.raises(QueryError, match="no repository of Stranger"):
        shop.orders.find(via(o.customer_id, type("Stranger", (Customer,), {})).name == "x")
    with pytest.raises(QueryError, match="no field 'nam'"):
        via(o.customer_id, Customer).nam  # noqa: B018  # the point


def test_a_repository_outside_the_unit_serves_if_nothing_scopes_its_table(shop):
    class Alone(BaseUnitOfWork):
        orders: Orders

    shop.commit()
    with Alone(shop._work.source) as alone:
        assert alone.orders.count(exists(o.label_ids, lambda one: via(one, Label).name == "urgent")) == 2


def test_writes_by_the_row_behind_a_key(shop):
    assert shop.orders.update_where(customer.name == "ann", set_={"number": 9}) == 3
    assert shop.orders.delete_where(is_null(country.name) & (o.number < 9)) == 1
    assert sorted(numbers(shop.orders.find())) == [2, 6, 9, 9, 9]
    boss = via(fields(Employee).boss_id, Employee)
    assert shop.employees.update_where(boss.name == "boss", set_={"salary": 1}) == 1
    assert shop.employees.delete_where(via(boss.boss_id, Employee).name == "boss") == 1
    assert [one.name for one in shop.employees.find(order_by="name")] == ["boss", "lead"]


# -- names that begin with a field's and may lead through a key


class Named(BaseModel):
    id: int | None = None
    customer_id: int | None = None
    customer_id__name: str = "n"
    customer_id__size: int = 1


class NamedRow(NamedBase):
    __tablename__ = "named_like_a_path"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("held_by_name.id"))
    customer_id__name: Mapped[str]
    customer_id__size: Mapped[int]


class HeldRow(NamedBase):
    __tablename__ = "held_by_name"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Held(BaseModel):
    id: int | None = None
    name: str


class Helds(BaseRepository[Held, int]):
    model = HeldRow


class Nameds(BaseRepository[Named, int]):
    model = NamedRow


@pytest.mark.parametrize(
    ("name", "annotation"),
    [
        ("customer_id__name", str | None),
        ("customer_id__name_contains", str | None),
        ("customer_id__name__eq", str | None),
        ("order_by", Literal["-customer_id__name"] | None),
    ],
)
def test_a_name_that_is_a_field_and_leads_through_a_key_is_refused(name, annotation):
    query = create_model("Query", __base__=QueryObject[Named], **{name: (annotation, None)})
    for _ in range(2):
        with pytest.raises(QueryError, match=rf"Query\.{name}: customer_id__name.* may mean a field or what is behind"):
            Nameds(InMemoryDatabase()).find(query())


def test_a_name_that_is_a_field_and_leads_nowhere_is_the_field(empty):
    class Query(QueryObject[Named]):
        customer_id__size_ge: int | None = None
        customer_id__name: Annotated[str | None, Where(lambda t, name: t.customer_id__name == name)] = None
        order_by: Literal["-customer_id__size"] = "-customer_id__size"

    with Nameds(empty(NamedBase)) as nameds:
        nameds.add_many([Named(customer_id__size=size) for size in (1, 2, 3)])
        found = nameds.find(Query(customer_id__size_ge=2, customer_id__name="n"))
        assert [one.customer_id__size for one in found] == [3, 2]


def test_rows_on_the_way_are_joined_one_by_one(sqlite):
    """In a list with commas PostgreSQL would try all orders of them, which takes seconds for ten."""
    engine, sent = sqlite.engine, []
    Base.metadata.create_all(engine)
    sa.event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with Shop(sqlite) as shop:
        shop.orders.find(not_(country.name == "x"), order_by="id")
    assert " JOIN related_country " in sent[-1]
    assert "," not in sent[-1].partition("WHERE")[2].partition("FROM")[2].partition("WHERE")[0]

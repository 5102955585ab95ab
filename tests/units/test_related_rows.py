"""Criteria about rows of other roots that refer to a row, on every backend."""

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryError, every, exists, fields, in_, matches, not_, some, via
from tests.units.domain import database, own_base
from tests.units.related import Base, Comment, Customer, Employee, Label, Order, Shop, fill


@pytest.fixture
def shop(backend):
    db = database(backend, Base)
    with Shop(db) as shop:
        fill(shop)
        yield shop
    db.dispose()


o, e, c = fields(Order), fields(Employee), fields(Customer)


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        (exists(Comment, lambda c: c.order_id == o.id), [1, 2, 3]),
        (exists(Comment, lambda c: o.id == c.order_id), [1, 2, 3]),
        (not_(exists(Comment, lambda c: c.order_id == o.id)), [4, 5, 6]),
        (exists(Comment, lambda c: (c.order_id == o.id) & (c.author_id == 8)), [1, 2]),
        (exists(Comment, lambda c: (c.author_id == 8) & ((c.text == "x") & (c.order_id == o.id))), [2]),
        (exists(Comment, lambda c: (c.order_id == o.id) & not_(c.author_id == 8)), [1]),
        (not_(exists(Comment, lambda c: (c.order_id == o.id) & not_(c.author_id == 8))), [2, 3, 4, 5, 6]),
        (every(Comment, lambda c: (c.order_id == o.id) & (some(c.author_id) > 7)), [2, 4, 5, 6]),
        (not_(every(Comment, lambda c: (c.order_id == o.id) & (some(c.author_id) > 7))), [1, 3]),
        (exists(Comment, lambda c: (c.order_id == o.id) & (c.author_id == o.number)), []),
        (exists(o.label_ids, lambda one: via(one, Label).name == "urgent"), [2, 5]),
        (every(o.label_ids, lambda one: via(one, Label).name == "urgent"), [3, 4, 5, 6]),
        (exists(o.lines, lambda line: (via(line.label_id, Label).name == "urgent") & (line.qty > 1)), [1]),
        (every(o.lines, lambda line: via(line.label_id, Label).name == "urgent"), [1, 2, 5, 6]),
        (exists(Customer, lambda c: (c.id == o.customer_id) & (c.tenant == 2)), [3, 6]),
    ],
)
def test_rows_that_refer_to_a_row(shop, criterion, wanted):
    found = shop.orders.find(criterion, order_by="number")
    assert [order.number for order in found] == wanted
    assert shop.orders.count(criterion) == len(wanted)


@pytest.mark.parametrize(
    ("criterion", "wanted"),
    [
        (exists(Employee, lambda one: one.boss_id == e.id), ["boss", "lead"]),
        (exists(Employee, lambda one: (one.boss_id == e.id) & (one.name == "dev")), ["lead"]),
        (not_(exists(Employee, lambda one: one.boss_id == e.id)), ["dev"]),
        (
            exists(Employee, lambda one: (one.boss_id == e.id) & exists(Employee, lambda two: two.boss_id == one.id)),
            ["boss"],
        ),
        (exists(Employee, lambda one: (one.boss_id == e.id) & (one.salary == e.salary)), ["lead"]),
        (exists(Employee, lambda one: one.id == via(e.boss_id, Employee).boss_id), ["dev"]),
        (exists(Employee, lambda one: via(one.boss_id, Employee).boss_id == e.id), ["boss"]),
        (via(e.boss_id, Employee).salary == e.salary, ["dev"]),
        (some(via(e.boss_id, Employee).salary) < e.salary, ["lead"]),
    ],
)
def test_rows_of_one_table_are_told_apart(shop, criterion, wanted):
    assert sorted(one.name for one in shop.employees.find(criterion)) == wanted


def test_nested_lambdas_and_parts_of_other_roots(shop):
    with_lines = exists(Order, lambda one: (one.customer_id == c.id) & exists(one.lines, lambda line: line.qty >= 3))
    assert [one.name for one in shop.customers.find(with_lines, order_by="id")] == ["ann", "ann"]
    commented = exists(
        Order,
        lambda one: (one.customer_id == c.id) & exists(Comment, lambda two: (two.order_id == one.id) & two.deleted),
    )
    assert [one.country for one in shop.customers.find(commented)] == ["NO"]


def test_set_forms_ask_about_their_own_table(shop):
    leads = exists(Employee, lambda one: one.boss_id == e.id)
    assert shop.employees.update_where(leads, set_={"salary": 20}) == 2
    assert sorted(one.salary for one in shop.employees.find()) == [12, 20, 20]
    assert shop.employees.delete_where(not_(leads)) == 1
    assert shop.employees.count() == 2
    assert shop.orders.delete_where(exists(Comment, lambda c: (c.order_id == o.id) & (c.text == "x"))) == 2
    assert shop.orders.count() == 4


def bosses(depth):
    """Ask for the bosses of some employees: so many levels below them."""

    def below(one, left):
        def condition(other):
            return (other.boss_id == one.id) & (below(other, left - 1) if left > 1 else other.name != "")

        return exists(Employee, condition)

    return below(e, depth)


def test_rows_are_nested_as_deep_as_every_database_takes_them(shop):
    assert [len(shop.employees.find(bosses(depth))) for depth in (1, 2, 3, 6)] == [2, 1, 0, 0]
    with pytest.raises(QueryError, match="nested deeper than 6 levels"):
        bosses(7)


class TestRefused:
    @pytest.mark.parametrize(
        "build",
        [
            lambda: exists(Comment, lambda c: c.author_id == 8),
            lambda: exists(Comment, lambda c: c.order_id != o.id),
            lambda: exists(Comment, lambda c: (c.order_id == o.id) | (c.author_id == 8)),
            lambda: exists(Comment, lambda c: (c.order_id == o.id) & (o.number == 3)),
            lambda: exists(Comment, lambda c: (c.order_id == o.id) & (via(o.customer_id, Customer).name == "ann")),
            lambda: exists(Comment, lambda c: (c.order_id == o.id) & exists(o.lines)),
            lambda: exists(o.lines, lambda line: line.qty > o.number),
            lambda: exists(Order, lambda one: exists(one.lines, lambda line: line.qty == o.number)),
            lambda: exists(
                Order,
                lambda x: (x.id == o.id) & exists(Comment, lambda y: (y.order_id == x.id) & (y.author_id == o.id)),
            ),
        ],
    )
    def test_a_condition_that_speaks_of_another_row_says_what_to_write(self, build):
        with pytest.raises(
            QueryError, match=r"by == with one of the outer row's fields|write (it|the rest) outside the lambda"
        ):
            build()

    def test_an_entity_without_a_condition(self):
        with pytest.raises(QueryError, match="must relate its rows"):
            exists(Comment)  # type: ignore[call-overload]  # the point

    def test_what_is_not_in_the_entity(self):
        with pytest.raises(QueryError, match="use a repository"):
            matches(exists(Comment, lambda c: c.order_id == o.id), Order(number=1))
        with pytest.raises(QueryError, match="use a repository"):
            matches(exists(o.label_ids, lambda one: via(one, Label).name == "red"), Order(number=1))

    def test_columns_of_different_types(self, shop):
        with pytest.raises(QueryError, match="different types"):
            _ = exists(Comment, lambda c: c.text == o.number)
        with pytest.raises(QueryError, match="cannot query Customer"):
            shop.orders.find(exists(Comment, lambda one: one.order_id == c.id))

    def test_a_condition_used_inside_another_lambda(self):
        inner = exists(Comment, lambda one: one.order_id == o.id)
        with pytest.raises(QueryError, match="outside the lambda"):
            exists(Order, lambda one: (one.customer_id == c.id) & inner)


Own = own_base()


class SeatRow(Own):
    __tablename__ = "related_seat"
    hall: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int]


class BookingRow(Own):
    __tablename__ = "related_booking"
    __table_args__ = (sa.ForeignKeyConstraint(["hall", "seat"], [SeatRow.hall, SeatRow.number]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    hall: Mapped[str]
    seat: Mapped[int | None]
    paid: Mapped[bool]


class Seat(BaseModel):
    hall: str
    number: int
    price: int


class Booking(BaseModel):
    id: int | None = None
    hall: str
    seat: int | None = None
    paid: bool = False


class Seats(BaseRepository[Seat, tuple[str, int]]):
    model = SeatRow


class Bookings(BaseRepository[Booking, int]):
    model = BookingRow


class Theatre(BaseUnitOfWork):
    seats: Seats
    bookings: Bookings


def test_rows_are_joined_by_several_columns_and_keys_of_several_are_not_followed(backend):
    db = database(backend, Own)
    seat, booking = fields(Seat), fields(Booking)
    with Theatre(db) as theatre:
        theatre.seats.add_many([Seat(hall=hall, number=at, price=at) for hall in "ab" for at in (1, 2)])
        theatre.bookings.add_many(
            [Booking(hall="a", seat=1, paid=True), Booking(hall="b", seat=2), Booking(hall="b", seat=None, paid=True)]
        )
        booked = exists(Booking, lambda one: (one.hall == seat.hall) & (one.seat == seat.number))
        assert [(one.hall, one.number) for one in theatre.seats.find(booked)] == [("a", 1), ("b", 2)]
        assert [(one.hall, one.number) for one in theatre.seats.find(not_(booked))] == [("a", 2), ("b", 1)]
        paid = every(Booking, lambda one: (one.hall == seat.hall) & (one.seat == seat.number) & one.paid)
        assert [(one.hall, one.number) for one in theatre.seats.find(paid)] == [("a", 1), ("a", 2), ("b", 1)]
        dear = exists(Seat, lambda one: (one.number == booking.seat) & (one.hall == booking.hall) & in_(one.price, [2]))
        assert [one.hall for one in theatre.bookings.find(dear)] == ["b"]
        with pytest.raises(QueryError, match="a key of 2 columns"):
            theatre.bookings.find(via(booking.seat, Seat).price == 1)
    db.dispose()

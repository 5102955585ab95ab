"""Summaries: groups and their measures, which agree on every backend with the same computed in Python."""

import random
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import Enum, StrEnum
from fractions import Fraction
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field, computed_field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    HasMany,
    InvalidLiteralError,
    MappingError,
    QueryError,
    QueryObject,
    Summary,
    UnsupportedError,
    exists,
    fields,
    is_null,
    not_,
)
from sqlrepo.driver import Group, Measure
from sqlrepo.language.criteria import Ref
from sqlrepo.language.fields import Sort
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy.types import Exact, Text
from sqlrepo.testing import query_budget
from tests.units.domain import SERVED, Colour, Lab, Specimen, database, tables_of
from tests.units.samples import OTHERS, TEXTS


class Base(DeclarativeBase): ...


class State(StrEnum):
    OPEN = "open"
    DONE = "done"


class OrderRow(Base):
    __tablename__ = "order_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer: Mapped[str | None] = mapped_column(sa.String(20))
    state: Mapped[str] = mapped_column(sa.String(10))  # plain text of the enumeration
    number: Mapped[int | None]
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    total: Mapped[Decimal | None] = mapped_column(sa.Numeric(12, 2))
    wide: Mapped[Decimal | None] = mapped_column(sa.Numeric(20, 4))
    fee: Mapped[Decimal | None] = mapped_column(Exact(18, 3))
    ratio: Mapped[float] = mapped_column(sa.Double)
    paid: Mapped[bool]
    ship_to_city: Mapped[str] = mapped_column(sa.String(20))
    ship_to_zip: Mapped[int | None]
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(order_by="LineRow.id", cascade="all, delete-orphan")


class LineRow(Base):
    __tablename__ = "line_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id, ondelete="CASCADE"))
    sku: Mapped[str] = mapped_column(Text(10))
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    big: Mapped[int | None] = mapped_column(sa.BigInteger)


class PointRow(Base):
    __tablename__ = "point_to_sum"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


measurements = sa.Table(
    "measurement_to_sum", Base.metadata, sa.Column("place", sa.String(10)), sa.Column("level", sa.Integer)
)


class Line(BaseModel):
    id: int | None = None
    sku: str
    price: Decimal | None = None
    big: int | None = None


class Address(BaseModel):
    city: str
    zip: int | None = None


class Order(BaseModel):
    id: int | None = None
    buyer: str | None = None
    state: State = State.OPEN
    number: int | None = None
    big: int | None = None
    total: Decimal | None = None
    wide: Decimal | None = None
    fee: Decimal | None = None
    ratio: float = 0.5
    paid: bool = False
    ship_to: Address = Address(city="x")
    lines: list[Line] = []
    points: frozenset[int] = frozenset()
    version: int = 1


class Measurement(BaseModel):
    place: str | None
    level: int | None


class Orders(BaseRepository[Order, int]):
    model = OrderRow
    version = "version"
    parts = {"points": HasMany(PointRow, value="number")}
    approximate = ("ratio",)


class PaidOrders(Orders):
    def scope(self):
        return order.paid


class Measurements(BaseRepository[Measurement, int]):
    model = measurements


order = fields(Order)

NAMES = [None, "a", "A", "ä", "Z", "\uffff", "\U0001f600"]


def a_decimal(drawn, digits, scale):
    return drawn.choice([None, Decimal(drawn.randint(-(10**digits), 10**digits)).scaleb(-scale)])


def an_order(drawn):
    return Order(
        buyer=drawn.choice(NAMES),
        state=drawn.choice(list(State)),
        number=drawn.choice([None, -3, 0, 7]),
        big=drawn.choice([None, 2**63 - 1, -(2**63), 2**62 + 1]),
        total=a_decimal(drawn, 4, 2),
        wide=a_decimal(drawn, 14, 4),
        fee=a_decimal(drawn, 18, 3) and a_decimal(drawn, 17, 3),
        ratio=drawn.choice([0.1, 0.2, -7.5]),
        paid=drawn.random() < 0.6,
        ship_to=Address(city=drawn.choice("xXy"), zip=drawn.choice([None, 1])),
        lines=[
            Line(sku=drawn.choice("aAb"), price=a_decimal(drawn, 5, 2), big=drawn.choice([None, 2**62, -1]))
            for _ in range(drawn.choice([0, 0, 1, 2, 4]))
        ],
        points=frozenset(drawn.sample(range(9), drawn.choice([0, 1, 3]))),
    )


db = tables_of(Base)


@pytest.fixture
def orders(db):
    with Orders(db) as made:
        yield made


@pytest.fixture
def filled(orders):
    drawn = random.Random(11)
    return orders, orders.add_many(an_order(drawn) for _ in range(80))


# -- the oracle


def in_order(value):
    """The key of a sort as every backend sorts: NULL is the smallest, members count by their stored text."""
    return (value is not None, value.value if isinstance(value, Enum) else value)


def summed(values):
    with localcontext(prec=60):
        return sum(values) if values else None


def averaged(values, scale):
    if not values:
        return None
    exact = sum(map(Fraction, values)) / len(values)
    with localcontext(prec=200):
        return (Decimal(exact.numerator) / exact.denominator).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_EVEN)


def known(values):
    return [value for value in values if value is not None]


def grouped(rows, key):
    groups = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return sorted(groups.items(), key=lambda pair: tuple(map(in_order, pair[0])))


# -- groups


class ByBuyer(Summary[Order]):
    buyer: str | None
    state: State
    ship_to__city: str
    count: int
    number_count: int
    number_count_distinct: int
    number_sum: int | None
    number_avg: Decimal | None
    buyer_min: str | None
    total_sum: Decimal | None
    total_min: Decimal | None
    total_max: Decimal | None
    total_avg: Decimal | None
    wide_sum: Decimal | None
    fee_sum: Decimal | None
    ship_to__zip_max: int | None
    state_max: State
    paid_count: int
    ratio_max: float


class Parts(Summary[Order]):
    buyer: str | None
    lines__count: int
    lines__price_sum: Decimal | None
    lines__price_min: Decimal | None
    lines__price_max: Decimal | None
    lines__price_count: int
    lines__sku_max: str | None
    points__sum: int | None
    points__count: int
    total_sum: Decimal | None


def by_buyer(key, rows):
    numbers, totals = known(row.number for row in rows), known(row.total for row in rows)
    return ByBuyer(
        buyer=key[0],
        state=key[1],
        ship_to__city=key[2],
        count=len(rows),
        number_count=len(numbers),
        number_count_distinct=len(set(numbers)),
        number_sum=summed(numbers),
        number_avg=averaged(numbers, 4),
        buyer_min=key[0],
        total_sum=summed(totals),
        total_min=min(totals, default=None),
        total_max=max(totals, default=None),
        total_avg=averaged(totals, 6),
        wide_sum=summed(known(row.wide for row in rows)),
        fee_sum=summed(known(row.fee for row in rows)),
        ship_to__zip_max=max(known(row.ship_to.zip for row in rows), default=None),
        state_max=key[1],
        paid_count=len(rows),
        ratio_max=max(row.ratio for row in rows),
    )


def of_parts(buyer, rows):
    lines = [line for row in rows for line in row.lines]
    prices, points = known(line.price for line in lines), [point for row in rows for point in row.points]
    return Parts(
        buyer=buyer,
        lines__count=len(lines),
        lines__price_sum=summed(prices),
        lines__price_min=min(prices, default=None),
        lines__price_max=max(prices, default=None),
        lines__price_count=len(prices),
        lines__sku_max=max((line.sku for line in lines), default=None),
        points__sum=summed(points),
        points__count=len(points),
        total_sum=summed(known(row.total for row in rows)),
    )


def shown(summaries):
    """With the digits of decimals, which equality leaves out."""
    return [repr(one) for one in summaries]


class TestGroups:
    def test_they_agree_with_python(self, filled):
        orders, rows = filled
        expected = [
            by_buyer(key, members)
            for key, members in grouped(rows, lambda row: (row.buyer, row.state, row.ship_to.city))
        ]
        with query_budget(1):
            found = orders.summarize(ByBuyer)
        assert shown(found) == shown(expected)

    def test_criteria_choose_the_rows(self, filled):
        orders, rows = filled
        chosen = [row for row in rows if row.paid and (row.number or 0) > 0]
        expected = [by_buyer(*group) for group in grouped(chosen, lambda row: (row.buyer, row.state, row.ship_to.city))]

        class Query(QueryObject[Order]):
            number_gt: int | None = None
            limit: int = 1  # of a page, not of groups

        assert shown(orders.summarize(ByBuyer, order.paid, Query(number_gt=0))) == shown(expected)

    def test_measures_of_parts_are_folded_for_each_row(self, filled):
        """Neither another part nor a filter that joins multiplies them; a join gave 40 for 30."""
        orders, rows = filled
        expected = [of_parts(*key, members) for key, members in grouped(rows, lambda row: (row.buyer,))]
        with query_budget(1):
            assert shown(orders.summarize(Parts)) == shown(expected)
        chosen = [row for row in rows if any(line.sku == "a" for line in row.lines)]
        expected = [of_parts(*key, members) for key, members in grouped(chosen, lambda row: (row.buyer,))]
        assert shown(orders.summarize(Parts, exists(order.lines, lambda line: line.sku == "a"))) == shown(expected)

    def test_without_a_key_there_is_one_row_also_over_nothing(self, filled):
        class Whole(Summary[Order]):
            count: int
            number_sum: int | None
            total_avg: Decimal | None
            buyer_max: str | None
            number_count: int
            lines__count: int
            lines__price_sum: Decimal | None
            points__max: int | None

        orders, rows = filled
        [whole] = orders.summarize(Whole)
        assert whole.count == len(rows)
        assert whole.buyer_max == max(known(row.buyer for row in rows))
        assert whole.lines__count == sum(len(row.lines) for row in rows)
        assert orders.summarize(Whole, order.id == -1) == [
            Whole(
                count=0,
                number_sum=None,
                total_avg=None,
                buyer_max=None,
                number_count=0,
                lines__count=0,
                lines__price_sum=None,
                points__max=None,
            )
        ]

    def test_keys_without_measures_are_the_different_values(self, filled):
        class Cities(Summary[Order]):
            ship_to__city: str

        orders, rows = filled
        cities = [one.ship_to__city for one in orders.summarize(Cities)]
        assert cities == sorted({row.ship_to.city for row in rows}) == orders.distinct(order.ship_to.city)

    def test_a_table_without_a_key_is_summarized(self, db):
        class ByPlace(Summary[Measurement]):
            place: str | None
            count: int
            level_sum: int | None

        with Measurements(db) as levels:
            levels.add_many([Measurement(place=place, level=level) for place in ("b", None) for level in (1, 1, None)])
            assert levels.summarize(ByPlace) == [
                ByPlace(place=None, count=3, level_sum=2),
                ByPlace(place="b", count=3, level_sum=2),
            ]

    def test_the_scope_holds(self, filled, db):
        orders, rows = filled
        paid = [row for row in rows if row.paid]
        inner = PaidOrders(orders.unit)
        expected = [of_parts(*key, members) for key, members in grouped(paid, lambda row: (row.buyer,))]
        assert shown(inner.summarize(Parts)) == shown(expected)
        assert inner.counts(order.paid) == {True: len(paid)}
        assert inner.distinct(order.id, order.number == 7) == [row.id for row in paid if row.number == 7]


# -- numbers


class Sums(Summary[Order]):
    big_sum: int | None
    lines__big_sum: int | None


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([2**63 - 1], 2**63 - 1),
        ([2**63 - 1, 2**63 - 1, -(2**63), -5], 2**63 - 7),  # beyond 64 bits on the way
        ([-(2**63), 1, -1], -(2**63)),
        ([2**32 - 1, -(2**32), 2**31], 2**31 - 1),
        ([-1, -1], -2),
    ],
)
def test_sums_of_integers_are_exact(orders, values, total):
    orders.add_many(Order(big=value, lines=[Line(sku="a", big=value), Line(sku="b")]) for value in values)
    assert orders.summarize(Sums) == [Sums(big_sum=total, lines__big_sum=total)]


@pytest.mark.parametrize("values", [[2**63 - 1, 1], [-(2**63), -1], [2**63 - 1] * 5])
def test_a_sum_beyond_64_bits_is_an_error(orders, values):
    class OfBig(Summary[Order]):
        big_sum: int | None

    class OfLines(Summary[Order]):
        lines__big_sum: int | None

    orders.add_many(Order(big=value, lines=[Line(sku="a", big=value)]) for value in values)
    for summary, name in ((OfBig, "big_sum"), (OfLines, "lines__big_sum")):
        with pytest.raises(UnsupportedError, match=f"{name}: a sum is larger than a 64-bit integer"):
            orders.summarize(summary)
    assert orders.count() == len(values)  # it was not the database that refused


def test_a_view_sums_no_more_than_64_bits_either(orders):
    class View(BaseModel):
        id: int
        lines__big_sum: int | None

    largest = orders.add(Order(lines=[Line(sku="a", big=2**63 - 2), Line(sku="b", big=1)]))
    assert orders.find(into=View) == [View(id=largest.id, lines__big_sum=2**63 - 1)]
    orders.patch(largest.id, {"lines": [*largest.lines, Line(sku="c", big=1)]})
    with pytest.raises(UnsupportedError, match="lines__big_sum: a sum is larger than a 64-bit integer"):
        orders.find(into=View)


@pytest.mark.parametrize(
    ("values", "average"),
    [
        ([1] + [0] * 31, "0.0312"),  # 0.03125: the even digit
        ([3] + [0] * 31, "0.0938"),  # 0.09375
        ([-1] + [0] * 31, "-0.0312"),
        ([2, 3], "2.5000"),
        ([1, 1, 0], "0.6667"),
    ],
)
def test_averages_are_rounded_half_to_even(orders, values, average):
    class Mean(Summary[Order]):
        number_avg: Decimal | None
        fee_avg: Decimal | None

    orders.add_many(Order(number=value, fee=Decimal(value).scaleb(-3)) for value in values)
    [mean] = orders.summarize(Mean)
    assert (str(mean.number_avg), str(mean.fee_avg)) == (average, str(Decimal(average).scaleb(-3)))


def test_decimals_are_never_rounded_on_the_way(orders):
    class Exactly(Summary[Order]):
        total_sum: Decimal | None
        wide_sum: Decimal | None
        fee_sum: Decimal | None

    orders.add_many(
        Order(total=Decimal("0.10"), wide=Decimal("0.1000"), fee=Decimal("999999999999999.999")) for _ in range(30)
    )
    orders.add(Order(total=Decimal("9999999999.99"), wide=Decimal("99999999999.9999"), fee=Decimal("0.001")))
    [found] = orders.summarize(Exactly)
    assert (str(found.total_sum), str(found.wide_sum)) == ("10000000002.99", "100000000002.9999")
    assert str(found.fee_sum) == "29999999999999999.971"  # more than 18 digits, which 64 bits do not hold


def test_memory_sums_more_digits_than_python_does_by_default():
    class Own(DeclarativeBase): ...

    class DepositRow(Own):
        __tablename__ = "deposit_to_sum"
        id: Mapped[int] = mapped_column(primary_key=True)
        amount: Mapped[Decimal] = mapped_column(sa.Numeric(38, 10))

    class Deposit(BaseModel):
        id: int | None = None
        amount: Decimal

    class Deposits(BaseRepository[Deposit, int]):
        model = DepositRow

    class Whole(Summary[Deposit]):
        amount_sum: Decimal | None

    with Deposits(InMemoryDatabase()) as deposits:
        deposits.add_many(Deposit(amount=Decimal(one)) for one in ("1e27", "0.0000000001"))
        assert str(deposits.summarize(Whole)[0].amount_sum) == "1000000000000000000000000000.0000000001"


def test_floats_are_summed_where_about_right_will_do(orders):
    class Ratio(Summary[Order]):
        ratio_sum: float | None
        ratio_avg: float | None

    orders.add_many(Order(ratio=ratio) for ratio in (0.1, 0.2, 0.4))
    [found] = orders.summarize(Ratio)
    assert found.ratio_sum == pytest.approx(0.7)
    assert found.ratio_avg == pytest.approx(0.7 / 3)

    class Strict(Orders):
        approximate = ()

    with pytest.raises(QueryError, match=r"Ratio.ratio_sum: .* declare `approximate = \('ratio',\)` in the repository"):
        Strict(orders.unit).summarize(Ratio)


# -- the choice of groups


class Totals(Summary[Order]):
    buyer: str | None
    state: State
    count: int
    total_sum: Decimal | None
    total_avg: Decimal | None
    lines__price_sum: Decimal | None
    number_max: int | None


class TotalsQuery(QueryObject[Totals]):
    buyer_in: list[str | None] | None = None
    state: State | None = None
    count_ge: int | None = None
    total_sum_gt: Decimal | None = None
    total_avg_le: Decimal | None = None
    lines__price_sum_between: tuple[Decimal, Decimal] | None = None
    total_sum_is_null: bool | None = None
    limit: int | None = Field(default=None, ge=0)


@pytest.mark.parametrize(
    ("order_by", "key"),
    [
        ("-count", lambda one: (one.count, one.buyer, one.state)),
        ("-total_sum", lambda one: (one.total_sum, one.buyer, one.state)),
        ("-lines__price_sum", lambda one: (one.lines__price_sum, one.buyer, one.state)),
        ("-number_max,-state", lambda one: (one.number_max, one.state, one.buyer)),
        ("-total_avg", lambda one: (one.total_avg, one.buyer, one.state)),
        ("-state", lambda one: (one.state, one.buyer)),
    ],
)
def test_they_are_sorted_by_any_field_and_then_by_the_keys(filled, order_by, key):
    orders, _ = filled
    everything = orders.summarize(Totals)
    expected = sorted(everything, key=lambda one: tuple(map(in_order, key(one))), reverse=True)
    assert orders.summarize(Totals, order_by=order_by) == expected
    with query_budget(1):
        assert orders.summarize(Totals, order_by=order_by, limit=3, offset=2) == expected[2:5]
    assert orders.summarize(Totals, order_by=order_by, limit=0) == []
    ascending = sorted(everything, key=lambda one: tuple(map(in_order, key(one))))
    turned = ",".join(part.removeprefix("-") for part in order_by.split(","))
    assert orders.summarize(Totals, order_by=turned, offset=1) == ascending[1:]


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        ({"count_ge": 7}, lambda one: one.count >= 7),
        ({"buyer_in": ["a", None, "\U0001f600"]}, lambda one: one.buyer in ("a", None, "\U0001f600")),
        ({"state": State.DONE}, lambda one: one.state is State.DONE),
        ({"total_sum_gt": Decimal("0.005")}, lambda one: (one.total_sum or -1) > 0),
        ({"total_avg_le": Decimal("10.25")}, lambda one: one.total_avg is not None and one.total_avg <= 10.25),
        ({"total_avg_le": 0, "state": State.OPEN}, lambda one: (one.total_avg or 1) <= 0 and one.state is State.OPEN),
        ({"total_sum_is_null": True}, lambda one: one.total_sum is None),
        (
            {"lines__price_sum_between": (Decimal(-500), Decimal(900))},
            lambda one: one.lines__price_sum is not None and -500 <= one.lines__price_sum <= 900,
        ),
    ],
)
def test_having_chooses_among_them(filled, asked, holds):
    orders, _ = filled
    expected = [one for one in orders.summarize(Totals) if holds(one)]
    assert 0 < len(expected) < 14
    with query_budget(1):
        assert orders.summarize(Totals, having=TotalsQuery(**asked)) == expected
    assert orders.summarize(Totals, having=TotalsQuery(**asked, limit=1)) == expected[:1]
    chosen = [one for one in orders.summarize(Totals, order.paid) if holds(one)]
    assert orders.summarize(Totals, order.paid, having=TotalsQuery(**asked)) == chosen


def test_an_exact_sum_is_compared_exactly(orders):
    orders.add_many(Order(buyer="a", fee=Decimal("0.1")) for _ in range(3))

    class Fees(Summary[Order]):
        buyer: str | None
        fee_sum: Decimal | None
        wide_sum: Decimal | None

    class Equal(QueryObject[Fees]):
        fee_sum: Decimal | None = None
        wide_sum: Decimal | None = None

    orders.add_many(Order(buyer="b", wide=Decimal("0.1")) for _ in range(3))
    assert [one.buyer for one in orders.summarize(Fees, having=Equal(fee_sum=Decimal("0.3")))] == ["a"]
    assert [one.buyer for one in orders.summarize(Fees, having=Equal(wide_sum=Decimal("0.3")))] == ["b"]


def test_limits_are_checked(orders):
    with pytest.raises(InvalidLiteralError, match="limit: cannot be negative"):
        orders.summarize(Totals, limit=-1)
    with pytest.raises(QueryError, match="Totals has no field 'total'"):
        orders.summarize(Totals, order_by="total")
    with pytest.raises(QueryError, match="limit is given twice"):
        orders.summarize(Totals, having=TotalsQuery(limit=1), limit=2)


# -- counts and values


def test_counts_and_distinct_values_have_the_type_of_the_field(filled):
    orders, rows = filled
    for field, read in (
        (order.buyer, lambda row: row.buyer),
        (order.state, lambda row: row.state),
        (order.total, lambda row: row.total),
        (order.paid, lambda row: row.paid),
        (order.ship_to.zip, lambda row: row.ship_to.zip),
    ):
        expected = [(key, len(members)) for (key,), members in grouped(rows, lambda row, read=read: (read(row),))]
        with query_budget(2):
            assert list(map(repr, orders.counts(field).items())) == list(map(repr, expected))  # members, not their text
            assert orders.distinct(field) == [key for key, _ in expected]
        some = [
            (key, len(members))
            for (key,), members in grouped(
                [row for row in rows if row.number is not None], lambda row, read=read: (read(row),)
            )
        ]
        assert list(orders.counts(field, not_(is_null(order.number))).items()) == some


def test_only_a_field_has_counts(orders):
    assert orders.counts(order.buyer) == {}
    assert orders.distinct(order.buyer) == []
    with pytest.raises(QueryError, match="not of str"):
        orders.counts("buyer")
    with pytest.raises(QueryError, match="has no order"):
        orders.distinct(order.lines)
    with pytest.raises(QueryError, match=r"cannot query Specimen\.text"):
        orders.counts(fields(Specimen).text)


# -- what a class may say


def define(annotations, entity=Order, **namespace):
    return type("Made", (Summary[entity],), {"__annotations__": annotations, "__module__": __name__, **namespace})


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"stat": State}, r"Made.stat: Order has no field 'stat'; did you mean 'state'"),
        ({"number_summ": int | None}, r"Made.number_summ: .* did you mean 'number_sum'"),
        ({"lines__pric_sum": Decimal | None}, r"Made.lines__pric_sum: Order has no field"),
        ({"buyer_sum": str | None}, r"Made.buyer_sum: buyer is str \| None, so sum does not fit"),
        ({"state_avg": Decimal | None}, r"Made.state_avg: state is State, so avg does not fit"),
        ({"paid_max": bool | None}, r"Made.paid_max: paid is bool, so max does not fit"),
        ({"lines": list[Line]}, r"Made.lines: lines is .*Line.*, so it cannot be a group key"),
        ({"ship_to": Address}, r"Made.ship_to: ship_to is Address, so it cannot be a group key"),
        ({"lines_sum": int | None}, r"Made.lines_sum: Order has no field"),
        ({"lines__price_avg": Decimal | None}, r"Made.lines__price_avg: avg does not fit children; use one of sum, "),
        ({"lines__sku": str}, r"Made.lines__sku: Order has no field"),
        ({"number_sum": Decimal | None}, r"Made.number_sum: is annotated .*Decimal.*, but it is int"),
        ({"number_avg": int | None}, r"Made.number_avg: is annotated .*, but it is Decimal"),
        ({"count": str}, r"Made.count: is annotated str, but it is int"),
        ({"state": str}, r"Made.state: is annotated str, but it is State"),
        ({"state": Colour}, r"Made.state: is annotated Colour, but it is State"),
        ({"lines__id__x_sum": int | None}, r"Made.lines__id__x_sum: .* its parts only; .* SQLAlchemyRepository.select"),
        ({"number_sum": int}, r"Made.number_sum: may be None, because there may be nothing to measure; .* int \| None"),
        ({"buyer": str | None, "lines__price_sum": Decimal}, r"Made.lines__price_sum: may be None"),
    ],
)
def test_a_mistake_is_found_when_the_class_is_defined(annotations, message):
    with pytest.raises(QueryError, match=message):
        define(annotations)


def test_an_ambiguous_name_is_refused_and_two_underscores_make_it_unique():
    class Odd(BaseModel):
        total: int
        total_sum: int

    with pytest.raises(QueryError, match=r"Made\.total_sum: the name is ambiguous.*write total__sum"):
        define({"total_sum": int | None}, Odd)
    define({"total__sum": int | None, "total_sum__sum": int | None}, Odd)


def test_a_class_needs_its_entity():
    with pytest.raises(QueryError, match=r"write class Nothing\(Summary\[Todo\]\)"):
        Orders(InMemoryDatabase()).summarize(type("Nothing", (Summary,), {"__annotations__": {"count": int}}))


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"buyer": str}, "Made.buyer: may be None, because column 'buyer' is nullable; annotate str | None"),
        ({"state": State, "total_max": Decimal}, "Made.total_max: may be None, because column 'total' is nullable"),
    ],
)
def test_a_mistake_about_the_table_is_found_before_any_statement(orders, annotations, message):
    with query_budget(0), pytest.raises(QueryError) as caught:
        orders.summarize(define(annotations))
    assert message in str(caught.value)


def test_a_summary_without_fields_is_refused(orders):
    """Not when it is defined: it may be the base class of others."""
    with query_budget(0), pytest.raises(QueryError, match="Made has no field; name group keys and measures"):
        orders.summarize(define({}))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("ratoi",), "`approximate` names 'ratoi', which is no float field of Order; did you mean 'ratio'"),
        (("number",), "`approximate` names 'number', which is no float field"),
        (("lines__price",), "`approximate` names 'lines__price', which is no float field"),
        (("lines",), "`approximate` names 'lines', which is no float field"),
        ("ratoi", "`approximate` names 'ratoi'"),
    ],
)
def test_approximate_names_float_fields(names, message):
    with pytest.raises(MappingError, match=message):
        type("Wrong", (Orders,), {"approximate": names})


def test_approximate_may_be_one_name():
    class Ratio(Summary[Order]):
        ratio_sum: float | None

    class One(Orders):
        approximate = "ratio"

    with One(InMemoryDatabase()) as orders:
        orders.add(Order(ratio=0.5))
        assert orders.summarize(Ratio) == [Ratio(ratio_sum=0.5)]


def test_a_repository_of_some_columns_is_refused_unless_it_writes_otherwise():
    class Short(BaseModel):
        id: int
        state: State

    class ByState(Summary[Short]):
        state: State
        count: int

    with pytest.raises(MappingError, match=r"is required, and Short lacks the field; .*override to_row; .* `into=`"):

        class Shorts(BaseRepository[Short, int]):
            model = OrderRow

    class Report(BaseRepository[Short, int]):
        model = OrderRow

        def to_row(self, entity):
            raise NotImplementedError

    with Orders(db := InMemoryDatabase()) as orders:
        orders.add(Order())
    with Report(db) as report:
        assert report.summarize(ByState) == [ByState(state=State.OPEN, count=1)]
        assert report.find() == [Short(id=1, state=State.OPEN)]


def test_a_summary_of_other_entities_is_refused(orders):
    class Other(Summary[Specimen]):
        count: int

    with pytest.raises(QueryError, match="Other does not summarize Order"):
        orders.summarize(Other)


def test_a_summary_is_a_model_like_any_other(orders):
    class Named(Summary[Order]):
        ship_to__city: str = Field(alias="city")
        count: int

        @computed_field
        @property
        def many(self) -> bool:
            return self.count > 1

    orders.add_many([Order(), Order()])
    assert [one.model_dump(by_alias=True) for one in orders.summarize(Named)] == [
        {"city": "x", "count": 2, "many": True}
    ]


def test_a_summary_may_be_defined_before_its_entity():
    class Early(Summary["Late"]):
        count: int

    class Late(BaseModel):
        id: int

    assert Early.model_fields.keys() == {"count"}


# -- types that a database has of its own


def test_native_types_are_keys_and_measured_alike(empty):
    class Own(DeclarativeBase): ...

    class PieceRow(Own):
        __tablename__ = "piece_to_sum"
        id: Mapped[int] = mapped_column(primary_key=True)
        colour: Mapped[Colour | None] = mapped_column(sa.Enum(Colour, name="colour_to_sum"))
        code: Mapped[str] = mapped_column(sa.CHAR(4))
        token: Mapped[UUID] = mapped_column(sa.Uuid)

    class Piece(BaseModel):
        id: int | None = None
        colour: Colour | None
        code: str
        token: UUID

    class Pieces(BaseRepository[Piece, int]):
        model = PieceRow

    class ByColour(Summary[Piece]):
        colour: Colour | None
        code: str
        token: UUID
        count: int
        colour_max: Colour | None
        code_min: str
        token_max: UUID
        colour_count_distinct: int

    class Query(QueryObject[ByColour]):
        colour: Colour | None = None
        code_in: list[str] | None = None
        code_min_gt: str | None = None
        token: UUID | None = None
        colour_max: Colour | None = None

    low, high = UUID("00000000-0000-0000-ffff-000000000000"), UUID("00000001-0000-0000-0000-000000000000")
    with Pieces(empty(Own)) as pieces:
        pieces.add_many([
            Piece(colour=colour, code=code, token=token)
            for colour, code, token in [
                (Colour.RED, "b", low), (Colour.RED, "b", low), (Colour.BLUE, "B", high), (None, "b", high)]
        ])  # fmt: skip
        found = pieces.summarize(ByColour)
        red, blue, none = Colour.RED, Colour.BLUE, None
        assert [tuple(one.model_dump().values()) for one in found] == [
            (none, "b", high, 1, none, "b", high, 0),
            (blue, "B", high, 1, blue, "B", high, 1),
            (red, "b", low, 2, red, "b", low, 1),
        ]
        for asked, indexes in (
            ({"colour": red}, [2]),
            ({"code_in": ["b"]}, [0, 2]),
            ({"code_min_gt": "B"}, [0, 2]),
            ({"token": high}, [0, 1]),
            ({"colour_max": blue}, [1]),
        ):
            assert pieces.summarize(ByColour, having=Query(**asked)) == [found[index] for index in indexes], asked
        assert pieces.summarize(ByColour, order_by="token_max,-colour_max")[0] == found[2]
        assert pieces.counts(fields(Piece).token) == {low: 2, high: 2}


# -- the driver


@pytest.fixture(params=["memory", "sqlite", *SERVED])
def specimens(request):
    made = database(request.param)
    drawn = random.Random(7)
    samples = {"text": TEXTS, "other": TEXTS, **OTHERS}
    rows = [
        Specimen(id=number, **{name: drawn.choice(values) for name, values in samples.items()}) for number in range(80)
    ]
    with Lab(made) as lab:
        lab.specimens.add_many(rows)
        yield lab.specimens, rows
    made.dispose()


@pytest.mark.parametrize("name", ["text", "other", *OTHERS])
def test_every_type_is_a_key_and_is_measured(specimens, name):
    repository, rows = specimens
    ref = Ref(object, name)
    functions = ("count", "count_distinct") if name == "flag" else ("count", "count_distinct", "min", "max")
    measures = (Measure("count"), *(Measure(one, ref) for one in functions))
    by_number = Group((Ref(object, "number"),), measures, order=(Sort(Ref(object, "0")),))
    by_value = Group((ref,), (Measure("count"),), order=(Sort(Ref(object, "0"), descending=True),))
    found, keyed = repository._work.run(
        lambda driver: [driver.group(repository._schema, one) for one in (by_number, by_value)]
    )

    def stored(value):
        return (value is not None, value.name if isinstance(value, Colour) else value)

    expected = []
    for (key,), members in grouped(rows, lambda row: (row.number,)):
        values = sorted(known(getattr(row, name) for row in members), key=stored)
        extremes = (values[0], values[-1]) if values else (None, None)
        expected.append((key, len(members), len(values), len(set(values)), *extremes[: len(functions) - 2]))
    assert found == expected
    assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in expected]
    counts = defaultdict(int)
    for row in rows:
        counts[getattr(row, name)] += 1
    assert keyed == [(key, counts[key]) for key in sorted(counts, key=stored, reverse=True)]

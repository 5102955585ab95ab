"""Summaries that lead to other tables: through keys, to single children, through association tables, with scopes."""

from decimal import Decimal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, HasMany, HasOne, QueryError, QueryObject, Summary, fields, via
from sqlrepo.testing import query_budget
from tests.units.domain import database


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class CountryRow(Base):
    __tablename__ = "country_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class CustomerRow(Base):
    __tablename__ = "customer_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    tenant: Mapped[int]
    country_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CountryRow.id))


class SaleRow(Base):
    __tablename__ = "sale_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CustomerRow.id))
    version: Mapped[int]
    items: Mapped[list["ItemRow"]] = relationship(order_by="ItemRow.id", cascade="all, delete-orphan")
    parcel: Mapped["ParcelRow | None"] = relationship(cascade="all, delete-orphan")


class ItemRow(Base):
    __tablename__ = "item_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    sale_id: Mapped[int] = mapped_column(sa.ForeignKey(SaleRow.id, ondelete="CASCADE"))
    price: Mapped[Decimal] = mapped_column(sa.Numeric(8, 2))
    hidden: Mapped[bool] = mapped_column(default=False)


class ParcelRow(Base):
    __tablename__ = "parcel_to_sum"
    sale_id: Mapped[int] = mapped_column(sa.ForeignKey(SaleRow.id, ondelete="CASCADE"), primary_key=True)
    carrier: Mapped[str]
    weight: Mapped[int]


class NoteRow(Base):
    __tablename__ = "note_to_sum"
    id: Mapped[int] = mapped_column(primary_key=True)
    length: Mapped[int]


sale_notes = sa.Table(
    "sale_note_to_sum",
    Base.metadata,
    sa.Column("sale_id", sa.ForeignKey(SaleRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("note_id", sa.ForeignKey(NoteRow.id, ondelete="CASCADE"), primary_key=True),
)


class Country(BaseModel):
    id: int | None = None
    name: str


class Customer(BaseModel):
    id: int | None = None
    name: str
    tenant: int = 1
    country_id: int | None = None


class Item(BaseModel):
    id: int | None = None
    price: Decimal
    hidden: bool = False


class Parcel(BaseModel):
    carrier: str
    weight: int


class Note(BaseModel):
    id: int | None = None
    length: int


class Sale(BaseModel):
    id: int | None = None
    customer_id: int | None = None
    items: list[Item] = []
    parcel: Parcel | None = None
    notes: list[Note] = []
    version: int = 1


class Countries(BaseRepository[Country, int]):
    model = CountryRow


class AllCustomers(BaseRepository[Customer, int]):
    model = CustomerRow


class Customers(AllCustomers):
    def scope(self):
        return fields(Customer).tenant == self.context


class Sales(BaseRepository[Sale, int]):
    model = SaleRow
    version = "version"
    parts = {"notes": HasMany(NoteRow, through=sale_notes), "parcel": HasOne()}


class AllItems(BaseRepository[ItemRow, int]): ...


class Items(BaseRepository[ItemRow, int]):
    def scope(self):
        return fields(ItemRow).hidden == False  # noqa: E712  # a criterion


class Open(BaseUnitOfWork[int]):
    sales: Sales
    customers: AllCustomers
    countries: Countries
    items: AllItems


class Confined(BaseUnitOfWork[int]):
    sales: Sales
    customers: Customers
    countries: Countries
    items: Items


sale = fields(Sale)


class ByName(Summary[Sale]):
    customer_id__name: str | None
    customer_id__country_id__name: str | None
    count: int
    items__price_sum: Decimal | None
    items__count: int


class ByCarrier(Summary[Sale]):
    parcel__carrier: str | None
    parcel__weight_sum: int | None
    count: int
    notes__count: int
    notes__length_sum: int | None


class Many(QueryObject[ByName]):
    customer_id__name__in: list[str | None] | None = None


@pytest.fixture
def db(backend):
    made = database(backend, Base)
    with Open(made, context=0) as shop:
        norway = shop.countries.add(Country(name="Norway"))
        given = [("ann", 1, norway.id), ("bob", 2, norway.id), ("ann", 1, None)]
        ids = [one.id for one in shop.customers.add_many(Customer(name=n, tenant=t, country_id=c) for n, t, c in given)]
        prices = [("1.10", False), ("2.20", True)]
        items = [Item(price=Decimal(price), hidden=hidden) for price, hidden in prices]
        shop.sales.add_many(
            [
                Sale(customer_id=ids[0], items=items, parcel=Parcel(carrier="dhl", weight=5), notes=[Note(length=3)]),
                Sale(customer_id=ids[1], items=items[:1], parcel=Parcel(carrier="dhl", weight=7)),
                Sale(customer_id=ids[2], notes=[Note(length=4), Note(length=5)]),
                Sale(customer_id=None, items=items[1:]),
                Sale(customer_id=ids[0], parcel=Parcel(carrier="ups", weight=-1)),
            ]
        )
    yield made
    made.dispose()


def rows(summaries):
    return [tuple(one.model_dump().values()) for one in summaries]


def test_a_path_through_keys_is_a_group_key(db):
    with Open(db, context=0) as shop, query_budget(4):
        assert rows(shop.sales.summarize(ByName)) == [
            (None, None, 1, Decimal("2.20"), 1),
            ("ann", None, 1, None, 0),
            ("ann", "Norway", 2, Decimal("3.30"), 2),
            ("bob", "Norway", 1, Decimal("1.10"), 1),
        ]
        having = Many(customer_id__name__in=["bob", None])
        chosen = shop.sales.summarize(ByName, having=having, order_by="-customer_id__name", limit=1)
        assert [one.customer_id__name for one in chosen] == ["bob"]
        name = via(sale.customer_id, Customer).name
        assert shop.sales.counts(name) == {None: 1, "ann": 3, "bob": 1}
        assert shop.sales.distinct(name, name > "ann") == ["bob"]


def test_the_scopes_of_other_repositories_hold_in_keys_and_measures(db):
    """A customer of another tenant has no name, and a hidden item is not counted."""
    for tenant, expected in {
        1: [(None, None, 2, Decimal("1.10"), 1), ("ann", None, 1, None, 0), ("ann", "Norway", 2, Decimal("1.10"), 1)],
        2: [(None, None, 4, Decimal("1.10"), 1), ("bob", "Norway", 1, Decimal("1.10"), 1)],
    }.items():
        with Confined(db, context=tenant) as shop, query_budget(1):
            assert rows(shop.sales.summarize(ByName, sale.id > 0)) == expected
    with Confined(db, context=2) as shop:
        assert shop.sales.counts(via(sale.customer_id, Customer).name) == {None: 4, "bob": 1}


def test_a_single_child_and_children_behind_an_association_are_measured(db):
    with Open(db, context=0) as shop, query_budget(1):
        assert rows(shop.sales.summarize(ByCarrier)) == [
            (None, None, 2, 2, 9),
            ("dhl", 12, 2, 1, 3),
            ("ups", -1, 1, 0, None),
        ]


def test_a_part_that_is_confined_elsewhere_is_not_measured_without_its_scope(db):
    class Alone(BaseUnitOfWork):
        sales: Sales

    class Prices(Summary[Sale]):
        items__price_sum: Decimal | None

    with Alone(db) as shop, query_budget(0), pytest.raises(QueryError, match="Items has a scope over table"):
        shop.sales.summarize(Prices)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({"customer_id__nam": str | None}, "Made.customer_id__nam: Customer has no field 'nam'; did you mean 'name'"),
        ({"customer_id__name": str}, "Made.customer_id__name: may be None"),
        ({"parcel__carrier": str}, "Made.parcel__carrier: may be None, because there may be no row"),
        ({"customer_id__tenant_sum": int | None}, "Customer has no field 'tenant_sum'.* Sale and of its parts only"),
        ({"customer_id__name__count": int}, "customer_id__name__count: .* Sale and of its parts only"),
        ({"customer_id__name": int | None}, "Made.customer_id__name: is annotated .* but it is str"),
        ({"version__name": str | None}, "Made.version__name: 'version' of table sale_to_sum is no foreign key"),
    ],
)
def test_a_path_is_checked_when_a_repository_meets_it(db, annotations, message):
    made = type("Made", (Summary[Sale],), {"__annotations__": annotations})
    with Open(db, context=0) as shop, query_budget(0), pytest.raises(QueryError, match=message):
        shop.sales.summarize(made)

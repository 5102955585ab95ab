"""A shop of several related tables, for the tests of criteria that speak of more than one."""

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, Embedded, HasMany
from tests.units.domain import own_base

Base = own_base()


class CountryRow(Base):
    __tablename__ = "related_country"
    code: Mapped[str] = mapped_column(sa.String(2), primary_key=True)
    name: Mapped[str]


class CustomerRow(Base):
    __tablename__ = "related_customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    name: Mapped[str]
    grade: Mapped[int | None]
    country: Mapped[str | None] = mapped_column(sa.ForeignKey(CountryRow.code))
    city: Mapped[str]
    street: Mapped[str]


class LabelRow(Base):
    __tablename__ = "related_label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class OrderRow(Base):
    __tablename__ = "related_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CustomerRow.id))
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(cascade="all, delete-orphan")


class LineRow(Base):
    __tablename__ = "related_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id, ondelete="CASCADE"))
    label_id: Mapped[int | None] = mapped_column(sa.ForeignKey(LabelRow.id))
    qty: Mapped[int]


order_labels = sa.Table(
    "related_order_label",
    Base.metadata,
    sa.Column("order_id", sa.ForeignKey(OrderRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey(LabelRow.id), primary_key=True),
)


class CommentRow(Base):
    __tablename__ = "related_comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id, ondelete="CASCADE"))
    author_id: Mapped[int | None]
    text: Mapped[str]
    deleted: Mapped[bool]


class EmployeeRow(Base):
    __tablename__ = "related_employee"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    salary: Mapped[int]
    boss_id: Mapped[int | None] = mapped_column(sa.ForeignKey("related_employee.id"))


class Address(BaseModel):
    city: str
    street: str


class Country(BaseModel):
    code: str
    name: str


class Customer(BaseModel):
    id: int | None = None
    tenant: int = 1
    name: str
    grade: int | None = None
    country: str | None = None
    address: Address = Address(city="Oslo", street="1")


class Label(BaseModel):
    id: int | None = None
    name: str


class Line(BaseModel):
    id: int | None = None
    label_id: int | None = None
    qty: int = 1


class Order(BaseModel):
    id: int | None = None
    number: int
    customer_id: int | None = None
    lines: list[Line] = []
    label_ids: frozenset[int] = frozenset()
    version: int = 1


class Comment(BaseModel):
    id: int | None = None
    order_id: int
    author_id: int | None = None
    text: str = ""
    deleted: bool = False


class Employee(BaseModel):
    id: int | None = None
    name: str
    salary: int
    boss_id: int | None = None


class Countries(BaseRepository[Country, str]):
    model = CountryRow


class AllCustomers(BaseRepository[Customer, int]):
    model = CustomerRow
    parts = {"address": Embedded("")}


class Labels(BaseRepository[Label, int]):
    model = LabelRow


class Orders(BaseRepository[Order, int]):
    model = OrderRow
    version = "version"
    parts = {"label_ids": HasMany(order_labels, value="label_id")}


class AllComments(BaseRepository[Comment, int]):
    model = CommentRow


class Employees(BaseRepository[Employee, int]):
    model = EmployeeRow


class Shop(BaseUnitOfWork[int | None]):
    """Nothing is hidden."""

    countries: Countries
    customers: AllCustomers
    labels: Labels
    orders: Orders
    comments: AllComments
    employees: Employees


def fill(shop):
    """Fill the tables, with NULLs, ties and keys that lead to the same row."""
    shop.countries.add_many([Country(code="NO", name="Norway"), Country(code="SE", name="Sweden")])
    customers = [
        Customer(name="ann", country="NO", grade=2),
        Customer(name="Bob", country="SE", grade=None, address=Address(city="Malmö", street="2")),
        Customer(name="ann", country=None, grade=1, tenant=2),
        Customer(name="dan", country="NO", grade=2, tenant=2),
    ]
    ann, bob, other, dan = shop.customers.add_many(customers)
    red, urgent = shop.labels.add_many([Label(name="red"), Label(name="urgent")])
    orders = [
        Order(number=1, customer_id=ann.id, label_ids=frozenset({red.id}), lines=[Line(label_id=urgent.id, qty=3)]),
        Order(number=2, customer_id=bob.id, label_ids=frozenset({red.id, urgent.id})),
        Order(number=3, customer_id=other.id, lines=[Line(label_id=red.id), Line(qty=5)]),
        Order(number=4, customer_id=None, lines=[Line(label_id=urgent.id), Line(label_id=red.id, qty=9)]),
        Order(number=5, customer_id=ann.id, label_ids=frozenset({urgent.id})),
        Order(number=6, customer_id=dan.id),
    ]
    stored = shop.orders.add_many(orders)
    one, two, three, *_ = (order.id for order in stored)
    shop.comments.add_many(
        [
            Comment(order_id=one, author_id=7, text="x"),
            Comment(order_id=one, author_id=8, text="y", deleted=True),
            Comment(order_id=two, author_id=8, text="x"),
            Comment(order_id=three, author_id=None, text="z"),
        ]
    )
    boss = shop.employees.add(Employee(name="boss", salary=10))
    lead = shop.employees.add(Employee(name="lead", salary=12, boss_id=boss.id))
    shop.employees.add(Employee(name="dev", salary=12, boss_id=lead.id))
    return stored

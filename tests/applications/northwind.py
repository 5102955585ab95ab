"""Northwind, the traders of Microsoft's sample databases: orders with details, and all that they refer to."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, Embedded, QueryObject, Summary, Where, every, exists, not_

# -- domain


class Customer(BaseModel):
    id: str = Field(min_length=1, max_length=5)
    name: str
    country: str


class Employee(BaseModel):
    id: int | None = None
    name: str
    reports_to: int | None = None


class Category(BaseModel):
    id: int | None = None
    name: str


class Supplier(BaseModel):
    id: int | None = None
    name: str
    country: str


class Product(BaseModel):
    id: int | None = None
    name: str
    category_id: int | None = None
    supplier_id: int | None = None
    price: Decimal


class Address(BaseModel):
    street: str
    city: str
    country: str


class OrderDetail(BaseModel):
    product_id: int
    unit_price: Decimal
    quantity: int
    discount: Decimal = Decimal("0.00")
    amount: Decimal


class Order(BaseModel):
    id: int | None = None
    customer_id: str
    employee_id: int | None = None
    status: str = "open"
    order_date: date
    freight: Decimal = Decimal("0.00")
    ship_to: Address
    details: list[OrderDetail] = []
    version: int = 1


class Sale(OrderDetail):
    """A detail seen by itself, for summaries of what was sold."""

    order_id: int


# -- storage


class Base(DeclarativeBase):
    type_annotation_map = {str: String(60), Decimal: Numeric(12, 2)}


class CustomerRow(Base):
    __tablename__ = "customers"
    id: Mapped[str] = mapped_column(String(5), primary_key=True)
    name: Mapped[str]
    country: Mapped[str]


class EmployeeRow(Base):
    __tablename__ = "employees"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    reports_to: Mapped[int | None] = mapped_column(ForeignKey("employees.id"))


class CategoryRow(Base):
    __tablename__ = "categories"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class SupplierRow(Base):
    __tablename__ = "suppliers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str]


class ProductRow(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    category_id: Mapped[int | None] = mapped_column(ForeignKey("categories.id"))
    supplier_id: Mapped[int | None] = mapped_column(ForeignKey("suppliers.id"))
    price: Mapped[Decimal]


class OrderRow(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(ForeignKey("customers.id"))
    employee_id: Mapped[int | None] = mapped_column(ForeignKey("employees.id"))
    status: Mapped[str]
    order_date: Mapped[date]
    freight: Mapped[Decimal]
    ship_street: Mapped[str]
    ship_city: Mapped[str]
    ship_country: Mapped[str]
    version: Mapped[int]
    details: Mapped[list["DetailRow"]] = relationship(cascade="all, delete-orphan")


class DetailRow(Base):
    __tablename__ = "order_details"
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    unit_price: Mapped[Decimal]
    quantity: Mapped[int]
    discount: Mapped[Decimal]
    amount: Mapped[Decimal]


class Customers(BaseRepository[Customer, str]):
    model = CustomerRow


class Employees(BaseRepository[Employee, int]):
    model = EmployeeRow
    references = {"manager": "reports_to"}


class Categories(BaseRepository[Category, int]):
    model = CategoryRow


class Suppliers(BaseRepository[Supplier, int]):
    model = SupplierRow


class Products(BaseRepository[Product, int]):
    model = ProductRow


class Orders(BaseRepository[Order, int]):
    model = OrderRow
    version = "version"
    parts = {"ship_to": Embedded("ship_")}


class Sales(BaseRepository[Sale, tuple[int, int]]):
    model = DetailRow


class Traders(BaseUnitOfWork):
    customers: Customers
    employees: Employees
    categories: Categories
    suppliers: Suppliers
    products: Products
    orders: Orders
    sales: Sales


# -- what may be asked


class OrderQuery(QueryObject[Order]):
    status: str | None = None
    customer_id__country: str | None = None
    employee_id__reports_to: int | None = None
    ship_to__city: str | None = None
    details__product_id__category_id__name: str | None = None
    details__quantity_ge: int | None = None
    all_discounted: Annotated[bool | None, Where(lambda o, yes: every(o.details, lambda d: d.discount > 0))] = None
    order_by: Literal["id", "customer_id__name,-id", "-order_date,ship_to__city,id"] = "id"
    limit: int = 20
    offset: int = 0


class CustomerQuery(QueryObject[Customer]):
    country_in: list[str] | None = None
    without_orders: Annotated[
        bool | None, Where(lambda c, yes: not_(exists(Order, lambda o: o.customer_id == c.id)))
    ] = None


# -- what is shown


class Named(BaseModel):
    name: str


class EmployeeView(Named):
    manager: Named | None


class ProductView(Named):
    category: Named | None
    supplier: Named | None


class DetailView(BaseModel):
    quantity: int
    product: ProductView


class OrderView(BaseModel):
    id: int
    status: str
    ship_to: Address
    customer: Named
    employee: EmployeeView | None
    details: list[DetailView]
    details__count: int
    details__amount_sum: Decimal | None


class Revenue(Summary[Order]):
    customer_id: str
    customer_id__name: str | None
    count: int
    details__amount_sum: Decimal | None


class RevenueFilter(QueryObject[Revenue]):
    details__amount_sum_gt: Decimal | None = None


class ByStatus(Summary[Order]):
    status: str
    count: int
    customer_id_count_distinct: int
    details__amount_sum: Decimal | None
    freight_avg: Decimal


class Sold(Summary[Sale]):
    product_id__name: str | None
    quantity_sum: int


class ByCategory(Summary[Sale]):
    product_id__category_id__name: str | None
    amount_sum: Decimal

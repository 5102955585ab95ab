"""Cosmic Python's allocation service: a Product, its batches and their allocations are one aggregate, on every backend.

(Harry Percival and Bob Gregory, Architecture Patterns with Python, chapters 1 to 7.) The tables are the book's: an
association table lies between batches and order lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, HasMany, StaleEntityError, every, exists, fields
from sqlrepo.testing import query_budget
from tests.units.domain import database

TODAY = date(2024, 5, 1)
ON_A_SERVER = [pytest.param(name, marks=pytest.mark.repeats) for name in ("postgresql", "mariadb")]


class OutOfStockError(Exception):
    pass


@dataclass(frozen=True)
class OrderLine:
    orderid: str
    sku: str
    qty: int


@dataclass
class Batch:
    reference: str
    sku: str
    purchased_quantity: int
    eta: date | None = None
    allocations: set[OrderLine] = field(default_factory=set)

    @property
    def available_quantity(self) -> int:
        return self.purchased_quantity - sum(line.qty for line in self.allocations)

    def can_allocate(self, line: OrderLine) -> bool:
        return self.sku == line.sku and self.available_quantity >= line.qty


@dataclass
class Product:
    sku: str
    batches: list[Batch] = field(default_factory=list)
    version_number: int = 1

    def allocate(self, line: OrderLine) -> str:
        for batch in sorted(self.batches, key=lambda one: one.eta or date.min):
            if line in batch.allocations:
                return batch.reference
            if batch.can_allocate(line):
                batch.allocations.add(line)
                return batch.reference
        raise OutOfStockError(line.sku)

    def change_batch_quantity(self, reference: str, quantity: int) -> list[OrderLine]:
        batch = next(one for one in self.batches if one.reference == reference)
        batch.purchased_quantity = quantity
        gone = []
        while batch.available_quantity < 0:
            gone.append(batch.allocations.pop())
        return gone


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(60)}


class ProductRow(Base):
    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(primary_key=True)
    version_number: Mapped[int]


class BatchRow(Base):
    __tablename__ = "batches"
    id: Mapped[int] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(unique=True)
    sku: Mapped[str] = mapped_column(sa.ForeignKey("products.sku"))
    purchased: Mapped[int] = mapped_column("_purchased_quantity")
    eta: Mapped[date | None]


class OrderLineRow(Base):
    __tablename__ = "order_lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    qty: Mapped[int]
    orderid: Mapped[str]


class AllocationRow(Base):
    __tablename__ = "allocations"
    id: Mapped[int] = mapped_column(primary_key=True)
    orderline_id: Mapped[int] = mapped_column(sa.ForeignKey("order_lines.id"))
    batch_id: Mapped[int] = mapped_column(sa.ForeignKey("batches.id"))


class Products(BaseRepository[Product, str]):
    model = ProductRow
    version = "version_number"
    parts = {
        "batches": HasMany(
            BatchRow,
            columns={"purchased_quantity": "purchased"},
            parts={"allocations": HasMany(OrderLineRow, through=AllocationRow)},
        )
    }


class Warehouse(BaseUnitOfWork):
    products: Products


p = fields(Product)


@pytest.fixture(params=["memory", "sqlite", *ON_A_SERVER])
def db(request):
    made = database(request.param, Base)
    yield made
    made.dispose()


@pytest.fixture
def stocked(db):
    """Two batches of lamps, one of them on its way, and a product without stock."""
    with Warehouse(db) as warehouse:
        shipped = Batch("shipment", "LAMP", 100, eta=TODAY + timedelta(days=10))
        warehouse.products.add(Product("LAMP", [Batch("in-stock", "LAMP", 20), shipped]))
        warehouse.products.add(Product("CLOCK"))
    return db


def allocate(db, line):
    """The book's service, as it stands there."""
    with Warehouse(db) as warehouse:
        product = warehouse.products.get(line.sku)
        reference = product.allocate(line)
        warehouse.products.update(product)
    return reference


def allocated(db):
    """How much is allocated of each batch."""
    with Warehouse(db) as warehouse:
        batches = warehouse.products.get("LAMP").batches
    return {batch.reference: sorted(line.orderid for line in batch.allocations) for batch in batches}


def test_prefers_stock_to_shipments(stocked):
    assert allocate(stocked, OrderLine("o1", "LAMP", 15)) == "in-stock"
    assert allocate(stocked, OrderLine("o2", "LAMP", 15)) == "shipment"
    assert allocated(stocked) == {"in-stock": ["o1"], "shipment": ["o2"]}


def test_allocating_twice_is_once(stocked):
    line = OrderLine("o1", "LAMP", 2)
    assert allocate(stocked, line) == allocate(stocked, line) == "in-stock"
    assert allocated(stocked) == {"in-stock": ["o1"], "shipment": []}


def test_out_of_stock_changes_nothing(stocked):
    with pytest.raises(OutOfStockError):
        allocate(stocked, OrderLine("o1", "LAMP", 101))
    with pytest.raises(OutOfStockError):
        allocate(stocked, OrderLine("o1", "CLOCK", 1))
    assert allocated(stocked) == {"in-stock": [], "shipment": []}


def test_equal_lines_of_two_orders_are_two(stocked):
    allocate(stocked, OrderLine("o1", "LAMP", 1))
    allocate(stocked, OrderLine("o2", "LAMP", 1))
    assert allocated(stocked)["in-stock"] == ["o1", "o2"]


def test_concurrent_allocations_do_not_oversell(stocked):
    with Warehouse(stocked) as first:
        product = first.products.get("LAMP")
    allocate(stocked, OrderLine("o1", "LAMP", 20))
    product.allocate(OrderLine("o2", "LAMP", 20))  # decided on what it had read before
    with pytest.raises(StaleEntityError), Warehouse(stocked) as second:
        second.products.update(product)
    assert allocated(stocked) == {"in-stock": ["o1"], "shipment": []}


def test_smaller_batch_reallocates(stocked):
    for order in ("o1", "o2"):
        allocate(stocked, OrderLine(order, "LAMP", 10))
    with Warehouse(stocked) as warehouse:
        product = warehouse.products.get("LAMP")
        for line in product.change_batch_quantity("in-stock", 10):
            product.allocate(line)
        warehouse.products.update(product)
    found = allocated(stocked)
    assert (len(found["in-stock"]), len(found["shipment"])) == (1, 1)


def test_every_change_counts_the_version(stocked):
    allocate(stocked, OrderLine("o1", "LAMP", 1))
    with Warehouse(stocked) as warehouse:
        assert warehouse.products.get("LAMP").version_number == 2
        assert warehouse.products.get("CLOCK").version_number == 1


def test_products_are_found_by_what_is_in_them(stocked):
    allocate(stocked, OrderLine("o1", "LAMP", 1))
    with Warehouse(stocked) as warehouse:
        of_batch = warehouse.products.find(exists(p.batches, lambda batch: batch.reference == "shipment"))
        of_order = warehouse.products.find(
            exists(p.batches, lambda batch: exists(batch.allocations, lambda line: line.orderid == "o1"))
        )
        in_ones = warehouse.products.find(
            every(p.batches, lambda batch: every(batch.allocations, lambda line: line.qty > 1))
        )
    assert [product.sku for product in of_batch] == [product.sku for product in of_order] == ["LAMP"]
    assert [product.sku for product in in_ones] == ["CLOCK"]


def test_reading_costs_a_statement_a_level(stocked):
    allocate(stocked, OrderLine("o1", "LAMP", 1))
    with Warehouse(stocked) as warehouse, query_budget(4):  # products, batches, allocations, order lines
        assert len(warehouse.products.find()) == 2


def test_deleting_leaves_nothing_behind(stocked):
    allocate(stocked, OrderLine("o1", "LAMP", 1))
    with Warehouse(stocked) as warehouse:
        warehouse.products.delete("LAMP")
    if hasattr(stocked, "engine"):
        with stocked.engine.connect() as connection:
            for row in (BatchRow, AllocationRow, OrderLineRow):
                assert connection.scalar(sa.select(sa.func.count()).select_from(row)) == 0
    with Warehouse(stocked) as warehouse:
        assert [product.sku for product in warehouse.products.find()] == ["CLOCK"]

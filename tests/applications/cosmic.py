"""Allocation, from *Architecture Patterns with Python* (Percival, Gregory): the domain and tables of the book.

A product owns its batches, and a batch the order lines behind the table of allocations.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import Column, Date, ForeignKey, Integer, String, Table
from sqlalchemy.orm import DeclarativeBase

from sqlrepo import BaseRepository, BaseUnitOfWork, HasMany, exists, fields, retry

# -- domain


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
    id: int | None = None

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

    def allocate(self, line: OrderLine) -> str | None:
        """Allocate a line to a batch in stock, or else to the one that comes first; None if out of stock."""
        fitting = [batch for batch in self.batches if line in batch.allocations or batch.can_allocate(line)]
        if not fitting:
            return None
        batch = min(fitting, key=lambda batch: (line not in batch.allocations, batch.eta or date.min))
        batch.allocations.add(line)
        return batch.reference

    def deallocate(self, line: OrderLine) -> None:
        for batch in self.batches:
            batch.allocations.discard(line)

    def change_batch_quantity(self, reference: str, qty: int) -> list[OrderLine]:
        """Change what was purchased; returns the lines that lose their batch by it."""
        batch = next(batch for batch in self.batches if batch.reference == reference)
        batch.purchased_quantity, lost = qty, list[OrderLine]()
        while batch.available_quantity < 0:
            lost.append(batch.allocations.pop())
        return lost


# -- storage


class Base(DeclarativeBase): ...


products = Table(
    "products",
    Base.metadata,
    Column("sku", String(255), primary_key=True),
    Column("version_number", Integer, nullable=False),
)
batches = Table(
    "batches",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("reference", String(255), nullable=False, unique=True),
    Column("sku", ForeignKey("products.sku"), nullable=False),
    Column("purchased_quantity", Integer, nullable=False),
    Column("eta", Date),
)
order_lines = Table(
    "order_lines",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("sku", String(255), nullable=False),
    Column("qty", Integer, nullable=False),
    Column("orderid", String(255), nullable=False),
)
allocations = Table(
    "allocations",
    Base.metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("orderline_id", ForeignKey("order_lines.id"), nullable=False),
    Column("batch_id", ForeignKey("batches.id"), nullable=False),
)


class Products(BaseRepository[Product, str]):
    model = products
    version = "version_number"
    parts = {"batches": HasMany(batches, parts={"allocations": HasMany(order_lines, through=allocations)})}

    def get_by_batchref(self, reference: str) -> Product:
        return self.one(exists(fields(Product).batches, lambda batch: batch.reference == reference))

    def allocated_to(self, orderid: str) -> list[Product]:
        """Return the products that an order has lines of."""
        mine = exists(
            fields(Product).batches,
            lambda batch: exists(batch.allocations, lambda line: line.orderid == orderid),
        )
        return self.find(mine, order_by="sku")


class Warehouse(BaseUnitOfWork):
    products: Products


# -- services


def add_batch(warehouse: Warehouse, reference: str, sku: str, qty: int, eta: date | None = None) -> None:
    product = warehouse.products.get_or_none(sku) or Product(sku)
    product.batches.append(Batch(reference, sku, qty, eta))
    warehouse.products.save(product)


def allocate(open_warehouse: Callable[[], Warehouse], line: OrderLine) -> str | None:
    def work(warehouse: Warehouse) -> str | None:
        product = warehouse.products.get(line.sku)
        reference = product.allocate(line)
        warehouse.products.update(product)
        return reference

    return retry(open_warehouse, work, attempts=20)


def change_batch_quantity(warehouse: Warehouse, reference: str, qty: int) -> list[str | None]:
    """Change a quantity, and allocate again what no longer fits; returns where to."""
    product = warehouse.products.get_by_batchref(reference)
    moved = [product.allocate(line) for line in product.change_batch_quantity(reference, qty)]
    warehouse.products.update(product)
    return moved


def allocated_batches(warehouse: Warehouse, orderid: str) -> dict[str, str]:
    """Return an order's batches by SKU: the book's view."""
    return {
        line.sku: batch.reference
        for product in warehouse.products.allocated_to(orderid)
        for batch in product.batches
        for line in batch.allocations
        if line.orderid == orderid
    }

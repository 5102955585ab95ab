"""Repositories over the application's tables; their scope replaces its loader criteria."""

from dataclasses import dataclass
from typing import Literal

from pydantic import AliasChoices, BaseModel, Field

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, QueryObject, fields
from tests.beside import application
from tests.beside.application import Tenant


class Product(BaseModel):
    id: int | None = None
    tenant_id: int
    sku: str
    name: str
    stock: int = 0


class Order(BaseModel):
    id: int | None = None
    tenant_id: int
    customer: str


class OrderLine(BaseModel):
    id: int | None = None
    tenant_id: int
    order_id: int
    product_id: int
    quantity: int


class Entry(BaseModel):
    id: int | None = None
    tenant_id: int
    text: str


class ProductQuery(QueryObject[Product]):
    name_contains: str | None = None
    order_by: Literal["id", "-id", "sku"] = "id"
    limit: int = Field(default=100, ge=0, le=500)
    offset: int = Field(default=0, ge=0, validation_alias=AliasChoices("skip", "offset"))


p, o, li, e = fields(Product), fields(Order), fields(OrderLine), fields(Entry)


@dataclass(frozen=True)
class Caller:
    tenant: int


def caller(tenant: Tenant) -> Caller:
    return Caller(tenant)


class Unscoped(BaseRepository[Product, int]):
    """A first draft that forgets the tenants."""

    model = application.Product


class Products(BaseRepository[Product, int]):
    model = application.Product
    bypass_orm_events = True

    def scope(self):
        return p.tenant_id == self.context.tenant


class Orders(BaseRepository[Order, int]):
    model = application.Order
    bypass_orm_events = True

    def scope(self):
        return o.tenant_id == self.context.tenant


class OrderLines(BaseRepository[OrderLine, int]):
    model = application.OrderLine
    bypass_orm_events = True

    def scope(self):
        return li.tenant_id == self.context.tenant


class Entries(BaseRepository[Entry, int]):
    model = application.Entry

    def scope(self):
        return e.tenant_id == self.context.tenant


class UnscopedShop(BaseUnitOfWork):
    products: Unscoped


class Shop(BaseUnitOfWork[Caller]):
    products: Products


class Sales(BaseUnitOfWork[Caller]):
    products: Products
    orders: Orders
    lines: OrderLines


class Journal(BaseUnitOfWork[Caller]):
    entries: Entries


class AsyncUnscoped(AsyncBaseRepository[Product, int]):
    model = application.Product


class AsyncProducts(AsyncBaseRepository[Product, int]):
    model = application.Product
    bypass_orm_events = True

    def scope(self):
        return p.tenant_id == self.context.tenant


class AsyncShop(AsyncBaseUnitOfWork[Caller]):
    products: AsyncProducts

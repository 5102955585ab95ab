"""The asynchronous sibling after one endpoint was taken over, in each of the ways there are."""

from typing import Annotated

from fastapi import APIRouter, Depends

from sqlrepo.fastapi import filters, install, provide
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.beside import application, async_application
from tests.beside.application import LineOut, OrderIn, OrderOut, OutOfStockError, ProductIn, ProductOut, Tenant
from tests.beside.async_application import Db, create_app, orders, products
from tests.beside.repositories import (
    AsyncJournal,
    AsyncSales,
    AsyncShop,
    Caller,
    Entry,
    Order,
    OrderLine,
    Product,
    ProductQuery,
    caller,
    without,
)


async def get_shop(db: Db, tenant: Tenant) -> AsyncShop:
    """A unit that takes part in the session of the request."""
    return AsyncShop(db, context=Caller(tenant))


def async_before(engine, journal):
    return create_app(engine, journal)


def async_joined_write(engine, journal):
    router = APIRouter()

    @router.post("/products", status_code=201)
    async def create_product(
        given: ProductIn, shop: Annotated[AsyncShop, Depends(get_shop)], db: Db, tenant: Tenant
    ) -> ProductOut:
        product = await shop.products.add(Product(tenant_id=tenant, **given.model_dump()))
        await db.commit()
        return ProductOut.model_validate(product, from_attributes=True)

    app = create_app(engine, journal, (router, without(products, "create_product"), orders))
    install(app)
    return app


def async_joined_amid(engine, journal):
    """Within a function that goes on writing by the ORM; what a write has expired is loaded again by hand."""
    router = APIRouter()

    @router.post("/orders", status_code=201)
    async def create_order(given: OrderIn, db: Db, journal: async_application.Journal, tenant: Tenant) -> OrderOut:
        shop = AsyncShop(db, context=Caller(tenant))
        order = application.Order(tenant_id=tenant, customer=given.customer, lines=[])
        db.add(order)
        for line in given.lines:
            product = await shop.products.get(line.product_id)
            if product.stock < line.quantity:
                raise OutOfStockError(product.sku)
            await shop.products.patch(line.product_id, {"stock": product.stock - line.quantity})
        await db.refresh(order, ["id", "customer", "lines"])
        order.lines += [application.OrderLine(tenant_id=tenant, **line.model_dump()) for line in given.lines]
        await db.flush()
        journal.add(application.Entry(tenant_id=tenant, text=f"order {order.id} of {given.customer}"))
        await journal.commit()
        await db.commit()
        return OrderOut.model_validate(order)

    app = create_app(engine, journal, (products, router, without(orders, "create_order")))
    install(app)
    return app


def async_provided_read(engine, journal):
    db = AsyncDatabase(engine)
    reading = Annotated[AsyncShop, provide(AsyncShop, db, read_only=True, context=caller)]
    router = APIRouter()

    @router.get("/products")
    async def list_products(shop: reading, query: Annotated[ProductQuery, filters(ProductQuery)]) -> list[ProductOut]:
        found = await shop.products.page(query)
        return [ProductOut.model_validate(product, from_attributes=True) for product in found.items]

    app = create_app(engine, journal, (router, without(products, "list_products"), orders))
    install(app, db)
    return app


def async_provided_write(engine, journal):
    """Two units in one endpoint, each of a database of its own."""
    db, journal_db = AsyncDatabase(engine), AsyncDatabase(journal)
    provided_sales = Annotated[AsyncSales, provide(AsyncSales, db, context=caller)]
    provided_journal = Annotated[AsyncJournal, provide(AsyncJournal, journal_db, context=caller)]
    router = APIRouter()

    @router.post("/orders", status_code=201)
    async def create_order(
        given: OrderIn, sales: provided_sales, journal: provided_journal, tenant: Tenant
    ) -> OrderOut:
        order = await sales.orders.add(Order(tenant_id=tenant, customer=given.customer))
        for line in given.lines:
            product = await sales.products.get(line.product_id, lock="update")
            if product.stock < line.quantity:
                raise OutOfStockError(product.sku)
            await sales.products.patch(line.product_id, {"stock": product.stock - line.quantity})
            await sales.lines.add(OrderLine(tenant_id=tenant, order_id=order.id, **line.model_dump()))
        await journal.entries.add(Entry(tenant_id=tenant, text=f"order {order.id} of {given.customer}"))
        lines = [LineOut(**line.model_dump()) for line in given.lines]
        return OrderOut(id=order.id, customer=order.customer, lines=lines)

    app = create_app(engine, journal, (products, router, without(orders, "create_order")))
    install(app, db, journal_db)
    return app


ASYNC_WAYS = [async_before, async_joined_write, async_joined_amid, async_provided_read, async_provided_write]

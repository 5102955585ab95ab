"""The application's asynchronous sibling: the same models and addresses, an `AsyncSession` from `get_db`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, selectinload

from tests.beside.application import (
    Base,
    Entry,
    JournalBase,
    Order,
    OrderIn,
    OrderLine,
    OrderOut,
    OutOfStockError,
    Product,
    ProductIn,
    ProductOut,
    ProductPatch,
    Tenant,
    conflict,
    found_or_404,
    only_rows_of_the_tenant,
    out_of_stock,
)


class TenantSession(Session):
    """What the async sessions are made over, for its listener."""


event.listen(TenantSession, "do_orm_execute", only_rows_of_the_tenant)


async def get_db(request: Request, tenant: Tenant) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions(info={"tenant": tenant}) as db:
        yield db


async def get_journal(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.journals() as journal:
        yield journal


Db = Annotated[AsyncSession, Depends(get_db)]
Journal = Annotated[AsyncSession, Depends(get_journal)]

products = APIRouter()


@products.post("/products", status_code=201)
async def create_product(given: ProductIn, db: Db, tenant: Tenant) -> ProductOut:
    product = Product(tenant_id=tenant, **given.model_dump())
    db.add(product)
    await db.commit()
    return ProductOut.model_validate(product)


@products.get("/products")
async def list_products(db: Db, skip: int = 0, limit: int = 100) -> list[ProductOut]:
    found = await db.scalars(sa.select(Product).order_by(Product.id).offset(skip).limit(limit))
    return [ProductOut.model_validate(product) for product in found]


@products.get("/products/export")
async def export_products(db: Db) -> StreamingResponse:
    async def lines():
        async for product in await db.stream_scalars(sa.select(Product).order_by(Product.id)):
            yield f"{product.sku}\n"

    return StreamingResponse(lines())


@products.get("/products/{id}")
async def read_product(id: int, db: Db) -> ProductOut:
    return ProductOut.model_validate(found_or_404(await db.get(Product, id)))


@products.patch("/products/{id}")
async def change_product(id: int, changes: ProductPatch, db: Db) -> ProductOut:
    product = found_or_404(await db.get(Product, id))
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(product, name, value)
    await db.commit()
    return ProductOut.model_validate(product)


@products.delete("/products/{id}", status_code=204)
async def delete_product(id: int, db: Db) -> None:
    await db.delete(found_or_404(await db.get(Product, id)))
    await db.commit()


orders = APIRouter()


@orders.post("/orders", status_code=201)
async def create_order(given: OrderIn, db: Db, journal: Journal, tenant: Tenant) -> OrderOut:
    order = Order(tenant_id=tenant, customer=given.customer, lines=[])
    db.add(order)
    for line in given.lines:
        product = found_or_404(await db.get(Product, line.product_id))
        if product.stock < line.quantity:
            raise OutOfStockError(product.sku)
        product.stock -= line.quantity
        order.lines.append(OrderLine(tenant_id=tenant, product=product, quantity=line.quantity))
    await db.flush()
    journal.add(Entry(tenant_id=tenant, text=f"order {order.id} of {given.customer}"))
    await journal.commit()
    await db.commit()
    return OrderOut.model_validate(order)


@orders.get("/orders/{id}")
async def read_order(id: int, db: Db) -> OrderOut:
    found = await db.scalar(sa.select(Order).where(Order.id == id).options(selectinload(Order.lines)))
    return OrderOut.model_validate(found_or_404(found))


@orders.get("/journal")
async def read_journal(journal: Journal, tenant: Tenant, skip: int = 0, limit: int = 100) -> list[str]:
    entries = sa.select(Entry.text).where(Entry.tenant_id == tenant).order_by(Entry.id)
    return list(await journal.scalars(entries.offset(skip).limit(limit)))


def create_app(
    engine: AsyncEngine, journal_engine: AsyncEngine, routers: tuple[APIRouter, ...] = (products, orders)
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with journal_engine.begin() as connection:
            await connection.run_sync(JournalBase.metadata.create_all)
        yield {"shop": "ours"}
        await engine.dispose()
        await journal_engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.state.sessions = async_sessionmaker(engine, sync_session_class=TenantSession, expire_on_commit=False)
    app.state.journals = async_sessionmaker(journal_engine, expire_on_commit=False)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(IntegrityError, conflict)
    app.add_exception_handler(OutOfStockError, out_of_stock)

    @app.get("/state")
    async def state(request: Request) -> str:
        return request.state.shop

    return app

"""A typical existing application: a session from `get_db`, two databases, tenants, and no sqlrepo."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
    with_loader_criteria,
)

# -- models


class Base(DeclarativeBase): ...


class TenantMixin:
    tenant_id: Mapped[int] = mapped_column(index=True)


class Product(TenantMixin, Base):
    __tablename__ = "product"
    __table_args__ = (sa.UniqueConstraint("tenant_id", "sku", name="uq_product_sku"), {"schema": "sales"})
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(sa.String(20))
    name: Mapped[str] = mapped_column(sa.String(50))
    stock: Mapped[int] = mapped_column(default=0)


class Order(TenantMixin, Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "sales"}
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(sa.String(50))
    lines: Mapped[list["OrderLine"]] = relationship(
        back_populates="order", cascade="all, delete-orphan", order_by="OrderLine.id"
    )


class OrderLine(TenantMixin, Base):
    __tablename__ = "order_line"
    __table_args__ = {"schema": "sales"}
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("sales.orders.id"))
    product_id: Mapped[int] = mapped_column(sa.ForeignKey("sales.product.id"))
    quantity: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="lines")
    product: Mapped[Product] = relationship()


class JournalBase(DeclarativeBase): ...


class Entry(JournalBase):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    text: Mapped[str] = mapped_column(sa.String(100))


# -- requests and responses


class ProductIn(BaseModel):
    sku: str
    name: str
    stock: int = 0


class ProductPatch(BaseModel):
    name: str | None = None
    stock: int | None = None


class ProductOut(ProductIn):
    model_config = ConfigDict(from_attributes=True)
    id: int


class LineIn(BaseModel):
    product_id: int
    quantity: int


class OrderIn(BaseModel):
    customer: str
    lines: list[LineIn]


class LineOut(LineIn):
    model_config = ConfigDict(from_attributes=True)


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    customer: str
    lines: list[LineOut]


# -- dependencies


Tenant = Annotated[int, Header(alias="X-Tenant")]


def get_db(request: Request, tenant: Tenant) -> Iterator[Session]:
    db = request.app.state.sessions(info={"tenant": tenant})
    try:
        yield db
    finally:
        db.close()


def get_journal(request: Request) -> Iterator[Session]:
    with request.app.state.journals() as journal:
        yield journal


Db = Annotated[Session, Depends(get_db)]
Journal = Annotated[Session, Depends(get_journal)]


def only_rows_of_the_tenant(state: sa.orm.ORMExecuteState) -> None:
    """Restrict every statement of the ORM to the tenant."""
    if state.is_column_load or state.is_relationship_load:
        return
    tenant = state.session.info["tenant"]
    state.statement = state.statement.options(
        with_loader_criteria(TenantMixin, lambda cls: cls.tenant_id == tenant, include_aliases=True)
    )


class OutOfStockError(Exception):
    """A product has too little stock."""


# -- products


products = APIRouter()


@products.post("/products", status_code=201)
def create_product(given: ProductIn, db: Db, tenant: Tenant) -> ProductOut:
    product = Product(tenant_id=tenant, **given.model_dump())
    db.add(product)
    db.commit()
    return ProductOut.model_validate(product)


@products.get("/products")
def list_products(db: Db, skip: int = 0, limit: int = 100) -> list[ProductOut]:
    found = db.scalars(sa.select(Product).order_by(Product.id).offset(skip).limit(limit))
    return [ProductOut.model_validate(product) for product in found]


@products.get("/products/export")
def export_products(db: Db) -> StreamingResponse:
    return StreamingResponse(f"{product.sku}\n" for product in db.scalars(sa.select(Product).order_by(Product.id)))


@products.get("/products/{id}")
def read_product(id: int, db: Db) -> ProductOut:
    return ProductOut.model_validate(found_or_404(db.get(Product, id)))


@products.patch("/products/{id}")
def change_product(id: int, changes: ProductPatch, db: Db) -> ProductOut:
    product = found_or_404(db.get(Product, id))
    for name, value in changes.model_dump(exclude_unset=True).items():
        setattr(product, name, value)
    db.commit()
    return ProductOut.model_validate(product)


@products.delete("/products/{id}", status_code=204)
def delete_product(id: int, db: Db) -> None:
    db.delete(found_or_404(db.get(Product, id)))
    db.commit()


# -- orders


orders = APIRouter()


@orders.post("/orders", status_code=201)
def create_order(given: OrderIn, db: Db, journal: Journal, tenant: Tenant, tasks: BackgroundTasks) -> OrderOut:
    order = Order(tenant_id=tenant, customer=given.customer)
    db.add(order)
    for line in given.lines:
        product = found_or_404(db.get(Product, line.product_id))
        if product.stock < line.quantity:
            raise OutOfStockError(product.sku)
        product.stock -= line.quantity
        order.lines.append(OrderLine(tenant_id=tenant, product=product, quantity=line.quantity))
    db.flush()
    journal.add(Entry(tenant_id=tenant, text=f"order {order.id} of {given.customer}"))
    journal.commit()
    db.commit()
    return OrderOut.model_validate(order)


@orders.get("/orders/{id}")
def read_order(id: int, db: Db) -> OrderOut:
    found = db.scalar(sa.select(Order).where(Order.id == id).options(selectinload(Order.lines)))
    return OrderOut.model_validate(found_or_404(found))


@orders.get("/journal")
def read_journal(journal: Journal, tenant: Tenant, skip: int = 0, limit: int = 100) -> list[str]:
    entries = sa.select(Entry.text).where(Entry.tenant_id == tenant).order_by(Entry.id)
    return list(journal.scalars(entries.offset(skip).limit(limit)))


@orders.websocket("/watch")
async def watch(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def found_or_404(found):
    if found is None:
        raise HTTPException(404, "not found")
    return found


# -- the application


async def conflict(request: Request, error: IntegrityError) -> JSONResponse:
    return JSONResponse({"detail": "conflict"}, 409)


async def out_of_stock(request: Request, error: OutOfStockError) -> JSONResponse:
    return JSONResponse({"detail": f"out of stock: {error}"}, 422)


def create_app(
    engine: sa.Engine, journal_engine: sa.Engine, routers: tuple[APIRouter, ...] = (products, orders), **options
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        Base.metadata.create_all(engine)
        JournalBase.metadata.create_all(journal_engine)
        yield {"shop": "ours"}
        engine.dispose()
        journal_engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.state.sessions = sessionmaker(engine, **options)
    app.state.journals = sessionmaker(journal_engine)
    event.listen(app.state.sessions, "do_orm_execute", only_rows_of_the_tenant)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(IntegrityError, conflict)
    app.add_exception_handler(OutOfStockError, out_of_stock)

    @app.get("/state")
    def state(request: Request) -> str:
        return request.state.shop

    return app

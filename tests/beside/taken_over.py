"""The application after one endpoint was taken over, in each of the possible ways."""

from typing import Annotated

from fastapi import APIRouter, Depends

from sqlrepo.fastapi import filters, install, provide
from sqlrepo.sqlalchemy import Database
from tests.beside import application
from tests.beside.application import (
    Db,
    LineOut,
    OrderIn,
    OrderOut,
    OutOfStockError,
    ProductIn,
    ProductOut,
    Tenant,
    create_app,
)
from tests.beside.repositories import (
    Caller,
    Entry,
    Journal,
    Order,
    OrderLine,
    Product,
    ProductQuery,
    Sales,
    Shop,
    caller,
)


def take_over(engine, journal, router, *dbs, **options):
    """Put a router's endpoints in the place of the application's endpoints of the same names."""
    taken = {route.name for route in router.routes}
    rest = APIRouter()
    for original in (application.products, application.orders):
        rest.routes.extend(route for route in original.routes if route.name not in taken)
    app = create_app(engine, journal, (router, rest), **options)
    install(app, *dbs)
    return app


def get_shop(db: Db, tenant: Tenant) -> Shop:
    """A unit that joins the session of the request."""
    return Shop(db, context=Caller(tenant))


Joined = Annotated[Shop, Depends(get_shop)]


def before(engine, journal):
    return create_app(engine, journal)


def joined_read(engine, journal):
    router = APIRouter()

    @router.get("/products")
    def list_products(shop: Joined, skip: int = 0, limit: int = 100) -> list[ProductOut]:
        found = shop.products.find(order_by="id", offset=skip, limit=limit)
        return [ProductOut.model_validate(product, from_attributes=True) for product in found]

    return take_over(engine, journal, router)


def joined_write(engine, journal):
    router = APIRouter()

    @router.post("/products", status_code=201)
    def create_product(given: ProductIn, shop: Joined, db: Db, tenant: Tenant) -> ProductOut:
        product = shop.products.add(Product(tenant_id=tenant, **given.model_dump()))
        db.commit()
        return ProductOut.model_validate(product, from_attributes=True)

    return take_over(engine, journal, router)


def joined_asking(engine, journal):
    """A repository reads what the ORM has changed and not flushed, in sessions without autoflush."""
    router = APIRouter()

    @router.post("/orders", status_code=201)
    def create_order(given: OrderIn, shop: Joined, db: Db, journal: application.Journal, tenant: Tenant) -> OrderOut:
        order = application.Order(tenant_id=tenant, customer=given.customer)
        db.add(order)
        for line in given.lines:
            if shop.products.get(line.product_id).stock < line.quantity:
                raise OutOfStockError(shop.products.get(line.product_id).sku)
            product = db.get(application.Product, line.product_id)
            product.stock -= line.quantity
            order.lines.append(application.OrderLine(tenant_id=tenant, product=product, quantity=line.quantity))
        return end_order(order, db, journal)

    return take_over(engine, journal, router, autoflush=False, expire_on_commit=False)


def joined_changing(engine, journal):
    """A repository changes what the ORM has loaded already."""
    router = APIRouter()

    @router.post("/orders", status_code=201)
    def create_order(given: OrderIn, shop: Joined, db: Db, journal: application.Journal, tenant: Tenant) -> OrderOut:
        order = application.Order(tenant_id=tenant, customer=given.customer)
        db.add(order)
        for line in given.lines:
            product = application.found_or_404(db.get(application.Product, line.product_id))
            if product.stock < line.quantity:
                raise OutOfStockError(product.sku)
            shop.products.patch(product.id, {"stock": product.stock - line.quantity})
            order.lines.append(application.OrderLine(tenant_id=tenant, product=product, quantity=line.quantity))
        return end_order(order, db, journal)

    return take_over(engine, journal, router)


def end_order(order, db, journal):
    """What the application's own endpoint does."""
    db.flush()
    journal.add(application.Entry(tenant_id=order.tenant_id, text=f"order {order.id} of {order.customer}"))
    journal.commit()
    db.commit()
    return OrderOut.model_validate(order)


def provided_read(engine, journal):
    db = Database(engine)
    reading = Annotated[Shop, provide(Shop, db, read_only=True, context=caller)]
    router = APIRouter()

    @router.get("/products")
    def list_products(shop: reading, query: Annotated[ProductQuery, filters(ProductQuery)]) -> list[ProductOut]:
        found = shop.products.page(query)
        return [ProductOut.model_validate(product, from_attributes=True) for product in found.items]

    return take_over(engine, journal, router, db)


def provided_write(engine, journal):
    """Two units in one endpoint, each of a database of its own."""
    db, journal_db = Database(engine), Database(journal)
    provided_sales = Annotated[Sales, provide(Sales, db, context=caller)]
    provided_journal = Annotated[Journal, provide(Journal, journal_db, context=caller)]
    router = APIRouter()

    @router.post("/orders", status_code=201)
    def create_order(given: OrderIn, sales: provided_sales, journal: provided_journal, tenant: Tenant) -> OrderOut:
        order = place_order(sales, given, tenant)
        journal.entries.add(Entry(tenant_id=tenant, text=f"order {order.id} of {given.customer}"))
        return order

    app = take_over(engine, journal, router, db, journal_db)
    app.state.provided = provided_sales, provided_journal
    return app


def provided_amid(engine, journal):
    """A unit of one database, and the application's own session of the other."""
    db = Database(engine)
    provided_sales = Annotated[Sales, provide(Sales, db, context=caller)]
    router = APIRouter()

    @router.post("/orders", status_code=201)
    def create_order(given: OrderIn, sales: provided_sales, journal: application.Journal, tenant: Tenant) -> OrderOut:
        order = place_order(sales, given, tenant)
        journal.add(application.Entry(tenant_id=tenant, text=f"order {order.id} of {given.customer}"))
        journal.commit()
        return order

    return take_over(engine, journal, router, db)


def place_order(sales, given, tenant):
    order = sales.orders.add(Order(tenant_id=tenant, customer=given.customer))
    for line in given.lines:
        product = sales.products.get(line.product_id, lock="update")
        if product.stock < line.quantity:
            raise OutOfStockError(product.sku)
        sales.products.patch(line.product_id, {"stock": product.stock - line.quantity})
        sales.lines.add(OrderLine(tenant_id=tenant, order_id=order.id, **line.model_dump()))
    lines = sales.lines.find(order_id=order.id, order_by="id")
    shown = [LineOut.model_validate(line, from_attributes=True) for line in lines]
    return OrderOut(id=order.id, customer=order.customer, lines=shown)


WAYS = [
    *(before, joined_read, joined_write, joined_asking, joined_changing),
    *(provided_read, provided_write, provided_amid),
]

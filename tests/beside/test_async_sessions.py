"""The same of an `AsyncSession`, in which nothing can be loaded behind one's back."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, MappingError
from tests.beside import repositories
from tests.beside.application import Base, Product
from tests.beside.async_application import TenantSession
from tests.beside.repositories import AsyncSales, Caller
from tests.beside.stores import ASYNC_STORES, async_engines


class AsyncUnscoped(AsyncBaseRepository[repositories.Product, int]):
    model = Product


class AsyncUnscopedShop(AsyncBaseUnitOfWork):
    products: AsyncUnscoped


@pytest.fixture(params=ASYNC_STORES)
def within(request, tmp_path):
    """Runs something with a session."""

    async def run(engine, work):
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        sessions = async_sessionmaker(engine, sync_session_class=TenantSession, info={"tenant": 1})
        async with sessions() as db:
            await work(db)
        await engine.dispose()

    with async_engines(request.param, tmp_path) as (engine, _):
        yield lambda work: asyncio.run(run(engine, work))


def product(sku, **values):
    return Product(tenant_id=1, sku=sku, name=f"a {sku}", **values)


def test_nothing_pending_is_missed(within):
    async def work(db):
        sales = AsyncSales(db, context=Caller(1))
        tea = product("tea", stock=5)
        db.add(tea)
        assert (await sales.products.one(sku="tea")).stock == 5
        tea.stock = 4
        assert (await sales.products.one(sku="tea")).stock == 4
        await sales.products.add(repositories.Product(tenant_id=1, sku="milk", name="a milk"))
        assert list(await db.scalars(sa.select(Product.sku).order_by(Product.id))) == ["tea", "milk"]
        await db.rollback()
        assert await sales.products.count() == 0

    within(work)


def test_what_a_write_has_expired_is_refreshed_by_hand(within):
    async def work(db):
        sales = AsyncSales(db, context=Caller(1))
        tea = product("tea", stock=5)
        db.add(tea)
        await db.flush()
        await sales.products.patch(tea.id, {"stock": 4})
        assert "stock" in sa.inspect(tea).expired_attributes  # to read it would be MissingGreenlet
        await db.refresh(tea)
        assert tea.stock == 4

    within(work)


def test_a_repository_that_would_see_all_tenants_is_refused_when_it_is_built(within):
    async def work(db):
        for made in (AsyncUnscopedShop, AsyncUnscoped):
            with pytest.raises(MappingError, match="only_rows_of_the_tenant"):
                made(db)

    within(work)

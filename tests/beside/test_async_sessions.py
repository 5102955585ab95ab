"""A unit in an `AsyncSession`, in which nothing can be loaded implicitly."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import Session

from sqlrepo import MappingError
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.beside import repositories
from tests.beside.application import Base, Product, only_rows_of_the_tenant
from tests.beside.repositories import AsyncShop, AsyncUnscoped, Caller
from tests.beside.stores import ASYNC_STORES, async_engines


class TenantSession(Session):
    """The sync session beneath the async ones; it has the application's listener."""


event.listen(TenantSession, "do_orm_execute", only_rows_of_the_tenant)


@pytest.fixture(params=ASYNC_STORES)
def within(request, tmp_path):
    """Runs a function with a session."""

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


def test_an_async_session_and_repositories_see_each_others_changes(within):
    async def work(db):
        shop = AsyncShop(db, context=Caller(1))
        tea = product("tea", stock=5)
        db.add(tea)
        assert (await shop.products.one(sku="tea")).stock == 5
        await shop.products.patch(tea.id, {"stock": 4})
        assert "stock" in sa.inspect(tea).expired_attributes  # reading it would raise MissingGreenlet
        await db.refresh(tea)
        assert tea.stock == 4
        await db.rollback()
        assert await shop.products.count() == 0

    within(work)


def test_a_unit_on_their_engine_reads_what_their_session_committed(within):
    async def work(db):
        db.add(product("tea"))
        await db.commit()
        async with AsyncShop(AsyncDatabase(db.bind), context=Caller(1)) as shop:
            assert [found.sku for found in await shop.products.find()] == ["tea"]
            await shop.products.add(repositories.Product(tenant_id=1, sku="milk", name="a milk"))
        assert await db.scalar(sa.select(sa.func.count()).select_from(Product)) == 2

    within(work)


def test_a_repository_that_would_see_all_tenants_raises_when_built(within):
    async def work(db):
        with pytest.raises(MappingError, match="only_rows_of_the_tenant"):
            AsyncUnscoped(db)

    within(work)

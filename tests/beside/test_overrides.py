"""The application's test doubles reach the endpoints that were taken over."""

import asyncio

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import sessionmaker

from sqlrepo.fastapi import override
from sqlrepo.memory import InMemoryDatabase
from tests.beside import application
from tests.beside.application import Base, JournalBase, only_rows_of_the_tenant
from tests.beside.repositories import Caller, Journal, Product, ProductQuery, Sales
from tests.beside.stores import STORES, begin_by_hand, engines
from tests.beside.taken_over import before, joined_changing, joined_read, joined_write, provided_write
from tests.web.server import client, serving


def requests(app, *asked):
    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers={"X-Tenant": "1"}) as made:
            return [await made.request(method, path, json=body) for method, path, body in asked]

    return asyncio.run(ask())


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("way", [before, joined_read, joined_write, joined_changing], ids=lambda way: way.__name__)
def test_a_test_can_roll_back_what_endpoints_commit(way, store, tmp_path):
    """SQLAlchemy's recipe for test suites: `get_db` is replaced by a session within an outer transaction."""
    with engines(store, tmp_path) as (engine, journal):
        if engine.dialect.name == "sqlite":
            begin_by_hand(engine)
        Base.metadata.create_all(engine)
        JournalBase.metadata.create_all(journal)
        app = way(engine, journal)
        with engine.connect() as connection, connection.begin() as outer:
            made = sessionmaker(connection, join_transaction_mode="create_savepoint", info={"tenant": 1})
            event.listen(made, "do_orm_execute", only_rows_of_the_tenant)

            def get_db():
                with made() as db:
                    yield db

            app.dependency_overrides[application.get_db] = get_db
            [added] = requests(app, ("POST", "/products", {"sku": "tea", "name": "a tea", "stock": 5}))
            order = {"customer": "Ada", "lines": [{"product_id": added.json()["id"], "quantity": 2}]}
            again = {"sku": "tea", "name": "another"}
            bought, refused, left = requests(
                app, ("POST", "/orders", order), ("POST", "/products", again), ("GET", "/products", None)
            )
            assert (added.status_code, bought.status_code, refused.status_code) == (201, 201, 409)
            assert [one["stock"] for one in left.json()] == [3]
            outer.rollback()
        with engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(application.Product)) == 0


def test_memory_replaces_two_databases_of_one_endpoint(tmp_path):
    with engines("translated", tmp_path) as made:
        app = provided_write(*made)
        memory, journal = InMemoryDatabase(), InMemoryDatabase()
        for alias, store in zip(app.state.provided, (memory, journal), strict=True):
            override(app, alias, store)
        ours = Caller(1)
        with Sales(memory, context=ours) as sales:
            tea = sales.products.add(Product(tenant_id=1, sku="tea", name="a tea", stock=5))
        order = {"customer": "Ada", "lines": [{"product_id": tea.id, "quantity": 2}]}
        with serving(app) as address:
            for tenant, status in (("1", 201), ("2", 404)):
                with client(address, headers={"X-Tenant": tenant}) as ask:
                    assert ask.post("/orders", json=order).status_code == status
                    assert ask.get("/journal").json() == []  # the application's own database
        with Sales(memory, context=ours) as sales, Journal(journal, context=ours) as entries:
            assert [(line.product_id, line.quantity) for line in sales.lines.find()] == [(tea.id, 2)]
            assert sales.products.page(ProductQuery()).items[0].stock == 3
            assert [entry.text for entry in entries.entries.find()] == [f"order {sales.orders.first().id} of Ada"]
        with Sales(memory, context=Caller(2)) as sales:
            assert (sales.orders.count(), sales.products.count()) == (0, 0)

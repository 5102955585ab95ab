"""Over HTTP no tenant reaches what is another's, by any call, once `scope` has taken the loader criteria's place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends

from sqlrepo import BaseUnitOfWork, MappingError, Page
from sqlrepo.fastapi import filters, install, override, provide
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.beside.application import Db, ProductIn, Tenant, create_app
from tests.beside.repositories import (
    Caller,
    Product,
    ProductQuery,
    Shop,
    Unscoped,
    UnscopedShop,
    caller,
)
from tests.beside.stores import STORES, engines
from tests.web.server import client, serving


class Open(Unscoped):
    """Somebody has silenced the refusal, and thought no further."""

    bypass_orm_events = True


class OpenShop(BaseUnitOfWork[Caller]):
    products: Open


def routes(given_unit):
    router = APIRouter()

    @router.post("/items", status_code=201)
    def add(given: ProductIn, tenant: Tenant, shop: given_unit) -> Product:
        return shop.products.add(Product(tenant_id=tenant, **given.model_dump()))

    @router.get("/items/{id}")
    def get(id: int, shop: given_unit) -> Product:
        return shop.products.get(id)

    @router.get("/items")
    def find(shop: given_unit) -> list[Product]:
        return shop.products.find()

    @router.get("/pages")
    def page(query: Annotated[ProductQuery, filters(ProductQuery)], shop: given_unit) -> Page[Product]:
        return shop.products.page(query, with_total=True)

    @router.put("/items/{id}")
    def update(id: int, given: ProductIn, tenant: Tenant, shop: given_unit) -> Product:
        return shop.products.update(Product(id=id, tenant_id=tenant, **given.model_dump()))

    @router.patch("/items/{id}")
    def patch(id: int, changes: dict[str, str | int], shop: given_unit) -> Product:
        return shop.products.patch(id, changes)

    @router.delete("/items/{id}", status_code=204)
    def delete(id: int, shop: given_unit) -> None:
        shop.products.delete(id)

    set_wise(router, given_unit)
    return router


def set_wise(router, given_unit):
    @router.get("/total")
    def count(shop: given_unit) -> int:
        return shop.products.count()

    @router.post("/renamed")
    def rename(shop: given_unit) -> int:
        return shop.products.update_where(everything=True, set_={"name": "renamed"})

    @router.delete("/items")
    def delete_all(shop: given_unit) -> int:
        return shop.products.delete_where(everything=True)


def joined(unit, engine, journal):
    def get_unit(db: Db, tenant: Tenant) -> Iterator[unit]:
        yield unit(db, context=Caller(tenant))
        db.commit()

    app = create_app(engine, journal, (routes(Annotated[unit, Depends(get_unit, scope="function")]),))
    install(app)
    return app


def provided(unit, engine, journal):
    db = Database(engine)
    app = create_app(engine, journal, (routes(Annotated[unit, provide(unit, db, context=caller)]),))
    install(app, db)
    return app


def in_memory(unit, engine, journal):
    """The application as it is provided, another store beneath."""
    db = Database(engine)
    alias = Annotated[unit, provide(unit, db, context=caller)]
    app = create_app(engine, journal, (routes(alias),))
    install(app, db)
    override(app, alias, InMemoryDatabase())
    return app


PLACES = [(way, store) for way in (joined, provided) for store in STORES] + [(in_memory, "translated")]


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0].__name__}-{place[1]}")
def tenants(request, tmp_path):
    """Makes two tenants of an application with a unit of a class."""
    way, name = request.param
    with engines(name, tmp_path) as made:
        yield lambda unit: two_tenants(way(unit, *made))


@contextmanager
def two_tenants(app):
    with serving(app) as address, ExitStack() as ending:
        headers = [{"X-Tenant": tenant} for tenant in ("1", "2")]
        yield [ending.enter_context(client(address, headers=each)) for each in headers]


def leaks(ours, theirs):
    """The calls by which they come to what is ours."""

    def added(sku):
        return ours.post("/items", json={"sku": sku, "name": "ours"}).json()["id"]

    tea, milk, oil = added("tea"), added("milk"), added("oil")
    whole = {"sku": "tea", "name": "theirs", "stock": 0}
    calls = {
        "get": theirs.get(f"/items/{tea}").status_code == 200,
        "find": theirs.get("/items").json() != [],
        "page": theirs.get("/pages?name_contains=our").json()["items"] != [],
        "total": theirs.get("/pages").json()["total"] != 0,
        "count": theirs.get("/total").json() != 0,
        "update": theirs.put(f"/items/{tea}", json=whole).status_code == 200,
        "patch": theirs.patch(f"/items/{milk}", json={"name": "theirs"}).status_code == 200,
        "delete": theirs.delete(f"/items/{oil}").status_code == 204,
        "update_where": theirs.post("/renamed").json() != 0,
        "given away": ours.patch(f"/items/{milk}", json={"tenant_id": 2}).status_code == 200,
        "delete_where": theirs.delete("/items").json() != 0,
    }
    kept = [(one["sku"], one["name"], one["tenant_id"]) for one in ours.get("/items").json()]
    calls["rows"] = kept != [("tea", "ours", 1), ("milk", "ours", 1), ("oil", "ours", 1)]
    return [name for name, leaked in calls.items() if leaked]


def test_with_a_scope_nothing_is_reached(tenants):
    with tenants(Shop) as (ours, theirs):
        assert leaks(ours, theirs) == []


def test_without_one_every_call_leaks(tenants):
    """So that the test above is known to look."""
    with tenants(OpenShop) as (ours, theirs):
        assert leaks(ours, theirs) == [
            *("get", "find", "page", "total", "count", "update", "patch", "delete", "update_where"),
            *("given away", "delete_where", "rows"),
        ]


@pytest.mark.parametrize("store", STORES)
def test_without_one_a_unit_in_their_session_answers_nothing_at_all(store, tmp_path, caplog):
    with engines(store, tmp_path) as made, two_tenants(joined(UnscopedShop, *made)) as (ours, _):
        answer = ours.get("/items")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert ours.post("/items", json={"sku": "tea", "name": "ours"}).status_code == 500
        errors = [record.exc_info[1] for record in caplog.records if record.name == "sqlrepo" and record.exc_info]
        assert [type(error) for error in errors] == [MappingError, MappingError]
        assert all("only_rows_of_the_tenant" in str(error) for error in errors)

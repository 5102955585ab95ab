"""Which dependencies of an existing application `check_routes` accepts."""

from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import Depends

from sqlrepo import MappingError
from sqlrepo.fastapi import RouteError, check_routes, install
from tests.beside.application import Db, Tenant
from tests.beside.repositories import Caller, Shop, UnscopedShop
from tests.beside.stores import STORES, engines
from tests.beside.taken_over import before, get_shop
from tests.web.server import client, serving


@pytest.fixture
def databases(tmp_path):
    with engines("translated", tmp_path) as made:
        yield made


def entered(db: Db, tenant: Tenant) -> Iterator[Shop]:
    with Shop(db, context=Caller(tenant)) as shop:
        yield shop


def test_sessions_that_end_after_the_response_are_accepted(databases):
    check_routes(before(*databases))


@pytest.mark.parametrize(
    ("depends", "refused"),
    [
        (Depends(get_shop), []),
        (Depends(entered, scope="function"), []),
        (Depends(entered), [("request_order", "entered")]),
    ],
    ids=["not entered", "ends before the response", "ends after it"],
)
def test_a_unit_in_their_session_must_end_before_the_response(depends, refused, databases):
    app = before(*databases)

    @app.get("/count")
    def count(shop: Annotated[Shop, depends]) -> int:
        return shop.products.count()

    try:
        check_routes(app)
        found = []
    except RouteError as error:
        found = [(each.reason, each.name) for each in error.refusals]
    assert found == refused


@pytest.mark.parametrize("store", STORES)
def test_a_unit_that_would_see_all_tenants_is_a_logged_server_error(store, tmp_path, caplog):
    def get_unscoped(db: Db) -> UnscopedShop:
        return UnscopedShop(db)

    with engines(store, tmp_path) as made:
        app = before(*made)
        install(app)

        @app.get("/count")
        def count(shop: Annotated[UnscopedShop, Depends(get_unscoped)]) -> int:
            return shop.products.count()

        with serving(app) as address, client(address, headers={"X-Tenant": "1"}) as ask:
            answer = ask.get("/count")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    [error] = [record.exc_info[1] for record in caplog.records if record.name == "sqlrepo" and record.exc_info]
    assert isinstance(error, MappingError)
    assert "only_rows_of_the_tenant" in str(error)

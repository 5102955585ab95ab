"""Query objects that lead through keys, in routes."""

from typing import Annotated

import pytest
from fastapi import FastAPI, Query

from sqlrepo import QueryError, QueryObject
from sqlrepo.fastapi import check_routes, filters, install, provide
from sqlrepo.memory import InMemoryDatabase
from tests.units.related import Order, Shop, fill
from tests.web.server import client, serving


class Wanted(QueryObject[Order]):
    customer_id__name_contains: str | None = None
    label_ids__name: str | None = None
    limit: int = 10


class Wrong(QueryObject[Order]):
    customer_id__nam: str | None = None


def test_filters_through_keys_are_parameters_and_documented():
    db, app = InMemoryDatabase(), FastAPI()
    with Shop(db) as shop:
        fill(shop)
    install(app, db)

    @app.get("/orders")
    def find(query: Annotated[Wanted, filters(Wanted)], shop: Annotated[Shop, provide(Shop, db)]) -> list[int]:
        return sorted(order.number for order in shop.orders.find(query))

    with serving(app) as address, client(address) as ask:
        assert ask.get("/orders?customer_id__name_contains=an&label_ids__name=red").json() == [1]
        assert ask.get("/orders?label_ids__nam=red").status_code == 422
        parameters = ask.get("/openapi.json").json()["paths"]["/orders"]["get"]["parameters"]
    assert [one["name"] for one in parameters] == ["customer_id__name_contains", "label_ids__name", "limit"]


@pytest.mark.parametrize("how", [filters(Wrong), Query()])
def test_a_path_that_leads_nowhere_stops_the_start(how):
    db, app = InMemoryDatabase(), FastAPI()

    @app.get("/orders")
    def find(query: Annotated[Wrong, how], shop: Annotated[Shop, provide(Shop, db)]) -> int:
        return shop.orders.count(query)

    with pytest.raises(QueryError, match=r"Wrong\.customer_id__nam: .*did you mean 'name'"):
        check_routes(app)  # which install() calls at start-up

"""Summaries over HTTP: a response model like any other, described in the OpenAPI document."""

from decimal import Decimal
from typing import Annotated, Literal

import pytest
from fastapi import FastAPI
from schemathesis import openapi

from sqlrepo import QueryObject, Summary, fields
from sqlrepo.fastapi import filters, install, provide
from tests.web.domain import Shop, Thing, ThingQuery
from tests.web.server import client, serving

thing = fields(Thing)


class BySize(Summary[Thing]):
    size: int
    count: int
    version_avg: Decimal
    key_max: str


class BySizeQuery(QueryObject[BySize]):
    count_ge: int | None = None
    order_by: Literal["size", "-count"] = "size"


@pytest.fixture(scope="module")
def app(store):
    Reading = Annotated[Shop, provide(Shop, store, read_only=True)]
    app = FastAPI()
    install(app, store)

    @app.get("/sizes")
    def sizes(having: Annotated[BySizeQuery, filters(BySizeQuery)], shop: Reading) -> list[BySize]:
        return shop.things.summarize(BySize, having=having)

    @app.get("/facets")
    def facets(query: Annotated[ThingQuery, filters(ThingQuery)], shop: Reading) -> dict[int, int]:
        return shop.things.counts(thing.size, query)

    with Shop(store) as shop:
        shop.things.add_many(Thing(key=f"k{n}", size=n % 3) for n in range(5))
    return app


def test_a_summary_is_answered_and_chosen_by_the_client(app):
    with serving(app) as address, client(address) as ask:
        rows = [
            {"size": 0, "count": 2, "version_avg": "1.0000", "key_max": "k3"},
            {"size": 1, "count": 2, "version_avg": "1.0000", "key_max": "k4"},
            {"size": 2, "count": 1, "version_avg": "1.0000", "key_max": "k2"},
        ]
        assert ask.get("/sizes").json() == rows
        assert ask.get("/sizes?count_ge=2&order_by=-count").json() == [rows[1], rows[0]]
        assert ask.get("/sizes?order_by=key").status_code == 422
        assert ask.get("/facets?size_ge=1&limit=1").json() == {"1": 2, "2": 1}


def test_the_document_describes_it(app):
    document = app.openapi()
    openapi.from_dict(document).validate()
    answer = document["paths"]["/sizes"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["items"] == {"$ref": "#/components/schemas/BySize"}
    schema = document["components"]["schemas"]["BySize"]
    assert {name: one["type"] for name, one in schema["properties"].items()} == {
        "size": "integer",
        "count": "integer",
        "version_avg": "string",
        "key_max": "string",
    }
    assert schema["required"] == ["size", "count", "version_avg", "key_max"]
    assert [one["name"] for one in document["paths"]["/sizes"]["get"]["parameters"]] == ["count_ge", "order_by"]

"""Summaries over HTTP: a response model like any other, described in the OpenAPI document."""

from decimal import Decimal
from typing import Annotated, Literal

import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from schemathesis import openapi

from sqlrepo import Page, QueryError, QueryObject, Summary, fields
from sqlrepo.fastapi import check_routes, filters, install, provide
from sqlrepo.memory import InMemoryDatabase
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


class Nowhere(Summary[Thing]):
    version__name: str | None


class NowhereQuery(QueryObject[Nowhere]):
    version__name__eq: str | None = None


class Board(BaseModel):
    title: str
    parts: dict[str, list[Nowhere] | None]


@pytest.mark.parametrize("answer", [Nowhere, list[Nowhere], Page[Nowhere], Nowhere | None, Board])
def test_an_application_with_a_summary_that_cannot_be_does_not_start(answer):
    app = FastAPI()
    Reading = Annotated[Shop, provide(Shop, InMemoryDatabase(), read_only=True)]

    @app.get("/", response_model=answer)
    def wrong(shop: Reading): ...

    with pytest.raises(QueryError, match=r"Nowhere\.version__name: 'version' of table thing is no foreign key"):
        check_routes(app)


def test_nor_with_a_query_object_of_one():
    app = FastAPI()

    @app.get("/")
    def wrong(
        having: Annotated[NowhereQuery, filters(NowhereQuery)],
        shop: Annotated[Shop, provide(Shop, InMemoryDatabase())],
    ) -> None: ...

    with pytest.raises(QueryError, match=r"Nowhere\.version__name"):
        check_routes(app)


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

"""Pages over HTTP: their parts, and the links between them."""

from typing import Annotated

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from sqlrepo import CursorPage, Page
from sqlrepo.fastapi import Links, filters, install, provide, validation_problem
from tests.web.domain import Shop, Thing, ThingQuery
from tests.web.server import client, serving

Filters = Annotated[ThingQuery, filters(ThingQuery)]
KEYS = [f"k{n}&>, é" for n in range(7)]


@pytest.fixture(scope="module")
def app(store):
    Reading = Annotated[Shop, provide(Shop, store, read_only=True)]
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, validation_problem)
    install(app, store)

    @app.get("/pages")
    def pages(query: Filters, shop: Reading, links: Links, total: bool = False) -> Page[Thing]:
        return links(shop.things.page(query, with_total=total), query)

    @app.get("/scroll")
    def scroll(
        query: Filters, shop: Reading, links: Links, after: str | None = None, before: str | None = None
    ) -> CursorPage[Thing]:
        return links(shop.things.scroll(query, after=after, before=before), query)

    with Shop(store) as shop:
        shop.things.add_many(Thing(key=key, size=n % 2) for n, key in enumerate(KEYS))
    return app


@pytest.fixture(scope="module")
def ask(app):
    with serving(app) as address, client(address) as made:
        yield made


def keys(answer):
    return [item["key"] for item in answer.json()["items"]]


def walked(ask, start, relation):
    answers = [ask.get(start)]
    while link := answers[-1].links.get(relation):
        assert len(answers) < 10
        answers.append(ask.get(answers[-1].url.join(link["url"])))
    return answers


@pytest.mark.parametrize("path", ["/pages", "/scroll"])
def test_links_lead_through_all_pages_and_back(ask, path):
    forwards = walked(ask, f"{path}?key_contains=%26%3E&size_in=0&size_in=1&limit=3", "next")
    backwards = walked(ask, str(forwards[-1].url), "prev")

    assert [keys(answer) for answer in forwards] == [KEYS[:3], KEYS[3:6], KEYS[6:]]
    assert [keys(answer) for answer in backwards] == [KEYS[6:], KEYS[3:6], KEYS[:3]]
    assert keys(ask.get(forwards[-1].url.join(forwards[-1].links["first"]["url"]))) == KEYS[:3]
    assert "prev" not in forwards[0].links


def test_pages_have_their_parts(ask):
    by_offset, by_position = ask.get("/pages?limit=3&total=true").json(), ask.get("/scroll?limit=3").json()

    assert (set(by_offset), by_offset["has_next"], by_offset["total"]) == ({"items", "has_next", "total"}, True, 7)
    assert ask.get("/pages?limit=3").json()["total"] is None
    assert (set(by_position), by_position["previous"]) == ({"items", "next", "previous"}, None)


def test_an_offset_within_the_first_page_leads_back_to_it(ask):
    answer = ask.get("/pages?limit=3&offset=2")

    assert keys(ask.get(answer.url.join(answer.links["prev"]["url"]))) == KEYS[:3]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(("/scroll?after=x&before=x", "before"), ("/scroll?offset=1", "offset"), ("/scroll?limit=0", "limit")),
        *((f"/pages?offset={2**62}", "offset"), (f"/scroll?offset={2**62}", "offset")),
    ],
)
def test_an_impossible_page_is_422(ask, query, field):
    answer = ask.get(query)

    assert (answer.status_code, answer.json()["fields"]) == (422, [field])


@pytest.mark.parametrize("argument", ["after", "before"])
def test_a_hostile_cursor_is_422(ask, argument):
    good = ask.get("/scroll?limit=3").json()["next"]
    for cursor in (
        "",
        "x",
        "%00",
        "%ED%A0%80",
        "%F0%9F%98%80",
        "A" * 30_000,
        good[:-1],
        good[1:],
        good + "%3D",
        good[::-1],
    ):
        answer = ask.get(f"/scroll?limit=3&{argument}={cursor}")
        assert (answer.status_code, answer.json()["fields"]) == (422, [argument]), cursor
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "parts"), [("/pages", {"items", "has_next", "total"}), ("/scroll", {"items", "next", "previous"})]
)
def test_the_documentation_shows_pages(app, path, parts):
    spec = app.openapi()
    schema = spec["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    page = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]

    assert set(page["properties"]) == parts
    assert page["properties"]["items"]["items"]["$ref"].rpartition("/")[2] == "Thing"

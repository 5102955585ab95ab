"""Requests that FastAPI refuses become problems if the application chooses so."""

from typing import Annotated, Literal

import pytest
from fastapi import Body, FastAPI, Path
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from schemathesis import openapi

from sqlrepo import CursorPage, Page
from sqlrepo.fastapi import IfMatch, Links, Problem, filters, install, problems, provide, validation_problem
from sqlrepo.memory import InMemoryDatabase
from tests.web.domain import Shop, Thing, ThingQuery
from tests.web.server import client, serving

SECRET = "hunter2"


class Street(BaseModel):
    name: str
    number: int


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str
    streets: list[Street] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(kind="cat")


Filters = Annotated[ThingQuery, filters(ThingQuery)]


def application():
    db = InMemoryDatabase()
    ShopDep = Annotated[Shop, provide(Shop, db)]
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, validation_problem)
    install(app, db)

    @app.post("/orders/{number}")
    def order(number: Annotated[int, Path(ge=1)], order: Order, match: IfMatch) -> None: ...

    @app.post("/two")
    def two(order: Order, note: Annotated[str, Body()]) -> None: ...

    @app.get("/things", responses=problems(404))
    def things(query: Filters, shop: ShopDep, links: Links) -> Page[Thing]:
        return links(shop.things.page(query), query)

    @app.get("/scroll")
    def scroll(query: Filters, shop: ShopDep, after: str | None = None) -> CursorPage[Thing]:
        return shop.things.scroll(query, after=after)

    return app


@pytest.fixture(scope="module")
def app():
    return application()


@pytest.fixture(scope="module")
def ask(app):
    with serving(app) as address, client(address) as made:
        yield made


def read_problem(answer):
    body = answer.json()
    assert Problem(**body).model_dump() == body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert SECRET not in answer.text
    return answer.status_code, body["code"], body["fields"]


GOOD = {"key": "a"}
BODIES = [
    ({}, ["key"]),
    ([], []),
    ({"key": 7}, ["key"]),
    ({"key": [SECRET]}, ["key"]),
    ({**GOOD, "colour": SECRET}, ["colour"]),
    ({**GOOD, "streets": [{"name": "x", "number": SECRET}, {"number": SECRET}]}, ["streets.number", "streets.name"]),
    ({**GOOD, "pet": {"kind": SECRET}}, ["pet"]),
    ({**GOOD, "streets": SECRET}, ["streets"]),
]


@pytest.mark.parametrize(("body", "fields"), BODIES, ids=lambda case: None if isinstance(case, list) else str(case))
def test_an_invalid_body_is_a_problem_that_names_the_fields(ask, body, fields):
    assert read_problem(ask.post("/orders/1", json=body)) == (422, "invalid_request", fields)


@pytest.mark.parametrize("content", [b"", b"{", b'{"key": ', b'"x"', b"null"])
def test_a_body_that_is_not_an_object_is_a_problem(ask, content):
    answer = ask.post("/orders/1", content=content, headers={"content-type": "application/json"})

    assert read_problem(answer) == (422, "invalid_request", [])


@pytest.mark.parametrize(
    ("rest", "fields"), [(r'"\ud800": 1', []), (r'"x\u0000": 1', ["x\0"]), (r'"pet": {"kind": "\ud800"}', ["pet"])]
)
def test_values_that_cannot_be_encoded_are_no_server_error(ask, rest, fields):
    body = f'{{"key": "a", {rest}}}'.encode()
    answer = ask.post("/orders/1", content=body, headers={"content-type": "application/json"})

    assert read_problem(answer) == (422, "invalid_request", fields)


def test_parameters_of_the_path_and_of_several_bodies_are_named(ask):
    assert read_problem(ask.post(f"/orders/{SECRET}", json=GOOD)) == (422, "invalid_request", ["number"])
    assert read_problem(ask.post("/orders/0", json={})) == (422, "invalid_request", ["number", "key"])
    assert read_problem(ask.post("/two", json={"order": {}})) == (422, "invalid_request", ["order.key", "note"])


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (f"secret={SECRET}", ["secret"]),
        (f"order_by={SECRET}", ["order_by"]),
        ("limit=101", ["limit"]),
        ("limit=0&offset=-1", ["limit", "offset"]),
        (f"size_in=1&size_in={SECRET}&size_in={SECRET}", ["size_in"]),
    ],
)
def test_an_undeclared_query_is_a_problem(ask, query, fields):
    assert read_problem(ask.get(f"/things?{query}")) == (422, "invalid_request", fields)


@pytest.mark.parametrize(("query", "field"), [("key_contains=%00", "key"), ("size_ge=1" + "0" * 30, "size")])
def test_a_filter_beyond_its_column_is_a_problem(ask, query, field):
    assert read_problem(ask.get(f"/things?{query}")) == (422, "invalid_value", [field])


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_application_chooses_problems_before_or_after_install(when):
    app = FastAPI()
    if when == "before":
        app.add_exception_handler(RequestValidationError, validation_problem)
    install(app)
    if when == "after":
        app.add_exception_handler(RequestValidationError, validation_problem)

    @app.get("/")
    def nothing(number: int) -> None: ...

    with serving(app) as address, client(address) as made:
        assert read_problem(made.get("/")) == (422, "invalid_request", ["number"])
    assert "HTTPValidationError" not in app.openapi()["components"]["schemas"]


def test_without_a_choice_invalid_requests_get_fastapis_response():
    without, with_us = FastAPI(), FastAPI()
    install(with_us)

    def answer(app):
        @app.get("/")
        def nothing(number: int) -> None: ...

        with serving(app) as address, client(address) as made:
            return made.get("/").json(), app.openapi()

    assert answer(with_us) == answer(without)


def test_the_documentation_shows_problems(app):
    spec = app.openapi()

    assert app.openapi() == spec
    openapi.from_dict(spec).validate()
    for path, item in spec["paths"].items():
        for operation in item.values():
            content = operation["responses"]["422"]["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, path
    assert not {"HTTPValidationError", "ValidationError"} & set(spec["components"]["schemas"])


def test_a_routes_own_documentation_stays():
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, validation_problem)
    install(app)

    @app.get("/own", responses={422: {"description": "mine", "model": Street}})
    def own(number: int) -> None: ...

    @app.get("/plain")
    def plain() -> None: ...

    paths = app.openapi()["paths"]
    assert paths["/own"]["get"]["responses"]["422"]["description"] == "mine"
    assert "422" not in paths["/plain"]["get"]["responses"]

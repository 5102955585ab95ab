"""The OpenAPI document shows which problems each route may respond with, and describes them for the API's users."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from schemathesis import openapi

from sqlrepo import CursorPage, NotFoundError, Page, RepositoryError, StaleEntityError
from sqlrepo.fastapi import (
    IfMatch,
    PreconditionError,
    Stream,
    filters,
    install,
    problems,
    provide,
    provide_stream,
    validation_problem,
)
from sqlrepo.fastapi import Problem as LibraryProblem
from sqlrepo.memory import InMemoryDatabase
from tests.web.domain import AsyncShop, Shop, Thing, ThingQuery
from tests.web.server import client, serving

DB = InMemoryDatabase()
Writing = Annotated[Shop, provide(Shop, DB)]
Reading = Annotated[Shop, provide(Shop, DB, read_only=True)]
Query = Annotated[ThingQuery, filters(ThingQuery)]
PROBLEM, JSON = "application/problem+json", "application/json"
REFERENCE = {"$ref": "#/components/schemas/Problem"}


async def service(shop: Writing) -> Shop:
    return shop


async def own_unit() -> AsyncIterator[AsyncShop]:
    async with AsyncShop(DB) as shop:
        yield shop


def find(query: Query, shop: Reading) -> Page[Thing]: ...
def scroll(query: Query, shop: Writing) -> CursorPage[Thing]: ...
def first(shop: Reading) -> Thing: ...
def get(id: int, shop: Reading) -> Thing: ...
def parts(id: int, shop: Reading) -> list[Thing]: ...
def add(thing: Thing, shop: Writing) -> Thing: ...
def add_many(things: list[Thing], shop: Writing) -> list[Thing]: ...
def check(thing: Thing, shop: Reading) -> bool: ...
def change(id: int, match: IfMatch, shop: Writing) -> Thing: ...
def replace(id: int, thing: Thing, match: IfMatch, shop: Writing) -> Thing: ...
def guard(match: IfMatch) -> None: ...
def serve(shop: Annotated[Shop, Depends(service)]) -> None: ...
def own(shop: Annotated[AsyncShop, Depends(own_unit, scope="function")]) -> None: ...
def stream(stream: Annotated[Stream[Shop], provide_stream(Shop, DB)]) -> StreamingResponse: ...
def only_filters(query: Query) -> None: ...
def nothing() -> None: ...


ROUTES = [
    ("GET", "/find", find, {422, 503}),  # a list may be empty, but is never missing
    ("GET", "/scroll", scroll, {422, 503}),
    ("GET", "/first", first, {404, 503}),
    ("GET", "/things/{id}", get, {404, 422, 503}),
    ("GET", "/things/{id}/parts", parts, {404, 422, 503}),
    ("POST", "/things", add, {400, 404, 409, 422, 503}),
    ("POST", "/many", add_many, {400, 404, 409, 422, 503}),
    ("POST", "/check", check, {400, 404, 422, 503}),
    ("PUT", "/things/{id}", replace, {400, 404, 409, 412, 422, 503}),
    ("PATCH", "/things/{id}", change, {400, 404, 409, 412, 422, 503}),
    ("PUT", "/guard", guard, {400, 412, 422}),
    ("DELETE", "/serve", serve, {404, 409, 503}),
    ("POST", "/own", own, {404, 409, 503}),
    ("GET", "/stream", stream, set()),
    ("GET", "/only_filters", only_filters, {422}),
    ("POST", "/nothing", nothing, set()),
]


def make(*handlers, routes=ROUTES):
    app = FastAPI()
    for kind in handlers:
        app.add_exception_handler(kind, lambda *_: JSONResponse({}))
    install(app, DB)
    router = APIRouter(prefix="/v1")
    for method, path, endpoint, _ in routes:
        router.add_api_route(path, endpoint, methods=[method])
    app.include_router(router)
    return app


def responses(app, method, path):
    document = app.openapi()
    assert app.openapi() == document
    openapi.from_dict(document).validate()
    return document["paths"][f"/v1{path}"][method.lower()]["responses"]


def errors(app, method, path):
    return {int(status) for status in responses(app, method, path)} - {200}


@pytest.mark.parametrize(("method", "path", "statuses"), [(m, p, s) for m, p, _, s in ROUTES])
def test_a_route_documents_what_its_dependencies_may_answer(method, path, statuses):
    assert errors(make(), method, path) == statuses


def test_the_schema_is_one_component_described_for_clients():
    app = make()
    app.get("/own", responses=problems(418))(nothing)
    app.get("/sub", response_model=LibraryProblem)(nothing)
    document = app.openapi()

    assert document["paths"]["/own"]["get"]["responses"]["418"]["content"] == {PROBLEM: {"schema": REFERENCE}}
    shown = responses(app, "PATCH", "/things/{id}")
    assert all(shown[str(each)]["content"] == {PROBLEM: {"schema": REFERENCE}} for each in (400, 404, 409, 412, 503))
    assert [name for name in document["components"]["schemas"] if "Problem" in name] == ["Problem"]
    schema = document["components"]["schemas"]["Problem"]
    assert set(schema["properties"]) == set(LibraryProblem.model_fields)
    assert all(each["description"].endswith(".") for each in schema["properties"].values())
    assert "Attributes:" not in schema["description"]


def test_a_rejected_request_has_the_body_of_fastapi_or_of_the_unit():
    app = make()

    assert set(responses(app, "GET", "/find")["422"]["content"]) == {JSON, PROBLEM}
    assert set(responses(app, "GET", "/only_filters")["422"]["content"]) == {JSON}

    app = make()
    app.add_exception_handler(RequestValidationError, validation_problem)

    assert set(responses(app, "GET", "/find")["422"]["content"]) == {PROBLEM}
    assert set(responses(app, "GET", "/only_filters")["422"]["content"]) == {PROBLEM}


def test_a_body_that_cannot_be_parsed_is_documented_as_fastapi_answers_it():
    app = make()
    with serving(app) as address, client(address) as ask:
        answer = ask.post("/v1/things", content=b"\xff", headers={"content-type": JSON})
    assert (answer.status_code, answer.headers["content-type"], set(answer.json())) == (400, JSON, {"detail"})
    content = responses(app, "POST", "/things")["400"]["content"]
    assert set(content[JSON]["schema"]["properties"]) == {"detail"}
    assert set(responses(app, "PUT", "/things/{id}")["400"]["content"]) == {JSON, PROBLEM}

    assert errors(make(HTTPException), "POST", "/things") == {404, 409, 422, 503}


@pytest.mark.parametrize("key", [404, "4XX", "default"])
def test_the_documentation_of_a_route_wins(key):
    app = make(routes=[])
    mine = {"description": "mine", "content": {JSON: {"schema": {"type": "string"}}}}
    app.patch("/v1/own/{id}", responses={key: mine})(change)

    shown = responses(app, "PATCH", "/own/{id}")

    assert shown[str(key)] == mine
    covered = {404: {404}, "4XX": {400, 404, 409, 412, 422}, "default": {400, 404, 409, 412, 422, 503}}[key]
    added = {int(status) for status in shown if status.isdigit()} - {200, 404}
    assert added == {400, 404, 409, 412, 422, 503} - covered - {404}


@pytest.mark.parametrize(
    ("handler", "missing"),
    [
        (NotFoundError, {404}),
        (PreconditionError, {400, 412}),
        (StaleEntityError, set()),  # other errors are a 409 as well
        (RepositoryError, {404, 409, 503}),
    ],
)
def test_errors_that_the_application_handles_are_its_own_to_document(handler, missing):
    shown = errors(make(handler), "PATCH", "/things/{id}")

    assert shown == {400, 404, 409, 412, 422, 503} - missing


def test_a_model_of_the_application_keeps_the_name():
    class Problem(BaseModel):
        mine: int

    app = make()
    app.get("/mine", response_model=Problem)(nothing)
    document = app.openapi()

    assert set(document["components"]["schemas"]["Problem"]["properties"]) == {"mine"}
    reference = responses(app, "GET", "/things/{id}")["404"]["content"][PROBLEM]["schema"]["$ref"]
    assert reference == "#/components/schemas/sqlrepo__fastapi__answers__Problem"


def test_an_application_without_errors_of_ours_shows_no_problems():
    app = make(routes=ROUTES[-1:])

    assert "components" not in app.openapi()


def test_a_mounted_application_documents_its_own_routes():
    outer, inner = make(routes=[]), make()
    outer.mount("/inner", inner)
    outer.get("/v1/things/{id}")(nothing)

    assert errors(outer, "GET", "/things/{id}") <= {422}
    assert errors(inner, "GET", "/things/{id}") == {404, 422, 503}


def test_problems_are_complete_without_install():
    app = FastAPI()
    app.get("/", responses=problems(404))(nothing)

    openapi.from_dict(app.openapi()).validate()
    schema = app.openapi()["paths"]["/"]["get"]["responses"]["404"]["content"][PROBLEM]["schema"]
    assert set(schema["properties"]) == set(LibraryProblem.model_fields)

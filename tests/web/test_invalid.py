"""Requests that FastAPI itself refuses are problems too, and a client's mistakes are told from the application's."""

from typing import Annotated, Literal

import pytest
from fastapi import Body, FastAPI, Path
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from schemathesis import openapi

from sqlrepo import BaseUnitOfWork, CursorPage, Page, QueryObject
from sqlrepo.fastapi import IfMatch, Links, Problem, filters, install, problems, provide, validation_problem
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.web.domain import Shop, Thing, ThingQuery, Things
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


class Unlimited(QueryObject[Thing]):
    key_contains: str | None = None


class Unscoped(Things):
    def scope(self):
        return None


class Broken(BaseUnitOfWork):
    things: Unscoped


Filters = Annotated[ThingQuery, filters(ThingQuery)]


def application():
    db = InMemoryDatabase()
    ShopDep = Annotated[Shop, provide(Shop, db)]
    BrokenDep = Annotated[Broken, provide(Broken, db)]
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

    @app.get("/misused/{how}")
    def misused(how: str, shop: ShopDep) -> None:
        MISUSES[how](shop.things)

    @app.get("/unscoped")
    def unscoped(query: Filters, shop: BrokenDep) -> Page[Thing]:
        return shop.things.page(query)

    return app


#: What a client may have caused as far as anybody can tell.
MISUSES = {
    "limit twice": lambda things: things.find(ThingQuery(), limit=2),
    "no limit": lambda things: things.page(Unlimited()),
    "plain bool": lambda things: things.find(True),
    "unknown field": lambda things: things.find(colour="red"),
    "unknown change": lambda things: things.patch(1, {"colour": "red"}),
    "unknown order": lambda things: things.find(order_by="colour"),
    "no criterion": lambda things: things.delete_where(),
}


@pytest.fixture(scope="module")
def app():
    return application()


@pytest.fixture(scope="module")
def ask(app):
    with serving(app) as address, client(address) as made:
        yield made


def told(answer):
    body = answer.json()
    assert Problem(**body).model_dump() == body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert SECRET not in answer.text
    return answer.status_code, body["code"], body["fields"]


def tracebacks(caplog):
    return [record.levelname for record in caplog.records if record.name == "sqlrepo" and record.exc_info]


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
def test_a_body_that_does_not_fit_is_a_problem_that_names_the_fields(ask, body, fields):
    assert told(ask.post("/orders/1", json=body)) == (422, "invalid_request", fields)


@pytest.mark.parametrize("content", [b"", b"{", b'{"key": ', b'"x"', b"null"])
def test_a_body_that_is_no_object_is_a_problem(ask, content):
    answer = ask.post("/orders/1", content=content, headers={"content-type": "application/json"})

    assert told(answer) == (422, "invalid_request", [])


@pytest.mark.parametrize(
    ("rest", "fields"),
    [(r'"\ud800": 1', []), (r'"x\u0000": 1', ["x\0"]), (r'"pet": {"kind": "\ud800"}', ["pet"])],
)
def test_what_cannot_be_sent_back_is_no_server_error(ask, rest, fields):
    body = f'{{"key": "a", {rest}}}'.encode()
    answer = ask.post("/orders/1", content=body, headers={"content-type": "application/json"})

    assert told(answer) == (422, "invalid_request", fields)


def test_what_is_in_the_path_and_in_several_bodies_is_named(ask):
    assert told(ask.post(f"/orders/{SECRET}", json=GOOD)) == (422, "invalid_request", ["number"])
    assert told(ask.post("/orders/0", json={})) == (422, "invalid_request", ["number", "key"])
    assert told(ask.post("/two", json={"order": {}})) == (422, "invalid_request", ["order.key", "note"])


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
def test_a_query_that_was_not_declared_is_a_problem(ask, query, fields):
    assert told(ask.get(f"/things?{query}")) == (422, "invalid_request", fields)


@pytest.mark.parametrize(("query", "field"), [("key_contains=%00", "key"), ("size_ge=1" + "0" * 30, "size")])
def test_a_filter_that_its_column_cannot_hold_is_a_problem(ask, query, field):
    assert told(ask.get(f"/things?{query}")) == (422, "invalid_value", [field])


def test_more_values_than_a_statement_takes_is_the_clients(ask):
    app = FastAPI()
    install(app, db := InMemoryDatabase())

    @app.post("/find")
    def find(query: ThingQuery, shop: Annotated[Shop, provide(Shop, db)]) -> list[Thing]:
        return shop.things.find(query)

    with serving(app) as address, client(address) as made:
        assert told(made.post("/find", json={"size_in": list(range(30_001))})) == (422, "invalid_value", ["size"])


@pytest.mark.parametrize("how", MISUSES)
def test_a_query_that_cannot_be_meant_is_logged_because_the_application_may_be_to_blame(ask, how, caplog):
    assert told(ask.get(f"/misused/{how}")) == (422, "query", [])
    assert tracebacks(caplog) == ["WARNING"]


def test_a_query_that_no_client_can_have_caused_is_a_server_error_and_logged(ask, caplog):
    assert told(ask.get("/unscoped")) == (500, "internal", [])
    assert tracebacks(caplog) == ["ERROR"]


def test_a_table_that_is_missing_is_a_server_error_and_logged(tmp_path, caplog):
    app = FastAPI()
    install(app, db := Database(f"sqlite:///{tmp_path}/empty.db"))

    @app.get("/")
    def find(shop: Annotated[Shop, provide(Shop, db)]) -> list[Thing]:
        return shop.things.find()

    with serving(app) as address, client(address) as made:
        assert told(made.get("/")) == (500, "internal", [])
    assert tracebacks(caplog) == ["ERROR"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_is_what_the_application_chooses(when):
    app = FastAPI()
    if when == "before":
        app.add_exception_handler(RequestValidationError, validation_problem)
    install(app)
    if when == "after":
        app.add_exception_handler(RequestValidationError, validation_problem)

    @app.get("/")
    def nothing(number: int) -> None: ...

    with serving(app) as address, client(address) as made:
        assert told(made.get("/")) == (422, "invalid_request", ["number"])
    assert "HTTPValidationError" not in app.openapi()["components"]["schemas"]


def test_an_application_that_chooses_nothing_answers_as_without_us():
    without, with_us = FastAPI(), FastAPI()
    install(with_us)

    def answer(app):
        @app.get("/")
        def nothing(number: int) -> None: ...

        with serving(app) as address, client(address) as made:
            return made.get("/").json(), app.openapi()

    assert answer(with_us) == answer(without)


def test_the_documentation_shows_what_is_answered(app):
    spec = app.openapi()

    assert app.openapi() == spec
    openapi.from_dict(spec).validate()
    for path, item in spec["paths"].items():
        for operation in item.values():
            content = operation["responses"]["422"]["content"]
            assert set(content) == {"application/problem+json"}, path
            schema = content["application/problem+json"]["schema"]
            assert set(schema["properties"]) == set(Problem.model_fields)
    assert not {"HTTPValidationError", "ValidationError"} & set(spec["components"]["schemas"])


def test_what_a_route_documents_itself_is_left_alone():
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

"""Errors are answered as problems: a status, a code and fields, and nothing of the store's inside."""

import asyncio
from contextlib import contextmanager
from typing import Annotated

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from sqlrepo import (
    DatabaseUnavailableError,
    InvalidLiteralError,
    LockTimeoutError,
    MappingError,
    MultipleFoundError,
    NotFoundError,
    ProgrammingError,
    QueryError,
    ReadOnlyError,
    RepositoryError,
    StaleEntityError,
    StatementTimeoutError,
    TransactionConflictError,
    UniqueViolationError,
    UnitStateError,
    UnsupportedError,
)
from sqlrepo.errors import make_commit_lost_error
from sqlrepo.fastapi import Problem, install, problems, provide
from tests.web.conftest import SYNC, opened
from tests.web.domain import Dog, Kennel, Shop, Thing
from tests.web.server import client, serving

INTERNALS = (
    "INSERT",
    "SELECT",
    "sqlite",
    "psycopg",
    "ck_secret_rule",
    "fk_secret_tie",
    "Traceback",
    "hidden",
    "thing.",
    '"thing"',
    "things.",
)


class Change(BaseModel):
    size: int = 0
    version: int = 0


def application(db):
    ShopDep = Annotated[Shop, provide(Shop, db)]
    app = FastAPI()
    install(app, db)

    @app.post("/things", status_code=201)
    def add(thing: Thing, shop: ShopDep) -> Thing:
        return shop.things.add(thing)

    @app.get("/things/{id}")
    def get(id: int, shop: ShopDep) -> Thing:
        return shop.things.get(id)

    @app.patch("/things/{id}")
    def change(id: int, changes: Change, shop: ShopDep) -> Thing:
        return shop.things.patch(id, changes)

    @app.post("/caught")
    def caught(thing: Thing, shop: ShopDep) -> JSONResponse:
        try:
            with shop.savepoint():
                shop.things.add(thing)
        except UniqueViolationError as error:
            shop.things.add(Thing(key="instead"))
            return JSONResponse({"own": error.fields}, 409)
        return JSONResponse({}, 201)

    @app.post("/careless")
    def careless(thing: Thing, shop: ShopDep) -> JSONResponse:
        try:
            shop.things.add(thing)
        except UniqueViolationError:
            return JSONResponse({"own": []}, 200)
        return JSONResponse({}, 201)

    return app


@pytest.fixture(scope="module")
def ask(store):
    with serving(application(store)) as address, client(address) as made:
        assert made.post("/things", json={"key": "a"}).json()["id"] == 1
        yield made


def told(answer):
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["type"], body["status"]) == ("about:blank", answer.status_code)
    assert not [word for word in INTERNALS if word in answer.text], answer.text
    return answer.status_code, body["code"], body["fields"]


def test_what_is_not_there_is_404(ask):
    assert told(ask.get("/things/77")) == (404, "not_found", [])


def test_a_second_of_its_kind_is_409_and_names_the_field(ask):
    assert told(ask.post("/things", json={"key": "a"})) == (409, "unique", ["key"])


def test_a_value_the_column_cannot_hold_is_422_and_names_the_field(ask):
    assert told(ask.post("/things", json={"key": "k" * 21})) == (422, "invalid_value", ["key"])


def test_a_stale_change_is_409_and_412_where_the_version_was_a_condition(ask):
    stale = {"size": 1, "version": 7}

    assert told(ask.patch("/things/1", json=stale)) == (409, "stale", [])
    assert told(ask.patch("/things/1", json=stale, headers={"If-Match": '"7"'})) == (412, "stale", [])


def test_a_duplicate_that_the_endpoint_answers_is_as_it_answers_it(ask):
    answer = ask.post("/caught", json={"key": "a"})

    assert (answer.status_code, answer.json()) == (409, {"own": ["key"]})
    assert ask.post("/things", json={"key": "instead"}).status_code == 409  # what it did afterwards is stored


def test_a_duplicate_without_savepoint_is_409_whatever_the_endpoint_says(ask):
    assert told(ask.post("/careless", json={"key": "a"})) == (409, "unique", ["key"])


def test_a_patch_writes_what_was_sent_and_nothing_else(ask):
    before = ask.get("/things/1").json()

    assert ask.patch("/things/1", json={}).json() == before
    assert ask.patch("/things/1", json={"size": 5}).json() == {**before, "size": 5, "version": before["version"] + 1}
    assert ask.patch("/things/1", json={"size": None}).status_code == 422


@pytest.fixture(scope="module", params=SYNC)
def kennel(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("dogs")) as db, asking_for_dogs(db) as ask:
        yield ask


@contextmanager
def asking_for_dogs(db):
    Dogs = Annotated[Kennel, provide(Kennel, db)]
    app = FastAPI()
    install(app, db)

    @app.post("/dogs", status_code=201)
    def add(dog: Dog, kennel: Dogs) -> Dog:
        return kennel.dogs.add(dog)

    with serving(app) as address, client(address) as made:
        yield made


@pytest.mark.parametrize(
    ("dog", "expected"),
    [
        ({"name": "x", "owner_id": 77}, (409, "foreign_key", ["owner_id"])),
        ({"name": "x", "legs": 5}, (422, "check", ["legs"])),
        ({"name": "x", "legs": None}, (422, "not_null", ["legs"])),
    ],
)
def test_constraints_are_told_by_kind_and_fields(kennel, dog, expected):
    status, code, fields = told(kennel.post("/dogs", json=dog))

    assert (status, code) == expected[:2]
    assert fields in (expected[2], [])  # some backends do not tell which


NOW = {"Retry-After": "1"}
KEPT = {}
CASES = [
    (TransactionConflictError(), 503, "busy", NOW),
    (LockTimeoutError(), 503, "busy", NOW),
    (DatabaseUnavailableError("secret host"), 503, "unavailable", NOW),
    (DatabaseUnavailableError("secret host", retryable=False), 503, "unavailable", KEPT),
    (make_commit_lost_error(), 503, "unknown_outcome", KEPT),
    (StatementTimeoutError("secret"), 503, "timeout", KEPT),
    (InvalidLiteralError("key", "is too long"), 422, "invalid_value", KEPT),
    (QueryError("secret"), 422, "query", KEPT),
    (ProgrammingError("secret"), 500, "internal", KEPT),
    (NotFoundError(Thing, "secret"), 404, "not_found", KEPT),
    (StaleEntityError(Thing, "secret", 1), 409, "stale", KEPT),
    (MultipleFoundError(Thing, "secret"), 500, "internal", KEPT),
    (ReadOnlyError("secret"), 500, "internal", KEPT),
    (MappingError("secret"), 500, "internal", KEPT),
    (UnsupportedError("secret"), 500, "internal", KEPT),
    (UnitStateError("not_open", "secret"), 500, "internal", KEPT),
]


@pytest.fixture(scope="module")
def raising():
    app = FastAPI()
    install(app)

    @app.get("/{number}")
    def fail(number: int) -> None:
        raise CASES[number][0]

    with serving(app) as address, client(address) as made:
        yield made


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{type(CASES[n][0]).__name__}-{CASES[n][1]}")
def test_every_error_has_its_status(raising, number, caplog):
    _, status, code, headers = CASES[number]

    answer = raising.get(f"/{number}")

    assert told(answer) == (status, code, ["key"] if code == "invalid_value" else [])
    assert "secret" not in answer.text
    assert ("Retry-After" in answer.headers) == ("Retry-After" in headers)
    [*logged] = [record for record in caplog.records if record.name == "sqlrepo"]
    level = {500: "ERROR", 503: "WARNING"}.get(status, "WARNING" if code == "query" else None)
    assert [record.levelname for record in logged] == ([level] if level else [])  # what is to be mended is for the log
    assert all("fail" in record.message and f"/{number}" not in record.message for record in logged)


@pytest.mark.parametrize("kind", [NotFoundError, RepositoryError])
def test_a_handler_of_the_applications_own_goes_first(kind):
    app = FastAPI()

    @app.exception_handler(kind)
    async def gone(request, error):
        return JSONResponse({"own": True}, 410)

    install(app)

    @app.get("/")
    def fail() -> None:
        raise NotFoundError(Thing, 1)

    with serving(app) as address, client(address) as ask:
        assert ask.get("/").status_code == 410


def test_a_web_socket_has_no_answer_to_put_a_problem_in():
    app = FastAPI()
    install(app)
    raised, sent = [], []

    @app.websocket("/")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        raised.append(NotFoundError(Thing, 1))
        raise raised[0]

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []}
    with pytest.raises(NotFoundError) as error:
        asyncio.run(app(scope, receive, send))

    assert ([error.value], sent) == (raised, ["websocket.accept"])


def test_the_documentation_shows_problems():
    app = FastAPI()

    @app.get("/", responses=problems(404, 409))
    def nothing() -> None: ...

    shown = app.openapi()["paths"]["/"]["get"]["responses"]
    assert set(shown) == {"200", "404", "409"}
    assert set(shown["404"]["content"]) == {"application/problem+json"}
    assert set(shown["404"]["content"]["application/problem+json"]["schema"]["properties"]) == set(Problem.model_fields)

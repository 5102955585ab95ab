"""Errors become problem responses: a status, a code and fields, and nothing internal to the database."""

import asyncio
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
    UnitStateError,
    UnsupportedError,
)
from sqlrepo.errors import make_commit_lost_error
from sqlrepo.fastapi import Problem, install, problems, provide
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

    @app.post("/dogs", status_code=201)
    def keep(dog: Dog, kennel: Annotated[Kennel, provide(Kennel, db)]) -> Dog:
        return kennel.dogs.add(dog)

    return app


@pytest.fixture(scope="module")
def ask(store):
    with serving(application(store)) as address, client(address) as made:
        assert made.post("/things", json={"key": "a"}).json()["id"] == 1
        yield made


def read_problem(answer):
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["type"], body["status"]) == ("about:blank", answer.status_code)
    assert not [word for word in INTERNALS if word in answer.text], answer.text
    return answer.status_code, body["code"], body["fields"]


def test_errors_of_an_endpoint_are_problems_that_name_the_fields(ask):
    assert read_problem(ask.get("/things/77")) == (404, "not_found", [])
    assert read_problem(ask.post("/things", json={"key": "a"})) == (409, "unique", ["key"])
    assert read_problem(ask.post("/things", json={"key": "k" * 21})) == (422, "invalid_value", ["key"])


def test_a_stale_change_is_409_and_412_where_the_version_was_a_condition(ask):
    stale = {"size": 1, "version": 7}

    assert read_problem(ask.patch("/things/1", json=stale)) == (409, "stale", [])
    assert read_problem(ask.patch("/things/1", json=stale, headers={"If-Match": '"7"'})) == (412, "stale", [])


def test_a_patch_writes_only_the_values_that_were_sent(ask):
    before = ask.get("/things/1").json()

    assert ask.patch("/things/1", json={}).json() == before
    assert ask.patch("/things/1", json={"size": 5}).json() == {**before, "size": 5, "version": before["version"] + 1}
    assert ask.patch("/things/1", json={"size": None}).status_code == 422


@pytest.mark.parametrize(
    ("dog", "expected"),
    [
        ({"name": "x", "owner_id": 77}, (409, "foreign_key", ["owner_id"])),
        ({"name": "x", "legs": 5}, (422, "check", ["legs"])),
        ({"name": "x", "legs": None}, (422, "not_null", ["legs"])),
    ],
)
def test_a_violated_constraint_is_a_problem_with_its_kind_and_fields(ask, dog, expected):
    status, code, fields = read_problem(ask.post("/dogs", json=dog))

    assert (status, code) == expected[:2]
    assert fields in (expected[2], [])  # some databases do not say which


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

    assert read_problem(answer) == (status, code, ["key"] if code == "invalid_value" else [])
    assert "secret" not in answer.text
    assert ("Retry-After" in answer.headers) == ("Retry-After" in headers)
    [*logged] = [record for record in caplog.records if record.name == "sqlrepo"]
    level = {500: "ERROR", 503: "WARNING"}.get(status, "WARNING" if code == "query" else None)
    assert all((record.exc_info is not None) == (code in ("internal", "query")) for record in logged)
    assert [record.levelname for record in logged] == ([level] if level else [])  # only faults are logged
    assert all("fail" in record.message and f"/{number}" not in record.message for record in logged)


@pytest.mark.parametrize("kind", [NotFoundError, RepositoryError])
def test_the_applications_handler_takes_precedence(kind):
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


def test_an_error_in_a_web_socket_reaches_the_server():
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

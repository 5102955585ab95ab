"""A unit used after its request: too late for an answer, so whoever reads the log is told what to write instead."""

from typing import Annotated

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from sqlrepo import UnitStateError
from sqlrepo.fastapi import install, provide
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.conftest import in_use, opened
from tests.web.domain import AsyncShop, Shop, Thing
from tests.web.server import client, eventually, serving


class Log:
    """What stands where the server is, and keeps what would be in its log."""

    def __init__(self, app):
        self.app, self.raised = app, []

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.raised.append(error)
            raise


@pytest.fixture(params=["memory", "sqlite", "aiosqlite"], scope="module")
def db(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("aftermath")) as given:
        yield given


@pytest.fixture(scope="module")
def log(db):
    return Log(application_async(db) if isinstance(db, AsyncDatabase) else application(db))


@pytest.fixture
def address(log):
    log.raised.clear()
    with serving(log) as found:
        yield found


def application(db):
    ShopDep = Annotated[Shop, provide(Shop, db)]
    app = FastAPI()
    install(app, db)

    @app.post("/work", status_code=201)
    def works(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(shop.things.count)
        return shop.things.add(thing)

    @app.get("/stream")
    def streams(shop: ShopDep):  # nothing says that it streams
        return StreamingResponse(f"{thing.key}\n" for thing in shop.things.stream())

    @app.get("/other")
    def other():
        return StreamingResponse(1 / 0 for _ in range(1))

    @app.get("/keys")
    def keys(shop: ShopDep) -> list[str]:
        return [thing.key for thing in shop.things.find(order_by="key")]

    return app


def application_async(db):
    ShopDep = Annotated[AsyncShop, provide(AsyncShop, db)]
    app = FastAPI()
    install(app, db)

    @app.post("/work", status_code=201)
    async def works(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(shop.things.count)
        return await shop.things.add(thing)

    @app.get("/stream")
    async def streams(shop: ShopDep):
        async def lines():
            async for thing in shop.things.stream():
                yield f"{thing.key}\n"

        return StreamingResponse(lines())

    @app.get("/other")
    async def other():
        return StreamingResponse(1 / 0 for _ in range(1))

    @app.get("/keys")
    async def keys(shop: ShopDep) -> list[str]:
        return [thing.key for thing in await shop.things.find(order_by="key")]

    return app


def told(log, endpoint):
    """The one error of the log, as a `UnitStateError` that names the endpoint."""
    (raised,) = log.raised
    misused = raised if isinstance(raised, UnitStateError) else raised.__cause__
    (note,) = misused.__notes__
    return type(misused), misused.reason, endpoint in note


def test_a_background_task_is_told_and_nothing_is_lost(address, log, db):
    with client(address) as ask:
        assert ask.post("/work", json={"key": "a"}).status_code == 201
    assert eventually(lambda: log.raised)

    assert told(log, "works") == (UnitStateError, "not_open", True)
    assert in_use(db) == 0
    with client(address) as ask:
        assert ask.get("/keys").json() == ["a"]


def test_a_stream_that_nothing_declared_is_cut_off_and_told(address, log, db):
    with client(address) as ask, pytest.raises(httpx.RemoteProtocolError):
        ask.get("/stream")

    assert eventually(lambda: log.raised)
    assert told(log, "streams") == (UnitStateError, "not_open", True)
    assert in_use(db) == 0


def test_other_errors_are_left_alone(address, log):
    with client(address) as ask, pytest.raises(httpx.RemoteProtocolError):
        ask.get("/other")

    assert eventually(lambda: log.raised)
    (raised,) = log.raised
    assert isinstance(raised, ZeroDivisionError)
    assert not hasattr(raised, "__notes__")

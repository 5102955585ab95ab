"""After the response: work has a unit of its own, and using the request's closed unit is explained in the log."""

from typing import Annotated

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse

from sqlrepo import UnitStateError
from sqlrepo.fastapi import install, provide
from tests.web.conftest import in_use, opened, repeats
from tests.web.domain import Thing, entered, outcome, shop_for, to_lines
from tests.web.server import client, eventually, serving


class Log:
    """Stands in for the server, and keeps the errors that the server would log."""

    def __init__(self, app):
        self.app, self.raised = app, []

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.raised.append(error)
            raise


@pytest.fixture(params=["memory", "sqlite", "aiosqlite", *repeats("postgresql", "asyncpg")], scope="module")
def db(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("after")) as given:
        yield given


@pytest.fixture(scope="module")
def served(db):
    log = Log(application(db))
    with serving(log) as address:
        yield log, address


@pytest.fixture
def log(served):
    served[0].raised.clear()
    served[0].app.state.seen.clear()
    return served[0]


@pytest.fixture
def ask(served, log):
    with client(served[1]) as made:
        yield made


def application(db):
    unit = shop_for(db)
    ShopDep = Annotated[unit, provide(unit, db)]
    app = FastAPI()
    install(app, db)
    app.state.seen = []

    async def follow(key):
        async with entered(unit(db)) as own:
            app.state.seen.append(await outcome(own.things.exists(key=key)))
            await outcome(own.things.add(Thing(key=f"after {key}")))

    async def fail():
        raise RuntimeError

    @app.post("/follow", status_code=201)
    async def add_and_follow(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        shop.on_commit(lambda: tasks.add_task(follow, thing.key))
        return await outcome(shop.things.add(thing))

    @app.post("/misuse", status_code=201)
    async def add_and_misuse(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(shop.things.count)
        return await outcome(shop.things.add(thing))

    @app.post("/raise", status_code=201)
    async def add_and_raise(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(fail)
        return await outcome(shop.things.add(thing))

    @app.post("/callback", status_code=201)
    async def add_and_fail(thing: Thing, shop: ShopDep) -> Thing:
        shop.on_commit(lambda: 1 / 0)
        return await outcome(shop.things.add(thing))

    @app.get("/stream")
    async def stream(shop: ShopDep):  # nothing declares that it streams
        return StreamingResponse(to_lines(shop.things.stream()))

    @app.get("/keys")
    async def keys(shop: ShopDep) -> list[str]:
        return [thing.key for thing in await outcome(shop.things.find(order_by="key"))]

    return app


def keys(served):
    with client(served[1]) as other:  # the server cuts the connection of a failed request
        return other.get("/keys").json()


def assert_explained(log, endpoint):
    """The server logs one error, whose cause is a `UnitStateError` with a note that names the endpoint."""
    assert eventually(lambda: log.raised)
    (raised,) = log.raised
    misuse = raised if isinstance(raised, UnitStateError) else raised.__cause__
    assert (type(misuse), misuse.reason) == (UnitStateError, "not_open")
    (note,) = misuse.__notes__
    assert endpoint in note


def test_work_that_on_commit_starts_sees_the_committed_rows(ask, log, served):
    assert ask.post("/follow", json={"key": "a"}).status_code == 201
    assert eventually(lambda: {"a", "after a"} <= set(keys(served)))
    assert log.app.state.seen == [True]


def test_work_is_dropped_with_its_transaction(ask, log):
    assert ask.post("/follow", json={"key": "k" * 21}).status_code == 422
    assert ask.get("/keys").status_code == 200
    assert log.app.state.seen == []


def test_a_background_task_with_the_closed_unit_is_explained_and_the_row_kept(ask, log, db, served):
    assert ask.post("/misuse", json={"key": "b"}).status_code == 201
    assert_explained(log, "add_and_misuse")
    assert in_use(db) == 0
    assert "b" in keys(served)


def test_an_undeclared_stream_is_cut_off_and_explained(ask, log, db):
    with pytest.raises(httpx.RemoteProtocolError):
        ask.get("/stream")
    assert_explained(log, "stream")
    assert in_use(db) == 0


def test_a_background_task_that_raises_another_error_gets_no_explanation_and_the_row_is_kept(ask, log, served):
    assert ask.post("/raise", json={"key": "c"}).status_code == 201
    assert eventually(lambda: log.raised)
    (raised,) = log.raised
    assert (type(raised), hasattr(raised, "__notes__")) == (RuntimeError, False)
    assert "c" in keys(served)


def test_a_failing_callback_is_logged_and_the_response_a_success(ask, served, caplog):
    assert ask.post("/callback", json={"key": "d"}).status_code == 201
    assert "d" in keys(served)

    logged = [record.exc_info[0] for record in caplog.records if record.name == "sqlrepo" and record.exc_info]
    assert logged == [ZeroDivisionError]

"""Requests get a connection in turn, and cancelled ones give it back."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Annotated

import anyio
import anyio.lowlevel
import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from sqlrepo.fastapi import install, provide
from sqlrepo.fastapi.units import run_shielded
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.web.conftest import in_use, repeats
from tests.web.domain import AsyncShop, Base, Shop, Thing, outcome, shop_for
from tests.web.server import client, eventually, serving

CLIENTS = 100


def crowd(address, method, path, bodies):
    limits = httpx.Limits(max_connections=CLIENTS)
    with client(address, limits=limits) as ask, ThreadPoolExecutor(CLIENTS) as threads:
        return [answer.status_code for answer in threads.map(lambda body: ask.request(method, path, json=body), bodies)]


def test_a_hundred_clients_of_sync_endpoints_are_all_served(sync_db):
    app = FastAPI()
    install(app, sync_db)

    @app.post("/things", status_code=201)
    def add(thing: Thing, shop: Annotated[Shop, provide(Shop, sync_db)]) -> Thing:
        added = shop.things.add(thing)
        time.sleep(0.005)  # while the connection is held
        return added

    with serving(app) as address:
        answers = crowd(address, "POST", "/things", [{"key": f"k{n}"} for n in range(CLIENTS)])

    assert answers == [201] * CLIENTS
    assert in_use(sync_db) == 0
    with Shop(sync_db) as shop:
        assert shop.things.count() == CLIENTS


def test_a_hundred_clients_of_async_units_are_all_served(async_db):
    app = FastAPI()
    install(app, async_db)

    @app.post("/things", status_code=201)
    async def add(thing: Thing, shop: Annotated[AsyncShop, provide(AsyncShop, async_db)]) -> int:
        added = await shop.things.add(thing)
        await asyncio.sleep(0.001)  # while the connection is held
        return await shop.things.count(key=added.key)

    with serving(app) as address:
        answers = crowd(address, "POST", "/things", [{"key": f"k{n}"} for n in range(CLIENTS)])

    assert answers == [201] * CLIENTS
    assert in_use(async_db) == 0


def test_sync_units_that_wait_for_each_other_in_async_endpoints_are_all_served(sync_db):
    """An endpoint that waits blocks the event loop, so the commit it waits for must not need the loop."""
    app = FastAPI()
    install(app, sync_db)

    @app.post("/things/{id}")
    async def grow(id: int, shop: Annotated[Shop, provide(Shop, sync_db)]) -> Thing:
        return shop.things.patch(id, {"size": shop.things.get(id, lock="update").size + 1})

    with Shop(sync_db) as shop:
        thing = shop.things.add(Thing(key="a"))
    with serving(app) as address:
        answers = crowd(address, "POST", f"/things/{thing.id}", [None] * CLIENTS)

    assert answers == [200] * CLIENTS
    with Shop(sync_db) as shop:
        assert shop.things.get(thing.id).size == CLIENTS


def test_no_more_units_are_open_than_there_are_connections(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/small.db", pool_size=2, max_overflow=1, pool_timeout=2)
    Base.metadata.create_all(engine)
    db, held = Database(engine), []
    app = FastAPI()

    @app.get("/slow")
    async def slow(shop: Annotated[Shop, provide(Shop, db, read_only=True)]) -> int:
        shop.things.count()  # one more than there are connections would wait here, and all others with it
        held.append(engine.pool.checkedout())
        await asyncio.sleep(0.01)
        return 0

    with serving(app) as address:
        answers = crowd(address, "GET", "/slow", [None] * CLIENTS)
    engine.dispose()

    assert answers == [200] * CLIENTS
    assert max(held) == 3


def test_a_request_without_a_slot_in_time_is_503(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/one.db", pool_size=1, max_overflow=0, pool_timeout=0.2)
    Base.metadata.create_all(engine)
    db, entered, leave = Database(engine), Event(), Event()
    app = FastAPI()
    install(app, db)

    @app.get("/hold")
    def hold(shop: Annotated[Shop, provide(Shop, db)]) -> None:
        shop.things.count()
        entered.set()
        assert leave.wait(10)

    with serving(app) as address, ThreadPoolExecutor() as threads, client(address) as ask:
        holding = threads.submit(lambda: httpx.get(f"{address}/hold", trust_env=False, timeout=60))
        assert entered.wait(10)
        refused = ask.get("/hold")
        leave.set()
        assert holding.result().status_code == 200
        assert ask.get("/hold").status_code == 200

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["Retry-After"] == "1"


class Hurry:
    """Cancels a request once it has got so far, as a timeout in a middleware does."""

    def __init__(self, app, reached):
        self.app, self.reached = app, reached

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        task = asyncio.ensure_future(self.app(scope, receive, send))
        while not task.done() and not self.reached.is_set():  # noqa: ASYNC110  # threads set it
            await asyncio.sleep(0.002)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b""})


@pytest.fixture(params=["sqlite", "aiosqlite", *repeats("postgresql", "mariadb", "asyncpg", "mariadb+asyncmy")])
def slow(request, open_store):
    """An application whose endpoints write, then dawdle until they are cancelled."""
    db = open_store(request.param)
    app = FastAPI()
    install(app, db)
    app.add_middleware(Hurry, reached=(reached := Event()))
    app.state.db, app.state.reached = db, reached
    unit = shop_for(db)

    @app.post("/things")
    async def add(thing: Thing, shop: Annotated[unit, provide(unit, db)]) -> None:
        await outcome(shop.things.add(thing))
        if thing.size:
            reached.set()
            await asyncio.sleep(thing.size)

    @app.get("/things")
    async def count(shop: Annotated[unit, provide(unit, db, read_only=True)]) -> int:
        return await outcome(shop.things.count())

    if unit is Shop:

        @app.post("/threads")
        def add_in_thread(thing: Thing, shop: Annotated[Shop, provide(Shop, db)]) -> None:
            shop.things.add(thing)
            reached.set()
            time.sleep(0.2)
            shop.things.count()

    return app


def test_a_cancelled_request_is_rolled_back_and_gives_its_connection_back(slow):
    db = slow.state.db
    paths = ["/things"] if isinstance(db, AsyncDatabase) else ["/things", "/threads"]
    with serving(slow) as address, client(address) as ask:
        for n, path in enumerate(paths * 3):
            slow.state.reached.clear()
            assert ask.post(path, json={"key": f"k{n}", "size": 30}).status_code == 504
            assert eventually(lambda: in_use(db) == 0)
        slow.state.reached.clear()
        assert ask.get("/things").json() == 0
        assert ask.post("/things", json={"key": "quick"}).status_code == 200
        assert ask.get("/things").json() == 1
        assert in_use(db) == 0


def test_cancellation_waits_for_a_commit_that_has_begun(open_store):
    db, ended = open_store("sqlite"), []
    app = FastAPI()
    app.add_middleware(Hurry, reached=(reached := Event()))

    def dawdle():
        reached.set()
        time.sleep(0.2)
        ended.append(True)

    @app.post("/things")
    async def add(thing: Thing, shop: Annotated[Shop, provide(Shop, db)]) -> None:
        shop.things.add(thing)
        shop.on_commit(dawdle)

    with serving(app) as address, client(address) as ask:
        assert ask.post("/things", json={"key": "a"}).status_code == 504
        assert ended == [True]
    with Shop(db) as shop:
        assert shop.things.exists(key="a")


@pytest.mark.parametrize("how", ["task", "scope"])
def test_shielded_work_ends_however_often_it_is_cancelled(how):
    ended = []

    async def work():
        await asyncio.sleep(0.1)
        ended.append(True)

    async def cancelled_by_task():
        task = asyncio.ensure_future(run_shielded(work()))
        for _ in range(3):
            await asyncio.sleep(0.01)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cancelled_by_scope():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run_shielded(work())
            await anyio.lowlevel.checkpoint()
            raise AssertionError
        assert scope.cancelled_caught

    asyncio.run(cancelled_by_task() if how == "task" else cancelled_by_scope())

    assert ended == [True]


def test_an_error_of_cancelled_work_is_a_note():
    async def fail():
        await asyncio.sleep(0.05)
        raise KeyError

    async def cancelled():
        task = asyncio.ensure_future(run_shielded(fail()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        return raised.value

    assert len(asyncio.run(cancelled()).__notes__) == 1

"""Work after the answer has a unit of its own, and begins when what it follows is committed."""

from typing import Annotated

import pytest
from fastapi import BackgroundTasks, FastAPI

from sqlrepo import UnitStateError
from sqlrepo.fastapi import install, provide
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.conftest import opened
from tests.web.domain import AsyncShop, Shop, Thing
from tests.web.server import client, eventually, serving

STORES = ["memory", "sqlite", "postgresql", "aiosqlite", "asyncpg"]


@pytest.fixture(params=STORES, scope="module")
def app(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("background")) as db:
        yield application_async(db) if isinstance(db, AsyncDatabase) else application(db)


@pytest.fixture(scope="module")
def address(app):
    with serving(app) as found:
        yield found


@pytest.fixture
def ask(address, app):
    app.state.seen.clear()
    with client(address) as made:
        yield made


def application(db):
    ShopDep = Annotated[Shop, provide(Shop, db)]
    app = FastAPI()
    install(app, db)
    app.state.seen = []

    def look(source, key):
        with Shop(source) as own:
            app.state.seen.append(own.things.exists(key=key))
            own.things.add(Thing(key=f"after {key}"))

    def misuse(shop):
        try:
            shop.things.count()
        except UnitStateError as error:
            app.state.seen.append(error.reason)

    def fail():
        raise RuntimeError

    @app.post("/things", status_code=201)
    def add(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        source = shop.source
        shop.on_commit(lambda: tasks.add_task(look, source, thing.key))
        return shop.things.add(thing)

    @app.post("/misuse", status_code=201)
    def add_and_misuse(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(misuse, shop)
        return shop.things.add(thing)

    @app.post("/raising", status_code=201)
    def add_and_raise(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(fail)
        return shop.things.add(thing)

    @app.post("/callback", status_code=201)
    def add_and_fail(thing: Thing, shop: ShopDep) -> Thing:
        shop.on_commit(fail)
        return shop.things.add(thing)

    @app.get("/keys")
    def keys(shop: ShopDep) -> list[str]:
        return [thing.key for thing in shop.things.find(order_by="key")]

    return app


def application_async(db):
    ShopDep = Annotated[AsyncShop, provide(AsyncShop, db)]
    app = FastAPI()
    install(app, db)
    app.state.seen = []

    async def look(source, key):
        async with AsyncShop(source) as own:
            app.state.seen.append(await own.things.exists(key=key))
            await own.things.add(Thing(key=f"after {key}"))

    async def misuse(shop):
        try:
            await shop.things.count()
        except UnitStateError as error:
            app.state.seen.append(error.reason)

    async def fail():
        raise RuntimeError

    @app.post("/things", status_code=201)
    async def add(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        source = shop.source
        shop.on_commit(lambda: tasks.add_task(look, source, thing.key))
        return await shop.things.add(thing)

    @app.post("/misuse", status_code=201)
    async def add_and_misuse(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(misuse, shop)
        return await shop.things.add(thing)

    @app.post("/raising", status_code=201)
    async def add_and_raise(thing: Thing, shop: ShopDep, tasks: BackgroundTasks) -> Thing:
        tasks.add_task(fail)
        return await shop.things.add(thing)

    @app.post("/callback", status_code=201)
    async def add_and_fail(thing: Thing, shop: ShopDep) -> Thing:
        shop.on_commit(fail)
        return await shop.things.add(thing)

    @app.get("/keys")
    async def keys(shop: ShopDep) -> list[str]:
        return [thing.key for thing in await shop.things.find(order_by="key")]

    return app


def test_work_after_the_answer_sees_what_was_committed(ask, app):
    assert ask.post("/things", json={"key": "a"}).status_code == 201
    assert eventually(lambda: {"a", "after a"} <= set(ask.get("/keys").json()))
    assert app.state.seen == [True]


def test_it_is_dropped_with_what_it_would_have_followed(ask, app):
    assert ask.post("/things", json={"key": "k" * 21}).status_code == 422
    assert ask.get("/keys").status_code == 200
    assert app.state.seen == []


def test_a_unit_is_closed_when_its_request_is_answered(ask, app):
    assert ask.post("/misuse", json={"key": "b"}).status_code == 201
    assert eventually(lambda: app.state.seen == ["not_open"])


def test_a_background_task_that_raises_loses_nothing(ask, address):
    assert ask.post("/raising", json={"key": "c"}).status_code == 201
    with client(address) as other:  # the server cuts the first one's line
        assert "c" in other.get("/keys").json()


def test_a_callback_that_fails_is_logged_and_the_request_answered(ask, caplog):
    assert ask.post("/callback", json={"key": "d"}).status_code == 201
    assert "d" in ask.get("/keys").json()

    logged = [record.exc_info[0] for record in caplog.records if record.name == "sqlrepo" and record.exc_info]
    assert logged == [RuntimeError]

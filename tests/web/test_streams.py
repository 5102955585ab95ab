"""Streams have a read-only unit of their own, which ends with them, however they end."""

import socket
from itertools import repeat
from typing import Annotated
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from sqlrepo import ReadOnlyError
from sqlrepo.fastapi import Stream, install, override, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.conftest import in_use, opened
from tests.web.domain import AsyncShop, Shop, Thing
from tests.web.server import client, eventually, serving

KEYS = [f"k{n:03}" for n in range(300)]
PIECE = "x" * 1_000_000  # more than fits on the way, so that the server waits for the client


STORES = ["memory", "sqlite", "postgresql", "aiosqlite", "asyncpg"]


@pytest.fixture(params=STORES, scope="module")
def db(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("streams")) as given:
        yield given


@pytest.fixture(scope="module")
def app(db):
    app = application_async(db) if isinstance(db, AsyncDatabase) else application(db)
    install(app, db)
    return app


@pytest.fixture(scope="module")
def address(app):
    with serving(app) as found, client(found) as ask:
        assert ask.post("/fill").status_code == 200
        yield found


@pytest.fixture
def ask(address):
    with client(address) as made:
        yield made


def application(db):
    ShopStream = Annotated[Stream[Shop], provide_stream(Shop, db)]
    app = FastAPI()
    app.state.alias, app.state.caught, app.state.kept = ShopStream, [], []

    @app.get("/keys")
    def keys(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(stream(lambda shop: (f"{thing.key}\n" for thing in shop.things.stream())))

    @app.get("/endless")
    def endless(stream: ShopStream) -> StreamingResponse:
        def pieces(shop):
            shop.things.count()
            yield from repeat(PIECE)

        return StreamingResponse(kept(app, stream(pieces)))

    @app.get("/first")
    def begin(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(first(kept(app, stream(lambda shop: shop.things.stream()))))

    @app.get("/writes")
    def writes(stream: ShopStream) -> StreamingResponse:
        def pieces(shop):
            try:
                shop.things.add(Thing(key="sneaked in"))
            except ReadOnlyError as error:
                app.state.caught.append(error)
            yield "done"

        return StreamingResponse(stream(pieces))

    @app.post("/fill")
    def fill(shop: Annotated[Shop, provide(Shop, db)]) -> None:
        shop.things.add_many(Thing(key=key) for key in KEYS)

    return app


def application_async(db):
    ShopStream = Annotated[Stream[AsyncShop], provide_stream(AsyncShop, db)]
    app = FastAPI()
    app.state.alias, app.state.caught, app.state.kept = ShopStream, [], []

    @app.get("/keys")
    async def keys(stream: ShopStream) -> StreamingResponse:
        async def lines(shop):
            async for thing in shop.things.stream():
                yield f"{thing.key}\n"

        return StreamingResponse(stream(lines))

    @app.get("/endless")
    async def endless(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(kept(app, stream(endless_async)))

    @app.get("/first")
    async def begin(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(first(kept(app, stream(lambda shop: shop.things.stream()))))

    @app.get("/writes")
    async def writes(stream: ShopStream) -> StreamingResponse:
        async def pieces(shop):
            try:
                await shop.things.add(Thing(key="sneaked in"))
            except ReadOnlyError as error:
                app.state.caught.append(error)
            yield "done"

        return StreamingResponse(stream(pieces))

    @app.post("/fill")
    async def fill(shop: Annotated[AsyncShop, provide(AsyncShop, db)]) -> None:
        await shop.things.add_many(Thing(key=key) for key in KEYS)

    return app


def kept(app, pieces):
    """Where it cannot be collected, so that nothing but its end ends it."""
    app.state.kept.append(pieces)
    return pieces


async def first(things):
    async for thing in things:
        yield thing.key
        break


async def endless_async(shop):
    await shop.things.count()
    for piece in repeat(PIECE):
        yield piece


def test_a_stream_gives_all(ask, db):
    assert ask.get("/keys").text.splitlines() == KEYS
    assert eventually(lambda: in_use(db) == 0)


def test_a_stream_writes_nothing(ask, app):
    assert ask.get("/writes").text == "done"
    assert ask.get("/keys").text.splitlines() == KEYS
    assert [type(error) for error in app.state.caught] == [ReadOnlyError]


def test_a_stream_that_is_not_read_to_its_end_leaves_nothing_behind(ask, db):
    assert ask.get("/first").text == KEYS[0]
    assert eventually(lambda: in_use(db) == 0)


def test_a_client_that_goes_away_leaves_nothing_behind(address, db):
    where = urlsplit(address)
    for _ in range(3):
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(200).startswith(b"HTTP/1.1 200")
            assert len(connection.recv(1000)) > 0
            if not isinstance(db, InMemoryDatabase):
                assert eventually(lambda: in_use(db) == 1)
        assert eventually(lambda: in_use(db) == 0)


def test_a_stream_can_be_given_another_store(ask, app):
    override(app, app.state.alias, filled := InMemoryDatabase())
    with Shop(filled) as shop:
        shop.things.add(Thing(key="there"))
    try:
        assert ask.get("/keys").text == "there\n"
    finally:
        app.dependency_overrides.clear()

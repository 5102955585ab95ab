"""Streams have a read-only unit of their own, which ends with them, however they end."""

import socket
from typing import Annotated
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from sqlrepo import ReadOnlyError
from sqlrepo.fastapi import Stream, install, override, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.conftest import in_use
from tests.web.domain import AsyncShop, Shop, Thing
from tests.web.server import client, eventually, serving

ROWS = 300
PIECE = "x" * 4000


@pytest.fixture(params=["memory", "sqlite", "postgresql", "aiosqlite", "asyncpg"])
def db(request, open_store):
    return open_store(request.param)


@pytest.fixture
def app(db):
    awaited = isinstance(db, AsyncDatabase)
    unit = AsyncShop if awaited else Shop
    ShopStream = Annotated[Stream[unit], provide_stream(unit, db)]
    ShopDep = Annotated[unit, provide(unit, db)]
    app = FastAPI()
    install(app, db)
    app.state.alias, app.state.caught = ShopStream, []

    @app.get("/keys")
    def keys(stream: ShopStream) -> StreamingResponse:
        def lines(shop):
            return (f"{thing.key}\n" for thing in shop.things.stream())

        async def lines_async(shop):
            async for thing in shop.things.stream():
                yield f"{thing.key}\n"

        return StreamingResponse(stream(lines_async if awaited else lines))

    @app.get("/endless")
    def endless(stream: ShopStream) -> StreamingResponse:
        def pieces(shop):
            shop.things.count()
            while True:
                yield PIECE

        async def pieces_async(shop):
            await shop.things.count()
            while True:
                yield PIECE

        return StreamingResponse(stream(pieces_async if awaited else pieces))

    @app.get("/writes")
    def writes(stream: ShopStream) -> StreamingResponse:
        async def lines(shop):
            try:
                added = shop.things.add(Thing(key="sneaked in"))
                await added
            except ReadOnlyError as error:
                app.state.caught.append(error)
            yield ""

        return StreamingResponse(stream(lines))

    @app.post("/fill")
    async def fill(shop: ShopDep) -> None:
        added = shop.things.add_many(Thing(key=f"k{n:03}") for n in range(ROWS))
        if awaited:
            await added

    @app.get("/count")
    async def count(shop: ShopDep) -> int:
        counted = shop.things.count()
        return await counted if awaited else counted

    return app


def test_a_stream_gives_all(app, db):
    with serving(app) as address, client(address) as ask:
        assert ask.post("/fill").status_code == 200
        lines = ask.get("/keys").text.splitlines()
        assert eventually(lambda: in_use(db) == 0)

    assert lines == [f"k{n:03}" for n in range(ROWS)]


def test_a_stream_writes_nothing(app):
    with serving(app) as address, client(address) as ask:
        assert ask.get("/writes").status_code == 200
        assert ask.get("/count").json() == 0

    assert [type(error) for error in app.state.caught] == [ReadOnlyError]


def test_a_client_that_goes_away_leaves_nothing_behind(app, db):
    with serving(app) as address, client(address) as ask:
        where = urlsplit(address)
        for _ in range(3):
            with socket.create_connection((where.hostname, where.port)) as connection:
                connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(20000).startswith(b"HTTP/1.1 200")
                if not isinstance(db, InMemoryDatabase):
                    assert eventually(lambda: in_use(db) == 1)
            assert eventually(lambda: in_use(db) == 0)
        assert ask.get("/count").json() == 0


def test_a_stream_can_be_given_another_store(app):
    override(app, app.state.alias, filled := InMemoryDatabase())
    with Shop(filled) as shop:
        shop.things.add(Thing(key="there"))
    with serving(app) as address, client(address) as ask:
        assert ask.get("/keys").text == "there\n"

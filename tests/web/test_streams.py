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
from tests.web.conftest import in_use, opened, repeats
from tests.web.domain import Shop, Thing, outcome, shop_for, to_lines
from tests.web.server import client, eventually, serving

KEYS = [f"k{n:03}" for n in range(300)]
PIECE = "x" * 1_000_000  # more than the socket buffers, so that the server waits for the client


@pytest.fixture(params=["memory", "sqlite", "aiosqlite", *repeats("postgresql", "asyncpg")], scope="module")
def db(request, tmp_path_factory):
    with opened(request.param, tmp_path_factory.mktemp("streams")) as given:
        yield given


@pytest.fixture(scope="module")
def app(db):
    return application(db)


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
    unit, read = shop_for(db), read_async if isinstance(db, AsyncDatabase) else read_sync
    ShopStream = Annotated[Stream[unit], provide_stream(unit, db)]
    app = FastAPI()
    install(app, db)
    app.state.alias, app.state.caught, app.state.kept = ShopStream, [], []

    def kept(values):
        app.state.kept.append(values)  # so that no collection ends the iterator
        return values

    @app.get("/keys")
    async def keys(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(stream(lambda shop: to_lines(shop.things.stream())))

    @app.get("/endless")
    async def endless(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(kept(stream(read(lambda shop: shop.things.count(), repeat(PIECE), app))))

    @app.get("/first")
    async def begin(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(first(kept(stream(lambda shop: shop.things.stream()))))

    @app.get("/writes")
    async def writes(stream: ShopStream) -> StreamingResponse:
        return StreamingResponse(stream(read(lambda shop: shop.things.add(Thing(key="new")), ["done"], app)))

    @app.post("/fill")
    async def fill(shop: Annotated[unit, provide(unit, db)]) -> None:
        await outcome(shop.things.add_many(Thing(key=key) for key in KEYS))

    return app


def read_sync(call, values, app):
    def pieces(shop):
        try:
            call(shop)
        except ReadOnlyError as error:
            app.state.caught.append(error)
        yield from values

    return pieces


def read_async(call, values, app):
    async def pieces(shop):
        try:
            await call(shop)
        except ReadOnlyError as error:
            app.state.caught.append(error)
        for value in values:
            yield value

    return pieces


async def first(things):
    async for thing in things:
        yield thing.key
        break


def test_a_stream_sends_all_rows(ask, db):
    assert ask.get("/keys").text.splitlines() == KEYS
    assert eventually(lambda: in_use(db) == 0)


def test_a_stream_cannot_write(ask, app):
    assert ask.get("/writes").text == "done"
    assert ask.get("/keys").text.splitlines() == KEYS
    assert [type(error) for error in app.state.caught] == [ReadOnlyError]


def test_a_stream_that_is_not_exhausted_gives_its_connection_back(ask, db):
    assert ask.get("/first").text == KEYS[0]
    assert eventually(lambda: in_use(db) == 0)


def test_a_disconnected_client_leaves_no_connection_in_use(address, db):
    where = urlsplit(address)
    for _ in range(3):
        with socket.create_connection((where.hostname, where.port)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(200).startswith(b"HTTP/1.1 200")
            assert len(connection.recv(1000)) > 0
            if not isinstance(db, InMemoryDatabase):
                assert eventually(lambda: in_use(db) == 1)
        assert eventually(lambda: in_use(db) == 0)


def test_a_streams_database_can_be_overridden(ask, app):
    override(app, app.state.alias, filled := InMemoryDatabase())
    with Shop(filled) as shop:
        shop.things.add(Thing(key="there"))
    try:
        assert ask.get("/keys").text == "there\n"
    finally:
        app.dependency_overrides.clear()

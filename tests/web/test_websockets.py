"""A unit of work is for one message of a web socket: `check_routes` refuses one that lasts as long as the socket."""

import asyncio
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, WebSocket, WebSocketDisconnect

from sqlrepo import NotFoundError
from sqlrepo.fastapi import RouteError, Stream, check_routes, filters, install, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.conftest import in_use, repeats
from tests.web.domain import AsyncShop, Shop, Thing, ThingQuery, entered, outcome, shop_for

DB = InMemoryDatabase()

ShopDep = Annotated[Shop, provide(Shop, DB)]
Reading = Annotated[Shop, provide(Shop, DB, read_only=True)]


def stock():
    with Shop(DB) as shop:
        yield shop


def service(shop: ShopDep) -> Shop:
    return shop


async def holding(socket: WebSocket, shop: ShopDep): ...
async def reading(socket: WebSocket, shop: Reading): ...
async def holding_async(socket: WebSocket, shop: Annotated[AsyncShop, provide(AsyncShop, DB)]): ...
async def below(socket: WebSocket, shop: Annotated[Shop, Depends(service)]): ...
async def own(socket: WebSocket, shop: Annotated[Shop, Depends(stock, scope="function")]): ...
async def own_late(socket: WebSocket, shop: Annotated[Shop, Depends(stock)]): ...


async def plain(socket: WebSocket, token: str = ""): ...
async def streams(socket: WebSocket, stream: Annotated[Stream[Shop], provide_stream(Shop, DB)]): ...
async def asks(socket: WebSocket, query: Annotated[ThingQuery, filters(ThingQuery)]): ...


@pytest.mark.parametrize("endpoint", [holding, reading, holding_async, below, own, own_late])
def test_a_unit_as_long_as_the_socket_is_refused(endpoint):
    app, router = FastAPI(), APIRouter(prefix="/deep")
    app.websocket("/way")(endpoint)
    router.websocket("/way")(endpoint)
    app.include_router(router)

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    found = [(refusal.route, refusal.reason) for refusal in refused.value.refusals]
    assert found == [("WEBSOCKET /way", "websocket"), ("WEBSOCKET /deep/way", "websocket")]


@pytest.mark.parametrize("endpoint", [plain, streams, asks])
def test_other_dependencies_are_accepted(endpoint):
    app = FastAPI()
    app.websocket("/way")(endpoint)

    check_routes(app)


def test_a_bare_query_beside_other_parameters_is_refused():
    app = FastAPI()

    @app.websocket("/way")
    async def bare(socket: WebSocket, query: Annotated[ThingQuery, Query()], token: str = ""): ...

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    assert [refusal.reason for refusal in refused.value.refusals] == ["bare_query"]


def talk(app, *texts, db):
    """Send texts over a socket, then disconnect; return the answers."""
    said = [{"type": "websocket.connect"}, *({"type": "websocket.receive", "text": text} for text in texts)]
    said += [{"type": "websocket.disconnect", "code": 1001}]
    answers = []

    async def receive():
        return said.pop(0)

    async def send(message):
        answers.append(message.get("text", message["type"]))

    async def life():
        try:
            await app(
                {"type": "websocket", "path": "/", "headers": [], "query_string": b"", "subprotocols": []},
                receive,
                send,
            )
        finally:
            assert in_use(db) == 0
            if isinstance(db, AsyncDatabase):
                await db.dispose()

    asyncio.run(life())
    return answers


@pytest.fixture(params=["memory", "sqlite", "aiosqlite", *repeats("postgresql", "asyncpg")])
def db(request, open_store):
    return open_store(request.param)


def application(db):
    """A unit for each message, as the documentation has it."""
    unit = shop_for(db)
    app = FastAPI()
    install(app, db)

    @app.websocket("/")
    async def add(socket: WebSocket) -> None:
        await socket.accept()
        async for key in socket.iter_text():
            async with entered(unit(db)) as shop:
                await outcome(shop.things.add(Thing(key=key)))
                if key == "missing":
                    await outcome(shop.things.get(77))
            async with entered(unit(db, read_only=True)) as shop:
                found = await outcome(shop.things.count())
            await socket.send_text(f"{found} and {in_use(db)} held")

    return app


def test_a_unit_for_each_message_commits_it_and_holds_no_connection_in_between(db):
    assert talk(application(db), "a", "b", db=db) == ["websocket.accept", "1 and 0 held", "2 and 0 held"]


def test_an_error_reaches_the_server_and_rolls_its_message_back(db):
    with pytest.raises(NotFoundError):
        talk(application(db), "a", "missing", db=db)

    assert keys(db) == ["a"]


def keys(db):
    async def read():
        async with entered(shop_for(db)(db)) as shop:
            found = [thing.key for thing in await outcome(shop.things.find(order_by="key"))]
        await outcome(db.dispose())
        return found

    return asyncio.run(read())


def unchecked(db):
    """An application without `install`, whose routes are not checked."""
    app = FastAPI()
    unit = shop_for(db)

    @app.websocket("/")
    async def add(socket: WebSocket, shop: Annotated[unit, provide(unit, db)]) -> None:
        await socket.accept()
        for text in ("first", "second"):
            await outcome(shop.things.add(Thing(key=await socket.receive_text())))
            await socket.send_text(text)

    return app


def test_an_unchecked_socket_commits_when_the_endpoint_returns(db):
    assert talk(unchecked(db), "a", "b", db=db) == ["websocket.accept", "first", "second"]
    assert keys(db) == ["a", "b"]


def test_an_unchecked_socket_rolls_back_when_the_client_disconnects(db):
    with pytest.raises(WebSocketDisconnect):
        talk(unchecked(db), "a", db=db)

    assert keys(db) == []

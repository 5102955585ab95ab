"""A unit of work is for a message, not for a socket: what a socket would hold is refused by name."""

import asyncio
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, WebSocket, WebSocketDisconnect

from sqlrepo import NotFoundError
from sqlrepo.fastapi import RouteError, Stream, check_routes, filters, install, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.conftest import in_use
from tests.web.domain import AsyncShop, Shop, Thing, ThingQuery

STORES = ["memory", "sqlite", "postgresql", "aiosqlite", "asyncpg"]
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
def test_a_unit_as_long_as_a_socket_is_refused_by_name(endpoint):
    app, router = FastAPI(), APIRouter(prefix="/deep")
    app.websocket("/way")(endpoint)
    router.websocket("/way")(endpoint)
    app.include_router(router)

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    found = [(refusal.route, refusal.reason) for refusal in refused.value.refusals]
    assert found == [("WEBSOCKET /way", "websocket"), ("WEBSOCKET /deep/way", "websocket")]


@pytest.mark.parametrize("endpoint", [plain, streams, asks])
def test_what_holds_nothing_is_accepted(endpoint):
    app = FastAPI()
    app.websocket("/way")(endpoint)

    check_routes(app)


def test_a_bare_query_beside_others_is_refused_there_too():
    app = FastAPI()

    @app.websocket("/way")
    async def bare(socket: WebSocket, query: Annotated[ThingQuery, Query()], token: str = ""): ...

    with pytest.raises(RouteError) as refused:
        check_routes(app)

    assert [refusal.reason for refusal in refused.value.refusals] == ["bare_query"]


def talk(app, *texts, db):
    """Say something over a socket, then leave; give what was answered."""
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


@pytest.fixture(params=STORES)
def db(request, open_store):
    return open_store(request.param)


def per_message(db):
    """The way that is taught: a unit for each message."""
    app = FastAPI()
    install(app, db)
    if isinstance(db, AsyncDatabase):

        @app.websocket("/")
        async def add_async(socket: WebSocket) -> None:
            await socket.accept()
            async for key in socket.iter_text():
                async with AsyncShop(db) as shop:
                    await shop.things.add(Thing(key=key))
                async with AsyncShop(db, read_only=True) as shop:
                    found = await shop.things.count()
                await socket.send_text(f"{found} and {in_use(db)} held")
    else:

        @app.websocket("/")
        async def add(socket: WebSocket) -> None:
            await socket.accept()
            async for key in socket.iter_text():
                with Shop(db) as shop:
                    shop.things.add(Thing(key=key))
                with Shop(db, read_only=True) as shop:
                    found = shop.things.count()
                await socket.send_text(f"{found} and {in_use(db)} held")

    return app


def test_a_unit_for_each_message_is_committed_with_it_and_holds_nothing_in_between(db):
    assert talk(per_message(db), "a", "b", db=db) == ["websocket.accept", "1 and 0 held", "2 and 0 held"]


def test_an_error_of_ours_goes_on_to_the_server_and_its_message_is_undone(db):
    with pytest.raises(NotFoundError):
        talk(looking(db), "a", "missing", db=db)

    assert keys(db) == ["a"]


def looking(db):
    app = FastAPI()
    install(app, db)
    if isinstance(db, AsyncDatabase):

        @app.websocket("/")
        async def look_async(socket: WebSocket) -> None:
            await socket.accept()
            async for key in socket.iter_text():
                async with AsyncShop(db) as shop:
                    await shop.things.add(Thing(key=key))
                    await shop.things.one(key="a")
                    if key == "missing":
                        await shop.things.get(77)
    else:

        @app.websocket("/")
        async def look(socket: WebSocket) -> None:
            await socket.accept()
            async for key in socket.iter_text():
                with Shop(db) as shop:
                    shop.things.add(Thing(key=key))
                    shop.things.one(key="a")
                    if key == "missing":
                        shop.things.get(77)

    return app


def keys(db):
    if not isinstance(db, AsyncDatabase):
        with Shop(db) as shop:
            return [thing.key for thing in shop.things.find(order_by="key")]

    async def read():
        async with AsyncShop(db) as shop:
            found = [thing.key for thing in await shop.things.find(order_by="key")]
        await db.dispose()
        return found

    return asyncio.run(read())


def unchecked(db):
    """An application without `install`, whose routes nobody has looked at."""
    app = FastAPI()
    unit = AsyncShop if isinstance(db, AsyncDatabase) else Shop

    @app.websocket("/")
    async def add(socket: WebSocket, shop: Annotated[unit, provide(unit, db)]) -> None:
        await socket.accept()
        for text in ("first", "second"):
            added = shop.things.add(Thing(key=await socket.receive_text()))
            await added if unit is AsyncShop else added
            await socket.send_text(text)

    return app


def test_where_nobody_looked_it_commits_when_the_endpoint_returns(db):
    assert talk(unchecked(db), "a", "b", db=db) == ["websocket.accept", "first", "second"]
    assert keys(db) == ["a", "b"]


def test_where_nobody_looked_a_client_that_goes_away_undoes_all_and_leaves_nothing_behind(db):
    with pytest.raises(WebSocketDisconnect):
        talk(unchecked(db), "a", db=db)

    assert keys(db) == []

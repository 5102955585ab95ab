"""Log records name the route and the unit, and hold no values of clients."""

import logging
from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import StreamingResponse

from sqlrepo.fastapi import Stream, install, provide, provide_stream
from tests.clock import clock
from tests.web.domain import AsyncShop, Shop, Thing
from tests.web.server import client, serving

__all__ = ["clock"]


def warnings(caplog):
    return [record for record in caplog.records if record.name == "sqlrepo" and record.levelno == logging.WARNING]


def application(db, clock):
    app = FastAPI()
    router = APIRouter(prefix="/inner")
    ShopDep = Annotated[Shop, provide(Shop, db)]

    @app.get("/waits/{key}")
    def waits(key: str, shop: ShopDep) -> int:
        found = shop.things.count(key=key)
        clock.sleep(2)  # a server elsewhere, say
        return found

    @app.get("/commits/{key}")
    def commits(key: str, shop: ShopDep) -> int:
        found = shop.things.count(key=key)
        shop.commit()
        clock.sleep(2)
        return found + shop.things.count()

    @router.get("/by-hand/{key}")
    def by_hand(key: str) -> int:
        with Shop(db) as shop:
            found = shop.things.count(key=key)
            clock.sleep(2)
            return found + shop.things.count()

    @app.get("/streams/{key}")
    def streams(key: str, stream: Annotated[Stream[Shop], provide_stream(Shop, db)]) -> StreamingResponse:
        def lines(shop):
            yield f"{shop.things.count(key=key)}"
            clock.sleep(2)

        return StreamingResponse(stream(lines))

    app.include_router(router, prefix="/first")
    app.include_router(router, prefix="/second")
    install(app, db)
    return app


@pytest.fixture
def ask(sync_db, clock):
    app = application(sync_db, clock)
    app.mount("/mounted", application(sync_db, clock))
    with serving(app) as address, client(address) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "route", "name"),
    [
        ("/waits/s3cret", "GET /waits/{key}", "waits"),
        ("/first/inner/by-hand/s3cret", "GET /first/inner/by-hand/{key}", "by_hand"),
        ("/second/inner/by-hand/s3cret", "GET /second/inner/by-hand/{key}", "by_hand"),
        ("/streams/s3cret", "GET /streams/{key}", "streams"),
        ("/mounted/waits/s3cret", "GET /mounted/waits/{key}", "waits"),
    ],
)
def test_a_connection_held_without_a_query_is_a_warning_with_the_route(ask, caplog, path, route, name):
    assert ask.get(path).status_code == 200
    [warning] = warnings(caplog)
    assert warning.route == f"{route}, application.<locals>.{name}"
    assert warning.route in warning.getMessage()
    assert "Shop" in warning.getMessage()
    assert "s3cret" not in warning.getMessage()


def test_an_ended_transaction_holds_no_connection(ask, caplog):
    assert ask.get("/commits/s3cret").status_code == 200
    assert warnings(caplog) == []


def test_an_async_unit_is_warned_about(async_db, clock, caplog):
    app = FastAPI()

    @app.get("/waits")
    async def waits(shop: Annotated[AsyncShop, provide(AsyncShop, async_db)]) -> int:
        found = await shop.things.count()
        clock.sleep(2)
        return found

    install(app, async_db)
    with serving(app) as address, client(address) as ask:
        assert ask.get("/waits").status_code == 200
    [warning] = warnings(caplog)
    assert warning.route.startswith("GET /waits, ")
    assert "AsyncShop" in warning.getMessage()


def test_begin_and_end_are_logged_with_the_route(sync_db, caplog):
    caplog.set_level(logging.DEBUG, "sqlrepo")
    app = FastAPI()

    @app.post("/things", status_code=201)
    def create(thing: Thing, shop: Annotated[Shop, provide(Shop, sync_db)]) -> Thing:
        return shop.things.add(thing)

    install(app, sync_db)
    with serving(app) as address, client(address) as ask:
        assert ask.post("/things", json={"key": "s3cret"}).status_code == 201
        assert ask.post("/things", json={"key": "s3cret"}).status_code == 409
    lines = [
        record.getMessage() for record in caplog.records if getattr(record, "route", "").startswith("POST /things")
    ]
    assert [any(word in line for line in lines) for word in ("began", "committed", "aborted", "rolled back")] == [
        True
    ] * 4
    assert not any("s3cret" in line for line in lines)


def test_records_outside_of_requests_have_no_route(sync_db, clock, caplog):
    install(FastAPI(), sync_db)
    with Shop(sync_db) as shop:
        shop.things.count()
        clock.sleep(2)
    [warning] = warnings(caplog)
    assert not hasattr(warning, "route")

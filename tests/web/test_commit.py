"""COMMIT comes before the answer."""

from typing import Annotated

import pytest
from fastapi import FastAPI

from sqlrepo.fastapi import install, override, provide
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from tests.web.domain import AsyncKennel, AsyncShop, Dog, Kennel, Shop, Thing
from tests.web.server import client, serving

MISSING = 424242
PAIRS = 170  # on each of six kinds


def application(db, style="sync"):
    """Things to create and to read, with sync or async units, in sync or async endpoints."""
    awaited = isinstance(db, AsyncDatabase)
    shop, kennel = (AsyncShop, AsyncKennel) if awaited else (Shop, Kennel)
    Writing = Annotated[shop, provide(shop, db)]
    Reading = Annotated[shop, provide(shop, db, read_only=True)]
    Dogs = Annotated[kennel, provide(kennel, db)]
    app = FastAPI()
    install(app, db)
    app.state.alias = Writing

    def add(thing: Thing, shop: Writing) -> Thing:
        return shop.things.add(thing)

    def read(key: str, shop: Reading) -> Thing:
        return shop.things.one(key=key)

    def keep(dog: Dog, kennel: Dogs) -> Dog:
        return kennel.dogs.add(dog)

    async def add_here(thing: Thing, shop: Writing) -> Thing:
        added = shop.things.add(thing)
        return await added if awaited else added

    async def read_here(key: str, shop: Reading) -> Thing:
        found = shop.things.one(key=key)
        return await found if awaited else found

    async def keep_here(dog: Dog, kennel: Dogs) -> Dog:
        kept = kennel.dogs.add(dog)
        return await kept if awaited else kept

    app.post("/things", status_code=201)(add if style == "sync" else add_here)
    app.get("/things/{key}")(read if style == "sync" else read_here)
    app.post("/dogs", status_code=201)(keep if style == "sync" else keep_here)
    return app


@pytest.fixture(params=["sqlite-sync", "sqlite-async", "postgresql-sync", "postgresql-async", "aiosqlite", "asyncpg"])
def app(request, open_store):
    name, _, style = request.param.partition("-")
    return application(open_store(name), style or "async")


def test_failing_commit_is_never_answered_as_success(app):
    with serving(app) as address, client(address) as ask:
        answer = ask.post("/dogs", json={"name": "stray", "owner_id": MISSING})

    assert (answer.status_code, answer.json()["code"]) == (409, "foreign_key")


def test_what_was_answered_is_there_for_the_next_reader(app):
    stale = []
    with serving(app) as address, client(address) as ask, client(address) as other:
        for n in range(PAIRS):
            created = ask.post("/things", json={"key": f"k{n}"})
            found = other.get(f"/things/k{n}")
            if (created.status_code, found.status_code) != (201, 200) or created.json() != found.json():
                stale.append((n, created.text, found.text))

    assert stale == []


def test_endpoint_that_raises_is_rolled_back(sync_db):
    app = application(sync_db)
    Writing = app.state.alias

    @app.post("/broken")
    def broken(shop: Writing) -> None:
        shop.things.add(Thing(key="half"))
        raise RuntimeError

    with serving(app) as address, client(address) as ask, client(address) as other:  # the first one's line is cut
        assert ask.post("/broken").status_code == 500
        assert other.get("/things/half").status_code == 404


def test_override_puts_another_store_beneath_an_alias(sync_db):
    app = application(sync_db)
    override(app, app.state.alias, memory := InMemoryDatabase())
    with serving(app) as address, client(address) as ask:
        assert ask.post("/things", json={"key": "there"}).status_code == 201
        assert ask.get("/things/there").status_code == 404

    with Shop(memory) as shop:
        assert shop.things.exists(key="there")

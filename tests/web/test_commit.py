"""COMMIT comes before the response."""

from typing import Annotated

import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from sqlrepo import DatabaseUnavailableError, ForeignKeyViolationError
from sqlrepo.fastapi import install, provide
from sqlrepo.sqlalchemy import AsyncDatabase
from sqlrepo.testing import fail_next
from tests.web.conftest import in_use, repeats
from tests.web.domain import AsyncKennel, AsyncShop, Dog, Kennel, Shop, Thing
from tests.web.server import client, serving

MISSING = 424242
PAIRS = 130  # on each of eight kinds


def application(db, style="sync"):
    """Things to create and to read, with sync or async units, in sync or async endpoints."""
    awaited = isinstance(db, AsyncDatabase)
    shop, kennel = (AsyncShop, AsyncKennel) if awaited else (Shop, Kennel)
    Writing = Annotated[shop, provide(shop, db)]
    Reading = Annotated[shop, provide(shop, db, read_only=True)]
    Dogs = Annotated[kennel, provide(kennel, db)]
    app = FastAPI()
    install(app, db)
    app.state.alias, app.state.db = Writing, db

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


@pytest.fixture(
    params=[
        *("sqlite-sync", "sqlite-async", "aiosqlite", "postgresql-sync"),
        *repeats("postgresql-async", "mariadb-sync", "asyncpg", "mariadb+asyncmy"),
    ]
)
def app(request, open_store):
    name, _, style = request.param.partition("-")
    return application(open_store(name), style or "async")


def test_a_failed_commit_is_never_a_success(app):
    with serving(app) as address, client(address) as ask:
        answer = ask.post("/dogs", json={"name": "stray", "owner_id": MISSING})

    assert (answer.status_code, answer.json()["code"]) == (409, "foreign_key")


LOST = DatabaseUnavailableError("gone")
REFUSED = ForeignKeyViolationError("fk_secret_tie", ["owner_id"])


@pytest.mark.parametrize(
    ("error", "expected"), [(REFUSED, (409, "foreign_key", ["owner_id"])), (LOST, (503, "unknown_outcome", []))]
)
def test_a_refused_or_lost_commit_gets_its_status(app, error, expected):
    with serving(app) as address, client(address) as ask:
        with fail_next("commit", error, on=app.state.db):
            answer = ask.post("/things", json={"key": "a"})
        there = ask.get("/things/a")

    body = answer.json()
    assert (answer.status_code, body["code"], body["fields"]) == expected
    assert there.status_code == 404
    assert in_use(app.state.db) == 0


@pytest.mark.parametrize("name", ["mariadb", "mariadb+asyncmy"])
def test_a_connection_killed_before_its_commit_is_no_success(open_store, name):
    """MariaDB checks references with each statement, so this is how a COMMIT really fails there."""
    db = open_store(name)
    app = application(db, "async")

    @app.post("/killed", status_code=201)
    async def killed(thing: Thing, shop: app.state.alias) -> Thing:
        added = shop.things.add(thing)
        added = await added if isinstance(db, AsyncDatabase) else added
        kill_writers(db.engine.url)
        return added

    with serving(app) as address, client(address) as ask:
        answer = ask.post("/killed", json={"key": "a"})
        assert ask.get("/things/a").status_code == 404
        assert ask.post("/things", json={"key": "a"}).status_code == 201

    assert (answer.status_code, answer.json()["code"]) == (503, "unknown_outcome")
    assert "Retry-After" not in answer.headers


def kill_writers(url):
    """End the connections to a database that have an open transaction."""
    admin = sa.create_engine(url.set(drivername="mysql+pymysql"), poolclass=sa.NullPool)
    with admin.connect() as connection:
        writers = connection.exec_driver_sql(
            "SELECT id FROM information_schema.processlist JOIN information_schema.innodb_trx "
            "ON trx_mysql_thread_id = id WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in writers.all():
            connection.exec_driver_sql(f"KILL {number}")


def test_a_response_is_sent_after_its_rows_are_visible(app):
    stale = []
    with serving(app) as address, client(address) as ask, client(address) as other:
        for n in range(PAIRS):
            created = ask.post("/things", json={"key": f"k{n}"})
            found = other.get(f"/things/k{n}")
            if (created.status_code, found.status_code) != (201, 200) or created.json() != found.json():
                stale.append((n, created.text, found.text))

    assert stale == []


def test_an_endpoint_that_raises_is_rolled_back(sync_db):
    app = application(sync_db)
    Writing = app.state.alias

    @app.post("/broken")
    def broken(shop: Writing) -> None:
        shop.things.add(Thing(key="half"))
        raise RuntimeError

    with serving(app) as address, client(address) as ask, client(address) as other:  # the first one's line is cut
        assert ask.post("/broken").status_code == 500
        assert other.get("/things/half").status_code == 404

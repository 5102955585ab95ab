"""An application as a server with ``--preload`` imports it: its database has been used before workers are forked."""

import asyncio
import os
from typing import Annotated

import httpx
import sqlalchemy as sa
from fastapi import FastAPI

from sqlrepo.fastapi import install, provide
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.web.domain import AsyncShop, Prompt, Shop, Thing, outcome

URL = sa.make_url(os.environ["SQLREPO_PREFORK_URL"])
WHERE = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()", "sqlite": "SELECT 0"}
AWAITED = URL.get_dialect().is_async
STATEMENT = sa.text(WHERE[URL.get_backend_name()])

made = []


def database():
    made.append(os.getpid())
    db = (AsyncDatabase if AWAITED else Database)(URL)
    if not AWAITED:
        Prompt.metadata.create_all(db.engine)
    return db


Unit = AsyncShop if AWAITED else Shop
Writing = Annotated[Unit, provide(Unit, database)]
Reading = Annotated[Unit, provide(Unit, database, read_only=True)]

app = FastAPI()
install(app, database)


def where(shop):
    return shop._work.run(lambda driver: driver.unwrap("connection").execute(STATEMENT).scalar_one())


async def respond(shop):
    session = await shop.run(where) if AWAITED else where(shop)
    return {"worker": os.getpid(), "session": session, "made": made, "before": BEFORE}


@app.post("/things", status_code=201)
async def add(thing: Thing, shop: Writing):
    await outcome(shop.things.add(thing))
    return await respond(shop)


@app.get("/things/{key}")
async def read(key: str, shop: Reading):
    await outcome(shop.things.one(key=key))
    return await respond(shop)


async def first_requests():
    """Use it as workers will: the function is called, and both pools have connections."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://preloaded") as client:
        answers = [await client.post("/things", json={"key": "preloaded"}), await client.get("/things/preloaded")]
        return [answer.raise_for_status().json()["session"] for answer in answers]


BEFORE = []
BEFORE = asyncio.run(first_requests())

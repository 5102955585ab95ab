"""Units of work need asyncio: under trio an application does not start, and a request fails."""

import anyio
import pytest
from fastapi import FastAPI

from sqlrepo import UnsupportedError
from sqlrepo.fastapi import install, provide
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.web.domain import Shop


def test_an_application_does_not_start_on_trio():
    app = FastAPI()
    install(app, InMemoryDatabase())

    async def life():
        async with app.router.lifespan_context(app):
            raise AssertionError

    with pytest.raises(UnsupportedError):
        anyio.run(life, backend="trio")


@pytest.mark.parametrize("given", ["memory", "file", "function"])
def test_a_request_on_trio_raises(given, tmp_path):
    made = []

    def database():
        made.append(InMemoryDatabase())
        return made[0]

    db = {"memory": InMemoryDatabase(), "file": Database(f"sqlite:///{tmp_path}/a.db"), "function": database}[given]
    dependency = provide(Shop, db).dependency

    async def ask():
        async for _ in dependency():
            raise AssertionError

    with pytest.raises(UnsupportedError):
        anyio.run(ask, backend="trio")
    assert made == []

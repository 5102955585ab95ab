"""How many functions of ours one request passes through: each layer does its part once."""

import threading
from collections import Counter
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI

import sqlrepo
from sqlrepo import BaseUnitOfWork, Page, QueryObject
from sqlrepo.driver import PROBES
from sqlrepo.fastapi import filters, install, provide
from sqlrepo.sqlalchemy import Database
from tests.units.domain import Todo, TodoRow, Todos
from tests.web.server import client, serving

ROOT = str(Path(sqlrepo.__file__).parent)

# A coroutine or generator counts each time it goes on. Before, these were 296 and 39.
MOST_CALLS, MOST_FILES = 150, 22


class Wanted(QueryObject[Todo]):
    key_contains: str | None = None
    limit: int = 20
    offset: int = 0


class Shop(BaseUnitOfWork):
    todos: Todos


@pytest.fixture(autouse=True)
def no_test_tools():
    tools, PROBES[:] = PROBES.copy(), []
    yield
    PROBES[:] = tools


def test_a_warm_request_makes_few_calls(tmp_path):
    db = Database(f"sqlite:///{tmp_path}/todo.db")
    TodoRow.metadata.create_all(db.engine)
    with Shop(db) as shop:
        shop.todos.add(Todo(key="milk"))
    app = FastAPI()
    install(app, db)

    @app.get("/todos")
    def find(query: Annotated[Wanted, filters(Wanted)], shop: Annotated[Shop, provide(Shop, db)]) -> Page[Todo]:
        return shop.todos.page(query)

    calls = Counter()

    def count(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            calls[frame.f_code.co_filename] += 1

    threading.setprofile(count)  # the endpoint runs in a thread, and so does the loop
    try:
        with serving(app) as address, client(address) as ask:
            for _ in range(3):
                ask.get("/todos?key_contains=il").raise_for_status()
            calls.clear()
            assert len(ask.get("/todos?key_contains=il").json()["items"]) == 1
            seen = calls.copy()
    finally:
        threading.setprofile(None)
    assert seen.total() <= MOST_CALLS, seen
    assert len(seen) <= MOST_FILES, seen

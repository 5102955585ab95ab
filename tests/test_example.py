"""The to-do service over HTTP on each store; its filters and writes are tested in the example itself."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import inspect

from examples.todo import demo
from examples.todo.app import create_app, database
from examples.todo.migrations import upgrade
from examples.todo.storage import Base, Store, storage
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers

Ask = Callable[..., httpx.Response]


@contextmanager
def asking(app: FastAPI) -> Iterator[Ask]:
    """Send requests to the application in this process, within its lifespan."""
    transport = httpx.ASGITransport(app=app)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(httpx.AsyncClient(transport=transport, base_url="http://todo")) as client,
    ):
        yield lambda method, path, **options: portal.call(partial(client.request, method, path, **options))


def url_of(store: str, directory: Path) -> str:
    if store == "postgresql":
        return servers.emptied("postgresql", Base, make=upgrade).render_as_string(hide_password=False)
    return "memory://" if store == "memory" else f"sqlite:///{directory.as_posix()}/todo.db"


def opened(url: str) -> Store:
    upgrade(url)
    return storage(url)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.repeats)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = opened(url_of(request.param, tmp_path))
    yield store
    store.dispose()


@pytest.fixture
def app(db: Store) -> FastAPI:
    return create_app(db)


@pytest.fixture
def ask(app: FastAPI) -> Iterator[Ask]:
    with asking(app) as send:
        yield send


def create(ask: Ask, key: str) -> None:
    assert ask("POST", "/todos", json={"key": key, "value": "x"}).status_code == 201


def found(ask: Ask) -> list[str]:
    return [item["key"] for item in ask("GET", "/todos").json()["items"]]


@pytest.mark.parametrize("key", ["a/b", "a b", "100%", "?", "ü", "a//b"])
def test_keys_are_quoted_in_paths(ask: Ask, key: str) -> None:
    create(ask, key)
    answer = ask("GET", f"/todos/{quote(key, safe='')}")
    assert (answer.status_code, answer.json()["key"]) == (200, key)


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("PATCH", {"done": True}), ("PATCH", {}), ("DELETE", None)]
)
def test_missing_is_404(ask: Ask, method: str, body: dict[str, object] | None) -> None:
    answer = ask(method, "/todos/nothing", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (404, "not_found", [])


@pytest.mark.parametrize("body", [{}, {"key": "milk"}, {"key": "", "value": "x"}, {"key": "a", "value": "x", "id": 7}])
def test_invalid_body_is_422(ask: Ask, body: dict[str, object]) -> None:
    assert ask("POST", "/todos", json=body).status_code == 422
    assert found(ask) == []


@pytest.mark.parametrize(
    "query", ["key=milk", "kex_contains=m", "order_by=value", "limit=501", "offset=-1", "done=x", "key_contains=%00"]
)
def test_undeclared_query_is_422(ask: Ask, query: str) -> None:
    assert ask("GET", f"/todos?{query}").status_code == 422


@pytest.mark.parametrize("changes", [{"done": None}, {"key": "other"}, {"value": "v" * 1001}, {"priority": "high"}])
def test_invalid_patch_is_422_and_changes_nothing(ask: Ask, changes: dict[str, object]) -> None:
    create(ask, "milk")
    before = ask("GET", "/todos/milk").json()
    assert ask("PATCH", "/todos/milk", json=changes).status_code == 422
    assert ask("GET", "/todos/milk").json() == before


def test_the_server_closes_its_connections_and_keeps_its_file(tmp_path: Path) -> None:
    url = url_of("sqlite", tmp_path)
    db = opened(url)
    assert isinstance(db, Database)
    with asking(create_app(db)) as ask:
        create(ask, "milk")
        assert db.engine.pool.checkedin() > 0
    assert db.engine.pool.checkedin() == 0
    with asking(create_app(opened(url))) as ask:
        assert found(ask) == ["milk"]


def test_database_url_selects_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "memory://")
    assert isinstance(database(), InMemoryDatabase)
    monkeypatch.delenv("DATABASE_URL")
    db = database()
    assert isinstance(db, Database)
    assert db.engine.url.render_as_string() == "sqlite:///todo.db"
    db.dispose()


def test_the_application_makes_no_tables(tmp_path: Path) -> None:
    db = storage(url_of("sqlite", tmp_path))
    assert isinstance(db, Database)
    with asking(create_app(db)) as ask:
        assert ask("GET", "/todos").is_error
    assert inspect(db.engine).get_table_names() == []
    db.dispose()


def test_documentation_shows_filters_and_orders(ask: Ask) -> None:
    operations = ask("GET", "/openapi.json").json()["paths"]["/todos"]["get"]
    parameters = {parameter["name"]: parameter for parameter in operations["parameters"]}
    assert set(parameters) == {"key_contains", "value_contains", "done", "order_by", "limit", "offset"}
    assert "-priority,key" in parameters["order_by"]["schema"]["enum"]


def test_responses_are_equal_on_all_stores(tmp_path: Path) -> None:
    walks = []
    for store in ("memory", "sqlite", "postgresql"):
        with asking(create_app(opened(url_of(store, tmp_path)))) as ask:
            walks.append(demo.walk(partial(_answered, ask), lambda _, answer: None))
    assert walks[0] == walks[1] == walks[2]
    assert [answer.status for answer in walks[0]] == [step.status for step in demo.STEPS]


def _answered(ask: Ask, step: demo.Step) -> demo.Answer:
    answer = ask(step.method, step.path, json=step.body)
    return demo.Answer(answer.status_code, answer.json() if answer.content else None)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+C cannot be sent to one process there")
def test_ctrl_c_ends_the_server_quietly(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    command = [sys.executable, "-m", "examples.todo"]
    environment = {**os.environ, "DATABASE_URL": "memory://", "PORT": "0"}
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=demo.CHECKOUT, env=environment, stdout=output, stderr=output) as server,
    ):
        demo._address(server, log)
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=30) == 0
    assert "Traceback" not in log.read_text()


def test_demo_says_the_answers_are_equal() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "examples.todo.demo"],
        check=False,
        cwd=demo.CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "answers are equal" in ran.stdout


def test_demo_fails_when_an_answer_differs(capsys: pytest.CaptureFixture[str]) -> None:
    right = [demo.Answer(step.status, {"id": 1}) for step in demo.STEPS]
    other = [*right[:-1], demo.Answer(right[-1].status, {"id": 2})]
    wrong = [*right[:-1], demo.Answer(500, {"id": 1})]
    assert demo.verdict(right, right) == 0
    assert demo.verdict(right, other) == demo.verdict(wrong, wrong) == 1
    assert "NOT" in capsys.readouterr().out


@pytest.mark.parametrize(
    "store", ["sqlite", *(pytest.param(each, marks=pytest.mark.repeats) for each in ("memory", "postgresql"))]
)
def test_no_request_is_a_server_error(store: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with demo.serving(url_of(store, tmp_path), log) as address:
        command = [
            *("-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--checks", "not_a_server_error"),
            *("--seed", "1", "--max-examples", "25", "--phases", "coverage,fuzzing"),
            *("--generation-database", "none", "--no-color"),
        ]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        ran = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, timeout=120, env=environment
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^ +Tested: 5$", ran.stdout, re.MULTILINE), ran.stdout
    assert "Traceback" not in log.read_text()

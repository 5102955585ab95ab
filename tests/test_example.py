"""The to-do service behaves the same over HTTP on memory, SQLite and PostgreSQL, and its demo says so."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import inspect

from examples.todo import demo
from examples.todo.app import Reading, Writing, create_app, database
from examples.todo.migrations import upgrade
from examples.todo.storage import Base, Store, TodoUnit, storage
from sqlrepo import DatabaseUnavailableError, LockTimeoutError, TransactionConflictError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers

Ask = Callable[..., httpx.Response]


@contextmanager
def asking(app: FastAPI) -> Iterator[Ask]:
    """Sends requests to the application in this process, its lifespan run around them."""
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


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
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


def create(ask: Ask, key: str, value: str = "x", **rest: Any) -> None:
    assert ask("POST", "/todos", json={"key": key, "value": value, **rest}).status_code == 201


def found(ask: Ask, **filters: Any) -> list[str]:
    answer = ask("GET", "/todos", params=filters)
    assert answer.status_code == 200, answer.text
    return [item["key"] for item in answer.json()["items"]]


@pytest.fixture
def four(ask: Ask) -> Ask:
    create(ask, "milk", "two litres", priority=2)
    create(ask, "Milk shake", "vanilla")
    create(ask, "tax", "100% of it", priority=5, done=True)
    create(ask, "soy milk", "two packs", priority=2)
    return ask


def test_created_is_read_back(ask: Ask) -> None:
    created = ask("POST", "/todos", json={"key": "milk", "value": "two litres"})
    assert created.status_code == 201
    body = created.json()
    assert body == {"id": body["id"], "key": "milk", "value": "two litres", "done": False, "priority": 0}
    read = ask("GET", "/todos/milk")
    assert (read.status_code, read.json()) == (200, body)


@pytest.mark.parametrize("key", ["a/b", "a b", "100%", "?", "ü", "a//b"])
def test_any_key_can_be_asked_for(ask: Ask, key: str) -> None:
    create(ask, key)
    answer = ask("GET", f"/todos/{quote(key, safe='')}")
    assert (answer.status_code, answer.json()["key"]) == (200, key)


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("PATCH", {"done": True}), ("PATCH", {}), ("DELETE", None)]
)
def test_missing_is_404(ask: Ask, method: str, body: dict[str, object] | None) -> None:
    answer = ask(method, "/todos/nothing", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (404, "not_found", [])


def test_second_of_a_key_is_409_and_names_the_field(ask: Ask) -> None:
    create(ask, "milk", "the first")
    answer = ask("POST", "/todos", json={"key": "milk", "value": "the second"})
    assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (409, "unique", ["key"])
    assert ask("GET", "/todos/milk").json()["value"] == "the first"


@pytest.mark.parametrize(
    ("field", "value"), [("key", "k" * 101), ("value", "v" * 1001), ("priority", 2**31), ("value", "nul\0")]
)
def test_value_the_column_cannot_hold_is_422_and_names_the_field(ask: Ask, field: str, value: object) -> None:
    answer = ask("POST", "/todos", json={"key": "milk", "value": "x", field: value})
    assert (answer.status_code, answer.json()["fields"]) == (422, [field])
    assert found(ask) == []


def test_longest_key_fits(ask: Ask) -> None:
    create(ask, "ü" * 100)
    assert found(ask, key_contains="ü" * 100) == ["ü" * 100]


@pytest.mark.parametrize("body", [{}, {"key": "milk"}, {"key": "", "value": "x"}, {"key": "a", "value": "x", "id": 7}])
def test_unfit_body_is_422(ask: Ask, body: dict[str, object]) -> None:
    assert ask("POST", "/todos", json=body).status_code == 422
    assert found(ask) == []


JSON = {"content-type": "application/json"}


def test_body_that_is_no_text_is_422(ask: Ask) -> None:
    answer = ask("POST", "/todos", content=r'{"key": "\ud800", "value": "x"}', headers=JSON)
    assert (answer.status_code, answer.json()["fields"]) == (422, ["key"])


def test_filters_find_what_they_say(four: Ask) -> None:
    assert found(four) == ["tax", "milk", "soy milk", "Milk shake"]
    assert found(four, key_contains="milk") == ["milk", "soy milk"]
    assert found(four, value_contains="two") == ["milk", "soy milk"]
    assert found(four, value_contains="%") == ["tax"]
    assert found(four, value_contains="_") == []
    assert found(four, done=True) == ["tax"]
    assert found(four, done=False) == ["milk", "soy milk", "Milk shake"]
    assert found(four, key_contains="milk", value_contains="packs", done=False) == ["soy milk"]
    assert found(four, key_contains="") == ["tax", "milk", "soy milk", "Milk shake"]


@pytest.mark.parametrize(
    ("order", "keys"),
    [
        ("key", ["Milk shake", "milk", "soy milk", "tax"]),
        ("-key", ["tax", "soy milk", "milk", "Milk shake"]),
        ("priority", ["Milk shake", "milk", "soy milk", "tax"]),
        ("-priority", ["tax", "soy milk", "milk", "Milk shake"]),
        ("-priority,key", ["tax", "milk", "soy milk", "Milk shake"]),
    ],
)
def test_order_is_the_one_asked_for(four: Ask, order: str, keys: list[str]) -> None:
    assert found(four, order_by=order) == keys


def test_pages_follow_each_other(four: Ask) -> None:
    pages = [four("GET", "/todos", params={"limit": 3, "offset": offset}).json() for offset in (0, 3)]
    assert [[item["key"] for item in page["items"]] for page in pages] == [["tax", "milk", "soy milk"], ["Milk shake"]]
    assert [page["has_next"] for page in pages] == [True, False]


def test_limit_is_kept(four: Ask) -> None:
    assert found(four, limit=2) == ["tax", "milk"]
    assert found(four, done=False, limit=1) == ["milk"]
    assert found(four, limit=0) == []


@pytest.mark.parametrize(
    "query",
    [
        "id=1",
        "key=milk",
        "kex_contains=m",
        "order_by=value",
        "limit=-1",
        "limit=501",
        "offset=-1",
        "done=perhaps",
        "key_contains=%00",
    ],
)
def test_query_nobody_declared_is_422(four: Ask, query: str) -> None:
    assert four("GET", f"/todos?{query}").status_code == 422


@pytest.mark.parametrize("offset", [10**6, 2**62 - 1, 2**62, 10**30])
def test_absurd_offset_is_no_server_error(four: Ask, offset: int) -> None:
    answer = four("GET", "/todos", params={"offset": offset})
    assert answer.status_code == (200 if offset < 2**62 else 422)
    assert answer.json().get("items", []) == []


def test_patch_writes_only_what_was_sent(four: Ask) -> None:
    changed = four("PATCH", "/todos/milk", json={"done": True})
    assert changed.status_code == 200
    assert changed.json() == four("GET", "/todos/milk").json()
    assert {name: changed.json()[name] for name in ("value", "done", "priority")} == {
        "value": "two litres",
        "done": True,
        "priority": 2,
    }


def test_empty_patch_changes_nothing(four: Ask) -> None:
    before = four("GET", "/todos/milk").json()
    assert four("PATCH", "/todos/milk", json={}).json() == before


@pytest.mark.parametrize("changes", [{"done": None}, {"key": "other"}, {"value": "v" * 1001}, {"priority": "high"}])
def test_unfit_patch_is_422_and_changes_nothing(four: Ask, changes: dict[str, object]) -> None:
    before = four("GET", "/todos/milk").json()
    assert four("PATCH", "/todos/milk", json=changes).status_code == 422
    assert four("GET", "/todos/milk").json() == before


def test_deleted_is_gone(four: Ask) -> None:
    assert four("DELETE", "/todos/milk").status_code == 204
    assert four("GET", "/todos/milk").status_code == 404
    assert "milk" not in found(four)


def test_refusals_show_neither_sql_nor_other_rows(ask: Ask) -> None:
    create(ask, "milk", "a secret")
    for answer in (
        ask("POST", "/todos", json={"key": "milk", "value": "x"}),
        ask("POST", "/todos", json={"key": "k" * 101, "value": "x"}),
        ask("GET", "/todos/nothing"),
        ask("GET", "/todos?id=1"),
    ):
        assert answer.status_code >= 400
        assert not [word for word in ("secret", "INSERT", "SELECT", "sqlite", "todo.key") if word in answer.text]


@pytest.mark.parametrize(
    "error", [LockTimeoutError("busy"), TransactionConflictError(), DatabaseUnavailableError("gone")]
)
def test_retryable_error_is_503_and_says_when_to_retry(app: FastAPI, error: Exception) -> None:
    def refusing() -> TodoUnit:
        raise error

    app.dependency_overrides = {dependency_of(Reading): refusing, dependency_of(Writing): refusing}
    with asking(app) as ask:
        for answer in (ask("GET", "/todos"), ask("POST", "/todos", json={"key": "milk", "value": "x"})):
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def dependency_of(alias: Any) -> Any:
    return alias.__metadata__[0].dependency


def test_outcome_that_is_not_known_is_no_invitation_to_repeat(app: FastAPI) -> None:
    def lost() -> TodoUnit:
        raise DatabaseUnavailableError("lost while committing", retryable=False)

    app.dependency_overrides = {dependency_of(Reading): lost}
    with asking(app) as ask:
        answer = ask("GET", "/todos")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, False)


def test_sqlite_file_outlives_the_server(tmp_path: Path) -> None:
    url = url_of("sqlite", tmp_path)
    with asking(create_app(opened(url))) as ask:
        create(ask, "milk")
    with asking(create_app(opened(url))) as ask:
        assert found(ask) == ["milk"]


def test_connections_are_given_back_at_the_end(tmp_path: Path) -> None:
    db = opened(url_of("sqlite", tmp_path))
    assert isinstance(db, Database)
    with asking(create_app(db)) as ask:
        create(ask, "milk")
        assert db.engine.pool.checkedin() > 0
    assert db.engine.pool.checkedin() == 0


def test_store_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "memory://")
    assert isinstance(database(), InMemoryDatabase)
    monkeypatch.delenv("DATABASE_URL")
    db = database()
    assert isinstance(db, Database)
    assert db.engine.url.render_as_string() == "sqlite:///todo.db"
    db.dispose()


def test_only_the_program_makes_tables(tmp_path: Path) -> None:
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


def test_answers_are_equal_on_all_stores(tmp_path: Path) -> None:
    walks = []
    for store in ("memory", "sqlite", "postgresql"):
        with asking(create_app(opened(url_of(store, tmp_path)))) as ask:
            walks.append(demo.walk(partial(_answered, ask), lambda _, answer: None))
    assert walks[0] == walks[1] == walks[2]
    assert [answer.status for answer in walks[0]] == [step.status for step in demo.STEPS]


def _answered(ask: Ask, step: demo.Step) -> demo.Answer:
    answer = ask(step.method, step.path, json=step.body)
    return demo.Answer(answer.status_code, answer.json() if answer.content else None)


def test_write_is_seen_by_the_next_request_over_a_socket(tmp_path: Path) -> None:
    # In-process clients wait for a request's teardown; only a real server shows an answer that overtakes its commit.
    with (
        demo.serving(url_of("sqlite", tmp_path), tmp_path / "server.log") as address,
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        for n in range(50):
            created = client.post("/todos", json={"key": f"k{n}", "value": "x"})
            assert client.get(f"/todos/k{n}").json() == created.json()


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

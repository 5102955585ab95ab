"""After a fork each process has connections of its own and never closes another's."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.servers.programs import CHILDREN, PATIENCE, ROUNDS, store
from tests.web.domain import Prompt

ROOT = Path(__file__).parents[2]
KINDS = ["sqlite", "aiosqlite", "postgresql", "postgresql+asyncpg", "postgresql async", "mariadb", "mariadb+asyncmy"]
SYNC = ["sqlite", "postgresql", "mariadb"]
WORKERS = 3
CLIENTS = 100

# Python warns about a fork beside other threads, which some programs do on purpose.
WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


def url_of(kind, directory):
    if "sqlite" not in kind:
        name, _, is_async = kind.partition(" ")
        url = servers.emptied(name, Prompt)
        if is_async:
            url = url.set(query={"application_name": "async"})
        return url.render_as_string(hide_password=False)
    url = f"sqlite:///{directory.as_posix()}/fork.db"
    made = Database(url)
    Prompt.metadata.create_all(made.engine)
    made.dispose()
    return url if kind == "sqlite" else url.replace("sqlite", "sqlite+aiosqlite", 1)


@pytest.fixture
def url(request, tmp_path):
    return url_of(request.param, tmp_path)


def ran(name, url):
    """The result of a program, which must print nothing to standard error."""
    command = [sys.executable, *WARNINGS, "-m", "tests.servers.programs", name, url]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr[-3000:]
    return json.loads(result.stdout)


def on(*kinds):
    return pytest.mark.parametrize("url", kinds, indirect=True)


# -- connections


def assert_apart(result, has_sessions):
    """Each process had connections of its own, and every row was stored once."""
    names = [*(str(number) for number in range(CHILDREN)), "parent"]
    expected = sorted(["before", "after", *(f"{name}-{number}" for name in names for number in range(ROUNDS))])
    assert result["keys"] == expected
    if has_sessions:
        groups = [set(result["before"] + result["during"] + result["after"]), *map(set, result["children"])]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert result["before"] == result["after"]  # no child closed the parent's


def with_repeats(*names):
    return [
        name if name in ("sqlite", "postgresql") else pytest.param(name, marks=pytest.mark.repeats) for name in names
    ]


@on(*with_repeats(*KINDS))
def test_children_have_connections_of_their_own(url):
    assert_apart(ran("used_by_all", url), "sqlite" not in url)


@on(*with_repeats("sqlite", "postgresql", "postgresql+asyncpg", "mariadb"))
def test_children_have_connections_of_their_own_over_the_applications_engine(url):
    assert_apart(ran("used_by_all_over_a_foreign_engine", url), "sqlite" not in url)


@on(*with_repeats("postgresql", "postgresql+asyncpg", "mariadb"))
def test_children_have_connections_of_their_own_after_a_fork_in_c(url):
    assert_apart(ran("used_by_all_of_a_server_in_c", url), has_sessions=True)


@on("sqlite", "aiosqlite")
def test_a_childs_commit_is_kept_when_the_parent_closes_its_connections(url):
    assert ran("log_kept", url) == {"child": "written", "keys": ["before", "first", "second"]}


# -- transactions


@pytest.mark.parametrize("program", ["open_at_the_fork", "open_at_the_fork_and_left_by_an_error"])
@pytest.mark.parametrize("kind", ["memory", *with_repeats(*SYNC)])
def test_a_unit_open_at_the_fork_stays_the_parents(kind, program, tmp_path):
    url = "memory" if kind == "memory" else url_of(kind, tmp_path)

    assert ran(program, url) == {"status": 0, "still": ["open"], "keys": ["open"], "called": True}


@on("postgresql", "mariadb")
def test_a_child_cannot_end_the_parents_transaction_on_its_connection(url):
    result = ran("open_and_its_connection_is_ended_in_the_child", url)

    assert result == {"elsewhere": True, "still": True, "keys": ["open"]}


@on("postgresql", "mariadb")
def test_a_unit_that_joined_a_session_stays_the_parents(url):
    assert ran("joined_at_the_fork", url) == {"child": ["not_open", []], "keys": ["open"]}


# -- memory


@pytest.mark.parametrize(("url", "kept"), [("memory", ["parent"]), ("sqlite://", [])])
def test_each_process_has_its_own_store_in_memory_and_is_warned_once(url, kept):
    result = ran("store_in_memory", url)

    assert result == {"child": [0, 1, sorted(["child", "child2", *kept])], "heard": 0, "keys": ["parent"]}


def test_memory_is_consistent_in_a_child(tmp_path):
    assert ran("memory_amid_a_statement", "memory") == [[100]] * 10


# -- locks and threads


def test_a_child_does_not_wait_for_the_parents_database_function():
    assert ran("database_being_made", "memory") == ["InMemoryDatabase", 2]


def test_a_limiter_has_threads_in_a_child():
    assert ran("limiter_in_a_surviving_loop", "memory") == [True, True]


@on("postgresql")
def test_a_child_does_not_wait_for_the_parents_threads(url):
    assert ran("locks_of_other_threads", url) == 0


# -- a server


@contextmanager
def gunicorn(url, directory):
    """Serve with workers forked from a process that has used the database; the address."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", f"{WORKERS}", "--worker-class",
        "uvicorn_worker.UvicornWorker", "--bind", f"fd://{listener.fileno()}", "--graceful-timeout", "5",
        "--worker-tmp-dir", str(directory), "tests.servers.application:app",
    ]  # fmt: skip
    environment = {**os.environ, "SQLREPO_PREFORK_URL": url}
    with (
        (directory / "server.log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=[listener.fileno()]
        ) as server,
    ):
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.terminate()
            try:
                server.wait(PATIENCE)
            finally:
                server.kill()
                listener.close()


async def crowd(address):
    """The responses to many simultaneous clients, each of which writes a row and reads it."""

    async def client(number):
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=PATIENCE) as ask:
            written = await ask.post("/things", json={"key": f"{number}"})
            async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=PATIENCE) as other:
                return [written, await other.get(f"/things/{number}")]

    slots = asyncio.Semaphore(16)

    async def limited(number):
        async with slots:
            return await client(number)

    pairs = await asyncio.gather(*map(limited, range(CLIENTS)))
    return [answer for pair in pairs for answer in pair]


@on(*with_repeats("sqlite", "postgresql", "postgresql+asyncpg", "mariadb"))
def test_workers_of_a_preloaded_application_share_no_connection(url, tmp_path):
    with gunicorn(url, tmp_path) as address:
        try:
            answers = asyncio.run(crowd(address))
        except httpx.HTTPError as error:
            pytest.fail(f"{error!r}\n{(tmp_path / 'server.log').read_text()[-3000:]}")

    log = (tmp_path / "server.log").read_text()
    assert [answer.text for answer in answers if answer.status_code not in (200, 201)] == [], log[-3000:]
    bodies = [answer.json() for answer in answers]
    sessions = {}
    for one in bodies:
        sessions.setdefault(one["worker"], set()).add(one["session"])
    assert len(sessions) >= 2, "one worker has served everybody"
    assert {tuple(one["made"]) for one in bodies} == {
        (bodies[0]["made"][0],)
    }  # the function was called before the fork
    assert bodies[0]["made"][0] not in sessions
    if "sqlite" not in url:
        groups = [set(bodies[0]["before"]), *sessions.values()]
        assert sum(map(len, groups)) == len(set.union(*groups))
    keys = sorted(["preloaded", *(f"{number}" for number in range(CLIENTS))])
    with closing(store(url)) as shop:
        assert shop.keys() == keys
    assert "Traceback" not in log

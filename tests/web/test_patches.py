"""A partial change over HTTP: what is not sent stays, an explicit null clears, and nothing else is written."""

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.web.server import client, serving
from tests.web.warehouse import EARLY, LATE, application


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"], scope="module")
def ask(request, tmp_path_factory):
    rows = EARLY if request.param == "mariadb" else LATE
    if request.param == "memory":
        db = InMemoryDatabase()
    elif request.param == "sqlite":
        db = Database(f"sqlite:///{tmp_path_factory.mktemp('patches').as_posix()}/a.db")
        rows.Base.metadata.create_all(db.engine)
    else:
        db = Database(servers.emptied(request.param, rows.Base))
    with serving(application(db, rows, asynchronous=False)) as address, client(address) as made:
        yield made
    db.dispose()


FULL = {"key": "milk", "size": 2, "note": "two litres", "price": "1.50", "due": "2026-01-01T00:00:00Z", "done": True}


@pytest.fixture
def stored(ask):
    """A row whose every field has a value, none of them the default."""
    kept = next(iter(ask.get("/items?key=milk").json()["items"]), None)
    if kept is not None:
        assert ask.delete(f"/items/{kept['id']}").status_code == 204
    return ask.post("/items", json=FULL).json()


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ({"size": 5}, {"size": 5}),
        ({"size": None}, {"size": None}),
        ({"note": None, "size": None}, {"note": None, "size": None}),
        ({"note": ""}, {"note": ""}),
        ({"price": "2.5", "note": None}, {"price": "2.50", "note": None}),
        ({"size": 2}, {}),
        ({"size": 5, "version": 1}, {"size": 5}),
    ],
)
def test_what_was_sent_is_written_and_nothing_else(ask, stored, sent, written):
    path = f"/items/{stored['id']}"

    answer = ask.patch(path, json=sent)

    assert (answer.status_code, answer.json()) == (200, {**stored, **written, "version": 2})
    assert ask.get(path).json() == answer.json()


@pytest.mark.parametrize(
    ("sent", "code", "fields"),
    [
        ({"colour": "red"}, "invalid_request", ["colour"]),
        ({"size": "x", "note": "n"}, "invalid_request", ["size"]),
        ({"id": 7}, "invalid_request", ["id"]),
        ({"key": None}, "not_null", ["key"]),
        ({"note": "n" * 51, "size": 1}, "invalid_value", ["note"]),
    ],
)
def test_what_does_not_fit_is_422_and_nothing_is_written(ask, stored, sent, code, fields):
    path = f"/items/{stored['id']}"

    answer = ask.patch(path, json=sent)

    body = answer.json()
    assert (answer.status_code, body["code"], body["fields"]) == (422, code, fields)
    assert ask.get(path).json() == stored


def test_nothing_sent_writes_nothing(ask, stored):
    assert ask.patch(f"/items/{stored['id']}", json={}).json() == stored

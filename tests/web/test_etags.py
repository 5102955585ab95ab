"""Versions are sent as entity tags and come back as conditions."""

from itertools import count
from typing import Annotated

import pytest
from fastapi import FastAPI, Response
from pydantic import BaseModel

from sqlrepo.fastapi import IfMatch, etag, install, provide
from tests.web.domain import Shop, Thing
from tests.web.server import client, serving

NUMBERS = count()


class Change(BaseModel):
    size: int = 0


@pytest.fixture(scope="module")
def app(store):
    ShopDep = Annotated[Shop, provide(Shop, store)]
    app = FastAPI()
    install(app, store)
    app.state.meanwhile = []

    @app.get("/things/{id}")
    def get(id: int, shop: ShopDep, response: Response) -> Thing:
        thing = shop.things.get(id)
        response.headers["ETag"] = etag(thing.version)
        return thing

    @app.patch("/things/{id}")
    def change(id: int, changes: Change, match: IfMatch, shop: ShopDep, response: Response) -> Thing:
        current = shop.things.get(id)
        match.require(current.version)
        for intervene in app.state.meanwhile:
            intervene(shop, current)
        thing = shop.things.patch(id, {**changes.model_dump(exclude_unset=True), "version": current.version})
        response.headers["ETag"] = etag(thing.version)
        return thing

    return app


@pytest.fixture(scope="module")
def ask(app):
    with serving(app) as address, client(address) as made:
        yield made


@pytest.fixture
def path(store, app):
    app.state.meanwhile.clear()
    with Shop(store) as shop:
        return f"/things/{shop.things.add(Thing(key=f'{next(NUMBERS)}')).id}"


def changed(ask, path, condition, size=1):
    headers = {} if condition is None else {"If-Match": condition}
    return ask.patch(path, json={"size": size}, headers=headers)


def test_a_tag_follows_the_version(ask, path):
    first = ask.get(path)
    second = changed(ask, path, first.headers["ETag"])

    assert (first.headers["ETag"], second.status_code, second.headers["ETag"]) == ('"1"', 200, '"2"')
    assert ask.get(path).headers["ETag"] == '"2"'


@pytest.mark.parametrize("condition", ['"1"', '"9", "1"', '"9"\t,"1"', '"a,b","1"', ', "1",', "*", None])
def test_a_condition_that_holds_changes_the_row(ask, path, condition):
    assert changed(ask, path, condition).status_code == 200


@pytest.mark.parametrize("condition", ['"2"', '"9", "8"', 'W/"1"', '""', '"é"'])
def test_a_condition_that_does_not_hold_is_412(ask, path, condition):
    answer = changed(ask, path, condition.encode("latin-1"))

    assert (answer.status_code, answer.json()["code"]) == (412, "stale")
    assert answer.headers["content-type"] == "application/problem+json"
    assert ask.get(path).json()["size"] == 0


def test_several_lines_are_one_list(ask, path):
    lines = [("If-Match", '"9"'), ("If-Match", '"1"')]

    assert ask.patch(path, json={"size": 1}, headers=lines).status_code == 200
    assert ask.patch(path, json={"size": 2}, headers=lines).status_code == 412


@pytest.mark.parametrize(
    "condition", ["1", '"1', '"1 "', '1"', '"1" "2"', "'1'", "**", '*, "1"', 'w/"1"', ",", "", '"1";x']
)
def test_a_malformed_condition_is_400(ask, path, condition):
    answer = changed(ask, path, condition)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_condition")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_concurrent_change_is_412(ask, app, path):
    app.state.meanwhile.append(lambda shop, current: shop.things.patch(current.id, {"size": 7}))

    assert changed(ask, path, '"1"').status_code == 412
    assert changed(ask, path, None).status_code == 409
    assert ask.get(path).json()["size"] == 0  # rolled back, the other change of the same unit as well


def test_the_header_is_documented(app):
    parameters = app.openapi()["paths"]["/things/{id}"]["patch"]["parameters"]

    assert {(each["in"], each["name"].lower()) for each in parameters} == {("path", "id"), ("header", "if-match")}

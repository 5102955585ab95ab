"""One application gives equal responses to one long list of requests on every store: status, headers and body.

Generated ids are compared by their order of creation, cursors by the pages they lead to.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Capabilities
from tests.web.conftest import ASYNC, opened, repeats
from tests.web.server import client, eventually, serving
from tests.web.warehouse import EARLY, LATE, application

STORES = ["memory-async", "sqlite", "aiosqlite", *repeats("postgresql", "mariadb", "asyncpg", "mariadb+asyncmy")]
LACKING = {"sqlite": {"fk_error_details"}, "aiosqlite": {"fk_error_details"}}


# -- requests

GONE = 424242
BAD_JSON = {"content": b'{"key": ', "headers": {"content-type": "application/json"}}


@dataclass(frozen=True)
class Of:
    """The id of the n-th entity of a kind."""

    kind: str
    number: int


@dataclass(frozen=True)
class Step:
    status: int
    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)


def item(status, key, path="/items", **rest):
    return Step(status, "POST", path, {"json": {"key": key, **rest}})


def patch(status, number, changes, condition=None):
    headers = {} if condition is None else {"If-Match": condition}
    return Step(status, "PATCH", f"/items/{{item {number}}}", {"json": changes, "headers": headers})


def get(status, path, **params):
    return Step(status, "GET", path, {"params": params})


ITEMS = [
    item(201, "milk", size=2, note="two litres", price="1.50", due="2026-01-01T00:00:00Z"),
    item(201, "Milk shake", size=1, note="Vanilla", price="3.99", due="2026-06-01T12:30:00.000001+02:00"),
    item(201, "soy milk", size=2, price=2),
    item(201, "100%", note="per cent", done=True),
    item(201, "a_b", size=-5, note=""),
    item(201, "Ärger", size=2147483647, note="ÄÖÜ ß 🥛", price="99999999.99"),
    item(201, "ärger", size=-2147483648, done=True, due="1970-01-01T00:00:00Z"),
    item(201, " blank ", size=0, note=" "),
    item(201, "back\\slash'", size=1, note="quote\"d'"),
    item(201, "ü" * 20),
    item(409, "milk", size=9),
    item(422, "k" * 21),
    item(422, "nul\0"),
    item(422, "big", size=2**31),
    item(422, "bigger", size=2**63),
    item(422, "dear", price="123456789012"),
    item(422, "exact", price="3.999"),
    item(422, "naive", due="2026-01-01T00:00:00"),
    item(422, "unknown", colour="red"),
    item(422, 7),
    Step(422, "POST", "/items", {"json": {}}),
    Step(422, "POST", "/items", {"json": []}),
    Step(422, "POST", "/items", BAD_JSON),
]
PETS = [
    Step(201, "POST", "/keepers", {"json": {"name": "ann"}}),
    Step(409, "POST", "/keepers", {"json": {"name": "ann"}}),
    Step(201, "POST", "/keepers", {"json": {"name": "bob"}}),
    Step(201, "POST", "/pets", {"json": {"name": "rex", "keeper_id": Of("keeper", 0), "boss_id": Of("keeper", 1)}}),
    Step(409, "POST", "/pets", {"json": {"name": "stray", "keeper_id": GONE}}),
    Step(409, "POST", "/pets", {"json": {"name": "late", "boss_id": GONE}}),
    Step(422, "POST", "/pets", {"json": {"name": "bug", "legs": 6}}),
    Step(422, "POST", "/pets", {"json": {"name": "ghost", "legs": None}}),
    Step(422, "POST", "/pets", {"json": {"name": "n" * 21}}),
    Step(409, "DELETE", "/keepers/{keeper 0}"),
    Step(409, "DELETE", "/keepers/{keeper 1}"),
    Step(201, "POST", "/keepers", {"json": {"name": "cid"}}),
    Step(204, "DELETE", "/keepers/{keeper 2}"),
    Step(404, "DELETE", "/keepers/{keeper 2}"),
    get(200, "/pets"),
]
FILTERS = [
    {"key": "milk"}, {"key": "Milk"}, {"key_ne": "milk"}, {"key_in": ["milk", "a_b", "none"]}, {"key_in": "milk"},
    {"key_not_in": ["milk", "a_b"]}, {"key_between": ["a", "n"]}, {"key_contains": "milk"}, {"key_contains": "%"},
    {"key_contains": "_"}, {"key_contains": "\\"}, {"key_contains": ""}, {"key_icontains": "MILK"},
    {"key_icontains": "ÄRG"}, {"key_startswith": "M"}, {"key_startswith": " "}, {"key_istartswith": "m"},
    {"key_endswith": "k"}, {"key_iendswith": "K"}, {"key_iequals": "ÄRGER"}, {"key_iequals": "milk"}, {"size": 2},
    {"size_ne": 2}, {"size_lt": 1}, {"size_le": 1}, {"size_gt": 1}, {"size_ge": 2}, {"size_in": [1, 2]},
    {"size_not_in": [1, 2]}, {"size_between": [0, 2]}, {"size_between": [2, 0]}, {"size_is_null": True},
    {"size_is_null": False}, {"note": ""}, {"note": " "}, {"note_contains": "🥛"}, {"note_is_null": True},
    {"price_ge": "2"}, {"price_lt": "1.50"}, {"due_ge": "2026-01-01T00:00:00Z"},
    {"due_lt": "2026-06-01T10:30:00.000001Z"}, {"done": True}, {"done": "no"}, {"text": "milk"}, {"text": "VAN"},
    {"key_contains": "milk", "size": 2, "done": False},
]  # fmt: skip
ORDERS = ["key", "-key", "size", "-size", "-size,key", "note", "-note", "price", "-price", "due", "-due", "done"]
REFUSED = [
    get(422, path, **params)
    for path in ("/items", "/scroll")
    for params in (
        {"colour": "red"}, {"order_by": "secret"}, {"order_by": "-id"}, {"limit": 51}, {"limit": -1}, {"offset": -1},
        {"offset": 2**62}, {"size": "x"}, {"size": 2**31 * 2**31 * 4}, {"key": "nul\0"}, {"key_between": "a"},
        {"due_ge": "2026-01-01T00:00:00"}, {"size_in": ["1", "x"]}, {"total": "perhaps"}, {"price_ge": "2.001"},
    )
]  # fmt: skip
CURSORS = [
    *(
        get(422, "/scroll", **{way: cursor})
        for way in ("after", "before")
        for cursor in ("", "x", "AAAA", "A" * 28, "é", "%00", "../..", "a" * 5000)
    ),
    get(422, "/scroll", after="x", before="x"),
    get(422, "/scroll", limit=0),
    get(422, "/scroll", offset=1),
]
SINGLE = [
    get(200, "/items/{item 0}"),
    get(404, f"/items/{GONE}"),
    get(422, "/items/99999999999999999999"),
    get(422, "/items/x"),
    patch(200, 0, {"size": 5}),
    patch(200, 0, {"note": None}),
    patch(200, 0, {}),
    patch(200, 0, {"size": None, "note": "n", "price": "2.5"}),
    patch(422, 0, {"colour": "red"}),
    patch(422, 0, {"size": "x"}),
    patch(422, 0, {"key": None}),
    patch(422, 0, {"key": "k" * 21}),
    patch(422, 0, {"size": 2**31}),
    patch(409, 0, {"key": "a_b"}),
    patch(409, 0, {"size": 1, "version": 1}),
    patch(412, 0, {"size": 1, "version": 1}, "*"),
    patch(412, 0, {"size": 1}, '"1"'),
    patch(412, 0, {"size": 1}, 'W/"4"'),
    patch(412, 0, {"size": 1}, '"zebra"'),
    patch(400, 0, {"size": 1}, "4"),
    patch(400, 0, {"size": 1}, ""),
    patch(200, 1, {"size": 7}, '"1"'),
    patch(200, 1, {"size": 8}, '"9", "2"'),
    patch(200, 1, {"size": 9}, "*"),
    Step(404, "PATCH", f"/items/{GONE}", {"json": {"size": 1}}),
    Step(404, "PATCH", f"/items/{GONE}", {"json": {"size": 1}, "headers": {"If-Match": '"1"'}}),
    Step(200, "PUT", "/items/{item 2}", {"json": {"key": "soya", "price": "7"}}),
    Step(409, "PUT", "/items/{item 2}", {"json": {"key": "soya", "version": 1}}),
    Step(404, "PUT", f"/items/{GONE}", {"json": {"key": "gone"}}),
    get(200, "/items/{item 2}"),
    Step(204, "DELETE", "/items/{item 2}"),
    Step(404, "DELETE", "/items/{item 2}"),
    get(404, "/items/{item 2}"),
]
UNITS = [
    item(200, "milk", "/ensured", size=77),
    item(200, "ensured", "/ensured", size=77),
    item(409, "milk", "/careless"),
    get(200, "/items", key="careless"),
    item(201, "announced", "/announced"),
    get(200, "/items", key="after announced"),  # sent until the row is there
    item(409, "announced", "/announced"),
    item(201, "called back", "/failing-callback"),
    get(200, "/items", key="called back"),
    item(503, "no", "/planted/conflict"),
    item(503, "no", "/planted/lock"),
    item(503, "no", "/planted/lost"),
    item(503, "no", "/planted/gone"),
    get(200, "/items", key="no"),
    item(201, "yes"),
    item(500, "no", "/sneaking"),
    get(422, "/mistaken"),
    get(200, "/export"),
    get(200, "/openapi.json"),
    get(404, "/nowhere"),
]
STEPS = [
    *ITEMS, *PETS, *(get(200, "/items", total=True, **each) for each in FILTERS), *REFUSED, *CURSORS, *SINGLE, *UNITS
]  # fmt: skip
WALKS = [
    *(f"{path}?order_by={order}&limit=4" for path in ("/items", "/scroll") for order in ORDERS),
    "/items?limit=3&offset=2&key_contains=%C3%BC&size_is_null=true",
    "/scroll?limit=1&size_in=1&size_in=2",
    "/items?limit=0",
]


# -- responses

NAMES = {"keeper_id": "keeper", "boss_id": "keeper"}
HEADERS = ("content-type", "ETag", "Link", "Retry-After")
_IDS = re.compile(r'"(id|keeper_id|boss_id)":(\d+)')
_CURSOR = re.compile(r'("next":|"previous":|after=|before=)"?[\w-]{20,}"?')


@dataclass
class Asking:
    """Sends requests to one store and renumbers the ids in its responses."""

    ask: Any
    seen: dict[str, dict[int, int]] = field(default_factory=lambda: {"item": {}, "keeper": {}, "pet": {}})
    made: dict[str, list[int]] = field(default_factory=lambda: {"item": [], "keeper": [], "pet": []})

    def follow(self, step):
        path = re.sub(r"\{(\w+) (\d+)\}", lambda found: str(self.made[found[1]][int(found[2])]), step.path)
        options = dict(step.options)
        if isinstance(options.get("json"), dict):
            options["json"] = {name: self._given(value) for name, value in options["json"].items()}
        return self.ask.request(step.method, path, **options)

    def _given(self, value):
        return self.made[value.kind][value.number] if isinstance(value, Of) else value

    def comparable(self, answer):
        """The parts of a response that are compared."""
        kind = next((kind for kind in ("keeper", "pet") if f"/{kind}s" in str(answer.url)), "item")
        if answer.status_code in (200, 201) and answer.request.method == "POST":
            self._meet(kind, answer.json()["id"])
        headers = {name: _CURSOR.sub(r"\1~", answer.headers.get(name, "")) for name in HEADERS}
        return answer.status_code, headers, _CURSOR.sub(r"\1~", self._renumbered(kind, answer.text))

    def _meet(self, kind, id):
        """Number a created entity, a background task's before it is read."""
        if id not in self.made[kind]:
            self.made[kind].append(id)
        self.seen[kind][id] = self.made[kind].index(id)

    def _renumbered(self, kind, text):
        def number(found):
            of = NAMES.get(found[1], kind)
            known = self.seen[of].get(int(found[2]), found[2])
            return f'"{found[1]}":#{known}'

        return _IDS.sub(number, text)

    def walk(self, start):
        """The responses along the links to the end and back to the beginning."""
        answer = self.ask.get(start)
        yield self.comparable(answer)
        for relation in ("next", "prev", "first"):
            while link := answer.links.get(relation):
                answer = self.ask.get(answer.url.join(link["url"]))
                yield self.comparable(answer)
                if relation == "first":
                    break


def answers(name, directory):
    """The responses of a store: to the steps, then to the walks."""
    rows = EARLY if name.startswith(("mariadb", "mysql")) else LATE
    with opened(name.removesuffix("-async"), directory, LATE.Base, EARLY.Base) as db:
        app = application(db, rows, asynchronous=name in ("memory-async", *ASYNC))
        with serving(app) as address, client(address) as ask:
            asking, responses = Asking(ask), []
            for step in STEPS:
                if step.options.get("params") == {"key": "after announced"}:
                    assert eventually(lambda step=step: asking.follow(step).json()["items"])
                    asking._meet("item", asking.follow(step).json()["items"][0]["id"])
                responses.append((f"{step.method} {step.path} {step.options}", asking.comparable(asking.follow(step))))
            responses += [(start, given) for start in WALKS for given in asking.walk(start)]
        if isinstance(db, Database):
            assert Capabilities.of(db).fk_error_details == ("fk_error_details" not in LACKING.get(name, ()))
    return responses


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return answers("memory", tmp_path_factory.mktemp("parity"))


def test_each_request_gets_its_status(expected):
    found = [(what, response[0]) for what, response in expected[: len(STEPS)]]

    assert found == [(f"{step.method} {step.path} {step.options}", step.status) for step in STEPS]
    assert [response for _, response in expected[len(STEPS) :] if response[0] != 200] == []


@pytest.mark.parametrize("key", ["careless", "no"])
def test_a_refused_request_stores_nothing(expected, key):
    found = [response[2] for what, response in expected if what.endswith(f"/items {{'params': {{'key': '{key}'}}}}")]

    assert found == ['{"items":[],"has_next":false,"total":null}']


@pytest.mark.parametrize("name", STORES)
def test_each_store_gives_equal_responses(name, expected, tmp_path):
    lacking = LACKING.get(name, ())
    for (what, found), (_, wanted) in zip(answers(name, tmp_path), expected, strict=True):
        assert found == (without_fields(wanted) if "fk_error_details" in lacking else wanted), what


def without_fields(response):
    """An answer by a store without the capability `fk_error_details`, which names no field of a foreign key."""
    status, headers, text = response
    return status, headers, re.sub(r'("code":"foreign_key","fields":)\["\w+"\]', r"\1[]", text)


def test_a_walk_visits_every_row_once_and_returns(expected):
    walked = {}
    for start, (_, _, text) in expected[len(STEPS) :]:
        walked.setdefault(start, []).append(re.findall(r'"id":#(\d+)', text))
    kept = met(walked["/scroll?order_by=key&limit=4"][:4])

    for order in ORDERS:
        for path in ("/items", "/scroll"):
            pages = walked[f"{path}?order_by={order}&limit=4"]
            there, back = pages[: (len(pages) + 1) // 2], pages[(len(pages) + 1) // 2 - 1 :]
            assert met(there) == kept, (path, order)
            assert len(back) >= len(there)


def met(pages):
    """The rows of pages, in the order of their creation."""
    return sorted((number for page in pages for number in page), key=int)

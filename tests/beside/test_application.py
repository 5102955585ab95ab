"""The application's own tests, which know nothing of sqlrepo: they pass before, and after each takeover."""

import itertools
import json
from contextlib import ExitStack

import pytest

from tests.beside.stores import STORES, engines
from tests.beside.taken_over import WAYS
from tests.web.server import client, serving

TENANTS = itertools.count(1)
# SQLite with an attached file takes the most of an existing application; the others repeat it.
PLACES = [
    pytest.param((store, way), id=f"{way.__name__}-{store}", marks=[pytest.mark.repeats] if store != "attached" else [])
    for store in STORES
    for way in WAYS
]


@pytest.fixture(scope="module", params=PLACES)
def address(request, tmp_path_factory):
    store, way = request.param
    with engines(store, tmp_path_factory.mktemp("beside")) as made, serving(way(*made)) as address:
        yield address


@pytest.fixture
def login(address):
    with ExitStack() as ending:
        yield lambda: ending.enter_context(client(address, headers={"X-Tenant": str(next(TENANTS))}))


@pytest.fixture
def ask(login):
    return login()


def stocked(ask, *skus, stock=10):
    made = [ask.post("/products", json={"sku": sku, "name": f"a {sku}", "stock": stock}) for sku in skus]
    assert [answer.status_code for answer in made] == [201] * len(skus)
    return [answer.json()["id"] for answer in made]


def test_a_product_is_created_and_read(ask):
    [made] = stocked(ask, "tea")
    assert ask.get(f"/products/{made}").json() == {"id": made, "sku": "tea", "name": "a tea", "stock": 10}


def test_a_second_product_of_a_sku_is_a_conflict(ask):
    stocked(ask, "tea")
    answer = ask.post("/products", json={"sku": "tea", "name": "another"})
    assert answer.status_code == 409
    assert answer.json()["detail"]
    assert len(ask.get("/products").json()) == 1
    stocked(ask, "milk")  # the next request is unaffected


def test_products_are_paged(ask):
    ids = stocked(ask, "a", "b", "c", "d", "e")
    assert [one["id"] for one in ask.get("/products").json()] == ids
    assert [one["id"] for one in ask.get("/products", params={"skip": 1, "limit": 2}).json()] == ids[1:3]
    assert ask.get("/products", params={"skip": 5}).json() == []


def test_a_product_is_changed_and_deleted(ask):
    one, other = stocked(ask, "a", "b")
    assert ask.patch(f"/products/{one}", json={"name": "renamed"}).json()["name"] == "renamed"
    assert ask.delete(f"/products/{other}").status_code == 204
    assert ask.get(f"/products/{other}").status_code == 404
    assert [(product["id"], product["name"]) for product in ask.get("/products").json()] == [(one, "renamed")]


def test_an_export_is_streamed(ask):
    stocked(ask, "a", "b")
    assert ask.get("/products/export").text == "a\nb\n"


def test_an_order_takes_from_the_stock(ask):
    tea, milk = stocked(ask, "tea", "milk")
    lines = [{"product_id": tea, "quantity": 3}, {"product_id": milk, "quantity": 10}]
    answer = ask.post("/orders", json={"customer": "Ada", "lines": lines})
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert order == {"id": order["id"], "customer": "Ada", "lines": lines}
    assert ask.get(f"/orders/{order['id']}").json() == order
    assert [product["stock"] for product in ask.get("/products").json()] == [7, 0]
    assert ask.get("/journal").json() == [f"order {order['id']} of Ada"]


def test_an_order_beyond_the_stock_changes_nothing(ask):
    tea, milk = stocked(ask, "tea", "milk")
    lines = [{"product_id": tea, "quantity": 3}, {"product_id": milk, "quantity": 11}]
    answer = ask.post("/orders", json={"customer": "Ada", "lines": lines})
    assert (answer.status_code, answer.json()) == (422, {"detail": "out of stock: milk"})
    assert [product["stock"] for product in ask.get("/products").json()] == [10, 10]
    assert ask.get("/journal").json() == []


def test_two_lines_of_a_product_add_up(ask):
    [tea] = stocked(ask, "tea")
    lines = [{"product_id": tea, "quantity": 6}] * 2
    assert ask.post("/orders", json={"customer": "Ada", "lines": lines}).status_code == 422
    lines = [{"product_id": tea, "quantity": 5}] * 2
    assert ask.post("/orders", json={"customer": "Ada", "lines": lines}).status_code == 201
    assert [product["stock"] for product in ask.get("/products").json()] == [0]


def test_tenants_are_isolated(login):
    ours, theirs = login(), login()
    [tea] = stocked(ours, "tea")
    stocked(theirs, "tea")
    assert len(ours.get("/products").json()) == 1
    assert theirs.get(f"/products/{tea}").status_code == 404
    assert theirs.patch(f"/products/{tea}", json={"stock": 0}).status_code == 404
    assert theirs.delete(f"/products/{tea}").status_code == 404
    order = {"customer": "Eve", "lines": [{"product_id": tea, "quantity": 1}]}
    assert theirs.post("/orders", json=order).status_code == 404
    assert ours.get(f"/products/{tea}").json()["stock"] == 10


def test_a_request_without_a_tenant_is_refused(address):
    with client(address) as anyone:
        assert anyone.get("/products").status_code == 422


def test_the_applications_lifespan_runs(ask):
    assert ask.get("/state").json() == "ours"


def test_the_documentation_is_served(ask):
    assert "/products" in json.dumps(ask.get("/openapi.json").json())

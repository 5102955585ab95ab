"""Which of an application's own dependencies the check of the routes lets pass."""

from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import Depends

from sqlrepo.fastapi import RouteError, check_routes
from tests.beside.application import Db, Tenant
from tests.beside.repositories import Caller, Shop
from tests.beside.stores import engines
from tests.beside.taken_over import WAYS, get_shop


@pytest.fixture
def databases(tmp_path):
    with engines("translated", tmp_path) as made:
        yield made


def entered(db: Db, tenant: Tenant) -> Iterator[Shop]:
    with Shop(db, context=Caller(tenant)) as shop:
        yield shop


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_sessions_that_end_after_the_answer_are_theirs(way, databases):
    check_routes(way(*databases))


@pytest.mark.parametrize("depends", [Depends(get_shop), Depends(entered, scope="function")], ids=["plain", "in time"])
def test_a_unit_in_their_session_is_let_pass(depends, databases):
    app = WAYS[0](*databases)

    @app.get("/count")
    def count(shop: Annotated[Shop, depends]) -> int:
        return shop.products.count()

    check_routes(app)


def test_a_unit_that_ends_after_the_answer_is_refused(databases):
    app = WAYS[0](*databases)

    @app.get("/count")
    def count(shop: Annotated[Shop, Depends(entered)]) -> int:
        return shop.products.count()

    with pytest.raises(RouteError) as caught:
        check_routes(app)
    assert [(one.reason, one.name) for one in caught.value.refusals] == [("request_order", "entered")]

"""The contract for aggregates: entities with children in tables of their own."""

import pytest

from sqlrepo.testing import Harness, RepositoryContract
from tests.units.domain import database
from tests.units.test_parts import Base, Line, Order, Plan, Plans, Shop, Step, changed


def make_order(n):
    lines = [Line(sku=f"{n}-{number}") for number in range(n % 4)]
    return Order(status=f"status {n}", lines=lines, tags=frozenset("abc"[: n % 3]), notes=("note",) * (n % 3))


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
def db(request):
    made = database(request.param, Base)
    yield made
    made.dispose()


class TestOrders(RepositoryContract[Order, int]):
    @pytest.fixture
    def harness(self, db):
        return Harness(open=lambda: Shop(db), make=make_order, change=lambda order: changed(order, status="changed"))


class TestPlans(RepositoryContract[Plan, int]):
    @pytest.fixture
    def harness(self, db):
        return Harness(
            open=lambda: Plans(db),
            make=lambda n: Plan(f"plan {n}", tuple(Step(f"step {number}") for number in range(n % 4))),
            change=lambda plan: Plan("changed", plan.steps, plan.id),
        )

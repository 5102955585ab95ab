"""The book's own stories, on each back end; the contract on the repository, the twins on its unit of work."""

import threading
from dataclasses import replace
from datetime import date

import pytest

from sqlrepo import StaleEntityError, UniqueViolationError
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Harness, RepositoryContract, TwinContract, query_budget
from tests.applications.conftest import KINDS
from tests.applications.cosmic import (
    Base,
    Batch,
    OrderLine,
    Product,
    Warehouse,
    add_batch,
    allocate,
    allocated_batches,
    change_batch_quantity,
)

TOMORROW, LATER = date(2030, 1, 2), date(2030, 3, 1)


@pytest.fixture
def base():
    return Base


@pytest.fixture
def opened(db):
    return lambda: Warehouse(db)


@pytest.fixture
def stocked(opened):
    with opened() as warehouse:
        add_batch(warehouse, "late", "CLOCK", 50, LATER)
        add_batch(warehouse, "stock", "CLOCK", 10)
        add_batch(warehouse, "next", "CLOCK", 50, TOMORROW)
        add_batch(warehouse, "lamps", "LAMP", 5)
    return opened


def order_line(qty, order="o1", sku="CLOCK"):
    return OrderLine(order, sku, qty)


class TestAllocations:
    def test_stock_is_used_before_what_comes(self, stocked):
        found = [allocate(stocked, order_line(qty, f"o{qty}")) for qty in (10, 50, 20, 31)]
        assert found == ["stock", "next", "late", None]
        with stocked() as warehouse:
            product = warehouse.products.get("CLOCK")
        assert {batch.reference: batch.available_quantity for batch in product.batches} == {
            "late": 30,
            "stock": 0,
            "next": 0,
        }

    def test_an_allocation_is_idempotent_and_is_taken_back(self, stocked):
        assert allocate(stocked, order_line(4)) == allocate(stocked, order_line(4)) == "stock"
        with stocked() as warehouse:
            product = warehouse.products.get_by_batchref("stock")
            product.deallocate(order_line(4))
            warehouse.products.update(product)
        with stocked() as warehouse:
            assert not any(batch.allocations for batch in warehouse.products.get("CLOCK").batches)
            assert warehouse.products.allocated_to("o1") == []

    def test_lines_move_where_a_batch_is_smaller_than_was_thought(self, stocked):
        allocate(stocked, order_line(6, "o1"))
        allocate(stocked, order_line(4, "o2"))
        with stocked() as warehouse:
            assert change_batch_quantity(warehouse, "stock", 0) == ["next", "next"]
        with stocked() as warehouse:
            batches = {batch.reference: batch for batch in warehouse.products.get("CLOCK").batches}
            assert batches["stock"].allocations == set()
            assert batches["next"].allocations == {order_line(6, "o1"), order_line(4, "o2")}

    def test_an_order_is_found_by_the_lines_of_batches(self, stocked):
        allocate(stocked, order_line(4, "o1"))
        allocate(stocked, order_line(5, "o1", "LAMP"))
        allocate(stocked, order_line(1, "o2"))
        with stocked() as warehouse, query_budget(4):  # products, batches, allocations, lines
            assert allocated_batches(warehouse, "o1") == {"CLOCK": "stock", "LAMP": "lamps"}

    def test_a_reference_is_unique_and_named_with_its_part(self, stocked):
        with pytest.raises(UniqueViolationError) as caught, stocked() as warehouse:
            add_batch(warehouse, "lamps", "CHAIR", 1)
        assert caught.value.fields == ("batches.reference",)

    def test_nothing_is_left_of_a_product_that_is_deleted(self, stocked, db):
        allocate(stocked, order_line(4))
        with stocked() as warehouse:
            warehouse.products.delete("CLOCK")
        with stocked() as warehouse:
            assert [product.sku for product in warehouse.products.find()] == ["LAMP"]
        if isinstance(db, Database):
            with db.engine.connect() as connection:
                left = {t.name: connection.execute(t.select()).all() for t in Base.metadata.sorted_tables}
            assert left["order_lines"] == left["allocations"] == []
            assert [row.reference for row in left["batches"]] == ["lamps"]


class TestConcurrency:
    def test_of_two_allocations_of_one_version_the_second_is_stale(self, stocked):
        with stocked() as warehouse:
            first, second = warehouse.products.get("LAMP"), warehouse.products.get("LAMP")
        for product, order in ((first, "o1"), (second, "o2")):
            assert product.allocate(order_line(5, order, "LAMP")) == "lamps"
        with stocked() as warehouse:
            warehouse.products.update(first)
        with pytest.raises(StaleEntityError), stocked() as warehouse:
            warehouse.products.update(second)
        with stocked() as warehouse:
            assert warehouse.products.get("LAMP").batches[0].allocations == {order_line(5, "o1", "LAMP")}

    def test_concurrent_allocations_never_both_win(self, stocked):
        found, start = [], threading.Barrier(4)

        def compete(number):
            start.wait()
            found.append(allocate(stocked, order_line(3, f"o{number}", "LAMP")))

        threads = [threading.Thread(target=compete, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found, key=str) == [None, None, None, "lamps"]
        with stocked() as warehouse:
            assert warehouse.products.get("LAMP").batches[0].available_quantity == 2


def make_product(n):
    lines = [OrderLine(f"order {n}", f"SKU {n}", qty) for qty in range(1, 3)]
    batches = [Batch(f"batch {n}.{k}", f"SKU {n}", 10 * k, LATER, set(lines[:k])) for k in range(n % 4)]
    return Product(f"SKU {n}", batches)


class TestProducts(RepositoryContract[Product, str]):
    @pytest.fixture
    def harness(self, opened):
        return Harness(open=opened, make=make_product, change=first_batch_doubled)


def first_batch_doubled(product):
    first, *rest = product.batches or [Batch(f"new of {product.sku}", product.sku, 1)]
    return replace(product, batches=[replace(first, purchased_quantity=first.purchased_quantity * 2), *rest])


@pytest.mark.parametrize("kind", KINDS[1:], indirect=True)
class TestWarehouseTwins(TwinContract):
    unit = Warehouse
    programs = 15

    @pytest.fixture
    def database(self, db):
        return db

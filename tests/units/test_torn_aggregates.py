"""What a reader sees of an aggregate that another unit changes between the statements that read it, as documented."""

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from pydantic import BaseModel

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, StaleEntityError, TransactionConflictError
from sqlrepo.core.aggregates import Aggregate
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory.driver import MemoryDriver
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.units.test_parts import Base, Line, Order, OrderQuery, Orders, Shop, changed, skus

# The database, its isolation, and if the reader sees the lines of the next version with the fields of this one.
PLACES = {
    "memory": ("memory", None, False),
    "sqlite": ("sqlite", None, False),
    "postgresql": ("postgresql", None, True),
    "mariadb": ("mariadb", None, True),
    "postgresql, repeatable": ("postgresql", "REPEATABLE READ", False),
    "mariadb, repeatable": ("mariadb", "REPEATABLE READ", False),
    "mysql": ("mysql", None, True),
    "mysql, repeatable": ("mysql", "REPEATABLE READ", False),
}


@pytest.fixture(params=[name for name in PLACES if not name.startswith("mysql")])
def place(request, tmp_path):
    name, isolation, torn = PLACES[request.param]
    if name == "memory":
        yield InMemoryDatabase(), torn
        return
    url = f"sqlite:///{tmp_path}/torn.db" if name == "sqlite" else servers.emptied(name, Base)
    db = Database(url, isolation=isolation)
    Base.metadata.create_all(db.engine)
    if name == "sqlite":  # a reader does not hold writers back
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    yield db, torn
    db.dispose()


def change_between(monkeypatch, db, order):
    """Let another unit change the order after the next call has read its row, and before it reads its lines."""
    right = Aggregate.load

    def write():
        with Shop(db) as other:
            return other.orders.update(changed(order, status="six", lines=[*order.lines, Line(sku="c")]))

    def load(self, driver, rows, lock=None):
        monkeypatch.setattr(Aggregate, "load", right)
        started.append(thread.submit(write))
        wait(started, 1)
        return right(self, driver, rows, lock)

    thread, started = ThreadPoolExecutor(1), []
    monkeypatch.setattr(Aggregate, "load", load)
    return started


def test_a_reader_sees_the_next_lines_only_where_the_docs_say_so(place, monkeypatch):
    db, torn = place
    with Shop(db) as shop:
        order = shop.orders.add(Order(status="five", lines=[Line(sku="a"), Line(sku="b")]))
    written = change_between(monkeypatch, db, order)
    with Shop(db, read_only=True) as shop:
        read = shop.orders.get(order.id)
    stored = written[0].result()
    assert (read.version, read.status) == (1, "five")
    assert skus(read) == (["a", "b", "c"] if torn else ["a", "b"])
    with pytest.raises(StaleEntityError), Shop(db) as shop:  # nobody writes what was read so
        shop.orders.update(read)
    with Shop(db) as shop:
        assert shop.orders.get(order.id) == stored


# -- in memory the statements of one reading call agree


class Brief(BaseModel):
    sku: str


class View(BaseModel):
    status: str
    lines__count: int
    lines: list[Brief]


class AsyncOrders(AsyncBaseRepository[Order, int]):
    model, version, parts = Orders.model, Orders.version, Orders.parts


class AsyncShop(AsyncBaseUnitOfWork):
    orders: AsyncOrders


# What returns the first order, and maybe others.
CALLS = {
    "get": lambda orders, **into: orders.get(1, **into),
    "get_or_none": lambda orders, **into: orders.get_or_none(1, **into),
    "get_many": lambda orders, **into: orders.get_many([1, 2], **into),
    "one": lambda orders, **into: orders.one(id=1, **into),
    "one_or_none": lambda orders, **into: orders.one_or_none(id=1, **into),
    "first": lambda orders, **into: orders.first(order_by="id", **into),
    "find": lambda orders, **into: orders.find(order_by="id", **into),
    "page": lambda orders, **into: orders.page(OrderQuery(), with_total=True, **into),
    "scroll": lambda orders, **into: orders.scroll(OrderQuery(), **into),
    "stream": lambda orders, **into: orders.stream(order_by="id", **into),
}


@pytest.fixture
def shop_of_five():
    return five()


def five(lost_updates="refuse"):
    db = InMemoryDatabase(lost_updates=lost_updates)
    with Shop(db) as shop:
        shop.orders.add_many([Order(status="five", lines=[Line(sku="five")], tags={"five"}) for _ in range(3)])
    return db


def write_after_the_first_statement(monkeypatch, db):
    """Let a thread change everything after the first statement of the next call; return the errors of that."""
    right, errors = MemoryDriver.fetch, []

    def write():
        with Shop(db) as other:
            for order in other.orders.find():
                other.orders.update(changed(order, status="six", lines=[Line(sku="six")], tags={"six"}))
            other.orders.add(Order(status="six", lines=[Line(sku="six")]))

    def fetch(self, schema, request):
        found = right(self, schema, request)
        monkeypatch.setattr(MemoryDriver, "fetch", right)
        with ThreadPoolExecutor(1) as thread:
            errors.append(thread.submit(write).exception())
        return found

    monkeypatch.setattr(MemoryDriver, "fetch", fetch)
    return errors


def of_version(found):
    """The only version that everything in the result is of."""
    items = getattr(found, "items", found)
    versions = set()
    for item in items if isinstance(items, list) else [items]:
        versions |= {item.status, *(line.sku for line in item.lines), *getattr(item, "tags", ())}
        assert getattr(item, "lines__count", 1) == 1
    assert len(versions) == 1, versions
    assert getattr(found, "total", None) in (None, {"five": 3, "six": 4}[min(versions)])
    return versions.pop()


@pytest.mark.parametrize("into", [{}, {"into": View}], ids=["entities", "view"])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_in_memory_sees_one_moment_and_the_next_call_another(name, into, shop_of_five, monkeypatch):
    errors = write_after_the_first_statement(monkeypatch, shop_of_five)
    with Shop(shop_of_five, read_only=True) as shop:
        seen = [CALLS[name](shop.orders, **into) for _ in range(2)]
        seen = [list(one) if name == "stream" else one for one in seen]
        assert list(map(of_version, seen)) == ["five", "six"]
    assert errors == [None]


@pytest.mark.parametrize("name", [name for name in CALLS if name != "stream"])
def test_an_async_call_in_memory_sees_one_moment(name, shop_of_five, monkeypatch):
    errors = write_after_the_first_statement(monkeypatch, shop_of_five)

    async def read():
        async with AsyncShop(shop_of_five, read_only=True) as shop:
            return [of_version(await CALLS[name](shop.orders)) for _ in range(2)]

    assert asyncio.run(read()) == ["five", "six"]
    assert errors == [None]


def test_a_unit_in_memory_keeps_its_own_changes_within_that_moment(shop_of_five, monkeypatch):
    with Shop(shop_of_five) as shop:
        shop.orders.add(Order(status="own", lines=[Line(sku="own")]))
        errors = write_after_the_first_statement(monkeypatch, shop_of_five)
        found = shop.orders.find(order_by="id")
        assert [(one.status, *skus(one)) for one in found] == [*[("five", "five")] * 3, ("own", "own")]
    assert errors == [None]


@pytest.mark.parametrize("into", [{}, {"into": View}], ids=["entities", "view"])
@pytest.mark.parametrize("lost_updates", ["refuse", "allow"])
def test_a_locking_call_in_memory_is_a_conflict_instead(into, lost_updates, monkeypatch):
    db = five(lost_updates)
    errors = write_after_the_first_statement(monkeypatch, db)
    with pytest.raises(TransactionConflictError), Shop(db) as shop:
        shop.orders.get(1, lock="update", **into)
    assert errors == [None]

"""What a reader sees of an aggregate that another unit changes between the statements that read it, as documented."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from sqlrepo import StaleEntityError
from sqlrepo.core.aggregates import Aggregate
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.units.test_parts import Base, Line, Order, Shop, changed, skus

# The database, its isolation, and if the reader sees the lines of the next version with the fields of this one.
PLACES = {
    "memory": ("memory", None, True),
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

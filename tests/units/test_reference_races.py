"""Units that are open at once in memory, whose rows refer to each other: the first to commit wins, and no row is left
that refers to none."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sqlrepo import ConstraintError, ForeignKeyViolationError, RepositoryError, TransactionConflictError, fields
from sqlrepo.memory import InMemoryDatabase
from tests.units.references import Badge, Customer, Folder, Line, Order, Remark, Seal, Shop, Stamp, Worker, everything

customer = fields(Customer)
order = fields(Order)


@pytest.fixture
def db():
    db = InMemoryDatabase()
    with Shop(db) as shop:
        shop.customers.add_many([Customer(id=1, code="a"), Customer(id=2, code="b")])
        shop.orders.add(Order(id=1, customer=1))
        shop.lines.add(Line(order_id=1, number=1))
        shop.workers.add(Worker(id=1))
        shop.folders.add(Folder(id=1))
    return db


def raced(db, mine, theirs, error):
    """Work in two units, of which the other one commits first; give what this one's commit raises."""
    first = Shop(db)
    first.__enter__()
    mine(first)
    with Shop(db) as second:
        theirs(second)
    with Shop(db) as shop:
        before = everything(shop)
    with pytest.raises(error) as caught:
        first.__exit__(None, None, None)
    with Shop(db) as shop:
        assert everything(shop) == before
    return caught.value


@pytest.mark.parametrize(
    ("child", "parent", "constraint", "fields"),
    [
        (
            lambda shop: shop.orders.add(Order(customer=2)),
            lambda shop: shop.customers.delete(2),
            "order_customer",
            ("customer",),
        ),
        (
            lambda shop: shop.orders.patch(1, {"customer": 2}),
            lambda shop: shop.customers.delete(2),
            "order_customer",
            ("customer",),
        ),
        (
            lambda shop: shop.lines.add(Line(order_id=1, number=2)),
            lambda shop: shop.orders.delete(1),
            "line_order",
            ("order_id",),
        ),
        (
            lambda shop: shop.remarks.add(Remark(order_id=1, line=1)),
            lambda shop: shop.orders.delete(1),
            "remark_line",
            ("order_id", "line"),
        ),
        (
            lambda shop: shop.badges.add(Badge(code="b")),
            lambda shop: shop.customers.patch(2, {"code": "c"}),
            "badge_code",
            ("code",),
        ),
        (lambda shop: shop.workers.add(Worker(boss=1)), lambda shop: shop.workers.delete(1), "worker_boss", ("boss",)),
    ],
)
def test_a_row_whose_parent_another_unit_took_away_is_a_violation(db, child, parent, constraint, fields):
    error = raced(db, child, parent, ForeignKeyViolationError)

    assert (error.constraint, error.fields) == (constraint, fields)


@pytest.mark.parametrize(
    ("parent", "child", "constraint", "fields"),
    [
        (
            lambda shop: shop.customers.delete(2),
            lambda shop: shop.orders.add(Order(customer=2)),
            "order_customer",
            ("customer",),
        ),
        (
            lambda shop: shop.customers.remove(Customer(id=2, code="b")),
            lambda shop: shop.seals.add(Seal(code="b")),
            "seal_code",
            ("code",),
        ),
        (
            lambda shop: shop.customers.patch(2, {"code": None}),
            lambda shop: shop.seals.add(Seal(code="b")),
            "seal_code",
            ("code",),
        ),
        (lambda shop: shop.workers.delete(1), lambda shop: shop.workers.add(Worker(boss=1)), "worker_boss", ("boss",)),
    ],
)
def test_a_row_that_another_unit_began_to_refer_to_stays(db, parent, child, constraint, fields):
    error = raced(db, parent, child, ForeignKeyViolationError)

    assert (error.constraint, error.fields) == (constraint, fields)


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        (lambda shop: shop.orders.delete(1), lambda shop: shop.lines.add(Line(order_id=1, number=2))),
        (lambda shop: shop.orders.delete(1), lambda shop: shop.lines.patch((1, 1), {"amount": 5})),
        (lambda shop: shop.orders.delete(1), lambda shop: shop.remarks.add(Remark(order_id=1, line=1))),
        (lambda shop: shop.customers.delete(2), lambda shop: shop.badges.add(Badge(code="b"))),
        (lambda shop: shop.customers.patch(2, {"code": "c"}), lambda shop: shop.badges.add(Badge(code="b"))),
        (lambda shop: shop.customers.delete(2), lambda shop: shop.stamps.add(Stamp(code="b"))),
        (lambda shop: shop.folders.delete(1), lambda shop: shop.folders.add(Folder(within=1))),
    ],
)
def test_a_cascade_that_missed_a_row_of_another_unit_is_a_conflict(db, parent, child):
    assert raced(db, parent, child, TransactionConflictError).retryable


def test_units_that_do_not_meet_both_commit(db):
    first = Shop(db)
    with first:
        first.orders.add(Order(id=5, customer=2))
        with Shop(db) as second:
            second.orders.add(Order(id=6, customer=2))
            second.orders.delete(1)
    with Shop(db) as shop:
        assert [one.id for one in shop.orders.find()] == [5, 6]
        assert shop.lines.count() == 0


def test_what_a_unit_deletes_and_writes_again_may_be_referred_to(db):
    first = Shop(db)
    with first:
        first.customers.delete(2)
        first.customers.add(Customer(id=2, code="b"))
        with Shop(db) as second:
            second.badges.add(Badge(code="b"))
    with Shop(db) as shop:
        assert shop.badges.count(code="b") == 1


def test_a_savepoint_that_was_undone_conflicts_with_nobody(db):
    def undone():
        first.orders.delete(1)
        raise KeyError

    first = Shop(db)
    with first:
        with pytest.raises(KeyError), first.savepoint():
            undone()
        first.customers.add(Customer(id=3))
        with Shop(db) as second:
            second.lines.add(Line(order_id=1, number=2))
    with Shop(db) as shop:
        assert (shop.lines.count(), shop.customers.count()) == (2, 3)


def test_threads_leave_no_row_that_refers_to_none(db):
    def work(number):
        for turn in range(25):
            try:
                with Shop(db) as shop:
                    parent = (number + turn) % 4 + 10
                    if turn % 3:
                        shop.customers.save(Customer(id=parent, code=str(parent)))
                        shop.orders.add(Order(customer=parent))
                        shop.badges.add(Badge(code=str(parent)))
                    else:
                        shop.orders.delete_where(order.customer == parent)
                        shop.customers.delete_where(customer.id == parent)
            except RepositoryError as error:
                assert isinstance(error, ConstraintError) or error.retryable  # noqa: PT017  # both are what races are told

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with Shop(db) as shop:
        customers = shop.customers.find()
        assert {one.customer for one in shop.orders.find()} <= {one.id for one in customers}
        assert {one.code for one in shop.badges.find()} <= {one.code for one in customers}

"""A unit in the session of a request: repositories and the ORM see each other's pending changes."""

import sqlite3

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from sqlrepo import LockTimeoutError, MappingError, fields
from sqlrepo.sqlalchemy import Database
from tests.beside import repositories
from tests.beside.application import Base, Entry, JournalBase, Order, OrderLine, Product, only_rows_of_the_tenant
from tests.beside.repositories import Caller, Journal, Sales, Shop, Unscoped
from tests.beside.stores import STORES, engines

p = fields(repositories.Product)


@pytest.fixture(params=STORES)
def engine(request, tmp_path):
    with engines(request.param, tmp_path) as (main, _):
        Base.metadata.create_all(main)
        yield main


@pytest.fixture(params=[{}, {"autoflush": False, "expire_on_commit": False}], ids=["usual", "unflushed"])
def sessions(request, engine):
    made = sessionmaker(engine, info={"tenant": 1}, **request.param)
    event.listen(made, "do_orm_execute", only_rows_of_the_tenant)
    return made


@pytest.fixture
def db(sessions):
    with sessions() as session:
        yield session


@pytest.fixture
def sales(db):
    return Sales(db, context=Caller(1))


def product(sku, **values):
    return Product(tenant_id=1, sku=sku, name=f"a {sku}", **values)


def item(sku, **values):
    return repositories.Product(tenant_id=1, sku=sku, name=f"a {sku}", **values)


# -- changes of the ORM that a repository reads before they are flushed


def test_every_read_sees_pending_rows(db, sales):
    reads = {
        "find": lambda: len(sales.products.find()),
        "count": sales.products.count,
        "page": lambda: sales.products.page(repositories.ProductQuery(), with_total=True).total,
        "scroll": lambda: len(sales.products.scroll(repositories.ProductQuery()).items),
        "stream": lambda: len(list(sales.products.stream())),
        "update_where": lambda: sales.products.update_where(p.stock >= 0, set_={"name": "all"}),
    }
    for number, (name, read) in enumerate(reads.items(), start=1):
        db.add(product(name))
        assert read() == number, name
    db.add(product("last"))
    assert sales.products.exists(sku="last")


def test_a_pending_change_is_seen(db, sales):
    tea = product("tea", stock=5)
    db.add(tea)
    db.commit()
    tea.stock = 4
    assert sales.products.get(tea.id).stock == 4
    tea.stock = 3
    assert sales.products.count(p.stock == 3) == 1


def test_a_pending_deletion_is_seen(db, sales):
    tea = product("tea")
    db.add(tea)
    db.commit()
    db.delete(tea)
    assert not sales.products.exists(sku="tea")


def test_children_of_a_pending_parent_are_seen(db, sales):
    tea = product("tea")
    db.add(tea)
    db.add(Order(tenant_id=1, customer="Ada", lines=[OrderLine(tenant_id=1, product=tea, quantity=2)]))
    assert [line.quantity for line in sales.lines.find()] == [2]


def test_an_upsert_updates_a_pending_row(db, sales):
    db.add(product("tea", stock=5))
    saved = sales.products.upsert(item("tea", stock=6), on=("tenant_id", "sku"))
    assert (saved.created, db.scalars(sa.select(Product)).one().stock) == (False, 6)


# -- writes of a repository to rows that the ORM has loaded


def test_loaded_objects_show_a_repositorys_writes(db, sales):
    tea, milk = product("tea", stock=5), product("milk")
    db.add_all([tea, milk])
    db.commit()
    assert (tea.stock, milk.stock) == (5, 0)
    sales.products.patch(tea.id, {"stock": 4})
    sales.products.update_where(p.sku == "milk", set_={"stock": 9})
    assert (tea.stock, milk.stock) == (4, 9)
    tea.stock -= 1
    db.commit()
    assert sales.products.get(tea.id).stock == 3


def test_a_loaded_collection_shows_a_new_child(db, sales):
    tea, order = product("tea"), Order(tenant_id=1, customer="Ada")
    db.add_all([tea, order])
    db.flush()
    assert order.lines == []
    given = {"order_id": order.id, "product_id": tea.id}
    sales.lines.add(repositories.OrderLine(tenant_id=1, quantity=2, **given))
    assert [line.quantity for line in order.lines] == [2]


def test_the_orm_sees_added_and_deleted_rows(db, sales):
    tea, milk = sales.products.add_many([item("tea"), item("milk")])
    assert db.get(Product, tea.id).sku == "tea"
    assert db.get(Product, milk.id) is not None
    sales.products.delete(milk.id)
    assert list(db.scalars(sa.select(Product.sku))) == ["tea"]
    db.expire_all()
    assert db.get(Product, milk.id) is None


def test_a_pending_change_survives_a_write_of_the_repository(db, sales):
    tea = product("tea", stock=5)
    db.add(tea)
    db.commit()
    tea.name = "Earl Grey"
    pending = product("milk")
    db.add(pending)
    sales.products.patch(tea.id, {"stock": 4})
    assert (tea.name, tea.stock, pending.sku) == ("Earl Grey", 4, "milk")
    db.commit()
    assert {(one.name, one.stock) for one in sales.products.find()} == {("Earl Grey", 4), ("a milk", 0)}


# -- two databases


def test_one_session_on_two_databases_has_a_unit_on_each(tmp_path):
    with engines("attached", tmp_path) as (main, journal_engine):
        Base.metadata.create_all(main)
        JournalBase.metadata.create_all(journal_engine)
        made = sessionmaker(binds={Base: main, JournalBase: journal_engine})
        for end, kept in (("rollback", 0), ("commit", 2)):
            with made() as db:
                sales, journal = Sales(db, context=Caller(1)), Journal(db, context=Caller(1))
                db.add_all([product("tea"), Entry(tenant_id=1, text="tea")])
                sales.products.add(item("milk"))
                journal.entries.add(repositories.Entry(tenant_id=1, text="milk"))
                assert (sales.products.count(), journal.entries.count()) == (2, 2)
                getattr(db, end)()
            with made() as db:
                assert Shop(db, context=Caller(1)).products.count() == kept
                assert Journal(db, context=Caller(1)).entries.count() == kept


# -- a unit of its own, on their engine


def test_a_unit_beside_the_session_is_another_transaction(db, engine):
    event.listen(engine, "connect", hurry)
    engine.dispose()
    db.add(product("tea"))
    db.flush()
    beside = Shop(Database(engine), context=Caller(1))
    if engine.dialect.name == "sqlite":
        with pytest.raises(LockTimeoutError), beside:
            beside.products.count()
    else:
        with beside:
            assert beside.products.count() == 0
    db.commit()
    with beside:
        assert beside.products.count() == 1


def hurry(connection, _):
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA busy_timeout = 50")


@pytest.mark.parametrize("read_only", [False, True])
def test_their_engines_begin_event_fires_for_each_unit(engine, read_only):
    """Applications use this event for a SET of row security, say."""
    begun = []
    event.listen(engine, "begin", begun.append)
    shop = Shop(Database(engine), context=Caller(1), read_only=read_only)
    for _ in range(2):
        begun.clear()
        with shop:
            shop.products.count()
    assert len(begun) == 1  # the first unit also asks the server for its capabilities


# -- listeners


def test_a_listener_of_all_sessions_is_noticed(engine):
    event.listen(Session, "do_orm_execute", only_rows_of_the_tenant)
    try:
        with Session(engine) as session, pytest.raises(MappingError, match="only_rows_of_the_tenant"):
            Unscoped(session)
    finally:
        event.remove(Session, "do_orm_execute", only_rows_of_the_tenant)
    with Session(engine) as session:
        assert Unscoped(session).count() == 0


def test_the_scope_replaces_the_listener(db, sessions):
    db.add_all([product("tea"), Product(tenant_id=2, sku="milk", name="theirs")])
    db.commit()
    assert list(db.scalars(sa.select(Product.sku))) == ["tea"]
    for tenant, sku in ((1, "tea"), (2, "milk")):
        assert [one.sku for one in Shop(db, context=Caller(tenant)).products.find()] == [sku]

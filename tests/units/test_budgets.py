"""What repositories and units send is counted; memory and the databases count alike, but for what is named here."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from sqlrepo import UniqueViolationError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import QueryBudgetError, probes, query_budget
from sqlrepo.testing.probes import ProbedDriver
from tests.units.domain import Shop, Todo, TodoQuery, TodoRow, Todos, create, todo

# One row per operation: what it is called, what it costs, what it does with three rows of the keys 1 to 3.
OPERATIONS = [
    ("get", 1, lambda todos: todos.get(1)),
    ("get_or_none, not there", 1, lambda todos: todos.get_or_none(99)),
    ("get with a lock", 1, lambda todos: todos.get(1, lock="update")),
    ("get_many", 1, lambda todos: todos.get_many([1, 2, 99])),
    ("get_many of no keys", 0, lambda todos: todos.get_many([])),
    ("get_many of more keys than go into one statement", 2, lambda todos: todos.get_many(range(1, 502))),
    ("one", 1, lambda todos: todos.one(key="k1")),
    ("one_or_none", 1, lambda todos: todos.one_or_none(key="none")),
    ("first", 1, lambda todos: todos.first()),
    ("find", 1, lambda todos: todos.find(todo.priority >= 0, order_by="-key", limit=2)),
    ("count", 1, lambda todos: todos.count()),
    ("exists", 1, lambda todos: todos.exists(key="k1")),
    ("stream of one chunk", 1, lambda todos: list(todos.stream())),
    ("page", 1, lambda todos: todos.page(TodoQuery(limit=2))),
    ("page with a total", 2, lambda todos: todos.page(TodoQuery(limit=2), with_total=True)),
    ("page with a total that it tells itself", 1, lambda todos: todos.page(TodoQuery(limit=9), with_total=True)),
    ("last page with a total", 1, lambda todos: todos.page(TodoQuery(limit=2, offset=2), with_total=True)),
    ("page behind the last, with a total", 2, lambda todos: todos.page(TodoQuery(limit=5, offset=9), with_total=True)),
    ("get_many of more keys than go into two statements", 3, lambda todos: todos.get_many(range(1, 1201))),
    ("scroll", 1, lambda todos: todos.scroll(TodoQuery(limit=2))),
    ("add", 1, lambda todos: todos.add(Todo(key="new"))),
    ("add with a given key", 1, lambda todos: todos.add(Todo(id=50, key="new"))),
    ("add_many", 1, lambda todos: todos.add_many(Todo(key=f"n{number}") for number in range(3))),
    ("add_many in batches", 1, lambda todos: todos.add_many(Todo(key=f"n{number}") for number in range(2_500))),
    ("add_many of no entities", 0, lambda todos: todos.add_many([])),
    ("update", 2, lambda todos: todos.update(Todo(id=1, key="x"))),
    ("patch", 2, lambda todos: todos.patch(1, {"value": "x"})),
    ("patch of nothing", 1, lambda todos: todos.patch(1, {})),
    ("save, inserting", 1, lambda todos: todos.save(Todo(key="new"))),
    ("save, updating", 2, lambda todos: todos.save(Todo(id=1, key="x"))),
    ("save with a given key, inserting", 3, lambda todos: todos.save(Todo(id=50, key="new"))),
    ("upsert, inserting", 1, lambda todos: todos.upsert(Todo(key="new"), on="key")),
    ("upsert, updating", 1, lambda todos: todos.upsert(Todo(key="k1", value="x"), on="key")),
    ("upsert, changing nothing", 1, lambda todos: todos.upsert(Todo(key="k1"), on="key", update=())),
    ("delete", 1, lambda todos: todos.delete(1)),
    ("remove", 1, lambda todos: todos.remove(Todo(id=1, key="k1"))),
    ("update_where", 1, lambda todos: todos.update_where(todo.priority == 0, set_={"value": "x"})),
    ("delete_where", 1, lambda todos: todos.delete_where(todo.priority == 0)),
]

# What costs a database something else than memory; `query_budget` says why.
DIFFERENT = {
    ("sqlite", "upsert, updating"): 3,
    ("sqlite", "upsert, changing nothing"): 2,
    ("mariadb", "upsert, updating"): 3,
    ("mariadb", "upsert, changing nothing"): 2,
    ("postgresql", "add with a given key"): 2,
    ("postgresql", "save with a given key, inserting"): 4,
}


on_databases = pytest.mark.parametrize("backend", ["sqlite", "postgresql", "mariadb"], indirect=True)


@pytest.fixture(autouse=True)
def closed():
    yield
    assert not probes.is_active()


@pytest.fixture
def filled(db):
    with Shop(db) as shop:
        shop.todos.add_many(Todo(id=number, key=f"k{number}") for number in (1, 2, 3))
    return db


def spend(limit, db, *calls):
    with query_budget(limit), Shop(db) as shop:
        for call in calls:
            call(shop)


def count(shop):
    return shop.todos.count()


def fail(_):
    raise KeyError


@pytest.mark.parametrize(("name", "cost", "operation"), OPERATIONS, ids=[name for name, _, _ in OPERATIONS])
def test_an_operation_costs_the_same_on_every_backend(filled, backend, name, cost, operation):
    with Shop(filled) as shop, query_budget(100) as spent:
        operation(shop.todos)
    assert spent.count == DIFFERENT.get((backend, name), cost)


def test_an_exceeded_budget_shows_what_was_sent_and_no_values(filled, backend):
    with pytest.raises(QueryBudgetError) as caught:
        spend(
            1,
            filled,
            lambda shop: shop.todos.add(Todo(key="secret", value="private")),
            lambda shop: shop.todos.find(todo.key == "secret"),
        )
    error = caught.value
    assert isinstance(error, AssertionError)
    assert (error.limit, error.count) == (1, 2)
    starts = ("insert todo", "fetch todo") if backend == "memory" else ("INSERT INTO todo", "SELECT todo.id")
    assert [statement.startswith(start) for statement, start in zip(error.statements, starts, strict=True)] == [
        True
    ] * 2
    assert not any(value in f"{error}{error.args}" for value in ("secret", "private"))


def test_a_long_list_is_cut_in_the_text_only(filled):
    with pytest.raises(QueryBudgetError) as caught:
        spend(0, filled, *[count] * 100)
    assert len(caught.value.statements) == 100
    assert str(caught.value).count("todo") < 100


def test_an_error_of_the_block_is_the_one_that_is_raised(filled):
    with pytest.raises(KeyError):
        spend(0, filled, count, fail)


def test_nothing_of_a_transaction_counts_but_its_statements(filled):
    with query_budget(1) as spent:
        with Shop(filled) as shop:
            with shop.savepoint():
                shop.todos.add(Todo(key="a"))
            with pytest.raises(KeyError), shop.savepoint():
                raise KeyError
            shop.commit()
        with Shop(filled):
            pass
    assert spent.count == 1


def test_what_is_learnt_of_a_table_once_does_not_count(db):
    with query_budget(1) as spent, Shop(db, read_only=True) as shop:
        shop.todos.find()
    assert spent.count == 1


def test_a_refused_statement_counts_and_a_foreseen_refusal_does_not(filled):
    with query_budget(9) as spent:
        with pytest.raises(UniqueViolationError), Shop(filled) as shop:
            shop.todos.add(Todo(key="k1"))
        with pytest.raises(ValueError, match="limit"), Shop(filled) as shop:
            shop.todos.find(limit=-1)
    assert spent.count == 1


def test_nested_budgets_both_count(filled):
    with query_budget(3) as outer, Shop(filled) as shop:
        shop.todos.count()
        with query_budget(1) as inner:
            shop.todos.count()
        shop.todos.count()
    assert (outer.count, inner.count) == (3, 1)


def test_a_budget_can_count_one_database_only(filled):
    other = create(InMemoryDatabase())
    with query_budget(9, on=filled) as here, query_budget(9, on=other) as there, query_budget(9) as everywhere:
        Todos(filled).count()
        Todos(other).count()
        Todos(other).find()
    assert (here.count, there.count, everywhere.count) == (1, 2, 3)


def test_units_in_other_threads_count(filled):
    with query_budget(5) as spent, ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: Todos(filled).count(), range(5)))
    assert spent.count == 5


def test_a_budget_ends_with_its_block_and_may_be_opened_again(filled):
    budget = query_budget(1)
    for _ in range(2):
        with budget:
            Todos(filled).count()
        Todos(filled).count()
        assert budget.count == 1


def test_a_budget_is_open_once():
    budget = query_budget(1)
    with budget, pytest.raises(RuntimeError), budget:
        pass


def test_a_negative_budget_is_refused():
    with pytest.raises(ValueError, match="-1"):
        query_budget(-1)


@pytest.mark.parametrize("on", [Shop(InMemoryDatabase()), "sqlite://", Todos])
def test_a_budget_is_for_a_database(on):
    with pytest.raises(TypeError):
        query_budget(1, on=on)


@on_databases
def test_what_is_sent_through_session_and_connection_counts(filled):
    with query_budget(4) as spent, Shop(filled) as shop:
        shop.session.get(TodoRow, 1)
        shop.session.execute(sa.text("SELECT 1"))
        shop.connection.exec_driver_sql("SELECT 2")
        shop.session.execute(
            sa.update(TodoRow.__table__).where(TodoRow.id == sa.bindparam("k")).values(value=sa.bindparam("v")),
            [{"k": 1, "v": "x"}, {"k": 2, "v": "y"}],
        )  # an executemany
        with shop.session.begin_nested():
            pass
    assert spent.count == 4
    assert spent.statements[1:3] == ("SELECT 1", "SELECT 2")


@on_databases
@pytest.mark.parametrize("foreign", [False, True])
def test_what_makes_a_session_read_only_does_not_count(filled, foreign):
    db = Database(filled.engine) if foreign else filled
    with query_budget(1) as spent, Shop(db, read_only=True) as shop:
        shop.session.execute(sa.text("SELECT 1"))
    assert spent.statements == ("SELECT 1",)


@on_databases
def test_a_joined_session_counts_once_however_many_units_joined(filled):
    with query_budget(9, on=filled) as spent, Session(filled.engine) as session:
        one, other = Shop(session), Shop(session)
        one.todos.get(1)
        other.todos.get(2)
        with one:
            session.execute(sa.text("SELECT 1"))
    assert spent.count == 3


@on_databases
def test_a_connection_that_is_no_units_does_not_count(filled):
    with query_budget(0), filled.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))


def test_without_probes_a_unit_works_on_the_plain_driver(db):
    with Shop(db) as shop:
        assert not isinstance(shop._work.run(lambda driver: driver), ProbedDriver)
        with query_budget(1):
            assert isinstance(shop._work.run(lambda driver: driver), ProbedDriver)
        assert not isinstance(shop._work.run(lambda driver: driver), ProbedDriver)

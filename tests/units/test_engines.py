"""Engines the application has already, and SELECTs of its own: used as they are, and right all the same."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, SingletonThreadPool, StaticPool

from sqlrepo import QueryError, UniqueViolationError, UnsupportedError
from sqlrepo.sqlalchemy import Database, apply_query
from tests.units.domain import (
    SERVED,
    Account,
    AccountRow,
    Bank,
    Base,
    Shop,
    Tag,
    TagRow,
    Todo,
    TodoQuery,
    TodoRow,
    Todos,
    database,
    leave_by,
)


def keys(db):
    return [one.key for one in Todos(db).find()]


def plain(tmp_path, **options):
    return sa.create_engine(f"sqlite:///{tmp_path}/theirs.db", **options)


def hooked(tmp_path, **options):
    """An engine as SQLAlchemy's documentation makes it for SQLite."""
    engine = plain(tmp_path, **options)

    @event.listens_for(engine, "connect")
    def connected(connection, _):
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begun(connection):
        connection.exec_driver_sql("BEGIN")

    return engine


def enforcing(tmp_path, **options):
    """An engine in the driver's own mode that enforces foreign keys."""
    engine = plain(tmp_path, **options)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    return engine


@pytest.fixture(
    params=[
        hooked,
        enforcing,
        lambda path: enforcing(path, poolclass=NullPool),
        lambda path: enforcing(path, isolation_level="SERIALIZABLE"),
        lambda path: enforcing(path, isolation_level="AUTOCOMMIT"),
    ],
    ids=["hooked", "plain", "null pool", "serializable", "autocommit"],
)
def engine(request, tmp_path):
    engine = request.param(tmp_path)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_transactions_are_right_on_an_engine_of_somebody_else_s(engine):
    db = Database(engine)
    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(db), lambda shop: shop.todos.add(Todo(key="a")))
    assert keys(db) == []
    with Shop(db) as shop:
        shop.todos.add(Todo(key="b"))
        shop.rollback()
        shop.todos.add(Todo(key="c"))
        shop.commit()
        shop.todos.add(Todo(key="d"))
    assert keys(db) == ["c", "d"]


def test_savepoints_are_right_on_an_engine_of_somebody_else_s(engine):
    db = Database(engine)

    def work(shop):
        with shop.savepoint():
            shop.todos.add(Todo(key="a"))
        with pytest.raises(UniqueViolationError), shop.savepoint():
            shop.todos.add_many([Todo(key="b"), Todo(key="a")])

    with pytest.raises(KeyError):
        leave_by(KeyError(), Shop(db), work)  # a savepoint at the beginning must not commit when it is released
    assert keys(db) == []
    with Shop(db) as shop:
        work(shop)
    assert keys(db) == ["a"]


def test_an_engine_of_somebody_else_s_is_not_changed(tmp_path):
    engine = enforcing(tmp_path)
    Base.metadata.create_all(engine)

    def seen():
        with engine.connect() as connection:
            driver = connection.connection.dbapi_connection
            pragmas = ("foreign_keys", "journal_mode", "busy_timeout", "query_only")
            return [
                driver.isolation_level,
                driver.in_transaction,
                connection.get_execution_options().get("isolation_level"),
                *(driver.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas),
            ]

    before = seen()
    db = Database(engine)
    with Shop(db) as shop:
        shop.todos.add(Todo(key="a"))
    with Shop(db, read_only=True) as shop:
        shop.session.get(TodoRow, 1)

    assert db.engine is engine
    assert seen() == before
    with Session(engine) as session:
        session.add(TodoRow(key="b", value="", done=False, priority=0))
        session.commit()
    assert keys(db) == ["a", "b"]
    engine.dispose()


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "sqlrepo"]


def test_what_an_engine_lacks_is_named_once(tmp_path, caplog):
    engine = plain(tmp_path, poolclass=NullPool)
    Base.metadata.create_all(engine)
    db = Database(engine)
    for key in "abc":
        with Shop(db) as shop:
            shop.todos.add(Todo(key=key))

    assert len(warned(caplog)) == 1
    assert "PRAGMA foreign_keys" in warned(caplog)[0]


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_a_pool_that_shares_its_connection_is_named(tmp_path, caplog, pool):
    engine = hooked(tmp_path, poolclass=pool)
    Base.metadata.create_all(engine)
    db = Database(engine)
    for _ in range(2):
        assert keys(db) == []

    assert len(warned(caplog)) == 1
    assert pool.__name__ in warned(caplog)[0]
    engine.dispose()


def test_an_engine_that_lacks_nothing_is_not_warned_about(tmp_path, caplog):
    engine = hooked(tmp_path)
    Base.metadata.create_all(engine)
    assert keys(Database(engine)) == []
    assert warned(caplog) == []
    engine.dispose()


def test_errors_of_the_application_s_own_connections_do_not_reach_a_unit(tmp_path):
    engine = enforcing(tmp_path)
    Base.metadata.create_all(engine)
    db = Database(engine)
    with Shop(db, read_only=True) as shop:
        shop.todos.count()
        with engine.connect() as other, pytest.raises(sa.exc.OperationalError):
            other.exec_driver_sql("SELECT * FROM nowhere")
        assert shop.todos.count() == 0
    engine.dispose()


# -- the translator alone


@pytest.fixture(scope="module", params=["sqlite", *SERVED])
def filled(request):
    db = database(request.param)
    with Shop(db) as shop:
        shop.todos.add_many(
            [Todo(key=key, priority=i % 2, done=i > 2) for i, key in enumerate(["a%", "ab", "É", "b_", "%"])]
        )
        shop.tags.add_many([Tag(owner="ab", name="x"), Tag(owner="b_", name="y")])
    with Bank(db) as bank:
        bank.accounts.add(Account("ab"))
    yield db
    db.dispose()


@pytest.fixture
def session(filled):
    with Session(filled.engine) as session:
        yield session


@pytest.mark.parametrize(
    "query",
    [
        TodoQuery(),
        TodoQuery(key_contains="%"),
        TodoQuery(key_in=["ab", "b_"], order_by="-priority"),
        TodoQuery(key_in=[]),
        TodoQuery(due_is_null=True, limit=2, offset=1, order_by="-due"),
        TodoQuery(text="a", done=False),
        TodoQuery(text="A"),
        TodoQuery(key_in=["é", "É"], order_by="key"),
        TodoQuery(limit=0),
        TodoQuery(offset=3),
        TodoQuery(limit=2**31),
        TodoQuery(limit=2**62 - 1, offset=2**31),
    ],
)
def test_a_select_is_narrowed_as_a_repository_would(session, filled, query):
    found = [one.key for one in session.scalars(apply_query(sa.select(TodoRow), query))]
    session.close()

    assert found == [one.key for one in Todos(filled).find(query)]


def test_a_select_keeps_its_own_joins_and_conditions(session):
    joined = sa.select(TodoRow, TagRow).join(TagRow, TagRow.owner == TodoRow.key).where(TagRow.name != "x")
    found = session.execute(apply_query(joined, TodoQuery(done=True))).all()

    assert [(one.key, tag.name) for one, tag in found] == [("b_", "y")]


def test_a_narrowed_select_is_kept_without_its_values(session):
    for text, found in (("a", ["a%", "ab"]), ("b", ["ab", "b_"]), ("zz", [])):
        statement = apply_query(sa.select(TodoRow), TodoQuery(key_contains=text))
        assert [one.key for one in session.scalars(statement)] == found


def test_one_statement_takes_several_queries(session):
    statement = apply_query(apply_query(sa.select(TodoRow), TodoQuery(key_contains="a")), TodoQuery(key_contains="%"))

    assert [one.key for one in session.scalars(statement)] == ["a%"]


def test_a_select_of_another_class_is_refused():
    todos = sa.select(TodoRow)
    for statement in (
        sa.select(AccountRow),
        sa.select(TagRow),
        sa.select(sa.literal(1)),
        sa.select(sa.func.count()),
        sa.union(todos, todos),
        TodoRow,
        None,
    ):
        with pytest.raises(QueryError):
            apply_query(statement, TodoQuery(done=True, order_by="priority"))


def test_a_limit_of_the_statements_own_is_not_widened(session):
    with pytest.raises(QueryError):
        apply_query(sa.select(TodoRow).limit(1), TodoQuery(limit=2))

    assert len(session.scalars(apply_query(sa.select(TodoRow).limit(1), TodoQuery(done=False))).all()) == 1


@pytest.mark.parametrize("url", ["postgresql+psycopg://x", "mysql+pymysql://x", "sqlite://"])
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "nonsense", "read committed"])
def test_an_isolation_that_is_none_is_refused(url, level):
    with pytest.raises(UnsupportedError):
        Database(url, isolation=level)


@pytest.mark.parametrize("given", ["secret of mine", None, 5])
def test_what_is_no_url_is_refused_without_being_shown(given):
    with pytest.raises(UnsupportedError) as caught:
        Database(given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgres://x", "postgresql://x"])
def test_the_error_of_a_url_without_driver_says_what_to_write(url):
    with pytest.raises(UnsupportedError, match=r"write postgresql\+psycopg://"):
        Database(url)


def test_a_driver_that_no_extra_brings_is_named_as_its_package():
    with pytest.raises(UnsupportedError, match=r"pip install pg8000$"):
        Database("postgresql+pg8000://x")


def test_errors_of_your_own_statements_hide_their_parameters():
    db = Database("sqlite://")
    with pytest.raises(sa.exc.OperationalError) as caught, db.engine.connect() as connection:
        connection.execute(sa.text("SELECT * FROM nowhere WHERE key = :key"), {"key": "s3cret"})
    assert "s3cret" not in str(caught.value)
    db.dispose()

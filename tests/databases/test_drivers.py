"""The same fault is the same error whichever driver tells it, the asynchronous ones included."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from sqlrepo import (
    AsyncBaseRepository,
    CheckViolationError,
    DatabaseUnavailableError,
    ForeignKeyViolationError,
    InvalidValueError,
    LockTimeoutError,
    NotNullViolationError,
    ProgrammingError,
    ReadOnlyError,
    StatementTimeoutError,
    UniqueViolationError,
)
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.sqlalchemy.errors import KnownTables, translate
from sqlrepo.tables.schema import Schema
from tests.databases import servers
from tests.databases.domain import Base, OwnerRow, Owners, Thing, ThingRow, Things

DRIVERS = [
    "sqlite+pysqlite",
    "sqlite+aiosqlite",
    "postgresql+psycopg",
    "postgresql+psycopg_async",
    "postgresql+asyncpg",
]
DRIVERS += ["mariadb+pymysql", "mariadb+asyncmy"]
ROW = {"code": "secret", "size": 1, "weight": 1}


@pytest.fixture
def tables():
    known = KnownTables()
    known.register(Things.definition().schema)
    known.register(Owners.definition().schema)
    return known


@pytest.fixture(params=DRIVERS)
def driver(request):
    return request.param


@pytest.fixture
def kind(driver):
    return driver.partition("+")[0]


@pytest.fixture
def url(driver, kind, tmp_path):
    if kind == "sqlite":
        url = sa.make_url(f"sqlite:///{tmp_path}/faults.db")
        Base.metadata.create_all(engine := sa.create_engine(url))
        engine.dispose()
        return url.set(drivername=driver)
    return servers.emptied(driver, Base)


def failing(url, *statements):
    if not url.get_dialect().is_async:
        engine = sa.create_engine(url)
        try:
            return failure(engine, statements)
        finally:
            engine.dispose()

    async def work():
        engine = create_async_engine(url)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(tried, statements)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is looked at
            return error
        finally:
            await engine.dispose()

    return asyncio.run(work())


def failure(engine, statements):
    try:
        with engine.connect() as connection:
            return tried(connection, statements)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is looked at
        return error


def tried(connection, statements):
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    try:
        for statement in statements:
            connection.execute(sa.text(statement) if isinstance(statement, str) else statement)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is looked at
        return error
    finally:
        connection.rollback()


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([sa.insert(ThingRow).values(ROW | {"id": 1})] * 2, (UniqueViolationError, None, {("id",), ("code",)})),
        ([sa.insert(ThingRow).values(ROW)] * 2, (UniqueViolationError, "ux_code", {("code",)})),
        ([sa.insert(OwnerRow).values(name="ann")] * 2, (UniqueViolationError, None, {("name",)})),
        ([sa.insert(ThingRow).values(code="a", size=1)], (NotNullViolationError, None, {("weight",)})),
        ([sa.insert(ThingRow).values(ROW | {"size": 0})], (CheckViolationError, "size_is_positive", {()})),
        ([sa.insert(ThingRow).values(ROW | {"weight": 0})], (CheckViolationError, None, {()})),
        ([sa.insert(ThingRow).values(ROW | {"owner": 9})], (ForeignKeyViolationError, "fk_owner", {("owner",)})),
    ],
)
def test_constraint_violations_are_translated_alike(url, tables, statements, expected):
    error, constraint, names = expected
    found = translate(failing(url, *statements), tables, (None, statements[-1].table.name))

    assert type(found) is error
    if url.get_backend_name() == "sqlite" and error is ForeignKeyViolationError:
        assert (found.constraint, found.fields) == (None, ())
    elif names == {("id",), ("code",)}:  # which of two is not portable
        assert found.fields in names
    else:
        assert (found.constraint, {found.fields}) == (constraint, names)
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("SELECT * FROM nowhere", ProgrammingError),
        ("SELECT nothing FROM thing", ProgrammingError),
        ("SELEKT 1", ProgrammingError),
    ],
)
def test_wrong_statements_are_translated_alike(url, tables, statement, error):
    assert type(translate(failing(url, statement), tables)) is error


SEVEN = "(SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7)"
SERVED = {
    "postgresql": {
        "too long": ["INSERT INTO thing (code, size, weight) VALUES (repeat('x', 21), 1, 1)"],
        "too large": ["INSERT INTO thing (code, size, weight) VALUES ('x', 3000000000, 1)"],
        "read only": ["SET TRANSACTION READ ONLY", "DELETE FROM thing"],
        "slow": ["SET LOCAL statement_timeout = 50", "SELECT pg_sleep(5)"],
        "killed": ["SELECT pg_terminate_backend(pg_backend_pid())", "SELECT 1"],
    },
    "mariadb": {
        "too long": ["INSERT INTO thing (code, size, weight) VALUES (repeat('x', 21), 1, 1)"],
        "too large": ["INSERT INTO thing (code, size, weight) VALUES ('x', 3000000000, 1)"],
        "read only": ["SET SESSION TRANSACTION READ ONLY", "COMMIT", "DELETE FROM thing"],
        "slow": ["SET max_statement_time = 0.05", "SELECT count(*) FROM seq_1_to_1000000 a JOIN seq_1_to_1000000 b"],
        "killed": ["KILL CONNECTION_ID()", "SELECT 1"],
    },
}
SERVED["mysql"] = SERVED["mariadb"] | {
    "slow": ["SET max_execution_time = 50", f"SELECT count(*) FROM {', '.join(f'{SEVEN} t{n}' for n in range(9))}"],
}


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("too long", InvalidValueError),
        ("too large", InvalidValueError),
        ("read only", ReadOnlyError),
        ("slow", StatementTimeoutError),
        ("killed", DatabaseUnavailableError),
    ],
)
def test_refusals_of_the_server_are_translated_alike(url, kind, tables, what, error):
    if kind == "sqlite":
        pytest.skip("SQLite has no server")
    assert type(translate(failing(url, *SERVED[kind][what]), tables)) is error


@pytest.mark.parametrize("change", [{"port": 1}, {"database": "sqlrepo_test_missing"}, {"username": "sqlrepo_nobody"}])
def test_failures_to_connect_are_translated_alike(url, tables, change):
    if url.get_backend_name() == "sqlite":
        pytest.skip("SQLite has no server")
    assert type(translate(failing(url.set(**change), "SELECT 1"), tables)) is DatabaseUnavailableError


def test_a_lock_that_is_not_waited_for_is_translated_alike(url, kind, tables):
    if kind == "sqlite":
        pytest.skip("SQLite has no locks on rows")
    with sa.create_engine(servers.emptied(kind, Base), poolclass=sa.NullPool).connect() as holder:
        holder.execute(sa.insert(ThingRow).values(ROW | {"id": 1}))
        holder.commit()
        holder.execute(sa.select(ThingRow.id).with_for_update())
        locked = failing(url, sa.select(ThingRow.id).with_for_update(nowait=True))
    assert type(translate(locked, tables)) is LockTimeoutError


def test_a_program_s_own_error_is_not_translated(tables):
    assert translate(ZeroDivisionError(), tables) is None
    assert translate(TypeError(5), tables) is None


def test_tables_without_a_repository_are_known_by_their_metadata():
    known = KnownTables()
    known.register(Schema("owner", Owners.definition().schema.columns, ("id",), model=OwnerRow))
    assert known.find("thing").unique("ux_code").columns == ("code",)
    assert known.find("nowhere") is None


def test_a_driver_that_lost_its_place_has_lost_the_connection(tables):
    error = translate(asyncpg.InternalClientError("cannot switch to state 12"), tables)
    assert type(error) is DatabaseUnavailableError
    assert error.retryable


# -- values that only the server refuses

SYNC = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
NARROWER = {
    "postgresql": (
        "ALTER TABLE thing ALTER COLUMN note TYPE varchar(3)",
        "ALTER TABLE thing ALTER COLUMN note TYPE varchar(20)",
    ),
    "mysql": ("ALTER TABLE thing MODIFY note varchar(3)", "ALTER TABLE thing MODIFY note varchar(20)"),
}


class AsyncThings(AsyncBaseRepository[Thing, int]):
    model = ThingRow


def refused(url, call):
    """The error of a call in a unit of its own."""
    if not url.get_dialect().is_async:
        db = Database(url)
        with pytest.raises(InvalidValueError) as caught, Things(db) as things:
            call(things)
        db.dispose()
        return caught.value

    async def work():
        db = AsyncDatabase(url)
        with pytest.raises(InvalidValueError) as caught:
            async with AsyncThings(db) as things:
                await call(things)
        await db.dispose()
        return caught.value

    return asyncio.run(work())


def test_an_invalid_value_names_its_field_or_none_and_has_the_driver_s_error_as_cause(url):
    if url.get_backend_name() == "sqlite":
        pytest.skip("SQLite has no lengths")
    narrow, wide = NARROWER[url.get_backend_name()]
    plain = sa.create_engine(url.set(drivername=SYNC[url.get_backend_name()]), isolation_level="AUTOCOMMIT")
    servers.execute(plain, narrow)
    try:
        for call in (
            lambda things: things.add(Thing(code="a", note="too long")),
            lambda things: things.add_many([Thing(code="b"), Thing(code="c", note="too long")]),
        ):
            error = refused(url, call)
            # PostgreSQL names no column.
            assert (error.field, str(error)) == {
                "postgresql": (None, "is too long"),
                "mysql": ("note", "note: is too long"),
            }[url.get_backend_name()]
            assert isinstance(error.__cause__, sa.exc.DBAPIError)
            assert not error.retryable
    finally:
        servers.execute(plain, wide)
        plain.dispose()

"""How units get their connections on servers: isolation, readers of their own, engines the application has already."""

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from sqlrepo import UniqueViolationError, UnsupportedError
from sqlrepo.sqlalchemy import Database
from tests.databases.domain import Attic, Thing, ThingRow, Things, thing

LEVELS = {
    "postgresql": "SELECT current_setting('transaction_isolation')",
    "mariadb": "SELECT lower(replace(@@SESSION.tx_isolation, '-', ' '))",
    "mysql": "SELECT lower(replace(@@SESSION.transaction_isolation, '-', ' '))",
}


def warned(caplog):
    """What was said of the engine; what a server lacks is another thing."""
    return [text for record in caplog.records if "this engine" in (text := record.getMessage())]


def codes(db):
    return [one.code for one in Things(db).find()]


# -- isolation


@pytest.mark.parametrize(
    ("options", "level"), [({}, "read committed"), ({"isolation": "REPEATABLE READ"}, "repeatable read")]
)
def test_units_run_at_read_committed_by_default(opened, kind, options, level):
    with Attic(opened(**options)) as unit:
        assert unit.connection.exec_driver_sql(LEVELS[kind]).scalar_one() == level


def test_a_unit_that_reads_again_sees_what_was_committed_by_default(opened):
    for db, seen in ((opened(), ["x"]), (opened(isolation="REPEATABLE READ"), [])):
        for read_only in (False, True):
            with Attic(db) as unit:
                unit.things.delete_where(everything=True)
            with Attic(db, read_only=read_only) as unit:
                assert unit.things.find() == []
                with Attic(db) as other:
                    other.things.add(Thing(code="x"))
                assert [one.code for one in unit.things.find()] == seen
            assert ("rereads_committed" in db.missing_capabilities) is (seen == [])


# -- readers


def test_readers_have_a_pool_of_their_own(db):
    with Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        assert codes(db) == []
        assert db.engine.pool.checkedout() == 1
    with Attic(db, read_only=True) as unit:
        assert codes(db) == ["a"]
        assert db.engine.pool.checkedout() == 0
        assert unit.connection.engine is not db.engine


def test_reading_costs_one_statement_and_no_end_of_a_transaction(opened, kind):
    db = opened(ping=False)
    Things(db).find()
    sent = []
    with Attic(db, read_only=True) as unit:
        event.listen(unit.connection.engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
        if kind != "postgresql":
            ended = "SHOW SESSION STATUS WHERE variable_name IN ('Com_commit', 'Com_rollback')"
            before = unit.connection.exec_driver_sql(ended).all()
    sent.clear()
    for _ in range(3):
        assert Things(db).find() == []
    assert len(sent) == 3
    if kind != "postgresql":
        with Attic(db, read_only=True) as unit:
            assert unit.connection.exec_driver_sql(ended).all() == before


# -- engines of the application's


@pytest.fixture
def foreign(url):
    """A function that makes an engine as an application would."""
    made = []

    def make(**options):
        made.append(sa.create_engine(url, **options))
        return made[-1]

    yield make
    for engine in made:
        assert engine.pool.checkedout() == 0
        engine.dispose()


def test_what_an_engine_lacks_is_named_once(foreign, caplog):
    db = Database(foreign(isolation_level="REPEATABLE READ"))
    for _ in range(2):
        assert codes(db) == []

    assert len(warned(caplog)) == 1
    assert "REPEATABLE READ" in warned(caplog)[0]


def test_an_engine_that_lacks_nothing_is_not_warned_about(foreign, caplog):
    assert codes(Database(foreign(isolation_level="READ COMMITTED"))) == []
    assert warned(caplog) == []


def test_units_are_transactions_even_where_the_engine_commits_each_statement(foreign, caplog):
    engine = foreign(isolation_level="AUTOCOMMIT", pool_size=1)
    db = Database(engine)
    with pytest.raises(KeyError), Attic(db) as unit:
        unit.things.add(Thing(code="a"))
        raise KeyError
    assert codes(db) == []
    assert len(warned(caplog)) == 1
    with engine.connect() as connection:
        connection.execute(sa.insert(ThingRow).values(code="b", size=1, weight=1))
        connection.rollback()
    assert codes(db) == ["b"]  # as before, for the application


def test_a_read_only_unit_on_such_an_engine_cannot_write_either(foreign):
    db = Database(foreign(isolation_level="READ COMMITTED"))
    with pytest.raises(sa.exc.DBAPIError), Attic(db, read_only=True) as unit:
        assert unit.things.find() == []
        unit.connection.exec_driver_sql("DELETE FROM thing")
    with Attic(db) as unit:
        unit.things.add(Thing(code="a"))
    assert codes(db) == ["a"]


def test_several_databases_may_share_an_engine(foreign):
    engine = foreign(isolation_level="READ COMMITTED")
    first, second = Database(engine), Database(engine.execution_options(logging_token="second"))
    for number, db in enumerate((first, second, Database(engine))):
        with Attic(db) as unit:
            with unit.savepoint():
                unit.things.add(Thing(code=f"{number}"))
            with pytest.raises(UniqueViolationError), unit.savepoint():
                unit.things.add(Thing(code=f"{number}"))
    assert codes(first) == ["0", "1", "2"]


def test_connections_that_are_not_units_are_left_alone(foreign):
    engine = foreign(isolation_level="READ COMMITTED")
    assert codes(Database(engine)) == []
    seen = []
    event.listen(engine, "handle_error", lambda context: seen.append(context.is_disconnect))

    def interrupted(*_):
        raise KeyboardInterrupt

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connection.exec_driver_sql("SELECT 1")
        assert not connection.closed
    assert all(seen)


# -- URLs


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql://h/d", r"postgresql\+psycopg://"),
        ("mysql://h/d", r"mysql\+pymysql://"),
        ("mariadb://h/d", r"mariadb\+pymysql://"),
        ("postgresql+asyncpg://h/d", "AsyncDatabase"),
        ("mysql+asyncmy://h/d", "AsyncDatabase"),
        ("postgresql+psycopg2://h/d", r"sqlrepo-uow\[psycopg2\]|not installed"),
        ("oracle+oracledb://h/d", "oracle|not installed"),
        ("nosuch://h/d", "nosuch"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_advice(url, advice):
    with pytest.raises(UnsupportedError, match=advice):
        Database(url)


def test_a_password_is_never_shown(url):
    assert "secret" not in repr(Database(url.set(password="secret")))


# -- many at once


def test_batches_beyond_what_one_statement_takes(db):
    many = [Thing(code=f"{number}", first=number, second=number) for number in range(9_000)]
    with Attic(db) as unit:
        stored = unit.things.add_many(many)
        assert [one.code for one in stored] == [one.code for one in many]
        assert unit.things.get_many([one.id for one in stored[::3]]) == stored[::3]
        with pytest.raises(UniqueViolationError), unit.savepoint():
            unit.things.add_many([*(Thing(code=f"x{number}") for number in range(3_000)), Thing(code="0")])
        assert unit.things.count() == 9_000
        assert unit.things.update_where(thing.size == 1, set_={"size": 2}) == 9_000
        assert unit.things.update_where(thing.size == 2, set_={"size": 2}) == 9_000  # matched is what counts
        assert unit.things.delete_where(thing.size == 2) == 9_000

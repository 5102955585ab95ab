"""The application's two databases, with a named schema in three common ways."""

from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from tests.databases import servers

# A file attached under the schema's name; the schema translated to none; a real schema.
ASYNC_STORES = ["attached", "postgresql"]
STORES = ["attached", "translated", "postgresql"]


@contextmanager
def engines(name, directory):
    """Engines made by the application, and empty databases."""
    if name == "postgresql":
        urls = [servers.made_for_tests(name, area) for area in ("beside_main", "beside_journal")]
    else:
        urls = [f"sqlite:///{directory.as_posix()}/{area}.db" for area in ("main", "journal")]
    main, journal = map(sa.create_engine, urls)
    yield PREPARED[name](main, directory), journal
    for engine in (main, journal):
        assert engine.pool.checkedout() == 0, "a connection was leaked"
        engine.dispose()


@contextmanager
def async_engines(name, directory):
    with engines(name, directory) as made:
        drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
        urls = [engine.url.set(drivername=drivers[engine.dialect.name]) for engine in made]
        main, journal = map(create_async_engine, urls)
        if name == "attached":
            attached(main.sync_engine, directory)
        yield main, journal
        for engine in (main, journal):
            assert engine.pool.checkedout() == 0, "a connection was leaked"


def attached(engine, directory):
    @event.listens_for(engine, "connect")
    def attach(connection, _):
        connection.execute(f"ATTACH DATABASE '{directory.as_posix()}/sales.db' AS sales")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


def translated(engine, directory):
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    return engine.execution_options(schema_translate_map={"sales": None})


def with_schema(engine, directory):
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS sales CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA sales")
    return engine


PREPARED = {"attached": attached, "translated": translated, "postgresql": with_schema}


def begin_by_hand(engine):
    """SQLAlchemy's recipe for transactions on SQLite."""
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    engine.dispose()

"""Checks and defaults as PostgreSQL alone shows them: memory accepts, refuses and fills in what the server does."""

from dataclasses import asdict, dataclass
from datetime import datetime, time
from uuid import UUID

import pytest
import sqlalchemy as sa

from sqlrepo import BaseRepository, CheckViolationError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers

DDL = """
    CREATE TABLE shown (
        id serial PRIMARY KEY,
        n int,
        m int CHECK ((n IS NULL) = (m IS NULL)),
        o int CHECK ((o IS NULL) <> (n IS NOT NULL)),
        b boolean CHECK (b IS TRUE OR n IS NOT NULL),
        c boolean CHECK (c IS NOT FALSE),
        u uuid DEFAULT '00000000-0000-0000-0000-00000000000a' CHECK (u <> '00000000-0000-0000-0000-000000000000'),
        ts timestamp DEFAULT '2000-01-01 00:00:01.5' CHECK (ts > '2000-01-01'),
        tm time DEFAULT '10:00' CHECK (tm BETWEEN '09:00' AND '17:00:00.5')
    )
"""


@dataclass
class Shown:
    id: int | None = None
    n: int | None = None
    m: int | None = None
    o: int | None = None
    b: bool | None = True
    c: bool | None = None
    u: UUID | None = None
    ts: datetime | None = None
    tm: time | None = None


ROWS = [
    *({"n": n, "m": m, "o": o} for n in (None, 1) for m in (None, 1) for o in (None, 1)),
    *({"b": b} for b in (True, False, None)),
    *({"c": c} for c in (True, False, None)),
    *({"u": UUID(int=number)} for number in (0, 1)),
    *({"ts": datetime.fromisoformat(text)} for text in ("2000-01-01", "2000-01-01T00:00:00.000001", "1999-12-31")),
    *({"tm": time.fromisoformat(text)} for text in ("08:59:59", "09:00", "17:00:00.5", "17:00:00.500001")),
]


@pytest.fixture(scope="module")
def url():
    return servers.made_for_tests("postgresql", "spellings").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def table(url):
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(DDL)
    return sa.Table("shown", sa.MetaData(), autoload_with=engine)


@pytest.fixture
def sources(url):
    database = Database(url)
    yield InMemoryDatabase(), database
    database.dispose()


@pytest.mark.parametrize("values", ROWS, ids=str)
def test_a_row_is_accepted_or_refused_as_on_the_server(table, sources, values):
    def accepted(source):
        class Rows(BaseRepository[Shown, int]):
            model = table

        with Rows(source) as rows:
            try:
                with rows.unit.savepoint():
                    rows.add(Shown(**values))
            except CheckViolationError as error:
                return error.constraint
            return True

    in_memory, on_server = map(accepted, sources)
    assert in_memory == on_server


def test_a_default_is_filled_in_as_on_the_server(table, sources):
    required = table.to_metadata(sa.MetaData())
    for column in (required.c.u, required.c.ts, required.c.tm):
        column.nullable = False  # so that None stands for the default

    def added(source):
        class Rows(BaseRepository[Shown, int]):
            model = required

        with Rows(source) as rows:
            return asdict(rows.add(Shown())) | {"id": None}

    in_memory, on_server = map(added, sources)
    assert in_memory == on_server
    assert in_memory["u"] == UUID(int=10)

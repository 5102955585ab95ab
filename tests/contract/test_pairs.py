"""The contract, unchanged, on every pair of database and driver, sync and async; no clause is left out."""

import pytest
import sqlalchemy as sa

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing import Harness, RepositoryContract, harness
from tests.contract.task import AsyncWork, Base, Task, Work, change, make
from tests.databases import servers

SYNC = {
    "memory": None,
    "memory-lossy": None,
    "sqlite3": "sqlite",
    "psycopg": "postgresql+psycopg",
    "pymysql": "mysql+pymysql",
}
ASYNC = {
    "memory": None,
    "aiosqlite": "sqlite+aiosqlite",
    "psycopg": "postgresql+psycopg",
    "asyncpg": "postgresql+asyncpg",
    "asyncmy": "mysql+asyncmy",
}
# Async units run the sync body, so one async driver suffices; asynchronous/ tests what the others add.
REPEATING = {"aiosqlite", "psycopg", "asyncmy"}


def url(driver, tmp_path):
    kind = driver.partition("+")[0]
    if kind == "sqlite":
        engine = sa.create_engine(f"sqlite:///{tmp_path}/pairs.db")
        Base.metadata.create_all(engine)
        engine.dispose()
        return engine.url.set(drivername=driver)
    return servers.emptied({"mysql": "mariadb"}.get(kind, kind), Base).set(drivername=driver)


@pytest.fixture(autouse=True)
def no_clause_is_skipped(monkeypatch):
    """A clause that does not apply is a failure here; a server that is missing still skips."""
    monkeypatch.setattr(harness, "skip_case", lambda number, reason: pytest.fail(f"clause {number}: {reason}"))


class TestSync(RepositoryContract[Task, int]):
    @pytest.fixture(params=SYNC)
    def harness(self, request, tmp_path):
        driver = SYNC[request.param]
        lossy = "allow" if request.param == "memory-lossy" else "refuse"
        db = Database(url(driver, tmp_path)) if driver else InMemoryDatabase(lost_updates=lossy)
        yield Harness(open=lambda: Work(db), make=make, change=change)
        db.dispose()


class TestAsync(RepositoryContract[Task, int]):
    @pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.repeats] * (name in REPEATING)) for name in ASYNC])
    def harness(self, request, tmp_path):
        driver = ASYNC[request.param]
        db = AsyncDatabase(url(driver, tmp_path)) if driver else InMemoryDatabase()
        dispose = db.dispose if isinstance(db, AsyncDatabase) else None
        harness = Harness.from_async(open=lambda: AsyncWork(db), make=make, change=change, dispose=dispose)
        yield harness
        harness.close()

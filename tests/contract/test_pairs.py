"""The contract, unchanged, on every pair of database and driver, sync and async; no clause is left out."""

import pytest
import sqlalchemy as sa

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing import Harness, RepositoryContract, harness
from tests.contract.task import AsyncWork, Base, Task, Work, change, make
from tests.databases import servers

SYNC = ["memory", "memory-lossy", "sqlite", "postgresql+psycopg", "mariadb+pymysql"]
# Async units run the sync body, so one async driver suffices; asynchronous/ tests what the others add.
ASYNC = ["memory", "postgresql+asyncpg"]
REPEATING = ["sqlite+aiosqlite", "postgresql+psycopg", "mariadb+asyncmy"]


def url(driver, tmp_path):
    if driver.startswith("sqlite"):
        engine = sa.create_engine(f"sqlite:///{tmp_path}/pairs.db")
        Base.metadata.create_all(engine)
        engine.dispose()
        return engine.url.set(drivername=driver)
    return servers.emptied(driver, Base)


@pytest.fixture(autouse=True)
def no_clause_is_skipped(monkeypatch):
    """A clause that does not apply is a failure here; a server that is missing still skips."""
    monkeypatch.setattr(harness, "skip_case", lambda number, reason: pytest.fail(f"clause {number}: {reason}"))


class TestSync(RepositoryContract[Task, int]):
    @pytest.fixture(params=SYNC)
    def harness(self, request, tmp_path):
        name = request.param
        lossy = "allow" if name == "memory-lossy" else "refuse"
        in_memory = name.startswith("memory")
        db = InMemoryDatabase(lost_updates=lossy) if in_memory else Database(url(name, tmp_path))
        yield Harness(open=lambda: Work(db), make=make, change=change)
        db.dispose()


class TestAsync(RepositoryContract[Task, int]):
    @pytest.fixture(params=[*ASYNC, *(pytest.param(name, marks=pytest.mark.repeats) for name in REPEATING)])
    def harness(self, request, tmp_path):
        db = InMemoryDatabase() if request.param == "memory" else AsyncDatabase(url(request.param, tmp_path))
        dispose = db.dispose if isinstance(db, AsyncDatabase) else None
        harness = Harness.from_async(open=lambda: AsyncWork(db), make=make, change=change, dispose=dispose)
        yield harness
        harness.close()

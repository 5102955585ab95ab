"""The contract, unchanged, on every asynchronous driver and on memory."""

import pytest
import sqlalchemy as sa

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from sqlrepo.testing import Harness, RepositoryContract
from tests.asynchronous.conftest import DRIVERS
from tests.asynchronous.domain import AsyncBook, AsyncNotes, Base, Note
from tests.databases import servers


def database(driver, tmp_path):
    if driver == "memory":
        return InMemoryDatabase(), None
    if driver == "aiosqlite":
        file = f"{tmp_path}/contract.db"
        engine = sa.create_engine(f"sqlite:///{file}")
        Base.metadata.create_all(engine)
        engine.dispose()
        made = AsyncDatabase(f"sqlite+aiosqlite:///{file}")
    else:
        server, name = DRIVERS[driver]
        made = AsyncDatabase(servers.emptied(server, Base).set(drivername=name))
    return made, made.dispose


def make(number):
    return Note(key=f"Key {number}", value=number % 4)


def change(note):
    return note.model_copy(update={"value": note.value + 10})


@pytest.mark.parametrize("harness", ["memory", "aiosqlite", *DRIVERS], indirect=True)
class TestAsyncBook(RepositoryContract[Note, int]):
    @pytest.fixture
    def harness(self, request, tmp_path):
        db, dispose = database(request.param, tmp_path)
        harness = Harness.from_async(open=lambda: AsyncBook(db), make=make, change=change, dispose=dispose)
        yield harness
        harness.close()


@pytest.mark.parametrize("harness", ["memory", "aiosqlite", "psycopg"], indirect=True)
class TestAsyncNotesAlone(RepositoryContract[Note, int]):
    @pytest.fixture
    def harness(self, request, tmp_path):
        db, dispose = database(request.param, tmp_path)
        harness = Harness.from_async(open=lambda: AsyncNotes(db), make=make, change=change, dispose=dispose)
        yield harness
        harness.close()

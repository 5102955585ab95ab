"""The contract on async repositories that stand alone; `tests/contract/test_pairs.py` runs it on units."""

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase
from sqlrepo.testing import Harness, RepositoryContract
from tests.asynchronous.domain import AsyncNotes, Base, Note
from tests.databases import servers


@pytest.mark.parametrize("harness", ["memory", "psycopg"], indirect=True)
class TestAsyncNotesAlone(RepositoryContract[Note, int]):
    @pytest.fixture
    def harness(self, request):
        db = InMemoryDatabase() if request.param == "memory" else AsyncDatabase(servers.emptied("postgresql", Base))
        harness = Harness.from_async(
            open=lambda: AsyncNotes(db),
            make=lambda number: Note(key=f"Key {number}", value=number % 4),
            change=lambda note: note.model_copy(update={"value": note.value + 10}),
            dispose=db.dispose if isinstance(db, AsyncDatabase) else None,
        )
        yield harness
        harness.close()

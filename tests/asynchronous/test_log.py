"""What async units tell under the logger `sqlrepo`: what sync ones do, under their own names."""

import logging

import pytest

from tests.asynchronous.domain import AsyncBook, AsyncNotes, Note
from tests.clock import clock

__all__ = ["clock"]


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.DEBUG, "sqlrepo")
    return lambda level: [
        record.getMessage() for record in caplog.records if record.name == "sqlrepo" and record.levelno == level
    ]


def test_units_and_repositories_have_their_own_names(db, loop, told):
    async def work():
        async with AsyncBook(db) as book:
            await book.notes.add(Note(key="s3cret"))
        await AsyncNotes(db).count()

    loop.run(work())
    lines = told(logging.DEBUG)
    assert [line.split()[0] for line in lines] == ["AsyncBook", "AsyncBook", "AsyncNotes", "AsyncNotes"]
    assert [word for line in lines for word in ("began", "committed") if word in line] == ["began", "committed"] * 2


def test_a_connection_held_between_two_calls_is_a_warning(db, loop, clock, told):
    class Hasty(AsyncBook):
        idle_warning = 0.5

    async def work(unit):
        async with unit(db) as book:
            await book.notes.count()
            clock.sleep(0.9)
            await book.notes.count()

    loop.run(work(AsyncBook))
    assert told(logging.WARNING) == []
    loop.run(work(Hasty))
    [warning] = told(logging.WARNING)
    assert warning.startswith("Hasty ")

"""A task that is cancelled while it connects leaves no connection behind, and does not wait for ever."""

import asyncio

import pytest
import sqlalchemy as sa

from sqlrepo.sqlalchemy import connecting


class Connection:
    closed = False

    async def close(self):
        self.closed = True


def cancelled(connect):
    """Cancel somebody who is connecting."""

    async def work():
        task = asyncio.create_task(connecting.await_connection(connect()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(work())


def test_a_connection_that_comes_after_the_cancellation_is_closed():
    made = Connection()

    async def connect():
        await asyncio.sleep(0.01)
        return made

    cancelled(connect)
    assert made.closed


def test_a_connection_that_fails_after_the_cancellation_is_nobodys_error():
    async def connect():
        await asyncio.sleep(0.01)
        raise OSError

    cancelled(connect)


def test_a_server_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(connecting, "_CANCEL_TIMEOUT", 0.01)
    ended = []

    async def connect():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("given up")

    cancelled(connect)
    assert ended == ["given up"]


@pytest.mark.parametrize(("driver", "kept"), [("postgresql+asyncpg", True), ("mysql+asyncmy", False)])
def test_drivers_that_clean_up_are_left_alone(driver, kept):
    assert bool(connecting.cancel_safe_options(sa.make_url(f"{driver}://x"))) is kept

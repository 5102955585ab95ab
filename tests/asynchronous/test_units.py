"""What async units promise: the same as sync ones, and what tasks and cancellations add to it."""

import asyncio

import pytest

from sqlrepo import UnitStateError, UnsupportedError, retry_async
from sqlrepo.memory import InMemoryDatabase
from tests.asynchronous.domain import AsyncBook, AsyncNotes, Book, Note


def test_callbacks_run_after_the_commit_async_ones_awaited(db, loop):
    called = []

    async def seen():
        called.append(await AsyncNotes(db).count())

    class Seen:
        async def __call__(self):
            called.append("object")

    async def work():
        async with AsyncBook(db) as book:
            await book.notes.add(Note(key="a"))
            book.on_commit(seen)
            book.on_commit(lambda: called.append("plain"))
            await book.run(lambda sync: sync.on_commit(lambda: called.append(sync.is_open)))
            book.on_commit(Seen())
            with pytest.raises(KeyError):
                async with book.savepoint():
                    book.on_commit(lambda: called.append("never"))
                    raise KeyError
            assert called == []

    loop.run(work())
    assert called == [1, "plain", False, "object"]


def test_callbacks_that_fail_stop_none_and_undo_nothing(db, loop):
    called = []

    async def bad():
        raise KeyError("async")

    def worse():
        raise KeyError("plain")

    async def work():
        with pytest.raises(ExceptionGroup) as caught:
            async with AsyncBook(db) as book:
                await book.notes.add(Note(key="a"))
                for callback in (bad, worse, lambda: called.append(True)):
                    book.on_commit(callback)
        assert len(caught.value.exceptions) == 2
        assert await AsyncNotes(db).count() == 1

    loop.run(work())
    assert called == [True]


def test_an_async_callback_needs_an_async_unit():
    async def callback():
        raise AssertionError

    class Called:
        async def __call__(self):
            raise AssertionError

    with Book(InMemoryDatabase()) as book:
        for one in (callback, Called()):
            with pytest.raises(UnsupportedError):
                book.on_commit(one)


def test_two_tasks_do_not_share_a_call(db, loop):
    async def work():
        async with AsyncBook(db) as book:
            results = await asyncio.gather(*(book.notes.count() for _ in range(3)), return_exceptions=True)
            busy = [one for one in results if isinstance(one, UnitStateError) and one.reason == "busy"]
            if not isinstance(db, InMemoryDatabase):  # there no call ever waits, so none overlaps
                assert len(busy) == 2
            assert len(busy) + results.count(0) == 3
            assert await asyncio.create_task(book.notes.count()) == 0  # handed over, one at a time
            with pytest.raises(UnitStateError):
                await book.__aenter__()

    loop.run(work())


def test_a_plain_callback_may_use_the_sync_unit(db, loop):
    counted = []

    def work_beneath(sync):
        def count():
            with sync:
                counted.append(sync.notes.count())

        sync.notes.add(Note(key="a"))
        sync.on_commit(count)

    async def work():
        async with AsyncBook(db) as book:
            await book.run(work_beneath)

    loop.run(work())
    assert counted == [1]


def test_a_cancellation_at_the_end_loses_no_callback(db, loop):
    called = []

    async def later():
        await asyncio.sleep(0)
        called.append("later")

    async def work():
        async with AsyncBook(db) as book:
            await book.notes.add(Note(key="a"))
            book.on_commit(later)
            book.on_commit(lambda: called.append("plain"))
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)

    async def cancelled():
        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(work())
        assert await AsyncNotes(db).count() == 1

    loop.run(cancelled())
    assert called == ["later", "plain"]


def test_concurrent_increments_lose_none(db, loop):
    """Two hundred on one row, twenty at a time; who was overtaken reads again."""

    async def increment(book):
        one = await book.notes.by_key("a")
        await book.notes.update(one.model_copy(update={"value": one.value + 1}))

    async def tenfold():
        for _ in range(10):
            await retry_async(lambda: AsyncBook(db), increment, attempts=400)

    async def work():
        async with AsyncNotes(db) as notes:
            await notes.add(Note(key="a"))
        await asyncio.gather(*(tenfold() for _ in range(20)))
        one = await AsyncNotes(db).one()
        assert (one.value, one.version) == (200, 201)

    loop.run(work())


class Steps:
    """Runs a coroutine and cancels it at its n-th suspension."""

    def __init__(self, coroutine, number):
        self._coroutine, self._left = coroutine, number
        self.cancelled = False

    def __await__(self):
        inner = self._coroutine.__await__()
        go_on, value = inner.send, None
        while True:
            try:
                future = go_on(value)
            except StopIteration as end:
                return end.value
            self._left -= 1
            if self._left == 0:
                self.cancelled = True
                asyncio.current_task().cancel()
            try:
                go_on, value = inner.send, (yield future)
            except BaseException as error:  # noqa: BLE001  # it is passed on
                go_on, value = inner.throw, error


def test_a_cancellation_anywhere_leaves_all_or_nothing_and_no_connection_out(db, loop):
    async def work():
        async with AsyncBook(db) as book:
            await book.notes.add(Note(key="a"))
            async with book.savepoint():
                await book.notes.add_many([Note(key="b"), Note(key="c")])
            assert await book.notes.count() == 3

    async def cancelled_at(number):
        steps = Steps(work(), number)
        task = asyncio.ensure_future(awaited(steps))
        try:
            await task
        except asyncio.CancelledError:
            assert steps.cancelled
        count = await AsyncNotes(db).count()
        assert count in (0, 3)
        if not isinstance(db, InMemoryDatabase):
            assert db.engine.pool.checkedout() == 0
        async with AsyncNotes(db) as notes:
            await notes.delete_where(everything=True)
        return steps.cancelled, count

    async def every():
        number, outcomes = 1, []
        while (outcome := await cancelled_at(number))[0]:
            outcomes.append(outcome[1])
            number += 1
            assert number < 200
        assert outcome[1] == 3  # the last one was not cancelled at all
        assert outcomes == sorted(outcomes)  # nothing before COMMIT is sent, everything afterwards
        assert isinstance(db, InMemoryDatabase) or outcomes[0] == 0

    loop.run(every())


async def awaited(steps):
    return await steps


def test_a_callback_that_turns_out_to_be_async_is_awaited(db, loop):
    async def work():
        called = []

        async def send():
            called.append("sent")

        async with AsyncBook(db) as book:
            book.on_commit(lambda: send())  # noqa: PLW0108  # a plain function that gives something to await
        assert called == ["sent"]
        async with AsyncBook(db) as book:
            with pytest.raises(UnsupportedError):
                await book.run(lambda _: send())
        assert called == ["sent"]

    loop.run(work())

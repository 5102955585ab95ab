"""Programs that fork, each in a process of its own, because pytest's process must not fork.

``python -m tests.servers.programs NAME URL`` prints the result as JSON. A child exits as a worker does, through the
interpreter's exit, which collects what is left; an alarm ends a process that takes too long.
"""

import asyncio
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from sqlrepo import UnitStateError
from sqlrepo.fastapi.units import get_database, get_limiter
from sqlrepo.forks import leak
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.web.domain import AsyncShop, Prompt, Shop, Thing

PATIENCE = 30  # seconds, for a child as for its parent
ROUNDS = 10
CHILDREN = 3
WHERE = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()", "sqlite": "SELECT 0"}


# -- forks


class Ended(SystemExit):
    """The exit of a child that has written its result."""


class Child:
    """A process that does some work and writes its result."""

    def __init__(self, work, fork=os.fork):
        self.reading, writing = os.pipe()
        self.go, went = os.pipe()
        self.number = fork()
        if self.number:
            os.close(writing)
            os.close(self.go)
            self.went = went
            return
        signal.alarm(PATIENCE)
        os.close(went)
        try:
            result = work(lambda: os.read(self.go, 1))
        except Exception as error:  # noqa: BLE001  # the parent raises it
            result = {"failed": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(result).encode())
        os.close(writing)
        raise Ended

    def proceed(self):
        os.write(self.went, b"x")

    def result(self):
        with os.fdopen(self.reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(self.number, 0)
        os.close(self.went)
        return json.loads(text or "null") if status == 0 else {"failed": f"status {status}", "result": text}


def in_child(work, **options):
    return Child(lambda _: work(), **options).result()


def bare_fork():
    """Fork without Python's notice, as a server written in C may."""
    return ctypes.PyDLL(None).fork()


# -- stores


class Sync:
    def __init__(self, url, foreign=False):
        self.db = Database(sa.create_engine(url) if foreign else url)
        self.dialect = self.db.engine.dialect.name

    def add(self, key):
        with Shop(self.db) as shop:
            shop.things.add(Thing(key=key))
            return self.where(shop)

    def read(self, key):
        with Shop(self.db, read_only=True) as shop:
            assert shop.things.one(key=key).key == key
            return self.where(shop)

    def where(self, shop):
        statement = sa.text(WHERE[self.dialect])
        return shop._work.run(lambda driver: driver.unwrap("connection").execute(statement).scalar_one())

    def keys(self):
        with Shop(self.db, read_only=True) as shop:
            return sorted(thing.key for thing in shop.things.find())

    def dispose(self):
        self.db.dispose()

    def close(self):
        self.dispose()


class Async(Sync):
    def __init__(self, url, foreign=False):
        self.db = AsyncDatabase(create_async_engine(url) if foreign else url)
        self.dialect = self.db.engine.dialect.name
        self.runner, self.process = asyncio.Runner(), os.getpid()

    def run(self, work):
        if self.process != os.getpid():  # a loop belongs to the process that made it
            leak(self.runner)
            self.runner, self.process = asyncio.Runner(), os.getpid()
        return self.runner.run(work)

    def add(self, key):
        return self.run(self._within(lambda shop: shop.things.add(Thing(key=key))))

    def read(self, key):
        return self.run(self._within(lambda shop: shop.things.one(key=key), read_only=True))

    async def _within(self, work, **options):
        async with AsyncShop(self.db, **options) as shop:
            await work(shop)
            return await shop._work.run(self.where, shop._work.sync_unit)

    def keys(self):
        async def found():
            async with AsyncShop(self.db, read_only=True) as shop:
                return sorted([thing.key for thing in await shop.things.find()])

        return self.run(found())

    def dispose(self):
        self.run(self.db.dispose())
        self.runner.close()


def store(url, **options):
    made = sa.make_url(url)
    awaited = made.get_dialect().is_async or made.query.get("application_name") == "async"
    return (Async if awaited else Sync)(made, **options)


# -- programs


def used_by_all(url, fork=os.fork, **options):
    """Parent and children use one database at the same time."""
    shop = store(url, **options)
    before = [shop.add("before"), shop.read("before")]

    def work(name):
        found = set()
        for number in range(ROUNDS):
            found |= {shop.add(f"{name}-{number}"), shop.read(f"{name}-{number}")}
        return sorted(found)

    def work_of_child(name):
        try:
            return work(name)
        finally:
            shop.dispose()

    children = [Child(lambda _, name=name: work_of_child(name), fork=fork) for name in range(CHILDREN)]
    during = work("parent")
    result = [child.result() for child in children]
    after = [shop.add("after"), shop.read("after")]
    keys = shop.keys()
    shop.dispose()
    return {"before": before, "during": during, "children": result, "after": after, "keys": keys}


used_by_all_over_a_foreign_engine = partial(used_by_all, foreign=True)
used_by_all_of_a_server_in_c = partial(used_by_all, fork=bare_fork)


def refusal(call):
    try:
        call()
    except UnitStateError as error:
        return error.reason
    return "nothing"


def open_at_the_fork(url, leave_by=None):
    """A unit is open when the process forks; the child uses it, leaves it and opens another."""
    db = InMemoryDatabase() if url == "memory" else Database(url)
    called = []
    heard = Heard()
    result = {}
    shop = Shop(db)
    child = None
    try:
        with shop:
            shop.on_commit(lambda: called.append(os.getpid()))
            shop.things.add(Thing(key="open"))
            child = os.fork()
            if child == 0:
                signal.alarm(PATIENCE)
                result["used"] = refusal(shop.things.find)
                result["open"] = shop.is_open
                if leave_by is not None:
                    raise leave_by
            else:
                _, result["status"] = os.waitpid(child, 0)
                result["still"] = [thing.key for thing in shop.things.find()]
    except UnitStateError as error:
        result["left"] = error.reason
    except KeyError:
        result["left"] = "KeyError"
    if child == 0:
        again = Shop(db, read_only=True) if url.startswith("sqlite") else shop  # there a second writer waits
        with again:
            result["sees"] = [thing.key for thing in again.things.find()]
        result["warned"] = heard.count == (db.engine.dialect.name == "sqlite" if url != "memory" else 1)
        expected = {
            "warned": True,
            "used": "not_open",
            "open": False,
            "left": "KeyError" if leave_by else "not_open",
            "sees": [],
        }
        os._exit(0) if called == [] and result == expected else os.write(2, json.dumps([result, called]).encode())
        os._exit(3)
    with Shop(db) as reading:
        result["keys"] = [thing.key for thing in reading.things.find()]
    result["called"] = called == [os.getpid()]
    db.dispose()
    return result


open_at_the_fork_and_left_by_an_error = partial(open_at_the_fork, leave_by=KeyError())


def open_and_its_connection_is_ended_in_the_child(url):
    """The child rolls back and collects the connection that the parent's unit gave out."""
    shop = store(url)
    with Shop(shop.db) as unit:
        unit.things.add(Thing(key="open"))
        where = shop.where(unit)
        connection = unit._work.run(lambda driver: driver.unwrap("connection"))

        def work():
            nonlocal connection
            connection.rollback()
            elsewhere = connection.exec_driver_sql(WHERE[shop.dialect]).scalar_one() != where
            connection.close()
            connection = None
            gc.collect()
            shop.dispose()
            return elsewhere

        elsewhere = in_child(work)
        still = shop.where(unit) == where
    keys = shop.keys()
    shop.dispose()
    return {"elsewhere": elsewhere, "still": still, "keys": keys}


def joined_at_the_fork(url):
    """A session that a unit joined is open when the process forks."""
    db = Database(url)
    with Session(db.engine) as session:
        shop = Shop(session)
        shop.things.add(Thing(key="open"))

        def work():
            used = refusal(shop.things.find)
            session.rollback()
            seen = [thing.key for thing in Shop(session).things.find()]
            session.close()
            db.dispose()
            return [used, seen]

        child = in_child(work)
        session.commit()
    with Shop(db) as reading:
        keys = [thing.key for thing in reading.things.find()]
    db.dispose()
    return {"child": child, "keys": keys}


def log_kept(url):
    """SQLite: the parent closes its connections while a child writes."""
    shop = store(url)
    shop.add("before")

    def work(wait):
        shop.add("first")
        os.write(ready[1], b"x")
        wait()
        shop.add("second")
        shop.dispose()
        return "written"

    ready = os.pipe()
    child = Child(work)
    os.read(ready[0], 1)
    shop.dispose()
    child.proceed()
    result = child.result()
    after = store(url)
    keys = after.keys()
    after.dispose()
    return {"child": result, "keys": keys}


class Heard(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.count = 0
        logging.getLogger("sqlrepo").addHandler(self)

    def emit(self, record):
        self.count += "fork" in record.getMessage()


def store_in_memory(url):
    """A store in the memory of the process: a child has a copy, and is warned once."""
    db = InMemoryDatabase() if url == "memory" else Database(url)
    heard = Heard()
    if url != "memory":
        Prompt.metadata.create_all(db.engine)
    with Shop(db) as shop:
        shop.things.add(Thing(key="parent"))

    def work():
        first = heard.count
        if url != "memory":
            Prompt.metadata.create_all(db.engine)
        for key in ("child", "child2"):
            with Shop(db) as shop:
                shop.things.add(Thing(key=key))
        with Shop(db) as shop:
            keys = sorted(thing.key for thing in shop.things.find())
        db.dispose()
        return [first, heard.count, keys]

    result = in_child(work)
    with Shop(db) as shop:
        keys = [thing.key for thing in shop.things.find()]
    db.dispose()
    return {"child": result, "heard": heard.count, "keys": keys}


@contextmanager
def held(hold):
    """Let a thread hold something within the block."""
    taken, over = threading.Event(), threading.Event()

    def holding():
        with hold():
            taken.set()
            assert over.wait(PATIENCE)

    thread = threading.Thread(target=holding)
    thread.start()
    assert taken.wait(PATIENCE)
    try:
        yield
    finally:
        over.set()
        thread.join()


def database_being_made(_):
    """A thread is calling the function that makes the database when the process forks."""
    made = []

    def database():
        made.append(os.getpid())
        if len(made) == 1:
            begun.set()
            assert go_on.wait(PATIENCE)
        return InMemoryDatabase()

    begun, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(get_database(database)))
    thread.start()
    assert begun.wait(PATIENCE)
    result = in_child(lambda: [type(asyncio.run(get_database(database))).__name__, len(made)])
    go_on.set()
    thread.join()
    return result


def limiter_in_a_surviving_loop(_):
    """An event loop survives in the child; the threads of its limiters do not."""
    db = InMemoryDatabase()
    loop = asyncio.new_event_loop()

    async def number():
        return await get_limiter(db).run(os.getpid)

    parent = loop.run_until_complete(number())

    def work():
        there = loop.run_until_complete(number()) == os.getpid()
        loop.close()
        return there

    result = in_child(work)
    loop.close()
    return [parent == os.getpid(), result]


def locks_of_other_threads(url):
    """Other threads hold the library's locks, which nothing in the child can release."""
    from sqlrepo.fastapi import units  # noqa: PLC0415
    from sqlrepo.sqlalchemy.dialects import base  # noqa: PLC0415

    db = Database(url)

    def work():
        asyncio.run(limited())
        foreign = Database(sa.create_engine(url, isolation_level="REPEATABLE READ"))  # which logs a warning
        with Shop(foreign) as shop:
            shop.things.find()
        foreign.dispose()
        with Shop(db, read_only=True) as shop:
            count = len(shop.things.find())
        db.dispose()
        return count

    async def limited():
        get_limiter(db)

    guards = [units._LOCK, base._GUARD, db._engines._guard]
    with ExitStack() as stack:
        for guard in guards:
            stack.enter_context(held(lambda guard=guard: guard.lock))
        return Child(lambda _: work()).result()


def memory_amid_a_statement(_):
    """A child finds consistent rows and free locks in memory, whatever the parent's threads do."""
    db = InMemoryDatabase()
    with Shop(db) as shop:
        shop.things.add_many([Thing(key="a", size=50), Thing(key="b", size=50)])
    over = threading.Event()

    def moving():
        while not over.is_set():
            with Shop(db) as shop:
                a, b = shop.things.find(order_by="key")
                shop.things.update(a.model_copy(update={"size": a.size - 1}))
                shop.things.update(b.model_copy(update={"size": b.size + 1}))

    def work():
        found = []

        def summing():
            with Shop(db) as shop:
                found.append(sum(thing.size for thing in shop.things.find()))
                shop.things.add(Thing(key="c"))

        thread = threading.Thread(target=summing, daemon=True)
        thread.start()
        thread.join(PATIENCE / 2)
        return found

    thread = threading.Thread(target=moving)
    thread.start()
    try:
        return [in_child(work) for _ in range(10)]
    finally:
        over.set()
        thread.join()


def main():
    name, url = sys.argv[1:]
    signal.alarm(2 * PATIENCE)
    logging.getLogger("sqlrepo").addHandler(logging.NullHandler())
    print(json.dumps(globals()[name](url)))  # noqa: T201


if __name__ == "__main__":
    main()

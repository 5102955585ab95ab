"""Owners that take part in forks: what registering and dropping them costs, and what is left at the end."""

import asyncio
import gc
import subprocess
import sys
from weakref import ref

from sqlrepo.forks import ForkAware, at_fork
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database, connecting

# Objects in reference cycles are collected at exit, in any order.
CYCLES = """
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database

class Cycle:
    def __init__(self, *stores):
        self.me, self.stores = self, stores

a = Cycle(InMemoryDatabase(), Database("sqlite://"))
b = Cycle(InMemoryDatabase())
"""

# A connection is ended by its `__del__`, say; the list of leaked objects itself is emptied at exit.
LEAKED = """
import gc
import os
from sqlrepo.forks import leak

class Connection:
    def __del__(self):
        os.write(2, b"ended")

def leaked():
    connection = Connection()
    connection.me = connection
    leak(connection)

leaked()
leak(Connection())
gc.collect()
"""

ORDER = """
import os
from sqlrepo.forks import ForkAware, at_fork

class Owner(ForkAware):
    def __init__(self, name):
        self.name = name
        at_fork(self)
    def before_fork(self):
        os.write(1, f"{self.name} before, ".encode())
    def after_fork_in_parent(self):
        os.write(1, f"{self.name} in the parent, ".encode())
    def after_fork(self):
        os.write(1, f"{self.name} in the child, ".encode())

a, b, c = Owner("a"), Owner("b"), Owner("c")
del b
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
"""


def run(program):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_nothing_is_printed_at_exit_about_databases_in_reference_cycles():
    result = run(CYCLES)

    assert (result.returncode, result.stderr) == (0, "")


def test_leaked_objects_outlive_the_interpreter():
    result = run(LEAKED)

    assert (result.returncode, result.stderr) == (0, "")


def test_living_owners_take_part_in_order_of_registration():
    result = run(ORDER)

    assert (result.returncode, result.stderr) == (0, "")
    before, rest = "a before, c before, ", {"a in the parent", "c in the parent", "a in the child", "c in the child"}
    assert result.stdout.startswith(before)
    assert {*result.stdout.removeprefix(before).rstrip(", ").split(", ")} == rest


def test_an_owner_is_not_kept_alive():
    owner = ForkAware()
    at_fork(owner)
    gone = ref(owner)

    del owner

    assert gone() is None


def calls_of(work):
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def dropping(make, number):
    stores = [make() for _ in range(number)]
    return calls_of(stores.clear)


def test_dropping_a_store_costs_the_same_however_many_there_are():
    assert dropping(InMemoryDatabase, 4000) <= 4000 / 100 * dropping(InMemoryDatabase, 100)
    assert dropping(lambda: Database("sqlite://"), 200) <= 200 / 20 * dropping(lambda: Database("sqlite://"), 20)


def test_a_pool_without_connections_needs_no_thread_to_close_them_before_a_fork(tmp_path, monkeypatch):
    closed = []
    monkeypatch.setattr(connecting, "Thread", lambda **_: closed.append("thread"))
    db = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/idle.db")

    db.source._engines.before_fork()

    asyncio.run(db.dispose())
    assert closed == []

"""Histories of concurrent units: each appends numbers to lists, and what they read tells in which order they ran.

From the reads of committed units follows who depends on whom: ``ww`` the next to write, ``wr`` who reads what another
wrote, ``rw`` who reads what another then writes over. A cycle is an anomaly. (Peter Alvaro and Kyle Kingsbury, Elle:
Inferring Isolation Anomalies from Experimental Observations.)
"""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count, pairwise
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, sleep

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, RepositoryError, StaleEntityError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.sqlalchemy.types import Text
from sqlrepo.testing.cases.isolation import ANSWERS
from tests.databases import servers

THREADS, KEYS = 4, (1, 2, 3)
# How a unit reads the list that it appends to: with a version, locked, or without either, which may lose an update.
WAYS = ("version", "lock", "plain")
# The anomalies that are looked for, each with those that the table of answers has for it.
DECLARED = {name: (name,) for name in ("G0", "G1a", "G1b", "G1c", "P4", "G2-item")}
DECLARED["G-single"] = ("G-single", "G-single-write")


class Base(DeclarativeBase): ...


class Numbers(BaseModel):
    id: int
    text: str = ""


class Versioned(Numbers):
    version: int | None = None


class NumbersRow(Base):
    __tablename__ = "numbers"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text())


class VersionedRow(Base):
    __tablename__ = "versioned_numbers"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text())
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class PlainLists(BaseRepository[Numbers, int]):
    model = NumbersRow


class VersionedLists(BaseRepository[Versioned, int]):
    model = VersionedRow


class Lists(BaseUnitOfWork):
    plain: PlainLists
    version: VersionedLists


@dataclass(eq=False)
class Done:
    """What a unit did: reads ``("r", key, numbers)`` and appends ``("a", key, number)``."""

    steps: list[tuple] = field(default_factory=list)
    committed: bool = True


# -- databases

_SERVER = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
LEVELS = {"memory": ("refuse", "allow"), "sqlite": ("SERIALIZABLE",)} | dict.fromkeys(servers.KINDS, _SERVER)


def stores(name):
    """A database with each of its levels, or memory with what it does about lost updates."""
    return [(name, level) for level in LEVELS[name]]


def connect(name, level, directory):
    """Connect to a database at a level, with empty tables."""
    if name == "memory":
        return InMemoryDatabase(lost_updates=level)
    url = f"sqlite:///{directory}/lists.db" if name == "sqlite" else servers.made_for_tests(name, "history")
    db = Database(url, isolation=level)
    Base.metadata.create_all(db.engine)
    return db


def check(name, *, units=400, seconds=3):
    """Run units at each level of a database, and in memory beside SQLite; return lines, and if all is declared."""
    lines, fine = [], True
    with TemporaryDirectory() as directory:
        for store in (*(stores("memory") if name == "sqlite" else ()), *stores(name)):
            db = connect(*store, directory)
            for way in WAYS:
                history, final = record(db, way, units=units // THREADS, seconds=seconds)
                found = anomalies(history, final)
                wrong = undeclared(db, way, found)
                fine = fine and not wrong
                told = ", ".join(f"{one} (not declared)" if one in wrong else one for one in sorted(found))
                lines.append(f"{db.isolation}, {way}: {len(history)} units, {told or 'no anomaly'}\n")
            db.dispose()
    return lines, fine


# -- recording


def record(db, way, *, units, seconds, seed=1):
    """Run units in threads; return what they did, and the lists at the end."""
    with Lists(db) as lists:
        for repository, entity in ((lists.plain, Numbers), (lists.version, Versioned)):
            repository.delete_where(everything=True)
            repository.add_many([entity(id=key) for key in KEYS])
    numbers, end = count(1), monotonic() + seconds

    def work(thread):
        random, done = Random(seed * THREADS + thread), []
        while len(done) < units and monotonic() < end:
            done.append(_run(db, way, random, numbers))
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        history = [one for done in pool.map(work, range(THREADS)) for one in done]
    with Lists(db) as lists:
        return history, {key: _read(lists, way, key)[1] for key in KEYS}


def _run(db, way, random, numbers):
    done = Done()
    try:
        with Lists(db) as lists:
            for _ in range(random.randint(1, 4)):
                _step(lists, way, random, numbers, done.steps)
                sleep(random.random() / 500)
            if random.random() < 0.1:
                lists.rollback()
                done.committed = False
    except RepositoryError as error:
        done.committed = False
        if not error.retryable and not isinstance(error, StaleEntityError):
            raise
    return done


def _step(lists, way, random, numbers, steps):
    key, appends = random.choice(KEYS), random.random() < 0.6
    entity, found = _read(lists, way, key, lock="update" if appends and way == "lock" else None)
    steps.append(("r", key, found))
    if not appends:
        return
    sleep(random.random() / 500)
    number = next(numbers)
    steps.append(("a", key, number))
    text = " ".join(map(str, (*found, number)))
    if way == "version":
        lists.version.update(entity.model_copy(update={"text": text}))
    else:
        lists.plain.patch(key, {"text": text})


def _read(lists, way, key, lock=None):
    entity = (lists.version if way == "version" else lists.plain).get(key, lock=lock)
    return entity, tuple(map(int, entity.text.split()))


# -- what it shows


def anomalies(history, final):
    """Name the anomalies of a history."""
    writers = {(key, value): one for one in history for kind, key, value in one.steps if kind == "a"}
    edges = _dependencies(history, final, writers)
    return {*_wrong_reads(history, writers), *_lost(final, writers), *_cycles(edges)}


def _reads(one):
    """List what a unit read of others: a list without the numbers that it appended itself."""
    own = {(key, value) for kind, key, value in one.steps if kind == "a"}
    for kind, key, value in one.steps:
        if kind == "r":
            yield key, tuple(number for number in value if (key, number) not in own)


def _wrong_reads(history, writers):
    last = {(one, key): value for one in history for kind, key, value in one.steps if kind == "a"}
    for one in history:
        for key, found in _reads(one) if one.committed else ():
            if any(not writers[key, number].committed for number in found):
                yield "G1a"
            elif found and last[writers[key, found[-1]], key] != found[-1]:
                yield "G1b"


def _lost(final, writers):
    if any(one.committed and value not in final[key] for (key, value), one in writers.items()):
        yield "P4"


def _dependencies(history, final, writers):
    """Map each kind of dependency to its pairs of committed units."""
    edges = defaultdict(set)
    for key, numbers in final.items():
        edges["ww"] |= {(writers[key, one], writers[key, other]) for one, other in pairwise(numbers)}
    for one in history:
        for key, found in _reads(one):
            if found:
                edges["wr"].add((writers[key, found[-1]], one))
            if found == final[key][: len(found)] != final[key]:
                edges["rw"].add((one, writers[key, final[key][len(found)]]))
    return {
        kind: {(one, other) for one, other in pairs if one is not other and one.committed and other.committed}
        for kind, pairs in edges.items()
    }


def _cycles(edges):
    """Name the cycles by the kinds of dependency that they need."""
    ww, wr, rw = (edges.get(kind, set()) for kind in ("ww", "wr", "rw"))
    for name, closing, others in (("G0", ww, ww), ("G1c", wr, ww | wr), ("G-single", rw, ww | wr)):
        if _closes(closing, others):
            yield name
    if _closes({pair for pair in rw if not _closes({pair}, ww | wr)}, ww | wr | rw):
        yield "G2-item"


def _closes(closing, others):
    """Return True if a path of other dependencies leads back from the end of one to its beginning."""
    following = defaultdict(set)
    for one, other in others:
        following[one].add(other)
    reached = {}
    for start in {other for _, other in closing}:
        reached[start], waiting = {start}, [start]
        while waiting:
            new = following[waiting.pop()] - reached[start]
            reached[start] |= new
            waiting += new
    return any(one in reached[other] for one, other in closing)


def undeclared(db, way, found):
    """Choose the anomalies that the isolation does not allow; with a version or a lock, no update is lost."""
    answers = ANSWERS[db.isolation]
    allowed = {name for name, declared in DECLARED.items() if any("possible" in answers[one] for one in declared)}
    # The units of the table write at once. If these write one after the other, memory reports no conflict.
    lost = way == "plain" and (allowed & {"P4"} or db.isolation == "memory")
    # A version that was read before its rollback comes again.
    lost = lost or (way == "version" and "G1a" in allowed)
    return found - (allowed - {"P4"}) - ({"P4"} if lost else set())

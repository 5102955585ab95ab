"""Units that write the same aggregates at once: no change is lost, no child is torn from its owner or kept twice."""

import random
import threading
from collections import Counter

import pytest

from sqlrepo import (
    BaseRepository,
    LockTimeoutError,
    NotFoundError,
    StaleEntityError,
    TransactionConflictError,
    UniqueViolationError,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.units.cargo import (
    Base,
    Cargo,
    Depot,
    Item,
    ItemRow,
    Label,
    Line,
    LineRow,
    Mark,
    MarkRow,
    Seal,
    SerialRow,
    canonical,
)
from tests.units.domain import changed

THREADS, ROUNDS = 4, 12
REFUSED = (StaleEntityError, TransactionConflictError, LockTimeoutError, NotFoundError)


class Lines(BaseRepository[LineRow, int]): ...


class Marks(BaseRepository[MarkRow, int]): ...


class Items(BaseRepository[ItemRow, int]): ...


class Serials(BaseRepository[SerialRow, tuple[int, str]]): ...


@pytest.fixture(
    params=["memory", "postgresql READ COMMITTED", "postgresql REPEATABLE READ", "mariadb READ COMMITTED",
            "mariadb REPEATABLE READ"],
)  # fmt: skip
def db(request):
    kind, _, isolation = request.param.partition(" ")
    made = InMemoryDatabase()
    if kind in servers.KINDS:
        made = Database(servers.emptied(kind, Base), isolation=isolation)
    yield made
    made.dispose()


class Writer(threading.Thread):
    """Changes random aggregates, each in a unit of its own, and notes every state that it committed."""

    def __init__(self, db, seed, roots, mortal, labels):
        super().__init__()
        self.db = db
        self.dice = random.Random(seed)  # no secret
        self.roots = roots
        self.mortal = mortal
        self.labels = labels
        self.states = []  # (key, version, state, the state it was made from or None)
        self.error = None

    def run(self):
        try:
            for _ in range(ROUNDS):
                self.change()
        except BaseException as error:  # noqa: BLE001  # raised again by the test
            self.error = error

    def change(self):
        noted = []
        try:
            with Depot(self.db) as depot:
                for _ in range(self.dice.randrange(1, 3)):
                    noted += self.dice.choice(
                        [self.update, self.update, self.patch, self.upsert, self.move, self.kill]
                    )(depot.cargos)
        except REFUSED:
            return
        except UniqueViolationError as error:
            if error.fields not in {("id",), ()}:  # two units made one root again at the same time
                raise
            return
        self.states += noted

    def edited(self, cargo):
        lines = [one for one in cargo.lines if self.dice.random() < 0.7]
        self.dice.shuffle(lines)
        lines.insert(self.dice.randrange(len(lines) + 1), Line(sku="n", serials=frozenset("pq")))
        marks = [*cargo.marks[1:], Mark(code=self.dice.choice("abc"))]
        return changed(
            cargo,
            lines=[changed(one, qty=self.dice.randrange(5)) if self.dice.random() < 0.5 else one for one in lines],
            marks=marks,
            notes=(*cargo.notes[-2:], self.dice.choice("nmo")),
            seal=self.dice.choice([None, cargo.seal, Seal(code=self.dice.choice("abc"))]),
            label_ids=set(self.dice.sample(self.labels, 2)),
        )

    def note(self, stored, base=None):
        return [(stored.id, stored.version, canonical(stored), base and canonical(base))]

    def update(self, cargos):
        cargo = cargos.get(self.dice.choice(self.roots))
        return self.note(cargos.update(self.edited(cargo)), cargo)

    def patch(self, cargos):
        cargo = cargos.get(self.dice.choice(self.roots))
        given = self.edited(cargo)
        return self.note(cargos.patch(cargo.id, {"lines": given.lines, "version": cargo.version}), cargo)

    def upsert(self, cargos):
        """Change without comparing the version; the children have no keys, so any that are there may be replaced."""
        given = changed(self.edited(Cargo(id=self.dice.choice(self.roots))), items=[])
        return self.note(cargos.upsert(given, on="id", update=["lines", "marks", "notes", "seal"]).entity)

    def move(self, cargos):
        """Move an item from one owner to the other, in two statements."""
        one, other = cargos.get_many(self.dice.sample(self.roots, 2))
        if not one.items:
            return []
        item = self.dice.choice(one.items)
        noted = self.note(cargos.update(changed(one, items=[each for each in one.items if each != item])), one)
        return noted + self.note(cargos.update(changed(other, items=[*other.items, item])), other)

    def kill(self, cargos):
        """Delete a root and make it again, under edits of others."""
        key = self.dice.choice(self.mortal)
        if self.dice.random() < 0.5:
            cargos.delete(key)
        else:
            version = cargos.get(key).version if cargos.exists(id=key) else 1
            cargos.save(changed(self.edited(Cargo(id=key)), version=version))
        return []


@pytest.mark.parametrize("seed", range(2))
def test_no_change_is_lost_and_no_child_is_torn(db, seed):
    with Depot(db) as depot:
        labels = [one.id for one in depot.labels.add_many([Label(name=name) for name in "klmn"])]
        first = depot.cargos.add_many(
            [
                Cargo(lines=[Line(sku="a"), Line(sku="b")], items=[Item(id=10 * n + 1), Item(id=10 * n + 2)])
                for n in range(3)
            ]
        )
        mortal = [one.id for one in depot.cargos.add_many([Cargo(lines=[Line(sku="m")]) for _ in range(2)])]
    roots = [one.id for one in first]
    writers = [Writer(db, 100 * seed + number, roots, mortal, labels) for number in range(THREADS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    for writer in writers:
        if writer.error is not None:
            raise writer.error
    states = {(one.id, one.version): canonical(one) for one in first}
    noted = [state for writer in writers for state in writer.states]
    assert Counter((key, version) for key, version, _, _ in noted).most_common(1)[0][1] == 1  # nobody wins twice
    states |= {(key, version): state for key, version, state, _ in noted}
    for key, version, _, base in noted:
        assert base in (None, states[key, version - 1])  # nothing between was overwritten
    with Depot(db) as depot:
        stored = depot.cargos.find(order_by="id")
        for one in stored:
            if one.id in roots:
                assert canonical(one) == states[one.id, one.version]
                assert sum(key == one.id for key, _ in states) == one.version
        assert sorted(item.id for one in stored for item in one.items) == [1, 2, 11, 12, 21, 22]
        lines = [line for one in stored for line in one.lines]
        assert sorted(line.id for line in lines) == sorted(one.id for one in Lines(depot).find())
        assert Serials(depot).count() == sum(len(line.serials) for line in lines)
        assert Marks(depot).count() == sum(len(one.marks) for one in stored)
        assert Items(depot).count() == 6

"""Histories of concurrent units show no anomaly that the isolation does not declare; planted ones are found."""

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory.tables import Changes
from tests.twins.history import LEVELS, WAYS, Done, anomalies, connect, record, stores, undeclared

# The others' units are run by `make repeats` and `make twins`.
OFTEN = {"refuse", "allow", "READ COMMITTED", "SERIALIZABLE"}
STORES = [
    pytest.param(store, marks=() if store[1] in OFTEN else pytest.mark.repeats, id="-".join(store))
    for name in LEVELS
    for store in stores(name)
]


@pytest.fixture(params=STORES)
def db(request, tmp_path):
    db = connect(*request.param, tmp_path)
    yield db
    db.dispose()


@pytest.mark.parametrize("way", WAYS)
def test_nothing_happens_but_what_is_declared(db, way):
    history, final = record(db, way, units=24, seconds=3)

    assert sum(one.committed for one in history) > 5
    assert undeclared(db, way, anomalies(history, final)) == set()


# -- planted anomalies


def r(key, *numbers):
    return ("r", key, numbers)


def a(key, number):
    return ("a", key, number)


HISTORIES = {
    "G0": ([[a(1, 1), a(2, 2)], [a(1, 3), a(2, 4)]], {1: (1, 3), 2: (4, 2)}),
    "G1b": ([[a(1, 1), a(1, 2)], [r(1, 1)]], {1: (1, 2), 2: ()}),
    "G1c": ([[a(1, 1), r(2, 2)], [a(2, 2), r(1, 1)]], {1: (1,), 2: (2,)}),
    "P4": ([[r(1), a(1, 1)], [r(1), a(1, 2)]], {1: (2,), 2: ()}),
    "G-single": ([[r(1), r(2, 2)], [a(1, 1), a(2, 2)]], {1: (1,), 2: (2,)}),
    "G2-item": ([[r(1), r(2), a(1, 1)], [r(1), r(2), a(2, 2)]], {1: (1,), 2: (2,)}),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_each_anomaly_is_found(name):
    units, final = HISTORIES[name]

    found = anomalies([Done(steps) for steps in units], final)

    assert name in found
    assert found <= {name, "G-single"}  # an intermediate read is skewed too


def test_aborted_read_is_found():
    history = [Done([a(1, 1)], committed=False), Done([r(1, 1)])]
    assert anomalies(history, {1: (), 2: ()}) == {"G1a"}


def test_units_one_after_the_other_have_no_anomaly():
    history = [Done([r(1), a(1, 1), a(1, 2)]), Done([r(1, 1, 2), a(2, 3), r(2, 3)]), Done([r(1, 1, 2), r(2, 3)])]
    assert anomalies(history, {1: (1, 2), 2: (3,)}) == set()


def test_memory_without_its_check_for_conflicts_loses_updates(monkeypatch):
    monkeypatch.setattr(Changes, "verify", lambda self: None)
    db = InMemoryDatabase()

    assert "P4" in undeclared(db, "version", anomalies(*record(db, "version", units=50, seconds=5)))


def test_memory_that_shows_what_is_not_committed_is_found(monkeypatch):
    right, written = (Changes._put, Changes.row), {}

    def put(self, key, row, edit):
        written[self.table, key] = row
        right[0](self, key, row, edit)

    monkeypatch.setattr(Changes, "_put", put)
    monkeypatch.setattr(Changes, "row", lambda self, key: written.get((self.table, key)) or right[1](self, key))
    db = InMemoryDatabase()

    assert "G1a" in undeclared(db, "plain", anomalies(*record(db, "plain", units=50, seconds=5)))

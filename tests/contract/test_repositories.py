"""The contract as any user runs it: entities of every make, in memory and on databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import attrs
import pytest

from sqlrepo.testing import Harness, RepositoryContract
from tests.contract import entities
from tests.contract.entities import Account, Coin, Entries, Entry, Hero, House, Label, Labels, Seat, Song, Todo, Todos


def on(*databases):
    return pytest.mark.parametrize("database", databases, indirect=True)


def harness(open, make, change):
    @pytest.fixture
    def harness(self, database):
        return Harness(open=lambda: open(database), make=make, change=change)

    return harness


def change_todo(todo):
    return todo.model_copy(update={"value": f"{todo.value}, changed"})


class TestModel(RepositoryContract[Todo, int]):
    harness = harness(House, entities.make_todo, change_todo)


@on("memory", "sqlite")
class TestModelInRepositoryAlone(RepositoryContract[Todo, int]):
    harness = harness(Todos, entities.make_todo, change_todo)


@on("postgresql-usual", "mariadb-usual")
class TestModelWhereTextSortsByADictionary(TestModel):
    """Columns of default types, in databases whose collation is not the one that sqlrepo recommends."""


@pytest.mark.repeats  # test_pairs.py has another shape in a file
@on("sqlite-file")
class TestModelInAFile(TestModel):
    """Several units have connections at once."""


class TestFrozenDataclassWithCompositeKey(RepositoryContract[Seat, tuple[str, int]]):
    harness = harness(House, entities.make_seat, lambda seat: replace(seat, taken=not seat.taken))


class TestVersionAndRenamedColumns(RepositoryContract[Account, int]):
    harness = harness(House, entities.make_account, lambda account: replace(account, balance=account.balance + 7))


@on("memory", "sqlite")
class TestEntityThatDoesNotTellItsRow(RepositoryContract[Entry, int]):
    harness = harness(
        Entries, lambda n: Entry(f"entry {n}", n % 5), lambda entry: replace(entry, level=(entry.level or 0) + 10)
    )


class LabelHarness:
    """No `Harness`, but an object with its members; `open` yields the repository of an open unit."""

    capabilities = None
    make = staticmethod(entities.make_label)

    def __init__(self, database):
        self.database = database

    @contextmanager
    def open(self) -> Iterator[Labels]:
        with House(self.database) as house:
            yield house.labels

    def change(self, label: Label) -> Label:
        return label.model_copy(update={"weight": label.weight + 1})


class TestEntityWithoutItsKey(RepositoryContract[Label, int]):
    @pytest.fixture
    def harness(self, database):
        return LabelHarness(database)


@on("memory", "sqlite")
class TestClassOfAttrs(RepositoryContract[Coin, int]):
    harness = harness(House, entities.make_coin, lambda coin: attrs.evolve(coin, worth=coin.worth + 10))


def change_song(song):
    known = {name: value for name, value in vars(song).items() if name in Song.__mapper__.columns}
    return Song(**{**known, "seconds": song.seconds + 1})


@on("memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.repeats))
class TestMappedClass(RepositoryContract[Song, int]):
    harness = harness(House, entities.make_song, change_song)


@on("memory", "sqlite")
class TestTableOfSQLModel(RepositoryContract[Hero, int]):
    harness = harness(
        House, entities.make_hero, lambda hero: Hero(id=hero.id, name=hero.name, age=(hero.age or 0) + 100)
    )

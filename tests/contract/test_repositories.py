"""Our own use of the contract, as any user's: entities of every make, on memory and on SQLite."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import attrs
import pytest

from sqlrepo.testing import Harness, RepositoryContract
from tests.contract.entities import (
    Account,
    Coin,
    Entries,
    Entry,
    Hero,
    House,
    Label,
    Labels,
    Seat,
    Song,
    Todo,
    Todos,
    make_account,
    make_coin,
    make_hero,
    make_label,
    make_seat,
    make_song,
    make_todo,
)


class TestModel(RepositoryContract[Todo, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: House(database),
            make=make_todo,
            change=lambda todo: todo.model_copy(update={"value": f"{todo.value}, changed"}),
        )


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
class TestModelInRepositoryAlone(RepositoryContract[Todo, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: Todos(database),
            make=make_todo,
            change=lambda todo: todo.model_copy(update={"value": f"{todo.value}, changed"}),
        )


@pytest.mark.parametrize("database", ["postgresql-usual", "mariadb-usual"], indirect=True)
class TestModelWhereTextSortsByADictionary(TestModel):
    """Columns of default types, in databases whose collation is none of ours."""


@pytest.mark.parametrize("database", ["sqlite-file"], indirect=True)
class TestModelInAFile(TestModel):
    """In a file several units have connections at once."""


class TestFrozenDataclassWithCompositeKey(RepositoryContract[Seat, tuple[str, int]]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: House(database),
            make=make_seat,
            change=lambda seat: replace(seat, taken=not seat.taken),
        )


class TestVersionAndRenamedColumns(RepositoryContract[Account, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: House(database),
            make=make_account,
            change=lambda account: replace(account, balance=account.balance + 7),
        )


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
class TestEntityThatDoesNotTellItsRow(RepositoryContract[Entry, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: Entries(database),
            make=lambda n: Entry(f"entry {n}", n % 5),
            change=lambda entry: replace(entry, level=(entry.level or 0) + 10),
        )


class LabelHarness:
    """No `Harness`, but an object with its members; `open` yields the repository of an open unit."""

    capabilities = None

    def __init__(self, database):
        self.database = database

    @contextmanager
    def open(self) -> Iterator[Labels]:
        with House(self.database) as house:
            yield house.labels

    def make(self, n: int) -> Label:
        return make_label(n)

    def change(self, label: Label) -> Label:
        return label.model_copy(update={"weight": label.weight + 1})


class TestEntityWithoutItsKey(RepositoryContract[Label, int]):
    @pytest.fixture
    def harness(self, database):
        return LabelHarness(database)


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
class TestClassOfAttrs(RepositoryContract[Coin, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: House(database),
            make=make_coin,
            change=lambda coin: attrs.evolve(coin, worth=coin.worth + 10),
        )


def song_like(song, **changes):
    return Song(**{name: value for name, value in vars(song).items() if name in Song.__mapper__.columns} | changes)


@pytest.mark.parametrize("database", ["memory", "sqlite", "postgresql"], indirect=True)
class TestMappedClass(RepositoryContract[Song, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: House(database),
            make=make_song,
            change=lambda song: song_like(song, seconds=song.seconds + 1),
        )


@pytest.mark.parametrize("database", ["memory", "sqlite"], indirect=True)
class TestTableOfSQLModel(RepositoryContract[Hero, int]):
    @pytest.fixture
    def harness(self, database):
        return Harness(
            open=lambda: House(database),
            make=make_hero,
            change=lambda hero: Hero(id=hero.id, name=hero.name, age=(hero.age or 0) + 100),
        )

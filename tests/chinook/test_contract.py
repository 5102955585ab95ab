"""The contract on those of Chinook's tables that differ from each other, with the rows they refer to."""

from dataclasses import replace
from decimal import Decimal

import attrs
import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Harness, RepositoryContract
from tests.chinook import rows
from tests.chinook.domain import Employee, Invoice, Playlist, PlaylistTrack, Track
from tests.chinook.storage import MusicShop
from tests.chinook.tables import Base
from tests.databases import servers

ON_A_SERVER = [pytest.param(name, marks=pytest.mark.repeats) for name in servers.KINDS]


@pytest.fixture(params=["memory", "sqlite", *ON_A_SERVER])
def store(request):
    if request.param == "memory":
        yield InMemoryDatabase()
        return
    made = Database("sqlite://" if request.param == "sqlite" else servers.emptied(request.param, Base))
    if request.param == "sqlite":
        Base.metadata.create_all(made.engine, checkfirst=False)
    yield made
    made.dispose()


def changing(**changes):
    def change(entity):
        values = {name: alter(getattr(entity, name)) for name, alter in changes.items()}
        if hasattr(entity, "model_copy"):
            return entity.model_copy(update=values)
        return (attrs.evolve if attrs.has(type(entity)) else replace)(entity, **values)

    return change


def marked(text):
    return f"{text or ''} (changed)"


class Chinook:
    """A harness over the store, filled with the rows that the repository's own may refer to."""

    repository: str
    made = None
    change = staticmethod(changing(name=marked))

    @pytest.fixture
    def harness(self, store):
        with MusicShop(store) as shop:
            rows.stock(shop, self.repository)
        make, _ = rows.STOCK[self.repository]
        return Harness(open=lambda: MusicShop(store), make=self.made or make, change=self.change)


class TestTracks(Chinook, RepositoryContract[Track, int]):
    repository = "tracks"


class TestEmployees(Chinook, RepositoryContract[Employee, int]):
    repository = "employees"
    made = staticmethod(lambda n: replace(rows.employee(n), reports_to=None))  # there is nobody yet to report to
    change = staticmethod(changing(title=marked))


@pytest.mark.repeats
@pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)
class TestPlaylists(Chinook, RepositoryContract[Playlist, int]):
    repository = "playlists"


@pytest.mark.repeats
@pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)
class TestPlaylistTracks(Chinook, RepositoryContract[PlaylistTrack, tuple[int, int]]):
    """A link between two tables; besides its key there is nothing to change."""

    repository = "playlist_tracks"
    change = staticmethod(lambda link: link)


@pytest.mark.repeats
@pytest.mark.parametrize("store", ["memory", "sqlite"], indirect=True)
class TestInvoices(Chinook, RepositoryContract[Invoice, int]):
    repository = "invoices"
    change = staticmethod(changing(total=lambda total: total + Decimal("1.01")))

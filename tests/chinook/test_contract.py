"""The contract on each of Chinook's tables, with the rows they refer to; on servers on those unlike the others."""

from dataclasses import replace
from decimal import Decimal

import attrs
import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Harness, RepositoryContract
from tests.chinook import rows
from tests.chinook.domain import (
    Album,
    Artist,
    Customer,
    Employee,
    Genre,
    Invoice,
    InvoiceLine,
    MediaType,
    Playlist,
    PlaylistTrack,
    Track,
)
from tests.chinook.storage import MusicShop
from tests.chinook.tables import Base
from tests.databases import servers

ANYWHERE = pytest.mark.parametrize("store", ["memory", "sqlite", "postgresql", "mariadb"], indirect=True)


@pytest.fixture(params=["memory", "sqlite"])
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
    """What alters an entity of any make."""

    def change(entity):
        values = {name: alter(getattr(entity, name)) for name, alter in changes.items()}
        if hasattr(entity, "model_copy"):
            return entity.model_copy(update=values)
        return (attrs.evolve if attrs.has(type(entity)) else replace)(entity, **values)

    return change


def marked(text):
    return f"{text or ''} (changed)"


class Chinook:
    """A harness over the store, in which the rows are that the repository's may refer to."""

    repository: str
    made = None
    change = staticmethod(changing(name=marked))

    @pytest.fixture
    def harness(self, store):
        with MusicShop(store) as shop:
            rows.stock(shop, self.repository)
        make, _ = rows.STOCK[self.repository]
        return Harness(open=lambda: MusicShop(store), make=self.made or make, change=self.change)


class TestArtists(Chinook, RepositoryContract[Artist, int]):
    repository = "artists"


class TestAlbums(Chinook, RepositoryContract[Album, int]):
    repository = "albums"
    change = staticmethod(changing(title=marked))


class TestGenres(Chinook, RepositoryContract[Genre, int]):
    repository = "genres"


class TestMediaTypes(Chinook, RepositoryContract[MediaType, int]):
    repository = "media_types"


@ANYWHERE
class TestTracks(Chinook, RepositoryContract[Track, int]):
    repository = "tracks"


class TestPlaylists(Chinook, RepositoryContract[Playlist, int]):
    repository = "playlists"


class TestPlaylistTracks(Chinook, RepositoryContract[PlaylistTrack, tuple[int, int]]):
    """A link between two tables; besides its key there is nothing to change."""

    repository = "playlist_tracks"
    change = staticmethod(lambda link: link)


@ANYWHERE
class TestEmployees(Chinook, RepositoryContract[Employee, int]):
    repository = "employees"
    made = staticmethod(lambda n: replace(rows.employee(n), reports_to=None))  # there is nobody yet to report to
    change = staticmethod(changing(title=marked))


class TestCustomers(Chinook, RepositoryContract[Customer, int]):
    repository = "customers"
    change = staticmethod(changing(company=marked))


class TestInvoices(Chinook, RepositoryContract[Invoice, int]):
    repository = "invoices"
    change = staticmethod(changing(total=lambda total: total + Decimal("1.01")))


class TestInvoiceLines(Chinook, RepositoryContract[InvoiceLine, int]):
    repository = "invoice_lines"
    change = staticmethod(changing(quantity=lambda quantity: quantity + 10))

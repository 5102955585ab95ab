"""Memory is the twin of every database, for units of work of different shape, awaited ones too."""

import pytest

from sqlrepo.testing import TwinContract
from tests.chinook.domain import CustomerQuery, InvoiceQuery, TrackQuery
from tests.chinook.storage import MusicShop
from tests.twins.domain import (
    AccountQuery,
    AsyncBank,
    AsyncLab,
    AsyncShop,
    AsyncTheatre,
    Bank,
    Lab,
    LabelQuery,
    SeatQuery,
    Shelf,
    Shop,
    SpecimenQuery,
    Theatre,
    TodoQuery,
)
from tests.twins.linked import OrderQuery, Sales, Tree
from tests.twins.places import made


class OnDatabases(TwinContract):
    """Few programs, on every database; `make twins` runs many."""

    programs = 8

    @pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
    def database(self, request, tmp_path):
        return made(request.param, tmp_path)


class OnAsyncDrivers(TwinContract):
    programs = 5

    @pytest.fixture(params=["aiosqlite", "asyncpg", "asyncmy"])
    def database(self, request, tmp_path):
        return made(request.param, tmp_path)


class TestShop(OnDatabases):
    unit = Shop
    queries = {"todos": TodoQuery}


class TestTheatre(OnDatabases):
    unit = Theatre
    queries = {"seats": SeatQuery}


class TestLab(OnDatabases):
    unit = Lab
    queries = {"specimens": SpecimenQuery}


class TestBank(OnDatabases):
    unit = Bank
    queries = {"accounts": AccountQuery}


class TestShelf(OnDatabases):
    unit = Shelf
    queries = {"labels": (LabelQuery,)}


class TestSales(OnDatabases):
    unit = Sales
    queries = {"orders": OrderQuery}


class TestTree(OnDatabases):
    unit = Tree


class TestChinook(OnDatabases):
    """Eleven tables that nobody here designed."""

    unit = MusicShop
    queries = {"tracks": TrackQuery, "customers": CustomerQuery, "invoices": InvoiceQuery}


class TestAsyncShop(OnAsyncDrivers):
    unit = AsyncShop
    queries = {"todos": TodoQuery}


class TestAsyncTheatre(OnAsyncDrivers):
    unit = AsyncTheatre
    queries = {"seats": SeatQuery}


class TestAsyncLab(OnAsyncDrivers):
    unit = AsyncLab
    queries = {"specimens": SpecimenQuery}


class TestAsyncBank(OnAsyncDrivers):
    unit = AsyncBank
    queries = {"accounts": AccountQuery}

"""Memory and each database agree, for units of work of different shapes, async units too."""

import pytest

from sqlrepo.testing import TwinContract
from tests.twins.domain import AsyncBank, AsyncLab, AsyncShop, AsyncTheatre, Bank, Lab, Shop, Theatre
from tests.twins.places import SYNCHRONOUS, connect
from tests.twins.shapes import ELSEWHERE, SHAPES


class OnDatabases(TwinContract):
    """Few programs, on every database; `make twins` runs many."""

    programs = 8

    def pytest_generate_tests(self, metafunc):
        if "database" in metafunc.fixturenames:  # not where a database refuses the tables
            places = [name for name in SYNCHRONOUS if self.unit not in ELSEWHERE.get(name, ())]
            metafunc.parametrize("database", places, indirect=True)

    @pytest.fixture
    def database(self, request, tmp_path):
        if self.unit in ELSEWHERE.get(request.param, ()):  # MySQL's programs repeat those of MariaDB
            pytest.skip(f"{request.param} refuses what these tables do")
        return connect(request.param, self.unit, tmp_path)


class OnAsyncDrivers(TwinContract):
    programs = 5

    # MariaDB is OnDatabases' too, and async units run the sync body.
    @pytest.fixture(
        params=["sqlite+aiosqlite", "postgresql+asyncpg", pytest.param("mariadb+asyncmy", marks=pytest.mark.repeats)]
    )
    def database(self, request, tmp_path):
        return connect(request.param, self.unit, tmp_path)


for _unit, _queries in SHAPES.items():
    _name = f"Test{_unit.__name__}"
    vars()[_name] = type(_name, (OnDatabases,), {"__module__": __name__, "unit": _unit, "queries": _queries})

for _unit, _shape in {AsyncShop: Shop, AsyncTheatre: Theatre, AsyncLab: Lab, AsyncBank: Bank}.items():
    _name = f"Test{_unit.__name__}"
    vars()[_name] = type(_name, (OnAsyncDrivers,), {"__module__": __name__, "unit": _unit, "queries": SHAPES[_shape]})

"""A database on a server, with the tables of `domain` there, empty."""

import pytest

from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.databases.domain import Base


@pytest.fixture(params=["postgresql", "mariadb"])
def kind(request):
    return request.param


@pytest.fixture
def url(kind):
    return servers.emptied(kind, Base)


@pytest.fixture
def opened(url):
    """A function that makes databases, and demands at the end that they have all their connections back."""
    made = []

    def make(**options):
        made.append(Database(url, **options))
        return made[-1]

    yield make
    for db in made:
        assert db.engine.pool.checkedout() == 0
        db.dispose()


@pytest.fixture
def db(opened):
    return opened()

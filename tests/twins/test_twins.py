"""Memory is the twin of every database, for units of work of different shape."""

from sqlrepo.testing import TwinContract
from tests.twins.domain import Shop, TodoQuery


class TestShopOnSQLite(TwinContract):
    unit = Shop
    queries = {"todos": TodoQuery}
    url = "sqlite://"

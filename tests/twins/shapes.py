"""The units of work that the twins run on, each of a different shape, with their query objects."""

from tests.applications import northwind
from tests.chinook.domain import CustomerQuery, InvoiceQuery, TrackQuery
from tests.chinook.storage import MusicShop
from tests.twins.aggregates import AlbumQuery, Chinook, Northwind, PlanQuery, ProductQuery, Warehouse, Works
from tests.twins.aggregates import OrderQuery as NorthwindQuery
from tests.twins.domain import (
    AccountQuery,
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
from tests.twins.edges import Club, Edges, KnobQuery, League, LimitQuery, MemberQuery, Panel, PlayerQuery
from tests.twins.linked import OrderQuery, Sales, Tree
from tests.units import references


class References(references.Shop):
    """Tables that refer to each other in every way."""


SHAPES = {
    Shop: {"todos": TodoQuery},
    Theatre: {"seats": SeatQuery},
    Bank: {"accounts": AccountQuery},
    Lab: {"specimens": SpecimenQuery},
    Shelf: {"labels": LabelQuery},
    Sales: {"orders": OrderQuery},
    Tree: {},
    References: {},
    Edges: {"limits": LimitQuery},
    League: {"players": PlayerQuery},
    Club: {"members": MemberQuery},
    Panel: {"knobs": KnobQuery},
    Northwind: {"orders": NorthwindQuery},
    Chinook: {"albums": AlbumQuery},
    Works: {"plans": PlanQuery},
    Warehouse: {"products": ProductQuery},
    northwind.Traders: {"orders": northwind.OrderQuery, "customers": northwind.CustomerQuery},
    MusicShop: {"tracks": TrackQuery, "customers": CustomerQuery, "invoices": InvoiceQuery},
}

# MariaDB and MySQL have no deferrable constraints. MySQL 9.7 refuses some cascades of a table to itself.
ELSEWHERE = {"mariadb": {League}, "mysql": {League, Tree}}


def shapes_on(database):
    """The shapes that a database can keep."""
    return {unit: queries for unit, queries in SHAPES.items() if unit not in ELSEWHERE.get(database, ())}

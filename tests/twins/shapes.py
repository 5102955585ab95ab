"""The units of work that twins are run on, each of another shape, with their query objects."""

from tests.chinook.domain import CustomerQuery, InvoiceQuery, TrackQuery
from tests.chinook.storage import MusicShop
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
from tests.twins.linked import OrderQuery, Sales, Tree

SHAPES = {
    Shop: {"todos": TodoQuery},
    Theatre: {"seats": SeatQuery},
    Bank: {"accounts": AccountQuery},
    Lab: {"specimens": SpecimenQuery},
    Shelf: {"labels": LabelQuery},
    Sales: {"orders": OrderQuery},
    Tree: {},
    MusicShop: {"tracks": TrackQuery, "customers": CustomerQuery, "invoices": InvoiceQuery},
}

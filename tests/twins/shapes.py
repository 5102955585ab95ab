"""The units of work that twins are run on, each of another shape, with their query objects."""

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

SHAPES = {
    Shop: {"todos": TodoQuery},
    Theatre: {"seats": SeatQuery},
    Bank: {"accounts": AccountQuery},
    Lab: {"specimens": SpecimenQuery},
    Shelf: {"labels": LabelQuery},
}

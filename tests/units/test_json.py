"""Columns of JSON that hold a Pydantic model, or plain values: what comes back is equal, and nobody else's."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, computed_field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, InvalidValueError, MappingError, QueryError, asc, fields, in_, is_null
from sqlrepo.sqlalchemy.types import Json


class Base(DeclarativeBase): ...


class Stop(BaseModel):
    model_config = ConfigDict(populate_by_name=False, extra="forbid")  # so a computed field may not be kept
    name: str = Field(alias="stopName")
    at: datetime | None = None
    fee: Decimal = Decimal("0.10")

    @computed_field
    @property
    def label(self) -> str:
        return self.name.upper()


class Express(Stop):
    speed: int = 9


class Route(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stops: list[Stop] = []
    weights: dict[int, float] = {}


class Token(BaseModel):
    secret: SecretStr
    _seen: int = PrivateAttr(0)


@dataclass(frozen=True)
class Size:
    width: int


class TripRow(Base):
    __tablename__ = "trip"
    id: Mapped[int] = mapped_column(primary_key=True)
    route: Mapped[Any | None] = mapped_column(Json(Route))
    stops: Mapped[Any | None] = mapped_column(Json(list[Stop]))
    size: Mapped[Any | None] = mapped_column(Json(Size))
    token: Mapped[Any | None] = mapped_column(Json(Token))
    notes: Mapped[Any | None] = mapped_column(Json())


class Trip(BaseModel):
    id: int | None = None
    route: Route | None = None
    stops: list[Stop] | None = None
    size: Size | None = None
    token: Token | None = None
    notes: Any = None


class Trips(BaseRepository[Trip, int]):
    model = TripRow


trip = fields(Trip)
NOON = datetime(2024, 2, 29, 12, 0, 0, 1, timezone(timedelta(hours=2)))


def stop(name="a", **values):
    return Stop(stopName=name, **values)


@pytest.fixture
def trips(empty):
    with Trips(empty(Base)) as trips:
        yield trips


@pytest.mark.parametrize(
    "given",
    [
        {"route": Route()},
        {"route": Route(stops=[stop("é😀\0\"'\\"), stop(at=NOON, fee=Decimal("1.50"))], weights={-1: 1e300, 2: 1.0})},
        {"stops": []},
        {"stops": [stop(), stop("b")]},
        {"size": Size(3)},
        {"route": Route(stops=[stop("x" * 70_000)])},
    ],
    ids=["empty model", "nested model", "empty list", "list", "dataclass", "more than 64 KB"],
)
def test_what_a_column_is_made_for_comes_back_equal(trips, given):
    added = trips.add(Trip(**given))

    [(field, value)] = given.items()
    for found in (added, trips.get(added.id), trips.find(order_by=trip.id)[0]):
        assert getattr(found, field) == value
        assert type(getattr(found, field)) is type(value)


@pytest.mark.parametrize(
    "value", ["text", "1", "", 1, 1.0, 1e16, 2**70, True, False, [], {}, {"a": [1, None, {"": "é"}]}]
)
def test_plain_json_comes_back_as_the_same_type(trips, value):
    stored = trips.get(trips.add(Trip(notes=value)).id)

    assert stored.notes == value
    assert type(stored.notes) is type(value)


def test_a_type_says_what_it_holds():
    assert [repr(one) for one in (Json(), Json(Stop), Json(list[int]))] == ["Json()", "Json(Stop)", "Json(list[int])"]


def test_none_is_null(trips):
    trips.add_many([Trip(), Trip(route=Route(), stops=[], notes=[])])

    for field in (trip.route, trip.stops, trip.notes):
        assert trips.count(is_null(field)) == trips.count(field == None) == 1  # noqa: E711
        assert trips.count(field != None) == 1  # noqa: E711


@pytest.mark.parametrize("field", ["route", "stops", "size", "notes"])
def test_it_can_be_asked_for_null_and_nothing_else(trips, field):
    ref = getattr(trip, field)
    value = {"route": Route(), "stops": [], "size": Size(1), "notes": {}}[field]
    for ask in (
        lambda: trips.find(ref == value),
        lambda: trips.find(ref != value),
        lambda: trips.find(in_(ref, [value])),
        lambda: trips.find(**{field: value}),
        lambda: trips.find(order_by=asc(ref)),
        lambda: trips.find(order_by=field),
    ):
        with pytest.raises(QueryError):
            ask()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("route", {"stops": []}),
        ("route", stop()),
        ("route", Route.model_construct(stops="none")),
        ("stops", [Express(stopName="a")]),
        ("token", Token(secret=SecretStr("s"))),
        ("notes", (1, 2)),
        ("notes", {1: 2}),
        ("notes", float("nan")),
        ("notes", {"a": float("inf")}),
        ("notes", {1, 2}),
        ("notes", NOON),
        ("notes", "\ud800"),
        ("notes", Route()),
        ("notes", object()),
    ],
    ids=lambda given: given if isinstance(given, str) and given.isascii() else type(given).__name__,
)
def test_what_would_not_come_back_equal_is_refused(trips, field, value):
    with pytest.raises(InvalidValueError) as caught:
        trips.add(Trip.model_construct(**{**dict(Trip()), field: value}))

    assert caught.value.field == field
    assert trips.count() == 0


def test_it_can_be_patched_and_set(trips):
    stored = trips.add(Trip())

    assert trips.patch(stored.id, {"route": Route(stops=[stop("p")])}).route.stops == [stop("p")]
    trips.update_where(trip.id == stored.id, set_={"notes": [1], "route": None})
    assert (trips.get(stored.id).notes, trips.get(stored.id).route) == ([1], None)
    with pytest.raises(InvalidValueError):
        trips.patch(stored.id, {"route": stop()})


@pytest.mark.parametrize(
    ("annotation", "fits"),
    [(Route, True), (Route | None, True), (Any, True), (Stop, False), (str, False), (dict, False)],
)
def test_a_field_has_the_class_of_its_column(annotation, fits):
    entity = type("Entity", (BaseModel,), {"__annotations__": {"id": int | None, "route": annotation}, "id": None})

    def declare():
        class Repository(BaseRepository[entity, int]):
            model = TripRow

    if fits:
        declare()
    else:
        with pytest.raises(MappingError):
            declare()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql", "mariadb"])
def test_statements_on_a_session_go_through_the_type(empty):
    db = empty(Base)
    with sa.orm.Session(db.engine) as session:
        session.add(TripRow(route=Route(stops=[stop()])))
        session.commit()
        assert session.scalars(sa.select(TripRow.route)).one() == Route(stops=[stop()])
        assert session.scalars(sa.select(TripRow)).one().notes is None

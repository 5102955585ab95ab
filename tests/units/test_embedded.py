"""Value objects in columns of their owner's table, on every backend."""

import types
from dataclasses import dataclass, replace

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import DeclarativeBase, Mapped, composite, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    BaseRepository,
    Embedded,
    InvalidValueError,
    MappingError,
    QueryError,
    QueryObject,
    desc,
    fields,
    is_null,
    matches,
    not_,
    some,
)
from tests.units.domain import own_base, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}  # as SQLAlchemy wants it


class PlaceRow(Base):
    __tablename__ = "place_of_objects"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    ship_to_city: Mapped[str]
    ship_to_geo_lat: Mapped[int]
    ship_to_geo_lon: Mapped[int | None]
    billing_city: Mapped[str | None]
    billing_geo_lat: Mapped[int | None]
    billing_geo_lon: Mapped[int | None]


class Geo(BaseModel):
    lat: int
    lon: int | None = None


class Address(BaseModel):
    model_config = ConfigDict(extra="allow")
    city: str
    geo: Geo


class Place(BaseModel):
    id: int | None = None
    title: str
    ship_to: Address
    bill_to: Address | None = None


class Places(BaseRepository[Place, int]):
    model = PlaceRow
    parts = {"bill_to": Embedded("billing_")}


def address(city, lat=1, lon=None):
    return Address(city=city, geo=Geo(lat=lat, lon=lon))


db = tables_of(Base)


@pytest.fixture
def places(db):
    with Places(db) as places:
        places.add_many(
            [
                Place(title="a", ship_to=address("Oslo")),
                Place(title="b", ship_to=address("Bergen", 5, 6), bill_to=address("Oslo", 2)),
                Place(title="c", ship_to=address("Oslo", 9), bill_to=address("Voss", 3, 4)),
            ]
        )
        yield places


def titles(found):
    return [one.title for one in found]


def test_objects_are_stored_read_and_changed(places):
    a, b, c = places.find()
    assert (a.ship_to, a.bill_to) == (address("Oslo"), None)
    assert (b.ship_to, b.bill_to) == (address("Bergen", 5, 6), address("Oslo", 2))
    assert places.update(a.model_copy(update={"bill_to": address("Moss")})).bill_to == address("Moss")
    assert places.update(b.model_copy(update={"bill_to": None})).bill_to is None
    assert places.patch(c.id, {"ship_to": address("Hamar", 7)}).ship_to == address("Hamar", 7)
    assert places.patch(c.id, {"bill_to": None}).bill_to is None
    assert places.save(c).bill_to == c.bill_to
    assert places.upsert(a, on="id", update=["ship_to"]).entity.bill_to == address("Moss")
    assert places.update_where(title="b", set_={"ship_to": address("Lom")}) == 1
    assert [one.ship_to.city for one in places.find(order_by="id")] == ["Oslo", "Lom", "Oslo"]


def test_criteria_and_orders_name_their_fields(places):
    p = fields(Place)
    everything = places.find()
    for criterion, wanted in [
        (p.ship_to.city == "Oslo", ["a", "c"]),
        (p.ship_to.geo.lat > 4, ["b", "c"]),
        (some(p.bill_to).city == "Oslo", ["b"]),
        (not_(some(p.bill_to).city == "Oslo"), ["c"]),  # unknown where there is none
        (is_null(p.bill_to), ["a"]),
        (some(p.bill_to).geo.lon == None, ["a", "b"]),  # noqa: E711
    ]:
        assert titles(places.find(criterion, order_by="id")) == wanted
        assert titles(one for one in everything if matches(criterion, one)) == wanted
    assert titles(places.find(order_by="-ship_to__geo__lat")) == ["c", "b", "a"]
    assert titles(places.find(order_by=[p.ship_to.city, desc(p.id)])) == ["b", "c", "a"]
    assert titles(places.find(ship_to__city="Bergen")) == ["b"]


def test_query_objects_and_smaller_models_reach_into_them(places):
    class PlaceQuery(QueryObject[Place]):
        ship_to__city: str | None = None
        ship_to__geo__lat_ge: int | None = None
        limit: int = 5

    class Brief(BaseModel):
        title: str
        bill_to: Address | None

    assert titles(places.find(PlaceQuery(ship_to__city="Oslo", ship_to__geo__lat_ge=2))) == ["c"]
    assert titles(places.scroll(PlaceQuery(limit=1)).items) == ["a"]
    assert places.find(into=Brief, order_by="id")[:2] == [
        Brief(title="a", bill_to=None),
        Brief(title="b", bill_to=address("Oslo", 2)),
    ]


def test_wrong_values_name_their_place(places):
    a = places.first()
    for wrong, place in [
        (address("c" * 31), "ship_to.city"),
        (Address(city="x", geo=Geo(lat=1), zip="extra"), "ship_to.zip"),
        ("Oslo", "ship_to"),
    ]:
        for write in (
            lambda: places.update(a.model_copy(update={"ship_to": wrong})),  # noqa: B023
            lambda: places.patch(a.id, {"ship_to": wrong}),  # noqa: B023
        ):
            with pytest.raises(InvalidValueError) as caught:
                write()
            assert caught.value.field == place
    with pytest.raises(InvalidValueError, match="expected Address, got NoneType"):
        places.patch(a.id, {"ship_to": None})
    assert places.get(a.id) == a


def test_other_uses_say_what_to_do(places):
    p = fields(Place)
    with pytest.raises(QueryError, match="value object; name one of its fields, such as ship_to__city"):
        places.find(ship_to=address("Oslo"))
    with pytest.raises(QueryError, match="no field 'town'"):
        p.ship_to.town  # noqa: B018
    with pytest.raises(QueryError, match="has no order"):
        places.find(order_by="ship_to")
    for write in (
        lambda: places.patch(1, {"ship_to.city": "Oslo"}),  # past the validators of its class
        lambda: places.update_where(title="a", set_={"bill_to.city": "Oslo"}),
        lambda: places.upsert(Place(id=1, title="a", ship_to=address("Oslo")), on="id", update=["ship_to.city"]),
    ):
        with pytest.raises(QueryError, match="set as a whole"):
            write()


def test_what_does_not_fit_is_refused():
    class Empty(BaseModel):
        city: str | None = None

    class Odd(BaseModel):
        title: str
        ship_to: Empty | None = None

    class Lost(BaseModel):
        title: str
        ship_to: Address
        id: int | None = None

    class LostRow(Base):
        __tablename__ = "lost_object"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        ship_to_city: Mapped[str]

    with pytest.raises(MappingError, match="two meanings"):

        class Odds(BaseRepository[Odd, int]):
            model = PlaceRow

    with pytest.raises(MappingError, match=r"'ship_to.geo.lat' of Lost has no column"):

        class Losts(BaseRepository[Lost, int]):
            model = LostRow

    with pytest.raises(MappingError, match="not a value object"):

        class Titles(BaseRepository[Place, int]):
            model = PlaceRow
            parts = {"title": Embedded("t_")}


class OldPlace(BaseModel):
    id: int | None = None
    title: str
    ship_to: Address | None = None


class Spot(BaseModel):
    geo: Geo | None = None


class Spots(BaseModel):
    id: int | None = None
    title: str
    ship_to: Spot


class DefaultRow(Base):
    __tablename__ = "default_of_objects"
    id: Mapped[int] = mapped_column(primary_key=True)
    geo_lat: Mapped[int] = mapped_column(server_default="7")
    geo_lon: Mapped[int | None]


class Defaulted(BaseModel):
    id: int | None = None
    geo: Geo | None = None


@pytest.mark.parametrize(
    ("entity", "words"),
    [
        (OldPlace, "'ship_to' of OldPlace may be None.*ship_to_city, ship_to_geo_lat of table place_of_objects"),
        (Spots, r"'ship_to\.geo' of Spots may be None.*but ship_to_geo_lat of"),
    ],
)
def test_an_object_that_may_be_none_is_refused_over_columns_that_cannot_be_null(entity, words):
    members = {"model": PlaceRow}
    with pytest.raises(MappingError, match=words):
        types.new_class("Kept", (BaseRepository[entity, int],), exec_body=lambda body: body.update(members))
    with pytest.raises(MappingError, match=words):
        types.new_class("Kept", (AsyncBaseRepository[entity, int],), exec_body=lambda body: body.update(members))
    # a repository with its own to_row may store None in another way
    members["to_row"] = lambda _, entity: {"title": entity.title, "ship_to_city": "", "ship_to_geo_lat": 0}
    types.new_class("Kept", (BaseRepository[entity, int],), exec_body=lambda body: body.update(members))


def test_an_object_that_may_be_none_is_kept_over_columns_with_defaults(empty):
    class Defaults(BaseRepository[Defaulted, int]):
        model = DefaultRow
        memory_defaults = {"geo_lat": 7}

    with Defaults(empty(Base)) as kept:
        assert kept.add(Defaulted()).geo == Geo(lat=7)


def test_an_object_that_holds_nothing_but_objects_is_checked_as_well(empty):
    class Holder(BaseModel):
        geo: Geo

    class Held(BaseModel):
        id: int | None = None
        held: Holder

    own = own_base()

    class HeldRow(own):
        __tablename__ = "held_of_objects"
        id: Mapped[int] = mapped_column(primary_key=True)
        held_geo_lat: Mapped[int]
        held_geo_lon: Mapped[int | None]

    class Helds(BaseRepository[Held, int]):
        model = HeldRow

    with Helds(empty(own)) as kept, pytest.raises(InvalidValueError) as caught:
        kept.add(Held.model_construct(id=None, held=7))
    assert caught.value.field == "held"


@dataclass(frozen=True)
class Point:
    x: int
    y: int


@dataclass(frozen=True)
class Line:
    start: Point
    id: int | None = None


class LineRow(Base):
    __tablename__ = "line_of_points"
    id: Mapped[int] = mapped_column(primary_key=True)
    x1: Mapped[int]
    y1: Mapped[int]
    start: Mapped[Point] = composite("x1", "y1")


class Lines(BaseRepository[Line, int]):
    model = LineRow


def test_a_composite_says_where_its_fields_are(db):
    with Lines(db) as lines:
        line = lines.add(Line(Point(1, 2)))
        assert lines.update(replace(line, start=Point(3, 4))).start == Point(3, 4)
        assert lines.find(fields(Line).start.y == 4) == [lines.get(line.id)]

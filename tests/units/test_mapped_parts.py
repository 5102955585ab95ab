"""Mapped classes as entities with the parts that their repositories list; what is not loaded stays as it is."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, attribute_keyed_dict, mapped_column, relationship
from sqlalchemy.orm.exc import DetachedInstanceError

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    HasOne,
    InvalidValueError,
    MappingError,
    QueryError,
    StaleEntityError,
    exists,
    fields,
)
from tests.units.domain import opened, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class Owner(Base):
    __tablename__ = "owner_of_mapped"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    trips: Mapped[list["Trip"]] = relationship(back_populates="owner")


class Trip(Base):
    __tablename__ = "mapped_trip"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Owner.id))
    version: Mapped[int] = mapped_column()
    owner: Mapped[Owner | None] = relationship(back_populates="trips")
    stops: Mapped[list["Stop"]] = relationship(
        back_populates="trip",
        order_by="Stop.position",
        collection_class=ordering_list("position"),
        cascade="all, delete-orphan",
    )
    ticket: Mapped["Ticket | None"] = relationship(cascade="all, delete-orphan")
    costs: Mapped[dict[str, "Cost"]] = relationship(
        collection_class=attribute_keyed_dict("name"), cascade="all, delete-orphan"
    )
    long_stops: Mapped[list["Stop"]] = relationship(
        primaryjoin="and_(Stop.trip_id == Trip.id, Stop.nights > 3)", viewonly=True
    )
    guests: Mapped[list["Guest"]] = relationship(cascade="all, delete-orphan")
    __mapper_args__ = {"version_id_col": version}


class Stop(Base):
    __tablename__ = "mapped_stop"
    id: Mapped[int] = mapped_column(primary_key=True)
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(Trip.id, ondelete="CASCADE"))
    position: Mapped[int]
    city: Mapped[str]
    nights: Mapped[int] = mapped_column(default=1)
    trip: Mapped[Trip] = relationship(back_populates="stops")
    sights: Mapped[list["Sight"]] = relationship(cascade="all, delete-orphan", backref="stop")


class Sight(Base):
    __tablename__ = "mapped_sight"
    id: Mapped[int] = mapped_column(primary_key=True)
    stop_id: Mapped[int] = mapped_column(sa.ForeignKey(Stop.id, ondelete="CASCADE"))
    name: Mapped[str]


class Ticket(Base):
    __tablename__ = "mapped_ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(Trip.id, ondelete="CASCADE"), unique=True)
    code: Mapped[str]


class Cost(Base):
    __tablename__ = "mapped_cost"
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(Trip.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[int]


class Guest(Base):
    __tablename__ = "mapped_guest"
    id: Mapped[int] = mapped_column(primary_key=True)
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(Trip.id, ondelete="CASCADE"))


class Trips(BaseRepository[Trip, int]):
    parts = {"stops": HasMany(parts={"sights": HasMany()}), "ticket": HasOne(), "costs": HasMany()}


class PlainTrips(BaseRepository[Trip, int]): ...


class Agency(BaseUnitOfWork):
    trips: Trips


db = tables_of(Base)
agency = opened(Agency)


def a_trip(*cities, **values):
    stops = [Stop(city=city, sights=[Sight(name=f"{city} tower")]) for city in cities or ("Oslo", "Bergen")]
    given = {"stops": stops, "ticket": Ticket(code="t"), "costs": {"bus": Cost(name="bus", amount=3)}}
    return Trip(name="trip", **{**given, **values})


def shape(trip):
    stops = [(stop.city, stop.position, [sight.name for sight in stop.sights]) for stop in trip.stops]
    return stops, trip.ticket and trip.ticket.code, {name: cost.amount for name, cost in trip.costs.items()}


def test_listed_parts_are_stored_and_read_as_new_instances(db):
    given = a_trip()
    with Agency(db) as agency:
        stored = agency.trips.add(given)
    wanted = ([("Oslo", 0, ["Oslo tower"]), ("Bergen", 1, ["Bergen tower"])], "t", {"bus": 3})
    assert shape(stored) == wanted
    assert stored is not given
    assert given.id is None
    assert {id(one) for one in stored.stops}.isdisjoint(id(one) for one in given.stops)
    with Agency(db) as agency:
        [found] = agency.trips.find()
        assert shape(found) == shape(agency.trips.get(stored.id)) == wanted
    with pytest.raises(DetachedInstanceError):
        found.owner  # noqa: B018  # it is not loaded
    with Agency(db) as agency:
        agency.trips.remove(found)
        assert agency.trips.count() == 0


def test_children_are_changed_added_and_removed(agency):
    trip = agency.trips.add(a_trip("Oslo", "Bergen", "Bodø"))
    oslo, bergen, _ = trip.stops
    oslo.sights.append(Sight(name="opera"))
    trip.stops = [bergen, oslo, Stop(city="Rome")]
    trip.stops.reorder()
    trip.ticket.code = "new"
    trip.costs["train"] = Cost(name="train", amount=9)
    trip.costs["bus"].amount = 4
    written = agency.trips.update(trip)
    assert shape(written) == (
        [("Bergen", 0, ["Bergen tower"]), ("Oslo", 1, ["Oslo tower", "opera"]), ("Rome", 2, [])],
        "new",
        {"bus": 4, "train": 9},
    )
    assert [stop.id for stop in written.stops[:2]] == [bergen.id, oslo.id]
    assert shape(agency.trips.get(trip.id)) == shape(written)
    written.ticket = None
    del written.costs["bus"]
    again = agency.trips.update(written)
    assert shape(again)[1:] == (None, {"train": 9})
    with pytest.raises(StaleEntityError):
        agency.trips.update(written)


def test_what_is_not_loaded_is_left_as_it_is(db):
    with Agency(db) as agency:
        trip = agency.trips.add(a_trip())
    with PlainTrips(db) as trips:
        bare = trips.get(trip.id)
        assert "stops" not in vars(bare)
    bare.name = "renamed"
    with Agency(db) as agency:
        written = agency.trips.update(bare)
        assert shape(written) == shape(trip)
        seen = Trip(id=trip.id, name="n", version=2, long_stops=[Stop(city="view-only", position=9)])
        assert shape(agency.trips.update(seen)) == shape(trip)
        assert shape(agency.trips.patch(trip.id, {"ticket": None})) == (shape(trip)[0], None, {"bus": 3})
        written = agency.trips.get(trip.id)
        stop = Stop(id=written.stops[0].id, city="Lillehammer", position=0)  # says nothing of its sights
        written.stops = [stop]
        assert shape(agency.trips.update(written))[0] == [("Lillehammer", 0, ["Oslo tower"])]


def test_an_instance_that_a_session_has_loaded_is_accepted(sqlite):
    with Agency(sqlite_tables(sqlite)) as agency:
        trip = agency.trips.add(a_trip())
    with Session(sqlite.engine) as session:
        known = session.get(Trip, trip.id)
        known.stops.pop(0)
        assert known.long_stops == []
        session.expunge_all()
    with Agency(sqlite) as agency:
        written = agency.trips.update(known)
        assert [stop.city for stop in written.stops] == ["Bergen"]
        assert written.stops[0] is not known.stops[0]


def sqlite_tables(db):
    Base.metadata.create_all(db.engine)
    return db


@pytest.mark.parametrize(
    ("field", "value"), [("owner", lambda: Owner(name="o")), ("guests", lambda: [Guest()])], ids=["owner", "guests"]
)
def test_other_relationship_state_is_refused_by_name(db, field, value):
    with Agency(db) as agency:
        trip = agency.trips.add(a_trip())
    known = Trip(id=trip.id, name="n", version=1, **{field: value()})
    for write in (
        lambda agency: agency.trips.add(a_trip(**{field: value()})),
        lambda agency: agency.trips.update(known),
    ):
        with pytest.raises(InvalidValueError) as caught, Agency(db) as agency:
            write(agency)
        assert caught.value.field == field


def test_filters_ask_about_listed_parts(agency):
    agency.trips.add_many([a_trip(), a_trip("Rome")])
    t = fields(Trip)
    inner = exists(t.stops, lambda stop: exists(stop.sights, lambda sight: sight.name == "Rome tower"))
    assert agency.trips.count(exists(t.stops, lambda stop: stop.city == "Oslo")) == 1
    assert agency.trips.count(inner) == 1
    with pytest.raises(QueryError, match=r"has no part Trip\.guests"):
        agency.trips.count(exists(t.guests))


@pytest.mark.parametrize("name", ["owner", "long_stops", "name", "nothing"])
def test_only_owned_relationships_can_be_listed(name):
    class Refused(BaseRepository[Trip, int]):
        version = "version"

    with pytest.raises(MappingError, match=f"{name!r}; a part of Trip, a mapped class, is a relationship"):
        type("Refused", (Refused,), {"parts": {name: HasMany()}})

"""Every error that writing parts can raise, with the place that it names, and whether it aborts the unit."""

import asyncio
from contextlib import nullcontext, suppress
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    CheckViolationError,
    ConstraintError,
    ForeignKeyViolationError,
    HasMany,
    HasOne,
    InvalidValueError,
    NotNullViolationError,
    StaleEntityError,
    TransactionAbortedError,
    TransactionConflictError,
    UniqueViolationError,
    UnsupportedError,
    fields,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database, types
from tests.databases import servers
from tests.units.domain import async_database, create, database, own_base

Base = own_base()


class TripRow(Base):
    __tablename__ = "trip_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]


class LegRow(Base):
    __tablename__ = "leg_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(TripRow.id, ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(sa.SmallInteger)
    name: Mapped[str]
    seats: Mapped[int] = mapped_column(sa.SmallInteger)
    size_width: Mapped[int | None] = mapped_column(sa.SmallInteger)


class StopRow(Base):
    __tablename__ = "stop_of_errors"
    __table_args__ = (
        sa.UniqueConstraint("leg_id", "name", name="one_stop_of_a_name"),
        sa.CheckConstraint("minutes > 0", name="some_minutes"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    leg_id: Mapped[int] = mapped_column(sa.ForeignKey(LegRow.id, ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(sa.SmallInteger)
    name: Mapped[str]
    minutes: Mapped[int] = mapped_column(sa.SmallInteger)
    port_id: Mapped[int | None] = mapped_column(sa.ForeignKey(TripRow.id))


class TagRow(Base):  # its key lacks the owner
    __tablename__ = "tag_of_errors"
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(TripRow.id, ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(primary_key=True)


class NoteRow(Base):
    __tablename__ = "note_of_errors"
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(TripRow.id, ondelete="CASCADE"), primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(5), primary_key=True)


class BagRow(Base):
    __tablename__ = "bag_of_errors"
    id: Mapped[UUID] = mapped_column(types.UniqueId(), primary_key=True)
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(TripRow.id, ondelete="CASCADE"))
    kilos: Mapped[int] = mapped_column(sa.SmallInteger)


class PassRow(Base):
    __tablename__ = "pass_of_errors"
    trip_id: Mapped[int] = mapped_column(sa.ForeignKey(TripRow.id, ondelete="CASCADE"), primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(5))


guests = sa.Table(
    "guest_of_trip",
    Base.metadata,
    sa.Column("trip_id", sa.ForeignKey(TripRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("guest_id", sa.ForeignKey("guest_of_errors.id"), primary_key=True),
)


class GuestRow(Base):
    __tablename__ = "guest_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(5), unique=True)


class Size(BaseModel):
    width: int


class Stop(BaseModel):
    id: int | None = None
    leg_id: int | None = None
    name: str
    minutes: int = 1
    port_id: int | None = None


class Leg(BaseModel):
    id: int | None = None
    name: str = "l"
    seats: int | None = 1
    size: Size | None = None
    stops: list[Stop] = []


class Bag(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    kilos: int = 1


class Pass(BaseModel):
    trip_id: int | None = None
    code: str = "c"


class Guest(BaseModel):
    id: int | None = None
    name: str


class Trip(BaseModel):
    id: int | None = None
    name: str = "t"
    legs: list[Leg] = []
    tags: list[str] = []
    notes: list[str] = []
    bags: list[Bag] = []
    permit: Pass = Pass()
    guests: list[Guest] = []
    version: int = 1


class OneBag(Bag):
    trip_id: int


class Bags(BaseRepository[OneBag, UUID]):
    model = BagRow

    def scope(self):
        return fields(OneBag).kilos < 100


PARTS = {
    "legs": HasMany(LegRow, order="position", parts={"stops": HasMany(StopRow, order="position")}),
    "tags": HasMany(TagRow, value="name"),
    "notes": HasMany(NoteRow, value="text"),
    "bags": HasMany(BagRow),
    "permit": HasOne(PassRow),
    "guests": HasMany(GuestRow, through=guests),
}


class Trips(BaseRepository[Trip, int]):
    model = TripRow
    version = "version"
    parts = PARTS


class Agency(BaseUnitOfWork):
    trips: Trips
    bags: Bags


@pytest.fixture
def db(backend):
    made = database(backend, Base)
    yield made
    made.dispose()


def changed(entity, **values):
    return entity.model_copy(update=values)


def a_trip(**values):
    return Trip(
        **{
            "legs": [Leg(stops=[Stop(name="a"), Stop(name="b")]), Leg(stops=[Stop(name="a")]), Leg()],
            "tags": [f"{uuid4()}"],
            "notes": ["n"],
            "bags": [Bag()],
            "guests": [Guest(name=f"{uuid4()}"[:5])],
            **values,
        }
    )


def legs(trip, index, **values):
    """The legs of a trip, one of which is changed."""
    return {"legs": [changed(leg, **values) if at == index else leg for at, leg in enumerate(trip.legs)]}


class Case:
    """A wrong change of a trip beside another one, and the place that the error names."""

    def __init__(self, name, make, place, error=InvalidValueError, *, sent=False):
        self.name = name
        self.make = make  # of the trip and the other
        self.place = place  # a field, or the fields of a constraint
        self.error = error
        self.sent = sent  # found after the root's statement


CASES = [
    # found before a statement is sent
    Case("no collection", lambda t, o: {"legs": None}, "legs"),
    Case("no collection inside", lambda t, o: legs(t, 1, stops=7), "legs[1].stops"),
    Case("no instance", lambda t, o: {"legs": [t.legs[0], o]}, "legs[1]"),
    Case("no instance inside", lambda t, o: legs(t, 0, stops=[{"name": "x"}]), "legs[0].stops[0]"),
    Case("no instance alone", lambda t, o: {"permit": o}, "permit"),
    Case("no instance through", lambda t, o: {"guests": [7]}, "guests[0]"),
    Case("None alone", lambda t, o: {"permit": None}, "permit"),
    Case("range", lambda t, o: legs(t, 1, seats=2**40), "legs[1].seats"),
    Case("type", lambda t, o: legs(t, 1, seats="x"), "legs[1].seats"),
    Case("range inside", lambda t, o: legs(t, 1, stops=[Stop(name="c", minutes=2**40)]), "legs[1].stops[0].minutes"),
    Case("value object", lambda t, o: legs(t, 2, size=Size(width=2**40)), "legs[2].size.width"),
    Case("no value object", lambda t, o: legs(t, 2, size=7), "legs[2].size"),
    Case("plain value", lambda t, o: {"notes": ["a", "b" * 6]}, "notes[1]"),
    Case("plain type", lambda t, o: {"notes": ["a", 7]}, "notes[1]"),
    Case("plain twice", lambda t, o: {"notes": ["a", "b", "a"]}, "notes[2]"),
    Case("alone", lambda t, o: {"permit": Pass(code="c" * 6)}, "permit.code"),
    Case("through", lambda t, o: {"guests": [Guest(name="g" * 6)]}, "guests[0].name"),
    Case("key twice", lambda t, o: {"legs": [t.legs[0]] * 2}, "legs[1].id"),
    Case("key twice inside", lambda t, o: legs(t, 0, stops=[t.legs[0].stops[0]] * 2), "legs[0].stops[1].id"),
    Case("key of the application twice", lambda t, o: {"bags": [t.bags[0]] * 2}, "bags[1].id"),
    Case("plain None", lambda t, o: {"notes": ["a", None]}, "notes[1]"),
    Case("plain None in a key", lambda t, o: {"tags": [None]}, "tags[0]"),
    # found after the root's statement
    Case("NULL", lambda t, o: legs(t, 1, seats=None), ("legs.seats",), NotNullViolationError, sent=True),
    Case(
        "another owner",
        lambda t, o: legs(t, 1, stops=[Stop(name="z"), Stop(name="y", leg_id=t.legs[0].id)]),
        "legs[1].stops[1].leg_id",
        sent=True,
    ),
    Case("another owner alone", lambda t, o: {"permit": Pass(trip_id=o.id)}, "permit.trip_id", sent=True),
    Case("stolen", lambda t, o: {"legs": [*t.legs, o.legs[0]]}, "legs[3].id", sent=True),
    Case(
        "stolen inside",
        lambda t, o: legs(t, 2, stops=[changed(o.legs[0].stops[0], leg_id=None)]),
        "legs[2].stops[0].id",
        sent=True,
    ),
    Case("nobody's", lambda t, o: {"legs": [Leg(id=10_000)]}, "legs[0].id", sent=True),
    Case("stolen bag", lambda t, o: {"bags": [*t.bags, *o.bags]}, "bags[1].id", sent=True),
    Case("stolen tag", lambda t, o: {"tags": [*t.tags, *o.tags]}, "tags[1]", sent=True),
    Case("stolen through", lambda t, o: {"guests": [*t.guests, *o.guests]}, "guests[1].id", sent=True),
    Case("scope", lambda t, o: {"bags": [*t.bags, Bag(kilos=100)]}, "bags[1].kilos", sent=True),
    Case("scope changed", lambda t, o: {"bags": [changed(t.bags[0], kilos=100)]}, "bags[0].kilos", sent=True),
    Case(
        "unique",
        lambda t, o: legs(t, 0, stops=[*t.legs[0].stops, Stop(name="a")]),
        ("legs.stops.leg_id", "legs.stops.name"),
        UniqueViolationError,
        sent=True,
    ),
    Case("unique through", lambda t, o: {"guests": [Guest(name=o.guests[0].name)]}, ("guests.name",),
         UniqueViolationError, sent=True),
    Case("check", lambda t, o: legs(t, 1, stops=[Stop(name="z", minutes=0)]), ("legs.stops.minutes",),
         CheckViolationError, sent=True),
    Case("reference", lambda t, o: legs(t, 1, stops=[Stop(name="z", port_id=10_000)]), ("legs.stops.port_id",),
         ForeignKeyViolationError, sent=True),
]  # fmt: skip


@pytest.fixture
def trips(db):
    with Agency(db) as agency:
        return agency.trips.add_many([a_trip(), a_trip()])


@pytest.mark.parametrize("write", ["update", "patch", "save", "upsert"])
def test_the_error_names_the_place_and_aborts_what_was_begun(db, trips, write):
    trip, other = trips
    for case in CASES:
        wrong = case.make(trip, other)
        calls = {
            "update": lambda agency, wrong=wrong: agency.trips.update(changed(trip, **wrong)),
            "patch": lambda agency, wrong=wrong: agency.trips.patch(trip.id, wrong),
            "save": lambda agency, wrong=wrong: agency.trips.save(changed(trip, **wrong)),
            "upsert": lambda agency, wrong=wrong: agency.trips.upsert(changed(trip, **wrong), on="id"),
        }
        with suppress(TransactionAbortedError) if case.sent else nullcontext(), Agency(db) as agency:
            with pytest.raises(case.error) as caught:
                calls[write](agency)
            if not case.sent:
                assert len(agency.trips.find()) == 2, case.name  # the unit goes on
            else:
                with pytest.raises(TransactionAbortedError):
                    agency.trips.count()
        found = caught.value.fields if isinstance(case.place, tuple) else caught.value.field
        assert found in {case.place, ()}, case.name
        with Agency(db) as agency:
            assert agency.trips.find(order_by="id") == trips, case.name


@pytest.mark.parametrize("wrong", [
    ({"legs": [Leg(id=10_000)]}, "legs[0].id"),
    ({"legs": [Leg(), Leg(stops=[Stop(name="a"), Stop(id=10_000, name="b")])]}, "legs[1].stops[1].id"),
    ({"legs": [Leg(stops=[Stop(name="b", leg_id=10_000)])]}, "legs[0].stops[0].leg_id"),
    ({"guests": [Guest(id=10_000, name="g")]}, "guests[0].id"),
    ({"permit": Pass(trip_id=10_000)}, "permit.trip_id"),
    ({"notes": ["a", "a"]}, "notes[1]"),
], ids=lambda one: one[1])  # fmt: skip
def test_a_new_aggregate_names_the_place_too(db, wrong):
    values, place = wrong
    for write in ("add", "add_many"):
        with pytest.raises(InvalidValueError) as caught, Agency(db) as agency:
            getattr(agency.trips, write)(Trip(**values) if write == "add" else [Trip(**values)])
        assert caught.value.field == place
    with Agency(db) as agency:
        assert agency.trips.count() == 0


def test_more_children_than_a_column_has_numbers_for(db):
    with Agency(db) as agency:
        trip = agency.trips.add(Trip(legs=[Leg(), Leg()]))
        wanted = [trip.legs[0], changed(trip.legs[1], stops=[Stop(name=f"{n}") for n in range(32768)])]
        with pytest.raises(InvalidValueError, match="more children than column 'position'") as caught:
            agency.trips.update(changed(trip, legs=wanted))
        assert caught.value.field == "legs[1].stops"
        with pytest.raises(TransactionAbortedError):
            agency.trips.count()
        agency.rollback()
    with pytest.raises(InvalidValueError) as caught, Agency(db) as agency:
        agency.trips.add(Trip(legs=[Leg() for _ in range(32768)]))
    assert caught.value.field == "legs"


# -- a root that another unit has deleted


@pytest.mark.parametrize("write", ["save", "upsert"])
def test_what_was_deleted_meanwhile_is_inserted_again_as_a_plain_entity_is(db, write):
    with Agency(db) as agency:
        trip, other = agency.trips.add_many([a_trip(), a_trip()])
    with Agency(db) as agency:
        agency.trips.delete(trip.id)
    with Agency(db) as agency:
        wanted = changed(trip, name="again", legs=[*trip.legs[::-1], Leg(stops=[Stop(name="n")])])
        stored = agency.trips.save(wanted) if write == "save" else agency.trips.upsert(wanted, on="id").entity
    assert [leg.id for leg in stored.legs][:3] == [leg.id for leg in trip.legs[::-1]]
    assert [stop.id for leg in stored.legs[:3] for stop in leg.stops] == [
        stop.id for leg in trip.legs[::-1] for stop in leg.stops
    ]
    assert (stored.bags, stored.guests, stored.version, stored.name) == (trip.bags, trip.guests, 1, "again")
    with Agency(db) as agency:
        assert agency.trips.find(order_by="id") == [stored, other]
        assert agency.trips.add(a_trip()).legs[0].id > stored.legs[-1].id  # the sequence has moved on


def test_children_whose_keys_others_have_by_now_are_not_stolen(db):
    with Agency(db) as agency:
        trip, other = agency.trips.add_many([Trip(legs=[Leg()], bags=[Bag()]), Trip(legs=[Leg()], bags=[Bag()])])
        agency.trips.delete(trip.id)
    for wrong, field in [({"legs": other.legs}, "legs.id"), ({"bags": other.bags}, "bags.id")]:
        with pytest.raises(UniqueViolationError) as caught, Agency(db) as agency:
            agency.trips.save(changed(trip, **wrong))
        assert caught.value.fields in {(field,), ()}
    with Agency(db) as agency:
        assert agency.trips.find() == [other]


@pytest.mark.parametrize("lost_updates", ["refuse", "allow"])
def test_a_root_deleted_before_the_commit_of_its_save_is_a_conflict_which_a_retry_solves(lost_updates):
    db = InMemoryDatabase(lost_updates=lost_updates)
    with Agency(db) as agency:
        trip = agency.trips.add(a_trip())
    first = Agency(db)
    first.__enter__()
    first.trips.save(changed(trip, name="saved"))
    with Agency(db) as second:
        second.trips.delete(trip.id)
    with pytest.raises(TransactionConflictError):
        first.__exit__(None, None, None)
    with Agency(db) as again:
        again.trips.save(changed(trip, name="saved"))
    with Agency(db) as agency:
        assert agency.trips.get(trip.id) == changed(trip, name="saved")


# -- UnsupportedError


def test_what_is_unsupported_before_a_statement_leaves_the_unit_as_it_is(db):
    with Agency(db) as agency:
        trip = agency.trips.add(a_trip())

        with pytest.raises(UnsupportedError):
            agency.trips._write(agency.trips._begin(), unsupported)
        assert agency.trips.get(trip.id) == trip


def unsupported(*_):
    raise UnsupportedError("not here")


def refuse(patch, unit, call, table):
    """Let the driver refuse a call on one table."""
    kind = type(unit._work._start())
    right = getattr(kind, call)
    patch.setattr(
        kind, call, lambda self, schema, *rest: unsupported() if schema.name == table else right(self, schema, *rest)
    )


def test_what_is_unsupported_in_a_batch_aborts_if_a_row_was_sent(db, monkeypatch):
    with suppress(TransactionAbortedError), Agency(db) as agency:
        kind = type(agency._work._start())
        right = kind.upsert

        def upsert(self, schema, request, returning):
            return unsupported() if request.row["name"] == "b" else right(self, schema, request, returning)

        monkeypatch.setattr(kind, "upsert", upsert)
        with pytest.raises(UnsupportedError):
            agency.trips.upsert_many([Trip(id=2, name="b")], on="id")
        assert agency.trips.count() == 0  # nothing was sent, so the unit goes on
        with pytest.raises(UnsupportedError):
            agency.trips.upsert_many([Trip(id=1, name="a"), Trip(id=2, name="b")], on="id")
        with pytest.raises(TransactionAbortedError):
            agency.trips.count()
    with Agency(db) as agency:
        assert agency.trips.count() == 0


@pytest.mark.parametrize("write", ["add", "add_many", "update", "patch", "save", "upsert", "upsert_many", "delete"])
def test_what_is_unsupported_after_the_roots_statement_aborts(db, write, monkeypatch):
    with Agency(db) as agency:
        trip = agency.trips.add(a_trip())
    new, wanted = a_trip(), changed(trip, name="half", legs=[*trip.legs, Leg()])
    calls = {
        "add": lambda trips: trips.add(new),
        "add_many": lambda trips: trips.add_many([new]),
        "update": lambda trips: trips.update(wanted),
        "patch": lambda trips: trips.patch(trip.id, {"legs": wanted.legs}),
        "save": lambda trips: trips.save(wanted),
        "upsert": lambda trips: trips.upsert(wanted, on="id"),
        "upsert_many": lambda trips: trips.upsert_many([wanted], on="id"),
        "delete": lambda trips: trips.delete(trip.id),  # the guests go first, for their foreign key does not cascade
    }
    with suppress(TransactionAbortedError), Agency(db) as agency:
        refuse(
            monkeypatch, agency, *(("delete", "trip_of_errors") if write == "delete" else ("insert", "leg_of_errors"))
        )
        with pytest.raises(UnsupportedError):
            calls[write](agency.trips)
        with pytest.raises(TransactionAbortedError):
            agency.trips.count()
    with Agency(db) as agency:
        assert agency.trips.find() == [trip]


# -- constraints that are checked at the commit


def test_a_constraint_that_is_checked_at_the_commit_names_the_part():
    own = own_base()
    root = sa.Table(
        "root_of_late", own.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("version", sa.Integer)
    )
    leaf = sa.Table(
        "leaf_of_late",
        own.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("root_id", sa.ForeignKey("root_of_late.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(9), nullable=False),
        sa.UniqueConstraint("root_id", "name", deferrable=True, initially="DEFERRED", name="late"),
    )

    class Leaf(BaseModel):
        id: int | None = None
        name: str

    class Root(BaseModel):
        id: int | None = None
        leaves: list[Leaf] = []
        version: int = 1

    class Roots(BaseRepository[Root, int]):
        model = root
        version = "version"
        parts = {"leaves": HasMany(leaf)}

    db = create(Database(servers.made_for_tests("postgresql", "own")), own)
    try:
        with pytest.raises(UniqueViolationError) as caught, Roots(db) as roots:
            roots.add(Root(leaves=[Leaf(name="a"), Leaf(name="a")]))
        assert caught.value.fields == ("leaves.root_id", "leaves.name")
    finally:
        own.metadata.drop_all(db.engine)
        db.dispose()


# -- async units


class AsyncTrips(AsyncBaseRepository[Trip, int]):
    model = TripRow
    version = "version"
    parts = PARTS


class AsyncBags(AsyncBaseRepository[OneBag, UUID]):
    model = BagRow
    scope = Bags.scope


class AsyncAgency(AsyncBaseUnitOfWork):
    trips: AsyncTrips
    bags: AsyncBags


async def fail_async(db):
    async with AsyncAgency(db) as agency:
        trip, other = await agency.trips.add_many([a_trip(), a_trip()])
    for case in CASES:
        with suppress(TransactionAbortedError) if case.sent else nullcontext():
            async with AsyncAgency(db) as agency:
                with pytest.raises(case.error) as caught:
                    await agency.trips.update(changed(trip, **case.make(trip, other)))
        found = caught.value.fields if isinstance(caught.value, ConstraintError) else caught.value.field
        assert found in {case.place, ()}, case.name
    async with AsyncAgency(db) as agency:
        await agency.trips.delete(trip.id)
    async with AsyncAgency(db) as agency:
        saved = await agency.trips.save(trip)
        assert [leg.id for leg in saved.legs] == [leg.id for leg in trip.legs]
        with pytest.raises(StaleEntityError):
            await agency.trips.save(changed(trip, version=7))
    if isinstance(db, AsyncDatabase):
        await db.dispose()


def test_async_units_name_the_same_places(backend, tmp_path):
    asyncio.run(fail_async(async_database(backend, Base, tmp_path)))

"""A call evaluates each scope once, however many relations, filters, orders and parts name its table."""

import asyncio
from collections import Counter
from typing import Literal

import pytest

from sqlrepo import QueryObject, Summary, every, exists, fields, not_, via
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import SQLAlchemyRepository
from tests.units.domain import database
from tests.units.test_related_scope import Basket, Hiding, Item, Items, Own
from tests.units.test_view_scope import (
    MINE,
    AllRooms,
    AsyncHouse,
    AsyncPeople,
    Base,
    Everything,
    House,
    Id,
    Lock,
    LocksOfRooms,
    Note,
    Notes,
    Owned,
    People,
    Person,
    Room,
    Rooms,
    RoomTags,
    RoomView,
    Tags,
)

r = fields(Room)
people_twice = (via(r.owner_id, Person).id > 0) & not_(via(r.owner_id, Person).deleted)
noted = not_(exists(Note, lambda note: (note.room_id == r.id) & (via(note.author_id, Person).id < 0)))
locked = not_(exists(Lock, lambda lock: (lock.room_id == r.id) & (lock.id < 0)))


class OwnedBy(QueryObject[Room]):
    owner_id__id_gt: int = 0
    owner_id__tenant: int = MINE
    inside_id__tenant: int | None = None
    order_by: Literal["owner_id__tenant,-owner_id__id"] = "owner_id__tenant,-owner_id__id"
    limit: int = 5


class ByOwner(Summary[Room]):
    owner_id__tenant: int | None
    owner_id__deleted: bool | None
    count: int


class SizedBaskets(Summary[Basket]):
    items__qty_sum: int | None
    items__qty_max: int | None
    items__count: int


class SqlRooms(SQLAlchemyRepository[Room, int]):
    model = AllRooms.model
    scope = Rooms.scope


class SqlHouse(House):
    rooms: SqlRooms


READING = {
    "get": lambda rooms: rooms.get(1, into=RoomView),
    "get_many": lambda rooms: rooms.get_many([1, 2], into=RoomView),
    "one": lambda rooms: rooms.one(people_twice, noted, into=RoomView),
    "one_or_none": lambda rooms: rooms.one_or_none(people_twice, locked, into=RoomView),
    "first": lambda rooms: rooms.first(people_twice, order_by=via(r.owner_id, Person).tenant, into=RoomView),
    "find": lambda rooms: rooms.find(OwnedBy(), people_twice, noted, locked, into=RoomView),
    "find, locked": lambda rooms: rooms.find(noted, into=RoomView, lock="update"),
    "count": lambda rooms: rooms.count(OwnedBy(), people_twice, noted, locked),
    "exists": lambda rooms: rooms.exists(people_twice, noted, locked),
    "stream": lambda rooms: list(rooms.stream(people_twice, order_by="owner_id__tenant", into=RoomView)),
    "page": lambda rooms: rooms.page(OwnedBy(), with_total=True, into=RoomView),
    "scroll": lambda rooms: rooms.scroll(OwnedBy(), into=RoomView),
    "summarize": lambda rooms: rooms.summarize(ByOwner, people_twice, noted),
    "counts": lambda rooms: rooms.counts(via(r.owner_id, Person).tenant, people_twice),
    "distinct": lambda rooms: rooms.distinct(via(r.owner_id, Person).deleted, people_twice),
}
WRITING = {
    "add": lambda rooms: rooms.add(Room(owner_id=1)),
    "update": lambda rooms: rooms.update(Room(id=1, owner_id=1)),
    "patch": lambda rooms: rooms.patch(1, {"owner_id": 1}),
    "save": lambda rooms: rooms.save(Room(id=1, owner_id=1)),
    "upsert": lambda rooms: rooms.upsert(Room(id=1, owner_id=1), "id"),
    "delete": lambda rooms: rooms.delete(1),
    "remove": lambda rooms: rooms.remove(Room(id=1, owner_id=1)),
    "update_where": lambda rooms: rooms.update_where(people_twice, noted, locked, set_={"owner_id": 1}),
    "delete_where": lambda rooms: rooms.delete_where(people_twice, noted, locked),
}


@pytest.fixture
def evaluated(monkeypatch):
    """How often each scope has been evaluated."""
    seen = Counter()

    def counting(kind, scope):
        def evaluate(self):
            seen[kind.__name__] += 1
            return scope(self)

        return evaluate

    for kind in (Rooms, SqlRooms, People, Notes, Tags, RoomTags, LocksOfRooms, Items, AsyncPeople):
        monkeypatch.setattr(kind, "scope", counting(kind, kind.scope))
    return seen


@pytest.fixture
def db(backend):
    made = database(backend, Base)
    with Everything(made) as every_one:
        person = every_one.people.add(Person(id=1))
        every_one.rooms.add(Room(id=1, owner_id=person.id))
    yield made
    made.dispose()


class TestOnceInACall:
    @pytest.mark.parametrize("name", [*READING, *WRITING])
    def test_of_each_kind(self, db, evaluated, name):
        with House(db, context=MINE) as house:
            (READING | WRITING)[name](house.rooms)
            assert evaluated["Rooms"] == 1
            assert set(evaluated.values()) == {1}
            (READING.get(name) or READING["count"])(house.rooms)  # the next call evaluates them again
            assert evaluated["Rooms"] == 2

    def test_when_many_relations_name_the_tables(self, db, evaluated):
        with House(db, context=MINE) as house:
            house.rooms.get(1, into=RoomView)
        assert evaluated == dict.fromkeys(["Rooms", "People", "Notes", "Tags", "RoomTags", "LocksOfRooms"], 1)

    def test_in_a_chain_of_scopes(self, db, evaluated):
        with House(db, context=MINE) as house:
            house.locks.count(via(fields(Lock).room_id, Room).tenant == MINE)
        assert evaluated == {"LocksOfRooms": 1, "Rooms": 1}

    def test_in_a_statement_of_the_applications_own(self, sqlite, evaluated):
        Base.metadata.create_all(sqlite.engine)
        with SqlHouse(sqlite, context=MINE) as house:
            statement = house.rooms.select(people_twice, noted, locked, order_by="owner_id__tenant")
            assert evaluated == {"SqlRooms": 1, "People": 1, "Notes": 1, "LocksOfRooms": 1}
            evaluated.clear()
            house.rooms.load(statement)
            assert set(evaluated.values()) <= {1}

    def test_of_parts(self, backend, evaluated):
        db, b = database(backend, Own), fields(Basket)
        with Hiding(db) as shop:
            basket = shop.baskets.add(Basket(items=[Item(qty=1)]))
            calls = [
                lambda: shop.baskets.find(exists(b.items), every(b.items, lambda item: item.qty > 0)),
                lambda: shop.baskets.update(basket.model_copy(update={"items": []})),
                lambda: shop.baskets.patch(basket.id, {"items": []}),
                lambda: shop.baskets.save(Basket(id=basket.id, version=3)),
                lambda: shop.baskets.summarize(SizedBaskets, exists(b.items)),
            ]
            for call in calls:
                evaluated.clear()
                call()
                assert evaluated == {"Items": 1}
        db.dispose()

    def test_in_an_async_unit(self, evaluated):
        async def ask():
            async with AsyncHouse(InMemoryDatabase(), context=MINE) as house:
                await house.rooms.find(OwnedBy(), people_twice, into=Owned)
                assert evaluated == {"AsyncPeople": 1}
                await house.rooms.count(people_twice)
                assert evaluated == {"AsyncPeople": 2}

        asyncio.run(ask())


def test_a_scope_that_asks_the_database_is_asked_once_too(db, monkeypatch, evaluated):
    """Its own call evaluates the scopes of the tables that it names, once again."""

    def scope(self):
        return fields(Person).id >= min((room.id for room in self.unit.rooms.find(into=Id)), default=0)

    monkeypatch.setattr(People, "scope", scope)
    with House(db, context=MINE) as house:
        house.rooms.find(people_twice, into=RoomView)
    assert evaluated["Rooms"] == 2

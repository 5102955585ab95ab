"""What is given with an entity and no column keeps is refused by name; what columns say as well is not."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.associationproxy import association_proxy
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    MappedAsDataclass,
    Session,
    WriteOnlyMapped,
    attribute_keyed_dict,
    column_property,
    composite,
    joinedload,
    mapped_column,
    relationship,
    synonym,
)
from sqlmodel import Field, Relationship, SQLModel

from sqlrepo import AsyncBaseRepository, BaseRepository, BaseUnitOfWork, InvalidValueError, MappingError, QueryError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.units.domain import own_base


class Base(DeclarativeBase): ...


@dataclass
class Point:
    x: int
    y: int


class User(Base):
    __tablename__ = "unkept_user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), default="n")


class Order(Base):
    __tablename__ = "unkept_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int | None] = mapped_column(sa.ForeignKey(User.id))
    x: Mapped[int | None] = mapped_column()
    y: Mapped[int | None]
    owner: Mapped[User | None] = relationship(backref="orders")
    lines: Mapped[list["Line"]] = relationship(back_populates="order")
    kept: Mapped[set["Line"]] = relationship(overlaps="lines,order")
    by_id: Mapped[dict[int, "Line"]] = relationship(
        collection_class=attribute_keyed_dict("id"), overlaps="lines,order,kept"
    )
    first: Mapped["Line | None"] = relationship(uselist=False, overlaps="lines,order,kept,by_id")
    later: WriteOnlyMapped["Line"] = relationship(overlaps="lines,order,kept,by_id,first")
    queried: DynamicMapped["Line"] = relationship(overlaps="lines,order,kept,by_id,first,later")
    point: Mapped[Point] = composite("x", "y")
    ex = synonym("x")
    skus = association_proxy("lines", "sku", creator=lambda sku: Line(sku=sku))
    double: Mapped[int] = column_property(x + x)


class Line(Base):
    __tablename__ = "unkept_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Order.id))
    sku: Mapped[str | None] = mapped_column(sa.String(20))
    order: Mapped[Order | None] = relationship(back_populates="lines", overlaps="kept,by_id,first,later,queried")


class Users(BaseRepository[User, int]): ...


class Orders(BaseRepository[Order, int]): ...


class Lines(BaseRepository[Line, int]): ...


class Shop(BaseUnitOfWork):
    users: Users
    orders: Orders
    lines: Lines


@pytest.fixture
def shop(empty):
    with Shop(empty(Base)) as opened:
        yield opened


def with_lazy(name):
    order = Order(x=1)
    getattr(order, name).add(Line())
    return order


STATE = {
    "a scalar": ("owner", lambda: Order(owner=User())),
    "a list": ("lines", lambda: Order(lines=[Line()])),
    "a set": ("kept", lambda: Order(kept={Line()})),
    "a dict": ("by_id", lambda: Order(by_id={1: Line(id=1)})),
    "one to one": ("first", lambda: Order(first=Line())),
    "write only": ("later", lambda: with_lazy("later")),
    "dynamic": ("queried", lambda: with_lazy("queried")),
    "a proxy": ("lines", lambda: Order(skus=["a"])),
    "a back reference": ("lines", lambda: Line(order=Order()).order),
    "an expression": ("double", lambda: Order(double=3)),
}


@pytest.mark.parametrize("case", STATE)
def test_state_that_no_column_keeps_is_refused_by_every_write(shop, case):
    name, make = STATE[case]
    key = shop.orders.add(Order()).id

    def made():
        order = make()
        order.id = key
        return order

    calls = (
        shop.orders.add,
        lambda order: shop.orders.add_many([Order(), order]),
        shop.orders.update,
        shop.orders.save,
        lambda order: shop.orders.upsert(order, on="id"),
        lambda order: shop.orders.upsert_many([order], on="id"),
    )
    for call in calls:
        with pytest.raises(InvalidValueError) as caught:
            call(made())
        assert caught.value.field == name
    assert (shop.orders.count(), shop.lines.count(), shop.users.count()) == (1, 0, 0)
    shop.orders.remove(made())  # which needs the key only
    assert shop.orders.count() == 0


@pytest.mark.parametrize(
    "given",
    [
        {"owner": None, "lines": [], "kept": set(), "by_id": {}, "first": None},
        {"owner": None, "owner_id": 1},
        {"point": Point(1, 2)},
        {"ex": 1},
    ],
)
def test_nothing_that_was_given_is_nothing_to_refuse(shop, given):
    shop.users.add(User(id=1))
    stored = shop.orders.add(Order(**given))
    assert stored.owner_id == given.get("owner_id")
    assert stored.x == (1 if {"point", "ex"} & given.keys() else None)


def test_a_relationship_may_say_what_the_foreign_key_says(shop):
    ann, eve = shop.users.add_many([User(), User()])
    order = shop.orders.add(Order(owner=ann, owner_id=ann.id))
    assert order.owner_id == ann.id
    order.owner, order.owner_id = eve, eve.id
    assert shop.orders.update(order).owner_id == eve.id
    order.owner = ann
    with pytest.raises(InvalidValueError, match="owner"):
        shop.orders.update(order)
    assert shop.users.update(ann).id == ann.id  # its back reference was not loaded, so it was given nothing


def test_an_instance_that_is_not_stored_is_refused_whatever_its_key(shop):
    shop.users.add(User(id=1, name="a"))
    with pytest.raises(InvalidValueError, match="owner"):
        shop.orders.add(Order(owner=User(id=1, name="b"), owner_id=1))


def test_none_given_to_a_stored_entity_is_a_change(shop):
    order = shop.orders.add(Order(owner_id=shop.users.add(User()).id))
    order.owner = None
    with pytest.raises(InvalidValueError, match="owner"):
        shop.orders.update(order)
    order.owner_id = None
    assert shop.orders.update(order).owner_id is None


def test_state_that_was_only_loaded_is_not_given():
    db = Database("sqlite://")
    Base.metadata.create_all(db.engine)
    with Session(db.engine, expire_on_commit=False) as session:
        session.add(Order(id=1, owner=User(), lines=[Line()]))
        session.commit()
    with Session(db.engine) as session:
        read = session.get_one(Order, 1, options=[joinedload(Order.owner), joinedload(Order.lines)])
        session.expunge_all()
    with Shop(db) as shop:
        read.x = 5
        assert shop.orders.update(read).x == 5
        read.lines.clear()
        with pytest.raises(InvalidValueError, match="lines"):
            shop.orders.update(read)
    db.dispose()


def test_state_is_refused_in_a_joined_session():
    db = Database("sqlite://")
    Base.metadata.create_all(db.engine)
    with Session(db.engine) as session, pytest.raises(InvalidValueError, match="lines"):
        Shop(session).orders.add(Order(lines=[Line()]))
    db.dispose()


def test_state_is_refused_by_async_repositories():
    class AsyncOrders(AsyncBaseRepository[Order, int]): ...

    async def add():
        async with AsyncOrders(InMemoryDatabase()) as orders:
            await orders.add(Order(lines=[Line()]))

    with pytest.raises(InvalidValueError, match="lines"):
        asyncio.run(add())


def test_a_repository_with_its_own_to_row_decides_what_is_kept(empty):
    class Owned(BaseRepository[Order, int]):
        def to_row(self, entity):
            return {**super().to_row(entity), "owner_id": entity.owner and entity.owner.id}

    class Both(BaseUnitOfWork):
        users: Users
        orders: Owned

    with Both(empty(Base)) as both:
        ann = both.users.add(User())
        assert both.orders.add(Order(owner=ann)).owner_id == ann.id


def test_defaults_of_mapped_dataclasses_are_not_given(empty):
    class Local(MappedAsDataclass, DeclarativeBase): ...

    class Box(Local):
        __tablename__ = "unkept_box"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("unkept_box.id"), default=None)
        parent: Mapped["Box | None"] = relationship(default=None, remote_side="Box.id", back_populates="boxes")
        boxes: Mapped[list["Box"]] = relationship(default_factory=list, back_populates="parent")

    class Boxes(BaseRepository[Box, int]): ...

    with Boxes(empty(Local)) as boxes:
        outer = boxes.add(Box())
        assert boxes.add(Box(parent_id=outer.id)).parent_id == outer.id


class Side(SQLModel, table=True):
    __tablename__ = "unkept_side"
    id: int | None = Field(default=None, primary_key=True)
    players: list["Player"] = Relationship(back_populates="team")


class Player(SQLModel, table=True):
    __tablename__ = "unkept_player"
    id: int | None = Field(default=None, primary_key=True)
    age: int = 0
    team_id: int | None = Field(default=None, foreign_key="unkept_side.id")
    team: Side | None = Relationship(back_populates="players")


def test_tables_of_sqlmodel_are_refused_alike_also_as_changes(empty):
    class Players(BaseRepository[Player, int]): ...

    with Players(empty(SQLModel)) as players:
        key = players.add(Player(age=1)).id
        for call in (players.add, lambda player: players.patch(key, player)):
            with pytest.raises(InvalidValueError, match="team"):
                call(Player(age=2, team=Side()))
        assert players.patch(key, Player(age=3)).age == 3


# -- entities of other kinds


class Named(Base):
    __tablename__ = "unkept_named"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))
    colour: Mapped[str | None] = mapped_column(sa.String(20))


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int | None = None
    name: str


class Closed(BaseModel):
    id: int | None = None
    name: str


class Wider(Closed):
    size: int = 1


@dataclass
class Plain:
    name: str
    id: int | None = None


@dataclass
class WiderPlain(Plain):
    size: int = 1


@pytest.mark.parametrize(
    ("entity", "given", "name"),
    [
        (Open, lambda: Open(id=1, name="a", size=3), "size"),
        (Open, lambda: Open(id=1, name="a", colour="red"), "colour"),  # a column, but what is read lacks it
        (Closed, lambda: Wider(id=1, name="a"), "size"),
        (Plain, lambda: WiderPlain("a", 1), "size"),
    ],
)
def test_fields_that_the_entity_class_lacks_are_refused(empty, entity, given, name):
    class Names(BaseRepository[entity, int]):
        model = Named

    with Names(empty(Base)) as names:
        for call in (names.add, names.save, names.update, lambda one: names.upsert(one, on="id")):
            with pytest.raises(InvalidValueError) as caught:
                call(given())
            assert caught.value.field == name
        assert names.count() == 0
        kept = names.add(entity(id=1, name="a"))
        assert names.update(kept) == kept
        if entity is Open:
            with pytest.raises(QueryError, match="size"):
                names.patch(1, Open(name="b", size=3))


def test_attributes_that_are_no_fields_are_left_alone(empty):
    class Names(BaseRepository[Plain, int]):
        model = Named

    with Names(empty(Base)) as names:
        plain: Any = Plain("a")
        plain.note = "of the caller"
        assert names.add(plain) == Plain("a", 1)


# -- mappers that nobody has configured yet


def test_a_class_is_configured_by_the_first_row_that_is_read(empty):
    base = own_base()

    class Club(base):
        __tablename__ = "unkept_club"
        id: Mapped[int] = mapped_column(primary_key=True)
        members = relationship("Member")

    class Clubs(BaseRepository[Club, int]): ...

    class Member(base):
        __tablename__ = "unkept_member"
        id: Mapped[int] = mapped_column(primary_key=True)
        club_id: Mapped[int] = mapped_column(sa.ForeignKey("unkept_club.id"))

    @dataclass
    class Row:
        id: int | None = None

    class Rows(BaseRepository[Row, int]):
        model = Club

    db = empty(base)
    with Rows(db) as rows:
        rows.add(Row())
    assert [club.id for club in Clubs(db).find()] == [1]


def test_a_mapping_that_cannot_be_configured_is_named(empty):
    base = own_base()

    class Lost(base):
        __tablename__ = "unkept_lost"
        id: Mapped[int] = mapped_column(primary_key=True)
        others = relationship("Nowhere")

    @dataclass
    class Row:
        id: int | None = None

    class Rows(BaseRepository[Row, int]):
        model = Lost

    class Losts(BaseRepository[Lost, int]): ...

    db = empty(base)
    with Rows(db) as rows:
        rows.add(Row())
    with pytest.raises(MappingError, match="Nowhere"):
        Losts(db).find()
    base.registry.dispose()

"""Parts of aggregates over unusual tables: no key, positions in the key, composite references, JSON."""

from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    InvalidValueError,
    MappingError,
    TransactionAbortedError,
    exists,
    fields,
)
from sqlrepo.sqlalchemy import types
from tests.units.domain import changed, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class BoxRow(Base):
    __tablename__ = "box_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]


def owner(**options):
    return mapped_column(sa.ForeignKey(BoxRow.id, ondelete="CASCADE"), **options)


# an association table without a key, one of them with positions
labels = sa.Table(
    "label_of_box",
    Base.metadata,
    sa.Column("box_id", sa.ForeignKey(BoxRow.id, ondelete="CASCADE"), nullable=False),
    sa.Column("label", sa.String(30), nullable=True),
)
stops = sa.Table(
    "stop_of_box",
    Base.metadata,
    sa.Column("box_id", sa.ForeignKey(BoxRow.id, ondelete="CASCADE"), nullable=False),
    sa.Column("place", sa.String(30), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
)


class LayerRow(Base):  # the position is part of the key
    __tablename__ = "layer_of_box"
    box_id: Mapped[int] = owner(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]


class ItemRow(Base):
    __tablename__ = "item_of_box"
    id: Mapped[UUID] = mapped_column(types.UniqueId(), primary_key=True)
    box_id: Mapped[int] = owner()
    data: Mapped[Any] = mapped_column(sa.JSON, nullable=False)
    qty: Mapped[int]


class RankRow(Base):
    __tablename__ = "rank_of_box"
    __table_args__ = (sa.UniqueConstraint("box_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int] = owner()
    name: Mapped[str]
    position: Mapped[int] = mapped_column(sa.SmallInteger)


class NoteRow(Base):  # does not cascade
    __tablename__ = "note_of_box"
    __table_args__ = (sa.UniqueConstraint("box_id", "text"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int] = mapped_column(sa.ForeignKey(BoxRow.id))
    text: Mapped[str]


class Item(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    data: Any = 0
    qty: int = 1


class Rank(BaseModel):
    id: int | None = None
    name: str


class Box(BaseModel):
    id: int | None = None
    name: str = "box"
    labels: list[str | None] = Field(default=[], alias="boxLabels")
    stops: list[str] = []
    layers: tuple[str, ...] = ()
    items: list[Item] = []
    ranks: list[Rank] = []
    notes: set[str] = set()
    version: int = 1
    model_config = {"populate_by_name": True}


class Boxes(BaseRepository[Box, int]):
    model = BoxRow
    version = "version"
    parts = {
        "labels": HasMany(labels, value="label"),
        "stops": HasMany(stops, value="place", order="position"),
        "layers": HasMany(LayerRow, value="name", order="position"),
        "items": HasMany(ItemRow),
        "ranks": HasMany(RankRow, order="position"),
        "notes": HasMany(NoteRow, value="text"),
    }


class Store(BaseUnitOfWork):
    boxes: Boxes


db = tables_of(Base)


@pytest.fixture
def boxes(db):
    with Store(db) as store:
        yield store.boxes


def test_equal_rows_of_a_table_without_a_key_are_counted(boxes):
    other = boxes.add(Box(labels=["a", "a", None]))
    box = boxes.add(Box(labels=["a", "a", "a", None, None]))
    for wanted in (["a", "a", None], ["a", None], ["a", "b", "a", None], [None, "b"], []):
        box = boxes.update(changed(box, labels=wanted))
        assert boxes.get(box.id) == box
        assert sorted(map(str, box.labels)) == sorted(map(str, wanted))
    assert boxes.get(other.id) == other


@pytest.mark.parametrize("name", ["stops", "layers"])
def test_positions_are_kept_without_a_key_and_as_part_of_it(boxes, name):
    other = boxes.add(Box(**{name: ["x", "y"]}))
    box = boxes.add(Box(**{name: ["a", "b", "c"]}))
    for wanted in ("cab", "zcab", "czb", "bbb", "bab", "", "ab", "ba"):
        given = getattr(boxes.update(changed(boxes.get(box.id), **{name: list(wanted)})), name)
        assert "".join(given) == "".join(getattr(boxes.get(box.id), name)) == wanted
    assert boxes.get(other.id) == other


def test_a_change_between_equal_numbers_of_other_types_is_written(boxes):
    box = boxes.add(Box(items=[Item(data={"a": [1]})]))
    [item] = box.items
    for data in ({"a": [True]}, {"a": [1.0]}, True, 1, False, 0, {"a": {"b": False}}, {"a": {"b": 0}}):
        box = boxes.update(changed(box, items=[changed(item, data=data)]))
        assert repr(boxes.get(box.id).items[0].data) == repr(box.items[0].data) == repr(data)


def test_keys_of_the_application(db):
    with Store(db) as store:
        mine, other = store.boxes.add_many([Box(items=[Item()]), Box(items=[Item()])])
    fresh = Item()
    with Store(db) as store:
        mine = store.boxes.update(changed(mine, items=[*mine.items, fresh]))
        assert {item.id for item in mine.items} >= {fresh.id}
    unit = Store(db)
    unit.__enter__()
    with pytest.raises(InvalidValueError) as caught:
        unit.boxes.update(changed(mine, name="half", items=[*mine.items, other.items[0]]))
    assert caught.value.field == "items[2].id"
    with pytest.raises(TransactionAbortedError):
        unit.__exit__(None, None, None)
    with Store(db) as store:
        assert store.boxes.get_many([mine.id, other.id]) == [mine, other]


def test_many_children_with_keys_of_the_application(boxes):
    box = boxes.add(Box(items=[Item(qty=number) for number in range(1200)]))
    box = boxes.update(changed(box, items=[changed(item, qty=item.qty + 1) for item in box.items[600:]] + [Item()]))
    assert len(box.items) == 601
    assert boxes.get(box.id) == box


def test_positions_at_the_end_of_the_range(boxes):
    box = boxes.add(Box(ranks=[Rank(name=name) for name in "abc"]))
    unit = boxes.unit

    class Ranks(BaseRepository[RankRow, int]):
        model = RankRow

    for numbers in [(32765, 32766, 32767), (-32768, -32767, 32767), (-32768, -32767, -32766)]:
        ranks = Ranks(unit)
        for rank, number in zip(box.ranks, numbers, strict=True):
            ranks.patch(rank.id, {"position": number})
        for index in (0, 1, 3):
            wanted = [*box.ranks]
            wanted.insert(index, Rank(name="new"))
            given = boxes.update(changed(boxes.get(box.id), ranks=wanted))
            assert [one.name for one in given.ranks] == [one.name for one in wanted]
            assert boxes.get(box.id) == given
            given = boxes.update(changed(given, ranks=box.ranks))
            for rank, number in zip(given.ranks, (1, 2, 3), strict=True):
                ranks.patch(rank.id, {"position": 100 + number})
            for rank, number in zip(given.ranks, numbers, strict=True):
                ranks.patch(rank.id, {"position": number})
        assert [one.name for one in boxes.get(box.id).ranks] == ["a", "b", "c"]


def test_delete_where_by_children_deletes_their_owner_too(boxes):
    _, second = boxes.add_many([Box(notes={"go"}), Box(notes={"stay"})])
    assert boxes.delete_where(exists(fields(Box).notes, lambda note: note == "go")) == 1
    assert boxes.find() == [second]


def test_a_set_given_twice_the_same_value_keeps_it_once(boxes):
    box = boxes.patch(boxes.add(Box()).id, {"notes": ["a", "a", "b"]})
    assert box.notes == {"a", "b"}
    assert boxes.get(box.id) == box


# -- composite references


class RoomRow(Base):
    __tablename__ = "room_of_parts"
    house: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]
    chairs: Mapped[list["ChairRow"]] = relationship(order_by="ChairRow.code", cascade="all, delete-orphan")


class ChairRow(Base):  # its key holds one of the owner's columns, so it may belong to another room of the house
    __tablename__ = "chair_of_room"
    __table_args__ = (sa.ForeignKeyConstraint(["house", "room"], [RoomRow.house, RoomRow.number], ondelete="CASCADE"),)
    house: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(primary_key=True)
    room: Mapped[int]
    color: Mapped[str]


@dataclass(frozen=True)
class Chair:
    code: str
    color: str = "red"


@dataclass(frozen=True)
class Room:
    house: int
    number: int
    chairs: list[Chair] = field(default_factory=list)
    version: int = 1


class Rooms(BaseRepository[Room, tuple[int, int]]):
    model = RoomRow
    version = "version"


class House(BaseUnitOfWork):
    rooms: Rooms


def test_many_owners_and_children_of_composite_keys(db):
    with House(db) as house:
        rooms = house.rooms.add_many([Room(1, number, [Chair(f"{number}")]) for number in range(600)])
        assert house.rooms.find(order_by="number") == rooms
        chairs = [Chair(f"x{number:04}") for number in range(600)]
        room = house.rooms.update(replace(rooms[0], chairs=chairs))
        assert room.chairs == chairs
        room = house.rooms.update(replace(room, chairs=[Chair(one.code, "blue") for one in chairs[300:]]))
        assert house.rooms.get((1, 0)) == room
        assert house.rooms.get((1, 1)) == rooms[1]
        assert house.rooms.count(exists(fields(Room).chairs, lambda chair: chair.color == "blue")) == 1


class BlockRow(Base):
    __tablename__ = "block_of_flats"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    flats: Mapped[list["FlatRow"]] = relationship(cascade="all, delete-orphan")


class FlatRow(Base):
    __tablename__ = "flat_of_block"
    block: Mapped[int] = mapped_column(sa.ForeignKey(BlockRow.id, ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    lamps: Mapped[list["LampRow"]] = relationship(cascade="all, delete-orphan")


class LampRow(Base):
    __tablename__ = "lamp_of_flat"
    __table_args__ = (sa.ForeignKeyConstraint(["block", "flat"], [FlatRow.block, FlatRow.number], ondelete="CASCADE"),)
    block: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(primary_key=True)
    flat: Mapped[int]


class Lamp(BaseModel):
    code: str


class Flat(BaseModel):
    number: int
    lamps: list[Lamp] = []


class Block(BaseModel):
    id: int | None = None
    flats: list[Flat] = []
    version: int = 1


class Blocks(BaseRepository[Block, int]):
    model = BlockRow
    version = "version"


def test_many_inner_owners_and_children_of_composite_keys(db):
    flats = [Flat(number=number, lamps=[Lamp(code=f"{number:03}")]) for number in range(300)]
    with Blocks(db) as blocks:
        block = blocks.add(Block(flats=flats))
        moved = [changed(one, lamps=flats[at - 1].lamps) for at, one in enumerate(flats)]
        block = blocks.update(changed(block, flats=moved))
        assert block.flats == moved
        assert blocks.get(block.id) == block


def test_children_of_another_owner_with_a_part_of_the_key_in_common_are_not_stolen(db):
    with House(db) as house:
        mine, other = house.rooms.add_many([Room(1, 1, [Chair("a")]), Room(1, 2, [Chair("b")])])
        house.rooms.add(Room(2, 1, [Chair("c")]))
    with pytest.raises(InvalidValueError) as caught, House(db) as house:
        house.rooms.update(replace(mine, chairs=[Chair("a"), Chair("b", "blue")]))
    assert caught.value.field == "chairs[1].code"
    with House(db) as house:
        assert house.rooms.get((1, 2)) == other
        mine = house.rooms.update(replace(mine, chairs=[Chair("c")]))
        assert house.rooms.get((1, 1)) == mine


# -- what the database computes


class BillRow(Base):
    __tablename__ = "bill_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    sums: Mapped[list["SumRow"]] = relationship(cascade="all, delete-orphan")


class SumRow(Base):
    __tablename__ = "sum_of_bill"
    id: Mapped[int] = mapped_column(primary_key=True)
    bill_id: Mapped[int] = mapped_column(sa.ForeignKey(BillRow.id, ondelete="CASCADE"))
    qty: Mapped[int]
    double: Mapped[int] = mapped_column(sa.Computed("qty * 2", persisted=True))


class Sum(BaseModel):
    id: int | None = None
    qty: int
    double: int | None = None


class Bill(BaseModel):
    id: int | None = None
    version: int = 1
    sums: list[Sum] = []


class Bills(BaseRepository[Bill, int]):
    model = BillRow
    version = "version"


@pytest.mark.parametrize("backend", ["sqlite", "postgresql", "mariadb"], indirect=True)
def test_computed_columns_of_changed_children_are_read_again(db):
    with Bills(db) as bills:
        bill = bills.add(Bill(sums=[Sum(qty=2), Sum(qty=3)]))
        bill = bills.update(changed(bill, sums=[changed(bill.sums[0], qty=4), Sum(qty=5)]))
        assert [(one.qty, one.double) for one in bill.sums] == [(4, 8), (5, 10)]
        assert bills.get(bill.id) == bill


# -- declarations


def refused(match, **members):
    made = type("Refused", (Boxes,), {"parts": {**Boxes.parts, **members}})
    with pytest.raises(MappingError, match=match):
        made.definition()


def test_two_parts_never_share_their_children():
    refused("'labels' and 'stops'", stops=HasMany(labels, value="label"))


class PairRow(Base):
    __tablename__ = "pair_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    left: Mapped[list["SideRow"]] = relationship(
        primaryjoin="and_(PairRow.id == SideRow.pair_id, SideRow.kind == 'left')", cascade="all, delete-orphan"
    )


class SideRow(Base):
    __tablename__ = "side_of_pair"
    id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[int] = mapped_column(sa.ForeignKey(PairRow.id, ondelete="CASCADE"))
    kind: Mapped[str | None]


class Side(BaseModel):
    id: int | None = None
    kind: str | None = None


class Pair(BaseModel):
    id: int | None = None
    version: int = 1
    left: list[Side] = []


def test_a_relationship_with_a_condition_of_its_own_is_refused():
    class Pairs(BaseRepository[Pair, int]):
        model = PairRow
        version = "version"

    with pytest.raises(MappingError, match="primaryjoin"):
        Pairs.definition()

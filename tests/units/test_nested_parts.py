"""Parts of parts: each level is read and written as a whole, for all its owners at once, on every backend."""

import random

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    Embedded,
    HasMany,
    InvalidValueError,
    MappingError,
    StaleEntityError,
    UniqueViolationError,
    exists,
    fields,
    matches,
    not_,
)
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import query_budget
from tests.units.domain import changed, opened, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class ShipmentRow(Base):
    __tablename__ = "shipment_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    crates: Mapped[list["CrateRow"]] = relationship(order_by="CrateRow.position", cascade="all, delete-orphan")


class CrateRow(Base):
    __tablename__ = "crate_of_shipment"
    __table_args__ = (sa.UniqueConstraint("shipment_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    shipment_id: Mapped[int] = mapped_column(sa.ForeignKey(ShipmentRow.id, ondelete="CASCADE"))
    label: Mapped[str]
    position: Mapped[int]
    size_width: Mapped[int | None]
    size_height: Mapped[int | None]
    items: Mapped[list["ItemRow"]] = relationship(order_by="ItemRow.position", cascade="all, delete-orphan")


class ItemRow(Base):
    __tablename__ = "item_of_crate"
    __table_args__ = (sa.UniqueConstraint("crate_id", "position"), sa.UniqueConstraint("crate_id", "sku"))
    id: Mapped[int] = mapped_column(primary_key=True)
    crate_id: Mapped[int] = mapped_column(sa.ForeignKey(CrateRow.id, ondelete="CASCADE"))
    sku: Mapped[str]
    qty: Mapped[int]
    position: Mapped[int]


class StampRow(Base):  # deleted by the library: the foreign key does not cascade
    __tablename__ = "stamp_of_item"
    item_id: Mapped[int] = mapped_column(sa.ForeignKey(ItemRow.id), primary_key=True)
    text: Mapped[str] = mapped_column(primary_key=True)


class Item(BaseModel):
    id: int | None = None
    sku: str
    qty: int = 1
    stamps: frozenset[str] = frozenset()


class Size(BaseModel):
    width: int
    height: int


class Crate(BaseModel):
    id: int | None = None
    label: str
    size: Size | None = None
    items: list[Item] = []


class Shipment(BaseModel):
    id: int | None = None
    name: str = "s"
    crates: list[Crate] = []
    version: int = 1


STAMPS = {"items": HasMany(parts={"stamps": HasMany(StampRow, value="text")})}


class Shipments(BaseRepository[Shipment, int]):
    model = ShipmentRow
    version = "version"
    parts = {"crates": HasMany(parts={**STAMPS, "size": Embedded()})}


class Port(BaseUnitOfWork):
    shipments: Shipments


db = tables_of(Base)
port = opened(Port)


def items(*skus, **values):
    return [Item(sku=sku, **values) for sku in skus]


def a_shipment(**values):
    given = {
        "crates": [
            Crate(label="one", size=Size(width=2, height=3), items=items("a", "b", stamps=frozenset({"x", "y"}))),
            Crate(label="two", items=items("a", stamps=frozenset({"z"}))),
            Crate(label="empty"),
        ]
    }
    return Shipment(**{**given, **values})


def labels(shipment):
    return {
        crate.label: [(item.sku, item.qty, sorted(item.stamps)) for item in crate.items] for crate in shipment.crates
    }


class Crates(BaseRepository[CrateRow, int]): ...


class Items(BaseRepository[ItemRow, int]): ...


class Stamps(BaseRepository[StampRow, tuple[int, str]]): ...


def rows(db):
    """How many rows each table of children holds."""
    return {"crate": Crates(db).count(), "item": Items(db).count(), "stamp": Stamps(db).count()}


def test_an_aggregate_of_three_levels_is_stored_read_and_deleted_whole(db):
    with Port(db) as port:
        first, second = port.shipments.add_many([a_shipment(), a_shipment(crates=[])])
    assert labels(first) == {"one": [("a", 1, ["x", "y"]), ("b", 1, ["x", "y"])], "two": [("a", 1, ["z"])], "empty": []}
    assert first.crates[0].size == Size(width=2, height=3)
    with Port(db) as port:
        assert port.shipments.find(order_by="id") == [first, second]
        assert port.shipments.get(first.id) == first
    assert rows(db) == {"crate": 3, "item": 3, "stamp": 5}
    with Port(db) as port:
        port.shipments.delete(first.id)
    assert rows(db) == {"crate": 0, "item": 0, "stamp": 0}


def test_each_level_is_changed_added_to_moved_and_removed(db):
    with Port(db) as port:
        stored = port.shipments.add(a_shipment())
    one, two, empty = stored.crates
    a, b = one.items
    wanted = [
        changed(empty, items=items("n", stamps=frozenset("n"))),
        Crate(label="new", items=items("m", "o")),
        changed(one, label="1", size=None, items=[b, changed(a, qty=7, stamps=frozenset({"x", "q"}))]),
    ]
    with Port(db) as port:
        written = port.shipments.update(changed(stored, crates=wanted))
    assert labels(written) == {
        "empty": [("n", 1, ["n"])],
        "new": [("m", 1, []), ("o", 1, [])],
        "1": [("b", 1, ["x", "y"]), ("a", 7, ["q", "x"])],
    }
    assert [item.id for item in written.crates[2].items] == [b.id, a.id]
    assert written.version == 2
    with Port(db) as port:
        assert port.shipments.get(stored.id) == written
    assert rows(db) == {"crate": 3, "item": 5, "stamp": 5}
    del two


def test_a_child_moves_to_another_owner_of_its_level_and_keeps_its_key(port):
    stored = port.shipments.add(a_shipment())
    one, two, empty = stored.crates
    moved = one.items[1]
    wanted = [changed(one, items=one.items[:1]), two, changed(empty, items=[moved])]
    written = port.shipments.update(changed(stored, crates=wanted))
    assert written.crates[2].items == [moved]
    assert port.shipments.get(stored.id) == written
    into_a_new_one = Crate(label="new", items=[moved])
    written = port.shipments.update(
        changed(written, crates=[*written.crates[:2], into_a_new_one, changed(empty, items=[])])
    )
    assert [item.id for crate in written.crates for item in crate.items].count(moved.id) == 1
    assert written.crates[2].items == [moved]
    assert port.shipments.get(stored.id) == written


class Piece(BaseModel):
    id: int | None = None
    sku: str
    qty: int = 1


class Box(BaseModel):
    id: int | None = None
    label: str
    items: list[Piece] = []


class Load(BaseModel):  # the tables whose foreign keys cascade
    id: int | None = None
    name: str = "l"
    crates: list[Box] = []
    version: int = 1


class Loads(BaseRepository[Load, int]):
    model = ShipmentRow
    version = "version"


def edited(root, new_crate, new_item):
    """Leave out, change and add on both levels."""
    crates = []
    for crate in root.crates[1:]:
        kept = [changed(crate.items[1], qty=9), crate.items[0], new_item]
        crates.append(changed(crate, label=crate.label + "!", items=kept))
    return changed(root, crates=[*crates, new_crate])


def test_statements_do_not_grow_with_owners(db):
    with Loads(db) as loads:
        boxes = [Box(label=f"b{n}", items=[Piece(sku=sku) for sku in "abc"]) for n in range(150)]
        with query_budget(3) as insert:
            stored = loads.add(Load(crates=boxes))
        loads.add_many([Load(crates=boxes[:2]) for _ in range(20)])
    with Loads(db) as loads:
        with query_budget(3) as read:
            found = loads.find(order_by="id")
        assert len(found) == 21
        with query_budget(2 + 4 + 4) as update:
            written = loads.update(edited(stored, Box(label="new", items=[Piece(sku="q")]), Piece(sku="n")))
        assert [piece.sku for piece in written.crates[0].items] == ["b", "a", "n"]
        assert loads.get(stored.id) == written
        with query_budget(1) as delete:
            loads.delete(stored.id)
    assert (insert.count, read.count, update.count, delete.count) == (3, 3, 10, 1)


def test_deleting_without_a_cascade_takes_statements_from_the_bottom_up(db):
    with Port(db) as port:
        stored = port.shipments.add(a_shipment(crates=[Crate(label=f"{n}", items=items(*"abc")) for n in range(5)]))
        new = Crate(label="new", items=items("q", stamps=frozenset("s")))
        # For crates that go: their items, which are read, and those' stamps. For items that go: their stamps.
        with query_budget(2 + 4 + 4 + 2 + 3 + 1):
            port.shipments.update(edited(stored, new, Item(sku="n")))
        with query_budget(1 + 2 + 3 + 1):
            port.shipments.delete(stored.id)
    assert rows(db) == {"crate": 0, "item": 0, "stamp": 0}


@pytest.mark.parametrize("joined", [False, True])
def test_an_engine_that_does_not_enforce_foreign_keys_leaves_no_child_behind(tmp_path, joined):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/unenforced.db")
    Base.metadata.create_all(engine)
    counts = sa.select(*(sa.select(sa.func.count(row.id)).scalar_subquery() for row in (CrateRow, ItemRow)))
    boxes = [Box(label="one", items=[Piece(sku="a"), Piece(sku="b")]), Box(label="two", items=[Piece(sku="a")])]
    for delete, left in (
        (lambda loads, one: loads.delete(one.id), (1, 1)),
        (lambda loads, one: loads.remove(one), (1, 1)),
        (lambda loads, one: loads.delete_where(id=one.id), (1, 1)),
        (lambda loads, one: loads.update(changed(one, crates=[])), (1, 1)),
        (lambda loads, one: loads.patch(one.id, {"crates": [changed(one.crates[0], items=[])]}), (2, 1)),
    ):
        with Session(engine) as session:
            source = session if joined else Database(engine)
            with Loads(source) as loads:
                one, _ = loads.add_many([Load(crates=boxes), Load(crates=boxes[1:])])
            with Loads(source) as loads:
                delete(loads, one)
            assert session.execute(counts).one() == left
            with Loads(source) as loads:
                loads.delete_where(everything=True)
            assert session.execute(counts).one() == (0, 0)
            session.commit()
    engine.dispose()


def test_a_change_of_the_second_level_counts_and_compares_the_roots_version(db):
    with Port(db) as port:
        stored = port.shipments.add(a_shipment())
    one = stored.crates[0]
    for changes in ({"items": one.items[:1]}, {"items": [changed(one.items[0], stamps=frozenset())]}):
        wanted = changed(stored, crates=[changed(one, **changes), *stored.crates[1:]])
        with Port(db) as port:
            updated = port.shipments.update(wanted)
        assert updated.version == stored.version + 1
        with pytest.raises(StaleEntityError), Port(db) as port:
            port.shipments.update(changed(stored, name="stale"))
        with Port(db) as port:
            assert port.shipments.get(stored.id) == updated
        stored, one = updated, updated.crates[0]


def test_errors_name_the_place(db):
    with Port(db) as port:
        stored, other = port.shipments.add_many([a_shipment(), a_shipment()])
    one, two, empty = stored.crates
    for crates, place in [
        ([one, changed(two, items=items("s" * 31))], "crates[1].items[0].sku"),
        ([changed(one, items=items("a", stamps=frozenset({"t" * 31})))], "crates[0].items[0].stamps[0]"),
        ([changed(one, items=[one.items[0]] * 2)], "crates[0].items[1].id"),
        ([one, two, changed(empty, items=[one.items[0]])], "crates[2].items[0].id"),  # twice in one level
        ([changed(one, items=other.crates[0].items)], "crates[0].items[0].id"),  # stolen
        ([two, changed(empty, items=[one.items[0]])], "crates[1].items[0].id"),  # of a crate that goes
        ([changed(one, size=Size(width=1, height=2**40))], "crates[0].size.height"),
    ]:
        with pytest.raises(InvalidValueError) as caught, Port(db) as port:
            port.shipments.update(changed(stored, crates=crates))
        assert caught.value.field == place
    with pytest.raises(UniqueViolationError) as violated, Port(db) as port:
        port.shipments.update(changed(stored, crates=[changed(one, items=[*one.items, Item(sku="a")])]))
    assert violated.value.fields in {("crates.items.crate_id", "crates.items.sku"), ()}
    with Port(db) as port:
        assert port.shipments.find(order_by="id") == [stored, other]


def test_filters_reach_every_level(port):
    stored = port.shipments.add_many([a_shipment(), a_shipment(crates=[Crate(label="bare")]), a_shipment(crates=[])])
    s = fields(Shipment)
    for criterion, wanted in [
        (exists(s.crates, lambda crate: exists(crate.items, lambda item: exists(item.stamps, lambda t: t == "z"))), 1),
        (exists(s.crates, lambda crate: not_(exists(crate.items))), 2),
        (exists(s.crates, lambda crate: crate.size.width == 2), 1),
        (exists(s.crates, lambda crate: (crate.label == "two") & exists(crate.items, lambda i: i.sku == "b")), 0),
    ]:
        assert port.shipments.count(criterion) == wanted
        assert [matches(criterion, one) for one in stored].count(True) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_random_edits_end_as_given(db, seed):
    dice = random.Random(seed)  # no secret
    with Port(db) as port:
        stored = port.shipments.add(a_shipment())
    for step in range(12):
        crates = [crate for crate in stored.crates if dice.random() < 0.8]
        loose = [item for crate in crates for item in crate.items if dice.random() < 0.8]
        dice.shuffle(loose)
        dice.shuffle(crates)
        crates += [Crate(label=f"new {step}")] if dice.random() < 0.5 or not crates else []
        wanted = [changed(crate, items=[]) for crate in crates]
        for number, item in enumerate([*loose, *items(*(f"i{step}-{n}" for n in range(dice.randrange(3))))]):
            edited = changed(item, sku=f"{step}-{number}", stamps=frozenset(dice.sample("abcd", dice.randrange(3))))
            dice.choice(wanted).items.append(edited)
        with Port(db) as port:
            written = port.shipments.update(changed(stored, crates=wanted))
        with Port(db) as port:
            stored = port.shipments.get(written.id)
        assert stored == written
        assert labels(stored) == labels(Shipment(crates=wanted))
        assert {item.id for item in loose} <= {item.id for crate in stored.crates for item in crate.items}
        assert rows(db)["item"] == sum(len(crate.items) for crate in wanted)


class NodeRow(Base):
    __tablename__ = "node_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    leaves: Mapped[list["LeafRow"]] = relationship(cascade="all, delete-orphan")


class LeafRow(Base):
    __tablename__ = "leaf_of_node"
    id: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[int] = mapped_column(sa.ForeignKey(NodeRow.id, ondelete="CASCADE"))


class Leaf(BaseModel):
    id: int | None = None
    nodes: list["Node"] = []


class Node(BaseModel):
    id: int | None = None
    leaves: list[Leaf] = []
    version: int = 1


def test_a_cycle_of_parts_is_refused_by_name():
    class Nodes(BaseRepository[Node, int]):
        model = NodeRow
        version = "version"
        parts = {"leaves": HasMany(parts={"nodes": HasMany(NodeRow)})}

    with pytest.raises(MappingError, match=r"part 'leaves.nodes' is kept in table node_of_parts.*cycle"):
        Nodes.definition()

"""Children behind an association table, whose rows are the owner's too, on every backend."""

from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    InvalidValueError,
    MappingError,
    exists,
    fields,
    matches,
    not_,
)
from sqlrepo.testing import query_budget
from tests.units.domain import changed, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class StockRow(Base):
    __tablename__ = "stock_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class LotRow(Base):
    __tablename__ = "lot_of_stock"
    id: Mapped[int] = mapped_column(primary_key=True)
    stock_id: Mapped[int] = mapped_column(sa.ForeignKey(StockRow.id, ondelete="CASCADE"))
    name: Mapped[str]


class OrderLineRow(Base):
    __tablename__ = "order_line_of_lot"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str]
    qty: Mapped[int]


allocations = sa.Table(
    "allocation_of_lot",
    Base.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("line_id", sa.ForeignKey(OrderLineRow.id), nullable=False),
    sa.Column("lot_id", sa.ForeignKey(LotRow.id), nullable=False),
)


class OrderLine(BaseModel):
    id: int | None = None
    sku: str
    qty: int = 1


class Lot(BaseModel):
    id: int | None = None
    name: str
    allocations: list[OrderLine] = []


class Stock(BaseModel):
    id: int | None = None
    lots: list[Lot] = []
    version: int = 1


class Stocks(BaseRepository[Stock, int]):
    model = StockRow
    version = "version"
    parts = {"lots": HasMany(LotRow, parts={"allocations": HasMany(OrderLineRow, through=allocations)})}


class Lines(BaseRepository[OrderLineRow, int]): ...


@dataclass
class Allocation:
    line_id: int
    lot_id: int
    id: int | None = None


class Allocations(BaseRepository[Allocation, int]):
    model = allocations


class Depot(BaseUnitOfWork):
    stocks: Stocks


db = tables_of(Base)


def order_lines(*skus):
    return [OrderLine(sku=sku) for sku in skus]


def a_stock():
    return Stock(
        lots=[Lot(name="one", allocations=order_lines("a", "b")), Lot(name="two", allocations=order_lines("c"))]
    )


def rows(db):
    return Lines(db).count(), Allocations(db).count()


def test_both_tables_are_written_read_and_deleted(db):
    with Depot(db) as depot:
        with query_budget(1 + 1 + 2) as insert:
            stored = depot.stocks.add(a_stock())
        other = depot.stocks.add(a_stock())
    assert insert.count == 4
    assert [[line.sku for line in lot.allocations] for lot in stored.lots] == [["a", "b"], ["c"]]
    with Depot(db) as depot, query_budget(1 + 1 + 2):
        assert depot.stocks.find(order_by="id") == [stored, other]
    assert rows(db) == (6, 6)
    one, two = stored.lots
    with Depot(db) as depot:
        lines = [changed(one.allocations[1], qty=5), *order_lines("n")]
        with query_budget(2 + 1 + 2 + 2 + 1 + 2) as update:  # root; lots; read, delete, update and insert lines
            written = depot.stocks.update(changed(stored, lots=[changed(one, allocations=lines), two]))
        assert [(line.sku, line.qty) for line in written.lots[0].allocations] == [("b", 5), ("n", 1)]
        assert depot.stocks.get(stored.id) == written
        assert written.version == 2
    assert update.count == 10
    assert rows(db) == (6, 6)
    with Depot(db) as depot:
        depot.stocks.update(changed(written, lots=written.lots[1:]))
    assert rows(db) == (4, 4)
    with Depot(db) as depot:
        depot.stocks.delete_where(fields(Stock).id == other.id)
        depot.stocks.delete(stored.id)
    assert rows(db) == (0, 0)


def test_a_line_moves_to_another_lot_and_keeps_its_key(db):
    with Depot(db) as depot:
        stored = depot.stocks.add(a_stock())
    one, two = stored.lots
    moved = one.allocations[0]
    lots = [changed(one, allocations=one.allocations[1:]), changed(two, allocations=[moved, *two.allocations])]
    with Depot(db) as depot:
        written = depot.stocks.update(changed(stored, lots=lots))
    assert written.lots == lots
    with Depot(db) as depot:
        assert depot.stocks.get(stored.id) == written
    assert rows(db) == (3, 3)


def test_lines_of_others_are_not_stolen(db):
    with Depot(db) as depot:
        mine, other = depot.stocks.add_many([a_stock(), a_stock()])
    with Lines(db) as lines:
        nobodys = lines.add(OrderLineRow(sku="free", qty=1)).id
    for stolen in (other.lots[0].allocations[0], OrderLine(id=nobodys, sku="free")):
        lots = [mine.lots[0], changed(mine.lots[1], allocations=[stolen])]
        with pytest.raises(InvalidValueError) as caught, Depot(db) as depot:
            depot.stocks.update(changed(mine, lots=lots))
        assert caught.value.field == "lots[1].allocations[0].id"
    with Depot(db) as depot:
        assert depot.stocks.find(order_by="id") == [mine, other]


def test_filters_look_behind_the_table(db):
    with Depot(db) as depot:
        stocks = depot.stocks.add_many([a_stock(), Stock(lots=[Lot(name="bare")]), Stock()])
        s = fields(Stock)
        for criterion, wanted in [
            (exists(s.lots, lambda lot: exists(lot.allocations, lambda line: line.sku == "c")), 1),
            (exists(s.lots, lambda lot: exists(lot.allocations, lambda line: line.sku == "x")), 0),
            (exists(s.lots, lambda lot: not_(exists(lot.allocations))), 1),
        ]:
            assert depot.stocks.count(criterion) == wanted
            assert [matches(criterion, stock) for stock in stocks].count(True) == wanted


@dataclass(frozen=True)
class Mark:  # without a key: a value
    sku: str
    qty: int


@dataclass(frozen=True)
class Shelf:
    name: str
    allocations: frozenset[Mark] = frozenset()
    id: int | None = None


class Shelves(BaseRepository[Shelf, int]):
    model = sa.Table(
        "shelf_of_parts",
        Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(30), nullable=False),
    )
    version = None
    parts = {
        "allocations": HasMany(
            OrderLineRow,
            through=sa.Table(
                "mark_of_shelf",
                Base.metadata,
                sa.Column("shelf_id", sa.ForeignKey("shelf_of_parts.id", ondelete="CASCADE"), primary_key=True),
                sa.Column("line_id", sa.ForeignKey(OrderLineRow.id, ondelete="CASCADE"), primary_key=True),
            ),
        )
    }


def test_children_without_a_key_are_values(db):
    with Shelves(db) as shelves:
        shelf = shelves.add(Shelf("s", frozenset({Mark("a", 1), Mark("b", 2)})))
        assert shelf.allocations == {Mark("a", 1), Mark("b", 2)}
        for marks in ({Mark("b", 2), Mark("c", 3)}, {Mark("b", 3)}, set()):
            wanted = Shelf("s", frozenset(marks), shelf.id)
            assert shelves.update(wanted) == wanted == shelves.get(shelf.id)
            assert Lines(shelves.unit).count() == len(marks)


class SeatRow(Base):
    __tablename__ = "seat_of_through"
    id: Mapped[int] = mapped_column(primary_key=True)
    hall_id: Mapped[int] = mapped_column(sa.ForeignKey("hall_of_through.id"))


class HallRow(Base):  # a relationship with `secondary` says it
    __tablename__ = "hall_of_through"
    id: Mapped[int] = mapped_column(primary_key=True)
    lines: Mapped[list[OrderLineRow]] = relationship(
        secondary=lambda: hall_lines, cascade="all, delete-orphan", single_parent=True, order_by=OrderLineRow.sku.desc()
    )


hall_lines = sa.Table(
    "line_of_hall",
    Base.metadata,
    sa.Column("hall_id", sa.ForeignKey(HallRow.id), primary_key=True),
    sa.Column("line_id", sa.ForeignKey(OrderLineRow.id), primary_key=True),
)


class Hall(BaseModel):
    id: int | None = None
    lines: list[OrderLine] = []


class Halls(BaseRepository[Hall, int]):
    model = HallRow
    version = None


def test_a_relationship_with_secondary_says_it_and_its_order_is_kept(db):
    with Halls(db) as halls:
        hall = halls.add(Hall(lines=order_lines("a", "c", "b")))
        assert [line.sku for line in hall.lines] == ["c", "b", "a"]
        assert halls.get(hall.id) == hall
        halls.remove(hall)
    assert Lines(db).count() == 0


def test_what_does_not_fit_is_refused():
    class Refused(Halls):
        parts = {"lines": HasMany(OrderLineRow, through=SeatRow)}

    with pytest.raises(MappingError, match="seat_of_through needs one foreign key to order_line_of_lot"):
        Refused.definition()

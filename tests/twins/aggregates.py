"""Units of work whose entities have parts: Northwind's orders, Chinook's albums, and plans with keys of their own."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, Embedded, HasMany, HasOne, QueryObject
from sqlrepo.sqlalchemy.types import Text


class Base(DeclarativeBase): ...


# -- orders: lines in an order of their own, plain values, keys of other roots, and value objects; a version


class Customer(BaseModel):
    id: int | None = None
    name: str
    country: str | None = None


class Label(BaseModel):
    id: int | None = None
    name: str


class Address(BaseModel):
    street: str | None = None
    city: str


class Line(BaseModel):
    id: int | None = None
    sku: str
    quantity: int = 1
    price: Decimal | None = None


class Order(BaseModel):
    id: int | None = None
    number: int
    customer_id: int | None = None
    status: str = "new"
    ship_to: Address
    bill_to: Address | None = None
    lines: list[Line] = []
    tags: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    label_ids: frozenset[int] = frozenset()
    version: int = 1


class CustomerRow(Base):
    __tablename__ = "nw_customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text(10))
    country: Mapped[str | None] = mapped_column(Text(10))


class LabelRow(Base):
    __tablename__ = "nw_label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text(10), unique=True)


class OrderRow(Base):
    __tablename__ = "nw_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(unique=True)
    customer_id: Mapped[int | None] = mapped_column(sa.ForeignKey("nw_customer.id", name="fk_nw_customer"))
    status: Mapped[str] = mapped_column(Text(10))
    ship_to_street: Mapped[str | None] = mapped_column(Text(10))
    ship_to_city: Mapped[str] = mapped_column(Text(10))
    billing_street: Mapped[str | None] = mapped_column(Text(10))
    billing_city: Mapped[str | None] = mapped_column(Text(10))
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(order_by="LineRow.position", cascade="all, delete-orphan")


class LineRow(Base):
    __tablename__ = "nw_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("nw_order.id", name="fk_nw_line", ondelete="CASCADE"))
    sku: Mapped[str] = mapped_column(Text(10))
    quantity: Mapped[int] = mapped_column()
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    position: Mapped[int] = mapped_column()
    __table_args__ = (
        sa.UniqueConstraint("order_id", "position", name="uq_nw_position"),
        sa.UniqueConstraint("order_id", "sku", name="uq_nw_sku"),
        sa.CheckConstraint(quantity > -1, name="ck_nw_quantity"),
    )


class TagRow(Base):
    __tablename__ = "nw_tag"
    order_id: Mapped[int] = mapped_column(
        sa.ForeignKey("nw_order.id", name="fk_nw_tag", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(Text(10), primary_key=True)


class NoteRow(Base):  # deleted by the library
    __tablename__ = "nw_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey("nw_order.id", name="fk_nw_note"))
    text: Mapped[str] = mapped_column(Text(10))
    place: Mapped[int]


order_labels = sa.Table(
    "nw_order_label",
    Base.metadata,
    sa.Column("order_id", sa.ForeignKey("nw_order.id", name="fk_nw_labelled", ondelete="CASCADE"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey("nw_label.id", name="fk_nw_label"), primary_key=True),
)


class OrderQuery(QueryObject[Order]):
    lines__sku_startswith: str | None = None
    lines__quantity_ge: int | None = None
    lines__price_is_null: bool | None = None
    tags__eq: str | None = None
    notes__in: list[str] | None = None
    ship_to__city: str | None = None
    bill_to__street_contains: str | None = None
    order_by: Literal["ship_to__city", "-bill_to__city,number", "status", "-id"] = "-id"
    limit: int = 3


class Customers(BaseRepository[Customer, int]):
    model = CustomerRow


class Labels(BaseRepository[Label, int]):
    model = LabelRow


class Orders(BaseRepository[Order, int]):
    model = OrderRow
    version = "version"
    parts = {
        "tags": HasMany(TagRow, value="name"),
        "notes": HasMany(NoteRow, value="text", order="place"),
        "label_ids": HasMany(order_labels, value="label_id"),
        "bill_to": Embedded("billing_"),
    }


class Northwind(BaseUnitOfWork):
    customers: Customers
    labels: Labels
    orders: Orders


# -- albums and their tracks, which come in the order of their keys; no version


@dataclass
class Artist:
    name: str
    id: int | None = None


@dataclass
class Track:
    name: str
    milliseconds: int = 0
    composer: str | None = None
    price: Decimal = Decimal("0.99")
    id: int | None = None
    album_id: int | None = None


@dataclass
class Album:
    title: str
    artist_id: int
    id: int | None = None
    tracks: tuple[Track, ...] = ()


class ArtistRow(Base):
    __tablename__ = "ch_artist"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text(10), unique=True)


class AlbumRow(Base):
    __tablename__ = "ch_album"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(Text(10))
    artist_id: Mapped[int] = mapped_column(sa.ForeignKey("ch_artist.id", name="fk_ch_artist", ondelete="CASCADE"))


class TrackRow(Base):
    __tablename__ = "ch_track"
    id: Mapped[int] = mapped_column(primary_key=True)
    album_id: Mapped[int] = mapped_column(sa.ForeignKey("ch_album.id", name="fk_ch_album", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text(10))
    milliseconds: Mapped[int]
    composer: Mapped[str | None] = mapped_column(Text(10))
    price: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))


class AlbumQuery(QueryObject[Album]):
    title_contains: str | None = None
    tracks__composer: str | None = None
    tracks__milliseconds_gt: int | None = None
    order_by: Literal["title", "-artist_id,title"] = "title"
    limit: int = 2


class Artists(BaseRepository[Artist, int]):
    model = ArtistRow


class Albums(BaseRepository[Album, int]):
    model = AlbumRow
    version = None
    parts = {"tracks": HasMany(TrackRow)}


class Chinook(BaseUnitOfWork):
    artists: Artists
    albums: Albums


# -- plans: keys of the caller's, for the plan and its stages; a set of entities


@dataclass(frozen=True)
class Stage:
    code: str
    days: int | None = None


@dataclass(frozen=True)
class Tool:
    name: str
    owner: str | None = None


@dataclass
class Plan:
    code: str
    title: str = ""
    stages: tuple[Stage, ...] = ()
    tools: frozenset[Tool] = frozenset()
    version: int | None = None


class PlanRow(Base):
    __tablename__ = "pl_plan"
    code: Mapped[str] = mapped_column(Text(10), primary_key=True)
    title: Mapped[str] = mapped_column(Text(10))
    version: Mapped[int]


class StageRow(Base):
    __tablename__ = "pl_stage"
    plan_code: Mapped[str] = mapped_column(
        sa.ForeignKey("pl_plan.code", name="fk_pl_stage", ondelete="CASCADE"), primary_key=True
    )
    code: Mapped[str] = mapped_column(Text(10), primary_key=True)
    days: Mapped[int | None]
    place: Mapped[int] = mapped_column(sa.SmallInteger)


class ToolRow(Base):  # whose key nobody else may have
    __tablename__ = "pl_tool"
    name: Mapped[str] = mapped_column(Text(10), primary_key=True)
    plan_code: Mapped[str] = mapped_column(sa.ForeignKey("pl_plan.code", name="fk_pl_tool", ondelete="CASCADE"))
    owner: Mapped[str | None] = mapped_column(Text(10))


class PlanQuery(QueryObject[Plan]):
    title: str | None = None
    stages__days_le: int | None = None
    tools__owner_is_null: bool | None = None
    order_by: Literal["title", "-code"] = "-code"
    limit: int | None = None


class Plans(BaseRepository[Plan, str]):
    model = PlanRow
    version = "version"
    parts = {"stages": HasMany(StageRow, order="place"), "tools": HasMany(ToolRow)}


class Works(BaseUnitOfWork):
    plans: Plans


# -- products, their batches and what is allocated of them (Cosmic Python), behind an association; a single child


@dataclass
class OrderLine:
    ref: str
    quantity: int | None = None
    id: int | None = None


@dataclass
class Batch:
    reference: str
    bought: int = 1
    allocations: list[OrderLine] = field(default_factory=list)
    marks: frozenset[str] = frozenset()
    id: int | None = None


@dataclass
class Supplier:
    name: str
    country: str | None = None


@dataclass
class Product:
    sku: str
    batches: list[Batch] = field(default_factory=list)
    supplier: Supplier | None = None
    version: int = 1


class ProductRow(Base):
    __tablename__ = "cp_product"
    sku: Mapped[str] = mapped_column(Text(10), primary_key=True)
    version: Mapped[int]


class BatchRow(Base):
    __tablename__ = "cp_batch"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(sa.ForeignKey("cp_product.sku", name="fk_cp_batch", ondelete="CASCADE"))
    reference: Mapped[str] = mapped_column(Text(10))
    bought: Mapped[int]
    place: Mapped[int]


class OrderLineRow(Base):
    __tablename__ = "cp_order_line"
    id: Mapped[int] = mapped_column(primary_key=True)
    ref: Mapped[str] = mapped_column(Text(10))
    quantity: Mapped[int | None]


allocations = sa.Table(
    "cp_allocation",
    Base.metadata,
    sa.Column("batch_id", sa.ForeignKey("cp_batch.id", name="fk_cp_allocated"), primary_key=True),
    sa.Column("line_id", sa.ForeignKey("cp_order_line.id", name="fk_cp_allocation"), primary_key=True),
)


class MarkRow(Base):
    __tablename__ = "cp_mark"
    batch_id: Mapped[int] = mapped_column(
        sa.ForeignKey("cp_batch.id", name="fk_cp_mark", ondelete="CASCADE"), primary_key=True
    )
    text: Mapped[str] = mapped_column(Text(10), primary_key=True)


class SupplierRow(Base):
    __tablename__ = "cp_supplier"
    sku: Mapped[str] = mapped_column(
        sa.ForeignKey("cp_product.sku", name="fk_cp_supplier", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(Text(10))
    country: Mapped[str | None] = mapped_column(Text(10))


class ProductQuery(QueryObject[Product]):
    batches__reference_startswith: str | None = None
    batches__bought_ge: int | None = None
    limit: int = 2


class Products(BaseRepository[Product, str]):
    model = ProductRow
    version = "version"
    parts = {
        "batches": HasMany(
            BatchRow,
            order="place",
            parts={
                "allocations": HasMany(OrderLineRow, through=allocations),
                "marks": HasMany(MarkRow, value="text"),
            },
        ),
        "supplier": HasOne(SupplierRow),
    }


class Warehouse(BaseUnitOfWork):
    products: Products

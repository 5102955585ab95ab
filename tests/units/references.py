"""Tables that refer to each other in every way, and the units that keep them."""

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(20)}


class CustomerRow(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column("customer_code", unique=True)


class OrderRow(Base):
    """Refers without saying what happens; column, attribute and field have three names."""

    __tablename__ = "shop_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer: Mapped[int] = mapped_column("customer_id", sa.ForeignKey("customer.id", name="order_customer"))


class LineRow(Base):
    """A key of two columns, one of which refers."""

    __tablename__ = "line"
    order_id: Mapped[int] = mapped_column(
        sa.ForeignKey("shop_order.id", name="line_order", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    amount: Mapped[int] = mapped_column(default=1)


class RemarkRow(Base):
    """Refers to two columns at once, which may be NULL."""

    __tablename__ = "remark"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["order_id", "line"], ["line.order_id", "line.number"], name="remark_line", ondelete="SET NULL"
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int | None]
    line: Mapped[int | None]
    version: Mapped[int] = mapped_column(default=1)
    __mapper_args__ = {"version_id_col": version}


class BadgeRow(Base):
    """Refers to a unique column that is no key, and follows its changes."""

    __tablename__ = "badge"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(
        sa.ForeignKey("customer.customer_code", name="badge_code", ondelete="CASCADE", onupdate="CASCADE")
    )


class SealRow(Base):
    __tablename__ = "seal"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(
        sa.ForeignKey("customer.customer_code", name="seal_code", ondelete="RESTRICT", onupdate="RESTRICT")
    )


class StampRow(Base):
    __tablename__ = "stamp"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(
        sa.ForeignKey("customer.customer_code", name="stamp_code", ondelete="SET NULL", onupdate="SET NULL")
    )


class WorkerRow(Base):
    __tablename__ = "worker"
    id: Mapped[int] = mapped_column(primary_key=True)
    boss: Mapped[int | None] = mapped_column(sa.ForeignKey("worker.id", name="worker_boss"))


class FolderRow(Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    within: Mapped[int | None] = mapped_column(sa.ForeignKey("folder.id", name="folder_within", ondelete="CASCADE"))


class Customer(BaseModel):
    id: int | None = None
    code: str | None = None


class Order(BaseModel):
    id: int | None = None
    customer: int


class Line(BaseModel):
    order_id: int
    number: int
    amount: int = 1


class Remark(BaseModel):
    id: int | None = None
    order_id: int | None = None
    line: int | None = None
    version: int | None = None


class Badge(BaseModel):
    id: int | None = None
    code: str | None = None


class Seal(Badge): ...


class Stamp(Badge): ...


class Worker(BaseModel):
    id: int | None = None
    boss: int | None = None


class Folder(BaseModel):
    id: int | None = None
    within: int | None = None


class Customers(BaseRepository[Customer, int]):
    model = CustomerRow


class Orders(BaseRepository[Order, int]):
    model = OrderRow
    columns = {"customer": "buyer"}


class Lines(BaseRepository[Line, tuple[int, int]]):
    model = LineRow


class Remarks(BaseRepository[Remark, int]):
    model = RemarkRow


class Badges(BaseRepository[Badge, int]):
    model = BadgeRow


class Seals(BaseRepository[Seal, int]):
    model = SealRow


class Stamps(BaseRepository[Stamp, int]):
    model = StampRow


class Workers(BaseRepository[Worker, int]):
    model = WorkerRow


class Folders(BaseRepository[Folder, int]):
    model = FolderRow


class Shop(BaseUnitOfWork):
    customers: Customers
    orders: Orders
    lines: Lines
    remarks: Remarks
    badges: Badges
    seals: Seals
    stamps: Stamps
    workers: Workers
    folders: Folders


def everything(shop):
    names = ("customers", "orders", "lines", "remarks", "badges", "seals", "stamps", "workers", "folders")
    return {name: getattr(shop, name).find() for name in names}

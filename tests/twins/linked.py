"""Units of work whose tables refer to each other: orders, their lines and customers; a tree of folders."""

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryObject
from sqlrepo.sqlalchemy.types import Text


class Base(DeclarativeBase): ...


class Customer(BaseModel):
    id: int | None = None
    name: str


class Order(BaseModel):
    id: int | None = None
    customer_id: int
    referrer_id: int | None = None
    note: str = ""


class Line(BaseModel):
    order_id: int
    number: int
    product: str
    quantity: int = 1


class Folder(BaseModel):
    id: int | None = None
    parent_id: int | None = None
    name: str


class CustomerRow(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text(10), unique=True)
    orders: Mapped[list["OrderRow"]] = relationship(foreign_keys="OrderRow.customer_id", viewonly=True)


class OrderRow(Base):
    __tablename__ = "customer_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customer.id", name="fk_order_customer"))
    referrer_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("customer.id", name="fk_order_referrer", ondelete="SET NULL")
    )
    note: Mapped[str] = mapped_column(Text(10))
    lines: Mapped[list["LineRow"]] = relationship(order_by="LineRow.number", viewonly=True)


class LineRow(Base):
    __tablename__ = "order_line"
    order_id: Mapped[int] = mapped_column(
        sa.ForeignKey("customer_order.id", name="fk_line_order", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    product: Mapped[str] = mapped_column(Text(10))
    quantity: Mapped[int] = mapped_column()
    __table_args__ = (sa.CheckConstraint(quantity > 0, name="ck_line_quantity"),)


class FolderRow(Base):
    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("folder.id", name="fk_folder_parent", ondelete="CASCADE")
    )
    name: Mapped[str] = mapped_column(Text(10))


class OrderQuery(QueryObject[Order]):
    customer_id: int | None = None
    note_contains: str | None = None
    limit: int = 3


class Customers(BaseRepository[Customer, int]):
    model = CustomerRow


class Orders(BaseRepository[Order, int]):
    model = OrderRow


class Lines(BaseRepository[Line, tuple[int, int]]):
    model = LineRow


class Folders(BaseRepository[Folder, int]):
    model = FolderRow


class Sales(BaseUnitOfWork):
    customers: Customers
    orders: Orders
    lines: Lines


class Tree(BaseUnitOfWork):
    folders: Folders

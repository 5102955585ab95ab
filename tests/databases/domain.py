"""Tables with every sort of constraint, named and not, and what is kept in them."""

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, fields
from sqlrepo.sqlalchemy import SQLAlchemyUnitOfWork
from sqlrepo.sqlalchemy.types import Text


class Base(DeclarativeBase): ...


class Owner(BaseModel):
    id: int | None = None
    name: str


class OwnerRow(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column("full name", sa.String(20), unique=True)


class Thing(BaseModel):
    id: int | None = None
    code: str
    owner: int | None = None
    size: int = 1
    weight: int = 1
    first: int | None = None
    second: int | None = None
    note: str | None = None


class ThingRow(Base):
    __tablename__ = "thing"
    __table_args__ = (
        sa.UniqueConstraint("first", "second"),
        sa.CheckConstraint("size > 0", name="size_is_positive"),
        sa.CheckConstraint("weight > 0"),
        sa.Index("ux_code", "code", unique=True),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(Text(20))
    owner: Mapped[int | None] = mapped_column("owner_id", sa.ForeignKey("owner.id", name="fk_owner"))
    size: Mapped[int]
    weight: Mapped[int]
    first: Mapped[int | None]
    second: Mapped[int | None]
    note: Mapped[str | None] = mapped_column(sa.String(20))


class Owners(BaseRepository[Owner, int]):
    model = OwnerRow


class Things(BaseRepository[Thing, int]):
    model = ThingRow


class Attic(SQLAlchemyUnitOfWork):
    owners: Owners
    things: Things


thing = fields(Thing)

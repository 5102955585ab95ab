"""What the tests of the web edge keep: things with a key and a version; dogs, whose owner COMMIT looks for."""

from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, QueryObject


class Thing(BaseModel):
    id: int | None = None
    key: str
    size: int = 0
    secret: str = "hidden"
    version: int = 1


class Owner(BaseModel):
    id: int | None = None
    name: str


class Dog(BaseModel):
    id: int | None = None
    name: str
    legs: int | None = 4
    owner_id: int | None = None


class ThingQuery(QueryObject[Thing]):
    key_contains: str | None = None
    size_in: list[int] | None = None
    size_ge: int | None = None
    order_by: Literal["key", "-key", "size", "-size,key"] = "key"
    limit: int = Field(default=3, ge=1, le=100, description="how many")
    offset: int = Field(default=0, ge=0)


class Base(DeclarativeBase): ...


class ThingRow(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(20), unique=True)
    size: Mapped[int]
    secret: Mapped[str] = mapped_column(sa.String(50))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012  # as SQLAlchemy has it


class OwnerRow(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))


class DogRow(Base):
    __tablename__ = "dog"
    __table_args__ = (sa.CheckConstraint("legs <= 4", name="ck_secret_rule"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))
    legs: Mapped[int]
    owner_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("owner.id", name="fk_secret_tie", deferrable=True, initially="DEFERRED")
    )


class Prompt(DeclarativeBase):
    """The same tables as MariaDB has them: it knows no reference that COMMIT looks at."""


for _table in Base.metadata.sorted_tables:
    for _reference in _table.to_metadata(Prompt.metadata).foreign_key_constraints:
        _reference.deferrable = _reference.initially = None


class Things(BaseRepository[Thing, int]):
    model = ThingRow


class Owners(BaseRepository[Owner, int]):
    model = OwnerRow


class Dogs(BaseRepository[Dog, int]):
    model = DogRow


class Shop(BaseUnitOfWork):
    things: Things


class Kennel(BaseUnitOfWork):
    dogs: Dogs
    owners: Owners


class AsyncThings(AsyncBaseRepository[Thing, int]):
    model = ThingRow


class AsyncDogs(AsyncBaseRepository[Dog, int]):
    model = DogRow


class AsyncShop(AsyncBaseUnitOfWork):
    things: AsyncThings


class AsyncKennel(AsyncBaseUnitOfWork):
    dogs: AsyncDogs

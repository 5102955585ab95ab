"""What the web tests store: things with a key and a version; dogs, whose owner is looked for at COMMIT."""

from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, QueryObject
from sqlrepo.sqlalchemy import AsyncDatabase


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
    __mapper_args__ = {"version_id_col": version}


class OwnerRow(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))


class DogRow(Base):
    __tablename__ = "dog"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20))
    legs: Mapped[int] = mapped_column()
    owner_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("owner.id", name="fk_secret_tie", deferrable=True, initially="DEFERRED")
    )
    __table_args__ = (sa.CheckConstraint(legs.column <= 4, name="ck_secret_rule"),)


class Prompt(DeclarativeBase):
    """The tables for MariaDB, which has no deferred foreign keys."""


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


# -- endpoints for sync and async units alike


def shop_for(db):
    """The unit class for a database."""
    return AsyncShop if isinstance(db, AsyncDatabase) else Shop


async def outcome(call):
    """The value of a call, awaited if the unit is async."""
    return await call if isawaitable(call) else call


@asynccontextmanager
async def entered(unit):
    """Enter a unit or savepoint of either kind."""
    if hasattr(unit, "__aenter__"):
        async with unit as inner:
            yield inner
    else:
        with unit as inner:
            yield inner


def to_lines(things):
    """The keys of a sync or async iterator, one a line."""
    if hasattr(things, "__aiter__"):
        return (f"{thing.key}\n" async for thing in things)
    return (f"{thing.key}\n" for thing in things)

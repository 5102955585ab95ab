"""What processes keep together: things with a key."""

from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork
from sqlrepo.sqlalchemy.types import Text


class Thing(BaseModel):
    id: int | None = None
    key: str
    size: int = 0


class Base(DeclarativeBase): ...


class ThingRow(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text(40), unique=True)
    size: Mapped[int]


class Things(BaseRepository[Thing, int]):
    model = ThingRow


class Shop(BaseUnitOfWork):
    things: Things


class AsyncThings(AsyncBaseRepository[Thing, int]):
    model = ThingRow


class AsyncShop(AsyncBaseUnitOfWork):
    things: AsyncThings

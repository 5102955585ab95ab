"""Units of work of different shape, and their query objects, for the twins."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import sqlalchemy as sa
from pydantic import BaseModel, Field, model_validator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    QueryObject,
    Where,
    contains,
)
from sqlrepo.sqlalchemy.types import (
    BigKey,
    Bytes,
    Duration,
    Exact,
    Float64,
    Instant,
    LocalDateTime,
    Member,
    Text,
    TimeOfDay,
    UniqueId,
)


class Base(DeclarativeBase): ...


# -- the todo: a generated key, a unique text; beside it a composite key of two texts


class Todo(BaseModel):
    id: int | None = None
    key: str
    value: str = ""
    done: bool = False
    priority: int = 0
    due: date | None = None


class TodoRow(Base):
    __tablename__ = "todo"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(Text(20), unique=True)
    value: Mapped[str] = mapped_column(Text(50))
    done: Mapped[bool]
    priority: Mapped[int]
    due: Mapped[date | None]


class TodoQuery(QueryObject[Todo]):
    key_contains: str | None = None
    key_in: list[str] | None = None
    done: bool | None = None
    priority_ge: int | None = None
    priority_between: tuple[int, int] | None = None
    due_is_null: bool | None = None
    text: Annotated[str | None, Where(lambda t, v: contains(t.key, v) | contains(t.value, v))] = None
    order_by: Literal["priority", "-priority", "due", "-due", "-due,priority", "key"] | None = None
    limit: int | None = Field(default=None, ge=0)
    offset: int | None = Field(default=None, ge=0)


class Tag(BaseModel):
    owner: str
    name: str
    weight: int = 0


class TagRow(Base):
    __tablename__ = "tag"
    owner: Mapped[str] = mapped_column(Text(20), primary_key=True)
    name: Mapped[str] = mapped_column(Text(20), primary_key=True)
    weight: Mapped[int]


class Todos(BaseRepository[Todo, int]):
    model = TodoRow


class Tags(BaseRepository[Tag, tuple[str, str]]):
    model = TagRow


class Shop(BaseUnitOfWork):
    todos: Todos
    tags: Tags


class AsyncTodos(AsyncBaseRepository[Todo, int]):
    model = TodoRow


class AsyncTags(AsyncBaseRepository[Tag, tuple[str, str]]):
    model = TagRow


class AsyncShop(AsyncBaseUnitOfWork):
    todos: AsyncTodos
    tags: AsyncTags


# -- a seat: a frozen dataclass, a composite key of the caller's, a composite unique that may be NULL


class Rank(Enum):
    STALLS = 1
    BALCONY = 2


@dataclass(frozen=True, slots=True)
class Seat:
    row: str
    number: int
    rank: Rank = Rank.STALLS
    guest: str | None = None
    ticket: str | None = None
    price: Decimal | None = None
    taken: bool | None = None


class SeatRow(Base):
    __tablename__ = "seat"
    __table_args__ = (sa.UniqueConstraint("guest", "ticket", name="uq_seat_guest"),)
    row: Mapped[str] = mapped_column(Text(2), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[Rank] = mapped_column(Member(Rank))
    guest: Mapped[str | None] = mapped_column(Text(20))
    ticket: Mapped[str | None] = mapped_column(Text(20))
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(8, 2))
    taken: Mapped[bool | None]


class SeatQuery(QueryObject[Seat]):
    guest_istartswith: str | None = None
    rank_in: list[Rank] | None = None
    price_gt: Decimal | None = None
    taken: bool | None = None
    order_by: Literal["guest", "-guest,ticket", "price,-rank", "taken"] = "guest"
    limit: int = 2


class Seats(BaseRepository[Seat, tuple[str, int]]):
    model = SeatRow


class Theatre(BaseUnitOfWork):
    seats: Seats


class AsyncSeats(AsyncBaseRepository[Seat, tuple[str, int]]):
    model = SeatRow


class AsyncTheatre(AsyncBaseUnitOfWork):
    seats: AsyncSeats


# -- a specimen: every portable type, each of them nullable


class Colour(Enum):
    RED = 3
    GREEN = 1
    BLUE = 2


@dataclass
class Specimen:
    id: int
    text: str | None = None
    other: str | None = None
    number: int | None = None
    rank: int | None = None
    big: int | None = None
    flag: bool | None = None
    colour: Colour | None = None
    uid: UUID | None = None
    amount: Decimal | None = None
    rate: Decimal | None = None
    ratio: float | None = None
    day: date | None = None
    clock: time | None = None
    local: datetime | None = None
    moment: datetime | None = None
    later: datetime | None = None
    span: timedelta | None = None
    blob: bytes | None = None
    extra: Any = None


class SpecimenRow(Base):
    __tablename__ = "specimen"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str | None] = mapped_column(Text(12))
    other: Mapped[str | None] = mapped_column(Text())
    number: Mapped[int | None]
    rank: Mapped[int | None] = mapped_column(sa.SmallInteger)
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    flag: Mapped[bool | None]
    colour: Mapped[Colour | None] = mapped_column(Member(Colour))
    uid: Mapped[UUID | None] = mapped_column(UniqueId())
    amount: Mapped[Decimal | None] = mapped_column(Exact(10, 2))
    rate: Mapped[Decimal | None] = mapped_column(Exact(18, 6))
    ratio: Mapped[float | None] = mapped_column(Float64())
    day: Mapped[date | None]
    clock: Mapped[time | None] = mapped_column(TimeOfDay())
    local: Mapped[datetime | None] = mapped_column(LocalDateTime())
    moment: Mapped[datetime | None] = mapped_column(Instant())
    later: Mapped[datetime | None] = mapped_column(Instant())
    span: Mapped[timedelta | None] = mapped_column(Duration())
    blob: Mapped[bytes | None] = mapped_column(Bytes(8))
    extra: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))


class SpecimenQuery(QueryObject[Specimen]):
    text_icontains: str | None = None
    other_endswith: str | None = None
    big_ne: int | None = None
    colour_not_in: list[Colour] | None = None
    moment_between: tuple[datetime, datetime] | None = None
    span_lt: timedelta | None = None
    blob: bytes | None = None
    uid: UUID | None = None
    order_by: (
        Literal["text", "-text", "other,-big", "big", "uid", "-amount", "ratio", "colour", "clock", "-moment", "blob"]
        | None
    ) = None
    limit: int | None = None
    offset: int | None = None


class Specimens(BaseRepository[Specimen, int]):
    model = SpecimenRow


class Lab(BaseUnitOfWork):
    specimens: Specimens


class AsyncSpecimens(AsyncBaseRepository[Specimen, int]):
    model = SpecimenRow


class AsyncLab(AsyncBaseUnitOfWork):
    specimens: AsyncSpecimens


# -- an account: a version; a class with rules that the table does not have; columns of other names


class Account(BaseModel):
    id: int | None = None
    owner: str = Field(min_length=1, max_length=12)
    level: int = Field(ge=0, le=5)
    limit_low: int = 0
    limit_high: int = 100
    note: str | None = None
    revision: int | None = None

    @model_validator(mode="after")
    def limits_are_in_order(self) -> "Account":
        if self.limit_low > self.limit_high:
            raise ValueError("limits are not in order")
        return self


class AccountRow(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column("account_id", BigKey(), primary_key=True)
    user_name: Mapped[str] = mapped_column("user", Text(12), unique=True)
    level: Mapped[int] = mapped_column(sa.SmallInteger)
    limit_low: Mapped[int]
    limit_high: Mapped[int]
    note: Mapped[str | None] = mapped_column(Text(40))
    revision: Mapped[int] = mapped_column("v")
    __mapper_args__ = {"version_id_col": revision}  # as SQLAlchemy's documentation has it


class AccountQuery(QueryObject[Account]):
    owner: str | None = None
    level_le: int | None = None
    note_iequals: str | None = None
    revision_in: list[int] | None = None
    id_gt: int | None = None
    order_by: Literal["level,-owner", "-note", "-id", "limit_high"] = "-id"
    limit: int | None = None


class Accounts(BaseRepository[Account, int]):
    model = AccountRow
    columns = {"owner": "user_name"}


class Bank(BaseUnitOfWork):
    accounts: Accounts


class AsyncAccounts(AsyncBaseRepository[Account, int]):
    model = AccountRow
    columns = {"owner": "user_name"}


class AsyncBank(AsyncBaseUnitOfWork):
    accounts: AsyncAccounts


# -- entities that do not carry their key; defaults, onupdate; attrs; a mapped class; the ASCII fold


class Size(IntEnum):
    SMALL = 1
    LARGE = 2


@attrs.frozen
class Label:
    name: str
    size: Size = Size.SMALL
    _hue: str | None = None
    stamp: int | None = None


class LabelRow(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text(10), unique=True)
    size: Mapped[int] = mapped_column(default=2)
    hue: Mapped[str | None] = mapped_column(Text(10))
    stamp: Mapped[int] = mapped_column(default=7, onupdate=lambda: 8)


class LabelQuery(QueryObject[Label]):
    name_icontains: str | None = None
    order_by: Literal["name", "-size"] = "-size"
    limit: int = 3


class Labels(BaseRepository[Label, int]):
    model = LabelRow
    columns = {"_hue": "hue"}
    natural_key = ("name",)
    fold = "ascii"


class Song(Base):
    __tablename__ = "song"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(Text(12), unique=True)
    seconds: Mapped[int]
    singer: Mapped[str | None] = mapped_column(Text(12))
    live: Mapped[bool] = mapped_column(default=False)


class Songs(BaseRepository[Song, int]): ...


class Shelf(BaseUnitOfWork):
    labels: Labels
    songs: Songs

"""Entities of every make, with their tables and repositories."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum

import attrs
from pydantic import BaseModel
from sqlalchemy import Date, Numeric, String, UniqueConstraint
from sqlalchemy import Enum as EnumType
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlmodel import Field, SQLModel

from sqlrepo import BaseRepository, BaseUnitOfWork


class Base(DeclarativeBase): ...


# -- a Pydantic model with a generated key


class Todo(BaseModel):
    id: int | None = None
    key: str
    value: str
    done: bool = False
    priority: int = 0


class TodoRow(Base):
    __tablename__ = "todo"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(100), unique=True)
    value: Mapped[str] = mapped_column(String(500))
    done: Mapped[bool]
    priority: Mapped[int]


class Todos(BaseRepository[Todo, int]):
    model = TodoRow


def make_todo(n: int) -> Todo:
    return Todo(key=f"k{n}", value=f"{n}00% of Thing_{n}", done=n % 2 == 0, priority=n % 3)


# -- a frozen dataclass with slots, a composite key of the caller's, and fields that may be None


class Rank(Enum):
    STALLS = 1
    BALCONY = 2


@dataclass(frozen=True, slots=True)
class Seat:
    row: str
    number: int
    rank: Rank
    ticket: str | None = None
    guest: str | None = None
    price: Decimal | None = None
    free_from: date | None = None
    taken: bool | None = None


class SeatRow(Base):
    __tablename__ = "seat"
    __table_args__ = (UniqueConstraint("guest", "ticket", name="uq_seat_guest"),)
    row: Mapped[str] = mapped_column(String(2), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    rank: Mapped[Rank] = mapped_column(EnumType(Rank, native_enum=False))
    ticket: Mapped[str | None] = mapped_column(String(20))
    guest: Mapped[str | None] = mapped_column(String(80))
    price: Mapped[Decimal | None] = mapped_column(Numeric(8, 2))
    free_from: Mapped[date | None] = mapped_column(Date)
    taken: Mapped[bool | None]


class Seats(BaseRepository[Seat, tuple[str, int]]):
    model = SeatRow


def make_seat(n: int) -> Seat:
    day = date(2024, 2, 20 + n % 9)
    rank = Rank.BALCONY if n % 2 else Rank.STALLS
    return Seat("CBA"[n % 3], n, rank, f"T{n}", f"Éve {n}", Decimal(n) / 4, day, n % 2 == 0)


# -- a dataclass with a version, in columns of other names


@dataclass
class Account:
    number: int
    owner: str
    note: str | None = None
    balance: int = 0
    revision: int | None = None


class AccountRow(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column("account_id", primary_key=True, autoincrement=False)
    user_name: Mapped[str] = mapped_column("user", String(40), unique=True)
    remark: Mapped[str | None] = mapped_column(String(40))
    balance: Mapped[int]
    version_id: Mapped[int] = mapped_column("v")
    __mapper_args__ = {"version_id_col": version_id}


class Accounts(BaseRepository[Account, int]):
    model = AccountRow
    columns = {"number": "id", "owner": "user_name", "note": "remark", "revision": "version_id"}


def make_account(n: int) -> Account:
    return Account(1000 - n, f"owner {n}", f"Note {n}" if n % 2 else None, n * 10)


# -- an entity without a field for its key


class Label(BaseModel):
    name: str
    colour: str | None = None
    weight: float = 0.0


class LabelRow(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30), unique=True)
    colour: Mapped[str | None] = mapped_column(String(10))
    weight: Mapped[float]


class Labels(BaseRepository[Label, int]):
    model = LabelRow
    natural_key = ("name",)


def make_label(n: int) -> Label:
    return Label(name=f"Label {n}", colour=("red", "Green", None)[n % 3], weight=n / 8)


# -- one without any key, and without equality


@dataclass(eq=False)
class Entry:
    text: str
    level: int | None = None


class EntryRow(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(50))
    level: Mapped[int | None]


class Entries(BaseRepository[Entry, int]):
    model = EntryRow


# -- a class of attrs


@attrs.frozen
class Coin:
    name: str
    worth: int
    _mint: str | None = None
    struck: date | None = None
    id: int | None = None


class CoinRow(Base):
    __tablename__ = "coin"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30), unique=True)
    worth: Mapped[int]
    mint: Mapped[str | None] = mapped_column(String(30))
    struck: Mapped[date | None] = mapped_column(Date)


class Coins(BaseRepository[Coin, int]):
    model = CoinRow
    columns = {"_mint": "mint"}


def make_coin(n: int) -> Coin:
    return Coin(f"Coin {n}", n % 4, f"Mint {n % 3}", date(1900 + n, 1, 1) if n % 3 else None)


# -- a mapped class, which is its own entity


class Song(Base):
    __tablename__ = "song"
    id: Mapped[int] = mapped_column("song_id", primary_key=True)
    title: Mapped[str] = mapped_column(String(30), unique=True)
    seconds: Mapped[int]
    singer: Mapped[str | None] = mapped_column(String(30))
    heard: Mapped[date | None] = mapped_column(Date)
    live: Mapped[bool]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Songs(BaseRepository[Song, int]): ...


def make_song(n: int) -> Song:
    heard = date(2024, 1, n) if n % 3 else None
    return Song(title=f"Song {n}", seconds=n * 30, singer=f"Singer {n % 4}", heard=heard, live=n % 2 == 0)


# -- a table of SQLModel


class Hero(SQLModel, table=True):
    metadata = Base.metadata
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=30, unique=True)
    age: int | None = None


class Heroes(BaseRepository[Hero, int]): ...


def make_hero(n: int) -> Hero:
    return Hero(name=f"Hero {n}", age=n * 3 if n % 4 else None)


class House(BaseUnitOfWork):
    todos: Todos
    seats: Seats
    accounts: Accounts
    labels: Labels
    coins: Coins
    songs: Songs
    heroes: Heroes

"""The entities, tables and units that more than one test file works with, and their databases."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryObject, Where, contains, fields
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database, SQLAlchemyRepository, SQLAlchemyUnitOfWork
from sqlrepo.sqlalchemy.types import (
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
from tests.databases import servers

SERVED = ["postgresql", "mariadb", "postgresql-usual", "mariadb-usual"]


class Base(DeclarativeBase): ...


def own_base():
    """Make a declarative base for a test's own tables; MariaDB wants a length for texts."""
    return type("Own", (DeclarativeBase,), {"type_annotation_map": {str: sa.String(60)}})


def create(db, base=Base):
    """Make the tables, where a database needs any, and give the database back."""
    if isinstance(db, Database):
        base.metadata.create_all(db.engine)
    return db


def database(kind, base=Base):
    """An empty database of a kind; on a server one of this process's own, "-usual" by the server's own collation."""
    name, _, variant = kind.partition("-")
    if name not in servers.KINDS:
        return create(InMemoryDatabase() if kind == "memory" else Database("sqlite://"), base)
    return Database(servers.emptied(name, base, variant))


def tables_of(base):
    """A fixture of a database with a test module's own tables, on every backend."""

    @pytest.fixture
    def db(backend):
        made = database(backend, base)
        yield made
        made.dispose()

    return db


def opened(unit):
    """A fixture of a unit of work on the test's database."""

    @pytest.fixture
    def open_unit(db):
        with unit(db) as made:
            yield made

    return open_unit


def changed(entity, **values):
    """A copy of an entity with other values."""
    return entity.model_copy(update=values)


def async_database(kind, base, folder):
    """An empty database of a kind for async units; SQLite's is a file in a folder."""
    if kind == "memory":
        return database("memory", base)
    if kind == "sqlite":
        create(Database(f"sqlite:///{folder}/async.db"), base).dispose()
        return AsyncDatabase(f"sqlite+aiosqlite:///{folder}/async.db")
    return AsyncDatabase(servers.emptied(f"{kind}+{'asyncpg' if kind == 'postgresql' else 'asyncmy'}", base))


def connections_out(db):
    """How many connections the pool has not got back; memory has none."""
    return db.engine.pool.checkedout() if isinstance(db, Database) else 0


def leave_by(error, unit, work):
    """Work in a unit and leave it by an exception."""
    with unit:
        work(unit)
        raise error


# -- a to-do list: the plain case


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
    key: Mapped[str] = mapped_column(sa.String(20), unique=True)
    value: Mapped[str] = mapped_column(sa.String(50))
    done: Mapped[bool]
    priority: Mapped[int]
    due: Mapped[date | None]


class TodoQuery(QueryObject[Todo]):
    key_contains: str | None = None
    key_in: list[str] | None = None
    done: bool | None = None
    priority_ge: int | None = None
    due_is_null: bool | None = None
    text: Annotated[str | None, Where(lambda t, v: contains(t.key, v) | contains(t.value, v))] = None
    order_by: Literal["priority", "-priority", "due", "-due", "-due,priority", "key"] | None = None
    limit: int | None = Field(default=None, ge=0)
    offset: int | None = Field(default=None, ge=0)


class Todos(SQLAlchemyRepository[Todo, int]):
    model = TodoRow

    def by_key(self, key: str) -> Todo:
        return self.one(todo.key == key)


class Tag(BaseModel):
    owner: str
    name: str
    weight: int = 0


class TagRow(Base):
    __tablename__ = "tag"
    owner: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    weight: Mapped[int]


class Tags(BaseRepository[Tag, tuple[str, str]]):
    model = TagRow


class Shop(SQLAlchemyUnitOfWork):
    todos: Todos
    tags: Tags


todo = fields(Todo)
tag = fields(Tag)


# -- an account: every write is counted


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    balance: int = 0
    id: int | None = None
    version: int | None = None


class AccountRow(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), unique=True)
    balance: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Accounts(BaseRepository[Account, int]):
    model = AccountRow


class Bank(BaseUnitOfWork):
    accounts: Accounts


account = fields(Account)


# -- a specimen: one column of every portable type, each of them nullable


class Colour(Enum):
    RED = 3
    GREEN = 1
    BLUE = 2


class Specimen(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
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
    ratio: float | None = None
    day: date | None = None
    clock: time | None = None
    local: datetime | None = None
    moment: datetime | None = None
    zoned: datetime | None = None
    span: timedelta | None = None
    blob: bytes | None = None


class SpecimenRow(Base):
    __tablename__ = "specimen"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str | None] = mapped_column(Text(12))
    other: Mapped[str | None] = mapped_column(sa.String(60))
    number: Mapped[int | None]
    rank: Mapped[int | None] = mapped_column(sa.SmallInteger)
    big: Mapped[int | None] = mapped_column(sa.BigInteger)
    flag: Mapped[bool | None]
    colour: Mapped[Colour | None] = mapped_column(Member(Colour))
    uid: Mapped[UUID | None] = mapped_column(UniqueId())
    amount: Mapped[Decimal | None] = mapped_column(Exact(10, 2))
    ratio: Mapped[float | None] = mapped_column(Float64())
    day: Mapped[date | None]
    clock: Mapped[time | None] = mapped_column(TimeOfDay())
    local: Mapped[datetime | None] = mapped_column(LocalDateTime())
    moment: Mapped[datetime | None] = mapped_column(Instant())
    zoned: Mapped[datetime | None] = mapped_column(
        sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    )
    span: Mapped[timedelta | None] = mapped_column(Duration())
    blob: Mapped[bytes | None] = mapped_column(Bytes(8))


class Specimens(BaseRepository[Specimen, int]):
    model = SpecimenRow


specimen = fields(Specimen)


class Lab(BaseUnitOfWork):
    specimens: Specimens
    todos: Todos
    tags: Tags

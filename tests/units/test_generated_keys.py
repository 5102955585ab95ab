"""A generated key is checked like a given one: it is positive, and within the range of its column."""

import asyncio

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, BaseRepository, InvalidValueError, TransactionAbortedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from tests.databases import servers
from tests.units.domain import own_base


class Ticket(BaseModel):
    number: int | None = None
    text: str = ""


Base = own_base()


class TicketRow(Base):
    __tablename__ = "ticket"
    id: Mapped[int] = mapped_column("the id", primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


class SmallRow(Base):
    __tablename__ = "small_ticket"
    id: Mapped[int] = mapped_column(sa.SmallInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


class BigRow(Base):
    __tablename__ = "big_ticket"
    id: Mapped[int] = mapped_column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    text: Mapped[str] = mapped_column(unique=True)


class Tickets(BaseRepository[Ticket, int]):
    model = TicketRow
    columns = {"number": "id"}


class SmallTickets(Tickets):
    model = SmallRow


class BigTickets(Tickets):
    model = BigRow


class AsyncTickets(AsyncBaseRepository[Ticket, int]):
    model = TicketRow
    columns = {"number": "id"}


def last(repository):
    return repository.definition().schema.by_name["id"].type.high


CALLS = {
    "add": lambda repository: repository.add(Ticket(text="new")),
    "add_many": lambda repository: repository.add_many([Ticket(text=text) for text in ("new", "other")]),
    "save": lambda repository: repository.save(Ticket(text="new")),
    "upsert by key": lambda repository: repository.upsert(Ticket(text="new"), on="number"),
    "upsert": lambda repository: repository.upsert(Ticket(text="new"), on="text"),
}


@pytest.mark.parametrize("kind", [Tickets, SmallTickets, BigTickets])
@pytest.mark.parametrize("call", CALLS)
def test_no_key_follows_the_last(empty, backend, kind, call):
    if backend == "sqlite" and kind is BigTickets:
        return  # where SQLite chooses a free key; see below
    db = empty(Base)
    with kind(db) as repository:
        repository.add(Ticket(number=last(kind), text="last"))
    with pytest.raises(InvalidValueError) as caught, kind(db) as repository:
        CALLS[call](repository)
    assert (caught.value.field, caught.value.retryable) == ("number", False)
    assert "range" in caught.value.reason
    assert [one.text for one in kind(db).find()] == ["last"]


@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_stored_where_the_application_goes_on(call):
    db = Database("sqlite://")
    Base.metadata.create_all(db.engine)
    with db.engine.connect() as connection:
        repository = Tickets(connection)
        repository.add(Ticket(number=last(Tickets), text="last"))
        with pytest.raises(InvalidValueError):
            CALLS[call](repository)
        assert connection.scalars(sa.text("SELECT text FROM ticket")).all() == ["last"]
        with pytest.raises(TransactionAbortedError):
            repository.count()
    db.dispose()


def test_sqlite_chooses_a_free_key_of_64_bits(sqlite):
    Base.metadata.create_all(sqlite.engine)
    with BigTickets(sqlite) as repository:
        repository.add(Ticket(number=last(BigTickets), text="last"))
        free = repository.add(Ticket(text="free"))
        assert 0 < free.number < last(BigTickets)
        assert repository.get(free.number) == free


def test_a_savepoint_helps(empty):
    db = empty(Base)
    with Tickets(db) as repository:
        repository.add(Ticket(number=last(Tickets), text="last"))
        with pytest.raises(InvalidValueError), repository.unit.savepoint():
            repository.add(Ticket(text="new"))
        assert repository.add(Ticket(number=7, text="free")).number == 7
    assert Tickets(db).count() == 2


def test_a_row_of_another_application_may_lie_behind_the_last_key():
    db = Database("sqlite://")
    Base.metadata.create_all(db.engine)
    with db.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO ticket VALUES (99999999999, 'theirs')"))
    with pytest.raises(InvalidValueError), Tickets(db) as repository:
        repository.add(Ticket(text="new"))
    with Tickets(db) as repository:
        assert repository.count() == 1
        assert repository.add(Ticket(number=4, text="given")).number == 4
    db.dispose()


def test_generated_keys_are_positive_beside_negative_ones(empty):
    with Tickets(empty(Base)) as repository:
        repository.add(Ticket(number=-3, text="a"))
        given = repository.add_many([Ticket(text=text) for text in "bcdef"])
        assert min(one.number for one in given) > 0
        assert [one.text for one in given] == list("bcdef")
        assert repository.get_many([one.number for one in given]) == given
        assert repository.get(-3).text == "a"
        assert repository.count() == 6
        assert repository.add(Ticket(text="g")).number > max(one.number for one in given)


@pytest.mark.parametrize("driver", ["memory", "sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy"])
def test_async_alike(driver, tmp_path):
    if driver == "memory":
        db = InMemoryDatabase()
    elif driver == "sqlite+aiosqlite":
        db = AsyncDatabase(f"{driver}:///{tmp_path}/tickets.db")
        plain = sa.create_engine(f"sqlite:///{tmp_path}/tickets.db")
        Base.metadata.create_all(plain)
        plain.dispose()
    else:
        db = AsyncDatabase(servers.emptied(driver, Base))

    async def work():
        async with AsyncTickets(db) as repository:
            await repository.add(Ticket(number=2**31 - 1, text="last"))
        with pytest.raises(InvalidValueError) as caught:
            async with AsyncTickets(db) as repository:
                await repository.add(Ticket(text="new"))
        assert caught.value.field == "number"
        assert await AsyncTickets(db).count() == 1
        if driver != "memory":
            await db.dispose()

    asyncio.run(work())

"""An application that uses all of sqlrepo.fastapi, with sync or async units over any store."""

from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import BackgroundTasks, FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    CursorPage,
    DatabaseUnavailableError,
    LockTimeoutError,
    Page,
    QueryObject,
    TransactionConflictError,
    UniqueViolationError,
    Where,
    contains,
    icontains,
)
from sqlrepo.fastapi import IfMatch, Links, Stream, etag, filters, install, provide, provide_stream, validation_problem
from sqlrepo.sqlalchemy import types
from sqlrepo.testing import fail_next
from tests.web.domain import entered, outcome


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: int | None = None
    key: str
    size: int | None = None
    note: str | None = None
    price: Decimal = Decimal(0)
    due: datetime | None = None
    done: bool = False
    version: int = 1


class ItemChanges(BaseModel):
    """Only values that were sent are written, so these defaults never are."""

    model_config = ConfigDict(extra="forbid")

    key: str | None = None
    size: int | None = None
    note: str | None = None
    price: Decimal | None = None
    version: int = 1


class Keeper(BaseModel):
    id: int | None = None
    name: str


class Pet(BaseModel):
    id: int | None = None
    name: str
    legs: int | None = 4
    keeper_id: int | None = None
    boss_id: int | None = None


class ItemQuery(QueryObject[Item]):
    key: str | None = None
    key_ne: str | None = None
    key_in: list[str] | None = None
    key_not_in: list[str] | None = None
    key_between: tuple[str, str] | None = None
    key_contains: str | None = None
    key_icontains: str | None = None
    key_startswith: str | None = None
    key_istartswith: str | None = None
    key_endswith: str | None = None
    key_iendswith: str | None = None
    key_iequals: str | None = None
    size: int | None = None
    size_ne: int | None = None
    size_lt: int | None = None
    size_le: int | None = None
    size_gt: int | None = None
    size_ge: int | None = None
    size_in: list[int] | None = None
    size_not_in: list[int] | None = None
    size_between: tuple[int, int] | None = None
    size_is_null: bool | None = None
    note: str | None = None
    note_contains: str | None = None
    note_is_null: bool | None = None
    price_ge: Decimal | None = None
    price_lt: Decimal | None = None
    due_ge: datetime | None = None
    due_lt: datetime | None = None
    done: bool | None = None
    text: Annotated[str | None, Where(lambda t, v: contains(t.key, v) | icontains(t.note, v))] = None
    order_by: Literal[
        "key", "-key", "size", "-size", "-size,key", "note", "-note", "price", "-price", "due", "-due", "done", "-done"
    ] = "key"
    limit: int = Field(default=4, ge=0, le=50)
    offset: int = Field(default=0, ge=0)


def tables(*, deferrable):
    """The mapped classes; MariaDB has no deferred foreign keys."""
    late = {"deferrable": True, "initially": "DEFERRED"} if deferrable else {}

    class Base(DeclarativeBase): ...

    class ItemRow(Base):
        __tablename__ = "item"
        id: Mapped[int] = mapped_column(primary_key=True)
        key: Mapped[str] = mapped_column(sa.String(20), unique=True)
        size: Mapped[int | None]
        note: Mapped[str | None] = mapped_column(sa.String(50))
        price: Mapped[Decimal] = mapped_column(types.Exact(10, 2))
        due: Mapped[datetime | None] = mapped_column(types.Instant())
        done: Mapped[bool]
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}

    class KeeperRow(Base):
        __tablename__ = "keeper"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20), unique=True)

    class PetRow(Base):
        __tablename__ = "pet"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20))
        legs: Mapped[int] = mapped_column()
        keeper_id: Mapped[int | None] = mapped_column(sa.ForeignKey("keeper.id", name="fk_keeper"))
        boss_id: Mapped[int | None] = mapped_column(sa.ForeignKey("keeper.id", name="fk_boss", **late))
        __table_args__ = (sa.CheckConstraint(legs.column <= 4, name="ck_legs"),)

    return SimpleNamespace(Base=Base, Item=ItemRow, Keeper=KeeperRow, Pet=PetRow)


LATE, EARLY = tables(deferrable=True), tables(deferrable=False)


def unit_for(rows, *, asynchronous):
    repository = AsyncBaseRepository if asynchronous else BaseRepository

    class Items(repository[Item, int]):
        model = rows.Item

    class Keepers(repository[Keeper, int]):
        model = rows.Keeper

    class Pets(repository[Pet, int]):
        model = rows.Pet

    class Stock(AsyncBaseUnitOfWork if asynchronous else BaseUnitOfWork):
        items: Items
        keepers: Keepers
        pets: Pets

    return Stock


Filters = Annotated[ItemQuery, filters(ItemQuery)]

PLANTED = {
    "conflict": ("commit", TransactionConflictError),
    "lock": ("insert", LockTimeoutError),
    "lost": ("commit", lambda: DatabaseUnavailableError("gone")),
    "gone": ("insert", lambda: DatabaseUnavailableError("gone")),
}


def application(db, rows, *, asynchronous):
    unit = unit_for(rows, asynchronous=asynchronous)
    kit = SimpleNamespace(
        db=db,
        unit=unit,
        asynchronous=asynchronous,
        Writing=Annotated[unit, provide(unit, db)],
        Reading=Annotated[unit, provide(unit, db, read_only=True)],
        Streaming=Annotated[Stream[unit], provide_stream(unit, db)],
    )
    app = FastAPI()
    app.add_exception_handler(RequestValidationError, validation_problem)
    install(app, db)
    for serve in (serve_items, serve_item, serve_pets, serve_units, serve_failures):
        serve(app, kit)
    return app


def serve_items(app, kit):
    @app.post("/items", status_code=201)
    async def add(item: Item, stock: kit.Writing, response: Response) -> Item:
        added = await outcome(stock.items.add(item))
        response.headers["ETag"] = etag(added.version)
        return added

    @app.get("/items")
    async def pages(query: Filters, stock: kit.Reading, links: Links, total: bool = False) -> Page[Item]:
        return links(await outcome(stock.items.page(query, with_total=total)), query)

    @app.get("/scroll")
    async def scroll(
        query: Filters, stock: kit.Reading, links: Links, after: str | None = None, before: str | None = None
    ) -> CursorPage[Item]:
        return links(await outcome(stock.items.scroll(query, after=after, before=before)), query)


def serve_item(app, kit):
    @app.get("/items/{id}")
    async def get(id: int, stock: kit.Reading, response: Response) -> Item:
        item = await outcome(stock.items.get(id))
        response.headers["ETag"] = etag(item.version)
        return item

    @app.patch("/items/{id}")
    async def change(id: int, changes: ItemChanges, match: IfMatch, stock: kit.Writing, response: Response) -> Item:
        if match.given:
            match.require((await outcome(stock.items.get(id))).version)
        item = await outcome(stock.items.patch(id, changes))
        response.headers["ETag"] = etag(item.version)
        return item

    @app.put("/items/{id}")
    async def replace(id: int, item: Item, stock: kit.Writing) -> Item:
        return await outcome(stock.items.update(item.model_copy(update={"id": id})))

    @app.delete("/items/{id}", status_code=204)
    async def delete(id: int, stock: kit.Writing) -> None:
        await outcome(stock.items.delete(id))


def serve_pets(app, kit):
    @app.post("/keepers", status_code=201)
    async def hire(keeper: Keeper, stock: kit.Writing) -> Keeper:
        return await outcome(stock.keepers.add(keeper))

    @app.delete("/keepers/{id}", status_code=204)
    async def dismiss(id: int, stock: kit.Writing) -> None:
        await outcome(stock.keepers.delete(id))

    @app.post("/pets", status_code=201)
    async def keep(pet: Pet, stock: kit.Writing) -> Pet:
        return await outcome(stock.pets.add(pet))

    @app.get("/pets")
    async def pets(stock: kit.Reading) -> list[Pet]:
        return await outcome(stock.pets.find(order_by="name"))


def serve_units(app, kit):
    @app.post("/ensured")
    async def ensure(item: Item, stock: kit.Writing) -> Item:
        try:
            async with entered(stock.savepoint()):
                return await outcome(stock.items.add(item))
        except UniqueViolationError:
            return await outcome(stock.items.one(key=item.key))

    @app.post("/careless")
    async def careless(item: Item, stock: kit.Writing) -> str:
        await outcome(stock.items.add(item.model_copy(update={"key": "careless"})))
        try:
            await outcome(stock.items.add(item))
        except UniqueViolationError:
            return "there is one"
        return "added"

    @app.post("/announced", status_code=201)
    async def announce(item: Item, stock: kit.Writing, tasks: BackgroundTasks) -> Item:
        async def follow():
            async with entered(kit.unit(kit.db)) as own:
                found = await outcome(own.items.one(key=item.key))
                await outcome(own.items.add(Item(key=f"after {found.key}")))

        stock.on_commit(lambda: tasks.add_task(follow))
        return await outcome(stock.items.add(item))

    @app.post("/failing-callback", status_code=201)
    async def callback(item: Item, stock: kit.Writing) -> Item:
        stock.on_commit(lambda: 1 / 0)
        return await outcome(stock.items.add(item))


def serve_failures(app, kit):
    @app.post("/planted/{what}", status_code=201)
    async def plant(what: str, item: Item, stock: kit.Writing) -> Item:
        verb, error = PLANTED[what]
        fail_next(verb, error(), on=kit.db)
        return await outcome(stock.items.add(item))

    @app.get("/export")
    async def export(stream: kit.Streaming) -> StreamingResponse:
        def lines(stock):
            return (f"{item.key}: {item.price}\n" for item in stock.items.stream(order_by="-key"))

        def async_lines(stock):
            return (f"{item.key}: {item.price}\n" async for item in stock.items.stream(order_by="-key"))

        return StreamingResponse(stream(async_lines if kit.asynchronous else lines), media_type="text/plain")

    @app.get("/mistaken")
    async def mistaken(stock: kit.Reading) -> list[Item]:
        return await outcome(stock.items.find(colour="red"))

    @app.post("/sneaking")
    async def sneak(item: Item, stock: kit.Reading) -> Item:
        return await outcome(stock.items.add(item))

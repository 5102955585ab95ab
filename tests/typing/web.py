"""The web edge as type checkers see it: endpoints get what their annotations say."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Annotated, assert_type

from fastapi import FastAPI
from pydantic import BaseModel

from sqlrepo import BaseUnitOfWork, CursorPage, Page, QueryObject
from sqlrepo.fastapi import IfMatch, Links, Stream, etag, filters, install, override, provide, provide_stream
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database


class Todo(BaseModel):
    key: str


class TodoQuery(QueryObject[Todo]):
    key: str | None = None


class Shop(BaseUnitOfWork):
    def keys(self) -> list[str]:
        return []


def database() -> Database | InMemoryDatabase:
    return InMemoryDatabase()


ShopDep = Annotated[Shop, provide(Shop, database, read_only=True)]
Filters = Annotated[TodoQuery, filters(TodoQuery)]
ShopStream = Annotated[Stream[Shop], provide_stream(Shop, database)]


def endpoint(shop: ShopDep, query: Filters, links: Links, match: IfMatch, stream: ShopStream) -> None:
    assert_type(shop, Shop)
    assert_type(query, TodoQuery)
    assert_type(links(Page[Todo]([], has_next=False), query), Page[Todo])
    assert_type(links(CursorPage[Todo]([]), query), CursorPage[Todo])
    assert_type(stream(lambda unit: unit.keys()), AsyncGenerator[str])
    assert_type(stream(slowly), AsyncGenerator[int])
    assert_type(stream(quickly), AsyncGenerator[int])
    assert_type(etag(1), str)
    match.require(1)
    stream(lambda unit: unit.missing())  # type: ignore[attr-defined]


async def slowly(_: Shop) -> AsyncIterator[int]:
    yield 1


def quickly(_: Shop) -> Iterator[int]:
    yield 1


def use(app: FastAPI, db: Database, asynchronous: AsyncDatabase, memory: InMemoryDatabase) -> None:
    install(app, db, asynchronous, memory, database)
    install(app, "sqlite://")  # type: ignore[arg-type]
    override(app, ShopDep, memory)
    provide(Todo, db)  # type: ignore[arg-type]
    filters(Todo)  # type: ignore[arg-type]

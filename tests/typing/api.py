"""What type checkers make of the public names; checked by `make types`, never run.

A line that must be an error carries an ignore, and an ignore that is not needed is an error itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, Protocol, assert_type

from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import sqlrepo
from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    AsyncRepository,
    AsyncUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    CursorPage,
    Page,
    QueryObject,
    Repository,
    UnitOfWork,
    asc,
    contains,
    desc,
    every,
    exists,
    fields,
    in_,
    matches,
    not_,
    some,
    startswith,
    via,
)
from sqlrepo.memory import InMemoryDatabase, InMemoryUnitOfWork
from sqlrepo.sqlalchemy import AsyncDatabase, Database, SQLAlchemyRepository, SQLAlchemyUnitOfWork
from sqlrepo.testing import Harness, RepositoryContract


class Base(DeclarativeBase): ...


class TodoRow(Base):
    __tablename__ = "todo"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    done: Mapped[bool]
    priority: Mapped[int]
    due: Mapped[date | None]


class Todo(BaseModel):
    id: int | None = None
    key: str
    done: bool = False
    priority: int = 0
    due: date | None = None


@dataclass(frozen=True)
class Summary:
    key: str


class TodoQuery(QueryObject[Todo]):
    key_contains: str | None = None
    order_by: Literal["key"] = "key"
    limit: int = 10


class OtherQuery(QueryObject[Summary]):
    key: str | None = None


class Todos(BaseRepository[Todo, int]):
    model = TodoRow


class SqlTodos(SQLAlchemyRepository[Todo, int]):
    model = TodoRow

    def ids(self) -> list[int]:
        assert_type(self.session, Session)
        assert_type(self.connection, Connection)
        return list(self.session.scalars(TodoRow.__table__.select()))

    def own(self) -> None:
        statement = self.select(key="a").where(TodoRow.id > 3)
        assert_type(self.load(statement), list[Todo])
        assert_type(self.load_page(statement, 5, with_total=True), Page[Todo])


class Shop(BaseUnitOfWork):
    todos: Todos


@dataclass
class Tenant:
    name: str


class TenantTodos(Todos):
    def scope(self) -> bool:
        tenant: Tenant = self.context
        return super().scope() & (t.key == tenant.name) & not_(t.done)

    def write_scope(self) -> bool:
        return super().scope()


class UnscopedTodos(Todos):
    def scope(self) -> str:  # type: ignore[override]
        return t.key


class TenantShop(BaseUnitOfWork[Tenant]):
    todos: TenantTodos


class SqlShop(SQLAlchemyUnitOfWork):
    todos: SqlTodos


t = fields(Todo)
todos = Todos(InMemoryDatabase())


def criteria_are_bools_and_their_fields_are_checked() -> None:
    assert_type(t, Todo)
    assert_type((t.priority >= 3) & not_(t.done), bool)
    assert_type(contains(t.key, "a") | in_(t.priority, [1, 2]), bool)
    assert_type(some(t.due), date)
    assert_type(matches(t.done, Todo(key="a")), bool)
    repr(t.kye)  # type: ignore[attr-defined]
    repr(t.priority >= "3")  # type: ignore[operator]
    contains(t.priority, "3")  # type: ignore[arg-type]


class Line(BaseModel):
    id: int | None = None
    sku: str
    todo_id: int


class Place(BaseModel):
    city: str


class Basket(BaseModel):
    id: int | None = None
    name: str
    place: Place
    other: Place | None = None
    todo_id: int | None = None
    lines: list[Line] = []
    tags: frozenset[str] = frozenset()
    todo_ids: tuple[int, ...] = ()


b = fields(Basket)


def criteria_reach_into_value_objects() -> None:
    assert_type(b.place.city, str)
    assert_type(some(b.other).city == "a", bool)
    repr(b.place.citi)  # type: ignore[attr-defined]
    repr(some(b.other).city >= 3)  # type: ignore[operator]


def criteria_speak_of_related_rows() -> None:
    assert_type(via(b.todo_id, Todo), Todo)
    assert_type(via(b.todo_id, Todo).priority >= 3, bool)
    assert_type(exists(b.lines, lambda line: via(line.todo_id, Todo).done & startswith(line.sku, "a")), bool)
    assert_type(exists(b.todo_ids, lambda one: via(one, Todo).key == "a"), bool)
    assert_type(exists(b.tags), bool)
    assert_type(exists(Line, lambda line: (line.todo_id == b.todo_id) & (line.sku == "a")), bool)
    assert_type(every(Line, lambda line: line.todo_id == b.todo_id), bool)
    assert_type(todos.find(order_by=(via(t.id, Todo).key, desc(t.id))), list[Todo])
    repr(via(b.todo_id, Todo).kye)  # type: ignore[attr-defined]
    repr(via(b.todo_id, Todo).priority >= "3")  # type: ignore[operator]
    exists(Line, lambda line: line.skuu == b.name)  # type: ignore[attr-defined]
    every(Line, lambda line: line.todo_id >= "3")  # type: ignore[operator]
    exists(b.lines, lambda line: via(line.todo_id, Todo).kye == "a")  # type: ignore[attr-defined]
    exists(b.lines, lambda line: line.todo_id >= "3")  # type: ignore[operator]
    every(b.tags, lambda tag: tag >= 3)  # type: ignore[operator]
    exists(b.name, lambda one: one == "a")  # type: ignore[call-overload]
    every(b.todo_id, lambda one: one == 1)  # type: ignore[call-overload]
    exists(Line)  # type: ignore[call-overload]
    via(b.todo_id, "Todo")  # type: ignore[arg-type]


def reading_gives_entities() -> None:
    assert_type(todos.get(1), Todo)
    assert_type(todos.get_or_none(1), Todo | None)
    assert_type(todos.get_many([1, 2]), list[Todo])
    assert_type(todos.one(t.key == "a"), Todo)
    assert_type(todos.one_or_none(key="a"), Todo | None)
    assert_type(todos.first(order_by=desc(t.priority)), Todo | None)
    assert_type(todos.find(t.done, TodoQuery(), order_by=(asc(t.due), "key"), limit=3), list[Todo])
    assert_type(todos.find(into=Summary), list[Summary])
    assert_type(todos.get(1, into=Summary), Summary)
    assert_type(todos.get_or_none(1, into=Summary), Summary | None)
    assert_type(todos.get_many([1], into=Summary), list[Summary])
    assert_type(todos.one(t.done, into=Summary), Summary)
    assert_type(todos.one_or_none(into=Summary, key="a"), Summary | None)
    assert_type(todos.first(order_by="key", into=Summary), Summary | None)
    assert_type(todos.page(TodoQuery(), into=Summary), Page[Summary])
    assert_type(todos.scroll(TodoQuery(), into=Summary), CursorPage[Summary])
    assert_type(todos.stream(t.done, into=Summary), Iterator[Summary])
    assert_type(todos.stream(t.done), Iterator[Todo])
    todos.get(1, into=3)  # type: ignore[call-overload]
    todos.page(OtherQuery(), into=Summary)  # type: ignore[arg-type]
    assert_type(todos.page(TodoQuery()), Page[Todo])
    assert_type(todos.page(TodoQuery()).items, list[Todo])
    assert_type(todos.scroll(TodoQuery()), CursorPage[Todo])
    assert_type(todos.count(), int)
    assert_type(todos.exists(t.done), bool)
    todos.get("1")  # type: ignore[call-overload]
    todos.page(OtherQuery())  # type: ignore[arg-type]
    todos.find(Summary("a"))  # type: ignore[call-overload]
    todos.delete_where(TodoQuery())  # type: ignore[arg-type]


class ByKey(sqlrepo.Summary[Todo]):
    key: str
    count: int


class FewKeys(QueryObject[ByKey]):
    count_le: int | None = None


def summaries_are_typed_by_class_and_field() -> None:
    assert_type(todos.summarize(ByKey, t.done, having=FewKeys(count_le=1), order_by="-count", limit=3), list[ByKey])
    assert_type(todos.counts(t.key, t.done, TodoQuery()), dict[str, int])
    assert_type(todos.counts(t.due), dict[date | None, int])
    assert_type(todos.distinct(t.priority), list[int])
    assert_type(todos.counts(via(t.id, Todo).due), dict[date | None, int])
    todos.counts(t.kye)  # type: ignore[attr-defined]
    todos.summarize(Todo)  # type: ignore[type-var]
    todos.summarize(ByKey, OtherQuery())  # type: ignore[arg-type]
    todos.summarize(ByKey, having=TodoQuery())  # type: ignore[misc]


def writing_takes_entities() -> None:
    with Shop(InMemoryDatabase()) as shop:
        assert_type(shop, Shop)
        assert_type(shop.todos, Todos)
        assert_type(shop.todos.add(Todo(key="a")), Todo)
        assert_type(shop.todos.add_many([Todo(key="a")]), list[Todo])
        assert_type(shop.todos.patch(1, {"done": True}), Todo)
        assert_type(shop.todos.update_where(t.done, set_={"done": False}), int)
        assert_type(shop.todos.update_where(set_={"done": False}, key="a"), int)
        assert_type(shop.todos.delete_where(key="a"), int)
        shop.todos.add(Summary("a"))  # type: ignore[arg-type]
        repr(shop.todo)  # type: ignore[attr-defined]


def units_are_made_on_any_source() -> None:
    Shop(Database("sqlite://"))
    SqlShop(Database("sqlite://"), read_only=True)
    InMemoryUnitOfWork()
    assert_type(TenantShop(InMemoryDatabase(), context=Tenant("a")).context, Tenant)
    assert_type(Shop(InMemoryDatabase()).context, None)
    Shop("sqlite://")  # type: ignore[arg-type]


class HasTodos(UnitOfWork, Protocol):
    @property
    def todos(self) -> Repository[Todo, int]: ...


def bases_match_their_protocols() -> None:
    repository: Repository[Todo, int] = todos
    unit: UnitOfWork = Shop(InMemoryDatabase())
    service: Callable[[HasTodos], int] = count_done
    assert_type(repository.get(1), Todo)
    assert_type(service(Shop(InMemoryDatabase())), int)
    with unit.savepoint():
        pass
    wrong: Repository[Summary, int] = todos  # type: ignore[assignment]
    del wrong


def count_done(unit: HasTodos) -> int:
    with unit:
        return unit.todos.count(t.done)


class TestTodos(RepositoryContract[Todo, int]):
    def harness(self, request: Any) -> Harness[Todo]:
        return Harness(
            open=lambda: Shop(InMemoryDatabase()),
            make=lambda n: Todo(key=f"k{n}"),
            change=lambda todo: todo.model_copy(update={"done": not todo.done}),
        )


class SyncShop(BaseUnitOfWork): ...


class AsyncTodos(AsyncBaseRepository[Todo, int]):
    model = TodoRow


class AsyncShop(AsyncBaseUnitOfWork):
    sync = SyncShop
    todos: AsyncTodos


async def asynchronous(db: AsyncDatabase, memory: InMemoryDatabase) -> None:
    AsyncShop(memory)
    AsyncShop(Database("sqlite://"))  # type: ignore[arg-type]
    async with AsyncShop(db) as shop:
        repository: AsyncRepository[Todo, int] = shop.todos
        unit: AsyncUnitOfWork = shop
        assert_type(await shop.todos.get(1, into=Summary), Summary)
        assert_type(await shop.todos.get_or_none(1, into=Summary), Summary | None)
        assert_type(await shop.todos.get_many([1], into=Summary), list[Summary])
        assert_type(await shop.todos.one(t.done, into=Summary), Summary)
        assert_type(await shop.todos.one_or_none(into=Summary, key="a"), Summary | None)
        assert_type(await shop.todos.first(order_by="key", into=Summary), Summary | None)
        assert_type(await shop.todos.page(TodoQuery(), into=Summary), Page[Summary])
        assert_type(await shop.todos.scroll(TodoQuery(), into=Summary), CursorPage[Summary])
        assert_type(shop.todos.stream(t.done, into=Summary), AsyncIterator[Summary])
        assert_type(await repository.get(1), Todo)
        assert_type(await shop.todos.find(), list[Todo])
        assert_type(await shop.todos.page(TodoQuery()), Page[Todo])
        assert_type(await shop.todos.summarize(ByKey, t.done, order_by="-count"), list[ByKey])
        assert_type(await shop.todos.counts(t.due), dict[date | None, int])
        assert_type(await shop.todos.distinct(t.key), list[str])
        assert_type([one async for one in shop.todos.stream()], list[Todo])
        assert_type(await shop.run(lambda beneath: beneath.is_open), bool)
        await unit.commit()
        await shop.run(takes_shop)
        await shop.run(takes_number)  # type: ignore[arg-type]


def takes_shop(_: SyncShop) -> None: ...


def takes_number(_: int) -> None: ...

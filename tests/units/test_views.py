"""Views: read models in place of entities, on every backend."""

import asyncio

import pytest
from pydantic import BaseModel

from sqlrepo import AsyncBaseRepository, InvalidLiteralError, NotFoundError
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import Todo, TodoQuery, TodoRow, Todos, todo

BY_PRIORITY = TodoQuery(order_by="-due,priority", limit=2)


class Key(BaseModel):
    key: str


KEYS = [Key(key=key) for key in "abcde"]


@pytest.fixture
def todos(db):
    with Todos(db) as todos:
        todos.add_many([Todo(key=key, priority=number) for number, key in enumerate("abcde")])
        yield todos


def pages_of(todos, **options):
    page = todos.scroll(BY_PRIORITY, **options)
    yield page
    while page.next:
        page = todos.scroll(BY_PRIORITY, after=page.next, **options)
        yield page


class TestEveryCall:
    def test_takes_a_view(self, todos):
        ids = {one.key: one.id for one in todos.find()}
        assert todos.get(ids["b"], into=Key) == Key(key="b")
        assert todos.get(ids["b"], into=Key, lock="update") == Key(key="b")
        assert todos.get_or_none(0, into=Key) is None
        assert todos.get_many([ids["c"], 0, ids["a"], ids["c"]], into=Key) == [Key(key=key) for key in "cac"]
        assert todos.one(key="d", into=Key) == todos.one_or_none(todo.key == "d", into=Key) == Key(key="d")
        assert todos.one_or_none(key="x", into=Key) is None
        assert todos.first(order_by="-priority", into=Key) == Key(key="e")
        assert todos.find(order_by="priority", into=Key) == KEYS
        assert todos.page(TodoQuery(order_by="priority", limit=2, offset=1), into=Key).items == KEYS[1:3]
        assert list(todos.stream(order_by="priority", into=Key)) == KEYS
        assert list(todos.chunks(order_by="priority", into=Key)) == [KEYS]
        with pytest.raises(NotFoundError):
            todos.get(0, into=Key)

    def test_an_async_repository_takes_one_too(self):
        asyncio.run(read_asynchronously())

    def test_cursors_go_on_from_fields_that_the_view_lacks(self, todos):
        assert [one for page in pages_of(todos, into=Key) for one in page.items] == KEYS
        whole, brief = list(pages_of(todos)), list(pages_of(todos, into=Key))
        assert [page.next for page in whole] == [page.next for page in brief]
        back = todos.scroll(BY_PRIORITY, before=brief[1].previous, into=Key)
        assert (back.items, back.previous) == (KEYS[:2], None)
        with pytest.raises(InvalidLiteralError):
            todos.scroll(TodoQuery(limit=2), after=brief[0].next, into=Key)

    def test_a_stream_goes_on_from_fields_that_the_view_lacks(self, todos, monkeypatch):
        monkeypatch.setattr("sqlrepo.core.reading._ROWS_AT_ONCE", 2)
        assert list(todos.stream(order_by="-due,priority", into=Key)) == KEYS


class AsyncTodos(AsyncBaseRepository[Todo, int]):
    model = TodoRow


async def read_asynchronously():
    async with AsyncTodos(InMemoryDatabase()) as todos:
        await todos.add_many([Todo(key=key, priority=number) for number, key in enumerate("abcde")])
        assert await todos.one(key="a", into=Key) == await todos.one_or_none(key="a", into=Key) == KEYS[0]
        assert await todos.get(1, into=Key) == await todos.get_or_none(1, into=Key) == KEYS[0]
        assert await todos.get_many([2, 1], into=Key) == [KEYS[1], KEYS[0]]
        assert await todos.first(order_by="-priority", into=Key) == KEYS[4]
        assert (await todos.page(TodoQuery(limit=5), into=Key)).items == KEYS
        assert (await todos.scroll(BY_PRIORITY, into=Key)).items == KEYS[:2]
        assert [one async for one in todos.stream(into=Key)] == KEYS

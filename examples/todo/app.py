"""The to-dos over HTTP; knows the domain and the unit of work, and nothing of the database behind them."""

from typing import Annotated

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

from examples.todo.domain import Todo, TodoQuery
from examples.todo.storage import Store, TodoUnit, database_url, storage
from sqlrepo import Page
from sqlrepo.fastapi import Links, filters, install, override, provide, validation_problem


class NewTodo(BaseModel):
    """What a client says to create a to-do: everything but the id, which the store gives."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1)
    value: str
    done: bool = False
    priority: int = 0


class TodoChanges(BaseModel):
    """What a client may change; only what it sends counts, so the defaults here are never written."""

    model_config = ConfigDict(extra="forbid")

    value: str = ""
    done: bool = False
    priority: int = 0


def database() -> Store:
    """The store; made once, when a request first needs it."""
    return storage(database_url())


# A unit of a request's own: committed before the answer leaves, rolled back if the endpoint raises.
Writing = Annotated[TodoUnit, provide(TodoUnit, database)]
# For requests that only read: it takes no write lock, so readers do not wait for writers.
Reading = Annotated[TodoUnit, provide(TodoUnit, database, read_only=True)]

router = APIRouter(prefix="/todos", tags=["to-dos"])


@router.post("", status_code=201)
def create_todo(new: NewTodo, unit: Writing) -> Todo:
    """Stores a new to-do."""
    return unit.todos.add(Todo(**new.model_dump()))


@router.get("")
def find_todos(query: Annotated[TodoQuery, filters(TodoQuery)], unit: Reading, links: Links) -> Page[Todo]:
    """The to-dos that fit all the filters, in the order asked for."""
    return links(unit.todos.page(query), query)


# `:path` because a key is any text, and some text has a slash in it.
@router.get("/{key:path}")
def get_todo(key: str, unit: Reading) -> Todo:
    """One to-do by its key."""
    return unit.todos.by_key(key)


@router.patch("/{key:path}")
def change_todo(key: str, changes: TodoChanges, unit: Writing) -> Todo:
    """Changes the fields that were sent and leaves the others alone."""
    return unit.todos.change(key, changes.model_dump(exclude_unset=True))


@router.delete("/{key:path}", status_code=204)
def delete_todo(key: str, unit: Writing) -> None:
    """Removes one to-do."""
    unit.todos.remove(unit.todos.by_key(key))


def create_app(db: Store | None = None) -> FastAPI:
    """The application; over a store of its own where one is given, as tests do."""
    app = FastAPI(title="To-dos")
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, validation_problem)  # FastAPI's own repeats the input
    install(app, db or database)  # answers the store's errors, and closes it at the end
    if db is not None:
        override(app, Writing, db)
        override(app, Reading, db)
    return app

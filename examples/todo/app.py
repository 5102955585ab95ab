"""The to-dos over HTTP; knows the domain and the unit of work, and nothing of the database behind them."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from examples.todo.domain import Todo, TodoQuery
from examples.todo.storage import TodoUnit, storage
from sqlrepo import InvalidValueError, NotFoundError, Page, QueryError, RepositoryError, UniqueViolationError

DEFAULT_URL = "sqlite:///todo.db"


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


class Problem(BaseModel):
    """Why a request was refused, and which fields were the reason."""

    detail: str
    fields: list[str] = []


# Both are `async` because they only build an object: FastAPI would send a plain function to a thread.
async def writing(request: Request) -> TodoUnit:
    """A unit of work of this request's own, not begun yet."""
    return TodoUnit(request.app.state.db)


async def reading(request: Request) -> TodoUnit:
    """The same for requests that only read: it takes no write lock, so readers do not wait for writers."""
    return TodoUnit(request.app.state.db, read_only=True)


Writing = Annotated[TodoUnit, Depends(writing)]
Reading = Annotated[TodoUnit, Depends(reading)]

router = APIRouter(prefix="/todos", tags=["to-dos"])


# The `with` stands inside each function: its end commits, and only then does the answer leave. A dependency with
# `yield` would commit after the answer, and a client that reads at once would not find what it has just written.
@router.post("", status_code=201, responses={409: {"model": Problem}})
def create_todo(new: NewTodo, unit: Writing) -> Todo:
    """Stores a new to-do."""
    with unit:
        return unit.todos.add(Todo(**new.model_dump()))


@router.get("")
def find_todos(query: Annotated[TodoQuery, Query()], unit: Reading) -> Page[Todo]:
    """The to-dos that fit all the filters, in the order asked for."""
    with unit:
        return unit.todos.page(query)


# `:path` because a key is any text, and some text has a slash in it.
@router.get("/{key:path}", responses={404: {"model": Problem}})
def get_todo(key: str, unit: Reading) -> Todo:
    """One to-do by its key."""
    with unit:
        return unit.todos.by_key(key)


@router.patch("/{key:path}", responses={404: {"model": Problem}})
def change_todo(key: str, changes: TodoChanges, unit: Writing) -> Todo:
    """Changes the fields that were sent and leaves the others alone."""
    with unit:
        return unit.todos.change(key, changes.model_dump(exclude_unset=True))


@router.delete("/{key:path}", status_code=204, responses={404: {"model": Problem}})
def delete_todo(key: str, unit: Writing) -> None:
    """Removes one to-do."""
    with unit:
        unit.todos.remove(unit.todos.by_key(key))


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """The answer to an error of the repository; one that is nobody's input is raised again, as a 500."""
    # The bodies are built from the error's fields, never from its text: no SQL and no other row's values leave here.
    match error:
        case NotFoundError():
            return _problem(404, "There is no such to-do.")
        case UniqueViolationError(fields=fields):
            return _problem(409, "There is one already.", *fields)
        case InvalidValueError(field=field, reason=reason):
            return _problem(422, reason, field)
        case QueryError():
            return _problem(422, "This cannot be asked.")
        case RepositoryError(retryable=True):
            return _problem(503, "Busy; please try again.", retry_after=1)
        case _:
            raise error


async def misread(_: Request, error: Exception) -> JSONResponse:
    """The answer to a request that does not fit; FastAPI's own repeats the input, which may be no text at all."""
    wrong = error.errors() if isinstance(error, RequestValidationError) else []
    return _problem(422, "; ".join(each["msg"] for each in wrong), *(str(each["loc"][-1]) for each in wrong))


def _problem(status: int, detail: str, *fields: str, retry_after: int | None = None) -> JSONResponse:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse(Problem(detail=detail, fields=list(fields)).model_dump(), status, headers)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Gives the store's connections back when the server ends."""
    yield
    app.state.db.dispose()


def create_app(url: str | None = None) -> FastAPI:
    """The application over the store of `url`, else of DATABASE_URL, else a SQLite file beside you."""
    app = FastAPI(title="To-dos", lifespan=lifespan)
    app.state.db = storage(url or os.environ.get("DATABASE_URL") or DEFAULT_URL)
    app.include_router(router)
    app.add_exception_handler(RepositoryError, refuse)
    app.add_exception_handler(RequestValidationError, misread)
    return app

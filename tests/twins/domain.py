"""Units of work of different shape, and their query objects, for the twins."""

from datetime import date
from typing import Annotated, Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryObject, Where, contains
from sqlrepo.sqlalchemy.types import Text


class Base(DeclarativeBase):
    pass


# -- the todo: a generated key, a unique text


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


class Todos(BaseRepository[Todo, int]):
    model = TodoRow


class Shop(BaseUnitOfWork):
    todos: Todos

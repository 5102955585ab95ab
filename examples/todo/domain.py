"""What a to-do is, and what may be asked about to-dos; knows nothing of tables and nothing of HTTP."""

from typing import Literal

from pydantic import BaseModel, Field

from sqlrepo import QueryObject, fields


class Todo(BaseModel):
    """One thing to do, known to people by its key."""

    id: int | None = None
    key: str
    value: str
    done: bool = False
    priority: int = 0


t = fields(Todo)


class TodoQuery(QueryObject[Todo]):
    """The filters and orders a client may use; every other one is refused."""

    key_contains: str | None = None
    value_contains: str | None = None
    done: bool | None = None
    order_by: Literal["key", "-key", "priority", "-priority", "-priority,key"] = "-priority,key"
    limit: int = Field(default=50, ge=0, le=500)
    offset: int = Field(default=0, ge=0)

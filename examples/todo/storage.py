"""Where to-dos are kept; the only module here that imports SQLAlchemy."""

from collections.abc import Mapping
from typing import TypeAlias

from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from examples.todo.domain import Todo, t
from sqlrepo import BaseRepository, BaseUnitOfWork
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database

Store: TypeAlias = Database | InMemoryDatabase


class Base(DeclarativeBase):
    """The tables of this application."""


class TodoRow(Base):
    """The table; memory takes its limits and its unique key from here too."""

    __tablename__ = "todo"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(100), unique=True)
    value: Mapped[str] = mapped_column(String(1000))
    done: Mapped[bool]
    priority: Mapped[int]


class Todos(BaseRepository[Todo, int]):
    """The to-dos, looked up the way the service's clients do: by key."""

    model = TodoRow

    def by_key(self, key: str) -> Todo:
        """The to-do of that key, or NotFoundError."""
        return self.one(t.key == key)

    def change(self, key: str, changes: Mapping[str, object]) -> Todo:
        """The to-do of that key after the changes, or NotFoundError."""
        # One UPDATE of the given fields alone: two clients changing different fields never undo each other.
        if changes:
            self.update_where(t.key == key, set_=changes)
        return self.by_key(key)


class TodoUnit(BaseUnitOfWork):
    """One transaction over the to-dos."""

    todos: Todos


def storage(url: str) -> Store:
    """The store the URL names, its table ready: `memory://`, or any URL SQLAlchemy takes."""
    if url.startswith("memory:"):
        return InMemoryDatabase()
    db = Database(url)
    Base.metadata.create_all(db.engine)
    return db

"""Where to-dos are kept; the only module here that imports SQLAlchemy."""

import os
from collections.abc import Mapping
from typing import TypeAlias

from sqlalchemy import CheckConstraint, Index, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from examples.todo.domain import Todo, t
from sqlrepo import BaseRepository, BaseUnitOfWork
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database, types

Store: TypeAlias = Database | InMemoryDatabase


class Base(DeclarativeBase):
    """The tables of this application."""

    # Without names of ours each database gives its own, or none, and no migration could say which constraint to drop.
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class TodoRow(Base):
    """The table; memory takes its lengths, its unique key and its check from here too."""

    __tablename__ = "todo"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(types.Text(100), unique=True)
    value: Mapped[str] = mapped_column(types.Text(1000))
    done: Mapped[bool]
    priority: Mapped[int] = mapped_column()  # an object, for the index to name

    __table_args__ = (
        CheckConstraint(key != "", name="key_not_empty"),
        Index("ix_todo_priority_key", priority.desc(), key),  # the default order of TodoQuery
    )


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


def database_url() -> str:
    """The store that is meant where nobody says which: DATABASE_URL, else a SQLite file beside you."""
    return os.environ.get("DATABASE_URL") or "sqlite:///todo.db"


def in_memory(url: str) -> bool:
    """Whether a URL names no database."""
    return url.startswith("memory:")


def storage(url: str) -> Store:
    """The store of that URL: `memory://`, or any URL SQLAlchemy takes; its tables are made by the migrations."""
    return InMemoryDatabase() if in_memory(url) else Database(url)

"""The entity, table and units of the async tests."""

from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, fields
from sqlrepo.sqlalchemy.types import Json


class Base(DeclarativeBase): ...


class NoteRow(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(20), unique=True)
    value: Mapped[int]
    version: Mapped[int]


class Note(BaseModel):
    id: int | None = None
    key: str
    value: int = 0
    version: int | None = None


note = fields(Note)


class Notes(BaseRepository[Note, int]):
    model = NoteRow
    version = "version"

    def by_key(self, key: str) -> Note:
        return self.one(note.key == key)


class Book(BaseUnitOfWork):
    notes: Notes


class AsyncNotes(AsyncBaseRepository[Note, int]):
    model = NoteRow
    version = "version"

    async def by_key(self, key: str) -> Note:
        return await self.one(note.key == key)


class AsyncBook(AsyncBaseUnitOfWork):
    sync = Book
    notes: AsyncNotes


class Detail(BaseModel):
    name: str
    ratio: float


class PaperRow(Base):
    __tablename__ = "paper"
    id: Mapped[int] = mapped_column(primary_key=True)
    details: Mapped[list[Detail] | None] = mapped_column(Json(list[Detail]))
    extra: Mapped[Any | None] = mapped_column(Json())


class Paper(BaseModel):
    id: int | None = None
    details: list[Detail] | None = None
    extra: Any = None


class AsyncPapers(AsyncBaseRepository[Paper, int]):
    model = PaperRow

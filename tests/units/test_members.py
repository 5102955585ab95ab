"""Members of text and integer enumerations, kept in columns that know nothing of them."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import product

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, between, fields, in_, matches


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(60)}  # noqa: RUF012  # MariaDB wants a length


class Tone(StrEnum):
    """Whose names and values sort in opposite ways."""

    ALTO = "z"
    BASS = "a"


class Size(IntEnum):
    """Whose names and values sort in opposite ways."""

    BIG = 9
    MIDDLE = 5
    SMALL = 1


class TaskRow(Base):
    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True)
    tone: Mapped[str]
    size: Mapped[int]


class Task(BaseModel):
    id: int | None = None
    tone: Tone
    size: Size


@dataclass(frozen=True)
class TaskData:
    tone: Tone
    size: Size
    id: int | None = None


@pytest.fixture(params=[Task, TaskData])
def tasks(request, empty):
    """A repository of all members, and its entity's fields."""

    class Tasks(BaseRepository[request.param, int]):
        model = TaskRow

    with Tasks(empty(Base)) as tasks:
        tasks.add_many([request.param(tone=tone, size=size) for tone, size in product(Tone, Size)])
        yield tasks, fields(request.param)


def test_members_over_plain_columns_come_back_as_members(tasks):
    repository, _ = tasks

    for one in repository.find():
        assert (type(one.tone), type(one.size)) == (Tone, Size)


def test_members_over_plain_columns_compare_as_they_are_stored(tasks):
    repository, f = tasks
    for criterion, wanted in (
        (f.size > Size.SMALL, lambda one: one.size > 1),
        (between(f.size, Size.SMALL, Size.MIDDLE), lambda one: 1 <= one.size <= 5),
        (f.tone < Tone.ALTO, lambda one: one.tone < "z"),
        (in_(f.tone, [Tone.BASS]), lambda one: one.tone == "a"),
        (f.size != Size.BIG, lambda one: one.size != 9),
    ):
        rows = repository.find()
        expected = [one.id for one in rows if wanted(one)]
        assert [one.id for one in repository.find(criterion)] == expected
        assert [one.id for one in rows if matches(criterion, one)] == expected

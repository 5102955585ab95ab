"""Members of text and integer enumerations, kept in columns that know nothing of them."""

from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from itertools import product

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import BaseRepository, between, fields, in_, matches
from sqlrepo.sqlalchemy import Database
from tests.units.domain import own_base

Base = own_base()


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


class Grade(Enum):
    GOOD = "g"
    FINE = "g"  # an alias  # noqa: PIE796
    BAD = "b"


@pytest.mark.parametrize(
    ("options", "label"),
    [({}, "BAD"), ({"omit_aliases": False}, "BAD"), ({"values_callable": lambda cls: [one.value for one in cls]}, "b")],
)
def test_members_are_kept_by_the_labels_sqlalchemy_gives_them(empty, options, label):
    class MarkRow(own_base()):
        __tablename__ = "mark"
        id: Mapped[int] = mapped_column(primary_key=True)
        grade: Mapped[Grade] = mapped_column(sa.Enum(Grade, native_enum=False, **options))

    @dataclass
    class Mark:
        id: int
        grade: Grade

    class Marks(BaseRepository[Mark, int]):
        model = MarkRow

    db = empty(MarkRow)
    with Marks(db) as marks:
        marks.add_many([Mark(1, Grade.BAD), Mark(2, Grade.FINE)])
        assert marks.find(grade=Grade.GOOD) == [Mark(2, Grade.GOOD)]
        assert marks.get(1).grade is Grade.BAD
    assert Marks.definition().schema.by_name["grade"].type.labels[Grade.BAD] == label
    if isinstance(db, Database):
        with db.engine.connect() as connection:
            stored = connection.execute(sa.text("SELECT grade FROM mark WHERE id = 1")).scalar_one()
            assert stored == label

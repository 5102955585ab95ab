"""An entity that has everything a case may need, for sync and async units."""

from dataclasses import dataclass, field, replace
from datetime import date

from sqlalchemy import CheckConstraint, Date, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, HasMany


@dataclass
class Step:
    text: str
    id: int | None = None
    hours: int | None = None


@dataclass
class Place:
    city: str
    street: str | None = None


@dataclass
class Task:
    key: str
    id: int | None = None
    note: str | None = None
    due: date | None = None
    code: str | None = None
    parent: int | None = None
    done: bool = False
    priority: int = 0
    version: int | None = None
    steps: list[Step] = field(default_factory=list)
    labels: frozenset[str] = frozenset()
    place: Place = field(default_factory=lambda: Place("home"))
    other_place: Place | None = None


class Base(DeclarativeBase): ...


class TaskRow(Base):
    __tablename__ = "task"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(20), unique=True)
    note: Mapped[str | None] = mapped_column(String(40))
    due: Mapped[date | None] = mapped_column(Date)
    code: Mapped[str | None] = mapped_column(String(10), unique=True)
    parent: Mapped[int | None] = mapped_column(ForeignKey("task.id", name="task_parent"))
    done: Mapped[bool]
    place_city: Mapped[str] = mapped_column(String(20))
    place_street: Mapped[str | None] = mapped_column(String(20))
    other_place_city: Mapped[str | None] = mapped_column(String(20))
    other_place_street: Mapped[str | None] = mapped_column(String(20))
    priority: Mapped[int] = mapped_column()
    version: Mapped[int]
    __table_args__ = (CheckConstraint(priority >= 0, name="task_priority"),)


class StepRow(Base):
    __tablename__ = "task_step"
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"))
    text: Mapped[str] = mapped_column(String(20))
    hours: Mapped[int | None]
    place: Mapped[int]
    __table_args__ = (UniqueConstraint("task_id", "place"),)


class LabelRow(Base):
    __tablename__ = "task_label"
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(20), primary_key=True)


PARTS = {"steps": HasMany(StepRow, order="place"), "labels": HasMany(LabelRow, value="name")}


class Tasks(BaseRepository[Task, int]):
    model = TaskRow
    version = "version"
    parts = PARTS


class Work(BaseUnitOfWork):
    tasks: Tasks


def make(n: int) -> Task:
    due = date(2024, 1, n) if n % 3 else None
    steps = [Step(f"Step {n}.{number}", hours=number + n % 2 or None) for number in range(n % 4)]
    place, other = Place(f"City {n % 3}", "Street" if n % 2 else None), Place(f"City {n}") if n % 3 else None
    labels = frozenset(f"label {number}" for number in range(n % 3 * 2))
    task = Task(f"Key {n}", None, f"Note {n}", due, f"C{n}", done=n % 2 == 0, priority=n % 4)
    return replace(task, steps=steps, labels=labels, place=place, other_place=other)


def change(task: Task) -> Task:
    return replace(task, priority=task.priority + 10)


class AsyncTasks(AsyncBaseRepository[Task, int]):
    model = TaskRow
    version = "version"
    parts = PARTS


class AsyncWork(AsyncBaseUnitOfWork):
    tasks: AsyncTasks

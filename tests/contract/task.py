"""An entity that has everything a case may need, for sync and async units."""

from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import CheckConstraint, Date, ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork


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
    priority: Mapped[int] = mapped_column()
    version: Mapped[int]
    __table_args__ = (CheckConstraint(priority >= 0, name="task_priority"),)


class Tasks(BaseRepository[Task, int]):
    model = TaskRow
    version = "version"


class Work(BaseUnitOfWork):
    tasks: Tasks


def make(n: int) -> Task:
    due = date(2024, 1, n) if n % 3 else None
    return Task(f"Key {n}", note=f"Note {n}", due=due, code=f"C{n}", done=n % 2 == 0, priority=n % 4)


def change(task: Task) -> Task:
    return replace(task, priority=task.priority + 10)


class AsyncTasks(AsyncBaseRepository[Task, int]):
    model = TaskRow
    version = "version"


class AsyncWork(AsyncBaseUnitOfWork):
    tasks: AsyncTasks

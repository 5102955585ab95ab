"""Classes declared inside functions: by annotations as they are, by postponed ones, and on each Python."""

import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from sqlrepo import MappingError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database

IMPORTS = """
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import attrs
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryObject, Summary, Where, in_

if TYPE_CHECKING:
    from elsewhere import Unknown
"""
ENTITIES = {
    "model": """
    class Todo(BaseModel):
        id: int | None = None
        text: Title
        steps: list[Step] = []
""",
    "dataclass": """
    @dataclass
    class Todo:
        text: Title
        id: int | None = None
        steps: list[Step] = field(default_factory=list)
""",
    "attrs": """
    @attrs.define
    class Todo:
        text: Title
        id: int | None = None
        steps: list[Step] = attrs.field(factory=list)
""",
}
STEP = """
    Title = Annotated[str, "a title"]

    @dataclass
    class Step:
        name: str
"""
GLOBAL = (
    "    global Title, Step\n"  # where postponed annotations of dataclasses are looked up; Pydantic looks in functions
)
REST = """
    class Base(DeclarativeBase): ...

    class TodoRow(Base):
        __tablename__ = "todo"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(20))
        steps: Mapped[list["StepRow"]] = relationship(cascade="all, delete-orphan")

    class StepRow(Base):
        __tablename__ = "step"
        id: Mapped[int] = mapped_column(primary_key=True)
        todo_id: Mapped[int] = mapped_column(sa.ForeignKey("todo.id"))
        name: Mapped[str] = mapped_column(sa.String(20))

    class TodoQuery(QueryObject[Todo]):
        text_contains: str | None = None
        chosen: Annotated[list[int] | None, Where(lambda t, v: in_(t.id, v))] = None

    class Totals(Summary[Todo]):
        text: str
        id_max: int | None

    class Brief(BaseModel):
        id: int
        text: str
"""
REPOSITORY = """
    class Todos(BaseRepository[Todo, int]):
        model = TodoRow
        version = None
"""
UNIT = """
    class Shop(BaseUnitOfWork):
        todos: Todos
        hint: Unknown
"""


@pytest.fixture(params=["", "from __future__ import annotations\n"], ids=["as they are", "postponed"])
def declared(request, tmp_path):
    """A function that declares classes in a function of a module."""
    modules = []

    def declare(*parts):
        path = tmp_path / f"declared_{len(modules)}.py"
        path.write_text(
            "".join((request.param, IMPORTS, "\n\ndef declare():", *parts, "    return globals() | locals()\n"))
        )
        spec = spec_from_file_location(path.stem, path)
        module = sys.modules[path.stem] = module_from_spec(spec)
        modules.append(path.stem)
        spec.loader.exec_module(module)
        return module.declare()

    declare.postponed = bool(request.param)
    declare.later = declare.postponed or sys.version_info >= (3, 14)
    yield declare
    for name in modules:
        del sys.modules[name]


def quoted(text):
    """What Python before 3.14 needs for a name that is defined later, or nowhere."""
    return text.replace(": Todos", ": 'Todos'").replace("Unknown", "'Unknown'")


def used(made, database):
    if isinstance(database, Database):
        made["Base"].metadata.create_all(database.engine)
    todo, step = made["Todo"], made["Step"]
    with made["Shop"](database) as shop:
        added = shop.todos.add(todo(text="a", steps=[step(name="first")]))
        assert shop.todos.get(added.id) == added
        assert shop.todos.find(made["TodoQuery"](text_contains="a", chosen=[added.id])) == [added]
        assert [vars(one) for one in shop.todos.find(into=made["Brief"])] == [{"id": added.id, "text": "a"}]
        assert [one.id_max for one in shop.todos.summarize(made["Totals"])] == [added.id]
        with pytest.raises(MappingError, match="'Unknown' is not defined at run time"):
            _ = shop.hint
    database.dispose()


@pytest.mark.parametrize("make", [InMemoryDatabase, lambda: Database("sqlite://")], ids=["memory", "sqlite"])
@pytest.mark.parametrize("entity", ENTITIES)
def test_classes_local_to_a_function(declared, entity, make):
    unit = UNIT if declared.later else quoted(UNIT)
    outside = "\n" + GLOBAL * (declared.postponed and entity != "model")
    used(declared(outside, STEP, ENTITIES[entity], REST, REPOSITORY, unit), make())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated when they are read from Python 3.14")
@pytest.mark.parametrize("declared", [""], ids=["as they are"], indirect=True)
def test_a_unit_may_come_before_its_repositories(declared):
    used(declared(STEP, ENTITIES["dataclass"], REST, UNIT, REPOSITORY), InMemoryDatabase())

"""Entity and table must fit, which is said where the repository class is defined."""

from dataclasses import dataclass, field
from datetime import date
from types import new_class

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, MappingError
from sqlrepo.memory import Column, InMemoryRepository, Kind, Schema, ValueType
from tests.units.domain import Account, AccountRow, Tag, TagRow, Todo, TodoRow, own_base


def define(entity, model, **options):
    body = {"model": model, "__module__": __name__, **options}
    return new_class("Defined", (BaseRepository[entity, int],), exec_body=lambda names: names.update(body))


class Short(BaseModel):
    """Lacks ``value``, ``done`` and ``priority``, which a row must have."""

    id: int | None = None
    key: str


class Wide(Todo):
    prioritty: int = 0


def test_an_entity_that_lacks_a_required_column_is_refused():
    with pytest.raises(MappingError, match="value"):
        define(Short, TodoRow)


def test_a_field_without_a_column_is_refused_with_the_nearest_name():
    with pytest.raises(MappingError, match="'priority'"):
        define(Wide, TodoRow)


def test_an_unmapped_class_is_refused_at_first_use(db):
    class Plain: ...

    repository = define(Todo, Plain)

    with pytest.raises(MappingError):
        repository(db)


@pytest.mark.parametrize("entity", [int, dict, str])
def test_a_class_without_fields_is_refused(entity):
    with pytest.raises(MappingError):
        define(entity, TodoRow)


def test_a_plain_class_is_refused():
    class Plain:
        id: int

    with pytest.raises(MappingError):
        define(Plain, TodoRow)


def test_a_repository_without_a_table_is_refused_at_first_use(db):
    class Nowhere(BaseRepository[Todo, int]): ...

    with pytest.raises(MappingError):
        Nowhere(db)


def test_a_generic_repository_is_refused_when_it_is_used(db):
    with pytest.raises(MappingError):
        BaseRepository(db)


@pytest.mark.parametrize(
    "columns", [{"kye": "key"}, {"key": "kye"}, {"key": "nope", "value": "value"}, {"key": "value"}, {"id": "key"}]
)
def test_renaming_what_is_not_there_or_twice_is_refused(columns):
    with pytest.raises(MappingError):
        define(Todo, TodoRow, columns=columns)


@pytest.mark.parametrize("version", ["nope", "key", "due"])
def test_a_version_is_an_integer_column(version):
    with pytest.raises(MappingError):
        define(Todo, TodoRow, version=version)


@pytest.mark.parametrize("natural_key", [("nope",), ("value",), ("key", "value")])
def test_an_identity_is_a_declared_unique(db, natural_key):
    with pytest.raises(MappingError):
        define(Todo, TodoRow, natural_key=natural_key)(db)


def test_a_class_local_to_a_function_is_fine(empty):
    @dataclass
    class Note:
        text: str
        when: date | None = None
        id: int | None = None

    class NoteRow(own_base()):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        when: Mapped[date | None]

    class Notes(BaseRepository[Note, int]):
        model = NoteRow

    class Book(BaseUnitOfWork):
        notes: Notes

    with Book(empty(NoteRow)) as book:
        assert book.notes.add(Note("a")) == Note("a", None, 1)


def test_relations_defined_later_are_not_touched_early(empty, backend):
    base = own_base()

    class ChildRow(base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("parent.id"))
        parent: Mapped["ParentRow"] = relationship(back_populates="children")

    class Child(BaseModel):
        id: int | None = None
        name: str
        parent_id: int | None = None

    class Children(BaseRepository[Child, int]):
        model = ChildRow

    class ParentRow(base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list["ChildRow"]] = relationship(back_populates="parent")

    db = empty(base)
    if backend == "sqlite":
        assert Children(db).find() == []


def test_a_model_that_is_mapped_later_is_checked_at_first_use(empty):
    base = own_base()

    class NoteRow: ...

    class Note(BaseModel):
        id: int | None = None
        text: str

    class Notes(BaseRepository[Note, int]):
        model = NoteRow

    table = sa.Table(
        "note",
        base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.String(60), nullable=False),
    )
    base.registry.map_imperatively(NoteRow, table)

    with Notes(empty(base)) as notes:
        assert notes.add(Note(text="a")) == Note(id=1, text="a")


def test_a_generated_column_needs_a_key():
    with pytest.raises(MappingError, match="no primary key"):
        Schema("t", (Column("a", ValueType(Kind.INTEGER, int), generated=True),), ())


def test_the_names_in_a_schema_must_be_columns():
    column = Column("a", ValueType(Kind.INTEGER, int))
    for names in ({"key": ("b",)}, {"key": ("a",), "version": "b"}):
        with pytest.raises(MappingError, match="b"):
            Schema("t", (column,), **names)


def test_a_model_mapped_to_a_join_is_refused(db):
    class Joined(own_base()):
        __table__ = TodoRow.__table__.join(TagRow.__table__, TodoRow.key == TagRow.owner)
        id = TodoRow.__table__.c.id
        value = TodoRow.__table__.c.value

    with pytest.raises(MappingError):
        define(Todo, Joined)(db)


def test_options_given_in_a_base_class_are_inherited_and_replaced(db):
    class Common(BaseRepository[Account, int]):
        model = AccountRow

    class Ascii(Common):
        fold = "ascii"

    assert Common.definition().mapper._fold == "unicode"
    assert Ascii.definition().mapper._fold == "ascii"


def test_a_memory_repository_takes_a_schema_by_hand():
    described = Schema(
        "tag",
        (Column("owner", ValueType(Kind.TEXT, str, length=3)), Column("name", ValueType(Kind.TEXT, str)),
         Column("weight", ValueType(Kind.INTEGER, int))),
        ("owner", "name"),
    )  # fmt: skip

    class Tags(InMemoryRepository[Tag, tuple[str, str]]):
        schema = described

    tags = Tags()

    with tags:
        assert tags.add(Tag(owner="a", name="b")) == tags.get(("a", "b"))


def test_a_version_that_is_no_integer_is_refused():
    class StampRow(own_base()):
        __tablename__ = "stamp"
        id: Mapped[int] = mapped_column(primary_key=True)
        mark: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {"version_id_col": mark}

    class Stamp(BaseModel):
        id: int | None = None

    with pytest.raises(MappingError):
        define(Stamp, StampRow)


def test_a_class_of_a_mapped_inheritance_is_refused():
    class AnimalRow(own_base()):
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(sa.String(20))
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}

    class DogRow(AnimalRow):
        __mapper_args__ = {"polymorphic_identity": "dog"}

    class Animal(BaseModel):
        id: int | None = None
        kind: str

    for model in (AnimalRow, DogRow):
        with pytest.raises(MappingError):
            define(Animal, model)


def test_a_dataclass_field_that_cannot_be_given_back_is_refused():
    @dataclass
    class Kept:
        name: str
        balance: int = field(init=False, default=3)
        id: int | None = None

    with pytest.raises(MappingError, match="balance"):
        define(Kept, AccountRow)

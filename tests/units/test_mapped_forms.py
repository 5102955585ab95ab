"""Mapped classes of every form: what of them is a column, and what is named where it is none."""

from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    column_property,
    composite,
    deferred,
    mapped_column,
    registry,
    synonym,
)
from sqlmodel import Field, SQLModel

from sqlrepo import BaseRepository, BaseUnitOfWork, CheckViolationError, ForeignKeyViolationError, MappingError


class Base(DeclarativeBase): ...


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class SpotRow(Base):
    """A column of another name, one loaded late, and five attributes that are no columns."""

    __tablename__ = "spot"
    id: Mapped[int] = mapped_column("spot_id", primary_key=True)
    x: Mapped[int] = mapped_column("east")
    y: Mapped[int] = mapped_column("north")
    note = deferred(mapped_column(sa.String(20), nullable=True))
    point = composite(Point, "x", "y")
    east = synonym("x")
    sum_of_both = column_property(x + y)

    @hybrid_property
    def far(self):
        return self.x > 100


class Spot(BaseModel):
    id: int | None = None
    x: int
    y: int
    note: str | None = None


class Spots(BaseRepository[Spot, int]):
    model = SpotRow


def test_columns_are_kept_whatever_else_the_class_has(empty):
    with Spots(empty(Base)) as spots:
        stored = spots.add(Spot(x=1, y=2, note="n"))
        assert spots.get(1) == stored == Spot(id=1, x=1, y=2, note="n")
        assert spots.update(stored.model_copy(update={"y": 5})).y == 5
        assert spots.count(x=1, y=5) == 1


@pytest.mark.parametrize("name", ["point", "east", "sum_of_both", "far"])
def test_a_field_that_is_no_column_is_named_where_the_class_is_defined(name):
    entity = type("Odd", (BaseModel,), {"__annotations__": {"id": int, "x": int, "y": int, name: int}})

    with pytest.raises(MappingError) as caught:

        class Odds(BaseRepository[entity, int]):
            model = SpotRow

    assert repr(name) in str(caught.value)


# -- one pair of tables, mapped in four ways


class Declarative(DeclarativeBase): ...


class DeclaredOwner(Declarative):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)


class DeclaredPet(Declarative):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column("owner_id", sa.ForeignKey("owner.id", name="pet_owner"))
    age: Mapped[int] = mapped_column(server_default="1")
    __table_args__ = (sa.CheckConstraint(age >= 0, name="pet_age"),)


class Dataclasses(MappedAsDataclass, DeclarativeBase): ...


class DataclassOwner(Dataclasses):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)


class DataclassPet(Dataclasses):
    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column(sa.ForeignKey("owner.id", name="pet_owner"))
    age: Mapped[int] = mapped_column(server_default="1", default=None)
    __table_args__ = (sa.CheckConstraint(sa.column("age") >= 0, name="pet_age"),)


imperative = registry()
owner_table = sa.Table("owner", imperative.metadata, sa.Column("id", sa.Integer, primary_key=True))
pet_table = sa.Table(
    "pet",
    imperative.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("owner_id", sa.ForeignKey("owner.id", name="pet_owner"), nullable=False),
    age := sa.Column("age", sa.Integer, server_default="1", nullable=False),
    sa.CheckConstraint(age >= 0, name="pet_age"),
)


class ImperativeOwner: ...


class ImperativePet: ...


imperative.map_imperatively(ImperativeOwner, owner_table)
imperative.map_imperatively(ImperativePet, pet_table, properties={"owner": pet_table.c.owner_id})


class Models(SQLModel, registry=registry()): ...


class ModelOwner(Models, table=True):
    __tablename__ = "owner"
    id: int = Field(primary_key=True)


class ModelPet(Models, table=True):
    __tablename__ = "pet"
    id: int = Field(primary_key=True)
    owner: int = Field(sa_column=sa.Column("owner", sa.ForeignKey("owner.id", name="pet_owner"), nullable=False))
    age: int = Field(sa_column=sa.Column("age", sa.Integer, server_default="1", nullable=False))
    __table_args__ = (sa.CheckConstraint(sa.column("age") >= 0, name="pet_age"),)


@dataclass(frozen=True)
class Owner:
    id: int


@dataclass(frozen=True)
class Pet:
    id: int
    owner: int
    age: int | None = None


@pytest.mark.parametrize(
    ("base", "owner_row", "pet_row"),
    [
        (Declarative, DeclaredOwner, DeclaredPet),
        (Dataclasses, DataclassOwner, DataclassPet),
        (imperative, ImperativeOwner, ImperativePet),
        (Models, ModelOwner, ModelPet),
    ],
    ids=["declarative", "dataclass", "imperative", "sqlmodel"],
)
def test_constraints_are_kept_however_the_class_is_mapped(empty, base, owner_row, pet_row):
    class Owners(BaseRepository[Owner, int]):
        model = owner_row

    class Pets(BaseRepository[Pet, int]):
        model = pet_row

    class Home(BaseUnitOfWork):
        pets: Pets
        owners: Owners

    db = empty(base)
    with Home(db) as home:
        home.owners.add(Owner(1))
        assert home.pets.add(Pet(1, 1)) == Pet(1, 1, 1)
        with pytest.raises(CheckViolationError) as check, home.savepoint():
            home.pets.add(Pet(2, 9, -1))
        assert check.value.constraint == "pet_age"
        for write in (lambda: home.pets.add(Pet(2, 9)), lambda: home.owners.delete(1)):
            with pytest.raises(ForeignKeyViolationError) as caught, home.savepoint():
                write()
            if "fk_error_details" not in db.missing_capabilities:
                assert (caught.value.constraint, caught.value.fields) == ("pet_owner", ("owner",))
        home.pets.delete(1)
        home.owners.delete(1)

"""Cargo with every kind of part, and rows of other roots around it, for tests that play with it at random."""

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, HasMany, HasOne, fields
from tests.units.domain import own_base

Base = own_base()


class PortRow(Base):
    __tablename__ = "port_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    country: Mapped[str | None]
    hidden: Mapped[bool]


class LabelRow(Base):
    __tablename__ = "label_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]


class CargoRow(Base):
    __tablename__ = "cargo_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    rank: Mapped[int | None]
    port_id: Mapped[int | None] = mapped_column(sa.ForeignKey(PortRow.id))
    dims_width: Mapped[int | None]
    dims_height: Mapped[int | None]
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(order_by="LineRow.position", cascade="all, delete-orphan")


def owner(**options):
    return mapped_column(sa.ForeignKey(CargoRow.id, ondelete="CASCADE"), **options)


class LineRow(Base):
    __tablename__ = "line_of_random"
    __table_args__ = (sa.UniqueConstraint("cargo_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    cargo_id: Mapped[int] = owner()
    sku: Mapped[str]
    qty: Mapped[int | None]
    position: Mapped[int]


class SerialRow(Base):  # deleted by the library: the foreign key does not cascade
    __tablename__ = "serial_of_random"
    line_id: Mapped[int] = mapped_column(sa.ForeignKey(LineRow.id), primary_key=True)
    code: Mapped[str] = mapped_column(primary_key=True)


class NoteRow(Base):
    __tablename__ = "note_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    cargo_id: Mapped[int] = mapped_column(sa.ForeignKey(CargoRow.id))
    text: Mapped[str]
    place: Mapped[int]


class MarkRow(Base):
    __tablename__ = "mark_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    cargo_id: Mapped[int] = owner()
    code: Mapped[str]
    weight: Mapped[int | None]


class ItemRow(Base):
    __tablename__ = "item_of_random"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cargo_id: Mapped[int] = owner()
    size: Mapped[int | None]


class SealRow(Base):
    __tablename__ = "seal_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    cargo_id: Mapped[int] = owner(unique=True)
    code: Mapped[str]
    level: Mapped[int | None]


class TagRow(Base):
    __tablename__ = "tag_of_random"
    cargo_id: Mapped[int] = owner(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


class StarRow(Base):
    __tablename__ = "star_of_random"
    id: Mapped[int] = mapped_column(primary_key=True)
    cargo_id: Mapped[int] = owner()
    who: Mapped[int | None]


links = sa.Table(
    "cargo_label_of_random",
    Base.metadata,
    sa.Column("cargo_id", sa.ForeignKey(CargoRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("label_id", sa.ForeignKey(LabelRow.id), primary_key=True),
)


class Port(BaseModel):
    id: int | None = None
    country: str | None = None
    hidden: bool = False


class Label(BaseModel):
    id: int | None = None
    name: str | None = None


class Star(BaseModel):
    id: int | None = None
    cargo_id: int
    who: int | None = None


class Dims(BaseModel):
    width: int
    height: int | None = None


class Line(BaseModel):
    id: int | None = None
    sku: str
    qty: int | None = None
    serials: frozenset[str] = frozenset()


class Mark(BaseModel):
    code: str
    weight: int | None = None


class Item(BaseModel):
    id: int
    size: int | None = None


class Seal(BaseModel):
    id: int | None = None
    code: str
    level: int | None = None


class Cargo(BaseModel):
    id: int | None = None
    name: str = "a"
    rank: int | None = None
    port_id: int | None = None
    dims: Dims | None = None
    lines: list[Line] = []
    notes: tuple[str, ...] = ()
    marks: list[Mark] = []
    items: list[Item] = []
    seal: Seal | None = None
    tags: frozenset[str] = frozenset()
    label_ids: set[int] = set()
    version: int = 1


class AllPorts(BaseRepository[Port, int]):
    model = PortRow


class Ports(AllPorts):
    def scope(self):
        return fields(Port).hidden == False  # noqa: E712


class Labels(BaseRepository[Label, int]):
    model = LabelRow


class Stars(BaseRepository[Star, int]):
    model = StarRow


class Cargos(BaseRepository[Cargo, int]):
    model = CargoRow
    version = "version"
    parts = {
        "lines": HasMany(parts={"serials": HasMany(SerialRow, value="code")}),
        "notes": HasMany(NoteRow, value="text", order="place"),
        "marks": HasMany(MarkRow),
        "items": HasMany(ItemRow),
        "seal": HasOne(SealRow),
        "tags": HasMany(TagRow, value="name"),
        "label_ids": HasMany(links, value="label_id"),
    }


class Depot(BaseUnitOfWork):
    cargos: Cargos
    ports: Ports
    labels: Labels
    stars: Stars


class Filling(BaseUnitOfWork):
    ports: AllPorts


def canonical(cargo, *, ids=True):
    """What has no order is sorted, and without ``ids`` the generated keys of children are left out."""
    line = {"id"} if not ids else None
    found = cargo.model_dump(exclude={"lines": {"__all__": line}, "seal": line} if line else None)
    found["marks"] = sorted(found["marks"], key=repr)
    found["items"] = sorted(found["items"], key=repr)
    return found

"""A single child in a table of its own: read and written with its owner, and asked about like a value object."""

import types
from dataclasses import dataclass, replace

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    HasOne,
    InvalidValueError,
    MappingError,
    QueryError,
    QueryObject,
    StaleEntityError,
    TransactionAbortedError,
    exists,
    fields,
    is_null,
    matches,
    not_,
    some,
)
from sqlrepo.testing import query_budget
from tests.units.domain import changed, opened, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class HouseRow(Base):
    __tablename__ = "house_of_one"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    garden: Mapped["GardenRow | None"] = relationship(cascade="all, delete-orphan")


class GardenRow(Base):
    __tablename__ = "garden_of_house"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int] = mapped_column(sa.ForeignKey(HouseRow.id, ondelete="CASCADE"), unique=True)
    plant: Mapped[str]
    size: Mapped[int | None]


class TreeRow(Base):
    __tablename__ = "tree_of_garden"
    garden_id: Mapped[int] = mapped_column(sa.ForeignKey(GardenRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


class DeedRow(Base):  # its key is the owner's, and the foreign key does not cascade
    __tablename__ = "deed_of_house"
    house_id: Mapped[int] = mapped_column(sa.ForeignKey(HouseRow.id), primary_key=True)
    signed_by: Mapped[str]


class Garden(BaseModel):
    id: int | None = None
    plant: str
    size: int | None = None
    trees: frozenset[str] = frozenset()


class Deed(BaseModel):
    owner: str


class House(BaseModel):
    id: int | None = None
    name: str = "h"
    garden: Garden | None = None
    deed: Deed
    version: int = 1


class Houses(BaseRepository[House, int]):
    model = HouseRow
    version = "version"
    parts = {
        "garden": HasOne(parts={"trees": HasMany(TreeRow, value="name")}),
        "deed": HasOne(DeedRow, columns={"owner": "signed_by"}),
    }


class Gardens(BaseRepository[GardenRow, int]): ...


class Deeds(BaseRepository[DeedRow, int]): ...


class Street(BaseUnitOfWork):
    houses: Houses


db = tables_of(Base)
street = opened(Street)


def a_house(**values):
    given = {"garden": Garden(plant="rose", size=3, trees=frozenset({"oak"})), "deed": Deed(owner="Ada")}
    return House(**{**given, **values})


class TestReadingAndWriting:
    def test_it_is_stored_read_and_deleted_with_its_owner(self, db):
        with Street(db) as street:
            with query_budget(4) as insert:
                full, bare = street.houses.add_many([a_house(), a_house(garden=None)])
            assert insert.count == 4
        assert (full.garden.plant, full.garden.trees, full.deed.owner) == ("rose", {"oak"}, "Ada")
        assert bare.garden is None
        with Street(db) as street:
            with query_budget(4):
                assert street.houses.find(order_by="id") == [full, bare]
            assert street.houses.get(full.id) == full
            street.houses.delete(full.id)
        assert (Gardens(db).count(), Deeds(db).count()) == (0, 1)

    def test_it_is_changed_in_place_replaced_and_removed(self, street):
        house = street.houses.add(a_house())
        wanted = changed(house, garden=changed(house.garden, plant="lily", trees=frozenset({"elm", "oak"})))
        in_place = street.houses.update(changed(wanted, deed=Deed(owner="Bob")))
        assert in_place == changed(wanted, deed=Deed(owner="Bob"), version=2)
        replaced = street.houses.update(changed(in_place, garden=Garden(plant="moss")))
        assert replaced.garden == Garden(id=replaced.garden.id, plant="moss")
        removed = street.houses.update(changed(replaced, garden=None))
        assert removed.garden is None
        assert street.houses.get(house.id) == removed
        again = street.houses.patch(house.id, {"garden": Garden(plant="fern"), "version": 4})
        assert (again.garden.plant, again.deed, again.version) == ("fern", Deed(owner="Bob"), 5)
        assert street.houses.patch(house.id, {"name": "n"}).garden == again.garden
        assert street.houses.patch(house.id, {"garden": None}).garden is None

    def test_the_version_is_compared_where_only_the_child_changed(self, street):
        house = street.houses.add(a_house())
        street.houses.update(changed(house, garden=None))
        with pytest.raises(StaleEntityError):
            street.houses.update(changed(house, garden=Garden(plant="late")))

    def test_wrong_values_name_the_place(self, db):
        with Street(db) as street:
            house, other = street.houses.add_many([a_house(), a_house()])
        for wrong, place in [
            ({"garden": Garden(plant="p" * 31)}, "garden.plant"),
            ({"garden": Garden(plant="p", trees=frozenset({"t" * 31}))}, "garden.trees[0]"),
            ({"garden": other.garden}, "garden.id"),
            ({"deed": Deed(owner="o" * 31)}, "deed.owner"),
            ({"deed": None}, "deed"),
            ({"deed": other.garden}, "deed"),
        ]:
            for write in (
                lambda street, wrong: street.houses.update(changed(house, **wrong)),
                lambda street, wrong: street.houses.patch(house.id, wrong),
            ):
                with pytest.raises(InvalidValueError) as caught, Street(db) as street:
                    write(street, wrong)
                assert caught.value.field == place
        with Street(db) as street:
            assert street.houses.find(order_by="id") == [house, other]

    def test_a_required_child_whose_row_is_missing_is_refused_with_field_and_key(self, db):
        with Street(db) as street:
            house = street.houses.add(a_house())
        with Deeds(db) as deeds:
            deeds.delete(house.id)
        with (
            Street(db) as street,
            pytest.raises(MappingError, match=r"no row in table deed_of_house.*'deed'") as caught,
        ):
            street.houses.get(house.id)
        assert caught.value.key == (house.id,)
        with pytest.raises(TransactionAbortedError), Street(db) as street, pytest.raises(MappingError):
            street.houses.patch(house.id, {"name": "n"})
        with Street(db) as street:  # which is how one repairs it
            assert street.houses.patch(house.id, {"deed": Deed(owner="Eve")}).deed == Deed(owner="Eve")


class HouseQuery(QueryObject[House]):
    garden__plant: str | None = None
    garden__size_ge: int | None = None
    garden__trees__eq: str | None = None
    deed__owner_in: list[str] | None = None
    limit: int = 10


class TestFilters:
    @pytest.fixture
    def houses(self, street):
        return street.houses.add_many(
            [
                a_house(name="bare", garden=None),
                a_house(name="rose"),
                a_house(name="moss", garden=Garden(plant="moss", size=None), deed=Deed(owner="Bob")),
            ]
        )

    def test_it_reads_like_a_value_object(self, street, houses):
        h = fields(House)
        garden = some(h.garden)
        for criterion, wanted in [
            (garden.plant == "rose", ["rose"]),
            (not_(garden.plant == "rose"), ["moss"]),  # NULL where there is no garden
            (some(garden.size) > 1, ["rose"]),
            (is_null(garden.size), ["bare", "moss"]),
            (is_null(h.garden), ["bare"]),
            (not_(is_null(h.garden)) & (h.name != "moss"), ["rose"]),
            (h.deed.owner == "Bob", ["moss"]),
            (exists(garden.trees), ["rose"]),
            (not_(exists(garden.trees, lambda tree: tree == "oak")), ["bare", "moss"]),
            (garden.plant == h.name, ["rose", "moss"]),
        ]:
            assert [house.name for house in street.houses.find(criterion, order_by="id")] == wanted, criterion
            assert [house.name for house in houses if matches(criterion, house)] == wanted, criterion
            assert street.houses.count(criterion) == len(wanted)

    def test_query_objects_lead_to_it_and_order_by_it(self, street, houses):
        for query, wanted in [
            (HouseQuery(garden__plant="rose"), ["rose"]),
            (HouseQuery(garden__size_ge=1), ["rose"]),
            (HouseQuery(garden__trees__eq="oak"), ["rose"]),
            (HouseQuery(deed__owner_in=["Bob"]), ["moss"]),
        ]:
            assert [house.name for house in street.houses.find(query)] == wanted
            assert [house.name for house in houses if matches(query, house)] == wanted
        by_plant = [house.name for house in street.houses.find(order_by="garden__plant")]
        assert by_plant == ["bare", "moss", "rose"]
        assert [house.name for house in street.houses.find(order_by="-deed__owner,id")] == ["moss", "bare", "rose"]

    def test_other_uses_say_what_to_do(self, street):
        for use in (lambda: street.houses.find(garden=Garden(plant="x")), lambda: street.houses.find(order_by="deed")):
            with pytest.raises(QueryError):
                use()
        with pytest.raises(QueryError, match="table of its own, so name one of its fields"):
            street.houses.update_where(set_={"garden": None}, everything=True)


class TestDeclarations:
    def refused(self, match, **parts):
        with pytest.raises(MappingError, match=match):
            types.new_class("Refused", (Houses,), exec_body=lambda body: body.update(parts=parts)).definition()

    def test_what_does_not_fit_is_refused(self):
        good = dict(Houses.parts)
        self.refused("house_id is not unique in table shed_of_house", **{**good, "garden": HasOne(ShedRow)})
        self.refused("HasOne declares a single entity", **{**good, "garden": HasMany(GardenRow)})
        self.refused("name the model in HasOne", **{**good, "deed": HasOne()})


class ShedRow(Base):
    __tablename__ = "shed_of_house"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int] = mapped_column(sa.ForeignKey(HouseRow.id, ondelete="CASCADE"))
    plant: Mapped[str]
    size: Mapped[int | None]


@dataclass(frozen=True, slots=True)
class Plot:
    plant: str


@dataclass(frozen=True, slots=True)
class Home:
    name: str
    garden: Plot | None = None
    id: int | None = None


class Homes(BaseRepository[Home, int]):  # by convention, from uselist=False and delete-orphan
    model = HouseRow
    version = None


def test_a_frozen_child_without_a_key_is_changed_in_place(db):
    with Homes(db) as homes:
        home = homes.add(Home("h", Plot("rose")))
        first = Gardens(homes.unit).one().id
        changed_home = homes.update(replace(home, garden=Plot("lily")))
        assert changed_home == homes.get(home.id) == replace(home, garden=Plot("lily"))
        assert Gardens(homes.unit).one().id == first
        assert homes.update(replace(home, garden=None)).garden is None
        assert Gardens(homes.unit).count() == 0

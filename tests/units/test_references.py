"""Foreign keys: a row refers to one that is there, on every backend, and what becomes of it when that one goes."""

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    CheckViolationError,
    ForeignKeyViolationError,
    NotNullViolationError,
    UniqueViolationError,
)
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import create, tables_of
from tests.units.references import (
    Badge,
    Base,
    Customer,
    Customers,
    Folder,
    Line,
    Order,
    Orders,
    Remark,
    Seal,
    Shop,
    Stamp,
    Worker,
    everything,
)

db = tables_of(Base)


@pytest.fixture
def shop(db):
    with Shop(db) as shop:
        shop.customers.add_many([Customer(id=1, code="a"), Customer(id=2, code="b")])
        shop.orders.add(Order(id=1, customer=1))
        shop.lines.add_many([Line(order_id=1, number=1), Line(order_id=1, number=2)])
        yield shop


def violated(unit, write, constraint, fields, table):
    """Have a statement refused, and look at what is said of it."""
    before = everything(unit)
    with pytest.raises(ForeignKeyViolationError) as caught, unit.savepoint():
        write()
    told = (caught.value.constraint, caught.value.fields, caught.value.table)
    assert told == (
        (None, (), None)
        if "fk_error_details" in unit._work.source.missing_capabilities
        else (constraint, fields, table)
    )
    assert caught.value.retryable is False
    assert everything(unit) == before


ORDER = ("order_customer", ("customer",), "shop_order")


def test_a_row_that_refers_to_none_is_refused(shop):
    for write in (
        lambda: shop.orders.add(Order(customer=9)),
        lambda: shop.orders.add_many([Order(customer=1), Order(customer=9)]),
        lambda: shop.orders.update(Order(id=1, customer=9)),
        lambda: shop.orders.save(Order(id=1, customer=9)),
        lambda: shop.orders.save(Order(id=7, customer=9)),
        lambda: shop.orders.patch(1, {"customer": 9}),
        lambda: shop.orders.upsert(Order(id=1, customer=9), on="id"),
        lambda: shop.orders.upsert(Order(id=8, customer=9), on="id"),
        lambda: shop.orders.update_where(everything=True, set_={"customer": 9}),
    ):
        violated(shop, write, *ORDER)
    assert shop.orders.patch(1, {"customer": 2}) == Order(id=1, customer=2)


def test_a_row_that_is_referred_to_stays(shop):
    for write in (
        lambda: shop.customers.delete(1),
        lambda: shop.customers.remove(Customer(id=1, code="a")),
        lambda: shop.customers.delete_where(everything=True),
    ):
        violated(shop, write, *ORDER)
    shop.customers.delete(2)
    shop.orders.delete(1)
    shop.customers.delete(1)
    assert everything(shop)["customers"] == []


def test_what_referred_before_a_commit_does_not_keep_a_row_after_it(shop):
    shop.commit()
    shop.orders.patch(1, {"customer": 2})
    shop.workers.add_many([Worker(id=1), Worker(id=2, boss=1)])
    shop.commit()
    shop.customers.delete(1)
    shop.workers.delete(2)
    shop.commit()
    shop.workers.delete(1)
    shop.commit()

    assert (shop.workers.count(), [one.id for one in shop.customers.find()]) == (0, [2])


def test_a_null_refers_to_nothing(shop):
    shop.badges.add(Badge(id=1))
    shop.remarks.add_many([Remark(id=1), Remark(id=2, order_id=9), Remark(id=3, line=9)])

    assert shop.remarks.get(2).order_id == 9


def test_two_columns_refer_together(shop):
    shop.remarks.add(Remark(id=1, order_id=1, line=2))

    violated(shop, lambda: shop.remarks.add(Remark(order_id=2, line=1)), "remark_line", ("order_id", "line"), "remark")
    violated(shop, lambda: shop.remarks.patch(1, {"line": 3}), "remark_line", ("order_id", "line"), "remark")


def test_a_cascade_goes_as_far_as_it_must_and_counts_nothing(shop):
    shop.remarks.add_many([Remark(id=1, order_id=1, line=1), Remark(id=2)])
    shop.orders.add(Order(id=2, customer=1))
    shop.lines.add(Line(order_id=2, number=1))

    shop.orders.delete(1)

    assert shop.lines.find() == [Line(order_id=2, number=1)]
    assert shop.remarks.find() == [Remark(id=1, version=1), Remark(id=2, version=1)]
    assert shop.orders.delete_where(everything=True) == 1
    assert shop.lines.count() == 0


def test_a_column_that_is_no_key_is_referred_to(shop):
    shop.badges.add_many([Badge(id=1, code="a"), Badge(id=2, code="b"), Badge(id=3)])

    violated(shop, lambda: shop.badges.add(Badge(code="x")), "badge_code", ("code",), "badge")
    shop.customers.patch(2, {"code": "c"})
    assert [one.code for one in shop.badges.find()] == ["a", "c", None]
    shop.customers.delete(2)
    assert [one.id for one in shop.badges.find()] == [1, 3]


def test_restrict_refuses_changes_and_deletions(shop):
    shop.seals.add(Seal(id=1, code="b"))

    for write in (
        lambda: shop.customers.patch(2, {"code": "c"}),
        lambda: shop.customers.patch(2, {"code": None}),
        lambda: shop.customers.delete(2),
    ):
        violated(shop, write, "seal_code", ("code",), "seal")
    assert shop.customers.patch(2, {"code": "b"}) == Customer(id=2, code="b")


def test_set_null_follows_changes_and_deletions(shop):
    shop.stamps.add_many([Stamp(id=1, code="a"), Stamp(id=2, code="b")])

    shop.customers.patch(2, {"code": "c"})
    assert shop.stamps.find() == [Stamp(id=1, code="a"), Stamp(id=2)]
    shop.stamps.patch(2, {"code": "c"})
    shop.customers.delete(2)
    assert shop.stamps.get(2) == Stamp(id=2)


def test_a_unique_comes_before_a_foreign_key(shop):
    with pytest.raises(UniqueViolationError), shop.savepoint():
        shop.orders.add(Order(id=1, customer=9))


def test_rows_of_one_table_refer_to_each_other(shop):
    shop.workers.add_many([Worker(id=1), Worker(id=2, boss=1), Worker(id=3, boss=3)])

    violated(shop, lambda: shop.workers.add(Worker(boss=9)), "worker_boss", ("boss",), "worker")
    violated(shop, lambda: shop.workers.delete(1), "worker_boss", ("boss",), "worker")
    shop.workers.delete(2)
    shop.workers.delete(1)
    shop.folders.add_many([Folder(id=1), Folder(id=2, within=1), Folder(id=3, within=2), Folder(id=4)])
    shop.folders.delete(1)
    assert shop.folders.find() == [Folder(id=4)]


@pytest.mark.parametrize("backend", ["memory", "postgresql"])
def test_a_batch_may_hold_a_row_before_the_one_it_refers_to(shop):
    shop.workers.add_many([Worker(id=2, boss=1), Worker(id=1, boss=2)])


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])
def test_rows_that_refer_to_each_other_go_together(shop):
    shop.workers.add_many([Worker(id=1), Worker(id=2, boss=1)])
    shop.workers.patch(1, {"boss": 2})

    assert shop.workers.delete_where(everything=True) == 2


def test_a_savepoint_takes_cascades_back(shop):
    shop.remarks.add(Remark(id=1, order_id=1, line=1))
    shop.badges.add(Badge(id=1, code="b"))
    before = everything(shop)

    def work():
        shop.orders.delete(1)
        shop.customers.delete(2)
        assert (shop.lines.count(), shop.badges.count(), shop.remarks.get(1).line) == (0, 0, None)
        raise KeyError

    with pytest.raises(KeyError), shop.savepoint():
        work()

    assert everything(shop) == before
    violated(shop, lambda: shop.customers.delete(1), *ORDER)
    shop.lines.delete((1, 1))
    assert shop.remarks.get(1) == Remark(id=1, version=1)


def test_a_rollback_takes_cascades_back(shop):
    shop.commit()
    before = everything(shop)
    shop.orders.delete(1)
    shop.rollback()

    assert everything(shop) == before
    shop.orders.delete(1)
    shop.commit()
    assert shop.lines.count() == 0
    with pytest.raises(ForeignKeyViolationError), shop.savepoint():
        shop.lines.add(Line(order_id=1, number=1))


# -- of tables that not every database can make


class CheckedBase(DeclarativeBase):
    """MariaDB makes no table with a check of what a foreign key may write."""

    type_annotation_map = {str: sa.String(20)}


class ShelfRow(CheckedBase):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)


class BoxRow(CheckedBase):
    __tablename__ = "box"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int | None] = mapped_column(sa.ForeignKey("shelf.id", name="box_shelf", ondelete="SET NULL"))
    __table_args__ = (sa.CheckConstraint(shelf.is_not(None) | (sa.column("id") < 100), name="box_stands"),)


class Shelf(BaseModel):
    id: int


class Box(BaseModel):
    id: int
    shelf: int | None = None


class Shelves(BaseRepository[Shelf, int]):
    model = ShelfRow


class Boxes(BaseRepository[Box, int]):
    model = BoxRow


class Store(BaseUnitOfWork):
    shelves: Shelves
    boxes: Boxes


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])
def test_what_a_foreign_key_writes_obeys_the_checks_of_its_table(empty):
    with Store(empty(CheckedBase)) as store:
        store.shelves.add_many([Shelf(id=1), Shelf(id=2)])
        store.boxes.add_many([Box(id=1, shelf=1), Box(id=100, shelf=1), Box(id=2, shelf=2)])
        with pytest.raises(CheckViolationError) as caught, store.savepoint():
            store.shelves.delete(1)
        assert caught.value.constraint == "box_stands"
        assert store.boxes.count(shelf=1) == 2
        with pytest.raises(CheckViolationError), store.savepoint():
            store.boxes.add_many([Box(id=100), Box(id=2, shelf=9)])
        store.shelves.delete(2)
        assert store.boxes.get(2) == Box(id=2)


class DeferredBase(DeclarativeBase): ...


class HenRow(DeferredBase):
    __tablename__ = "hen"
    id: Mapped[int] = mapped_column(primary_key=True)
    egg: Mapped[int] = mapped_column(
        sa.ForeignKey("egg.id", name="hen_egg", deferrable=True, initially="DEFERRED", use_alter=True)
    )


class EggRow(DeferredBase):
    __tablename__ = "egg"
    id: Mapped[int] = mapped_column(primary_key=True)
    hen: Mapped[int] = mapped_column(sa.ForeignKey("hen.id", name="egg_hen", deferrable=True, initially="DEFERRED"))


class Hen(BaseModel):
    id: int
    egg: int


class Egg(BaseModel):
    id: int
    hen: int


class Hens(BaseRepository[Hen, int]):
    model = HenRow


class Eggs(BaseRepository[Egg, int]):
    model = EggRow


class Farm(BaseUnitOfWork):
    hens: Hens
    eggs: Eggs


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])
def test_a_deferred_foreign_key_is_looked_at_when_the_transaction_ends(empty, backend):
    db = empty(DeferredBase)
    with Farm(db) as farm:
        farm.hens.add(Hen(id=1, egg=1))
        farm.eggs.add(Egg(id=1, hen=1))
    for spoil in (
        lambda farm: farm.eggs.add(Egg(id=2, hen=9)),
        lambda farm: farm.hens.delete(1),
        lambda farm: farm.eggs.patch(1, {"hen": 9}),
    ):
        farm = Farm(db)
        farm.__enter__()
        spoil(farm)
        with pytest.raises(ForeignKeyViolationError) as caught:
            farm.__exit__(None, None, None)
        assert caught.value.constraint in ("egg_hen", None)
    with Farm(db) as farm:
        assert (farm.hens.count(), farm.eggs.count()) == (1, 1)
        farm.hens.delete(1)
        farm.eggs.delete(1)
    assert Hens(db).count() == 0


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])
def test_set_null_where_none_is_taken_is_a_not_null_violation(empty, backend):
    class Local(DeclarativeBase): ...

    class ParentRow(Local):
        __tablename__ = "mother"
        id: Mapped[int] = mapped_column(primary_key=True)

    class ChildRow(Local):
        __tablename__ = "daughter"
        id: Mapped[int] = mapped_column(primary_key=True)
        mother: Mapped[int] = mapped_column(sa.ForeignKey("mother.id", ondelete="SET NULL"))

    class Mother(BaseModel):
        id: int

    class Daughter(BaseModel):
        id: int
        parent: int

    class Mothers(BaseRepository[Mother, int]):
        model = ParentRow

    class Daughters(BaseRepository[Daughter, int]):
        model = ChildRow
        columns = {"parent": "mother"}

    class House(BaseUnitOfWork):
        mothers: Mothers
        daughters: Daughters

    with House(empty(Local)) as house:
        house.mothers.add(Mother(id=1))
        house.daughters.add(Daughter(id=1, parent=1))
        with pytest.raises(NotNullViolationError) as caught, house.savepoint():
            house.mothers.delete(1)
        assert (caught.value.fields, caught.value.table) == (("parent",), "daughter")


def test_a_table_in_a_named_schema_is_referred_to(empty, backend):
    space = {"sqlite": "main", "mariadb": None, "mysql": None}.get(backend, "public")

    class Local(DeclarativeBase):
        metadata = sa.MetaData(schema=space)

    class PlaceRow(Local):
        __tablename__ = "place_in_schema"
        id: Mapped[int] = mapped_column(primary_key=True)

    class SpotRow(Local):
        __tablename__ = "spot_in_schema"
        id: Mapped[int] = mapped_column(primary_key=True)
        place: Mapped[int] = mapped_column(sa.ForeignKey(PlaceRow.id, name="spot_place"))

    class Place(BaseModel):
        id: int

    class Spot(BaseModel):
        id: int
        place: int

    class Places(BaseRepository[Place, int]):
        model = PlaceRow

    class Spots(BaseRepository[Spot, int]):
        model = SpotRow

    class Map(BaseUnitOfWork):
        spots: Spots
        places: Places

    with Map(empty(Local)) as map_:
        map_.places.add(Place(id=1))
        map_.spots.add(Spot(id=1, place=1))
        for write in (lambda: map_.spots.add(Spot(id=2, place=2)), lambda: map_.places.delete(1)):
            with pytest.raises(ForeignKeyViolationError), map_.savepoint():
                write()


# -- keys made of what is referred to, in another order than the unique constraint's, which MariaDB does not take

NOT_MARIADB = pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])


class KeyedBase(DeclarativeBase):
    type_annotation_map = {str: sa.String(20)}


class CountryRow(KeyedBase):
    __tablename__ = "country"
    __table_args__ = (sa.UniqueConstraint("continent", "code"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    continent: Mapped[str]


class FlagRow(KeyedBase):
    """Its key refers, in another order than that of the unique constraint, and is referred to itself."""

    __tablename__ = "country_flag"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["code", "continent"], ["country.code", "country.continent"], onupdate="CASCADE", ondelete="CASCADE"
        ),
    )
    code: Mapped[str] = mapped_column(primary_key=True)
    continent: Mapped[str] = mapped_column(primary_key=True)
    colours: Mapped[int]


class StripeRow(KeyedBase):
    __tablename__ = "stripe"
    __table_args__ = (
        sa.ForeignKeyConstraint(
            ["code", "continent"], ["country_flag.code", "country_flag.continent"], onupdate="CASCADE"
        ),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    continent: Mapped[str]


class Country(BaseModel):
    id: int
    code: str
    continent: str


class Flag(BaseModel):
    code: str
    continent: str
    colours: int = 3


class Stripe(BaseModel):
    id: int
    code: str
    continent: str


class Countries(BaseRepository[Country, int]):
    model = CountryRow


class Flags(BaseRepository[Flag, tuple[str, str]]):
    model = FlagRow


class Stripes(BaseRepository[Stripe, int]):
    model = StripeRow


class World(BaseUnitOfWork):
    countries: Countries
    flags: Flags
    stripes: Stripes


@pytest.fixture
def world(empty):
    with World(empty(KeyedBase)) as world:
        world.countries.add_many([Country(id=1, code="a", continent="x"), Country(id=2, code="b", continent="x")])
        world.flags.add_many([Flag(code="a", continent="x"), Flag(code="b", continent="x")])
        world.stripes.add(Stripe(id=1, code="a", continent="x"))
        yield world


@NOT_MARIADB
def test_a_cascade_may_change_keys(world):
    world.countries.patch(1, {"code": "c", "continent": "y"})

    assert [(one.code, one.continent) for one in world.flags.find()] == [("b", "x"), ("c", "y")]
    assert world.flags.get_or_none(("a", "x")) is None
    assert world.stripes.find() == [Stripe(id=1, code="c", continent="y")]
    world.flags.update(Flag(code="c", continent="y", colours=2))
    world.commit()
    assert world.flags.get(("c", "y")).colours == 2
    with pytest.raises(ForeignKeyViolationError), world.savepoint():
        world.countries.delete(1)
    world.stripes.delete(1)
    world.countries.delete(1)
    assert world.flags.find() == [Flag(code="b", continent="x")]


@NOT_MARIADB
def test_columns_refer_in_the_order_of_the_foreign_key(world):
    for wrong in (Flag(code="x", continent="a"), Flag(code="a", continent="y")):
        with pytest.raises(ForeignKeyViolationError), world.savepoint():
            world.flags.add(wrong)


# -- of memory alone


def test_a_table_that_no_repository_keeps_has_no_rows_to_refer_to():
    with Orders(InMemoryDatabase()) as orders:
        with pytest.raises(ForeignKeyViolationError) as caught, orders.unit.savepoint():
            orders.add(Order(customer=1))
        assert (caught.value.constraint, caught.value.fields) == ("order_customer", ("customer",))


def test_a_table_may_become_known_after_those_that_refer_to_it():
    db = InMemoryDatabase()
    Orders(db)
    with Customers(db) as customers:
        customers.add(Customer(id=1))
    with Orders(db) as orders:
        orders.add(Order(id=1, customer=1))
    with Customers(db) as customers, pytest.raises(ForeignKeyViolationError), customers.unit.savepoint():
        customers.delete(1)
    with Shop(create(db)) as shop:
        shop.lines.add(Line(order_id=1, number=1))
        shop.orders.delete(1)
        assert shop.lines.count() == 0

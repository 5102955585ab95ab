"""Children that the scope of their table hides: their places are not taken, and they go with their owner."""

import asyncio
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    InvalidValueError,
    exists,
    fields,
    via,
)
from sqlrepo.sqlalchemy import AsyncDatabase, types
from sqlrepo.testing import query_budget
from tests.units.domain import async_database, database, own_base

Base = own_base()


class CartRow(Base):
    __tablename__ = "cart_of_hidden"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class ReasonRow(Base):
    __tablename__ = "reason_of_hidden"
    id: Mapped[int] = mapped_column(primary_key=True)
    hides: Mapped[bool]


class PickRow(Base):  # nothing cascades
    __tablename__ = "pick_of_hidden"
    __table_args__ = (sa.UniqueConstraint("cart_id", "position"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    cart_id: Mapped[int] = mapped_column(sa.ForeignKey(CartRow.id))
    sku: Mapped[str]
    position: Mapped[int] = mapped_column(sa.SmallInteger)
    reason_id: Mapped[int] = mapped_column(sa.ForeignKey(ReasonRow.id))
    serials: Mapped[list["SerialRow"]] = relationship(order_by="SerialRow.id", cascade="all, delete-orphan")


class SerialRow(Base):
    __tablename__ = "serial_of_hidden"
    id: Mapped[int] = mapped_column(primary_key=True)
    pick_id: Mapped[int] = mapped_column(sa.ForeignKey(PickRow.id))
    code: Mapped[str]
    gone: Mapped[bool] = mapped_column(default=False)


class StampRow(Base):
    __tablename__ = "stamp_of_hidden"
    serial_id: Mapped[int] = mapped_column(sa.ForeignKey(SerialRow.id), primary_key=True)
    text: Mapped[str] = mapped_column(primary_key=True)


class BoxRow(Base):
    __tablename__ = "box_of_hidden"
    id: Mapped[UUID] = mapped_column(types.UniqueId(), primary_key=True)
    cart_id: Mapped[int] = mapped_column(sa.ForeignKey(CartRow.id, ondelete="CASCADE"))
    label: Mapped[str]
    gone: Mapped[bool] = mapped_column(default=False)


marks = sa.Table(  # without a key
    "mark_of_hidden",
    Base.metadata,
    sa.Column("cart_id", sa.ForeignKey(CartRow.id, ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(30), nullable=False),
    sa.Column("gone", sa.Boolean, nullable=False, default=False),
)


class Serial(BaseModel):
    id: int | None = None
    code: str
    gone: bool = False
    stamps: frozenset[str] = frozenset()


class Pick(BaseModel):
    id: int | None = None
    sku: str
    reason_id: int = 1
    serials: list[Serial] = []


class Box(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    label: str
    gone: bool = False


class Cart(BaseModel):
    id: int | None = None
    picks: list[Pick] = []
    boxes: list[Box] = []
    marks: list[str] = []
    version: int = 1


class Reason(BaseModel):
    id: int | None = None
    hides: bool


class Reasons(BaseRepository[Reason, int]):
    model = ReasonRow


class Mark(BaseModel):
    cart_id: int
    name: str
    gone: bool = False


class AllMarks(BaseRepository[Mark, int]):
    model = marks


STAMPS = {"stamps": HasMany(StampRow, value="text")}


class OnePick(BaseModel):
    id: int | None = None
    cart_id: int
    sku: str
    position: int
    reason_id: int
    serials: list[Serial] = []


class AllPicks(BaseRepository[OnePick, int]):
    model = PickRow
    version = None
    parts = {"serials": HasMany(parts=STAMPS)}


class Picks(AllPicks):
    def scope(self):
        return via(fields(OnePick).reason_id, Reason).hides == False  # noqa: E712


class OneSerial(BaseModel):
    id: int | None = None
    pick_id: int
    code: str
    gone: bool


class AllSerials(BaseRepository[OneSerial, int]):
    model = SerialRow


class Serials(AllSerials):
    def scope(self):
        return fields(OneSerial).gone == False  # noqa: E712


class OneBox(Box):
    cart_id: int


class AllBoxes(BaseRepository[OneBox, UUID]):
    model = BoxRow


class Boxes(AllBoxes):
    def scope(self):
        return fields(OneBox).gone == False  # noqa: E712


class Marks(AllMarks):
    def scope(self):
        return fields(Mark).gone == False  # noqa: E712


class Carts(BaseRepository[Cart, int]):
    model = CartRow
    version = "version"
    parts = {
        "picks": HasMany(PickRow, order="position", parts={"serials": HasMany(parts=STAMPS)}),
        "boxes": HasMany(BoxRow),
        "marks": HasMany(marks, value="name"),
    }


class Shop(BaseUnitOfWork):
    carts: Carts
    picks: Picks
    serials: Serials
    boxes: Boxes
    marks: Marks
    reasons: Reasons


class Store(BaseUnitOfWork):
    picks: AllPicks
    serials: AllSerials
    boxes: AllBoxes
    marks: AllMarks
    reasons: Reasons


@pytest.fixture
def db(backend):
    made = database(backend, Base)
    with Store(made) as store:
        store.reasons.add_many([Reason(hides=False), Reason(hides=True)])
    yield made
    made.dispose()


def changed(entity, **values):
    return entity.model_copy(update=values)


def picks(*skus):
    return [Pick(sku=sku) for sku in skus]


def hide(db, *found):
    with Store(db) as store:
        for pick in found:
            store.picks.patch(pick.id, {"reason_id": 2})


def skus(db):
    """All picks with their places, the hidden ones too."""
    with Store(db) as store:
        return [pick.sku for pick in store.picks.find(order_by="position")]


@pytest.mark.parametrize("hidden", ["ab", "c", "a", "bc", "abc"])
def test_a_new_child_takes_no_hidden_childs_place(db, hidden):
    with Shop(db) as shop:
        cart = shop.carts.add(Cart(picks=picks("a", "b", "c")))
    hide(db, *[pick for pick in cart.picks if pick.sku in hidden])
    with Shop(db) as shop:
        seen = shop.carts.get(cart.id)
        assert [pick.sku for pick in seen.picks] == [sku for sku in "abc" if sku not in hidden]
        wanted = [*picks("n"), *seen.picks, *picks("m", "o")]
        with query_budget(2 + 4 + 3 + 1 + 1 + 1):  # the root, the picks, boxes, marks, serials and stamps
            written = shop.carts.update(changed(seen, picks=wanted))
        assert [pick.sku for pick in written.picks] == [pick.sku for pick in wanted]
        assert shop.carts.get(cart.id) == written
        again = shop.carts.update(changed(written, picks=[*written.picks[::-1], *picks("p")]))
        assert [pick.sku for pick in again.picks] == [*(pick.sku for pick in written.picks[::-1]), "p"]
        assert shop.carts.get(cart.id) == again
    with Store(db) as store:
        stored = store.picks.find(order_by="position")
        assert len({pick.position for pick in stored}) == len(stored)
        assert sorted(pick.sku for pick in stored if pick.reason_id == 2) == sorted(hidden)


def test_a_hidden_childs_place_is_kept_where_few_numbers_are_left(db):
    with Shop(db) as shop:
        cart = shop.carts.add(Cart(picks=picks("a", "b", "c")))
    with Store(db) as store:
        for pick, number in zip(cart.picks, (1, 2, 32767), strict=True):
            store.picks.patch(pick.id, {"position": number})
    hide(db, cart.picks[1], cart.picks[2])
    with Shop(db) as shop:
        written = shop.carts.update(changed(shop.carts.get(cart.id), picks=[*cart.picks[:1], *picks("d", "e")]))
        assert shop.carts.get(cart.id) == written
    assert sorted(skus(db)) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("how", ["delete", "remove", "delete_where", "child", "delete_where by children"])
def test_hidden_children_go_with_their_owner_and_take_their_own_parts_along(db, how):
    serials = [Serial(code="x", stamps=frozenset("p")), Serial(code="y", stamps=frozenset("qr"))]
    with Shop(db) as shop:
        cart, other = shop.carts.add_many(
            [Cart(picks=[Pick(sku=sku, serials=serials) for sku in "abc"], marks=["m"]) for _ in range(2)]
        )
    with Store(db) as store:
        for one in (cart, other):
            store.serials.patch(one.picks[0].serials[0].id, {"gone": True})  # of a pick that is seen
            store.serials.patch(one.picks[1].serials[0].id, {"gone": True})
    hide(db, cart.picks[1], cart.picks[2], other.picks[1])
    with Shop(db) as shop:
        before = shop.carts.get(other.id)
        match how:
            case "delete":
                shop.carts.delete(cart.id)
            case "remove":
                shop.carts.remove(shop.carts.get(cart.id))
            case "delete_where":
                assert shop.carts.delete_where(id=cart.id) == 1
            case "child":
                shop.carts.update(changed(shop.carts.get(cart.id), picks=[]))
            case _:
                asked = exists(fields(Cart).picks, lambda pick: pick.id == cart.picks[0].id)
                assert shop.carts.delete_where(asked) == 1
        assert shop.carts.get(other.id) == before
    with Store(db) as store:
        left = ["b", "c"] if how == "child" else []  # the diff leaves hidden ones alone
        assert [pick.sku for pick in store.picks.find(cart_id=cart.id, order_by="id")] == left
        assert store.serials.count() == 6 + 2 * len(left)
        assert len(store.picks.find(cart_id=other.id)) == 3


def test_the_key_of_a_hidden_child_is_refused(db):
    with Shop(db) as shop:
        mine, other = shop.carts.add_many(
            [Cart(boxes=[Box(label="a")], picks=picks("a")), Cart(boxes=[Box(label="b")])]
        )
    with Store(db) as store:
        for cart in (mine, other):
            store.boxes.patch(cart.boxes[0].id, {"gone": True})
    hide(db, mine.picks[0])
    for wrong, place in [
        ({"boxes": [Box(label="n"), *mine.boxes]}, "boxes[1].id"),
        ({"boxes": other.boxes}, "boxes[0].id"),
        ({"picks": mine.picks}, "picks[0].id"),
    ]:
        with pytest.raises(InvalidValueError) as caught, Shop(db) as shop:
            shop.carts.update(changed(shop.carts.get(mine.id), **wrong))
        assert caught.value.field == place
    with Store(db) as store:
        assert [box.label for box in store.boxes.find(order_by="label")] == ["a", "b"]


def test_a_hidden_row_without_a_key_is_not_deleted_with_an_equal_one(db):
    with Shop(db) as shop:
        cart = shop.carts.add(Cart(marks=["a", "b"]))
    with Store(db) as store:
        store.marks.add(Mark(cart_id=cart.id, name="a", gone=True))
    with Shop(db) as shop:
        assert shop.carts.update(changed(cart, marks=["b"])).marks == ["b"]
    with Store(db) as store:
        assert sorted((mark.name, mark.gone) for mark in store.marks.find()) == [("a", True), ("b", False)]


class AsyncCarts(AsyncBaseRepository[Cart, int]):
    model = CartRow
    version = "version"
    parts = Carts.parts


class AsyncAllPicks(AsyncBaseRepository[OnePick, int]):
    model = PickRow
    version = None
    parts = AllPicks.parts


class AsyncPicks(AsyncAllPicks):
    scope = Picks.scope


class AsyncSerials(AsyncBaseRepository[OneSerial, int]):
    model = SerialRow
    scope = Serials.scope


class AsyncAllSerials(AsyncBaseRepository[OneSerial, int]):
    model = SerialRow


class AsyncBoxes(AsyncBaseRepository[OneBox, UUID]):
    model = BoxRow
    scope = Boxes.scope


class AsyncMarks(AsyncBaseRepository[Mark, int]):
    model = marks
    scope = Marks.scope


class AsyncReasons(AsyncBaseRepository[Reason, int]):
    model = ReasonRow


class AsyncShop(AsyncBaseUnitOfWork):
    carts: AsyncCarts
    picks: AsyncPicks
    serials: AsyncSerials
    boxes: AsyncBoxes
    marks: AsyncMarks
    reasons: AsyncReasons


class AsyncStore(AsyncBaseUnitOfWork):
    picks: AsyncAllPicks
    serials: AsyncAllSerials
    reasons: AsyncReasons


async def work_async(db):
    async with AsyncShop(db) as shop:
        await shop.reasons.add_many([Reason(hides=False), Reason(hides=True)])
        cart = await shop.carts.add(Cart(picks=[Pick(sku=sku, serials=[Serial(code=sku)]) for sku in "ab"]))
    async with AsyncStore(db) as store:
        await store.picks.patch(cart.picks[1].id, {"reason_id": 2})
    async with AsyncShop(db) as shop:
        seen = await shop.carts.get(cart.id)
        written = await shop.carts.update(changed(seen, picks=[*seen.picks, *picks("c")]))
        assert [pick.sku for pick in written.picks] == ["a", "c"]
        await shop.carts.delete(cart.id)
    async with AsyncStore(db) as store:
        assert (await store.picks.count(), await store.serials.count()) == (0, 0)
    if isinstance(db, AsyncDatabase):
        await db.dispose()


def test_async_units_keep_the_same_places_and_delete_the_same_rows(backend, tmp_path):
    asyncio.run(work_async(async_database(backend, Base, tmp_path)))

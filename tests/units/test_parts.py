"""Parts of aggregates: children in tables of their own, read and written with their owner, on every backend."""

import random
import types
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    InvalidValueError,
    MappingError,
    QueryError,
    QueryObject,
    StaleEntityError,
    TransactionAbortedError,
    UniqueViolationError,
    every,
    exists,
    fields,
    in_,
    matches,
    not_,
    startswith,
)
from sqlrepo.language.entities import child_class
from sqlrepo.testing import query_budget
from tests.units.domain import changed, opened, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}  # as SQLAlchemy wants it


class OrderRow(Base):
    __tablename__ = "order_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(order_by="LineRow.position", cascade="all, delete-orphan")


class LineRow(Base):
    __tablename__ = "line_of_order"
    __table_args__ = (sa.UniqueConstraint("order_id", "position"), sa.UniqueConstraint("order_id", "sku"))
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id, ondelete="CASCADE"))
    sku: Mapped[str]
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    position: Mapped[int]
    touched: Mapped[int | None] = mapped_column(onupdate=lambda: 1)  # no field of a line


class TagRow(Base):
    __tablename__ = "tag_of_order"
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


class NoteRow(Base):  # deleted by the library: the foreign key does not cascade
    __tablename__ = "note_of_order"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(sa.ForeignKey(OrderRow.id))
    text: Mapped[str]


class Line(BaseModel):
    id: int | None = None
    sku: str
    price: Decimal | None = None


class Order(BaseModel):
    id: int | None = None
    status: str
    lines: list[Line] = []
    tags: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    version: int = 1


class Orders(BaseRepository[Order, int]):
    model = OrderRow
    version = "version"
    parts = {"tags": HasMany(TagRow, value="name"), "notes": HasMany(NoteRow, value="text")}


class Shop(BaseUnitOfWork):
    orders: Orders


class OrderQuery(QueryObject[Order]):
    limit: int = 2
    status: str | None = None


db = tables_of(Base)
shop = opened(Shop)


def lines(*skus):
    return [Line(sku=sku, price=Decimal("1.50")) for sku in skus]


def skus(order):
    return [line.sku for line in order.lines]


def a_full_order(**values):
    given = {"status": "new", "lines": lines("a", "b", "c"), "tags": frozenset({"x", "y"}), "notes": ("n", "n")}
    return Order(**{**given, **values})


class TestReadingAndWriting:
    def test_an_aggregate_is_stored_and_read_whole(self, db):
        with Shop(db) as shop:
            stored = shop.orders.add_many([a_full_order(), Order(status="empty"), a_full_order(lines=lines("d"))])
        assert [skus(order) for order in stored] == [["a", "b", "c"], [], ["d"]]
        assert all(line.id for order in stored for line in order.lines)
        with Shop(db) as shop:
            assert shop.orders.find(order_by="id") == stored
            assert shop.orders.get(stored[0].id) == stored[0]
            assert shop.orders.get_many([stored[2].id, stored[0].id]) == [stored[2], stored[0]]
            assert shop.orders.one(status="empty") == stored[1]
            assert shop.orders.first(order_by="-id") == stored[2]
            assert list(shop.orders.stream(order_by="id")) == stored
            assert shop.orders.page(OrderQuery()).items == stored[:2]
            page = shop.orders.scroll(OrderQuery())
            assert page.items == stored[:2]
            assert shop.orders.scroll(OrderQuery(), after=page.next).items == stored[2:]
        assert Orders(db).get(stored[0].id) == stored[0]

    def test_children_are_changed_added_moved_and_removed(self, shop):
        order = shop.orders.add(a_full_order())
        a, _, c = order.lines
        wanted = [c, Line(sku="new"), changed(a, price=Decimal("2.00"))]
        updated = shop.orders.update(changed(order, lines=wanted, tags=frozenset({"y", "z"}), notes=("n", "m")))
        assert updated.lines == [c, Line(id=updated.lines[1].id, sku="new"), changed(a, price=Decimal("2.00"))]
        assert (updated.tags, sorted(updated.notes), updated.version) == ({"y", "z"}, ["m", "n"], 2)
        assert shop.orders.get(order.id) == updated

    def test_a_patch_without_the_part_leaves_it(self, shop):
        order = shop.orders.add(a_full_order())
        patched = shop.orders.patch(order.id, {"status": "done"})
        assert (patched.status, patched.lines, patched.tags) == ("done", order.lines, order.tags)
        patched = shop.orders.patch(order.id, {"lines": []})
        assert (patched.lines, patched.tags, patched.version) == ([], order.tags, 3)

    def test_save_writes_the_parts_of_new_and_of_known_rows(self, shop):
        order = shop.orders.save(a_full_order(id=7))
        assert skus(order) == ["a", "b", "c"]
        assert skus(shop.orders.save(changed(order, lines=order.lines[1:]))) == ["b", "c"]
        assert skus(shop.orders.get(7)) == ["b", "c"]

    def test_upsert_writes_parts_of_a_new_row_and_where_update_names_them(self, shop):
        new = shop.orders.upsert(a_full_order(id=7), on="id")
        order = new.entity
        assert new.created
        assert skus(order) == ["a", "b", "c"]
        kept = shop.orders.upsert(a_full_order(id=7, status="old", lines=[]), on="id", update=["status"]).entity
        assert (kept.status, kept.lines) == ("old", order.lines)
        version = kept.version
        [written] = shop.orders.upsert_many([a_full_order(id=7, lines=order.lines[:1])], on="id", update=["lines"])
        assert (written.status, written.lines, written.version) == ("old", order.lines[:1], version + 1)
        assert shop.orders.get(7) == written

    def test_deleting_leaves_no_child_behind(self, db):
        with Shop(db) as shop:
            one, two, _, four = shop.orders.add_many(
                [a_full_order(), a_full_order(), a_full_order(status="old"), a_full_order()]
            )
            shop.orders.delete(one.id)
            shop.orders.remove(two)
            assert shop.orders.delete_where(status="old") == 1
            assert shop.orders.find() == [four]
            assert shop.orders.find(exists(fields(Order).notes, lambda note: note == "n")) == [four]
            newer = shop.orders.update(four)
            with pytest.raises(StaleEntityError):
                shop.orders.remove(four)
        with Shop(db) as shop:
            assert shop.orders.get(four.id) == newer

    def test_budgets(self, db):
        with Shop(db) as shop:
            order = shop.orders.add(a_full_order())
            shop.orders.add_many([a_full_order() for _ in range(20)])
        with Shop(db) as shop:
            shop.orders.count()
            with query_budget(4):
                assert len(shop.orders.find()) == 21
            with query_budget(2 + 4 + 2 * 3):
                a, _, c = order.lines
                wanted = [c, *lines("n", "m"), changed(a, price=None)]
                shop.orders.update(changed(order, lines=wanted, tags=frozenset("q"), notes=("o",)))


class TestGuarantees:
    def test_the_version_counts_and_is_compared_where_only_a_child_changed(self, shop):
        order = shop.orders.add(a_full_order())
        updated = shop.orders.update(changed(order, lines=order.lines[:2]))
        assert updated.version == 2
        with pytest.raises(StaleEntityError):
            shop.orders.update(changed(order, lines=order.lines[1:]))
        with pytest.raises(StaleEntityError):
            shop.orders.patch(order.id, {"lines": [], "version": 1})
        assert shop.orders.get(order.id) == updated

    def test_children_are_not_stolen(self, db):
        with Shop(db) as shop:
            mine, other = shop.orders.add_many([a_full_order(), a_full_order()])
        for stolen in (other.lines[0], Line(id=10_000, sku="nobody's")):
            with pytest.raises(InvalidValueError) as caught, Shop(db) as shop:
                shop.orders.update(changed(mine, status="thief", lines=[*mine.lines, changed(stolen, sku="s")]))
            assert caught.value.field == "lines[3].id"
        with Shop(db) as shop:
            assert shop.orders.find(order_by="id") == [mine, other]

    def test_half_an_aggregate_is_never_committed(self, db):
        with Shop(db) as shop:
            order = shop.orders.add(a_full_order())
        more = changed(order, status="half", lines=[*order.lines, *lines("a")])
        twice = a_full_order(status="half", lines=lines("a", "a"))
        for write in (lambda shop: shop.orders.update(more), lambda shop: shop.orders.add(twice)):
            unit = Shop(db)
            unit.__enter__()
            with pytest.raises(UniqueViolationError) as caught:
                write(unit)
            assert caught.value.fields in {("lines.order_id", "lines.sku"), ()}
            with pytest.raises(TransactionAbortedError):  # although the error was swallowed
                unit.__exit__(None, None, None)
        with Shop(db) as shop:
            assert shop.orders.find() == [order]

    def test_a_wrong_value_names_its_place_before_anything_is_sent(self, shop):
        order = shop.orders.add(a_full_order())
        for wrong, place in [
            ({"lines": [*order.lines, Line(sku="s" * 31)]}, "lines[3].sku"),
            ({"tags": frozenset({"t" * 31})}, "tags[0]"),
            ({"lines": [order.lines[0], order.lines[0]]}, "lines[1].id"),
            ({"lines": [Order(status="no line")]}, "lines[0]"),
        ]:
            for write in (shop.orders.update, shop.orders.save):
                with pytest.raises(InvalidValueError) as caught:
                    write(changed(order, **wrong))
                assert caught.value.field == place
        assert shop.orders.get(order.id) == order

    def test_a_filter_thins_no_collection_and_a_limit_counts_roots(self, shop):
        orders = shop.orders.add_many([a_full_order(), a_full_order(lines=lines("z"))])
        o = fields(Order)
        assert shop.orders.find(exists(o.lines, lambda line: line.sku == "b")) == orders[:1]
        assert shop.orders.find(limit=2, order_by="id") == orders

    @pytest.mark.parametrize("seed", range(5))
    def test_random_edits_end_as_given(self, db, seed):
        dice = random.Random(seed)  # no secret
        with Shop(db) as shop:
            order = shop.orders.add(a_full_order())
        for step in range(25):
            kept = [line for line in order.lines if dice.random() < 0.8]
            dice.shuffle(kept) if dice.random() < 0.5 else None
            wanted = [changed(line, price=dice.choice([None, Decimal("9.99"), line.price])) for line in kept]
            for number in range(dice.randrange(3)):
                wanted.insert(dice.randrange(len(wanted) + 1), Line(sku=f"{step}-{number}"))
            tags = frozenset(dice.sample("abcdef", dice.randrange(4)))
            notes = tuple(dice.choices("nm", k=dice.randrange(4)))
            with Shop(db) as shop:
                written = shop.orders.update(changed(order, lines=wanted, tags=tags, notes=notes))
            with Shop(db) as shop:
                order = shop.orders.get(written.id)
            assert order == written
            assert skus(order) == [line.sku for line in wanted]
            assert [line.price for line in order.lines] == [line.price for line in wanted]
            assert {line.id for line in kept} <= {line.id for line in order.lines}
            assert (order.tags, sorted(order.notes)) == (tags, sorted(notes))


class TestFilters:
    @pytest.fixture
    def orders(self, shop):
        return shop.orders.add_many(
            [
                Order(status="empty"),
                Order(status="cheap", lines=[Line(sku="xa", price=Decimal(1)), Line(sku="b", price=Decimal(2))]),
                Order(
                    status="mixed",
                    lines=[Line(sku="xb", price=Decimal(1)), Line(sku="c", price=None)],
                    tags=frozenset("r"),
                ),
                Order(status="dear", lines=[Line(sku="xc", price=Decimal(9))], tags=frozenset("rg")),
            ]
        )

    def test_exists_and_every_agree_with_matches(self, shop, orders):
        o = fields(Order)
        cases = {
            "some": (exists(o.lines), ["cheap", "mixed", "dear"]),
            "none": (not_(exists(o.lines)), ["empty"]),
            "one line": (
                exists(o.lines, lambda line: (line.price < 3) & startswith(line.sku, "x")),
                ["cheap", "mixed"],
            ),
            "two lines": (
                exists(o.lines, lambda line: line.sku == "xa") & exists(o.lines, lambda line: line.sku == "b"),
                ["cheap"],
            ),
            "every": (every(o.lines, lambda line: line.price < 3), ["empty", "cheap"]),
            "not every": (not_(every(o.lines, lambda line: line.price < 3)), ["mixed", "dear"]),
            "unknown": (not_(exists(o.lines, lambda line: line.price > 0)), ["empty"]),
            "no price": (exists(o.lines, lambda line: line.price == None), ["mixed"]),  # noqa: E711
            "plain": (exists(o.tags, lambda tag: tag == "r"), ["mixed", "dear"]),
            "plain in": (exists(o.tags, lambda tag: in_(tag, ["g", "y"])) | (o.status == "empty"), ["empty", "dear"]),
        }
        for name, (criterion, wanted) in cases.items():
            assert [order.status for order in shop.orders.find(criterion, order_by="id")] == wanted, name
            assert [order.status for order in orders if matches(criterion, order)] == wanted, name
            assert shop.orders.count(criterion) == len(wanted), name

    def test_paths_in_a_query_object_ask_about_one_child(self, shop, orders):
        class PathQuery(QueryObject[Order]):
            status: str | None = None
            lines__sku_startswith: str | None = None
            lines__price_lt: Decimal | None = None
            lines__price_is_null: bool | None = None
            lines__sku__eq: str | None = None
            tags__eq: str | None = None
            tags__in: list[str] | None = None

        for query, wanted in [
            (PathQuery(lines__sku_startswith="x", lines__price_lt=Decimal(3)), ["cheap", "mixed"]),
            (PathQuery(lines__sku_startswith="b", lines__price_lt=Decimal(2)), []),  # one line, not two
            (PathQuery(lines__price_is_null=True, tags__eq="r"), ["mixed"]),
            (PathQuery(lines__sku__eq="xc", status="dear"), ["dear"]),
            (PathQuery(tags__in=["g"]), ["dear"]),
            (PathQuery(), ["empty", "cheap", "mixed", "dear"]),
        ]:
            assert [order.status for order in shop.orders.find(query, order_by="id")] == wanted
            assert [order.status for order in orders if matches(query, order)] == wanted

    def test_plain_values_stay_comparable_in_a_process_of_many_classes(self, shop, orders):
        class TagQuery(QueryObject[Order]):
            tags__eq: str | None = None

        for number in range(1100):
            child_class(dataclass(type(f"Other{number}", (), {"__annotations__": {"tags": list[str]}})), "tags")
        tagged = exists(fields(Order).tags, lambda tag: tag == "g")
        assert [order.status for order in shop.orders.find(TagQuery(tags__eq="g"))] == ["dear"]
        assert [order.status for order in shop.orders.find(tagged)] == ["dear"]

    @pytest.mark.parametrize(
        ("name", "match"),
        [
            ("lines__skuu", "Line has no field 'skuu'; did you mean 'sku'"),
            ("lines__sku_like", "did you mean 'sku_contains'"),
            ("tags__like", "plain values, so only an operator"),
            ("lines__price_contains", "does not fit"),
        ],
    )
    def test_a_path_that_does_not_exist_is_refused_with_the_nearest_name(self, name, match):
        with pytest.raises(QueryError, match=match):
            type("Wrong", (QueryObject[Order],), {"__annotations__": {name: str | None}, name: None})

    def test_set_forms_take_them(self, shop, orders):
        o = fields(Order)
        assert shop.orders.update_where(exists(o.tags, lambda tag: tag == "g"), set_={"status": "green"}) == 1
        assert shop.orders.delete_where(not_(exists(o.lines))) == 1
        assert [order.status for order in shop.orders.find(order_by="id")] == ["cheap", "mixed", "green"]

    def test_what_is_no_collection_is_refused(self):
        o = fields(Order)
        with pytest.raises(QueryError, match="not a collection"):
            exists(o.status)  # type: ignore[arg-type]  # the point
        with pytest.raises(QueryError, match="no field 'size'"):
            exists(o.lines, lambda line: line.size > 3)  # type: ignore[attr-defined]  # the point

    def test_other_uses_of_a_part_say_what_to_do(self, shop):
        for use in (
            lambda: shop.orders.find(lines=[]),
            lambda: shop.orders.find(fields(Order).tags == None),  # noqa: E711
            lambda: shop.orders.update_where(set_={"lines": []}, everything=True),
        ):
            with pytest.raises(QueryError, match=r"table of its own, so only exists\(\)"):
                use()


class TestDeclarations:
    def refused(self, match, **members):
        with pytest.raises(MappingError, match=match):
            types.new_class("Refused", (Orders,), exec_body=lambda body: body.update(members)).definition()

    def test_what_does_not_fit_is_refused(self):
        good = dict(Orders.parts)
        self.refused("'tags' of Order has no column", parts={})
        self.refused("'labels', which is not a field", parts={**good, "labels": HasMany(TagRow)})
        self.refused("'status', which is a column", parts={**good, "status": HasMany(TagRow)})
        self.refused("does not say where the children of 'tags'", parts={**good, "tags": HasMany()})
        self.refused("HasMany.value=", parts={**good, "tags": HasMany(TagRow)})
        self.refused("holds entities of Line", parts={**good, "lines": HasMany(LineRow, value="sku")})
        self.refused("no column 'nam'.*'name'", parts={**good, "tags": HasMany(TagRow, value="nam")})
        self.refused("must be an integer column", parts={**good, "lines": HasMany(LineRow, order="sku")})
        self.refused("keeps one of its owners", parts={**good, "notes": HasMany(OrderRow, value="status")})
        self.refused("has no foreign key", parts={**good, "notes": HasMany(StepRow, value="name")})

    def test_a_root_without_a_version_has_to_say_so(self):
        class Unsaid(BaseRepository[Order, int]):
            model = OrderRow
            parts = Orders.parts

        class Said(Unsaid):
            version = None

        with pytest.raises(MappingError, match="no version"):
            Unsaid.definition()
        assert Said.definition().aggregate.parts


class OwnedLine(Line):
    order_id: int | None = None


class OwnedOrder(Order):
    lines: list[OwnedLine] = []


class OwnedOrders(BaseRepository[OwnedOrder, int]):
    model = OrderRow
    version = "version"
    parts = Orders.parts


def test_a_child_that_names_another_owner_is_refused(db):
    with OwnedOrders(db) as orders:
        order = orders.add(OwnedOrder(status="new", lines=[OwnedLine(sku="a")]))
        assert order.lines[0].order_id == order.id
        more = [*order.lines, OwnedLine(sku="b", order_id=order.id)]
        assert len(orders.update(changed(order, lines=more)).lines) == 2
    for write in (
        lambda orders: orders.add(OwnedOrder(status="new", lines=[OwnedLine(sku="c", order_id=order.id)])),
        lambda orders: orders.patch(order.id, {"lines": [OwnedLine(sku="c", order_id=order.id + 1)]}),
    ):
        with pytest.raises(InvalidValueError) as caught, OwnedOrders(db) as orders:
            write(orders)
        assert caught.value.field == "lines[0].order_id"
    with OwnedOrders(db) as orders:
        assert [len(one.lines) for one in orders.find()] == [2]


@dataclass(frozen=True, slots=True)
class Step:
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    title: str
    steps: tuple[Step, ...] = ()
    id: int | None = None


class PlanRow(Base):
    __tablename__ = "plan_of_parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class StepRow(Base):
    __tablename__ = "step_of_plan"
    __table_args__ = (sa.CheckConstraint("place > 0", name="place_is_positive"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(sa.ForeignKey(PlanRow.id, ondelete="CASCADE"))
    name: Mapped[str]
    place: Mapped[int]


class Plans(BaseRepository[Plan, int]):
    model = PlanRow
    version = None
    parts = {"steps": HasMany(StepRow, order="place")}


def test_dataclasses_whose_children_have_no_key_are_values_in_order(db):
    with Plans(db) as plans:
        plan = plans.add(Plan("trip", (Step("pack"), Step("go"), Step("go"))))
        for names in [("book", "pack", "go", "go"), ("go", "pack"), (), ("a", "a", "b"), ("b", "a", "c", "a")]:
            wanted = replace(plan, steps=tuple(map(Step, names)))
            assert plans.update(wanted) == wanted
            assert plans.get(plan.id) == wanted

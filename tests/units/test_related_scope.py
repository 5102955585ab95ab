"""Scopes of related rows: what is hidden stays hidden, whichever way one asks, on every backend."""

import asyncio
from typing import Literal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    InvalidValueError,
    MappingError,
    QueryError,
    QueryObject,
    TransactionAbortedError,
    asc,
    every,
    exists,
    fields,
    is_null,
    not_,
    via,
)
from tests.units.domain import database, own_base
from tests.units.related import (
    AllComments,
    AllCustomers,
    Base,
    Comment,
    Customer,
    CustomerRow,
    Employee,
    Employees,
    Label,
    Order,
    OrderRow,
    Orders,
    Shop,
    fill,
)

o, c = fields(Order), fields(Comment)
customer = via(o.customer_id, Customer)


class Customers(AllCustomers):
    def scope(self):
        return fields(Customer).tenant == self.context


class Comments(AllComments):
    """A comment is deleted softly, and its tenant is that of its order's customer."""

    def scope(self):
        return not_(c.deleted) & (via(via(c.order_id, Order).customer_id, Customer).name != "")


class Visible(AllComments):
    def scope(self):
        return not_(c.deleted)


class Tenant(BaseUnitOfWork[int]):
    customers: Customers
    orders: Orders
    comments: Visible


class Strict(BaseUnitOfWork[int]):
    customers: Customers
    orders: Orders
    comments: Comments


class OrderQuery(QueryObject[Order]):
    customer_id__name: str | None = None
    order_by: Literal["customer_id__name", "-customer_id__name"] = "customer_id__name"
    limit: int = 2


@pytest.fixture
def filled(backend):
    db = database(backend, Base)
    with Shop(db) as shop:
        fill(shop)
    yield db
    db.dispose()


@pytest.fixture
def tenant(filled):
    with Tenant(filled, context=1) as shop:
        yield shop


def swallowed(shop, write):
    with shop:
        with pytest.raises(InvalidValueError) as caught:
            write(shop)
        assert caught.value.field == "order_id"


def numbers(found):
    return sorted(order.number for order in found)


class TestNothingLeaks:
    """Orders 3 and 6 are those of customers of another tenant, ann (another) and dan; order 4 has no customer."""

    @pytest.mark.parametrize(
        ("criterion", "wanted"),
        [
            (customer.name == "dan", []),
            (customer.name == "ann", [1, 5]),
            (not_(customer.name == "ann"), [2]),
            (customer.name != "Bob", [1, 5]),
            (not_(customer.name != "Bob"), [2]),
            (is_null(customer.name), [3, 4, 6]),
            (not_(is_null(customer.name)), [1, 2, 5]),
            (customer.tenant == 2, []),
            (not_(not_(customer.tenant == 2)), []),
            (exists(Customer, lambda one: one.id == o.customer_id), [1, 2, 5]),
            (not_(exists(Customer, lambda one: one.id == o.customer_id)), [3, 4, 6]),
            (every(Customer, lambda one: (one.id == o.customer_id) & (one.tenant == 1)), [1, 2, 3, 4, 5, 6]),
            (exists(Comment, lambda one: (one.order_id == o.id) & (one.text == "y")), []),
            (exists(Comment, lambda one: (one.order_id == o.id) & one.deleted), []),
            (every(Comment, lambda one: (one.order_id == o.id) & (one.text == "x")), [1, 2, 4, 5, 6]),
        ],
    )
    def test_through_filters(self, tenant, criterion, wanted):
        assert numbers(tenant.orders.find(criterion)) == wanted
        assert tenant.orders.count(criterion) == len(wanted)

    def test_through_orders_and_cursors(self, tenant):
        wanted = [3, 4, 6, 2, 1, 5]
        assert [one.number for one in tenant.orders.find(order_by=[customer.name, asc(o.number)])] == wanted
        assert [one.number for one in tenant.orders.stream(order_by=[customer.name, asc(o.number)])] == wanted
        found, cursor = [], None
        while True:
            page = tenant.orders.scroll(OrderQuery(), after=cursor)
            found += [one.number for one in page.items]
            if (cursor := page.next) is None:
                break
        assert found == wanted
        assert tenant.orders.page(OrderQuery(customer_id__name="dan"), with_total=True).total == 0

    def test_a_cursor_is_one_of_its_scope(self, filled):
        with Tenant(filled, context=1) as one:
            cursor = one.orders.scroll(OrderQuery()).next
        with Tenant(filled, context=2) as two, pytest.raises(QueryError, match="another query"):
            two.orders.scroll(OrderQuery(), after=cursor)

    def test_the_scope_of_a_scope_is_met_too(self, filled):
        with Strict(filled, context=2) as shop:
            assert [one.text for one in shop.comments.find()] == ["z"]
            commented = exists(Comment, lambda one: one.order_id == o.id)
            assert numbers(shop.orders.find(commented)) == [3]
        with Strict(filled, context=1) as shop:
            assert sorted(one.text for one in shop.comments.find()) == ["x", "x"]
            assert shop.comments.count(via(c.order_id, Order).number == 3) == 0
            assert shop.comments.delete_where(everything=True) == 2
        with Shop(filled) as shop:
            assert sorted(one.text for one in shop.comments.find()) == ["y", "z"]

    def test_all_repositories_over_a_table_count(self, filled):
        class Good(AllCustomers):
            def scope(self):
                return fields(Customer).grade >= 2

        class Both(Tenant):
            good: Good

        with Both(filled, context=1) as shop:
            assert numbers(shop.orders.find(customer.name != "")) == [1, 5]
            assert [one.name for one in shop.customers.find()] == ["ann", "Bob"]


class TestWriting:
    """What a scope says about rows elsewhere is checked by a count after the statement."""

    def test_a_row_outside_aborts_the_unit(self, filled):
        with Shop(filled) as shop:
            mine, other = (shop.orders.one(number=number).id for number in (1, 3))
        for write in (
            lambda shop: shop.comments.add(Comment(order_id=other)),
            lambda shop: shop.comments.add_many([Comment(order_id=mine), Comment(order_id=other)]),
            lambda shop: shop.comments.patch(shop.comments.first().id, {"order_id": other}),
            lambda shop: shop.comments.update(shop.comments.first().model_copy(update={"order_id": other})),
            lambda shop: shop.comments.save(Comment(order_id=other)),
            lambda shop: shop.comments.upsert(Comment(id=99, order_id=other), on="id"),
        ):
            shop = Strict(filled, context=1)
            with pytest.raises(TransactionAbortedError):  # the error is swallowed, and the unit left normally
                swallowed(shop, write)
        with Strict(filled, context=1) as shop:
            assert len(shop.comments.add_many([Comment(order_id=mine, text="new"), Comment(order_id=mine)])) == 2
            first = shop.comments.one(text="new")
            assert shop.comments.update(first.model_copy(update={"text": "newer"})).text == "newer"
            assert shop.comments.upsert(first, on="id").entity.text == "new"
            assert shop.comments.update_where(text="new", set_={"text": "n"}) == 1
            with pytest.raises(QueryError, match="patch the entities one by one"):
                shop.comments.update_where(text="n", set_={"order_id": other})
            assert shop.comments.count() == 4
        with Shop(filled) as shop:
            assert shop.comments.count() == 6

    def test_plain_parts_are_checked_before_the_statement(self, filled):
        with Shop(filled) as shop:
            mine = shop.orders.one(number=1).id
        with Strict(filled, context=1) as shop:
            with pytest.raises(InvalidValueError) as caught:
                shop.comments.add(Comment(order_id=mine, deleted=True))
            assert caught.value.field == "deleted"
            assert shop.comments.count() == 2  # nothing was sent

    def test_a_scope_about_children(self, filled):
        class Full(Orders):
            def scope(self):
                return exists(o.lines)

        class Fulls(BaseUnitOfWork):
            orders: Full

        with Fulls(filled) as shop:
            assert numbers(shop.orders.find()) == [1, 3, 4]
            assert shop.orders.delete_where(number=2) == 0


Own = own_base()


class BasketRow(Own):
    __tablename__ = "related_basket"
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    items: Mapped[list["ItemRow"]] = relationship(cascade="all, delete-orphan")


class ItemRow(Own):
    __tablename__ = "related_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    basket_id: Mapped[int] = mapped_column(sa.ForeignKey(BasketRow.id, ondelete="CASCADE"))
    qty: Mapped[int]


class Item(BaseModel):
    id: int | None = None
    qty: int


class StoredItem(Item):
    basket_id: int


class Basket(BaseModel):
    id: int | None = None
    items: list[Item] = []
    version: int = 1


class Baskets(BaseRepository[Basket, int]):
    model = BasketRow
    version = "version"


class AllItems(BaseRepository[StoredItem, int]):
    model = ItemRow


class Items(AllItems):
    """Items with the quantity 0 are hidden."""

    def scope(self):
        return fields(StoredItem).qty > 0


class Bare(BaseUnitOfWork):
    baskets: Baskets
    items: AllItems


class Hiding(BaseUnitOfWork):
    baskets: Baskets
    items: Items


class TestHiddenChildren:
    @pytest.fixture
    def own(self, backend):
        db = database(backend, Own)
        yield db
        db.dispose()

    @pytest.fixture
    def key(self, own):
        with Bare(own) as shop:
            return shop.baskets.add(Basket(items=[Item(qty=0), Item(qty=1), Item(qty=2)])).id

    def test_are_neither_returned_nor_matched(self, own, key):
        b = fields(Basket)
        with Hiding(own) as shop:
            assert [item.qty for item in shop.baskets.get(key).items] == [1, 2]
            for found in (shop.baskets.find(), list(shop.baskets.stream()), shop.baskets.get_many([key])):
                assert [[item.qty for item in one.items] for one in found] == [[1, 2]]
            assert shop.baskets.count(exists(b.items, lambda item: item.qty == 0)) == 0
            assert shop.baskets.count(every(b.items, lambda item: item.qty > 0)) == 1
            assert shop.baskets.count(exists(b.items)) == 1

    def test_are_not_in_views(self, own, key):
        class BasketView(BaseModel):
            items: list[Item]
            items__count: int
            items__qty_min: int | None

        with Hiding(own) as shop:
            view = shop.baskets.get(key, into=BasketView)
            assert ([item.qty for item in view.items], view.items__count, view.items__qty_min) == ([1, 2], 2, 1)

    @pytest.mark.parametrize("call", ["add", "update", "save", "patch"])
    def test_are_not_written(self, own, key, call):
        items = [Item(qty=3), Item(qty=0)]
        with Hiding(own) as shop:
            kept = shop.baskets.get(key)
            old = [kept.items[0], kept.items[1].model_copy(update={"qty": 0})]
            changed = kept.model_copy(update={"items": old})
        calls = {
            "add": lambda shop: shop.baskets.add(Basket(items=items)),
            "update": lambda shop: shop.baskets.update(changed),
            "save": lambda shop: shop.baskets.save(changed),
            "patch": lambda shop: shop.baskets.patch(key, {"items": items}),
        }

        def write():
            with Hiding(own) as shop:
                with pytest.raises(InvalidValueError, match="outside the repository's scope") as refused:
                    calls[call](shop)
                assert refused.value.field == "items[1].qty"

        with pytest.raises(TransactionAbortedError):
            write()
        with Bare(own) as shop:
            assert [[item.qty for item in one.items] for one in shop.baskets.find()] == [[0, 1, 2]]

    def test_are_not_touched_by_a_write(self, own, key):
        with Hiding(own) as shop:
            kept = shop.baskets.get(key)
            changed = kept.model_copy(update={"items": [kept.items[1], Item(qty=7)]})
            assert [item.qty for item in shop.baskets.update(changed).items] == [2, 7]
            shop.baskets.patch(key, {"items": []})
            assert shop.baskets.get(key).items == []
            assert shop.baskets.count(not_(exists(fields(Basket).items))) == 1
        with Bare(own) as shop:
            hidden = shop.baskets.get(key)
            assert [item.qty for item in hidden.items] == [0]
        with pytest.raises(InvalidValueError, match="not the key of one of the items"), Hiding(own) as shop:
            shop.baskets.update(hidden)

    def test_go_with_their_owner(self, own, key):
        with Hiding(own) as shop:
            shop.baskets.delete(key)
        with Bare(own) as shop:
            assert shop.items.count() == 0

    def test_are_not_read_without_their_repository(self, own, key):
        class Basketry(BaseUnitOfWork):
            baskets: Baskets

        with Basketry(own) as shop, pytest.raises(QueryError, match="declare a repository of the table in Basketry"):
            shop.baskets.get(key)


class AsyncCustomers(AsyncBaseRepository[Customer, int]):
    model = CustomerRow
    parts = AllCustomers.parts

    def scope(self):
        return fields(Customer).tenant == self.context


class AsyncOrders(AsyncBaseRepository[Order, int]):
    model = OrderRow
    version = "version"
    parts = Orders.parts


class AsyncTenant(AsyncBaseUnitOfWork[int]):
    customers: AsyncCustomers
    orders: AsyncOrders


def test_async_units_hide_the_same_rows():
    db = database("memory", Base)
    with Shop(db) as shop:
        fill(shop)

    async def ask():
        async with AsyncTenant(db, context=1) as shop:
            assert numbers(await shop.orders.find(customer.name == "ann")) == [1, 5]
            assert numbers(await shop.orders.find(OrderQuery(customer_id__name="ann"))) == [1, 5]
            assert [one.number for one in await shop.orders.find(order_by=["customer_id__name", "number"])][-1] == 5

    asyncio.run(ask())


class TestDeclarations:
    def test_a_scoped_table_is_not_read_without_its_repository(self, filled):
        class Orderly(BaseUnitOfWork):
            orders: Orders

        with Orderly(filled) as shop:
            for criterion in (customer.name == "dan", exists(Comment, lambda one: one.order_id == o.id)):
                with pytest.raises(QueryError, match="declare a repository of the table in Orderly"):
                    shop.orders.find(criterion)
            with pytest.raises(QueryError, match="has a scope over table related_customer"):
                shop.orders.find(order_by=customer.name)
            assert shop.orders.count(exists(o.label_ids, lambda one: via(one, Label).name == "urgent")) == 2

    def test_circles_are_refused_by_name(self, filled):
        class OrdersOfComments(Orders):
            def scope(self):
                return exists(Comment, lambda one: one.order_id == o.id)

        class CommentsOfOrders(AllComments):
            def scope(self):
                return via(c.order_id, Order).number > 0

        class Circle(BaseUnitOfWork):
            orders: OrdersOfComments
            comments: CommentsOfOrders

        class Loop(Employees):
            def scope(self):
                return is_null(via(fields(Employee).boss_id, Employee).name)

        with Circle(filled) as shop:
            with pytest.raises(MappingError, match=r"OrdersOfComments.scope\(\) -> CommentsOfOrders.scope\(\) -> Or"):
                shop.orders.find()
            with pytest.raises(MappingError, match="in a circle"):
                shop.comments.find()
        with pytest.raises(MappingError, match=r"Loop.scope\(\) -> Loop.scope\(\)"):
            Loop(filled).find()

    def test_a_mistake_in_a_scope_names_the_scope(self, filled):
        class Wrong(AllComments):
            def scope(self):
                return via(c.author_id, Order).number == "x"

        with pytest.raises(Exception, match=r"Wrong.scope\(\)"):
            Wrong(filled).find()

"""Northwind's questions on each back end; the contract on its repositories."""

from datetime import date
from decimal import Decimal

import pytest

from sqlrepo import ForeignKeyViolationError, InvalidValueError, exists, fields, via
from sqlrepo.testing import Harness, RepositoryContract, query_budget
from tests.applications.northwind import (
    Address,
    Base,
    ByCategory,
    ByStatus,
    Category,
    Customer,
    CustomerQuery,
    Customers,
    Employee,
    Employees,
    EmployeeView,
    Order,
    OrderDetail,
    OrderQuery,
    OrderView,
    Product,
    Products,
    Revenue,
    RevenueFilter,
    Sold,
    Supplier,
    Traders,
)

MONDAY = date(1996, 7, 8)
CUSTOMERS = [("ALFKI", "Alfreds", "Germany"), ("BLONP", "Blondesddsl", "France"), ("BOLID", "Bólido", "Spain")]
#: product, category, supplier, price
PRODUCTS = [("Chai", 1, 1, "18.00"), ("Chang", 1, 1, "19.00"), ("Tofu", 2, 2, "23.25"), ("Ikura", None, None, "31.00")]
#: customer, employee, status, city, details: product, quantity, discount
ORDERS = [
    ("ALFKI", 3, "open", "Berlin", [(1, 2, "0.00"), (3, 1, "0.10")]),
    ("BLONP", 2, "sent", "Strasbourg", [(2, 10, "0.05"), (1, 5, "0.15")]),
    ("ALFKI", None, "sent", "Bonn", [(4, 1, "0.00")]),
    ("BLONP", 3, "open", "Strasbourg", []),
]

o = fields(Order)


@pytest.fixture
def base():
    return Base


def detail(product, quantity, discount="0.00"):
    price = Decimal(PRODUCTS[product - 1][3])
    return OrderDetail(
        product_id=product, unit_price=price, quantity=quantity, discount=Decimal(discount), amount=quantity * price
    )


def make_order(customer, employee, status, city, details, *, days=0):
    return Order(
        customer_id=customer,
        employee_id=employee,
        status=status,
        order_date=date.fromordinal(MONDAY.toordinal() + days),
        freight=Decimal("1.50") * (days + 1),
        ship_to=Address(street="Main street", city=city, country=city[:1]),
        details=[detail(*given) for given in details],
    )


def stock(traders):
    traders.customers.add_many([Customer(id=key, name=name, country=country) for key, name, country in CUSTOMERS])
    traders.employees.add(Employee(name="Andrew"))
    traders.employees.add_many([Employee(name=name, reports_to=boss) for name, boss in [("Steven", 1), ("Nancy", 2)]])
    traders.categories.add_many([Category(name="Beverages"), Category(name="Produce")])
    traders.suppliers.add_many(
        [Supplier(name="Exotic Liquids", country="UK"), Supplier(name="Mayumi", country="Japan")]
    )
    traders.products.add_many(
        [
            Product(name=name, category_id=category, supplier_id=supplier, price=Decimal(price))
            for name, category, supplier, price in PRODUCTS
        ]
    )


@pytest.fixture
def traders(db):
    with Traders(db) as traders:
        stock(traders)
        traders.orders.add_many([make_order(*given, days=days) for days, given in enumerate(ORDERS)])
        yield traders


class TestOrders:
    def found(self, traders, **filters):
        return [order.id for order in traders.orders.find(OrderQuery(**filters))]

    def test_by_what_they_refer_to(self, traders):
        assert self.found(traders, details__product_id__category_id__name="Beverages") == [1, 2]
        assert self.found(traders, details__product_id__category_id__name="Produce") == [1]
        assert self.found(traders, customer_id__country="France") == [2, 4]
        assert self.found(traders, customer_id__country="France", status="sent") == [2]
        assert self.found(traders, employee_id__reports_to=2) == [1, 4]
        assert self.found(traders, ship_to__city="Bonn") == [3]

    def test_filters_of_one_detail(self, traders):
        both = {"details__product_id__category_id__name": "Beverages", "details__quantity_ge": 5}
        assert self.found(traders, **both) == [2]
        assert self.found(traders, **{**both, "details__product_id__category_id__name": "Produce"}) == []
        assert self.found(traders, all_discounted=True) == [2, 4]

    def test_through_three_keys(self, traders):
        def from_uk(line):
            return via(via(line.product_id, Product).supplier_id, Supplier).country == "UK"

        assert [order.id for order in traders.orders.find(exists(o.details, from_uk), order_by="id")] == [1, 2]
        boss = via(via(o.employee_id, Employee).reports_to, Employee)
        assert [order.id for order in traders.orders.find(boss.name == "Steven", order_by="id")] == [1, 4]

    def test_a_filter_leaves_the_details_whole(self, traders):
        found = traders.orders.find(exists(o.details, lambda d: d.product_id == 3))
        assert [line.product_id for line in found[0].details] == [1, 3]

    @pytest.mark.parametrize(
        ("order_by", "wanted"),
        [("customer_id__name,-id", [3, 1, 4, 2]), ("-order_date,ship_to__city,id", [4, 3, 2, 1])],
    )
    def test_in_order_by_pages_and_cursors(self, traders, order_by, wanted):
        query = OrderQuery(order_by=order_by, limit=3)
        assert [order.id for order in traders.orders.page(query).items] == wanted[:3]
        first = traders.orders.scroll(query)
        second = traders.orders.scroll(query, after=first.next)
        assert [order.id for page in (first, second) for order in page.items] == wanted
        assert traders.orders.scroll(query, before=second.previous).items == first.items

    def test_customers_without_orders(self, traders):
        assert [one.id for one in traders.customers.find(CustomerQuery(without_orders=True))] == ["BOLID"]
        assert traders.customers.find(CustomerQuery(without_orders=True, country_in=["France"])) == []


class TestViews:
    def test_three_levels_deep(self, traders):
        with query_budget(2):  # orders with what they refer to, and details with theirs
            shown = traders.orders.find(OrderQuery(), into=OrderView)
        first, *_, last = shown
        assert (first.customer.name, first.ship_to.city) == ("Alfreds", "Berlin")
        assert (first.employee.name, first.employee.manager.name) == ("Nancy", "Steven")
        assert [
            (d.quantity, d.product.name, d.product.category.name, d.product.supplier.name) for d in first.details
        ] == [
            (2, "Chai", "Beverages", "Exotic Liquids"),
            (1, "Tofu", "Produce", "Mayumi"),
        ]
        assert shown[2].employee is None
        assert (shown[2].details[0].product.category, shown[2].details[0].product.supplier) == (None, None)
        assert last.details == []
        assert [(one.details__count, one.details__amount_sum) for one in shown] == [
            (2, Decimal("59.25")),
            (2, Decimal("280.00")),
            (1, Decimal("31.00")),
            (0, None),
        ]

    def test_statements_do_not_grow_with_the_page(self, traders):
        traders.orders.add_many([make_order("BOLID", 3, "new", "Bonn", [(1, 1)], days=days) for days in range(30)])
        with query_budget(2) as spent:
            assert len(traders.orders.find(OrderQuery(limit=40), into=OrderView)) == 34
        assert spent.count == 2

    def test_cursors_in_the_order_of_the_customers_names(self, traders):
        query = OrderQuery(order_by="customer_id__name,-id", limit=3)
        first = traders.orders.scroll(query, into=OrderView)
        second = traders.orders.scroll(query, after=first.next, into=OrderView)
        assert [order.id for page in (first, second) for order in page.items] == [3, 1, 4, 2]

    def test_who_reports_to_whom(self, traders):
        shown = traders.employees.find(order_by="id", into=EmployeeView)
        assert [(one.name, one.manager and one.manager.name) for one in shown] == [
            ("Andrew", None),
            ("Steven", "Andrew"),
            ("Nancy", "Steven"),
        ]


class TestSummaries:
    def test_revenue_per_customer(self, traders):
        best = traders.orders.summarize(Revenue, order_by="-details__amount_sum")
        assert [(one.customer_id, one.customer_id__name, one.count, one.details__amount_sum) for one in best] == [
            ("BLONP", "Blondesddsl", 2, Decimal("280.00")),
            ("ALFKI", "Alfreds", 2, Decimal("90.25")),
        ]
        assert traders.orders.summarize(Revenue, order_by="-details__amount_sum", limit=1) == best[:1]
        rich = RevenueFilter(details__amount_sum_gt=Decimal(100))
        assert traders.orders.summarize(Revenue, having=rich) == best[:1]

    def test_revenue_per_status_of_those_that_match(self, traders):
        def per_status(**filters):
            return [tuple(dict(one).values()) for one in traders.orders.summarize(ByStatus, OrderQuery(**filters))]

        assert per_status() == [
            ("open", 2, 2, Decimal("59.25"), Decimal("3.750000")),
            ("sent", 2, 2, Decimal("311.00"), Decimal("3.750000")),
        ]
        assert per_status(customer_id__country="France") == [
            ("open", 1, 1, None, Decimal("6.000000")),
            ("sent", 1, 1, Decimal("280.00"), Decimal("3.000000")),
        ]
        # an order counts once, however many of its details match, and all that it holds
        assert per_status(details__product_id__category_id__name="Beverages") == [
            ("open", 1, 1, Decimal("59.25"), Decimal("1.500000")),
            ("sent", 1, 1, Decimal("280.00"), Decimal("3.000000")),
        ]

    def test_counts_per_country(self, traders):
        assert traders.customers.counts(fields(Customer).country) == {"France": 1, "Germany": 1, "Spain": 1}
        assert traders.orders.counts(via(o.customer_id, Customer).country) == {"France": 2, "Germany": 2}
        assert traders.orders.counts(o.ship_to.city, o.status == "open") == {"Berlin": 1, "Strasbourg": 1}
        assert traders.orders.distinct(o.ship_to.city) == ["Berlin", "Bonn", "Strasbourg"]

    def test_top_products_and_their_categories(self, traders):
        top = traders.sales.summarize(Sold, order_by="-quantity_sum", limit=2)
        assert [(one.product_id__name, one.quantity_sum) for one in top] == [("Chang", 10), ("Chai", 7)]
        categories = traders.sales.summarize(ByCategory)
        assert [tuple(dict(one).values()) for one in categories] == [
            (None, Decimal("31.00")),
            ("Beverages", Decimal("316.00")),
            ("Produce", Decimal("23.25")),
        ]


class TestDetails:
    def test_are_matched_by_their_product(self, traders):
        order = traders.orders.get(1)
        edited = order.model_copy(update={"details": [detail(3, 7), detail(2, 1)]})
        stored = traders.orders.update(edited)
        assert stored == traders.orders.get(1)
        assert [(line.product_id, line.quantity) for line in stored.details] == [(2, 1), (3, 7)]  # in their key's order
        assert stored.version == 2

    def test_name_a_product_once(self, traders):
        with pytest.raises(InvalidValueError) as caught:
            traders.orders.patch(1, {"details": [detail(1, 1), detail(1, 2)]})
        assert caught.value.field == "details[1].product_id"

    def test_name_a_product_that_there_is(self, db):
        with Traders(db) as traders:
            stock(traders)
        missing = detail(1, 1).model_copy(update={"product_id": 99})
        with pytest.raises(ForeignKeyViolationError), Traders(db) as traders:
            traders.orders.add(make_order("ALFKI", None, "open", "Bonn", []).model_copy(update={"details": [missing]}))
        with Traders(db) as traders:
            assert traders.orders.count() == traders.sales.count() == 0

    def test_go_with_their_order(self, traders):
        traders.orders.delete_where(status="open")
        assert {sale.order_id for sale in traders.sales.find()} == {2, 3}


class Contract:
    @pytest.fixture
    def harness(self, db):
        with Traders(db) as traders:
            if self.repository in ("orders", "products"):
                stock(traders)
            if self.repository == "products":
                traders.products.delete_where(everything=True)
        return Harness(open=lambda: self.alone(db), make=self.make, change=self.change)


class TestOrdersContract(Contract, RepositoryContract[Order, int]):
    repository, alone = "orders", Traders
    make = staticmethod(lambda n: make_order(*ORDERS[n % 4], days=n))
    change = staticmethod(lambda order: order.model_copy(update={"freight": order.freight + 1}))


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestProductsContract(Contract, RepositoryContract[Product, int]):
    repository, alone = "products", Products
    make = staticmethod(
        lambda n: Product(name=f"P{n}", category_id=n % 2 + 1 if n % 3 else None, price=Decimal(n) / 4, supplier_id=1)
    )
    change = staticmethod(lambda product: product.model_copy(update={"name": "changed"}))


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestEmployeesContract(Contract, RepositoryContract[Employee, int]):
    repository, alone = "employees", Employees
    make = staticmethod(lambda n: Employee(name=f"E{n}"))
    change = staticmethod(lambda employee: employee.model_copy(update={"name": "changed"}))


@pytest.mark.repeats
@pytest.mark.parametrize("kind", ["memory", "sqlite"], indirect=True)
class TestCustomersContract(Contract, RepositoryContract[Customer, str]):
    repository, alone = "customers", Customers
    make = staticmethod(lambda n: Customer(id=f"C{n}", name=f"Name {n % 5}", country="ABC"[n % 3]))
    change = staticmethod(lambda customer: customer.model_copy(update={"name": "changed"}))

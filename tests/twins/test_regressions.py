"""Differences that twins have found, each as a short case with equal outcomes in memory and on all databases."""

import pytest

from sqlrepo import CheckViolationError, MappingError, fields, icontains, iendswith, iequals, istartswith
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.twins import linked
from tests.twins.domain import Base, Lab, Label, Shelf, Specimen

specimen = fields(Specimen)


def on_stores(base):
    """A fixture that gives memory and each database with empty tables."""

    @pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
    def store(request):
        if request.param == "memory":
            yield InMemoryDatabase()
            return
        db = Database("sqlite://" if request.param == "sqlite" else servers.made_for_tests(request.param, "found"))
        base.metadata.drop_all(db.engine)
        base.metadata.create_all(db.engine)
        yield db
        base.metadata.drop_all(db.engine)
        db.dispose()

    return store


db, sales = on_stores(Base), on_stores(linked.Base)


def test_whole_float_is_a_float_when_it_was_just_added(db):
    """RETURNING on SQLite returned 1.0 as the integer 1."""
    with Lab(db) as lab:
        added = lab.specimens.add_many([Specimen(1, ratio=1.0), Specimen(2, ratio=0.0), Specimen(3)])
        upserted = lab.specimens.upsert(Specimen(4, ratio=-2.0), on="id").entity

        assert [type(one.ratio) for one in (*added, upserted)] == [float, float, type(None), float]
        assert lab.specimens.find() == [*added, upserted]


@pytest.mark.parametrize("operator", [icontains, istartswith, iendswith, iequals], ids=lambda one: one.__name__)
def test_case_is_ignored_in_texts_without_a_length(db, operator):
    """PostgreSQL did not choose between the collation of the fold and that of the parameter."""
    with Lab(db) as lab:
        lab.specimens.add_many([Specimen(1, other="É"), Specimen(2, other="b"), Specimen(3)])

        assert [one.id for one in lab.specimens.find(operator(specimen.other, "é"))] == [1]


def test_value_that_is_no_member_is_a_mapping_error(db):
    """All backends raised a bare ValueError."""
    shelf = Shelf(db)
    with pytest.raises(MappingError), shelf:
        shelf.labels.add(Label("a", size=5))

    with shelf:
        assert shelf.labels.count() == 0


# -- found on tables that refer to each other


def ordered(shop):
    ann = shop.customers.add(linked.Customer(name="Ann"))
    return shop.orders.add(linked.Order(customer_id=ann.id))


def test_check_violation_names_the_table(sales):
    with linked.Sales(sales) as shop:
        line = linked.Line(order_id=ordered(shop).id, number=1, product="a", quantity=0)
        with pytest.raises(CheckViolationError) as caught, shop.savepoint():
            shop.lines.add(line)
    assert (caught.value.constraint, caught.value.table) == ("ck_line_quantity", "order_line")


def test_upserted_row_is_checked_even_if_the_row_exists(sales):
    with linked.Sales(sales) as shop:
        line = shop.lines.add(linked.Line(order_id=ordered(shop).id, number=1, product="a"))
        none = line.model_copy(update={"quantity": 0})
        with pytest.raises(CheckViolationError), shop.savepoint():
            shop.lines.upsert(none, on=("order_id", "number"), update=())
        assert shop.lines.find() == [line]

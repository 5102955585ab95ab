"""Differences that twins have found, each as a short case with equal outcomes in memory and on all databases."""

import pytest

from sqlrepo import (
    CheckViolationError,
    MappingError,
    contains,
    fields,
    icontains,
    iendswith,
    iequals,
    in_,
    is_null,
    istartswith,
    not_in,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing.twins.comparison import Runner, Tally, scroll
from sqlrepo.testing.twins.model import Call, FieldRef, Operation, Unit, UnitUnderTest
from sqlrepo.testing.twins.relations import query
from sqlrepo.testing.twins.stores import Stores
from tests.databases import servers
from tests.twins import edges, linked
from tests.twins.domain import Base, Lab, Label, Shelf, Specimen

specimen = fields(Specimen)


def deferrable(table):
    return any(key.deferrable for key in table.foreign_key_constraints)


def on_stores(base):
    """A fixture that gives memory and each database with empty tables."""

    @pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
    def store(request):
        if request.param == "memory":
            yield InMemoryDatabase()
            return
        db = Database("sqlite://" if request.param == "sqlite" else servers.made_for_tests(request.param, "found"))
        kept = [
            table
            for table in base.metadata.sorted_tables
            if request.param in ("sqlite", "postgresql") or not deferrable(table)
        ]
        base.metadata.drop_all(db.engine, kept)
        base.metadata.create_all(db.engine, kept)
        yield db
        base.metadata.drop_all(db.engine, kept)
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


# -- found at the edges

club = on_stores(edges.Base)
member = fields(edges.Member)


def member_of(login, level, **values):
    return edges.Member(login=login, email=f"{login}@x", level=level, name="n", **values)


def test_batch_is_stored_though_its_keys_are_normalised(club):
    """SQLAlchemy looked for the rows of a batch by the keys that were given."""
    with edges.Club(club) as unit:
        added = unit.members.add_many([member_of("B", 1), member_of("a", 2), member_of("C", 3)])
        assert [(one.login, one.level) for one in added] == [("b", 1), ("a", 2), ("c", 3)]
        assert unit.members.find(order_by="level") == added


@pytest.mark.parametrize(("field", "values"), [("nickname", ("", "a", "")), ("rank", (None, 5, None))])
@pytest.mark.parametrize("minus", ["", "-"])
def test_pages_by_cursor_and_streams_go_on_at_null_as_the_type_stores_it(club, monkeypatch, field, values, minus):
    """A page ended where a type reads NULL as a value, or stores None as one."""
    monkeypatch.setattr("sqlrepo.core.reading._ROWS_AT_ONCE", 1)
    with edges.Club(club) as unit:
        members = [member_of(login, level, **{field: values[level]}) for level, login in enumerate("abc")]
        unit.members.add_many(members)
        rows = unit.members.find(order_by=minus + field)
        assert len(rows) == 3
        pages = scroll(unit.members, query(edges.Member, None, minus + field, limit=1), ["after", "after", "before"])
        assert [one for page in pages for one in page.items] == [*rows, rows[1]]
        assert list(unit.members.stream(order_by=minus + field)) == rows


def test_value_that_is_stored_as_null_equals_it(club):
    """A comparison with such a value raised a TypeError in memory, and was true of no row in databases."""
    with edges.Club(club) as unit:
        unit.members.add_many([member_of("a", 1, nickname="x", rank=None), member_of("b", 2, rank=5)])

        def found(criterion):
            return [one.login for one in unit.members.find(criterion)]

        assert [found(member.nickname == ""), found(member.nickname != "")] == [["b"], ["a"]]
        assert [found(in_(member.nickname, ["", "x"])), found(not_in(member.nickname, [""]))] == [["a", "b"], ["a"]]
        assert [found(member.nickname < ""), found(contains(member.nickname, ""))] == [[], []]
        assert [found(is_null(member.nickname)), found(is_null(member.rank))] == [["b"], []]  # what is stored


def test_boolean_field_alone_has_relations():
    """The relations of such a criterion raised an AttributeError."""
    stores = Stores(UnitUnderTest(edges.Panel), Database("sqlite://"))
    stores.create_tables()
    calls = [Call("knobs", "find", (ref,)) for ref in (FieldRef("knobs", "into"), FieldRef("knobs", "with_total"))]
    for call in (*calls, Call("knobs", "find", (Operation("&", (calls[0].arguments[0], calls[1].arguments[0])),))):
        for number in range(32):
            Runner(stores, Tally(), number).run((Unit((call,)),))
    stores.close()

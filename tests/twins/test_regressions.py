"""Differences that twins have found, each as the shortest case that shows it; all databases answer as memory does."""

import pytest

from sqlrepo import MappingError, UnsupportedError, fields, icontains, iendswith, iequals, istartswith
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers
from tests.twins.domain import Base, Lab, Label, Shelf, Specimen
from tests.twins.linked import LINKED

specimen = fields(Specimen)


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
def db(request):
    if request.param == "memory":
        yield InMemoryDatabase()
        return
    made = Database("sqlite://" if request.param == "sqlite" else servers.made_for_tests(request.param, "found"))
    Base.metadata.drop_all(made.engine)
    Base.metadata.create_all(made.engine)
    yield made
    Base.metadata.drop_all(made.engine)
    made.dispose()


def test_whole_float_is_a_float_when_it_was_just_added(db):
    """SQLite's RETURNING tells 1.0 as the integer 1."""
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


def test_value_that_is_no_member_is_a_misfit_of_the_row(db):
    """It was a bare ValueError, on every backend."""
    shelf = Shelf(db)
    with pytest.raises(MappingError), shelf:
        shelf.labels.add(Label("a", size=5))

    with shelf:
        assert shelf.labels.count() == 0


@pytest.mark.parametrize("unit", LINKED, ids=lambda unit: unit.__name__)
def test_memory_refuses_what_refers_to_other_rows(unit):
    """The day it keeps foreign keys this fails, and the linked shapes become twins like the others."""
    with pytest.raises(UnsupportedError):
        unit(InMemoryDatabase())

"""The contract itself: its list of clauses, the classes derived from it, and how it finds the repository."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest

from sqlrepo import BaseUnitOfWork
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Capabilities, Harness, RepositoryContract, deliberate
from sqlrepo.testing.contract import cases_of
from sqlrepo.testing.subject import Subject
from tests.contract.entities import Todo, Todos, make_todo

DOCUMENT = Path(__file__).parents[2] / "docs" / "contract.md"
CASES = cases_of(RepositoryContract)


def harness(**members):
    database = InMemoryDatabase()
    return Harness(**{"open": lambda: Todos(database), "make": make_todo, "change": lambda todo: todo, **members})


# -- the list of clauses


def test_document_and_cases_hold_the_same_clauses():
    written = re.findall(r"^- \*\*(\d+\.\d+)\*\* ", DOCUMENT.read_text(), re.MULTILINE)

    assert len(written) == len(set(written)), "a number is given twice"
    assert set(written) - {case.clause for case in CASES.values()} == set(), "clauses that no case checks"
    assert {case.clause for case in CASES.values()} - set(written) == set(), "cases of clauses that are not written"


def test_clauses_are_numbered_without_gaps():
    written = re.findall(r"^(?:## |- \*\*)(\d+)(?:\.(\d+))?", DOCUMENT.read_text(), re.MULTILINE)
    section = number = 0
    for head, tail in written:
        section, number = (section, number + 1) if tail else (section + 1, 0)
        assert (int(head), int(tail or 0)) == (section, number)


def test_every_method_that_pytest_would_collect_cites_a_clause():
    assert {name for name in dir(RepositoryContract) if name.startswith("test_")} == set(CASES)


def test_every_case_says_what_it_does():
    assert [name for name, case in CASES.items() if not case.__doc__] == []


# -- deriving from it


def test_contract_itself_is_not_collected():
    class TestOwn(RepositoryContract[Todo, int]): ...

    assert RepositoryContract.__test__ is False
    assert getattr(TestOwn, "__test__", True) is True


@pytest.mark.parametrize("hiding", [lambda self: None, None])
def test_hiding_a_case_is_refused(hiding):
    mixin = type("Mixin", (), {"test_order_follows_a_field": hiding})

    with pytest.raises(TypeError, match=r"TestOwn\.test_order_follows_a_field hides the case of clause 5\.2"):

        class TestOwn(mixin, RepositoryContract[Todo, int]): ...


def test_hiding_a_case_deliberately_is_allowed():
    class TestOwn(RepositoryContract[Todo, int]):
        @deliberate("orders of this table follow a dictionary")
        def test_order_follows_a_field(self): ...

    class TestDerived(TestOwn): ...

    assert TestDerived.test_order_follows_a_field is TestOwn.test_order_follows_a_field


# -- capabilities


def test_capabilities_are_on_unless_switched_off():
    assert Capabilities().off == ()
    assert Capabilities(fresh_keys=False).off == ("fresh_keys",)


def test_backends_say_what_they_lack():
    assert Capabilities.of(InMemoryDatabase()).off == ("row_locks",)
    assert "concurrent_writers" in Capabilities.of(Database("sqlite://")).off


def test_harness_may_override_the_backend():
    assert Subject(harness()).capabilities == Capabilities.of(InMemoryDatabase())
    assert Subject(harness(capabilities=Capabilities(fresh_keys=False))).capabilities.off == ("fresh_keys",)


# -- finding the repository


class Two(BaseUnitOfWork):
    todos: Todos
    archive: Todos


class Without(BaseUnitOfWork):
    number: int = 1


@contextmanager
def yielding(make):
    with Two(InMemoryDatabase()) as unit:
        yield make(unit)


@pytest.mark.parametrize("unit", [Two, Without])
def test_ambiguous_repository_is_an_error(unit):
    with pytest.raises(TypeError, match="let the harness's open"):
        Subject(harness(open=lambda: unit(InMemoryDatabase())))


def test_open_may_yield_the_repository():
    assert Subject(harness(open=lambda: yielding(lambda unit: unit.archive))).entity is Todo


def test_open_must_yield_a_unit_or_a_repository():
    with pytest.raises(TypeError, match="a unit of work or a repository"):
        Subject(harness(open=lambda: yielding(lambda _: object())))

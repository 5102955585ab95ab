"""The quick profile finds every fault that is planted in memory."""

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.testing.twins.contract import PROFILES, DivergenceError, Effort, Run
from sqlrepo.testing.twins.model import UnitUnderTest
from sqlrepo.testing.twins.stores import Stores
from tests.contract import mutants as general
from tests.twins import mutants as own
from tests.twins.aggregates import Northwind
from tests.twins.domain import Bank, Lab, Shelf, Shop, Theatre
from tests.twins.edges import Club, Edges, League, Panel
from tests.twins.linked import Sales
from tests.twins.places import connect
from tests.twins.shapes import SHAPES, References

# The shape that finds a fault soonest is tried first.
SOONEST = {
    Theatre: "CaseIsNeverIgnored DecimalsLoseTheirZeros DeletesTooMuch DeletingNothingCounts EndsAreLeftOut "
    "FirstSortKeyOnly FoldIsOfAsciiOnly InsertedOneByOne NoneIsNotWritten OnlyTheFirstIsChanged PercentIsAWildcard "
    "TextSortsWithoutCase TrailingBlanksDoNotCount UniquesAreOfOneColumn nulls_are_equal",
    Bank: "VersionIsIgnored VersionIsNotCounted UpsertsDoNotCount",
    Lab: "IntegersAreFloats MicrosecondsAreDropped MomentsComeInAnotherZone WholeFloatsAreIntegers ZeroIsNegative",
    Sales: "ChecksAreIgnored ReferencesAreIgnored",
    References: "DeletesDoNotCascade UpdatesDoNotCascade",
    Northwind: "ChildrenAreLeftBehind",
    Edges: "LastMomentIsRounded LongestTextIsCut",
    League: "ReferencesAreCheckedAtOnce",
    Panel: "count_ignores_fields_named_like_options options_win_over_fields",
    Club: "types_do_not_store_null",
    Shelf: "BatchKeepsWhatFits CaseIsIgnored SavepointRollbackDoesNothing",
}


def shapes(fault):
    """All shapes, the one that finds the fault soonest first."""
    return sorted(SHAPES.items(), key=lambda shape: fault.__name__ not in SOONEST.get(shape[0], "").split())


# These show between units that are open at once; on SQLite one of them waits. That the last commit wins does not show
# at all: on servers, two units that write the same row wait for each other, so programs have none.
CONCURRENT = {general.LastCommitWins, general.EveryoneSeesEverything}
BASES = {general.Mutant, general.Misread, general.MisreadLeaf, own.Resorted, own.Reread}


def drivers(module):
    return {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, general.Mutant)}


DRIVERS = sorted((drivers(general) | drivers(own)) - BASES - CONCURRENT, key=lambda one: one.__name__)


def plant(mutant, patch):
    """Put a broken driver between the library and memory."""
    begin, register = InMemoryDatabase.begin, InMemoryDatabase.register_table
    patch.setattr(
        InMemoryDatabase,
        "begin",
        lambda self, transaction, *, read_only: mutant(begin(self, transaction, read_only=read_only)),
    )
    if hasattr(mutant, "demanded"):
        patch.setattr(InMemoryDatabase, "register_table", lambda self, schema: register(self, mutant.demanded(schema)))


def require_planted(found):
    """Refuse a fault that is found only because it does not fit the code in whose place it is put."""
    assert "raises TypeError" not in str(found)


def is_found(unit, queries, database="sqlite"):
    stores = Stores(UnitUnderTest(unit, queries), connect(database, unit))
    stores.create_tables()
    try:
        Run(stores, Effort(programs=PROFILES["quick"].programs, reduce=False)).execute()
    except DivergenceError as found:
        require_planted(found)
        return True
    finally:
        stores.reset()
        stores.close()
    return False


@pytest.mark.parametrize("mutant", DRIVERS, ids=lambda mutant: mutant.__name__)
def test_broken_driver_is_found(mutant, monkeypatch):
    plant(mutant, monkeypatch)

    assert any(is_found(*shape) for shape in shapes(mutant))


@pytest.mark.parametrize("fault", own.FAULTS, ids=lambda fault: fault.__name__)
def test_fault_outside_the_driver_is_found(fault, monkeypatch):
    fault(monkeypatch)

    assert any(is_found(*shape) for shape in shapes(fault))


@pytest.mark.parametrize("fault", own.PARTS, ids=lambda fault: fault.__name__)
def test_fault_in_parts_is_found(fault, monkeypatch):
    fault(monkeypatch)

    assert is_found(Northwind, SHAPES[Northwind])


@pytest.mark.parametrize("fault", own.ELSEWHERE, ids=lambda fault: fault.__name__)
def test_fault_about_rows_elsewhere_is_found(fault, monkeypatch):
    fault(monkeypatch)

    assert is_found(Sales, SHAPES[Sales])


def questions_until_found(unit):
    stores = Stores(UnitUnderTest(unit, SHAPES[unit]), connect("sqlite", unit))
    stores.create_tables()
    run = Run(stores, Effort(programs=2, reduce=False))
    try:
        run.execute()
    except DivergenceError as found:
        require_planted(found)
        return run.tally.asked if "this does not hold" in str(found) else None
    finally:
        stores.close()
    return None


@pytest.mark.parametrize("fault", own.SHARED, ids=lambda fault: fault.__name__)
def test_fault_that_both_sides_share_is_found_by_few_questions(fault, monkeypatch):
    fault(monkeypatch)
    asked = map(questions_until_found, (Shop, Theatre, Sales))

    assert any(number is not None and number <= 60 for number in asked)


def test_uncommitted_changes_that_others_see_are_found(monkeypatch):
    plant(general.EveryoneSeesEverything, monkeypatch)

    assert is_found(Bank, SHAPES[Bank], "postgresql")


def test_there_are_enough_faults():
    assert len(DRIVERS) + len(own.FAULTS) >= 55

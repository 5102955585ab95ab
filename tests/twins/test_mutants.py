"""The quick profile finds what it is there to find: every fault that is planted in memory."""

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.testing.twins.contract import PROFILES, DivergenceError, Effort, Exploration
from sqlrepo.testing.twins.model import Subject
from sqlrepo.testing.twins.stores import Stores
from tests.contract import mutants as general
from tests.twins import mutants as own
from tests.twins.domain import Bank, Lab, Shelf, Theatre
from tests.twins.linked import Sales
from tests.twins.places import made
from tests.twins.shapes import SHAPES

# Where a fault shows soonest; it is looked for there first.
SOONEST = {
    Theatre: "CaseIsNeverIgnored DecimalsLoseTheirZeros DeletesTooMuch DeletingNothingCounts EndsAreLeftOut "
    "FirstSortKeyOnly FoldIsOfAsciiOnly InsertedOneByOne NoneIsNotWritten OnlyTheFirstIsChanged PercentIsAWildcard "
    "TextSortsWithoutCase TrailingBlanksDoNotCount UniquesAreOfOneColumn nulls_are_equal",
    Bank: "VersionIsIgnored VersionIsNotCounted UpsertsDoNotCount",
    Lab: "IntegersAreFloats MicrosecondsAreDropped MomentsComeInAnotherZone WholeFloatsAreIntegers ZeroIsNegative",
    Sales: "ChecksAreIgnored ReferencesAreIgnored",
    Shelf: "BatchKeepsWhatFits CaseIsIgnored SavepointRollbackDoesNothing",
}


def shapes(fault):
    """All shapes, the one first that shows the fault soonest."""
    return sorted(SHAPES.items(), key=lambda shape: fault.__name__ not in SOONEST.get(shape[0], "").split())


# They show between units that are open at once, which SQLite has wait for each other. That the last commit wins does
# not show at all: two units that write the same row wait for each other on servers, so programs do not have them.
OF_RIVALS = {general.LastCommitWins, general.EveryoneSeesEverything}
BASES = {general.Mutant, general.Misread, own.Resorted, own.Reread}


def drivers(module):
    return {one for one in vars(module).values() if isinstance(one, type) and issubclass(one, general.Mutant)}


DRIVERS = sorted((drivers(general) | drivers(own)) - BASES - OF_RIVALS, key=lambda one: one.__name__)


def plant(mutant, patch):
    """Put a broken driver between the library and memory."""
    begin, adopt = InMemoryDatabase.begin, InMemoryDatabase.adopt
    patch.setattr(
        InMemoryDatabase,
        "begin",
        lambda self, transaction, *, read_only: mutant(begin(self, transaction, read_only=read_only)),
    )
    if hasattr(mutant, "demanded"):
        patch.setattr(InMemoryDatabase, "adopt", lambda self, schema: adopt(self, mutant.demanded(schema)))


def found(unit, queries, place="sqlite"):
    """Whether the quick profile finds that memory is broken, for one unit of work."""
    subject = Subject(unit, queries)
    stores = Stores(subject, made(place, None))
    stores.create()
    try:
        Exploration(subject, stores, Effort(programs=PROFILES["quick"].programs, shrink=False)).run()
    except DivergenceError:
        return True
    finally:
        stores.renew()
        stores.close()
    return False


@pytest.mark.parametrize("mutant", DRIVERS, ids=lambda mutant: mutant.__name__)
def test_broken_driver_is_found(mutant, monkeypatch):
    plant(mutant, monkeypatch)

    assert any(found(*shape) for shape in shapes(mutant))


@pytest.mark.parametrize("fault", own.FAULTS, ids=lambda fault: fault.__name__)
def test_fault_in_one_place_is_found(fault, monkeypatch):
    fault(monkeypatch)

    assert any(found(*shape) for shape in shapes(fault))


def test_changes_that_are_not_committed_show_where_two_units_write(monkeypatch):
    plant(general.EveryoneSeesEverything, monkeypatch)

    assert found(Bank, SHAPES[Bank], "postgresql")


def test_there_are_enough_faults():
    assert len(DRIVERS) + len(own.FAULTS) >= 40

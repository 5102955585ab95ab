"""The contract as a class to derive from, with a harness for your own entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest

from sqlrepo.testing.cases.aggregates import AggregateCases
from sqlrepo.testing.cases.isolation import IsolationCases
from sqlrepo.testing.cases.reading import ReadingCases
from sqlrepo.testing.cases.units import UnitCases
from sqlrepo.testing.cases.writing import WritingCases
from sqlrepo.testing.harness import Harness, NotCollected, clause_of, is_deliberate
from sqlrepo.testing.subject import Subject

# The property of a test's report that names the capabilities that are off.
CAPABILITIES_OFF = "sqlrepo_capabilities_off"

T = TypeVar("T")
K = TypeVar("K")


class RepositoryContract(
    ReadingCases[T], WritingCases[T], UnitCases[T], IsolationCases[T], AggregateCases[T], Generic[T, K]
):
    """Checks on your repository what every repository promises: ``class TestTodos(RepositoryContract[Todo, int])``.

    The subclass has one fixture, ``harness``, which returns a `Harness` over an empty store; give it params to run all
    cases on several backends. A failure names the clause of the contract and where to look. A clause that needs
    something that the entity lacks (a nullable field, say) is skipped, with the reason.

    Raises:
        TypeError: when the class is defined, if a method hides a case and is not marked `deliberate`.
    """

    __test__: Any = NotCollected()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, case in cases_of(RepositoryContract).items():
            given = getattr(cls, name, None)
            if given is not case and not is_deliberate(given):
                raise TypeError(
                    f"{cls.__name__}.{name} hides the case of clause {clause_of(case)}; rename it, "
                    f"or mark it @deliberate('the reason')"
                )

    @pytest.fixture
    def subject(self, harness: Harness[T, K], record_property: Callable[[str, object], None]) -> Subject[T]:
        """Describe the repository that the harness opens."""
        subject = Subject(harness, record_property)
        record_property(CAPABILITIES_OFF, " ".join(subject.capabilities.off))
        return subject


def cases_of(contract: type) -> dict[str, Callable[..., None]]:
    """Collect the cases of a class, by name."""
    found = {name: getattr(contract, name) for name in dir(contract) if name.startswith("test_")}
    return {name: case for name, case in found.items() if clause_of(case)}

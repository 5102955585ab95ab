"""The contract of repositories and units of work as a test suite for your own; needs pytest (the ``testing`` extra)."""

import pytest

# Before they are imported, so that a failure shows the values that were compared.
pytest.register_assert_rewrite("sqlrepo.testing.cases", "sqlrepo.testing.subject")

from sqlrepo.testing.contract import RepositoryContract  # noqa: E402
from sqlrepo.testing.harness import (  # noqa: E402
    Capabilities,
    Harness,
    deliberate,  # see above
)
from sqlrepo.testing.probes import (  # noqa: E402
    FaultNotMetError,
    PlantedFault,
    QueryBudget,
    QueryBudgetError,
    fail_next,
    query_budget,
)
from sqlrepo.testing.twins import TwinContract  # noqa: E402

__all__ = [
    "Capabilities",
    "FaultNotMetError",
    "Harness",
    "PlantedFault",
    "QueryBudget",
    "QueryBudgetError",
    "RepositoryContract",
    "TwinContract",
    "deliberate",
    "fail_next",
    "query_budget",
]

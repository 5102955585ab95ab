"""Random programs with equal outcomes in memory and on a database; needs Hypothesis (the ``testing`` extra)."""

from sqlrepo.testing.twins.comparison import compare
from sqlrepo.testing.twins.contract import TwinContract

__all__ = ["TwinContract", "compare"]

"""Random programs on memory and on a database, which must come to the same; needs Hypothesis (the ``testing`` extra)."""

from sqlrepo.testing.twins.contract import TwinContract

__all__ = ["TwinContract"]

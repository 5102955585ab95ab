"""Random programs on memory and on a database, which must come to the same; needs Hypothesis (extra ``testing``)."""

from sqlrepo.testing.twins.contract import TwinContract

__all__ = ["TwinContract"]

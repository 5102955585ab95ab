"""Units of work, error responses and filters for FastAPI applications."""

from sqlrepo.fastapi.answers import IfMatch, Match, PreconditionError, Problem, etag, problems, validation_problem
from sqlrepo.fastapi.application import Refusal, RouteError, check_routes, install
from sqlrepo.fastapi.queries import Links, PageLinks, filters
from sqlrepo.fastapi.units import Stream, override, provide, provide_stream

__all__ = [
    "IfMatch",
    "Links",
    "Match",
    "PageLinks",
    "PreconditionError",
    "Problem",
    "Refusal",
    "RouteError",
    "Stream",
    "check_routes",
    "etag",
    "filters",
    "install",
    "override",
    "problems",
    "provide",
    "provide_stream",
    "validation_problem",
]

"""Units of work in FastAPI applications: committed before the answer, errors as problems, filters as parameters."""

from sqlrepo.fastapi.etags import IfMatch, Match, PreconditionError, etag
from sqlrepo.fastapi.filters import filters
from sqlrepo.fastapi.installation import install
from sqlrepo.fastapi.links import Links, PageLinks
from sqlrepo.fastapi.problems import Problem, problems
from sqlrepo.fastapi.provision import Stream, override, provide, provide_stream
from sqlrepo.fastapi.routes import Refusal, RouteError, check_routes
from sqlrepo.fastapi.validation import validation_problem

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

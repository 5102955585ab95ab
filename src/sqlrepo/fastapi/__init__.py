"""Units of work in FastAPI applications: committed before the answer, errors as problems, filters as parameters."""

from sqlrepo.fastapi.installation import install
from sqlrepo.fastapi.problems import Problem
from sqlrepo.fastapi.provision import Stream, override, provide, provide_stream

__all__ = ["Problem", "Stream", "install", "override", "provide", "provide_stream"]

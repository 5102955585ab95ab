"""Errors of the library as answers: problem details (RFC 9457) that say what a client can act on.

Knows which status an error has. Must not repeat SQL, names of constraints, or values of rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from sqlrepo import (
    CheckViolationError,
    DatabaseUnavailableError,
    ForeignKeyViolationError,
    InvalidValueError,
    NotFoundError,
    NotNullViolationError,
    ProgrammingError,
    QueryError,
    RepositoryError,
    StaleEntityError,
    StatementTimeoutError,
    TransactionAbortedError,
    UniqueViolationError,
)
from sqlrepo.fastapi.etags import PreconditionError

__all__ = ["Problem", "answer", "answer_precondition", "problem_of", "problems", "sent"]

_log = logging.getLogger("sqlrepo")

_MEDIA_TYPE = "application/problem+json"

# Whoever comes back after so many seconds meets neither the conflict nor the lock; an outage lasts longer anyway.
_RETRY_AFTER = "1"


class Problem(BaseModel):
    """Why a request was refused, as RFC 9457 has it; `problems` shows it in the documentation.

    Attributes:
        type: nothing beyond the status.
        title: the status in words.
        status: the status.
        detail: what is wrong, for people.
        code: what is wrong, for programs.
        fields: the fields it concerns.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    fields: list[str] = []


@dataclass(frozen=True, slots=True)
class _Kind:
    """How errors of a class are answered."""

    status: HTTPStatus
    code: str
    detail: str


_FAULT = _Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The server made a mistake.")
_QUERY = _Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "query", "This cannot be asked.")
_STALE = _Kind(HTTPStatus.PRECONDITION_FAILED, "stale", "It was changed in the meantime.")
_LOST = _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unknown_outcome", "Whether the change was stored is not known.")
_BUSY = _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "The server is busy; please try again.")

_KINDS: Mapping[type[RepositoryError], _Kind] = {
    NotFoundError: _Kind(HTTPStatus.NOT_FOUND, "not_found", "It does not exist."),
    UniqueViolationError: _Kind(HTTPStatus.CONFLICT, "unique", "There is one with these values already."),
    ForeignKeyViolationError: _Kind(
        HTTPStatus.CONFLICT, "foreign_key", "It refers to something that does not exist, or is still referred to."
    ),
    StaleEntityError: _Kind(HTTPStatus.CONFLICT, "stale", "It was changed in the meantime."),
    CheckViolationError: _Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "check", "A rule of the store forbids this."),
    NotNullViolationError: _Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "not_null", "A value is missing."),
    InvalidValueError: _Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_value", ""),
    ProgrammingError: _FAULT,
    QueryError: _QUERY,
    DatabaseUnavailableError: _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The store cannot be reached."),
    StatementTimeoutError: _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "timeout", "It took too long."),
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document which problems a route may answer with: ``responses=problems(404, 409)``.

    Args:
        statuses: theirs.
    """
    content = {_MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem_of(error: RepositoryError, *, conditional: bool = False) -> tuple[Problem, dict[str, str]]:
    """What a client is told of an error, and the headers that go with it.

    Args:
        error: one of the library's.
        conditional: whether the request said which version it expects.
    """
    first = _first(error)
    kind = _kind(first, conditional=conditional)
    detail = first.reason if isinstance(first, InvalidValueError) else kind.detail
    problem = Problem(
        title=kind.status.phrase, status=kind.status, detail=detail, code=kind.code, fields=list(_fields(first))
    )
    retryable = kind.status is HTTPStatus.SERVICE_UNAVAILABLE and first.retryable
    return problem, {"Retry-After": _RETRY_AFTER} if retryable else {}


async def answer(request: Any, error: Exception) -> JSONResponse:
    """Answer a request with what an error says; what the application or its server is to mend is logged."""
    if not isinstance(request, Request) or not isinstance(error, RepositoryError):
        raise error  # a web socket has no answer to put it in
    problem, headers = problem_of(error, conditional="if-match" in request.headers)
    endpoint = request.scope.get("endpoint")  # by name: a path holds what a client sent
    _log_problem(problem, error, getattr(endpoint, "__qualname__", endpoint))
    return sent(problem, headers)


async def answer_precondition(request: Any, error: Exception) -> JSONResponse:
    """Answer a request whose condition is malformed, or not met."""
    if not isinstance(request, Request) or not isinstance(error, PreconditionError):
        raise error
    status = HTTPStatus(error.status_code)
    code = _STALE.code if status is _STALE.status else "malformed_condition"
    return sent(Problem(title=status.phrase, status=status, detail=error.detail, code=code), {})


def sent(problem: Problem, headers: Mapping[str, str]) -> JSONResponse:
    """A problem as an answer."""
    return JSONResponse(problem.model_dump(), problem.status, headers, media_type=_MEDIA_TYPE)


def _log_problem(problem: Problem, error: RepositoryError, endpoint: object) -> None:
    if problem.status == _FAULT.status:
        _log.error("%s failed", endpoint, exc_info=error)
    elif problem.code == _QUERY.code:  # who wrote the endpoint may be to blame as well as who sent the request
        _log.warning("%s asked what cannot be asked", endpoint, exc_info=error)
    elif problem.status == HTTPStatus.SERVICE_UNAVAILABLE:
        first = _first(error)
        _log.warning("%s was answered %d: %s: %s", endpoint, problem.status, type(first).__name__, first)


def _first(error: RepositoryError) -> RepositoryError:
    """The error that counts: of an aborted unit, the one that aborted it."""
    if not isinstance(error, TransactionAbortedError):
        return error
    return _first(error.__cause__) if isinstance(error.__cause__, RepositoryError) else error


def _kind(error: RepositoryError, *, conditional: bool) -> _Kind:
    if isinstance(error, StaleEntityError) and conditional:
        return _STALE
    if isinstance(error, DatabaseUnavailableError) and error.in_commit:
        return _LOST
    known = next((_KINDS[base] for base in type(error).__mro__ if base in _KINDS), None)
    return known or (_BUSY if error.retryable else _FAULT)


def _fields(error: RepositoryError) -> tuple[str, ...]:
    match error:
        case InvalidValueError(field=field):
            return (field,)
        case UniqueViolationError() | ForeignKeyViolationError() | CheckViolationError() | NotNullViolationError():
            return error.fields
        case _:
            return ()

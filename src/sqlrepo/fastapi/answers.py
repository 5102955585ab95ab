"""Errors of the library as answers: problem details (RFC 9457) that say what a client can act on."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias, cast

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
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
from sqlrepo.fastapi.units import require_scopes

_ELEMENT = re.compile(r'[ \t]*(?:(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|\Z)')


class PreconditionError(HTTPException):
    """What a request demands of the version is malformed (400), or not so (412)."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a request demands of the version of what it changes.

    Attributes:
        tags: the entity tags it may have; None for any, and where nothing is demanded.
        given: whether anything is demanded.
    """

    tags: frozenset[str] | None = None
    given: bool = False

    def require(self, version: int) -> None:
        """Refuse to go on with another version than the request demands.

        Then give this version to `patch` or `update`, which compare it when they write.

        Raises:
            PreconditionError: it is another one; answered 412.
        """
        if self.tags is not None and str(version) not in self.tags:
            raise PreconditionError(HTTPStatus.PRECONDITION_FAILED, "It was changed in the meantime.")


def etag(version: int) -> str:
    """Write a version as an entity tag, for the header ``ETag``."""
    return f'"{version}"'


async def _match(if_match: Annotated[str | None, Header()] = None) -> Match:
    if if_match is None:
        return Match()
    return Match(None if if_match.strip(" \t") == "*" else _tags(if_match), given=True)


require_scopes()  # before anything is made of them

#: What a request demands by ``If-Match``: ``match: IfMatch``.
IfMatch: TypeAlias = Annotated[Match, Depends(_match)]


def _tags(header: str) -> frozenset[str]:
    """Read a list of entity tags; weak ones never match.

    Raises:
        PreconditionError: it is none.
    """
    tags: list[str | None] = []
    position = 0
    while position < len(header):
        element = _ELEMENT.match(header, position)
        if element is None:
            raise _malformed()
        if element["tag"] is not None:
            tags.append(None if element["weak"] else element["tag"])
        position = element.end()
    if not tags:
        raise _malformed()
    return frozenset(tag for tag in tags if tag is not None)


def _malformed() -> PreconditionError:
    return PreconditionError(HTTPStatus.BAD_REQUEST, 'If-Match is no list of entity tags, like "3", and not *.')


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


_STATUS = HTTPStatus.UNPROCESSABLE_ENTITY
_SCHEMAS = "#/components/schemas/"
_OF_FASTAPI = ("HTTPValidationError", "ValidationError")  # the first refers to the second


def document_problems(app: FastAPI) -> None:
    """Let the documentation of an application say so, where it answers invalid requests with problems."""
    before = app.openapi

    def openapi() -> dict[str, Any]:
        spec = before()
        if app.exception_handlers.get(RequestValidationError) is validation_problem:
            _document(spec)
        return spec

    cast(Any, app).openapi = openapi  # as FastAPI's own pages say; to type checkers a method is no attribute


async def validation_problem(_: Any, error: Exception) -> JSONResponse:
    """Answer a request whose parameters or body do not fit with a problem, which does not repeat what was sent.

    A handler for an application to choose: ``app.add_exception_handler(RequestValidationError, validation_problem)``.
    """
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = [(_field(each), _message(each)) for each in error.errors()]
    problem = Problem(
        title=_STATUS.phrase,
        status=_STATUS,
        detail="; ".join(dict.fromkeys(f"{field}: {message}" if field else message for field, message in wrong)),
        code="invalid_request",
        fields=list(dict.fromkeys(field for field, _ in wrong if field)),
    )
    return sent(problem, {})


def _field(wrong: Mapping[str, Any]) -> str:
    """What is concerned: a parameter's name, or the way through the body; positions in lists are left out."""
    place, *way = wrong["loc"]
    names = [part for part in way if isinstance(part, str)]
    return ".".join(names if place == "body" else names[:1])


def _message(wrong: Mapping[str, Any]) -> str:
    """What is wrong; the one message that repeats what was sent is said without it."""
    if wrong["type"] == "union_tag_invalid":
        return f"Input tag does not match any of the expected tags: {wrong['ctx']['expected_tags']}"
    message: str = wrong["msg"]
    return message


def _document(spec: dict[str, Any]) -> None:
    """Show our body where FastAPI shows its own; what an application says itself is left alone."""
    ours = problems(_STATUS)[_STATUS]
    for responses in _responses(spec):
        shown = responses.get(str(_STATUS.value), {}).get("content", {}).get("application/json", {}).get("schema", {})
        if shown.get("$ref") == f"{_SCHEMAS}{_OF_FASTAPI[0]}":
            responses[str(_STATUS.value)] = ours
    schemas = spec.get("components", {}).get("schemas", {})
    for name in _OF_FASTAPI:
        if f'"{_SCHEMAS}{name}"' not in json.dumps(spec):
            schemas.pop(name, None)


def _responses(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in spec.get("paths", {}).values():
        yield from (operation["responses"] for operation in item.values() if "responses" in operation)

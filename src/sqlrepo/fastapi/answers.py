"""The library's errors as problem responses (RFC 9457), and versions as entity tags."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple, TypeAlias

from fastapi import Depends, Header, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

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

_log = logging.getLogger("sqlrepo")

MEDIA_TYPE = "application/problem+json"
_STALE_DETAIL = "The resource was changed in the meantime."

# Seconds. A conflict or a lock is over by then; an outage lasts longer whatever we say.
_RETRY_AFTER = "1"


class Problem(BaseModel):
    """Why a request failed (RFC 9457)."""

    type: str = Field(
        default="about:blank", description="Always about:blank; the status and the code name the problem."
    )
    title: str = Field(description="The name of the HTTP status, such as Not Found.")
    status: int = Field(description="The HTTP status of this response.")
    detail: str = Field(description="What is wrong, in a sentence for people. The wording may change.")
    code: str = Field(description="What is wrong, in a word for programs, such as not_found or unique.")
    fields: list[str] = Field(default=[], description="The fields or parameters that are wrong; may be empty.")


PROBLEM_SCHEMA: Mapping[str, Any] = Problem.model_json_schema(mode="serialization")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the problems a route may respond with: ``responses=problems(404, 409)``.

    `install` documents what it can read from a route's dependencies; use this for the others.

    Args:
        statuses: their HTTP statuses.
    """
    content = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


async def validation_problem(_: Any, error: Exception) -> JSONResponse:
    """Respond to an invalid request with a problem that does not repeat the client's values.

    Applications opt in: ``app.add_exception_handler(RequestValidationError, validation_problem)``.
    """
    if not isinstance(error, RequestValidationError):
        raise error
    wrong = [(_name_field(each), _describe(each)) for each in error.errors()]
    details = dict.fromkeys(f"{field}: {message}" if field else message for field, message in wrong)
    fields = dict.fromkeys(field for field, _ in wrong if field)
    return _respond(_UNPROCESSABLE, "invalid_request", "; ".join(details), fields)


def etag(version: int) -> str:
    """Format a version as an entity tag for the ``ETag`` header."""
    return f'"{version}"'


class PreconditionError(HTTPException):
    """The ``If-Match`` header of a request is malformed (400), or names another version (412)."""


@dataclass(frozen=True, slots=True)
class Match:
    """The ``If-Match`` condition of a request.

    Attributes:
        tags: the entity tags the client accepts; None if it accepts any.
        given: True if the request has the header.
    """

    tags: frozenset[str] | None = None
    given: bool = False

    def require(self, version: int) -> None:
        """Raise an error unless the client accepts this version.

        Pass the version to `patch` or `update` afterwards, so that the write compares it again.

        Args:
            version: the current version of the entity.

        Raises:
            PreconditionError: the client does not; the response is 412.
        """
        if self.tags is not None and str(version) not in self.tags:
            raise PreconditionError(HTTPStatus.PRECONDITION_FAILED, _STALE_DETAIL)


_IF_MATCH = Header(
    description="The ETag of the version to change. If the resource has another version, the answer is 412."
)


async def read_match(request: Request, if_match: Annotated[str | None, _IF_MATCH] = None) -> Match:
    if if_match is None:
        return Match()
    if_match = ", ".join(request.headers.getlist("if-match"))  # several lines are one list (RFC 9110, 5.3)
    return Match(None if if_match.strip(" \t") == "*" else _parse_tags(if_match), given=True)


#: The ``If-Match`` condition of a request: ``match: IfMatch``.
IfMatch: TypeAlias = Annotated[Match, Depends(read_match)]

_ELEMENT = re.compile(r'[ \t]*(?:(?P<weak>W/)?"(?P<tag>[\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|\Z)')


def _parse_tags(header: str) -> frozenset[str]:
    """Return the strong entity tags of a list; weak ones never match."""
    tags: list[str | None] = []
    position = 0
    while position < len(header) and (element := _ELEMENT.match(header, position)):
        if element["tag"] is not None:
            tags.append(None if element["weak"] else element["tag"])
        position = element.end()
    if position < len(header) or not tags:
        raise PreconditionError(
            HTTPStatus.BAD_REQUEST, 'If-Match must be * or a list of entity tags in double quotes, such as "3".'
        )
    return frozenset(tag for tag in tags if tag is not None)


# -- which error gets which response

_UNPROCESSABLE = HTTPStatus.UNPROCESSABLE_ENTITY


class _Kind(NamedTuple):
    status: HTTPStatus
    code: str
    detail: str


_INTERNAL = _Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "The server failed to handle the request.")
_QUERY = _Kind(_UNPROCESSABLE, "query", "The query is ambiguous or contradictory.")
_STALE = _Kind(HTTPStatus.PRECONDITION_FAILED, "stale", _STALE_DETAIL)
_LOST = _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unknown_outcome", "It is unknown whether the change was stored.")
_BUSY = _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "The server is busy; please try again.")

_KINDS: Mapping[type[RepositoryError], _Kind] = {
    NotFoundError: _Kind(HTTPStatus.NOT_FOUND, "not_found", "The resource does not exist."),
    UniqueViolationError: _Kind(HTTPStatus.CONFLICT, "unique", "A resource with these values already exists."),
    ForeignKeyViolationError: _Kind(
        HTTPStatus.CONFLICT, "foreign_key", "The resource refers to a missing one, or another one refers to it."
    ),
    StaleEntityError: _Kind(HTTPStatus.CONFLICT, "stale", _STALE_DETAIL),
    CheckViolationError: _Kind(_UNPROCESSABLE, "check", "The values violate a rule of the database."),
    NotNullViolationError: _Kind(_UNPROCESSABLE, "not_null", "A required value is missing."),
    InvalidValueError: _Kind(_UNPROCESSABLE, "invalid_value", ""),
    ProgrammingError: _INTERNAL,
    QueryError: _QUERY,
    DatabaseUnavailableError: _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The database is unavailable."),
    StatementTimeoutError: _Kind(HTTPStatus.SERVICE_UNAVAILABLE, "timeout", "The request took too long."),
}

#: The errors that are answered with 409.
CONFLICTS = [error for error, kind in _KINDS.items() if kind.status is HTTPStatus.CONFLICT]


async def answer_error(request: Any, error: Exception) -> JSONResponse:
    if not isinstance(request, Request) or not isinstance(error, RepositoryError):
        raise error  # a web socket has no response for a problem
    first = _find_first(error)
    kind = _classify(first, conditional="if-match" in request.headers)
    endpoint = request.scope.get("endpoint")  # not the path, which may hold personal data
    _log_error(error, first, kind, getattr(endpoint, "__qualname__", endpoint))
    detail = first.reason if isinstance(first, InvalidValueError) else kind.detail
    retryable = kind.status is HTTPStatus.SERVICE_UNAVAILABLE and first.retryable
    return _respond(
        kind.status, kind.code, detail, _fields_of(first), {"Retry-After": _RETRY_AFTER} if retryable else {}
    )


async def answer_precondition(request: Any, error: Exception) -> JSONResponse:
    if not isinstance(request, Request) or not isinstance(error, PreconditionError):
        raise error
    status = HTTPStatus(error.status_code)
    return _respond(status, _STALE.code if status is _STALE.status else "malformed_condition", error.detail)


def _respond(
    status: HTTPStatus, code: str, detail: str, fields: Iterable[str] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    problem = Problem(title=status.phrase, status=status, detail=detail, code=code, fields=list(fields))
    return JSONResponse(problem.model_dump(), status, headers, media_type=MEDIA_TYPE)


def _log_error(error: RepositoryError, first: RepositoryError, kind: _Kind, endpoint: object) -> None:
    if kind.status == _INTERNAL.status:
        _log.error("%s failed", endpoint, exc_info=_without_values(error))
    elif kind is _QUERY:  # the fault may be the endpoint's as well as the client's
        _log.warning("%s sent an invalid query", endpoint, exc_info=_without_values(error))
    elif kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        _log.warning("%s responded %d: %s: %s", endpoint, kind.status, type(first).__name__, first)


def _without_values(error: BaseException) -> BaseException:
    """Copy an error and its causes for the log; the messages of drivers and other libraries may contain values."""
    if isinstance(error, RepositoryError):
        shown: BaseException = copy(error)
    else:
        kind = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
        codes = (getattr(error, name, None) for name in ("sqlstate", "sqlite_errorname", "statement"))
        known = [*error.args[:1], *codes] if _is_numbered(error) else codes
        shown = kind("; ".join(["its message may contain values, and is left out", *map(str, filter(None, known))]))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    shown.__cause__ = None if cause is None else _without_values(cause)
    return shown.with_traceback(error.__traceback__)


def _is_numbered(error: BaseException) -> bool:
    return len(error.args) > 1 and isinstance(error.args[0], int)


def _find_first(error: RepositoryError) -> RepositoryError:
    """Return the error that aborted the unit, or the error itself."""
    if isinstance(error, TransactionAbortedError) and isinstance(error.__cause__, RepositoryError):
        return _find_first(error.__cause__)
    return error


def _classify(error: RepositoryError, *, conditional: bool) -> _Kind:
    if isinstance(error, StaleEntityError) and conditional:
        return _STALE
    if isinstance(error, DatabaseUnavailableError) and error.in_commit:
        return _LOST
    known = next((_KINDS[base] for base in type(error).__mro__ if base in _KINDS), None)
    return known or (_BUSY if error.retryable else _INTERNAL)


def _fields_of(error: RepositoryError) -> tuple[str, ...]:
    match error:
        case InvalidValueError(field=field):
            return () if field is None else (field,)
        case UniqueViolationError() | ForeignKeyViolationError() | CheckViolationError() | NotNullViolationError():
            return error.fields
        case _:
            return ()


# -- requests that FastAPI refuses


def _name_field(wrong: Mapping[str, Any]) -> str:
    """Return a parameter's name, or the path of a field of the body without positions in lists."""
    place, *path = wrong["loc"]
    names = [part for part in path if isinstance(part, str)]
    return ".".join(names if place == "body" else names[:1])


def _describe(wrong: Mapping[str, Any]) -> str:
    if wrong["type"] == "union_tag_invalid":  # the one message that repeats the client's value
        return f"Input tag does not match any of the expected tags: {wrong['ctx']['expected_tags']}"
    message: str = wrong["msg"]
    return message

"""What FastAPI refuses by itself, as problems, where an application wants that: in answers, and in the documentation.

Knows how FastAPI says what is wrong with a request. Must not repeat what a client sent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from sqlrepo.fastapi.problems import Problem, problems, sent

__all__ = ["document_problems", "validation_problem"]

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

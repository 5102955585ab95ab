"""Versions over HTTP: a version goes out as an entity tag, and comes back as the condition of a change.

Knows ETag and If-Match (RFC 9110). Must not know how versions are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, TypeAlias

from fastapi import Depends, Header, HTTPException

from sqlrepo.fastapi.dependency import require_scopes

__all__ = ["IfMatch", "Match", "PreconditionError", "etag"]

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

"""Results: pages, upserted entities, and the cursors that lead from page to page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlrepo.errors import InvalidLiteralError
from sqlrepo.language.values import Kind, ValueType

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upserted(Generic[T]):
    """The result of an upsert.

    Attributes:
        entity: the entity as stored.
        created: True if its row is new; False if an existing row was changed, or left as it was.
    """

    entity: T
    created: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a result, selected by limit and offset.

    Attributes:
        items: the entities on the page.
        has_next: True if there are entities after the page.
        total: the number of entities without limit and offset; None unless requested.
    """

    items: list[T]
    has_next: bool
    total: int | None = None


@dataclass(frozen=True, slots=True)
class CursorPage(Generic[T]):
    """A page of a result, selected by a cursor; deep pages cost no more than the first.

    Attributes:
        items: the entities on the page.
        next: the cursor to pass as ``after`` for the next page; None on the last page.
        previous: the cursor to pass as ``before`` for the previous page; None on the first page.
    """

    items: list[T]
    next: str | None = None
    previous: str | None = None

    @property
    def has_next(self) -> bool:
        """True if there are entities after the page."""
        return self.next is not None

    @property
    def has_previous(self) -> bool:
        """True if there are entities before the page."""
        return self.previous is not None


# -- cursors

# Bytes. The digest ties a cursor to its query and detects damage; it does not prevent forgery.
_DIGEST = 12

# How stored values are written to JSON and read back, where JSON has no such type.
_CODECS: Mapping[Kind, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    Kind.DECIMAL: (str, Decimal),
    Kind.BYTES: (bytes.hex, bytes.fromhex),
    Kind.DATETIME: (datetime.isoformat, datetime.fromisoformat),
    Kind.DATE: (date.isoformat, date.fromisoformat),
    Kind.TIME: (time.isoformat, time.fromisoformat),
    Kind.DURATION: (lambda value: value // timedelta(microseconds=1), lambda number: timedelta(microseconds=number)),
    Kind.UUID: (str, UUID),
}


def encode_cursor(query: str, types: Sequence[ValueType], position: Sequence[Any]) -> str:
    """Encode a row's position, its values of the order's columns, as a text that only the printed query can decode."""
    values = [_to_json(type_, value) for type_, value in zip(types, position, strict=True)]
    body = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_digest(query, body) + body).decode().rstrip("=")


def decode_cursor(query: str, types: Sequence[ValueType], cursor: str, argument: str) -> list[Any]:
    """Decode a position, or raise `InvalidLiteralError` for the named argument."""
    invalid = InvalidLiteralError(argument, "the cursor is damaged or belongs to another query; start without a cursor")
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, body = data[:_DIGEST], data[_DIGEST:]
        if digest != _digest(query, body):
            raise invalid
        return [_from_json(type_, text) for type_, text in zip(types, json.loads(body), strict=True)]
    except (binascii.Error, ValueError, KeyError, TypeError, InvalidOperation, AttributeError) as error:
        if error is invalid:
            raise
        raise invalid from error


def _digest(query: str, body: bytes) -> bytes:
    return hashlib.sha256(query.encode() + b"\0" + body).digest()[:_DIGEST]


def _to_json(type_: ValueType, value: Any) -> Any:
    stored = type_.store(value)
    return stored if stored is None or type_.kind not in _CODECS else _CODECS[type_.kind][0](stored)


def _from_json(type_: ValueType, text: Any) -> Any:
    return type_.load(text if text is None or type_.kind not in _CODECS else _CODECS[type_.kind][1](text))

"""Pages: values that know no repository, and the cursors that lead from one to the next."""

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
    """An entity as an upsert left it.

    Attributes:
        entity: what is stored now.
        created: whether its row is new; False where one was written over.
    """

    entity: T
    created: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a result by offset.

    Attributes:
        items: the entities.
        has_next: whether there are more behind them.
        total: how many there are without limit and offset; None unless asked for.
    """

    items: list[T]
    has_next: bool
    total: int | None = None


@dataclass(frozen=True, slots=True)
class CursorPage(Generic[T]):
    """A part of a result by position: the next one costs the same however deep it is.

    Attributes:
        items: the entities.
        next: give it as ``after`` to go on; None at the end.
        previous: give it as ``before`` to go back; None at the beginning.
    """

    items: list[T]
    next: str | None = None
    previous: str | None = None

    @property
    def has_next(self) -> bool:
        """Whether there are more behind them."""
        return self.next is not None

    @property
    def has_previous(self) -> bool:
        """Whether there are more before them."""
        return self.previous is not None


_DIGEST = 12  # bytes; a cursor is bound to its query by accident-proof, not secret, means

_TO_TEXT: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.DECIMAL: str,
    Kind.BYTES: bytes.hex,
    Kind.DATETIME: datetime.isoformat,
    Kind.DATE: date.isoformat,
    Kind.TIME: time.isoformat,
    Kind.DURATION: lambda value: value // timedelta(microseconds=1),
    Kind.UUID: str,
}

_FROM_TEXT: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.DECIMAL: Decimal,
    Kind.BYTES: bytes.fromhex,
    Kind.DATETIME: datetime.fromisoformat,
    Kind.DATE: date.fromisoformat,
    Kind.TIME: time.fromisoformat,
    Kind.DURATION: lambda number: timedelta(microseconds=number),
    Kind.UUID: UUID,
}


def encode_cursor(question: str, types: Sequence[ValueType], position: Sequence[Any]) -> str:
    """Write a position as an opaque text that only fits its own question.

    Args:
        question: the query's printed criteria and order.
        types: the types of the order's columns.
        position: a row's values of them.
    """
    values = [_shown(type_, value) for type_, value in zip(types, position, strict=True)]
    body = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(_digest(question, body) + body).decode().rstrip("=")


def decode_cursor(question: str, types: Sequence[ValueType], cursor: str, way: str) -> list[Any]:
    """Read a position back.

    Args:
        question: the query's printed criteria and order.
        types: the types of the order's columns.
        cursor: what `encode_cursor` gave.
        way: what the cursor was given as.

    Raises:
        InvalidLiteralError: the cursor is damaged, or belongs to another query.
    """
    foreign = InvalidLiteralError(way, "the cursor does not belong to this query, or is damaged; begin without one")
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, body = data[:_DIGEST], data[_DIGEST:]
        if digest != _digest(question, body):
            raise foreign
        return [_read(type_, text) for type_, text in zip(types, json.loads(body), strict=True)]
    except (binascii.Error, ValueError, KeyError, TypeError, InvalidOperation, AttributeError) as error:
        if error is foreign:
            raise
        raise foreign from error


def _digest(question: str, body: bytes) -> bytes:
    return hashlib.sha256(question.encode() + b"\0" + body).digest()[:_DIGEST]


def _shown(type_: ValueType, value: Any) -> Any:
    stored = type_.store(value)
    return stored if stored is None or type_.kind not in _TO_TEXT else _TO_TEXT[type_.kind](stored)


def _read(type_: ValueType, text: Any) -> Any:
    return type_.load(text if text is None or type_.kind not in _FROM_TEXT else _FROM_TEXT[type_.kind](text))

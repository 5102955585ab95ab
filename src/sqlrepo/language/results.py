"""Results: pages, upserted entities, and the cursors that lead from page to page."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from sqlrepo.errors import InvalidLiteralError
from sqlrepo.language.values import Kind, ValueType, WrongValueError

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

#: A secret that signs cursors, of 16 bytes at least; or several, of which the first signs and all are accepted.
CursorKey: TypeAlias = str | bytes | Sequence[str | bytes]

_LONGEST_CURSOR = 1_048_576  # characters; a longer one is not decoded
_SHORTEST_KEY = 16  # bytes
_TAG = 16  # bytes, half of what SHA-256 returns

# How stored values are written to JSON and read back, where JSON has no such type, and their class in JSON.
_CODECS: Mapping[Kind, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    Kind.DECIMAL: (str, str, Decimal),
    Kind.BYTES: (str, bytes.hex, bytes.fromhex),
    Kind.DATETIME: (str, datetime.isoformat, datetime.fromisoformat),
    Kind.DATE: (str, date.isoformat, date.fromisoformat),
    Kind.TIME: (str, time.isoformat, time.fromisoformat),
    Kind.DURATION: (int, lambda value: value // timedelta(microseconds=1), lambda n: timedelta(microseconds=n)),
    Kind.UUID: (str, str, UUID),
}


class CursorKeys:
    """The keys of a database's cursors. Without keys, a digest ties a cursor to its query; anyone can compute it.

    Args:
        given: as passed to the database; None for unsigned cursors.

    Raises:
        ValueError: a key is shorter than 16 bytes, or the sequence has none.
        TypeError: a key is neither bytes nor str.
    """

    __slots__ = ("_keys",)

    def __init__(self, given: CursorKey | None = None) -> None:
        keys = () if given is None else (given,) if isinstance(given, str | bytes) else tuple(given)
        if given is not None and not keys:
            raise ValueError("cursor_key is an empty sequence; give a key, or None for unsigned cursors")
        self._keys = tuple(map(_check_key, keys))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def sign(self, message: bytes) -> bytes:
        """Return the tag of a message, by the first key."""
        return next(self._tags(message))

    def verify(self, message: bytes, tag: bytes) -> bool:
        """Return True if a tag is of any key."""
        return any(hmac.compare_digest(tag, valid) for valid in self._tags(message))

    def _tags(self, message: bytes) -> Iterator[bytes]:
        if not self._keys:
            yield hashlib.sha256(message).digest()[:_TAG]
        for key in self._keys:
            yield hmac.digest(key, message, "sha256")[:_TAG]


def _check_key(key: object) -> bytes:
    if not isinstance(key, str | bytes):
        raise TypeError(f"cursor_key takes bytes or str, or a sequence of them, not {type(key).__name__}")
    found = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
    if len(found) < _SHORTEST_KEY:
        raise ValueError(f"a cursor_key has fewer than {_SHORTEST_KEY} bytes; make one with secrets.token_bytes(32)")
    return found


@dataclass(frozen=True, slots=True)
class CursorCodec:
    """Writes and reads the cursors of one query: the values of the order's columns in the last row, in Base64."""

    keys: CursorKeys
    query: str
    types: Sequence[ValueType]
    nullable: Sequence[bool]

    def encode(self, position: Sequence[Any]) -> str:
        """Encode a row's position, its values of the order's columns."""
        values = [_to_json(type_, value) for type_, value in zip(self.types, position, strict=True)]
        body = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
        return _to_base64(self.keys.sign(self._message(body)) + body)

    def decode(self, cursor: str, argument: str) -> list[Any]:
        """Decode a position, or raise `InvalidLiteralError` for the named argument."""
        try:
            return self._decode(cursor)
        except Exception:  # noqa: BLE001  # the functions of a column type may raise anything
            raise InvalidLiteralError(
                argument, "the cursor is damaged or belongs to another query; start without a cursor"
            ) from None

    def _decode(self, cursor: str) -> list[Any]:
        if len(cursor) > _LONGEST_CURSOR:
            raise WrongValueError("too long")
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        tag, body = data[:_TAG], data[_TAG:]
        # Base64 has several forms of the same bytes; a changed cursor is refused, whatever it decodes to.
        if _to_base64(data) != cursor or not self.keys.verify(self._message(body), tag):
            raise WrongValueError("altered")
        values = json.loads(body)
        if not isinstance(values, list):
            raise _wrong_json(values)
        return [_from_json(*each) for each in zip(self.types, self.nullable, values, strict=True)]

    def _message(self, body: bytes) -> bytes:
        return self.query.encode() + b"\0" + body


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _to_json(type_: ValueType, value: Any) -> Any:
    stored = type_.store(value)
    return stored if stored is None or type_.kind not in _CODECS else _CODECS[type_.kind][1](stored)


def _from_json(type_: ValueType, nullable: bool, stored: Any) -> Any:
    """Read a value and check it, as a stored one where its column type converts it, and as the entity's."""
    if stored is None and not nullable:
        raise _wrong_json(stored)
    if stored is not None and type_.kind in _CODECS:
        expected, _, read = _CODECS[type_.kind]
        if type(stored) is not expected:
            raise _wrong_json(stored)
        stored = read(stored)
    if stored is not None and type_.bind is not None:
        stored = type_.check_stored(stored)
    value = type_.load(stored)
    return value if value is None else type_.check(value)


def _wrong_json(value: object) -> WrongValueError:
    return WrongValueError(f"unexpected {type(value).__name__}")

"""What an upsert gives: a value that knows no repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Upserted"]

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

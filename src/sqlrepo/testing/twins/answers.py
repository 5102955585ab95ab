"""What a step answered, in a form that both sides must agree on.

Knows results and errors, and what a backend may declare otherwise. Must not know how steps are run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

from sqlrepo import (
    CheckViolationError,
    ConstraintError,
    CursorPage,
    ForeignKeyViolationError,
    InvalidValueError,
    MultipleFoundError,
    NotFoundError,
    Page,
    RepositoryError,
    StaleEntityError,
    TransactionAbortedError,
    UniqueViolationError,
    UnitStateError,
    Upserted,
)
from sqlrepo.testing.twins.keys import Keys
from sqlrepo.testing.twins.subject import Table

__all__ = ["Answer", "LeftError", "Raised", "Reader", "Returned", "attempt"]

#: What is compared: nested tuples, in which generated keys are numbers of rows.
Form: TypeAlias = Any


# The violations of which memory may meet one in a later row of a batch, where a database looks at rows one by one.
_LOOKED_AT_BY_ROW = (CheckViolationError, ForeignKeyViolationError, UniqueViolationError)


class LeftError(Exception):
    """What a generated program leaves a block by on purpose."""


@dataclass(frozen=True, slots=True)
class Returned:
    """A call returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """A call raised."""

    error: BaseException


Answer: TypeAlias = Returned | Raised


def attempt(work: Callable[[], Any]) -> Answer:
    """Do something and give what it came to."""
    try:
        return Returned(work())
    except Exception as error:  # noqa: BLE001  # whatever it is, the other side must raise it too
        return Raised(error)


class Reader:
    """Reads the answers of one side.

    Args:
        side: 0 for memory, 1 for the database.
        keys: the rows that were met, by repository.
        lacks: the capabilities that the database does not have.
    """

    def __init__(self, side: int, keys: Mapping[str, Keys], lacks: frozenset[str]) -> None:
        self._side = side
        self._keys = keys
        self._lacks = lacks

    def form(self, answer: Answer, table: Table | None) -> Form:
        """What is compared of an answer to a step about a table."""
        if isinstance(answer, Raised):
            return ("raised", type(answer.error).__name__, *self._error(answer.error, table))
        return ("returned", self._value(answer.value, table))

    def _value(self, value: Any, table: Table | None) -> Form:
        match value:
            case list() | tuple():
                return tuple(self._value(one, table) for one in value)
            case Page(items, has_next, total):
                return ("Page", self._value(items, table), has_next, total)
            case CursorPage(items):
                return ("CursorPage", self._value(items, table), value.has_previous, value.has_next)
            case Upserted(entity, created):
                return ("Upserted", self._value(entity, table), created)
            case _ if table is not None and isinstance(value, table.entity):
                return self._entity(value, table, [place.name for place in table.places])
            case _ if table is not None and is_dataclass(value) and type(value).__name__ == "Part":
                return self._entity(value, table, [one.name for one in fields(value)])
            case _:
                return scalar(value)

    def _entity(self, entity: Any, table: Table, names: Sequence[str]) -> Form:
        named = ((name, self.field(table, name, getattr(entity, name))) for name in names)
        return (type(entity).__name__, *named)

    def field(self, table: Table, name: str, value: Any) -> Form:
        """A field's value, or the number of the row whose key it is."""
        place = table.by_name.get(name)
        if place is None or place.of is None or value is None:
            return scalar(value)
        number = self._keys[place.of].number(self._side, value)
        return scalar(value) if number is None else f"row {number}"

    def _key(self, key: Any, table: Table | None) -> Form:
        """A key in an error; printed criteria hold keys of one side, so their text is not compared."""
        if table is None or (isinstance(key, str) and any(place.of for place in table.places)):
            return "criteria" if isinstance(key, str) else scalar(key)
        names = [place.name for place in table.key]
        values = key if isinstance(key, tuple) else (key,)
        if len(names) != len(values):
            return scalar(key)
        return tuple(self.field(table, name, value) for name, value in zip(names, values, strict=True))

    def _cause(self, error: BaseException | None) -> Form:
        """What aborted a unit; where rows are looked at one by one, that may be another kind of violation."""
        one_by_one = "references_at_end" in self._lacks and isinstance(error, _LOOKED_AT_BY_ROW)
        return "a violation" if one_by_one else type(error).__name__

    def _error(self, error: BaseException, table: Table | None) -> tuple[Form, ...]:
        match error:
            case ForeignKeyViolationError() if "fk_error_details" in self._lacks:
                return ()
            case ConstraintError():
                return (error.constraint, error.fields, error.table)
            case NotFoundError():
                return (error.entity.__name__, self._key(error.key, table))
            case StaleEntityError():
                return (error.entity.__name__, self._key(error.key, table), error.version)
            case MultipleFoundError():
                return (error.entity.__name__,)
            case InvalidValueError():
                return (error.field, error.reason)
            case UnitStateError():
                return (error.reason,)
            case TransactionAbortedError():
                return (self._cause(error.__cause__), error.retryable)
            case RepositoryError():
                return (error.retryable,)
            case _:
                return ()


def scalar(value: Any) -> Form:
    """A value as it must be on both sides: of the same type, and written the same way."""
    return value if value is None or type(value) is str else (type(value).__name__, repr(value))


def is_which(forms: Sequence[Form], *, of_any_kind: bool) -> bool:
    """Whether two answers differ at most in which of several violated constraints is named."""
    kinds = {kind.__name__ for kind in _LOOKED_AT_BY_ROW}
    raised = {form[1] if form[0] == "raised" else "" for form in forms}
    return raised <= kinds and (of_any_kind or len(raised) == 1)

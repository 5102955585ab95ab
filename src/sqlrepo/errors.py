"""Every error the library raises, as data.

Knows what callers need to react: which entity, which fields, whether trying again can help. Must not know drivers or
their texts, which hold values of rows; the driver's exception stays reachable as ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, Literal

__all__ = [
    "CheckViolationError",
    "ConstraintError",
    "DatabaseUnavailableError",
    "ForeignKeyViolationError",
    "InvalidLiteralError",
    "InvalidValueError",
    "LockTimeoutError",
    "MappingError",
    "MultipleFoundError",
    "NotFoundError",
    "NotNullViolationError",
    "QueryError",
    "ReadOnlyError",
    "RepositoryError",
    "StaleEntityError",
    "StatementTimeoutError",
    "TransactionAbortedError",
    "TransactionConflictError",
    "UniqueViolationError",
    "UnitStateError",
    "UnsupportedError",
    "add_failure_note",
    "make_commit_lost_error",
    "nearest",
]


# A message that lists more names than this is not read.
_LISTED = 20


class RepositoryError(Exception):
    """The root of every error of this library.

    Attributes:
        retryable: whether the same unit of work, run again from its start, may succeed.
    """

    retryable: bool = False


class NotFoundError(RepositoryError):
    """No row answers to a key, or to the criteria of a call that needs one.

    Attributes:
        entity: the entity's class.
        key: the key asked for; for criteria, their printed form.
    """

    def __init__(self, entity: type, key: object) -> None:
        super().__init__(entity, key)
        self.entity = entity
        self.key = key

    def __str__(self) -> str:
        return f"no {self.entity.__name__} with {self.key!r}"


class MultipleFoundError(RepositoryError):
    """More than one row answers to a call that wants exactly one.

    Attributes:
        entity: the entity's class.
        criteria: the printed criteria.
    """

    def __init__(self, entity: type, criteria: str) -> None:
        super().__init__(entity, criteria)
        self.entity = entity
        self.criteria = criteria

    def __str__(self) -> str:
        return f"more than one {self.entity.__name__} where {self.criteria}"


class ConstraintError(RepositoryError):
    """The table refuses a row.

    Attributes:
        constraint: the constraint's name in the metadata, None where it has none.
        fields: the entity's fields it covers, in the constraint's order; empty where the backend does not tell.
        table: the table's name; None where the backend does not tell.
    """

    kind: ClassVar[str] = "constraint"

    def __init__(self, constraint: str | None, fields: Iterable[str] = (), *, table: str | None = None) -> None:
        self.constraint = constraint
        self.fields: tuple[str, ...] = tuple(fields)
        self.table = table
        super().__init__(constraint, self.fields)

    def __str__(self) -> str:
        named = f" {self.constraint!r}" if self.constraint else ""
        covered = f" of {', '.join(self.fields)}" if self.fields else ""
        return f"{self.kind}{named}{covered} is violated"


class UniqueViolationError(ConstraintError):
    """Another row already has these values (a unique constraint or the primary key)."""

    kind = "unique constraint"


class ForeignKeyViolationError(ConstraintError):
    """A row refers to one that does not exist, or is still referred to."""

    kind = "foreign key"


class NotNullViolationError(ConstraintError):
    """A column that must have a value got none."""

    kind = "not null"


class CheckViolationError(ConstraintError):
    """A check of the table says no."""

    kind = "check"


class InvalidValueError(RepositoryError):
    """A value its column cannot hold: wrong type, too long, out of range, NUL, NaN, naive where aware is needed.

    Or one that the repository does not: it puts the row outside the repository's scope.

    Attributes:
        field: the field's name.
        reason: what is wrong with the value; never the value.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class StaleEntityError(RepositoryError):
    """The row was changed since the entity was read: its version is another. Retryable, where the unit reads it again.

    Attributes:
        entity: the entity's class.
        key: the row's key.
        version: the version the caller expected.
    """

    retryable = True

    def __init__(self, entity: type, key: object, version: object) -> None:
        super().__init__(entity, key, version)
        self.entity = entity
        self.key = key
        self.version = version

    def __str__(self) -> str:
        return f"{self.entity.__name__} {self.key!r} is no longer at version {self.version!r}; read it again"


class TransactionConflictError(RepositoryError):
    """Two transactions want the same rows and this one lost (serialization failure, deadlock). Retryable."""

    retryable = True


class LockTimeoutError(RepositoryError):
    """Another transaction held a lock for too long. Retryable."""

    retryable = True


class StatementTimeoutError(RepositoryError):
    """A statement ran longer than the server allows."""


class DatabaseUnavailableError(RepositoryError):
    """No connection, or a lost one.

    Attributes:
        retryable: False where trying again cannot help, and where it may do everything twice.
        in_commit: whether the connection was lost during COMMIT, so that nobody knows the outcome.
    """

    def __init__(self, reason: str, *, retryable: bool = True, in_commit: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.in_commit = in_commit


class ReadOnlyError(RepositoryError):
    """A write in a unit of work declared read-only."""


class TransactionAbortedError(RepositoryError):
    """An earlier error, its ``__cause__``, aborted the transaction: roll back, and use ``savepoint()`` next time.

    Retryable where that error is.
    """

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # known when the cause is
        """Whether the unit of work, run again, may succeed."""
        return isinstance(self.__cause__, RepositoryError) and self.__cause__.retryable

    def __str__(self) -> str:
        first = self.__cause__
        because = f" by {type(first).__name__}: {first}" if first is not None else ""
        return (
            f"this unit of work was aborted{because}; leave it or call rollback(), and put a statement that may fail "
            "inside `with unit.savepoint():`"
        )


class QueryError(RepositoryError, ValueError):
    """A query that cannot be meant: unknown field, unfitting operator, wrong value, contradictory options."""


class InvalidLiteralError(InvalidValueError, QueryError):
    """What is asked with fits nothing: a filter's value, a limit, a cursor. A wrong value and a wrong query at once.

    Whoever sends the value is told.
    """


class ProgrammingError(QueryError):
    """A query that is wrong whoever asks: its table is missing, or its repository's scope is no criterion.

    The name is PEP 249's, of what a database does not understand.
    """


class MappingError(RepositoryError):
    """An entity and its table do not fit together; said where the repository class is defined."""


class UnsupportedError(RepositoryError):
    """This backend, or this form of a class, cannot do what was asked."""


class UnitStateError(RepositoryError, RuntimeError):
    """A unit of work is used in a state that does not allow it.

    Attributes:
        reason: ``not_open``, ``already_open``, ``busy`` or ``write_outside``.
    """

    def __init__(self, reason: Literal["not_open", "already_open", "busy", "write_outside"], hint: str) -> None:
        super().__init__(reason, hint)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.hint} ({self.reason})"


def make_commit_lost_error() -> DatabaseUnavailableError:
    """Make the error of a connection that was lost during COMMIT, which nobody may simply try again."""
    lost = "the connection was lost during COMMIT; nobody knows whether it took effect"
    return DatabaseUnavailableError(lost, retryable=False, in_commit=True)


def add_failure_note(first: BaseException, second: BaseException, doing: str) -> None:
    """Of two errors the first counts, and the second becomes a note of it."""
    first.add_note(f"{doing} failed as well: {type(second).__name__}: {second}")


def nearest(name: str, valid: Iterable[str]) -> str:
    """Say which valid name was probably meant, for the end of an error's message."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return f"; there are {listed}" if names else ""

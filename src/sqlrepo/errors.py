"""Every error the library raises, each with its data as attributes."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar, Literal

# Nobody reads a message that lists more names than this.
_LISTED = 20


class RepositoryError(Exception):
    """The base of all errors raised by this library; a driver's own exception is its ``__cause__``.

    Attributes:
        retryable: True if running the same unit of work again from its start may succeed.
    """

    retryable: bool = False


# -- finding rows


class NotFoundError(RepositoryError):
    """No row has the requested key, or none matches where a row is required.

    Attributes:
        entity: the entity class.
        key: the requested key, or the criteria as text.
    """

    def __init__(self, entity: type, key: object) -> None:
        super().__init__(entity, key)
        self.entity = entity
        self.key = key

    def __str__(self) -> str:
        return f"no {self.entity.__name__} found; the error's `key` is what was looked for"


class MultipleFoundError(RepositoryError):
    """Several rows match where at most one is allowed.

    Attributes:
        entity: the entity class.
        criteria: the criteria as text.
    """

    def __init__(self, entity: type, criteria: str) -> None:
        super().__init__(entity, criteria)
        self.entity = entity
        self.criteria = criteria

    def __str__(self) -> str:
        return f"more than one {self.entity.__name__} found; the error's `criteria` are what they match"


# -- writing rows


class ConstraintError(RepositoryError):
    """A row violates a constraint of its table.

    Attributes:
        constraint: the constraint's name in the metadata; None if it is unnamed.
        fields: the entity's fields that the constraint covers, in their declared order; empty if not reported.
        table: the table's name; None if not reported.
        reason: what happened, if no constraint is violated; usually empty.
    """

    kind: ClassVar[str] = "constraint"

    def __init__(
        self, constraint: str | None, fields: Iterable[str] = (), *, table: str | None = None, reason: str = ""
    ) -> None:
        self.constraint = constraint
        self.fields: tuple[str, ...] = tuple(fields)
        self.table = table
        self.reason = reason
        super().__init__(constraint, self.fields)

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        name = f" {self.constraint!r}" if self.constraint else ""
        covered = f" on {', '.join(self.fields)}" if self.fields else ""
        return f"{self.kind}{name}{covered} is violated"


class UniqueViolationError(ConstraintError):
    """Another row has the same values in a unique constraint or primary key."""

    kind = "unique constraint"


class ForeignKeyViolationError(ConstraintError):
    """A row refers to a row that does not exist, or a deleted row is still referred to."""

    kind = "foreign key"


class NotNullViolationError(ConstraintError):
    """A required column has no value."""

    kind = "not-null constraint"


class CheckViolationError(ConstraintError):
    """A check constraint evaluates to false for a row, or a trigger does not let the row be written."""

    kind = "check"


class InvalidValueError(RepositoryError):
    """A column cannot hold a value, no column keeps it, or it would put its row outside the repository's scope.

    Reasons: wrong type, too long, out of range, a NUL character, NaN, or a datetime without the required time zone.

    Attributes:
        field: the field's name; None if the database does not report it.
        reason: what is wrong with the value; never contains the value.
        table: the table's name, if the database refused the value and its column is known; else None.
    """

    def __init__(self, field: str | None, reason: str, *, table: str | None = None) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason
        self.table = table

    def __str__(self) -> str:
        return self.reason if self.field is None else f"{self.field}: {self.reason}"


class StaleEntityError(RepositoryError):
    """The row was changed after its entity was read; retryable, if the unit of work reads the entity again.

    The optimistic offline lock of Martin Fowler's *Patterns of Enterprise Application Architecture*.

    Attributes:
        entity: the entity class.
        key: the row's key.
        version: the version that the caller expected.
    """

    retryable = True

    def __init__(self, entity: type, key: object, version: object) -> None:
        super().__init__(entity, key, version)
        self.entity = entity
        self.key = key
        self.version = version

    def __str__(self) -> str:
        return f"the {self.entity.__name__} is no longer at the expected version; read it again (see the error's `key`)"


class ReadOnlyError(RepositoryError):
    """A write, or a lock, was requested in a read-only unit of work."""


# -- transactions and connections


class TransactionConflictError(RepositoryError):
    """The transaction lost a conflict over rows: a serialization failure or a deadlock. Retryable."""

    retryable = True


class LockTimeoutError(RepositoryError):
    """Another transaction held a lock for too long. Retryable."""

    retryable = True


class StatementTimeoutError(RepositoryError):
    """A statement ran longer than the server allows."""


class DatabaseUnavailableError(RepositoryError):
    """No connection could be made, or the connection was lost.

    Attributes:
        reason: what happened.
        retryable: False if a retry cannot succeed, or might repeat work that was committed.
        in_commit: True if the connection was lost during COMMIT, so that the outcome is unknown.
    """

    def __init__(self, reason: str, *, retryable: bool = True, in_commit: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.in_commit = in_commit


class TransactionAbortedError(RepositoryError):
    """An earlier error, its ``__cause__``, aborted the transaction; only a rollback is possible.

    Put a statement that may fail inside ``savepoint()``. Retryable if the cause is.
    """

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # known when the cause is
        """True if the cause is retryable."""
        return isinstance(self.__cause__, RepositoryError) and self.__cause__.retryable

    def __str__(self) -> str:
        first = self.__cause__
        because = f" by {_describe(first)}" if first is not None else ""
        return (
            f"this unit of work was aborted{because}; leave it or call rollback(), and put a statement that may fail "
            "inside `with unit.savepoint():`"
        )


class UnitStateError(RepositoryError, RuntimeError):
    """A unit of work is used in a state that does not allow the call.

    Attributes:
        reason: ``not_open``, ``already_open``, ``busy`` or ``write_outside``.
        hint: what to do.
    """

    def __init__(self, reason: Literal["not_open", "already_open", "busy", "write_outside"], hint: str) -> None:
        super().__init__(reason, hint)
        self.reason = reason
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.hint} ({self.reason})"


# -- queries and definitions


class QueryError(RepositoryError, ValueError):
    """A query is ambiguous or contradictory: an unknown field, an unsuitable operator, conflicting options.

    Attributes:
        option: the option that is also a field of the entity, which makes its keyword ambiguous; usually None.
    """

    option: str | None = None


class InvalidLiteralError(InvalidValueError, QueryError):
    """A value in a query is invalid: a filter's value, a limit, a cursor. Usually the client's mistake."""


class ProgrammingError(QueryError):
    """A query is wrong whatever its values: the table is missing, say, or the repository's scope is not a criterion.

    The name is taken from PEP 249.
    """


class MappingError(RepositoryError):
    """An entity class does not match its table; raised where the repository class is defined, if possible.

    Attributes:
        key: the key of the row that cannot be loaded, if that is the reason.
    """

    key: tuple[object, ...] | None = None


class UnsupportedError(RepositoryError):
    """The backend, or this form of a class, does not support the request."""

    halfway: bool = False  # the call had sent a statement already


# -- for the library itself


def make_passed_over_error(table: str) -> CheckViolationError:
    """Make the error of a statement that the database accepted, and that wrote no row."""
    reason = f"nothing was stored: a trigger or rule of {table} passed over the row, or changed its key"
    return CheckViolationError(None, table=table, reason=reason)


def make_unreadable_error(table: str, fields: Iterable[str]) -> UnsupportedError:
    """Make the error of an INSERT whose row MySQL could not give back."""
    return UnsupportedError(
        f"MySQL does not return what it fills in or rounds, and cannot find the new row of {table} without it: "
        f"{', '.join(fields)}; give a value, or a default that Python makes, and the table a primary key"
    )


def make_commit_lost_error() -> DatabaseUnavailableError:
    """Make the error of a connection lost during COMMIT, which must not be retried blindly."""
    reason = "the connection was lost during COMMIT, so the outcome is unknown; check before trying again"
    return DatabaseUnavailableError(reason, retryable=False, in_commit=True)


def add_failure_note(first: BaseException, second: BaseException, doing: str) -> None:
    """Record a second error as a note of the first, which stays the one that is raised."""
    first.add_note(f"{doing} failed as well: {_describe(second)}")


def _describe(error: BaseException) -> str:
    """Return an error's class, and its message if it is the library's: a driver's may contain values."""
    message = f": {error}" if isinstance(error, RepositoryError) else ""
    return f"{type(error).__name__}{message}"


def nearest(name: str, valid: Iterable[str], listed: Iterable[str] = ()) -> str:
    """Suggest a valid name, as the end of an error message; where none is near, list them, or others."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    names = sorted(listed) or names
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    return f"; valid names: {listed}" if names else ""

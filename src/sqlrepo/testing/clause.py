"""Which clause of the contract a case checks, and what may be said about it besides pass and fail.

Knows numbers and functions. Must not know what the clauses say: that is `docs/contract.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import pytest

__all__ = ["NotApplicableError", "clause", "clause_of", "deliberate", "is_deliberate"]

F = TypeVar("F", bound=Callable[..., Any])


class NotApplicableError(Exception):
    """The entity, or the harness, lacks what a case needs; reported as skipped, with clause and reason."""


def clause(number: str) -> Callable[[F], F]:
    """Say which clause a case checks; a failure then names it."""

    def cite(case: F) -> F:
        @wraps(case)
        def checked(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            try:
                case(*args, **kwargs)
            except NotApplicableError as lack:
                pytest.skip(f"clause {number} is not checked: {lack}")
            except BaseException as error:
                error.add_note(f"This is clause {number} of sqlrepo's contract.")
                raise

        checked.__dict__["clause"] = number
        return cast(F, checked)

    return cite


def clause_of(case: object) -> str | None:
    """The number of the clause a function checks; None where it is no case."""
    return getattr(case, "clause", None)


def deliberate(reason: str) -> Callable[[F], F]:
    """Let a method of your test class take the place of a case; without this mark that is refused.

    Args:
        reason: why the case as it is does not fit; it is reported.
    """

    def mark(case: F) -> F:
        case.__dict__["deliberate"] = reason
        return case

    return mark


def is_deliberate(case: object) -> bool:
    """Whether a method may take the place of a case."""
    return bool(getattr(case, "deliberate", None))

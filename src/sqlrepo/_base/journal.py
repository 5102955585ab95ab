"""What is told of a unit of work while it runs, under the logger ``sqlrepo``.

Knows when a unit began, how it ended, and how long it held a connection for nothing. Must not know statements, nor
tell any value.
"""

from __future__ import annotations

import logging
from itertools import count
from time import monotonic

from sqlrepo.transaction import Transaction

__all__ = ["Journal"]

_log = logging.getLogger("sqlrepo")

_NUMBERS = count(1)


class Journal:
    """What one unit is told to do; as a text, the unit's name.

    Args:
        unit: the name of its class, as the application knows it.
        patience: the seconds it may hold a connection between two calls before that is worth a warning.

    Attributes:
        unit: the same.
        patience: the same.
    """

    __slots__ = ("_began", "_number", "patience", "unit")

    def __init__(self, unit: str, patience: float) -> None:
        self.unit = unit
        self.patience = patience
        self._number = next(_NUMBERS)  # units of one class run side by side
        self._began = 0.0

    def __str__(self) -> str:
        return f"{self.unit} {self._number}"

    def began(self) -> None:
        """The unit was entered."""
        self._began = monotonic()
        _log.debug("%s began", self)

    def committed(self) -> None:
        """What it did is committed."""
        _log.debug("%s committed after %.3f s", self, self._age)

    def rolled_back(self, error: BaseException | None = None) -> None:
        """What it did is undone; because of an error, if there was one."""
        why = f" because of {type(error).__name__}" if error is not None else ""
        _log.debug("%s rolled back after %.3f s%s", self, self._age, why)

    def failed(self, error: BaseException) -> None:
        """COMMIT failed; what it did is undone, if the server could still be told."""
        _log.debug("%s could not commit after %.3f s because of %s", self, self._age, type(error).__name__)

    def asked(self, transaction: Transaction) -> None:
        """A call begins, or the end: warn if the connection was held for nothing until now."""
        if transaction.answered is None:
            return
        idle = monotonic() - transaction.answered
        if idle > self.patience:
            _log.warning(
                "%s held a connection for %.1f s without a query; end the transaction, by commit() say, before what "
                "takes long elsewhere",
                self,
                idle,
            )

    @property
    def has_begun(self) -> bool:
        """Whether the unit was entered, once at least."""
        return self._began > 0

    @property
    def _age(self) -> float:
        return monotonic() - self._began

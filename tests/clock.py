"""A clock that goes when a test says so, for what the library tells of time that passed."""

import pytest

PLACES = ("sqlrepo.core.work.monotonic", "sqlrepo.sqlalchemy.driver.monotonic")


class Clock:
    """The library's clock.

    Attributes:
        now: what it shows, in seconds.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """The clock, in the library's hands."""
    made = Clock()
    for place in PLACES:
        monkeypatch.setattr(place, made)
    return made

"""A clock that goes when a test says so, for what the library tells of time that passed."""

import pytest

PLACES = ("sqlrepo.core.work.monotonic", "sqlrepo.sqlalchemy.driver.monotonic")


class Clock:
    """The library's clock."""

    def __init__(self) -> None:
        self.now = 1000.0  # seconds

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    for place in PLACES:
        monkeypatch.setattr(place, made)
    return made

"""The tables as they came to be, one step after another; knows Alembic, and which database is meant by a URL."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from examples.todo.storage import in_memory

INI = Path(__file__).parents[1] / "alembic.ini"


def configured(url: str) -> Config:
    """What Alembic's commands need for the database of that URL; `env.py` finds it there."""
    return Config(str(INI), attributes={"url": url})


def upgrade(url: str) -> None:
    """Brings the tables of a store to the newest revision; where they are already, nothing happens."""
    if not in_memory(url):  # memory has no tables of yesterday
        command.upgrade(configured(url), "head")

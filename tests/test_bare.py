"""What is there without the extras: everything but what they are for, which says their names."""

import subprocess
import sys

BARE = """
from importlib.machinery import PathFinder

missing, found = {missing!r}, PathFinder.find_spec
hidden = lambda _, name, *place: None if name.split(".")[0] in missing else found(name, *place)
PathFinder.find_spec = classmethod(hidden)
"""
DRIVERS = ("aiosqlite", "asyncpg", "asyncmy", "psycopg", "pymysql")


def without(*missing, run):
    """Run a program as if packages were not installed."""
    result = subprocess.run([sys.executable, "-c", BARE.format(missing=missing) + run], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_database_needs_neither_greenlet_nor_a_driver_of_another():
    without(
        "greenlet",
        *DRIVERS,
        "fastapi",
        "pytest",
        "hypothesis",
        run="""
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlrepo import BaseRepository
from sqlrepo.sqlalchemy import AsyncDatabase, AsyncSQLAlchemyRepository, Database

class Base(DeclarativeBase): ...
class Row(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
class Thing(BaseModel):
    id: int | None = None
class Things(BaseRepository[Thing, int]):
    model = Row

db = Database("sqlite://")
Base.metadata.create_all(db.engine)
with Things(db) as things:
    assert things.add(Thing()).id == 1
with Session(db.engine) as session:
    assert Things(session).count() == 1
""",
    )


def test_an_async_database_without_greenlet_names_the_extra():
    without(
        "greenlet",
        run="""
from sqlrepo import UnsupportedError
from sqlrepo.sqlalchemy import AsyncDatabase
try:
    AsyncDatabase("sqlite+aiosqlite://")
except UnsupportedError as error:
    assert 'pip install "sqlrepo-uow[asyncio]"' in str(error), error
else:
    raise AssertionError
""",
    )


def test_a_driver_that_is_missing_is_named_with_its_extra():
    without(
        *DRIVERS,
        run="""
from sqlrepo import UnsupportedError
from sqlrepo.sqlalchemy import AsyncDatabase, Database
for make, url, extra in [
    (Database, "postgresql+psycopg://x", "psycopg"),
    (Database, "mysql+pymysql://x", "pymysql"),
    (AsyncDatabase, "sqlite+aiosqlite://", "aiosqlite"),
    (AsyncDatabase, "postgresql+asyncpg://x", "asyncpg"),
    (AsyncDatabase, "mysql+asyncmy://x", "asyncmy"),
]:
    try:
        make(url)
    except UnsupportedError as error:
        assert f'pip install "sqlrepo-uow[{extra}]"' in str(error), error
    else:
        raise AssertionError(url)
""",
    )

"""The contract in somebody else's project: the library from its wheel, a short test file, a readable failure."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

TESTS = """\
import pytest
from library import Base, Book, Books
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Harness, RepositoryContract

class TestBooks(RepositoryContract[Book, str]):
    @pytest.fixture(params=["memory", "sqlite"])
    def harness(self, request):
        db = InMemoryDatabase() if request.param == "memory" else Database("sqlite://")
        if request.param == "sqlite":
            Base.metadata.create_all(db.engine)
        yield Harness(open=lambda: Books(db),
                      make=lambda n: Book(isbn=f"i{n}", title=f"Title {n}"),
                      change=lambda book: book.model_copy(update={"title": book.title + "!"}))
        db.dispose()
"""

LIBRARY = """\
from pydantic import BaseModel
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlrepo import BaseRepository

class Book(BaseModel):
    isbn: str
    title: str

class Base(DeclarativeBase): ...

class BookRow(Base):
    __tablename__ = "book"
    isbn: Mapped[str] = mapped_column(String(13), primary_key=True)
    title: Mapped[str] = mapped_column(String(80))

class Books(BaseRepository[Book, str]):
    model = BookRow
"""

# A repository that forgets what `get` is for: it gives every title in capitals.
BROKEN = """
    def get_or_none(self, id, *, lock=None):
        found = super().get_or_none(id, lock=lock)
        return found and found.model_copy(update={"title": found.title.upper()})
"""


@pytest.fixture
def run(installed_wheel, tmp_path):
    """Write the project into a directory of its own, and run its tests against the installed wheel."""

    def run(*arguments, tests=TESTS, library=LIBRARY):
        (tmp_path / "library.py").write_text(library)
        (tmp_path / "test_books.py").write_text(tests)
        (tmp_path / "conftest.py").write_text(
            'import sqlrepo\n\npytest_plugins = ["sqlrepo.testing.plugin"]\n\n'
            "def pytest_report_header():\n    return f'the library is in {sqlrepo.__path__[0]}'\n"
        )
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(installed_wheel), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"},
        )  # fmt: skip

    return run


def test_short_test_file_runs_the_whole_contract(run, installed_wheel):
    assert len([line for line in TESTS.splitlines() if line]) == 15

    result = run()

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"the library is in {installed_wheel}" in result.stdout
    assert f"sqlrepo: {version('sqlrepo-uow')}" in result.stdout
    assert "test_books.py::TestBooks[memory]\n  capabilities off: row_locks" in result.stdout
    assert "test_books.py::TestBooks[sqlite]\n  capabilities off: concurrent_writers" in result.stdout
    assert "9.5, 9.6, 14.5: not checked, Book has no version" in result.stdout


def test_failure_shows_the_clause_and_the_values(run):
    result = run("-k", "test_get_gives_the_stored_entity and memory", library=LIBRARY + BROKEN)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "found [{'isbn': 'i1', 'title': 'TITLE 1'}" in result.stdout
    assert "expected [{'isbn': 'i1', 'title': 'Title 1'}" in result.stdout
    assert "clause 2.1 of sqlrepo's contract" in result.stdout


def test_capability_that_is_declared_off_but_there_is_reported(run):
    declared = TESTS.replace("import Harness", "import Capabilities, Harness").replace(
        "make=lambda", "capabilities=Capabilities(concurrent_writers=False), make=lambda"
    )

    result = run("-k", "test_two_units_write_at_once and memory", tests=declared)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "the second writer did not wait; declare concurrent_writers" in result.stdout
    assert "capabilities off: concurrent_writers" in result.stdout

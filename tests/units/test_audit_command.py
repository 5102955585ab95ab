"""The audit from a shell: what it prints, and what it ends with."""

import importlib
import logging
import os
import subprocess
import sys

import pytest
import sqlalchemy as sa

from sqlrepo import BaseRepository, MappingError
from sqlrepo.__main__ import main
from sqlrepo.sqlalchemy import Database
from sqlrepo.sqlalchemy.audit import find_short_keys

STORAGE = """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlrepo.sqlalchemy import types

class Base(DeclarativeBase): ...
class Empty(DeclarativeBase): ...

class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[float] = mapped_column(sa.Numeric(30, 2, asdecimal=True))
    word: Mapped[str] = mapped_column(sa.String(5, collation="NOCASE"), unique=True)

class Portable:
    metadata = sa.MetaData()
    sa.Table("fine", metadata, sa.Column("id", types.BigKey(), primary_key=True), sa.Column("word", types.Text(5)))

number = 5
"""

REPOSITORIES = """
from dataclasses import dataclass
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlrepo import AsyncBaseRepository, BaseRepository

class Base(DeclarativeBase): ...

class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]

class Asked(Base):
    __tablename__ = "asked"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]

class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]

class Latest(Base):
    __tablename__ = "latest"
    __table_args__ = {"info": {"lost_updates": "allow"}}
    id: Mapped[int] = mapped_column(primary_key=True)

class Unused(Base):
    __tablename__ = "unused"
    id: Mapped[int] = mapped_column(primary_key=True)

@dataclass
class Thing:
    id: int
    number: int

@dataclass
class Bare:
    id: int

class Plains(BaseRepository[Thing, int]):
    model = Plain

class Askeds(AsyncBaseRepository[Thing, int]):
    model = Asked

class Counters(BaseRepository[Thing, int]):
    model = Counted
    version = "number"

class Others(BaseRepository[Thing, int]):
    model = Counted

class News(BaseRepository[Bare, int]):
    model = Latest
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with an application's modules, which is the current one."""
    (tmp_path / "storage.py").write_text(STORAGE)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no luck')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("storage", None)


@pytest.fixture
def repositories(here):
    (here / "repositories.py").write_text(REPOSITORIES)
    yield
    sys.modules.pop("repositories", None)


@pytest.fixture
def run(here):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "sqlrepo", *arguments],
            cwd=here,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    return call


def test_findings_are_paragraphs_and_exit_code_1(run):
    result = run("audit", "storage:Base", "--dialect", "sqlite")

    *paragraphs, note, summary = result.stdout.strip().split("\n\n")
    assert note.startswith("Note: ")
    assert (result.returncode, result.stderr) == (1, "")
    assert len(paragraphs) == 3
    assert [one.split(":")[0] for one in paragraphs] == ["person.price", "person.word", "person.(word)"]
    assert all("Remedy: " in one for one in paragraphs)
    assert summary.startswith("3 ")


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mariadb", "mysql"])
def test_no_finding_is_exit_code_0(run, dialect):
    result = run("audit", "storage:Portable.metadata", "--dialect", dialect)

    assert (result.returncode, result.stderr) == (0, "")
    *_, summary = result.stdout.splitlines()
    assert summary.startswith("No findings")


def test_tables_whose_last_key_a_client_may_choose_are_named_in_a_note():
    metadata = sa.MetaData()
    for name, column in {
        "short": sa.Column("id", sa.Integer, primary_key=True),
        "long": sa.Column("id", sa.BigInteger, primary_key=True),
        "always": sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True),
        "given": sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        "tiny": sa.Column("id", sa.SmallInteger, sa.Identity(), primary_key=True),
    }.items():
        sa.Table(name, metadata, column)

    assert find_short_keys(metadata) == ["short", "tiny"]


def test_the_note_is_printed_and_is_no_finding(repositories, capsys):
    assert main(["audit", "repositories:Base", "--dialect", "sqlite"]) == 0

    note, summary = capsys.readouterr().out.strip().split("\n\n")
    assert note.startswith("Note: the generated keys of ")
    assert summary.startswith("No findings")


@pytest.mark.parametrize(("dialect", "lost"), [("postgresql", True), ("mariadb", True), ("sqlite", False)])
def test_tables_without_a_version_that_repositories_write_are_a_line_each(repositories, capsys, dialect, lost):
    code = main(["audit", "repositories:Base", "--dialect", dialect])

    printed = capsys.readouterr().out
    heads = [line for line in printed.splitlines() if "[lost-update]" in line]
    assert heads == (["asked: no version column [lost-update]", "plain: no version column [lost-update]"] * lost)
    assert printed.count("READ COMMITTED") == printed.count("Remedy: ") == lost
    assert code == lost


def test_the_log_about_a_table_does_not_mention_its_missing_version(repositories, caplog):
    plains, db = importlib.import_module("repositories").Plains, Database("postgresql+psycopg://nobody@localhost/none")
    with caplog.at_level(logging.WARNING, "sqlrepo"):
        plains(db)

    assert caplog.records == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["audit"],
        ["audit", "storage:Base"],
        ["audit", "storage:Base", "--dialect", "oracle"],
        ["audit", "storage:Base", "--dialect", "sqlite", "--url", "sqlite://"],
        ["audit", "storage", "--dialect", "sqlite"],
        ["audit", ":Base", "--dialect", "sqlite"],
        ["audit", "nowhere:Base", "--dialect", "sqlite"],
        ["audit", "broken:Base", "--dialect", "sqlite"],
        ["audit", "storage:Bass", "--dialect", "sqlite"],
        ["audit", "storage:number", "--dialect", "sqlite"],
        ["audit", "storage:Empty", "--dialect", "sqlite"],
        ["audit", "storage:Base", "--url", ""],
        ["audit", "storage:Base", "--url", "sqlite"],
        ["audit", "storage:Base", "--url", "://u:swordfish@"],
        ["audit", "storage:Base", "--url", "mysql+pymysql://u:swordfish@host:port/x"],
        ["audit", "storage:Base", "--url", "nonsense://:swordfish@"],
        ["audit", "storage:Base", "--url", "postgresql://u:swordfish@localhost/x"],
        ["audit", "storage:Base", "--url", "postgresql+asyncpg://u:swordfish@localhost/x"],
        ["audit", "storage:Base", "--url", "mysql+pymysql://u:swordfish@127.0.0.1:1/x"],
        ["audit", "storage:Base", "--url", "sqlite:///missing.db"],
    ],
    ids=" ".join,
)
def test_a_call_that_makes_no_sense_is_a_sentence_and_exit_code_2(here, arguments, capsys):
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code

    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert printed.err.strip()
    assert "swordfish" not in printed.err
    assert not (here / "missing.db").exists()


@pytest.mark.parametrize("module", ["nowhere", "broken"])
def test_a_shell_sees_no_traceback(run, module):
    result = run("audit", f"{module}:Base", "--dialect", "sqlite")

    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1


def test_a_real_database_is_asked_and_not_changed(here, capsys):
    engine = sa.create_engine(f"sqlite:///{here}/real.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE person (id INTEGER PRIMARY KEY, price NUMERIC, word TEXT UNIQUE)")
    engine.dispose()
    before = (here / "real.db").read_bytes()

    code = main(["audit", "storage:Base", "--url", f"sqlite:///{here}/real.db"])

    assert code == 1
    assert [one.split(":")[0] for one in capsys.readouterr().out.split("\n\n")[:-2]] == [
        "person.price",
        "person.word",
    ]  # of which memory says so
    assert (here / "real.db").read_bytes() == before
    assert sorted(one.name for one in here.iterdir()) == ["broken.py", "real.db", "storage.py"]


def test_a_repository_that_is_not_complete_keeps_no_other_from_being_used(repositories, capsys):
    plains, db = importlib.import_module("repositories").Plains, Database("postgresql+psycopg://nobody@localhost/none")

    class Incomplete(BaseRepository):
        model = plains.definition().schema.model

    plains(db)
    assert main(["audit", "repositories:Base", "--dialect", "postgresql"]) == 1
    assert "plain: no version column" in capsys.readouterr().out
    with pytest.raises(MappingError):
        Incomplete.definition()

"""The example's README names the code for each of the article's ten tips, and that code exists."""

import ast
import re

import pytest

from examples.todo import demo

EXAMPLE = demo.CHECKOUT / "examples" / "todo"
TIPS = (
    "domain models apart from tables",
    "a repository",
    "query objects",
    "one connection pool",
    "one session for each request",
    "transactions by context manager",
    "Alembic for migrations",
    "tested repositories",
    "a database only when it is needed",
    "thinking about the data model",
)


def table_of(text):
    """The rows of the table of tips: number, tip, and the names in each file."""
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE)
    return [(int(number), tip.strip(), [named(part) for part in where.split(";")]) for number, tip, where in rows]


def named(part):
    file, *names = re.findall(r"`([^`]+)`", part)
    return file, names


def identifiers(source):
    """The names that a module defines, imports or uses; comments and texts do not count."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        for attribute in ("name", "id", "attr", "arg"):
            if isinstance(name := getattr(node, attribute, None), str):
                found.add(name)
    return found


def missing(table, directory):
    """Names of the table that the directory does not have."""
    gone = []
    for _, _, places in table:
        for file, names in places:
            path = directory / file
            there = identifiers(path.read_text(encoding="utf-8")) if path.suffix == ".py" and path.exists() else set()
            gone += [f"{file}: {name}" for name in names if name not in there]
            gone += [] if path.is_file() else [file]
    return gone


@pytest.fixture
def table():
    return table_of((EXAMPLE / "README.md").read_text(encoding="utf-8"))


def test_ten_tips_stand_in_the_articles_order(table):
    assert [(number, tip) for number, tip, _ in table] == list(enumerate(TIPS, start=1))


def test_each_tip_is_where_the_table_says(table):
    assert all(places for _, _, places in table)
    assert missing(table, EXAMPLE) == []


def test_missing_names_are_noticed(tmp_path):
    (tmp_path / "a.py").write_text("def here(): ...  # gone\n")
    table = table_of("| 1 | a tip | `a.py`: `here`, `gone`; `b.py`: `it`; `c.ini` | seen |")
    assert missing(table, tmp_path) == ["a.py: gone", "b.py: it", "b.py", "c.ini"]


def test_every_file_is_introduced():
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    files = [path.name for path in EXAMPLE.iterdir() if path.suffix in (".py", ".ini") and path.name != "__init__.py"]
    assert [name for name in files if f"`{name}`" not in readme] == []

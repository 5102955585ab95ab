"""The table of lines and statements in the example's README is what this test counts."""

import ast
import re
import tokenize
from pathlib import Path
from typing import Any

import pytest

from tests.helpdesk.applications import Desk, opened

ROOT = Path(__file__).parents[2]
README = ROOT / "examples" / "helpdesk" / "README.md"
OURS = [ROOT / "examples" / "helpdesk" / f"{name}.py" for name in ("domain", "storage", "app")]
BY_HAND = [ROOT / "tests" / "helpdesk" / "by_hand.py"]

# Each is sent twice, because some ask the server once about its tables; the second time counts. {n} is another ticket.
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "a page of tickets, all that a list shows": ("GET", "/tickets?limit=3", None),
    "the same, by tag, assignee and text": ("GET", "/tickets?limit=3&tag=red&assignee=A&text=tea", None),
    "one ticket with comments and authors": ("GET", "/tickets/1", None),
    "facets": ("GET", "/tickets/facets?tag=red", None),
    "summary by project": ("GET", "/projects/summary", None),
    "create a ticket with tags": (
        "POST",
        "/tickets",
        {"project_id": 1, "assignee_id": 2, "title": "new", "tag_ids": [1, 2]},
    ),
    "change title": ("PATCH", "/tickets/{n}", {"title": "changed {n}"}),
    "change title and tags": ("PATCH", "/tickets/{n}", {"title": "again {n}", "tag_ids": [2, 3]}),
    "add a comment": ("POST", "/tickets/1/comments", {"body": "first"}),
    "change a comment": ("PATCH", "/tickets/1/comments/1", {"body": "changed {n}"}),
    "star": ("PUT", "/tickets/{n}/star", None),
    "take the star back": ("DELETE", "/tickets/{n}/star", None),
    "delete a ticket": ("DELETE", "/tickets/{n}", None),
}


def count_lines(paths: list[Path]) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    return sum(len(_lines_of_code(path)) for path in paths)


def _lines_of_code(path: Path) -> set[int]:
    docstrings = {
        line
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    passed = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in passed]
    lines = {line for token in tokens[1:] for line in range(token.start[0], token.end[0] + 1)}
    return lines - docstrings


def count_statements(desk: Desk) -> dict[str, int]:
    counted: dict[str, int] = {}
    for ticket in (2, 5):
        for name, (method, path, body) in REQUESTS.items():
            filled = body and {key: _fill(value, ticket) for key, value in body.items()}
            answer = desk.ask(method, _fill(path, ticket), json=filled)
            assert answer.is_success, f"{name}: {answer.text}"
            counted[name] = sum(
                re.match(r"SELECT|INSERT|UPDATE|DELETE|WITH", one.lstrip()) is not None for one in desk.sent
            )
    return counted


def _fill(value: Any, ticket: int) -> Any:
    return value.format(n=ticket) if isinstance(value, str) else value


def read_table() -> dict[str, tuple[int, int]]:
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \|$", README.read_text(), re.MULTILINE)
    return {name.strip(): (int(ours), int(by_hand)) for name, ours, by_hand in rows}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.repeats)])
def test_statements(kind: str, tmp_path: Path) -> None:
    counts = []
    for application in ("ours", "by hand"):
        (directory := tmp_path / application.replace(" ", "_")).mkdir()
        with opened(application, kind, directory) as desk:
            counts.append(count_statements(desk))
    ours, by_hand = counts
    assert {name: (ours[name], by_hand[name]) for name in REQUESTS} == {
        name: pair for name, pair in read_table().items() if name in REQUESTS
    }
    assert {name: ours[name] for name in REQUESTS if ours[name] > by_hand[name]} == {}


def test_statements_do_not_grow_with_the_tickets(tmp_path: Path) -> None:
    with opened("ours", "sqlite", tmp_path) as desk:
        counts = []
        for limit in (1, 4):
            assert len(desk.ask("GET", f"/tickets?order_by=created_at&limit={limit}").json()["items"]) == limit
            counts.append(len(desk.sent))
    assert counts[0] == counts[1]


def test_lines() -> None:
    ours, by_hand = count_lines(OURS), count_lines(BY_HAND)

    assert read_table()["lines of domain, storage and endpoints"] == (ours, by_hand)
    assert ours < by_hand

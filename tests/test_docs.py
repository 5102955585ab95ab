"""The README and the documentation are true: every Python block in them runs.

A page becomes a module whose line numbers are the page's own: blocks stay where they are, prose becomes blank lines.
So a page's blocks share one namespace, in order, and a traceback points into the page.
"""

import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]]
TEST = re.compile(r"^\s*((async )?def test_|class Test)", re.MULTILINE)
# Any way of opening a block that a site would show as Python, also those that `blocks_of` does not read.
FENCE = re.compile(r"^[\s>]*(`{3,}|~{3,})\s*\{?\s*\.?py", re.MULTILINE | re.IGNORECASE)
EXECUTED = "executed to line "


class Block(NamedTuple):
    end: int  # index of the line that closes it
    lines: list[str]

    @property
    def start(self) -> int:
        return self.end - len(self.lines)

    @property
    def holds_tests(self) -> bool:
        return TEST.search("\n".join(self.lines)) is not None


def blocks_of(text: str) -> list[Block]:
    blocks: list[Block] = []
    opened: list[str] | None = None
    for index, line in enumerate(text.splitlines()):
        if opened is None:
            opened = [] if line.lstrip().startswith("```python") else None
        elif line.strip() == "```":
            blocks.append(Block(index, dedent("\n".join(opened)).split("\n")))
            opened = None
        else:
            opened.append(line)
    assert opened is None, "a block is not closed"
    return blocks


def module_of(blocks: list[Block]) -> str:
    lines = [""] * (blocks[-1].end + 1)
    for block in blocks:
        lines[block.start : block.end] = block.lines
        lines[block.end] = f"print('{EXECUTED}{block.end}')"
    return "\n".join(lines)


def run(blocks: list[Block], directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    (directory / "page.py").write_text(module_of(blocks))
    return subprocess.run(
        [sys.executable, "-W", "error", *command], cwd=directory, capture_output=True, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def read(page: str) -> str:
    return (ROOT / page).read_text()


WITH_CODE = [page for page in PAGES if blocks_of(read(page))]


def blocks_of_tests(page: str) -> list:
    """Number the page's blocks that hold tests; the last one's test file holds all the earlier ones."""
    found = [
        pytest.param(page, number, id=f"{page}:{block.start + 1}", marks=pytest.mark.repeats)
        for number, block in enumerate(blocks_of(read(page)), start=1)
        if block.holds_tests
    ]
    return [*found[:-1], *(last._replace(marks=()) for last in found[-1:])]


def page_to_import(page: str):
    """Where the last block holds tests, their run under pytest executes the whole page too."""
    ends_in_tests = blocks_of(read(page))[-1].holds_tests
    return pytest.param(page, marks=[pytest.mark.repeats] if ends_in_tests else [])


@pytest.mark.parametrize("page", [page_to_import(page) for page in WITH_CODE])
def test_every_block_of_a_page_runs(page, tmp_path):
    result = run(blocks_of(read(page)), tmp_path, "-c", "import page")

    executed = [line for line in result.stdout.splitlines() if line.startswith(EXECUTED)]
    assert result.returncode == 0, f"{page}\n{result.stderr}"
    assert len(executed) == len(FENCE.findall(read(page))), f"{page}: a Python block was missed"


@pytest.mark.parametrize(("page", "number"), [*chain.from_iterable(map(blocks_of_tests, WITH_CODE))])
def test_a_block_of_tests_passes_under_pytest(page, number, tmp_path):
    """The page up to this block is one test file, as a reader would write it."""
    result = run(
        blocks_of(read(page))[:number], tmp_path, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "page.py"
    )

    assert result.returncode == 0, f"{page}\n{result.stdout}{result.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_no_block_of_python_is_overlooked(page):
    blocks, fences = len(blocks_of(read(page))), len(FENCE.findall(read(page)))

    assert blocks == fences

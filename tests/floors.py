"""The size of the house: modules, lines and characters of each floor. `python -m tests.floors` prints them."""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).parents[1] / "src" / "sqlrepo"
MODULES = {module.relative_to(HOUSE): module.read_text("utf-8") for module in sorted(HOUSE.rglob("*.py"))}


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Give each function's name and how many lines it has, its docstring not counted."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            yield node.name, node.end_lineno - node.lineno + 1 - len((docstring or "").splitlines())


if __name__ == "__main__":
    counts = Counter()
    for module, text in MODULES.items():
        for floor in (module.parts[0], "total"):
            counts.update({(floor, "modules"): 1, (floor, "lines"): text.count("\n"), (floor, "characters"): len(text)})
    for (floor, unit), count in counts.items():
        sys.stdout.write(f"{floor:<14}{count:>8} {unit}\n")

"""The size of the house: modules, lines and characters of each floor. `python -m tests.floors` prints them."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

HOUSE = Path(__file__).parents[1] / "src" / "sqlrepo"


def modules() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def floor_of(module: Path) -> str:
    """Name the folder directly below the package that a module is in, or the module itself at the top level."""
    return module.relative_to(HOUSE).parts[0]


def functions(module: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0] if ast.get_docstring(node) is not None else None
            docstring = 0 if documented is None else (documented.end_lineno or 0) - documented.lineno + 1
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def main() -> None:
    sizes: dict[str, list[int]] = {}
    for module in modules():
        text = module.read_text("utf-8")
        for name in (floor_of(module), "total"):
            size = sizes.setdefault(name, [0, 0, 0])
            size[:] = size[0] + 1, size[1] + len(text.splitlines()), size[2] + len(text)
    rows = [("floor", "modules", "lines", "characters")]
    rows += [(name, *map(str, size)) for name, size in sorted(sizes.items(), key=lambda item: item[1][1])]
    sys.stdout.writelines(f"{row[0]:<14}{row[1]:>8}{row[2]:>8}{row[3]:>12}\n" for row in rows)


if __name__ == "__main__":
    main()

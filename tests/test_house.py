"""What importing the library may load: an application pays for the backends and edges it uses, and for nothing else."""

import subprocess
import sys

import pytest

from tests import floors

# Import names of everything optional: the backend, the edges' tools, the drivers and their machinery.
OPTIONAL = {
    "aiosqlite", "alembic", "asyncmy", "asyncpg", "fastapi", "greenlet", "hypothesis", "psycopg", "psycopg_pool",
    "pymysql", "pytest", "sqlalchemy", "sqlglot", "sqlite3", "sqlmodel", "starlette",
}  # fmt: skip


def loaded_by(module: str) -> set[str]:
    """Import a module in a fresh interpreter and tell which top-level modules are there afterwards."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize("module", ["sqlrepo", "sqlrepo.memory"])
def test_importing_loads_nothing_optional(module):
    dragged_in = loaded_by(module) & OPTIONAL

    assert not dragged_in, f"import {module} dragged in {', '.join(sorted(dragged_in))}"


def test_the_web_edge_loads_no_backend():
    assert not loaded_by("sqlrepo.fastapi") & OPTIONAL - {"fastapi", "starlette"}


def test_the_probe_sees_what_an_import_loads():
    assert {"sqlrepo", "sqlite3", "pytest"} <= loaded_by("sqlrepo, sqlite3, pytest")


def test_the_house_is_small_enough_to_be_drawn():
    assert len(floors.MODULES) <= 90
    assert len([module for module in floors.MODULES if len(module.parts) == 1]) <= 9


def test_no_module_has_more_than_800_lines_and_no_function_more_than_30():
    functions = [(module, *each) for module, text in floors.MODULES.items() for each in floors.functions(text)]

    assert {module for module, text in floors.MODULES.items() if text.count("\n") > 800} == set()
    assert {(module, name): lines for module, name, lines in functions if lines > 30} == {}

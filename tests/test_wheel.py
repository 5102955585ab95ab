"""What is shipped: the wheel, installed and imported outside the source tree."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "sqlrepo"
IMPORTED = """
import sqlrepo, sqlrepo.memory, sqlrepo.sqlalchemy, sqlrepo.testing
print(sqlrepo.__file__)
"""


def files_below(directory: Path) -> set[str]:
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


def test_the_installed_package_is_imported_from_outside_the_source_tree(installed_wheel, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed_wheel), "PYTHONDONTWRITEBYTECODE": "1"}

    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORTED],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == installed_wheel / "sqlrepo" / "__init__.py"


def test_the_wheel_holds_the_package_with_its_type_marker_and_nothing_else(installed_wheel):
    metadata = {path.name for path in installed_wheel.glob("sqlrepo_uow-*.dist-info")}

    assert {path.name for path in installed_wheel.iterdir()} == {"sqlrepo"} | metadata
    assert files_below(installed_wheel / "sqlrepo") == files_below(PACKAGE) >= {"__init__.py", "py.typed"}


def test_the_wheel_carries_the_licence(installed_wheel):
    [licence] = installed_wheel.glob("sqlrepo_uow-*.dist-info/licenses/LICENSE")

    assert licence.read_text() == (PACKAGE.parents[1] / "LICENSE").read_text()

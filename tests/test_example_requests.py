"""No request that the example's documentation allows, and none of many that it does not, is a server error."""

import os
import re
import subprocess
import sys

import pytest

from examples.todo import demo
from examples.todo.migrations import upgrade
from examples.todo.storage import Base
from tests.databases import servers


def url_of(store, directory):
    if store == "postgresql":
        return servers.emptied("postgresql", Base, make=upgrade).render_as_string(hide_password=False)
    return "memory://" if store == "memory" else f"sqlite:///{directory.as_posix()}/todo.db"


@pytest.mark.parametrize(
    "store", ["sqlite", *(pytest.param(each, marks=pytest.mark.repeats) for each in ("memory", "postgresql"))]
)
def test_nothing_a_client_sends_is_a_server_error(store, tmp_path):
    log = tmp_path / "server.log"
    with demo.serving(url_of(store, tmp_path), log) as address:
        command = [
            *("-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--checks", "not_a_server_error"),
            *("--seed", "1", "--max-examples", "25", "--phases", "coverage,fuzzing"),
            *("--generation-database", "none", "--no-color"),
        ]
        ran = subprocess.run(
            [sys.executable, *command],
            capture_output=True, text=True, cwd=tmp_path, timeout=120, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^ +Tested: 5$", ran.stdout, re.MULTILINE), ran.stdout
    assert "Traceback" not in log.read_text()

"""Fixtures that more than one of our tests needs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory) -> Path:
    """A directory that holds the library as installed from its wheel, and nothing else; put it on PYTHONPATH."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip("wheel", "--no-build-isolation", "--wheel-dir", wheels, ROOT)
    pip("install", "--no-compile", "--target", target, *wheels.glob("*.whl"))
    return target


def pip(command, *arguments):
    call = [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--no-deps", "--no-index", *arguments]
    result = subprocess.run(call, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr

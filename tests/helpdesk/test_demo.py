"""The demo runs, and says so."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_demo_says_the_answers_are_equal() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "examples.helpdesk.demo"], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=100
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "answers are equal" in ran.stdout

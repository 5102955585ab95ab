"""A pytest plugin that says what the contract did not check: ``pytest_plugins = ["sqlrepo.testing.plugin"]``.

Knows pytest's reports. Must not change what passes or fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version

import pytest

from sqlrepo.testing.contract import CAPABILITIES_OFF
from sqlrepo.testing.twins.contract import TWINS

__all__ = ["pytest_report_header", "pytest_terminal_summary"]

_UNCHECKED = re.compile(r"clause ([\d.]+) is not checked: (.*)")


def pytest_report_header() -> str:
    """Name the library's version."""
    return f"sqlrepo: {version('sqlrepo-uow')}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell, for each test class and backend, which capabilities are off and which clauses its entity does not reach."""
    _tell_twins(terminalreporter)
    ran = [report for reports in terminalreporter.stats.values() for report in reports if _is_case(report)]
    if not ran:
        return
    terminalreporter.section("sqlrepo contract")
    lines: dict[str, list[str]] = {}
    for subject in dict.fromkeys(map(_subject_of, ran)):
        lines.setdefault("\n".join(_limits(report for report in ran if _subject_of(report) == subject)), []).append(
            subject
        )
    for text, subjects in lines.items():
        terminalreporter.line(", ".join(subjects))
        terminalreporter.line(text)


def _tell_twins(terminalreporter: pytest.TerminalReporter) -> None:
    """What was run on memory and a database, and came to the same."""
    passed = terminalreporter.stats.get("passed", [])
    lines = [
        f"{report.nodeid.rpartition('::')[0]}: {dict(report.user_properties)[TWINS]}"
        for report in passed
        if TWINS in dict(report.user_properties)
    ]
    if lines:
        terminalreporter.section("sqlrepo twins")
        for line in lines:
            terminalreporter.line(line)


def _is_case(report: object) -> bool:
    return isinstance(report, pytest.TestReport) and CAPABILITIES_OFF in dict(report.user_properties)


def _subject_of(report: pytest.TestReport) -> str:
    """The test class, and the parameters of its harness."""
    test_class, _, case = report.nodeid.rpartition("::")
    return test_class + "".join(case.partition("[")[1:])


def _limits(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    unchecked: dict[str, list[str]] = {}
    off = ""
    for report in reports:
        off = str(dict(report.user_properties)[CAPABILITIES_OFF])
        if report.skipped and (found := _UNCHECKED.search(str(report.longrepr))):
            unchecked.setdefault(found[2].rstrip("')"), []).append(found[1])
    yield f"  capabilities off: {off or 'none'}"
    for reason, clauses in unchecked.items():
        yield f"  {', '.join(sorted(set(clauses), key=_number))}: not checked, {reason}"
    if not unchecked:
        yield "  every clause was checked"


def _number(clause: str) -> list[int]:
    return [int(part) for part in clause.split(".")]

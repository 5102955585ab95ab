"""A pytest plugin that reports what the contract did not check: ``pytest_plugins = ["sqlrepo.testing.plugin"]``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import pytest

from sqlrepo.testing.contract import CAPABILITIES_OFF
from sqlrepo.testing.harness import UNPROVED
from sqlrepo.testing.twins.contract import TWINS

__all__ = ["pytest_report_header", "pytest_terminal_summary"]

_UNCHECKED = re.compile(r"clause ([\d.]+) is not checked: (.*)")


def pytest_report_header() -> str:
    """Name the library's version."""
    return f"sqlrepo: {version('sqlrepo-uow')}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List for each test class and backend what the contract could not check or prove."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    tests = [report for report in reports if isinstance(report, pytest.TestReport)]
    twins = [report for report in tests if report.passed and report.when == "call" and TWINS in _properties(report)]
    _write(terminalreporter, "sqlrepo twins", (f"{_class_of(one)}: {_properties(one)[TWINS]}" for one in twins))
    by_subject: dict[str, list[pytest.TestReport]] = defaultdict(list)
    for report in tests:
        if CAPABILITIES_OFF in _properties(report):
            by_subject[_subject_of(report)].append(report)
    subjects_by_text: dict[str, list[str]] = defaultdict(list)
    for subject, cases in by_subject.items():
        subjects_by_text["\n".join(_describe_limits(cases))].append(subject)
    _write(
        terminalreporter,
        "sqlrepo contract",
        (f"{', '.join(names)}\n{text}" for text, names in subjects_by_text.items()),
    )


def _write(reporter: pytest.TerminalReporter, title: str, lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        if number == 0:
            reporter.section(title)
        reporter.line(line)


def _properties(report: pytest.TestReport) -> dict[str, Any]:
    return dict(report.user_properties)


def _class_of(report: pytest.TestReport) -> str:
    return report.nodeid.rpartition("::")[0]


def _subject_of(report: pytest.TestReport) -> str:
    """The test class, and the parameters of its harness."""
    test_class, _, case = report.nodeid.rpartition("::")
    return test_class + "".join(case.partition("[")[1:])


def _describe_limits(reports: Iterable[pytest.TestReport]) -> Iterator[str]:
    unchecked: dict[str, set[str]] = defaultdict(set)
    off, unproved = "", dict[str, None]()
    for report in reports:
        off = str(_properties(report)[CAPABILITIES_OFF])
        unproved |= dict.fromkeys(str(_properties(report).get(UNPROVED, "")).splitlines())
        if report.skipped and (found := _UNCHECKED.search(str(report.longrepr))):
            unchecked[found[2].rstrip("')")].add(found[1])
    yield f"  capabilities off: {off or 'none'}"
    for reason, clauses in unchecked.items():
        yield f"  {', '.join(sorted(clauses, key=_to_numbers))}: not checked, {reason}"
    yield from (f"  {line}" for line in unproved)
    if not unchecked:
        yield "  every clause was checked"


def _to_numbers(clause: str) -> list[int]:
    return [int(part) for part in clause.split(".")]

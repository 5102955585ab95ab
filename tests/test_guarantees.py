"""The page of guarantees cites every clause and capability, and no other, and says of backends what they say."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Capabilities
from sqlrepo.testing.cases.isolation import ANSWERS
from tests.databases import servers

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "guarantees.md").read_text()
CLAUSE = re.compile(r"\b\d{1,2}\.\d{1,2}\b")
NAMES = {field.name for field in fields(Capabilities) if field.name != "isolation"}


def rows():
    """The table of capabilities, by backend."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.partition("## Capabilities")[2].splitlines() if "|" in line]
    head, _, *body = lines
    return {backend: {row[0].strip("`"): row[column] for row in body} for column, backend in enumerate(head) if column}


def test_the_matrix_of_anomalies_is_what_the_contract_demands():
    lines = (DOCS / "transactions.md").read_text().partition("## Anomalies")[2].partition("\n## ")[0].splitlines()
    head, *rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    matrix = {row[0].strip("`"): dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    usual = {
        name: {anomaly: answer.partition("/")[0] for anomaly, answer in answers.items()}
        for name, answers in ANSWERS.items()
        if name.partition(" ")[0] in ("sqlite", "postgresql", "mariadb", "mysql") or name.startswith("memory")
    }

    assert matrix == usual


def test_every_clause_is_cited_and_every_citation_is_a_clause():
    clauses = set(re.findall(r"^- \*\*([\d.]+)\*\*", (DOCS / "contract.md").read_text(), re.MULTILINE))
    before = PAGE.partition("## Capabilities")[0]

    assert set(CLAUSE.findall(before)) == clauses


def test_every_capability_is_described():
    cited = set(re.findall(r"`(\w+)`", PAGE.partition("## Capabilities")[0])) & NAMES

    assert cited == NAMES
    assert set(rows()["memory"]) == NAMES


@pytest.mark.parametrize(
    "backend", ["memory", "SQLite", "PostgreSQL", "MariaDB", *(["MySQL"] if "mysql" in servers.KINDS else [])]
)
def test_backends_say_the_same_of_themselves(backend):
    if backend == "memory":
        db = InMemoryDatabase()
    else:
        name = backend.lower()
        db = Database("sqlite://" if name == "sqlite" else servers.made_for_tests(name))

    told = {name: "no" if name in db.missing_capabilities else "yes" for name in NAMES}

    assert rows()[backend] == told
    db.dispose()

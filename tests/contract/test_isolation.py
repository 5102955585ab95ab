"""The anomalies of the Hermitage matrix at each isolation level of each server; test_pairs.py has the usual levels."""

from dataclasses import replace

import pytest

from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing import Capabilities, Harness
from sqlrepo.testing.cases.isolation import ANOMALIES, ANSWERS, IsolationCases
from sqlrepo.testing.contract import cases_of
from sqlrepo.testing.subject import Subject
from tests.contract.task import AsyncWork, Base, Task, Work, change, make
from tests.databases import servers

REPEATABLE = ["postgresql REPEATABLE READ", "mariadb REPEATABLE READ"]
OTHERS = [f"{kind} {level}" for kind in servers.KINDS for level in ("READ UNCOMMITTED", "SERIALIZABLE")]
LEVELS = [*REPEATABLE, *(pytest.param(name, marks=pytest.mark.repeats) for name in OTHERS)]


def connected(isolation, driver=None):
    kind, _, level = isolation.partition(" ")
    url = servers.through(driver, servers.emptied(kind, Base))
    return AsyncDatabase(url, isolation=level) if driver else Database(url, isolation=level)


class TestLevels(IsolationCases[Task]):
    @pytest.fixture(params=LEVELS)
    def subject(self, request):
        db = connected(request.param)
        subject = Subject(Harness(open=lambda: Work(db), make=make, change=change))
        assert subject.isolation == request.param
        yield subject
        db.dispose()


@pytest.mark.repeats
class TestAsyncLevels(IsolationCases[Task]):
    @pytest.fixture(params=zip(REPEATABLE, ["asyncpg", "asyncmy"], strict=True), ids=REPEATABLE)
    def subject(self, request):
        db = connected(*request.param)
        harness = Harness.from_async(open=lambda: AsyncWork(db), make=make, change=change, dispose=db.dispose)
        yield Subject(harness)
        harness.close()


def test_clauses_are_in_the_order_of_the_anomalies():
    cases = sorted(cases_of(IsolationCases).values(), key=lambda case: int(case.clause.partition(".")[2]))

    assert len(cases) == len(ANOMALIES)
    for case, anomaly in zip(cases, ANOMALIES, strict=True):
        assert case.__doc__.startswith(anomaly.partition("-")[0])


def run(case, capabilities):
    db = InMemoryDatabase(lost_updates="allow")
    harness = Harness(open=lambda: Work(db), make=make, change=change, capabilities=capabilities)
    getattr(IsolationCases, case)(IsolationCases(), Subject(harness))


def test_a_harness_is_asked_what_its_isolation_promises():
    honest = Capabilities.of(InMemoryDatabase(lost_updates="allow"))
    for isolation in (honest.isolation, "READ COMMITTED", "REPEATABLE READ"):
        run("test_update_is_lost", replace(honest, isolation=isolation))
    with pytest.raises(AssertionError, match="P4: the answer is 'possible', and SERIALIZABLE declares 'no/error'"):
        run("test_update_is_lost", replace(honest, isolation="SERIALIZABLE"))
    with pytest.raises(AssertionError, match="isolation 'SNAPSHOT' is unknown"):
        run("test_update_is_lost", replace(honest, isolation="SNAPSHOT"))


def test_a_prevented_anomaly_is_not_declared_as_possible():
    with pytest.raises(AssertionError, match="P4: the answer is 'possible'"):
        run("test_update_is_lost", Capabilities(conflict_at_commit=False, isolation="memory"))


def test_each_isolation_answers_each_anomaly():
    assert {len(answers) for answers in ANSWERS.values()} == {13}
    assert {part for each in ANSWERS.values() for one in each.values() for part in one.split("/")} == {
        "no", "error", "possible",
    }  # fmt: skip

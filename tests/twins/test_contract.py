"""`TwinContract` as a product: what pytest collects, what the test refuses to touch, and the script it prints."""

import re
import subprocess
import sys

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, MappingError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing import TwinContract
from sqlrepo.testing.twins.contract import PROFILES, TWINS, DivergenceError, Effort, NothingExercisedError, Run
from sqlrepo.testing.twins.model import UnitUnderTest
from sqlrepo.testing.twins.relations import Relations
from sqlrepo.testing.twins.stores import NotEmptyError, Stores
from tests.contract.mutants import NullIsLargest
from tests.twins.domain import AsyncShop, Labels, Shop, Tag, Todo, TodoQuery
from tests.twins.mutants import totals_are_one_too_many
from tests.twins.test_mutants import plant


@pytest.fixture
def prepare():
    """A function that prepares a run, by default on SQLite."""
    opened = []

    def prepare(unit, database=None, queries=None, entities=None, **effort):
        opened.append(stores := Stores(UnitUnderTest(unit, queries, entities), database or Database("sqlite://")))
        stores.create_tables()
        return Run(stores, Effort(**effort)), stores

    yield prepare
    for stores in opened:
        stores.close()


# -- what it prints


def outcomes(printed):
    """Split what a script prints into memory's part and the database's."""
    memory, _, database = printed.removeprefix("memory:\n").partition("database:\n")
    return memory, database


@pytest.mark.parametrize("unit", [Shop, AsyncShop], ids=["sync", "async"])
def test_script_is_short_and_runs_and_shows_the_difference(unit, prepare, tmp_path, capsys):
    kind, name = (Database, "sqlite") if unit is Shop else (AsyncDatabase, "sqlite+aiosqlite")
    run, stores = prepare(unit, kind(f"{name}:///{tmp_path}/a.db"), {"todos": TodoQuery}, programs=30)
    with pytest.MonkeyPatch.context() as patch:
        plant(NullIsLargest, patch)
        patch.setattr(Relations, "require", lambda *_: None)  # memory contradicts itself besides
        patch.setattr("sqlrepo.testing.twins.report._SECONDS", 300)  # so that a busy machine reduces as far
        with pytest.raises(DivergenceError) as caught:
            run.execute()
        stores.reset()
        script = str(caught.value)
        exec(compile(script, "script", "exec"), {"__name__": "__main__"})  # in this process, where memory is broken
    memory, database = outcomes(capsys.readouterr().out)

    assert sorted(re.findall(r"id=\d+", memory)) == sorted(re.findall(r"id=\d+", database))
    assert memory != database
    comments = re.findall(r"^ *# ([\w+]+): +(.*)$", script, re.MULTILINE)
    assert [comment[0] for comment in comments] == ["memory", name], script
    assert comments[0][1] in memory.splitlines()
    assert comments[1][1] in database.splitlines()
    assert len(re.findall(r"unit\.todos\.\w+\(", script)) <= 4

    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py")]
    ran = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert ran.returncode == 0, ran.stderr
    memory, database = outcomes(ran.stdout)
    assert memory == database != ""  # memory is not broken there


def test_script_of_a_contradiction_prints_the_questions_and_both_answers(prepare, capsys, monkeypatch):
    run, stores = prepare(Shop, queries={"todos": TodoQuery}, programs=3)
    totals_are_one_too_many(monkeypatch)
    with pytest.raises(DivergenceError) as caught:
        run.execute()
    stores.reset()
    script = str(caught.value)
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})
    memory, _ = outcomes(capsys.readouterr().out)

    assert script.startswith("# In memory, this does not hold: pages are find in parts.")
    assert [one for one, _ in re.findall(r"^ *# (expected|found): +(.*)$", script, re.MULTILINE)] == [
        "expected",
        "found",
    ]
    assert "Page(items=[], has_next=False, total=2)" in memory  # of one row


# -- what it does not touch, and what does not pass


def test_tables_with_rows_are_refused_and_left_alone(prepare):
    _, stores = prepare(Shop)
    with Shop(stores.database) as shop:
        shop.tags.add(Tag(owner="somebody", name="else"))

    with pytest.raises(NotEmptyError, match="tag"):
        stores.require_empty()

    with Shop(stores.database) as shop:
        assert shop.tags.count() == 1


TWINS_OF_SHOP = """
from sqlrepo.testing import TwinContract
from tests.twins.domain import Shop, TodoQuery

class TestShopTwins(TwinContract):
    unit = Shop
    queries = {"todos": TodoQuery}
    url = "sqlite:///shop.db"
    programs = 2
"""


def test_a_few_lines_are_a_test_and_rows_are_deleted_only_if_they_may_be(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/shop.db")

    def run_pytest(text):
        (tmp_path / "test_it.py").write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_it.py"]
        path = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=path)
        with Shop(database) as shop:
            return ran, shop.tags.count() + shop.todos.count()

    passed, left = run_pytest(TWINS_OF_SHOP)
    with Shop(database) as shop:
        shop.tags.add(Tag(owner="somebody", name="else"))
    failed, kept = run_pytest(TWINS_OF_SHOP)
    allowed, emptied = run_pytest(TWINS_OF_SHOP + "    may_empty = True\n")
    database.dispose()

    assert [one.returncode for one in (passed, failed, allowed)] == [0, 1, 0], failed.stdout + allowed.stdout
    assert (left, kept, emptied) == (0, 1, 0)
    assert "1 passed" in passed.stdout
    assert "NotEmptyError" in failed.stdout


class Fussy(BaseModel):
    """A class that accepts no sample value."""

    code: str = Field(pattern="^X-")


class OwnBase(DeclarativeBase): ...


class FussyRow(OwnBase):
    __tablename__ = "fussy"
    code: Mapped[str] = mapped_column(sa.String(10), primary_key=True)


class Fussies(BaseRepository[Fussy, str]):
    model = FussyRow


class Office(BaseUnitOfWork):
    fussies: Fussies


def fussies(*codes):
    return {"fussies": st.builds(Fussy, code=st.sampled_from(codes))}


def test_class_that_accepts_no_sample_value_needs_a_strategy(prepare):
    with pytest.raises(MappingError, match=r"entities = \{'fussies'"):
        prepare(Office)


def test_strategies_of_the_users_are_used(prepare):
    run, _ = prepare(Office, entities=fussies("X-1", "X-2", "X-3"), programs=20)

    run.execute()

    assert run.tally.stored > 10


def test_programs_that_do_nothing_do_not_pass(prepare):
    run, _ = prepare(Office, entities=fussies("X-is longer than the column"), programs=5)

    with pytest.raises(NothingExercisedError):
        run.execute()


class Drawer(BaseUnitOfWork):
    labels: Labels


def test_entities_that_do_not_carry_their_key_are_stored(prepare):
    run, _ = prepare(Drawer, programs=5)

    run.execute()

    assert run.tally.stored > 5


def test_unknown_repository_is_refused():
    with pytest.raises(MappingError, match="todoes"):
        UnitUnderTest(Shop, {"todoes": TodoQuery})


# -- how much is tried


class TestItself(TwinContract):
    unit = Shop
    url = "sqlite://"
    programs = 3

    def test_report_says_what_was_run(self, run, request):
        self.test_memory_and_the_database_agree(run, record := {}.__setitem__)

        assert record.__self__[TWINS] == f"sqlite: {run.tally.operations} operations, 0 differences, seed 0"

    def test_profile_is_the_classes_or_the_environments(self, monkeypatch):
        monkeypatch.delenv("SQLREPO_TWINS", raising=False)
        assert (self.effort().programs, self.effort().operations) == (3, 0)
        monkeypatch.setenv("SQLREPO_TWINS", "thorough")
        assert self.effort().operations == PROFILES["thorough"].operations >= 100_000
        monkeypatch.setattr(type(self), "profile", "quick")
        assert self.effort().operations == 0


def test_seed_decides_what_is_run(prepare):
    tallies = []
    for seed in (1, 1, 2):
        run, _ = prepare(Shop, programs=5, seed=seed)
        run.execute()
        tallies.append(run.tally)

    assert tallies[0] == tallies[1] != tallies[2]


def test_rounds_follow_until_there_are_enough_operations(prepare):
    run, _ = prepare(Shop, programs=2, operations=500)

    run.execute()

    assert run.tally.operations >= 500


def test_each_program_begins_with_empty_stores(prepare):
    _, stores = prepare(Shop)
    first = stores.memory
    for side in (0, 1):
        with stores.open(side) as shop:
            shop.todos.add(Todo(key="a"))

    stores.reset()

    assert isinstance(stores.memory, InMemoryDatabase)
    assert stores.memory is not first
    for side in (0, 1):
        with stores.open(side) as shop:
            assert shop.todos.count() == 0

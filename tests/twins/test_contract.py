"""`TwinContract` as a product: what is collected, what it refuses to touch, and the script it prints."""

import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, field_validator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, MappingError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing import TwinContract
from sqlrepo.testing.twins.contract import PROFILES, TWINS, DivergenceError, Effort, Exploration, NothingExercisedError
from sqlrepo.testing.twins.model import Subject
from sqlrepo.testing.twins.stores import NotEmptyError, Stores
from tests.contract.mutants import NullIsLargest
from tests.twins.domain import AsyncShop, Base, Labels, Shop, Tag, Todo, TodoQuery
from tests.twins.test_mutants import plant


def exploration(unit, database, effort, **said):
    subject = Subject(unit, **said)
    stores = Stores(subject, database)
    stores.create()
    return Exploration(subject, stores, effort), stores


# -- what it prints


def script_of_a_difference(unit, database):
    """What is printed where memory sorts NULL last."""
    tried, stores = exploration(unit, database, Effort(programs=30), queries={"todos": TodoQuery})
    with pytest.raises(DivergenceError) as caught:
        tried.run()
    stores.renew()
    stores.close()
    return str(caught.value).partition("\n\n")[2]


def parts(printed):
    """What a script prints of memory, and of the database."""
    memory, _, database = printed.removeprefix("memory:\n").partition("database:\n")
    return memory, database


@pytest.mark.parametrize(
    ("unit", "made", "name"),
    [
        pytest.param(Shop, Database, "sqlite", id="sync"),
        pytest.param(AsyncShop, AsyncDatabase, "sqlite+aiosqlite", id="async"),
    ],
)
def test_script_can_be_pasted_is_short_and_shows_where_they_part(unit, made, name, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        plant(NullIsLargest, patch)
        script = script_of_a_difference(unit, made(f"{name}:///{tmp_path}/a.db"))
        exec(compile(script, "script", "exec"), {"__name__": "__main__"})  # in this process, where memory is broken
    memory, database = parts(capsys.readouterr().out)

    assert sorted(re.findall(r"id=\d+", memory)) == sorted(re.findall(r"id=\d+", database))
    assert memory != database
    told = [line.strip() for line in script.splitlines() if line.strip().startswith("#")]
    assert [line.partition(":")[0] for line in told] == ["# memory", f"# {name}"]
    assert told[0].partition(": ")[2] in memory.splitlines()
    assert told[1].partition(": ")[2] in database.splitlines()
    assert len(re.findall(r"unit\.todos\.\w+\(", script)) <= 4

    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py")]
    ran = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert ran.returncode == 0, ran.stderr
    memory, database = parts(ran.stdout)
    assert memory == database != ""  # where nothing is planted


# -- what it does not touch, and what it does not pass


def with_rows():
    database = Database("sqlite://")
    Base.metadata.create_all(database.engine)
    with Shop(database) as shop:
        shop.tags.add(Tag(owner="somebody", name="else"))
    return database


def test_tables_with_rows_are_refused_and_left_alone():
    _, stores = exploration(Shop, database := with_rows(), Effort())

    with pytest.raises(NotEmptyError, match="tag"):
        stores.refuse_rows()

    with Shop(database) as shop:
        assert shop.tags.count() == 1
    stores.close()


def run_in_pytest(pytester_dir, text, *options):
    (pytester_dir / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *options, "test_it.py"]
    path = {"PYTHONPATH": ":".join(sys.path), "PATH": ""}
    return subprocess.run(command, cwd=pytester_dir, capture_output=True, text=True, env=path)


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
    first = run_in_pytest(tmp_path, TWINS_OF_SHOP)
    database = Database(f"sqlite:///{tmp_path}/shop.db")
    with Shop(database) as shop:
        left = shop.tags.count() + shop.todos.count()
        shop.tags.add(Tag(owner="somebody", name="else"))
    second = run_in_pytest(tmp_path, TWINS_OF_SHOP)
    with Shop(database) as shop:
        kept = shop.tags.count()
    third = run_in_pytest(tmp_path, TWINS_OF_SHOP + "    may_empty = True\n")
    with Shop(database) as shop:
        emptied = shop.tags.count()
    database.dispose()

    assert [one.returncode for one in (first, second, third)] == [0, 1, 0], second.stdout + third.stdout
    assert (left, kept, emptied) == (0, 1, 0)
    assert "1 passed" in first.stdout
    assert "NotEmptyError" in second.stdout


class Fussy(BaseModel):
    """What no usual value is good for."""

    model_config = ConfigDict(frozen=True)
    code: str

    @field_validator("code")
    @classmethod
    def begins_with_x(cls, code):
        if not code.startswith("X-"):
            raise ValueError("not X")
        return code


class OwnBase(DeclarativeBase):
    pass


class FussyRow(OwnBase):
    __tablename__ = "fussy"
    code: Mapped[str] = mapped_column(sa.String(10), primary_key=True)


class Fussies(BaseRepository[Fussy, str]):
    model = FussyRow


class Office(BaseUnitOfWork):
    fussies: Fussies


def test_class_that_takes_no_usual_value_is_told_with_the_remedy():
    with pytest.raises(MappingError, match=r"entities = \{'fussies'"):
        exploration(Office, Database("sqlite://"), Effort(programs=1))[0].run()


def test_strategies_of_the_users_own_are_used():
    codes = st.sampled_from(["X-1", "X-2", "X-3"])
    tried, stores = exploration(
        Office,
        Database("sqlite://"),
        Effort(programs=20),
        entities={"fussies": st.builds(Fussy, code=codes)},
    )

    tried.run()

    assert tried.tally.stored > 10
    stores.close()


@dataclass
class Refused:
    id: int
    text: str


class RefusedRow(OwnBase):
    __tablename__ = "refused"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(sa.String(3))


class Refuses(BaseRepository[Refused, int]):
    model = RefusedRow


class Nowhere(BaseUnitOfWork):
    refuses: Refuses


def test_programs_that_do_nothing_are_no_success():
    too_long = st.builds(Refused, id=st.just(1), text=st.just("too long"))
    tried, stores = exploration(Nowhere, Database("sqlite://"), Effort(programs=5), entities={"refuses": too_long})

    with pytest.raises(NothingExercisedError):
        tried.run()
    stores.close()


class Drawer(BaseUnitOfWork):
    labels: Labels


def test_entities_that_do_not_carry_their_key_are_stored_as_well():
    tried, stores = exploration(Drawer, Database("sqlite://"), Effort(programs=5))

    tried.run()

    assert tried.tally.stored > 5
    stores.close()


def test_repository_that_is_not_there_is_told():
    with pytest.raises(MappingError, match="todoes"):
        Subject(Shop, {"todoes": TodoQuery})


# -- how much is tried


class TestItself(TwinContract):
    unit = Shop
    url = "sqlite://"
    programs = 3

    def test_case_says_what_was_run(self, exploration, request):
        self.test_memory_and_the_database_agree(exploration, record := {}.__setitem__)

        assert record.__self__[TWINS] == f"sqlite: {exploration.tally.operations} operations, 0 differences, seed 0"

    def test_profile_is_the_classes_or_the_environments(self, monkeypatch):
        monkeypatch.delenv("SQLREPO_TWINS", raising=False)
        assert (self.effort().programs, self.effort().operations) == (3, 0)
        monkeypatch.setenv("SQLREPO_TWINS", "thorough")
        assert self.effort().operations == PROFILES["thorough"].operations >= 100_000
        monkeypatch.setattr(type(self), "profile", "quick")
        assert self.effort().operations == 0


def ran(**effort):
    tried, stores = exploration(Shop, Database("sqlite://"), Effort(**effort))
    tried.run()
    stores.close()
    return tried.tally


def test_seed_decides_what_is_run():
    assert ran(programs=5, seed=1) == ran(programs=5, seed=1)
    assert ran(programs=5, seed=1) != ran(programs=5, seed=2)


def test_rounds_follow_until_there_are_enough_operations():
    assert ran(programs=2, operations=500).operations >= 500


def test_memory_is_a_new_one_for_each_program():
    _, stores = exploration(Shop, Database("sqlite://"), Effort())
    first = stores.memory
    with stores.open(0) as shop:
        shop.todos.add(Todo(key="a"))
    with stores.open(1) as shop:
        shop.todos.add(Todo(key="a"))

    stores.renew()

    assert isinstance(stores.memory, InMemoryDatabase)
    assert stores.memory is not first
    for side in (0, 1):
        with stores.open(side) as shop:
            assert shop.todos.count() == 0
    stores.close()

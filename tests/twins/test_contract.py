"""`TwinContract` as a product: what pytest collects, what the test refuses to touch, and the script it prints."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, Field, create_model
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, MappingError, QueryObject
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.sqlalchemy.types import Instant, UniqueId
from sqlrepo.testing import TwinContract
from sqlrepo.testing.twins.contract import PROFILES, TWINS, DivergenceError, Effort, NothingExercisedError, Run
from sqlrepo.testing.twins.generation import ProgramGenerator
from sqlrepo.testing.twins.model import UnitUnderTest
from sqlrepo.testing.twins.relations import Relations
from sqlrepo.testing.twins.stores import NotEmptyError, Stores
from tests.applications.northwind import OrderQuery as NorthwindQuery
from tests.applications.northwind import Traders
from tests.contract.mutants import Mutant, NullIsLargest
from tests.databases import servers
from tests.twins.domain import AsyncShop, Labels, Shop, Tag, Todo, TodoQuery
from tests.twins.mutants import totals_are_one_too_many
from tests.twins.test_mutants import plant


@pytest.fixture
def prepare():
    """A function that prepares a run, by default on SQLite."""
    opened = []

    def prepare(unit, database=None, queries=None, entities=None, normalises=None, **effort):
        subject = UnitUnderTest(unit, queries, entities, normalises=normalises)
        opened.append(stores := Stores(subject, database or Database("sqlite://")))
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


class Measures(DeclarativeBase): ...


class MeasureRow(Measures):
    __tablename__ = "measure"
    id: Mapped[int] = mapped_column(primary_key=True)
    free: Mapped[Decimal] = mapped_column(sa.Numeric)
    wide: Mapped[Decimal | None] = mapped_column(sa.Numeric(20, 10))
    size: Mapped[int]
    __table_args__ = (sa.CheckConstraint("size > 1", name="zz"), sa.CheckConstraint("size > 0", name="cc"))


class Measure(BaseModel):
    id: int | None = None
    free: Decimal
    wide: Decimal | None = None
    size: int


class MeasureQuery(QueryObject[Measure]):
    free_gt: Decimal | None = None
    wide_le: Decimal | None = None


class MeasureRepository(BaseRepository[Measure, int]):
    model = MeasureRow


class Laboratory(BaseUnitOfWork):
    measures: MeasureRepository


@pytest.mark.parametrize("name", ["sqlite", "mariadb", "postgresql"])
def test_decimals_that_a_database_rounds_and_checks_in_another_order_are_no_differences(prepare, name):
    url = "sqlite://" if name == "sqlite" else servers.made_for_tests(name)
    run, stores = prepare(Laboratory, Database(url), {"measures": MeasureQuery}, programs=12)
    run.execute()
    stores.reset()


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


@pytest.mark.parametrize("programs", [2, 100], ids=["rounds follow", "a round is cut short"])
def test_programs_follow_until_there_are_enough_operations(programs, prepare):
    run, _ = prepare(Shop, programs=programs, operations=500)

    run.execute()

    assert 500 <= run.tally.operations < 1000


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


# -- filters


class Code(BaseModel):
    id: int | None = None
    code: str


class CodeRow(OwnBase):
    __tablename__ = "code"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(10))


class Codes(BaseRepository[Code, int]):
    model = CodeRow


class Desk(BaseUnitOfWork):
    codes: Codes


def query_of(base=QueryObject[Code], config=None, **options):
    fields = {"code_contains": (str | None, Field(None, **options)), "limit": (int, 9)}
    base = type("Base", (base,), {"__module__": __name__, "model_config": config or {}})
    return create_model("CodeQuery", __base__=base, __module__=__name__, **fields)


ALIASED = {
    "alias": query_of(alias="q"),
    "validation_alias": query_of(validation_alias="q"),
    "choices": query_of(validation_alias=AliasChoices("q", AliasPath("search", 0))),
    "path": query_of(validation_alias=AliasPath("search", "text")),
    "generator": query_of(config={"alias_generator": str.upper}),
    "by_name": query_of(config={"populate_by_name": True}, alias="q"),
}


@pytest.mark.parametrize("query", ALIASED.values(), ids=ALIASED)
def test_filters_that_clients_call_otherwise_are_used(query, prepare):
    run, _ = prepare(Desk, queries={"codes": query}, programs=2)

    run.execute()

    assert not run.unused
    assert run.tally.filters[query, "code_contains"] > 1


def test_filter_that_is_never_used_is_an_error_or_if_there_were_few_programs_a_warning(prepare):
    query = query_of(pattern="^X-")
    with pytest.raises(NothingExercisedError, match=r"never used CodeQuery\.code_contains"):
        prepare(Desk, queries={"codes": query}, programs=30)[0].execute()
    run, _ = prepare(Desk, queries={"codes": query}, programs=2)
    with pytest.warns(UserWarning, match=r"never used CodeQuery\.code_contains"):
        run.execute()
    assert str(run).endswith("; never used: CodeQuery.code_contains")

    run, _ = prepare(Desk, queries={"codes": query_of(pattern="^X-", examples=["X-1"])}, programs=2)
    run.execute()
    assert not run.unused


def test_a_filter_at_the_end_of_a_path_is_given_what_that_row_may_hold():
    queries = {"orders": NorthwindQuery}
    programs = ProgramGenerator(UnitUnderTest(Traders, queries), frozenset())
    given = [
        call.arguments[0].values
        for seed in range(20)
        for call in programs.program(seed, {})[-1].steps
        if call.arguments and getattr(call.arguments[0], "cls", None) is NorthwindQuery
    ]
    bosses = [one["employee_id__reports_to"] for one in given if "employee_id__reports_to" in one]
    assert {getattr(one, "repository", one) for one in bosses} == {"employees", -1}  # keys, which differ by side
    category = [one[name] for one in given for name in one if name == "details__product_id__category_id__name"]
    assert len({*category}) > 3


def test_limit_that_is_never_small_is_no_difference(prepare):
    query = create_model("Long", __base__=QueryObject[Code], __module__=__name__, limit=(int, Field(20, ge=10)))
    run, _ = prepare(Desk, queries={"codes": query}, programs=3)
    with pytest.warns(UserWarning, match=r"never used Long\.limit"):
        run.execute()


# -- what writes keep


class Lowered(Codes):
    model = CodeRow

    def to_row(self, entity):
        return {"id": entity.id, "code": entity.code.lower()}

    def to_domain(self, row):
        return Code(id=row["id"], code=row["code"])


class LowDesk(BaseUnitOfWork):
    codes: Lowered


def test_repository_that_changes_values_names_their_fields(prepare):
    with pytest.raises(DivergenceError) as caught:
        prepare(LowDesk, programs=3)[0].execute()
    assert str(caught.value).startswith("# In memory, this does not hold: ")
    assert " keeps what it is given." in str(caught.value)

    prepare(LowDesk, programs=3, normalises={"codes": ["code"]})[0].execute()
    with pytest.raises(MappingError, match=r"normalises.*'kode'"):
        UnitUnderTest(LowDesk, normalises={"codes": ["kode"]})


# -- values made at the moment of writing


def now():
    return datetime.now(UTC)


class Made(BaseModel):
    id: UUID | None = None
    name: str
    token: str | None = None
    made: datetime | None = None
    changed: datetime | None = None
    stored: datetime | None = None


class MadeRow(OwnBase):
    __tablename__ = "made"
    id: Mapped[UUID] = mapped_column(UniqueId(), primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(sa.String(10))
    token: Mapped[str] = mapped_column(sa.String(32), default=lambda: uuid4().hex)
    made: Mapped[datetime] = mapped_column(Instant(), default=now)
    changed: Mapped[datetime] = mapped_column(Instant(), default=now, onupdate=now)
    stored: Mapped[datetime] = mapped_column(Instant(), server_default=sa.func.now())


class MadeQuery(QueryObject[Made]):
    name: str | None = None
    made_ge: datetime | None = None
    order_by: Literal["-made", "name"] = "-made"
    limit: int = 5


class Mades(BaseRepository[Made, UUID]):
    model = MadeRow


class Factory(BaseUnitOfWork):
    mades: Mades


def columns_changed(columns, values, **changes):
    return tuple(changes.get(name, lambda one: one)(value) for name, value in zip(columns, values, strict=True))


class MadeAnew(Mutant):
    """An update makes the value again."""

    def update(self, schema, columns, values, where):
        again = {"made": now()} if "made" not in columns else {}
        return self.driver.update(schema, (*columns, *again), (*values, *again.values()), where)


class Inserted(Mutant):
    """The base of those that store something else than the value made."""

    column = "made"

    def insert(self, schema, columns, rows, returning):
        rows = [columns_changed(columns, row, **{self.column: self.change}) for row in rows]
        return self.driver.insert(schema, columns, rows, returning)


class StoppedClock(Inserted):
    def change(self, value):
        return value if value.year < 2026 else datetime(2026, 1, 1, tzinfo=UTC)


class StoppedChangeClock(StoppedClock):
    column = "changed"


class ConstantToken(Inserted):
    column = "token"

    def change(self, value):
        return "constant" if len(value) == 32 else value


class Returning(Mutant):
    """The base of those that return something else than they store."""

    def insert(self, schema, columns, rows, returning):
        stored = self.driver.insert(schema, columns, rows, returning)
        return [columns_changed(returning, row, made=self.change) for row in stored]


class ReturnsAnother(Returning):
    def change(self, value):
        return value + timedelta(seconds=1)


class ReturnsNone(Returning):
    def change(self, value):
        return None


class ChangeIsNotNoted(Mutant):
    """An update leaves the column that it should make again."""

    def update(self, schema, columns, values, where):
        kept = [(name, value) for name, value in zip(columns, values, strict=True) if name != "changed"]
        return self.driver.update(schema, *map(tuple, zip(*kept, strict=True)), where) if kept else 0


FAULTS = (MadeAnew, StoppedClock, StoppedChangeClock, ConstantToken, ReturnsAnother, ReturnsNone, ChangeIsNotNoted)


@pytest.mark.parametrize("seed", [0, 1])
def test_values_made_at_the_moment_of_writing_compare_by_kind(seed, prepare):
    run, _ = prepare(Factory, queries={"mades": MadeQuery}, programs=10, seed=seed)

    run.execute()

    assert run.tally.stored > 20


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_fault_in_values_made_at_the_moment_of_writing_is_found(fault, prepare, monkeypatch):
    plant(fault, monkeypatch)
    run, _ = prepare(Factory, queries={"mades": MadeQuery}, programs=20, reduce=False)

    with pytest.raises(DivergenceError):
        run.execute()

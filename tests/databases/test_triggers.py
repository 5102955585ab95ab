"""What triggers and views do to the rows that are written: what is returned is stored, or an error says why not."""

import asyncio

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    BaseRepository,
    CheckViolationError,
    ForeignKeyViolationError,
    NotFoundError,
    ProgrammingError,
    StaleEntityError,
    TransactionAbortedError,
)
from sqlrepo.sqlalchemy import AsyncDatabase, Database
from sqlrepo.testing import query_budget
from tests.databases import servers


class Base(DeclarativeBase): ...


class Part(BaseModel):
    id: int | None = None
    code: str
    size: int = 0
    version: int | None = None


class PartRow(Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(20), unique=True)
    size: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class HoleRow(Base):
    __tablename__ = "hole"
    id: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(sa.ForeignKey(PartRow.id, ondelete="RESTRICT"))


class Pair(BaseModel):
    a: int
    b: int
    size: int = 0


class PairRow(Base):
    __tablename__ = "pair"
    a: Mapped[int] = mapped_column(primary_key=True)
    b: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]


class ViewRow(DeclarativeBase): ...


class SeenRow(ViewRow):
    __tablename__ = "seen_part"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(sa.String(20))
    size: Mapped[int]
    version: Mapped[int]


class Parts(BaseRepository[Part, int]):
    model = PartRow


class Pairs(BaseRepository[Pair, tuple[int, int]]):
    model = PairRow


class Seen(BaseRepository[Part, int]):
    model = SeenRow
    version = "version"


class AsyncParts(AsyncBaseRepository[Part, int]):
    model = PartRow


FUNCTION = "CREATE OR REPLACE FUNCTION run_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {1} END $$"
CALL = "CREATE TRIGGER {0} {1} ON {2} FOR EACH ROW EXECUTE FUNCTION run_{0}()"

# By kind of database: what sets the size to 100, what passes over rows whose size is negative, and what refuses them.
LATE = {
    "sqlite": ["CREATE TRIGGER late AFTER INSERT ON {0} BEGIN UPDATE {0} SET size = 100 WHERE {1}; END"],
    "postgresql": [
        FUNCTION.format("late", "UPDATE {0} SET size = 100 WHERE {1}; RETURN NULL;"),
        CALL.format("late", "AFTER INSERT", "{0}"),
    ],
}
PASSING = {
    "sqlite": [
        "CREATE TRIGGER skip_{0} BEFORE {0} ON part WHEN {1}.size < 0 BEGIN SELECT RAISE(IGNORE); END",
    ],
    "postgresql": [
        FUNCTION.format("skip_{0}", "IF {1}.size < 0 THEN RETURN NULL; END IF; RETURN {1};"),
        CALL.format("skip_{0}", "BEFORE {0}", "part"),
    ],
}
REFUSING = {
    "sqlite": ["CREATE TRIGGER no BEFORE INSERT ON part WHEN new.size < 0 BEGIN SELECT RAISE(ABORT, 'no'); END"],
    "postgresql": [
        FUNCTION.format("no", "IF new.size < 0 THEN RAISE EXCEPTION 'no'; END IF; RETURN new;"),
        CALL.format("no", "BEFORE INSERT", "part"),
    ],
    "mariadb": [
        "CREATE TRIGGER no BEFORE INSERT ON part FOR EACH ROW IF new.size < 0 THEN SIGNAL SQLSTATE '45000'; END IF"
    ],
}
REFUSING["mysql"] = REFUSING["mariadb"]


@pytest.fixture
def kind(request):
    return getattr(request, "param", "sqlite")


@pytest.fixture
def db(kind):
    made = Database("sqlite://") if kind == "sqlite" else Database(servers.made_for_tests(kind, "triggers"))
    Base.metadata.drop_all(made.engine)
    Base.metadata.create_all(made.engine)
    yield made
    run(made, ["DROP VIEW IF EXISTS seen_part"])
    Base.metadata.drop_all(made.engine)
    made.dispose()


def run(db, statements, *names):
    with db.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.format(*names))


def on(*kinds):
    return pytest.mark.parametrize("kind", kinds, indirect=True)


@on("sqlite", "postgresql")
def test_what_a_trigger_changes_after_the_insert_is_returned(db, kind):
    run(db, LATE[kind], "part", "id = new.id")
    with Parts(db) as parts:
        first = parts.add(Part(code="a", size=1))
        assert first.size == 100
        assert first == parts.get(first.id)
        many = parts.add_many([Part(code=code, size=1) for code in "bcd"])
        assert [(one.code, one.size) for one in many] == [("b", 100), ("c", 100), ("d", 100)]
        assert parts.upsert(Part(code="e"), on="code").entity.size == 100
        assert parts.save(Part(id=50, code="f")).size == 100
        assert parts.update(first).size == 100


@on("sqlite", "postgresql")
def test_what_a_trigger_changes_is_returned_under_a_composite_key(db, kind):
    run(db, LATE[kind], "pair", "a = new.a AND b = new.b")
    with Pairs(db) as pairs:
        assert pairs.add_many([Pair(a=1, b=2), Pair(a=0, b=9)]) == [Pair(a=1, b=2, size=100), Pair(a=0, b=9, size=100)]


@on("postgresql")
def test_what_a_trigger_changes_after_an_upsert_is_returned(db):
    run(db, [FUNCTION.format("late", "UPDATE part SET size = 200 WHERE id = new.id; RETURN NULL;")])
    run(db, ["CREATE TRIGGER late AFTER UPDATE ON part FOR EACH ROW WHEN (new.size < 100) EXECUTE FUNCTION run_late()"])
    with Parts(db) as parts:
        parts.add(Part(code="a", size=1))
        assert parts.upsert(Part(code="a", size=2), on="code").entity.size == 200


@on("sqlite", "postgresql")
def test_a_table_without_triggers_is_not_read_again(db):
    with Parts(db) as parts:
        with query_budget(2):
            parts.add(Part(code="a"))
            parts.add(Part(code="b"))
        with query_budget(1), pytest.raises(NotFoundError):
            parts.delete(99)


def test_a_trigger_that_removes_the_row_is_an_error(db):
    run(db, ["CREATE TRIGGER late AFTER INSERT ON part BEGIN DELETE FROM part WHERE id = new.id; END"])
    with pytest.raises(CheckViolationError, match="nothing was stored"), Parts(db) as parts:
        parts.add(Part(code="a"))


CALLS = {
    "add": lambda parts, _: parts.add(Part(code="new", size=-1)),
    "add_many": lambda parts, _: parts.add_many([Part(code="new"), Part(code="other", size=-1)]),
    "all of many": lambda parts, _: parts.add_many([Part(code="new", size=-1), Part(code="other", size=-1)]),
    "upsert a new one": lambda parts, _: parts.upsert(Part(code="new", size=-1), on="code"),
    "upsert an old one": lambda parts, _: parts.upsert(Part(code="old", size=-1), on="code"),
    "update": lambda parts, old: parts.update(old.model_copy(update={"size": -1})),
    "patch": lambda parts, old: parts.patch(old.id, {"size": -1}),
    "save": lambda parts, old: parts.save(old.model_copy(update={"size": -1})),
    "save a new one": lambda parts, _: parts.save(Part(id=70, code="new", size=-1)),
    "update_where": lambda parts, _: parts.update_where(code="old", set_={"size": -1}),
}


@on("sqlite", "postgresql")
@pytest.mark.parametrize("call", CALLS)
def test_a_row_that_a_trigger_passes_over_is_an_error(db, kind, call):
    run(db, ["INSERT INTO part VALUES (60, 'old', 0, 1)"])
    old = Part(id=60, code="old", size=0, version=1)
    for event in ("INSERT", "UPDATE"):
        run(db, PASSING[kind], event, "new")
    with pytest.raises(CheckViolationError, match="nothing was stored") as caught, Parts(db) as parts:
        CALLS[call](parts, old)
    assert (caught.value.table, caught.value.retryable) == ("part", False)
    assert Parts(db).find() == [old]


@on("sqlite", "postgresql")
@pytest.mark.parametrize("call", ["delete", "remove", "delete_where"])
def test_a_row_that_a_trigger_does_not_let_go_is_an_error(db, kind, call):
    run(db, ["INSERT INTO part VALUES (1, 'old', -1, 1)"])
    old = Part(id=1, code="old", size=-1, version=1)
    run(db, PASSING[kind], "DELETE", "old")
    calls = {
        "delete": lambda parts: parts.delete(old.id),
        "remove": lambda parts: parts.remove(old),
        "delete_where": lambda parts: parts.delete_where(code="old"),
    }
    with pytest.raises(CheckViolationError, match="nothing was stored"), Parts(db) as parts:
        calls[call](parts)
    with Parts(db) as parts:
        with pytest.raises(NotFoundError):
            parts.delete(old.id + 1)
        with pytest.raises(StaleEntityError):
            parts.remove(old.model_copy(update={"version": 7}))


@on("sqlite", "postgresql", "mariadb")
def test_a_trigger_that_refuses_is_a_check(db, kind):
    run(db, REFUSING[kind])
    with Parts(db) as parts:
        with pytest.raises(CheckViolationError), parts.unit.savepoint():
            parts.add(Part(code="a", size=-1))
        assert parts.count() == 0


def test_a_reference_that_restricts_is_a_reference_still(db):
    with Parts(db) as parts:
        part = parts.add(Part(code="a"))
    run(db, [f"INSERT INTO hole VALUES (1, {part.id})"])
    with pytest.raises(ForeignKeyViolationError), Parts(db) as parts:
        parts.delete(part.id)


@on("sqlite", "postgresql", "mariadb")
def test_a_view_that_takes_no_rows_says_so(db):
    run(
        db,
        ["CREATE VIEW seen_part AS SELECT id, code, sum(size) AS size, 1 AS version FROM part GROUP BY id, code"],
    )
    with pytest.raises(TransactionAbortedError), Seen(db) as seen:
        assert seen.count() == 0
        refuse(seen)
    assert Parts(db).count() == 0


def refuse(seen):
    with pytest.raises(ProgrammingError):
        seen.add(Part(id=7, code="a"))


@on("postgresql", "mariadb")
def test_a_view_that_the_server_can_write_to_stores_the_row(db):
    run(db, ["CREATE VIEW seen_part AS SELECT id, code, size, version FROM part"])
    with Seen(db) as seen:
        assert seen.add(Part(id=7, code="a")) == seen.get(7)
    assert Parts(db).count() == 1


def test_a_view_with_a_trigger_that_writes_gives_what_is_stored(db):
    run(db, ["CREATE VIEW seen_part AS SELECT id, code, size * 2 AS size, version FROM part"])
    insert = "INSERT INTO part VALUES (new.id, new.code, new.size, new.version)"
    run(db, [f"CREATE TRIGGER writes INSTEAD OF INSERT ON seen_part BEGIN {insert}; END"])
    with Seen(db) as seen:
        assert seen.add(Part(id=7, code="a", size=4)).size == 8
    with pytest.raises(CheckViolationError), Seen(db) as seen:
        seen.add(Part(code="b"))  # whose key is not known
    assert Parts(db).count() == 1


def test_async_alike(tmp_path):
    plain = sa.create_engine(f"sqlite:///{tmp_path}/parts.db")
    Base.metadata.create_all(plain)
    with plain.begin() as connection:
        for statement in LATE["sqlite"]:
            connection.exec_driver_sql(statement.format("part", "id = new.id"))
    plain.dispose()
    db = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/parts.db")

    async def work():
        async with AsyncParts(db) as parts:
            assert (await parts.add(Part(code="a"))).size == 100
        await db.dispose()

    asyncio.run(work())

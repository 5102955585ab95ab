"""MySQL: INSERT returns no rows, so keys are counted from the first one, and rows are read again only if they must."""

import asyncio
from datetime import datetime
from decimal import Decimal
from enum import Enum

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import event
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    BaseRepository,
    CheckViolationError,
    InvalidValueError,
    UniqueViolationError,
    UnsupportedError,
    fields,
    icontains,
    iequals,
)
from sqlrepo.sqlalchemy import AsyncDatabase, Database, audit, types
from sqlrepo.testing import query_budget
from tests.databases import servers
from tests.twins.linked import Folder, Folders

pytestmark = pytest.mark.skipif("mysql" not in servers.KINDS, reason="no MySQL")


class Base(DeclarativeBase): ...


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Plain(BaseModel):
    id: int | None = None
    name: str
    colour: Colour = Colour.RED
    price: Decimal = Decimal("1.5")
    at: datetime = datetime(2024, 2, 29, 12, 0, 0, 123456)  # noqa: DTZ001
    notes: list[str] = []


class PlainRow(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(types.BigKey(), primary_key=True)
    name: Mapped[str] = mapped_column(types.Text(20), unique=True)
    colour: Mapped[Colour] = mapped_column(types.Member(Colour))
    price: Mapped[Decimal] = mapped_column(types.Exact(10, 2))
    at: Mapped[datetime] = mapped_column(types.LocalDateTime())
    notes: Mapped[list[str]] = mapped_column(types.Json(list[str]))
    __table_args__ = (sa.CheckConstraint("price > 0", name="positive"),)


class Plains(BaseRepository[Plain, int]):
    model = PlainRow


class AsyncPlains(AsyncBaseRepository[Plain, int]):
    model = PlainRow


class Rounded(BaseModel):
    id: int | None = None
    at: datetime
    size: int = 0
    state: str | None = None


class RoundedRow(Base):
    __tablename__ = "rounded"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(mysql.DATETIME())  # of whole seconds
    size: Mapped[int]
    state: Mapped[str] = mapped_column(types.Text(9), server_default="new")


class Roundeds(BaseRepository[Rounded, int]):
    model = RoundedRow


class Filled(BaseModel):
    key: str
    part: int
    double: int | None = None


class FilledRow(Base):
    __tablename__ = "filled"
    key: Mapped[str] = mapped_column(types.Text(9), primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    double: Mapped[int] = mapped_column(sa.Computed("part * 2"))


class Filleds(BaseRepository[Filled, tuple[str, int]]):
    model = FilledRow


class Tiny(BaseModel):
    id: int | None = None
    name: str = ""


class TinyRow(Base):
    __tablename__ = "tiny"
    id: Mapped[int] = mapped_column(mysql.TINYINT(), primary_key=True)
    name: Mapped[str] = mapped_column(types.Text(9))


class Tinies(BaseRepository[Tiny, int]):
    model = TinyRow


class Named(BaseModel):
    uid: str | None = None
    name: str


class NamedRow(Base):
    __tablename__ = "named"
    uid: Mapped[str] = mapped_column(types.Text(36), primary_key=True, server_default=sa.text("(uuid())"))
    name: Mapped[str] = mapped_column(types.Text(9))


class Nameds(BaseRepository[Named, str]):
    model = NamedRow


@pytest.fixture
def db():
    made = Database(servers.emptied("mysql", Base))
    yield made
    made.dispose()


def plains(*names):
    return [Plain(name=name) for name in names]


def test_a_row_whose_values_are_known_takes_one_statement(db):
    with Plains(db) as repository:
        repository.count()
        with query_budget(1):
            first = repository.add(Plain(name="a", notes=["x"]))
        with query_budget(1):
            more = repository.add_many(plains("b", "c", "d"))
        with query_budget(1):
            given = repository.add(Plain(id=70, name="e"))
        with query_budget(2):  # one for those with a key, one for those without
            mixed = repository.add_many([Plain(id=80, name="f"), *plains("g", "h"), Plain(id=90, name="i")])
    assert [one.id for one in (first, *more, given)] == [1, 2, 3, 4, 70]
    assert (mixed[0].id, mixed[3].id) == (80, 90)
    stored = Plains(db).find()
    assert sorted([first, *more, given, *mixed], key=lambda one: one.id) == stored
    assert str(first.price) == str(stored[0].price) == "1.50"


def test_rows_are_read_again_where_the_database_fills_in_or_rounds(db):
    at = datetime(2024, 1, 1, 0, 0, 0, 600_000)  # noqa: DTZ001
    with Roundeds(db) as repository:
        repository.count()
        with query_budget(2):
            one = repository.add(Rounded(at=at))
        with query_budget(2):
            many = repository.add_many([Rounded(at=at, size=number) for number in range(5)])
    assert (one.at, one.state) == (datetime(2024, 1, 1, 0, 0, 1), "new")  # noqa: DTZ001
    assert [one, *many] == Roundeds(db).find()
    assert [each.size for each in many] == [0, 1, 2, 3, 4]

    with Filleds(db) as repository:
        repository.count()
        with query_budget(2):
            filled = repository.add_many([Filled(key=key, part=part) for key in "ba" for part in (2, 1)])
    assert [(one.key, one.part, one.double) for one in filled] == [("b", 2, 4), ("b", 1, 2), ("a", 2, 4), ("a", 1, 2)]


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_batch_of_thousands_has_the_keys_of_its_rows(db, driver):
    names = [f"n{number}" for number in range(2_500)]

    async def run():
        database = AsyncDatabase(db.engine.url.set(drivername="mysql+asyncmy"))
        async with AsyncPlains(database) as repository:
            found = await repository.add_many(plains(*names))
        await database.dispose()
        return found

    if driver == "asyncmy":
        added = asyncio.run(run())
    else:
        with Plains(db) as repository, query_budget(1):  # which counts the pages of a batch once
            added = repository.add_many(plains(*names))
    assert [one.name for one in added] == names
    assert {one.id: one.name for one in added} == {one.id: one.name for one in Plains(db).find()}


def test_keys_follow_in_the_steps_of_the_session(db):
    url = db.engine.url.update_query_dict(
        {"init_command": "SET SESSION auto_increment_increment = 7, auto_increment_offset = 3"}
    )
    stepping = Database(url)
    with Plains(stepping) as repository:
        added = [repository.add(Plain(name="a")), *repository.add_many(plains("b", "c", "d"))]
    assert [one.id for one in added] == [3, 10, 17, 24]
    assert added == Plains(db).find()
    stepping.dispose()


def test_rows_that_a_trigger_changes_are_read_again(db):
    with db.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER shout BEFORE INSERT ON plain FOR EACH ROW "
            "SET NEW.name = upper(NEW.name), NEW.id = IF(NEW.name = 'K', 99, NEW.id)"
        )
    try:
        with Plains(db) as repository:
            added = [repository.add(Plain(name="a")), *repository.add_many(plains("b", "k", "c"))]
        assert [one.name for one in added] == ["A", "B", "K", "C"]
        assert added[2].id == 99
        assert sorted(added, key=lambda one: one.id) == Plains(db).find()
    finally:
        with db.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER shout")


def test_a_key_behind_the_last_number_is_out_of_range(db):
    with Tinies(db) as repository:
        repository.add(Tiny(id=127))
    with pytest.raises(InvalidValueError, match="out of range") as caught, Tinies(db) as repository:
        repository.add(Tiny())
    assert caught.value.field == "id"
    with pytest.raises(UniqueViolationError), Tinies(db) as repository:
        repository.add(Tiny(id=127))


def test_a_key_that_the_database_would_make_is_refused_before_the_insert(db):
    with Nameds(db) as repository:
        assert repository.add(Named(uid="x", name="a")) == Named(uid="x", name="a")
        with (
            pytest.raises(UnsupportedError, match=r"new row of named .*: uid; give a value"),
            repository.unit.savepoint(),
        ):
            repository.add(Named(name="b"))
    assert Nameds(db).count() == 1


def test_case_folds_without_cutting_the_text(db):
    """LOWER of a letter that grows would cut the end off."""
    name = fields(Plain).name
    with Plains(db) as repository:
        repository.add_many(plains("\u023abc", "\u023exyz", "Éa", "İ"))
    assert [one.name for one in Plains(db).find(icontains(name, "\u2c65BC"))] == ["\u023abc"]
    assert [one.name for one in Plains(db).find(iequals(name, "\u2c66XYZ"))] == ["\u023exyz"]
    assert [one.name for one in Plains(db).find(icontains(name, "éA"))] == ["Éa"]
    assert [one.name for one in Plains(db).find(icontains(name, "i"))] == ["İ"]


def test_a_tree_that_the_server_cannot_delete_says_where_to_begin(db):
    chain = [Folder(id=one + 1, parent_id=one or None, name="deep") for one in range(16)]
    wide = [Folder(id=101, parent_id=None, name="wide")]
    wide += [Folder(id=one, parent_id=101, name="branch") for one in (102, 103)]
    wide += [Folder(id=one + 10, parent_id=one, name="leaf") for one in (102, 103)]
    with Folders(Database(servers.emptied("mysql", Folders.model))) as folders:
        for root, tree in ((1, chain), (101, wide)):
            for one in tree:
                folders.add(one)
            with pytest.raises(UnsupportedError, match="from the leaves"), folders.unit.savepoint():
                folders.delete(root)
            for one in reversed(tree):
                folders.delete(one.id)
        assert folders.count() == 0


def test_a_check_is_named(db):
    with pytest.raises(CheckViolationError) as caught, Plains(db) as repository:
        repository.add(Plain(name="a", price=Decimal(-1)))
    assert (caught.value.constraint, caught.value.table) == ("positive", "plain")


def test_the_portable_types_are_what_the_audit_wants(db):
    metadata = sa.MetaData()
    PlainRow.__table__.to_metadata(metadata)
    assert audit(metadata, db.engine) == audit(metadata, "mysql") == ()


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_a_user_with_a_password_can_connect(db, driver):
    """By caching_sha2_password, which is the default; its full handshake needs the package cryptography."""
    user = f"sqlrepo_{driver}"
    with db.engine.connect() as connection:
        connection.exec_driver_sql(f"DROP USER IF EXISTS {user}")
        connection.exec_driver_sql(f"CREATE USER {user} IDENTIFIED BY 'swordfish'")
        connection.exec_driver_sql(f"GRANT ALL ON *.* TO {user}")
    url = db.engine.url.set(username=user, password="swordfish")
    try:
        if driver == "pymysql":
            made = Database(url)
            assert Plains(made).count() == 0
            made.dispose()
        else:
            asyncio.run(count(url.set(drivername="mysql+asyncmy")))
    finally:
        with db.engine.connect() as connection:
            connection.exec_driver_sql(f"DROP USER {user}")


async def count(url):
    database = AsyncDatabase(url)
    assert await AsyncPlains(database).count() == 0
    await database.dispose()


def test_an_engine_of_the_application_counts_keys_too(db):
    engine = sa.create_engine(db.engine.url, isolation_level="READ COMMITTED")
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: sent.append(arguments[2]))
    with Plains(Database(engine)) as repository:
        added = repository.add_many(plains("a", "b", "c"))
    assert added == Plains(db).find()
    assert sum(statement.startswith("INSERT") for statement in sent) == 1
    engine.dispose()

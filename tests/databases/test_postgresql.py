"""PostgreSQL: sequences behind given keys, native enumerations, servers without a collation that folds."""

from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    InvalidValueError,
    NotNullViolationError,
    UniqueViolationError,
    UnsupportedError,
    desc,
    fields,
    icontains,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from tests.databases import servers


class Base(DeclarativeBase): ...


class Colour(Enum):
    RED = 3
    GREEN = 1
    BLUE = 2


class Row(BaseModel):
    id: int | None = None
    text: str | None = None
    colour: Colour | None = None


class SerialRow(Base):
    __tablename__ = "Serial Row"
    id: Mapped[int] = mapped_column("the Id", primary_key=True)
    text: Mapped[str | None] = mapped_column(index=True)
    colour: Mapped[Colour | None]


class IdentityRow(Base):
    __tablename__ = "identity_row"
    id: Mapped[int] = mapped_column(sa.Identity(start=100, increment=10), primary_key=True)
    text: Mapped[str | None]
    colour: Mapped[Colour | None]


class SequenceRow(Base):
    __tablename__ = "sequence_row"
    id: Mapped[int] = mapped_column(sa.Sequence("Numbers"), primary_key=True)
    text: Mapped[str | None]
    colour: Mapped[Colour | None]


class Serials(BaseRepository[Row, int]):
    model = SerialRow


class Identities(BaseRepository[Row, int]):
    model = IdentityRow


class Sequences(BaseRepository[Row, int]):
    model = SequenceRow


row = fields(Row)


@pytest.fixture
def db():
    made = Database(servers.made_for_tests("postgresql", "own"))
    Base.metadata.create_all(made.engine)
    yield made
    Base.metadata.drop_all(made.engine)
    made.dispose()


def numbers(repository, *given):
    return [one.id for one in repository.add_many([Row(id=number) for number in given])]


def test_numbers_go_on_behind_given_ones(db):
    for repository, first, step in ((Serials, 1, 1), (Identities, 100, 10), (Sequences, 1, 1)):
        with repository(db) as rows:
            assert numbers(rows, None) == [first]
            assert numbers(rows, 501, 500, None) == [501, 500, 501 + step]
            assert numbers(rows, 300, None) == [300, 501 + 2 * step]
            assert rows.save(Row(id=1001)).id == 1001
            assert numbers(rows, None) == [1001 + step]


def test_a_sequence_is_never_moved_backwards(db):
    with Identities(db) as rows:
        assert numbers(rows, 5, None) == [5, 100]
    with Serials(db) as rows:
        assert numbers(rows, 1, None) == [1, 2]
        assert numbers(rows, -7, None) == [-7, 3]


def test_a_sequence_stays_ahead_when_the_unit_is_rolled_back(db):
    with pytest.raises(KeyError), Serials(db) as rows:
        numbers(rows, 40)
        raise KeyError
    with Serials(db) as rows:
        assert numbers(rows, None) == [41]


def test_a_key_without_a_sequence_is_left_to_the_caller(db):
    with db.engine.begin() as connection:
        connection.exec_driver_sql('ALTER TABLE "Serial Row" ALTER COLUMN "the Id" DROP DEFAULT')
        connection.exec_driver_sql('DROP SEQUENCE "Serial Row_the Id_seq"')
    with Serials(db) as rows:
        assert numbers(rows, 7, 8) == [7, 8]


def test_a_sequence_of_somebody_else_s_is_left_alone(db):
    with db.engine.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS sqlrepo_test_guest")
        connection.exec_driver_sql("CREATE ROLE sqlrepo_test_guest LOGIN PASSWORD 'guest'")
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO sqlrepo_test_guest")
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO sqlrepo_test_guest")
        connection.exec_driver_sql("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO sqlrepo_test_guest")
    guest = Database(db.engine.url.set(username="sqlrepo_test_guest", password="guest"))
    with Serials(guest) as rows:
        assert numbers(rows, 7, None) == [7, 1]
    guest.dispose()
    with db.engine.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY sqlrepo_test_guest")
        connection.exec_driver_sql("DROP ROLE sqlrepo_test_guest")


def test_members_of_a_native_enumeration_compare_and_sort_by_name(db):
    with Serials(db) as rows:
        rows.add_many([Row(colour=colour) for colour in (*Colour, None)])
        sorted_ = [None, Colour.BLUE, Colour.GREEN, Colour.RED]
        assert [one.colour for one in rows.find(order_by=row.colour)] == sorted_
        assert [one.colour for one in rows.find(order_by=desc(row.colour))] == sorted_[::-1]
        assert [one.colour for one in rows.find(row.colour > Colour.BLUE, order_by=row.colour)] == sorted_[2:]
        assert rows.one(row.colour == Colour.RED).colour is Colour.RED


def test_a_prefix_is_found_by_an_index(db):
    """In a database whose default collation is "C", as columns of `types.Text` are anywhere."""
    with Serials(db) as rows:
        rows.add_many([Row(text=f"{number}%") for number in range(2_000)])
    with db.engine.begin() as connection:
        connection.exec_driver_sql('ANALYZE "Serial Row"')
        plan = connection.exec_driver_sql(
            """EXPLAIN SELECT * FROM "Serial Row" WHERE text LIKE '19\\%%%%' ESCAPE '\\'"""
        ).scalars()
        assert "Index" in "".join(plan)


@pytest.fixture
def latin():
    """A database in whose encoding there is no collation to fold with."""
    url = servers.made_for_tests("postgresql", "own")
    name = f"{url.database}_latin"
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    servers.execute(admin, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    made = Database(url.set(database=name))
    Base.metadata.create_all(made.engine)
    yield made
    made.dispose()
    servers.execute(admin, f"DROP DATABASE {name}")


def test_a_server_that_cannot_fold_by_unicode_says_so(latin, caplog):
    class Folding(Serials):
        fold = "ascii"

    assert "unicode_fold" in latin.missing_capabilities
    with Folding(latin) as rows:
        rows.add_many([Row(text="ABC"), Row(text="É"), Row(text="é")])
    assert [one.text for one in Folding(latin).find(icontains(row.text, "b"))] == ["ABC"]
    assert [one.text for one in Folding(latin).find(icontains(row.text, "É"))] == ["É"]
    with pytest.raises(UnsupportedError, match='fold = "ascii"'):
        Serials(latin).find(icontains(row.text, "b"))
    assert sum("icontains" in record.getMessage() for record in caplog.records) == 1


# -- arrays


class Grid(BaseModel):
    id: int | None = None
    tags: list[str] | None = None
    days: list[date] | None = None
    cells: list[list[int]] | None = None


@dataclass
class LooseGrid:
    id: int | None = None
    tags: Any = None
    days: Any = None
    cells: Any = None


class GridRow(Base):
    __tablename__ = "grid"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[list[str] | None] = mapped_column(sa.ARRAY(sa.String(3)))
    days: Mapped[list[date] | None] = mapped_column(postgresql.ARRAY(sa.Date))
    cells: Mapped[list[list[int]] | None] = mapped_column(sa.ARRAY(sa.Integer, dimensions=2))


@pytest.mark.parametrize("entity", [Grid, LooseGrid, GridRow])
def test_an_array_is_given_as_a_list_of_its_items(db, entity):
    class Grids(BaseRepository[entity, int]):
        model = GridRow

    wrong = {"tags": ["abc", ["abcd"], [1], {"a": 1}], "days": [["2020-01-01"], "2020-01-01"], "cells": ["12", [["1"]]]}
    given = {"tags": ["a", "b"], "days": [date(2020, 1, 1)], "cells": [[1, 2], [3, 4]]}
    with Grids(db) as grids:
        key = grids.add(entity(**given)).id
        for name, value in [(name, value) for name, values in wrong.items() for value in values]:
            for call in (
                lambda name=name, value=value: grids.patch(key, {name: value}),
                lambda name=name, value=value: grids.update_where(fields(entity).id == key, set_={name: value}),
            ):
                with pytest.raises(InvalidValueError, match=name):
                    call()
        if entity is not Grid:
            with pytest.raises(InvalidValueError, match="tags"):
                grids.add(entity(tags="abc"))
        stored = grids.patch(key, {"tags": ["c", "d"], "cells": None})
        assert (stored.tags, stored.days, stored.cells) == (["c", "d"], given["days"], None)


class Slot(BaseModel):
    key: int | None = None
    start: int
    name: str = "a"


class SlotRow(Base):
    __tablename__ = "slot"
    id: Mapped[int] = mapped_column("the id", sa.Identity(always=True), primary_key=True)
    start: Mapped[int]
    name: Mapped[str]
    __table_args__ = (
        postgresql.ExcludeConstraint((sa.text("int4range(start, start + 10)"), "&&"), name="no_overlap"),
        sa.Index("ux_folded", sa.text("lower(name)"), unique=True),
    )


class Slots(BaseRepository[Slot, int]):
    model = SlotRow
    columns = {"key": "id"}


@pytest.mark.parametrize("second", [Slot(start=105, name="b"), Slot(start=200, name="A")])
def test_no_expression_of_a_constraint_is_taken_for_a_field(db, second):
    with pytest.raises(UniqueViolationError) as caught, Slots(db) as slots:
        slots.add_many([Slot(start=100), second])
    assert caught.value.fields == ()


def test_a_key_that_is_always_generated_is_named(db):
    with pytest.raises(InvalidValueError) as caught, Slots(db) as slots:
        slots.add(Slot(key=7, start=1))
    assert (caught.value.field, caught.value.reason) == ("key", "is always generated; leave it None")


# -- PostgreSQL 18


@pytest.fixture
def newest():
    """A database of PostgreSQL 18 or later, and a function that maps a table of it as it is reflected."""
    made = Database(servers.made_for_tests("postgresql", "own"))

    def mapped(statement):
        metadata = sa.MetaData()
        with made.engine.begin() as connection:
            if connection.dialect.server_version_info < (18,):
                pytest.skip("PostgreSQL 18 has this first")
            connection.exec_driver_sql("DROP TABLE IF EXISTS later")
            connection.exec_driver_sql(f"CREATE TABLE later ({statement})")
            metadata.reflect(connection, only=["later"])

        class Own(DeclarativeBase): ...

        class Later(Own):
            __table__ = metadata.tables["later"]

        class Laters(BaseRepository[Later, Any]):
            memory_defaults = {"double": lambda row: row["size"] * 2} if "double" in Later.__table__.c else {}

        return Later, Laters

    yield made, mapped
    with made.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS later")
    made.dispose()


def test_a_virtual_column_is_computed_and_uuidv7_is_known_to_memory(newest):
    db, mapped = newest
    later, laters = mapped(
        "id uuid PRIMARY KEY DEFAULT uuidv7(), size int NOT NULL, double int GENERATED ALWAYS AS (size * 2) VIRTUAL"
    )
    for store in (db, InMemoryDatabase()):
        with laters(store) as repository:
            added = repository.add_many([later(size=size) for size in (3, 1, 2)])
            assert [one.double for one in added] == [6, 2, 4]
            assert [one.id.version for one in added] == [7, 7, 7]
            assert [one.size for one in repository.find(order_by="id")] == [3, 1, 2]
            added[0].size = 5
            assert repository.update(added[0]).double == 10


def test_a_not_null_constraint_with_a_name_names_its_column(newest):
    db, mapped = newest
    later, laters = mapped("id integer PRIMARY KEY, size integer CONSTRAINT size_is_told NOT NULL")
    for store in (db, InMemoryDatabase()):
        with pytest.raises(NotNullViolationError) as caught, laters(store) as repository:
            repository.update_where(fields(later).id == 1, set_={"size": 1})
            repository.add(later(id=1, size=None))
        assert caught.value.fields == ("size",)


def test_a_temporal_key_works_on_the_database_and_is_refused_in_memory(newest):
    db, mapped = newest
    later, laters = mapped("size int4range, span daterange, PRIMARY KEY (size, span WITHOUT OVERLAPS)")

    def stay(first, last):
        span = postgresql.Range(date(2024, 1, first), date(2024, 1, last))
        return later(size=postgresql.Range(1, 5), span=span)

    with laters(db) as repository:
        repository.add_many([stay(1, 5), stay(5, 9)])
    with pytest.raises(UniqueViolationError) as caught, laters(db) as repository:
        repository.add(stay(4, 6))
    assert caught.value.fields == ("size", "span")
    with pytest.raises(UnsupportedError, match="its type DATERANGE"), laters(InMemoryDatabase()) as repository:
        repository.add(stay(4, 6))

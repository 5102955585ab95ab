"""Partial and functional unique indexes, in memory as in databases."""

from dataclasses import dataclass
from datetime import date
from types import new_class
from typing import ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, MappingError, QueryError, UniqueViolationError, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.tables.reflection import refusals
from tests.units.domain import database, own_base


class Base(DeclarativeBase): ...


def partial(name, *columns, where):
    return sa.Index(name, *columns, unique=True, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


class MemberRow(Base):
    __tablename__ = "indexed_member"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column("e_mail", sa.String(20))
    team: Mapped[int | None]
    role: Mapped[str | None] = mapped_column(sa.String(9))
    deleted: Mapped[date | None]
    __table_args__ = (
        partial("one_living", "e_mail", "team", where="deleted IS NULL"),
        partial("one_lead", "team", where="role = 'lead' AND deleted IS NULL"),
        sa.Index("one_spelling", sa.func.lower(email), role, unique=True),
        sa.Index("ignored", "role"),
    )


@dataclass(frozen=True)
class Member:
    id: int | None = None
    email: str | None = None
    team: int | None = None
    role: str | None = None
    deleted: date | None = None


class Members(BaseRepository[Member, int]):
    model = MemberRow


DAY = date(2024, 1, 1)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])  # MariaDB has neither kind of index
def members(request):
    made = database(request.param, Base)
    with Members(made) as members:
        yield members
    made.dispose()


@pytest.mark.parametrize(
    ("other", "name", "fields"),
    [
        (Member(email="a", team=1), "one_living", ("email", "team")),
        (Member(email="b", team=1, role="lead"), "one_lead", ("team",)),
        (Member(email="A", team=9, role="lead"), "one_spelling", ()),
    ],
)
def test_a_violation_names_the_index_as_databases_do(members, other, name, fields):
    members.add(Member(email="a", team=1, role="lead"))
    second = members.add(Member(email="x", team=7))
    changes = {key: getattr(other, key) for key in ("email", "team", "role")}
    for write in (
        lambda: members.add(other),
        lambda: members.patch(second.id, changes),
        lambda: members.upsert(Member(second.id, **changes), on="id"),
    ):
        with pytest.raises(UniqueViolationError) as caught, members.unit.savepoint():
            write()
        assert (caught.value.constraint, caught.value.fields) == (name, fields)


def test_rows_outside_an_index_may_agree(members):
    given = [
        Member(1, "a", 1, None, DAY),
        Member(2, "a", 1),
        Member(3, "a", 1, None, DAY),
        Member(4, "a", None),  # NULLs are never equal
        Member(5, "a", None),
        Member(6, "b", 2, "lead"),
        Member(7, "b", 2, None, DAY),
        Member(8, "c", 2, "other"),
    ]

    assert members.add_many(given) == given
    members.patch(2, {"deleted": DAY})
    assert members.add(Member(9, "a", 1)).id == 9
    with pytest.raises(UniqueViolationError), members.unit.savepoint():
        members.patch(2, {"deleted": None})
    members.delete(9)
    assert members.patch(2, {"deleted": None}).deleted is None


def test_such_an_index_is_no_target_of_an_upsert(members):
    with pytest.raises(QueryError):
        members.upsert(Member(email="a", team=1), on=["email", "team"])


def test_units_that_meet_in_an_index_do_not_both_commit():
    db = InMemoryDatabase()
    first = Members(db)
    first.__enter__()
    first.add(Member(email="a", team=1))
    with Members(db) as second:
        second.add(Member(email="a", team=1))
    with pytest.raises(UniqueViolationError) as caught:
        first.__exit__(None, None, None)
    assert caught.value.constraint == "one_living"


def test_what_the_locale_of_a_database_decides_is_refused():
    with Members(InMemoryDatabase()) as members:
        assert members.add(Member(email="é")).id == 1
        with pytest.raises(UnsupportedError, match=r"one_spelling.*memory_uniques"), members.unit.savepoint():
            members.add(Member(email="É"))


def test_a_refused_statement_leaves_no_row_behind():
    with Members(InMemoryDatabase()) as members:
        with pytest.raises(UnsupportedError, match="memory_uniques"):
            members.add_many([Member(email="plain"), Member(email="É")])
        assert members.count() == 0
        members.add_many(Member(email=letter, team=number) for number, letter in enumerate("ab"))
        with pytest.raises(UnsupportedError, match="memory_uniques"):
            members.update_where(set_={"email": "É"}, everything=True)
        assert sorted(one.email for one in members.find()) == ["a", "b"]


# -- functions in place of what cannot be read


def kept(index, **options):
    class Row(own_base()):
        __tablename__ = "indexed"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str | None] = mapped_column("e_mail", sa.String(20))
        team: Mapped[int | None]
        __table_args__ = (index,)

    @dataclass
    class One:
        id: int | None = None
        mail: str | None = None
        team: int | None = None

    body = {"model": Row, "columns": {"mail": "email"}, **options}
    return new_class("Ones", (BaseRepository[One, int],), exec_body=lambda space: space.update(body)), One, Row


def odd():
    return sa.Index("odd", sa.text("trim(e_mail)"), sa.text("team"), unique=True)


@pytest.mark.parametrize("backend", ["memory", "sqlite", "postgresql"])
def test_a_function_stands_in_for_an_index(empty, backend):
    def value(row):
        assert row["email"] == row["mail"]
        return row["mail"] and (row["mail"].strip(), row["team"])

    ones, one, row = kept(odd(), memory_uniques={"odd": value})
    with ones(empty(row)) as repository:
        repository.add_many([one(mail="a ", team=1), one(team=1), one(team=1), one(mail="a", team=None)])
        repository.add(one(mail="a", team=None))
        with pytest.raises(UniqueViolationError) as caught, repository.unit.savepoint():
            repository.add(one(mail="a", team=1))
        assert (caught.value.constraint, caught.value.fields) == ("odd", ())


def test_a_value_alone_is_enough_of_an_answer():
    ones, one, _ = kept(odd(), memory_uniques={"odd": lambda row: row["team"]})
    with ones(InMemoryDatabase()) as repository:
        repository.add_many([one(team=1), one(), one()])
        with pytest.raises(UniqueViolationError), repository.unit.savepoint():
            repository.add(one(team=1))


@pytest.mark.parametrize("name", ["even", ""])
def test_a_function_for_no_index_is_a_mapping_error(name):
    with pytest.raises(MappingError, match="memory_uniques"):
        kept(odd(), memory_uniques={name: lambda _: None})[0](InMemoryDatabase())


def test_indexes_make_tables_differ():
    db, same = InMemoryDatabase(), lambda _: None
    kept(odd(), memory_uniques={"odd": same})[0](db)
    kept(odd(), memory_uniques={"odd": same})[0](db)
    with pytest.raises(MappingError):
        kept(odd(), memory_uniques={"odd": lambda _: None})[0](db)


def test_an_index_that_sorts_downwards_is_a_plain_one():
    table = sa.Table("sorted", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("x", sa.Integer))
    sa.Index("down", table.c.x.desc(), unique=True)

    assert list(refusals(table)) == []


class Renamed(Members):
    memory_uniques: ClassVar = {"one_spelling": lambda row: (row["email"].casefold(), row["role"])}


def test_a_function_may_decide_what_the_locale_does():
    with Renamed(InMemoryDatabase()) as members:
        members.add(Member(email="É", role="a"))
        with pytest.raises(UniqueViolationError), members.unit.savepoint():
            members.add(Member(email="é", role="a", team=4))

"""Columns that memory cannot keep, where nothing asks for their values, and units with a table that it refuses."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import AsyncBaseRepository, AsyncBaseUnitOfWork, BaseRepository, BaseUnitOfWork, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.tables.reflection import left_out, refusals
from tests.units.domain import own_base


class Base(DeclarativeBase): ...


class PageRow(Base):
    """A table with columns of types that other databases lack."""

    __tablename__ = "left_page"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(20))
    size: Mapped[int | None]
    search = mapped_column(TSVECTOR().with_variant(sa.Text(), "sqlite", "mysql", "mariadb"), nullable=True)
    stamp = mapped_column(sa.Interval, server_default=sa.text("NULL"), nullable=True)
    twice = mapped_column(sa.Integer, sa.Computed("size * 2", persisted=True))


@dataclass
class Page:
    id: int | None = None
    title: str = ""
    size: int | None = None


class Pages(BaseRepository[Page, int]):
    model = PageRow


@dataclass
class Searched(Page):
    search: Any = None


class SearchedPages(BaseRepository[Searched, int]):
    model = PageRow


@pytest.fixture
def pages(empty):
    with Pages(empty(Base)) as pages:
        yield pages


def test_a_table_is_kept_without_the_columns_that_no_entity_has(pages):
    stored = pages.add(Page(title="a", size=1))

    assert pages.update(Page(id=stored.id, title="b", size=2)) == pages.get(stored.id) == Page(1, "b", 2)
    assert pages.upsert(Page(id=1, title="c"), on="id").entity == Page(1, "c")
    assert pages.find(size=None) == [Page(1, "c")]


def test_an_entity_with_such_a_field_is_refused_beside_one_without():
    db = InMemoryDatabase()
    with Pages(db) as pages:
        pages.add(Page(title="a"))
    with pytest.raises(UnsupportedError, match="column search"):
        SearchedPages(db)
    with Pages(db) as pages, pytest.raises(UnsupportedError, match="column search"):
        SearchedPages(pages.unit)


@pytest.mark.parametrize("method", ["to_domain", "to_row"])
def test_a_repository_that_converts_may_use_every_column(method):
    repository = type("Converted", (Pages,), {method: lambda self, given: given})

    with pytest.raises(UnsupportedError, match=r"column search.*column stamp.*column twice"):
        repository(InMemoryDatabase())


def test_functions_of_the_row_get_no_column_that_is_left_out():
    class Row(own_base()):
        __tablename__ = "left_check"
        __table_args__ = (sa.CheckConstraint("f(search)", name="found"),)
        id: Mapped[int] = mapped_column(primary_key=True)
        search = mapped_column(TSVECTOR, nullable=True)

    @dataclass
    class Id:
        id: int | None = None

    class Checked(BaseRepository[Id, int]):
        model = Row
        memory_checks: ClassVar = {"found": lambda row: row["search"] is None}

    with pytest.raises(KeyError), Checked(InMemoryDatabase()) as checked:
        checked.add(Id())


@pytest.mark.parametrize(
    ("column", "args"),
    [
        (sa.Column("odd", TSVECTOR, nullable=False), ()),
        (sa.Column("odd", TSVECTOR), (sa.UniqueConstraint("odd"),)),
        (sa.Column("odd", TSVECTOR), (sa.ForeignKeyConstraint(["odd"], ["other.id"]),)),
        (sa.Column("odd", TSVECTOR), (sa.CheckConstraint(sa.column("odd").is_not(None)),)),
    ],
    ids=["required", "unique", "reference", "checked"],
)
def test_a_column_that_something_asks_for_is_not_left_out(column, args):
    table = sa.Table("odd", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), column, *args)

    assert [one.column for one in refusals(table)] == ["odd"]
    assert list(left_out(table)) == []


# -- a unit with a table that memory refuses


class FreeRow(Base):
    __tablename__ = "left_free"
    id: Mapped[int] = mapped_column(primary_key=True)


class FlawedRow(own_base()):
    __tablename__ = "left_flawed"
    __table_args__ = (sa.CheckConstraint("random() > 0", name="lucky"),)
    id: Mapped[int] = mapped_column(primary_key=True)


@dataclass
class Free:
    id: int | None = None


class Frees(BaseRepository[Free, int]):
    model = FreeRow


class Flaweds(BaseRepository[Free, int]):
    model = FlawedRow


class AsyncFrees(AsyncBaseRepository[Free, int]):
    model = FreeRow


class AsyncFlaweds(AsyncBaseRepository[Free, int]):
    model = FlawedRow


class Both(BaseUnitOfWork):
    frees: Frees
    flaweds: Flaweds
    searched: SearchedPages


class AsyncBoth(AsyncBaseUnitOfWork):
    frees: AsyncFrees
    flaweds: AsyncFlaweds


def test_a_table_that_memory_refuses_is_refused_at_its_first_use_with_all_others():
    db = InMemoryDatabase()
    for _ in range(2):  # the second unit knows it too
        with Both(db) as unit:
            unit.frees.add(Free())
            for name in ("flaweds", "searched"):
                with pytest.raises(UnsupportedError) as caught:
                    getattr(unit, name)
                assert all(each in str(caught.value) for each in ("left_flawed", "lucky", "left_page", "column search"))
    assert Frees(db).count() == 2


def test_an_async_unit_does_the_same():
    unit = AsyncBoth(InMemoryDatabase())

    assert unit.frees is not None
    with pytest.raises(UnsupportedError, match="lucky"):
        unit.flaweds  # noqa: B018
    with pytest.raises(UnsupportedError, match="lucky"):
        AsyncFlaweds(unit)

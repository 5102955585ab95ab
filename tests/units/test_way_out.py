"""Statements of the application over a repository's table: its scope in them, its entities out of them."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship, selectinload

from sqlrepo import HasMany, QueryError, QueryObject, ReadOnlyError, UnsupportedError, desc, exists, fields, via
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import (
    AsyncDatabase,
    AsyncSQLAlchemyRepository,
    AsyncSQLAlchemyUnitOfWork,
    SQLAlchemyRepository,
    SQLAlchemyUnitOfWork,
)
from sqlrepo.testing import query_budget
from tests.databases import servers
from tests.units.domain import database

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(60)}


class AuthorRow(Base):
    __tablename__ = "author_of_way_out"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class PaperRow(Base):
    __tablename__ = "paper_of_way_out"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    caption: Mapped[str] = mapped_column("title_of_paper")
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(AuthorRow.id))
    written: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    price: Mapped[Decimal] = mapped_column(sa.Numeric(8, 2))
    details: Mapped[dict] = mapped_column(sa.JSON)
    author: Mapped[AuthorRow] = relationship(lazy="joined")  # which a statement of entities would join to
    notes: Mapped[list["NoteRow"]] = relationship(order_by="NoteRow.position", cascade="all, delete-orphan")


class NoteRow(Base):
    __tablename__ = "note_of_way_out"
    id: Mapped[int] = mapped_column(primary_key=True)
    paper_id: Mapped[int] = mapped_column(sa.ForeignKey(PaperRow.id, ondelete="CASCADE"))
    text: Mapped[str]
    position: Mapped[int]


class TagRow(Base):
    __tablename__ = "tag_of_way_out"
    paper_id: Mapped[int] = mapped_column(sa.ForeignKey(PaperRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


link_table = sa.Table(
    "link_of_way_out",
    Base.metadata,
    sa.Column("paper_id", sa.ForeignKey(PaperRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("author_id", sa.ForeignKey(AuthorRow.id), primary_key=True),
)


class Note(BaseModel):
    id: int | None = None
    text: str


class Paper(BaseModel):
    id: int | None = None
    tenant: int = 1
    title: str
    author_id: int
    written: datetime = NOON
    price: Decimal = Decimal("1.50")
    details: dict = {}
    notes: list[Note] = []
    tags: frozenset[str] = frozenset()


class Link(BaseModel):
    paper_id: int
    author_id: int


p = fields(Paper)


class PaperQuery(QueryObject[Paper]):
    title_startswith: str | None = None
    order_by: Literal["title", "-title"] = "title"
    limit: int = 2


class Papers(SQLAlchemyRepository[Paper, int]):
    model = PaperRow
    version = None
    columns = {"title": "caption"}
    parts = {"tags": HasMany(TagRow, value="name")}

    def scope(self):
        return p.tenant == self.context


class Links(SQLAlchemyRepository[Link, tuple[int, int]]):
    model = link_table


class Author(BaseModel):
    id: int | None = None
    name: str


class Authors(SQLAlchemyRepository[Author, int]):
    model = AuthorRow

    def scope(self):
        return fields(Author).name != "Ada"


class Library(SQLAlchemyUnitOfWork[int]):
    authors: Authors
    papers: Papers
    links: Links


class AsyncPapers(AsyncSQLAlchemyRepository[Paper, int]):
    model = PaperRow
    version = None
    columns = {"title": "caption"}
    parts = {"tags": HasMany(TagRow, value="name")}

    def scope(self):
        return p.tenant == self.context


class AsyncLibrary(AsyncSQLAlchemyUnitOfWork[int]):
    papers: AsyncPapers


def fill(connection):
    connection.execute(sa.insert(AuthorRow), [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}])


def paper(title, author=1, **values):
    return Paper(title=title, author_id=author, **values)


def titles(papers):
    return [one.title for one in papers]


ON_MARIADB = [pytest.param(name, marks=pytest.mark.repeats) for name in ("mariadb", "mariadb-usual")]


@pytest.fixture(params=["sqlite", "postgresql", *ON_MARIADB])
def db(request):
    made = database(request.param, Base)
    with made.engine.begin() as connection:
        fill(connection)
    with Library(made, context=2) as other:
        other.papers.add(paper("of another tenant", tenant=2, tags={"red"}))
    yield made
    made.dispose()


@pytest.fixture
def library(db):
    with Library(db, context=1) as library:
        library.papers.add_many(
            [
                paper("engines", notes=[Note(text="b"), Note(text="a")], tags={"red"}, details={"shelf": {"row": 7}}),
                paper("bridges", author=2, tags={"red", "blue"}, price=Decimal("20.00")),
                paper("boats", author=2, details={"shelf": {"row": 9}}),
            ]
        )
        yield library


def test_statement_gives_entities_as_find_does(library):
    found = library.papers.load(library.papers.select(order_by="-title"))

    assert found == library.papers.find(order_by="-title")
    assert found[0].notes[0].text == "b"
    assert found[0].written == NOON
    assert found[0].written.tzinfo is UTC


def test_statement_sends_one_query_and_one_for_each_part(library):
    with query_budget(3):
        library.papers.load(library.papers.select())


def test_statement_takes_criteria_query_objects_and_fields(library):
    select = library.papers.select

    assert titles(library.papers.load(select(p.price > 2))) == ["bridges"]
    assert titles(library.papers.load(select(PaperQuery(title_startswith="b")))) == [
        "boats",
        "bridges",
    ]
    assert titles(library.papers.load(select(author_id=1))) == ["engines"]


def test_criteria_may_follow_keys_and_speak_of_children(library):
    by_bob = library.papers.select(via(p.author_id, Author).name == "Bob", order_by="title")
    by_ada = library.papers.select(via(p.author_id, Author).name == "Ada")
    noted = library.papers.select(exists(p.notes, lambda note: note.text == "a"))

    assert titles(library.papers.load(by_bob)) == ["boats", "bridges"]
    assert library.papers.load(by_ada) == []  # outside the scope of authors
    assert titles(library.papers.load(noted.join(PaperRow.author).where(AuthorRow.name == "Ada"))) == ["engines"]


def test_order_is_added_only_where_it_is_given(library):
    statement = library.papers.select(order_by=desc(p.author_id)).order_by(None).order_by(PaperRow.caption)
    assert titles(library.papers.load(statement)) == ["boats", "bridges", "engines"]
    assert titles(library.papers.load(library.papers.select().order_by(PaperRow.caption.desc())))[0] == "engines"
    assert titles(library.papers.load(library.papers.select(order_by="-author_id")))[:2] == ["boats", "bridges"]


def test_statement_can_be_joined_and_aliased(library):
    joined = library.papers.select().join(PaperRow.author).where(AuthorRow.name == "Bob").order_by(PaperRow.caption)
    assert titles(library.papers.load(joined)) == ["boats", "bridges"]

    one = aliased(PaperRow)
    same = sa.select(one).join(one.author).where(AuthorRow.name == "Ada", one.tenant == 1)
    assert titles(library.papers.load(same)) == ["engines"]


def test_window_function_picks_the_first_of_each_author(library):
    place = sa.func.row_number().over(partition_by=PaperRow.author_id, order_by=PaperRow.caption)
    ranked = library.papers.select().add_columns(place.label("place")).subquery()
    statement = library.papers.select(order_by="title").join(ranked, ranked.c.id == PaperRow.id)

    assert titles(library.papers.load(statement.where(ranked.c.place == 1))) == ["boats", "engines"]


def test_more_elements_serve_the_order_and_distinct(library):
    length = sa.func.length(PaperRow.caption).label("length")
    columns = [column for column in PaperRow.__table__.c if column.name != "details"]  # PostgreSQL compares no JSON
    statement = library.papers.select().add_columns(length).order_by(length, PaperRow.caption)
    assert titles(library.papers.load(statement)) == ["boats", "bridges", "engines"]
    with pytest.raises(QueryError):
        library.papers.load(sa.select(length, *columns))


def test_json_path(library):
    row = PaperRow.details[("shelf", "row")].as_integer()

    assert titles(library.papers.load(library.papers.select().where(row > 7))) == ["boats"]


def test_full_text_search(library):
    if library.connection.dialect.name != "postgresql":
        return  # the others have it over an index only
    words = sa.func.to_tsvector("english", PaperRow.caption)
    query = sa.func.plainto_tsquery("english", "bridge")
    rank = sa.func.ts_rank(words, query)
    statement = library.papers.select().where(words.op("@@")(query)).order_by(rank.desc())

    assert titles(library.papers.load(statement)) == ["bridges"]
    assert titles(library.papers.load_page(statement, 5).items) == ["bridges"]


def test_columns_of_the_table_are_as_good_as_the_class(library):
    statement = library.papers.select(title="boats").with_only_columns(*PaperRow.__table__.c)

    assert library.papers.load(statement) == library.papers.find(title="boats")


def test_options_of_the_session_stay_possible(library):
    statement = library.papers.select(title="engines").options(selectinload(PaperRow.notes))

    assert [note.text for note in library.session.scalars(statement).one().notes] == ["b", "a"]
    assert titles(library.papers.load(statement)) == ["engines"]


def test_pages_have_a_total_order_and_count(library):
    statement = library.papers.select(order_by="-author_id").join(PaperRow.author)
    pages = [library.papers.load_page(statement, 1, offset, with_total=True) for offset in range(4)]

    assert [titles(page.items) for page in pages] == [["boats"], ["bridges"], ["engines"], []]
    assert [page.total for page in pages] == [3, 3, 3, 3]
    assert [page.has_next for page in pages] == [True, True, False, False]
    assert library.papers.load_page(statement, 5).total is None
    assert pages[2].items[0].notes[1].text == "a"
    library.papers.update_where(p.title == "engines", set_={"price": 2})  # which PostgreSQL stores behind the others
    tied = library.papers.select().order_by(PaperRow.tenant)
    assert library.papers.load_page(tied, 2, 1).items == library.papers.find(order_by="id")[1:]


def test_scope_does_not_leak(library):
    everything = library.papers.select().where(sa.or_(PaperRow.tenant == 2, sa.true()))
    tagged = library.papers.select().join(TagRow).where(TagRow.name == "red").order_by(PaperRow.id)

    assert len(library.papers.load(everything)) == 3
    assert titles(library.papers.load_page(everything, 10).items) == ["engines", "bridges", "boats"]
    assert library.papers.load_page(everything, 1, with_total=True).total == 3
    assert titles(library.papers.load(tagged)) == ["engines", "bridges"]
    assert library.papers.load(library.papers.select(p.tenant == 2)) == []


def test_table_as_model(library):
    first, second, _ = library.papers.find(order_by="id")
    library.links.add_many([Link(paper_id=one.id, author_id=2) for one in (first, second)])
    statement = library.links.select(order_by="-paper_id").join(AuthorRow).where(AuthorRow.name == "Bob")

    assert [link.paper_id for link in library.links.load(statement)] == [second.id, first.id]
    assert [link.paper_id for link in library.links.load_page(library.links.select(), 1).items] == [first.id]
    library.links.delete((first.id, 2))
    assert library.links.load(library.links.select(paper_id=first.id)) == []


@pytest.mark.parametrize(
    "statement",
    [sa.select(AuthorRow), sa.select(sa.func.count()), sa.select(sa.func.upper(PaperRow.caption)), sa.text("SELECT 1")],
    ids=["class", "function", "expression", "text"],
)
def test_other_statements_are_refused(library, statement):
    with pytest.raises(QueryError, match="first element is PaperRow"):
        library.papers.load(statement)
    with pytest.raises(QueryError, match="first element is PaperRow"):
        library.papers.load_page(statement, 5)
    with pytest.raises(QueryError, match="first element is link_of_way_out"):
        library.links.load(statement)


@pytest.mark.parametrize(("limit", "offset"), [(-1, 0), (1, -1)])
def test_negative_limits_are_refused(library, limit, offset):
    with pytest.raises(ValueError, match="cannot be negative"):
        library.papers.load_page(library.papers.select(), limit, offset)


def test_statement_runs_in_the_units_transaction(db):
    with Library(db, context=1) as library:
        library.papers.add(paper("not committed"))
        assert titles(library.papers.load(library.papers.select())) == ["not committed"]
        library.session.add(PaperRow(tenant=1, caption="pending", author_id=1, written=NOON, price=1, details={}))
        assert len(library.papers.load(library.papers.select())) == 2
        library.rollback()
        assert library.papers.load(library.papers.select()) == []


def test_repository_alone_loads_in_a_transaction_of_its_own(db):
    papers = Papers(db, context=2)

    assert titles(papers.load(papers.select())) == ["of another tenant"]


def test_read_only_unit_stays_read_only(db):
    with Library(db, context=2, read_only=True) as library:
        assert titles(library.papers.load(library.papers.select())) == ["of another tenant"]
        with pytest.raises(ReadOnlyError):
            library.papers.add(paper("x", tenant=2))


def test_memory_says_what_to_do():
    with Library(InMemoryDatabase(), context=1) as library:
        for call in (library.papers.select, lambda: library.papers.load(sa.select(PaperRow))):
            with pytest.raises(UnsupportedError, match="memory has no SQL; write this method with criteria"):
                call()
        with pytest.raises(UnsupportedError, match="memory has no SQL"):
            library.papers.load_page(sa.select(PaperRow), 5)
        assert library.papers.find() == []  # nothing was sent, so the unit goes on


@pytest.fixture(params=["sqlite+aiosqlite", "postgresql+asyncpg", "mariadb+asyncmy"])
def async_url(request, tmp_path):
    if not request.param.startswith("sqlite"):
        return servers.emptied(request.param, Base)
    return f"sqlite+aiosqlite:///{tmp_path}/way_out.db"


def test_async_calls_are_awaited(async_url):
    async def run():
        db = AsyncDatabase(async_url)
        async with db.engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.run_sync(fill)
        async with AsyncLibrary(db, context=2) as unit:
            await unit.papers.add(paper("of another tenant", tenant=2))
        async with AsyncLibrary(db, context=1) as unit:
            await unit.papers.add_many([paper("engines", tags={"red"}), paper("boats", author=2)])
            statement = (await unit.papers.select(order_by="title")).join(PaperRow.author)
            found = await unit.papers.load(statement)
            page = await unit.papers.load_page(statement.where(AuthorRow.name == "Ada"), 1, with_total=True)
        await db.dispose()
        return found, page

    found, page = asyncio.run(run())
    assert titles(found) == ["boats", "engines"]
    assert found[1].tags == {"red"}
    assert (titles(page.items), page.total, page.has_next) == (["engines"], 1, False)

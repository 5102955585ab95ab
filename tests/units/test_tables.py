"""Tables as models, and tables without a primary key, whose rows nothing but their values distinguishes."""

from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    MappingError,
    NotFoundError,
    QueryError,
    QueryObject,
    UniqueViolationError,
    desc,
    fields,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.sqlalchemy.audit import audit
from tests.units.domain import TodoRow, own_base

Base = own_base()
authors = sa.Table(
    "table_author",
    Base.metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("the name", sa.String(20), key="name", nullable=False, unique=True),
)
pairs = sa.Table(
    "table_pair",
    Base.metadata,
    sa.Column("a", sa.Integer, primary_key=True),
    sa.Column("b", sa.Integer, primary_key=True),
)
links = sa.Table(
    "table_link",
    Base.metadata,
    sa.Column("author_id", sa.ForeignKey(authors.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("tag", sa.String(20)),
    sa.Column("rank", sa.Integer, nullable=False, default=7),
)
codes = sa.Table(
    "table_code",
    Base.metadata,
    sa.Column("code", sa.String(20), nullable=False, unique=True),
    sa.Column("text", sa.String(20), nullable=False),
)


class LinkRow(Base):
    """Says itself what identifies a row; the database does not enforce it."""

    __table__ = links
    __mapper_args__ = {"primary_key": [links.c.author_id, links.c.tag]}


@dataclass
class Author:
    name: str
    id: int | None = None


@dataclass
class Pair:
    a: int
    b: int


@dataclass
class Link:
    author_id: int
    tag: str | None = None
    rank: int | None = None


@dataclass
class Code:
    code: str
    text: str


class Authors(BaseRepository[Author, int]):
    model = authors


class Pairs(BaseRepository[Pair, tuple[int, int]]):
    model = pairs


class Links(BaseRepository[Link, int]):
    model = links


class Keyed(BaseRepository[Link, tuple[int, str]]):
    model = LinkRow


class Codes(BaseRepository[Code, str]):
    model = codes
    natural_key = ("code",)


class LinkQuery(QueryObject[Link]):
    tag: str | None = None
    limit: int = 1
    offset: int = 1


class AuthorQuery(QueryObject[Author]):
    limit: int = 2


class Library(BaseUnitOfWork):
    authors: Authors
    pairs: Pairs
    links: Links
    codes: Codes


link = fields(Link)


@pytest.fixture
def library(empty):
    with Library(empty(Base)) as opened:
        yield opened


def test_a_table_with_a_key_does_everything(library):
    a, b = library.authors.add_many([Author("a"), Author("b")])
    assert library.authors.get(a.id) == a
    assert library.authors.update(Author("c", a.id)) == Author("c", a.id)
    assert library.authors.patch(b.id, {"name": "d"}).name == "d"
    assert library.authors.save(Author("e")).name == "e"
    assert not library.authors.upsert(Author("d"), on="name").created
    assert [one.name for one in library.authors.stream()] == ["c", "d", "e"]
    page = library.authors.scroll(AuthorQuery())
    assert [one.name for one in library.authors.scroll(AuthorQuery(), after=page.next).items] == ["e"]
    with pytest.raises(UniqueViolationError), library.savepoint():
        library.authors.add(Author("c"))
    library.authors.remove(a)
    library.authors.delete(b.id)
    with pytest.raises(NotFoundError):
        library.authors.get(a.id)
    assert library.pairs.add(Pair(1, 2)) == library.pairs.get((1, 2))


def test_a_table_without_a_key_keeps_equal_rows(library):
    author = library.authors.add(Author("a")).id
    assert library.links.add_many([Link(author, "x"), Link(author, "x"), Link(author, None, 1)]) == [
        Link(author, "x", 7), Link(author, "x", 7), Link(author, None, 1),
    ]  # fmt: skip
    assert library.links.add(Link(author, "x")) == Link(author, "x", 7)
    assert library.links.count() == 4
    assert library.links.exists(tag="x")
    assert library.links.update_where(link.tag == "x", set_={"rank": 8}) == 3
    assert library.links.delete_where(link.rank == 1) == 1
    assert library.links.find() == [Link(author, "x", 8)] * 3
    library.authors.delete(author)
    assert library.links.count() == 0


def test_rows_without_a_key_are_in_the_order_of_their_values(library):
    one, two = (library.authors.add(Author(name)).id for name in "ab")
    given = [Link(two, "a", 1), Link(one, "b", 3), Link(one, "b", 2), Link(one, None, 9), Link(two, "a", 1)]
    library.links.add_many(given)
    ordered = sorted(given, key=lambda each: (each.author_id, each.tag or "", each.rank))
    assert library.links.find() == ordered
    assert library.links.find(order_by=desc(link.author_id)) == [*ordered[:2:-1], *ordered[2::-1]]
    assert library.links.first() == ordered[0]
    query = LinkQuery(tag="b")
    assert library.links.page(query, with_total=True).items == [Link(one, "b", 3)]


def test_a_call_that_needs_a_key_says_that_there_is_none(library):
    for call in (
        lambda: library.links.get(1),
        lambda: library.links.get_many([1]),
        lambda: library.links.patch(1, {"rank": 2}),
        lambda: library.links.delete(1),
        lambda: library.links.update(Link(1, "x")),
        lambda: library.links.save(Link(1, "x")),
        lambda: library.links.remove(Link(1, "x")),
        lambda: library.links.scroll(LinkQuery()),
        library.links.stream,
        library.links.chunks,
    ):
        with pytest.raises(MappingError, match="table_link has no primary key"):
            call()
    with pytest.raises(QueryError, match="tag"):
        library.links.upsert(Link(1, "x"), on="tag")
    library.links.count()  # the unit goes on


def test_a_unique_constraint_identifies_rows_without_a_key(library):
    library.codes.add(Code("a", "1"))
    assert library.codes.update(Code("a", "2")).text == "2"
    assert library.codes.save(Code("b", "3")).text == "3"
    assert library.codes.upsert(Code("a", "4"), on="code").entity.text == "4"
    with pytest.raises(UniqueViolationError), library.savepoint():
        library.codes.add(Code("a", "5"))
    library.codes.remove(Code("b", ""))
    assert library.codes.find() == [Code("a", "4")]


def test_rows_without_a_key_are_rolled_back_and_committed(empty):
    db = empty(Base)
    with Library(db) as library:
        author = library.authors.add(Author("a")).id
        library.links.add(Link(author, "x"))

        def work():
            with library.savepoint():
                library.links.add(Link(author, "x"))
                library.links.update_where(everything=True, set_={"rank": 1})
                raise KeyError

        with pytest.raises(KeyError):
            work()
    with Library(db) as library:
        library.links.add(Link(author, "x"))
        assert library.links.find() == [Link(author, "x", 7)] * 2


def test_a_key_that_the_class_declares_identifies_rows_and_is_not_enforced(empty):
    class Shelf(BaseUnitOfWork):
        authors: Authors
        keyed: Keyed
        links: Links

    with Shelf(empty(Base)) as library:
        keyed = library.keyed
        author = library.authors.add(Author("a")).id
        keyed.add(Link(author, "x", 1))
        assert keyed.get((author, "x")).rank == 1
        assert keyed.update(Link(author, "x", 2)).rank == 2
        assert keyed.save(Link(author, "y", 3)).rank == 3
        assert [one.tag for one in keyed.stream()] == ["x", "y"]
        keyed.delete((author, "y"))
        keyed.add(Link(author, "x", 4))
        assert library.links.count() == keyed.count() == 2
        with pytest.raises(QueryError, match="neither the key nor a unique constraint"):
            keyed.upsert(Link(author, "x"), on=("author_id", "tag"))


def test_a_table_is_used_in_a_joined_session_and_audited():
    db = Database("sqlite://")
    Base.metadata.create_all(db.engine)
    with Session(db.engine) as session:
        assert Library(session).authors.add(Author("a")).id == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(authors)) == 1
    assert not [finding for finding in audit(Base.metadata, "postgresql") if "key" in str(finding)]
    db.dispose()


@pytest.mark.parametrize(
    "make",
    [
        lambda: "TodoRow",
        TodoRow,
        lambda: pytest,
        lambda: sa.select(TodoRow),
        lambda: aliased(TodoRow),
        authors.alias,
        lambda: sa.table("t", sa.column("id")),
        lambda: authors.join(links),
    ],
)
def test_a_model_that_is_neither_class_nor_table_is_refused_where_the_class_is_defined(make):
    with pytest.raises(MappingError, match="declare a mapped class or a Table"):

        class Wrong(BaseRepository[Author, int]):
            model = make()


def test_a_class_that_is_not_mapped_is_refused_at_first_use():
    class Wrong(BaseRepository[Author, int]):
        model = Author

    with pytest.raises(MappingError, match="'Author' is not a mapped class"):
        Wrong(InMemoryDatabase())


def test_an_entity_that_does_not_fit_its_table_is_named():
    with pytest.raises(MappingError, match="'code' of Code has no column in table table_author"):

        class Wrong(BaseRepository[Code, int]):
            model = authors

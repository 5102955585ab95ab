"""Mapped classes, SQLModel's tables among them, as entities: values that no session keeps."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    reconstructor,
    registry,
    relationship,
)
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlmodel import Field, SQLModel

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    InvalidValueError,
    NotFoundError,
    QueryError,
    QueryObject,
    StaleEntityError,
    desc,
    fields,
    matches,
)
from sqlrepo.sqlalchemy import Database
from tests.units.domain import own_base


class Base(DeclarativeBase): ...


class Author(Base):
    __tablename__ = "mapped_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "mapped_book"
    id: Mapped[int] = mapped_column("book_id", primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(40), unique=True)
    pages: Mapped[int] = mapped_column(default=100)
    note = mapped_column(sa.String(20))
    author_id: Mapped[int | None] = mapped_column(sa.ForeignKey(Author.id))
    version: Mapped[int] = mapped_column()
    author: Mapped[Author | None] = relationship(back_populates="books")
    __mapper_args__ = {"version_id_col": version}

    @reconstructor
    def read(self):
        self.was_read = True


class Books(BaseRepository[Book, int]):
    pass  # a mapped class is kept in its own table


class BookQuery(QueryObject[Book]):
    title_contains: str | None = None
    note_is_null: bool | None = None
    limit: int = 10


class Library(BaseUnitOfWork):
    books: Books


book = fields(Book)


@pytest.fixture
def books(empty):
    with Books(empty(Base)) as repository:
        yield repository


def seen(entity):
    return {name: getattr(entity, name) for name in ("id", "title", "pages", "note", "version")}


def test_they_are_written_and_come_back(books):
    given = Book(title="a")
    stored = books.add(given)
    assert seen(stored) == {"id": stored.id, "title": "a", "pages": 100, "note": None, "version": 1}
    assert seen(books.get(stored.id)) == seen(stored)
    assert vars(given).keys() == {"_sa_instance_state", "title"}
    assert sa.inspect(given).transient


def test_what_is_not_set_is_left_as_it_is(books):
    stored = books.add(Book(title="a", pages=7, note="n"))
    updated = books.update(Book(id=stored.id, title="b", version=1))
    assert seen(updated) == {"id": stored.id, "title": "b", "pages": 7, "note": "n", "version": 2}
    assert books.save(Book(id=stored.id, title="b", note=None)).note is None
    assert books.patch(stored.id, {"pages": 8}).pages == 8


def test_versions_are_compared(books):
    stored = books.add(Book(title="a"))
    books.update(stored)
    with pytest.raises(StaleEntityError):
        books.update(stored)
    with pytest.raises(NotFoundError):
        books.update(Book(id=stored.id + 1, title="z"))


def test_they_are_asked_for(books):
    books.add_many([Book(title="a", pages=1), Book(title="b", pages=2, note="n"), Book(title="ab", pages=3)])
    assert [one.title for one in books.find(book.pages > 1, order_by=desc(book.pages))] == ["ab", "b"]
    assert [one.title for one in books.find(BookQuery(title_contains="a", note_is_null=True))] == ["a", "ab"]
    assert [one.title for one in books.stream(order_by="title")] == ["a", "ab", "b"]
    assert matches(book.pages > 1, books.one(title="b"))


def test_a_column_of_sqlalchemys_is_no_criterion(books):
    for wrong in (Book.title == "a", Book.title):
        with pytest.raises(QueryError, match=r"write fields\(\.\.\.\)\.name"):
            books.find(wrong)


def test_they_come_back_detached(books):
    stored = books.add(Book(title="a"))
    assert sa.inspect(stored).detached
    assert sa.inspect(stored).identity == (stored.id,)
    stored.pages = 5
    assert books.update(stored).pages == 5


# -- with the ORM


@pytest.fixture
def library():
    db = Database("sqlite://")
    Base.metadata.create_all(db.engine)
    yield Library(db)
    db.dispose()


def test_a_session_attaches_them_and_inserts_nothing(library):
    with library:
        stored = library.books.add(Book(title="a"))
    with Session(library._work.source.engine) as session:
        session.add(stored)
        assert sa.inspect(stored).persistent
        assert not session.new
        stored.pages = 9
        session.commit()
    with library:
        assert [(one.pages, one.version) for one in library.books.find()] == [(9, 2)]


def test_what_is_not_loaded_raises(library):
    with library:
        stored = library.books.add(Book(title="a"))
    with pytest.raises(DetachedInstanceError):
        _ = stored.author
    with pytest.raises(AttributeError):
        _ = stored.missing


def test_a_reconstructor_is_called(library):
    with library:
        assert library.books.add(Book(title="a")).was_read


def test_an_instance_that_has_expired_is_not_taken_for_one_that_leaves_out(library):
    with library:
        key = library.books.add(Book(title="a", note="n")).id
    with Session(library._work.source.engine) as session:
        expired = session.get(Book, key)
        session.expire(expired)
    with library, pytest.raises(InvalidValueError, match="is not loaded"):
        library.books.update(expired)


def test_a_class_that_is_a_dataclass_too_is_mapped_first(empty):
    class Local(MappedAsDataclass, DeclarativeBase): ...

    class Pen(Local):
        __tablename__ = "mapped_pen"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        colour: Mapped[str] = mapped_column(sa.String(10), default="blue")

    class Pens(BaseRepository[Pen, int]):
        model = Pen

    with Pens(empty(Local)) as pens:
        stored = pens.add(Pen(colour="red"))
        assert pens.get(stored.id).colour == "red"
        assert sa.inspect(stored).detached


def test_a_class_that_was_mapped_by_hand_is_an_entity(empty):
    base = own_base()

    class Stone:
        def __init__(self, weight):
            self.weight = weight

    table = sa.Table(
        "mapped_stone",
        base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("weight", sa.Integer, nullable=False),
    )
    registry(metadata=base.metadata).map_imperatively(Stone, table)

    class Stones(BaseRepository[Stone, int]): ...

    with Stones(empty(base)) as stones:
        stored = stones.add(Stone(7))
        assert stones.one(fields(Stone).weight == 7).id == stored.id


class Hero(SQLModel, table=True):
    __tablename__ = "mapped_hero"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=20, unique=True)
    age: int | None = None


class HeroUpdate(SQLModel):
    age: int | None = None


class Heroes(BaseRepository[Hero, int]): ...


def test_tables_of_sqlmodel_are_entities(empty):
    with Heroes(empty(SQLModel)) as heroes:
        stored = heroes.add(Hero(name="Ada", age=36))
        assert (stored.id, stored.name, stored.age) == (1, "Ada", 36)
        assert heroes.patch(1, HeroUpdate(age=None)).age is None
        assert heroes.update(Hero(id=1, name="Eve", age=3)).name == "Eve"
        assert [one.model_dump() for one in heroes.find()] == [{"id": 1, "name": "Eve", "age": 3}]
        with pytest.raises(InvalidValueError, match="name"):
            heroes.add(Hero(name="n" * 21))

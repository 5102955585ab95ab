"""Views of rows behind association tables that lead to the same table, or by what is not unique."""

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import Mapped, mapped_column, relationship

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryError
from sqlrepo.testing import query_budget
from tests.units.domain import opened, own_base, tables_of

Base = own_base()


topics = sa.Table(
    "link_topic",
    Base.metadata,
    sa.Column("person_id", sa.ForeignKey("link_person.id"), nullable=False),
    sa.Column("name", sa.String(60), nullable=False),  # of several words, or of none
)
friendships = sa.Table(
    "link_friendship",
    Base.metadata,
    sa.Column("one", sa.ForeignKey("link_person.id"), nullable=False),
    sa.Column("other", sa.ForeignKey("link_person.id"), nullable=False),
)

mentors = sa.Table(  # one for a person at most
    "link_mentor",
    Base.metadata,
    sa.Column("person_id", sa.ForeignKey("link_person.id"), primary_key=True),
    sa.Column("mentor_id", sa.ForeignKey("link_person.id"), nullable=False),
    sa.Column("word", sa.String(60)),
)


class PersonRow(Base):
    __tablename__ = "link_person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    words: Mapped[list["WordRow"]] = relationship(
        secondary=topics,
        secondaryjoin=lambda: WordRow.name == sa.orm.foreign(topics.c.name),
        order_by="WordRow.text.desc()",
        viewonly=True,
    )
    friends: Mapped[list["PersonRow"]] = relationship(
        secondary=friendships,
        primaryjoin=lambda: PersonRow.id == friendships.c.one,
        secondaryjoin=lambda: PersonRow.id == friendships.c.other,
        order_by="desc(PersonRow.name)",
        viewonly=True,
    )
    mentor: Mapped["PersonRow | None"] = relationship(
        secondary=mentors,
        primaryjoin=lambda: PersonRow.id == mentors.c.person_id,
        secondaryjoin=lambda: PersonRow.id == mentors.c.mentor_id,
        viewonly=True,
    )
    motto: Mapped["WordRow | None"] = relationship(
        secondary=mentors,
        primaryjoin=lambda: PersonRow.id == mentors.c.person_id,
        secondaryjoin=lambda: WordRow.name == sa.orm.foreign(mentors.c.word),
        viewonly=True,
    )


class WordRow(Base):
    __tablename__ = "link_word"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    text: Mapped[str | None]


class Person(BaseModel):
    id: int | None = None
    name: str


class Word(BaseModel):
    id: int | None = None
    name: str
    text: str | None


class Topic(BaseModel):
    person_id: int
    name: str


class Friendship(BaseModel):
    one: int
    other: int


class Mentor(BaseModel):
    person_id: int
    mentor_id: int
    word: str | None = None


class People(BaseRepository[Person, int]):
    model = PersonRow


class Words(BaseRepository[Word, int]):
    model = WordRow


class Topics(BaseRepository[Topic, tuple[int, str]]):
    model = topics


class Friendships(BaseRepository[Friendship, tuple[int, int]]):
    model = friendships


class Mentors(BaseRepository[Mentor, int]):
    model = mentors


class Circle(BaseUnitOfWork):
    people: People
    words: Words
    topics: Topics
    friendships: Friendships
    mentors: Mentors


class Named(BaseModel):
    name: str


class Friendly(BaseModel):
    name: str
    friends: list[Named]


class Text(BaseModel):
    text: str | None


db, circle = tables_of(Base), opened(Circle)


@pytest.fixture
def people(circle):
    return circle.people.add_many([Person(name=name) for name in ("Ann", "Bob", "Cid")])


def test_an_association_may_lead_to_several_rows_by_a_column_that_is_not_unique(circle, people):
    class Wordy(BaseModel):
        words: tuple[Text, ...]

    given = [("tea", "b"), ("tea", None), ("tea", "c"), ("rum", "a")]
    circle.words.add_many([Word(name=name, text=text) for name, text in given])
    ann, bob, _ = people
    pairs = [(ann, "tea"), (ann, "tea"), (ann, "gin"), (bob, "tea"), (bob, "rum")]
    circle.topics.add_many([Topic(person_id=who.id, name=name) for who, name in pairs])
    with query_budget(1 + 2):
        found = circle.people.find(order_by="name", into=Wordy)
    assert [[word.text for word in one.words] for one in found] == [["c", "b", None], ["c", "b", "a", None], []]


def test_friends_of_friends_each_once_and_in_order(circle, people):
    class Social(BaseModel):
        friends: tuple[Friendly, ...]

    ann, bob, cid = people
    pairs = [(ann, bob), (ann, cid), (ann, cid), (ann, ann), (cid, ann)]
    circle.friendships.add_many([Friendship(one=one.id, other=other.id) for one, other in pairs])
    with query_budget(1 + 2):
        found = circle.people.get(ann.id, into=Social)
    names = [(one.name, [each.name for each in one.friends]) for one in found.friends]
    assert names == [("Cid", ["Ann"]), ("Bob", []), ("Ann", ["Cid", "Bob", "Ann"])]


def test_a_single_row_behind_an_association_that_is_unique_on_both_sides(circle, people):
    class Taught(BaseModel):
        mentor: Named | None

    class Minded(BaseModel):
        motto: Text | None

    ann, bob, _ = people
    circle.mentors.add_many([Mentor(person_id=bob.id, mentor_id=ann.id)])
    taught = circle.people.find(order_by="name", into=Taught)
    assert taught == [Taught(mentor=None), Taught(mentor=Named(name="Ann")), Taught(mentor=None)]
    with pytest.raises(QueryError, match="several rows may follow relationship 'motto': no unique constraint"):
        circle.people.find(into=Minded)

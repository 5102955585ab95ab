"""Views: read models in place of entities, with what related tables hold, on every backend."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

import attrs
import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field, computed_field, create_model, field_validator
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlrepo import (
    AsyncBaseRepository,
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    InvalidLiteralError,
    NotFoundError,
    QueryError,
    QueryObject,
    UnsupportedError,
    Where,
    exists,
)
from sqlrepo.language.values import Kind as ValueKind
from sqlrepo.language.values import ValueType
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.tables.schema import Column, ForeignKey, Schema
from sqlrepo.testing import query_budget
from tests.units.domain import Todo, TodoQuery, TodoRow, Todos, database, todo

BY_PRIORITY = TodoQuery(order_by="-due,priority", limit=2)


class Key(BaseModel):
    key: str


# -- a helpdesk: tickets of a project, assigned to people, with comments by people, and tags


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}  # as SQLAlchemy wants it


class PersonRow(Base):
    __tablename__ = "person_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    mail: Mapped[str | None]
    team_id: Mapped[int | None] = mapped_column(sa.ForeignKey("team_of_views.id"))
    authored: Mapped[list["CommentRow"]] = relationship(order_by="desc(CommentRow.stars), CommentRow.id", viewonly=True)


class TeamRow(Base):  # in no unit
    __tablename__ = "team_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column("headline")


class NodeRow(Base):
    __tablename__ = "node_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("node_of_views.id"))


ticket_tags = sa.Table(  # without a key: a pair may be there twice
    "ticket_tag_of_views",
    Base.metadata,
    sa.Column("ticket_id", sa.ForeignKey("ticket_of_views.id"), nullable=False),
    sa.Column("tag_id", sa.ForeignKey("tag_of_views.id"), nullable=False),
)


class TagRow(Base):
    __tablename__ = "tag_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    rank: Mapped[int]


class TicketRow(Base):
    __tablename__ = "ticket_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    opened_by_id: Mapped[int] = mapped_column(sa.ForeignKey(PersonRow.id))
    assigned: Mapped[int | None] = mapped_column(sa.ForeignKey(PersonRow.id))
    place_street: Mapped[str]
    place_city: Mapped[str]
    version: Mapped[int]
    opened_by: Mapped[PersonRow] = relationship(foreign_keys=opened_by_id)
    namesake: Mapped[PersonRow | None] = relationship(
        primaryjoin="foreign(TicketRow.title) == PersonRow.name", viewonly=True
    )
    comments: Mapped[list["CommentRow"]] = relationship(order_by="CommentRow.stars, CommentRow.id")
    loud: Mapped[list["CommentRow"]] = relationship(
        primaryjoin="and_(CommentRow.ticket_id == TicketRow.id, CommentRow.stars > 1)", viewonly=True
    )
    tags: Mapped[list[TagRow]] = relationship(secondary=ticket_tags, order_by=[TagRow.rank.desc(), TagRow.label])
    summary: Mapped["SummaryRow | None"] = relationship()
    some_comment: Mapped["CommentRow | None"] = relationship(uselist=False, viewonly=True)
    some_tag: Mapped[TagRow | None] = relationship(secondary=ticket_tags, uselist=False, viewonly=True)
    steps: Mapped[list["StepRow"]] = relationship(order_by="StepRow.position", cascade="all, delete-orphan")


class SummaryRow(Base):  # one for a ticket at most
    __tablename__ = "summary_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey(TicketRow.id), unique=True)
    text: Mapped[str]


class StepRow(Base):  # a part
    __tablename__ = "step_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey(TicketRow.id, ondelete="CASCADE"))
    text: Mapped[str]
    cost: Mapped[Decimal] = mapped_column(sa.Numeric(10, 2))
    position: Mapped[int]


class WordRow(Base):  # a part of plain values
    __tablename__ = "word_of_views"
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey(TicketRow.id, ondelete="CASCADE"), primary_key=True)
    word: Mapped[str] = mapped_column(primary_key=True)


class CommentRow(Base):
    __tablename__ = "comment_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(sa.ForeignKey(TicketRow.id))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(PersonRow.id))
    body: Mapped[str]
    stars: Mapped[int | None]
    hidden: Mapped[bool]


class Person(BaseModel):
    id: int | None = None
    name: str
    mail: str | None = None
    team_id: int | None = None


class Step(BaseModel):
    id: int | None = None
    text: str
    cost: Decimal = Decimal(0)


class Spot(BaseModel):
    street: str = "Storgata 1"
    city: str


class Ticket(BaseModel):
    id: int | None = None
    title: str
    opened_by_id: int
    assigned: int | None = None
    place: Spot = Spot(city="Oslo")
    steps: list[Step] = []
    words: frozenset[str] = frozenset()
    version: int = 1


class Comment(BaseModel):
    id: int | None = None
    ticket_id: int
    author_id: int
    body: str = ""
    score: int | None = None
    hidden: bool = False


class Tag(BaseModel):
    id: int | None = None
    label: str
    rank: int = 0


class Tagging(BaseModel):
    ticket_id: int
    tag_id: int


class Team(BaseModel):
    id: int | None = None
    title: str


class Node(BaseModel):
    id: int
    parent_id: int | None = None


class Nodes(BaseRepository[Node, int]):
    model = NodeRow


class People(BaseRepository[Person, int]):
    model = PersonRow


class Tickets(BaseRepository[Ticket, int]):
    model = TicketRow
    version = "version"
    parts = {"words": HasMany(WordRow, value="word")}
    references = {"assignee": "assigned"}


class Comments(BaseRepository[Comment, int]):
    model = CommentRow
    columns = {"score": "stars"}


class Tags(BaseRepository[Tag, int]):
    model = TagRow


class Taggings(BaseRepository[Tagging, tuple[int, int]]):
    model = ticket_tags


class Teams(BaseRepository[Team, int]):
    model = TeamRow


class Desk(BaseUnitOfWork):
    people: People
    tickets: Tickets
    comments: Comments
    tags: Tags
    taggings: Taggings


class TicketQuery(QueryObject[Ticket]):
    limit: int = 50


# -- its views


class PersonBrief(BaseModel):
    name: str


class CommentView(BaseModel):
    body: str
    author: PersonBrief


class TagBrief(BaseModel):
    label: str


class TicketView(BaseModel):
    title: str
    opened_by: PersonBrief
    assignee: PersonBrief | None
    comments: list[CommentView]
    tags: list[TagBrief]


def in_base(backend):
    made = database(backend, Base)
    if isinstance(made, InMemoryDatabase):
        for kind in (Desk, TeamDesk):
            kind(made)
    return made


class TeamDesk(BaseUnitOfWork):
    teams: Teams


@pytest.fixture
def helpdesk(backend):
    """Two tickets: the first with all there is, the second with nothing."""
    db = in_base(backend)
    with TeamDesk(db) as unit:
        team = unit.teams.add(Team(title="Blue"))
    with Desk(db) as desk:
        ann, bob = desk.people.add_many([Person(name="Ann", mail="a@x", team_id=team.id), Person(name="Bob")])
        steps = [Step(text="look", cost="1.50"), Step(text="mend", cost="2.25")]
        one = desk.tickets.add(
            Ticket(title="Lamp", opened_by_id=ann.id, assigned=bob.id, steps=steps, words={"red", "hot"})
        )
        desk.tickets.add(Ticket(title="Door", opened_by_id=bob.id))
        given = [("b", bob, 2), ("a", ann, 2), ("c", bob, None)]
        desk.comments.add_many(
            [Comment(ticket_id=one.id, author_id=who.id, body=body, score=stars) for body, who, stars in given]
        )
        tags = desk.tags.add_many([Tag(label="dark", rank=1), Tag(label="big", rank=2), Tag(label="all", rank=2)])
        desk.taggings.add_many([Tagging(ticket_id=one.id, tag_id=tag.id) for tag in (*tags, tags[0])])
        yield desk
    db.dispose()


def lamp(desk, view):
    return desk.tickets.one(title="Lamp", into=view)


def door(desk, view):
    return desk.tickets.one(title="Door", into=view)


@pytest.fixture
def statements(helpdesk):
    """The statements as they are sent; none in memory."""
    sent: list[str] = []
    source = helpdesk._work.source
    if isinstance(source, Database):
        sa.event.listen(source.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    return sent


def sent_by(statements, call):
    """What a call sends, without what the library asks about the tables; nothing in memory."""
    statements.clear()
    call()
    return [one for one in statements if "information_schema" not in one]


class TestNesting:
    def test_rows_of_other_tables_are_nested_to_any_depth(self, helpdesk):
        assert lamp(helpdesk, TicketView).model_dump() == {
            "title": "Lamp",
            "opened_by": {"name": "Ann"},
            "assignee": {"name": "Bob"},
            "comments": [
                {"body": "c", "author": {"name": "Bob"}},  # NULL is smaller than every value
                {"body": "b", "author": {"name": "Bob"}},
                {"body": "a", "author": {"name": "Ann"}},
            ],
            "tags": [{"label": "all"}, {"label": "big"}, {"label": "dark"}],
        }
        empty = {"title": "Door", "opened_by": {"name": "Bob"}, "assignee": None, "comments": [], "tags": []}
        assert door(helpdesk, TicketView).model_dump() == empty

    def test_three_levels(self, helpdesk):
        class Team(BaseModel):
            title: str

        class Author(BaseModel):
            name: str
            team: Team | None
            authored: list[CommentView]

        class Remark(BaseModel):
            author: Author

        class Deep(BaseModel):
            comments: tuple[Remark, ...]

        found = lamp(helpdesk, Deep)
        assert [remark.author.name for remark in found.comments] == ["Bob", "Bob", "Ann"]
        assert [remark.author.team for remark in found.comments] == [None, None, Team(title="Blue")]
        assert [one.body for one in found.comments[0].author.authored] == ["b", "c"]

    def test_in_a_set_and_a_frozenset(self, helpdesk):
        @dataclass(frozen=True)
        class Label:
            label: str

        @attrs.frozen
        class Body:
            body: str

        @dataclass
        class Sets:
            tags: set[Label]
            comments: frozenset[Body]

        found = lamp(helpdesk, Sets)
        assert found == Sets({Label("all"), Label("big"), Label("dark")}, frozenset({Body("a"), Body("b"), Body("c")}))

    def test_parts_whole_or_some_of_their_fields(self, helpdesk):
        class StepBrief(BaseModel):
            text: str

        class Parts(BaseModel):
            steps: tuple[StepBrief, ...]
            words: list[str]

        class Whole(BaseModel):
            steps: list[Step]

        assert lamp(helpdesk, Parts).steps == (StepBrief(text="look"), StepBrief(text="mend"))
        assert sorted(lamp(helpdesk, Parts).words) == ["hot", "red"]
        assert lamp(helpdesk, Whole).steps == helpdesk.tickets.one(title="Lamp").steps
        assert door(helpdesk, Parts) == Parts(steps=(), words=[])

    def test_a_part_of_a_value_object(self, helpdesk, statements):
        class City(BaseModel):
            city: str

        class Somewhere(BaseModel):
            place: City

        statements.clear()
        assert lamp(helpdesk, Somewhere) == Somewhere(place=City(city="Oslo"))
        assert not any("place_street" in one for one in statements)

    def test_a_single_row_that_refers_to_this_one(self, helpdesk):
        class Text(BaseModel):
            text: str

        class Summed(BaseModel):
            summary: Text | None

        assert lamp(helpdesk, Summed) == Summed(summary=None)

    def test_a_table_without_a_repository_in_the_unit(self, helpdesk):
        class Team(BaseModel):
            title: str

        class Member(BaseModel):
            name: str
            team: Team | None

        assert helpdesk.people.find(order_by="name", into=Member) == [
            Member(name="Ann", team=Team(title="Blue")),
            Member(name="Bob", team=None),
        ]

    def test_an_entity_of_another_repository(self, helpdesk):
        class Opened(BaseModel):
            opened_by: Person

        assert lamp(helpdesk, Opened).opened_by == helpdesk.people.one(name="Ann")

    def test_aliases_validators_and_computed_fields_work_as_in_any_model(self, helpdesk):
        class Shout(BaseModel):
            name: str = Field(alias="called")

            @field_validator("name")
            @classmethod
            def loudly(cls, name):
                return name.upper()

            @computed_field
            def length(self) -> int:
                return len(self.name)

        class Loud(BaseModel):
            opened_by: Shout = Field(serialization_alias="openedBy")

        assert lamp(helpdesk, Loud).model_dump(by_alias=True) == {"openedBy": {"called": "ANN", "length": 3}}


class TestCountsAndFlags:
    def test_related_rows_are_counted_and_folded(self, helpdesk):
        class Counted(BaseModel):
            comments__count: int
            comments__score_sum: int | None
            comments__score_max: int | None
            comments__score_count: int
            tags__count: int
            steps__count: int
            steps__cost_sum: Decimal | None
            steps__text_min: str | None
            words__count: int

        assert list(lamp(helpdesk, Counted).model_dump().values()) == [3, 4, 2, 2, 3, 2, Decimal("3.75"), "look", 2]
        assert list(door(helpdesk, Counted).model_dump().values()) == [0, None, None, 0, 0, 0, None, None, 0]

    def test_inside_a_nested_view(self, helpdesk):
        class Author(BaseModel):
            name: str
            authored__count: int

        class Opened(BaseModel):
            opened_by: Author

        assert lamp(helpdesk, Opened).opened_by == Author(name="Ann", authored__count=1)

    def test_flags_tell_what_a_row_matches(self, helpdesk):
        @dataclass
        class Flagged:
            title: str
            dear: Annotated[bool, Where(lambda t, _: exists(t.steps, lambda step: step.cost > 2))]

        class Mine(BaseModel):
            mine: Annotated[bool, Where(lambda t, me: t.assigned == me)]
            body_first: bool = True

        assert helpdesk.tickets.find(order_by="title", into=Flagged) == [Flagged("Door", False), Flagged("Lamp", True)]
        with pytest.raises(QueryError, match=r"Mine.body_first: Ticket has no field"):
            lamp(helpdesk, Mine)

    def test_an_error_inside_a_flag_names_the_flag(self, helpdesk):
        class Wrong(BaseModel):
            mine: Annotated[bool, Where(lambda t, _: t.titel == "Lamp")]

        class Outer(BaseModel):
            comments: "list[Inner]"

        class Inner(BaseModel):
            mine: Annotated[bool, Where(lambda c, _: True)]

        Outer.model_rebuild(_types_namespace={"Inner": Inner})
        for view, words in ((Wrong, "Wrong.mine: Ticket has no field"), (Outer, "Inner.mine: True is a bool")):
            with pytest.raises(QueryError, match=f"^{words}"):
                lamp(helpdesk, view)

    def test_the_context_of_a_flag_is_the_units(self, helpdesk):
        class Mine(BaseModel):
            mine: Annotated[bool, Where(lambda t, me: t.assigned == me)]

        class Inner(BaseModel):
            body: str
            by_me: Annotated[bool, Where(lambda c, me: c.author_id == me)]

        class Outer(BaseModel):
            comments: list[Inner]

        bob = helpdesk.people.one(name="Bob")
        helpdesk.commit()
        with Desk(helpdesk._work.source, context=bob.id) as desk:
            assert lamp(desk, Mine).mine
            assert not door(desk, Mine).mine  # NULL
            assert [one.by_me for one in lamp(desk, Outer).comments] == [True, True, False]


class TestStatements:
    @pytest.mark.parametrize("tickets", [1, 7])
    def test_one_for_each_to_many_relation(self, helpdesk, tickets):
        for number in range(tickets):
            add_ticket(helpdesk, f"more {number}")
        with query_budget(1 + 2):
            assert len(helpdesk.tickets.page(TicketQuery(), into=TicketView).items) == tickets + 2

    def test_none_for_single_rows_counts_and_flags(self, helpdesk):
        class Counted(BaseModel):
            comments__count: int
            tags__count: int
            steps__cost_sum: Decimal | None
            dear: Annotated[bool, Where(lambda t, _: t.title == "Lamp")]

        add_ticket(helpdesk, "more")
        with query_budget(1):
            assert [one.comments__count for one in helpdesk.tickets.find(into=Counted, order_by="title")] == [0, 3, 1]

    def test_of_500_keys_each(self, helpdesk):
        class Brief(BaseModel):
            comments: list[CommentView]
            tags: list[TagBrief]

        ann = helpdesk.people.one(name="Ann")
        tickets = helpdesk.tickets.add_many([Ticket(title=f"{n}", opened_by_id=ann.id) for n in range(600)])
        tags = helpdesk.tags.add_many([Tag(label=f"{n:03}", rank=n % 2) for n in range(600)])
        pairs = [*zip(tickets, tags, strict=True), *((tickets[0], tag) for tag in tags[1:])]
        helpdesk.taggings.add_many([Tagging(ticket_id=one.id, tag_id=tag.id) for one, tag in pairs])
        helpdesk.comments.add_many([Comment(ticket_id=one.id, author_id=ann.id) for one in tickets])
        with query_budget(1 + 2 + 2):
            found = helpdesk.tickets.find(order_by="id", into=Brief)
        assert [len(one.comments) for one in found[2:]] == [1] * 600
        labels = [f"{n:03}" for rank in (1, 0) for n in range(600) if n % 2 == rank]
        assert [tag.label for tag in found[2].tags] == labels
        assert [[tag.label for tag in one.tags] for one in found[3:]] == [[f"{n:03}"] for n in range(1, 600)]

    def test_none_where_there_is_nothing_to_look_for(self, helpdesk):
        class Assigned(BaseModel):
            assignee: PersonBrief | None

        with query_budget(1):
            assert door(helpdesk, Assigned) == Assigned(assignee=None)
        with query_budget(1):
            assert helpdesk.tickets.find(title="none", into=TicketView) == []

    def test_only_what_is_named_and_what_joins_is_selected(self, helpdesk, statements):
        sent = sent_by(statements, lambda: lamp(helpdesk, TicketView))
        for one in sent:
            selected, _, _ = one.partition("FROM")
            assert not any(name in selected for name in ("mail", "team_id", "place", "version", "stars"))
        assert len(sent) in (0, 3)

    def test_a_row_that_several_columns_come_from_is_joined_once(self, helpdesk, statements):
        class Opener(BaseModel):
            name: str
            mail: str | None
            authored__count: int
            known: Annotated[bool, Where(lambda p, _: p.name == "Ann")]
            wrote: Annotated[bool, Where(lambda p, _: exists(Comment, lambda c: c.author_id == p.id))]

        class Opened(BaseModel):
            opened_by: Opener
            assignee: PersonBrief | None
            opened: Annotated[bool, Where(lambda t, _: t.opened_by_id > 0)]

        sent = sent_by(statements, lambda: helpdesk.tickets.find(into=Opened))
        assert [one.count("LEFT OUTER JOIN") for one in sent] in ([], [2])
        ann = Opener(name="Ann", mail="a@x", authored__count=1, known=True, wrote=True)
        bob = Opener(name="Bob", mail=None, authored__count=2, known=False, wrote=True)
        assert [lamp(helpdesk, Opened).opened_by, door(helpdesk, Opened).opened_by] == [ann, bob]

    def test_a_row_by_a_column_that_is_not_unique_multiplies_none(self, helpdesk):
        class Named(BaseModel):
            namesake: PersonBrief | None

        helpdesk.people.add_many([Person(name="Lamp"), Person(name="Lamp")])
        with query_budget(2):
            found = helpdesk.tickets.find(order_by="id", into=Named)
        assert found == [Named(namesake=PersonBrief(name="Lamp")), Named(namesake=None)]

    def test_cursors_and_limits_are_those_of_the_rows(self, helpdesk):
        class ByOpener(QueryObject[Ticket]):
            order_by: Literal["-opened_by_id__name"] = "-opened_by_id__name"
            limit: int = 1

        class Opened(BaseModel):
            assignee: PersonBrief | None
            opened_by: PersonBrief
            comments__count: int

        first = helpdesk.tickets.scroll(ByOpener(), into=Opened)
        last = helpdesk.tickets.scroll(ByOpener(), after=first.next, into=Opened)
        back = helpdesk.tickets.scroll(ByOpener(), before=last.previous, into=Opened)
        assert [one.opened_by.name for one in (*first.items, *last.items, *back.items)] == ["Bob", "Ann", "Bob"]
        assert (last.next, last.items[0].comments__count, back.previous) == (None, 3, None)

    def test_a_chain_of_more_single_rows_than_databases_join(self, backend):
        class Brief(BaseModel):
            id: int

        db, view = in_base(backend), Brief
        with Nodes(db) as nodes:
            for number in range(1, 70):
                nodes.add(Node(id=number, parent_id=number - 1 or None))
            for _ in range(64):
                view = create_model("Chain", id=(int, ...), parent=(view | None, ...))
            with query_budget(1):
                found = nodes.get(69, into=view)
            for number in range(69, 5, -1):
                assert found.id == number
                found = found.parent
            assert (found, nodes.get(1, into=view).parent) == (Brief(id=5), None)
        db.dispose()

    def test_a_lock_locks_the_roots(self, helpdesk, statements):
        sent = sent_by(statements, lambda: helpdesk.tickets.find(title="Lamp", into=TicketView, lock="update"))
        locked = [" FOR UPDATE" in one for one in sent]
        assert locked in ([], [False] * 3, [True] + [False] * 2)
        assert any(locked) or helpdesk._work.source.missing_capabilities


def add_ticket(desk, title):
    ann = desk.people.one(name="Ann")
    ticket = desk.tickets.add(Ticket(title=title, opened_by_id=ann.id, assigned=ann.id))
    desk.comments.add(Comment(ticket_id=ticket.id, author_id=ann.id))
    desk.taggings.add(Tagging(ticket_id=ticket.id, tag_id=desk.tags.first().id))


class Endless(BaseModel):
    comments: list["EndlessComment"]


class EndlessComment(BaseModel):
    ticket: Endless


class TestRefusals:
    """At the first use, before any statement."""

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"opened_bi": PersonBrief}, "V.opened_bi: Ticket has no field 'opened_bi'; did you mean 'opened_by'"),
            ({"opened_bi": PersonBrief}, "by the column opened_bi_id, or by another that `references`"),
            ({"place": (TagBrief, ...)}, "Ticket has no field 'place.label'"),
            ({"comments": CommentView}, "needs a list, tuple, set or frozenset of views"),
            ({"opened_by": list[PersonBrief]}, "V.opened_by: is annotated list.* needs a view"),
            ({"comments": list[str]}, "needs a list, tuple, set or frozenset of views"),
            ({"words": list[TagBrief]}, "needs a list, tuple, set or frozenset of plain values"),
            ({"assignee": PersonBrief}, "V.assignee: cannot be None, but there may be no row; annotate Pers"),
            ({"summary": TagBrief}, "V.summary: cannot be None, but there may be no row"),
            ({"some_comment": (CommentView | None, None)}, "several rows may follow relationship 'some_comment'"),
            ({"some_tag": (TagBrief | None, None)}, "several rows may follow relationship 'some_tag'"),
            ({"loud": list[CommentView]}, "the join of relationship 'loud' says more than its foreign key"),
            ({"comments__body_sum": int}, "sum does not fit 'body', whose column holds str"),
            ({"comments__hidden_max": bool}, "max does not fit 'hidden', whose column holds bool"),
            ({"comments__stars": int}, "counts by __count"),
            ({"comments__nothing_max": int}, "Comment has no field 'nothing'"),
            ({"tags__rank_sum": int}, "only __count fits"),
            (
                {"comments": list[EndlessComment]},
                "EndlessComment nests Endless nests EndlessComment, and so on without",
            ),
        ],
    )
    def test_what_no_view_can_hold(self, helpdesk, statements, fields, message):
        annotated = {name: one if isinstance(one, tuple) else (one, ...) for name, one in fields.items()}
        statements.clear()
        with pytest.raises(QueryError, match=message):
            helpdesk.tickets.find(into=create_model("V", **annotated))
        assert statements == []

    def test_a_reference_that_is_no_foreign_key(self, helpdesk):
        class Misled(Tickets):
            references = {"owner": "title"}

        class Owned(BaseModel):
            owner: PersonBrief | None

        with pytest.raises(QueryError, match=r"Owned.owner: `references` names 'title', which is no foreign key"):
            Misled(helpdesk).find(into=Owned)


# -- parts of every kind: of parts, single, and behind an association table


class Rack(Base):
    __tablename__ = "rack_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    shelves: Mapped[list["Shelf"]] = relationship(order_by="Shelf.place", cascade="all, delete-orphan")
    label: Mapped["RackLabel | None"] = relationship(cascade="all, delete-orphan")


class Shelf(Base):
    __tablename__ = "shelf_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    rack_id: Mapped[int] = mapped_column(sa.ForeignKey(Rack.id, ondelete="CASCADE"))
    place: Mapped[int]
    keeper_id: Mapped[int | None] = mapped_column(sa.ForeignKey(PersonRow.id))
    boxes: Mapped[list["BoxRow"]] = relationship(cascade="all, delete-orphan")


class BoxRow(Base):
    __tablename__ = "box_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(sa.ForeignKey(Shelf.id, ondelete="CASCADE"))
    size: Mapped[int]


class RackLabel(Base):
    __tablename__ = "rack_label_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    rack_id: Mapped[int] = mapped_column(sa.ForeignKey(Rack.id, ondelete="CASCADE"), unique=True)
    text: Mapped[str]


class Plan(Base):
    __tablename__ = "plan_of_views"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


rack_plans = sa.Table(
    "rack_plan_of_views",
    Base.metadata,
    sa.Column("rack_id", sa.ForeignKey(Rack.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("plan_id", sa.ForeignKey(Plan.id), primary_key=True),
)


class ABox(BaseModel):
    id: int | None = None
    size: int


class AShelf(BaseModel):
    id: int | None = None
    keeper_id: int | None = None
    boxes: list[ABox] = []


class ALabel(BaseModel):
    id: int | None = None
    text: str


class APlan(BaseModel):
    id: int | None = None
    text: str


class ARack(BaseModel):
    id: int | None = None
    name: str
    shelves: list[AShelf] = []
    label: ALabel | None = None
    plans: list[APlan] = []


class Racks(BaseRepository[ARack, int]):
    model = Rack
    version = None
    parts = {"plans": HasMany(Plan, through=rack_plans)}


class Store(BaseUnitOfWork):
    racks: Racks
    people: People


class TestPartsOfEveryKind:
    @pytest.fixture
    def store(self, backend):
        db = database(backend, Base)
        with Store(db) as store:
            ann = store.people.add(Person(name="Ann"))
            boxes = [ABox(size=1), ABox(size=2)]
            store.racks.add(
                ARack(
                    name="A",
                    shelves=[AShelf(keeper_id=ann.id, boxes=boxes), AShelf()],
                    label=ALabel(text="heavy"),
                    plans=[APlan(text="move"), APlan(text="sell")],
                )
            )
            store.racks.add(ARack(name="B"))
            yield store
        db.dispose()

    def test_are_read_as_the_aggregate_reads_them(self, store):
        class Whole(BaseModel):
            shelves: list[AShelf]
            label: ALabel | None
            plans: list[APlan]

        with query_budget(1 + 2 + 1 + 2):
            views = store.racks.find(order_by="name", into=Whole)
        racks = store.racks.find(order_by="name")
        assert [one.model_dump() for one in views] == [one.model_dump(exclude={"id", "name"}) for one in racks]

    def test_may_nest_what_their_own_tables_refer_to(self, store):
        class Size(BaseModel):
            size: int

        class ShelfView(BaseModel):
            keeper: PersonBrief | None
            boxes: list[Size]
            boxes__size_sum: int | None

        class Text(BaseModel):
            text: str

        class RackView(BaseModel):
            shelves: list[ShelfView]
            label: Text | None
            plans: tuple[Text, ...]
            shelves__count: int
            plans__count: int

        full, empty = store.racks.find(order_by="name", into=RackView)
        shelf = ShelfView(keeper=PersonBrief(name="Ann"), boxes=[Size(size=1), Size(size=2)], boxes__size_sum=3)
        assert full.shelves == [shelf, ShelfView(keeper=None, boxes=[], boxes__size_sum=None)]
        assert (full.label, full.plans) == (Text(text="heavy"), (Text(text="move"), Text(text="sell")))
        assert (full.shelves__count, full.plans__count) == (2, 2)
        assert empty == RackView(shelves=[], label=None, plans=(), shelves__count=0, plans__count=0)


Low = Annotated[bool, Where(lambda row, _: row.number < 2)]


class Hall(Base):
    __tablename__ = "hall_of_views"
    __table_args__ = (sa.ForeignKeyConstraint(["site", "house"], ["house_of_views.site", "house_of_views.nr"]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[int]
    house: Mapped[int]
    number: Mapped[int]
    paint: Mapped[str | None]
    coat_colour: Mapped[str | None]
    coat_gloss: Mapped[str | None]


class HouseRow(Base):
    __tablename__ = "house_of_views"
    site: Mapped[int] = mapped_column(primary_key=True)
    nr: Mapped[int] = mapped_column(primary_key=True)
    storeys: Mapped[int]
    halls: Mapped[list[Hall]] = relationship(order_by=Hall.id)


class Paint(BaseModel):
    colour: str
    gloss: str | None = None


class PaintBrief(BaseModel):
    gloss: str | None


class AHall(BaseModel):
    id: int | None = None
    site: int
    house: int
    number: int = 1
    coat: Paint | None = None


class AHouse(BaseModel):
    site: int
    nr: int
    number: int


class Halls(BaseRepository[AHall, int]):
    model = Hall
    references = {"building": "house"}


class Houses(BaseRepository[AHouse, tuple[int, int]]):
    model = HouseRow
    columns = {"number": "storeys"}


class Street(BaseUnitOfWork):
    halls: Halls
    houses: Houses


class TestKeysOfSeveralColumns:
    @pytest.fixture
    def street(self, backend):
        db = database(backend, Base)
        with Street(db) as street:
            street.houses.add_many([AHouse(site=n % 2, nr=n, number=n) for n in range(60)])
            street.halls.add_many([AHall(site=n % 2, house=n, number=59 - n) for n in range(60) for _ in range(2)])
            yield street
        db.dispose()

    def test_join_both_ways(self, street):
        class HallView(BaseModel):
            id: int
            low: Low

        class HouseView(BaseModel):
            nr: int
            low: Low
            halls: list[HallView]
            halls__count: int

        class Inside(BaseModel):
            house: int
            building: HouseView

        with query_budget(1 + 2 + 2):
            found = street.halls.find(order_by="id", into=Inside)
        assert [one.building.nr for one in found] == [n for n in range(60) for _ in range(2)]
        assert {(one.house, len(one.building.halls), one.building.halls__count) for one in found} == {
            (n, 2, 2) for n in range(60)
        }
        # One flag, of two tables with columns of different names.
        assert [one.building.nr for one in found if one.building.low] == [0, 0, 1, 1]
        assert {one.house for one in found if one.building.halls[0].low} == {58, 59}

    def test_some_fields_of_an_object_that_may_be_none(self, street):
        class Coated(BaseModel):
            coat: PaintBrief | None

        first, second = street.halls.find(order_by="id", limit=2)
        street.halls.patch(first.id, {"coat": Paint(colour="red")})
        assert street.halls.get(first.id, into=Coated) == Coated(coat=PaintBrief(gloss=None))  # it is there
        assert street.halls.get(second.id, into=Coated) == Coated(coat=None)

    def test_a_column_of_no_field_is_the_tables(self, street):
        class Painted(BaseModel):
            paint: str | None

        assert street.halls.first(into=Painted) == Painted(paint=None)


class TestTables:
    def test_a_table_without_a_mapped_class(self):
        whole = ValueType(ValueKind.INTEGER, int)
        nations = Schema("nation", (Column("id", whole, generated=True), Column("size", whole)), ("id",))

        class Nation(BaseModel):
            id: int | None = None
            size: int

        class City(BaseModel):
            id: int | None = None
            nation_id: int

        class Nations(BaseRepository[Nation, int]):
            schema = nations

        class Cities(BaseRepository[City, int]):
            schema = Schema(
                "city",
                (Column("id", whole, generated=True), Column("nation_id", whole)),
                ("id",),
                foreign_keys=(ForeignKey(("nation_id",), nations.full_name, ("id",)),),
            )

        class World(BaseUnitOfWork):
            nations: Nations
            cities: Cities

        class CityView(BaseModel):
            nation: Nation

        with World(InMemoryDatabase()) as world:
            nation = world.nations.add(Nation(size=3))
            world.cities.add(City(nation_id=nation.id))
            assert world.cities.find(into=CityView) == [CityView(nation=nation)]

    def test_the_rows_of_a_mapped_class_as_the_entity(self, helpdesk):
        class Rows(BaseRepository[CommentRow, int]):
            model = CommentRow

        assert [one.author.name for one in Rows(helpdesk).find(into=CommentView, order_by="body")] == [
            "Ann",
            "Bob",
            "Bob",
        ]

    def test_memory_says_why_it_cannot_keep_a_table_that_no_repository_declares(self):
        class Own(DeclarativeBase): ...

        class Clock(Own):
            __tablename__ = "clock_of_views"
            id: Mapped[int] = mapped_column(primary_key=True)
            made: Mapped[str] = mapped_column(sa.String(9), server_default=sa.func.version())

        class Hand(Own):
            __tablename__ = "hand_of_views"
            id: Mapped[int] = mapped_column(primary_key=True)
            clock_id: Mapped[int] = mapped_column(sa.ForeignKey(Clock.id))

        class Each(BaseModel):
            id: int | None = None
            clock_id: int

        class Hands(BaseRepository[Each, int]):
            model = Hand

        class Made(BaseModel):
            made: str

        view = create_model("View", clock=(Made, ...))
        with pytest.raises(UnsupportedError, match=r"clock_of_views cannot be kept in memory.*`memory_defaults`"):
            Hands(InMemoryDatabase()).find(into=view)

        class Timed(BaseModel):
            id: int | None = None
            made: str | None = None

        class Clocks(BaseRepository[Timed, int]):
            model = Clock
            memory_defaults = {"made": "now"}

        db, again = InMemoryDatabase(), create_model("Again", clock=(Made, ...))
        with Clocks(db) as clocks:
            clock = clocks.add(Timed())
        with Hands(db) as hands:
            hands.add(Each(clock_id=clock.id))
            assert [one.clock for one in hands.find(into=again)] == [Made(made="now")]

    def test_a_joined_session_reads_them_too(self, sqlite):
        Base.metadata.create_all(sqlite.engine)
        with Session(sqlite.engine) as session:
            session.add(TeamRow(id=1, title="Blue"))
            session.flush()
            session.add(PersonRow(id=1, name="Ann", team_id=1))
            session.flush()

            class Team(BaseModel):
                title: str

            class Member(BaseModel):
                team: Team | None

            assert People(session).find(into=Member) == [Member(team=Team(title="Blue"))]


# -- the calls that take one


KEYS = [Key(key=key) for key in "abcde"]


@pytest.fixture
def todos(db):
    with Todos(db) as todos:
        todos.add_many([Todo(key=key, priority=number) for number, key in enumerate("abcde")])
        yield todos


def pages_of(todos, **options):
    page = todos.scroll(BY_PRIORITY, **options)
    yield page
    while page.next:
        page = todos.scroll(BY_PRIORITY, after=page.next, **options)
        yield page


class TestEveryCall:
    def test_takes_a_view(self, todos):
        ids = {one.key: one.id for one in todos.find()}
        assert todos.get(ids["b"], into=Key) == Key(key="b")
        assert todos.get(ids["b"], into=Key, lock="update") == Key(key="b")
        assert todos.get_or_none(0, into=Key) is None
        assert todos.get_many([ids["c"], 0, ids["a"], ids["c"]], into=Key) == [Key(key=key) for key in "cac"]
        assert todos.one(key="d", into=Key) == todos.one_or_none(todo.key == "d", into=Key) == Key(key="d")
        assert todos.one_or_none(key="x", into=Key) is None
        assert todos.first(order_by="-priority", into=Key) == Key(key="e")
        assert todos.find(order_by="priority", into=Key) == KEYS
        assert todos.page(TodoQuery(order_by="priority", limit=2, offset=1), into=Key).items == KEYS[1:3]
        assert list(todos.stream(order_by="priority", into=Key)) == KEYS
        assert list(todos.chunks(order_by="priority", into=Key)) == [KEYS]
        with pytest.raises(NotFoundError):
            todos.get(0, into=Key)

    def test_an_async_repository_takes_one_too(self):
        asyncio.run(read_asynchronously())

    def test_cursors_go_on_from_fields_that_the_view_lacks(self, todos):
        assert [one for page in pages_of(todos, into=Key) for one in page.items] == KEYS
        whole, brief = list(pages_of(todos)), list(pages_of(todos, into=Key))
        assert [page.next for page in whole] == [page.next for page in brief]
        back = todos.scroll(BY_PRIORITY, before=brief[1].previous, into=Key)
        assert (back.items, back.previous) == (KEYS[:2], None)
        with pytest.raises(InvalidLiteralError):
            todos.scroll(TodoQuery(limit=2), after=brief[0].next, into=Key)

    def test_a_stream_goes_on_from_fields_that_the_view_lacks(self, todos, monkeypatch):
        monkeypatch.setattr("sqlrepo.core.reading._ROWS_AT_ONCE", 2)
        assert list(todos.stream(order_by="-due,priority", into=Key)) == KEYS


class AsyncTodos(AsyncBaseRepository[Todo, int]):
    model = TodoRow


async def read_asynchronously():
    async with AsyncTodos(InMemoryDatabase()) as todos:
        await todos.add_many([Todo(key=key, priority=number) for number, key in enumerate("abcde")])
        assert await todos.one(key="a", into=Key) == await todos.one_or_none(key="a", into=Key) == KEYS[0]
        assert await todos.get(1, into=Key) == await todos.get_or_none(1, into=Key) == KEYS[0]
        assert await todos.get_many([2, 1], into=Key) == [KEYS[1], KEYS[0]]
        assert await todos.first(order_by="-priority", into=Key) == KEYS[4]
        assert (await todos.page(TodoQuery(limit=5), into=Key)).items == KEYS
        assert (await todos.scroll(BY_PRIORITY, into=Key)).items == KEYS[:2]
        assert [one async for one in todos.stream(into=Key)] == KEYS

"""The rows that a scope hides are hidden in views too, however they are nested, counted or asked about."""

import asyncio
from typing import Annotated

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    QueryError,
    QueryObject,
    Where,
    exists,
    fields,
    not_,
    via,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.testing import query_budget
from tests.units.domain import tables_of

MINE, THEIRS = 1, 2  # tenants


class Base(DeclarativeBase): ...


room_tags = sa.Table(
    "room_tag_of_scope",
    Base.metadata,
    sa.Column("room_id", sa.ForeignKey("room_of_scope.id"), primary_key=True),
    sa.Column("tag_id", sa.ForeignKey("tag_of_scope.id"), primary_key=True),
    sa.Column("tenant", sa.Integer, nullable=False),
)


class RoomRow(Base):
    __tablename__ = "room_of_scope"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    owner_id: Mapped[int] = mapped_column(sa.ForeignKey("person_of_scope.id"))
    inside_id: Mapped[int | None] = mapped_column(sa.ForeignKey("room_of_scope.id"))
    notes: Mapped[list["NoteRow"]] = relationship(order_by="NoteRow.id")
    tags: Mapped[list["TagRow"]] = relationship(secondary=room_tags)
    rooms: Mapped[list["RoomRow"]] = relationship(order_by="RoomRow.id")
    lock: Mapped["LockRow | None"] = relationship()


class PersonRow(Base):
    __tablename__ = "person_of_scope"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    deleted: Mapped[bool]


class NoteRow(Base):
    __tablename__ = "note_of_scope"
    id: Mapped[int] = mapped_column(primary_key=True)
    room_id: Mapped[int] = mapped_column(sa.ForeignKey(RoomRow.id))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(PersonRow.id))
    tenant: Mapped[int]
    deleted: Mapped[bool]
    author: Mapped[PersonRow] = relationship()


class TagRow(Base):
    __tablename__ = "tag_of_scope"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]


class LockRow(Base):
    __tablename__ = "lock_of_scope"
    id: Mapped[int] = mapped_column(primary_key=True)
    room_id: Mapped[int] = mapped_column(sa.ForeignKey(RoomRow.id), unique=True)


class Room(BaseModel):
    id: int | None = None
    tenant: int = MINE
    owner_id: int
    inside_id: int | None = None


class Person(BaseModel):
    id: int | None = None
    tenant: int = MINE
    deleted: bool = False


class Note(BaseModel):
    id: int | None = None
    room_id: int
    author_id: int
    tenant: int = MINE
    deleted: bool = False


class Tag(BaseModel):
    id: int | None = None
    tenant: int = MINE


class RoomTag(BaseModel):
    room_id: int
    tag_id: int
    tenant: int = MINE


class Lock(BaseModel):
    id: int | None = None
    room_id: int


class AllRooms(BaseRepository[Room, int]):
    model = RoomRow


class AllPeople(BaseRepository[Person, int]):
    model = PersonRow


class AllNotes(BaseRepository[Note, int]):
    model = NoteRow


class AllTags(BaseRepository[Tag, int]):
    model = TagRow


class AllRoomTags(BaseRepository[RoomTag, tuple[int, int]]):
    model = room_tags


class Locks(BaseRepository[Lock, int]):
    model = LockRow


class Everything(BaseUnitOfWork):
    rooms: AllRooms
    people: AllPeople
    notes: AllNotes
    tags: AllTags
    room_tags: AllRoomTags
    locks: Locks


class Rooms(AllRooms):
    def scope(self) -> bool:
        return fields(Room).tenant == self.context


class People(AllPeople):
    def scope(self) -> bool:
        return (fields(Person).tenant == self.context) & not_(fields(Person).deleted)


class Notes(AllNotes):
    def scope(self) -> bool:
        return (fields(Note).tenant == self.context) & not_(fields(Note).deleted)


class Tags(AllTags):
    def scope(self) -> bool:
        return fields(Tag).tenant == self.context


class RoomTags(AllRoomTags):
    def scope(self) -> bool:
        return fields(RoomTag).tenant == self.context


class LocksOfRooms(Locks):
    def scope(self) -> bool:  # a lock is of the tenant of its room
        return via(fields(Lock).room_id, Room).tenant == self.context


class House(BaseUnitOfWork[int]):
    rooms: Rooms
    people: People
    notes: Notes
    tags: Tags
    room_tags: RoomTags
    locks: LocksOfRooms


class RoomQuery(QueryObject[Room]):
    limit: int = 10


class Id(BaseModel):
    id: int


class NoteView(BaseModel):
    id: int
    author: Id | None


class Inner(BaseModel):
    id: int
    notes: list[NoteView]
    notes__count: int


class RoomView(BaseModel):
    id: int
    owner: Id | None
    inside: Inner | None
    rooms: list[Inner]
    notes: list[NoteView]
    notes__count: int
    notes__id_max: int | None
    tags: list[Id]
    tags__count: int
    lock: Id | None
    quiet: Annotated[bool, Where(lambda room, _: not_(exists(Note, lambda note: note.room_id == room.id)))]
    owned: Annotated[bool, Where(lambda room, _: via(room.owner_id, Person).id > 0)]


EMPTY = {
    "owner": None,
    "inside": None,
    "rooms": [],
    "notes": [],
    "notes__count": 0,
    "notes__id_max": None,
    "tags": [],
    "tags__count": 0,
    "lock": None,
    "quiet": True,
    "owned": False,
}


db = tables_of(Base)


class TestTheRowsOfOthers:
    """A room of mine to which only rows of another tenant, and deleted ones, are tied."""

    @pytest.fixture
    def room(self, db):
        with Everything(db) as every:
            stranger = every.people.add(Person(tenant=THEIRS))
            gone = every.people.add(Person(deleted=True))
            outer = every.rooms.add(Room(owner_id=stranger.id, tenant=THEIRS))
            mine = every.rooms.add(Room(owner_id=gone.id, inside_id=outer.id))
            inner = every.rooms.add(Room(owner_id=stranger.id, inside_id=mine.id, tenant=THEIRS))
            every.notes.add(Note(room_id=mine.id, author_id=stranger.id, tenant=THEIRS))
            every.notes.add(Note(room_id=mine.id, author_id=stranger.id, deleted=True))
            tag, other = every.tags.add_many([Tag(tenant=THEIRS), Tag()])
            every.room_tags.add(RoomTag(room_id=mine.id, tag_id=tag.id))
            every.room_tags.add(RoomTag(room_id=mine.id, tag_id=other.id, tenant=THEIRS))
            every.locks.add(Lock(room_id=inner.id))
        return mine.id

    def test_are_nowhere_in_a_view(self, db, room):
        with House(db, context=MINE) as house:
            assert house.rooms.get(room, into=RoomView).model_dump() == {"id": room, **EMPTY}
            assert [one.id for one in house.rooms.find(into=RoomView)] == [room]
            assert house.rooms.page(RoomQuery(), into=RoomView).items == [house.rooms.one(into=RoomView)]

    def test_are_there_for_their_own_tenant(self, db, room):
        with House(db, context=THEIRS) as house:
            outer, inner = house.rooms.find(into=RoomView, order_by="id")
        assert outer.owner == inner.owner is not None
        assert (outer.rooms, inner.inside) == ([], None)  # the room in between is another tenant's
        assert inner.lock is not None

    def test_are_there_where_nothing_is_scoped(self, db, room):
        with Everything(db) as every:
            found = every.rooms.get(room, into=RoomView)
        assert (found.notes__count, found.tags__count, len(found.rooms)) == (2, 2, 1)
        assert [note.author == found.owner for note in found.notes] == [False, False]
        assert found.inside is not None
        assert not found.quiet

    def test_are_not_nested_in_a_row_that_may_be_seen(self, db, room):
        with Everything(db) as every:
            stranger = every.people.one(tenant=THEIRS)
            note = every.notes.add(Note(room_id=room, author_id=stranger.id))
        with House(db, context=MINE) as house:
            found = house.rooms.get(room, into=RoomView)
        assert found.notes == [NoteView(id=note.id, author=None)]
        assert (found.notes__count, found.notes__id_max, found.quiet) == (1, note.id, False)

    def test_the_scopes_cost_no_statement(self, db, room):
        with House(db, context=MINE) as house, query_budget(1 + 4 + 2 + 3 + 1 + 2):
            house.rooms.get(room, into=RoomView)

    def test_an_async_unit_confines_as_well(self):
        asyncio.run(read_asynchronously())


class TestWhatIsRefused:
    def test_a_field_that_cannot_be_none_over_a_scoped_table(self, db):
        class Owned(BaseModel):
            owner: Id

        with House(db, context=MINE) as house, pytest.raises(QueryError) as caught:
            house.rooms.find(into=Owned)
        why = "cannot be None, but the scope of People may hide the row; annotate Id | None"
        assert str(caught.value) == f"Owned.owner: {why}"
        with Everything(db) as every:
            assert every.rooms.find(into=Owned) == []

    def test_also_inside_a_nested_view(self, db):
        class Signed(BaseModel):
            author: Id

        class Signs(BaseModel):
            notes: list[Signed]

        with (
            House(db, context=MINE) as house,
            pytest.raises(QueryError, match="author: cannot be None"),
        ):
            house.rooms.find(into=Signs)

    @pytest.mark.parametrize("field", ["owner", "notes", "tags", "notes__count", "tags__count"])
    def test_a_scoped_table_that_the_unit_has_no_repository_of(self, db, field):
        class Lonely(BaseUnitOfWork[int]):
            rooms: Rooms

        info = RoomView.model_fields[field]
        view = type("View", (BaseModel,), {"__annotations__": {field: info.annotation}})
        with Lonely(db, context=MINE) as lonely, pytest.raises(QueryError, match="declare a repository of the table"):
            lonely.rooms.find(into=view)
        with pytest.raises(QueryError, match="declare a repository of the table"):
            Rooms(db, context=MINE).find(into=view)


class OwnNotes(AllNotes):
    def scope(self) -> bool:
        return fields(Note).tenant == self.context


class KeptNotes(AllNotes):
    def scope(self) -> bool:
        return not_(fields(Note).deleted)


class Twice(BaseUnitOfWork[int]):
    rooms: Rooms
    own: OwnNotes
    kept: KeptNotes


class Noted(BaseModel):
    notes: list[Id]
    notes__count: int


def test_the_scopes_of_all_repositories_over_a_table_apply(db):
    with Everything(db) as every:
        person = every.people.add(Person())
        room = every.rooms.add(Room(owner_id=person.id))
        own, _, _ = every.notes.add_many(
            Note(room_id=room.id, author_id=person.id, tenant=tenant, deleted=deleted)
            for tenant, deleted in ((MINE, False), (MINE, True), (THEIRS, False))
        )
    with Twice(db, context=MINE) as twice:
        assert twice.rooms.one(into=Noted) == Noted(notes=[Id(id=own.id)], notes__count=1)


class AsyncRooms(AsyncBaseRepository[Room, int]):
    model = RoomRow


class AsyncPeople(AsyncBaseRepository[Person, int]):
    model = PersonRow

    def scope(self) -> bool:
        return fields(Person).tenant == self.context


class AsyncHouse(AsyncBaseUnitOfWork[int]):
    rooms: AsyncRooms
    people: AsyncPeople


class Owned(BaseModel):
    owner: Id | None


async def read_asynchronously():
    db = InMemoryDatabase()
    with Everything(db) as every:
        stranger, friend = every.people.add_many([Person(tenant=THEIRS), Person()])
        every.rooms.add_many([Room(owner_id=stranger.id), Room(owner_id=friend.id)])
    async with AsyncHouse(db, context=MINE) as house:
        found = await house.rooms.find(into=Owned, order_by="id")
    assert found == [Owned(owner=None), Owned(owner=Id(id=friend.id))]

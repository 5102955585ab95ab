"""Pydantic models, dataclasses, value objects and renamed columns: what is stored comes back as an equal entity."""

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Literal

import pytest
import sqlalchemy as sa
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator
from sqlalchemy.orm import Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    InvalidValueError,
    MappingError,
    NotFoundError,
    QueryError,
    QueryObject,
    UniqueViolationError,
    desc,
    fields,
    icontains,
)
from tests.units.domain import Todo, TodoRow, own_base

Base = own_base()


class UserRow(Base):
    __tablename__ = "app_user"
    id: Mapped[int] = mapped_column(primary_key=True)
    mail: Mapped[str] = mapped_column("mail_address", sa.String(50), unique=True)
    user_id: Mapped[int | None]
    street: Mapped[str | None] = mapped_column(sa.String(30))
    city: Mapped[str | None] = mapped_column(sa.String(30))


@pytest.fixture
def db(empty):
    return empty(Base)


class User(BaseModel):
    """Aliases are for the outside; a row's values are given by name."""

    id: int | None = Field(default=None, alias="ID")
    mail: str = Field(validation_alias="e-mail")
    owner: int | None = Field(default=None, serialization_alias="ownerId")


class Users(BaseRepository[User, int]):
    model = UserRow
    columns = {"owner": "user_id"}


class UserQuery(QueryObject[User]):
    owner_in: list[int] | None = None
    mail_contains: str | None = None
    order_by: Literal["owner", "-owner"] | None = None


class Club(BaseUnitOfWork):
    users: Users


u = fields(User)


def user(mail, owner=None):
    return User(**{"e-mail": mail, "owner": owner})


def test_aliases_and_renamed_columns_do_not_get_in_the_way(db):
    with Club(db) as club:
        stored = club.users.add_many([user("a@x", 7), user("b@x", 5), user("c@x")])

        assert [(one.mail, one.owner) for one in stored] == [("a@x", 7), ("b@x", 5), ("c@x", None)]
        assert club.users.get(stored[0].id) == stored[0]
        assert club.users.find(u.owner == 5) == [stored[1]] == club.users.find(owner=5)
        assert club.users.find(UserQuery(owner_in=[7, 5], order_by="-owner")) == stored[:2]
        assert [one.owner for one in club.users.find(order_by=desc(u.owner))] == [7, 5, None]
        assert club.users.update(stored[2].model_copy(update={"owner": 1})).owner == 1
        assert club.users.patch(stored[2].id, {"owner": None}).owner is None
        assert club.users.update_where(u.mail == "a@x", set_={"owner": 9}) == 1
        assert club.users.exists(owner=9)


def test_the_column_s_name_is_no_field(db):
    with Club(db) as club:
        club.users.add(user("a@x"))
        for call in (
            lambda: club.users.find(user_id=1),
            lambda: club.users.find(order_by="user_id"),
            lambda: club.users.patch(1, {"user_id": 1}),
            lambda: club.users.update_where(u.mail == "a@x", set_={"mail_address": "x"}),
        ):
            with pytest.raises(QueryError):
                call()


def test_errors_name_fields_not_columns(db):
    with Club(db) as club:
        with pytest.raises(InvalidValueError) as wrong:
            club.users.add(user("a@x", 2**40))
        club.users.add(user("a@x"))
        with pytest.raises(UniqueViolationError) as taken, club.savepoint():
            club.users.add(user("a@x"))

    assert wrong.value.field == "owner"
    assert taken.value.fields == ("mail",)
    assert taken.value.constraint is None


def test_columns_the_entity_leaves_out_stay_as_they_are(db):
    class Full(BaseModel):
        id: int | None = None
        mail: str
        user_id: int | None = None
        street: str | None = None
        city: str | None = None

    class Everyone(BaseRepository[Full, int]):
        model = UserRow

    with Everyone(db) as everyone:
        everyone.add(Full(mail="a@x", street="High Street", city="York"))
    with Club(db) as club:
        club.users.update(User.model_construct(id=1, mail="b@x", owner=3))
        club.users.save(User.model_construct(id=1, mail="c@x", owner=4))
        club.users.save(User.model_construct(id=2, mail="d@x", owner=None))

    assert Everyone(db).find() == [
        Full(id=1, mail="c@x", user_id=4, street="High Street", city="York"), Full(id=2, mail="d@x")]  # fmt: skip


@dataclass(frozen=True)
class Address:
    street: str
    city: str


@dataclass(frozen=True, slots=True)
class Person:
    mail: str
    address: Address | None = None
    id: int | None = None


class People(BaseRepository[Person, int]):
    model = UserRow

    def to_domain(self, row):
        address = Address(row.street, row["city"]) if row.street is not None else None
        return Person(row.mail, address, row.id)

    def to_row(self, entity):
        street, city = (entity.address.street, entity.address.city) if entity.address else (None, None)
        return {"id": entity.id, "mail": entity.mail, "street": street, "city": city}


class Misspelt(People):
    def to_row(self, entity):
        return {"nope": entity.mail}


def test_a_value_object_is_kept_in_columns_of_its_own(db):
    there = Address("High Street", "York")
    with People(db) as people:
        stored = people.add_many([Person("a@x", there), Person("b@x")])

        assert stored == [Person("a@x", there, 1), Person("b@x", None, 2)]
        assert people.find(fields(Person).mail == "a@x") == stored[:1]
        assert people.update(Person("a@x", Address("Low Street", "Leeds"), 1)) == people.get(1)
        assert people.save(Person("b@x", there, 2)).address == there
        assert people.get_many([2, 1])[0].address == there
        with pytest.raises(QueryError):
            people.find(fields(Person).address == there)
        with pytest.raises(InvalidValueError) as caught:
            people.add(Person("c@x", Address("x" * 31, "York")))
        with pytest.raises(MappingError):
            Misspelt(people.unit).add(Person("c@x"))
    assert caught.value.field == "street"


def test_a_record_suggests_the_nearest_column(db):
    class Misread(People):
        def to_domain(self, row):
            return row.stret

    with People(db) as people:
        people.add(Person("a@x"))
    with pytest.raises(AttributeError, match="'street'"):
        Misread(db).find()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KeywordOnly:
    mail: str
    owner: int | None = None
    seen: int = field(init=False, default=3)


@dataclass
class Balance:
    name: str
    balance: int = 0


def test_keyword_only_fields_and_fields_that_are_not_given_are_understood(db):
    class Kept(BaseRepository[KeywordOnly, int]):
        model = UserRow
        columns = {"owner": "user_id"}
        natural_key = ("mail",)

    with Kept(db) as kept:
        assert kept.add(KeywordOnly(mail="a@x", owner=2)) == KeywordOnly(mail="a@x", owner=2)
        assert kept.save(KeywordOnly(mail="a@x", owner=3)).owner == 3


class Card(BaseModel):
    mail: str
    user_id: int | None = None


class Cards(BaseRepository[Card, int]):
    model = UserRow
    natural_key = ("mail",)


class Keyless(BaseRepository[Card, int]):
    model = UserRow


def test_an_entity_without_key_is_identified_by_its_natural_key(db):
    with Cards(db) as cards:
        cards.add_many([Card(mail="a@x", user_id=1), Card(mail="b@x", user_id=2)])

        assert cards.update(Card(mail="b@x", user_id=5)) == Card(mail="b@x", user_id=5)
        assert cards.save(Card(mail="a@x", user_id=6)) == Card(mail="a@x", user_id=6)
        assert cards.save(Card(mail="c@x")) == Card(mail="c@x")
        cards.remove(Card(mail="a@x"))
        assert cards.get(2) == Card(mail="b@x", user_id=5)
        assert cards.get_many([3, 2]) == [Card(mail="c@x"), Card(mail="b@x", user_id=5)]
        assert cards.patch(3, {"user_id": 9}).user_id == 9
        cards.delete(2)
        assert cards.find(order_by="-mail") == [Card(mail="c@x", user_id=9)]
        for call in (cards.update, cards.remove):
            with pytest.raises(NotFoundError) as caught:
                call(Card(mail="nobody"))
            assert (caught.value.entity, caught.value.key) == (Card, "nobody")


def test_an_entity_without_key_or_identity_cannot_be_written_over(db):
    with Keyless(db) as cards:
        cards.add(Card(mail="a@x"))
        for call in (cards.update, cards.remove, cards.save):
            with pytest.raises((MappingError, InvalidValueError, QueryError)):
                call(Card(mail="a@x", user_id=1))
        assert cards.get(1) == Card(mail="a@x")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    id: int | None = None
    mail: str

    @field_validator("mail")
    @classmethod
    def _address(cls, value):
        if "@" not in value:
            raise ValueError(value)
        return value


class Stricts(BaseRepository[Strict, int]):
    model = UserRow


def test_a_row_the_entity_refuses_is_a_mapping_error_without_values(db):
    with Cards(db) as cards:
        cards.add(Card(mail="secret"))

    with pytest.raises(MappingError) as caught:
        Stricts(db).get(1)
    assert "secret" not in str(caught.value)
    with Stricts(db) as stricts:
        assert stricts.add(Strict(mail="a@x")) == Strict(id=2, mail="a@x")


class Named(BaseModel):
    mail: str
    user_id: int | None


def test_a_smaller_model_selects_its_columns_only(db):
    with Cards(db) as cards:
        cards.add_many([Card(mail="a@x", user_id=2), Card(mail="b@x", user_id=1)])

        assert cards.find(order_by=fields(Card).user_id, limit=1, into=Named) == [Named(mail="b@x", user_id=1)]
        assert cards.find(icontains(fields(Card).mail, "A"), into=Named) == [Named(mail="a@x", user_id=2)]
        with pytest.raises(QueryError, match="has no field 'address'"):
            cards.find(into=Person)
        with pytest.raises((QueryError, MappingError)):
            cards.find(into=dict)


def test_annotations_with_constraints_are_read_through(empty):
    class EventRow(own_base()):
        __tablename__ = "event"
        id: Mapped[int] = mapped_column(primary_key=True)
        at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))

    class Event(BaseModel):
        id: int | None = None
        at: AwareDatetime

    class Events(BaseRepository[Event, int]):
        model = EventRow

    moment = datetime.fromisoformat("2024-01-01T12:00:00+02:00")
    with Events(empty(EventRow)) as events:
        assert events.add(Event(at=moment)).at == moment
        assert events.exists(fields(Event).at <= moment)


class Forward(BaseModel):
    id: int | None = None
    key: "ShortKey"
    value: str = ""
    done: bool = False
    priority: int = 0
    due: date | None = None


ShortKey = Annotated[str, Field(max_length=3)]


def test_a_model_with_forward_references_validates_patches(other):
    class Forwards(BaseRepository[Forward, int]):
        model = TodoRow

    with Forwards(other) as forwards:
        added = forwards.add(Forward(key="abc"))
        with pytest.raises(InvalidValueError) as caught:
            forwards.patch(added.id, {"key": "abcd"})

    assert caught.value.field == "key"


def test_the_model_of_a_base_class_serves_derived_entities(other):
    class Special(Todo): ...

    class Specials(BaseRepository[Special, int]):
        model = TodoRow

    with Specials(other) as specials:
        assert type(specials.add(Special(key="a"))) is Special
        assert specials.find(fields(Todo).key == "a")[0].key == "a"

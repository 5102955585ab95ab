"""Values set by the name of a field that is no scalar: checked as the entity would check them, before they are sent."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
import sqlalchemy as sa
from attrs import define
from pydantic import BaseModel, Field, HttpUrl, PydanticUserError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, InvalidValueError, fields
from sqlrepo.sqlalchemy.types import Json


class Base(DeclarativeBase): ...


class Address(BaseModel):
    street: str


@dataclass
class Place:
    street: str


class Row(Base):
    __tablename__ = "assigned"
    id: Mapped[int] = mapped_column(primary_key=True)
    nums: Mapped[list[int] | None] = mapped_column(sa.JSON(none_as_null=True))
    short: Mapped[list[str] | None] = mapped_column(sa.JSON(none_as_null=True))
    doc: Mapped[dict[str, int] | None] = mapped_column(sa.JSON(none_as_null=True))
    tags: Mapped[set[str] | None] = mapped_column(Json(set[str]))
    pair: Mapped[tuple[int, str] | None] = mapped_column(sa.JSON(none_as_null=True))
    home: Mapped[Address | None] = mapped_column(Json(Address))
    raw: Mapped[Address | None] = mapped_column(sa.JSON(none_as_null=True))
    place: Mapped[Place | None] = mapped_column(Json(Place))
    either: Mapped[int | str | None] = mapped_column(Json())
    kind: Mapped[Literal["a", 1] | None] = mapped_column(Json())
    anything: Mapped[Any] = mapped_column(Json(), nullable=True)
    link: Mapped[str | None] = mapped_column(sa.String(60))
    always: Mapped[list[int]] = mapped_column(sa.JSON(none_as_null=True), nullable=True)


class Entity(BaseModel):
    id: int | None = None
    nums: list[int] | None = None
    short: Annotated[list[str] | None, Field(max_length=2)] = None
    doc: dict[str, int] | None = None
    tags: set[str] | None = None
    pair: tuple[int, str] | None = None
    home: Address | None = None
    raw: Address | None = None
    place: Place | None = None
    either: int | str | None = None
    kind: Literal["a", 1] | None = None
    anything: Any = None
    link: HttpUrl | None = None
    always: list[int] = []


@dataclass
class Plain:
    id: int | None = None
    nums: list[int] | None = None
    tags: set[str] | None = None


@define
class WithAttrs:
    id: int | None = None
    nums: list[int] | None = None
    tags: set[str] | None = None


WRONG = {
    "nums": ["abc", {}, ["1"], [1.5], [[1]], 3],
    "short": ["ab", [1], ["a", "b", "c"]],
    "doc": ["abc", [1], {"a": "1"}, {"a": None}],
    "tags": ["abc", ["a"], {1}],
    "pair": ["ab", [1], [1, 2], ("1", "a")],
    "home": ["abc", {"street": "s"}, 1],
    "raw": ["abc", {"street": 1}, {}],
    "place": ["abc", {"street": "s"}],
    "either": [1.5, [1]],
    "kind": ["b", 2],
    "link": ["no link", 1],
    "always": [None, "abc"],
}
RIGHT = {
    "nums": [[], [1, 2], None],
    "short": [["a", "b"]],
    "doc": [{}, {"a": 1}],
    "tags": [{"a"}],
    "pair": [(1, "a"), [1, "a"]],
    "home": [Address(street="s")],
    "raw": [{"street": "s"}],
    "place": [Place("s")],
    "either": [1, "a"],
    "kind": ["a", 1],
    "anything": ["abc", [1, {"a": None}], None],
    "link": ["https://example.org/"],
    "always": [[1]],
}


def pairs(table):
    return [(name, value) for name, values in table.items() for value in values]


class Entities(BaseRepository[Entity, int]):
    model = Row


@pytest.fixture
def stored(empty):
    with Entities(empty(Base)) as entities:
        yield entities, entities.add(Entity(nums=[1], always=[2])), fields(Entity)


@pytest.mark.parametrize(("name", "value"), pairs(WRONG))
def test_a_value_that_the_entity_could_not_hold_is_refused(stored, name, value):
    entities, entity, t = stored
    for call in (
        lambda: entities.patch(entity.id, {name: value}),
        lambda: entities.update_where(t.id == entity.id, set_={name: value}),
    ):
        with pytest.raises(InvalidValueError) as caught:
            call()
        assert caught.value.field == name
        assert not isinstance(value, str) or value not in str(caught.value)
    assert entities.get(entity.id) == entity


@pytest.mark.parametrize(("name", "value"), pairs(RIGHT))
def test_a_value_that_the_entity_can_hold_is_read_as_the_entity_reads_it(stored, name, value):
    entities, entity, t = stored
    wanted = Entity.model_validate({"id": entity.id, "nums": [1], "always": [2], name: value})
    assert entities.update_where(t.id == entity.id, set_={name: value}) == 1
    assert entities.get(entity.id) == wanted
    assert entities.patch(entity.id, {name: value}) == wanted


@pytest.mark.parametrize("entity", [Plain, WithAttrs, Row])
def test_the_annotation_counts_in_classes_that_validate_nothing(empty, entity):
    class Kept(BaseRepository[entity, int]):
        model = Row

    with Kept(empty(Base)) as kept:
        key = kept.add(entity(nums=[1], tags={"a"})).id
        for name, value in (("nums", "abc"), ("nums", ["1"]), ("tags", ["a"]), ("tags", "abc")):
            with pytest.raises(InvalidValueError, match=name):
                kept.patch(key, {name: value})
            with pytest.raises(InvalidValueError, match=name):
                kept.update_where(fields(entity).id == key, set_={name: value})
        assert kept.patch(key, {"nums": None, "tags": {"b"}}).tags == {"b"}


def test_a_model_of_changes_is_checked_alike(stored):
    class Changes(BaseModel):
        nums: Any = None

    entities, entity, _ = stored
    with pytest.raises(InvalidValueError, match="nums"):
        entities.patch(entity.id, Changes(nums="abc"))
    assert entities.patch(entity.id, Changes(nums=[3])).nums == [3]


def test_an_annotation_that_cannot_be_read_checks_nothing(empty):
    def init(self, **values):
        vars(self).update(values)

    class Unreadable(dict):
        @classmethod
        def __get_pydantic_core_schema__(cls, *_):  # as Pydantic refuses a TypedDict of typing before Python 3.12
            raise PydanticUserError("unreadable", code=None)

    annotations = {"id": "int | None", "nums": "list['Nowhere']", "doc": Unreadable}
    odd = dataclass(init=False)(type("Odd", (), {"__annotations__": annotations, "__init__": init}))

    class Odds(BaseRepository[odd, int]):
        model = Row

    with Odds(empty(Base)) as odds:
        key = odds.add(odd(id=1, nums=[1], doc={})).id
        assert odds.patch(key, {"nums": "abc", "doc": "def"}) == odd(id=1, nums="abc", doc="def")

"""What the contract says about stored data: red for a repository that loses some, green where nothing is wrong."""

import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Numeric,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database
from sqlrepo.testing import Harness, RepositoryContract
from sqlrepo.testing.contract import cases_of
from sqlrepo.testing.subject import Subject
from tests.contract import mutants
from tests.contract.task import Tasks
from tests.contract.task import change as change_task
from tests.contract.task import make as make_task

CASES = cases_of(RepositoryContract)
OF_WRITING = tuple(name for name, case in CASES.items() if case.clause.startswith("6."))


class Base(DeclarativeBase): ...


def stores(trigger=None):
    def sqlite():
        database = Database("sqlite://")
        Base.metadata.create_all(database.engine, checkfirst=False)
        with database.engine.begin() as connection:
            for statement in [trigger] if trigger else []:
                connection.execute(text(statement))
        return database

    return [sqlite] if trigger else [InMemoryDatabase, sqlite]


def run(make_store, repository, make, change, *, names=OF_WRITING, fill=None, **options):
    """Run cases, each on a store of its own; return the errors by clause, the skipped clauses and what was recorded."""
    failed, unchecked, recorded = {}, set(), {}
    for name in names:
        store = make_store()
        if fill:
            fill(store)
        harness = Harness(open=lambda: repository(store), make=make, change=change, **options)  # noqa: B023
        try:
            CASES[name](RepositoryContract(), Subject(harness, recorded.__setitem__))
        except pytest.skip.Exception:
            unchecked.add(CASES[name].clause)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # any error will do
            failed.setdefault(CASES[name].clause, str(error))
        store.dispose()
    return failed, unchecked, recorded.get("sqlrepo_unproved")


# -- nothing is wrong


class Tag(BaseModel):
    id: int | None = None
    name: str


class TagRow(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)


class Tags(BaseRepository[Tag, int]):
    model = TagRow


class Code(BaseModel):
    code: str


class CodeRow(Base):
    __tablename__ = "code"
    code: Mapped[str] = mapped_column(String(9), primary_key=True)


class Codes(BaseRepository[Code, str]):
    model = CodeRow


@dataclass
class Page:
    slug: str
    title: str
    id: int | None = None


class PageRow(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(50), unique=True)
    title: Mapped[str] = mapped_column(String(50), unique=True)


class Pages(BaseRepository[Page, int]):
    model = PageRow


@dataclass
class Slot:
    shelf: str
    place: int
    id: int | None = None


class SlotRow(Base):
    __tablename__ = "slot"
    __table_args__ = (UniqueConstraint("shelf", "place"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[str] = mapped_column(String(50))
    place: Mapped[int]


class Slots(BaseRepository[Slot, int]):
    model = SlotRow


@dataclass
class Member:
    nick: str
    tag: int
    backup: int | None = None
    id: int | None = None
    revision: int | None = None


class MemberRow(Base):
    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    nick: Mapped[str] = mapped_column(String(50), unique=True)
    tag: Mapped[int] = mapped_column(ForeignKey("tag.id"), unique=True)
    backup: Mapped[int | None] = mapped_column(ForeignKey("tag.id"))
    revision: Mapped[int]


class Members(BaseRepository[Member, int]):
    model = MemberRow
    version = "revision"


def fill_tags(store):
    with Tags(store) as tags:
        tags.add_many(Tag(name=f"t{n}") for n in range(1, 17))


class Mood(Enum):
    GOOD = "g"
    BAD = "b"


class Event(BaseModel):
    """One whose fields `make` may leave at their defaults, with all that a class or a table may forbid."""

    id: int | None = None
    name: str = Field(default="event", pattern="^[a-z]*$")
    kind: Literal["a", "b"] = "a"
    mood: Mood = Mood.GOOD
    label: Mood = Mood.GOOD  # in a column of its name as text
    price: Decimal = Decimal("1.5")
    begin: int = 1
    end: int = 2
    tags: list[str] = []
    at: datetime = datetime(2024, 1, 1)  # noqa: DTZ001
    done: bool = False


class EventRow(Base):
    __tablename__ = "event"
    __table_args__ = (CheckConstraint('"begin" < "end"', name="order"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    kind: Mapped[str] = mapped_column(String(5))
    mood: Mapped[Mood]
    label: Mapped[str] = mapped_column(String(5))
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2))
    begin: Mapped[int] = mapped_column()
    end: Mapped[int] = mapped_column()
    tags: Mapped[list[str]] = mapped_column(JSON(none_as_null=True))
    at: Mapped[datetime] = mapped_column(DateTime)
    done: Mapped[bool]


class Events(BaseRepository[Event, int]):
    model = EventRow
    memory_checks = {"order": lambda row: row["begin"] < row["end"]}

    def to_row(self, entity):
        return {**super().to_row(entity), "label": entity.label and entity.label.value}

    def to_domain(self, row):
        return super().to_domain({**row, "label": Mood(row["label"])})


def change_event(event):
    return event.model_copy(update={"name": event.name + "x"})


def renamed(field):
    return lambda entity: (
        entity.model_copy(update={field: entity.name + "!"})
        if isinstance(entity, BaseModel)
        else replace(entity, **{field: getattr(entity, field) + "!"})
    )


HEALTHY = {
    "unique-field": (Tags, lambda n: Tag(name=f"t{n}"), renamed("name")),
    "only-a-key": (Codes, lambda n: Code(code=f"c{n}"), lambda code: code),
    "all-fields-unique": (Pages, lambda n: Page(f"s{n}", f"t{n}"), lambda p: replace(p, slug=p.slug + "!", title="!")),
    "composite-unique": (Slots, lambda n: Slot("abc"[n % 3], n), lambda one: replace(one, place=one.place + 100)),
    "same-part": (Slots, lambda n: Slot("a", n), lambda one: replace(one, place=one.place + 100)),
    "foreign-key": (Members, lambda n: Member(f"n{n}", n, backup=1), renamed("nick")),
    "defaults": (Events, lambda n: Event(name="abcdefghijklmnop"[n]), change_event),
}


@pytest.mark.parametrize("make_store", stores())
@pytest.mark.parametrize("shape", HEALTHY)
def test_nothing_is_wrong_with_any_shape(shape, make_store):
    repository, make, change = HEALTHY[shape]
    names = [name for name, case in CASES.items() if case.clause.partition(".")[0] in ("1", "6", "7", "9")]

    failed, unchecked, _ = run(
        make_store, repository, make, change, names=names, fill=fill_tags if repository is Members else None
    )

    assert failed == {}
    assert not unchecked & {"6.1", "6.2", "6.6", "6.10", "6.17", "6.19", "6.21", "6.22"}


# -- values that the harness does not vary


def test_loss_is_found_though_make_leaves_a_field_at_its_default():
    class Forgetful(Events):
        def to_row(self, entity):
            return {**super().to_row(entity), "done": False, "price": Decimal("1.5"), "kind": "a"}

    failed, _, _ = run(InMemoryDatabase, Forgetful, *HEALTHY["defaults"][1:], names=["test_add_gives_what_is_stored"])

    for lost in ("done: given True, stored False", "price: given", "kind: given 'b', stored 'a'"):
        assert f"Event.{lost}" in failed["6.1"]


def test_field_with_one_value_is_recorded():
    make = HEALTHY["defaults"][1]

    *_, recorded = run(InMemoryDatabase, Events, make, change_event, names=["test_every_value_comes_back_as_given"])

    assert recorded == "6.21: not proved for tags, which has one value in every entity"


def test_report_names_what_is_not_proved(tmp_path):
    program = """
from tests.contract.test_losses import *
class TestEvents(RepositoryContract[Event, int]):
    @pytest.fixture
    def harness(self):
        db = InMemoryDatabase()
        return Harness(
            open=lambda: Events(db), make=HEALTHY["defaults"][1], change=change_event, normalises={"name"}
        )
"""
    (tmp_path / "test_events.py").write_text(program)
    options = ["-q", "-p", "sqlrepo.testing.plugin", "-p", "no:cacheprovider", "-k", "TestEvents and as_given"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path), "--rootdir", str(tmp_path)]

    result = subprocess.run(command, capture_output=True, text=True)

    assert "  6.21: not proved for tags, which has one value in every entity\n" in result.stdout
    assert "  6.22: `normalises` names name, which kept every value\n" in result.stdout


# -- what the harness declares


class LowerCaseTasks(Tasks):
    def to_row(self, entity):
        return {**super().to_row(entity), "key": entity.key and entity.key.lower()}


def test_field_that_is_normalised_on_purpose_may_change():
    failed, unchecked, recorded = run(
        InMemoryDatabase, LowerCaseTasks, make_task, change_task, names=tuple(CASES), normalises={"key"}
    )

    assert (failed, unchecked, recorded) == (
        {},
        set(),
        "6.21: not proved for parent, which has one value in every entity",
    )


def test_field_that_most_cases_would_choose_may_be_normalised():
    class Lowered(Tasks):
        def to_row(self, entity):
            return {**super().to_row(entity), "note": entity.note and entity.note.lower()}

    failed, unchecked, _ = run(
        InMemoryDatabase, Lowered, make_task, change_task, names=tuple(CASES), normalises={"note"}
    )

    assert (failed, unchecked) == ({}, {"4.5"})  # no other text may be None


def test_normalised_value_must_be_stable():
    class Unstable(Tasks):
        def to_row(self, entity):
            return {**super().to_row(entity), "note": entity.note and entity.note[:-1]}

    failed, _, _ = run(InMemoryDatabase, Unstable, make_task, change_task, normalises={"note"})

    assert set(failed) & mutants.READING == set()
    assert "Task.note: read 'Note ', written and read again 'Note'" in failed["6.22"]


@pytest.mark.parametrize("option", ["normalises", "generated"])
def test_unknown_field_is_refused(option):
    harness = Harness(open=lambda: Tasks(InMemoryDatabase()), make=make_task, change=change_task, **{option: {"nte"}})

    with pytest.raises(TypeError, match=rf"the harness's `{option}`: Task has no field 'nte'; did you mean 'note'\?"):
        Subject(harness)


# -- validators, types and triggers


class Counter(BaseModel):
    id: int | None = None
    count: Annotated[int, AfterValidator(lambda count: count + 1)]


class CounterRow(Base):
    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int]


class Counters(BaseRepository[Counter, int]):
    model = CounterRow


@pytest.mark.parametrize("make_store", stores())
def test_validator_that_is_not_idempotent_is_found(make_store):
    failed, _, _ = run(
        make_store, Counters, lambda n: Counter(count=n), lambda one: one.model_copy(update={"count": one.count + 50})
    )

    assert "Counter.count: given 2, stored 3" in failed["6.1"]
    assert "Counter.count: read 3, written and read again 4" in failed["6.22"]


class Lower(TypeDecorator):
    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value and value.lower()


class Word(BaseModel):
    id: int | None = None
    word: str
    note: str | None = None


class WordRow(Base):
    __tablename__ = "word"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(Lower, unique=True)
    note: Mapped[str | None] = mapped_column(String(20))


class Words(BaseRepository[Word, int]):
    model = WordRow


def make_word(n):
    return Word(word=f"word {n}", note=f"Note {n}")


def change_word(word):
    return word.model_copy(update={"note": f"{word.note}!"})


@pytest.mark.parametrize("make_store", stores())
def test_column_type_that_changes_values_is_found(make_store):
    failed, _, _ = run(make_store, Words, make_word, change_word)
    declared, _, _ = run(make_store, Words, make_word, change_word, normalises={"word"})

    assert "Word.word: given 'A', stored 'a'" in failed["6.21"]
    assert declared == {}


NOTES = "CREATE TRIGGER lower AFTER {0} ON word BEGIN UPDATE word SET note = lower(note) WHERE id = new.id; END"


@pytest.mark.parametrize(
    ("event", "found"), [("INSERT", {"6.2", "6.1", "6.10", "6.17", "6.19"}), ("UPDATE OF note", {"6.6", "6.17"})]
)
def test_trigger_that_changes_values_is_found(event, found):
    [make_store] = stores(NOTES.format(event))
    failed, _, _ = run(make_store, Words, make_word, change_word)

    assert found & set(failed) == found
    assert "Word.note: given 'Note " in failed[min(found)]

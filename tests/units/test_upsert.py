"""Upserts: a row is inserted, or the one that agrees with it in a unique constraint is written over."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import DateTime, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, QueryError, ReadOnlyError, UniqueViolationError

STAMPS = iter(range(1, 10_000))


def stamp():
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=next(STAMPS))


class Base(DeclarativeBase): ...


class Setting(BaseModel):
    id: int | None = None
    owner: str
    name: str
    code: str | None = None
    value: int = 0
    made: datetime | None = None
    seen: datetime | None = None
    version: int | None = None


class SettingRow(Base):
    __tablename__ = "upsert_setting"
    __table_args__ = (UniqueConstraint("whose", "name", name="uq_owner_name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column("whose", String(20))
    name: Mapped[str] = mapped_column(String(20))
    code: Mapped[str | None] = mapped_column(String(20), unique=True)
    value: Mapped[int]
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=stamp)
    seen: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), onupdate=stamp)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Settings(BaseRepository[Setting, int]):
    model = SettingRow


class Office(BaseUnitOfWork):
    settings: Settings


ON = ("owner", "name")


def setting(name="a", **given):
    return Setting(**{"owner": "ann", "name": name, **given})


@pytest.fixture
def office(empty):
    db = empty(Base)
    return lambda **options: Office(db, **options)


def everything(office):
    with office() as unit:
        return unit.settings.find()


def test_order_and_spelling_of_on_do_not_matter(office):
    with office() as unit:
        unit.settings.upsert(setting(code="x"), on=["name", "owner"])
        assert not unit.settings.upsert(setting("b", code="x", value=5), on="code").created
        assert unit.settings.one().name == "b"


def test_upsert_by_key(office):
    with office() as unit:
        stored = unit.settings.upsert(setting(), on="id").entity
        changed = unit.settings.upsert(stored.model_copy(update={"name": "z"}), on="id")
        far = unit.settings.upsert(setting("far", id=stored.id + 50), on="id")
        assert (changed.created, changed.entity.id, changed.entity.name) == (False, stored.id, "z")
        assert (far.created, far.entity.id) == (True, stored.id + 50)
        assert unit.settings.add(setting("next")).id > stored.id + 50


def test_what_a_default_filled_in_stays(office):
    with office() as unit:
        first = unit.settings.upsert(setting(), on=ON).entity
        second = unit.settings.upsert(setting(), on=ON).entity
    assert first.made is not None
    assert second.made == first.made


def test_what_the_entity_gives_is_written(office):
    moment = datetime(2001, 1, 1, tzinfo=UTC)
    with office() as unit:
        unit.settings.upsert(setting(), on=ON)
        assert unit.settings.upsert(setting(made=moment), on=ON).entity.made == moment


def test_writes_are_stamped_and_counted_and_not_compared(office):
    with office() as unit:
        unit.settings.upsert(setting(), on=ON)
        outdated = setting(version=77, seen=datetime(1999, 1, 1, tzinfo=UTC))
        stored = [unit.settings.upsert(outdated, on=ON).entity for _ in range(2)]
    assert [one.version for one in stored] == [2, 3]
    assert stored[1].seen > stored[0].seen > datetime(2019, 1, 1, tzinfo=UTC)


def test_none_agrees_with_nothing(office):
    with office() as unit:
        unit.settings.add(setting())
        assert unit.settings.upsert(setting("b"), on="code").created
        assert unit.settings.upsert(setting("c"), on="code").created
    assert len(everything(office)) == 3


@pytest.mark.parametrize("update", [None, (), ("value",)])
def test_other_unique_constraint_is_violated(office, update):
    with office() as unit:
        unit.settings.add(setting("a", code="x"))
        with pytest.raises(UniqueViolationError) as caught, unit.savepoint():
            unit.settings.upsert(setting("b", code="x"), on=ON, update=update)
        assert (caught.value.constraint, caught.value.fields) == (None, ("code",))
        with pytest.raises(UniqueViolationError) as caught, unit.savepoint():
            unit.settings.upsert(setting("a", id=99), on="id", update=update)
        assert (caught.value.constraint, caught.value.fields) == ("uq_owner_name", ON)
    assert [one.name for one in everything(office)] == ["a"]


def test_row_that_is_there_may_also_agree_in_another_constraint(office):
    with office() as unit:
        unit.settings.add(setting("a", code="x"))
        assert unit.settings.upsert(setting("a", code="x", value=3), on=ON).entity.value == 3
        assert unit.settings.upsert(setting("a", code="x", value=4), on="code").entity.value == 4


def test_update_may_violate_another_constraint(office):
    with office() as unit:
        unit.settings.add_many([setting("a", code="x"), setting("b", code="y")])
        with pytest.raises(UniqueViolationError) as caught, unit.savepoint():
            unit.settings.upsert(setting("a", code="y"), on=ON)
        assert caught.value.fields == ("code",)
        assert [one.code for one in unit.settings.find()] == ["x", "y"]


def test_last_of_several_that_agree_stands_for_all(office):
    with office() as unit:
        twice = [setting("a", value=1), setting("b"), setting("a", value=2)]
        stored = unit.settings.upsert_many(iter(twice), on=ON)
        assert [(one.name, one.value, one.version) for one in stored] == [("a", 2, 1), ("b", 0, 1), ("a", 2, 1)]
        assert unit.settings.upsert_many([setting("n"), setting("m")], on="code")[0].name == "n"
    assert len(everything(office)) == 4


@pytest.mark.parametrize("on", ["value", (), ("owner",), ("owner", "name", "code"), "nothing", ("made",)])
def test_on_must_be_unique(office, on):
    with office() as unit:
        with pytest.raises(QueryError, match=r"nothing|on="):
            unit.settings.upsert(setting(), on=on)
        assert unit.settings.count() == 0


@pytest.mark.parametrize("update", ["id", "owner", "version", "nothing"])
def test_what_cannot_be_written_over_is_refused(office, update):
    with office() as unit, pytest.raises(QueryError):
        unit.settings.upsert(setting(), on=ON, update=update)


def test_read_only_unit_refuses(office):
    with office(read_only=True) as unit, pytest.raises(ReadOnlyError):
        unit.settings.upsert(setting(), on=ON)


class DraftRow(Base):
    __tablename__ = "upsert_draft"
    __table_args__ = (
        sa.Index("one_draft", "name", unique=True, sqlite_where=sa.text("id > 0"), postgresql_where=sa.text("id > 0")),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class Draft(BaseModel):
    id: int | None = None
    name: str


class Drafts(BaseRepository[Draft, int]):
    model = DraftRow


def test_partial_index_is_no_reason_to_write_over(sqlite):
    with Drafts(sqlite) as drafts, pytest.raises(QueryError, match="neither the key nor a unique constraint"):
        drafts.upsert(Draft(name="a"), on="name")

"""Scopes: a tenant's rows, and those not deleted, are all there are for a repository."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import new_class
from typing import Literal
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    AsyncBaseRepository,
    BaseRepository,
    BaseUnitOfWork,
    InvalidValueError,
    MappingError,
    NotFoundError,
    QueryError,
    QueryObject,
    TransactionAbortedError,
    UniqueViolationError,
    fields,
    in_,
    not_,
)
from sqlrepo.core import scope
from sqlrepo.language.predicate import parametrize
from sqlrepo.testing import query_budget
from tests.units.domain import Colour, Lab, Specimen, Specimens


class Base(DeclarativeBase): ...


class Doc(BaseModel):
    id: int | None = None
    tenant: int
    name: str
    shared: bool = False
    rank: int | None = None
    deleted: bool = False
    version: int | None = None


class DocRow(Base):
    __tablename__ = "scoped_doc"
    __table_args__ = (UniqueConstraint("name", name="uq_name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    name: Mapped[str] = mapped_column(String(20))
    shared: Mapped[bool]
    rank: Mapped[int | None] = mapped_column(server_default="7")
    deleted: Mapped[bool]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class DocQuery(QueryObject[Doc]):
    order_by: Literal["rank", "name"] | None = None
    limit: int = 2


@dataclass
class Caller:
    tenant: int
    asked: int = 0


d = fields(Doc)


class AllDocs(BaseRepository[Doc, int]):
    model = DocRow


class Docs(AllDocs):
    """A tenant's."""

    def scope(self) -> bool:
        self.context.asked += 1
        return d.tenant == self.context.tenant


class LiveDocs(Docs):
    """Those not deleted, which may be deleted by a change."""

    def scope(self) -> bool:
        return super().scope() & not_(d.deleted)

    def write_scope(self) -> bool:
        return super().scope()


class OwnOrShared(AllDocs):
    """Its rows depend on two fields together."""

    def scope(self) -> bool:
        return (d.tenant == self.context.tenant) | d.shared


class Office(BaseUnitOfWork[Caller]):
    everything: AllDocs
    docs: Docs
    live: LiveDocs
    readable: OwnOrShared


@pytest.fixture
def office(empty):
    """Opens a unit for tenant 1; there are two rows of its own, and two of tenant 2."""
    db = empty(Base)
    with Office(db, context=Caller(0)) as unit:
        unit.everything.add_many(
            [
                Doc(id=number, tenant=1 + number % 2, name=f"n{number}", rank=number, deleted=number > 2)
                for number in (1, 2, 3, 4)
            ]
        )  # 2 and 4 are of tenant 1, 4 is deleted

    def open_(tenant=1):
        return Office(db, context=Caller(tenant))

    return open_


def stored(office):
    with office() as unit:
        return unit.everything.find()


def ids(docs):
    return [doc.id for doc in docs]


READS = {
    "get_many": lambda docs: docs.get_many([1, 2, 3, 4]),
    "find": lambda docs: docs.find(),
    "find by criteria": lambda docs: docs.find((d.tenant == 2) | (d.rank > 0)),
    "find by alternatives of keys": lambda docs: docs.find((d.id == 1) | (d.id == 2) | (d.id == 4)),
    "find a query object": lambda docs: docs.find(DocQuery(limit=4)),
    "locked": lambda docs: docs.find(lock="update"),
    "stream": lambda docs: list(docs.stream()),
    "page": lambda docs: docs.page(DocQuery(limit=4)).items,
    "scroll": lambda docs: docs.scroll(DocQuery(limit=4)).items,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_only_rows_of_the_scope_are_read(office, read):
    with office() as unit:
        assert ids(read(unit.docs)) == [2, 4]
        assert ids(read(unit.live)) == [2]
        assert len(read(unit.everything)) >= 3


FOREIGN = Doc(id=1, tenant=1, name="mine")

WRITES = {
    "update": lambda docs: docs.update(FOREIGN),
    "update of a version": lambda docs: docs.update(FOREIGN.model_copy(update={"version": 9})),
    "patch": lambda docs: docs.patch(1, {"name": "mine"}),
    "patch of nothing": lambda docs: docs.patch(1, {}),
    "patch of a version": lambda docs: docs.patch(1, {"version": 9, "name": "mine"}),
    "patch into the scope": lambda docs: docs.patch(1, {"tenant": 1}),
    "delete": lambda docs: docs.delete(1),
    "remove": lambda docs: docs.remove(FOREIGN),
    "remove of a version": lambda docs: docs.remove(FOREIGN.model_copy(update={"version": 9})),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_row_outside_cannot_be_written(office, write):
    before = stored(office)
    with office() as unit:
        with pytest.raises(NotFoundError):
            write(unit.docs)
        assert unit.everything.find() == before


INSERTS = {
    "add": lambda docs, doc: docs.add(doc),
    "add_many": lambda docs, doc: docs.add_many([Doc(tenant=1, name="fine"), Doc(tenant=1, name="ok", id=70), doc]),
    "save": lambda docs, doc: docs.save(doc),
    "save of a key": lambda docs, doc: docs.save(doc.model_copy(update={"id": 60})),
    "upsert": lambda docs, doc: docs.upsert(doc, on="name"),
    "upsert_many": lambda docs, doc: docs.upsert_many([Doc(tenant=1, name="fine"), doc], on="name"),
}


@pytest.mark.parametrize("insert", INSERTS.values(), ids=INSERTS)
def test_a_new_row_must_be_in_the_scope(office, insert):
    before = stored(office)
    with office() as unit:
        with pytest.raises(InvalidValueError) as caught:
            insert(unit.docs, Doc(tenant=2, name="new"))
        assert caught.value.field == "tenant"
        assert unit.everything.find() == before  # the unit goes on
        insert(unit.docs, Doc(tenant=1, name="new"))
    assert len(stored(office)) > len(before)


class Ranked(BaseModel):
    id: int | None = None
    tenant: int
    name: str
    shared: bool = False
    rank: int | None = None
    deleted: bool = False


@pytest.mark.parametrize(("rank", "fits"), [(7, True), (8, False)])
def test_what_the_database_fills_in_is_looked_at_once_it_is_stored(office, rank, fits):
    class RankedDocs(BaseRepository[Ranked, int]):
        model = DocRow

        def scope(self) -> bool:
            return fields(Ranked).rank == rank

        def to_row(self, entity):
            return {name: value for name, value in super().to_row(entity).items() if name != "rank"}

    with office() as unit:
        docs = RankedDocs(unit)
        if fits:
            assert docs.add(Ranked(tenant=1, name="new")).rank == 7
            return
        with pytest.raises(InvalidValueError) as caught, unit.savepoint():
            docs.add(Ranked(tenant=1, name="new"))
        assert caught.value.field == "rank"
        assert unit.everything.count() == 4
    with office() as unit:
        with pytest.raises(InvalidValueError):
            RankedDocs(unit).add(Ranked(tenant=1, name="new"))
        with pytest.raises(TransactionAbortedError):
            unit.everything.count()
        unit.rollback()
    assert len(stored(office)) == 4


TAKEN = {
    "save": (lambda docs: docs.save(Doc(id=1, tenant=1, name="mine")), ("id",)),
    "upsert by key": (lambda docs: docs.upsert(Doc(id=1, tenant=1, name="mine"), on="id"), ("id",)),
    "upsert": (lambda docs: docs.upsert(Doc(tenant=1, name="n1"), on="name"), ("name",)),
    "upsert of nothing": (lambda docs: docs.upsert(Doc(tenant=1, name="n1"), on="name", update=()), ("name",)),
    "upsert_many": (lambda docs: docs.upsert_many([Doc(tenant=1, name="n1")], on="name"), ("name",)),
    "add": (lambda docs: docs.add(Doc(tenant=1, name="n1")), ("name",)),
}


@pytest.mark.parametrize(("write", "violated"), TAKEN.values(), ids=TAKEN)
def test_what_a_row_outside_has_is_taken(office, write, violated):
    before = stored(office)
    with office() as unit:
        with pytest.raises(UniqueViolationError) as caught, unit.savepoint():
            write(unit.docs)
        assert caught.value.fields == violated
        assert unit.everything.find() == before


LEAVING = {
    "patch": lambda docs, changes: docs.patch(2, changes),
    "update": lambda docs, changes: docs.update(docs.get(2).model_copy(update=changes)),
    "save": lambda docs, changes: docs.save(docs.get(2).model_copy(update=changes)),
    "update_where": lambda docs, changes: docs.update_where(d.id == 2, set_=changes),
}


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING)
def test_a_change_may_take_a_row_where_it_stays_enough(office, leave):
    with office() as unit:
        given = leave(unit.live, {"deleted": True})
        assert given == 1 or given.deleted
        assert unit.live.find() == []
        assert unit.docs.get(2).deleted
    with office() as unit, pytest.raises(InvalidValueError):
        leave(unit.docs, {"tenant": 2, "deleted": True})


@pytest.mark.parametrize(
    "write",
    [
        lambda docs: docs.add(Doc(tenant=1, name="new", deleted=True)),
        lambda docs: docs.save(Doc(id=60, tenant=1, name="new", deleted=True)),
        lambda docs: docs.upsert(Doc(tenant=1, name="new", deleted=True), on="name"),
        lambda docs: docs.upsert(Doc(tenant=1, name="n2", deleted=True), on="name"),
    ],
)
def test_what_is_inserted_or_may_be_is_in_the_scope_itself(office, write):
    before = stored(office)
    with office() as unit:
        with pytest.raises(InvalidValueError) as caught:
            write(unit.live)
        assert caught.value.field == "deleted"
        assert unit.everything.find() == before  # the unit goes on


def test_where_fields_count_together_the_stored_row_decides(office):
    with office() as unit:
        unit.everything.patch(1, {"shared": True})
        assert ids(unit.readable.find()) == [1, 2, 4]
        assert unit.readable.patch(2, {"shared": False}).id == 2
        with pytest.raises(QueryError):
            unit.readable.update_where(d.id == 2, set_={"shared": False})
        assert unit.readable.update_where(d.id == 2, set_={"shared": True, "tenant": 9}) == 1
        with pytest.raises(InvalidValueError), unit.savepoint():
            unit.readable.patch(1, {"shared": False})
        assert unit.everything.get(1).shared


class Fresh(AllDocs):
    """Its rows leave by being written."""

    def scope(self) -> bool:
        return d.version < 2


def test_what_counts_with_every_write_is_looked_at_in_every_write(office):
    before = stored(office)
    with office() as unit:
        docs = Fresh(unit)
        with pytest.raises(QueryError):
            docs.update_where(set_={"rank": 3}, everything=True)
        with pytest.raises(InvalidValueError) as caught, unit.savepoint():
            docs.patch(2, {"rank": 3})
        assert caught.value.field == "version"
        with pytest.raises(InvalidValueError), unit.savepoint():
            docs.upsert(Doc(tenant=1, name="n2"), on="name")
        assert unit.everything.find() == before


class Once(Fresh):
    """They may leave."""

    def write_scope(self) -> bool:
        return super(Fresh, self).scope()


def test_a_row_that_an_upsert_takes_out_is_given_back(office):
    with office() as unit:
        upserted = Once(unit).upsert(Doc(tenant=1, name="n2", rank=5), on="name")
        assert (upserted.created, upserted.entity.id, upserted.entity.version) == (False, 2, 2)
        assert ids(Once(unit).find()) == [1, 3, 4]


def test_a_scope_may_ask_the_unit_and_meets_what_it_meets(office):
    class OfFirst(Docs):
        def scope(self) -> bool:
            return d.tenant == AllDocs(self.unit).get(self.context.tenant).tenant

    with office(1) as unit:
        assert ids(OfFirst(unit).find()) == [1, 3]
    with office(99) as unit, pytest.raises(NotFoundError):
        OfFirst(unit).find()


VALUES = {
    "text": "Straße",
    "number": -3,
    "big": 2**40,
    "flag": True,
    "colour": Colour.BLUE,
    "uid": UUID(int=7),
    "amount": Decimal("1.50"),
    "ratio": 0.1,
    "day": date(2024, 2, 29),
    "clock": time(1, 2, 3, 4),
    "local": datetime(2024, 1, 1, 12, 0, 0, 5),  # noqa: DTZ001  # it has none
    "moment": datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    "zoned": datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    "span": timedelta(days=1, microseconds=1),
    "blob": b"\0x",
}


@pytest.mark.parametrize(("name", "value"), VALUES.items(), ids=VALUES)
def test_every_type_can_be_a_scope(db, name, value):
    field = getattr(fields(Specimen), name)

    class One(Specimens):
        def scope(self) -> bool:
            return in_(field, [value]) & (field == value)

    with Lab(db) as lab:
        one = One(lab)
        stored = one.add(Specimen(id=1, **{name: value}))
        lab.specimens.add(Specimen(id=2))
        assert one.find() == [stored] == [one.update(stored)] == [one.upsert(stored, on="id").entity]
        for wrong in (Specimen(id=3), Specimen(id=3, rank=4)):
            with pytest.raises(InvalidValueError) as caught:
                one.add(wrong)
            assert caught.value.field == name
        with pytest.raises(InvalidValueError):
            one.patch(1, {name: None})
        assert one.update_where(set_={name: value}, everything=True) == 1


@pytest.mark.parametrize(
    "call",
    [
        *READS.values(),
        *WRITES.values(),
        lambda docs: docs.add(Doc(tenant=1, name="new")),
        lambda docs: docs.save(Doc(id=60, tenant=1, name="new")),
        lambda docs: docs.upsert(Doc(tenant=1, name="new"), on="name"),
        lambda docs: docs.delete_where(d.id == 1),
        lambda docs: docs.update_where(d.id == 1, set_={"rank": 3}),
    ],
)
def test_a_scope_is_asked_for_once_in_a_call(office, call):
    with office() as unit:
        with suppress(NotFoundError):
            call(unit.docs)
        assert unit.context.asked == 1


def test_a_stream_keeps_to_the_scope_it_began_with(office, monkeypatch):
    monkeypatch.setattr("sqlrepo.core.reading._ROWS_AT_ONCE", 1)
    with office() as unit:
        stream = unit.docs.stream()
        assert next(stream).id == 2
        unit.context.tenant = 2
        assert ids(stream) == [4]


class NoContext(AllDocs):
    def scope(self) -> bool:
        return d.tenant == self.context.tenant.missing


class PlainTrue(AllDocs):
    def scope(self) -> bool:
        return True


class Nothing(AllDocs):
    def scope(self) -> bool:
        pass


class OfAnother(AllDocs):
    def scope(self) -> bool:
        return fields(Ranked).tenant == 1


class WrongLiteral(AllDocs):
    def scope(self) -> bool:
        return d.tenant == 2**70


class WrongStays(AllDocs):
    def write_scope(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [NoContext, PlainTrue, Nothing, OfAnother, WrongLiteral, WrongStays])
@pytest.mark.parametrize(
    "call", [lambda docs: docs.find(), lambda docs: docs.add(FOREIGN), lambda docs: docs.delete_where(everything=True)]
)
def test_what_is_no_scope_is_an_error_that_names_the_repository(office, kind, call):
    before = stored(office)
    with office() as unit:
        with pytest.raises(QueryError, match=kind.__name__):
            call(kind(unit))
        assert unit.everything.find() == before  # the unit goes on


async def coroutine(self):
    return d.tenant == 1


@pytest.mark.parametrize("method", [coroutine, property(lambda self: d.tenant == 1), d.tenant == 1])
@pytest.mark.parametrize("base", [BaseRepository, AsyncBaseRepository])
@pytest.mark.parametrize("name", ["scope", "write_scope"])
def test_a_scope_is_a_plain_method(method, base, name):
    with pytest.raises(MappingError):
        new_class("Odd", (base[Doc, int],), {}, lambda body: body.update({"model": DocRow, name: method}))


def test_a_repository_alone_has_a_scope_too(office):
    with office() as unit:
        source = unit._work.source
    alone = Docs(source, context=Caller(1))
    assert ids(alone.find()) == [2, 4]
    with alone, pytest.raises(NotFoundError):
        alone.delete(1)


@pytest.mark.parametrize(
    ("call", "cost"),
    [
        (lambda docs: docs.get(2), 1),
        (lambda docs: docs.add(Doc(tenant=1, name="x")), 1),
        (lambda docs: docs.patch(2, {"rank": 3}), 2),
        (lambda docs: docs.delete(2), 1),
        (lambda docs: docs.update_where(everything=True, set_={"rank": 3}), 1),
    ],
)
def test_a_scope_costs_no_statement(office, call, cost):
    with office() as unit, query_budget(cost) as spent:
        call(unit.docs)
    assert spent.count == cost


@pytest.mark.parametrize("rows", [1, 50])
def test_the_scope_is_compiled_once_for_all_rows_of_a_call(office, monkeypatch, rows):
    split = []
    monkeypatch.setattr(scope, "parametrize", lambda given: split.append(given) or parametrize(given))
    with office() as unit:
        unit.docs.add_many([Doc(tenant=1, name=str(number)) for number in range(rows)])
    assert len(split) == 3  # of new rows, of the stored ones, and of the driver

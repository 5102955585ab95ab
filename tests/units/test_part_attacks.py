"""Parts where they could break: other kinds of classes, scopes, joined sessions, savepoints, races and large sets."""

import asyncio
import threading
import types as python_types
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Any, Generic, TypeVar

import attrs
import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field, model_validator
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    HasMany,
    HasOne,
    InvalidValueError,
    MappingError,
    NotFoundError,
    ReadOnlyError,
    StaleEntityError,
    TransactionAbortedError,
    TransactionConflictError,
    UnsupportedError,
    fields,
)
from sqlrepo.sqlalchemy import AsyncDatabase, Database, audit, types
from sqlrepo.testing import query_budget
from tests.units.domain import async_database, changed, create, database, tables_of

T = TypeVar("T")


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class Grade(Enum):
    LOW = 1
    HIGH = 2


class RootRow(Base):
    __tablename__ = "root_of_attacks"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="r")
    version: Mapped[int] = mapped_column(default=1)
    leaves: Mapped[list["LeafRow"]] = relationship(order_by="LeafRow.position", cascade="all, delete-orphan")


class LeafRow(Base):
    __tablename__ = "leaf_of_attacks"
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(sa.ForeignKey(RootRow.id, ondelete="CASCADE"))
    name: Mapped[str]
    position: Mapped[int]
    doubled: Mapped[int | None] = mapped_column(sa.Integer, sa.Computed("position + position", persisted=True))


class GradeRow(Base):  # an enumeration and a type decorator in the key
    __tablename__ = "grade_of_attacks"
    root_id: Mapped[int] = mapped_column(sa.ForeignKey(RootRow.id, ondelete="CASCADE"), primary_key=True)
    grade: Mapped[Grade] = mapped_column(types.Member(Grade), primary_key=True)
    points: Mapped[int]


class DocumentRow(Base):  # does not cascade
    __tablename__ = "document_of_attacks"
    root_id: Mapped[int] = mapped_column(sa.ForeignKey(RootRow.id), primary_key=True)
    text: Mapped[str]


logs = sa.Table(  # without a key, and with JSON, which PostgreSQL does not compare
    "log_of_attacks",
    Base.metadata,
    sa.Column("root_id", sa.ForeignKey(RootRow.id, ondelete="CASCADE"), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
)


sizes = sa.Table(
    "size_of_attacks",
    Base.metadata,
    sa.Column("root_id", sa.ForeignKey(RootRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("size", sa.SmallInteger, primary_key=True),
)


class Leaf(BaseModel):
    id: int | None = None
    name: str


class Root(BaseModel):
    id: int | None = None
    name: str = "r"
    leaves: "list[Leaf]" = []
    version: int = 1


class Roots(BaseRepository[Root, int]):
    model = RootRow
    version = "version"


class Grove(BaseUnitOfWork):
    roots: Roots


db = tables_of(Base)


@pytest.fixture
def shared(backend, tmp_path):
    """A database that several units can be open on at once."""
    made = create(Database(f"sqlite:///{tmp_path}/shared.db"), Base) if backend == "sqlite" else database(backend, Base)
    yield made
    made.dispose()


def leaves(*names):
    return [Leaf(name=name) for name in names]


def names(root):
    return [leaf.name for leaf in root.leaves]


class TestClasses:
    def test_attrs_slots_and_an_enumeration_in_a_childs_key(self, db):
        @dataclass(frozen=True, slots=True)
        class Mark:
            grade: Grade
            points: int

        @attrs.frozen
        class Report:
            name: str
            marks: frozenset[Mark] = frozenset()
            id: int | None = None

        class Reports(BaseRepository[Report, int]):
            model = RootRow
            version = None
            parts = {"marks": HasMany(GradeRow)}

        with Reports(db) as reports:
            report = reports.add(Report("r", frozenset({Mark(Grade.LOW, 1), Mark(Grade.HIGH, 2)})))
            for marks in ({Mark(Grade.LOW, 5)}, {Mark(Grade.HIGH, 1), Mark(Grade.LOW, 5)}, set()):
                wanted = attrs.evolve(report, marks=frozenset(marks))
                assert reports.update(wanted) == wanted == reports.get(report.id)

    def test_generic_children_and_classes_that_are_defined_later(self, db):
        class Kept(BaseModel, Generic[T]):
            id: int | None = None
            name: T

        class Later(BaseModel):
            id: int | None = None
            leaves: "list[Kept[str]]" = []
            version: int = 1

        Later.model_rebuild(_types_namespace={"Kept": Kept})

        class Laters(BaseRepository[Later, int]):
            model = RootRow
            version = "version"

        with Laters(db) as laters:
            stored = laters.add(Later(leaves=[Kept[str](name="a"), Kept[str](name="b")]))
            assert laters.update(changed(stored, leaves=stored.leaves[::-1])).leaves == stored.leaves[::-1]

    def test_own_to_domain_and_to_row_get_and_give_the_parts(self, db):
        class Trees(BaseRepository[Root, int]):
            model = RootRow
            version = "version"

            def to_domain(self, row):
                return Root(id=row.id, name=row.name.upper(), leaves=list(row.leaves), version=row.version)

            def to_row(self, entity):
                return {
                    "id": entity.id,
                    "name": entity.name.lower(),
                    "version": entity.version,
                    "leaves": entity.leaves,
                }

        with Trees(db) as trees:
            stored = trees.add(Root(name="Oak", leaves=leaves("a", "b")))
            assert (stored.name, names(stored)) == ("OAK", ["a", "b"])
            assert names(trees.update(changed(stored, leaves=stored.leaves[1:]))) == ["b"]
            assert names(trees.find()[0]) == ["b"]

    def test_own_to_row_loses_no_part_in_silence(self, db):
        def kept_by(**more):
            columns = ("id", "name", "version")
            members = {
                "to_row": lambda _, entity: {**{name: getattr(entity, name) for name in columns}, **more},
            }
            return python_types.new_class("Forgetful", (Roots,), exec_body=lambda body: body.update(members))(db)

        with Roots(db) as roots:
            stored = roots.add(Root(leaves=leaves("a")))
        wrong = changed(stored, name="lost", leaves=leaves("b"))
        for more, words in [({}, "leaves out part 'leaves'"), ({"leafs": []}, "mean 'leaves'")]:
            with kept_by(**more) as roots:
                for write in (
                    lambda roots=roots: roots.add(wrong),
                    lambda roots=roots: roots.add_many([wrong]),
                    lambda roots=roots: roots.update(wrong),
                    lambda roots=roots: roots.save(wrong),
                    lambda roots=roots: roots.upsert(wrong, on="id"),
                    lambda roots=roots: roots.upsert_many([wrong], on="id"),
                ):
                    with pytest.raises(MappingError, match=words):
                        write()
                assert roots.find() == [stored]  # nothing was sent, so the unit goes on
                patched = roots.patch(stored.id, {"leaves": [*stored.leaves, *leaves("b")]})  # which asks no to_row
                assert names(patched) == ["a", "b"]
                stored = roots.patch(stored.id, {"leaves": stored.leaves})

    def test_own_to_row_of_a_mapped_class_may_leave_out_what_is_not_loaded(self, db):
        class Mapped(BaseRepository[RootRow, int]):
            version = "version"
            parts = {"leaves": HasMany(memory_defaults={"doubled": lambda row: row["position"] * 2})}

        class Forgetful(Mapped):
            def to_row(self, entity):
                return {"id": entity.id, "name": entity.name, "version": entity.version}

        with Mapped(db) as rows:
            stored = rows.add(RootRow(leaves=[LeafRow(name="a", position=1)]))
        with Forgetful(db) as rows:
            assert names(rows.update(RootRow(id=stored.id, name="new", version=1))) == ["a"]
            with pytest.raises(MappingError, match="leaves out part 'leaves'"):
                rows.update(RootRow(id=stored.id, name="new", version=2, leaves=[LeafRow(name="b", position=1)]))

    def test_a_patched_part_is_checked_as_its_root_checks_it(self, db):
        class Short(BaseModel):
            id: int | None = None
            leaves: tuple[Leaf, ...] = Field(default=(), max_length=2)
            grades: frozenset[Annotated[int, Field(lt=10)]] = Field(default=frozenset(), min_length=1)
            version: int = 1

        class Shorts(BaseRepository[Short, int]):
            model = RootRow
            version = "version"
            parts = {"grades": HasMany(sizes, value="size")}

        with Shorts(db) as roots:
            stored = roots.add(Short(leaves=tuple(leaves("a")), grades=frozenset({1})))
            for wrong, field in [
                ({"leaves": leaves("a", "b", "c")}, "leaves"),
                ({"grades": [11]}, "grades"),
                ({"grades": set()}, "grades"),
            ]:
                with pytest.raises(InvalidValueError) as caught:
                    roots.patch(stored.id, wrong)
                assert caught.value.field == field
            assert roots.get(stored.id) == stored  # the unit goes on
            wanted = {"leaves": leaves("b", "c"), "grades": [1, 2, 2]}  # any collection of the right children
            patched = roots.patch(stored.id, wanted)
            assert (names(patched), patched.grades) == (["b", "c"], {1, 2})

    def test_a_patched_part_that_a_validator_of_the_root_refuses_is_as_a_field_that_it_refuses(self, db):
        class Strict(Root):
            @model_validator(mode="after")
            def check(self):
                if self.name == "bad" or len(self.leaves) > 2:
                    raise ValueError
                return self

        class Stricts(BaseRepository[Strict, int]):
            model = RootRow
            version = "version"

        with Roots(db) as roots:
            stored = roots.add(Root(leaves=leaves("a")))
        for wrong in ({"name": "bad"}, {"leaves": leaves("a", "b", "c")}):
            with pytest.raises(TransactionAbortedError), Stricts(db) as stricts, pytest.raises(MappingError):
                stricts.patch(stored.id, wrong)
        assert Roots(db).find() == [stored]


class TestUnits:
    def test_a_repository_with_a_scope_writes_parts_of_its_own_rows_only(self, db):
        class Mine(Roots):
            def scope(self):
                return fields(Root).name == "mine"

        with Roots(db) as roots:
            mine, other = roots.add_many(
                [Root(name="mine", leaves=leaves("a")), Root(name="other", leaves=leaves("b"))]
            )
        with Mine(db) as scoped:
            assert names(scoped.update(changed(mine, leaves=[*mine.leaves, *leaves("c")]))) == ["a", "c"]
            assert scoped.count() == 1
            for write in (lambda: scoped.patch(other.id, {"leaves": []}), lambda: scoped.delete(other.id)):
                with pytest.raises(NotFoundError):
                    write()
            assert scoped.delete_where(everything=True) == 1
        with Roots(db) as roots:
            assert roots.find() == [other]
        with pytest.raises(InvalidValueError), Mine(db) as scoped:
            scoped.patch(scoped.add(Root(name="mine")).id, {"name": "gone", "leaves": leaves("x")})
        assert Roots(db).count() == 1

    def test_a_savepoint_undoes_half_an_aggregate_alone(self, db):
        with Grove(db) as grove:
            root = grove.roots.add(Root(leaves=leaves("a")))
            with suppress(RuntimeError), grove.savepoint():
                grove.roots.update(changed(root, leaves=leaves("b", "c")))
                raise RuntimeError
            assert grove.roots.get(root.id) == root
            with pytest.raises(InvalidValueError), grove.savepoint():
                grove.roots.update(changed(root, leaves=[Leaf(id=10_000, name="nobody's")]))
            assert names(grove.roots.update(changed(root, leaves=leaves("d")))) == ["d"]
        assert names(Roots(db).get(root.id)) == ["d"]

    def test_a_read_only_unit_reads_them_and_writes_none(self, db):
        with Grove(db) as grove:
            root = grove.roots.add(Root(leaves=leaves("a")))
        with Grove(db, read_only=True) as grove:
            assert grove.roots.get(root.id) == root
            with pytest.raises(ReadOnlyError):
                grove.roots.update(changed(root, leaves=[]))

    def test_a_joined_session_sees_and_undoes_them(self, db):
        if not isinstance(db, Database):
            return
        with Session(db.engine) as session:
            with Grove(session) as grove:
                root = grove.roots.add(Root(leaves=leaves("a", "b")))
                grove.roots.update(changed(root, leaves=root.leaves[:1]))
            assert session.scalars(sa.select(LeafRow.name)).all() == ["a"]
            session.rollback()
        assert Roots(db).count() == 0

    @pytest.mark.parametrize("error", [UnsupportedError("no"), InvalidValueError("x", "no")])
    def test_an_error_after_the_roots_statement_aborts_though_it_is_swallowed(self, db, error, monkeypatch):
        def refuse(*_):
            raise error

        with Grove(db) as grove:
            root = grove.roots.add(Root(leaves=leaves("a")))
        half = changed(root, name="half", leaves=[*root.leaves, *leaves("b")])
        monkeypatch.setattr("sqlrepo.core.aggregates.insert_rows", refuse)
        with suppress(TransactionAbortedError), Grove(db) as grove:
            with pytest.raises(type(error)):
                grove.roots.update(half)
            with pytest.raises(TransactionAbortedError):
                grove.roots.count()
        assert Roots(db).get(root.id) == root

    def test_two_stale_roots_never_both_win(self, shared):
        with Grove(shared) as grove:
            root = grove.roots.add(Root(leaves=leaves("a", "b")))
        won = 0
        for wanted in (root.leaves[:1], root.leaves[1:]):
            try:
                with Grove(shared) as first:
                    read = first.roots.get(root.id) if not won else root
                    first.roots.update(changed(read, leaves=wanted))
                won += 1
            except (StaleEntityError, TransactionConflictError):
                pass
        assert won == 1
        assert names(Roots(shared).get(root.id)) == ["a"]

    def test_two_concurrent_units_never_both_win(self, shared):
        with Grove(shared) as grove:
            root = grove.roots.add(Root(leaves=leaves("a", "b")))
        for _ in range(3):
            ready, won = threading.Barrier(2), []

            def write(wanted, root=root, ready=ready, won=won):
                ready.wait()
                with suppress(StaleEntityError, TransactionConflictError), Grove(shared) as grove:
                    won.append(grove.roots.update(changed(root, leaves=wanted)))

            both = [[*root.leaves, *leaves("x")], [*root.leaves[1:], *leaves("y")]]
            threads = [threading.Thread(target=write, args=[wanted]) for wanted in both]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            root = Roots(shared).get(root.id)
            assert root in won  # the one that lost may have failed at its commit
            assert root.version == won[0].version


class TestTables:
    def test_ten_thousand_children(self, db):
        with Grove(db) as grove:
            with query_budget(2) as insert:
                root = grove.roots.add(Root(leaves=leaves(*map(str, range(10_000)))))
            with query_budget(2):
                assert len(grove.roots.get(root.id).leaves) == 10_000
            kept = [changed(leaf, name=leaf.name + "!") for leaf in root.leaves[1000:]]
            # 1,000 children go, 500 in a statement; the computed column of those that change is read, 500 at once
            with query_budget(2 + 1 + 2 + 1 + 1 + 18):
                written = grove.roots.update(changed(root, leaves=[*kept, *leaves("new")]))
            assert names(written) == names(grove.roots.get(root.id)) == [*(leaf.name for leaf in kept), "new"]
        assert insert.count == 2

    def test_a_computed_column_of_a_child_has_a_function_in_memory(self, db):
        class Counted(BaseModel):
            id: int | None = None
            name: str
            doubled: int | None = None

        class Sum(BaseModel):
            id: int | None = None
            leaves: list[Counted] = []
            version: int = 1

        class Sums(BaseRepository[Sum, int]):
            model = RootRow
            version = "version"
            parts = {"leaves": HasMany(memory_defaults={"doubled": lambda row: row["position"] * 2})}

        with Sums(db) as sums:
            stored = sums.add(Sum(leaves=[Counted(name="a"), Counted(name="b")]))
            assert [leaf.doubled for leaf in stored.leaves] == [2, 4]
            moved = sums.update(changed(stored, leaves=stored.leaves[::-1]))
            assert [(leaf.name, leaf.doubled) for leaf in moved.leaves] == [("b", 0), ("a", 2)]
            assert sums.get(stored.id) == moved

    def test_rows_without_a_key_that_hold_json(self, db):
        @dataclass(frozen=True)
        class Entry:
            data: Any
            level: int

        @dataclass(frozen=True)
        class Book:
            name: str
            entries: list[Entry]
            id: int | None = None

        class Books(BaseRepository[Book, int]):
            model = RootRow
            version = None
            parts = {"entries": HasMany(logs)}

        def texts(book):
            return sorted(map(repr, book.entries))

        with Books(db) as books:
            book = books.add(Book("b", [Entry({"a": 1}, 1), Entry([2], 1), Entry("x", 2)]))
            for entries in ([Entry([2], 1), Entry("x", 2)], [Entry([2], 1), Entry([3], 1)], [Entry({"a": 1}, 1)], []):
                wanted = replace(book, entries=entries)
                assert texts(books.update(wanted)) == texts(wanted) == texts(books.get(book.id))

    def test_tables_in_a_namespace(self, empty, backend):
        if backend in ("sqlite", "mariadb", "mysql"):  # a namespace is another file, or another database
            return
        own = type("Own", (DeclarativeBase,), {"type_annotation_map": {str: sa.String(30)}})
        table = sa.Table(
            "spaced_root",
            own.metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("version", sa.Integer, nullable=False),
            schema="attacked",
        )
        child = sa.Table(
            "spaced_leaf",
            own.metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("root_id", sa.ForeignKey("attacked.spaced_root.id", ondelete="CASCADE"), nullable=False),
            sa.Column("name", sa.String(30), nullable=False),
            schema="attacked",
        )

        class Spaced(BaseModel):
            id: int | None = None
            leaves: list[Leaf] = []
            version: int = 1

        class SpacedRoots(BaseRepository[Spaced, int]):
            model = table
            version = "version"
            parts = {"leaves": HasMany(child)}

        sa.event.listen(own.metadata, "before_create", sa.DDL("CREATE SCHEMA IF NOT EXISTS attacked"))
        with SpacedRoots(empty(own)) as roots:
            root = roots.add(Spaced(leaves=leaves("a", "b")))
            assert names(roots.update(changed(root, leaves=root.leaves[1:]))) == ["b"]


class AsyncRoots(AsyncBaseRepository[Root, int]):
    model = RootRow
    version = "version"


class AsyncGrove(AsyncBaseUnitOfWork):
    roots: AsyncRoots


async def work_async(db):
    async with AsyncGrove(db) as grove:
        root = await grove.roots.add(Root(leaves=leaves("a", "b")))
        written = await grove.roots.update(changed(root, leaves=root.leaves[1:]))
    assert names(written) == ["b"]
    assert await AsyncRoots(db).get(root.id) == written
    if isinstance(db, AsyncDatabase):
        await db.dispose()


def test_async_units_keep_them(backend, tmp_path):
    asyncio.run(work_async(async_database(backend, Base, tmp_path)))


def test_the_audit_names_a_part_without_a_cascade():
    class Documented(BaseModel):
        id: int | None = None
        document: "Document | None" = None
        version: int = 1

    class Document(BaseModel):
        text: str

    Documented.model_rebuild(_types_namespace={"Document": Document})

    class Documenteds(BaseRepository[Documented, int]):
        model = RootRow
        version = "version"
        parts = {"document": HasOne(DocumentRow)}

    found = [one for one in audit(Base, "postgresql") if one.rule == "no-cascade"]
    assert [(one.table, one.place) for one in found] == [("document_of_attacks", "(root_id)")]
    assert Documenteds.definition().aggregate.parts[0].cascades is False

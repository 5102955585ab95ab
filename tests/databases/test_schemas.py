"""Two tables of one name in two schemas: errors name the constraints and fields of the right one."""

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, BaseUnitOfWork, ForeignKeyViolationError, UniqueViolationError
from sqlrepo.sqlalchemy import Database
from tests.databases import servers


class Base(DeclarativeBase): ...


class Named(BaseModel):
    id: int | None = None
    k: int
    v: int


class Unnamed(BaseModel):
    id: int | None = None
    kk: int
    vv: int


class NamedRow(Base):
    __tablename__ = "thing"
    __table_args__ = (sa.UniqueConstraint("k", "v", name="uq_a"), {"schema": "first"})
    id: Mapped[int] = mapped_column(primary_key=True)
    k: Mapped[int] = mapped_column(sa.ForeignKey("first.thing.id", name="fk_a"))
    v: Mapped[int]


class UnnamedRow(Base):
    __tablename__ = "thing"
    __table_args__ = (sa.UniqueConstraint("k", "v"), {"schema": "second"})
    id: Mapped[int] = mapped_column(primary_key=True)
    kk: Mapped[int] = mapped_column("k", sa.ForeignKey("second.thing.id"))
    vv: Mapped[int] = mapped_column("v")


class NamedOnes(BaseRepository[Named, int]):
    model = NamedRow


class UnnamedOnes(BaseRepository[Unnamed, int]):
    model = UnnamedRow


class Both(BaseUnitOfWork):
    named: NamedOnes
    unnamed: UnnamedOnes


@pytest.fixture(params=["postgresql", "mariadb"])
def db(request):
    plain = sa.create_engine(servers.made_for_tests(request.param, "schemas"), poolclass=sa.NullPool)
    with plain.begin() as connection:
        for name in ("first", "second"):
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {name} {'CASCADE' * (request.param == 'postgresql')}")
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    Base.metadata.create_all(plain)
    made = Database(plain.url)
    yield made
    made.dispose()
    with plain.begin() as connection:
        for name in ("first", "second"):
            connection.exec_driver_sql(f"DROP SCHEMA {name} {'CASCADE' * (request.param == 'postgresql')}")


def test_a_violation_names_the_table_it_is_in(db):
    with Both(db) as both:
        both.named.add(Named(id=1, k=1, v=1))
        both.unnamed.add(Unnamed(id=1, kk=1, vv=1))
    for add, name, fields in (
        (lambda both: both.named.add(Named(k=1, v=1)), "uq_a", ("k", "v")),
        (lambda both: both.unnamed.add(Unnamed(kk=1, vv=1)), None, ("kk", "vv")),
    ):
        with pytest.raises(UniqueViolationError) as caught, Both(db) as both:
            add(both)
        assert (caught.value.constraint, caught.value.fields) == (name, fields)
    for add, name, fields in (
        (lambda both: both.named.add(Named(k=7, v=1)), "fk_a", ("k",)),
        (lambda both: both.unnamed.add(Unnamed(kk=7, vv=1)), None, ("kk",)),
    ):
        with pytest.raises(ForeignKeyViolationError) as caught, Both(db) as both:
            add(both)
        assert (caught.value.constraint, caught.value.fields) == (name, fields)


class Moved(DeclarativeBase): ...


class Folded(BaseModel):
    id: int | None = None
    name: str


class FoldedRow(Moved):
    __tablename__ = "folded"
    __table_args__ = {"schema": "elsewhere"}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(
        sa.String(20).with_variant(sa.String(20, "utf8mb4_general_ci"), "mysql", "mariadb")
    )


class FoldedOnes(BaseRepository[Folded, int]):
    model = FoldedRow


@pytest.fixture(params=["postgresql", "mariadb"])
def translated(request):
    url = servers.made_for_tests(request.param, "schemas")
    engine = sa.create_engine(url, execution_options={"schema_translate_map": {"elsewhere": None}})
    Moved.metadata.create_all(engine)
    yield Database(engine)
    Moved.metadata.drop_all(engine)
    engine.dispose()


def test_a_translated_schema_is_the_one_that_is_looked_at(translated):
    """Numbers given by hand move the sequence there; collations are those of the table there, and are asked once."""
    with FoldedOnes(translated) as folded:
        folded.add_many([Folded(id=7, name="b"), Folded(id=8, name="A")])
        assert folded.add(Folded(name="a")).id == 9
        assert [one.name for one in folded.find(order_by="name")] == ["A", "a", "b"]
        assert folded.count(name="a") == 1
    if translated.dialect.name != "postgresql":
        assert translated.dialect._properties[FoldedRow.__table__.schema, "folded"]["name"][1] == "utf8mb4_general_ci"

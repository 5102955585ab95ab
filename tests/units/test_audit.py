"""The audit of tables without a database: each trap is found on the databases that have it, and on no others."""

import logging
from dataclasses import FrozenInstanceError
from enum import Enum
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from sqlrepo import BaseRepository, MappingError, UnsupportedError
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.sqlalchemy import Database, Finding, audit, types
from sqlrepo.sqlalchemy.audit.rules import LOST_UPDATE, RULES
from sqlrepo.tables.reflection import left_out, refusals

DIALECTS = ("sqlite", "postgresql", "mariadb", "mysql")
MYSQL = {"mariadb", "mysql"}
PG, LITE = {"postgresql"}, {"sqlite"}
SERVED, ALL = PG | MYSQL, {*DIALECTS}


class Colour(Enum):
    RED = 1
    GREEN = 2


class Clashing(Enum):
    ON = 1
    on = 2


class Held(TypeDecorator):
    impl = sa.Float
    cache_ok = True


def table(*parts, key=None, **options):
    """Metadata of one table, of a portable key and what is given."""
    metadata = sa.MetaData()
    sa.Table(
        "thing",
        metadata,
        key if key is not None else sa.Column("id", types.BigKey(), primary_key=True),
        *parts,
        **options,
    )
    return metadata


def found(metadata, dialect):
    return {(one.rule, one.place) for one in audit(metadata, dialect)}


def rules(metadata, dialect):
    return {one.rule for one in audit(metadata, dialect)}


ROUNDED = sa.DateTime().with_variant(postgresql.TIMESTAMP(precision=0), "postgresql")
ROUNDED = ROUNDED.with_variant(mysql.DATETIME(fsp=6), *MYSQL)

PICKLED = sa.PickleType()  # which memory rejects for another reason

COLUMNS = [
    # rule, where, type
    ("collation", SERVED, sa.String(5)),
    ("collation", SERVED, sa.Unicode(5)),
    ("collation", SERVED, sa.Text(100)),
    ("collation", PG, sa.String(5).with_variant(mysql.VARCHAR(5, collation="utf8mb4_nopad_bin"), *MYSQL)),
    ("collation", MYSQL, sa.String(5).with_variant(postgresql.VARCHAR(5, collation="POSIX"), "postgresql")),
    ("collation", ALL, sa.String(5, collation="NOCASE")),
    ("collation", SERVED, sa.String(5).with_variant(mysql.VARCHAR(5, collation="utf8mb4_bin"), *MYSQL)),
    ("charset", MYSQL, sa.String(5).with_variant(mysql.VARCHAR(5, charset="latin1"), *MYSQL)),
    ("char", SERVED, sa.CHAR(3)),
    ("text-length", MYSQL, sa.String()),
    ("short-text", MYSQL, sa.Text()),
    ("short-text", MYSQL, mysql.MEDIUMTEXT()),
    ("short-bytes", MYSQL, sa.LargeBinary()),
    ("padded-bytes", MYSQL, sa.BINARY(3)),
    ("float32", MYSQL, sa.Float()),
    ("float32", MYSQL, Held()),
    ("float32", PG, sa.REAL()),
    ("float32", SERVED, sa.Float(20)),
    ("numeric", MYSQL | LITE, sa.Numeric()),
    ("numeric", LITE, sa.Numeric(20, 2)),
    ("integer-range", MYSQL, sa.Integer().with_variant(mysql.INTEGER(unsigned=True), *MYSQL)),
    ("integer-range", MYSQL, sa.SmallInteger().with_variant(mysql.TINYINT(), *MYSQL)),
    ("microseconds", MYSQL, sa.DateTime()),
    ("microseconds", MYSQL, sa.Time()),
    ("microseconds", SERVED, sa.DateTime().with_variant(postgresql.TIMESTAMP(precision=0), "postgresql")),
    ("microseconds", PG, ROUNDED),
    ("timestamp", MYSQL, sa.DateTime().with_variant(mysql.TIMESTAMP(fsp=6), *MYSQL)),
    ("zone", MYSQL | LITE, sa.DateTime(timezone=True)),
    ("memory-field", LITE | PG, sa.Time(timezone=True)),
    ("interval", MYSQL | LITE, sa.Interval()),
    ("memory-field", PG, sa.Interval()),
    ("native-uuid", {"mariadb"}, sa.Uuid()),
    ("native-uuid", MYSQL | LITE, sa.UUID()),
    ("native-enum", SERVED, sa.Enum(Colour)),
    ("enum-labels", MYSQL, sa.Enum(Clashing, native_enum=False)),
    ("json-number", LITE, sa.JSON(none_as_null=True)),
    ("memory-field", LITE | PG, PICKLED),
    ("short-bytes", MYSQL, PICKLED),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "where", "type_"), COLUMNS, ids=lambda given: given if isinstance(given, str) else "")
def test_a_type_is_found_where_it_is_a_trap(rule, where, type_):
    metadata = table(sa.Column("value", type_))

    assert {dialect for dialect in DIALECTS if (rule, "value") in found(metadata, dialect)} == where


@pytest.mark.parametrize(
    "type_",
    [
        types.Text(5), types.Text(), types.Bytes(), types.Bytes(9), types.Member(Colour), types.LocalDateTime(),
        types.TimeOfDay(), types.Float64(), types.UniqueId(), types.Exact(18, 6), types.Instant(), types.Duration(),
        types.Json(), types.Json(list[int]), sa.Integer(), sa.SmallInteger(), sa.BigInteger(), sa.Boolean(), sa.Date(),
        sa.Numeric(15, 3), sa.Float(53), sa.Double(),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_is_found_of_portable_types(dialect, type_):
    metadata = table(
        sa.Column("value", type_, nullable=False), sa.Column("other", type_), sa.UniqueConstraint("value", "other")
    )

    assert audit(metadata, dialect) == ()


def test_a_key_is_numbered_on_sqlite_only_as_integer():
    for kind, expected in ((sa.BigInteger(), {"big-key"}), (sa.SmallInteger(), {"big-key"}), (sa.Integer(), set())):
        metadata = table(key=sa.Column("id", kind, primary_key=True))
        assert rules(metadata, "sqlite") == expected
        assert rules(metadata, "postgresql") == rules(metadata, "mariadb") == set()
    unnumbered = table(key=sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=False))
    assert rules(unnumbered, "sqlite") == set()


@pytest.mark.parametrize(
    ("part", "place"),
    [
        (lambda: sa.UniqueConstraint("name", name="uq_name"), "uq_name"),
        (lambda: sa.UniqueConstraint("rank", "name"), "(rank, name)"),
        (lambda: sa.Index("ix_name", "name", unique=True), "ix_name"),
    ],
    ids=["named", "without name", "index"],
)
def test_a_unique_constraint_over_text_that_merges_is_found(part, place):
    def of(type_):
        return table(sa.Column("name", type_), sa.Column("rank", sa.Integer), part())

    assert {one for one in DIALECTS if ("unique-collation", place) in found(of(sa.String(5)), one)} == MYSQL
    assert ("unique-collation", place) in found(of(sa.String(5, collation="NOCASE")), "sqlite")
    assert not {one for one in DIALECTS if rules(of(types.Text(5)), one)}


def test_a_plain_index_over_text_is_no_unique_constraint():
    metadata = table(sa.Column("name", sa.String(5)), sa.Index("ix_name", "name"))

    assert rules(metadata, "mariadb") == {"collation"}


def test_a_text_key_is_a_unique_constraint_too():
    metadata = table(key=sa.Column("code", sa.String(5), primary_key=True))

    assert rules(metadata, "mariadb") == {"collation", "unique-collation"}


def test_a_table_s_own_collation_counts():
    for dialect in MYSQL:
        exact = {f"{dialect}_charset": "utf8mb4", f"{dialect}_collate": "utf8mb4_nopad_bin"}
        column = sa.Column("name", sa.String(5), unique=True)
        assert audit(table(column, **exact), dialect) == ()
    old = table(sa.Column("name", sa.String(5)), mariadb_default_charset="latin1")
    assert rules(old, "mariadb") == {"charset", "collation"}


def test_a_condition_for_one_database_is_none_for_the_others():
    def of(**where):
        index = sa.Index("ix_open", "number", unique=True, **{key: sa.text("number > 0") for key in where})
        return table(sa.Column("number", sa.Integer), index)

    both = of(postgresql_where=1, sqlite_where=1)
    assert {one for one in DIALECTS if "partial-unique" in rules(both, one)} == MYSQL
    assert {one for one in DIALECTS if "partial-unique" in rules(of(postgresql_where=1), one)} == MYSQL | LITE
    assert not any("memory-table" in rules(both, one) for one in DIALECTS)
    assert not any("partial-unique" in rules(of(), one) for one in DIALECTS)


def child(*, nullable=True, **options):
    metadata = sa.MetaData()
    sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    parent = sa.Column("parent_id", sa.ForeignKey("parent.id", **options), nullable=nullable)
    sa.Table("child", metadata, sa.Column("id", sa.Integer, primary_key=True), parent)
    return metadata


@pytest.mark.parametrize(
    ("rule", "where", "options"),
    [
        ("set-default", MYSQL, {"ondelete": "SET DEFAULT"}),
        ("set-default", MYSQL, {"onupdate": "set default"}),
        ("set-default", set(), {"ondelete": "CASCADE"}),
        ("set-null", ALL, {"ondelete": "SET NULL", "nullable": False}),
        ("set-null", set(), {"ondelete": "SET NULL"}),
        ("set-null", set(), {"ondelete": "RESTRICT", "nullable": False}),
        ("deferrable", MYSQL, {"deferrable": True, "initially": "DEFERRED"}),
        ("deferrable", MYSQL, {"deferrable": False}),
        ("deferred", PG | LITE, {"deferrable": True, "initially": "DEFERRED"}),
        ("deferred", set(), {"deferrable": True, "initially": "IMMEDIATE"}),
        ("deferrable", set(), {}),
    ],
    ids=lambda given: " ".join(sorted(given)) if isinstance(given, set) else str(given),
)  # fmt: skip
def test_what_a_foreign_key_asks_for_is_found_where_it_is_not_done(rule, where, options):
    metadata = child(**options)

    assert {one for one in DIALECTS if (rule, "(parent_id)") in found(metadata, one)} == where


def test_a_unique_constraint_is_deferrable_on_postgresql_only():
    metadata = table(sa.Column("number", sa.Integer), sa.UniqueConstraint("number", deferrable=True))

    assert {one for one in DIALECTS if "deferrable" in rules(metadata, one)} == MYSQL | LITE


def test_a_named_check_of_a_column_is_one_of_the_table_on_mariadb():
    def of(where):
        check = sa.CheckConstraint("number > 0", name="positive")
        return table(
            sa.Column("number", sa.Integer, *([check] if where == "column" else [])),
            *([check] if where == "table" else []),
        )

    assert {one for one in DIALECTS if ("column-check", "positive") in found(of("column"), one)} == {"mariadb"}
    assert not any("column-check" in rules(of("table"), one) for one in DIALECTS)


def test_an_engine_without_transactions_is_found():
    assert rules(table(mariadb_engine="MyISAM"), "mariadb") == {"engine"}
    assert rules(table(mariadb_engine="MyISAM"), "mysql") == set()
    assert rules(table(mysql_engine="innodb"), "mysql") == set()


def test_numbers_of_an_identity_are_postgresql_s():
    metadata = table(key=sa.Column("id", sa.Integer, sa.Identity(start=100, increment=10), primary_key=True))

    assert {one for one in DIALECTS if "numbering" in rules(metadata, one)} == MYSQL | LITE
    plain = table(key=sa.Column("id", sa.Integer, sa.Identity(start=1), primary_key=True))
    assert not any("numbering" in rules(plain, one) for one in DIALECTS)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "column",
    [
        lambda: sa.Column("value", sa.Integer, default=sa.func.random()),
        lambda: sa.Column("value", sa.Integer, onupdate=sa.text("1 + 1")),
        lambda: sa.Column("value", sa.Integer, sa.Computed("id + 1")),
        lambda: sa.Column("value", types.Instant(), server_default=sa.func.later()),
    ],
    ids=["default", "onupdate", "computed", "server default"],
)
def test_what_the_database_computes_is_named_with_memory_s_reason(dialect, column):
    [one] = audit(table(column()), dialect)

    assert (one.rule, one.table, one.place, one.column, one.assumed) == ("memory-value", "thing", "value", True, False)


PARTS = [
    # rule, and a table that has it
    ("unique-collation", lambda: table(sa.Column("name", sa.String(5), unique=True))),
    ("unique-collation", lambda: table(sa.Column("name", sa.String(5, collation="NOCASE"), unique=True))),
    ("partial-unique", lambda: table(NUMBER(), sa.Index("one", "number", unique=True, sqlite_where=sa.text("id > 0")))),
    ("set-default", lambda: child(ondelete="SET DEFAULT")),
    ("set-null", lambda: child(ondelete="SET NULL", nullable=False)),
    ("deferrable", lambda: child(deferrable=True)),
    ("deferrable", lambda: table(NUMBER(), sa.UniqueConstraint("number", deferrable=True))),
    ("deferred", lambda: child(deferrable=True, initially="DEFERRED")),
    ("deferred", lambda: table(NUMBER(), sa.UniqueConstraint("number", deferrable=True, initially="DEFERRED"))),
    ("column-check", lambda: table(sa.Column("flag", sa.Boolean, sa.CheckConstraint(sa.true(), name="c")))),
    ("engine", lambda: table(mariadb_engine="MyISAM")),
    ("big-key", lambda: table(key=sa.Column("id", sa.BigInteger, primary_key=True))),
    ("numbering", lambda: table(key=sa.Column("id", sa.Integer, sa.Identity(start=5), primary_key=True))),
]


def NUMBER():  # noqa: N802
    return sa.Column("number", sa.Integer)


def test_the_page_says_of_each_rule_whether_memory_rejects_it():
    page = Path(__file__).parents[2].joinpath("docs/audit.md").read_text().partition("## The findings")[2]
    rows = [line.strip("| ").split(" | ")[::2] for line in page.splitlines() if line.startswith("| `")]
    says = {code: memory for codes, memory in rows for code in codes.replace("`", "").split(", ")}
    examples = [
        (rule, lambda type_=type_: table(sa.Column("value", type_)))
        for rule, _, type_ in COLUMNS
        if type_ is not PICKLED
    ]
    rejected = {}
    for rule, make in (*examples, *PARTS):
        metadata = make()
        assert any(rule in rules(metadata, dialect) for dialect in DIALECTS)
        rejected.setdefault(rule, set()).add(
            any(any((*refusals(one), *left_out(one))) for one in metadata.sorted_tables)
        )

    assert {rule.code for rule in RULES} == {code for code in says if not code.startswith("memory-")}
    for code in {rule.code for rule in RULES} - {LOST_UPDATE, "no-cascade"}:  # which ask for repositories
        words = {"kept": {False}, "rejected": {True}}.get(says[code].partition(",")[0], {True, False})
        assert (code, rejected[code]) == (code, words)


def test_a_textual_check_is_named():
    metadata = table(sa.Column("number", sa.Integer), sa.CheckConstraint("number + 1 > 0", name="positive"))

    assert {one.rule for one in audit(metadata, "sqlite")} == {"memory-table"}


def test_a_finding_is_a_value_that_prints_itself():
    [one] = [one for one in audit(table(sa.Column("name", sa.String(5)), schema="shop"), "mariadb") if one.column]

    assert (one.rule, one.table, one.place, one.what, one.assumed) == (
        "collation",
        "shop.thing",
        "name",
        "VARCHAR(5)",
        True,
    )
    assert isinstance(one, Finding)
    assert one.effect and one.remedy  # noqa: PT018
    assert all(part in str(one) for part in ("shop.thing.name", one.what, one.effect, one.remedy))
    with pytest.raises(FrozenInstanceError):
        one.rule = "other"


def test_what_is_declared_is_not_assumed():
    declared = table(sa.Column("name", sa.String(5, collation="utf8mb4_general_ci"), unique=True))

    assert [(one.rule, one.assumed) for one in audit(declared, "mariadb")] == [
        ("collation", False),
        ("unique-collation", False),
        ("memory-table", False),
    ]


def test_what_cannot_be_audited_is_refused():
    class Base(DeclarativeBase): ...

    for nothing in (Base, sa.MetaData(), object, 5):
        with pytest.raises(MappingError):
            audit(nothing, "sqlite")
    for unknown in ("oracle", "postgres", "", "oracle+oracledb://"):
        with pytest.raises(UnsupportedError):
            audit(table(), unknown)


# -- the line in the log


class Thing(BaseModel):
    id: int | None = None
    plain: str = ""


class Fine(BaseModel):
    id: int | None = None
    word: str = ""


@pytest.fixture
def repositories():
    """Repositories over tables of which nothing was logged yet; the second one's table is portable."""

    class Base(DeclarativeBase): ...

    class ThingRow(Base):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        price: Mapped[str] = mapped_column(sa.Numeric(20, 2))
        word: Mapped[str] = mapped_column(sa.String(5, collation="NOCASE"), server_default="secret")
        plain: Mapped[str] = mapped_column(sa.String(5))
        octets: Mapped[bytes] = mapped_column(sa.LargeBinary())  # at most 64 KB, in MariaDB alone

    class FineRow(Base):
        __tablename__ = "fine"
        id: Mapped[int] = mapped_column(primary_key=True)
        word: Mapped[str] = mapped_column(types.Text(5))

    class Things(BaseRepository[Thing, int]):
        model = ThingRow

        def to_row(self, entity):
            return {"id": entity.id, "plain": entity.plain}

        def to_domain(self, row):
            return Thing(id=row.id, plain=row.plain)

    class Fines(BaseRepository[Fine, int]):
        model = FineRow

    return Things, Fines


@pytest.fixture
def warned(caplog):
    caplog.set_level(logging.DEBUG, "sqlrepo")
    return lambda: [one for one in caplog.records if one.name == "sqlrepo" and "not portable" in one.getMessage()]


def test_a_table_that_is_not_portable_is_one_line_in_the_log(warned, repositories):
    things, fines = repositories
    engine = sa.create_engine("sqlite://")
    first, second, third = Database(engine), Database(engine), Database("sqlite://")
    for db in (first, first, second, third):
        things(db)
        fines(db)

    [record] = warned()
    text = record.getMessage()
    assert record.levelno == logging.WARNING
    assert all(part in text for part in ("table thing", "price", "word", "sqlrepo audit"))
    assert "plain" not in text  # what it is depends on a database that nobody asked
    assert "secret" not in text
    assert "\n" not in text
    engine.dispose()


def test_a_session_of_the_application_s_says_it_once_too(warned, repositories):
    engine = sa.create_engine("sqlite://")
    for _ in range(2):
        with sa.orm.Session(engine) as session:
            repositories[0](session)

    assert len(warned()) == 1
    engine.dispose()


def test_another_kind_of_database_says_it_again_and_shows_no_password(warned, repositories):
    things, _ = repositories
    for url in ("sqlite://", "mysql+pymysql://u:swordfish@localhost/a", "mariadb+pymysql://u:swordfish@localhost/b"):
        things(Database(url))

    assert len(warned()) == 3
    assert not any("swordfish" in one.getMessage() for one in warned())


def test_the_log_is_about_the_databases_in_use(warned, repositories):
    things, _ = repositories
    with pytest.raises(UnsupportedError):
        things(InMemoryDatabase())
    assert not warned()
    things(Database("sqlite://"))

    assert ["octets" in one.getMessage() for one in warned()] == [False]
    things(Database("mysql+pymysql://u@localhost/a"))
    assert ["octets" in one.getMessage() for one in warned()] == [False, True]

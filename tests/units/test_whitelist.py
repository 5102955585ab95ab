"""What memory knows of tables: each entry of the list is needed, and what is not in the list is refused."""

from datetime import timedelta
from enum import Enum

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    InvalidLiteralError,
    InvalidValueError,
    NotNullViolationError,
    QueryError,
    contains,
    fields,
)
from sqlrepo.sqlalchemy import audit, types
from sqlrepo.tables.reflection import HARMLESS, TYPES, left_out, refusals


class Colour(Enum):
    RED = 1


def table(*parts, key=None, **options):
    key = sa.Column("id", sa.Integer, primary_key=True) if key is None else key
    return sa.Table("thing", sa.MetaData(), key, *parts, **options)


def reasons(*parts, **options):
    """What memory refuses, which the audit reports on every database, in the same words."""
    made = table(*parts, **options)
    found = [one.reason for one in (*refusals(made), *left_out(made))]
    for dialect in ("sqlite", "postgresql", "mariadb"):
        told = " ".join(f"{one.what} {one.effect}" for one in audit(made.metadata, dialect))
        assert all(reason in told for reason in found)
    return found


def of_type(type_):
    return reasons(sa.Column("value", type_, nullable=True))


class Plain(sa.TypeDecorator):
    impl = sa.String(5)
    cache_ok = True


def over(name):
    """A decorator that overrides one method."""
    return type("Own", (Plain,), {name: lambda self, *given: None})()


# -- types: an entry is kept, or refused with its own remedy

KEPT = [
    Plain(), sa.Boolean(), sa.BOOLEAN(), sa.SmallInteger(), sa.SMALLINT(), sa.Integer(), sa.INTEGER(), sa.BigInteger(),
    sa.BIGINT(), mysql.TINYINT(), mysql.SMALLINT(), mysql.MEDIUMINT(), mysql.INTEGER(), mysql.BIGINT(), sa.Enum(Colour),
    postgresql.ENUM(Colour), mysql.ENUM(Colour), sa.String(5), sa.VARCHAR(5), sa.Text(), sa.TEXT(), sa.CLOB(),
    sa.Unicode(5), sa.UnicodeText(), sa.NVARCHAR(5), mysql.VARCHAR(5), mysql.TINYTEXT(), mysql.TEXT(),
    mysql.NVARCHAR(5),
    mysql.MEDIUMTEXT(), mysql.LONGTEXT(), sa.Uuid(), sa.UUID(), sa.Float(), sa.FLOAT(), sa.Double(), sa.DOUBLE(),
    sa.DOUBLE_PRECISION(), mysql.DOUBLE(asdecimal=False), sa.Numeric(), sa.NUMERIC(5, 2), sa.DECIMAL(5, 2),
    mysql.NUMERIC(5, 2), mysql.DECIMAL(5, 2), sa.LargeBinary(), sa.BLOB(), sa.VARBINARY(5), postgresql.BYTEA(),
    mysql.TINYBLOB(), mysql.MEDIUMBLOB(), mysql.LONGBLOB(), sa.DateTime(), sa.DATETIME(), sa.TIMESTAMP(),
    sqlite.DATETIME(), postgresql.TIMESTAMP(), mysql.DATETIME(), mysql.TIMESTAMP(), sa.Date(), sa.DATE(), sqlite.DATE(),
    sa.Time(), sa.TIME(), sqlite.TIME(), postgresql.TIME(), mysql.TIME(), sa.JSON(),
    postgresql.JSON(none_as_null=True), postgresql.JSONB(none_as_null=True), mysql.JSON(none_as_null=True),
    sa.CHAR(5), sa.NCHAR(5), mysql.CHAR(5), mysql.NCHAR(5), mysql.YEAR(), mysql.BIT(3),
    postgresql.DOMAIN("d", sa.Text, schema="s"),
]  # fmt: skip
REFUSED = [
    (sa.REAL(), "use types.Float64"),
    (mysql.FLOAT(), "use types.Float64"),
    (sa.Interval(), "use types.Duration"),
    (sa.PickleType(), "pickles"),
    (sa.ARRAY(sa.Integer), "no portable meaning"),
    (postgresql.ARRAY(sa.Integer), "no portable meaning"),
]


def entry(type_):
    return sa.types.TypeDecorator if isinstance(type_, Plain) else type(type_)


def test_the_list_has_these_types_and_no_others():
    assert {entry(type_) for type_ in (*KEPT, *(type_ for type_, _ in REFUSED))} == TYPES.keys()


@pytest.mark.parametrize("type_", KEPT, ids=repr)
def test_a_known_type_is_kept_and_forgotten_it_is_refused(type_, monkeypatch):
    assert of_type(type_) == []
    monkeypatch.delitem(TYPES, entry(type_))
    assert len(of_type(type_)) > 0


@pytest.mark.parametrize(("type_", "remedy"), REFUSED, ids=repr)
def test_a_refused_type_has_a_remedy_of_its_own(type_, remedy, monkeypatch):
    [reason] = of_type(type_)
    assert remedy in reason
    monkeypatch.delitem(TYPES, entry(type_))
    assert len(of_type(type_)) == 1  # still


@pytest.mark.parametrize(
    "type_",
    [
        sa.Boolean(create_constraint=True, name="bit"), mysql.INTEGER(unsigned=True, zerofill=True, display_width=4),
        sa.Enum(Colour, native_enum=False, length=20, validate_strings=True, create_constraint=True, name="c"),
        sa.Enum(Colour, values_callable=lambda members: [one.name for one in members], schema="s"),
        postgresql.ENUM(Colour, create_type=False, metadata=sa.MetaData()), sa.String(5, collation="C"),
        mysql.ENUM("a", charset="latin1", collation="latin1_bin"),
        mysql.VARCHAR(5, charset="latin1", collation="utf8mb4_nopad_bin", national=True),
        mysql.VARCHAR(5, collation="utf8mb4_general_ci"), mysql.VARCHAR(5, charset="latin1", collation="latin1_bin"),
        mysql.VARCHAR(5, collation="utf8mb3_bin"), sa.String(5, collation="utf8mb4_unicode_ci"),
        mysql.YEAR(display_width=4),
        mysql.TEXT(ascii=True), mysql.TEXT(unicode=True), sa.Uuid(as_uuid=False, native_uuid=False), sa.Float(25),
        sa.Numeric(30, 20), sa.Numeric(10),
        sa.DateTime(timezone=True), postgresql.TIMESTAMP(precision=6, timezone=True), mysql.DATETIME(fsp=3),
        postgresql.JSON(none_as_null=True, astext_type=sa.Text(5)), sa.String(5).evaluates_none(),
        sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql"),
        sa.Double().with_variant(mysql.FLOAT(), "mysql"),
    ],
    ids=repr,
)  # fmt: skip
def test_an_option_of_a_type_that_changes_nothing_is_known(type_):
    assert of_type(type_) == []


class Named(sa.String):
    cache_ok = True


class Rounded(types.Exact):
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None


class Loaded(sa.TypeDecorator):
    impl = sa.JSON
    cache_ok = True


class Served(Plain):
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(postgresql.INET() if dialect.name == "postgresql" else sa.String(5))


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        (Named(5), "derives from String"),
        (postgresql.CITEXT(), "derives from TEXT"),
        (mysql.SET("a", "b"), "derives from String"),
        (sa.BINARY(3), "no portable meaning"),
        (postgresql.INTERVAL(), "no portable meaning"),
        (mysql.YEAR(display_width=2), "without their century"),
        (mysql.VARCHAR(5, collation="cp1251_bin"), "collation cp1251_bin"),
        (mysql.DECIMAL(5, 2, unsigned=True), "unsigned"),
        (mysql.DOUBLE(asdecimal=False, unsigned=True), "unsigned"),
        (mysql.VARCHAR(5, binary=True), "binary"),
        (sa.Numeric(5, 2, decimal_return_scale=1), "decimal_return_scale"),
        (sa.Numeric(5, 2, asdecimal=False), "use types.Float64"),
        (sa.Float(53, asdecimal=True), "use types.Exact"),
        (mysql.DOUBLE(), "use types.Exact"),
        (sa.Float(24), "32 bits"),
        (sqlite.DATETIME(truncate_microseconds=True), "storage_format"),
        (sqlite.DATE(storage_format="%(day)d", regexp="(.)"), "option"),
        (postgresql.TIMESTAMP(precision=3), "3 digits"),
        (postgresql.TIME(precision=0), "0 digits"),
        (sa.Double().with_variant(sa.REAL(), "postgresql"), "32 bits"),
        (sa.Text().with_variant(postgresql.CITEXT(), "postgresql"), "derives from TEXT"),
        (Served(), "INET"),
        (Loaded(), "none_as_null=True"),
        (Rounded(5, 2), "overrides process_bind_param of Exact"),
        *((over(name), what) for name, what in {
            "bind_processor": "the driver's values", "result_processor": "the driver's values",
            "bind_expression": "process_bind_param", "column_expression": "process_result_value",
            "comparator_factory": "operators of its own",
        }.items()),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_unknown_of_a_type_is_refused(type_, reason):
    [found] = of_type(type_)

    assert reason in found


@pytest.mark.parametrize(
    ("type_", "low", "high"),
    [
        (mysql.TINYINT(), -128, 127),
        (mysql.TINYINT(unsigned=True), 0, 255),
        (mysql.MEDIUMINT(), -(2**23), 2**23 - 1),
        (mysql.YEAR(), 1901, 2155),
        (mysql.BIT(), 0, 1),
        (mysql.BIT(64), 0, 2**64 - 1),
        (sa.BigInteger(), -(2**63), 2**63 - 1),
        (types.Duration(), -(2**63), 2**63 - 1),
    ],
    ids=repr,
)
def test_the_range_of_a_number_is_the_column_s(type_, low, high):
    found, _ = TYPES[type(type_)][0](type_) if type(type_) in TYPES else (type_.value_type, None)

    assert (found.low, found.high) == (low, high)


# -- options, constraints, numbers


def is_registered(kind, database, name):
    """SQLAlchemy 2.0 lacks some options of 2.1."""
    dialect = {"postgresql": postgresql, "sqlite": sqlite, "mysql": mysql}[database].dialect
    names = dict(dialect.construct_arguments).get(kind, ())
    return name in names or "*" in names


OPTIONS = [
    (kind, f"{database}_{name}")
    for kind, known in {
        sa.Table: {
            "postgresql": "ignore_search_path tablespace using with with_oids",
            "sqlite": "autoincrement strict with_rowid",
            "mysql": "auto_increment avg_row_length character_set charset checksum collate comment "
            "default_character_set default_charset default_collate encrypted engine key_block_size page_checksum "
            "page_compressed row_format stats_auto_recalc stats_persistent stats_sample_pages tablespace",
        },
        sa.PrimaryKeyConstraint: {"postgresql": "include", "mysql": "using"},
        sa.UniqueConstraint: {"postgresql": "include"},
        sa.ForeignKeyConstraint: {"postgresql": "not_valid"},
        sa.CheckConstraint: {"postgresql": "not_valid"},
        sa.Index: {"postgresql": "concurrently include tablespace using with", "mysql": "using"},
    }.items()
    for database, names in known.items()
    for name in names.split()
    if is_registered(kind, database, name)
]
REGISTERED = [
    (kind, f"{module.dialect.name}_{name}")
    for module in (postgresql, sqlite, mysql)
    for kind, names in module.dialect.construct_arguments
    if kind in (*HARMLESS, sa.Constraint)
    for name in names
    if name not in ("*", "where", "invalid")  # any; a partial index; found in a database only
]


def with_option(kind, option):
    """The reasons against a table, with an option of a part of a class."""
    given = {option: "number"}
    parts = {
        sa.Column: lambda: [sa.Column("more", sa.Integer, nullable=True, **given)],
        sa.UniqueConstraint: lambda: [sa.UniqueConstraint("number", **given)],
        sa.Constraint: lambda: [sa.UniqueConstraint("number", **given)],
        sa.ForeignKeyConstraint: lambda: [sa.ForeignKeyConstraint(["number"], ["thing.id"], **given)],
        sa.CheckConstraint: lambda: [sa.CheckConstraint(number > 1, name="many", **given)],
        sa.Index: lambda: [sa.Index("ix_number", "number", unique=True, **given)],
        sa.PrimaryKeyConstraint: lambda: [sa.PrimaryKeyConstraint("number", **given)],
    }
    number = sa.Column("number", sa.Integer, nullable=True)
    key = sa.Column("id", sa.Integer, primary_key=kind is not sa.PrimaryKeyConstraint)
    made = sa.Table(
        "thing", sa.MetaData(), key, number, *parts.get(kind, list)(), **(given if kind is sa.Table else {})
    )
    return [one.reason for one in refusals(made)]


@pytest.mark.parametrize(("kind", "option"), OPTIONS)
def test_a_known_option_is_kept_and_forgotten_it_is_refused(kind, option, monkeypatch):
    assert with_option(kind, option) == []
    database, _, name = option.partition("_")
    left = HARMLESS[kind][database].split()
    left.remove(name)
    monkeypatch.setitem(HARMLESS, kind, {**HARMLESS[kind], database: " ".join(left)})
    [reason] = with_option(kind, option)
    assert option in reason


@pytest.mark.parametrize(("kind", "option"), sorted({*REGISTERED} - {*OPTIONS}, key=str))
def test_every_other_option_that_sqlalchemy_knows_is_refused(kind, option):
    [reason] = with_option(kind, option)

    assert option in reason


def test_any_other_option_of_a_table_is_refused():
    assert [one.partition(" ")[0] for one in reasons(mysql_partition_by="HASH(id)")] == ["mysql_partition_by"]
    assert len(reasons(prefixes=["TEMPORARY"])) == 1
    assert reasons(prefixes=["UNLOGGED"]) == []
    assert reasons(**{"mysql_default charset": "utf8mb4", "mariadb_row format": "DYNAMIC"}) == []  # as reflected
    assert reasons(mysql_engine="InnoDB", mariadb_engine="InnoDB", oracle_compress=True) == []  # no database of ours


class OwnUnique(sa.UniqueConstraint): ...


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (lambda: postgresql.ExcludeConstraint(("number", "="), name="no_two"), "ExcludeConstraint no_two"),
        (lambda: OwnUnique("number", name="own"), "OwnUnique own"),
        (lambda: sa.UniqueConstraint("number", name="late", deferrable=True), "late: memory checks"),
        (lambda: sa.UniqueConstraint("number", name="late", initially="DEFERRED"), "late: memory checks"),
        (lambda: sa.UniqueConstraint("number", name="some").ddl_if(dialect="sqlite"), "ddl_if of UniqueConstraint"),
        (lambda: sa.Index("some", "number", unique=True).ddl_if(dialect="sqlite"), "ddl_if of Index some"),
    ],
)
def test_a_constraint_memory_does_not_know_is_refused(part, reason):
    [found] = reasons(sa.Column("number", sa.Integer, nullable=True), part())

    assert reason in found


@pytest.mark.parametrize(
    "part",
    [
        lambda: sa.UniqueConstraint("text", name="named"),
        lambda: sa.Index("named", "text", unique=True),
        lambda: sa.Index("named", sa.text("lower(text)"), unique=True),
        lambda: sa.ForeignKeyConstraint(["text"], ["other.text"], name="named"),
        lambda: sa.CheckConstraint("text = 'a'", name="named"),
        lambda: sa.CheckConstraint("lower(text) IN ('a', 'b')", name="named"),
        lambda: sa.CheckConstraint("'a' <> text", name="named"),
    ],
)
@pytest.mark.parametrize("collation", ["utf8mb4_general_ci", "utf8mb4_bin", "latin1_swedish_ci"])
def test_a_collation_matters_where_the_database_compares(part, collation):
    made = table(sa.Column("text", mysql.VARCHAR(5, collation=collation), nullable=True), part())
    found = [one.reason for one in refusals(made)]

    assert len(found) > 0
    assert all("named" in one for one in found)
    assert any(f"collation {collation}" in one for one in found)
    assert (
        reasons(sa.Column("text", mysql.VARCHAR(5, collation=collation)), sa.CheckConstraint("length(text) > 1")) == []
    )


def test_a_key_that_treats_texts_as_equal_is_refused():
    [reason] = reasons(key=sa.Column("id", mysql.VARCHAR(5, collation="utf8mb4_unicode_ci"), primary_key=True))

    assert "utf8mb4_unicode_ci of column id" in reason


def test_a_deferrable_key_is_refused():
    made = table(sa.PrimaryKeyConstraint("id", name="pk_thing", deferrable=True), key=sa.Column("id", sa.Integer))

    assert ["pk_thing: memory checks" in one.reason for one in refusals(made)] == [True]


@pytest.mark.parametrize("type_", [sa.Integer, sa.String(20)])
def test_a_computed_column_is_refused(type_):
    assert reasons(sa.Column("value", type_, sa.Computed("id"))) == [
        "it is computed by the database; put a function into `memory_defaults`"
    ]


@pytest.mark.parametrize("make", [sa.Identity, lambda **options: sa.Sequence("numbers", **options)])
def test_numbers_that_end_repeat_or_fall_are_refused(make):
    def of(**options):
        return reasons(key=sa.Column("id", sa.Integer, make(**options), primary_key=True))

    assert of() == of(start=5, increment=2, minvalue=1, nomaxvalue=True, cache=9, cycle=False) == []
    assert of(maxvalue=2**31 - 1) == []  # where the type ends anyway, as PostgreSQL reports it
    for option in ({"maxvalue": 2**31 - 2}, {"cycle": True}, {"increment": -1}):
        [reason] = of(**option)
        assert next(iter(option)) in reason


# -- what all backends do alike


class EmptyIsNull(sa.TypeDecorator):
    impl = types.Text(20)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return value or None


class Base(DeclarativeBase): ...


class NoteRow(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(sa.Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(EmptyIsNull(), default="x")
    code: Mapped[str | None] = mapped_column(sa.Uuid(as_uuid=False), unique=True)
    length: Mapped[timedelta | None] = mapped_column(types.Duration())


class Note(BaseModel):
    id: int | None = None
    name: str = "n"
    code: str | None = None
    length: timedelta | None = None


class Notes(BaseRepository[Note, int]):
    model = NoteRow


n = fields(Note)
CODE, ZERO = "ffffffff-0000-4000-8000-00000000000a", "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def notes(empty):
    with Notes(empty(Base)) as notes:
        yield notes


def test_not_null_is_asked_of_what_would_be_stored(notes):
    stored = notes.add(Note(code=CODE))
    for write in (
        lambda: notes.add(Note(name="")),
        lambda: notes.add_many([Note(), Note(name="")]),
        lambda: notes.update(stored.model_copy(update={"name": ""})),
        lambda: notes.save(stored.model_copy(update={"name": ""})),
        lambda: notes.patch(stored.id, {"name": ""}),
        lambda: notes.update_where(n.id == stored.id, set_={"name": ""}),
        lambda: notes.upsert(Note(name="", code=CODE), on="code"),
    ):
        with pytest.raises(NotNullViolationError) as caught:
            write()
        assert caught.value.fields == ("name",)
    assert notes.find() == [stored]  # nothing was sent


def test_a_given_key_is_refused_where_it_is_always_generated(notes):
    stored = notes.add(Note(code=CODE))
    for write in (
        lambda: notes.add(Note(id=7)),
        lambda: notes.upsert(Note(id=7), on="id"),
        lambda: notes.upsert(Note(id=stored.id, code=CODE), on="code"),
        lambda: notes.save(Note(id=stored.id + 7)),
    ):
        with pytest.raises(InvalidValueError) as caught:
            write()
        assert caught.value.field == "id"
    assert notes.save(stored.model_copy(update={"name": "saved"})) == notes.get(stored.id)
    assert notes.upsert(Note(name="again", code=CODE), on="code").created is False


def test_a_duration_is_a_64_bit_number_of_microseconds(notes):
    one = timedelta(microseconds=1)
    for number in (-(2**63), 2**63 - 1):
        stored = notes.add(Note(length=number * one))
        assert notes.one(length=number * one) == stored
    for number in (-(2**63) - 1, 2**63):
        with pytest.raises(InvalidValueError) as caught:
            notes.add(Note(length=number * one))
        assert caught.value.field == "length"
        with pytest.raises(InvalidLiteralError):
            notes.count(n.length < number * one)


def test_a_uuid_kept_as_text_has_one_form(notes):
    stored = [notes.add(Note(code=text)) for text in (CODE.upper(), "1" * 32, f"{{{'0' * 32}}}")]

    assert [one.code for one in stored] == [CODE, "11111111-1111-1111-1111-111111111111", ZERO]
    for text in (CODE, CODE.upper(), CODE.replace("-", "")):
        assert notes.find(code=text) == notes.find(n.code > "2" * 32) == stored[:1]
    assert notes.find(order_by=n.code) == stored[::-1]
    for call in (lambda: notes.add(Note(code="none")), lambda: notes.count(code="none")):
        with pytest.raises(InvalidValueError) as caught:
            call()
        assert caught.value.field == "code"
    with pytest.raises(QueryError):
        notes.count(contains(n.code, CODE))

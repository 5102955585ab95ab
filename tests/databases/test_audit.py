"""What the audit says is true: each claim is shown on a real database, and the remedy heals it."""

import warnings
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy import exc
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import BaseRepository, UniqueViolationError, fields
from sqlrepo.sqlalchemy import Database, audit, types
from tests.databases import servers

LITE, PG, MARIA = "sqlite", "postgresql", "mariadb"
LATE = datetime(2024, 2, 29, 12, 0, 0, 123456)  # noqa: DTZ001  # a naive datetime is the point
ZONED = datetime(2024, 2, 29, 12, 0, 0, 123456, UTC)


class Late(Enum):
    b = 1
    a = 2


class Clashing(Enum):
    ON = 1
    on = 2


@pytest.fixture
def engine(request):
    """A function that makes an engine of a database as most installations have it."""
    made = []

    def make(kind, variant="audit_usual"):
        url = "sqlite://" if kind == LITE else servers.made_for_tests(kind, variant)
        made.append(sa.create_engine(url, poolclass=sa.StaticPool if kind == LITE else sa.NullPool))
        return made[-1]

    yield make
    for one in made:
        one.dispose()


def one_column(type_, *parts, name="claim", **options):
    metadata = sa.MetaData()
    column = sa.Column("value", type_, **options)
    sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), column, *parts)
    return metadata


class Tables:
    """Tables on a database for a while."""

    def __init__(self, engine, metadata):
        self.engine, self.metadata = engine, metadata
        self.table = metadata.sorted_tables[-1]

    def __enter__(self):
        self.metadata.drop_all(self.engine)
        self.metadata.create_all(self.engine)
        return self

    def __exit__(self, *_):
        self.metadata.drop_all(self.engine)

    def put(self, *values):
        with self.engine.begin() as connection:
            for value in values:
                connection.execute(self.table.insert().values(value=value))

    def values(self, *criteria):
        with self.engine.connect() as connection:
            statement = sa.select(self.table.c.value).where(*criteria).order_by(self.table.c.id)
            return list(connection.scalars(statement))

    def in_order(self):
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(self.table.c.value).order_by(self.table.c.value)))


def comes_back(value):
    """A value that is written comes back equal, and == finds it."""

    def holds(tables):
        tables.put(value)
        return tables.values() == [value] == tables.values(tables.table.c.value == value)

    return holds


def sorts(*values):
    """Values sort by code point, as they are given here."""

    def holds(tables):
        tables.put(*reversed(values))
        return tables.in_order() == list(values)

    return holds


def differ(*values):
    """Values that differ are not found for each other."""

    def holds(tables):
        tables.put(*values)
        return all(len(tables.values(tables.table.c.value == value)) == 1 for value in values)

    return holds


def is_numbered(tables):
    with tables.engine.begin() as connection:
        connection.exec_driver_sql(f"INSERT INTO {tables.table.name} (value) VALUES (NULL)")
    return True


def is_float(tables):
    tables.put(1.0)
    return [type(value) for value in tables.values()] == [float]


UUIDS = [UUID("00000000-0000-1000-8000-ffffffffffff"), UUID("ffffffff-0000-1000-8000-000000000000")]

CLAIMS = [
    # rule, database, what is declared, the remedy, what holds of the remedy alone
    ("collation", MARIA, sa.String(5), types.Text(5), sorts("B", "a")),
    ("collation", MARIA, sa.String(5), types.Text(5), differ("a", "á", "A", "a ")),
    ("collation", PG, sa.String(5), types.Text(5), sorts("B", "a")),
    ("collation", LITE, sa.String(5, collation="NOCASE"), types.Text(5), differ("a", "A")),
    ("charset", MARIA, mysql.VARCHAR(5, charset="latin1"), types.Text(5), comes_back("😀")),
    ("char", MARIA, sa.CHAR(5), types.Text(5), comes_back("a ")),
    ("char", PG, sa.CHAR(5), types.Text(5), comes_back("a")),
    ("text-length", MARIA, sa.String(), types.Text(), comes_back("a")),
    ("short-text", MARIA, sa.Text(), types.Text(), comes_back("x" * 65_536)),
    ("short-bytes", MARIA, sa.LargeBinary(), types.Bytes(), comes_back(b"x" * 65_536)),
    ("padded-bytes", MARIA, sa.BINARY(3), types.Bytes(3), comes_back(b"x")),
    ("float32", MARIA, sa.Float(), types.Float64(), comes_back(1 / 3)),
    ("float32", MARIA, sa.Float(), types.Float64(), comes_back(1e300)),
    ("float32", PG, sa.REAL(), types.Float64(), comes_back(1 / 3)),
    ("numeric", MARIA, sa.Numeric(), types.Exact(5, 2), comes_back(Decimal("1.50"))),
    ("integer-range", MARIA, mysql.INTEGER(unsigned=True), sa.Integer(), comes_back(-1)),
    ("integer-range", MARIA, mysql.TINYINT(), sa.SmallInteger(), comes_back(1000)),
    ("microseconds", MARIA, sa.DateTime(), types.LocalDateTime(), comes_back(LATE)),
    ("microseconds", MARIA, sa.Time(), types.TimeOfDay(), comes_back(time(1, 2, 3, 4))),
    ("microseconds", PG, postgresql.TIMESTAMP(precision=0), types.LocalDateTime(), comes_back(LATE)),
    ("timestamp", MARIA, mysql.TIMESTAMP(fsp=6), types.LocalDateTime(), comes_back(LATE.replace(year=2104))),
    ("zone", MARIA, sa.DateTime(timezone=True), types.Instant(), comes_back(ZONED)),
    ("zone", LITE, sa.DateTime(timezone=True), types.Instant(), comes_back(ZONED)),
    ("interval", MARIA, sa.Interval(), types.Duration(), comes_back(timedelta(microseconds=1))),
    ("interval", LITE, sa.Interval(), types.Duration(), comes_back(timedelta(days=3_000_000))),
    ("native-uuid", MARIA, sa.UUID(), types.UniqueId(), sorts(*UUIDS)),
    ("native-uuid", LITE, sa.UUID(), types.UniqueId(), comes_back(UUID(int=0))),
    ("native-enum", MARIA, sa.Enum(Late), types.Member(Late), sorts(Late.a, Late.b)),
    ("native-enum", PG, sa.Enum(Late), types.Member(Late), sorts(Late.a, Late.b)),
    ("enum-labels", MARIA, sa.Enum(Clashing, native_enum=False), types.Member(Late), differ(*Clashing)),
    ("json-number", LITE, sa.JSON(none_as_null=True), types.Json(), is_float),
]  # fmt: skip


def holds(check, engine, metadata):
    """Whether something holds; a database that refuses it does not let it."""
    try:
        with Tables(engine, metadata) as tables:
            return check(tables)
    except (exc.SQLAlchemyError, OverflowError, AttributeError):
        metadata.drop_all(engine)
        return False


@pytest.mark.parametrize(
    "claim", CLAIMS, ids=[f"{rule} {kind} {number}" for number, (rule, kind, *_) in enumerate(CLAIMS)]
)
def test_a_type_does_what_the_audit_says(engine, claim):
    rule, kind, declared, remedy, check = claim
    made = engine(kind)

    assert rule in {one.rule for one in audit(one_column(declared), made)}
    assert not holds(check, made, one_column(declared))
    if rule != "enum-labels":  # whose remedy are other labels
        assert audit(one_column(remedy), made) == ()
        assert holds(check, made, one_column(remedy))


def test_a_big_key_of_sqlite_is_not_numbered(engine):
    made = engine(LITE)
    for kind, portable in ((sa.BigInteger(), False), (types.BigKey(), True)):
        metadata = sa.MetaData()
        sa.Table("claim", metadata, sa.Column("id", kind, primary_key=True), sa.Column("value", sa.Integer))
        assert (audit(metadata, made) == ()) is portable
        assert holds(is_numbered, made, metadata) is portable


def test_a_decimal_of_many_digits_is_rounded_by_sqlite(engine):
    made, number = engine(LITE), Decimal("9007199254740993.00")
    assert {one.rule for one in audit(one_column(sa.Numeric(18, 2)), made)} == {"numeric"}
    with warnings.catch_warnings(), Tables(made, one_column(sa.Numeric(18, 2))) as tables:
        warnings.simplefilter("ignore", exc.SAWarning)  # SQLAlchemy 2.0 says it too
        tables.put(number)
        assert tables.values() != [number]
    assert holds(comes_back(number), made, one_column(types.Exact(18, 2)))


def refused(tables, *values):
    try:
        tables.put(*values)
    except exc.IntegrityError:
        return True
    return False


@pytest.mark.parametrize("given", [("a", "A"), ("a", "á"), ("a", "a ")], ids=repr)
def test_a_unique_constraint_of_a_default_mariadb_merges_texts(engine, given):
    usual, exact = engine(MARIA), engine(MARIA, "audit")

    def of(type_):
        return one_column(type_, sa.UniqueConstraint("value", name="uq_value"))

    [finding] = [one for one in audit(of(sa.String(5)), usual) if one.rule == "unique-collation"]
    assert (finding.place, finding.assumed, "utf8mb4_general_ci" in finding.effect) == ("uq_value", False, True)
    for made, type_, merges in (
        (usual, sa.String(5), True),
        (usual, types.Text(5), False),
        (exact, sa.String(5), False),
    ):
        assert bool(audit(of(type_), made)) is merges
        with Tables(made, of(type_)) as tables:
            assert refused(tables, *given) is merges


class Base(DeclarativeBase): ...


class WordRow(Base):
    __tablename__ = "claim_word"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20), unique=True, index=True)


class Word(BaseModel):
    id: int | None = None
    text: str


class Words(BaseRepository[Word, int]):
    model = WordRow


word = fields(Word)


def test_repositories_repair_comparisons_and_orders_and_not_uniqueness(engine):
    """Which is what the finding says of a default MariaDB."""
    made = engine(MARIA)
    db = Database(made)
    with Tables(made, Base.metadata):
        with Words(db) as words:
            words.add_many([Word(text=text) for text in ("b", "B1", "a")])
        assert Words(db).count(word.text == "B") == 0
        assert [one.text for one in Words(db).find(order_by=word.text)] == ["B1", "a", "b"]
        with pytest.raises(UniqueViolationError), Words(db) as words:
            words.add(Word(text="A"))
        with made.connect() as connection:
            own = sa.select(WordRow.text).where(WordRow.text == "B")
            assert connection.scalars(own).all() == ["b"]


@pytest.mark.parametrize(
    ("kind", "type_", "ordered"),
    [
        (kind, type_, ordered)
        for kind in (MARIA, PG)
        for type_, ordered in ((sa.String(20), False), (types.Text(20), True))
    ],
    ids=str,
)
def test_an_index_gives_the_order_of_a_portable_column_only(engine, kind, type_, ordered):
    """Which is the price that the finding names."""

    class Own(DeclarativeBase): ...

    class Row(Own):
        __tablename__ = "claim_order"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(type_, index=True)

    class Rows(BaseRepository[Word, int]):
        model = Row

    made, statements = engine(kind), []
    db = Database(made)
    with Tables(made, Own.metadata):
        with Rows(db) as rows:
            rows.add_many([Word(text=f"{number:05}") for number in range(2000)])
        with made.connect() as connection:
            connection.exec_driver_sql("ANALYZE TABLE claim_order" if kind == MARIA else "ANALYZE claim_order")
        sa.event.listen(made, "before_cursor_execute", lambda *given: statements.append(given[2:4]))
        assert len(Rows(db).find(order_by=word.text, limit=3)) == 3
        statement, parameters = statements[-1]
        with made.connect() as connection:
            plan = str(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all())
        # PostgreSQL sorts runs of equal texts by the key behind them, and nothing else
        assert ("filesort" not in plan if kind == MARIA else "Index Scan" in plan) is ordered


# -- constraints


def related(**options):
    metadata = sa.MetaData()
    nullable = options.pop("nullable", True)
    sa.Table("claim_parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    key = sa.ForeignKey("claim_parent.id", **options)
    columns = sa.Column("value", key, nullable=nullable, server_default="1")
    sa.Table("claim_child", metadata, sa.Column("id", sa.Integer, primary_key=True), columns)
    return metadata


def found(metadata, engine):
    return {one.rule for one in audit(metadata, engine)}


def can_be_made(metadata, engine):
    return holds(lambda _: True, engine, metadata)


def test_mariadb_cannot_make_what_the_audit_says_it_cannot(engine):
    made = engine(MARIA)
    check = sa.CheckConstraint("value > 0", name="positive")
    for rule, metadata in (
        ("deferrable", related(deferrable=True, initially="DEFERRED")),
        ("set-null", related(ondelete="SET NULL", nullable=False)),
        ("column-check", one_column(sa.Integer, check)),
    ):
        if rule == "column-check":
            metadata = sa.MetaData()  # noqa: PLW2901
            sa.Table(
                "claim",
                metadata,
                sa.Column("value", sa.Integer, sa.CheckConstraint("value > 0", name="one"), primary_key=True),
            )
        assert rule in found(metadata, made)
        assert not can_be_made(metadata, made)
    for metadata in (
        related(),
        related(ondelete="SET NULL"),
        one_column(sa.Integer, sa.CheckConstraint("value > 0", name="two")),
    ):
        assert can_be_made(metadata, made)


def deleted(tables):
    """Delete a parent that has a child, and tell what became of the child."""
    with tables.engine.begin() as connection:
        if tables.engine.dialect.name == LITE:
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.exec_driver_sql("INSERT INTO claim_parent (id) VALUES (1), (2)")
        connection.exec_driver_sql("INSERT INTO claim_child (id, value) VALUES (1, 2)")
        connection.exec_driver_sql("DELETE FROM claim_parent WHERE id = 2")
        return connection.exec_driver_sql("SELECT value FROM claim_child").scalar()


def test_set_default_is_restrict_on_mariadb(engine):
    metadata = related(ondelete="SET DEFAULT")
    maria, postgresql_ = engine(MARIA), engine(PG)

    assert "set-default" in found(metadata, maria)
    assert not holds(deleted, maria, metadata)
    assert "set-default" not in found(metadata, postgresql_)
    assert holds(lambda tables: deleted(tables) == 1, postgresql_, metadata)


def test_set_null_of_a_column_that_is_not_null_refuses_the_parent_s_deletion(engine):
    made = engine(PG)
    for nullable in (False, True):
        metadata = related(ondelete="SET NULL", nullable=nullable)
        assert ("set-null" in found(metadata, made)) is not nullable
        assert holds(lambda tables: deleted(tables) is None, made, metadata) is nullable


def test_a_deferred_constraint_is_found_at_commit(engine):
    made = engine(PG)
    for options in ({"deferrable": True, "initially": "DEFERRED"}, {}):
        metadata = related(**options)
        assert ("deferred" in found(metadata, made)) is bool(options)
        with Tables(made, metadata) as tables, pytest.raises(exc.IntegrityError), made.connect() as connection:
            at_commit = False
            connection.execute(tables.table.insert().values(value=9))
            at_commit = True
            connection.commit()
        assert at_commit is bool(options)


def test_a_partial_index_is_over_all_rows_on_mariadb(engine):
    for kind, whole in ((MARIA, True), (PG, False)):
        made = engine(kind)
        index = sa.Index("ix_positive", "value", unique=True, postgresql_where=sa.text("value > 0"))
        metadata = one_column(sa.Integer(), index)
        assert ("partial-unique" in found(metadata, made)) is whole
        with Tables(made, metadata) as tables:
            assert refused(tables, 0, 0) is whole


def test_an_engine_without_transactions_keeps_what_is_rolled_back(engine):
    made = engine(MARIA)
    for options in ({"mysql_engine": "MyISAM"}, {}):
        metadata = sa.MetaData()
        sa.Table(
            "claim", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("value", sa.Integer), **options
        )
        assert ("engine" in found(metadata, made)) is bool(options)
        with Tables(made, metadata) as tables:
            with made.connect() as connection:
                connection.execute(tables.table.insert().values(value=1))
                connection.rollback()
            assert bool(tables.values()) is bool(options)


def test_identities_count_by_their_own_rule_on_postgresql_only(engine):
    metadata = sa.MetaData()
    key = sa.Column("id", sa.Integer, sa.Identity(start=100, increment=10), primary_key=True)
    sa.Table("claim", metadata, key, sa.Column("value", sa.Integer))
    for kind, first in ((PG, 100), (MARIA, 1), (LITE, 1)):
        made = engine(kind)
        assert ("numbering" in found(metadata, made)) is (first == 1)
        with Tables(made, metadata) as tables:
            tables.put(5)
            with made.connect() as connection:
                assert connection.scalars(sa.select(tables.table.c.id)).all() == [first]


# -- what a database is asked for


def test_a_database_s_own_collation_decides(engine):
    metadata = one_column(sa.String(5))
    for kind in (PG, MARIA):
        usual, exact = engine(kind), engine(kind, "audit")
        for made, expected in ((usual, {"collation"}), (exact, set())):
            metadata.drop_all(made)
            assert found(metadata, made) == expected  # of a table that is not there yet
            with Tables(made, metadata):
                assert found(metadata, made) == expected
                with made.connect() as connection:
                    assert {one.rule for one in audit(metadata, connection)} == expected
                url = made.url.render_as_string(hide_password=False)
                assert {one.rule for one in audit(metadata, url)} == expected
        assert {one.rule for one in audit(metadata, kind)} == {"collation"}


def test_what_the_database_has_counts_more_than_what_is_declared(engine):
    for kind, statement in (
        (MARIA, "CREATE TABLE claim (id INT PRIMARY KEY, value VARCHAR(5) COLLATE utf8mb4_nopad_bin)"),
        (PG, 'CREATE TABLE claim (id INT PRIMARY KEY, value VARCHAR(5) COLLATE "C")'),
    ):
        made, metadata = engine(kind), one_column(sa.String(5))
        metadata.drop_all(made)
        with made.begin() as connection:
            connection.exec_driver_sql(statement)
        assert found(metadata, made) == set()
        metadata.drop_all(made)
    lite, metadata = engine(LITE), one_column(types.Text(5))
    with lite.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE claim (id INTEGER PRIMARY KEY, value VARCHAR(5) COLLATE RTRIM)")
    assert found(metadata, lite) == {"collation"}


def test_a_collation_of_postgresql_that_takes_texts_for_one_is_found(engine):
    made, metadata = engine(PG), one_column(sa.String(5), sa.UniqueConstraint("value"))
    metadata.drop_all(made)
    with made.begin() as connection:
        connection.exec_driver_sql("DROP COLLATION IF EXISTS merging")
        connection.exec_driver_sql(
            "CREATE COLLATION merging (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
        connection.exec_driver_sql(
            "CREATE TABLE claim (id SERIAL PRIMARY KEY, value VARCHAR(5) COLLATE merging, UNIQUE (value))"
        )
    assert found(metadata, made) == {"collation", "unique-collation"}
    tables = Tables(made, metadata)
    assert refused(tables, "a", "A")
    metadata.drop_all(made)
    with made.begin() as connection:
        connection.exec_driver_sql("DROP COLLATION merging")

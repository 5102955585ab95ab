"""Types that databases store in ways of their own, and that mean one thing on every backend."""

import uuid
from decimal import Decimal
from operator import attrgetter
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    CheckViolationError,
    InvalidLiteralError,
    InvalidValueError,
    NotNullViolationError,
    UniqueViolationError,
    contains,
    desc,
    endswith,
    fields,
    icontains,
    in_,
    is_null,
    not_,
    startswith,
)
from sqlrepo.tables.reflection import left_out, refusals, schema_of
from sqlrepo.testing.twins.model import UnitUnderTest
from sqlrepo.testing.twins.samples import Choices, EntityGenerator
from tests.databases import servers


class Hex(sa.TypeDecorator):
    """A UUID as many applications write it: the length is that of `load_dialect_impl`."""

    impl = sa.CHAR
    cache_ok = True
    length = 32
    as_text = attrgetter("hex")

    def load_dialect_impl(self, dialect):
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID())
        return dialect.type_descriptor(sa.CHAR(self.length))

    def process_bind_param(self, value, dialect):
        if value is None or dialect.name == "postgresql":
            return value
        return type(self).as_text(value if isinstance(value, uuid.UUID) else uuid.UUID(value))

    def process_result_value(self, value, dialect):
        return value if value is None or isinstance(value, uuid.UUID) else uuid.UUID(value)


class Dashed(Hex):
    class Own(sa.CHAR): ...

    impl = Own
    cache_ok = True
    length = 36
    as_text = str


class Always(sa.TypeDecorator):
    """CHAR on every database, with values that do not fill it."""

    impl = sa.CHAR(40)
    cache_ok = True

    def process_bind_param(self, value, dialect):
        return None if value is None else value.hex

    def process_result_value(self, value, dialect):
        assert value is None or len(value) == 32
        return None if value is None else uuid.UUID(value)


def reasons_against(*parts):
    table = sa.Table("thing", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), *parts)
    return [one.reason for one in (*refusals(table), *left_out(table))]


class Base(DeclarativeBase): ...


class CodedRow(Base):
    __tablename__ = "coded"
    id: Mapped[uuid.UUID] = mapped_column(Hex, primary_key=True, default=uuid.uuid4)
    dashed: Mapped[uuid.UUID | None] = mapped_column(Dashed, unique=True)
    always: Mapped[uuid.UUID | None] = mapped_column(Always)
    parent: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("coded.id"))
    code: Mapped[str | None] = mapped_column(sa.CHAR(3), unique=True)
    wide: Mapped[str | None] = mapped_column(sa.NCHAR(4))
    flag: Mapped[str] = mapped_column(sa.CHAR, default="N")


class Coded(BaseModel):
    id: uuid.UUID | None = None
    dashed: uuid.UUID | None = None
    always: uuid.UUID | None = None
    parent: uuid.UUID | None = None
    code: str | None = None
    wide: str | None = None
    flag: str | None = None


class Codes(BaseRepository[Coded, uuid.UUID]):
    model = CodedRow


c = fields(Coded)
IDS = [uuid.UUID(int=number) for number in (1, 0xA << 120, 2**128 - 1)]


@pytest.fixture
def store(empty):
    return empty(Base)


@pytest.fixture
def codes(store):
    with Codes(store) as codes:
        yield codes


def test_uuids_under_a_decorator_over_char(codes):
    stored = codes.add_many([Coded(id=one, dashed=one, always=one) for one in IDS])

    assert [(one.id, one.dashed, one.always) for one in stored] == [(one, one, one) for one in IDS]
    assert [codes.get(one) for one in IDS] == stored == codes.find(order_by=c.dashed)
    assert codes.find(dashed=IDS[1]) == codes.find(always=IDS[1]) == stored[1:2]
    assert codes.find(in_(c.always, IDS[1:]), order_by=desc(c.always)) == stored[:0:-1]
    assert codes.find(c.dashed > IDS[0], order_by=c.id) == stored[1:]
    assert codes.add(Coded(parent=IDS[0])).id not in IDS


def test_a_uuid_under_a_decorator_is_unique(store):
    with pytest.raises(UniqueViolationError) as caught, Codes(store) as codes:
        codes.add_many([Coded(dashed=IDS[0]), Coded(dashed=IDS[0])])
    assert caught.value.fields == ("dashed",)


class ByName(sa.TypeDecorator):
    """A decorator that knows its application's databases only."""

    impl = sa.String(40)
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return {"mariadb": sa.String(40), "mysql": sa.String(40), "sqlite": sa.CHAR(40)}[dialect.name]


def test_a_decorator_need_not_know_every_database():
    assert reasons_against(sa.Column("value", ByName)) == []


def test_the_bytes_of_char_are_not_counted():
    for type_, refused in ((sa.CHAR(3), [True]), (sa.String(3), [])):
        check = sa.CheckConstraint("octet_length(value) > 1", name="some")
        assert ["counts blanks" in one for one in reasons_against(sa.Column("value", type_), check)] == refused


TEXTS = ["", " a", "A", "a", "a b", "ab", "é", "\uffff"]


def test_char_gives_back_what_was_given(codes):
    stored = codes.add_many([Coded(code=text, wide=text) for text in TEXTS])

    assert [one.code for one in stored] == [one.wide for one in stored] == TEXTS
    assert [codes.get(one.id) for one in stored] == stored
    for one in stored:
        assert codes.find(code=one.code) == codes.find(wide=one.wide) == [one]
        assert codes.update(one.model_copy(update={"flag": "Y"})).code == one.code
        assert codes.patch(one.id, {"wide": "x"}).wide == "x"
    assert [one.code for one in codes.find(order_by=c.code)] == TEXTS
    assert [one.code for one in codes.find(order_by=desc(c.code))] == TEXTS[::-1]
    assert [one.code for one in codes.find(c.code < "a b", order_by=c.code)] == TEXTS[:4]
    assert {one.code for one in codes.find(in_(c.code, ["a", "ab", "b"]))} == {"a", "ab"}


@pytest.mark.parametrize(
    ("criterion", "found"),
    [
        (endswith(c.code, "b"), ["a b", "ab"]),
        (endswith(c.code, " "), []),
        (startswith(c.code, "a"), ["a", "a b", "ab"]),
        (startswith(c.code, "a "), ["a b"]),
        (contains(c.code, " "), [" a", "a b"]),
        (icontains(c.code, "A "), ["a b"]),
    ],
    ids=str,
)
def test_char_is_searched_without_the_blanks_it_is_filled_up_with(codes, criterion, found):
    codes.add_many([Coded(code=text) for text in TEXTS])

    assert [one.code for one in codes.find(criterion, order_by=c.code)] == found


def test_a_text_with_a_blank_at_the_end_is_no_value_of_char(codes):
    stored = codes.add(Coded(code="abc"))
    for text, field in (("a ", "code"), ("   ", "code"), ("abcd", "code"), ("abc  ", "wide"), ("NN", "flag")):
        for write in (
            lambda given: codes.add(Coded(**given)),
            lambda given: codes.update(stored.model_copy(update=given)),
            lambda given: codes.patch(stored.id, given),
            lambda given: codes.update_where(c.id == stored.id, set_=given),
        ):
            with pytest.raises(InvalidValueError) as caught:
                write({field: text})
            assert caught.value.field == field
        with pytest.raises(InvalidLiteralError):
            codes.count(**{field: text})
    assert codes.find() == [stored]


# -- decimals


class PricedRow(Base):
    __tablename__ = "priced"
    id: Mapped[int] = mapped_column(primary_key=True)
    free: Mapped[Decimal | None] = mapped_column(sa.Numeric, unique=True)
    whole: Mapped[Decimal | None] = mapped_column(sa.Numeric(10))
    wide: Mapped[Decimal | None] = mapped_column(sa.Numeric(30, 4))


class Priced(BaseModel):
    id: int | None = None
    free: Decimal | None = None
    whole: Decimal | None = None
    wide: Decimal | None = None


class Prices(BaseRepository[Priced, int]):
    model = PricedRow


p = fields(Priced)
# Where a value is not exact, it is refused; everywhere else it is exact.
LONG, WIDE, TINY = Decimal(9007199254740993), Decimal("12345678901234567890.1234"), Decimal("1e-10")
HELD = {
    "memory": lambda field, value: True,
    "postgresql": lambda field, value: True,
    "sqlite": lambda field, value: value not in (LONG, WIDE),
    "mariadb": lambda field, value: field == "wide" or value in (-7, 1000),  # the other is NUMERIC(10, 0)
}
HELD["mysql"] = HELD["mariadb"]
WRITES = {
    "add": lambda prices, key, given: prices.add_many([Priced(), Priced(**given)])[1],
    "patch": lambda prices, key, given: prices.patch(key, given),
    "upsert": lambda prices, key, given: prices.upsert(Priced(id=key, **given), on="id").entity,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("free", value) for value in (Decimal(-7), Decimal("1E+3"), Decimal("1.5"), Decimal("0.1"), TINY, WIDE)),
        *(("wide", value) for value in (LONG, WIDE)),
    ],
    ids=str,
)
def test_a_decimal_is_exact_or_refused(store, backend, field, write, value):
    with Prices(store) as prices:
        row = prices.add(Priced())
    if HELD[backend](field, value):
        with Prices(store) as prices:
            stored = WRITES[write](prices, row.id, {field: value})
            assert getattr(stored, field) == getattr(prices.get(stored.id), field) == value
            assert prices.find(**{field: value}) == [stored]
    else:
        with pytest.raises(InvalidValueError) as caught, Prices(store) as prices:
            WRITES[write](prices, row.id, {field: value})
        assert caught.value.field == field


def test_a_decimal_without_scale_has_no_digits_after_the_point(store):
    with Prices(store) as prices:
        assert prices.add(Priced(whole=Decimal(9999999999))).whole == 9999999999
        for value in ("0.5", "10000000000"):
            with pytest.raises(InvalidValueError):
                prices.add(Priced(whole=Decimal(value)))


def test_decimals_without_precision_sort_as_numbers(store, backend):
    values = [Decimal(text) for text in ("-1000", "-7", "0", "3", "20", "100000")]
    values += [] if backend in ("mariadb", "mysql") else [Decimal("100000.5")]
    with Prices(store) as prices:
        prices.add_many([Priced(free=value) for value in reversed(values)])

        assert [one.free for one in prices.find(order_by=p.free)] == values
        assert [one.free for one in prices.find(p.free < 20, order_by=p.free)] == values[:4]


@pytest.mark.parametrize("backend", ["memory", "postgresql"])
def test_a_decimal_without_precision_is_written_as_postgresql_writes_it(store):
    with Prices(store) as prices:
        for given, written in (("1E+3", "1000"), ("-0.00", "0.00"), ("1.50", "1.50"), ("1E-7", "1E-7")):
            assert str(prices.add(Priced(free=Decimal(given))).free) == written
        for given in ("1E+131072", "1E-16384", "NaN"):
            with pytest.raises(InvalidValueError):
                prices.add(Priced.model_construct(free=Decimal(given)))


# -- domains of PostgreSQL

YEAR = postgresql.DOMAIN("year", sa.Integer, check="VALUE >= 1901 AND VALUE <= 2155", constraint_name="is_year")
RECENT = postgresql.DOMAIN("recent", sa.Integer, check="VALUE > 2000", default="2001")
GRADE = postgresql.DOMAIN("grade", sa.String(3), check=sa.text("VALUE IN ('a', 'B', 'bb')"), default="a", not_null=True)


class Domains(DeclarativeBase): ...


class MarkedRow(Domains):
    __tablename__ = "marked"
    id: Mapped[int] = mapped_column(primary_key=True)
    year: Mapped[int | None] = mapped_column(YEAR, unique=True)
    recent: Mapped[int | None] = mapped_column(RECENT)
    grade: Mapped[str | None] = mapped_column(GRADE)
    short: Mapped[str | None] = mapped_column(postgresql.DOMAIN("short", sa.CHAR(3)))
    amount: Mapped[Decimal | None] = mapped_column(postgresql.DOMAIN("amount", sa.Numeric(6, 2)))
    code: Mapped[uuid.UUID | None] = mapped_column(postgresql.DOMAIN("code", sa.Uuid))


class Marked(BaseModel):
    id: int | None = None
    year: int | None = None
    recent: int | None = None
    grade: str | None = None
    short: str | None = None
    amount: Decimal | None = None
    code: uuid.UUID | None = None


class Marks(BaseRepository[Marked, int]):
    model = MarkedRow


m = fields(Marked)


@pytest.fixture(params=["declared", "reflected"])
def marks(request, empty, backend):
    """Repositories of the declared table, and of what SQLAlchemy reflects of it."""
    made = empty(Domains)
    if request.param == "declared":
        return lambda: Marks(made)
    engine = sa.create_engine(servers.made_for_tests("postgresql", "reflected"))
    Domains.metadata.create_all(engine)
    table = sa.Table("marked", sa.MetaData(), autoload_with=engine)
    Domains.metadata.drop_all(engine)
    engine.dispose()

    class Reflected(BaseRepository[Unpriced, int]):
        model = table

    return lambda: Reflected(made)


class Unpriced(BaseModel):
    id: int | None = None
    year: int | None = None
    recent: int | None = None
    grade: str | None = None
    short: str | None = None
    code: uuid.UUID | None = None


@pytest.mark.parametrize("backend", ["memory", "postgresql"])
def test_a_domain_is_the_type_beneath_with_its_rules(marks):
    with marks() as repository:
        entity = repository.definition().mapper.entity
        stored = repository.add(entity(year=1999, short="ab", code=IDS[0]))
        assert (stored.recent, stored.grade, stored.short) == (None, "a", "ab")
        others = repository.add_many([entity(grade=text, recent=2001) for text in ("bb", "B")])
        assert [one.grade for one in repository.find(order_by="grade")] == ["B", "a", "bb"]
        assert repository.find(in_(fields(entity).grade, ["bb", "B"]), order_by="id") == others
        assert repository.find(endswith(fields(entity).short, "b")) == repository.find(short="ab") == [stored]
        assert repository.find(year=1999) == repository.find(code=IDS[0]) == [stored]
        assert repository.update_where(fields(entity).year < 2000, set_={"year": 2155}) == 1
    for given, name in (
        ({"year": 1900}, "is_year"),
        ({"recent": 1950}, "recent_check"),
        ({"grade": "c"}, "grade_check"),
    ):
        for write in (lambda given: repository.add(entity(**given)), lambda given: repository.patch(stored.id, given)):
            with pytest.raises(CheckViolationError) as caught, marks() as repository:
                write(given)
            assert caught.value.constraint == name
    with pytest.raises(NotNullViolationError) as caught, marks() as repository:
        repository.patch(stored.id, {"grade": None})
    assert caught.value.fields == ("grade",)


class Layers(DeclarativeBase): ...


INNER = postgresql.DOMAIN("inner_layer", sa.Text, check="VALUE <> 'x'", constraint_name="mm")
OUTER = postgresql.DOMAIN("outer_layer", INNER, check="VALUE <> 'x'", constraint_name="aa")


class LayerRow(Layers):
    __tablename__ = "layer"
    id: Mapped[int] = mapped_column(primary_key=True)
    size: Mapped[int]
    __table_args__ = (
        sa.CheckConstraint("size > 3", name="ww"),
        sa.CheckConstraint("size > 1 OR size < 0"),
        sa.CheckConstraint("size > 2", name="cc"),
    )


class Layer(BaseModel):
    id: int | None = None
    size: int


class LayersOf(BaseRepository[Layer, int]):
    model = LayerRow


@pytest.mark.parametrize("backend", ["memory", "postgresql"])
@pytest.mark.parametrize(("size", "named"), [(0, "cc"), (2, "cc"), (3, "ww")])
def test_of_two_violated_checks_the_first_by_name_is_named(empty, size, named):
    with pytest.raises(CheckViolationError) as caught, LayersOf(empty(Layers)) as layers:
        layers.add(Layer(size=size))
    assert caught.value.constraint == named


def test_the_check_of_the_innermost_domain_is_the_first():
    table = sa.Table("nested", sa.MetaData(), sa.Column("name", OUTER, sa.CheckConstraint("name <> 'x'", name="a")))
    assert [check.name for check in schema_of(table).checks] == ["mm", "aa", "a"]


def domain(*given, **options):
    return postgresql.DOMAIN("given", *given, **options)


class OverDomain(sa.TypeDecorator):
    impl = domain(sa.Integer)
    cache_ok = True


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        (domain(sa.Text, check="VALUE ~ 'x'"), "check given_check: "),
        (domain(sa.Text, check="VALUE > 'x'", constraint_name="order"), "depends on the database's collation"),
        (sa.Text().with_variant(domain(sa.Text, check="VALUE ~ 'x'"), "postgresql"), "check given_check: "),
        (domain(sa.Numeric), "reflection loses the digits"),
        (domain(postgresql.TIMESTAMP()), "reflection loses the digits"),
        (domain(postgresql.JSONB(none_as_null=True)), "does not convert values"),
        (domain(sa.Uuid(as_uuid=False)), "does not convert values"),
        (domain(sa.Enum("a", name="e", native_enum=False, create_constraint=True)), ""),
        (domain(sa.Text, collation="und-x-icu"), "collation und-x-icu"),
        (domain(domain(sa.REAL)), "32 bits"),
        (domain(domain(sa.Text, check="VALUE ~ 'x'")), "check given_check: "),
        (OverDomain(), "beneath a type decorator"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_domain_that_memory_cannot_read_is_refused(type_, reason):
    assert [reason in one for one in reasons_against(sa.Column("value", type_))] == ([True] if reason else [])


# -- JSON


class DocumentRow(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    doc: Mapped[Any] = mapped_column(sa.JSON, nullable=True)
    binary: Mapped[Any] = mapped_column(sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True)


class Document(BaseModel):
    id: int | None = None
    doc: Any = None
    binary: Any = None


class Documents(BaseRepository[Document, int]):
    model = DocumentRow


d = fields(Document)


def test_none_is_null_in_a_json_column(store):
    """Although SQLAlchemy writes the text null for None."""
    with Documents(store) as documents:
        stored = documents.add_many([Document(), Document(doc=[None], binary="null"), Document(doc={}, binary=0)])
        assert documents.find(is_null(d.doc)) == documents.find(is_null(d.binary)) == stored[:1]
        assert documents.count(not_(is_null(d.binary))) == 2
        assert documents.add(Document(doc=1)).binary is documents.patch(stored[1].id, {"doc": None}).doc is None
        assert documents.update_where(d.id == stored[2].id, set_={"binary": None}) == 1
        assert documents.update(stored[2].model_copy(update={"doc": None, "binary": []})).doc is None
        assert documents.upsert(Document(id=stored[0].id, doc=2), on="id").entity.binary is None
        assert documents.count(is_null(d.doc)) == 2
        assert documents.count(is_null(d.binary)) == 2


@pytest.mark.parametrize("backend", ["sqlite", "postgresql", "mariadb"])
def test_the_null_of_json_that_others_have_written_is_none(store):
    with store.engine.begin() as connection:
        connection.execute(sa.insert(DocumentRow), [{"doc": None, "binary": None}])
    with Documents(store) as documents:
        assert [(one.doc, one.binary) for one in documents.find(is_null(d.doc))] == [(None, None)]
        assert documents.count(is_null(d.binary)) == 1
        assert documents.find(not_(is_null(d.doc))) == []


# -- MariaDB's own types


class Served(DeclarativeBase): ...


class ServedRow(Served):
    __tablename__ = "served"
    id: Mapped[int] = mapped_column(primary_key=True)
    folded: Mapped[str | None] = mapped_column(mysql.VARCHAR(9, charset="utf8mb4", collation="utf8mb4_general_ci"))
    latin: Mapped[str | None] = mapped_column(mysql.VARCHAR(9, charset="latin1", collation="latin1_swedish_ci"))
    short: Mapped[str | None] = mapped_column(mysql.VARCHAR(9, charset="utf8mb3", collation="utf8mb3_general_ci"))
    national: Mapped[str | None] = mapped_column(mysql.NVARCHAR(9))
    nation: Mapped[str | None] = mapped_column(mysql.NCHAR(9, charset="utf8mb4"))
    plain: Mapped[str | None] = mapped_column(mysql.VARCHAR(9, charset="ascii", collation="ascii_bin"))
    tiny: Mapped[str | None] = mapped_column(mysql.TINYTEXT(collation="utf8mb4_unicode_ci"))
    year: Mapped[int | None] = mapped_column(mysql.YEAR)
    bits: Mapped[int | None] = mapped_column(mysql.BIT(5))
    blob: Mapped[bytes | None] = mapped_column(mysql.MEDIUMBLOB)


class ServedEntity(BaseModel):
    id: int | None = None
    folded: str | None = None
    latin: str | None = None
    short: str | None = None
    national: str | None = None
    nation: str | None = None
    plain: str | None = None
    tiny: str | None = None
    year: int | None = None
    bits: int | None = None
    blob: bytes | None = None


class ServedRows(BaseRepository[ServedEntity, int]):
    model = ServedRow


s = fields(ServedEntity)


@pytest.mark.parametrize("backend", ["memory", "mariadb"])
@pytest.mark.parametrize("field", ["folded", "latin", "short", "plain", "tiny"])
def test_a_collation_of_mariadb_does_not_change_queries(empty, field):
    texts = ["", "A", "B", "a", "a ", "ab", *([] if field == "plain" else ["ÿ"])]
    with ServedRows(empty(Served)) as rows:
        stored = rows.add_many([ServedEntity(**{field: text}) for text in reversed(texts)])[::-1]

        assert [getattr(one, field) for one in rows.find(order_by=field)] == texts
        assert [rows.find(**{field: text}) for text in texts] == [[one] for one in stored]
        assert rows.find(in_(getattr(s, field), ["a", "b"])) == [stored[3]]
        assert rows.find(getattr(s, field) < "a", order_by=field) == stored[:3]
        assert rows.find(startswith(getattr(s, field), "a"), order_by=field) == stored[3:6]
        assert rows.find(contains(getattr(s, field), "b")) == [stored[5]]


@pytest.mark.parametrize("backend", ["memory", "mariadb"])
@pytest.mark.parametrize(
    ("field", "held", "unfit"),
    [
        ("latin", ["é€ÿ"], ["Ā", "\x80", "😀"]),
        ("short", ["Ā\uffff"], ["😀"]),
        ("national", ["Ā\uffff"], ["😀"]),
        ("nation", ["Ā\uffff"], ["😀"]),
        ("plain", ["~\x7f"], ["é"]),
        ("folded", ["😀"], ["1234567890"]),
        ("tiny", ["é" * 127 + "x", "😀"], ["é" * 128]),
        ("year", [1901, 2155], [0, 70, 1900, 2156]),
        ("bits", [0, 31], [32, -1]),
        ("blob", [b"", b"\0" * 65_536], []),
    ],
)
def test_the_limits_of_a_type_of_mariadb(empty, field, held, unfit):
    with ServedRows(empty(Served)) as rows:
        for value in held:
            stored = rows.add(ServedEntity(**{field: value}))
            assert rows.find(**{field: value}) == [stored] == [rows.get(stored.id)]
            assert getattr(stored, field) == value
        for value in unfit:
            with pytest.raises(InvalidValueError) as caught:
                rows.add(ServedEntity(**{field: value}))
            assert caught.value.field == field
        assert [getattr(one, field) for one in rows.find(order_by=field)] == sorted(held)


# -- twins


class Kept(BaseUnitOfWork):
    codes: Codes


def test_the_twins_try_values_beneath_a_decorator():
    table = UnitUnderTest(Kept).tables["codes"]

    assert {EntityGenerator(table, Choices()).plainest[name] for name in ("dashed", "always")} == {uuid.UUID(int=1)}

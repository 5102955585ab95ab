"""Bad input about parts and related rows: a clear error that says what to write, and nothing half stored."""

import contextlib
import types
from dataclasses import dataclass
from decimal import Decimal

import pytest
import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sqlrepo import (
    BaseRepository,
    BaseUnitOfWork,
    CheckViolationError,
    HasMany,
    InvalidValueError,
    MappingError,
    NotFoundError,
    NotNullViolationError,
    QueryError,
    QueryObject,
    Summary,
    TransactionAbortedError,
    UniqueViolationError,
    every,
    exists,
    fields,
    matches,
    not_,
    some,
    via,
)
from sqlrepo.testing import query_budget
from tests.units.domain import changed, own_base, tables_of


class Base(DeclarativeBase):
    type_annotation_map = {str: sa.String(30)}


class CaseRow(Base):
    __tablename__ = "case_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    version: Mapped[int]
    lines: Mapped[list["LineRow"]] = relationship(
        order_by="LineRow.position", cascade="all, delete-orphan", foreign_keys="LineRow.case_id"
    )
    friends: Mapped[list["LineRow"]] = relationship(foreign_keys="LineRow.other_id", viewonly=True)
    loose: Mapped[list["LooseRow"]] = relationship()
    leaving: Mapped[list["LeavingRow"]] = relationship(cascade="all, delete-orphan")


class LineRow(Base):
    __tablename__ = "line_of_case"
    __table_args__ = (
        sa.UniqueConstraint("case_id", "sku", name="one_sku"),
        sa.CheckConstraint("qty > 0", name="qty_is_positive"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"))
    other_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"))
    sku: Mapped[str]
    qty: Mapped[int]
    position: Mapped[int]


class LooseRow(Base):
    __tablename__ = "loose_of_case"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"))


class LeavingRow(Base):
    __tablename__ = "leaving_of_case"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int | None] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="SET NULL"))


class FallingRow(own_base()):  # MariaDB has no SET DEFAULT
    __tablename__ = "falling_of_case"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="SET DEFAULT"), server_default="1")


class TagRow(Base):
    __tablename__ = "tag_of_case"
    case_id: Mapped[int] = mapped_column(sa.ForeignKey(CaseRow.id, ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)


class Line(BaseModel):
    id: int | None = None
    sku: str | None  # the column is NOT NULL
    qty: int = 1


class Case(BaseModel):
    id: int | None = None
    title: str
    lines: list[Line] = []
    tags: frozenset[str] = frozenset()
    version: int = 1


class Loose(BaseModel):
    id: int | None = None


class Cases(BaseRepository[Case, int]):
    model = CaseRow
    version = "version"
    parts = {"tags": HasMany(TagRow, value="name")}


class Office(BaseUnitOfWork):
    cases: Cases


db = tables_of(Base)


# -- declarations


class WithLoose(BaseModel):
    id: int | None = None
    title: str
    loose: list[Loose] = []
    version: int = 1


class WithLeaving(BaseModel):
    id: int | None = None
    title: str
    leaving: list[Loose] = []
    version: int = 1


@dataclass
class WithLocal:
    title: str
    more: "list[Nowhere]"  # noqa: F821  # as of a class local to a function
    id: int | None = None
    version: int = 1


class WithMore(BaseModel):
    id: int | None = None
    title: str
    more: list[Line] = []
    version: int = 1


class WithUnknown(BaseModel):
    id: int | None = None
    title: str
    linse: list[Line] = []
    version: int = 1


class WithScalar(BaseModel):
    id: int | None = None
    titel: str
    version: int = 1


@pytest.mark.parametrize(
    ("entity", "parts", "words"),
    [
        (WithLoose, {}, ["'loose'", "delete-orphan"]),
        (WithLoose, {"loose": HasMany()}, ["'loose'", "delete-orphan"]),
        (WithLeaving, {}, ["'leaving'", "SET NULL", "CASCADE"]),
        (WithMore, {"more": HasMany(LineRow)}, ["'more'", "2 foreign keys", "by="]),
        (WithMore, {"more": HasMany(LineRow, by="case")}, ["'more'", "'case'", "'case_id'"]),
        (WithMore, {"more": HasMany(FallingRow)}, ["'more'", "ON DELETE SET DEFAULT", "CASCADE"]),
        (WithMore, {"more": LineRow}, ["'more'", "LineRow", "HasMany"]),
        (WithMore, {"more": HasMany("LineRow")}, ["'LineRow'", "not a mapped class"]),
        (WithLocal, {"more": HasMany(LineRow)}, ["'more'", "unknown at module level"]),
        (WithUnknown, {}, ["'linse'", "'lines'", "parts", "to_domain"]),
        (WithScalar, {}, ["'titel'", "'title'", "to_domain"]),
    ],
)
def test_a_declaration_that_does_not_fit_says_what_to_write(entity, parts, words):
    with pytest.raises(MappingError) as caught:
        types.new_class(
            "Refused",
            (BaseRepository[entity, int],),
            exec_body=lambda body: body.update(model=CaseRow, version="version", parts=parts),
        ).definition()
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)


# -- writes


def case(**values):
    return Case(**{"title": "t", "lines": [Line(sku="a"), Line(sku="b")], "tags": frozenset("xy"), **values})


WRONG = {
    "unique": (lambda case: [*case.lines, Line(sku="a")], UniqueViolationError, {("lines.case_id", "lines.sku"), ()}),
    "check": (lambda case: [*case.lines, Line(sku="c", qty=0)], CheckViolationError, {(), ("lines.qty",)}),
    "null": (lambda case: [Line(sku=None)], NotNullViolationError, {("lines.sku",)}),
    "unique on update": (
        lambda case: [case.lines[0], changed(case.lines[1], sku="a")],
        UniqueViolationError,
        {("lines.case_id", "lines.sku"), ()},
    ),
    "check on update": (
        lambda case: [changed(case.lines[0], qty=-1), case.lines[1]],
        CheckViolationError,
        {(), ("lines.qty",)},
    ),
    "stolen": (lambda case: [Line(id=10_000, sku="z")], InvalidValueError, "lines[0].id"),
    "too long": (lambda case: [*case.lines, Line(sku="s" * 31)], InvalidValueError, "lines[2].sku"),
    "too great": (lambda case: [Line(sku="s", qty=2**70)], InvalidValueError, "lines[0].qty"),
    "no line": (lambda case: [case], InvalidValueError, "lines[0]"),
    "no collection": (lambda case: "ab", InvalidValueError, "lines"),
    "none": (lambda case: None, InvalidValueError, "lines"),
    "of none": (lambda case: [None], InvalidValueError, "lines[0]"),
}
EARLY = {"too long", "too great", "no line", "no collection", "none", "of none"}  # before any statement
WRITES = {
    "update": lambda cases, one: cases.update(one),
    "save": lambda cases, one: cases.save(one),
    "patch": lambda cases, one: cases.patch(one.id, {"title": one.title, "lines": one.lines}),
    "upsert": lambda cases, one: cases.upsert(one, on="id"),
    "upsert_many": lambda cases, one: cases.upsert_many([case(id=900, lines=[]), one], on="id"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("write", WRITES)
def test_a_wrong_child_aborts_the_whole_unit_even_if_the_error_is_swallowed(db, write, wrong):
    with Office(db) as office:
        stored = office.cases.add(case())
    make, error, place = WRONG[wrong]
    half = changed(stored, title="half", lines=make(stored))
    unit = Office(db)
    unit.__enter__()
    with pytest.raises(error) as caught:
        WRITES[write](unit.cases, half)
    if error is InvalidValueError:
        assert caught.value.field == place
    else:
        assert caught.value.fields in place
    if wrong in EARLY:
        unit.__exit__(None, None, None)
    else:
        with pytest.raises(TransactionAbortedError):
            unit.__exit__(None, None, None)
    with Office(db) as office:
        assert office.cases.find() == [stored]


@pytest.mark.parametrize("wrong", ["unique", "check", "null"])
def test_a_wrong_child_of_a_new_entity_stores_nothing(db, wrong):
    make, error, place = WRONG[wrong]
    new = case(lines=make(case(lines=[Line(sku="a")])))
    for write in (lambda cases: cases.add(new), lambda cases: cases.add_many([case(), new])):
        unit = Office(db)
        unit.__enter__()
        with pytest.raises(error) as caught:
            write(unit.cases)
        assert caught.value.fields in place
        with pytest.raises(TransactionAbortedError) if wrong not in EARLY else contextlib.nullcontext():
            unit.__exit__(None, None, None)
        with Office(db) as office:
            assert office.cases.find() == []


def test_ten_thousand_children_take_as_many_statements_as_their_chunks(db):
    many = [Line(sku=f"{number}") for number in range(10_000)]
    with Office(db) as office:
        office.cases.count()
        stored = office.cases.add(case(lines=many, tags=frozenset()))
    assert [line.sku for line in stored.lines] == [line.sku for line in many]
    with Office(db) as office:
        office.cases.count()
        with query_budget(3):
            assert office.cases.get(stored.id) == stored
        wanted = [changed(line, qty=2) for line in stored.lines[5000:]] + [
            Line(sku=f"n{number}") for number in range(9)
        ]
        with query_budget(2 + 3 + 10 + 3):
            written = office.cases.update(changed(stored, lines=wanted))
        assert [line.sku for line in written.lines] == [line.sku for line in wanted]
        assert office.cases.get(stored.id) == written


def test_an_entity_that_is_gone_takes_no_children(db):
    with Office(db) as office:
        stored = office.cases.add(case())
        office.cases.delete(stored.id)
    for write in (lambda cases: cases.update(stored), lambda cases: cases.patch(stored.id, {"lines": stored.lines})):
        with pytest.raises(NotFoundError), Office(db) as office:
            write(office.cases)
    with Office(db) as office:
        assert office.cases.find() == []


# -- names in queries


def test_unknown_paths_are_refused_when_the_class_is_defined_with_the_nearest_name():
    for name, words in [
        ("lines__skw", ["'skw'", "sku"]),
        ("lines__qty_gte", ["qty_ge"]),
        ("tags__exact", ["tags", "only an operator"]),
        ("lnes__sku", ["'lnes__sku'", "did you mean 'lines'"]),
        ("lines_sku", ["'lines_sku'", "did you mean 'lines__sku'"]),
        ("lines__zzzzzz", ["'zzzzzz'", "valid names: id, qty, sku"]),
        ("lines", ["its children", "lines__"]),
        ("tags", ["its children", "tags__"]),
    ]:
        with pytest.raises(QueryError) as caught:
            types.new_class(
                "Query",
                (QueryObject[Case],),
                exec_body=lambda body, name=name: body.update({"__annotations__": {name: str | None}, name: None}),
            )
        missing = [word for word in [f"Query.{name}", *words] if word not in str(caught.value)]
        assert not missing, str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tags__equals", ["'name'", "tag_of_case", "no foreign key", "'iequals'"]),
        ("title__contians", ["'title'", "no foreign key", "'contains'"]),
        ("lines__sku__lenght", ["'sku'", "line_of_case", "no foreign key"]),
    ],
)
def test_paths_through_what_is_no_key_are_refused_at_first_meeting(db, name, words):
    query = types.new_class(
        "Query",
        (QueryObject[Case],),
        exec_body=lambda body: body.update({"__annotations__": {name: str | None}, name: None}),
    )
    with Office(db) as office:
        office.cases.count()
        for given in (query(), query(**{name: "a"})):
            with query_budget(0), pytest.raises(QueryError) as caught:
                office.cases.find(given)
            missing = [word for word in [f"Query.{name}", *words] if word not in str(caught.value)]
            assert not missing, str(caught.value)


def test_a_filter_on_a_whole_part_is_refused_at_first_meeting(db):
    class Query(QueryObject[Case]):
        lines_is_null: bool | None = None

    with Office(db) as office:
        office.cases.count()
        with query_budget(0), pytest.raises(QueryError, match=r"Query.lines_is_null: Case.lines is kept in a table of"):
            office.cases.find(Query())


# -- views, other roots and summaries


class PartyRow(Base):  # another root, part of whose rows are hidden
    __tablename__ = "party_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class DealRow(Base):
    __tablename__ = "deal_of_errors"
    id: Mapped[int] = mapped_column(primary_key=True)
    party_id: Mapped[int | None] = mapped_column(sa.ForeignKey(PartyRow.id))
    first_id: Mapped[int] = mapped_column(sa.ForeignKey(PartyRow.id))
    ratio: Mapped[float]
    size: Mapped[int | None]
    version: Mapped[int]
    rows: Mapped[list["DealLineRow"]] = relationship(cascade="all, delete-orphan")
    stamp: Mapped["StampRow | None"] = relationship(cascade="all, delete-orphan")


class DealLineRow(Base):
    __tablename__ = "line_of_deal"
    id: Mapped[int] = mapped_column(primary_key=True)
    deal_id: Mapped[int] = mapped_column(sa.ForeignKey(DealRow.id, ondelete="CASCADE"))
    qty: Mapped[int]
    sku: Mapped[str]


class StampRow(Base):
    __tablename__ = "stamp_of_deal"
    deal_id: Mapped[int] = mapped_column(sa.ForeignKey(DealRow.id, ondelete="CASCADE"), primary_key=True)
    text: Mapped[str]


class Party(BaseModel):
    id: int | None = None
    name: str


class DealLine(BaseModel):
    id: int | None = None
    qty: int
    sku: str


class Stamp(BaseModel):
    text: str


class Deal(BaseModel):
    id: int | None = None
    party_id: int | None = None
    first_id: int
    ratio: float = 0.5
    size: int | None = None
    rows: list[DealLine] = []
    stamp: Stamp | None = None
    version: int = 1


class Parties(BaseRepository[Party, int]):
    model = PartyRow


class NamedParties(Parties):
    def scope(self):
        return fields(Party).name != "hidden"


class Deals(BaseRepository[Deal, int]):
    model = DealRow
    version = "version"


class Market(BaseUnitOfWork):
    deals: Deals
    cases: Cases
    parties: NamedParties


class Opened(BaseUnitOfWork):
    deals: Deals
    parties: Parties


class PartyView(BaseModel):
    id: int
    name: str


def view(**annotations):
    return types.new_class("View", (BaseModel,), exec_body=lambda body: body.update(__annotations__=annotations))


@pytest.fixture
def market(db):
    with Opened(db) as opened:
        shown, hidden = opened.parties.add_many([Party(name="shown"), Party(name="hidden")])
        opened.deals.add_many([Deal(party_id=hidden.id, first_id=shown.id), Deal(first_id=hidden.id)])
    with Market(db) as market:
        market.deals.count()
        yield market


@pytest.mark.parametrize(
    ("field", "annotation", "words"),
    [
        ("partty", PartyView, ["'partty'", "did you mean", "references"]),
        ("party", PartyView, ["the scope of NamedParties", "PartyView | None"]),
        ("first", PartyView, ["the scope of NamedParties", "PartyView | None"]),
        ("party", list[PartyView], ["needs a view"]),
        ("rows", DealLine, ["needs a list"]),
        ("rows", list[int], ["needs a list"]),
        ("stamp", Stamp, ["cannot be None", "Stamp | None"]),
        ("rows__qty_sum", int, ["may be None"]),
        ("rows__qty_avg", int, ["_sum, _min, _max or _count"]),
        ("rows__sku_sum", str, ["sum does not fit 'sku'"]),
        ("rows__qyt_sum", int | None, ["'qyt'", "'qty'"]),
        ("row__count", int, ["no field 'row'", "'rows'", "row_id"]),
        ("rows", set[DealLine], ["set of DealLine", "not hashable", "frozen"]),
    ],
)
def test_a_view_that_does_not_fit_is_refused_before_any_statement(market, field, annotation, words):
    wrong = view(id=int, **{field: annotation})
    with query_budget(0), pytest.raises((QueryError, MappingError)) as caught:
        market.deals.find(fields(Deal).size == 77, into=wrong)
    missing = [word for word in [f"View.{field}", *words] if word not in str(caught.value)]
    assert not missing, str(caught.value)


def test_what_is_no_class_is_no_view(market):
    with query_budget(0), pytest.raises(QueryError, match="the class of a view; an instance of PartyView is not a"):
        market.deals.find(into=PartyView(id=1, name="secret"))


def test_a_view_may_name_no_column(market):
    assert len(market.deals.find(into=view())) == 2


def test_a_row_out_of_scope_is_none_in_a_view_and_in_criteria(market):
    found = market.deals.find(into=view(id=int, party=PartyView | None, first=PartyView | None))
    assert [(one.party, one.first and one.first.name) for one in found] == [(None, "shown"), (None, None)]
    d = fields(Deal)
    assert market.deals.count(via(d.party_id, Party).name == "hidden") == 0
    assert market.deals.count(not_(via(d.party_id, Party).name == "hidden")) == 0


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda d: via(d.party_id, Case).title == "x", ["'party_id'", "party_of_errors", "Case", "case_of_errors"]),
        (lambda d: via(d.party_id, Stamp).text == "x", ["no repository of Stamp"]),
        (lambda d: via(d.party_id, Party).nam == "x", ["'nam'", "'name'"]),
        (lambda d: exists(Party, lambda p: p.name == "x"), ["Party", "outer row", "=="]),
        (lambda d: exists(Party, lambda p: (p.id == d.party_id) & (p.name == d.ratio)), ["different types"]),
        (lambda d: exists(Party, lambda p: (p.id == d.party_id) & (p.id > d.size)), ["id > size", "outside"]),
        (lambda d: exists(d.rows, lambda row: row.qty > d.size), ["qty > size", "outside the lambda"]),
        (lambda d: exists(d.rows, lambda row: row.qtty > 1), ["'qtty'", "'qty'"]),
        (lambda d: exists(d.stamp), ["collection"]),
        (lambda d: exists(d.rows, d.size == 1), ["size == 1 is not a function", "lambda one"]),
        (lambda d: every(d.rows, None), ["needs a condition", "not_(exists(...))"]),
        (
            lambda d: exists(Deal, lambda one: (one.id == d.id) & exists(Party, lambda p: p.id == d.party_id)),
            ["around"],
        ),
        (lambda d: exists(via(d.id, Deal).rows), ["exists(Deal, lambda one: (one.id == id) & exists(one.rows, ...))"]),
        (lambda d: d.rows.qty > 1, ["Deal.rows has no attribute 'qty'", "exists() or every()"]),
        (lambda d: d.party_id.name == "x", ["Deal.party_id has no attribute 'name'", "via() follows a key"]),
        (
            lambda d: via(d.party_id, "Party").name == "x",
            ["via()", "the class of the entity", "instance of str is not"],
        ),
        (lambda d: via(d.party_id, Party(name="secret")).name == "x", ["via()", "an instance of Party is not"]),
        (lambda d: d.rows == [], ["Deal.rows", "exists()"]),
        (lambda d: some(d.stamp).txt == "a", ["'txt'", "'text'"]),
    ],
)
def test_a_criterion_about_other_rows_that_cannot_be_meant_is_refused(market, ask, words):
    with query_budget(0), pytest.raises(QueryError) as caught:
        market.deals.find(ask(fields(Deal)))
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)


def test_what_asks_about_rows_elsewhere_is_no_question_for_matches():
    d = fields(Deal)
    for criterion in (via(d.party_id, Party).name == "x", exists(Party, lambda p: p.id == d.party_id)):
        with pytest.raises(QueryError, match="rows of other tables; use a repository"):
            matches(criterion, Deal(first_id=1))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("rows", ["Deal.rows has no order"]),
        ("rows__qty", ["rows holds any number of children"]),
        ("party_id__nam", ["'nam'", "'name'"]),
        ("size__nam", ["'size'", "no foreign key"]),
    ],
)
def test_an_order_by_other_rows_that_cannot_be_meant_is_refused(market, order, words):
    with query_budget(0), pytest.raises(QueryError) as caught:
        market.deals.find(order_by=order)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)


def summary(**annotations):
    return types.new_class("Sums", (Summary[Deal],), exec_body=lambda body: body.update(__annotations__=annotations))


@pytest.mark.parametrize(
    ("field", "annotation", "words"),
    [
        ("rows__sku_sum", str | None, ["rows__sku is str, so sum does not fit it"]),
        ("rows__qty_avg", int | None, ["sum, min, max, count"]),
        ("rows__qty_sum", int, ["int | None"]),
        ("rows_sum", int, ["children can be measured", "'rows__id_sum'"]),
        ("rows__sku", str, ["children can be measured, but cannot be group keys"]),
        ("rows__qtty_sum", int | None, ["'rows__qty_sum'"]),
        ("size_avg", int | None, ["Decimal"]),
        ("size_summ", int | None, ["'size_summ'", "'size_sum'"]),
        ("count", str, ["int"]),
    ],
)
def test_a_summary_that_does_not_fit_is_refused_when_it_is_defined(field, annotation, words):
    with pytest.raises(QueryError) as caught:
        summary(**{field: annotation})
    missing = [word for word in [f"Sums.{field}", *words] if word not in str(caught.value)]
    assert not missing, str(caught.value)


def test_a_sum_of_floats_is_refused_and_of_nothing_is_none(market):
    with query_budget(0), pytest.raises(QueryError, match=r"Sums.ratio_sum: .*approximate = \('ratio',\)"):
        market.deals.summarize(summary(ratio_sum=float | None))
    of_nothing = summary(count=int, size_avg=Decimal | None, rows__qty_sum=int | None, rows__count=int)
    for criteria in ((), (fields(Deal).size == 77,)):
        [found] = market.deals.summarize(of_nothing, *criteria)
        assert found == of_nothing(count=0 if criteria else 2, size_avg=None, rows__qty_sum=None, rows__count=0)


without_key = sa.Table("keyless_of_errors", Base.metadata, sa.Column("name", sa.String(10)))
pairs = sa.Table(
    "pair_of_errors",
    Base.metadata,
    sa.Column("deal_id", sa.ForeignKey(DealRow.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("party_id", sa.ForeignKey(PartyRow.id), primary_key=True),
)


class Name(BaseModel):
    name: str


class Pair(BaseModel):
    deal_id: int
    party_id: int


class Names(BaseRepository[Name, str]):
    model = without_key


class Pairs(BaseRepository[Pair, tuple[int, int]]):
    model = pairs


def test_a_table_serves_as_model_and_without_a_key_says_what_it_cannot_do(market):
    deal, pair = market.deals.first(), Pairs(market)
    link = Pair(deal_id=deal.id, party_id=deal.first_id)
    assert pair.add(link) == pair.get((link.deal_id, link.party_id)) == link
    pair.delete((link.deal_id, link.party_id))
    assert pair.find() == []
    names = Names(market)
    assert names.add(Name(name="a")) == names.first()
    for use in (lambda: names.get("a"), lambda: names.update(Name(name="a")), lambda: names.delete("a")):
        with pytest.raises(MappingError, match=r"keyless_of_errors has no primary key.*delete_where"):
            use()
    assert names.delete_where(name="a") == 1

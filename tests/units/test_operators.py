"""Every operator, on values that are easily got wrong: every backend and `matches` against an evaluation by hand."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest
from pydantic import BaseModel

from sqlrepo import (
    QueryError,
    between,
    contains,
    endswith,
    icontains,
    iendswith,
    iequals,
    in_,
    is_null,
    istartswith,
    matches,
    not_,
    not_in,
    startswith,
)
from tests.units.domain import SERVED, Colour, Lab, Specimen, Specimens, database, specimen
from tests.units.samples import OTHERS, TEXTS


class Identified(BaseModel):
    id: int


class Known(Specimens):
    """The repository with all that it holds."""

    rows: list[Specimen]


@pytest.fixture(scope="module", params=["memory", "sqlite", *SERVED])
def specimens(request):
    """A repository whose rows hold each value of each column at least once; no test changes it."""
    db = database(request.param)
    columns = {"text": TEXTS, **OTHERS}
    with Lab(db) as lab:
        lab.specimens.add_many(
            Specimen(
                id=row,
                other=TEXTS[row * 7 % len(TEXTS)],
                rank=row % 3 if row % 5 else None,
                **{name: values[row % len(values)] for name, values in columns.items()},
            )
            for row in range(len(TEXTS))
        )
    known = Known(db)
    known.rows = known.find()
    yield known
    db.dispose()


def simple_fold(text):
    return "".join("i" if c == "İ" else c.lower() if len(c.lower()) == 1 else c for c in text)


def stored(value):
    """How a value is compared: members by name."""
    return value.name if isinstance(value, Colour) else value


EQUALITY = {"==": lambda a, b: a == b, "!=": lambda a, b: a != b}
COMPARISONS = EQUALITY | {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
TEXT_OPERATORS = {
    contains: lambda value, needle: needle in value,
    startswith: lambda value, needle: value.startswith(needle),
    endswith: lambda value, needle: value.endswith(needle),
    icontains: lambda value, needle: simple_fold(needle) in simple_fold(value),
    istartswith: lambda value, needle: simple_fold(value).startswith(simple_fold(needle)),
    iendswith: lambda value, needle: simple_fold(value).endswith(simple_fold(needle)),
    iequals: lambda value, needle: simple_fold(value) == simple_fold(needle),
}


def check(specimens, criterion, expected):
    """Whether the backend and `matches` choose the rows that ``expected`` calls true; None is unknown."""
    verdicts = {row.id: expected(row) for row in specimens.rows}
    for asked, wanted in ((criterion, True), (not_(criterion), False)):
        ids = [row for row, verdict in verdicts.items() if verdict is wanted]
        assert [one.id for one in specimens.find(asked, into=Identified)] == ids, str(asked)
        assert [row.id for row in specimens.rows if matches(asked, row)] == ids, str(asked)


@pytest.mark.parametrize("operator", COMPARISONS)
@pytest.mark.parametrize("name", ["text", "other", *OTHERS])
def test_comparisons(specimens, name, operator):
    compare = COMPARISONS[operator]
    values = {"text": TEXTS, "other": TEXTS, **OTHERS}[name]
    for literal in [value for value in values if value is not None][:: 9 if values is TEXTS else 2]:

        def expected(row, literal=literal):
            value = getattr(row, name)
            return None if value is None else compare(stored(value), stored(literal))

        check(specimens, compare(getattr(specimen, name), literal), expected)


@pytest.mark.parametrize("name", ["text", "other", *OTHERS])
def test_orders(specimens, name):
    def place(row):
        value = stored(getattr(row, name))
        return (value is not None, value, row.id) if value is not None else (False, row.id)

    rows = [row.id for row in sorted(specimens.rows, key=place)]
    assert [one.id for one in specimens.find(order_by=name, into=Identified)] == rows
    assert [one.id for one in specimens.find(order_by=f"-{name}", into=Identified)] == rows[::-1]


@pytest.mark.parametrize("operator", TEXT_OPERATORS, ids=lambda given: given.__name__)
@pytest.mark.parametrize("name", ["text", "other"])
def test_text_operators(specimens, name, operator):
    rows = specimens.rows
    for needle in TEXTS[1:]:
        texts = [(row.id, getattr(row, name)) for row in rows]
        ids = [number for number, text in texts if text is not None and TEXT_OPERATORS[operator](text, needle)]
        criterion = operator(getattr(specimen, name), needle)

        assert [one.id for one in specimens.find(criterion, into=Identified)] == ids, repr(needle)
        assert [row.id for row in rows if matches(criterion, row)] == ids, repr(needle)


@pytest.mark.parametrize("operator", TEXT_OPERATORS, ids=lambda given: given.__name__)
def test_negated_text_operators_exclude_null(specimens, operator):
    for needle in ("", "a", "%", "É", "😀", "\U0010ffff"):

        def expected(row, needle=needle):
            return None if row.text is None else TEXT_OPERATORS[operator](row.text, needle)

        check(specimens, operator(specimen.text, needle), expected)


@pytest.mark.parametrize("operator", COMPARISONS)
@pytest.mark.parametrize(
    ("left", "right"), [("text", "other"), ("number", "rank"), ("number", "big"), ("moment", "zoned")]
)
def test_fields_against_fields(specimens, left, right, operator):
    compare = COMPARISONS[operator]

    def expected(row):
        one, other = getattr(row, left), getattr(row, right)
        return None if one is None or other is None else compare(one, other)

    check(specimens, compare(getattr(specimen, left), getattr(specimen, right)), expected)


@pytest.mark.parametrize("name", ["text", *OTHERS])
def test_membership(specimens, name):
    values = {"text": TEXTS, **OTHERS}[name]
    field = getattr(specimen, name)
    for given in (values[1:2], values[1:4], values[2:3] * 2, values):
        literals, null = [value for value in given if value is not None], None in given

        def expected(row, literals=literals, null=null):
            value = getattr(row, name)
            if value is None:
                return True if null else None
            return value in literals

        check(specimens, in_(field, given), expected)
        check(specimens, not_(not_in(field, given)), expected)


def test_membership_of_nothing(specimens):
    everything = specimens.count()

    assert specimens.count(in_(specimen.text, [])) == 0
    assert specimens.count(not_in(specimen.text, [])) == everything
    assert specimens.count(not_(in_(specimen.text, []))) == everything
    assert specimens.count(in_(specimen.text, [None])) == specimens.count(is_null(specimen.text)) == 1
    assert specimens.count(not_in(specimen.text, [None])) == everything - 1
    assert not matches(in_(specimen.text, []), Specimen(id=1))
    assert matches(not_in(specimen.text, []), Specimen(id=1))


def test_membership_of_many_values(specimens):
    assert specimens.count(in_(specimen.number, range(30_000))) == specimens.count(between(specimen.number, 0, 29_999))
    with pytest.raises(QueryError):
        specimens.count(in_(specimen.number, range(40_000)))


@pytest.mark.parametrize("name", ["text", *OTHERS])
def test_between_includes_both_ends(specimens, name):
    values = sorted(({"text": TEXTS[1::9], **OTHERS}[name][1:]), key=stored)
    for low, high in product(values[::2], values[1::2]):

        def expected(row, low=low, high=high):
            value = getattr(row, name)
            return None if value is None else stored(low) <= stored(value) <= stored(high)

        check(specimens, between(getattr(specimen, name), low, high), expected)


@pytest.mark.parametrize("name", ["text", *OTHERS])
def test_none_is_null(specimens, name):
    field, values = getattr(specimen, name), [getattr(row, name) for row in specimens.rows]
    nulls = values.count(None)

    for null in (field == None, is_null(field), not_(field != None)):  # noqa: E711
        assert specimens.count(null) == nulls
    for other in (field != None, not_(is_null(field)), not_(field == None)):  # noqa: E711
        assert specimens.count(other) == len(values) - nulls
    assert specimens.count(**{name: None}) == nulls


def test_a_bool_field_is_a_criterion(specimens):
    check(specimens, specimen.flag, lambda row: row.flag)
    check(specimens, not_(specimen.flag), lambda row: None if row.flag is None else not row.flag)
    check(specimens, specimen.flag == False, lambda row: None if row.flag is None else not row.flag)  # noqa: E712
    check(specimens, specimen.flag & (specimen.number > 0), lambda row: kleene_and(row.flag, more(row)))
    check(specimens, (specimen.number > 0) | specimen.flag, lambda row: kleene_or(row.flag, more(row)))


def more(row):
    return None if row.number is None else row.number > 0


def kleene_and(*parts):
    return False if False in parts else None if None in parts else True


def kleene_or(*parts):
    return True if True in parts else None if None in parts else False


def test_unknown_follows_kleene(specimens):
    a, b = specimen.flag, specimen.number > 0

    check(specimens, not_(a & b), lambda row: negated(kleene_and(row.flag, more(row))))
    check(specimens, not_(a | b), lambda row: negated(kleene_or(row.flag, more(row))))
    check(specimens, not_(not_(a)), lambda row: row.flag)
    check(specimens, a & not_(a), lambda row: kleene_and(row.flag, negated(row.flag)))
    check(specimens, a | not_(a), lambda row: kleene_or(row.flag, negated(row.flag)))
    check(specimens, in_(specimen.text, []) | a, lambda row: row.flag)
    check(specimens, not_in(specimen.text, []) & a, lambda row: row.flag)


def negated(value):
    return None if value is None else not value


def test_aware_datetimes_compare_as_instants(specimens):
    paris = datetime(2024, 1, 1, 2, 30, tzinfo=timezone(timedelta(hours=2)))

    for field in (specimen.moment, specimen.zoned):
        same = specimens.find(field == paris)
        assert same
        assert {row.moment for row in same} == {datetime(2024, 1, 1, 0, 30, tzinfo=UTC)}

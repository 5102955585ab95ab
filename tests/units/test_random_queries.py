"""Random criteria, orders and limits: memory, SQLite and `matches` choose the same rows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sqlrepo import (
    asc,
    between,
    contains,
    desc,
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


def bounded(examples):
    """As many examples, the same ones in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


# Few characters and few values, so that random rows meet, tie and contain each other.
TEXT = st.text(alphabet="aAbéÉİß\u017f%_\\ \ud7ff\ue000😀\U0010ffff", max_size=4)
MOMENTS = st.integers(-2, 2).map(lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))
VALUES = {
    "text": TEXT,
    "other": TEXT,
    "number": st.sampled_from([0, 1, -1, 2, 2**31 - 1, -(2**31)]),
    "rank": st.integers(-1, 2),
    "flag": st.booleans(),
    "colour": st.sampled_from(Colour),
    "amount": st.sampled_from([Decimal(text) for text in ("0.00", "0.01", "-0.01", "9.90", "10.00")]),
    "ratio": st.sampled_from([0.0, 0.1, 0.1 + 0.2, -1e300, 5e-324]),
    "moment": MOMENTS,
    "zoned": MOMENTS,
    "blob": st.binary(max_size=2),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=8)


@st.composite
def leaves(draw):
    """A criterion without parts."""
    name = draw(st.sampled_from(sorted(VALUES)))
    field, values = getattr(specimen, name), VALUES[name]
    makers = [
        lambda: field == draw(st.none() | values),
        lambda: field != draw(st.none() | values),
        lambda: field < draw(values),
        lambda: field <= draw(values),
        lambda: field > draw(values),
        lambda: field >= draw(values),
        lambda: between(field, draw(values), draw(values)),
        lambda: in_(field, draw(st.lists(st.none() | values, max_size=3))),
        lambda: not_in(field, draw(st.lists(st.none() | values, max_size=3))),
        lambda: is_null(field),
        lambda: specimen.text == specimen.other,
        lambda: specimen.number <= specimen.rank,
        lambda: specimen.moment > specimen.zoned,
    ]
    if name in ("text", "other"):
        operators = [contains, startswith, endswith, icontains, istartswith, iendswith, iequals]
        makers += [lambda one=one: one(field, draw(TEXT)) for one in operators]
    if name == "flag":
        makers.append(lambda: field)
    return draw(st.sampled_from(makers))()


CRITERIA = st.recursive(
    leaves(),
    lambda parts: st.one_of(
        st.builds(lambda a, b: a & b, parts, parts), st.builds(lambda a, b: a | b, parts, parts), parts.map(not_)
    ),
    max_leaves=6,
)
ORDERS = st.lists(
    st.builds(
        lambda way, name: way(getattr(specimen, name)), st.sampled_from([asc, desc]), st.sampled_from(sorted(VALUES))
    ),
    max_size=3,
)
OPTIONS = st.fixed_dictionaries(
    {"order_by": ORDERS, "limit": st.none() | st.integers(0, 4), "offset": st.none() | st.integers(0, 4)}
)


@pytest.fixture(scope="module", params=["sqlite", *SERVED])
def twins(request):
    both = [database(kind) for kind in ("memory", request.param)]
    yield both
    for db in both:
        db.dispose()


def refill(db, rows):
    with Lab(db) as lab:
        lab.specimens.delete_where(everything=True)
        return lab.specimens.add_many(rows)


@bounded(200)
@given(ROWS, CRITERIA, OPTIONS)
def test_memory_and_the_database_agree(twins, rows, criterion, options):
    entities = [Specimen(id=number, **row) for number, row in enumerate(rows)]
    refilled = [refill(db, entities) for db in twins]
    assert refilled[0] == refilled[1] == entities

    memory, stored = (Specimens(db) for db in twins)
    assert memory.find(criterion, **options) == stored.find(criterion, **options)
    assert memory.count(criterion) == stored.count(criterion)
    assert stored.find(criterion) == [one for one in entities if matches(criterion, one)]
    assert stored.count(criterion) + stored.count(not_(criterion)) <= len(entities)

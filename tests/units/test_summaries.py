"""Summaries: groups and their measures, which agree on every backend."""

import random
from collections import defaultdict

import pytest

from sqlrepo.driver import Group, Measure
from sqlrepo.language.criteria import Ref
from sqlrepo.language.fields import Sort
from tests.units.domain import SERVED, Colour, Lab, Specimen, database
from tests.units.samples import OTHERS, TEXTS

# The aware ones by moment: two zones of one moment are one value.
SAMPLES = {"text": TEXTS, "other": [text for text in TEXTS if text is None or text == text.rstrip()], **OTHERS}


@pytest.fixture(params=["memory", "sqlite", *SERVED])
def specimens(request):
    made = database(request.param)
    drawn = random.Random(7)
    rows = [
        Specimen(id=number, **{name: drawn.choice(values) for name, values in SAMPLES.items()}) for number in range(60)
    ]
    with Lab(made) as lab:
        lab.specimens.add_many(rows)
        yield lab.specimens, rows
        lab.rollback()
    made.dispose()


def order_of(value):
    stored = value.name if isinstance(value, Colour) else value
    return (value is not None, stored)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_type_is_a_key_and_is_measured(specimens, name):
    repository, rows = specimens
    ref = Ref(object, name)
    functions = ("count", "count_distinct") if name == "flag" else ("count", "count_distinct", "min", "max")
    measures = (Measure("count"), *(Measure(one, ref) for one in functions))
    by_number = Group((Ref(object, "number"),), measures, order=(Sort(Ref(object, "0")),))
    by_value = Group((ref,), (Measure("count"),), order=(Sort(Ref(object, "0"), descending=True),))
    found, keyed = repository._read(
        lambda driver: [driver.group(repository._schema, one) for one in (by_number, by_value)]
    )
    groups, values = defaultdict(list), defaultdict(int)
    for row in rows:
        groups[row.number].append(getattr(row, name))
        values[getattr(row, name)] += 1
    expected = []
    for key in sorted(groups, key=order_of):
        known = sorted((value for value in groups[key] if value is not None), key=order_of)
        extremes = (known[0], known[-1]) if known else (None, None)
        expected.append((key, len(groups[key]), len(known), len(set(known)), *extremes[: len(functions) - 2]))
    assert found == expected
    assert keyed == [(key, values[key]) for key in sorted(values, key=order_of, reverse=True)]
    assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in expected]

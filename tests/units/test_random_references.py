"""Random writes to tables that refer to each other: memory and the databases answer, refuse and keep the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlrepo import ForeignKeyViolationError, RepositoryError
from sqlrepo.memory import InMemoryDatabase
from tests.units.domain import database
from tests.units.references import (
    Badge,
    Base,
    Customer,
    Folder,
    Line,
    Order,
    Remark,
    Seal,
    Shop,
    Stamp,
    Worker,
    everything,
)
from tests.units.test_random_operations import LeftError, Savepoint, leave, told
from tests.units.test_random_queries import bounded

IDS = st.integers(1, 3)
CODES = st.sampled_from(["a", "b", None])
ENTITIES = {
    "customers": st.builds(Customer, id=IDS, code=CODES),
    "orders": st.builds(Order, id=IDS, customer=IDS),
    "lines": st.builds(Line, order_id=IDS, number=st.integers(1, 2)),
    "remarks": st.builds(Remark, id=IDS, order_id=IDS | st.none(), line=st.integers(1, 2) | st.none()),
    "badges": st.builds(Badge, id=IDS, code=CODES),
    "seals": st.builds(Seal, id=st.just(1), code=CODES),
    "stamps": st.builds(Stamp, id=IDS, code=CODES),
    # MariaDB alone does not let a row go that refers to itself.
    "workers": st.builds(Worker, id=IDS, boss=IDS | st.none()).filter(lambda worker: worker.id != worker.boss),
    "folders": st.builds(Folder, id=IDS, within=IDS | st.none()),
}
CHANGES = {
    "customers": st.fixed_dictionaries({"code": CODES}),
    "orders": st.fixed_dictionaries({"customer": IDS}),
    "remarks": st.fixed_dictionaries({"order_id": IDS | st.none()}),
    "badges": st.fixed_dictionaries({"code": CODES}),
    "seals": st.fixed_dictionaries({"code": CODES}),
    "stamps": st.fixed_dictionaries({"code": CODES}),
    "workers": st.just({"boss": None}),
    "folders": st.fixed_dictionaries({"within": IDS | st.none()}),
}
# What a statement does to several rows that refer to each other depends on their order, on each database another.
APART = [name for name in CHANGES if name not in ("customers", "workers", "folders")]


def on(names, name, *arguments):
    """Calls of a method on the repositories, with arguments that depend on which one it is."""
    return st.sampled_from(names).flatmap(
        lambda one: st.tuples(st.just((one, name)), *(make(one) for make in arguments))
    )


def key(name):
    return st.tuples(IDS, st.integers(1, 2)) if name == "lines" else IDS


NAMES = list(ENTITIES)
CALLS = st.one_of(
    on(NAMES, "add", ENTITIES.__getitem__),
    on(NAMES, "add", ENTITIES.__getitem__),
    on(NAMES, "save", ENTITIES.__getitem__),
    on(["customers", "orders", "badges"], "upsert", ENTITIES.__getitem__, lambda _: st.just("id")),
    on(NAMES, "delete", key),
    on(list(CHANGES), "patch", lambda _: IDS, CHANGES.__getitem__),
    on(APART, "update_where", CHANGES.__getitem__),
    on(["orders", "lines", "badges"], "delete_where"),
)
STEPS = st.recursive(
    CALLS, lambda steps: st.builds(Savepoint, st.lists(steps, max_size=5), st.booleans()), max_leaves=20
)


def call(shop, step):
    (repository, name), *arguments = step
    method = getattr(getattr(shop, repository), name)
    if name == "update_where":
        return method(everything=True, set_=arguments[0])
    return method(everything=True) if name == "delete_where" else method(*arguments)


def played(shop, steps, answers, details):
    for step in steps:
        try:
            with shop.savepoint():
                if isinstance(step, Savepoint):
                    played(shop, step.steps, answers, details)
                    leave(step.fails)
                else:
                    answers.append(call(shop, step))
        except (RepositoryError, LeftError) as error:
            refers = isinstance(error, ForeignKeyViolationError) and details
            answers.append((error.constraint, error.fields, error.table) if refers else told(error))


def history(db, steps, details):
    answers = []
    with Shop(db) as shop:
        played(shop, steps, answers, details)
        answers.append(everything(shop))
    with Shop(db) as shop:
        return [*answers, everything(shop)]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def stored(request):
    made = database(request.param, Base)
    yield made
    made.dispose()


def emptied(db):
    with Shop(db) as shop:
        shop.workers.update_where(everything=True, set_={"boss": None})
        shop.folders.update_where(everything=True, set_={"within": None})
        for name in reversed(NAMES):
            getattr(shop, name).delete_where(everything=True)
    return db


@bounded(40)
@given(st.lists(STEPS, min_size=3, max_size=15))
def test_memory_and_the_database_keep_the_same_references(stored, steps):
    details = "fk_error_details" not in stored.missing_capabilities

    assert history(InMemoryDatabase(), steps, details) == history(emptied(stored), steps, details)

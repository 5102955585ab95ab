"""Backends that are broken on purpose fail the contract, by the right clauses."""

from collections import Counter
from dataclasses import fields, replace
from unittest.mock import MagicMock
from uuid import uuid4

import pytest

from sqlrepo import BaseRepository, BaseUnitOfWork, InvalidValueError
from sqlrepo.core import aggregates, work
from sqlrepo.core.aggregates import Aggregate, Found, _Difference
from sqlrepo.core.related import Call, Kinds
from sqlrepo.core.scope import Scope, ScopedDriver
from sqlrepo.core.views import View
from sqlrepo.driver import Condition, Transaction
from sqlrepo.language import fields as criteria_of_fields
from sqlrepo.language.criteria import EVERYTHING, Compare, Exists, find_leaves, map_inner, map_leaves
from sqlrepo.language.values import ValueType
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory import driver as memory_driver
from sqlrepo.memory.compiler import make_key
from sqlrepo.memory.tables import Changes, Reference, Table
from sqlrepo.tables.mapper import Mapper
from sqlrepo.testing import Harness, RepositoryContract
from sqlrepo.testing.contract import cases_of
from sqlrepo.testing.subject import Subject
from tests.contract import mutants
from tests.contract.task import Task, Tasks, Work, make

CASES = cases_of(RepositoryContract)


def outcomes(make_database, unit=Work, names=tuple(CASES), **members):
    """Run cases, each on a store of its own; return those that failed and those that were not checked."""
    failed, unchecked = {}, set()
    for name in names:
        database = make_database()
        harness = Harness(
            open=lambda: unit(database),  # noqa: B023  # used in this round only
            make=members.get("make", make),
            change=members.get("change", lambda task: replace(task, priority=task.priority + 10)),
            normalises=members.get("normalises", ()),
            generated=members.get("generated", ()),
        )
        try:
            CASES[name](RepositoryContract(), Subject(harness))
        except pytest.skip.Exception:
            unchecked.add(name)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # any error will do
            failed[name] = error
    return failed, unchecked


def clauses(failed):
    return {CASES[name].clause for name in failed}


def test_memory_as_it_is_fails_nothing_and_leaves_nothing_unchecked():
    assert outcomes(InMemoryDatabase) == ({}, set())


def test_mutant_that_changes_nothing_fails_nothing():
    assert outcomes(lambda: mutants.MutatedDatabase(mutants.Mutant)) == ({}, set())


@pytest.mark.parametrize("mutant", tuple(mutants.FOUND_BY), ids=lambda mutant: mutant.__name__)
def test_broken_backend_is_found_out(mutant):
    names = [name for name, case in CASES.items() if case.clause in mutants.FOUND_BY[mutant]]

    failed, _ = outcomes(lambda: mutants.MutatedDatabase(mutant), names=names)

    assert clauses(failed) == mutants.FOUND_BY[mutant]


def test_every_mutant_is_tried():
    known = {one for one in vars(mutants).values() if isinstance(one, type) and issubclass(one, mutants.Mutant)}

    assert known - set(mutants.FOUND_BY) == {mutants.Mutant, mutants.Misread, mutants.MisreadLeaf}


# -- repositories that lose data


@pytest.mark.parametrize("lossy", tuple(mutants.LossyTasks.FOUND_BY), ids=lambda lossy: lossy.__name__)
def test_loss_is_found_out(lossy):
    names = [name for name, case in CASES.items() if case.clause in mutants.LossyTasks.FOUND_BY[lossy]]

    failed, _ = outcomes(InMemoryDatabase, lossy, names)

    assert clauses(failed) == mutants.LossyTasks.FOUND_BY[lossy]


# -- what stands above the driver


OF_SCOPES = {case.clause for case in CASES.values() if case.clause.startswith("15.")}


def passed_on(name):
    return lambda self, *arguments, **named: getattr(self.beneath, name)(*arguments, **named)


def patched_always(self, id, changes):
    return BaseRepository.patch(self, id, changes or {"done": self.get(id).done})


def keep_children(self, driver, row, given):
    return self.load(driver, [row])


def uncounted(self, *given, **options):
    return BaseRepository._apply(self, *given, **{**options, "counted": False})


def adopt(self):
    stored = {self._key(row): row for rows in self._stored for row in rows}
    for item in self._items:
        item.old = stored.get(self._key(item.values))


def numbered_by_age(part, taken, had):
    return had


def one_by_one(self, driver, rows, lock=None):
    found = [LOAD(self, driver, [row], lock) for row in rows]
    return Found(rows, [parts for one in found for parts in one.parts])


def without_children(where, find):
    """Find all rows where children are asked about; were it everywhere, streams would not end."""
    asked = any(isinstance(leaf, Exists) for leaf in find_leaves(where.shape))
    return Condition() if asked else WITH_OWNERS(where, find)


LOAD, WITH_OWNERS = Aggregate.load, memory_driver.with_owners


@pytest.mark.parametrize(
    ("owner", "name", "mistake", "found"),
    [
        pytest.param(Transaction, "roll_back_savepoint", Transaction.close_savepoint, {"13.4"}, id="callbacks"),
        pytest.param(ValueType, "check", lambda self, value: value, {"2.4", "3.15", "8.8", "8.9", "8.10"}, id="values"),
        pytest.param(Changes, "_index", lambda self, key: None, {"8.11"}, id="own-uniques"),
        pytest.param(work, "Lock", MagicMock, {"10.13"}, id="busy"),
        pytest.param(Tasks, "patch", patched_always, {"6.16"}, id="empty-patch"),
        pytest.param(Table, "unique_values", lambda self, row: [(row[0],), (row[1],), (row[4],)], {"8.4"}, id="nulls"),
        pytest.param(Scope, "confine", lambda self, driver: driver, OF_SCOPES - {"15.5", "15.9"}, id="scope"),
        pytest.param(Scope, "check_changes", lambda self, changes: True, {"15.7"}, id="scope-of-changes"),
        pytest.param(Scope, "check_new", lambda self, rows: None, {"15.5"}, id="scope-of-new-rows"),
        pytest.param(Aggregate, "replace", keep_children, {"16.2", "16.5", "16.6"}, id="children-are-kept"),
        pytest.param(
            Aggregate,
            "complete",
            lambda self, driver, rows, given, **_: self.load(driver, rows),
            {"16.1"},
            id="no-children",
        ),
        pytest.param(Tasks, "_apply", uncounted, {"16.3"}, id="children-do-not-count"),
        pytest.param(_Difference, "_match_keys", adopt, {"16.5", "16.6"}, id="children-are-stolen"),
        pytest.param(aggregates, "_positions", numbered_by_age, {"16.2"}, id="children-stay-in-place"),
        pytest.param(Reference, "action", lambda self, after: "NO ACTION", {"16.8"}, id="children-stay-behind"),
        pytest.param(memory_driver, "with_owners", without_children, {"16.7", "17.1"}, id="no-filter"),
        pytest.param(Aggregate, "load", one_by_one, {"16.9"}, id="children-one-by-one"),
        *(
            pytest.param(ScopedDriver, name, passed_on(name), found, id=f"scope-of-{name}")
            for name, found in {
                "fetch": {"15.1"},
                "count": {"15.2"},
                "update": {"15.3", "15.4"},
                "delete": {"15.3", "15.4"},
                "upsert": {"15.6"},
            }.items()
        ),
    ],
)
def test_mistake_in_one_place_is_found_out(owner, name, mistake, found, monkeypatch):
    monkeypatch.setattr(owner, name, mistake)

    failed, _ = outcomes(InMemoryDatabase)

    assert found <= clauses(failed)


# -- what only one clause about aggregates finds


OF_AGGREGATES = [name for name, case in CASES.items() if case.clause.startswith(("16.", "17."))]


def without_steps(self, ids, **options):
    return [replace(one, steps=[]) for one in BaseRepository.get_many(self, ids, **options)]


def update_by_the_last_version(self, entity):
    return BaseRepository.update(self, replace(entity, version=self.get(entity.id).version))


def limited_to_children(self, *given, **options):
    found = BaseRepository.find(self, *given, **options)
    children = [one for one in found for _ in getattr(one, "steps", None) or [None]][: options.get("limit")]
    return [one for one in found if one in children]


def add_each(self, entities):
    added = []
    for entity in entities:
        added += BaseRepository.add_many(self, [entity])
        self.unit.commit()
    return added


def fail_of_statements_only(self, error):
    return None if isinstance(error, InvalidValueError) else FAIL(self, error)


def patch_all(self, id, changes):
    return BaseRepository.patch(self, id, {"steps": [], **changes})


def save_fields(self, entity):
    known = entity.id is not None and self.get_or_none(entity.id)
    return self.update(replace(entity, steps=known.steps)) if known else BaseRepository.save(self, entity)


def write_one_by_one(self):
    for _ in self._items:
        self._driver.count(self._part.schema, Condition())
    return WRITE(self)


def dump_without_place(part, given, place):
    return [child._replace(place=part.name) for child in DUMP(part, given, place)]


def strictly(where, find):
    def less(leaf):
        return replace(leaf, op="<") if isinstance(leaf, Compare) and leaf.op == "<=" else leaf

    def inside(leaf):
        return map_inner(leaf, less) if isinstance(leaf, Exists) else leaf

    return WITH_OWNERS(replace(where, shape=map_leaves(where.shape, inside)), find)


def city_for_street(self, name):
    return COLUMN(self, "place.city" if name == "place.street" else name)


def rows_unless_about_children(self, schema, request):
    about = "exists" in str(request.where.shape) or "every" in str(request.where.shape)
    return self.beneath.fetch(schema, request) if about else FETCH(self, schema, request)


def exists_without_far_scope(self, leaf, relations):
    return EXISTS(self, leaf, lambda: Kinds(relations().kinds) if leaf.root else relations())


def via_without_far_scope(self, ref, relations):
    return VIA(self, ref, lambda: Kinds(relations().kinds))


def rows_without_far_scope(self, *given):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(View, "_scope", lambda self, mapper: EVERYTHING)
        return ROWS(self, *given)


def count_without_far_scope(self, *given):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(View, "_scope", lambda self, mapper: EVERYTHING)
        return COUNT_OF(self, *given)


def group_joined_rows(schema, request, rows, children, reader):
    """Sum up the rows of a join with children, as a query with JOIN and GROUP BY does."""
    owners = [(part, make_key(part.schema, part.owner), found) for (part, _), found in children.items()]
    for part, owner, found in owners[:1]:
        key, counts = make_key(schema, part.targets), Counter(map(owner, found))
        rows = [row for row in rows for _ in range(max(1, counts[key(row)]))]
    return GROUP(schema, request, rows, children, reader)


EXISTS, VIA, GROUP = Mapper._bind_exists, Mapper._bind_via, memory_driver.group_rows
FAIL, FETCH, WRITE, DUMP = Transaction.fail, ScopedDriver.fetch, _Difference.write, aggregates._dump
COLUMN, ROWS, COUNT_OF = Mapper.column, View._fetch, View._related


@pytest.mark.parametrize(
    ("found", "owner", "name", "mistake"),
    [
        ("16.1", Tasks, "get_many", without_steps),
        ("16.3", Tasks, "_apply", uncounted),
        ("16.4", Tasks, "update", update_by_the_last_version),
        ("16.5", aggregates, "_dump", dump_without_place),
        ("16.6 16.10", Transaction, "fail", fail_of_statements_only),
        ("16.7", Tasks, "find", limited_to_children),
        ("16.8", Reference, "find_children", lambda self, changes_of, values: []),
        ("16.9", Aggregate, "load", one_by_one),
        ("16.10", Tasks, "add_many", add_each),
        ("16.11", Tasks, "patch", patch_all),
        ("16.12", Tasks, "save", save_fields),
        ("16.13", _Difference, "write", write_one_by_one),
        ("17.1", memory_driver, "with_owners", strictly),
        ("17.2", criteria_of_fields, "IsTrue", lambda criterion: criterion),
        ("17.3", Mapper, "column", city_for_street),
        ("17.5 17.6", ScopedDriver, "group", passed_on("group")),
        ("17.4 17.6", ScopedDriver, "fetch", rows_unless_about_children),
        ("17.6 17.8", Call, "scope_of", Kinds.scope_of),
        ("17.6", Mapper, "_bind_exists", exists_without_far_scope),
        ("17.6", Mapper, "_bind_via", via_without_far_scope),
        ("17.6 17.8", View, "_scope", lambda self, mapper: EVERYTHING),
        ("17.7", memory_driver, "group_rows", group_joined_rows),
        ("17.8", View, "_fetch", rows_without_far_scope),
        ("17.8", View, "_related", count_without_far_scope),
        ("17.8", Call, "_scopes_of", lambda self, parts: {}),
    ],
)
def test_mistake_is_found_out_by_one_clause_about_aggregates(found, owner, name, mistake, monkeypatch):
    monkeypatch.setattr(owner, name, mistake)

    failed, _ = outcomes(InMemoryDatabase, names=OF_AGGREGATES)

    assert clauses(failed) == {*found.split()}


# -- what the harness does wrong


def stored_before():
    database = InMemoryDatabase()
    with Work(database) as work:
        work.tasks.add(make(14))
    return database


def in_place(task):
    task.priority += 1
    return task


@pytest.mark.parametrize(
    ("members", "found"),
    [
        pytest.param({"make_database": stored_before}, {"1.1", "1.2"}, id="not-empty"),
        pytest.param({"make": lambda n: make(1)}, {"1.2"}, id="all-the-same"),
        pytest.param({"make": lambda n: replace(make(n), note=str(uuid4()))}, {"1.2"}, id="never-the-same"),
        pytest.param({"change": in_place}, {"1.3"}, id="changed-in-place"),
        pytest.param({"change": lambda task: task}, {"1.3"}, id="not-changed"),
        pytest.param({"change": lambda task: replace(task, id=(task.id or 0) + 1)}, {"1.3"}, id="key-changed"),
    ],
)
def test_mistake_of_the_harness_is_found_first(members, found):
    names = [name for name, case in CASES.items() if case.clause.startswith("1.")]

    failed, _ = outcomes(**{"make_database": InMemoryDatabase, "names": names, **members})

    assert clauses(failed) == found


# -- a fake that keeps the caller's object


class ForgetfulTasks(Tasks):
    def add_many(self, entities):
        given = list(entities)
        stored = super().add_many(given)
        for entity, row in zip(given, stored, strict=True):
            for field in fields(Task):
                setattr(entity, field.name, getattr(row, field.name))
            self._kept()[entity.id] = entity
        return given

    def update(self, entity):
        stored = super().update(entity)
        kept = self._kept()[stored.id] = entity
        kept.version = stored.version
        return kept

    def to_domain(self, row):
        return self._kept().get(row["id"]) or super().to_domain(row)

    def _kept(self):
        return self.unit._work.source.__dict__.setdefault("kept", {})


class ForgetfulWork(BaseUnitOfWork):
    tasks: ForgetfulTasks


def test_keeping_the_callers_object_is_found_out():
    names = [name for name, case in CASES.items() if case.clause.startswith("7.")]

    failed, _ = outcomes(InMemoryDatabase, ForgetfulWork, names)

    assert clauses(failed) == {"7.1", "7.2", "7.3", "7.4"}

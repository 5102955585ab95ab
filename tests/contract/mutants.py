"""Backends that are broken on purpose, each in one way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from sqlrepo.driver import Condition, Driver, Fetch, Transaction
from sqlrepo.language.criteria import (
    EVERYTHING,
    And,
    Compare,
    Criterion,
    IsNull,
    Leaf,
    Match,
    Not,
    OneOf,
    Or,
    Param,
    Ref,
    map_leaves,
)
from sqlrepo.memory import InMemoryDatabase
from sqlrepo.memory.tables import Changes
from sqlrepo.tables.schema import Schema
from tests.contract.task import Tasks

FOUND_BY: dict[type["Mutant"], set[str]] = {}


class Mutant:
    """A driver that passes everything on; subclasses change one thing, which the clauses of `found_by` must find."""

    without: str | None = None  # a part of the schema that the store ignores

    def __init_subclass__(cls, *, found_by: set[str] | None = None) -> None:
        if found_by:
            FOUND_BY[cls] = found_by

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    @classmethod
    def demanded(cls, schema: Schema) -> Schema:
        return replace(schema, **{cls.without: ()}) if cls.without else schema


class MutatedDatabase(InMemoryDatabase):
    """Memory behind a mutant."""

    def __init__(self, mutant: type[Mutant]) -> None:
        super().__init__()
        self.mutant = mutant

    def begin(self, transaction: Transaction, *, read_only: bool) -> Any:
        return self.mutant(super().begin(transaction, read_only=read_only))

    def register_table(self, schema: Schema) -> None:
        super().register_table(self.mutant.demanded(schema))


class Misread(Mutant):
    """The base of those that misread criteria."""

    def fetch(self, schema, request):
        return self.driver.fetch(schema, replace(request, where=self.misread(schema, request.where)))

    def count(self, schema, where, limit=None):
        return self.driver.count(schema, self.misread(schema, where), limit)

    def update(self, schema, columns, values, where):
        return self.driver.update(schema, columns, values, self.misread(schema, where))

    def delete(self, schema, where):
        return self.driver.delete(schema, self.misread(schema, where))


def leaves(shape: Criterion) -> list[Leaf]:
    found: list[Leaf] = []

    def collect(leaf: Leaf) -> Leaf:
        found.append(leaf)
        return leaf

    map_leaves(shape, collect)
    return found


def negations(shape: Criterion, change: Callable[[Not], Criterion]) -> Criterion:
    match shape:
        case And(parts) | Or(parts):
            return replace(shape, parts=tuple(negations(part, change) for part in parts))
        case Not():
            return change(shape)
        case _:
            return shape


# -- criteria


class TwoValuedNot(Misread, found_by={"3.4", "3.5"}):
    """What is unknown counts as false, so its negation is true."""

    def misread(self, schema, where):
        def true_of_nulls(negated: Not) -> Criterion:
            refs = {leaf.ref for leaf in leaves(negated.part) if not isinstance(leaf, IsNull)}
            return Or((negated, *(IsNull(ref) for ref in refs)))

        return replace(where, shape=negations(where.shape, true_of_nulls))


class MisreadLeaf(Misread):
    """The base of those that misread comparisons."""

    def misread(self, schema, where):
        params = list(where.params)
        shape = map_leaves(where.shape, lambda leaf: self.change(leaf, params))
        return Condition(shape, tuple(params))


class PercentIsAWildcard(MisreadLeaf, found_by={"4.2"}):
    """A search for text with % in it finds everything."""

    def change(self, leaf, params):
        return EVERYTHING if isinstance(leaf, Match) and "%" in params[leaf.text.index] else leaf


class CaseIsIgnored(MisreadLeaf, found_by={"4.3"}):
    """A search for text finds it in any case, as LIKE does on SQLite."""

    def change(self, leaf, params):
        if not isinstance(leaf, Match) or leaf.case != "exact":
            return leaf
        params[leaf.text.index] = params[leaf.text.index].lower()
        return replace(leaf, case="ascii")


class CaseIsNeverIgnored(MisreadLeaf, found_by={"4.4"}):
    """icontains is contains."""

    def change(self, leaf, params):
        return replace(leaf, case="exact") if isinstance(leaf, Match) else leaf


class EndsAreLeftOut(MisreadLeaf, found_by={"3.1", "3.2"}):
    """<= is <."""

    def change(self, leaf, params):
        return replace(leaf, op="<") if isinstance(leaf, Compare) and leaf.op == "<=" else leaf


class OnlyTheFirstOfSeveral(MisreadLeaf, found_by={"3.7"}):
    """in_ looks at one value."""

    def change(self, leaf, params):
        if isinstance(leaf, OneOf) and isinstance(leaf.values, Param):
            params[leaf.values.index] = params[leaf.values.index][:1]
        return leaf


class VersionIsIgnored(Misread, found_by={"9.2", "9.3", "9.5"}):
    def misread(self, schema, where):
        if not isinstance(where.shape, And):
            return where
        parts = [part for part in where.shape.parts if not _about(part, schema.version)]
        return replace(where, shape=And(tuple(parts)))


def _about(part: Criterion, column: str | None) -> bool:
    return isinstance(part, Compare) and part.ref.name == column


# -- reading


class LimitBeforeFilter(Mutant, found_by={"5.5"}):
    """The limit is taken from the whole table, the criteria are applied to what remains."""

    def fetch(self, schema, request):
        limited = self.driver.fetch(schema, replace(request, where=Condition()))
        whole = self.driver.fetch(schema, replace(request, limit=None, offset=0))
        return [row for row in whole if row in limited]


class NullIsLargest(Mutant, found_by={"5.3"}):
    """NULL sorts behind everything."""

    def fetch(self, schema, request):
        columns = tuple(schema.by_name)
        rows = self.driver.fetch(schema, Fetch(columns, request.where))
        for sort in reversed(request.order):
            place = schema.positions[sort.ref.name]
            rows.sort(key=lambda row: (row[place] is None, row[place] or type(row[place])()), reverse=sort.descending)
        return _cut(schema, request, rows)


class OrderIsForgotten(Mutant, found_by={"5.2"}):
    def fetch(self, schema, request):
        return self.driver.fetch(
            schema, replace(request, order=tuple(s for s in request.order if s.ref.name in schema.key))
        )


class OffsetIsForgotten(Mutant, found_by={"5.5", "5.8"}):
    def fetch(self, schema, request):
        return self.driver.fetch(schema, replace(request, offset=0))


def _cut(schema: Schema, request: Fetch, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    stop = None if request.limit is None else request.offset + request.limit
    places = [schema.positions[name] for name in request.columns]
    return [tuple(row[place] for place in places) for row in rows[request.offset : stop]]


class CountIgnoresCriteria(Mutant, found_by={"3.1"}):
    def count(self, schema, where, limit=None):
        return self.driver.count(schema, Condition(), limit)


class SomethingIsAlwaysThere(Mutant, found_by={"2.9"}):
    def count(self, schema, where, limit=None):
        return self.driver.count(schema, where, limit) if limit is None else limit


# -- writing


class NoneIsNotWritten(Mutant, found_by={"6.9", "6.15"}):
    def update(self, schema, columns, values, where):
        given = [(name, value) for name, value in zip(columns, values, strict=True) if value is not None]
        return self.driver.update(schema, [name for name, _ in given], tuple(value for _, value in given), where)


class UniqueIsIgnored(Mutant, found_by={"8.1", "8.3", "12.1"}):
    without = "uniques"


class ReferencesAreIgnored(Mutant, found_by={"8.13"}):
    without = "foreign_keys"


class ChecksAreIgnored(Mutant, found_by={"8.14"}):
    without = "checks"


class OnlyTheFirstIsChanged(Mutant, found_by={"6.13"}):
    def update(self, schema, columns, values, where):
        keys = self.driver.fetch(schema, Fetch(schema.key, where, limit=1))
        ref = [replace(leaf.ref, name=name) for leaf in leaves(where.shape)[:1] for name in schema.key]
        if not keys or not ref:
            return self.driver.update(schema, columns, values, where)
        one = And(tuple(Compare(ref, "==", Param(index)) for index, ref in enumerate(ref)))
        return self.driver.update(schema, columns, values, Condition(one, keys[0]))


class UpsertsAlwaysInsert(Mutant, found_by={"6.17", "6.18", "9.6"}):
    def upsert(self, schema, request, returning):
        return self.driver.insert(schema, tuple(request.row), [tuple(request.row.values())], returning)[0], True


class UpsertsNeverTellWhatTheyDid(Mutant, found_by={"6.17"}):
    def upsert(self, schema, request, returning):
        return self.driver.upsert(schema, request, returning)[0], True


class UpsertsReplaceTheRow(Mutant, found_by={"6.18", "8.12"}):
    """Replaces the whole row, on any constraint, as REPLACE INTO does."""

    def upsert(self, schema, request, returning):
        key = schema.generated or schema.key[0]
        created = not self.driver.count(schema, request.where)
        for unique in schema.uniques:
            values = [request.row.get(name) for name in unique.columns]
            if None not in values:
                parts = tuple(Compare(Ref(object, n), "==", Param(i)) for i, n in enumerate(unique.columns))
                where = Condition(And(parts), tuple(values))
                kept = self.driver.fetch(schema, Fetch((key,), where))
                self.driver.delete(schema, where)
                request = replace(request, row={**request.row, **({key: kept[0][0]} if kept else {})})
        return self.driver.insert(schema, tuple(request.row), [tuple(request.row.values())], returning)[0], created


class UpsertsDoNotCount(Mutant, found_by={"9.6"}):
    def upsert(self, schema, request, returning):
        return self.driver.upsert(replace(schema, version=None), request, returning)


class DeletesTooMuch(Mutant, found_by={"6.11", "6.12"}):
    """delete empties the table."""

    def delete(self, schema, where):
        return self.driver.count(schema, where) and (self.driver.delete(schema, Condition()) and 1)


class LastColumnIsForgotten(Mutant, found_by={"6.6", "6.8"}):
    def update(self, schema, columns, values, where):
        return self.driver.update(schema, columns[:-1], values[:-1], where)


class InsertedBackwards(Mutant, found_by={"6.2"}):
    def insert(self, schema, columns, rows, returning):
        return self.driver.insert(schema, columns, rows, returning)[::-1]


class InsertedOneByOne(Mutant, found_by={"8.6", "10.3"}):
    def insert(self, schema, columns, rows, returning):
        return [stored for row in rows for stored in self._committed(schema, columns, row, returning)]

    def _committed(self, schema, columns, row, returning):
        stored = self.driver.insert(schema, columns, [row], returning)
        self.driver.commit()
        self.driver._changes.clear()
        return stored


# -- transactions


class RollbackDoesNothing(Mutant, found_by={"10.3", "10.5"}):
    def rollback(self):
        self.driver.commit()


class SavepointRollbackDoesNothing(Mutant, found_by={"11.1", "11.3"}):
    def rollback_to(self, savepoint):
        kept, self.driver._changes = self.driver._changes, {}
        self.driver.rollback_to(savepoint)
        self.driver._changes = kept


class SavepointRollbackUndoesEverything(Mutant, found_by={"11.1"}):
    def rollback_to(self, savepoint):
        for changes in self.driver._changes.values():
            changes.undo(0)
        self.driver._savepoints = {name: {} for name in self.driver._savepoints}
        self.driver.rollback_to(savepoint)


class CommitLosesRows(Mutant, found_by={"10.1"}):
    def commit(self):
        for changes in self.driver._changes.values():
            changes.undo(max(0, changes.mark() - 1))
        self.driver.commit()


class LastCommitWins(Mutant, found_by={"14.4", "14.6", "14.14"}):
    def commit(self):
        verify, Changes.verify = Changes.verify, lambda self: None
        try:
            self.driver.commit()
        finally:
            Changes.verify = verify


class EveryoneSeesEverything(Mutant, found_by={"14.1", "14.8", "14.9", "14.10"}):
    def __init__(self, driver):
        super().__init__(driver)
        driver._changes = driver._tables.__dict__.setdefault("shared", {})


# -- triggers


class TriggerLowersCase(Mutant, found_by={"6.1", "6.2", "6.10", "6.17", "6.19"}):
    """Every new row is changed after it was returned."""

    def insert(self, schema, columns, rows, returning):
        stored = self.driver.insert(schema, columns, rows, returning)
        note = schema.positions["note"]
        for row in self.driver.fetch(schema, Fetch(tuple(schema.by_name), Condition())):
            if row[note]:
                one = Compare(Ref(object, "key"), "==", Param(0))
                where = Condition(one, (row[schema.positions["key"]],))
                self.driver.update(schema, ("note",), (row[note].lower(),), where)
        return stored

    def upsert(self, schema, request, returning):
        lowered = {**request.row, "note": request.row["note"].lower()}
        _, created = self.driver.upsert(schema, replace(request, row=lowered), returning)
        given = self.driver.fetch(schema, Fetch(returning, request.where))[0]
        note = returning.index("note")
        return (*given[:note], request.row["note"], *given[note + 1 :]), created


# -- repositories


class LossyTasks(Tasks):
    """A repository that loses data, which the clauses of `found_by` must find."""

    FOUND_BY: ClassVar[dict[type["LossyTasks"], set[str]]] = {}

    def __init_subclass__(cls, *, found_by: set[str], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        LossyTasks.FOUND_BY[cls] = found_by


# What to_row loses, and what to_domain loses.
WRITING = {"6.1", "6.2", "6.6", "6.10", "6.17", "6.19", "6.21"}
READING = WRITING | {"6.8", "6.13"}


class ForgetsToStore(LossyTasks, found_by=WRITING | {"6.13"}):
    def to_row(self, entity):
        return {name: value for name, value in super().to_row(entity).items() if name != "note"}


class StoresInLowerCase(LossyTasks, found_by=WRITING):
    def to_row(self, entity):
        return {**super().to_row(entity), "key": entity.key and entity.key.lower()}


class Swaps(LossyTasks, found_by=WRITING | {"6.13"}):
    def to_row(self, entity):
        return {**super().to_row(entity), "note": entity.code, "code": entity.note and entity.note[:10]}


class StoresAConstant(LossyTasks, found_by=WRITING):
    def to_row(self, entity):
        return {**super().to_row(entity), "priority": 1}


class StoresEmptyTextAsNone(LossyTasks, found_by={"6.21"}):
    def to_row(self, entity):
        return {**super().to_row(entity), "note": entity.note or None}


class StoresNoneAsEmptyText(LossyTasks, found_by={"6.15", "6.21"}):
    def to_row(self, entity):
        return {**super().to_row(entity), "note": entity.note or ""}


class StoresOnlyWhatIsNew(LossyTasks, found_by={"6.6", "6.10", "6.17", "6.19"}):
    """A field is left out for entities that have their key."""

    def to_row(self, entity):
        row = super().to_row(entity)
        return {name: value for name, value in row.items() if name != "done" or entity.id is None}


class ForgetsToLoad(LossyTasks, found_by=READING):
    def to_domain(self, row):
        return replace(super().to_domain(row), note=None)


class LoadsADefault(LossyTasks, found_by={"6.21"}):
    def to_domain(self, row):
        return super().to_domain({**row, "note": "none" if row["note"] is None else row["note"]})


class LoadsEmptyTextAsNone(LossyTasks, found_by={"6.21"}):
    def to_domain(self, row):
        return super().to_domain({**row, "note": row["note"] or None})


class Truncates(LossyTasks, found_by=READING):
    def to_domain(self, row):
        return super().to_domain({**row, "note": row["note"] and row["note"][:3]})


class Rounds(LossyTasks, found_by=READING):
    def to_domain(self, row):
        return super().to_domain({**row, "priority": row["priority"] // 2 * 2})


class Counts(LossyTasks, found_by=READING | {"6.22"}):
    """Whatever is read is one more than what was stored, as with a validator that is not idempotent."""

    def to_domain(self, row):
        return super().to_domain({**row, "priority": row["priority"] + 1})


class Strips(LossyTasks, found_by={"6.21"}):
    def to_domain(self, row):
        return super().to_domain({**row, "note": row["note"] and row["note"].rstrip()})


class DropsInAdd(LossyTasks, found_by={"6.1", "6.10", "6.21"}):
    def add(self, entity):
        return super().add(replace(entity, note=None))


class DropsInAddMany(LossyTasks, found_by={"6.1", "6.2", "6.21"}):
    def add_many(self, entities):
        return super().add_many(replace(entity, done=False) for entity in entities)


class DropsInUpdate(LossyTasks, found_by={"6.6"}):
    def update(self, entity):
        kept = self.one(id=entity.id).due if self.exists(id=entity.id) else None
        return super().update(replace(entity, due=kept))


class DropsInSave(LossyTasks, found_by={"6.10"}):
    def save(self, entity):
        return super().save(replace(entity, code=None))


class DropsInPatch(LossyTasks, found_by={"6.8"}):
    def patch(self, id, changes):
        if isinstance(changes, dict):
            changes = {name: value for name, value in changes.items() if name != "due"}
        return super().patch(id, changes)


class DropsInUpdateWhere(LossyTasks, found_by={"6.13"}):
    def update_where(self, *criteria, set_, **named):
        kept = {name: value for name, value in set_.items() if name != "due"}
        return super().update_where(*criteria, set_=kept or set_, **named)


class DropsInUpsert(LossyTasks, found_by={"6.17"}):
    def upsert(self, entity, on, update=None):
        if update is None:
            update = {"note", "code", "parent", "done", "priority"} - {*on}
        return super().upsert(entity, on, update)


class DropsInUpsertMany(LossyTasks, found_by={"6.19"}):
    def upsert_many(self, entities, on, update=None):
        return super().upsert_many([replace(entity, due=None) for entity in entities], on, update)


class ReturnsWhatItWasGiven(LossyTasks, found_by={"6.1", "6.10", "6.21"}):
    """The result of add has every value, and the row lacks one."""

    def add(self, entity):
        return replace(super().add(replace(entity, note=None)), note=entity.note)

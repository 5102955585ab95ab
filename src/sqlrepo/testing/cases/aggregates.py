"""Cases of sections 16 and 17 of the contract: aggregates, and what is asked about children and related rows."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, make_dataclass
from functools import partial
from operator import methodcaller
from types import new_class
from typing import Any, Generic, TypeVar

import pytest

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    ConstraintError,
    InvalidValueError,
    NotFoundError,
    StaleEntityError,
    Summary,
    TransactionAbortedError,
    between,
    contains,
    endswith,
    every,
    exists,
    fields,
    in_,
    is_null,
    matches,
    not_,
    not_in,
    source_of,
    startswith,
    via,
)
from sqlrepo.memory import Kind, Part
from sqlrepo.testing.harness import SyncProxy, clause, sync_proxy
from sqlrepo.testing.probes import query_budget
from sqlrepo.testing.subject import (
    FieldInfo,
    Subject,
    UnderTest,
    copy_with,
    count_rows,
    declared_repositories,
    scoped,
)

T = TypeVar("T")

# As many as a harness makes.
_MADE = 15


class _Parts(Generic[T]):
    """The parts of the subject's entities, and edits of their children."""

    def __init__(self, subject: Subject[T]) -> None:
        self._subject = subject
        self.parts = subject.require(list(subject.parts.values()), "no parts")

    def store(self, part: Part, *, least: int = 2) -> T:
        """Commit an entity with some children at least."""
        least = 1 if part.single else least
        made = [one for one in self._subject.make_many(_MADE) if len(self.children(part, one)) >= least]
        return self._subject.store(self._subject.require(made, f"no entity with {least} children in {part.name}")[:1])[
            0
        ]

    def store_two(self) -> tuple[Part, T, T]:
        """Commit two entities that each have a child with a key of its own, which another entity's child lacks."""
        stolen = [part for part in self.parts if part.key and not set(part.owner) <= set(part.schema.key)]
        part = self._subject.require(stolen, "no children with a key of their own")[0]
        made = [one for one in self._subject.make_many(_MADE) if self.children(part, one)]
        if len(made) < len(("mine", "yours")):
            self._subject.not_applicable(f"no two entities with children in {part.name}")
        first, second = self._subject.store(made[:2])
        return part, first, second

    def children(self, part: Part, entity: T) -> list[Any]:
        found = getattr(entity, part.name)
        if part.single:
            return [] if found is None else [found]
        return list(found)

    def replace(self, part: Part, entity: T, children: Sequence[Any]) -> T:
        return self._subject.copy_with(
            copy.deepcopy(entity),
            {part.name: part.unwrap(part.wrap(children)) if not part.single else next(iter(children), None)},
        )

    @property
    def many(self) -> list[Part]:
        """The parts that exists() and every() ask about."""
        return self._subject.require([part for part in self.parts if not part.single], "no collection of children")

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    def all(self, entity: T) -> list[Any]:
        """Return the children of all parts, without the keys that the store makes."""
        return [self._plain(part, entity) for part in self.parts]

    def _plain(self, part: Part, entity: T) -> list[Any]:
        made = {part.schema.generated, part.schema.version, *part.supplied}
        names = [name for name in sorted(part.mapper.names) if part.mapper.column(name).name not in made]
        rows = [[getattr(child, name) for name in names] for child in part.wrap(self.children(part, entity))]
        return rows if part.order else sorted(rows, key=repr)

    def store_nulls(self) -> tuple[Part, str, Any, T]:
        """Commit an entity whose children are all NULL in a field; return that, and a value for it."""
        for part in self.many:
            for name in sorted(part.mapper.names):
                column = part.mapper.column(name)
                made = (
                    [one for one in self._subject.make_many(_MADE) if self.children(part, one)]
                    if column.nullable
                    else []
                )
                values = [
                    value
                    for one in made
                    for child in part.wrap(self.children(part, one))
                    if (value := getattr(child, name)) is not None
                ]
                if values and column.type.kind.ordered and not part.plain:
                    children = [copy_with(child, {name: None}) for child in self.children(part, made[0])]
                    return part, name, values[0], self._subject.store([self.replace(part, made[0], children)])[0]
        return self._subject.not_applicable("no children with a field that may be None")

    def edits(self, part: Part) -> list[Callable[[T], T]]:
        """Return functions that copy an entity with a child less, one more, or the children in another order."""

        def remove(entity: T) -> T:
            return self.replace(part, entity, self.children(part, entity)[1:])

        def add(entity: T) -> T:
            return self.replace(part, entity, [*self.fresh(part, entity), *self.children(part, entity)])

        def move(entity: T) -> T:
            return self.replace(part, entity, self.children(part, entity)[::-1])

        if part.single:
            return [add] if part.required else [add, remove]
        return [remove, add, *([move] if part.order else [])]

    def fresh(self, part: Part, entity: T) -> list[Any]:
        """Return a child that is not stored, and not among the entity's."""
        there = self.children(part, entity)
        made = (child for one in self._subject.make_many(_MADE) for child in self.children(part, one))
        return [next((child for child in made if child not in there), None) or self._no_other(part)]

    def _no_other(self, part: Part) -> Any:
        self._subject.not_applicable(f"the same children in {part.name} of all entities")

    def count(self, part: Part) -> int:
        """Count the rows of the children's table, whoever owns them."""
        with self._subject.open() as repository:
            return count_rows(repository, part)


@dataclass(frozen=True, slots=True)
class _Link(Generic[T]):
    """A field that holds the key of another repository's entity, or of one of the same."""

    subject: Subject[T]
    field: FieldInfo
    far: UnderTest[Any]

    @property
    def key(self) -> FieldInfo:
        return self.far.key[0]

    @property
    def is_own(self) -> bool:
        return self.far.schema.full_name == self.subject.schema.full_name

    def refer(self, stored: Sequence[T]) -> list[T]:
        """Make two entities refer to the first, if that is what the field does."""
        if not self.is_own:
            return list(stored)
        changes = {self.field.name: self.key.get(stored[0])}
        referring = [self.subject.update(self.subject.copy_with(one, changes)) for one in stored[1:3]]
        return [stored[0], *referring, *stored[3:]]

    @contextmanager
    def hide(self, value: Any) -> Generator[Any]:
        """Open a unit in which another repository's scope hides a row; yield the subject's repository."""
        expression = self.key.expression
        narrowed = {"scope": lambda _: expression != value}
        own = {"references": {"related": self.field.column.name}, **(narrowed if self.is_own else {})}
        kinds = {"within": _derived(self.subject.repository, own)}
        if not self.is_own:
            kinds["beyond"] = _derived(self.far.repository, narrowed)
        with _extended(self.subject, kinds) as unit:
            yield unit.within


@contextmanager
def _extended(subject: Subject[T], kinds: Mapping[str, Any]) -> Generator[Any]:
    """Open a unit of the subject's repositories and of others."""
    with subject.open() as repository:
        opened, is_async = repository.unit, isinstance(repository, SyncProxy)
        unit = opened.target if isinstance(opened, SyncProxy) else opened
        portal = repository.portal if isinstance(repository, SyncProxy) else None
        declared = {name: type(one) for name, one in declared_repositories(unit).items()}
    base: Any = AsyncBaseUnitOfWork if is_async else BaseUnitOfWork
    namespace = {"__module__": __name__, "__annotations__": {**declared, **kinds}}
    made = new_class("Extended", (base,), exec_body=lambda body: body.update(namespace))
    unit = made(source_of(unit), context=unit.context)
    with unit if portal is None else sync_proxy(unit, portal) as entered:
        yield entered


def _derived(kind: Any, members: Mapping[str, Any]) -> Any:
    return type(kind.__name__, (kind,), dict(members))


@contextmanager
def _hiding(subject: Subject[T], part: Part, criterion: Any) -> Generator[Any]:
    """Open a unit in which a repository of a part's table hides rows; yield the subject's repository."""
    base: Any = AsyncBaseRepository if issubclass(subject.repository, AsyncBaseRepository) else BaseRepository
    members = {
        "schema": part.schema,
        "columns": {one: name for one in part.mapper.names if (name := part.mapper.column(one).name) != one},
        "to_domain": lambda _, row: row,  # the class lacks the columns that the owner gives
        "to_row": lambda _, entity: entity,
        "version": part.schema.version,
        "scope": lambda _: criterion,
    }
    made: Any = new_class("Children", (base[part.mapper.entity, Any],), exec_body=lambda body: body.update(members))
    try:
        with _extended(subject, {"within": subject.repository, "children": made}) as unit:
            yield unit.within
    finally:
        made.schema = None  # or every later unit would need a repository of the table, which has a scope


def _summary(entity: Any, hints: Mapping[str, Any]) -> Any:
    namespace = {"__module__": __name__, "__annotations__": dict(hints)}
    return new_class("Totals", (Summary[entity],), exec_body=lambda body: body.update(namespace))


def _links(subject: Subject[T]) -> list[_Link[T]]:
    """Find the fields that lead to one row of a repository of the unit."""
    with subject.open() as repository:
        unit = repository.unit
        declared = declared_repositories(unit.target if isinstance(unit, SyncProxy) else unit)
    kinds = dict.fromkeys([subject.repository, *map(type, declared.values())])
    found = [
        _Link(subject, field, far)
        for far in map(UnderTest[Any], kinds)
        for key in subject.schema.foreign_keys
        for field in [subject.by_column.get(key.columns[0])]
        if (key.table, key.targets) == (far.schema.full_name, far.schema.key) and len(far.key) == 1
        if field is not None and far.key[0].plain and field.plain
    ]
    return subject.require(found, "no field with the key of an entity of the unit")


def _key(subject: Subject[T], entity: T) -> bool:
    return subject.is_(entity)


class AggregateCases(Generic[T]):
    """Sections 16 and 17 of the contract."""

    @clause("16.1")
    def test_aggregates_are_stored_and_read_whole(self, subject: Subject[T]) -> None:
        """Every reading call returns the children that were given."""
        _Parts(subject)
        given = subject.make_many(6)
        stored = subject.store(given)
        subject.check_written(stored, given)
        with subject.open() as repository:
            one = stored[0]
            subject.check(repository.one(_key(subject, one)), one)
            subject.check(repository.first(_key(subject, one)), one)
            subject.check_any_order(repository.stream(), stored)
            if subject.mapper.has_key:
                subject.check(repository.get(subject.key_of(one)), one)
                subject.check(repository.get_many(map(subject.key_of, stored)), stored)

    @clause("16.2")
    def test_every_edit_of_the_children_is_stored(self, subject: Subject[T]) -> None:
        """Children are removed, added and, where a column keeps their order, moved."""
        parts = _Parts(subject)
        for part in parts.parts:
            stored = parts.store(part)
            for edit in parts.edits(part):
                given = edit(subject.find_one(stored))
                result = subject.update(given)
                subject.check_kept(result, given, updated=True)
                subject.check(subject.find_one(stored), result)
            subject.remove(subject.find_one(stored))

    @clause("16.3")
    def test_the_version_counts_changes_of_children(self, subject: Subject[T]) -> None:
        """An update or patch that only changes children counts the version up by one."""
        parts, version = _Parts(subject), subject.version_field()
        for part in parts.parts:
            stored = parts.store(part)
            for edit in parts.edits(part):
                now = subject.find_one(stored)
                updated = subject.update(edit(now))
                assert version.get(updated) == version.get(now) + 1, f"{part.name}: update did not count"
            if subject.mapper.has_key:
                now = subject.find_one(stored)
                changes = {part.name: getattr(parts.edits(part)[0](now), part.name)}
                patched = subject.run(partial(_patch, subject.key_of(stored), changes))
                assert version.get(patched) == version.get(now) + 1, f"{part.name}: patch did not count"
            subject.remove(subject.find_one(stored))

    @clause("16.4")
    def test_of_two_stale_roots_one_wins(self, subject: Subject[T]) -> None:
        """A change of children by a stale entity raises `StaleEntityError` and stores nothing."""
        parts = _Parts(subject)
        subject.version_field()
        for part in parts.parts:
            stored = parts.store(part)
            first, second = (edit(stored) for edit in parts.edits(part)[:2])
            winner = subject.update(first)
            with pytest.raises(StaleEntityError):
                subject.update(second)
            subject.check(subject.find_one(stored), winner)
            subject.remove(winner)

    @clause("16.5")
    def test_children_are_not_stolen(self, subject: Subject[T]) -> None:
        """Another entity's child is refused, with the place."""
        parts = _Parts(subject)
        part, first, second = parts.store_two()
        stolen = parts.replace(part, first, [*parts.children(part, first), *parts.children(part, second)[:1]])
        with pytest.raises(InvalidValueError) as caught:
            subject.update(stolen)
        place = f"{part.name}[{len(parts.children(part, first))}]"
        assert (caught.value.field or "").startswith(place), f"the error names {caught.value.field}, not {place}"
        subject.check_stored([first, second])

    @clause("16.6")
    def test_half_an_aggregate_is_never_committed(self, subject: Subject[T]) -> None:
        """What is found after the first statement aborts the unit, even if the error is caught."""
        parts = _Parts(subject)
        part, first, second = parts.store_two()
        changed = subject.copy_values(subject.change(first), first, [part.name])
        stolen = parts.replace(part, changed, parts.children(part, second)[:1])
        with pytest.raises(TransactionAbortedError), subject.open() as repository, suppress(InvalidValueError):
            repository.update(stolen)
        subject.check_stored([first, second])

    @clause("16.7")
    def test_filters_and_limits_are_about_roots(self, subject: Subject[T]) -> None:
        """A filter on children thins no collection, and a limit counts entities."""
        parts = _Parts(subject)
        stored = subject.store_new(6)
        with subject.open() as repository:
            for part in parts.many:
                having = [one for one in stored if parts.children(part, one)]
                subject.check_any_order(repository.find(exists(getattr(fields(subject.entity), part.name))), having)
            subject.check(repository.find(limit=4), repository.find()[:4])

    @clause("16.8")
    def test_no_child_outlives_its_owner(self, subject: Subject[T]) -> None:
        """Each way to delete an entity deletes its children."""
        parts = _Parts(subject)
        for part in parts.parts:
            for delete in (_delete_where, _remove, _delete):
                stored = parts.store(part)
                assert parts.count(part), f"{part.name}: no row was stored"
                subject.run(partial(delete, subject, stored))
                assert parts.count(part) == 0, f"{part.name}: {delete.__name__[1:]} left children behind"
                with subject.open() as repository, pytest.raises(NotFoundError):
                    repository.one(_key(subject, stored))

    @clause("16.9")
    def test_statements_do_not_grow_with_the_number_of_roots(self, subject: Subject[T]) -> None:
        """Reading takes one statement, and one for each part."""
        parts = _Parts(subject)
        stored = subject.store_new(_MADE)
        with subject.open() as repository:
            repository.count()
            with query_budget(1 + len(list(_tables(parts.parts)))):
                assert len(repository.find()) == len(stored)

    @clause("16.10")
    def test_aggregates_are_stored_whole_or_not_at_all(self, subject: Subject[T]) -> None:
        """An entity whose child is refused stores nothing, and neither do those that are added with it."""
        parts = _Parts(subject)
        part, first, second = parts.store_two()
        good, bad = subject.make_many(2, start=_MADE + 1)
        bad = parts.replace(part, bad, [*parts.children(part, bad)[:1], *parts.children(part, second)[:1]])
        for write in (methodcaller("add", bad), methodcaller("add_many", [good, bad])):
            with (
                suppress(TransactionAbortedError),
                subject.open() as repository,
                pytest.raises((ConstraintError, InvalidValueError)),
            ):
                write(repository)
            subject.check_stored([first, second])

    @clause("16.11")
    def test_a_patch_leaves_the_parts_that_it_does_not_name(self, subject: Subject[T]) -> None:
        """A patch writes the parts among its changes, and no other."""
        parts = _Parts(subject)
        for part in parts.parts:
            stored = parts.store(part)
            key, values = subject.key_of(stored), subject.settable(subject.change(stored))
            patched = subject.run(partial(_patch, key, values))
            assert parts.all(patched) == parts.all(stored), f"{part.name}: a patch of fields changed children"
            wanted = parts.edits(part)[0](patched)
            patched = subject.run(partial(_patch, key, {part.name: getattr(wanted, part.name)}))
            assert parts.all(patched) == parts.all(wanted), f"{part.name}: a patch did not write it alone"
            subject.check(subject.find_one(stored), patched)
            subject.remove(patched)

    @clause("16.12")
    def test_save_and_upsert_write_parts(self, subject: Subject[T]) -> None:
        """The parts of a new row are written, and of an existing one, except by `upsert` if `update=` lacks them."""
        parts = _Parts(subject)
        for part in parts.parts:
            stored = parts.store(part)
            saved = subject.run(partial(_save, parts.edits(part)[0](stored)))
            assert parts.all(saved) == parts.all(subject.find_one(stored)) != parts.all(stored), f"{part.name}: save"
            wanted = parts.edits(part)[0](saved)
            kept = subject.run(partial(_upsert, subject, wanted, [])).entity
            assert parts.all(kept) == parts.all(saved), f"{part.name}: an upsert that does not name it wrote it"
            written = subject.run(partial(_upsert, subject, wanted, [part.name])).entity
            assert parts.all(written) == parts.all(wanted), f"{part.name}: an upsert that names it did not write it"
            subject.remove(subject.find_one(stored))

    @clause("16.13")
    def test_statements_of_an_update_do_not_grow_with_the_number_of_children(self, subject: Subject[T]) -> None:
        """Two statements for the entity, four for each part of entities, and three for each part of plain values."""
        parts = _Parts(subject)
        for part in parts.parts:
            stored = parts.store(part)
            changed = subject.copy_values(subject.change(stored), stored, parts.names)
            first, second, *_ = [*parts.edits(part), parts.edits(part)[0]]
            with subject.open() as repository:
                repository.count()
                with query_budget(2 + sum((4 if one.key else 3) + one.refreshes for one in _tables(parts.parts))):
                    repository.update(second(first(changed)))
            subject.remove(subject.find_one(stored))

    @clause("17.1")
    def test_filters_on_children_agree_with_matches(self, subject: Subject[T]) -> None:
        """`exists`, `every` and their negations choose the entities for which `matches` is true."""
        parts = _Parts(subject)
        stored = subject.store_new(_MADE)
        for part in parts.many:
            many = getattr(fields(subject.entity), part.name)
            for condition in _conditions(parts, part, stored):
                criteria = exists(many, condition), every(many, condition)
                _check_filters(subject, stored, [*criteria, *map(not_, criteria)])
            _check_filters(subject, stored, [exists(many), not_(exists(many))])

    @clause("17.2")
    def test_a_child_for_which_a_condition_is_unknown_does_not_meet_it(self, subject: Subject[T]) -> None:
        """A comparison with NULL is met by no child, and not by every child, whatever `not_` is inside."""
        parts = _Parts(subject)
        part, name, value, stored = parts.store_nulls()
        many = getattr(fields(subject.entity), part.name)

        def unknown(row: Any) -> Any:
            return getattr(row, name) == value

        with subject.open() as repository:
            for condition in (unknown, lambda row: not_(unknown(row))):
                assert not repository.exists(exists(many, condition)), "exists() found a child by NULL"
                assert not repository.exists(every(many, condition)), "every() is true of a child with NULL"
            subject.check_any_order(repository.find(not_(every(many, unknown))), [stored])
            subject.check_any_order(repository.find(exists(many, lambda row: is_null(getattr(row, name)))), [stored])

    @clause("17.3")
    def test_fields_of_value_objects_are_compared_like_any(self, subject: Subject[T]) -> None:
        """They agree with `matches`, and so does None for the object; an order by them is theirs."""
        paths = sorted(name for name in subject.mapper.names if "." in name)
        subject.require(paths, "no value object")
        stored = subject.store_new(_MADE)
        for path in paths:
            field = getattr(fields(subject.entity), path.replace(".", "__"))
            values = [value for one in stored if (value := _at(one, path)) is not None]
            if subject.mapper.column(path).type.kind.ordered:
                for operator in _OPERATORS if values else ():
                    _check_filters(subject, stored, [operator(field, values[len(values) // 2])])
            _check_filters(subject, stored, [is_null(field), not_(is_null(field))])
            with subject.open() as repository:
                found = [_at(one, path) for one in repository.find(order_by=field)]
            assert [one for one in found if one is None] == found[: len(found) - len(values)], (
                f"{path}: NULLs are not first"
            )

    @clause("17.4")
    def test_filters_on_children_stay_in_the_scope(self, subject: Subject[T]) -> None:
        """Neither they nor their negations find, count, change or delete an entity outside."""
        parts, field = _Parts(subject), subject.free_field()
        stored = subject.store_new(_MADE)
        inside = [one for one in stored if field.get(one) == field.low]
        subject.require([one for one in stored if one not in inside], "one value in all entities")
        for part in parts.many:
            many = getattr(fields(subject.entity), part.name)
            with subject.open() as repository:
                within = scoped(repository, field.expression == field.low)
                for criterion in (exists(many), not_(exists(many))):
                    expected = [one for one in inside if matches(criterion, one)]
                    subject.check_any_order(within.find(criterion), expected)
                    assert within.count(criterion) == len(expected), f"count({criterion}) is not of the scope"
                assert within.delete_where(exists(many) | not_(exists(many))) == len(inside)
                subject.check_any_order(repository.find(), [one for one in stored if one not in inside])
                repository.unit.rollback()

    @clause("17.5")
    def test_counts_by_a_field_stay_in_the_scope(self, subject: Subject[T]) -> None:
        """`counts` and `distinct` know only the values of entities inside."""
        field = subject.free_field()
        stored = subject.store_values(field, [field.low, field.high, field.low])
        with subject.open() as repository:
            assert repository.counts(field.expression) == {field.low: 2, field.high: 1}, "counts() of all"
            within = scoped(repository, field.expression == field.low)
            assert within.counts(field.expression) == {field.low: len(stored) - 1}, "counts() in the scope"
            assert within.distinct(field.expression) == [field.low], "distinct() in the scope"

    @clause("17.6")
    def test_rows_outside_another_repositorys_scope_are_not_there(self, subject: Subject[T]) -> None:
        """`via`, `exists` of its entity, orders, views and group keys take a row that its scope hides for none."""
        links, stored = _links(subject), subject.store_new(4)
        for link in links:
            stored, field = link.refer(stored), link.field
            known = [value for one in stored if (value := field.get(one)) is not None]
            hidden = subject.require(known, f"no value of {field.name} that make() gives")[0]
            with link.hide(hidden) as within:
                seen = [one for one in stored if not (link.is_own and link.key.get(one) == hidden)]
                led = [one for one in seen if field.get(one) not in (None, hidden)]
                reference = getattr(fields(subject.entity), field.name)
                far = getattr(via(reference, link.far.entity), link.key.name)
                there = exists(link.far.entity, partial(_is, link.key.name, reference))
                subject.check_any_order(within.find(not_(is_null(far))), led)
                subject.check_any_order(within.find(there), led)
                subject.check_any_order(within.find(not_(there)), [one for one in seen if one not in led])
                assert within.count(there) == len(led), "count() of rows that refer to one outside"
                _check_shown(link, within, seen, led)

    @clause("17.7")
    def test_sums_cover_each_entity_and_child_once(self, subject: Subject[T]) -> None:
        """A total of entities is the same beside one of their children."""
        parts, stored = _Parts(subject), subject.store_new(_MADE)
        sums: dict[str, list[Any]] = {
            one.name: [one.get(entity) for entity in stored] for one in subject.fields if _is_number(one.column, one)
        }
        for part in parts.many:
            children = [child for one in stored for child in part.wrap(parts.children(part, one))]
            for name in () if part.plain else sorted(part.mapper.names):
                if _is_number(part.mapper.column(name)):
                    sums[f"{part.name}__{name}"] = [getattr(child, name) for child in children]
        subject.require([name for name in sums if "__" in name], "no children with an integer")
        known = {name: [value for value in values if value is not None] for name, values in sums.items()}
        made = _summary(subject.entity, {"count": int, **{f"{name}_sum": int | None for name in known}})
        expected = {f"{name}_sum": sum(values) if values else None for name, values in known.items()}
        with subject.open() as repository:
            assert repository.summarize(made) == [made(count=len(stored), **expected)]

    @clause("17.8")
    def test_children_outside_a_scope_of_their_table_are_not_there(self, subject: Subject[T]) -> None:
        """Entities and views hold the children that a repository of the children's table shows, and count those."""
        parts = _Parts(subject)
        made = [one for one in parts.many if not (one.plain or one.through or hasattr(one.mapper.entity, "__mapper__"))]
        part = subject.require(made, "no children of a class of their own")[0]
        stored, name = subject.store_new(4), part.name
        columns = {one: part.mapper.column(one) for one in sorted(part.mapper.names)}
        known = [one for one, column in columns.items() if column.type.kind.ordered and column.type.plain]
        children = [child for one in stored for child in parts.children(part, one)]
        values = [(one, value) for one in known for child in children if (value := getattr(child, one)) is not None]
        field, hidden = subject.require(values, "no children with a value to hide")[0]
        gone = (hidden, None)  # NULL != value is unknown
        shown = [
            [v for child in parts.children(part, one) if (v := getattr(child, field)) not in gone] for one in stored
        ]
        child: Any = make_dataclass("Child", [field])
        view = make_dataclass("View", [(name, list[child]), (f"{name}__count", int)])
        key = {"order_by": [getattr(fields(subject.entity), one.name) for one in subject.key]}
        with _hiding(subject, part, getattr(fields(part.mapper.entity), field) != hidden) as within:
            views = within.find(into=view, **key)
            nested = [[getattr(one, field) for one in getattr(each, name)] for each in views]
            counted = [getattr(one, f"{name}__count") for one in views]
            whole = [[getattr(one, field) for one in parts.children(part, each)] for each in within.find(**key)]
        assert sorted(map(Counter, nested), key=repr) == sorted(map(Counter, shown), key=repr), f"a view nests {nested}"
        assert sorted(counted) == sorted(map(len, shown)), f"a view counts {counted} in {name}, not those of {shown}"
        assert whole == nested, f"entities hold {whole} in {name}, and views {nested}"


_OPERATORS: tuple[Callable[[Any, Any], Any], ...] = (
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    lambda field, value: in_(field, [value]),
    lambda field, value: not_in(field, [value]),
    lambda field, value: between(field, value, value),
)
_TEXT: tuple[Callable[[Any, Any], Any], ...] = (contains, startswith, endswith)


def _conditions(parts: _Parts[Any], part: Part, stored: Sequence[Any]) -> Iterator[Callable[[Any], Any]]:
    """Yield conditions with each operator, from a value that children have of each field."""

    def applied(name: str, apply: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda row: apply(row if part.plain else getattr(row, name))

    children = [child for one in stored for child in part.wrap(parts.children(part, one))]
    for name in sorted(part.mapper.names):
        values = [value for child in children if (value := getattr(child, name)) is not None]
        type_ = part.mapper.column(name).type
        for apply in _OPERATORS if values and type_.kind.ordered else ():
            yield applied(name, partial(_swap, apply, values[len(values) // 2]))
        for apply in _TEXT if values and type_.kind is Kind.TEXT and type_.plain else ():
            yield applied(name, partial(_swap, apply, values[0][:-1]))
        yield applied(name, is_null)


def _is(name: str, value: Any, row: Any) -> Any:
    return getattr(row, name) == value


def _is_number(column: Any, field: FieldInfo | None = None) -> bool:
    """Return True for a column of integers that the store does not make."""
    plain = field is None or (field.plain and not field.path)
    return plain and column.type.kind is Kind.INTEGER and column.type.plain and not column.fills_unasked


def _check_shown(link: _Link[T], within: Any, seen: Sequence[T], led: Sequence[T]) -> None:
    """Check that orders, views and group keys show the rows that some entities lead to, and no other."""
    key, name, entity = link.key, link.field.name, link.subject.entity
    targets = [link.field.get(one) if one in led else None for one in seen]
    far = getattr(via(getattr(fields(entity), name), link.far.entity), key.name)
    found = within.find(order_by=far)
    nulls = [one for one in found if one not in led]
    assert found[: len(seen) - len(led)] == nulls, f"an order by {name} knows a row outside"
    brief: Any = make_dataclass("Brief", [key.name])
    view = make_dataclass("View", [(name, Any), ("related", brief | None)])
    shown = [getattr(one.related, key.name, None) for one in within.find(into=view)]
    assert Counter(shown) == Counter(targets), f"a view nests {shown} by {name}, not {targets}"
    path = f"{name}__{key.name}"
    groups = within.summarize(_summary(entity, {path: key.spec.type.python | None, "count": int}))
    assert {getattr(one, path): one.count for one in groups} == Counter(targets), f"groups by {path}"


def _swap(apply: Callable[[Any, Any], Any], value: Any, field: Any) -> Any:
    return apply(field, value)


def _check_filters(subject: Subject[T], stored: Sequence[T], criteria: Iterable[Any]) -> None:
    """Check that a repository chooses the entities that match."""
    with subject.open() as repository:
        for criterion in criteria:
            expected = [one for one in stored if matches(criterion, one)]
            subject.check_any_order(repository.find(criterion), expected)
            assert repository.count(criterion) == len(expected), f"count({criterion})"


def _at(entity: Any, path: str) -> Any:
    for name in path.split("."):
        entity = None if entity is None else getattr(entity, name)
    return entity


def _upsert(subject: Subject[Any], entity: Any, update: Sequence[str], repository: Any) -> Any:
    return repository.upsert(entity, on=subject.upsert_target(), update=update)


def _save(entity: Any, repository: Any) -> Any:
    return repository.save(entity)


def _tables(parts: Iterable[Part]) -> Iterator[Part]:
    """Yield parts, the tables between, and the parts of children."""
    for part in parts:
        yield from (part, *([part.through] if part.through else []), *_tables(part.parts))


def _patch(key: Any, changes: Any, repository: Any) -> Any:
    return repository.patch(key, changes)


def _delete_where(subject: Subject[Any], stored: Any, repository: Any) -> None:
    repository.delete_where(subject.is_(stored))


def _remove(_: Subject[Any], stored: Any, repository: Any) -> None:
    repository.remove(stored)


def _delete(subject: Subject[Any], stored: Any, repository: Any) -> None:
    repository.delete(subject.key_of(stored)) if subject.mapper.has_key else repository.remove(stored)

"""The repository under test: its entity, its table, its store, and the operations that cases share."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cached_property, reduce
from itertools import chain
from operator import and_
from types import new_class
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model

from sqlrepo import (
    AsyncBaseRepository,
    AsyncBaseUnitOfWork,
    BaseRepository,
    BaseUnitOfWork,
    QueryError,
    QueryObject,
    RepositoryError,
    fields,
    source_of,
)
from sqlrepo.memory import Column, Kind, Part, Schema
from sqlrepo.testing.harness import (
    UNPROVED,
    Capabilities,
    Harness,
    NotApplicableError,
    SyncProxy,
    isolation_of,
    sync_proxy,
)

T = TypeVar("T")
R = TypeVar("R")

# How many entities show which values a field can have.
_SAMPLES = 6

# The number of an entity that no case stores beside others.
_SPARE = 15

# Seconds to wait for a unit that can go on, and for one that should be waiting for another.
_SOON = 5.0
_A_WHILE = 0.1


# -- the repository as the contract and the twins see it


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FieldInfo:
    """A field of the entity and the column that stores it."""

    name: str
    column: Column
    expression: Any  # for use in criteria, `fields(entity).name`
    fixed: bool = False  # key, uniques, foreign keys, version, computed columns, which most cases leave alone
    made: bool = False  # by the store: a generated key, the version, computed columns
    values: tuple[Any, ...] = ()  # different values that the harness gives the field, sorted if possible; never None
    origin: str | None = None  # the repository whose generated keys the field holds, maybe its own
    path: str = ""  # of a field inside a value object

    @property
    def spec(self) -> Any:
        return self.expression.spec

    def accepts(self, value: Any) -> bool:
        """Return True unless the entity's class refuses a value of this field alone."""
        try:
            self.spec.accept(value)
        except ValueError:
            return False
        return True

    def get(self, entity: Any) -> Any:
        """Return an entity's value; None if the value object that has the field is None."""
        for name in self.path.split(".") if self.path else (self.name,):
            entity = None if entity is None else getattr(entity, name)
        return entity

    @property
    def low(self) -> Any:
        """The first of the values, the lowest one if they can be sorted."""
        return self.values[0]

    @property
    def high(self) -> Any:
        return self.values[-1]

    @property
    def kind(self) -> Kind:
        return self.column.type.kind

    @property
    def optional(self) -> bool:
        """True if both the table and the class allow None."""
        return bool(self.column.nullable and self.spec.optional)

    @property
    def plain(self) -> bool:
        """True if values are stored unchanged, so that Python compares and sorts them as the store does."""
        return self.column.type.plain and self.has_operators and self.kind is self.spec.type.kind

    @property
    def takes_any_text(self) -> bool:
        """True unless the entity allows some texts only, as a Literal does."""
        return self.accepts("é" * (self.column.type.length or 0))

    @property
    def has_operators(self) -> bool:
        """True if criteria on the field can do more than test for NULL."""
        return Kind.OPAQUE not in (self.kind, self.spec.type.kind)


class UnderTest(Generic[T]):
    """The entity and the table of a repository class."""

    def __init__(self, repository: type[Any]) -> None:
        definition = repository.definition()
        self.repository = repository
        self.mapper: Any = definition.mapper
        self.schema: Schema = definition.schema
        self.entity: type[T] = definition.mapper.entity
        self.natural_key: tuple[str, ...] = tuple(map(self.mapper.field, definition.natural_key))
        self.parts: Mapping[str, Part] = {one.name: one for one in definition.aggregate.parts}

    @cached_property
    def fields(self) -> tuple[FieldInfo, ...]:
        """The fields that have a column of their own."""
        return tuple(found for column in self.schema.columns if (found := self._describe(column)) is not None)

    @cached_property
    def by_column(self) -> Mapping[str, FieldInfo]:
        return {field.column.name: field for field in self.fields}

    @cached_property
    def by_name(self) -> Mapping[str, FieldInfo]:
        return {field.name: field for field in self.fields}

    @cached_property
    def key(self) -> tuple[FieldInfo, ...]:
        """The fields of the key; empty if the entity lacks any of them."""
        found = [self.by_column.get(name) for name in self.schema.key]
        return () if None in found else tuple(field for field in found if field)

    @cached_property
    def identifies_rows(self) -> bool:
        """True if an entity identifies its row, by the key or by the natural key."""
        return all(name in self.by_name for name in self.natural_key)

    @cached_property
    def unique_constraints(self) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
        """The names and fields of the unique constraints besides the key whose columns are all fields."""
        found = [one for one in self.schema.uniques if all(column in self.by_column for column in one.columns)]
        return tuple((one.name, tuple(map(self.mapper.field, one.columns))) for one in found)

    def _describe(self, column: Column) -> FieldInfo | None:
        if not self.mapper.has_field(column.name):
            return None
        name = self.mapper.field(column.name)
        try:
            expression = getattr(cast(Any, fields(self.entity)), name)
        except QueryError:
            return None
        groups = [one.columns for one in self.schema.uniques] + [one.columns for one in self.schema.foreign_keys]
        fixed = column.name in {*self.schema.key, *chain.from_iterable(groups), self.schema.version}
        made = column.generated or column.computed or column.name == self.schema.version
        return FieldInfo(name, column, expression, fixed or bool(column.onupdate or column.computed), made)


def declared_repositories(unit: Any) -> dict[str, Any]:
    return {name: getattr(unit, name) for name in type(unit)._declarations.repositories}


def count_rows(repository: Any, part: Part) -> int:
    """Count the rows of the children's table, whoever owns them."""
    base: Any = AsyncBaseRepository if isinstance(repository, SyncProxy) else BaseRepository
    members: dict[str, Any] = {"model": part.schema.model, "schema": part.schema, "columns": {}}
    members |= {"to_domain": lambda _, row: row, "to_row": lambda _, entity: entity}
    made = new_class("Children", (base[part.mapper.entity, Any],), exec_body=lambda body: body.update(members))
    return int(_wrap_like(repository, made(_unwrap(repository).unit)).count())


# -- concurrency and scopes


class Concurrent(Generic[R]):
    """Another unit of work, in another thread."""

    def __init__(self, submit: Callable[[], Future[R]]) -> None:
        self._submit = submit
        self._future: Future[R] | None = None

    def start(self, *, free: bool) -> bool:
        """Start the unit and return True if it ends soon; `free` if the backend need not make it wait."""
        self._future = self._submit()
        return not wait([self._future], _SOON if free else _A_WHILE).not_done

    def start_as_declared(self, capability: str, *, able: bool) -> None:
        """Start the unit, a second writer, and check that it ends or waits as the capability says."""
        ended = self.start(free=able)
        if able:
            assert ended, f"the second writer waited; declare Capabilities({capability}=False)"
        else:
            assert self._is_held_back(), f"the second writer did not wait; declare {capability}"

    def _is_held_back(self) -> bool:
        """Return True if the unit waits, or got an error that lets it try again."""
        if self._future is None or not self._future.done():
            return True
        return isinstance(self.error, RepositoryError) and self.error.retryable

    @property
    def error(self) -> BaseException | None:
        return self._get_future().exception()

    @property
    def result(self) -> R:
        return self._get_future().result()

    def _get_future(self) -> Future[R]:
        assert self._future is not None, "start() was not called"
        return self._future


def _unwrap(opened: Any) -> Any:
    """The async object behind a proxy; anything else as it is."""
    return opened.target if isinstance(opened, SyncProxy) else opened


def _wrap_like(wrapped: Any, made: Any) -> Any:
    """Put a proxy around a new object if another object has one."""
    return sync_proxy(made, wrapped.portal) if isinstance(wrapped, SyncProxy) else made


def scoped(repository: Any, criterion: object, *, leaving: bool = False) -> Any:
    """Make a repository of the same unit with a narrower scope.

    A criterion that is not one (True, None) becomes the whole scope; `leaving` lets changes take rows out of it.
    """
    target = _unwrap(repository)
    kind: Any = type(target)

    def scope(self: Any) -> Any:
        return criterion if criterion is True or criterion is None else kind.scope(self) & criterion

    def write_scope(self: Any) -> Any:
        return kind.scope(self) if leaving else scope(self)

    derived = type(kind.__name__, (kind,), {"scope": scope, "write_scope": write_scope})
    return _wrap_like(repository, derived(target.unit))


class AppError(Exception):
    """An error of the application in the middle of a unit of work."""


# -- the subject of cases


class Subject(UnderTest[T], Generic[T]):
    """The repository that a harness opens, with the operations that cases share.

    Raises:
        TypeError: the harness opens no repository of the entity, or a unit that declares none, or several; or it names
            a field that the entity lacks.
    """

    def __init__(self, harness: Harness[T, Any], record: Callable[[str, str], None] = lambda *_: None) -> None:
        self.harness = harness
        self.alone = _is_repository(harness.open())
        self._entity = type(harness.make(1))
        with self.open() as repository:
            self._example = repository
        super().__init__(type(_unwrap(repository)))
        self._record = record
        self.normalised = self._named_by_harness("normalises")
        self.generated = self._named_by_harness("generated")
        lacking: dict[str, Any] = dict.fromkeys(repository.missing_capabilities(), False)
        given = harness.capabilities or Capabilities(**lacking)
        self.isolation = given.isolation or isolation_of(source_of(_unwrap(repository.unit)))
        self.capabilities = dataclasses.replace(given, isolation=self.isolation)

    @cached_property
    def fields(self) -> tuple[FieldInfo, ...]:
        """The fields that have a column of their own, with sample values."""
        made = self.make_many(_SAMPLES)
        changed = [self.harness.change(copy.deepcopy(entity)) for entity in made]
        found: list[FieldInfo] = []
        for field in super().fields:
            values = _distinct(field.get(entity) for entity in made)
            if len(values) == 1:  # `change` makes another one
                values = _distinct([*values, *(field.get(entity) for entity in changed)])
            own = not field.made and field.name not in self.generated
            fixed = field.fixed or not own or field.name in self.normalised
            found.append(dataclasses.replace(field, values=tuple(values), fixed=fixed, made=not own))
        return tuple(found)

    def _named_by_harness(self, option: str) -> frozenset[str]:
        for name in (names := frozenset[str](getattr(self.harness, option, ()))):
            try:
                getattr(fields(self.entity), name)
            except QueryError as error:
                raise TypeError(f"the harness's `{option}`: {error}") from None
        return names

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The fields that have a column, and the others that count when entities are compared."""
        entity: Any = self.entity
        others: list[str] = list(getattr(entity, "model_fields", ()))
        others += [one.name for one in getattr(entity, "__attrs_attrs__", ()) if one.eq]
        others += [one.name for one in getattr(entity, "__dataclass_fields__", {}).values() if one.compare]
        unmapped = [] if hasattr(entity, "__mapper__") else [name for name in others if name not in self.generated]
        return tuple(dict.fromkeys([*self.by_name, *unmapped]))

    @cached_property
    def writable(self) -> tuple[FieldInfo, ...]:
        """The fields that an update takes from the entity."""
        fixed = {*self.natural_key, *map(self.mapper.field, self.schema.key)}
        return tuple(field for field in self.fields if not (field.made or field.name in fixed))

    def not_applicable(self, missing: str) -> NoReturn:
        """End a case that needs something that the entity lacks."""
        raise NotApplicableError(f"{self.entity.__name__} has {missing}")

    def require(self, found: list[R], missing: str) -> list[R]:
        """End a case that found nothing to work on."""
        return found or self.not_applicable(missing)

    # -- units of work

    @contextmanager
    def open(self) -> Generator[BaseRepository[T, Any]]:
        """Open a unit of work and yield the entity's repository; its ``unit`` is the unit of work."""
        with self.harness.open() as opened:
            yield _repository_of(opened, self._entity)

    @contextmanager
    def open_read_only(self) -> Generator[BaseRepository[T, Any]]:
        """Open a read-only unit of work on the same source and yield the entity's repository."""
        with self.open() as repository:
            unit = _unwrap(repository.unit)
        base: Any = AsyncBaseUnitOfWork if isinstance(repository, SyncProxy) else BaseUnitOfWork
        reader = base(source_of(unit), read_only=True, context=unit.context)
        with _wrap_like(repository, reader):
            yield _wrap_like(repository, self.repository(reader))

    def run(self, work: Callable[[BaseRepository[T, Any]], R]) -> R:
        with self.open() as repository:
            return work(repository)

    def find_all(self) -> list[T]:
        """Find what a new unit sees, in the order of the keys."""
        return self.run(lambda repository: repository.find())

    def find_one(self, stored: T) -> T:
        """Read an entity again, in a new unit."""
        return self.run(lambda repository: repository.one(self.is_(stored)))

    def derive(self, repository: Any, kind: Any) -> Any:
        """Make a repository of another class in the same unit."""
        return _wrap_like(repository, kind(_unwrap(repository).unit))

    def update(self, entity: T) -> T:
        return self.run(lambda repository: repository.update(entity))

    def remove(self, entity: T) -> None:
        self.run(lambda repository: repository.remove(entity))

    @contextmanager
    def concurrently(self, work: Callable[[BaseRepository[T, Any]], R]) -> Generator[Concurrent[R]]:
        """Prepare another unit of work in a thread, and wait for its end; the caller's unit must have ended by then."""
        with ThreadPoolExecutor(1) as thread:
            yield Concurrent(lambda: thread.submit(self.run, work))

    # -- entities

    def make(self, number: int) -> T:
        return self.harness.make(number)

    def make_many(self, count: int, *, start: int = 1) -> list[T]:
        return [self.harness.make(number) for number in range(start, start + count)]

    def change(self, entity: T) -> T:
        """Copy an entity with a field changed that is not part of the key, for an update."""
        self.natural_keys([entity])
        return self.harness.change(copy.deepcopy(entity))

    def copy_with(self, entity: T, changes: Mapping[str, Any]) -> T:
        """Copy an entity with some fields replaced, without validation if its class allows that.

        Children that name their owner name the copy.
        """
        try:
            return self._own(copy_with(entity, changes))
        except (TypeError, ValueError) as error:
            raise NotApplicableError(f"{self.entity.__name__} cannot be copied with {dict(changes)}") from error

    def _own(self, entity: T) -> T:
        changes: dict[str, Any] = {}
        for part in self.parts.values():
            pairs = zip(part.supplied, part.targets, strict=False)
            named = [pair for pair in pairs if part.mapper.has_field(pair[0]) and self.mapper.has_field(pair[1])]
            if named and not part.plain:
                owner = {part.mapper.field(mine): getattr(entity, self.mapper.field(its)) for mine, its in named}
                children = [copy_with(child, owner) for child in part.wrap(getattr(entity, part.name))]
                changes[part.name] = part.unwrap(children)
        return copy_with(entity, changes) if changes else entity

    def copy_values(self, entity: T, other: T, names: Iterable[str]) -> T:
        """Copy an entity with some values of another."""
        return self.copy_with(entity, values_of(other, names))

    def rewrite(self, stored: T, source: T, *, keep: Iterable[str] = ()) -> T:
        """Copy a stored entity, changed, with all values of another that an update may write, except those to keep."""
        written = values_of(source, (field.name for field in self.writable))
        return self.copy_with(self.change(stored), {**written, **values_of(stored, keep)})

    def settable(self, source: T) -> dict[str, Any]:
        """The values of an entity that can be set by field, because `to_row` passes them on."""
        row, found = self._example.to_row(source), dict[str, Any]()
        for field in self.writable:
            value, column = field.get(source), field.column
            if row.get(column.name, value) == value and (value is not None or column.nullable):
                found[field.name] = value
        return found or self.not_applicable("no field besides its key that can be set")

    def copy_uniques(self, entity: T, stored: T) -> T:
        """Give an entity the values of another that no two rows may share."""
        names = self._valued_uniques(stored) or self.not_applicable("neither its key nor a unique constraint")
        return self.copy_values(entity, stored, names)

    def _valued_uniques(self, entity: T) -> tuple[str, ...] | None:
        """Find the fields of a unique constraint, or of the key, in all of which an entity has values."""
        found = [names for _, names in self.unique_constraints]
        found += [tuple(map(self.mapper.field, self.schema.key))] if self.mapper.has_key else []
        return next((names for names in found if None not in values_of(entity, names).values()), None)

    def key_of(self, entity: T) -> Any:
        """The key of a stored entity, as `get` takes it."""
        if not self.mapper.has_key:
            raise NotApplicableError(f"{self.entity.__name__} does not carry its key")
        values = tuple(getattr(entity, self.mapper.field(name)) for name in self.schema.key)
        return values[0] if len(values) == 1 else values

    def natural_keys(self, entities: Iterable[T]) -> list[tuple[Any, ...]]:
        if not self.identifies_rows:
            self.not_applicable("neither its key nor a `natural_key` in its place")
        return [tuple(getattr(entity, name) for name in self.natural_key) for entity in entities]

    def is_(self, entity: T) -> bool:
        """The criterion that only this entity's row meets."""
        named = cast(Any, fields(self.entity))
        [values] = self.natural_keys([entity])
        equal = [getattr(named, name) == value for name, value in zip(self.natural_key, values, strict=True)]
        return cast(bool, reduce(and_, equal))

    # -- entities that show which values are lost

    @cached_property
    def pair(self) -> tuple[T, T]:
        """Two entities that differ in every field in which the class, the table and the repository let them."""
        first, second = self.make(1), self.make(2)
        for field in self.writable:
            if field.get(first) == field.get(second):
                values = [value for value in self._new_values(field) if value not in (None, field.get(first))]
                second = next(filter(self._can_store, self._vary(second, field, values)), second)
        return first, second

    def _can_store(self, entity: T) -> bool:
        return self.run(lambda repository: self._try(repository, entity, lambda *_: None)) is not None

    def _new_values(self, field: FieldInfo) -> list[Any]:
        """List values for any row: the harness's if rows may share them, the twins' if class and column accept them."""
        from sqlrepo.testing.twins.samples import sample_values  # noqa: PLC0415  # twins are built on this module

        values = [] if field.fixed else [*field.values, *getattr(field.spec.type.python, "__members__", {}).values()]
        refers = any(field.column.name in one.columns for one in self.schema.foreign_keys)
        if refers or not field.has_operators or field.spec.type.kind is not field.kind:
            return values
        accept = field.spec.accept
        if field.spec.adapter is None:  # only Pydantic's models check their values
            config = ConfigDict(arbitrary_types_allowed=True, strict=True)
            accept = TypeAdapter(field.spec.annotation, config=config).validate_python
        for value in sample_values(field.column.type):
            with suppress(ValueError):
                values.append(accept(value))
        return values

    def _vary(self, entity: T, field: FieldInfo, values: Iterable[Any]) -> Iterator[T]:
        for value in values:
            with suppress(NotApplicableError):
                yield self.copy_with(entity, {field.name: value})

    def try_values(
        self, varied: Iterable[FieldInfo], check: Callable[[BaseRepository[T, Any], T, T], None]
    ) -> list[tuple[T, T]]:
        """Store entities with every value of some fields, one at a time, and check what is found against each.

        Returns those given and those found, without the entities that class, table or repository refuse.
        """
        given = [*self.make_many(_SAMPLES), *self.pair]
        for field in varied:
            values = [] if field.made else [*self._new_values(field), *([None] if field.optional else [])]
            given += self._vary(given[0], field, values)
        with self.open() as repository:
            found = [self._try(repository, one, check) for one in given]
        return [(one, other) for one, other in zip(given, found, strict=True) if other is not None]

    def record_unproved(self, tried: Iterable[tuple[T, T]]) -> None:
        """Record for the plugin what entities, given and found, cannot prove."""
        values = [(self.values(given), self.values(found)) for given, found in tried]
        own = [name for name in self.names if not (name in self.by_name and self.by_name[name].made)]
        alike = [name for name in own if not len({repr(given.get(name)) for given, _ in values}) > 1]
        kept = [name for name in sorted(self.normalised) if all(given[name] == found[name] for given, found in values)]
        lines = [f"6.21: not proved for {name}, which has one value in every entity" for name in alike]
        lines += [f"6.22: `normalises` names {name}, which kept every value" for name in kept]
        self._record(UNPROVED, "\n".join(lines))

    def _try(self, repository: Any, given: T, check: Callable[[BaseRepository[T, Any], T, T], None]) -> T | None:
        """Add an entity, check what is found, and undo it; return that, or None if the entity is refused."""
        found: Any = None
        with suppress(AppError), repository.unit.savepoint():
            try:
                repository.add(given)
            except (RepositoryError, ValueError) as error:  # the two ways to refuse an entity; a crash is a failure
                raise AppError from error
            found = repository.one()
            check(repository, given, found)
            raise AppError
        return cast("T | None", found)

    # -- storing

    def store(self, entities: Iterable[T]) -> list[T]:
        return self.run(lambda repository: repository.add_many(entities))

    def store_new(self, count: int, *, start: int = 1) -> list[T]:
        return self.store(self.make_many(count, start=start))

    def store_one(self, number: int = 1) -> T:
        return self.store([self.make(number)])[0]

    def store_clash(self) -> tuple[T, T]:
        """Commit one entity; return it, and another that must not be stored beside it."""
        stored = self.store_one()
        return stored, self.copy_uniques(self.make(2), stored)

    def store_samples(self) -> list[T]:
        """Commit the entities whose values are the `values` of their fields, last one first."""
        return self.store(self.make_many(_SAMPLES)[::-1])

    def store_values(self, field: FieldInfo, values: Sequence[Any]) -> list[T]:
        """Commit entities that have these values in a field, one entity for each."""
        made = self.make_many(len(values))
        return self.store(self.copy_with(one, {field.name: value}) for one, value in zip(made, values, strict=True))

    def store_ties(self) -> tuple[FieldInfo, list[T]]:
        """Commit entities of which several agree in a field, and have None there if it may be None."""
        field = next((one for one in self.fields if one.plain and one.optional and not one.fixed and one.values), None)
        field = field or self.free_field()
        low, high = field.low, field.high
        pattern = [high, low, None, high, low, None, low] if field.optional else [high, low, high, low, high, low, low]
        return field, self.store_values(field, pattern)

    def store_and_remove(self) -> T:
        """Commit an entity, delete its row again, and return the entity as it was stored."""
        stored = self.store_one(_SPARE)
        self.natural_keys([stored])
        self.remove(stored)
        return stored

    def write(self, repository: BaseRepository[T, Any], stored: Sequence[T]) -> None:
        """Insert; if entities identify their rows, also update and delete."""
        repository.add(self.make(9))
        if self.identifies_rows:
            repository.update(self.change(stored[0]))
            repository.remove(stored[1])
        assert repository.count() != 0

    # -- fields

    def comparable_field(self, *kinds: Kind) -> FieldInfo:
        """Choose a field to compare and sort by, preferably one with many values and no other meaning."""
        found = [field for field in self.fields if field.plain and field.kind in (kinds or Kind) and field.values]
        if not found:
            wanted = " or ".join(kind.value for kind in kinds) or "str, int, date, ..."
            self.not_applicable(f"no field of type {wanted} that is stored unchanged")
        return max(found, key=lambda field: (not field.fixed, field.kind is not Kind.BOOLEAN, len(field.values)))

    def free_field(self) -> FieldInfo:
        """Choose a field that may have any value in any row."""
        return self._choose(self.fields, "no field besides keys and uniques that can be compared, with two values")

    def optional_field(self) -> FieldInfo:
        """Choose a field that may have any value, and None, in any row."""
        optional = [field for field in self.fields if field.optional]
        return self._choose(optional, "no field besides uniques that may be None and can be compared, with two values")

    def _choose(self, among: Iterable[FieldInfo], missing: str) -> FieldInfo:
        found = [field for field in among if field.plain and not field.fixed and len(field.values) > 1]
        if not found:
            self.not_applicable(missing)
        return max(found, key=lambda field: (field.kind is not Kind.BOOLEAN, len(field.values)))

    def version_of(self, entity: T) -> dict[str, Any]:
        """The version of an entity, by field; nothing if it has none."""
        version = self.by_column.get(self.schema.version or "")
        return {} if version is None else {version.name: version.get(entity)}

    def version_field(self) -> FieldInfo:
        if self.schema.version is None:
            self.not_applicable("no version")
        return self.by_column.get(self.schema.version) or self.not_applicable("no field for its version")

    def upsert_target(self) -> tuple[str, ...]:
        """The fields of a unique constraint, or of the key, that have values before an entity is stored."""
        missing = "no unique constraint whose fields have values before it is stored"
        return self._valued_uniques(self.make(1)) or self.not_applicable(missing)

    def query(self, **options: Any) -> QueryObject[T]:
        """Make a query object of ``limit``, ``offset``, ``order_by``, or filters such as ``priority__ge=3``."""
        types: dict[str, Any] = {"limit": int, "offset": int}
        if "order_by" in options:
            types["order_by"] = Literal[options["order_by"]]
        definitions = {name: (types.get(name) or self._filter_type(name), ...) for name in options}
        base = cast(Any, QueryObject)[self.entity]
        model = create_model(f"{self.entity.__name__}Query", __base__=base, **cast(Any, definitions))
        return cast("QueryObject[T]", model(**options))

    def _filter_type(self, name: str) -> Any:
        field, _, operator = name.rpartition("__")
        python: Any = self.by_name[field or name].spec.type.python
        return list.__class_getitem__(python) if operator in ("in", "not_in") else python

    # -- comparing

    def check(self, found: Any, expected: Any, what: str = "") -> None:
        """Compare entities, or lists of them in the same order."""
        __tracebackhide__ = True
        values, wanted = self.to_values(found), self.to_values(expected)
        assert values == wanted, f"{what or 'entities'}: found {values!r}, expected {wanted!r}"

    def check_any_order(self, found: Iterable[T], expected: Iterable[T]) -> None:
        __tracebackhide__ = True
        self.check(self._sort(found), self._sort(expected), "entities, in any order")

    def check_found(self, repository: Any, expected: Iterable[T]) -> None:
        """Compare all that a repository finds."""
        __tracebackhide__ = True
        self.check_any_order(repository.find(), expected)

    def check_stored(self, expected: Iterable[T]) -> None:
        """Compare what a new unit sees."""
        __tracebackhide__ = True
        self.check(self._sort(self.find_all()), self._sort(expected), "entities that a new unit sees, in any order")

    def check_written(
        self, results: Sequence[T], given: Sequence[T], *, beside: Iterable[T] = (), updated: bool = False
    ) -> None:
        """Compare what a new unit reads with what the caller gave, field by field, and with what the calls returned."""
        __tracebackhide__ = True
        found = self.find_all()
        stored = dict(zip(self.natural_keys(found), found, strict=True)) if self.identifies_rows else {}
        for result, one in zip(results, given, strict=True):
            key = self.natural_keys([result])[0] if self.identifies_rows else ()
            self.check_kept(stored.get(key, result), one, updated=updated)
            self.check_kept(result, one, updated=updated)
        self.check_any_order(found, [*results, *beside])

    def check_kept(self, stored: T, given: T, *, updated: bool = False, again: bool = False) -> None:
        """Compare a stored entity with the given one, or with one that was read before, in the caller's fields."""
        __tracebackhide__ = True
        found, verbs = self.values(stored), ("read", "written and read again") if again else ("given", "stored")
        lost = [
            f"{self.entity.__name__}.{name}: {verbs[0]} {value!r}, {verbs[1]} {found.get(name)!r}"
            for name, value in self.own_values(given, updated=updated).items()
            if self._comparable(name, found.get(name)) != self._comparable(name, value)
            and (again or name not in self.normalised)
        ]
        if lost:
            raise AssertionError("\n".join(lost))

    def to_values(self, given: Any) -> Any:
        """Convert entities to their values by field, which shows more than an equality of their own."""
        if isinstance(given, Sequence):
            return [self.to_values(one) for one in given]
        return None if given is None else self.values(given)

    def values(self, entity: T) -> dict[str, Any]:
        """The values of an entity by field; a new instance of a mapped class has not set all of them."""
        known = vars(entity) if hasattr(entity, "__mapper__") else self.names
        return {name: getattr(entity, name) for name in self.names if name in known}

    def own_values(self, entity: T, *, updated: bool = False) -> dict[str, Any]:
        """The values that must come back unchanged: not what the store fills in, counts or, in an update, rewrites."""
        own = self.values(entity)
        for field in self.fields:
            column, value = field.column, own.get(field.name)
            filled = value is None and column.fills_itself and not column.nullable
            if field.made or filled or (updated and (column.onupdate or column.server_onupdate)):
                own.pop(field.name, None)
        return own

    def _comparable(self, name: str, value: Any) -> Any:
        """Leave out what the store fills in in children, and their order where no column keeps it."""
        if (part := self.parts.get(name)) is None or value is None:
            return value
        given = [one for one in part.mapper.names if not part.mapper.column(one).fills_unasked]
        children = [values_of(child, given) for child in part.wrap(value)]
        return children if part.order else sorted(children, key=repr)

    def _sort(self, entities: Iterable[T]) -> list[T]:
        return sorted(entities, key=lambda entity: repr(self.values(entity)))


def check_raises(error: type[Exception], *calls: Callable[[], object]) -> None:
    """Call functions each of which must raise an error."""
    __tracebackhide__ = True
    for number, call in enumerate(calls, start=1):
        try:
            call()
        except error:
            continue
        pytest.fail(f"call {number} of {len(calls)} raised no {error.__name__}")


def values_of(entity: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(entity, name) for name in names}


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Drop None and repetitions, and sort if the values can be sorted."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    try:
        return sorted(found)
    except TypeError:
        return found


def copy_with(entity: T, changes: Mapping[str, Any]) -> T:
    given: Any = entity
    if hasattr(given, "__mapper__"):
        known = {name: vars(given)[name] for name in dict(given.__mapper__.columns) if name in vars(given)}
        return cast(T, type(given)(**{**known, **changes}))
    if isinstance(given, BaseModel):
        return cast(T, given.model_copy(update=dict(changes)))
    if hasattr(given, "__attrs_attrs__"):
        values = {one.name: changes.get(one.name, getattr(given, one.name)) for one in given.__attrs_attrs__}
        return cast(T, type(given)(**{one.alias: values[one.name] for one in given.__attrs_attrs__}))
    return cast(T, dataclasses.replace(given, **changes))


def _is_repository(opened: object) -> bool:
    return isinstance(_unwrap(opened), BaseRepository | AsyncBaseRepository)


def _repository_of(opened: Any, entity: type[T]) -> BaseRepository[T, Any]:
    """The opened repository, or the only repository of an entity class that the opened unit declares."""
    if _is_repository(opened):
        return cast("BaseRepository[T, Any]", opened)
    unit = _unwrap(opened)
    if not isinstance(unit, BaseUnitOfWork | AsyncBaseUnitOfWork):
        raise TypeError(
            f"the harness's open() must yield a unit of work or a repository, but yields {type(opened).__name__}"
        )
    declared = declared_repositories(unit).values()
    fitting = [one for one in declared if type(one).definition().mapper.entity is entity]
    if len(fitting) != 1:
        raise TypeError(
            f"{type(unit).__name__} declares {len(fitting) or 'no'} repositories of {entity.__name__}; "
            "let the harness's open() yield the repository to test"
        )
    return cast("BaseRepository[T, Any]", _wrap_like(opened, fitting[0]))

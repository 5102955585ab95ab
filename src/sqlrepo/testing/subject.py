"""The repository under test: its store and its entity, as cases use them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property, reduce
from itertools import chain
from operator import and_
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

from pydantic import BaseModel, create_model

from sqlrepo import (
    AsyncBaseRepository,
    BaseRepository,
    BaseUnitOfWork,
    MappingError,
    QueryError,
    QueryObject,
    RepositoryError,
    fields,
)
from sqlrepo.memory import Column, Kind, Schema
from sqlrepo.testing.harness import (
    Capabilities,
    Harness,
    NotApplicableError,
    SyncRepositoryProxy,
    SyncUnitProxy,
    sync_proxy,
)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FieldInfo:
    """A field of the entity and the column that stores it."""

    name: str
    column: Column
    #: The field for use in criteria, `fields(entity).name`.
    expression: Any
    #: True if the contract's cases leave the field alone: key, uniques, foreign keys, version, computed columns.
    fixed: bool = False
    #: Different values that the harness gives the field, sorted where they can be; never None.
    values: tuple[Any, ...] = ()
    #: The repository whose generated keys the field holds, its own included; None if it holds none.
    origin: str | None = None

    @property
    def spec(self) -> Any:
        """The field as the entity's class describes it."""
        return self.expression.spec

    @property
    def kind(self) -> Kind:
        """The kind of value that the column stores."""
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
    def has_operators(self) -> bool:
        """True if queries can ask for more than whether the field is NULL."""
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

    @cached_property
    def fields(self) -> tuple[FieldInfo, ...]:
        """The fields that have a column of their own."""
        return tuple(found for column in self.schema.columns if (found := self._describe(column)) is not None)

    @cached_property
    def by_column(self) -> Mapping[str, FieldInfo]:
        """The fields, by column."""
        return {field.column.name: field for field in self.fields}

    @cached_property
    def by_name(self) -> Mapping[str, FieldInfo]:
        """The fields, by name."""
        return {field.name: field for field in self.fields}

    @cached_property
    def key(self) -> tuple[FieldInfo, ...]:
        """The fields of the key; empty if the entity lacks any of them."""
        found = [self.by_column.get(name) for name in self.schema.key]
        return () if None in found else tuple(field for field in found if field)

    @cached_property
    def tells_rows(self) -> bool:
        """True if an entity names its row, by the key or by the natural key."""
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
        return FieldInfo(name, column, expression, fixed or bool(column.onupdate or column.computed))


def declared_repositories(unit: Any, kind: type[Any] | None = None) -> dict[str, Any]:
    """Collect the repositories that the annotations of a unit's class declare; `kind` if that is another class."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for base in (kind or type(unit)).__mro__ for name in _annotations(base)):
        try:
            value = getattr(unit, name, None)
        except MappingError:  # an annotation that only type checkers can resolve declares nothing
            continue
        if isinstance(value, BaseRepository | AsyncBaseRepository):
            found[name] = value
    return found


def _annotations(cls: type) -> Iterable[str]:
    return cast("Mapping[str, Any]", vars(cls).get("__annotations__", {}))


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A field of the entity and the column it is kept in.

    Attributes:
        name: the field.
        column: the column, as the repository's table describes it.
        spec: the field, as the entity's class describes it.
        fixed: whether the cases leave it alone: key, uniques, foreign keys, version, what the table fills in by itself
            on update.
        values: different values that the first entities of the harness have in it, in order, never None.
    """

    name: str
    column: Any
    spec: Any
    fixed: bool
    values: tuple[Any, ...]

    @property
    def kind(self) -> str:
        """What sort of value it holds, by the name of the Python class."""
        return str(self.column.type.kind.value)

    @property
    def optional(self) -> bool:
        """Whether both the table and the class allow None."""
        return bool(self.column.nullable and self.spec.optional)

    @property
    def plain(self) -> bool:
        """Whether its values are stored as they are, so that Python compares and sorts them as the store does."""
        return bool(self.column.type.plain) and self.kind == self.spec.type.kind.value != "object"


class Places(Generic[T]):
    """The fields of an entity, looked up by what a case needs.

    Args:
        definition: what the repository class says of itself.
        made: makes the entities whose values are looked at.
        change: alters an entity.
    """

    def __init__(self, definition: Any, made: Callable[[], Sequence[T]], change: Callable[[T], T]) -> None:
        self.mapper = definition.mapper
        self.schema = definition.schema
        self.entity: type[T] = self.mapper.entity
        self._made = made
        self._change = change

    @cached_property
    def places(self) -> list[Place]:
        """The entity's fields that are kept in a column of their own."""
        made = self._made()
        changed = list(map(self._change, made))
        found = [self._place(column, made, changed) for column in self.schema.columns]
        return [place for place in found if place is not None]

    def _place(self, column: Any, made: Sequence[T], changed: Sequence[T]) -> Place | None:
        name = self.mapper.field(column.name)
        try:
            if self.mapper.column(name) is not column:
                return None
        except QueryError:
            return None
        bound = {other for one in (*self.schema.uniques, *self.schema.foreign_keys) for other in one.columns}
        known = {*self.schema.key, *bound, self.schema.version}
        fixed = column.name in known or bool(column.onupdate or column.computed)
        spec = getattr(cast(Any, fields(self.entity)), name).spec
        values = _distinct(getattr(entity, name) for entity in made)
        if len(values) == 1:  # what `change` makes of it is another one
            values = _distinct([*values, *(getattr(entity, name) for entity in changed)])
        return Place(name, column, spec, fixed, tuple(values))

    def place(self, column: str) -> Place | None:
        """The field that is kept in a column."""
        return next((place for place in self.places if place.column.name == column), None)

    def field(self, place: Place) -> Any:
        """A field, for use in criteria."""
        return getattr(fields(self.entity), place.name)

    def lacks(self, what: str) -> NoReturn:
        """Report that a case needs what the entity does not have."""
        raise NotApplicableError(f"{self.entity.__name__} has {what}")

    def compared(self, *kinds: str) -> Place:
        """A field that can be compared and sorted, one with many values and no other meaning before others."""
        found = [place for place in self.places if place.plain and (not kinds or place.kind in kinds) and place.values]
        if not found:
            self.lacks(f"no field of type {' or '.join(kinds) or 'str, int, date, ...'} that is stored as it is")
        return max(found, key=lambda place: (not place.fixed, place.kind != "bool", len(place.values)))

    def free(self) -> Place:
        """A field that any row may have any value in."""
        found = [place for place in self.places if place.plain and not place.fixed and len(place.values) > 1]
        if not found:
            self.lacks("no field besides keys and uniques that can be compared, with two values or more")
        return max(found, key=lambda place: (place.kind != "bool", len(place.values)))

    def optional(self) -> Place:
        """A field that any row may have any value in, and None."""
        found = [place for place in self.places if place.plain and place.optional and not place.fixed]
        found = [place for place in found if len(place.values) > 1]
        if not found:
            self.lacks("no field that may be None, besides uniques, and can be compared, with two values or more")
        return max(found, key=lambda place: (place.kind != "bool", len(place.values)))

    def version(self) -> Place:
        """The field that counts writes."""
        if self.schema.version is None:
            self.lacks("no version")
        return self.place(self.schema.version) or self.lacks("no field for its version")

    def uniques(self) -> Iterator[tuple[str | None, tuple[str, ...]]]:
        """The unique constraints besides the key whose columns are all fields: their names, and the fields."""
        for unique in self.schema.uniques:
            if all(self.place(column) is not None for column in unique.columns):
                yield unique.name, tuple(map(self.mapper.field, unique.columns))

    def query(self, **options: Any) -> QueryObject[T]:
        """Make a query object over the entity.

        Args:
            options: ``limit``, ``offset``, ``order_by``; or a filter and its value, such as ``priority__ge=3``.
        """
        types: dict[str, Any] = {"limit": int, "offset": int}
        if "order_by" in options:
            types["order_by"] = Literal[options["order_by"]]
        definitions = {name: (types[name] if name in types else self._filtered(name), ...) for name in options}
        base = cast(Any, QueryObject)[self.entity]
        model = create_model(f"{self.entity.__name__}Query", __base__=base, **cast(Any, definitions))
        return cast("QueryObject[T]", model(**options))

    def _filtered(self, name: str) -> Any:
        field, _, operator = name.rpartition("__")
        python: Any = next(place.spec.type.python for place in self.places if place.name == (field or name))
        return list.__class_getitem__(python) if operator in ("in", "not_in") else python


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Leave out None and repetitions, in order where there is one."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    try:
        return sorted(found)
    except TypeError:
        return found


R = TypeVar("R")

# How long a unit is given that can go on, and one that is expected to wait for another, in seconds.
_SOON = 5.0
_A_WHILE = 0.1


class Concurrent(Generic[R]):
    """Another unit of work, in another thread.

    Args:
        submit: starts it.
    """

    def __init__(self, submit: Callable[[], Future[R]]) -> None:
        self._submit = submit
        self._future: Future[R] | None = None

    def start(self, *, free: bool) -> bool:
        """Start it, and give it time.

        Args:
            free: whether the backend's capabilities say that it need not wait for the caller's unit.

        Returns:
            whether it has ended.
        """
        self._future = self._submit()
        return not wait([self._future], _SOON if free else _A_WHILE).not_done

    def held_back(self) -> bool:
        """Whether it waits, or was refused so that it may try again."""
        if self._future is None or not self._future.done():
            return True
        return isinstance(self.error, RepositoryError) and self.error.retryable

    @property
    def error(self) -> BaseException | None:
        """What it ended with, once it has ended."""
        assert self._future is not None, "it was not started"
        return self._future.exception()

    @property
    def result(self) -> R:
        """What it gave, once it has ended."""
        assert self._future is not None, "it was not started"
        return self._future.result()


def scoped(repository: BaseRepository[Any, Any], criterion: object, *, leaving: bool = False) -> Any:
    """A repository like another, in its unit, that keeps to fewer rows.

    Args:
        repository: it.
        criterion: what its rows answer besides; what is none is given as the scope as it is.
        leaving: whether a change may take them out again.
    """
    if isinstance(repository, SyncRepositoryProxy):
        kind = _derived(type(repository.skin), criterion, leaving)
        return sync_proxy(kind(repository.skin.unit), repository.portal)
    return _derived(type(repository), criterion, leaving)(repository.unit)


def _derived(kind: Any, criterion: Any, leaving: bool) -> Any:
    def scope(self: Any) -> bool:
        unfit = criterion is True or criterion is None
        return cast(bool, criterion if unfit else kind.scope(self) & criterion)

    def write_scope(self: Any) -> bool:
        return cast(bool, kind.scope(self) if leaving else scope(self))

    return type(kind.__name__, (kind,), {"scope": scope, "write_scope": write_scope})


K = TypeVar("K")

# How many entities are looked at to learn which values a field can have.
_SAMPLES = 6

# The number of an entity that is stored by no case beside others.
_ANOTHER = 15


class AppError(Exception):
    """What the application raises in the middle of a unit of work."""


class Subject(Places[T], Generic[T, K]):
    """A harness, and what its repository says of the entity.

    Args:
        harness: a `Harness`, or an object with its members.

    Raises:
        TypeError: what the harness opens is no repository of the entity, and declares none, or several.
    """

    def __init__(self, harness: Harness[T, K]) -> None:
        self.harness = harness
        self.alone = isinstance(harness.open(), BaseRepository)
        self.entity = type(harness.make(1))
        with self.open() as repository:
            self._repository = repository
        self.capabilities = harness.capabilities or Capabilities.of(repository.unit.source)
        definition = type(repository).definition()
        super().__init__(definition, lambda: self.make(_SAMPLES), lambda entity: harness.change(copy.deepcopy(entity)))
        self.natural_key: tuple[str, ...] = tuple(map(self.mapper.field, definition.natural_key))
        #: Whether an entity tells which row it is of, by its key or by its identity.
        self.tells_rows: bool = self.mapper.has_key or set(definition.natural_key) != set(self.schema.key)

    # -- units of work

    @contextmanager
    def open(self) -> Generator[BaseRepository[T, K]]:
        """Open a unit of work and give the entity's repository in it; its ``unit`` is the unit of work."""
        with self.harness.open() as opened:
            yield _repository_of(opened, self.entity)

    @contextmanager
    def open_read_only(self) -> Generator[BaseRepository[T, K]]:
        """Open a read-only unit of work on the same source and give the entity's repository in it."""
        with self.open() as repository:
            unit = repository.unit
        if isinstance(repository, SyncRepositoryProxy):
            reader = repository.reader()
            with reader.unit:
                yield reader
            return
        with BaseUnitOfWork(unit.source, read_only=True, context=unit.context) as read_only:
            yield type(repository)(read_only)

    def run(self, work: Callable[[BaseRepository[T, K]], R]) -> R:
        """Do something in a unit of work of its own."""
        with self.open() as repository:
            return work(repository)

    def all(self) -> list[T]:
        """What a unit begun now sees, in the order of the keys."""
        return self.run(lambda repository: repository.find())

    def store(self, entities: Iterable[T]) -> list[T]:
        """Commit entities and give them as they are stored."""
        return self.run(lambda repository: repository.add_many(entities))

    @contextmanager
    def another(self, work: Callable[[BaseRepository[T, K]], R]) -> Generator[Concurrent[R]]:
        """Let another unit of work, in another thread, do something while the caller's is open.

        On leaving it is waited for; by then the caller's must have ended.
        """
        with ThreadPoolExecutor(1) as thread:
            yield Concurrent(lambda: thread.submit(self.run, work))

    # -- entities

    def make(self, count: int, *, start: int = 1) -> list[T]:
        """Make entities that are not stored yet."""
        return [self.harness.make(number) for number in range(start, start + count)]

    def store_samples(self) -> list[T]:
        """Commit the entities whose values are the `values` of their fields, last one first."""
        return self.store(self.make(_SAMPLES)[::-1])

    def change(self, entity: T) -> T:
        """Alter some field that is no key, for an update."""
        self.identities([entity])
        return self.harness.change(copy.deepcopy(entity))

    def copied(self, entity: T, changes: Mapping[str, Any]) -> T:
        """Copy an entity with some fields replaced, without validation where its class can be had without."""
        try:
            return _copied(entity, changes)
        except (TypeError, ValueError) as error:
            raise NotApplicableError(f"{self.entity.__name__} cannot be copied with {dict(changes)}") from error

    def seen(self, given: Any) -> Any:
        """What is compared of entities: they themselves, or their values where the class does not compare."""
        if isinstance(given, Sequence):
            return [self.seen(one) for one in given]
        if given is None or (self.entity.__eq__ is not object.__eq__ and not hasattr(self.entity, "__mapper__")):
            return given
        return self.row(given)

    def in_any_order(self, entities: Iterable[T]) -> list[Any]:
        """What is compared of several entities, where their order does not matter."""
        found: list[Any] = self.seen(sorted(entities, key=lambda entity: repr(self.row(entity))))
        return found

    def row(self, entity: T) -> dict[str, Any]:
        """An entity's values, by column."""
        return dict(self._repository.to_row(entity))

    def kept(self, entity: T) -> dict[str, Any]:
        """What must come back as it was given, by column: not what the table fills in, counts or rewrites."""
        return {
            name: value
            for name, value in self.row(entity).items()
            if (column := self.schema.by_name[name]).type.bind is None
            and not (column.computed or column.onupdate or name == self.schema.version)
            and not (value is None and column.fills_itself and not column.nullable)
        }

    def check_kept(self, stored: T, given: T) -> None:
        """Compare an entity that came back with what was given, but for what is not the caller's to give."""
        kept, expected = self.row(stored), self.kept(given)
        assert {name: kept[name] for name in expected} == expected

    def key(self, entity: T) -> K:
        """The key of a stored entity, as `get` takes it."""
        if not self.mapper.has_key:
            raise NotApplicableError(f"{self.entity.__name__} does not carry its key")
        values = tuple(getattr(entity, self.mapper.field(name)) for name in self.schema.key)
        return cast(K, values[0] if len(values) == 1 else values)

    def is_(self, entity: T) -> bool:
        """The criterion that only this entity's row answers."""
        named = cast(Any, fields(self.entity))
        [values] = self.identities([entity])
        equal = [getattr(named, name) == value for name, value in zip(self.natural_key, values, strict=True)]
        return cast(bool, reduce(and_, equal))

    def identities(self, entities: Iterable[T]) -> list[tuple[Any, ...]]:
        """What tells each of the entities from all others."""
        if not self.tells_rows:
            self.lacks("neither its key nor a `natural_key` in its place")
        return [tuple(getattr(entity, name) for name in self.natural_key) for entity in entities]

    def agreeing(self) -> tuple[str, ...]:
        """The fields of a unique constraint that entities have before they are stored, or of their key."""
        made = self.harness.make(1)
        keyed = [tuple(map(self.mapper.field, self.schema.key))] if self.mapper.has_key else []
        for names in [*(names for _, names in self.uniques()), *keyed]:
            if None not in [getattr(made, name) for name in names]:
                return names
        return self.lacks("no unique constraint whose fields have values before it is stored")

    def gone(self) -> T:
        """A stored entity, whose row was deleted again."""
        [stored] = self.store(self.make(1, start=_ANOTHER))
        self.identities([stored])
        self.run(lambda repository: repository.remove(stored))
        return stored

    def upset(self, repository: BaseRepository[T, K], stored: Sequence[T]) -> None:
        """Insert, update and delete, as far as the entities can be told apart."""
        repository.add(self.harness.make(9))
        if self.tells_rows:
            repository.update(self.change(stored[0]))
            repository.remove(stored[1])
        assert repository.count() != 0

    # -- what cases store

    def spread(self, place: Place, values: Sequence[Any]) -> list[T]:
        """Commit entities that have these values in a field, one for each."""
        made = self.make(len(values))
        return self.store(self.copied(entity, {place.name: value}) for entity, value in zip(made, values, strict=True))

    def ties(self) -> tuple[Place, list[T]]:
        """Commit entities of which several agree in a field, and some have None there where that may be."""
        place = next((one for one in self.places if one.plain and one.optional and not one.fixed and one.values), None)
        place = place or self.free()
        low, high = place.values[0], place.values[-1]
        pattern = [high, low, None, high, low, None, low] if place.optional else [high, low, high, low, high, low, low]
        return place, self.spread(place, pattern)

    def clash(self, entity: T, stored: T) -> T:
        """Give an entity the values of another that no two rows may share."""
        names = next((names for _, names in self.uniques()), ())
        if self.mapper.has_key and (not names or None in [getattr(stored, name) for name in names]):
            names = tuple(map(self.mapper.field, self.schema.key))
        if not names:
            self.lacks("neither its key nor a unique constraint")
        return self.copied(entity, {name: getattr(stored, name) for name in names})


def _copied(entity: T, changes: Mapping[str, Any]) -> T:
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


class Cases(Generic[T, K]):
    """The base of the classes that hold cases; a case is a method that takes the `Subject`."""


def _repository_of(opened: Any, entity: type[T]) -> BaseRepository[T, Any]:
    """The repository of an entity class: what was opened itself, or the one that the unit of work declares."""
    if isinstance(opened, BaseRepository):
        return opened
    if not isinstance(opened, BaseUnitOfWork):
        raise TypeError(f"the harness's open() yields a unit of work or a repository, not {type(opened).__name__}")
    kind = type(opened.skin) if isinstance(opened, SyncUnitProxy) else type(opened)
    names = [name for base in kind.__mro__ for name in vars(base).get("__annotations__", {})]
    declared = [_attribute(opened, name) for name in dict.fromkeys(names)]
    found = [one for one in declared if isinstance(one, BaseRepository)]
    fitting = [one for one in found if type(one).definition().mapper.entity is entity]
    if len(fitting) != 1:
        raise TypeError(
            f"{type(opened).__name__} declares {len(fitting) or 'no'} repositories of {entity.__name__}; "
            "let the harness's open() yield the repository that is meant"
        )
    return fitting[0]


def _attribute(unit: Any, name: str) -> Any:
    try:
        return getattr(unit, name, None)
    except MappingError:  # an annotation that only type checkers can resolve declares nothing
        return None

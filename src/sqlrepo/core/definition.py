"""What a repository class says of itself: its entity, its table, its options, checked where the class is defined."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import iscoroutinefunction, isroutine
from types import FrameType
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin

from typing_extensions import get_original_bases

from sqlrepo.errors import MappingError, QueryError, nearest
from sqlrepo.language.criteria import EVERYTHING
from sqlrepo.language.entities import NO_ENTITY, describe, is_entity, is_mapped
from sqlrepo.language.values import Kind, WrongValueError
from sqlrepo.tables.mapper import Fold, Mapper, Record
from sqlrepo.tables.schema import Check, Column, ConstantDefault, Row, RowFunction, Schema


def apply_memory_options(
    schema: Schema,
    fields: Mapping[str, str],
    defaults: Mapping[str, Any],
    checks: Mapping[str, Callable[[Mapping[str, Any]], bool | None]],
) -> Schema:
    """Add to a table what the user says memory shall do in the database's place.

    Args:
        schema: the table.
        fields: the column of each field that has another name.
        defaults: values, or functions of the row, by field.
        checks: functions of the row, by the name of the check.

    Raises:
        MappingError: a name is unknown, or the database does nothing there to stand in for.
    """
    if defaults:
        given = {_filled(schema, fields.get(name, name)): value for name, value in defaults.items()}
        schema = replace(schema, columns=tuple(_standing_in(one, given, fields) for one in schema.columns))
    if checks:
        for name in checks:
            _refuse_unknown(schema, name)
        schema = replace(schema, checks=tuple(_asked(check, checks, fields) for check in schema.checks))
    return schema


def _filled(schema: Schema, name: str) -> str:
    if name not in schema.by_name:
        raise MappingError(
            f"`memory_defaults` names {name!r}, which is no column of table {schema.name}"
            f"{nearest(name, schema.by_name)}"
        )
    if schema.by_name[name].filled_by_database is None:
        raise MappingError(f"`memory_defaults` names {name!r}, which table {schema.name} does not fill in by itself")
    return name


def _standing_in(column: Column, given: Mapping[str, Any], fields: Mapping[str, str]) -> Column:
    if column.name not in given:
        return column
    value = given[column.name]
    if callable(value):
        return replace(column, memory_default=RowFunction(value, fields))
    try:
        return replace(column, memory_default=ConstantDefault(column.type.store(column.check(value))))
    except WrongValueError as wrong:
        raise MappingError(f"the value that `memory_defaults` gives {column.name!r} {wrong}") from wrong


def _refuse_unknown(schema: Schema, name: str) -> None:
    known = [check.name for check in schema.checks if check.name]
    if name not in known:
        raise MappingError(
            f"`memory_checks` names {name!r}, which is no check of table {schema.name}{nearest(name, known)}"
        )


def _asked(check: Check, given: Mapping[str, Any], fields: Mapping[str, str]) -> Check:
    function = given.get(check.name or "")
    return check if function is None else replace(check, test=RowFunction(function, fields))


def type_arguments(cls: type, generic: type) -> tuple[Any, ...]:
    """Tell what a class puts in the place of a generic base's type variables.

    Follows generic classes in between, mixins, and parameters in another order, by substitution.

    Args:
        cls: the class to read.
        generic: the generic class it is derived from.

    Returns:
        one argument per type variable; a TypeVar where it is still open.
    """
    for arguments in _bound(cls, generic, {}):
        return arguments
    return tuple(getattr(generic, "__parameters__", ()))


def _bound(cls: type, generic: type, known: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    if not issubclass(cls, generic):
        return
    for base in get_original_bases(cls):
        origin = get_origin(base) or base
        arguments = tuple(_substituted(argument, known) for argument in get_args(base))
        if origin is generic and arguments:
            yield arguments
        elif isinstance(origin, type) and origin is not cls:
            parameters = getattr(origin, "__parameters__", ())
            yield from _bound(origin, generic, dict(zip(parameters, arguments, strict=False)))


def _substituted(argument: Any, known: dict[Any, Any]) -> Any:
    return known.get(argument, argument) if isinstance(argument, TypeVar) else argument


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Definition(Generic[T]):
    """What the body of a repository class declares, checked."""

    mapper: Mapper[T]
    natural_key: tuple[str, ...]  # the columns that identify an entity's row
    custom_load: bool
    scoped: bool  # the class overrides scope or write_scope
    lets_leave: bool  # the class overrides write_scope

    @property
    def schema(self) -> Schema:
        return self.mapper.schema

    def key_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that identify an entity's row, by column; None if they are not known yet."""
        if missing := [name for name in self.natural_key if name not in values and not self.mapper.has_field(name)]:
            raise MappingError(
                f"{self.mapper.entity.__name__} has no {', '.join(missing)}, so it identifies no row; "
                "declare `natural_key`, the fields of a unique constraint"
            )
        return {name: values.get(name) for name in self.natural_key}

    def conflict_target(self, on: str | Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the key or unique constraint that ``on`` names, in the constraint's order."""
        named = {self.mapper.column(name).name for name in _names(on)}
        known = [self.schema.key, *(unique.columns for unique in self.schema.uniques)]
        for columns in known:
            if named and set(columns) == named:
                return columns
        listed = ", ".join(f"({', '.join(map(self.mapper.field, columns))})" for columns in known)
        raise QueryError(f"on={on!r} is neither the key nor a unique constraint; there are {listed}")

    def updatable(self, update: Iterable[str], target: tuple[str, ...]) -> frozenset[str]:
        """Return the columns that ``update`` names, which an upsert must be able to change."""
        columns = [self.mapper.column(name) for name in _names(update)]
        for column in columns:
            if column.computed or column.name in {*target, *self.schema.key, self.schema.version}:
                raise QueryError(f"update={self.mapper.field(column.name)!r}: an upsert does not change this field")
        return frozenset(column.name for column in columns)

    def projection(self, into: type[Any]) -> tuple[tuple[str, ...], Callable[[Sequence[Row]], list[Any]]]:
        """Return the columns that a smaller model needs, and a builder of it."""
        if not is_entity(into):
            raise QueryError(f"into= takes an entity class; {into!r} is {NO_ENTITY}")
        columns = tuple(self.mapper.column(name).name for name in describe(into))
        return columns, self.mapper.make_hydrator(into, columns)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


class RepositoryConfig(Generic[T]):
    """The class half of a repository: what its body declares, checked when it is defined and read once."""

    #: The mapped class.
    model: ClassVar[type[Any] | None] = None
    #: The table, described by hand, where there is no mapped class yet.
    schema: ClassVar[Schema | None] = None
    #: The column of a field, where the names differ.
    columns: ClassVar[Mapping[str, str]] = {}
    #: The fields of a declared unique constraint that stand for the key in entities without one.
    natural_key: ClassVar[tuple[str, ...]] = ()
    #: The integer field that counts writes; the mapped class's ``version_id_col`` by default.
    version: ClassVar[str | None] = None
    #: How text is compared without regard to case: by Unicode, or A to Z only.
    fold: ClassVar[Fold] = "unicode"

    #: What memory puts where only the database can fill a field in: a value, or a function of the row's values.
    memory_defaults: ClassVar[Mapping[str, Any]] = {}
    #: What memory asks in the place of a check written as text, by its name: a function of the row's values.
    memory_checks: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], bool | None]]] = {}

    #: Whether it may write past the ORM's listeners and validators where it joins a session.
    bypass_orm_events: ClassVar[bool] = False

    _definition: ClassVar[Definition[Any] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._definition = None
        _define(cls, complete=False)

    @classmethod
    def definition(cls) -> Definition[T]:
        """What the class says: its entity, table and options, complete and checked.

        Raises:
            MappingError: the parts do not fit, or one is missing.
        """
        if cls._definition is None:
            cls._definition = _define(cls, complete=True)
        if cls._definition is None:
            raise MappingError(f"{cls.__name__} does not say which entity it keeps, or in which table (`model`)")
        return cls._definition

    def to_domain(self, row: Record) -> T:
        """Build an entity from a row; override where fields and columns do not correspond one to one."""
        return self.definition().mapper.to_entity(row)

    def to_row(self, entity: T) -> Mapping[str, Any]:
        """Read an entity into values by column; a column left out is left as it is."""
        return self.definition().mapper.to_values(entity)

    def scope(self) -> bool:
        """Say which rows there are for this repository; override to keep to a tenant's, or to those not deleted.

        It is added to what every call asks, and a new row must answer it. What a class says by default is everything,
        so that `super().scope()` can be narrowed, or said where all rows are meant.
        """
        return cast(bool, EVERYTHING)

    def write_scope(self) -> bool:
        """Say what a row of the scope must answer once it is changed: the scope, so that no row leaves it unnoticed.

        Override to let rows leave: where the scope leaves out deleted rows, `super().scope()` lets them be deleted by
        a change.
        """
        return self.scope()


def _define(cls: type[RepositoryConfig[Any]], *, complete: bool) -> Definition[Any] | None:
    """Read a repository class.

    Args:
        cls: the class.
        complete: whether constraints are read too; while classes are still being defined, columns must do.

    Returns:
        None where the class is abstract: its entity is a type variable, or its table is not known yet.

    Raises:
        MappingError: the parts do not fit.
    """
    (entity,) = type_arguments(cls, RepositoryConfig)
    schema = _schema(cls, entity, complete)
    if isinstance(entity, TypeVar) or schema is None:
        return None
    if not is_entity(entity):
        raise MappingError(f"{cls.__name__} keeps {entity!r}, which is {NO_ENTITY}")
    if cls.fold not in get_args(Fold):
        raise MappingError(f"{cls.__name__}.fold is {cls.fold!r}; there are {', '.join(get_args(Fold))}")
    custom_load = cls.to_domain is not RepositoryConfig.to_domain
    mapper: Mapper[Any] = Mapper(
        entity,
        schema,
        cls.columns,
        fold=cls.fold,
        custom_load=custom_load,
        custom_dump=cls.to_row is not RepositoryConfig.to_row,
    )
    for method in (cls.scope, cls.write_scope):
        if iscoroutinefunction(method) or not isroutine(method):
            raise MappingError(f"{cls.__name__}.scope and write_scope are plain methods, also on async repositories")
    lets_leave = cls.write_scope is not RepositoryConfig.write_scope
    scoped = lets_leave or cls.scope is not RepositoryConfig.scope
    return Definition(mapper, _identity(cls, mapper, complete), custom_load, scoped, lets_leave)


def _schema(cls: type[RepositoryConfig[Any]], entity: Any, complete: bool) -> Schema | None:
    schema = cls.schema
    model = cls.model
    if model is None and schema is None and isinstance(entity, type) and is_mapped(entity):
        model = entity  # a mapped class is kept in its own table
    if model is not None:
        from sqlrepo.tables.reflection import is_mapped as is_mapped_by_now
        from sqlrepo.tables.reflection import schema_of

        if not complete and not is_mapped_by_now(model):
            return None
        schema = schema_of(model, complete=complete)
    if schema is None:
        return None
    schema = apply_memory_options(schema, cls.columns, cls.memory_defaults, cls.memory_checks if complete else {})
    version = schema.version if cls.version is None else cls.columns.get(cls.version, cls.version)
    if version is None:
        return schema
    if version not in schema.by_name:
        raise MappingError(f"version {version!r} is no column of table {schema.name}{nearest(version, schema.by_name)}")
    if schema.by_name[version].type.kind is not Kind.INTEGER:
        raise MappingError(f"version {version!r} of table {schema.name} is no integer, so it cannot count writes")
    return schema if version == schema.version else replace(schema, version=version)


def _identity(cls: type[RepositoryConfig[Any]], mapper: Mapper[Any], complete: bool) -> tuple[str, ...]:
    if not cls.natural_key:
        return mapper.schema.key
    columns = tuple(cls.columns.get(name, name) for name in cls.natural_key)
    for name in cls.natural_key:
        if name not in describe(mapper.entity):
            raise MappingError(f"natural_key {name!r} is no field{nearest(name, describe(mapper.entity))}")
    declared = {frozenset(unique.columns) for unique in mapper.schema.uniques} | {frozenset(mapper.schema.key)}
    if complete and frozenset(columns) not in declared:
        raise MappingError(
            f"natural_key {', '.join(cls.natural_key)} is no declared unique of table {mapper.schema.name}"
        )
    return columns


class Declarations:
    """The annotations of a class and of its bases, resolved at first use.

    Args:
        cls: the class.
        names: the local names around its definition, for classes defined inside a function.
    """

    def __init__(self, cls: type, names: Mapping[str, Any]) -> None:
        self._cls = cls
        self.names = names

    @cached_property
    def repositories(self) -> Mapping[str, type[RepositoryConfig[Any]]]:
        """The repositories by attribute; annotations of other types declare nothing."""
        found: dict[str, type[RepositoryConfig[Any]]] = {}
        for name, annotation in self._annotations():
            origin = get_origin(annotation) or annotation
            if isinstance(origin, type) and issubclass(origin, RepositoryConfig):
                self._refuse_taken(name)
                found[name] = origin
        return found

    def named(self, name: str) -> Any:
        """The repository class of an attribute.

        Raises:
            MappingError: its annotation cannot be resolved when the program runs.
            AttributeError: there is no such repository.
        """
        if name in self.repositories:
            return self.repositories[name]
        for annotated, annotation in self._annotations():
            if annotated == name and isinstance(annotation, str):
                raise MappingError(f"{self._cls.__name__}.{name}: there is no {annotation!r} when the program runs")
        raise AttributeError(f"{self._cls.__name__!r} has no attribute {name!r}")

    def _refuse_taken(self, name: str) -> None:
        if hasattr(self._cls, name) or name in ("context", "_work"):
            raise MappingError(
                f"{self._cls.__name__}.{name}: units of work have a {name!r} of their own; choose another name"
            )

    def _annotations(self) -> Iterator[tuple[str, Any]]:
        """Each annotation, the bases' first; one that cannot be resolved stays the text it is."""
        for base in reversed(self._cls.__mro__):
            own = base.__dict__.get("_declarations")
            local = own.names if isinstance(own, Declarations) else {}
            names = {**vars(sys.modules[base.__module__]), **local}
            for name, annotation in inspect.get_annotations(base).items():
                yield name, _resolved(annotation, names)


def surrounding_names(frame: FrameType | None) -> Mapping[str, Any]:
    """The local names of the function a class statement stands in; none at the level of a module."""
    while frame is not None and frame.f_code.co_name == "__init_subclass__":
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)  # noqa: S307  # the user's own annotation, as typing.get_type_hints does
    except NameError:
        return annotation  # known to type checkers only

"""What a repository class says of itself: its entity, its table, its options, checked where the class is defined.

Knows how the parts of a class statement must fit. Must not know calls, units of work or backends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import iscoroutinefunction, isroutine
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args

from sqlrepo._base.filling import supplied
from sqlrepo._base.generics import type_arguments
from sqlrepo.criteria import EVERYTHING
from sqlrepo.detached import is_mapped
from sqlrepo.driver import Row
from sqlrepo.entities import NO_ENTITY, describe, is_entity
from sqlrepo.errors import MappingError, QueryError, nearest
from sqlrepo.mapping import Fold, Mapper, Record
from sqlrepo.schema import Schema
from sqlrepo.values import Kind

__all__ = ["Declarative", "Definition"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Definition(Generic[T]):
    """A repository class, read.

    Attributes:
        mapper: its entity and table, which fit.
        identity: the columns that tell an entity's row.
        custom_load: whether it builds entities itself.
        scoped: whether it keeps to some of the table's rows.
        lets_leave: whether it says by itself what they must answer once they are changed.
    """

    mapper: Mapper[T]
    identity: tuple[str, ...]
    custom_load: bool
    scoped: bool
    lets_leave: bool

    @property
    def schema(self) -> Schema:
        """The table."""
        return self.mapper.schema

    def projection(self, into: type[Any]) -> tuple[tuple[str, ...], Callable[[Sequence[Row]], list[Any]]]:
        """The columns a smaller model needs, and what builds it from them.

        Raises:
            QueryError: it is no model, or a field of it is none of the entity's.
        """
        if not is_entity(into):
            raise QueryError(f"into= takes an entity class; {into!r} is {NO_ENTITY}")
        columns = tuple(self.mapper.column(name).name for name in describe(into))
        return columns, self.mapper.builder(into, columns)


class Declarative(Generic[T]):
    """The class half of a repository: what its body declares, checked when it is defined and read once."""

    #: The mapped class.
    model: ClassVar[type[Any] | None] = None
    #: The table, described by hand, where there is no mapped class yet.
    schema: ClassVar[Schema | None] = None
    #: The column of a field, where the names differ.
    columns: ClassVar[Mapping[str, str]] = {}
    #: The fields of a declared unique constraint that stand for the key in entities without one.
    identity: ClassVar[tuple[str, ...]] = ()
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
        return self.definition().mapper.record(row)

    def to_row(self, entity: T) -> Mapping[str, Any]:
        """Read an entity into values by column; a column left out is left as it is."""
        return self.definition().mapper.values(entity)

    def scope(self) -> bool:
        """Say which rows there are for this repository; override to keep to a tenant's, or to those not deleted.

        It is added to what every call asks, and a new row must answer it. What a class says by default is everything,
        so that `super().scope()` can be narrowed, or said where all rows are meant.
        """
        return cast(bool, EVERYTHING)

    def stays(self) -> bool:
        """Say what a row of the scope must answer once it is changed: the scope, so that no row leaves it unnoticed.

        Override to let rows leave: where the scope leaves out deleted rows, `super().scope()` lets them be deleted by
        a change.
        """
        return self.scope()


def _define(cls: type[Declarative[Any]], *, complete: bool) -> Definition[Any] | None:
    """Read a repository class.

    Args:
        cls: the class.
        complete: whether constraints are read too; while classes are still being defined, columns must do.

    Returns:
        None where the class is abstract: its entity is a type variable, or its table is not known yet.

    Raises:
        MappingError: the parts do not fit.
    """
    (entity,) = type_arguments(cls, Declarative)
    schema = _schema(cls, entity, complete)
    if isinstance(entity, TypeVar) or schema is None:
        return None
    if not is_entity(entity):
        raise MappingError(f"{cls.__name__} keeps {entity!r}, which is {NO_ENTITY}")
    if cls.fold not in get_args(Fold):
        raise MappingError(f"{cls.__name__}.fold is {cls.fold!r}; there are {', '.join(get_args(Fold))}")
    custom_load = cls.to_domain is not Declarative.to_domain
    mapper: Mapper[Any] = Mapper(
        entity,
        schema,
        cls.columns,
        fold=cls.fold,
        custom_load=custom_load,
        custom_dump=cls.to_row is not Declarative.to_row,
    )
    for method in (cls.scope, cls.stays):
        if iscoroutinefunction(method) or not isroutine(method):
            raise MappingError(f"{cls.__name__}.scope and stays are plain methods, also on async repositories")
    lets_leave = cls.stays is not Declarative.stays
    scoped = lets_leave or cls.scope is not Declarative.scope
    return Definition(mapper, _identity(cls, mapper, complete), custom_load, scoped, lets_leave)


def _schema(cls: type[Declarative[Any]], entity: Any, complete: bool) -> Schema | None:
    schema = cls.schema
    model = cls.model
    if model is None and schema is None and isinstance(entity, type) and is_mapped(entity):
        model = entity  # a mapped class is kept in its own table
    if model is not None:
        from sqlrepo.mapped import is_mapped as is_mapped_by_now
        from sqlrepo.mapped import schema_of

        if not complete and not is_mapped_by_now(model):
            return None
        schema = schema_of(model, complete=complete)
    if schema is None:
        return None
    schema = supplied(schema, cls.columns, cls.memory_defaults, cls.memory_checks if complete else {})
    version = schema.version if cls.version is None else cls.columns.get(cls.version, cls.version)
    if version is None:
        return schema
    if version not in schema.by_name:
        raise MappingError(f"version {version!r} is no column of table {schema.name}{nearest(version, schema.by_name)}")
    if schema.by_name[version].type.kind is not Kind.INTEGER:
        raise MappingError(f"version {version!r} of table {schema.name} is no integer, so it cannot count writes")
    return schema if version == schema.version else replace(schema, version=version)


def _identity(cls: type[Declarative[Any]], mapper: Mapper[Any], complete: bool) -> tuple[str, ...]:
    if not cls.identity:
        return mapper.schema.key
    columns = tuple(cls.columns.get(name, name) for name in cls.identity)
    for name in cls.identity:
        if name not in describe(mapper.entity):
            raise MappingError(f"identity {name!r} is no field{nearest(name, describe(mapper.entity))}")
    declared = {frozenset(unique.columns) for unique in mapper.schema.uniques} | {frozenset(mapper.schema.key)}
    if complete and frozenset(columns) not in declared:
        raise MappingError(f"identity {', '.join(cls.identity)} is no declared unique of table {mapper.schema.name}")
    return columns

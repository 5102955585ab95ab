"""The definition of a repository class: entity, table and options, checked when the class is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import iscoroutinefunction, isroutine
from types import FrameType
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin
from weakref import WeakSet

from typing_extensions import get_original_bases

from sqlrepo.core.aggregates import Aggregate
from sqlrepo.core.selection import CALL_OPTIONS, NOT_GIVEN, ambiguous_option
from sqlrepo.errors import InvalidValueError, MappingError, QueryError, nearest
from sqlrepo.language.criteria import EVERYTHING
from sqlrepo.language.entities import NO_ENTITY, annotations_of, describe, is_entity, is_mapped
from sqlrepo.language.summaries import check_approximate
from sqlrepo.language.values import Kind, WrongValueError
from sqlrepo.tables.mapper import Fold, Mapper, Record
from sqlrepo.tables.parts import Declared, InTable, Part, all_parts, declared_parts, embedded_columns, read_parts
from sqlrepo.tables.schema import Column, ConstantDefault, RowFunction, Schema, TableName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Definition(Generic[T]):
    """A repository class, read and checked."""

    mapper: Mapper[T]
    natural_key: tuple[str, ...]  # the columns that identify an entity's row
    custom_load: bool  # the class overrides to_domain
    has_scope: bool  # the class overrides scope or write_scope
    has_write_scope: bool
    ambiguous: frozenset[str]  # the options of calls that take fields by keyword which are fields too
    aggregate: Aggregate

    @property
    def schema(self) -> Schema:
        return self.mapper.schema

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The repository's own table, and those of its parts."""
        return (self.schema, *(part.schema for part in all_parts(self.aggregate.parts)))

    def key_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that identify an entity's row, by column; None where the database generates the value."""
        if not self.natural_key:
            self.mapper.require_key()
        if missing := [name for name in self.natural_key if name not in values and not self.mapper.has_field(name)]:
            raise MappingError(
                f"{self.mapper.entity.__name__} has no {', '.join(missing)}, so it identifies no row; "
                "declare `natural_key`, the fields of a unique constraint"
            )
        return {name: values.get(name) for name in self.natural_key}

    def require_key(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that identify an entity's row; `InvalidValueError` if one is None."""
        key = self.key_values(values)
        for name, value in key.items():
            if value is None:
                raise InvalidValueError(
                    self.mapper.field(name), "is None, so the entity identifies no row; add() it first"
                )
        return key

    def conflict_target(self, on: str | Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the key or unique constraint that ``on`` names, in the constraint's order."""
        wanted = {self.mapper.column(name).name for name in names_of(on)}
        constraints = [unique.columns for unique in self.schema.constraints]
        for columns in constraints:
            if wanted and set(columns) == wanted:
                return columns
        listed = ", ".join(f"({', '.join(map(self.mapper.field, columns))})" for columns in constraints)
        raise QueryError(f"on={on!r} is neither the key nor a unique constraint; use one of {listed}")

    def updatable(self, update: Iterable[str], target: tuple[str, ...]) -> frozenset[str]:
        """Return the columns that ``update`` names, or raise if an upsert cannot change one."""
        columns = [column for name in names_of(update) for column in self.mapper.columns(name)]
        for column in columns:
            if column.computed or column.name in {*target, *self.schema.key, self.schema.version}:
                raise QueryError(f"update={self.mapper.field(column.name)!r}: an upsert does not change this field")
        return frozenset(column.name for column in columns)

    def refuse_ambiguous(self, call: str, **options: Any) -> None:
        """Refuse an option that is also a field: a keyword has one meaning."""
        for name, value in options.items():
            if name in self.ambiguous and value is not NOT_GIVEN:
                raise ambiguous_option(call, self.mapper.entity, name)


def names_of(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


#: The repository classes that have a scope: their tables are not read without it.
SCOPED: WeakSet[type[RepositoryConfig[Any]]] = WeakSet()


class RepositoryConfig(Generic[T]):
    """The declarations of a repository class; checked when the class is defined, and read once."""

    #: The mapped class, or the SQLAlchemy Table.
    model: ClassVar[Any] = None
    #: The table, if there is no mapped class.
    schema: ClassVar[Schema | None] = None
    #: The column of each field whose column has another name.
    columns: ClassVar[Mapping[str, str]] = {}
    #: The fields of a unique constraint that identify an entity without key fields.
    natural_key: ClassVar[tuple[str, ...]] = ()
    #: The integer field that counts writes; by default the mapped class's ``version_id_col``.
    version: ClassVar[str | None] = None
    #: The letters that are compared without regard to case: all of Unicode's, or A to Z only.
    fold: ClassVar[Fold] = "unicode"

    #: The float fields whose sums and averages may be approximate, named as in a `Summary`.
    approximate: ClassVar[tuple[str, ...]] = ()

    #: The children in tables of their own, and value objects, by field, where the mapped class does not say it; see
    #: `HasMany`, `HasOne` and `Embedded`. A mapped class has only the parts that are listed here.
    parts: ClassVar[Mapping[str, Declared]] = {}

    #: The field that holds the key, by the name under which views nest the row that it refers to: ``{"owner":
    #: "owner_id"}``; not needed where the mapped class has a relationship of the name, or the field is ``<name>_id``.
    references: ClassVar[Mapping[str, str]] = {}

    #: The values that memory uses for server defaults: by field, a value or a function of the row's values.
    memory_defaults: ClassVar[Mapping[str, Any]] = {}
    #: The functions that memory uses for checks written in SQL: by name of the check, a function of the row's values.
    memory_checks: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], bool | None]]] = {}
    #: The functions that memory uses for unique indexes written in SQL: by name of the index, a function of the row's
    #: values that returns the value, or tuple of values, that no two rows share; None for a row outside the index.
    memory_uniques: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {}

    #: True to write in a joined session although ORM listeners and validators will not see the writes.
    bypass_orm_events: ClassVar[bool] = False

    _definition: ClassVar[Definition[Any] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._definition = None
        if cls.scope is not RepositoryConfig.scope:
            SCOPED.add(cls)
        _define(cls, complete=False)

    @classmethod
    def definition(cls) -> Definition[T]:
        """Return the class's entity, table and options, complete and checked.

        Raises:
            MappingError: the entity and the table do not fit, or one is missing.
        """
        if cls._definition is None:
            cls._definition = _define(cls, complete=True)
        if cls._definition is None:
            raise MappingError(f"{cls.__name__} has no entity or no table; declare `model`, the mapped class")
        return cls._definition

    def to_domain(self, row: Record) -> T:
        """Build an entity from a row; override if fields and columns do not correspond one to one."""
        return self.definition().mapper.to_entity(row)

    def to_row(self, entity: T) -> Mapping[str, Any]:
        """Return an entity's values by column; columns that are left out keep their values."""
        return self.definition().mapper.to_values(entity)

    def scope(self) -> bool:
        """Return the criterion for this repository's rows; override to see one tenant's only, or to hide deleted ones.

        The criterion is added to every call, and a new row must meet it. The default matches all rows.
        """
        return cast(bool, EVERYTHING)

    def write_scope(self) -> bool:
        """Return the criterion that a changed row must meet: by default the scope, so that no row leaves it unnoticed.

        Override to let rows leave: if the scope excludes deleted rows, return `super().scope()` to allow a change that
        deletes one.
        """
        return self.scope()


# -- reading a repository class


def _define(cls: type[RepositoryConfig[Any]], *, complete: bool) -> Definition[Any] | None:
    """Read a repository class; None if it is abstract: its entity is a type variable, or its table is unknown.

    Constraints are left out unless ``complete``: they cannot be read while other classes are still being defined.
    """
    (entity,) = type_arguments(cls, RepositoryConfig)
    schema = _read_schema(cls, entity, complete)
    if isinstance(entity, TypeVar) or schema is None:
        return None
    if not is_entity(entity):
        raise MappingError(f"the entity of {cls.__name__} is {entity!r}, which is {NO_ENTITY}")
    if cls.fold not in get_args(Fold):
        raise MappingError(f"{cls.__name__}.fold is {cls.fold!r}; use one of {', '.join(get_args(Fold))}")
    _verify_scopes(cls)
    check_approximate(entity, names_of(cls.approximate))
    custom_load = cls.to_domain is not RepositoryConfig.to_domain
    custom_dump = cls.to_row is not RepositoryConfig.to_row
    embedded = embedded_columns(entity, schema, cls.columns, cls.parts, custom_dump=custom_dump)
    if not (custom_load or custom_dump):  # which may read or write any column
        used = {*(cls.columns.get(name, name) for name in describe(entity)), *embedded.values()}
        schema = replace(schema, used=frozenset(used))
    declared = declared_parts(entity, schema, cls.columns, cls.parts)
    custom: Any = {"custom_load": custom_load, "custom_dump": custom_dump}
    mapper: Mapper[Any] = Mapper(
        entity, schema, cls.columns, fold=cls.fold, parts=declared, embedded=embedded, **custom
    )
    parts = _read_parts(cls, mapper, declared) if complete else ()
    has_write_scope = cls.write_scope is not RepositoryConfig.write_scope
    has_scope = has_write_scope or cls.scope is not RepositoryConfig.scope
    natural_key = _read_natural_key(cls, mapper, complete)
    ambiguous = CALL_OPTIONS & mapper.names
    return Definition(mapper, natural_key, custom_load, has_scope, has_write_scope, ambiguous, Aggregate(mapper, parts))


def table_name(cls: type[RepositoryConfig[Any]]) -> TableName | None:
    """Return the name of a repository class's table, without reading the table; None if the class is abstract."""
    if cls.schema is not None:
        return cls.schema.full_name
    model = type_arguments(cls, RepositoryConfig)[0] if cls.model is None else cls.model
    table = getattr(getattr(model, "__mapper__", None), "local_table", None if isinstance(model, type) else model)
    return None if table is None or isinstance(table, TypeVar) else (table.schema, table.name)


def _verify_scopes(cls: type[RepositoryConfig[Any]]) -> None:
    for name in ("scope", "write_scope"):
        method = getattr(cls, name)
        if iscoroutinefunction(method) or not isroutine(method):
            raise MappingError(f"{cls.__name__}.{name} is not a plain method; declare it with `def`")


def _read_parts(
    cls: type[RepositoryConfig[Any]], mapper: Mapper[Any], declared: Mapping[str, InTable]
) -> tuple[Part, ...]:
    if not declared:
        return ()
    if mapper.schema.version is None and not any(
        "version" in vars(base) for base in cls.__mro__[:-1] if base is not RepositoryConfig
    ):
        raise MappingError(
            f"{cls.__name__} has parts ({', '.join(declared)}) but no version, so two units that change them at the "
            "same time would mix their children; declare a version column, or say `version = None` to accept that"
        )
    from sqlrepo.tables.reflection import schema_of

    def read_schema(model: Any, part: InTable) -> Schema:
        return _with_memory_defaults(schema_of(model), part.memory_defaults, part.columns)

    return read_parts(mapper, declared, read_schema)


def _read_schema(cls: type[RepositoryConfig[Any]], entity: Any, complete: bool) -> Schema | None:
    schema = cls.schema
    model = cls.model
    if model is None and schema is None and isinstance(entity, type) and is_mapped(entity):
        model = entity  # a mapped class is kept in its own table
    if model is not None:
        from sqlrepo.tables.reflection import has_table, schema_of

        if not has_table(model) and not complete:
            return None
        schema = schema_of(model, complete=complete)
    if schema is None:
        return None
    schema = _with_memory_defaults(schema, cls.memory_defaults, cls.columns)
    if complete:
        schema = _with_memory_checks(schema, cls.memory_checks, cls.columns)
        schema = _with_memory_uniques(schema, cls.memory_uniques, cls.columns)
    version = schema.version if cls.version is None else cls.columns.get(cls.version, cls.version)
    return schema if version is None else _with_version(schema, version)


def _with_memory_defaults(schema: Schema, defaults: Mapping[str, Any], fields: Mapping[str, str]) -> Schema:
    columns = dict(schema.by_name)
    for field, value in defaults.items():
        column = columns.get(fields.get(field, field))
        if column is None:
            raise MappingError(
                f"`memory_defaults` names {field!r}, which table {schema.name} does not have{nearest(field, columns)}"
            )
        if column.filled_by_database is None:
            raise MappingError(f"`memory_defaults` names {field!r}, which has no server default in table {schema.name}")
        columns[column.name] = _with_memory_default(column, value, fields)
    return replace(schema, columns=tuple(columns.values())) if defaults else schema


def _with_memory_default(column: Column, value: Any, fields: Mapping[str, str]) -> Column:
    if callable(value):
        return replace(column, memory_default=RowFunction(value, fields))
    try:
        return replace(column, memory_default=ConstantDefault(column.type.store(column.check(value))))
    except WrongValueError as wrong:
        raise MappingError(f"the value of {column.name!r} in `memory_defaults` {wrong}") from wrong


def _with_memory_checks(schema: Schema, functions: Mapping[str, Any], fields: Mapping[str, str]) -> Schema:
    known = [check.name for check in schema.checks if check.name]
    for name in functions:
        if name not in known:
            raise MappingError(
                f"`memory_checks` names {name!r}, which is not a check of table {schema.name}{nearest(name, known)}"
            )
    checks = tuple(
        replace(check, test=RowFunction(test, fields)) if (test := functions.get(check.name or "")) else check
        for check in schema.checks
    )
    return replace(schema, checks=checks) if functions else schema


def _with_memory_uniques(schema: Schema, functions: Mapping[str, Any], fields: Mapping[str, str]) -> Schema:
    known = {index.name: index for index in schema.indexes if index.name}
    for name, function in functions.items():
        if name not in known:
            raise MappingError(
                f"`memory_uniques` names {name!r}, which is not a partial or functional unique index of table "
                f"{schema.name}{nearest(name, known)}"
            )
        known[name] = replace(known[name], function=RowFunction(function, fields))
    return replace(schema, indexes=tuple(known.get(one.name or "", one) for one in schema.indexes))


def _with_version(schema: Schema, version: str) -> Schema:
    if version not in schema.by_name:
        raise MappingError(f"table {schema.name} has no version column {version!r}{nearest(version, schema.by_name)}")
    if schema.by_name[version].type.kind is not Kind.INTEGER:
        raise MappingError(f"version {version!r} of table {schema.name} is not an integer, so it cannot count writes")
    return schema if version == schema.version else replace(schema, version=version)


def _read_natural_key(cls: type[RepositoryConfig[Any]], mapper: Mapper[Any], complete: bool) -> tuple[str, ...]:
    schema = mapper.schema
    if not cls.natural_key:
        return schema.key
    for name in cls.natural_key:
        if name not in describe(mapper.entity):
            raise MappingError(f"natural_key {name!r} is not a field{nearest(name, describe(mapper.entity))}")
    columns = tuple(cls.columns.get(name, name) for name in cls.natural_key)
    if complete and set(columns) not in [set(schema.key), *(set(unique.columns) for unique in schema.uniques)]:
        raise MappingError(
            f"table {schema.name} has no unique constraint on {', '.join(cls.natural_key)}, its natural_key"
        )
    return columns


# -- reading annotations


def type_arguments(cls: type, generic: type) -> tuple[Any, ...]:
    """Return a class's arguments for a generic base, through generic classes in between; a TypeVar if still open."""
    return next(_find_arguments(cls, generic, {}), getattr(generic, "__parameters__", ()))


def _find_arguments(cls: type, generic: type, known: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    if not issubclass(cls, generic):
        return
    for base in get_original_bases(cls):
        origin = get_origin(base) or base
        arguments = tuple(known.get(one, one) if isinstance(one, TypeVar) else one for one in get_args(base))
        if origin is generic and arguments:
            yield arguments
        elif isinstance(origin, type) and origin is not cls:
            parameters = getattr(origin, "__parameters__", ())
            yield from _find_arguments(origin, generic, dict(zip(parameters, arguments, strict=False)))


class Declarations:
    """The repositories that a class of units declares by annotations, which are resolved at first use."""

    def __init__(self, cls: type, names: Mapping[str, Any]) -> None:
        self._cls = cls
        self.names = names  # the local names around the class definition

    @cached_property
    def repositories(self) -> Mapping[str, type[RepositoryConfig[Any]]]:
        """The repository classes by attribute; annotations of other types declare nothing."""
        found: dict[str, type[RepositoryConfig[Any]]] = {}
        for name, annotation in self._annotations():
            origin = get_origin(annotation) or annotation
            if isinstance(origin, type) and issubclass(origin, RepositoryConfig):
                if hasattr(self._cls, name) or name in ("context", "_work"):
                    raise MappingError(
                        f"{self._cls.__name__}.{name}: every unit of work has an attribute {name!r}; rename yours"
                    )
                found[name] = origin
        return found

    def find(self, name: str) -> type[Any]:
        """Return the repository class of an attribute; `AttributeError` if there is none."""
        if name in self.repositories:
            return self.repositories[name]
        for annotated, annotation in self._annotations():
            if annotated == name and isinstance(annotation, str):
                raise MappingError(
                    f"{self._cls.__name__}.{name}: {annotation!r} is not defined at run time; "
                    "import it outside `if TYPE_CHECKING`"
                )
        raise AttributeError(f"{self._cls.__name__!r} has no attribute {name!r}")

    def _annotations(self) -> Iterator[tuple[str, Any]]:
        """Yield all annotations, those of bases first; one that cannot be resolved stays text."""
        for base in reversed(self._cls.__mro__):
            own = base.__dict__.get("_declarations")
            yield from annotations_of(base, own.names if isinstance(own, Declarations) else {})


def local_names(frame: FrameType | None) -> Mapping[str, Any]:
    """Return the local names around a class statement; none at module level."""
    while frame is not None and frame.f_code.co_name == "__init_subclass__":
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)

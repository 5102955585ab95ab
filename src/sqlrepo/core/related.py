"""What one repository may reach through its unit of work: other repositories' entities, never without their scopes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast
from weakref import WeakKeyDictionary, WeakSet

from sqlrepo.core.definition import SCOPED, RepositoryConfig, table_name, type_arguments
from sqlrepo.core.scope import Scope, evaluate_scope
from sqlrepo.errors import MappingError, QueryError
from sqlrepo.language.criteria import EVERYTHING, Criterion, all_of, map_leaves, matches_all
from sqlrepo.language.fields import Sort
from sqlrepo.language.query import PATHS, Other, QueryObject
from sqlrepo.tables.mapper import Mapper
from sqlrepo.tables.parts import Part, all_parts
from sqlrepo.tables.schema import Schema

if TYPE_CHECKING:
    from sqlrepo.core.reading import Readable

Kind: TypeAlias = type[RepositoryConfig[Any]]


class Related(NamedTuple):
    """The rows of another repository, as criteria and views may see them."""

    mapper: Mapper[Any]
    scope: Criterion  # of all the unit's repositories over the table, bound to columns


class Kinds:
    """The entities that the repositories of a unit keep, without their scopes."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._declared = kinds

    @property
    def kinds(self) -> Iterable[Kind]:
        """The repository classes."""
        return self._declared

    def of_entity(self, entity: type) -> Related:
        """Return the rows of the unit's repository of an entity class."""
        mapper = find_by_entity(self.kinds, entity).definition().mapper
        return Related(mapper, self.scope_of(mapper.schema))

    def entity_of_key(self, schema: Schema, column: str) -> type:
        """Return the entity that a column refers to by a foreign key."""
        return find_by_key(self.kinds, schema, column).definition().mapper.entity

    def scope_of(self, _schema: Schema, /) -> Criterion:
        """Return EVERYTHING; see `Call`."""
        return EVERYTHING

    def check_paths(self, mapper: Mapper[Any], query: type[QueryObject[Any]]) -> None:
        """Raise `QueryError` for a field of a query object that leads through a key to nothing; once for both.

        Args:
            mapper: of the repository that meets the query object.
            query: its class.
        """
        checked = _CHECKED.setdefault(query, WeakSet())
        for name, path in () if mapper in checked else PATHS.get(query, ()):
            try:
                if isinstance(path, Sort):
                    mapper.bind_sort(path, lambda: self)
                else:
                    read = path.path if isinstance(path, Other) else path
                    map_leaves(read, partial(mapper.bind, relations=lambda: self))
            except QueryError as error:
                if isinstance(path, Other):
                    continue
                raise QueryError(f"{query.__name__}.{name}: {error}") from None
            if isinstance(path, Other):
                raise QueryError(f"{query.__name__}.{name}: {path.refusal}")
        checked.add(mapper)


# The mappers of repositories that have met a query class.
_CHECKED: WeakKeyDictionary[type, WeakSet[Mapper[Any]]] = WeakKeyDictionary()


@dataclass(eq=False)
class Call(Kinds):
    """One call of a repository, and what it may reach; each scope is evaluated once, whatever names its table."""

    repository: Readable[Any, Any]
    _mapper: Mapper[Any]
    _chain: tuple[Kind, ...] = ()  # the repositories whose scopes are being evaluated
    _known: dict[Kind, Criterion] = field(default_factory=dict)  # the scopes that have been

    @property
    def _relations(self) -> Call:
        return self

    @property
    def kinds(self) -> Iterable[Kind]:
        """The repository classes of the unit, this repository's first."""
        return [kind for kind, _ in self._members()]

    @cached_property
    def scope(self) -> Scope:
        """The scope of the repository and of its parts; `ProgrammingError` if the methods return no criterion."""
        repository, config = self.repository, self.repository.definition()
        parts = self._scopes_of(config.aggregate.parts) if config.aggregate.parts else {}
        rows = changed = self._evaluate(repository)
        if config.has_write_scope:
            changed = self._read("write_scope", repository)
        return Scope(self._mapper, rows, changed, parts)

    def of_entity(self, entity: type) -> Related:
        """Return the rows of the unit's repository of an entity class."""
        self.repository._work.require_kept(find_by_entity(self.kinds, entity))
        return super().of_entity(entity)

    def scope_of(self, schema: Schema, /) -> Criterion:
        """Return the scopes of all the unit's repositories over a table.

        Raises:
            QueryError: the unit has none, and elsewhere a repository class confines the table.
            MappingError: the scopes refer to each other in a circle.
        """
        table = schema.full_name
        mine = [make for kind, make in self._members() if table_name(kind) == table]
        if not mine and (scoped := [kind for kind in SCOPED if table_name(kind) == table]):
            raise QueryError(
                f"{scoped[0].__name__} has a scope over table {schema.name}, which must not be read without it; "
                f"declare a repository of the table in {self.repository.unit.__class__.__name__}"
            )
        scopes = [scope for make in mine if not matches_all(scope := self._evaluate(make()))]
        return all_of(scopes) if scopes else EVERYTHING

    def _scopes_of(self, parts: Iterable[Part]) -> Mapping[Schema, Criterion]:
        """Return the scopes of the tables of parts, where there are any."""
        scopes = {part.schema: self.scope_of(part.schema) for part in all_parts(parts)}
        return {schema: scope for schema, scope in scopes.items() if not matches_all(scope)}

    def _evaluate(self, repository: Readable[Any, Any]) -> Criterion:
        kind = repository._kind
        if kind not in SCOPED:
            return EVERYTHING
        if kind in self._chain:
            circle = " -> ".join(f"{one.__name__}.scope()" for one in (*self._chain[self._chain.index(kind) :], kind))
            raise MappingError(f"scopes refer to each other in a circle: {circle}; write one of them with plain fields")
        if kind not in self._known:
            self._known[kind] = self._read("scope", repository)
        return self._known[kind]

    def _read(self, name: str, repository: Readable[Any, Any]) -> Criterion:
        kind = repository._kind
        relations = partial(Call, repository, repository._mapper, (*self._chain, kind), self._known)
        return evaluate_scope(repository._mapper, f"{kind.__name__}.{name}()", getattr(repository, name), relations)

    def _members(self) -> Iterator[tuple[Kind, Callable[[], Readable[Any, Any]]]]:
        """Yield the repositories of the unit, with this one, by class; others are created when they are needed."""
        own = self.repository
        yield own._kind, lambda: own
        for unit in own._units:
            for name, kind in unit._declarations.repositories.items():
                if kind is not own._kind:
                    yield kind, partial(_sync_repository, unit, name)


def _sync_repository(unit: Any, name: str) -> Readable[Any, Any]:
    found: Any = getattr(unit, name)
    return cast("Readable[Any, Any]", getattr(found, "_body", found))


# -- repository classes by what they keep


def find_by_entity(declared: Iterable[Kind], entity: type) -> Kind:
    """Return the repository class of an entity class: of those declared in a unit, or else the only one there is."""
    known = [kind for kind in declared if issubclass(kind.definition().mapper.entity, entity)]
    known = [kind for kind in known if kind.definition().mapper.entity is entity] or known
    found = known or [kind for kind in all_kinds() if _entity(kind) is entity and table_name(kind) is not None]
    tables = {table_name(kind) for kind in found}
    if len(tables) == 1:
        return found[0]
    if not tables:
        raise QueryError(f"there is no repository of {entity.__name__}; declare one in the unit of work")
    named = ", ".join(kind.__name__ for kind in found)
    raise QueryError(
        f"{entity.__name__} is kept in several tables, by {named}; declare one of them in the unit of work"
    )


def find_by_key(declared: Iterable[Kind], schema: Schema, column: str) -> Kind:
    """Return the repository class of the table that a column refers to."""
    keys = {key.columns[0]: key.table for key in schema.foreign_keys if len(key.columns) == 1}
    if column not in keys:
        raise QueryError(f"{column!r} of table {schema.name} is no foreign key, so a path cannot follow it")
    table = keys[column]
    found = [kind for kinds in (declared, all_kinds()) for kind in kinds if table_name(kind) == table]
    if not found:
        raise QueryError(f"there is no repository of table {table[1]}; declare one in the unit of work")
    return found[0]


def _entity(kind: Kind) -> Any:
    return type_arguments(kind, RepositoryConfig)[0]


def all_kinds(base: Kind = RepositoryConfig) -> Iterator[Kind]:
    """Yield all repository classes of the process."""
    for kind in base.__subclasses__():
        yield kind
        yield from all_kinds(kind)

"""The fields of an entity class, and how instances are read and built, for each supported kind of class."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache, partial
from itertools import accumulate
from typing import Annotated, Any, ForwardRef, Literal, Union, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import pydantic
from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import Format, TypeAliasType, evaluate_forward_ref, get_annotations

from sqlrepo.errors import InvalidValueError, MappingError, QueryError
from sqlrepo.language.values import Kind, ValueType, WrongValueError, kind_of

NO_ENTITY = "not a Pydantic model, dataclass, attrs class or mapped class"  # the end of an error message


@dataclass(frozen=True, slots=True)
class EntityField:
    """One field of an entity."""

    name: str
    type: ValueType  # OPAQUE if the annotation is not a scalar
    optional: bool  # None is allowed
    annotation: Any
    # Makes the validator of a field of a Pydantic model, constraints included, or of one that is not a scalar.
    adapter: Callable[[], TypeAdapter[Any]] | None = field(default=None, compare=False)

    def accept(self, value: Any) -> Any:
        """Return a value as an entity would hold it, or raise `WrongValueError` if the entity would refuse it.

        A value that is not a scalar is returned as given, which is the form that its column has checked.
        """
        if value is None and not self.optional and self.type.kind is not Kind.OPAQUE:
            raise WrongValueError("cannot be None")
        try:
            if self.adapter is not None and self.type.kind is Kind.OPAQUE:
                _validate_strictly(self.adapter(), value)
            elif self.adapter is not None and value is not None:
                return self.adapter().validate_python(value)
        except ValidationError as error:
            raise WrongValueError(error.errors(include_url=False, include_input=False)[0]["type"]) from None
        return value


def _validate_strictly(adapter: TypeAdapter[Any], value: Any) -> None:
    """Validate a value, or its JSON form, which is what JSON columns hold of a set or a date; convert nothing else."""
    try:
        adapter.validate_python([value], strict=True)
    except ValidationError as error:
        try:
            text = to_json([value])
        except PydanticSerializationError:
            raise error from None
        adapter.validate_json(text, strict=True)


_DESCRIBED: WeakKeyDictionary[type, Mapping[str, EntityField]] = WeakKeyDictionary()


def describe(entity: type) -> Mapping[str, EntityField]:
    """Return the fields of an entity class as declared; MappingError if the class is unsupported or incomplete."""
    if entity in _DESCRIBED:
        return _DESCRIBED[entity]
    annotations = _annotations(entity)  # which completes a Pydantic model, so that its fields have their final types
    models = cast("type[BaseModel]", entity).model_fields if is_validating_model(entity) else {}
    known = {name: _with_adapter(parse_annotation(name, one), models.get(name)) for name, one in annotations.items()}
    return _DESCRIBED.setdefault(entity, types.MappingProxyType(known))


def is_entity(cls: object) -> bool:
    return isinstance(cls, type) and (
        issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls) or _is_attrs(cls) or is_mapped(cls)
    )


def require_entity(given: object, needed: str) -> None:
    """Raise `QueryError` for what is no class of entities."""
    if not is_entity(given):
        name = getattr(given, "__name__", f"an instance of {type(given).__name__}")
        raise QueryError(f"{needed}; {name} is {NO_ENTITY}")


def is_mapped(cls: type) -> bool:
    """Return True if SQLAlchemy has mapped the class by now; does not import SQLAlchemy."""
    return hasattr(cls, "__mapper__")


def is_validating_model(cls: type) -> bool:
    """Return True for a Pydantic model; a SQLModel table does not validate its values."""
    return issubclass(cls, BaseModel) and not is_mapped(cls)


def _is_attrs(cls: type) -> bool:
    return hasattr(cls, "__attrs_attrs__")


def _attributes(cls: Any) -> Iterable[Any]:
    found: Iterable[Any] = cls.__attrs_attrs__  # attrs itself need not be installed
    return found


# -- collections of children


class ValueOfPart:
    """The base of the classes that stand for the plain values of a collection, such as the ``str`` of ``list[str]``."""


def collection_of(annotation: Any) -> tuple[type, Any] | None:
    """Return the class and the item type of ``list[T]``, ``tuple[T, ...]``, ``set[T]`` or ``frozenset[T]``, or None."""
    if get_origin(annotation) is Annotated:
        return collection_of(get_args(annotation)[0])
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is tuple and arguments[1:] != (Ellipsis,):
        return None
    return (kind, arguments[0]) if kind in (list, tuple, set, frozenset) and arguments else None


#: By entity and field, for as long as the entity lives: criteria and mappers compare the classes of plain values.
_CHILDREN: WeakKeyDictionary[type, dict[str, type | None]] = WeakKeyDictionary()


def child_class(entity: type, name: str) -> type | None:
    """Return the class of the children that a field holds, of plain values a class with the one field ``value``.

    Those of a mapped class are in a relationship, which is no field.
    """
    known = _CHILDREN.setdefault(entity, {})
    return known[name] if name in known else known.setdefault(name, _find_child(entity, name))


def _find_child(entity: type, name: str) -> type | None:
    first, _, rest = name.partition(".")
    if rest:  # of a single child, or a value object
        nested = value_object(describe(entity)[first].annotation)
        return None if nested is None else child_class(nested, rest)
    if is_mapped(entity):
        relationship = cast(Any, entity).__mapper__.relationships.get(name)
        return None if relationship is None else cast(type, relationship.mapper.class_)
    found = collection_of(describe(entity)[name].annotation)
    if found is None:
        return None
    if is_entity(found[1]):
        if issubclass(found[0], set | frozenset) and found[1].__hash__ is None:
            raise MappingError(
                f"{entity.__name__}.{name} is a {found[0].__name__} of {found[1].__name__}, which is not hashable; "
                "declare that class frozen, or the field a list or tuple"
            )
        return cast(type, found[1])
    return dataclasses.make_dataclass(
        f"{entity.__name__}.{name}", [("value", found[1])], bases=(ValueOfPart,), slots=True
    )


# -- value objects


def value_object(annotation: Any) -> type | None:
    """Return the class of a nested value object, optional or not; None for anything else."""
    found = [one for one in _members(annotation) if one is not type(None)]
    if len(found) != 1 or not is_entity(found[0]) or is_mapped(found[0]):
        return None
    return cast(type, found[0])


def field_at(entity: type, path: str) -> EntityField:
    """Return a field, or that of a nested value object, as in ``ship_to.city``."""
    name, _, rest = path.partition(".")
    nested = value_object(describe(entity)[name].annotation) if rest else None
    return describe(entity)[name] if nested is None else field_at(nested, rest)


def objects_in(paths: Iterable[str]) -> list[str]:
    """Return the paths of the value objects that hold some fields; those that hold others first."""
    return sorted({one for path in paths for one in accumulate(path.split(".")[:-1], "{}.{}".format)})


def value_at(entity: Any, path: str) -> Any:
    """Return the value of a field, or of one of a nested value object; None if there is no such object."""
    for name in path.split("."):
        entity = None if entity is None else getattr(entity, name)
    return entity


# -- reading and building instances


def read_fields(entity: object, names: Iterable[str]) -> dict[str, Any]:
    """Return an entity's values by field, without those that a new instance of a mapped class has not set."""
    if is_mapped(type(entity)):
        return _orm_values(entity, names)
    return {name: value_at(entity, name) for name in names}


def refuse_unkept(entity: object, kept: type, elsewhere: Collection[str] = ()) -> None:
    """Raise `InvalidValueError` if an entity was given something that is no field of the class that is kept.

    ``elsewhere`` names the relationships that are kept in other tables, or that lead back from there.
    """
    given = type(entity)
    if given is not kept:
        for name in describe(given).keys() - describe(kept).keys():
            raise InvalidValueError(
                name, f"is a field of {given.__name__}, but a repository of {kept.__name__} has none"
            )
    if is_mapped(given):
        for name in _unkept_orm_state(entity, elsewhere):
            raise InvalidValueError(
                name,
                f"is not a column of {given.__name__}, so it would not be stored; write other tables' rows with their "
                "own repositories, and refer to them by the foreign key's columns",
            )
    elif isinstance(entity, BaseModel):
        for name in entity.model_extra or ():
            raise InvalidValueError(
                name, f"is an extra value, which no column keeps; declare a field in {given.__name__}"
            )


def read_changes(changes: Any) -> dict[str, Any]:
    """Return a partial change: the fields set on a Pydantic model, or a mapping's items."""
    if isinstance(changes, BaseModel):
        if is_mapped(type(changes)):
            refuse_unkept(changes, type(changes))
        return {name: getattr(changes, name) for name in changes.model_fields_set}
    if isinstance(changes, Mapping):
        return dict(changes)
    raise QueryError(f"changes must be a Pydantic model or a mapping, not {type(changes).__name__}")


def make_constructor(entity: type) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that builds one entity from its values by field."""
    if is_mapped(entity):
        return _make_orm_constructor(entity)
    if _is_attrs(entity):
        arguments = {a.name: a.alias or a.name.lstrip("_") for a in _attributes(entity)}
        return lambda values: entity(**{arguments[name]: value for name, value in values.items()})
    return lambda values: entity(**values)


def fields_outside_init(entity: type) -> tuple[str, ...]:
    """Return the fields that ``__init__`` does not take, so that no row can set them."""
    if is_mapped(entity):
        return ()
    if _is_attrs(entity):
        return tuple(a.name for a in _attributes(entity) if not a.init)
    if not dataclasses.is_dataclass(entity):
        return ()
    return tuple(f.name for f in dataclasses.fields(entity) if not f.init)


# -- mapped classes as entities


def _orm_columns(cls: Any) -> dict[str, Any]:
    """Return the columns by attribute; relationships and computed attributes are not fields."""
    mapper = cls.__mapper__
    return {
        name: column for name, column in mapper.columns.items() if getattr(column, "table", None) is mapper.local_table
    }


def _orm_annotation(column: Any, annotation: Any) -> Any:
    """Return the type in ``Mapped[...]``, or else the column type's Python type."""
    if getattr(get_origin(annotation), "__module__", "").startswith("sqlalchemy."):
        (annotation,) = get_args(annotation)
    if annotation is not None:
        return annotation
    try:
        python = column.type.python_type
    except NotImplementedError:
        return Any
    if kind_of(python) is Kind.OPAQUE:
        return Any  # SQLAlchemy says dict of every JSON column
    return python | None if column.nullable else python


def _orm_values(entity: Any, names: Iterable[str]) -> dict[str, Any]:
    known = vars(entity)
    stored = entity._sa_instance_state.key is not None
    values = {}
    for name in names:
        if name in known:
            values[name] = known[name]
        elif stored:
            raise InvalidValueError(name, "is not loaded; refresh the instance in its session first")
    return values


def _unkept_orm_state(entity: Any, elsewhere: Collection[str]) -> Iterator[str]:
    """Yield the attributes that were given a value which no column holds; what was only loaded is not given."""
    state, columns = entity._sa_instance_state, describe(type(entity))
    unmodified, stored = state.unmodified, state.key is not None
    for name in state.manager:
        if name in columns or name in unmodified or name in elsewhere:  # a view-only relationship is never modified
            continue
        history = state.attrs[name].history
        # None is the default of a new instance, and a change of a stored one.
        given = any(one is not None or stored for one in (*history.added, *history.deleted))
        if given and not _repeats_columns(entity, state.mapper.relationships.get(name), history.added):
            yield name


def _repeats_columns(entity: Any, relationship: Any, targets: Sequence[Any]) -> bool:
    """Return True if a foreign key's columns refer to the stored instance, or None, that its relationship was given."""
    if relationship is None or relationship.direction.name != "MANYTOONE" or len(targets) != 1:
        return False
    (target,) = targets
    if target is not None and target._sa_instance_state.key is None:
        return False  # not stored yet, and this call does not store it
    return all(
        _orm_value(entity, local) == (None if target is None else _orm_value(target, remote))
        for local, remote in relationship.local_remote_pairs
    )


def _orm_value(entity: Any, column: Any) -> Any:
    return vars(entity).get(entity._sa_instance_state.mapper.get_property_by_column(column).key)


def _make_orm_constructor(cls: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Build detached instances: unloaded attributes raise, and ``session.add`` attaches them."""
    from sqlalchemy.orm import make_transient_to_detached
    from sqlalchemy.orm.attributes import set_committed_value

    manager = cls.__mapper__.class_manager
    configure = cache(partial(_configure, cls))  # at the first row, when the classes that it refers to are defined

    def build(values: Mapping[str, Any]) -> Any:
        configure()
        entity = manager.new_instance()
        for name, value in values.items():
            set_committed_value(entity, name, value)
        make_transient_to_detached(entity)
        manager.dispatch.load(entity._sa_instance_state, None)  # for @reconstructor and mutable values
        return entity

    return build


def _configure(cls: type) -> None:
    """Configure the mappers, as the class's own ``__init__`` does."""
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import class_mapper

    try:
        class_mapper(cls)
    except SQLAlchemyError as error:
        raise MappingError(f"SQLAlchemy cannot configure the mapping of {cls.__name__}: {error}") from error


# -- annotations

# Pydantic's names for plain scalars; at run time they are classes without instances.
_SCALARS: Mapping[Any, type] = {
    pydantic.EmailStr: str,
    pydantic.AwareDatetime: datetime,
    pydantic.NaiveDatetime: datetime,
    pydantic.PastDatetime: datetime,
    pydantic.FutureDatetime: datetime,
    pydantic.PastDate: date,
    pydantic.FutureDate: date,
}


def parse_annotation(name: str, annotation: Any) -> EntityField:
    """Read ``int | None``, ``Annotated[str, ...]``, ``Literal["a", "b"]``, a NewType, an Enum, or a type alias."""
    members = _members(annotation)
    scalars = [member for member in members if member is not type(None)]
    optional = len(scalars) < len(members)
    known = len(set(scalars)) == 1 and isinstance(scalars[0], type) and scalars[0] is not Any
    python = cast(type, scalars[0]) if known else object
    return EntityField(name, ValueType(kind_of(python), python), optional, annotation)


def _members(annotation: Any) -> list[Any]:
    """Return the classes that a value may be an instance of."""
    if isinstance(annotation, TypeAliasType) or type(annotation).__name__ == "TypeAliasType":
        return _members(annotation.__value__)
    if annotation is None:
        return [type(None)]
    if supertype := getattr(annotation, "__supertype__", None):
        return _members(supertype)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin is Literal:
        return [type(value) for value in get_args(annotation)]
    if origin in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in _members(part)]
    bare = origin or annotation
    return [_SCALARS.get(bare, bare)]


def _annotations(entity: type) -> Mapping[str, Any]:
    if is_mapped(entity):
        hints = _hints(entity)
        return {name: _orm_annotation(column, hints.get(name)) for name, column in _orm_columns(entity).items()}
    if issubclass(entity, BaseModel):
        return _model_annotations(entity)
    if not is_entity(entity):
        raise MappingError(f"{entity.__name__} is {NO_ENTITY}")
    hints = _hints(entity)
    if _is_attrs(entity):
        return {a.name: hints.get(a.name, Any) for a in _attributes(entity) if a.init}
    return {f.name: hints[f.name] for f in dataclasses.fields(cast(Any, entity)) if f.init}


def _model_annotations(entity: type[BaseModel]) -> dict[str, Any]:
    if not entity.__pydantic_complete__ and not entity.model_rebuild(raise_errors=False):
        raise MappingError(f"{entity.__name__} has annotations that are not defined yet; define them before its use")
    return {name: info.annotation for name, info in entity.model_fields.items()}


def _with_adapter(known: EntityField, info: FieldInfo | None) -> EntityField:
    metadata = () if info is None else info.metadata
    annotation: Any = Annotated[(known.annotation, *metadata)] if metadata else known.annotation
    if known.type.kind is Kind.OPAQUE:
        return replace(known, adapter=cache(partial(_strict_adapter, annotation)))
    return known if info is None else replace(known, adapter=cache(partial(TypeAdapter, annotation)))


def _strict_adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return the validator of a list of one value: a list has no configuration of its own."""
    listed: Any = list.__class_getitem__(annotation)  # the annotation is known only at run time
    try:
        made = TypeAdapter(listed, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return TypeAdapter(Any)  # a form that Pydantic does not read
    return made if made.pydantic_complete else TypeAdapter(Any)  # it names a class that type checkers alone know


def _hints(entity: type) -> dict[str, Any]:
    try:
        return get_type_hints(entity, include_extras=True)
    except NameError:
        # Some annotation of a class local to a function cannot be resolved; it becomes Any.
        return {
            name: Any if isinstance(annotation, str) else annotation
            for base in reversed(entity.__mro__)
            for name, annotation in annotations_of(base, {base.__name__: base})
        }


def annotations_of(cls: type, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield a class's own annotations, resolved with the names of its module and others; else one stays text."""
    names = {**vars(sys.modules[cls.__module__]), **names}
    # From Python 3.14 they are evaluated when they are read, and a name that is not defined yet is a ForwardRef.
    for name, annotation in get_annotations(cls, format=Format.FORWARDREF).items():
        try:
            yield name, _resolve(annotation, names)
        except NameError:
            yield name, getattr(annotation, "__forward_arg__", annotation)  # known to type checkers only


def _resolve(annotation: Any, names: dict[str, Any]) -> Any:
    if isinstance(annotation, str):
        return eval(annotation, names)  # noqa: S307  # the user's own annotation, as typing.get_type_hints does
    return evaluate_forward_ref(annotation, locals=names) if isinstance(annotation, ForwardRef) else annotation

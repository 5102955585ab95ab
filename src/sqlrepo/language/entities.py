"""What an entity is made of: its fields, how it is read and how it is built, whichever kind of class it is."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import pydantic
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from sqlrepo.errors import InvalidValueError, MappingError, QueryError
from sqlrepo.language.values import Kind, ValueType, WrongValueError, kind_of


def is_mapped(cls: type) -> bool:
    """Whether a class has been mapped by now."""
    return hasattr(cls, "__mapper__")


def orm_columns(cls: Any) -> dict[str, Any]:
    """The columns of its table, by attribute; relationships and computed attributes are no fields."""
    mapper = cls.__mapper__
    return {
        name: column for name, column in mapper.columns.items() if getattr(column, "table", None) is mapper.local_table
    }


def orm_annotation(column: Any, annotation: Any) -> Any:
    """What an attribute holds: as ``Mapped[...]`` says, or else as the column's type does."""
    if getattr(get_origin(annotation), "__module__", "").startswith("sqlalchemy."):
        (annotation,) = get_args(annotation)
    if annotation is not None:
        return annotation
    try:
        python = column.type.python_type
    except NotImplementedError:
        return Any
    return python | None if column.nullable else python


def orm_values(entity: Any, names: Iterable[str]) -> dict[str, Any]:
    """Read what is set of an instance, whatever its state is.

    Raises:
        InvalidValueError: it was read from a database, but for this attribute.
    """
    known = vars(entity)
    stored = entity._sa_instance_state.key is not None
    values = {}
    for name in names:
        if name in known:
            values[name] = known[name]
        elif stored:
            raise InvalidValueError(name, "is not loaded; refresh the instance in its session first")
    return values


def make_orm_constructor(cls: Any) -> Callable[[Mapping[str, Any]], Any]:
    """Prepare the building of detached instances: unloaded attributes raise, and a session's ``add`` attaches them."""
    from sqlalchemy.orm import make_transient_to_detached
    from sqlalchemy.orm.attributes import set_committed_value

    manager = cls.__mapper__.class_manager

    def build(values: Mapping[str, Any]) -> Any:
        entity = manager.new_instance()
        for name, value in values.items():
            set_committed_value(entity, name, value)
        make_transient_to_detached(entity)
        manager.dispatch.load(entity._sa_instance_state, None)  # @reconstructor, and what keeps mutable values
        return entity

    return build


#: What is said of a class that is none.
NO_ENTITY = "no Pydantic model, dataclass, attrs class or mapped class"

_DESCRIBED: WeakKeyDictionary[type, Mapping[str, EntityField]] = WeakKeyDictionary()

# Pydantic's own names for plain scalars; at run time they are classes no value is an instance of.
_SCALARS: Mapping[Any, type] = {
    pydantic.EmailStr: str,
    pydantic.AwareDatetime: datetime,
    pydantic.NaiveDatetime: datetime,
    pydantic.PastDatetime: datetime,
    pydantic.FutureDatetime: datetime,
    pydantic.PastDate: date,
    pydantic.FutureDate: date,
}


@dataclass(frozen=True, slots=True)
class EntityField:
    """One field of an entity.

    Attributes:
        name: its name.
        type: the scalar it holds; OPAQUE where the annotation is no scalar.
        optional: whether it may be None.
        annotation: what the class says.
        adapter: makes what validates a value like the entity does, constraints included; None where nothing does.
    """

    name: str
    type: ValueType
    optional: bool
    annotation: Any
    adapter: Callable[[], TypeAdapter[Any]] | None = field(default=None, compare=False)

    def accept(self, value: Any) -> Any:
        """Give a value as the entity would hold it, were it built with it.

        Raises:
            WrongValueError: the entity would refuse it.
        """
        if value is None and not self.optional and self.type.kind is not Kind.OPAQUE:
            raise WrongValueError("cannot be None")
        if self.adapter is None or value is None:
            return value
        try:
            return self.adapter().validate_python(value)
        except ValidationError as error:
            raise WrongValueError(error.errors(include_url=False, include_input=False)[0]["type"]) from None


def is_entity(cls: object) -> bool:
    """Whether the class is one whose fields can be read."""
    return isinstance(cls, type) and (
        issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls) or _is_attrs(cls) or is_mapped(cls)
    )


def is_validating_model(cls: type) -> bool:
    """Whether it is a Pydantic model that validates what it is built of; SQLModel's tables do not."""
    return issubclass(cls, BaseModel) and not is_mapped(cls)


def describe(entity: type) -> Mapping[str, EntityField]:
    """Read the fields of an entity class, in the order of their declaration.

    Raises:
        MappingError: the class is none that is known, or is not complete yet.
    """
    if entity in _DESCRIBED:
        return _DESCRIBED[entity]
    annotations = _annotations(entity)
    adapters = _adapters(cast("type[BaseModel]", entity)) if is_validating_model(entity) else {}
    known = types.MappingProxyType(
        {
            name: replace(parse_annotation(name, annotation), adapter=adapters.get(name))
            for name, annotation in annotations.items()
        }
    )
    return _DESCRIBED.setdefault(entity, known)


def fields_outside_init(entity: type) -> tuple[str, ...]:
    """The fields that its ``__init__`` does not take, and that no row can therefore give back."""
    if is_mapped(entity):
        return ()
    if _is_attrs(entity):
        return tuple(a.name for a in _attributes(entity) if not a.init)
    if not dataclasses.is_dataclass(entity):
        return ()
    return tuple(f.name for f in dataclasses.fields(entity) if not f.init)


def make_constructor(entity: type) -> Callable[[Mapping[str, Any]], Any]:
    """What builds an entity from its fields' values; of a Pydantic model many are better validated at once."""
    if is_mapped(entity):
        return make_orm_constructor(entity)
    if _is_attrs(entity):
        named = {a.name: a.alias or a.name.lstrip("_") for a in _attributes(entity)}
        return lambda values: entity(**{named[name]: value for name, value in values.items()})
    return lambda values: entity(**values)


def read_fields(entity: object, names: Iterable[str]) -> dict[str, Any]:
    """The values of an entity's fields; without those that an instance of a mapped class leaves out.

    Raises:
        InvalidValueError: such an instance has not loaded one.
    """
    if is_mapped(type(entity)):
        return orm_values(entity, names)
    return {name: getattr(entity, name) for name in names}


def _annotations(entity: type) -> Mapping[str, Any]:
    """The fields' annotations, by name."""
    if is_mapped(entity):
        hints = _hints(entity)
        return {name: orm_annotation(column, hints.get(name)) for name, column in orm_columns(entity).items()}
    if issubclass(entity, BaseModel):
        return _of_model(entity)
    if not is_entity(entity):
        raise MappingError(f"{entity.__name__} is {NO_ENTITY}")
    hints = _hints(entity)
    if _is_attrs(entity):
        return {a.name: hints.get(a.name, Any) for a in _attributes(entity) if a.init}
    return {f.name: hints[f.name] for f in dataclasses.fields(cast(Any, entity)) if f.init}


def _is_attrs(cls: type) -> bool:
    return hasattr(cls, "__attrs_attrs__")


def _attributes(cls: Any) -> Iterable[Any]:
    """What attrs noted of a class; it need not be installed for this module to be imported."""
    found: Iterable[Any] = cls.__attrs_attrs__
    return found


def _of_model(entity: type[BaseModel]) -> dict[str, Any]:
    if not entity.__pydantic_complete__ and not entity.model_rebuild(raise_errors=False):
        raise MappingError(f"{entity.__name__} has annotations that are not defined yet")
    return {name: info.annotation for name, info in entity.model_fields.items()}


def _adapters(entity: type[BaseModel]) -> dict[str, Callable[[], TypeAdapter[Any]]]:
    """What validates a model's scalar fields one by one, each made when it is first needed."""
    return {
        name: cache(partial(_adapter, info))
        for name, info in entity.model_fields.items()
        if parse_annotation(name, info.annotation).type.kind is not Kind.OPAQUE
    }


def _adapter(info: FieldInfo) -> TypeAdapter[Any]:
    annotation: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(annotation)


def _hints(entity: type) -> dict[str, Any]:
    try:
        return get_type_hints(entity, include_extras=True)
    except NameError:
        # A class local to a function: what cannot be resolved is known by name only, and treated as opaque.
        resolved: dict[str, Any] = {}
        for base in reversed(entity.__mro__):
            names = {**vars(sys.modules[base.__module__]), base.__name__: base}
            for name, annotation in inspect.get_annotations(base).items():
                resolved[name] = _evaluated(annotation, names)
        return resolved


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)  # noqa: S307  # the user's own annotation, as typing.get_type_hints does
    except NameError:
        return Any


def parse_annotation(name: str, annotation: Any) -> EntityField:
    """Read one annotation: ``int | None``, ``Annotated[str, ...]``, ``Literal["a", "b"]``, a NewType, an Enum."""
    members = _members(annotation)
    scalars = [member for member in members if member is not type(None)]
    optional = len(scalars) < len(members)
    known = len(set(scalars)) == 1 and isinstance(scalars[0], type) and scalars[0] is not Any
    python = cast(type, scalars[0]) if known else object
    return EntityField(name, ValueType(kind_of(python), python), optional, annotation)


def _members(annotation: Any) -> list[Any]:
    """Flatten an annotation to the classes a value may be of."""
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


def read_changes(changes: Any) -> dict[str, Any]:
    """Read a partial change: the fields that were set on a Pydantic model, or a mapping's items.

    Raises:
        QueryError: it is neither.
    """
    if isinstance(changes, BaseModel):
        return {name: getattr(changes, name) for name in changes.model_fields_set}
    if isinstance(changes, Mapping):
        return dict(changes)
    raise QueryError(f"changes are a Pydantic model or a mapping, not {type(changes).__name__}")

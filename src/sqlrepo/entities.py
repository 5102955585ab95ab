"""What an entity is made of: the fields of a Pydantic model or dataclass, and how to read and copy one.

Knows the kinds of class a user may write. Must not know tables or queries.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import pydantic
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from sqlrepo.errors import MappingError, QueryError
from sqlrepo.values import Kind, ValueType, WrongValueError, kind_of

__all__ = ["EntityField", "copied", "describe", "field_of", "is_entity", "set_fields", "unsettable"]

E = TypeVar("E")

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
    return isinstance(cls, type) and (issubclass(cls, BaseModel) or dataclasses.is_dataclass(cls))


def describe(entity: type) -> Mapping[str, EntityField]:
    """Read the fields of an entity class, in the order of their declaration.

    Raises:
        MappingError: the class is neither a Pydantic model nor a dataclass, or is not complete yet.
    """
    if entity in _DESCRIBED:
        return _DESCRIBED[entity]
    if issubclass(entity, BaseModel):
        annotations = _of_model(entity)
    elif dataclasses.is_dataclass(entity):
        hints = _hints(entity)
        annotations = {f.name: hints[f.name] for f in dataclasses.fields(entity) if f.init}
    else:
        raise MappingError(f"{entity.__name__} is neither a Pydantic model nor a dataclass")
    adapters = _adapters(entity) if issubclass(entity, BaseModel) else {}
    known = types.MappingProxyType(
        {
            name: replace(field_of(name, annotation), adapter=adapters.get(name))
            for name, annotation in annotations.items()
        }
    )
    return _DESCRIBED.setdefault(entity, known)


def unsettable(entity: type) -> tuple[str, ...]:
    """The dataclass fields that its ``__init__`` does not take, and that no row can therefore give back."""
    if not dataclasses.is_dataclass(entity):
        return ()
    return tuple(f.name for f in dataclasses.fields(entity) if not f.init)


def _of_model(entity: type[BaseModel]) -> dict[str, Any]:
    if not entity.__pydantic_complete__ and not entity.model_rebuild(raise_errors=False):
        raise MappingError(f"{entity.__name__} has annotations that are not defined yet")
    return {name: info.annotation for name, info in entity.model_fields.items()}


def _adapters(entity: type[BaseModel]) -> dict[str, Callable[[], TypeAdapter[Any]]]:
    """What validates a model's scalar fields one by one, each made when it is first needed."""
    return {
        name: cache(partial(_adapter, info))
        for name, info in entity.model_fields.items()
        if field_of(name, info.annotation).type.kind is not Kind.OPAQUE
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


def field_of(name: str, annotation: Any) -> EntityField:
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


def copied(entity: E, changes: Mapping[str, Any]) -> E:
    """Return a copy of an entity with some fields replaced, not validated; the original stays as it is."""
    if isinstance(entity, BaseModel):
        return entity.model_copy(update=dict(changes))
    copy: Any = dataclasses.replace  # typed for dataclasses only, which E cannot say
    replaced: E = copy(entity, **changes)
    return replaced


def set_fields(changes: Any) -> dict[str, Any]:
    """Read a partial change: the fields that were set on a Pydantic model, or a mapping's items.

    Raises:
        QueryError: it is neither.
    """
    if isinstance(changes, BaseModel):
        return {name: getattr(changes, name) for name in changes.model_fields_set}
    if isinstance(changes, Mapping):
        return dict(changes)
    raise QueryError(f"changes are a Pydantic model or a mapping, not {type(changes).__name__}")

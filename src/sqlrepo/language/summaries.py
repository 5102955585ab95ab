"""Summaries: Pydantic models that list the keys and measures of groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict

from sqlrepo.errors import QueryError, nearest
from sqlrepo.language.criteria import Ref
from sqlrepo.language.entities import EntityField, ValueOfPart, child_class, describe, parse_annotation
from sqlrepo.language.fields import Field, find_field, find_sort_ref
from sqlrepo.language.query import type_argument
from sqlrepo.language.values import Kind, ValueType

T = TypeVar("T")

_NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT})
_ORDERED = frozenset(kind for kind in Kind if kind.ordered)
# The kinds that each function takes, and the kind that it returns.
_FUNCTIONS: Mapping[str, tuple[frozenset[Kind], Callable[[Kind], Kind]]] = {
    "count_distinct": (_ORDERED, lambda _: Kind.INTEGER),
    "count": (_ORDERED, lambda _: Kind.INTEGER),
    "sum": (_NUMBERS, lambda kind: kind),
    "avg": (_NUMBERS, lambda kind: Kind.DECIMAL if kind is Kind.INTEGER else kind),
    "min": (_ORDERED - {Kind.BOOLEAN}, lambda kind: kind),
    "max": (_ORDERED - {Kind.BOOLEAN}, lambda kind: kind),
    "": (_ORDERED, lambda kind: kind),  # a key
}
_OF_PARTS = ("sum", "min", "max", "count")


class Reading(NamedTuple):
    """How a field of a summary is read: as a group key, or as a measure."""

    function: str = ""  # empty for a key
    ref: Ref | None = None  # None: count the rows, or the children
    spec: EntityField | None = None  # of the referred field; None as long as a path through a key is not bound
    many: Ref | None = None  # the collection whose children are measured

    @property
    def path(self) -> str:
        """The name of the measured field, as in the summary."""
        names = [one.name.replace(".", "__") for one in (self.many, self.ref) if one is not None]
        return "__".join(names)


_READINGS: WeakKeyDictionary[type, Mapping[str, Reading]] = WeakKeyDictionary()


class Summary(BaseModel, Generic[T]):
    """The base class of summaries of one entity class: of rows that agree in some fields, or of all rows.

    A field with the name of an entity's field, of a nested one (``ship_to__city``), or of one of the row that a key
    refers to (``customer_id__name``), is a group key. ``count`` is the number of rows; ``total_sum``, ``_min``,
    ``_max``, ``_avg``, ``_count`` and ``_count_distinct`` measure the field ``total``, and ``lines__price_sum``,
    ``_min``, ``_max`` and ``_count`` the children of all rows of the group. ``total__sum`` is unique where
    ``total_sum`` is a field too.

    Raises:
        QueryError: at class definition, for an unknown field, an unsuitable measure or annotation, or an ambiguous
            name.
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_complete__ and isinstance(type_argument(cls, Summary), type):
            _READINGS[cls] = _read(cls)


def readings_of(summary: type[Summary[Any]]) -> Mapping[str, Reading]:
    """Return how each field of a summary is read."""
    if summary not in _READINGS:  # its forward references were unresolved when it was defined
        summary.model_rebuild()
        _READINGS[summary] = _read(summary)
    return _READINGS[summary]


def entity_of_summary(cls: type[Summary[Any]]) -> type:
    """Return the entity class that a summary is of."""
    found = type_argument(cls, Summary)
    if not isinstance(found, type):
        raise QueryError(f"{cls.__name__} does not name its entity class; write class {cls.__name__}(Summary[Todo])")
    return found


def _read(cls: type[Summary[Any]]) -> Mapping[str, Reading]:
    entity = entity_of_summary(cls)
    found: dict[str, Reading] = {}
    for name in cls.model_fields:
        try:
            found[name] = _read_name(entity, name)
            check_kind(cls, name, found[name])
        except QueryError as error:
            raise QueryError(f"{cls.__name__}.{name}: {error}") from None
    grouped = any(not reading.function for reading in found.values())
    for name, reading in found.items():
        if reading.function not in ("", "count", "count_distinct") and (reading.many or not grouped):
            require_optional(cls, name, "there may be nothing to measure")
    return found


def require_optional(cls: type[BaseModel], name: str, reason: str) -> None:
    """Refuse an annotation that does not allow None."""
    annotation = cls.model_fields[name].annotation
    if not parse_annotation(name, annotation).optional:
        raise QueryError(f"{cls.__name__}.{name}: may be None, because {reason}; annotate {_shown(annotation)} | None")


def _read_name(entity: type, name: str) -> Reading:
    found = list(_readings(entity, name))
    if len(found) > 1:
        spellings = " or ".join(f"{one.path}__{one.function}" for one in found if one.function)
        raise QueryError(f"the name is ambiguous, since {entity.__name__} has such a field too; write {spellings}")
    if found:
        return found[0]
    known, first = describe(entity), name.partition("__")[0]
    many = next((one for one in known if name.startswith(f"{one}_") and child_class(entity, one)), None)
    ref = find_sort_ref(entity, name) if first in known and many is None else None
    if ref is not None and ref.via is not None:
        return Reading("", ref)
    what = f"{entity.__name__} has no field {name!r}"
    if many is not None:
        names = _measures(child_class(entity, many) or entity, f"{many}__", _OF_PARTS)
        hint = nearest(name, [f"{many}__count", *names])
        raise QueryError(f"{what}; children can be measured, but cannot be group keys{hint}")
    raise QueryError(f"{what}{nearest(name, [*known, 'count', *_measures(entity, '', _FUNCTIONS)])}")


def _measures(entity: type, prefix: str, functions: Iterable[str]) -> list[str]:
    """Return the names of all measures of an entity's fields."""
    kinds = {name: find_field(entity, name).spec.type.kind for name in describe(entity)}
    pairs = ((name, function) for name in kinds for function in functions if kinds[name] in _FUNCTIONS[function][0])
    return [f"{prefix}{name}_{function}" for name, function in pairs if function]


def _readings(entity: type, name: str) -> Iterator[Reading]:
    """Yield all that a name may mean; ``field__function`` has one meaning."""
    for function in filter(None, _FUNCTIONS):
        stem = name.removesuffix(f"__{function}")
        if stem != name and (reading := _measure(entity, stem, function)):
            yield reading
            return
    if (field := _find(entity, name)) is not None:
        yield Reading("", field.ref, field.spec)
    elif name == "count":
        yield Reading("count")
    for function in filter(None, _FUNCTIONS):
        stem = name.removesuffix(f"_{function}")
        if stem != name and (reading := _measure(entity, stem, function)):
            yield reading


def _measure(entity: type, stem: str, function: str) -> Reading | None:
    prefix, _, rest = stem.partition("__")
    child = child_class(entity, prefix) if prefix in describe(entity) else None
    if child is None:
        field = _find(entity, stem)
        return None if field is None else Reading(function, field.ref, field.spec)
    if not rest and function == "count":
        return Reading(function, many=Ref(entity, prefix))
    field = _find(child, "value" if issubclass(child, ValueOfPart) and not rest else rest)
    return None if field is None else Reading(function, field.ref, field.spec, Ref(entity, prefix))


def _find(entity: type, name: str) -> Field | None:
    try:
        return find_field(entity, name)
    except QueryError:
        return None


def check_kind(cls: type[BaseModel], name: str, reading: Reading) -> None:
    """Refuse a function that does not suit the field, and an annotation that does not suit the result."""
    function, spec, ref = reading.function, reading.spec, reading.ref
    if reading.many is not None and function not in _OF_PARTS:
        raise QueryError(f"{function} does not fit children; use one of {', '.join(_OF_PARTS)}")
    if ref is not None and spec is None:
        return  # until it is bound
    annotation, (takes, returns) = cls.model_fields[name].annotation, _FUNCTIONS[function]
    given, own = parse_annotation("", annotation).type, ValueType(Kind.INTEGER, int) if spec is None else spec.type
    if spec is not None and own.kind not in takes:
        what = f"{function} does not fit it" if function else "it cannot be a group key"
        raise QueryError(f"{reading.path} is {_shown(spec.annotation)}, so {what}")
    if given.kind is not returns(own.kind) or (given.kind is Kind.ENUM and not issubclass(own.python, given.python)):
        needed = own.python.__name__ if returns(own.kind) is own.kind else returns(own.kind).value
        raise QueryError(f"is annotated {_shown(annotation)}, but it is {needed}")


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)

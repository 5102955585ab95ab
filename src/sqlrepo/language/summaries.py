"""Summaries: Pydantic models that list the keys and measures of groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from sqlrepo.errors import MappingError, QueryError, nearest
from sqlrepo.language.criteria import Ref
from sqlrepo.language.entities import (
    EntityField,
    ValueOfPart,
    child_class,
    describe,
    is_mapped,
    parse_annotation,
    value_object,
)
from sqlrepo.language.fields import Field, find_field, find_sort_ref
from sqlrepo.language.query import type_argument
from sqlrepo.language.values import Kind, ValueType

T = TypeVar("T")

NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.FLOAT})
_ORDERED = frozenset(kind for kind in Kind if kind.ordered)
# The kinds that each function takes, and the kind that it returns.
_FUNCTIONS: Mapping[str, tuple[frozenset[Kind], Callable[[Kind], Kind]]] = {
    "count_distinct": (_ORDERED, lambda _: Kind.INTEGER),
    "count": (_ORDERED, lambda _: Kind.INTEGER),
    "sum": (NUMBERS, lambda kind: kind),
    "avg": (NUMBERS, lambda kind: Kind.DECIMAL if kind is Kind.INTEGER else kind),
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
            readings_of(cls)


def entity_of_summary(cls: type[Summary[Any]]) -> type:
    """Return the entity class that a summary is of."""
    found = type_argument(cls, Summary)
    if not isinstance(found, type):
        raise QueryError(f"{cls.__name__} does not name its entity class; write class {cls.__name__}(Summary[Todo])")
    return found


@lru_cache(maxsize=1024)
def readings_of(cls: type[Summary[Any]]) -> Mapping[str, Reading]:
    """Return how each field of a summary is read."""
    entity = entity_of_summary(cls)
    cls.model_rebuild()  # if its forward references were unresolved when it was defined
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
    found = _readings(entity, name)
    if len(found) > 1:
        spellings = " or ".join(f"{one.path}__{one.function}" for one in found if one.function)
        raise QueryError(f"the name is ambiguous, since {entity.__name__} has such a field too; write {spellings}")
    if found:
        return found[0]
    known, what = describe(entity), f"{entity.__name__} has no field {name!r}"
    many = next((one for one in known if name.startswith(f"{one}_") and child_class(entity, one)), None)
    if many is not None:
        child = child_class(entity, many) or entity
        paths = (f"{many}__{one}__" for one, spec in describe(child).items() if not value_object(spec.annotation))
        if name.startswith(tuple(paths)):
            raise QueryError(f"{what}; {beyond(entity)}")
        hint = nearest(name, [f"{many}__count", *_measures(child, f"{many}__", _OF_PARTS)])
        raise QueryError(f"{what}; children can be measured, but cannot be group keys{hint}")
    ref = find_sort_ref(entity, name) if name.partition("__")[0] in known else None
    if ref is not None and ref.via is not None:
        return Reading("", ref)
    raise QueryError(f"{what}{nearest(name, [*known, 'count', *_measures(entity, '', _FUNCTIONS)])}")


def beyond(entity: type) -> str:
    """Say how to measure what no summary measures."""
    return (
        f"a summary measures fields of {entity.__name__} and of its parts only; for what those lead to, summarize the "
        "repository of that table, or write SQL of your own, which SQLAlchemyRepository.select() begins"
    )


def is_measure(name: str) -> bool:
    """Return True for a name that ends with a function's."""
    return name.endswith(tuple(f"_{function}" for function in _FUNCTIONS if function))


def check_approximate(entity: type, names: Iterable[str]) -> None:
    """Refuse a name of `approximate` that no sum of floats has.

    Not the children of a mapped class, whose relationships cannot be asked for before all classes are mapped.
    """
    for name in names:
        if is_mapped(entity) and name not in describe(entity):
            continue
        reading = _measure(entity, name, "sum")
        if reading is None or reading.spec is None or reading.spec.type.kind is not Kind.FLOAT:
            hint = nearest(name, (one.removesuffix("_sum") for one in _float_sums(entity)))
            raise MappingError(f"`approximate` names {name!r}, which is no float field of {entity.__name__}{hint}")


def _float_sums(entity: type) -> list[str]:
    children = {} if is_mapped(entity) else {f"{name}__": child_class(entity, name) for name in describe(entity)}
    owners = {"": entity, **{prefix: child for prefix, child in children.items() if child}}
    return [name for prefix, one in owners.items() for name in _measures(one, prefix, ("sum",), Kind.FLOAT)]


def _measures(entity: type, prefix: str, functions: Iterable[str], *kinds: Kind) -> list[str]:
    """Return the names of all measures of an entity's fields, or of those of some kinds."""
    known = {name: find_field(entity, name).spec.type.kind for name in describe(entity)}
    pairs = ((name, function) for name in known for function in functions if known[name] in _FUNCTIONS[function][0])
    return [f"{prefix}{name}_{function}" for name, function in pairs if function and known[name] in (kinds or Kind)]


def _readings(entity: type, name: str) -> list[Reading]:
    """Return all that a name may mean; ``field__function`` has one meaning."""

    def measures(separator: str) -> list[Reading]:
        ends = ((function, f"{separator}{function}") for function in _FUNCTIONS if function)
        found = (_measure(entity, name.removesuffix(end), function) for function, end in ends if name.endswith(end))
        return [one for one in found if one is not None]

    if exact := measures("__"):
        return exact
    field = _find(entity, name)
    own = [Reading("count")] if name == "count" else []
    return [*(own if field is None else [Reading("", field.ref, field.spec)]), *measures("_")]


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


def check_kind(cls: type[Summary[Any]], name: str, reading: Reading) -> None:
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
        hint = f"; {beyond(entity_of_summary(cls))}" if reading.many and not own.kind.ordered else ""
        raise QueryError(f"{reading.path} is {_shown(spec.annotation)}, so {what}{hint}")
    if given.kind is not returns(own.kind) or (given.kind is Kind.ENUM and not issubclass(own.python, given.python)):
        needed = own.python.__name__ if returns(own.kind) is own.kind else returns(own.kind).value
        raise QueryError(f"is annotated {_shown(annotation)}, but it is {needed}")


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)

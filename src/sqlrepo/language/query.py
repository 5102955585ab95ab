"""Query objects: Pydantic models that list the filters and sort keys a client may use."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from sqlrepo.errors import InvalidLiteralError, QueryError, nearest
from sqlrepo.language.criteria import (
    And,
    Case,
    Compare,
    Criterion,
    Exists,
    IsNull,
    Match,
    MatchKind,
    Not,
    Operator,
    Path,
    Ref,
    Via,
    all_of,
    as_criterion,
    one_of,
)
from sqlrepo.language.entities import (
    EntityField,
    ValueOfPart,
    child_class,
    collection_of,
    describe,
    parse_annotation,
    value_object,
)
from sqlrepo.language.fields import Field, Sort, fields, find_field, parse_order, reroot, type_name
from sqlrepo.language.values import Kind

T = TypeVar("T")

# The fields of a query object that are not filters.
OPTIONS = ("limit", "offset", "order_by")


@dataclass(frozen=True, slots=True)
class Where:
    """Marks a field of a query object as a custom filter.

    ``Annotated[str | None, Where(lambda t, v: icontains(t.key, v) | icontains(t.value, v))]``

    Attributes:
        criterion: a function of the entity's fields and the given value, which is never None; returns the criterion.
    """

    criterion: Callable[[Any, Any], bool]

    def __post_init__(self) -> None:
        if not callable(self.criterion):
            raise QueryError(f"Where() takes a function of two arguments, not {type(self.criterion).__name__}")

    def make(self, cls: type, name: str, entity: type, value: Any) -> Criterion:
        """Call the function; an error names the class and the field that are marked."""
        try:
            return as_criterion(self.criterion(fields(entity), value))
        except InvalidLiteralError as error:
            error.field = name
            raise
        except QueryError as error:
            raise QueryError(f"{cls.__name__}.{name}: {error}") from error
        except Exception as error:
            error.add_note(f"raised by the function of {cls.__name__}.{name}")
            raise


@dataclass(frozen=True, slots=True)
class _Suffix:
    build: Callable[[Ref, Any], Criterion]  # of a value that Pydantic has checked; the column's check follows
    takes: Literal["value", "several", "pair", "flag", "text"] = "value"
    ordered: bool = False  # the field must have an order

    def suits(self, kind: Kind) -> bool:
        """Return True if the operator suits the fields of a kind."""
        return (kind is Kind.TEXT or self.takes != "text") and (kind.ordered or not self.ordered)


def _comparison(op: Operator, *, ordered: bool = True) -> _Suffix:
    return _Suffix(lambda ref, value: Compare(ref, op, value), ordered=ordered)


def _search(kind: MatchKind, case: Case = "exact") -> _Suffix:
    return _Suffix(lambda ref, text: Match(ref, kind, text, case), "text")


_SUFFIXES: Mapping[str, _Suffix] = {
    "eq": _comparison("==", ordered=False),
    "ne": _comparison("!=", ordered=False),
    "lt": _comparison("<"),
    "le": _comparison("<="),
    "gt": _comparison(">"),
    "ge": _comparison(">="),
    "in": _Suffix(one_of, "several", ordered=True),
    "not_in": _Suffix(lambda ref, values: Not(one_of(ref, values)), "several", ordered=True),
    "between": _Suffix(
        lambda ref, pair: And((Compare(ref, ">=", pair[0]), Compare(ref, "<=", pair[1]))), "pair", ordered=True
    ),
    "contains": _search("contains"),
    "icontains": _search("contains", "folded"),
    "startswith": _search("startswith"),
    "istartswith": _search("startswith", "folded"),
    "endswith": _search("endswith"),
    "iendswith": _search("endswith", "folded"),
    "iequals": _search("equals", "folded"),
    "is_null": _Suffix(lambda ref, null: IsNull(ref) if null else Not(IsNull(ref)), "flag"),
}


class Other(NamedTuple):
    """What a name would mean if it were no field's; it must lead nowhere."""

    path: Path

    @property
    def refusal(self) -> str:
        """Why it is refused, for it leads somewhere."""
        key, rest = self.path.ref, self.path.rest.removesuffix("__is_null")
        return f"{key}__{rest} may mean a field or what is behind the key {key}; use Where, or rename the field"


class _Filter(NamedTuple):
    make: Callable[[Any], Criterion]
    many: tuple[Ref, ...] = ()  # the collection to one of whose children it applies, and those around it
    checked: bool = False  # when a repository meets the class, with None for a value


#: What leads through keys, or may have no column, by query class and field: checked when a repository first meets
#: the class.
PATHS: WeakKeyDictionary[type, Sequence[tuple[str, Criterion | Sort | Other]]] = WeakKeyDictionary()
_FILTERS: WeakKeyDictionary[type, Mapping[str, _Filter]] = WeakKeyDictionary()
_ENTITIES: WeakKeyDictionary[type, type] = WeakKeyDictionary()


class QueryObject(BaseModel, Generic[T]):
    """The base class of query objects for one entity class; the Query Object of Martin Fowler's *PoEAA*.

    Each field is a filter: an entity's field, alone for equality or followed by an operator (``priority_ge``,
    ``key_contains``), or a custom filter annotated with `Where`. A filter that is None is not applied. A name such as
    ``lines__sku_startswith`` asks about a child; all filters with one such prefix ask about the same child. The fields
    ``limit``, ``offset`` and ``order_by`` are not filters; ``order_by`` is annotated with a ``Literal`` of sort keys.

    Raises:
        QueryError: at class definition, for an unknown field, an unsuitable operator or an ambiguous name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if cls.__pydantic_complete__ and isinstance(type_argument(cls, QueryObject), type):
            _FILTERS[cls] = _read(cls)

    @property
    def criteria(self) -> bool:
        """The filters that are not None, combined into one criterion."""
        applied: list[Criterion] = []
        of_children: list[tuple[Sequence[Ref], Criterion]] = []
        for name, (make, many, _) in _filters_of(type(self)).items():
            value = getattr(self, name)
            if value is not None and many:
                of_children.append((many, make(value)))
            elif value is not None:
                applied.append(make(value))
        if of_children:
            applied += _combine(of_children)
        return cast(bool, applied[0] if len(applied) == 1 else And(tuple(applied)))


def _combine(filters: Iterable[tuple[Sequence[Ref], Criterion]]) -> list[Criterion]:
    """Combine the filters with one prefix, which ask about the same child, in one `Exists`."""
    own: list[Criterion] = []
    of_children: dict[Ref, list[tuple[Sequence[Ref], Criterion]]] = {}
    for many, criterion in filters:
        if many:
            of_children.setdefault(many[0], []).append((many[1:], criterion))
        else:
            own.append(criterion)
    return own + [Exists(many, all_of(_combine(parts))) for many, parts in of_children.items()]


def entity_of(query: type[QueryObject[Any]]) -> type:
    """Return the entity class of a class of query objects."""
    if query not in _ENTITIES:
        _filters_of(query)
    return _ENTITIES[query]


def _filters_of(cls: type[QueryObject[Any]]) -> Mapping[str, _Filter]:
    if cls not in _FILTERS:  # its forward references were unresolved when it was defined
        cls.model_rebuild()
        _FILTERS[cls] = _read(cls)
    return _FILTERS[cls]


def type_argument(cls: type[BaseModel], generic: type[BaseModel]) -> Any:
    """Return a class's argument for a generic model, through classes in between; a TypeVar if there is none."""
    bound: dict[Any, Any] = {}
    for base in cls.__mro__:
        if not issubclass(base, generic):
            continue
        metadata = base.__pydantic_generic_metadata__
        origin, args = metadata["origin"], metadata["args"]
        values = tuple(bound.get(arg, arg) for arg in args)
        if origin is generic:
            return values[0]
        if origin is not None:
            bound.update(zip(origin.__pydantic_generic_metadata__["parameters"], values, strict=True))
    return T


# -- reading a class


def _read(cls: type[QueryObject[Any]]) -> Mapping[str, _Filter]:
    entity = type_argument(cls, QueryObject)
    if not isinstance(entity, type):
        raise QueryError(
            f"{cls.__name__} does not name its entity class; write class {cls.__name__}(QueryObject[Todo])"
        )
    _ENTITIES[cls] = entity
    filters: dict[str, _Filter] = {}
    paths: list[tuple[str, Criterion | Sort | Other]] = []
    for name, info in cls.model_fields.items():
        try:
            if (made := _read_field(cls, entity, name, info)) is not None:
                filters[name] = made
                if made.checked:
                    paths += [(name, path) for path in _combine([(made.many, made.make(None))])]
                if not any(isinstance(mark, Where) for mark in info.metadata):
                    paths += [(name, other) for other in _others(entity, name, info.annotation)]
            elif name == "order_by":
                sorts = [sort for one in _orders(info.annotation) for sort in parse_order(entity, one)]
                paths += [(name, sort) for sort in sorts if sort.ref.via is not None]
                own = [f"{sort.ref.name}__is_null" for sort in sorts if sort.ref.via is None and "__" in sort.ref.name]
                paths += [(name, other) for one in own for other in _others(entity, one, bool)]
        except QueryError as error:
            raise QueryError(f"{cls.__name__}.{name}: {error}") from None
    if paths:
        PATHS[cls] = paths
    return filters


def _read_field(cls: type, entity: type, name: str, info: FieldInfo) -> _Filter | None:
    """Check one field of a query object, and make its filter unless the field is an option."""
    if name == "criteria":
        raise QueryError("the name is reserved; name the filter criteria_eq")
    _refuse_nested(info.annotation)
    if where := next((mark for mark in info.metadata if isinstance(mark, Where)), None):
        return _Filter(partial(where.make, cls, name, entity))
    if name == "order_by":
        for order in _orders(info.annotation):
            parse_order(entity, order)
        return None
    if name in OPTIONS:
        if parse_annotation(name, info.annotation).type.kind is not Kind.INTEGER:
            raise QueryError("must be an int")
        return None
    field, operator, many = _parse_path(entity, name)
    if operator not in _SUFFIXES:
        rest, annotation = operator, info.annotation
        return _Filter(lambda value: Path(field.ref, rest, value, annotation), many, checked=True)
    _check_fit(field, operator, info.annotation)
    build = _SUFFIXES[operator].build
    if field.spec.type.kind is Kind.OPAQUE:  # which may be kept in a column, or in a table of its own
        ref = field.ref
        return _Filter(lambda value: IsNull(ref) if value is None else build(ref, value), many, checked=True)
    return _Filter(partial(build, field.ref), many)


def _others(entity: type, name: str, annotation: Any) -> Iterator[Other]:
    """Yield the path through a key that a name may mean, if it begins with a field that has ``__`` in its name."""
    _parse_path(entity, name)  # which refuses what may be a field in a part
    prefix, _, rest = name.partition("__")
    readings = _readings(describe(entity), name)
    if readings and readings[0][0] != prefix and prefix in describe(entity):
        yield Other(Path(Ref(entity, prefix), rest, None, annotation))


def open_path(path: Path, entity: type) -> Criterion:
    """Replace a filter that leads through a key by what it means, now that the class is known to which the key leads.

    A path without a value is replaced by any criterion on the field.
    """
    field, operator, many = _parse_path(entity, path.rest)
    if many:
        raise QueryError(f"{path.rest!r}: a path through a key leads to a field, not to children of {entity.__name__}")
    ref = reroot(field.ref, lambda ref: replace(ref, via=Via(path.ref), row=path.ref.row))
    if operator not in _SUFFIXES:
        return Path(ref, operator, path.value, path.annotation)
    _check_fit(field, operator, path.annotation)
    return IsNull(ref) if path.value is None else _SUFFIXES[operator].build(ref, path.value)


def refuse_operator(name: str) -> str:
    """Say, at the end of an error message, that what follows a field is no operator either, with the nearest."""
    return f", and {name!r} is no operator{nearest(name, _SUFFIXES)}"


def _parse_path(entity: type, name: str) -> tuple[Field, str, tuple[Ref, ...]]:
    """Split a filter's name into field, operator and, before ``__``, the collections whose child has the field.

    In the place of the operator stands the rest of a name that leads through a key.
    """
    prefix, _, rest = name.partition("__")
    known = describe(entity)
    if prefix not in known or rest in ("", "is_null"):
        return (*_parse_name(entity, name), ())
    nested, child = value_object(known[prefix].annotation), child_class(entity, prefix)
    readings = _readings(known, name)
    if (inside := nested or child) is None:
        if rest in _ELSEWHERE or readings:
            return (*_parse_name(entity, name), ())
        return find_field(entity, prefix), rest, ()
    if readings and readings[0][0] != prefix:  # a field with "__" in its name
        if _is_name(inside, rest):
            raise QueryError(f"the name may mean {readings[0][0]!r} or a field in {prefix!r}; use Where, or rename one")
        return (*_parse_name(entity, name), ())
    if nested is not None:
        inner, operator, many = _parse_path(nested, rest)
        if many:
            return inner, operator, (Ref(entity, f"{prefix}.{many[0].name}"), *many[1:])
        ref = reroot(inner.ref, lambda ref: Ref(entity, f"{prefix}.{ref.name}"))
        return Field(ref, inner.spec), operator, ()
    if not issubclass(inside, ValueOfPart):
        inner, operator, many = _parse_path(inside, rest)
        return inner, operator, (Ref(entity, prefix), *many)
    if rest in _ELSEWHERE:
        raise QueryError(f"{prefix} holds plain values, so only an operator may follow{nearest(rest, _SUFFIXES)}")
    return find_field(inside, "value"), rest, (Ref(entity, prefix),)


def _is_name(entity: type, name: str) -> bool:
    try:
        _parse_path(entity, name)
    except QueryError:
        return False
    return True


def _parse_name(entity: type, name: str) -> tuple[Field, str]:
    """Split a filter's name into field and operator; refuse an ambiguous name."""
    known = describe(entity)
    readings = _readings(known, name)
    if not readings:
        raise QueryError(f"{entity.__name__} has no field {name!r}{_suggest(entity, name, known)}")
    if len(readings) > 1:
        spellings = " or ".join(f"{field}__{operator}" for field, operator in readings)
        raise QueryError(f"the name is ambiguous; write {spellings}")
    return find_field(entity, readings[0][0]), readings[0][1]


def _readings(known: Iterable[str], name: str) -> list[tuple[str, str]]:
    for operator in _SUFFIXES:
        if name.endswith(f"__{operator}") and name.removesuffix(f"__{operator}") in known:
            return [(name.removesuffix(f"__{operator}"), operator)]
    readings = [(name, "eq")] if name in known else []
    for operator in _SUFFIXES:
        stem = name.removesuffix(f"_{operator}")
        if stem != name and stem in known:
            readings.append((stem, operator))
    return readings


# Other libraries' names of operators, for which the nearest of ours would be the wrong one.
_ELSEWHERE = {
    "gte": "ge",
    "lte": "le",
    "like": "contains",
    "ilike": "icontains",
    "isnull": "is_null",
    "notin": "not_in",
    "iexact": "iequals",
    "exact": "eq",
    "range": "between",
}


def _suggest(entity: type, name: str, known: Mapping[str, EntityField]) -> str:
    stem, _, operator = name.rpartition("_")
    if operator in _ELSEWHERE and stem.rstrip("_") in known:
        return f"; did you mean {stem.rstrip('_') + '_' + _ELSEWHERE[operator]!r}?"
    prefix = next((field for field in known if name.startswith(f"{field}_")), "")
    first, _, rest = name.partition("__")
    if rest and not prefix:
        return nearest(first, known)
    candidates = [one for one in _names(entity, known) if one.startswith(prefix)]
    return nearest(name, candidates, [one for one in known if one.startswith(prefix)])


def _names(entity: type, known: Mapping[str, EntityField]) -> Iterator[str]:
    """Yield names that a filter may have."""
    for name, field in known.items():
        yield name
        inside, kind = value_object(field.annotation) or child_class(entity, name), field.type.kind
        if inside is None:
            yield from (f"{name}_{operator}" for operator, suffix in _SUFFIXES.items() if suffix.suits(kind))
        elif not issubclass(inside, ValueOfPart):
            yield from (f"{name}__{one}" for one in describe(inside))


def _check_fit(field: Field, operator: str, annotation: Any) -> None:
    """Refuse an operator that does not suit the field, and an annotation that does not suit the operator."""
    suffix, kind = _SUFFIXES[operator], field.spec.type.kind
    if not suffix.suits(kind):
        raise QueryError(f"{operator} does not fit {field!r}, which is {type_name(field.spec)}")
    if not _fits(field.spec, suffix.takes, annotation):
        scalar = kind.value
        needed = {"flag": "bool", "several": f"list[{scalar}]", "pair": f"tuple[{scalar}, {scalar}]"}
        one, many = value_object(field.spec.annotation), collection_of(field.spec.annotation)
        of = "one of its children" if many else "a field of it"
        raise QueryError(
            f"is annotated {annotation}, but {operator} of {field!r} needs {needed.get(suffix.takes, scalar)}"
            + f"; to ask about {of}, name it {field.ref.name}__ and a field or operator" * bool(one or many)
        )


def _fits(spec: EntityField, takes: str, annotation: Any) -> bool:
    if takes in ("value", "text"):
        return _matches(spec, annotation)
    if takes == "flag":
        return parse_annotation("", annotation).type.kind is Kind.BOOLEAN
    for part in _alternatives(annotation):
        origin, args = get_origin(part), get_args(part)
        several = takes == "several" and origin in (list, tuple, set, frozenset)
        pair = takes == "pair" and origin is tuple and len(args) == len(("low", "high"))
        if (several or pair) and all(arg is Ellipsis or _matches(spec, arg) for arg in args):
            return True
    return False


def _matches(spec: EntityField, annotation: Any) -> bool:
    given = parse_annotation("", annotation).type
    if given.kind is spec.type.kind:
        return given.kind not in (Kind.ENUM, Kind.OPAQUE) or issubclass(given.python, spec.type.python)
    return given.kind is Kind.INTEGER and spec.type.kind in (Kind.FLOAT, Kind.DECIMAL)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, each without ``Annotated``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _alternatives(member)]
    return [annotation]


def _orders(annotation: Any) -> Iterator[str]:
    """Yield sort keys; refuse an order that is not a closed list of them: a client must not choose columns freely."""
    for part in _alternatives(annotation):
        if get_origin(part) in (list, tuple):
            for item in get_args(part):
                if item is not Ellipsis:
                    yield from _orders(item)
        elif get_origin(part) is Literal:
            yield from get_args(part)
        elif isinstance(part, type) and issubclass(part, Enum) and issubclass(part, str):
            yield from (member.value for member in part)
        elif part is not type(None):
            raise QueryError("must list its sort keys, such as Literal['priority', '-priority']")


def _refuse_nested(annotation: Any) -> None:
    """Refuse nested models, which cannot be query parameters and which frameworks drop silently."""
    for part in _alternatives(annotation):
        if isinstance(part, type) and (issubclass(part, BaseModel) or dataclasses.is_dataclass(part)):
            raise QueryError(f"nests {part.__name__}; a query object is flat, so list the fields instead")
        if get_origin(part) not in (None, Literal):
            for inner in get_args(part):
                _refuse_nested(inner)

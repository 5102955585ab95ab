"""What the arguments of a generated call are made of: values that are known when the program runs, and can be printed.

Knows how an argument is built for one side and how it is written as Python. Must not know stores or Hypothesis.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import sqlrepo
from sqlrepo.testing.twins.keys import Keys

__all__ = ["Apply", "Field", "Fresh", "Infix", "KeyOf", "Make", "Node", "Part", "Side", "build", "code", "made"]

_INFIX: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "&": operator.and_,
    "|": operator.or_,
}


class Side:
    """One of the two stores, as arguments see it.

    Args:
        index: 0 for memory, 1 for the database.
        keys: the rows that were met, by repository.
        entities: the entity classes, by repository.
        given: the numbers that stand for fresh keys, the same ones on both sides.
    """

    def __init__(
        self, index: int, keys: Mapping[str, Keys], entities: Mapping[str, type], given: dict[Fresh, int | None]
    ) -> None:
        self.index = index
        self.keys = keys
        self.fields: dict[str, Any] = {name: sqlrepo.fields(entity) for name, entity in entities.items()}
        self.given = given


class Names(Protocol):
    """What a script calls things."""

    def key(self, node: KeyOf) -> str:
        """The key of a row that was met."""
        ...

    def fresh(self, node: Fresh) -> str:
        """A key that no row has had."""
        ...

    def use(self, name: type | str) -> str:
        """The name of a class, or of a function of the library's, which the script must import."""
        ...


class Node(Protocol):
    """An argument that is no plain value."""

    def build(self, side: Side) -> Any:
        """What it is on one side."""
        ...

    def code(self, names: Names) -> str:
        """What it is in a script."""
        ...


@dataclass(frozen=True, slots=True)
class KeyOf:
    """The key of a row that was met, or one column of it.

    Attributes:
        repository: the row's.
        index: which of the rows that were met by then, counted round.
        part: which column of the key; None for the key as `get` takes it.
        otherwise: what it is where no row was met.
    """

    repository: str
    index: int
    part: int | None
    otherwise: Any

    def build(self, side: Side) -> Any:
        """The key on this side."""
        met = side.keys[self.repository].at(self.index)
        if met is None:
            return build(self.otherwise, side)
        key = met.keys[side.index]
        if self.part is None:
            return key[0] if len(key) == 1 else key
        return key[self.part]

    def code(self, names: Names) -> str:
        """The attribute of the variable that holds the row."""
        return names.key(self)


@dataclass(frozen=True, slots=True, eq=False)
class Fresh:
    """A key that is given where keys are generated, higher than all before; one such object is one key.

    Attributes:
        repository: whose.
        otherwise: what it is before any key is known, so that nobody knows what is high.
    """

    repository: str
    otherwise: int | None

    def build(self, side: Side) -> int | None:
        """The same key on both sides."""
        if self not in side.given:
            side.given[self] = side.keys[self.repository].above() or self.otherwise
        return side.given[self]

    def code(self, names: Names) -> str:
        """The number that it was."""
        return names.fresh(self)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an entity, as criteria name it."""

    repository: str
    name: str

    def build(self, side: Side) -> Any:
        """The field."""
        return getattr(side.fields[self.repository], self.name)

    def code(self, names: Names) -> str:
        """The field of the object that the script's head makes."""
        return f"{names.use(f'fields:{self.repository}')}.{self.name}"


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of the library's, such as ``in_`` or ``not_``, and what it is given."""

    function: str
    arguments: tuple[Any, ...]

    def build(self, side: Side) -> Any:
        """What it gives."""
        return getattr(sqlrepo, self.function)(*build(self.arguments, side))

    def code(self, names: Names) -> str:
        """The call."""
        return f"{names.use(self.function)}({', '.join(code(one, names) for one in self.arguments)})"


@dataclass(frozen=True, slots=True)
class Infix:
    """Two operands and what stands between them."""

    left: Any
    operator: str
    right: Any

    def build(self, side: Side) -> Any:
        """The criterion."""
        return _INFIX[self.operator](build(self.left, side), build(self.right, side))

    def code(self, names: Names) -> str:
        """The expression, in parentheses."""
        return f"({code(self.left, names)} {self.operator} {code(self.right, names)})"


@dataclass(frozen=True, slots=True)
class Make:
    """An object of a class of the user's, by its fields: an entity, a query object."""

    cls: Any
    values: Mapping[str, Any]

    def build(self, side: Side) -> Any:
        """A new object."""
        return made(self.cls, {name: build(value, side) for name, value in self.values.items()})

    def code(self, names: Names) -> str:
        """The call of the class."""
        given = ", ".join(f"{_parameter(self.cls, name)}={code(value, names)}" for name, value in self.values.items())
        return f"{names.use(self.cls)}({given})"


@dataclass(frozen=True, slots=True)
class Part:
    """A class with some fields of an entity, for ``into=``."""

    names: tuple[str, ...]

    def build(self, _: Side) -> Any:
        """The class."""
        return dataclasses.make_dataclass("Part", self.names)

    def code(self, names: Names) -> str:
        """What makes it."""
        return f"{names.use('make_dataclass')}('Part', {list(self.names)!r})"


def made(cls: Any, values: Mapping[str, Any]) -> Any:
    """Build an object of its fields' values, whatever kind of class it is."""
    return cls(**{_parameter(cls, name): value for name, value in values.items()})


def _parameter(cls: Any, field: str) -> str:
    """What the constructor calls a field."""
    for one in getattr(cls, "__attrs_attrs__", ()):
        if one.name == field:
            return str(one.alias)
    if cls.__dict__.get("model_fields") or hasattr(cls, "model_fields"):
        info = cls.model_fields[field]
        if info.alias and not cls.model_config.get("populate_by_name") and not cls.model_config.get("validate_by_name"):
            return str(info.alias)
    return field


def build(given: Any, side: Side) -> Any:
    """What an argument is on one side."""
    match given:
        case list():
            return [build(one, side) for one in given]
        case tuple():
            return tuple(build(one, side) for one in given)
        case dict():
            return {name: build(one, side) for name, one in given.items()}
        case KeyOf() | Fresh() | Field() | Apply() | Infix() | Make() | Part():
            return given.build(side)
        case _:
            return given


def code(given: Any, names: Names) -> str:
    """How an argument is written."""
    match given:
        case list():
            return f"[{', '.join(code(one, names) for one in given)}]"
        case tuple():
            return f"({', '.join(code(one, names) for one in given)}{',' if len(given) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{name!r}: {code(one, names)}' for name, one in given.items())}}}"
        case KeyOf() | Fresh() | Field() | Apply() | Infix() | Make() | Part():
            return given.code(names)
        case Enum():
            return f"{names.use(type(given))}.{given.name}"
        case float() if not math.isfinite(given):
            return f"float('{given}')"
        case str():
            return ascii(given)
        case _:
            return repr(given)

"""Which classes a generic class is specialised with.

Knows how Python records type arguments. Must not know what they are used for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

from typing_extensions import get_original_bases

__all__ = ["type_arguments"]


def type_arguments(cls: type, generic: type) -> tuple[Any, ...]:
    """Tell what a class puts in the place of a generic base's type variables.

    Follows generic classes in between, mixins, and parameters in another order, by substitution.

    Args:
        cls: the class to read.
        generic: the generic class it is derived from.

    Returns:
        one argument per type variable; a TypeVar where it is still open.
    """
    for arguments in _bound(cls, generic, {}):
        return arguments
    return tuple(getattr(generic, "__parameters__", ()))


def _bound(cls: type, generic: type, known: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    if not issubclass(cls, generic):
        return
    for base in get_original_bases(cls):
        origin = get_origin(base) or base
        arguments = tuple(_substituted(argument, known) for argument in get_args(base))
        if origin is generic and arguments:
            yield arguments
        elif isinstance(origin, type) and origin is not cls:
            parameters = getattr(origin, "__parameters__", ())
            yield from _bound(origin, generic, dict(zip(parameters, arguments, strict=False)))


def _substituted(argument: Any, known: dict[Any, Any]) -> Any:
    return known.get(argument, argument) if isinstance(argument, TypeVar) else argument

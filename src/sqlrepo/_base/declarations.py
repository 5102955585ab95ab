"""Which repositories a unit of work declares, by its annotations.

Knows where the names in an annotation come from. Must not know transactions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import FrameType
from typing import Any, get_origin

from sqlrepo._base.definition import Declarative
from sqlrepo.errors import MappingError

__all__ = ["Declarations", "surrounding_names"]


class Declarations:
    """The annotations of a class and of its bases, resolved at first use.

    Args:
        cls: the class.
        names: the local names around its definition, for classes defined inside a function.
    """

    def __init__(self, cls: type, names: Mapping[str, Any]) -> None:
        self._cls = cls
        self.names = names

    @cached_property
    def repositories(self) -> Mapping[str, type[Declarative[Any]]]:
        """The repositories by attribute; annotations of other types declare nothing."""
        found: dict[str, type[Declarative[Any]]] = {}
        for name, annotation in self._annotations():
            origin = get_origin(annotation) or annotation
            if isinstance(origin, type) and issubclass(origin, Declarative):
                self._refuse_taken(name)
                found[name] = origin
        return found

    def named(self, name: str) -> Any:
        """The repository class of an attribute.

        Raises:
            MappingError: its annotation cannot be resolved when the program runs.
            AttributeError: there is no such repository.
        """
        if name in self.repositories:
            return self.repositories[name]
        for annotated, annotation in self._annotations():
            if annotated == name and isinstance(annotation, str):
                raise MappingError(f"{self._cls.__name__}.{name}: there is no {annotation!r} when the program runs")
        raise AttributeError(f"{self._cls.__name__!r} has no attribute {name!r}")

    def _refuse_taken(self, name: str) -> None:
        if hasattr(self._cls, name) or name == "context":
            raise MappingError(
                f"{self._cls.__name__}.{name}: units of work have a {name!r} of their own; choose another name"
            )

    def _annotations(self) -> Iterator[tuple[str, Any]]:
        """Each annotation, the bases' first; one that cannot be resolved stays the text it is."""
        for base in reversed(self._cls.__mro__):
            own = base.__dict__.get("_declarations")
            local = own.names if isinstance(own, Declarations) else {}
            names = {**vars(sys.modules[base.__module__]), **local}
            for name, annotation in inspect.get_annotations(base).items():
                yield name, _resolved(annotation, names)


def surrounding_names(frame: FrameType | None) -> Mapping[str, Any]:
    """The local names of the function a class statement stands in; none at the level of a module."""
    while frame is not None and frame.f_code.co_name == "__init_subclass__":
        frame = frame.f_back
    return {} if frame is None or frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)  # noqa: S307  # the user's own annotation, as typing.get_type_hints does
    except NameError:
        return annotation  # known to type checkers only

"""Dependencies that are values: FastAPI shares equal ones within a request, and overrides them together.

Knows what FastAPI asks of a callable. Must not know what any dependency gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, Signature, signature
from typing import Any, get_args

import fastapi
from fastapi import params

from sqlrepo import UnsupportedError

__all__ = ["Dependency", "dependency_in", "require_scopes"]


class Dependency:
    """A dependency that is what it was made of.

    Args:
        parts: what tells it from others.
        parameters: what FastAPI gives it when it is called.
    """

    def __init__(self, *parts: object, parameters: Sequence[Parameter] = ()) -> None:
        self._parts = (type(self), *parts)
        self._hash = hash(self._parts)
        self.__signature__ = Signature(list(parameters))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dependency) and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash


def dependency_in(alias: Any) -> Dependency | None:
    """The dependency of this library that an ``Annotated`` alias names."""
    marks: tuple[Any, ...] = get_args(getattr(alias, "__value__", alias))[1:]
    for mark in marks:
        dependency: object = getattr(mark, "dependency", None)
        if isinstance(dependency, Dependency):
            return dependency
    return None


def require_scopes() -> None:
    """Refuse a FastAPI that ends every dependency after the answer.

    Raises:
        UnsupportedError: it is older than 0.121.
    """
    if "scope" not in signature(params.Depends).parameters:
        raise UnsupportedError(
            f"FastAPI {fastapi.__version__} commits after it has answered; sqlrepo.fastapi needs 0.121 or later"
        )

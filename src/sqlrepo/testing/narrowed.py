"""A user's repository with a scope over one of its fields, made at run time over the same unit of work.

Knows how a repository class is derived from. Must not know what the cases check.
"""

from __future__ import annotations

from typing import Any, cast

from sqlrepo import BaseRepository
from sqlrepo.testing.awaited import AwaitedRepository, awaited

__all__ = ["narrowed"]


def narrowed(repository: BaseRepository[Any, Any], criterion: object, *, leaving: bool = False) -> Any:
    """A repository like another, in its unit, that keeps to fewer rows.

    Args:
        repository: it.
        criterion: what its rows answer besides; what is none is given as the scope as it is.
        leaving: whether a change may take them out again.
    """
    if isinstance(repository, AwaitedRepository):
        kind = _derived(type(repository.skin), criterion, leaving)
        return awaited(kind(repository.skin.unit), repository.portal)
    return _derived(type(repository), criterion, leaving)(repository.unit)


def _derived(kind: Any, criterion: Any, leaving: bool) -> Any:
    def scope(self: Any) -> bool:
        unfit = criterion is True or criterion is None
        return cast(bool, criterion if unfit else kind.scope(self) & criterion)

    def stays(self: Any) -> bool:
        return cast(bool, kind.scope(self) if leaving else scope(self))

    return type(kind.__name__, (kind,), {"scope": scope, "stays": stays})

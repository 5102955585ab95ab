"""The repository: every public method, once, for every backend.

Knows nothing by itself; reading and writing are in rooms of their own.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from sqlrepo._base.reading import Reading
from sqlrepo._base.upserting import Upserting

__all__ = ["BaseRepository"]

T = TypeVar("T")
K = TypeVar("K")


class BaseRepository(Reading[T, K], Upserting[T, K], Generic[T, K]):
    """The base of repositories: a collection of entities of one class, kept in one table.

    ``class Todos(BaseRepository[Todo, int]): model = TodoRow`` runs on a database and on memory alike. Entities are
    values: what is stored is returned, arguments are never changed, and there is no identity map. (Martin Fowler,
    Patterns of Enterprise Application Architecture: Repository.)

    Args:
        source: a `Database`, an `InMemoryDatabase`, a session or connection to join, or the unit of work to take part
            in. Alone, a repository reads in
            short transactions of its own, and writes inside ``with repository:``.
        context: what the application knows; a unit of work's own wins.

    Raises:
        MappingError: entity and table do not fit.
        UnsupportedError: the source cannot keep the table.
    """

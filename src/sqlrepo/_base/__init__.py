"""The portable half: every public method of repositories and units of work, once, for every backend."""

from sqlrepo._base.repository import BaseRepository
from sqlrepo._base.retrying import retry
from sqlrepo._base.unit import BaseUnitOfWork

__all__ = ["BaseRepository", "BaseUnitOfWork", "retry"]

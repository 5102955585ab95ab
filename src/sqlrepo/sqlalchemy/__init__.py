"""A database behind repositories, through SQLAlchemy."""

from sqlrepo.sqlalchemy import types
from sqlrepo.sqlalchemy.aio import (
    AsyncDatabase,
    AsyncSQLAlchemyRepository,
    AsyncSQLAlchemyUnitOfWork,
    SQLAlchemyRepository,
    SQLAlchemyUnitOfWork,
)
from sqlrepo.sqlalchemy.audit import audit
from sqlrepo.sqlalchemy.audit.rules import Finding
from sqlrepo.sqlalchemy.database import Database
from sqlrepo.sqlalchemy.translator import apply_query

__all__ = [
    "AsyncDatabase",
    "AsyncSQLAlchemyRepository",
    "AsyncSQLAlchemyUnitOfWork",
    "Database",
    "Finding",
    "SQLAlchemyRepository",
    "SQLAlchemyUnitOfWork",
    "apply_query",
    "audit",
    "types",
]

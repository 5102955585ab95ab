"""Memory as a database: the same repositories and units of work, the same constraints, no server."""

from sqlrepo.language.values import Kind, ValueType
from sqlrepo.memory.database import (
    AsyncInMemoryRepository,
    AsyncInMemoryUnitOfWork,
    InMemoryDatabase,
    InMemoryRepository,
    InMemoryUnitOfWork,
)
from sqlrepo.tables.schema import Check, Column, ConstantDefault, ForeignKey, RowFunction, Schema, Unique

__all__ = [
    "AsyncInMemoryRepository",
    "AsyncInMemoryUnitOfWork",
    "Check",
    "Column",
    "ConstantDefault",
    "ForeignKey",
    "InMemoryDatabase",
    "InMemoryRepository",
    "InMemoryUnitOfWork",
    "Kind",
    "RowFunction",
    "Schema",
    "Unique",
    "ValueType",
]

"""Memory as a database: the same repositories and units of work, the same constraints, no server."""

from sqlrepo.memory.database import InMemoryDatabase
from sqlrepo.memory.repository import (
    AsyncInMemoryRepository,
    AsyncInMemoryUnitOfWork,
    InMemoryRepository,
    InMemoryUnitOfWork,
)
from sqlrepo.schema import Check, Column, Constant, ForeignKey, OfRow, Schema, Unique
from sqlrepo.values import Kind, ValueType

__all__ = [
    "AsyncInMemoryRepository",
    "AsyncInMemoryUnitOfWork",
    "Check",
    "Column",
    "Constant",
    "ForeignKey",
    "InMemoryDatabase",
    "InMemoryRepository",
    "InMemoryUnitOfWork",
    "Kind",
    "OfRow",
    "Schema",
    "Unique",
    "ValueType",
]

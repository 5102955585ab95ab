"""A database in memory, with the constraints of your tables and without a server."""

from sqlrepo.language.values import Kind, ValueType
from sqlrepo.memory.database import (
    AsyncInMemoryRepository,
    AsyncInMemoryUnitOfWork,
    InMemoryDatabase,
    InMemoryRepository,
    InMemoryUnitOfWork,
)
from sqlrepo.tables.parts import Part
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
    "Part",
    "RowFunction",
    "Schema",
    "Unique",
    "ValueType",
]

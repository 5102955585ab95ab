"""SQL that differs by database, where a statement is written before it is known for which.

Knows how SQLAlchemy compiles and keeps what is not its own. Must not know what the choices are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.visitors import InternalTraversal

__all__ = ["PerDialect"]


class PerDialect(sa.ColumnElement[Any]):
    """One of several expressions, chosen when the statement is compiled.

    Args:
        choices: the expressions, by the name of SQLAlchemy's dialect.
    """

    __visit_name__ = "sqlrepo_per_dialect"
    _traverse_internals = [  # noqa: RUF012  # what SQLAlchemy copies, compares and makes a key of
        ("names", InternalTraversal.dp_plain_obj),
        ("choices", InternalTraversal.dp_clauseelement_list),
    ]

    def __init__(self, choices: Mapping[str, sa.ColumnElement[Any]]) -> None:
        self.names = tuple(choices)
        self.choices = list(choices.values())
        self.type = self.choices[0].type

    @property
    def _from_objects(self) -> list[Any]:
        return self.choices[0]._from_objects  # noqa: SLF001  # the tables, which are the same for all


@compiles(PerDialect)
def _compiled(element: PerDialect, compiler: Any, **options: Any) -> str:
    name = {"mariadb": "mysql"}.get(compiler.dialect.name, compiler.dialect.name)
    place = element.names.index(name) if name in element.names else 0
    return str(compiler.process(element.choices[place], **options))

"""What servers call the constraints of a table, and what its metadata calls them.

Knows the names servers make up for constraints without one. Must not know errors or drivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import sqlalchemy as sa

from sqlrepo.schema import Schema, Unique

__all__ = ["Place", "TableNames", "Tables"]

#: A table's schema, None for the default one, and its name.
Place: TypeAlias = tuple[str | None, str]


class TableNames:
    """The names in one table, as fields and metadata have them.

    Args:
        table: the table.
        schema: its description, where a repository keeps entities in it; it says what its class calls the columns.

    Attributes:
        table: the table's name.
    """

    def __init__(self, table: sa.Table, schema: Schema | None = None) -> None:
        known = schema.columns if schema else ()
        self._fields = {column.name: column.key for column in table.columns}
        self._fields |= {column.column or column.name: column.name for column in known}
        constraints = sorted(table.constraints, key=_declared)
        self._key = self._unique(table.primary_key)
        self._uniques = [self._key]
        self._uniques += [self._unique(one) for one in constraints if isinstance(one, sa.UniqueConstraint)]
        self._uniques += [self._unique(one) for one in table.indexes if one.unique]
        self._foreign = [self._unique(one) for one in constraints if isinstance(one, sa.ForeignKeyConstraint)]
        constraints += [one for column in table.columns for one in column.constraints]
        checks = [one for one in constraints if isinstance(one, sa.CheckConstraint)]
        self._checks = frozenset(str(one.name) for one in checks if one.name)
        self.table = table.name

    def fields(self, columns: Iterable[str]) -> tuple[str, ...]:
        """What the mapped class calls columns."""
        return tuple(self._fields.get(column, column) for column in columns)

    def unique(self, name: str | None, columns: Sequence[str] = ()) -> Unique | None:
        """The unique constraint or index that a server speaks of by name, or by its columns."""
        fields = set(self.fields(columns))
        return (
            next((one for one in self._uniques if name and one.name == name), None)
            or next((one for one in self._uniques if fields and set(one.columns) == fields), None)
            or next((one for one in self._uniques if name and name in self._made_up(one)), None)
        )

    def foreign_key(self, name: str | None, columns: Sequence[str] = ()) -> Unique | None:
        """The foreign key that a server speaks of, name and columns of it."""
        fields = self.fields(columns)
        made_up = {f"{self.table}_{'_'.join(self._stored(one))}_fkey": one for one in self._foreign}
        return (
            next((one for one in self._foreign if name and one.name == name), None)
            or next((one for one in self._foreign if fields and one.columns == fields), None)
            or made_up.get(name or "")
        )

    def check(self, name: str | None) -> str | None:
        """A check's name, if the metadata has it."""
        return name if name in self._checks else None

    def _unique(self, given: Any) -> Unique:
        plain = all(isinstance(column, sa.Column) for column in getattr(given, "expressions", given.columns))
        name = str(given.name) if isinstance(given.name, str) else None
        return Unique(self.fields(column.name for column in given.columns) if plain else (), name)

    def _stored(self, unique: Unique) -> tuple[str, ...]:
        columns = {field: column for column, field in self._fields.items()}
        return tuple(columns[field] for field in unique.columns)

    def _made_up(self, unique: Unique) -> Iterable[str]:
        """What PostgreSQL and MariaDB call a constraint that has no name."""
        if unique is self._key:
            return (f"{self.table}_pkey", "PRIMARY")
        if unique.name is not None:
            return ()
        stored = self._stored(unique)
        alike = [one for one in self._uniques[1:] if one.name is None and self._stored(one)[:1] == stored[:1]]
        number = alike.index(unique)
        return (f"{self.table}_{'_'.join(stored)}_key", f"{stored[0]}_{number + 1}" if number else stored[0])


class Tables:
    """The tables that repositories keep entities in, and those declared beside them."""

    def __init__(self) -> None:
        self._schemas: dict[Place, Schema] = {}
        self._names: dict[Place, TableNames] = {}

    def adopt(self, schema: Schema) -> bool:
        """Take notice of a table, and tell whether it is a new one."""
        new = self._schemas.get(schema.place) is not schema
        self._schemas[schema.place] = schema
        return new

    def named(self, name: str | None, namespace: str | None = None) -> TableNames | None:
        """The names in a table, None for one that nobody declared.

        Args:
            name: what the server calls it.
            namespace: the schema it is in, where that is known; a server names the default one too, metadata does not.
        """
        alike = [place for place in self._places() if place[1] == name]
        rank = {namespace: 0, None: 1}
        place = min(alike, key=lambda place: rank.get(place[0], 2), default=None)
        return None if place is None else self._at(place)

    def with_unique(self, name: str | None) -> TableNames | None:
        """The only table that has a unique constraint or index of a name."""
        found = [names for names in map(self._at, self._schemas) if name and names.unique(name) is not None]
        return found[0] if len(found) == 1 else None

    def with_check(self, name: str, place: Place | None) -> TableNames | None:
        """The table that has a check of a name: the one a statement is about, or one that a cascade has reached."""
        own = self.named(place[1], place[0]) if place else None
        found = [names for names in map(self._at, self._schemas) if names.check(name)]
        return own if (own and own.check(name)) or len(found) != 1 else found[0]

    def _places(self) -> dict[Place, sa.Table]:
        """All tables there are: those of repositories, and the others of their metadata."""
        own = {place: _table(schema) for place, schema in self._schemas.items()}
        beside = (table for one in own.values() for table in one.metadata.tables.values())
        return own | {(table.schema, table.name): table for table in beside}

    def _at(self, place: Place) -> TableNames:
        if place not in self._names:
            self._names[place] = TableNames(self._places()[place], self._schemas.get(place))
        return self._names[place]


def _table(schema: Schema) -> sa.Table:
    return cast(sa.Table, sa.inspect(schema.model).local_table)


def _declared(constraint: Any) -> int:
    """When a constraint was declared, which is the order servers look at them, and number names in."""
    order: int = constraint._creation_order  # noqa: SLF001
    return order

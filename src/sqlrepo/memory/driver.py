"""One transaction on tables in memory.

Knows the primitives, at read committed: own changes over what others have committed by now, the first committer of a
row wins. Must not know entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from sqlrepo.driver import Condition, Fetch, Transaction, Upsert
from sqlrepo.errors import UnsupportedError
from sqlrepo.memory.compiler import compiled, ordered, projection
from sqlrepo.memory.tables import Changes, Statement, Table, Tables, verify
from sqlrepo.tables.schema import Row, Schema

__all__ = ["MemoryDriver"]


class MemoryDriver:
    """A connection to an `InMemoryDatabase` within one transaction.

    Args:
        tables: the tables of the database.
        transaction: where savepoints are reported.

    Attributes:
        reports_statements: there are none to be told of.
    """

    reports_statements = False

    def __init__(self, tables: Tables, transaction: Transaction) -> None:
        self._tables = tables
        self._transaction = transaction
        self._changes: dict[Table, Changes] = {}
        self._savepoints: dict[str, dict[Table, int]] = {}

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        """Read rows."""
        stop = None if request.limit is None else request.offset + request.limit
        with self._tables.lock:  # or others could commit a row between its being read and its being locked
            rows = ordered(schema, self._chosen(schema, request.where), request.order)
            chosen = list(islice(rows, request.offset, stop))
            if request.lock is not None:
                self._of(schema).touch(chosen)
        return list(map(projection(schema, request.columns), chosen))

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        """Count rows."""
        count = len(self._chosen(schema, where))
        return count if limit is None else min(count, limit)

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        """Insert rows."""
        with self._tables.lock:
            stored = [self._completed(self._table(schema), columns, row) for row in rows]
            self._insert(schema, stored)
        return list(map(projection(schema, tuple(returning)), stored))

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        """Change rows, in the order of their keys."""
        stored = {name: schema.by_name[name].type.store(value) for name, value in zip(columns, values, strict=True)}
        with self._tables.lock:
            table, changes, statement = self._table(schema), self._of(schema), Statement(self._changed_in)
            keys = sorted(map(table.key, self._chosen(schema, where)))
            for key in keys:
                if (row := changes.row(key)) is not None:
                    statement.replace(table, key, self._changed(schema, row, stored))
            statement.finish()
        return len(keys)

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Change a row, or insert one; another transaction that inserts it too is a conflict, no violation."""
        with self._tables.lock:
            table, changes = self._table(schema), request.changes
            new = self._completed(table, tuple(request.row), tuple(request.row.values()))
            table.rules.check(new)  # the databases look at the row before they look for another one
            if self._chosen(schema, request.target):
                if changes:
                    self.update(schema, tuple(changes), tuple(changes.values()), request.target)
                return self.fetch(schema, Fetch(tuple(returning), request.where))[0], False
            self._insert(schema, [new])
            self._of(schema).expect_others(request.on, tuple(new[schema.positions[name]] for name in request.on))
        return projection(schema, tuple(returning))(new), True

    def delete(self, schema: Schema, where: Condition) -> int:
        """Delete rows."""
        with self._tables.lock:
            table, statement = self._table(schema), Statement(self._changed_in)
            count = statement.delete(table, sorted(map(table.key, self._chosen(schema, where))))
            statement.finish()
        return count

    def savepoint(self) -> str:
        """Remember how far the changes have come."""
        name = f"savepoint_{len(self._savepoints) + 1}"
        self._savepoints[name] = {table: changes.mark() for table, changes in self._changes.items()}
        self._transaction.open_savepoint(name)
        return name

    def release(self, savepoint: str) -> None:
        """Forget a savepoint and those after it."""
        self._forget(savepoint)
        self._transaction.close_savepoint(savepoint)

    def rollback_to(self, savepoint: str) -> None:
        """Take back what was done since a savepoint."""
        marks = self._savepoints.get(savepoint)
        if marks is None:
            return
        for table, changes in self._changes.items():
            changes.undo(marks.get(table, 0))
        self._forget(savepoint)
        self._transaction.roll_back_savepoint(savepoint)

    def commit(self) -> None:
        """Make the changes everybody's, all or none."""
        with self._tables.lock:
            for changes in self._changes.values():
                changes.verify()
            verify(self._changes.values(), self._changed_in)
            for changes in self._changes.values():
                changes.apply()

    def rollback(self) -> None:
        """Drop the changes; nobody else has seen them."""
        self._changes.clear()

    def native(self, kind: str) -> Any:
        """Refuse: there is no session or connection beneath."""
        raise UnsupportedError(f"memory has no {kind}; write this method with criteria, or run it on a Database")

    def _insert(self, schema: Schema, rows: Iterable[Row]) -> None:
        statement = Statement(self._changed_in)
        for row in rows:
            statement.insert(self._table(schema), row)
        statement.finish()

    def _table(self, schema: Schema) -> Table:
        return self._tables.by_place[schema.place]

    def _of(self, schema: Schema) -> Changes:
        return self._changed_in(self._table(schema))

    def _changed_in(self, table: Table) -> Changes:
        if table not in self._changes:
            self._changes[table] = Changes(table)
        return self._changes[table]

    def _chosen(self, schema: Schema, where: Condition) -> list[Row]:
        chosen = compiled(schema, where.shape)
        params = chosen.params(where)
        with self._tables.lock:
            rows: Iterable[Row]
            if chosen.key is None:
                rows = self._of(schema).rows()
            else:
                row = self._of(schema).row(tuple(params[index] for index in chosen.key))
                rows = () if row is None else (row,)
        return chosen.choose(rows, params)

    def _completed(self, table: Table, columns: Sequence[str], row: Row) -> Row:
        """A whole row of the stored form: what is not given is numbered, filled in or NULL."""
        schema = table.schema
        given = {name: schema.by_name[name].type.store(value) for name, value in zip(columns, row, strict=True)}
        if schema.generated is not None:
            given[schema.generated] = table.numbered(given.get(schema.generated))
        return table.rules.inserted(tuple(given.get(column.name) for column in schema.columns), columns)

    def _changed(self, schema: Schema, row: Row, stored: dict[str, Any]) -> Row:
        values = dict(stored)
        if schema.version is not None:
            values[schema.version] = row[schema.positions[schema.version]] + 1
        changed = tuple(values.get(column.name, value) for column, value in zip(schema.columns, row, strict=True))
        return self._table(schema).rules.updated(changed, stored)

    def _forget(self, savepoint: str) -> None:
        names = list(self._savepoints)
        for name in names[names.index(savepoint) :]:
            del self._savepoints[name]

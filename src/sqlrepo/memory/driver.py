"""A driver's primitives on tables in memory, within one transaction at read committed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from typing import Any

from sqlrepo.driver import Condition, Fetch, Group, Lookup, Measure, Transaction, Upsert, type_of
from sqlrepo.errors import ConstraintError, UnsupportedError
from sqlrepo.language.criteria import EVERYTHING, And, Compare, IsTrue, Param, Ref, Via
from sqlrepo.memory.compiler import (
    compile_filter,
    fold_related,
    group_rows,
    make_far_reader,
    make_projection,
    make_reader,
    sort_rows,
    with_owners,
)
from sqlrepo.memory.tables import Changes, Edit, Statement, Table, Tables, delete, verify_references
from sqlrepo.tables.schema import Row, Schema


class MemoryDriver:
    """The changes of one transaction on an `InMemoryDatabase`.

    The first to commit a change of a row wins; if lost updates are allowed, the last one does.
    """

    reports_statements = False
    cascades = True

    def __init__(self, tables: Tables, transaction: Transaction) -> None:
        self._tables = tables
        self._transaction = transaction
        self._changes: dict[Table, Changes] = {}
        self._savepoints: dict[str, dict[Table, int]] = {}

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Read what is committed now and the transaction's own changes, whatever is committed meanwhile."""
        with self._tables.lock:
            self._tables.readers.add(self._changes_of)
        try:
            yield
        finally:
            with self._tables.lock:
                self._tables.readers.discard(self._changes_of)
                for changes in self._changes.values():
                    changes.kept = None

    def fetch(self, schema: Schema, request: Fetch) -> list[Row]:
        stop = None if request.limit is None else request.offset + request.limit
        with self._tables.lock:  # so that no transaction commits between the reading and the locking of a row
            params = request.where.params
            reader = cache(partial(make_far_reader, schema, rows=cache(partial(self._behind, params))))
            rows = sort_rows(schema, self._choose(schema, request.where), request.order, reader)
            chosen = list(islice(rows, request.offset, stop))
            if request.lock is not None:
                self._require_unchanged()  # whoever locks the children of a row has the row still
                self._changes_of(self._table(schema)).lock(chosen)
            more = [self._look_up(schema, one, params, reader) for one in request.lookups]
            found = list(map(make_projection(schema, request.columns), chosen))
            if not more:
                return found
            return [(*row, *(read(stored) for read in more)) for row, stored in zip(found, chosen, strict=True)]

    def _look_up(
        self, schema: Schema, value: Lookup, params: Row, reader: Callable[[Ref], Any]
    ) -> Callable[[Row], Any]:
        """Make a function that returns a value beside a row."""
        if isinstance(value, Ref):
            read = reader(value)
        elif isinstance(value, Measure):
            assert value.of is not None
            inner, find = value.of.mapper.schema, self._choose
            far = [make_reader(inner, ref, params, find) for ref in value.of.far]
            rows = find(inner, Condition(value.of.where, params))
            read = fold_related(value, rows, list(map(reader, value.of.near)), far)
        else:
            where = with_owners(Condition(IsTrue(value), params), self._choose)
            compiled = compile_filter(schema, where.shape)
            test, literals = compiled.test, compiled.params(where)
            return lambda row: bool(test(row, literals))
        load = type_of(schema, value).load
        return lambda row: load(read(row))

    def _behind(self, params: Row, via: Via) -> Callable[[Any], Row | None]:
        """Make a function that returns the row behind a key, without a look at the others where it is their key."""
        schema, where = via.mapper.schema, Condition(EVERYTHING if via.scope is None else via.scope, params)
        if schema.key != (via.column,):
            place = schema.positions[via.column]
            known = {row[place]: row for row in self._choose(schema, where) if row[place] is not None}
            return known.get
        where = with_owners(where, self._choose)
        compiled, changes = compile_filter(schema, where.shape), self._changes_of(self._table(schema))
        test, literals = compiled.test, compiled.params(where)

        @cache
        def find(key: Any) -> Row | None:
            row = None if key is None else changes.row((key,))
            return row if row is not None and test(row, literals) else None

        return find

    def count(self, schema: Schema, where: Condition, limit: int | None = None) -> int:
        count = len(self._choose(schema, where))
        return count if limit is None else min(count, limit)

    def group(self, schema: Schema, request: Group) -> list[Row]:
        params, parts = request.where.params, [(one.part, one.where) for one in request.measures if one.part]
        with self._tables.lock:  # so that parts belong to their owners
            rows = self._choose(schema, request.where)
            parts += [(part.through, EVERYTHING) for part, _ in parts if part.through]
            children = {one: self._choose(one[0].schema, Condition(one[1], params)) for one in parts}
            reader = partial(make_reader, schema, params=params, find=self._choose)
            return group_rows(schema, request, rows, children, reader)

    def insert(
        self, schema: Schema, columns: Sequence[str], rows: Sequence[Row], returning: Sequence[str]
    ) -> list[Row]:
        with self._statement():
            stored = [self._complete(self._table(schema), columns, row) for row in rows]
            self._insert(schema, stored)
        return list(map(make_projection(schema, tuple(returning)), stored))

    def update(self, schema: Schema, columns: Sequence[str], values: Row, where: Condition) -> int:
        stored = {name: schema.by_name[name].type.store(value) for name, value in zip(columns, values, strict=True)}
        where = with_owners(where, self._choose)
        edit = _matching(schema, where, lambda row: self._change(schema, row, stored), self._complete_absent)
        with self._statement():
            table, statement = self._table(schema), Statement(self._changes_of)
            changes, keys = self._changes_of(table), sorted(map(table.key, self._choose(schema, where)))
            for key in keys:
                if (row := changes.row(key)) is not None:
                    statement.replace(table, key, self._change(schema, row, stored), edit)
            statement.finish()
        return len(keys)

    def update_each(self, schema: Schema, columns: Sequence[str], rows: Sequence[tuple[Row, Row]]) -> None:
        shape = And(tuple(Compare(Ref(object, name), "==", Param(index)) for index, name in enumerate(schema.key)))
        for key, values in rows:
            self.update(schema, columns, values, Condition(shape, key))

    def upsert(self, schema: Schema, request: Upsert, returning: Sequence[str]) -> tuple[Row, bool]:
        """Insert or update a row; if another transaction inserts the row too, that is a conflict, not a violation."""
        with self._statement():
            table, changes = self._table(schema), request.changes
            new = self._complete(table, tuple(request.row), tuple(request.row.values()))
            table.rules.check(new)  # databases check the row before they look for an existing one
            if self._choose(schema, request.target):
                if changes:
                    self.update(schema, tuple(changes), tuple(changes.values()), request.target)
                return self.fetch(schema, Fetch(tuple(returning), request.where))[0], False
            self._insert(schema, [new])
            values = tuple(new[schema.positions[name]] for name in request.on)
            self._changes_of(table).expect_conflict(request.on, values)
        return make_projection(schema, tuple(returning))(new), True

    def delete(self, schema: Schema, where: Condition) -> int:
        where = with_owners(where, self._choose)
        with self._statement():
            table, statement = self._table(schema), Statement(self._changes_of)
            keys = sorted(map(table.key, self._choose(schema, where)))
            count = statement.delete(table, keys, _matching(schema, where, delete, self._complete_absent))
            statement.finish()
        return count

    def savepoint(self) -> str:
        name = f"savepoint_{len(self._savepoints) + 1}"
        self._savepoints[name] = self._marks()
        self._transaction.open_savepoint(name)
        return name

    def release(self, savepoint: str) -> None:
        self._forget(savepoint)
        self._transaction.close_savepoint(savepoint)

    def rollback_to(self, savepoint: str) -> None:
        marks = self._savepoints.get(savepoint)
        if marks is None:
            return
        self._undo(marks)
        self._forget(savepoint)
        self._transaction.roll_back_savepoint(savepoint)

    def commit(self) -> None:
        with self._tables.lock:
            for changes in self._changes.values():
                changes.verify()
            verify_references(self._changes.values(), self._changes_of)
            for changes in self._changes.values():
                changes.apply(self._tables.readers)

    def rollback(self) -> None:
        self._changes.clear()

    def unwrap(self, kind: str) -> Any:
        raise UnsupportedError(f"memory has no {kind}; write this method with criteria, or run it on a Database")

    @contextmanager
    def _statement(self) -> Generator[None]:
        """Hold the lock; a violation after another transaction took a row is a conflict, which a retry solves.

        What memory does not support aborts no unit, so the statement leaves none of its rows behind.
        """
        with self._tables.lock:
            marks = self._marks()
            try:
                yield
            except UnsupportedError:
                self._undo(marks)
                raise
            except ConstraintError:
                self._require_unchanged()
                raise

    def _marks(self) -> dict[Table, int]:
        return {table: changes.mark() for table, changes in self._changes.items()}

    def _undo(self, marks: Mapping[Table, int]) -> None:
        for table, changes in self._changes.items():
            changes.undo(marks.get(table, 0))

    def _require_unchanged(self) -> None:
        for changes in self._changes.values():
            changes.require_unchanged()

    def _insert(self, schema: Schema, rows: Iterable[Row]) -> None:
        statement = Statement(self._changes_of)
        for row in rows:
            statement.insert(self._table(schema), row)
        statement.finish()

    def _table(self, schema: Schema) -> Table:
        return self._tables.by_name[schema.full_name]

    def _changes_of(self, table: Table) -> Changes:
        if table not in self._changes:
            self._changes[table] = Changes(table, repeat=self._tables.allow_lost_updates)
        return self._changes[table]

    def _choose(self, schema: Schema, where: Condition) -> list[Row]:
        table = self._table(schema)
        where = with_owners(where, self._choose)
        compiled = compile_filter(table.schema, where.shape)
        params = compiled.params(where)
        with self._tables.lock:
            changes = self._changes_of(table)
            rows: Iterable[Row]
            if compiled.key is None:
                rows = changes.rows()
            else:
                row = changes.row(tuple(params[index] for index in compiled.key))
                rows = () if row is None else (row,)
        return compiled.choose(rows, params)

    def _complete(self, table: Table, columns: Sequence[str], row: Row) -> Row:
        """Make a stored row of the given values: the others are generated, filled in or NULL."""
        schema = table.schema
        given = {name: schema.by_name[name].type.store(value) for name, value in zip(columns, row, strict=True)}
        if schema.generated is not None:
            given[schema.generated] = table.take_key(given.get(schema.generated))
        return table.rules.fill_new(tuple(given.get(column.name) for column in schema.columns), columns)

    def _complete_absent(self, schema: Schema, values: Mapping[str, Any]) -> Row:
        return self._complete(self._table(schema), tuple(values), tuple(values.values()))

    def _change(self, schema: Schema, row: Row, stored: dict[str, Any]) -> Row:
        values = dict(stored)
        if schema.version is not None:
            values[schema.version] = (row[schema.positions[schema.version]] or 0) + 1
        table = self._table(schema)
        changed = tuple(values.get(column.name, value) for column, value in zip(table.schema.columns, row, strict=True))
        return table.rules.fill_changed(changed, stored)

    def _forget(self, savepoint: str) -> None:
        names = list(self._savepoints)
        for name in names[names.index(savepoint) :]:
            del self._savepoints[name]


def _matching(
    schema: Schema,
    where: Condition,
    act: Callable[[Row], Row | None],
    insert: Callable[[Schema, Mapping[str, Any]], Row],
) -> Edit:
    """Make a statement's edit, which leaves a row that the condition no longer selects as it is.

    Where the call needs its row, that is an error, which a database raises from the call itself, or the row is new.
    """

    def edit(row: Row | None) -> Row | None:
        compiled = compile_filter(schema, where.shape)
        if row is not None and compiled.choose([row], compiled.params(where)):
            return act(row)
        missing = None if where.missing is None else where.missing(row is not None)
        if isinstance(missing, Exception):
            raise missing
        return row if missing is None else insert(schema, missing)

    return edit

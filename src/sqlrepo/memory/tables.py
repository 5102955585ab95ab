"""Tables in memory: committed rows, the changes of transactions, foreign keys, and checks of single rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from threading import RLock
from typing import Any, NoReturn, TypeAlias

from sqlrepo.driver import Condition
from sqlrepo.errors import (
    CheckViolationError,
    ForeignKeyViolationError,
    InvalidValueError,
    NotNullViolationError,
    TransactionConflictError,
    UniqueViolationError,
    UnsupportedError,
)
from sqlrepo.forks import ForkAware, at_fork
from sqlrepo.language.criteria import Not, Ref
from sqlrepo.language.predicate import FUNCTIONS, parametrize
from sqlrepo.language.values import Kind, ValueType, WrongValueError, fold_unicode
from sqlrepo.memory.compiler import compile_filter
from sqlrepo.tables.schema import (
    Action,
    Check,
    Column,
    ConstantDefault,
    ForeignKey,
    Row,
    RowFunction,
    Schema,
    TableName,
    Unique,
    UniqueIndex,
)

Key: TypeAlias = tuple[Any, ...]

#: What a statement does to a row, for a commit that finds another one: None for no row.
Edit: TypeAlias = Callable[[Row | None], Row | None]


# -- committed rows


class Table:
    """The committed rows of one table, in the form that is compared and sorted."""

    def __init__(self, declared: Schema) -> None:
        self.declared = declared
        self.schema = schema = declared if declared.key and declared.enforces_key else _numbered(declared)
        self.rows: dict[Key, Row] = {}
        self.uniques: tuple[Unique | UniqueIndex, ...] = (*schema.constraints, *schema.indexes)
        self.rules = RowRules(schema)
        self.references = tuple(Reference(self, number) for number in range(len(schema.foreign_keys)))
        self.indexes = Indexes(self)
        self.referred_by: list[Reference] = []
        self._positions = [
            [schema.positions[name] for name in unique.columns] for unique in self.uniques if isinstance(unique, Unique)
        ]
        self._readers = [_compile_index(schema, index) for index in schema.indexes]
        self._last_key = 0

    def key(self, row: Row) -> Key:
        return tuple(row[position] for position in self._positions[0])

    def unique_values(self, row: Row) -> list[Key | None]:
        """Return a row's values for each unique constraint and index.

        None if one of them is NULL, because NULLs are never equal, or if the row is not in the index.
        """
        values = [tuple(row[position] for position in positions) for positions in self._positions]
        values += [read(row) for read in self._readers]
        return [None if None in value else value for value in values]

    def put(self, key: Key, row: Row) -> None:
        self.rows[key] = row
        self.indexes.add(key, row)

    def remove(self, key: Key) -> None:
        """Remove a row if it exists."""
        if (old := self.rows.pop(key, None)) is not None:
            self.indexes.remove(key, old)

    def take_key(self, given: int | None) -> int:
        """Return the given key, or generate the next one. Keys are never reused, so a rollback leaves a gap."""
        if given is not None:
            self._last_key = max(self._last_key, given)
            return given
        self.schema.check_generated(self._last_key + 1)
        self._last_key += 1
        return self._last_key


def _numbered(schema: Schema) -> Schema:
    """Add a hidden number as the key of a table that enforces none, so that equal rows are kept apart."""
    number = Column("", ValueType(Kind.INTEGER, int), generated=True)
    return replace(schema, columns=(*schema.columns, number), key=("",), key_name=None, enforces_key=True)


class Indexes:
    """The keys of rows by their values, for each unique constraint and each foreign key of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.uniques: list[dict[Key, Key]] = [{} for _ in table.uniques]
        self.references: list[dict[Key, set[Key]]] = [{} for _ in table.references]

    def add(self, key: Key, row: Row) -> None:
        for unique, value in zip(self.uniques, self._table.unique_values(row), strict=True):
            if value is not None:
                unique[value] = key
        for index, reference in zip(self.references, self._table.references, strict=True):
            if (values := reference.values(row)) is not None:
                index.setdefault(values, set()).add(key)

    def remove(self, key: Key, row: Row) -> None:
        for unique, value in zip(self.uniques, self._table.unique_values(row), strict=True):
            if value is not None and unique.get(value) == key:
                del unique[value]
        for index, reference in zip(self.references, self._table.references, strict=True):
            if (values := reference.values(row)) is not None and (keys := index.get(values)):
                keys.discard(key)
                if not keys:
                    del index[values]


class Tables(ForkAware):
    """The tables of one database."""

    def __init__(self, *, allow_lost_updates: bool = False) -> None:
        self.allow_lost_updates = allow_lost_updates
        self.lock = RLock()  # held during a statement, a commit and a fork, so that a child finds the tables whole
        self.copied = False  # by a fork, which is yet to be logged
        self.readers: set[ChangesOf] = set()  # of the calls that read now
        at_fork(self)
        self.by_name: dict[TableName, Table] = {}

    def add(self, table: Table) -> None:
        """Add a table, and resolve its foreign keys and those that refer to it."""
        name = table.schema.full_name
        known = {**self.by_name, name: table}
        found = [
            (reference, known[reference.rule.table])
            for other in known.values()
            for reference in other.references
            if name in (other.schema.full_name, reference.rule.table) and reference.rule.table in known
        ]
        for reference, parent in found:
            reference.resolve(parent)
        for reference, parent in found:
            parent.referred_by.append(reference)
        self.by_name[name] = table

    def before_fork(self) -> None:
        """Keep other threads from leaving a statement half done in the child."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        self.lock.release()

    def after_fork(self) -> None:
        """Replace the lock: the thread that held it may not exist in the child."""
        self.lock = RLock()
        self.copied = True
        self.readers.clear()


# -- changes of a transaction


class _Missing(Enum):
    """Marks a key without an entry; None is a deleted row."""

    MISSING = 0


_MISSING = _Missing.MISSING


class Changes:
    """The rows of one table that one transaction has written and deleted, which only this transaction sees.

    If another transaction commits one of these rows first, the commit is a conflict. With ``repeat``, the edits of the
    row are applied again to what was committed.
    """

    def __init__(self, table: Table, *, repeat: bool = False) -> None:
        self.table = table
        self.kept: dict[Key, Row] | None = None  # committed when a call began to read, if others have committed since
        self._repeat = repeat
        self.written: dict[Key, Row | None] = {}  # None for a deleted row
        self._originals: dict[Key, Row | None] = {}  # what was committed when the transaction first wrote the row
        self._edits: dict[Key, tuple[Any, Edit]] = {}  # the last edit, after those before it
        self._locked: dict[Key, Row] = {}
        self._upserted: set[tuple[int, Key]] = set()
        self._indexes = Indexes(table)  # of the written rows
        self._undo: list[tuple[Any, ...]] = []  # keys, with the entries that they had

    def rows(self) -> Iterable[Row]:
        """Return what the transaction sees: rows that are committed by now, and its own changes."""
        rows = self.table.rows if self.kept is None else self.kept
        if not self.written:
            return list(rows.values())
        others = [row for key, row in rows.items() if key not in self.written]
        return [*others, *(row for row in self.written.values() if row is not None)]

    def row(self, key: Key) -> Row | None:
        if key in self.written:
            return self.written[key]
        return (self.table.rows if self.kept is None else self.kept).get(key)

    def insert(self, row: Row) -> None:
        self._check(row, None)
        self._put(self.table.key(row), row, lambda found: row if found is None else self._refuse(found))

    def replace(self, key: Key, row: Row, edit: Edit) -> None:
        """Write a row over another, whose key differs only if a foreign key in it was changed."""
        self._check(row, key)
        own = self.table.key(row)
        if own != key:
            self._put(key, None, self._refuse)
        self._put(own, row, edit if own == key else self._refuse)

    def delete(self, key: Key, edit: Edit) -> None:
        self._put(key, None, edit)

    def has(self, number: int, values: Key) -> bool:
        """Return True if the transaction sees a row with these values of a unique constraint."""
        committed = self.table.indexes.uniques[number].get(values)
        return (committed is not None and committed not in self.written) or values in self._indexes.uniques[number]

    def find_children(self, number: int, values: Key) -> list[Key]:
        """Return the keys of rows that refer to these values by a foreign key, as the transaction sees them."""
        committed = self.table.indexes.references[number].get(values, ())
        own = self._indexes.references[number].get(values, set())
        return sorted({key for key in committed if key not in self.written} | own)

    def original(self, key: Key) -> Row | None:
        return self._originals.get(key)

    def lock(self, rows: Iterable[Row]) -> None:
        """Make the commit a conflict if another transaction changes these rows."""
        for row in rows:
            if self.table.rows.get(key := self.table.key(row)) is row:
                self._locked.setdefault(key, row)

    def expect_conflict(self, columns: tuple[str, ...], values: Key) -> None:
        """Make it a conflict, not a violation, if another transaction commits the values of an upsert."""
        number = next(number for number, unique in enumerate(self.table.uniques) if unique.columns == columns)
        self._upserted.add((number, values))

    def mark(self) -> int:
        return len(self._undo)

    def undo(self, mark: int) -> None:
        while len(self._undo) > mark:
            key, *before = self._undo.pop()
            self._unindex(key)
            for entries, value in zip(self._entries, before, strict=True):
                if value is _MISSING:
                    entries.pop(key, None)
                else:
                    entries[key] = value
            self._index(key)

    def verify(self) -> None:
        """Raise an error if another transaction has committed rows that conflict with these changes."""
        self._require_locked()
        for key in [key for key, original in self._originals.items() if original is not None]:
            if self.table.rows.get(key) is not self._originals[key]:
                self._apply_again(key)
        for key, row in self.written.items():
            original, now = self._originals[key], self.table.rows.get(key)
            if row is not None:
                number = 0 if now is not original else self._find_clash(row, key)
                if number is not None:
                    upserted = (number, self.table.unique_values(row)[number]) in self._upserted
                    raise self._conflict("that this one wrote by an upsert") if upserted else self._violation(number)

    def require_unchanged(self) -> None:
        """Raise a conflict if it is certain already that the commit will be one."""
        self._require_locked()
        lost = (key for key, row in self._originals.items() if row is not None and self.table.rows.get(key) is not row)
        if not self._repeat and any(True for _ in lost):
            raise self._conflict("that this one changed")

    def _require_locked(self) -> None:
        if any(self.table.rows.get(key) is not locked for key, locked in self._locked.items()):
            raise self._conflict("that this one has locked")

    def apply(self, readers: Iterable[ChangesOf]) -> None:
        """Write the changes into the table, of which calls that read now keep the rows as they are."""
        reading = [changes_of(self.table) for changes_of in readers if self.written]
        if others := [one for one in reading if one.kept is None]:
            for one in others:
                one.kept = self.table.rows
            self.table.rows = dict(self.table.rows)
        for key in self.written:
            self.table.remove(key)
        for key, row in self.written.items():
            if row is not None:
                self.table.put(key, row)

    def _apply_again(self, key: Key) -> None:
        """Apply a row's edits to what another transaction has committed: the later commit overwrites the earlier."""
        edits: list[Edit] = []
        now = row = self.table.rows.get(key)
        step = self._edits.get(key)
        if step is None:
            self._refuse(now)
        while step is not None:
            step, edit = step
            edits.append(edit)
        for edit in reversed(edits):
            row = edit(row)
        self._unindex(key)
        self._originals[key], self.written[key] = now, row
        if row is now:  # nothing that the edits were for is there any more
            del self._originals[key], self.written[key]
        elif row is not None:
            self.table.rules.check(row)
        self._index(key)

    def _check(self, row: Row, own: Key | None) -> None:
        self.table.rules.check(row)
        if (number := self._find_clash(row, own)) is not None:
            raise self._violation(number)

    def _find_clash(self, row: Row, own: Key | None) -> int | None:
        """Return the number of the first unique constraint that another row shares values of with this one."""
        for number, value in enumerate(self.table.unique_values(row)):
            if value is None:
                continue
            committed = self.table.indexes.uniques[number].get(value)
            holder = committed if committed not in self.written else None
            if {holder, self._indexes.uniques[number].get(value)} - {None, own}:
                return number
        return None

    def _refuse(self, found: Row | None) -> NoReturn:
        """Raise a conflict over a row, as an edit that cannot be applied again."""
        error = self._conflict("that this one changed")
        if found is not None and self.table.schema.version is None and not self._repeat:
            error = TransactionConflictError(f"{error}. {_WOULD_BE_LOST}")
        raise error

    def _conflict(self, what: str) -> TransactionConflictError:
        name = self.table.schema.name
        return TransactionConflictError(f"another transaction changed the row of {name} {what}; retry the unit")

    def _violation(self, number: int) -> UniqueViolationError:
        unique = self.table.uniques[number]
        return UniqueViolationError(unique.name, unique.columns, table=self.table.schema.name)

    @property
    def _entries(self) -> tuple[dict[Key, Any], ...]:
        return self.written, self._originals, self._edits

    def _put(self, key: Key, row: Row | None, edit: Edit) -> None:
        self._undo.append((key, *(entries.get(key, _MISSING) for entries in self._entries)))
        if self._repeat:
            self._edits[key] = (self._edits.get(key), edit)
        original = self._originals.setdefault(key, self.table.rows.get(key))
        self._unindex(key)
        if row is None and original is None:
            self.written.pop(key, None)  # the transaction deletes its own row
        else:
            self.written[key] = row
        self._index(key)

    def _index(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            self._indexes.add(key, row)

    def _unindex(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            self._indexes.remove(key, row)


# Ends the message of a conflict over a table without a version.
_WOULD_BE_LOST = (
    "PostgreSQL and MariaDB at READ COMMITTED report no conflict here: the later change overwrites the earlier one, "
    "which is lost in silence. To prevent that, give the table a version column, read the row with lock='update' "
    "before changing it, or let the UPDATE compute the new value (an increment). If the later change may win, use "
    "InMemoryDatabase(lost_updates='allow')"
)

ChangesOf: TypeAlias = Callable[[Table], Changes]


# -- foreign keys


class Reference:
    """A foreign key of a child table to a parent table, which may not be known yet."""

    def __init__(self, child: Table, number: int) -> None:
        self.child = child
        self.number = number
        self.rule: ForeignKey = child.schema.foreign_keys[number]
        self.parent: Table | None = None
        self.unique = 0  # the number of the parent's unique constraint
        self._columns = [child.schema.positions[name] for name in self.rule.columns]
        self._targets: list[int] = []
        self._order: list[int] = []

    def resolve(self, parent: Table) -> None:
        names = {column.column or column.name: column.name for column in parent.schema.columns}
        targets = [names.get(name, name) for name in self.rule.targets]
        for number, unique in enumerate(parent.uniques):
            if isinstance(unique, Unique) and sorted(unique.columns) == sorted(targets):
                self.parent, self.unique = parent, number
                self._targets = [parent.schema.positions[name] for name in targets]
                self._order = [targets.index(name) for name in unique.columns]
                return
        raise UnsupportedError(
            f"memory cannot keep the foreign key of {self.child.schema.name} to {', '.join(self.rule.targets)} of "
            f"{parent.schema.name}, which is neither its key nor a unique constraint"
        )

    def values(self, row: Row) -> Key | None:
        """Return the values that a child refers to; None if one is NULL."""
        return _without_null(row, self._columns)

    def target_values(self, row: Row) -> Key | None:
        """Return the values by which children refer to a parent; None if one is NULL."""
        return _without_null(row, self._targets)

    def action(self, after: Row | None) -> Action:
        """Return the action on children of a parent that was changed, or deleted."""
        return self.rule.on_delete if after is None else self.rule.on_update

    def has_parent(self, changes_of: ChangesOf, values: Key) -> bool:
        """Return True if there is a parent with these values; a table without repository has no rows."""
        if self.parent is None:
            return False
        return changes_of(self.parent).has(self.unique, tuple(values[index] for index in self._order))

    def find_children(self, changes_of: ChangesOf, values: Key) -> list[Key]:
        return changes_of(self.child).find_children(self.number, values)

    def with_values(self, row: Row, values: Key | None) -> Row:
        """Return a child that refers to other values, or to none."""
        changed = list(row)
        for index, position in enumerate(self._columns):
            changed[position] = None if values is None else values[index]
        return tuple(changed)

    def violation(self) -> ForeignKeyViolationError:
        error = ForeignKeyViolationError(self.rule.name, self.rule.columns, table=self.child.schema.name)
        if self.parent is None:
            error.add_note(
                f"no repository here uses table {self.rule.table[1]}, so it has no rows; add one to the unit"
            )
        return error


def _without_null(row: Row, positions: Iterable[int]) -> Key | None:
    values = tuple(row[position] for position in positions)
    return None if None in values else values


class Statement:
    """One write with the actions of foreign keys, and the references to check at its end."""

    def __init__(self, changes_of: ChangesOf) -> None:
        self._changes_of = changes_of
        self._to_check: list[tuple[Reference, Key]] = []

    def insert(self, table: Table, row: Row) -> None:
        self._changes_of(table).insert(row)
        self._require_parents(table, row)

    def replace(self, table: Table, key: Key, row: Row, edit: Edit) -> None:
        """Write a row over another, and act on its children."""
        changes = self._changes_of(table)
        before = changes.row(key) if table.referred_by else None
        changes.replace(key, row, edit)
        self._require_parents(table, row)
        if before is not None:
            self._act_on_children(table, before, row)

    def delete(self, table: Table, keys: Iterable[Key], edit: Edit) -> int:
        """Delete rows, then act on their children; return how many rows there were."""
        changes = self._changes_of(table)
        deleted = [row for key in keys if (row := changes.row(key)) is not None]
        for row in deleted:
            changes.delete(table.key(row), edit)
        for row in deleted:
            self._act_on_children(table, row, None)
        return len(deleted)

    def finish(self) -> None:
        """Check the references that may be broken while the statement runs, but not afterwards."""
        for reference, values in self._to_check:
            if not reference.has_parent(self._changes_of, values) and reference.find_children(self._changes_of, values):
                raise reference.violation()

    def _require_parents(self, table: Table, row: Row) -> None:
        for reference in table.references:
            if not reference.rule.deferred and (values := reference.values(row)) is not None:
                self._to_check.append((reference, values))

    def _act_on_children(self, table: Table, before: Row, after: Row | None) -> None:
        for reference in table.referred_by:
            old = reference.target_values(before)
            if old is None or (after is not None and reference.target_values(after) == old):
                continue
            if children := reference.find_children(self._changes_of, old):
                self._act(reference, children, old, after)

    def _act(self, reference: Reference, children: Iterable[Key], old: Key, after: Row | None) -> None:
        match reference.action(after):
            case "NO ACTION" | "SET DEFAULT":  # memory keeps no table with the latter
                if not reference.rule.deferred:
                    self._to_check.append((reference, old))
            case "RESTRICT":
                raise reference.violation()
            case "SET NULL":
                self._rewrite(reference, children, old, None)
            case "CASCADE" if after is not None:
                self._rewrite(reference, children, old, reference.target_values(after))
            case "CASCADE":
                self.delete(reference.child, children, _while_referring(reference, old, delete))

    def _rewrite(self, reference: Reference, children: Iterable[Key], old: Key, values: Key | None) -> None:
        """Make children refer to other values, or to none; like databases, this does not count up their versions."""
        child = reference.child
        edit = _while_referring(reference, old, lambda row: child.rules.recompute(reference.with_values(row, values)))
        for key in children:
            if (row := self._changes_of(child).row(key)) is not None:
                if values is None:
                    _refuse_null(child, reference.rule.columns)
                self.replace(child, key, child.rules.recompute(reference.with_values(row, values)), edit)


def delete(_: Row) -> None:
    """Leave no row, as the edit of a DELETE."""


def _while_referring(reference: Reference, values: Key, act: Callable[[Row], Row | None]) -> Edit:
    """Act on a child only if it still refers to these values."""
    return lambda row: act(row) if row is not None and reference.values(row) == values else row


def _refuse_null(table: Table, columns: Iterable[str]) -> None:
    for column in columns:
        if not table.schema.by_name[column].nullable:
            raise NotNullViolationError(None, (column,), table=table.schema.name)


def verify_references(all_changes: Iterable[Changes], changes_of: ChangesOf) -> None:
    """Check foreign keys again at a commit, because other transactions may have committed meanwhile."""
    for changes in tuple(all_changes):
        for reference in changes.table.references:
            for row in changes.written.values():
                values = None if row is None else reference.values(row)
                if values is not None and not reference.has_parent(changes_of, values):
                    raise reference.violation()
        for reference in changes.table.referred_by:
            _verify_children(changes, reference, changes_of)


def _verify_children(changes: Changes, reference: Reference, changes_of: ChangesOf) -> None:
    """Raise an error if rows refer to a parent that this transaction has changed or deleted."""
    for key, row in changes.written.items():
        original = changes.original(key)
        old = None if original is None else reference.target_values(original)
        if old is None or reference.has_parent(changes_of, old) or not reference.find_children(changes_of, old):
            continue
        if reference.action(row) in ("CASCADE", "SET NULL"):
            name = changes.table.schema.name
            raise TransactionConflictError(
                f"another transaction refers to a row of {name} that this one changed or deleted; retry the unit"
            )
        raise reference.violation()


# -- rules for single rows


class RowRules:
    """The checks of a table, and the columns that the database fills in."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._checks = [(check, _compile_check(schema, check)) for check in schema.checks]
        filled = [one for one in schema.columns if one.filled_by_database and one.name not in schema.unknown]
        self._computed = [column for column in filled if column.computed]
        self._on_insert = [column for column in filled if column.server_default and not column.computed]
        self._on_update = [column for column in filled if column.server_onupdate and not column.computed]

    def check(self, row: Row) -> None:
        for check, is_violated in self._checks:
            if is_violated(row):
                raise CheckViolationError(check.name, table=self._schema.name)

    def fill_new(self, row: Row, given: Collection[str]) -> Row:
        """Fill in server defaults of a new row, except for columns with given values."""
        return self._fill(row, self._on_insert, given)

    def fill_changed(self, row: Row, given: Collection[str]) -> Row:
        """Fill in columns that the database changes in each update, except for columns with given values."""
        return self._fill(row, self._on_update, given)

    def recompute(self, row: Row) -> Row:
        """Fill in computed columns only."""
        return self._fill(row, (), ())

    def _fill(self, row: Row, columns: Sequence[Column], given: Collection[str]) -> Row:
        if not columns and not self._computed:
            return row
        filled = list(row)
        for column in (*(column for column in columns if column.name not in given), *self._computed):
            filled[self._schema.positions[column.name]] = self._value(column, tuple(filled))
        return tuple(filled)

    def _value(self, column: Column, row: Row) -> Any:
        if isinstance(column.memory_default, ConstantDefault):
            return column.memory_default.stored
        assert column.memory_default is not None
        value = column.memory_default(_load_values(self._schema, row))
        try:
            stored = column.type.store(column.check(value))
        except WrongValueError as wrong:
            raise InvalidValueError(column.name, str(wrong), table=self._schema.name) from wrong
        if (value is None or stored is None) and not column.nullable:
            raise NotNullViolationError(None, (column.name,), table=self._schema.name)
        return stored


def _compile_check(schema: Schema, check: Check) -> Callable[[Row], bool]:
    """Return a function that is true if a row violates a check; a check that gives NULL is satisfied."""
    if check.test is not None:
        return partial(_is_denied, check.test, schema)
    assert check.criterion is not None
    shape, literals = parametrize(Not(check.criterion))
    denied = compile_filter(schema, shape)
    params, test = denied.params(Condition(shape, literals)), denied.test
    return lambda row: test(row, params)


def _compile_index(schema: Schema, index: UniqueIndex) -> Callable[[Row], Key]:
    """Return a function that gives a row's values in an index; a row outside has None among them."""
    if index.function is not None:
        return partial(_ask_user, index.function, schema)
    shape, literals = parametrize(index.condition)
    filtered = compile_filter(schema, shape)
    params = filtered.params(Condition(shape, literals))
    parts = [(part, schema.positions[part.name]) for part in index.parts]

    def read(row: Row) -> Key:
        if not filtered.test(row, params):
            return (None,)
        return tuple(_apply(index, part, row[position]) for part, position in parts)

    return read


def _ask_user(function: RowFunction, schema: Schema, row: Row) -> Key:
    found = function(_load_values(schema, row))
    return found if isinstance(found, tuple) else (found,)


def _apply(index: UniqueIndex, part: Ref, value: Any) -> Any:
    if value is None or not part.function:
        return value
    whole = {"lower": fold_unicode, "upper": str.upper}.get(part.function)
    applied = FUNCTIONS[part.function](value)
    if whole is not None and not value.isascii() and whole(value) != applied:
        raise UnsupportedError(
            f"unique index {index.name}: whether {part} changes letters beyond A to Z depends on the database's "
            "locale; put a function into `memory_uniques`"
        )
    return applied


def _is_denied(test: RowFunction, schema: Schema, row: Row) -> bool:
    answer = test(_load_values(schema, row))
    return answer is not None and not answer


def _load_values(schema: Schema, row: Row) -> Mapping[str, Any]:
    known = ((one, value) for one, value in zip(schema.columns, row, strict=True) if one.name not in schema.unknown)
    return {column.name: column.type.load(value) for column, value in known}

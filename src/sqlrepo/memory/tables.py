"""Tables in memory: rows that were committed, and how those of one table refer to those of another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from threading import RLock
from typing import Any, TypeAlias

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
from sqlrepo.language.criteria import Not
from sqlrepo.language.predicate import parametrize
from sqlrepo.language.values import WrongValueError
from sqlrepo.memory.compiler import compiled
from sqlrepo.tables.schema import Action, Check, Column, ConstantDefault, ForeignKey, Row, RowFunction, Schema, Unique


class Rules:
    """The rules of one table."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._violations = [(check, _violation(schema, check)) for check in schema.checks]
        filled = [column for column in schema.columns if column.filled_by_database]
        self._computed = [column for column in filled if column.computed]
        self._inserted = [column for column in filled if column.server_default and not column.computed]
        self._updated = [column for column in filled if column.server_onupdate and not column.computed]

    def check(self, row: Row) -> None:
        """Ask the checks of a row.

        Raises:
            CheckViolationError: one is false of it.
        """
        for check, violated in self._violations:
            if violated(row):
                raise CheckViolationError(check.name, table=self._schema.name)

    def inserted(self, row: Row, given: Collection[str]) -> Row:
        """Fill in what a new row leaves to the database."""
        return self._filled(row, self._inserted, given)

    def updated(self, row: Row, given: Collection[str]) -> Row:
        """Fill in what the database changes by itself in a row that is changed."""
        return self._filled(row, self._updated, given)

    def computed(self, row: Row) -> Row:
        """Compute what each write computes, and nothing else."""
        return self._filled(row, (), ())

    def _filled(self, row: Row, columns: Sequence[Column], given: Collection[str]) -> Row:
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
        value = column.memory_default(_named(self._schema, row))
        if value is None and not column.nullable:
            raise NotNullViolationError(None, (column.name,), table=self._schema.name)
        try:
            return column.type.store(column.check(value))
        except WrongValueError as wrong:
            raise InvalidValueError(column.name, str(wrong)) from wrong


def _violation(schema: Schema, check: Check) -> Callable[[Row], bool]:
    """What tells that a check is false of a row; where it is true, or unknown, the row passes."""
    if check.test is not None:
        return partial(_denied, check.test, schema)
    assert check.criterion is not None
    shape, literals = parametrize(Not(check.criterion))
    denied = compiled(schema, shape)
    params, test = denied.params(Condition(shape, literals)), denied.test
    return lambda row: test(row, params)


def _denied(test: RowFunction, schema: Schema, row: Row) -> bool:
    answer = test(_named(schema, row))
    return answer is not None and not answer


def _named(schema: Schema, row: Row) -> Mapping[str, Any]:
    return dict(_loaded(schema, row))


def _loaded(schema: Schema, row: Row) -> Iterator[tuple[str, Any]]:
    for column, value in zip(schema.columns, row, strict=True):
        yield column.name, column.type.load(value)


Key: TypeAlias = tuple[Any, ...]
Referring: TypeAlias = dict[Key, set[Key]]


class Table:
    """The committed rows of one table, in the form that is compared and sorted.

    Attributes:
        schema: what the rows obey.
        rows: them, by key.
        uniques: the constraints, the key first.
        indexes: for each of them, the key of the row that has the values.
        rules: what each row obeys alone.
        references: the table's foreign keys.
        referring: for each of them, the keys of the rows that refer to given values.
        referred: the foreign keys of tables, this one included, that refer to it.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.rows: dict[Key, Row] = {}
        self.uniques = (Unique(schema.key, schema.key_name), *schema.uniques)
        self.indexes: list[dict[Key, Key]] = [{} for _ in self.uniques]
        self.rules = Rules(schema)
        self.references = tuple(Reference(self, number) for number in range(len(schema.foreign_keys)))
        self.referring: list[Referring] = [{} for _ in self.references]
        self.referred: list[Reference] = []
        self._places = [[schema.positions[name] for name in unique.columns] for unique in self.uniques]
        self._last = 0

    def key(self, row: Row) -> Key:
        """A row's key."""
        return tuple(row[place] for place in self._places[0])

    def unique_values(self, row: Row) -> list[Key | None]:
        """A row's values of each unique constraint; None where a NULL among them makes it agree with no other."""
        values = [tuple(row[place] for place in places) for places in self._places]
        return [None if None in value else value for value in values]

    def put(self, key: Key, row: Row) -> None:
        """Take in a committed row."""
        self.rows[key] = row
        for index, value in zip(self.indexes, self.unique_values(row), strict=True):
            if value is not None:
                index[value] = key
        for reference in self.references:
            reference.note(self.referring, key, row)

    def take(self, key: Key) -> None:
        """Let a committed row go, if there is one."""
        if (old := self.rows.pop(key, None)) is None:
            return
        for index, value in zip(self.indexes, self.unique_values(old), strict=True):
            if value is not None:
                index.pop(value, None)
        for reference in self.references:
            reference.forget(self.referring, key, old)

    def numbered(self, given: int | None) -> int:
        """The next number of a generated key, or the given one, which later numbers will be behind.

        Numbers are never taken back, so that a rollback leaves a gap.
        """
        self._last = max(self._last, given) if given is not None else self._last + 1
        return self._last if given is None else given


class Reference:
    """A foreign key between two tables, of which the one it refers to may not be known yet.

    Attributes:
        child: the table whose rows refer.
        number: which of its foreign keys it is.
        rule: what was declared.
        parent: the table they refer to, None as long as nobody keeps entities there.
        unique: which of its constraints keeps the values apart.
    """

    def __init__(self, child: Table, number: int) -> None:
        self.child = child
        self.number = number
        self.rule: ForeignKey = child.schema.foreign_keys[number]
        self.parent: Table | None = None
        self.unique = 0
        self._own = [child.schema.positions[name] for name in self.rule.columns]
        self._targets: list[int] = []
        self._order: list[int] = []

    def resolve(self, parent: Table) -> None:
        """Learn which table it refers to.

        Raises:
            UnsupportedError: what it refers to there is neither the key nor a unique constraint.
        """
        names = {column.column or column.name: column.name for column in parent.schema.columns}
        targets = [names.get(name, name) for name in self.rule.targets]
        for number, unique in enumerate(parent.uniques):
            if sorted(unique.columns) == sorted(targets):
                self.parent, self.unique = parent, number
                self._targets = [parent.schema.positions[name] for name in targets]
                self._order = [targets.index(name) for name in unique.columns]
                return
        raise UnsupportedError(
            f"memory cannot keep the foreign key of {self.child.schema.name} to {', '.join(self.rule.targets)} of "
            f"{parent.schema.name}, which is neither its key nor a unique constraint"
        )

    def values(self, row: Row) -> Key | None:
        """What a row refers to; None where a NULL is among it."""
        values = tuple(row[place] for place in self._own)
        return None if None in values else values

    def targets(self, row: Row) -> Key | None:
        """The values by which a row of the other table is referred to; None where none can be."""
        values = tuple(row[place] for place in self._targets)
        return None if None in values else values

    def action(self, after: Row | None) -> Action:
        """What becomes of rows when the one they refer to changes to another, or to none."""
        return self.rule.on_delete if after is None else self.rule.on_update

    def ordered(self, values: Key) -> Key:
        """Values in the order of the unique constraint."""
        return tuple(values[place] for place in self._order)

    def pointed(self, row: Row, values: Key | None) -> Row:
        """A row that refers to other values, or with NULL to none."""
        changed = list(row)
        for index, place in enumerate(self._own):
            changed[place] = None if values is None else values[index]
        return tuple(changed)

    def note(self, referring: list[Referring], key: Key, row: Row) -> None:
        """Note in an index of each foreign key what a row refers to."""
        if (values := self.values(row)) is not None:
            referring[self.number].setdefault(values, set()).add(key)

    def forget(self, referring: list[Referring], key: Key, row: Row) -> None:
        """Take a row out of such an index."""
        if (values := self.values(row)) is not None and (keys := referring[self.number].get(values)):
            keys.discard(key)
            if not keys:
                del referring[self.number][values]


class Tables(ForkAware):
    """The tables of one database.

    Attributes:
        lock: held while a statement, or a commit, reads or writes them; also while the process forks, so that a child
            finds them whole.
        by_place: the tables, by schema and name.
        copied: whether these are what a fork made of the parent's, and nobody has been told.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.copied = False
        at_fork(self)
        self.by_place: dict[tuple[str | None, str], Table] = {}

    def add(self, table: Table) -> None:
        """Take in a table, and connect it with those it refers to and that refer to it.

        Raises:
            UnsupportedError: a foreign key refers to what is not unique.
        """
        place = table.schema.place
        known = {**self.by_place, place: table}
        found = [
            (reference, known[reference.rule.table])
            for other in known.values()
            for reference in other.references
            if place in (other.schema.place, reference.rule.table) and reference.rule.table in known
        ]
        for reference, parent in found:
            reference.resolve(parent)
        for reference, parent in found:
            parent.referred.append(reference)
        self.by_place[place] = table

    def before_fork(self) -> None:
        """Keep other threads from leaving a statement half done in the child."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let them go on."""
        self.lock.release()

    def after_fork(self) -> None:
        """Replace the lock: the thread that held it may not exist in the child."""
        self.lock = RLock()
        self.copied = True


class _Absent(Enum):
    """What stands for a row of which nothing is noted; None is a deleted one."""

    ABSENT = 0


_ABSENT = _Absent.ABSENT


class Changes:
    """What one transaction did to a table: rows written and deleted, seen by nobody else.

    Attributes:
        table: the table.
        written: the rows by key; None for a deleted one.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.written: dict[Key, Row | None] = {}
        self._seen: dict[Key, Row | None] = {}
        self._locked: dict[Key, Row] = {}
        self._upserted: set[tuple[int, Key]] = set()
        self._indexes: list[dict[Key, Key]] = [{} for _ in table.uniques]
        self._referring: list[Referring] = [{} for _ in table.references]
        self._undo: list[tuple[Key, Row | _Absent | None, Row | _Absent | None]] = []

    def rows(self) -> Iterable[Row]:
        """What the transaction sees: rows committed by now, and its own over them."""
        if not self.written:
            return list(self.table.rows.values())
        others = [row for key, row in self.table.rows.items() if key not in self.written]
        return [*others, *(row for row in self.written.values() if row is not None)]

    def row(self, key: Key) -> Row | None:
        """The row with a key, as the transaction sees it."""
        return self.written[key] if key in self.written else self.table.rows.get(key)

    def insert(self, row: Row) -> None:
        """Write a new row.

        Raises:
            CheckViolationError: a check is false of it.
            UniqueViolationError: another row that the transaction sees has its key, or values it must not share.
        """
        self._check(row, None)
        self._put(self.table.key(row), row)

    def replace(self, key: Key, row: Row) -> None:
        """Write a row over another; only a foreign key that is part of the key ever changes it."""
        self._check(row, key)
        own = self.table.key(row)
        if own != key:
            self._put(key, None)
        self._put(own, row)

    def delete(self, key: Key) -> None:
        """Delete a row."""
        self._put(key, None)

    def has(self, number: int, values: Key) -> bool:
        """Whether the transaction sees a row that has the values of a unique constraint."""
        committed = self.table.indexes[number].get(values)
        return (committed is not None and committed not in self.written) or values in self._indexes[number]

    def referring(self, number: int, values: Key) -> list[Key]:
        """The rows that refer to values by one of the foreign keys, as the transaction sees them."""
        committed = self.table.referring[number].get(values, ())
        return sorted(
            {key for key in committed if key not in self.written} | self._referring[number].get(values, set())
        )

    def seen(self, key: Key) -> Row | None:
        """What was committed of a row when the transaction first wrote it."""
        return self._seen.get(key)

    def touch(self, rows: Iterable[Row]) -> None:
        """Demand that rows are still as they are now when the transaction ends."""
        for row in rows:
            if self.table.rows.get(key := self.table.key(row)) is row:
                self._locked.setdefault(key, row)

    def expect_others(self, columns: tuple[str, ...], values: Key) -> None:
        """Take it for a conflict, no violation, if others commit a row with the values of one that was upserted."""
        number = next(number for number, unique in enumerate(self.table.uniques) if unique.columns == columns)
        self._upserted.add((number, values))

    def mark(self) -> int:
        """How far the changes have come, for `undo`."""
        return len(self._undo)

    def undo(self, mark: int) -> None:
        """Take back what was done since a mark."""
        while len(self._undo) > mark:
            key, *before = self._undo.pop()
            self._unindex(key)
            for kept, value in zip((self.written, self._seen), before, strict=True):
                if value is _ABSENT:
                    kept.pop(key, None)
                else:
                    kept[key] = value
            self._index(key)

    def verify(self) -> None:
        """Compare with what others committed meanwhile.

        Raises:
            TransactionConflictError: somebody else wrote a row that this transaction wrote too, or locked.
            UniqueViolationError: somebody else's row has values that one of these must not share.
        """
        if any(self.table.rows.get(key) is not locked for key, locked in self._locked.items()):
            raise self._conflict()
        for key, row in self.written.items():
            seen, now = self._seen[key], self.table.rows.get(key)
            if now is not seen and seen is not None:
                raise self._conflict()
            if row is not None:
                number = 0 if now is not seen else self._clash(row, key)
                if number is not None:
                    raise self._lost(number, row)

    def apply(self) -> None:
        """Make the changes the table's."""
        for key in self.written:
            self.table.take(key)
        for key, row in self.written.items():
            if row is not None:
                self.table.put(key, row)

    def _check(self, row: Row, own: Key | None) -> None:
        self.table.rules.check(row)
        if (number := self._clash(row, own)) is not None:
            raise self._violation(number)

    def _clash(self, row: Row, own: Key | None) -> int | None:
        """Look for another row that has values this one must not share; constraints in order of declaration."""
        for number, value in enumerate(self.table.unique_values(row)):
            if value is None:
                continue
            committed = self.table.indexes[number].get(value)
            holder = committed if committed not in self.written else None
            if {holder, self._indexes[number].get(value)} - {None, own}:
                return number
        return None

    def _lost(self, number: int, row: Row) -> TransactionConflictError | UniqueViolationError:
        """What it is that somebody else was first to commit a row with the same values."""
        upserted = (number, self.table.unique_values(row)[number]) in self._upserted
        return self._conflict() if upserted else self._violation(number)

    def _conflict(self) -> TransactionConflictError:
        return TransactionConflictError(f"another transaction changed the same row of {self.table.schema.name}")

    def _violation(self, number: int) -> UniqueViolationError:
        unique = self.table.uniques[number]
        return UniqueViolationError(unique.name, unique.columns, table=self.table.schema.name)

    def _put(self, key: Key, row: Row | None) -> None:
        self._undo.append((key, self.written.get(key, _ABSENT), self._seen.get(key, _ABSENT)))
        seen = self._seen.setdefault(key, self.table.rows.get(key))
        self._unindex(key)
        if row is None and seen is None:
            self.written.pop(key, None)  # it was this transaction's own, so there is nothing to delete
        else:
            self.written[key] = row
        self._index(key)

    def _index(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            for index, value in zip(self._indexes, self.table.unique_values(row), strict=True):
                if value is not None:
                    index[value] = key
            for reference in self.table.references:
                reference.note(self._referring, key, row)

    def _unindex(self, key: Key) -> None:
        if (row := self.written.get(key)) is not None:
            for index, value in zip(self._indexes, self.table.unique_values(row), strict=True):
                if value is not None and index.get(value) == key:
                    del index[value]
            for reference in self.table.references:
                reference.forget(self._referring, key, row)


Find: TypeAlias = Callable[[Table], Changes]


class Statement:
    """One write, and what is to be looked at in its end.

    Args:
        changes: gives the transaction's changes of a table.
    """

    def __init__(self, changes: Find) -> None:
        self._changes = changes
        self._open: list[tuple[Reference, Key]] = []

    def insert(self, table: Table, row: Row) -> None:
        """Write a new row."""
        self._changes(table).insert(row)
        self._demand(table, row)

    def replace(self, table: Table, key: Key, row: Row) -> None:
        """Write a row over another, and over what refers to its old values."""
        changes = self._changes(table)
        before = changes.row(key) if table.referred else None
        changes.replace(key, row)
        self._demand(table, row)
        if before is not None:
            self._follow(table, before, row)

    def delete(self, table: Table, keys: Iterable[Key]) -> int:
        """Delete rows, then deal with what refers to them, and tell how many there were."""
        changes = self._changes(table)
        gone = [row for key in keys if (row := changes.row(key)) is not None]
        for row in gone:
            changes.delete(table.key(row))
        for row in gone:
            self._follow(table, row, None)
        return len(gone)

    def finish(self) -> None:
        """Look at what a statement may leave open until its end.

        Raises:
            ForeignKeyViolationError: a row refers to none.
        """
        for reference, values in self._open:
            if not _has(self._changes, reference, values) and _referring(self._changes, reference, values):
                raise _references_violation(reference)

    def _demand(self, table: Table, row: Row) -> None:
        for reference in table.references:
            if not reference.rule.deferred and (values := reference.values(row)) is not None:
                self._open.append((reference, values))

    def _follow(self, table: Table, before: Row, after: Row | None) -> None:
        """Do to the rows that refer to one what their foreign key says."""
        for reference in table.referred:
            old = reference.targets(before)
            if old is None or (after is not None and reference.targets(after) == old):
                continue
            if children := _referring(self._changes, reference, old):
                self._act(reference, children, old, after)

    def _act(self, reference: Reference, children: Iterable[Key], old: Key, after: Row | None) -> None:
        match reference.action(after):
            case "NO ACTION":
                if not reference.rule.deferred:
                    self._open.append((reference, old))
            case "RESTRICT":
                raise _references_violation(reference)
            case "SET NULL":
                self._rewrite(reference, children, None)
            case "CASCADE" if after is not None:
                self._rewrite(reference, children, reference.targets(after))
            case "CASCADE":
                self.delete(reference.child, children)

    def _rewrite(self, reference: Reference, children: Iterable[Key], values: Key | None) -> None:
        """Let rows refer to other values, or to none; no database counts their versions for it."""
        child = reference.child
        for key in children:
            if (row := self._changes(child).row(key)) is not None:
                if values is None:
                    _refuse_null(child, reference.rule.columns)
                self.replace(child, key, child.rules.computed(reference.pointed(row, values)))


def _refuse_null(table: Table, columns: Iterable[str]) -> None:
    for column in columns:
        if not table.schema.by_name[column].nullable:
            raise NotNullViolationError(None, (column,), table=table.schema.name)


def verify(all_changes: Iterable[Changes], find: Find) -> None:
    """Look at foreign keys once more when a transaction ends: others may have committed meanwhile.

    Raises:
        ForeignKeyViolationError: a row refers to none.
        TransactionConflictError: others committed rows that this transaction would have changed, had it seen them.
    """
    for changes in tuple(all_changes):
        for reference in changes.table.references:
            for row in changes.written.values():
                values = None if row is None else reference.values(row)
                if values is not None and not _has(find, reference, values):
                    raise _references_violation(reference)
        for reference in changes.table.referred:
            _verify_left(changes, reference, find)


def _verify_left(changes: Changes, reference: Reference, find: Find) -> None:
    """What this transaction took away must not be referred to by now."""
    for key, row in changes.written.items():
        seen = changes.seen(key)
        old = None if seen is None else reference.targets(seen)
        if old is None or _has(find, reference, old):
            continue
        if _referring(find, reference, old):
            if reference.action(row) in ("CASCADE", "SET NULL"):
                raise TransactionConflictError(
                    f"another transaction refers to a row of {changes.table.schema.name} that this one took away"
                )
            raise _references_violation(reference)


def _has(find: Find, reference: Reference, values: Key) -> bool:
    """Whether there is a row to refer to; in a table that no repository keeps there is none."""
    parent = reference.parent
    return parent is not None and find(parent).has(reference.unique, reference.ordered(values))


def _referring(find: Find, reference: Reference, values: Key) -> list[Key]:
    return find(reference.child).referring(reference.number, values)


def _references_violation(reference: Reference) -> ForeignKeyViolationError:
    """A foreign key is violated, by a row that refers to none or because one is referred to."""
    error = ForeignKeyViolationError(reference.rule.name, reference.rule.columns, table=reference.child.schema.name)
    if reference.parent is None:
        error.add_note(f"no repository on this memory keeps entities in {reference.rule.table[1]}, so it has no rows")
    return error

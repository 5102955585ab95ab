"""Tables in memory: rows that were committed, and how those of one table refer to those of another.

Knows keys, unique constraints, numbering and the indexes of foreign keys. Must not know transactions.
"""

from __future__ import annotations

from threading import RLock
from typing import Any, TypeAlias

from sqlrepo.driver import Row
from sqlrepo.errors import UnsupportedError
from sqlrepo.forks import tell
from sqlrepo.memory.rules import Rules
from sqlrepo.schema import Action, ForeignKey, Schema, Unique

__all__ = ["Key", "Reference", "Referring", "Table", "Tables"]

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


class Tables:
    """The tables of one database.

    Attributes:
        lock: held while a statement, or a commit, reads or writes them; also while the process forks, so that a child
            finds them whole.
        by_place: the tables, by schema and name.
        copied: whether these are what a fork made of the parent's, and nobody has been told.
    """

    def __init__(self) -> None:
        self._renew()
        self.copied = False
        tell(before=self._hold, parent=self._release, child=self._part)
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

    def _renew(self) -> None:
        self.lock = RLock()

    def _hold(self) -> None:
        self.lock.acquire()

    def _release(self) -> None:
        self.lock.release()

    def _part(self) -> None:
        """Be the child's: who held the lock, the thread that forked or another, is not there to release it."""
        self._renew()
        self.copied = True

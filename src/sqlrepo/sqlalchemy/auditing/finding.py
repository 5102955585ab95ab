"""What an audit finds.

Knows how a finding is told. Must not know how it was found.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in a table that is not portable.

    Attributes:
        rule: what sort of thing it is, a word that stays the same: ``"unique-collation"``.
        table: the table, behind its schema where it has one.
        place: the column, constraint or index; empty where it is the table as a whole.
        what: what is declared there, as the database would be told.
        effect: what happens.
        remedy: what to do about it.
        column: whether the place is a column.
        assumed: whether it depends on how the database was made, which was not asked.
    """

    rule: str
    table: str
    place: str
    what: str
    effect: str
    remedy: str
    column: bool = False
    assumed: bool = False

    def __str__(self) -> str:
        """A paragraph."""
        where = ".".join(filter(None, (self.table, self.place)))
        what = f" {self.what}" if self.what else ""
        return f"{where}:{what} [{self.rule}]\n  {self.effect}\n  Remedy: {self.remedy}"
